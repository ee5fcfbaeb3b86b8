//! Members: the shards that have the schema, in `pgherd.shards`. What concerns every shard (statements without a key, schema changes,
//! reference tables) concerns these; a shard that is configured and no member yet is connected, and gets no statement.
//!
//! Invariant: written once, at the first start; afterwards only by who moves rows, with everything on hold.

use std::collections::{HashMap, HashSet};

use pgherd_config::{Database, Shard};
use pgherd_rebalance::placement::Record;
use pgherd_router::ShardId;

use crate::session::settings::literal;

/// Made with the rest of the catalog.
pub const TABLE: &str = "
CREATE TABLE IF NOT EXISTS pgherd.shards (
    database text NOT NULL,
    shard text NOT NULL,
    PRIMARY KEY (database, shard)
);
";

/// Records the members, unless there are. At the first start ever: all shards; or, where tables were found with all rows on some
/// shards only (`found`), those. In a catalog of before there were members: those that its placement names, with the first
/// one, which has the rest of the schema.
pub fn record(database: &Database, found: &HashMap<String, Record>) -> String {
    let name = literal(&database.name);
    let slots = found.values().flat_map(|record| &record.slots).map(|run| &run.shard);
    let parts = found.values().flat_map(|record| &record.parts).filter_map(|part| part.shard.as_ref());
    let named: HashSet<&String> = slots.chain(parts).collect();
    let may_be = |(at, shard): &(usize, &Shard)| *at == 0 || named.is_empty() || named.contains(&shard.name);
    let some = database.shards.iter().enumerate().filter(may_be);
    let some: Vec<String> = some.map(|(_, shard)| format!("({})", literal(&shard.name))).collect();
    let first = database.shards.first().map_or_else(|| "''".into(), |shard| literal(&shard.name));
    format!(
        "INSERT INTO pgherd.shards (database, shard)
         SELECT DISTINCT {name}, c.shard FROM (VALUES {}) AS c (shard)
         WHERE NOT EXISTS (SELECT FROM pgherd.shards WHERE database = {name})
           AND (NOT EXISTS (SELECT FROM pgherd.distributions WHERE database = {name})
                OR c.shard = {first}
                OR c.shard IN (SELECT shard FROM pgherd.placement WHERE database = {name})
                OR c.shard IN (SELECT shard FROM pgherd.parts WHERE database = {name})
                OR c.shard IN (SELECT shard FROM pgherd.directory WHERE database = {name}));",
        some.join(", ")
    )
}

/// The members, ascending.
///
/// # Errors
/// One of them is not configured.
pub fn ids(recorded: &[String], database: &Database) -> Result<Vec<ShardId>, String> {
    let position = |name: &String| {
        let at = database.shards.iter().position(|shard| shard.name == *name);
        at.map(|at| ShardId(at as u16)).ok_or_else(|| {
            format!("shard \"{name}\" is a part of the database, and not in the configuration")
        })
    };
    let mut ids = recorded.iter().map(position).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    Ok(ids)
}
