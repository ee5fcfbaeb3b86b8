#!/usr/bin/env bash
# pgbench in every mode: nothing fails, and the books balance.
set -uo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
said() { grep -E 'transactions actually|number of failed|rror|abort' | sed -E 's/latency.*//'; }
run() {
    echo "== $*"
    pgbench -n -s 2 "$@" 2>&1 | said
}

pgbench -i -q -s 2 >/dev/null 2>&1
pgbench -i -q -s 1 -I dtGvpf --partitions=3 >/dev/null 2>&1 && echo "initialised with partitions"
pgbench -i -q -s 2 >/dev/null 2>&1 && echo initialised
for mode in simple extended prepared; do
    # One thread of pgbench waits for a server while it prepares: as many threads as clients, or it stops the others that hold one.
    run -M $mode -c 6 -j 6 -t 40
    run -M $mode -c 6 -j 6 -t 40 -S
    run -M $mode -c 6 -j 6 -t 40 -N
    run -M $mode -c 4 -j 4 -t 15 -C
    run -M $mode -c 4 -j 4 -t 30 --max-tries=10 -b tpcb-like@2 -b select-only@1
done
cat >pipeline.sql <<'SQL'
\set a random(1, 100)
\startpipeline
SELECT abalance FROM pgbench_accounts WHERE aid = :a;
SELECT abalance FROM pgbench_accounts WHERE aid = :a + 1;
BEGIN;
UPDATE pgbench_accounts SET filler = 'x' WHERE aid = :a;
COMMIT;
SELECT abalance FROM pgbench_accounts WHERE aid = :a;
\endpipeline
SQL
cat >session.sql <<'SQL'
\set a random(1, 100)
SELECT abalance AS b, :a AS k FROM pgbench_accounts WHERE aid = :a \gset p_
\if :p_k > 50
SELECT :p_k + 1;
\endif
SET work_mem TO '5MB';
SHOW work_mem;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM pgbench_branches;
END;
SQL
run -M extended -c 4 -j 4 -t 50 -f pipeline.sql
run -M prepared -c 4 -j 4 -t 50 -f pipeline.sql
for mode in simple extended prepared; do run -M $mode -c 4 -j 4 -t 30 -f session.sql; done
echo "== the books"
psql -X -At -c "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"
