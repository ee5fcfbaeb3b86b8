//! Where reads go. Keys of the example: 1, 4, 7, 12 are on s0; 8, 9, 10 on s1; 2 on s2; 3, 5, 6, 11 on s3.

mod house;

use house::{check, herd, plan_with};
use pgherd_router::plan::Params;

const EACH: &str = "each of s0, s1, s2, s3: union";

#[test]
fn a_key_in_where_sends_a_select_to_its_shard() {
    check(
        &herd(),
        &[
            ("a literal", "SELECT * FROM orders WHERE customer_id = 2", "one shard: s2"),
            ("either side", "SELECT * FROM orders WHERE 2 = customer_id", "one shard: s2"),
            ("parentheses", "SELECT * FROM orders WHERE ((customer_id) = (2))", "one shard: s2"),
            (
                "a string literal takes the column's type",
                "SELECT * FROM orders WHERE customer_id = '2'",
                "one shard: s2",
            ),
            ("an escape string", "SELECT * FROM orders WHERE customer_id = E'2'", "one shard: s2"),
            ("a dollar string", "SELECT * FROM orders WHERE customer_id = $$2$$", "one shard: s2"),
            ("a continued string", "SELECT * FROM orders WHERE customer_id = '1'\n'2'", "one shard: s0"),
            ("a sign", "SELECT * FROM orders WHERE customer_id = +2", "one shard: s2"),
            ("a negative number", "SELECT * FROM orders WHERE customer_id = -2", "one shard: s2"),
            ("a cast of the family", "SELECT * FROM orders WHERE customer_id = '2'::bigint", "one shard: s2"),
            ("CAST", "SELECT * FROM orders WHERE customer_id = CAST(2 AS int)", "one shard: s2"),
            ("a typed string", "SELECT * FROM orders WHERE customer_id = bigint '2'", "one shard: s2"),
            (
                "with AND",
                "SELECT * FROM orders WHERE paid AND customer_id = 2 AND total > 5",
                "one shard: s2",
            ),
            ("nested AND", "SELECT * FROM orders WHERE (paid AND (customer_id = 2))", "one shard: s2"),
            ("qualified", "SELECT * FROM orders WHERE orders.customer_id = 2", "one shard: s2"),
            (
                "schema and all",
                "SELECT * FROM public.orders WHERE public.orders.customer_id = 2",
                "one shard: s2",
            ),
            ("an alias", "SELECT o.* FROM orders o WHERE o.customer_id = 2", "one shard: s2"),
            ("AS", "SELECT o.* FROM orders AS o WHERE customer_id = 2", "one shard: s2"),
            ("quoted names", r#"SELECT * FROM "orders" WHERE "customer_id" = 2"#, "one shard: s2"),
            ("upper case folds", "SELECT * FROM ORDERS WHERE CUSTOMER_ID = 2", "one shard: s2"),
            (
                "quoted upper case is another table",
                r#"SELECT * FROM "Orders" WHERE customer_id = 2"#,
                "one shard: s0",
            ),
            (
                "another schema's table is not listed",
                "SELECT * FROM archive.orders WHERE customer_id = 2",
                "one shard: s0",
            ),
            (
                "the database's name before it",
                "SELECT * FROM shop.public.orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            ("IN of one", "SELECT * FROM orders WHERE customer_id IN (2)", "one shard: s2"),
            ("IN on one shard", "SELECT * FROM orders WHERE customer_id IN (8, 9, 10)", "one shard: s1"),
            (
                "a contradiction has no rows anywhere",
                "SELECT * FROM orders WHERE customer_id = 2 AND customer_id = 3",
                "one shard: s2",
            ),
            (
                "a row comparison",
                "SELECT * FROM orders WHERE (customer_id, paid) = (2, true)",
                "one shard: s2",
            ),
            (
                "comments do not matter",
                "SELECT * /* x */ FROM orders -- y\n WHERE customer_id = 2",
                "one shard: s2",
            ),
            ("ONLY", "SELECT * FROM ONLY orders WHERE customer_id = 2", "one shard: s2"),
            ("TABLE", "TABLE countries", "any shard"),
            (
                "anything goes on one shard",
                "SELECT DISTINCT paid, avg(total), now() FROM orders WHERE customer_id = 2 GROUP BY paid HAVING count(*) > 1 ORDER BY 2 LIMIT 3",
                "one shard: s2",
            ),
            (
                "windows too",
                "SELECT rank() OVER (PARTITION BY paid ORDER BY total) FROM orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            ("locks too", "SELECT * FROM orders WHERE customer_id = 2 FOR UPDATE", "one shard: s2"),
            (
                "a set operation of one shard's rows",
                "SELECT id FROM orders WHERE customer_id = 2 UNION ALL SELECT id FROM customers WHERE id = 2",
                "one shard: s2",
            ),
            (
                "a point does not prune, and is no mistake",
                "SELECT * FROM orders WHERE customer_id = 2.0",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "out of range: no row",
                "SELECT * FROM orders WHERE customer_id = 99999999999999999999",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "not a number: the server says so",
                "SELECT * FROM orders WHERE customer_id = 'x'",
                "each of s0, s1, s2, s3: union",
            ),
            ("NULL", "SELECT * FROM orders WHERE customer_id = NULL", "each of s0, s1, s2, s3: union"),
            ("IS NULL", "SELECT * FROM orders WHERE customer_id IS NULL", "each of s0, s1, s2, s3: union"),
            (
                "a cast out of the family",
                "SELECT * FROM orders WHERE customer_id = 2::numeric",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "a cast of the column",
                "SELECT * FROM orders WHERE customer_id::text = '2'",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "an expression",
                "SELECT * FROM orders WHERE customer_id = 1 + 1",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "OR frees the key",
                "SELECT * FROM orders WHERE customer_id = 2 OR paid",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "AND binds tighter than OR",
                "SELECT * FROM orders WHERE paid OR paid AND customer_id = 2",
                "each of s0, s1, s2, s3: union",
            ),
            ("NOT", "SELECT * FROM orders WHERE NOT customer_id = 2", "each of s0, s1, s2, s3: union"),
            ("NOT IN", "SELECT * FROM orders WHERE customer_id NOT IN (2)", "each of s0, s1, s2, s3: union"),
            (
                "IS TRUE is not AND",
                "SELECT * FROM orders WHERE (customer_id = 2) IS NOT TRUE",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "IS binds looser than =",
                "SELECT * FROM orders WHERE customer_id = 2 IS NULL",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "CASE",
                "SELECT * FROM orders WHERE CASE WHEN customer_id = 2 THEN true END",
                "each of s0, s1, s2, s3: union",
            ),
            ("in the select list", "SELECT customer_id = 2 FROM orders", "each of s0, s1, s2, s3: union"),
            ("another column", "SELECT * FROM orders WHERE id = 2", "each of s0, s1, s2, s3: union"),
            ("a range", "SELECT * FROM orders WHERE customer_id > 2", "each of s0, s1, s2, s3: union"),
            (
                "BETWEEN",
                "SELECT * FROM orders WHERE customer_id BETWEEN 2 AND 2",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "AND of BETWEEN",
                "SELECT * FROM orders WHERE id BETWEEN 1 AND customer_id = 2",
                "each of s0, s1, s2, s3: union",
            ),
            ("= ANY of an array", "SELECT * FROM orders WHERE customer_id = ANY (ARRAY[2])", "one shard: s2"),
            (
                "renamed columns",
                "SELECT * FROM orders o (customer_id, b) WHERE customer_id = 2",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "a name with Unicode escapes may be anything",
                "SELECT * FROM U&\"\\006frders\"",
                "refused 0A000: cannot run this statement over several shards...",
            ),
            ("an unknown operator", "SELECT * FROM orders WHERE customer_id === 2", "gather..."),
            (
                "IN on several shards",
                "SELECT * FROM orders WHERE customer_id IN (1, 2, 3)",
                "each of s0, s2, s3: union",
            ),
            ("IN with NULL", "SELECT * FROM orders WHERE customer_id IN (2, NULL)", "one shard: s2"),
            (
                "IN with an expression",
                "SELECT * FROM orders WHERE customer_id IN (2, id)",
                "each of s0, s1, s2, s3: union",
            ),
            ("all rows", "SELECT * FROM orders", "each of s0, s1, s2, s3: union"),
        ],
    );
}

#[test]
fn keys_of_other_types() {
    check(
        &herd(),
        &[
            ("text and bigint", "SELECT * FROM items WHERE shop = 'c' AND number = 1", "one shard: s3"),
            ("in any order", "SELECT * FROM items WHERE number = 1 AND 'c' = shop", "one shard: s3"),
            ("as a row", "SELECT * FROM items WHERE (shop, number) = ('c', 1)", "one shard: s3"),
            ("half a key is no key", "SELECT * FROM items WHERE shop = 'c'", "each of s0, s1, s2, s3: union"),
            (
                "IN of a part",
                "SELECT * FROM items WHERE shop IN ('a', 'c') AND number = 1",
                "each of s1, s3: union",
            ),
            (
                "a cast to text",
                "SELECT * FROM items WHERE shop = 'c'::varchar AND number = 1",
                "one shard: s3",
            ),
            (
                "a cast that cuts",
                "SELECT * FROM items WHERE shop = 'cx'::varchar(1) AND number = 1",
                "each of s0, s1, s2, s3: union",
            ),
            ("a number is no text", "SELECT * FROM labels WHERE label = 1", "each of s0, s1, s2, s3: union"),
            ("varchar", "SELECT * FROM labels WHERE label = 'c'", "one shard: s2"),
            (
                "a national string is char",
                "SELECT * FROM labels WHERE label = N'c'",
                "each of s0, s1, s2, s3: union",
            ),
            ("numeric", "SELECT * FROM prices WHERE price = 1.5", "one shard: s3"),
            ("numeric: scale does not matter", "SELECT * FROM prices WHERE price = 1.500", "one shard: s3"),
            ("numeric: an integer", "SELECT * FROM prices WHERE price = 2", "one shard: s2"),
            (
                "numeric: cut by a cast",
                "SELECT * FROM prices WHERE price = 1.5::int",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "a collation of equal but different strings",
                "SELECT * FROM odd WHERE name = 'a'",
                "each of s0, s1, s2, s3: union",
            ),
            ("a table without facts", "SELECT * FROM future WHERE id = 2", "one shard: s2"),
            (
                "COLLATE on the constant",
                "SELECT * FROM labels WHERE label = 'c' COLLATE \"C\"",
                "each of s0, s1, s2, s3: union",
            ),
        ],
    );
}

#[test]
fn parameters_are_keys_in_text_and_binary() {
    let herd = herd();
    let text: &[Option<&[u8]>] = &[Some(b"2")];
    let long: &[Option<&[u8]>] = &[Some(&[0, 0, 0, 0, 0, 0, 0, 2])];
    let short: &[Option<&[u8]>] = &[Some(&[0, 0, 0, 2])];
    let null: &[Option<&[u8]>] = &[None];
    let all = "each of s0, s1, s2, s3: union";
    let by_key = "SELECT * FROM orders WHERE customer_id = $1";
    let twice = "SELECT * FROM orders WHERE id = $1 AND customer_id = $1";
    let both = "SELECT * FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = $1 AND o.customer_id = $1";
    type Case<'a> = (&'a str, &'a str, &'a [Option<&'a [u8]>], &'a [u16], &'a [u32], &'a str);
    let cases: &[Case<'_>] = &[
        ("text", by_key, text, &[], &[], "one shard: s2"),
        ("text, declared", by_key, text, &[0], &[20], "one shard: s2"),
        ("text, of a narrower type", by_key, text, &[0], &[23], "one shard: s2"),
        ("binary, inferred", by_key, long, &[1], &[], "one shard: s2"),
        ("binary, inferred, said with a 0", by_key, long, &[1], &[0], "one shard: s2"),
        ("binary, of a narrower type", by_key, short, &[1], &[23], "one shard: s2"),
        ("binary of the wrong length", by_key, short, &[1], &[], all),
        ("unknown is not declared", by_key, text, &[], &[705], "one shard: s2"),
        ("another type", by_key, text, &[], &[1700], all),
        ("a string to the server", by_key, text, &[], &[25], all),
        ("NULL", by_key, null, &[], &[], all),
        ("no value", by_key, &[], &[], &[], all),
        ("not a number", by_key, &[Some(b"x")], &[], &[], all),
        (
            "a cast names the type",
            "SELECT * FROM orders WHERE customer_id = $1::int",
            short,
            &[1],
            &[],
            "one shard: s2",
        ),
        (
            "a cast out of the family",
            "SELECT * FROM orders WHERE customer_id = $1::text",
            text,
            &[],
            &[],
            all,
        ),
        ("an undeclared type may come from its first use", twice, text, &[], &[], all),
        ("declared, it does not", twice, text, &[], &[20], "one shard: s2"),
        ("all uses are keys of one type", both, long, &[1], &[], "one shard: s2"),
        (
            "without facts text is enough",
            "SELECT * FROM future WHERE id = $1",
            text,
            &[],
            &[],
            "one shard: s2",
        ),
        ("binary is not", "SELECT * FROM future WHERE id = $1", long, &[1], &[], all),
        ("unless declared", "SELECT * FROM future WHERE id = $1", long, &[1], &[20], "one shard: s2"),
    ];
    for (why, sql, values, formats, types, expected) in cases {
        let found = plan_with(&herd, sql, Params { values, formats, types });
        assert_eq!(found, *expected, "{why}: {sql}");
    }
}

#[test]
fn joins_carry_a_key_where_every_row_that_is_left_has_it() {
    let on = "o.customer_id = c.id";
    let gather = "gather...";
    let sql = |text: &str| text.replace("ON =", &format!("ON {on}"));
    let cases = [
        ("inner", "SELECT * FROM customers c JOIN orders o ON = WHERE c.id = 2", "one shard: s2"),
        (
            "inner, the other side",
            "SELECT * FROM customers c JOIN orders o ON = WHERE o.customer_id = 2",
            "one shard: s2",
        ),
        ("the key in ON", "SELECT * FROM customers c JOIN orders o ON = AND c.id = 2", "one shard: s2"),
        (
            "comma",
            "SELECT * FROM customers c, orders o WHERE o.customer_id = c.id AND c.id = 2",
            "one shard: s2",
        ),
        (
            "three",
            "SELECT * FROM customers c JOIN orders o ON = JOIN events e ON e.customer_id = o.customer_id WHERE e.customer_id = 2",
            "one shard: s2",
        ),
        (
            "a bare name that only one table has",
            "SELECT * FROM customers c JOIN orders o ON = WHERE customer_id = 2",
            "one shard: s2",
        ),
        (
            "a bare name that both have",
            "SELECT * FROM orders o JOIN events e ON o.customer_id = e.customer_id WHERE customer_id = 2",
            EACH,
        ),
        (
            "left: the preserved side's key",
            "SELECT * FROM customers c LEFT JOIN orders o ON = WHERE c.id = 2",
            "one shard: s2",
        ),
        (
            "left: the other side's key",
            "SELECT * FROM customers c LEFT JOIN orders o ON = WHERE o.customer_id = 2",
            EACH,
        ),
        (
            "left: a key in ON does not bind the preserved side",
            "SELECT * FROM customers c LEFT JOIN orders o ON = AND c.id = 2",
            EACH,
        ),
        (
            "left: a key in ON binds the other side only",
            "SELECT * FROM customers c LEFT JOIN orders o ON o.customer_id = 2 WHERE c.id = 2",
            "one shard: s2",
        ),
        ("right", "SELECT * FROM customers c RIGHT JOIN orders o ON = WHERE o.customer_id = 2", EACH),
        (
            "right: both in WHERE",
            "SELECT * FROM customers c RIGHT JOIN orders o ON = WHERE o.customer_id = 2 AND c.id = 2",
            "one shard: s2",
        ),
        ("full", "SELECT * FROM customers c FULL JOIN orders o ON = WHERE c.id = 2", EACH),
        ("another column", "SELECT * FROM customers c JOIN orders o ON o.id = c.id WHERE c.id = 2", gather),
        ("an OR", "SELECT * FROM customers c JOIN orders o ON = OR o.paid WHERE c.id = 2", gather),
        ("no key", "SELECT * FROM customers c JOIN orders o ON =", EACH),
        (
            "two keys of one shard",
            "SELECT * FROM customers c, orders o WHERE c.id = 8 AND o.customer_id = 9",
            "one shard: s1",
        ),
        (
            "two keys of two shards",
            "SELECT * FROM customers c, orders o WHERE c.id = 2 AND o.customer_id = 3",
            gather,
        ),
        (
            "two distributions, one place",
            "SELECT * FROM customers c, pgbench_accounts a WHERE c.id = 2 AND a.aid = 2",
            "one shard: s2",
        ),
        (
            "two distributions, two places",
            "SELECT * FROM customers c, pgbench_accounts a WHERE c.id = 2 AND a.aid = 3",
            gather,
        ),
        (
            "equal values of two distributions are in two places",
            "SELECT * FROM customers c JOIN labels l ON l.label = c.name WHERE c.id = 2",
            gather,
        ),
        (
            "joined in parentheses",
            "SELECT * FROM (customers c JOIN orders o ON =) WHERE c.id = 2",
            "one shard: s2",
        ),
        (
            "inner joins inside a left join",
            "SELECT * FROM customers c LEFT JOIN (orders o JOIN events e ON e.customer_id = o.customer_id) ON = WHERE c.id = 2",
            "one shard: s2",
        ),
        (
            "an alias of two tables",
            "SELECT * FROM customers c JOIN orders o ON o.customer_id = x.id WHERE c.id = 2",
            gather,
        ),
        (
            "a self join",
            "SELECT * FROM orders a JOIN orders b ON a.customer_id = b.customer_id WHERE a.customer_id = 2",
            "one shard: s2",
        ),
        (
            "a self join by another column",
            "SELECT * FROM orders a JOIN orders b ON a.id = b.id WHERE a.customer_id = 2",
            gather,
        ),
        (
            "lateral",
            "SELECT * FROM customers c, LATERAL (SELECT * FROM orders o WHERE o.customer_id = c.id) x WHERE c.id = 2",
            "one shard: s2",
        ),
    ];
    let cases: Vec<(&str, String, &str)> =
        cases.iter().map(|(why, text, plan)| (*why, sql(text), *plan)).collect();
    let cases: Vec<(&str, &str, &str)> =
        cases.iter().map(|(why, text, plan)| (*why, text.as_str(), *plan)).collect();
    check(&herd(), &cases);
}

#[test]
fn every_query_inside_must_be_on_the_same_shard() {
    check(
        &herd(),
        &[
            (
                "both by key",
                "SELECT * FROM customers WHERE id = 2 AND EXISTS (SELECT 1 FROM orders WHERE customer_id = 2)",
                "one shard: s2",
            ),
            (
                "different keys",
                "SELECT * FROM customers WHERE id = 2 AND EXISTS (SELECT 1 FROM orders WHERE customer_id = 3)",
                "gather...",
            ),
            (
                "correlated",
                "SELECT * FROM customers c WHERE c.id = 2 AND EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)",
                "one shard: s2",
            ),
            (
                "correlated the other way round",
                "SELECT * FROM customers c WHERE c.id = 2 AND EXISTS (SELECT 1 FROM orders o WHERE c.id = o.customer_id)",
                "one shard: s2",
            ),
            (
                "correlated by a bare name",
                "SELECT * FROM customers WHERE id = 2 AND EXISTS (SELECT 1 FROM orders WHERE customer_id = id)",
                "gather...",
            ),
            (
                "not correlated",
                "SELECT * FROM customers c WHERE c.id = 2 AND EXISTS (SELECT 1 FROM orders o WHERE o.id = c.id)",
                "gather...",
            ),
            (
                "under OR",
                "SELECT * FROM customers c WHERE c.id = 2 OR EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)",
                EACH,
            ),
            (
                "the inner key says nothing about the outer rows",
                "SELECT * FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.customer_id = 2)",
                EACH,
            ),
            (
                "hidden by an inner alias",
                "SELECT * FROM customers c WHERE c.id = 2 AND EXISTS (SELECT 1 FROM orders c WHERE c.customer_id = c.id)",
                "gather...",
            ),
            (
                "a scalar query",
                "SELECT (SELECT count(*) FROM orders o WHERE o.customer_id = c.id) FROM customers c WHERE c.id = 2",
                "one shard: s2",
            ),
            ("IN", "SELECT * FROM orders WHERE customer_id IN (SELECT id FROM customers)", EACH),
            (
                "IN, both by key",
                "SELECT * FROM orders WHERE customer_id = 2 AND id IN (SELECT id FROM customers WHERE id = 2)",
                "one shard: s2",
            ),
            (
                "= ANY",
                "SELECT * FROM orders WHERE customer_id = 2 AND id = ANY (SELECT id FROM customers)",
                "gather...",
            ),
            ("derived", "SELECT * FROM (SELECT * FROM orders WHERE customer_id = 2) o", "one shard: s2"),
            (
                "a condition outside",
                "SELECT * FROM (SELECT * FROM orders) o WHERE o.customer_id = 2",
                "one shard: s2",
            ),
            (
                "WITH",
                "WITH o AS (SELECT * FROM orders WHERE customer_id = 2) SELECT * FROM o",
                "one shard: s2",
            ),
            (
                "WITH, all rows",
                "WITH o AS (SELECT * FROM orders) SELECT * FROM o WHERE customer_id = 2",
                EACH,
            ),
            (
                "a WITH name hides a table",
                "WITH orders AS (SELECT 1 AS customer_id) SELECT * FROM orders",
                "one shard: s0",
            ),
            (
                "but not inside itself",
                "WITH orders AS (SELECT * FROM orders WHERE customer_id = 2) SELECT * FROM orders",
                "one shard: s2",
            ),
            (
                "unless recursive",
                "WITH RECURSIVE orders AS (SELECT 1 AS n UNION SELECT n + 1 FROM orders WHERE n < 9) SELECT * FROM orders",
                "one shard: s0",
            ),
            (
                "and not with a schema",
                "WITH orders AS (SELECT 1) SELECT * FROM public.orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            (
                "recursive over a table by key",
                "WITH RECURSIVE r AS (SELECT id FROM orders WHERE customer_id = 2 UNION SELECT o.id FROM orders o JOIN r ON o.id = r.id WHERE o.customer_id = 2) SELECT * FROM r",
                "one shard: s2",
            ),
            (
                "UNION of two shards",
                "SELECT id FROM orders WHERE customer_id = 2 UNION SELECT id FROM orders WHERE customer_id = 3",
                "gather...",
            ),
            ("UNION ALL", "SELECT id FROM orders UNION ALL SELECT id FROM customers", EACH),
            (
                "a query in WITH that writes",
                "WITH d AS (DELETE FROM orders WHERE customer_id = 2 RETURNING *) SELECT * FROM d",
                "one shard: s2",
            ),
            (
                "that writes everywhere",
                "WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d",
                "refused",
            ),
            (
                "that writes copies",
                "WITH d AS (DELETE FROM countries RETURNING *) SELECT * FROM d",
                "refused",
            ),
            (
                "a query in VALUES",
                "VALUES ((SELECT count(*) FROM orders WHERE customer_id = 2))",
                "one shard: s2",
            ),
            ("a query in LIMIT", "SELECT * FROM notes LIMIT (SELECT count(*) FROM orders)", "gather..."),
            ("a query in an array", "SELECT ARRAY(SELECT id FROM orders)", "gather..."),
            (
                "a query in parentheses",
                "(SELECT * FROM orders WHERE customer_id = 2) ORDER BY id",
                "one shard: s2",
            ),
            ("two in parentheses", "(SELECT * FROM orders)", "gather..."),
        ],
    );
}

#[test]
fn a_union_of_the_shards_answers_is_given_only_where_it_is_the_answer() {
    let each = "each of s0, s1, s2, s3: union";
    check(
        &herd(),
        &[
            ("columns", "SELECT id, total * 2 AS double FROM orders WHERE paid AND total > 10", each),
            (
                "expressions that depend on the row only",
                "SELECT abs(total), coalesce(total, 0), CASE WHEN paid THEN 'a' ELSE upper('b') END, total::int, id || 'x' FROM orders WHERE id IN (1, 2) OR total BETWEEN 1 AND 2 OR NOT paid",
                each,
            ),
            (
                "patterns",
                "SELECT * FROM customers WHERE name LIKE 'a%' OR email ~* 'x' OR name ILIKE $1",
                each,
            ),
            (
                "json, arrays, dates",
                "SELECT name::jsonb ->> 'a', (string_to_array(name, ','))[1], extract(year FROM since), since AT TIME ZONE 'UTC', date_trunc('day', since) FROM customers",
                each,
            ),
            ("a trusted immutable function", "SELECT vat(total) FROM orders", each),
            ("random is of the row", "SELECT id, random() FROM orders", each),
            ("set-returning per row", "SELECT id, generate_series(1, 2) FROM orders", each),
            (
                "columns named like functions",
                "SELECT age, o.version, now, \"user\", count FROM orders o WHERE format = 1",
                each,
            ),
            ("row locks", "SELECT * FROM orders WHERE paid FOR UPDATE SKIP LOCKED", each),
            ("a reference table", "SELECT * FROM orders o JOIN countries c ON c.name = 'x'", each),
            ("comma", "SELECT * FROM orders, countries", each),
            ("before it", "SELECT * FROM countries c CROSS JOIN orders o", each),
            ("on the nullable side", "SELECT * FROM orders o LEFT JOIN countries c ON c.code = 'x'", each),
            (
                "on the preserved side",
                "SELECT * FROM countries c LEFT JOIN orders o ON c.code = 'x'",
                "gather...",
            ),
            ("right", "SELECT * FROM orders o RIGHT JOIN countries c ON c.code = 'x'", "gather..."),
            ("full", "SELECT * FROM orders o FULL JOIN countries c ON c.code = 'x'", "gather..."),
            ("locks of a reference table's copies", "SELECT * FROM orders, countries FOR UPDATE", "refused"),
            ("locks of the sharded table only", "SELECT * FROM orders, countries FOR UPDATE OF orders", each),
            ("two sharded tables", "SELECT * FROM orders, customers", "gather..."),
            ("an unlisted table", "SELECT * FROM orders, notes", "gather..."),
            ("a table on one shard", "SELECT * FROM orders, settings", "gather..."),
            ("DISTINCT", "SELECT DISTINCT paid FROM orders", "gather..."),
            ("DISTINCT ON", "SELECT DISTINCT ON (paid) * FROM orders", "gather..."),
            ("GROUP BY", "SELECT paid, count(*) FROM orders GROUP BY paid", "gather..."),
            ("GROUP BY nothing", "SELECT count(*) FROM orders GROUP BY ()", "gather..."),
            ("HAVING", "SELECT count(*) FROM orders HAVING count(*) > 1", "gather..."),
            ("a window", "SELECT count(*) OVER () FROM orders", "gather..."),
            ("LIMIT of what is locked", "SELECT * FROM orders LIMIT 1 FOR UPDATE", "refused"),
            (
                "a named window that nobody uses",
                "SELECT id FROM orders WINDOW w AS (ORDER BY id)",
                "each of s0, s1, s2, s3: union",
            ),
            ("another aggregate", "SELECT avg(total) FROM orders", "gather..."),
            ("an ordered-set aggregate", "SELECT mode() WITHIN GROUP (ORDER BY id) FROM orders", "gather..."),
            ("an aggregate inside an expression", "SELECT 1 + count(*) FROM orders", "gather..."),
            ("an aggregate beside a column", "SELECT paid, count(*) FROM orders", "gather..."),
            ("an unknown function may be an aggregate", "SELECT percentile(total) FROM orders", "gather..."),
            ("now()", "SELECT now() FROM orders", "gather..."),
            (
                "CURRENT_TIMESTAMP",
                "SELECT * FROM customers WHERE since < CURRENT_TIMESTAMP",
                "draw CURRENT...",
            ),
            ("current_date", "SELECT * FROM customers WHERE since < current_date", "draw CURRENT..."),
            ("CURRENT_USER", "SELECT * FROM customers WHERE name = CURRENT_USER", "gather..."),
            ("USER", "SELECT user FROM customers", "gather..."),
            ("SESSION_USER", "SELECT session_user FROM customers", "gather..."),
            ("current_catalog", "SELECT current_catalog FROM customers", "gather..."),
            ("localtimestamp(0)", "SELECT localtimestamp(0) FROM customers", "gather..."),
            ("age", "SELECT age(since) FROM customers", "gather..."),
            ("'now'", "SELECT * FROM customers WHERE since < 'now'", "gather..."),
            ("'now' with a cast", "SELECT * FROM customers WHERE since < ' NOW '::timestamptz", "gather..."),
            ("'today' with a time", "SELECT * FROM customers WHERE since < 'today 10:00'", "gather..."),
            ("a sentence is no moment", "SELECT * FROM customers WHERE name = 'see you tomorrow'", each),
            ("a sequence", "SELECT nextval('s'), id FROM orders", "refused"),
            ("a server's version", "SELECT version() FROM orders", "gather..."),
            ("ctid", "SELECT ctid FROM orders", "refused"),
            ("xmin", "SELECT o.xmin FROM orders o", "refused"),
            ("tableoid", "SELECT tableoid::regclass FROM orders", "refused"),
            ("a name that is looked up", "SELECT 'x'::regclass FROM orders", "refused"),
            ("TABLESAMPLE", "SELECT * FROM orders TABLESAMPLE SYSTEM (1)", "refused"),
            ("a function in FROM", "SELECT * FROM orders, generate_series(1, 3)", each),
            (
                "a function in FROM that is another one on each shard",
                "SELECT * FROM orders, generate_series(1, (random() * 3)::int)",
                "not combined",
            ),
            ("INTO", "SELECT * INTO x FROM orders WHERE customer_id = 2", "refused"),
            ("a view over it", "SELECT * FROM order_totals", "refused"),
            (
                "a view over it, with a schema",
                "SELECT * FROM public.order_totals WHERE customer_id = 2",
                "refused",
            ),
            (
                "a view over it, in a query inside",
                "SELECT * FROM notes WHERE id IN (SELECT id FROM order_totals)",
                "refused",
            ),
            ("a user's function", "SELECT refund(2)", "refused"),
            ("a user's function, quoted", r#"SELECT "refund"(2)"#, "refused"),
            ("a user's function, with a schema", "SELECT public.refund(2)", "refused"),
            ("a user's function in FROM", "SELECT * FROM refund(2)", "refused"),
            (
                "a user's function, though a key is named",
                "SELECT refund(id) FROM orders WHERE customer_id = 2",
                "refused",
            ),
            ("a column of that name", "SELECT o.paid FROM orders o", each),
            (
                "a function that looks like a column",
                "SELECT o.refund FROM orders o WHERE customer_id = 2",
                "refused",
            ),
            ("SQL as text", "SELECT query_to_xml('select * from orders', true, true, '')", "refused"),
            (
                "SQL as text, for the server's schema",
                "SELECT * FROM ts_stat('select x from orders')",
                "refused",
            ),
        ],
    );
}

#[test]
fn one_row_from_each_shard_is_combined_where_its_columns_can_be() {
    check(
        &herd(),
        &[
            ("count(*)", "SELECT count(*) FROM orders", "each of s0, s1, s2, s3: aggregate (count)"),
            (
                "all four",
                "SELECT count(total), sum(total) AS s, min(total), max(total) FROM orders WHERE paid",
                "each of s0, s1, s2, s3: aggregate (count, sum, min, max)",
            ),
            (
                "of expressions",
                "SELECT sum(total * 2), pg_catalog.count(*) FROM orders",
                "each of s0, s1, s2, s3: aggregate (sum, count)",
            ),
            (
                "FILTER",
                "SELECT count(*) FILTER (WHERE paid) FROM orders",
                "each of s0, s1, s2, s3: aggregate (count)",
            ),
            (
                "with a reference table",
                "SELECT count(*) FROM orders o JOIN countries c ON c.code = 'x'",
                "each of s0, s1, s2, s3: aggregate (count)",
            ),
            (
                "on the shards of a list",
                "SELECT count(*) FROM orders WHERE customer_id IN (1, 2)",
                "each of s0, s2: aggregate (count)",
            ),
            (
                "on one shard it is not combined",
                "SELECT count(*) FROM orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            ("ALL", "SELECT count(ALL id) FROM orders", "each of s0, s1, s2, s3: aggregate (count)"),
            (
                "the least of distinct is the least",
                "SELECT min(DISTINCT id) FROM orders",
                "each of s0, s1, s2, s3: aggregate (min)",
            ),
            ("DISTINCT", "SELECT count(DISTINCT id) FROM orders", "gather..."),
            ("ORDER BY inside", "SELECT sum(total ORDER BY id) FROM orders", "gather..."),
            ("DISTINCT outside", "SELECT DISTINCT count(*) FROM orders", "gather..."),
            ("LIMIT 0", "SELECT count(*) FROM orders LIMIT 0", "gather..."),
            ("another schema's", "SELECT other.count(*) FROM orders", "gather..."),
            ("an argument that differs", "SELECT max(now()) FROM orders", "gather..."),
            ("nested", "SELECT count((SELECT 1 FROM orders LIMIT 1)) FROM orders", "gather..."),
            ("in WITH", "WITH x AS (SELECT count(*) FROM orders) SELECT * FROM x", "gather..."),
        ],
    );
}

#[test]
fn what_names_no_sharded_table_goes_where_its_tables_are() {
    check(
        &herd(),
        &[
            ("a constant", "SELECT 1", "any shard"),
            ("pure functions", "SELECT upper('a') || 'b', 1 + 2", "any shard"),
            ("a parameter", "SELECT $1", "any shard"),
            ("now()", "SELECT now()", "one shard: s0"),
            ("CURRENT_USER", "SELECT CURRENT_USER", "one shard: s0"),
            ("nextval", "SELECT nextval('s')", "one shard: s0"),
            ("a cast that may read the clock", "SELECT 'now'::timestamptz", "one shard: s0"),
            ("an unlisted table", "SELECT * FROM notes", "one shard: s0"),
            (
                "with everything",
                "SELECT body, count(*) FROM notes GROUP BY body ORDER BY 2 LIMIT 1",
                "one shard: s0",
            ),
            ("a catalog", "SELECT * FROM pg_catalog.pg_class", "one shard: s0"),
            ("a catalog without its schema", "SELECT * FROM pg_class", "one shard: s0"),
            (
                "the information schema",
                "SELECT * FROM information_schema.tables WHERE table_name = 'orders'",
                "one shard: s0",
            ),
            ("a function in FROM", "SELECT * FROM generate_series(1, 3)", "one shard: s0"),
            (
                "what sqlparser does not know",
                "SELECT * FROM ROWS FROM (generate_series(1, 3), generate_series(1, 2)) AS x",
                "one shard: s0",
            ),
            ("what nobody knows", "FROBNICATE notes", "one shard: s0"),
            ("a table on one shard", "SELECT * FROM settings", "one shard: s2"),
            (
                "what sqlparser does not know, elsewhere",
                "SELECT * FROM settings TABLESAMPLE SYSTEM (1) REPEATABLE (2)",
                "refused",
            ),
            ("two on two shards", "SELECT * FROM settings, notes", "refused"),
            (
                "a reference table",
                "SELECT * FROM countries WHERE code = 'x' ORDER BY name LIMIT 1",
                "any shard",
            ),
            (
                "two",
                "SELECT count(*), avg(rate) FROM countries c JOIN currencies u USING (code) GROUP BY c.name",
                "any shard",
            ),
            ("what each server would say", "SELECT now(), name FROM countries", "one shard: s0"),
            ("a lock", "SELECT * FROM countries FOR UPDATE", "one shard: s0"),
            ("with an unlisted table", "SELECT * FROM countries, notes", "one shard: s0"),
            ("with a table on one shard", "SELECT * FROM countries, settings", "one shard: s2"),
            (
                "with a sharded table by key",
                "SELECT * FROM countries, orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            (
                "a table on one shard, and a key there",
                "SELECT * FROM settings s, orders o WHERE o.customer_id = 2",
                "one shard: s2",
            ),
            (
                "a table on one shard, and a key elsewhere",
                "SELECT * FROM settings s, orders o WHERE o.customer_id = 3",
                "gather...",
            ),
            (
                "a bare key beside unknown columns",
                "SELECT * FROM settings, orders WHERE customer_id = 2",
                "gather...",
            ),
            ("a column named like a table", "SELECT orders FROM notes", "one shard: s0"),
            ("an alias named like a table", "SELECT * FROM notes orders", "refused"),
            ("a string is no name", "SELECT * FROM notes WHERE body = 'orders'", "one shard: s0"),
            ("an unterminated string", "SELECT 'orders FROM notes", "one shard: s0"),
            (
                "junk that versions read differently",
                "SELECT * FROM orders WHERE customer_id = 2OR paid",
                "refused 42601...",
            ),
        ],
    );
}

#[test]
fn hints_name_the_shard_by_hand() {
    check(
        &herd(),
        &[
            ("a shard", "/* pgherd: shard=s3 */ SELECT now()", "one shard: s3"),
            ("at the end", "SELECT * FROM orders ORDER BY id /* pgherd: shard=s3 */", "one shard: s3"),
            ("inside", "SELECT /*pgherd: shard=s3*/ refund(2)", "one shard: s3"),
            ("a key", "/* pgherd: key=2 distribution=customer */ SELECT refund(2)", "one shard: s2"),
            ("a key of two parts", "/* pgherd: key=c,1 distribution=item */ CALL p()", "one shard: s3"),
            (
                "what nobody would plan",
                "/* pgherd: shard=s1 */ DO $$ BEGIN DELETE FROM orders; END $$",
                "one shard: s1",
            ),
            (
                "an unknown shard",
                "/* pgherd: shard=s9 */ SELECT 1",
                "refused 42704: shard \"s9\" does not exist",
            ),
            ("an unknown distribution", "/* pgherd: key=2 distribution=x */ SELECT 1", "refused"),
            ("not a key", "/* pgherd: key=x distribution=customer */ SELECT 1", "refused"),
            ("a key alone", "/* pgherd: key=2 */ SELECT 1", "refused"),
            ("nonsense", "/* pgherd: please */ SELECT 1", "refused"),
            ("two", "/* pgherd: shard=s1 */ /* pgherd: shard=s1 */ SELECT 1", "refused"),
            ("an ordinary comment", "/* shard=s3 */ SELECT now()", "one shard: s0"),
        ],
    );
}

#[test]
fn strings_that_name_a_moment_are_known() {
    let plan = |text: &str| house::plan(&herd(), &format!("SELECT * FROM customers WHERE since < '{text}'"));
    for text in [
        "now",
        " NOW ",
        "today",
        "Tomorrow",
        "yesterday 10:00",
        "today 10:00 PST",
        "today 10:00 pm +02",
        "now UTC",
        "10:00 today",
        "today 10:00 America/New_York",
        "tomorrow at 5",
    ] {
        // Read once, where the statement runs; not by each shard that rows are pulled from.
        let plan = plan(text);
        let pulls = plan.split("\n  then").next().unwrap_or_default();
        assert!(plan.starts_with("gather on") && !pulls.contains("WHERE"), "{text}: {plan}");
    }
    for text in
        ["", "2020-01-01", "nowhere", "infinity", "do it now, please", "not today, my dear friend", "epoch"]
    {
        assert!(plan(text).starts_with("each of"), "{text}");
    }
}

#[test]
fn what_stays_on_one_shard_is_computed_there_and_what_does_not_is_refused() {
    let by_key = "each of s0, s1, s2, s3: union";
    let cases = [
        (
            "groups of the key",
            "SELECT customer_id, count(*), avg(total) FROM orders GROUP BY customer_id",
            by_key,
        ),
        ("by number", "SELECT customer_id, count(*) FROM orders GROUP BY 1", by_key),
        ("by another number", "SELECT customer_id, count(*) FROM orders GROUP BY 2, paid", "not combined"),
        ("by alias", "SELECT customer_id AS c, count(*) FROM orders GROUP BY c", by_key),
        ("HAVING", "SELECT customer_id FROM orders GROUP BY customer_id, paid HAVING sum(total) > 1", by_key),
        (
            "the key under a function",
            "SELECT abs(customer_id) FROM orders GROUP BY abs(customer_id)",
            "not combined",
        ),
        (
            "ROLLUP of the key",
            "SELECT customer_id, count(*) FROM orders GROUP BY ROLLUP (customer_id)",
            "not combined",
        ),
        ("DISTINCT with the key", "SELECT DISTINCT customer_id, paid FROM orders", by_key),
        ("DISTINCT *", "SELECT DISTINCT * FROM orders", by_key),
        ("DISTINCT ON the key", "SELECT DISTINCT ON (customer_id) * FROM orders", by_key),
        (
            "DISTINCT ON the key, which is an output",
            "SELECT DISTINCT ON (customer_id) id, customer_id FROM orders",
            by_key,
        ),
        // An output's name comes first, and gave each shard's own first rows.
        (
            "DISTINCT ON another output",
            "SELECT DISTINCT ON (customer_id) id AS customer_id FROM orders",
            "gather...",
        ),
        (
            "DISTINCT ON a cast",
            "SELECT DISTINCT ON (customer_id) total::customer_id FROM orders",
            "not combined",
        ),
        (
            "DISTINCT ON a CASE",
            "SELECT DISTINCT ON (customer_id) CASE WHEN paid THEN 1 ELSE customer_id END FROM orders",
            "gather...",
        ),
        (
            "a window of the key",
            "SELECT id, sum(total) OVER (PARTITION BY customer_id ORDER BY id) FROM orders",
            by_key,
        ),
        (
            "a named one",
            "SELECT rank() OVER w FROM orders WINDOW w AS (PARTITION BY paid, customer_id)",
            by_key,
        ),
        ("one without", "SELECT rank() OVER w FROM orders WINDOW w AS (PARTITION BY paid)", "not combined"),
        (
            "groups of a key that a left join fills up",
            "SELECT o.customer_id, count(*) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY o.customer_id",
            "not combined",
        ),
        (
            "of the side that stays",
            "SELECT c.id, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id",
            by_key,
        ),
        (
            "a composite key needs both columns",
            "SELECT shop, count(*) FROM items GROUP BY shop",
            "not combined",
        ),
        (
            "an inner equality says nothing outside",
            "SELECT * FROM customers a, customers b WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = a.id AND o.customer_id = b.id)",
            "not combined",
        ),
        (
            "nor does one of IN",
            "SELECT * FROM customers a, customers b WHERE a.id IN (SELECT o.customer_id FROM orders o WHERE o.customer_id = b.id)",
            "not combined",
        ),
        (
            "an ON of a left join about the side that stays",
            "SELECT * FROM customers a, customers b LEFT JOIN countries c ON b.id = b.id WHERE a.name = b.name",
            "not combined",
        ),
        ("NOT IN", "SELECT * FROM orders WHERE customer_id NOT IN (SELECT id FROM customers)", by_key),
        ("IN another column", "SELECT * FROM orders WHERE id IN (SELECT id FROM customers)", "not combined"),
        (
            "an aggregate of the query around",
            "SELECT (SELECT sum(c.id) FROM countries x) FROM customers c",
            "not combined",
        ),
        (
            "a correlated limit",
            "SELECT c.id, x.total FROM customers c, LATERAL (SELECT * FROM orders o WHERE o.customer_id = c.id LIMIT 2) x",
            by_key,
        ),
        ("a limit that is not", "SELECT * FROM (SELECT * FROM orders LIMIT 2) x", "not combined"),
        (
            "a reference table's aggregate",
            "SELECT * FROM orders WHERE id < (SELECT count(*) FROM countries)",
            by_key,
        ),
        (
            "any row of it",
            "SELECT * FROM orders WHERE id < (SELECT max(1) FROM countries LIMIT 1)",
            "not combined",
        ),
        ("UNION with the keys", "SELECT customer_id FROM orders UNION SELECT id FROM customers", by_key),
        ("UNION without", "SELECT id FROM orders UNION SELECT id FROM customers", "not combined"),
        (
            "keys in other places",
            "SELECT customer_id, id FROM orders UNION SELECT 1, id FROM customers",
            "not combined",
        ),
        (
            "aggregates on both sides",
            "SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM customers",
            "not combined",
        ),
        (
            "DISTINCT sorted by what it does not put out",
            "SELECT DISTINCT customer_id FROM orders ORDER BY total",
            "not combined",
        ),
        (
            "or by what it does",
            "SELECT DISTINCT customer_id + 1, customer_id FROM orders ORDER BY customer_id",
            "each of s0, s1, s2, s3: merge by column 2",
        ),
        (
            "UNION ALL with a copy",
            "SELECT name FROM customers UNION ALL SELECT name FROM countries",
            "not combined",
        ),
        (
            "two mentions of a WITH query",
            "WITH o AS (SELECT * FROM orders) SELECT * FROM o a, o b WHERE a.id = b.id",
            "not combined",
        ),
        (
            "by key",
            "WITH o AS (SELECT customer_id, id FROM orders) SELECT * FROM o a, o b WHERE a.customer_id = b.customer_id",
            by_key,
        ),
        (
            "a WITH query that nobody asks",
            "WITH o AS (SELECT * FROM orders) SELECT * FROM countries",
            "not combined",
        ),
        (
            "a WITH query's groups",
            "WITH o AS (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id) SELECT c.id, o.n FROM customers c JOIN o ON o.customer_id = c.id",
            by_key,
        ),
        (
            "UPDATE FROM, by key",
            "UPDATE orders o SET paid = true FROM customers c WHERE c.id = o.customer_id AND c.name = 'x'",
            by_key,
        ),
        (
            "UPDATE FROM, otherwise",
            "UPDATE orders o SET paid = true FROM customers c WHERE c.id = o.id",
            "not combined",
        ),
        (
            "DELETE USING, by key",
            "DELETE FROM orders o USING customers c WHERE c.id = o.customer_id AND c.name = 'x'",
            by_key,
        ),
        (
            "a write by a correlated query",
            "UPDATE customers c SET name = 'x' WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)",
            by_key,
        ),
    ];
    check(&herd(), &cases);
}

#[test]
fn sorted_rows_are_merged_where_their_values_can_be_compared() {
    let rows = |text: &str| format!("each of s0, s1, s2, s3: {text}");
    let cases = [
        ("a column", "SELECT id FROM orders ORDER BY id", rows("merge by column 1")),
        (
            "one that is not put out",
            "SELECT paid FROM orders ORDER BY id DESC, total NULLS FIRST",
            rows(
                "merge by hidden column 1 desc, hidden column 2 nulls first\n  SELECT paid , (id) AS pgherd_sort_1 , (total) AS pgherd_sort_2 FROM orders ORDER BY id DESC, total NULLS FIRST",
            ),
        ),
        (
            "a number",
            "SELECT paid, id FROM orders ORDER BY 2 DESC NULLS LAST",
            rows("merge by column 2 desc nulls last"),
        ),
        (
            "an output's name comes first",
            "SELECT total AS id, id AS total FROM orders ORDER BY id",
            rows("merge by column 1"),
        ),
        (
            "behind *",
            "SELECT *, id + 1 AS next FROM orders ORDER BY next",
            rows("merge by column 0 from the last"),
        ),
        ("a limit", "SELECT * FROM orders LIMIT 1", rows("rows, limit 1")),
        ("ALL is none", "SELECT * FROM orders LIMIT ALL", rows("union")),
        (
            "a limit and an offset",
            "SELECT id FROM orders LIMIT 10 OFFSET 20",
            rows("rows, offset 20, limit 10\n  SELECT id FROM orders LIMIT 30 "),
        ),
        (
            "the other way round",
            "SELECT id FROM orders ORDER BY id OFFSET 20 ROWS FETCH NEXT 10 ROWS ONLY",
            rows("merge by column 1, offset 20, limit 10\n  SELECT id FROM orders ORDER BY id LIMIT 30 "),
        ),
        (
            "an offset alone",
            "SELECT id FROM orders OFFSET 3",
            rows("rows, offset 3\n  SELECT id FROM orders "),
        ),
        (
            "ties",
            "SELECT id FROM orders ORDER BY id OFFSET 1 FETCH FIRST 2 ROWS WITH TIES",
            rows(
                "merge by column 1, offset 1, limit 2 with ties\n  SELECT id FROM orders ORDER BY id FETCH FIRST 3 ROWS WITH TIES ",
            ),
        ),
        (
            "words that are clauses elsewhere",
            "SELECT id AS \"limit\", id IS DISTINCT FROM 1 AS \"from\", extract(year FROM since) FROM customers ORDER BY extract(day FROM since) LIMIT 1",
            rows(
                "merge by hidden column 1, limit 1\n  SELECT id AS \"limit\", id IS DISTINCT FROM 1 AS \"from\", extract(year FROM since) , (extract(day FROM since)) AS pgherd_sort_1 FROM customers ORDER BY extract(day FROM since) LIMIT 1",
            ),
        ),
        ("locks", "SELECT id FROM orders ORDER BY id FOR UPDATE", rows("merge by column 1")),
        ("a text under another collation", "SELECT name FROM customers ORDER BY name", "not combined".into()),
        (
            "a text in bytes",
            "SELECT name FROM customers ORDER BY name COLLATE \"C\"",
            rows(
                "merge by hidden column 1\n  SELECT name , (name COLLATE \"C\") AS pgherd_sort_1 FROM customers ORDER BY name COLLATE \"C\"",
            ),
        ),
        ("a function of a text", "SELECT id FROM customers ORDER BY lower(name)", "not combined".into()),
        ("a text by number", "SELECT id, name FROM customers ORDER BY 2", "not combined".into()),
        ("a number by number", "SELECT id, name FROM customers ORDER BY 1", rows("merge by column 1")),
        (
            "a column of a query in FROM",
            "SELECT s.n FROM (SELECT customer_id, count(*) AS n FROM orders GROUP BY 1) s ORDER BY s.n, customer_id",
            rows(
                "merge by hidden column 1, hidden column 2\n  SELECT s.n , (s.n) AS pgherd_sort_1 , (customer_id) AS pgherd_sort_2 FROM (SELECT customer_id, count(*) AS n FROM orders GROUP BY 1) s ORDER BY s.n, customer_id",
            ),
        ),
        ("LIMIT of an expression", "SELECT id FROM orders LIMIT 1 + 1", "not combined".into()),
        ("a negative limit", "SELECT id FROM orders LIMIT -1", "not combined".into()),
        ("one row needs no order", "SELECT count(*) FROM orders ORDER BY 1", rows("aggregate (count)")),
        ("LIMIT of one row", "SELECT count(*) FROM orders LIMIT 0", "not combined".into()),
        (
            "one shard does it all",
            "SELECT name FROM customers WHERE id = 2 ORDER BY name LIMIT 1 + 1",
            "one shard: s2".into(),
        ),
        (
            "DISTINCT by key",
            "SELECT DISTINCT customer_id FROM orders ORDER BY customer_id LIMIT 3",
            rows("merge by column 1, limit 3"),
        ),
        (
            "UNION ALL",
            "SELECT id FROM orders UNION ALL SELECT id FROM customers ORDER BY 1",
            rows("merge by column 1"),
        ),
    ];
    let cases: Vec<(&str, &str, &str)> =
        cases.iter().map(|(why, sql, plan)| (*why, *sql, plan.as_str())).collect();
    check(&herd(), &cases);
}

#[test]
fn limits_may_be_parameters_and_stay_in_the_text() {
    let herd = herd();
    let sql = "SELECT id FROM orders WHERE paid ORDER BY id LIMIT $1 OFFSET $2";
    let text = "SELECT id FROM orders WHERE paid ORDER BY id LIMIT (LEAST($1::int8, 9223372036854775807 - COALESCE($2::int8, 0)) + COALESCE($2::int8, 0))";
    let values: [Option<&[u8]>; 2] = [Some(b"10"), Some(b"5")];
    let found = plan_with(&herd, sql, Params { values: &values, ..Params::default() });
    assert_eq!(found, format!("each of s0, s1, s2, s3: merge by column 1, offset 5, limit 10\n  {text} "));
    let values: [Option<&[u8]>; 2] = [None, Some(&[0, 0, 0, 7])];
    let found = plan_with(&herd, sql, Params { values: &values, formats: &[1], types: &[20, 23] });
    assert_eq!(found, format!("each of s0, s1, s2, s3: merge by column 1, offset 7\n  {text} "));
    let values: [Option<&[u8]>; 2] = [Some(b"10"), Some(b"-5")];
    let found = plan_with(&herd, sql, Params { values: &values, ..Params::default() });
    // PostgreSQL says what is wrong with it.
    assert!(!found.contains("merge"), "{found}");
}
