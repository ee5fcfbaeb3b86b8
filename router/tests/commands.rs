//! DDL, maintenance and the statements of the session itself.

mod house;

use house::{check, herd, parse, plain_pool, plan};
use pgherd_router::plan::{ConfigText, Kind, SessionEffect};

#[test]
fn ddl_runs_where_its_object_is() {
    let all = "each of s0, s1, s2, s3: same, first alone";
    let first = "one shard: s0";
    check(
        &herd(),
        &[
            ("a sharded table", "CREATE TABLE orders (id bigint, customer_id bigint)", all),
            ("if not exists", "CREATE TABLE IF NOT EXISTS public.orders (id bigint)", all),
            ("a reference table", "CREATE TABLE countries (code text)", all),
            ("an unlisted table", "CREATE TABLE notes (id bigint)", first),
            ("a table on one shard", "CREATE TABLE settings (id bigint)", "one shard: s2"),
            ("a column named like a table", "CREATE TABLE notes (orders int)", first),
            ("another schema's", "CREATE TABLE archive.orders (id bigint)", first),
            (
                "as a query of sharded rows",
                "CREATE TABLE x AS SELECT * FROM orders WHERE customer_id = 1",
                "refused",
            ),
            ("as a query", "CREATE TABLE x AS SELECT * FROM notes", first),
            ("as a query of a user", "CREATE TABLE x AS SELECT refund(1)", "refused"),
            ("a sharded table as a query", "CREATE TABLE orders AS SELECT 1", "refused"),
            // Each of these ran on the first shard, where a table of that name may have been left.
            ("as a query of one elsewhere", "CREATE TABLE x AS SELECT * FROM settings", "refused"),
            ("a view of one elsewhere", "CREATE VIEW v AS SELECT * FROM settings", "refused"),
            (
                "a merge elsewhere",
                "MERGE INTO settings USING notes ON true WHEN MATCHED THEN DO NOTHING",
                "refused",
            ),
            (
                "its plan",
                "EXPLAIN MERGE INTO settings USING notes ON true WHEN MATCHED THEN DELETE",
                "refused",
            ),
            ("prepared elsewhere", "PREPARE p AS SELECT * FROM settings", "refused"),
            ("a label elsewhere", "SECURITY LABEL ON TABLE settings IS 'x'", "refused"),
            ("a refresh elsewhere", "REFRESH MATERIALIZED VIEW settings", "refused"),
            ("like", "CREATE TABLE x (LIKE orders)", "refused"),
            ("like, sharded", "CREATE TABLE orders (LIKE notes)", "refused"),
            ("inherits", "CREATE TABLE x () INHERITS (orders)", "refused"),
            (
                "a partition",
                "CREATE TABLE orders_2024 PARTITION OF orders FOR VALUES FROM (1) TO (2)",
                "refused",
            ),
            (
                "partitioned",
                "CREATE TABLE orders (id bigint, customer_id bigint) PARTITION BY HASH (id)",
                all,
            ),
            (
                "a foreign key within the distribution",
                "CREATE TABLE orders (customer_id bigint REFERENCES customers (id))",
                all,
            ),
            (
                "a foreign key to the primary key",
                "CREATE TABLE orders (id int, customer_id bigint REFERENCES customers)",
                all,
            ),
            (
                "a foreign key of another column",
                "CREATE TABLE orders (customer_id bigint, boss bigint REFERENCES customers (id))",
                "refused",
            ),
            (
                "a foreign key by name",
                "CREATE TABLE orders (customer_id bigint, FOREIGN KEY (customer_id) REFERENCES customers (id))",
                all,
            ),
            (
                "a foreign key to another column",
                "CREATE TABLE orders (customer_id bigint REFERENCES customers (email))",
                "refused",
            ),
            (
                "a foreign key to a reference table",
                "CREATE TABLE orders (id bigint, country text REFERENCES countries)",
                all,
            ),
            (
                "a foreign key to an unlisted table",
                "CREATE TABLE orders (id bigint, note bigint REFERENCES notes)",
                "refused",
            ),
            (
                "a foreign key from an unlisted table",
                "CREATE TABLE notes (customer bigint REFERENCES customers (id))",
                "refused",
            ),
            (
                "a foreign key from an unlisted table to a reference table",
                "CREATE TABLE notes (country text REFERENCES countries)",
                first,
            ),
            (
                "a foreign key from a reference table",
                "CREATE TABLE countries (customer bigint REFERENCES customers (id))",
                "refused",
            ),
            (
                "a foreign key of another distribution",
                "CREATE TABLE orders (customer_id bigint REFERENCES pgbench_accounts (aid))",
                "refused",
            ),
            (
                "added later",
                "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE CASCADE",
                all,
            ),
            (
                "added later, not the key",
                "ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES customers (id)",
                "refused",
            ),
            ("temporary", "CREATE TEMP TABLE x (id int)", first),
            (
                "its columns are called as they like",
                "CREATE TEMP TABLE x (orders int, customers text)",
                first,
            ),
            ("temporary, like a sharded one", "CREATE TEMP TABLE x (LIKE orders)", "refused"),
            ("temporary, of a known name", "CREATE TEMP TABLE orders (id int)", "refused"),
            ("temporary by its schema, of a known name", "CREATE TABLE pg_temp.orders (id int)", "refused"),
            ("a default with code behind it", "CREATE TABLE x (id int DEFAULT refund())", "refused"),
            ("the same, added later", "ALTER TABLE notes ADD CHECK (refund() > 0)", "refused"),
            (
                "an operator with code behind it",
                "CREATE OPERATOR @@@ (LEFTARG = int, FUNCTION = refund)",
                "refused",
            ),
            ("a sequence", "DROP SEQUENCE s", first),
            ("a sequence, and defaults of the first shard", "DROP SEQUENCE s CASCADE", "refused"),
            ("temporary, of sharded rows", "CREATE TEMPORARY TABLE x AS SELECT * FROM orders", "refused"),
            ("alter", "ALTER TABLE orders ADD COLUMN note text DEFAULT ''", all),
            ("alter only", "ALTER TABLE IF EXISTS ONLY orders DROP COLUMN note", all),
            (
                "alter several",
                "ALTER TABLE orders ALTER COLUMN total SET DEFAULT now(), ADD COLUMN x int, DROP CONSTRAINT y",
                all,
            ),
            ("a primary key", "alter table pgbench_accounts add primary key (aid)", all),
            ("rename", "ALTER TABLE orders RENAME TO x", "refused"),
            ("rename the key", "ALTER TABLE orders RENAME COLUMN customer_id TO x", "refused"),
            ("rename another column", "ALTER TABLE orders RENAME total TO sum", all),
            ("rename a constraint", "ALTER TABLE orders RENAME CONSTRAINT a TO b", all),
            ("rename to a configured name", "ALTER TABLE notes RENAME TO orders", "refused"),
            ("rename to another name", "ALTER TABLE notes RENAME TO x", first),
            ("rename a view to a configured name", "ALTER VIEW v RENAME TO orders", "refused"),
            (
                "bring in a table of a configured name",
                "ALTER TABLE archive.orders SET SCHEMA public",
                "refused",
            ),
            ("another schema", "ALTER TABLE orders SET SCHEMA x", "refused"),
            ("drop the key", "ALTER TABLE orders DROP COLUMN IF EXISTS customer_id", "refused"),
            ("drop the key, second", "ALTER TABLE orders DROP COLUMN x, DROP customer_id", "refused"),
            ("the key's type", "ALTER TABLE orders ALTER COLUMN customer_id TYPE text", "refused"),
            (
                "another type",
                "ALTER TABLE orders ALTER total SET DATA TYPE double precision USING total::float",
                all,
            ),
            (
                "a default for rows that are there",
                "ALTER TABLE orders ADD COLUMN at timestamptz DEFAULT now()",
                "refused",
            ),
            (
                "a sequence for rows that are there",
                "ALTER TABLE orders ADD COLUMN number bigserial",
                "refused",
            ),
            (
                "an identity for rows that are there",
                "ALTER TABLE orders ADD number bigint GENERATED ALWAYS AS IDENTITY",
                "refused",
            ),
            ("attach", "ALTER TABLE orders ATTACH PARTITION x FOR VALUES IN (1)", "refused"),
            ("inherit", "ALTER TABLE notes INHERIT orders", "refused"),
            ("a view by ALTER TABLE", "ALTER TABLE order_totals RENAME TO x", "refused"),
            ("drop", "DROP TABLE orders", all),
            (
                "drop several",
                "drop table if exists pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers",
                all,
            ),
            ("drop a mixture", "DROP TABLE orders, notes", "refused"),
            ("drop unlisted", "DROP TABLE notes, more", first),
            ("an index", "CREATE INDEX ON orders (total)", all),
            (
                "an index by name",
                "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY public.orders USING btree (customer_id, id) WHERE paid",
                all,
            ),
            ("an index elsewhere", "CREATE INDEX i ON notes (id)", first),
            ("drop an index", "DROP INDEX orders_total_idx", all),
            ("drop an index elsewhere", "DROP INDEX IF EXISTS notes_idx", first),
            ("drop an index on one shard", "DROP INDEX settings_idx", "one shard: s2"),
            ("drop a mixture of indexes", "DROP INDEX orders_total_idx, notes_idx", "refused"),
            ("alter an index", "ALTER INDEX orders_pkey SET (fillfactor = 80)", all),
            ("a view", "CREATE VIEW v AS SELECT * FROM orders", "each of s0, s1, s2, s3: same, first alone"),
            ("a view elsewhere", "CREATE OR REPLACE VIEW v AS SELECT * FROM notes", first),
            ("a materialized view", "CREATE MATERIALIZED VIEW v AS SELECT * FROM countries", "refused"),
            ("refresh", "REFRESH MATERIALIZED VIEW order_totals", "refused"),
            ("refresh elsewhere", "REFRESH MATERIALIZED VIEW v", first),
            (
                "a sequence",
                "CREATE SEQUENCE s",
                "split: union\n  s0: CREATE SEQUENCE s\n  s1: CREATE SEQUENCE IF NOT EXISTS s\n...",
            ),
            ("a schema", "CREATE SCHEMA IF NOT EXISTS x", all),
            ("a schema with things", "CREATE SCHEMA x CREATE TABLE y (a int)", "refused"),
            ("a type", "CREATE TYPE mood AS ENUM ('a', 'b')", all),
            ("alter a type", "ALTER TYPE mood ADD VALUE 'c'", all),
            ("a domain", "CREATE DOMAIN d AS int CHECK (value > 0)", all),
            ("an extension", "CREATE EXTENSION IF NOT EXISTS pgcrypto", all),
            (
                "a function",
                "CREATE OR REPLACE FUNCTION refund(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
                all,
            ),
            (
                "a function with a body",
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
                all,
            ),
            ("drop a function", "DROP FUNCTION refund(int)", all),
            ("a procedure", "CREATE PROCEDURE p() LANGUAGE sql AS ''", all),
            ("an aggregate", "CREATE AGGREGATE a (int) (sfunc = int4pl, stype = int)", all),
            ("a role", "CREATE ROLE r LOGIN", all),
            (
                "a trigger",
                "CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refund()",
                "refused",
            ),
            (
                "a trigger elsewhere",
                "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION refund()",
                "refused 0A000: cannot call function \"refund\" in a sharded database...",
            ),
            ("drop a trigger", "DROP TRIGGER t ON orders", all),
            ("a rule", "CREATE RULE r AS ON INSERT TO orders DO INSTEAD NOTHING", "refused"),
            (
                "a rule that writes there",
                "CREATE RULE r AS ON INSERT TO notes DO ALSO (DELETE FROM orders; SELECT 1)",
                "refused",
            ),
            ("a rule elsewhere", "CREATE RULE r AS ON INSERT TO notes DO INSTEAD NOTHING", first),
            ("a policy", "CREATE POLICY p ON orders USING (customer_id = current_setting('x')::int)", all),
            (
                "a policy with a query",
                "CREATE POLICY p ON orders USING (customer_id IN (SELECT id FROM customers))",
                "refused",
            ),
            ("statistics", "CREATE STATISTICS s ON a, b FROM orders", "refused"),
            ("a comment", "COMMENT ON TABLE orders IS 'x'", all),
            ("a comment on a column", "COMMENT ON COLUMN public.orders.total IS 'x'", all),
            ("a comment on a column elsewhere", "COMMENT ON COLUMN notes.orders IS 'x'", first),
            ("a comment on a constraint", "COMMENT ON CONSTRAINT c ON orders IS 'x'", all),
            ("a comment on an index", "COMMENT ON INDEX orders_pkey IS 'x'", all),
            ("a grant", "GRANT SELECT, INSERT ON orders TO app", all),
            ("a grant on columns", "GRANT SELECT (id, total) ON TABLE orders TO app", all),
            ("a grant on a mixture", "GRANT SELECT ON orders, notes TO app", "refused"),
            ("a grant elsewhere", "GRANT SELECT ON notes TO app", first),
            ("a grant on all", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO app", all),
            ("a grant on a schema", "GRANT USAGE ON SCHEMA public TO app", all),
            ("a grant of a role", "GRANT a TO b", all),
            ("a revoke", "REVOKE ALL ON orders FROM app", all),
            ("default privileges", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app", all),
            ("a database", "CREATE DATABASE x", "refused"),
            ("a tablespace", "CREATE TABLESPACE x LOCATION '/x'", "refused"),
            ("the system", "ALTER SYSTEM SET work_mem = '1GB'", "refused"),
            ("a publication", "CREATE PUBLICATION p FOR TABLE orders", "refused"),
            ("truncate", "TRUNCATE orders", all),
            (
                "truncate several",
                "truncate table pgbench_accounts, pgbench_branches, countries RESTART IDENTITY CASCADE",
                all,
            ),
            ("truncate a mixture", "TRUNCATE orders, notes", "refused"),
            ("lock", "LOCK TABLE orders, countries IN EXCLUSIVE MODE", all),
            ("lock elsewhere", "LOCK notes", first),
            ("vacuum", "VACUUM", "each of s0, s1, s2, s3: same"),
            ("vacuum a table", "VACUUM (VERBOSE, ANALYZE) orders (total)", "each of s0, s1, s2, s3: same"),
            ("vacuum as pgbench does", "vacuum analyze pgbench_branches", "each of s0, s1, s2, s3: same"),
            ("vacuum elsewhere", "VACUUM FULL notes", first),
            ("analyze", "ANALYZE VERBOSE orders", "each of s0, s1, s2, s3: same"),
            ("cluster", "CLUSTER orders USING orders_pkey", "each of s0, s1, s2, s3: same"),
            ("reindex", "REINDEX TABLE orders", "each of s0, s1, s2, s3: same"),
            ("reindex an index", "REINDEX INDEX CONCURRENTLY orders_pkey", "each of s0, s1, s2, s3: same"),
            ("reindex elsewhere", "REINDEX (VERBOSE) TABLE notes", first),
            ("a DO block", "DO $$ BEGIN NULL; END $$", "refused"),
            ("a procedure call", "CALL p(1)", "refused"),
            ("transactions prepared by a client", "PREPARE TRANSACTION 'x'", "refused"),
            ("and committed", "COMMIT PREPARED 'x'", "refused"),
            ("and rolled back", "ROLLBACK PREPARED 'x'", "refused"),
            (
                "a prepared statement of sharded rows",
                "PREPARE p AS SELECT * FROM orders WHERE customer_id = $1",
                "refused",
            ),
            ("a prepared statement", "PREPARE p (int) AS SELECT * FROM notes WHERE id = $1", first),
            ("its execution", "EXECUTE p (1)", first),
            (
                "a cursor on one shard",
                "DECLARE c CURSOR FOR SELECT * FROM orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            (
                "a cursor over all",
                "DECLARE c CURSOR FOR SELECT id FROM orders",
                "gather on any shard\n  pgherd_g1 from s0, s1, s2, s3: SELECT \"id\" FROM \"public\".\"orders\"\n  \
                 then DECLARE c CURSOR FOR SELECT id FROM pg_temp.pgherd_g1 AS \"orders\"",
            ),
            ("a cursor that locks", "DECLARE c CURSOR FOR SELECT * FROM orders FOR UPDATE", "refused"),
            ("a cursor elsewhere", "DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT * FROM notes", first),
            (
                "explain on one shard",
                "EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            ("explain over all", "EXPLAIN SELECT * FROM orders", "explain: each of s0, s1, s2, s3: union"),
            (
                "explain of a merge",
                "EXPLAIN (ANALYZE, FORMAT TEXT) SELECT id FROM orders ORDER BY id LIMIT 2 OFFSET 1",
                "explain: each of s0, s1, s2, s3: merge by column 1, offset 1, limit 2",
            ),
            ("explain in JSON over all", "EXPLAIN (FORMAT JSON) SELECT * FROM orders", "refused"),
            ("explain of a gather", "EXPLAIN SELECT count(*) OVER () FROM orders", "gather..."),
            ("explain elsewhere", "EXPLAIN VERBOSE SELECT * FROM notes", first),
            ("explain a user's function", "EXPLAIN ANALYZE SELECT refund(1)", "refused"),
            ("settings that the router reads by", "SET standard_conforming_strings = off", "refused"),
            ("the same, on", "SET standard_conforming_strings TO on", "any shard"),
            ("an encoding", "SET client_encoding = 'LATIN1'", "refused"),
            ("an encoding, by name", "SET NAMES 'latin1'", "refused"),
            ("an encoding, locally", "SET LOCAL client_encoding = 'LATIN1'", "refused"),
            ("the same encoding", "SET client_encoding TO 'UTF-8'", "any shard"),
            ("a snapshot", "SET TRANSACTION SNAPSHOT 'x'", "refused"),
            ("a search path", "SET search_path = a, b", "any shard"),
            ("show", "SHOW search_path", "any shard"),
            ("listen", "LISTEN x", "any shard"),
            ("nothing", " ; -- x", "any shard"),
        ],
    );
}

#[test]
fn a_constraint_that_holds_on_each_shard_by_itself_says_so() {
    let herd = herd();
    let notices = |sql: &str| parse(&herd, sql)[0].template.notices.join("\n");
    let cases = [
        ("CREATE TABLE customers (id bigint PRIMARY KEY, email text UNIQUE)", "\"email\" holds"),
        ("CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint)", "\"id\" holds"),
        (
            "CREATE TABLE orders (id bigint, customer_id bigint, UNIQUE (total, id))",
            "\"total\", \"id\" holds",
        ),
        ("ALTER TABLE orders ADD CONSTRAINT u UNIQUE (id)", "\"id\" holds"),
        ("ALTER TABLE orders ADD COLUMN x int DEFAULT 1 UNIQUE", "\"x\" holds"),
        ("CREATE UNIQUE INDEX i ON orders (id)", "unique index on \"orders\" holds"),
        ("CREATE TABLE orders (id bigint, customer_id bigint, PRIMARY KEY (customer_id, id))", ""),
        ("CREATE TABLE countries (code text PRIMARY KEY)", ""),
        ("CREATE TABLE notes (id bigint PRIMARY KEY)", ""),
        ("CREATE INDEX i ON orders (id)", ""),
        ("CREATE UNIQUE INDEX i ON orders (id, customer_id)", ""),
    ];
    for (sql, expected) in cases {
        let found = notices(sql);
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{sql}: {found}");
    }
}

#[test]
fn the_session_knows_its_own_statements() {
    let herd = herd();
    let kind = |sql: &str| format!("{:?}", parse(&herd, sql)[0].template.kind);
    let set = |name: &str, value: &str| format!("Set(Set {{ name: \"{name}\", value: {value} }})");
    let begin = |text: &str| format!("Begin(Begin {{ {text} }})");
    let cases = [
        ("", "Empty".into()),
        (" -- nothing", "Empty".into()),
        ("BEGIN", begin("isolation: None, read_only: None, deferrable: None")),
        ("begin work;", begin("isolation: None, read_only: None, deferrable: None")),
        (
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY DEFERRABLE",
            begin("isolation: Some(RepeatableRead), read_only: Some(true), deferrable: Some(true)"),
        ),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
            begin("isolation: Some(Serializable), read_only: Some(false), deferrable: None"),
        ),
        ("BEGIN ISOLATION LEVEL WHATEVER", "Other".into()),
        ("START", "Other".into()),
        ("COMMIT", "Commit { chain: false }".into()),
        ("END TRANSACTION AND CHAIN", "Commit { chain: true }".into()),
        ("ROLLBACK WORK AND NO CHAIN", "Rollback { chain: false }".into()),
        ("ABORT", "Rollback { chain: false }".into()),
        ("SAVEPOINT A", "Savepoint(\"a\")".into()),
        ("SAVEPOINT \"A\"", "Savepoint(\"A\")".into()),
        ("ROLLBACK TO a", "RollbackTo(\"a\")".into()),
        ("ROLLBACK TRANSACTION TO SAVEPOINT a", "RollbackTo(\"a\")".into()),
        ("RELEASE SAVEPOINT a", "Release(\"a\")".into()),
        ("RELEASE a", "Release(\"a\")".into()),
        // Found by tokio-postgres: pgherd made a savepoint of that name, where PostgreSQL says that the syntax is wrong.
        ("SAVEPOINT inner", "Other".into()),
        ("SAVEPOINT \"inner\"", "Savepoint(\"inner\")".into()),
        ("RELEASE SAVEPOINT Select", "Other".into()),
        ("ROLLBACK TO user", "Other".into()),
        ("SET work_mem = '1MB'", set("work_mem", "Some(\"'1MB'\")")),
        ("SET SESSION Work_Mem TO 5", set("work_mem", "Some(\"5\")")),
        ("SET search_path TO a, \"B\" ;", set("search_path", "Some(\"a, \\\"B\\\"\")")),
        ("SET work_mem TO DEFAULT", set("work_mem", "None")),
        ("SET pgherd.shard = 's1'", set("pgherd.shard", "Some(\"'s1'\")")),
        ("SET TIME ZONE 'UTC'", set("timezone", "Some(\"'UTC'\")")),
        ("SET TIME ZONE LOCAL", set("timezone", "None")),
        ("SET NAMES 'UTF8'", set("client_encoding", "Some(\"'UTF8'\")")),
        ("SET ROLE app", set("role", "Some(\"app\")")),
        ("SET SESSION AUTHORIZATION app", set("session_authorization", "Some(\"app\")")),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            set("default_transaction_read_only", "Some(\"on\")"),
        ),
        ("SET", "Other".into()),
        ("SET x", "Other".into()),
        ("RESET work_mem", "Set(Reset { name: \"work_mem\" })".into()),
        ("RESET ALL", "Set(ResetAll)".into()),
        ("RESET ROLE", "Set(Reset { name: \"role\" })".into()),
        ("SET LOCAL work_mem = 5", "SetLocal".into()),
        ("SET CONSTRAINTS ALL DEFERRED", "SetLocal".into()),
        ("SET TRANSACTION READ ONLY", "SetLocal".into()),
        ("DISCARD ALL", "DiscardAll".into()),
        ("DISCARD PLANS", "Other".into()),
        ("DEALLOCATE PREPARE A", "Deallocate(Some(\"a\"))".into()),
        ("DEALLOCATE ALL", "Deallocate(None)".into()),
        ("DECLARE C CURSOR WITH HOLD FOR SELECT 1", "Declare { name: \"c\", hold: true }".into()),
        ("DECLARE c BINARY SCROLL CURSOR FOR SELECT 1", "Declare { name: \"c\", hold: false }".into()),
        ("FETCH ALL FROM c", "Fetch { name: \"c\" }".into()),
        ("FETCH c", "Fetch { name: \"c\" }".into()),
        ("MOVE BACKWARD 2 IN c", "Fetch { name: \"c\" }".into()),
        ("CLOSE c", "CloseCursor { name: Some(\"c\") }".into()),
        ("CLOSE ALL", "CloseCursor { name: None }".into()),
        ("COPY orders FROM STDIN", "CopyFrom".into()),
        ("COPY orders TO STDOUT", "CopyTo".into()),
        ("COPY notes FROM STDIN", "Other".into()),
        ("SELECT 1", "Other".into()),
    ];
    for (sql, expected) in cases {
        assert_eq!(kind(sql), expected, "{sql}");
    }
}

#[test]
fn a_value_is_never_taken_from_another_statement_of_the_same_shape() {
    let herd = herd();
    let mut cache = pgherd_router::Cache::default();
    let mut kind = |sql: &str| format!("{:?}", cache.analyze(&herd, sql)[0].template.kind);
    assert!(kind("SET work_mem = '1MB'").contains("1MB"));
    assert!(kind("SET work_mem = '2MB'").contains("2MB"));
    let mut plan = |sql: &str| {
        let statement = cache.analyze(&herd, sql).remove(0);
        let plan = statement.template.plan(&herd, sql, &statement.literals, Default::default()).unwrap();
        format!("{plan:?}")
    };
    assert!(plan("COPY orders FROM STDIN (DELIMITER ',')").contains("delimiter: 44"));
    assert!(plan("COPY orders FROM STDIN (DELIMITER '|')").contains("delimiter: 124"));
    assert_ne!(
        plan("SELECT * FROM orders WHERE customer_id = 1"),
        plan("SELECT * FROM orders WHERE customer_id = 2")
    );
}

#[test]
fn a_channel_is_named_as_postgresql_reads_names() {
    let long = "x".repeat(64);
    let cases = [
        ("LISTEN Orders;", Some(Kind::Listen("orders".into()))),
        ("LISTEN \"Orders \"\"x\"\"\"", Some(Kind::Listen("Orders \"x\"".into()))),
        ("listen /* a */ a_1 -- b", Some(Kind::Listen("a_1".into()))),
        ("UNLISTEN a", Some(Kind::Unlisten(Some("a".into())))),
        ("UNLISTEN *", Some(Kind::Unlisten(None))),
        ("LISTEN \"select\"", Some(Kind::Listen("select".into()))),
        // A server says what is wrong with these, or cuts them.
        ("LISTEN select", None),
        ("LISTEN", None),
        ("LISTEN 'a'", None),
        ("LISTEN a.b", None),
        ("LISTEN *", None),
        ("LISTEN \"\"", None),
        // Cut, as a server does.
        (&*format!("LISTEN {long}"), Some(Kind::Listen("x".repeat(63)))),
    ];
    for topology in [herd(), plain_pool()] {
        for (sql, expected) in &cases {
            let kind = parse(&topology, sql)[0].template.kind.clone();
            assert_eq!(kind, expected.clone().unwrap_or(Kind::Other), "{sql}");
        }
    }
}

#[test]
fn what_stays_in_the_session_is_said() {
    use SessionEffect::{
        AdvisoryLock, HoldableCursor, LetsGo, Listen, ListeningChannels, Notify, Other, SequenceValue,
        SqlPrepare, TemporaryTable,
    };
    let cases = [
        ("SELECT 1", None),
        ("SELECT pg_advisory_lock(1)", Some(AdvisoryLock)),
        ("SELECT pg_catalog.pg_try_advisory_lock_shared(1, 2)", Some(AdvisoryLock)),
        ("SELECT pg_advisory_xact_lock(1)", None),
        ("SELECT currval('s')", Some(SequenceValue)),
        ("SELECT id FROM notes WHERE id = pg_catalog.lastval()", Some(SequenceValue)),
        ("SELECT nextval('s')", None),
        ("SELECT pg_advisory_unlock(1)", Some(LetsGo)),
        ("SELECT pg_catalog.pg_advisory_unlock_all()", Some(LetsGo)),
        ("SELECT pg_advisory_unlock(1), pg_advisory_lock(2)", Some(AdvisoryLock)),
        ("DISCARD TEMP", Some(LetsGo)),
        ("SELECT set_config('a', 'b', $1)", Some(Other)),
        ("SELECT set_config('a', lower('b'), true)", None),
        ("CREATE TEMP TABLE x (a int)", Some(TemporaryTable)),
        ("CREATE LOCAL TEMPORARY VIEW x AS SELECT 1", Some(TemporaryTable)),
        ("SELECT 1 INTO TEMP x", Some(TemporaryTable)),
        ("LISTEN x", None),
        ("LISTEN user", Some(Listen)),
        ("LISTEN x, y", Some(Listen)),
        ("NOTIFY x, 'y'", Some(Notify)),
        ("SELECT count(*) FROM pg_listening_channels()", Some(ListeningChannels)),
        ("LOAD 'x'", Some(Other)),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Some(HoldableCursor)),
        ("DECLARE c CURSOR FOR SELECT 1", None),
        ("SET TIME ZONE INTERVAL '1' HOUR", Some(Other)),
    ];
    for topology in [herd(), plain_pool()] {
        for (sql, expected) in cases {
            assert_eq!(parse(&topology, sql)[0].template.effect, expected, "{sql}");
        }
        // What a plain pool carries from server to server.
        let carried = [("PREPARE x AS SELECT 1", SqlPrepare), ("EXECUTE x", SqlPrepare)];
        for (sql, effect) in carried {
            let expected = (topology.shards.len() > 1).then_some(effect);
            assert_eq!(parse(&topology, sql)[0].template.effect, expected, "{sql}");
        }
    }
}

#[test]
fn what_a_session_carries_from_server_to_server_is_understood_on_a_plain_pool() {
    let constant = |text: &str| ConfigText::Constant(text.to_owned());
    let config = |calls: &[(ConfigText, ConfigText)]| Some(Kind::SetConfig(calls.to_vec()));
    let prepare = |name: &str, types: std::ops::Range<u32>, body: std::ops::Range<u32>| {
        Some(Kind::Prepare { name: name.to_owned(), types, body })
    };
    let execute = |name: &str, at: std::ops::Range<u32>| Some(Kind::Execute { name: name.to_owned(), at });
    let cases = [
        ("PREPARE x AS SELECT 1", prepare("x", 0..0, 13..21)),
        ("PREPARE X (int, text) AS SELECT $1;", prepare("x", 10..21, 25..34)),
        ("prepare \"X y\"() as values (1)", prepare("X y", 13..15, 19..29)),
        ("PREPARE x SELECT 1", None),
        ("PREPARE x AS", None),
        ("PREPARE TRANSACTION 'x'", None),
        ("EXECUTE x", execute("x", 8..9)),
        ("EXECUTE \"X\" (1, ')')", execute("X", 8..11)),
        ("EXPLAIN ANALYZE VERBOSE EXECUTE x(1)", execute("x", 32..33)),
        ("EXPLAIN (COSTS OFF) EXECUTE x", execute("x", 28..29)),
        ("EXPLAIN SELECT execute FROM t", None),
        ("CREATE TABLE t AS EXECUTE x(1)", execute("x", 26..27)),
        ("CREATE TEMP TABLE t AS EXECUTE x(1)", None),
        ("CREATE TABLE t (a int)", None),
        ("SELECT set_config('a', 'it''s', false)", config(&[(constant("a"), constant("it's"))])),
        (
            "SELECT pg_catalog.set_config($2, 'b', false) AS x, set_config('c', $1, FALSE)",
            config(&[(ConfigText::Param(1), constant("b")), (constant("c"), ConfigText::Param(0))]),
        ),
        ("SELECT set_config('a', 'b', true)", None),
        ("SELECT set_config('a', 'b', false) FROM t", None),
        ("SELECT set_config('a', lower('b'), false)", None),
        ("SELECT set_config('a', E'b', false)", None),
        (r"SELECT set_config('a', 'b\', false)", None),
    ];
    for (sql, expected) in cases {
        let kind = parse(&plain_pool(), sql)[0].template.kind.clone();
        let expected = expected.unwrap_or(Kind::Other);
        assert_eq!(kind, expected, "{sql}");
        let names_are_known = !sql.contains("set_config($");
        let everywhere =
            if names_are_known && matches!(expected, Kind::SetConfig(_)) { expected } else { Kind::Other };
        assert_eq!(parse(&herd(), sql)[0].template.kind, everywhere, "on several shards: {sql}");
    }
}

/// What SET is refused, set_config did: strings were read by another rule than the server's, and keys in another encoding.
#[test]
fn set_config_does_not_change_what_statements_are_read_by() {
    let refused = [
        "SELECT set_config('standard_conforming_strings', 'off', false)",
        "SELECT set_config('Standard_Conforming_Strings', 'off', true)",
        "SELECT pg_catalog.set_config('client_encoding', 'LATIN1', true), 1",
        "SELECT * FROM notes WHERE set_config('client_encoding', 'LATIN1', true) <> ''",
        "SELECT set_config('client_encoding', $1, false)",
        "SELECT set_config('standard_conforming' || '_strings', 'off', true)",
        "SELECT set_config(name, 'x', true) FROM notes",
        "SELECT set_config($1, 'x', true)",
        "SELECT \"set_config\"('client_encoding', 'LATIN1', true)",
    ];
    for sql in refused {
        assert!(plan(&herd(), sql).starts_with("refused"), "{sql}");
        assert!(!plan(&plain_pool(), sql).starts_with("refused"), "a plain pool reads nothing: {sql}");
    }
    let kept = [
        "SELECT set_config('standard_conforming_strings', 'on', false)",
        "SELECT set_config('client_encoding', 'UTF8', false)",
        "SELECT set_config('app.tenant', '7', true)",
        "SELECT set_config('app.tenant', $1, true)",
    ];
    for sql in kept {
        assert!(!plan(&herd(), sql).starts_with("refused"), "{sql}");
    }
}

#[test]
fn only_what_provably_reads_is_called_a_read() {
    let cases = [
        ("SELECT * FROM notes", true),
        ("SELECT count(*), now() FROM notes WHERE lower(body) = 'x'", true),
        ("VALUES (1)", true),
        ("SHOW work_mem", true),
        ("SELECT * FROM notes FOR UPDATE", false),
        ("SELECT * FROM notes FOR NO KEY UPDATE", false),
        ("SELECT nextval('s')", false),
        ("SELECT pg_notify('a', 'b')", false),
        ("SELECT lo_creat(1)", false),
        ("SELECT set_config('a', 'b', true)", false),
        ("SELECT my_function()", false),
        ("SELECT * INTO x FROM notes", false),
        ("WITH x AS (DELETE FROM notes RETURNING *) SELECT * FROM x", false),
        ("INSERT INTO notes VALUES (1)", false),
        ("UPDATE notes SET a = 1", false),
        ("BEGIN", false),
        ("CALL p()", false),
    ];
    for topology in [herd(), plain_pool()] {
        for (sql, expected) in cases {
            let template = &parse(&topology, sql)[0].template;
            assert_eq!(template.read_only, expected, "{sql} on {} shards", topology.shards.len());
        }
    }
    let explain = |sql: &str| parse(&herd(), sql)[0].template.read_only;
    assert!(explain("EXPLAIN DELETE FROM orders WHERE customer_id = 2"));
    assert!(!explain("EXPLAIN ANALYZE DELETE FROM orders WHERE customer_id = 2"));
    assert!(explain("SELECT * FROM orders WHERE customer_id = 2"));
    assert!(explain("WITH x AS (SELECT 1) SELECT * FROM x"));
}

#[test]
fn what_postgresql_refuses_in_a_transaction_is_known() {
    let cases = [
        ("VACUUM", true),
        ("VACUUM orders", true),
        ("ANALYZE", false),
        ("CREATE INDEX CONCURRENTLY i ON orders (id)", true),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON orders (id)", true),
        ("CREATE INDEX i ON orders (id)", false),
        ("DROP INDEX CONCURRENTLY orders_pkey", true),
        ("REINDEX DATABASE x", true),
        ("REINDEX TABLE CONCURRENTLY orders", true),
        ("REINDEX TABLE orders", false),
        ("CLUSTER", true),
        ("CLUSTER orders", false),
        ("CREATE TABLE orders (id int)", false),
    ];
    for topology in [herd(), plain_pool()] {
        for (sql, expected) in cases {
            assert_eq!(parse(&topology, sql)[0].template.outside_transaction, expected, "{sql}");
        }
    }
    let created = &parse(&plain_pool(), "CREATE DATABASE x")[0].template;
    assert!(created.outside_transaction);
}

#[test]
fn ddl_asks_for_new_facts() {
    for topology in [herd(), plain_pool()] {
        for (sql, expected) in [
            ("CREATE TABLE orders (id int)", true),
            ("ALTER TABLE orders ADD x int", true),
            ("DROP FUNCTION f()", true),
            ("CREATE VIEW v AS SELECT 1", true),
            ("VACUUM", false),
            ("TRUNCATE orders", false),
            ("SELECT 1", false),
            ("INSERT INTO orders (customer_id) VALUES (1)", false),
        ] {
            assert_eq!(parse(&topology, sql)[0].template.ddl, expected, "{sql}");
        }
    }
}

#[test]
fn a_database_with_one_shard_understands_nothing_it_need_not() {
    let pool = plain_pool();
    for sql in [
        "SELECT * FROM orders ORDER BY 1",
        "FROBNICATE",
        "SELECT 'unterminated",
        "DO $$ BEGIN END $$",
        "CALL p()",
        "CREATE DATABASE x",
        "COPY orders FROM STDIN",
        "PREPARE TRANSACTION 'x'",
        "/* pgherd: shard=nowhere */ SELECT 1",
    ] {
        assert_eq!(plan(&pool, sql), "one shard: s0", "{sql}");
    }
    for sql in ["BEGIN", "SET client_encoding = 'latin1'", "SHOW x", ""] {
        assert_eq!(plan(&pool, sql), "any shard", "{sql}");
    }
}

#[test]
fn a_text_of_several_statements_has_a_plan_for_each() {
    assert_eq!(
        plan(&herd(), "BEGIN; SELECT 1;; UPDATE orders SET total = 1 WHERE customer_id = 2; COMMIT;"),
        "any shard; any shard; one shard: s2; any shard"
    );
}

#[test]
fn a_template_of_an_older_topology_is_made_again() {
    let old = herd();
    let sql = "SELECT * FROM countries, orders WHERE customer_id = 2";
    let statement = parse(&old, sql).remove(0);
    let mut new = herd();
    new.version = 2;
    new.tables.reverse();
    new.facts = Default::default();
    let found = statement.template.plan(&new, sql, &statement.literals, Default::default()).unwrap();
    // Without facts "customer_id" may be a column of countries: scattered, which is right, too.
    assert_eq!(pgherd_router::describe(&found, &new), "each of s0, s1, s2, s3: union");
    // A prepared statement comes with its whole text. It was refused by whoever waited while a shard joined.
    let sql = "SELECT total FROM orders WHERE customer_id = 2;";
    let statement = parse(&old, sql).remove(0);
    let mut new = herd();
    new.version = 2;
    let found = statement.template.plan(&new, sql, &statement.literals, Default::default()).unwrap();
    assert_eq!(pgherd_router::describe(&found, &new), "one shard: s2");
}

#[test]
fn a_statement_beyond_the_limit_is_refused_where_its_keys_would_matter() {
    let long = format!("INSERT INTO orders (customer_id, note) VALUES (2, '{}')", "x".repeat(17 << 20));
    assert!(plan(&herd(), &long).starts_with("refused 54000"));
    assert_eq!(plan(&plain_pool(), &long), "one shard: s0");
}

#[test]
fn a_cache_that_meets_ever_new_shapes_stays_small_and_right() {
    let herd = herd();
    let mut cache = pgherd_router::Cache::default();
    for shape in 0..25_000 {
        let sql = format!("SELECT 1 AS a{shape} FROM orders WHERE customer_id = 2");
        let statement = cache.analyze(&herd, &sql).remove(0);
        let found = statement.template.plan(&herd, &sql, &statement.literals, Default::default()).unwrap();
        assert_eq!(pgherd_router::describe(&found, &herd), "one shard: s2");
    }
}
