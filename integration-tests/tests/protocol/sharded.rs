//! The same scripts over four shards: statements with keys, fans, transactions.

use crate::raw::*;
use crate::*;

/// Sharded by `k`, a bigint.
pub const TABLES: [&str; 15] =
    ["sa", "sb", "sc", "sd", "se", "sf", "sg", "sh", "si", "ba", "bb", "bc", "bd", "be", "bf"];

fn run(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), describe_portal(""), execute("", 0)].concat()
}

#[test]
fn four_shards_answer_like_one_server() {
    let stage = stage();
    stage.prepare(
        "shop",
        &[
            "CREATE TABLE sa (k bigint PRIMARY KEY, v text)",
            "INSERT INTO sa SELECT g, 'v' || g FROM generate_series(1, 5) g WHERE false",
        ],
    );
    stage.prepare("shop", &["INSERT INTO sa (k, v) VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four'), (5, 'five'), (6, 'six'), (7, 'seven')"]);
    let one = |why, sql: &[&str]| script(why, queries(sql));
    let named = |k: &str| [bind("", "s", &[k]), execute("", 0), sync()].concat();
    stage.compare(
        "shop",
        vec![
            one("by key", &["SELECT k, v FROM sa WHERE k = 3"]),
            one("no such key", &["SELECT k, v FROM sa WHERE k = 33"]),
            one("aggregates", &["SELECT count(*), sum(k), min(k), max(k) FROM sa"]),
            one("aggregates over nothing", &["SELECT count(*), sum(k), min(k) FROM sa WHERE v = 'nothing'"]),
            one("the empty query", &["", ";", "-- x"]),
            one("an unknown column", &["SELECT nothing FROM sa WHERE k = 1"]),
            one("an error on one shard", &["SELECT 1/0 FROM sa WHERE k = 1"]),
            one("a unique violation", &["INSERT INTO sa VALUES (1, 'again')", "SELECT count(*) FROM sa"]),
            one("a unique violation in a split INSERT leaves nothing", &["INSERT INTO sa VALUES (101, 'a'), (102, 'b'), (103, 'c'), (1, 'again'), (104, 'd')", "SELECT count(*) FROM sa"]),
            one("write and read", &["INSERT INTO sa VALUES (50, 'x')", "UPDATE sa SET v = 'y' WHERE k = 50", "SELECT v FROM sa WHERE k = 50", "DELETE FROM sa WHERE k = 50"]),
            one("tags of a fan add up", &["UPDATE sa SET v = v", "DELETE FROM sa WHERE v = 'nothing'"]),
            one("a transaction over shards", &["BEGIN", "INSERT INTO sa VALUES (60, 'x')", "INSERT INTO sa VALUES (61, 'x')", "INSERT INTO sa VALUES (62, 'x')", "SELECT count(*) FROM sa", "COMMIT", "DELETE FROM sa WHERE k IN (60, 61, 62)"]),
            one("rolled back over shards", &["BEGIN", "UPDATE sa SET v = 'lost'", "ROLLBACK", "SELECT count(*) FROM sa WHERE v = 'lost'"]),
            one("status E over shards", &["BEGIN", "INSERT INTO sa VALUES (60, 'x')", "INSERT INTO sa VALUES (1, 'x')", "SELECT 1", "INSERT INTO sa VALUES (61, 'x')", "COMMIT", "SELECT count(*) FROM sa"]),
            one("savepoints over shards", &["BEGIN", "INSERT INTO sa VALUES (60, 'x')", "SAVEPOINT a", "INSERT INTO sa VALUES (61, 'x')", "INSERT INTO sa VALUES (1, 'x')", "ROLLBACK TO a", "SELECT count(*) FROM sa", "INSERT INTO sa VALUES (62, 'x')", "COMMIT", "DELETE FROM sa WHERE k IN (60, 61, 62)"]),
            one("a string of several is one transaction", &["INSERT INTO sa VALUES (60, 'x'); INSERT INTO sa VALUES (61, 'x'); INSERT INTO sa VALUES (1, 'x')", "SELECT count(*) FROM sa"]),
            one("a string with BEGIN and COMMIT", &["BEGIN; INSERT INTO sa VALUES (60, 'x'); INSERT INTO sa VALUES (61, 'x'); COMMIT; SELECT count(*) FROM sa", "DELETE FROM sa WHERE k = 60; DELETE FROM sa WHERE k = 61"]),
            one("a string with an error behind COMMIT", &["INSERT INTO sa VALUES (60, 'x'); COMMIT; INSERT INTO sa VALUES (1, 'x')", "SELECT count(*) FROM sa", "DELETE FROM sa WHERE k = 60"]),
            one("COMMIT AND CHAIN", &["BEGIN", "INSERT INTO sa VALUES (60, 'x')", "COMMIT AND CHAIN", "INSERT INTO sa VALUES (61, 'x')", "ROLLBACK", "DELETE FROM sa WHERE k = 60 OR k = 61"]),
            one("warnings", &["COMMIT", "ROLLBACK", "SAVEPOINT a", "BEGIN", "BEGIN", "ROLLBACK"]),
            one("settings reach every shard", &["SET application_name TO 'herd'", "SHOW application_name", "SELECT k, current_setting('application_name') FROM sa WHERE k = 1", "SELECT k, current_setting('application_name') FROM sa WHERE k = 4", "RESET application_name", "SHOW application_name"]),
            one("SET rolled back", &["BEGIN", "SET application_name TO 'herd'", "SELECT current_setting('application_name') FROM sa WHERE k = 2", "ROLLBACK", "SHOW application_name"]),
            one("SET LOCAL over shards", &["BEGIN", "SET LOCAL application_name TO 'herd'", "SELECT current_setting('application_name') FROM sa WHERE k = 2", "SELECT current_setting('application_name') FROM sa WHERE k = 3", "COMMIT", "SELECT current_setting('application_name') FROM sa WHERE k = 3"]),
            one("a failing SET", &["SET work_mem TO 'x'", "SHOW work_mem"]),
            one("DDL on all", &["CREATE TABLE sb (k bigint, v int)", "INSERT INTO sb VALUES (1, 1), (2, 2), (3, 3)", "SELECT sum(v) FROM sb", "TRUNCATE sb", "SELECT count(*) FROM sb", "DROP TABLE sb"]),
            one("DDL rolled back", &["BEGIN", "CREATE TABLE sc (k bigint)", "INSERT INTO sc VALUES (1), (2), (3)", "SELECT count(*) FROM sc", "ROLLBACK"]),
            script("extended by key", batch(&[parse("s", "SELECT v FROM sa WHERE k = $1", &[]), describe_statement("s"), sync(), named("1"), named("2"), named("3"), named("99"), named("4")], 6)),
            script("extended over shards in one batch", batch(&[run("INSERT INTO sa VALUES (70, 'x')"), run("INSERT INTO sa VALUES (71, 'x')"), run("INSERT INTO sa VALUES (72, 'x')"), run("SELECT count(*) FROM sa"), sync(), run("DELETE FROM sa WHERE k IN (70, 71, 72)"), sync()], 2)),
            script("an error takes the whole batch back, on all shards", batch(&[run("INSERT INTO sa VALUES (70, 'x')"), run("INSERT INTO sa VALUES (71, 'x')"), run("INSERT INTO sa VALUES (1, 'x')"), run("INSERT INTO sa VALUES (72, 'x')"), sync(), run("SELECT count(*) FROM sa"), sync()], 2)),
            script("several Sync over shards at once", batch(&(1..=7).flat_map(|k| [run(&format!("SELECT v FROM sa WHERE k = {k}")), sync()]).collect::<Vec<_>>(), 7)),
            script("several Query over shards at once", batch(&(1..=7).map(|k| query(&format!("SELECT v FROM sa WHERE k = {k}"))).collect::<Vec<_>>(), 7)),
            script("named statements in a pipeline over shards", batch(&[parse("s", "SELECT v FROM sa WHERE k = $1", &[]), bind("", "s", &["1"]), execute("", 0), bind("", "s", &["2"]), execute("", 0), bind("", "s", &["3"]), execute("", 0), sync()], 1)),
            script("unknown names over shards", batch(&[bind("", "nobody", &[]), execute("", 0), sync(), query("SELECT v FROM sa WHERE k = 1")], 2)),
            script("a bad key value", batch(&[parse("s", "SELECT v FROM sa WHERE k = $1", &[]), bind("", "s", &["one"]), execute("", 0), sync(), named("1")], 2)),
            script("a key out of range", batch(&[parse("s", "SELECT v FROM sa WHERE k = $1", &[]), bind("", "s", &["99999999999999999999"]), execute("", 0), sync(), named("1")], 2)),
            script("too few values", batch(&[parse("s", "SELECT v FROM sa WHERE k = $1", &[]), bind("", "s", &[]), execute("", 0), sync(), named("1")], 2)),
            script("Bind cut short", batch(&[parse("s", "SELECT v FROM sa WHERE k = $1", &[]), any(b'B', b"\0s\0\0"), sync(), named("1")], 2)),
            script("Bind with a length that lies", batch(&[parse("s", "SELECT v FROM sa WHERE k = $1", &[]), any(b'B', b"\0s\0\0\0\0\x01\x7f\xff\xff\xff1\0\0"), sync(), named("1")], 2)),
            script("Flush in a fan", vec![Step::Send([run("SELECT count(*) FROM sa"), flush()].concat()), Step::Until(b'C'), Step::Quiet, Step::Send(sync()), Step::Ready(1)]),
            script("Describe of a fan without Execute", batch(&[parse("s", "SELECT count(*), sum(k) FROM sa", &[]), describe_statement("s"), bind("p", "s", &[]), describe_portal("p"), sync()], 1)),
            script("a row limit by key in a transaction", join(vec![queries(&["BEGIN"]), batch(&[parse("s", "SELECT generate_series(1, 5), v FROM sa WHERE k = $1", &[]), bind("p", "s", &["3"]), execute("p", 2), sync()], 1), batch(&[execute("p", 2), sync()], 1), batch(&[execute("p", 9), sync()], 1), queries(&["COMMIT"])])),
            script("a row limit over shards in a transaction", join(vec![queries(&["BEGIN"]), batch(&[parse("s", "SELECT k, v FROM sa ORDER BY k", &[]), bind("p", "s", &[]), describe_portal("p"), execute("p", 3), sync()], 1), batch(&[execute("p", 2), sync()], 1), queries(&["SELECT count(*) FROM sa", "UPDATE sa SET v = v WHERE k = 2"]), batch(&[execute("p", 9), sync()], 1), batch(&[execute("p", 9), sync()], 1), queries(&["COMMIT"])])),
            script("a row limit over shards, then all that is left", join(vec![queries(&["BEGIN"]), batch(&[parse("s", "SELECT v FROM sa WHERE k > $1 ORDER BY k DESC", &[]), bind("p", "s", &["2"]), execute("p", 1), execute("p", 0), sync()], 1), queries(&["COMMIT"])])),
            script("a row limit over shards outside a transaction", batch(&[parse("", "SELECT k, v FROM sa ORDER BY k DESC LIMIT 4", &[]), bind("", "", &[]), describe_portal(""), execute("", 2), execute("", 2), execute("", 2), sync(), query("SELECT count(*) FROM sa")], 2)),
            script("one row over shards, and one asked for", batch(&[parse("", "SELECT count(*) FROM sa", &[]), bind("", "", &[]), execute("", 1), execute("", 1), sync()], 1)),
            script("a portal over shards that is closed", join(vec![queries(&["BEGIN"]), batch(&[parse("s", "SELECT k FROM sa ORDER BY k", &[]), bind("p", "s", &[]), execute("p", 2), any(b'C', b"Pp\0"), execute("p", 2), sync()], 1), queries(&["ROLLBACK"])])),
            one("rows in order, and some of them", &["SELECT k FROM sa ORDER BY k DESC LIMIT 3 OFFSET 1", "SELECT k FROM sa ORDER BY k FETCH FIRST 2 ROWS WITH TIES", "SELECT k FROM sa ORDER BY -k; SELECT k FROM sa ORDER BY k LIMIT 1"]),
            one("an error among sorted rows", &["SELECT 1 / (k - 6) FROM sa ORDER BY k", "BEGIN", "SELECT 1 / (k - 6) FROM sa ORDER BY k", "SELECT 1", "ROLLBACK", "SELECT count(*) FROM sa"]),
            script("BEGIN and COMMIT in a pipeline over shards", batch(&[run("BEGIN"), run("INSERT INTO sa VALUES (80, 'x')"), run("INSERT INTO sa VALUES (81, 'x')"), run("COMMIT"), sync(), query("DELETE FROM sa WHERE k IN (80, 81)")], 2)),
            script("Query behind an unfinished batch over shards", batch(&[run("INSERT INTO sa VALUES (82, 'x')"), query("INSERT INTO sa VALUES (83, 'x')"), sync(), query("DELETE FROM sa WHERE k IN (82, 83)")], 3)),
            script("a failing Query takes the batch before it back", batch(&[run("INSERT INTO sa VALUES (84, 'x')"), query("INSERT INTO sa VALUES (2, 'x')"), sync(), query("SELECT count(*) FROM sa")], 3)),
            script("an error without Sync, and a Query behind it", batch(&[run("SELECT 1/0"), query("BEGIN"), query("SELECT count(*) FROM sa"), sync(), query("SELECT count(*) FROM sa")], 2)),
            script("an error of a shard without Sync, and a Query behind it", batch(&[run("SELECT 1/0 FROM sa WHERE k = 1"), query("SELECT count(*) FROM sa"), sync(), query("SELECT count(*) FROM sa")], 2)),
            one("a table of one server", &["CREATE TABLE lone (a int)"]),
            script(
                "COPY in a batch over shards, Sync first as libpq sends it",
                vec![
                    Step::Send([run("INSERT INTO sa VALUES (90, 'x')"), run("INSERT INTO sa VALUES (91, 'x')"), run("COPY lone FROM STDIN"), sync()].concat()),
                    Step::Until(b'G'),
                    Step::Send([copy_data("1\n2\n"), copy_done(), sync()].concat()),
                    Step::Ready(1),
                    Step::Send(query("SELECT count(*) FROM lone")),
                    Step::Ready(1),
                    Step::Send(query("DELETE FROM sa WHERE k IN (90, 91)")),
                    Step::Ready(1),
                ],
            ),
            one("and gone", &["DROP TABLE lone"]),
            script("an error in a fan in a batch", batch(&[run("INSERT INTO sa VALUES (85, 'x')"), run("SELECT sum(1/(k-3)) FROM sa"), run("SELECT 1"), sync(), query("SELECT count(*) FROM sa")], 2)),
        ],
    );
}

#[test]
fn copy_over_four_shards_is_answered_as_by_one_server() {
    let stage = stage();
    stage.prepare("shop", &["CREATE TABLE sd (k bigint PRIMARY KEY, v text)"]);
    let from = || query("COPY sd FROM STDIN");
    let rows = || (1..=40).map(|k| copy_data(&format!("{k}\tv{k}\n"))).collect::<Vec<_>>().concat();
    let after =
        |steps: Vec<Step>| join(vec![steps, queries(&["SELECT count(*), sum(k) FROM sd", "TRUNCATE sd"])]);
    stage.compare(
        "shop",
        vec![
            script(
                "COPY FROM",
                after(vec![
                    Step::Send(from()),
                    Step::Until(b'G'),
                    Step::Send([rows(), copy_done()].concat()),
                    Step::Ready(1),
                ]),
            ),
            script(
                "COPY FROM, all at once, a Query behind",
                after(batch(&[from(), rows(), copy_done(), query("SELECT 1")], 2)),
            ),
            script(
                "rows cut anywhere",
                after(vec![
                    Step::Send(from()),
                    Step::Until(b'G'),
                    Step::Send(
                        "1\ta\n22\tb\n333\tcc\n"
                            .chars()
                            .map(|c| copy_data(&c.to_string()))
                            .collect::<Vec<_>>()
                            .concat(),
                    ),
                    Step::Send(copy_done()),
                    Step::Ready(1),
                ]),
            ),
            script(
                "CopyFail leaves nothing",
                after(batch(&[from(), rows(), copy_fail("no more"), query("SELECT 1")], 2)),
            ),
            script(
                "Sync and Flush during COPY",
                after(batch(&[from(), sync(), rows(), flush(), sync(), copy_done()], 1)),
            ),
            script(
                "a duplicate key leaves nothing",
                join(vec![
                    batch(&[from(), rows(), copy_done()], 1),
                    queries(&["SELECT count(*) FROM sd", "TRUNCATE sd"]),
                ]),
            ),
            script(
                "extended COPY FROM",
                after(vec![
                    Step::Send(
                        [parse("", "COPY sd FROM STDIN", &[]), bind("", "", &[]), execute("", 0), flush()]
                            .concat(),
                    ),
                    Step::Until(b'G'),
                    Step::Send([rows(), copy_done(), sync()].concat()),
                    Step::Ready(1),
                ]),
            ),
            script(
                "extended COPY FROM, Sync first",
                after(vec![
                    Step::Send(
                        [parse("", "COPY sd FROM STDIN", &[]), bind("", "", &[]), execute("", 0), sync()]
                            .concat(),
                    ),
                    Step::Until(b'G'),
                    Step::Send([rows(), copy_done(), sync()].concat()),
                    Step::Ready(1),
                    Step::Quiet,
                ]),
            ),
            script(
                "extended CopyFail",
                after(batch(
                    &[
                        parse("", "COPY sd FROM STDIN", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        rows(),
                        copy_fail("stop"),
                        sync(),
                        query("SELECT 1"),
                    ],
                    2,
                )),
            ),
            script(
                "a Query during COPY",
                vec![Step::Send([from(), rows(), query("SELECT 1")].concat()), Step::Closed],
            ),
            script(
                "COPY in a block",
                after(join(vec![
                    queries(&["BEGIN"]),
                    batch(&[from(), rows(), copy_done()], 1),
                    queries(&["SELECT count(*) FROM sd", "COMMIT"]),
                ])),
            ),
        ],
    );
}

/// A pinned client holds servers already when its transaction begins. They joined it without being asked, so a REPEATABLE READ
/// transaction read several shards, each at another moment; and one on another shard than the pin's was refused.
#[test]
fn a_pinned_client_reads_one_snapshot_in_repeatable_read() {
    let stage = stage();
    stage.prepare("shop", &["CREATE TABLE se (k bigint PRIMARY KEY, v text)"]);
    let mut wire = stage.endpoint.login("shop");
    wire.run("CREATE TEMP TABLE pinned (a int)");
    wire.run("UPDATE se SET v = v");
    let mut other = stage.endpoint.login("shop");
    for key in 1..=8 {
        wire.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
        wire.run(&format!("SELECT v FROM se WHERE k = {key}"));
        other.run("INSERT INTO se VALUES (1); INSERT INTO se VALUES (2), (3), (4), (5)");
        // Whatever shard the first statement was on, all are seen as they were then.
        assert_eq!(wire.value("SELECT count(*) FROM se"), Ok("0".to_owned()), "{key}");
        wire.run("COMMIT");
        other.run("DELETE FROM se");
    }
    for key in 1..=8 {
        wire.run("BEGIN ISOLATION LEVEL SERIALIZABLE");
        wire.run(&format!("SELECT v FROM se WHERE k = {key}"));
        let refusal = error_of(&wire.query("SELECT count(*) FROM se"));
        let several = "a SERIALIZABLE transaction cannot use more than one shard";
        assert!(refusal.as_deref().is_some_and(|error| error.contains(several)), "{key}: {refusal:?}");
        wire.run("ROLLBACK");
    }
    wire.run("BEGIN");
    assert_eq!(wire.value("SELECT count(*) FROM se"), Ok("0".to_owned()));
    wire.run("COMMIT");
}

/// Found by clients that left in the middle of random batches: COPY of one server's table ran as a part of a fan, which knows no
/// rows of COPY. COPY FROM waited for ever with places of the pools, COPY TO lost its rows without a word.
#[test]
fn copy_of_one_server_behind_a_batch_over_shards_is_refused_and_the_batch_taken_back() {
    let stage = stage();
    stage.prepare(
        "shop",
        &[
            "DROP TABLE IF EXISTS sf",
            "CREATE TABLE sf (k bigint)",
            "DROP TABLE IF EXISTS alone",
            "CREATE TABLE alone (a int)",
        ],
    );
    let insert = "INSERT INTO sf VALUES (1), (2), (3), (4)";
    for copy in ["COPY alone FROM STDIN", "COPY alone TO STDOUT", "COPY (SELECT 1) TO STDOUT"] {
        let mut wire = stage.endpoint.login("shop");
        wire.send(&[run(insert), query(copy)].concat());
        let said = wire.until(b'Z');
        let error = error_of(&said).unwrap_or_default();
        assert!(error.contains("cannot run COPY of one shard's table"), "{copy}: {}", show(&said));
        assert_eq!(wire.value("SELECT count(*) FROM sf").as_deref(), Ok("0"), "{copy}");
    }
    stage.prepare("shop", &["DROP TABLE sf", "DROP TABLE alone"]);
}

/// A CopyFail that no COPY waits for made pgherd ask for a Flush, and remember it: the next fan of the batch waited for replies
/// that the server had never been asked to send.
#[test]
fn a_batch_goes_on_over_shards_behind_a_stray_copy_fail() {
    let stage = stage();
    stage.prepare("shop", &["DROP TABLE IF EXISTS sc", "CREATE TABLE sc (k bigint)"]);
    let mut wire = stage.endpoint.login("shop");
    wire.send(
        &[run("SELECT pg_sleep(0.05)"), copy_fail("stray"), run("SELECT count(*) FROM sc"), sync()].concat(),
    );
    let said = wire.until(b'Z');
    assert_eq!(said.iter().filter(|m| m.kind == b'C').count(), 2, "{}", show(&said));
    stage.prepare("shop", &["DROP TABLE sc"]);
}

#[test]
fn explain_over_shards_shows_the_plan_and_each_shards_own() {
    let stage = stage();
    stage.prepare("shop", &["DROP TABLE IF EXISTS sg", "CREATE TABLE sg (k bigint, v text)"]);
    let mut wire = stage.endpoint.login("shop");
    let explain =
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT v FROM sg ORDER BY k DESC LIMIT 3 OFFSET 2";
    let lines = |said: &[Message]| -> Vec<String> {
        let rows = said.iter().filter(|message| message.kind == b'D');
        rows.map(|row| String::from_utf8_lossy(&row.body[6..]).into_owned()).collect()
    };
    let simple = wire.query(explain);
    wire.send(&[run(explain), sync()].concat());
    let extended = wire.until(b'Z');
    for said in [simple, extended] {
        let lines = lines(&said);
        let first = "pgherd: each of s0, s1, s2, s3: merge by hidden column 1 desc, offset 2, limit 3";
        assert_eq!(lines.first().map(String::as_str), Some(first), "{lines:?}");
        for shard in ["s0", "s1", "s2", "s3"] {
            assert!(lines.iter().any(|line| *line == format!("Shard {shard}:")), "{shard}: {lines:?}");
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with("  Limit")).count(), 4, "{lines:?}");
        let columns: Vec<_> = said.iter().filter(|message| message.kind == b'T').collect();
        assert!(
            matches!(columns[..], [one] if one.body.windows(10).any(|name| name == b"QUERY PLAN")),
            "{}",
            show(&said)
        );
        assert!(
            said.iter().any(|message| message.kind == b'C' && message.body == b"EXPLAIN\0"),
            "{}",
            show(&said)
        );
    }
    stage.prepare("shop", &["DROP TABLE sg"]);
}

/// A client that stops reading stops the shards, and gets every row in its order when it goes on.
#[test]
fn a_large_merge_waits_for_its_reader() {
    let stage = stage();
    stage.prepare(
        "shop",
        &[
            "DROP TABLE IF EXISTS sh",
            "CREATE TABLE sh (k bigint, v text)",
            "INSERT INTO sh SELECT k, repeat('x', 200) FROM generate_series(1, 40000) AS k",
        ],
    );
    let mut wire = stage.endpoint.login("shop");
    wire.send(&query("SELECT v, k FROM sh ORDER BY k"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut expected = 1;
    loop {
        match wire.hear(PATIENCE) {
            Heard::Message(Message { kind: b'D', body }) => {
                let digits = &body[2 + 4 + 200 + 4..];
                assert_eq!(std::str::from_utf8(digits).ok(), Some(expected.to_string().as_str()));
                expected += 1;
            }
            Heard::Message(Message { kind: b'Z', .. }) => break,
            Heard::Message(Message { kind: b'C', body }) => assert_eq!(body, b"SELECT 40000\0"),
            Heard::Message(Message { kind: b'T', .. }) => {}
            other => panic!("{other:?} after {expected} rows"),
        }
    }
    assert_eq!(expected, 40_001);
    // One that leaves in the middle leaves no server behind that cannot be used again.
    wire.send(&query("SELECT v, k FROM sh ORDER BY k"));
    drop(wire);
    let mut wire = stage.endpoint.login("shop");
    assert_eq!(wire.value("SELECT count(*) FROM sh").as_deref(), Ok("40000"));
    stage.prepare("shop", &["DROP TABLE sh"]);
}

/// A portal over shards that was to be described when its batch failed was described by a later one: the client got an error that
/// belonged to nothing it had asked.
#[test]
fn a_savepoint_is_come_back_to_after_any_failure() {
    let stage = stage();
    stage.prepare("shop", &["CREATE TABLE si (k bigint PRIMARY KEY, v text)"]);
    let extended = |sql: &str| {
        batch(&[parse("", sql, &[]), bind("", "", &[]), describe_portal(""), execute("", 0), sync()], 1)
    };
    let back = || {
        join(vec![
            batch(
                &[close_statement("d"), parse("d", "ROLLBACK TO s", &[]), describe_statement("d"), sync()],
                1,
            ),
            batch(&[bind("", "d", &[]), describe_portal(""), execute("", 0), sync()], 1),
        ])
    };
    stage.compare(
        "shop",
        [
            ("a failing gather", "SELECT v FROM si WHERE k = 2 OR k = 5 UNION SELECT k FROM si"),
            ("a failing union", "SELECT k FROM si WHERE v = 1"),
            ("a failing merge", "SELECT k FROM si ORDER BY nothing"),
            ("failing rows", "INSERT INTO si VALUES (1, 'x'), (1, 'y')"),
        ]
        .into_iter()
        .map(|(why, failing)| {
            script(
                why,
                join(vec![
                    queries(&["BEGIN", "SAVEPOINT s", "INSERT INTO si VALUES (7, 'a')", "ROLLBACK TO s"]),
                    extended(failing),
                    back(),
                    queries(&["SELECT count(*) FROM si", "ROLLBACK"]),
                ]),
            )
        })
        .collect(),
    );
    stage.prepare("shop", &["DROP TABLE si"]);
}
