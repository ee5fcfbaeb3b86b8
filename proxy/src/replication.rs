//! Replication connections: a server of their own, one to one, in both directions at once.
//!
//! Invariant: from the welcome on, every byte goes on as it came, in both directions independently, until one side closes; pgherd
//! says nothing in between. So whatever a walsender and its client say to each other works, CopyBoth above all.
//!
//! Such a server is not one of the pool: it takes no place of `size`. Clients are counted like all others; how many servers there
//! may be is PostgreSQL's own limit (max_wal_senders).
//!
//! Limits: [`BUFFER_BYTES`] in each direction; a side that does not read stops the other.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pgherd_pool::{Listed, connect};
use pgherd_router::ShardId;
use pgherd_wire::Stream;
use pgherd_wire::message::Report;

use crate::cancel::{CancelEntry, CancelKey};
use crate::database::{Database, UserPools};
use crate::handshake;
use crate::roster::{Card, Order, Phase};
use crate::serve::Live;
use crate::session::settings::{Settings, Value};

const BUFFER_BYTES: usize = 32 * 1024;

/// How long a client may take to read what its server said last.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// In a client's `options`: `-c pgherd.shard=s1`, `-c pgherd.database=shop`.
const SHARD: &str = "pgherd.shard";
const DATABASE: &str = "pgherd.database";

/// What kind of replication a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    Physical,
    Logical,
}

impl Replication {
    /// The startup parameter, as PostgreSQL reads it (postmaster.c, ProcessStartupPacket; bool.c, parse_bool). `None`: an
    /// ordinary connection.
    ///
    /// # Errors
    /// 22023: neither.
    pub fn wanted(value: &str) -> Result<Option<Self>, Report> {
        if value == "database" {
            return Ok(Some(Self::Logical));
        }
        let lower = value.to_ascii_lowercase();
        // Beginnings of the words; "o" could be both.
        let begins =
            |word: &str, shortest: usize| lower.len() >= shortest && word.starts_with(lower.as_str());
        if begins("true", 1) || begins("yes", 1) || lower == "on" || lower == "1" {
            return Ok(Some(Self::Physical));
        }
        if begins("false", 1) || begins("no", 1) || begins("off", 2) || lower == "0" {
            return Ok(None);
        }
        let why = format!("invalid value for parameter \"replication\": \"{value}\"");
        Err(Report::fatal("22023", why).hint("Valid values are: \"false\", 0, \"true\", 1, \"database\"."))
    }

    fn value(self) -> &'static str {
        match self {
            Self::Physical => "true",
            Self::Logical => "database",
        }
    }

    /// As the console says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Logical => "logical",
        }
    }
}

/// Which database is meant. Physical replication is a server's as a whole, so its programs name none ("replication").
pub fn database_of(kind: Replication, live: &Live, asked: String, settings: &Settings) -> String {
    if let Some(named) = settings.get(DATABASE) {
        return named.text().to_owned();
    }
    let mut all = live.databases.keys();
    match (all.next(), all.next()) {
        (Some(only), None) if kind == Replication::Physical && !live.databases.contains_key(&asked) => {
            only.clone()
        }
        _ => asked,
    }
}

/// Which server is meant.
///
/// # Errors
/// 0A000: a sharded database, and no shard is named. 22023: there is no such shard.
pub fn server_of(db: &Database, settings: &Settings) -> Result<ShardId, Report> {
    match settings.get(SHARD).map(Value::text) {
        Some(name) => {
            let found = db.config.shards.iter().position(|shard| shard.name == name);
            found.map(|at| ShardId(at as u16)).ok_or_else(|| {
                Report::fatal("22023", format!("database \"{}\" has no shard \"{name}\"", db.name))
            })
        }
        None if db.config.shards.len() == 1 => Ok(ShardId(0)),
        None => Err(Report::fatal(
            "0A000",
            "a replication connection to a sharded database must name one of its servers",
        )
        .detail("Each server has a write-ahead log of its own.")
        .hint(format!("Connect with options='-c {SHARD}=NAME', or to the server itself."))),
    }
}

/// A walsender that is ready, and its client that is not welcomed yet.
pub struct Linked {
    server: Stream,
    parameters: Vec<(Box<str>, Box<str>)>,
    pub listed: Listed,
}

/// Logs in to the server as the client, with what the client's startup packet said.
///
/// # Errors
/// What the server said, or that it cannot be reached.
pub async fn link(
    kind: Replication,
    pools: &UserPools,
    shard: ShardId,
    settings: &Settings,
    cancel: &CancelEntry,
) -> Result<Linked, Report> {
    let mut more = vec![("replication", kind.value())];
    let own = settings.names().filter(|name| !matches!(*name, SHARD | DATABASE));
    more.extend(own.filter_map(|name| settings.get(name).map(|value| (name, value.text()))));
    let pool = pools.shard(shard);
    let login = connect::login_with(pool.target(), &more, pools.settings.connect_timeout);
    let login = login.await.map_err(|error| {
        let mut report = error.report();
        report.severity = "FATAL".into();
        report.raw = None;
        report
    })?;
    cancel.add(login.cancel.clone());
    let listed = Listed::alone(u64::from(login.cancel.process_id().unwrap_or(1)), &login);
    let parameters = login.parameters.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(Linked { server: login.stream, parameters, listed })
}

/// Bytes on their way in one direction.
struct Pipe {
    block: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    passed: u64,
}

impl Pipe {
    fn new(first: &[u8]) -> Self {
        let mut block = vec![0; BUFFER_BYTES.max(first.len())];
        block[..first.len()].copy_from_slice(first);
        Self { block, start: 0, end: first.len(), ended: false, passed: 0 }
    }

    /// Ready when the sender has ended and all it sent is written, or when the receiver takes no more.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream) -> Poll<()> {
        loop {
            while self.start < self.end {
                match to.poll_write(cx, &self.block[self.start..self.end]) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(n)) if n > 0 => {
                        self.start += n;
                        self.passed += n as u64;
                    }
                    Poll::Ready(_) => return Poll::Ready(()),
                }
            }
            if self.ended {
                return Poll::Ready(());
            }
            (self.start, self.end) = (0, 0);
            match from.poll_read(cx, &mut self.block) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 => self.end = n,
                Poll::Ready(Err(e)) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Poll::Ready(_) => self.ended = true,
            }
        }
    }
}

/// Welcomes the client and serves it until one side has ended.
pub async fn serve(
    mut client: Stream,
    linked: Linked,
    kind: Replication,
    key: CancelKey,
    rest: &[u8],
    card: &Rc<Card>,
    worker: usize,
) {
    let Linked { mut server, parameters, listed } = linked;
    let mut welcome = handshake::welcome(None, &parameters);
    handshake::welcomed(&mut welcome, key);
    if client.write_all(&welcome).await.is_err() {
        return;
    }
    card.phase.set(Phase::Replicating(kind));
    card.server.set(listed.number);
    card.walsender.replace(Some(Arc::new(listed)));
    let stats = card.pools.borrow().stats.clone();
    stats.of(worker).logins.add(1);
    let (mut up, mut down) = (Pipe::new(rest), Pipe::new(&[]));
    let told = poll_fn(|cx| {
        card.served_by(cx.waker());
        if matches!(card.order(), Some(Order::End(_) | Order::Leave)) {
            return Poll::Ready(true);
        }
        // A client that has ended wants no more; what a server said last is still to be read.
        let client_ended = up.poll(cx, &mut client, &mut server).is_ready();
        let server_ended = down.poll(cx, &mut server, &mut client).is_ready();
        if client_ended || server_ended { Poll::Ready(false) } else { Poll::Pending }
    })
    .await;
    if !told && !up.ended {
        // The server takes no more: it may have said why.
        let last = poll_fn(|cx| down.poll(cx, &mut server, &mut client));
        let _ = tokio::time::timeout(LAST_WORDS, last).await;
    }
    stats.of(worker).received.add(up.passed);
    stats.of(worker).sent.add(down.passed);
    card.cancel.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_startup_parameter_is_read_as_postgresql_reads_it() {
        let physical = Ok(Some("physical"));
        let cases = [
            ("database", Ok(Some("logical"))),
            ("true", physical),
            ("TRUE", physical),
            ("t", physical),
            ("on", physical),
            ("yes", physical),
            ("1", physical),
            ("false", Ok(None)),
            ("of", Ok(None)),
            ("off", Ok(None)),
            ("n", Ok(None)),
            ("0", Ok(None)),
            ("o", Err("22023")),
            ("", Err("22023")),
            ("Database", Err("22023")),
            ("2", Err("22023")),
        ];
        for (value, expected) in cases {
            let got = Replication::wanted(value).map(|kind| kind.map(Replication::name));
            assert_eq!(
                got.as_ref().map_err(|report| report.sqlstate.as_str()),
                expected.as_ref().map_err(|code| *code),
                "{value:?}"
            );
        }
    }
}
