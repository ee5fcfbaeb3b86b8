//! A bank whose total never changes, read in every way that reads several shards while transfers between shards are committed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, pin_mut};
use pgherd_integration_tests::{Stage, StageOptions};
use rand::Rng;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const WRITERS: usize = 4;
const TELLERS: i32 = 10;

/// Commits of others come between two statements of a transaction.
const BETWEEN: Duration = Duration::from_millis(3);

fn start(reads: &str) -> Stage {
    let stage = Stage::prepare(&StageOptions { fsync: false, ..StageOptions::default() });
    let file = stage.herd().folder().join("pgherd.toml");
    let text = fs::read_to_string(&file).expect("the configuration is there");
    let database = &stage.herd().options().database;
    let header = format!("[databases.{database}]\n");
    assert!(text.contains(&header), "{text}");
    let text = text.replace(&header, &format!("{header}cross_shard_reads = \"{reads}\"\n"));
    fs::write(&file, text).expect("it is written");
    stage.serve(None);
    stage.make_bank(1);
    stage.ask("UPDATE pgbench_tellers SET tbalance = 1000; UPDATE pgbench_branches SET bbalance = 0");
    stage
}

/// What the readers saw.
#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    wrong: AtomicU64,
}

impl Seen {
    fn check(&self, what: &str, sum: i64) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if sum != i64::from(TELLERS) * 1000 {
            self.wrong.fetch_add(1, Ordering::Relaxed);
            println!("{what}: {sum}");
        }
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("pgherd answers");
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}

/// Moves money between two tellers, or a teller and the branch; locks are taken in one order.
async fn transfer(client: &Client) {
    let (a, b, amount) = {
        let mut rng = rand::rng();
        (rng.random_range(1..=TELLERS), rng.random_range(1..=TELLERS + 3), rng.random_range(1..100))
    };
    let (first, second) = (a.min(b), a.max(b));
    let into = match second {
        _ if second > TELLERS => {
            format!("UPDATE pgbench_branches SET bbalance = bbalance + {amount} WHERE bid = 1")
        }
        _ => format!("UPDATE pgbench_tellers SET tbalance = tbalance + {amount} WHERE tid = {second}"),
    };
    let sql = format!(
        "BEGIN; UPDATE pgbench_tellers SET tbalance = tbalance - {amount} WHERE tid = {first}; {into}; COMMIT"
    );
    if let Err(e) = client.batch_execute(&sql).await {
        panic!("a transfer failed: {e:?}");
    }
}

const SUMS: &str = "SELECT sum(tbalance) FROM pgbench_tellers";
const BRANCH: &str = "SELECT sum(bbalance) FROM pgbench_branches";
/// One server finishes these with rows of the others.
const WINDOW: &str =
    "SELECT sum(tbalance) FROM (SELECT tbalance, rank() OVER (ORDER BY tbalance) FROM pgbench_tellers) s";
const TWO_TABLES: &str =
    "SELECT (SELECT sum(tbalance) FROM pgbench_tellers) + (SELECT sum(bbalance) FROM pgbench_branches)";
const FILTERED: &str = "SELECT sum(tbalance) FROM pgbench_tellers WHERE tid > 0";
const ROWS: &str =
    "SELECT tbalance::bigint FROM pgbench_tellers UNION ALL SELECT bbalance::bigint FROM pgbench_branches";
const SORTED: &str = "SELECT tbalance::bigint, tid FROM pgbench_tellers ORDER BY tid";

async fn simple(client: &Client, sql: &str) -> i64 {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let rows = messages.iter().filter_map(|m| match m {
        SimpleQueryMessage::Row(row) => row.get(0).and_then(|value| value.parse::<i64>().ok()),
        _ => None,
    });
    rows.sum()
}

async fn extended(client: &Client, sql: &str) -> i64 {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get::<_, i64>(0)).sum()
}

async fn copied(client: &Client, table: &str) -> i64 {
    let rows = client.copy_out(&format!("COPY {table} TO STDOUT")).await.unwrap_or_else(|e| panic!("{e:?}"));
    pin_mut!(rows);
    let mut text = Vec::new();
    while let Some(bytes) = rows.next().await {
        text.extend_from_slice(&bytes.expect("rows come"));
    }
    let text = String::from_utf8(text).expect("digits");
    // Column 3 of tellers.
    text.lines()
        .map(|line| line.split('\t').nth(2).and_then(|v| v.parse::<i64>().ok()).expect("a balance"))
        .sum()
}

/// What is read, and whether it is of one moment: every total that a reader sees is the bank's.
async fn read_all(client: &Client, seen: &Seen) {
    let check = |what: &str, sum: i64| seen.check(what, sum);
    for begin in ["", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN READ ONLY"] {
        let end = if begin.is_empty() { "" } else { "COMMIT" };
        // One statement that sees both tables.
        for sql in [TWO_TABLES, ROWS] {
            if begin == "BEGIN READ ONLY" {
                // A gather makes temporary tables.
                continue;
            }
            client.batch_execute(begin).await.expect("it begins");
            check(&format!("{begin} {sql}"), simple(client, sql).await);
            client.batch_execute(end).await.expect("it ends");
            if sql == ROWS {
                client.batch_execute(begin).await.expect("it begins");
                check(&format!("extended {begin} {sql}"), extended(client, sql).await);
                client.batch_execute(end).await.expect("it ends");
            }
        }
        if begin.contains("REPEATABLE") {
            // Statement after statement sees the same moment.
            for (what, first) in [("sum", SUMS), ("window", WINDOW), ("sorted", SORTED), ("filter", FILTERED)]
            {
                client.batch_execute(begin).await.expect("it begins");
                let tellers = simple(client, first).await;
                tokio::time::sleep(BETWEEN).await;
                let branch = simple(client, BRANCH).await;
                check(&format!("repeatable read, {what}"), tellers + branch);
                let again = copied(client, "pgbench_tellers").await;
                check("repeatable read, copied", again + branch);
                client.batch_execute(end).await.expect("it ends");
            }
        }
    }
}

/// Tellers alone, for what reads one table: transfers stay among them.
async fn read_tellers(client: &Client, seen: &Seen) {
    let check = |what: &str, sum: i64| seen.check(what, sum);
    for begin in ["", "BEGIN"] {
        let end = if begin.is_empty() { "" } else { "COMMIT" };
        client.batch_execute(begin).await.expect("it begins");
        check(&format!("simple sum {begin}"), simple(client, SUMS).await);
        check(&format!("extended sum {begin}"), extended(client, SUMS).await);
        check(&format!("simple sorted {begin}"), simple(client, SORTED).await);
        check(&format!("extended sorted {begin}"), extended(client, SORTED).await);
        check(&format!("simple rows {begin}"), simple(client, "SELECT tbalance FROM pgbench_tellers").await);
        check(
            &format!("extended rows {begin}"),
            extended(client, "SELECT tbalance::bigint FROM pgbench_tellers").await,
        );
        check(&format!("window {begin}"), simple(client, WINDOW).await);
        check(&format!("copy {begin}"), copied(client, "pgbench_tellers").await);
        client.batch_execute(end).await.expect("it ends");
    }
}

/// Runs transfers and reads for a while: reads, wrong ones, transfers.
fn run(stage: &Stage, seconds: u64, to_branch: bool) -> (u64, u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (seen, transfers) = (Arc::new(Seen::default()), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..WRITERS {
            let (client, stop, transfers) = (connect(&stage.url()).await, stop.clone(), transfers.clone());
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if to_branch {
                        transfer(&client).await;
                    } else {
                        among_tellers(&client).await;
                    }
                    transfers.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        for _ in 0..2 {
            let (client, stop) = (connect(&stage.url()).await, stop.clone());
            let seen = seen.clone();
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if to_branch {
                        read_all(&client, &seen).await;
                    } else {
                        read_tellers(&client, &seen).await;
                    }
                }
            }));
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("no client failed");
        }
    });
    let figures = (
        seen.reads.load(Ordering::Relaxed),
        seen.wrong.load(Ordering::Relaxed),
        transfers.load(Ordering::Relaxed),
    );
    println!("{figures:?} reads, wrong ones, transfers");
    figures
}

async fn among_tellers(client: &Client) {
    let (a, b, amount) = {
        let mut rng = rand::rng();
        (rng.random_range(1..=TELLERS), rng.random_range(1..=TELLERS), rng.random_range(1..100))
    };
    let sql = format!(
        "BEGIN; UPDATE pgbench_tellers SET tbalance = tbalance - {amount} WHERE tid = {};
         UPDATE pgbench_tellers SET tbalance = tbalance + {amount} WHERE tid = {}; COMMIT",
        a.min(b),
        a.max(b)
    );
    if let Err(e) = client.batch_execute(&sql).await {
        panic!("a transfer failed: {e:?}");
    }
}

#[test]
fn no_reader_of_several_shards_sees_half_of_a_transaction() {
    let stage = start("atomic");
    for to_branch in [false, true] {
        let (reads, wrong, transfers) = run(&stage, 4, to_branch);
        assert_eq!(wrong, 0);
        assert!(reads > 20 && transfers > 20, "{reads} reads, {transfers} transfers: nothing was tried");
    }
    stage.check_nothing_open("at the end");
    stage.check_no_panic();
}

#[test]
#[ignore = "shows that the test above could fail: without the gate some reads are wrong, when the machine is busy enough"]
fn without_the_gate_some_reads_are_torn() {
    let stage = start("fast");
    let wrong: u64 = (0..5).map(|_| run(&stage, 4, false).1).sum();
    assert!(wrong > 0, "not one read in 20 s was torn");
}
