//! Batches over four shards that fail, or are cut by a Query: what comes of the messages that PostgreSQL skips, and of those
//! that pgherd answers itself.
//!
//! Found by somebody who set out to break pgherd with batches of his own making.

use crate::raw::*;
use crate::*;

fn run(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat()
}

/// Each list in one write, and heard to its last ReadyForQuery before the next one.
fn batches(of: &[&[Vec<u8>]]) -> Vec<Step> {
    let ready = |messages: &[Vec<u8>]| count(&messages.concat(), b"SQ");
    of.iter().flat_map(|messages| batch(messages, ready(messages))).collect()
}

/// How many messages of these types there are.
fn count(bytes: &[u8], kinds: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(head) = bytes.get(at..at + 5) {
        count += usize::from(kinds.contains(&head[0]));
        at += 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    }
    count
}

/// DEALLOCATE and DISCARD ALL are pgherd's own: no server skipped them behind an error, and they took effect, with a
/// CommandComplete behind the ErrorResponse.
#[test]
fn what_no_server_sees_is_skipped_behind_an_error_all_the_same() {
    let stage = stage();
    stage.prepare("shop", &["DROP TABLE IF EXISTS ba", "CREATE TABLE ba (k bigint PRIMARY KEY, v text)"]);
    let mut scripts = Vec::new();
    for (database, table) in [("shop", "ba"), ("plain", "pg_class")] {
        for (why, sql) in [
            ("DEALLOCATE ALL", "DEALLOCATE ALL"),
            ("DEALLOCATE", "DEALLOCATE x"),
            ("DEALLOCATE PREPARE", "DEALLOCATE PREPARE x"),
            ("DISCARD ALL", "DISCARD ALL"),
            ("SET", "SET TimeZone = 'Asia/Tokyo'"),
            ("SET LOCAL", "SET LOCAL TimeZone = 'Asia/Tokyo'"),
            ("BEGIN", "BEGIN"),
            ("COMMIT", "COMMIT"),
            ("ROLLBACK", "ROLLBACK"),
            ("SAVEPOINT", "SAVEPOINT a"),
            ("LISTEN", "LISTEN nothing"),
            ("UNLISTEN", "UNLISTEN *"),
            ("the empty statement", ""),
        ] {
            for (error, failing) in [("an error", "SELECT 1/0"), ("an error of parsing", "SELECT nothing")] {
                let why: &'static str = format!("{why} behind {error}, {database}").leak();
                let steps = batches(&[
                    &[parse("x", &format!("SELECT count(*) FROM {table} WHERE false"), &[]), sync()],
                    &[run(failing), run(sql), sync()],
                    &[bind("", "x", &[]), execute("", 0), sync()],
                    &[query("SHOW TimeZone")],
                ]);
                scripts.push((database, script(why, steps)));
            }
        }
    }
    for (database, script) in scripts {
        stage.compare(database, vec![script]);
    }
    stage.prepare("shop", &["DROP TABLE ba"]);
}

/// A statement over several shards was bound before it was known whether its Parse was skipped, and ran in the next batch of the
/// same write.
#[test]
fn statements_over_shards_that_were_skipped_are_not_there_for_the_next_batch() {
    let stage = stage();
    stage.prepare(
        "shop",
        &[
            "DROP TABLE IF EXISTS bb",
            "CREATE TABLE bb (k bigint PRIMARY KEY, v text)",
            "INSERT INTO bb SELECT g, 'v' FROM generate_series(1, 9) g",
        ],
    );
    let bad = || run("SELECT 1/0");
    let update = "UPDATE bb SET v = v";
    let select = "SELECT k FROM bb ORDER BY k";
    let mut scripts = Vec::new();
    for (kind, sql) in [("a write", update), ("a merge", select), ("an aggregate", "SELECT count(*) FROM bb")]
    {
        let named = |what: &str| -> &'static str { format!("{what}: {kind}").leak() };
        let mut add = |what: &str, of: &[&[Vec<u8>]]| scripts.push(script(named(what), batches(of)));
        add(
            "Parse fails",
            &[&[
                parse("", "SELEC", &[]),
                parse("", sql, &[]),
                bind("", "", &[]),
                sync(),
                execute("", 0),
                sync(),
            ]],
        );
        add(
            "Parse is skipped",
            &[&[bad(), parse("x", sql, &[]), sync(), bind("", "x", &[]), execute("", 0), sync()]],
        );
        add(
            "Bind is skipped",
            &[
                &[parse("x", sql, &[]), sync()],
                &[bad(), bind("p", "x", &[]), sync(), execute("p", 0), sync()],
            ],
        );
        add(
            "Parse is skipped, and sent once more",
            &[&[
                bad(),
                parse("x", sql, &[]),
                sync(),
                parse("x", sql, &[]),
                bind("", "x", &[]),
                execute("", 0),
                sync(),
            ]],
        );
        add(
            "the unnamed one is skipped, and sent once more",
            &[&[
                bad(),
                parse("", sql, &[]),
                sync(),
                parse("", sql, &[]),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ]],
        );
        add(
            "the same with a failing fan",
            &[&[
                run("SELECT sum(1/(k-3)) FROM bb"),
                parse("", sql, &[]),
                sync(),
                parse("", sql, &[]),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ]],
        );
    }
    for (why, sql) in [("BEGIN", "BEGIN"), ("SET", "SET TimeZone = 'Asia/Tokyo'")] {
        let why: &'static str = format!("{why} is parsed behind an error").leak();
        scripts.push(script(
            why,
            batches(&[&[
                bad(),
                parse("x", sql, &[]),
                sync(),
                bind("", "x", &[]),
                execute("", 0),
                sync(),
                query("SHOW TimeZone"),
            ]]),
        ));
        let again: &'static str = format!("{why}, and once more").leak();
        scripts.push(script(
            again,
            batches(&[&[
                bad(),
                parse("", sql, &[]),
                sync(),
                parse("", sql, &[]),
                bind("", "", &[]),
                execute("", 0),
                sync(),
                query("SHOW TimeZone; ROLLBACK"),
            ]]),
        ));
    }
    stage.compare("shop", scripts);
    stage.prepare("shop", &["DROP TABLE bb"]);
}

/// What has to commit by itself took effect behind statements of the same batch, and committed them.
#[test]
fn what_must_commit_by_itself_is_refused_within_a_pipeline() {
    let stage = stage();
    stage.prepare("shop", &["DROP TABLE IF EXISTS bc", "CREATE TABLE bc (k bigint PRIMARY KEY, v text)"]);
    let one = || run("INSERT INTO bc VALUES (1, 'z')");
    let two = || run("INSERT INTO bc VALUES (1, 'z'), (2, 'z'), (3, 'z'), (4, 'z')");
    let count = || query("SELECT count(*) FROM bc");
    let mut scripts = Vec::new();
    for alone in ["DISCARD ALL", "VACUUM bc", "CREATE INDEX CONCURRENTLY bci ON bc (v)"] {
        let mut add = |what: &str, of: &[&[Vec<u8>]]| {
            let why: &'static str = format!("{alone} {what}").leak();
            let then: &[Vec<u8>] = &[count()];
            scripts.push(script(why, batches(&[of, &[then, &[query("DROP INDEX IF EXISTS bci")]]].concat())));
        };
        add("behind one row", &[&[one(), run(alone), sync()]]);
        add("behind rows of several shards", &[&[two(), run(alone), sync()]]);
        add("behind a read of one shard", &[&[run("SELECT v FROM bc WHERE k = 1"), run(alone), sync()]]);
        add("behind a read of several", &[&[run("SELECT count(*) FROM bc"), run(alone), sync()]]);
        add(
            "behind BEGIN in a pipeline",
            &[&[run("BEGIN"), one(), run(alone), sync()], &[query("ROLLBACK")]],
        );
        add(
            "in a block",
            &[&[query("BEGIN"), query("INSERT INTO bc VALUES (1, 'z')"), query(alone), query("ROLLBACK")]],
        );
        add(
            "in a block, extended",
            &[&[query("BEGIN"), two(), sync(), run(alone), sync(), query("ROLLBACK")]],
        );
        add("as a Query behind one row", &[&[one(), query(alone)], &[sync()]]);
        add("as a Query behind rows of several shards", &[&[two(), query(alone)], &[sync()]]);
        add("in a string", &[&[query(&format!("SELECT 1; {alone}"))]]);
        add("behind a Parse only", &[&[parse("x", "SELECT v FROM bc WHERE k = 1", &[]), run(alone), sync()]]);
        add("alone", &[&[run(alone), sync()]]);
    }
    stage.compare("shop", scripts);
    stage.prepare("shop", &["DROP TABLE bc"]);
}

/// The Query is the end of the batch's transaction, on whatever shard it runs: its ReadyForQuery said T or E of pgherd's own
/// transaction, and the next statement was refused.
#[test]
fn a_query_behind_an_unfinished_batch_ends_its_transaction() {
    let stage = stage();
    stage.prepare("shop", &["DROP TABLE IF EXISTS bd", "CREATE TABLE bd (k bigint PRIMARY KEY, v int)"]);
    let insert = |k: u8| run(&format!("INSERT INTO bd VALUES ({k}, 1)"));
    let count = || query("SELECT count(*), min(k) FROM bd");
    let mut scripts = Vec::new();
    // Whatever shard the first row is on, some of the others are elsewhere.
    for k in 2..7 {
        let mut add = |what: &str, sql: &str| {
            let why: &'static str = format!("{what}, {k}").leak();
            let batches = batches(&[
                &[insert(1), query(sql)],
                &[count()],
                &[sync()],
                &[query("SELECT 6"), query("DELETE FROM bd")],
            ]);
            scripts.push(script(why, batches));
        };
        add("a row", &format!("INSERT INTO bd VALUES ({k}, 1)"));
        add("a row that fails", &format!("INSERT INTO bd VALUES ({k}, 1/0)"));
        add("a read", &format!("SELECT v FROM bd WHERE k = {k}"));
        add("two statements", &format!("INSERT INTO bd VALUES ({k}, 1); SELECT 5"));
        add("two statements, the second fails", &format!("INSERT INTO bd VALUES ({k}, 1); SELECT 1/0"));
    }
    stage.compare("shop", scripts);
    stage.prepare("shop", &["DROP TABLE bd"]);
}

/// An error of pgherd's own was said in the place of the server's that came first.
#[test]
fn the_first_error_of_a_batch_is_the_batchs() {
    let stage = stage();
    let nosuch = || parse("", "SELECT * FROM nosuch", &[]);
    let mut scripts = Vec::new();
    for (why, own) in [
        ("an unknown portal", execute("q", 0)),
        ("an unknown statement", bind("", "nobody", &[])),
        ("a Describe of nothing", describe_portal("q")),
        ("two statements in one Parse", parse("", "SELECT 1; SELECT 2", &[])),
        ("a malformed message", any(b'C', b"Zx\0")),
    ] {
        scripts.push(script(
            why,
            batches(&[&[
                nosuch(),
                bind("p", "", &[]),
                describe_portal("p"),
                execute("p", 0),
                own,
                sync(),
                query("SELECT 1"),
            ]]),
        ));
    }
    stage.compare("shop", scripts);
}
