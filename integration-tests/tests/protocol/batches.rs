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
        let set = || run("SET LOCAL TimeZone = 'Asia/Tokyo'");
        // These do commit.
        let kept = || run("INSERT INTO bc VALUES (9, 'z') ON CONFLICT DO NOTHING");
        add(
            "behind a transaction",
            &[&[query("BEGIN"), kept(), sync(), set(), sync(), query("COMMIT")], &[query(alone)]],
        );
        add("behind a batch", &[&[kept(), set(), sync(), run(alone), sync()]]);
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

/// A portal over several shards was pgherd's alone until its Execute: it read what had been written since its Bind, outlived its
/// savepoint and its transaction, and its description came when it could, or never.
#[test]
fn a_portal_over_shards_is_a_portal() {
    let stage = stage();
    stage.prepare(
        "shop",
        &[
            "DROP TABLE IF EXISTS be",
            "CREATE TABLE be (k bigint PRIMARY KEY, v int)",
            "INSERT INTO be SELECT g, g FROM generate_series(1, 9) g",
        ],
    );
    let merge = || parse("", "SELECT k, v FROM be ORDER BY k", &[]);
    let union = || parse("", "SELECT 7 FROM be", &[]);
    let total = || parse("", "SELECT count(*) FROM be", &[]);
    let write = || query("UPDATE be SET v = v + 100");
    let one = || run("SELECT v FROM be WHERE k = 3");
    let p = || bind("p", "", &[]);
    let (some, all) = (|| execute("p", 2), || execute("p", 0));
    let (begin, back) = (|| query("BEGIN"), || query("ROLLBACK"));
    let (savepoint, to) = (|| query("SAVEPOINT a"), || query("ROLLBACK TO a"));
    let describe = || describe_portal("p");
    let named = |sql: &str| parse("b", sql, &[]);
    let s = sync;
    stage.compare(
        "shop",
        vec![
            // What it reads.
            script(
                "bound, then a write",
                batches(&[&[begin()], &[merge(), p(), s()], &[write()], &[all(), s()], &[back()]]),
            ),
            script(
                "bound, then a write, in one go",
                batches(&[&[begin(), merge(), p(), s(), write(), all(), s(), back()]]),
            ),
            script(
                "bound, then a write in the same batch",
                batches(&[&[
                    merge(),
                    p(),
                    run("UPDATE be SET v = v + 100"),
                    all(),
                    run("SELECT sum(v) FROM be"),
                    run("ROLLBACK"),
                    s(),
                ]]),
            ),
            script(
                "bound, then a DELETE on one shard",
                batches(&[
                    &[begin()],
                    &[merge(), p(), s()],
                    &[query("DELETE FROM be WHERE k = 3")],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "some rows, then a write",
                batches(&[
                    &[begin()],
                    &[merge(), p(), some(), s()],
                    &[write()],
                    &[some(), s()],
                    &[query("DELETE FROM be WHERE k > 4")],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "some rows, another merge, more rows",
                batches(&[
                    &[begin()],
                    &[merge(), p(), some(), s()],
                    &[query("SELECT v, k FROM be ORDER BY k DESC LIMIT 2")],
                    &[some(), s()],
                    &[query("SELECT k FROM be ORDER BY k LIMIT 1")],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "in no order, then a write",
                batches(&[
                    &[begin()],
                    &[union(), p(), s()],
                    &[query("DELETE FROM be")],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "flushed, then a write",
                batches(&[
                    &[begin()],
                    &[merge(), p(), flush(), run("UPDATE be SET v = v + 100"), all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "a write is bound, another runs",
                batches(&[
                    &[begin()],
                    &[parse("", "UPDATE be SET v = v + 1", &[]), p(), s()],
                    &[write()],
                    &[all(), s()],
                    &[query("SELECT sum(v) FROM be"), back()],
                ]),
            ),
            script(
                "an error at Execute",
                batches(&[
                    &[begin()],
                    &[parse("", "SELECT 1/(v-1) FROM be ORDER BY k", &[]), p(), s()],
                    &[query("SELECT 1")],
                    &[describe(), s()],
                    &[all(), s()],
                    &[query("SELECT 1"), back()],
                ]),
            ),
            // How long it lives.
            script(
                "back to a savepoint before it",
                batches(&[
                    &[begin()],
                    &[savepoint()],
                    &[merge(), p(), some(), s()],
                    &[to()],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "back to a savepoint before it, not executed",
                batches(&[
                    &[begin()],
                    &[savepoint()],
                    &[merge(), p(), s()],
                    &[to()],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "back to a savepoint behind it",
                batches(&[
                    &[begin()],
                    &[merge(), p(), some(), s()],
                    &[savepoint()],
                    &[write()],
                    &[some(), s()],
                    &[to()],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "back to a savepoint behind it, executed behind that",
                batches(&[
                    &[begin()],
                    &[merge(), p(), s()],
                    &[savepoint()],
                    &[some(), s()],
                    &[to()],
                    &[some(), s()],
                    &[back()],
                ]),
            ),
            script(
                "released, and back to one before",
                batches(&[
                    &[begin()],
                    &[savepoint()],
                    &[query("SAVEPOINT b")],
                    &[merge(), p(), some(), s()],
                    &[query("RELEASE b")],
                    &[some(), s()],
                    &[to()],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "made behind a rollback to the savepoint",
                batches(&[
                    &[begin()],
                    &[savepoint()],
                    &[to()],
                    &[merge(), p(), some(), s()],
                    &[to()],
                    &[all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "past its transaction",
                batches(&[&[begin()], &[merge(), p(), some(), s()], &[query("COMMIT")], &[all(), s()]]),
            ),
            script(
                "past its transaction, all in one go",
                batches(&[&[
                    begin(),
                    merge(),
                    p(),
                    some(),
                    s(),
                    query("COMMIT"),
                    begin(),
                    all(),
                    s(),
                    back(),
                ]]),
            ),
            script("past a Sync", batches(&[&[total(), p(), s(), all(), s()]])),
            script("past a Query", batches(&[&[total(), p(), query("SELECT 5"), all(), s()]])),
            script("a BEGIN past a Sync", batches(&[&[parse("", "BEGIN", &[]), p(), s(), all(), s()]])),
            script("its name is taken", batches(&[&[begin()], &[merge(), p(), some(), p(), s()], &[back()]])),
            script(
                "the one without a name makes room",
                batches(&[
                    &[begin()],
                    &[merge(), bind("", "", &[]), execute("", 2), bind("", "", &[]), execute("", 3), s()],
                    &[back()],
                ]),
            ),
            // Its description.
            script("described, then something else", batches(&[&[total(), p(), describe(), one(), s()]])),
            script(
                "described, then something else of several shards",
                batches(&[&[total(), p(), describe(), run("SELECT sum(v) FROM be"), s()]]),
            ),
            script(
                "described, then a Parse",
                batches(&[&[total(), p(), describe(), parse("x", "SELECT 1", &[]), s()]]),
            ),
            script("described, closed", batches(&[&[total(), p(), describe(), close_portal("p"), s()]])),
            script(
                "described, something else closed",
                batches(&[&[total(), p(), describe(), close_statement("nobody"), s()]]),
            ),
            script(
                "described, bound once more",
                batches(&[&[
                    begin(),
                    named("UPDATE be SET v = v + 1"),
                    p_of("b"),
                    describe(),
                    close_portal("p"),
                    p_of("b"),
                    all(),
                    s(),
                    back(),
                ]]),
            ),
            script(
                "described, then a Query",
                batches(&[&[
                    named("SELECT k FROM be ORDER BY k LIMIT 1"),
                    p_of("b"),
                    describe(),
                    query("SELECT 5"),
                    s(),
                ]]),
            ),
            script(
                "described twice, executed",
                batches(&[&[total(), p(), describe(), describe(), all(), s()]]),
            ),
            script(
                "described, the other one executed",
                batches(&[&[total(), p(), bind("", "", &[]), describe(), execute("", 0), s()]]),
            ),
            script(
                "described once it has run",
                batches(&[
                    &[begin()],
                    &[merge(), p(), all(), describe(), s()],
                    &[describe(), s()],
                    &[back()],
                ]),
            ),
            script(
                "described between two pieces",
                batches(&[
                    &[begin()],
                    &[merge(), p(), some(), describe(), some(), s()],
                    &[describe(), all(), s()],
                    &[back()],
                ]),
            ),
            script(
                "described, and the client's own unnamed portal",
                batches(&[
                    &[begin()],
                    &[
                        total(),
                        p(),
                        parse("", "SELECT v FROM be WHERE k = 1", &[]),
                        bind("", "", &[]),
                        describe(),
                        execute("", 0),
                        s(),
                    ],
                    &[back()],
                ]),
            ),
            script(
                "described behind an error",
                batches(&[&[run("SELECT 1/0"), total(), p(), describe(), s()], &[query("SELECT 1")]]),
            ),
        ],
    );
    stage.prepare("shop", &["DROP TABLE be"]);
}

fn p_of(statement: &str) -> Vec<u8> {
    bind("p", statement, &[])
}

/// Where no server is asked, pgherd was easier to please than PostgreSQL, or said less.
#[test]
fn what_pgherd_answers_itself_is_answered_as_postgresql_does() {
    let stage = stage();
    stage.prepare(
        "shop",
        &[
            "DROP TABLE IF EXISTS bf",
            "CREATE TABLE bf (k bigint PRIMARY KEY, v int)",
            "INSERT INTO bf SELECT g, g FROM generate_series(1, 9) g",
        ],
    );
    let counted = |sql: &str, values: &[&str]| {
        batches(&[&[parse("", sql, &[]), bind("", "", values), execute("", 0), sync(), query("SELECT 1")]])
    };
    let named = |sql: &str, values: &[&str]| {
        batches(&[&[parse("s", sql, &[]), bind("", "s", values), execute("", 0), sync(), query("SELECT 1")]])
    };
    let twice = |sql: &str| batches(&[&[run(sql), execute("", 0), sync(), query("SELECT sum(v) FROM bf")]]);
    let taken = |sql: &str| {
        batches(&[&[parse("a", "SELECT 1", &[]), sync()], &[parse("a", sql, &[]), sync(), query("SELECT 1")]])
    };
    let zone = "SET LOCAL TimeZone = 'Asia/Tokyo'";
    let one = || run("UPDATE bf SET v = v WHERE k = 1");
    let several = || run("UPDATE bf SET v = v");
    stage.compare(
        "shop",
        vec![
            script(
                "no value for a parameter over shards",
                counted("SELECT k FROM bf WHERE v = $1 ORDER BY k", &[]),
            ),
            script("two values for one", named("SELECT k FROM bf WHERE v = $1 ORDER BY k", &["1", "2"])),
            script("a value for none", counted("UPDATE bf SET v = v", &["1"])),
            script("the second one is missing", named("UPDATE bf SET v = $2 WHERE v = $1", &["1"])),
            script("a value for BEGIN", counted("BEGIN", &["1"])),
            script("a value for SET", named("SET TimeZone = 'Asia/Tokyo'", &["1"])),
            script("a value for DEALLOCATE ALL", counted("DEALLOCATE ALL", &["1"])),
            script("a merge, executed twice", twice("SELECT k FROM bf ORDER BY k")),
            script("a union, executed twice", twice("SELECT 7 FROM bf")),
            script("an aggregate, executed twice", twice("SELECT count(*) FROM bf")),
            script("a write, executed twice", twice("UPDATE bf SET v = v + 1")),
            script("a taken name, and a mistake", taken("SELEC")),
            script("a taken name, and an unknown table", taken("SELECT * FROM nosuch")),
            script("a taken name, and an unknown column", taken("SELECT nothing FROM bf WHERE k = 1")),
            script("a taken name", taken("SELECT v FROM bf WHERE k = 1")),
            script("a taken name for several shards", taken("SELECT k FROM bf ORDER BY k")),
            script("a taken name for BEGIN", taken("BEGIN")),
            script("SET LOCAL in a batch", batches(&[&[run(zone), sync(), query("SHOW TimeZone")]])),
            script(
                "SET LOCAL behind a row",
                batches(&[&[one(), run(zone), run("SHOW TimeZone"), sync(), query("SHOW TimeZone")]]),
            ),
            script(
                "SET LOCAL behind rows of several shards",
                batches(&[&[several(), run(zone), run("SHOW TimeZone"), sync(), query("SHOW TimeZone")]]),
            ),
            script("SET LOCAL before a row", batches(&[&[run(zone), one(), sync(), query("SHOW TimeZone")]])),
            script(
                "SET LOCAL in a string",
                batches(&[&[
                    query("SELECT 1; SET LOCAL TimeZone = 'Asia/Tokyo'; SHOW TimeZone"),
                    query("SHOW TimeZone"),
                ]]),
            ),
            script(
                "SET LOCAL in a block of a batch",
                batches(&[&[
                    run("BEGIN"),
                    one(),
                    run(zone),
                    run("SHOW TimeZone"),
                    run("ROLLBACK"),
                    sync(),
                    query("SHOW TimeZone"),
                ]]),
            ),
        ],
    );
    stage.prepare("shop", &["DROP TABLE bf"]);
}
