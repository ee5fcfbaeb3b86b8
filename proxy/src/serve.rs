//! Serving: workers, the control thread, and their end.
//!
//! Invariant: a client is given to one worker, the one with the fewest clients, and stays there.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use pgherd_config::{Config, Drain};
use pgherd_router::ShardId;
use pgherd_router::touch::Hold;
use pgherd_wire::Stream;
use pgherd_wire::frame;
use pgherd_wire::message::{self, Report};
use pgherd_wire::stream::Detached;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::auth::Door;
use crate::cancel::{CancelEntry, CancelKeys};
use crate::caps::Caps;
use crate::control;
use crate::database::{Database, UserPools};
use crate::handshake::{self, Opening, Refused};
use crate::listen::{self, Listener};
use crate::replication::{self, Replication};
use crate::roster::{Card, Ends, Enrolled, Entry, Order, Phase, Why};
use crate::session::client::Client;
use crate::session::statements::Ids;
use crate::session::{Session, settings};
use crate::stats::Sums;
use crate::worker::Worker;

/// Between two looks for idle server connections to close.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Looks for clients that are out of time, in that time, if any can be.
const TIME_CHECKS: u32 = 4;

/// The console's averages are over this.
const PERIOD: Duration = Duration::from_secs(60);

/// Between two looks whether the last client has left, while stopping.
const LAST_LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long clients may take to read their last message when pgherd ends at once.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long the catalog may take to hear that pgherd ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// How far the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    No,
    /// Nobody is accepted any more; clients leave by themselves.
    Alone,
    /// Nobody is accepted any more; clients are sent away when their transaction has ended.
    Transactions,
    Now,
}

/// What a worker is asked, by another thread.
pub enum Ask {
    /// A client that is this worker's from now on.
    Serve(Detached, Ends),
    Entries(oneshot::Sender<Vec<Entry>>),
    /// Tells the clients that are meant; answered with how many.
    Tell(Order, Whom, oneshot::Sender<usize>),
    /// Which of these holds of a database wait for one of its clients.
    InTheWay(u64, Arc<[Hold]>, oneshot::Sender<Vec<i64>>),
    /// The configuration has changed.
    Follow,
}

/// The workers, to be asked.
#[derive(Clone)]
pub struct Crew(Arc<[mpsc::UnboundedSender<Ask>]>, Arc<str>);

impl Crew {
    /// How long a worker may take to answer: it is asked again.
    const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

    /// Where this pgherd listens, for people.
    pub fn address(&self) -> &str {
        &self.1
    }

    /// Which of these holds wait for a client. A plan that is made after this was asked sees the topology that was in force then.
    pub async fn in_the_way(&self, database: u64, holds: &Arc<[Hold]>) -> Vec<i64> {
        let mut waits = Vec::new();
        for inbox in &*self.0 {
            let (answer, wait) = oneshot::channel();
            // A worker that has ended has no client.
            if inbox.send(Ask::InTheWay(database, holds.clone(), answer)).is_err() {
                continue;
            }
            match tokio::time::timeout(Self::ANSWERS_WITHIN, wait).await {
                Ok(Ok(some)) => waits.extend(some),
                Ok(Err(_)) => {}
                Err(_) => return holds.iter().map(|hold| hold.id).collect(),
            }
        }
        waits
    }
}

/// What was counted at the end of the last two periods, by database.
#[derive(Default)]
pub struct Periods {
    pub last: HashMap<String, Sums>,
    pub before: HashMap<String, Sums>,
    /// Between the two; zero before the first period is over.
    pub length: Duration,
}

async fn count_periods(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(PERIOD);
    let mut last = Instant::now();
    tick.tick().await;
    loop {
        tick.tick().await;
        let now = Instant::now();
        let sums = shared.live().databases.iter().map(|(name, db)| (name.clone(), db.sums())).collect();
        let mut periods = shared.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods.before = std::mem::replace(&mut periods.last, sums);
        periods.length = now - last;
        last = now;
    }
}

impl Live {
    fn has_time_limits(&self) -> bool {
        let limited = |s: &pgherd_config::PoolSettings| {
            let limits =
                [s.query_timeout, s.transaction_timeout, s.idle_transaction_timeout, s.client_idle_timeout];
            limits.iter().any(|limit| !limit.is_zero())
        };
        self.databases.values().any(|db| db.users().values().any(|user| limited(&user.settings)))
    }
}

/// Clients that are meant.
#[derive(Debug, Clone)]
pub enum Whom {
    All,
    Client(u64),
    Database(String),
}

impl Whom {
    fn means(&self, card: &Card) -> bool {
        match self {
            Self::All => true,
            Self::Client(id) => card.id == *id,
            Self::Database(name) => card.pools.borrow().database == *name,
        }
    }
}

/// What a configuration makes: replaced whole.
pub struct Live {
    pub config: Config,
    pub door: Arc<Door>,
    pub databases: HashMap<String, Arc<Database>>,
}

/// What all workers share.
pub struct Shared {
    live: ArcSwap<Live>,
    /// Where the configuration is read again.
    pub file: PathBuf,
    pub reloading: tokio::sync::Mutex<()>,
    pub caps: Arc<Caps>,
    /// The control thread's.
    pub control: Handle,
    pub periods: Mutex<Periods>,
    consoles: Mutex<BTreeMap<u64, Entry>>,
    pub console_queries: AtomicU64,
    cancel_keys: CancelKeys,
    ids: Arc<Ids>,
    pub clients: AtomicUsize,
    /// Clients of each worker, and the way to ask one.
    loads: Vec<AtomicUsize>,
    inboxes: Crew,
    pub stop: watch::Sender<Stop>,
    pub started: Instant,
}

impl Shared {
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    pub fn set_live(&self, live: Live) {
        self.live.store(Arc::new(live));
    }

    /// Clients whose user or database is gone leave; the others follow by themselves.
    pub fn follow(&self) {
        for inbox in &*self.inboxes.0 {
            let _ = inbox.send(Ask::Follow);
        }
    }

    pub fn crew(&self) -> Crew {
        self.inboxes.clone()
    }

    pub fn workers(&self) -> usize {
        self.loads.len()
    }

    /// Clients of the console.
    pub fn consoles(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.consoles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All clients that have logged in. A worker that ends meanwhile has none.
    pub async fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.consoles().values().cloned().collect();
        for inbox in &*self.inboxes.0 {
            let (answer, wait) = oneshot::channel();
            if inbox.send(Ask::Entries(answer)).is_ok() {
                entries.extend(wait.await.unwrap_or_default());
            }
        }
        entries.sort_by_key(|entry| entry.id);
        entries
    }

    /// How many were told.
    pub async fn tell(&self, order: Order, whom: Whom) -> usize {
        let mut told = 0;
        for inbox in &*self.inboxes.0 {
            let (answer, wait) = oneshot::channel();
            if inbox.send(Ask::Tell(order, whom.clone(), answer)).is_ok() {
                told += wait.await.unwrap_or_default();
            }
        }
        told
    }

    /// Begins the end, or hastens it.
    pub fn stop(&self, how: Stop) {
        self.stop.send_if_modified(|stop| {
            let further = *stop as u8 != how as u8 && (*stop as u8) < how as u8;
            if further {
                *stop = how;
            }
            further
        });
    }
}

/// Serves until SIGINT or SIGTERM. `file`: where `config` was read, and is read again. `beside`: another pgherd may listen on
/// the same addresses; new clients come to both until that one is told to stop.
///
/// # Errors
/// What stands in the way of starting; nothing was started then.
pub fn serve(config: Config, file: &Path, beside: bool) -> Result<(), String> {
    serve_and(config, file, beside, || {})
}

/// All secrets that cannot be read, a line each: whoever starts pgherd mends them in one go.
fn secrets_are_there(config: &Config) -> Result<(), String> {
    let mut missing = Vec::new();
    for user in &config.users {
        let owner = format!("user \"{}\"", user.name);
        missing
            .extend(user.passwords.iter().filter_map(|secret| pgherd_config::resolve(&owner, secret).err()));
    }
    for database in config.databases.iter() {
        if let Some(secret) = database.control.as_ref().and_then(|control| control.password.as_ref()) {
            let owner = format!("control role of \"{}\"", database.name);
            missing.extend(pgherd_config::resolve_plain(&owner, secret).err());
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
}

/// [`serve`]; `serving` is called when clients are accepted.
///
/// # Errors
/// As [`serve`].
pub fn serve_and(config: Config, file: &Path, beside: bool, serving: impl FnOnce()) -> Result<(), String> {
    secrets_are_there(&config)?;
    let door = Arc::new(Door::new(&config)?);
    let caps = Caps::new(&config);
    let mut databases = HashMap::new();
    let mut controls = Vec::new();
    for database in &config.databases {
        let (requests, inbox) = mpsc::unbounded_channel();
        let made = Database::new(database, &config.users, config.server.workers, requests, None, &caps)?;
        let made = Arc::new(made);
        controls.push((made.clone(), inbox));
        databases.insert(database.name.clone(), made);
    }
    let workers = config.server.workers;
    let address = config.server.listen.iter().map(listen::shown).collect::<Vec<_>>().join(", ");
    let mut listeners: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    let inherited = listen::inherited(&mut listeners)?;
    let listens = if inherited == 0 { config.server.listen.clone() } else { Vec::new() };
    let mut files = Vec::new();
    for listen in &listens {
        files.extend(listen::bind(listen, &config.server, &mut listeners, beside)?);
    }
    let http = config.server.http.as_ref().map(|http| crate::metrics::bind(http, beside)).transpose()?;
    let mut inboxes = Vec::new();
    let mut receivers = Vec::new();
    for _ in 0..workers {
        let (sender, receiver) = mpsc::unbounded_channel();
        inboxes.push(sender);
        receivers.push(receiver);
    }
    let control = runtime().map_err(|e| format!("cannot make a runtime: {e}"))?;
    let shared = Arc::new(Shared {
        live: ArcSwap::from_pointee(Live { config, door, databases }),
        file: file.to_owned(),
        reloading: tokio::sync::Mutex::default(),
        caps,
        control: control.handle().clone(),
        periods: Mutex::default(),
        consoles: Mutex::default(),
        console_queries: AtomicU64::new(0),
        cancel_keys: CancelKeys::default(),
        ids: Arc::default(),
        clients: AtomicUsize::new(0),
        loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        inboxes: Crew(inboxes.into(), address.into()),
        stop: watch::Sender::new(Stop::No),
        started: Instant::now(),
    });

    for (database, inbox) in controls {
        shared.control.spawn(control::run(database, inbox, shared.crew()));
    }
    shared.control.spawn(count_periods(shared.clone()));
    shared.control.spawn(crate::fallback::forget_unused(shared.clone()));
    if let Some(listener) = http {
        shared.control.spawn(crate::metrics::serve(shared.clone(), listener));
    }
    let control = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control.block_on(std::future::pending::<()>()));
    let _control = control.map_err(|e| format!("cannot start a thread: {e}"))?;
    let mut threads = Vec::new();
    for (id, (own, receiver)) in listeners.into_iter().zip(receivers).enumerate() {
        let shared = shared.clone();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{id}"))
            .spawn(move || run_worker(id, &shared, own, receiver));
        threads.push(thread.map_err(|e| format!("cannot start a thread: {e}"))?);
    }
    for listen in &listens {
        tracing::info!(listen = %listen::shown(listen), workers, "serving");
    }
    if inherited > 0 {
        tracing::info!(sockets = inherited, workers, "serving on sockets that were inherited");
    }
    crate::notify::ready();
    serving();
    watch_signals(&shared);
    // Whoever is left watches in the console.
    shared.stop(Stop::Now);
    for thread in threads {
        let _ = thread.join();
    }
    drop(files);
    say_farewell(&shared);
    for database in shared.live().databases.values() {
        database.pools().iter().for_each(|pool| pool.close_idle());
    }
    tracing::info!("stopped");
    Ok(())
}

/// So that nobody who moves rows waits for this pgherd's leases to end.
fn say_farewell(shared: &Arc<Shared>) {
    let (done, wait) = std::sync::mpsc::channel();
    let databases: Vec<Arc<Database>> = shared.live().databases.values().cloned().collect();
    shared.control.spawn(async move {
        databases.iter().for_each(|database| database.leave());
        for database in &databases {
            database.left().await;
        }
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(FAREWELL);
}

fn runtime_builder() -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all();
    builder
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    runtime_builder().build()
}

/// Returns when the workers were told to end, by a signal or by the console.
fn watch_signals(shared: &Arc<Shared>) {
    let Ok(runtime) = runtime() else { return };
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit(), SignalKind::hangup()];
        let signals: Result<Vec<_>, _> = kinds.into_iter().map(signal).collect();
        let Ok([mut interrupt, mut terminate, mut quit, mut hangup]) =
            signals.map_err(drop).and_then(|s| <[_; 4]>::try_from(s).map_err(drop))
        else {
            tracing::error!("signals cannot be watched");
            return std::future::pending().await;
        };
        let mut stop = shared.stop.subscribe();
        loop {
            // A second signal does not wait.
            let gentle = match shared.live().config.server.drain {
                Drain::Transactions => Stop::Transactions,
                Drain::Clients => Stop::Alone,
            };
            let (terminated, interrupted) = match *stop.borrow_and_update() {
                Stop::No => (gentle, Stop::Transactions),
                _ => (Stop::Now, Stop::Now),
            };
            tokio::select! {
                _ = interrupt.recv() => shared.stop(interrupted),
                _ = terminate.recv() => shared.stop(terminated),
                () = out_of_time(shared) => shared.stop(Stop::Now),
                _ = quit.recv() => shared.stop(Stop::Now),
                _ = hangup.recv() => {
                    let shared = shared.clone();
                    shared.control.clone().spawn(async move {
                        if let Err(why) = crate::reload::reload(&shared).await {
                            tracing::error!("the configuration was not reloaded\n{why}");
                        }
                    });
                }
                _ = stop.changed() => {}
                () = last_client_left(shared) => return,
            }
            if *stop.borrow() != Stop::No {
                crate::notify::stopping();
            }
            match *stop.borrow() {
                Stop::No => {}
                Stop::Now => {
                    tracing::info!(clients = shared.clients.load(Ordering::Relaxed), "stopping at once");
                    return;
                }
                how => tracing::info!(?how, clients = shared.clients.load(Ordering::Relaxed), "stopping"),
            }
        }
    });
}

/// Only while pgherd stops, and only if that has a limit.
async fn out_of_time(shared: &Shared) {
    let limit = shared.live().config.server.drain_timeout;
    // Not this: match on the borrowed value. It would be locked for as long as this waits.
    let stop = *shared.stop.borrow();
    match stop {
        Stop::Alone | Stop::Transactions if !limit.is_zero() => {}
        Stop::No | Stop::Now | Stop::Alone | Stop::Transactions => return std::future::pending().await,
    }
    tokio::time::sleep(limit).await;
}

/// Only while pgherd stops.
async fn last_client_left(shared: &Shared) {
    if *shared.stop.borrow() == Stop::No {
        return std::future::pending().await;
    }
    // Whoever watches the end in the console does not put it off.
    while shared.clients.load(Ordering::Relaxed) > shared.consoles().len() {
        tokio::time::sleep(LAST_LOOK_EVERY).await;
    }
}

fn run_worker(
    id: usize,
    shared: &Arc<Shared>,
    listeners: Vec<Listener>,
    mut inbox: mpsc::UnboundedReceiver<Ask>,
) {
    // Not this: a `LocalSet` in a runtime. That is a scheduler in a scheduler: each wait would poll what is below as well.
    let runtime = match runtime_builder().build_local(Default::default()) {
        Ok(runtime) => runtime,
        Err(e) => {
            tracing::error!(error = %e, "a worker cannot start");
            return;
        }
    };
    let worker = Worker::new(id, shared.ids.clone());
    runtime.block_on(async {
        for listener in listeners {
            let (shared, worker, stop) = (shared.clone(), worker.clone(), shared.stop.subscribe());
            tokio::task::spawn_local(listen::accept(listener, stop, move |stream, ends| {
                place(&shared, &worker, stream, ends);
            }));
        }
        tokio::task::spawn_local(sweep(shared.clone(), worker.clone()));
        let mut stop = shared.stop.subscribe();
        let mut stopping = Stop::No;
        loop {
            let alone = async {
                match stopping {
                    Stop::No => std::future::pending().await,
                    _ => tokio::time::sleep(LAST_LOOK_EVERY).await,
                }
            };
            tokio::select! {
                _ = stop.changed() => {
                    stopping = *stop.borrow_and_update();
                    match stopping {
                        Stop::No | Stop::Alone => {}
                        Stop::Transactions => worker.roster.tell_all(Order::Leave),
                        Stop::Now => {
                            worker.roster.tell_all(Order::End(Why::Operator));
                            let all_left = async {
                                while shared.loads[id].load(Ordering::Relaxed) > 0 {
                                    tokio::time::sleep(LAST_LOOK_EVERY).await;
                                }
                            };
                            let _ = tokio::time::timeout(LAST_WORDS, all_left).await;
                            break;
                        }
                    }
                }
                // Another worker may still hand one over as long as anybody is left.
                () = alone => if shared.clients.load(Ordering::Relaxed) == 0 { break },
                asked = inbox.recv() => match asked {
                    None => break,
                    Some(Ask::Serve(detached, ends)) => match Stream::attach(detached) {
                        Ok(stream) => start_client(shared, &worker, stream, ends),
                        Err(e) => {
                            tracing::warn!(error = %e, "a client could not be handed over");
                            forget_client(shared, id);
                        }
                    },
                    Some(Ask::Follow) => {
                        worker.roster.tell(Order::Leave, |card| {
                            matches!(card.pools.borrow().successor(), Some(None))
                        });
                        worker.roster.wake();
                    }
                    Some(Ask::Entries(answer)) => drop(answer.send(worker.roster.entries())),
                    Some(Ask::InTheWay(database, holds, answer)) => {
                        let _ = answer.send(worker.roster.in_the_way(database, &holds));
                    }
                    Some(Ask::Tell(order, whom, answer)) => {
                        let _ = answer.send(worker.roster.tell(order, |card| whom.means(card)));
                    }
                }
            }
        }
    });
}

async fn sweep(shared: Arc<Shared>, worker: Rc<Worker>) {
    let mut tick = tokio::time::interval(SWEEP_EVERY / TIME_CHECKS);
    let mut checks = 0;
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        checks += 1;
        // Who has no limits is not looked at: there may be many.
        if shared.live.load().has_time_limits() {
            worker.roster.keep_time();
        }
        if checks % TIME_CHECKS == 0 {
            if let Some(asker) = &shared.live().door.query {
                asker.sweep(worker.id);
            }
            for database in shared.live().databases.values() {
                database.users().values().flat_map(|user| user.all()).for_each(|pool| pool.sweep(worker.id));
            }
        }
    }
}

/// Gives a new client to the worker with the fewest.
fn place(shared: &Arc<Shared>, worker: &Rc<Worker>, stream: Stream, ends: Ends) {
    let own = shared.loads[worker.id].load(Ordering::Relaxed);
    let least = shared.loads.iter().enumerate().min_by_key(|(_, load)| load.load(Ordering::Relaxed));
    let target = match least {
        Some((id, load)) if load.load(Ordering::Relaxed) < own => id,
        _ => worker.id,
    };
    shared.loads[target].fetch_add(1, Ordering::Relaxed);
    shared.clients.fetch_add(1, Ordering::Relaxed);
    if target == worker.id {
        start_client(shared, worker, stream, ends);
        return;
    }
    match stream.detach() {
        Ok(detached) => {
            if shared.inboxes.0[target].send(Ask::Serve(detached, ends)).is_err() {
                forget_client(shared, target);
            }
        }
        Err(_) => forget_client(shared, target),
    }
}

fn forget_client(shared: &Shared, worker: usize) {
    shared.loads[worker].fetch_sub(1, Ordering::Relaxed);
    shared.clients.fetch_sub(1, Ordering::Relaxed);
}

fn start_client(shared: &Arc<Shared>, worker: &Rc<Worker>, stream: Stream, ends: Ends) {
    let counted = Counted(shared.clone(), worker.id);
    // Boxed, and made out here: its buffers live only as long as the handshake, and the task of a client that was let in keeps
    // no room for what that began with.
    let greeting = Box::pin(greet(shared.clone(), worker.clone(), stream, ends));
    tokio::task::spawn_local(async move {
        let session = greeting.await;
        if let Some((session, process, enrolled)) = session {
            session.run().await;
            counted.0.cancel_keys.remove(process);
            drop(enrolled);
        }
        drop(counted);
    });
}

struct Counted(Arc<Shared>, usize);

impl Drop for Counted {
    fn drop(&mut self) {
        forget_client(&self.0, self.1);
    }
}

/// A session, the number in its cancel key, and its place on the roster.
type Begun = (Box<Session>, u32, Enrolled);

/// The handshake, in its time. `None`: it did not become a session.
async fn greet(shared: Arc<Shared>, worker: Rc<Worker>, stream: Stream, mut ends: Ends) -> Option<Begun> {
    let (shared, worker) = (&shared, &worker);
    let live = shared.live();
    let deadline = tokio::time::Instant::now() + live.config.server.login_timeout;
    let opened = handshake::open(stream, live.door.tls.as_ref());
    let (stream, refused) = match tokio::time::timeout_at(deadline, opened).await.ok()? {
        Err((stream, refused)) => (stream, refused),
        Ok((mut stream, opening)) => {
            ends.tls = stream.tls().map_or("", |tls| tls.agreed());
            let admission = admit(shared, &live, worker, &mut stream, opening);
            match tokio::time::timeout_at(deadline, admission).await.ok()? {
                Ok(Admission::Done) => return None,
                Ok(Admission::Console { access, mut startup }) => {
                    let entry = console_entry(&startup, ends);
                    Box::pin(crate::console::serve(shared, stream, startup.take_rest(), access, entry)).await;
                    return None;
                }
                Ok(Admission::Replication(kind, shard, admitted)) => {
                    Box::pin(replicate(shared, worker, stream, ends, admitted, kind, shard)).await;
                    return None;
                }
                Ok(Admission::Session(admitted)) => {
                    return begin(shared, worker, stream, ends, admitted).await;
                }
                Err(refused) => (Some(stream), refused),
            }
        }
    };
    if let (Refused::Said(report), Some(mut stream)) = (refused, stream) {
        let peer = ends.peer.map_or_else(|| "[local]".into(), |peer| peer.ip().to_canonical().to_string());
        tracing::info!(peer, sqlstate = %report.sqlstate, why = %report.message, "a client was refused");
        let mut out = Vec::new();
        report.write(&mut out);
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&out)).await;
    }
    None
}

/// How a handshake ended.
enum Admission {
    /// It was a cancel request.
    Done,
    Console {
        access: crate::console::Access,
        startup: handshake::Startup,
    },
    Session(Admitted),
    Replication(Replication, ShardId, Admitted),
}

fn console_entry(startup: &handshake::Startup, ends: Ends) -> Entry {
    Entry {
        id: crate::roster::next_id(),
        user: startup.user().to_owned(),
        database: startup.database().to_owned(),
        ends,
        connected: SystemTime::now(),
        phase: Phase::Running,
        since: Instant::now(),
        server: 0,
        statements: 0,
        pinned: None,
        walsender: None,
        application_name: startup.get("application_name").unwrap_or_default().to_owned(),
    }
}

struct Admitted {
    db: Arc<Database>,
    pools: Arc<crate::database::UserPools>,
    settings: Arc<settings::Settings>,
    rest: Vec<u8>,
    /// The client's protocol is 3.2 or newer.
    long_keys: bool,
}

async fn admit(
    shared: &Arc<Shared>,
    live: &Live,
    worker: &Rc<Worker>,
    stream: &mut Stream,
    opening: Opening,
) -> Result<Admission, Refused> {
    let startup = match opening {
        Opening::Cancel(key) => {
            if let Some(entry) = shared.cancel_keys.find(key) {
                entry.cancel().await;
            }
            return Ok(Admission::Done);
        }
        Opening::Session(startup) => startup,
    };
    if *shared.stop.borrow() != Stop::No && *shared.stop.borrow() != Stop::Alone {
        return Err(Refused::Said(Report::fatal("57P03", "the database system is shutting down")));
    }
    if shared.clients.load(Ordering::Relaxed) > live.config.server.max_clients {
        return Err(Refused::Said(
            Report::fatal("53300", "sorry, too many clients already")
                .hint("The limit is server.max_clients in pgherd's configuration."),
        ));
    }
    handshake::negotiate(stream, &startup).await?;
    let user = startup.user().to_owned();
    if crate::console::is_the_same_user(stream, &user, startup.database()) {
        return Ok(Admission::Console { access: crate::console::Access::All, startup });
    }
    let (mut authenticated, account) = live.door.admit(stream, startup, worker.id).await?;
    let keys = authenticated.keys.take();
    let startup = &mut authenticated.startup;
    let database = startup.database().to_owned();
    if crate::console::NAMES.contains(&database.as_str()) {
        let access = crate::console::access(live, &user, &database).map_err(Refused::Said)?;
        return Ok(Admission::Console { access, startup: authenticated.startup });
    }
    let replication = startup.get("replication").map_or(Ok(None), Replication::wanted);
    let replication = replication.map_err(Refused::Said)?;
    let database = match replication {
        Some(kind) => {
            replication::database_of(kind, live, database, &settings::from_startup(startup.parameters()))
        }
        None => database,
    };
    let db = match live.databases.get(&database).cloned() {
        None if live.config.fallback.is_some() => {
            crate::fallback::make(shared, &database).await.map_err(Refused::Said)?
        }
        found => found,
    };
    let db = db.ok_or_else(|| {
        Refused::Said(Report::fatal("3D000", format!("database \"{database}\" does not exist")))
    })?;
    let newest = shared.live();
    let live = &*newest;
    let own = live.door.account(&user).is_some_and(|own| own.has_secret() || !account.has_secret());
    let pools = match db.user(&user) {
        Some(pools) if own => pools,
        // With the secret that a server gave.
        _ => {
            // The pool's limits may be newer than the database is.
            let config = live.config.databases.iter().find(|config| config.name == database);
            db.guest(config.unwrap_or(&db.config), &user, &account).map_err(Refused::Said)?
        }
    };
    if let Some(keys) = keys
        && account.passes_through()
        && db.config.login.is_none()
    {
        pools.prove(keys);
    }
    if db.is_disabled() {
        return Err(Refused::Said(Report::fatal("57P03", format!("database \"{database}\" is disabled"))));
    }
    within_limits(live, &db, &user).map_err(Refused::Said)?;
    db.wait_ready(pools.settings.checkout_timeout).await.map_err(Refused::Said)?;
    let settings = settings::from_startup(startup.parameters());
    if db.sharded
        && let Some(settings::Value::Raw(encoding)) = settings.get("client_encoding")
    {
        return Err(Refused::Said(
            Report::fatal(
                "0A000",
                format!("client_encoding \"{encoding}\" is not supported on a sharded database"),
            )
            .detail("Keys are hashed as UTF-8, so statements must come in UTF-8.")
            .hint("Set client_encoding to UTF8."),
        ));
    }
    if let Some(kind) = replication {
        let shard = replication::server_of(&db, &settings).map_err(Refused::Said)?;
        let rest = startup.take_rest();
        let long_keys = startup.spoken_minor() >= 2;
        let admitted = Admitted { db, pools, settings, rest, long_keys };
        return Ok(Admission::Replication(kind, shard, admitted));
    }
    if pools.told().is_none() {
        if db.is_paused() {
            db.resumed().await;
        }
        let told = learn_parameters(worker, &db, &pools).await.map_err(Refused::Said)?;
        pools.set_told(told);
    }
    let rest = startup.take_rest();
    let long_keys = startup.spoken_minor() >= 2;
    Ok(Admission::Session(Admitted { db, pools, settings, rest, long_keys }))
}

/// Serves a replication connection to its end.
async fn replicate(
    shared: &Arc<Shared>,
    worker: &Rc<Worker>,
    mut stream: Stream,
    ends: Ends,
    admitted: Admitted,
    kind: Replication,
    shard: ShardId,
) {
    let Admitted { db, pools, settings, rest, long_keys } = admitted;
    if db.is_paused() {
        db.resumed().await;
    }
    let cancel = Arc::new(CancelEntry::default());
    let enrolled = worker.roster.enter(ends, pools.clone(), settings.clone(), cancel.clone());
    match replication::link(kind, &pools, shard, &settings, &cancel).await {
        Ok(linked) => {
            let key = shared.cancel_keys.register(cancel, long_keys);
            replication::serve(stream, linked, kind, key, &rest, &enrolled.card, worker.id).await;
            shared.cancel_keys.remove(key.process);
        }
        Err(report) => {
            let mut out = Vec::new();
            report.write(&mut out);
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&out)).await;
        }
    }
}

/// Whether the user and the database have room for one more client, in PostgreSQL's words. Two who come at once may both
/// get the last place.
fn within_limits(live: &Live, db: &Database, user: &str) -> Result<(), Report> {
    let clients = |pools: &Arc<UserPools>| pools.stats.clients.load(Ordering::Relaxed);
    let limit = live.config.databases.iter().find(|d| d.name == db.name).map_or(0, |d| d.max_clients);
    if limit > 0 && db.users().values().map(clients).sum::<usize>() >= limit {
        return Err(Report::fatal("53300", format!("too many connections for database \"{}\"", db.name))
            .hint("The limit is max_clients of the database in pgherd's configuration."));
    }
    let guests = live.config.server.max_clients_per_user;
    let limit = live.config.users.iter().find(|u| u.name == user).map_or(guests, |u| u.max_clients);
    if limit > 0 {
        let of_user = live.databases.values().filter_map(|d| d.user(user)).map(|pools| clients(&pools));
        if of_user.sum::<usize>() >= limit {
            return Err(Report::fatal("53300", format!("too many connections for role \"{user}\""))
                .hint("The limit is max_clients of the user in pgherd's configuration."));
        }
    }
    Ok(())
}

/// What a fresh server connection of this user reports: asked of a server once.
async fn learn_parameters(
    worker: &Rc<Worker>,
    db: &Database,
    pools: &crate::database::UserPools,
) -> Result<Arc<crate::session::client::Told>, Report> {
    let mut last = None;
    // Any shard will do when the first is away.
    for (shard, pool) in pools.all().iter().enumerate() {
        match pool.checkout(worker.id).await {
            Ok(mut server) => {
                let isolation = default_isolation(&mut server.stream).await;
                let isolation =
                    isolation.ok_or_else(|| Report::fatal("08006", "a server was lost during the login"))?;
                pools.set_default_isolation(isolation);
                let told = server.parameters.iter().map(|(n, v)| (n.into(), v.into())).collect();
                pool.checkin(worker.id, server);
                return Ok(Arc::new(told));
            }
            Err(e) => {
                let mut report = e.report();
                report.severity = "FATAL".into();
                report.raw = None;
                if db.sharded {
                    let name = &db.config.shards[shard].name;
                    report.detail = Some(format!("Shard \"{name}\". {}", report.detail.unwrap_or_default()));
                }
                last = Some(report);
            }
        }
    }
    Err(last.unwrap_or_else(|| Report::fatal("XX000", "the database has no shard")))
}

/// What a transaction's isolation level is on this server when nobody says. The connection is fresh or idle, and idle again afterwards.
async fn default_isolation(stream: &mut Stream) -> Option<String> {
    let mut out = Vec::new();
    message::query(&mut out, "SHOW default_transaction_isolation");
    stream.write_all(&out).await.ok()?;
    let (mut buffer, mut level) = (Vec::new(), None);
    loop {
        while let Some(head) = frame::header(&buffer).ok()?.filter(|head| buffer.len() >= head.total()) {
            let body = &buffer[frame::HEADER_BYTES..head.total()];
            if head.kind == b'D' {
                let mut values = Vec::new();
                message::read_data_row(body, &mut values).ok()?;
                level = Some(String::from_utf8_lossy(values.first().copied().flatten()?).into_owned());
            } else if head.kind == b'Z' {
                return level;
            }
            buffer.drain(..head.total());
        }
        let mut some = [0; 1024];
        let n = stream.read(&mut some).await.ok()?;
        if n == 0 || buffer.len() > 64 * 1024 {
            return None;
        }
        buffer.extend_from_slice(&some[..n]);
    }
}

/// The session begins: what the client set at startup is checked, then it is welcomed.
async fn begin(
    shared: &Arc<Shared>,
    worker: &Rc<Worker>,
    stream: Stream,
    ends: Ends,
    admitted: Admitted,
) -> Option<Begun> {
    let Admitted { db, pools, settings, rest, long_keys } = admitted;
    let cancel = Arc::new(CancelEntry::default());
    let told = pools.told()?;
    let mut client = Client::new(stream, told);
    client.preload(&rest);
    let enrolled = worker.roster.enter(ends, pools.clone(), settings.clone(), cancel.clone());
    let session = Session::new(worker.clone(), db, pools, client, settings, enrolled.card.clone());
    let mut session = Box::new(session);
    let timeout = shared.live.load().config.server.login_timeout;
    match tokio::time::timeout(timeout, session.accept_settings()).await {
        Ok(Ok(welcome)) => {
            let key = shared.cancel_keys.register(cancel, long_keys);
            session.welcome(&welcome, key).await;
            Some((session, key.process, enrolled))
        }
        Ok(Err(report)) => {
            let mut out = Vec::new();
            Report { severity: "FATAL".into(), raw: None, ..report }.write(&mut out);
            session.last_words(&out).await;
            None
        }
        Err(_) => None,
    }
}
