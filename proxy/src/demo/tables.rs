//! What the demo keeps in its servers: which tables are sharded, how, and a few rows to play with.
//!
//! Invariant: the configuration that pgherd reads and the proof that judges it are made from one list.
//!
//! Not here: the rows of pgbench's own tables; pgbench makes them.

use std::fmt::Write;

use super::servers::{APP_ROLE, CONTROL_ROLE};

/// A table spread over the shards by the hash of one column.
#[derive(Debug, Clone, Copy)]
pub struct Sharded {
    pub name: &'static str,
    pub distribution: &'static str,
    pub key: &'static str,
    pub key_type: &'static str,
}

const fn sharded(
    name: &'static str,
    distribution: &'static str,
    key: &'static str,
    key_type: &'static str,
) -> Sharded {
    Sharded { name, distribution, key, key_type }
}

pub const ACCOUNTS: Sharded = sharded("pgbench_accounts", "account", "aid", "integer");
pub const HISTORY: Sharded = sharded("pgbench_history", "account", "aid", "integer");
pub const TELLERS: Sharded = sharded("pgbench_tellers", "teller", "tid", "integer");
pub const BRANCHES: Sharded = sharded("pgbench_branches", "branch", "bid", "integer");
pub const CUSTOMERS: Sharded = sharded("customers", "customer", "id", "bigint");
pub const ORDERS: Sharded = sharded("orders", "customer", "customer_id", "bigint");

/// pgbench's tables. Its transaction changes one account, one teller and one branch, each with a key of its
/// own, and so usually rows on two or three shards.
pub const PGBENCH: [Sharded; 4] = [ACCOUNTS, HISTORY, TELLERS, BRANCHES];

/// Tables for whoever comes with psql.
pub const PLAYGROUND: [Sharded; 2] = [CUSTOMERS, ORDERS];

/// A copy on every shard.
pub const REFERENCE: &str = "countries";

pub const CUSTOMERS_COUNT: usize = 2_000;
pub const ORDERS_PER_CUSTOMER: usize = 5;

/// As the configuration names it.
pub fn shard_name(server: usize) -> String {
    format!("s{server}")
}

/// The file that pgherd serves: a shard at each of `addresses`. Passwords come from the environment, see
/// [`Herd::env`](super::servers::Herd::env).
pub fn configuration(database: &str, addresses: &[String], port: u16) -> String {
    let mut text = format!(
        r#"# Written by `pgherd demo`; gone when the demo ends.
[server]
listen = ["127.0.0.1:{port}"]

[auth]
method = "scram-sha-256"

[[users]]
name = "{APP_ROLE}"
password = "env:APP_PASSWORD"

[databases.{database}]
control = {{ user = "{CONTROL_ROLE}", password = "env:PGHERD_PASSWORD" }}
"#
    );
    for (server, primary) in addresses.iter().enumerate() {
        let name = shard_name(server);
        line(
            &mut text,
            &format!("\n[[databases.{database}.shards]]\nname = \"{name}\"\nprimary = \"{primary}\""),
        );
    }
    let all = || PGBENCH.iter().chain(&PLAYGROUND);
    let mut known = Vec::new();
    for Sharded { distribution, key_type, .. } in all() {
        if !known.contains(distribution) {
            known.push(*distribution);
            let header = format!("[databases.{database}.distributions.{distribution}]");
            line(&mut text, &format!("\n{header}\nby = \"hash\"\ntype = \"{key_type}\""));
        }
    }
    line(&mut text, &format!("\n[databases.{database}.tables]"));
    for Sharded { name, distribution, key, .. } in all() {
        line(&mut text, &format!("{name} = {{ distribution = \"{distribution}\", key = \"{key}\" }}"));
    }
    line(&mut text, &format!("{REFERENCE} = {{ reference = true }}"));
    text
}

/// Customers, their orders, and countries: one psql script, run through pgherd.
pub fn playground_script() -> String {
    let mut script = String::from(
        "CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, country text NOT NULL REFERENCES countries);
CREATE TABLE orders (
    customer_id bigint NOT NULL REFERENCES customers,
    number integer NOT NULL,
    amount numeric(10, 2) NOT NULL,
    PRIMARY KEY (customer_id, number)
);
INSERT INTO countries (code, name) VALUES
    ('DE', 'Germany'), ('FR', 'France'), ('IN', 'India'), ('JP', 'Japan'), ('KE', 'Kenya'), ('PE', 'Peru');
COPY customers (id, name, country) FROM STDIN;
",
    );
    const COUNTRIES: [&str; 6] = ["DE", "FR", "IN", "JP", "KE", "PE"];
    const NAMES: [&str; 7] = ["Ada", "Bela", "Chandra", "Dora", "Emeka", "Fumiko", "Gil"];
    for id in 1..=CUSTOMERS_COUNT {
        line(
            &mut script,
            &format!("{id}\t{} {id}\t{}", NAMES[id % NAMES.len()], COUNTRIES[id % COUNTRIES.len()]),
        );
    }
    line(&mut script, "\\.\nCOPY orders (customer_id, number, amount) FROM STDIN;");
    for id in 1..=CUSTOMERS_COUNT {
        for number in 1..=ORDERS_PER_CUSTOMER {
            // Any amounts will do, as long as they are the same in every run.
            line(
                &mut script,
                &format!("{id}\t{number}\t{}.{:02}", (id * 37 + number * 11) % 500, (id + number) % 100),
            );
        }
    }
    line(&mut script, "\\.");
    script
}

/// Statements to try, shown at the end.
pub const TO_TRY: [&str; 5] = [
    "SELECT * FROM orders WHERE customer_id = 42;",
    "SELECT c.name, o.number, o.amount FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = 42;",
    "SELECT count(*), sum(amount) FROM orders;",
    "BEGIN; UPDATE orders SET amount = amount + 1 WHERE customer_id IN (1, 2, 3); COMMIT;",
    "SELECT rank() OVER (ORDER BY amount), * FROM orders LIMIT 5;  -- finished by one of them",
];

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgherd_accepts_the_file_that_the_demo_writes() {
        let addresses: Vec<_> = (0..4).map(|n| format!("postgres://127.0.0.1:2000{n}/demo")).collect();
        let text = configuration("demo", &addresses, 6432);
        let config = pgherd_config::parse(&text, "demo.toml")
            .unwrap_or_else(|problems| panic!("{text}\n{}", problems.lines().collect::<Vec<_>>().join("\n")));
        let database = &config.databases[0];
        assert_eq!(database.shards.len(), 4);
        assert_eq!(database.distributions.len(), 4);
        assert_eq!(database.tables.len(), PGBENCH.len() + PLAYGROUND.len() + 1);
    }
}
