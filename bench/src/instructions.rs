//! Instructions of pgherd per transaction, outside the kernel, counted by callgrind.
//!
//! A count, not a time: the same on a busy machine and on a quiet one, within about a hundredth (how many events one wait
//! brings differs). A run of few transactions is subtracted from a run of many, each with a pgherd of its own: what starting and
//! logging in cost cancels out. What the kernel does is not in it; see `syscalls` for that.

use std::process::Command;

use pgherd::demo::servers::Herd;

use crate::SHARDS;
use crate::failure::Failure;
use crate::load::{Door, Load, Protocol, Script, Until};
use crate::plan::Plan;
use crate::refusals::Refusals;
use crate::report::{self, Setting};
use crate::round;
use crate::subjects::{Behind, Pgherd, Pooler};

const CLIENTS: u32 = 8;

/// Of each client, for a statement alone.
const FEW: u32 = 500;
const MANY: u32 = 2_500;

/// # Errors
/// [`Failure::Program`] when valgrind is missing, or a transaction failed.
pub fn count(
    herd: &Herd,
    pgherd: &Pgherd,
    plan: &Plan,
    refusals: &Refusals,
    setting: &Setting,
) -> Result<(), Failure> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        let what =
            "valgrind is needed to count instructions, and was not found (Debian: apt-get install valgrind)";
        return Err(Failure::Program { what: what.into(), said: String::new() });
    }
    let mut rows = vec![["transaction", "protocol", "", "instructions"].map(str::to_owned).to_vec()];
    for (script, protocol, poolers) in plan.counted() {
        for pooler in poolers.into_iter().filter(|pooler| *pooler != Pooler::PgBouncer) {
            let count = match refusals.why(script, pooler) {
                Some(_) => "refused".to_owned(),
                None => each(herd, pgherd, pooler, script, protocol)?.to_string(),
            };
            eprintln!("{}, {}, {pooler}: {count} instructions", script.name(), protocol.name());
            rows.push(vec![script.name().into(), protocol.name().into(), pooler.name().into(), count]);
        }
    }
    println!(
        "Instructions of pgherd outside the kernel, per transaction ({setting}), counted with `valgrind --tool=callgrind`:\n"
    );
    print!("{}", report::table(&rows));
    Ok(())
}

/// Of one transaction.
fn each(
    herd: &Herd,
    pgherd: &Pgherd,
    pooler: Pooler,
    script: Script,
    protocol: Protocol,
) -> Result<u64, Failure> {
    // See `Wishes::load` for the threads.
    let jobs = if script == Script::Tpcb { CLIENTS } else { 1 };
    let load = Load { script, protocol, clients: CLIENTS, jobs, seconds: 0, door: Door::Scram };
    let [few, many] = [FEW, MANY].map(|transactions| transactions / script.weight());
    let difference = collected(herd, pgherd, pooler, &load, many)?
        .saturating_sub(collected(herd, pgherd, pooler, &load, few)?);
    Ok(difference / u64::from((many - few) * CLIENTS))
}

/// Of one pgherd, from its start to its end.
fn collected(
    herd: &Herd,
    pgherd: &Pgherd,
    pooler: Pooler,
    load: &Load,
    transactions: u32,
) -> Result<u64, Failure> {
    let behind = if pooler == Pooler::PgherdSharded { Behind::Shards(1..=SHARDS) } else { Behind::Server(0) };
    let mut subject = pgherd.start_counted(herd, pooler, &behind)?;
    round::run(herd, &mut subject, load, Until::Transactions(transactions))?;
    let log = subject.stop();
    read_count(&log).ok_or_else(|| Failure::Program { what: "callgrind said no count".into(), said: log })
}

/// "==12345== Collected : 584123456"
fn read_count(log: &str) -> Option<u64> {
    log.lines()
        .rev()
        .find_map(|line| line.split_once("Collected : ")?.1.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_callgrind_is_read() {
        let log = "INFO serving\n==77== Events    : Ir\n==77== Collected : 584123456\n==77== \n==77== I   refs:      584,123,456\n";
        assert_eq!(read_count(log), Some(584_123_456));
        assert_eq!(read_count("==77== Collected :\n"), None);
        assert_eq!(read_count(""), None);
    }
}
