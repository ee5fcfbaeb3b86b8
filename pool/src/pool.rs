//! Lending server connections to clients, one transaction at a time, over all workers.
//!
//! Invariant: while a client waits in the queue, no connection is idle, and either every place is taken
//! or somebody is opening a connection. From this follow fairness (a newcomer finds nothing to
//! overtake with) and that no wake-up is lost.
//!
//! How it is kept:
//! - A client queues under the `shared` lock, and only after it announced itself in `waiting` and then
//!   found every idle list empty. A checkin looks at `waiting` while it holds the lock of the list it
//!   would push to. Whichever of the two came first at that list, the other one sees it.
//! - A waiter is taken from the queue under the `shared` lock by whoever has something for it. If it is
//!   gone by then, the channel gives the thing back, and the next one is tried.
//! - A waiter that leaves closes its channel first and then looks what is in it: what was granted in
//!   that moment is handed in again.
//! - Connections are opened by tasks of their own ([`Opening`]), never by a client: a client that
//!   disappears or is out of time does not waste a login, and a queue served by returned connections
//!   does not wait for a server that is down. A task that ends, however it ends, frees its place, and a
//!   freed place starts the next task if clients wait.
//!
//! Locks: `shared`, then one idle list; never the other way, and never while a [`Server`] is dropped
//! (a drop takes `shared`).
//!
//! A pool may share bounds with others: see `cap`.
//!
//! Limits: `size` places, `waiting_max` waiters; while a server cannot be reached, one attempt at a time,
//! [`BACKOFF_MIN`] to [`BACKOFF_MAX`] apart.
//!
//! Start reading at [`Pool::checkout`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cancel::{CancelHandle, Revoked, Trace};
use crate::cap::{Cap, Member, Taken};
use crate::connect::{self, Target};
use crate::error::{CheckoutError, ConnectError};
use crate::lock;
use crate::server::{Listed, Place, Places, Server};

/// A connection goes to a waiter of another worker only if it has waited this much longer than the first of the own
/// worker: waking another thread and registering the socket there costs more than a transaction.
pub const HANDOVER_AFTER: Duration = Duration::from_millis(5);

/// Between two attempts to open a connection while that fails.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Between two attempts to open what nobody waits for, while the server refuses it (a role that it does not have): each of them is
/// a line in its log.
const KEEP_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A server under cancellation is held back at most this long; then it is closed.
const PARKED_MAX: Duration = Duration::from_secs(15);

/// Another pool takes this one's place.
const RETIRED: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at most, over all workers.
    pub size: usize,
    pub checkout_timeout: Duration,
    /// For one attempt, login included.
    pub connect_timeout: Duration,
    /// Zero: never.
    pub idle_timeout: Duration,
    /// Clients that wait for a connection to come back. Those for whom one is being opened do not count.
    pub waiting_max: usize,
    /// Connections that are kept open while nobody needs them.
    pub min_size: usize,
    /// Connections beyond `size`, opened when a client has waited for `reserve_timeout`.
    pub reserve: usize,
    pub reserve_timeout: Duration,
    /// An older connection is closed when it is idle. Zero: never.
    pub lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: 20,
            checkout_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::ZERO,
            waiting_max: 10_000,
            min_size: 0,
            reserve: 0,
            reserve_timeout: Duration::from_secs(5),
            lifetime: Duration::ZERO,
        }
    }
}

impl From<&pgherd_config::model::PoolSettings> for Limits {
    fn from(settings: &pgherd_config::model::PoolSettings) -> Self {
        Self {
            size: settings.size as usize,
            checkout_timeout: settings.checkout_timeout,
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
            waiting_max: settings.waiting_max,
            min_size: settings.min_size as usize,
            reserve: settings.reserve as usize,
            reserve_timeout: settings.reserve_timeout,
            lifetime: settings.lifetime,
        }
    }
}

/// The connections of one user to one database on one server.
#[derive(Debug)]
pub struct Pool<S> {
    number: u32,
    target: Target,
    /// Read where a client waits, never on the fast path.
    limits: ArcSwap<Limits>,
    locals: Box<[Local<S>]>,
    /// Clients in the queue, and those about to look whether they must join it.
    waiting: AtomicUsize,
    /// Connections of an earlier generation are closed when they come back.
    generation: AtomicU32,
    /// [`RETIRED`], and a bit for each of the caps that presses.
    flags: Arc<AtomicU8>,
    caps: Arc<[Arc<Cap>]>,
    held: AtomicBool,
    /// Whether `shared.failing` is set, for those who only want to know that.
    unreachable: AtomicBool,
    parked: AtomicUsize,
    shared: Mutex<Shared<S>>,
}

/// What one worker has for itself; on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Local<S> {
    idle: Mutex<Idle<S>>,
}

#[derive(Debug)]
struct Idle<S> {
    /// Used last at the back.
    servers: VecDeque<Box<Server<S>>>,
    lent_total: u64,
}

#[derive(Debug)]
struct Shared<S> {
    /// Places taken: connections in any state, and those being opened.
    open: usize,
    workers: Vec<Workplace<S>>,
    queued: usize,
    opening: usize,
    failing: Option<Failing>,
    next_seniority: u64,
    next_server: u64,
    next_opening: u64,
    totals: Totals,
    /// Every connection, wherever it is.
    listed: BTreeMap<u64, Listed>,
}

/// Pools are numbered, so that their connections can be told apart: see [`Server::number`].
static NEXT_POOL: AtomicU32 = AtomicU32::new(1);

#[derive(Debug)]
struct Workplace<S> {
    /// In the order of seniority.
    queue: VecDeque<Waiter<S>>,
    /// Where connections for this worker are opened. `None` before its first checkout, and when its runtime is gone.
    handle: Option<Handle>,
    opening: usize,
}

#[derive(Debug)]
struct Waiter<S> {
    /// Smaller has waited longer.
    seniority: u64,
    since: Instant,
    offer: oneshot::Sender<Offer<S>>,
}

/// Boxed: a server goes from hand to hand, and is large.
type Offer<S> = Result<Box<Server<S>>, ConnectError>;

/// The last attempt to open a connection failed.
#[derive(Debug)]
struct Failing {
    last: ConnectError,
    delay: Duration,
    /// No attempt before this.
    until: Instant,
    /// The task that has the one attempt at a time.
    prober: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    opened: u64,
    open_failed: u64,
    waited: u64,
    waited_for: Duration,
    handed_over: u64,
    timed_out: u64,
    refused: u64,
}

/// Counts for the console and for metrics. Taken one after the other: exact only at rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    pub size: usize,
    /// Places taken: the sum of the next four.
    pub open: usize,
    pub idle: usize,
    pub lent: usize,
    pub opening: usize,
    /// Held back because a cancel may still hit them.
    pub parked: usize,
    pub waiting: usize,
    /// How long the first in the queue has waited.
    pub waiting_longest: Duration,
    /// Why no connection can be opened at the moment.
    pub failing: Option<ConnectError>,
    pub lent_total: u64,
    pub opened_total: u64,
    pub open_failed_total: u64,
    /// Checkouts that had to wait, and for how long together.
    pub waited_total: u64,
    pub waited_for: Duration,
    /// Connections that moved to another worker.
    pub handed_over_total: u64,
    pub timed_out_total: u64,
    /// Too many waited already.
    pub refused_total: u64,
}

impl<S: Default + Send + 'static> Pool<S> {
    /// Opens nothing yet.
    pub fn new(target: Target, limits: Limits, workers: usize) -> Arc<Self> {
        Self::under(Vec::new(), target, limits, workers)
    }

    /// A pool whose connections count in `caps` as well, of which there are few.
    pub fn under(caps: Vec<Arc<Cap>>, target: Target, limits: Limits, workers: usize) -> Arc<Self> {
        let local = |_| Local { idle: Mutex::new(Idle { servers: VecDeque::new(), lent_total: 0 }) };
        let workplace = |_| Workplace { queue: VecDeque::new(), handle: None, opening: 0 };
        let pool = Arc::new(Self {
            number: NEXT_POOL.fetch_add(1, Ordering::Relaxed),
            target,
            limits: ArcSwap::from_pointee(Limits { size: limits.size.max(1), ..limits }),
            locals: (0..workers).map(local).collect(),
            waiting: AtomicUsize::new(0),
            generation: AtomicU32::new(0),
            flags: Arc::default(),
            caps: caps.into(),
            held: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
            shared: Mutex::new(Shared {
                open: 0,
                workers: (0..workers).map(workplace).collect(),
                queued: 0,
                opening: 0,
                failing: None,
                next_seniority: 0,
                next_server: 0,
                next_opening: 0,
                totals: Totals::default(),
                listed: BTreeMap::new(),
            }),
        });
        for (index, cap) in pool.caps.iter().enumerate() {
            cap.join(&pool.flags, RETIRED << (index + 1), Arc::downgrade(&pool) as Weak<dyn Member>);
        }
        pool
    }

    /// Lends a connection on the calling worker's runtime: an own idle one, else that of another worker, else a new
    /// one, else the first that comes back, first come first served.
    ///
    /// # Cancel safety
    /// Safe. A dropped caller leaves the queue; a connection already granted goes to the next waiter.
    pub async fn checkout(self: &Arc<Self>, worker: usize) -> Result<Box<Server<S>>, CheckoutError> {
        match self.try_checkout(worker) {
            Some(server) => Ok(server),
            // Boxed: the memory of a client that does not wait is not there for those that do.
            None => Box::pin(self.wait(worker)).await,
        }
    }

    /// The fast path of [`Self::checkout`]: an own idle connection, or nothing. Nobody is overtaken: while a client
    /// waits, none is idle.
    pub fn try_checkout(self: &Arc<Self>, worker: usize) -> Option<Box<Server<S>>> {
        loop {
            let mut server = {
                let mut idle = lock(&self.locals[worker].idle);
                let server = idle.servers.pop_back()?;
                idle.lent_total += 1;
                server
            };
            if server.generation == self.generation.load(Ordering::Relaxed) && server.is_fit() {
                return Some(server);
            }
            // Closed silently: the server restarted, or its idle_session_timeout came first.
            lock(&self.locals[worker].idle).lent_total -= 1;
            drop(server);
        }
    }

    /// Back to the pool: the caller promises that the server is idle, outside a transaction, with no reply owed, and
    /// that `worker` is where it was checked out.
    pub fn checkin(self: &Arc<Self>, worker: usize, mut server: Box<Server<S>>) {
        debug_assert_eq!(worker, server.worker, "checked in where it was not checked out");
        if !server.place.belongs_to(self) {
            // A mistake of ours, and not one that a client should pay for: the server goes.
            tracing::error!(
                server = server.id(),
                "connection handed in to a pool that it does not belong to"
            );
            return;
        }
        match CancelHandle::revoke(&mut server.cancel) {
            Revoked::Untouched => self.hand_in(server),
            Revoked::Touched(cancel) => self.park(server, cancel),
        }
    }

    /// Closes what was idle for `idle_timeout`, what is older than `lifetime`, and what died while idle; opens what is
    /// missing to `min_size`, and the reserve for those who have waited too long. To be called about once a second, by each
    /// worker for itself.
    pub fn sweep(self: &Arc<Self>, worker: usize) {
        let now = Instant::now();
        let limits = self.limits.load();
        let (open, relaxed) = {
            let shared = lock(&self.shared);
            (shared.open, shared.queued == 0)
        };
        // Of a larger size, or of the reserve.
        let mut surplus = if relaxed { open.saturating_sub(limits.size) } else { 0 };
        let mut spare = self.is_kept().then(|| open.saturating_sub(limits.min_size));
        let mut closing = Vec::new();
        {
            let mut idle = lock(&self.locals[worker].idle);
            let mut at = 0;
            while let Some(server) = idle.servers.get_mut(at) {
                let since = *server.idle_seen.get_or_insert(now);
                let mut expired = !limits.idle_timeout.is_zero() && now - since >= limits.idle_timeout;
                if expired && let Some(spare) = &mut spare {
                    expired = *spare > 0;
                    *spare = spare.saturating_sub(usize::from(expired));
                }
                expired |= !limits.lifetime.is_zero() && now - server.opened >= limits.lifetime;
                if surplus > 0 {
                    surplus -= 1;
                    expired = true;
                }
                if expired || !server.is_fit() {
                    closing.extend(idle.servers.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        closing.into_iter().for_each(Server::terminate);
        if self.is_kept() {
            self.open_to_keep(worker, limits.min_size);
        }
        if limits.reserve > 0 && self.waiting.load(Ordering::Relaxed) > 0 {
            self.open_for_waiters();
        }
        if !self.keeps_freely() {
            self.caps.iter().for_each(|cap| cap.serve());
        }
    }

    /// Whether connections are kept open for nobody yet.
    fn is_kept(&self) -> bool {
        self.limits.load().min_size > 0 && !self.is_retired() && !self.held.load(Ordering::Relaxed)
    }

    /// One at a time: this is not urgent.
    fn open_to_keep(self: &Arc<Self>, worker: usize, min_size: usize) {
        let Ok(runtime) = Handle::try_current() else { return };
        {
            let mut shared = lock(&self.shared);
            let due = shared.failing.as_ref().is_none_or(|failing| {
                let pause = if failing.last.is_passing() { Duration::ZERO } else { KEEP_AGAIN_AFTER };
                failing.prober.is_none() && Instant::now() >= failing.until + pause
            });
            if shared.open >= min_size || shared.opening > 0 || !due {
                return;
            }
            shared.workers[worker].handle = Some(runtime.clone());
        }
        let limits = self.limits.load();
        match self.take_place(&limits, Some(worker)) {
            Ok(Some((_, mut opening))) => {
                opening.for_keeping = true;
                runtime.spawn(opening.run());
            }
            Ok(None) => {}
            Err(_) => self.caps.iter().for_each(|cap| cap.serve()),
        }
    }

    /// Opens nothing to keep while held: somebody wants the server to be left alone.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// Every connection at this moment, in the order in which they were opened.
    pub fn servers(&self) -> Vec<Listed> {
        let mut idle = std::collections::HashSet::new();
        for local in &self.locals {
            idle.extend(lock(&local.idle).servers.iter().map(|server| server.id()));
        }
        let generation = self.generation.load(Ordering::Relaxed);
        let mut listed: Vec<_> = lock(&self.shared).listed.values().cloned().collect();
        for server in &mut listed {
            server.idle = idle.contains(&server.id);
            server.stale = server.generation != generation;
        }
        listed
    }

    /// Closes all idle connections, of all workers. Lent ones stay.
    pub fn close_idle(&self) {
        for local in &self.locals {
            let closing = std::mem::take(&mut lock(&local.idle).servers);
            closing.into_iter().for_each(Server::terminate);
        }
    }

    /// Lends no connection again that is open now: idle ones are closed at once, lent ones when they come back.
    pub fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.close_idle();
    }

    /// Another pool takes this one's place: still serves whoever waits here or asks, but keeps nothing idle.
    pub fn retire(&self) {
        self.flags.fetch_or(RETIRED, Ordering::SeqCst);
        self.close_idle();
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The last attempt to open a connection failed. A hint: whoever may choose another server should.
    pub fn unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// In force from now on, for those who wait already not before they ask again. Connections beyond a smaller `size` are
    /// closed when they come back.
    pub fn set_limits(self: &Arc<Self>, limits: Limits) {
        self.limits.store(Arc::new(Limits { size: limits.size.max(1), ..limits }));
        let surplus = {
            let shared = lock(&self.shared);
            shared.open.saturating_sub(self.limits.load().size)
        };
        let mut closing = Vec::new();
        for local in &self.locals {
            let mut idle = lock(&local.idle);
            while closing.len() < surplus
                && let Some(server) = idle.servers.pop_front()
            {
                closing.push(server);
            }
        }
        closing.into_iter().for_each(Server::terminate);
        self.open_for_waiters();
    }

    pub fn status(&self) -> Status {
        let (mut idle, mut lent_total) = (0, 0);
        for local in &self.locals {
            let local = lock(&local.idle);
            idle += local.servers.len();
            lent_total += local.lent_total;
        }
        let parked = self.parked.load(Ordering::Relaxed);
        let shared = lock(&self.shared);
        let oldest = shared.workers.iter().filter_map(|w| w.queue.front()).map(|w| w.since).min();
        Status {
            size: self.limits.load().size,
            open: shared.open,
            idle,
            lent: shared.open.saturating_sub(idle + shared.opening + parked),
            opening: shared.opening,
            parked,
            waiting: shared.queued,
            waiting_longest: oldest.map(|since| since.elapsed()).unwrap_or_default(),
            failing: shared.failing.as_ref().map(|failing| failing.last.clone()),
            lent_total,
            opened_total: shared.totals.opened,
            open_failed_total: shared.totals.open_failed,
            waited_total: shared.totals.waited,
            waited_for: shared.totals.waited_for,
            handed_over_total: shared.totals.handed_over,
            timed_out_total: shared.totals.timed_out,
            refused_total: shared.totals.refused,
        }
    }

    /// The slow path of [`Self::checkout`].
    async fn wait(self: &Arc<Self>, worker: usize) -> Result<Box<Server<S>>, CheckoutError> {
        let since = Instant::now();
        let deadline = since + self.limits.load().checkout_timeout;
        let mut seniority = None;
        loop {
            let server = match self.ask(worker, since, &mut seniority)? {
                Asked::Lent(server) => server,
                Asked::Queued(mut waiting, opens) => {
                    if opens {
                        self.open_for_waiters();
                    }
                    match tokio::time::timeout_at(deadline, &mut waiting.offer).await {
                        Ok(Ok(offer)) => {
                            waiting.left = true;
                            self.note_waited(since);
                            offer?
                        }
                        // Nobody drops the other end without an offer; if somebody did, we ask again.
                        Ok(Err(_)) => continue,
                        Err(_) => {
                            drop(waiting);
                            return Err(self.out_of_time());
                        }
                    }
                }
            };
            let moved = server.worker != worker;
            // A connection may have died while it was idle elsewhere, or on its way. Then this client asks again, with
            // the seniority it has.
            let Some(mut server) = server.move_to(worker) else { continue };
            if server.generation != self.generation.load(Ordering::Relaxed) || !server.is_fit() {
                continue;
            }
            lock(&self.locals[worker].idle).lent_total += 1;
            if moved {
                lock(&self.shared).totals.handed_over += 1;
            }
            return Ok(server);
        }
    }

    /// An idle connection of any worker, or a place in the queue.
    fn ask(
        self: &Arc<Self>,
        worker: usize,
        since: Instant,
        seniority: &mut Option<u64>,
    ) -> Result<Asked<'_, S>, CheckoutError> {
        let limits = self.limits.load();
        let mut shared = lock(&self.shared);
        if let Ok(handle) = Handle::try_current() {
            shared.workers[worker].handle = Some(handle);
        }
        // Announced before the lists are looked at: see the invariant.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if shared.queued == 0
            && let Some(server) = self.take_idle(worker)
        {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Ok(Asked::Lent(server));
        }
        let served = shared.opening + usize::from(shared.may_open(&limits));
        if seniority.is_none() && shared.queued >= limits.waiting_max.saturating_add(served) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            shared.totals.refused += 1;
            return Err(CheckoutError::TooManyWaiting { limit: limits.waiting_max });
        }
        let seniority = *seniority.get_or_insert_with(|| {
            shared.next_seniority += 1;
            shared.next_seniority
        });
        let (offer, receiver) = oneshot::channel();
        shared.enqueue(worker, Waiter { seniority, since, offer });
        let opens = shared.may_open(&limits);
        Ok(Asked::Queued(Waiting { pool: self, worker, seniority, offer: receiver, left: false }, opens))
    }

    /// The own worker's warmest idle connection, or another worker's coldest.
    fn take_idle(&self, worker: usize) -> Option<Box<Server<S>>> {
        let own = lock(&self.locals[worker].idle).servers.pop_back();
        own.or_else(|| {
            let others = (1..self.locals.len()).map(|n| (worker + n) % self.locals.len());
            others.into_iter().find_map(|w| lock(&self.locals[w].idle).servers.pop_front())
        })
    }

    /// Gives a connection to the next waiter, or puts it on the idle list of the worker it is registered with.
    fn hand_in(self: &Arc<Self>, mut server: Box<Server<S>>) {
        let worker = server.worker;
        server.idle_seen = None;
        if server.generation != self.generation.load(Ordering::Relaxed) {
            return server.terminate();
        }
        {
            let mut idle = lock(&self.locals[worker].idle);
            if self.waiting.load(Ordering::SeqCst) == 0 && self.keeps_freely() {
                idle.servers.push_back(server);
                return;
            }
        }
        if self.gives_way() {
            return server.terminate();
        }
        let limits = self.limits.load();
        if !limits.lifetime.is_zero() && server.opened.elapsed() >= limits.lifetime {
            // So many clients that it is never idle: its place starts another one for the first of them.
            return server.terminate();
        }
        loop {
            let waiter = {
                let mut shared = lock(&self.shared);
                if shared.open > limits.size + limits.reserve {
                    break;
                }
                match shared.next_waiter(worker) {
                    Some(waiter) => {
                        self.waiting.fetch_sub(1, Ordering::SeqCst);
                        waiter
                    }
                    None => {
                        // Under the `shared` lock nobody can join the queue without seeing it.
                        let mut idle = lock(&self.locals[worker].idle);
                        if self.is_retired() {
                            break;
                        }
                        idle.servers.push_back(server);
                        drop(idle);
                        drop(shared);
                        // Somebody may have come to want it since it was asked.
                        self.caps.iter().for_each(|cap| cap.serve());
                        return;
                    }
                }
            };
            match waiter.offer.send(Ok(server)) {
                Ok(()) => return,
                Err(Ok(back)) => server = back,
                Err(Err(_)) => return,
            }
        }
        server.terminate();
    }

    /// To be asked under the lock of an idle list: whoever says no there has its connection on the list before
    /// [`Self::retire`] empties it.
    fn is_retired(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & RETIRED != 0
    }

    /// As [`Self::is_retired`]: whoever finds nothing here keeps a connection that somebody then looks for.
    fn keeps_freely(&self) -> bool {
        self.flags.load(Ordering::SeqCst) == 0
    }

    /// Whether a connection that came back must go, for the sake of another pool.
    fn gives_way(&self) -> bool {
        if self.flags.load(Ordering::SeqCst) & !RETIRED == 0 {
            return false;
        }
        let own = {
            let shared = lock(&self.shared);
            shared.workers.iter().filter_map(|w| w.queue.front()).map(|w| w.since).min()
        };
        self.caps.iter().any(|cap| cap.claims(self.number, own))
    }

    /// Holds a server back until no cancel can hit it any more.
    ///
    /// Kept, not closed: clients with a statement timeout cancel in storms, when the servers are busiest, and a storm of
    /// logins is the last thing these need. It is safe because PostgreSQL closes the cancel connection after it has
    /// signalled the process, and a process that then answers a Sync has passed the place where a signal that finds
    /// nothing to cancel is forgotten. Without that proof (the cancel connection failed or took too long) it is closed.
    fn park(self: &Arc<Self>, mut server: Box<Server<S>>, cancel: Arc<CancelHandle>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let parked = Parked::count(self);
        runtime.spawn(async move {
            let settled = tokio::time::timeout(PARKED_MAX, cancel.settled()).await;
            let clean = match settled {
                Ok(Trace::Nothing) => true,
                Ok(Trace::Sent) => server.round_trip().await.is_some(),
                Ok(Trace::Unknown) | Err(_) => false,
            };
            let pool = Arc::clone(&parked.0);
            drop(parked);
            if clean {
                pool.hand_in(server);
            }
        });
    }

    /// Starts a task for each connection that should be opened.
    fn open_for_waiters(self: &Arc<Self>) {
        let limits = self.limits.load();
        loop {
            match self.take_place(&limits, None) {
                Ok(Some((runtime, opening))) => {
                    // Not under the lock: a runtime that shuts down drops the task here and now.
                    runtime.spawn(opening.run());
                }
                Ok(None) => return,
                Err((cap, since)) => {
                    if let Some(since) = since {
                        self.caps[cap].want(self.number, since, Arc::downgrade(self) as Weak<dyn Member>);
                    }
                    self.caps.iter().for_each(|cap| cap.serve());
                    return;
                }
            }
        }
    }

    /// A place for one more connection and the task to open it; `keeper`: the worker that wants it, else whoever waits.
    ///
    /// # Errors
    /// The cap that has no room, and since when a client has waited.
    fn take_place(
        self: &Arc<Self>,
        limits: &Limits,
        keeper: Option<usize>,
    ) -> Result<Option<(Handle, Opening<S>)>, (usize, Option<Instant>)> {
        let mut shared = lock(&self.shared);
        if !shared.may_open(limits) {
            return Ok(None);
        }
        let found = match keeper {
            Some(worker) => shared.workers[worker].handle.clone().map(|handle| (worker, handle, None)),
            None => shared.worker_in_need().map(|(worker, handle, since)| (worker, handle, Some(since))),
        };
        let Some((worker, runtime, since)) = found else { return Ok(None) };
        let taken = Taken::new(&self.caps, self.number, since).map_err(|cap| (cap, since))?;
        shared.open += 1;
        shared.opening += 1;
        shared.workers[worker].opening += 1;
        shared.next_opening += 1;
        let id = shared.next_opening;
        if let Some(failing) = &mut shared.failing {
            failing.prober = Some(id);
        }
        let place = Place::new(self.number, Arc::downgrade(self) as Weak<dyn Places>, taken);
        let pool = Arc::clone(self);
        Ok(Some((
            runtime,
            Opening { id, pool, worker, started: false, for_keeping: false, place: Some(place) },
        )))
    }

    fn note_waited(&self, since: Instant) {
        let mut shared = lock(&self.shared);
        shared.totals.waited += 1;
        shared.totals.waited_for += since.elapsed();
    }

    fn out_of_time(&self) -> CheckoutError {
        let mut shared = lock(&self.shared);
        shared.totals.timed_out += 1;
        match &shared.failing {
            // The reason why there was nothing to lend says more than that there was nothing.
            Some(failing) => CheckoutError::Connect(failing.last.clone()),
            None => {
                let limits = self.limits.load();
                let after = limits.checkout_timeout;
                let full = self.caps.iter().find(|cap| cap.is_full());
                match full.filter(|_| shared.open < limits.size) {
                    Some(cap) => {
                        CheckoutError::Capped { after, whose: cap.whose().to_owned(), limit: cap.limit() }
                    }
                    None => CheckoutError::TimedOut { after },
                }
            }
        }
    }
}

impl<S: Default + Send + 'static> Places for Pool<S> {
    fn free_place(self: Arc<Self>, server: u64, taken: Option<Taken>) {
        {
            let mut shared = lock(&self.shared);
            shared.open -= 1;
            shared.listed.remove(&server);
        }
        // Before the own clients: whoever has waited longest comes first.
        drop(taken);
        self.open_for_waiters();
    }
}

impl<S: Default + Send + 'static> Member for Pool<S> {
    fn needs_since(&self) -> Option<Instant> {
        let limits = self.limits.load();
        let shared = lock(&self.shared);
        shared.may_open(&limits).then(|| shared.worker_in_need().map(|(_, _, since)| since))?
    }

    fn take_places(self: Arc<Self>) {
        self.open_for_waiters();
    }

    fn idle(&self) -> usize {
        self.locals.iter().map(|local| lock(&local.idle).servers.len()).sum()
    }

    fn close_one(&self) -> bool {
        let coldest = self.locals.iter().find_map(|local| lock(&local.idle).servers.pop_front());
        coldest.map(Server::terminate).is_some()
    }
}

impl<S> Shared<S> {
    /// Whether one more connection should be opened now.
    fn may_open(&self, limits: &Limits) -> bool {
        let mut size = limits.size;
        if self.open >= size && limits.reserve > 0 {
            let oldest = self.workers.iter().filter_map(|w| w.queue.front()).map(|w| w.since).min();
            if oldest.is_some_and(|since| since.elapsed() >= limits.reserve_timeout) {
                size += limits.reserve;
            }
        }
        self.open < size && self.failing.as_ref().is_none_or(|failing| failing.prober.is_none())
    }

    /// The worker whose first waiter nobody opens a connection for, and who waits longest.
    fn worker_in_need(&self) -> Option<(usize, Handle, Instant)> {
        if self.queued <= self.opening {
            return None;
        }
        let in_need = self.workers.iter().enumerate().filter(|(_, w)| w.queue.len() > w.opening);
        let (worker, handle, waiter) = in_need
            .filter_map(|(n, w)| Some((n, w.handle.as_ref()?, w.queue.get(w.opening)?)))
            .min_by_key(|(_, _, waiter)| waiter.seniority)?;
        Some((worker, handle.clone(), waiter.since))
    }

    fn enqueue(&mut self, worker: usize, waiter: Waiter<S>) {
        let queue = &mut self.workers[worker].queue;
        let at = queue.partition_point(|other| other.seniority < waiter.seniority);
        queue.insert(at, waiter);
        self.queued += 1;
    }

    /// Who gets what `worker` has to give. The caller counts it out of `waiting`.
    fn next_waiter(&mut self, worker: usize) -> Option<Waiter<S>> {
        let own = self.workers[worker].queue.front();
        let oldest = self.oldest()?;
        let first = self.workers[oldest].queue.front()?;
        let from = match own {
            Some(own) if first.since + HANDOVER_AFTER >= own.since => worker,
            _ => oldest,
        };
        self.take_first(from)
    }

    /// The worker of the waiter that has waited longest.
    fn oldest(&self) -> Option<usize> {
        let first = |(n, w): (usize, &Workplace<S>)| Some((w.queue.front()?.seniority, n));
        self.workers.iter().enumerate().filter_map(first).min().map(|(_, worker)| worker)
    }

    fn take_first(&mut self, worker: usize) -> Option<Waiter<S>> {
        let waiter = self.workers[worker].queue.pop_front()?;
        self.queued -= 1;
        Some(waiter)
    }

    fn remove(&mut self, worker: usize, seniority: u64) -> bool {
        let queue = &mut self.workers[worker].queue;
        let found = queue.binary_search_by_key(&seniority, |waiter| waiter.seniority);
        if let Ok(at) = found {
            queue.remove(at);
            self.queued -= 1;
        }
        found.is_ok()
    }
}

enum Asked<'a, S: Default + Send + 'static> {
    Lent(Box<Server<S>>),
    /// `true`: another connection may be opened.
    Queued(Waiting<'a, S>, bool),
}

/// A place in the queue; given up on drop.
struct Waiting<'a, S: Default + Send + 'static> {
    pool: &'a Arc<Pool<S>>,
    worker: usize,
    seniority: u64,
    offer: oneshot::Receiver<Offer<S>>,
    /// The offer was taken.
    left: bool,
}

impl<S: Default + Send + 'static> Drop for Waiting<'_, S> {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        // Closed first: from here on an offer goes back to whoever makes it. One made before is in the channel.
        self.offer.close();
        if lock(&self.pool.shared).remove(self.worker, self.seniority) {
            self.pool.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        if let Ok(Ok(server)) = self.offer.try_recv() {
            self.pool.hand_in(server);
        }
    }
}

/// One connection on its way, and what is counted for it.
struct Opening<S: Default + Send + 'static> {
    id: u64,
    pool: Arc<Pool<S>>,
    worker: usize,
    started: bool,
    /// Opened for nobody yet, see [`Limits::min_size`].
    for_keeping: bool,
    /// `None` once it belongs to a connection.
    place: Option<Place>,
}

/// What a task does after its attempt failed.
enum Next {
    Again,
    Leave,
}

impl<S: Default + Send + 'static> Opening<S> {
    async fn run(mut self) {
        self.started = true;
        let pool = Arc::clone(&self.pool);
        loop {
            let Some(latest) = self.turn().await else { return };
            let connect_timeout = pool.limits.load().connect_timeout;
            match connect::login(&pool.target, connect_timeout).await {
                Ok(login) => {
                    let server = self.succeed(login);
                    drop(self);
                    let limits = pool.limits.load();
                    let surplus = lock(&pool.shared).open > limits.size + limits.reserve;
                    if surplus {
                        // The pool was made smaller meanwhile.
                        server.terminate();
                    } else {
                        pool.hand_in(server);
                    }
                    // While it failed, others did not even try.
                    pool.open_for_waiters();
                    return;
                }
                Err(error) => match self.fail(error, latest) {
                    Next::Again => {}
                    Next::Leave => return,
                },
            }
        }
    }

    /// Waits for the right to make an attempt. Returns the seniority of the latest client so far; `None` when somebody
    /// else has the right, or when nobody waits any more: whoever waited was served by a connection that came back.
    async fn turn(&mut self) -> Option<u64> {
        let until = {
            let mut shared = lock(&self.pool.shared);
            match &mut shared.failing {
                None => None,
                Some(failing) => {
                    // Others failed since this task was started, and one of them goes on trying.
                    if *failing.prober.get_or_insert(self.id) != self.id {
                        return None;
                    }
                    Some(failing.until)
                }
            }
        };
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            // A server that is away takes no room from one that is there.
            if let Some(place) = &mut self.place {
                place.taken = None;
            }
            tokio::time::sleep_until(until).await;
        }
        let since = {
            let shared = lock(&self.pool.shared);
            shared.oldest().and_then(|worker| Some(shared.workers[worker].queue.front()?.since))
        };
        if let Some(place) = &mut self.place
            && place.taken.is_none()
        {
            // Without room it ends; its freed place has another one started, or queued for room.
            place.taken = Some(Taken::new(&self.pool.caps, self.pool.number, since).ok()?);
        }
        let shared = lock(&self.pool.shared);
        (shared.queued > 0 || self.for_keeping).then_some(shared.next_seniority)
    }

    fn succeed(&mut self, login: connect::Login) -> Box<Server<S>> {
        let mut place = self.place.take().expect("a place is given away once, here, and the task ends");
        let mut shared = lock(&self.pool.shared);
        if let Some(failing) = shared.failing.take() {
            self.pool.unreachable.store(false, Ordering::Relaxed);
            tracing::info!(
                host = %self.pool.target.host,
                port = self.pool.target.port,
                database = %self.pool.target.dbname,
                user = %self.pool.target.user,
                last_error = %failing.last,
                "server connections can be opened again",
            );
        }
        shared.totals.opened += 1;
        shared.next_server += 1;
        place.server = shared.next_server;
        let generation = self.pool.generation.load(Ordering::Relaxed);
        let listed = Listed {
            id: place.server,
            number: place.number(),
            process: login.cancel.process_id(),
            opened: SystemTime::now(),
            local: login.stream.local_addr(),
            peer: login.stream.peer_addr(),
            tls: login.stream.tls().map_or("", |tls| tls.agreed()),
            idle: false,
            stale: false,
            generation,
        };
        shared.listed.insert(place.server, listed);
        Box::new(Server::new(login, place, self.worker, generation))
    }

    fn fail(&mut self, error: ConnectError, latest: u64) -> Next {
        let mut shared = lock(&self.pool.shared);
        shared.totals.open_failed += 1;
        let before = shared.failing.take();
        if before.as_ref().is_none_or(|failing| failing.last != error) {
            tracing::warn!(
                host = %self.pool.target.host,
                port = self.pool.target.port,
                database = %self.pool.target.dbname,
                user = %self.pool.target.user,
                error = %error,
                waiting = shared.queued,
                "cannot open a server connection",
            );
        }
        let (delay, until, prober) = match before {
            None => (BACKOFF_MIN, Instant::now() + BACKOFF_MIN, None),
            Some(f) if f.prober == Some(self.id) => {
                let delay = (f.delay * 2).min(BACKOFF_MAX);
                (delay, Instant::now() + delay, None)
            }
            // An attempt that began before the first failure says nothing new.
            Some(f) => (f.delay, f.until, f.prober),
        };
        let passing = error.is_passing();
        let mut told = Vec::new();
        if !passing {
            // Waiting mends nothing. If no connection lives that could come back, this was the answer for all who were
            // here when the attempt began; else for the first only, and the others may be served.
            let alone = shared.open == shared.opening;
            while let Some(worker) = shared.oldest() {
                let first = shared.workers[worker].queue.front().map_or(u64::MAX, |w| w.seniority);
                if first > latest || (!alone && !told.is_empty()) {
                    break;
                }
                told.extend(shared.take_first(worker));
                self.pool.waiting.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let (prober, next) = match prober {
            None if shared.queued > 0 => (Some(self.id), Next::Again),
            other => (other, Next::Leave),
        };
        shared.failing = Some(Failing { last: error.clone(), delay, until, prober });
        self.pool.unreachable.store(true, Ordering::Relaxed);
        drop(shared);
        for waiter in told {
            // A waiter that is gone needs no answer.
            let _ = waiter.offer.send(Err(error.clone()));
        }
        next
    }
}

impl<S: Default + Send + 'static> Drop for Opening<S> {
    fn drop(&mut self) {
        let mut shared = lock(&self.pool.shared);
        shared.opening -= 1;
        shared.workers[self.worker].opening -= 1;
        if let Some(failing) = &mut shared.failing
            && failing.prober == Some(self.id)
        {
            failing.prober = None;
        }
        if !self.started {
            // Its runtime took no task any more. Without this the freed place would start the next one there, and so on.
            shared.workers[self.worker].handle = None;
        }
        // Then `place`, if it is still here, is dropped: it starts a task for those who wait.
    }
}

/// Counts a server that is held back.
struct Parked<S>(Arc<Pool<S>>);

impl<S> Parked<S> {
    fn count(pool: &Arc<Pool<S>>) -> Self {
        pool.parked.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pool))
    }
}

impl<S> Drop for Parked<S> {
    fn drop(&mut self) {
        self.0.parked.fetch_sub(1, Ordering::Relaxed);
    }
}
