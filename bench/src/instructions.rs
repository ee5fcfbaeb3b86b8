//! Instructions of pgherd's worker per transaction, outside the kernel, counted by callgrind.
//!
//! A count, not a time: the same on a busy machine and on a quiet one, within about a hundredth (how many events one wait
//! brings differs). A run of few transactions is subtracted from a run of many, each with a pgherd of its own: what starting and
//! logging in cost cancels out. What the kernel does is not in it; see `syscalls` for that.

use std::fs;
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
    open_doors(herd)?;
    let mut rows = vec![["transaction", "protocol", "", "instructions"].map(str::to_owned).to_vec()];
    for (script, protocol, poolers) in plan.counted() {
        for pooler in poolers.into_iter().filter(|pooler| *pooler != Pooler::PgBouncer) {
            let count = match refusals.why(script, pooler) {
                Some(_) => "refused".to_owned(),
                None => each(herd, pgherd, pooler, script, protocol)?.to_string(),
            };
            eprintln!("instructions of {}, {}, {pooler}: {count}", script.name(), protocol.name());
            rows.push(vec![script.name().into(), protocol.name().into(), pooler.name().into(), count]);
        }
    }
    println!(
        "Instructions of the worker of pgherd outside the kernel, per transaction ({setting}), counted with `valgrind --tool=callgrind`:\n"
    );
    print!("{}", report::table(&rows));
    Ok(())
}

/// The servers let everybody in: proving who it is costs pgherd twenty million instructions for each server connection, and how
/// many it opens differs from run to run.
fn open_doors(herd: &Herd) -> Result<(), Failure> {
    for server in 0..herd.len() {
        let file = herd.folder().join(format!("s{server}/data/pg_hba.conf"));
        let rules = fs::read_to_string(&file).map_err(Failure::io("read pg_hba.conf"))?;
        fs::write(&file, format!("host all all 127.0.0.1/32 trust\n{rules}"))
            .map_err(Failure::io("write pg_hba.conf"))?;
        herd.psql(server, "SELECT pg_reload_conf()")?;
    }
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

/// Of the worker of one pgherd, from its start to its end. It is the thread that did most: what the others do (the
/// catalog's tasks, each second) belongs to no transaction, and is more the slower the machine is.
fn collected(
    herd: &Herd,
    pgherd: &Pgherd,
    pooler: Pooler,
    load: &Load,
    transactions: u32,
) -> Result<u64, Failure> {
    let behind = if pooler == Pooler::PgherdSharded { Behind::Shards(1..=SHARDS) } else { Behind::Server(0) };
    let folder = tempfile::tempdir_in(herd.folder()).map_err(Failure::io("create a temporary folder"))?;
    let mut subject = pgherd.start_counted(herd, pooler, &behind, &folder.path().join("counts"))?;
    round::run(herd, &mut subject, load, Until::Transactions(transactions))?;
    let log = subject.stop();
    let mut counts = Vec::new();
    for entry in fs::read_dir(folder.path()).map_err(Failure::io("read the counts of callgrind"))?.flatten() {
        counts.extend(read_count(&fs::read_to_string(entry.path()).unwrap_or_default()));
    }
    let most = counts.into_iter().max();
    most.ok_or_else(|| Failure::Program { what: "callgrind said no count".into(), said: log })
}

/// "totals: 584123456"
fn read_count(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals:")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_callgrind_is_read() {
        let text = "# callgrind format\nversion: 1\nevents: Ir\nfn=(1) main\n+1 7\ntotals: 584123456\n";
        assert_eq!(read_count(text), Some(584_123_456));
        assert_eq!(read_count("totals:\n"), None);
        assert_eq!(read_count(""), None);
    }
}
