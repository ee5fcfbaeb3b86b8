//! The example herd that the tests plan for, and the only code of theirs that knows the API.
//!
//! customers and orders are co-located by a bigint over 4 shards; pgbench's tables by an integer; items by (text, bigint);
//! countries is on every shard, settings on s2; notes is not listed.

#![allow(dead_code)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pgherd_config::KeyType;
use pgherd_router::Cache;
use pgherd_router::describe::{describe, describe_refusal};
use pgherd_router::lexer::{self, TokenKind};
use pgherd_router::plan::{LiteralKind, Params, Statement};
use pgherd_router::rule::Rule;
use pgherd_router::topology::{
    ColumnFacts, Distribution, Facts, Identity, Placement, SLOTS, ShardId, Table, TableFacts, Topology,
    ViewFacts,
};

pub fn herd() -> Topology {
    let owners = || (0..SLOTS).map(|slot| ShardId((slot * 4 / SLOTS) as u16)).collect::<Box<[ShardId]>>();
    let distribution = |name: &str, types: &[KeyType]| Distribution {
        name: name.into(),
        types: types.into(),
        rule: Arc::new(Rule::hash(owners()).unwrap()),
        shown: Default::default(),
    };
    let mut topology = Topology {
        database: "shop".into(),
        shards: ["s0", "s1", "s2", "s3"].map(String::from).into(),
        distributions: vec![
            distribution("customer", &[KeyType::BigInt]),
            distribution("bench", &[KeyType::Integer]),
            distribution("item", &[KeyType::Text, KeyType::BigInt]),
            distribution("label", &[KeyType::Varchar]),
            distribution("price", &[KeyType::Numeric]),
            distribution("device", &[KeyType::Uuid]),
            distribution("tag", &[KeyType::Text]),
        ],
        tables: Vec::new(),
        facts: Facts::default(),
        epoch: 1,
        version: 1,
    };
    let sharded = |distribution, key: &[&str]| Placement::Sharded {
        distribution,
        key: key.iter().map(|key| key.to_string()).collect(),
    };
    let mut add = |name: &str, placement, columns: &[&str]| {
        let index = topology.tables.len();
        topology.tables.push(Table { schema: None, name: name.into(), placement });
        if !columns.is_empty() {
            let columns: Vec<ColumnFacts> = columns.iter().map(|column| self::column(column)).collect();
            let primary_key = vec![columns[0].name.clone()];
            topology.facts.tables.insert(
                index,
                TableFacts { schema: "public".into(), columns, primary_key, ..TableFacts::default() },
            );
        }
    };
    add("customers", sharded(0, &["id"]), &["id bigint", "name text", "email text", "since timestamptz now"]);
    add(
        "orders",
        sharded(0, &["customer_id"]),
        &["id bigint", "customer_id bigint", "total numeric", "paid boolean"],
    );
    add("events", sharded(0, &["customer_id"]), &["id bigint serial", "customer_id bigint", "body text"]);
    add("pgbench_branches", sharded(1, &["bid"]), &["bid integer", "bbalance integer", "filler bpchar"]);
    add(
        "pgbench_tellers",
        sharded(1, &["tid"]),
        &["tid integer", "bid integer", "tbalance integer", "filler bpchar"],
    );
    add(
        "pgbench_accounts",
        sharded(1, &["aid"]),
        &["aid integer", "bid integer", "abalance integer", "filler bpchar"],
    );
    add(
        "pgbench_history",
        sharded(1, &["aid"]),
        &["tid integer", "bid integer", "aid integer", "delta integer", "mtime timestamp", "filler bpchar"],
    );
    add("items", sharded(2, &["shop", "number"]), &["shop text", "number bigint", "price numeric"]);
    add("labels", sharded(3, &["label"]), &["label varchar(20)", "body text"]);
    add("prices", sharded(4, &["price"]), &["price numeric(10,2)", "body text"]);
    add("odd", sharded(3, &["name"]), &["name odd", "body text"]);
    add("countries", Placement::Reference, &["code text", "name text", "added timestamptz now"]);
    add("currencies", Placement::Reference, &["code text", "rate numeric"]);
    add("settings", Placement::Single(ShardId(2)), &[]);
    add("future", sharded(0, &["id"]), &[]);
    add("tickets", sharded(0, &["id"]), &["id bigint serial", "title text", "total numeric"]);
    add("parcels", sharded(0, &["id"]), &["id bigint always", "number integer identity", "body text"]);
    add("devices", sharded(5, &["id"]), &["id uuid uuid", "label text", "seen timestamptz now"]);
    add("probes", sharded(0, &["id"]), &["id bigint", "seen timestamptz opaque"]);
    add("colors", Placement::Reference, &["code integer serial", "name text"]);
    add("tags", sharded(6, &["tag"]), &["tag varchar(20)", "body text"]);
    topology.facts.derived_relations = HashSet::from(["order_totals".to_owned()]);
    let view = |text: &str| ViewFacts { schema: "public".to_owned(), text: text.to_owned() };
    topology.facts.derived_relations.extend(["lively".to_owned(), "livelier".to_owned()]);
    topology.facts.views = HashMap::from([
        (
            "lively".to_owned(),
            view(
                "SELECT customers.id, customers.name FROM public.customers WHERE (customers.email IS NOT NULL)",
            ),
        ),
        ("livelier".to_owned(), view("SELECT l.id FROM public.lively l")),
    ]);
    topology.facts.user_functions = HashSet::from(["refund".to_owned(), "paid".to_owned()]);
    topology.facts.immutable_functions = HashSet::from(["abs".to_owned(), "vat".to_owned()]);
    topology.facts.indexes = HashMap::from([
        ("orders_total_idx".to_owned(), 1),
        ("orders_pkey".to_owned(), 1),
        ("settings_idx".to_owned(), 13),
    ]);
    topology
}

/// "name type [serial | now]"
fn column(text: &str) -> ColumnFacts {
    let words: Vec<&str> = text.split(' ').collect();
    let (type_oid, type_modifier) = match words[1] {
        "bigint" => (20, -1),
        "integer" => (23, -1),
        "text" => (25, -1),
        "odd" => (1043, -1),
        "bpchar" => (1042, 88),
        "varchar(20)" => (1043, 24),
        "numeric" => (1700, -1),
        "numeric(10,2)" => (1700, 655366),
        "boolean" => (16, -1),
        "timestamp" => (1114, -1),
        "timestamptz" => (1184, -1),
        "uuid" => (2950, -1),
        other => panic!("{other}"),
    };
    ColumnFacts {
        name: words[0].into(),
        type_oid,
        type_name: words[1].into(),
        type_modifier,
        not_null: false,
        from_sequence: matches!(words.get(2), Some(&("serial" | "identity" | "always"))),
        sequence: matches!(words.get(2), Some(&("serial" | "identity" | "always")))
            .then(|| format!("\"public\".\"{}_seq\"", words[0])),
        identity: match words.get(2) {
            Some(&"identity") => Identity::ByDefault,
            Some(&"always") => Identity::Always,
            _ => Identity::No,
        },
        default_not_immutable: matches!(words.get(2), Some(&("now" | "uuid" | "opaque"))),
        default: match words.get(2) {
            Some(&"now") => Some("now()".to_owned()),
            Some(&"uuid") => Some("gen_random_uuid()".to_owned()),
            _ => None,
        },
        generated: false,
        nondeterministic_collation: words[1] == "odd",
        c_collation: words.contains(&"bytes"),
    }
}

/// A database with one shard.
pub fn plain_pool() -> Topology {
    let mut topology = herd();
    topology.shards.truncate(1);
    topology.tables.clear();
    topology.distributions.clear();
    topology.facts = Facts::default();
    topology
}

pub fn parse(topology: &Topology, sql: &str) -> Vec<Statement> {
    Cache::default().analyze(topology, sql)
}

/// The plans of all statements of a text.
pub fn plan(topology: &Topology, sql: &str) -> String {
    plan_with(topology, sql, Params::default())
}

pub fn plan_with(topology: &Topology, sql: &str, params: Params<'_>) -> String {
    show(topology, sql, parse(topology, sql), params)
}

fn show(topology: &Topology, sql: &str, statements: Vec<Statement>, params: Params<'_>) -> String {
    let planned = statements.into_iter().map(|statement| {
        let text = &sql[statement.at.start as usize..statement.at.end as usize];
        match statement.template.plan(topology, text, &statement.literals, params) {
            Ok(plan) => describe(&plan, topology),
            Err(refusal) => describe_refusal(&refusal),
        }
    });
    planned.collect::<Vec<_>>().join("; ")
}

/// The same text with other literals: longer numbers, longer strings.
pub fn with_other_values(sql: &str) -> String {
    let (mut text, mut at) = (String::new(), 0);
    for token in lexer::tokens(sql) {
        let TokenKind::Literal(kind) = token.kind else { continue };
        text.push_str(&sql[at..token.at.start as usize]);
        text.push_str(match kind {
            LiteralKind::Integer => "98765432",
            LiteralKind::Numeric => "98765.4321",
            LiteralKind::String => "'something else, longer'",
            LiteralKind::EscapeString => "E'something\\'s else'",
            LiteralKind::DollarString => "$other$a $$ string$other$",
            LiteralKind::OtherString => &sql[token.at.start as usize..token.at.end as usize],
        });
        at = token.at.end as usize;
    }
    text + &sql[at..]
}

/// Planned with templates that were made for other values of the same shapes.
fn plan_after_others(topology: &Topology, sql: &str) -> String {
    let mut cache = Cache::default();
    cache.analyze(topology, &with_other_values(sql));
    show(topology, sql, cache.analyze(topology, sql), Params::default())
}

/// Shows what differs, all of it at once. An expectation that ends in "..." is a beginning; "refused" is any refusal; "not
/// combined" is no answer that is made of the shards' own.
pub fn check(topology: &Topology, cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (why, sql, expected) in cases {
        let found = plan(topology, sql);
        assert_eq!(plan_after_others(topology, sql), found, "{why}: {sql}: after {}", with_other_values(sql));
        let fits = match expected.strip_suffix("...") {
            Some(beginning) => found.starts_with(beginning),
            None if *expected == "not combined" => {
                found.starts_with("refused") || found.starts_with("gather")
            }
            None => found == *expected || *expected == "refused" && found.starts_with("refused"),
        };
        if !fits {
            wrong.push(format!("{why}: {sql}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
