//! Peers that break the protocol: clients before and after login, and a server that lies.
//!
//! Invariant, in every test: whoever breaks the protocol gets an error or a closed connection in time; pgherd neither
//! panics nor leaks; a client beside it, on the same pgherd, never notices.
//!
//! Not here: what well-behaved clients may expect (`protocol`).
//!
//! Start reading at [`Stage::watch`].

mod raw;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{Herd, HerdOptions};
use raw::*;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything ends within this: the timeouts of the configuration, and a busy machine.
const WITHIN: Duration = Duration::from_secs(8);

/// Growth that is no leak: blocks and buffers that are kept for the next client.
const GROWTH_MAX: usize = 48 << 20;

struct Stage {
    _herd: Herd,
    endpoint: Endpoint,
}

impl Stage {
    /// pgherd over one good server ("good") and, for "fake", whatever listens on `fake`.
    fn new(method: &str, fake: u16) -> Self {
        let herd = Herd::start(1, HerdOptions::default()).expect("a PostgreSQL server");
        let port = free_port();
        let configuration = format!(
            r#"
[server]
listen = ["127.0.0.1:{port}"]
workers = 2
login_timeout = "2s"

[auth]
method = "{method}"

[[users]]
name = "app"
password = "env:APP_PASSWORD"

[pool]
size = 4
checkout_timeout = "2s"
connect_timeout = "1s"

[[databases.good.shards]]
name = "s0"
primary = "{}"

[[databases.control.shards]]
name = "s0"
primary = "{}"

[[databases.fake.shards]]
name = "s0"
primary = "postgres://127.0.0.1:{fake}/fake"
"#,
            herd.address(0),
            herd.address(0)
        );
        let endpoint = Endpoint::start(&herd, port, &configuration);
        Self { _herd: herd, endpoint }
    }

    /// Runs `attack` while a control client runs SELECTs; then nothing may be left of it.
    fn watch(&mut self, attack: impl FnOnce(&Endpoint)) {
        // Logs in once, so that what is kept for good is there before it is measured.
        self.endpoint.login("good").run("SELECT 1");
        thread::sleep(Duration::from_millis(200));
        let (files, bytes) = (self.endpoint.open_files(), self.endpoint.resident_bytes());
        let stop = AtomicBool::new(false);
        let served = AtomicUsize::new(0);
        let endpoint = &self.endpoint;
        thread::scope(|scope| {
            scope.spawn(|| {
                // A pool of its own: waiting behind the others would be no harm, only a queue.
                let mut wire = endpoint.login("control");
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let answer = wire.value("SELECT 'control'");
                    assert_eq!(answer.as_deref(), Ok("control"), "the control client was harmed");
                    assert!(
                        begun.elapsed() < Duration::from_secs(4),
                        "the control client waited {:?}",
                        begun.elapsed()
                    );
                    served.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            struct Stop<'a>(&'a AtomicBool);
            impl Drop for Stop<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
            let _stop = Stop(&stop);
            attack(endpoint);
            let deadline = Instant::now() + WITHIN;
            while served.load(Ordering::Relaxed) < 20 {
                assert!(Instant::now() < deadline, "the control client was starved");
                thread::sleep(Duration::from_millis(5));
            }
        });
        let deadline = Instant::now() + WITHIN;
        // Servers of the pool may stay open.
        while self.endpoint.open_files() > files + 8 {
            assert!(
                Instant::now() < deadline,
                "open files: {files} before, {} after",
                self.endpoint.open_files()
            );
            thread::sleep(Duration::from_millis(100));
        }
        let after = self.endpoint.resident_bytes();
        assert!(after < bytes + GROWTH_MAX, "resident: {bytes} before, {after} after");
        self.endpoint.assert_well();
    }
}

/// Reads until the connection closes or `patience` ends; whether it closed.
fn closes(wire: &mut Wire, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while let Some(bytes) = wire.read_some(deadline.saturating_duration_since(Instant::now())) {
        if bytes.is_empty() {
            return true;
        }
    }
    false
}

/// What an honest client sends after login: every kind of message.
fn honest() -> Vec<Vec<u8>> {
    vec![
        query("SELECT 1"),
        query("BEGIN; SELECT 2; ROLLBACK"),
        parse("", "SELECT $1::int", &[23]),
        bind("", "", &["5"]),
        describe_statement(""),
        describe_portal(""),
        execute("", 0),
        sync(),
        parse("named", "SELECT $1::text", &[]),
        bind("p", "named", &["x"]),
        execute("p", 1),
        close_portal("p"),
        close_statement("named"),
        flush(),
        sync(),
        query("SET application_name TO 'fuzz'"),
        query("COPY (SELECT 1) TO STDOUT"),
        query("CREATE TEMP TABLE IF NOT EXISTS f (a int); COPY f FROM STDIN"),
        copy_data("1\n"),
        copy_done(),
        copy_fail("why"),
        function_call(177, &["1", "2"]),
        query("DISCARD ALL"),
    ]
}

/// A change that a broken or malicious client might make.
fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    match dice.below(7) {
        0 => {
            let at = dice.below(bytes.len());
            bytes[at] = dice.next() as u8;
        }
        1 => {
            let at = dice.below(bytes.len());
            bytes.truncate(at);
        }
        2 => {
            let at = dice.below(bytes.len());
            let n = 1 + dice.below(9);
            let noise = dice.bytes(n);
            bytes.splice(at..at, noise);
        }
        3 if bytes.len() >= 5 => {
            const LENGTHS: [u32; 9] =
                [0, 3, 4, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x3fff_ffff, 70_000];
            bytes[1..5].copy_from_slice(&LENGTHS[dice.below(LENGTHS.len())].to_be_bytes());
        }
        4 => bytes[0] = dice.next() as u8,
        5 => bytes.retain(|&b| b != 0),
        _ => {
            let half = bytes[bytes.len() / 2..].to_vec();
            bytes.extend(half);
        }
    }
}

fn before_login(endpoint: &Endpoint, dice: &mut Dice, rounds: usize) {
    let mut open = Vec::new();
    for _ in 0..rounds {
        let mut wire = Wire::tcp(endpoint.port);
        let mut bytes = match dice.below(4) {
            0 => {
                let n = dice.below(300);
                dice.bytes(n)
            }
            1 => cancel_request(&dice.bytes(8)),
            2 => [&8u32.to_be_bytes()[..], &80_877_103u32.to_be_bytes()].concat(),
            _ => startup(196_608, "app", "good", &[("application_name", "fuzz"), ("options", "-c geqo=off")]),
        };
        for _ in 0..dice.below(4) {
            mutate(dice, &mut bytes);
        }
        wire.send(&bytes);
        match dice.below(4) {
            // Goes at once, or stays and says nothing.
            0 => {}
            1 => open.push(wire),
            2 => {
                wire.half_close();
                open.push(wire);
            }
            _ => {
                let n = dice.below(200);
                wire.send(&dice.bytes(n));
                open.push(wire);
            }
        }
    }
    // "login_timeout" is 2 s. Who got through to a session may stay: those are dropped.
    thread::sleep(Duration::from_secs(3));
}

fn after_login(endpoint: &Endpoint, dice: &mut Dice, rounds: usize) {
    for _ in 0..rounds {
        let mut wire = endpoint.login("good");
        let mut script = honest();
        for _ in 0..1 + dice.below(3) {
            let n = dice.below(script.len());
            match dice.below(4) {
                0 => {
                    let m = dice.below(script.len());
                    script.swap(n, m);
                }
                1 => {
                    script.remove(n);
                }
                _ => mutate(dice, &mut script[n]),
            }
            if script.is_empty() {
                break;
            }
        }
        wire.send(&script.concat());
        match dice.below(3) {
            0 => {}
            1 => {
                wire.half_close();
                let sent: String = script.iter().map(|m| format!("\n    {}", m.escape_ascii())).collect();
                let begun = Instant::now();
                let said = wire.until(0);
                assert!(
                    said.last().is_some_and(|m| m.body == b"closed") && begun.elapsed() < WITHIN,
                    "a half-closed connection stays open after:{sent}\n  it heard:{}",
                    show(&said)
                );
            }
            _ => {
                let patience = Duration::from_millis(dice.below(60) as u64);
                closes(&mut wire, patience);
            }
        }
    }
}

#[test]
fn noise_before_login_harms_nobody() {
    let mut stage = Stage::new("trust", 1);
    let mut dice = Dice::new("before login");
    stage.watch(|endpoint| before_login(endpoint, &mut dice, 400));
}

#[test]
fn noise_after_login_harms_nobody() {
    let mut stage = Stage::new("trust", 1);
    let mut dice = Dice::new("after login");
    stage.watch(|endpoint| after_login(endpoint, &mut dice, 400));
}

#[test]
fn a_connection_cut_at_any_byte_harms_nobody() {
    let mut stage = Stage::new("trust", 1);
    stage.watch(|endpoint| {
        let all = [startup(196_608, "app", "good", &[]), honest().concat()].concat();
        for end in (0..all.len()).step_by(2) {
            let mut wire = Wire::tcp(endpoint.port);
            wire.send(&all[..end]);
        }
    });
}

#[test]
fn a_length_of_a_gigabyte_allocates_nothing_by_itself() {
    let mut stage = Stage::new("trust", 1);
    stage.watch(|endpoint| {
        let before = endpoint.resident_bytes();
        let mut wires: Vec<Wire> = (0..200).map(|_| endpoint.login("good")).collect();
        for wire in &mut wires {
            wire.send(b"Q\x3f\xff\xff\xffSELECT");
        }
        thread::sleep(Duration::from_millis(500));
        let after = endpoint.resident_bytes();
        assert!(
            after < before + GROWTH_MAX,
            "{before} -> {after} bytes resident for lengths that were only announced"
        );
    });
}

// ---- a server that lies ----------------------------------------------------------------------------------------

/// What a scripted server does with a connection, after the startup packet.
type Behaviour = Arc<dyn Fn(&mut TcpStream) + Send + Sync>;

/// A server that does what the test wants. Cancel requests are read and forgotten.
struct FakeServer {
    port: u16,
    behaviour: Arc<Mutex<Behaviour>>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    connections: Arc<AtomicUsize>,
}

impl FakeServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(Arc::new(|_| {})));
        let connections = Arc::new(AtomicUsize::new(0));
        let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (shared, count, open) = (behaviour.clone(), connections.clone(), sockets.clone());
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let behaviour = shared.lock().expect("no test panics with it").clone();
                count.fetch_add(1, Ordering::Relaxed);
                open.lock().expect("no test panics with it").extend(socket.try_clone());
                thread::spawn(move || {
                    let mut socket = socket;
                    let _ = socket.set_read_timeout(Some(Duration::from_secs(20)));
                    let _ = socket.set_nodelay(true);
                    let Some(packet) = read_startup(&mut socket) else { return };
                    if packet.get(..4) != Some(&80_877_102u32.to_be_bytes()) {
                        behaviour(&mut socket);
                        let _ = socket.shutdown(std::net::Shutdown::Both);
                    }
                });
            }
        });
        Self { port, behaviour, sockets, connections }
    }

    fn behave(&self, behaviour: impl Fn(&mut TcpStream) + Send + Sync + 'static) {
        *self.behaviour.lock().expect("no test panics with it") = Arc::new(behaviour);
        // Connections of the behaviour before must not answer for this one.
        for socket in self.sockets.lock().expect("no test panics with it").drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A request for TLS is answered with "no", honestly.
fn read_startup(socket: &mut TcpStream) -> Option<Vec<u8>> {
    loop {
        let mut length = [0; 4];
        socket.read_exact(&mut length).ok()?;
        let mut packet = vec![0; (u32::from_be_bytes(length) as usize).checked_sub(4)?.min(10_000)];
        socket.read_exact(&mut packet).ok()?;
        if packet != 80_877_103u32.to_be_bytes() {
            return Some(packet);
        }
        socket.write_all(b"N").ok()?;
    }
}

/// The next message of pgherd's.
fn read_message(socket: &mut TcpStream) -> Option<Message> {
    let mut head = [0; 5];
    socket.read_exact(&mut head).ok()?;
    let mut body =
        vec![0; (u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize).checked_sub(4)?];
    socket.read_exact(&mut body).ok()?;
    Some(Message { kind: head[0], body })
}

/// From AuthenticationOk to the first ReadyForQuery.
fn welcome() -> Vec<u8> {
    [
        any(b'R', &[0, 0, 0, 0]),
        any(b'S', b"server_version\x0015.0\0"),
        any(b'S', b"client_encoding\0UTF8\0"),
        any(b'K', &[0, 0, 0, 9, 1, 2, 3, 4]),
        any(b'Z', b"I"),
    ]
    .concat()
}

/// One row of one text column.
fn answer() -> Vec<u8> {
    [
        any(b'T', b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
        any(b'D', b"\0\x01\0\0\0\x04fine"),
        any(b'C', b"SELECT 1\0"),
        any(b'Z', b"I"),
    ]
    .concat()
}

/// Serves each Query with `reply`, for ever; pgherd's own (settings, ROLLBACK) as well.
fn serve(socket: &mut TcpStream, reply: &[u8]) {
    let _ = socket.write_all(&welcome());
    while let Some(message) = read_message(socket) {
        if message.kind == b'Q' && socket.write_all(reply).is_err() {
            return;
        }
        if message.kind == b'X' {
            return;
        }
    }
}

/// A query through the fake server: in time, one error at most, then ReadyForQuery or the end. What was said.
fn ask_in_time(endpoint: &Endpoint, why: &str) -> Vec<Message> {
    let begun = Instant::now();
    let mut wire = Wire::tcp(endpoint.port);
    wire.send(&startup(196_608, "app", "fake", &[]));
    let mut said = wire.until(b'Z');
    if said.last().is_some_and(|m| m.kind == b'Z') {
        wire.send(&query("SELECT 'x'"));
        said = wire.until(b'Z');
    }
    assert!(begun.elapsed() < WITHIN, "{why}: took {:?}: {}", begun.elapsed(), show(&said));
    let errors: Vec<_> = said.iter().filter(|m| m.kind == b'E').collect();
    assert!(errors.len() <= 1, "{why}: more than one error: {}", show(&said));
    let last = said.last().expect("at least one message");
    assert!(last.kind == b'Z' || last.body == b"closed", "{why}: no end: {}", show(&said));
    if last.kind == b'!' {
        // A broken frame cannot be mended: then the connection closes without a word, else with one.
        assert!(errors.len() == 1 || said.len() > 1 || !said.is_empty(), "{why}: {}", show(&said));
    }
    for error in errors {
        let text = error_of(std::slice::from_ref(error)).unwrap_or_default();
        // What a server leaves out cannot be made up.
        assert!(
            why.contains("ErrorResponse")
                || why.contains("an error of nothing")
                || text.len() > 7 && !text.starts_with("XX000"),
            "{why}: a clear error, not {text:?}"
        );
        assert!(!text.contains("127.0.0.1"), "{why}: an address reached the client: {text}");
    }
    said
}

#[test]
fn a_server_that_lies_at_login_or_in_a_reply_harms_only_who_asked_it() {
    let fake = FakeServer::start();
    let mut stage = Stage::new("trust", fake.port);
    stage.watch(|endpoint| {
        // Known good first: what it reports is learned.
        fake.behave(|s| serve(s, &answer()));
        assert_eq!(value_of(&ask_in_time(endpoint, "good")).as_deref(), Ok("fine"));

        let row = || any(b'D', b"\0\x01\0\0\0\x04fine");
        let head = || any(b'T', b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        let done = || [any(b'C', b"SELECT 1\0"), any(b'Z', b"I")].concat();
        let replies: Vec<(&str, Vec<u8>)> = vec![
            ("garbage", b"\x01\x02\x03garbage garbage garbage".to_vec()),
            (
                "garbage in mid-result",
                [head(), row(), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()].concat(),
            ),
            ("a length under four", [head(), b"D\0\0\0\x01".to_vec()].concat()),
            ("a negative length", [head(), b"D\x80\0\0\0".to_vec()].concat()),
            ("an error with a huge length", b"E\x3f\xff\xff\xff".to_vec()),
            (
                "a ReadyForQuery without a status",
                [head(), row(), any(b'C', b"SELECT 1\0"), any(b'Z', b"")].concat(),
            ),
            (
                "a ReadyForQuery with a status that does not exist",
                [any(b'C', b"SELECT 1\0"), any(b'Z', b"Q")].concat(),
            ),
            ("two ReadyForQuery", [head(), row(), done(), any(b'Z', b"I")].concat()),
            (
                "an answer to a question that nobody asked",
                [head(), row(), done(), head(), row(), done()].concat(),
            ),
            ("a login message in mid-session", any(b'R', &[0, 0, 0, 0])),
            ("CopyBothResponse", any(b'W', b"\0\0\0")),
            ("ParseComplete in reply to a Query", any(b'1', b"")),
            ("an ErrorResponse without fields", [any(b'E', b"\0"), any(b'Z', b"I")].concat()),
            ("an ErrorResponse without its end", [any(b'E', b"SERROR"), any(b'Z', b"I")].concat()),
            ("a ParameterStatus without its NUL", [any(b'S', b"x"), head(), row(), done()].concat()),
            ("an empty ParameterStatus", [any(b'S', b""), head(), row(), done()].concat()),
            ("a NoticeResponse of nothing", [any(b'N', b""), head(), row(), done()].concat()),
            ("a NotificationResponse of nothing", [any(b'A', b""), head(), row(), done()].concat()),
            ("a RowDescription that lies", [any(b'T', b"\x7f\xffx"), row(), done()].concat()),
            ("a transaction that nobody began", [any(b'C', b"SELECT 1\0"), any(b'Z', b"T")].concat()),
            ("FATAL, then nothing", any(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgoing down\0\0")),
            ("COPY in reply to SELECT, and silence", any(b'G', b"\0\0\0")),
            (
                "rows without end of a single frame",
                b"D\x3f\xff\xff\xff\0\x01\x3f\xff\xff\xf7xxxxxxxx".to_vec(),
            ),
        ];
        for (why, reply) in replies {
            // Closes behind its lie, or stays.
            for stays in [false, true] {
                let silent = stays
                    && matches!(
                        why,
                        "an error with a huge length"
                            | "FATAL, then nothing"
                            | "COPY in reply to SELECT, and silence"
                            | "rows without end of a single frame"
                            | "garbage"
                    );
                if silent {
                    // An honest server may be as silent for hours: the client's own timeouts decide.
                    continue;
                }
                let reply = reply.clone();
                fake.behave(move |s| {
                    if stays {
                        return serve(s, &reply);
                    }
                    let _ = s.write_all(&welcome());
                    while let Some(message) = read_message(s) {
                        if message.kind == b'Q' {
                            let _ = s.write_all(&reply);
                            return;
                        }
                    }
                });
                for _ in 0..2 {
                    ask_in_time(endpoint, why);
                }
            }
        }

        let logins: Vec<(&str, Vec<u8>)> = vec![
            ("login: garbage", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            ("login: nothing", Vec::new()),
            ("login: a huge message", b"R\x3f\xff\xff\xff".to_vec()),
            ("login: Ok, then a transaction", [any(b'R', &[0, 0, 0, 0]), any(b'Z', b"T")].concat()),
            ("login: ready without Ok", any(b'Z', b"I")),
            ("login: more behind ReadyForQuery", [welcome(), answer()].concat()),
            ("login: a method that does not exist", any(b'R', &[0, 0, 0, 99])),
            ("login: SCRAM with no mechanism", any(b'R', &[0, 0, 0, 10, 0])),
            ("login: SCRAM continued at once", any(b'R', b"\0\0\0\x0br=x,s=x,i=1")),
            ("login: refused", any(b'E', b"SFATAL\0C28P01\0Mpassword authentication failed\0\0")),
            ("login: an error of nothing", any(b'E', b"")),
            ("login: notices without end", any(b'N', &[b'M'; 60_000]).repeat(40)),
        ];
        for (why, reply) in logins {
            for stays in [false, true] {
                let reply = reply.clone();
                fake.behave(move |s| {
                    let _ = s.write_all(&reply);
                    if stays {
                        while read_message(s).is_some() {}
                    }
                });
                let said = ask_in_time(endpoint, why);
                assert!(error_of(&said).is_some(), "{why}: {}", show(&said));
            }
        }

        // Well again: the next client is served.
        fake.behave(|s| serve(s, &answer()));
        let deadline = Instant::now() + WITHIN;
        while value_of(&ask_in_time(endpoint, "well again")).as_deref() != Ok("fine") {
            assert!(Instant::now() < deadline, "the pool does not recover");
        }
    });
}

#[test]
fn a_server_that_closes_at_any_byte_gives_exactly_one_error() {
    let fake = FakeServer::start();
    let mut stage = Stage::new("trust", fake.port);
    stage.watch(|endpoint| {
        fake.behave(|s| serve(s, &answer()));
        assert_eq!(value_of(&ask_in_time(endpoint, "good")).as_deref(), Ok("fine"));
        let answer = answer();
        for cut in 0..answer.len() {
            let part = answer[..cut].to_vec();
            fake.behave(move |s| {
                let _ = s.write_all(&welcome());
                while let Some(message) = read_message(s) {
                    if message.kind == b'Q' {
                        let _ = s.write_all(&part);
                        return;
                    }
                }
            });
            // Idle connections of the behaviour before may be in the pool: theirs is the first answer.
            for _ in 0..2 {
                let said = ask_in_time(endpoint, &format!("cut at byte {cut}"));
                let errors = said.iter().filter(|m| m.kind == b'E').count();
                let closed = said.last().is_some_and(|m| m.kind == b'!');
                // In the middle of a frame nothing can be said: the connection closes. Else there is one error.
                assert!(errors == 1 || closed, "cut at byte {cut}: {}", show(&said));
            }
        }
        let before = fake.connections.load(Ordering::Relaxed);
        let login = welcome();
        for cut in (0..login.len()).step_by(9) {
            let part = login[..cut].to_vec();
            fake.behave(move |s| {
                let _ = s.write_all(&part);
            });
            let said = ask_in_time(endpoint, &format!("login cut at byte {cut}"));
            assert!(error_of(&said).is_some(), "login cut at byte {cut}: {}", show(&said));
        }
        let attempts = fake.connections.load(Ordering::Relaxed) - before;
        assert!(attempts < 400, "{attempts} attempts to log in: a storm");
    });
}

#[test]
fn a_server_that_never_answers_is_left_within_the_timeouts() {
    let fake = FakeServer::start();
    let mut stage = Stage::new("trust", fake.port);
    stage.watch(|endpoint| {
        fake.behave(|s| while read_message(s).is_some() {});
        let begun = Instant::now();
        let said = ask_in_time(endpoint, "a login that is never answered");
        assert!(error_of(&said).is_some(), "{}", show(&said));
        assert!(
            begun.elapsed() < CONNECT_TIMEOUT + CHECKOUT_TIMEOUT + Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );

        // A query that is never answered: the client may leave or cancel, and the server is not reused.
        // What clients are told at login has to be learned before.
        fake.behave(|s| serve(s, &answer()));
        let deadline = Instant::now() + 2 * WITHIN;
        while value_of(&ask_in_time(endpoint, "good")).as_deref() != Ok("fine") {
            assert!(Instant::now() < deadline, "the pool does not recover");
        }
        fake.behave(|s| serve(s, b""));
        let deadline = Instant::now() + 3 * WITHIN;
        let mut wires = Vec::new();
        while wires.len() < 4 {
            let mut wire = Wire::tcp(endpoint.port);
            wire.send(&startup(196_608, "app", "fake", &[]));
            let said = wire.until(b'Z');
            if said.last().is_some_and(|m| m.kind == b'Z') {
                wire.send(&query("SELECT 'never'"));
                wires.push(wire);
            }
            assert!(Instant::now() < deadline, "no login: {}\n{}", show(&said), endpoint.log());
        }
        thread::sleep(Duration::from_millis(300));
        drop(wires);
        fake.behave(|s| serve(s, &answer()));
        let deadline = Instant::now() + Duration::from_secs(12);
        while value_of(&ask_in_time(endpoint, "after silence")).as_deref() != Ok("fine") {
            assert!(Instant::now() < deadline, "the places of silent servers are not freed");
        }
    });
}

#[test]
#[ignore = "minutes long: make soak"]
fn soak_noise_harms_nobody() {
    let mut stage = Stage::new("trust", 1);
    let mut dice = Dice::new("soak");
    stage.watch(|endpoint| {
        for _ in 0..20 {
            before_login(endpoint, &mut dice, 500);
            after_login(endpoint, &mut dice, 1_500);
        }
    });
}
