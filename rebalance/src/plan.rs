//! The difference between what the configuration wishes and what the catalog says, as a list of moves.
//!
//! Invariant: carried out in any order, the moves turn the truth into the wish; each key is in at most one of them, and
//! leaves the shard that the truth names. What cannot become the wish by moving rows is an error.
//!
//! Pure. Not here: rows, servers, how long it takes.
//!
//! Start reading at [`difference`] and [`units`].

use std::cmp::Ordering;
use std::collections::BTreeMap;

use pgherd_config::{Distribution, KeyType, List, Method, Range, Shard};
use pgherd_router::topology::SLOTS;
use pgherd_router::value::KeyValue;

use crate::assign;
use crate::placement::{Part, Record, Slots, wished};

/// What moves at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Both ends belong to it. `part` 0: of the whole distribution.
    Slots { part: u32, from: usize, to: usize },
    /// A range or list.
    Part(u32),
    /// Of a directory: in its one text.
    Key(String),
}

impl Unit {
    /// As the catalog has it.
    pub fn json(&self) -> String {
        match self {
            Self::Slots { part, from, to } => format!(r#"{{"part":{part},"from":{from},"to":{to}}}"#),
            Self::Part(part) => format!(r#"{{"part":{part}}}"#),
            Self::Key(key) => {
                let mut text = String::from(r#"{"key":[""#);
                for c in key.chars() {
                    match c {
                        '"' | '\\' => text.extend(['\\', c]),
                        c if u32::from(c) < 0x20 => text.push_str(&format!("\\u{:04x}", u32::from(c))),
                        c => text.push(c),
                    }
                }
                text.push_str(r#""]}"#);
                text
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub unit: Unit,
    /// Names of shards.
    pub source: String,
    pub target: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The truth, in parts so fine that each belongs to one shard before and to one after. It means the same.
    pub refined: Record,
    /// Slots as runs that are as long as they can be; see [`units`].
    pub moves: Vec<Move>,
    /// What the catalog says when all is done: the configuration's own parts. `None`: only the moves change it.
    pub end: Option<Record>,
}

/// # Errors
/// What no move of rows leads to, in words for the operator.
pub fn difference(
    truth: &Record,
    name: &str,
    wish: &Distribution,
    shards: &[Shard],
) -> Result<Difference, String> {
    truth.fits(name, wish).map_err(|why| format!("{why}: no move of rows leads there"))?;
    let of_parts = truth.parts.iter().filter_map(|part| part.shard.as_ref());
    for shard in truth.slots.iter().map(|run| &run.shard).chain(of_parts) {
        if !shards.iter().any(|known| known.name == *shard) {
            return Err(format!(
                "rows of \"{name}\" are on shard \"{shard}\", which is not in the configuration: keep it there with weight = 0 until it is empty"
            ));
        }
    }
    match &wish.by {
        Method::Hash => {
            let weights: Vec<u32> = shards.iter().map(|shard| shard.weight).collect();
            let before = owners(truth, 0, shards)?;
            let after = assign::rebalanced(&before, &weights);
            let moves = runs(0, &before, &after, shards);
            Ok(Difference { refined: truth.clone(), moves, end: None })
        }
        Method::Range(ranges) => of_ranges(truth, name, wish, ranges, shards),
        Method::List(lists) => of_lists(truth, name, wish, lists, shards),
        // Keys stand in a table of their own; they are moved by name.
        Method::Directory(_) => Ok(Difference { refined: truth.clone(), moves: Vec::new(), end: None }),
    }
}

fn owners(record: &Record, part: u32, shards: &[Shard]) -> Result<Vec<usize>, String> {
    let mut owners = vec![usize::MAX; SLOTS];
    for run in record.slots.iter().filter(|run| run.part == part) {
        let shard = shards.iter().position(|shard| shard.name == run.shard);
        let (Some(shard), Some(slots)) = (shard, owners.get_mut(run.from..=run.to)) else {
            return Err("a slot is recorded that does not exist".into());
        };
        slots.fill(shard);
    }
    if owners.contains(&usize::MAX) {
        return Err("slots have no owner in the catalog".into());
    }
    Ok(owners)
}

fn runs(part: u32, before: &[usize], after: &[usize], shards: &[Shard]) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    let name = |shard: usize| shards.get(shard).map_or("", |shard| shard.name.as_str());
    for (slot, (&source, &target)) in before.iter().zip(after).enumerate() {
        if source == target {
            continue;
        }
        if let Some(Move { unit: Unit::Slots { to, .. }, source: of, target: towards }) = moves.last_mut()
            && *to + 1 == slot
            && *of == name(source)
            && *towards == name(target)
        {
            *to = slot;
            continue;
        }
        moves.push(Move {
            unit: Unit::Slots { part, from: slot, to: slot },
            source: name(source).into(),
            target: name(target).into(),
        });
    }
    moves
}

fn as_slots(part: u32, owners: &[usize], shards: &[Shard], epoch: u64) -> Vec<Slots> {
    let name = |shard: usize| shards.get(shard).map_or_else(String::new, |shard| shard.name.clone());
    assign::ranges(owners)
        .into_iter()
        .map(|run| Slots { part, from: run.from.into(), to: run.to.into(), shard: name(run.shard), epoch })
        .collect()
}

/// The highest epoch of a record.
pub fn epoch(record: &Record) -> u64 {
    let slots = record.slots.iter().map(|run| run.epoch);
    slots.chain(record.parts.iter().map(|part| part.epoch)).max().unwrap_or(1)
}

fn value(ty: KeyType, text: &str) -> Result<KeyValue<'static>, String> {
    let value = KeyValue::from_text(ty, text.as_bytes()).map(KeyValue::into_owned);
    value.map_err(|_| format!("\"{text}\" is no key of its distribution"))
}

/// An end of a range with its text.
type End = Option<(KeyValue<'static>, String)>;

fn below(left: &End, right: &End, open_is_low: bool) -> Ordering {
    let open = if open_is_low { Ordering::Less } else { Ordering::Greater };
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => open,
        (Some(_), None) => open.reverse(),
        (Some((left, _)), Some((right, _))) => left.order(right),
    }
}

fn of_ranges(
    truth: &Record,
    name: &str,
    wish: &Distribution,
    ranges: &[Range],
    shards: &[Shard],
) -> Result<Difference, String> {
    let ty = *wish.types.first().ok_or("a key without a type")?;
    let end = |text: &Option<String>| -> Result<End, String> {
        text.as_ref().map(|text| Ok((value(ty, text)?, text.clone()))).transpose()
    };
    let mut before: Vec<(End, End, &str)> = Vec::new();
    for part in &truth.parts {
        before.push((end(&part.from)?, end(&part.to)?, part.shard.as_deref().unwrap_or_default()));
    }
    let mut after: Vec<(End, End, &str)> = Vec::new();
    for range in ranges {
        let shard = shards.get(range.shard).map_or("", |shard| shard.name.as_str());
        after.push((end(&range.from)?, end(&range.to)?, shard));
    }
    // All places where something may change, from below everything to above it.
    let mut cuts: Vec<(KeyValue<'static>, String)> =
        before.iter().chain(&after).flat_map(|(from, to, _)| [from.clone(), to.clone()]).flatten().collect();
    cuts.sort_by(|left, right| left.0.order(&right.0));
    cuts.dedup_by(|left, right| left.0.order(&right.0) == Ordering::Equal);
    let mut ends: Vec<End> = vec![None];
    ends.extend(cuts.into_iter().map(Some));
    ends.push(None);
    let holds = |of: &[(End, End, &str)], from: &End, to: &End| {
        let inside = |(low, high, _): &&(End, End, &str)| {
            below(low, from, true) != Ordering::Greater && below(to, high, false) != Ordering::Greater
        };
        of.iter().find(inside).map(|(_, _, shard)| shard.to_string())
    };
    let epoch = epoch(truth);
    let mut refined: Vec<Part> = Vec::new();
    let mut targets: Vec<String> = Vec::new();
    for pair in ends.windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        let text = |end: &End| end.as_ref().map(|(_, text)| text.clone());
        let (source, target) = match (holds(&before, from, to), holds(&after, from, to)) {
            (None, None) => continue,
            // No row has such a key: it was refused.
            (None, Some(target)) => (target.clone(), target),
            (Some(source), Some(target)) => (source, target),
            (Some(_), None) => {
                let shown = |end: &End, open: &str| text(end).unwrap_or_else(|| open.into());
                return Err(format!(
                    "the keys of \"{name}\" from {} to {} would be nowhere: give them a range",
                    shown(from, "MINVALUE"),
                    shown(to, "MAXVALUE")
                ));
            }
        };
        if let (Some(last), Some(towards)) = (refined.last_mut(), targets.last())
            && last.to.is_some()
            && last.to == text(from)
            && last.shard.as_deref() == Some(&source)
            && *towards == target
        {
            last.to = text(to);
            continue;
        }
        targets.push(target);
        refined.push(Part {
            number: refined.len() as u32 + 1,
            from: text(from),
            to: text(to),
            values: Vec::new(),
            null: false,
            default: false,
            shard: Some(source),
            epoch,
        });
    }
    let moves = refined.iter().zip(targets).filter_map(|(part, target)| {
        let source = part.shard.clone()?;
        (source != target).then_some(Move { unit: Unit::Part(part.number), source, target })
    });
    let moves = moves.collect();
    let end = wished(wish, shards, epoch + 1);
    Ok(Difference {
        refined: Record { parts: refined, slots: Vec::new(), ..truth.clone() },
        moves,
        end: Some(end),
    })
}

fn of_lists(
    truth: &Record,
    name: &str,
    wish: &Distribution,
    lists: &[List],
    shards: &[Shard],
) -> Result<Difference, String> {
    let ty = *wish.types.first().ok_or("a key without a type")?;
    /// A value, NULL, or what is not listed: the parts of before and after.
    type Pair = (Option<usize>, Option<usize>);
    let default_before = truth.parts.iter().position(|part| part.default);
    let default_after = lists.iter().position(|list| list.default);
    let mut listed: Vec<(KeyValue<'static>, String, Pair)> = Vec::new();
    let mut enter = |text: &String, before: Option<usize>, after: Option<usize>| -> Result<(), String> {
        let parsed = value(ty, text)?;
        let known = listed.iter_mut().find(|(known, _, _)| known.order(&parsed) == Ordering::Equal);
        match known {
            Some((_, _, pair)) => *pair = (pair.0.or(before), pair.1.or(after)),
            None => listed.push((parsed, text.clone(), (before, after))),
        }
        Ok(())
    };
    for (at, part) in truth.parts.iter().enumerate() {
        part.values.iter().try_for_each(|text| enter(text, Some(at), None))?;
    }
    for (at, list) in lists.iter().enumerate() {
        list.values.iter().try_for_each(|text| enter(text, None, Some(at)))?;
    }
    #[derive(Default)]
    struct Atom {
        values: Vec<String>,
        null: bool,
        default: bool,
    }
    let mut atoms: BTreeMap<Pair, Atom> = BTreeMap::new();
    let whole = |(before, after): Pair| (before.or(default_before), after.or(default_after));
    for (_, text, pair) in listed {
        atoms.entry(whole(pair)).or_default().values.push(text);
    }
    let null_before = truth.parts.iter().position(|part| part.null);
    let null_after = lists.iter().position(|list| list.null);
    if null_before.or(null_after).is_some() {
        atoms.entry(whole((null_before, null_after))).or_default().null = true;
    }
    if default_before.or(default_after).is_some() {
        atoms.entry((default_before, default_after)).or_default().default = true;
    }
    let epoch = epoch(truth);
    let shard_at = |wanted: &str| shards.iter().position(|shard| shard.name == wanted);
    let shard_name = |at: usize| shards.get(at).map_or_else(String::new, |shard| shard.name.clone());
    // One assignment of slots for each list of the wish, however many parts it is made of.
    let mut assigned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut refined = Record { parts: Vec::new(), slots: Vec::new(), ..truth.clone() };
    let mut moves = Vec::new();
    for ((before, after), atom) in atoms {
        let shown = || {
            let names = atom.values.iter().map(String::as_str);
            let names =
                names.chain(atom.null.then_some("NULL")).chain(atom.default.then_some("what is not listed"));
            names.collect::<Vec<_>>().join(", ")
        };
        let Some(list_at) = after else {
            return Err(format!(
                "keys of \"{name}\" would be nowhere: {}: list them, or say default = true",
                shown()
            ));
        };
        let list = lists.get(list_at).ok_or("a list is missing")?;
        let number = refined.parts.len() as u32 + 1;
        let part = before.and_then(|at| truth.parts.get(at));
        let owners_before = match part {
            Some(part) => match &part.shard {
                Some(shard) => vec![shard_at(shard).ok_or("a shard is missing")?; SLOTS],
                None => owners(truth, part.number, shards)?,
            },
            None => Vec::new(),
        };
        let one = |owners: &[usize]| match owners.first() {
            Some(first) if owners.iter().all(|owner| owner == first) => Some(*first),
            _ => None,
        };
        let owners_after = assigned.entry(list_at).or_insert_with(|| match list.shards[..] {
            [shard] => vec![shard; SLOTS],
            _ => {
                let weights: Vec<u32> = (0..)
                    .zip(shards)
                    .map(|(at, shard)| if list.shards.contains(&at) { shard.weight } else { 0 })
                    .collect();
                if owners_before.is_empty() {
                    let runs = assign::initial(&weights);
                    runs.iter()
                        .flat_map(|run| std::iter::repeat_n(run.shard, (run.to - run.from + 1).into()))
                        .collect()
                } else {
                    assign::rebalanced(&owners_before, &weights)
                }
            }
        });
        if owners_after.len() != SLOTS {
            return Err(format!("the shards of a list of \"{name}\" have no weight"));
        }
        // No row has such a key: it was refused.
        let owners_before = if owners_before.is_empty() { owners_after.clone() } else { owners_before };
        let by_slot = list.shards.len() > 1 || part.is_some_and(|part| part.shard.is_none());
        let shard = match one(&owners_before) {
            Some(shard) if !by_slot => Some(shard_name(shard)),
            _ => None,
        };
        if shard.is_none() {
            refined.slots.extend(as_slots(number, &owners_before, shards, epoch));
            moves.extend(runs(number, &owners_before, owners_after, shards));
        } else if let (Some(source), Some(target)) = (&shard, one(owners_after))
            && *source != shard_name(target)
        {
            let (source, target) = (source.clone(), shard_name(target));
            moves.push(Move { unit: Unit::Part(number), source, target });
        }
        refined.parts.push(Part {
            number,
            from: None,
            to: None,
            values: atom.values,
            null: atom.null,
            default: atom.default,
            shard,
            epoch,
        });
    }
    let mut end = wished(wish, shards, epoch + 1);
    end.slots.clear();
    for (number, (at, list)) in (1..).zip(lists.iter().enumerate()) {
        if let (true, Some(owners)) = (list.shards.len() > 1, assigned.get(&at)) {
            end.slots.extend(as_slots(number, owners, shards, epoch + 1));
        }
    }
    Ok(Difference { refined, moves, end: Some(end) })
}

/// Cuts runs of slots into units of about `rows_max` rows and at most `slots_max` slots. `rows`: of a slot, on its source.
pub fn units(
    moves: &[Move],
    rows: impl Fn(&str, u32, usize) -> u64,
    rows_max: u64,
    slots_max: usize,
) -> Vec<Move> {
    let mut cut = Vec::new();
    for whole in moves {
        let Unit::Slots { part, from, to } = whole.unit else {
            cut.push(whole.clone());
            continue;
        };
        let unit = |from: usize, to: usize| Move { unit: Unit::Slots { part, from, to }, ..whole.clone() };
        let (mut begin, mut sum) = (from, 0u64);
        for slot in from..=to {
            let of_slot = rows(&whole.source, part, slot);
            if slot > begin && (sum.saturating_add(of_slot) > rows_max || slot - begin >= slots_max) {
                cut.push(unit(begin, slot - 1));
                (begin, sum) = (slot, 0);
            }
            sum = sum.saturating_add(of_slot);
        }
        cut.push(unit(begin, to));
    }
    cut
}

#[cfg(test)]
mod tests {
    use pgherd_config::{Address, Security};

    use super::*;

    /// "s0 s1*3 s2*0": names and weights.
    fn shards(text: &str) -> Vec<Shard> {
        let shard = |text: &str| {
            let (name, weight) = text.split_once('*').unwrap_or((text, "1"));
            Shard {
                name: name.into(),
                primary: Address {
                    host: "h".into(),
                    port: 1,
                    others: Vec::new(),
                    balance: false,
                    dbname: name.into(),
                    security: Security::default(),
                },
                weight: weight.parse().unwrap(),
                region: None,
            }
        };
        text.split_whitespace().map(shard).collect()
    }

    fn by(method: Method, types: &[KeyType]) -> Distribution {
        Distribution { name: "d".into(), by: method, types: types.into() }
    }

    fn shown(difference: &Difference) -> String {
        let moves = difference.moves.iter().map(|step| {
            let unit = match &step.unit {
                Unit::Slots { part, from, to } => format!("{part}:{from}-{to}"),
                Unit::Part(part) => {
                    let part = difference.refined.parts.iter().find(|of| of.number == *part).unwrap();
                    let end = |text: &Option<String>| text.clone().unwrap_or_default();
                    match part.values.is_empty() && !part.null && !part.default {
                        true => format!("{}..{}", end(&part.from), end(&part.to)),
                        false => format!(
                            "{}{}{}",
                            part.values.join("+"),
                            if part.null { "+NULL" } else { "" },
                            if part.default { "+DEFAULT" } else { "" }
                        ),
                    }
                }
                Unit::Key(key) => key.clone(),
            };
            format!("{unit} {}>{}", step.source, step.target)
        });
        moves.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_to_be_moved_by_slots_is_what_the_weights_say() {
        let wish = by(Method::Hash, &[KeyType::BigInt]);
        let cases = [
            ("nothing has changed", "s0 s1", "s0 s1", ""),
            ("one joins", "s0 s1", "s0 s1 s2", "0:5462-8191 s0>s2, 0:13653-16383 s1>s2"),
            ("one leaves", "s0 s1 s2", "s0 s1 s2*0", "0:10922-13652 s2>s0, 0:13653-16383 s2>s1"),
            ("one becomes heavier", "s0 s1", "s0 s1*3", "0:4096-8191 s0>s1"),
            (
                "all from one to four",
                "s0",
                "s0 s1 s2 s3",
                "0:4096-8191 s0>s1, 0:8192-12287 s0>s2, 0:12288-16383 s0>s3",
            ),
        ];
        for (why, before, after, expected) in cases {
            let truth = wished(&wish, &shards(before), 1);
            let found = difference(&truth, "d", &wish, &shards(after)).unwrap();
            assert_eq!(shown(&found), expected, "{why}");
            assert_eq!((found.refined, found.end), (truth, None), "{why}");
        }
    }

    fn ranges(text: &str) -> Method {
        let range = |text: &str| {
            let (bounds, shard) = text.trim().split_once(" s").unwrap();
            let (from, to) = bounds.split_once("..").unwrap();
            let bound = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Range { from: bound(from), to: bound(to), shard: shard.parse().unwrap() }
        };
        Method::Range(text.split(',').map(range).collect())
    }

    #[test]
    fn what_is_to_be_moved_by_ranges_lies_between_the_bounds_of_both() {
        let cases = [
            ("..10 s0, 10.. s1", "..10 s0, 10.. s1", ""),
            ("..10 s0, 10.. s1", "..20 s0, 20.. s1", "10..20 s1>s0"),
            ("..10 s0, 10.. s1", "..5 s0, 5..10 s2, 10.. s1", "5..10 s0>s2"),
            ("..5 s0, 5..10 s2, 10.. s1", "..10 s0, 10.. s1", "5..10 s2>s0"),
            ("..100 s0", "..9 s1, 9..100 s0, 100.. s2", "..9 s0>s1"),
            (".. s0", "..9 s1, 9..10 s1, 10.. s2", "..10 s0>s1, 10.. s0>s2"),
            (
                "0..10 s0",
                "0..5 s0",
                "refused: the keys of \"d\" from 5 to 10 would be nowhere: give them a range",
            ),
        ];
        let all = shards("s0 s1 s2");
        for (before, after, expected) in cases {
            let of = |text: &str| by(ranges(text), &[KeyType::BigInt]);
            let truth = wished(&of(before), &all, 4);
            let found = difference(&truth, "d", &of(after), &all);
            match found {
                Ok(found) => {
                    assert_eq!(shown(&found), expected, "{before} becomes {after}");
                    let names = ["s0", "s1", "s2"];
                    let mut moved = found.refined.clone();
                    for step in &found.moves {
                        let Unit::Part(number) = step.unit else { panic!() };
                        moved.parts[number as usize - 1].shard = Some(step.target.clone());
                    }
                    let rule = |record: &Record| record.rule("d", &of(after), &names).unwrap().0;
                    let (old, new) = (rule(&truth), rule(&found.refined));
                    for key in -1..=101 {
                        let key = [KeyValue::Integer(key)];
                        assert!(
                            old.owner(&key).is_none_or(|owner| new.owner(&key) == Some(owner)),
                            "{key:?}"
                        );
                        assert_eq!(rule(&moved).owner(&key), rule(found.end.as_ref().unwrap()).owner(&key));
                    }
                }
                Err(why) => assert_eq!(format!("refused: {why}"), expected, "{before} becomes {after}"),
            }
        }
    }

    /// "de+fr s0, us+NULL s1, DEFAULT s2/s3"
    fn lists(text: &str) -> Method {
        let list = |text: &str| {
            let (values, on) = text.trim().split_once(' ').unwrap();
            let all: Vec<&str> = values.split('+').collect();
            List {
                values: all
                    .iter()
                    .filter(|v| !["NULL", "DEFAULT"].contains(v))
                    .map(|v| v.to_string())
                    .collect(),
                null: all.contains(&"NULL"),
                default: all.contains(&"DEFAULT"),
                shards: on.split('/').map(|shard| shard[1..].parse().unwrap()).collect(),
            }
        };
        Method::List(text.split(',').map(list).collect())
    }

    #[test]
    fn what_is_to_be_moved_by_lists_is_each_value_that_has_another_shard() {
        let cases = [
            ("de+fr s0, us s1", "de+fr s0, us s1", ""),
            ("de+fr s0, us s1", "de s0, fr+us s1", "fr s0>s1"),
            ("de s0, DEFAULT s1", "de s0, jp s2, DEFAULT s1", "jp s1>s2"),
            ("de s0, jp s2, DEFAULT s1", "de s0, DEFAULT s1", "jp s2>s1"),
            ("de s0, NULL s1", "de+NULL s0", "+NULL s1>s0"),
            ("de s0, DEFAULT s1", "de s0, NULL s2, DEFAULT s1", "+NULL s1>s2"),
            ("de s0, DEFAULT s1", "de s0, DEFAULT s2", "+DEFAULT s1>s2"),
            ("de s0", "de s0, fr s1", ""),
            ("de s0/s1", "de s0/s1/s2", "1:5462-8191 s0>s2, 1:13653-16383 s1>s2"),
            ("de s0", "de s0/s1", "1:8192-16383 s0>s1"),
            ("de s0/s1", "de s1", "1:0-8191 s0>s1"),
            (
                "de s0, fr s1",
                "de s0",
                "refused: keys of \"d\" would be nowhere: fr: list them, or say default = true",
            ),
        ];
        let all = shards("s0 s1 s2");
        for (before, after, expected) in cases {
            let of = |text: &str| by(lists(text), &[KeyType::Text, KeyType::BigInt]);
            let truth = wished(&of(before), &all, 1);
            match difference(&truth, "d", &of(after), &all) {
                Ok(found) => {
                    assert_eq!(shown(&found), expected, "{before} becomes {after}");
                    let names = ["s0", "s1", "s2"];
                    let mut moved = found.refined.clone();
                    for step in &found.moves {
                        match step.unit {
                            Unit::Part(number) => {
                                moved.parts[number as usize - 1].shard = Some(step.target.clone());
                            }
                            Unit::Slots { part, from, to } => {
                                let mut owners = owners(&moved, part, &all).unwrap();
                                let target = all.iter().position(|shard| shard.name == step.target).unwrap();
                                owners[from..=to].fill(target);
                                moved.slots.retain(|run| run.part != part);
                                moved.slots.extend(as_slots(part, &owners, &all, 2));
                            }
                            Unit::Key(_) => panic!(),
                        }
                    }
                    let rule = |record: &Record| record.rule("d", &of(after), &names).unwrap().0;
                    let owner = |record: &Record, value: Option<&str>, id: i64| {
                        let rule = rule(record);
                        let mut finder = rule.find();
                        finder.add(value.map(|text| KeyValue::Text(text.as_bytes().into())).as_ref());
                        finder.add(Some(&KeyValue::Integer(id)));
                        finder.shard()
                    };
                    for value in [Some("de"), Some("fr"), Some("us"), Some("jp"), Some("xx"), None] {
                        for id in 0..40 {
                            let was = owner(&truth, value, id);
                            let is = owner(&found.refined, value, id);
                            assert!(was.is_none() || was == is, "{before} becomes {after}: {value:?} {id}");
                            let end = found.end.as_ref().unwrap();
                            assert_eq!(
                                owner(&moved, value, id),
                                owner(end, value, id),
                                "{before} to {after}: {value:?}"
                            );
                        }
                    }
                }
                Err(why) => assert_eq!(format!("refused: {why}"), expected, "{before} becomes {after}"),
            }
        }
    }

    #[test]
    fn what_no_move_leads_to_is_refused() {
        let hash = by(Method::Hash, &[KeyType::BigInt]);
        let truth = wished(&hash, &shards("s0 s1"), 1);
        let error = |wish: &Distribution, on: &str| difference(&truth, "d", wish, &shards(on)).unwrap_err();
        assert!(error(&hash, "s0 s2").contains("keep it there with weight = 0"));
        assert!(error(&by(Method::Hash, &[KeyType::Text]), "s0 s1").contains("no move of rows leads there"));
    }

    #[test]
    fn units_have_some_thousand_rows_and_every_slot_once() {
        let of = |from, to| Move {
            unit: Unit::Slots { part: 0, from, to },
            source: "a".into(),
            target: "b".into(),
        };
        let cut = |rows: fn(usize) -> u64, most: usize| {
            let found = units(&[of(10, 19)], |_, _, slot| rows(slot), 100, most);
            let texts = found.iter().map(|step| match step.unit {
                Unit::Slots { from, to, .. } => format!("{from}-{to}"),
                _ => panic!(),
            });
            texts.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(cut(|_| 0, 1000), "10-19");
        assert_eq!(cut(|_| 0, 4), "10-13 14-17 18-19");
        assert_eq!(cut(|_| 30, 1000), "10-12 13-15 16-18 19-19");
        assert_eq!(cut(|slot| if slot == 12 { 5_000 } else { 1 }, 1000), "10-11 12-12 13-19");
        assert_eq!(cut(|_| u64::MAX, 1000).split(' ').count(), 10);
    }

    #[test]
    fn a_unit_is_json() {
        assert_eq!(Unit::Slots { part: 0, from: 1, to: 9 }.json(), r#"{"part":0,"from":1,"to":9}"#);
        assert_eq!(Unit::Part(3).json(), r#"{"part":3}"#);
        assert_eq!(Unit::Key("a\"b\\c\n".into()).json(), r#"{"key":["a\"b\\c\u000a"]}"#);
    }
}
