//! Instructions of pgherd per select-only transaction, outside the kernel, counted by callgrind.
//!
//! A count, not a time: the same on a busy machine and on a quiet one, within about a hundredth (how many events one wait
//! brings differs). A run of few transactions is subtracted from a run of many, each with a pgherd of its own: what starting and
//! logging in cost cancels out. What the kernel does is not in it; see `syscalls` for that.

use std::process::Command;

use pgherd::demo::servers::Herd;

use crate::failure::Failure;
use crate::report::{self, Setting};
use crate::round::{self, Load, Protocol, Script, Until};
use crate::subjects::Pgherd;

const CLIENTS: u32 = 8;

/// Of each client.
const FEW: u32 = 500;
const MANY: u32 = 2_500;

/// # Errors
/// [`Failure::Program`] when valgrind is missing, or a transaction failed.
pub fn count(herd: &Herd, pgherd: &Pgherd, loads: &[Load], setting: &Setting) -> Result<(), Failure> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        let what =
            "valgrind is needed to count instructions, and was not found (Debian: apt-get install valgrind)";
        return Err(Failure::Program { what: what.into(), said: String::new() });
    }
    let mut rows = vec![["protocol", "instructions"].map(str::to_owned).to_vec()];
    for protocol in Protocol::ALL {
        if !loads.iter().any(|load| load.protocol == protocol) {
            continue;
        }
        let load = Load { script: Script::Select, protocol, clients: CLIENTS, jobs: 1, seconds: 0 };
        let few = collected(herd, pgherd, &load, FEW)?;
        let many = collected(herd, pgherd, &load, MANY)?;
        let each = many.saturating_sub(few) / u64::from((MANY - FEW) * CLIENTS);
        eprintln!("{}: {each} instructions", protocol.name());
        rows.push(vec![protocol.name().into(), each.to_string()]);
    }
    println!(
        "Instructions of pgherd outside the kernel, per select-only transaction ({setting}), counted with `valgrind --tool=callgrind`:\n"
    );
    print!("{}", report::table(&rows));
    Ok(())
}

/// Of one pgherd, from its start to its end.
fn collected(herd: &Herd, pgherd: &Pgherd, load: &Load, transactions: u32) -> Result<u64, Failure> {
    let mut subject = pgherd.start_counted(herd)?;
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
