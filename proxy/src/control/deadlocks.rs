//! Looks at who waits for whom on all shards, and breaks circles that no server sees whole: the youngest transaction fails
//! with 40P01, as PostgreSQL's own detector has one fail.
//!
//! A task of its own: a shard that is away must not keep it, nor it the resolver.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Shards, describe};
use crate::database::Database;
use crate::deadlock::{self, Waits};

/// Between two looks; a circle is broken within about twice this, which is PostgreSQL's own deadlock_timeout.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Between the two looks that have to agree.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Every role may read it, also of others' backends.
const WAITS: &str = "SELECT pid, pg_catalog.array_to_string(pg_catalog.pg_blocking_pids(pid), ' ')
                     FROM (SELECT DISTINCT pid FROM pg_catalog.pg_locks WHERE NOT granted AND pid IS NOT NULL) w";

/// Runs until the database is closed.
pub async fn watch(db: Arc<Database>, password: Option<String>) {
    let mut shards = Shards::new(db.clone(), password);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !db.is_closed() {
        tick.tick().await;
        if !db.holders.may_deadlock() {
            continue;
        }
        let first = look(&mut shards).await;
        if deadlock::circles(&db.holders.all(), &first).is_empty() {
            continue;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let lasting = deadlock::in_both(&first, &look(&mut shards).await);
        for circle in deadlock::circles(&db.holders.all(), &lasting) {
            let Some(youngest) = circle.iter().max_by_key(|holder| holder.began) else { continue };
            tracing::info!(
                database = %db.name,
                transactions = circle.len(),
                "a deadlock over several shards was found; the youngest transaction is failed",
            );
            youngest.fail().await;
        }
    }
}

/// Shards that cannot be asked are passed over: waits there are not known, and no circle is made of what is not known.
async fn look(shards: &mut Shards) -> Waits {
    let mut waits = Waits::new();
    let held: HashSet<usize> = shards.db.holders.all().iter().flat_map(|holder| holder.shards()).collect();
    for shard in 0..shards.db.config.shards.len() {
        if !held.contains(&shard) {
            continue;
        }
        let rows = match shards.rows(shard, WAITS).await {
            Ok(rows) => rows,
            Err(e) => {
                tracing::debug!(why = %describe(&*e), "waits cannot be read");
                continue;
            }
        };
        for row in rows {
            let [Some(process), Some(blockers)] = &row[..] else { continue };
            let Ok(process) = process.parse() else { continue };
            let blockers = blockers.split(' ').filter_map(|blocker| blocker.parse().ok()).collect();
            waits.insert((shard, process), blockers);
        }
    }
    waits
}
