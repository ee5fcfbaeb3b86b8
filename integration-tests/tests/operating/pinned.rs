//! Clients that keep a server for what lives in its session: how many may, who they are, and when they have let go.

use crate::raw::*;
use crate::*;

/// Rows of SHOW PINNED: database, shards and why.
fn pinned(boss: &mut Wire) -> Vec<String> {
    let rows = table(boss, "SHOW PINNED");
    let of = |row: &Vec<(String, Option<String>)>, name: &str| {
        row.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.clone()).unwrap_or_default()
    };
    rows.iter()
        .map(|row| format!("{} {} {}", of(row, "database"), of(row, "shards"), of(row, "why")))
        .collect()
}

#[test]
fn beyond_pinned_max_a_statement_that_would_pin_is_refused_before_it_takes_effect() {
    let mut place = Place::new();
    place.pool = "size = 3\npinned_max = 1".into();
    let http = free_port();
    place.server = format!("http = \"127.0.0.1:{http}\"");
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut first = endpoint.login("one");
    let mut second = endpoint.login("one");
    first.run("CREATE TEMP TABLE keeps (a int)");
    assert_eq!(pinned(&mut boss), ["one s0 temporary_table"]);

    let locks = format!(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND datname = '{}'",
        place.on_server("one")
    );
    for sql in [
        "SELECT pg_advisory_lock(1)",
        "CREATE TEMP TABLE keeps (a int)",
        "SELECT 1; CREATE TEMP TABLE keeps (a int)",
        "LOAD 'plpgsql'",
    ] {
        let said = second.query(sql);
        let error = error_of(&said).unwrap_or_default();
        assert_eq!(error, "53400 too many clients keep a server connection for themselves", "{sql}");
    }
    second.send(
        &[parse("", "SELECT pg_advisory_lock(1)", &[]), bind("", "", &[]), execute("", 0), sync()].concat(),
    );
    let said = second.until(b'Z');
    assert!(error_of(&said).is_some_and(|e| e.starts_with("53400 ")), "{}", show(&said));
    assert_eq!(at_server(&locks), "0", "the lock was not taken");
    // In a block it fails like any error, and what was done before it is not there.
    second.run("CREATE TABLE stays (a int)");
    second.run("BEGIN");
    second.run("INSERT INTO stays VALUES (1)");
    assert!(error_of(&second.query("SELECT pg_advisory_lock(1)")).is_some());
    assert_eq!(
        error_of(&second.query("SELECT 1")).as_deref(),
        Some("25P02 current transaction is aborted, commands ignored until end of transaction block")
    );
    second.run("COMMIT");
    assert_eq!(second.value("SELECT count(*) FROM stays").as_deref(), Ok("0"));

    // One that is pinned already may do more of it.
    first.run("SELECT pg_advisory_lock(2)");
    assert_eq!(pinned(&mut boss), ["one s0 temporary_table, advisory_lock"]);
    let value = |name: &str| {
        let (_, text) = crate::metrics::get(http, "/metrics");
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name}: {text}"))
    };
    let of = "database=\"one\",user=\"app\",reason";
    assert!(value(&format!("pgherd_pinned_clients{{{of}=\"temporary_table\"")).ends_with(" 1"));
    assert!(value(&format!("pgherd_pinned_refused_total{{{of}=\"advisory_lock\"")).ends_with(" 3"));
    assert!(value(&format!("pgherd_pinned_total{{{of}=\"advisory_lock\"")).ends_with(" 0"));

    // When it leaves there is room again, and its server serves the next.
    let pid = first.value("SELECT pg_backend_pid()");
    drop(first);
    until("it is gone", || pinned(&mut boss).is_empty());
    let mut third = endpoint.login("one");
    until("there is room", || error_of(&third.query("SELECT pg_advisory_lock(1)")).is_none());
    assert_eq!(at_server(&locks), "1");
    assert!(pid.is_ok());
}

#[test]
fn a_client_that_has_let_go_gives_its_server_back_as_it_was() {
    let mut place = Place::new();
    place.pool = "size = 1\ncheckout_timeout = \"20s\"".into();
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut setup = endpoint.login("one");
    setup.run("CREATE TABLE rows_of (a int); INSERT INTO rows_of VALUES (1), (2)");
    drop(setup);
    // What pins, what it holds by then, and what lets go.
    let cases: [(&[&str], &str, &[&str]); 10] = [
        (&["SELECT pg_advisory_lock(1)"], "advisory_lock", &["SELECT pg_advisory_unlock(1)"]),
        (
            &["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_lock_shared(1, 2)"],
            "advisory_lock",
            &["SELECT pg_advisory_unlock_all()"],
        ),
        (&["CREATE TEMP TABLE t (a int)"], "temporary_table", &["DROP TABLE t"]),
        (&["CREATE TABLE pg_temp.t (a int)"], "temporary_table", &["DISCARD TEMP"]),
        (&["SELECT 1 AS a INTO TEMP t"], "temporary_table", &["DISCARD ALL"]),
        (
            &["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT a FROM rows_of", "COMMIT"],
            "holdable_cursor",
            &["FETCH ALL FROM c", "CLOSE c"],
        ),
        // What is over with its transaction keeps nothing.
        (
            &["BEGIN", "CREATE TEMP TABLE t (a int) ON COMMIT DROP", "INSERT INTO t VALUES (1)"],
            "temporary_table",
            &["COMMIT"],
        ),
        (&["BEGIN", "CREATE TEMP TABLE t (a int)"], "temporary_table", &["ROLLBACK"]),
        (
            &["CREATE TEMP TABLE t (a int)", "SELECT pg_advisory_lock(3)"],
            "temporary_table, advisory_lock",
            &["BEGIN", "DROP TABLE t", "SELECT pg_advisory_unlock(3)", "COMMIT"],
        ),
        (&["CREATE TEMP TABLE t (a int)"], "temporary_table", &[]),
    ];
    let mut other = endpoint.login("one");
    let mut pid = other.value("SELECT pg_backend_pid()");
    for (pins, why, lets_go) in cases {
        let mut client = endpoint.login("one");
        pins.iter().for_each(|sql| client.run(sql));
        assert_eq!(pinned(&mut boss), [format!("one s0 {why}")], "{pins:?}");
        lets_go.iter().for_each(|sql| client.run(sql));
        if lets_go.is_empty() {
            // To leave is to let go.
            drop(client);
        }
        until(&format!("{lets_go:?} lets go of {pins:?}"), || pinned(&mut boss).is_empty());
        let found = other.value("SELECT pg_backend_pid()");
        assert_eq!(found, pid, "{lets_go:?}: the same server goes on");
        let left = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) \
                    + (SELECT count(*) FROM pg_cursors WHERE is_holdable) + (SELECT count(*) FROM pg_class WHERE relname = 't')";
        assert_eq!(other.value(left).as_deref(), Ok("0"), "{pins:?}");
    }

    // What did not take hold keeps nothing.
    let mut one = endpoint.login("two");
    assert!(error_of(&one.query("CREATE TEMP TABLE t (a nonsense)")).is_some());
    until("a table that was not made keeps nothing", || pinned(&mut boss).is_empty());

    // What nobody can ask for stays until the end, and its server is closed.
    let mut client = endpoint.login("one");
    client.run("SELECT set_config('my.own', 'x', false), 1");
    client.run("SELECT pg_advisory_unlock_all()");
    assert_eq!(pinned(&mut boss), ["one s0 other"]);
    client.run("DISCARD ALL");
    assert!(pinned(&mut boss).is_empty());
    let after = other.value("SELECT pg_backend_pid()");
    assert_ne!(after, pid);
    pid = after;

    // A server that is lost takes with it what kept it.
    let mut client = endpoint.login("one");
    client.run("CREATE TEMP TABLE t (a int)");
    let own = client.value("SELECT pg_backend_pid()").expect("a process id");
    assert_eq!(Ok(own.clone()), pid);
    at_server(&format!("SELECT pg_terminate_backend({own})"));
    until("nothing is kept", || {
        client.query("SELECT 1");
        pinned(&mut boss).is_empty()
    });
    assert!(other.value("SELECT 1").is_ok());
}
