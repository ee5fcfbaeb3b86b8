//! Where the rows of a pin are, for given values.
//!
//! Invariant: every shard with a row that matters is among them. What is not known of the key makes them more, never fewer.
//!
//! Start reading at [`shards`].

use super::arrays::elements;
use super::constant::{Column, Constant, Source, Value, Values};
use super::found::{Atom, KeyColumn, Pin};
use crate::hash::KeyHash;
use crate::rule::{Group, Lists, Rule, Span, order_is_bytes, parts};
use crate::topology::{ShardId, Topology};
use crate::touch::Unit;
use crate::value::KeyValue;

/// Combinations of IN lists of a composite key that are still worth hashing.
const COMBINATIONS_MAX: usize = 4096;

/// Where rows are.
pub(super) enum Place {
    One(ShardId),
    /// Ascending. None: no row has such a key.
    Some(Vec<ShardId>),
    Anywhere,
}

/// Where the rows of a pin are.
pub(super) fn shards(pin: &Pin, topology: &Topology, values: Values<'_>, shared: &[usize]) -> Place {
    let touched = values.touched;
    let Some(distribution) = topology.distributions.get(pin.distribution) else {
        touched.note(Unit::EVERYTHING);
        return Place::Anywhere;
    };
    let anywhere = || {
        touched.note(Unit::whole(pin.distribution));
        Place::Anywhere
    };
    // The hot path: one column, one value.
    if let [column] = pin.columns.as_slice()
        && let [list] = column.lists.as_slice()
        && let [Atom::Value(constant)] = list.as_slice()
    {
        return match constant.compared(column.column, values, is_shared(constant, shared)) {
            Value::Key(value) => {
                let (shard, slot) = distribution.rule.locate(&[value]);
                touched.note(Unit::of(pin.distribution, slot));
                match shard {
                    Some(shard) => Place::One(shard),
                    None => match &*distribution.rule {
                        // It is read wherever it may be.
                        Rule::Directory(_) => anywhere(),
                        Rule::Hash(_) | Rule::Range(_) | Rule::List(_) => Place::Some(Vec::new()),
                    },
                }
            }
            Value::Null | Value::Invalid | Value::Unknown => anywhere(),
        };
    }
    let read = Reading { values, shared };
    let found = match &*distribution.rule {
        Rule::Hash(owners) => hashed(&pin.columns, &read).map(|slots| {
            slots.iter().for_each(|slot| touched.note(Unit::slot(pin.distribution, *slot)));
            owned(&slots, owners)
        }),
        Rule::Range(ranges) => pin.columns.first().and_then(|column| {
            let parts = narrowed(&distribution.rule, column, &read)?;
            Some(parts.into_iter().map(|part| ranges[part as usize].shard).collect())
        }),
        Rule::List(lists) => listed(&distribution.rule, lists, &pin.columns, &read),
        // A key that is not known may be anywhere.
        Rule::Directory(directory) => pin
            .columns
            .first()
            .and_then(|column| read.list(column)?.iter().map(|value| directory.get(value)).collect()),
    };
    if !matches!(&*distribution.rule, Rule::Hash(_)) {
        touched.note(Unit::whole(pin.distribution));
    }
    match found {
        None => anywhere(),
        Some(mut found) => {
            found.sort_unstable();
            found.dedup();
            match found[..] {
                [shard] => Place::One(shard),
                _ => Place::Some(found),
            }
        }
    }
}

/// `shared` is sorted.
pub(super) fn is_shared(constant: &Constant, shared: &[usize]) -> bool {
    matches!(constant.source, Source::Param(number) if shared.binary_search(&number).is_ok())
}

struct Reading<'a> {
    values: Values<'a>,
    shared: &'a [usize],
}

impl<'a> Reading<'a> {
    fn value(&self, constant: &Constant, column: Column) -> Value<'a> {
        constant.compared(column, self.values, is_shared(constant, self.shared))
    }

    /// The values that a fact allows. `None`: it says nothing.
    fn spans(&self, fact: &[Atom], column: Column) -> Option<Vec<Span<'a>>> {
        let mut spans = Vec::with_capacity(fact.len());
        for atom in fact {
            match atom {
                Atom::Value(constant) => match self.value(constant, column) {
                    Value::Key(value) => spans.push(Span::Value(value)),
                    // Nothing is equal to NULL.
                    Value::Null => {}
                    Value::Invalid | Value::Unknown => return None,
                },
                Atom::Same(constant) => match self.value(constant, column) {
                    Value::Key(value) => spans.push(Span::Value(value)),
                    Value::Null => spans.push(Span::Null),
                    Value::Invalid | Value::Unknown => return None,
                },
                Atom::Elements(array) => {
                    let shared = is_shared(array, self.shared);
                    spans.extend(elements(*array, column, self.values, shared)?.into_iter().map(Span::Value));
                }
                Atom::Null => spans.push(Span::Null),
                Atom::Between { low, high } => {
                    let end = |end: &Option<(Constant, bool)>| match end {
                        None => End::Open,
                        Some((constant, inclusive)) => match self.value(constant, column) {
                            Value::Key(value) => End::At(value, *inclusive),
                            Value::Null => End::Never,
                            Value::Invalid | Value::Unknown => End::Open,
                        },
                    };
                    match (end(low), end(high)) {
                        // Nothing is below NULL, or above.
                        (End::Never, _) | (_, End::Never) => {}
                        (End::Open, End::Open) => return None,
                        (low, high) => spans.push(Span::Between { low: low.at(), high: high.at() }),
                    }
                }
            }
        }
        Some(spans)
    }

    /// The shortest list of values that a column can have.
    fn list(&self, known: &KeyColumn) -> Option<Vec<KeyValue<'a>>> {
        let only_values = |fact: &Vec<Atom>| {
            self.spans(fact, known.column)?
                .into_iter()
                .map(|span| match span {
                    Span::Value(value) => Some(value),
                    Span::Null | Span::Between { .. } => None,
                })
                .collect::<Option<Vec<_>>>()
        };
        known.lists.iter().filter_map(only_values).min_by_key(Vec::len)
    }
}

enum End<'a> {
    Open,
    At(KeyValue<'a>, bool),
    Never,
}

impl<'a> End<'a> {
    fn at(self) -> Option<(KeyValue<'a>, bool)> {
        match self {
            Self::At(value, inclusive) => Some((value, inclusive)),
            Self::Open | Self::Never => None,
        }
    }
}

/// The parts of a rule that all facts about a column allow. `None`: no fact says anything.
fn narrowed(rule: &Rule, known: &KeyColumn, read: &Reading<'_>) -> Option<Vec<u32>> {
    let ordered = order_is_bytes(known.column.ty) || known.column.c_collation;
    let mut found: Option<Vec<u32>> = None;
    for fact in &known.lists {
        let Some(parts) = read.spans(fact, known.column).and_then(|spans| parts(rule, &spans, ordered))
        else {
            continue;
        };
        found = Some(match found {
            None => parts,
            Some(found) => found.into_iter().filter(|part| parts.binary_search(part).is_ok()).collect(),
        });
    }
    found
}

fn owned(slots: &[u16], owners: &[ShardId]) -> Vec<ShardId> {
    slots.iter().filter_map(|slot| owners.get(usize::from(*slot)).copied()).collect()
}

/// The slots of the keys. `None`: any.
fn hashed(columns: &[KeyColumn], read: &Reading<'_>) -> Option<Vec<u16>> {
    let lists: Vec<Vec<KeyValue<'_>>> =
        columns.iter().map(|column| read.list(column)).collect::<Option<_>>()?;
    if lists.iter().map(Vec::len).try_fold(1usize, usize::checked_mul)? > COMBINATIONS_MAX {
        return None;
    }
    let mut hashes = vec![KeyHash::default()];
    for list in &lists {
        hashes = hashes
            .into_iter()
            .flat_map(|hash| {
                list.iter().map(move |value| {
                    let mut hash = hash;
                    hash.add(value);
                    hash
                })
            })
            .collect();
    }
    Some(hashes.into_iter().map(KeyHash::slot).collect())
}

/// `None`: anywhere.
fn listed(rule: &Rule, lists: &Lists, columns: &[KeyColumn], read: &Reading<'_>) -> Option<Vec<ShardId>> {
    let (first, others) = columns.split_first()?;
    // Without a fact about the first column, the others still say where in each group.
    let groups = narrowed(rule, first, read);
    let all = groups.is_none();
    let groups = groups.unwrap_or_else(|| (0..lists.groups().len() as u32).collect());
    let mut found = Vec::new();
    let mut within = false;
    for group in groups {
        match lists.groups().get(group as usize)? {
            Group::One(shard) => found.push(*shard),
            Group::Hash(owners) => match hashed(others, read) {
                Some(slots) => {
                    within = true;
                    found.extend(owned(&slots, owners));
                }
                None => found.extend(owners.iter().copied()),
            },
        }
        found.sort_unstable();
        found.dedup();
    }
    (!all || within).then_some(found)
}
