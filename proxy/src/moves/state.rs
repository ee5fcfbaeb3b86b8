//! What the catalog says of a rebalance: for whoever asks, orders, or goes on after a crash.
//!
//! Invariant: nobody needs more than these rows to finish what a coordinator has left.

use std::collections::BTreeMap;

use pgherd_rebalance::placement::Record;
use pgherd_rebalance::sql::literal;

use super::plan::Plan;
use super::servers::Servers;
use super::unit::{Mover, Step};
use crate::control::{Problem, catalog};

/// Moves that are over are kept for this long.
const KEPT: &str = "30 days";

/// Rows written with one statement.
const ROWS_MAX: usize = 500;

/// A rebalance has begun.
///
/// # Errors
/// The catalog said so.
pub async fn begin(servers: &Servers, rate: u64) -> Result<(), Problem> {
    let database = literal(&servers.db.name);
    let shards = servers.db.config.shards.iter();
    let wish: Vec<String> = shards.map(|shard| format!("\"{}\":{}", shard.name, shard.weight)).collect();
    let wish = literal(&format!("{{\"weights\":{{{}}}}}", wish.join(",")));
    let sql = format!(
        "BEGIN;
         UPDATE pgherd.moves SET state = 'cancelled', ended = pg_catalog.clock_timestamp(), note = 'planned anew'
             WHERE database = {database} AND state IN ('waiting', 'held', 'moving', 'deferred', 'failed');
         DELETE FROM pgherd.moves WHERE database = {database} AND ended < pg_catalog.now() - interval '{KEPT}';
         INSERT INTO pgherd.rebalances (database, state, wish, rate) VALUES ({database}, 'running', {wish}, {rate})
         ON CONFLICT (database) DO UPDATE SET state = 'running', wish = EXCLUDED.wish, rate = EXCLUDED.rate,
             started = pg_catalog.now(), ended = NULL, note = '';
         COMMIT;"
    );
    servers.rows(servers.catalog(), &sql).await.map(drop)
}

/// It has ended.
///
/// # Errors
/// The catalog said so.
pub async fn ended(servers: &Servers, state: &str, note: &str) -> Result<(), Problem> {
    let sql = format!(
        "UPDATE pgherd.rebalances SET state = {}, ended = pg_catalog.now(), note = {} WHERE database = {}",
        literal(state),
        literal(note),
        literal(&servers.db.name)
    );
    servers.rows(servers.catalog(), &sql).await.map(drop)
}

/// What the operator wants of it now.
///
/// # Errors
/// The catalog cannot be asked.
pub async fn ordered(servers: &Servers) -> Result<String, Problem> {
    let sql = format!("SELECT state FROM pgherd.rebalances WHERE database = {}", literal(&servers.db.name));
    let rows = servers.rows(servers.catalog(), &sql).await?;
    Ok(rows.into_iter().flatten().flatten().next().unwrap_or_default())
}

/// Tells a running rebalance to pause, go on, or end. `false`: none is running.
///
/// # Errors
/// The catalog cannot be asked.
pub async fn order(servers: &Servers, state: &str) -> Result<bool, Problem> {
    let sql = format!(
        "UPDATE pgherd.rebalances SET state = {} WHERE database = {} AND state IN ('running', 'paused', 'cancelling') RETURNING 1",
        literal(state),
        literal(&servers.db.name)
    );
    Ok(!servers.rows(servers.catalog(), &sql).await?.is_empty())
}

/// # Errors
/// The catalog said so.
pub async fn failed(servers: &Servers, id: i64, why: &str) -> Result<(), Problem> {
    let sql = format!(
        "UPDATE pgherd.moves SET state = 'failed', note = {}, ended = pg_catalog.clock_timestamp() WHERE id = {id} AND state <> 'done'",
        literal(why)
    );
    servers.rows(servers.catalog(), &sql).await.map(drop)
}

/// What waits still will not be moved.
///
/// # Errors
/// The catalog said so.
pub async fn call_off(servers: &Servers, why: &str) -> Result<(), Problem> {
    let sql = format!(
        "UPDATE pgherd.moves SET state = 'cancelled', note = {}, ended = pg_catalog.clock_timestamp()
         WHERE database = {} AND state IN ('waiting', 'deferred')",
        literal(why),
        literal(&servers.db.name)
    );
    servers.rows(servers.catalog(), &sql).await.map(drop)
}

/// Holds of a coordinator that died: their moves are finished or undone, then they go.
///
/// # Errors
/// It is not known yet what became of one.
pub async fn finish_what_was_left(mover: &Mover) -> Result<(), Problem> {
    let servers = &mover.servers;
    let sql = format!(
        "SELECT move, COALESCE(gid, ''), source, target, unit FROM pgherd.holds WHERE database = {} ORDER BY move",
        literal(&servers.db.name)
    );
    for row in servers.rows(servers.catalog(), &sql).await? {
        let [Some(id), Some(gid), Some(source), Some(target), Some(unit)] = &row[..] else {
            return Err("a row of pgherd.holds cannot be read".into());
        };
        let id: i64 = id.parse()?;
        let done = match servers.shard(source).is_ok() && servers.shard(target).is_ok() {
            true => mover.settle(id, gid, source, target).await?,
            false => {
                mover.release(id, "").await?;
                false
            }
        };
        tracing::info!(unit, done, "a move that its coordinator had left is settled");
    }
    Ok(())
}

/// The catalog gets the finer parts of the plan: they mean the same.
///
/// # Errors
/// The catalog said so.
pub async fn refine(servers: &Servers, plan: &Plan) -> Result<(), Problem> {
    for distribution in plan.distributions.iter().filter(|of| of.is_refined) {
        replace(servers, &distribution.of.name, &distribution.refined).await?;
    }
    Ok(())
}

/// The catalog gets the configuration's own parts: all rows are where these say.
///
/// # Errors
/// The catalog said so.
pub async fn conclude(servers: &Servers, plan: &Plan) -> Result<(), Problem> {
    for distribution in &plan.distributions {
        if let Some(end) = &distribution.end {
            replace(servers, &distribution.of.name, end).await?;
        }
    }
    Ok(())
}

async fn replace(servers: &Servers, distribution: &str, record: &Record) -> Result<(), Problem> {
    let of = format!("database = {} AND distribution = {}", literal(&servers.db.name), literal(distribution));
    let sql = format!(
        "BEGIN; DELETE FROM pgherd.parts WHERE {of}; DELETE FROM pgherd.placement WHERE {of}; {} NOTIFY pgherd_placement, {}; COMMIT;",
        catalog::inserts(&servers.db.name, distribution, record),
        literal(&servers.db.name)
    );
    servers.rows(servers.catalog(), &sql).await.map(drop)
}

/// Enters the plan's units.
///
/// # Errors
/// The catalog said so.
pub async fn record(servers: &Servers, plan: &Plan) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::with_capacity(plan.moves.len());
    let catalog = servers.lend(servers.catalog()).await?;
    for some in plan.moves.chunks(ROWS_MAX) {
        let mut values = Vec::with_capacity(some.len());
        for (of, step, _) in some {
            let distribution = plan.distributions.get(*of).ok_or("a distribution is missing")?;
            values.push(format!(
                "({}, {}, {}, {}, {})",
                literal(&servers.db.name),
                literal(&distribution.of.name),
                literal(&step.unit.json()),
                literal(&step.source),
                literal(&step.target)
            ));
        }
        let sql = format!(
            "INSERT INTO pgherd.moves (database, distribution, unit, source, target) VALUES {} RETURNING id",
            values.join(", ")
        );
        let rows = catalog.rows(&sql).await?;
        for ((of, step, rows_planned), row) in some.iter().zip(rows) {
            let id = row.into_iter().flatten().next().ok_or("a move has no number")?;
            let distribution = plan.distributions.get(*of).ok_or("a distribution is missing")?;
            let id: i64 = id.parse()?;
            // Numbers of locks have 32 bits.
            i32::try_from(id).map_err(|_| "too many moves: empty pgherd.moves and reset its identity")?;
            steps.push(Step {
                id,
                distribution: distribution.of.clone(),
                step: step.clone(),
                rows: *rows_planned,
                attempts: 0,
            });
        }
    }
    servers.take_back(catalog);
    Ok(steps)
}

/// How a rebalance stands.
#[derive(Debug, Default)]
pub struct Status {
    /// Empty: there never was one.
    pub state: String,
    pub started: String,
    pub ended: String,
    pub rate: u64,
    pub note: String,
    /// Of the moves of the last one, by state.
    pub moves: BTreeMap<String, Total>,
    /// What was put off or failed: what, from, to, state, attempts, why.
    pub troubled: Vec<[String; 6]>,
    pub holds: u64,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Total {
    pub units: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// # Errors
/// The catalog cannot be asked.
pub async fn status(servers: &Servers) -> Result<Status, Problem> {
    let database = literal(&servers.db.name);
    let catalog = servers.lend(servers.catalog()).await?;
    let mut status = Status::default();
    if catalog.one("SELECT pg_catalog.to_regclass('pgherd.rebalances')").await?.is_none() {
        return Ok(status);
    }
    let sql = format!(
        "SELECT state, pg_catalog.date_trunc('second', started), COALESCE(pg_catalog.date_trunc('second', ended)::text, ''), rate, note
         FROM pgherd.rebalances WHERE database = {database}"
    );
    for row in catalog.rows(&sql).await? {
        let [Some(state), Some(started), Some(ended), Some(rate), Some(note)] = &row[..] else { continue };
        status.state.clone_from(state);
        status.started.clone_from(started);
        status.ended.clone_from(ended);
        status.rate = rate.parse()?;
        status.note.clone_from(note);
    }
    let since = format!(
        "database = {database} AND (ended IS NULL OR ended >= (SELECT started FROM pgherd.rebalances WHERE database = {database}))
         AND note <> 'planned anew'"
    );
    let sql =
        format!("SELECT state, count(*), sum(rows), sum(bytes) FROM pgherd.moves WHERE {since} GROUP BY 1");
    for row in catalog.rows(&sql).await? {
        let [Some(state), Some(units), Some(rows), Some(bytes)] = &row[..] else { continue };
        let total = Total { units: units.parse()?, rows: rows.parse()?, bytes: bytes.parse()? };
        status.moves.insert(state.clone(), total);
    }
    let sql = format!(
        "SELECT distribution || ' ' || unit, source, target, state, attempts, note FROM pgherd.moves
         WHERE {since} AND state IN ('deferred', 'failed', 'held', 'moving') ORDER BY id LIMIT 20"
    );
    for row in catalog.rows(&sql).await? {
        let texts: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        status.troubled.extend(<[String; 6]>::try_from(texts));
    }
    let sql = format!("SELECT count(*) FROM pgherd.holds WHERE database = {database}");
    status.holds = catalog.one(&sql).await?.unwrap_or_default().parse()?;
    servers.take_back(catalog);
    Ok(status)
}

/// For SHOW MOVES: the latest ones.
pub const SHOWN_MAX: usize = 1_000;

/// # Errors
/// The catalog cannot be asked.
pub async fn moves(servers: &Servers) -> Result<super::servers::Rows, Problem> {
    let sql = format!(
        "SELECT database, distribution, unit, source, target, state, attempts, rows, bytes, started, ended, note
         FROM pgherd.moves WHERE database = {} ORDER BY id DESC LIMIT {SHOWN_MAX}",
        literal(&servers.db.name)
    );
    servers.rows(servers.catalog(), &sql).await
}
