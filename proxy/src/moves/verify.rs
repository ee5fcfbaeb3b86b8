//! Whether every row is where the placement says, and nothing of a rebalance is left behind.
//!
//! Start reading at [`verify`].

use std::collections::BTreeMap;
use std::sync::Arc;

use pgherd_config::Method;
use pgherd_rebalance::sql::{Keyed, literal};

use super::servers::{LONG, Servers};
use super::{fence, state, tables};
use crate::control::{Problem, catalog};
use crate::database::Database;

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Of each table: rows on each shard.
    pub tables: Vec<(String, Vec<(String, u64)>)>,
    pub problems: Vec<String>,
}

/// Counts all rows, and those that are where they do not belong.
///
/// # Errors
/// A server said so, or rows are moving just now.
pub async fn verify(db: Arc<Database>) -> Result<Verified, Problem> {
    let servers = Servers::new(db.clone())?;
    let stands = state::status(&servers).await?;
    if matches!(stands.state.as_str(), "running" | "cancelling") && stands.holds > 0 {
        return Err("rows are moving: verify when that is done or paused".into());
    }
    let (records, _) = catalog::records(&mut servers.control()).await?;
    let mut verified = Verified::default();
    // By table: rows on each shard, in the order of the configuration.
    let mut counts: BTreeMap<(usize, String), Vec<(String, u64)>> = BTreeMap::new();
    let mut copies: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for (shard, configured) in db.config.shards.iter().enumerate() {
        let connection = servers.lend(shard).await?;
        let name = &configured.name;
        for (index, distribution) in db.config.distributions.iter().enumerate() {
            let Some(record) = records.get(&distribution.name) else {
                verified.problems.push(format!("distribution \"{}\" has no placement", distribution.name));
                continue;
            };
            for table in tables::of_distribution(&db, &connection, index).await? {
                let keyed = Keyed { record, types: &distribution.types, columns: &table.key };
                let belongs = match distribution.by {
                    Method::Directory(_) => {
                        of_directory(&servers, &distribution.name, name, &table.key).await?
                    }
                    _ => keyed.belongs(name)?,
                };
                let sql = format!(
                    "SELECT count(*), count(*) FILTER (WHERE ({belongs}) IS NOT TRUE) FROM {}",
                    table.name
                );
                for row in connection.rows_within(LONG, &sql).await? {
                    let [Some(rows), Some(wrong)] = &row[..] else { continue };
                    counts
                        .entry((index, table.name.clone()))
                        .or_default()
                        .push((name.clone(), rows.parse()?));
                    if wrong != "0" {
                        verified
                            .problems
                            .push(format!("{wrong} rows of {} on {name} do not belong there", table.name));
                    }
                }
            }
        }
        for table in tables::references(&db, &connection).await? {
            let rows = connection.rows_within(LONG, &format!("SELECT count(*) FROM {}", table.name)).await?;
            let rows = rows.into_iter().flatten().flatten().next().unwrap_or_default().parse()?;
            copies.entry(table.name).or_default().push((name.clone(), rows));
        }
        // One that is paused keeps its fence.
        if stands.state != "paused" && stands.state != "running" {
            let left = fence::left(&connection).await?;
            verified.problems.extend(left.into_iter().map(|what| format!("{what} is left on {name}")));
        }
        let prepared = connection
            .rows("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() AND prepared < pg_catalog.now() - interval '5 seconds'")
            .await?;
        let prepared = prepared.into_iter().flatten().flatten();
        verified.problems.extend(prepared.map(|gid| format!("transaction '{gid}' is prepared on {name}")));
        servers.take_back(connection);
    }
    for (table, rows) in &copies {
        if rows.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            let shown: Vec<String> = rows.iter().map(|(shard, rows)| format!("{rows} on {shard}")).collect();
            verified.problems.push(format!("the copies of {table} differ: {}", shown.join(", ")));
        }
    }
    if stands.holds > 0 {
        verified.problems.push(format!("{} units are on hold", stands.holds));
    }
    verified.tables = counts.into_iter().map(|((_, table), rows)| (table, rows)).chain(copies).collect();
    Ok(verified)
}

async fn of_directory(
    servers: &Servers,
    distribution: &str,
    shard: &str,
    key: &[String],
) -> Result<String, Problem> {
    let sql = format!(
        "SELECT key FROM pgherd.directory WHERE database = {} AND distribution = {} AND shard = {}",
        literal(&servers.db.name),
        literal(distribution),
        literal(shard)
    );
    let rows = servers.rows(servers.catalog(), &sql).await?;
    let keys: Vec<String> = rows.into_iter().flatten().flatten().map(|key| literal(&key)).collect();
    Ok(format!("{}::pg_catalog.text = ANY (ARRAY[{}]::pg_catalog.text[])", key.join(""), keys.join(", ")))
}
