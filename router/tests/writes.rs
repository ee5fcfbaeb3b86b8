//! Where writes go. Keys of the example: 1, 4, 7, 12 are on s0; 8, 9, 10 on s1; 2 on s2; 3, 5, 6, 11 on s3.

mod house;

use house::{check, herd, plan_with};
use pgherd_router::Topology;
use pgherd_router::plan::Params;
use pgherd_router::topology::{Behind, Event, TriggerFacts};

/// customers, orders and countries with something behind them.
fn with_behind(table: &str, behind: Behind) -> Topology {
    let mut topology = herd();
    let index = topology.tables.iter().position(|known| known.name == table).expect(table);
    topology.facts.tables.get_mut(&index).expect("facts").behind.push(behind);
    topology
}

fn trigger(on: &[Event], before_row: bool, source: Option<&str>, condition: &str) -> Behind {
    Behind::Trigger(TriggerFacts {
        name: "t".into(),
        on: on.into(),
        before_row,
        function: "f".into(),
        source: source.map(str::to_owned),
        condition: condition.into(),
    })
}

/// A trigger on a sharded table filled itself by counting its own shard's rows, another moved rows to keys of other shards;
/// a rule and a policy looked at one shard's rows. All of them were run where the statement happened to be sent.
#[test]
fn what_stands_behind_a_table_is_refused_unless_its_text_is_harmless() {
    use Event::{Delete, Insert, Truncate, Update};
    let alone = "refused 0A000: cannot run this statement over several shards...";
    let never = "refused 0A000: cannot use table \"orders\" with trigger \"t\" in a sharded database...";
    let stamp = "BEGIN NEW.paid := lower(NEW.id::text) <> ''; RETURN NEW; END";
    let insert = "INSERT INTO orders (customer_id, id) VALUES (2, 1)";
    let two = "INSERT INTO orders (customer_id, id) VALUES (1, 1), (2, 2)";
    let both = "split: union...";
    let row = |source| trigger(&[Insert, Update], true, Some(source), "");
    let cases: Vec<(&str, Behind, &str, &str)> = vec![
        ("it sees its row only", row(stamp), two, both),
        ("it is for other events", trigger(&[Delete], true, None, ""), insert, "one shard: s2"),
        (
            "after, and it reaches nothing",
            trigger(&[Insert], false, Some("BEGIN RETURN r; END"), ""),
            two,
            both,
        ),
        ("not PL/pgSQL", trigger(&[Insert], false, None, ""), insert, never),
        ("WHEN calls user code", trigger(&[Insert], false, Some(stamp), "refund(new.id)"), insert, never),
        ("it names the key", row("BEGIN NEW.customer_id := 1; RETURN NEW; END"), insert, never),
        ("in quotes", row("BEGIN NEW.\"customer_id\" := 1; RETURN NEW; END"), insert, never),
        ("another row", row("DECLARE r orders; BEGIN RETURN r; END"), insert, never),
        ("NEW as a whole", row("BEGIN NEW := jsonb_populate_record(NEW, x); RETURN NEW; END"), insert, never),
        ("NEW under another name", row("DECLARE n ALIAS FOR new; BEGIN RETURN NEW; END"), insert, never),
        ("NEW as a target", row("BEGIN SELECT 1, 2 INTO NEW; RETURN NEW; END"), insert, never),
        (
            "skips the row",
            row("BEGIN IF NEW.id IS NULL THEN RETURN NULL; END IF; RETURN NEW; END"),
            two,
            both,
        ),
        (
            "each its own moment",
            row("BEGIN NEW.id := extract(epoch from now()); RETURN NEW; END"),
            two,
            alone,
        ),
        (
            "one moment",
            row("BEGIN NEW.id := extract(epoch from now()); RETURN NEW; END"),
            insert,
            "one shard: s2",
        ),
        ("each row its own", row("BEGIN NEW.id := random(); RETURN NEW; END"), two, both),
        ("a string with a moment", row("BEGIN NEW.paid := 'now' < 'x'; RETURN NEW; END"), two, alone),
        ("who", row("BEGIN NEW.paid := current_user = 'x'; RETURN NEW; END"), two, both),
        ("a client's setting", row("BEGIN NEW.id := current_setting('my.x'); RETURN NEW; END"), two, both),
        ("a server's setting", row("BEGIN NEW.id := current_setting('port'); RETURN NEW; END"), two, alone),
        ("nobody knows the function", row("BEGIN NEW.id := f(1); RETURN NEW; END"), two, alone),
        ("an update", row("BEGIN NEW.customer_id := 1; RETURN NEW; END"), "UPDATE orders SET id = 1", never),
        (
            "ON CONFLICT DO UPDATE is an update",
            trigger(&[Update], false, None, ""),
            "INSERT INTO orders (customer_id, id) VALUES (2, 1) ON CONFLICT (customer_id) DO UPDATE SET id = 1",
            never,
        ),
        (
            "COPY",
            row("BEGIN NEW.customer_id := 1; RETURN NEW; END"),
            "COPY orders (customer_id) FROM STDIN",
            never,
        ),
        (
            "COPY, each its own",
            row("BEGIN NEW.id := f(1); RETURN NEW; END"),
            "COPY orders (customer_id) FROM STDIN",
            alone,
        ),
        ("TRUNCATE", trigger(&[Truncate], false, None, ""), "TRUNCATE orders", never),
        ("TRUNCATE of two", trigger(&[Truncate], false, None, ""), "TRUNCATE ONLY customers, orders", never),
        (
            "a read",
            trigger(&[Insert, Update, Delete], true, None, ""),
            "SELECT * FROM orders",
            "each of s0, s1, s2, s3: union",
        ),
        (
            "a rule",
            Behind::Rule { name: "r".into(), on: vec![Delete] },
            "DELETE FROM orders WHERE customer_id = 2",
            "refused 0A000: cannot use table \"orders\" with rule \"r\" in a sharded database...",
        ),
        ("a rule for others", Behind::Rule { name: "r".into(), on: vec![Delete] }, insert, "one shard: s2"),
        (
            "a default's function",
            Behind::Calls { function: "refund".into() },
            insert,
            "refused 0A000: cannot call...",
        ),
        ("a harmless one", Behind::Calls { function: "vat".into() }, insert, "one shard: s2"),
    ];
    for (why, behind, sql, expected) in cases {
        check(&with_behind("orders", behind), &[(why, sql, expected)]);
    }
    let policy = |text: &str, beyond| Behind::Policy { name: "p".into(), text: text.into(), beyond };
    let hidden = "refused 0A000: cannot use table \"orders\" with policy \"p\" in a sharded database...";
    let each = "each of s0, s1, s2, s3: union";
    let cases = [
        ("the row and who asks", policy("(owner = CURRENT_USER)", false), "SELECT * FROM orders", each),
        (
            "a client's setting",
            policy("(id = (current_setting('a.b'::text))::bigint)", false),
            "SELECT * FROM orders",
            each,
        ),
        ("when", policy("(at < now())", false), "SELECT * FROM orders", alone),
        (
            "when, by key",
            policy("(at < now())", false),
            "SELECT * FROM orders WHERE customer_id = 2",
            "one shard: s2",
        ),
        (
            "other rows",
            policy("(id IN ( SELECT a.b FROM a))", true),
            "SELECT * FROM orders WHERE customer_id = 2",
            hidden,
        ),
        (
            "other rows, in a join",
            policy("true", true),
            "SELECT * FROM customers c JOIN orders o ON o.customer_id = c.id",
            hidden,
        ),
        (
            "a copied table's rows",
            policy("(id IN ( SELECT c.n FROM countries c))", false),
            "SELECT * FROM orders",
            each,
        ),
        ("user code", policy("refund(id)", false), "DELETE FROM orders WHERE customer_id = 2", hidden),
        ("a write", policy("true", true), insert, hidden),
        ("COPY TO", policy("true", true), "COPY orders TO STDOUT", hidden),
    ];
    for (why, behind, sql, expected) in cases {
        check(&with_behind("orders", behind), &[(why, sql, expected)]);
    }
    // A foreign key that acts on orders has their triggers run.
    let mut cascade = with_behind("orders", trigger(&[Delete], false, None, ""));
    cascade.facts.tables.get_mut(&0).expect("customers").behind =
        vec![Behind::Cascade { table: 1, acts: true }, Behind::Cascade { table: 0, acts: true }];
    check(
        &cascade,
        &[
            ("a cascade", "DELETE FROM customers WHERE id = 2", never),
            ("no cascade", "INSERT INTO customers (id, since) VALUES (2, NULL)", "one shard: s2"),
        ],
    );
    // Copies of a reference table must stay equal.
    let insert = "INSERT INTO countries VALUES ('a', 'b', NULL)";
    let copies = "refused 0A000: cannot use table \"countries\" with trigger \"t\" in a sharded database...";
    let cases = [
        (
            "same everywhere",
            row("BEGIN NEW.name := upper(NEW.code); RETURN NEW; END"),
            "each of s0, s1, s2, s3: same...",
        ),
        ("when", row("BEGIN NEW.added := now(); RETURN NEW; END"), copies),
        ("random", row("BEGIN NEW.name := random(); RETURN NEW; END"), copies),
        (
            "its condition",
            trigger(&[Insert], true, Some("BEGIN RETURN NULL; END"), "(random() < 0.5)"),
            copies,
        ),
        ("user code", trigger(&[Insert], true, Some("BEGIN PERFORM refund(); RETURN NEW; END"), ""), copies),
    ];
    for (why, behind, expected) in cases {
        check(&with_behind("countries", behind), &[(why, insert, expected)]);
    }
}

#[test]
fn an_update_or_delete_by_key_goes_to_its_shard_and_others_to_all() {
    let each = "each of s0, s1, s2, s3: union";
    check(
        &herd(),
        &[
            ("by key", "UPDATE orders SET total = total + 1 WHERE customer_id = 2", "one shard: s2"),
            ("an alias", "UPDATE orders o SET total = 1 WHERE o.customer_id = 2", "one shard: s2"),
            ("ONLY", "UPDATE ONLY orders SET total = 1 WHERE customer_id = 2", "one shard: s2"),
            ("delete by key", "DELETE FROM orders WHERE customer_id = 2", "one shard: s2"),
            ("delete ONLY", "DELETE FROM ONLY orders WHERE customer_id = 2", "one shard: s2"),
            ("all rows", "UPDATE orders SET paid = true", each),
            ("all rows, deleted", "DELETE FROM orders WHERE NOT paid RETURNING *", each),
            ("some shards", "DELETE FROM orders WHERE customer_id IN (1, 2)", "each of s0, s2: union"),
            (
                "anything goes on one shard",
                "UPDATE orders SET total = extract(epoch FROM now()) WHERE customer_id = 2 RETURNING now()",
                "one shard: s2",
            ),
            ("now() everywhere", "UPDATE customers SET since = now()", "draw pg_catalog.now(), then..."),
            ("a default that differs", "UPDATE customers SET since = DEFAULT", "refused"),
            (
                "a default that differs, in a row",
                "UPDATE customers SET (name, since) = ROW('a', DEFAULT)",
                "refused",
            ),
            (
                "a default that differs, on one shard",
                "UPDATE customers SET since = DEFAULT WHERE id = 2",
                "one shard: s2",
            ),
            ("a default that does not", "UPDATE orders SET total = DEFAULT", each),
            ("a sequence", "UPDATE events SET id = DEFAULT WHERE customer_id = 2", "refused"),
            ("a sequence by name", "UPDATE events SET id = nextval('s') WHERE customer_id = 2", "refused"),
            (
                "the key",
                "UPDATE orders SET customer_id = 8",
                "refused 0A000: cannot update sharding key \"customer_id\" of table \"orders\" -- The row could belong to another shard.",
            ),
            (
                "the key, by key",
                "UPDATE orders SET customer_id = 8 WHERE customer_id = 2",
                "refused 0A000: cannot update sharding key \"customer_id\"...",
            ),
            (
                "the key, among others",
                "UPDATE orders SET total = 1, customer_id = 2 WHERE customer_id = 2",
                "refused 0A000: cannot update sharding key...",
            ),
            (
                "the key, in a row",
                "UPDATE orders SET (total, customer_id) = (1, 2) WHERE customer_id = 2",
                "refused 0A000: cannot update sharding key...",
            ),
            (
                "the key, quoted",
                r#"UPDATE orders SET "customer_id" = 2 WHERE customer_id = 2"#,
                "refused 0A000: cannot update sharding key...",
            ),
            (
                "half the key",
                "UPDATE items SET number = 2 WHERE shop = 'c' AND number = 1",
                "refused 0A000: cannot update sharding key...",
            ),
            ("a column of that name elsewhere", "UPDATE notes SET customer_id = 2", "one shard: s0"),
            (
                "the name of a key of another table",
                "UPDATE customers SET customer_id = 2 WHERE id = 2",
                "one shard: s2",
            ),
            (
                "FROM, co-located",
                "UPDATE orders o SET total = 1 FROM customers c WHERE c.id = o.customer_id AND c.id = 2",
                "one shard: s2",
            ),
            (
                "FROM, all",
                "UPDATE orders o SET total = 1 FROM customers c WHERE c.id = o.customer_id",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "FROM a reference table",
                "UPDATE orders o SET total = 1 FROM countries c",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "a query inside",
                "UPDATE orders SET total = (SELECT sum(total) FROM orders) WHERE customer_id = 2",
                "refused",
            ),
            (
                "a query inside, by key",
                "UPDATE orders SET total = (SELECT count(*) FROM customers WHERE id = 2) WHERE customer_id = 2",
                "one shard: s2",
            ),
            (
                "correlated",
                "UPDATE customers SET name = (SELECT 'x' FROM orders o WHERE o.customer_id = customers.id) WHERE id = 2",
                "one shard: s2",
            ),
            (
                "a query inside a delete",
                "DELETE FROM orders WHERE customer_id IN (SELECT id FROM customers)",
                "each of s0, s1, s2, s3: union",
            ),
            (
                "USING",
                "DELETE FROM orders o USING customers c WHERE o.customer_id = c.id AND c.id = 2",
                "one shard: s2",
            ),
            (
                "USING, all",
                "DELETE FROM orders o USING customers c WHERE o.customer_id = c.id",
                "each of s0, s1, s2, s3: union",
            ),
            ("WHERE CURRENT OF", "DELETE FROM orders WHERE CURRENT OF c", "refused"),
            ("an unlisted table", "UPDATE notes SET body = 'x'", "one shard: s0"),
            (
                "an unlisted table, with a sharded one",
                "UPDATE notes SET body = 'x' FROM orders WHERE customer_id = 2",
                "refused",
            ),
            (
                "an unlisted table, with one on its shard",
                "UPDATE notes SET body = 'x' FROM orders o WHERE o.customer_id = 1",
                "one shard: s0",
            ),
            (
                "WITH before it",
                "WITH x AS (SELECT 1) UPDATE orders SET total = 1 WHERE customer_id = 2",
                "one shard: s2",
            ),
            ("WITH before it, all", "WITH x AS (SELECT 1) UPDATE orders SET total = 1", "refused"),
            (
                "a WITH name is no target",
                "WITH orders AS (SELECT 1) DELETE FROM orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            ("MERGE", "MERGE INTO orders o USING notes n ON o.id = n.id WHEN MATCHED THEN DELETE", "refused"),
            (
                "MERGE elsewhere",
                "MERGE INTO notes o USING notes n ON o.id = n.id WHEN MATCHED THEN DELETE",
                "one shard: s0",
            ),
            ("a view", "DELETE FROM order_totals", "refused"),
        ],
    );
}

#[test]
fn an_insert_is_split_by_row() {
    check(
        &herd(),
        &[
            ("one row", "INSERT INTO orders VALUES (1, 2, 3, true)", "one shard: s2"),
            (
                "columns in any order",
                "INSERT INTO orders (total, customer_id) VALUES (1, 2)",
                "one shard: s2",
            ),
            ("quoted", r#"INSERT INTO "orders" ("customer_id") VALUES (2)"#, "one shard: s2"),
            ("with a schema", "INSERT INTO public.orders (customer_id) VALUES (2)", "one shard: s2"),
            ("a cast", "INSERT INTO orders (customer_id) VALUES ('2'::int)", "one shard: s2"),
            ("negative", "INSERT INTO orders (customer_id) VALUES (-2)", "one shard: s2"),
            (
                "anything in other columns",
                "INSERT INTO orders (customer_id, total) VALUES (2, extract(epoch FROM now()))",
                "one shard: s2",
            ),
            (
                "several rows of one shard",
                "INSERT INTO orders (customer_id) VALUES (8), (9), (10)",
                "one shard: s1",
            ),
            (
                "two shards",
                "INSERT INTO orders (customer_id, total) VALUES (2, 1), (8, (2)), (2, 3)",
                "split: union\n  s1: INSERT INTO orders (customer_id, total) VALUES (8, (2))\n  s2: INSERT INTO orders (customer_id, total) VALUES (2, 1), (2, 3)",
            ),
            (
                "the tail goes to every part",
                "INSERT INTO orders (customer_id, total) VALUES (2,1) , (8,2) ON CONFLICT DO NOTHING",
                "split: union\n  s1: INSERT INTO orders (customer_id, total) VALUES (8,2) ON CONFLICT DO NOTHING\n  s2: INSERT INTO orders (customer_id, total) VALUES (2,1) ON CONFLICT DO NOTHING",
            ),
            (
                "RETURNING keeps the order of rows",
                "INSERT INTO orders (customer_id) VALUES (2), (8), (2) RETURNING id",
                "split: rows from parts 1 0 1\n  s1: INSERT INTO orders (customer_id) VALUES (8) RETURNING id\n  s2: INSERT INTO orders (customer_id) VALUES (2), (2) RETURNING id",
            ),
            (
                "strings with parentheses and commas",
                "INSERT INTO customers (id, name, since) VALUES (2, '),(', 'x'), (8, $$),$$, 'y')",
                "split: union\n  s1: INSERT INTO customers (id, name, since) VALUES (8, $$),$$, 'y')\n  s2: INSERT INTO customers (id, name, since) VALUES (2, '),(', 'x')",
            ),
            ("a key with a quote", "INSERT INTO labels VALUES ('it''s', 'x')", "one shard: s2"),
            (
                "DEFAULT of a plain column",
                "INSERT INTO orders VALUES (1, 2, DEFAULT), (1, 8, 3)",
                "split: union\n  s1: INSERT INTO orders VALUES (1, 8, 3)\n  s2: INSERT INTO orders VALUES (1, 2, DEFAULT)",
            ),
            (
                "random() is of the row",
                "INSERT INTO orders (customer_id, total) VALUES (2, random()), (8, random())",
                "split: union...",
            ),
            (
                "now() would be two",
                "INSERT INTO orders (customer_id, total) VALUES (2, extract(epoch FROM now())), (8, 1)",
                "refused",
            ),
            (
                "CURRENT_TIMESTAMP",
                "INSERT INTO customers (id, since) VALUES (2, CURRENT_TIMESTAMP), (8, CURRENT_TIMESTAMP)",
                "draw CURRENT_TIMESTAMP, then...",
            ),
            ("'now'", "INSERT INTO customers (id, since) VALUES (2, 'now'), (8, 'now')", "refused"),
            (
                "a default that differs",
                "INSERT INTO customers (id, name) VALUES (2, 'a'), (8, 'b')",
                "draw CAST(now()...",
            ),
            (
                "a default that differs, said",
                "INSERT INTO customers (id, since) VALUES (2, DEFAULT), (8, 'x')",
                "draw CAST(now()...",
            ),
            (
                "a default that differs, on one shard",
                "INSERT INTO customers (id, name) VALUES (8, 'a'), (9, 'b')",
                "one shard: s1",
            ),
            (
                "RETURNING now()",
                "INSERT INTO orders (customer_id) VALUES (2), (8) RETURNING now()",
                "refused",
            ),
            (
                "RETURNING with ON CONFLICT",
                "INSERT INTO orders (customer_id) VALUES (2), (8) ON CONFLICT DO NOTHING RETURNING id",
                "refused",
            ),
            (
                "RETURNING with ON CONFLICT, on one shard",
                "INSERT INTO orders (customer_id) VALUES (2) ON CONFLICT DO NOTHING RETURNING id",
                "one shard: s2",
            ),
            (
                "a sequence",
                "INSERT INTO events (customer_id, body) VALUES (2, 'x')",
                "draw pg_catalog.nextval...",
            ),
            ("a sequence, said", "INSERT INTO events VALUES (DEFAULT, 2, 'x')", "draw pg_catalog.nextval..."),
            (
                "a sequence, called",
                "INSERT INTO events VALUES (nextval('s'), 2, 'x')",
                "draw pg_catalog.nextval...",
            ),
            ("a value instead", "INSERT INTO events VALUES (7, 2, 'x')", "one shard: s2"),
            (
                "ON CONFLICT by key",
                "INSERT INTO orders (customer_id, total) VALUES (2, 1) ON CONFLICT (customer_id) DO UPDATE SET total = excluded.total",
                "one shard: s2",
            ),
            (
                "ON CONFLICT without the key",
                "INSERT INTO customers (id, email) VALUES (2, 'x') ON CONFLICT (email) DO NOTHING",
                "refused",
            ),
            (
                "ON CONFLICT sets the key",
                "INSERT INTO orders (customer_id) VALUES (2) ON CONFLICT (customer_id) DO UPDATE SET customer_id = 3",
                "refused 0A000: cannot update sharding key...",
            ),
            (
                "an alias",
                "INSERT INTO orders AS o (customer_id) VALUES (2) ON CONFLICT (customer_id) DO UPDATE SET total = o.total + 1",
                "one shard: s2",
            ),
            (
                "a composite key",
                "INSERT INTO items VALUES ('c', 1, 2), ('a', 1, 3)",
                "split: union\n  s1: INSERT INTO items VALUES ('a', 1, 3)\n  s3: INSERT INTO items VALUES ('c', 1, 2)",
            ),
            (
                "no key",
                "INSERT INTO orders (id, total) VALUES (1, 2)",
                "refused 0A000: sharding key \"customer_id\" of table \"orders\" must be...",
            ),
            (
                "DEFAULT key",
                "INSERT INTO orders (customer_id) VALUES (DEFAULT)",
                "refused 0A000: sharding key...",
            ),
            ("DEFAULT VALUES", "INSERT INTO orders DEFAULT VALUES", "refused 0A000: sharding key..."),
            (
                "NULL key",
                "INSERT INTO orders (customer_id) VALUES (NULL)",
                "refused 0A000: sharding key \"customer_id\" of table \"orders\" must not be NULL...",
            ),
            (
                "an expression",
                "INSERT INTO orders (customer_id) VALUES (1 + 1)",
                "refused 0A000: sharding key...",
            ),
            ("a point", "INSERT INTO orders (customer_id) VALUES (2.0)", "refused 0A000: sharding key..."),
            (
                "a function",
                "INSERT INTO orders (customer_id) VALUES (abs(2))",
                "refused 0A000: sharding key...",
            ),
            (
                "not a number: the server says so",
                "INSERT INTO orders (customer_id) VALUES ('x')",
                "one shard: s0",
            ),
            (
                "out of range: the server says so",
                "INSERT INTO orders (customer_id) VALUES (99999999999999999999)",
                "one shard: s0",
            ),
            (
                "rows of uneven length, each good for its own shard",
                "INSERT INTO customers VALUES (1), (2, 'a'), (3)",
                "refused 42601: VALUES lists must all be the same length",
            ),
            ("too short a row", "INSERT INTO orders VALUES (1)", "refused"),
            ("blanks within varchar(20) are kept", "INSERT INTO labels VALUES ('c ')", "one shard: s3"),
            (
                "blanks that varchar(20) may cut",
                "INSERT INTO labels VALUES ('12345678901234567890 ')",
                "refused",
            ),
            (
                "nor where the distribution says text",
                "INSERT INTO tags VALUES ('12345678901234567890 ')",
                "refused",
            ),
            ("no blanks", "INSERT INTO labels VALUES ('c')", "one shard: s2"),
            ("numeric(10,2) rounds", "INSERT INTO prices VALUES (1.5)", "refused"),
            ("but not whole numbers", "INSERT INTO prices VALUES (2)", "one shard: s2"),
            ("equal is not the same", "INSERT INTO odd VALUES ('a')", "refused"),
            ("no facts, but columns: by key", "INSERT INTO future (id) VALUES (2)", "one shard: s2"),
            (
                "no facts, no columns",
                "INSERT INTO future VALUES (2)",
                "refused 42P01: relation \"future\" does not exist...",
            ),
            ("no facts, two shards", "INSERT INTO future (id) VALUES (2), (8)", "refused"),
            (
                "a query in a value",
                "INSERT INTO orders (customer_id, total) VALUES (2, (SELECT count(*) FROM customers WHERE id = 2))",
                "one shard: s2",
            ),
            (
                "a query in a value, elsewhere",
                "INSERT INTO orders (customer_id, total) VALUES (2, (SELECT count(*) FROM customers WHERE id = 3))",
                "refused",
            ),
            (
                "a query in a value, unlisted",
                "INSERT INTO orders (customer_id, total) VALUES (2, (SELECT count(*) FROM notes))",
                "refused",
            ),
            (
                "a query in a value, unlisted, there",
                "INSERT INTO orders (customer_id, total) VALUES (1, (SELECT count(*) FROM notes))",
                "one shard: s0",
            ),
            (
                "a reference table in a value",
                "INSERT INTO orders (customer_id, total) VALUES (2, (SELECT count(*) FROM countries))",
                "one shard: s2",
            ),
            ("a field of a column", "INSERT INTO orders (customer_id.x) VALUES (2)", "refused"),
            (
                "OVERRIDING",
                "INSERT INTO orders (customer_id) OVERRIDING SYSTEM VALUE VALUES (2)",
                "one shard: s2",
            ),
            ("a user's function", "INSERT INTO orders (customer_id, total) VALUES (2, refund(1))", "refused"),
            ("SELECT", "INSERT INTO orders SELECT * FROM orders WHERE customer_id = 2", "one shard: s2"),
            ("SELECT from elsewhere", "INSERT INTO orders (customer_id) SELECT id FROM notes", "refused"),
            ("TABLE", "INSERT INTO orders TABLE notes", "refused"),
            (
                "inside WITH",
                "WITH i AS (INSERT INTO orders (customer_id) VALUES (2) RETURNING *) SELECT * FROM i",
                "refused",
            ),
            ("WITH before it", "WITH x AS (SELECT 2) INSERT INTO orders (customer_id) VALUES (2)", "refused"),
            ("an unlisted table", "INSERT INTO notes VALUES (1), (2)", "one shard: s0"),
            (
                "an unlisted table, from orders there",
                "INSERT INTO notes SELECT id FROM orders WHERE customer_id = 1",
                "one shard: s0",
            ),
            (
                "an unlisted table, from orders elsewhere",
                "INSERT INTO notes SELECT id FROM orders WHERE customer_id = 2",
                "refused",
            ),
            ("a table on one shard", "INSERT INTO settings VALUES (1)", "one shard: s2"),
        ],
    );
}

#[test]
fn columns_of_sequences_are_drawn_first_and_put_into_the_text() {
    let id = r#"draw pg_catalog.nextval('"public"."id_seq"'::pg_catalog.regclass), then"#;
    let drawn = |text: &str| format!("{id}\n  {text}");
    let both = r#"draw pg_catalog.nextval('"public"."id_seq"'::pg_catalog.regclass), pg_catalog.nextval('"public"."number_seq"'::pg_catalog.regclass), then"#;
    let cases: Vec<(&str, &str, String)> = vec![
        (
            "the key is left out",
            "INSERT INTO tickets (title) VALUES ('a') RETURNING id",
            drawn("INSERT INTO tickets (title, \"id\") VALUES ('a', <1>) RETURNING id"),
        ),
        (
            "rows",
            "INSERT INTO tickets (title) VALUES ($1), (($2)), (lower('a,(b'))",
            drawn("INSERT INTO tickets (title, \"id\") VALUES ($1, <1>), (($2), <1>), (lower('a,(b'), <1>)"),
        ),
        (
            "DEFAULT",
            "INSERT INTO tickets VALUES (DEFAULT, 'a', DEFAULT)",
            drawn("INSERT INTO tickets VALUES (<1>, 'a', DEFAULT)"),
        ),
        (
            "DEFAULT in some rows",
            "INSERT INTO tickets (id, title) VALUES (DEFAULT, 'a'), (7, 'b'), (default, 'c')",
            drawn("INSERT INTO tickets (id, title) VALUES (<1>, 'a'), (7, 'b'), (<1>, 'c')"),
        ),
        (
            "only defaults",
            "INSERT INTO tickets DEFAULT VALUES RETURNING id",
            drawn("INSERT INTO tickets (\"id\") VALUES (<1>) RETURNING id"),
        ),
        (
            "an alias, and conflicts",
            "INSERT INTO public.tickets AS t (title) VALUES ('a') ON CONFLICT (id) DO UPDATE SET title = t.title",
            drawn("INSERT INTO public.tickets AS t (title, \"id\") VALUES ('a', <1>) ON CONFLICT (id) DO UPDATE SET title = t.title"),
        ),
        (
            "not the key",
            "INSERT INTO events (customer_id) VALUES (2)",
            drawn("INSERT INTO events (customer_id, \"id\") VALUES (2, <1>)"),
        ),
        (
            "fewer values than columns",
            "INSERT INTO parcels VALUES (7)",
            r#"draw pg_catalog.nextval('"public"."number_seq"'::pg_catalog.regclass), then
  INSERT INTO parcels ("id", "number") VALUES (7, <1>)"#
                .to_owned(),
        ),
        (
            "always",
            "INSERT INTO parcels (body) VALUES ('a')",
            format!("{both}\n  INSERT INTO parcels (body, \"id\", \"number\") OVERRIDING SYSTEM VALUE VALUES ('a', <1>, <2>)"),
        ),
        (
            "always, only defaults",
            "INSERT INTO parcels DEFAULT VALUES",
            format!("{both}\n  INSERT INTO parcels (\"id\", \"number\") OVERRIDING SYSTEM VALUE VALUES (<1>, <2>)"),
        ),
        (
            "whatever the user says",
            "INSERT INTO parcels (id, body) OVERRIDING USER VALUE VALUES (7, 'a')",
            format!("{both}\n  INSERT INTO parcels (id, body, \"number\") OVERRIDING SYSTEM VALUE VALUES (<1>, 'a', <2>)"),
        ),
        (
            "as the user says",
            "INSERT INTO parcels (id, number) OVERRIDING SYSTEM VALUE VALUES (2, 1)",
            "one shard: s2".to_owned(),
        ),
        (
            "nextval by hand",
            "INSERT INTO tickets (id, title) VALUES (nextval('a'), 'x'), (pg_catalog.nextval('a'::regclass), 'y')",
            "draw pg_catalog.nextval('a'::pg_catalog.regclass), then\n  INSERT INTO tickets (id, title) VALUES (<1>, 'x'), (<1>, 'y')".to_owned(),
        ),
        ("nextval of a parameter", "INSERT INTO tickets (id) VALUES (nextval($1))", "refused".to_owned()),
        ("nextval in an expression", "INSERT INTO tickets (id) VALUES (nextval('a') + 1)", "refused".to_owned()),
        ("nextval and DEFAULT", "INSERT INTO tickets (id) VALUES (nextval('a')), (DEFAULT)", "refused".to_owned()),
        ("twice in a row", "INSERT INTO tickets (id, total) VALUES (nextval('a'), nextval('a'))", "refused".to_owned()),
        ("a copied table", "INSERT INTO colors (name) VALUES ('red')", "draw pg_catalog.nextval('\"public\".\"code_seq\"'::pg_catalog.regclass), then\n  INSERT INTO colors (name, \"code\") VALUES ('red', <1>)".to_owned()),
        ("nothing is left out", "INSERT INTO tickets (id, title) VALUES (2, 'a')", "one shard: s2".to_owned()),
        ("uneven rows", "INSERT INTO tickets (title) VALUES ('a'), ('a', 1)", "refused".to_owned()),
        ("EXPLAIN", "EXPLAIN INSERT INTO tickets (title) VALUES ('a')", "refused".to_owned()),
        ("setval", "SELECT setval('tickets_id_seq', 10)", "one shard: s0".to_owned()),
        (
            "setval to what is there",
            "SELECT setval('tickets_id_seq', coalesce(max(id), 1)) FROM tickets",
            "gather on s0...".to_owned(),
        ),
        ("nextval for rows", "SELECT nextval('a'), id FROM tickets", "refused".to_owned()),
        ("nextval for rows of another shard", "SELECT nextval('a') FROM tickets WHERE id = 2", "refused".to_owned()),
    ];
    let cases: Vec<(&str, &str, &str)> =
        cases.iter().map(|(why, sql, plan)| (*why, *sql, plan.as_str())).collect();
    check(&herd(), &cases);
}

#[test]
fn defaults_and_moments_that_would_differ_are_drawn_once() {
    let cases: Vec<(&str, &str, &str)> = vec![
        (
            "a key by default",
            "INSERT INTO devices (label) VALUES ('a')",
            "draw CAST(gen_random_uuid() AS pg_catalog.uuid), then\n  INSERT INTO devices (label, \"id\") VALUES ('a', <1>)",
        ),
        (
            "only defaults",
            "INSERT INTO devices DEFAULT VALUES",
            "draw CAST(gen_random_uuid() AS pg_catalog.uuid), then\n  INSERT INTO devices (\"id\") VALUES (<1>)",
        ),
        ("one row", "INSERT INTO customers (id, name) VALUES (2, 'a')", "one shard: s2"),
        ("rows of one shard", "INSERT INTO customers (id, name) VALUES (1, 'a'), (4, 'b')", "one shard: s0"),
        (
            "rows of several",
            "INSERT INTO customers (id, name) VALUES (1, 'a'), (2, 'b')",
            "draw CAST(now() AS pg_catalog.timestamptz), then\n  \
             INSERT INTO customers (id, name, \"since\") VALUES (1, 'a', <1>), (2, 'b', <1>)",
        ),
        (
            "some by default, some at the moment",
            "INSERT INTO customers (id, since) VALUES (1, DEFAULT), (2, now())",
            "draw CAST(now() AS pg_catalog.timestamptz), pg_catalog.now(), then\n  \
             INSERT INTO customers (id, since) VALUES (1, <1>), (2, <2>)",
        ),
        ("nobody knows the default", "INSERT INTO probes (id) VALUES (1), (2)", "refused"),
        ("nobody knows it, on one shard", "INSERT INTO probes (id) VALUES (1), (4)", "one shard: s0"),
        (
            "a copied table's default",
            "INSERT INTO countries (code, name) VALUES ('DE', 'x')",
            "draw CAST(now() AS pg_catalog.timestamptz), then\n  \
             INSERT INTO countries (code, name, \"added\") VALUES ('DE', 'x', <1>)",
        ),
        (
            "a copied table's moment",
            "UPDATE countries SET added = now() WHERE code = 'DE'",
            "draw pg_catalog.now(), then\n  UPDATE countries SET added = <1> WHERE code = 'DE'",
        ),
        (
            "a condition",
            "DELETE FROM customers WHERE since < now() - interval '1 day' AND since < pg_catalog.now()",
            "draw pg_catalog.now(), then\n  DELETE FROM customers WHERE since < <1> - interval '1 day' AND since < <1>",
        ),
        ("a condition on one shard", "DELETE FROM customers WHERE id = 2 AND since < now()", "one shard: s2"),
        (
            "a count",
            "SELECT count(*) FROM customers WHERE since > CURRENT_DATE OR since > localtimestamp",
            "draw CURRENT_DATE, LOCALTIMESTAMP, then\n  SELECT count(*) FROM customers WHERE since > <1> OR since > <2>",
        ),
        (
            "of a join, and of an aggregate",
            "SELECT c.name, count(*) FILTER (WHERE c.since < now()) FROM customers c JOIN orders o ON o.id = c.id GROUP BY c.name",
            "draw pg_catalog.now(), then...",
        ),
        ("in the answer", "SELECT id, now() FROM customers WHERE since < now()", "gather on s0..."),
        ("in a query inside", "SELECT id FROM customers WHERE since < (SELECT now())", "gather on s0..."),
        ("by a name of its own", "SELECT id FROM customers WHERE since < x.now()", "not combined"),
        ("with a precision", "UPDATE customers SET since = current_timestamp(0)", "refused"),
        ("another clock", "UPDATE customers SET since = clock_timestamp()", "refused"),
        ("RETURNING it", "UPDATE customers SET since = now() RETURNING now()", "refused"),
        ("what is refused anyway", "UPDATE customers SET id = 1 WHERE since < now()", "refused"),
        ("a quoted column", "SELECT id FROM customers WHERE \"now\" = 1", "each of s0, s1, s2, s3: union"),
    ];
    check(&herd(), &cases);
}

#[test]
fn parameters_are_renumbered_in_each_part() {
    let herd = herd();
    let values: &[Option<&[u8]>] = &[Some(b"2"), Some(b"10"), Some(b"8"), Some(b"20"), Some(b"5")];
    let params = |types: &'static [u32]| Params { values, formats: &[], types };
    let sql = "INSERT INTO orders (customer_id, total) VALUES ($1, $2), ($3, $4) RETURNING total + $5";
    assert_eq!(
        plan_with(&herd, sql, params(&[])),
        "split: rows from parts 1 0\n  \
         s1: INSERT INTO orders (customer_id, total) VALUES ($1, $2) RETURNING total + $3  [$3, $4, $5]\n  \
         s2: INSERT INTO orders (customer_id, total) VALUES ($1, $2) RETURNING total + $3  [$1, $2, $5]"
    );
    let twice = "INSERT INTO orders (customer_id, total) VALUES ($1, $2), ($3, $2)";
    assert!(
        plan_with(&herd, twice, params(&[])).starts_with("refused"),
        "its type may come from its first use"
    );
    assert_eq!(
        plan_with(&herd, twice, params(&[20, 1700, 20])),
        "split: union\n  \
         s1: INSERT INTO orders (customer_id, total) VALUES ($1, $2)  [$3, $2]\n  \
         s2: INSERT INTO orders (customer_id, total) VALUES ($1, $2)  [$1, $2]"
    );
    let null: &[Option<&[u8]>] = &[None];
    let found = plan_with(
        &herd,
        "INSERT INTO orders (customer_id) VALUES ($1)",
        Params { values: null, formats: &[], types: &[] },
    );
    assert!(found.contains("must not be NULL"), "{found}");
    let binary: &[Option<&[u8]>] = &[Some(&[0, 0, 0, 0, 0, 0, 0, 2])];
    let one =
        |sql: &str, types: &[u32]| plan_with(&herd, sql, Params { values: binary, formats: &[1], types });
    assert_eq!(one("INSERT INTO orders (customer_id) VALUES ($1)", &[]), "one shard: s2");
    assert_eq!(one("INSERT INTO future (id) VALUES ($1)", &[20]), "one shard: s2");
    assert!(one("INSERT INTO future (id) VALUES ($1)", &[]).starts_with("refused"), "nobody knows its type");
    assert!(
        one("INSERT INTO orders (customer_id) VALUES ($1)", &[701]).starts_with("refused"),
        "a float is rounded"
    );
    assert!(one("INSERT INTO orders (customer_id, id) VALUES ($1, $1)", &[]).starts_with("refused"));
}

#[test]
fn a_long_values_list_is_planned_in_linear_time() {
    let herd = herd();
    let list = |rows: usize| {
        let rows: Vec<String> =
            (0..rows).map(|row| format!("(${}, ${})", 2 * row + 1, 2 * row + 2)).collect();
        format!("INSERT INTO orders (customer_id, total) VALUES {}", rows.join(", "))
    };
    let texts: Vec<Vec<u8>> = (0..60_000).map(|number: usize| number.to_string().into_bytes()).collect();
    let values: Vec<Option<&[u8]>> = texts.iter().map(|text| Some(text.as_slice())).collect();
    let started = std::time::Instant::now();
    let found = plan_with(&herd, &list(30_000), Params { values: &values, formats: &[], types: &[] });
    assert!(found.starts_with("split: union"));
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn reference_tables_are_written_the_same_everywhere_or_not_at_all() {
    let same = "each of s0, s1, s2, s3: same, first alone";
    check(
        &herd(),
        &[
            ("insert", "INSERT INTO currencies VALUES ('EUR', 1), ('USD', 2)", same),
            (
                "some columns",
                "INSERT INTO countries (code, name, added) VALUES ('DE', 'x', '2020-01-01')",
                same,
            ),
            (
                "a default that differs",
                "INSERT INTO countries (code, name) VALUES ('DE', 'x')",
                "draw CAST(now()...",
            ),
            (
                "a default that differs, said",
                "INSERT INTO countries VALUES ('DE', 'x', DEFAULT)",
                "draw CAST(now()...",
            ),
            ("now()", "INSERT INTO countries VALUES ('DE', 'x', now())", "draw pg_catalog.now(), then..."),
            ("'now'", "INSERT INTO countries VALUES ('DE', 'x', 'now')", "refused"),
            ("random()", "UPDATE currencies SET rate = random()", "refused"),
            ("update", "UPDATE currencies SET rate = rate * 2 WHERE code = 'EUR' RETURNING rate", same),
            ("update to a default", "UPDATE countries SET added = DEFAULT", "refused"),
            ("update from another", "UPDATE currencies SET rate = 1 FROM countries", "refused"),
            (
                "update by a query",
                "UPDATE currencies SET rate = 2 WHERE code IN (SELECT code FROM countries)",
                same,
            ),
            (
                "update by a query with LIMIT",
                "UPDATE currencies SET rate = 2 WHERE code IN (SELECT code FROM countries LIMIT 1)",
                "refused",
            ),
            (
                "update by a sharded table",
                "UPDATE currencies SET rate = 2 WHERE code IN (SELECT name FROM customers WHERE id = 2)",
                "refused",
            ),
            (
                "update by an unlisted table",
                "UPDATE currencies SET rate = 2 WHERE code IN (SELECT body FROM notes)",
                "refused",
            ),
            ("delete", "DELETE FROM currencies", same),
            (
                "delete using",
                "DELETE FROM currencies USING countries WHERE currencies.code = countries.code",
                same,
            ),
            (
                "on conflict",
                "INSERT INTO currencies VALUES ('EUR', 1) ON CONFLICT (code) DO UPDATE SET rate = excluded.rate",
                same,
            ),
            ("from another", "INSERT INTO currencies SELECT code, 1 FROM countries", same),
            (
                "from another, on conflict",
                "INSERT INTO currencies SELECT code, 1 FROM countries ON CONFLICT DO NOTHING",
                "refused",
            ),
            ("from another, all columns", "INSERT INTO currencies SELECT * FROM countries", "refused"),
            ("from a sharded table", "INSERT INTO currencies SELECT name, 1 FROM customers", "refused"),
            ("ctid", "DELETE FROM currencies WHERE ctid = '(0,1)'", "refused"),
            ("a user's function", "UPDATE currencies SET rate = refund(1)", "refused"),
            ("in WITH", "WITH x AS (DELETE FROM currencies RETURNING *) SELECT * FROM x", "refused"),
            ("after WITH", "WITH x AS (SELECT 1) DELETE FROM currencies", "refused"),
        ],
    );
}

#[test]
fn generated_rows_are_computed_everywhere_and_kept_where_they_belong() {
    check(
        &herd(),
        &[
            (
                "pgbench's",
                "insert into pgbench_tellers(tid,bid,tbalance) select tid, (tid - 1) / 10 + 1, 0 from generate_series(1, 10) as tid",
                "split: union\n  s0: insert into pgbench_tellers(tid,bid,tbalance) SELECT * FROM (select tid, (tid - 1) / 10 + 1, 0 from generate_series(1, 10) as tid) AS pgherd_rows (c1, c2, c3) WHERE ...",
            ),
            // Each shard evaluated these over its own rows.
            (
                "with a subquery on the target",
                "INSERT INTO orders (id, customer_id) SELECT (SELECT count(*) FROM orders), g FROM generate_series(1, 9) AS g",
                "refused",
            ),
            (
                "where the target lacks it",
                "INSERT INTO orders (customer_id) SELECT g FROM generate_series(1, 9) AS g WHERE g NOT IN (SELECT customer_id FROM orders)",
                "refused",
            ),
            (
                "with a TABLE in it",
                "INSERT INTO orders (customer_id) SELECT g FROM generate_series(1, 9) AS g WHERE EXISTS (TABLE orders)",
                "refused",
            ),
            (
                "the key computed",
                "INSERT INTO orders (id, customer_id) SELECT g, g % 100 + 1 FROM generate_series(1, 1000) AS g",
                "split: union...",
            ),
            (
                "the key cast",
                "INSERT INTO orders (customer_id) SELECT g::bigint FROM generate_series(1, 1000) AS t (g)",
                "split: union...",
            ),
            (
                "a string into text",
                "INSERT INTO customers (id, name, since) SELECT g, 'x', to_date('2020', 'YYYY') FROM generate_series(1, 9) AS g",
                "split: union...",
            ),
            (
                "a string into a timestamp would be text",
                "INSERT INTO customers (id, name, since) SELECT g, 'x', '2020-01-01' FROM generate_series(1, 9) AS g",
                "refused",
            ),
            (
                "a NULL would be text",
                "INSERT INTO orders (customer_id, total) SELECT g, NULL FROM generate_series(1, 9) AS g",
                "refused",
            ),
            (
                "a key that may be NULL",
                "INSERT INTO orders (customer_id) SELECT nullif(g, 1) FROM generate_series(1, 9) AS g",
                "refused",
            ),
            (
                "random",
                "INSERT INTO orders (customer_id, total) SELECT g, random() FROM generate_series(1, 9) AS g",
                "refused",
            ),
            (
                "now()",
                "INSERT INTO customers (id, since) SELECT g, now() FROM generate_series(1, 9) AS g",
                "refused",
            ),
            (
                "a default that differs",
                "INSERT INTO customers (id) SELECT g FROM generate_series(1, 9) AS g",
                "refused",
            ),
            (
                "a sequence",
                "INSERT INTO events (customer_id) SELECT g FROM generate_series(1, 9) AS g",
                "refused",
            ),
            (
                "a bound that is a parameter",
                "INSERT INTO orders (customer_id) SELECT g FROM generate_series(1, $1) AS g",
                "refused",
            ),
            (
                "LIMIT",
                "INSERT INTO orders (customer_id) SELECT g FROM generate_series(1, 9) AS g LIMIT 3",
                "refused",
            ),
            (
                "two series",
                "INSERT INTO orders (customer_id) SELECT g FROM generate_series(1, 9) AS g, generate_series(1, 2)",
                "refused",
            ),
            (
                "a table beside it",
                "INSERT INTO orders (customer_id) SELECT g FROM generate_series(1, 9) AS g, countries",
                "refused",
            ),
            (
                "RETURNING",
                "INSERT INTO orders (customer_id) SELECT g FROM generate_series(1, 9) AS g RETURNING id",
                "refused",
            ),
            ("a text key", "INSERT INTO labels (label) SELECT g FROM generate_series(1, 9) AS g", "refused"),
        ],
    );
}

#[test]
fn rows_are_inserted_where_they_are_read_when_they_keep_their_key() {
    let each = "each of s0, s1, s2, s3: union";
    check(
        &herd(),
        &[
            (
                "the key of another",
                "INSERT INTO orders (customer_id, total) SELECT id, 0 FROM customers",
                each,
            ),
            ("in another order", "INSERT INTO orders (total, customer_id) SELECT 0, id FROM customers", each),
            (
                "by key",
                "INSERT INTO orders (customer_id) SELECT id FROM customers WHERE id = 2",
                "one shard: s2",
            ),
            (
                "some",
                "INSERT INTO orders (customer_id) SELECT id FROM customers WHERE id IN (1, 2)",
                "each of s0, s2: union",
            ),
            ("all columns", "INSERT INTO orders SELECT * FROM orders WHERE paid", each),
            (
                "the key after *",
                "INSERT INTO orders (total, paid, id, customer_id) SELECT *, 1 FROM customers",
                "refused",
            ),
            ("RETURNING", "INSERT INTO orders (customer_id) SELECT id FROM customers RETURNING id", each),
            (
                "a conflict by key",
                "INSERT INTO orders (customer_id) SELECT id FROM customers ON CONFLICT (customer_id) DO UPDATE SET total = 1",
                each,
            ),
            (
                "a conflict without",
                "INSERT INTO orders (customer_id) SELECT id FROM customers ON CONFLICT (id) DO NOTHING",
                "refused",
            ),
            (
                "groups",
                "INSERT INTO orders (customer_id, id) SELECT customer_id, count(*) FROM orders GROUP BY 1",
                each,
            ),
            (
                "joined by key",
                "INSERT INTO orders (customer_id) SELECT c.id FROM customers c JOIN orders o ON o.customer_id = c.id",
                each,
            ),
            (
                "joined otherwise",
                "INSERT INTO orders (customer_id) SELECT c.id FROM customers c JOIN orders o ON o.id = c.id",
                "refused",
            ),
            (
                "the side that is filled up",
                "INSERT INTO orders (customer_id) SELECT o.customer_id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id",
                "refused",
            ),
            (
                "a copied table beside it",
                "INSERT INTO orders (customer_id) SELECT id FROM customers, countries",
                each,
            ),
            (
                "UNION",
                "INSERT INTO orders (customer_id) SELECT id FROM customers UNION SELECT customer_id FROM orders",
                each,
            ),
            ("LIMIT", "INSERT INTO orders (customer_id) SELECT id FROM customers LIMIT 3", "refused"),
            (
                "LIMIT, by key",
                "INSERT INTO orders (customer_id) SELECT id FROM customers WHERE id = 2 LIMIT 3",
                "one shard: s2",
            ),
            ("another column", "INSERT INTO orders (customer_id) SELECT total FROM orders", "refused"),
            ("computed", "INSERT INTO orders (customer_id) SELECT id + 1 FROM customers", "refused"),
            ("cast", "INSERT INTO orders (customer_id) SELECT id::integer FROM customers", "refused"),
            ("another place", "INSERT INTO orders (id, customer_id) SELECT id, 1 FROM customers", "refused"),
            (
                "another distribution",
                "INSERT INTO orders (customer_id) SELECT aid FROM pgbench_accounts",
                "refused",
            ),
            (
                "now() on one",
                "INSERT INTO customers (id, since) SELECT customer_id, now() FROM orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            (
                "now() on all",
                "INSERT INTO customers (id, since) SELECT customer_id, now() FROM orders",
                "refused",
            ),
            (
                "a default that differs",
                "INSERT INTO customers (id) SELECT customer_id FROM orders",
                "refused",
            ),
            (
                "a default that differs, behind",
                "INSERT INTO customers SELECT customer_id FROM orders",
                "refused",
            ),
            (
                "a default that differs, on one",
                "INSERT INTO customers (id) SELECT customer_id FROM orders WHERE customer_id = 2",
                "one shard: s2",
            ),
            ("a number for the key", "INSERT INTO tickets (id, title) SELECT id, name FROM customers", each),
            ("a sequence", "INSERT INTO tickets (title) SELECT name FROM customers", "refused"),
            ("two columns", "INSERT INTO items SELECT shop, number FROM items", each),
            (
                "two columns, exchanged",
                "INSERT INTO items (number, shop) SELECT number, shop FROM items",
                each,
            ),
            ("one of two", "INSERT INTO items SELECT shop, 1 FROM items", "refused"),
            ("rounded", "INSERT INTO prices SELECT price FROM prices", each),
            (
                "a table on one shard",
                "INSERT INTO orders (customer_id) SELECT c.id FROM customers c, settings",
                "refused",
            ),
            ("a parameter", "INSERT INTO orders (customer_id, total) SELECT id, $1 FROM customers", each),
        ],
    );
}

#[test]
fn copy_is_split_by_row_and_reads_its_options() {
    let by = "copy rows to s0, s1, s2, s3 by column";
    let cases = [
        ("all columns", "COPY orders FROM STDIN", "# 2 of 4 (text)"),
        ("some columns", "COPY orders (customer_id, total) FROM STDIN", "# 1 of 2 (text)"),
        ("pgbench's", "copy pgbench_accounts from stdin with (freeze on)", "# 1 of 4 (text)"),
        (
            "csv",
            "COPY orders FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'x', QUOTE '''', ESCAPE E'\\\\')",
            "# 2 of 4 (csv)",
        ),
        (
            "csv, long ago",
            "COPY orders FROM STDIN WITH CSV HEADER DELIMITER AS ';' QUOTE AS '\"' FORCE NOT NULL id",
            "# 2 of 4 (csv)",
        ),
        (
            "delimiters, longer ago",
            "COPY orders FROM STDIN USING DELIMITERS '|' WITH NULL AS ''",
            "# 2 of 4 (text)",
        ),
        ("binary", "COPY orders FROM STDIN (FORMAT 'binary')", "# 2 of 4 (binary)"),
        ("binary, long ago", "COPY BINARY orders FROM STDIN", "# 2 of 4 (binary)"),
        ("header that must match", "COPY orders FROM STDIN (FORMAT csv, HEADER match)", "# 2 of 4 (csv)"),
        ("a composite key", "COPY items (number, price, shop) FROM STDIN", "# 3, 1 of 3 (text)"),
        ("utf8", "COPY orders FROM STDIN (ENCODING 'UTF-8')", "# 2 of 4 (text)"),
        ("another encoding", "COPY orders FROM STDIN (ENCODING 'latin1')", "refused"),
        ("an unknown option", "COPY orders FROM STDIN (ON_ERROR ignore)", "refused"),
        ("an unknown format", "COPY orders FROM STDIN (FORMAT parquet)", "refused"),
        ("a long delimiter", "COPY orders FROM STDIN (DELIMITER 'ab')", "refused"),
        ("WHERE", "COPY orders FROM STDIN WHERE paid", "refused"),
        ("no key", "COPY orders (id) FROM STDIN", "refused"),
        ("a sequence", "COPY events (customer_id, body) FROM STDIN", "refused"),
        ("a default that differs", "COPY customers (id, name) FROM STDIN", "refused"),
        ("rounding keys", "COPY prices FROM STDIN", "refused"),
        ("equal is not the same", "COPY odd FROM STDIN", "refused"),
        ("a file", "COPY orders FROM '/tmp/x'", "refused"),
        ("a program", "COPY orders TO PROGRAM 'x'", "refused"),
        ("no facts", "COPY future FROM STDIN", "refused 42P01: relation \"future\" does not exist..."),
        ("a view", "COPY order_totals TO STDOUT", "refused"),
        ("a reference table", "COPY currencies FROM STDIN", "copy every row to s0, s1, s2, s3"),
        ("a reference table with a default", "COPY countries (code) FROM STDIN", "refused"),
        ("out", "COPY orders TO STDOUT", "copy out of s0, s1, s2, s3 (text)"),
        (
            "out, with a header",
            "COPY orders TO STDOUT (FORMAT csv, HEADER)",
            "copy out of s0, s1, s2, s3 (csv, one header)",
        ),
        ("out of a reference table", "COPY currencies TO STDOUT", "any shard"),
        ("out of a query", "COPY (SELECT * FROM orders WHERE customer_id = 2) TO STDOUT", "one shard: s2"),
        (
            "out of a query over all",
            "COPY (SELECT * FROM orders) TO STDOUT",
            "copy out of s0, s1, s2, s3 (text)",
        ),
        (
            "out of a query, with a header",
            "COPY (SELECT id FROM orders WHERE customer_id IN (1, 2)) TO STDOUT (FORMAT csv, HEADER)",
            "copy out of s0, s2 (csv, one header)",
        ),
        (
            "out of a query in order",
            "COPY (SELECT id FROM orders WHERE paid ORDER BY id) TO STDOUT WITH (DELIMITER '|')",
            "gather on any shard\n  pgherd_g1 from s0, s1, s2, s3: SELECT \"id\", \"paid\" FROM \"public\".\"orders\"\n  \
             then COPY (SELECT id FROM pg_temp.pgherd_g1 AS \"orders\" WHERE paid ORDER BY id) TO STDOUT WITH (DELIMITER '|')",
        ),
        ("out of a count", "COPY (SELECT count(*) FROM orders) TO STDOUT", "gather on any shard..."),
        (
            "out of a query, unknown option",
            "COPY (SELECT * FROM orders) TO STDOUT (NOSUCH)",
            "gather on any shard...",
        ),
        ("out of a query to a file", "COPY (SELECT * FROM orders) TO '/tmp/x'", "refused"),
        (
            "out of a query in order to a file",
            "COPY (SELECT * FROM orders ORDER BY id) TO '/tmp/x'",
            "refused",
        ),
        ("out of a write", "COPY (DELETE FROM orders RETURNING *) TO STDOUT", "refused"),
        ("out of locked rows", "COPY (SELECT * FROM orders FOR UPDATE) TO STDOUT", "refused"),
        ("out of a query of a user", "COPY (SELECT refund(2)) TO STDOUT", "refused"),
        ("an unlisted table", "COPY notes FROM STDIN", "one shard: s0"),
        ("a table on one shard", "COPY settings TO STDOUT", "one shard: s2"),
    ];
    let cases: Vec<(&str, &str, String)> =
        cases.iter().map(|(why, sql, plan)| (*why, *sql, plan.replace('#', by))).collect();
    let cases: Vec<(&str, &str, &str)> =
        cases.iter().map(|(why, sql, plan)| (*why, *sql, plan.as_str())).collect();
    check(&herd(), &cases);
}
