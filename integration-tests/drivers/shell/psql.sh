#!/usr/bin/env bash
# psql as people and scripts use it.
set -uo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
p=(psql -X -v VERBOSITY=verbose)
mask() { sed -E 's/^(LOCATION:).*/\1/; s/port "?[0-9]+"?/port N/; s/PID [0-9]+/PID N/; s/Time: .*/Time/'; }

echo "== one command after the other"
"${p[@]}" 2>&1 <<'SQL' | mask
\set ON_ERROR_ROLLBACK on
CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10,2) DEFAULT 1.5);
INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i;
\d t
\d+ t
\dt
\l plain*
\dn
\df
\du app
\x auto
SELECT * FROM t WHERE id < 4;
\x off
SELECT id, v FROM t WHERE id = 1 \gset got_
\echo :got_id :'got_v'
SELECT 'SELECT ' || id FROM t WHERE id < 4 \gexec
SELECT 1/0;
\errverbose
BEGIN;
INSERT INTO t VALUES (1);
INSERT INTO t VALUES (100);
COMMIT;
SELECT count(*) FROM t \; SELECT 2 \; SELECT 3;
SELECT id, v, n FROM t WHERE id < 5 \crosstabview id v n
\pset format csv
TABLE t ORDER BY id LIMIT 3;
\pset format aligned
\gdesc
SELECT now() AS moment, 'x'::varchar(3) AS x \gdesc
\timing on
SELECT 1;
\timing off
\if true
\echo yes
\endif
LISTEN news;
NOTIFY news, 'hello';
SELECT 1;
UNLISTEN *;
\encoding LATIN1
SELECT 'ok';
\encoding UTF8
SET statement_timeout = '100ms';
SELECT pg_sleep(10);
RESET statement_timeout;
\conninfo
\c
SELECT count(*) FROM t;
SQL

echo "== COPY"
seq 1 5000 | sed 's/.*/&\tline &/' >rows.tsv
"${p[@]}" 2>&1 <<'SQL' | mask
CREATE TABLE copied (id int PRIMARY KEY, v text);
\copy copied FROM 'rows.tsv'
\copy (SELECT * FROM copied ORDER BY id) TO 'out.csv' CSV HEADER
COPY copied FROM STDIN;
9001	inline
9002	\N
\.
COPY (SELECT * FROM copied WHERE id > 9000 ORDER BY id) TO STDOUT;
COPY copied FROM STDIN;
1	again
\.
SELECT count(*) FROM copied;
SQL
cksum <out.csv

echo "== a script in one transaction"
printf 'CREATE TABLE s (i int);\nINSERT INTO s VALUES (1);\nSELECT 1/0;\n' >script.sql
"${p[@]}" -1 -v ON_ERROR_STOP=1 -f script.sql 2>&1 | mask
"${p[@]}" -c "SELECT count(*) FROM s" 2>&1 | mask
"${p[@]}" -c "SELECT 1" -c "SELECT 2; SELECT 3" -c "SET work_mem = '3MB'" -c "SHOW work_mem" 2>&1 | mask
PGOPTIONS="-c search_path=pg_catalog -c work_mem=4MB" "${p[@]}" -At -c "SHOW search_path" -c "SHOW work_mem"
PGAPPNAME=tour PGTZ=Asia/Tokyo PGDATESTYLE=German PGCLIENTENCODING=LATIN1 "${p[@]}" -At -c "SHOW application_name" -c "SHOW TimeZone" \
    -c "SHOW DateStyle" -c "SHOW client_encoding" -c "SELECT '2024-02-03'::date"

echo "== a cursor"
"${p[@]}" -At -v FETCH_COUNT=100 -c "SELECT * FROM copied ORDER BY id" | cksum
"${p[@]}" -At -v FETCH_COUNT=3 -c "SELECT 10 / (5 - i) FROM generate_series(1, 9) i" 2>&1 | mask

echo "== cancelled"
timeout -s INT 1 "${p[@]}" -c "SELECT pg_sleep(20)" 2>&1 | grep -v "Cancel request sent" | mask
"${p[@]}" -At -c "SELECT 'lives'"
