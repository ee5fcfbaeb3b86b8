//! Session mode and statement mode.

use crate::raw::*;
use crate::*;

/// A session has a server of its own: everything that lives in one is there, and nothing of it is left for the next client.
#[test]
fn in_session_mode_a_client_has_a_server_of_its_own_and_leaves_it_as_new() {
    let stage = stage();
    let of_a_session = queries(&[
        "CREATE TEMP TABLE mine (a serial)",
        "INSERT INTO mine DEFAULT VALUES",
        "SELECT currval('mine_a_seq'), lastval()",
        "PREPARE p (int) AS SELECT $1 + 1",
        "EXECUTE p (41)",
        "LISTEN own_channel",
        "NOTIFY own_channel, 'heard'",
        "SELECT pg_advisory_lock(91)",
        "BEGIN",
        "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 5)",
        "COMMIT",
        "FETCH 2 FROM c",
        "SET work_mem TO '9MB'",
        "SELECT set_config('my.own', 'x', false)",
        "FETCH 2 FROM c",
        "SHOW work_mem",
        "DISCARD ALL",
        "SHOW work_mem",
        "SELECT * FROM mine",
        "FETCH 1 FROM c",
        "EXECUTE p (1)",
        "CREATE TEMP TABLE mine (b int)",
        "SET work_mem TO '11MB'",
        "LISTEN left_behind",
        "SELECT pg_advisory_lock(92)",
    ]);
    stage.compare("session", vec![script("what lives in a session", of_a_session)]);
    // The pool has one server: this is the one that the last client had.
    let mut next = stage.endpoint.login("session");
    assert_eq!(next.value("SHOW work_mem").as_deref(), Ok("4MB"));
    assert_eq!(
        next.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 92").as_deref(),
        Ok("0")
    );
    assert_eq!(next.value("SELECT count(*) FROM pg_listening_channels()").as_deref(), Ok("0"));
    assert!(error_of(&next.query("SELECT * FROM mine")).is_some_and(|e| e.starts_with("42P01")));
    assert_eq!(next.value("SELECT count(*) FROM pg_prepared_statements").as_deref(), Ok("0"));
}

#[test]
fn in_session_mode_a_client_keeps_its_server_until_it_leaves() {
    let stage = stage();
    let mut first = stage.endpoint.login("session");
    let own = first.value("SELECT pg_backend_pid()");
    let mut second = stage.endpoint.login("session");
    second.send(&query("SELECT 'served'"));
    assert!(
        matches!(second.hear(Duration::from_millis(400)), Heard::Silence),
        "there is one server, and it is taken"
    );
    assert_eq!(first.value("SELECT pg_backend_pid()"), own);
    drop(first);
    assert_eq!(value_of(&second.until(b'Z')).as_deref(), Ok("served"));
}

#[test]
fn in_statement_mode_transaction_blocks_are_refused_and_the_session_goes_on() {
    let stage = stage();
    let mut wire = stage.endpoint.login("statement");
    for block in ["BEGIN", "START TRANSACTION", "SELECT 1; BEGIN", "BEGIN; SELECT 1; COMMIT"] {
        let said = wire.query(block);
        let error = error_of(&said).unwrap_or_default();
        assert!(error.starts_with("0A000 transaction blocks are not allowed"), "{block}: {}", show(&said));
        assert_eq!(said.last().map(|m| m.body.clone()), Some(b"I".to_vec()), "{block}");
    }
    wire.send(&[parse("", "BEGIN", &[]), bind("", "", &[]), execute("", 0), sync()].concat());
    assert!(error_of(&wire.until(b'Z')).is_some_and(|e| e.starts_with("0A000")));
    assert_eq!(wire.value("SELECT 'on'").as_deref(), Ok("on"));
}
