//! `make bench`: a direct connection, PgBouncer and pgherd, measured in one interleaved run.
//!
//! Question: what does a transaction cost that goes through pgherd, beside PgBouncer on the same machine in
//! the same minute? The budgets are in `targets`; below 1.00 the machine spends less with pgherd.
//!
//! Invariant: slow is never a failure, a failed transaction always is. Everything that it starts ends with it,
//! by Ctrl-C too (see `pgherd::demo::servers`).
//!
//! Start reading at [`bench`]; `plan` says what is measured, `round` is how one figure is taken.

mod capacity;
mod cpu;
mod failure;
mod idle;
mod instructions;
mod load;
mod plan;
mod raw;
mod refusals;
mod report;
mod round;
mod stub;
mod subjects;
mod syscalls;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use pgherd::demo::servers::{Herd, HerdOptions};

use failure::Failure;
use load::{Door, ITEMS, ITEMS_TABLE, Protocol};
use plan::{Group, Plan, Wishes};
use refusals::Refusals;
use report::{Results, Setting};
use stub::Stub;
use subjects::{Behind, PgBouncer, Pgherd, Pooler, Subject};

/// Server connections of each pool: smaller than 32 and 200 clients, so that these share.
pub const POOL: u32 = 20;

/// Servers of the sharded rows, beside the one that all other subjects share: the first is 1.
pub const SHARDS: usize = 4;

/// What superusers, pgherd's own role and autovacuum's launcher may need beside clients and pools.
const CONNECTIONS_BESIDE: u32 = 60;

/// The rows of idle clients and of the stub differ little from round to round, and take their time.
const ROUNDS_OF_IDLE_MAX: u32 = 2;

/// A direct connection, PgBouncer and pgherd side by side: throughput, latency, and CPU per transaction.
/// Prints a table in Markdown; fails when a transaction fails, never for being slow.
#[derive(Debug, Parser)]
#[command(name = "pgherd-bench", version)]
struct Options {
    /// About two minutes: select-only with 32 clients, TPC-B in the prepared protocol, the pipeline
    #[arg(long)]
    quick: bool,

    /// Only these rows [default: all; quick: select,tpcb,pipeline]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Group>,

    /// Seconds of one run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,

    /// How often each subject gets its turn; the medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Numbers of clients for select-only [default: 1,32,200; quick: 32]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=5000))]
    clients: Vec<u32>,

    /// Protocols of select-only and TPC-B [default: all of one, prepared and simple of the other; quick: prepared]
    #[arg(long, value_enum, value_delimiter = ',')]
    protocols: Vec<Protocol>,

    /// pgbench's scale: 100,000 accounts for each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,

    /// Threads of pgbench (never more than clients). For TPC-B each client has its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,

    /// Subjects to leave out
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<Leave>,

    /// Count system calls per transaction with strace, instead of measuring time
    #[arg(long)]
    syscalls: bool,

    /// Count pgherd's instructions per transaction with callgrind, instead of measuring time
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

impl Leave {
    fn poolers(self) -> &'static [Pooler] {
        match self {
            Self::Direct => &[Pooler::None],
            Self::Pgbouncer => &[Pooler::PgBouncer],
            Self::Pgherd => &[Pooler::Pgherd, Pooler::PgherdTwo],
            Self::Shards => &[Pooler::PgherdSharded],
        }
    }
}

impl Options {
    fn wishes(&self) -> Wishes {
        let groups = match (&self.only[..], self.quick) {
            ([], true) => vec![Group::Select, Group::Tpcb, Group::Pipeline],
            ([], false) => Group::value_variants().to_vec(),
            (chosen, _) => chosen.to_vec(),
        };
        let clients = match (&self.clients[..], self.quick) {
            ([], true) => vec![32],
            ([], false) => vec![1, 32, 200],
            (chosen, _) => chosen.to_vec(),
        };
        Wishes {
            groups,
            rounds: self.rounds,
            seconds: self.seconds,
            clients,
            protocols: self.protocols.clone(),
            jobs: self.jobs,
            without: self.without.iter().flat_map(|leave| leave.poolers()).copied().collect(),
        }
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

/// The two poolers, as far as they are there and wanted.
struct Programs {
    pgbouncer: Result<PgBouncer, String>,
    pgherd: Option<Pgherd>,
}

fn bench(options: &Options) -> Result<(), Failure> {
    // What may be missing is looked for before anything is started.
    let leaves = |leave| options.without.contains(&leave);
    let programs = Programs {
        pgherd: match leaves(Leave::Pgherd) && leaves(Leave::Shards) {
            true => None,
            false => Some(Pgherd::find(options.pgherd.as_deref())?),
        },
        pgbouncer: match leaves(Leave::Pgbouncer) {
            true => Err("left out by --without".to_owned()),
            false => PgBouncer::find(&options.pgbouncer),
        },
    };
    let mut wishes = options.wishes();
    if let Err(why) = &programs.pgbouncer {
        eprintln!("PgBouncer is left out: {why}");
        wishes.without.push(Pooler::PgBouncer);
    }
    let mut plan = wishes.plan();
    let counting = options.syscalls || options.instructions;
    if counting {
        plan.rows.retain(|row| row.load.door == Door::Scram);
    }

    let sharded = plan.has_pooler(Pooler::PgherdSharded);
    let servers = if sharded { 1 + SHARDS } else { 1 };
    eprintln!("starting {servers} PostgreSQL server(s), pgbench scale {}", options.scale);
    let herd = start_servers(options, &plan, servers)?;
    load::write_scripts(herd.folder())?;
    subjects::make_certificate(&herd)?;
    fill(&herd, &herd.url(0), options.scale)?;

    let mut subjects = start_subjects(&herd, &programs, &plan)?;
    for subject in subjects.iter().filter(|subject| subject.pooler == Pooler::PgherdSharded) {
        fill(&herd, &subject.url, options.scale)?;
    }
    for server in 0..herd.len() {
        herd.psql(server, "VACUUM ANALYZE; CHECKPOINT;")?;
    }
    let setting = Setting {
        postgresql: herd.psql(0, "SELECT split_part(current_setting('server_version'), ' ', 1)")?,
        pgbouncer: match &programs.pgbouncer {
            Ok(pgbouncer) => Ok(pgbouncer.version().to_owned()),
            Err(why) => Err(why.clone()),
        },
        pgherd: programs.pgherd.as_ref().map(|pgherd| pgherd.version().to_owned()),
        scale: options.scale,
    };
    let refusals = Refusals::find(&herd, &subjects, &plan)?;
    if options.syscalls {
        return syscalls::count(&herd, &mut subjects, &plan, &refusals, &setting);
    }
    if options.instructions {
        drop(subjects);
        let pgherd = programs.pgherd.ok_or_else(|| Failure::NoPgherd("left out by --without".into()))?;
        return instructions::count(&herd, &pgherd, &plan, &refusals, &setting);
    }

    let mut results = Results::of(refusals);
    measure(&herd, &mut subjects, &plan, &mut results)?;
    drop(subjects);
    if plan.stub {
        measure_capacity(&herd, &programs, &plan, &wishes.without, &mut results)?;
    }
    if plan.idle {
        measure_idle(&herd, &programs, &plan, &wishes.without, &mut results)?;
    }
    print!("{}", report::markdown(&setting, &plan, &results));
    Ok(())
}

/// pgbench's tables, and one more.
fn fill(herd: &Herd, url: &str, scale: u32) -> Result<(), Failure> {
    round::initialise(herd, url, scale)?;
    let rows: String = (1..=ITEMS).map(|id| format!("{id}\titem {id}\n")).collect();
    let table = format!("CREATE TABLE {ITEMS_TABLE} (id integer PRIMARY KEY, label text)");
    herd.psql_at(url, &format!("{table};\nCOPY {ITEMS_TABLE} FROM stdin;\n{rows}\\.\n"))?;
    Ok(())
}

/// Every subject that a row has, each in front of real servers.
fn start_subjects(herd: &Herd, programs: &Programs, plan: &Plan) -> Result<Vec<Subject>, Failure> {
    let mut subjects = Vec::new();
    for door in [Door::Scram, Door::Trust, Door::Tls] {
        for pooler in Pooler::ALL.into_iter().filter(|pooler| plan.has(*pooler, door)) {
            let behind = match pooler {
                Pooler::PgherdSharded => Behind::Shards(1..=SHARDS),
                _ => Behind::Server(0),
            };
            subjects.extend(start_subject(herd, programs, pooler, door, &behind)?);
        }
    }
    Ok(subjects)
}

/// `None` for what is left out.
fn start_subject(
    herd: &Herd,
    programs: &Programs,
    pooler: Pooler,
    door: Door,
    behind: &Behind,
) -> Result<Option<Subject>, Failure> {
    let pgherd = |workers| match &programs.pgherd {
        Some(pgherd) => pgherd.start(herd, pooler, door, behind, workers).map(Some),
        None => Ok(None),
    };
    match (pooler, &programs.pgbouncer) {
        (Pooler::None, _) => Ok(Some(Subject::direct(herd))),
        (Pooler::PgBouncer, Ok(pgbouncer)) => pgbouncer.start(herd, door, behind).map(Some),
        (Pooler::PgBouncer, Err(_)) => Ok(None),
        (Pooler::Pgherd | Pooler::PgherdSharded, _) => pgherd(1),
        (Pooler::PgherdTwo, _) => pgherd(2),
    }
}

/// Every load once for each subject, then all of it again: a minute in which the machine is busy with something
/// else spoils one round of everything instead of all rounds of one thing.
fn measure(herd: &Herd, subjects: &mut [Subject], plan: &Plan, results: &mut Results) -> Result<(), Failure> {
    for number in 0..plan.rounds {
        for row in &plan.rows {
            let load = &row.load;
            let mut turn: Vec<&mut Subject> = subjects
                .iter_mut()
                .filter(|subject| {
                    subject.takes(load, &row.poolers) && !results.refusals.has(load, subject.pooler)
                })
                .collect();
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

/// With the stub behind every subject, in each round.
fn measure_capacity(
    herd: &Herd,
    programs: &Programs,
    plan: &Plan,
    without: &[Pooler],
    results: &mut Results,
) -> Result<(), Failure> {
    let stub = Stub::start(capacity::THREADS as usize).map_err(Failure::io("start the stub"))?;
    let behind = Behind::Stub(stub.address);
    let mut subjects = Vec::new();
    for (pooler, workers) in capacity::SUBJECTS {
        if !without.contains(&pooler)
            && let Some(subject) = start_subject(herd, programs, pooler, Door::Trust, &behind)?
        {
            subjects.push((subject, workers));
        }
    }
    for number in 0..plan.rounds {
        for (subject, workers) in &mut subjects {
            let capacity = capacity::take(herd, subject, *workers, plan.seconds)?;
            eprintln!("round {}/{}  stub  {}: {capacity}", number + 1, plan.rounds, subject.pooler);
            results.capacity.push((number, subject.pooler, capacity));
        }
    }
    Ok(())
}

/// Each with a process of its own for each round: what earlier clients left behind would hide what these take.
fn measure_idle(
    herd: &Herd,
    programs: &Programs,
    plan: &Plan,
    without: &[Pooler],
    results: &mut Results,
) -> Result<(), Failure> {
    let clients = idle::clients_possible();
    if clients < idle::CLIENTS {
        eprintln!("no more than {clients} idle clients: that many files may be open (ulimit -Hn)");
    }
    let rounds = plan.rounds.min(ROUNDS_OF_IDLE_MAX);
    for number in 0..rounds {
        for pooler in [Pooler::PgBouncer, Pooler::Pgherd] {
            if without.contains(&pooler) {
                continue;
            }
            let started = start_subject(herd, programs, pooler, Door::Trust, &Behind::Server(0))?;
            let Some(mut subject) = started else { continue };
            let idle = idle::take(herd, &mut subject, clients, plan.seconds)?;
            eprintln!("round {}/{rounds}  idle  {pooler}: {idle}", number + 1);
            results.idle.push((pooler, idle));
        }
    }
    Ok(())
}

fn start_servers(options: &Options, plan: &Plan, count: usize) -> Result<Herd, Failure> {
    let clients = plan.rows.iter().map(|row| row.load.clients).max().unwrap_or(1);
    // More than there are: every pooler behind every door.
    let pools = 3 * Pooler::ALL.len() as u32 * POOL;
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = HerdOptions {
        settings: vec![
            setting("max_connections", &(clients + pools + CONNECTIONS_BESIDE).to_string()),
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
    use load::Script;

    #[test]
    fn options_choose_what_is_measured() {
        let cases = [
            ("", "3 x 3 s: select 3 3, tpcb 2, pipeline 1, others 8, idle, stub"),
            ("--quick", "3 x 3 s: select 1 3, tpcb 2, pipeline 1, others 0"),
            ("--quick --only select", "3 x 3 s: select 1 3, tpcb 0, pipeline 0, others 0"),
            ("--only tpcb --rounds 9 --seconds 2", "9 x 2 s: select 0 0, tpcb 2, pipeline 0, others 0"),
            ("--only large,idle", "3 x 3 s: select 0 0, tpcb 0, pipeline 0, others 2, idle"),
            (
                "--only select,tpcb --clients 5,6 --protocols simple",
                "3 x 3 s: select 2 1, tpcb 1, pipeline 0, others 0",
            ),
        ];
        for (words, expected) in cases {
            let options = Options::parse_from(["bench"].into_iter().chain(words.split_whitespace()));
            assert_eq!(describe(&options.wishes().plan()), expected, "{words}");
        }
    }

    /// Of select-only: numbers of clients, and of protocols.
    fn describe(plan: &Plan) -> String {
        let of = |script| plan.rows.iter().filter(move |row| row.load.script == script);
        let select = || of(Script::Select).filter(|row| row.load.door == Door::Scram);
        let (mut clients, mut protocols) = (Vec::new(), Vec::new());
        for row in select() {
            clients.extend((!clients.contains(&row.load.clients)).then_some(row.load.clients));
            protocols.extend((!protocols.contains(&row.load.protocol)).then_some(row.load.protocol));
        }
        let (tpcb, pipeline) = (of(Script::Tpcb).count(), of(Script::Pipeline).count());
        let others = plan.rows.len() - select().count() - tpcb - pipeline;
        let idle = if plan.idle { ", idle" } else { "" };
        let stub = if plan.stub { ", stub" } else { "" };
        format!(
            "{} x {} s: select {} {}, tpcb {tpcb}, pipeline {pipeline}, others {others}{idle}{stub}",
            plan.rounds,
            plan.seconds,
            clients.len(),
            protocols.len()
        )
    }
}
