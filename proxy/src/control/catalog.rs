//! The catalog: a schema `pgherd` on the servers, which alone says where rows are.
//!
//! Invariant: what was recorded is never changed here; the configuration is a wish, the catalog the truth. A
//! distribution that is new in the configuration is recorded once, under a lock that all proxies take.

use std::collections::HashMap;

use pgherd_rebalance::assign;
use pgherd_router::ShardId;
use pgherd_router::topology::{Distribution, SLOTS};

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

const PLACEMENT: &str = "
CREATE TABLE IF NOT EXISTS pgherd.cluster (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id text NOT NULL,
    made timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE TABLE IF NOT EXISTS pgherd.placement (
    database text NOT NULL,
    distribution text NOT NULL,
    slot_from integer NOT NULL,
    slot_to integer NOT NULL,
    shard text NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (database, distribution, slot_from),
    CHECK (0 <= slot_from AND slot_from <= slot_to AND slot_to < 16384)
);
";

/// Makes what is missing and reads the placement.
pub async fn bootstrap(shards: &mut Shards) -> Result<Recorded, Problem> {
    let db = shards.db.clone();
    let catalog = db.config.catalog;
    for shard in 0..db.config.shards.len() {
        let made = shards.rows(shard, &with_lock(DECISIONS)).await;
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
    let mut sql = String::from(PLACEMENT);
    sql.push_str(&format!("INSERT INTO pgherd.cluster (id) VALUES ('{id}') ON CONFLICT DO NOTHING;"));
    let weights: Vec<u32> = db.config.shards.iter().map(|s| s.weight).collect();
    for distribution in &db.config.distributions {
        let values: Vec<String> = assign::initial(&weights)
            .iter()
            .map(|r| {
                format!(
                    "({}, {}, {}, {}, {}, 1)",
                    literal(&db.name),
                    literal(&distribution.name),
                    r.from,
                    r.to,
                    literal(&db.config.shards[r.shard].name)
                )
            })
            .collect();
        sql.push_str(&format!(
            "INSERT INTO pgherd.placement SELECT * FROM (VALUES {}) AS wished (database, distribution, slot_from, slot_to, shard, epoch)
             WHERE NOT EXISTS (SELECT FROM pgherd.placement p WHERE p.database = wished.database AND p.distribution = wished.distribution);",
            values.join(", ")
        ));
    }
    shards.rows(catalog, &with_lock(&sql)).await?;
    read(shards).await
}

fn with_lock(sql: &str) -> String {
    format!(
        "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({LOCK}); SET LOCAL client_min_messages = warning; {sql} COMMIT;"
    )
}

/// Reads what is recorded.
pub async fn read(shards: &mut Shards) -> Result<Recorded, Problem> {
    let db = shards.db.clone();
    let catalog = db.config.catalog;
    let cluster = shards.rows(catalog, "SELECT id FROM pgherd.cluster").await?;
    let cluster = cluster.into_iter().flatten().flatten().next().ok_or("the catalog has no cluster id")?;
    let sql = format!(
        "SELECT distribution, slot_from, slot_to, shard, epoch FROM pgherd.placement WHERE database = {} ORDER BY 1, 2",
        literal(&db.name)
    );
    let by_name: HashMap<&str, usize> =
        db.config.shards.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let mut owners: HashMap<String, Vec<Option<ShardId>>> = HashMap::new();
    let mut epoch = 0;
    for row in shards.rows(catalog, &sql).await? {
        let [Some(distribution), Some(from), Some(to), Some(shard), Some(of_epoch)] = &row[..] else {
            return Err("a row of pgherd.placement cannot be read".into());
        };
        let (from, to): (usize, usize) = (from.parse()?, to.parse()?);
        let &shard = by_name.get(shard.as_str()).ok_or_else(|| {
            format!("slots {from} to {to} of \"{distribution}\" are on shard \"{shard}\", which is not in the configuration")
        })?;
        epoch = epoch.max(of_epoch.parse()?);
        let slots = owners.entry(distribution.clone()).or_insert_with(|| vec![None; SLOTS]);
        for slot in slots.get_mut(from..=to).ok_or("pgherd.placement names a slot that does not exist")? {
            if slot.replace(ShardId(shard as u16)).is_some() {
                return Err(format!("a slot of \"{distribution}\" has two owners in pgherd.placement").into());
            }
        }
    }
    let mut distributions = Vec::new();
    for configured in &db.config.distributions {
        let slots = owners
            .remove(&configured.name)
            .ok_or_else(|| format!("distribution \"{}\" has no placement", configured.name))?;
        let owners: Option<Vec<ShardId>> = slots.into_iter().collect();
        let owners = owners
            .ok_or_else(|| format!("slots of \"{}\" have no owner in pgherd.placement", configured.name))?;
        distributions.push(Distribution {
            name: configured.name.clone(),
            types: configured.types.clone(),
            owners: owners.into_boxed_slice(),
        });
    }
    Ok(Recorded { cluster, epoch, distributions })
}

/// Prepares a shard that was away at the start.
pub async fn prepare_shard(shards: &mut Shards, shard: usize) -> Result<(), Problem> {
    shards.rows(shard, &with_lock(DECISIONS)).await.map(drop)
}
