//! Everything that pgbench and psql send of their own accord. (From the sources of PostgreSQL 15.)

mod house;

use house::{check, herd, plan_with};
use pgherd_router::plan::Params;

#[test]
fn pgbench_fills_its_tables() {
    let same = "each of s0, s1, s2, s3: same, first alone";
    check(
        &herd(),
        &[
            (
                "d",
                "drop table if exists pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers",
                same,
            ),
            (
                "t",
                "create table pgbench_history(tid int,bid int,aid    int,delta int,mtime timestamp,filler char(22))",
                same,
            ),
            (
                "t",
                "create table pgbench_tellers(tid int not null,bid int,tbalance int,filler char(84)) with (fillfactor=100)",
                same,
            ),
            (
                "t",
                "create table pgbench_accounts(aid    int not null,bid int,abalance int,filler char(84)) with (fillfactor=100)",
                same,
            ),
            (
                "t",
                "create table pgbench_branches(bid int not null,bbalance int,filler char(88)) with (fillfactor=100)",
                same,
            ),
            (
                "t, large",
                "create table pgbench_accounts(aid bigint not null,bid int,abalance int,filler char(84))",
                same,
            ),
            (
                "t, unlogged",
                "create unlogged table pgbench_accounts(aid int not null,bid int,abalance int,filler char(84))",
                same,
            ),
            ("g", "begin", "any shard"),
            (
                "g",
                "truncate table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers",
                same,
            ),
            ("g", "insert into pgbench_branches(bid,bbalance) values(1,0)", "one shard: s0"),
            ("g", "insert into pgbench_branches(bid,bbalance) values(8,0)", "one shard: s1"),
            ("g", "insert into pgbench_tellers(tid,bid,tbalance) values (2,1,0)", "one shard: s2"),
            ("g", "copy pgbench_accounts from stdin", "copy rows to s0, s1, s2, s3 by column 1 of 4 (text)"),
            (
                "g",
                "copy pgbench_accounts from stdin with (freeze on)",
                "copy rows to s0, s1, s2, s3 by column 1 of 4 (text)",
            ),
            (
                "g of 17",
                "copy pgbench_branches from stdin with (freeze on)",
                "copy rows to s0, s1, s2, s3 by column 1 of 3 (text)",
            ),
            ("g", "commit", "any shard"),
            (
                "G",
                "insert into pgbench_branches(bid,bbalance) select bid, 0 from generate_series(1, 10) as bid",
                "split: union...",
            ),
            (
                "G",
                "insert into pgbench_tellers(tid,bid,tbalance) select tid, (tid - 1) / 10 + 1, 0 from generate_series(1, 100) as tid",
                "split: union...",
            ),
            (
                "G",
                "insert into pgbench_accounts(aid,bid,abalance,filler) select aid, (aid - 1) / 100000 + 1, 0, '' from generate_series(1, 1000000) as aid",
                "split: union...",
            ),
            ("v", "vacuum analyze pgbench_branches", "each of s0, s1, s2, s3: same"),
            ("v", "vacuum analyze pgbench_history", "each of s0, s1, s2, s3: same"),
            ("p", "alter table pgbench_branches add primary key (bid)", same),
            ("p", "alter table pgbench_tellers add primary key (tid)", same),
            ("p", "alter table pgbench_accounts add primary key (aid)", same),
            (
                "f: a teller's branch is on another shard",
                "alter table pgbench_tellers add constraint pgbench_tellers_bid_fkey foreign key (bid) references pgbench_branches",
                "refused",
            ),
            (
                "f: so is an account's",
                "alter table pgbench_accounts add constraint pgbench_accounts_bid_fkey foreign key (bid) references pgbench_branches",
                "refused",
            ),
            (
                "f: a history row is where its account is",
                "alter table pgbench_history add constraint pgbench_history_aid_fkey foreign key (aid) references pgbench_accounts",
                "each of s0, s1, s2, s3: same, first alone",
            ),
        ],
    );
}

#[test]
fn pgbench_runs_its_scripts() {
    check(
        &herd(),
        &[
            (
                "at its start",
                "select o.n, p.partstrat, pg_catalog.count(i.inhparent) from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on (n.oid = c.relnamespace) cross join lateral (select pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname)) as o(n) left join pg_catalog.pg_partitioned_table as p on (p.partrelid = c.oid) left join pg_catalog.pg_inherits as i on (c.oid = i.inhparent) where c.relname = 'pgbench_accounts' and o.n is not null group by 1, 2 order by 1 asc limit 1",
                "one shard: s0",
            ),
            (
                "at its start",
                "select count(*) from pgbench_branches",
                "each of s0, s1, s2, s3: aggregate (count)",
            ),
            ("at its start", "vacuum pgbench_branches", "each of s0, s1, s2, s3: same"),
            ("at its start", "vacuum pgbench_tellers", "each of s0, s1, s2, s3: same"),
            ("at its start", "truncate pgbench_history", "each of s0, s1, s2, s3: same, first alone"),
            ("with -v", "vacuum analyze pgbench_accounts", "each of s0, s1, s2, s3: same"),
            ("TPC-B", "BEGIN;", "any shard"),
            (
                "TPC-B",
                "UPDATE pgbench_accounts SET abalance = abalance + -4312 WHERE aid = 2;",
                "one shard: s2",
            ),
            ("TPC-B", "SELECT abalance FROM pgbench_accounts WHERE aid = 2;", "one shard: s2"),
            (
                "TPC-B",
                "UPDATE pgbench_tellers SET tbalance = tbalance + -4312 WHERE tid = 3;",
                "one shard: s3",
            ),
            (
                "TPC-B",
                "UPDATE pgbench_branches SET bbalance = bbalance + -4312 WHERE bid = 1;",
                "one shard: s0",
            ),
            (
                "TPC-B",
                "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (3, 1, 2, -4312, CURRENT_TIMESTAMP);",
                "one shard: s2",
            ),
            ("TPC-B", "END;", "any shard"),
        ],
    );
}

#[test]
fn pgbench_runs_its_scripts_prepared() {
    let herd = herd();
    let values: &[Option<&[u8]>] = &[Some(b"3"), Some(b"1"), Some(b"2"), Some(b"-4312")];
    let params = Params { values, formats: &[], types: &[] };
    let cases = [
        ("UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $3;", "one shard: s2"),
        ("SELECT abalance FROM pgbench_accounts WHERE aid = $1;", "one shard: s3"),
        ("UPDATE pgbench_tellers SET tbalance = tbalance + $4 WHERE tid = $1;", "one shard: s3"),
        ("UPDATE pgbench_branches SET bbalance = bbalance + $4 WHERE bid = $2;", "one shard: s0"),
        (
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP);",
            "one shard: s2",
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(plan_with(&herd, sql, params), expected, "{sql}");
    }
}

#[test]
fn psql_describes_the_first_shard() {
    let first = "one shard: s0";
    check(
        &herd(),
        &[
            (
                r"\d",
                r#"SELECT n.nspname as "Schema",
  c.relname as "Name",
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' WHEN 't' THEN 'TOAST table' WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table' WHEN 'I' THEN 'partitioned index' END as "Type",
  pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE c.relkind IN ('r','p','v','m','S','f','')
      AND n.nspname <> 'pg_catalog'
      AND n.nspname !~ '^pg_toast'
      AND n.nspname <> 'information_schema'
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 1,2;"#,
                first,
            ),
            (
                r"\d orders",
                r#"SELECT c.oid,
  n.nspname,
  c.relname
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname OPERATOR(pg_catalog.~) '^(orders)$' COLLATE pg_catalog.default
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 2, 3;"#,
                first,
            ),
            (
                r"\d orders",
                r#"SELECT a.attname,
  pg_catalog.format_type(a.atttypid, a.atttypmod),
  (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true)
   FROM pg_catalog.pg_attrdef d
   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
  a.attnotnull,
  (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t
   WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation,
  a.attidentity,
  a.attgenerated
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = '16384' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;"#,
                first,
            ),
            (
                r"\d orders",
                r#"SELECT c2.relname, i.indisprimary, i.indisunique, i.indisclustered, i.indisvalid, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true),
  pg_catalog.pg_get_constraintdef(con.oid, true), contype, condeferrable, condeferred, i.indisreplident, c2.reltablespace
FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i
  LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x'))
WHERE c.oid = '16384' AND c.oid = i.indrelid AND i.indexrelid = c2.oid
ORDER BY i.indisprimary DESC, c2.relname;"#,
                first,
            ),
            (
                r"\d orders",
                r#"SELECT pubname
     , NULL
     , NULL
FROM pg_catalog.pg_publication p
     JOIN pg_catalog.pg_publication_namespace pn ON p.oid = pn.pnpubid
WHERE pc.oid ='16384' and pg_catalog.pg_relation_is_publishable('16384')
UNION
SELECT pubname
     , pg_get_expr(pr.prqual, c.oid)
     , (CASE WHEN pr.prattrs IS NOT NULL THEN
         (SELECT string_agg(attname, ', ')
           FROM pg_catalog.generate_series(0, pg_catalog.array_upper(pr.prattrs::pg_catalog.int2[], 1)) s,
                pg_catalog.pg_attribute
          WHERE attrelid = pr.prrelid AND attnum = prattrs[s])
        ELSE NULL END) FROM pg_catalog.pg_publication p
     JOIN pg_catalog.pg_publication_rel pr ON p.oid = pr.prpubid
     JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid
WHERE pr.prrelid = '16384'
ORDER BY 1;"#,
                first,
            ),
            (
                r"\l",
                r#"SELECT d.datname as "Name", pg_catalog.pg_get_userbyid(d.datdba) as "Owner",
       pg_catalog.array_to_string(d.datacl, E'\n') AS "Access privileges"
FROM pg_catalog.pg_database d
ORDER BY 1;"#,
                first,
            ),
            (
                "tab completion",
                r#"SELECT pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p') AND substring(pg_catalog.quote_ident(c.relname),1,3)='ord' AND pg_catalog.pg_table_is_visible(c.oid) LIMIT 1000"#,
                first,
            ),
        ],
    );
}
