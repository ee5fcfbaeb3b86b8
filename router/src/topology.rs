//! Shards, tables and who owns which slot: an immutable snapshot that planning reads.
//!
//! Invariant: built whole, never changed; a new epoch or a new schema is a new `Topology`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pgherd_config::KeyType;

use crate::rule::Rule;

/// Index into [`Topology::shards`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Slots of a hash distribution. Fixed for ever: it is in the catalog of every herd.
pub const SLOTS: usize = 16384;

#[derive(Debug, Clone)]
pub struct Topology {
    pub database: String,
    /// Names, in the order of the configuration. Never empty. `ShardId(0)` is the first shard.
    pub shards: Vec<String>,
    pub distributions: Vec<Distribution>,
    /// Configured tables: sharded, reference, or on a named shard.
    pub tables: Vec<Table>,
    pub facts: Facts,
    pub epoch: u64,
    /// Differs between any two topologies that differ in anything but `rule` and `epoch`: templates are made for one
    /// version.
    pub version: u64,
}

#[derive(Debug, Clone)]
pub struct Distribution {
    pub name: String,
    pub types: Vec<KeyType>,
    pub rule: Arc<Rule>,
    /// The same for people.
    pub shown: Arc<[Shown]>,
}

/// A row of SHOW PLACEMENT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub from: String,
    pub to: String,
    pub shard: ShardId,
    pub epoch: u64,
}

#[derive(Debug, Clone)]
pub struct Table {
    /// As configured; `None`: any schema of the search path.
    pub schema: Option<String>,
    pub name: String,
    pub placement: Placement,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Placement {
    /// `key`: column names, as many as the distribution has types.
    Sharded {
        distribution: usize,
        key: Vec<String>,
    },
    Reference,
    Single(ShardId),
}

/// What the servers' own catalogs say. Empty when not loaded (a table may not exist yet).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// By index into `Topology::tables`.
    pub tables: HashMap<usize, TableFacts>,
    /// Names of configured tables that other schemas have a relation of as well: which one a bare name means depends on the
    /// client's search_path.
    pub elsewhere: HashSet<String>,
    /// Views and materialised views (unqualified names) that, directly or not, read a sharded or reference table.
    pub derived_relations: HashSet<String>,
    /// Those of them that are views whose query may stand in their place: no other relation has the name, and no table of it has row
    /// security.
    pub views: HashMap<String, ViewFacts>,
    /// Functions outside pg_catalog (and not members of an extension) that may reach beyond their arguments (tables,
    /// sequences, the session), by unqualified name.
    pub user_functions: HashSet<String>,
    /// Function names whose every overload, in any schema, is immutable. Plain functions only (`prokind = 'f'`):
    /// an aggregate is immutable for PostgreSQL, but over each shard it is another number.
    pub immutable_functions: HashSet<String>,
    /// Index name (unqualified) -> index into `Topology::tables`, for the indexes of configured tables.
    pub indexes: HashMap<String, usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ViewFacts {
    pub schema: String,
    /// Its query, every name in full.
    pub text: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableFacts {
    /// The schema it was found in.
    pub schema: String,
    /// In attribute order, without dropped columns.
    pub columns: Vec<ColumnFacts>,
    /// Columns of the primary key; empty when there is none.
    pub primary_key: Vec<String>,
    /// Of sharded and reference tables only.
    pub behind: Vec<Behind>,
    /// Unique and exclusion constraints (and unique indexes) that hold on each shard by itself: the sharding key is not among
    /// the columns that they compare for equality.
    pub by_shard: Vec<String>,
}

/// What PostgreSQL does for a table besides what the statement says.
#[derive(Debug, Clone, PartialEq)]
pub enum Behind {
    Trigger(TriggerFacts),
    Rule {
        name: String,
        on: Vec<Event>,
    },
    /// `text`: its conditions, as the server prints them. `beyond`: they read a relation that is not a reference table.
    Policy {
        name: String,
        text: String,
        beyond: bool,
    },
    /// A function of the users' that a default, a check or an index calls.
    Calls {
        function: String,
    },
    /// Another configured table with a foreign key to this one. `acts`: it follows a DELETE or UPDATE here.
    Cascade {
        table: usize,
        acts: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct TriggerFacts {
    pub name: String,
    pub on: Vec<Event>,
    /// It gets the row before it is stored, and may change it.
    pub before_row: bool,
    pub function: String,
    /// `None`: not written in PL/pgSQL.
    pub source: Option<String>,
    /// Of WHEN; empty when there is none.
    pub condition: String,
}

/// What is done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Read,
    Insert,
    Update,
    Delete,
    Truncate,
}

/// GENERATED ... AS IDENTITY
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    #[default]
    No,
    ByDefault,
    Always,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnFacts {
    pub name: String,
    /// Type OID (pg_attribute.atttypid); for a domain, its base type.
    pub type_oid: u32,
    /// As `format_type(atttypid, NULL)` prints it.
    pub type_name: String,
    /// pg_attribute.atttypmod (for a domain, its typtypmod): -1 when the type has no modifier. With one, PostgreSQL may
    /// change a value as it stores it (numeric(10,2) rounds), so that its hash is not the hash of what was sent.
    pub type_modifier: i32,
    pub not_null: bool,
    /// Its default draws from a sequence (serial, identity, nextval).
    pub from_sequence: bool,
    /// That sequence on the first shard, schema and name quoted, where its next value and nothing else is the default, and the
    /// column is a number.
    pub sequence: Option<String>,
    pub identity: Identity,
    /// It has a default that is not immutable and not a sequence (now(), random(), gen_random_uuid()).
    pub default_not_immutable: bool,
    /// That default as SQL, where it is made of nothing but PostgreSQL's own functions, and a text of its value says all of it.
    pub default: Option<String>,
    /// Generated always as (...) stored.
    pub generated: bool,
    /// A collation under which equal does not mean the same bytes.
    pub nondeterministic_collation: bool,
    /// Its collation is that of "C" or "POSIX": values are ordered by their bytes.
    pub c_collation: bool,
}
