//! Views over sharded tables: their queries stand in the place of their names.

mod house;

use house::{check, herd};

#[test]
fn a_view_is_planned_as_its_query() {
    let query =
        "(SELECT customers.id, customers.name FROM public.customers WHERE (customers.email IS NOT NULL))";
    let with = |text: &str| format!("with its views\n  {}", text.replace("@", query));
    let cases: Vec<(&str, &str, String)> = vec![
        ("alone", "SELECT * FROM lively", with("SELECT * FROM @ AS \"lively\"")),
        ("its schema", "SELECT lively.id FROM public.lively", with("SELECT lively.id FROM @ AS \"lively\"")),
        ("an alias", "SELECT l.id FROM lively l WHERE l.id = 2", with("SELECT l.id FROM @ l WHERE l.id = 2")),
        ("AS", "SELECT l.id FROM lively AS l", with("SELECT l.id FROM @ AS l")),
        (
            "a join",
            "SELECT l.id FROM orders o JOIN lively l ON l.id = o.customer_id",
            with("SELECT l.id FROM orders o JOIN @ l ON l.id = o.customer_id"),
        ),
        (
            "a list",
            "SELECT 1 FROM orders o, lively, countries WHERE lively.id = o.customer_id",
            with("SELECT 1 FROM orders o, @ AS \"lively\", countries WHERE lively.id = o.customer_id"),
        ),
        (
            "inside",
            "SELECT id FROM orders WHERE customer_id IN (SELECT id FROM lively)",
            with("SELECT id FROM orders WHERE customer_id IN (SELECT id FROM @ AS \"lively\")"),
        ),
        (
            "of a view",
            "SELECT id FROM livelier",
            with("SELECT id FROM (SELECT l.id FROM @ l) AS \"livelier\""),
        ),
        // What a view becomes has its name as an alias. It was taken for the view again, without end.
        (
            "its query in its place",
            "SELECT id FROM (SELECT id FROM customers) AS \"lively\"",
            "each of s0, s1, s2, s3: union".to_owned(),
        ),
        ("another schema's", "SELECT id FROM depot.lively", "refused".to_owned()),
        ("a whole row", "SELECT lively FROM lively", "refused".to_owned()),
        ("a whole row by its alias", "SELECT count(l) FROM lively l", "refused".to_owned()),
        (
            "a WITH query of its name",
            "WITH lively AS (SELECT 1 AS id) SELECT id FROM lively",
            "one shard: s0".to_owned(),
        ),
        ("no item of FROM", "SELECT extract(year FROM lively) FROM orders", "refused".to_owned()),
        ("ONLY", "SELECT id FROM ONLY lively", "refused".to_owned()),
        ("locks", "SELECT id FROM lively FOR UPDATE", "refused".to_owned()),
        ("a write", "UPDATE lively SET name = 1", "refused".to_owned()),
        ("INSERT from it", "INSERT INTO orders (customer_id) SELECT id FROM lively", "refused".to_owned()),
        ("one that nobody knows", "SELECT * FROM order_totals", "refused".to_owned()),
        ("EXPLAIN", "EXPLAIN SELECT * FROM lively", "refused".to_owned()),
        (
            "made",
            "CREATE VIEW v AS SELECT id FROM customers",
            "each of s0, s1, s2, s3: same, first alone".to_owned(),
        ),
        ("made of one shard's", "CREATE VIEW v AS SELECT * FROM notes", "one shard: s0".to_owned()),
        ("a table's name", "CREATE VIEW orders AS SELECT id FROM customers", "refused".to_owned()),
        ("for a session", "CREATE TEMP VIEW v AS SELECT id FROM customers", "refused".to_owned()),
        ("stored", "CREATE MATERIALIZED VIEW v AS SELECT id FROM customers", "refused".to_owned()),
        ("with users' code", "CREATE VIEW v AS SELECT refund(id) FROM customers", "refused".to_owned()),
    ];
    let cases: Vec<(&str, &str, &str)> =
        cases.iter().map(|(why, sql, plan)| (*why, *sql, plan.as_str())).collect();
    check(&herd(), &cases);
}
