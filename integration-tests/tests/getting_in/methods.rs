//! Authentication methods, by configuration and by HBA file; unix sockets; what logs pgherd in to servers.

use std::io::Read;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::*;

fn who_am_i() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn user(name: &str, password: &str) -> String {
    format!("[[users]]\nname = \"{name}\"\npassword = {password}\n")
}

const HERE: &str = "[server]\nlisten = [\"127.0.0.1:PORT\"]\nworkers = 2\n";

#[test]
fn a_right_password_opens_and_a_wrong_one_says_nothing_about_the_user() {
    let stage = stage();
    for method in ["scram-sha-256", "md5", "password"] {
        let head = format!("{HERE}[auth]\nmethod = \"{method}\"\n{}", user("app", "\"env:APP_PASSWORD\""));
        let endpoint = stage.serve(&head, &[("shop", &stage.address(OPEN, ""))]);
        let ask = |user: &str, database: &str, password: &str| {
            let connection = format!("host=127.0.0.1 port={} user={user} dbname={database}", endpoint.port);
            stage.psql(&connection, password, "SELECT current_user")
        };
        assert_eq!(ask("app", "shop", stage.app_password()).as_deref(), Ok("app"), "{method}");
        let wrong = |user: &str| Err(format!("password authentication failed for user \"{user}\""));
        assert_eq!(ask("app", "shop", "wrong"), wrong("app"), "{method}");
        assert_eq!(ask("nobody", "shop", "wrong"), wrong("nobody"), "{method}");
        // Neither does a database's name show before the proof.
        assert_eq!(ask("app", "nowhere", "wrong"), wrong("app"), "{method}");
        let nowhere = "database \"nowhere\" does not exist".to_owned();
        assert_eq!(ask("app", "nowhere", stage.app_password()), Err(nowhere), "{method}");
    }
}

#[test]
fn servers_take_what_is_known_of_a_user() {
    let stage = stage();
    let verifier = stage
        .herd
        .psql(OPEN, "SELECT rolpassword FROM pg_authid WHERE rolname = 'through'")
        .expect("a verifier");
    let hash =
        stage.herd.psql(OPEN, "SELECT rolpassword FROM pg_authid WHERE rolname = 'by_md5'").expect("a hash");
    assert!(verifier.starts_with("SCRAM-SHA-256$") && hash.starts_with("md5"));
    let secret = stage.herd.folder().join("secret");
    fs::write(&secret, "new\n").expect("a file");
    let head = [
        HERE,
        "[auth]\nmethod = \"md5\"\n",
        &user("through", &format!("\"{verifier}\"")),
        &user("by_md5", &format!("\"{hash}\"")),
        &user("in_clear", "\"secret\""),
        // The server has the new one already.
        &user("rotated", &format!("[\"old\", \"file:{}\"]", secret.display())),
    ]
    .concat();
    let endpoint = stage.serve(&head, &[("shop", &stage.address(OPEN, ""))]);
    let ask = |user: &str, password: &str| {
        let connection = format!("host=127.0.0.1 port={} user={user} dbname=shop", endpoint.port);
        stage.psql(&connection, password, "SELECT current_user")
    };
    for (user, password) in [
        ("through", "secret"),
        ("by_md5", "secret"),
        ("in_clear", "secret"),
        ("rotated", "old"),
        ("rotated", "new"),
    ] {
        assert_eq!(ask(user, password).as_deref(), Ok(user), "{user}");
    }
    for (user, password) in [("through", "x"), ("by_md5", "x"), ("rotated", "older")] {
        let wrong = format!("password authentication failed for user \"{user}\"");
        assert_eq!(ask(user, password), Err(wrong));
    }
    // On the other server the same password has another salt: the proof of one is none for the other.
    let other = stage.serve(&head, &[("shop", &stage.address(SECURE, ""))]);
    let connection = format!("host=127.0.0.1 port={} user=through dbname=shop", other.port);
    let said = stage.psql(&connection, "secret", "SELECT 1");
    assert_eq!(said, Err("pgherd could not log in to the server".to_owned()));
}

#[test]
fn unix_sockets_are_served_and_used_and_their_peers_known() {
    let stage = stage();
    let me = who_am_i();
    let folder = tempfile::tempdir().expect("a folder");
    let idents = folder.path().join("pg_ident.conf");
    fs::write(&idents, format!("mine {me} app\n")).expect("a file");
    let hba = folder.path().join("pg_hba.conf");
    fs::write(&hba, "local all app peer map=mine\nlocal all all peer\nhost all all all reject\n")
        .expect("a file");
    let head = format!(
        "[server]\nlisten = [\"127.0.0.1:PORT\", \"unix:{}:PORT\"]\nworkers = 2\n\
         [auth]\nmethod = \"hba\"\nhba_file = \"{}\"\nident_file = \"{}\"\n{}{}{}",
        folder.path().display(),
        hba.display(),
        idents.display(),
        user("app", "\"env:APP_PASSWORD\""),
        user("through", "\"secret\""),
        if me == "app" || me == "through" { String::new() } else { user(&me, "\"x\"") },
    );
    let server =
        format!("postgres:///shop?host={}&port={}", stage.herd.folder().display(), stage.herd.port(OPEN));
    let endpoint = stage.serve(&head, &[("shop", &server)]);
    let ask = |host: &str, user: &str| {
        let connection = format!("host={host} port={} user={user} dbname=shop", endpoint.port);
        stage.psql(&connection, "", "SELECT coalesce(inet_client_addr()::text, 'a socket')")
    };
    let socket = folder.path().display().to_string();
    assert_eq!(ask(&socket, "app").as_deref(), Ok("a socket"));
    if me != "through" {
        let no = "Peer authentication failed for user \"through\"".to_owned();
        assert_eq!(ask(&socket, "through"), Err(no));
    }
    let rejected = "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"app\", database \"shop\", no encryption";
    assert_eq!(ask("127.0.0.1", "app"), Err(rejected.to_owned()));
}

#[test]
fn the_first_line_of_the_hba_file_decides() {
    let stage = stage();
    let hba = stage.herd.folder().join("lines.conf");
    let lines = "host shop app 127.0.0.1/32 scram-sha-256\n\
                 host shop through 127.0.0.0 255.255.255.0 trust\n\
                 host shop in_clear all reject\n\
                 host shop in_clear all trust\n\
                 host all by_md5 all md5\n\
                 hostssl all all all trust\n";
    fs::write(&hba, lines).expect("a file");
    let names = ["app", "through", "in_clear", "by_md5", "rotated"];
    let users: String = names.iter().map(|name| user(name, "\"secret\"")).collect();
    let head = format!("{HERE}[auth]\nmethod = \"hba\"\nhba_file = \"{}\"\n{users}", hba.display());
    let endpoint = stage.serve(&head, &[("shop", &stage.address(OPEN, ""))]);
    let ask = |user: &str| {
        let connection = format!("host=127.0.0.1 port={} user={user} dbname=shop", endpoint.port);
        stage.psql(&connection, "secret", "SELECT 'in'")
    };
    let about = |user: &str| format!("host \"127.0.0.1\", user \"{user}\", database \"shop\", no encryption");
    assert_eq!(ask("through").as_deref(), Ok("in"));
    assert_eq!(ask("by_md5").as_deref(), Ok("in"));
    assert_eq!(ask("in_clear"), Err(format!("pg_hba.conf rejects connection for {}", about("in_clear"))));
    assert_eq!(ask("rotated"), Err(format!("no pg_hba.conf entry for {}", about("rotated"))));
    // Its proof is right for pgherd, and its password wrong for the server.
    assert_eq!(ask("app"), Err("pgherd could not log in to the server".to_owned()));

    // Read again, it lets others in; with a mistake in it, nothing changes.
    fs::write(&hba, lines.replace("hostssl all all all trust", "host all all all reject\nhost a b c d"))
        .expect("a file");
    endpoint.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !endpoint.log().contains("the configuration was not reloaded") {
        assert!(Instant::now() < deadline, "{}", endpoint.log());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ask("through").as_deref(), Ok("in"));
    fs::write(&hba, "host all all all reject\n").expect("a file");
    endpoint.signal("HUP");
    let refused = Err(format!("pg_hba.conf rejects connection for {}", about("through")));
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask("through") != refused {
        assert!(Instant::now() < deadline, "the old lines are still in force");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_bad_hba_file_does_not_start() {
    let stage = stage();
    let folder = stage.herd.folder();
    let (hba, file) = (folder.join("bad.conf"), folder.join("bad.toml"));
    fs::write(&hba, "host all all 1.2.3.4 md5\nlocal all all ldap\n").expect("a file");
    let text = format!(
        "[auth]\nmethod = \"hba\"\nhba_file = \"{}\"\n[[databases.shop.shards]]\nname = \"s0\"\nprimary = \"{}\"\n",
        hba.display(),
        stage.address(OPEN, "")
    );
    fs::write(&file, text).expect("a file");
    for command in ["serve", "check"] {
        let output = Command::new(raw::program()).arg(command).arg(&file).output().expect("pgherd runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command}");
        for line in
            ["bad.conf:1:22: \"md5\" is not a mask", "bad.conf:2:15: the method \"ldap\" is not supported"]
        {
            assert!(said.contains(line), "{command}: {said}");
        }
    }
}

#[test]
fn users_that_the_file_does_not_have_are_asked_for() {
    let stage = stage();
    // A server that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_port = silent.local_addr().expect("an address").port();
    thread::spawn(move || {
        let mut held = Vec::new();
        for socket in silent.incoming().flatten() {
            held.push(socket);
        }
    });
    let head = format!(
        "{HERE}[auth]\nmethod = \"scram-sha-256\"\nquery_as = {{ user = \"asker\", password = \"asker\" }}\n\
         [pool]\nconnect_timeout = \"2s\"\n{}",
        user("app", "\"env:APP_PASSWORD\"")
    );
    let silent_address = format!("postgres://127.0.0.1:{silent_port}/shop");
    let endpoint = stage.serve(&head, &[("shop", &stage.address(OPEN, "")), ("silent", &silent_address)]);
    let port = endpoint.port;
    let ask = move |user: &str, database: &str, password: &str| {
        let connection = format!("host=127.0.0.1 port={port} user={user} dbname={database}");
        stage.psql(&connection, password, "SELECT current_user")
    };
    let wrong = |user: &str| Err(format!("password authentication failed for user \"{user}\""));
    // The proof goes on to the server: pgherd knows only the verifier.
    assert_eq!(ask("Guest", "shop", "guest").as_deref(), Ok("Guest"));
    assert_eq!(ask("Guest", "shop", "wrong"), wrong("Guest"));
    assert_eq!(ask("expired", "shop", "secret"), wrong("expired"), "VALID UNTIL");
    assert_eq!(ask("nobody", "shop", "secret"), wrong("nobody"));
    assert_eq!(ask("Robert'); DROP TABLE students;--", "shop", "x").map_err(drop), Err(()));

    // Those who ask a server that hangs wait; nobody else does.
    let waiting: Vec<_> =
        (0..8).map(|n| thread::spawn(move || ask(&format!("user{n}"), "silent", "x"))).collect();
    thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    assert_eq!(ask("app", "shop", stage.app_password()).as_deref(), Ok("app"));
    assert_eq!(ask("Guest", "shop", "guest").as_deref(), Ok("Guest"));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for asked in waiting {
        let said = asked.join().expect("psql ran").unwrap_err();
        assert!(said.contains("server did not answer in time"), "{said}");
    }

    // Who is in stays in when the configuration is read again.
    let script = stage.herd.folder().join("stays.sql");
    fs::write(&script, "SELECT 1;\n\\! sleep 2\nSELECT current_user;\n").expect("a file");
    let staying = thread::spawn(move || {
        let mut command = stage.herd.binaries().command("psql");
        command.args(["-X", "-A", "-t", "-f"]).arg(&script).env("PGPASSWORD", "guest");
        command.args(["-d", &format!("host=127.0.0.1 port={port} user=Guest dbname=shop")]);
        String::from_utf8_lossy(&command.output().expect("psql runs").stdout).into_owned()
    });
    thread::sleep(Duration::from_millis(800));
    endpoint.signal("HUP");
    assert_eq!(staying.join().expect("psql ran"), "1\nGuest\n", "{}", endpoint.log());
    assert!(endpoint.log().contains("the configuration was reloaded"));

    // A new password is known soon.
    stage.herd.psql(OPEN, "ALTER ROLE \"Guest\" PASSWORD 'changed'").expect("a new password");
    let deadline = Instant::now() + Duration::from_secs(15);
    while ask("Guest", "shop", "changed").as_deref() != Ok("Guest") {
        assert!(Instant::now() < deadline, "the new password is not known");
        thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(ask("Guest", "shop", "guest"), wrong("Guest"));
}

#[test]
fn a_password_of_many_kilobytes_is_taken_and_a_longer_one_refused() {
    let stage = stage();
    let head = format!(
        "{HERE}[auth]\nmethod = \"password\"\n{}",
        user("in_clear", &format!("\"{}\"", "t".repeat(4096)))
    );
    let endpoint = stage.serve(&head, &[("shop", &stage.address(OPEN, ""))]);
    for (bytes, expected) in [(4096, "E 08004"), (60_000, "E 28P01"), (70_000, "E 08P01")] {
        let mut wire = raw::Wire::tcp(endpoint.port);
        wire.send(&raw::startup(196_608, "in_clear", "shop", &[]));
        wire.until(b'R');
        let mut body = vec![b't'; bytes];
        body.push(0);
        wire.send(&raw::any(b'p', &body));
        let said = raw::show(&wire.until(0));
        let code = expected.trim_start_matches("E ");
        assert!(said.contains(code), "{bytes} bytes: {said}");
    }
    // Nothing was left behind by a silent client, and a stray byte does not end the process.
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", endpoint.port)).expect("pgherd accepts");
    std::io::Write::write_all(&mut socket, &[0x16, 3, 1, 0]).expect("a byte");
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    let mut endpoint = endpoint;
    endpoint.assert_well();
}
