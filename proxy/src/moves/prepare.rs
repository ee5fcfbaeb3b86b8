//! A new shard is made like the others before anything moves to it: schema, reference tables with their rows, where sequences are.
//!
//! Invariant: the shard becomes a member (`pgherd.shards`) in one step with all statements on hold: from then on schema changes
//! and writes to reference tables reach it, before that none does. Where the catalog keeps no members, a shard without any table is
//! made like the others.
//!
//! Start reading at [`new_shards`].

use std::process::Stdio;
use std::time::Duration;

use pgherd_config::{SslMode, TablePlacement};
use pgherd_rebalance::sql::literal;
use tokio::time::Instant;

use super::servers::{Connection, LONG, Servers};
use super::unit::{Mover, stream};
use super::{Watch, tables};
use crate::control::{Problem, describe, facts};
use crate::demo::servers::Binaries;

/// The schema of a database as text.
const SCHEMA_BYTES_MAX: usize = 64 << 20;

/// Longest wait for open transactions with everything on hold: all clients wait meanwhile.
const DRAIN: Duration = Duration::from_secs(1);

/// Makes every configured shard a member that is none.
///
/// # Errors
/// What stands in the way.
pub async fn new_shards(
    servers: &Servers,
    mover: &Mover,
    patience: Duration,
    watch: &dyn Watch,
) -> Result<(), Problem> {
    let database = literal(&servers.db.name);
    let catalog = servers.catalog();
    let kept = members_are_kept(servers).await?;
    if !kept && is_empty(servers, facts::FIRST).await? {
        return Ok(());
    }
    let members: Vec<String> = match kept {
        true => {
            let sql = format!("SELECT shard FROM pgherd.shards WHERE database = {database}");
            servers.rows(catalog, &sql).await?.into_iter().flatten().flatten().collect()
        }
        false => Vec::new(),
    };
    for shard in 0..servers.db.config.shards.len() {
        let name = servers.name(shard);
        let is_member = match kept {
            true => members.iter().any(|member| member == name),
            false => !is_empty(servers, shard).await?,
        };
        if is_member || shard == facts::FIRST || !is_wished(servers, shard) {
            continue;
        }
        watch.say(&format!("shard {name} is new: it gets its schema and the reference tables"));
        schema(servers, shard).await.map_err(|e| format!("the schema of shard {name}: {}", describe(&*e)))?;
        let started = Instant::now();
        loop {
            match join(servers, mover, shard).await {
                Ok(()) => break,
                Err(error) if started.elapsed() > patience => {
                    return Err(format!("shard {name} cannot join: {}", describe(&*error)).into());
                }
                Err(error) => {
                    tracing::info!(shard = name, why = %describe(&*error), "a new shard waits");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
        tracing::info!(shard = name, "a shard has joined");
    }
    Ok(())
}

/// Whether the catalog says which shards are members.
async fn members_are_kept(servers: &Servers) -> Result<bool, Problem> {
    let kept = servers.rows(servers.catalog(), "SELECT pg_catalog.to_regclass('pgherd.shards')").await?;
    Ok(kept.into_iter().flatten().flatten().next().is_some())
}

async fn is_empty(servers: &Servers, shard: usize) -> Result<bool, Problem> {
    let count = servers.rows(shard, EMPTY).await?;
    Ok(count.into_iter().flatten().flatten().next().as_deref() == Some("0"))
}

/// Nothing of the application's is there.
const EMPTY: &str = "
SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgherd') AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

async fn schema(servers: &Servers, shard: usize) -> Result<(), Problem> {
    // Somebody has made it: whether it is like the others' is looked at before anything moves.
    if !is_empty(servers, shard).await? || is_empty(servers, facts::FIRST).await? {
        return Ok(());
    }
    let target = servers.lend(shard).await?;
    let text = dump(servers).await?;
    // pg_dump guards its text against psql's own commands.
    let lines =
        text.lines().filter(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "));
    let sql: String = lines.flat_map(|line| [line, "\n"]).collect();
    // One simple query is one transaction: all of it, or nothing. What it sets is this connection's.
    target.rows_within(LONG, &sql).await?;
    Ok(())
}

/// The schema of the first shard, as pg_dump prints it.
async fn dump(servers: &Servers) -> Result<String, Problem> {
    let first = servers.db.config.shards.get(facts::FIRST).ok_or("there is no shard")?;
    let role = servers.db.config.control.as_ref().ok_or("no control role is configured")?;
    let address = &first.primary;
    let program = Binaries::find().map_or_else(|_| "pg_dump".into(), |found| found.program("pg_dump"));
    let mut command = tokio::process::Command::new(program);
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(variable);
        }
    }
    let security = &address.security;
    let mode = match security.mode {
        SslMode::Disable => "disable",
        SslMode::Allow => "allow",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    };
    command.env("LC_ALL", "C.UTF-8").env("PGSSLMODE", mode);
    if let Some(root) = &security.root {
        command.env("PGSSLROOTCERT", root);
    }
    if let Some((certificate, key)) = &security.identity {
        command.env("PGSSLCERT", certificate).env("PGSSLKEY", key);
    }
    if let Some(password) = servers.password() {
        command.env("PGPASSWORD", password);
    }
    command
        .args([
            "--schema-only",
            "--no-publications",
            "--no-subscriptions",
            "--no-tablespaces",
            "--exclude-schema=pgherd",
        ])
        .args(["--no-password", "--host", &address.host, "--port", &address.port.to_string()])
        .args(["--username", &role.user, "--dbname", &address.dbname])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.map_err(|e| {
        format!(
            "pg_dump cannot be run ({e}): install PostgreSQL's client programs here, or make the schema by hand: pg_dump --schema-only --exclude-schema=pgherd of {}, into the new shard",
            first.name
        )
    })?;
    if !output.status.success() {
        return Err(format!("pg_dump: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    if output.stdout.len() > SCHEMA_BYTES_MAX {
        return Err("the schema is too large".into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What is done with everything on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Join,
    Leave,
}

/// With everything on hold: copies of the reference tables, sequences, and the membership.
async fn join(servers: &Servers, mover: &Mover, shard: usize) -> Result<(), Problem> {
    all_held(servers, mover, shard, With::Join).await
}

/// Shards without a weight that own nothing any more are no members from here on, and may be left out of the configuration. What
/// cannot be done now is said in the log; the next `apply` tries again.
pub async fn leaving_shards(servers: &Servers, mover: &Mover) {
    for (at, shard) in servers.db.config.shards.iter().enumerate() {
        let single = TablePlacement::Single { shard: at };
        let has_tables = servers.db.config.tables.iter().any(|table| table.placement == single);
        if shard.weight > 0 || at == facts::FIRST || at == servers.catalog() || has_tables {
            continue;
        }
        let left = match owns_nothing(servers, at).await {
            Ok(true) => all_held(servers, mover, at, With::Leave).await,
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        match left {
            Ok(()) => {
                tracing::info!(shard = %shard.name, "a shard has left: it may be taken out of the configuration")
            }
            Err(e) => {
                tracing::warn!(shard = %shard.name, why = %describe(&*e), "an empty shard cannot leave yet")
            }
        }
    }
}

/// A member that no row is looked for on.
async fn owns_nothing(servers: &Servers, shard: usize) -> Result<bool, Problem> {
    if !members_are_kept(servers).await? {
        return Ok(false);
    }
    let (database, name) = (literal(&servers.db.name), literal(servers.name(shard)));
    let named = ["placement", "parts", "directory"].map(|table| {
        format!("AND NOT EXISTS (SELECT FROM pgherd.{table} WHERE database = {database} AND shard = {name})")
    });
    let sql = format!(
        "SELECT 1 FROM pgherd.shards WHERE database = {database} AND shard = {name} {}",
        named.join(" ")
    );
    Ok(!servers.rows(servers.catalog(), &sql).await?.is_empty())
}

async fn all_held(servers: &Servers, mover: &Mover, shard: usize, with: With) -> Result<(), Problem> {
    let catalog = servers.lend(servers.catalog()).await?;
    let (first, name) = (servers.name(facts::FIRST), servers.name(shard));
    let sql = format!(
        "INSERT INTO pgherd.moves (database, distribution, unit, source, target) VALUES ({}, '', '{{\"all\":true}}', {}, {}) RETURNING id",
        literal(&servers.db.name),
        literal(first),
        literal(name)
    );
    let id: i64 = catalog.one(&sql).await?.ok_or("a move has no number")?.parse()?;
    mover.hold(id, "", "{\"all\":true}", first, name, "").await?;
    let outcome = match mover.acknowledged(id, DRAIN).await {
        Ok(None) => held(servers, &catalog, id, shard, with).await,
        Ok(Some(waiting)) => Err(waiting.into()),
        Err(error) => Err(error),
    };
    let note = match &outcome {
        Ok(()) => String::new(),
        Err(error) => {
            let _ = catalog.run("ROLLBACK").await;
            format!(
                "UPDATE pgherd.moves SET state = 'cancelled', note = {}, ended = pg_catalog.clock_timestamp() WHERE id = {id};",
                literal(&describe(&**error))
            )
        }
    };
    mover.release(id, &note).await?;
    outcome
}

async fn held(
    servers: &Servers,
    catalog: &Connection,
    id: i64,
    shard: usize,
    with: With,
) -> Result<(), Problem> {
    let database = literal(&servers.db.name);
    let lock = format!(
        "BEGIN; SELECT 1 FROM pgherd.holds WHERE move = {id} AND until > pg_catalog.clock_timestamp() FOR UPDATE"
    );
    if catalog.one(&lock).await?.is_none() {
        return Err("the hold has expired".into());
    }
    if with == With::Leave {
        let sql = format!(
            "DELETE FROM pgherd.shards WHERE database = {database} AND shard = {};
             UPDATE pgherd.moves SET state = 'done', ended = pg_catalog.clock_timestamp() WHERE id = {id}; COMMIT;",
            literal(servers.name(shard))
        );
        catalog.run(&sql).await?;
        return Ok(());
    }
    let source = servers.lend(facts::FIRST).await?;
    let target = servers.lend(shard).await?;
    source.run("BEGIN; SET LOCAL lock_timeout = '1s'").await?;
    target.run("BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = '1s'").await?;
    for table in tables::references(&servers.db, &source).await? {
        source.run(&format!("LOCK TABLE {} IN SHARE MODE", table.name)).await?;
        target.run(&format!("DELETE FROM {}", table.name)).await?;
        let take =
            format!("COPY (SELECT {} FROM {}) TO STDOUT ({})", table.columns, table.name, table.format());
        stream(&source, &target, &table, &take).await?;
    }
    let positions = "SELECT pg_catalog.format('SELECT pg_catalog.setval(%L, %s);', pg_catalog.quote_ident(schemaname) || '.' || pg_catalog.quote_ident(sequencename), last_value)
         FROM pg_catalog.pg_sequences WHERE last_value IS NOT NULL AND schemaname <> 'pgherd'";
    let set: Vec<String> = source.rows(positions).await?.into_iter().flatten().flatten().collect();
    if !set.is_empty() {
        target.run(&set.concat()).await?;
    }
    target.run("COMMIT").await?;
    source.run("COMMIT").await?;
    let member = match members_are_kept(servers).await? {
        true => format!(
            "INSERT INTO pgherd.shards (database, shard) VALUES ({database}, {}) ON CONFLICT DO NOTHING;",
            literal(servers.name(shard))
        ),
        false => String::new(),
    };
    catalog
        .run(&format!(
            "{member}
             UPDATE pgherd.moves SET state = 'done', ended = pg_catalog.clock_timestamp() WHERE id = {id}; COMMIT;"
        ))
        .await?;
    servers.take_back(source);
    servers.take_back(target);
    Ok(())
}

/// It has a weight, or something of the configuration names it: an emptied shard does not join again.
fn is_wished(servers: &Servers, shard: usize) -> bool {
    let config = &servers.db.config;
    let by_method = |method: &pgherd_config::Method| match method {
        pgherd_config::Method::Hash => false,
        pgherd_config::Method::Directory(new_keys) => *new_keys == pgherd_config::NewKeys::Shard(shard),
        pgherd_config::Method::Range(ranges) => ranges.iter().any(|range| range.shard == shard),
        // Among several the weights choose.
        pgherd_config::Method::List(lists) => lists.iter().any(|list| list.shards == [shard]),
    };
    config.shards.get(shard).is_some_and(|of| of.weight > 0)
        || config.distributions.iter().any(|of| by_method(&of.by))
        || config.tables.iter().any(|table| table.placement == TablePlacement::Single { shard })
}
