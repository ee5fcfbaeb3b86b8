//! The fence at the shards: for the time of a rebalance, a trigger on each moving table asks whether this shard holds the unit.
//!
//! Invariant: before the first row moves, every transaction that could have written to a moving table without being asked has ended.
//! So what a move does not see when it holds a unit's lock is not there.
//!
//! The lock of a unit is a transaction's: it survives PREPARE TRANSACTION, so that an insert that is prepared is waited for.
//!
//! Start reading at [`raise`].

use std::time::Duration;

use pgherd_rebalance::plan::Unit;
use pgherd_rebalance::sql::{Keyed, literal};
use pgherd_router::topology::SLOTS;

use super::servers::{Connection, LONG};
use super::tables::Table;
use crate::control::{Problem, sqlstate};

/// First number of the advisory locks of units ("pghm" in ASCII); the second is the unit's.
pub const CLASS: i32 = 0x7067_686D;

pub const TRIGGER: &str = "pgherd_fence";

/// Start of the names of the indexes that find the rows of a unit.
pub const INDEX: &str = "pgherd_slot_";

/// How long a lock on a table is waited for: meanwhile whoever comes to write there waits behind it.
const LOCK_TIMEOUT: &str = "100ms";

/// Between two attempts to get it.
const AGAIN: Duration = Duration::from_millis(150);

/// The question, asked for each row. `installed`: the transaction that recorded the units; a snapshot of before it sees none of them.
const FUNCTION: &str = "
CREATE OR REPLACE FUNCTION pgherd.fence(of_database text, of_distribution text, of_part integer, of_slot bigint, of_key text, installed pg_catalog.xid8)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $fence$
DECLARE
    fenced pgherd.fences%ROWTYPE;
    held boolean;
    fixed boolean := pg_catalog.current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted');
BEGIN
    IF fixed AND NOT pg_catalog.pg_visible_in_snapshot(installed, pg_catalog.pg_current_snapshot()) THEN
        RAISE EXCEPTION 'could not serialize access: rows are being moved since the transaction began' USING ERRCODE = '40001';
    END IF;
    SELECT * INTO fenced FROM pgherd.fences f
        WHERE f.database = of_database AND f.distribution = of_distribution AND f.part = of_part AND f.key = of_key
          AND f.slot_from <= of_slot AND f.slot_to >= of_slot;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(CLASS, fenced.unit);
    IF fixed THEN
        -- An old snapshot would see an old owner: whoever has changed it since makes this fail.
        SELECT f.owned INTO held FROM pgherd.fences f
            WHERE f.database = of_database AND f.distribution = of_distribution AND f.unit = fenced.unit FOR SHARE;
    ELSE
        SELECT f.owned INTO held FROM pgherd.fences f
            WHERE f.database = of_database AND f.distribution = of_distribution AND f.unit = fenced.unit;
    END IF;
    IF held IS NOT TRUE THEN
        RAISE EXCEPTION 'this shard does not hold the row any more' USING ERRCODE = 'PG001',
            HINT = 'Rows are being moved to other shards: try again.';
    END IF;
END $fence$;
";

/// A unit, as one shard sees it.
#[derive(Debug, Clone)]
pub struct Fenced {
    pub unit: Unit,
    /// Number of its lock.
    pub number: i64,
    pub owned: bool,
}

/// Who is in the way of a lock on a table.
async fn holders(connection: &Connection, table: &str) -> String {
    let sql = format!(
        "SELECT DISTINCT COALESCE('process ' || a.pid || ' (' || a.usename || ', ' || a.state || ' since ' || pg_catalog.date_trunc('second', a.state_change) || ')',
                'prepared transaction ' || pg_catalog.quote_literal(p.gid))
         FROM pg_catalog.pg_locks l
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
         LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.virtualtransaction = l.virtualtransaction AND x.transactionid IS NOT NULL
         LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
         WHERE l.relation = {}::pg_catalog.regclass AND l.granted AND l.mode <> 'AccessShareLock'
           AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() AND (a.pid IS NOT NULL OR p.gid IS NOT NULL) LIMIT 5",
        literal(table)
    );
    match connection.rows(&sql).await {
        Ok(rows) => rows.into_iter().flatten().flatten().collect::<Vec<_>>().join(", "),
        Err(_) => String::new(),
    }
}

/// Raises the fence on one shard, around all tables of a distribution. Anything that stood there before is replaced.
///
/// # Errors
/// Transactions that hold the tables do not end within `patience`: they are named. Or what the server said.
pub async fn raise(
    connection: &Connection,
    database: &str,
    distribution: &str,
    tables: &[(Table, Keyed<'_>)],
    units: &[Fenced],
    patience: Duration,
) -> Result<(), Problem> {
    let (of_database, of_distribution) = (literal(database), literal(distribution));
    let mut sql = format!(
        "SET LOCAL synchronous_commit = on;
         DELETE FROM pgherd.fences WHERE database = {of_database} AND distribution = {of_distribution};"
    );
    for some in units.chunks(1_000) {
        let rows = some.iter().map(|fenced| {
            let (part, from, to, key) = match &fenced.unit {
                Unit::Slots { part, from, to } => (*part, *from, *to, ""),
                Unit::Part(part) => (*part, 0, SLOTS - 1, ""),
                Unit::Key(key) => (0, 0, SLOTS - 1, key.as_str()),
            };
            format!(
                "({of_database}, {of_distribution}, {part}, {from}, {to}, {}, {}, {})",
                literal(key),
                fenced.number,
                fenced.owned
            )
        });
        let rows: Vec<String> = rows.collect();
        sql.push_str(&format!(
            "INSERT INTO pgherd.fences (database, distribution, part, slot_from, slot_to, key, unit, owned) VALUES {};",
            rows.join(", ")
        ));
    }
    let function = FUNCTION.replace("CLASS", &CLASS.to_string());
    sql.push_str(&function);
    sql.push_str("SELECT pg_catalog.pg_current_xact_id()::text;");
    let rows = connection.rows(&format!("BEGIN; {sql} COMMIT;")).await?;
    let installed = rows.into_iter().flatten().flatten().next_back().ok_or("the server gave no number")?;

    for (table, keyed) in tables {
        let ask = |row: &str| -> Result<String, Problem> {
            let columns: Vec<String> = table.key.iter().map(|column| format!("{row}.{column}")).collect();
            let of_row = Keyed { columns: &columns, ..*keyed };
            let (part, slot, key) = match keyed.record.method.as_str() {
                "directory" => ("0".into(), "0".into(), format!("{}::pg_catalog.text", columns.join(""))),
                _ => {
                    let (part, slot) = of_row.place()?;
                    (part, slot, "''".into())
                }
            };
            Ok(format!(
                "PERFORM pgherd.fence({of_database}, {of_distribution}, ({part})::pg_catalog.int4, ({slot})::pg_catalog.int8, {key}, '{installed}'::pg_catalog.xid8);"
            ))
        };
        let same: Vec<String> = table
            .key
            .iter()
            .map(|column| format!("NEW.{column} IS NOT DISTINCT FROM OLD.{column}"))
            .collect();
        let body = format!(
            "BEGIN
                 IF TG_OP <> 'INSERT' THEN {} END IF;
                 IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
                 IF TG_OP = 'UPDATE' THEN
                     IF {} THEN RETURN NEW; END IF;
                 END IF;
                 {}
                 RETURN NEW;
             END",
            ask("OLD")?,
            same.join(" AND "),
            ask("NEW")?
        );
        // Values of keys could hold any tag; a longer one is in none of them.
        let tag = format!("$pgherd{}$", "_".repeat(body.matches('_').count().min(60)));
        if body.contains(&tag) {
            return Err(format!("the keys of {} cannot be written into a trigger", table.name).into());
        }
        let function = format!("pgherd.fence_{}", table.oid);
        let there = format!(
            "SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = {} AND tgname = '{TRIGGER}'",
            table.oid
        );
        connection
            .run(&format!(
                "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {tag}{body}{tag}"
            ))
            .await?;
        let trigger = match connection.one(&there).await?.as_deref() {
            Some("0") => format!(
                "CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {function}();",
                table.name
            ),
            _ => String::new(),
        };
        // Whoever writes there now was not asked, or was asked for another lock: wait until they have ended.
        let sql = format!(
            "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE; {trigger} COMMIT;",
            table.name
        );
        insist(connection, &table.name, &sql, patience).await?;
    }
    Ok(())
}

/// Runs a transaction that locks a table, again and again while others hold it.
async fn insist(connection: &Connection, table: &str, sql: &str, patience: Duration) -> Result<(), Problem> {
    let started = tokio::time::Instant::now();
    loop {
        let Err(error) = connection.run(sql).await else { return Ok(()) };
        connection.run("ROLLBACK").await?;
        if sqlstate(&error).as_deref() != Some("55P03") {
            return Err(error);
        }
        if started.elapsed() > patience {
            let who = holders(connection, table).await;
            return Err(format!("table {table} is held by transactions that do not end: {who}").into());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Takes the fence away: nothing moves any more.
///
/// # Errors
/// See [`raise`].
pub async fn lower(
    connection: &Connection,
    database: &str,
    distribution: &str,
    tables: &[Table],
    patience: Duration,
) -> Result<(), Problem> {
    for table in tables {
        let there = format!(
            "SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = {} AND tgname = '{TRIGGER}'",
            table.oid
        );
        if connection.one(&there).await?.as_deref() != Some("0") {
            let sql = format!(
                "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; DROP TRIGGER {TRIGGER} ON {}; COMMIT;",
                table.name
            );
            insist(connection, &table.name, &sql, patience).await?;
        }
        connection.run(&format!("DROP FUNCTION IF EXISTS pgherd.fence_{}()", table.oid)).await?;
    }
    connection
        .run(&format!(
            "DELETE FROM pgherd.fences WHERE database = {} AND distribution = {}",
            literal(database),
            literal(distribution)
        ))
        .await
}

/// Makes the index by which the rows of a unit are found, without standing in anybody's way.
///
/// # Errors
/// Transactions that do not end within `patience`, or what the server said.
pub async fn index(
    connection: &Connection,
    table: &Table,
    expressions: &str,
    patience: Duration,
) -> Result<(), Problem> {
    for (oid, leaf) in &table.leaves {
        let name = format!("{INDEX}{oid}");
        let schema = leaf_schema(connection, oid).await?;
        let there = format!(
            "SELECT (x.indisvalid AND pg_catalog.obj_description(x.indexrelid, 'pg_class') = {})::text FROM pg_catalog.pg_index x
             JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = {oid} AND c.relname = '{name}'",
            literal(expressions)
        );
        match connection.one(&there).await? {
            Some(same) if same == "true" => continue,
            _ => {}
        }
        connection.run(&format!("SET lock_timeout = '{}ms'", patience.as_millis().max(1))).await?;
        let made = async {
            connection
                .rows_within(LONG, &format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}"))
                .await?;
            connection
                .rows_within(LONG, &format!("CREATE INDEX CONCURRENTLY {name} ON {leaf} ({expressions})"))
                .await?;
            connection.run(&format!("COMMENT ON INDEX {schema}.{name} IS {}", literal(expressions))).await
        };
        if let Err(error) = made.await {
            if sqlstate(&error).as_deref() != Some("55P03") {
                return Err(error);
            }
            let who = holders(connection, leaf).await;
            return Err(format!("table {leaf} is held by transactions that do not end: {who}").into());
        }
        connection.run("SET lock_timeout = 0").await?;
    }
    Ok(())
}

/// # Errors
/// Transactions that do not end within `patience`, or what the server said.
pub async fn drop_index(connection: &Connection, table: &Table, patience: Duration) -> Result<(), Problem> {
    connection.run(&format!("SET lock_timeout = '{}ms'", patience.as_millis().max(1))).await?;
    for (oid, _) in &table.leaves {
        let schema = leaf_schema(connection, oid).await?;
        let sql = format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{INDEX}{oid}");
        connection.rows_within(LONG, &sql).await?;
    }
    connection.run("SET lock_timeout = 0").await
}

async fn leaf_schema(connection: &Connection, oid: &str) -> Result<String, Problem> {
    // regnamespace quotes what must be.
    let sql = format!(
        "SELECT relnamespace::pg_catalog.regnamespace::text FROM pg_catalog.pg_class WHERE oid = {oid}"
    );
    connection.one(&sql).await?.ok_or_else(|| "a table is gone".into())
}

/// What is left of a fence on a shard: triggers, indexes, units. For `verify`.
///
/// # Errors
/// What the server said.
pub async fn left(connection: &Connection) -> Result<Vec<String>, Problem> {
    let sql = format!(
        "SELECT 'trigger on ' || tgrelid::pg_catalog.regclass FROM pg_catalog.pg_trigger WHERE tgname = '{TRIGGER}' AND tgparentid = 0
         UNION ALL SELECT 'index ' || oid::pg_catalog.regclass FROM pg_catalog.pg_class WHERE pg_catalog.starts_with(relname::text, '{INDEX}') AND relkind = 'i'
         UNION ALL SELECT 'fence of ' || count(*) || ' units of \"' || distribution || '\"' FROM pgherd.fences GROUP BY distribution"
    );
    Ok(connection.rows(&sql).await?.into_iter().flatten().flatten().collect())
}
