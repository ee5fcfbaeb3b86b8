//! A bound on transactions that hold several servers at once.
//!
//! Why: two such transactions could each hold the last connection the other needs, for ever. With at
//! most as many passes as the smallest pool has connections, whoever has a pass finds, in every pool,
//! a connection that is free or is held by a transaction on one server only, which ends by itself.
//!
//! Pools that share a bound (`cap`) need a gate for it as well, which stands behind theirs: a pass is one of both. Nobody who
//! waits for the outer one is waited for by somebody who has it, for all take them in this order.
//!
//! The queue is tokio's semaphore: FIFO over all workers, and a waiter that is dropped passes on what
//! it was granted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::CheckoutError;

#[derive(Debug)]
pub struct Gate {
    semaphore: Arc<Semaphore>,
    limit: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
    outer: Vec<Arc<Gate>>,
}

/// The right to hold several servers; given back on drop.
///
/// Boxed: few clients have one, and each has room for one.
#[derive(Debug)]
pub struct Pass {
    _permits: Box<[OwnedSemaphorePermit]>,
}

impl Gate {
    /// `limit`: at most the size of the smallest pool behind it, or the bound proves nothing.
    pub fn new(limit: usize, waiting_max: usize) -> Arc<Self> {
        Self::before(Vec::new(), limit, waiting_max)
    }

    /// A gate with others behind it, which have none behind them.
    pub fn before(outer: Vec<Arc<Gate>>, limit: usize, waiting_max: usize) -> Arc<Self> {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            semaphore: Arc::new(Semaphore::new(limit)),
            limit,
            waiting: AtomicUsize::new(0),
            waiting_max,
            outer,
        })
    }

    pub fn outer(&self) -> &[Arc<Gate>] {
        &self.outer
    }

    /// A pass, if one is free and nobody waits for it.
    pub fn try_enter(self: &Arc<Self>) -> Option<Pass> {
        let gates = std::iter::once(self).chain(&self.outer);
        let permits = gates.map(|gate| Arc::clone(&gate.semaphore).try_acquire_owned().ok());
        Some(Pass { _permits: permits.collect::<Option<_>>()? })
    }

    /// Waits for a pass, first come first served.
    ///
    /// # Cancel safety
    /// Safe. A dropped caller leaves the queue; a pass already granted goes to the next.
    pub async fn enter(self: &Arc<Self>, timeout: Duration) -> Result<Pass, CheckoutError> {
        if let Some(pass) = self.try_enter() {
            return Ok(pass);
        }
        let deadline = Instant::now() + timeout;
        let mut permits = Vec::with_capacity(1 + self.outer.len());
        for gate in std::iter::once(self).chain(&self.outer) {
            permits.push(gate.permit(deadline, timeout).await?);
        }
        Ok(Pass { _permits: permits.into() })
    }

    async fn permit(
        &self,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<OwnedSemaphorePermit, CheckoutError> {
        let _waiting = Waiting::register(self)?;
        match tokio::time::timeout_at(deadline, Arc::clone(&self.semaphore).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // An error only says "closed", and nobody closes it.
            Ok(Err(_)) | Err(_) => Err(CheckoutError::GateTimedOut { after: timeout, limit: self.limit }),
        }
    }

    /// Transactions that hold a pass now.
    pub fn inside(&self) -> usize {
        self.limit - self.semaphore.available_permits()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> usize {
        self.limit
    }
}

struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn register(gate: &'a Gate) -> Result<Self, CheckoutError> {
        let this = Self(gate);
        if gate.waiting.fetch_add(1, Ordering::Relaxed) >= gate.waiting_max {
            return Err(CheckoutError::TooManyWaiting { limit: gate.waiting_max });
        }
        Ok(this)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn passes_are_given_first_come_first_served_and_a_newcomer_does_not_overtake() {
        let gate = Gate::new(1, 10);
        let inside = gate.enter(SECOND).await.unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let waiters: Vec<_> = (0..3)
            .map(|n| {
                let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
                tokio::spawn(async move {
                    let _pass = gate.enter(SECOND).await.unwrap();
                    order.lock().unwrap().push(n);
                    tokio::task::yield_now().await;
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(gate.waiting(), 3);

        drop(inside);
        assert!(gate.try_enter().is_none(), "the pass belongs to the first in the queue");
        for waiter in waiters {
            waiter.await.unwrap();
        }

        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        assert_eq!((gate.inside(), gate.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_leaves_the_queue_and_takes_no_pass_with_it() {
        let gate = Gate::new(1, 1);
        let inside = gate.enter(SECOND).await.unwrap();
        assert_eq!(
            gate.enter(SECOND).await.unwrap_err(),
            CheckoutError::GateTimedOut { after: SECOND, limit: 1 }
        );

        let abandoned = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(SECOND).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!(
            gate.enter(SECOND).await.unwrap_err(),
            CheckoutError::TooManyWaiting { limit: 1 },
            "the queue has a bound"
        );
        // Granted and dropped in the same moment.
        drop(inside);
        abandoned.abort();
        let _ = abandoned.await;

        assert!(gate.try_enter().is_some());
        assert_eq!((gate.inside(), gate.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_is_one_of_the_gate_behind_as_well() {
        let shared = Gate::new(1, 10);
        let [one, two] = [(); 2].map(|()| Gate::before(vec![Arc::clone(&shared)], 5, 10));
        let inside = one.enter(SECOND).await.unwrap();
        assert!(two.try_enter().is_none());
        assert_eq!((two.inside(), shared.inside()), (0, 1), "nothing is kept of a pass that was not had");
        assert_eq!(
            two.enter(SECOND).await.unwrap_err(),
            CheckoutError::GateTimedOut { after: SECOND, limit: 1 }
        );
        drop(inside);
        assert!(two.enter(SECOND).await.is_ok());
        assert_eq!((one.inside(), two.inside(), shared.inside()), (0, 0, 0));
    }
}
