//! What clients see of the pool: the queue, its timeout, its size, servers that are freed by clients that vanish.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::raw::*;
use crate::*;

#[test]
fn clients_are_served_in_the_order_in_which_they_came() {
    let stage = stage();
    let mut holder = stage.endpoint.login("order");
    holder.run("BEGIN; DROP TABLE IF EXISTS fifo; CREATE TABLE fifo (at serial, who int); COMMIT");
    let mut clients: Vec<Wire> = (0..10).map(|_| stage.endpoint.login("order")).collect();
    holder.run("BEGIN");
    holder.run("SELECT 1");
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&query(&format!("INSERT INTO fifo (who) VALUES ({n})")));
        thread::sleep(Duration::from_millis(100));
    }
    holder.run("COMMIT");
    for client in &mut clients {
        assert!(error_of(&client.until(b'Z')).is_none());
    }
    let order = holder.value("SELECT string_agg(who::text, ',' ORDER BY at) FROM fifo");
    assert_eq!(order.as_deref(), Ok("0,1,2,3,4,5,6,7,8,9"));
}

#[test]
fn a_client_waiting_past_checkout_timeout_is_refused_and_may_try_again() {
    let stage = stage();
    let mut holder = stage.endpoint.login("brief");
    let mut client = stage.endpoint.login("brief");
    holder.run("BEGIN");
    holder.run("SELECT 1");
    let begun = Instant::now();
    let said = client.query("SELECT 1");
    let waited = begun.elapsed();
    let error = error_of(&said).unwrap_or_default();
    assert!(error.starts_with("53300 "), "{error}");
    assert!(error.contains("server connection"), "the text names what was missing: {error}");
    assert!((Duration::from_millis(350)..Duration::from_millis(2500)).contains(&waited), "waited {waited:?}");
    // In the extended protocol: one error, skipped to Sync.
    client.send(&[parse("", "SELECT 1", &[]), bind("", "", &[]), execute("", 0), sync()].concat());
    let said = client.until(b'Z');
    assert_eq!(said.iter().filter(|m| m.kind == b'E').count(), 1, "{}", show(&said));
    assert!(!said.iter().any(|m| m.kind == b'D'), "{}", show(&said));
    holder.run("COMMIT");
    assert_eq!(client.value("SELECT 'again'").as_deref(), Ok("again"));
    assert_eq!(said.last().map(|m| m.body.clone()), Some(b"I".to_vec()));
}

/// `pg_stat_activity` as the superuser sees it, past pgherd.
fn at_server(stage: &Stage, sql: &str) -> String {
    stage.herd.psql(PLAIN, sql).expect("the server answers")
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(8);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_client_that_disappears_leaves_no_query_no_lock_and_its_server_to_the_next() {
    let stage = stage();
    let mut admin = stage.endpoint.login("leaving");
    admin.run("DROP TABLE IF EXISTS gone; CREATE TABLE gone (a int)");
    drop(admin);
    let ways: [(&str, fn(&mut Wire)); 7] = [
        ("in a query", |w| w.send(&query("SELECT pg_sleep(60), 'gone 1'"))),
        ("in a transaction", |w| w.run("BEGIN; LOCK TABLE gone; INSERT INTO gone VALUES (1)")),
        ("in a query of a transaction", |w| {
            w.run("BEGIN; LOCK TABLE gone");
            w.send(&query("SELECT pg_sleep(60), 'gone 2'"));
        }),
        ("in a pipeline without Sync", |w| {
            w.send(
                &[
                    parse("", "INSERT INTO gone SELECT 1 FROM pg_sleep(0.1)", &[]),
                    bind("", "", &[]),
                    execute("", 0),
                    flush(),
                ]
                .concat(),
            );
            w.until(b'C');
        }),
        ("in a pipeline without Sync, running", |w| {
            w.send(
                &[
                    parse("", "INSERT INTO gone SELECT 1 FROM pg_sleep(60)", &[]),
                    bind("", "", &[]),
                    execute("", 0),
                    flush(),
                ]
                .concat(),
            );
            w.until(b'2');
        }),
        ("in COPY FROM", |w| {
            w.send(&[query("COPY gone FROM STDIN"), copy_data("1\n2\n")].concat());
            w.until(b'G');
        }),
        ("in COPY TO without reading", |w| {
            w.send(&query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 300000)) TO STDOUT"))
        }),
    ];
    for (why, way) in ways {
        let mut wire = stage.endpoint.login("leaving");
        let pid = wire.value("SELECT pg_backend_pid()").expect("a process id");
        way(&mut wire);
        thread::sleep(Duration::from_millis(250));
        drop(wire);
        let begun = Instant::now();
        let mut next = stage.endpoint.login("leaving");
        assert_eq!(next.value("SELECT count(*) FROM gone").as_deref(), Ok("0"), "{why}");
        assert!(
            begun.elapsed() < Duration::from_secs(7),
            "{why}: the next client waited {:?}",
            begun.elapsed()
        );
        assert_eq!(
            next.value("SELECT pg_backend_pid()").as_deref(),
            Ok(pid.as_str()),
            "{why}: the server is kept"
        );
        next.run("BEGIN; LOCK TABLE gone NOWAIT; ROLLBACK");
        let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()";
        until("a query of a vanished client runs on", || at_server(stage, left) == "0");
    }
}

#[test]
fn a_waiting_client_that_disappears_leaves_the_queue() {
    let stage = stage();
    let mut holder = stage.endpoint.login("waiting");
    holder.run("BEGIN");
    holder.run("SELECT 1");
    let leaving: Vec<Wire> = (0..5)
        .map(|_| {
            let mut wire = stage.endpoint.login("waiting");
            wire.send(&query("SELECT pg_sleep(3)"));
            wire
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    drop(leaving);
    let mut last = stage.endpoint.login("waiting");
    last.send(&query("SELECT 'me'"));
    thread::sleep(Duration::from_millis(200));
    holder.run("COMMIT");
    let begun = Instant::now();
    assert_eq!(value_of(&last.until(b'Z')).as_deref(), Ok("me"));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "waited {:?} behind clients that had left",
        begun.elapsed()
    );
}

#[test]
fn pool_size_is_never_exceeded_whatever_the_workers() {
    let stage = stage();
    let stop = AtomicBool::new(false);
    let tag = "load-test";
    thread::scope(|scope| {
        for n in 0..16 {
            let stop = &stop;
            scope.spawn(move || {
                let mut wire = stage.endpoint.login("load");
                wire.run(&format!("SET application_name TO '{tag}'"));
                while !stop.load(Ordering::Relaxed) {
                    match n % 4 {
                        0 => wire.run("BEGIN; SELECT pg_sleep(0.001); COMMIT"),
                        1 => {
                            // Comes and goes.
                            wire = stage.endpoint.login("load");
                            wire.run(&format!("SET application_name TO '{tag}'"));
                            wire.run("SELECT pg_sleep(0.002)");
                        }
                        2 => {
                            wire.send(&query("SELECT pg_sleep(0.05)"));
                            thread::sleep(Duration::from_millis(5));
                            wire = stage.endpoint.login("load");
                            wire.run(&format!("SET application_name TO '{tag}'"));
                        }
                        _ => wire.run("SELECT 1"),
                    }
                }
            });
        }
        let begun = Instant::now();
        let mut most = 0;
        while begun.elapsed() < Duration::from_secs(5) {
            let count: usize = at_server(
                stage,
                &format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{tag}'"),
            )
            .parse()
            .expect("a number");
            most = most.max(count);
        }
        stop.store(true, Ordering::Relaxed);
        assert!((1..=3).contains(&most), "pool.size is 3, and {most} connections were seen");
    });
}
