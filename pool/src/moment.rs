//! The snapshot gate: taking the snapshots of one statement on several shards and committing one transaction on several
//! shards exclude each other (DESIGN.md section 7). So such a statement sees all of such a transaction, or nothing of it.
//!
//! Invariants:
//! - many may be inside, but all of one side: those that take snapshots, or those that commit;
//! - who waits is let in first come first served, a side at a time, so that neither side starves the other;
//! - a commit never waits longer than [`PATIENCE`]: it holds locks, and what it waits for may wait for them. It *overtakes*: whoever
//!   was taking snapshots finds that its leave is void, and takes them again;
//! - a shard that may hold a transaction which was decided elsewhere and is not yet committed there is *unsettled* until a
//!   resolver has seen that it holds none.
//!
//! It is of one process: several pgherds have one each.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

/// How long a commit waits for those that take snapshots. They need one round trip to every shard; longer only when one of them
/// waits for the lock of a table, whose holder may be this commit.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Snapshot,
    Commit,
}

#[derive(Debug, Default)]
pub struct SnapshotGate {
    state: Mutex<State>,
    /// Shards that may hold half of a decided transaction, each with the number of the last event that made it so.
    unsettled: Mutex<HashMap<String, u64>>,
    events: AtomicU64,
    settled: Notify,
    /// Commits that went in so far, and how many there were when somebody asked last.
    commits: AtomicU64,
    seen: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    snapshots: usize,
    commits: usize,
    /// Counted up when those that take snapshots are overtaken.
    generation: u64,
    queue: VecDeque<(Side, oneshot::Sender<Leave>)>,
}

/// The right to be inside; given back on drop.
#[derive(Debug)]
pub struct Leave {
    gate: Arc<SnapshotGate>,
    side: Side,
    generation: u64,
}

impl Leave {
    /// No commit has gone in meanwhile: what was seen since is of one moment.
    pub fn is_valid(&self) -> bool {
        self.side == Side::Commit || self.gate.lock().generation == self.generation
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        match self.side {
            Side::Commit => state.commits -= 1,
            // Overtaken: it is not counted any more.
            Side::Snapshot if state.generation != self.generation => return,
            Side::Snapshot => state.snapshots -= 1,
        }
        self.gate.admit(state);
    }
}

impl SnapshotGate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets in those at the head of the queue, if their side may be inside now.
    fn admit(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut admitted = Vec::new();
        while let Some((side, _)) = state.queue.front() {
            let side = *side;
            if !state.allows(side) {
                break;
            }
            let Some((_, sender)) = state.queue.pop_front() else { break };
            admitted.push((sender, self.count_in(&mut state, side)));
        }
        drop(state);
        for (sender, leave) in admitted {
            // Whoever has gone away meanwhile gets it back here, and drops it: not under the lock.
            let _ = sender.send(leave);
        }
    }

    fn count_in(self: &Arc<Self>, state: &mut State, side: Side) -> Leave {
        match side {
            Side::Snapshot => state.snapshots += 1,
            Side::Commit => {
                state.commits += 1;
                self.commits.fetch_add(1, Ordering::Relaxed);
            }
        }
        Leave { gate: self.clone(), side, generation: state.generation }
    }

    fn ask(self: &Arc<Self>, side: Side) -> Result<Leave, oneshot::Receiver<Leave>> {
        let mut state = self.lock();
        if state.queue.is_empty() && state.allows(side) {
            return Ok(self.count_in(&mut state, side));
        }
        let (sender, receiver) = oneshot::channel();
        state.queue.push_back((side, sender));
        Err(receiver)
    }

    /// Waits for leave to take snapshots; whoever calls bounds the wait.
    ///
    /// # Cancel safety
    /// Safe: who goes away leaves the queue, or passes on what it was granted.
    pub async fn snapshot(self: &Arc<Self>) -> Leave {
        match self.ask(Side::Snapshot) {
            Ok(leave) => leave,
            Err(granted) => match granted.await {
                Ok(leave) => leave,
                // The queue is never dropped while somebody holds the gate, and its senders always send.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Leave to take snapshots, if nobody stands in the way.
    pub fn try_snapshot(self: &Arc<Self>) -> Option<Leave> {
        let mut state = self.lock();
        (state.queue.is_empty() && state.allows(Side::Snapshot))
            .then(|| self.count_in(&mut state, Side::Snapshot))
    }

    /// Leave to commit: after [`PATIENCE`] at most.
    ///
    /// # Cancel safety
    /// Safe, as [`Self::snapshot`].
    pub async fn commit(self: &Arc<Self>) -> Leave {
        match self.ask(Side::Commit) {
            Ok(leave) => leave,
            Err(granted) => match tokio::time::timeout(PATIENCE, granted).await {
                Ok(Ok(leave)) => leave,
                _ => self.overtake(),
            },
        }
    }

    fn overtake(self: &Arc<Self>) -> Leave {
        let mut state = self.lock();
        if state.snapshots > 0 {
            state.generation += 1;
            state.snapshots = 0;
        }
        self.count_in(&mut state, Side::Commit)
    }

    /// Whether commits went in since the last call.
    pub fn has_news(&self) -> bool {
        let commits = self.commits.load(Ordering::Relaxed);
        self.seen.swap(commits, Ordering::Relaxed) != commits
    }

    fn shards(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This shard may hold a transaction that was decided and not committed there.
    pub fn unsettle(&self, shard: &str) {
        let event = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        self.shards().insert(shard.to_owned(), event);
    }

    /// What a resolver needs before it looks at a shard, to say afterwards that it is settled.
    pub fn doubt(&self, shard: &str) -> Option<u64> {
        self.shards().get(shard).copied()
    }

    /// The shard held none when it was looked at, and `doubt` was before that.
    pub fn settle(&self, shard: &str, doubt: u64) {
        let mut shards = self.shards();
        if shards.get(shard) == Some(&doubt) {
            shards.remove(shard);
            drop(shards);
            self.settled.notify_waiters();
        }
    }

    /// One of them that is not settled.
    pub fn unsettled<'a>(&self, mut shards: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let unsettled = self.shards();
        if unsettled.is_empty() {
            return None;
        }
        shards.find(|shard| unsettled.contains_key(*shard))
    }

    /// Waits until all of them are settled; whoever calls bounds the wait. Cancel safe.
    pub async fn settled(&self, shards: &[String]) {
        loop {
            let told = self.settled.notified();
            tokio::pin!(told);
            // Before the look: what is told between the two is not missed.
            told.as_mut().enable();
            if self.unsettled(shards.iter().map(String::as_str)).is_none() {
                return;
            }
            told.await;
        }
    }
}

impl State {
    fn allows(&self, side: Side) -> bool {
        match side {
            Side::Snapshot => self.commits == 0,
            Side::Commit => self.snapshots == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<SnapshotGate> {
        Arc::default()
    }

    #[tokio::test(start_paused = true)]
    async fn snapshots_and_commits_exclude_each_other_and_many_of_one_side_do_not() {
        let gate = gate();
        let one = gate.snapshot().await;
        let two = gate.snapshot().await;
        let commit = tokio::spawn({
            let gate = gate.clone();
            async move { gate.commit().await }
        });
        tokio::task::yield_now().await;
        assert!(gate.try_snapshot().is_none(), "nobody overtakes who waits");
        drop(one);
        tokio::task::yield_now().await;
        assert!(!commit.is_finished());
        assert!(two.is_valid());
        drop(two);
        let commit = commit.await.unwrap();
        assert!(gate.try_snapshot().is_none());
        drop(commit);
        assert!(gate.try_snapshot().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_does_not_wait_for_ever_and_who_is_overtaken_learns_of_it() {
        let gate = gate();
        let stuck = gate.snapshot().await;
        let commit = gate.commit().await;
        assert!(!stuck.is_valid());
        drop(stuck);
        assert!(gate.try_snapshot().is_none(), "the commit is still inside");
        drop(commit);
        let again = gate.try_snapshot().unwrap();
        assert!(again.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_waiting_takes_nothing_with_it() {
        let gate = gate();
        let commit = gate.commit().await;
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.snapshot().await }
        });
        tokio::task::yield_now().await;
        // Granted and given up in the same moment.
        drop(commit);
        waiting.abort();
        let _ = waiting.await;
        drop(gate.commit().await);
        let state = gate.lock();
        assert_eq!((state.snapshots, state.commits, state.queue.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_behind_a_snapshot_that_waits_for_commits_inside_goes_in_all_the_same() {
        // The one inside may wait for a lock that the one behind the queue holds.
        let gate = gate();
        let inside = gate.commit().await;
        let reader = tokio::spawn({
            let gate = gate.clone();
            async move { gate.snapshot().await }
        });
        tokio::task::yield_now().await;
        let behind = gate.commit().await;
        drop((inside, behind));
        assert!(reader.await.unwrap().is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_is_unsettled_until_somebody_looked_after_the_last_event() {
        let gate = gate();
        gate.unsettle("s1");
        let doubt = gate.doubt("s1").unwrap();
        gate.unsettle("s1");
        gate.settle("s1", doubt);
        assert_eq!(gate.unsettled(["s0", "s1"].into_iter()), Some("s1"));
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.settled(&["s1".into()]).await }
        });
        tokio::task::yield_now().await;
        gate.settle("s1", gate.doubt("s1").unwrap());
        waiting.await.unwrap();
        assert_eq!(gate.unsettled(["s1"].into_iter()), None);
    }
}
