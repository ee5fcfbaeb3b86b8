//! Asking a server for TLS, and what pgherd tries when a server says no: scripted servers that tell the truth, and some that do not.

mod peer;

use peer::{secs, target};
use pgherd_config::{Methods, Security, SslMode};
use pgherd_pool::connect::{Login, login};
use pgherd_pool::{ConnectError, Connector, Secret, Secrets};
use pgherd_wire::message::{self, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server says on one connection, packet by packet: to each of pgherd's, the next of these.
type Script = Vec<Vec<u8>>;

fn frames(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn welcome() -> Vec<u8> {
    frames(|out| {
        message::authentication(out, 0, &[]);
        message::backend_key_data(out, 4711, b"abcd");
        message::ready_for_query(out, b'I');
    })
}

fn error(sqlstate: &str) -> Vec<u8> {
    frames(|out| Report::fatal(sqlstate, "no").write(out))
}

fn clear_text() -> Vec<u8> {
    frames(|out| message::authentication(out, 3, &[]))
}

/// Plays one script a connection; what pgherd sent on each, as text.
async fn play(listener: TcpListener, scripts: Vec<Script>) -> Vec<String> {
    let mut heard = Vec::new();
    for script in scripts {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut said = Vec::new();
        for answer in script {
            let mut block = [0; 1024];
            let n = socket.read(&mut block).await.unwrap_or(0);
            said.extend_from_slice(&block[..n]);
            let _ = socket.write_all(&answer).await;
        }
        said.extend(rest(&mut socket).await);
        heard.push(String::from_utf8_lossy(&said).into_owned());
    }
    heard
}

async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    // Not for ever: a client that waits for more is hung up on.
    let mut said = Vec::new();
    let wait = async {
        let mut block = [0; 1024];
        while let Ok(n @ 1..) = socket.read(&mut block).await {
            said.extend_from_slice(&block[..n]);
        }
    };
    let _ = tokio::time::timeout(peer::ms(100), wait).await;
    said
}

async fn against(
    security: Security,
    secrets: Secrets,
    scripts: Vec<Script>,
) -> (Result<Login, ConnectError>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(listener.local_addr().unwrap());
    target.tls = Connector::new(&security).unwrap();
    target.secrets = secrets;
    let playing = tokio::spawn(play(listener, scripts));
    let outcome = login(&target, secs(5)).await;
    let heard = match &outcome {
        Ok(_) => playing.await.unwrap(),
        Err(_) => tokio::time::timeout(secs(2), playing).await.map(Result::unwrap).unwrap_or_default(),
    };
    (outcome, heard)
}

fn mode(mode: SslMode) -> Security {
    Security { mode, ..Security::default() }
}

#[tokio::test]
async fn an_answer_to_the_request_for_tls_is_one_letter() {
    use SslMode::{Allow, Disable, Prefer, Require};
    let noise = || vec![0x15; 40];
    let cases: Vec<(&str, SslMode, Vec<Script>, &str)> = vec![
        ("never asked", Disable, vec![vec![welcome()]], "in"),
        ("no, and on in the clear", Prefer, vec![vec![b"N".into(), welcome()]], "in"),
        ("no, where it must be", Require, vec![vec![b"N".into()]], "TLS: the server does not support TLS"),
        (
            "yes and more",
            Require,
            vec![vec![[b"S", &welcome()[..]].concat()]],
            "protocol violation: the server sent data ahead of the TLS handshake",
        ),
        (
            "no and more",
            Prefer,
            vec![vec![[b"N", &welcome()[..]].concat()]],
            "protocol violation: the server sent data ahead of the TLS handshake",
        ),
        (
            "neither",
            Require,
            vec![vec![b"X".into()]],
            "protocol violation: the server did not answer the request for TLS",
        ),
        ("an error", Require, vec![vec![error("53300")]], "connection lost during login"),
        ("the end", Require, vec![vec![]], "connection lost during login"),
        ("yes, and no handshake", Require, vec![vec![b"S".into(), noise()]], "TLS: "),
        (
            "yes, and no handshake, where it need not be",
            Prefer,
            vec![vec![b"S".into(), noise()], vec![welcome()]],
            "in",
        ),
        (
            "only encrypted, and then not",
            Allow,
            vec![vec![error("28000")], vec![b"N".into()]],
            "refused: no (28000)",
        ),
        ("another refusal is no reason to encrypt", Allow, vec![vec![error("3D000")]], "refused: no (3D000)"),
        ("nor to go on in the clear", Prefer, vec![vec![b"N".into(), error("28000")]], "refused: no (28000)"),
    ];
    for (why, ssl_mode, scripts, expected) in cases {
        let (outcome, _) = against(mode(ssl_mode), Secrets::password("secret"), scripts).await;
        let said = outcome.map_or_else(|error| error.to_string(), |_| "in".into());
        assert!(said.starts_with(expected), "{why}: {said}");
    }
}

#[tokio::test]
async fn while_a_password_is_replaced_the_one_that_worked_is_tried_first() {
    let password = |text: &str| Secret::Password(text.into());
    let secrets = Secrets::new(vec![password("old"), password("new")]);
    let refused = || vec![clear_text(), error("28P01")];
    let taken = || vec![clear_text(), welcome()];
    let (outcome, heard) = against(mode(SslMode::Disable), secrets.clone(), vec![refused(), taken()]).await;
    assert!(outcome.is_ok());
    assert!(heard[0].ends_with("old\0") && heard[1].ends_with("new\0"), "{heard:?}");
    let (outcome, heard) = against(mode(SslMode::Disable), secrets.clone(), vec![taken()]).await;
    assert!(outcome.is_ok() && heard[0].ends_with("new\0"), "{heard:?}");
    // The reason is the first one's.
    let (outcome, heard) = against(mode(SslMode::Disable), secrets, vec![refused(), refused()]).await;
    assert!(matches!(outcome, Err(ConnectError::Refused(report)) if report.sqlstate == "28P01"));
    assert!(heard[0].ends_with("new\0") && heard[1].ends_with("old\0"), "{heard:?}");
}

#[tokio::test]
async fn a_server_gets_no_other_proof_than_was_allowed() {
    let allow = |methods: Methods| Security { require_auth: Some(methods), ..mode(SslMode::Disable) };
    let (md5, none, password) = (
        Methods { md5: true, ..Methods::default() },
        Methods { none: true, ..Methods::default() },
        Methods { password: true, ..Methods::default() },
    );
    let salted = frames(|out| message::authentication(out, 5, b"salt"));
    let no = "authentication: the server asks for a method that require_auth does not allow";
    let cases: Vec<(&str, Security, Script, &str)> = vec![
        ("as allowed", allow(password), vec![clear_text(), welcome()], "in"),
        ("another", allow(md5), vec![clear_text()], no),
        ("and the other way round", allow(password), vec![salted.clone()], no),
        ("none", allow(none), vec![welcome()], "in"),
        (
            "none, where one is wanted",
            allow(md5),
            vec![welcome()],
            "authentication: the server asked for no proof",
        ),
        ("all of it", allow(md5), vec![salted, welcome()], "in"),
    ];
    for (why, security, script, expected) in cases {
        let (outcome, heard) = against(security, Secrets::password("secret"), vec![script]).await;
        let said = outcome.map_or_else(|error| error.to_string(), |_| "in".into());
        assert!(said.starts_with(expected), "{why}: {said}");
        assert!(said == "in" || heard.iter().all(|heard| !heard.contains("secret")), "{why}");
    }
}
