//! Transactions that hold locks on several shards, and how a circle among them is found: each server sees its own part of it only.
//!
//! Invariants:
//! - a transaction is listed from the moment its second shard joins until it ends; one on a single shard waits at one server
//!   only, which finds the circles that it is part of there;
//! - a circle is broken only when two looks, one after the other, have shown every wait of it: each look asks the servers one
//!   by one, and all waits that were there in both were there at once in between;
//! - a circle within one server is that server's own to break (`deadlock_timeout`).
//!
//! Not here: asking the servers (`control::deadlocks`), the words for the victim (`session::client`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dashmap::DashMap;

use crate::cancel::CancelEntry;

/// A backend: index of the shard, and process id there.
pub type Backend = (usize, u32);

/// A transaction on several shards.
pub struct Holder {
    id: u64,
    pub began: Instant,
    backends: Mutex<Vec<Backend>>,
    cancel: Arc<CancelEntry>,
    /// It was chosen to fail, so that others can go on.
    victim: AtomicBool,
    ended: AtomicBool,
}

impl Holder {
    pub fn is_victim(&self) -> bool {
        self.victim.load(Ordering::Acquire) && !self.ended.load(Ordering::Acquire)
    }

    /// One more shard has joined.
    pub fn joined(&self, backend: Backend) {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner).push(backend);
    }

    /// Those that it is on.
    pub fn shards(&self) -> Vec<usize> {
        let backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        backends.iter().map(|(shard, _)| *shard).collect()
    }

    pub async fn fail(&self) {
        self.victim.store(true, Ordering::Release);
        self.cancel.cancel().await;
    }
}

/// All of a database.
#[derive(Default)]
pub struct Holders {
    all: DashMap<u64, Arc<Holder>>,
    next: AtomicU64,
}

/// Listed until it is dropped.
pub struct Listing {
    pub holder: Arc<Holder>,
    holders: Arc<Holders>,
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.holder.ended.store(true, Ordering::Release);
        self.holders.all.remove(&self.holder.id);
    }
}

impl Holders {
    /// `began`: when the transaction did.
    pub fn list(
        self: &Arc<Self>,
        backends: Vec<Backend>,
        began: Instant,
        cancel: Arc<CancelEntry>,
    ) -> Listing {
        let holder = Arc::new(Holder {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            began,
            backends: Mutex::new(backends),
            cancel,
            victim: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        self.all.insert(holder.id, holder.clone());
        Listing { holder, holders: self.clone() }
    }

    /// A circle over several servers takes two transactions that are on several.
    pub fn may_deadlock(&self) -> bool {
        self.all.len() > 1
    }

    pub fn all(&self) -> Vec<Arc<Holder>> {
        self.all.iter().map(|entry| entry.value().clone()).collect()
    }
}

/// Who waits for whom on one server: waiting process, and those that it waits for.
pub type Waits = HashMap<Backend, Vec<u32>>;

/// The circles over several servers among these waits, each as the holders in it; one holder is in one of them at most.
pub fn circles(holders: &[Arc<Holder>], waits: &Waits) -> Vec<Vec<Arc<Holder>>> {
    let mut of_backend: HashMap<Backend, Node> = HashMap::new();
    for holder in holders {
        for backend in &*holder.backends.lock().unwrap_or_else(PoisonError::into_inner) {
            of_backend.insert(*backend, Node::Holder(holder.id));
        }
    }
    let node = |backend: Backend| of_backend.get(&backend).copied().unwrap_or(Node::Alone(backend));
    // An edge, and the server where the wait is.
    let mut edges: HashMap<Node, Vec<(Node, usize)>> = HashMap::new();
    for (&(shard, process), blockers) in waits {
        let from = node((shard, process));
        for &blocker in blockers {
            let to = node((shard, blocker));
            if to != from {
                edges.entry(from).or_default().push((to, shard));
            }
        }
    }
    edges.values_mut().for_each(|targets| targets.sort_unstable());
    let mut found = Vec::new();
    let mut done: HashSet<Node> = HashSet::new();
    let mut starts: Vec<Node> =
        edges.keys().copied().filter(|node| matches!(node, Node::Holder(_))).collect();
    starts.sort_unstable();
    for start in starts {
        if done.contains(&start) {
            continue;
        }
        if let Some(path) = circle_through(start, &edges) {
            let servers: HashSet<usize> = path.iter().map(|(_, shard)| *shard).collect();
            let members: Vec<Arc<Holder>> = holders
                .iter()
                .filter(|holder| path.iter().any(|(node, _)| *node == Node::Holder(holder.id)))
                .cloned()
                .collect();
            if servers.len() > 1 {
                done.extend(path.iter().map(|(node, _)| *node));
                found.push(members);
            }
        }
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Node {
    Holder(u64),
    /// A transaction on one server only, ours or not.
    Alone(Backend),
}

/// A shortest way from a node back to itself: each node that waits, and the server where it does.
fn circle_through(start: Node, edges: &HashMap<Node, Vec<(Node, usize)>>) -> Option<Vec<(Node, usize)>> {
    // From where a node was reached first.
    let mut reached: HashMap<Node, (Node, usize)> = HashMap::new();
    let mut front = vec![start];
    while !front.is_empty() {
        let mut next = Vec::new();
        for from in front {
            for &(to, shard) in edges.get(&from).into_iter().flatten() {
                if to == start {
                    let mut path = vec![(from, shard)];
                    let mut at = from;
                    while at != start {
                        let (before, shard) = reached[&at];
                        path.push((before, shard));
                        at = before;
                    }
                    return Some(path);
                }
                if let std::collections::hash_map::Entry::Vacant(vacant) = reached.entry(to) {
                    vacant.insert((from, shard));
                    next.push(to);
                }
            }
        }
        front = next;
    }
    None
}

/// The waits that both looks have shown.
pub fn in_both(first: &Waits, second: &Waits) -> Waits {
    let mut both = Waits::new();
    for (backend, blockers) in first {
        let Some(again) = second.get(backend) else { continue };
        let kept: Vec<u32> = blockers.iter().copied().filter(|blocker| again.contains(blocker)).collect();
        if !kept.is_empty() {
            both.insert(*backend, kept);
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(all: &[&[Backend]]) -> (Arc<Holders>, Vec<Listing>) {
        let holders = Arc::new(Holders::default());
        let listings = all
            .iter()
            .map(|backends| holders.list(backends.to_vec(), Instant::now(), Arc::default()))
            .collect();
        (holders, listings)
    }

    #[test]
    fn a_circle_is_found_where_no_server_sees_it_whole() {
        let cases: [(&str, &[&[Backend]], &[(Backend, &[u32])], &[&[u64]]); 8] = [
            ("nobody waits", &[&[(0, 1), (1, 1)]], &[], &[]),
            (
                "two on two servers",
                &[&[(0, 1), (1, 1)], &[(0, 2), (1, 2)]],
                &[((0, 1), &[2]), ((1, 2), &[1])],
                &[&[0, 1]],
            ),
            (
                "a wait and no circle",
                &[&[(0, 1), (1, 1)], &[(0, 2), (1, 2)]],
                &[((0, 1), &[2]), ((1, 1), &[2])],
                &[],
            ),
            (
                "one server finds it itself",
                &[&[(0, 1), (1, 1)], &[(0, 2), (1, 2)]],
                &[((0, 1), &[2]), ((0, 2), &[1])],
                &[],
            ),
            (
                "through one that is on a single server",
                &[&[(0, 1), (1, 1)], &[(0, 2), (1, 2)]],
                &[((0, 1), &[9]), ((0, 9), &[2]), ((1, 2), &[1])],
                &[&[0, 1]],
            ),
            (
                "three in a ring",
                &[&[(0, 1), (1, 1)], &[(1, 2), (2, 2)], &[(2, 3), (0, 3)]],
                &[((1, 1), &[2]), ((2, 2), &[3]), ((0, 3), &[1])],
                &[&[0, 1, 2]],
            ),
            (
                "two circles apart",
                &[&[(0, 1), (1, 1)], &[(0, 2), (1, 2)], &[(0, 3), (1, 3)], &[(0, 4), (1, 4)]],
                &[((0, 1), &[2]), ((1, 2), &[1]), ((0, 3), &[4]), ((1, 4), &[3])],
                &[&[0, 1], &[2, 3]],
            ),
            ("for a prepared transaction", &[&[(0, 1), (1, 1)]], &[((0, 1), &[0])], &[]),
        ];
        for (why, all, waits, expected) in cases {
            let (holders, _listings) = listed(all);
            let mut all = holders.all();
            all.sort_by_key(|holder| holder.id);
            let waits = waits.iter().map(|(backend, blockers)| (*backend, blockers.to_vec())).collect();
            let found: Vec<Vec<u64>> =
                circles(&all, &waits).iter().map(|circle| circle.iter().map(|h| h.id).collect()).collect();
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn only_waits_that_last_count() {
        let first: Waits = [((0, 1), vec![2, 3]), ((1, 1), vec![2])].into();
        let second: Waits = [((0, 1), vec![3, 4]), ((1, 2), vec![1])].into();
        assert_eq!(in_both(&first, &second), Waits::from([((0, 1), vec![3])]));
    }

    #[test]
    fn a_transaction_that_ended_is_not_listed() {
        let (holders, listings) = listed(&[&[(0, 1), (1, 1)], &[(0, 2), (1, 2)]]);
        assert!(holders.may_deadlock());
        drop(listings);
        assert!(!holders.may_deadlock() && holders.all().is_empty());
    }
}
