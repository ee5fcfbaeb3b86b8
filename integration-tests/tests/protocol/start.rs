//! The first messages: encryption asked for, versions negotiated, startup packets of all kinds.

use std::time::Instant;

use crate::raw::*;
use crate::*;

/// Single bytes are asked for with `Byte`, messages with the rest.
enum Say<'a> {
    Bytes(Vec<u8>),
    Drip(Vec<u8>),
    /// The one byte of an answer to SSLRequest or GSSENCRequest.
    Byte(u8),
    Session(&'a [&'a str]),
    Refused,
}

fn request(code: u32) -> Vec<u8> {
    [8u32.to_be_bytes(), code.to_be_bytes()].concat()
}

/// Of more than 63 bytes, with a letter of two bytes at the cut.
const LONG_NAME: &str = "0123456789-0123456789-0123456789-0123456789-0123456789-0123456é and more";

const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

fn play(wire: &mut Wire, steps: &[Say<'_>]) -> Vec<String> {
    let mut said = Vec::new();
    for step in steps {
        match step {
            Say::Bytes(bytes) => wire.send(bytes),
            Say::Drip(bytes) => bytes.iter().for_each(|b| wire.send(&[*b])),
            Say::Byte(expected) => {
                let got = wire.read_some(PATIENCE);
                assert_eq!(got.as_deref(), Some(&[*expected][..]), "the answer to an encryption request");
            }
            Say::Session(queries) => {
                let mut messages = wire.until(b'Z');
                // The order of parameters is no promise.
                let mut parameters: Vec<Message> =
                    messages.iter().filter(|m| m.kind == b'S').cloned().collect();
                messages.retain(|m| m.kind != b'S');
                parameters.sort_by(|a, b| a.body.cmp(&b.body));
                said.extend(masked(&messages, true));
                said.extend(masked(&parameters, true));
                for sql in *queries {
                    said.extend(masked(&wire.query(sql), true));
                }
            }
            Say::Refused => said.extend(masked(&wire.until(0), true)),
        }
    }
    said
}

fn packet(version: u32, more: &[(&str, &str)]) -> Say<'static> {
    Say::Bytes(startup(version, "app", "DATABASE", more))
}

#[test]
fn a_session_begins_as_with_postgresql() {
    let stage = stage();
    const V3: u32 = 196_608;
    let session = || Say::Session(&["SELECT 1"]);
    let cases: Vec<(&str, Vec<Say<'_>>)> = vec![
        ("plain", vec![packet(V3, &[]), session()]),
        ("one byte at a time", vec![Say::Drip(startup(V3, "app", "DATABASE", &[])), session()]),
        ("SSLRequest", vec![Say::Bytes(request(SSL)), Say::Byte(b'N'), packet(V3, &[]), session()]),
        ("GSSENCRequest", vec![Say::Bytes(request(GSS)), Say::Byte(b'N'), packet(V3, &[]), session()]),
        (
            "GSSENCRequest, then SSLRequest",
            vec![
                Say::Bytes(request(GSS)),
                Say::Byte(b'N'),
                Say::Bytes(request(SSL)),
                Say::Byte(b'N'),
                packet(V3, &[]),
                session(),
            ],
        ),
        (
            "SSLRequest, then GSSENCRequest",
            vec![
                Say::Bytes(request(SSL)),
                Say::Byte(b'N'),
                Say::Bytes(request(GSS)),
                Say::Byte(b'N'),
                packet(V3, &[]),
                session(),
            ],
        ),
        (
            "application_name",
            vec![
                packet(V3, &[("application_name", "me")]),
                Say::Session(&[
                    "SHOW application_name",
                    "SET application_name TO 'x'",
                    "RESET application_name",
                    "SHOW application_name",
                ]),
            ],
        ),
        (
            "any setting",
            vec![
                packet(V3, &[("work_mem", "5MB"), ("DateStyle", "german"), ("TimeZone", "Asia/Tokyo")]),
                Say::Session(&[
                    "SHOW work_mem",
                    "SELECT '2024-02-01'::date",
                    "RESET ALL",
                    "SHOW work_mem",
                    "SHOW timezone",
                ]),
            ],
        ),
        (
            "options",
            vec![
                packet(V3, &[("options", "-c work_mem=6MB --search_path=a,\\ b -c geqo=off")]),
                Say::Session(&["SHOW work_mem", "SHOW search_path", "SHOW geqo"]),
            ],
        ),
        (
            "client_encoding",
            vec![packet(V3, &[("client_encoding", "LATIN1")]), Say::Session(&["SHOW client_encoding"])],
        ),
        (
            "client_encoding in another spelling",
            vec![packet(V3, &[("client_encoding", "utf-8")]), Say::Session(&["SHOW client_encoding"])],
        ),
        (
            "an application_name of other letters",
            vec![
                packet(V3, &[("application_name", "naïve")]),
                Say::Session(&["SHOW application_name", "SELECT 1"]),
            ],
        ),
        (
            "an application_name that is cut",
            vec![
                packet(V3, &[("application_name", LONG_NAME)]),
                Say::Session(&["SHOW application_name", "SELECT 1"]),
            ],
        ),
        (
            "the same, by who does not want to hear of it",
            vec![
                packet(V3, &[("client_min_messages", "warning"), ("application_name", LONG_NAME)]),
                Say::Session(&["SHOW application_name"]),
            ],
        ),
        // Found by PgBouncer's tests: the login went well, and every statement lost a server.
        ("a bad setting that drivers send", vec![packet(V3, &[("extra_float_digits", "11")]), Say::Refused]),
        ("a bad setting", vec![packet(V3, &[("work_mem", "lots")]), Say::Refused]),
        ("an unknown setting", vec![packet(V3, &[("not_a_setting", "1")]), Say::Refused]),
        ("a setting that needs a restart", vec![packet(V3, &[("shared_buffers", "1MB")]), Say::Refused]),
        ("replication=false", vec![packet(V3, &[("replication", "false")]), session()]),
        ("version 3.2 is negotiated or spoken", vec![packet(V3 + 2, &[]), session()]),
        ("version 3.9999", vec![packet(V3 + 9_999, &[]), session()]),
        ("protocol options", vec![packet(V3, &[("_pq_.hello", "1"), ("_pq_.world", "2")]), session()]),
        ("protocol options with 3.7", vec![packet(V3 + 7, &[("_pq_.hello", "1")]), session()]),
        (
            "no user",
            vec![Say::Bytes([&9u32.to_be_bytes()[..], &V3.to_be_bytes(), b"\0"].concat()), Say::Refused],
        ),
        (
            "the parameters have no end",
            vec![Say::Bytes([&13u32.to_be_bytes()[..], &V3.to_be_bytes(), b"user\0"].concat()), Say::Refused],
        ),
        ("no database of that name", vec![Say::Bytes(startup(V3, "app", "nowhere", &[])), Say::Refused]),
        (
            "a query right behind the startup packet",
            vec![
                Say::Bytes([startup(V3, "app", "DATABASE", &[]), query("SELECT 'early'")].concat()),
                Say::Session(&[]),
            ],
        ),
    ];
    let mut differences = String::new();
    for (why, steps) in &cases {
        let named = |name: &str| -> Vec<Say<'_>> { steps.iter().map(|s| rename(s, name)).collect() };
        let expected = play(&mut stage.direct_socket(), &named("direct"));
        let got = play(&mut Wire::tcp(stage.endpoint.port), &named("plain"));
        let expected: Vec<_> = expected.iter().map(|l| l.replace("\"direct\"", "\"plain\"")).collect();
        // Which version is negotiated is a matter of the server's age (`getting_in` looks at pgherd's).
        let spoken =
            |l: Vec<String>| -> Vec<String> { l.into_iter().filter(|l| !l.starts_with("v ")).collect() };
        let (expected, got) = (spoken(expected), spoken(got));
        // A refused client is told R before it or not: pgherd looks before it says that all is well.
        let refused = |l: &Vec<String>| l.iter().any(|l| l.starts_with("E "));
        let bare = |l: Vec<String>| {
            if refused(&l) { l.into_iter().filter(|l| !l.starts_with("R ")).collect() } else { l }
        };
        let (expected, got): (Vec<String>, Vec<String>) = (bare(expected), bare(got));
        if expected != got {
            differences += &format!("\n== {why}\n{}", beside(&expected, &got));
        }
    }
    assert!(differences.is_empty(), "PostgreSQL (-) and pgherd (+) differ:{differences}");
}

/// The same step for a database of that name. Packets of tests say DATABASE.
fn rename<'a>(step: &Say<'a>, name: &str) -> Say<'a> {
    let renamed = |bytes: &[u8]| -> Vec<u8> {
        let Some(at) = bytes.windows(8).position(|w| w == b"DATABASE") else { return bytes.to_vec() };
        let length = u32::from_be_bytes(bytes[..4].try_into().expect("a length")) as usize;
        let new = [&bytes[4..at], name.as_bytes(), &bytes[at + 8..length]].concat();
        [&(new.len() as u32 + 4).to_be_bytes()[..], &new, &bytes[length..]].concat()
    };
    match step {
        Say::Bytes(bytes) => Say::Bytes(renamed(bytes)),
        Say::Drip(bytes) => Say::Drip(renamed(bytes)),
        Say::Byte(b) => Say::Byte(*b),
        Say::Session(q) => Say::Session(q),
        Say::Refused => Say::Refused,
    }
}

#[test]
fn a_startup_packet_that_lies_is_refused_and_nothing_hangs() {
    let stage = stage();
    let absurd: Vec<(&str, Vec<u8>)> = vec![
        ("length 0", vec![0; 8]),
        ("length 7", b"\0\0\0\x07\0\x03\0\0".to_vec()),
        ("one over the limit", [10_001u32.to_be_bytes(), 196_608u32.to_be_bytes()].concat()),
        ("two gigabytes", b"\x7f\xff\xff\xff\0\x03\0\0".to_vec()),
        ("negative", b"\xff\xff\xff\xff\0\x03\0\0".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS at once", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec()),
        ("version 2", startup(2 << 16, "app", "plain", &[])),
        ("version 4", startup(4 << 16, "app", "plain", &[])),
        ("bytes behind the SSLRequest", [request(SSL), startup(196_608, "app", "plain", &[])].concat()),
        ("SSLRequest for ever", request(SSL).repeat(9)),
        (
            "a cancel request cut short",
            [12u32.to_be_bytes(), 80_877_102u32.to_be_bytes(), 1u32.to_be_bytes()].concat(),
        ),
    ];
    for (why, bytes) in absurd {
        let mut wire = Wire::tcp(stage.endpoint.port);
        let begun = Instant::now();
        wire.send(&bytes);
        while !wire.read_some(PATIENCE).unwrap_or_else(|| panic!("{why}: the connection hangs")).is_empty() {}
        // "login_timeout" is 3 s; a lie is seen at once.
        assert!(begun.elapsed() < Duration::from_secs(2), "{why}: closed only after {:?}", begun.elapsed());
    }
    stage.endpoint.login("plain").run("SELECT 1");
}

#[test]
fn a_client_that_never_logs_in_is_closed_after_login_timeout() {
    let stage = stage();
    let mut silent = Wire::tcp(stage.endpoint.port);
    let mut half = Wire::tcp(stage.endpoint.port);
    half.send(&startup(196_608, "app", "plain", &[])[..20]);
    for wire in [&mut silent, &mut half] {
        assert_eq!(wire.hear(Duration::from_secs(10)), Heard::Closed);
    }
}
