//! The crashes of the issue, in a short form (`tests/crash.rs`) and a long one (`tests/soak.rs`): pgherd killed at
//! random moments and at each step of a commit, PostgreSQL servers killed, all under pgbench and clients with books.
//!
//! Afterwards, each time: the four sums agree, every acknowledged transaction is there once, nothing that failed is
//! there, nothing is there in part, and nothing is prepared any more within 10 seconds of the last restart.

use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::load::{Account, Load};
use crate::{Stage, StageOptions};

const SCALE: i32 = 2;
const LOAD_CLIENTS: usize = 4;
const PGBENCH_CLIENTS: i64 = 4;
const PROTOCOLS: [&str; 3] = ["simple", "extended", "prepared"];

/// After a restart, traffic must flow again within this: a killed server's recovery, pools that try again.
const FLOWS_WITHIN: Duration = Duration::from_secs(30);

/// In the order of a commit: see `proxy/src/fault.rs`.
pub const FAULTS: [&str; 11] = [
    "commit.single.sent",
    "commit.decision.sent",
    "commit.decision.done",
    "commit.prepare.one",
    "commit.prepare.sent",
    "commit.prepare.done",
    "commit.decide.sent",
    "commit.decide.done",
    "commit.finish.one",
    "commit.finish.sent",
    "commit.finish.done",
];

fn bank(options: &StageOptions) -> Stage {
    let started = Instant::now();
    let stage = Stage::start(options);
    stage.make_bank(SCALE as u32);
    println!("servers, pgherd and bank after {:.1} s", started.elapsed().as_secs_f64());
    stage
}

/// What pgbench knows of its own transactions: how many were acknowledged.
fn processed(output: &Output) -> i64 {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| {
            line.strip_prefix("number of transactions actually processed: ")?
                .split('/')
                .next()?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// History has a row for each transaction that pgbench knows of, and at most one more for each of its clients, whose last
/// answer was cut off.
fn check_history(rows: i64, runs: &[i64], when: &str) {
    let known: i64 = runs.iter().sum();
    let most = known + PGBENCH_CLIENTS * runs.len() as i64;
    assert!(
        (known..=most).contains(&rows),
        "{when}: pgbench knows of {known} transactions (at most {most}), history has {rows}"
    );
}

fn report(what: &str, account: &Account) {
    let Account { acknowledged, failed, unknown, unknown_there, errors } = account;
    println!(
        "{what}: {acknowledged} acknowledged, {failed} failed, {unknown} unknown ({unknown_there} of them there); errors {errors:?}"
    );
}

/// pgherd is killed `rounds` times at random moments and restarted at once.
pub fn pgherd_killed_at_random(rounds: usize) {
    let stage = bank(&StageOptions::default());
    let mut load = Load::start(&stage, LOAD_CLIENTS, SCALE, true);
    let mut runs = Vec::new();
    let mut left = 0;
    let mut restarted = Instant::now();
    for round in 0..rounds {
        let when = format!("round {round}");
        let protocol = format!("--protocol={}", PROTOCOLS[round % PROTOCOLS.len()]);
        let clients = format!("--client={PGBENCH_CLIENTS}");
        let output = thread::scope(|scope| {
            let pgbench = scope.spawn(|| stage.pgbench(&["--no-vacuum", &protocol, &clients, "--time=60"]));
            load.run_on(20, FLOWS_WITHIN, &when);
            let moment = Duration::from_millis(rand::rng().random_range(100..900));
            thread::sleep(moment);
            stage.note(&format!("{when}: kill -9 after {moment:?}"));
            stage.kill_pgherd();
            left += stage.prepared();
            restarted = Instant::now();
            stage.serve(None);
            pgbench.join().expect("pgbench was run")
        });
        let known = processed(&output);
        assert!(known > 0, "{when}: pgbench did nothing: {}", String::from_utf8_lossy(&output.stderr));
        runs.push(known);
    }
    load.stop();
    let took = stage.check_nothing_left(restarted, "after the last restart");
    let totals = stage.check_sums("after the last restart");
    check_history(totals.history_rows, &runs, "after the last restart");
    report("pgherd killed at random", &load.check(&stage, "after the last restart"));
    println!(
        "{rounds} kills left {left} transactions prepared; all finished {:.1} s after the last restart; pgbench: {runs:?}",
        took.as_secs_f64()
    );
    stage.check_no_panic();
}

/// pgherd dies at each named step of a commit, `rounds` times each; after every death the books are compared.
pub fn pgherd_killed_at_each_step(rounds: usize) {
    let stage = bank(&StageOptions::default());
    stage.kill_pgherd();
    let mut load = Load::start(&stage, LOAD_CLIENTS, SCALE, true);
    for fault in FAULTS.iter().cycle().take(FAULTS.len() * rounds) {
        let armed = format!("{fault}:{}", rand::rng().random_range(3..40));
        stage.note(&armed);
        stage.launch(Some(&armed));
        load.resume();
        assert!(stage.struck(FLOWS_WITHIN), "{armed} did not strike\n{}", stage.log_tail());
        let left = stage.prepared();
        load.pause();
        let restarted = Instant::now();
        stage.serve(None);
        let took = stage.check_nothing_left(restarted, &armed);
        stage.check_sums(&armed);
        let account = load.check(&stage, &armed);
        println!(
            "{armed}: {left} prepared, finished {:.1} s after the restart; {} acknowledged, {} unknown ({} there)",
            took.as_secs_f64(),
            account.acknowledged,
            account.unknown,
            account.unknown_there
        );
        stage.kill_pgherd();
    }
    load.stop();
    stage.serve(None);
    report("pgherd killed at each step", &load.check(&stage, "at the end"));
    stage.check_no_panic();
}

/// A PostgreSQL server (fsync on) is killed and restarted `rounds` times, each time another one.
pub fn a_server_killed(rounds: usize) {
    let stage = bank(&StageOptions::default());
    let mut load = Load::start(&stage, LOAD_CLIENTS, SCALE, false);
    let mut runs = Vec::new();
    let mut restarted = Instant::now();
    let first = rand::rng().random_range(0..stage.herd().len());
    for round in 0..rounds {
        let server = (first + round) % stage.herd().len();
        let when = format!("round {round}, server {server}");
        let protocol = format!("--protocol={}", PROTOCOLS[round % PROTOCOLS.len()]);
        let clients = format!("--client={PGBENCH_CLIENTS}");
        let output = thread::scope(|scope| {
            let pgbench = scope.spawn(|| stage.pgbench(&["--no-vacuum", &protocol, &clients, "--time=4"]));
            load.run_on(50, FLOWS_WITHIN, &when);
            thread::sleep(Duration::from_millis(rand::rng().random_range(100..900)));
            stage.note(&format!("{when}: kill -9"));
            stage.herd().kill9(server).unwrap_or_else(|error| panic!("{when}: {error}"));
            // Long enough for clients to meet the shard that is down.
            thread::sleep(Duration::from_millis(rand::rng().random_range(0..800)));
            stage.herd().restart(server).unwrap_or_else(|error| panic!("{when}: {error}"));
            stage.note(&format!("{when}: restarted"));
            restarted = Instant::now();
            pgbench.join().expect("pgbench was run")
        });
        runs.push(processed(&output));
        load.run_on(50, FLOWS_WITHIN, &format!("{when}, after its restart"));
    }
    load.stop();
    let took = stage
        .check_nothing_left(restarted.max(Instant::now() - Duration::from_secs(1)), "after the last restart");
    let totals = stage.check_sums("after the last restart");
    check_history(totals.history_rows, &runs, "after the last restart");
    report("a server killed", &load.check(&stage, "after the last restart"));
    println!("all finished {:.1} s after the load ended; pgbench: {runs:?}", took.as_secs_f64());
    assert!(stage.has_ended().is_none(), "pgherd lives through it\n{}", stage.log_tail());
    stage.check_no_panic();
}
