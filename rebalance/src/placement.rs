//! What the catalog says of one distribution: made of the configuration at the first start, and read back as the rule that
//! routing uses.
//!
//! Invariant: a rule is made only of a record that is whole; a record that the configuration's types do not fit is an error,
//! never another placement.
//!
//! Start reading at [`wished`] and [`Record::rule`].

use std::sync::Arc;

use pgherd_config::{Distribution, KeyType, Method, Shard};
use pgherd_router::ShardId;
use pgherd_router::directory::Directory;
use pgherd_router::rule::{Group, KeyRange, Lists, Rule, RuleError};
use pgherd_router::topology::{SLOTS, Shown};
use pgherd_router::value::{KeyValue, type_name};

use crate::assign;

/// A distribution in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// "hash", "range", "list", "directory"
    pub method: String,
    /// The types of the key, by [`type_name`], with commas between them.
    pub types: String,
    pub parts: Vec<Part>,
    pub slots: Vec<Slots>,
}

/// A range, or a list of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// 1 and on.
    pub number: u32,
    /// Of a range; `None`: without an end.
    pub from: Option<String>,
    pub to: Option<String>,
    /// Of a list.
    pub values: Vec<String>,
    pub null: bool,
    pub default: bool,
    /// `None`: its slots say where.
    pub shard: Option<String>,
    pub epoch: u64,
}

/// A run of slots; both ends belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// 0: of the whole distribution.
    pub part: u32,
    pub from: usize,
    pub to: usize,
    pub shard: String,
    pub epoch: u64,
}

pub fn types_text(types: &[KeyType]) -> String {
    types.iter().map(|ty| type_name(*ty)).collect::<Vec<_>>().join(",")
}

/// What a first start records.
pub fn wished(distribution: &Distribution, shards: &[Shard], epoch: u64) -> Record {
    let name = |shard: usize| shards.get(shard).map_or_else(String::new, |shard| shard.name.clone());
    let slots = |part: u32, of: &[usize]| {
        let weights: Vec<u32> = shards
            .iter()
            .enumerate()
            .map(|(at, shard)| if of.contains(&at) { shard.weight } else { 0 })
            .collect();
        assign::initial(&weights).into_iter().map(move |run| Slots {
            part,
            from: run.from.into(),
            to: run.to.into(),
            shard: name(run.shard),
            epoch,
        })
    };
    let none = Part {
        number: 0,
        from: None,
        to: None,
        values: Vec::new(),
        null: false,
        default: false,
        shard: None,
        epoch,
    };
    let mut record = Record {
        method: String::new(),
        types: types_text(&distribution.types),
        parts: Vec::new(),
        slots: Vec::new(),
    };
    match &distribution.by {
        Method::Hash => {
            record.method = "hash".into();
            record.slots = slots(0, &(0..shards.len()).collect::<Vec<_>>()).collect();
        }
        Method::Range(ranges) => {
            record.method = "range".into();
            record.parts = (1..)
                .zip(ranges)
                .map(|(number, range)| Part {
                    number,
                    from: range.from.clone(),
                    to: range.to.clone(),
                    shard: Some(name(range.shard)),
                    ..none.clone()
                })
                .collect();
        }
        // Its keys are in a table of their own.
        Method::Directory(_) => record.method = "directory".into(),
        Method::List(lists) => {
            record.method = "list".into();
            for (number, list) in (1..).zip(lists) {
                let one = match list.shards[..] {
                    [shard] => Some(name(shard)),
                    _ => None,
                };
                if one.is_none() {
                    record.slots.extend(slots(number, &list.shards));
                }
                record.parts.push(Part {
                    number,
                    values: list.values.clone(),
                    null: list.null,
                    default: list.default,
                    shard: one,
                    ..none.clone()
                });
            }
        }
    }
    record
}

impl Record {
    /// # Errors
    /// Another method, or keys of other types: no move of rows leads there.
    pub fn fits(&self, name: &str, configured: &Distribution) -> Result<(), String> {
        let method = match configured.by {
            Method::Hash => "hash",
            Method::Range(_) => "range",
            Method::List(_) => "list",
            Method::Directory(_) => "directory",
        };
        let types = types_text(&configured.types);
        if self.method == method && self.types == types {
            return Ok(());
        }
        Err(format!(
            "distribution \"{name}\" is recorded as {} of ({}), and the configuration says {method} of ({types})",
            self.method, self.types
        ))
    }

    /// The rule, and how it is shown. `shards`: names, by [`ShardId`].
    ///
    /// # Errors
    /// What is wrong with the record, or does not fit the configuration.
    pub fn rule(
        &self,
        name: &str,
        configured: &Distribution,
        shards: &[&str],
    ) -> Result<(Rule, Vec<Shown>), String> {
        self.fits(name, configured)?;
        let shard = |wanted: &str, what: String| {
            let at = shards.iter().position(|shard| *shard == wanted);
            at.map(|at| ShardId(at as u16)).ok_or_else(|| {
                format!("{what} of \"{name}\" is on shard \"{wanted}\", which is not in the configuration")
            })
        };
        let owners = |part: u32| {
            let mut owners: Vec<Option<ShardId>> = vec![None; SLOTS];
            for run in self.slots.iter().filter(|run| run.part == part) {
                let owner = shard(&run.shard, format!("a run of slots, {} to {},", run.from, run.to))?;
                let slots =
                    owners.get_mut(run.from..=run.to).ok_or("a slot is recorded that does not exist")?;
                for slot in slots {
                    if slot.replace(owner).is_some() {
                        return Err(format!("a slot of \"{name}\" has two owners in the catalog"));
                    }
                }
            }
            let whole: Option<Box<[ShardId]>> = owners.into_iter().collect();
            whole.ok_or_else(|| format!("slots of \"{name}\" have no owner in the catalog"))
        };
        let ty = *configured.types.first().ok_or("a key without a type")?;
        let value = |text: &str| {
            KeyValue::from_text(ty, text.as_bytes())
                .map(KeyValue::into_owned)
                .map_err(|_| format!("\"{text}\" is recorded for \"{name}\" and is no {}", type_name(ty)))
        };
        let mut shown = Vec::new();
        let show_slots = |shown: &mut Vec<Shown>, part: u32, before: &str| -> Result<(), String> {
            let mut runs: Vec<&Slots> = self.slots.iter().filter(|run| run.part == part).collect();
            runs.sort_by_key(|run| run.from);
            for run in runs {
                shown.push(Shown {
                    from: format!("{before}{}", run.from),
                    to: format!("{before}{}", run.to),
                    shard: shard(&run.shard, "a slot".into())?,
                    epoch: run.epoch,
                });
            }
            Ok(())
        };
        let broken =
            |error: RuleError| format!("the placement of \"{name}\" in the catalog is not whole: {error:?}");
        let rule = match self.method.as_str() {
            "hash" => {
                show_slots(&mut shown, 0, "")?;
                Rule::hash(owners(0)?).map_err(broken)?
            }
            "range" => {
                let mut ranges = Vec::with_capacity(self.parts.len());
                for part in &self.parts {
                    let end = |text: &Option<String>| text.as_deref().map(value).transpose();
                    let text =
                        |text: &Option<String>, open: &str| text.clone().unwrap_or_else(|| open.to_owned());
                    let shard = shard(part.shard.as_deref().unwrap_or_default(), "a range".into())?;
                    ranges.push(KeyRange { from: end(&part.from)?, to: end(&part.to)?, shard });
                    shown.push(Shown {
                        from: text(&part.from, "MINVALUE"),
                        to: text(&part.to, "MAXVALUE"),
                        shard,
                        epoch: part.epoch,
                    });
                }
                Rule::range(ranges).map_err(broken)?
            }
            "directory" => Rule::Directory(Arc::new(Directory::default())),
            _ => {
                let (mut values, mut null, mut default, mut groups) = (Vec::new(), None, None, Vec::new());
                for part in &self.parts {
                    let group = groups.len() as u32;
                    for text in &part.values {
                        values.push((value(text)?, group));
                    }
                    if part.null && null.replace(group).is_some()
                        || part.default && default.replace(group).is_some()
                    {
                        return Err(broken(RuleError::Twice));
                    }
                    let names = part.values.iter().map(String::as_str);
                    let names: Vec<&str> = names
                        .chain(part.null.then_some("NULL"))
                        .chain(part.default.then_some("DEFAULT"))
                        .collect();
                    match &part.shard {
                        Some(one) => {
                            let shard = shard(one, "a list".into())?;
                            groups.push(Group::One(shard));
                            for name in names {
                                let name = || name.to_owned();
                                shown.push(Shown { from: name(), to: name(), shard, epoch: part.epoch });
                            }
                        }
                        None => {
                            groups.push(Group::Hash(owners(part.number)?));
                            for name in names {
                                show_slots(&mut shown, part.number, &format!("{name}, slot "))?;
                            }
                        }
                    }
                }
                Rule::List(Lists::new(values, null, default, groups).map_err(broken)?)
            }
        };
        Ok((rule, shown))
    }
}

#[cfg(test)]
mod tests {
    use pgherd_config::{Address, List, Range, Security};

    use super::*;

    fn shards() -> Vec<Shard> {
        let shard = |name: &str| Shard {
            name: name.into(),
            primary: Address {
                host: "h".into(),
                port: 1,
                others: Vec::new(),
                balance: false,
                dbname: name.into(),
                security: Security::default(),
            },
            weight: 1,
            region: None,
        };
        ["s0", "s1", "s2"].map(shard).into()
    }

    fn distribution(by: Method, types: &[KeyType]) -> Distribution {
        Distribution { name: "d".into(), by, types: types.into() }
    }

    fn range(from: Option<&str>, to: Option<&str>, shard: usize) -> Range {
        Range { from: from.map(str::to_owned), to: to.map(str::to_owned), shard }
    }

    fn examples() -> Vec<Distribution> {
        let list = |values: &[&str], null, default, shards: &[usize]| List {
            values: values.iter().map(|value| value.to_string()).collect(),
            null,
            default,
            shards: shards.into(),
        };
        vec![
            distribution(Method::Hash, &[KeyType::Text, KeyType::BigInt]),
            distribution(
                Method::Range(vec![range(Some("2024-01-01"), None, 1), range(None, Some("2024-01-01"), 0)]),
                &[KeyType::Date],
            ),
            distribution(
                Method::List(vec![
                    list(&["de", "fr"], false, false, &[0, 2]),
                    list(&["us"], true, false, &[1]),
                    list(&[], false, true, &[2]),
                ]),
                &[KeyType::Text, KeyType::BigInt],
            ),
        ]
    }

    #[test]
    fn what_a_first_start_records_is_the_rule_that_was_wished() {
        let names = ["s0", "s1", "s2"];
        let shown = |at: usize| {
            let configured = &examples()[at];
            let (rule, shown) = wished(configured, &shards(), 1).rule("d", configured, &names).unwrap();
            let lines: Vec<String> =
                shown.iter().map(|row| format!("{} {} s{}", row.from, row.to, row.shard.0)).collect();
            (rule, lines)
        };
        assert_eq!(shown(0).1, ["0 5460 s0", "5461 10921 s1", "10922 16383 s2"]);
        let (rule, lines) = shown(1);
        assert_eq!(lines, ["2024-01-01 MAXVALUE s1", "MINVALUE 2024-01-01 s0"]);
        let owner = |text: &str| rule.owner(&[KeyValue::from_text(KeyType::Date, text.as_bytes()).unwrap()]);
        assert_eq!((owner("2023-12-31"), owner("2024-01-01")), (Some(ShardId(0)), Some(ShardId(1))));
        let (rule, lines) = shown(2);
        assert_eq!(
            lines,
            [
                "de, slot 0 de, slot 8191 s0",
                "de, slot 8192 de, slot 16383 s2",
                "fr, slot 0 fr, slot 8191 s0",
                "fr, slot 8192 fr, slot 16383 s2",
                "us us s1",
                "NULL NULL s1",
                "DEFAULT DEFAULT s2",
            ]
        );
        assert_eq!(rule.shards(), [ShardId(0), ShardId(1), ShardId(2)]);
    }

    #[test]
    fn a_record_that_does_not_fit_is_an_error() {
        let names = ["s0", "s1", "s2"];
        let [hash, by_day, _] = &examples()[..] else { panic!() };
        let error =
            |record: Record, configured: &Distribution| record.rule("d", configured, &names).unwrap_err();
        let recorded = wished(hash, &shards(), 1);
        assert_eq!(
            error(recorded.clone(), by_day),
            "distribution \"d\" is recorded as hash of (text,bigint), and the configuration says range of (date)"
        );
        let mut two_owners = recorded.clone();
        two_owners.slots[1].from -= 1;
        assert_eq!(error(two_owners, hash), "a slot of \"d\" has two owners in the catalog");
        let mut no_owner = recorded.clone();
        no_owner.slots.remove(1);
        assert_eq!(error(no_owner, hash), "slots of \"d\" have no owner in the catalog");
        let mut beyond = recorded.clone();
        beyond.slots[2].to = SLOTS;
        assert_eq!(error(beyond, hash), "a slot is recorded that does not exist");
        let mut gone = recorded;
        gone.slots[0].shard = "s9".into();
        assert!(error(gone, hash).contains("on shard \"s9\", which is not in the configuration"));
        let mut overlap = wished(by_day, &shards(), 1);
        overlap.parts[0].from = Some("2023-01-01".into());
        assert!(error(overlap, by_day).contains("Overlap"));
        let mut unreadable = wished(by_day, &shards(), 1);
        unreadable.parts[0].from = Some("yesterday".into());
        assert_eq!(error(unreadable, by_day), "\"yesterday\" is recorded for \"d\" and is no date");
    }
}
