//! Logging in to a server, byte by byte: every method, every refusal, and servers that are none.

mod peer;

use peer::{Wire, ms, secs, stop_clock, target, unix_server};
use pgherd_pool::connect::{Login, login};
use pgherd_pool::{ConnectError, Parameters, Target};
use pgherd_wire::message::{self, Report};
use pgherd_wire::scram;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// One step of a server's script.
enum Step {
    Say(Vec<u8>),
    /// The body of a 'p' message.
    Expect(Vec<u8>),
    /// The whole SCRAM exchange, with this password.
    Scram(&'static str),
}

use Step::{Expect, Say, Scram};

fn frames(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn ask(code: u32, data: &[u8]) -> Vec<u8> {
    frames(|out| message::authentication(out, code, data))
}

fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    frames(|out| Report::fatal(sqlstate, text).write(out))
}

/// From AuthenticationOk to ReadyForQuery.
fn welcome() -> Vec<u8> {
    frames(|out| {
        message::authentication(out, 0, &[]);
        Report::warning("01000", "a notice on the way").write(out);
        message::parameter_status(out, "server_version", "18.0");
        message::backend_key_data(out, 4711, b"abcd");
        message::parameter_status(out, "TimeZone", "UTC");
        message::ready_for_query(out, b'I');
    })
}

const SASL_SCRAM: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

/// Serves one connection by the script, `chunk` bytes at a time, then waits for its end.
async fn play(mut socket: impl Wire, script: Vec<Step>, chunk: usize) -> Option<()> {
    let length = socket.read_u32().await.ok()?;
    let mut startup = vec![0; length as usize - 4];
    socket.read_exact(&mut startup).await.ok()?;
    assert_eq!(
        String::from_utf8_lossy(&startup[4..]),
        "user\0app\0database\0shop\0application_name\0pgherd\0client_encoding\0UTF8\0\0"
    );
    for step in script {
        match step {
            Say(bytes) => say(&mut socket, &bytes, chunk).await?,
            Expect(body) => assert_eq!(read_password(&mut socket).await?, body),
            Scram(password) => {
                let mut server = scram::Server::new(scram::Verifier::from_password(password.as_bytes()));
                say(&mut socket, &ask(10, SASL_SCRAM), chunk).await?;
                let initial = read_password(&mut socket).await?;
                let first = initial.strip_prefix(b"SCRAM-SHA-256\0").expect("the mechanism's name");
                let challenge = server.first(&first[4..]).unwrap();
                say(&mut socket, &ask(11, &challenge), chunk).await?;
                let proof = read_password(&mut socket).await?;
                match server.finish(&proof) {
                    Ok(signature) => say(&mut socket, &ask(12, &signature), chunk).await?,
                    Err(_) => say(&mut socket, &error("28P01", "password is wrong"), chunk).await?,
                }
            }
        }
    }
    let _ = socket.read_u8().await;
    Some(())
}

async fn say(socket: &mut impl Wire, bytes: &[u8], chunk: usize) -> Option<()> {
    for part in bytes.chunks(chunk) {
        socket.write_all(part).await.ok()?;
        if chunk < bytes.len() {
            tokio::task::yield_now().await;
        }
    }
    Some(())
}

async fn read_password(socket: &mut impl Wire) -> Option<Vec<u8>> {
    assert_eq!(socket.read_u8().await.ok()?, b'p');
    let length = socket.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    socket.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn against(script: Vec<Step>, chunk: usize) -> Result<Login, ConnectError> {
    against_as(script, chunk, |_| {}).await
}

async fn against_as(
    script: Vec<Step>,
    chunk: usize,
    change: impl FnOnce(&mut Target),
) -> Result<Login, ConnectError> {
    let (_directory, listener, mut target) = unix_server();
    change(&mut target);
    let playing = tokio::spawn(async move { play(listener.accept().await.unwrap().0, script, chunk).await });
    let outcome = login(&target, secs(10)).await;
    if outcome.is_err() {
        // A script that was not played to its end is no mistake; a wrong expectation is.
        if let Err(panic) = playing.await {
            std::panic::resume_unwind(panic.into_panic());
        }
    }
    outcome
}

/// As `md5(md5(password || user) || salt)` says, computed elsewhere.
const MD5_ANSWER: &[u8] = b"md5911f527656472583a006e7727877b33e\0";

#[tokio::test]
async fn every_method_logs_in_whole_and_one_byte_at_a_time() {
    type Script = fn() -> Vec<Step>;
    let cases: [(&str, Script); 4] = [
        ("trust", || vec![Say(welcome())]),
        ("cleartext", || vec![Say(ask(3, b"")), Expect(b"secret\0".to_vec()), Say(welcome())]),
        ("md5", || vec![Say(ask(5, &[1, 2, 3, 4])), Expect(MD5_ANSWER.to_vec()), Say(welcome())]),
        ("SCRAM", || vec![Scram("secret"), Say(welcome())]),
    ];
    for (method, script) in cases {
        for chunk in [1, 7, usize::MAX] {
            let login = against(script(), chunk).await.unwrap_or_else(|e| panic!("{method}, {chunk}: {e}"));
            let parameters: Vec<_> = login.parameters.iter().collect();
            assert_eq!(parameters, [("server_version", "18.0"), ("TimeZone", "UTC")], "{method}");
            assert_eq!(login.cancel.process_id(), Some(4711), "{method}");
        }
    }
}

#[tokio::test]
async fn what_a_server_should_not_say_ends_the_login() {
    let ready = |status| frames(|out| message::ready_for_query(out, status));
    let after_ok = |bytes: Vec<u8>| [ask(0, b""), bytes].concat();
    let key = |secret: &[u8]| frames(|out| message::backend_key_data(out, 1, secret));
    let protocol = |why| ConnectError::Protocol { why };
    let authentication = |why| ConnectError::Authentication { why };
    let unexpected = "the server sent an unexpected message during login";
    let out_of_order = "the server sent an authentication message out of order";
    let unknown_method = "the server asks for an authentication method that pgherd does not have";
    let key_malformed = "the server sent a malformed cancel key";
    let too_much = "the server sent too much during login";
    let cases: Vec<(&str, Vec<Step>, ConnectError)> = vec![
        (
            "no such database",
            vec![Say(error("3D000", "database \"shop\" does not exist"))],
            ConnectError::Refused(Report::fatal("3D000", "database \"shop\" does not exist")),
        ),
        (
            "an error without any field",
            vec![Say(b"E\0\0\0\x05\0".to_vec())],
            ConnectError::Refused(Report::error("XX000", "")),
        ),
        (
            "an error after the password was right",
            vec![Say(after_ok(error("53300", "sorry, too many clients already")))],
            ConnectError::Refused(Report::fatal("53300", "sorry, too many clients already")),
        ),
        (
            "the wrong password",
            vec![Scram("another")],
            ConnectError::Refused(Report::fatal("28P01", "password is wrong")),
        ),
        ("Kerberos", vec![Say(ask(2, b""))], authentication(unknown_method)),
        ("GSS", vec![Say(ask(7, b""))], authentication(unknown_method)),
        ("a method of tomorrow", vec![Say(ask(77, b""))], authentication(unknown_method)),
        (
            "SASL without SCRAM",
            vec![Say(ask(10, b"OAUTHBEARER\0\0"))],
            authentication("the server offers no SASL mechanism that pgherd knows (SCRAM-SHA-256)"),
        ),
        (
            "mechanisms without an end",
            vec![Say(ask(10, b"SCRAM-SHA-256"))],
            authentication("the server offers no SASL mechanism that pgherd knows (SCRAM-SHA-256)"),
        ),
        (
            "a challenge that is none",
            vec![Say(ask(10, SASL_SCRAM)), Say(ask(11, b"r=mine,s=c2FsdA==,i=4096"))],
            authentication("the server's SCRAM challenge is not acceptable"),
        ),
        (
            "Ok from a server that did not prove itself",
            vec![Say(ask(10, SASL_SCRAM)), Say(welcome())],
            protocol(out_of_order),
        ),
        (
            "a signature before the proof",
            vec![Say(ask(10, SASL_SCRAM)), Say(ask(12, b"v=AAAA"))],
            protocol(out_of_order),
        ),
        ("asked twice", vec![Say(ask(3, b"")), Say(ask(3, b""))], protocol(out_of_order)),
        ("Ok twice", vec![Say(after_ok(ask(0, b"")))], protocol(out_of_order)),
        ("an md5 salt of three bytes", vec![Say(ask(5, b"abc"))], protocol(out_of_order)),
        ("a request without a code", vec![Say(b"R\0\0\0\x06\0\0".to_vec())], protocol(out_of_order)),
        ("ready without authentication", vec![Say(ready(b'I'))], protocol(unexpected)),
        (
            "a parameter before authentication",
            vec![Say(frames(|out| message::parameter_status(out, "a", "b")))],
            protocol(unexpected),
        ),
        ("a row", vec![Say(after_ok(b"D\0\0\0\x06\0\0".to_vec()))], protocol(unexpected)),
        (
            "another version offered",
            vec![Say(b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0".to_vec())],
            protocol(unexpected),
        ),
        (
            "a transaction nobody began",
            vec![Say(after_ok(ready(b'T')))],
            protocol("the server is in a transaction after login"),
        ),
        (
            "bytes after ReadyForQuery",
            vec![Say(after_ok([ready(b'I'), ready(b'I')].concat()))],
            protocol("the server went on after ReadyForQuery"),
        ),
        (
            "half a byte after ReadyForQuery",
            vec![Say(after_ok([ready(b'I'), b"Z".to_vec()].concat()))],
            protocol("the server went on after ReadyForQuery"),
        ),
        (
            "a parameter without its NUL",
            vec![Say(after_ok(b"S\0\0\0\x07a\0b".to_vec()))],
            protocol("the server sent a malformed ParameterStatus"),
        ),
        (
            "parameters without end",
            vec![Say(after_ok(frames(|out| {
                for n in 0..300 {
                    message::parameter_status(out, &format!("p{n}"), "");
                }
            })))],
            protocol("the server sent a malformed ParameterStatus"),
        ),
        ("a key of 3 bytes", vec![Say(after_ok(key(b"abc")))], protocol(key_malformed)),
        ("a key of 257 bytes", vec![Say(after_ok(key(&[7; 257])))], protocol(key_malformed)),
        ("two keys", vec![Say(after_ok([key(b"abcd"), key(b"abcd")].concat()))], protocol(key_malformed)),
        (
            "a length under four",
            vec![Say(b"R\0\0\0\x03".to_vec())],
            protocol("the server sent an impossible length"),
        ),
        (
            "a negative length",
            vec![Say(b"R\xff\xff\xff\xff".to_vec())],
            protocol("the server sent an impossible length"),
        ),
        ("a length of 64 KiB and more", vec![Say(b"E\0\x01\0\x05".to_vec())], protocol(too_much)),
        ("a length of half a gigabyte", vec![Say(b"S\x20\0\0\0".to_vec())], protocol(too_much)),
        (
            "notices without end",
            vec![Say(frames(|out| {
                for _ in 0..40 {
                    message::frame(out, b'N', |o| o.extend_from_slice(&[b'M'; 60_000]));
                }
            }))],
            protocol(too_much),
        ),
        (
            "a web server",
            vec![Say(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())],
            protocol("the server sent an impossible length"),
        ),
        (
            "an SSL answer nobody asked for",
            vec![Say(b"N\0\0\0\0".to_vec())],
            protocol("the server sent an impossible length"),
        ),
    ];
    for (why, script, expected) in cases {
        assert_eq!(against(script, usize::MAX).await.unwrap_err(), expected, "{why}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_password_where_none_is_configured_gets_none() {
    for question in [ask(3, b""), ask(5, &[1, 2, 3, 4]), ask(10, SASL_SCRAM)] {
        let outcome = against_as(vec![Say(question)], usize::MAX, |t| t.secrets = Default::default()).await;
        assert!(matches!(outcome, Err(ConnectError::Authentication { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn cancel_keys_of_four_to_256_bytes_are_kept() {
    for length in [4, 32, 256] {
        let script = vec![Say(frames(|out| {
            message::authentication(out, 0, &[]);
            message::backend_key_data(out, 9, &vec![7; length]);
            message::ready_for_query(out, b'I');
        }))];
        let login = against(script, usize::MAX).await.unwrap();
        assert_eq!(login.cancel.process_id(), Some(9));
    }
}

#[tokio::test]
async fn a_server_without_cancel_keys_is_served_but_cannot_be_cancelled() {
    let script = vec![Say(frames(|out| {
        message::authentication(out, 0, &[]);
        message::ready_for_query(out, b'I');
    }))];
    let login = against(script, usize::MAX).await.unwrap();
    assert_eq!((login.cancel.process_id(), login.parameters), (None, Parameters::default()));
    assert_eq!(login.cancel.cancel().await.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_name_cannot_smuggle_a_setting_into_the_startup_packet() {
    let smuggle = |t: &mut Target| t.dbname = "shop\0replication\0true".into();
    let outcome = against_as(vec![], usize::MAX, smuggle);
    let outcome = tokio::time::timeout(secs(5), outcome).await.expect("nothing is sent");
    assert_eq!(outcome.unwrap_err(), ConnectError::Authentication { why: "a name contains a NUL" });
}

#[tokio::test]
async fn a_server_that_hangs_up_or_never_answers_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hanging_up = tokio::spawn(async move {
        drop(listener.accept().await.unwrap());
        listener
    });
    assert!(matches!(login(&target(address), secs(5)).await, Err(ConnectError::Lost { .. })));

    let listener = hanging_up.await.unwrap();
    let outcome = login(&target(address), ms(50)).await;
    assert_eq!(outcome.unwrap_err(), ConnectError::TimedOut { after: ms(50) });

    drop(listener);
    let outcome = login(&target(address), secs(5)).await;
    assert_eq!(
        outcome.unwrap_err(),
        ConnectError::Unreachable { kind: std::io::ErrorKind::ConnectionRefused }
    );
}

#[tokio::test]
async fn the_deadline_holds_for_the_whole_login_not_for_each_byte() {
    let _clock = stop_clock();
    let (_directory, listener, target) = unix_server();
    let drip = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        for byte in welcome() {
            tokio::time::advance(ms(100)).await;
            if socket.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(login(&target, secs(3)).await.unwrap_err(), ConnectError::TimedOut { after: secs(3) });
    drip.abort();
}

#[tokio::test]
async fn a_host_that_starts_with_a_slash_is_the_directory_of_a_unix_socket() {
    let (_directory, listener, target) = unix_server();
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&welcome()).await.unwrap();
        // The cancel goes to the same place.
        let (mut cancel, _) = listener.accept().await.unwrap();
        let mut packet = [0; 16];
        cancel.read_exact(&mut packet).await.unwrap();
        (socket, packet)
    });

    let login = login(&target, secs(5)).await.unwrap();
    login.cancel.cancel().await.unwrap();

    let (_, packet) = served.await.unwrap();
    assert_eq!(packet, *b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\x12\x67abcd");
}

#[tokio::test]
async fn a_name_is_resolved_and_every_address_is_tried() {
    // "localhost" is often ::1 first, where nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(listener.local_addr().unwrap());
    target.host = "localhost".into();
    let script = vec![Say(welcome())];
    let playing = tokio::spawn(async move { play(listener.accept().await.unwrap().0, script, 99).await });

    assert!(login(&target, secs(5)).await.is_ok());
    playing.await.unwrap();
}

#[tokio::test]
async fn random_bytes_from_a_server_end_in_an_error_and_never_in_a_panic() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let good = [ask(10, SASL_SCRAM), ask(5, b"salt"), welcome()];
    for _ in 0..300 {
        // Half of them begin well, and go wrong in one byte.
        let mut bytes = if random.random() {
            let mut bytes = good[random.random_range(0..good.len())].clone();
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
            bytes
        } else {
            (0..random.random_range(1..200)).map(|_| random.random()).collect::<Vec<u8>>()
        };
        bytes.truncate(4096);
        let (_directory, listener, target) = unix_server();
        let sent = bytes.clone();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(&sent).await;
            let _ = socket.shutdown().await;
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
        });
        // A changed byte in a value may well be accepted.
        let outcome = tokio::time::timeout(secs(10), login(&target, secs(5))).await;
        assert!(outcome.is_ok(), "hung on {bytes:?}");
        drop(outcome);
        server.await.unwrap();
    }
}
