//! Opening a server connection: socket, startup packet, authentication, up to the first ReadyForQuery.
//!
//! Invariant: nothing is believed before it is bounded. A message is at most [`MESSAGE_BYTES_MAX`], a
//! login at most [`LOGIN_BYTES_MAX`], and all of it at most `connect_timeout`.
//!
//! Not here: whom TLS trusts (`tls`); retrying what time may mend (`pool`).
//!
//! Start reading at [`login`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use md5::{Digest, Md5};
use pgherd_config::{ChannelBinding, SslMode};
use pgherd_wire::frame::Fields;
use pgherd_wire::message::{self, Report};
use pgherd_wire::{Header, Stream, frame, scram, tls as wire_tls};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::cancel::{Address, CancelHandle};
use crate::error::ConnectError;
use crate::parameters::Parameters;
use crate::secrets::{Credential, Secrets};
use crate::tls::Connector;

/// No file is left: of the machine's, and of the process's. The same numbers on Linux, the BSDs and macOS.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

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

const SSL_REQUEST: u32 = (1234 << 16) | 5679;

/// Where to connect, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// A name, an IP address, or (starting with '/') the directory of a unix socket.
    pub host: String,
    pub port: u16,
    /// Further hosts with the same data.
    pub others: Vec<(String, u16)>,
    /// Hosts take turns; otherwise the first that answers is taken.
    pub balance: bool,
    pub dbname: String,
    pub user: String,
    pub secrets: Secrets,
    pub tls: Arc<Connector>,
    pub application_name: String,
    /// `options` of the startup packet; empty for none.
    pub options: String,
    /// Further settings of the startup packet.
    pub startup: Vec<(String, String)>,
    /// Said to each new connection; empty for nothing.
    pub connect_query: String,
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
    login_with(target, &[], connect_timeout).await
}

/// [`login`] with more parameters in the startup packet. A later one of the same name wins, in PostgreSQL.
///
/// # Cancel safety
/// Safe, as [`login`].
pub async fn login_with(
    target: &Target,
    more: &[(&str, &str)],
    connect_timeout: Duration,
) -> Result<Login, ConnectError> {
    let deadline = Instant::now() + connect_timeout;
    // Boxed: whoever awaits this is small without the buffers and states of a login.
    let attempt = Box::pin(hosts_in_turn(target, more, deadline));
    match tokio::time::timeout_at(deadline, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectError::TimedOut { after: connect_timeout }),
    }
}

/// Opens a connection as [`login`] does, up to where the startup packet would be sent.
///
/// # Cancel safety
/// Safe.
pub async fn open_secured(target: &Target, connect_timeout: Duration) -> Result<Stream, ConnectError> {
    let deadline = Instant::now() + connect_timeout;
    let way = if target.tls.settings().mode <= SslMode::Allow { Way::Plain } else { Way::Tls };
    let host = Host { name: &target.host, port: target.port };
    match tokio::time::timeout_at(deadline, Box::pin(open_way(target, host, way, deadline))).await {
        Ok(outcome) => outcome.map(|opened| opened.stream),
        Err(_) => Err(ConnectError::TimedOut { after: connect_timeout }),
    }
}

/// In the clear or encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
}

/// One of a target's.
#[derive(Debug, Clone, Copy)]
struct Host<'a> {
    name: &'a str,
    port: u16,
}

/// Whose turn it is, over all targets with several hosts.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// Tries the hosts of the target until one answers, in the time that is left for it.
async fn hosts_in_turn(
    target: &Target,
    more: &[(&str, &str)],
    deadline: Instant,
) -> Result<Login, ConnectError> {
    let first = Host { name: &target.host, port: target.port };
    if target.others.is_empty() {
        return attempts(target, first, more, deadline).await;
    }
    let others = target.others.iter().map(|(name, port)| Host { name, port: *port });
    let mut hosts: Vec<Host<'_>> = std::iter::once(first).chain(others).collect();
    if target.balance {
        let turn = TURN.fetch_add(1, Ordering::Relaxed) % hosts.len();
        hosts.rotate_left(turn);
    }
    let mut last = ConnectError::Unreachable { kind: io::ErrorKind::NotFound };
    for (tried, &host) in hosts.iter().enumerate() {
        // One that swallows packets must not eat the time of those behind it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (hosts.len() - tried) as u32;
        let attempt = attempts(target, host, more, Instant::now() + share);
        match tokio::time::timeout(share, attempt).await {
            Ok(Ok(login)) => return Ok(login),
            // What time may mend, another host may be without.
            Ok(Err(error)) if error.is_passing() => last = error,
            Ok(Err(error)) => return Err(error),
            Err(_) => last = ConnectError::TimedOut { after: share },
        }
    }
    Err(last)
}

/// Tries what the configuration leaves open: the way, and while a password is being replaced, the password.
async fn attempts(
    target: &Target,
    host: Host<'_>,
    more: &[(&str, &str)],
    deadline: Instant,
) -> Result<Login, ConnectError> {
    let ways: &[Way] = match target.tls.settings().mode {
        SslMode::Disable => &[Way::Plain],
        SslMode::Allow => &[Way::Plain, Way::Tls],
        SslMode::Prefer => &[Way::Tls, Way::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Way::Tls],
    };
    let candidates = target.secrets.candidates();
    let (mut way_at, mut candidate_at) = (0, 0);
    let mut first_error = None;
    loop {
        let candidate = candidates.get(candidate_at);
        let opened = open_way(target, host, ways[way_at], deadline).await;
        let (was_tls, outcome) = match opened {
            Ok(opened) => {
                let was_tls = opened.stream.tls().is_some();
                let credential = candidate.map(|(_, credential)| credential);
                (was_tls, handshake(opened, target, host, more, credential).await)
            }
            Err(error) => (true, Err(error)),
        };
        let error = match outcome {
            Ok(login) => {
                if let Some((index, _)) = candidate
                    && candidates.len() > 1
                {
                    target.secrets.worked(*index);
                }
                return Ok(login);
            }
            Err(error) => error,
        };
        let another_way = match &error {
            // Where the server has no TLS, the attempt was in the clear already.
            ConnectError::Tls { .. } => true,
            ConnectError::Refused(report) => {
                report.sqlstate == "28000" && was_tls == (ways[way_at] == Way::Tls)
            }
            _ => false,
        };
        let another_secret = match &error {
            ConnectError::Refused(report) => report.sqlstate == "28P01",
            ConnectError::Authentication { .. } => true,
            _ => false,
        };
        if another_way && way_at + 1 < ways.len() {
            way_at += 1;
        } else if another_secret && candidate_at + 1 < candidates.len() {
            candidate_at += 1;
        } else {
            return Err(first_error.unwrap_or(error));
        }
        first_error.get_or_insert(error);
    }
}

struct Opened {
    stream: Stream,
    address: Address,
}

async fn open_way(
    target: &Target,
    host: Host<'_>,
    way: Way,
    deadline: Instant,
) -> Result<Opened, ConnectError> {
    let (stream, address) = open(host, deadline).await?;
    if way == Way::Plain {
        return Ok(Opened { stream, address });
    }
    match secure(stream, &target.tls, host.name).await? {
        Secured::Tls(stream) => Ok(Opened { stream, address }),
        Secured::Refused(stream) if target.tls.settings().mode == SslMode::Prefer => {
            Ok(Opened { stream, address })
        }
        Secured::Refused(_) => Err(ConnectError::Tls { why: "the server does not support TLS".into() }),
    }
}

pub(crate) enum Secured {
    Tls(Stream),
    /// The server said no; the connection goes on in the clear.
    Refused(Stream),
}

/// Asks for TLS.
pub(crate) async fn secure(
    mut stream: Stream,
    connector: &Connector,
    host: &str,
) -> Result<Secured, ConnectError> {
    let lost = |e: io::Error| ConnectError::Lost { kind: e.kind() };
    let mut request = [0; 8];
    request[..4].copy_from_slice(&8u32.to_be_bytes());
    request[4..].copy_from_slice(&SSL_REQUEST.to_be_bytes());
    stream.write_all(&request).await.map_err(lost)?;
    // Room for more than the answer: what comes with it was not said by whom the handshake will prove (CVE-2021-23222).
    let mut answer = [0; 16];
    let n = stream.read(&mut answer).await.map_err(lost)?;
    match &answer[..n] {
        b"S" => {
            let session = connector.session(host).map_err(|why| ConnectError::Tls { why })?;
            let secured = stream.secure(session.into(), &[]).await;
            secured.map(Secured::Tls).map_err(|e| ConnectError::Tls { why: e.to_string() })
        }
        b"N" => Ok(Secured::Refused(stream)),
        b"" => Err(ConnectError::Lost { kind: io::ErrorKind::UnexpectedEof }),
        // A server that is too busy, or does not know the request, says so in a message.
        [b'E', ..] => Err(ConnectError::Lost { kind: io::ErrorKind::ConnectionAborted }),
        [b'S' | b'N', ..] => {
            Err(ConnectError::Protocol { why: "the server sent data ahead of the TLS handshake" })
        }
        _ => Err(ConnectError::Protocol { why: "the server did not answer the request for TLS" }),
    }
}

async fn open(host: Host<'_>, deadline: Instant) -> Result<(Stream, Address), ConnectError> {
    let unreachable = |e: io::Error| match e.raw_os_error() {
        Some(ENFILE | EMFILE) => ConnectError::OutOfFiles,
        _ => ConnectError::Unreachable { kind: e.kind() },
    };
    if host.name.starts_with('/') {
        let path = PathBuf::from(host.name).join(format!(".s.PGSQL.{}", host.port));
        let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
        return Ok((Stream::Unix(stream), Address::Unix(path)));
    }
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.name, host.port))
        .await
        .map_err(unreachable)?
        .take(ADDRESSES_MAX)
        .collect();
    let mut last = ConnectError::Unreachable { kind: io::ErrorKind::NotFound };
    for (tried, &address) in addresses.iter().enumerate() {
        // An address that swallows packets must not eat the time of those behind it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                prepare(&stream).map_err(unreachable)?;
                return Ok((Stream::Tcp(stream), Address::Tcp(address)));
            }
            Ok(Err(error)) => last = unreachable(error),
            Err(_) => last = ConnectError::Unreachable { kind: io::ErrorKind::TimedOut },
        }
    }
    Err(last)
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
    ScramStarted { client: Box<scram::Client>, bound: bool },
    /// SCRAM: the proof was sent.
    ScramProved { client: Box<scram::Client>, bound: bool },
    /// SCRAM: the server proved that it knows the password too.
    ScramVerified { bound: bool },
    /// AuthenticationOk.
    Done,
}

/// Who logs in, and over what.
struct Applicant<'a> {
    target: &'a Target,
    credential: Option<&'a Credential>,
    /// Nobody can listen: TLS, a unix socket, this machine.
    private: bool,
    encrypted: bool,
    /// The hash of the server's certificate, if it can be bound to.
    end_point: Option<Vec<u8>>,
}

async fn handshake(
    opened: Opened,
    target: &Target,
    host: Host<'_>,
    more: &[(&str, &str)],
    credential: Option<&Credential>,
) -> Result<Login, ConnectError> {
    let Opened { stream, address } = opened;
    let applicant = Applicant {
        target,
        credential,
        private: match &address {
            Address::Unix(_) => true,
            Address::Tcp(address) => stream.tls().is_some() || address.ip().is_loopback(),
        },
        encrypted: stream.tls().is_some(),
        end_point: stream.tls().and_then(|tls| wire_tls::end_point(tls.peer_certificate()?)),
    };
    let mut reader = Reader { stream, buf: Vec::with_capacity(2048), at: 0, total: 0 };
    reader.write(&startup(target, more)?).await?;

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
                let (next, answer) = authenticate(step, body, &applicant)?;
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
                let way = applicant.encrypted.then(|| (target.tls.clone(), host.name.to_owned()));
                let cancel = Arc::new(CancelHandle::new(address, way, key));
                if !target.connect_query.is_empty() {
                    say(&mut reader, &target.connect_query, &mut parameters).await?;
                }
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

/// Runs a statement whose rows are nobody's. As PgBouncer: an error of it is logged, and the connection is used.
async fn say(reader: &mut Reader, sql: &str, parameters: &mut Parameters) -> Result<(), ConnectError> {
    let mut out = Vec::new();
    message::query(&mut out, sql);
    reader.write(&out).await?;
    loop {
        let (kind, range) = reader.next().await?;
        let body = &reader.buf[range];
        match kind {
            b'E' => {
                let report = Report::read(body);
                tracing::warn!(sqlstate = %report.sqlstate, error = %report.message, "connect_query failed");
            }
            b'S' => read_parameter(body, parameters)
                .ok_or(ConnectError::Protocol { why: "the server sent a malformed ParameterStatus" })?,
            b'Z' if body != b"I" || reader.at != reader.buf.len() => {
                return Err(ConnectError::Protocol { why: "connect_query left a transaction open" });
            }
            b'Z' => return Ok(()),
            b'G' | b'W' => return Err(ConnectError::Protocol { why: "connect_query began a COPY" }),
            _ => {}
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

fn startup(target: &Target, more: &[(&str, &str)]) -> Result<Vec<u8>, ConnectError> {
    let settings = [
        ("user", target.user.as_str()),
        ("database", target.dbname.as_str()),
        ("application_name", target.application_name.as_str()),
        ("client_encoding", "UTF8"),
        ("options", target.options.as_str()),
    ];
    let mut packet = vec![0; 4];
    packet.extend_from_slice(&PROTOCOL_3_0.to_be_bytes());
    let own = target.startup.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in settings.iter().copied().chain(own).chain(more.iter().copied()) {
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
fn authenticate(
    step: Step,
    body: &[u8],
    applicant: &Applicant<'_>,
) -> Result<(Step, Option<Vec<u8>>), ConnectError> {
    let out_of_order =
        ConnectError::Protocol { why: "the server sent an authentication message out of order" };
    let mut fields = Fields::new(body);
    let code = fields.u32().map_err(|_| out_of_order.clone())?;
    let rest = fields.rest();
    let user = &applicant.target.user;
    match (code, step) {
        // After SCRAM has begun, Ok counts only from a server that proved that it knows the password.
        (0, step @ (Step::Asked | Step::PasswordSent | Step::ScramVerified { .. })) => {
            applicant.may_enter(&step)?;
            Ok((Step::Done, None))
        }
        (3, Step::Asked) => {
            applicant.may_answer(3)?;
            let mut answer = match applicant.credential()? {
                Credential::Password(password, _) => password.as_bytes().to_vec(),
                _ => return Err(NEEDS_PASSWORD),
            };
            answer.push(0);
            Ok((Step::PasswordSent, Some(answer)))
        }
        (5, Step::Asked) => {
            applicant.may_answer(5)?;
            let salt: [u8; 4] = rest.try_into().map_err(|_| out_of_order)?;
            let hash = match applicant.credential()? {
                Credential::Password(password, _) => md5_hash(user, password),
                Credential::Md5(hash) => hash.trim_start_matches("md5").to_owned(),
                Credential::Keys(_) => return Err(NEEDS_PASSWORD),
            };
            let mut answer = md5_answer(&hash, salt).into_bytes();
            answer.push(0);
            Ok((Step::PasswordSent, Some(answer)))
        }
        (10, Step::Asked) => {
            applicant.may_answer(10)?;
            let (mechanism, binding) = applicant.bind(rest)?;
            let client = match applicant.credential()? {
                Credential::Password(_, keys) => scram::Client::remembering(keys.clone()),
                Credential::Keys(keys) => scram::Client::from_keys(keys.clone()),
                Credential::Md5(_) => {
                    return Err(ConnectError::Authentication {
                        why: "the server asks for SCRAM, and only an md5 hash is configured for this user",
                    });
                }
            };
            let bound = matches!(binding, scram::Binding::EndPoint(_));
            let mut client = Box::new(client.bind(&binding));
            let first = client.first();
            let mut answer = [mechanism.as_bytes(), b"\0"].concat();
            answer.extend_from_slice(&(first.len() as u32).to_be_bytes());
            answer.extend_from_slice(&first);
            Ok((Step::ScramStarted { client, bound }, Some(answer)))
        }
        (11, Step::ScramStarted { mut client, bound }) => {
            let answer = client.respond(rest).map_err(|_| ConnectError::Authentication {
                why: "the server's SCRAM challenge is not acceptable",
            })?;
            Ok((Step::ScramProved { client, bound }, Some(answer)))
        }
        (12, Step::ScramProved { mut client, bound }) => {
            client.finish(rest).map_err(|_| ConnectError::Authentication {
                why: "the server did not prove that it knows the password",
            })?;
            Ok((Step::ScramVerified { bound }, None))
        }
        (0 | 3 | 5 | 10 | 11 | 12, _) => Err(out_of_order),
        _ => Err(ConnectError::Authentication {
            why: "the server asks for an authentication method that pgherd does not have",
        }),
    }
}

const NEEDS_PASSWORD: ConnectError = ConnectError::Authentication {
    why: "the server asks for the password itself, and only a hash of it is configured for this user",
};

impl Applicant<'_> {
    fn credential(&self) -> Result<&Credential, ConnectError> {
        self.credential.ok_or(ConnectError::Authentication {
            why: "the server asks for a password, and none is configured for this user",
        })
    }

    /// Whether a request may be answered at all (`require_auth`).
    fn may_answer(&self, code: u32) -> Result<(), ConnectError> {
        let settings = self.target.tls.settings();
        if settings.channel_binding == ChannelBinding::Require && code != 10 {
            return Err(ConnectError::Authentication {
                why: "channel binding is required, and the server asks for a method that has none",
            });
        }
        let allowed = match (settings.require_auth, code) {
            (Some(methods), 3) => methods.password,
            (Some(methods), 5) => methods.md5,
            (Some(methods), _) => methods.scram,
            (None, 3) if !self.private => {
                return Err(ConnectError::Authentication {
                    why: "the server asks for the password as it is, over a network and without TLS (require_auth=password \
                          would allow it)",
                });
            }
            (None, _) => true,
        };
        if allowed {
            return Ok(());
        }
        Err(ConnectError::Authentication {
            why: "the server asks for a method that require_auth does not allow",
        })
    }

    /// Whether the server's Ok is enough.
    fn may_enter(&self, step: &Step) -> Result<(), ConnectError> {
        let settings = self.target.tls.settings();
        if settings.channel_binding == ChannelBinding::Require
            && !matches!(step, Step::ScramVerified { bound: true })
        {
            return Err(ConnectError::Authentication {
                why: "channel binding is required, and the server let pgherd in without it",
            });
        }
        if matches!(step, Step::Asked) && settings.require_auth.is_some_and(|methods| !methods.none) {
            return Err(ConnectError::Authentication {
                why: "the server asked for no proof, which require_auth does not allow",
            });
        }
        Ok(())
    }

    /// The mechanism to choose among those that the server offers.
    fn bind(&self, offered: &[u8]) -> Result<(&'static str, scram::Binding), ConnectError> {
        let settings = self.target.tls.settings();
        let plus = offers(offered, scram::MECHANISM_PLUS.as_bytes());
        let wanted = settings.channel_binding;
        if let (true, Some(end_point), true) = (plus, &self.end_point, wanted != ChannelBinding::Disable) {
            return Ok((scram::MECHANISM_PLUS, scram::Binding::EndPoint(end_point.clone())));
        }
        if wanted == ChannelBinding::Require {
            return Err(ConnectError::Authentication {
                why: "channel binding is required, and the server does not offer it",
            });
        }
        if !offers(offered, scram::MECHANISM.as_bytes()) {
            return Err(ConnectError::Authentication {
                why: "the server offers no SASL mechanism that pgherd knows (SCRAM-SHA-256)",
            });
        }
        let could = self.end_point.is_some() && wanted != ChannelBinding::Disable;
        let binding = if could && !plus { scram::Binding::NotOffered } else { scram::Binding::None };
        Ok((scram::MECHANISM, binding))
    }
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

/// What PostgreSQL stores for md5, without its prefix.
fn md5_hash(user: &str, password: &str) -> String {
    hex(Md5::new().chain_update(password).chain_update(user).finalize().as_slice())
}

fn md5_answer(hash: &str, salt: [u8; 4]) -> String {
    format!("md5{}", hex(Md5::new().chain_update(hash).chain_update(salt).finalize().as_slice()))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_in_the_clear_only_where_nobody_can_listen() {
        let target = Target {
            host: "db".into(),
            port: 5432,
            others: Vec::new(),
            balance: false,
            startup: Vec::new(),
            connect_query: String::new(),
            dbname: "shop".into(),
            user: "app".into(),
            secrets: Secrets::password("secret"),
            tls: Connector::plain(),
            application_name: String::new(),
            options: String::new(),
        };
        for (private, allowed) in [(true, true), (false, false)] {
            let applicant =
                Applicant { target: &target, credential: None, private, encrypted: false, end_point: None };
            assert_eq!(applicant.may_answer(3).is_ok(), allowed);
            assert!(applicant.may_answer(5).is_ok() && applicant.may_answer(10).is_ok());
        }
    }
}
