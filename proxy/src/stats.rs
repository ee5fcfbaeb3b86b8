//! What was done, counted: for each database and user, by each worker for itself.
//!
//! Invariant: one worker writes a [`Counters`], anybody may read it. So a count is a plain load and a plain store on a
//! cache line that nobody else writes; sums are made by the reader, and are exact only at rest.
//!
//! Start reading at [`Stats`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::pinned::Pins;

/// Buckets of a histogram: the first holds up to 64 us, each next one twice as much, the last everything longer (67 s).
pub const BUCKETS: usize = 22;

/// The first bucket's bound is 2 to the power of this, in microseconds.
const FIRST_BUCKET: u32 = 6;

/// A count that one thread writes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Not this: `fetch_add`. It locks the cache line, for writers that are not there.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; BUCKETS],
    sum_us: Count,
}

impl Histogram {
    #[inline]
    pub fn note(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.buckets[bucket(us)].add(1);
        self.sum_us.add(us);
    }
}

/// The bucket of a duration in microseconds.
fn bucket(us: u64) -> usize {
    let bits = u64::BITS - us.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST_BUCKET) as usize).min(BUCKETS - 1)
}

/// The bound of a bucket in seconds; `None`: the last has none.
pub fn bound(bucket: usize) -> Option<f64> {
    (bucket + 1 < BUCKETS).then(|| (1u64 << (FIRST_BUCKET as usize + bucket)) as f64 / 1e6)
}

/// What one worker did for one user on one database; on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Servers lent to a client.
    pub assignments: Count,
    /// Ends of transactions, those of a single statement included.
    pub xacts: Count,
    /// ReadyForQuery messages to clients.
    pub queries: Count,
    /// Bytes from and to clients.
    pub received: Count,
    pub sent: Count,
    /// Waiting for a server excluded.
    pub xact_us: Count,
    /// Parse messages of clients, and those that went to a server.
    pub client_parses: Count,
    pub server_parses: Count,
    pub binds: Count,
    pub logins: Count,
    /// From a client's message until nothing is owed to it, without waiting.
    pub query: Histogram,
    /// Waiting for a server, of those who had to.
    pub wait: Histogram,
}

/// The counters of all workers for one user on one database. They outlive a reload.
#[derive(Debug)]
pub struct Stats {
    workers: Box<[Counters]>,
    /// Clients that are connected now.
    pub clients: AtomicUsize,
    /// Those of them that keep servers for themselves.
    pub pins: Pins,
}

impl Stats {
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Counters::default()).collect(),
            clients: AtomicUsize::new(0),
            pins: Pins::default(),
        }
    }

    /// For the worker itself.
    #[inline]
    pub fn of(&self, worker: usize) -> &Counters {
        &self.workers[worker]
    }

    pub fn sum(&self) -> Sums {
        let mut sums = Sums::default();
        for counters in &self.workers {
            sums.add_counters(counters);
        }
        sums
    }
}

/// Sums at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    pub assignments: u64,
    pub xacts: u64,
    pub queries: u64,
    pub received: u64,
    pub sent: u64,
    pub xact_us: u64,
    pub query_us: u64,
    pub wait_us: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
    pub logins: u64,
    pub query_buckets: [u64; BUCKETS],
    pub wait_buckets: [u64; BUCKETS],
}

impl Sums {
    fn add_counters(&mut self, c: &Counters) {
        self.assignments += c.assignments.get();
        self.xacts += c.xacts.get();
        self.queries += c.queries.get();
        self.received += c.received.get();
        self.sent += c.sent.get();
        self.xact_us += c.xact_us.get();
        self.query_us += c.query.sum_us.get();
        self.wait_us += c.wait.sum_us.get();
        self.client_parses += c.client_parses.get();
        self.server_parses += c.server_parses.get();
        self.binds += c.binds.get();
        self.logins += c.logins.get();
        for (sum, count) in self.query_buckets.iter_mut().zip(&c.query.buckets) {
            *sum += count.get();
        }
        for (sum, count) in self.wait_buckets.iter_mut().zip(&c.wait.buckets) {
            *sum += count.get();
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (own, others) in self.fields().into_iter().zip(other.values()) {
            *own += others;
        }
        let buckets = self.query_buckets.iter_mut().chain(&mut self.wait_buckets);
        for (own, others) in buckets.zip(other.query_buckets.iter().chain(&other.wait_buckets)) {
            *own += others;
        }
    }

    fn fields(&mut self) -> [&mut u64; 12] {
        [
            &mut self.assignments,
            &mut self.xacts,
            &mut self.queries,
            &mut self.received,
            &mut self.sent,
            &mut self.xact_us,
            &mut self.query_us,
            &mut self.wait_us,
            &mut self.client_parses,
            &mut self.server_parses,
            &mut self.binds,
            &mut self.logins,
        ]
    }

    /// In the order of the console's columns.
    pub fn values(&self) -> [u64; 12] {
        [
            self.assignments,
            self.xacts,
            self.queries,
            self.received,
            self.sent,
            self.xact_us,
            self.query_us,
            self.wait_us,
            self.client_parses,
            self.server_parses,
            self.binds,
            self.logins,
        ]
    }

    /// The console's averages between two moments: most are per second; times are per transaction, per query, and, for
    /// waiting, per second again.
    pub fn averages(&self, before: &Self, over: Duration) -> [u64; 12] {
        let (now, before) = (self.values(), before.values());
        let mut d: [u64; 12] = std::array::from_fn(|i| now[i].saturating_sub(before[i]));
        let (xacts, queries) = (d[1], d[2]);
        let micros = (over.as_micros() as u64).max(1);
        for (i, value) in d.iter_mut().enumerate() {
            *value = match i {
                5 => value.checked_div(xacts).unwrap_or(0),
                6 => value.checked_div(queries).unwrap_or(0),
                _ => (u128::from(*value) * 1_000_000 / u128::from(micros)) as u64,
            };
        }
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let cases = [
            (0, 0),
            (1, 0),
            (64, 0),
            (65, 1),
            (128, 1),
            (129, 2),
            (1_000_000, 14),
            (60_000_000, 20),
            (67_108_864, 20),
            (67_108_865, 21),
            (u64::MAX, 21),
        ];
        for (us, expected) in cases {
            assert_eq!(bucket(us), expected, "{us} us");
            if let Some(bound) = bound(expected) {
                assert!(us as f64 / 1e6 <= bound, "{us} us is above {bound} s");
            }
        }
        assert_eq!(bound(0), Some(0.000_064));
        assert_eq!(bound(BUCKETS - 1), None);
    }

    #[test]
    fn sums_are_over_all_workers_and_averages_over_the_time_between() {
        let stats = Stats::new(2);
        for worker in 0..2 {
            let counters = stats.of(worker);
            counters.xacts.add(10);
            counters.queries.add(30);
            counters.xact_us.add(4_000);
            counters.received.add(1_000);
            counters.query.note(Duration::from_micros(600));
            counters.wait.note(Duration::from_millis(2));
        }
        let sums = stats.sum();
        assert_eq!((sums.xacts, sums.queries, sums.query_us, sums.wait_us), (20, 60, 1_200, 4_000));
        assert_eq!(sums.query_buckets.iter().sum::<u64>(), 2);

        let averages = sums.averages(&Sums::default(), Duration::from_secs(2));
        // Assigned, transactions, queries, received, sent, per transaction, per query, waiting per second.
        assert_eq!(averages[..8], [0, 10, 30, 1_000, 0, 400, 20, 2_000]);
        let mut twice = sums.clone();
        twice.add(&sums);
        assert_eq!((twice.xacts, twice.query_buckets.iter().sum::<u64>()), (40, 4));
        assert_eq!(twice.averages(&twice.clone(), Duration::ZERO), [0; 12]);
    }
}
