//! Opening a server connection: socket, startup packet, authentication, up to the first ReadyForQuery.
//!
//! Invariant: nothing is believed before it is bounded. A message is at most [`MESSAGE_BYTES_MAX`], a
//! login at most [`LOGIN_BYTES_MAX`], and all of it at most `connect_timeout`.
//!
//! Not here: TLS towards servers; retrying (`pool`).
//!
//! Start reading at [`login`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};
use pgherd_wire::frame::Fields;
use pgherd_wire::message::{self, Report};
use pgherd_wire::{Header, Stream, frame, scram};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::cancel::{Address, CancelHandle};
use crate::error::ConnectError;
use crate::parameters::Parameters;

/// Longest message of a login. A SCRAM message or a parameter is a few hundred bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// All messages of a login. A server that sends notices without end is cut off here.
const LOGIN_BYTES_MAX: usize = 1024 * 1024;

/// A BackendKeyData carries at most this much secret (protocol 3.2).
const CANCEL_KEY_BYTES_MAX: usize = 256;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// A server that vanished without a word (power, network) is noticed after about 90 seconds, not two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

const PROTOCOL_3_0: u32 = 3 << 16;

/// Where to connect, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// A name, an IP address, or (starting with '/') the directory of a unix socket.
    pub host: String,
    pub port: u16,
    pub dbname: String,
    pub user: String,
    pub password: Option<String>,
    pub application_name: String,
}

/// Without the password: a target may be logged.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("dbname", &self.dbname)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A connection that is ready for its first query.
#[derive(Debug)]
pub struct Login {
    pub stream: Stream,
    pub parameters: Parameters,
    pub cancel: Arc<CancelHandle>,
}

/// Opens and authenticates one connection, without any pool.
///
/// # Cancel safety
/// Safe. A login that is dropped closes its socket.
pub async fn login(target: &Target, connect_timeout: Duration) -> Result<Login, ConnectError> {
    let deadline = Instant::now() + connect_timeout;
    // Boxed: whoever awaits this is small without the buffers and states of a login.
    let attempt = Box::pin(async {
        let (stream, address) = open(target, deadline).await?;
        handshake(stream, address, target).await
    });
    match tokio::time::timeout_at(deadline, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectError::TimedOut { after: connect_timeout }),
    }
}

async fn open(target: &Target, deadline: Instant) -> Result<(Stream, Address), ConnectError> {
    let unreachable = |e: io::Error| ConnectError::Unreachable { kind: e.kind() };
    if target.host.starts_with('/') {
        let path = PathBuf::from(&target.host).join(format!(".s.PGSQL.{}", target.port));
        let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
        return Ok((Stream::Unix(stream), Address::Unix(path)));
    }
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(unreachable)?
        .take(ADDRESSES_MAX)
        .collect();
    let mut last = io::ErrorKind::NotFound;
    for (tried, &address) in addresses.iter().enumerate() {
        // An address that swallows packets must not eat the time of those behind it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                prepare(&stream).map_err(unreachable)?;
                return Ok((Stream::Tcp(stream), Address::Tcp(address)));
            }
            Ok(Err(error)) => last = error.kind(),
            Err(_) => last = io::ErrorKind::TimedOut,
        }
    }
    Err(ConnectError::Unreachable { kind: last })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Reads whole messages, bounded.
struct Reader {
    stream: Stream,
    buf: Vec<u8>,
    /// Where the next message starts in `buf`.
    at: usize,
    /// Of all messages so far.
    total: usize,
}

impl Reader {
    /// The next message: its type, and its body as a range of `self.buf`.
    async fn next(&mut self) -> Result<(u8, std::ops::Range<usize>), ConnectError> {
        loop {
            let header = frame::header(&self.buf[self.at..])
                .map_err(|_| ConnectError::Protocol { why: "the server sent an impossible length" })?;
            if let Some(Header { kind, body }) = header {
                // The first bytes of something that is not PostgreSQL fail here, before anything waits for a body.
                if body > MESSAGE_BYTES_MAX || self.total + body > LOGIN_BYTES_MAX {
                    return Err(ConnectError::Protocol { why: "the server sent too much during login" });
                }
                let start = self.at + frame::HEADER_BYTES;
                if self.buf.len() >= start + body {
                    self.at = start + body;
                    self.total += body + frame::HEADER_BYTES;
                    return Ok((kind, start..start + body));
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), ConnectError> {
        self.buf.drain(..self.at);
        self.at = 0;
        let mut block = [0; 2048];
        match self.stream.read(&mut block).await {
            Ok(0) => Err(ConnectError::Lost { kind: io::ErrorKind::UnexpectedEof }),
            Ok(n) => {
                self.buf.extend_from_slice(&block[..n]);
                Ok(())
            }
            Err(error) => Err(ConnectError::Lost { kind: error.kind() }),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectError> {
        self.stream.write_all(bytes).await.map_err(|e| ConnectError::Lost { kind: e.kind() })
    }
}

/// How far the authentication is. Each step is consumed by the message that ends it.
enum Step {
    /// The server may ask for anything, or trust.
    Asked,
    /// A plain or hashed password was sent.
    PasswordSent,
    /// SCRAM: the client's first message was sent.
    ScramStarted(Box<scram::Client>),
    /// SCRAM: the proof was sent.
    ScramProved(Box<scram::Client>),
    /// SCRAM: the server proved that it knows the password too.
    ScramVerified,
    /// AuthenticationOk.
    Done,
}

async fn handshake(stream: Stream, address: Address, target: &Target) -> Result<Login, ConnectError> {
    let mut reader = Reader { stream, buf: Vec::with_capacity(2048), at: 0, total: 0 };
    reader.write(&startup(target)?).await?;

    let mut step = Step::Asked;
    let mut parameters = Parameters::default();
    let mut key = None;
    loop {
        let (kind, range) = reader.next().await?;
        let body = &reader.buf[range];
        match (kind, &step) {
            (b'E', _) => return Err(ConnectError::Refused(Report::read(body))),
            (b'N', _) => {}
            (b'R', _) => {
                let (next, answer) = authenticate(step, body, target)?;
                step = next;
                if let Some(answer) = answer {
                    let mut out = Vec::with_capacity(answer.len() + frame::HEADER_BYTES);
                    message::password(&mut out, &answer);
                    reader.write(&out).await?;
                }
            }
            (b'S', Step::Done) => read_parameter(body, &mut parameters)
                .ok_or(ConnectError::Protocol { why: "the server sent a malformed ParameterStatus" })?,
            (b'K', Step::Done) => {
                let malformed = ConnectError::Protocol { why: "the server sent a malformed cancel key" };
                if !(8..=4 + CANCEL_KEY_BYTES_MAX).contains(&body.len()) || key.is_some() {
                    return Err(malformed);
                }
                key = Some(body.into());
            }
            (b'Z', Step::Done) => {
                if body != b"I" {
                    return Err(ConnectError::Protocol { why: "the server is in a transaction after login" });
                }
                // Whatever stands here nobody asked for; lent on, it would be the reply to somebody's first query.
                if reader.at != reader.buf.len() {
                    return Err(ConnectError::Protocol { why: "the server went on after ReadyForQuery" });
                }
                let cancel = Arc::new(CancelHandle::new(address, key));
                return Ok(Login { stream: reader.stream, parameters, cancel });
            }
            _ => {
                return Err(ConnectError::Protocol {
                    why: "the server sent an unexpected message during login",
                });
            }
        }
    }
}

/// Reads a ParameterStatus into `parameters`.
pub(crate) fn read_parameter(body: &[u8], parameters: &mut Parameters) -> Option<()> {
    let mut fields = Fields::new(body);
    let (name, value) = (fields.cstr().ok()?, fields.cstr().ok()?);
    fields.end().ok()?;
    parameters.set(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value)).ok()
}

fn startup(target: &Target) -> Result<Vec<u8>, ConnectError> {
    let settings = [
        ("user", target.user.as_str()),
        ("database", target.dbname.as_str()),
        ("application_name", target.application_name.as_str()),
        ("client_encoding", "UTF8"),
    ];
    let mut packet = vec![0; 4];
    packet.extend_from_slice(&PROTOCOL_3_0.to_be_bytes());
    for (name, value) in settings {
        // A NUL would end the value early and start a setting of its own.
        if value.contains('\0') {
            return Err(ConnectError::Authentication { why: "a name contains a NUL" });
        }
        if value.is_empty() {
            continue;
        }
        for text in [name, value] {
            packet.extend_from_slice(text.as_bytes());
            packet.push(0);
        }
    }
    packet.push(0);
    if packet.len() > frame::STARTUP_BYTES_MAX {
        return Err(ConnectError::Authentication { why: "the names of user and database are too long" });
    }
    let length = packet.len() as u32;
    packet[..4].copy_from_slice(&length.to_be_bytes());
    Ok(packet)
}

/// One authentication request: what is next, and what is answered.
fn authenticate(step: Step, body: &[u8], target: &Target) -> Result<(Step, Option<Vec<u8>>), ConnectError> {
    let out_of_order =
        ConnectError::Protocol { why: "the server sent an authentication message out of order" };
    let mut fields = Fields::new(body);
    let code = fields.u32().map_err(|_| out_of_order.clone())?;
    let rest = fields.rest();
    match (code, step) {
        // After SCRAM has begun, Ok counts only from a server that proved that it knows the password.
        (0, Step::Asked | Step::PasswordSent | Step::ScramVerified) => Ok((Step::Done, None)),
        (3, Step::Asked) => {
            let mut answer = password(target)?.as_bytes().to_vec();
            answer.push(0);
            Ok((Step::PasswordSent, Some(answer)))
        }
        (5, Step::Asked) => {
            let salt: [u8; 4] = rest.try_into().map_err(|_| out_of_order)?;
            let mut answer = md5_answer(&target.user, password(target)?, salt).into_bytes();
            answer.push(0);
            Ok((Step::PasswordSent, Some(answer)))
        }
        (10, Step::Asked) => {
            if !offers(rest, b"SCRAM-SHA-256") {
                return Err(ConnectError::Authentication {
                    why: "the server offers no SASL mechanism that pgherd knows (SCRAM-SHA-256)",
                });
            }
            let mut client = Box::new(scram::Client::new(password(target)?.as_bytes()));
            let first = client.first();
            let mut answer = b"SCRAM-SHA-256\0".to_vec();
            answer.extend_from_slice(&(first.len() as u32).to_be_bytes());
            answer.extend_from_slice(&first);
            Ok((Step::ScramStarted(client), Some(answer)))
        }
        (11, Step::ScramStarted(mut client)) => {
            let answer = client.respond(rest).map_err(|_| ConnectError::Authentication {
                why: "the server's SCRAM challenge is not acceptable",
            })?;
            Ok((Step::ScramProved(client), Some(answer)))
        }
        (12, Step::ScramProved(mut client)) => {
            client.finish(rest).map_err(|_| ConnectError::Authentication {
                why: "the server did not prove that it knows the password",
            })?;
            Ok((Step::ScramVerified, None))
        }
        (0 | 3 | 5 | 10 | 11 | 12, _) => Err(out_of_order),
        _ => Err(ConnectError::Authentication {
            why: "the server asks for an authentication method that pgherd does not have",
        }),
    }
}

fn password(target: &Target) -> Result<&str, ConnectError> {
    target.password.as_deref().ok_or(ConnectError::Authentication {
        why: "the server asks for a password, and none is configured for this user",
    })
}

fn offers(mut mechanisms: &[u8], wanted: &[u8]) -> bool {
    while let Some(end) = mechanisms.iter().position(|&b| b == 0) {
        if &mechanisms[..end] == wanted {
            return true;
        }
        mechanisms = &mechanisms[end + 1..];
    }
    false
}

fn md5_answer(user: &str, password: &str, salt: [u8; 4]) -> String {
    let inner = hex(Md5::new().chain_update(password).chain_update(user).finalize().as_slice());
    format!("md5{}", hex(Md5::new().chain_update(inner).chain_update(salt).finalize().as_slice()))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
