#!/usr/bin/env bash
# psql and pgbench so that every message is the same from run to run: what they say is compared, not only what they print.
set -uo pipefail
echo "== psql"
psql -X -At <<'SQL' 2>&1 | sed -E 's/port "?[0-9]+"?/port N/'
CREATE TABLE t (id int PRIMARY KEY, v text, UNIQUE (v) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i;
SELECT * FROM t WHERE id < 4 ORDER BY id;
SELECT 1/0;
SELECT 1 \; SELECT 1/0 \; SELECT 3;
SELECT 1 \; SELECT 'two' \; SELECT;
SET work_mem TO '5MB';
SHOW work_mem;
SET TimeZone TO 'Asia/Tokyo';
SET application_name TO 'traced';
RESET ALL;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO t VALUES (1, 'again');
INSERT INTO t VALUES (21, 'v1');
COMMIT;
SELECT count(*) FROM t;
\set ON_ERROR_ROLLBACK off
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT nothing FROM t;
SELECT 1;
COMMIT;
BEGIN \; UPDATE t SET v = 'x' WHERE id = 1 \; ROLLBACK \; SELECT count(*) FROM t WHERE v = 'x';
COPY t TO STDOUT;
COPY t FROM STDIN;
100	hundred
101	hundred and one
\.
COPY t FROM STDIN;
no number	x
\.
\copy (SELECT id FROM t WHERE id > 99 ORDER BY id) TO STDOUT
SELECT now() AS moment, 'x'::varchar(3) AS x \gdesc
SELECT id, v FROM t WHERE id = 1 \gset got_
SELECT 'SELECT ' || id FROM t WHERE id < 4 ORDER BY id \gexec
\set FETCH_COUNT 3
SELECT id FROM t WHERE id < 8 ORDER BY id;
\unset FETCH_COUNT
PREPARE p (int) AS SELECT v FROM t WHERE id = $1;
EXECUTE p (2);
EXECUTE p (1, 2);
DEALLOCATE p;
EXECUTE p (2);
DO $$ BEGIN RAISE NOTICE 'hear' USING DETAIL = 'a detail', HINT = 'a hint'; END $$;
DROP TABLE IF EXISTS not_there;
ROLLBACK;

;
SQL
pgbench -i -q -s 1 -I dtGvp >/dev/null 2>&1 && echo initialised
for mode in simple extended prepared; do
    echo "== pgbench $mode"
    pgbench -n -M $mode -c 1 -j 1 -t 8 --random-seed=7 -b tpcb-like@1 -b select-only@2 2>&1 | grep -E 'actually|failed'
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/pipeline.sql" <<'SQL'
\set a random(1, 100)
\startpipeline
SELECT abalance FROM pgbench_accounts WHERE aid = :a;
BEGIN;
UPDATE pgbench_accounts SET filler = 'x' WHERE aid = :a;
COMMIT;
SELECT abalance FROM pgbench_accounts WHERE aid = :a + 1;
\endpipeline
SQL
for mode in extended prepared; do
    echo "== pipelines $mode"
    pgbench -n -M $mode -c 1 -j 1 -t 8 --random-seed=7 -f "$work/pipeline.sql" 2>&1 | grep -E 'actually|failed'
done
