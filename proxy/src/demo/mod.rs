//! `pgherd demo`: four PostgreSQL servers, pgherd in front of them, unmodified pgbench through it, and the
//! proof that nothing was lost.
//!
//! Invariant: everything that it starts ends with it, and it succeeds only when every check held.
//!
//! Start reading at [`run`]. `servers` is also what the tests and the benchmark start their servers with.

mod endpoint;
mod pgbench;
mod proof;
pub mod servers;
mod show;
mod tables;

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use endpoint::Endpoint;
use pgbench::{CLIENTS, History, Protocol, Report, Run, Script};
use proof::{Census, Check};
use servers::{Herd, HerdError, HerdOptions};
use show::{Step, say, table, thousands};
use tables::{PGBENCH, PLAYGROUND};

/// Owned by an application without any rights beyond it, on servers that listen on loopback and hold nothing.
const APP_PASSWORD: &str = "demo";
const DATABASE: &str = "demo";

/// What a shell reports for a program that ended by Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How much later than a program that it ended a signal may be noticed.
const SIGNAL_WITHIN: Duration = Duration::from_millis(100);

/// What `pgherd demo` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// PostgreSQL servers to start
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub shards: u16,

    /// pgbench's scale: 100,000 accounts, 10 tellers and 1 branch for each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub scale: u32,

    /// Seconds of load, shared by six runs (at least one second each)
    #[arg(long, default_value_t = 18)]
    pub seconds: u32,

    /// Where pgherd listens on 127.0.0.1; 0 takes any free port
    #[arg(long, default_value_t = 6432)]
    pub port: u16,

    /// End after the proof instead of serving until Ctrl-C
    #[arg(long)]
    pub once: bool,
}

/// Why the demo ended without its proof.
#[derive(Debug)]
pub enum Failure {
    Herd(HerdError),
    PortTaken {
        port: u16,
        source: io::Error,
    },
    /// pgherd itself; `log` is the end of what it wrote.
    Endpoint {
        what: String,
        log: String,
    },
    Pgbench {
        what: String,
        said: String,
    },
    /// A server ended while the demo was serving.
    ServerLost {
        server: usize,
    },
    Unproven {
        failed: usize,
        checks: usize,
    },
    Interrupted,
    Io(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Herd(error) => write!(f, "{error}"),
            Self::PortTaken { port, source } => {
                write!(
                    f,
                    "cannot listen on 127.0.0.1:{port}: {source}\nhint: choose another port with --port"
                )
            }
            Self::Endpoint { what, log } if log.is_empty() => write!(f, "{what}; its log is empty"),
            Self::Endpoint { what, log } => write!(f, "{what}; the end of its log:\n{log}"),
            Self::Pgbench { what, said } => write!(f, "{what}:\n{said}"),
            Self::ServerLost { server } => write!(f, "PostgreSQL server {server} ended by itself"),
            Self::Unproven { failed, checks } => write!(f, "{failed} of {checks} checks do not hold"),
            Self::Interrupted => write!(f, "interrupted before the proof"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<HerdError> for Failure {
    fn from(error: HerdError) -> Self {
        Self::Herd(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs the demo on the calling thread, which must not be inside an async runtime.
pub fn run(options: DemoOptions) -> ExitCode {
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("pgherd demo: cannot listen for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match demo(&options, &interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let failure = interrupt.explains(failure);
            eprintln!("\npgherd demo: {failure}");
            match failure {
                Failure::Interrupted => ExitCode::from(EXIT_INTERRUPTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn demo(options: &DemoOptions, interrupt: &Interrupt) -> Result<(), Failure> {
    let began = Instant::now();
    let port = Endpoint::choose_port(options.port)?;

    let step = Step::begin("PostgreSQL servers");
    let herd = Herd::start(
        options.shards.into(),
        HerdOptions {
            database: DATABASE.into(),
            app_password: APP_PASSWORD.into(),
            ..HerdOptions::default()
        },
    )?;
    let version = herd.psql(0, "SELECT split_part(current_setting('server_version'), ' ', 1)")?;
    step.done(format!("{} of PostgreSQL {version}, ports {}", herd.len(), ports(&herd)));
    interrupt.check()?;

    let step = Step::begin("pgherd");
    let addresses: Vec<String> = (0..herd.len()).map(|server| herd.address(server)).collect();
    let configuration = tables::configuration(DATABASE, &addresses, port);
    let mut endpoint = Endpoint::start(&herd, port, &configuration, interrupt)?;
    step.done(format!("127.0.0.1:{port}"));

    // An error of a client is usually explained by the end of pgherd, where that happened.
    let result = load_and_prove(options, &herd, endpoint.url(), interrupt);
    match result {
        Err(Failure::Pgbench { .. } | Failure::Herd(_)) => endpoint.still_runs().and(result)?,
        other => other?,
    }

    say(format!("\nAll of it held, in {} s.", began.elapsed().as_secs()));
    if options.once {
        return Ok(());
    }
    serve_until_interrupted(&herd, &mut endpoint, interrupt)
}

fn load_and_prove(
    options: &DemoOptions,
    herd: &Herd,
    url: &str,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let step = Step::begin("customers, orders, countries");
    herd.psql_at(url, &tables::playground_script())?;
    let orders = tables::CUSTOMERS_COUNT * tables::ORDERS_PER_CUSTOMER;
    step.done(format!("{} customers, {orders} orders by COPY", tables::CUSTOMERS_COUNT));

    for (name, steps) in [("pgbench -i", None), ("pgbench -i -I dtGvp", Some("dtGvp"))] {
        let step = Step::begin(name);
        let began = Instant::now();
        pgbench::initialise(herd, url, options.scale, steps, interrupt, |words| step.news(words))?;
        let took = began.elapsed().as_secs_f64();
        let checks = proof::after_initialisation(herd, options.scale)?;
        if checks.iter().any(|check| !check.holds()) {
            drop(step);
            return verdict(&checks);
        }
        step.done(format!("{} accounts in {took:.1} s", thousands(u64::from(options.scale) * 100_000)));
    }

    let before = Activity::of(herd)?;
    let seconds = (options.seconds / 6).max(1);
    let mut results: Vec<(Run, Report)> = Vec::new();
    for script in [Script::TpcB, Script::SelectOnly] {
        for protocol in Protocol::ALL {
            // pgbench empties the history at its start; only the first run may, for the proof needs all of it.
            let history = if results.is_empty() { History::Emptied } else { History::Kept };
            let run = Run { script, protocol, history, seconds };
            let step = Step::begin(format!("{}, {} protocol", script.name(), protocol.name()));
            let report = pgbench::run(herd, url, run, interrupt, |words| step.news(words))?;
            step.done(format!("{} transactions", thousands(report.transactions)));
            results.push((run, report));
        }
    }
    let acknowledged = results
        .iter()
        .filter(|(run, _)| run.script == Script::TpcB)
        .map(|(_, report)| report.transactions)
        .sum();

    let step = Step::begin("proof");
    let checks = proof::after_load(herd, url, options.scale, acknowledged)?;
    let everything: Vec<_> = PGBENCH.into_iter().chain(PLAYGROUND).collect();
    let census = proof::census(herd, &everything)?;
    let after = Activity::of(herd)?;
    drop(step);

    say(format!("\npgbench through pgherd, {CLIENTS} clients:\n{}", table(&result_rows(&results))));
    say(format!("The share of each shard:\n{}", table(&share_rows(&census, &before, &after))));
    verdict(&checks)
}

/// Shows the checks.
fn verdict(checks: &[Check]) -> Result<(), Failure> {
    say("The proof:");
    for Check { claim, verdict } in checks {
        match verdict {
            Ok(evidence) => say(format!("  ok    {claim}: {evidence}")),
            Err(why) => say(format!("  FAIL  {claim}: {why}")),
        }
    }
    match checks.iter().filter(|check| !check.holds()).count() {
        0 => Ok(()),
        failed => Err(Failure::Unproven { failed, checks: checks.len() }),
    }
}

fn serve_until_interrupted(
    herd: &Herd,
    endpoint: &mut Endpoint,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    say(format!("\npgherd serves until Ctrl-C:\n\n    psql \"{}\"\n\nto try:\n", endpoint.url()));
    for statement in tables::TO_TRY {
        say(format!("    {statement}"));
    }
    let file = endpoint.configuration().display();
    let program = std::env::current_exe()?;
    let program = program.display();
    let environment: String = herd.env().iter().map(|(name, value)| format!("{name}={value} ")).collect();
    say(format!(
        "\nand beside it:\n\n    {environment}{program} explain {file} \"SELECT * FROM orders WHERE customer_id = 42\"\n"
    ));
    loop {
        if interrupt.check().is_err() {
            say("stopping; open transactions have 3 s to end");
            return Ok(());
        }
        endpoint.still_runs()?;
        if let Some(server) = (0..herd.len()).find(|server| !herd.is_running(*server)) {
            return Err(Failure::ServerLost { server });
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// How busy each server has been, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Activity {
    /// Transactions that wrote: those that took a number. Exact.
    writing: Vec<u64>,
    /// All transactions; the statistics of the last second may be missing.
    all: Vec<u64>,
}

impl Activity {
    fn of(herd: &Herd) -> Result<Self, HerdError> {
        let mut activity = Self { writing: Vec::new(), all: Vec::new() };
        for server in 0..herd.len() {
            let sql = "SELECT txid_snapshot_xmax(txid_current_snapshot()), xact_commit \
                       FROM pg_stat_database WHERE datname = current_database()";
            let answer = herd.psql(server, sql)?;
            let mut numbers = answer.split('|').map(|number| number.parse().unwrap_or(0));
            activity.writing.push(numbers.next().unwrap_or(0));
            activity.all.push(numbers.next().unwrap_or(0));
        }
        Ok(activity)
    }
}

fn result_rows(results: &[(Run, Report)]) -> Vec<Vec<String>> {
    let mut rows =
        vec![["", "protocol", "transactions", "per second", "latency"].map(str::to_owned).to_vec()];
    for (run, report) in results {
        rows.push(vec![
            run.script.name().to_owned(),
            run.protocol.name().to_owned(),
            thousands(report.transactions),
            thousands(report.tps.round() as u64),
            format!("{:.2} ms", report.latency_ms),
        ]);
    }
    rows
}

fn share_rows(census: &Census, before: &Activity, after: &Activity) -> Vec<Vec<String>> {
    let shards = after.all.len();
    let head = std::iter::once(String::new());
    let mut rows = vec![head.chain((0..shards).map(tables::shard_name)).chain(["all".to_owned()]).collect()];
    let mut add = |name: &str, figures: &[u64]| {
        let cells = figures.iter().map(|figure| thousands(*figure));
        let total = thousands(figures.iter().sum());
        rows.push(std::iter::once(name.to_owned()).chain(cells).chain([total]).collect());
    };
    for (table, counts) in census {
        add(&format!("{table}, rows"), counts);
    }
    let difference = |before: &[u64], after: &[u64]| -> Vec<u64> {
        after.iter().zip(before).map(|(after, before)| after.saturating_sub(*before)).collect()
    };
    add("writing transactions", &difference(&before.writing, &after.writing));
    let all = difference(&before.all, &after.all);
    add("all transactions, about", &all);
    let sum = all.iter().sum::<u64>().max(1) as f64;
    let shares = all.iter().map(|figure| format!("{:.0} %", 100.0 * *figure as f64 / sum));
    rows.push(std::iter::once("  share".to_owned()).chain(shares).collect());
    rows
}

fn ports(herd: &Herd) -> String {
    (0..herd.len()).map(|server| herd.port(server).to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether SIGINT or SIGTERM came. A second one ends the process at once; what it started ends all the same.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicU32>);

impl Interrupt {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let interrupt = Self(Arc::new(AtomicU32::new(0)));
        let seen = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut int, mut term) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = int.recv() => {}
                        _ = term.recv() => {}
                    }
                    if seen.0.fetch_add(1, Ordering::Relaxed) > 0 {
                        std::process::exit(EXIT_INTERRUPTED.into());
                    }
                }
            });
        })?;
        Ok(interrupt)
    }

    #[cfg(test)]
    fn never() -> Self {
        Self(Arc::default())
    }

    /// Ctrl-C goes to all that a terminal runs, so a program of ours that ended by it may be seen before the signal is.
    fn explains(&self, failure: Failure) -> Failure {
        let deadline = Instant::now() + SIGNAL_WITHIN;
        while self.check().is_ok() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        match (&failure, self.check()) {
            // What was proven wrong stays wrong.
            (Failure::Unproven { .. }, _) | (_, Ok(())) => failure,
            (_, Err(interrupted)) => interrupted,
        }
    }

    /// # Errors
    /// [`Failure::Interrupted`] once a signal came.
    fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Failure::Interrupted),
        }
    }
}
