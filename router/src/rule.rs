//! How a distribution places a key: by its slot, by ranges, by lists of values, or by lists and then slots within a group.
//!
//! Invariant: a key has at most one place, the same in every pgherd that has read the same catalog; what a set of keys is
//! pruned to contains the place of each of them.
//!
//! A key that no range or list takes belongs nowhere: no row has it, and none can be inserted (23514, as PostgreSQL says of
//! a partitioned table).
//!
//! Start reading at [`Rule::find`].

use std::cmp::Ordering;
use std::sync::Arc;

use pgherd_config::KeyType;

use crate::directory::Directory;
use crate::hash::KeyHash;
use crate::topology::{SLOTS, ShardId};
use crate::value::KeyValue;

#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Owner of each slot; [`SLOTS`] entries.
    Hash(Box<[ShardId]>),
    /// In ascending order, without overlaps; there may be gaps.
    Range(Box<[KeyRange]>),
    List(Lists),
    /// Key by key. A key that is not there may still have a place: see [`Directory`].
    Directory(Arc<Directory>),
}

/// From `from` (in it) to `to` (not in it), as the partitions of PostgreSQL. `None`: without an end.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRange {
    pub from: Option<KeyValue<'static>>,
    pub to: Option<KeyValue<'static>>,
    pub shard: ShardId,
}

/// By the first column of the key.
#[derive(Debug, Clone, PartialEq)]
pub struct Lists {
    /// In ascending order, each once; index into `groups`.
    values: Box<[(KeyValue<'static>, u32)]>,
    null: Option<u32>,
    /// What is not listed, NULL included.
    default: Option<u32>,
    groups: Box<[Group]>,
}

/// What a list of values names.
#[derive(Debug, Clone, PartialEq)]
pub enum Group {
    One(ShardId),
    /// By the hash of the other columns; [`SLOTS`] entries.
    Hash(Box<[ShardId]>),
}

/// Why a rule cannot be made of what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleError {
    Slots,
    /// The range (by its place in what was given) is empty.
    Empty(usize),
    /// These two ranges have keys in common.
    Overlap(usize, usize),
    /// A value (or NULL, or the default) is listed twice.
    Twice,
}

impl Rule {
    /// # Errors
    /// `owners` are not as many as there are slots.
    pub fn hash(owners: Box<[ShardId]>) -> Result<Self, RuleError> {
        if owners.len() == SLOTS { Ok(Self::Hash(owners)) } else { Err(RuleError::Slots) }
    }

    /// # Errors
    /// See [`RuleError`].
    pub fn range(ranges: Vec<KeyRange>) -> Result<Self, RuleError> {
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        for (at, range) in ranges.iter().enumerate() {
            if let (Some(from), Some(to)) = (&range.from, &range.to)
                && from.order(to) != Ordering::Less
            {
                return Err(RuleError::Empty(at));
            }
        }
        order.sort_by(|left, right| lower(&ranges[*left].from, &ranges[*right].from));
        for pair in order.windows(2) {
            let (left, right) = (&ranges[pair[0]], &ranges[pair[1]]);
            let apart = match (&left.to, &right.from) {
                (Some(to), Some(from)) => to.order(from) != Ordering::Greater,
                (None, _) | (_, None) => false,
            };
            if !apart {
                return Err(RuleError::Overlap(pair[0].min(pair[1]), pair[0].max(pair[1])));
            }
        }
        let mut ranges: Vec<Option<KeyRange>> = ranges.into_iter().map(Some).collect();
        Ok(Self::Range(order.into_iter().filter_map(|at| ranges[at].take()).collect()))
    }

    /// The shards that rows may be on, ascending.
    pub fn shards(&self) -> Vec<ShardId> {
        let mut found: Vec<ShardId> = match self {
            Self::Hash(owners) => owners.to_vec(),
            Self::Range(ranges) => ranges.iter().map(|range| range.shard).collect(),
            Self::List(lists) => lists.groups.iter().flat_map(|group| group.shards().to_vec()).collect(),
            Self::Directory(directory) => directory.shards(),
        };
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether NULL has a place, as the first column of a key.
    pub fn takes_null(&self) -> bool {
        match self {
            Self::Hash(_) | Self::Range(_) | Self::Directory(_) => false,
            Self::List(lists) => lists.null.or(lists.default).is_some(),
        }
    }

    /// Finds the place of a key, part by part.
    pub fn find(&self) -> Finder<'_> {
        Finder {
            rule: self,
            state: match self {
                Self::Hash(_) => State::Hash,
                Self::Range(_) | Self::List(_) | Self::Directory(_) => State::First,
            },
            hash: KeyHash::default(),
        }
    }

    /// The shard of a whole key. `None`: nowhere; by directory: not known.
    pub fn owner(&self, key: &[KeyValue<'_>]) -> Option<ShardId> {
        self.locate(key).0
    }

    /// [`Self::owner`], and the slot, where rows move by slots: see [`Finder::slot`].
    pub fn locate(&self, key: &[KeyValue<'_>]) -> (Option<ShardId>, Option<u16>) {
        // The hot path: one column by its hash.
        if let (Self::Hash(owners), [value]) = (self, key) {
            let slot = crate::hash::slot(std::slice::from_ref(value));
            return (owners.get(usize::from(slot)).copied(), Some(slot));
        }
        let mut finder = self.find();
        key.iter().for_each(|value| finder.add(Some(value)));
        (finder.shard(), finder.slot())
    }
}

/// Both without an end are equal; without a beginning is lowest.
fn lower(left: &Option<KeyValue<'_>>, right: &Option<KeyValue<'_>>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(left), Some(right)) => left.order(right),
    }
}

impl Group {
    fn shards(&self) -> &[ShardId] {
        match self {
            Self::One(shard) => std::slice::from_ref(shard),
            Self::Hash(owners) => owners,
        }
    }
}

impl Lists {
    /// `values`: each with its group. `null`, `default`: groups.
    ///
    /// # Errors
    /// A value stands twice, a group does not exist, or has not as many owners as there are slots.
    pub fn new(
        mut values: Vec<(KeyValue<'static>, u32)>,
        null: Option<u32>,
        default: Option<u32>,
        groups: Vec<Group>,
    ) -> Result<Self, RuleError> {
        values.sort_by(|(left, _), (right, _)| left.order(right));
        if values.windows(2).any(|pair| pair[0].0.order(&pair[1].0) == Ordering::Equal) {
            return Err(RuleError::Twice);
        }
        let named = values.iter().map(|(_, group)| *group).chain(null).chain(default);
        let exist = named.into_iter().all(|group| (group as usize) < groups.len());
        let whole = groups.iter().all(|group| match group {
            Group::One(_) => true,
            Group::Hash(owners) => owners.len() == SLOTS,
        });
        if !exist || !whole {
            return Err(RuleError::Slots);
        }
        Ok(Self { values: values.into(), null, default, groups: groups.into() })
    }

    /// The group of a value of the first column. `None` in: NULL. `None` out: nowhere.
    pub fn group(&self, value: Option<&KeyValue<'_>>) -> Option<u32> {
        let listed = match value {
            None => self.null,
            Some(value) => {
                let found = self.values.binary_search_by(|(listed, _)| listed.order(value));
                found.ok().map(|at| self.values[at].1)
            }
        };
        listed.or(self.default)
    }

    pub fn values(&self) -> &[(KeyValue<'static>, u32)] {
        &self.values
    }

    pub fn null(&self) -> Option<u32> {
        self.null
    }

    pub fn default_group(&self) -> Option<u32> {
        self.default
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}

/// The place of a key whose parts come one after the other: none need outlive its turn.
#[derive(Debug, Clone, Copy)]
pub struct Finder<'r> {
    rule: &'r Rule,
    state: State<'r>,
    hash: KeyHash,
}

#[derive(Debug, Clone, Copy)]
enum State<'r> {
    Hash,
    /// Of a range or list: nothing yet.
    First,
    /// The other columns decide.
    Within(&'r [ShardId]),
    Done(Option<ShardId>),
}

impl Finder<'_> {
    /// The next part of the key; `None`: NULL.
    pub fn add(&mut self, value: Option<&KeyValue<'_>>) {
        match (self.state, self.rule) {
            // PostgreSQL's partition hash leaves a NULL out; a key of ours has none.
            (State::Hash | State::Within(_), _) => match value {
                Some(value) => self.hash.add(value),
                None => self.state = State::Done(None),
            },
            (State::First, Rule::Range(ranges)) => {
                self.state =
                    State::Done(value.and_then(|value| range_of(ranges, value)).map(|range| range.shard));
            }
            (State::First, Rule::List(lists)) => {
                self.state = match lists.group(value).and_then(|group| lists.groups.get(group as usize)) {
                    None => State::Done(None),
                    Some(Group::One(shard)) => State::Done(Some(*shard)),
                    Some(Group::Hash(owners)) => State::Within(owners),
                };
            }
            (State::First, Rule::Directory(directory)) => {
                if let Some(value) = value {
                    self.hash.add(value);
                }
                self.state = State::Done(value.and_then(|value| directory.get(value)));
            }
            (State::First, Rule::Hash(_)) | (State::Done(_), _) => {}
        }
    }

    /// Of the whole key, where rows move by slots: the slot that it would have by its hash in a directory. `None`: they move by
    /// other units.
    pub fn slot(&self) -> Option<u16> {
        match self.rule {
            Rule::Hash(_) | Rule::Directory(_) => Some(self.hash.slot()),
            Rule::Range(_) | Rule::List(_) => None,
        }
    }

    /// `None`: nowhere.
    pub fn shard(&self) -> Option<ShardId> {
        match (self.state, self.rule) {
            (State::Hash, Rule::Hash(owners)) => owners.get(usize::from(self.hash.slot())).copied(),
            (State::Within(owners), _) => owners.get(usize::from(self.hash.slot())).copied(),
            (State::Done(shard), _) => shard,
            (State::Hash | State::First, _) => None,
        }
    }
}

fn range_of<'r>(ranges: &'r [KeyRange], value: &KeyValue<'_>) -> Option<&'r KeyRange> {
    // The last one that begins at or below the value.
    let after = ranges.partition_point(|range| {
        range.from.as_ref().is_none_or(|from| from.order(value) != Ordering::Greater)
    });
    let range = ranges.get(after.checked_sub(1)?)?;
    range.to.as_ref().is_none_or(|to| value.order(to) == Ordering::Less).then_some(range)
}

/// Values of a column that a condition allows.
#[derive(Debug, Clone, PartialEq)]
pub enum Span<'a> {
    Value(KeyValue<'a>),
    Null,
    /// `inclusive`; `None`: without an end.
    Between {
        low: Option<(KeyValue<'a>, bool)>,
        high: Option<(KeyValue<'a>, bool)>,
    },
}

/// The parts (ranges or groups) of `rule` that hold these values of its first column, ascending. `None`: a hash has no such parts.
///
/// `ordered`: the values' order on the servers is ours. Without that, a condition with `<` says nothing.
pub fn parts(rule: &Rule, spans: &[Span<'_>], ordered: bool) -> Option<Vec<u32>> {
    let mut found: Vec<u32> = match rule {
        Rule::Hash(_) | Rule::Directory(_) => return None,
        Rule::Range(ranges) => {
            let holds = |range: &KeyRange| spans.iter().any(|span| range_holds(range, span, ordered));
            (0u32..).zip(ranges).filter(|(_, range)| holds(range)).map(|(at, _)| at).collect()
        }
        Rule::List(lists) => {
            let mut found = Vec::new();
            for span in spans {
                match span {
                    Span::Null => found.extend(lists.group(None)),
                    Span::Value(value) => found.extend(lists.group(Some(value))),
                    Span::Between { low, high } => {
                        let inside = |value: &KeyValue<'_>| !ordered || within(value, low, high);
                        found.extend(
                            lists.values.iter().filter(|(value, _)| inside(value)).map(|(_, group)| *group),
                        );
                        found.extend(lists.default);
                    }
                }
            }
            found
        }
    };
    found.sort_unstable();
    found.dedup();
    Some(found)
}

type End<'a> = Option<(KeyValue<'a>, bool)>;

fn within(value: &KeyValue<'_>, low: &End<'_>, high: &End<'_>) -> bool {
    let above = low.as_ref().is_none_or(|(low, inclusive)| match value.order(low) {
        Ordering::Less => false,
        Ordering::Equal => *inclusive,
        Ordering::Greater => true,
    });
    let below = high.as_ref().is_none_or(|(high, inclusive)| match value.order(high) {
        Ordering::Less => true,
        Ordering::Equal => *inclusive,
        Ordering::Greater => false,
    });
    above && below
}

fn range_holds(range: &KeyRange, span: &Span<'_>, ordered: bool) -> bool {
    let begins_below = |value: &KeyValue<'_>, inclusive: bool| {
        range.from.as_ref().is_none_or(|from| match from.order(value) {
            Ordering::Less => true,
            Ordering::Equal => inclusive,
            Ordering::Greater => false,
        })
    };
    // The range's end is not in it.
    let ends_above =
        |value: &KeyValue<'_>| range.to.as_ref().is_none_or(|to| value.order(to) == Ordering::Less);
    match span {
        Span::Null => false,
        Span::Value(value) => begins_below(value, true) && ends_above(value),
        Span::Between { .. } if !ordered => true,
        Span::Between { low, high } => {
            low.as_ref().is_none_or(|(low, inclusive)| match (low, inclusive) {
                // Above 99 is from 100 on.
                (KeyValue::Integer(low), false) => {
                    low.checked_add(1).is_some_and(|low| ends_above(&KeyValue::Integer(low)))
                }
                _ => ends_above(low),
            }) && high.as_ref().is_none_or(|(high, inclusive)| begins_below(high, *inclusive))
        }
    }
}

/// Whether the servers compare values of this type as [`KeyValue::order`] does, whatever the collation.
pub fn order_is_bytes(ty: KeyType) -> bool {
    !matches!(ty, KeyType::Text | KeyType::Varchar | KeyType::Char)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(ty: KeyType, text: &str) -> KeyValue<'static> {
        KeyValue::from_text(ty, text.as_bytes()).unwrap().into_owned()
    }

    /// "..10 s0, 10..20 s1": without a number, without an end.
    fn ranges(text: &str) -> Result<Rule, RuleError> {
        let range = |text: &str| {
            let (bounds, shard) = text.trim().split_once(" s").unwrap();
            let (from, to) = bounds.split_once("..").unwrap();
            let bound = |text: &str| (!text.is_empty()).then(|| value(KeyType::BigInt, text));
            KeyRange { from: bound(from), to: bound(to), shard: ShardId(shard.parse().unwrap()) }
        };
        Rule::range(text.split(',').map(range).collect())
    }

    fn place(rule: &Rule, key: i64) -> String {
        rule.owner(&[KeyValue::Integer(key)]).map_or("nowhere".into(), |shard| format!("s{}", shard.0))
    }

    #[test]
    fn a_range_has_its_beginning_and_not_its_end() {
        let rule = ranges("10..20 s1, ..10 s0, 30.. s2").unwrap();
        let cases = [
            (i64::MIN, "s0"),
            (9, "s0"),
            (10, "s1"),
            (19, "s1"),
            (20, "nowhere"),
            (29, "nowhere"),
            (30, "s2"),
            (i64::MAX, "s2"),
        ];
        for (key, expected) in cases {
            assert_eq!(place(&rule, key), expected, "{key}");
        }
        assert_eq!(place(&ranges(".. s3").unwrap(), 5), "s3");
        assert_eq!(rule.shards(), [ShardId(0), ShardId(1), ShardId(2)]);
    }

    #[test]
    fn ranges_with_keys_in_common_are_no_rule() {
        let cases = [
            ("..10 s0, 9..20 s1", RuleError::Overlap(0, 1)),
            ("10..20 s0, 0..11 s1", RuleError::Overlap(0, 1)),
            ("10.. s0, 20..30 s1", RuleError::Overlap(0, 1)),
            ("10..20 s0, ..11 s1", RuleError::Overlap(0, 1)),
            (".. s0, .. s1", RuleError::Overlap(0, 1)),
            ("10..20 s0, 10..20 s0", RuleError::Overlap(0, 1)),
            ("1..2 s0, 10..10 s1", RuleError::Empty(1)),
            ("11..10 s1", RuleError::Empty(0)),
        ];
        for (text, expected) in cases {
            assert_eq!(ranges(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_list_takes_its_values_then_the_default() {
        let eu = Group::Hash((0..SLOTS).map(|slot| ShardId(slot as u16 % 2)).collect());
        let text = |text: &str| value(KeyType::Text, text);
        let listed = vec![(text("fr"), 0), (text("de"), 0), (text("us"), 1)];
        let groups = vec![eu, Group::One(ShardId(2)), Group::One(ShardId(3))];
        let rule = Rule::List(Lists::new(listed.clone(), Some(1), None, groups.clone()).unwrap());
        let place = |rule: &Rule, first: Option<&str>, second: Option<i64>| {
            let mut finder = rule.find();
            finder.add(first.map(text).as_ref());
            finder.add(second.map(KeyValue::Integer).as_ref());
            finder.shard().map(|shard| shard.0)
        };
        let within = |key| Some(crate::hash::slot(&[KeyValue::Integer(key)]) % 2);
        assert_eq!(place(&rule, Some("de"), Some(7)), within(7));
        assert_eq!(place(&rule, Some("fr"), Some(8)), within(8));
        assert_eq!(place(&rule, Some("de"), None), None);
        assert_eq!(place(&rule, Some("us"), None), Some(2), "the others do not matter there");
        assert_eq!(place(&rule, None, Some(1)), Some(2));
        assert_eq!(place(&rule, Some("DE"), Some(1)), None);
        let rule = Rule::List(Lists::new(listed.clone(), None, Some(2), groups.clone()).unwrap());
        assert_eq!(place(&rule, Some("DE"), Some(1)), Some(3));
        assert_eq!(place(&rule, None, Some(1)), Some(3), "NULL is not listed");
        let twice = [listed, vec![(text("us"), 0)]].concat();
        assert_eq!(Lists::new(twice, None, None, groups).unwrap_err(), RuleError::Twice);
    }

    #[test]
    fn a_span_is_pruned_to_the_parts_that_may_hold_it_and_no_others() {
        let bounds = [None, Some(0i64), Some(10), Some(20), Some(40), Some(50), None];
        let starts = [None, Some(0i64), Some(10), Some(20), Some(40)];
        let ends = [Some(0i64), Some(10), Some(20), Some(30), None];
        let all = starts.iter().zip(ends).zip(0u16..).map(|((from, to), shard)| KeyRange {
            from: from.map(KeyValue::Integer),
            to: to.map(KeyValue::Integer),
            shard: ShardId(shard),
        });
        let rule = Rule::range(all.collect()).unwrap();
        let Rule::Range(ranges) = &rule else { unreachable!() };
        let listed: Vec<_> = (-5..55).map(|key| (KeyValue::Integer(key), (key + 5) as u32)).collect();
        let groups = (0..60).map(|shard| Group::One(ShardId(shard))).collect();
        let lists = Rule::List(Lists::new(listed, None, None, groups).unwrap());
        for low in bounds {
            for high in bounds {
                for (low_in, high_in) in [(false, false), (false, true), (true, false), (true, true)] {
                    let span = Span::Between {
                        low: low.map(|low| (KeyValue::Integer(low), low_in)),
                        high: high.map(|high| (KeyValue::Integer(high), high_in)),
                    };
                    let inside = |key: &i64| {
                        low.is_none_or(|low| *key > low || low_in && *key == low)
                            && high.is_none_or(|high| *key < high || high_in && *key == high)
                    };
                    let found = parts(&rule, std::slice::from_ref(&span), true).unwrap();
                    for key in (-5..55).filter(inside) {
                        let shard = rule.owner(&[KeyValue::Integer(key)]);
                        let kept = found.iter().any(|part| Some(ranges[*part as usize].shard) == shard);
                        assert!(shard.is_none() || kept, "{key} is in {span:?}, which goes to {found:?}");
                    }
                    let exact: Vec<u32> = (-5..55).filter(inside).map(|key| (key + 5) as u32).collect();
                    assert_eq!(parts(&lists, std::slice::from_ref(&span), true).unwrap(), exact, "{span:?}");
                    assert_eq!(parts(&rule, &[span], false).unwrap().len(), 5, "an order that is not known");
                }
            }
        }
        let of = |low: i64, high: i64| {
            let span = Span::Between {
                low: Some((KeyValue::Integer(low), true)),
                high: Some((KeyValue::Integer(high), false)),
            };
            parts(&rule, &[span], true).unwrap()
        };
        assert_eq!(of(0, 10), [1]);
        assert_eq!(of(0, 11), [1, 2]);
        assert_eq!(of(30, 40), [] as [u32; 0], "a gap");
        assert_eq!(of(9, 10), [1]);
    }
}
