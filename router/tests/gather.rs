//! What is pulled where one server finishes the work. Keys of the example: 1, 4, 7, 12 are on s0; 8, 9, 10 on s1; 2 on s2.

mod house;

use house::{check, herd, plan_with};
use pgherd_router::plan::Params;

const ALL: &str = "from s0, s1, s2, s3";

/// The lines of a plan: where, one for each pull (`columns FROM table ...`), the text that runs.
fn gather(place: &str, pulls: &[(&str, &str)], then: &str) -> String {
    let mut text = format!("gather on {place}");
    for (number, (shards, select)) in pulls.iter().enumerate() {
        text.push_str(&format!("\n  pgherd_g{} {shards}: SELECT {select}", number + 1));
    }
    format!("{text}\n  then {then}")
}

#[test]
fn each_table_is_pulled_with_the_columns_that_are_named_and_the_rows_that_can_matter() {
    let customers = r#""id", "name" FROM "public"."customers""#;
    // The other table's "id" is a name in the statement as well: a column more than it needs.
    let orders = r#""id", "customer_id", "total" FROM "public"."orders""#;
    let plans = [
        (
            "a join on another column",
            "SELECT c.name FROM customers c JOIN orders o ON o.total = c.id WHERE o.customer_id <> 5",
            gather(
                "any shard",
                &[(ALL, customers), (ALL, &format!(r#"{orders} WHERE "customer_id" <> 5"#))],
                "SELECT c.name FROM pg_temp.pgherd_g1 c JOIN pg_temp.pgherd_g2 o ON o.total = c.id WHERE o.customer_id <> 5",
            ),
        ),
        (
            "keys leave some shards",
            "SELECT name, total FROM customers, orders WHERE name > 'x' AND customers.id = 2 AND customer_id IN (1, 8)",
            gather(
                "any shard",
                &[
                    ("from s2", &format!(r#"{customers} WHERE "name" > 'x' AND "id" = 2"#)),
                    ("from s0, s1", &format!(r#"{orders} WHERE "customer_id" IN (1, 8)"#)),
                ],
                "SELECT name, total FROM pg_temp.pgherd_g1 AS \"customers\", pg_temp.pgherd_g2 AS \"orders\" WHERE name > 'x' AND customers.id = 2 AND customer_id IN (1, 8)",
            ),
        ),
    ];
    let rows: Vec<(&str, &str, &str)> =
        plans.iter().map(|(why, sql, expected)| (*why, *sql, expected.as_str())).collect();
    check(&herd(), &rows);
}

#[test]
fn a_table_that_is_read_twice_alike_is_pulled_once() {
    let pull = r#""id", "customer_id", "total", "paid" FROM "public"."orders""#;
    let plan = gather(
        "any shard",
        &[(ALL, pull)],
        "SELECT * FROM pg_temp.pgherd_g1 a JOIN pg_temp.pgherd_g1 b ON a.id = b.total",
    );
    check(&herd(), &[("a self join", "SELECT * FROM orders a JOIN orders b ON a.id = b.total", &plan)]);
}

#[test]
fn conditions_go_along_only_where_no_row_that_matters_fails_them() {
    let count = |condition: &str| {
        format!(
            "gather on any shard\n  pgherd_g1 {ALL}: SELECT \"id\", \"customer_id\", \"total\", \"paid\" FROM \"public\".\"orders\"{condition}\n  then..."
        )
    };
    let window =
        |condition: &str| format!("SELECT *, rank() OVER (ORDER BY total) FROM orders WHERE {condition}");
    let cases = [
        ("a comparison", "total > 5", r#" WHERE "total" > 5"#),
        ("either side", "5 <= total", r#" WHERE "total" >= 5"#),
        ("a sign", "total = -5", r#" WHERE "total" = (- 5)"#),
        ("a cast", "total = '5'::numeric", r#" WHERE "total" = CAST('5' AS pg_catalog.numeric)"#),
        ("several", "total > 5 AND id IN (1, 2)", r#" WHERE "total" > 5 AND "id" IN (1, 2)"#),
        ("BETWEEN", "id BETWEEN 1 AND 2", r#" WHERE "id" BETWEEN 1 AND 2"#),
        ("IS NOT NULL", "total IS NOT NULL", r#" WHERE "total" IS NOT NULL"#),
        ("IS NULL may be a row without a partner", "total IS NULL", ""),
        ("OR", "total > 5 OR id = 1", ""),
        ("NOT", "NOT total > 5", ""),
        ("two columns", "total > id", ""),
        ("a call", "total > abs(5)", ""),
        ("not IN", "id NOT IN (1, 2)", ""),
    ];
    let plans: Vec<_> =
        cases.iter().map(|(why, sql, condition)| (*why, window(sql), count(condition))).collect();
    let rows: Vec<_> = plans.iter().map(|(why, sql, plan)| (*why, sql.as_str(), plan.as_str())).collect();
    check(&herd(), &rows);
}

#[test]
fn parameters_of_a_condition_are_numbered_anew() {
    let sql = "SELECT rank() OVER (ORDER BY id) FROM orders WHERE total > $3 AND id < $1";
    let plan = plan_with(&herd(), sql, Params::default());
    assert!(plan.contains(r#"WHERE "total" > $1 AND "id" < $2  [$3, $1]"#), "{plan}");
}

#[test]
fn what_tells_a_table_from_its_copy_is_refused() {
    check(
        &herd(),
        &[
            ("a whole row", "SELECT o FROM orders o, customers c", "refused"),
            ("of a table without alias", "SELECT orders FROM orders, customers", "refused"),
            ("as an argument", "SELECT row_to_json(o) FROM orders o, customers c", "refused"),
            ("all its columns as one", "SELECT count(o.*) FROM orders o, customers c", "refused"),
            ("a field of it", "SELECT (o).id FROM orders o, customers c", "refused"),
            ("a call in the other notation", "SELECT total(o) FROM orders o, customers c", "refused"),
            ("a place", "SELECT o.ctid FROM orders o, customers c", "refused"),
            ("a table's number", "SELECT o.tableoid FROM orders o, customers c", "refused"),
            ("a name with its schema", "SELECT public.orders.id FROM orders, customers", "refused"),
            ("ONLY", "SELECT o.id FROM ONLY orders o, customers c", "refused"),
            ("row locks", "SELECT o.id FROM orders o, customers c FOR UPDATE", "refused"),
            (
                "a write inside",
                "WITH d AS (DELETE FROM orders RETURNING id) SELECT * FROM d, customers",
                "refused",
            ),
            ("a table without facts", "SELECT * FROM future a JOIN orders b ON a.x = b.id", "refused"),
            ("sequences", "SELECT nextval('s'), rank() OVER (ORDER BY id) FROM orders", "refused"),
            ("single tables on two shards", "SELECT * FROM settings, notes, orders", "refused"),
            (
                "an output column of the alias's name is no row",
                "SELECT count(*) AS o FROM orders o, customers c",
                "gather...",
            ),
            (
                "a column of the table's name is no row",
                "SELECT label FROM labels label, customers c",
                "gather...",
            ),
        ],
    );
}

#[test]
fn it_runs_where_its_other_tables_are() {
    check(
        &herd(),
        &[
            ("a single table", "SELECT * FROM settings s JOIN orders o ON o.id = s.x", "gather on s2..."),
            ("an unlisted one", "SELECT * FROM notes n JOIN orders o ON o.id = n.x", "gather on s0..."),
            (
                "a catalog",
                "SELECT relname, o.id FROM pg_class JOIN orders o ON o.id = relpages",
                "gather on s0...",
            ),
            (
                "a reference table is everywhere",
                "SELECT rank() OVER (ORDER BY o.id) FROM orders o, countries",
                "gather on any shard...",
            ),
            (
                "what each server says of itself",
                "SELECT now(), rank() OVER (ORDER BY id) FROM orders",
                "gather on s0...",
            ),
        ],
    );
}
