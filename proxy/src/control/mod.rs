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
pub mod inspect;
pub(crate) mod resolver;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgherd_config::resolve_plain;
use pgherd_pool::{Secrets, Target, connect};
use pgherd_router::Topology;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::database::{Database, Readiness, Request};

/// Between two rounds of the resolver; a transaction left over is finished within about this.
const RESOLVE_EVERY: Duration = Duration::from_secs(1);

/// Between attempts to reach the catalog at the start.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// One statement of the control role; beyond that its connection is given up.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// The directory may have new keys.
    told: Arc<Notify>,
}

impl Shards {
    pub(crate) fn new(db: Arc<Database>, password: Option<String>) -> Self {
        let clients = db.config.shards.iter().map(|_| None).collect();
        Self { db, password, clients, told: Arc::default() }
    }

    async fn client(&mut self, shard: usize) -> Result<&Client, Problem> {
        if self.clients[shard].as_ref().is_none_or(Client::is_closed) {
            self.clients[shard] = None;
            let told = Arc::clone(&self.told);
            let client =
                connect_to(&self.db, self.password.as_deref(), shard, "pgherd control", move |message| {
                    if let AsyncMessage::Notification(_) = message {
                        told.notify_one();
                    }
                })
                .await?;
            if shard == self.db.config.catalog && directory::is_used(&self.db.config) {
                let listen = tokio::time::timeout(STATEMENT_TIMEOUT, client.batch_execute(directory::LISTEN));
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
        self.rows_within(shard, sql, STATEMENT_TIMEOUT).await
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
pub async fn run(db: Arc<Database>, mut requests: mpsc::UnboundedReceiver<Request>) {
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
    let mut shards = Shards::new(db.clone(), password);
    let mut last = String::new();
    loop {
        if db.is_closed() {
            return;
        }
        match start(&mut shards).await {
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
    let mut resolver = resolver::Resolver::default();
    let mut directory = directory::Reader::default();
    let told = Arc::clone(&shards.told);
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
                refresh(&mut shards).await;
                facts_at = tokio::time::Instant::now();
                let _ = done.send(());
            }
            Some(Request::ReadDirectory) => {
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
                }
            }
        }
    }
}

/// Reads (at the first start ever: writes) the catalog, then the facts; then the database is served.
async fn start(shards: &mut Shards) -> Result<(), Problem> {
    let db = shards.db.clone();
    let placement = catalog::bootstrap(shards).await?;
    catalog::at_rest(shards).await?;
    let facts = facts::load(&db, shards).await?;
    facts::warn(&db, &Default::default(), &facts);
    put_in_force(&db, placement, facts);
    db.set_readiness(Readiness::Ready);
    Ok(())
}

fn put_in_force(db: &Database, placement: catalog::Recorded, facts: pgherd_router::topology::Facts) {
    db.set_cluster(placement.cluster);
    db.set_topology(Topology {
        database: db.name.clone(),
        shards: db.config.shards.iter().map(|s| s.name.clone()).collect(),
        distributions: placement.distributions,
        tables: db.tables(),
        facts,
        epoch: placement.epoch,
        version: next_version(),
    });
}

async fn refresh(shards: &mut Shards) {
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
        return;
    }
    facts::warn(&db, &old.facts, &facts);
    db.set_topology(Topology { facts, version: next_version(), ..(*old).clone() });
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
