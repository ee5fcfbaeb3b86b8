//! Who is connected to a worker: a card for each client, for the console, for time limits and for sending clients away.
//!
//! Invariant: a card is read and written on its worker's thread only, so a session notes what it does with plain stores.
//! Whoever else wants to know, or to send a client away, asks the worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use pgherd_config::PoolSettings;
use pgherd_pool::Listed;
use pgherd_router::touch::{Held, Hold, Touched};
use pgherd_wire::message::Report;

use crate::cancel::CancelEntry;
use crate::database::UserPools;
use crate::pinned;
use crate::replication::Replication;
use crate::session::settings::{Settings, Value};

/// Where a client came from, and to which of our addresses. `None`: a unix socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ends {
    pub peer: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    /// The port that names a unix socket.
    pub port: u16,
    /// Version and cipher; empty without.
    pub tls: &'static str,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Holds nothing, asks nothing.
    Idle,
    /// Holds a server and asks nothing: in a transaction, or pinned.
    Holding,
    /// Waits for an answer.
    Running,
    /// Waits for a server.
    Waiting,
    /// Talks to a walsender of its own, which nobody else looks into.
    Replicating(Replication),
}

/// What a client is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Leave as soon as no transaction is open: pgherd stops.
    Leave,
    /// Leave now.
    End(Why),
}

/// Why a client is sent away at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// KILL, KILL_CLIENT, or the end of pgherd.
    Operator,
    /// Its user or database is not in the configuration any more.
    Removed,
    ClientIdle,
    IdleInTransaction,
    Transaction,
    /// A connection that listens was lost.
    NotificationsLost,
    /// It does not read what it is notified of.
    NotificationsUnread,
}

impl Why {
    /// The last words, as PostgreSQL says them where it has such a limit.
    pub fn report(self) -> Report {
        match self {
            Self::Operator => Report::fatal("57P01", "terminating connection due to administrator command"),
            Self::Removed => Report::fatal("57P01", "terminating connection due to administrator command")
                .detail("The user or the database was removed from pgherd's configuration."),
            Self::ClientIdle => Report::fatal("57P05", "terminating connection due to idle-session timeout")
                .detail("The limit is client_idle_timeout in pgherd's configuration."),
            Self::IdleInTransaction => {
                Report::fatal("25P03", "terminating connection due to idle-in-transaction timeout")
                    .detail("The limit is idle_transaction_timeout in pgherd's configuration.")
            }
            Self::NotificationsLost => {
                Report::fatal("57P01", "terminating connection because notifications may have been lost")
                    .detail(
                        "The connection to a server that listens for the clients of this database was lost.",
                    )
                    .hint("Connect again, LISTEN, and look for what was notified meanwhile.")
            }
            Self::NotificationsUnread => {
                Report::fatal("53400", "terminating connection because too many notifications wait for it")
                    .detail("They wait while a transaction is open, or while the client does not read.")
            }
            Self::Transaction => Report::fatal("25P04", "terminating connection due to transaction timeout")
                .detail("The limit is transaction_timeout in pgherd's configuration."),
        }
    }
}

/// What a client's open transaction has to do with the places of rows. In a database that is not sharded it stays as it is. Small, for
/// there are many: numbers that are only compared for being the same are cut to 32 bits.
#[derive(Default)]
pub struct Stand {
    /// By the transaction that is open, or by statements whose replies are owed.
    pub touched: Touched,
    /// The database whose distributions are meant.
    database: Cell<u32>,
    /// Of the lease under which something was touched.
    tenure: Cell<u32>,
    /// The placement's generation when the transaction's first statement was planned; 0: none was.
    snapshot: Cell<u32>,
    waiting: Cell<Option<Box<Waiting>>>,
}

/// A statement that waits: for the holds up to `since`; later ones wait for it.
struct Waiting {
    touched: Touched,
    since: u64,
    /// Units that were put on hold while there was no lease may be moving: they do not wait.
    tenure: u64,
}

impl Waiting {
    /// The hold came later, and waits.
    fn is_in_the_way(&self, hold: &Hold) -> bool {
        self.since < hold.generation && self.touched.meets(&hold.held)
    }
}

impl Stand {
    pub fn clear(&self) {
        self.touched.clear();
        self.snapshot.set(0);
    }

    /// Nothing was touched yet, or under this lease.
    pub fn is_of(&self, tenure: u64) -> bool {
        self.touched.is_empty() || self.tenure.get() == tenure as u32
    }

    pub fn touch(&self, database: u64, tenure: u64, touched: &Touched) {
        self.database.set(database as u32);
        self.tenure.set(tenure as u32);
        self.touched.add(touched);
    }

    /// The placement's generation as of which the transaction may see rows: that of its first statement, which this may be.
    pub fn sees(&self, generation: u64) -> u64 {
        if self.snapshot.get() == 0 {
            self.snapshot.set(u32::try_from(generation).unwrap_or(u32::MAX));
        }
        u64::from(self.snapshot.get())
    }

    /// A statement that touches this waits from now on, for holds up to `generation`.
    pub fn wait(&self, database: u64, tenure: u64, generation: u64, touched: &Touched) {
        self.database.set(database as u32);
        let before = self.waiting.take().filter(|waiting| waiting.tenure == tenure);
        let since = before.map_or(generation, |waiting| waiting.since);
        self.waiting.set(Some(Box::new(Waiting { touched: touched.clone(), since, tenure })));
    }

    pub fn waits_no_more(&self) {
        self.waiting.set(None);
    }

    fn while_waiting(&self, holds: impl FnOnce(&Waiting) -> bool) -> bool {
        let waiting = self.waiting.take();
        let held = waiting.as_deref().is_some_and(holds);
        self.waiting.set(waiting);
        held
    }

    /// Whether the hold keeps a statement that touches this from running. Not when its transaction is in the way already: the hold waits
    /// for it to end, and it may need more of what is on hold until then. Nor when the statement itself has waited for earlier holds
    /// since before this one: with units on hold one after the other, a statement that touches many of them would never run.
    pub fn is_kept(&self, tenure: u64, touched: &Touched, hold: &Hold) -> bool {
        touched.meets(&hold.held)
            && !self.touched.meets(&hold.held)
            && !self.while_waiting(|waiting| waiting.tenure == tenure && waiting.is_in_the_way(hold))
    }

    /// It touches something within `held` that its transaction has not touched before.
    pub fn is_new_in(&self, touched: &Touched, held: &Held) -> bool {
        touched.meets(held) && !self.touched.covers_within(touched, held)
    }

    /// Whether the client has to do with the unit still, so that it cannot move.
    fn is_in_the_way(&self, database: u64, hold: &Hold) -> bool {
        self.database.get() == database as u32
            && (self.touched.meets(&hold.held) || self.while_waiting(|waiting| waiting.is_in_the_way(hold)))
    }
}

pub struct Card {
    pub id: u64,
    pub ends: Ends,
    pub connected: SystemTime,
    pub pools: RefCell<Arc<UserPools>>,
    pub settings: RefCell<Arc<Settings>>,
    pub phase: Cell<Phase>,
    /// When the phase began; `Waiting` and `Running` begin with the client's message.
    pub since: Cell<Instant>,
    /// When the transaction began that is open.
    pub xact_since: Cell<Option<Instant>>,
    /// Number of a server that it holds; 0: none.
    pub server: Cell<u64>,
    pub statements: Cell<u32>,
    pub stand: Stand,
    /// It keeps servers between transactions.
    pub pinned: RefCell<Option<Box<pinned::Shown>>>,
    /// The server of a replication connection.
    pub walsender: RefCell<Option<Arc<Listed>>>,
    pub cancel: Arc<CancelEntry>,
    order: Cell<Option<Order>>,
    /// Of the client's task.
    waker: RefCell<Option<Waker>>,
}

impl Card {
    pub fn order(&self) -> Option<Order> {
        self.order.get()
    }

    /// The client is to leave now, whatever it does.
    #[inline]
    pub fn ends(&self) -> Option<Why> {
        match self.order.get() {
            Some(Order::End(why)) => Some(why),
            Some(Order::Leave) | None => None,
        }
    }

    /// A client's message has come. Reads the clock.
    #[inline]
    pub fn begin(&self) {
        self.since.set(Instant::now());
        self.phase.set(Phase::Running);
    }

    /// Everything is answered.
    #[inline]
    pub fn rest(&self, holding: bool, settings: &Arc<Settings>, statements: usize) {
        self.phase.set(if holding { Phase::Holding } else { Phase::Idle });
        self.statements.set(statements as u32);
        if !Arc::ptr_eq(&self.settings.borrow(), settings) {
            self.settings.replace(settings.clone());
        }
    }

    /// Tells the client. An order to leave now is not taken back by a milder one.
    pub fn tell(&self, order: Order) {
        if !matches!(self.order.get(), Some(Order::End(_))) {
            self.order.set(Some(order));
        }
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// To be called once by the task that serves the client.
    pub fn served_by(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    pub fn entry(&self) -> Entry {
        let settings = self.settings.borrow();
        let application_name = match settings.get("application_name") {
            Some(Value::Raw(name)) => name.to_string(),
            Some(Value::Sql(sql)) => sql.trim_matches('\'').replace("''", "'"),
            Some(Value::Reset) | None => String::new(),
        };
        let pools = self.pools.borrow();
        Entry {
            id: self.id,
            user: pools.user.clone(),
            database: pools.database.clone(),
            ends: self.ends,
            connected: self.connected,
            phase: self.phase.get(),
            since: self.since.get(),
            server: self.server.get(),
            statements: self.statements.get(),
            application_name,
            pinned: self.pinned.borrow().as_deref().cloned(),
            walsender: self.walsender.borrow().clone(),
        }
    }
}

/// No two clients of the process have the same.
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A card as it was at a moment, for other threads.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: u64,
    pub user: String,
    pub database: String,
    pub ends: Ends,
    pub connected: SystemTime,
    pub phase: Phase,
    pub since: Instant,
    pub server: u64,
    pub statements: u32,
    pub application_name: String,
    pub pinned: Option<pinned::Shown>,
    pub walsender: Option<Arc<Listed>>,
}

/// The cards of one worker.
#[derive(Default)]
pub struct Roster {
    cards: RefCell<HashMap<u64, Rc<Card>>>,
    /// What everybody is told who comes from now on.
    standing: Cell<Option<Order>>,
}

impl Roster {
    pub fn enter(
        self: &Rc<Self>,
        ends: Ends,
        pools: Arc<UserPools>,
        settings: Arc<Settings>,
        cancel: Arc<CancelEntry>,
    ) -> Enrolled {
        let id = next_id();
        pools.stats.clients.fetch_add(1, Ordering::Relaxed);
        let card = Rc::new(Card {
            id,
            ends,
            connected: SystemTime::now(),
            pools: RefCell::new(pools),
            settings: RefCell::new(settings),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(Instant::now()),
            xact_since: Cell::new(None),
            server: Cell::new(0),
            statements: Cell::new(0),
            stand: Stand::default(),
            pinned: RefCell::new(None),
            walsender: RefCell::new(None),
            cancel,
            order: Cell::new(self.standing.get()),
            waker: RefCell::new(None),
        });
        self.cards.borrow_mut().insert(id, card.clone());
        Enrolled { roster: self.clone(), card }
    }

    /// Tells all clients that `wanted` chooses; how many.
    pub fn tell(&self, order: Order, wanted: impl Fn(&Card) -> bool) -> usize {
        let cards = self.cards.borrow();
        let chosen = cards.values().filter(|card| wanted(card));
        chosen.map(|card| card.tell(order)).count()
    }

    /// Has all clients look whether there is something for them.
    pub fn wake(&self) {
        for card in self.cards.borrow().values() {
            if let Some(waker) = &*card.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }

    /// Tells all clients, and those who come.
    pub fn tell_all(&self, order: Order) {
        self.standing.set(Some(order));
        self.tell(order, |_| true);
    }

    /// Holds all clients to the limits of their time. Cancelling a statement takes a while, and is left to tasks of their own.
    pub fn keep_time(&self) {
        let now = Instant::now();
        for card in self.cards.borrow().values() {
            let pools = card.pools.borrow();
            match overdue(card.phase.get(), card.since.get(), card.xact_since.get(), now, &pools.settings) {
                None => {}
                Some(Overdue::Query) => {
                    let cancel = card.cancel.clone();
                    tokio::task::spawn_local(async move { cancel.cancel().await });
                }
                Some(Overdue::Client(why)) => card.tell(Order::End(why)),
            }
        }
    }

    /// Which of the holds wait for a client.
    pub fn in_the_way(&self, database: u64, holds: &[Hold]) -> Vec<i64> {
        let cards = self.cards.borrow();
        let waits = |hold: &&Hold| cards.values().any(|card| card.stand.is_in_the_way(database, hold));
        holds.iter().filter(waits).map(|hold| hold.id).collect()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.cards.borrow().values().map(|card| card.entry()).collect()
    }
}

/// What a client is late with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overdue {
    Query,
    Client(Why),
}

fn overdue(
    phase: Phase,
    since: Instant,
    xact_since: Option<Instant>,
    now: Instant,
    limits: &PoolSettings,
) -> Option<Overdue> {
    let over =
        |since: Instant, limit: Duration| !limit.is_zero() && now.saturating_duration_since(since) >= limit;
    if xact_since.is_some_and(|begun| over(begun, limits.transaction_timeout)) {
        return Some(Overdue::Client(Why::Transaction));
    }
    match (phase, xact_since) {
        (Phase::Running, _) if over(since, limits.query_timeout) => Some(Overdue::Query),
        // BEGIN alone holds no server yet.
        (Phase::Holding | Phase::Idle, Some(_)) if over(since, limits.idle_transaction_timeout) => {
            Some(Overdue::Client(Why::IdleInTransaction))
        }
        (Phase::Idle | Phase::Holding, None) if over(since, limits.client_idle_timeout) => {
            Some(Overdue::Client(Why::ClientIdle))
        }
        _ => None,
    }
}

/// A client on the roster; struck off on drop.
pub struct Enrolled {
    roster: Rc<Roster>,
    pub card: Rc<Card>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        // A waker holds its task, and the task this card.
        self.card.waker.borrow_mut().take();
        self.card.pools.borrow().stats.clients.fetch_sub(1, Ordering::Relaxed);
        self.roster.cards.borrow_mut().remove(&self.card.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_waits_for_who_was_there_before_its_hold_and_keeps_who_comes_after() {
        use pgherd_router::touch::Unit;
        let unit = |slot| {
            let touched = Touched::default();
            touched.note(Unit::slot(0, slot));
            touched
        };
        let hold =
            |generation| Hold { id: 7, generation, held: Held::Slots { distribution: 0, from: 5, to: 5 } };
        let stand = Stand::default();
        assert!(stand.is_kept(1, &unit(5), &hold(3)));
        assert!(!stand.is_kept(1, &unit(6), &hold(3)));
        assert!(!stand.is_in_the_way(1, &hold(3)));

        // A transaction that has touched it goes on, and is in the way until it ends.
        stand.touch(1, 1, &unit(5));
        assert!(!stand.is_kept(1, &unit(5), &hold(3)));
        assert!(stand.is_in_the_way(1, &hold(3)));
        assert!(!stand.is_in_the_way(2, &hold(3)), "another database's numbers mean other distributions");
        assert!(stand.is_of(1) && !stand.is_of(2));
        stand.clear();
        assert!(!stand.is_in_the_way(1, &hold(3)));
        assert!(stand.is_of(2), "nothing is touched");

        // One that waits for hold 3 is in the way of hold 4, and not kept by it.
        stand.wait(1, 1, 3, &unit(5));
        assert!(stand.is_kept(1, &unit(5), &hold(3)) && !stand.is_in_the_way(1, &hold(3)));
        assert!(!stand.is_kept(1, &unit(5), &hold(4)) && stand.is_in_the_way(1, &hold(4)));
        stand.wait(1, 1, 4, &unit(5));
        assert!(stand.is_kept(1, &unit(5), &hold(3)), "it still waits for what it waited for at first");
        assert!(!stand.is_kept(1, &unit(5), &hold(4)));
        // What was put on hold while there was no lease did not wait for anybody.
        assert!(stand.is_kept(2, &unit(5), &hold(9)) && !stand.is_kept(1, &unit(5), &hold(9)));
        stand.waits_no_more();
        assert!(stand.is_kept(1, &unit(5), &hold(4)) && !stand.is_in_the_way(1, &hold(4)));
    }

    #[test]
    fn a_client_is_held_to_the_limit_of_what_it_does() {
        let seconds = Duration::from_secs;
        let limits = PoolSettings {
            query_timeout: seconds(1),
            transaction_timeout: seconds(100),
            idle_transaction_timeout: seconds(10),
            client_idle_timeout: seconds(50),
            ..no_limits()
        };
        // Phase, seconds in it, seconds of the open transaction.
        let cases = [
            ("a statement in its time", Phase::Running, 0, None, None),
            ("a statement", Phase::Running, 1, None, Some(Overdue::Query)),
            ("waiting is bounded elsewhere", Phase::Waiting, 30, None, None),
            (
                "idle in a transaction",
                Phase::Holding,
                10,
                Some(11),
                Some(Overdue::Client(Why::IdleInTransaction)),
            ),
            ("after BEGIN alone", Phase::Idle, 10, Some(10), Some(Overdue::Client(Why::IdleInTransaction))),
            ("a short pause", Phase::Holding, 9, Some(99), None),
            ("a long transaction", Phase::Running, 0, Some(100), Some(Overdue::Client(Why::Transaction))),
            ("idle", Phase::Idle, 50, None, Some(Overdue::Client(Why::ClientIdle))),
            (
                "replicating is nobody's to limit",
                Phase::Replicating(Replication::Physical),
                1_000,
                None,
                None,
            ),
            ("pinned and idle", Phase::Holding, 50, None, Some(Overdue::Client(Why::ClientIdle))),
            ("idle for a while", Phase::Idle, 49, None, None),
        ];
        let start = Instant::now();
        let now = start + seconds(1000);
        for (why, phase, since, xact, expected) in cases {
            let xact = xact.map(|ago| now - seconds(ago));
            assert_eq!(overdue(phase, now - seconds(since), xact, now, &limits), expected, "{why}");
            assert_eq!(overdue(phase, start, xact, now, &no_limits()), None, "{why}, without limits");
        }
    }

    fn no_limits() -> PoolSettings {
        PoolSettings {
            size: 1,
            checkout_timeout: Duration::ZERO,
            connect_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            waiting_max: 0,
            mode: Default::default(),
            cache_unnamed: true,
            pinned_max: 1,
            statements_max: 1,
            min_size: 0,
            reserve: 0,
            reserve_timeout: Duration::ZERO,
            lifetime: Duration::ZERO,
            query_timeout: Duration::ZERO,
            transaction_timeout: Duration::ZERO,
            idle_transaction_timeout: Duration::ZERO,
            client_idle_timeout: Duration::ZERO,
        }
    }
}
