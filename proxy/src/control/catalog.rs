//! The catalog: a schema `pgherd` on the servers, which alone says where rows are.
//!
//! Invariant: what was recorded is never changed here; the configuration is a wish, the catalog the truth. A
//! distribution that is new in the configuration is recorded once, under a lock that all proxies take.

use std::collections::HashMap;
use std::sync::Arc;

use pgherd_rebalance::placement::{Part, Record, Slots, wished};
use pgherd_router::topology::Distribution;

use super::{Problem, Shards};
use crate::session::settings::literal;

/// Key of the advisory lock under which the catalog is made ("pgherd" in ASCII).
const LOCK: i64 = 0x7067_6865_7264;

pub struct Recorded {
    pub cluster: String,
    pub epoch: u64,
    pub distributions: Vec<Distribution>,
}

/// On every shard: where decisions of cross-shard transactions stand. Whoever writes through pgherd inserts there under
/// its own role; reading and deleting is pgherd's.
const DECISIONS: &str = "
CREATE SCHEMA IF NOT EXISTS pgherd;
CREATE TABLE IF NOT EXISTS pgherd.decisions (
    gid text PRIMARY KEY,
    decided timestamptz NOT NULL DEFAULT pg_catalog.now()
);
GRANT USAGE ON SCHEMA pgherd TO PUBLIC;
GRANT INSERT ON pgherd.decisions TO PUBLIC;
";

/// On every shard: which units that are to be moved it holds. Empty but during a rebalance, when triggers of the moving tables ask
/// it for whoever writes there.
const FENCES: &str = "
CREATE TABLE IF NOT EXISTS pgherd.fences (
    database text NOT NULL,
    distribution text NOT NULL,
    part integer NOT NULL,
    slot_from integer NOT NULL,
    slot_to integer NOT NULL,
    key text NOT NULL DEFAULT '',
    unit integer NOT NULL,
    owned boolean NOT NULL,
    PRIMARY KEY (database, distribution, part, slot_from, key)
);
GRANT SELECT ON pgherd.fences TO PUBLIC;
";

const PLACEMENT: &str = "
CREATE TABLE IF NOT EXISTS pgherd.cluster (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id text NOT NULL,
    made timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE TABLE IF NOT EXISTS pgherd.distributions (
    database text NOT NULL,
    distribution text NOT NULL,
    method text NOT NULL,
    types text NOT NULL,
    PRIMARY KEY (database, distribution)
);
CREATE TABLE IF NOT EXISTS pgherd.parts (
    database text NOT NULL,
    distribution text NOT NULL,
    part integer NOT NULL,
    key_from text,
    key_to text,
    listed text[] NOT NULL DEFAULT '{}',
    lists_null boolean NOT NULL DEFAULT false,
    lists_rest boolean NOT NULL DEFAULT false,
    shard text,
    epoch bigint NOT NULL,
    PRIMARY KEY (database, distribution, part)
);
CREATE TABLE IF NOT EXISTS pgherd.placement (
    database text NOT NULL,
    distribution text NOT NULL,
    part integer NOT NULL DEFAULT 0,
    slot_from integer NOT NULL,
    slot_to integer NOT NULL,
    shard text NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (database, distribution, part, slot_from),
    CHECK (0 <= slot_from AND slot_from <= slot_to AND slot_to < 16384)
);
";

/// What is being moved, and who serves meanwhile (DESIGN.md section 8). A unit is what moves at once: `{"part":0,"from":10,"to":19}`
/// of slots, `{"part":3}` of ranges and lists, `{"key":["..."]}` of a directory, `{"all":true}` for everything there is.
const MOVES: &str = "
CREATE TABLE IF NOT EXISTS pgherd.proxies (
    id text PRIMARY KEY,
    database text NOT NULL,
    address text NOT NULL DEFAULT '',
    version text NOT NULL DEFAULT '',
    started timestamptz NOT NULL DEFAULT pg_catalog.now(),
    lease_until timestamptz NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    shards text[] NOT NULL DEFAULT '{}'
);
CREATE TABLE IF NOT EXISTS pgherd.rebalances (
    database text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('running', 'paused', 'cancelling', 'cancelled', 'failed', 'done')),
    wish jsonb NOT NULL DEFAULT '{}',
    started timestamptz NOT NULL DEFAULT pg_catalog.now(),
    ended timestamptz,
    rate bigint NOT NULL DEFAULT 0,
    note text NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS pgherd.moves (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    database text NOT NULL,
    distribution text NOT NULL,
    unit jsonb NOT NULL,
    source text NOT NULL,
    target text NOT NULL,
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'held', 'moving', 'done', 'failed', 'deferred', 'cancelled')),
    attempts integer NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    started timestamptz,
    ended timestamptz,
    note text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS moves_of_database ON pgherd.moves (database, state);
CREATE TABLE IF NOT EXISTS pgherd.holds (
    move bigint PRIMARY KEY,
    database text NOT NULL,
    distribution text NOT NULL,
    unit jsonb NOT NULL,
    source text NOT NULL,
    target text NOT NULL,
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    until timestamptz NOT NULL,
    gid text
);
CREATE TABLE IF NOT EXISTS pgherd.acks (
    move bigint NOT NULL,
    proxy text NOT NULL,
    PRIMARY KEY (move, proxy)
);
";

/// A catalog of before there were ranges and lists: all its distributions are by hash, of the types that are configured.
const UPGRADE: &str = "
DO $upgrade$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute
                   WHERE attrelid = 'pgherd.placement'::pg_catalog.regclass AND attname = 'part' AND NOT attisdropped) THEN
        ALTER TABLE pgherd.placement ADD COLUMN part integer NOT NULL DEFAULT 0;
        ALTER TABLE pgherd.placement DROP CONSTRAINT placement_pkey;
        ALTER TABLE pgherd.placement ADD PRIMARY KEY (database, distribution, part, slot_from);
    END IF;
END $upgrade$;
";

/// Makes what is missing and reads the placement.
pub async fn bootstrap(shards: &mut Shards) -> Result<Recorded, Problem> {
    let db = shards.db.clone();
    let catalog = db.config.catalog;
    for shard in 0..db.config.shards.len() {
        let made = shards.rows(shard, &with_lock(&format!("{DECISIONS}{FENCES}"))).await;
        if let Err(e) = made {
            if shard == catalog {
                return Err(e);
            }
            // That shard is away. Others can be served; a transaction that would decide there fails until it was prepared by a
            // later round.
            tracing::warn!(shard = %db.config.shards[shard].name, why = %super::describe(&*e), "a shard cannot be prepared yet");
        }
    }
    let id = format!("{:016x}", rand::random::<u64>());
    let kept = super::adopt::is_kept(shards).await?;
    let mut sql = format!("{PLACEMENT}{UPGRADE}{MOVES}{}{}", super::directory::TABLE, super::adopt::TABLE);
    sql.push_str(&format!("INSERT INTO pgherd.cluster (id) VALUES ('{id}') ON CONFLICT DO NOTHING;"));
    shards.rows(catalog, &with_lock(&sql)).await?;
    // A catalog of before knows its distributions by their slots alone; those are recorded below.
    let sql =
        format!("SELECT DISTINCT distribution FROM pgherd.placement WHERE database = {}", literal(&db.name));
    let by_slots: Vec<String> = shards.rows(catalog, &sql).await?.into_iter().flatten().flatten().collect();
    let (mut known, _) = records(shards).await?;
    for name in by_slots {
        let none =
            || Record { method: "hash".into(), types: String::new(), parts: Vec::new(), slots: Vec::new() };
        known.entry(name).or_insert_with(none);
    }
    let mut found = super::adopt::look(shards, &known, kept).await?;
    let mut sql = found.sql;
    for distribution in &db.config.distributions {
        let true_now = found.records.remove(&distribution.name);
        let recorded = true_now.unwrap_or_else(|| wished(distribution, &db.config.shards, 1));
        sql.push_str(&record(&db.name, &distribution.name, &recorded));
    }
    shards.rows(catalog, &with_lock(&sql)).await?;
    read(shards).await
}

/// The rows of a record.
pub fn inserts(database: &str, distribution: &str, record: &Record) -> String {
    let (database, distribution) = (literal(database), literal(distribution));
    let optional = |text: &Option<String>| text.as_deref().map_or("NULL".into(), literal);
    let mut inserts = String::new();
    for part in &record.parts {
        let values: Vec<String> = part.values.iter().map(|value| literal(value)).collect();
        inserts.push_str(&format!(
            "INSERT INTO pgherd.parts VALUES ({database}, {distribution}, {}, {}, {}, ARRAY[{}]::text[], {}, {}, {}, {});",
            part.number,
            optional(&part.from),
            optional(&part.to),
            values.join(", "),
            part.null,
            part.default,
            optional(&part.shard),
            part.epoch
        ));
    }
    for run in &record.slots {
        inserts.push_str(&format!(
            "INSERT INTO pgherd.placement (database, distribution, part, slot_from, slot_to, shard, epoch)
             VALUES ({database}, {distribution}, {}, {}, {}, {}, {});",
            run.part,
            run.from,
            run.to,
            literal(&run.shard),
            run.epoch
        ));
    }
    inserts
}

/// Records a distribution, unless it is there.
fn record(database: &str, distribution: &str, record: &Record) -> String {
    let inserts = inserts(database, distribution, record);
    let (database, distribution) = (literal(database), literal(distribution));
    // A name of the operator's could hold any tag; a longer one is in none of them.
    let tag = format!("$pgherd{}$", "_".repeat(inserts.len().min(64)));
    let (method, types) = (literal(&record.method), literal(&record.types));
    format!(
        "INSERT INTO pgherd.distributions SELECT {database}, {distribution}, 'hash', {types}
             WHERE EXISTS (SELECT FROM pgherd.placement WHERE database = {database} AND distribution = {distribution})
         ON CONFLICT DO NOTHING;
         DO {tag} BEGIN
             IF NOT EXISTS (SELECT FROM pgherd.distributions WHERE database = {database} AND distribution = {distribution}) THEN
                 INSERT INTO pgherd.distributions VALUES ({database}, {distribution}, {method}, {types});
                 {inserts}
             END IF;
         END {tag};"
    )
}

fn with_lock(sql: &str) -> String {
    format!(
        "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({LOCK}); SET LOCAL client_min_messages = warning; {sql} COMMIT;"
    )
}

/// The records of all distributions, by name.
pub type Records = HashMap<String, Record>;

/// Reads what is recorded.
pub async fn read(shards: &mut Shards) -> Result<Recorded, Problem> {
    let db = shards.db.clone();
    let catalog = db.config.catalog;
    let cluster = shards.rows(catalog, "SELECT id FROM pgherd.cluster").await?;
    let cluster = cluster.into_iter().flatten().flatten().next().ok_or("the catalog has no cluster id")?;
    let (records, epoch) = records(shards).await?;
    let names: Vec<&str> = db.config.shards.iter().map(|shard| shard.name.as_str()).collect();
    let mut distributions = Vec::new();
    for configured in &db.config.distributions {
        let record = records
            .get(&configured.name)
            .ok_or_else(|| format!("distribution \"{}\" has no placement", configured.name))?;
        let (rule, shown) = record.rule(&configured.name, configured, &names)?;
        distributions.push(Distribution {
            name: configured.name.clone(),
            types: configured.types.clone(),
            rule: Arc::new(rule),
            shown: shown.into(),
        });
    }
    Ok(Recorded { cluster, epoch, distributions })
}

/// The records as they stand, and the highest epoch among them.
pub async fn records(shards: &mut Shards) -> Result<(Records, u64), Problem> {
    let db = shards.db.clone();
    let catalog = db.config.catalog;
    let database = literal(&db.name);
    let unreadable = |table: &str| format!("a row of pgherd.{table} cannot be read");
    let mut records: HashMap<String, Record> = HashMap::new();
    let sql =
        format!("SELECT distribution, method, types FROM pgherd.distributions WHERE database = {database}");
    for row in shards.rows(catalog, &sql).await? {
        let [Some(name), Some(method), Some(types)] = &row[..] else {
            return Err(unreadable("distributions").into());
        };
        let (method, types) = (method.clone(), types.clone());
        records.insert(name.clone(), Record { method, types, parts: Vec::new(), slots: Vec::new() });
    }
    let sql = format!(
        "SELECT distribution, part, slot_from, slot_to, shard, epoch FROM pgherd.placement WHERE database = {database} ORDER BY 1, 2, 3"
    );
    let mut epoch = 0;
    for row in shards.rows(catalog, &sql).await? {
        let [Some(name), Some(part), Some(from), Some(to), Some(shard), Some(of_epoch)] = &row[..] else {
            return Err(unreadable("placement").into());
        };
        let Some(record) = records.get_mut(name) else { continue };
        let of_epoch = of_epoch.parse()?;
        epoch = epoch.max(of_epoch);
        record.slots.push(Slots {
            part: part.parse()?,
            from: from.parse()?,
            to: to.parse()?,
            shard: shard.clone(),
            epoch: of_epoch,
        });
    }
    // A part's values come as rows of their own, behind the part itself.
    let sql = format!(
        "SELECT p.distribution, p.part, p.key_from, p.key_to, p.lists_null, p.lists_rest, p.shard, p.epoch, v.value
         FROM pgherd.parts p LEFT JOIN LATERAL pg_catalog.unnest(p.listed) WITH ORDINALITY AS v (value, place) ON true
         WHERE p.database = {database} ORDER BY 1, 2, v.place"
    );
    for row in shards.rows(catalog, &sql).await? {
        let [Some(name), Some(number), from, to, Some(null), Some(rest), shard, Some(of_epoch), value] =
            &row[..]
        else {
            return Err(unreadable("parts").into());
        };
        let Some(record) = records.get_mut(name) else { continue };
        let (number, of_epoch) = (number.parse()?, of_epoch.parse()?);
        epoch = epoch.max(of_epoch);
        if record.parts.last().is_none_or(|part| part.number != number) {
            record.parts.push(Part {
                number,
                from: from.clone(),
                to: to.clone(),
                values: Vec::new(),
                null: null == "t",
                default: rest == "t",
                shard: shard.clone(),
                epoch: of_epoch,
            });
        }
        if let (Some(part), Some(value)) = (record.parts.last_mut(), value) {
            part.values.push(value.clone());
        }
    }
    Ok((records, epoch))
}

/// A pgherd reads the placement once: while rows are being moved it cannot begin to serve.
///
/// # Errors
/// Rows are being moved.
pub async fn at_rest(shards: &mut Shards) -> Result<(), Problem> {
    let db = shards.db.clone();
    let sql = format!(
        "SELECT state FROM pgherd.rebalances WHERE database = {0} AND state IN ('running', 'paused', 'cancelling')
         UNION ALL SELECT 'held' FROM pgherd.holds WHERE database = {0} LIMIT 1",
        literal(&db.name)
    );
    match shards.rows(db.config.catalog, &sql).await?.is_empty() {
        true => Ok(()),
        false => Err("rows are being moved: see pgherd rebalance status".into()),
    }
}

/// Prepares a shard that was away at the start.
pub async fn prepare_shard(shards: &mut Shards, shard: usize) -> Result<(), Problem> {
    shards.rows(shard, &with_lock(&format!("{DECISIONS}{FENCES}"))).await.map(drop)
}
