//! Circles of waiting transactions that no single server sees.

use std::time::{Duration, Instant};

use pgherd_integration_tests::{Stage, StageOptions};
use tokio_postgres::{Client, NoTls};

/// Longer than any machine needs; a circle that nobody breaks would last for ever.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(stage: &Stage) -> Client {
    let (client, connection) = tokio_postgres::connect(&stage.url(), NoTls).await.expect("pgherd answers");
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}

/// A teller of each of so many shards.
fn tellers(stage: &Stage, shards: usize) -> Vec<String> {
    (0..shards).map(|server| stage.ask_server(server, "SELECT min(tid) FROM pgbench_tellers")).collect()
}

fn add(teller: &str, amount: i32) -> String {
    format!("UPDATE pgbench_tellers SET tbalance = tbalance + {amount} WHERE tid = {teller}")
}

async fn run(client: &Client, sql: &str, extended: bool) -> Result<(), String> {
    let done = match extended {
        true => client.execute(sql, &[]).await.map(drop),
        false => client.batch_execute(sql).await,
    };
    done.map_err(|e| e.code().map_or_else(|| e.to_string(), |code| code.code().to_owned()))
}

/// Each client writes to a shard of its own, then to the next one's: what came of the second write, client by client.
async fn ring(stage: &Stage, tellers: &[String], extended: bool) -> Vec<Result<(), String>> {
    let mut clients = Vec::new();
    for teller in tellers {
        let client = connect(stage).await;
        run(&client, "BEGIN", false).await.unwrap();
        // The second one of them is known to be on two shards.
        run(&client, &add(teller, 1), extended).await.unwrap();
        clients.push(client);
    }
    let second = clients.iter().enumerate().map(|(n, client)| {
        let next = &tellers[(n + 1) % tellers.len()];
        async move {
            let outcome = run(client, &add(next, 1), extended).await;
            // Whoever failed lets the others go on.
            let end = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
            run(client, end, false).await.unwrap();
            outcome
        }
    });
    tokio::time::timeout(PATIENCE, futures_util::future::join_all(second))
        .await
        .expect("the circle is broken")
}

#[test]
fn a_deadlock_over_several_shards_fails_one_transaction_and_the_others_go_on() {
    let stage = Stage::start(&StageOptions { fsync: false, ..StageOptions::default() });
    stage.make_bank(4);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut expected = 0;
    for (shards, extended) in [(2, false), (2, true), (3, true), (4, false)] {
        let begun = Instant::now();
        let outcomes = runtime.block_on(ring(&stage, &tellers(&stage, shards), extended));
        println!("{shards} shards: {outcomes:?} in {:?}", begun.elapsed());
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(failed, ["40P01"], "one of them, and as PostgreSQL says it");
        expected += 2 * (shards as i64 - 1);
        assert_eq!(stage.sum("SELECT sum(tbalance) FROM pgbench_tellers"), expected, "the others committed");
    }
    // A statement on all shards is part of a circle as well.
    let one = tellers(&stage, 2);
    let (first, second) = runtime.block_on(async {
        let (a, b) = (connect(&stage).await, connect(&stage).await);
        run(&a, &format!("BEGIN; {}", add(&one[1], 0)), false).await.unwrap();
        run(&b, &format!("BEGIN; {}", add(&one[0], 0)), false).await.unwrap();
        let all = async {
            let outcome =
                run(&a, "UPDATE pgbench_tellers SET tbalance = tbalance WHERE tid > 0", false).await;
            run(&a, "ROLLBACK", false).await.unwrap();
            outcome
        };
        let other = async {
            let outcome = run(&b, &add(&one[1], 0), true).await;
            run(&b, "ROLLBACK", false).await.unwrap();
            outcome
        };
        tokio::time::timeout(PATIENCE, futures_util::future::join(all, other))
            .await
            .expect("the circle is broken")
    });
    let outcomes = [first, second];
    let failed = outcomes.iter().filter(|outcome| outcome.as_ref().err().is_some_and(|code| code == "40P01"));
    assert_eq!(failed.count(), 1, "{outcomes:?}");
    stage.check_nothing_open("at the end");
    stage.check_no_panic();
}
