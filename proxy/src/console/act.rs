//! What the console does. Errors are worded as PgBouncer words them: operators' scripts read them.

use std::sync::Arc;
use std::time::Duration;

use pgherd_config::PoolMode;
use pgherd_config::pgbouncer::keys::{self, Meaning};
use pgherd_wire::message::Report;

use super::{NAMES, refusal, show};
use crate::database::Database;
use crate::roster::{Order, Why};
use crate::serve::{Live, Shared, Whom};

/// Between two looks at what a command waits for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The databases that are meant: one by name, or all.
fn meant(live: &Live, name: Option<&str>, verb: &str) -> Result<Vec<Arc<Database>>, Report> {
    match name {
        None => Ok(live.databases.values().cloned().collect()),
        Some(name) if NAMES.contains(&name) => Err(refusal(format!("cannot {verb} admin db: {name}"))),
        Some(name) => match live.databases.get(name) {
            Some(db) => Ok(vec![db.clone()]),
            None => Err(refusal(format!("no such database: {name}"))),
        },
    }
}

/// Lends no server to anybody who holds none, and returns when none is lent and none open. Clients that ask meanwhile wait.
pub async fn pause(shared: &Shared, name: Option<String>) -> Result<(), Report> {
    let live = shared.live();
    let meant = meant(&live, name.as_deref(), "pause")?;
    if name.is_none() && show::all_paused(&live) {
        return Err(refusal("already suspended/paused"));
    }
    tracing::info!(database = name.as_deref().unwrap_or("all"), "PAUSE in the console");
    meant.iter().for_each(|db| db.pause(true));
    for db in &meant {
        // Somebody else may say RESUME before it is quiet.
        while db.is_paused() {
            let pools = db.pools();
            pools.iter().for_each(|pool| pool.close_idle());
            if pools.iter().all(|pool| pool.status().open == 0) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

pub fn resume(shared: &Shared, name: Option<String>) -> Result<(), Report> {
    let live = shared.live();
    let meant = meant(&live, name.as_deref(), "resume")?;
    if !meant.iter().any(|db| db.is_paused()) {
        return Err(refusal(match name {
            Some(name) => format!("database {name} is not paused"),
            None => "pooler is not paused/suspended".into(),
        }));
    }
    tracing::info!(database = name.as_deref().unwrap_or("all"), "RESUME in the console");
    meant.iter().for_each(|db| db.pause(false));
    Ok(())
}

pub fn reconnect(shared: &Shared, name: Option<String>) -> Result<(), Report> {
    for db in meant(&shared.live(), name.as_deref(), "reconnect")? {
        db.pools().iter().for_each(|pool| pool.renew());
    }
    Ok(())
}

/// Returns when no connection is open that a RECONNECT meant.
pub async fn wait_close(shared: &Shared, name: Option<String>) -> Result<(), Report> {
    for db in meant(&shared.live(), name.as_deref(), "wait in")? {
        while db.pools().iter().any(|pool| pool.servers().iter().any(|server| server.stale)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// Its clients are sent away at once, and it is paused.
pub async fn kill(shared: &Shared, name: Option<String>) -> Result<(), Report> {
    let live = shared.live();
    let meant = meant(&live, name.as_deref(), "kill")?;
    tracing::info!(database = name.as_deref().unwrap_or("all"), "KILL in the console");
    for db in &meant {
        db.pause(true);
        shared.tell(Order::End(Why::Operator), Whom::Database(db.name.clone())).await;
        db.pools().iter().for_each(|pool| pool.renew());
    }
    Ok(())
}

pub fn disable(shared: &Shared, name: Option<String>, disabled: bool) -> Result<(), Report> {
    let Some(name) = name else { return Err(refusal("a database is required")) };
    let verb = if disabled { "disable" } else { "enable" };
    for db in meant(&shared.live(), Some(&name), verb)? {
        db.disable(disabled);
    }
    Ok(())
}

/// By number, or by the pointer that SHOW CLIENTS has: the same in another notation.
pub async fn kill_client(shared: &Shared, id: Option<String>) -> Result<(), Report> {
    let id = id.unwrap_or_default();
    let number = match id.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => id.parse(),
    };
    let Ok(number) = number else { return Err(refusal("invalid client pointer supplied")) };
    match shared.tell(Order::End(Why::Operator), Whom::Client(number)).await {
        0 => Err(refusal("client not found")),
        _ => Ok(()),
    }
}

pub async fn reload(shared: &Arc<Shared>) -> Result<(), Report> {
    let on_control = shared.clone();
    // On the thread where the control tasks of new databases run.
    let reload = shared.control.spawn(async move { crate::reload::reload(&on_control).await });
    match reload.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => {
            tracing::error!("the configuration was not reloaded\n{why}");
            Err(Report::error("F0000", "RELOAD failed, see logs for additional details").detail(why))
        }
        Err(_) => Err(Report::error("XX000", "RELOAD failed, see logs for additional details")),
    }
}

/// What SET changes otherwise, when the configuration is not PgBouncer's.
const OF_THE_SERVER: &[&str] = &[
    "admin_users",
    "autodb_idle_timeout",
    "client_login_timeout",
    "max_client_conn",
    "max_user_client_connections",
    "max_user_connections",
    "stats_users",
];

/// Whether SET changes it, when the configuration is not PgBouncer's.
pub fn changeable(key: &str) -> bool {
    FOR_POOLS.contains(&key) || OF_THE_SERVER.contains(&key)
}

/// What SET changes in every database, when the configuration is not PgBouncer's.
const FOR_POOLS: &[&str] = &[
    "client_idle_timeout",
    "default_pool_size",
    "idle_transaction_timeout",
    "max_db_client_connections",
    "max_db_connections",
    "max_prepared_statements",
    "min_pool_size",
    "pool_mode",
    "query_timeout",
    "query_wait_timeout",
    "reserve_pool_size",
    "reserve_pool_timeout",
    "server_connect_timeout",
    "server_idle_timeout",
    "server_lifetime",
    "transaction_timeout",
];

/// Until the next RELOAD. `Some`: why it changes nothing.
pub async fn set(shared: &Arc<Shared>, key: &str, value: &str) -> Result<Option<&'static str>, Report> {
    let _alone = shared.reloading.lock().await;
    let live = shared.live();
    let failed = || refusal("SET failed");
    let known = keys::find(key);
    // Not here: verifiers are made of passwords, and this thread has clients to serve.
    let in_force = async |config| {
        let on_control = shared.clone();
        let done =
            shared.control.spawn(async move { crate::reload::put_in_force(&on_control, config).await });
        done.await.unwrap_or_else(|e| Err(e.to_string())).map_err(|why| failed().detail(why))
    };
    match known.map(|key| key.meaning) {
        Some(Meaning::NoEffect(why)) => return Ok(Some(why)),
        Some(Meaning::AtStart) => return Err(failed().detail("It is read when pgherd starts.")),
        Some(Meaning::OnlyOff) if known.is_some_and(|key| key.default == value) => return Ok(None),
        Some(Meaning::OnlyOff) => return Err(failed().detail("pgherd does not have it.")),
        Some(Meaning::Honoured) | None => {}
    }
    if let (Some(ini), Some(_)) = (&live.config.ini, known) {
        // As if the file said so.
        let config =
            ini.with(key, value).map_err(|why| failed().detail(why.lines().next().unwrap_or_default()))?;
        return in_force(config).await.map(|()| None);
    }
    let mut config = live.config.clone();
    let seconds = || -> Result<Duration, Report> {
        let seconds: f64 = value.parse().map_err(|_| failed())?;
        Duration::try_from_secs_f64(seconds).map_err(|_| failed())
    };
    let number = || value.parse::<u32>().map_err(|_| failed());
    let names =
        || value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    match key {
        "admin_users" => config.server.admins = names(),
        "stats_users" => config.server.stats_users = names(),
        "max_client_conn" => config.server.max_clients = number()?.max(1) as usize,
        "client_login_timeout" => config.server.login_timeout = seconds()?,
        "autodb_idle_timeout" => config.server.fallback_idle_timeout = seconds()?,
        "max_user_client_connections" => {
            config.server.max_clients_per_user = number()? as usize;
            config.users.iter_mut().for_each(|user| user.max_clients = config.server.max_clients_per_user);
        }
        "max_user_connections" => {
            let limit = number()? as usize;
            if config.databases.iter().any(|database| (1..database.shards.len()).contains(&limit)) {
                return Err(failed().detail("A database has more shards."));
            }
            config.server.max_connections_per_user = limit;
            config.users.iter_mut().for_each(|user| user.max_connections = limit);
        }
        _ if !FOR_POOLS.contains(&key) => {
            let why = "It is changed in the configuration, and by RELOAD.";
            return Err(if known.is_some() { failed().detail(why) } else { failed() });
        }
        _ => {
            for database in config.databases.iter_mut().chain(&mut config.fallback) {
                let pool = &mut database.pool;
                match key {
                    "pool_mode" => {
                        pool.mode = match value {
                            "session" => PoolMode::Session,
                            "transaction" => PoolMode::Transaction,
                            "statement" => PoolMode::Statement,
                            _ => return Err(failed()),
                        }
                    }
                    "max_db_connections" => database.max_connections = number()? as usize,
                    "max_db_client_connections" => database.max_clients = number()? as usize,
                    "default_pool_size" => pool.size = number()?.max(1),
                    "min_pool_size" => pool.min_size = number()?,
                    "reserve_pool_size" => pool.reserve = number()?,
                    "max_prepared_statements" => pool.statements_max = number()?.max(1) as usize,
                    "reserve_pool_timeout" => pool.reserve_timeout = seconds()?,
                    "query_wait_timeout" => pool.checkout_timeout = seconds()?,
                    "server_connect_timeout" => pool.connect_timeout = seconds()?,
                    "server_idle_timeout" => pool.idle_timeout = seconds()?,
                    "server_lifetime" => pool.lifetime = seconds()?,
                    "query_timeout" => pool.query_timeout = seconds()?,
                    "transaction_timeout" => pool.transaction_timeout = seconds()?,
                    "idle_transaction_timeout" => pool.idle_transaction_timeout = seconds()?,
                    "client_idle_timeout" => pool.client_idle_timeout = seconds()?,
                    _ => return Err(failed()),
                }
            }
        }
    }
    in_force(config).await.map(|()| None)
}
