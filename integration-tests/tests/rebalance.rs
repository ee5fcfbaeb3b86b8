//! Rows move between real servers: all of them arrive, none twice, whatever dies on the way.

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use pgherd_integration_tests::{Stage, StageOptions};

/// Every step of a move at which its coordinator may die.
const FAULTS: &[&str] = &[
    "move.hold.done",
    "move.acks.done",
    "move.delete.done",
    "move.copy.one",
    "move.copy.done",
    "move.decision.done",
    "move.prepare.one",
    "move.prepare.done",
    "move.decide.done",
    "move.finish.one",
    "move.finish.done",
    "move.release.done",
];

const ITEMS: i64 = 2_000;

/// Three shards, the last of which is to be empty; tables and rows; pgherd itself is stopped again.
fn stage() -> Stage {
    let stage = Stage::prepare(&StageOptions { shards: 3, fsync: false, ..StageOptions::default() });
    weigh(&stage, 0);
    stage.serve(None);
    stage.ask("CREATE TABLE items (id bigint PRIMARY KEY, body text NOT NULL, at timestamptz NOT NULL DEFAULT '2024-02-29 12:00:00+01')");
    stage.ask("CREATE TABLE ledger (aid integer NOT NULL, n bigint NOT NULL, delta bigint NOT NULL, PRIMARY KEY (aid, n))");
    stage.ask(&format!(
        "INSERT INTO items VALUES {}",
        (0..ITEMS).map(|id| format!("({id}, 'item {id}')")).collect::<Vec<_>>().join(", ")
    ));
    stage.ask(&format!(
        "INSERT INTO ledger VALUES {}",
        (0..500).map(|n| format!("({n}, {n}, 1)")).collect::<Vec<_>>().join(", ")
    ));
    stage.kill_pgherd();
    stage
}

/// The weight of the last shard.
fn weigh(stage: &Stage, weight: u32) {
    let text = fs::read_to_string(stage.configuration()).expect("the configuration is there");
    let lines = text.lines().filter(|line| !line.starts_with("weight = "));
    let lines = lines.flat_map(|line| match line {
        r#"name = "s2""# => vec![line.to_owned(), format!("weight = {weight}")],
        _ => vec![line.to_owned()],
    });
    fs::write(stage.configuration(), lines.collect::<Vec<_>>().join("\n")).expect("it is written");
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn good(stage: &Stage, what: &str, arguments: &[&str]) -> String {
    let output = stage.rebalance(what, arguments, None);
    assert!(output.status.success(), "{what}: {}\n{}", said(&output), stage.log_tail());
    said(&output)
}

fn refused(stage: &Stage, what: &str, arguments: &[&str]) -> String {
    let output = stage.rebalance(what, arguments, None);
    assert!(!output.status.success(), "{what}: {}", said(&output));
    said(&output)
}

/// Each row is there once, and `verify` finds it where it belongs; how many are on the last shard.
fn whole(stage: &Stage, when: &str) -> i64 {
    assert_eq!(stage.sum("SELECT count(*) FROM items"), ITEMS, "{when}");
    assert_eq!(stage.sum("SELECT sum(id) FROM items"), ITEMS * (ITEMS - 1) / 2, "{when}");
    assert_eq!(stage.sum("SELECT count(*) FROM ledger"), 500, "{when}");
    let verified = stage.rebalance("verify", &[], None);
    assert!(verified.status.success(), "{when}: {}", said(&verified));
    let number = stage.ask_server(2, "SELECT count(*) FROM items");
    number.trim().parse().expect("a number")
}

#[test]
fn rows_are_where_the_weights_say_and_pgherd_finds_them_there() {
    let stage = stage();
    assert_eq!(whole(&stage, "before"), 0);
    weigh(&stage, 1);
    let plan = good(&stage, "plan", &[]);
    assert!(plan.contains("item: s0 -> s2") && plan.contains("item: s1 -> s2"), "{plan}");
    assert_eq!(whole(&stage, "a plan moves nothing"), 0);

    // What differs is named before the first row.
    stage.ask_server(2, "ALTER TABLE items ADD COLUMN more integer");
    let drift = refused(&stage, "apply", &["--rate", "0"]);
    assert!(drift.contains("items"), "{drift}");
    stage.ask_server(2, "ALTER TABLE items DROP COLUMN more");
    let database = stage.herd().options().database.clone();
    stage.ask_server(0, "BEGIN; INSERT INTO ledger VALUES (100000, 0, 0); PREPARE TRANSACTION 'somebody''s'");
    let prepared = refused(&stage, "apply", &["--rate", "0"]);
    assert!(prepared.contains("somebody's") && prepared.contains("ledger"), "{prepared}");
    stage.ask_server(0, "ROLLBACK PREPARED 'somebody''s'");
    assert_eq!(whole(&stage, "nothing has moved"), 0);

    let applied = good(&stage, "apply", &["--rate", "0"]);
    assert!(applied.contains("pause of a unit"), "{applied}");
    let there = whole(&stage, "after");
    assert!((500..850).contains(&there), "{there} of {ITEMS} rows on a third shard");
    assert!(good(&stage, "plan", &[]).contains("everything is where it is wished"));
    assert!(good(&stage, "status", &[]).contains("done"));
    stage.serve(None);
    assert_eq!(
        stage.ask("SELECT count(*), sum(id) FROM items").trim(),
        format!("{ITEMS}|{}", ITEMS * (ITEMS - 1) / 2)
    );
    for id in [0, 1, 7, 500, 1_999] {
        assert_eq!(
            stage.ask(&format!("SELECT body FROM items WHERE id = {id}")).trim(),
            format!("item {id}")
        );
    }
    stage.ask("UPDATE items SET body = 'new' WHERE id = 7");
    assert_eq!(stage.sum("SELECT count(*) FROM items WHERE body = 'new'"), 1);
    stage.kill_pgherd();

    // And back: the shard is emptied.
    weigh(&stage, 0);
    good(&stage, "apply", &["--rate", "0"]);
    assert_eq!(whole(&stage, "emptied"), 0);
    let slots =
        format!("SELECT count(*) FROM pgherd.placement WHERE database = '{database}' AND shard = 's2'");
    assert_eq!(stage.ask_server(0, &slots).trim(), "0");
}

#[test]
fn a_transaction_that_stands_in_the_way_is_named_and_waited_for() {
    let stage = stage();
    weigh(&stage, 1);
    let mut psql = stage.herd().binaries().command("psql");
    psql.args(["-X", "-q", "-d", &stage.herd().control_url(0)]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut writer = stage.herd().keeper().spawn(psql).expect("psql starts");
    let mut input = writer.stdin.take().expect("psql is fed");
    writeln!(input, "BEGIN; UPDATE items SET body = body;").expect("psql listens");
    let held =
        "SELECT count(*) FROM pg_locks WHERE relation = 'items'::regclass AND mode = 'RowExclusiveLock'";
    pgherd_integration_tests::until("the row is written", std::time::Duration::from_secs(20), || {
        stage.ask_server(0, held).trim() != "0"
    });
    let waiting = refused(&stage, "apply", &["--rate", "0", "--patience", "1"]);
    assert!(waiting.contains("is held by transactions that do not end: process"), "{waiting}");
    assert!(refused(&stage, "status", &[]).contains("failed"));
    drop(input);
    writer.wait().expect("psql ends");
    good(&stage, "cancel", &[]);
    assert_eq!(whole(&stage, "cancelled"), 0);
    good(&stage, "apply", &["--rate", "0"]);
    assert!(whole(&stage, "applied") > 0);
}

/// Dies at each of these; `apply` again completes.
fn strike(faults: &[&str]) {
    let stage = stage();
    for (round, fault) in faults.iter().enumerate() {
        let weight = 1 - round as u32 % 2;
        weigh(&stage, weight);
        // The second unit: a first one has gone well.
        let died = stage.rebalance("apply", &["--rate", "0"], Some(&format!("{fault}:2")));
        assert!(!died.status.success(), "{fault} has not struck: {}", said(&died));
        good(&stage, "apply", &["--rate", "0"]);
        let there = whole(&stage, fault);
        assert_eq!(there > 0, weight == 1, "{fault}: {there} rows");
        assert_eq!(stage.prepared(), 0, "{fault}");
    }
}

#[test]
fn a_coordinator_that_dies_leaves_all_or_nothing_and_apply_again_completes() {
    strike(&["move.prepare.one", "move.decide.done"]);
}

#[test]
#[ignore = "every step of a move: make soak"]
fn a_coordinator_that_dies_at_any_step_leaves_all_or_nothing() {
    strike(FAULTS);
}
