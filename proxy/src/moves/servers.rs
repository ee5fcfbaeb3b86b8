//! Connections of the control role for those who move rows: as many as are at work, lent and taken back.
//!
//! Invariant: a connection that comes back to the pool is in no transaction; one whose statement failed or was given up is closed.
//!
//! Start reading at [`Servers::lend`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};

use crate::control::{self, Problem};
use crate::database::Database;

/// What these connections are called in pg_stat_activity.
pub const APPLICATION: &str = "pgherd rebalance";

/// One ordinary statement; beyond that its connection is given up.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Statements that read or build something large.
pub const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Values have one text, whatever the servers' own settings are; nothing of ours is ended by a timeout of theirs.
const SESSION: &str = "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET extra_float_digits = 1;
 SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET xmloption = 'content'; SET client_encoding = 'UTF8';
 SET standard_conforming_strings = on; SET client_min_messages = warning; SET statement_timeout = 0; SET lock_timeout = 0;
 SET idle_in_transaction_session_timeout = 0; SET default_transaction_isolation = 'read committed';
 SET default_transaction_read_only = off; SET row_security = on; SET search_path = pg_catalog";

pub type Rows = Vec<Vec<Option<String>>>;

pub struct Servers {
    pub db: Arc<Database>,
    password: Option<String>,
    idle: Mutex<HashMap<usize, Vec<Connection>>>,
}

pub struct Connection {
    pub shard: usize,
    pub client: Client,
}

impl Servers {
    /// # Errors
    /// The control role has no password.
    pub fn new(db: Arc<Database>) -> Result<Self, Problem> {
        let password = control::password(&db)?;
        Ok(Self { db, password, idle: Mutex::default() })
    }

    /// The one task's connections of before, for what stands there.
    pub(crate) fn control(&self) -> control::Shards {
        control::Shards::new(self.db.clone(), self.password.clone())
    }

    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub fn catalog(&self) -> usize {
        self.db.config.catalog
    }

    pub fn name(&self, shard: usize) -> &str {
        self.db.config.shards.get(shard).map_or("", |shard| shard.name.as_str())
    }

    /// # Errors
    /// No shard has this name.
    pub fn shard(&self, name: &str) -> Result<usize, Problem> {
        let found = self.db.config.shards.iter().position(|shard| shard.name == name);
        found.ok_or_else(|| format!("shard \"{name}\" is not in the configuration").into())
    }

    /// A connection to a shard, for one task.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn lend(&self, shard: usize) -> Result<Connection, Problem> {
        let idle = |servers: &Self| {
            let mut idle = servers.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.get_mut(&shard).and_then(Vec::pop)
        };
        while let Some(connection) = idle(self) {
            if !connection.client.is_closed() {
                return Ok(connection);
            }
        }
        self.open(shard, |_| {}).await
    }

    pub fn take_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(connection.shard).or_default().push(connection);
    }

    async fn open(
        &self,
        shard: usize,
        told: impl Fn(AsyncMessage) + Send + 'static,
    ) -> Result<Connection, Problem> {
        let opened = control::connect_to(&self.db, self.password(), shard, APPLICATION, told).await;
        let client = opened.map_err(|e| format!("shard {}: {}", self.name(shard), control::describe(&*e)))?;
        let connection = Connection { shard, client };
        connection.run(SESSION).await?;
        Ok(connection)
    }

    /// A connection that wakes `told` whenever somebody says something on `channel`.
    ///
    /// # Errors
    /// As [`Servers::lend`].
    pub async fn listen(
        &self,
        shard: usize,
        channel: &str,
        told: Arc<Notify>,
    ) -> Result<Connection, Problem> {
        let connection = self
            .open(shard, move |message| {
                if let AsyncMessage::Notification(_) = message {
                    told.notify_waiters();
                }
            })
            .await?;
        connection.run(&format!("LISTEN {channel}")).await?;
        Ok(connection)
    }

    /// One question, on a connection of the pool.
    ///
    /// # Errors
    /// What the server said.
    pub async fn rows(&self, shard: usize, sql: &str) -> Result<Rows, Problem> {
        let connection = self.lend(shard).await?;
        let rows = connection.rows(sql).await?;
        self.take_back(connection);
        Ok(rows)
    }
}

impl Connection {
    /// # Errors
    /// What the server said.
    pub async fn rows(&self, sql: &str) -> Result<Rows, Problem> {
        self.rows_within(STATEMENT_TIMEOUT, sql).await
    }

    /// # Errors
    /// What the server said, or that it said nothing in time.
    pub async fn rows_within(&self, limit: Duration, sql: &str) -> Result<Rows, Problem> {
        let run = tokio::time::timeout(limit, self.client.simple_query(sql)).await;
        let messages = run.map_err(|_| "no answer in time")??;
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    }

    /// # Errors
    /// What the server said.
    pub async fn run(&self, sql: &str) -> Result<(), Problem> {
        self.rows(sql).await.map(drop)
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// What the server said.
    pub async fn one(&self, sql: &str) -> Result<Option<String>, Problem> {
        Ok(self.rows(sql).await?.into_iter().flatten().next().flatten())
    }
}
