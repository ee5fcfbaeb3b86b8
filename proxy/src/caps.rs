//! Server connections in all: of a database over its users, and of a user over its databases.
//!
//! Invariant: whoever asks for the bound of the same database and server, or of the same user, has the same one, as long as
//! a pool lives that counts in it. So a reload changes limits and loses no count.
//!
//! A client that holds several servers could wait for one that another such client holds: there are no more of them than
//! each bound has room for, see `pgherd_pool::Gate`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pgherd_config::Config;
use pgherd_pool::{Cap, Gate};

/// More bounds than this are looked through for those that nobody has any more.
const LOOK_BEYOND: usize = 1_000;

#[derive(Default)]
pub struct Caps(Mutex<State>);

#[derive(Default)]
struct State {
    caps: HashMap<Of, Weak<Cap>>,
    gates: HashMap<Of, Weak<Gate>>,
    /// Of users who are not in the configuration.
    per_user: usize,
    /// Of the database that has most.
    shards_max: usize,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Of {
    /// A database, and the index of its shard; the gate of all is that of the first.
    Database(String, usize),
    User(String),
}

/// What one user's pools in one database have to keep to.
pub struct Bounds {
    /// By shard.
    pub caps: Vec<Vec<Arc<Cap>>>,
    pub gates: Vec<Arc<Gate>>,
}

impl Caps {
    pub fn new(config: &Config) -> Arc<Self> {
        let caps = Arc::new(Self::default());
        caps.set_limits(config);
        caps
    }

    /// The limits of this configuration are in force.
    pub fn set_limits(&self, config: &Config) {
        let mut changes = Vec::new();
        {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.per_user = config.server.max_connections_per_user;
            state.shards_max = config.databases.iter().map(|d| d.shards.len()).max().unwrap_or(1);
            for (of, cap) in &state.caps {
                let limit = match of {
                    Of::Database(name, _) => {
                        let found = config.databases.iter().find(|database| database.name == *name);
                        found.map_or(0, |database| database.max_connections)
                    }
                    Of::User(name) => {
                        let found = config.users.iter().find(|user| user.name == *name);
                        found.map_or(state.per_user, |user| user.max_connections)
                    }
                };
                changes.extend(cap.upgrade().map(|cap| (cap, limit)));
            }
        }
        changes.iter().for_each(|(cap, limit)| cap.set_limit(*limit));
    }

    /// `user_limit`: `None` for a user who is not in the configuration. What is there already keeps the limit it has.
    pub fn bounds(
        &self,
        database: &pgherd_config::Database,
        user: &str,
        user_limit: Option<usize>,
        waiting_max: usize,
    ) -> Bounds {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let user_limit = user_limit.unwrap_or(state.per_user);
        let of_user = state.cap(Of::User(user.to_owned()), user_limit, || format!("user \"{user}\""));
        let name = &database.name;
        let shards = 0..database.shards.len();
        let caps = shards.map(|shard| {
            let of = Of::Database(name.clone(), shard);
            let whose = || match database.shards.len() {
                1 => format!("database \"{name}\""),
                _ => format!("shard \"{}\" of database \"{name}\"", database.shards[shard].name),
            };
            vec![state.cap(of, database.max_connections, whose), of_user.clone()]
        });
        let caps = caps.collect();
        let mut gates = Vec::new();
        if database.shards.len() > 1 {
            if database.max_connections > 0 {
                let of = Of::Database(name.clone(), 0);
                gates.push(state.gate(of, database.max_connections, waiting_max));
            }
            if user_limit > 0 {
                let limit = user_limit / state.shards_max.max(database.shards.len());
                gates.push(state.gate(Of::User(user.to_owned()), limit, waiting_max));
            }
        }
        Bounds { caps, gates }
    }
}

impl State {
    fn cap(&mut self, of: Of, limit: usize, whose: impl FnOnce() -> String) -> Arc<Cap> {
        if let Some(cap) = self.caps.get(&of).and_then(Weak::upgrade) {
            return cap;
        }
        if self.caps.len() > LOOK_BEYOND {
            self.caps.retain(|_, cap| cap.strong_count() > 0);
        }
        let cap = Cap::new(whose(), limit);
        self.caps.insert(of, Arc::downgrade(&cap));
        cap
    }

    /// A gate's limit is for good; whoever has one of before keeps it until it makes its pools anew.
    fn gate(&mut self, of: Of, limit: usize, waiting_max: usize) -> Arc<Gate> {
        let known = self.gates.get(&of).and_then(Weak::upgrade);
        if let Some(gate) = known.filter(|gate| gate.limit() == limit.max(1)) {
            return gate;
        }
        if self.gates.len() > LOOK_BEYOND {
            self.gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Gate::new(limit, waiting_max);
        self.gates.insert(of, Arc::downgrade(&gate));
        gate
    }
}
