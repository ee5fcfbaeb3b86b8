//! What conditions say about keys: which shards a statement needs, by hash, range, list, and list with hash.
//!
//! Keys of the example by hash: 1, 4, 7, 12 are on s0; 8, 9, 10 on s1; 2 on s2; 3, 5, 6, 11 on s3. `bands` is by range of
//! `at`: below 100 on s0, to 200 on s1, to 300 on s2, from 400 on s3. `tenants` is by list of `region`: de, fr on s0; us on
//! s1; NULL on s2; the rest on s3. `sites` is by list of `region`, then by hash of `id`: de on s0 and s1; us on s2.

mod house;

use std::sync::Arc;

use house::{check, herd, plan, plan_with};
use pgherd_config::KeyType;
use pgherd_router::directory::{Directory, key_text};
use pgherd_router::plan::Params;
use pgherd_router::rule::{Group, KeyRange, Lists, Rule};
use pgherd_router::topology::{
    ColumnFacts, Distribution, Identity, Placement, SLOTS, ShardId, Table, TableFacts, Topology,
};
use pgherd_router::value::KeyValue;

fn value(ty: KeyType, text: &str) -> KeyValue<'static> {
    KeyValue::from_text(ty, text.as_bytes()).unwrap().into_owned()
}

fn ranges(ty: KeyType, bounds: &[(Option<&str>, Option<&str>, u16)]) -> Rule {
    let range = |(from, to, shard): &(Option<&str>, Option<&str>, u16)| KeyRange {
        from: from.map(|text| value(ty, text)),
        to: to.map(|text| value(ty, text)),
        shard: ShardId(*shard),
    };
    Rule::range(bounds.iter().map(range).collect()).unwrap()
}

fn column(name: &str, type_oid: u32, c_collation: bool) -> ColumnFacts {
    ColumnFacts {
        name: name.to_owned(),
        type_oid,
        type_name: String::new(),
        type_modifier: -1,
        not_null: false,
        from_sequence: false,
        sequence: None,
        identity: Identity::No,
        default_not_immutable: false,
        default: None,
        generated: false,
        nondeterministic_collation: false,
        c_collation,
    }
}

/// The example herd, and tables of the other methods.
fn spread() -> Topology {
    let mut topology = herd();
    let mut add = |name: &str, types: &[KeyType], rule: Rule, columns: &[(&str, u32, bool)], key: &[&str]| {
        let distribution = topology.distributions.len();
        topology.distributions.push(Distribution {
            name: name.into(),
            types: types.into(),
            rule: Arc::new(rule),
            shown: Default::default(),
        });
        let key = key.iter().map(|name| name.to_string()).collect();
        let placement = Placement::Sharded { distribution, key };
        topology.tables.push(Table { schema: None, name: name.into(), placement });
        let column = |(name, oid, c_collation): &(&str, u32, bool)| column(name, *oid, *c_collation);
        let columns = columns.iter().map(column).collect();
        let facts = TableFacts { schema: "public".into(), columns, ..TableFacts::default() };
        topology.facts.tables.insert(topology.tables.len() - 1, facts);
    };
    let bands = [
        (None, Some("100"), 0),
        (Some("100"), Some("200"), 1),
        (Some("200"), Some("300"), 2),
        (Some("400"), None, 3),
    ];
    add(
        "bands",
        &[KeyType::BigInt],
        ranges(KeyType::BigInt, &bands),
        &[("at", 20, false), ("x", 23, false), ("paid", 16, false)],
        &["at"],
    );
    let days = [
        (None, Some("2024-01-01"), 0),
        (Some("2024-01-01"), Some("2024-07-01"), 1),
        (Some("2024-07-01"), Some("2025-01-01"), 2),
        (Some("2025-01-01"), None, 3),
    ];
    add(
        "days",
        &[KeyType::Date],
        ranges(KeyType::Date, &days),
        &[("day", 1082, false), ("x", 23, false)],
        &["day"],
    );
    let moments = [(None, Some("2024-01-01 00:00:00+00"), 0), (Some("2024-01-01 00:00:00+00"), None, 1)];
    add(
        "moments",
        &[KeyType::TimestampTz],
        ranges(KeyType::TimestampTz, &moments),
        &[("at", 1184, false)],
        &["at"],
    );
    let prices = [(None, Some("9.99"), 0), (Some("9.99"), Some("100"), 1), (Some("100"), None, 2)];
    add("costs", &[KeyType::Numeric], ranges(KeyType::Numeric, &prices), &[("cost", 1700, false)], &["cost"]);
    let names = [(None, Some("g"), 0), (Some("g"), Some("p"), 1), (Some("p"), None, 2)];
    add("names", &[KeyType::Text], ranges(KeyType::Text, &names), &[("name", 25, true)], &["name"]);
    add("nouns", &[KeyType::Text], ranges(KeyType::Text, &names), &[("name", 25, false)], &["name"]);
    let listed = |texts: &[(&str, u32)]| {
        texts.iter().map(|(text, group)| (value(KeyType::Text, text), *group)).collect::<Vec<_>>()
    };
    let one = |shard: u16| Group::One(ShardId(shard));
    let tenants = Lists::new(
        listed(&[("de", 0), ("fr", 0), ("us", 1)]),
        Some(2),
        Some(3),
        vec![one(0), one(1), one(2), one(3)],
    );
    add(
        "tenants",
        &[KeyType::Text],
        Rule::List(tenants.unwrap()),
        &[("region", 25, true), ("x", 23, false)],
        &["region"],
    );
    let halves = Group::Hash((0..SLOTS).map(|slot| ShardId((slot * 2 / SLOTS) as u16)).collect());
    let sites = Lists::new(listed(&[("de", 0), ("us", 1)]), None, None, vec![halves, one(2)]);
    add(
        "sites",
        &[KeyType::Text, KeyType::BigInt],
        Rule::List(sites.unwrap()),
        &[("region", 25, true), ("id", 20, false), ("x", 23, false)],
        &["region", "id"],
    );
    topology
}

const ALL: &str = "each of s0, s1, s2, s3: union";

/// Conditions on one table, and the shards that they need.
fn conditions(table: &str, cases: &[(&str, &str)]) {
    let statements: Vec<String> =
        cases.iter().map(|(condition, _)| format!("SELECT * FROM {table} WHERE {condition}")).collect();
    let rows: Vec<(&str, &str, String)> = statements
        .iter()
        .zip(cases)
        .map(|(sql, (condition, expected))| {
            let plan = match *expected {
                "all" => ALL.to_owned(),
                one if !one.contains(',') => format!("one shard: {one}"),
                several => format!("each of {several}: union"),
            };
            (*condition, sql.as_str(), plan)
        })
        .collect();
    let rows: Vec<(&str, &str, &str)> =
        rows.iter().map(|(why, sql, plan)| (*why, *sql, plan.as_str())).collect();
    check(&spread(), &rows);
}

#[test]
fn a_hash_is_pruned_by_values() {
    conditions(
        "orders",
        &[
            ("customer_id = 2", "s2"),
            ("customer_id IN (2, 8)", "s1, s2"),
            ("customer_id IN (1, 4, 7, 12)", "s0"),
            ("customer_id = 2 OR customer_id = 8", "s1, s2"),
            ("customer_id = 1 OR customer_id = 4", "s0"),
            ("(customer_id = 1 OR customer_id = 4) AND paid", "s0"),
            ("customer_id = 1 AND paid OR customer_id = 4 AND NOT paid", "s0"),
            ("customer_id = 1 OR customer_id = 2 OR customer_id = 8", "s0, s1, s2"),
            ("customer_id IN (1, 2) OR customer_id = 8", "s0, s1, s2"),
            ("2 = customer_id OR customer_id IN (2)", "s2"),
            ("customer_id = 2 OR paid", "all"),
            ("customer_id = 2 OR total = 2", "all"),
            ("paid OR customer_id = 2", "all"),
            ("customer_id = 2 OR (customer_id = 3 AND paid OR customer_id = 8)", "s1, s2, s3"),
            ("customer_id = 2 OR (customer_id = 3 OR paid)", "all"),
            ("NOT customer_id = 2", "all"),
            ("NOT (customer_id = 2 OR customer_id = 3)", "all"),
            ("customer_id <> 2", "all"),
            ("customer_id NOT IN (2)", "all"),
            ("customer_id != ALL (ARRAY[2])", "all"),
            ("(customer_id = 2) IS TRUE", "all"),
            ("(customer_id = 2) IS NOT FALSE", "all"),
            ("CASE WHEN paid THEN customer_id = 2 ELSE true END", "all"),
            ("customer_id + 0 = 2", "all"),
            ("customer_id = id", "all"),
            ("customer_id = total", "all"),
            ("id = 2", "all"),
            ("customer_id::text = '2'", "all"),
            ("coalesce(customer_id, 2) = 2", "all"),
            ("customer_id = 2.0", "all"),
            ("customer_id = 2 + 0", "all"),
            ("customer_id = NULL", "all"),
            ("customer_id IS NULL", "all"),
            ("customer_id IN (2, 8 + 1)", "all"),
            ("customer_id BETWEEN 1 AND 2", "all"),
            ("customer_id > 1", "all"),
            ("customer_id > 1 AND customer_id = 2", "s2"),
            ("customer_id = 2 AND customer_id IN (2, 3, 8)", "s2"),
            ("customer_id IN (2, 3, 8) AND customer_id IN (2, 8)", "s1, s2"),
            ("customer_id = ANY (ARRAY[2, 8])", "s1, s2"),
            ("customer_id = SOME (ARRAY[2, 8])", "s1, s2"),
            ("customer_id = ANY ('{2,8}')", "s1, s2"),
            ("customer_id = ANY ('{2,8}'::bigint[])", "s1, s2"),
            ("customer_id = ANY ('{2,8}'::int[])", "s1, s2"),
            ("customer_id = ANY (CAST('{2,8}' AS int8[]))", "s1, s2"),
            ("customer_id = ANY ('{2,NULL}')", "s2"),
            ("customer_id = ANY ('{{1,4},{7,12}}')", "s0"),
            ("customer_id = ANY (ARRAY[2, 8]::bigint[])", "s1, s2"),
            ("customer_id = ANY (ARRAY['2', '8']::bigint[])", "s1, s2"),
            ("customer_id = ANY ('{2,x}')", "all"),
            ("customer_id = ANY ('{2,8}'::numeric[])", "all"),
            ("customer_id = ANY ('{2,8}'::text[])", "all"),
            ("customer_id = ANY (ARRAY[2, id])", "all"),
            ("customer_id = ANY (SELECT 2)", "refused"),
            ("customer_id <> ANY (ARRAY[2])", "all"),
            ("customer_id < ANY (ARRAY[2])", "all"),
            ("customer_id = ALL (ARRAY[2])", "all"),
            ("(customer_id, id) = (2, 5)", "s2"),
            ("(id, customer_id) = (5, 2)", "s2"),
            ("(customer_id, id) IN ((2, 1), (8, 1))", "s1, s2"),
            ("(id, customer_id) IN ((1, 2), (1, 8))", "s1, s2"),
            ("(customer_id, id) IN ((2, 1), (8, id))", "s1, s2"),
            ("(customer_id, id) NOT IN ((2, 1))", "all"),
            ("(customer_id, id) > (2, 1)", "all"),
            ("(customer_id, id) <> (2, 1)", "all"),
            ("customer_id IS NOT DISTINCT FROM 2", "s2"),
            ("customer_id IS DISTINCT FROM 2", "all"),
            ("orders.customer_id = 2 OR orders.customer_id = 3", "s2, s3"),
        ]
        .iter()
        .filter(|(_, expected)| *expected != "refused")
        .copied()
        .collect::<Vec<_>>(),
    );
}

#[test]
fn ranges_are_pruned_by_comparisons() {
    conditions(
        "bands",
        &[
            ("at = 5", "s0"),
            ("at = 99", "s0"),
            ("at = 100", "s1"),
            ("at = 199", "s1"),
            ("at = 400", "s3"),
            ("at = -9223372036854775808", "s0"),
            ("at = 9223372036854775807", "s3"),
            // No range takes it: no row has it, and any shard says so.
            ("at = 350", "s0"),
            ("at IN (350, 399)", "s0"),
            ("at BETWEEN 300 AND 399", "s0"),
            ("at >= 300 AND at < 400", "s0"),
            ("at = 5 AND at = 150", "s0"),
            ("at < 0 AND at > 500", "s0"),
            ("at IS NULL", "s0"),
            ("at < 100", "s0"),
            ("at <= 100", "s0, s1"),
            ("at < 101", "s0, s1"),
            ("at > 99", "s1, s2, s3"),
            ("at >= 100", "s1, s2, s3"),
            ("at > 100", "s1, s2, s3"),
            ("at > 299", "s3"),
            ("at >= 300", "s3"),
            ("at > 1000", "s3"),
            ("100 > at", "s0"),
            ("100 >= at", "s0, s1"),
            ("100 < at", "s1, s2, s3"),
            ("at BETWEEN 100 AND 199", "s1"),
            ("at BETWEEN 100 AND 200", "s1, s2"),
            ("at BETWEEN 50 AND 150", "s0, s1"),
            ("at BETWEEN 199 AND 100", "s1"),
            ("at NOT BETWEEN 100 AND 199", "all"),
            ("at >= 100 AND at < 200", "s1"),
            ("at >= 100 AND at < 200 AND x = 1", "s1"),
            ("x = 1 AND at < 200 AND at >= 100", "s1"),
            ("at > 150 AND at > 250", "s2, s3"),
            ("at >= 100 AND (at < 200 OR at < 150)", "s1"),
            ("at < 100 OR at >= 400", "s0, s3"),
            ("at < 100 OR at = 150", "s0, s1"),
            ("at >= 100 AND at < 200 OR at >= 400", "s1, s3"),
            ("(at >= 100 AND at < 150 OR at >= 150 AND at < 200) AND x = 1", "s1"),
            ("at BETWEEN 1 AND 2 OR at BETWEEN 401 AND 402", "s0, s3"),
            ("at < 100 OR x = 1", "all"),
            ("NOT at < 100", "all"),
            ("at < 100 IS NOT TRUE", "all"),
            ("at IN (5, 150)", "s0, s1"),
            ("at = ANY ('{5,150}')", "s0, s1"),
            ("at IN (5, 150) AND at > 100", "s1"),
            ("at <> 5", "all"),
            ("at < x", "all"),
            ("at < 100.5", "all"),
            ("at < 50 + 50", "all"),
            ("at < 9223372036854775808", "all"),
            ("-at < 100", "all"),
            ("at - 1 < 100", "all"),
            ("at < NULL", "s0"),
            ("at BETWEEN NULL AND 5", "s0"),
            ("at BETWEEN 100 AND x", "s1, s2, s3"),
            ("at BETWEEN x AND 100", "s0, s1"),
            ("at BETWEEN x AND x", "all"),
            ("at < '100'", "s0"),
            ("at < '100'::int", "s0"),
            ("at < int '100'", "s0"),
            ("at < -5", "s0"),
            ("(at, x) < (100, 5)", "s0, s1"),
            ("(at, x) >= (400, 5)", "s3"),
            ("(at, x) > (299, 5)", "s2, s3"),
            ("(x, at) < (5, 100)", "all"),
            ("(at, x) = (100, 5)", "s1"),
            ("(at, x) BETWEEN (1, 1) AND (2, 2)", "all"),
            ("at IS NOT NULL", "all"),
            ("at IS NOT DISTINCT FROM 150", "s1"),
            ("at IS NOT DISTINCT FROM NULL", "s0"),
            ("at <> ALL ('{5}')", "all"),
            ("at < ANY ('{100}')", "all"),
            ("at ~ '5'", "all"),
        ]
        .iter()
        .filter(|(condition, _)| !condition.contains('~'))
        .copied()
        .collect::<Vec<_>>(),
    );
    conditions(
        "days",
        &[
            ("day = '2024-02-29'", "s1"),
            ("day = date '2024-02-29'", "s1"),
            ("day = '2024-02-29'::date", "s1"),
            ("day < '2024-01-01'", "s0"),
            ("day <= '2024-01-01'", "s0, s1"),
            ("day >= '2024-01-01' AND day < '2025-01-01'", "s1, s2"),
            ("day BETWEEN '2024-07-01' AND '2024-12-31'", "s2"),
            ("day = 'infinity'", "s3"),
            ("day > '-infinity'", "all"),
            ("day < timestamp '2024-01-01 00:00:00'", "all"),
            ("day < '2024-01-01'::timestamp", "all"),
            ("day = 'today'", "all"),
            ("day < '01/02/2024'", "all"),
            ("day < current_date", "all"),
            ("day + 1 < '2024-01-01'", "all"),
        ]
        .iter()
        // What is another value on each server is refused over several shards.
        .filter(|(condition, _)| !condition.contains("today") && !condition.contains("current_date"))
        .copied()
        .collect::<Vec<_>>(),
    );
    conditions(
        "moments",
        &[
            ("at < '2024-01-01 00:00:00+00'", "s0"),
            ("at < '2024-01-01 01:00:00+01'", "s0"),
            ("at >= '2024-01-01T00:00:00Z'", "s1"),
            // What it means depends on the time zone of the session.
            ("at < '2023-01-01 00:00:00'", "all"),
            ("at < date '2023-01-01'", "all"),
        ],
    );
    conditions(
        "costs",
        &[
            ("cost = 9.989", "s0"),
            ("cost = 9.99", "s1"),
            ("cost = 9.990", "s1"),
            ("cost < 9.99", "s0"),
            ("cost >= 100", "s2"),
            ("cost > 99.999", "s1, s2"),
            ("cost = 'NaN'", "s2"),
            ("cost < -1", "s0"),
            ("cost < 1e1", "s0, s1"),
        ],
    );
}

#[test]
fn a_text_is_pruned_by_its_order_only_where_that_is_known() {
    conditions(
        "names",
        &[
            ("name = 'golf'", "s1"),
            ("name < 'g'", "s0"),
            ("name >= 'p'", "s2"),
            ("name BETWEEN 'h' AND 'k'", "s1"),
            ("name >= 'a' AND name < 'f' OR name = 'z'", "s0, s2"),
            ("name = 'G'", "s0"),
            ("name COLLATE \"de_DE\" < 'g'", "s0, s1, s2"),
            ("name < 'g' COLLATE \"de_DE\"", "s0, s1, s2"),
            ("lower(name) < 'g'", "s0, s1, s2"),
            ("name LIKE 'a%'", "s0, s1, s2"),
        ]
        .iter()
        .filter(|(_, expected)| *expected != "s0, s1, s2")
        .copied()
        .collect::<Vec<_>>(),
    );
    // Any table's rows may be on every shard that there is.
    let everywhere = [
        "name < 'g' COLLATE \"de_DE\"",
        "name COLLATE \"de_DE\" < 'g'",
        "lower(name) < 'g'",
        "name LIKE 'a%'",
    ];
    conditions("names", &everywhere.map(|condition| (condition, "all")));
    // "Z" is above "a" there, "z" may be below "B": the order is the server's secret.
    conditions(
        "nouns",
        &[
            ("name = 'golf'", "s1"),
            ("name IN ('a', 'z')", "s0, s2"),
            ("name < 'g'", "s0, s1, s2"),
            ("name BETWEEN 'h' AND 'k'", "s0, s1, s2"),
            ("name = 'golf' AND name < 'z'", "s1"),
            ("name = 'golf' OR name > 'y'", "s0, s1, s2"),
        ],
    );
}

#[test]
fn lists_are_pruned_by_their_values_and_the_rest() {
    conditions(
        "tenants",
        &[
            ("region = 'de'", "s0"),
            ("region IN ('de', 'fr')", "s0"),
            ("region IN ('de', 'us')", "s0, s1"),
            ("region = 'jp'", "s3"),
            ("region = 'DE'", "s3"),
            ("region IS NULL", "s2"),
            ("region IS NULL OR region = 'us'", "s1, s2"),
            ("region IS NOT DISTINCT FROM NULL", "s2"),
            ("region IS NOT DISTINCT FROM 'us'", "s1"),
            ("region = ANY ('{us,jp}')", "s1, s3"),
            ("region < 'e'", "s0, s3"),
            ("region BETWEEN 'u' AND 'v'", "s1, s3"),
            ("region > 'z'", "s3"),
            ("region <> 'de'", "all"),
            ("region = 'de' OR x = 1", "all"),
            ("region = 'de' AND region = 'us'", "s0"),
            ("coalesce(region, 'de') = 'de'", "all"),
        ],
    );
    conditions(
        "sites",
        &[
            ("region = 'us'", "s2"),
            ("region = 'us' AND id = 7", "s2"),
            ("region = 'de'", "s0, s1"),
            ("region = 'de' AND id = 1", "s0"),
            ("region = 'de' AND id = 2", "s1"),
            ("region = 'de' AND id IN (1, 2)", "s0, s1"),
            ("region IN ('de', 'us') AND id = 1", "s0, s2"),
            ("id = 1", "s0, s2"),
            ("id = 2", "s1, s2"),
            ("region = 'jp'", "s0"),
            ("(region, id) = ('de', 2)", "s1"),
            ("(region, id) IN (('de', 1), ('us', 5))", "s0, s1, s2"),
            ("region = 'de' AND x = 1", "s0, s1"),
            ("x = 1", "all"),
        ],
    );
}

#[test]
fn what_is_equal_to_a_key_is_known_with_it() {
    let join = |rest: &str| format!("SELECT * FROM bands a JOIN bands b ON a.at = b.at {rest}");
    let cases = [
        ("one side", join("WHERE a.at = 150"), "one shard: s1"),
        ("the other side", join("WHERE b.at = 150"), "one shard: s1"),
        ("within one range", join("WHERE a.at BETWEEN 100 AND 199"), "one shard: s1"),
        ("in ON", join("AND b.at >= 400"), "one shard: s3"),
        (
            "by WHERE",
            "SELECT * FROM bands a, bands b WHERE a.at = b.at AND a.at >= 400".into(),
            "one shard: s3",
        ),
        (
            "three of them",
            "SELECT * FROM bands a JOIN bands b ON a.at = b.at JOIN bands c ON c.at = b.at WHERE c.at = 5"
                .into(),
            "one shard: s0",
        ),
        ("an array", join("WHERE a.at = ANY ('{101,150}')"), "one shard: s1"),
        ("OR within one range", join("WHERE a.at = 101 OR a.at = 150"), "one shard: s1"),
        (
            "USING",
            "SELECT * FROM bands a JOIN bands b USING (at) WHERE a.at BETWEEN 100 AND 150".into(),
            "one shard: s1",
        ),
        (
            "an outer join's condition says nothing about the left side",
            "SELECT * FROM bands a LEFT JOIN bands b ON a.at = b.at AND a.at = 150 WHERE a.x = 1".into(),
            "refused",
        ),
        (
            "a left join's right side follows",
            "SELECT * FROM bands a LEFT JOIN bands b ON a.at = b.at WHERE a.at = 150".into(),
            "one shard: s1",
        ),
        (
            "no equality, no class",
            "SELECT * FROM bands a JOIN bands b ON a.at <= b.at WHERE a.at = 150".into(),
            "refused",
        ),
        (
            "an equality under OR is none",
            "SELECT * FROM bands a JOIN bands b ON a.at = b.at OR a.x = 1 WHERE a.at = 150".into(),
            "refused",
        ),
        (
            "another distribution",
            "SELECT * FROM bands a JOIN orders o ON a.at = o.customer_id WHERE a.at = 2".into(),
            "refused",
        ),
        (
            "a text's order is not carried to another collation",
            "SELECT * FROM names a JOIN nouns b ON a.name = b.name WHERE a.name < 'b'".into(),
            "refused",
        ),
        (
            "its values are",
            "SELECT * FROM names a JOIN nouns b ON a.name = b.name WHERE a.name = 'b'".into(),
            "one shard: s0",
        ),
        (
            "a correlated subquery",
            "SELECT * FROM bands a WHERE a.at = 150 AND EXISTS (SELECT FROM bands b WHERE b.at = a.at)"
                .into(),
            "one shard: s1",
        ),
        (
            "another query's key is not this one's",
            "SELECT * FROM bands a WHERE EXISTS (SELECT FROM bands b WHERE b.at = 150)".into(),
            "refused",
        ),
        ("in the select list it filters nothing", "SELECT at = 5 FROM bands".into(), ALL),
        ("in HAVING neither", "SELECT at FROM bands GROUP BY at HAVING at = 5".into(), "refused"),
    ];
    let rows: Vec<(&str, &str, &str)> =
        cases.iter().map(|(why, sql, expected)| (*why, sql.as_str(), *expected)).collect();
    // The ways in which several shards may be combined grow; what must not happen is one shard.
    let (refused, planned): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(_, _, expected)| *expected == "refused");
    check(&spread(), &planned);
    for (why, sql, _) in refused {
        assert!(!plan(&spread(), sql).starts_with("one shard"), "{why}: {sql}");
    }
}

#[test]
fn writes_go_where_their_rows_are() {
    check(
        &spread(),
        &[
            ("a row of a range", "INSERT INTO bands (at) VALUES (150)", "one shard: s1"),
            (
                "rows of two ranges",
                "INSERT INTO bands (at) VALUES (150), (400)",
                "split: union\n  s1: INSERT INTO bands (at) VALUES (150)\n  s3: INSERT INTO bands (at) VALUES (400)",
            ),
            (
                "no range takes it",
                "INSERT INTO bands (at) VALUES (350)",
                "refused 23514: no shard of distribution \"bands\" takes the row...",
            ),
            (
                "nor one of several rows",
                "INSERT INTO bands (at) VALUES (1), (350)",
                "refused 23514: no shard of distribution \"bands\" takes the row...",
            ),
            ("a range has no NULL", "INSERT INTO bands (at) VALUES (NULL)", "refused 0A000..."),
            ("a listed value", "INSERT INTO tenants (region) VALUES ('fr')", "one shard: s0"),
            ("a listed NULL", "INSERT INTO tenants (region) VALUES (NULL)", "one shard: s2"),
            ("the rest", "INSERT INTO tenants (region) VALUES ('xx')", "one shard: s3"),
            ("list, then hash", "INSERT INTO sites (region, id) VALUES ('de', 2)", "one shard: s1"),
            ("one shard's list", "INSERT INTO sites (region, id) VALUES ('us', 2)", "one shard: s2"),
            (
                "not listed, without a rest",
                "INSERT INTO sites (region, id) VALUES ('jp', 2)",
                "refused 23514: no shard of distribution \"sites\" takes the row...",
            ),
            (
                "NULL in the second place",
                "INSERT INTO sites (region, id) VALUES ('de', NULL)",
                "refused 0A000...",
            ),
            ("an update", "UPDATE bands SET x = 1 WHERE at BETWEEN 100 AND 120", "one shard: s1"),
            ("of two ranges", "UPDATE bands SET x = 1 WHERE at < 200", "each of s0, s1: union"),
            ("a delete", "DELETE FROM bands WHERE at >= 400", "one shard: s3"),
            ("by hand", "/* pgherd: key=150 distribution=bands */ SELECT 1", "one shard: s1"),
            (
                "series are taken apart by hash only",
                "INSERT INTO bands (at) SELECT generate_series(1, 500)",
                "refused",
            ),
        ],
    );
}

#[test]
fn a_directory_places_the_keys_that_it_has_and_nothing_else() {
    let mut topology = spread();
    let directory = Arc::new(Directory::default());
    directory.enter(&value(KeyType::Text, "acme"), ShardId(2));
    directory.enter(&value(KeyType::Text, "apex"), ShardId(2));
    directory.enter(&value(KeyType::Text, "zeta"), ShardId(0));
    topology.distributions.push(Distribution {
        name: "firm".into(),
        types: vec![KeyType::Text],
        rule: Arc::new(Rule::Directory(Arc::clone(&directory))),
        shown: Default::default(),
    });
    let distribution = topology.distributions.len() - 1;
    let placement = Placement::Sharded { distribution, key: vec!["firm".into()] };
    topology.tables.push(Table { schema: None, name: "bills".into(), placement });
    topology.facts.tables.insert(
        topology.tables.len() - 1,
        TableFacts {
            schema: "public".into(),
            columns: vec![column("firm", 25, true)],
            ..TableFacts::default()
        },
    );
    check(
        &topology,
        &[
            ("a key that is there", "SELECT * FROM bills WHERE firm = 'acme'", "one shard: s2"),
            ("two on one shard", "SELECT * FROM bills WHERE firm IN ('acme', 'apex')", "one shard: s2"),
            ("two", "SELECT * FROM bills WHERE firm = 'acme' OR firm = 'zeta'", "each of s0, s2: union"),
            // Another pgherd may have entered it.
            ("a key that is not known", "SELECT * FROM bills WHERE firm = 'nova'", ALL),
            ("one of two", "SELECT * FROM bills WHERE firm IN ('acme', 'nova')", ALL),
            ("an order that it does not have", "SELECT * FROM bills WHERE firm < 'b'", ALL),
            ("a row", "INSERT INTO bills VALUES ('zeta')", "one shard: s0"),
            ("a row nobody has a place for", "INSERT INTO bills VALUES ('nova')", "refused 23514..."),
            ("NULL", "INSERT INTO bills VALUES (NULL)", "refused 0A000..."),
        ],
    );
    let lacks = |sql: &str| {
        let statements = house::parse(&topology, sql);
        let [statement] = &statements[..] else { panic!("{sql}") };
        let found = statement.template.not_known(&topology, sql, &statement.literals, Params::default());
        found.map(|(of, keys)| {
            (of == distribution, keys.iter().map(|key| key_text(key).unwrap()).collect::<Vec<_>>())
        })
    };
    assert_eq!(
        lacks("INSERT INTO bills VALUES ('nova'), ('acme'), ('orion')"),
        Some((true, vec!["nova".into(), "orion".into()]))
    );
    assert_eq!(lacks("INSERT INTO bands (at) VALUES (350)"), None, "a range has no new keys");
    assert_eq!(lacks("SELECT * FROM bills WHERE firm = 'nova'"), None);
    directory.enter(&value(KeyType::Text, "nova"), ShardId(1));
    assert_eq!(
        plan(&topology, "INSERT INTO bills VALUES ('nova')"),
        "one shard: s1",
        "from then on it is known"
    );
}

#[test]
fn parameters_say_as_much_as_literals() {
    let topology = spread();
    let array = |values: &[i64]| {
        let mut bytes = Vec::new();
        for word in [1u32, 0, 20, values.len() as u32, 1] {
            bytes.extend(word.to_be_bytes());
        }
        for value in values {
            bytes.extend(8u32.to_be_bytes());
            bytes.extend(value.to_be_bytes());
        }
        bytes
    };
    let two = array(&[5, 150]);
    let none = array(&[]);
    let number = 150i64.to_be_bytes();
    type Case<'a> = (&'a str, &'a str, &'a [Option<&'a [u8]>], &'a [u16], &'a [u32], &'a str);
    let cases: &[Case<'_>] = &[
        ("text", "at = $1", &[Some(b"150")], &[], &[], "one shard: s1"),
        ("binary", "at = $1", &[Some(&number)], &[1], &[20], "one shard: s1"),
        ("an array as text", "at = ANY ($1)", &[Some(b"{5,150}")], &[], &[], "each of s0, s1: union"),
        ("declared", "at = ANY ($1)", &[Some(b"{5,150}")], &[], &[1016], "each of s0, s1: union"),
        ("an array of integers", "at = ANY ($1)", &[Some(b"{5,150}")], &[], &[1007], "each of s0, s1: union"),
        ("of another type", "at = ANY ($1)", &[Some(b"{5,150}")], &[], &[1231], ALL),
        ("no array", "at = ANY ($1)", &[Some(b"5")], &[], &[20], ALL),
        ("in binary", "at = ANY ($1)", &[Some(&two)], &[1], &[1016], "each of s0, s1: union"),
        ("in binary, undeclared", "at = ANY ($1)", &[Some(&two)], &[1], &[], "each of s0, s1: union"),
        ("with a cast", "at = ANY ($1::bigint[])", &[Some(b"{150}")], &[], &[], "one shard: s1"),
        ("with a cast to another type", "at = ANY ($1::numeric[])", &[Some(b"{150}")], &[], &[], ALL),
        ("an empty one", "at = ANY ($1)", &[Some(b"{}")], &[], &[], "one shard: s0"),
        ("an empty one in binary", "at = ANY ($1)", &[Some(&none)], &[1], &[1016], "one shard: s0"),
        ("a NULL instead of one", "at = ANY ($1)", &[None], &[], &[], "one shard: s0"),
        ("one that cannot be read", "at = ANY ($1)", &[Some(b"{x}")], &[], &[], ALL),
        ("cut", "at = ANY ($1)", &[Some(&two[..30])], &[1], &[1016], ALL),
        (
            "elements",
            "at = ANY (ARRAY[$1, $2]::bigint[])",
            &[Some(b"5"), Some(b"150")],
            &[],
            &[],
            "each of s0, s1: union",
        ),
        ("between", "at BETWEEN $1 AND $2", &[Some(b"100"), Some(b"199")], &[], &[], "one shard: s1"),
        ("between and NULL", "at BETWEEN $1 AND $2", &[Some(b"100"), None], &[], &[], "one shard: s0"),
        ("two ends", "at >= $1 AND at < $2", &[Some(b"100"), Some(b"200")], &[], &[], "one shard: s1"),
        ("used twice as the same", "at >= $1 AND at <= $1", &[Some(b"150")], &[], &[], "one shard: s1"),
        ("used elsewhere, too", "at >= $1 AND x <> $1", &[Some(b"400")], &[], &[], ALL),
        ("used elsewhere, declared", "at >= $1 AND x <> $1", &[Some(b"400")], &[], &[20], "one shard: s3"),
        ("under OR with something else", "at = $1 OR x = $2", &[Some(b"5"), Some(b"5")], &[], &[], ALL),
        ("OR", "at = $1 OR at = $2", &[Some(b"5"), Some(b"150")], &[], &[], "each of s0, s1: union"),
        ("a value that is no value", "at = $1", &[Some(b"x")], &[], &[], ALL),
        ("not distinct", "at IS NOT DISTINCT FROM $1", &[Some(b"150")], &[], &[], "one shard: s1"),
    ];
    for (why, condition, values, formats, types, expected) in cases {
        let sql = format!("SELECT * FROM bands WHERE {condition}");
        assert_eq!(plan_with(&topology, &sql, Params { values, formats, types }), *expected, "{why}: {sql}");
    }
}

/// A condition of keys and of something else, and its value: SQL's three.
#[derive(Debug, Clone)]
enum Condition {
    Compare(&'static str, i64),
    In(Vec<i64>),
    Between(i64, i64),
    Other,
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
}

impl Condition {
    fn random(random: &mut impl FnMut(u64) -> u64, depth: u32) -> Self {
        let key = |random: &mut dyn FnMut(u64) -> u64| (random(9) as i64) * 50 - 25 + random(3) as i64 * 25;
        match random(if depth == 0 { 4 } else { 9 }) {
            0 => Self::Compare(["=", "<", "<=", ">", ">=", "<>"][random(6) as usize], key(random)),
            1 => Self::In((0..1 + random(3)).map(|_| key(random)).collect()),
            2 => Self::Between(key(random), key(random)),
            3 => Self::Other,
            4 | 5 => Self::And(
                Box::new(Self::random(random, depth - 1)),
                Box::new(Self::random(random, depth - 1)),
            ),
            6 | 7 => {
                Self::Or(Box::new(Self::random(random, depth - 1)), Box::new(Self::random(random, depth - 1)))
            }
            _ => Self::Not(Box::new(Self::random(random, depth - 1))),
        }
    }

    fn sql(&self, key: &str) -> String {
        match self {
            Self::Compare(op, value) => format!("{key} {op} {value}"),
            Self::In(values) => {
                let values: Vec<String> = values.iter().map(i64::to_string).collect();
                format!("{key} IN ({})", values.join(", "))
            }
            Self::Between(low, high) => format!("{key} BETWEEN {low} AND {high}"),
            Self::Other => "paid".to_owned(),
            Self::And(left, right) => format!("({} AND {})", left.sql(key), right.sql(key)),
            Self::Or(left, right) => format!("({} OR {})", left.sql(key), right.sql(key)),
            Self::Not(inner) => format!("(NOT {})", inner.sql(key)),
        }
    }

    fn holds(&self, key: i64, paid: Option<bool>) -> Option<bool> {
        match self {
            Self::Compare(op, value) => Some(match *op {
                "=" => key == *value,
                "<" => key < *value,
                "<=" => key <= *value,
                ">" => key > *value,
                ">=" => key >= *value,
                _ => key != *value,
            }),
            Self::In(values) => Some(values.contains(&key)),
            Self::Between(low, high) => Some(*low <= key && key <= *high),
            Self::Other => paid,
            Self::And(left, right) => match (left.holds(key, paid), right.holds(key, paid)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(left, right) => match (left.holds(key, paid), right.holds(key, paid)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(inner) => inner.holds(key, paid).map(|holds| !holds),
        }
    }
}

/// Thousands of conditions from a seed: every shard with a row for which the condition can be true is asked.
#[test]
fn no_condition_loses_a_row() {
    let topology = spread();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let shards_of = |plan: &str| -> Vec<u16> {
        let text = plan
            .strip_prefix("one shard: ")
            .or(plan.strip_prefix("each of "))
            .unwrap_or_else(|| panic!("{plan}"));
        let names = text.split(':').next().unwrap_or(text);
        names.split(", ").map(|name| name[1..].parse().unwrap()).collect()
    };
    let mut pruned = 0;
    for round in 0..4000 {
        let condition = Condition::random(&mut random, 3);
        for (table, key) in [("bands", "at"), ("orders", "customer_id")] {
            let sql = format!("SELECT * FROM {table} WHERE {}", condition.sql(key));
            let asked = shards_of(&plan(&topology, &sql));
            pruned += usize::from(asked.len() < 4);
            let index = topology.tables.iter().position(|known| known.name == table).unwrap();
            let Placement::Sharded { distribution, .. } = topology.tables[index].placement else { panic!() };
            let rule = &topology.distributions[distribution].rule;
            for number in (-60..480).step_by(5) {
                let Some(shard) = rule.owner(&[KeyValue::Integer(number)]) else { continue };
                let matters = [None, Some(false), Some(true)]
                    .iter()
                    .any(|paid| condition.holds(number, *paid) == Some(true));
                assert!(
                    !matters || asked.contains(&shard.0),
                    "{round}: {sql} asks {asked:?}, and {number} is on s{}",
                    shard.0
                );
            }
        }
    }
    assert!(pruned > 1000, "only {pruned} of 8000 were pruned at all");
}
