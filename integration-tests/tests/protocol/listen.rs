//! LISTEN for many clients over one connection, compared with PostgreSQL where the moment is defined.

use crate::raw::*;
use crate::*;

/// Channel and payload of the next notification.
fn heard(wire: &mut Wire) -> String {
    let said = wire.until(b'A');
    let last = said.last().expect("until gives something");
    assert_eq!(last.kind, b'A', "{}", show(&said));
    told(last)
}

fn told(message: &Message) -> String {
    let text = String::from_utf8_lossy(&message.body[4..]).into_owned();
    text.strip_suffix('\0').unwrap_or(&text).replace('\0', " ")
}

/// What a statement of the client's own tells it, before it is over.
fn heard_itself(wire: &mut Wire, sql: &str) -> Vec<String> {
    wire.query(sql).iter().filter(|m| m.kind == b'A').map(told).collect()
}

fn hears_nothing(wire: &mut Wire, why: &str) {
    let heard = wire.hear(QUIET);
    assert!(matches!(heard, Heard::Silence), "{why}: {heard:?}");
}

fn extended(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat()
}

#[test]
fn listening_is_as_on_a_connection_of_ones_own() {
    let stage = stage();
    let scripts = |sql: &[(&'static str, &[&str])]| -> Vec<Script> {
        sql.iter().map(|(why, sql)| script(why, queries(sql))).collect()
    };
    let mut all = scripts(&[
        (
            "a client hears itself",
            &["LISTEN l1", "NOTIFY l1, 'x'", "NOTIFY l1", "SELECT 1", "UNLISTEN l1", "NOTIFY l1"],
        ),
        (
            "in its own transaction",
            &["BEGIN", "LISTEN l2", "NOTIFY l2, 'a'", "NOTIFY l2, 'b'", "NOTIFY l2, 'a'", "COMMIT"],
        ),
        (
            "rolled back",
            &["LISTEN l3", "BEGIN", "LISTEN l3b", "NOTIFY l3", "ROLLBACK", "NOTIFY l3b", "NOTIFY l3, 'z'"],
        ),
        (
            "rolled back to a savepoint",
            &[
                "BEGIN",
                "LISTEN l4a",
                "SAVEPOINT s",
                "LISTEN l4b",
                "UNLISTEN l4a",
                "ROLLBACK TO s",
                "LISTEN l4c",
                "COMMIT",
                "NOTIFY l4a",
                "NOTIFY l4b",
                "NOTIFY l4c",
            ],
        ),
        (
            "a failed block",
            &["BEGIN", "LISTEN l5", "SELECT 1/0", "LISTEN l5b", "COMMIT", "NOTIFY l5", "NOTIFY l5b"],
        ),
        (
            "a transaction that is to be prepared",
            &["BEGIN", "LISTEN l20", "PREPARE TRANSACTION 'listening'", "SELECT 1", "ROLLBACK", "NOTIFY l20"],
        ),
        ("UNLISTEN in a block", &["LISTEN l6", "BEGIN", "UNLISTEN *", "NOTIFY l6", "COMMIT", "NOTIFY l6"]),
        (
            "in one string",
            &["LISTEN l7; NOTIFY l7, 'string'", "LISTEN l7b; SELECT 1/0", "NOTIFY l7b", "NOTIFY l7"],
        ),
        (
            "no names",
            &["LISTEN select", "LISTEN", "LISTEN 'x'", "LISTEN \"\"", "UNLISTEN", "LISTEN a.b", "SELECT 1"],
        ),
        (
            "names as PostgreSQL folds them",
            &["LISTEN Ll8", "NOTIFY lL8, 'folded'", "LISTEN \"Ll8\"", "NOTIFY \"Ll8\", 'as it is'"],
        ),
        ("DISCARD ALL", &["LISTEN l9", "DISCARD ALL", "NOTIFY l9", "SELECT * FROM pg_listening_channels()"]),
        (
            "the client's channels",
            &[
                "SELECT * FROM pg_listening_channels()",
                "LISTEN l10",
                "LISTEN l10",
                "LISTEN l11",
                "SELECT * FROM pg_listening_channels()",
                "SELECT pg_listening_channels();",
                "UNLISTEN l10",
                "SELECT * FROM pg_listening_channels()",
            ],
        ),
        (
            "UNLISTEN what nobody listens to",
            &["UNLISTEN nobody", "UNLISTEN *", "BEGIN", "UNLISTEN *", "COMMIT"],
        ),
    ]);
    all.push(script(
        "by the extended protocol",
        join(vec![
            batch(&[extended("LISTEN l12"), sync()], 1),
            queries(&["NOTIFY l12, 'extended'"]),
            // What fails behind it takes it back.
            batch(&[extended("LISTEN l13"), extended("SELECT 1/0"), sync()], 1),
            queries(&["NOTIFY l13", "SELECT 1"]),
            batch(&[extended("UNLISTEN *"), sync()], 1),
            queries(&["NOTIFY l12"]),
        ]),
    ));
    stage.compare("plain", all);
}

#[test]
fn clients_that_listen_keep_no_server_and_each_hears_what_it_listens_to() {
    let stage = stage();
    // One server for all of them.
    let mut first = stage.endpoint.login("hearing");
    let mut second = stage.endpoint.login("hearing");
    let mut other = stage.endpoint.login("hearing");
    first.run("LISTEN shared");
    first.run("LISTEN of_first");
    second.run("LISTEN shared");
    other.run("NOTIFY shared, '1'");
    assert_eq!(heard(&mut first), "shared 1");
    assert_eq!(heard(&mut second), "shared 1");
    other.run("SELECT pg_notify('of_first', n::text) FROM generate_series(1, 50) n");
    for n in 1..=50 {
        assert_eq!(heard(&mut first), format!("of_first {n}"));
    }
    first.run("UNLISTEN shared");
    other.run("NOTIFY shared, '2'");
    assert_eq!(heard(&mut second), "shared 2");
    hears_nothing(&mut first, "it has unlistened");
    hears_nothing(&mut second, "it does not listen on the other");
    drop(second);
    other.run("NOTIFY shared, '3'");
    // What was committed before is not for who comes later.
    let mut late = stage.endpoint.login("hearing");
    late.run("LISTEN shared");
    hears_nothing(&mut late, "it came later");
    other.run("NOTIFY shared, '4'");
    assert_eq!(heard(&mut late), "shared 4");
}

#[test]
fn nobody_is_told_inside_a_transaction() {
    let stage = stage();
    let mut client = stage.endpoint.login("plain");
    let mut other = stage.endpoint.login("plain");
    client.run("LISTEN inside");
    for end in ["COMMIT", "ROLLBACK"] {
        client.run("BEGIN");
        client.run("SELECT 1");
        other.run("NOTIFY inside");
        hears_nothing(&mut client, "its transaction is open");
        let said = client.query("SELECT 2");
        assert!(!said.iter().any(|m| m.kind == b'A'), "{}", show(&said));
        client.send(&query(end));
        assert_eq!(heard(&mut client), "inside ");
    }
    // Nor in a batch that waits for its Sync.
    let mut client = stage.endpoint.login("plain");
    client.run("LISTEN inside");
    client.send(&[extended("SELECT 1"), flush()].concat());
    client.until(b'C');
    other.run("NOTIFY inside, 'batch'");
    hears_nothing(&mut client, "its batch has no Sync");
    client.send(&sync());
    assert_eq!(heard(&mut client), "inside batch");
}

#[test]
fn when_the_listening_connection_is_lost_its_clients_are_told_and_sent_away() {
    let stage = stage();
    let mut idle = stage.endpoint.login("hearing_lost");
    let mut busy = stage.endpoint.login("hearing_lost");
    let mut deaf = stage.endpoint.login("hearing_lost");
    idle.run("LISTEN lost");
    busy.run("LISTEN lost");
    busy.run("BEGIN");
    busy.run("SELECT 1");
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE application_name = 'pgherd listen' AND datname = 'lost'";
    assert_eq!(stage.herd.psql(PLAIN, ended).as_deref().ok(), Some("1"));
    let told = "57P01 terminating connection because notifications may have been lost";
    assert_eq!(error_of(&idle.until(0)).as_deref(), Some(told));
    // A transaction comes to its end first.
    busy.run("SELECT 2");
    let mut said = busy.query("COMMIT");
    said.extend(busy.until(0));
    assert_eq!(error_of(&said).as_deref(), Some(told), "{}", show(&said));
    // Who does not listen notices nothing, and may begin to.
    deaf.run("SELECT 1");
    deaf.run("LISTEN lost");
    assert_eq!(heard_itself(&mut deaf, "NOTIFY lost"), ["lost "]);
}

#[test]
fn a_client_that_does_not_take_its_notifications_is_sent_away_and_nobody_waits_for_it() {
    let stage = stage();
    // A pgherd of its own: others measure the memory of theirs meanwhile.
    let port = free_port();
    let endpoint = Endpoint::start(
        &stage.herd,
        port,
        &format!(
            "[server]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 2\n\n[auth]\nmethod = \"trust\"\n\n\
             [[users]]\nname = \"app\"\npassword = \"env:APP_PASSWORD\"\n\n\
             [[databases.plain.shards]]\nname = \"s0\"\nprimary = \"postgres://127.0.0.1:{}/plain\"\n",
            stage.herd.port(PLAIN)
        ),
    );
    let mut full = endpoint.login("plain");
    let mut other = endpoint.login("plain");
    full.run("LISTEN fulls");
    other.run("LISTEN full_too");
    full.run("BEGIN");
    full.run("SELECT 1");
    // 9.6 MB
    other.run("SELECT count(pg_notify('fulls', rpad(n::text, 7999, 'x'))) FROM generate_series(1, 1200) n");
    // Whoever takes its own is not kept waiting.
    assert_eq!(heard_itself(&mut other, "NOTIFY full_too, 'on'"), ["full_too on"]);
    full.send(&query("COMMIT"));
    let said = full.until(0);
    let error = error_of(&said).unwrap_or_default();
    assert_eq!(
        error,
        "53400 terminating connection because too many notifications wait for it",
        "{}",
        show(&said)
    );
}

#[test]
fn on_a_sharded_database_every_server_is_heard() {
    let stage = stage();
    let mut client = stage.endpoint.login("shop");
    client.run("LISTEN everywhere");
    assert_eq!(heard_itself(&mut client, "NOTIFY everywhere, 'itself'"), ["everywhere itself"]);
    for shard in 0..4 {
        let database = &stage.herd.options().database;
        let url = format!(
            "postgres:///{database}?host={}&port={}&user=app",
            stage.herd.folder().display(),
            stage.herd.port(shard)
        );
        stage.herd.psql_at(&url, &format!("NOTIFY everywhere, 'from {shard}'")).expect("the server takes it");
        assert_eq!(heard(&mut client), format!("everywhere from {shard}"));
    }
    client.run("BEGIN");
    client.run("UNLISTEN *");
    client.run("COMMIT");
    client.run("NOTIFY everywhere");
    hears_nothing(&mut client, "it has unlistened");
}

#[test]
fn what_cannot_be_told_right_is_refused() {
    let stage = stage();
    let mut client = stage.endpoint.login("plain");
    assert_eq!(client.value("SELECT count(*) FROM pg_listening_channels()").as_deref(), Ok("0"));
    client.run("LISTEN refused");
    let error = client.value("SELECT count(*) FROM pg_listening_channels()").unwrap_err();
    assert_eq!(error, "0A000 pg_listening_channels() can only be asked for by itself");
    let error = client.value("SET client_encoding TO 'LATIN1'").unwrap_err();
    assert_eq!(error, "0A000 cannot change client_encoding while the session listens");
    client.run("UNLISTEN *");
    client.run("SET client_encoding TO 'LATIN1'");
    let error = client.value("LISTEN refused").unwrap_err();
    assert_eq!(error, "0A000 cannot listen with a client_encoding that is not UTF8");
}
