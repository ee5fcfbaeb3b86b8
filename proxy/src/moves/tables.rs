//! The tables of a distribution, as a server has them: what is copied, and how.

use pgherd_config::TablePlacement;
use pgherd_rebalance::sql::{literal, quoted};

use super::servers::Connection;
use crate::control::Problem;
use crate::database::Database;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// As SQL names it, with its schema.
    pub name: String,
    pub oid: String,
    /// Columns of the key, quoted.
    pub key: Vec<String>,
    /// All that is stored of a row, quoted, with commas.
    pub columns: String,
    /// Its values are the same bytes on every server. Otherwise it is copied as text: numbers of types differ.
    pub binary: bool,
    /// Where rows are, quoted with schemas: itself, or its partitions. Each with its number.
    pub leaves: Vec<(String, String)>,
    /// Why its rows cannot be moved.
    pub refused: Option<String>,
    /// What the planner thinks it has.
    pub rows: u64,
    pub bytes: u64,
}

/// `SELECT i, oid, schema, name, kind` of the configured tables among `wanted`, as `found`.
fn found(db: &Database, wanted: impl Fn(&TablePlacement) -> bool) -> Option<String> {
    let values: Vec<String> = db
        .config
        .tables
        .iter()
        .enumerate()
        .filter(|(_, table)| wanted(&table.placement))
        .map(|(at, table)| {
            let schema = table.schema.as_ref().map_or("NULL".into(), |schema| literal(schema));
            format!("({at}, {schema}::text, {}::text)", literal(&table.name))
        })
        .collect();
    if values.is_empty() {
        return None;
    }
    Some(format!(
        "wanted (i, schema, name) AS (VALUES {}),
         found AS (SELECT DISTINCT ON (w.i) w.i, c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relhassubclass AS parent
                   FROM wanted w JOIN pg_catalog.pg_class c ON c.relname = w.name AND c.relkind IN ('r', 'p')
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   WHERE (w.schema IS NULL AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgherd') AND n.nspname !~ '^pg_')
                      OR n.nspname = w.schema
                   ORDER BY w.i, n.nspname <> 'public', n.nspname)",
        values.join(", ")
    ))
}

/// The tables of a distribution that are there.
///
/// # Errors
/// What the server said.
pub async fn of_distribution(
    db: &Database,
    connection: &Connection,
    distribution: usize,
) -> Result<Vec<Table>, Problem> {
    read(db, connection, |placement| match placement {
        TablePlacement::Sharded { distribution: of, .. } => *of == distribution,
        TablePlacement::Reference | TablePlacement::Single { .. } => false,
    })
    .await
}

/// The reference tables that are there.
///
/// # Errors
/// What the server said.
pub async fn references(db: &Database, connection: &Connection) -> Result<Vec<Table>, Problem> {
    read(db, connection, |placement| matches!(placement, TablePlacement::Reference)).await
}

async fn read(
    db: &Database,
    connection: &Connection,
    wanted: impl Fn(&TablePlacement) -> bool,
) -> Result<Vec<Table>, Problem> {
    let Some(found) = found(db, wanted) else { return Ok(Vec::new()) };
    // Binary values of types that a user made hold the server's own numbers of types (arrays, composites), or do not exist.
    let sql = format!(
        "WITH RECURSIVE {found},
         members (i, oid) AS (
             SELECT i, oid FROM found
             UNION SELECT m.i, h.inhrelid FROM members m JOIN pg_catalog.pg_inherits h ON h.inhparent = m.oid)
         SELECT f.i, f.oid, pg_catalog.quote_ident(f.schema) || '.' || pg_catalog.quote_ident(f.name), f.kind, f.parent,
                EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = f.oid AND r.ev_enabled <> 'D'),
                (SELECT string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
                (SELECT bool_and((t.oid < 16384 OR t.typtype = 'e') AND (t.typcategory <> 'A' OR t.typelem < 16384)
                                 AND t.typname !~ '^reg') FROM pg_catalog.pg_attribute a
                 JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                 WHERE a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
                (SELECT string_agg(c.oid || ' ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), E'\\x01' ORDER BY c.oid)
                 FROM members m JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'r'
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE m.i = f.i),
                (SELECT sum(GREATEST(c.reltuples, 0))::bigint FROM members m JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'r' WHERE m.i = f.i),
                (SELECT sum(pg_catalog.pg_table_size(c.oid))::bigint FROM members m JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'r' WHERE m.i = f.i)
         FROM found f ORDER BY f.i"
    );
    let mut tables = Vec::new();
    for row in connection.rows(&sql).await? {
        let [
            Some(i),
            Some(oid),
            Some(name),
            Some(kind),
            Some(parent),
            Some(rules),
            columns,
            binary,
            leaves,
            rows,
            bytes,
        ] = &row[..]
        else {
            return Err("a row of the server's catalogs cannot be read".into());
        };
        let configured = db.config.tables.get(i.parse::<usize>()?).ok_or("a table is missing")?;
        let key = match &configured.placement {
            TablePlacement::Sharded { key, .. } => key.iter().map(|column| quoted(column)).collect(),
            TablePlacement::Reference | TablePlacement::Single { .. } => Vec::new(),
        };
        let refused = match (kind.as_str(), parent.as_str(), rules.as_str()) {
            ("r", "t", _) => Some("other tables inherit from it".into()),
            (_, _, "t") => Some("it has a rule".into()),
            _ if columns.is_none() => Some("it has no column of its own".into()),
            _ => None,
        };
        let leaves = leaves.as_deref().unwrap_or_default().split('\u{1}');
        let leaves = leaves.filter_map(|leaf| leaf.split_once(' '));
        tables.push(Table {
            name: name.clone(),
            oid: oid.clone(),
            key,
            columns: columns.clone().unwrap_or_default(),
            binary: binary.as_deref() == Some("t"),
            leaves: leaves.map(|(oid, name)| (oid.to_owned(), name.to_owned())).collect(),
            refused,
            rows: rows.as_deref().unwrap_or("0").parse()?,
            bytes: bytes.as_deref().unwrap_or("0").parse()?,
        });
    }
    Ok(tables)
}

impl Table {
    pub fn format(&self) -> &'static str {
        if self.binary { "FORMAT binary" } else { "FORMAT text" }
    }
}
