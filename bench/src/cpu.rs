//! Who used how much CPU time, in nanoseconds as the scheduler counts it.
//!
//! `utime` and `stime` of `/proc/PID/stat` come in ticks of 10 ms, and their sum is what the scheduler counts;
//! `schedstat` has that to the nanosecond. A thread that runs at the moment of reading is behind by up to
//! one tick of the kernel (1 to 4 ms), of the seconds that a round takes.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of `/proc/stat`: fixed by Linux for all of its ports that we run on.
const TICK_NS: u64 = 10_000_000;

/// Whose time is looked at.
#[derive(Debug, Default)]
pub struct Watched {
    pub proxy: Option<u32>,
    pub postmasters: Vec<u32>,
    pub load: u32,
}

/// All counters at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Since 1970, as pgbench's log has it.
    pub at_us: u64,
    proxy_ns: Option<u64>,
    /// Each postmaster and each of its children.
    servers: Vec<(u32, u64)>,
    load_ns: u64,
    machine: Option<Machine>,
}

/// Time spent between two moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    pub proxy_ns: Option<u64>,
    pub servers_ns: u64,
    /// Part of all cores that went to neither proxy nor servers nor load: a busy neighbour.
    pub others: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Machine {
    busy: u64,
    all: u64,
}

impl Snapshot {
    pub fn take(watched: &Watched) -> Self {
        let mut servers = Vec::new();
        for postmaster in &watched.postmasters {
            let family = std::iter::once(*postmaster).chain(children(*postmaster));
            servers.extend(family.filter_map(|process| Some((process, process_ns(process)?))));
        }
        Self {
            proxy_ns: watched.proxy.and_then(process_ns),
            load_ns: process_ns(watched.load).unwrap_or(0),
            machine: fs::read_to_string("/proc/stat").ok().and_then(|text| read_machine(&text)),
            servers,
            at_us: now_us(),
        }
    }

    pub fn until(&self, later: &Self) -> Spent {
        let proxy_ns = self.proxy_ns.zip(later.proxy_ns).map(|(from, to)| to.saturating_sub(from));
        let servers_ns = later
            .servers
            .iter()
            .map(|(process, to)| {
                let from = self.servers.iter().find(|(known, _)| known == process).map_or(0, |(_, ns)| *ns);
                to.saturating_sub(from)
            })
            .sum();
        let ours = proxy_ns.unwrap_or(0) + servers_ns + later.load_ns.saturating_sub(self.load_ns);
        let others = self.machine.zip(later.machine).and_then(|(from, to)| {
            let all = (to.all.saturating_sub(from.all) * TICK_NS) as f64;
            let busy = (to.busy.saturating_sub(from.busy) * TICK_NS) as f64;
            (all > 0.0).then(|| ((busy - ours as f64) / all).max(0.0))
        });
        Spent { proxy_ns, servers_ns, others }
    }
}

pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// What one thread ran, and how long it was ready and had no core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    pub id: u32,
    pub name: String,
    pub ran_ns: u64,
    pub waited_ns: u64,
}

/// Of a process; those that end meanwhile are left out.
pub fn threads(process: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(Path::new("/proc").join(process.to_string()).join("task"));
    let read = |task: fs::DirEntry| -> Option<Thread> {
        let counted = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut fields = counted.split_whitespace().map(|field| field.parse::<u64>().ok());
        let (ran_ns, waited_ns) = (fields.next()??, fields.next()??);
        let name = fs::read_to_string(task.path().join("comm")).ok()?.trim_end().to_owned();
        Some(Thread { id: task.file_name().to_str()?.parse().ok()?, name, ran_ns, waited_ns })
    };
    tasks.into_iter().flatten().flatten().filter_map(read).collect()
}

/// `None` for a process that is gone, or on a kernel that does not count.
pub fn process_ns(process: u32) -> Option<u64> {
    let tasks = fs::read_dir(Path::new("/proc").join(process.to_string()).join("task")).ok()?;
    let mut counted = None;
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        if let Some(ns) = text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()) {
            *counted.get_or_insert(0) += ns;
        }
    }
    counted
}

fn children(process: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|field| field.parse().ok()).collect()
}

/// "cpu  user nice system idle iowait irq softirq steal ...", in ticks over all cores.
fn read_machine(text: &str) -> Option<Machine> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(Machine { busy: all - idle, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_this_process_is_seen_and_grows() {
        let watched = Watched { proxy: Some(std::process::id()), ..Watched::default() };
        let before = Snapshot::take(&watched);
        let mut sum = 0_u64;
        while Snapshot::take(&watched).at_us < before.at_us + 50_000 {
            sum = (0..100_000).fold(sum, |sum: u64, n| std::hint::black_box(sum.wrapping_mul(31) + n));
        }
        let spent = before.until(&Snapshot::take(&watched));
        assert!(spent.proxy_ns.unwrap() > 0, "{spent:?}");
    }

    #[test]
    fn a_backend_that_came_later_counts_whole() {
        let of = |servers: &[(u32, u64)], busy, all| Snapshot {
            at_us: 0,
            proxy_ns: None,
            servers: servers.to_vec(),
            load_ns: 0,
            machine: Some(Machine { busy, all }),
        };
        let before = of(&[(1, 100), (2, 50)], 0, 0);
        let after = of(&[(1, 300), (3, 7)], 30, 100);
        let spent = before.until(&after);
        assert_eq!((spent.proxy_ns, spent.servers_ns), (None, 207));
        assert!((spent.others.unwrap() - 0.3).abs() < 0.001, "{spent:?}");
    }
}
