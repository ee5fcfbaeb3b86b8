//! What is to be moved, with the rows that stand behind it. Nothing moves here.
//!
//! Start reading at [`plan`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pgherd_config::Method;
use pgherd_rebalance::placement::Record;
use pgherd_rebalance::plan::{Move, Unit, difference, units};
use pgherd_rebalance::sql::{Keyed, literal};

use super::servers::{LONG, Servers};
use super::tables;
use super::unit::Distribution;
use crate::control::{Problem, catalog};

/// Rows of a unit: what moves in some ten milliseconds.
pub const UNIT_ROWS: u64 = 2_000;

/// Slots of a unit, where rows are few.
const UNIT_SLOTS: usize = 1_024;

/// Keys of directories that one plan moves.
const KEYS_MAX: usize = 100_000;

/// For the expected time: rows a second without a limit, and what a unit costs besides.
const EXPECTED_ROWS: u64 = 50_000;
const EXPECTED_UNIT_MILLIS: u64 = 20;

/// A key of a directory that is to be moved by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMove {
    pub distribution: String,
    pub key: String,
    /// Name of the shard.
    pub target: String,
}

#[derive(Debug)]
pub struct Planned {
    /// Of what is in the configuration.
    pub index: usize,
    pub of: Arc<Distribution>,
    pub refined: Record,
    /// The catalog's own parts differ from these.
    pub is_refined: bool,
    pub end: Option<Record>,
}

#[derive(Debug)]
pub struct Plan {
    pub distributions: Vec<Planned>,
    /// Which distribution (an index into those), what, and how many rows.
    pub moves: Vec<(usize, Move, u64)>,
    pub bytes: u64,
}

impl Plan {
    pub fn rows(&self) -> u64 {
        self.moves.iter().map(|(_, _, rows)| rows).sum()
    }

    /// All that give or take.
    pub fn shards(&self, servers: &Servers) -> Vec<usize> {
        let names = self.moves.iter().flat_map(|(_, step, _)| [&step.source, &step.target]);
        let mut shards: Vec<usize> = names.filter_map(|name| servers.shard(name).ok()).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Seconds that it may take.
    pub fn seconds(&self, rate: u64) -> u64 {
        let rows = self.rows() / EXPECTED_ROWS + self.moves.len() as u64 * EXPECTED_UNIT_MILLIS / 1000;
        rows.max(self.rows().checked_div(rate).unwrap_or(0))
    }

    /// Units, rows: by distribution, source and target.
    pub fn pairs(&self) -> BTreeMap<(String, String, String), (u64, u64)> {
        let mut pairs: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for (of, step, rows) in &self.moves {
            let name = self.distributions.get(*of).map_or(String::new(), |of| of.of.name.clone());
            let pair = pairs.entry((name, step.source.clone(), step.target.clone())).or_default();
            pair.0 += 1;
            pair.1 += rows;
        }
        pairs
    }
}

/// Reads the catalog and the tables, and compares.
///
/// # Errors
/// The configuration cannot be reached from what is there, or a server said so.
pub async fn plan(servers: &Servers, keys: &[KeyMove]) -> Result<Plan, Problem> {
    let db = &servers.db;
    let (records, _) = catalog::records(&mut servers.control()).await?;
    let mut plan = Plan { distributions: Vec::new(), moves: Vec::new(), bytes: 0 };
    for wanted in keys {
        let known = db.config.distributions.iter().any(|of| of.name == wanted.distribution);
        servers.shard(&wanted.target)?;
        if !known {
            return Err(format!("there is no distribution \"{}\"", wanted.distribution).into());
        }
    }
    for (index, configured) in db.config.distributions.iter().enumerate() {
        let Some(record) = records.get(&configured.name) else { continue };
        let found = difference(record, &configured.name, configured, &db.config.shards)?;
        let mut moves = found.moves;
        let named: Vec<&KeyMove> = keys.iter().filter(|key| key.distribution == configured.name).collect();
        if let Method::Directory(_) = configured.by {
            moves = of_directory(servers, &configured.name, &named).await?;
        } else if !named.is_empty() {
            return Err(format!(
                "distribution \"{}\" is not by directory: its keys have no place of their own",
                configured.name
            )
            .into());
        }
        let is_refined = found.refined != *record;
        let mut of = Distribution {
            name: configured.name.clone(),
            tables: Vec::new(),
            record: found.refined.clone(),
            types: configured.types.clone(),
        };
        let mut counts: HashMap<(String, u32, usize), u64> = HashMap::new();
        let mut keyed_rows: HashMap<String, u64> = HashMap::new();
        let mut sources: Vec<&str> = moves.iter().map(|step| step.source.as_str()).collect();
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            let connection = servers.lend(servers.shard(source)?).await?;
            let there = tables::of_distribution(db, &connection, index).await?;
            for table in &there {
                let keyed = Keyed { record: &of.record, types: &of.types, columns: &table.key };
                let mut rows_there = 0u64;
                if let Method::Directory(_) = configured.by {
                    for step in moves.iter().filter(|step| step.source == source) {
                        let Unit::Key(key) = &step.unit else { continue };
                        let sql = format!(
                            "SELECT count(*) FROM {} WHERE {}",
                            table.name,
                            keyed.condition(&step.unit)?
                        );
                        let counted =
                            connection.rows_within(LONG, &sql).await?.into_iter().flatten().flatten().next();
                        let rows: u64 = counted.unwrap_or_default().parse()?;
                        rows_there += rows;
                        *keyed_rows.entry(key.clone()).or_default() += rows;
                    }
                } else {
                    let (part, slot) = keyed.place()?;
                    let sql = format!(
                        "SELECT part, slot, count(*) FROM (SELECT {part} AS part, {slot} AS slot FROM {}) AS rows
                         WHERE part IS NOT NULL AND slot IS NOT NULL GROUP BY 1, 2",
                        table.name
                    );
                    for row in connection.rows_within(LONG, &sql).await? {
                        let [Some(part), Some(slot), Some(rows)] = &row[..] else { continue };
                        let rows: u64 = rows.parse()?;
                        rows_there += rows;
                        *counts.entry((source.to_owned(), part.parse()?, slot.parse()?)).or_default() += rows;
                    }
                }
                let moving: u64 = moves
                    .iter()
                    .filter(|step| step.source == source)
                    .map(|step| rows_of(&counts, &keyed_rows, step))
                    .sum();
                plan.bytes += table.bytes.saturating_mul(moving.min(rows_there)) / rows_there.max(1);
            }
            servers.take_back(connection);
            if of.tables.is_empty() {
                of.tables = there;
            }
        }
        let of_slot = |source: &str, part: u32, slot: usize| {
            counts.get(&(source.to_owned(), part, slot)).copied().unwrap_or(0)
        };
        let at = plan.distributions.len();
        for step in units(&moves, of_slot, UNIT_ROWS, UNIT_SLOTS) {
            let rows = rows_of(&counts, &keyed_rows, &step);
            plan.moves.push((at, step, rows));
        }
        plan.distributions.push(Planned {
            index,
            of: Arc::new(of),
            refined: found.refined,
            is_refined,
            end: found.end.filter(|_| is_refined || !moves.is_empty()),
        });
    }
    Ok(plan)
}

fn rows_of(counts: &HashMap<(String, u32, usize), u64>, keys: &HashMap<String, u64>, step: &Move) -> u64 {
    let of = |part: u32, slot: usize| counts.get(&(step.source.clone(), part, slot)).copied().unwrap_or(0);
    match &step.unit {
        Unit::Slots { part, from, to } => (*from..=*to).map(|slot| of(*part, slot)).sum(),
        Unit::Part(part) => of(*part, 0),
        Unit::Key(key) => keys.get(key).copied().unwrap_or(0),
    }
}

/// Keys that are named, and those on shards that are to be emptied: these go where the fewest are.
async fn of_directory(
    servers: &Servers,
    distribution: &str,
    named: &[&KeyMove],
) -> Result<Vec<Move>, Problem> {
    let db = &servers.db;
    let of = format!("database = {} AND distribution = {}", literal(&db.name), literal(distribution));
    let catalog = servers.lend(servers.catalog()).await?;
    let mut moves = Vec::new();
    for wanted in named {
        let sql = format!("SELECT shard FROM pgherd.directory WHERE {of} AND key = {}", literal(&wanted.key));
        let Some(source) = catalog.one(&sql).await? else {
            return Err(
                format!("key \"{}\" of \"{distribution}\" is not in the directory", wanted.key).into()
            );
        };
        if source != wanted.target {
            let target = wanted.target.clone();
            moves.push(Move { unit: Unit::Key(wanted.key.clone()), source, target });
        }
    }
    let leaving: Vec<String> =
        db.config.shards.iter().filter(|shard| shard.weight == 0).map(|shard| literal(&shard.name)).collect();
    if !leaving.is_empty() {
        let mut held: Vec<(u64, u64, &str)> = Vec::new();
        for shard in db.config.shards.iter().filter(|shard| shard.weight > 0) {
            let sql = format!(
                "SELECT count(*) FROM pgherd.directory WHERE {of} AND shard = {}",
                literal(&shard.name)
            );
            let keys: u64 = catalog.one(&sql).await?.unwrap_or_default().parse()?;
            held.push((keys, shard.weight.into(), &shard.name));
        }
        let sql = format!(
            "SELECT key, shard FROM pgherd.directory WHERE {of} AND shard IN ({}) ORDER BY key LIMIT {KEYS_MAX}",
            leaving.join(", ")
        );
        for row in catalog.rows(&sql).await? {
            let [Some(key), Some(source)] = &row[..] else { continue };
            if moves.iter().any(|step| step.unit == Unit::Key(key.clone())) {
                continue;
            }
            let fewest = held.iter_mut().min_by_key(|(keys, weight, _)| (*keys + 1) * 1_000_000 / *weight);
            let Some((keys, _, target)) = fewest else { continue };
            *keys += 1;
            moves.push(Move {
                unit: Unit::Key(key.clone()),
                source: source.clone(),
                target: (*target).to_owned(),
            });
        }
    }
    servers.take_back(catalog);
    Ok(moves)
}
