//! A database as clients see it: its shards' pools, its topology, its facts' version.
//!
//! Invariant: `topology` is replaced whole; a database that needs the catalog serves nobody before the placement
//! was read from it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use pgherd_config::{PoolSettings, ResolvedSecret, resolve};
use pgherd_pool::{Gate, Limits, Pass, Pool, Target};
use pgherd_router::topology::{Facts, Placement, Table};
use pgherd_router::{ShardId, Topology};
use pgherd_wire::message::Report;
use tokio::sync::{mpsc, oneshot, watch};

use crate::session::client::Told;
use crate::session::link::LinkState;

/// The topology's version where there is nothing to know: of a plain pool always, of a sharded database before its catalog was read.
pub const PLAIN_VERSION: u64 = 0;

/// How long a statement waits for the facts that its own schema change made stale.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// What the database's control task is asked to do.
pub enum Request {
    /// Read the facts again; answered when the new topology is in force.
    Refresh(oneshot::Sender<()>),
    /// A transaction was left to the resolver.
    Resolve,
    /// All participants of this decided transaction are done: its row can go.
    Forget { shard: ShardId, gid: String },
}

pub struct Database {
    pub name: String,
    pub config: pgherd_config::Database,
    /// It has tables with a placement: statements are routed. Otherwise it is a plain pool.
    pub sharded: bool,
    topology: ArcSwap<Topology>,
    users: HashMap<String, Arc<UserPools>>,
    schema_version: AtomicU64,
    cluster: ArcSwap<String>,
    requests: mpsc::UnboundedSender<Request>,
    ready: watch::Sender<Readiness>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Why not yet, in words for the operator's log.
    Waiting(String),
}

/// One user's pools: one for each shard.
pub struct UserPools {
    pub settings: PoolSettings,
    shards: Vec<Arc<Pool<LinkState>>>,
    pub gate: Arc<Gate>,
    /// What a fresh server connection of this user reports.
    told: Mutex<Option<Arc<Told>>>,
    /// default_transaction_isolation of this user on the servers.
    default_isolation: std::sync::OnceLock<String>,
    /// Startup settings that a server has accepted, with what it reported for them.
    accepted: dashmap::DashMap<String, Arc<Told>>,
}

/// Startup settings remembered as accepted; beyond that they are checked anew.
const ACCEPTED_MAX: usize = 1_000;

impl UserPools {
    pub fn shard(&self, shard: ShardId) -> &Arc<Pool<LinkState>> {
        &self.shards[shard.0 as usize]
    }

    pub fn all(&self) -> &[Arc<Pool<LinkState>>] {
        &self.shards
    }

    /// Leave to hold servers of several shards at once.
    pub async fn enter(self: Arc<Self>) -> Result<Pass, Report> {
        self.gate.enter(self.settings.checkout_timeout).await.map_err(|e| e.report())
    }

    pub fn told(&self) -> Option<Arc<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_told(&self, told: Arc<Told>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    pub fn set_default_isolation(&self, level: String) {
        let _ = self.default_isolation.set(level);
    }

    /// `None` before the first login.
    pub fn default_isolation(&self) -> Option<&str> {
        self.default_isolation.get().map(String::as_str)
    }

    pub fn accepted(&self, settings: &str) -> Option<Arc<Told>> {
        self.accepted.get(settings).map(|t| t.clone())
    }

    pub fn accept(&self, settings: String, told: Arc<Told>) {
        if self.accepted.len() >= ACCEPTED_MAX {
            self.accepted.clear();
        }
        self.accepted.insert(settings, told);
    }
}

impl Database {
    /// # Errors
    /// A secret that cannot be resolved: the text names whose.
    pub fn new(
        config: &pgherd_config::Database,
        users: &[pgherd_config::User],
        workers: usize,
        requests: mpsc::UnboundedSender<Request>,
    ) -> Result<Self, String> {
        let sharded = config.shards.len() > 1 || !config.tables.is_empty();
        let mut pools = HashMap::new();
        for user in users {
            let password = match &user.password {
                None => None,
                Some(secret) => match resolve(&format!("user \"{}\"", user.name), secret)? {
                    ResolvedSecret::Plain(password) => Some(password),
                    // Servers must trust pgherd then.
                    ResolvedSecret::ScramVerifier(_) => None,
                },
            };
            let mut settings = config.pool.clone();
            if let Some(size) = user.pool.size {
                settings.size = size;
            }
            if let Some(timeout) = user.pool.checkout_timeout {
                settings.checkout_timeout = timeout;
            }
            if let Some(cache) = user.pool.cache_unnamed {
                settings.cache_unnamed = cache;
            }
            let shards = config.shards.iter().map(|shard| {
                let target = Target {
                    host: shard.primary.host.clone(),
                    port: shard.primary.port,
                    dbname: shard.primary.dbname.clone(),
                    user: user.name.clone(),
                    password: password.clone(),
                    // Not this: "pgherd". It is what a client without a name of its own would see.
                    application_name: String::new(),
                };
                let limits = Limits {
                    size: settings.size as usize,
                    checkout_timeout: settings.checkout_timeout,
                    connect_timeout: settings.connect_timeout,
                    idle_timeout: settings.idle_timeout,
                    waiting_max: settings.waiting_max,
                };
                Pool::new(target, limits, workers)
            });
            let shards = shards.collect();
            let gate = Gate::new(settings.size as usize, settings.waiting_max);
            let user_pools = UserPools {
                settings,
                shards,
                gate,
                told: Mutex::default(),
                default_isolation: std::sync::OnceLock::new(),
                accepted: dashmap::DashMap::new(),
            };
            pools.insert(user.name.clone(), Arc::new(user_pools));
        }
        let topology = Topology {
            database: config.name.clone(),
            shards: config.shards.iter().map(|s| s.name.clone()).collect(),
            distributions: Vec::new(),
            tables: Vec::new(),
            facts: Facts::default(),
            epoch: 0,
            version: PLAIN_VERSION,
        };
        let ready = if sharded {
            Readiness::Waiting("the catalog has not been read yet".into())
        } else {
            Readiness::Ready
        };
        Ok(Self {
            name: config.name.clone(),
            sharded,
            topology: ArcSwap::from_pointee(topology),
            users: pools,
            schema_version: AtomicU64::new(0),
            cluster: ArcSwap::from_pointee(String::new()),
            requests,
            ready: watch::Sender::new(ready),
            config: config.clone(),
        })
    }

    pub fn user(&self, name: &str) -> Option<&Arc<UserPools>> {
        self.users.get(name)
    }

    pub fn users(&self) -> impl Iterator<Item = &Arc<UserPools>> {
        self.users.values()
    }

    pub fn shard_name(&self, shard: ShardId) -> &str {
        self.config.shards.get(shard.0 as usize).map_or("?", |s| &s.name)
    }

    pub fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    pub fn set_topology(&self, topology: Topology) {
        self.topology.store(Arc::new(topology));
        self.schema_changed();
    }

    /// Whether a text has the name of a table that the first shard does not have. (Of something else, perhaps: nobody looks.)
    pub fn names_elsewhere(&self, sql: &str) -> bool {
        self.config.tables.iter().any(|table| {
            let elsewhere =
                matches!(table.placement, pgherd_config::TablePlacement::Single { shard } if shard > 0);
            elsewhere && sql.to_ascii_lowercase().contains(&table.name.to_ascii_lowercase())
        })
    }

    /// The configured tables as the router wants them.
    pub fn tables(&self) -> Vec<Table> {
        let tables = self.config.tables.iter().map(|t| Table {
            schema: t.schema.clone(),
            name: t.name.clone(),
            placement: match &t.placement {
                pgherd_config::TablePlacement::Sharded { distribution, key } => {
                    Placement::Sharded { distribution: *distribution, key: key.clone() }
                }
                pgherd_config::TablePlacement::Reference => Placement::Reference,
                pgherd_config::TablePlacement::Single { shard } => Placement::Single(ShardId(*shard as u16)),
            },
        });
        tables.collect()
    }

    /// Counts up with every schema change that went through here: prepared statements of before are prepared again.
    pub fn schema_version(&self) -> u64 {
        self.schema_version.load(Ordering::Acquire)
    }

    pub fn schema_changed(&self) {
        self.schema_version.fetch_add(1, Ordering::AcqRel);
    }

    pub fn cluster(&self) -> Arc<String> {
        self.cluster.load_full()
    }

    pub fn set_cluster(&self, id: String) {
        self.cluster.store(Arc::new(id));
    }

    pub fn set_readiness(&self, readiness: Readiness) {
        self.ready.send_if_modified(|old| {
            let changed = *old != readiness;
            *old = readiness;
            changed
        });
    }

    /// Waits until the database can be served, for a while.
    ///
    /// # Errors
    /// 57P03, as a server that is starting up says it.
    pub async fn wait_ready(&self, patience: Duration) -> Result<(), Report> {
        let mut ready = self.ready.subscribe();
        let wait = ready.wait_for(|r| *r == Readiness::Ready);
        if matches!(tokio::time::timeout(patience, wait).await, Ok(Ok(_))) {
            return Ok(());
        }
        Err(Report::fatal("57P03", "the database is not ready yet")
            .detail("pgherd has not been able to read the placement of its rows from the catalog shard.")
            .hint("Try again; the log says what stands in the way."))
    }

    /// Waits until facts read after this call are in force.
    pub async fn refresh(&self) {
        if !self.sharded {
            return;
        }
        let (done, wait) = oneshot::channel();
        if self.requests.send(Request::Refresh(done)).is_ok() {
            let _ = tokio::time::timeout(REFRESH_TIMEOUT, wait).await;
        }
    }

    pub fn resolve_soon(&self) {
        let _ = self.requests.send(Request::Resolve);
    }

    pub fn forget_decision(&self, shard: ShardId, gid: String) {
        let _ = self.requests.send(Request::Forget { shard, gid });
    }
}
