//! A bound over several pools: the server connections of one database, or of one user.
//!
//! Invariant: `open` is the number of places that pools have taken here and not given back; beyond a limit no pool takes
//! one. While a pool wants a place, no pool of the cap keeps a connection idle, and every pool of it is *pressed*: a
//! connection that comes back there may have to go, so that the one whose client has waited longest gets its place.
//!
//! How it is kept:
//! - A pool that finds no room here is entered in `wanting`, which presses all members, and then [`Cap::serve`] looks for
//!   room: free places first, then idle connections of any pool, which are closed. A checkin looks whether its pool is
//!   pressed while it holds the lock of the list that it would push to. Whichever came first at that list, the other sees it.
//! - One thread at a time serves; who comes meanwhile leaves it word (`again`). So nothing recurses, and no wish is lost.
//! - An entry of `wanting` says what was so when it was made. Whoever acts on it asks the pool first.
//!
//! Locks: a pool's `shared`, then `state`; with `state` held nobody takes another lock.
//!
//! Limits: `wanting` has at most one entry for each member.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock;

/// A pool with waiting clients of its own gives a connection up only for a client that has waited this much longer: closing
/// one connection and opening another costs more than some transactions.
pub const GIVE_UP_AFTER: Duration = Duration::from_millis(100);

/// A pool, seen by a bound that it shares with others.
pub(crate) trait Member: Send + Sync {
    /// Since when the first client waits that one place more would serve.
    fn needs_since(&self) -> Option<Instant>;
    /// Takes the places that it needs and finds.
    fn take_places(self: Arc<Self>);
    fn idle(&self) -> usize;
    /// Closes the connection that was idle for longest; `false`: there is none.
    fn close_one(&self) -> bool;
}

struct Party {
    /// The pool's flags, and the one among them that says that this cap presses.
    flags: Arc<AtomicU8>,
    bit: u8,
    // Never upgraded under `state`: dropped there, a pool's last handle would give places back.
    member: Weak<dyn Member>,
}

pub struct Cap {
    /// As errors call it: `database "shop"`.
    whose: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// 0: none.
    limit: usize,
    open: usize,
    members: Vec<Party>,
    /// The longest waiting first.
    wanting: Vec<Wanting>,
    pressed: bool,
    serving: bool,
    again: bool,
}

#[derive(Clone)]
struct Wanting {
    pool: u32,
    since: Instant,
    member: Weak<dyn Member>,
}

impl std::fmt::Debug for Cap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = lock(&self.state);
        write!(f, "Cap({}, {} of {})", self.whose, state.open, state.limit)
    }
}

impl Cap {
    /// `limit`: 0 is none.
    pub fn new(whose: String, limit: usize) -> Arc<Self> {
        Arc::new(Self { whose, state: Mutex::new(State { limit, ..State::default() }) })
    }

    pub fn whose(&self) -> &str {
        &self.whose
    }

    /// Places taken: connections, and those being opened.
    pub fn open(&self) -> usize {
        lock(&self.state).open
    }

    /// 0: none.
    pub fn limit(&self) -> usize {
        lock(&self.state).limit
    }

    /// In force from now on. Beyond a smaller limit idle connections are closed at once, others when they come back.
    pub fn set_limit(&self, limit: usize) {
        {
            let mut state = lock(&self.state);
            if state.limit == limit {
                return;
            }
            state.limit = limit;
            state.press();
        }
        self.serve();
    }

    pub fn is_full(&self) -> bool {
        lock(&self.state).is_full()
    }

    pub(crate) fn join(&self, flags: &Arc<AtomicU8>, bit: u8, member: Weak<dyn Member>) {
        let mut state = lock(&self.state);
        state.members.retain(|other| other.member.strong_count() > 0);
        if state.pressed {
            flags.fetch_or(bit, Ordering::SeqCst);
        }
        state.members.push(Party { flags: Arc::clone(flags), bit, member });
    }

    /// A place, for a client that has waited since then (`None`: for nobody yet). Nobody who wants one is overtaken.
    fn take(&self, pool: u32, since: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        let behind = state
            .wanting
            .first()
            .is_some_and(|first| first.pool != pool && since.is_none_or(|since| first.since < since));
        if behind || state.is_full() {
            return false;
        }
        state.open += 1;
        true
    }

    fn give_back(&self) {
        let mut state = lock(&self.state);
        state.open -= 1;
        state.press();
    }

    /// Enters the pool among those that want a place. To be followed by [`Self::serve`].
    pub(crate) fn want(&self, pool: u32, since: Instant, member: Weak<dyn Member>) {
        let mut state = lock(&self.state);
        state.wanting.retain(|other| other.pool != pool);
        let at = state.wanting.partition_point(|other| other.since <= since);
        state.wanting.insert(at, Wanting { pool, since, member });
        state.press();
    }

    /// Gives places to those who want them as long as there are any, or idle connections to close.
    pub(crate) fn serve(&self) {
        {
            let mut state = lock(&self.state);
            if state.serving {
                state.again = true;
                return;
            }
            if !state.pressed {
                return;
            }
            state.serving = true;
        }
        loop {
            let (first, room, over) = {
                let mut state = lock(&self.state);
                state.again = false;
                (state.wanting.first().cloned(), !state.is_full(), state.is_over())
            };
            let done = match first.as_ref().map(|first| (first, first.member.upgrade())) {
                _ if over => !self.evict(),
                None => true,
                Some((first, Some(member))) if member.needs_since().is_some() => {
                    if room {
                        self.strike_off(first);
                        member.take_places();
                        false
                    } else {
                        !self.evict()
                    }
                }
                Some((first, _)) => {
                    self.strike_off(first);
                    false
                }
            };
            if done {
                let mut state = lock(&self.state);
                if !state.again {
                    state.serving = false;
                    return;
                }
            }
        }
    }

    fn strike_off(&self, wanting: &Wanting) {
        let mut state = lock(&self.state);
        state.wanting.retain(|other| other.pool != wanting.pool || other.since != wanting.since);
        state.press();
    }

    /// Closes an idle connection of the pool that has most of them.
    fn evict(&self) -> bool {
        let members: Vec<_> = lock(&self.state).members.iter().map(|party| party.member.clone()).collect();
        let members = members.iter().filter_map(Weak::upgrade);
        let richest = members.map(|member| (member.idle(), member)).max_by_key(|(idle, _)| *idle);
        richest.is_some_and(|(idle, member)| idle > 0 && member.close_one())
    }

    /// Whether a connection that came back to this pool must go. `own`: since when a client of its own has waited.
    pub(crate) fn claims(&self, pool: u32, own: Option<Instant>) -> bool {
        let (over, wanting) = {
            let state = lock(&self.state);
            (state.is_over(), state.wanting.clone())
        };
        if over {
            return true;
        }
        let others = wanting.iter().filter(|other| other.pool != pool);
        for other in others {
            if own.is_some_and(|own| other.since + GIVE_UP_AFTER > own) {
                return false;
            }
            let needs = other.member.upgrade().and_then(|member| member.needs_since());
            if needs.is_some_and(|since| own.is_none_or(|own| since + GIVE_UP_AFTER <= own)) {
                return true;
            }
            if needs.is_none() {
                self.strike_off(other);
            }
        }
        false
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.limit > 0 && self.open >= self.limit
    }

    fn is_over(&self) -> bool {
        self.limit > 0 && self.open > self.limit
    }

    /// Tells the members when they are pressed and when not.
    fn press(&mut self) {
        let pressed = !self.wanting.is_empty() || self.is_over();
        if pressed != self.pressed {
            self.pressed = pressed;
            for Party { flags, bit, .. } in &self.members {
                if pressed {
                    flags.fetch_or(*bit, Ordering::SeqCst);
                } else {
                    flags.fetch_and(!bit, Ordering::SeqCst);
                }
            }
        }
    }
}

/// A place taken in each of several caps; given back on drop.
pub(crate) struct Taken(Arc<[Arc<Cap>]>);

impl Taken {
    /// # Errors
    /// The index of the cap that has no room. Caps before it may have been refused to others meanwhile: the caller, once it
    /// holds no lock, has all of them served.
    pub(crate) fn new(caps: &Arc<[Arc<Cap>]>, pool: u32, since: Option<Instant>) -> Result<Self, usize> {
        for (index, cap) in caps.iter().enumerate() {
            if !cap.take(pool, since) {
                caps[..index].iter().for_each(|cap| cap.give_back());
                return Err(index);
            }
        }
        Ok(Self(Arc::clone(caps)))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.iter().for_each(|cap| cap.give_back());
        self.0.iter().for_each(|cap| cap.serve());
    }
}
