//! Replication connections through pgherd: PostgreSQL's own programs, against a real server.

mod raw;

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{APP_ROLE, Herd, HerdOptions, leashed};
use raw::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn stage() -> (Herd, Endpoint) {
    let settings = [("wal_level", "logical"), ("max_wal_senders", "8"), ("max_replication_slots", "8")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let herd = Herd::start(2, HerdOptions { fsync: false, settings, ..HerdOptions::default() });
    let herd = herd.expect("a herd of PostgreSQL servers");
    for server in 0..2 {
        herd.psql(server, &format!("ALTER ROLE {APP_ROLE} REPLICATION")).expect("the role may replicate");
    }
    let port = free_port();
    let mut text = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 2\nadmins = [\"boss\"]\n\n[auth]\nmethod = \"trust\"\n\n\
         [[users]]\nname = \"boss\"\n\n[[users]]\nname = \"app\"\npassword = \"env:APP_PASSWORD\"\n\n[pool]\nsize = 1\n\n\
         [databases.one]\nmax_clients = 2\n[[databases.one.shards]]\nname = \"s0\"\nprimary = \"{}\"\n\n\
         [databases.shop]\ncontrol = {{ user = \"pgherd\", password = \"env:PGHERD_PASSWORD\" }}\n",
        herd.address(0)
    );
    for shard in 0..2 {
        text += &format!(
            "\n[[databases.shop.shards]]\nname = \"s{shard}\"\nprimary = \"{}\"\n",
            herd.address(shard)
        );
    }
    text += "\n[databases.shop.distributions.k]\nby = \"hash\"\ntype = \"bigint\"\n\n[databases.shop.tables]\nt = { distribution = \"k\", key = \"k\" }\n";
    let endpoint = Endpoint::start(&herd, port, &text);
    (herd, endpoint)
}

fn command(herd: &Herd, endpoint: &Endpoint, name: &str, more: &str, arguments: &[&str]) -> Command {
    let mut command = leashed("KILL", herd.binaries().program(name));
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(variable);
        }
    }
    let conninfo = format!("host=127.0.0.1 port={} user=app {more}", endpoint.port);
    command.env("LC_ALL", "C.UTF-8").args(["-d", &conninfo]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(herd: &Herd, endpoint: &Endpoint, name: &str, more: &str, arguments: &[&str]) -> Output {
    let child =
        herd.keeper().spawn(command(herd, endpoint, name, more, arguments)).expect("the program starts");
    child.wait_with_output().expect("a child can be waited for")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// One test, for one herd: what needs another state than the last part is said where it begins.
#[test]
fn postgresqls_own_programs_replicate_through_pgherd() {
    let (herd, endpoint) = stage();
    let on_s0 = "options='-c pgherd.database=shop -c pgherd.shard=s0'";
    let ask = |sql: &str| herd.psql(0, sql).expect("the server answers");
    let folder = |name: &str| herd.folder().join(name).display().to_string();

    // pg_basebackup: a whole server, with what it writes meanwhile over a second connection.
    let backup = folder("backup");
    let arguments = ["-D", &backup, "-X", "stream", "--checkpoint=fast"];
    let output = run(&herd, &endpoint, "pg_basebackup", "options='-c pgherd.database=one'", &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let verified =
        Command::new(herd.binaries().program("pg_verifybackup")).arg(&backup).output().expect("it runs");
    assert!(verified.status.success(), "{}", text(&verified));

    // pg_receivewal: from its slot up to where the server was.
    let wal = folder("wal");
    let slot = ["--slot", "segments", "--create-slot"];
    let output = run(&herd, &endpoint, "pg_receivewal", on_s0, &slot);
    assert!(output.status.success(), "{}", text(&output));
    ask("CREATE TABLE written AS SELECT generate_series(1, 1000) a");
    ask("SELECT pg_switch_wal()");
    ask("CREATE TABLE more AS SELECT generate_series(1, 1000) a");
    let end = ask("SELECT pg_current_wal_lsn()");
    ask("CREATE TABLE behind AS SELECT generate_series(1, 1000) a");
    std::fs::create_dir(&wal).expect("a folder");
    let arguments = ["-D", &wal, "--slot", "segments", "--endpos", &end, "--no-loop", "--synchronous"];
    let output = run(&herd, &endpoint, "pg_receivewal", on_s0, &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let last = ask(&format!("SELECT pg_walfile_name('{end}')"));
    let names =
        std::fs::read_dir(&wal).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.starts_with(&last)), "{last} in {names:?}");
    let output = run(&herd, &endpoint, "pg_receivewal", on_s0, &["--slot", "segments", "--drop-slot"]);
    assert!(output.status.success(), "{}", text(&output));

    // pg_recvlogical: makes a slot, streams in both directions, and ends when it is told.
    let slot = ["--slot", "through", "--create-slot", "--plugin", "test_decoding"];
    let logical = "dbname=shop options='-c pgherd.shard=s0'";
    let output = run(&herd, &endpoint, "pg_recvlogical", logical, &slot);
    assert!(output.status.success(), "{}", text(&output));
    let received = folder("changes");
    let arguments = [
        "--slot",
        "through",
        "--start",
        "-f",
        &received,
        "--status-interval=1",
        "--fsync-interval=1",
        "--no-loop",
    ];
    let mut streaming = herd
        .keeper()
        .spawn(command(&herd, &endpoint, "pg_recvlogical", logical, &arguments))
        .expect("it starts");
    ask("INSERT INTO written VALUES (4711)");
    let changes = || std::fs::read_to_string(&received).unwrap_or_default();
    until("a change is received", || changes().contains("4711"));

    // The console knows it, and its server.
    let mut boss = Wire::tcp(endpoint.port);
    boss.start("boss", "pgbouncer", &[]);
    for command in ["SHOW CLIENTS", "SHOW SERVERS"] {
        let said = boss.query(command);
        let found = said.iter().filter(|m| m.kind == b'D').map(|m| columns(&m.body)).find(|row| {
            row[3].as_deref() == Some("logical")
                && row[1].as_deref() == Some("app")
                && row[2].as_deref() == Some("shop")
        });
        assert!(found.is_some(), "{command}: {}", show(&said));
    }
    // Its place is none of the pool's: size is 1.
    let mut client = endpoint.login("one");
    assert_eq!(client.value("SELECT 1").as_deref(), Ok("1"));
    drop(client);
    // Told to end, it ends as it would without pgherd.
    Command::new("kill").args(["-INT", &streaming.id().to_string()]).status().expect("kill runs");
    until("pg_recvlogical ends", || streaming.try_wait().expect("a child can be asked").is_some());
    let status = streaming.wait().expect("it has ended");
    assert!(status.success(), "{status}");
    until("its server is free", || ask("SELECT count(*) FROM pg_stat_replication") == "0");
    let output = run(&herd, &endpoint, "pg_recvlogical", logical, &["--slot", "through", "--drop-slot"]);
    assert!(output.status.success(), "{}", text(&output));

    // An ordinary query on such a connection is cancelled like any other.
    let mut walsender = Wire::tcp(endpoint.port);
    let welcome = walsender.start("app", "one", &[("replication", "database")]);
    let key = welcome.iter().find(|m| m.kind == b'K').expect("a key").body.clone();
    assert_eq!(walsender.value("SELECT 1").as_deref(), Ok("1"));
    let said = walsender.query("IDENTIFY_SYSTEM");
    assert!(said.iter().any(|m| m.kind == b'D'), "{}", show(&said));
    walsender.send(&query("SELECT pg_sleep(60)"));
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'";
    until("it runs", || ask(running) == "1");
    endpoint.cancel(&key);
    assert!(error_of(&walsender.until(b'Z')).is_some_and(|e| e.starts_with("57014 ")));
    // It counts as a client: max_clients of the database is 2.
    let mut second = Wire::tcp(endpoint.port);
    second.start("app", "one", &[("replication", "true")]);
    let refused = refusal(&endpoint, "one", &[]);
    assert_eq!(refused, "53300 too many connections for database \"one\"");
    // Sent away by the operator.
    boss.run("KILL one");
    boss.run("RESUME one");
    walsender.until(0);
    second.until(0);

    // What cannot be served says how it can.
    let cases = [
        (
            "shop",
            "database",
            "",
            "0A000 a replication connection to a sharded database must name one of its servers",
        ),
        ("shop", "true", "-c pgherd.shard=s9", "22023 database \"shop\" has no shard \"s9\""),
        ("replication", "true", "", "3D000 database \"replication\" does not exist"),
        ("one", "perhaps", "", "22023 invalid value for parameter \"replication\": \"perhaps\""),
    ];
    for (database, replication, options, expected) in cases {
        let mut more = vec![("replication", replication)];
        if !options.is_empty() {
            more.push(("options", options));
        }
        assert_eq!(refusal(&endpoint, database, &more), expected, "{database} {replication} {options}");
    }
    herd.psql(0, &format!("ALTER ROLE {APP_ROLE} NOREPLICATION")).expect("the role may not replicate");
    let said = refusal(&endpoint, "one", &[("replication", "true")]);
    assert!(said.starts_with("42501 ") || said.starts_with("28000 "), "the server's own words: {said}");
    // Off is off.
    let mut plain = Wire::tcp(endpoint.port);
    plain.start("app", "one", &[("replication", "off")]);
    assert_eq!(plain.value("SELECT 1").as_deref(), Ok("1"));
    assert!(!endpoint.log().contains("panicked"), "{}", endpoint.log());
}

fn refusal(endpoint: &Endpoint, database: &str, more: &[(&str, &str)]) -> String {
    let mut wire = Wire::tcp(endpoint.port);
    wire.send(&startup(196_608, "app", database, more));
    error_of(&wire.until(0)).unwrap_or_default()
}
