//! Another configuration takes the place of the running one, and no client is lost by it.
//!
//! Invariant: everything that can fail is done before anything is changed. What is in force changes in one step, for
//! whoever comes from then on; a session follows when it holds no server.
//!
//! Not here: what is bound at the start (addresses, workers). A change of those waits for the next start.
//!
//! Start reading at [`reload`].

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgherd_config::Config;
use pgherd_pool::{Connector, Limits};
use tokio::sync::mpsc;

use crate::auth::Door;
use crate::control;
use crate::database::{Database, Readiness, UserPools, make_pools};
use crate::serve::{Live, Shared};

/// How long a database whose shards or tables have changed may take to be read from its catalog.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What of a database only a new one can have: all but sizes and limits.
fn same_shape(a: &pgherd_config::Database, b: &pgherd_config::Database) -> bool {
    a.shards == b.shards
        && a.catalog == b.catalog
        && a.control == b.control
        && a.distributions == b.distributions
        && a.tables == b.tables
        && a.login == b.login
        && a.connect_query == b.connect_query
        && a.startup == b.startup
}

/// Reads the file again and puts it in force.
///
/// # Errors
/// Why nothing has changed.
pub async fn reload(shared: &Arc<Shared>) -> Result<(), String> {
    // One at a time: two files read at once could be put in force in the wrong order.
    let _alone = shared.reloading.lock().await;
    crate::notify::reloading();
    let outcome = match load(&shared.file) {
        Ok(config) => put_in_force(shared, config).await,
        Err(why) => Err(why),
    };
    crate::notify::ready();
    outcome
}

fn load(file: &Path) -> Result<Config, String> {
    pgherd_config::load(file).map_err(|problems| problems.report("the running configuration is unchanged"))
}

/// A database of the new configuration.
enum Made {
    /// The same one, with other pools perhaps.
    Kept(Arc<Database>, HashMap<String, Arc<UserPools>>),
    New(Arc<Database>),
}

/// Puts a configuration in force. The caller holds `reloading`.
///
/// # Errors
/// Why nothing has changed.
pub async fn put_in_force(shared: &Arc<Shared>, mut config: Config) -> Result<(), String> {
    let before = shared.live();
    if let Some(fallback) = &config.fallback {
        let made = before.config.databases.iter().filter(|database| database.auto);
        let kept = made.filter(|made| config.databases.iter().all(|named| named.name != made.name));
        let kept: Vec<_> = kept.map(|made| fallback.named(&made.name)).collect();
        config.databases.extend(kept);
    }
    let workers = before.config.server.workers;
    let door = Arc::new(Door::new(&config)?);
    for shard in config.databases.iter().flat_map(|database| &database.shards) {
        Connector::new(&shard.primary.security).map_err(|why| format!("shard \"{}\": {why}", shard.name))?;
    }
    let mut made = Vec::new();
    let mut new = Vec::new();
    for wanted in &config.databases {
        match before.databases.get(&wanted.name) {
            Some(old) if same_shape(&old.config, wanted) => {
                let pools =
                    make_pools(wanted, &config.users, workers, &old.connectors, &old.users(), &shared.caps)?;
                made.push(Made::Kept(old.clone(), pools));
            }
            old => {
                let (requests, inbox) = mpsc::unbounded_channel();
                let old = old.map(|old| &**old);
                let database = Database::new(wanted, &config.users, workers, requests, old, &shared.caps)?;
                let database = Arc::new(database);
                shared.control.spawn(control::run(database.clone(), inbox));
                new.push(database.clone());
                made.push(Made::New(database));
            }
        }
    }
    let given_up = |why: String| {
        new.iter().for_each(|database| database.close());
        why
    };
    for database in &new {
        if database.wait_ready(READY_WITHIN).await.is_err() {
            let why = match database.readiness() {
                Readiness::Waiting(why) => why,
                Readiness::Ready => "it was ready too late".into(),
            };
            return Err(given_up(format!("database \"{}\" cannot be served: {why}", database.name)));
        }
    }

    // From here on nothing fails.
    let mut databases = HashMap::new();
    for made in made {
        let database = match made {
            Made::Kept(database, pools) => {
                replace_users(&database, &database.users(), pools);
                database
            }
            Made::New(database) => {
                if let Some(old) = before.databases.get(&database.name) {
                    database.pause(old.is_paused());
                    database.disable(old.is_disabled());
                    give_way(&database, &old.users());
                    old.close();
                }
                database
            }
        };
        databases.insert(database.name.clone(), database);
    }
    for (name, old) in &before.databases {
        if !databases.contains_key(name) {
            for pools in old.users().values() {
                pools.all().iter().for_each(|pool| pool.retire());
                pools.give_way(None);
            }
            old.close();
        }
    }
    let waits = waits_for_the_next_start(&before.config, &config);
    if !waits.is_empty() {
        tracing::warn!(settings = waits.join(", "), "a change of these takes effect at the next start");
    }
    // Sockets are what they are.
    let server = pgherd_config::Server {
        listen: before.config.server.listen.clone(),
        workers,
        http: before.config.server.http.clone(),
        ..config.server
    };
    let config = Config { server, ..config };
    for database in databases.values() {
        if let Err(why) = database.reload_certificates() {
            // It could be used a moment ago.
            tracing::error!(database = %database.name, why, "certificates were not read again");
        }
    }
    shared.caps.set_limits(&config);
    shared.set_live(Live { config, door, databases });
    if let Some(asker) = &before.door.query {
        asker.retire();
    }
    shared.follow();
    tracing::info!("the configuration was reloaded");
    Ok(())
}

/// The same database, other users or other limits.
fn replace_users(
    database: &Arc<Database>,
    before: &HashMap<String, Arc<UserPools>>,
    pools: HashMap<String, Arc<UserPools>>,
) {
    for user in pools.values() {
        for pool in user.all() {
            let limits = Limits::from(&user.settings);
            if *pool.limits() != limits {
                pool.set_limits(limits);
            }
        }
    }
    database.set_users(pools);
    database.pause(database.is_paused());
    give_way(database, before);
}

/// Sessions of these users go on with the database's pools of now.
fn give_way(database: &Arc<Database>, before: &HashMap<String, Arc<UserPools>>) {
    for (name, old) in before {
        let next = database.user(name);
        let kept: Vec<_> = next.iter().flat_map(|next| next.all()).map(Arc::as_ptr).collect();
        for pool in old.all() {
            if !kept.contains(&Arc::as_ptr(pool)) {
                pool.retire();
            }
        }
        old.give_way(next.map(|next| (database.clone(), next)));
    }
}

fn waits_for_the_next_start(before: &Config, after: &Config) -> Vec<&'static str> {
    let (before, after) = (&before.server, &after.server);
    let mut waits = Vec::new();
    if before.listen != after.listen {
        waits.push("server.listen");
    }
    if before.workers != after.workers {
        waits.push("server.workers");
    }
    if before.http != after.http {
        waits.push("server.http");
    }
    waits
}
