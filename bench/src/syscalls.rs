//! System calls of a pooler per transaction, counted by strace.
//!
//! A run of few transactions is subtracted from a run of many: what starting and logging in cost cancels out.
//! strace makes every call slower, so more clients are served between two waits than without it; reads and
//! writes are exact.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{Herd, leashed};

use crate::failure::Failure;
use crate::load::{Door, Load, Script, Until};
use crate::plan::Plan;
use crate::refusals::Refusals;
use crate::report::{self, Setting};
use crate::round;
use crate::subjects::{Subject, tail};

const CLIENTS: [u32; 2] = [1, 32];

/// Of all clients together, for a statement alone.
const FEW: u32 = 3_200;
const MANY: u32 = 16_000;

/// Less than this per transaction belongs to no transaction: a timer, a log line.
const SHOWN_FROM: f64 = 0.005;

const ATTACHED_WITHIN: Duration = Duration::from_secs(10);

type Calls = BTreeMap<String, u64>;

/// # Errors
/// [`Failure::Program`] when strace is missing or may not attach, or a transaction failed.
pub fn count(
    herd: &Herd,
    subjects: &mut [Subject],
    plan: &Plan,
    refusals: &Refusals,
    setting: &Setting,
) -> Result<(), Failure> {
    let mut rows =
        vec![["transaction", "protocol", "clients", "", "all", "each"].map(str::to_owned).to_vec()];
    for (script, protocol, poolers) in plan.counted() {
        let [few, many] = [FEW, MANY].map(|transactions| transactions / script.weight());
        for clients in CLIENTS {
            let load = Load {
                script,
                protocol,
                clients,
                jobs: threads(script, clients),
                seconds: 0,
                door: Door::Scram,
            };
            let taking = |subject: &&mut Subject| {
                subject.takes(&load, &poolers) && !refusals.has(&load, subject.pooler)
            };
            for subject in subjects.iter_mut().filter(taking) {
                let before = traced(herd, subject, &load, few)?;
                let after = traced(herd, subject, &load, many)?;
                let each = difference(&before, &after, many - few);
                let all: f64 = each.iter().map(|(_, calls)| calls).sum();
                let shown: Vec<_> = each
                    .iter()
                    .filter(|(_, calls)| *calls >= SHOWN_FROM)
                    .map(|(name, calls)| format!("{name} {calls:.2}"))
                    .collect();
                eprintln!("{load}, {}: {all:.2} system calls", subject.pooler);
                rows.push(vec![
                    script.name().into(),
                    protocol.name().into(),
                    clients.to_string(),
                    subject.pooler.name().into(),
                    format!("{all:.2}"),
                    shown.join(", "),
                ]);
            }
        }
    }
    println!("System calls per transaction ({setting}), counted with `strace -f -c`:\n");
    print!("{}", report::table(&rows));
    Ok(())
}

/// See `Wishes::load`.
fn threads(script: Script, clients: u32) -> u32 {
    if script == Script::Tpcb { clients } else { 1 }
}

/// Per transaction, most frequent first.
fn difference(few: &Calls, many: &Calls, transactions: u32) -> Vec<(String, f64)> {
    let per_transaction = |(name, calls): (&String, &u64)| {
        let before = few.get(name).copied().unwrap_or(0);
        (name.clone(), calls.saturating_sub(before) as f64 / f64::from(transactions))
    };
    let mut each: Vec<_> = many.iter().map(per_transaction).collect();
    each.sort_by(|one, other| other.1.total_cmp(&one.1));
    each
}

fn traced(herd: &Herd, subject: &mut Subject, load: &Load, transactions: u32) -> Result<Calls, Failure> {
    let Some(process) = subject.process_id() else { return Ok(Calls::new()) };
    let folder = tempfile::tempdir_in(herd.folder()).map_err(Failure::io("create a temporary folder"))?;
    let (summary, messages) = (folder.path().join("summary"), folder.path().join("messages"));
    let output = fs::File::create(&messages).map_err(Failure::io("create a file"))?;

    let mut command = leashed("KILL", "strace");
    command.args(["-f", "-c", "-o"]).arg(&summary).args(["-p", &process.to_string()]);
    command.stdout(Stdio::null()).stderr(output);
    let mut strace = herd.keeper().spawn(command).map_err(Failure::io("start strace"))?;
    let said = || fs::read_to_string(&messages).unwrap_or_default();
    let deadline = Instant::now() + ATTACHED_WITHIN;
    while !said().contains("attached") {
        let ended = !matches!(strace.try_wait(), Ok(None));
        if ended || Instant::now() >= deadline {
            let _ = strace.kill();
            let _ = strace.wait();
            return Err(Failure::Program {
                what: "strace cannot attach (is it installed? an ordinary user needs kernel.yama.ptrace_scope = 0)"
                    .into(),
                said: tail(&said()),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }

    let ran = round::run(herd, subject, load, Until::Transactions(transactions / load.clients));
    // On SIGINT it detaches and writes its summary.
    let _ = Command::new("kill").args(["-INT", &strace.id().to_string()]).status();
    strace.wait().map_err(Failure::io("wait for strace"))?;
    ran?;
    let text = fs::read_to_string(&summary).map_err(Failure::io("read strace's summary"))?;
    Ok(read_summary(&text))
}

/// "% time     seconds  usecs/call     calls    errors syscall"; the errors may be blank.
fn read_summary(text: &str) -> Calls {
    let line = |line: &str| -> Option<(String, u64)> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.first()?.parse::<f64>().ok()?;
        let name = *fields.last().filter(|name| **name != "total")?;
        Some((name.to_owned(), fields.get(3)?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_strace_is_read() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 50.10    0.123456           3     41152           recvfrom
 49.90    0.100000           2     32001        17 sendto
  0.00    0.000000           0         3           futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.223456           2     73156        17 total
";
        let expected = [("recvfrom", 41152), ("sendto", 32001), ("futex", 3)];
        let expected: Calls = expected.into_iter().map(|(name, calls)| (name.to_owned(), calls)).collect();
        assert_eq!(read_summary(text), expected);
    }

    #[test]
    fn what_both_runs_have_in_common_cancels_out() {
        let of = |sends, opens| Calls::from([("sendto".to_owned(), sends), ("openat".to_owned(), opens)]);
        let each = difference(&of(6_500, 7), &of(6_500 + 2 * 12_800, 7), 12_800);
        assert_eq!(each, [("sendto".to_owned(), 2.0), ("openat".to_owned(), 0.0)]);
    }
}
