//! Clients that keep a server connection for what lives in its session: how many may, how many do, and why.
//!
//! Invariant: a [`Place`] is one client in the count, from the statement that pins it until it lets go or leaves.
//!
//! Not here: what pins and when it has let go (`session::pin`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use pgherd_router::ShardId;
use pgherd_router::plan::SessionEffect;

use crate::stats::Stats;

/// What lives in the session of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    TemporaryTable,
    HoldableCursor,
    AdvisoryLock,
    Listen,
    SqlPrepare,
    /// Nobody knows how to ask a server for it: LOAD, dblink_connect, a setting made by a function.
    Other,
}

impl Reason {
    pub const ALL: [Self; 6] = [
        Self::TemporaryTable,
        Self::HoldableCursor,
        Self::AdvisoryLock,
        Self::Listen,
        Self::SqlPrepare,
        Self::Other,
    ];

    /// `None`: it pins nothing.
    pub fn of(effect: SessionEffect) -> Option<Self> {
        match effect {
            SessionEffect::TemporaryTable => Some(Self::TemporaryTable),
            SessionEffect::HoldableCursor => Some(Self::HoldableCursor),
            SessionEffect::AdvisoryLock => Some(Self::AdvisoryLock),
            SessionEffect::Listen => Some(Self::Listen),
            SessionEffect::SqlPrepare => Some(Self::SqlPrepare),
            SessionEffect::Other => Some(Self::Other),
            SessionEffect::SequenceValue
            | SessionEffect::LetsGo
            | SessionEffect::Notify
            | SessionEffect::ListeningChannels => None,
        }
    }

    /// The label of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::TemporaryTable => "temporary_table",
            Self::HoldableCursor => "holdable_cursor",
            Self::AdvisoryLock => "advisory_lock",
            Self::Listen => "listen",
            Self::SqlPrepare => "sql_prepare",
            Self::Other => "other",
        }
    }

    /// As the beginning of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::TemporaryTable => "A temporary table",
            Self::HoldableCursor => "A cursor WITH HOLD",
            Self::AdvisoryLock => "An advisory lock of the session",
            Self::Listen => "LISTEN",
            Self::SqlPrepare => "A statement of SQL's PREPARE",
            Self::Other => "What the statement changes",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reasons(u8);

impl Reasons {
    pub fn add(&mut self, reason: Reason) {
        self.0 |= reason.bit();
    }

    pub fn has(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// "temporary_table, advisory_lock"
    pub fn names(self) -> String {
        let names = Reason::ALL.into_iter().filter(|reason| self.has(*reason)).map(Reason::name);
        names.collect::<Vec<_>>().join(", ")
    }
}

/// Of one user on one database. They outlive a reload.
#[derive(Debug, Default)]
pub struct Pins {
    clients: AtomicUsize,
    by_reason: [OfReason; Reason::ALL.len()],
}

/// A client counts for the first reason that it had.
#[derive(Debug, Default)]
pub struct OfReason {
    pub now: AtomicUsize,
    pub total: AtomicU64,
    pub refused: AtomicU64,
}

impl Pins {
    pub fn of(&self, reason: Reason) -> &OfReason {
        &self.by_reason[reason as usize]
    }
}

/// A client that is counted.
#[derive(Debug)]
pub struct Place {
    stats: Arc<Stats>,
    reason: Reason,
}

impl Place {
    /// `None`: `max` clients are pinned already.
    pub fn take(stats: &Arc<Stats>, reason: Reason, max: u32) -> Option<Self> {
        let pins = &stats.pins;
        let more = |now: usize| (now < max as usize).then_some(now + 1);
        if pins.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            pins.of(reason).refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        pins.of(reason).now.fetch_add(1, Ordering::Relaxed);
        pins.of(reason).total.fetch_add(1, Ordering::Relaxed);
        Some(Self { stats: stats.clone(), reason })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stats.pins.of(self.reason).now.fetch_sub(1, Ordering::Relaxed);
        self.stats.pins.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// For the console.
#[derive(Debug, Clone)]
pub struct Shown {
    pub reasons: Reasons,
    pub since: SystemTime,
    pub shards: Vec<ShardId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_clients_are_pinned_than_may_be_and_one_that_leaves_makes_room() {
        let stats = Arc::new(Stats::new(1));
        let now = |reason| stats.pins.of(reason).now.load(Ordering::Relaxed);
        let first = Place::take(&stats, Reason::AdvisoryLock, 2);
        let second = Place::take(&stats, Reason::TemporaryTable, 2);
        assert!(first.is_some() && second.is_some());
        assert!(Place::take(&stats, Reason::TemporaryTable, 2).is_none());
        assert_eq!(stats.pins.of(Reason::TemporaryTable).refused.load(Ordering::Relaxed), 1);
        assert_eq!((now(Reason::AdvisoryLock), now(Reason::TemporaryTable)), (1, 1));
        drop(first);
        assert_eq!(now(Reason::AdvisoryLock), 0);
        assert!(Place::take(&stats, Reason::Other, 2).is_some());
        assert!(Place::take(&stats, Reason::Other, 0).is_none());
    }

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        let mut all = Reasons::default();
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            assert!(!all.has(reason));
            all.add(reason);
            assert!(all.has(reason));
        }
        assert!(all.names().starts_with("temporary_table, holdable_cursor, "));
    }
}
