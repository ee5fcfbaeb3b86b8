//! Clients that change a bank through pgherd and keep books about what they were told.
//!
//! Each transaction has a number of its own, and writes two rows of the table `ledger` under it, for two accounts:
//! so it must be there with both rows, or not at all. It changes an account, a teller and a branch as pgbench does, in the
//! same order (so that the two never lock each other out), and is one of three fates:
//! - acknowledged: COMMIT was answered without an error;
//! - failed: an error came before COMMIT was sent, or COMMIT itself was refused in so many words;
//! - unknown: 08006, 08007 or a lost connection after COMMIT was sent.
//!
//! Invariant: a transaction stands in the books exactly once.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, Statement};

use crate::Stage;

/// Nothing may take longer; a statement that does is as bad as a wrong answer.
const PATIENCE: Duration = Duration::from_secs(45);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Acknowledged,
    Failed,
    Unknown,
}

#[derive(Debug, Default)]
struct Books {
    fates: HashMap<i64, Fate>,
    /// What went wrong how often, by place and SQLSTATE.
    errors: BTreeMap<String, u64>,
    /// Contradictions that the clients saw themselves.
    wrong: Vec<String>,
}

struct Shared {
    url: String,
    accounts: i32,
    tellers: i32,
    branches: i32,
    /// Looks after each COMMIT whether its rows are to be seen.
    reads: bool,
    next: AtomicI64,
    stop: AtomicBool,
    paused: AtomicBool,
    /// Clients with a transaction under way.
    busy: AtomicUsize,
    books: Mutex<Books>,
}

pub struct Load {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// BEGIN, statements, COMMIT, each a Query.
    Simple,
    /// BEGIN, prepared statements, COMMIT.
    Extended,
    /// All in one query string, which is a transaction by itself.
    OneString,
    /// One row on one shard.
    OneShard,
}

/// What the books say.
#[derive(Debug, Clone)]
pub struct Account {
    pub acknowledged: usize,
    pub failed: usize,
    pub unknown: usize,
    /// Of the unknown ones.
    pub unknown_there: usize,
    pub errors: BTreeMap<String, u64>,
}

impl Load {
    /// `clients` connections that go on until [`Load::stop`], whatever happens to pgherd or the servers.
    pub fn start(stage: &Stage, clients: usize, scale: i32, reads: bool) -> Self {
        let shared = Arc::new(Shared {
            url: stage.url(),
            accounts: 100_000 * scale,
            tellers: 10 * scale,
            branches: scale,
            reads,
            next: AtomicI64::new(1),
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            books: Mutex::default(),
        });
        let ours = shared.clone();
        let thread = thread::Builder::new()
            .name("load".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime for the load");
                runtime.block_on(async {
                    let tasks: Vec<_> = (0..clients).map(|_| tokio::spawn(client(ours.clone()))).collect();
                    for task in tasks {
                        task.await.expect("a client of the load does not panic");
                    }
                });
            })
            .expect("a thread for the load");
        Self { shared, thread: Some(thread) }
    }

    pub fn acknowledged(&self) -> usize {
        let books = self.shared.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.fates.values().filter(|fate| **fate == Fate::Acknowledged).count()
    }

    /// Waits until this many more were acknowledged: the load really runs again.
    pub fn run_on(&self, more: usize, within: Duration, when: &str) {
        let before = self.acknowledged();
        let started = Instant::now();
        while self.acknowledged() < before + more {
            assert!(
                started.elapsed() < within,
                "{when}: only {} of {more} transactions in {within:?}; errors so far: {:#?}",
                self.acknowledged() - before,
                self.shared.books.lock().unwrap_or_else(PoisonError::into_inner).errors
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// No transaction begins any more; returns when none is under way.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while self.shared.busy.load(Ordering::SeqCst) > 0 {
            assert!(started.elapsed() < PATIENCE + PATIENCE, "a client of the load is stuck");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load ends in order");
        }
    }

    /// Compares the books with what is on the servers. Nothing may be under way.
    pub fn check(&self, stage: &Stage, when: &str) -> Account {
        let mut rows: HashMap<i64, usize> = HashMap::new();
        for answer in stage.ask_servers("SELECT n FROM ledger") {
            for n in answer.lines() {
                *rows.entry(n.parse().expect("a number")).or_default() += 1;
            }
        }
        let books = self.shared.books.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wrong = books.wrong.clone();
        let mut account = Account {
            acknowledged: 0,
            failed: 0,
            unknown: 0,
            unknown_there: 0,
            errors: books.errors.clone(),
        };
        for (&n, &fate) in &books.fates {
            let found = rows.remove(&n).unwrap_or(0);
            let whole = rows_of(n);
            match fate {
                Fate::Acknowledged => account.acknowledged += 1,
                Fate::Failed => account.failed += 1,
                Fate::Unknown => {
                    account.unknown += 1;
                    account.unknown_there += usize::from(found > 0);
                }
            }
            let right = match fate {
                Fate::Acknowledged => found == whole,
                Fate::Failed => found == 0,
                Fate::Unknown => found == 0 || found == whole,
            };
            if !right {
                wrong.push(format!("transaction {n} ({fate:?}) has {found} of {whole} rows"));
            }
        }
        for (n, found) in rows {
            wrong.push(format!("transaction {n} stands in no book and has {found} rows"));
        }
        assert!(
            wrong.is_empty(),
            "{when}: {} contradictions, {account:?}:\n{}\n{}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n"),
            stage.log_tail()
        );
        account
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Every fourth transaction stays on one shard.
fn rows_of(n: i64) -> usize {
    if n % 4 == 0 { 1 } else { 2 }
}

fn how(n: i64) -> How {
    match n % 4 {
        0 => How::OneShard,
        1 => How::Simple,
        2 => How::Extended,
        _ => How::OneString,
    }
}

async fn client(shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::SeqCst) {
        let attempt = tokio::time::timeout(PATIENCE, tokio_postgres::connect(&shared.url, NoTls)).await;
        let Ok(Ok((client, connection))) = attempt else {
            if attempt.is_err() {
                shared.wrong("no connection and no refusal in time".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let driver = tokio::spawn(async move { drop(connection.await) });
        let mut session = Session { shared: &shared, client, statements: None };
        while !shared.stop.load(Ordering::SeqCst) && !session.client.is_closed() {
            if shared.paused.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            shared.busy.fetch_add(1, Ordering::SeqCst);
            // Asked again now that the pause must wait for us.
            if !shared.paused.load(Ordering::SeqCst) {
                let n = shared.next.fetch_add(1, Ordering::SeqCst);
                let fate = session.transaction(n).await;
                shared.books().fates.insert(n, fate);
            }
            shared.busy.fetch_sub(1, Ordering::SeqCst);
        }
        drop(session);
        driver.abort();
    }
}

impl Shared {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, what: String) {
        self.books().wrong.push(what);
    }
}

struct Session<'a> {
    shared: &'a Shared,
    client: Client,
    statements: Option<Vec<Statement>>,
}

/// The parameters of one transaction.
struct Deal {
    n: i64,
    aid: i32,
    other: i32,
    tid: i32,
    bid: i32,
    delta: i32,
}

const PREPARED: [&str; 5] = [
    "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
    "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2",
    "UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2",
    "INSERT INTO ledger (aid, n, delta) VALUES ($1, $2, $3)",
    "INSERT INTO ledger (aid, n, delta) VALUES ($1, $2, 0)",
];

impl Deal {
    fn sql(&self) -> Vec<String> {
        let Self { n, aid, other, tid, bid, delta } = self;
        vec![
            format!("UPDATE pgbench_accounts SET abalance = abalance + {delta} WHERE aid = {aid}"),
            format!("UPDATE pgbench_tellers SET tbalance = tbalance + {delta} WHERE tid = {tid}"),
            format!("UPDATE pgbench_branches SET bbalance = bbalance + {delta} WHERE bid = {bid}"),
            format!("INSERT INTO ledger (aid, n, delta) VALUES ({aid}, {n}, {delta})"),
            format!("INSERT INTO ledger (aid, n, delta) VALUES ({other}, {n}, 0)"),
        ]
    }
}

/// An error's SQLSTATE; "lost" when no server said anything.
fn code(error: &tokio_postgres::Error) -> String {
    error.code().map_or("lost".into(), |code| code.code().to_owned())
}

impl Session<'_> {
    async fn transaction(&mut self, n: i64) -> Fate {
        let deal = {
            let mut rng = rand::rng();
            let aid = rng.random_range(1..=self.shared.accounts);
            Deal {
                n,
                aid,
                other: (aid % self.shared.accounts) + 1,
                tid: rng.random_range(1..=self.shared.tellers),
                bid: rng.random_range(1..=self.shared.branches),
                delta: rng.random_range(-5_000..=5_000),
            }
        };
        match tokio::time::timeout(PATIENCE, self.run(&deal, how(n))).await {
            Ok(fate) => fate,
            Err(_) => {
                self.shared.wrong(format!("transaction {n} ({:?}) did not end within {PATIENCE:?}", how(n)));
                Fate::Unknown
            }
        }
    }

    async fn run(&mut self, deal: &Deal, how: How) -> Fate {
        if let How::OneString = how {
            return match self.client.simple_query(&deal.sql().join("; ")).await {
                Ok(_) => self.acknowledged(deal, 2).await,
                Err(error) => self.uncertain("string", &error),
            };
        }
        if let Err(error) = self.statements(deal, how).await {
            self.count("before COMMIT", &error);
            if !self.client.is_closed()
                && let Err(error) = self.client.simple_query("ROLLBACK").await
            {
                self.count("ROLLBACK", &error);
            }
            return Fate::Failed;
        }
        match self.client.simple_query("COMMIT").await {
            Ok(_) => self.acknowledged(deal, rows_of(deal.n)).await,
            Err(error) => self.uncertain("COMMIT", &error),
        }
    }

    async fn statements(&mut self, deal: &Deal, how: How) -> Result<(), tokio_postgres::Error> {
        if let How::Extended = how
            && self.statements.is_none()
        {
            let mut statements = Vec::new();
            for sql in PREPARED {
                statements.push(self.client.prepare(sql).await?);
            }
            self.statements = Some(statements);
        }
        self.client.batch_execute("BEGIN").await?;
        let changed = match (how, &self.statements) {
            (How::Extended, Some(s)) => {
                let Deal { n, aid, other, tid, bid, delta } = deal;
                let mut changed = self.client.execute(&s[0], &[delta, aid]).await?;
                changed += self.client.execute(&s[1], &[delta, tid]).await?;
                changed += self.client.execute(&s[2], &[delta, bid]).await?;
                changed += self.client.execute(&s[3], &[aid, n, &i64::from(*delta)]).await?;
                changed += self.client.execute(&s[4], &[other, n]).await?;
                changed
            }
            (How::OneShard, _) => self.each(&deal.sql()[4..]).await?,
            _ => self.each(&deal.sql()).await?,
        };
        let expected = if let How::OneShard = how { 1 } else { 5 };
        if changed != expected {
            self.shared.wrong(format!("transaction {} changed {changed} of {expected} rows", deal.n));
        }
        Ok(())
    }

    async fn each(&self, statements: &[String]) -> Result<u64, tokio_postgres::Error> {
        let mut changed = 0;
        for sql in statements {
            for message in self.client.simple_query(sql).await? {
                if let SimpleQueryMessage::CommandComplete(rows) = message {
                    changed += rows;
                }
            }
        }
        Ok(changed)
    }

    /// What was acknowledged is there for the next statement.
    async fn acknowledged(&self, deal: &Deal, rows: usize) -> Fate {
        if self.shared.reads && deal.n % 3 == 0 {
            let sql = match deal.n % 2 {
                // By key, one or two shards; over all of them.
                0 => format!(
                    "SELECT count(*) FROM ledger WHERE aid IN ({}, {}) AND n = {}",
                    deal.aid, deal.other, deal.n
                ),
                _ => format!("SELECT count(*) FROM ledger WHERE n = {}", deal.n),
            };
            match self.client.simple_query(&sql).await {
                Ok(answer) => {
                    let count = answer.iter().find_map(|message| match message {
                        SimpleQueryMessage::Row(row) => row.get(0),
                        _ => None,
                    });
                    if count != Some(&rows.to_string()) {
                        self.shared.wrong(format!(
                            "transaction {} was acknowledged, and the next statement saw {count:?} of its {rows} rows",
                            deal.n
                        ));
                    }
                }
                Err(error) => self.count("read", &error),
            }
        }
        Fate::Acknowledged
    }

    /// The error of a COMMIT: refused in so many words, or not known.
    fn uncertain(&self, place: &str, error: &tokio_postgres::Error) -> Fate {
        self.count(place, error);
        let code = code(error);
        let unknown = code == "lost" || code.starts_with("08") || code.starts_with("57P");
        if unknown { Fate::Unknown } else { Fate::Failed }
    }

    fn count(&self, place: &str, error: &tokio_postgres::Error) {
        *self.shared.books().errors.entry(format!("{place}: {}", code(error))).or_default() += 1;
    }
}
