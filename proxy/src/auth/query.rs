//! Asking a server for the secret of a user that the configuration does not have (`auth.query_as`).
//!
//! Invariant: the question is asked over connections of its own, as a role of its own, with nothing of the client's but
//! the user's name as a parameter, and with `pg_catalog` as the only schema that is searched (CVE-2025-12819).
//!
//! Limits: [`CONNECTIONS`] per database, [`WAITING`] clients that wait for one, [`ANSWER_TIMEOUT`] for an answer: a
//! server that hangs keeps those waiting who must ask it, and nobody else. Answers are remembered for [`REMEMBERED`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use pgherd_config::{Config, classify, resolve_plain};
use pgherd_pool::{Connector, Limits, Pool, Secrets, Server, Target};
use pgherd_wire::frame;
use pgherd_wire::message::{self, Report};
use tokio::time::Instant;

use super::Account;

const CONNECTIONS: usize = 4;
const WAITING: usize = 1_000;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);

/// A changed password is known after this. A user that is not there is asked for again sooner.
const REMEMBERED: Duration = Duration::from_secs(5);
const FORGOTTEN: Duration = Duration::from_secs(1);

/// Answers remembered at once; names of users that do not exist cost the peer nothing.
const ANSWERS_MAX: usize = 10_000;

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

pub struct Asker {
    statement: String,
    /// By the database that the client wants.
    pools: HashMap<String, Arc<Pool<()>>>,
    /// For databases that are made as they are wanted.
    fallback: Option<Arc<Pool<()>>>,
    answers: DashMap<(String, String), (Instant, Option<Arc<Account>>)>,
}

impl Asker {
    /// # Errors
    /// The role's password cannot be resolved, or a certificate cannot be read.
    pub fn new(config: &Config) -> Result<Option<Self>, String> {
        let Some(query) = &config.auth.query else { return Ok(None) };
        let password = query.role.password.as_ref();
        let password = password.map(|secret| resolve_plain("auth.query_as", secret)).transpose()?;
        let mut pools = HashMap::new();
        for (index, database) in config.databases.iter().enumerate() {
            let asked = &config.databases[query.database.unwrap_or(index)];
            if let Some(pool) = query.database.and_then(|_| pools.values().next()) {
                let pool = Arc::clone(pool);
                pools.insert(database.name.clone(), pool);
                continue;
            }
            let Some(shard) = asked.shards.first() else { continue };
            let address = &shard.primary;
            let target = Target {
                host: address.host.clone(),
                port: address.port,
                dbname: address.dbname.clone(),
                user: query.role.user.clone(),
                secrets: password.as_deref().map(Secrets::password).unwrap_or_default(),
                tls: Connector::new(&address.security)?,
                application_name: "pgherd auth".into(),
                options: "-c search_path=pg_catalog".into(),
                others: address.others.clone(),
                balance: address.balance,
                startup: Vec::new(),
                connect_query: String::new(),
            };
            let limits = Limits {
                size: CONNECTIONS,
                checkout_timeout: ANSWER_TIMEOUT,
                connect_timeout: ANSWER_TIMEOUT.min(asked.pool.connect_timeout),
                idle_timeout: IDLE,
                waiting_max: WAITING,
                min_size: 0,
                reserve: 0,
                ..Limits::from(&asked.pool)
            };
            pools.insert(database.name.clone(), Pool::new(target, limits, config.server.workers));
        }
        // Where one database is asked for all.
        let one = query.database.and_then(|_| pools.values().next().cloned());
        let fallback = one.filter(|_| config.fallback.is_some());
        Ok(Some(Self { statement: query.statement.clone(), pools, fallback, answers: DashMap::new() }))
    }

    /// The user's account; `None` when there is no such user, or none that may log in with a password.
    ///
    /// # Errors
    /// Nobody answered, or not what was asked for.
    pub async fn ask(
        &self,
        worker: usize,
        database: &str,
        user: &str,
    ) -> Result<Option<Arc<Account>>, Report> {
        let Some(pool) = self.pools.get(database).or(self.fallback.as_ref()) else { return Ok(None) };
        let key = (database.to_owned(), user.to_owned());
        if let Some(known) = self.answers.get(&key)
            && known.0 > Instant::now()
        {
            return Ok(known.1.clone());
        }
        let mut server = pool.checkout(worker).await.map_err(|e| {
            let report = e.report();
            tracing::warn!(database, user, why = %report.message, "a server could not be asked for a user");
            Report { severity: "FATAL".into(), raw: None, ..report }
        })?;
        // A connection that did not answer in time is dropped, and with it what it would still say.
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.question(&mut server, user)).await;
        let account = match answer {
            Ok(Ok(answer)) => {
                pool.checkin(worker, server);
                answer.and_then(|secret| account(user, &secret)).map(Arc::new)
            }
            Ok(Err(why)) => return Err(failed(database, user, &why)),
            Err(_) => return Err(failed(database, user, "no answer in time")),
        };
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        let until = Instant::now() + if account.is_some() { REMEMBERED } else { FORGOTTEN };
        self.answers.insert(key, (until, account.clone()));
        Ok(account)
    }

    /// The secret in the second column of the row whose first is the user's name.
    async fn question(&self, server: &mut Server<()>, user: &str) -> Result<Option<String>, String> {
        let mut out = Vec::new();
        message::frame(&mut out, b'P', |o| {
            o.push(0);
            o.extend_from_slice(self.statement.as_bytes());
            o.extend_from_slice(&[0, 0, 0]);
        });
        message::frame(&mut out, b'B', |o| {
            // Portal, statement, no formats, one parameter, no result formats: all text.
            o.extend_from_slice(&[0, 0, 0, 0, 0, 1]);
            o.extend_from_slice(&(user.len() as u32).to_be_bytes());
            o.extend_from_slice(user.as_bytes());
            o.extend_from_slice(&[0, 0]);
        });
        message::frame(&mut out, b'E', |o| o.extend_from_slice(&[0, 0, 0, 0, 2]));
        out.extend_from_slice(message::SYNC);
        server.stream.write_all(&out).await.map_err(|e| e.to_string())?;

        let (mut buffer, mut block) = (Vec::new(), [0; 2048]);
        let (mut rows, mut error) = (Vec::new(), None);
        loop {
            while let Some(head) = frame::header(&buffer)
                .map_err(|_| "an impossible length")?
                .filter(|head| buffer.len() >= head.total())
            {
                let body = &buffer[frame::HEADER_BYTES..head.total()];
                match head.kind {
                    b'D' => {
                        let mut values = Vec::new();
                        message::read_data_row(body, &mut values).map_err(|_| "a malformed row")?;
                        let text = |at: usize| {
                            values.get(at).copied().flatten().map(|v| String::from_utf8_lossy(v).into_owned())
                        };
                        if values.len() < 2 {
                            return Err("the statement must give the user's name and secret".into());
                        }
                        rows.push((text(0), text(1)));
                    }
                    b'E' => error = Some(Report::read(body)),
                    b'Z' => {
                        return match (error, rows.pop()) {
                            (Some(report), _) => Err(format!("{} ({})", report.message, report.sqlstate)),
                            (None, _) if !rows.is_empty() => Err("more than one row".into()),
                            (None, Some((Some(name), _))) if name != user => {
                                Err(format!("the row is of another user, {name:?}"))
                            }
                            (None, Some((Some(_), secret))) => Ok(secret),
                            (None, _) => Ok(None),
                        };
                    }
                    _ => {}
                }
                buffer.drain(..head.total());
            }
            let n = server.stream.read(&mut block).await.map_err(|e| e.to_string())?;
            if n == 0 || buffer.len() > ANSWER_BYTES_MAX {
                return Err("the connection was lost".into());
            }
            buffer.extend_from_slice(&block[..n]);
        }
    }

    pub fn sweep(&self, worker: usize) {
        for pool in self.pools.values() {
            pool.sweep(worker);
        }
    }

    /// Another one takes its place.
    pub fn retire(&self) {
        for pool in self.pools.values() {
            pool.retire();
        }
    }
}

fn account(user: &str, secret: &str) -> Option<Account> {
    let made = classify(secret).and_then(|secret| Account::new(user, vec![secret]));
    if let Err(why) = &made {
        tracing::warn!(user, why, "the secret that a server gave cannot be used");
    }
    made.ok()
}

fn failed(database: &str, user: &str, why: &str) -> Report {
    tracing::error!(database, user, why, "auth.query failed");
    // The words may name tables and roles that are nobody's business yet.
    Report::fatal("08006", "the user could not be looked up")
        .detail("pgherd asks a server for users that its configuration does not have, and that failed.")
        .hint("pgherd's log has the reason.")
}
