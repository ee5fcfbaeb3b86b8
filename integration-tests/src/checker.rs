//! Clients that write through pgherd while rows move, and know what must be there: whatever the moves do, nothing is lost, nothing
//! is there twice, nothing is on a wrong shard, and no read sees less than was acknowledged before it began.
//!
//! - entries: rows with numbers of their own, each inserted once;
//! - purses: two for each owner, money goes from one to the other; the sum over all shards is the same in *every* read, for an
//!   owner's purses are on one shard, and a read that missed a moving owner, or saw one twice, would be off;
//! - accounts: money goes from shard to shard, with two-phase commit; their number is the same in every read, their sum at the end;
//! - registers: counted up one by one; each number is given once, and none is lost.
//!
//! Invariant: what a client was told is in the books before it asks for the next thing.
//!
//! Start reading at [`Checker::start`] and [`Checker::finish`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::time::error::Elapsed;
use tokio_postgres::{Client, NoTls};

/// Owners, accounts and registers: this many keys each.
pub const KEYS: i64 = 400;

const BALANCE: i64 = 1_000;

/// Nothing may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Made through pgherd, before anything is written. The distribution of all of them is by hash of a bigint.
pub const TABLES: [(&str, &str, &str); 4] = [
    (
        "entries",
        "owner",
        "CREATE TABLE entries (owner bigint NOT NULL, n bigint NOT NULL, PRIMARY KEY (owner, n))",
    ),
    (
        "purses",
        "owner",
        "CREATE TABLE purses (owner bigint NOT NULL, purse integer NOT NULL, money bigint NOT NULL, PRIMARY KEY (owner, purse))",
    ),
    ("accounts", "id", "CREATE TABLE accounts (id bigint PRIMARY KEY, money bigint NOT NULL)"),
    ("registers", "id", "CREATE TABLE registers (id bigint PRIMARY KEY, value bigint NOT NULL)"),
];

/// The slot of a bigint column, as PostgreSQL computes it.
pub fn slot_of(column: &str) -> String {
    format!(
        "((hashint8extended({column}, 8816678312871386365) & 16383) + (5305509591434766563 & 16383)) & 16383"
    )
}

#[derive(Default)]
struct Books {
    /// Entries by number: acknowledged, or perhaps there.
    entries: HashMap<i64, bool>,
    /// Numbers that a register has given, by register.
    given: HashMap<i64, HashSet<i64>>,
    /// Increments whose answer did not come.
    unknown: HashMap<i64, i64>,
    /// What was acknowledged last, by register.
    last: HashMap<i64, i64>,
    /// Errors that clients were told, by what they did and SQLSTATE.
    errors: BTreeMap<String, u64>,
    /// Contradictions.
    wrong: Vec<String>,
    transfers: u64,
    reads: u64,
    slowest: Duration,
}

struct Shared {
    next: AtomicI64,
    stop: AtomicBool,
    done: AtomicU64,
    books: Mutex<Books>,
}

pub struct Checker {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the books say at the end.
#[derive(Debug)]
pub struct Verdict {
    pub errors: BTreeMap<String, u64>,
    pub entries: usize,
    pub increments: usize,
    pub transfers: u64,
    pub reads: u64,
    /// The longest that a client has waited for one statement.
    pub slowest: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Entries,
    Purses,
    Accounts,
    Registers,
    Reads,
}

impl Checker {
    /// Fills the tables through the first of `urls` and writes through all of them until [`Self::finish`].
    pub fn start(urls: &[String]) -> Self {
        let shared = Arc::new(Shared {
            next: AtomicI64::new(1),
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            books: Mutex::default(),
        });
        let (ours, urls) = (shared.clone(), urls.to_vec());
        let (filled, wait) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime for the checker").block_on(async {
                fill(&urls).await;
                filled.send(()).expect("the test waits");
                let mut tasks = Vec::new();
                for url in &urls {
                    for work in [Work::Entries, Work::Purses, Work::Accounts, Work::Registers, Work::Reads] {
                        tasks.push(tokio::spawn(client(ours.clone(), url.clone(), work)));
                    }
                }
                for task in tasks {
                    task.await.expect("a client of the checker does not panic");
                }
            });
        });
        wait.recv_timeout(PATIENCE).expect("the tables are filled");
        Self { shared, thread: Some(thread) }
    }

    /// Statements that were answered so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::SeqCst)
    }

    /// Waits until so many more were answered.
    pub fn run_on(&self, more: u64) {
        let (goal, started) = (self.done() + more, Instant::now());
        while self.done() < goal {
            assert!(
                started.elapsed() < PATIENCE,
                "the clients get no answers: {:?}",
                self.shared.books().errors
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the clients and compares. `servers`: URLs of all servers, past pgherd, with the slots that each owns; `url`: through it.
    pub fn finish(mut self, url: &str, servers: &[(String, Vec<(u16, u16)>)]) -> Verdict {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the checker ends");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (url, servers) = (url.to_owned(), servers.to_vec());
        runtime.expect("a runtime").block_on(async {
            self.compare(&url, &servers).await;
        });
        let books = self.shared.books();
        assert!(books.wrong.is_empty(), "{} contradictions: {:#?}", books.wrong.len(), books.wrong);
        Verdict {
            errors: books.errors.clone(),
            entries: books.entries.len(),
            increments: books.given.values().map(HashSet::len).sum(),
            transfers: books.transfers,
            reads: books.reads,
            slowest: books.slowest,
        }
    }

    async fn compare(&self, url: &str, servers: &[(String, Vec<(u16, u16)>)]) {
        let mut wrong = Vec::new();
        let (mut entries, mut registers) = (HashMap::new(), HashMap::new());
        let (mut purses, mut accounts, mut accounts_count) = (0i64, 0i64, 0i64);
        for (server, (server_url, slots)) in servers.iter().enumerate() {
            let client = connect(server_url).await.expect("a server answers");
            for (table, key, _) in TABLES {
                let there = format!("SELECT to_regclass('{table}') IS NOT NULL");
                let there: bool = client.query_one(&there, &[]).await.expect("a server answers").get(0);
                if !there {
                    continue;
                }
                let sql = format!("SELECT {key}, ({})::integer FROM {table}", slot_of(key));
                for row in client.query(&sql, &[]).await.expect("a server answers") {
                    let (key, slot): (i64, i32) = (row.get(0), row.get(1));
                    if !slots.iter().any(|(from, to)| (i32::from(*from)..=i32::from(*to)).contains(&slot)) {
                        wrong.push(format!(
                            "{table} {key} (slot {slot}) is on server {server}, which does not own it"
                        ));
                    }
                }
            }
            for row in client.query("SELECT n FROM entries", &[]).await.unwrap_or_default() {
                *entries.entry(row.get::<_, i64>(0)).or_insert(0) += 1;
            }
            for row in client.query("SELECT id, value FROM registers", &[]).await.unwrap_or_default() {
                registers.entry(row.get::<_, i64>(0)).or_insert_with(Vec::new).push(row.get::<_, i64>(1));
            }
            let sum = "SELECT COALESCE(sum(money), 0)::bigint, count(*) FROM";
            if let Ok(row) = client.query_one(&format!("{sum} purses"), &[]).await {
                purses += row.get::<_, i64>(0);
            }
            if let Ok(row) = client.query_one(&format!("{sum} accounts"), &[]).await {
                accounts += row.get::<_, i64>(0);
                accounts_count += row.get::<_, i64>(1);
            }
        }
        let client = connect(url).await.expect("pgherd answers");
        let through = client.query_one("SELECT count(*) FROM entries", &[]).await.expect("pgherd answers");
        let through: i64 = through.get(0);
        let mut books = self.shared.books();
        for (n, acknowledged) in &books.entries {
            match entries.get(n) {
                None if *acknowledged => wrong.push(format!("entry {n} was acknowledged and is lost")),
                Some(count) if *count > 1 => wrong.push(format!("entry {n} is there {count} times")),
                _ => {}
            }
        }
        wrong.extend(
            entries
                .keys()
                .filter(|n| !books.entries.contains_key(n))
                .map(|n| format!("entry {n} was written by nobody")),
        );
        for id in 1..=KEYS {
            let known = registers.get(&id).cloned().unwrap_or_default();
            let [value] = known[..] else {
                wrong.push(format!("register {id} is there {} times", known.len()));
                continue;
            };
            let given = books.given.get(&id).map_or(0, HashSet::len) as i64;
            let unknown = books.unknown.get(&id).copied().unwrap_or(0);
            if value < given || value > given + unknown {
                wrong.push(format!("register {id} is {value} after {given} increments ({unknown} unknown)"));
            }
        }
        for (what, sum) in [("purses", purses), ("accounts", accounts)] {
            let expected = if what == "purses" { 2 * KEYS * BALANCE } else { KEYS * BALANCE };
            if sum != expected {
                wrong.push(format!("the {what} hold {sum}, not {expected}"));
            }
        }
        if accounts_count != KEYS {
            wrong.push(format!("there are {accounts_count} accounts, not {KEYS}"));
        }
        if through != entries.len() as i64 {
            wrong.push(format!("pgherd counts {through} entries, the servers have {}", entries.len()));
        }
        books.wrong.extend(wrong);
    }
}

impl Shared {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, work: Work, outcome: Result<Result<(), tokio_postgres::Error>, Elapsed>, took: Duration) {
        let mut books = self.books();
        books.slowest = books.slowest.max(took);
        match outcome {
            Ok(Ok(())) => {
                self.done.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Err(e)) => {
                let code = e.code().map_or_else(|| e.to_string(), |code| code.code().to_owned());
                *books.errors.entry(format!("{work:?} {code}")).or_default() += 1;
            }
            Err(_) => books.wrong.push(format!("{work:?} has no answer after {PATIENCE:?}")),
        }
    }
}

/// A connection that is driven in the background.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

async fn fill(urls: &[String]) {
    let client = connect(&urls[0]).await.expect("pgherd answers");
    for (_, _, sql) in TABLES {
        client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    for other in urls {
        // Another pgherd hears of the tables a moment later.
        let (client, begun) = (connect(other).await.expect("pgherd answers"), Instant::now());
        while let Err(e) = client.simple_query("SELECT count(*) FROM registers").await {
            assert!(begun.elapsed() < PATIENCE, "{e:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let values = |row: &dyn Fn(i64) -> String| (1..=KEYS).map(row).collect::<Vec<_>>().join(", ");
    for sql in [
        format!(
            "INSERT INTO purses VALUES {}",
            values(&|id| format!("({id}, 1, {BALANCE}), ({id}, 2, {BALANCE})"))
        ),
        format!("INSERT INTO accounts VALUES {}", values(&|id| format!("({id}, {BALANCE})"))),
        format!("INSERT INTO registers VALUES {}", values(&|id| format!("({id}, 0)"))),
    ] {
        client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
}

async fn client(shared: Arc<Shared>, url: String, work: Work) {
    while !shared.stop.load(Ordering::SeqCst) {
        let client = match tokio::time::timeout(PATIENCE, connect(&url)).await {
            Ok(Ok(client)) => client,
            _ => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        while !shared.stop.load(Ordering::SeqCst) && !client.is_closed() {
            let begun = Instant::now();
            let outcome = tokio::time::timeout(PATIENCE, step(&shared, &client, work)).await;
            let took = begun.elapsed();
            shared.note(work, outcome, took);
            tokio::task::yield_now().await;
        }
    }
}

/// A refusal in so many words: nothing was done.
fn is_refusal(e: &tokio_postgres::Error) -> bool {
    e.code().is_some_and(|code| !code.code().starts_with("08") && !code.code().starts_with("57P0"))
}

async fn step(shared: &Shared, client: &Client, work: Work) -> Result<(), tokio_postgres::Error> {
    let key = rand::rng().random_range(1..=KEYS);
    match work {
        Work::Entries => {
            let n = shared.next.fetch_add(1, Ordering::SeqCst);
            shared.books().entries.insert(n, false);
            // By turns in the simple protocol and as a prepared statement.
            let outcome = if n % 2 == 0 {
                client.batch_execute(&format!("INSERT INTO entries VALUES ({key}, {n})")).await
            } else {
                client.execute("INSERT INTO entries VALUES ($1, $2)", &[&key, &n]).await.map(drop)
            };
            match &outcome {
                Ok(()) => drop(shared.books().entries.insert(n, true)),
                Err(e) if is_refusal(e) => drop(shared.books().entries.remove(&n)),
                Err(_) => {}
            }
            outcome?;
            let there =
                client.query("SELECT n FROM entries WHERE owner = $1 AND n = $2", &[&key, &n]).await?;
            if there.len() != 1 {
                shared
                    .books()
                    .wrong
                    .push(format!("entry {n} of {key} was acknowledged and is read {} times", there.len()));
            }
        }
        Work::Purses => {
            let amount = rand::rng().random_range(1..10i64);
            let sql = "UPDATE purses SET money = money + CASE purse WHEN 1 THEN $2::bigint ELSE -$2::bigint END WHERE owner = $1";
            let rows = client.execute(sql, &[&key, &amount]).await?;
            if rows != 2 {
                shared.books().wrong.push(format!("{rows} purses of {key} were changed"));
            }
            shared.books().transfers += 1;
        }
        Work::Accounts => {
            let mut other = rand::rng().random_range(1..=KEYS);
            if other == key {
                other = key % KEYS + 1;
            }
            // In one order, so that transfers do not wait for each other in a circle.
            let (first, second) = (key.min(other), key.max(other));
            client.batch_execute("BEGIN").await?;
            for (id, amount) in [(first, 1i64), (second, -1)] {
                let changed = client
                    .execute("UPDATE accounts SET money = money + $2 WHERE id = $1", &[&id, &amount])
                    .await;
                match changed {
                    Ok(1) => {}
                    Ok(rows) => shared.books().wrong.push(format!("{rows} accounts {id} were changed")),
                    Err(e) => {
                        let _ = client.batch_execute("ROLLBACK").await;
                        return Err(e);
                    }
                }
            }
            client.batch_execute("COMMIT").await?;
            shared.books().transfers += 1;
        }
        Work::Registers => {
            let before = shared.books().last.get(&key).copied().unwrap_or(0);
            let read: i64 =
                client.query_one("SELECT value FROM registers WHERE id = $1", &[&key]).await?.get(0);
            if read < before {
                shared
                    .books()
                    .wrong
                    .push(format!("register {key} is read as {read} after {before} was acknowledged"));
            }
            *shared.books().unknown.entry(key).or_default() += 1;
            let sql = "UPDATE registers SET value = value + 1 WHERE id = $1 RETURNING value";
            let outcome = client.query(sql, &[&key]).await;
            let mut books = shared.books();
            match outcome {
                Ok(rows) => {
                    *books.unknown.entry(key).or_default() -= 1;
                    let [row] = &rows[..] else {
                        books.wrong.push(format!("register {key} was counted up {} times", rows.len()));
                        return Ok(());
                    };
                    let value: i64 = row.get(0);
                    let last = books.last.entry(key).or_default();
                    *last = value.max(*last);
                    if !books.given.entry(key).or_default().insert(value) {
                        books.wrong.push(format!("register {key} has given {value} twice"));
                    }
                }
                Err(e) => {
                    if is_refusal(&e) {
                        *books.unknown.entry(key).or_default() -= 1;
                    }
                    return Err(e);
                }
            }
        }
        Work::Reads => {
            let row = client.query_one("SELECT sum(money)::bigint, count(*) FROM purses", &[]).await?;
            let (sum, count): (i64, i64) = (row.get(0), row.get(1));
            if sum != 2 * KEYS * BALANCE || count != 2 * KEYS {
                shared.books().wrong.push(format!("a read saw {count} purses with {sum}"));
            }
            let count: i64 = client.query_one("SELECT count(*) FROM accounts", &[]).await?.get(0);
            if count != KEYS {
                shared.books().wrong.push(format!("a read saw {count} accounts"));
            }
            shared.books().reads += 1;
        }
    }
    Ok(())
}
