#!/usr/bin/env bash
# pg_dump and pg_restore: what is dumped, and what a restored database is.
set -uo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# Newer versions put a random word into each plain dump.
plain() { sed -E '/^\\(un)?restrict /d'; }
psql -X -q -v ON_ERROR_STOP=1 <<'SQL'
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE parent (id int PRIMARY KEY, v text DEFAULT 'x', m mood, b bytea, ts timestamptz DEFAULT '2024-01-01');
CREATE TABLE child (id serial PRIMARY KEY, parent int REFERENCES parent, j jsonb, UNIQUE (parent, j));
CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE INDEX ON child (parent) WHERE parent > 3;
CREATE VIEW seen AS SELECT p.id, count(c.*) FROM parent p LEFT JOIN child c ON c.parent = p.id GROUP BY 1;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM seen;
CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER told BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION tell();
COMMENT ON TABLE parent IS 'a comment';
INSERT INTO parent SELECT i, E'line\t' || i, 'ok', decode(lpad(to_hex(i), 4, '0'), 'hex') FROM generate_series(1, 500) i;
INSERT INTO child (parent, j) SELECT i, jsonb_build_object('n', i) FROM generate_series(1, 500) i;
INSERT INTO parts SELECT i, NULL FROM generate_series(0, 99) i;
SELECT lo_from_bytea(424242, '\x010203');
SQL
echo "== plain"
pg_dump -Fp -f plain.sql && plain <plain.sql
pg_dump --inserts --schema-only -t child | plain | cksum
pg_dump --rows-per-insert=50 --data-only -t parent --on-conflict-do-nothing | plain | cksum
echo "== custom, tar, directory"
pg_dump -Fc -f custom && pg_restore -f - custom | plain | cksum
pg_dump -Ft -f tar && pg_restore -f - tar | plain | cksum
pg_dump -Fd -f directory -j 1 && pg_restore -f - directory | plain | cksum
echo "== restored"
for job in "custom -j 1" "custom --single-transaction" "directory -j 1"; do
    psql -X -q -c "SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public; SELECT lo_unlink(424242)" >/dev/null
    # shellcheck disable=SC2086
    pg_restore -d "$PGDATABASE" $job
    echo "$job: $?"
    pg_dump -Fp | plain | cksum
done
pg_restore --clean --if-exists -d "$PGDATABASE" custom
echo "clean: $?"
psql -X -q -c "SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public; SELECT lo_unlink(424242)" >/dev/null
psql -X -q -v ON_ERROR_STOP=1 -f plain.sql >/dev/null
echo "by psql: $?"
pg_dump -Fp | plain | cksum
