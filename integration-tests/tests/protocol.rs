//! PostgreSQL is the judge: the same bytes on a direct connection and through pgherd, the answers compared message
//! by message.
//!
//! Invariant: an expectation here is what a server said in the same run. Only what must differ is masked: process
//! ids, cancel keys, table OIDs, and where in PostgreSQL's source an error was raised when pgherd words it itself.
//!
//! Not here: peers that break the protocol on purpose and at random (`fuzz`), crashes (`crash`).
//!
//! # What breaks proxies, and where it is tried
//!
//! 1. pipelining over several Sync: `a_pipeline_is_answered_in_order_as_by_postgresql`
//! 2. Flush without Sync: the same, `parse_and_flush_is_answered_however_often_it_comes`
//! 3. an error in mid-pipeline: the same, `statements_and_portals_by_name_are_as_in_a_session_of_its_own`
//! 4. a Query inside a batch: the same, `a_query_behind_a_batch_without_its_sync_is_answered_as_by_postgresql`
//! 5. several statements in one Query: `a_query_string_is_answered_as_by_postgresql`
//! 6. a COPY that fails: `copy_is_answered_as_by_postgresql`
//! 7. leaving in mid-COPY: `a_copy_without_its_end_ends_with_the_client`, `a_connection_cut_at_any_byte_harms_nobody`
//! 8. FunctionCall: `a_function_call_goes_through`
//! 9. large rows: `large_rows_stream_with_bounded_memory_and_a_slow_reader_stops_the_server`
//! 10. portals with a row limit: `statements_and_portals_by_name_are_as_in_a_session_of_its_own`
//! 11. Close, DEALLOCATE, DISCARD ALL: the same, `clients_of_one_server_see_only_what_is_theirs`
//! 12. unknown and duplicate names: the same
//! 13. a cached plan: `a_statement_whose_columns_changed_is_refused_to_who_knows_the_old_ones`
//! 14. the race of a cancel: `a_cancel_strikes_the_clients_own_statement_and_nothing_else`,
//!     `a_cancel_takes_a_waiting_client_out_of_the_queue`, `a_storm_of_cancels_never_strikes_another_client`,
//!     `a_server_being_cancelled_is_lent_to_nobody_until_the_cancel_connection_has_closed`
//! 15. a client that disappears: `a_client_that_disappears_leaves_no_query_no_lock_and_its_server_to_the_next`
//! 16. a server's last words: `a_server_that_ends_a_connection_between_two_statements_is_heard_once`,
//!     `a_server_that_closes_at_any_byte_gives_exactly_one_error`, `what_an_idle_server_says_is_read_before_it_is_lent`
//! 17. ParameterStatus: `settings_are_the_clients_own_as_with_a_server_of_its_own`
//! 18. what comes on idle servers: `what_an_idle_server_says_is_read_before_it_is_lent`
//! 19. negotiating encryption: `a_session_begins_as_with_postgresql`, `direct_tls_needs_its_protocol_and_nothing_comes_before_a_handshake`,
//!     `an_answer_to_the_request_for_tls_is_one_letter`
//! 20. NegotiateProtocolVersion: `protocol_3_2_is_spoken_and_what_is_newer_is_negotiated`
//! 21. long cancel keys: the same, `cancel_keys_of_four_to_256_bytes_are_kept`
//! 22. the startup packet: `a_startup_packet_that_lies_is_refused_and_nothing_hangs`,
//!     `a_client_that_never_logs_in_is_closed_after_login_timeout`
//! 23. lengths that lie: `a_length_that_lies_is_answered_with_08p01_and_the_end`, `a_length_of_a_gigabyte_allocates_nothing_by_itself`
//! 24. authentication: `a_right_password_opens_and_a_wrong_one_says_nothing_about_the_user`,
//!     `users_that_the_file_does_not_have_are_asked_for`, `a_password_of_many_kilobytes_is_taken_and_a_longer_one_refused`
//! 25. the status 'E': `a_transaction_block_is_reported_and_ended_as_by_postgresql`, `a_commit_that_fails_leaves_no_transaction_however_its_messages_come`
//! 26. what a session keeps: `clients_of_two_servers_see_only_what_is_theirs_and_pins_come_and_go`, `listening_is_as_on_a_connection_of_ones_own`
//! 27. replication: `postgresqls_own_programs_replicate_through_pgherd`
//! 28. backpressure and half-close: `a_client_may_pipeline_without_reading_and_nothing_locks_up`,
//!     `what_a_client_does_with_its_socket_is_taken_as_by_postgresql`
//! 29. the first client: `what_is_told_at_login_is_what_the_server_says_by_then`
//! 30. PAUSE with half a batch: `under_pause_a_batch_that_has_begun_is_finished_and_the_rest_is_kept`
//!
//! Start reading at [`Stage::compare`].

mod raw;

#[path = "protocol/batches.rs"]
mod batches;
#[path = "protocol/behind.rs"]
mod behind;
#[path = "protocol/copy.rs"]
mod copy;
#[path = "protocol/drip.rs"]
mod drip;
#[path = "protocol/extended.rs"]
mod extended;
#[path = "protocol/isolation.rs"]
mod isolation;
#[path = "protocol/large.rs"]
mod large;
#[path = "protocol/listen.rs"]
mod listen;
#[path = "protocol/modes.rs"]
mod modes;
#[path = "protocol/pool.rs"]
mod pool;
#[path = "protocol/sharded.rs"]
mod sharded;
#[path = "protocol/simple.rs"]
mod simple;
#[path = "protocol/start.rs"]
mod start;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use pgherd::demo::servers::{Herd, HerdOptions};
use raw::{Endpoint, Heard, Message, Wire};

/// Servers 0 to 3 are the shards of the database "shop"; server 4 has the databases "direct", which only a direct
/// connection uses, and "plain", which pgherd serves as plain pools of several sizes.
const PLAIN: usize = 4;

/// How long to listen for a message that must not come.
const QUIET: Duration = Duration::from_millis(150);

/// A plain pool whose server's messages come one by one: see [`drip`].
const DRIPPING: &str = "dripping";

pub struct Stage {
    pub herd: Herd,
    pub endpoint: Endpoint,
}

/// One for all tests of this program. Its processes end with this one.
pub fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let herd = Herd::start(5, HerdOptions::default()).expect("a herd of PostgreSQL servers");
        for database in ["direct", "plain", "lost", DRIPPING] {
            herd.psql(PLAIN, &format!("CREATE DATABASE {database} OWNER app")).expect("a database");
        }
        let port = raw::free_port();
        let dripping = drip::relay(herd.port(PLAIN));
        let endpoint = Endpoint::start(&herd, port, &configuration(&herd, port, dripping));
        Stage { herd, endpoint }
    })
}

fn configuration(herd: &Herd, port: u16, dripping: u16) -> String {
    let mut text = format!(
        r#"
[server]
listen = ["127.0.0.1:{port}"]
workers = 2
login_timeout = "3s"

[auth]
method = "trust"

[[users]]
name = "app"
password = "env:APP_PASSWORD"

[pool]
checkout_timeout = "10s"
"#
    );
    // A database of pgherd's own for each size of the pool, so that tests do not wait for each other's servers.
    for (name, mode, size, timeout) in [
        ("plain", "transaction", 4, "10s"),
        ("one", "transaction", 1, "20s"),
        ("two", "transaction", 2, "20s"),
        ("queue", "transaction", 1, "20s"),
        ("order", "transaction", 1, "20s"),
        ("leaving", "transaction", 1, "20s"),
        ("waiting", "transaction", 1, "20s"),
        ("brief", "transaction", 1, "400ms"),
        ("load", "transaction", 3, "20s"),
        ("hearing", "transaction", 1, "20s"),
        ("hearing_lost", "transaction", 2, "20s"),
        ("session", "session", 1, "20s"),
        ("statement", "statement", 1, "20s"),
        (DRIPPING, "transaction", 4, "10s"),
    ] {
        let (server, served) = match name {
            DRIPPING => (dripping, DRIPPING),
            // Where a test ends connections by what they are there for.
            "hearing_lost" => (herd.port(PLAIN), "lost"),
            _ => (herd.port(PLAIN), "plain"),
        };
        text += &format!(
            r#"
[databases.{name}.pool]
mode = "{mode}"
size = {size}
checkout_timeout = "{timeout}"

[[databases.{name}.shards]]
name = "s0"
primary = "postgres://127.0.0.1:{server}/{served}"
"#
        );
    }
    text += "\n[databases.shop]\ncontrol = { user = \"pgherd\", password = \"env:PGHERD_PASSWORD\" }\n";
    for shard in 0..4 {
        text += &format!(
            "\n[[databases.shop.shards]]\nname = \"s{shard}\"\nprimary = \"{}\"\n",
            herd.address(shard)
        );
    }
    text +=
        "\n[databases.shop.distributions.k]\nby = \"hash\"\ntype = \"bigint\"\n\n[databases.shop.tables]\n";
    for table in sharded::TABLES {
        text += &format!("{table} = {{ distribution = \"k\", key = \"k\" }}\n");
    }
    text
}

/// What a script does next.
pub enum Step {
    Send(Vec<u8>),
    /// Each byte in a packet of its own.
    Drip(Vec<u8>),
    /// Listens until so many ReadyForQuery have come.
    Ready(usize),
    /// Listens until a message of this type has come.
    Until(u8),
    /// Nothing may come now.
    Quiet,
    /// Listens until the connection is closed.
    Closed,
    HalfClose,
}

/// Sends all at once, then listens for so many ReadyForQuery.
pub fn batch(messages: &[Vec<u8>], ready: usize) -> Vec<Step> {
    vec![Step::Send(messages.concat()), Step::Ready(ready)]
}

/// Simple queries, one after the other.
pub fn queries(sql: &[&str]) -> Vec<Step> {
    sql.iter().flat_map(|sql| batch(&[raw::query(sql)], 1)).collect()
}

pub fn join(parts: Vec<Vec<Step>>) -> Vec<Step> {
    parts.into_iter().flatten().collect()
}

/// A script with its reason.
pub struct Script {
    pub why: &'static str,
    pub steps: Vec<Step>,
}

pub fn script(why: &'static str, steps: Vec<Step>) -> Script {
    Script { why, steps }
}

/// Scripts whose answers differ today, each with its reason. With --nocapture a script that agrees says AGREES: it
/// may leave the list.
const DIFFERENT: &[(&str, &str, &str)] = &[
    // Open: to be mended.
    (
        "plain",
        "pg_prepared_statements shows the client's own",
        "open: it shows what all clients share on that server",
    ),
    (
        "plain",
        "a Parse behind an error defines nothing",
        "its Bind is on its way before the error is known, and another client's statement of that text answers",
    ),
    ("plain", "a failing unnamed Parse leaves none", "which routine of the server says so"),
    ("shop", "an error in a fan in a batch", "open: the RowDescription does not precede the error"),
    ("plain", "standard_conforming_strings off", "open: a notice of a SET is swallowed"),
    // Accepted.
    ("plain", "CopyDone missing at half-close", "the client is not told; that it ends is tested in `copy`"),
    (
        "plain",
        "ROLLBACK AND CHAIN after a failure",
        "PostgreSQL 15 forgets the characteristics of a failed block, against its manual",
    ),
    ("plain", "a Parse error is flushed by itself", "a Parse waits for its Bind, which tells the server"),
    (
        "plain",
        "an error in a block, by pipeline",
        "a statement that the server has already is not parsed again",
    ),
    ("plain", "statement in a failed block", "a statement that the server has already is not parsed again"),
    ("plain", "a Sync with a body", "nobody sends one"),
    (
        "plain",
        "nobody, behind a batch of a Parse alone: DISCARD ALL",
        "a batch that has run nothing yet is taken for one that has",
    ),
    (
        "plain",
        "a pinned client, behind a batch of a Parse alone: DISCARD ALL",
        "a batch that has run nothing yet is taken for one that has",
    ),
    ("shop", "too few values", "pgherd says BindComplete before a server reads the values"),
    ("shop", "a bad key value", "pgherd says BindComplete before a server reads the value"),
    ("shop", "a key out of range", "pgherd says BindComplete before a server reads the value"),
    ("shop", "Bind with a length that lies", "the error has no context"),
    ("shop", "CopyFail leaves nothing", "a shard counts its own lines"),
    ("shop", "extended CopyFail", "a shard counts its own lines"),
    ("shop", "a Query during COPY", "the error has no context"),
    (
        "shop",
        "an error among sorted rows",
        "how many rows come before another shard's error depends on who was faster",
    ),
];

fn play(wire: &mut Wire, steps: &[Step]) -> Vec<Message> {
    let mut said = Vec::new();
    let mut note = |text: &str| said.push(Message { kind: b'!', body: text.into() });
    note("start");
    for step in steps {
        match step {
            Step::Send(bytes) => wire.send(bytes),
            Step::Drip(bytes) => bytes.iter().for_each(|b| wire.send(&[*b])),
            Step::HalfClose => wire.half_close(),
            Step::Quiet => match wire.hear(QUIET) {
                Heard::Silence => {}
                Heard::Closed => said.push(Message { kind: b'!', body: b"closed".to_vec() }),
                Heard::Message(m) => {
                    said.push(m);
                    said.push(Message { kind: b'!', body: b"came although nothing was due".to_vec() });
                }
            },
            Step::Ready(count) => {
                for _ in 0..*count {
                    said.extend(wire.until(b'Z'));
                    if said.last().is_some_and(|m| m.kind == b'!') {
                        return said;
                    }
                }
            }
            Step::Until(kind) => said.extend(wire.until(*kind)),
            // No message has this type.
            Step::Closed => said.extend(wire.until(0)),
        }
    }
    said
}

/// PostgreSQL's words for a message that is cut short or has bytes left over.
const MALFORMED: [&str; 4] = [
    "insufficient data left in message",
    "no data left in message",
    "invalid string in message",
    "invalid message format",
];

/// As they are compared.
fn masked(said: &[Message], mask_source: bool) -> Vec<String> {
    said.iter()
        .map(|m| {
            let mut m = m.clone();
            match m.kind {
                b'E' | b'N' => {
                    let mut body = Vec::new();
                    for (code, text) in raw::fields(&m.body) {
                        // A malformed message is refused by pgherd before a server sees it: the code is the promise, not the words.
                        let malformed = code == b'M' && MALFORMED.contains(&text.as_str());
                        let text = if malformed { "malformed".into() } else { text };
                        // The number is of the server's process.
                        let temporary = code == b's' && text.starts_with("pg_temp_");
                        let text = if temporary { "pg_temp".into() } else { text };
                        // Where pgherd's own words stand for a server's, and what a server says of where it was.
                        if !(mask_source && matches!(code, b'F' | b'L' | b'R')) {
                            body.push(code);
                            body.extend(text.bytes());
                            body.push(0);
                        }
                    }
                    m.body = body;
                }
                b'T' => mask_tables(&mut m.body),
                b'A' => m.body[..4].fill(0),
                b'K' => m.body = b"key".to_vec(),
                _ => {}
            }
            raw::line(&m)
        })
        .collect()
}

fn mask_tables(body: &mut [u8]) {
    let mut at = 2;
    while let Some(name) = body.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0)) {
        let oid = at + name + 1;
        if let Some(oid) = body.get_mut(oid..oid + 4) {
            oid.fill(0);
        }
        at = oid + 18;
    }
}

/// Errors that pgherd words itself name no place in PostgreSQL's source; then the server's does not count either.
fn source_unknown(said: &[Message]) -> bool {
    said.iter().any(|m| m.kind == b'E' && !raw::fields(&m.body).iter().any(|(c, _)| *c == b'F'))
        || said.iter().any(|m| m.kind == b'N' && !raw::fields(&m.body).iter().any(|(c, _)| *c == b'F'))
}

impl Stage {
    pub fn direct(&self) -> Wire {
        let mut wire = self.direct_socket();
        wire.start("app", "direct", &[]);
        wire
    }

    pub fn direct_socket(&self) -> Wire {
        let path: PathBuf = self.herd.folder().join(format!(".s.PGSQL.{}", self.herd.port(PLAIN)));
        Wire::unix(&path)
    }

    /// Plays every script on a connection of its own, directly and through pgherd's `database`; a plain one also with a server
    /// whose messages come one by one. All differences at once.
    pub fn compare(&self, database: &str, scripts: Vec<Script>) {
        let mut differences = String::new();
        let ways: &[&str] = if database == "plain" { &["plain", DRIPPING] } else { &[database] };
        for Script { why, steps } in &scripts {
            // Shown when the test fails.
            println!("{why}");
            let said = play(&mut self.direct(), steps);
            for way in ways {
                let got = play(&mut self.endpoint.login(way), steps);
                let mask_source = source_unknown(&got);
                let (expected, got) = (masked(&said, mask_source), masked(&got, mask_source));
                let listed = DIFFERENT.iter().find(|(d, w, _)| *d == database && w == why);
                if let Some((_, _, reason)) = listed {
                    // What may differ from run to run (which statements a server has) is not held against the list.
                    let how = if expected == got {
                        "AGREES".into()
                    } else {
                        format!("differs\n{}", beside(&expected, &got))
                    };
                    println!("  listed \"{why}\" ({way}): {reason}; {how}");
                } else if expected != got {
                    differences += &format!("\n== {why} ({way})\n{}", beside(&expected, &got));
                }
            }
        }
        assert!(
            differences.is_empty(),
            "PostgreSQL (-) and pgherd (+) differ on \"{database}\":{differences}\n-- the end of pgherd's log:\n{}",
            tail(&self.endpoint.log())
        );
        assert!(!self.endpoint.log().contains("panicked"), "{}", self.endpoint.log());
    }

    /// Runs the same SQL on the direct server and through pgherd, before scripts.
    pub fn prepare(&self, database: &str, sql: &[&str]) {
        let mut wires = vec![self.direct(), self.endpoint.login(database)];
        if database == "plain" {
            wires.push(self.endpoint.login(DRIPPING));
        }
        for sql in sql {
            for wire in &mut wires {
                wire.run(sql);
            }
        }
    }
}

fn beside(expected: &[String], got: &[String]) -> String {
    let same_start = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    for line in &expected[same_start.saturating_sub(3)..same_start] {
        text += &format!("      {line}\n");
    }
    let shown = |side: &[String], sign: char| {
        side.iter().skip(same_start).take(8).map(|l| format!("    {sign} {l}\n")).collect::<String>()
    };
    text + &shown(expected, '-') + &shown(got, '+')
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}

#[test]
fn each_of_the_thirty_items_above_has_a_test_that_exists() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    let mut folders = vec![folder.join("tests"), folder.join("../pool/tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of tests").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.extension().is_some_and(|extension| extension == "rs") => {
                    tests += &std::fs::read_to_string(path).expect("a file of tests");
                }
                _ => {}
            }
        }
    }
    let header: Vec<&str> =
        include_str!("protocol.rs").lines().take_while(|line| line.starts_with("//!")).collect();
    let items = header.iter().filter(|line| {
        let number = line.trim_start_matches("//! ").split_once(". ").map(|(number, _)| number);
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    assert_eq!(items.count(), 30);
    let header = header.join("\n");
    let names: Vec<&str> = header.split('`').skip(1).step_by(2).filter(|name| !name.contains("::")).collect();
    let named: Vec<&&str> = names.iter().filter(|name| name.contains('_')).collect();
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
