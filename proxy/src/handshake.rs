//! From accept to the first ReadyForQuery: who the client is, whether it may come in, what it is told.
//!
//! Invariant: nothing is allocated by a length that an unauthenticated peer sent; whether a user exists shows
//! neither in the answer nor in its steps (a mock secret goes through the same exchange). What a step needs
//! exists only after the step before it: [`Startup`] before [`Authenticated`].

use std::io;
use std::sync::Arc;

use pgherd_wire::frame::{self, Fields, STARTUP_BYTES_MAX};
use pgherd_wire::message::{self, Report};
use pgherd_wire::{Stream, scram};

use crate::cancel::CancelKey;

/// A password or SASL message; tokens of many kilobytes are in use.
const PASSWORD_BYTES_MAX: usize = 64 * 1024;

/// Request codes that stand where a protocol version would (pqcomm.h).
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// SSLRequest and GSSENCRequest may each come once before the startup packet.
const NEGOTIATIONS_MAX: usize = 2;

/// What a new connection wants.
pub enum Opening {
    Cancel(CancelKey),
    Session(Startup),
}

/// A startup packet that was read and makes sense.
#[derive(Debug)]
pub struct Startup {
    /// Minor protocol version asked for; only 3.0 is spoken.
    minor: u16,
    parameters: Vec<(String, String)>,
    /// Bytes that came behind the packet.
    rest: Vec<u8>,
}

/// Proof that the client is who it says. Only [`authenticate`] makes one.
pub struct Authenticated {
    pub startup: Startup,
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

    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }
}

/// Reads until the client has said what it wants; answers requests for encryption with "no".
pub async fn open(stream: &mut Stream) -> Result<Opening, Refused> {
    let mut buffer = Vec::new();
    for _ in 0..=NEGOTIATIONS_MAX {
        let packet = read_packet(stream, &mut buffer).await?;
        let mut fields = Fields::new(&packet);
        let code = fields.u32().map_err(|_| bad_packet())?;
        match code {
            SSL_REQUEST | GSSENC_REQUEST => {
                if !buffer.is_empty() {
                    // CVE-2021-23214 and its kin: bytes that were sent before the answer must not be believed after it.
                    return Err(Refused::Said(
                        Report::fatal("08P01", "received unencrypted data after SSL request").detail(
                            "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
                        ),
                    ));
                }
                stream.write_all(b"N").await?;
            }
            CANCEL_REQUEST => {
                let (Ok(process), Ok(secret)) = (fields.u32(), fields.u32()) else {
                    return Err(Refused::Silent);
                };
                return Ok(Opening::Cancel(CancelKey { process, secret }));
            }
            version if version >> 16 == 3 => {
                let parameters = read_parameters(fields).ok_or_else(bad_packet)?;
                let startup = Startup { minor: version as u16, parameters, rest: buffer };
                if startup.user().is_empty() {
                    return Err(Refused::Said(Report::fatal(
                        "28000",
                        "no PostgreSQL user name specified in startup packet",
                    )));
                }
                return Ok(Opening::Session(startup));
            }
            version => {
                let why = format!(
                    "unsupported frontend protocol {}.{}: server supports 3.0 to 3.0",
                    version >> 16,
                    version & 0xffff
                );
                return Err(Refused::Said(Report::fatal("0A000", why)));
            }
        }
    }
    Err(Refused::Said(bad_report()))
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

/// Settles the protocol version: 3.0 and no options, whatever was asked for.
pub async fn negotiate(stream: &mut Stream, startup: &Startup) -> Result<(), Refused> {
    let options: Vec<&str> =
        startup.parameters().map(|(n, _)| n).filter(|n| n.starts_with("_pq_.")).collect();
    if startup.minor == 0 && options.is_empty() {
        return Ok(());
    }
    let mut out = Vec::new();
    message::frame(&mut out, b'v', |o| {
        // The whole version, major and minor: libpq takes a 0 for a protocol before 3.0.
        o.extend_from_slice(&(3u32 << 16).to_be_bytes());
        o.extend_from_slice(&(options.len() as u32).to_be_bytes());
        for option in &options {
            o.extend_from_slice(option.as_bytes());
            o.push(0);
        }
    });
    stream.write_all(&out).await?;
    Ok(())
}

/// How a user proves itself.
pub enum Proof {
    /// It need not.
    Trust,
    Scram(scram::Verifier),
}

/// Runs the exchange. A mock verifier never lets anybody in.
pub async fn authenticate(
    stream: &mut Stream,
    mut startup: Startup,
    proof: Proof,
) -> Result<Authenticated, Refused> {
    let Proof::Scram(verifier) = proof else { return Ok(Authenticated { startup }) };
    let mut out = Vec::new();
    message::authentication(&mut out, 10, format!("{}\0\0", scram::MECHANISM).as_bytes());
    stream.write_all(&out).await?;

    let mut server = scram::Server::new(verifier);
    let failed = |e: scram::ScramError, startup: &Startup| {
        let report = match e.sqlstate() {
            "28P01" => Report::fatal(
                "28P01",
                format!("password authentication failed for user \"{}\"", startup.user()),
            ),
            code => Report::fatal(code, e.to_string()),
        };
        Refused::Said(report)
    };

    let body = read_password(stream, &mut startup.rest).await?;
    let mut fields = Fields::new(&body);
    let malformed = |_| Refused::Said(Report::fatal("08P01", "malformed SASL message"));
    let mechanism = fields.cstr().map_err(malformed)?;
    if mechanism != scram::MECHANISM.as_bytes() {
        return Err(Refused::Said(Report::fatal(
            "08P01",
            "client selected an invalid SASL authentication mechanism",
        )));
    }
    let first = fields.value().map_err(malformed)?.unwrap_or_default();
    let challenge = server.first(first).map_err(|e| failed(e, &startup))?;
    out.clear();
    message::authentication(&mut out, 11, &challenge);
    stream.write_all(&out).await?;

    let body = read_password(stream, &mut startup.rest).await?;
    let signature = server.finish(&body).map_err(|e| failed(e, &startup))?;
    out.clear();
    message::authentication(&mut out, 12, &signature);
    stream.write_all(&out).await?;
    Ok(Authenticated { startup })
}

async fn read_password(stream: &mut Stream, buffer: &mut Vec<u8>) -> Result<Vec<u8>, Refused> {
    loop {
        match frame::header(buffer) {
            Err(_) => return Err(Refused::Said(Report::fatal("08P01", "invalid message length"))),
            Ok(Some(head)) if head.kind != b'p' => {
                let why = format!("expected SASL response, got message type {}", head.kind);
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

/// The last messages of the handshake, up to ReadyForQuery.
pub fn welcome(out: &mut Vec<u8>, told: &[(Box<str>, Box<str>)], key: CancelKey) {
    message::authentication(out, 0, &[]);
    for (name, value) in told {
        message::parameter_status(out, name, value);
    }
    message::backend_key_data(out, key.process, &key.secret.to_be_bytes());
    message::ready_for_query(out, b'I');
}

/// What clients of one process authenticate against.
pub struct Users {
    pub trust: bool,
    verifiers: std::collections::HashMap<String, scram::Verifier>,
    known: std::collections::HashSet<String>,
    mock_secret: [u8; 32],
}

impl Users {
    /// # Errors
    /// A password that cannot be resolved; the text names whose.
    pub fn new(config: &pgherd_config::Config) -> Result<Arc<Self>, String> {
        let mut verifiers = std::collections::HashMap::new();
        for user in &config.users {
            let Some(secret) = &user.password else { continue };
            let owner = format!("user \"{}\"", user.name);
            let verifier = match pgherd_config::resolve(&owner, secret)? {
                pgherd_config::ResolvedSecret::Plain(password) => {
                    scram::Verifier::from_password(password.as_bytes())
                }
                pgherd_config::ResolvedSecret::ScramVerifier(text) => scram::Verifier::parse(&text)
                    .ok_or_else(|| format!("{owner}: the SCRAM verifier cannot be read"))?,
            };
            verifiers.insert(user.name.clone(), verifier);
        }
        Ok(Arc::new(Self {
            trust: config.auth.method == pgherd_config::AuthMethod::Trust,
            verifiers,
            known: config.users.iter().map(|u| u.name.clone()).collect(),
            mock_secret: rand::random(),
        }))
    }

    pub fn proof(&self, user: &str) -> Proof {
        if self.trust {
            return Proof::Trust;
        }
        Proof::Scram(
            self.verifiers
                .get(user)
                .cloned()
                .unwrap_or_else(|| scram::Verifier::mock(user, &self.mock_secret)),
        )
    }

    pub fn knows(&self, user: &str) -> bool {
        self.known.contains(user)
    }
}
