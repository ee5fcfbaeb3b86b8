//! One value each: from what was typed to what it means.
//!
//! Pure. An error is the rest of a sentence that begins with the setting's name ("must be ...", "has no
//! port ..."), and never repeats a text that may hold a password.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::document::did_you_mean;
use crate::model::{Address, ChannelBinding, KeyType, Listen, Methods, Secret, Security, SslMode};
use crate::secret;

/// Longest name of a role, table, column or database: PostgreSQL's NAMEDATALEN - 1. It cuts longer names
/// silently, we refuse them.
const NAME_BYTES_MAX: usize = 63;

/// Longest path of a unix socket: `sun_path` without its final zero, on Linux.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Hosts of one address.
const HOSTS_MAX: usize = 16;

/// Port in the name of our own unix socket, unless given.
const LISTEN_PORT: u16 = 6432;

/// PostgreSQL's port, unless an address gives one.
const SERVER_PORT: u16 = 5432;

/// "a string", as in "must be an integer, but is a string".
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

pub(crate) fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        other => Err(format!("must be a string, but is {}", kind(other))),
    }
}

pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(format!("must be true or false, but is {}", kind(other))),
    }
}

/// "0770", as chmod takes it.
pub(crate) fn file_mode(value: &DeValue<'_>) -> Result<u32, String> {
    let typed = text(value)?;
    u32::from_str_radix(&typed, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("must be permissions in octal, as in \"0770\", but is {typed:?}"))
}

pub(crate) fn integer(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        let DeValue::Integer(typed) = value else {
            return Err(format!("must be an integer, but is {}", kind(value)));
        };
        match u64::from_str_radix(typed.as_str(), typed.radix()) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("must be from {} to {}, but is {typed}", range.start(), range.end())),
        }
    }
}

/// The units of a duration, longest first, in milliseconds.
const UNITS: &[(&str, u64)] =
    &[("d", 24 * 60 * 60_000), ("h", 60 * 60_000), ("min", 60_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

pub(crate) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Result<Duration, String> {
    move |value| {
        let typed = match value {
            DeValue::String(typed) => typed.trim(),
            DeValue::Integer(typed) => {
                return Err(format!("needs a unit, as in \"{typed}s\" (units are ms, s, m, h, d)"));
            }
            DeValue::Float(_) => return Err("needs a unit, as in \"5s\" (units are ms, s, m, h, d)".into()),
            other => return Err(format!("must be a duration such as \"5s\", but is {}", kind(other))),
        };
        let digits = typed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = typed.split_at(digits);
        let unit = unit.trim_start();
        if number.is_empty() {
            return Err(format!("must be a duration such as \"5s\", but is {typed:?}"));
        }
        if unit.is_empty() {
            return Err(format!("needs a unit, as in \"{number}s\" (units are ms, s, m, h, d)"));
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "must be one whole number with a unit (ms, s, m, h, d), as in \"5s\", but is {typed:?}"
            ));
        };
        let duration = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor));
        match duration.map(Duration::from_millis) {
            Some(duration) if range.contains(&duration) => Ok(duration),
            _ => Err(format!(
                "must be from {} to {}, but is {typed:?}",
                spell(*range.start()),
                spell(*range.end())
            )),
        }
    }
}

const SIZES: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// An amount of memory: "16MiB".
pub(crate) fn bytes(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        let typed = match value {
            DeValue::String(typed) => typed.trim(),
            DeValue::Integer(typed) => {
                return Err(format!("needs a unit, as in \"{typed}B\" (units are B, KiB, MiB, GiB, TiB)"));
            }
            other => return Err(format!("must be a size such as \"16MiB\", but is {}", kind(other))),
        };
        let digits = typed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = typed.split_at(digits);
        let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit.trim_start()) else {
            return Err(format!(
                "must be one whole number with a unit (B, KiB, MiB, GiB, TiB), as in \"16MiB\", but is {typed:?}"
            ));
        };
        match number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)) {
            Some(bytes) if range.contains(&bytes) => Ok(bytes),
            _ => Err(format!(
                "must be from {} to {}, but is {typed:?}",
                spell_bytes(*range.start()),
                spell_bytes(*range.end())
            )),
        }
    }
}

/// An amount of memory in its largest whole unit.
fn spell_bytes(bytes: u64) -> String {
    let whole = SIZES.iter().find(|(_, factor)| bytes.is_multiple_of(*factor) && bytes >= *factor);
    let (unit, factor) = whole.copied().unwrap_or(("B", 1));
    format!("\"{}{unit}\"", bytes / factor)
}

/// A duration in its largest whole unit.
fn spell(duration: Duration) -> String {
    let milliseconds = duration.as_millis() as u64;
    if milliseconds == 0 {
        return "\"0s\"".into();
    }
    let (unit, factor) =
        UNITS.iter().find(|(_, factor)| milliseconds.is_multiple_of(*factor)).unwrap_or(&("ms", 1));
    format!("\"{}{unit}\"", milliseconds / factor)
}

/// A role name. PostgreSQL allows any, we add only its length.
pub(crate) fn role(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    name_in_bounds(&name)?;
    Ok(name)
}

/// What every name of PostgreSQL obeys.
pub(crate) fn name_in_bounds(name: &str) -> Result<(), String> {
    if name.is_empty() {
        Err("must not be empty".into())
    } else if name.len() > NAME_BYTES_MAX {
        Err(format!("must be at most {NAME_BYTES_MAX} bytes, but is {}", name.len()))
    } else if name.contains('\0') {
        Err("must not contain a zero byte".into())
    } else {
        Ok(())
    }
}

/// A name that is ours alone (a shard's, a distribution's). It is typed in hints and in metrics, so it
/// needs no quotes anywhere.
pub(crate) fn label(name: &str) -> Result<String, String> {
    name_in_bounds(name)?;
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        Ok(name.into())
    } else {
        Err(format!("must consist of letters, digits, \"_\", \"-\" and \".\", but is {name:?}"))
    }
}

/// A dotted SQL name, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identifiers(pub Vec<String>);

impl Identifiers {
    /// Names are as SQL writes them, with one exception: an upper-case letter without quotes is refused,
    /// not folded. TOML's own quotes look like SQL's, so we cannot know which table was meant.
    pub fn parse(typed: &str) -> Result<Self, String> {
        let mut names = Vec::new();
        let mut rest = typed;
        loop {
            let (name, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted_name(quoted)?,
                None => plain_name(rest)?,
            };
            name_in_bounds(&name)?;
            names.push(name);
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(Self(names)),
                None => return Err("is not a name; an unusual one is quoted as in SQL".into()),
            }
        }
    }
}

/// What follows an opening quote: the name, and the rest after the closing one.
fn quoted_name(text: &str) -> Result<(String, &str), String> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let Some(end) = rest.find('"') else { return Err("has a quote that is not closed".into()) };
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None => return Ok((name, rest)),
        }
    }
}

/// A name without quotes, up to what cannot belong to it.
fn plain_name(text: &str) -> Result<(String, &str), String> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
    let end = text.find(|c| !inside(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err("has an empty name".into());
    }
    if name.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
        return Err("begins with a digit or \"$\"; an unusual name is quoted as in SQL".into());
    }
    if name.contains(|c: char| c.is_ascii_uppercase()) {
        let lower = name.to_ascii_lowercase();
        return Err(format!(
            "has upper-case letters: write {lower} as PostgreSQL folds it, or '\"{name}\"' if it was created \
             in quotes"
        ));
    }
    Ok((name.into(), rest))
}

/// One column name, written as in [`Identifiers`].
pub(crate) fn column(value: &DeValue<'_>) -> Result<String, String> {
    let typed = text(value)?;
    let mut names = Identifiers::parse(&typed).map_err(|reason| format!("{typed:?} {reason}"))?.0;
    match names.pop() {
        Some(column) if names.is_empty() => Ok(column),
        _ => Err(format!("must be a column of the table, but is {typed:?}")),
    }
}

fn port(digits: &str) -> Result<u16, String> {
    match digits.parse::<u16>() {
        Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("must have a port from 1 to 65535, but has {digits:?}")),
    }
}

/// "host:port", "[::1]:6432", "unix:/directory", "unix:/directory:6432".
pub(crate) fn listen(value: &DeValue<'_>) -> Result<Listen, String> {
    let typed = text(value)?;
    if let Some(path) = typed.strip_prefix("unix:") {
        let (directory, port) = match path.rsplit_once(':') {
            Some((directory, digits)) => (directory, port(digits)?),
            None => (path, LISTEN_PORT),
        };
        if !directory.starts_with('/') {
            return Err(format!("must be an absolute path after \"unix:\", but is {typed:?}"));
        }
        let socket_bytes = format!("{directory}/.s.PGSQL.{port}").len();
        if socket_bytes > SOCKET_PATH_BYTES_MAX {
            return Err(format!(
                "is too long for a socket: its path has {socket_bytes} bytes, at most {SOCKET_PATH_BYTES_MAX} fit"
            ));
        }
        return Ok(Listen::Unix { directory: PathBuf::from(directory), port });
    }
    match host_and_port(&typed)? {
        (host, _) if host == "*" => {
            Err("must name an address: \"0.0.0.0:6432\" for all of IPv4, \"[::]:6432\" for all".into())
        }
        (host, _) if host.is_empty() => Err(format!("has no host, as in \"127.0.0.1{typed}\"")),
        (host, Some(port)) => Ok(Listen::Tcp { host, port }),
        (_, None) => Err(format!("has no port, as in \"{typed}:6432\"")),
    }
}

/// Splits "host:port" and "[address]:port"; the brackets are gone in the result.
fn host_and_port(typed: &str) -> Result<(String, Option<u16>), String> {
    let (host, rest) = match typed.strip_prefix('[') {
        Some(inner) => {
            let Some((host, rest)) = inner.split_once(']') else {
                return Err("has a \"[\" that is not closed".into());
            };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("must have an IPv6 address between the brackets, but has {host:?}"));
            }
            (host, rest)
        }
        None => {
            if typed.matches(':').count() > 1 {
                return Err("must have an IPv6 address in brackets, as in \"[::1]:6432\"".into());
            }
            let end = typed.find(':').unwrap_or(typed.len());
            let (host, rest) = typed.split_at(end);
            if let Some(bad) =
                host.chars().find(|c| c.is_whitespace() || c.is_control() || "/@?#[]".contains(*c))
            {
                return Err(format!("has a host with {bad:?} in it"));
            }
            (host, rest)
        }
    };
    match rest.strip_prefix(':') {
        Some(digits) => Ok((host.into(), Some(port(digits)?))),
        None if rest.is_empty() => Ok((host.into(), None)),
        None => Err(format!("has {rest:?} after the host, where only a port may follow")),
    }
}

/// `postgres://host:port/dbname` or `postgres:///dbname?host=/directory&port=5432`.
pub(crate) fn address(value: &DeValue<'_>) -> Result<Address, String> {
    const FORM: &str = "\"postgres://host:port/dbname\"";
    let typed = text(value)?;
    let Some(rest) = typed.strip_prefix("postgres://").or_else(|| typed.strip_prefix("postgresql://")) else {
        return Err(format!("must be an address such as {FORM}"));
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = path.split_once('/').unwrap_or((path, ""));
    // First of all: nothing below may repeat a text that could hold a password.
    if rest.contains('@') {
        return Err(
            "must not hold a user or password: clients' belong in [[users]], pgherd's own in control".into(),
        );
    }
    let (first, more) =
        authority.split_once(',').map_or((authority, None), |(first, more)| (first, Some(more)));
    let (host, mut port_given) = authority_host(first)?;
    let mut others = Vec::new();
    for other in more.into_iter().flat_map(|more| more.split(',')) {
        match authority_host(other)? {
            (host, _) if host.is_empty() => return Err("has an empty host among several".into()),
            (host, given) => others.push((host, given.unwrap_or(SERVER_PORT))),
        }
    }
    if others.len() >= HOSTS_MAX {
        return Err(format!("has more than {HOSTS_MAX} hosts"));
    }
    if !others.is_empty() && host.is_empty() {
        return Err("has an empty host among several".into());
    }
    let mut balance = None;
    let mut host = (!host.is_empty()).then_some(host);
    let mut security = SecurityParameters::default();

    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "host" if host.is_none() => host = Some(percent_decoded(value)?),
            "port" if port_given.is_none() => port_given = Some(port(value)?),
            "host" | "port" => return Err(format!("says its {name} twice")),
            "user" | "password" => {
                return Err(format!(
                    "must not hold a {name}: clients' belong in [[users]], pgherd's own in control"
                ));
            }
            "dbname" => return Err(format!("must have its database name in the path, as in {FORM}")),
            "load_balance_hosts" => {
                balance = Some(match value {
                    "disable" => false,
                    "round-robin" => true,
                    other => {
                        return Err(format!(
                            "has load_balance_hosts={other}, which is disable or round-robin"
                        ));
                    }
                });
            }
            _ => match security.take(name, &percent_decoded(value)?) {
                Some(taken) => taken?,
                None => return Err(format!("with the parameter {name:?} is not supported yet")),
            },
        }
    }

    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Err(format!("has no host, as in {FORM}"));
    };
    for host in std::iter::once(&host).chain(others.iter().map(|(host, _)| host)) {
        if let Some(bad) = host.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("has a host with {bad:?} in it"));
        }
        if !host.starts_with('/') && host.contains(['/', ',']) {
            return Err(format!("has {host:?} as a host: a socket's directory is an absolute path"));
        }
        if host.starts_with('/') && !others.is_empty() {
            return Err("has the directory of a socket among several hosts".into());
        }
    }
    let dbname = percent_decoded(dbname)?;
    if dbname.is_empty() {
        return Err(format!("has no database name, as in {FORM}"));
    }
    name_in_bounds(&dbname).map_err(|reason| format!("has a database name that {reason}"))?;
    let security = security.finish(&host)?;
    let port = port_given.unwrap_or(SERVER_PORT);
    Ok(Address { host, port, others, balance: balance.unwrap_or(false), dbname, security })
}

/// One `host:port` of an address; the host may be empty.
fn authority_host(authority: &str) -> Result<(String, Option<u16>), String> {
    if authority.starts_with('[') {
        return host_and_port(authority);
    }
    let (host, digits) = authority.split_once(':').unwrap_or((authority, ""));
    let given = if digits.is_empty() { None } else { Some(port(digits)?) };
    Ok((percent_decoded(host)?, given))
}

fn percent_decoded(text: &str) -> Result<String, String> {
    const WRONG: &str = "has a \"%\" that is not followed by two hexadecimal digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'%' {
            bytes.push(*byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or(WRONG)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(WRONG.into());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 after its \"%\" are decoded".into())
}

/// PostgreSQL's names and aliases of the types that a hash key may have.
const KEY_TYPES: &[(&str, KeyType)] = &[
    ("smallint", KeyType::SmallInt),
    ("int2", KeyType::SmallInt),
    ("integer", KeyType::Integer),
    ("int", KeyType::Integer),
    ("int4", KeyType::Integer),
    ("bigint", KeyType::BigInt),
    ("int8", KeyType::BigInt),
    ("text", KeyType::Text),
    ("varchar", KeyType::Varchar),
    ("character varying", KeyType::Varchar),
    ("char", KeyType::Char),
    ("character", KeyType::Char),
    ("bpchar", KeyType::Char),
    ("uuid", KeyType::Uuid),
    ("bytea", KeyType::Bytea),
    ("boolean", KeyType::Boolean),
    ("bool", KeyType::Boolean),
    ("date", KeyType::Date),
    ("timestamp", KeyType::Timestamp),
    ("timestamp without time zone", KeyType::Timestamp),
    ("timestamptz", KeyType::TimestampTz),
    ("timestamp with time zone", KeyType::TimestampTz),
    ("numeric", KeyType::Numeric),
    ("decimal", KeyType::Numeric),
];

pub(crate) fn key_type(value: &DeValue<'_>) -> Result<KeyType, String> {
    let typed = text(value)?;
    let name = typed.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    if let Some((_, key_type)) = KEY_TYPES.iter().find(|(known, _)| *known == name) {
        return Ok(*key_type);
    }
    if name.contains('(') {
        return Err(format!("must be a type without a modifier, but is {typed:?}"));
    }
    let advice = did_you_mean(&name, KEY_TYPES.iter().map(|(known, _)| *known));
    Err(format!("= {typed:?} is not a type that a key can have{advice}"))
}

/// The password itself, a SCRAM verifier, "env:NAME" or "file:/path".
pub(crate) fn secret(value: &DeValue<'_>) -> Result<Secret, String> {
    let typed = text(value)?;
    if let Some(name) = typed.strip_prefix("env:") {
        return if name.is_empty() || name.contains(['=', '\0']) {
            Err("must name an environment variable after \"env:\"".into())
        } else {
            Ok(Secret::Environment(name.into()))
        };
    }
    if let Some(path) = typed.strip_prefix("file:") {
        return if path.starts_with('/') {
            Ok(Secret::File(PathBuf::from(path)))
        } else {
            Err("must have an absolute path after \"file:\"".into())
        };
    }
    match secret::classify(&typed)? {
        secret::ResolvedSecret::Plain(password) => Ok(Secret::Plain(password)),
        secret::ResolvedSecret::ScramVerifier(verifier) => Ok(Secret::ScramVerifier(verifier)),
        secret::ResolvedSecret::Md5(hash) => Ok(Secret::Md5(hash)),
    }
}

/// A file by its absolute path: where pgherd is started from must not matter.
pub(crate) fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    absolute(&text(value)?)
}

fn absolute(typed: &str) -> Result<PathBuf, String> {
    if typed.starts_with('/') && !typed.contains('\0') {
        Ok(PathBuf::from(typed))
    } else {
        Err(format!("must be an absolute path, but is {typed:?}"))
    }
}

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

pub(crate) fn ssl_mode(typed: &str) -> Result<SslMode, String> {
    match SSL_MODES.iter().find(|(name, _)| *name == typed) {
        Some((_, mode)) => Ok(*mode),
        None => Err(format!(
            "must be disable, allow, prefer, require, verify-ca or verify-full, but is {typed:?}{}",
            did_you_mean(typed, SSL_MODES.iter().map(|(name, _)| *name))
        )),
    }
}

/// The parameters of a server's address that protect the connection, as libpq spells them.
#[derive(Default)]
struct SecurityParameters {
    given: Security,
    mode: Option<SslMode>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl SecurityParameters {
    /// `None`: it is not one of them.
    fn take(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        let named =
            |result: Result<(), String>| Some(result.map_err(|reason| format!("has a {name} that {reason}")));
        match name {
            "sslmode" => named(ssl_mode(value).map(|mode| self.mode = Some(mode))),
            "sslrootcert" if value == "system" => {
                Some(Err("with sslrootcert=system is not supported yet".into()))
            }
            "sslrootcert" => named(absolute(value).map(|path| self.given.root = Some(path))),
            "sslcert" => named(absolute(value).map(|path| self.certificate = Some(path))),
            "sslkey" => named(absolute(value).map(|path| self.key = Some(path))),
            "channel_binding" => named(
                match value {
                    "disable" => Ok(ChannelBinding::Disable),
                    "prefer" => Ok(ChannelBinding::Prefer),
                    "require" => Ok(ChannelBinding::Require),
                    other => Err(format!("must be disable, prefer or require, but is {other:?}")),
                }
                .map(|binding| self.given.channel_binding = binding),
            ),
            "require_auth" => named(methods(value).map(|methods| self.given.require_auth = Some(methods))),
            _ => None,
        }
    }

    fn finish(self, host: &str) -> Result<Security, String> {
        let mut security = self.given;
        security.identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err("has an sslcert, but no sslkey".into()),
            (None, Some(_)) => return Err("has an sslkey, but no sslcert".into()),
        };
        security.mode = self.mode.unwrap_or_default();
        if host.starts_with('/') {
            // As libpq: a unix socket is never encrypted.
            if security.mode >= SslMode::Require && self.mode.is_some() {
                return Err("asks for TLS on a unix socket, which has none".into());
            }
            security.mode = SslMode::Disable;
        }
        if security.mode >= SslMode::VerifyCa && security.root.is_none() {
            return Err("verifies the server's certificate, but has no sslrootcert".into());
        }
        if security.channel_binding == ChannelBinding::Require && security.mode < SslMode::Require {
            return Err("requires channel binding, which needs sslmode=require or more".into());
        }
        Ok(security)
    }
}

fn methods(typed: &str) -> Result<Methods, String> {
    let mut methods = Methods::default();
    for name in typed.split(',') {
        match name {
            "none" => methods.none = true,
            "password" => methods.password = true,
            "md5" => methods.md5 = true,
            "scram-sha-256" => methods.scram = true,
            other => {
                return Err(format!("must list none, password, md5 and scram-sha-256, but has {other:?}"));
            }
        }
    }
    Ok(methods)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> DeValue<'_> {
        DeValue::String(text.into())
    }

    fn show<T: std::fmt::Debug>(result: Result<T, String>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(reason) => format!("error: {reason}"),
        }
    }

    #[test]
    fn a_duration_is_one_number_with_a_unit() {
        let cases = [
            ("250ms", "250ms"),
            ("5s", "5s"),
            ("10m", "600s"),
            ("10 min", "600s"),
            ("1h", "3600s"),
            ("1d", "86400s"),
            ("0s", "error: must be from \"1ms\" to \"1d\", but is \"0s\""),
            ("2d", "error: must be from \"1ms\" to \"1d\", but is \"2d\""),
            (
                "99999999999999999999s",
                "error: must be from \"1ms\" to \"1d\", but is \"99999999999999999999s\"",
            ),
            ("5", "error: needs a unit, as in \"5s\" (units are ms, s, m, h, d)"),
            ("", "error: must be a duration such as \"5s\", but is \"\""),
            ("soon", "error: must be a duration such as \"5s\", but is \"soon\""),
            (
                "1h30m",
                "error: must be one whole number with a unit (ms, s, m, h, d), as in \"5s\", but is \"1h30m\"",
            ),
            (
                "1.5s",
                "error: must be one whole number with a unit (ms, s, m, h, d), as in \"5s\", but is \"1.5s\"",
            ),
        ];
        let range = Duration::from_millis(1)..=Duration::from_secs(86_400);
        for (typed, expected) in cases {
            assert_eq!(show(duration(range.clone())(&string(typed))), expected, "{typed}");
        }
    }

    #[test]
    fn a_listener_is_a_host_with_a_port_or_a_directory() {
        let long = format!("unix:/{}", "x".repeat(100));
        let cases = [
            ("127.0.0.1:6432", "Tcp { host: \"127.0.0.1\", port: 6432 }"),
            ("localhost:1", "Tcp { host: \"localhost\", port: 1 }"),
            ("[::1]:6432", "Tcp { host: \"::1\", port: 6432 }"),
            ("unix:/run/pgherd", "Unix { directory: \"/run/pgherd\", port: 6432 }"),
            ("unix:/run/pgherd:7000", "Unix { directory: \"/run/pgherd\", port: 7000 }"),
            ("unix:run", "error: must be an absolute path after \"unix:\", but is \"unix:run\""),
            ("unix:/run:x", "error: must have a port from 1 to 65535, but has \"x\""),
            ("127.0.0.1", "error: has no port, as in \"127.0.0.1:6432\""),
            (":6432", "error: has no host, as in \"127.0.0.1:6432\""),
            (
                "*:6432",
                "error: must name an address: \"0.0.0.0:6432\" for all of IPv4, \"[::]:6432\" for all",
            ),
            ("h:0", "error: must have a port from 1 to 65535, but has \"0\""),
            ("h:65536", "error: must have a port from 1 to 65535, but has \"65536\""),
            ("h:+80", "error: must have a port from 1 to 65535, but has \"+80\""),
            ("::1:6432", "error: must have an IPv6 address in brackets, as in \"[::1]:6432\""),
            ("[::1", "error: has a \"[\" that is not closed"),
            ("[x]:1", "error: must have an IPv6 address between the brackets, but has \"x\""),
            ("[::1]6432", "error: has \"6432\" after the host, where only a port may follow"),
            (&long, "error: is too long for a socket: its path has 115 bytes, at most 107 fit"),
        ];
        for (typed, expected) in cases {
            assert_eq!(show(listen(&string(typed))), expected, "{typed}");
        }
    }

    #[test]
    fn an_address_names_a_host_and_a_database_and_nobody() {
        let cases = [
            ("postgres://h:5501/shop", "h|5501|shop"),
            ("postgresql://h/shop", "h|5432|shop"),
            ("postgres://[::1]:5501/shop", "::1|5501|shop"),
            ("postgres:///shop?host=/run/pg&port=5433", "/run/pg|5433|shop"),
            ("postgres:///shop?host=%2Frun%2Fpg", "/run/pg|5432|shop"),
            ("postgres://%2Frun%2Fpg:5433/shop", "/run/pg|5433|shop"),
            ("postgres://h/my%20shop", "h|5432|my shop"),
            ("h:5432/shop", "error: must be an address such as \"postgres://host:port/dbname\""),
            ("postgres://h:5432", "error: has no database name, as in \"postgres://host:port/dbname\""),
            ("postgres://h:5432/", "error: has no database name, as in \"postgres://host:port/dbname\""),
            ("postgres:///shop", "error: has no host, as in \"postgres://host:port/dbname\""),
            ("postgres://h:0/shop", "error: must have a port from 1 to 65535, but has \"0\""),
            ("postgres://h/%f", "error: has a \"%\" that is not followed by two hexadecimal digits"),
            ("postgres://h/%+f", "error: has a \"%\" that is not followed by two hexadecimal digits"),
            ("postgres://h/%ff", "error: is not UTF-8 after its \"%\" are decoded"),
            ("postgres://a:1,b:2/shop", "a|1|shop, or [(\"b\", 2)]"),
            ("postgres://a,[::1]:7,c/shop", "a|5432|shop, or [(\"::1\", 7), (\"c\", 5432)]"),
            ("postgres://a:1,/shop", "error: has an empty host among several"),
            ("postgres://,a/shop", "error: has an empty host among several"),
            (
                "postgres://a/shop?load_balance_hosts=random",
                "error: has load_balance_hosts=random, which is disable or round-robin",
            ),
            ("postgres://h/shop?sslmode=verify-full&sslrootcert=/r.pem", "h|5432|shop"),
            (
                "postgres://h/shop?connect_timeout=3",
                "error: with the parameter \"connect_timeout\" is not supported yet",
            ),
            (
                "postgres://h/shop?sslmode=requires",
                "error: has a sslmode that must be disable, allow, prefer, require, verify-ca or verify-full, but is \
                 \"requires\"; did you mean \"require\"?",
            ),
            (
                "postgres://h/shop?sslmode=verify-ca",
                "error: verifies the server's certificate, but has no sslrootcert",
            ),
            (
                "postgres://h/shop?sslrootcert=r.pem",
                "error: has a sslrootcert that must be an absolute path, but is \"r.pem\"",
            ),
            ("postgres://h/shop?sslcert=/c.pem", "error: has an sslcert, but no sslkey"),
            (
                "postgres://h/shop?require_auth=gss",
                "error: has a require_auth that must list none, password, md5 and scram-sha-256, but has \"gss\"",
            ),
            (
                "postgres://h/shop?channel_binding=require",
                "error: requires channel binding, which needs sslmode=require or more",
            ),
            (
                "postgres:///shop?host=/run&sslmode=require",
                "error: asks for TLS on a unix socket, which has none",
            ),
            ("postgres://h/shop?host=i", "error: says its host twice"),
            ("postgres:///shop?host=run", "run|5432|shop"),
            (
                "postgres:///shop?host=run/pg",
                "error: has \"run/pg\" as a host: a socket's directory is an absolute path",
            ),
            (
                "postgres://app:hunter2@h/shop",
                "error: must not hold a user or password: clients' belong in [[users]], pgherd's own in control",
            ),
            (
                "postgres://app:hunter/2@h/shop",
                "error: must not hold a user or password: clients' belong in [[users]], pgherd's own in control",
            ),
            (
                "postgres://h/shop?password=hunter2",
                "error: must not hold a password: clients' belong in [[users]], pgherd's own in control",
            ),
        ];
        for (typed, expected) in cases {
            let shown = match address(&string(typed)) {
                Ok(Address { host, port, dbname, others, .. }) if others.is_empty() => {
                    format!("{host}|{port}|{dbname}")
                }
                Ok(Address { host, port, dbname, others, .. }) => {
                    format!("{host}|{port}|{dbname}, or {others:?}")
                }
                Err(reason) => format!("error: {reason}"),
            };
            assert_eq!(shown, expected, "{typed}");
        }
    }

    #[test]
    fn a_table_is_named_as_in_sql_but_nothing_is_folded() {
        let cases = [
            ("orders", "orders"),
            ("public.orders", "public|orders"),
            ("größe", "größe"),
            ("\"Orders\"", "Orders"),
            ("\"my.schema\".\"a\"\"b\"", "my.schema|a\"b"),
            (
                "Orders",
                "error: has upper-case letters: write orders as PostgreSQL folds it, or '\"Orders\"' if it was \
                 created in quotes",
            ),
            ("", "error: has an empty name"),
            ("public.", "error: has an empty name"),
            ("1a", "error: begins with a digit or \"$\"; an unusual name is quoted as in SQL"),
            ("a b", "error: is not a name; an unusual one is quoted as in SQL"),
            ("\"a", "error: has a quote that is not closed"),
            ("\"\"", "error: must not be empty"),
        ];
        for (typed, expected) in cases {
            let shown = match Identifiers::parse(typed) {
                Ok(names) => names.0.join("|"),
                Err(reason) => format!("error: {reason}"),
            };
            assert_eq!(shown, expected, "{typed}");
        }
    }

    #[test]
    fn a_key_has_a_type_whose_hash_is_known() {
        let cases = [
            ("bigint", "BigInt"),
            ("INT8", "BigInt"),
            ("character  varying", "Varchar"),
            ("timestamp with time zone", "TimestampTz"),
            ("numeric(10,2)", "error: must be a type without a modifier, but is \"numeric(10,2)\""),
            ("bigin", "error: = \"bigin\" is not a type that a key can have; did you mean \"bigint\"?"),
            ("jsonb", "error: = \"jsonb\" is not a type that a key can have"),
        ];
        for (typed, expected) in cases {
            assert_eq!(show(key_type(&string(typed))), expected, "{typed}");
        }
    }
}
