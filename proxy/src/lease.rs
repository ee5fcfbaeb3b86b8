//! Whether this pgherd knows for certain where rows are, and what is told to those who ask it to serve all the same.
//!
//! A pgherd has a lease in the catalog, which it renews every other second. While the lease lives, no unit moves that it has not put on
//! hold (`control/follow.rs`). Once it may have ended, units may move unseen: nothing is planned by the old placement any more, and
//! a transaction that was open meanwhile cannot go on.
//!
//! Invariant: the end is reckoned from the moment before the last renewal was sent, by this machine's own clock, and is
//! two seconds nearer than the catalog's: a renewal that is late, or a process that was stopped, only makes it come sooner.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgherd_wire::message::Report;

/// Of a lease, by the catalog's clock.
pub const LEASE: Duration = Duration::from_secs(10);

/// How long after a renewal was sent rows are still served by what was known then.
pub const SERVES: Duration = Duration::from_secs(8);

/// How long a statement waits for rows that are on hold, or for the catalog to be in sight again. A unit is on hold for some tens of
/// milliseconds; one whose mover has died, for six seconds.
pub const PATIENCE: Duration = Duration::from_secs(15);

pub struct Lease {
    began: Instant,
    /// In microseconds since `began`; 0: never had.
    until: AtomicU64,
    /// Counts the times that it was had anew.
    tenure: AtomicU64,
}

impl Default for Lease {
    fn default() -> Self {
        Self { began: Instant::now(), until: AtomicU64::new(0), tenure: AtomicU64::new(0) }
    }
}

impl Lease {
    fn micros(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    /// What is planned at this moment may be planned by the placement in force.
    #[inline]
    pub fn serves(&self, now: Instant) -> bool {
        self.micros(now) < self.until.load(Ordering::Acquire)
    }

    /// Differs before and after a time without a lease.
    #[inline]
    pub fn tenure(&self) -> u64 {
        self.tenure.load(Ordering::Acquire)
    }

    /// It was renewed by a statement that was sent at this moment, and has not ended meanwhile.
    pub fn extend(&self, sent: Instant) {
        self.until.fetch_max(self.micros(sent + SERVES), Ordering::AcqRel);
    }

    /// It is had anew, and the placement was read since. Whoever was served before must not go on.
    pub fn begin(&self, sent: Instant) {
        // In this order: with the old tenure nobody is served any more.
        self.tenure.fetch_add(1, Ordering::AcqRel);
        self.extend(sent);
    }
}

/// Until when is not known where rows are.
pub fn cut_off(catalog: &str) -> Report {
    Report::error("57P03", "it is not known for certain where the rows are")
        .detail(format!(
            "pgherd could not renew its lease in the catalog on shard \"{catalog}\", and rows may move meanwhile."
        ))
        .hint("Try again; pgherd's log says what stands in the way.")
}

/// A transaction that was open while there was no lease, or that looks at rows as of before they moved.
pub fn moved_under() -> Report {
    Report::error("40001", "could not serialize access because rows were moved to another shard meanwhile")
        .hint("Run the transaction again.")
}

pub fn held_too_long(waited: Duration, id: i64) -> Report {
    Report::error("55P03", "the rows are being moved to another shard")
        .detail(format!("The statement waited {} s for move {id} to end.", waited.as_secs()))
        .hint("Try again; pgherd rebalance status says how far the moves are.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_by_itself_and_is_extended_from_when_its_renewal_was_sent() {
        let lease = Lease::default();
        let at = |seconds: u64| lease.began + Duration::from_secs(seconds);
        assert!(!lease.serves(at(0)), "before the first one");
        lease.begin(at(1));
        assert_eq!(lease.tenure(), 1);
        assert!(lease.serves(at(8)));
        assert!(!lease.serves(at(9)));
        lease.extend(at(3));
        assert!(lease.serves(at(10)));
        // An answer to an earlier renewal that came late.
        lease.extend(at(2));
        assert!(lease.serves(at(10)));
        assert!(!lease.serves(at(11)));
        assert_eq!(lease.tenure(), 1);
        lease.begin(at(70));
        assert_eq!(lease.tenure(), 2);
        assert!(lease.serves(at(77)));
    }
}
