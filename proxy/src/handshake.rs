//! From accept to the first ReadyForQuery: who the client is, whether it may come in, what it is told.
//!
//! Invariant: nothing is allocated by a length that an unauthenticated peer sent; whether a user exists shows
//! neither in the answer nor in its steps (a mock secret goes through the same exchange). What a step needs
//! exists only after the step before it: [`Startup`] before [`Authenticated`].
//!
//! Not here: which exchange a client has to go through (`auth`).

use std::io;

use pgherd_wire::frame::{self, Fields, STARTUP_BYTES_MAX};
use pgherd_wire::message::{self, Report};
use pgherd_wire::{Stream, scram};

use crate::auth::Acceptor;
use crate::auth::md5_answer;
use crate::cancel::CancelKey;

/// A password or SASL message; tokens of many kilobytes are in use.
const PASSWORD_BYTES_MAX: usize = 64 * 1024;

/// Request codes that stand where a protocol version would (pqcomm.h).
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// SSLRequest and GSSENCRequest may each come once before the startup packet.
const NEGOTIATIONS_MAX: usize = 2;

/// The newest minor version of protocol 3 that is spoken: cancel keys may be long.
const MINOR_NEWEST: u16 = 2;

/// The first byte of a TLS handshake. No startup packet begins with it: it would be 369 MB long.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a new connection wants.
pub enum Opening {
    Cancel(CancelKey),
    Session(Startup),
}

/// A startup packet that was read and makes sense.
#[derive(Debug)]
pub struct Startup {
    /// Minor protocol version asked for.
    minor: u16,
    parameters: Vec<(String, String)>,
    /// Bytes that came behind the packet.
    rest: Vec<u8>,
}

/// Proof that the client is who it says. Only [`authenticate`] makes one.
pub struct Authenticated {
    pub startup: Startup,
    /// What SCRAM has shown of the client's secret: it logs in to servers with the same verifier.
    pub keys: Option<scram::Keys>,
}

/// Why a connection ends before it was a session.
#[derive(Debug)]
pub enum Refused {
    /// The peer is told.
    Said(Report),
    /// The peer is gone, or never spoke the protocol: nothing is said.
    Silent,
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Self {
        Self::Silent
    }
}

impl Startup {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn user(&self) -> &str {
        self.get("user").unwrap_or_default()
    }

    /// As PostgreSQL: the user's name when none is given.
    pub fn database(&self) -> &str {
        match self.get("database") {
            Some("") | None => self.user(),
            Some(name) => name,
        }
    }

    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// As PostgreSQL reads it: a boolean asks for physical replication, "database" for logical.
    pub fn is_physical_replication(&self) -> bool {
        self.get("replication").is_some_and(|value| {
            let value = value.to_ascii_lowercase();
            matches!(value.as_str(), "true" | "t" | "tr" | "tru" | "on" | "yes" | "y" | "ye" | "1")
        })
    }

    /// The minor version that is spoken with this client.
    pub fn spoken_minor(&self) -> u16 {
        self.minor.min(MINOR_NEWEST)
    }

    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }
}

/// Reads until the client has said what it wants; encrypts the connection where it is asked to and can.
///
/// # Errors
/// Why not, and the stream to say it on; none where the handshake of TLS itself failed.
pub async fn open(
    mut stream: Stream,
    tls: Option<&Acceptor>,
) -> Result<(Stream, Opening), (Option<Stream>, Refused)> {
    let mut buffer = Vec::new();
    for turn in 0..=NEGOTIATIONS_MAX {
        if turn == 0 {
            if let Err(e) = read_more(&mut stream, &mut buffer, STARTUP_BYTES_MAX).await {
                return Err((Some(stream), e));
            }
            if let (Some(&TLS_HANDSHAKE), Stream::Tcp(_), Some(tls)) = (buffer.first(), &stream, tls) {
                stream = secure(stream, tls, &std::mem::take(&mut buffer)).await?;
                if !stream.tls().is_some_and(|tls| tls.spoke_alpn()) {
                    // Who begins with TLS may take us for something else (ALPACA attacks); PostgreSQL 17 says no more either.
                    tracing::info!(
                        "received direct SSL connection request without ALPN protocol negotiation extension"
                    );
                    return Err((None, Refused::Silent));
                }
            }
        }
        match packet(&mut stream, &mut buffer, tls).await {
            Ok(Said::Opening(opening)) => return Ok((stream, opening)),
            Ok(Said::No) => {}
            Ok(Said::Tls(tls)) => stream = secure(stream, tls, &[]).await?,
            Err(refused) => return Err((Some(stream), refused)),
        }
    }
    Err((Some(stream), bad_packet()))
}

async fn secure(
    stream: Stream,
    tls: &Acceptor,
    received: &[u8],
) -> Result<Stream, (Option<Stream>, Refused)> {
    let session = tls.session().ok_or((None, Refused::Silent))?;
    stream.secure(session.into(), received).await.map_err(|e| {
        tracing::info!(error = %e, "could not accept SSL connection");
        (None, Refused::Silent)
    })
}

/// What a first packet led to.
enum Said<'a> {
    Opening(Opening),
    /// A request for encryption was answered with "no".
    No,
    /// It was answered with "yes".
    Tls(&'a Acceptor),
}

async fn packet<'a>(
    stream: &mut Stream,
    buffer: &mut Vec<u8>,
    tls: Option<&'a Acceptor>,
) -> Result<Said<'a>, Refused> {
    let packet = read_packet(stream, buffer).await?;
    let mut fields = Fields::new(&packet);
    let code = fields.u32().map_err(|_| bad_packet())?;
    match code {
        SSL_REQUEST | GSSENC_REQUEST if stream.tls().is_none() => {
            if !buffer.is_empty() {
                // CVE-2021-23214 and its kin: bytes that were sent before the answer must not be believed after it.
                let what = if code == SSL_REQUEST { "SSL" } else { "GSSAPI encryption" };
                let why = format!("received unencrypted data after {what} request");
                return Err(Refused::Said(Report::fatal("08P01", why).detail(
                    "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
                )));
            }
            match tls {
                // As PostgreSQL: a unix socket is never encrypted.
                Some(tls) if code == SSL_REQUEST && matches!(stream, Stream::Tcp(_)) => {
                    stream.write_all(b"S").await?;
                    Ok(Said::Tls(tls))
                }
                _ => {
                    stream.write_all(b"N").await?;
                    Ok(Said::No)
                }
            }
        }
        CANCEL_REQUEST => {
            let key = fields.u32().ok().and_then(|process| CancelKey::new(process, fields.rest()));
            Ok(Said::Opening(Opening::Cancel(key.ok_or(Refused::Silent)?)))
        }
        version if version >> 16 == 3 => {
            let parameters = read_parameters(fields).ok_or_else(bad_packet)?;
            let startup = Startup { minor: version as u16, parameters, rest: std::mem::take(buffer) };
            if startup.user().is_empty() {
                return Err(Refused::Said(Report::fatal(
                    "28000",
                    "no PostgreSQL user name specified in startup packet",
                )));
            }
            Ok(Said::Opening(Opening::Session(startup)))
        }
        version => {
            let why = format!(
                "unsupported frontend protocol {}.{}: server supports 3.0 to 3.{MINOR_NEWEST}",
                version >> 16,
                version & 0xffff
            );
            Err(Refused::Said(Report::fatal("0A000", why)))
        }
    }
}

fn bad_report() -> Report {
    Report::fatal("08P01", "invalid startup packet layout: expected terminator as last byte")
}

fn bad_packet() -> Refused {
    Refused::Said(bad_report())
}

/// A packet without a type byte. It may come one byte at a time; what comes behind it stays in `buffer`.
async fn read_packet(stream: &mut Stream, buffer: &mut Vec<u8>) -> Result<Vec<u8>, Refused> {
    loop {
        if let Some(&length) = buffer.first_chunk::<4>() {
            let length = u32::from_be_bytes(length) as usize;
            if !(8..=STARTUP_BYTES_MAX).contains(&length) {
                return Err(Refused::Said(Report::fatal("08P01", "invalid length of startup packet")));
            }
            if buffer.len() >= length {
                let packet = buffer[4..length].to_vec();
                buffer.drain(..length);
                return Ok(packet);
            }
        }
        read_more(stream, buffer, STARTUP_BYTES_MAX).await?;
    }
}

async fn read_more(stream: &mut Stream, buffer: &mut Vec<u8>, max: usize) -> Result<(), Refused> {
    if buffer.len() > max + 64 * 1024 {
        return Err(bad_packet());
    }
    let mut some = [0; 2048];
    let n = stream.read(&mut some).await?;
    if n == 0 {
        return Err(Refused::Silent);
    }
    buffer.extend_from_slice(&some[..n]);
    Ok(())
}

fn read_parameters(mut fields: Fields<'_>) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    loop {
        let name = fields.cstr().ok()?;
        if name.is_empty() {
            // PostgreSQL insists that nothing follows (postmaster.c ProcessStartupPacket).
            return fields.end().ok().map(|()| parameters);
        }
        let value = fields.cstr().ok()?;
        parameters.push((String::from_utf8(name.to_vec()).ok()?, String::from_utf8(value.to_vec()).ok()?));
    }
}

/// Settles the protocol version: at most 3.2, and no options, whatever was asked for.
pub async fn negotiate(stream: &mut Stream, startup: &Startup) -> Result<(), Refused> {
    let options: Vec<&str> =
        startup.parameters().map(|(n, _)| n).filter(|n| n.starts_with("_pq_.")).collect();
    if startup.minor <= MINOR_NEWEST && options.is_empty() {
        return Ok(());
    }
    let mut out = Vec::new();
    message::frame(&mut out, b'v', |o| {
        // The whole version, major and minor: libpq takes a 0 for a protocol before 3.0.
        o.extend_from_slice(&((3u32 << 16) | u32::from(startup.spoken_minor())).to_be_bytes());
        o.extend_from_slice(&(options.len() as u32).to_be_bytes());
        for option in &options {
            o.extend_from_slice(option.as_bytes());
            o.push(0);
        }
    });
    stream.write_all(&out).await?;
    Ok(())
}

/// What a user is asked for. For one that does not exist: the same, and no answer is right.
pub enum Exchange {
    Scram {
        verifier: scram::Verifier,
        /// The hash of our certificate, to be bound to.
        end_point: Option<Vec<u8>>,
    },
    Md5 {
        hashes: Vec<String>,
    },
    /// The password as it is.
    Plain {
        verifier: scram::Verifier,
        /// For a user of whom only md5 hashes are known.
        hashes: Vec<String>,
    },
}

/// Runs the exchange.
pub async fn authenticate(
    stream: &mut Stream,
    mut startup: Startup,
    exchange: Exchange,
) -> Result<Authenticated, Refused> {
    let keys = match exchange {
        Exchange::Scram { verifier, end_point } => {
            scram_exchange(stream, &mut startup, verifier, end_point).await?
        }
        Exchange::Md5 { hashes } => {
            let salt: [u8; 4] = rand::random();
            let answer = ask_password(stream, &mut startup, 5, &salt).await?;
            let mut right = false;
            for hash in &hashes {
                right |= equal(md5_answer(hash, salt).as_bytes(), &answer);
            }
            if !right {
                return Err(wrong_password(&startup));
            }
            None
        }
        Exchange::Plain { verifier, hashes } => {
            let password = ask_password(stream, &mut startup, 3, &[]).await?;
            if password.is_empty() {
                return Err(Refused::Said(Report::fatal("28P01", "empty password returned by client")));
            }
            // Both ways for everybody: the time they take says nothing.
            let mut right = verifier.accepts(&password);
            let text = String::from_utf8_lossy(&password);
            let hash = crate::auth::md5_of(startup.user(), &text);
            for known in &hashes {
                right |= equal(known.as_bytes(), hash.as_bytes());
            }
            if !right {
                return Err(wrong_password(&startup));
            }
            None
        }
    };
    Ok(Authenticated { startup, keys })
}

fn wrong_password(startup: &Startup) -> Refused {
    let why = format!("password authentication failed for user \"{}\"", startup.user());
    Refused::Said(Report::fatal("28P01", why))
}

/// Takes the same time wherever they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Asks for a password in one of the old ways; gives it without its end.
async fn ask_password(
    stream: &mut Stream,
    startup: &mut Startup,
    code: u32,
    salt: &[u8],
) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    message::authentication(&mut out, code, salt);
    stream.write_all(&out).await?;
    let mut body = read_password(stream, &mut startup.rest, "password").await?;
    // As PostgreSQL: exactly one zero byte, and at the end.
    if body.pop() != Some(0) || body.contains(&0) {
        return Err(Refused::Said(Report::fatal("08P01", "invalid password packet size")));
    }
    Ok(body)
}

async fn scram_exchange(
    stream: &mut Stream,
    startup: &mut Startup,
    verifier: scram::Verifier,
    end_point: Option<Vec<u8>>,
) -> Result<Option<scram::Keys>, Refused> {
    let mut server = scram::Server::new(verifier).offer_binding(end_point);
    let mut out = Vec::new();
    let mut offer = Vec::new();
    for mechanism in server.mechanisms() {
        offer.extend_from_slice(mechanism.as_bytes());
        offer.push(0);
    }
    offer.push(0);
    message::authentication(&mut out, 10, &offer);
    stream.write_all(&out).await?;

    let failed = |e: scram::ScramError, startup: &Startup| match e.sqlstate() {
        "28P01" => wrong_password(startup),
        code => Refused::Said(Report::fatal(code, e.to_string())),
    };

    let body = read_password(stream, &mut startup.rest, "SASL").await?;
    let mut fields = Fields::new(&body);
    let malformed = |_| Refused::Said(Report::fatal("08P01", "malformed SASL message"));
    let mechanism = fields.cstr().map_err(malformed)?;
    if !server.choose(mechanism) {
        return Err(Refused::Said(Report::fatal(
            "08P01",
            "client selected an invalid SASL authentication mechanism",
        )));
    }
    let first = fields.value().map_err(malformed)?.unwrap_or_default();
    let challenge = server.first(first).map_err(|e| failed(e, startup))?;
    out.clear();
    message::authentication(&mut out, 11, &challenge);
    stream.write_all(&out).await?;

    let body = read_password(stream, &mut startup.rest, "SASL").await?;
    let signature = server.finish(&body).map_err(|e| failed(e, startup))?;
    out.clear();
    message::authentication(&mut out, 12, &signature);
    stream.write_all(&out).await?;
    Ok(server.take_keys())
}

async fn read_password(stream: &mut Stream, buffer: &mut Vec<u8>, what: &str) -> Result<Vec<u8>, Refused> {
    loop {
        match frame::header(buffer) {
            Err(_) => return Err(Refused::Said(Report::fatal("08P01", "invalid message length"))),
            Ok(Some(head)) if head.kind != b'p' => {
                let why = format!("expected {what} response, got message type {}", head.kind);
                return Err(Refused::Said(Report::fatal("08P01", why)));
            }
            Ok(Some(head)) if head.body > PASSWORD_BYTES_MAX => {
                return Err(Refused::Said(Report::fatal("08P01", "invalid message length")));
            }
            Ok(Some(head)) if buffer.len() >= head.total() => {
                let body = buffer[frame::HEADER_BYTES..head.total()].to_vec();
                buffer.drain(..head.total());
                return Ok(body);
            }
            Ok(_) => read_more(stream, buffer, PASSWORD_BYTES_MAX).await?,
        }
    }
}

/// What all are told who are let in, up to their cancel keys.
pub fn welcome(notice: Option<&Report>, told: &[(Box<str>, Box<str>)]) -> Vec<u8> {
    let mut out = Vec::new();
    message::authentication(&mut out, 0, &[]);
    if let Some(notice) = notice {
        notice.write(&mut out);
    }
    for (name, value) in told {
        message::parameter_status(&mut out, name, value);
    }
    out
}

/// The last messages of the handshake, behind [`welcome`].
pub fn welcomed(out: &mut Vec<u8>, key: CancelKey) {
    message::backend_key_data(out, key.process, key.secret());
    message::ready_for_query(out, b'I');
}
