//! A client that sees everything a server says: raw messages, by hand, so that no driver smooths anything over.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An answer that takes longer is no answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(6);

trait Socket: Read + Write + Send {}
impl Socket for TcpStream {}
impl Socket for UnixStream {}

pub struct Client {
    socket: Box<dyn Socket>,
    inbox: Vec<u8>,
    read: usize,
    pub status: u8,
    sync_owed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    pub type_size: i16,
    pub modifier: i32,
    pub format: i16,
}

pub type Row = Vec<Option<Vec<u8>>>;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
    pub position: String,
}

/// What one statement was answered with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// Types of the parameters, when they were asked for.
    pub parameters: Option<Vec<u32>>,
    pub columns: Option<Vec<Column>>,
    pub rows: Vec<Row>,
    pub copied: Vec<u8>,
    pub tag: Option<String>,
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    pub parts: Vec<Part>,
    /// Of ReadyForQuery: I, T or E.
    pub status: u8,
    pub notices: Vec<String>,
}

impl Answer {
    pub fn failure(&self) -> Option<&Failure> {
        self.parts.iter().find_map(|part| part.failure.as_ref())
    }
}

/// Parameters of an extended statement.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    pub types: Vec<u32>,
    pub formats: Vec<i16>,
    pub values: Vec<Option<Vec<u8>>>,
    pub binary_results: bool,
    /// Parse under a name, Describe and Sync first, as most drivers do.
    pub named: bool,
}

impl Client {
    pub fn tcp(port: u16, user: &str, database: &str) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("pgherd listens");
        socket.set_read_timeout(Some(ANSWERS_WITHIN)).expect("a timeout");
        socket.set_nodelay(true).expect("nodelay");
        Self::start(Box::new(socket), user, database)
    }

    pub fn unix(folder: &Path, port: u16, user: &str, database: &str) -> Self {
        let socket =
            UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).expect("the server listens");
        socket.set_read_timeout(Some(ANSWERS_WITHIN)).expect("a timeout");
        Self::start(Box::new(socket), user, database)
    }

    fn start(socket: Box<dyn Socket>, user: &str, database: &str) -> Self {
        let mut client = Self { socket, inbox: Vec::new(), read: 0, status: b'I', sync_owed: false };
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for (name, value) in
            [("user", user), ("database", database), ("client_encoding", "UTF8"), ("TimeZone", "UTC")]
        {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(value.as_bytes());
            body.push(0);
        }
        body.push(0);
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend_from_slice(&body);
        client.socket.write_all(&message).expect("startup is sent");
        let answer = client.collect(b"").expect("startup is answered");
        assert!(answer.failure().is_none(), "cannot log in to {database}: {:?}", answer.failure());
        client
    }

    /// One Query.
    ///
    /// # Errors
    /// No answer, or one that cannot be read.
    pub fn simple(&mut self, sql: &str, copy: &[u8]) -> io::Result<Answer> {
        let mut out = Vec::new();
        message(&mut out, b'Q', |o| text(o, sql));
        self.socket.write_all(&out)?;
        self.collect(copy)
    }

    /// Parse, Bind, Describe, Execute, Sync.
    ///
    /// # Errors
    /// No answer, or one that cannot be read.
    pub fn extended(&mut self, sql: &str, bound: &Bound, copy: &[u8]) -> io::Result<Answer> {
        let mut out = Vec::new();
        let name = if bound.named { "diff" } else { "" };
        let mut parameters = None;
        if bound.named {
            message(&mut out, b'C', |o| {
                o.push(b'S');
                text(o, name);
            });
        }
        message(&mut out, b'P', |o| {
            text(o, name);
            text(o, sql);
            o.extend_from_slice(&(bound.types.len() as u16).to_be_bytes());
            bound.types.iter().for_each(|oid| o.extend_from_slice(&oid.to_be_bytes()));
        });
        if bound.named {
            message(&mut out, b'D', |o| {
                o.push(b'S');
                text(o, name);
            });
            message(&mut out, b'S', |_| {});
            self.socket.write_all(&out)?;
            out.clear();
            let first = self.collect(b"")?;
            if first.failure().is_some() {
                return Ok(first);
            }
            parameters = first.parts.into_iter().next().and_then(|part| part.parameters);
        }
        message(&mut out, b'B', |o| {
            text(o, "");
            text(o, name);
            o.extend_from_slice(&(bound.formats.len() as u16).to_be_bytes());
            bound.formats.iter().for_each(|format| o.extend_from_slice(&format.to_be_bytes()));
            o.extend_from_slice(&(bound.values.len() as u16).to_be_bytes());
            for value in &bound.values {
                match value {
                    None => o.extend_from_slice(&(-1_i32).to_be_bytes()),
                    Some(value) => {
                        o.extend_from_slice(&(value.len() as u32).to_be_bytes());
                        o.extend_from_slice(value);
                    }
                }
            }
            match bound.binary_results {
                true => o.extend_from_slice(&[0, 1, 0, 1]),
                false => o.extend_from_slice(&[0, 0]),
            }
        });
        message(&mut out, b'D', |o| {
            o.push(b'P');
            text(o, "");
        });
        message(&mut out, b'E', |o| {
            text(o, "");
            o.extend_from_slice(&0_u32.to_be_bytes());
        });
        // A server that waits for data passes over a Sync: for COPY it comes when it is known what the server does.
        self.sync_owed = sql.trim_start().get(..4).is_some_and(|word| word.eq_ignore_ascii_case("copy"));
        let last = if self.sync_owed { b'H' } else { b'S' };
        message(&mut out, last, |_| {});
        self.socket.write_all(&out)?;
        let mut answer = self.collect(copy)?;
        if let Some(part) = answer.parts.first_mut() {
            part.parameters = parameters;
        }
        Ok(answer)
    }

    /// Rows of a query of our own; panics when it fails.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let answer = self.simple(sql, b"").unwrap_or_else(|error| panic!("{sql}: {error}"));
        if let Some(failure) = answer.failure() {
            panic!("{sql}: {failure:?}");
        }
        let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8_lossy(&value).into_owned());
        answer
            .parts
            .into_iter()
            .flat_map(|part| part.rows)
            .map(|row| row.into_iter().map(text).collect())
            .collect()
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while self.inbox.len() - self.read < wanted {
            if self.read > 1 << 16 {
                self.inbox.drain(..self.read);
                self.read = 0;
            }
            let mut block = [0; 8192];
            match self.socket.read(&mut block)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.inbox.extend_from_slice(&block[..n]),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
        self.fill(5)?;
        let head = &self.inbox[self.read..self.read + 5];
        let kind = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        self.fill(1 + length)?;
        let body = self.inbox[self.read + 5..self.read + 1 + length].to_vec();
        self.read += 1 + length;
        Ok((kind, body))
    }

    fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.sync_owed) {
            self.socket.write_all(b"S\0\0\0\x04")?;
        }
        Ok(())
    }

    /// Everything up to ReadyForQuery. `copy`: sent when the server asks for data.
    fn collect(&mut self, copy: &[u8]) -> io::Result<Answer> {
        let mut answer = Answer::default();
        let mut part = Part::default();
        let mut copying = false;
        loop {
            let (kind, body) = self.next()?;
            match kind {
                b'Z' => {
                    if part != Part::default() {
                        answer.parts.push(part);
                    }
                    self.status = body[0];
                    answer.status = body[0];
                    return Ok(answer);
                }
                b'T' => part.columns = Some(columns(&body)),
                b't' => {
                    part.parameters = Some(
                        body[2..]
                            .chunks(4)
                            .map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]))
                            .collect(),
                    );
                }
                b'D' => part.rows.push(row(&body)),
                b'C' => {
                    part.tag = Some(String::from_utf8_lossy(&body[..body.len() - 1]).into_owned());
                    answer.parts.push(std::mem::take(&mut part));
                    self.sync()?;
                }
                b'I' => {
                    part.tag = Some("(empty)".into());
                    answer.parts.push(std::mem::take(&mut part));
                }
                b'E' => {
                    part.failure = Some(failure(&body));
                    answer.parts.push(std::mem::take(&mut part));
                    self.sync()?;
                }
                b'N' => {
                    let notice = failure(&body);
                    answer.notices.push(format!("{} {}", notice.sqlstate, notice.message));
                }
                b'G' => {
                    let mut out = Vec::new();
                    message(&mut out, b'd', |o| o.extend_from_slice(copy));
                    message(&mut out, b'c', |_| {});
                    self.socket.write_all(&out)?;
                    self.sync()?;
                }
                b'H' => copying = true,
                b'c' => copying = false,
                // What comes before the CopyOutResponse a client throws away: the first row of a binary COPY was lost like that.
                b'd' if !copying => return Err(io::Error::other("CopyData before CopyOutResponse")),
                b'd' => part.copied.extend_from_slice(&body),
                // Authentication, keys, settings, ParseComplete, ...
                b'R' | b'K' | b'S' | b'1' | b'2' | b'3' | b'n' => {}
                other => return Err(io::Error::other(format!("message {:?}", other as char))),
            }
        }
    }
}

fn message(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// A reader of fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N);
        self.0 = rest;
        head.try_into().expect("N bytes")
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.bytes())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.bytes())
    }

    fn string(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).expect("a terminated string");
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        text
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head
    }
}

fn columns(body: &[u8]) -> Vec<Column> {
    let mut fields = Fields(body);
    (0..fields.i16())
        .map(|_| {
            let name = fields.string();
            let _table = fields.i32();
            let _number = fields.i16();
            let type_oid = fields.i32() as u32;
            Column { name, type_oid, type_size: fields.i16(), modifier: fields.i32(), format: fields.i16() }
        })
        .collect()
}

fn row(body: &[u8]) -> Row {
    let mut fields = Fields(body);
    (0..fields.i16())
        .map(|_| match fields.i32() {
            -1 => None,
            length => Some(fields.take(length as usize).to_vec()),
        })
        .collect()
}

fn failure(body: &[u8]) -> Failure {
    let mut fields = Fields(body);
    let mut failure = Failure::default();
    while let [kind, ..] = fields.0 {
        let kind = *kind;
        if kind == 0 {
            break;
        }
        fields.take(1);
        let value = fields.string();
        match kind {
            b'C' => failure.sqlstate = value,
            b'M' => failure.message = value,
            b'D' => failure.detail = value,
            b'H' => failure.hint = value,
            b'P' => failure.position = value,
            _ => {}
        }
    }
    failure
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            if let Some(parameters) = &part.parameters {
                writeln!(f, "      parameters {parameters:?}")?;
            }
            if let Some(columns) = &part.columns {
                let columns: Vec<String> =
                    columns.iter().map(|c| format!("{}:{}/{}", c.name, c.type_oid, c.modifier)).collect();
                writeln!(f, "      columns {}", columns.join(", "))?;
            }
            for row in part.rows.iter().take(8) {
                let values: Vec<String> = row
                    .iter()
                    .map(|value| match value {
                        None => "NULL".into(),
                        Some(value) => value.escape_ascii().to_string(),
                    })
                    .collect();
                writeln!(f, "      row {}", values.join(" | "))?;
            }
            if part.rows.len() > 8 {
                writeln!(f, "      ... {} rows", part.rows.len())?;
            }
            if !part.copied.is_empty() {
                writeln!(f, "      copied {:.300}", part.copied.escape_ascii().to_string())?;
            }
            if let Some(tag) = &part.tag {
                writeln!(f, "      tag {tag}")?;
            }
            if let Some(failure) = &part.failure {
                writeln!(
                    f,
                    "      ERROR {} {} / {} / {} / at {}",
                    failure.sqlstate, failure.message, failure.detail, failure.hint, failure.position
                )?;
            }
        }
        for notice in &self.notices {
            writeln!(f, "      notice {notice}")?;
        }
        writeln!(f, "      status {}", self.status as char)
    }
}
