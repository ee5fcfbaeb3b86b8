//! Rebalancing: rows move to where the configuration wishes them, while applications write.
//!
//! Invariant: what this does not finish stays as it was, and is said; `apply` again goes on from what is true. One coordinator at a
//! time for a database: it holds a lock of a session on the catalog shard.
//!
//! The order is always: check, fence, then unit after unit (hold, drain, move, flip the owner, release), fence away.
//!
//! The rooms: `plan` says what is to be moved, `unit` moves one unit, `schedule` all of them, `fence` guards the shards meanwhile, `prepare` makes
//! a new shard fit, `verify` looks afterwards, `state` is what others are told, `command` the command line.
//!
//! Start reading at [`apply`].

pub mod command;
mod fence;
mod plan;
mod prepare;
mod schedule;
mod servers;
mod state;
mod tables;
mod unit;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgherd_rebalance::sql::{Keyed, literal};
use tokio::sync::Notify;

pub use fence::{INDEX, TRIGGER};
pub use plan::{KeyMove, Plan, plan};
pub use servers::Servers;
pub use state::{Status, Total, moves, order, status};
pub use verify::verify;

use crate::control::{self, Problem, catalog, describe};
use crate::database::Database;
use fence::Fenced;
use schedule::Ended;
use unit::{Mover, Step};

/// What this process has moved since it began: for /metrics.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub units: u64,
    pub rows: u64,
    pub put_off: u64,
}

static UNITS: AtomicU64 = AtomicU64::new(0);
static ROWS: AtomicU64 = AtomicU64::new(0);
static PUT_OFF: AtomicU64 = AtomicU64::new(0);

pub fn counted() -> Counted {
    Counted {
        units: UNITS.load(Ordering::Relaxed),
        rows: ROWS.load(Ordering::Relaxed),
        put_off: PUT_OFF.load(Ordering::Relaxed),
    }
}

/// The advisory lock of the coordinator; the second number is the database's.
const LOCK: i32 = 0x7067_6872;

/// Rows a second unless told otherwise: what leaves most of a machine to its clients.
pub const RATE: u64 = 10_000;

#[derive(Debug, Clone)]
pub struct Options {
    /// Rows a second; 0: as fast as it goes.
    pub rate: u64,
    /// How long transactions are waited for that stand in the way: at the beginning, and of units that are left at the end.
    pub patience: Duration,
    /// Keys of directories that are to be moved, by name.
    pub keys: Vec<KeyMove>,
}

impl Default for Options {
    fn default() -> Self {
        Self { rate: RATE, patience: Duration::from_secs(60), keys: Vec::new() }
    }
}

/// Whoever wants to see it going on.
pub trait Watch: Send + Sync {
    fn say(&self, _text: &str) {}
    fn begin(&self, _units: u64, _rows: u64) {}
    fn moved(&self, _units: u64, _rows: u64) {}
}

impl Watch for () {}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub units: u64,
    pub rows: u64,
    pub bytes: u64,
    pub took: Duration,
    /// Of each unit that was moved, ascending.
    pub pauses: Vec<Duration>,
    pub cancelled: bool,
    /// Units that were not moved, and why.
    pub left: Vec<String>,
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.left.is_empty() && !self.cancelled
    }

    /// The pause that all but this share of the units stayed below.
    pub fn pause(&self, share: f64) -> Duration {
        let last = self.pauses.len().saturating_sub(1);
        let at = ((self.pauses.len() as f64 * share) as usize).min(last);
        self.pauses.get(at).copied().unwrap_or_default()
    }
}

/// Moves all that is to be moved.
///
/// # Errors
/// Why nothing was begun, or nothing goes on. What was moved until then is moved.
pub async fn apply(db: Arc<Database>, options: &Options, watch: &dyn Watch) -> Result<Report, Problem> {
    let servers = Arc::new(Servers::new(db.clone())?);
    let mut shards = servers.control();
    let recorded = catalog::bootstrap(&mut shards).await?;
    // The resolver looks for this cluster's transactions.
    db.set_cluster(recorded.cluster.clone());
    // It looks like a proxy's.
    drop(shards);
    let catalog = servers.catalog();
    let leader = servers.lend(catalog).await?;
    let lock =
        format!("SELECT pg_catalog.pg_try_advisory_lock({LOCK}, pg_catalog.hashtext({}))", literal(&db.name));
    if leader.one(&lock).await?.as_deref() != Some("t") {
        return Err("another rebalance of this database is running: see pgherd rebalance status".into());
    }
    let acked = Arc::new(Notify::new());
    let _listening = servers.listen(catalog, "pgherd_acks", acked.clone()).await?;
    let mover = Arc::new(Mover { servers: servers.clone(), cluster: recorded.cluster, acked });
    state::finish_what_was_left(&mover).await?;
    let outcome = run(&servers, &mover, options, watch).await;
    let (name, note) = match &outcome {
        Ok(report) if report.cancelled => ("cancelled", String::new()),
        Ok(report) if report.left.is_empty() => ("done", String::new()),
        Ok(report) => ("failed", report.left.first().cloned().unwrap_or_default()),
        Err(error) => ("failed", describe(&**error)),
    };
    state::ended(&servers, name, &note).await?;
    drop(leader);
    outcome
}

async fn run(
    servers: &Arc<Servers>,
    mover: &Arc<Mover>,
    options: &Options,
    watch: &dyn Watch,
) -> Result<Report, Problem> {
    let db = &servers.db;
    // Whoever begins to serve from here on sees that rows are being moved.
    state::begin(servers, options.rate).await?;
    proxies_fit(servers, options.patience, watch).await?;
    prepare::new_shards(servers, mover, options.patience, watch).await?;
    let planned = plan::plan(servers, &options.keys).await?;
    fits(servers, &planned).await?;
    state::refine(servers, &planned).await?;
    let started = tokio::time::Instant::now();
    let steps = state::record(servers, &planned).await?;
    watch.begin(steps.len() as u64, steps.iter().map(|step| step.rows).sum());
    let mut ended = Ended::default();
    if !steps.is_empty() {
        watch.say("the fence is raised");
        let fenced = raise(servers, &planned, &steps, options.patience).await;
        ended = match fenced {
            Ok(()) => schedule::run(mover, steps, options, watch).await?,
            Err(error) => {
                let _ = lower(servers, &planned, options.patience).await;
                state::call_off(servers, &describe(&*error)).await?;
                return Err(error);
            }
        };
    }
    if ended.left.is_empty() && !ended.cancelled {
        state::conclude(servers, &planned).await?;
        prepare::leaving_shards(servers, mover).await;
    }
    // What is not known yet needs its fence.
    if ended.unknown == 0 {
        lower(servers, &planned, options.patience).await?;
    }
    ended.pauses.sort_unstable();
    tracing::info!(
        database = %db.name,
        units = ended.units,
        rows = ended.rows,
        left = ended.left.len(),
        "a rebalance has ended"
    );
    Ok(Report {
        units: ended.units,
        rows: ended.rows,
        bytes: ended.bytes,
        took: started.elapsed(),
        pauses: ended.pauses,
        cancelled: ended.cancelled,
        left: ended.left,
    })
}

/// Every pgherd that serves this database can reach every shard, and will be told of holds.
async fn proxies_fit(servers: &Servers, patience: Duration, watch: &dyn Watch) -> Result<(), Problem> {
    let database = literal(&servers.db.name);
    let names: Vec<String> = servers.db.config.shards.iter().map(|shard| literal(&shard.name)).collect();
    let catalog = servers.lend(servers.catalog()).await?;
    let unknowing = format!(
        "SELECT CASE WHEN address = '' THEN id ELSE address END, (SELECT string_agg(s, ', ') FROM pg_catalog.unnest(ARRAY[{}]) AS s WHERE s <> ALL (shards))
         FROM pgherd.proxies WHERE database = {database} AND lease_until > pg_catalog.clock_timestamp() AND NOT shards @> ARRAY[{}]",
        names.join(", "),
        names.join(", ")
    );
    let started = tokio::time::Instant::now();
    let mut said = false;
    while let Some(row) = catalog.rows(&unknowing).await?.first() {
        let [Some(proxy), Some(shards)] = &row[..] else { return Err("a lease cannot be read".into()) };
        // One that has read it again keeps its old lease until its last session has followed.
        if started.elapsed() < patience {
            if !std::mem::replace(&mut said, true) {
                watch.say(&format!("waiting for the pgherd at {proxy} to know {shards}: let it read the configuration again (RELOAD)"));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
            continue;
        }
        return Err(format!("the pgherd at {proxy} does not know {shards}: let it read the configuration again (RELOAD), then apply").into());
    }
    // One that serves without a lease would not hear of a hold.
    let silent = format!(
        "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE application_name = 'pgherd control' AND datname = pg_catalog.current_database()
         AND NOT EXISTS (SELECT FROM pgherd.proxies WHERE database = {database} AND lease_until > pg_catalog.clock_timestamp())"
    );
    for attempt in 0..20 {
        if catalog.one(&silent).await?.as_deref() == Some("0") {
            break;
        }
        if attempt == 19 {
            return Err("a pgherd that does not take part in moves is connected to the catalog: replace it with this version first".into());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    servers.take_back(catalog);
    Ok(())
}

/// Refuses before the first row what could fail later.
async fn fits(servers: &Servers, planned: &Plan) -> Result<(), Problem> {
    let mut problems: Vec<String> = Vec::new();
    if planned.moves.is_empty() {
        return Ok(());
    }
    let found = control::inspect::inspect(servers.db.clone()).await;
    let bad = found.iter().filter(|finding| finding.weight == control::findings::Weight::Problem);
    problems.extend(bad.map(|finding| finding.what.clone()));
    for distribution in &planned.distributions {
        for table in &distribution.of.tables {
            if let Some(why) = &table.refused {
                problems.push(format!("rows of {} cannot be moved: {why}", table.name));
            }
            let keyed =
                Keyed { record: &distribution.of.record, types: &distribution.of.types, columns: &table.key };
            if let Err(why) = keyed.index() {
                problems.push(format!("rows of {} cannot be moved: {why}", table.name));
            }
        }
    }
    for shard in planned.shards(servers) {
        let connection = servers.lend(shard).await?;
        let name = servers.name(shard);
        if let Err(error) =
            connection.run("BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK;").await
        {
            problems.push(format!(
                "the control role may not set session_replication_role on {name} ({}): let it be a superuser, or grant it",
                describe(&*error)
            ));
            continue;
        }
        for distribution in &planned.distributions {
            for table in tables::of_distribution(&servers.db, &connection, distribution.index).await? {
                let sql = format!(
                    "SELECT DISTINCT p.gid FROM pg_catalog.pg_prepared_xacts p JOIN pg_catalog.pg_locks x ON x.transactionid = p.transaction AND x.pid IS NULL
                     JOIN pg_catalog.pg_locks l ON l.virtualtransaction = x.virtualtransaction AND l.pid IS NULL
                     WHERE l.relation = {} AND NOT pg_catalog.starts_with(p.gid, 'pgherd:')",
                    table.oid
                );
                for gid in connection.rows(&sql).await?.into_iter().flatten().flatten() {
                    problems.push(format!(
                        "the prepared transaction '{gid}' on {name} holds table {}: commit it or roll it back",
                        table.name
                    ));
                }
            }
        }
        servers.take_back(connection);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
}

/// Indexes, then triggers, on every shard that gives or takes; shards at once.
async fn raise(
    servers: &Arc<Servers>,
    planned: &Plan,
    steps: &[Step],
    patience: Duration,
) -> Result<(), Problem> {
    let of_shard = |shard: usize| async move {
        let connection = servers.lend(shard).await?;
        for distribution in &planned.distributions {
            let name = servers.name(shard);
            let units = steps.iter().filter(|step| step.distribution.name == distribution.of.name);
            let units: Vec<Fenced> = units
                .filter(|step| step.step.source == name || step.step.target == name)
                .map(|step| Fenced {
                    unit: step.step.unit.clone(),
                    number: step.id,
                    owned: step.step.source == name,
                })
                .collect();
            if units.is_empty() {
                continue;
            }
            let tables = tables::of_distribution(&servers.db, &connection, distribution.index).await?;
            let keyed: Vec<(tables::Table, Keyed<'_>)> = tables
                .iter()
                .map(|table| {
                    let of = &distribution.of;
                    (table.clone(), Keyed { record: &of.record, types: &of.types, columns: &table.key })
                })
                .collect();
            for (table, keyed) in &keyed {
                fence::index(&connection, table, &keyed.index()?, patience).await?;
            }
            fence::raise(&connection, &servers.db.name, &distribution.of.name, &keyed, &units, patience)
                .await?;
        }
        servers.take_back(connection);
        Ok::<(), Problem>(())
    };
    let all = planned.shards(servers).into_iter().map(of_shard);
    futures_util::future::join_all(all).await.into_iter().collect()
}

async fn lower(servers: &Servers, planned: &Plan, patience: Duration) -> Result<(), Problem> {
    let names: Vec<(usize, &str)> =
        planned.distributions.iter().map(|of| (of.index, of.of.name.as_str())).collect();
    lower_all(servers, &names, patience).await
}

/// Takes away whatever stands of the fences of these distributions, on all shards.
async fn lower_all(
    servers: &Servers,
    distributions: &[(usize, &str)],
    patience: Duration,
) -> Result<(), Problem> {
    for shard in 0..servers.db.config.shards.len() {
        let connection = servers.lend(shard).await?;
        for (index, name) in distributions {
            let tables = tables::of_distribution(&servers.db, &connection, *index).await?;
            fence::lower(&connection, &servers.db.name, name, &tables, patience).await?;
            for table in &tables {
                fence::drop_index(&connection, table, patience).await?;
            }
        }
        servers.take_back(connection);
    }
    Ok(())
}

/// Ends what nobody is working on: for `cancel` when no coordinator lives.
///
/// # Errors
/// A server said so.
pub async fn clear(db: Arc<Database>, patience: Duration) -> Result<bool, Problem> {
    let servers = Arc::new(Servers::new(db.clone())?);
    let leader = servers.lend(servers.catalog()).await?;
    let lock =
        format!("SELECT pg_catalog.pg_try_advisory_lock({LOCK}, pg_catalog.hashtext({}))", literal(&db.name));
    if leader.one(&lock).await?.as_deref() != Some("t") {
        return Ok(false);
    }
    let cluster = leader.one("SELECT id FROM pgherd.cluster").await?.unwrap_or_default();
    db.set_cluster(cluster.clone());
    let mover = Mover { servers: servers.clone(), cluster, acked: Arc::default() };
    state::finish_what_was_left(&mover).await?;
    let names: Vec<(usize, &str)> =
        db.config.distributions.iter().enumerate().map(|(index, of)| (index, of.name.as_str())).collect();
    lower_all(&servers, &names, patience).await?;
    state::call_off(&servers, "cancelled").await?;
    state::ended(&servers, "cancelled", "").await?;
    Ok(true)
}
