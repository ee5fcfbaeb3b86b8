//! What in the servers' real schema does not fit the configuration, and what to do about it.
//!
//! Pure. Invariant: a finding names a place, says what is wrong there, and what would mend it.
//!
//! Start reading at [`compare`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pgherd_config::{Database, KeyType, Method, TablePlacement};
use pgherd_router::value::type_name;

/// What was read of one shard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Its major version ("15").
    pub version: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    pub max_prepared_transactions: u64,
    /// By index into the configuration's tables; missing: it has none of that name.
    pub tables: BTreeMap<usize, SeenTable>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeenTable {
    pub columns: BTreeMap<String, SeenColumn>,
    pub constraints: BTreeMap<String, SeenConstraint>,
    /// Those that stand for no constraint: name and definition.
    pub indexes: BTreeMap<String, SeenIndex>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeenColumn {
    /// As it is defined, in one line.
    pub definition: String,
    /// Without a modifier; of a domain, its base type.
    pub type_name: String,
    /// Its default draws from a sequence, or it is an identity column.
    pub from_sequence: bool,
    pub nondeterministic: bool,
    pub c_collation: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeenConstraint {
    pub definition: String,
    /// As in pg_constraint: 'p', 'u', 'x', 'f', 'c'
    pub kind: char,
    pub columns: Vec<String>,
    /// Of a foreign key: schema, table, columns.
    pub refers: Option<(String, String, Vec<String>)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeenIndex {
    pub definition: String,
    pub unique: bool,
    pub columns: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Something will be refused, or be wrong on one of the servers.
    Problem,
    /// It works, and not as one might expect.
    Note,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub weight: Weight,
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Problem => "problem",
            Weight::Note => "note",
        };
        write!(f, "{weight}: {}\n  {}", self.what, self.advice)
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, weight: Weight, what: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { weight, what: what.into(), advice: advice.into() });
    }

    fn problem(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Weight::Problem, what, advice);
    }

    fn note(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Weight::Note, what, advice);
    }
}

/// `shards`: what was read of each, or why it could not be.
pub fn compare(db: &Database, shards: &[Result<Seen, String>]) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    let names: Vec<&str> = db.shards.iter().map(|shard| shard.name.as_str()).collect();
    let mut seen: Vec<(&str, &Seen)> = Vec::new();
    for (name, shard) in names.iter().zip(shards) {
        match shard {
            Ok(shard) => seen.push((name, shard)),
            Err(why) => found.problem(
                format!("shard {name} cannot be asked: {why}"),
                "Start the server, or mend its address, the control role or its password; then check again.",
            ),
        }
    }
    servers(&seen, &mut found);
    for index in 0..db.tables.len() {
        table(db, index, &seen, &names, &mut found);
    }
    found.0
}

/// "15 on s0, s1; 16 on s2". `None`: all are alike.
fn differences<'a>(values: impl Iterator<Item = (&'a str, String)>) -> Option<String> {
    let mut by_value: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (shard, value) in values {
        by_value.entry(value).or_default().push(shard);
    }
    (by_value.len() > 1).then(|| {
        let parts: Vec<String> =
            by_value.into_iter().map(|(value, shards)| format!("{value} on {}", shards.join(", "))).collect();
        parts.join("; ")
    })
}

fn servers(seen: &[(&str, &Seen)], found: &mut Findings) {
    let by = |what: fn(&Seen) -> String| differences(seen.iter().map(|(name, shard)| (*name, what(shard))));
    if let Some(differ) = by(|shard| shard.version.clone()) {
        found.note(
            format!("the servers have different versions: {differ}"),
            "Until they are alike again, use only what the oldest of them knows.",
        );
    }
    if let Some(differ) = by(|shard| shard.encoding.clone()) {
        found.problem(
            format!("the databases have different encodings: {differ}"),
            "Dump and restore into databases with ENCODING 'UTF8'.",
        );
    } else if let Some((_, shard)) = seen.first().filter(|(_, shard)| shard.encoding != "UTF8") {
        found.problem(
            format!("the databases have the encoding {}", shard.encoding),
            "Keys are read in UTF8: dump and restore into databases with ENCODING 'UTF8'.",
        );
    }
    if let Some(differ) = by(|shard| format!("{}/{}", shard.collate, shard.ctype)) {
        found.problem(
            format!("the databases sort differently (LC_COLLATE/LC_CTYPE): {differ}"),
            "Dump and restore into databases with one LC_COLLATE and one LC_CTYPE.",
        );
    }
    let none: Vec<&str> = seen
        .iter()
        .filter(|(_, shard)| shard.max_prepared_transactions == 0)
        .map(|(name, _)| *name)
        .collect();
    if seen.len() > 1 && !none.is_empty() {
        found.problem(
            format!(
                "max_prepared_transactions is 0 on {}: no transaction can write there and elsewhere",
                none.join(", ")
            ),
            "ALTER SYSTEM SET max_prepared_transactions = 100; and restart the server.",
        );
    }
}

fn table(db: &Database, index: usize, seen: &[(&str, &Seen)], names: &[&str], found: &mut Findings) {
    let configured = &db.tables[index];
    let name = full_name(db, index);
    let spread = match configured.placement {
        TablePlacement::Single { .. } => false,
        TablePlacement::Sharded { .. } | TablePlacement::Reference => true,
    };
    let expected = |shard: &str| match configured.placement {
        TablePlacement::Single { shard: only } => names.get(only) == Some(&shard),
        TablePlacement::Sharded { .. } | TablePlacement::Reference => true,
    };
    let there: Vec<(&str, &SeenTable)> = seen
        .iter()
        .filter(|(shard, _)| expected(shard))
        .filter_map(|(shard, seen)| Some((*shard, seen.tables.get(&index)?)))
        .collect();
    let missing: Vec<&str> = seen
        .iter()
        .filter(|(shard, seen)| expected(shard) && !seen.tables.contains_key(&index))
        .map(|(shard, _)| *shard)
        .collect();
    let Some((first, whole)) = there.first() else {
        if !missing.is_empty() {
            found.note(
                format!("table {name} is on no server yet"),
                "Create it through pgherd, which makes it where it belongs.",
            );
        }
        return;
    };
    if !missing.is_empty() {
        found.problem(
            format!("table {name} is not on {}", missing.join(", ")),
            format!("Create it there as it is on {first} (pg_dump --schema-only --table={name}); what is created through pgherd is on all shards."),
        );
    }
    if spread {
        drift(&name, &there, found);
    }
    match &configured.placement {
        TablePlacement::Sharded { distribution, key } => {
            let of = &db.distributions[*distribution];
            keys(&name, key, &of.types, &of.by, whole, found);
            uniques(&name, key, whole, found);
            for (column, seen) in &whole.columns {
                if seen.from_sequence {
                    found.note(
                        format!("column \"{column}\" of table {name} draws from a sequence: for all shards it is that of {first}"),
                        "If rows were inserted past pgherd, other servers' sequences may be further on: SELECT setval(...), through pgherd, above the largest number.",
                    );
                }
            }
        }
        TablePlacement::Reference => {
            for (column, seen) in &whole.columns {
                if seen.from_sequence {
                    found.note(
                        format!("column \"{column}\" of reference table {name} draws from a sequence: for all copies it is that of {first}"),
                        "If rows were inserted past pgherd, other servers' sequences may be further on: SELECT setval(...), through pgherd, above the largest number.",
                    );
                }
            }
        }
        TablePlacement::Single { .. } => {}
    }
    foreign_keys(db, index, &name, whole, found);
}

fn full_name(db: &Database, index: usize) -> String {
    let table = &db.tables[index];
    match &table.schema {
        Some(schema) => format!("{schema}.{}", table.name),
        None => table.name.clone(),
    }
}

/// What is not the same on every shard.
fn drift(name: &str, there: &[(&str, &SeenTable)], found: &mut Findings) {
    let kinds: [(&str, fn(&SeenTable) -> BTreeMap<&str, &str>); 3] = [
        ("column", |table| pairs(table.columns.iter().map(|(name, column)| (name, &column.definition)))),
        ("constraint", |table| pairs(table.constraints.iter().map(|(name, own)| (name, &own.definition)))),
        ("index", |table| pairs(table.indexes.iter().map(|(name, index)| (name, &index.definition)))),
    ];
    for (kind, read) in kinds {
        let own: Vec<(&str, BTreeMap<&str, &str>)> =
            there.iter().map(|(shard, table)| (*shard, read(table))).collect();
        let all: BTreeSet<&str> = own.iter().flat_map(|(_, things)| things.keys().copied()).collect();
        for thing in all {
            let each = own.iter().map(|(shard, things)| {
                (
                    *shard,
                    things
                        .get(thing)
                        .map_or_else(|| "missing".to_owned(), |definition| format!("\"{definition}\"")),
                )
            });
            if let Some(differ) = differences(each) {
                found.problem(
                    format!("{kind} \"{thing}\" of table {name} is not the same everywhere: {differ}"),
                    "Make it alike with ALTER TABLE, DROP or CREATE on the servers that differ; what is changed through pgherd is changed on all.",
                );
            }
        }
    }
}

fn pairs<'a>(things: impl Iterator<Item = (&'a String, &'a String)>) -> BTreeMap<&'a str, &'a str> {
    things.map(|(name, definition)| (name.as_str(), definition.as_str())).collect()
}

fn keys(name: &str, key: &[String], types: &[KeyType], by: &Method, table: &SeenTable, found: &mut Findings) {
    for (column, ty) in key.iter().zip(types) {
        let Some(seen) = table.columns.get(column) else {
            found.problem(
                format!("table {name} has no column \"{column}\", which is to be its sharding key"),
                "Correct the key in the configuration, or add the column.",
            );
            continue;
        };
        if !fits(*ty, &seen.type_name) {
            found.problem(
                format!(
                    "column \"{column}\" of table {name} is of type {}, and its distribution's key is {}",
                    seen.type_name,
                    type_name(*ty)
                ),
                "Correct the type of the distribution before its first start, or the column's.",
            );
        }
        if seen.nondeterministic {
            found.problem(
                format!("column \"{column}\" of table {name} has a nondeterministic collation: its equal values are not one value"),
                "Give a sharding key a deterministic collation.",
            );
        }
        let text = matches!(ty, KeyType::Text | KeyType::Varchar | KeyType::Char);
        if matches!(by, Method::Range(_)) && text && !seen.c_collation {
            found.note(
                format!("column \"{column}\" of table {name} is placed by ranges of bytes, and sorted by another collation"),
                "Only = and IN find its shard; declare it COLLATE \"C\" for < and BETWEEN.",
            );
        }
    }
}

/// Integers of any width are one kind of key; so are text and varchar.
fn fits(ty: KeyType, found: &str) -> bool {
    match ty {
        KeyType::SmallInt | KeyType::Integer | KeyType::BigInt => {
            matches!(found, "smallint" | "integer" | "bigint")
        }
        KeyType::Text | KeyType::Varchar => matches!(found, "text" | "character varying"),
        KeyType::Char => matches!(found, "character" | "bpchar"),
        ty => found == type_name(ty),
    }
}

/// What is unique on each shard by itself only.
fn uniques(name: &str, key: &[String], table: &SeenTable, found: &mut Findings) {
    let has_key = |columns: &[String]| key.iter().all(|column| columns.contains(column));
    let constraints = table
        .constraints
        .iter()
        .filter(|(_, own)| matches!(own.kind, 'p' | 'u' | 'x'))
        .map(|(name, own)| (name, &own.columns, own.kind));
    let indexes = table
        .indexes
        .iter()
        .filter(|(_, index)| index.unique)
        .map(|(name, index)| (name, &index.columns, 'i'));
    for (own, columns, kind) in constraints.chain(indexes) {
        if has_key(columns) {
            continue;
        }
        let what = match kind {
            'p' => "primary key",
            'x' => "exclusion constraint",
            'u' => "unique constraint",
            _ => "unique index",
        };
        found.note(
            format!("{what} \"{own}\" of table {name} does not contain the sharding key: it holds on each shard by itself"),
            format!("Add {} to it, or make its values unique in another way (uuid).", key.join(", ")),
        );
    }
}

fn foreign_keys(db: &Database, index: usize, name: &str, table: &SeenTable, found: &mut Findings) {
    let placement = |schema: &str, name: &str| {
        db.tables
            .iter()
            .find(|table| table.name == name && table.schema.as_deref().is_none_or(|own| own == schema))
            .map(|table| &table.placement)
    };
    for (own, constraint) in &table.constraints {
        let Some((schema, other, columns)) = &constraint.refers else { continue };
        let theirs = placement(schema, other);
        let reason = match (&db.tables[index].placement, theirs) {
            (_, Some(TablePlacement::Reference)) => None,
            (
                TablePlacement::Sharded { distribution, key },
                Some(TablePlacement::Sharded { distribution: their_distribution, key: their_key }),
            ) => {
                let carried = key.iter().zip(their_key).all(|(key, their_key)| {
                    constraint.columns.iter().zip(columns).any(|(from, to)| from == key && to == their_key)
                });
                match (distribution == their_distribution, carried) {
                    (true, true) => None,
                    (true, false) => Some("does not carry the sharding key along"),
                    (false, _) => Some("leads to a table of another distribution"),
                }
            }
            (TablePlacement::Single { shard }, Some(TablePlacement::Single { shard: theirs }))
                if shard == theirs =>
            {
                None
            }
            // What is not listed is on the first shard.
            (TablePlacement::Single { shard: 0 }, None) => None,
            (TablePlacement::Reference, Some(_) | None) => {
                Some("leads from a reference table to one that is not on every shard")
            }
            (_, Some(TablePlacement::Sharded { .. })) => Some("leads to a sharded table"),
            (_, Some(TablePlacement::Single { .. }) | None) => Some("leads to a table that is on one shard"),
        };
        if let Some(reason) = reason {
            found.problem(
                format!("foreign key \"{own}\" of table {name} to {other} {reason}: the row it needs may be on another shard"),
                format!("Put both tables into one distribution with the key in the foreign key, make {other} a reference table, or drop it."),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = r#"
[auth]
method = "trust"
[[databases.shop.shards]]
name = "s0"
primary = "postgres://h/a"
[[databases.shop.shards]]
name = "s1"
primary = "postgres://i/a"
[databases.shop]
control = { user = "pgherd" }
[databases.shop.distributions.customer]
by = "hash"
type = "bigint"
[databases.shop.distributions.name]
by = "range"
type = "text"
ranges = [{ to = "m", shard = "s0" }, { from = "m", shard = "s1" }]
[databases.shop.tables]
customers = { distribution = "customer", key = "id" }
orders = { distribution = "customer", key = "customer_id" }
words = { distribution = "name", key = "word" }
countries = { reference = true }
settings = { shard = "s1" }
"#;

    fn column(type_name: &str) -> SeenColumn {
        SeenColumn {
            definition: type_name.into(),
            type_name: type_name.into(),
            c_collation: true,
            ..SeenColumn::default()
        }
    }

    fn seen_table(columns: &[(&str, &str)]) -> SeenTable {
        let columns = columns.iter().map(|(name, ty)| (name.to_string(), column(ty))).collect();
        SeenTable { columns, ..SeenTable::default() }
    }

    fn good() -> Seen {
        let mut tables = BTreeMap::new();
        tables.insert(0, seen_table(&[("id", "bigint"), ("name", "text")]));
        tables.insert(1, seen_table(&[("id", "bigint"), ("customer_id", "integer")]));
        tables.insert(2, seen_table(&[("word", "character varying")]));
        tables.insert(3, seen_table(&[("code", "text")]));
        tables.insert(4, seen_table(&[("key", "text")]));
        Seen {
            version: "15".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C".into(),
            max_prepared_transactions: 10,
            tables,
        }
    }

    fn constraint(kind: char, columns: &[&str], refers: Option<(&str, &[&str])>) -> SeenConstraint {
        let owned = |columns: &[&str]| columns.iter().map(|column| column.to_string()).collect::<Vec<_>>();
        SeenConstraint {
            definition: String::new(),
            kind,
            columns: owned(columns),
            refers: refers.map(|(table, columns)| ("public".into(), table.into(), owned(columns))),
        }
    }

    /// What is found when `change` is done to both servers, or to the second alone.
    fn findings(both: bool, change: impl Fn(&mut Seen)) -> Vec<String> {
        let config =
            pgherd_config::parse(CONFIGURATION, "f").unwrap_or_else(|_| panic!("the example is right"));
        let (mut first, mut second) = (good(), good());
        // On s1 alone, and there.
        first.tables.remove(&4);
        if both {
            change(&mut first);
        }
        change(&mut second);
        let found = compare(&config.databases[0], &[Ok(first), Ok(second)]);
        found
            .iter()
            .map(|finding| finding.to_string().lines().next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn each_thing_that_does_not_fit_is_found_and_nothing_else() {
        type Change = fn(&mut Seen);
        let cases: &[(bool, Change, &[&str])] = &[
            (true, |_| {}, &[]),
            (
                false,
                |seen| seen.version = "16".into(),
                &["note: the servers have different versions: 15 on s0; 16 on s1"],
            ),
            (
                false,
                |seen| seen.encoding = "LATIN1".into(),
                &["problem: the databases have different encodings: LATIN1 on s1; UTF8 on s0"],
            ),
            (
                true,
                |seen| seen.encoding = "LATIN1".into(),
                &["problem: the databases have the encoding LATIN1"],
            ),
            (
                false,
                |seen| seen.collate = "de_DE.UTF-8".into(),
                &[
                    "problem: the databases sort differently (LC_COLLATE/LC_CTYPE): C/C on s0; de_DE.UTF-8/C on s1",
                ],
            ),
            (
                false,
                |seen| seen.max_prepared_transactions = 0,
                &[
                    "problem: max_prepared_transactions is 0 on s1: no transaction can write there and elsewhere",
                ],
            ),
            (false, |seen| drop(seen.tables.remove(&0)), &["problem: table customers is not on s1"]),
            (true, |seen| drop(seen.tables.remove(&0)), &["note: table customers is on no server yet"]),
            (false, |seen| drop(seen.tables.remove(&4)), &["note: table settings is on no server yet"]),
            (
                true,
                |seen| drop(seen.tables.insert(0, seen_table(&[("number", "bigint")]))),
                &["problem: table customers has no column \"id\", which is to be its sharding key"],
            ),
            (
                true,
                |seen| drop(seen.tables.insert(0, seen_table(&[("id", "text")]))),
                &[
                    "problem: column \"id\" of table customers is of type text, and its distribution's key is bigint",
                ],
            ),
            (
                false,
                |seen| drop(seen.tables.insert(3, seen_table(&[("code", "text"), ("more", "text")]))),
                &[
                    "problem: column \"more\" of table countries is not the same everywhere: \"text\" on s1; missing on s0",
                ],
            ),
            (
                false,
                |seen| {
                    seen.tables.entry(3).or_default().indexes.insert("i".into(), SeenIndex::default());
                },
                &[
                    "problem: index \"i\" of table countries is not the same everywhere: \"\" on s1; missing on s0",
                ],
            ),
            (
                true,
                |seen| {
                    seen.tables
                        .entry(1)
                        .or_default()
                        .constraints
                        .insert("orders_pkey".into(), constraint('p', &["id"], None));
                },
                &[
                    "note: primary key \"orders_pkey\" of table orders does not contain the sharding key: it holds on each shard by itself",
                ],
            ),
            (
                true,
                |seen| {
                    let own = &mut seen.tables.entry(1).or_default().constraints;
                    own.insert("p".into(), constraint('p', &["customer_id", "id"], None));
                    own.insert("f".into(), constraint('f', &["customer_id"], Some(("customers", &["id"]))));
                    own.insert("g".into(), constraint('f', &["id"], Some(("countries", &["code"]))));
                },
                &[],
            ),
            (
                true,
                |seen| {
                    let own = &mut seen.tables.entry(1).or_default().constraints;
                    own.insert("f".into(), constraint('f', &["id"], Some(("customers", &["id"]))));
                    own.insert("g".into(), constraint('f', &["id"], Some(("words", &["word"]))));
                    own.insert("h".into(), constraint('f', &["id"], Some(("settings", &["key"]))));
                    own.insert("i".into(), constraint('f', &["id"], Some(("unlisted", &["key"]))));
                    let own = &mut seen.tables.entry(3).or_default().constraints;
                    own.insert("j".into(), constraint('f', &["code"], Some(("words", &["word"]))));
                },
                &[
                    "problem: foreign key \"f\" of table orders to customers does not carry the sharding key along: the row it needs may be on another shard",
                    "problem: foreign key \"g\" of table orders to words leads to a table of another distribution: the row it needs may be on another shard",
                    "problem: foreign key \"h\" of table orders to settings leads to a table that is on one shard: the row it needs may be on another shard",
                    "problem: foreign key \"i\" of table orders to unlisted leads to a table that is on one shard: the row it needs may be on another shard",
                    "problem: foreign key \"j\" of table countries to words leads from a reference table to one that is not on every shard: the row it needs may be on another shard",
                ],
            ),
            (
                true,
                |seen| {
                    let table = seen.tables.entry(2).or_default();
                    table.columns.insert(
                        "word".into(),
                        SeenColumn { c_collation: false, nondeterministic: true, ..column("text") },
                    );
                },
                &[
                    "problem: column \"word\" of table words has a nondeterministic collation: its equal values are not one value",
                    "note: column \"word\" of table words is placed by ranges of bytes, and sorted by another collation",
                ],
            ),
            (
                true,
                |seen| {
                    let table = seen.tables.entry(0).or_default();
                    table.columns.insert("id".into(), SeenColumn { from_sequence: true, ..column("bigint") });
                },
                &[
                    "note: column \"id\" of table customers draws from a sequence: for all shards it is that of s0",
                ],
            ),
        ];
        for (both, change, expected) in cases {
            assert_eq!(findings(*both, change), *expected);
        }
        let config =
            pgherd_config::parse(CONFIGURATION, "f").unwrap_or_else(|_| panic!("the example is right"));
        let found = compare(&config.databases[0], &[Err("no answer in time".into()), Ok(good())]);
        assert_eq!(found[0].what, "shard s0 cannot be asked: no answer in time");
        assert_eq!(found.len(), 1);
    }
}
