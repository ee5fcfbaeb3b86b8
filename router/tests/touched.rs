//! What a statement touches: exactly the slots of its keys where they are known, and never less than its plan reads or writes.

mod house;

use house::*;
use pgherd_router::Topology;
use pgherd_router::hash::slot;
use pgherd_router::plan::Params;
use pgherd_router::touch::{Held, Touched};
use pgherd_router::value::KeyValue;

const LAST: u16 = 16383;

fn touched(sql: &str) -> Touched {
    let topology = herd();
    let touched = Touched::default();
    let statements = parse(&topology, sql);
    let [statement] = &statements[..] else { panic!("{sql}") };
    let plan =
        statement.template.plan_touching(&topology, sql, &statement.literals, Params::default(), &touched);
    plan.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    touched
}

fn slots(distribution: u16, from: u16, to: u16) -> Held {
    Held::Slots { distribution, from, to }
}

#[test]
fn a_statement_touches_the_slots_of_its_keys_and_no_others() {
    let one = [
        "SELECT * FROM customers WHERE id = 7",
        "UPDATE customers SET name = 'x' WHERE id = 7",
        "DELETE FROM orders WHERE customer_id = 7 AND paid",
        "INSERT INTO customers (id, name) VALUES (7, 'x')",
        "SELECT * FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = 7",
        "SELECT * FROM customers WHERE id IN (7)",
    ];
    let key = slot(&[KeyValue::Integer(7)]);
    for sql in one {
        let touched = touched(sql);
        assert!(touched.meets(&slots(0, key, key)), "{sql}");
        assert!(!touched.meets(&slots(0, 0, key - 1)), "{sql}");
        assert!(!touched.meets(&slots(0, key + 1, LAST)), "{sql}");
        assert!(!touched.meets(&Held::Distribution(1)), "{sql}");
        assert!(touched.meets(&Held::Everything), "{sql}");
    }
    let several = [
        "SELECT * FROM customers WHERE id IN (7, 8)",
        "INSERT INTO orders (id, customer_id, total, paid) VALUES (1, 7, 0, true), (2, 8, 0, true)",
    ];
    for sql in several {
        let touched = touched(sql);
        let other = slot(&[KeyValue::Integer(8)]);
        assert!(touched.meets(&slots(0, key, key)) && touched.meets(&slots(0, other, other)), "{sql}");
        assert!(!touched.meets(&Held::Distribution(1)), "{sql}");
        let between = (key.min(other) + 1, key.max(other) - 1);
        assert!(!touched.meets(&slots(0, between.0, between.1)), "{sql}");
    }
}

#[test]
fn a_statement_without_a_key_touches_a_whole_distribution_or_everything() {
    let whole = [
        "SELECT count(*) FROM customers",
        "UPDATE orders SET paid = true",
        "SELECT * FROM customers WHERE id > 5",
        "COPY orders (id, customer_id, total, paid) FROM STDIN",
    ];
    for sql in whole {
        let touched = touched(sql);
        assert!(touched.meets(&slots(0, 0, 0)) && touched.meets(&slots(0, LAST, LAST)), "{sql}");
        assert!(!touched.meets(&Held::Distribution(1)), "{sql}");
    }
    let everything = [
        "ALTER TABLE customers ADD COLUMN x integer",
        "TRUNCATE orders",
        "UPDATE countries SET name = 'x' WHERE code = 'de'",
        "COPY customers TO STDOUT",
        "/* pgherd: shard=s1 */ SELECT * FROM customers",
        "/* pgherd: key=7 distribution=customer */ SELECT 1",
    ];
    for sql in everything {
        let touched = touched(sql);
        for distribution in 0..5 {
            assert!(touched.meets(&slots(distribution, 9, 9)), "{sql}");
        }
    }
    for sql in [
        "SELECT 1",
        "SELECT * FROM countries",
        "SELECT * FROM settings",
        "INSERT INTO notes VALUES (1)",
        "SET search_path = a",
    ] {
        assert!(touched(sql).is_empty(), "{sql}");
    }
}

/// A statement that waits while a shard joins is planned with the next version, from its whole text. With a prepared statement of
/// pgbench's that was refused: the parser stood before its semicolon.
#[test]
fn a_template_of_an_earlier_version_gives_the_plan_that_a_new_one_would() {
    let (before, after) = (herd(), Topology { version: 2, ..herd() });
    let texts = [
        "SELECT * FROM customers WHERE id = 7;",
        "SELECT * FROM customers WHERE id = 7 ; ",
        "UPDATE customers SET name = ';' WHERE id = 7;",
        "SELECT count(*) FROM customers;",
        "SELECT * FROM customers WHERE id = 7",
        "ALTER TABLE customers ADD COLUMN x integer;",
    ];
    for sql in texts {
        let old = parse(&before, sql);
        let new = parse(&after, sql);
        let ([old], [new]) = (&old[..], &new[..]) else { panic!("{sql}") };
        let (touched, again) = (Touched::default(), Touched::default());
        let plan = |of: &pgherd_router::plan::Statement, touched: &Touched| {
            of.template.plan_touching(&after, sql, &of.literals, Params::default(), touched)
        };
        let expected = plan(new, &touched);
        assert!(expected.is_ok(), "{sql}: {expected:?}");
        assert_eq!(plan(old, &again), expected, "{sql}");
        for distribution in 0..5 {
            let held = Held::Distribution(distribution);
            assert_eq!(again.meets(&held), touched.meets(&held), "{sql}");
        }
    }
}
