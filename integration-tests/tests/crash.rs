//! Does anything get lost, doubled or torn when pgherd, a PostgreSQL server or a client is killed?
//!
//! The first three tests are the short form of `soak.rs`: kills under load. The others kill at one chosen moment, and know
//! exactly what must be true afterwards.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pgherd_integration_tests::load::Load;
use pgherd_integration_tests::psql::Psql;
use pgherd_integration_tests::{Stage, StageOptions, torment, until};

#[test]
fn pgherd_killed_at_random_moments_under_load_loses_and_doubles_nothing() {
    torment::pgherd_killed_at_random(3);
}

#[test]
fn pgherd_killed_at_each_step_of_a_commit_leaves_it_whole_or_undone() {
    torment::pgherd_killed_at_each_step(1);
}

#[test]
fn a_killed_and_restarted_server_loses_nothing_that_was_acknowledged() {
    torment::a_server_killed(1);
}

/// Rows of the table `items` (id, v), with v 0: two that live on each shard.
struct Items {
    by_shard: Vec<[i64; 2]>,
}

const ITEMS: i64 = 64;

impl Items {
    fn make(stage: &Stage) -> Self {
        stage.ask("CREATE TABLE items (id bigint PRIMARY KEY, v bigint NOT NULL)");
        let values: Vec<String> = (1..=ITEMS).map(|id| format!("({id}, 0)")).collect();
        stage.ask(&format!("INSERT INTO items (id, v) VALUES {}", values.join(", ")));
        let by_shard = stage
            .ask_servers("SELECT id FROM items ORDER BY id LIMIT 2")
            .iter()
            .map(|answer| {
                let ids: Vec<i64> = answer.lines().map(|id| id.parse().expect("a number")).collect();
                [ids[0], ids[1]]
            })
            .collect();
        Self { by_shard }
    }

    fn on(&self, shard: usize) -> i64 {
        self.by_shard[shard][0]
    }

    /// An update that adds 1 to a row of the shard.
    fn touch(&self, shard: usize) -> String {
        format!("UPDATE items SET v = v + 1 WHERE id = {}", self.on(shard))
    }

    /// The sum over the rows of each shard, past pgherd.
    fn sums(&self, stage: &Stage) -> Vec<String> {
        stage.ask_servers("SELECT sum(v) FROM items")
    }
}

fn two_shards() -> (Stage, Items) {
    let stage = Stage::start(&StageOptions { shards: 2, ..StageOptions::default() });
    let items = Items::make(&stage);
    (stage, items)
}

/// At COMMIT or PREPARE of a transaction that changed items of this server, it sleeps so long.
fn slow_commits(stage: &Stage, server: usize, seconds: u32) {
    stage.ask_server(
        server,
        &format!(
            "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF current_query() LIKE 'SET CONSTRAINTS%' THEN
                     SET CONSTRAINTS ALL DEFERRED;
                     UPDATE items SET v = v WHERE id = NEW.id;
                 ELSE
                     PERFORM pg_sleep({seconds});
                 END IF;
                 RETURN NULL;
             END $$;
             CREATE CONSTRAINT TRIGGER doze AFTER UPDATE ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION doze()"
        ),
    );
}

/// A lock on the table `items` of one server, held past pgherd until it is dropped: statements that need the table wait.
struct Locked<'a> {
    stage: &'a Stage,
    server: usize,
    child: Child,
}

const LOCK: &str = "BEGIN; LOCK TABLE items; SELECT pg_sleep(60)";

impl<'a> Locked<'a> {
    fn hold(stage: &'a Stage, server: usize) -> Self {
        let mut command = stage.herd().binaries().command("psql");
        command.args(["-X", "-q", "-d", &stage.herd().control_url(server), "-c", LOCK]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql starts");
        let locked = Self { stage, server, child };
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'items'::regclass AND mode = 'AccessExclusiveLock' AND granted";
        until("the table is locked", Duration::from_secs(10), || stage.ask_server(server, held) == "1");
        locked
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Its server sleeps on without it. Where that was killed, nothing is left to end.
        let end =
            format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query = '{LOCK}'");
        let _ = self.stage.herd().psql(self.server, &end);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a statement of the application waits for a lock on a server.
fn waits(stage: &Stage, server: usize) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Lock'";
    until(&format!("a statement waits on server {server}"), Duration::from_secs(10), || {
        stage.ask_server(server, sql) == "1"
    });
}

/// Waits until a statement like this runs on a server.
fn runs(stage: &Stage, server: usize, like: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND usename = 'app' AND query LIKE '{like}'"
    );
    until(&format!("{like} runs on server {server}"), Duration::from_secs(10), || {
        stage.ask_server(server, &sql) != "0"
    });
}

fn lost(codes: &[String]) -> bool {
    matches!(codes, [code] if code == "08006" || code == "57P01" || code == "57P02")
}

#[test]
fn a_server_killed_in_the_middle_of_a_statement_is_one_error_and_the_session_lives_on() {
    let (stage, items) = two_shards();
    let mut psql = Psql::start(&stage);
    for (why, sql) in [
        ("one shard", items.touch(1)),
        ("all shards", "SELECT * FROM items".to_owned()),
        ("an aggregate", "SELECT sum(v) FROM items".to_owned()),
        ("a write on all shards", "UPDATE items SET v = v + 1".to_owned()),
    ] {
        let locked = Locked::hold(&stage, 1);
        psql.say(&sql);
        waits(&stage, 1);
        stage.herd().kill9(1).unwrap();
        drop(locked);
        let said = psql.answer();
        assert!(lost(&Psql::errors(&said)), "{why}: {said:?}");
        assert_eq!(psql.ask(&format!("SELECT v FROM items WHERE id = {}", items.on(0))), ["0"], "{why}");
        stage.herd().restart(1).unwrap();
        until("the session reaches the restarted server", Duration::from_secs(10), || {
            stage.herd().psql_at(&stage.url(), &items.touch(1)).is_ok()
        });
        assert_eq!(psql.ask(&items.touch(1)), ["UPDATE 1"], "{why}");
        stage.check_nothing_left(Instant::now(), why);
        stage.ask("UPDATE items SET v = 0");
    }
    stage.check_no_panic();
}

#[test]
fn a_server_killed_between_two_statements_of_a_transaction_undoes_it_everywhere() {
    let (stage, items) = two_shards();
    for (why, next) in [
        ("a statement for the lost server", Some(items.touch(1))),
        ("a statement for the other one", Some(items.touch(0))),
        ("COMMIT at once", None),
    ] {
        let mut psql = Psql::start(&stage);
        for (sql, tag) in [("BEGIN", "BEGIN"), (&items.touch(0), "UPDATE 1"), (&items.touch(1), "UPDATE 1")] {
            assert_eq!(psql.ask(sql), [tag], "{why}");
        }
        stage.herd().kill9(1).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        if let Some(sql) = next {
            let said = psql.ask(&sql);
            assert!(lost(&Psql::errors(&said)), "{why}: {said:?}");
            let said = psql.ask("SELECT 1");
            assert_eq!(Psql::errors(&said), ["25P02"], "{why}: {said:?}");
            assert_eq!(psql.ask("COMMIT"), ["ROLLBACK"], "{why}");
        } else {
            // Nobody has told the client yet: a tag alone would pass for a success.
            let said = psql.ask("COMMIT");
            assert_eq!(Psql::errors(&said).len(), 1, "{why}: {said:?}");
        }
        assert_eq!(psql.ask(&format!("SELECT v FROM items WHERE id = {}", items.on(0))), ["0"], "{why}");
        stage.herd().restart(1).unwrap();
        stage.check_nothing_left(Instant::now(), why);
        assert_eq!(items.sums(&stage), ["0", "0"], "{why}");
    }
    stage.check_no_panic();
}

#[test]
fn a_deciding_server_killed_during_commit_is_08007_and_the_transaction_is_whole() {
    let (stage, items) = two_shards();
    // The first shard that a transaction writes to decides.
    slow_commits(&stage, 0, 3);
    let mut psql = Psql::start(&stage);
    for sql in ["BEGIN".to_owned(), items.touch(0), items.touch(1)] {
        psql.ask(&sql);
    }
    psql.say("COMMIT");
    runs(&stage, 0, "COMMIT%");
    assert_eq!(stage.prepared(), 1, "the other one has promised");
    stage.herd().kill9(0).unwrap();
    let said = psql.answer();
    assert_eq!(Psql::errors(&said), ["08007"], "{said:?}");
    assert_eq!(psql.ask(&format!("SELECT v FROM items WHERE id = {}", items.by_shard[1][1])), ["0"]);
    stage.herd().restart(0).unwrap();
    stage.check_nothing_left(Instant::now(), "after the restart");
    assert_eq!(items.sums(&stage), ["0", "0"], "it was killed before it decided");
    stage.check_no_panic();
}

#[test]
fn a_server_killed_while_it_prepares_undoes_the_transaction() {
    let (stage, items) = two_shards();
    slow_commits(&stage, 1, 3);
    let mut psql = Psql::start(&stage);
    for sql in ["BEGIN".to_owned(), items.touch(0), items.touch(1)] {
        psql.ask(&sql);
    }
    psql.say("COMMIT");
    runs(&stage, 1, "PREPARE TRANSACTION%");
    stage.herd().kill9(1).unwrap();
    let said = psql.answer();
    assert_eq!(Psql::errors(&said).len(), 1, "{said:?}");
    stage.herd().restart(1).unwrap();
    stage.check_nothing_left(Instant::now(), "after the restart");
    assert_eq!(items.sums(&stage), ["0", "0"]);
    assert_eq!(psql.ask("SELECT 1"), ["1"]);
    stage.check_no_panic();
}

#[test]
fn a_prepared_server_killed_before_the_decision_commits_after_its_restart() {
    let (stage, items) = two_shards();
    slow_commits(&stage, 0, 2);
    let mut psql = Psql::start(&stage);
    for sql in ["BEGIN".to_owned(), items.touch(0), items.touch(1)] {
        psql.ask(&sql);
    }
    psql.say("COMMIT");
    runs(&stage, 0, "COMMIT%");
    stage.herd().kill9(1).unwrap();
    let said = psql.answer();
    assert!(Psql::errors(&said).is_empty(), "it is decided: {said:?}");
    assert!(said.iter().any(|line| line == "COMMIT"), "{said:?}");
    assert!(said.iter().any(|line| line.contains("not yet visible")), "and the client is warned: {said:?}");
    stage.herd().restart(1).unwrap();
    stage.check_nothing_left(Instant::now(), "after the restart");
    assert_eq!(items.sums(&stage), ["1", "1"]);
    stage.check_no_panic();
}

#[test]
fn a_decision_is_on_disk_even_where_commits_need_not_be() {
    // Otherwise a killed server forgets a decision that the others have carried out.
    let settings =
        [("synchronous_commit", "off"), ("wal_writer_delay", "10s"), ("wal_writer_flush_after", "1GB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let stage = Stage::start(&StageOptions { shards: 2, settings, ..StageOptions::default() });
    let items = Items::make(&stage);
    let mut psql = Psql::start(&stage);
    stage.ask_servers("CHECKPOINT");
    for sql in ["BEGIN".to_owned(), items.touch(0), items.touch(1)] {
        psql.ask(&sql);
    }
    assert_eq!(psql.ask("COMMIT"), ["COMMIT"]);
    stage.herd().kill9(0).unwrap();
    stage.herd().restart(0).unwrap();
    stage.check_nothing_left(Instant::now(), "after the restart");
    assert_eq!(items.sums(&stage), ["1", "1"]);
}

#[test]
fn statements_for_other_shards_run_while_one_is_down() {
    let stage = Stage::start(&StageOptions { shards: 2, checkout_timeout: "2s", ..StageOptions::default() });
    let items = Items::make(&stage);
    stage.herd().kill9(1).unwrap();
    let mut psql = Psql::start(&stage);
    for _ in 0..3 {
        let started = Instant::now();
        assert_eq!(psql.ask(&items.touch(0)), ["UPDATE 1"]);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        for sql in [items.touch(1), "SELECT count(*) FROM items".into(), "UPDATE items SET v = v + 1".into()]
        {
            let started = Instant::now();
            let said = psql.ask(&sql);
            let codes = Psql::errors(&said);
            assert!(codes.len() == 1 && codes[0].starts_with("08"), "{sql}: {said:?}");
            assert!(said.iter().any(|line| line.contains("s1")), "the error names the shard: {said:?}");
            assert!(started.elapsed() < Duration::from_secs(4), "{sql}: {:?}", started.elapsed());
        }
        // In a transaction too: the error ends the transaction, not the session.
        for sql in ["BEGIN", &items.touch(0)] {
            assert!(Psql::errors(&psql.ask(sql)).is_empty());
        }
        assert_eq!(Psql::errors(&psql.ask(&items.touch(1))).len(), 1);
        assert_eq!(psql.ask("COMMIT"), ["ROLLBACK"]);
    }
    assert_eq!(stage.ask_server(0, "SELECT sum(v) FROM items"), "3");
    stage.herd().restart(1).unwrap();
    until("the shard is served again", Duration::from_secs(10), || {
        Psql::errors(&Psql::start(&stage).ask(&items.touch(1))).is_empty()
    });
    stage.check_no_panic();
}

#[test]
fn pgherd_started_while_a_server_is_down_serves_the_others_and_later_all() {
    let (stage, items) = two_shards();
    stage.kill_pgherd();
    stage.herd().kill9(1).unwrap();
    stage.serve(None);
    let mut psql = Psql::start(&stage);
    assert_eq!(psql.ask(&items.touch(0)), ["UPDATE 1"]);
    let said = psql.ask(&items.touch(1));
    assert!(Psql::errors(&said)[0].starts_with("08"), "{said:?}");
    stage.herd().restart(1).unwrap();
    until("the shard is served", Duration::from_secs(10), || {
        stage.herd().psql_at(&stage.url(), &items.touch(1)).is_ok()
    });
    assert_eq!(psql.ask("UPDATE items SET v = 7"), [format!("UPDATE {ITEMS}")]);
    stage.check_no_panic();
}

#[test]
fn the_resolver_finishes_its_own_and_leaves_what_is_not_its_own_alone() {
    let (stage, items) = two_shards();
    let cluster = stage.ask_server(0, "SELECT id FROM pgherd.cluster");
    let random = |n: u32| format!("{n:032x}");
    let ours = |decider: &str, n: u32| format!("pgherd:{cluster}:{decider}:{}", random(n));
    let foreign = [
        "other_1".to_owned(),
        format!("pgherd:0123456789abcdef:s0:{}", random(1)),
        format!("pgherd:{cluster}:s0:not-hexadecimal"),
        // Its deciding shard is not known here: nobody can say what was decided.
        ours("gone", 2),
        format!("Pgherd:{cluster}:s0:{}", random(3)),
    ];
    let undecided = ours("s0", 10);
    let decided = ours("s0", 11);
    let alive = ours("s0", 12);
    let row = |n: usize| {
        format!("UPDATE items SET v = v + 1 WHERE id = (SELECT id FROM items ORDER BY id LIMIT 1 OFFSET {n})")
    };
    stage.ask_server(0, &format!("INSERT INTO pgherd.decisions (gid) VALUES ('{decided}')"));
    // The owner of this one is alive: it holds its decision row.
    let mut owner = stage.herd().binaries().command("psql");
    owner.args(["-X", "-q", "-d", &stage.herd().url(0), "-f", "-"]).stdin(Stdio::piped());
    let mut owner = owner.spawn().unwrap();
    let mut input = owner.stdin.take().unwrap();
    writeln!(input, "BEGIN; INSERT INTO pgherd.decisions (gid) VALUES ('{alive}');").unwrap();
    until("the owner holds its decision", Duration::from_secs(5), || {
        stage.ask_server(0, "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'")
            == "1"
    });
    let all: Vec<&String> = foreign.iter().chain([&undecided, &decided, &alive]).collect();
    for (n, gid) in all.iter().enumerate() {
        stage.ask_server(1, &format!("BEGIN; {}; PREPARE TRANSACTION '{gid}'", row(n)));
    }

    until("the resolver finishes its own", Duration::from_secs(10), || {
        let gids = stage.ask_server(1, "SELECT gid FROM pg_prepared_xacts");
        !gids.contains(&undecided) && !gids.contains(&decided)
    });
    std::thread::sleep(Duration::from_secs(3));

    let mut expected: Vec<&str> = foreign.iter().map(String::as_str).chain([alive.as_str()]).collect();
    expected.sort_unstable();
    let left = stage.ask_server(1, "SELECT gid FROM pg_prepared_xacts ORDER BY gid COLLATE \"C\"");
    assert_eq!(left.lines().collect::<Vec<_>>(), expected);
    assert_eq!(items.sums(&stage)[1], "1", "of the two, the decided one");

    // The owner dies: now it can be undone.
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("what a dead owner left is undone", Duration::from_secs(10), || {
        !stage.ask_server(1, "SELECT gid FROM pg_prepared_xacts").contains(&alive)
    });
    assert_eq!(items.sums(&stage)[1], "1");
    for gid in &foreign {
        stage.ask_server(1, &format!("ROLLBACK PREPARED '{gid}'"));
    }
    stage.check_no_panic();
}

#[test]
fn a_client_killed_in_a_transaction_or_a_statement_leaves_nothing_open() {
    let (stage, items) = two_shards();
    for (why, statements, last) in [
        ("in a transaction", vec!["BEGIN".to_owned(), items.touch(0), items.touch(1)], None),
        ("in a statement", vec!["BEGIN".to_owned(), items.touch(0)], Some(items.touch(1))),
        ("in a statement on all shards", vec![], Some("UPDATE items SET v = v + 1".to_owned())),
        ("outside", vec!["SELECT 1".to_owned()], None),
    ] {
        let mut psql = Psql::start(&stage);
        for sql in &statements {
            assert!(Psql::errors(&psql.ask(sql)).is_empty());
        }
        // Held past the client's end: pgherd must cancel the statement, not wait for it.
        let locked = last.map(|sql| {
            let locked = Locked::hold(&stage, 1);
            psql.say(&sql);
            waits(&stage, 1);
            locked
        });
        psql.kill();
        stage.check_nothing_left(Instant::now(), why);
        drop(locked);
        assert_eq!(items.sums(&stage), ["0", "0"], "{why}");
        // No lock is left either.
        assert_eq!(stage.ask("SET lock_timeout = '2s'; UPDATE items SET v = 0"), "", "{why}");
    }
    stage.check_no_panic();
}

#[test]
fn a_copy_over_shards_that_is_cut_off_leaves_no_row() {
    let (stage, items) = two_shards();
    let rows = |from: i64| (from..from + 20_000).map(|id| format!("{id}\t1\n")).collect::<String>();

    let mut psql = Psql::start(&stage);
    psql.send("COPY items (id, v) FROM STDIN;\n");
    psql.send(&rows(1_000));
    runs(&stage, 0, "COPY%");
    runs(&stage, 1, "COPY%");
    psql.kill();
    stage.check_nothing_left(Instant::now(), "the client was killed");
    assert_eq!(items.sums(&stage), ["0", "0"], "the client was killed");

    let mut psql = Psql::start(&stage);
    psql.send("COPY items (id, v) FROM STDIN;\n");
    psql.send(&rows(1_000));
    runs(&stage, 1, "COPY%");
    stage.herd().kill9(1).unwrap();
    psql.send(&rows(50_000));
    psql.send("\\.\n");
    let said = psql.ask(&format!("SELECT 'alive' FROM items WHERE id = {}", items.on(0)));
    assert!(lost(&Psql::errors(&said)), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("alive"), "{said:?}");
    stage.herd().restart(1).unwrap();
    stage.check_nothing_left(Instant::now(), "a server was killed");
    assert_eq!(items.sums(&stage), ["0", "0"], "a server was killed");

    // In a transaction with other work, a bad row: none of it stays.
    let mut psql = Psql::start(&stage);
    psql.ask("BEGIN");
    psql.ask(&items.touch(0));
    psql.send("COPY items (id, v) FROM STDIN;\n");
    psql.send(&rows(1_000));
    psql.send("nonsense\t1\n\\.\n");
    assert_eq!(Psql::errors(&psql.ask("SELECT 1")).len(), 2);
    assert_eq!(psql.ask("COMMIT"), ["ROLLBACK"]);
    stage.check_nothing_left(Instant::now(), "a bad row");
    assert_eq!(items.sums(&stage), ["0", "0"], "a bad row");
    assert_eq!(stage.ask("SELECT count(*) FROM items"), ITEMS.to_string());

    // And one that is not cut off is there.
    let mut psql = Psql::start(&stage);
    psql.send("COPY items (id, v) FROM STDIN;\n");
    psql.send(&rows(1_000));
    psql.send("\\.\n");
    assert_eq!(psql.ask("SELECT sum(v) FROM items"), ["COPY 20000", "20000"]);
    stage.check_no_panic();
}

#[test]
fn clients_that_meet_on_the_same_rows_in_either_order_commit_whole_or_not_at_all() {
    let (stage, items) = two_shards();
    let committed = std::sync::atomic::AtomicI64::new(0);
    let deadline = Instant::now() + Duration::from_secs(6);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (stage, items, committed) = (&stage, &items, &committed);
            scope.spawn(move || {
                let mut psql = Psql::start(stage);
                psql.ask("SET lock_timeout = '200ms'");
                while Instant::now() < deadline {
                    let (first, second) = if client % 2 == 0 { (0, 1) } else { (1, 0) };
                    psql.ask("BEGIN");
                    let met = [first, second].iter().all(|&shard| {
                        let said = psql.ask(&items.touch(shard));
                        let codes = Psql::errors(&said);
                        assert!(
                            codes.is_empty() || matches!(codes[0].as_str(), "55P03" | "40P01" | "25P02"),
                            "{said:?}"
                        );
                        codes.is_empty()
                    });
                    let said = psql.ask("COMMIT");
                    let expected = if met { "COMMIT" } else { "ROLLBACK" };
                    assert_eq!(said, [expected]);
                    committed.fetch_add(i64::from(met), std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    stage.check_nothing_left(Instant::now(), "at the end");
    let committed = committed.into_inner();
    assert!(committed > 0, "somebody gets through");
    assert_eq!(items.sums(&stage), [committed.to_string(), committed.to_string()]);
    stage.check_no_panic();
}

#[test]
fn a_transaction_whose_owner_lives_is_left_to_it() {
    let stage = Stage::start(&StageOptions { fsync: false, ..StageOptions::default() });
    stage.make_bank(1);
    let mut load = Load::start(&stage, 8, 1, true);
    std::thread::sleep(Duration::from_secs(8));
    load.stop();
    let log = stage.log();
    let meddled: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("left to the resolver") || line.contains("that its proxy left prepared"))
        .collect();
    assert!(meddled.is_empty(), "{} times, as in {}", meddled.len(), meddled[0]);
    stage.check_nothing_left(Instant::now(), "at the end");
    stage.check_sums("at the end");
    load.check(&stage, "at the end");
    stage.check_no_panic();
}

#[test]
fn writes_that_are_declared_read_only_afterwards_are_still_agreed_on() {
    let (stage, items) = two_shards();
    slow_commits(&stage, 0, 2);
    for (why, declaration) in [
        ("for later transactions", "SET default_transaction_read_only = on"),
        ("for this one, which PostgreSQL allows", "SET TRANSACTION READ ONLY"),
    ] {
        let mut psql = Psql::start(&stage);
        for sql in ["BEGIN", &items.touch(0), &items.touch(1), declaration] {
            assert!(Psql::errors(&psql.ask(sql)).is_empty(), "{why}");
        }
        psql.say("COMMIT");
        std::thread::sleep(Duration::from_secs(1));
        // One must not be done while the other may still fail.
        let sums = items.sums(&stage);
        let said = psql.answer();
        assert_eq!(sums[0], sums[1], "{why}: in the middle of COMMIT; {said:?}");
        if !Psql::errors(&said).is_empty() {
            assert_eq!(items.sums(&stage), sums, "{why}: refused is undone: {said:?}");
        }
    }
    assert_eq!(items.sums(&stage)[0], items.sums(&stage)[1]);
    stage.check_no_panic();
}

#[test]
fn a_server_that_ends_a_connection_between_two_statements_is_heard_once() {
    let (stage, items) = two_shards();
    for (why, next) in [("a statement", items.touch(0)), ("COMMIT", "COMMIT".to_owned())] {
        let mut psql = Psql::start(&stage);
        for sql in ["BEGIN", &items.touch(0), &items.touch(1)] {
            assert!(Psql::errors(&psql.ask(sql)).is_empty(), "{why}");
        }
        // It says why (57P01) before it closes.
        stage.ask_server(
            1,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE state = 'idle in transaction'",
        );
        let said = psql.ask(&next);
        assert_eq!(Psql::errors(&said), ["57P01"], "{why}: {said:?}");
        psql.ask("ROLLBACK");
        assert_eq!(psql.ask(&items.touch(0).replace("v + 1", "0")), ["UPDATE 1"], "{why}");
        stage.check_nothing_left(Instant::now(), why);
        assert_eq!(items.sums(&stage), ["0", "0"], "{why}");
    }
    stage.check_no_panic();
}

#[test]
fn a_server_lost_while_another_one_works_is_told_in_every_protocol() {
    let (stage, items) = two_shards();
    let script = stage.herd().folder().join("script.sql");
    for order in [[1, 0], [0, 1]] {
        // The row of the shard that lives is updated while the other one dies; then one more statement for each.
        let mut lines = vec!["BEGIN;".to_owned()];
        if order == [0, 1] {
            lines.push(format!("SELECT v FROM items WHERE id = {};", items.by_shard[0][1]));
        }
        lines.push(format!("{};", items.touch(1)));
        lines.push(format!("{};", items.touch(0)));
        lines.push(format!("{};", items.touch(1)));
        lines.push("END;".to_owned());
        std::fs::write(&script, lines.join("\n")).unwrap();
        // Extended twice: the second time the servers know the statements already.
        for protocol in ["simple", "extended", "extended", "prepared"] {
            let why = format!("{protocol}, {order:?}");
            let holder = format!(
                "BEGIN; SELECT v FROM items WHERE id = {} FOR UPDATE; SELECT pg_sleep(60)",
                items.on(0)
            );
            let mut command = stage.herd().binaries().command("psql");
            command.args(["-X", "-q", "-d", &stage.herd().control_url(0), "-c", &holder]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            until("the row is locked", Duration::from_secs(10), || {
                stage.ask_server(0, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
                    == "1"
            });
            let started = Instant::now();
            let output = std::thread::scope(|scope| {
                let run = scope.spawn(|| {
                    let protocol = format!("--protocol={protocol}");
                    stage.pgbench(&[
                        "--no-vacuum",
                        &protocol,
                        "--transactions=1",
                        "--file",
                        script.to_str().unwrap(),
                    ])
                });
                waits(&stage, 0);
                stage.herd().kill9(1).unwrap();
                std::thread::sleep(Duration::from_millis(200));
                stage.ask_server(0, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
                child.wait().unwrap();
                run.join().unwrap()
            });
            assert!(started.elapsed() < Duration::from_secs(10), "{why}: {:?}", started.elapsed());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains("aborted in command"), "{why}: {said}");
            let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'";
            until(&format!("{why}: nothing is open"), Duration::from_secs(8), || {
                stage.ask_server(0, open) == "0"
            });
            stage.herd().restart(1).unwrap();
            stage.check_nothing_left(Instant::now(), &why);
            assert_eq!(items.sums(&stage), ["0", "0"], "{why}: {said}");
        }
    }
    stage.check_no_panic();
}
