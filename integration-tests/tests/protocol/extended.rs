//! The extended protocol: pipelines, errors inside them, statements and portals by name.

use crate::raw::*;
use crate::*;

pub fn run(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), describe_portal(""), execute("", 0)].concat()
}

#[test]
fn a_pipeline_is_answered_in_order_as_by_postgresql() {
    let stage = stage();
    stage.prepare("plain", &["DROP TABLE IF EXISTS pl", "CREATE TABLE pl (a int PRIMARY KEY, b text)"]);
    stage.compare(
        "plain",
        vec![
            script("Parse, Bind, Describe, Execute, Sync", batch(&[run("SELECT 1, 'x'"), sync()], 1)),
            script("Sync alone", batch(&[sync(), sync(), sync()], 3)),
            script(
                "several Sync, sent at once",
                batch(&[run("SELECT 1"), sync(), run("SELECT 2"), sync(), run("SELECT 3"), sync()], 3),
            ),
            script(
                "an error in the first batch leaves the second alone",
                batch(&[run("SELECT 1/0"), run("SELECT 9"), sync(), run("SELECT 2"), sync()], 2),
            ),
            script(
                "several statements before one Sync are one transaction",
                batch(
                    &[
                        run("INSERT INTO pl VALUES (1, 'x')"),
                        run("INSERT INTO pl VALUES (1, 'y')"),
                        sync(),
                        run("SELECT count(*) FROM pl"),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "a syntax error at Parse",
                batch(
                    &[
                        parse("", "SELEC", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                        run("SELECT 1"),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "Flush answers now",
                vec![
                    Step::Send([run("SELECT 1"), flush()].concat()),
                    Step::Until(b'C'),
                    Step::Quiet,
                    Step::Send(sync()),
                    Step::Ready(1),
                ],
            ),
            script(
                "Flush after Parse",
                vec![
                    Step::Send([parse("f", "SELECT $1::int", &[]), flush()].concat()),
                    Step::Until(b'1'),
                    Step::Send([describe_statement("f"), flush()].concat()),
                    Step::Until(b'T'),
                    Step::Send([bind("", "f", &["5"]), flush()].concat()),
                    Step::Until(b'2'),
                    Step::Send([execute("", 0), flush()].concat()),
                    Step::Until(b'C'),
                    Step::Send(sync()),
                    Step::Ready(1),
                ],
            ),
            script(
                "Flush with nothing to flush",
                vec![Step::Send(flush()), Step::Quiet, Step::Send(sync()), Step::Ready(1)],
            ),
            script(
                "an error is flushed by itself",
                vec![
                    Step::Send(run("SELECT 1/0")),
                    Step::Until(b'E'),
                    Step::Quiet,
                    Step::Send(sync()),
                    Step::Ready(1),
                ],
            ),
            script(
                "a Parse error is flushed by itself",
                vec![
                    Step::Send(parse("", "SELEC", &[])),
                    Step::Until(b'E'),
                    Step::Send(run("SELECT 1")),
                    Step::Quiet,
                    Step::Send(sync()),
                    Step::Ready(1),
                ],
            ),
            script(
                "Query inside a batch",
                batch(&[run("SELECT 1"), query("SELECT 2"), run("SELECT 3"), sync()], 2),
            ),
            script(
                "Query inside a batch ends its transaction",
                batch(
                    &[
                        run("INSERT INTO pl VALUES (20, 'x')"),
                        query("SELECT 2"),
                        run("SELECT 1/0"),
                        sync(),
                        query("SELECT count(*) FROM pl WHERE a = 20"),
                    ],
                    3,
                ),
            ),
            script(
                "Query after a failure is discarded",
                batch(&[run("SELECT 1/0"), query("SELECT 2"), sync(), query("SELECT 3")], 2),
            ),
            script(
                "Query destroys the unnamed statement",
                batch(
                    &[
                        parse("", "SELECT 1", &[]),
                        sync(),
                        query("SELECT 2"),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                    ],
                    3,
                ),
            ),
            script(
                "Query destroys the unnamed portal",
                batch(
                    &[
                        query("BEGIN"),
                        parse("", "SELECT 1", &[]),
                        bind("", "", &[]),
                        query("SELECT 2"),
                        execute("", 0),
                        sync(),
                        query("ROLLBACK"),
                    ],
                    4,
                ),
            ),
            script(
                "a failing Query inside a batch",
                batch(&[run("SELECT 1"), query("SELECT 1/0"), run("SELECT 3"), sync()], 2),
            ),
            script(
                "a failing Query takes back what ran before it in the batch",
                batch(
                    &[
                        run("INSERT INTO pl VALUES (21, 'x')"),
                        query("SELECT 1/0"),
                        sync(),
                        query("SELECT count(*) FROM pl WHERE a = 21"),
                    ],
                    3,
                ),
            ),
            script("the empty statement", batch(&[run(""), sync()], 1)),
            script(
                "the empty statement, described by name",
                batch(
                    &[
                        parse("e", "", &[]),
                        describe_statement("e"),
                        bind("", "e", &[]),
                        execute("", 0),
                        sync(),
                    ],
                    1,
                ),
            ),
            script("two statements in one Parse", batch(&[parse("", "SELECT 1; SELECT 2", &[]), sync()], 1)),
            script(
                "BEGIN and COMMIT in a pipeline",
                batch(
                    &[
                        run("BEGIN"),
                        run("INSERT INTO pl VALUES (30, 'x')"),
                        run("COMMIT"),
                        sync(),
                        run("SELECT count(*) FROM pl WHERE a = 30"),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "BEGIN, Sync, statement, Sync, COMMIT, Sync",
                batch(
                    &[
                        run("BEGIN"),
                        sync(),
                        run("INSERT INTO pl VALUES (31, 'x')"),
                        sync(),
                        run("COMMIT"),
                        sync(),
                    ],
                    3,
                ),
            ),
            script(
                "an error in a block, by pipeline",
                batch(
                    &[
                        run("BEGIN"),
                        sync(),
                        run("SELECT 1/0"),
                        sync(),
                        run("SELECT 1"),
                        sync(),
                        run("ROLLBACK"),
                        sync(),
                        run("SELECT 1"),
                        sync(),
                    ],
                    5,
                ),
            ),
            script(
                "BEGIN behind other statements of a pipeline, as pgbench sends it",
                batch(
                    &[
                        run("SELECT 1"),
                        run("BEGIN"),
                        run("INSERT INTO pl VALUES (70, 'x')"),
                        run("COMMIT"),
                        run("SELECT b FROM pl WHERE a = 70"),
                        run("BEGIN"),
                        run("DELETE FROM pl WHERE a = 70"),
                        run("ROLLBACK"),
                        sync(),
                        run("SELECT b FROM pl WHERE a = 70"),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "another encoding",
                batch(
                    &[
                        query("SET client_encoding TO 'LATIN1'"),
                        parse("", "", &[]),
                        [b"P\0\0\0\x20l\0SELECT 'caf\xe9', $1::text\0".to_vec(), vec![0, 0]].concat(),
                        bind("", "l", &["x"]),
                        execute("", 0),
                        sync(),
                        [b"Q\0\0\0\x13SELECT 'na\xefve'\0".to_vec()].concat(),
                        run("SELECT convert_from(convert_to('\u{e9}', 'LATIN1'), 'LATIN1')"),
                        sync(),
                        query("RESET client_encoding"),
                        run("SELECT convert_from(convert_to('\u{e9}', 'LATIN1'), 'LATIN1')"),
                        sync(),
                    ],
                    6,
                ),
            ),
            script(
                "COMMIT in mid-pipeline, then an error",
                batch(
                    &[
                        run("INSERT INTO pl VALUES (32, 'x')"),
                        run("COMMIT"),
                        run("SELECT 1/0"),
                        sync(),
                        run("SELECT count(*) FROM pl WHERE a = 32"),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "BEGIN after a statement takes it in",
                batch(
                    &[
                        run("INSERT INTO pl VALUES (33, 'x')"),
                        run("BEGIN"),
                        sync(),
                        run("ROLLBACK"),
                        sync(),
                        run("SELECT count(*) FROM pl WHERE a = 33"),
                        sync(),
                    ],
                    3,
                ),
            ),
            script(
                "savepoints in a pipeline",
                batch(
                    &[
                        run("BEGIN"),
                        run("SAVEPOINT a"),
                        run("INSERT INTO pl VALUES (34, 'x')"),
                        run("ROLLBACK TO a"),
                        run("SELECT count(*) FROM pl WHERE a = 34"),
                        run("COMMIT"),
                        sync(),
                    ],
                    1,
                ),
            ),
            script(
                "SET in a pipeline",
                batch(
                    &[
                        run("SET application_name TO 'piped'"),
                        run("SHOW application_name"),
                        sync(),
                        run("SHOW application_name"),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "SET in a pipeline that fails is taken back",
                batch(
                    &[
                        run("SET application_name TO 'piped'"),
                        run("SELECT 1/0"),
                        sync(),
                        run("SHOW application_name"),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "a SET that fails in a pipeline",
                batch(
                    &[
                        run("SELECT 1"),
                        run("SET work_mem TO 'x'"),
                        run("SELECT 2"),
                        sync(),
                        run("SELECT 3"),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "a statement before a failing SET is taken back",
                batch(
                    &[
                        run("INSERT INTO pl VALUES (35, 'x')"),
                        run("SET work_mem TO 'x'"),
                        sync(),
                        query("SELECT count(*) FROM pl WHERE a = 35"),
                    ],
                    2,
                ),
            ),
            script(
                "ROLLBACK with nothing to roll back",
                batch(&[run("ROLLBACK"), run("SELECT 1"), sync()], 1),
            ),
            script(
                "a row limit outside a transaction ends with Sync",
                batch(
                    &[
                        parse("", "SELECT generate_series(1, 5)", &[]),
                        bind("", "", &[]),
                        execute("", 2),
                        sync(),
                        execute("", 2),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "a row limit before Sync",
                batch(
                    &[
                        parse("", "SELECT generate_series(1, 5)", &[]),
                        bind("", "", &[]),
                        execute("", 2),
                        execute("", 2),
                        execute("", 2),
                        execute("", 2),
                        sync(),
                    ],
                    1,
                ),
            ),
            script(
                "a query that nobody described",
                batch(&[parse("", "SELECT 1", &[]), bind("", "", &[]), execute("", 0), sync()], 1),
            ),
            script(
                "INSERT with RETURNING and a NOTICE",
                batch(
                    &[
                        run("INSERT INTO pl VALUES (40, 'r') RETURNING a, b"),
                        run("DROP TABLE IF EXISTS nowhere_at_all"),
                        sync(),
                    ],
                    1,
                ),
            ),
            script(
                "VACUUM in a pipeline",
                batch(&[run("SELECT 1"), run("VACUUM pl"), sync(), run("VACUUM pl"), sync()], 2),
            ),
        ],
    );
}

#[test]
fn statements_and_portals_by_name_are_as_in_a_session_of_its_own() {
    let stage = stage();
    let again = |n: usize| -> Vec<u8> {
        (0..n).flat_map(|_| [bind("", "s", &["7"]), execute("", 0), sync()].concat()).collect()
    };
    stage.compare(
        "plain",
        vec![
            script(
                "a named statement, many times",
                batch(&[parse("s", "SELECT $1::int + 1", &[]), describe_statement("s"), sync(), again(8)], 9),
            ),
            script(
                "types given by the client",
                batch(&[parse("s", "SELECT $1", &[25]), describe_statement("s"), sync(), again(1)], 2),
            ),
            script(
                "an unknown statement",
                batch(&[bind("", "nobody", &[]), execute("", 0), sync(), query("SELECT 1")], 2),
            ),
            script(
                "an unknown statement described",
                batch(&[describe_statement("nobody"), sync(), query("SELECT 1")], 2),
            ),
            script(
                "no unnamed statement",
                batch(&[bind("", "", &[]), sync(), describe_statement(""), sync()], 2),
            ),
            script(
                "an unknown portal",
                batch(&[execute("nobody", 0), sync(), describe_portal("nobody"), sync()], 2),
            ),
            script(
                "a duplicate name",
                batch(&[parse("s", "SELECT $1::int", &[]), parse("s", "SELECT 2", &[]), sync(), again(1)], 2),
            ),
            script(
                "a duplicate name, later",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        sync(),
                        parse("s", "SELECT $1::int", &[]),
                        sync(),
                        again(1),
                    ],
                    3,
                ),
            ),
            script(
                "a Parse behind an error defines nothing",
                batch(&[run("SELECT 1/0"), parse("s", "SELECT $1::int", &[]), sync(), again(1)], 2),
            ),
            script(
                "a failing Parse defines nothing",
                batch(
                    &[
                        parse("s", "SELECT nothing", &[]),
                        sync(),
                        parse("s", "SELECT $1::int", &[]),
                        sync(),
                        again(1),
                    ],
                    3,
                ),
            ),
            script(
                "a Parse before an error stays",
                batch(&[parse("s", "SELECT $1::int", &[]), run("SELECT 1/0"), sync(), again(1)], 2),
            ),
            script(
                "Close frees the name",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        close_statement("s"),
                        parse("s", "SELECT $1::text || 'x'", &[]),
                        sync(),
                        again(1),
                    ],
                    2,
                ),
            ),
            script(
                "Close of an unknown name is no error",
                batch(&[close_statement("nobody"), close_portal("nobody"), sync()], 1),
            ),
            script(
                "a Close behind an error closes nothing",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        sync(),
                        run("SELECT 1/0"),
                        close_statement("s"),
                        sync(),
                        again(1),
                    ],
                    3,
                ),
            ),
            script(
                "Close and unknown Bind in a batch",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        sync(),
                        close_statement("s"),
                        bind("", "s", &["1"]),
                        execute("", 0),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "the unnamed statement is replaced",
                batch(
                    &[
                        parse("", "SELECT 1", &[]),
                        parse("", "SELECT 2", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                    ],
                    2,
                ),
            ),
            script(
                "a failing unnamed Parse leaves none",
                batch(
                    &[
                        parse("", "SELECT 1", &[]),
                        sync(),
                        parse("", "SELEC", &[]),
                        sync(),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                    ],
                    3,
                ),
            ),
            script(
                "DEALLOCATE of a Parse's name",
                join(vec![
                    batch(&[parse("s", "SELECT $1::int", &[]), sync()], 1),
                    queries(&["DEALLOCATE s"]),
                    batch(&[again(1)], 1),
                ]),
            ),
            script(
                "DEALLOCATE ALL",
                join(vec![
                    batch(&[parse("s", "SELECT $1::int", &[]), sync()], 1),
                    queries(&["DEALLOCATE ALL"]),
                    batch(&[again(1), parse("s", "SELECT $1::int", &[]), sync(), again(1)], 3),
                ]),
            ),
            script(
                "DISCARD ALL",
                join(vec![
                    batch(&[parse("s", "SELECT $1::int", &[]), sync()], 1),
                    queries(&["DISCARD ALL"]),
                    batch(&[again(1)], 1),
                ]),
            ),
            script(
                "more behind COMMIT in one batch",
                batch(
                    &[
                        run("BEGIN"),
                        run("SELECT 1"),
                        run("COMMIT"),
                        run("SELECT 2"),
                        run("BEGIN"),
                        run("SELECT 3"),
                        run("COMMIT"),
                        run("COMMIT"),
                        sync(),
                        query("SELECT 4"),
                    ],
                    2,
                ),
            ),
            script(
                "transactions in a pipeline of batches",
                batch(
                    &["BEGIN", "SELECT 1", "COMMIT", "SELECT 2", "BEGIN", "SELECT 1/0", "COMMIT", "SELECT 3"]
                        .iter()
                        .flat_map(|sql| [run(sql), sync()])
                        .collect::<Vec<_>>(),
                    8,
                ),
            ),
            script(
                "transactions in a pipeline of queries",
                batch(
                    &[
                        "BEGIN",
                        "SELECT 1",
                        "END;",
                        "SELECT 2",
                        "BEGIN;",
                        "SELECT 1/0",
                        "COMMIT",
                        "BEGIN",
                        "END",
                        "COMMIT",
                    ]
                    .map(query),
                    10,
                ),
            ),
            script(
                "a COMMIT that fails, and what stands behind it",
                join(vec![
                    queries(&["CREATE TABLE defer_me (a int, UNIQUE (a) DEFERRABLE INITIALLY DEFERRED)"]),
                    batch(
                        &[
                            run("BEGIN"),
                            run("INSERT INTO defer_me VALUES (1), (1)"),
                            run("COMMIT"),
                            run("SELECT 2"),
                            sync(),
                            query("SELECT count(*) FROM defer_me"),
                        ],
                        2,
                    ),
                    batch(
                        &[
                            query("BEGIN"),
                            query("INSERT INTO defer_me VALUES (1), (1)"),
                            query("COMMIT"),
                            query("SELECT count(*) FROM defer_me"),
                            query("DROP TABLE defer_me"),
                        ],
                        5,
                    ),
                ]),
            ),
            script(
                "EXECUTE of a Parse's name",
                join(vec![
                    batch(&[parse("s", "SELECT $1::int + 1", &[]), sync()], 1),
                    queries(&["EXECUTE s(41)"]),
                ]),
            ),
            script(
                "Bind of an SQL PREPARE's name",
                join(vec![queries(&["PREPARE s (int) AS SELECT $1 + 1"]), batch(&[again(1)], 1)]),
            ),
            script(
                "pg_prepared_statements shows the client's own",
                join(vec![
                    batch(&[parse("s", "SELECT $1::int + 1", &[]), sync()], 1),
                    queries(&[
                        "SELECT name, statement, parameter_types FROM pg_prepared_statements ORDER BY name",
                    ]),
                ]),
            ),
            script(
                "too few values",
                batch(
                    &[
                        parse("s", "SELECT $1::int, $2::int", &[]),
                        bind("", "s", &["1"]),
                        execute("", 0),
                        sync(),
                        query("SELECT 1"),
                    ],
                    2,
                ),
            ),
            script(
                "too many values",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        bind("", "s", &["1", "2"]),
                        execute("", 0),
                        sync(),
                        query("SELECT 1"),
                    ],
                    2,
                ),
            ),
            script(
                "a value that is no number",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        bind("", "s", &["one"]),
                        execute("", 0),
                        sync(),
                        again(1),
                    ],
                    2,
                ),
            ),
            script(
                "Bind with a count that lies",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        any(b'B', b"\0s\0\0\0\0\x05\0\0\0\x011\0\0"),
                        execute("", 0),
                        sync(),
                        query("SELECT 1"),
                    ],
                    2,
                ),
            ),
            script(
                "Bind with a length that lies",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        any(b'B', b"\0s\0\0\0\0\x01\x7f\xff\xff\xff1\0\0"),
                        execute("", 0),
                        sync(),
                        query("SELECT 1"),
                    ],
                    2,
                ),
            ),
            script(
                "Bind with bytes left over",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        any(b'B', b"\0s\0\0\0\0\x01\0\0\0\x011\0\0zzz"),
                        execute("", 0),
                        sync(),
                        query("SELECT 1"),
                    ],
                    2,
                ),
            ),
            script("Bind cut short", batch(&[any(b'B', b"\0s"), sync(), query("SELECT 1")], 2)),
            script(
                "two formats for one value",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        any(b'B', b"\0s\0\0\x02\0\0\0\0\0\x01\0\0\0\x011\0\0"),
                        sync(),
                        query("SELECT 1"),
                    ],
                    2,
                ),
            ),
            script(
                "a format that does not exist",
                batch(
                    &[
                        parse("s", "SELECT $1::int", &[]),
                        any(b'B', b"\0s\0\0\x01\0\x07\0\x01\0\0\0\x011\0\0"),
                        execute("", 0),
                        sync(),
                        query("SELECT 1"),
                    ],
                    2,
                ),
            ),
            script(
                "portals with a row limit in a transaction",
                join(vec![
                    queries(&["BEGIN"]),
                    batch(
                        &[
                            parse("s", "SELECT generate_series(1, $1::int)", &[]),
                            bind("p", "s", &["7"]),
                            describe_portal("p"),
                            execute("p", 3),
                            sync(),
                        ],
                        1,
                    ),
                    batch(&[execute("p", 3), sync()], 1),
                    queries(&["SELECT 'between'"]),
                    batch(&[execute("p", 3), execute("p", 3), sync()], 1),
                    batch(&[close_portal("p"), execute("p", 1), sync()], 1),
                    queries(&["ROLLBACK"]),
                ]),
            ),
            script(
                "a duplicate portal",
                join(vec![
                    queries(&["BEGIN"]),
                    batch(
                        &[parse("s", "SELECT 1", &[]), bind("p", "s", &[]), bind("p", "s", &[]), sync()],
                        1,
                    ),
                    queries(&["ROLLBACK"]),
                ]),
            ),
            script(
                "a portal dies with its transaction",
                join(vec![
                    queries(&["BEGIN"]),
                    batch(&[parse("s", "SELECT 1", &[]), bind("p", "s", &[]), sync()], 1),
                    queries(&["COMMIT"]),
                    batch(&[execute("p", 0), sync()], 1),
                ]),
            ),
            script(
                "a portal by SQL name",
                join(vec![
                    queries(&["BEGIN"]),
                    batch(
                        &[
                            parse("s", "SELECT generate_series(1, 4)", &[]),
                            bind("p", "s", &[]),
                            execute("p", 1),
                            sync(),
                        ],
                        1,
                    ),
                    queries(&["FETCH 2 FROM p", "CLOSE p", "COMMIT"]),
                ]),
            ),
            script(
                "a portal of a DECLAREd cursor",
                join(vec![
                    queries(&["BEGIN", "DECLARE c CURSOR FOR SELECT generate_series(1, 4)"]),
                    batch(&[describe_portal("c"), execute("c", 2), sync()], 1),
                    queries(&["COMMIT"]),
                ]),
            ),
            script(
                "a statement survives the schema's change",
                join(vec![
                    queries(&[
                        "DROP TABLE IF EXISTS ch",
                        "CREATE TABLE ch (a int, b int)",
                        "INSERT INTO ch VALUES (1, 2)",
                    ]),
                    batch(
                        &[
                            parse("s", "SELECT a FROM ch WHERE a = $1::int", &[]),
                            sync(),
                            bind("", "s", &["1"]),
                            execute("", 0),
                            sync(),
                        ],
                        2,
                    ),
                    queries(&["ALTER TABLE ch DROP COLUMN b"]),
                    batch(&[bind("", "s", &["1"]), execute("", 0), sync()], 1),
                ]),
            ),
            script(
                "statement in a failed block",
                join(vec![
                    queries(&["BEGIN", "SELECT 1/0"]),
                    batch(&[parse("s", "SELECT $1::int", &[]), sync(), again(1)], 2),
                    queries(&["ROLLBACK"]),
                    batch(&[again(1)], 1),
                ]),
            ),
            script(
                "Parse of ROLLBACK in a failed block",
                join(vec![
                    queries(&["BEGIN", "SELECT 1/0"]),
                    batch(&[run("ROLLBACK"), sync()], 1),
                    queries(&["SELECT 1"]),
                ]),
            ),
            script(
                "an unknown name in a block fails it",
                join(vec![
                    queries(&["BEGIN", "SELECT 1"]),
                    batch(&[bind("", "nobody", &[]), sync()], 1),
                    queries(&["SELECT 1", "ROLLBACK"]),
                ]),
            ),
            script(
                "an unknown name, then ROLLBACK TO",
                join(vec![
                    queries(&["BEGIN", "SAVEPOINT a"]),
                    batch(&[bind("", "nobody", &[]), sync()], 1),
                    queries(&["SELECT 1", "ROLLBACK TO a", "SELECT 2", "COMMIT"]),
                ]),
            ),
        ],
    );
}

/// A server that has the statement already is asked nothing, and so answers nothing: found by `fuzz`.
#[test]
fn parse_and_flush_is_answered_however_often_it_comes() {
    let stage = stage();
    for round in 0..10 {
        let mut wire = stage.endpoint.login("plain");
        wire.send(&[parse("again", "SELECT 'again', $1::int", &[]), flush()].concat());
        assert_eq!(wire.until(b'1').last().map(|m| m.kind), Some(b'1'), "round {round}");
        // A name that does not exist is judged after what was asked before.
        wire.send(&[parse("more", "SELECT 'more', $1::int", &[]), bind("", "nobody", &[]), sync()].concat());
        let said = wire.until(b'Z');
        assert_eq!(said.iter().map(|m| m.kind).collect::<Vec<_>>(), b"1EZ", "round {round}: {}", show(&said));
    }
}

#[test]
fn a_function_call_goes_through() {
    let stage = stage();
    // int4pl(1, 2), int4div(1, 0), a function that does not exist, and one in a block.
    stage.compare(
        "plain",
        vec![
            script("FunctionCall", batch(&[function_call(177, &["1", "2"]), query("SELECT 1")], 2)),
            script(
                "FunctionCall that fails",
                batch(&[function_call(154, &["1", "0"]), query("SELECT 1")], 2),
            ),
            script(
                "FunctionCall of nothing",
                batch(&[function_call(4_000_000_000, &[]), query("SELECT 1")], 2),
            ),
            script(
                "FunctionCall in a block",
                join(vec![
                    queries(&["BEGIN"]),
                    batch(&[function_call(177, &["1", "2"])], 1),
                    batch(&[function_call(154, &["1", "0"])], 1),
                    batch(&[function_call(177, &["1", "2"])], 1),
                    queries(&["ROLLBACK"]),
                ]),
            ),
            script("FunctionCall cut short", batch(&[any(b'F', b"\0\0"), query("SELECT 1")], 2)),
        ],
    );
}

/// What a driver was told of a statement's columns it reads rows by. asyncpg, JDBC and others did not notice that pgherd had
/// prepared the statement again behind a schema change, and failed for ever, or read a row wrong.
#[test]
fn a_statement_whose_columns_changed_is_refused_to_who_knows_the_old_ones() {
    let stage = stage();
    stage.prepare(
        "plain",
        &["DROP TABLE IF EXISTS alt", "CREATE TABLE alt (a int, b text)", "INSERT INTO alt VALUES (1, 'x')"],
    );
    // Each for itself: in one pipeline it is the server that still has the old plan.
    let of = |name: &str| batch(&[bind("", name, &[]), execute("", 0), sync()], 1);
    let described =
        |name: &str| batch(&[parse(name, "SELECT * FROM alt", &[]), describe_statement(name), sync()], 1);
    let run = |sql: &str| queries(&[sql]);
    stage.compare(
        "plain",
        vec![
            script(
                "by Describe of the statement",
                join(vec![
                    described("d1"),
                    of("d1"),
                    run("ALTER TABLE alt ADD COLUMN c int"),
                    of("d1"),
                    run("SELECT 1"),
                    of("d1"),
                    described("d2"),
                    of("d2"),
                    of("d1"),
                    batch(&[close_statement("d1"), sync()], 1),
                    described("d1"),
                    of("d1"),
                ]),
            ),
            script(
                "by Describe of a portal",
                join(vec![
                    batch(
                        &[
                            parse("p1", "SELECT * FROM alt", &[]),
                            bind("", "p1", &[]),
                            describe_portal(""),
                            execute("", 0),
                            sync(),
                        ],
                        1,
                    ),
                    run("ALTER TABLE alt ADD COLUMN d int"),
                    run("BEGIN"),
                    of("p1"),
                    run("ROLLBACK"),
                    of("p1"),
                ]),
            ),
            script(
                "a change that leaves the columns alone",
                join(vec![described("s1"), of("s1"), run("CREATE INDEX ON alt (a)"), of("s1"), of("s1")]),
            ),
            script(
                "a table that is gone",
                join(vec![
                    described("g1"),
                    run("ALTER TABLE alt RENAME TO alt2"),
                    of("g1"),
                    run("ALTER TABLE alt2 RENAME TO alt"),
                    of("g1"),
                ]),
            ),
        ],
    );
}
