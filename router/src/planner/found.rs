//! What a look at a statement's tree found: which rows it needs, and what stands against more than one shard.

use super::constant::{Column, Constant};
use super::gather::{Filter, Site};
use super::keys::same_order;
use super::merge::Combined;
use super::names::sharding;
use crate::topology::{ShardId, Topology};

/// One mention of a sharded table (or one inserted row): the rows it needs, as far as its key is known.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    pub distribution: usize,
    /// One for each key column.
    pub columns: Vec<KeyColumn>,
    /// No table of its own in the text: another mention of a query's rows.
    pub again: bool,
}

#[derive(Debug, Clone)]
pub(super) struct KeyColumn {
    pub column: Column,
    /// Each list allows every value that the column can have in a row that matters. Any one list may be believed.
    pub lists: Vec<Vec<Atom>>,
}

/// Values that a condition allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Atom {
    /// Equal to it.
    Value(Constant),
    /// Not distinct from it: NULL, where it is NULL.
    Same(Constant),
    /// Equal to an element of this array.
    Elements(Constant),
    Null,
    /// `true`: the end itself, too. `None`: without an end.
    Between {
        low: Option<(Constant, bool)>,
        high: Option<(Constant, bool)>,
    },
}

impl Atom {
    pub fn is_interval(&self) -> bool {
        matches!(self, Self::Between { .. })
    }

    /// What it is made of.
    pub fn constants(&self) -> impl Iterator<Item = Constant> {
        let (first, second) = match *self {
            Self::Value(constant) | Self::Same(constant) | Self::Elements(constant) => (Some(constant), None),
            Self::Null => (None, None),
            Self::Between { low, high } => (low.map(|(low, _)| low), high.map(|(high, _)| high)),
        };
        first.into_iter().chain(second)
    }
}

/// Number of a key column among all pins: `(pin, column)`.
pub(super) type Node = (usize, usize);

#[derive(Debug, Default)]
pub(super) struct Found {
    pub pins: Vec<Pin>,
    /// `(a, b)`: what is known of `a` holds for `b`.
    pub implications: Vec<(Node, Node)>,
    /// Reference tables read.
    pub reference_read: bool,
    /// Reference tables written by something inside (a CTE).
    pub reference_written: bool,
    /// Shards of tables that are on one shard.
    pub fixed: Vec<ShardId>,
    /// A relation stands somewhere in the statement.
    pub relations: usize,
    /// Why the union of the shards' answers would not be the answer. The first reason found.
    pub against_union: Option<String>,
    /// Why the copies of a reference table would not stay equal. The first reason found.
    pub against_copies: Option<String>,
    /// It asks a server about itself (now(), ctid), or calls something unknown: reference tables are then read on the first
    /// shard, always the same.
    pub tied: bool,
    /// What to do with the rows of several shards.
    pub combined: Combined,
    /// A number in it stands for an output column: another number is another statement.
    pub positional: bool,
    /// It names a sequence's value: only the first shard has it.
    pub sequences: bool,
    /// It takes one (or asks for the last one): which row gets which is the order of rows. Not setval.
    pub draws: bool,
    /// Something in it writes, or may write.
    pub writes: bool,
    /// Rows of a reference table are locked (FOR UPDATE).
    pub locks: bool,
    /// Only constants and pure functions: any server gives the same.
    pub pure: bool,
    /// Parameters compared with a key: number (0-based) and the key's column, once for each place.
    pub key_params: Vec<(usize, Column)>,
    /// Names of the relations found (and of WITH queries that hide one).
    pub names: Vec<String>,
    /// Where sharded tables stand in FROM, and what is known of the rows that matter; see `gather`.
    pub sites: Vec<Site>,
    pub filters: Vec<Filter>,
    /// Why one server could not finish the work with rows pulled from the others. The first reason found.
    pub against_gather: Option<String>,
    /// `*`, NATURAL: columns are used that the text does not name.
    pub all_columns: bool,
}

impl Found {
    pub fn new() -> Self {
        Self { pure: true, ..Self::default() }
    }

    pub fn against_union(&mut self, reason: impl Into<String>) {
        if self.against_union.is_none() {
            self.against_union = Some(reason.into());
        }
    }

    pub fn against_copies(&mut self, reason: impl Into<String>) {
        if self.against_copies.is_none() {
            self.against_copies = Some(reason.into());
        }
    }

    pub fn against_gather(&mut self, reason: impl Into<String>) {
        if self.against_gather.is_none() {
            self.against_gather = Some(reason.into());
        }
    }

    /// Each server would say something else.
    pub fn tie(&mut self, reason: impl Into<String> + Clone) {
        self.tied = true;
        self.pure = false;
        self.against_both(reason);
    }

    pub fn against_both(&mut self, reason: impl Into<String> + Clone) {
        self.against_union(reason.clone());
        self.against_copies(reason);
    }

    /// A new mention of a sharded table. Returns its number.
    pub fn pin(&mut self, topology: &Topology, table: usize) -> usize {
        let Some((distribution, key)) = sharding(topology, table) else { return usize::MAX };
        let types =
            topology.distributions.get(distribution).map_or(&[][..], |distribution| &distribution.types);
        let facts = topology.facts.tables.get(&table);
        let columns = key
            .iter()
            .zip(types)
            .map(|(name, ty)| {
                let facts = facts.and_then(|facts| facts.columns.iter().find(|column| column.name == *name));
                KeyColumn {
                    column: Column {
                        ty: *ty,
                        oid: facts.map(|facts| facts.type_oid),
                        modifier: facts.map(|facts| facts.type_modifier),
                        c_collation: facts.is_some_and(|facts| facts.c_collation),
                    },
                    lists: Vec::new(),
                }
            })
            .collect();
        self.pins.push(Pin { distribution, columns, again: false });
        self.pins.len() - 1
    }

    /// Another mention of the rows of a pin.
    pub fn again(&mut self, pin: usize) -> usize {
        let Some(known) = self.pins.get(pin) else { return usize::MAX };
        let mut own = known.clone();
        own.again = true;
        for column in &mut own.columns {
            column.lists.clear();
        }
        let number = self.pins.len();
        self.implications.extend((0..own.columns.len()).map(|column| ((pin, column), (number, column))));
        self.pins.push(own);
        number
    }

    pub fn learn(&mut self, (pin, column): Node, list: Vec<Atom>) {
        if let Some(column) = self.pins.get_mut(pin).and_then(|pin| pin.columns.get_mut(column)) {
            column.lists.push(list);
        }
    }

    pub fn column(&self, (pin, column): Node) -> Option<Column> {
        Some(self.pins.get(pin)?.columns.get(column)?.column)
    }

    /// Carries what is known along the implications.
    pub fn spread(&mut self) {
        let own: Vec<(Node, Vec<Atom>)> = self
            .pins
            .iter()
            .enumerate()
            .flat_map(|(pin, found)| {
                found.columns.iter().enumerate().flat_map(move |(column, known)| {
                    known.lists.iter().map(move |list| ((pin, column), list.clone()))
                })
            })
            .collect();
        for (source, list) in own {
            let mut reached = vec![source];
            let mut next = 0;
            while let Some(node) = reached.get(next).copied() {
                next += 1;
                for (from, to) in &self.implications {
                    let ordered = !list.iter().any(Atom::is_interval)
                        || self
                            .column(*from)
                            .zip(self.column(*to))
                            .is_some_and(|(from, to)| same_order(from, to));
                    if *from == node && ordered && !reached.contains(to) {
                        reached.push(*to);
                    }
                }
            }
            for node in reached.into_iter().skip(1) {
                self.learn(node, list.clone());
            }
        }
    }
}
