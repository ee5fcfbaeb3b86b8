//! The simple protocol: query strings, transactions, settings, notices.

use crate::raw::*;
use crate::*;

#[test]
fn a_query_string_is_answered_as_by_postgresql() {
    let stage = stage();
    stage.prepare(
        "plain",
        &[
            "DROP TABLE IF EXISTS q",
            "CREATE TABLE q (a int PRIMARY KEY, b text)",
            "INSERT INTO q VALUES (1, 'one')",
        ],
    );
    let one = |why, sql| script(why, queries(&[sql]));
    stage.compare(
        "plain",
        vec![
            one("rows", "SELECT a, b FROM q"),
            one("no rows", "SELECT a, b FROM q WHERE a = 99"),
            one("the empty query", ""),
            one("blanks are empty too", "  \n\t "),
            one("a comment is empty too", "-- nothing\n"),
            one("a lone semicolon", ";"),
            one("many semicolons", ";;;"),
            one("several statements: one ReadyForQuery", "SELECT 1; SELECT 'two'; SELECT 3.0"),
            one("an error in the middle ends the string", "SELECT 1; SELECT 1/0; SELECT 3"),
            one("a syntax error anywhere: nothing runs", "SELECT 1; SELEC 2; SELECT 3"),
            one("a syntax error has its position", "SELECT 'täst', , 1"),
            one("an unknown column has position and hint", "SELECT aa FROM q"),
            one(
                "BEGIN and COMMIT inside",
                "BEGIN; INSERT INTO q VALUES (2, 'two'); COMMIT; SELECT count(*) FROM q",
            ),
            one(
                "COMMIT in the middle of an implicit transaction",
                "INSERT INTO q VALUES (3, 'x'); COMMIT; SELECT 1/0",
            ),
            one("what COMMIT kept is there", "SELECT count(*) FROM q WHERE a = 3"),
            one(
                "an implicit transaction is undone by its error",
                "INSERT INTO q VALUES (4, 'x'); SELECT 1/0",
            ),
            one("and is not there", "SELECT count(*) FROM q WHERE a = 4"),
            one("ROLLBACK outside: a warning", "ROLLBACK"),
            one("COMMIT outside: a warning", "COMMIT"),
            one("COMMIT AND CHAIN outside: an error", "COMMIT AND CHAIN"),
            one("ROLLBACK AND CHAIN outside: an error", "ROLLBACK AND CHAIN"),
            one("SAVEPOINT outside: an error", "SAVEPOINT a"),
            one("RELEASE outside: an error", "RELEASE SAVEPOINT a"),
            one("ROLLBACK TO outside: an error", "ROLLBACK TO SAVEPOINT a"),
            one("SET LOCAL outside: a warning", "SET LOCAL search_path TO public"),
            one("SET TRANSACTION outside: a warning", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
            one(
                "a notice",
                "DO $$ BEGIN RAISE NOTICE 'hear hear' USING HINT = 'a hint', DETAIL = 'a detail'; END $$",
            ),
            one("a notice that IF EXISTS gives", "DROP TABLE IF EXISTS not_there"),
            one("a unique violation names its constraint", "INSERT INTO q VALUES (1, 'again')"),
            one(
                "an error raised with a code of its own",
                "DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'ZZ001'; END $$",
            ),
            one("an error deep in a function has a context", "DO $$ BEGIN PERFORM 1/0; END $$"),
            one("a row of NULLs and an empty string", "SELECT NULL::int, '', NULL::text"),
            one("SHOW", "SHOW transaction_isolation"),
            one("EXPLAIN", "EXPLAIN (COSTS OFF) SELECT 1"),
            one("no columns at all", "SELECT"),
            one("VACUUM cannot run in a string of several", "SELECT 1; VACUUM q"),
            one("VACUUM alone", "VACUUM q"),
            one(
                "PREPARE TRANSACTION is not enabled or not possible: the same error",
                "PREPARE TRANSACTION 'p'",
            ),
        ],
    );
}

/// Found by psycopg on a loaded machine: an error that came in a segment of its own made pgherd take the block for failed, although its
/// server was about to say that it had ended. What stood behind it in a pipeline was judged by that as well.
#[test]
fn a_commit_that_fails_leaves_no_transaction_however_its_messages_come() {
    let stage = stage();
    stage.prepare(
        "plain",
        &["DROP TABLE IF EXISTS late", "CREATE TABLE late (a int, UNIQUE (a) DEFERRABLE INITIALLY DEFERRED)"],
    );
    let fill = ["BEGIN", "INSERT INTO late VALUES (1), (1)"];
    let run = |sql: &str| {
        [parse("", sql, &[]), bind("", "", &[]), describe_portal(""), execute("", 0), sync()].concat()
    };
    let ways = [
        ("a COMMIT", batch(&[query("COMMIT")], 1)),
        ("END of a string", batch(&[query("SELECT 1; END")], 1)),
        ("COMMIT by messages", batch(&[run("COMMIT")], 1)),
        ("a string that goes on", batch(&[query("COMMIT; BEGIN; SELECT 1")], 1)),
        ("a string that ends the block before it fails", batch(&[query("ROLLBACK; SELECT 1/0")], 1)),
        (
            "a string that fails in a new block",
            batch(&[query("ROLLBACK; BEGIN; SELECT 1/0"), query("END")], 2),
        ),
        ("more behind it", batch(&[query("COMMIT"), run("SELECT 1"), query("BEGIN"), query("COMMIT")], 4)),
        ("more behind a string", batch(&[query("SELECT 1; COMMIT"), query("SELECT 2"), run("SELECT 3")], 3)),
        (
            "a block behind a string",
            batch(
                &[
                    query("SELECT 1; COMMIT"),
                    query("BEGIN"),
                    query("SAVEPOINT s"),
                    run("SELECT 3"),
                    query("COMMIT"),
                ],
                5,
            ),
        ),
        (
            "a block behind messages",
            batch(&[run("COMMIT"), run("BEGIN"), run("SELECT 3"), query("COMMIT")], 4),
        ),
    ];
    let then = || queries(&["SELECT count(*) FROM late", "SET LOCAL work_mem TO '7MB'", "ROLLBACK"]);
    let scripts = ways.into_iter().map(|(why, steps)| script(why, join(vec![queries(&fill), steps, then()])));
    stage.compare("plain", scripts.collect());
}

#[test]
fn a_transaction_block_is_reported_and_ended_as_by_postgresql() {
    let stage = stage();
    stage.prepare(
        "plain",
        &[
            "DROP TABLE IF EXISTS tb, td",
            "CREATE TABLE tb (a int)",
            "CREATE TABLE td (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        ],
    );
    let run = |why, sql: &[&str]| script(why, queries(sql));
    stage.compare(
        "plain",
        vec![
            run("status T, then I", &["BEGIN", "SELECT 1", "COMMIT", "SELECT 1"]),
            run("an empty block", &["BEGIN", "COMMIT"]),
            run("BEGIN twice: a warning", &["BEGIN", "BEGIN", "ROLLBACK"]),
            run(
                "BEGIN with modes",
                &[
                    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
                    "SHOW transaction_isolation",
                    "SHOW transaction_read_only",
                    "INSERT INTO tb VALUES (1)",
                    "COMMIT",
                ],
            ),
            run("START TRANSACTION says so", &["START TRANSACTION", "SELECT 1", "END"]),
            run("ABORT", &["BEGIN WORK", "INSERT INTO tb VALUES (1)", "ABORT", "SELECT count(*) FROM tb"]),
            run(
                "status E and what it refuses",
                &[
                    "BEGIN",
                    "SELECT 1/0",
                    "SELECT 1",
                    "INSERT INTO tb VALUES (1)",
                    "SET search_path TO public",
                    "SHOW search_path",
                    "SAVEPOINT a",
                    "BEGIN",
                    "",
                    "COMMIT",
                    "SELECT 1",
                ],
            ),
            run(
                "status E before any statement reached a server",
                &["BEGIN", "SELEC", "SELECT 1", "ROLLBACK"],
            ),
            run(
                "COMMIT AND CHAIN stays inside",
                &[
                    "BEGIN ISOLATION LEVEL REPEATABLE READ",
                    "INSERT INTO tb VALUES (7)",
                    "COMMIT AND CHAIN",
                    "SHOW transaction_isolation",
                    "ROLLBACK",
                    "SELECT count(*) FROM tb WHERE a = 7",
                ],
            ),
            run(
                "ROLLBACK AND CHAIN after a failure",
                &[
                    "BEGIN READ ONLY",
                    "SELECT 1/0",
                    "ROLLBACK AND CHAIN",
                    "SHOW transaction_read_only",
                    "COMMIT",
                ],
            ),
            run(
                "COMMIT AND CHAIN of a failed block",
                &["BEGIN", "SELECT 1/0", "COMMIT AND CHAIN", "SELECT 1", "COMMIT"],
            ),
            run(
                "savepoints",
                &[
                    "BEGIN",
                    "SAVEPOINT a",
                    "INSERT INTO tb VALUES (10)",
                    "SAVEPOINT b",
                    "SELECT 1/0",
                    "ROLLBACK TO b",
                    "INSERT INTO tb VALUES (11)",
                    "ROLLBACK TO SAVEPOINT a",
                    "RELEASE a",
                    "SELECT count(*) FROM tb WHERE a IN (10, 11)",
                    "COMMIT",
                ],
            ),
            run(
                "an unknown savepoint fails the block",
                &["BEGIN", "ROLLBACK TO nowhere", "SELECT 1", "ROLLBACK"],
            ),
            run(
                "RELEASE of an unknown savepoint",
                &["BEGIN", "SELECT 1", "RELEASE nowhere", "SELECT 1", "ROLLBACK"],
            ),
            run(
                "RELEASE in a failed block",
                &["BEGIN", "SAVEPOINT a", "SELECT 1/0", "RELEASE a", "ROLLBACK TO a", "SELECT 1", "COMMIT"],
            ),
            run(
                "savepoints of one name shadow each other",
                &[
                    "BEGIN",
                    "SAVEPOINT a",
                    "SAVEPOINT a",
                    "RELEASE a",
                    "ROLLBACK TO a",
                    "RELEASE a",
                    "RELEASE a",
                    "ROLLBACK",
                ],
            ),
            run(
                "a savepoint by a reserved word is a syntax error",
                &[
                    "BEGIN",
                    "SAVEPOINT inner",
                    "ROLLBACK",
                    "BEGIN",
                    "SAVEPOINT \"inner\"",
                    "ROLLBACK TO user",
                    "COMMIT",
                ],
            ),
            run(
                "a quoted savepoint",
                &["BEGIN", "SAVEPOINT \"A b\"", "ROLLBACK TO \"A b\"", "ROLLBACK TO a", "ROLLBACK"],
            ),
            run(
                "a deferred constraint fails at COMMIT",
                &[
                    "BEGIN",
                    "CREATE TEMP TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP",
                    "INSERT INTO d VALUES (1), (1)",
                    "COMMIT",
                    "SELECT 1",
                ],
            ),
            // 'E' was said in place of 'I' when the error was read before its ReadyForQuery.
            run(
                "a deferred key fails at COMMIT",
                &["BEGIN", "INSERT INTO td VALUES (1), (1)", "COMMIT", "SELECT 1"],
            ),
            run(
                "a deferred key fails at a COMMIT behind something else",
                &["BEGIN", "INSERT INTO td VALUES (1), (1)", "SELECT 1; COMMIT", "SELECT 1"],
            ),
            run(
                "a deferred key fails at the COMMIT of the same string",
                &["BEGIN; INSERT INTO td VALUES (1), (1); COMMIT", "SELECT 1"],
            ),
            run(
                "a deferred key fails at COMMIT AND CHAIN",
                &["BEGIN", "INSERT INTO td VALUES (1), (1)", "COMMIT AND CHAIN", "SELECT 1", "ROLLBACK"],
            ),
            script(
                "a deferred key fails at COMMIT, by messages",
                join(vec![
                    batch(&[query("BEGIN")], 1),
                    batch(
                        &[
                            parse("", "INSERT INTO td VALUES (1), (1)", &[]),
                            bind("", "", &[]),
                            execute("", 0),
                            sync(),
                        ],
                        1,
                    ),
                    batch(&[parse("", "COMMIT", &[]), bind("", "", &[]), execute("", 0), sync()], 1),
                    batch(&[query("SELECT 1")], 1),
                ]),
            ),
            run(
                "a cursor in a block",
                &[
                    "BEGIN",
                    "DECLARE c CURSOR FOR SELECT generate_series(1, 5)",
                    "FETCH 2 FROM c",
                    "MOVE 1 FROM c",
                    "FETCH ALL FROM c",
                    "CLOSE c",
                    "FETCH c",
                    "ROLLBACK",
                ],
            ),
            run("a cursor outside a block", &["DECLARE c CURSOR FOR SELECT 1"]),
            run(
                "a cursor WITH HOLD outlives its transaction",
                &[
                    "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 3)",
                    "FETCH 1 FROM h",
                    "SELECT 1",
                    "FETCH ALL FROM h",
                    "CLOSE h",
                ],
            ),
            run(
                "a string ends a block and begins another",
                &["BEGIN", "SELECT 1; COMMIT; BEGIN; SELECT 2", "SELECT 3", "ROLLBACK"],
            ),
            run(
                "a string fails inside a block",
                &["BEGIN", "SELECT 1; SELECT 1/0; COMMIT", "SELECT 1", "COMMIT"],
            ),
            run("a string begins a block and fails", &["BEGIN; SELECT 1/0", "SELECT 1", "ROLLBACK"]),
            run("a comment before BEGIN", &["/* hello */ BEGIN", "SELECT 1", "/* bye */ COMMIT"]),
            run("DISCARD ALL inside a block", &["BEGIN", "SELECT 1", "DISCARD ALL", "SELECT 1", "ROLLBACK"]),
            run("VACUUM inside a block", &["BEGIN", "VACUUM tb", "ROLLBACK"]),
            run(
                "SET TRANSACTION in a block",
                &[
                    "BEGIN",
                    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                    "SHOW transaction_isolation",
                    "SELECT 1",
                    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
                    "ROLLBACK",
                ],
            ),
            run("pipelined blocks", &["BEGIN;"]),
            script(
                "several Query at once",
                batch(
                    &[
                        query("BEGIN"),
                        query("SELECT 1/0"),
                        query("SELECT 2"),
                        query("ROLLBACK"),
                        query("SELECT 3"),
                    ],
                    5,
                ),
            ),
            script(
                "several Query at once with settings",
                batch(
                    &[
                        query("SET application_name TO 'x'"),
                        query("SHOW application_name"),
                        query("BEGIN"),
                        query("SET LOCAL application_name TO 'y'"),
                        query("SHOW application_name"),
                        query("COMMIT"),
                        query("SHOW application_name"),
                    ],
                    7,
                ),
            ),
        ],
    );
}

#[test]
fn settings_are_the_clients_own_as_with_a_server_of_its_own() {
    let stage = stage();
    let run = |why, sql: &[&str]| script(why, queries(sql));
    stage.compare(
        "plain",
        vec![
            run(
                "the string that asyncpg resets a connection with",
                &[
                    "SET work_mem TO '5MB'",
                    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
                    "SHOW work_mem",
                ],
            ),
            run(
                "SET among other statements",
                &[
                    "SELECT 1; SET application_name TO 'among'; SHOW application_name",
                    "SHOW application_name",
                    "SET application_name TO 'gone'; SELECT 1/0",
                    "SHOW application_name",
                    "SET LOCAL work_mem TO '6MB'; SHOW work_mem; SET work_mem TO '7MB'",
                    "SHOW work_mem",
                    "BEGIN; SET work_mem TO '8MB'; COMMIT; SHOW work_mem",
                    "BEGIN; SET work_mem TO '9MB'; ROLLBACK; SHOW work_mem",
                    "BEGIN; SET work_mem TO '10MB'",
                    "ROLLBACK; SHOW work_mem",
                    "PREPARE p AS SELECT 1; DEALLOCATE ALL; SELECT 2",
                    "RESET work_mem; DISCARD ALL",
                ],
            ),
            run("SET and SHOW", &["SET work_mem TO '5MB'", "SHOW work_mem", "SELECT 1", "SHOW work_mem"]),
            run(
                "ParameterStatus of a reported setting",
                &[
                    "SET application_name TO 'abc'",
                    "SHOW application_name",
                    "RESET application_name",
                    "SHOW application_name",
                ],
            ),
            run(
                "the canonical form",
                &[
                    "SET DateStyle TO german",
                    "SELECT '2024-02-01'::date",
                    "SET datestyle = iso, mdy",
                    "SELECT '2024-02-01'::date",
                    "RESET datestyle",
                ],
            ),
            run(
                "a style of dates on top of another",
                &[
                    "SET DateStyle TO german",
                    "SET DateStyle TO iso",
                    "SELECT 1",
                    "SHOW DateStyle",
                    "SELECT '02/01/2024'::date",
                ],
            ),
            run(
                "SET TIME ZONE",
                &[
                    "SET TIME ZONE 'Asia/Tokyo'",
                    "SHOW timezone",
                    "SET TIME ZONE 5",
                    "SHOW timezone",
                    "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
                    "SHOW timezone",
                    "SET TIME ZONE LOCAL",
                    "SET TIME ZONE DEFAULT",
                ],
            ),
            run(
                "SET that fails",
                &[
                    "SET work_mem TO 'lots'",
                    "SHOW work_mem",
                    "SET not_a_setting TO 1",
                    "SET my.own TO 'fine'",
                    "SHOW my.own",
                    "SET shared_buffers TO 1",
                ],
            ),
            run(
                "SET in a transaction that is rolled back",
                &[
                    "BEGIN",
                    "SET application_name TO 'lost'",
                    "SHOW application_name",
                    "ROLLBACK",
                    "SHOW application_name",
                ],
            ),
            run(
                "SET in a transaction that is committed",
                &["BEGIN", "SET application_name TO 'kept'", "COMMIT", "SHOW application_name"],
            ),
            run(
                "SET in a failed transaction",
                &[
                    "SET application_name TO 'before'",
                    "BEGIN",
                    "SET application_name TO 'inside'",
                    "SELECT 1/0",
                    "COMMIT",
                    "SHOW application_name",
                ],
            ),
            run(
                "SET before the first statement, rolled back to a savepoint",
                &[
                    "BEGIN",
                    "SAVEPOINT a",
                    "SET application_name TO 'in a'",
                    "SHOW application_name",
                    "ROLLBACK TO a",
                    "SHOW application_name",
                    "COMMIT",
                    "SHOW application_name",
                ],
            ),
            run(
                "SET LOCAL",
                &[
                    "BEGIN",
                    "SET LOCAL application_name TO 'local'",
                    "SHOW application_name",
                    "COMMIT",
                    "SHOW application_name",
                ],
            ),
            run(
                "SET LOCAL after SET",
                &[
                    "BEGIN",
                    "SET application_name TO 'wide'",
                    "SET LOCAL application_name TO 'narrow'",
                    "COMMIT",
                    "SHOW application_name",
                ],
            ),
            run(
                "SET LOCAL rolled back to a savepoint",
                &[
                    "BEGIN",
                    "SELECT 1",
                    "SAVEPOINT a",
                    "SET LOCAL application_name TO 'narrow'",
                    "ROLLBACK TO a",
                    "SHOW application_name",
                    "COMMIT",
                ],
            ),
            run(
                "set_config",
                &[
                    "SELECT set_config('application_name', 'fn', false)",
                    "SHOW application_name",
                    "SELECT set_config('application_name', 'local', true)",
                    "SHOW application_name",
                ],
            ),
            run(
                "RESET ALL",
                &[
                    "SET work_mem TO '6MB'",
                    "SET application_name TO 'x'",
                    "RESET ALL",
                    "SHOW work_mem",
                    "SHOW application_name",
                ],
            ),
            run(
                "DISCARD ALL",
                &[
                    "SET work_mem TO '6MB'",
                    "SET application_name TO 'x'",
                    "DISCARD ALL",
                    "SHOW work_mem",
                    "SHOW application_name",
                ],
            ),
            run(
                "a string of several with SET",
                &[
                    "SET work_mem TO '7MB'; SET application_name TO 'two'",
                    "SHOW work_mem",
                    "SHOW application_name",
                ],
            ),
            run("a string that sets and fails", &["SET work_mem TO '7MB'; SELECT 1/0", "SHOW work_mem"]),
            run(
                "a string with SET and COMMIT",
                &["SET work_mem TO '7MB'; COMMIT; SELECT 1/0", "SHOW work_mem"],
            ),
            run(
                "SET client_encoding",
                &[
                    "SET client_encoding TO 'LATIN1'",
                    "SELECT 'ä'",
                    "SHOW client_encoding",
                    "RESET client_encoding",
                    "SHOW client_encoding",
                ],
            ),
            run("SET NAMES", &["SET NAMES 'LATIN1'", "SHOW client_encoding"]),
            run(
                "SET SESSION CHARACTERISTICS",
                &[
                    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                    "SHOW default_transaction_read_only",
                    "CREATE TABLE never (a int)",
                    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
                ],
            ),
            run(
                "search_path",
                &[
                    "SET search_path TO pg_catalog, \"$user\"",
                    "SHOW search_path",
                    "SET search_path = ''",
                    "SHOW search_path",
                    "SELECT current_schemas(false)",
                ],
            ),
            run(
                "SET ROLE to nobody",
                &["SET ROLE not_there", "SELECT current_user", "SET ROLE NONE", "SELECT current_user"],
            ),
            run(
                "standard_conforming_strings off",
                &[
                    "SET standard_conforming_strings TO off",
                    "SELECT 'a\\\\b'",
                    "SET application_name TO 'a\\\\b'",
                    "SHOW application_name",
                ],
            ),
            run(
                "statement_timeout is kept",
                &["SET statement_timeout TO 50", "SELECT pg_sleep(5)", "SELECT 1", "SHOW statement_timeout"],
            ),
            run(
                "extra spellings",
                &[
                    "SET SESSION work_mem = 8192",
                    "SHOW work_mem",
                    "SET work_mem TO DEFAULT",
                    "SHOW work_mem",
                    "set Work_Mem to '9MB' ;",
                    "SHOW work_mem",
                ],
            ),
            run(
                "a temp table lives as long as the session",
                &[
                    "CREATE TEMP TABLE mine (a int)",
                    "INSERT INTO mine VALUES (1)",
                    "SELECT * FROM mine",
                    "DISCARD ALL",
                    "SELECT * FROM mine",
                ],
            ),
            run(
                "SQL PREPARE",
                &[
                    "PREPARE p (int) AS SELECT $1 + 1",
                    "EXECUTE p (1)",
                    "SELECT 1",
                    "EXECUTE p (2)",
                    "PREPARE p AS SELECT 1",
                    "DEALLOCATE p",
                    "EXECUTE p (3)",
                    "DEALLOCATE p",
                ],
            ),
            run(
                "several SQL PREPARE in a transaction, as of pg_dump",
                &[
                    "BEGIN",
                    "PREPARE d1 (int) AS SELECT $1",
                    "EXECUTE d1(1)",
                    "PREPARE d2 (text) AS SELECT $1",
                    "EXECUTE d2('x')",
                    "COMMIT",
                    "EXECUTE d1(2)",
                    "DEALLOCATE ALL",
                ],
            ),
            run(
                "SQL PREPARE in all its forms",
                &[
                    "PREPARE p2 AS SELECT 'no types', $1::text",
                    "EXECUTE p2('x'); SELECT 2",
                    "PREPARE \"P 3\" ( int , text ) AS SELECT $1, $2",
                    "EXECUTE \"P 3\" (1, 'a')",
                    "EXPLAIN (COSTS OFF) EXECUTE p2('y')",
                    "EXPLAIN ANALYZE EXECUTE nobody",
                    "CREATE TABLE made_by_execute AS EXECUTE \"P 3\" (7, 'seven')",
                    "TABLE made_by_execute",
                    "DROP TABLE made_by_execute",
                    "PREPARE broken AS SELECT nothing FROM nowhere",
                    "PREPARE broken (int) AS SELEC 1",
                    "EXECUTE broken",
                    "EXECUTE p2",
                    "EXECUTE p2(1, 2)",
                    "PREPARE w AS INSERT INTO nowhere VALUES (1)",
                    "BEGIN; PREPARE in_block AS SELECT 5; ROLLBACK",
                    "EXECUTE in_block",
                    "BEGIN",
                    "EXECUTE nobody",
                    "EXECUTE p2('z')",
                    "ROLLBACK",
                    "PREPARE a AS SELECT 1; EXECUTE a; DEALLOCATE a; EXECUTE a",
                    "DISCARD ALL",
                    "EXECUTE p2('gone')",
                ],
            ),
            run(
                "set_config is the client's",
                &[
                    "SELECT set_config('work_mem', '5MB', false)",
                    "SHOW work_mem",
                    "SELECT pg_catalog.set_config('DateStyle', 'German', false) AS a, set_config('my.x', 'it''s', false)",
                    "SELECT '2024-02-01'::date, current_setting('my.x')",
                    "BEGIN",
                    "SELECT set_config('work_mem', '7MB', false)",
                    "ROLLBACK",
                    "SHOW work_mem",
                    "SELECT set_config('work_mem', 'much', false)",
                    "SHOW work_mem",
                    "SELECT set_config('nobody', 'knows', false)",
                    "RESET work_mem",
                    "SHOW work_mem",
                    "SELECT set_config('application_name', 'conf', false); SELECT 1",
                    "SHOW application_name",
                    "DISCARD ALL",
                    "SHOW DateStyle",
                ],
            ),
            run(
                "session advisory locks",
                &[
                    "SELECT pg_advisory_lock(77)",
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
                    "SELECT pg_advisory_unlock(77)",
                    "SELECT pg_advisory_unlock(77)",
                ],
            ),
            run(
                "LISTEN and NOTIFY",
                &["LISTEN simple_chan", "NOTIFY simple_chan, 'hello'", "SELECT 1", "UNLISTEN *"],
            ),
            run(
                "DEALLOCATE of an unknown name",
                &["DEALLOCATE nothing", "DEALLOCATE ALL", "DEALLOCATE PREPARE nothing"],
            ),
        ],
    );
}

#[test]
fn what_a_client_does_with_its_socket_is_taken_as_by_postgresql() {
    let stage = stage();
    let mut no_nul = any(b'Q', b"SELECT 1");
    no_nul.extend(query("SELECT 2"));
    stage.compare(
        "plain",
        vec![
            script(
                "half-close after a Query: the reply still comes",
                vec![Step::Send(query("SELECT 'still'")), Step::HalfClose, Step::Ready(1), Step::Closed],
            ),
            script(
                "Terminate right behind a Query",
                vec![Step::Send([query("SELECT 1"), terminate()].concat()), Step::Closed],
            ),
            script("Terminate alone", vec![Step::Send(terminate()), Step::Closed]),
            script("a query one byte at a time", vec![Step::Drip(query("SELECT 'slow'")), Step::Ready(1)]),
            script("a message type that does not exist", vec![Step::Send(any(b'y', b"")), Step::Closed]),
            script("a Query without its NUL", vec![Step::Send(no_nul), Step::Closed]),
            script(
                "a Query with a NUL inside",
                vec![Step::Send(any(b'Q', b"SELECT 1\0 + 1\0")), Step::Closed],
            ),
            script("an empty Query body", vec![Step::Send(any(b'Q', b"")), Step::Closed]),
            script("a Sync with a body", vec![Step::Send(any(b'S', b"xx")), Step::Closed]),
            script(
                "a Parse cut short",
                vec![
                    Step::Send([any(b'P', b"name\0SELECT 1\0\0"), sync()].concat()),
                    Step::Ready(1),
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ],
            ),
            script(
                "a Parse with more types than it has",
                vec![
                    Step::Send([any(b'P', b"\0SELECT 1\0\x7f\xff"), sync()].concat()),
                    Step::Ready(1),
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ],
            ),
            script(
                "an Execute cut short",
                vec![
                    Step::Send([any(b'E', b"\0\0"), sync()].concat()),
                    Step::Ready(1),
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ],
            ),
            script(
                "a Describe of neither",
                vec![
                    Step::Send([any(b'D', b"X\0"), sync()].concat()),
                    Step::Ready(1),
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ],
            ),
            script(
                "a Close of neither",
                vec![
                    Step::Send([any(b'C', b"X\0"), sync()].concat()),
                    Step::Ready(1),
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ],
            ),
            script(
                "a Close without anything",
                vec![
                    Step::Send([any(b'C', b""), sync()].concat()),
                    Step::Ready(1),
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ],
            ),
            script(
                "late CopyData, CopyDone, CopyFail are ignored",
                vec![
                    Step::Send([copy_data("x"), copy_done(), copy_fail("y")].concat()),
                    Step::Quiet,
                    Step::Send(query("SELECT 1")),
                    Step::Ready(1),
                ],
            ),
        ],
    );
}

#[test]
fn a_length_that_lies_is_answered_with_08p01_and_the_end() {
    let stage = stage();
    // PostgreSQL says this to its log only; a client that is told can be mended.
    for bytes in [&b"Q\0\0\0\x03"[..], b"Q\xff\xff\xff\xff", b"P\x7f\xff\xff\xff", b"d\0\0\0\0"] {
        let mut wire = stage.endpoint.login("plain");
        wire.send(bytes);
        let said = wire.until(0);
        assert!(error_of(&said).is_some_and(|e| e.starts_with("08P01 ")), "{}", show(&said));
        assert_eq!(said.last().map(|m| m.body.as_slice()), Some(&b"closed"[..]));
    }
}
