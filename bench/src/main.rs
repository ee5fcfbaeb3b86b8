//! `make bench`: a direct connection, PgBouncer and pgherd, measured in one interleaved run.
//!
//! Question: what does a transaction cost that goes through pgherd, beside PgBouncer on the same machine in
//! the same minute? The budget is in the table of ratios: below 1.00 the machine spends less with pgherd.
//!
//! Invariant: slow is never a failure, a failed transaction always is. Everything that it starts ends with it,
//! by Ctrl-C too (see `pgherd::demo::servers`).
//!
//! Start reading at [`bench`]; `round` is how one figure is taken.

mod cpu;
mod failure;
mod instructions;
mod report;
mod round;
mod subjects;
mod syscalls;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use pgherd::demo::servers::{Herd, HerdOptions};

use failure::Failure;
use report::{Results, Setting};
use round::{Load, Protocol, Script};
use subjects::{PgBouncer, Pgherd, Pooler, Subject};

/// Server connections of each pool: smaller than 32 and 200 clients, so that these share.
pub const POOL: u32 = 20;

/// Servers of the sharded row, beside the one that all subjects share.
const SHARDS: usize = 4;

/// What superusers, pgherd's own role and autovacuum's launcher may need beside the clients of a direct run.
const CONNECTIONS_BESIDE: u32 = 100;

/// A direct connection, PgBouncer and pgherd side by side: throughput, latency, and CPU per transaction.
/// Prints a table in Markdown; fails when a transaction fails, never for being slow.
#[derive(Debug, Parser)]
#[command(name = "pgherd-bench", version)]
struct Options {
    /// About two minutes: 32 clients only, TPC-B in the prepared protocol only, 3 rounds of 3 seconds
    #[arg(long)]
    quick: bool,

    /// One of the two scripts
    #[arg(long, value_enum)]
    only: Option<Script>,

    /// Seconds of one run [default: 4; quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: Option<u32>,

    /// How often each subject gets its turn; the medians are shown [default: 4; quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// Numbers of clients for select-only [default: 1,32,200; quick: 32]. TPC-B always has 32
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=5000))]
    clients: Vec<u32>,

    /// Protocols [default: all; quick: prepared only for TPC-B]
    #[arg(long, value_enum, value_delimiter = ',')]
    protocols: Vec<Protocol>,

    /// pgbench's scale: 100,000 accounts for each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,

    /// Threads of pgbench for select-only (never more than clients). For TPC-B each client has its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,

    /// pgherd's worker threads; PgBouncer has one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: u32,

    /// Subjects to leave out
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<Leave>,

    /// Count system calls per select-only transaction with strace, instead of measuring time
    #[arg(long)]
    syscalls: bool,

    /// Count pgherd's instructions per select-only transaction with callgrind, instead of measuring time
    #[arg(long, conflicts_with = "syscalls")]
    instructions: bool,

    /// The program to measure [default: pgherd in the folder of this program]
    #[arg(long)]
    pgherd: Option<PathBuf>,

    /// PgBouncer 1.21 or newer, or a command that starts it
    #[arg(long, env = "PGBOUNCER", default_value = "pgbouncer")]
    pgbouncer: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Leave {
    Direct,
    Pgbouncer,
    Pgherd,
    Shards,
}

/// What is measured, made from the options.
#[derive(Debug)]
struct Plan {
    rounds: u32,
    loads: Vec<Load>,
}

impl Options {
    fn plan(&self) -> Plan {
        let (seconds, rounds) = if self.quick { (3, 3) } else { (4, 4) };
        let seconds = self.seconds.unwrap_or(seconds);
        let clients = match (&self.clients[..], self.quick) {
            ([], true) => vec![32],
            ([], false) => vec![1, 32, 200],
            (chosen, _) => chosen.to_vec(),
        };
        let chosen = |default: &[Protocol]| match &self.protocols[..] {
            [] => default.to_vec(),
            chosen => chosen.to_vec(),
        };
        let load = |script, protocol, clients: u32| {
            let jobs = match script {
                Script::Select => self.jobs.min(clients),
                // A thread of pgbench stops for all of its clients while one of them waits for a PREPARE. With a
                // pool smaller than the clients, those that are left in the middle of a transaction hold what it
                // waits for.
                Script::Tpcb => clients,
            };
            Load { script, protocol, clients, jobs, seconds }
        };

        let mut loads = Vec::new();
        if self.wants(Script::Select) {
            for clients in clients {
                loads.extend(
                    chosen(&Protocol::ALL).iter().map(|protocol| load(Script::Select, *protocol, clients)),
                );
            }
        }
        if self.wants(Script::Tpcb) {
            let usual: &[Protocol] =
                if self.quick { &[Protocol::Prepared] } else { &[Protocol::Prepared, Protocol::Simple] };
            loads.extend(chosen(usual).iter().map(|protocol| load(Script::Tpcb, *protocol, 32)));
        }
        Plan { rounds: self.rounds.unwrap_or(rounds), loads }
    }

    fn wants(&self, script: Script) -> bool {
        self.only.is_none_or(|only| only == script)
    }

    fn leaves(&self, subject: Leave) -> bool {
        self.without.contains(&subject)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match bench(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\npgherd-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<(), Failure> {
    let plan = options.plan();
    let sharded = options.wants(Script::Tpcb)
        && !options.leaves(Leave::Shards)
        && !options.syscalls
        && !options.instructions;

    // What may be missing is looked for before anything is started.
    let pgherd = Pgherd::find(options.pgherd.as_deref(), options.workers);
    let pgherd = if options.leaves(Leave::Pgherd) && !sharded { None } else { Some(pgherd?) };
    let pgbouncer = if options.leaves(Leave::Pgbouncer) {
        Err("left out by --without".to_owned())
    } else {
        PgBouncer::find(&options.pgbouncer)
    };
    if let Err(why) = &pgbouncer {
        eprintln!("PgBouncer is left out: {why}");
    }

    eprintln!(
        "starting PostgreSQL, {} pgbench scale {}",
        if sharded { "1 + 4 servers," } else { "1 server," },
        options.scale
    );
    let herd = start_servers(options, &plan, if sharded { 1 + SHARDS } else { 1 })?;
    round::initialise(&herd, &herd.url(0), options.scale)?;

    let mut subjects = Vec::new();
    if !options.leaves(Leave::Direct) {
        subjects.push(Subject::direct(&herd));
    }
    if let Ok(pgbouncer) = &pgbouncer {
        subjects.push(pgbouncer.start(&herd)?);
    }
    if options.instructions {
        let setting = setting(options, &herd, Err("not asked for".into()), pgherd.as_ref())?;
        let pgherd = pgherd.ok_or_else(|| Failure::NoPgherd("left out by --without".into()))?;
        return instructions::count(&herd, &pgherd, &plan.loads, &setting);
    }
    if let Some(pgherd) = pgherd.as_ref().filter(|_| !options.leaves(Leave::Pgherd)) {
        subjects.push(pgherd.start_single(&herd)?);
    }
    if let Some(pgherd) = pgherd.as_ref().filter(|_| sharded) {
        let subject = pgherd.start_sharded(&herd, 1..=SHARDS)?;
        round::initialise(&herd, &subject.url, options.scale)?;
        subjects.push(subject);
    }
    for server in 0..herd.len() {
        herd.psql(server, "VACUUM ANALYZE; CHECKPOINT;")?;
    }

    let pgbouncer = pgbouncer.map(|pgbouncer| pgbouncer.version().to_owned());
    let setting = setting(options, &herd, pgbouncer, pgherd.as_ref())?;
    if options.syscalls {
        return syscalls::count(&herd, &mut subjects, &plan.loads, &setting);
    }

    let mut results = Results::default();
    measure(&herd, &mut subjects, &plan, &mut results)?;
    print!("{}", report::markdown(&setting, &plan, &results));
    Ok(())
}

fn setting(
    options: &Options,
    herd: &Herd,
    pgbouncer: Result<String, String>,
    pgherd: Option<&Pgherd>,
) -> Result<Setting, Failure> {
    Ok(Setting {
        postgresql: herd.psql(0, "SELECT split_part(current_setting('server_version'), ' ', 1)")?,
        pgbouncer,
        pgherd: pgherd.map(|pgherd| pgherd.version().to_owned()),
        workers: options.workers,
        scale: options.scale,
    })
}

/// Every load once for each subject, then all of it again: a minute in which the machine is busy with something
/// else spoils one round of everything instead of all rounds of one thing.
fn measure(herd: &Herd, subjects: &mut [Subject], plan: &Plan, results: &mut Results) -> Result<(), Failure> {
    for number in 0..plan.rounds {
        for load in &plan.loads {
            let mut turn: Vec<&mut Subject> =
                subjects.iter_mut().filter(|subject| subject.takes(load.script)).collect();
            if turn.is_empty() {
                continue;
            }
            // None always comes first, or always after the same one.
            let first = number as usize % turn.len();
            turn.rotate_left(first);
            for subject in turn {
                let round = round::take(herd, subject, load)?;
                eprintln!("round {}/{}  {load}  {}: {round}", number + 1, plan.rounds, subject.pooler);
                results.add(*load, subject.pooler, number, round);
            }
        }
    }
    Ok(())
}

fn start_servers(options: &Options, plan: &Plan, count: usize) -> Result<Herd, Failure> {
    let clients = plan.loads.iter().map(|load| load.clients).max().unwrap_or(1);
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = HerdOptions {
        settings: vec![
            setting("max_connections", &(clients + CONNECTIONS_BESIDE).to_string()),
            // All of it fits into memory: disks are not the question.
            setting("shared_buffers", &format!("{}MB", 128 + 20 * options.scale)),
            // Neither starts in the middle of one subject's turn.
            setting("autovacuum", "off"),
            setting("max_wal_size", "8GB"),
            setting("checkpoint_timeout", "1h"),
        ],
        ..HerdOptions::default()
    };
    Ok(Herd::start(count, options)?)
}

impl std::fmt::Display for Pooler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_choose_what_is_measured() {
        let cases = [
            ("", "rounds 4; simple extended prepared; 1 32 200; tpcb prepared simple; 4 s"),
            ("--quick", "rounds 3; simple extended prepared; 32; tpcb prepared; 3 s"),
            ("--quick --only select", "rounds 3; simple extended prepared; 32; tpcb; 3 s"),
            ("--only tpcb --rounds 9 --seconds 2", "rounds 9; ; ; tpcb prepared simple; 2 s"),
            ("--clients 5,6 --protocols simple", "rounds 4; simple; 5 6; tpcb simple; 4 s"),
        ];
        for (words, expected) in cases {
            let options = Options::parse_from(["bench"].into_iter().chain(words.split_whitespace()));
            assert_eq!(describe(&options.plan()), expected, "{words}");
        }
    }

    fn describe(plan: &Plan) -> String {
        let of = |script| plan.loads.iter().filter(move |load| load.script == script);
        let mut protocols: Vec<_> = of(Script::Select).map(|load| load.protocol.name().to_owned()).collect();
        let mut clients: Vec<_> = of(Script::Select).map(|load| load.clients.to_string()).collect();
        let tpcb: Vec<_> = of(Script::Tpcb).map(|load| format!(" {}", load.protocol.name())).collect();
        let mut seen = Vec::new();
        protocols.retain(|name| {
            !seen.contains(name) && {
                seen.push(name.clone());
                true
            }
        });
        clients.dedup();
        let (protocols, clients, tpcb) = (protocols.join(" "), clients.join(" "), tpcb.concat());
        format!("rounds {}; {protocols}; {clients}; tpcb{tpcb}; {} s", plan.rounds, plan.loads[0].seconds)
    }
}
