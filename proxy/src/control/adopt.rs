//! Tables that are listed for the first time and have rows already: are these where statements will look for them?
//!
//! Invariant: a table is routed by a placement only when every row that it had at that moment was where the placement says. What is
//! checked once is recorded (`pgherd.tables`): from then on pgherd itself keeps it so.
//!
//! A distribution that is new is recorded as it is found: all of it on the first shard, when all rows are there; as the configuration
//! wishes, when it has no rows or every row is where that would put it.
//!
//! Start reading at [`look`].

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use pgherd_config::{Method, TablePlacement};
use pgherd_rebalance::placement::{Record, Slots, wished};
use pgherd_rebalance::sql::{Keyed, literal, quoted};
use pgherd_router::topology::SLOTS;

use super::{Problem, Shards, facts};

/// Made with the rest of the catalog.
pub const TABLE: &str = "
CREATE TABLE IF NOT EXISTS pgherd.tables (
    database text NOT NULL,
    name text NOT NULL,
    distribution text NOT NULL,
    key text NOT NULL,
    since timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (database, name)
);
";

/// Every row is looked at, once.
const LOOK_WITHIN: Duration = Duration::from_secs(60 * 60);

/// What the catalog has still to be told.
#[derive(Debug, Default)]
pub struct Found {
    /// Of distributions that are not recorded: what is true of them.
    pub records: HashMap<String, Record>,
    /// Statements that record the tables.
    pub sql: String,
}

/// Whether the catalog has kept account of its tables before this start.
///
/// # Errors
/// The catalog shard said so.
pub async fn is_kept(shards: &mut Shards) -> Result<bool, Problem> {
    let catalog = shards.db.config.catalog;
    let sql = "SELECT pg_catalog.to_regclass('pgherd.tables') IS NOT NULL OR pg_catalog.to_regclass('pgherd.placement') IS NULL";
    let rows = shards.rows(catalog, sql).await?;
    Ok(rows.into_iter().flatten().flatten().next().as_deref() == Some("t"))
}

/// Looks at the tables that are not recorded yet. `recorded`: the distributions that are. `kept`: see [`is_kept`]; a catalog of
/// before has pgherd's own tables only, which need no look.
///
/// # Errors
/// Rows are where statements would not find them. Or a server said so.
pub async fn look(
    shards: &mut Shards,
    recorded: &HashMap<String, Record>,
    kept: bool,
) -> Result<Found, Problem> {
    let db = shards.db.clone();
    let database = literal(&db.name);
    let mut known: HashMap<String, (String, String)> = HashMap::new();
    let sql = format!("SELECT name, distribution, key FROM pgherd.tables WHERE database = {database}");
    for row in shards.rows(db.config.catalog, &sql).await? {
        let [Some(name), Some(distribution), Some(key)] = &row[..] else { continue };
        known.insert(name.clone(), (distribution.clone(), key.clone()));
    }
    let mut found = Found::default();
    // Table, and its rows by shard, for each distribution; `None`: reference tables.
    let mut new: BTreeMap<Option<usize>, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
    let mut listed = Vec::new();
    for (at, table) in db.config.tables.iter().enumerate() {
        let (distribution, name_of, key) = match &table.placement {
            TablePlacement::Sharded { distribution, key } => {
                let name = db.config.distributions.get(*distribution).map_or("", |of| of.name.as_str());
                (Some(*distribution), name, key.join(","))
            }
            TablePlacement::Reference => (None, "", String::new()),
            TablePlacement::Single { .. } => continue,
        };
        let name = match &table.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&table.name)),
            None => quoted(&table.name),
        };
        listed.push(literal(&name));
        if known.get(&name).is_some_and(|(of, by)| of == name_of && *by == key) {
            continue;
        }
        found.sql.push_str(&format!(
            "INSERT INTO pgherd.tables (database, name, distribution, key) VALUES ({database}, {}, {}, {})
             ON CONFLICT (database, name) DO UPDATE SET distribution = EXCLUDED.distribution, key = EXCLUDED.key, since = pg_catalog.now();",
            literal(&name),
            literal(name_of),
            literal(&key)
        ));
        let before = kept || distribution.is_some_and(|_| !recorded.contains_key(name_of));
        if before {
            let on = occupied(shards, at).await?;
            if !on.is_empty() {
                new.entry(distribution).or_default().push((at, on));
            }
        }
    }
    // What is not listed any more is looked at again when it is.
    let gone =
        if listed.is_empty() { String::new() } else { format!(" AND name NOT IN ({})", listed.join(", ")) };
    found.sql.push_str(&format!("DELETE FROM pgherd.tables WHERE database = {database}{gone};"));
    for (distribution, tables) in new {
        let Some(index) = distribution else {
            for (at, _) in tables {
                copies_agree(shards, at).await?;
            }
            continue;
        };
        let configured = db.config.distributions.get(index).ok_or("a distribution is missing")?;
        if let Method::Directory(_) = configured.by {
            // Its keys are entered by whoever knows where the rows are.
            continue;
        }
        let record = match recorded.get(&configured.name) {
            Some(record) => record.clone(),
            None => {
                let on_first_only =
                    tables.iter().all(|(_, on)| on.iter().all(|shard| *shard == facts::FIRST));
                if on_first_only && configured.by == Method::Hash && db.config.shards.len() > 1 {
                    let first = db.config.shards.first().map_or_else(String::new, |shard| shard.name.clone());
                    tracing::info!(
                        distribution = %configured.name,
                        "all rows are on the first shard: that is what is recorded, until pgherd rebalance spreads them"
                    );
                    let slots = vec![Slots { part: 0, from: 0, to: SLOTS - 1, shard: first, epoch: 1 }];
                    let record = Record { slots, ..wished(configured, &db.config.shards, 1) };
                    found.records.insert(configured.name.clone(), record);
                    continue;
                }
                wished(configured, &db.config.shards, 1)
            }
        };
        for (at, on) in tables {
            for shard in on {
                in_place(shards, at, shard, &record, configured).await?;
            }
        }
    }
    Ok(found)
}

/// Finds a configured table on a server, as the facts do.
fn find(table: &pgherd_config::Table) -> String {
    let name = literal(&table.name);
    let of = match &table.schema {
        Some(schema) => format!("n.nspname = {}", literal(schema)),
        None => {
            "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgherd') AND n.nspname !~ '^pg_'".into()
        }
    };
    format!(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relname = {name} AND c.relkind IN ('r', 'p') AND {of} ORDER BY n.nspname <> 'public', n.nspname LIMIT 1"
    )
}

async fn name_on(shards: &mut Shards, table: usize, shard: usize) -> Result<Option<String>, Problem> {
    let db = shards.db.clone();
    let configured = db.config.tables.get(table).ok_or("a table is missing")?;
    let rows = shards.rows(shard, &find(configured)).await?;
    Ok(rows.into_iter().flatten().flatten().next())
}

/// The shards on which a table has rows.
async fn occupied(shards: &mut Shards, table: usize) -> Result<Vec<usize>, Problem> {
    let mut on = Vec::new();
    for shard in 0..shards.db.config.shards.len() {
        let Some(name) = name_on(shards, table, shard).await? else { continue };
        let rows = shards.rows(shard, &format!("SELECT 1 FROM {name} LIMIT 1")).await?;
        if !rows.is_empty() {
            on.push(shard);
        }
    }
    Ok(on)
}

async fn in_place(
    shards: &mut Shards,
    table: usize,
    shard: usize,
    record: &Record,
    configured: &pgherd_config::Distribution,
) -> Result<(), Problem> {
    let db = shards.db.clone();
    let of = db.config.tables.get(table).ok_or("a table is missing")?;
    let (TablePlacement::Sharded { key, .. }, Some(on)) = (&of.placement, db.config.shards.get(shard)) else {
        return Ok(());
    };
    let Some(name) = name_on(shards, table, shard).await? else { return Ok(()) };
    let columns: Vec<String> = key.iter().map(|column| quoted(column)).collect();
    let keyed = Keyed { record, types: &configured.types, columns: &columns };
    let belongs = keyed.belongs(&on.name).map_err(|why| {
        format!("table {name} has rows, and whether they are where they belong cannot be checked: {why}")
    })?;
    let sql = format!("SELECT 1 FROM {name} WHERE ({belongs}) IS NOT TRUE LIMIT 1");
    if shards.rows_within(shard, &sql, LOOK_WITHIN).await?.is_empty() {
        return Ok(());
    }
    Err(format!(
        "table {name} has rows on shard \"{}\" that statements would look for elsewhere: list it with a distribution of its own, so that all of it stays on the first shard until pgherd rebalance spreads it",
        on.name
    )
    .into())
}

async fn copies_agree(shards: &mut Shards, table: usize) -> Result<(), Problem> {
    let db = shards.db.clone();
    let mut counts: Vec<(String, u64)> = Vec::new();
    for (shard, of) in db.config.shards.iter().enumerate() {
        // Where it is missing altogether a statement says so.
        let Some(name) = name_on(shards, table, shard).await? else { continue };
        let rows = shards.rows_within(shard, &format!("SELECT count(*) FROM {name}"), LOOK_WITHIN).await?;
        let rows = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        counts.push((of.name.clone(), rows.parse()?));
    }
    if counts.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        return Ok(());
    }
    let name = db.config.tables.get(table).map_or("", |table| table.name.as_str());
    let shown: Vec<String> = counts.iter().map(|(shard, rows)| format!("{rows} on {shard}")).collect();
    Err(format!(
        "reference table \"{name}\" does not have the same rows everywhere ({}): copy them to every shard first",
        shown.join(", ")
    )
    .into())
}
