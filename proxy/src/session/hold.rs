//! Planning in a sharded database: what a statement touches is noted, and where that is on hold, the statement waits.
//!
//! Invariant: between the look at the topology that is in force and the note on the card there is no wait. So whoever asks this
//! worker after a hold was put in force finds everybody who may touch its unit all the same.
//!
//! Start reading at [`Session::plan`].

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use pgherd_router::plan::{Params, Plan, Statement};
use pgherd_router::topology::Topology;
use pgherd_router::touch::{Touched, Unit};
use pgherd_router::{Refusal, touch};
use pgherd_wire::message::Report;
use tokio::sync::watch;

use super::{End, Session};
use crate::lease::{self, PATIENCE};
use crate::roster::Phase;

/// Of a row that has no place: only such a refusal may end when the catalog is asked.
const NO_PLACE: &str = "23514";

/// What keeps a statement from running now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A hold, by its number.
    Held(i64),
    /// There is no lease.
    CutOff,
    /// Rows may have moved under the transaction: it cannot go on.
    Moved,
}

impl Session {
    /// The plan of a statement that may run at once. `None`: the long way knows what is in the way.
    pub(super) fn plan_now(
        &self,
        topology: &Topology,
        statement: &Statement,
        text: &str,
        params: Params<'_>,
    ) -> Option<Plan> {
        let touched = Touched::default();
        let template = &*statement.template;
        let plan = template.plan_touching(topology, text, &statement.literals, params, &touched).ok()?;
        self.touch(topology, &touched).ok()?;
        Some(plan)
    }

    /// The plan, when all that it touches may be touched; after a look into the catalog if that is what it lacks.
    pub(super) async fn plan(
        &mut self,
        statement: &Statement,
        text: &str,
        params: Params<'_>,
    ) -> Result<Result<Plan, Refusal>, End> {
        let template = &*statement.template;
        let mut asked = false;
        let mut wait: Option<Wait> = None;
        let outcome = loop {
            let topology = self.topology();
            let touched = Touched::default();
            let plan = template.plan_touching(&topology, text, &statement.literals, params, &touched);
            let plan = match plan {
                Ok(plan) => plan,
                Err(refusal) if refusal.sqlstate == NO_PLACE && !asked => {
                    asked = true;
                    let unknown = template.not_known(&topology, text, &statement.literals, params);
                    let Some((distribution, keys)) = unknown else { break Ok(Err(refusal)) };
                    let Some(distribution) = topology.distributions.get(distribution) else {
                        break Ok(Err(refusal));
                    };
                    self.db.place(&distribution.name, keys).await;
                    continue;
                }
                Err(refusal) => break Ok(Err(refusal)),
            };
            match self.wait_to_touch(&topology, &touched, &mut wait).await {
                Ok(Ok(true)) => break Ok(Ok(plan)),
                Ok(Ok(false)) => {}
                Ok(Err(report)) => break Ok(Err(refusal_of(report))),
                Err(end) => break Err(end),
            }
        };
        self.end_wait(wait);
        outcome
    }

    /// From here on the transaction has to do with everything: nothing moves until it ends.
    pub(super) async fn touch_everything(&mut self) -> Result<Result<(), Report>, End> {
        let touched = Touched::default();
        touched.note(Unit::EVERYTHING);
        let mut wait = None;
        let outcome = loop {
            let topology = self.topology();
            match self.wait_to_touch(&topology, &touched, &mut wait).await {
                Ok(Ok(true)) => break Ok(Ok(())),
                Ok(Ok(false)) => {}
                Ok(Err(report)) => break Ok(Err(report)),
                Err(end) => break Err(end),
            }
        };
        self.end_wait(wait);
        outcome
    }

    /// `true`: it is touched; `false`: it has to be planned again, with what is in force now.
    async fn wait_to_touch(
        &mut self,
        topology: &Topology,
        touched: &Touched,
        wait: &mut Option<Wait>,
    ) -> Result<Result<bool, Report>, End> {
        let obstacle = match self.touch(topology, touched) {
            Ok(()) => return Ok(Ok(true)),
            Err(Obstacle::Moved) => return Ok(Err(lease::moved_under())),
            Err(obstacle) => obstacle,
        };
        let generation = topology.holds.iter().map(|hold| hold.generation).max().unwrap_or_default();
        self.card.stand.wait(self.db.number, self.db.lease.tenure(), generation, touched);
        let Some(wait) = wait else {
            // What was in force may have changed before anybody listened: one more look.
            *wait = Some(Wait { changes: self.db.changes(), begun: Instant::now() });
            // What was asked before is answered meanwhile.
            self.settle().await?;
            return Ok(Ok(false));
        };
        Ok(self.wait_for_change(wait, obstacle).await?.map(|()| false))
    }

    fn end_wait(&mut self, wait: Option<Wait>) {
        if let Some(wait) = wait {
            self.card.stand.waits_no_more();
            let waited = wait.begun.elapsed();
            self.waited += waited;
            self.pools.stats.of(self.worker.id).wait.note(waited);
        }
    }

    /// Waits until something else is in force, the client is cancelled or gone, or its patience is at its end.
    async fn wait_for_change(
        &mut self,
        wait: &mut Wait,
        obstacle: Obstacle,
    ) -> Result<Result<(), Report>, End> {
        let cancel = self.cancel.clone();
        let cancelled = std::pin::pin!(cancel.waiting());
        let mut cancelled = cancelled;
        let until = tokio::time::Instant::from_std(wait.begun + PATIENCE);
        let patience = std::pin::pin!(tokio::time::sleep_until(until));
        let mut patience = patience;
        self.card.phase.set(Phase::Waiting);
        let outcome = loop {
            let half_open = self.client.eof;
            let left = poll_fn(|cx| {
                self.client.poll_flush(cx);
                if !half_open && self.client.inbox_has_room() {
                    self.client.poll_fill(cx);
                }
                let left = self.client.gone || self.card.ends().is_some() || self.client.eof != half_open;
                if left { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::select! {
                biased;
                // The database has another placement, or no task any more that would say so.
                _ = wait.changes.changed() => break Ok(Ok(())),
                () = &mut cancelled => {
                    break Ok(Err(Report::error("57014", "canceling statement due to user request")));
                }
                () = left => {
                    if self.client.gone || self.card.ends().is_some() || !self.half_closed().await {
                        break Err(End::Client);
                    }
                }
                () = &mut patience => {
                    break Ok(Err(match obstacle {
                        Obstacle::Held(id) => lease::held_too_long(wait.begun.elapsed(), id),
                        Obstacle::CutOff => self.cut_off(),
                        Obstacle::Moved => lease::moved_under(),
                    }));
                }
            }
        };
        self.card.phase.set(Phase::Running);
        outcome
    }

    fn cut_off(&self) -> Report {
        let catalog = self.db.config.shards.get(self.db.config.catalog);
        lease::cut_off(catalog.map_or("?", |shard| &shard.name))
    }

    /// Notes what a statement touches that is about to run, unless something is in the way.
    fn touch(&self, topology: &Topology, touched: &Touched) -> Result<(), Obstacle> {
        let stand = &self.card.stand;
        let block = self.block.as_ref();
        // With its first statement, whichever that is, it may take its only snapshot.
        let snapshot = block.map(|_| stand.sees(topology.generation)).unwrap_or_default();
        if touched.is_empty() {
            return Ok(());
        }
        // The clock was read when the client's message came; with more of them under way, that may be a while ago.
        let now = if self.links.is_empty() { self.card.since.get() } else { Instant::now() };
        let tenure = self.db.lease.tenure();
        if !stand.is_of(tenure) {
            return Err(Obstacle::Moved);
        }
        if !self.db.lease.serves(now) && !self.db.lease.serves(Instant::now()) {
            return Err(Obstacle::CutOff);
        }
        if let Some(hold) = topology.holds.iter().find(|hold| stand.is_kept(tenure, touched, hold)) {
            return Err(Obstacle::Held(hold.id));
        }
        let unseen = |moved: &&touch::Moved| moved.generation > snapshot;
        let of_server = self.pools.default_isolation();
        if block.is_some_and(|block| block.keeps_snapshot(&self.settings, of_server).is_some())
            && topology
                .moved
                .iter()
                .rev()
                .take_while(unseen)
                .any(|moved| stand.is_new_in(touched, &moved.held))
        {
            return Err(Obstacle::Moved);
        }
        stand.touch(self.db.number, tenure, touched);
        Ok(())
    }

    /// What was planned before may run now: the lease has not ended meanwhile.
    pub(super) fn still_placed(&self) -> Option<Report> {
        if !self.db.sharded || self.card.stand.touched.is_empty() {
            return None;
        }
        if !self.card.stand.is_of(self.db.lease.tenure()) {
            return Some(lease::moved_under());
        }
        (!self.db.lease.serves(Instant::now())).then(|| self.cut_off())
    }

    /// What was done since this tenure was asked for was done by one placement.
    pub(super) fn placed_since(&self, tenure: u64) -> Option<Report> {
        let lease = &self.db.lease;
        let kept = !self.db.sharded || lease.tenure() == tenure && lease.serves(Instant::now());
        (!kept).then(lease::moved_under)
    }
}

pub(super) struct Wait {
    changes: watch::Receiver<u64>,
    begun: Instant,
}

fn refusal_of(report: Report) -> Refusal {
    let sqlstate = match &*report.sqlstate {
        "57014" => "57014",
        "55P03" => "55P03",
        "57P03" => "57P03",
        _ => "40001",
    };
    Refusal { sqlstate, message: report.message, detail: report.detail, hint: report.hint }
}
