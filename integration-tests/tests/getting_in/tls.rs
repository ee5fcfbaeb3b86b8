//! TLS: with clients, with servers, and what binds a proof to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pgherd_wire::identity;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::raw::*;
use crate::*;

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// What stands before the databases: a certificate for localhost, in this mode.
fn head(stage: &Stage, mode: &str, auth: &str) -> String {
    let (certificate, key) =
        stage.ca.sign(stage.herd.folder(), "pgherd", "localhost", &["localhost", "127.0.0.1"]);
    format!(
        "[server]\nlisten = [\"127.0.0.1:PORT\"]\nworkers = 2\n\
         [server.tls]\nmode = \"{mode}\"\ncertificate = \"{}\"\nprivate_key = \"{}\"\nclient_ca = \"{}\"\n\
         [auth]\nmethod = \"{auth}\"\n\
         [[users]]\nname = \"app\"\npassword = \"env:APP_PASSWORD\"\n",
        certificate.display(),
        key.display(),
        stage.ca.root.display()
    )
}

#[test]
fn clients_are_encrypted_as_both_sides_want_it() {
    let stage = stage();
    let plain = |said: Result<String, String>| match said {
        Ok(text) if text.contains("SSL connection (protocol: TLSv1.3") => "TLS".into(),
        Ok(text) if text.contains("You are connected") => "clear".into(),
        Ok(text) => text,
        Err(why) if why.contains("server does not support SSL") => "no TLS there".into(),
        Err(why) if why == "SSL required" => why,
        Err(why) if why.contains("certificate required") => "refused".into(),
        Err(why) => why,
    };
    // (the server's mode, and what becomes of sslmode=disable, allow, prefer, require, verify-full)
    let cases = [
        ("disable", ["clear", "clear", "clear", "no TLS there", "no TLS there"]),
        ("allow", ["clear", "clear", "TLS", "TLS", "TLS"]),
        ("prefer", ["clear", "clear", "TLS", "TLS", "TLS"]),
        ("require", ["SSL required", "TLS", "TLS", "TLS", "TLS"]),
        ("verify-ca", ["refused"; 5]),
    ];
    for (mode, expected) in cases {
        let endpoint =
            stage.serve(&head(stage, mode, "scram-sha-256"), &[("shop", &stage.address(OPEN, ""))]);
        for (client, expected) in
            ["disable", "allow", "prefer", "require", "verify-full"].iter().zip(expected)
        {
            let connection = format!(
                "host=localhost port={} user=app dbname=shop sslmode={client} sslrootcert={}",
                endpoint.port,
                stage.ca.root.display()
            );
            let mut said = plain(stage.psql(&connection, stage.app_password(), "\\conninfo"));
            // What the last attempt of libpq was is a matter of luck.
            if mode == "verify-ca" && said == "SSL required" {
                said = "refused".into();
            }
            assert_eq!(said, expected, "server {mode}, client {client}");
        }
    }
}

#[test]
fn a_client_certificate_is_verified_and_may_be_the_proof() {
    let stage = stage();
    let folder = stage.herd.folder();
    let own = stage.ca.sign(folder, "client-app", "app", &[]);
    let other = stage.ca.sign(folder, "client-other", "other", &[]);
    let strange = stage.stranger.sign(folder, "client-strange", "app", &[]);
    let endpoint = stage.serve(&head(stage, "allow", "cert"), &[("shop", &stage.address(OPEN, ""))]);
    let ask = |parameters: &str| {
        let connection = format!("host=127.0.0.1 port={} user=app dbname=shop {parameters}", endpoint.port);
        stage.psql(&connection, "", "SELECT 'in'")
    };
    let with = |(certificate, key): &(PathBuf, PathBuf)| {
        ask(&format!("sslmode=require sslcert={} sslkey={}", certificate.display(), key.display()))
    };
    assert_eq!(with(&own).as_deref(), Ok("in"));
    let no = "certificate authentication failed for user \"app\"";
    assert_eq!(with(&other), Err(no.to_owned()));
    let said = with(&strange).unwrap_err();
    assert!(said.contains("unknown ca") || said.contains("certificate unknown"), "{said}");
    let none = "connection requires a valid client certificate";
    assert_eq!(ask("sslmode=require"), Err(none.to_owned()));
    assert_eq!(ask("sslmode=disable"), Err(none.to_owned()));
}

#[test]
fn a_proof_is_bound_to_the_connection_when_the_client_wants_it() {
    let stage = stage();
    let endpoint =
        stage.serve(&head(stage, "prefer", "scram-sha-256"), &[("shop", &stage.address(OPEN, ""))]);
    let ask = |parameters: &str| {
        let connection = format!("host=127.0.0.1 port={} user=app dbname=shop {parameters}", endpoint.port);
        stage.psql(&connection, stage.app_password(), "SELECT 'in'")
    };
    for binding in ["require", "prefer", "disable"] {
        assert_eq!(
            ask(&format!("sslmode=require channel_binding={binding}")).as_deref(),
            Ok("in"),
            "{binding}"
        );
    }
    let said = ask("sslmode=disable channel_binding=require").unwrap_err();
    assert!(said.contains("channel binding"), "{said}");
}

/// A TLS client of our own, for what psql does not do.
fn client(alpn: Option<&[u8]>) -> ClientConnection {
    let stage = stage();
    let (roots, _) = identity::read_roots(&stage.ca.root).expect("a root");
    let mut config = ClientConfig::builder_with_provider(identity::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
    ClientConnection::new(Arc::new(config), "localhost".try_into().expect("a name")).expect("a session")
}

fn tcp(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("pgherd accepts");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket
}

/// Reads up to the first ReadyForQuery; gives the types of messages and the last cancel key.
fn read_welcome(stream: &mut impl Read) -> (String, Vec<u8>) {
    let (mut kinds, mut key) = (String::new(), Vec::new());
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap_or_else(|e| panic!("after {kinds}: {e}"));
        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize - 4];
        stream.read_exact(&mut body).expect("a body");
        kinds.push(head[0] as char);
        match head[0] {
            b'K' => key = body,
            b'Z' | b'E' => return (kinds, key),
            _ => {}
        }
    }
}

#[test]
fn direct_tls_needs_its_protocol_and_nothing_comes_before_a_handshake() {
    let stage = stage();
    let endpoint = stage.serve(&head(stage, "prefer", "trust"), &[("shop", &stage.address(OPEN, ""))]);
    let hello = startup(196_608, "app", "shop", &[]);

    let mut direct = StreamOwned::new(client(Some(b"postgresql")), tcp(endpoint.port));
    direct.write_all(&hello).expect("a startup packet");
    let (kinds, _) = read_welcome(&mut direct);
    assert!(kinds.starts_with('R') && kinds.ends_with('Z'), "{kinds}");

    for alpn in [None, Some(&b"http/1.1"[..])] {
        let mut stranger = StreamOwned::new(client(alpn), tcp(endpoint.port));
        let _ = stranger.write_all(&hello);
        let mut byte = [0];
        assert!(!matches!(stranger.read(&mut byte), Ok(1)), "TLS without its protocol was served");
    }

    // CVE-2021-23222 and its kin: a startup packet in the clear, right behind the request.
    let mut wire = Wire::tcp(endpoint.port);
    wire.send(&[SSL_REQUEST, &hello].concat());
    let said = show(&wire.until(0));
    assert!(said.contains("received unencrypted data after SSL request"), "{said}");

    // Not two layers.
    let mut socket = tcp(endpoint.port);
    socket.write_all(SSL_REQUEST).expect("a request");
    let mut byte = [0];
    socket.read_exact(&mut byte).expect("an answer");
    assert_eq!(&byte, b"S");
    let mut inside = StreamOwned::new(client(None), socket);
    inside.write_all(SSL_REQUEST).expect("a second request");
    assert_eq!(read_welcome(&mut inside).0, "E");
}

#[test]
fn a_statement_is_cancelled_over_tls_on_both_sides() {
    let stage = stage();
    let shop = stage.address(SECURE, "?sslmode=require");
    let endpoint = stage.serve(&head(stage, "require", "trust"), &[("shop", &shop)]);
    let open = |first: &[u8]| {
        let mut stream = StreamOwned::new(client(Some(b"postgresql")), tcp(endpoint.port));
        stream.write_all(first).expect("a packet");
        stream
    };
    for minor in [0, 2] {
        let mut stream = open(&startup(196_608 + minor, "app", "shop", &[]));
        let (_, key) = read_welcome(&mut stream);
        assert_eq!(key.len(), if minor == 0 { 8 } else { 36 }, "the key of protocol 3.{minor}");
        stream.write_all(&query("SELECT pg_sleep(30)")).expect("a query");
        stream.flush().expect("sent");
        thread::sleep(Duration::from_millis(300));
        let mut wrong = key.clone();
        *wrong.last_mut().expect("a key") ^= 1;
        let begun = Instant::now();
        for key in [&wrong, &key] {
            let mut cancel = open(&cancel_request(key));
            let mut rest = Vec::new();
            let _ = cancel.read_to_end(&mut rest);
            assert!(rest.is_empty(), "a cancel request is not answered");
        }
        let (kinds, _) = read_welcome(&mut stream);
        assert!(kinds.ends_with('E') && begun.elapsed() < Duration::from_secs(10), "{kinds}");
    }
}

#[test]
fn protocol_3_2_is_spoken_and_what_is_newer_is_negotiated() {
    let stage = stage();
    let endpoint = stage.serve(
        "[server]\nlisten = [\"127.0.0.1:PORT\"]\n[auth]\nmethod = \"trust\"\n[[users]]\nname = \"app\"\npassword = \"env:APP_PASSWORD\"\n",
        &[("shop", &stage.address(OPEN, ""))],
    );
    let options = [("_pq_.hello", "1"), ("work_mem", "5MB")];
    let cases: [(u32, &[(&str, &str)], Option<&[u8]>, usize); 6] = [
        (0, &[], None, 8),
        (2, &[], None, 36),
        (1, &[], None, 8),
        (9_999, &[], Some(b"\0\x03\0\x02\0\0\0\0"), 36),
        (0, &options, Some(b"\0\x03\0\0\0\0\0\x01_pq_.hello\0"), 8),
        (7, &options, Some(b"\0\x03\0\x02\0\0\0\x01_pq_.hello\0"), 36),
    ];
    for (minor, more, negotiated, key_bytes) in cases {
        let mut wire = Wire::tcp(endpoint.port);
        wire.send(&startup(196_608 + minor, "app", "shop", more));
        let said = wire.until(b'Z');
        let of = |kind: u8| said.iter().find(|m| m.kind == kind).map(|m| m.body.clone());
        assert_eq!(of(b'v').as_deref(), negotiated, "3.{minor}");
        assert_eq!(of(b'K').map(|key| key.len()), Some(key_bytes), "3.{minor}");
        assert_eq!(wire.value("SELECT 1").as_deref(), Ok("1"), "3.{minor}");
    }
}

#[test]
fn servers_are_encrypted_and_verified_as_the_address_says() {
    let stage = stage();
    let folder = stage.herd.folder();
    let root = stage.ca.root.display();
    let stranger = stage.stranger.root.display();
    let exact = data_folder(&stage.herd, SECURE).join("server.crt");
    // The test reads it, the server owns it.
    let copied = folder.join("exact.crt");
    fs::copy(&exact, &copied).expect("the server's own certificate");
    let port = stage.herd.port(SECURE);
    let by = |host: &str, parameters: &str| format!("postgres://{host}:{port}/shop?{parameters}");
    let cases: Vec<(&str, String, Result<&str, &str>)> = vec![
        ("off", by("127.0.0.1", "sslmode=disable"), Ok("f")),
        ("only if it must be", by("127.0.0.1", "sslmode=allow"), Ok("f")),
        ("preferred, which is the default", by("127.0.0.1", ""), Ok("t")),
        ("required", by("127.0.0.1", "sslmode=require"), Ok("t")),
        (
            "signed by the authority",
            by("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={root}")),
            Ok("t"),
        ),
        ("by its name", by("localhost", &format!("sslmode=verify-full&sslrootcert={root}")), Ok("t")),
        ("by its address", by("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={root}")), Ok("t")),
        (
            "the certificate itself",
            by("localhost", &format!("sslmode=verify-full&sslrootcert={}", copied.display())),
            Ok("t"),
        ),
        ("bound", by("127.0.0.1", "sslmode=require&channel_binding=require"), Ok("t")),
        ("only SCRAM", by("127.0.0.1", "sslmode=require&require_auth=scram-sha-256"), Ok("t")),
        (
            "another authority",
            by("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={stranger}")),
            Err("could not be secured"),
        ),
        (
            "with a root file, require verifies",
            by("127.0.0.1", &format!("sslmode=require&sslrootcert={stranger}")),
            Err("could not be secured"),
        ),
        (
            "a name that is not in the certificate",
            by("127.1", &format!("sslmode=verify-full&sslrootcert={root}")),
            Err("could not be secured"),
        ),
        ("no TLS there, preferred", stage.address(OPEN, "?sslmode=prefer"), Ok("f")),
        ("no TLS there, required", stage.address(OPEN, "?sslmode=require"), Err("could not be secured")),
        ("not by md5", stage.address(OPEN, "?require_auth=md5"), Err("could not log in")),
    ];
    let names: Vec<String> = (0..cases.len()).map(|n| format!("d{n}")).collect();
    let databases: Vec<_> =
        names.iter().zip(&cases).map(|(name, case)| (name.as_str(), case.1.as_str())).collect();
    let endpoint = stage.serve(
        "[server]\nlisten = [\"127.0.0.1:PORT\"]\n[auth]\nmethod = \"trust\"\n[pool]\nconnect_timeout = \"3s\"\ncheckout_timeout = \"3s\"\n\
         [[users]]\nname = \"app\"\npassword = \"env:APP_PASSWORD\"\n",
        &databases,
    );
    for (name, (why, address, expected)) in names.iter().zip(&cases) {
        let connection = format!("host=127.0.0.1 port={} user=app dbname={name}", endpoint.port);
        let said = stage.psql(&connection, "", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        match expected {
            Ok(ssl) => assert_eq!(said.as_deref(), Ok(*ssl), "{why}: {address}"),
            Err(words) => {
                assert!(said.as_ref().is_err_and(|s| s.contains(words)), "{why}: {address}: {said:?}")
            }
        }
    }
}

#[test]
fn where_the_server_insists_allow_and_prefer_give_in() {
    let stage = stage();
    let cases = [
        ("only_tls", "allow", Ok("t")),
        ("only_tls", "prefer", Ok("t")),
        ("only_tls", "disable", Err("pgherd could not log in to the server")),
        ("only_plain", "prefer", Ok("f")),
        ("only_plain", "allow", Ok("f")),
        ("only_plain", "require", Err("pgherd could not log in to the server")),
    ];
    let users = ["only_tls", "only_plain"]
        .map(|name| format!("[[users]]\nname = \"{name}\"\npassword = \"secret\"\n"));
    let head =
        format!("[server]\nlisten = [\"127.0.0.1:PORT\"]\n[auth]\nmethod = \"trust\"\n{}", users.concat());
    let addresses = ["disable", "allow", "prefer", "require"]
        .map(|mode| (mode, stage.address(SECURE, &format!("?sslmode={mode}"))));
    let databases: Vec<_> = addresses.iter().map(|(mode, address)| (*mode, address.as_str())).collect();
    let endpoint = stage.serve(&head, &databases);
    for (user, mode, expected) in cases {
        let connection = format!("host=127.0.0.1 port={} user={user} dbname={mode}", endpoint.port);
        let said = stage.psql(&connection, "", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        assert_eq!(said, expected.map(str::to_owned).map_err(str::to_owned), "{user} {mode}");
    }
}

#[test]
fn a_sharded_database_is_reached_over_tls_and_the_console_says_so() {
    let stage = stage();
    let root = stage.ca.root.display();
    let (secure, open) =
        (stage.address(SECURE, &format!("?sslmode=verify-full&sslrootcert={root}")), stage.address(OPEN, ""));
    let head = head(stage, "prefer", "trust").replace("[server.tls]", "admins = [\"app\"]\n[server.tls]");
    let text = format!(
        "{head}\n[databases.herd]\ncontrol = {{ user = \"pgherd\", password = \"env:PGHERD_PASSWORD\" }}\n\
         [[databases.herd.shards]]\nname = \"s0\"\nprimary = \"{secure}\"\n\
         [[databases.herd.shards]]\nname = \"s1\"\nprimary = \"{open}\"\n\
         [databases.herd.distributions.d]\nby = \"hash\"\ntype = \"bigint\"\n\
         [databases.herd.tables]\nspread = {{ distribution = \"d\", key = \"id\" }}\n"
    );
    let endpoint = stage.serve(&text, &[]);
    let ask = |database: &str, sql: &str| {
        let connection =
            format!("host=127.0.0.1 port={} user=app dbname={database} sslmode=require", endpoint.port);
        stage.psql(&connection, "", sql)
    };
    ask("herd", "CREATE TABLE spread (id bigint PRIMARY KEY)").expect("a table on both");
    ask("herd", "INSERT INTO spread SELECT 1 WHERE false").ok();
    let rows: Vec<String> = (1..=100).map(|n| format!("({n})")).collect();
    ask("herd", &format!("INSERT INTO spread VALUES {}", rows.join(","))).expect("rows on both");
    assert_eq!(ask("herd", "SELECT count(*) FROM spread").as_deref(), Ok("100"));
    let control = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'pgherd control'";
    assert_eq!(stage.herd.psql(SECURE, control).expect("an answer"), "t");

    let servers = ask("pgbouncer", "SHOW SERVERS").expect("the console answers");
    let of = |port: u16| {
        let port = port.to_string();
        let rows =
            servers.lines().map(|l| l.split('|').collect::<Vec<_>>()).filter(move |row| row[6] == port);
        rows.map(|row| row[17].to_owned()).collect::<Vec<_>>()
    };
    let (encrypted, clear) = (of(stage.herd.port(SECURE)), of(stage.herd.port(OPEN)));
    assert!(
        !encrypted.is_empty() && encrypted.iter().all(|tls| tls == "TLSv1.3/TLS_AES_256_GCM_SHA384"),
        "{servers}"
    );
    assert!(!clear.is_empty() && clear.iter().all(String::is_empty), "{servers}");
    let clients = ask("pgbouncer", "SHOW CLIENTS").expect("the console answers");
    assert!(clients.contains("|TLSv1.3/"), "{clients}");
}

#[test]
fn noise_before_and_inside_tls_ends_nothing_but_its_own_connection() {
    let stage = stage();
    let mut endpoint =
        stage.serve(&head(stage, "allow", "scram-sha-256"), &[("shop", &stage.address(OPEN, ""))]);
    let mut dice = Dice::new("noise around TLS");
    // What a real handshake begins with.
    let mut session = client(Some(b"postgresql"));
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a hello");
    for n in 0..300 {
        let mut socket = tcp(endpoint.port);
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let mut bytes = match n % 3 {
            0 => hello.clone(),
            1 => [SSL_REQUEST, &hello].concat(),
            _ => [&[0x16, 3, 1][..], &dice.bytes(200)].concat(),
        };
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.next() as u8;
        }
        bytes.truncate(1 + dice.below(bytes.len()));
        let _ = socket.write_all(&bytes);
        let _ = socket.read(&mut [0; 100]);
    }
    for _ in 0..50 {
        let mut inside = StreamOwned::new(client(Some(b"postgresql")), tcp(endpoint.port));
        let mut bytes = startup(196_608, "app", "shop", &[]);
        let at = dice.below(bytes.len());
        bytes[at] = dice.next() as u8;
        bytes.extend(dice.bytes(30));
        let _ = inside.write_all(&bytes);
        inside.sock.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let _ = inside.read(&mut [0; 100]);
    }
    endpoint.assert_well();
    let connection = format!("host=127.0.0.1 port={} user=app dbname=shop sslmode=require", endpoint.port);
    assert_eq!(stage.psql(&connection, stage.app_password(), "SELECT 'in'").as_deref(), Ok("in"));
}

#[test]
fn large_results_and_copies_go_through_tls_on_both_sides() {
    let stage = stage();
    let shop = stage.address(SECURE, "?sslmode=require");
    let endpoint = stage.serve(&head(stage, "require", "trust"), &[("shop", &shop)]);
    let connection = format!("host=127.0.0.1 port={} user=app dbname=shop sslmode=require", endpoint.port);
    let sql = "SELECT repeat(md5(g::text), 100) FROM generate_series(1, 20000) g";
    let direct = stage.herd.psql(SECURE, sql).expect("an answer");
    let through = stage.psql(&connection, "", sql).expect("an answer");
    assert!(direct == through, "{} and {} bytes", direct.len(), through.len());

    let rows: String = (0..200_000).map(|n| format!("{n}\t{}\n", "x".repeat(n % 100))).collect();
    let file = stage.herd.folder().join("rows");
    fs::write(&file, rows).expect("a file");
    let table = "CREATE TABLE over_tls (a int, b text)";
    stage.psql(&connection, "", table).expect("a table");
    let copy = format!("\\copy over_tls FROM '{}'", file.display());
    stage.psql(&connection, "", &copy).expect("rows are copied");
    let count = stage.psql(&connection, "", "SELECT count(*), sum(length(b)) FROM over_tls");
    assert_eq!(count.as_deref(), Ok("200000|9900000"));
}

#[test]
fn certificates_are_read_again_without_losing_a_client() {
    let stage = stage();
    let folder = stage.herd.folder();
    let endpoint = stage.serve(&head(stage, "prefer", "trust"), &[("shop", &stage.address(OPEN, ""))]);
    let mut before = StreamOwned::new(client(Some(b"postgresql")), tcp(endpoint.port));
    before.write_all(&startup(196_608, "app", "shop", &[])).expect("a startup packet");
    read_welcome(&mut before);

    let served = || {
        let mut stream = StreamOwned::new(client(Some(b"postgresql")), tcp(endpoint.port));
        stream.write_all(&startup(196_608, "app", "shop", &[])).expect("a startup packet");
        read_welcome(&mut stream);
        stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
    };
    let old = served();
    let (certificate, _) = stage.ca.sign(folder, "pgherd", "renewed", &["localhost", "127.0.0.1"]);
    let new = identity::read_certificates(&certificate).expect("the new one")[0].to_vec();
    endpoint.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(10);
    while served() != new {
        assert!(Instant::now() < deadline, "the old certificate is still shown");
        thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(old, new);

    // One that cannot be used changes nothing.
    fs::write(&certificate, "nonsense").expect("a file");
    endpoint.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !endpoint.log().contains("the configuration was not reloaded") {
        assert!(Instant::now() < deadline, "{}", endpoint.log());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(served(), new);
    before.write_all(&query("SELECT 1")).expect("a query");
    assert!(read_welcome(&mut before).0.ends_with('Z'), "a client of before lives on");
}
