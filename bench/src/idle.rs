//! What clients cost that do nothing: memory for each, and CPU for all of them.
//!
//! The memory is Pss of the proxy (its private memory, and its part of what it shares), less what the same process had
//! before they came. What the kernel keeps for a socket is in neither pooler's figure. Clients come in through
//! trust: nothing of a login stays, and ten thousand times SCRAM would take its time.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pgherd::demo::servers::{APP_ROLE, Herd};

use crate::cpu;
use crate::failure::Failure;
use crate::raw::{self, Client};
use crate::subjects::Subject;

pub const CLIENTS: u32 = 10_000;

/// Descriptors that the bench and a pooler need beside one for each client.
const FILES_BESIDE: u64 = 500;

/// Come and go before the first look: pools are filled, code is in memory.
const WARMING: u32 = 64;

/// Queries that are on their way at once.
const TOGETHER: usize = 100;

/// For what a pooler puts off.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Idle {
    pub clients: u32,
    pub connected: Cost,
    /// Each has asked once.
    pub queried: Cost,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// KiB for each client.
    pub kib: f64,
    /// Milliseconds of CPU in a second, of all clients together.
    pub cpu_ms: f64,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, connected, queried } = self;
        write!(
            f,
            "{clients} clients: {:.2} KiB each, {:.2} ms of CPU per second; after a query {:.2} KiB, {:.2} ms",
            connected.kib, connected.cpu_ms, queried.kib, queried.cpu_ms
        )
    }
}

/// Lets this process, and what it starts, have as many files as it may; so many clients are possible.
pub fn clients_possible() -> u32 {
    let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    let soft = setrlimit(Resource::RLIMIT_NOFILE, most, most)
        .and_then(|()| getrlimit(Resource::RLIMIT_NOFILE))
        .map_or(0, |(soft, _)| soft);
    u32::try_from(soft.saturating_sub(FILES_BESIDE)).unwrap_or(CLIENTS).min(CLIENTS)
}

/// Of a pooler that nobody has used yet.
///
/// # Errors
/// [`Failure::Program`] when a client is not let in, or its query fails.
pub fn take(herd: &Herd, subject: &mut Subject, clients: u32, seconds: u32) -> Result<Idle, Failure> {
    let (Some(process), Some(address)) = (subject.process_id(), subject.address) else {
        return Err(Failure::Program { what: "there is no pooler".into(), said: String::new() });
    };
    let database = &herd.options().database;
    measure(process, address, database, clients, seconds).map_err(|error| Failure::Program {
        what: format!("{clients} idle clients of {}: {error}", subject.pooler),
        said: subject.log_tail(),
    })
}

fn measure(
    process: u32,
    address: SocketAddr,
    database: &str,
    clients: u32,
    seconds: u32,
) -> io::Result<Idle> {
    let connect = |count: u32| -> io::Result<Vec<Client>> {
        (0..count).map(|_| Client::connect(address, APP_ROLE, database)).collect()
    };
    let mut warming = connect(WARMING)?;
    ask(&mut warming)?;
    drop(warming);
    thread::sleep(SETTLE);
    let before = pss_kib(process)?;

    let mut connected = connect(clients)?;
    let look = || -> io::Result<Cost> {
        thread::sleep(SETTLE);
        let (started, from) = (Instant::now(), cpu::process_ns(process).unwrap_or(0));
        thread::sleep(Duration::from_secs(seconds.into()));
        let spent = cpu::process_ns(process).unwrap_or(0).saturating_sub(from);
        Ok(Cost {
            kib: (pss_kib(process)? - before) / f64::from(clients),
            cpu_ms: spent as f64 / 1e6 / started.elapsed().as_secs_f64(),
        })
    };
    let first = look()?;
    ask(&mut connected)?;
    Ok(Idle { clients, connected: first, queried: look()? })
}

/// Each one query; never more than [`TOGETHER`] of them at once.
fn ask(clients: &mut [Client]) -> io::Result<()> {
    let query = raw::query("SELECT 1");
    for some in clients.chunks_mut(TOGETHER) {
        some.iter_mut().try_for_each(|client| client.send(&query))?;
        some.iter_mut().try_for_each(Client::wait)?;
    }
    Ok(())
}

/// "Pss:    1234 kB"
fn pss_kib(process: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    read_pss(&text).ok_or_else(|| io::Error::other("smaps_rollup has no Pss"))
}

fn read_pss(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::Stub;

    #[test]
    fn pss_is_read() {
        let text = "5567-7ffe ---p 00000000 00:00 0    [rollup]\nRss:     9000 kB\nPss:     1234 kB\nPss_Anon:  7 kB\n";
        assert_eq!(read_pss(text), Some(1234.0));
        assert_eq!(read_pss("Rss: 1 kB\n"), None);
    }

    #[test]
    fn clients_come_and_ask_and_are_counted() {
        assert!(clients_possible() > 0);
        let stub = Stub::start(1).unwrap();
        let idle = measure(std::process::id(), stub.address, "shop", 200, 0).unwrap();
        assert_eq!(idle.clients, 200);
        assert!(idle.queried.kib.is_finite(), "{idle}");
    }
}
