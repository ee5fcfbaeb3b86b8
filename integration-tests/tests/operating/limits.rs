//! Bounds of clients, connections and time.

use std::thread;
use std::time::{Duration, Instant};

use crate::raw::*;
use crate::*;

fn refused(endpoint: &Endpoint, database: &str) -> Option<String> {
    let mut wire = Wire::tcp(endpoint.port);
    wire.send(&startup(196_608, "app", database, &[]));
    error_of(&wire.until(b'Z'))
}

#[test]
fn clients_are_bounded_in_all_by_database_and_by_user() {
    let mut place = Place::new();
    place.server = "max_clients = 4".into();
    place.user = "max_clients = 3".into();
    place.databases = vec![("one", "max_clients = 2"), ("two", "")];
    let endpoint = place.start();
    let first = endpoint.login("one");
    let second = endpoint.login("one");
    assert_eq!(refused(&endpoint, "one").as_deref(), Some("53300 too many connections for database \"one\""));
    let third = endpoint.login("two");
    assert_eq!(refused(&endpoint, "two").as_deref(), Some("53300 too many connections for role \"app\""));
    let _boss = console(&endpoint, "boss");
    assert_eq!(refused(&endpoint, "two").as_deref(), Some("53300 sorry, too many clients already"));
    drop((first, second));
    until("places are free again", || refused(&endpoint, "one").is_none());
    drop(third);
}

#[test]
fn connections_of_a_user_are_bounded_over_databases_and_idle_ones_make_room() {
    let mut place = Place::new();
    place.user = "max_connections = 1\ncheckout_timeout = \"3s\"".into();
    let mut endpoint = place.start();
    let open = &format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname IN ('{}', '{}') AND usename = 'app'",
        place.on_server("one"),
        place.on_server("two")
    );
    let mut one = endpoint.login("one");
    one.run("SELECT 1");
    let mut two = endpoint.login("two");
    for round in 0..3 {
        for (wire, name) in [(&mut one, "one"), (&mut two, "two")] {
            assert_eq!(wire.value(&format!("SELECT '{name}'")).as_deref(), Ok(name), "{round}");
        }
    }
    until("the connection before is closed", || at_server(open) == "1");
    // Who holds it is waited for, in the order in which clients came.
    one.run("BEGIN");
    one.run("SELECT 1");
    two.send(&query("SELECT 'waited'"));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(at_server(open), "1");
    one.run("COMMIT");
    assert_eq!(value_of(&two.until(b'Z')).as_deref(), Ok("waited"));
    // And not for ever.
    one.run("BEGIN");
    one.run("SELECT 1");
    let refused = two.query("SELECT 'refused'");
    assert_eq!(error_of(&refused).as_deref(), Some("53300 timed out waiting for a server connection"));
    let error = refused.iter().find(|m| m.kind == b'E').expect("an error");
    let detail = String::from_utf8_lossy(&error.body).into_owned();
    assert!(detail.contains("user \"app\" has 1 server connections in use"), "{detail}");
    one.run("ROLLBACK");
    let mut boss = console(&endpoint, "boss");
    assert_eq!(cell(&mut boss, "SHOW USERS", "name", "app", "max_user_connections"), "1");
    // A larger bound is in force at once.
    boss.run("SET max_user_connections = 2");
    one.run("BEGIN");
    one.run("SELECT 1");
    assert_eq!(two.value("SELECT 'both'").as_deref(), Ok("both"));
    endpoint.assert_well();
}

#[test]
fn time_limits_end_what_takes_too_long_and_nothing_else() {
    let mut place = Place::new();
    place.pool = "size = 2\nquery_timeout = \"400ms\"".into();
    place.databases = vec![
        ("one", "pool.idle_transaction_timeout = \"400ms\"\npool.transaction_timeout = \"2s\""),
        ("two", "pool.client_idle_timeout = \"600ms\""),
    ];
    let endpoint = place.start();
    let mut client = endpoint.login("one");
    let begun = Instant::now();
    let error = client.value("SELECT pg_sleep(5)").unwrap_err();
    assert!(error.starts_with("57014 ") && begun.elapsed() < Duration::from_secs(2), "{error}");
    // The session lives on, also past client_idle_timeout of the other database.
    thread::sleep(Duration::from_millis(900));
    client.run("SELECT 1");
    client.run("BEGIN");
    assert_eq!(
        error_of(&client.until(0)).as_deref(),
        Some("25P03 terminating connection due to idle-in-transaction timeout")
    );
    let mut client = endpoint.login("one");
    client.run("BEGIN");
    let begun = Instant::now();
    let error = loop {
        match client.value("SELECT pg_sleep(0.1)") {
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(5), "transaction_timeout"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, "25P04 terminating connection due to transaction timeout");
    let open = &format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state LIKE 'idle in transaction%'",
        place.on_server("one")
    );
    until("the transaction is rolled back", || at_server(open) == "0");

    let mut idle = endpoint.login("two");
    assert_eq!(
        error_of(&idle.until(0)).as_deref(),
        Some("57P05 terminating connection due to idle-session timeout")
    );
}

#[test]
fn a_pool_keeps_its_minimum_and_opens_its_reserve_for_those_who_wait() {
    let mut place = Place::new();
    place.pool =
        "size = 1\nmin_size = 1\nreserve = 1\nreserve_timeout = \"300ms\"\nidle_timeout = \"1s\"".into();
    let endpoint = place.start();
    let open = &format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app'",
        place.on_server("one")
    );
    until("min_size", || at_server(open) == "1");
    let mut holder = endpoint.login("one");
    holder.run("BEGIN");
    holder.run("SELECT 1");
    let mut waiting = endpoint.login("one");
    assert_eq!(waiting.value("SELECT 'reserve'").as_deref(), Ok("reserve"));
    holder.run("COMMIT");
    until("the reserve is closed", || at_server(open) == "1");
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(at_server(open), "1", "the minimum is kept past idle_timeout");
}

#[test]
fn too_many_open_files_is_one_clients_trouble() {
    let place = Place::new();
    let mut endpoint = place.start();
    let mut first = endpoint.login("one");
    first.run("SELECT 1");
    let limit = endpoint.open_files() + 4;
    endpoint.limit_open_files(limit);
    let crowd: Vec<_> = (0..12).map(|_| Wire::tcp(endpoint.port)).collect();
    until("the log says so", || endpoint.log().contains("a client could not be accepted"));
    first.run("SELECT 1");
    drop(crowd);
    until("it goes on", || {
        let mut wire = Wire::tcp(endpoint.port);
        wire.send(&startup(196_608, "app", "one", &[]));
        error_of(&wire.until(b'Z')).is_none()
    });
    endpoint.assert_well();
}
