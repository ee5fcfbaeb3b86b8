//! Whatever a client sends: an answer, never a panic, and never a stack overflow.

mod house;

use house::{herd, plan};

const SEEDS: &[&str] = &[
    "SELECT a.*, count(*) FROM orders o LEFT JOIN customers c ON (c.id = o.customer_id) WHERE o.customer_id IN (1, '2', $3) ORDER BY 1 LIMIT 5",
    "INSERT INTO orders (customer_id, total) VALUES (1, 'x'), ($1, $2::int) ON CONFLICT (customer_id) DO UPDATE SET total = excluded.total RETURNING *",
    "INSERT INTO pgbench_accounts SELECT aid, (aid - 1) / 10, 0, '' FROM generate_series(1, 10) AS aid",
    "WITH RECURSIVE x (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM x) UPDATE orders SET (total, paid) = (1, DEFAULT) WHERE customer_id = 2",
    "DELETE FROM ONLY orders USING countries WHERE orders.customer_id = -5 AND E'\\n' = $$x$$ RETURNING ctid",
    "COPY public.orders (id, customer_id) FROM STDIN WITH (FORMAT csv, DELIMITER ',', FORCE_NULL (id), HEADER)",
    "CREATE UNIQUE INDEX CONCURRENTLY i ON orders USING btree (lower(id)) WHERE total > 5",
    "ALTER TABLE orders ADD COLUMN x int DEFAULT now() REFERENCES customers (id), DROP CONSTRAINT y, RENAME TO z",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END; SELECT 2",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM orders; FETCH BACKWARD ALL IN c",
    "/* pgherd: key=5 distribution=customer */ GRANT SELECT (a, b) ON TABLE orders, notes TO PUBLIC",
    "EXPLAIN (ANALYZE, BUFFERS off) SELECT U&\"a\", U&'b' UESCAPE '!', 0x1F, 1_000, 1.5e-3 FROM items",
    "VACUUM (FULL, ANALYZE) orders (id), customers; TRUNCATE ONLY orders *, countries CASCADE",
];

/// A small generator, so that a failure can be repeated from its printed number.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[test]
fn broken_statements_are_planned_or_refused() {
    let herd = herd();
    let pieces = [
        "(",
        ")",
        ",",
        ";",
        "'",
        "\"",
        "$$",
        "$1",
        "--",
        "/*",
        "*/",
        " ",
        "\n",
        ".",
        "::",
        "=",
        "1",
        "NULL",
        "AND",
        "OR",
        "orders",
        "customers",
        "customer_id",
        "SELECT",
        "FROM",
        "WHERE",
        "VALUES",
        "AS",
        "ON",
        "JOIN",
        "ü",
        "\u{0}",
        "[",
        "]",
        "\\",
        "E'",
        "-",
        "INSERT INTO",
        "UNION",
        "WITH",
        "ONLY",
        "IN",
        "NOT",
        "CASE",
        "END",
        "DEFAULT",
        "public",
        "refund",
        "order_totals",
        "%",
    ];
    let mut random = Random(42);
    for round in 0..30_000 {
        let mut sql = SEEDS[random.below(SEEDS.len())].to_owned();
        for _ in 0..random.below(4) {
            let mut at = random.below(sql.len() + 1);
            while !sql.is_char_boundary(at) {
                at -= 1;
            }
            match random.below(4) {
                0 => sql.truncate(at),
                1 => sql = sql.split_off(at),
                2 => sql.insert_str(at, pieces[random.below(pieces.len())]),
                _ => {
                    let rest = sql.split_off(at);
                    let mut skip = random.below(rest.len().min(20) + 1);
                    while !rest.is_char_boundary(skip) {
                        skip += 1;
                    }
                    sql.push_str(&rest[skip..]);
                }
            }
        }
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| plan(&herd, &sql)));
        assert!(found.is_ok(), "round {round}: {sql}");
    }
}

#[test]
fn every_beginning_of_a_statement_is_planned_or_refused() {
    let herd = herd();
    for sql in SEEDS {
        for end in (0..=sql.len()).filter(|end| sql.is_char_boundary(*end)) {
            plan(&herd, &sql[..end]);
            plan(&herd, &sql[end..]);
        }
    }
}

/// The stack of a Tokio worker, or of `std::thread`: what pgherd's workers have at least.
const STACK_BYTES: usize = 2 << 20;

#[test]
fn deep_statements_do_not_overflow_the_stack() {
    let deep = [
        format!("SELECT {}1{} FROM orders", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT * FROM orders WHERE {} paid", "NOT ".repeat(20_000)),
        format!("SELECT * FROM orders WHERE {} paid", "paid OR ".repeat(20_000)),
        format!("SELECT * FROM orders WHERE total = {}1", "1 + ".repeat(20_000)),
        format!("SELECT * FROM orders WHERE total = {}1", "- ".repeat(20_000)),
        format!("SELECT 1{} FROM orders", "::int".repeat(20_000)),
        format!("SELECT a{} FROM orders", "[1]".repeat(20_000)),
        format!("SELECT {}1{} FROM orders", "CASE WHEN true THEN ".repeat(20_000), " END".repeat(20_000)),
        format!("SELECT {}1{} FROM orders", "f(".repeat(20_000), ")".repeat(20_000)),
        format!("{}SELECT 1{} FROM orders", "SELECT (".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT * FROM {}orders{}", "(SELECT * FROM ".repeat(20_000), ") x".repeat(20_000)),
        format!("SELECT * FROM orders {}", "JOIN orders ON true ".repeat(20_000)),
        format!("SELECT * FROM {}orders{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT 1 FROM orders {}", "UNION SELECT 1 FROM orders ".repeat(20_000)),
        format!("{}SELECT 1 FROM orders{}", "WITH x AS (".repeat(20_000), ") SELECT 1".repeat(20_000)),
        format!("SELECT a{} FROM orders", ".b".repeat(20_000)),
        format!("SELECT * FROM orders WHERE a {}", "IS NULL ".repeat(20_000)),
        format!("SELECT * FROM orders WHERE a {} 1", "BETWEEN 1 AND ".repeat(20_000)),
        format!("SELECT * FROM orders WHERE a {} 'x'", "COLLATE \"C\" LIKE ".repeat(20_000)),
        format!("SELECT * FROM orders WHERE a {} 'x'", "AT TIME ZONE ".repeat(20_000)),
        format!("CREATE TABLE orders {}", "(".repeat(20_000)),
        format!("COPY {}SELECT 1", "(".repeat(20_000)),
        "EXPLAIN ".repeat(20_000),
        format!("INSERT INTO orders VALUES {}1", "(".repeat(20_000)),
        format!("SELECT ARRAY{}1{} FROM orders", "[".repeat(20_000), "]".repeat(20_000)),
        format!("SELECT x -> {}'a' FROM orders", "x -> ".repeat(20_000)),
        format!(
            "SELECT * FROM orders WHERE {}paid{}",
            "EXISTS (SELECT 1 WHERE ".repeat(20_000),
            ")".repeat(20_000)
        ),
        format!("SELECT {}1{} FROM orders", "POSITION(".repeat(90), ")".repeat(90)),
        format!("SELECT {}1{} FROM orders", "x IN ((".repeat(45), "))".repeat(45)),
        format!("SELECT {} FROM orders", "a int array ".repeat(20_000)),
        format!("SELECT a::int{} FROM orders", "[]".repeat(20_000)),
    ];
    let planned = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let herd = herd();
        for sql in &deep {
            plan(&herd, sql);
        }
        // Just below the limits: these are understood, walked and dropped.
        for depth in [1, 10, 20, 100, 200, 390] {
            let or = format!("SELECT * FROM orders WHERE {}paid", "paid OR ".repeat(depth));
            assert_eq!(plan(&herd, &or), "each of s0, s1, s2, s3: union", "{depth} times OR");
            plan(&herd, &format!("SELECT {}1{} FROM orders", "(".repeat(depth), ")".repeat(depth)));
            plan(&herd, &format!("SELECT {}1{} FROM orders", "f(".repeat(depth), ")".repeat(depth)));
            plan(
                &herd,
                &format!("SELECT * FROM {}orders{}", "(SELECT * FROM ".repeat(depth), ") x".repeat(depth)),
            );
            plan(&herd, &format!("SELECT 1 FROM orders {}", "UNION SELECT 1 FROM orders ".repeat(depth)));
            plan(
                &herd,
                &format!(
                    "SELECT * FROM orders WHERE {}paid{}",
                    "EXISTS (SELECT 1 WHERE ".repeat(depth),
                    ")".repeat(depth)
                ),
            );
        }
    });
    planned.unwrap().join().unwrap();
}
