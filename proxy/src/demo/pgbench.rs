//! Running pgbench as it is, and reading what it says.
//!
//! Invariant: a [`Report`] exists only for a run in which every transaction succeeded.

use std::io::{BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::servers::{Herd, leashed, plain_environment, tail};
use super::{Failure, Interrupt};

pub const CLIENTS: u32 = 8;
const THREADS: u32 = 2;

/// Between two looks whether Ctrl-C was pressed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One of pgbench's built-in scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    TpcB,
    SelectOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    Extended,
    Prepared,
}

/// Before a run pgbench vacuums its tables and empties the history, unless told not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    Emptied,
    Kept,
}

#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub script: Script,
    pub protocol: Protocol,
    pub history: History,
    pub seconds: u32,
}

impl Script {
    pub fn name(self) -> &'static str {
        match self {
            Self::TpcB => "TPC-B",
            Self::SelectOnly => "select-only",
        }
    }

    fn builtin(self) -> &'static str {
        match self {
            Self::TpcB => "tpcb-like",
            Self::SelectOnly => "select-only",
        }
    }
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Prepared];

    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

impl Run {
    fn arguments(&self) -> Vec<String> {
        let words = format!(
            "--builtin={} --protocol={} --client={CLIENTS} --jobs={THREADS} --time={} --progress=1{}",
            self.script.builtin(),
            self.protocol.name(),
            self.seconds,
            match self.history {
                History::Emptied => "",
                History::Kept => " --no-vacuum",
            }
        );
        words.split(' ').map(str::to_owned).collect()
    }
}

/// What pgbench found in one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Acknowledged: pgbench saw each of them succeed.
    pub transactions: u64,
    pub tps: f64,
    pub latency_ms: f64,
}

/// `pgbench -i`, with the steps given (`-I`) or, for `None`, all the default ones. `news` hears its progress.
///
/// # Errors
/// [`Failure::Pgbench`] with what pgbench said.
pub fn initialise(
    herd: &Herd,
    url: &str,
    scale: u32,
    steps: Option<&str>,
    interrupt: &Interrupt,
    news: impl FnMut(&str),
) -> Result<(), Failure> {
    let mut arguments = vec!["-i".to_owned(), "-s".into(), scale.to_string()];
    if let Some(steps) = steps {
        arguments.extend(["-I".into(), steps.into()]);
    }
    pgbench(herd, url, &arguments, interrupt, news).map(drop)
}

/// One run of a built-in script.
///
/// # Errors
/// [`Failure::Pgbench`]: it ended with an error, a transaction failed, or none was made.
pub fn run(
    herd: &Herd,
    url: &str,
    run: Run,
    interrupt: &Interrupt,
    news: impl FnMut(&str),
) -> Result<Report, Failure> {
    let said = pgbench(herd, url, &run.arguments(), interrupt, news)?;
    read_report(&said).map_err(|why| Failure::Pgbench {
        what: format!("pgbench ({}, {} protocol): {why}", run.script.name(), run.protocol.name()),
        said: tail(&said),
    })
}

/// Reads the report that pgbench prints at the end.
fn read_report(text: &str) -> Result<Report, String> {
    let number = |label: &str| -> Option<f64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let missing = |label: &str| format!("no line \"{}\"", label.trim_end());
    let needed = |label: &str| number(label).ok_or_else(|| missing(label));

    let transactions = needed("number of transactions actually processed: ")?;
    // PostgreSQL 14 and older have no such line; there a failure ends the run.
    let failed = number("number of failed transactions: ").unwrap_or(0.0);
    if failed > 0.0 {
        return Err(format!("{failed} failed transactions"));
    }
    if transactions < 1.0 {
        return Err("no transaction was made".into());
    }
    Ok(Report {
        transactions: transactions as u64,
        tps: needed("tps = ")?,
        latency_ms: needed("latency average = ")?,
    })
}

/// The words worth showing of a line of progress; `None` for other lines.
fn read_news(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("progress: ") {
        let (_, figures) = rest.split_once(" s, ")?;
        let (figures, _) = figures.split_once(" stddev").unwrap_or((figures, ""));
        return Some(figures.to_owned());
    }
    if line.contains(" tuples (") {
        return Some(line.split(" (elapsed").next().unwrap_or(line).to_owned());
    }
    ["dropping ", "creating ", "generating ", "vacuuming", "starting vacuum"]
        .iter()
        .any(|start| line.starts_with(start))
        .then(|| line.trim_end_matches(['.', ' ']).to_owned())
}

/// Runs pgbench to its end and returns its stdout.
fn pgbench(
    herd: &Herd,
    url: &str,
    arguments: &[String],
    interrupt: &Interrupt,
    mut news: impl FnMut(&str),
) -> Result<String, Failure> {
    let what = format!("pgbench {}", arguments.join(" "));
    let mut command = leashed("KILL", herd.binaries().program("pgbench"));
    plain_environment(&mut command);
    command.args(arguments).arg(url);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Guard(herd.keeper().spawn(command)?);

    let (lines, inbox) = mpsc::channel();
    let stderr = child.0.stderr.take();
    let stdout = child.0.stdout.take();
    thread::scope(|scope| {
        let said = scope.spawn(move || {
            let mut text = String::new();
            stdout.map(|mut pipe| pipe.read_to_string(&mut text));
            text
        });
        scope.spawn(move || stderr.map(|pipe| each_line(pipe, |line| lines.send(line).is_ok())));

        let mut complaints = String::new();
        loop {
            match inbox.recv_timeout(LOOK_EVERY) {
                Ok(line) => match read_news(&line) {
                    Some(words) => news(&words),
                    None => {
                        complaints.push_str(&line);
                        complaints.push('\n');
                    }
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Err(interrupted) = interrupt.check() {
                let _ = child.0.kill();
                return Err(interrupted);
            }
        }
        let status = child.0.wait()?;
        let said = said.join().unwrap_or_default();
        match status.success() {
            true => Ok(said),
            false => Err(Failure::Pgbench { what: format!("{what} ({status})"), said: tail(&complaints) }),
        }
    })
}

/// Lines end with a newline, or with the carriage return of a progress that overwrites itself.
fn each_line(pipe: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut line = Vec::new();
    let mut end = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(&std::mem::take(line)).into_owned();
        text.trim().is_empty() || take(text)
    };
    for byte in BufReader::new(pipe).bytes() {
        match byte {
            Ok(b'\n' | b'\r') if end(&mut line) => {}
            Ok(b'\n' | b'\r') => return,
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    end(&mut line);
}

/// Ends with the function that started it.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "pgbench (15.20 (Debian 15.20-0+deb12u1))
transaction type: <builtin: TPC-B (sort of)>
scaling factor: 2
query mode: prepared
maximum number of tries: 1
number of transactions actually processed: 24198
number of failed transactions: 0 (0.000%)
latency average = 0.486 ms
latency stddev = 0.629 ms
initial connection time = 22.914 ms
tps = 8114.587445 (without initial connection time)
";

    #[test]
    fn a_report_is_read_only_from_a_run_without_failures() {
        let good = Report { transactions: 24198, tps: 8114.587445, latency_ms: 0.486 };
        let of = |from: &str, to: &str| read_report(&REPORT.replace(from, to));
        let cases = [
            ("as it is", of("", ""), Ok(good)),
            ("PostgreSQL 14", of("number of failed transactions: 0 (0.000%)\n", ""), Ok(good)),
            (
                "a failure",
                of("failed transactions: 0", "failed transactions: 3"),
                Err("3 failed transactions"),
            ),
            ("nothing done", of("24198", "0"), Err("no transaction was made")),
            ("broken off", of("tps = ", "tpm = "), Err("no line \"tps =\"")),
            ("empty", read_report(""), Err("no line \"number of transactions actually processed:\"")),
        ];
        for (why, found, expected) in cases {
            assert_eq!(found, expected.map_err(str::to_owned), "{why}");
        }
    }

    #[test]
    fn progress_is_shown_and_everything_else_is_kept_for_the_error() {
        let cases = [
            (
                "progress: 2.0 s, 7825.0 tps, lat 0.506 ms stddev 0.618, 0 failed",
                Some("7825.0 tps, lat 0.506 ms"),
            ),
            (
                "100000 of 200000 tuples (50%) done (elapsed 0.07 s, remaining 0.07 s)",
                Some("100000 of 200000 tuples (50%) done"),
            ),
            ("generating data (server-side)...", Some("generating data (server-side)")),
            ("starting vacuum...end.", Some("starting vacuum...end")),
            ("pgbench: error: client 0 aborted", None),
            ("NOTICE:  table \"pgbench_accounts\" does not exist, skipping", None),
        ];
        for (line, expected) in cases {
            assert_eq!(read_news(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn lines_end_with_newlines_and_with_carriage_returns() {
        let mut lines = Vec::new();
        each_line(&b"one\rtwo\r\n\nthree\nrest"[..], |line| {
            lines.push(line);
            true
        });
        assert_eq!(lines, ["one", "two", "three", "rest"]);
    }

    #[test]
    fn pgbench_runs_as_it_is_and_its_failures_are_ours() {
        use super::super::servers::HerdOptions;

        let herd = Herd::start(1, HerdOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        let (url, never) = (herd.url(0), Interrupt::never());
        for steps in [None, Some("dtGvp")] {
            let mut heard = Vec::new();
            initialise(&herd, &url, 1, steps, &never, |words| heard.push(words.to_owned())).unwrap();
            assert!(heard.iter().any(|words| words.starts_with("generating data")), "{heard:?}");
        }
        // A second was too short for one transaction of TPC-B on a machine with other work.
        let of = |script, protocol, history| {
            let seconds = if matches!(script, Script::TpcB) { 4 } else { 1 };
            Run { script, protocol, history, seconds }
        };
        let mut acknowledged = 0;
        for protocol in Protocol::ALL {
            let history = if acknowledged == 0 { History::Emptied } else { History::Kept };
            let report = run(&herd, &url, of(Script::TpcB, protocol, history), &never, |_| {}).unwrap();
            acknowledged += report.transactions;
            run(&herd, &url, of(Script::SelectOnly, protocol, History::Kept), &never, |_| {}).unwrap();
        }
        let history = herd.psql(0, "SELECT count(*) FROM pgbench_history").unwrap();
        assert_eq!(history, acknowledged.to_string());

        herd.psql(0, "ALTER TABLE pgbench_history ADD CHECK (delta < 0) NOT VALID").unwrap();
        let broken = of(Script::TpcB, Protocol::Simple, History::Kept);
        let error = run(&herd, &url, broken, &never, |_| {}).unwrap_err().to_string();
        assert!(error.contains("violates check constraint"), "{error}");
        let error = initialise(&herd, &url.replace("app:", "app:x"), 1, None, &never, |_| {}).unwrap_err();
        assert!(error.to_string().contains("password authentication failed"), "{error}");
    }
}
