//! What a sharded database needs beside its clients' statements: the catalog, the facts, the resolver. One task for
//! each database, on a thread of its own, with connections of the control role.
//!
//! Invariant: nothing here stands in a statement's way except a schema change, which waits for fresh facts.

mod adopt;
pub(crate) mod catalog;
mod deadlocks;
mod directory;
pub mod facts;
pub mod findings;
mod follow;
pub mod inspect;
mod members;
pub(crate) mod resolver;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pgherd_config::resolve_plain;
use pgherd_pool::{Secrets, Target, connect};
use pgherd_router::Topology;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::database::{Database, Readiness, Request};
use crate::serve::Crew;
use follow::Follower;

/// Between two rounds of the resolver; a transaction left over is finished within about this.
const RESOLVE_EVERY: Duration = Duration::from_secs(1);

/// Between attempts to reach the catalog at the start.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// One statement of the control role; beyond that its connection is given up.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// On this channel pgherds tell each other that one of them has changed the schema.
const SCHEMA: &str = "pgherd_schema";

/// What the catalog connection listens to: new keys of the directory, changes of the schema.
const LISTEN: &str = "LISTEN pgherd_directory; LISTEN pgherd_schema";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Facts are read again after this even if no schema change was seen: it may have been made past pgherd.
const FACTS_EVERY: Duration = Duration::from_secs(60);

pub type Problem = Box<dyn std::error::Error + Send + Sync>;

/// The password of the control role.
///
/// # Errors
/// It cannot be found where the configuration says.
pub(crate) fn password(db: &Database) -> Result<Option<String>, String> {
    let secret = db.config.control.as_ref().and_then(|control| control.password.as_ref());
    secret.map(|secret| resolve_plain(&format!("control role of \"{}\"", db.name), secret)).transpose()
}

/// A connection of the control role. `told`: what the server says unasked.
pub(crate) async fn connect_to(
    db: &Database,
    password: Option<&str>,
    shard: usize,
    application: &str,
    told: impl Fn(AsyncMessage) + Send + 'static,
) -> Result<Client, Problem> {
    let address = &db.config.shards[shard].primary;
    let control = db.config.control.as_ref().ok_or("no control role is configured")?;
    let mut config = tokio_postgres::Config::new();
    config
        .dbname(&address.dbname)
        .user(&control.user)
        .application_name(application)
        // The stream is encrypted already, or must not be.
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    if let Some(password) = password {
        config.password(password);
    }
    let target = Target {
        host: address.host.clone(),
        port: address.port,
        dbname: address.dbname.clone(),
        user: control.user.clone(),
        secrets: Secrets::default(),
        tls: db.connectors[shard].clone(),
        application_name: String::new(),
        options: String::new(),
        others: Vec::new(),
        balance: false,
        startup: Vec::new(),
        connect_query: String::new(),
    };
    let stream = connect::open_secured(&target, CONNECT_TIMEOUT).await?;
    let connect = tokio::time::timeout(STATEMENT_TIMEOUT, config.connect_raw(stream, NoTls));
    let (client, mut connection) = connect.await.map_err(|_| "no answer in time")??;
    tokio::spawn(async move {
        // Its errors are the client's as well, which reports them.
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            told(message);
        }
    });
    Ok(client)
}

/// A control connection to each shard, opened when it is needed.
pub(crate) struct Shards {
    pub(crate) db: Arc<Database>,
    password: Option<String>,
    clients: Vec<Option<Client>>,
    /// Something was notified: the directory may have new keys.
    told: Arc<Notify>,
    /// Another pgherd has changed the schema.
    schema: Arc<AtomicBool>,
    /// What the connection to the catalog listens to.
    listen: Option<&'static str>,
    timeout: Duration,
}

impl Shards {
    pub(crate) fn new(db: Arc<Database>, password: Option<String>) -> Self {
        let clients = db.config.shards.iter().map(|_| None).collect();
        Self {
            db,
            password,
            clients,
            told: Arc::default(),
            schema: Arc::default(),
            listen: None,
            timeout: STATEMENT_TIMEOUT,
        }
    }

    async fn client(&mut self, shard: usize) -> Result<&Client, Problem> {
        if self.clients[shard].as_ref().is_none_or(Client::is_closed) {
            self.clients[shard] = None;
            let (told, schema) = (Arc::clone(&self.told), Arc::clone(&self.schema));
            let tell = move |message| {
                if let AsyncMessage::Notification(notification) = message {
                    if notification.channel() == SCHEMA && notification.payload() != own_name() {
                        schema.store(true, Ordering::Release);
                    }
                    told.notify_one();
                }
            };
            let connect = connect_to(&self.db, self.password.as_deref(), shard, "pgherd control", tell);
            let client =
                tokio::time::timeout(self.timeout, connect).await.map_err(|_| "no answer in time")??;
            if shard == self.db.config.catalog
                && let Some(listen) = self.listen
            {
                let listen = tokio::time::timeout(self.timeout, client.batch_execute(listen));
                listen.await.map_err(|_| "no answer in time")??;
                // What was said while nobody listened.
                self.told.notify_one();
            }
            self.clients[shard] = Some(client);
        }
        self.clients[shard].as_ref().ok_or_else(|| "not connected".into())
    }

    /// Runs statements that return text rows; a connection that does not answer is given up.
    pub(crate) async fn rows(
        &mut self,
        shard: usize,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, Problem> {
        self.rows_within(shard, sql, self.timeout).await
    }

    async fn rows_within(
        &mut self,
        shard: usize,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<Vec<Option<String>>>, Problem> {
        let client = self.client(shard).await?;
        let run = tokio::time::timeout(limit, client.simple_query(sql)).await;
        let messages = match run {
            Ok(Ok(messages)) => messages,
            Ok(Err(e)) => return Err(e.into()),
            Err(_) => {
                self.clients[shard] = None;
                return Err("no answer in time".into());
            }
        };
        let mut rows = Vec::new();
        for message in messages {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    }
}

impl facts::Catalogs for Shards {
    async fn rows(&mut self, sql: &str) -> Result<facts::Rows, Problem> {
        Shards::rows(self, facts::FIRST, sql).await
    }

    fn is_own(&self) -> bool {
        true
    }
}

/// Reads placement and facts once, changing nothing on the servers: for `pgherd explain`.
///
/// # Errors
/// Why it cannot; the database's topology stays as it was.
pub async fn look(db: Arc<Database>) -> Result<(), String> {
    let password = match db.config.control.as_ref().and_then(|c| c.password.as_ref()) {
        None => None,
        Some(secret) => match resolve_plain(&format!("control role of \"{}\"", db.name), secret) {
            Ok(password) => Some(password),
            Err(why) => return Err(why),
        },
    };
    let mut shards = Shards::new(db.clone(), password);
    let placement = catalog::read(&mut shards).await.map_err(|e| describe(&*e))?;
    let facts = facts::load(&db, &mut shards).await.map_err(|e| describe(&*e))?;
    put_in_force(&db, placement, facts);
    // Without it, keys are only not known.
    let _ = directory::Reader::default().read(&mut shards).await;
    Ok(())
}

/// Runs a database's control task until the process ends.
pub async fn run(db: Arc<Database>, mut requests: mpsc::UnboundedReceiver<Request>, crew: Crew) {
    if let Some(listening) = db.hub.start() {
        tokio::spawn(listening);
    }
    if !db.sharded {
        return;
    }
    let password = match db.config.control.as_ref().and_then(|c| c.password.as_ref()) {
        None => None,
        Some(secret) => match resolve_plain(&format!("control role of \"{}\"", db.name), secret) {
            Ok(password) => Some(password),
            Err(why) => {
                tracing::error!(database = %db.name, why, "the control role has no password");
                db.set_readiness(Readiness::Waiting(why));
                return;
            }
        },
    };
    tokio::spawn(deadlocks::watch(db.clone(), password.clone()));
    let mut follower = Follower::new(db.clone(), password.clone(), crew);
    let mut shards = Shards::new(db.clone(), password);
    shards.listen = Some(LISTEN);
    let mut last = String::new();
    loop {
        if db.is_closed() {
            return;
        }
        match start(&mut shards, &mut follower).await {
            Ok(()) => break,
            Err(e) => {
                let why = describe(&*e);
                if why != last {
                    tracing::warn!(database = %db.name, why, "the catalog cannot be read yet");
                    last = why.clone();
                }
                db.set_readiness(Readiness::Waiting(why));
            }
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
    tracing::info!(database = %db.name, "the placement is in force");
    tokio::spawn(follower.run());
    let mut resolver = resolver::Resolver::default();
    let mut directory = directory::Reader::default();
    let (told, schema) = (Arc::clone(&shards.told), Arc::clone(&shards.schema));
    let mut tick = tokio::time::interval(RESOLVE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut facts_at = tokio::time::Instant::now();
    loop {
        let request = tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(request) => Some(request),
                None => return,
            },
            () = told.notified() => Some(Request::ReadDirectory),
            _ = tick.tick() => None,
        };
        if db.is_closed() {
            return;
        }
        match request {
            Some(Request::Refresh(done)) => {
                if refresh(&mut shards).await {
                    // The others need not find out by themselves.
                    let tell = format!("NOTIFY {SCHEMA}, '{}'", own_name());
                    let _ = shards.rows(db.config.catalog, &tell).await;
                }
                facts_at = tokio::time::Instant::now();
                let _ = done.send(());
            }
            Some(Request::ReadDirectory) => {
                if schema.swap(false, Ordering::AcqRel) {
                    refresh(&mut shards).await;
                    facts_at = tokio::time::Instant::now();
                }
                if let Err(e) = directory.read(&mut shards).await {
                    tracing::warn!(database = %db.name, why = %describe(&*e), "the directory cannot be read; its new keys are looked up one by one");
                }
            }
            Some(Request::Place { distribution, keys, done }) => {
                if let Err(e) = directory::place(&mut shards, &distribution, &keys).await {
                    tracing::warn!(database = %db.name, why = %describe(&*e), "keys cannot be looked up in the directory");
                }
                let _ = done.send(());
            }
            Some(Request::Resolve) => resolver.round(&mut shards).await,
            Some(Request::Forget { shard, gid }) => resolver.forget(shard.0 as usize, gid),
            None => {
                resolver.round(&mut shards).await;
                if facts_at.elapsed() > FACTS_EVERY {
                    refresh(&mut shards).await;
                    facts_at = tokio::time::Instant::now();
                    let _ = follow::forget_proxies(&mut shards).await;
                }
            }
        }
    }
}

/// Reads (at the first start ever: writes) the catalog, then the facts; then the database is served.
async fn start(shards: &mut Shards, follower: &mut Follower) -> Result<(), Problem> {
    let db = shards.db.clone();
    catalog::bootstrap(shards).await?;
    let facts = facts::load(&db, shards).await?;
    facts::warn(&db, &Default::default(), &facts);
    follower.begin(facts).await?;
    db.set_readiness(Readiness::Ready);
    Ok(())
}

fn put_in_force(db: &Database, placement: catalog::Recorded, facts: pgherd_router::topology::Facts) {
    db.set_cluster(placement.cluster);
    db.set_topology(|topology| Topology {
        // One that is not configured is nobody's here: whoever serves refuses to.
        members: members::ids(&placement.members, &db.config).unwrap_or_default(),
        distributions: placement.distributions,
        tables: db.tables(),
        facts,
        epoch: placement.epoch,
        version: next_version(),
        ..topology.clone()
    });
}

/// `true`: they have changed.
async fn refresh(shards: &mut Shards) -> bool {
    let db = shards.db.clone();
    let facts = match facts::load(&db, shards).await {
        Ok(facts) => facts,
        Err(e) => {
            // Stale facts might place a row wrongly; without facts the router refuses what depends on them.
            tracing::warn!(database = %db.name, why = %describe(&*e), "the schema cannot be read; routing without it");
            Default::default()
        }
    };
    let old = db.topology();
    if old.facts == facts {
        return false;
    }
    facts::warn(&db, &old.facts, &facts);
    db.set_topology(|topology| Topology { facts, version: next_version(), ..topology.clone() });
    true
}

/// Of this process, among those that change the schema.
fn own_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| format!("{:016x}", rand::random::<u64>()))
}

/// Topologies of one process never share a version.
pub fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An error with its causes, in one line. tokio-postgres says "db error" and keeps the reason below.
pub(crate) fn describe(e: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The SQLSTATE of an error, if a server said it.
pub(crate) fn sqlstate(e: &Problem) -> Option<String> {
    e.downcast_ref::<tokio_postgres::Error>()?.code().map(|c| c.code().to_owned())
}
