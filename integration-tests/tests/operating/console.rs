//! The console answers as PgBouncer's.

use std::thread;
use std::time::Duration;

use crate::raw::*;
use crate::*;

#[test]
fn every_table_has_pgbouncers_columns_and_errors_have_its_words() {
    let place = Place::new();
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    // PgBouncer 1.25's, as its own RowDescription has them: t text, i integer, q bigint, n numeric.
    let sockets = "type:t user:t database:t replication:t state:t addr:t port:i local_addr:t local_port:i connect_time:t \
                   request_time:t wait:i wait_us:i close_needed:i ptr:t link:t remote_pid:i tls:t application_name:t \
                   prepared_statements:i id:i";
    let cases = [
        ("SHOW VERSION", "version:t"),
        ("SHOW TOTALS", "name:t value:n"),
        (
            "SHOW STATS_TOTALS",
            "database:t server_assignment_count:n xact_count:n query_count:n bytes_received:n bytes_sent:n xact_time:n \
             query_time:n wait_time:n client_parse_count:n server_parse_count:n bind_count:n client_login_count:n",
        ),
        (
            "SHOW POOLS",
            "database:t user:t cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active:i \
             sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i maxwait:i maxwait_us:i \
             pool_mode:t load_balance_hosts:t",
        ),
        (
            "SHOW DATABASES",
            "name:t host:t port:i database:t force_user:t pool_size:i min_pool_size:i reserve_pool_size:i \
             server_lifetime:i pool_mode:t load_balance_hosts:t max_connections:i current_connections:i \
             max_client_connections:i current_client_connections:i paused:i disabled:i",
        ),
        (
            "SHOW USERS",
            "name:t pool_size:t reserve_pool_size:t pool_mode:t max_user_connections:i current_connections:i \
             max_user_client_connections:i current_client_connections:i",
        ),
        ("SHOW CLIENTS", sockets),
        ("SHOW SERVERS", sockets),
        ("SHOW SOCKETS", sockets),
        ("SHOW ACTIVE_SOCKETS", sockets),
        ("SHOW LISTS", "list:t items:i"),
        ("SHOW CONFIG", "key:t value:t default:t changeable:t"),
        ("SHOW MEM", "name:t size:i used:i free:i memtotal:i"),
        ("SHOW STATE", "key:t value:t"),
        ("SHOW DNS_HOSTS", "hostname:t ttl:q addrs:t"),
        ("SHOW DNS_ZONES", "zonename:t serial:q count:i"),
        ("SHOW PEERS", "peer_id:i host:t port:i pool_size:i"),
        (
            "SHOW PEER_POOLS",
            "peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i",
        ),
    ];
    for (command, expected) in cases {
        let said = boss.query(command);
        let described = said.iter().find(|m| m.kind == b'T').unwrap_or_else(|| panic!("{command}"));
        let letter = |oid| match oid {
            25 => "t",
            23 => "i",
            20 => "q",
            1700 => "n",
            _ => "?",
        };
        let columns: Vec<String> = described_columns(&described.body)
            .iter()
            .map(|(n, oid)| format!("{n}:{}", letter(*oid)))
            .collect();
        // What pgherd adds stands at the end.
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(columns[..expected.len()], expected, "{command}");
        let rows = said.iter().filter(|m| m.kind == b'D');
        rows.for_each(|m| assert_eq!(crate::raw::columns(&m.body).len(), columns.len(), "{command}"));
    }
    let refused = [
        ("SHOW FOO;", "08P01 invalid command 'SHOW FOO', use SHOW HELP;"),
        ("DROP TABLE x", "08P01 invalid command 'DROP TABLE x', use SHOW HELP;"),
        ("PAUSE nosuch", "08P01 no such database: nosuch"),
        ("PAUSE pgbouncer", "08P01 cannot pause admin db: pgbouncer"),
        ("RESUME", "08P01 pooler is not paused/suspended"),
        ("RESUME one", "08P01 database one is not paused"),
        ("DISABLE", "08P01 a database is required"),
        ("KILL_CLIENT x", "08P01 invalid client pointer supplied"),
        ("KILL_CLIENT 999999", "08P01 client not found"),
        ("SET nonsense = 1", "08P01 SET failed"),
        ("SUSPEND", "0A000 SUSPEND is not supported"),
    ];
    for (command, expected) in refused {
        assert_eq!(error_of(&boss.query(command)).as_deref(), Some(expected), "{command}");
    }
    let mut watch = console(&endpoint, "watch");
    assert_eq!(error_of(&watch.query("PAUSE")).as_deref(), Some("08P01 admin access needed"));
    assert_eq!(watch.value("SHOW VERSION").as_deref(), Ok("PgBouncer 1.25.2"));
    // Nobody else comes in.
    let mut other = Wire::tcp(endpoint.port);
    other.send(&startup(196_608, "app", "pgherd", &[]));
    let error = error_of(&other.until(0)).unwrap_or_default();
    assert!(error.starts_with("42501 permission denied for database"), "{error}");
}

#[test]
fn the_extended_protocol_works_as_well_in_text_and_binary() {
    let place = Place::new();
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    boss.send(
        &[parse("s", "SHOW LISTS", &[]), describe_statement("s"), bind("", "s", &[]), execute("", 3), sync()]
            .concat(),
    );
    let said = boss.until(b'Z');
    let kinds: String = said.iter().map(|m| m.kind as char).collect();
    assert_eq!(kinds, "1tT2DDDsZ", "{}", show(&said));
    // An error: skipped until Sync, and the connection lives on.
    boss.send(&[parse("", "NONSENSE", &[]), bind("", "", &[]), execute("", 0), sync()].concat());
    assert_eq!(boss.until(b'Z').iter().map(|m| m.kind as char).collect::<String>(), "EZ");

    // A driver that asks for binary values.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let url = format!("postgres://boss@127.0.0.1:{}/pgbouncer", endpoint.port);
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("the console admits a driver");
        tokio::spawn(connection);
        let rows = client.query("SHOW LISTS", &[]).await.expect("an answer");
        let databases: i32 = rows[0].get("items");
        assert_eq!((rows[0].get::<_, &str>("list"), databases), ("databases", 3));
    });
}

#[test]
fn what_clients_do_is_counted() {
    let place = Place::new();
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut client = Wire::tcp(endpoint.port);
    client.start("app", "one", &[("application_name", "counted")]);
    client.run("SELECT 1");
    client.run("BEGIN");
    client.run("SELECT pg_sleep(0.2)");
    // In a transaction.
    assert_eq!(cell(&mut boss, "SHOW POOLS", "database", "one", "sv_active"), "1");
    assert_eq!(cell(&mut boss, "SHOW CLIENTS", "database", "one", "state"), "active");
    assert_eq!(cell(&mut boss, "SHOW CLIENTS", "database", "one", "application_name"), "counted");
    assert_eq!(cell(&mut boss, "SHOW SERVERS", "database", "one", "application_name"), "counted");
    let pid = cell(&mut boss, "SHOW SERVERS", "database", "one", "remote_pid");
    assert_eq!(client.value("SELECT pg_backend_pid()").as_deref(), Ok(pid.as_str()));
    let ptr = cell(&mut boss, "SHOW CLIENTS", "database", "one", "ptr");
    assert_eq!(cell(&mut boss, "SHOW SERVERS", "database", "one", "link"), ptr);
    client.run("COMMIT");
    for _ in 0..3 {
        client.send(
            &[parse("p", "SELECT 2", &[]), bind("", "p", &[]), execute("", 0), close_statement("p"), sync()]
                .concat(),
        );
        client.until(b'Z');
    }
    let mut count = |name: &str| -> u64 {
        cell(&mut boss, "SHOW STATS_TOTALS", "database", "one", name).parse().expect("a number")
    };
    // SELECT, the transaction, three pipelines; BEGIN, two SELECTs and COMMIT are queries too. (The last one is counted when
    // it has been answered.)
    until("transactions are counted", || count("xact_count") == 5);
    assert_eq!(count("query_count"), 8);
    assert_eq!(count("client_parse_count"), 3);
    assert_eq!(count("server_parse_count"), 1, "one statement, kept on the server");
    assert_eq!(count("bind_count"), 3);
    assert_eq!(count("client_login_count"), 1);
    assert_eq!(count("server_assignment_count"), 5);
    assert!(count("bytes_received") > 100 && count("bytes_sent") > 100);
    assert!((200_000..2_000_000).contains(&count("query_time")), "{}", count("query_time"));
    assert!((200_000..2_000_000).contains(&count("xact_time")), "{}", count("xact_time"));
    assert_eq!(cell(&mut boss, "SHOW POOLS", "database", "one", "sv_idle"), "1");
    assert_eq!(cell(&mut boss, "SHOW CLIENTS", "database", "one", "state"), "idle");
    assert_eq!(cell(&mut boss, "SHOW DATABASES", "name", "one", "current_connections"), "1");
}

#[test]
fn under_pause_a_server_is_restarted_and_no_client_sees_an_error() {
    let place = Place::new();
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut client = endpoint.login("one");
    client.run("BEGIN");
    let pid = client.value("SELECT pg_backend_pid()").expect("a process id");
    boss.send(&query("PAUSE one"));
    assert_eq!(boss.hear(Duration::from_millis(300)), Heard::Silence, "a transaction is still open");
    // A transaction that has a server goes on; one that has none waits.
    client.run("SELECT 1");
    let mut waiting = endpoint.login("one");
    waiting.send(&query("SELECT 'resumed'"));
    assert_eq!(waiting.hear(Duration::from_millis(200)), Heard::Silence);
    client.run("COMMIT");
    let said = boss.until(b'Z');
    assert_eq!(error_of(&said), None, "PAUSE: {}", show(&said));
    let open = &format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", place.on_server("one"));
    until("its connections are closed", || at_server(open) == "0");
    assert_eq!(cell(&mut boss, "SHOW DATABASES", "name", "one", "paused"), "1");
    assert_eq!(cell(&mut boss, "SHOW STATE", "key", "paused", "value"), "no", "only one of them is");
    // The other database is served.
    endpoint.login("two").run("SELECT 1");

    boss.run("RESUME one");
    assert_eq!(value_of(&waiting.until(b'Z')).as_deref(), Ok("resumed"));
    assert_ne!(
        client.value("SELECT pg_backend_pid()").as_deref(),
        Ok(pid.as_str()),
        "another server process"
    );

    boss.run("PAUSE");
    assert_eq!(error_of(&boss.query("PAUSE")).as_deref(), Some("08P01 already suspended/paused"));
    boss.run("RESUME");
    client.run("SELECT 1");
}

#[test]
fn under_pause_a_batch_that_has_begun_is_finished_and_the_rest_is_kept() {
    let run = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
    let place = Place::new();
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut client = endpoint.login("one");
    client.send(&[run("SELECT 'first'"), flush()].concat());
    client.until(b'C');
    boss.send(&query("PAUSE one"));
    assert_eq!(boss.hear(Duration::from_millis(200)), Heard::Silence, "a ReadyForQuery is owed");
    // A message that is half there; behind the Sync half of the next batch.
    let (second, third) = (run("SELECT 'second'"), [run("SELECT 'third'"), sync()].concat());
    client.send(&second[..second.len() / 2]);
    assert_eq!(client.hear(Duration::from_millis(100)), Heard::Silence);
    client.send(&[&second[second.len() / 2..], &sync(), &third[..7]].concat());
    assert_eq!(value_of(&client.until(b'Z')).as_deref(), Ok("second"));
    assert_eq!(error_of(&boss.until(b'Z')), None, "PAUSE");
    client.send(&third[7..]);
    assert_eq!(client.hear(Duration::from_millis(200)), Heard::Silence, "the next one waits");
    boss.run("RESUME one");
    assert_eq!(value_of(&client.until(b'Z')).as_deref(), Ok("third"));
}

#[test]
fn what_is_told_at_login_is_what_the_server_says_by_then() {
    let mut place = Place::new();
    place.pool = "size = 3".into();
    let endpoint = place.start();
    let told = |said: &[Message]| -> Vec<String> {
        let parameters = said.iter().filter(|m| m.kind == b'S' && m.body.starts_with(b"TimeZone"));
        parameters.map(|m| String::from_utf8_lossy(&m.body[9..m.body.len() - 1]).into_owned()).collect()
    };
    let mut before = endpoint.login("one");
    let zone = before.value("SHOW TimeZone").expect("a zone");
    let mut own = Wire::tcp(endpoint.port);
    assert_eq!(told(&own.start("app", "one", &[])), std::slice::from_ref(&zone));
    own.run("SET TimeZone = 'Asia/Kathmandu'");
    at_server(&format!("ALTER DATABASE {} SET TimeZone = 'Asia/Tokyo'", place.on_server("one")));

    // A connection that is there already has what it had; the next one has the new default, and whoever gets it hears of it.
    before.run("BEGIN");
    assert_eq!(before.value("SHOW TimeZone"), Ok(zone));
    let mut second = endpoint.login("one");
    // There may be two of them.
    own.run("BEGIN");
    own.run("SELECT 1");
    assert_eq!(told(&second.query("SELECT 1")), ["Asia/Tokyo"]);
    assert_eq!(second.value("SHOW TimeZone").as_deref(), Ok("Asia/Tokyo"));
    let mut newcomer = Wire::tcp(endpoint.port);
    assert_eq!(told(&newcomer.start("app", "one", &[])), ["Asia/Tokyo"]);
    // Nobody meets the old one again.
    before.run("COMMIT");
    own.run("COMMIT");
    for client in [&mut before, &mut second, &mut newcomer] {
        for _ in 0..3 {
            assert_eq!(client.value("SHOW TimeZone").as_deref(), Ok("Asia/Tokyo"));
        }
    }
    assert_eq!(own.value("SHOW TimeZone").as_deref(), Ok("Asia/Kathmandu"), "what it has set is its own");
}

#[test]
fn reconnect_disable_and_kill_do_what_they_say() {
    let place = Place::new();
    let endpoint = place.start();
    let mut boss = console(&endpoint, "boss");
    let mut client = endpoint.login("one");
    let pid = client.value("SELECT pg_backend_pid()").expect("a process id");
    boss.run("RECONNECT one");
    boss.run("WAIT_CLOSE one");
    let after = client.value("SELECT pg_backend_pid()").expect("a process id");
    assert_ne!(pid, after);

    // WAIT_CLOSE waits for a server that is lent.
    client.run("BEGIN; SELECT 1");
    boss.run("RECONNECT");
    boss.send(&query("WAIT_CLOSE"));
    assert_eq!(boss.hear(Duration::from_millis(200)), Heard::Silence);
    client.run("COMMIT");
    assert_eq!(error_of(&boss.until(b'Z')), None);

    boss.run("DISABLE one");
    let mut newcomer = Wire::tcp(endpoint.port);
    newcomer.send(&startup(196_608, "app", "one", &[]));
    assert_eq!(error_of(&newcomer.until(0)).as_deref(), Some("57P03 database \"one\" is disabled"));
    client.run("SELECT 1");
    boss.run("ENABLE one");
    let mut running = endpoint.login("one");
    running.send(&query("SELECT pg_sleep(30), 'killed'"));
    thread::sleep(Duration::from_millis(200));

    let id = cell(&mut boss, "SHOW CLIENTS", "state", "idle", "id");
    boss.run(&format!("KILL_CLIENT {id}"));
    assert_eq!(
        error_of(&client.until(0)).as_deref(),
        Some("57P01 terminating connection due to administrator command")
    );
    boss.run("KILL one");
    assert_eq!(
        error_of(&running.until(0)).as_deref(),
        Some("57P01 terminating connection due to administrator command")
    );
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%killed%' AND state = 'active' AND pid <> pg_backend_pid()";
    until("its query is cancelled", || at_server(left) == "0");
    boss.run("RESUME one");
    endpoint.login("one").run("SELECT 1");

    boss.run("SET query_timeout = 0.3");
    assert_eq!(cell(&mut boss, "SHOW CONFIG", "key", "query_timeout", "value"), "0.3");
    let error = endpoint.login("one").value("SELECT pg_sleep(5)").unwrap_err();
    assert!(error.starts_with("57014 "), "{error}");
    boss.run("RELOAD");
    assert_eq!(cell(&mut boss, "SHOW CONFIG", "key", "query_timeout", "value"), "0");
}
