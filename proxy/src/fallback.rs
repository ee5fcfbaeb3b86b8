//! Databases that are made when a client names them: `[databases."*"]`, PgBouncer's "autodb".
//!
//! Invariant: a database is made only for a client that has proven who it is, and forgotten only when nobody is connected to it.
//! Whoever has one that was forgotten meanwhile is served by it to the end.
//!
//! Limits: [`MADE_MAX`] at once. One that nobody could log in to goes after [`UNUSED_FOR`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgherd_wire::message::Report;
use tokio::sync::mpsc;

use crate::console;
use crate::control;
use crate::database::Database;
use crate::serve::{Live, Shared};

const MADE_MAX: usize = 1_000;

/// A name that no server has.
const UNUSED_FOR: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// PostgreSQL's longest name; it would cut a longer one.
const NAME_BYTES_MAX: usize = 63;

/// The database of this name, made now. `None`: there is nothing to make it of.
///
/// # Errors
/// 53300: there are too many.
pub async fn make(shared: &Arc<Shared>, name: &str) -> Result<Option<Arc<Database>>, Report> {
    let _alone = shared.reloading.lock().await;
    let live = shared.live();
    // Somebody else wanted it as well.
    if let Some(made) = live.databases.get(name) {
        return Ok(Some(made.clone()));
    }
    let Some(fallback) = &live.config.fallback else { return Ok(None) };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name == pgherd_config::ANY_DATABASE {
        return Ok(None);
    }
    if live.config.databases.iter().filter(|database| database.auto).count() >= MADE_MAX {
        return Err(Report::fatal("53300", "too many databases are in use").detail(
            "They are made as clients name them, and forgotten when they are not used for a while.",
        ));
    }
    let config = fallback.named(name);
    let (requests, inbox) = mpsc::unbounded_channel();
    let workers = live.config.server.workers;
    let made = Database::new(&config, &live.config.users, workers, requests, None, &shared.caps);
    let made = Arc::new(made.map_err(|why| {
        tracing::error!(database = name, why, "a database cannot be made of \"*\"");
        Report::fatal("XX000", "the database cannot be served")
    })?);
    if console::all_paused(&live) {
        made.pause(true);
    }
    shared.control.spawn(control::run(made.clone(), inbox));
    tracing::info!(database = name, "a client has named a database that is made of \"*\"");
    let mut config_now = live.config.clone();
    config_now.databases.push(config);
    let mut databases = live.databases.clone();
    databases.insert(name.to_owned(), made.clone());
    shared.set_live(Live { config: config_now, door: live.door.clone(), databases });
    Ok(Some(made))
}

/// Forgets what nobody uses any more, for as long as pgherd runs.
pub async fn forget_unused(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut unused: HashMap<String, Instant> = HashMap::new();
    loop {
        tick.tick().await;
        if shared.live().config.databases.iter().all(|database| !database.auto) {
            unused.clear();
            continue;
        }
        let _alone = shared.reloading.lock().await;
        let live = shared.live();
        let limit = live.config.server.fallback_idle_timeout;
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut idle = HashMap::new();
        for config in live.config.databases.iter().filter(|database| database.auto) {
            let Some(db) = live.databases.get(&config.name) else { continue };
            let clients = |db: &Database| -> usize {
                db.users().values().map(|user| user.stats.clients.load(Ordering::Relaxed)).sum()
            };
            if clients(db) > 0 {
                continue;
            }
            let since = *unused.get(&config.name).unwrap_or(&now);
            idle.insert(config.name.clone(), since);
            let limit = if db.sums().logins == 0 { UNUSED_FOR } else { limit };
            if !limit.is_zero() && now - since >= limit {
                gone.push(config.name.clone());
            }
        }
        unused = idle;
        if gone.is_empty() {
            continue;
        }
        let mut config = live.config.clone();
        config.databases.retain(|database| !gone.contains(&database.name));
        let mut databases = live.databases.clone();
        for name in &gone {
            unused.remove(name);
            if let Some(db) = databases.remove(name) {
                tracing::info!(database = name, "a database that was made of \"*\" is not used any more");
                // Not this: send its clients away. One may be logging in at this moment.
                db.pools().iter().for_each(|pool| pool.retire());
                db.close();
            }
        }
        shared.set_live(Live { config, door: live.door.clone(), databases });
    }
}
