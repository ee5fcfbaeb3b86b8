//! The ranges and lists of a distribution: read with their places, checked together.
//!
//! Invariant: what comes out takes every key at most once; a key that nothing takes is one that the operator has said may be
//! without a place (`gaps = true`, the open ends, a list without a default).

use std::cmp::Ordering;
use std::collections::HashMap;

use toml::de::DeValue;

use crate::document::{At, Field, Section, did_you_mean};
use crate::key::{KeyValue, ValueError, type_name};
use crate::model::{KeyType, List, Method, Range};
use crate::problems::Draft;
use crate::values;

/// How a distribution places keys, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Hash,
    Range,
    List,
}

/// `[[databases.NAME.distributions.D.ranges]]`: one range of keys.
pub(crate) struct RawRange {
    /// The first key that is in it. Default: it has no beginning.
    pub from: Field<String>,

    /// The first key that is not in it. Default: it has no end.
    pub to: Field<String>,

    /// Name of the shard. Required.
    pub shard: Field<String>,

    pub at: usize,
}

/// `[[databases.NAME.distributions.D.lists]]`: keys by their first column.
pub(crate) struct RawList {
    /// Values of the key's first column.
    pub values: Field<Vec<At<String>>>,

    /// `true`: NULL belongs to it.
    pub null: Field<bool>,

    /// `true`: so does everything that no list names.
    pub default: Field<bool>,

    /// Name of the shard; or
    pub shard: Field<String>,

    /// names of several, among which the other columns of the key choose by their hash; or
    pub shards: Field<Vec<At<String>>>,

    /// the `region` of the shards.
    pub region: Field<String>,

    pub at: usize,
}

/// A key as TOML writes it: a string, a number, a boolean, a date.
pub(crate) fn key(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Datetime(value) => Ok(value.to_string()),
        other => Err(format!("must be a key, but is {}", values::kind(other))),
    }
}

impl RawRange {
    pub fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let range = Self {
            from: section.value("from", problems, key),
            to: section.value("to", problems, key),
            shard: section.required("shard", problems, values::text),
            at: section.at,
        };
        section.finish(problems);
        range
    }
}

impl RawList {
    pub fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let list = Self {
            values: section.list("values", true, problems, key),
            null: section.value("null", problems, values::boolean),
            default: section.value("default", problems, values::boolean),
            shard: section.value("shard", problems, values::text),
            shards: section.list("shards", false, problems, values::text),
            region: section.value("region", problems, values::text),
            at: section.at,
        };
        section.finish(problems);
        list
    }
}

/// What of a distribution says where keys are.
pub(crate) struct Spread<'a> {
    pub name: &'a str,
    pub at: usize,
    pub types: &'a [At<KeyType>],
    pub ranges: &'a Field<Vec<RawRange>>,
    pub gaps: &'a Field<bool>,
    pub lists: &'a Field<Vec<RawList>>,
}

/// The shards of the database: name and region. `None`: it could not be read.
pub(crate) type Shards<'a> = &'a [(Option<&'a str>, Option<&'a str>)];

impl Spread<'_> {
    /// `None`: there was a problem, which is reported.
    pub fn check(&self, by: &At<By>, shards: Shards<'_>, problems: &mut Draft<'_>) -> Option<Method> {
        let name = self.name;
        let mut misplaced = false;
        let mut only = |given: bool, at: usize, what: &str, of: By, word: &str| {
            if given && by.value != of {
                problems.push(at, format!("distribution {name:?} has {what}, which only by = {word:?} has"));
                misplaced = true;
            }
        };
        let at = |at: Option<usize>| at.unwrap_or(self.at);
        let ranges_at = self.ranges.given().map(|given| given.at);
        let lists_at = self.lists.given().map(|given| given.at);
        let gaps_at = self.gaps.given().map(|given| given.at);
        only(ranges_at.is_some(), at(ranges_at), "ranges", By::Range, "range");
        only(gaps_at.is_some(), at(gaps_at), "gaps", By::Range, "range");
        only(lists_at.is_some(), at(lists_at), "lists", By::List, "list");
        if misplaced {
            return None;
        }
        match by.value {
            By::Hash => Some(Method::Hash),
            By::Range => self.range(by.at, shards, problems),
            By::List => self.list(by.at, shards, problems),
        }
    }

    fn range(&self, at: usize, shards: Shards<'_>, problems: &mut Draft<'_>) -> Option<Method> {
        let name = self.name;
        let [ty] = self.types else {
            problems.push(at, format!("distribution {name:?} is by range, so its key has one column"));
            return None;
        };
        let ranges = match self.ranges {
            Field::Given(ranges) if !ranges.value.is_empty() => &ranges.value,
            Field::Given(_) | Field::Absent => {
                problems.push(at, format!("distribution {name:?} is by range, but has no ranges"));
                return None;
            }
            Field::Bad => return None,
        };
        let read: Vec<Option<(Range, End, End)>> = ranges
            .iter()
            .map(|range| {
                let from = bound(&range.from, ty.value, problems);
                let to = bound(&range.to, ty.value, problems);
                let shard = range.shard.given().and_then(|wanted| find(wanted, shards, problems));
                let (from, to) = (from?, to?);
                if let (Some(low), Some(high)) = (&from, &to)
                    && low.order(high) != Ordering::Less
                {
                    problems.push(
                        range.at,
                        format!("distribution {name:?} has a range that ends before it begins, or where"),
                    );
                    return None;
                }
                let text = |field: &Field<String>| field.value().cloned();
                Some((Range { from: text(&range.from), to: text(&range.to), shard: shard? }, from, to))
            })
            .collect();
        let mut whole: Vec<(usize, &(Range, End, End))> =
            ranges.iter().zip(&read).filter_map(|(raw, range)| Some((raw.at, range.as_ref()?))).collect();
        whole.sort_by(|(_, (_, left, _)), (_, (_, right, _))| match (left, right) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => left.order(right),
        });
        let gaps = self.gaps.value().copied().unwrap_or(false);
        let mut good = whole.len() == read.len();
        for pair in whole.windows(2) {
            let ((left_at, (left, _, left_to)), (right_at, (right, right_from, _))) = (pair[0], pair[1]);
            let order = match (left_to, right_from) {
                (Some(to), Some(from)) => to.order(from),
                (None, _) | (_, None) => Ordering::Greater,
            };
            let (first, second) = (left_at.min(right_at), left_at.max(right_at));
            let line = problems.place(first).line;
            match order {
                Ordering::Greater => {
                    problems.push(
                        second,
                        format!("distribution {name:?} has a range with keys of the one in line {line}"),
                    );
                    good = false;
                }
                // Beside a range that could not be read, a gap is not the mistake.
                Ordering::Less if !gaps && good => {
                    let shown = |end: &Option<String>| end.clone().unwrap_or_default();
                    let (from, to) = (shown(&left.to), shown(&right.from));
                    problems.push(
                        right_at,
                        format!("distribution {name:?} has no range from {from:?} to {to:?}; say gaps = true if such keys are to be refused"),
                    );
                    good = false;
                }
                Ordering::Less | Ordering::Equal => {}
            }
        }
        let read: Option<Vec<Range>> = read.into_iter().map(|range| Some(range?.0)).collect();
        good.then_some(Method::Range(read?))
    }

    fn list(&self, at: usize, shards: Shards<'_>, problems: &mut Draft<'_>) -> Option<Method> {
        let name = self.name;
        let first = self.types.first()?;
        let lists = match self.lists {
            Field::Given(lists) if !lists.value.is_empty() => &lists.value,
            Field::Given(_) | Field::Absent => {
                problems.push(at, format!("distribution {name:?} is by list, but has no lists"));
                return None;
            }
            Field::Bad => return None,
        };
        let mut known: HashMap<KeyValue<'static>, usize> = HashMap::new();
        let (mut null, mut default) = (None, None);
        let mut good = true;
        let mut read = Vec::with_capacity(lists.len());
        for list in lists {
            let values = match &list.values {
                Field::Given(values) => values.value.as_slice(),
                Field::Absent => &[],
                Field::Bad => {
                    good = false;
                    continue;
                }
            };
            for value in values {
                match parse(value, first.value) {
                    Ok(parsed) => {
                        if let Some(before) = known.insert(parsed, value.at) {
                            let line = problems.place(before).line;
                            problems.push(
                                value.at,
                                format!(
                                    "distribution {name:?} lists {:?} again; it is already in line {line}",
                                    value.value
                                ),
                            );
                            good = false;
                        }
                    }
                    Err(reason) => {
                        problems.push(value.at, reason);
                        good = false;
                    }
                }
            }
            let mut once = |field: &Field<bool>, seen: &mut Option<usize>, what: &str| {
                let Some(given) = field.given().filter(|given| given.value) else { return false };
                if let Some(before) = seen.replace(given.at) {
                    let line = problems.place(before).line;
                    problems.push(
                        given.at,
                        format!("distribution {name:?} has {what} again; it is already in line {line}"),
                    );
                    good = false;
                }
                true
            };
            let has_null = once(&list.null, &mut null, "null = true");
            let has_default = once(&list.default, &mut default, "default = true");
            if values.is_empty() && !has_null && !has_default {
                problems.push(list.at, format!("distribution {name:?} has a list without values"));
                good = false;
            }
            match self.group(list, shards, problems) {
                Some(shards) => read.push(List {
                    values: values.iter().map(|value| value.value.clone()).collect(),
                    null: has_null,
                    default: has_default,
                    shards,
                }),
                None => good = false,
            }
        }
        good.then_some(Method::List(read))
    }

    /// The shards that a list names.
    fn group(&self, list: &RawList, shards: Shards<'_>, problems: &mut Draft<'_>) -> Option<Vec<usize>> {
        let name = self.name;
        let absent = |absent: bool| usize::from(!absent);
        let said = absent(matches!(list.shard, Field::Absent))
            + absent(matches!(list.shards, Field::Absent))
            + absent(matches!(list.region, Field::Absent));
        if said != 1 {
            problems.push(
                list.at,
                format!("a list of distribution {name:?} must have one of shard, shards and region"),
            );
            return None;
        }
        let (at, found) = match (&list.shard, &list.shards, &list.region) {
            (Field::Given(shard), ..) => (shard.at, vec![find(shard, shards, problems)?]),
            (_, Field::Given(wanted), _) => {
                let found: Vec<_> = wanted.value.iter().map(|shard| find(shard, shards, problems)).collect();
                let mut found = found.into_iter().collect::<Option<Vec<_>>>()?;
                found.sort_unstable();
                if found.is_empty() || found.windows(2).any(|pair| pair[0] == pair[1]) {
                    problems.push(
                        wanted.at,
                        format!("a list of distribution {name:?} must name shards, each once"),
                    );
                    return None;
                }
                (wanted.at, found)
            }
            (.., Field::Given(region)) => {
                let here = |(_, (_, of)): &(usize, &(Option<&str>, Option<&str>))| {
                    *of == Some(region.value.as_str())
                };
                let found: Vec<usize> = shards.iter().enumerate().filter(here).map(|(at, _)| at).collect();
                if found.is_empty() {
                    let advice = did_you_mean(&region.value, shards.iter().filter_map(|(_, region)| *region));
                    problems.push(region.at, format!("no shard has the region {:?}{advice}", region.value));
                    return None;
                }
                (region.at, found)
            }
            _ => return None,
        };
        if found.len() > 1 && self.types.len() < 2 {
            problems.push(
                at,
                format!("a list of distribution {name:?} has {} shards, but the key has no second column that could choose among them", found.len()),
            );
            return None;
        }
        Some(found)
    }
}

type End = Option<KeyValue<'static>>;

/// Outer `None`: reported.
#[allow(clippy::option_option)]
fn bound(field: &Field<String>, ty: KeyType, problems: &mut Draft<'_>) -> Option<End> {
    match field {
        Field::Absent => Some(None),
        Field::Bad => None,
        Field::Given(given) => match parse(given, ty) {
            Ok(value) => Some(Some(value)),
            Err(reason) => {
                problems.push(given.at, reason);
                None
            }
        },
    }
}

fn parse(typed: &At<String>, ty: KeyType) -> Result<KeyValue<'static>, String> {
    KeyValue::from_text(ty, typed.value.as_bytes()).map(KeyValue::into_owned).map_err(|error| {
        let name = type_name(ty);
        let text = &typed.value;
        match error {
            ValueError::Invalid | ValueError::OutOfRange => format!("{text:?} is no {name}"),
            ValueError::NotUnderstood => {
                format!("{text:?} is a {name} only under some settings of a server; write it in full (dates as in \"2024-02-29\", moments with their offset)")
            }
        }
    })
}

/// The index of a shard. `None`: reported, or the shards could not be read.
fn find(wanted: &At<String>, shards: Shards<'_>, problems: &mut Draft<'_>) -> Option<usize> {
    let found = shards.iter().position(|(name, _)| *name == Some(wanted.value.as_str()));
    if found.is_none() && shards.iter().all(|(name, _)| name.is_some()) && !shards.is_empty() {
        let advice = did_you_mean(&wanted.value, shards.iter().filter_map(|(name, _)| *name));
        problems.push(wanted.at, format!("there is no shard {:?}{advice}", wanted.value));
    }
    found
}
