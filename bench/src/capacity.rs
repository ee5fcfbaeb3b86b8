//! How much goes through a proxy when nothing else is slow: a stub for a server, and a load that costs little.
//!
//! Question: do two workers do twice as much as one?
//!
//! The plain answer, transactions per second with two workers over those with one, needs two cores for the proxy
//! *and* enough for load and stub beside them. A machine with less gives each less of its cores, and the same ratio would
//! measure the machine. So what is read as well is each worker's time on a core and its wait for one. Workers that are always running
//! or ready to run have no idle moment, wait for no lock and for no other worker: then transactions per second *of CPU
//! time* are what a core would do, and two cores do twice that.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{APP_ROLE, Herd};

use crate::cpu::{self, Thread};
use crate::failure::Failure;
use crate::stub::{Drive, LOAD_THREAD, STUB_THREAD};
use crate::subjects::{Pooler, Subject};

/// More than the pool: a worker always finds the next query waiting.
pub const CLIENTS: u32 = 64;

/// Of the load, and of the stub.
pub const THREADS: u32 = 2;

const WARM_UP: Duration = Duration::from_millis(500);

/// Cores from which on the plain ratio is of the proxy alone: two workers, two threads each of load and stub.
pub const CORES_ENOUGH: usize = 2 + 2 * THREADS as usize;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    pub workers: u32,
    pub tps: f64,
    /// Per transaction.
    pub proxy_us: f64,
    /// Of load and stub, per transaction.
    pub around_us: f64,
    /// Part of the time in which a worker ran or was ready to run: the least of its workers.
    pub busy: f64,
}

impl Capacity {
    /// If each worker had a core, and as long as all of them are busy.
    pub fn of_own_cores(&self) -> f64 {
        f64::from(self.workers) * 1e6 / self.proxy_us * self.busy
    }

    /// Transactions per second that so many cores allow for proxy, load and stub together.
    pub fn most_on(&self, cores: usize) -> f64 {
        let together = cores as f64 * 1e6 / (self.proxy_us + self.around_us);
        together.min(f64::from(self.workers) * 1e6 / self.proxy_us)
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workers, tps, proxy_us, around_us, busy } = self;
        write!(
            f,
            "{workers} workers: {tps:.0} tx/s, proxy {proxy_us:.1} us, load and stub {around_us:.1} us, busy {:.0} %",
            busy * 100.0
        )
    }
}

/// # Errors
/// [`Failure::Program`] when a client is not let in or gets a wrong answer.
pub fn take(herd: &Herd, subject: &mut Subject, workers: u32, seconds: u32) -> Result<Capacity, Failure> {
    let (Some(process), Some(address)) = (subject.process_id(), subject.address) else {
        return Err(Failure::Program { what: "there is no pooler".into(), said: String::new() });
    };
    let pooler = subject.pooler;
    let mut failed = |error: std::io::Error| Failure::Program {
        what: format!("the load through {pooler} to the stub: {error}"),
        said: subject.log_tail(),
    };
    let database = &herd.options().database;
    let drive = Drive::start(address, APP_ROLE, database, CLIENTS, THREADS).map_err(&mut failed)?;
    thread::sleep(WARM_UP);
    let before = Look::take(process, &drive).map_err(&mut failed)?;
    thread::sleep(Duration::from_secs(seconds.into()));
    let after = Look::take(process, &drive).map_err(&mut failed)?;
    Ok(before.until(&after, workers))
}

/// All counters at one moment.
#[derive(Debug)]
struct Look {
    at: Instant,
    answered: u64,
    proxy: Vec<Thread>,
    ours: Vec<Thread>,
}

impl Look {
    fn take(process: u32, drive: &Drive) -> std::io::Result<Self> {
        let mut ours = cpu::threads(std::process::id());
        ours.retain(|thread| [LOAD_THREAD, STUB_THREAD].contains(&thread.name.as_str()));
        Ok(Self { proxy: cpu::threads(process), ours, answered: drive.count()?, at: Instant::now() })
    }

    fn until(&self, later: &Self, workers: u32) -> Capacity {
        let seconds = later.at.duration_since(self.at).as_secs_f64();
        let count = later.answered.saturating_sub(self.answered).max(1) as f64;
        let proxy = differences(&self.proxy, &later.proxy);
        let ran = |threads: &[(u64, u64)]| threads.iter().map(|(ran, _)| *ran as f64).sum::<f64>();
        // Those that worked most are the workers.
        let busy = proxy
            .get(workers.saturating_sub(1) as usize)
            .map_or(0.0, |(ran, waited)| (ran + waited) as f64 / 1e9 / seconds);
        Capacity {
            workers,
            tps: count / seconds,
            proxy_us: ran(&proxy) / 1e3 / count,
            around_us: ran(&differences(&self.ours, &later.ours)) / 1e3 / count,
            busy: busy.min(1.0),
        }
    }
}

/// Time on a core and wait for one, of each thread; the greatest first.
fn differences(before: &[Thread], after: &[Thread]) -> Vec<(u64, u64)> {
    let difference = |thread: &Thread| {
        let known = before.iter().find(|known| known.id == thread.id);
        let (ran, waited) = known.map_or((0, 0), |known| (known.ran_ns, known.waited_ns));
        (thread.ran_ns.saturating_sub(ran), thread.waited_ns.saturating_sub(waited))
    };
    let mut found: Vec<_> = after.iter().map(difference).collect();
    found.sort_by_key(|(ran, waited)| std::cmp::Reverse(ran + waited));
    found
}

/// PgBouncer has one thread.
pub const SUBJECTS: [(Pooler, u32); 3] =
    [(Pooler::PgBouncer, 1), (Pooler::Pgherd, 1), (Pooler::PgherdTwo, 2)];

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, answered: u64, proxy: &[(u32, u64, u64)], ours: &[(u32, u64, u64)]) -> Look {
        let threads = |all: &[(u32, u64, u64)]| {
            let thread = |(id, ran_ns, waited_ns): &(u32, u64, u64)| Thread {
                id: *id,
                name: LOAD_THREAD.into(),
                ran_ns: *ran_ns,
                waited_ns: *waited_ns,
            };
            all.iter().map(thread).collect()
        };
        Look { at, answered, proxy: threads(proxy), ours: threads(ours) }
    }

    #[test]
    fn two_busy_workers_that_share_cores_with_the_load_are_told_from_two_that_wait_for_each_other() {
        let start = Instant::now();
        let end = start + Duration::from_secs(1);
        let before = look(start, 0, &[(1, 0, 0), (2, 0, 0), (3, 0, 0)], &[(9, 0, 0)]);
        // Two workers on two cores with a load that takes half of them: each is ready all the time.
        let shared = look(
            end,
            50_000,
            &[(1, 0, 0), (2, 500_000_000, 500_000_000), (3, 500_000_000, 490_000_000)],
            &[(9, 1_000_000_000, 0)],
        );
        let capacity = before.until(&shared, 2);
        assert!((capacity.proxy_us - 20.0).abs() < 1e-6, "{capacity}");
        assert!((capacity.of_own_cores() - 99_000.0).abs() < 1.0, "{capacity}");
        assert!((capacity.most_on(2) - 50_000.0).abs() < 1.0, "{capacity}");

        // The same work, but each sleeps half of the time.
        let waiting = look(
            end,
            50_000,
            &[(1, 0, 0), (2, 500_000_000, 0), (3, 500_000_000, 0)],
            &[(9, 1_000_000_000, 0)],
        );
        assert!((before.until(&waiting, 2).of_own_cores() - 50_000.0).abs() < 1.0);
    }
}
