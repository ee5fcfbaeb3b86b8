//! One moment for a statement on several shards: its snapshots are taken inside the snapshot gate ([`pgherd_pool::SnapshotGate`]).
//!
//! Invariants:
//! - all servers are held before the gate is entered, and it is left when the last of them has taken its snapshot: never
//!   while rows are on their way;
//! - a SELECT's portal takes its snapshot at Bind (PostgreSQL, `PortalStart`), so BindComplete says that it is taken;
//! - nothing reaches the client before it is known that no commit went in between.

use pgherd_config::CrossShardReads;
use pgherd_pool::Leave;
use pgherd_router::ShardId;
use pgherd_router::plan::Isolation;
use pgherd_wire::message::Report;

use super::link::{Link, Unit};
use super::{End, HALF_CLOSED_LOOK, LinkError, Session};

/// How often the snapshots of a statement are taken again when a commit has overtaken them.
pub(super) const ATTEMPTS_MAX: usize = 5;

/// How a statement asks its shards.
pub(super) enum Moment {
    /// Its shards may be of different moments.
    Any,
    /// `flush`: commits go on, so the servers are asked to say at once that they have begun.
    One { leave: Leave, flush: bool },
}

impl Moment {
    pub fn flush(&self) -> bool {
        matches!(self, Self::One { flush: true, .. })
    }

    /// No commit has gone in meanwhile.
    pub fn holds(&self) -> bool {
        match self {
            Self::Any => true,
            Self::One { leave, .. } => leave.is_valid(),
        }
    }
}

impl Session {
    /// Whether a statement that only reads has to see these shards as of one moment.
    pub(super) fn of_one_moment(&self, shards: &[ShardId]) -> bool {
        shards.len() > 1
            && self.db.sharded
            && self.db.config.cross_shard_reads == CrossShardReads::Atomic
            // There the snapshot stands already.
            && !self.block.as_ref().is_some_and(|block| block.snapshot)
    }

    /// The transaction has one snapshot for all its statements, and has not taken it yet.
    pub(super) fn wants_snapshot(&self) -> bool {
        let Some(block) = &self.block else { return false };
        self.db.sharded
            && self.db.config.shards.len() > 1
            && self.db.config.cross_shard_reads == CrossShardReads::Atomic
            && !(block.snapshot || block.of_one_statement || block.late || self.client.failed)
            && block.keeps_snapshot(&self.settings, self.pools.default_isolation())
                == Some(Isolation::RepeatableRead)
    }

    /// A REPEATABLE READ transaction sees all its shards as of the moment of its first statement. Which of them it will need nobody
    /// knows, so all of them join.
    pub(super) async fn take_snapshot(&mut self) -> Result<(), LinkError> {
        self.settle().await?;
        let all = self.topology().all();
        if let Some(block) = &mut self.block {
            block.joining = true;
        }
        let mut joined = Ok(());
        for &shard in &all {
            joined = match self.links.iter().position(|link| link.shard == shard) {
                Some(index) => self.prepare_link(index).await.map_err(LinkError::Refused),
                None => self.join(shard).await.map(drop),
            };
            if joined.is_err() {
                break;
            }
        }
        if let Some(block) = &mut self.block {
            block.joining = false;
        }
        joined?;
        self.take_snapshots_of(&all).await
    }

    /// These shards have joined a block that keeps its snapshots, and have none yet.
    pub(super) async fn take_snapshots_of(&mut self, shards: &[ShardId]) -> Result<(), LinkError> {
        let moment = self.enter_moment(shards).await?;
        let indices: Vec<usize> =
            (0..self.links.len()).filter(|&i| shards.contains(&self.links[i].shard)).collect();
        for &i in &indices {
            // The shortest statement that takes one (PostgreSQL, analyze_requires_snapshot).
            self.links[i].send_unit("SELECT", Unit::Quiet);
        }
        self.run_units_watched(&indices).await?;
        let mut taken = Ok(());
        for &i in &indices {
            if let Err(report) = self.unit_result(i) {
                taken = Err(LinkError::Refused(report));
            }
        }
        self.purge_broken();
        taken?;
        if !moment.holds() {
            return Err(LinkError::Refused(overtaken()));
        }
        if let Some(block) = &mut self.block {
            block.snapshot = true;
        }
        Ok(())
    }

    /// Leave to take the snapshots of one statement. All servers are held.
    pub(super) async fn enter_moment(&mut self, shards: &[ShardId]) -> Result<Moment, LinkError> {
        let gate = self.db.moment.clone();
        let flush = gate.has_news();
        let unsettled = gate.unsettled(shards.iter().map(|shard| self.db.shard_name(*shard))).is_some();
        if !unsettled && let Some(leave) = gate.try_snapshot() {
            return Ok(Moment::One { leave, flush });
        }
        let names: Vec<String> = shards.iter().map(|shard| self.db.shard_name(*shard).to_owned()).collect();
        let patience = self.pools.settings.checkout_timeout;
        let leave = self
            .wait_for(async move {
                let waiting = async {
                    gate.settled(&names).await;
                    gate.snapshot().await
                };
                tokio::time::timeout(patience, waiting).await.map_err(|_| {
                    let unsettled = gate.unsettled(names.iter().map(String::as_str));
                    let detail = match unsettled {
                        Some(shard) => format!("Shard \"{shard}\" may hold a transaction that is committed on another shard and not yet there."),
                        None => format!("Transactions over several shards were being committed for {patience:?}."),
                    };
                    Report::error("55P03", "could not see several shards as of one moment in time")
                        .detail(detail)
                        .hint("Try again; SHOW PREPARED on the console says what is left to be finished.")
                })
            })
            .await?;
        Ok(Moment::One { leave, flush })
    }

    /// Waits until these links, all asked, have taken their snapshots (or have failed). `false`: a commit went in meanwhile, they
    /// have to be asked again; what they said is dropped.
    pub(super) async fn all_begun(&mut self, moment: Moment, indices: &[usize]) -> Result<bool, End> {
        let Moment::One { leave, .. } = moment else { return Ok(true) };
        for &i in indices {
            self.links[i].hold(true);
        }
        loop {
            if !self.client_is_leaving() {
                if self.links_until(indices, Link::has_begun, true).await {
                    break;
                }
            } else if tokio::time::timeout(
                HALF_CLOSED_LOOK,
                self.links_until(indices, Link::has_begun, false),
            )
            .await
            .is_ok()
            {
                break;
            } else if self.client.gone || self.card.ends().is_some() || !self.half_closed().await {
                // Whoever waits for the rows ends the session.
                break;
            }
        }
        for &i in indices {
            self.links[i].hold(false);
        }
        if leave.is_valid() {
            return Ok(true);
        }
        drop(leave);
        for &i in indices {
            self.hush(i);
        }
        self.run_units_watched(indices).await?;
        // An error is said as it is.
        Ok(indices.iter().any(|&i| self.links[i].captured.error.is_some() || self.links[i].broken.is_some()))
    }
}

pub(super) fn overtaken() -> Report {
    Report::error("40001", "could not see several shards as of one moment in time")
        .detail("Transactions over several shards were committed while a shard kept the statement waiting.")
        .hint("Run the transaction again.")
}
