//! The schema as a transaction sees it that changed it.
//!
//! Invariants:
//! - a statement behind DDL in the same transaction is planned with what that DDL made; nobody else sees it before the commit;
//! - such a transaction touches everything: the placement that it plans with stays in force until it ends.

use std::sync::Arc;

use pgherd_router::plan::Statement;
use pgherd_router::topology::Topology;
use pgherd_router::{ShardId, planner};
use pgherd_wire::message;

use super::link::Unit;
use super::{End, Session};
use crate::control::facts::{self, Catalogs};
use crate::control::{Problem, next_version};

/// The first shard's catalogs, through the client's own transaction there.
struct Inside<'a> {
    session: &'a mut Session,
    index: usize,
}

impl Catalogs for Inside<'_> {
    async fn rows(&mut self, sql: &str) -> Result<facts::Rows, Problem> {
        let Self { session, index } = self;
        session.links[*index].send_unit(sql, Unit::Collect);
        session.run_units(&[*index]).await;
        session.unit_result(*index).map_err(|report| report.message)?;
        let rows = std::mem::take(&mut session.links[*index].captured.rows);
        let read = |row: Vec<u8>| -> Result<Vec<Option<String>>, Problem> {
            let mut values = Vec::new();
            message::read_data_row(&row, &mut values).map_err(|_| "a row cannot be read")?;
            Ok(values.iter().map(|value| value.map(|v| String::from_utf8_lossy(v).into_owned())).collect())
        };
        rows.into_iter().map(read).collect()
    }
}

impl Session {
    pub(super) fn topology(&self) -> Arc<Topology> {
        match self.block.as_ref().and_then(|b| b.topology.clone()) {
            Some(own) => own,
            None => self.worker.topology(&self.db),
        }
    }

    /// The statements of a text.
    pub(super) fn analyze(&self, topology: &Topology, sql: &str) -> Vec<Statement> {
        match &self.block {
            // Not this: the worker's templates. They are everybody's, and of one schema at a time.
            Some(block) if block.topology.is_some() => planner::Cache::default().analyze(topology, sql),
            _ => self.worker.analyze(topology, sql),
        }
    }

    /// Before a statement is planned: reads the facts again if this transaction has changed the schema.
    pub(super) async fn see_own_schema(&mut self) -> Result<(), End> {
        let stale = |session: &Self| session.block.as_ref().is_some_and(|block| block.topology_stale);
        if !stale(self) || self.client.failed || !self.db.sharded {
            return Ok(());
        }
        self.settle().await?;
        if self.skipping() || !stale(self) {
            return Ok(());
        }
        match self.touch_everything().await? {
            Ok(()) => {}
            Err(report) => {
                // Without the schema of its own it cannot go on.
                if let Some(block) = &mut self.block {
                    block.loss = Some(Box::new(report));
                }
                self.fail_block();
                return Ok(());
            }
        }
        self.sync_links();
        let first = ShardId(facts::FIRST as u16);
        let Some(index) = self.links.iter().position(|link| link.shard == first && link.in_block) else {
            // Only tables of another shard were changed, of which there are no facts.
            return Ok(());
        };
        let db = self.db.clone();
        let facts = facts::load(&db, &mut Inside { session: self, index }).await;
        self.purge_broken();
        let facts = facts.unwrap_or_else(|why| {
            // Without facts the router refuses what depends on them; the server said why the transaction has failed.
            tracing::warn!(database = %db.name, %why, "the schema cannot be read inside a transaction");
            Default::default()
        });
        let old = self.topology();
        if let Some(block) = &mut self.block {
            block.topology_stale = false;
            block.topology = Some(Arc::new(Topology { facts, version: next_version(), ..(*old).clone() }));
        }
        Ok(())
    }
}
