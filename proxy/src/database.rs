//! A database as clients see it: its shards' pools, its topology, its facts' version.
//!
//! Invariant: `topology` is replaced whole; a database that needs the catalog serves nobody before the placement
//! was read from it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pgherd_config::{PoolSettings, resolve, resolve_plain};
use pgherd_pool::{Connector, Gate, Limits, Parameters, Pass, Pool, Secrets, SnapshotGate, Target};
use pgherd_router::topology::{Facts, Placement, Table};
use pgherd_router::value::KeyValue;
use pgherd_router::{ShardId, Topology};
use pgherd_wire::message::Report;
use pgherd_wire::scram;
use tokio::sync::{mpsc, oneshot, watch};

use crate::auth::Account;
use crate::caps::Caps;
use crate::deadlock::Holders;
use crate::listening::Hub;
use crate::session::client::Told;
use crate::session::link::LinkState;
use crate::session::settings::Settings;
use crate::stats::{Stats, Sums};

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
    /// Keys may have been entered in the directory.
    ReadDirectory,
    /// Look these keys up in the catalog's directory, and enter those that are new if that is what the configuration says;
    /// answered when that is done, or cannot be.
    Place { distribution: String, keys: Vec<KeyValue<'static>>, done: oneshot::Sender<()> },
}

pub struct Database {
    pub name: String,
    pub config: pgherd_config::Database,
    /// It has tables with a placement: statements are routed. Otherwise it is a plain pool.
    pub sharded: bool,
    topology: ArcSwap<Topology>,
    users: ArcSwap<HashMap<String, Arc<UserPools>>>,
    schema_version: AtomicU64,
    cluster: ArcSwap<String>,
    requests: mpsc::UnboundedSender<Request>,
    /// LISTEN for its clients.
    pub hub: Arc<Hub>,
    /// Between statements that read several shards and transactions that commit on several. The same across reloads.
    pub moment: Arc<SnapshotGate>,
    /// Transactions that are on several shards.
    pub holders: Arc<Holders>,
    ready: watch::Sender<Readiness>,
    /// TLS towards each shard.
    pub connectors: Vec<Arc<Connector>>,
    workers: usize,
    caps: Arc<Caps>,
    /// For those who only look; `resume` is for those who wait.
    paused: AtomicBool,
    resume: watch::Sender<bool>,
    disabled: AtomicBool,
    /// Another one has its name, or none: its control task ends.
    closed: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Why not yet, in words for the operator's log.
    Waiting(String),
}

/// Startup settings that a server has accepted, and what a client that gives them is told.
#[derive(Clone)]
pub struct Accepted {
    pub settings: Arc<Settings>,
    pub told: Arc<Told>,
    /// The same as messages, see [`crate::handshake::welcome`].
    pub welcome: Arc<[u8]>,
}

/// One user's pools: one for each shard.
pub struct UserPools {
    pub user: String,
    pub database: String,
    pub settings: PoolSettings,
    pub stats: Arc<Stats>,
    shards: Vec<Arc<Pool<LinkState>>>,
    pub gate: Arc<Gate>,
    /// What a fresh server connection of this user reports.
    told: Mutex<Option<Arc<Told>>>,
    /// When connections were given up because of other defaults.
    renewed: Mutex<Option<Instant>>,
    /// default_transaction_isolation of this user on the servers.
    default_isolation: OnceLock<String>,
    /// Startup settings that a server has accepted, with what it reported for them; by [`Settings::key`].
    accepted: dashmap::DashMap<Vec<u8>, Accepted>,
    /// For a user that a server was asked for: what it said.
    pub guest: Option<Arc<Account>>,
    /// Set when the configuration changed: sessions go on with these.
    successor: OnceLock<Successor>,
}

/// What takes the place of a user's pools. `None`: nothing, the user or the database is gone.
pub type Successor = Option<(Arc<Database>, Arc<UserPools>)>;

/// Defaults that change what a value's text means, or what a statement does.
const READ_BY: &[&str] = &[
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "client_encoding",
    "default_transaction_read_only",
    "search_path",
    "standard_conforming_strings",
];

/// Between two times that connections are given up because of other defaults.
const RENEW_AFTER: Duration = Duration::from_secs(10);

/// Startup settings remembered as accepted; beyond that they are checked anew.
const ACCEPTED_MAX: usize = 1_000;

/// Users of one database that are not in the configuration.
const GUESTS_MAX: usize = 10_000;

impl UserPools {
    pub fn shard(&self, shard: ShardId) -> &Arc<Pool<LinkState>> {
        &self.shards[shard.0 as usize]
    }

    pub fn all(&self) -> &[Arc<Pool<LinkState>>] {
        &self.shards
    }

    /// `Some`: these pools are of a configuration that is not in force any more.
    #[inline]
    pub fn successor(&self) -> Option<&Successor> {
        self.successor.get()
    }

    pub fn give_way(&self, successor: Successor) {
        let _ = self.successor.set(successor);
    }

    /// Leave to hold servers of several shards at once.
    pub async fn enter(self: Arc<Self>) -> Result<Pass, Report> {
        self.gate.enter(self.settings.checkout_timeout).await.map_err(|e| e.report())
    }

    /// What a client of this user has proven logs in to its servers.
    pub fn prove(&self, keys: scram::Keys) {
        // One for all shards.
        if let Some(pool) = self.shards.first() {
            pool.target().secrets.prove(keys);
        }
    }

    pub fn told(&self) -> Option<Arc<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_told(&self, told: Arc<Told>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// What new clients are told, as a new connection has it. When that changes how values are read and written, connections
    /// with the old defaults are given up: the same client must not meet both.
    pub fn retell(&self, parameters: &Parameters) {
        let Some(told) = self.told() else { return };
        let differs = |(name, value): &(&str, &str)| {
            told.iter().find(|(known, _)| **known == **name).is_none_or(|(_, known)| **known != **value)
        };
        let changed: Vec<&str> = parameters.iter().filter(differs).map(|(name, _)| name).collect();
        if changed.is_empty() {
            return;
        }
        tracing::info!(
            database = %self.database,
            user = %self.user,
            parameters = changed.join(", "),
            "a server has other defaults than before"
        );
        self.set_told(Arc::new(parameters.iter().map(|(n, v)| (n.into(), v.into())).collect()));
        self.accepted.clear();
        // Behind one name there may be servers that differ for good: then this would go on and on.
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = renewed.is_some_and(|last| last.elapsed() < RENEW_AFTER);
        if !soon && changed.iter().any(|name| READ_BY.contains(name)) {
            *renewed = Some(Instant::now());
            self.shards.iter().for_each(|pool| pool.renew());
        }
    }

    pub fn set_default_isolation(&self, level: String) {
        let _ = self.default_isolation.set(level);
    }

    /// `None` before the first login.
    pub fn default_isolation(&self) -> Option<&str> {
        self.default_isolation.get().map(String::as_str)
    }

    pub fn accepted(&self, settings: &[u8]) -> Option<Accepted> {
        self.accepted.get(settings).map(|accepted| accepted.clone())
    }

    pub fn accept(&self, settings: Vec<u8>, accepted: Accepted) {
        if self.accepted.len() >= ACCEPTED_MAX {
            self.accepted.clear();
        }
        self.accepted.insert(settings, accepted);
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
        before: Option<&Database>,
        caps: &Arc<Caps>,
    ) -> Result<Self, String> {
        let sharded = config.shards.len() > 1 || !config.tables.is_empty();
        let connectors = config.shards.iter().map(|shard| {
            let made = Connector::new(&shard.primary.security);
            made.map_err(|why| format!("shard \"{}\" of database \"{}\": {why}", shard.name, config.name))
        });
        let connectors = connectors.collect::<Result<Vec<_>, _>>()?;
        let known = before.map(Database::users).unwrap_or_default();
        let pools = make_pools(config, users, workers, &connectors, &known, caps)?;
        let moment = before.map(|before| before.moment.clone()).unwrap_or_default();
        if sharded && before.is_none() {
            // Of whatever a pgherd before this one left.
            config.shards.iter().for_each(|shard| moment.unsettle(&shard.name));
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
            users: ArcSwap::from_pointee(pools),
            schema_version: AtomicU64::new(0),
            cluster: ArcSwap::from_pointee(String::new()),
            requests,
            hub: Hub::new(),
            moment,
            holders: before.map(|before| before.holders.clone()).unwrap_or_default(),
            ready: watch::Sender::new(ready),
            connectors,
            workers,
            caps: caps.clone(),
            paused: AtomicBool::new(false),
            resume: watch::Sender::new(false),
            disabled: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            config: config.clone(),
        })
    }

    pub fn user(&self, name: &str) -> Option<Arc<UserPools>> {
        self.users.load().get(name).cloned()
    }

    pub fn users(&self) -> Arc<HashMap<String, Arc<UserPools>>> {
        self.users.load_full()
    }

    pub fn set_users(&self, users: HashMap<String, Arc<UserPools>>) {
        self.users.store(Arc::new(users));
    }

    /// The pools of a user that a server was asked for; made at its first login, and anew when its secret has changed.
    ///
    /// # Errors
    /// 53300: too many of them.
    pub fn guest(
        self: &Arc<Self>,
        config: &pgherd_config::Database,
        name: &str,
        account: &Arc<Account>,
    ) -> Result<Arc<UserPools>, Report> {
        if let Some(known) = self.user(name)
            && known.guest.as_ref().is_some_and(|guest| guest == account)
        {
            return Ok(known);
        }
        let mut users = HashMap::clone(&self.users());
        if users.values().filter(|user| user.guest.is_some()).count() >= GUESTS_MAX {
            // Those without a client go.
            users.retain(|_, user| user.guest.is_none() || user.stats.clients.load(Ordering::Relaxed) > 0);
            if users.len() >= GUESTS_MAX {
                return Err(Report::fatal("53300", "too many users are connected to this database"));
            }
        }
        let before = users.get(name).cloned();
        let login = login_of(config).map_err(|why| {
            tracing::error!(database = %self.name, why, "the role of a database has no password");
            Report::fatal("08001", "the database's role cannot log in to its server")
        })?;
        let made = Arc::new(pools_of(Making {
            config,
            name,
            settings: config.pool.clone(),
            secrets: account.server_secrets(),
            login,
            workers: self.workers,
            connectors: &self.connectors,
            before: before.as_ref(),
            guest: Some(account.clone()),
            caps: &self.caps,
            max_connections: None,
        }));
        if self.is_paused() {
            made.all().iter().for_each(|pool| pool.hold(true));
        }
        users.insert(name.to_owned(), made.clone());
        self.users.rcu(|now| {
            // Somebody else's guest of the same moment must not get lost.
            let mut next = users.clone();
            for (other, pools) in now.iter() {
                if !next.contains_key(other) && pools.stats.clients.load(Ordering::Relaxed) > 0 {
                    next.insert(other.clone(), pools.clone());
                }
            }
            next
        });
        if let Some(before) = before {
            for pool in before.all() {
                if !made.all().iter().any(|kept| Arc::ptr_eq(kept, pool)) {
                    pool.retire();
                }
            }
            before.give_way(Some((self.clone(), made.clone())));
        }
        Ok(made)
    }

    /// Reads the certificates for servers again.
    ///
    /// # Errors
    /// Those that cannot be used; the ones of before stay in force there.
    pub fn reload_certificates(&self) -> Result<(), String> {
        // A pool that was kept from an earlier database has the connector of that time.
        let mut connectors = self.connectors.clone();
        connectors.extend(self.pools().iter().map(|pool| pool.target().tls.clone()));
        connectors.sort_by_key(Arc::as_ptr);
        connectors.dedup_by_key(|connector| Arc::as_ptr(connector));
        connectors.iter().map(|connector| connector.reload()).fold(Ok(()), Result::and)
    }

    /// What was done on it by all its users.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.users().values().for_each(|user| sums.add(&user.stats.sum()));
        sums
    }

    /// All pools of all users.
    pub fn pools(&self) -> Vec<Arc<Pool<LinkState>>> {
        self.users().values().flat_map(|user| user.all().to_vec()).collect()
    }

    #[inline]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Paused: nobody is lent a server who holds none.
    pub fn pause(&self, paused: bool) {
        self.pools().iter().for_each(|pool| pool.hold(paused));
        self.paused.store(paused, Ordering::SeqCst);
        self.resume.send_replace(paused);
    }

    pub async fn resumed(&self) {
        let _ = self.resume.subscribe().wait_for(|paused| !paused).await;
    }

    pub fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::Relaxed)
    }

    pub fn disable(&self, disabled: bool) {
        self.disabled.store(disabled, Ordering::Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Another database takes this one's place, or none.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = self.requests.send(Request::Resolve);
    }

    pub fn readiness(&self) -> Readiness {
        self.ready.borrow().clone()
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

    /// Waits until the catalog was asked for these keys of a directory.
    pub async fn place(&self, distribution: &str, keys: Vec<KeyValue<'static>>) {
        let (done, wait) = oneshot::channel();
        let request = Request::Place { distribution: distribution.to_owned(), keys, done };
        if self.requests.send(request).is_ok() {
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

/// The pools of all users. Those of `before` that go to the same place are kept as they are, with what they have counted.
///
/// # Errors
/// A secret that cannot be resolved: the text names whose.
pub fn make_pools(
    config: &pgherd_config::Database,
    users: &[pgherd_config::User],
    workers: usize,
    connectors: &[Arc<Connector>],
    before: &HashMap<String, Arc<UserPools>>,
    caps: &Caps,
) -> Result<HashMap<String, Arc<UserPools>>, String> {
    let mut pools = HashMap::new();
    let login = login_of(config)?;
    for user in users {
        let owner = format!("user \"{}\"", user.name);
        let resolved: Result<Vec<_>, _> = user.passwords.iter().map(|s| resolve(&owner, s)).collect();
        let secrets = Account::secrets_for_servers(&resolved?);
        let made = pools_of(Making {
            config,
            name: &user.name,
            settings: user.pool.over(&config.pool),
            secrets,
            login: login.clone(),
            workers,
            connectors,
            before: before.get(&user.name),
            guest: None,
            caps,
            max_connections: Some(user.max_connections),
        });
        pools.insert(user.name.clone(), Arc::new(made));
    }
    for (name, old) in before {
        if let (Some(guest), false) = (&old.guest, pools.contains_key(name)) {
            let made = pools_of(Making {
                config,
                name,
                settings: config.pool.clone(),
                secrets: match old.shards.first().map(|pool| pool.target()) {
                    // With what it has proven since.
                    Some(target) if target.user == *name => target.secrets.clone(),
                    _ => guest.server_secrets(),
                },
                login: login.clone(),
                workers,
                connectors,
                before: Some(old),
                guest: Some(guest.clone()),
                caps,
                max_connections: None,
            });
            pools.insert(name.clone(), Arc::new(made));
        }
    }
    Ok(pools)
}

/// Who logs in to the servers in the place of all clients.
fn login_of(config: &pgherd_config::Database) -> Result<Option<(String, Secrets)>, String> {
    let Some(login) = &config.login else { return Ok(None) };
    let owner = format!("login of database \"{}\"", config.name);
    let password = login.password.as_ref().map(|secret| resolve_plain(&owner, secret)).transpose()?;
    let secrets = password.as_deref().map(Secrets::password).unwrap_or_default();
    Ok(Some((login.user.clone(), secrets)))
}

/// What one user's pools are made of.
struct Making<'a> {
    config: &'a pgherd_config::Database,
    name: &'a str,
    settings: PoolSettings,
    secrets: Secrets,
    login: Option<(String, Secrets)>,
    workers: usize,
    connectors: &'a [Arc<Connector>],
    before: Option<&'a Arc<UserPools>>,
    guest: Option<Arc<Account>>,
    caps: &'a Caps,
    /// `None`: that of users who are not in the configuration.
    max_connections: Option<usize>,
}

fn pools_of(making: Making<'_>) -> UserPools {
    let Making {
        config,
        name,
        settings,
        secrets,
        login,
        workers,
        connectors,
        before,
        guest,
        caps,
        max_connections,
    } = making;
    let bounds = caps.bounds(config, name, max_connections, settings.waiting_max);
    let shards = config.shards.iter().zip(connectors).zip(bounds.caps).map(|((shard, tls), caps)| {
        let target = Target {
            host: shard.primary.host.clone(),
            port: shard.primary.port,
            dbname: shard.primary.dbname.clone(),
            user: login.as_ref().map_or(name, |(user, _)| user).to_owned(),
            secrets: login.as_ref().map_or(&secrets, |(_, secrets)| secrets).clone(),
            tls: tls.clone(),
            // Not this: "pgherd". It is what a client without a name of its own would see.
            application_name: String::new(),
            options: String::new(),
            others: shard.primary.others.clone(),
            balance: shard.primary.balance,
            startup: config.startup.clone(),
            connect_query: config.connect_query.clone().unwrap_or_default(),
        };
        let same = before.and_then(|old| old.shards.iter().find(|pool| *pool.target() == target));
        same.cloned().unwrap_or_else(|| Pool::under(caps, target, Limits::from(&settings), workers))
    });
    let shards: Vec<_> = shards.collect();
    // What servers said when they were asked first holds as long as they are the same.
    let same = before.filter(|old| old.shards.iter().map(Arc::as_ptr).eq(shards.iter().map(Arc::as_ptr)));
    let gate = match same {
        Some(old)
            if old.gate.limit() == settings.size as usize
                && old.gate.outer().iter().map(Arc::as_ptr).eq(bounds.gates.iter().map(Arc::as_ptr)) =>
        {
            old.gate.clone()
        }
        _ => Gate::before(bounds.gates, settings.size as usize, settings.waiting_max),
    };
    let default_isolation = OnceLock::new();
    if let Some(level) = same.and_then(|old| old.default_isolation()) {
        let _ = default_isolation.set(level.to_owned());
    }
    UserPools {
        user: name.to_owned(),
        database: config.name.clone(),
        settings,
        stats: before.map_or_else(|| Arc::new(Stats::new(workers)), |old| old.stats.clone()),
        shards,
        gate,
        told: Mutex::new(same.and_then(|old| old.told())),
        renewed: Mutex::default(),
        default_isolation,
        accepted: dashmap::DashMap::new(),
        guest,
        successor: OnceLock::new(),
    }
}
