//! A statement that one server finishes with rows of the others: its limits, its failures, and what it leaves behind.
//! (What it answers is compared with one server's answers in `differential`.)

use std::fs;
use std::time::Instant;

use pgherd::demo::servers::APP_ROLE;
use pgherd_integration_tests::{Stage, StageOptions};

/// Accounts are placed by aid: as many on each shard, and none of these is a union.
const MEDIAN: &str = "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY aid) FROM pgbench_accounts";
const PAIRS: &str = "SELECT count(*) FROM pgbench_accounts a JOIN pgbench_accounts b ON b.aid = a.aid + 1";

fn start(limits: &str) -> Stage {
    let stage = Stage::prepare(&StageOptions { fsync: false, ..StageOptions::default() });
    let file = stage.herd().folder().join("pgherd.toml");
    let text = fs::read_to_string(&file).expect("the configuration is there");
    let database = stage.herd().options().database.clone();
    fs::write(&file, format!("{text}\n[databases.{database}.gather]\n{limits}\n")).expect("it is written");
    stage.serve(None);
    stage
}

fn refusal(stage: &Stage, sql: &str) -> String {
    stage.herd().psql_at(&stage.url(), sql).expect_err(sql).to_string()
}

#[test]
fn a_gather_is_limited_leaves_nothing_behind_and_fails_like_any_statement() {
    let stage = start("rows_max = 60000\nbytes_max = \"1MiB\"");
    stage.make_bank(1);
    stage.ask("DELETE FROM pgbench_accounts WHERE aid > 50000");

    // Many rows from all servers at once, each with few bytes.
    let begun = Instant::now();
    assert_eq!(stage.ask(MEDIAN), "25000");
    assert_eq!(stage.ask(PAIRS), "49999");
    println!("two gathers of 50,000 rows: {:?}", begun.elapsed());

    let plan = stage.ask(&format!("EXPLAIN (COSTS off) {PAIRS}"));
    let lines: Vec<&str> = plan.lines().collect();
    assert!(lines[0].starts_with("pgherd gathers on shard s"), "{plan}");
    assert_eq!(
        lines[1],
        "  pgherd_g1 from s0, s1, s2, s3: SELECT \"aid\" FROM \"public\".\"pgbench_accounts\""
    );
    assert!(plan.contains("Scan on pgherd_g1 a"), "{plan}");
    assert!(stage.ask(&format!("EXPLAIN ANALYZE {MEDIAN}")).contains("(actual"));

    let wide = refusal(&stage, "SELECT *, rank() OVER (ORDER BY filler) FROM pgbench_accounts");
    assert!(wide.contains("gather.bytes_max"), "{wide}");
    let many = refusal(
        &stage,
        "SELECT count(*) FROM pgbench_accounts a JOIN pgbench_accounts b ON a.bid = b.aid WHERE a.aid > 0",
    );
    assert!(many.contains("gather.rows_max"), "{many}");

    // The whole statement is one: what it fails with is the only thing that is said, and its transaction is failed.
    let script = "BEGIN;\nUPDATE pgbench_tellers SET tbalance = 5 WHERE tid IN (1, 2, 3, 4);\n\
                  SELECT max(rank) FROM (SELECT rank() OVER (ORDER BY tbalance) FROM pgbench_tellers) r;\nCOMMIT;";
    assert!(stage.ask(script).contains('7'), "{}", stage.ask(script));
    assert_eq!(stage.sum("SELECT sum(tbalance) FROM pgbench_tellers"), 20);
    let late = refusal(
        &stage,
        "SET statement_timeout = '200ms'; SELECT count(*), pg_sleep(10) FROM pgbench_tellers a JOIN pgbench_tellers b ON true",
    );
    assert!(late.contains("statement timeout"), "{late}");

    // A role that may not make temporary tables is told which privilege it lacks.
    for server in 0..stage.herd().len() {
        let database = &stage.herd().options().database;
        stage.ask_server(server, &format!("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, {APP_ROLE}"));
    }
    if stage.ask_server(
        0,
        &format!("SELECT has_database_privilege('{APP_ROLE}', current_database(), 'TEMPORARY')"),
    ) == "f"
    {
        let denied = refusal(&stage, MEDIAN);
        assert!(denied.contains("GRANT TEMPORARY"), "{denied}");
    }

    stage.check_nothing_open("at the end");
    assert_eq!(stage.sum("SELECT count(*) FROM pg_class WHERE relname LIKE 'pgherd\\_g%'"), 0);
    assert_eq!(stage.prepared(), 0);
    stage.check_no_panic();
}
