//! One run of pgbench against one subject, and what it says.
//!
//! Invariant: a [`Round`] exists only for a run in which every transaction succeeded.
//!
//! All figures of a round are of one window: from a little after the first transaction, when clients have
//! logged in (SCRAM costs a proxy more than hundreds of transactions) and pools are filled, to the last moment
//! at which all clients were there. pgbench's own log says which transactions ended in it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use pgherd::demo::servers::{Herd, leashed};

use crate::cpu::{Snapshot, Watched};
use crate::failure::Failure;
use crate::load::{Load, Until};
use crate::subjects::{Subject, tail};

/// From the first transaction to the window.
const WARM_UP_US: u64 = 300_000;

/// A shorter window says nothing: a machine that slow needs longer runs.
const WINDOW_US_MIN: u64 = 500_000;

/// A run may have to be repeated that often.
const ATTEMPTS_MAX: u32 = 3;

/// Between two readings of the counters.
const READ_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    pub tps: f64,
    pub mean_ms: f64,
    pub p99_ms: f64,
    /// Per transaction; `None` without a proxy.
    pub proxy_us: Option<f64>,
    pub server_us: f64,
    /// See [`crate::cpu::Spent`].
    pub others: Option<f64>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} tx/s, p99 {:.2} ms, server {:.1} us", self.tps, self.p99_ms, self.server_us)?;
        if let Some(proxy_us) = self.proxy_us {
            write!(f, ", proxy {proxy_us:.1} us")?;
        }
        match self.others {
            Some(others) if others >= 0.1 => {
                write!(f, " (others took {:.0} % of the machine)", others * 100.0)
            }
            _ => Ok(()),
        }
    }
}

/// `pgbench -i`.
///
/// # Errors
/// [`Failure::Program`] with what pgbench said.
pub fn initialise(herd: &Herd, url: &str, scale: u32) -> Result<(), Failure> {
    let folder = Folder::of(herd)?;
    let arguments = ["-i".to_owned(), "-q".into(), "-s".into(), scale.to_string()];
    pgbench(herd, &folder, url, &arguments)?.wait(&folder, "pgbench -i").map(drop)
}

/// Runs `load` to its end, measuring nothing.
///
/// # Errors
/// [`Failure::Program`]: pgbench failed, or one of its transactions.
pub fn run(herd: &Herd, subject: &mut Subject, load: &Load, until: Until) -> Result<(), Failure> {
    let folder = Folder::of(herd)?;
    let running = pgbench(herd, &folder, &subject.url, &load.arguments(until, herd.folder()))?;
    let ended = running.wait(&folder, &format!("pgbench through {}, {load}", subject.pooler));
    explained(ended.and_then(|said| no_failures(&said, subject, load)), subject)
}

/// Runs `load` and reads the figures of its window; again when the machine was so busy that there is none.
///
/// # Errors
/// [`Failure::Program`]: pgbench failed, or one of its transactions, or the window is always too short.
pub fn take(herd: &Herd, subject: &mut Subject, load: &Load) -> Result<Round, Failure> {
    let mut attempts = 1;
    loop {
        // Longer each time: a busy machine may need seconds until all clients are in.
        match attempt(herd, subject, &Load { seconds: load.seconds * attempts, ..*load })? {
            Ok(round) => return Ok(round),
            Err(why) if attempts < ATTEMPTS_MAX => eprintln!("{load}, {}: again: {why}", subject.pooler),
            Err(why) => {
                return Err(Failure::Program {
                    what: format!(
                        "{load}, {}: no figure: {why}; let it run longer (--seconds)",
                        subject.pooler
                    ),
                    said: String::new(),
                });
            }
        }
        attempts += 1;
    }
}

/// The inner error is no failure: why this run has no figure.
fn attempt(herd: &Herd, subject: &mut Subject, load: &Load) -> Result<Result<Round, String>, Failure> {
    let folder = Folder::of(herd)?;
    let mut arguments = load.arguments(Until::Seconds(load.seconds), herd.folder());
    arguments.extend(["--log".into(), format!("--log-prefix={}", folder.path("log").display())]);
    let mut running = pgbench(herd, &folder, &subject.url, &arguments)?;

    let watched =
        Watched { proxy: subject.process_id(), postmasters: subject.postmasters(herd), load: running.0.id() };
    let mut snapshots = Vec::new();
    while running.0.try_wait().map_err(Failure::io("wait for pgbench"))?.is_none() {
        snapshots.push(Snapshot::take(&watched));
        thread::sleep(READ_EVERY);
    }
    let what = format!("pgbench through {}, {load}", subject.pooler);
    let ended = running.wait(&folder, &what);
    explained(ended.and_then(|said| no_failures(&said, subject, load)), subject)?;

    let log = folder.logs()?;
    Ok(evaluate(&snapshots, &log))
}

/// One line of pgbench's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Logged {
    client: u32,
    ended_us: u64,
    took_us: u64,
}

/// # Errors
/// Why the window is too short.
fn evaluate(snapshots: &[Snapshot], log: &[Logged]) -> Result<Round, String> {
    // All clients are there: a server process that has ended by the second reading took its time with it.
    let mut clients: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for Logged { client, ended_us, .. } in log {
        let (first, last) = clients.entry(*client).or_insert((*ended_us, *ended_us));
        (*first, *last) = ((*first).min(*ended_us), (*last).max(*ended_us));
    }
    let first = clients.values().map(|(first, _)| *first).max().ok_or("no transaction")?;
    let last = clients.values().map(|(_, last)| *last).min().unwrap_or(first);
    let from = snapshots.iter().find(|snapshot| snapshot.at_us >= first + WARM_UP_US);
    let to = snapshots.iter().rfind(|snapshot| snapshot.at_us <= last);
    let window_us = from.zip(to).and_then(|(from, to)| to.at_us.checked_sub(from.at_us));
    let (Some(from), Some(to), Some(window_us @ WINDOW_US_MIN..)) = (from, to, window_us) else {
        return Err(format!(
            "all {} clients were there for {} ms only, in which the counters were read {} times",
            clients.len(),
            last.saturating_sub(first) / 1000,
            snapshots.iter().filter(|snapshot| (first..last).contains(&snapshot.at_us)).count(),
        ));
    };

    let within = |logged: &&Logged| (from.at_us..to.at_us).contains(&logged.ended_us);
    let mut took: Vec<u64> = log.iter().filter(within).map(|logged| logged.took_us).collect();
    took.sort_unstable();
    let count = took.len() as f64;
    let p99 = (took.len() * 99).div_ceil(100).checked_sub(1).and_then(|index| took.get(index));
    let p99 = *p99.ok_or("no transaction ended in the window")?;
    let spent = from.until(to);
    Ok(Round {
        tps: count / (window_us as f64 / 1e6),
        mean_ms: took.iter().sum::<u64>() as f64 / count / 1e3,
        p99_ms: p99 as f64 / 1e3,
        proxy_us: spent.proxy_ns.map(|ns| ns as f64 / 1e3 / count),
        server_us: spent.servers_ns as f64 / 1e3 / count,
        others: spent.others,
    })
}

/// "client transaction took_us script epoch_s us ..."; a word in place of the third is a failure.
fn read_log_line(line: &str) -> Option<Logged> {
    let mut fields = line.split(' ').map(|field| field.parse::<u64>().ok());
    let client = u32::try_from(fields.next()??).ok()?;
    let took_us = fields.nth(1)??;
    let (seconds, microseconds) = (fields.nth(1)??, fields.next()??);
    Some(Logged { client, ended_us: seconds * 1_000_000 + microseconds, took_us })
}

fn no_failures(said: &str, subject: &Subject, load: &Load) -> Result<(), Failure> {
    // PostgreSQL 14 and older have no such line; there a failure ends the run.
    let line = said.lines().find_map(|line| line.strip_prefix("number of failed transactions: "));
    match line.and_then(|rest| rest.split(' ').next()) {
        None | Some("0") => Ok(()),
        Some(count) => Err(Failure::Program {
            what: format!("{count} failed transactions through {}, {load}", subject.pooler),
            said: tail(said),
        }),
    }
}

/// An error of a client is usually explained by the end of the proxy's log.
fn explained(result: Result<(), Failure>, subject: &mut Subject) -> Result<(), Failure> {
    match result {
        Err(Failure::Program { what, said }) => {
            let log = subject.log_tail();
            let said = if log.is_empty() { said } else { format!("{said}\nits log:\n{log}") };
            Err(Failure::Program { what, said })
        }
        other => other,
    }
}

/// What one run of pgbench writes; gone with it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(herd: &Herd) -> Result<Self, Failure> {
        tempfile::tempdir_in(herd.folder()).map(Self).map_err(Failure::io("create a temporary folder"))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Of all threads of pgbench, each of which has a file of its own.
    fn logs(&self) -> Result<Vec<Logged>, Failure> {
        let read = || -> std::io::Result<Vec<Logged>> {
            let mut logged = Vec::new();
            for entry in fs::read_dir(self.0.path())? {
                let entry = entry?;
                if entry.file_name().as_encoded_bytes().starts_with(b"log.") {
                    logged.extend(fs::read_to_string(entry.path())?.lines().filter_map(read_log_line));
                }
            }
            Ok(logged)
        };
        read().map_err(Failure::io("read pgbench's log"))
    }
}

/// pgbench, which ends with the function that started it.
struct Running(Child);

impl Running {
    fn wait(mut self, folder: &Folder, what: &str) -> Result<String, Failure> {
        let status = self.0.wait().map_err(Failure::io("wait for pgbench"))?;
        let read = |name: &str| fs::read_to_string(folder.path(name)).unwrap_or_default();
        match status.success() {
            true => Ok(read("out")),
            false => Err(Failure::Program { what: format!("{what} ({status})"), said: tail(&read("err")) }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pgbench(herd: &Herd, folder: &Folder, url: &str, arguments: &[String]) -> Result<Running, Failure> {
    let mut command = leashed("KILL", herd.binaries().program("pgbench"));
    plain_environment(&mut command);
    command.args(arguments).arg(url);
    let output = |path: &Path| File::create(path).map_err(Failure::io("create a file"));
    command.stdout(output(&folder.path("out"))?).stderr(output(&folder.path("err"))?);
    herd.keeper().spawn(command).map(Running).map_err(Failure::io("start pgbench"))
}

/// Nothing of the caller's `PG*` variables, and messages in English, which is what we read.
pub fn plain_environment(command: &mut Command) {
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(variable);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Door, Protocol, Script};
    use pgherd::demo::servers::HerdOptions;

    #[test]
    fn a_line_of_the_log_is_read_and_a_failure_is_none() {
        let cases = [
            ("0 7 412 0 1700000000 250000", Some((0, 1_700_000_000_250_000, 412))),
            ("31 199 2241 0 1177884533 000002 15", Some((31, 1_177_884_533_000_002, 2241))),
            ("3 0 failed 0 1499414498 84905", None),
            ("0 7 412 0", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|(client, ended_us, took_us)| Logged { client, ended_us, took_us });
            assert_eq!(read_log_line(line), expected, "{line}");
        }
    }

    #[test]
    fn a_round_against_a_real_server_has_all_figures_and_failures_are_ours() {
        let herd = Herd::start(1, HerdOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        initialise(&herd, &herd.url(0), 1).unwrap_or_else(|failure| panic!("{failure}"));
        let load = Load {
            script: Script::Tpcb,
            protocol: Protocol::Prepared,
            clients: 2,
            jobs: 1,
            seconds: 2,
            door: Door::Scram,
        };
        let mut direct = Subject::direct(&herd);
        let round = take(&herd, &mut direct, &load).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(round.tps > 0.0 && round.mean_ms > 0.0 && round.server_us > 0.0, "{round:?}");
        assert!(round.p99_ms >= round.mean_ms / 10.0 && round.proxy_us.is_none(), "{round:?}");

        herd.psql(0, "ALTER TABLE pgbench_history ADD CHECK (delta < 0) NOT VALID").unwrap();
        let failure = take(&herd, &mut direct, &load).unwrap_err().to_string();
        assert!(failure.contains("violates check constraint"), "{failure}");
    }
}
