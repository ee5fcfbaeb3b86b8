//! The end: graceful, then not.

use std::time::Duration;

use crate::raw::*;
use crate::*;

const SHUT_DOWN: &str = "57P01 terminating connection due to administrator command";

#[test]
fn sigterm_waits_for_transactions_and_sends_idle_clients_away() {
    for signal in ["TERM", "INT"] {
        let mut endpoint = Place::new().start();
        let mut idle = endpoint.login("one");
        let mut busy = endpoint.login("one");
        idle.run("SELECT 1");
        busy.run("BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP");
        let mut running = endpoint.login("two");
        running.send(&query("SELECT pg_sleep(0.6), 'whole'"));
        std::thread::sleep(Duration::from_millis(100));
        endpoint.signal(signal);
        assert_eq!(error_of(&idle.until(0)).as_deref(), Some(SHUT_DOWN), "SIG{signal}");
        until("nobody is accepted", || std::net::TcpStream::connect(("127.0.0.1", endpoint.port)).is_err());
        let said = running.until(b'Z');
        assert!(said.iter().any(|m| m.kind == b'D') && error_of(&said).is_none(), "{}", show(&said));
        assert_eq!(error_of(&running.until(0)).as_deref(), Some(SHUT_DOWN));
        busy.run("INSERT INTO t VALUES (1)");
        assert_eq!(endpoint.ends_within(Duration::from_millis(100)), None);
        busy.run("COMMIT");
        assert_eq!(error_of(&busy.until(0)).as_deref(), Some(SHUT_DOWN));
        let ended = endpoint.ends_within(Duration::from_secs(3)).expect("it ends");
        assert!(ended.success(), "{ended}\n{}", endpoint.log());
        assert!(endpoint.log().contains("stopped"), "{}", endpoint.log());
    }
}

#[test]
fn a_second_sigterm_does_not_wait_nor_does_sigquit() {
    for signals in [&["TERM", "TERM"][..], &["QUIT"], &["INT", "INT"]] {
        let mut endpoint = Place::new().start();
        let mut busy = endpoint.login("one");
        busy.run("BEGIN");
        busy.send(&query("SELECT pg_sleep(30)"));
        for signal in signals {
            std::thread::sleep(Duration::from_millis(200));
            endpoint.signal(signal);
        }
        let ended = endpoint.ends_within(Duration::from_secs(3)).expect("it ends at once");
        assert!(ended.success(), "{signals:?}: {ended}\n{}", endpoint.log());
    }
}

#[test]
fn drain_clients_waits_until_clients_leave_by_themselves() {
    let mut place = Place::new();
    place.server = "drain = \"clients\"".into();
    let mut endpoint = place.start();
    let mut client = endpoint.login("one");
    endpoint.signal("TERM");
    until("nobody is accepted", || std::net::TcpStream::connect(("127.0.0.1", endpoint.port)).is_err());
    for _ in 0..5 {
        client.run("SELECT 1");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(endpoint.ends_within(Duration::from_millis(50)), None);
    drop(client);
    assert!(endpoint.ends_within(Duration::from_secs(3)).is_some_and(|ended| ended.success()));

    place.port = free_port();
    place.server += "\ndrain_timeout = \"300ms\"";
    let mut endpoint = place.start();
    let mut client = endpoint.login("one");
    endpoint.signal("TERM");
    assert_eq!(error_of(&client.until(0)).as_deref(), Some(SHUT_DOWN));
    assert!(endpoint.ends_within(Duration::from_secs(3)).is_some());
}

#[test]
fn shutdown_in_the_console_does_the_same() {
    let mut endpoint = Place::new().start();
    let mut boss = console(&endpoint, "boss");
    let mut client = endpoint.login("one");
    client.run("BEGIN");
    boss.run("SHUTDOWN WAIT_FOR_SERVERS");
    client.run("SELECT 1");
    client.run("COMMIT");
    assert!(endpoint.ends_within(Duration::from_secs(3)).is_some_and(|ended| ended.success()));

    let mut endpoint = Place::new().start();
    let mut boss = console(&endpoint, "boss");
    let mut client = endpoint.login("one");
    boss.run("SHUTDOWN WAIT_FOR_CLIENTS");
    client.run("SELECT 1");
    assert_eq!(boss.value("SHOW VERSION").as_deref(), Ok("PgBouncer 1.25.2"), "the console watches");
    drop(client);
    assert!(endpoint.ends_within(Duration::from_secs(3)).is_some_and(|ended| ended.success()));
}
