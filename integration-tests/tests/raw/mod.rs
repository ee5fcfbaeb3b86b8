//! A client of few words: frontend messages as bytes, backend messages as they come.
//!
//! Invariant: nothing here interprets the protocol beyond frames; what a message means is the test's to say.
//!
//! Start reading at [`Wire`].

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{Herd, leashed};

/// Longer than any answer takes on a busy machine; a hang shows after this.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One backend message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub body: Vec<u8>,
}

/// What came, or why nothing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Message(Message),
    Closed,
    Silence,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection to PostgreSQL or to pgherd.
pub struct Wire {
    socket: Socket,
    bytes: Vec<u8>,
    at: usize,
    /// BackendKeyData's body.
    pub key: Vec<u8>,
}

impl Wire {
    pub fn tcp(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the endpoint accepts");
        socket.set_nodelay(true).expect("nodelay");
        Self { socket: Socket::Tcp(socket), bytes: Vec::new(), at: 0, key: Vec::new() }
    }

    pub fn unix(path: &Path) -> Self {
        let socket = UnixStream::connect(path).expect("the server accepts");
        Self { socket: Socket::Unix(socket), bytes: Vec::new(), at: 0, key: Vec::new() }
    }

    /// Startup, up to the first ReadyForQuery. What was said on the way.
    pub fn start(&mut self, user: &str, database: &str, more: &[(&str, &str)]) -> Vec<Message> {
        self.send(&startup(196_608, user, database, more));
        let said = self.until(b'Z');
        assert_eq!(said.last().map(|m| m.kind), Some(b'Z'), "login to {database}: {}", show(&said));
        if let Some(key) = said.iter().find(|m| m.kind == b'K') {
            self.key = key.body.clone();
        }
        said
    }

    /// What a write says when the peer has closed is not of interest; its last words are.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.try_send(bytes);
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(s) => s.write_all(bytes),
            Socket::Unix(s) => s.write_all(bytes),
        }
    }

    /// The same connection, to be written by another thread.
    pub fn writer(&self) -> TcpStream {
        match &self.socket {
            Socket::Tcp(s) => s.try_clone().expect("a socket can be shared"),
            Socket::Unix(_) => panic!("only TCP connections are shared"),
        }
    }

    pub fn half_close(&mut self) {
        let _ = match &self.socket {
            Socket::Tcp(s) => s.shutdown(Shutdown::Write),
            Socket::Unix(s) => s.shutdown(Shutdown::Write),
        };
    }

    /// Reads some bytes as they are: `None` when nothing came in time, empty at the end.
    pub fn read_some(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let mut block = vec![0; 64 * 1024];
        let patience = Some(patience.max(Duration::from_millis(1)));
        let result = match &mut self.socket {
            Socket::Tcp(s) => s.set_read_timeout(patience).and_then(|()| s.read(&mut block)),
            Socket::Unix(s) => s.set_read_timeout(patience).and_then(|()| s.read(&mut block)),
        };
        match result {
            Ok(n) => {
                block.truncate(n);
                Some(block)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
            Err(_) => Some(Vec::new()),
        }
    }

    pub fn hear(&mut self, patience: Duration) -> Heard {
        let deadline = Instant::now() + patience;
        loop {
            let rest = &self.bytes[self.at..];
            if let Some(&[kind, a, b, c, d]) = rest.first_chunk::<5>() {
                let total = u32::from_be_bytes([a, b, c, d]) as usize + 1;
                if rest.len() >= total {
                    let body = rest[5..total].to_vec();
                    self.at += total;
                    if self.at == self.bytes.len() {
                        self.bytes.clear();
                        self.at = 0;
                    }
                    return Heard::Message(Message { kind, body });
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Silence;
            }
            match self.read_some(left) {
                None => return Heard::Silence,
                Some(bytes) if bytes.is_empty() => return Heard::Closed,
                Some(bytes) => self.bytes.extend_from_slice(&bytes),
            }
        }
    }

    /// Everything up to and with the first message of `kind`, or to the end, or until patience ends.
    pub fn until(&mut self, kind: u8) -> Vec<Message> {
        let mut said = Vec::new();
        loop {
            match self.hear(PATIENCE) {
                Heard::Message(message) => {
                    let last = message.kind == kind;
                    said.push(message);
                    if last {
                        return said;
                    }
                }
                Heard::Closed => {
                    said.push(Message { kind: b'!', body: b"closed".to_vec() });
                    return said;
                }
                Heard::Silence => {
                    said.push(Message { kind: b'!', body: b"silence".to_vec() });
                    return said;
                }
            }
        }
    }

    /// A query and everything up to its ReadyForQuery.
    pub fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send(&query(sql));
        self.until(b'Z')
    }

    /// The first column of the first row; `Err`: the SQLSTATE and message of the error.
    pub fn value(&mut self, sql: &str) -> Result<String, String> {
        let said = self.query(sql);
        value_of(&said)
    }

    pub fn run(&mut self, sql: &str) {
        let said = self.query(sql);
        assert!(
            error_of(&said).is_none() && said.last().is_some_and(|m| m.kind == b'Z'),
            "{sql}: {}",
            show(&said)
        );
    }
}

/// `Err` also for an answer without a row.
pub fn value_of(said: &[Message]) -> Result<String, String> {
    if let Some(error) = error_of(said) {
        return Err(error);
    }
    match said.iter().find(|m| m.kind == b'D') {
        Some(row) => Ok(columns(&row.body).into_iter().next().flatten().unwrap_or_default()),
        None => Err(format!("no row: {}", show(said))),
    }
}

/// SQLSTATE and message of the first error, also of a connection that ended.
pub fn error_of(said: &[Message]) -> Option<String> {
    let error = said.iter().find(|m| m.kind == b'E' || m.kind == b'!')?;
    if error.kind == b'!' {
        return Some(String::from_utf8_lossy(&error.body).into_owned());
    }
    let field =
        |code| fields(&error.body).into_iter().find(|(c, _)| *c == code).map(|(_, t)| t).unwrap_or_default();
    Some(format!("{} {}", field(b'C'), field(b'M')))
}

/// The fields of an ErrorResponse or NoticeResponse.
pub fn fields(body: &[u8]) -> Vec<(u8, String)> {
    body.split(|&b| b == 0)
        .filter_map(|f| f.split_first())
        .map(|(code, text)| (*code, String::from_utf8_lossy(text).into_owned()))
        .collect()
}

pub fn columns(body: &[u8]) -> Vec<Option<String>> {
    let mut at = 2;
    let mut found = Vec::new();
    while let Some(length) = body.get(at..at + 4) {
        let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
        at += 4;
        if length < 0 {
            found.push(None);
            continue;
        }
        let value = body.get(at..at + length as usize).unwrap_or_default();
        found.push(Some(String::from_utf8_lossy(value).into_owned()));
        at += length as usize;
    }
    found
}

/// For people, and for comparing: one line for each message.
pub fn line(message: &Message) -> String {
    let kind = message.kind as char;
    match message.kind {
        b'E' | b'N' => {
            let fields = fields(&message.body);
            let texts: Vec<_> = fields.iter().map(|(c, t)| format!("{}={t}", *c as char)).collect();
            format!("{kind} {}", texts.join(" | "))
        }
        b'D' => {
            let shown = |v: &Option<String>| match v {
                Some(v) if v.len() > 200 => format!("({} bytes)", v.len()),
                Some(v) => v.as_bytes().escape_ascii().to_string(),
                None => "NULL".into(),
            };
            format!("D {}", columns(&message.body).iter().map(shown).collect::<Vec<_>>().join(","))
        }
        _ => format!("{kind} {}", message.body.escape_ascii()),
    }
}

pub fn show(messages: &[Message]) -> String {
    messages.iter().map(|m| format!("\n    {}", line(m))).collect()
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn cstr(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

pub fn any(kind: u8, body: &[u8]) -> Vec<u8> {
    frame(kind, body)
}

pub fn startup(version: u32, user: &str, database: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in [("user", user), ("database", database)].iter().chain(more) {
        body.extend(cstr(name));
        body.extend(cstr(value));
    }
    body.push(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    let mut packet = (key.len() as u32 + 8).to_be_bytes().to_vec();
    packet.extend_from_slice(&80_877_102u32.to_be_bytes());
    packet.extend_from_slice(key);
    packet
}

pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &cstr(sql))
}

pub fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [cstr(name), cstr(sql)].concat();
    body.extend_from_slice(&(types.len() as u16).to_be_bytes());
    types.iter().for_each(|t| body.extend_from_slice(&t.to_be_bytes()));
    frame(b'P', &body)
}

/// Text in, text out.
pub fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut body = [cstr(portal), cstr(statement)].concat();
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'B', &body)
}

pub fn describe_statement(name: &str) -> Vec<u8> {
    frame(b'D', &[b"S", &cstr(name)[..]].concat())
}

pub fn describe_portal(name: &str) -> Vec<u8> {
    frame(b'D', &[b"P", &cstr(name)[..]].concat())
}

pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    frame(b'E', &[cstr(portal), rows.to_be_bytes().to_vec()].concat())
}

pub fn close_statement(name: &str) -> Vec<u8> {
    frame(b'C', &[b"S", &cstr(name)[..]].concat())
}

pub fn close_portal(name: &str) -> Vec<u8> {
    frame(b'C', &[b"P", &cstr(name)[..]].concat())
}

pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

pub fn flush() -> Vec<u8> {
    frame(b'H', b"")
}

pub fn copy_data(data: &str) -> Vec<u8> {
    frame(b'd', data.as_bytes())
}

pub fn copy_done() -> Vec<u8> {
    frame(b'c', b"")
}

pub fn copy_fail(why: &str) -> Vec<u8> {
    frame(b'f', &cstr(why))
}

pub fn terminate() -> Vec<u8> {
    frame(b'X', b"")
}

/// FunctionCall with text arguments and a text result.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&(arguments.len() as u16).to_be_bytes());
    for argument in arguments {
        body.extend_from_slice(&(argument.len() as u32).to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'F', &body)
}

/// The program, built as this test was.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own file");
        let debug = test.parent().and_then(Path::parent).expect("target/debug/deps/test");
        let target = debug.parent().expect("target/debug");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--package", "pgherd", "--bin", "pgherd", "--target-dir"])
            .arg(target);
        if debug.file_name().is_some_and(|name| name == "release") {
            cargo.arg("--release");
        }
        // What cargo told this test of itself is not true for the program. Build scripts read it (ring's does): left here, half of the
        // dependencies would be built again, and once more when cargo is called without it.
        for (name, _) in std::env::vars_os() {
            let of_this_test = ["CARGO_PKG_", "CARGO_MANIFEST_"];
            if of_this_test.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                cargo.env_remove(name);
            }
        }
        assert!(cargo.status().expect("cargo runs").success(), "pgherd is built");
        debug.join("pgherd")
    })
}

/// A port that was free a moment ago, below Linux's range for outgoing connections.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(12_000..20_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// pgherd as a process of its own; it ends with this value and with the test.
pub struct Endpoint {
    process: Child,
    pub port: u16,
    log: PathBuf,
}

impl Endpoint {
    /// Serves `configuration` (which listens on `port`).
    pub fn start(herd: &Herd, port: u16, configuration: &str) -> Self {
        Self::start_with(herd, port, configuration, "", &[], &[])
    }

    /// `name`: of a second one on the same port.
    pub fn start_with(
        herd: &Herd,
        port: u16,
        configuration: &str,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let folder = herd.folder();
        let file = folder.join(format!("pgherd-{port}{name}.toml"));
        let log = folder.join(format!("pgherd-{port}{name}.log"));
        std::fs::write(&file, configuration).expect("the herd's folder can be written");
        let output = File::create(&log).expect("the herd's folder can be written");
        let mut command = leashed("KILL", program());
        command.arg("serve").arg(&file).args(arguments).envs(herd.env()).envs(environment.iter().copied());
        command.stdout(output.try_clone().expect("a file can be shared")).stderr(output);
        let process = herd.keeper().spawn(command).expect("pgherd starts");
        let mut endpoint = Self { process, port, log };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !endpoint.log().contains(" serving ") || TcpStream::connect(("127.0.0.1", port)).is_err() {
            endpoint.assert_well();
            assert!(Instant::now() < deadline, "pgherd does not listen:\n{}", endpoint.log());
            thread::sleep(Duration::from_millis(20));
        }
        endpoint
    }

    pub fn login(&self, database: &str) -> Wire {
        let mut wire = Wire::tcp(self.port);
        wire.start("app", database, &[]);
        wire
    }

    pub fn cancel(&self, key: &[u8]) {
        let mut wire = Wire::tcp(self.port);
        wire.send(&cancel_request(key));
        let _ = wire.hear(PATIENCE);
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// It runs, and never panicked.
    pub fn assert_well(&mut self) {
        let ended = self.process.try_wait().expect("pgherd is our child");
        let log = self.log();
        assert!(ended.is_none(), "pgherd ended ({ended:?}):\n{log}");
        assert!(!log.contains("panicked"), "pgherd panicked:\n{log}");
    }

    /// By its name, as `kill` knows it: "TERM".
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} is sent");
    }

    /// Whether it ends by itself in this time, and how.
    pub fn ends_within(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.process.try_wait().expect("pgherd is our child") {
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                ended => return ended,
            }
        }
    }

    /// Another configuration stands in its file.
    pub fn configure(&self, configuration: &str) {
        std::fs::write(self.log.with_extension("toml"), configuration).expect("the file can be written");
    }

    pub fn limit_open_files(&self, limit: usize) {
        let pid = self.process.id().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).status();
        assert!(set.is_ok_and(|status| status.success()), "prlimit");
    }

    /// `setpriv` becomes pgherd: the same process.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).map(Iterator::count).unwrap_or(0)
    }

    /// Resident memory now.
    pub fn resident_bytes(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A random sequence from a seed that can be printed and given again.
pub struct Dice(u64);

impl Dice {
    /// `PGHERD_SEED`, else another one each time. Printed: a failing test shows it.
    pub fn new(what: &str) -> Self {
        let seed =
            std::env::var("PGHERD_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
        println!("{what}: PGHERD_SEED={seed}");
        Self(seed)
    }

    pub fn child(&mut self, n: u64) -> Self {
        Self(self.next() ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// splitmix64
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}
