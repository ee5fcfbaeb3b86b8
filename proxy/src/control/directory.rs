//! The table `pgherd.directory`: reading what is new in it, and entering keys that nobody has entered yet.
//!
//! Invariant: an entry never changes and never goes (a trigger refuses it: a key would have to move with its rows). So two
//! pgherds that enter one key at once agree: the first entry stands, and both read it.

use std::collections::HashMap;

use pgherd_config::{KeyType, Method, NewKeys};
use pgherd_rebalance::assign;
use pgherd_router::ShardId;
use pgherd_router::directory::{Directory, KEYS_MAX, key_text};
use pgherd_router::hash::slot;
use pgherd_router::rule::Rule;
use pgherd_router::topology::Topology;
use pgherd_router::value::KeyValue;

use super::{Problem, Shards};
use crate::session::settings::literal;

/// Made with the rest of the catalog.
pub const TABLE: &str = "
CREATE TABLE IF NOT EXISTS pgherd.directory (
    database text NOT NULL,
    distribution text NOT NULL,
    key text NOT NULL,
    shard text NOT NULL,
    entered bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    PRIMARY KEY (database, distribution, key)
);
DO $directory$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = 'pgherd.directory'::pg_catalog.regclass AND tgname = 'told') THEN
        CREATE FUNCTION pgherd.directory_told() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_catalog.pg_notify(''pgherd_directory'', ''''); RETURN NULL; END';
        CREATE FUNCTION pgherd.directory_stays() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION ''a key of the directory stays where it is'' USING ERRCODE = ''0A000'', DETAIL = ''Its rows would not move with it.''; END';
        CREATE TRIGGER told AFTER INSERT ON pgherd.directory FOR EACH STATEMENT EXECUTE FUNCTION pgherd.directory_told();
        CREATE TRIGGER stays BEFORE UPDATE OR DELETE OR TRUNCATE ON pgherd.directory
            FOR EACH STATEMENT EXECUTE FUNCTION pgherd.directory_stays();
    END IF;
END $directory$;
";

/// What a connection to the catalog shard listens to.
pub const LISTEN: &str = "LISTEN pgherd_directory";

/// Rows read at once.
const ROWS_MAX: usize = 20_000;

/// An entry may become visible after one with a higher number: so far back is read again.
const SLACK: i64 = 1_000;

/// Keys that one statement may enter.
const ENTERED_MAX: usize = 1_000;

pub fn is_used(config: &pgherd_config::Database) -> bool {
    config.distributions.iter().any(|distribution| matches!(distribution.by, Method::Directory(_)))
}

/// How far the table was read.
#[derive(Debug, Default)]
pub struct Reader {
    last: i64,
    read: usize,
}

impl Reader {
    /// Reads what was entered since.
    pub async fn read(&mut self, shards: &mut Shards) -> Result<(), Problem> {
        let db = shards.db.clone();
        if !is_used(&db.config) {
            return Ok(());
        }
        let topology = db.topology();
        let mut after = (self.last - SLACK).max(0);
        while self.read < KEYS_MAX {
            let sql = format!(
                "SELECT distribution, key, shard, entered FROM pgherd.directory
                 WHERE database = {} AND entered > {after} ORDER BY entered LIMIT {ROWS_MAX}",
                literal(&db.name)
            );
            let rows = shards.rows(db.config.catalog, &sql).await?;
            let count = rows.len();
            for row in rows {
                let [Some(distribution), Some(key), Some(shard), Some(entered)] = &row[..] else {
                    return Err("a row of pgherd.directory cannot be read".into());
                };
                after = entered.parse()?;
                self.read += usize::from(after > self.last);
                enter(&topology, distribution, key, shard);
            }
            self.last = self.last.max(after);
            if count < ROWS_MAX {
                break;
            }
        }
        Ok(())
    }
}

/// Takes an entry over. One that is no key of the distribution, or not in its one form, is nobody's.
fn enter(topology: &Topology, distribution: &str, key: &str, shard: &str) {
    let Some((directory, ty)) = find(topology, distribution) else { return };
    let value = KeyValue::from_text(ty, key.as_bytes()).ok();
    let value = value.filter(|value| key_text(value).as_deref() == Some(key));
    let shard = topology.shards.iter().position(|known| known == shard);
    match (value, shard) {
        (Some(value), Some(shard)) => directory.enter(&value, ShardId(shard as u16)),
        _ => tracing::warn!(
            distribution,
            "an entry of pgherd.directory names no key or no shard: it is left out"
        ),
    }
}

fn find<'t>(topology: &'t Topology, name: &str) -> Option<(&'t Directory, KeyType)> {
    let distribution = topology.distributions.iter().find(|distribution| distribution.name == name)?;
    match (&*distribution.rule, &distribution.types[..]) {
        (Rule::Directory(directory), [ty]) => Some((directory, *ty)),
        _ => None,
    }
}

/// Looks keys up in the catalog; those that it does not have are entered, if the configuration says where.
pub async fn place(
    shards: &mut Shards,
    distribution: &str,
    keys: &[KeyValue<'static>],
) -> Result<(), Problem> {
    let db = shards.db.clone();
    let configured = db.config.distributions.iter().find(|configured| configured.name == distribution);
    let Some(Method::Directory(new_keys)) = configured.map(|configured| &configured.by) else {
        return Ok(());
    };
    if keys.is_empty() || keys.len() > ENTERED_MAX {
        return Ok(());
    }
    let weights: Vec<u32> = db.config.shards.iter().map(|shard| shard.weight).collect();
    let name = |shard: usize| db.config.shards.get(shard).map_or("", |shard| shard.name.as_str());
    let by_slot = |key: &KeyValue<'_>| {
        let slot = slot(std::slice::from_ref(key));
        let run = assign::initial(&weights).into_iter().find(|run| (run.from..=run.to).contains(&slot));
        name(run.map_or(0, |run| run.shard))
    };
    let (database, name_of) = (literal(&db.name), literal(distribution));
    let mut sql = String::new();
    let mut texts = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(text) = key_text(key).map(|text| literal(&text)) else { return Ok(()) };
        let shard = match new_keys {
            NewKeys::Refuse => None,
            NewKeys::Hash => Some(literal(by_slot(key))),
            NewKeys::Shard(shard) => Some(literal(name(*shard))),
            NewKeys::Least => {
                let all: Vec<String> = (0..)
                    .zip(&db.config.shards)
                    .filter(|(_, shard)| shard.weight > 0)
                    .map(|(at, shard)| format!("({at}, {}, {})", literal(&shard.name), shard.weight))
                    .collect();
                Some(format!(
                    "(SELECT s.name FROM (VALUES {}) AS s (place, name, weight)
                      LEFT JOIN (SELECT d.shard, count(*) AS n FROM pgherd.directory d
                                 WHERE d.database = {database} AND d.distribution = {name_of} GROUP BY d.shard) c ON c.shard = s.name
                      ORDER BY (COALESCE(c.n, 0) + 1)::numeric / s.weight, s.place LIMIT 1)",
                    all.join(", ")
                ))
            }
        };
        if let Some(shard) = shard {
            sql.push_str(&format!(
                "INSERT INTO pgherd.directory (database, distribution, key, shard)
                 SELECT {database}, {name_of}, {text}, {shard}
                 WHERE NOT EXISTS (SELECT FROM pgherd.directory WHERE database = {database} AND distribution = {name_of} AND key = {text})
                 ON CONFLICT DO NOTHING; "
            ));
        }
        texts.push(text);
    }
    // A statement of its own: it sees what another pgherd entered while the INSERT waited for it.
    if !sql.is_empty() {
        // Somebody's open transaction may have the key: nobody else waits for that one.
        shards.rows(db.config.catalog, &format!("SET LOCAL lock_timeout = '2s'; {sql}")).await?;
    }
    let sql = format!(
        "SELECT key, shard FROM pgherd.directory WHERE database = {database} AND distribution = {name_of} AND key IN ({})",
        texts.join(", ")
    );
    let mut found: HashMap<String, String> = HashMap::new();
    for row in shards.rows(db.config.catalog, &sql).await? {
        if let [Some(key), Some(shard)] = &row[..] {
            found.insert(key.clone(), shard.clone());
        }
    }
    let topology = db.topology();
    for (key, shard) in &found {
        enter(&topology, distribution, key, shard);
    }
    Ok(())
}
