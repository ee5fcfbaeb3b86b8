//! Another configuration, and nobody is disconnected.

use std::time::Duration;

use crate::raw::*;
use crate::*;

#[test]
fn sizes_users_and_databases_change_under_clients_that_stay() {
    let mut place = Place::new();
    let mut endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut idle = endpoint.login("one");
    idle.run("SET application_name TO 'kept'");
    idle.send(&[parse("kept", "SELECT 42", &[]), sync()].concat());
    idle.until(b'Z');
    let mut open = endpoint.login("one");
    open.run("BEGIN");
    open.run("SELECT 1");

    place.pool = "size = 1\ncheckout_timeout = \"300ms\"".into();
    place.databases.push(("three", ""));
    endpoint.configure(&place.text());
    endpoint.signal("HUP");
    until("it is reloaded", || cell(&mut boss, "SHOW DATABASES", "name", "one", "pool_size") == "1");
    endpoint.login("three").run("SELECT 1");

    open.run("SELECT 1");
    let refused = idle.value("SELECT 1").unwrap_err();
    assert!(refused.starts_with("53300 timed out waiting"), "one place, and it is taken: {refused}");
    open.run("COMMIT");
    assert_eq!(idle.value("SHOW application_name").as_deref(), Ok("kept"));
    idle.send(&[bind("", "kept", &[]), execute("", 0), sync()].concat());
    assert_eq!(value_of(&idle.until(b'Z')).as_deref(), Ok("42"));
    let server =
        &format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", place.on_server("one"));
    until("the pool shrinks to its size", || at_server(server) == "1");

    // A database that is not there any more: its clients leave when their transactions end, others stay.
    let mut leaving = endpoint.login("two");
    leaving.run("BEGIN");
    let mut gone = endpoint.login("two");
    place.databases.remove(1);
    endpoint.configure(&place.text());
    boss.run("RELOAD");
    assert!(error_of(&gone.until(0)).is_some_and(|error| error.starts_with("57P01 ")));
    leaving.run("SELECT 1");
    leaving.run("COMMIT");
    assert!(error_of(&leaving.until(0)).is_some_and(|error| error.starts_with("57P01 ")));
    idle.run("SELECT 1");
    let mut newcomer = Wire::tcp(endpoint.port);
    newcomer.send(&startup(196_608, "app", "two", &[]));
    assert!(error_of(&newcomer.until(0)).is_some_and(|error| error.starts_with("3D000 ")));
    endpoint.assert_well();
}

#[test]
fn a_database_moves_to_another_address_between_transactions() {
    let place = Place::new();
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut client = endpoint.login("one");
    client.run("BEGIN");
    let name = |name| Ok(place.on_server(name));
    assert_eq!(client.value("SELECT current_database()"), name("one"));
    let text = place.text();
    let moved = text.replace(&place.address("one"), &place.address("two"));
    let moved =
        moved.replace("[databases.two]", "[databases.other]").replace("databases.two.", "databases.other.");
    assert_ne!(text, moved);
    endpoint.configure(&moved);
    boss.run("RELOAD");
    assert_eq!(client.value("SELECT current_database()"), name("one"), "not within a transaction");
    client.run("COMMIT");
    assert_eq!(client.value("SELECT current_database()"), name("two"));
}

#[test]
fn a_bad_file_changes_nothing_and_says_so() {
    let place = Place::new();
    let mut endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut client = endpoint.login("one");
    for (why, text) in [
        ("no TOML", "[server".to_owned()),
        ("an unknown key", place.text().replace("size = 2", "size = 7\ncolour = \"red\"")),
        ("a secret that is not there", place.text().replace("env:APP_PASSWORD", "env:NOT_SET")),
    ] {
        endpoint.configure(&text);
        let said = boss.query("RELOAD");
        let error = error_of(&said);
        assert_eq!(
            error.as_deref(),
            Some("F0000 RELOAD failed, see logs for additional details"),
            "{why}: {}",
            show(&said)
        );
        let before = endpoint.log().matches("was not reloaded").count();
        endpoint.signal("HUP");
        until("the log says so", || endpoint.log().matches("was not reloaded").count() > before);
        client.run("SELECT 1");
        assert_eq!(cell(&mut boss, "SHOW DATABASES", "name", "one", "pool_size"), "2", "{why}");
    }
    std::thread::sleep(Duration::from_millis(50));
    endpoint.assert_well();
}
