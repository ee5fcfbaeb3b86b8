//! Statements from a grammar and a seed.
//!
//! The grammar knows the tables of `schema.sql` and makes statements that PostgreSQL mostly accepts, around what routing looks
//! at: conditions on keys of every form, joins with and without them, aggregates, writes of several rows.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::judge::Tally;
use super::script::{self, Mode};
use super::world::World;

struct Table {
    name: &'static str,
    key: &'static [&'static str],
    /// Of the key's columns, one list each.
    keys: &'static [&'static [&'static str]],
    /// Column, values.
    columns: &'static [(&'static str, &'static [&'static str])],
}

const NUMBERS: &[&str] =
    &["1", "2", "3", "7", "9", "10", "42", "-1", "0", "100", "4294967296", "55", "56", "57", "58"];
const TEXTS: &[&str] =
    &["'a'", "'b'", "'A'", "''", "'ä'", "'pen'", "'日本'", "'it''s'", "'x y'", "NULL", "E'\\x61'", "$$a$$"];
const SMALL: &[&str] = &["0", "1", "2", "3", "5", "NULL", "-4"];
const AMOUNTS: &[&str] = &["0", "1.5", "10.00", "-3.25", "NULL", "99.99", "1e2"];

const TABLES: &[Table] = &[
    Table {
        name: "customers",
        key: &["id"],
        keys: &[NUMBERS],
        columns: &[
            ("name", TEXTS),
            ("country", &["'DE'", "'FR'", "NULL"]),
            ("balance", AMOUNTS),
            ("note", TEXTS),
            ("\"Mixed Case\"", SMALL),
            ("active", &["true", "false", "NULL"]),
        ],
    },
    Table {
        name: "orders",
        key: &["customer_id"],
        keys: &[NUMBERS],
        columns: &[
            ("number", &["1", "2", "3", "101", "102", "103"]),
            ("amount", AMOUNTS),
            ("item", TEXTS),
            ("qty", &["0", "1", "2", "3", "NULL"]),
        ],
    },
    Table { name: "hollow", key: &["id"], keys: &[NUMBERS], columns: &[("v", SMALL), ("t", TEXTS)] },
    Table {
        name: "small",
        key: &["k"],
        keys: &[&["1", "2", "7", "-7", "8", "9", "2147483647", "2147483648"]],
        columns: &[("v", TEXTS), ("w", NUMBERS)],
    },
    Table {
        name: "words",
        key: &["word"],
        keys: &[&[
            "'a'",
            "'b'",
            "'ä'",
            "'日本'",
            "'it''s'",
            "E'it\\'s'",
            "''",
            "' '",
            "$$a$$",
            "'gen1'",
            "'gen2'",
            "'gen3'",
        ]],
        columns: &[("n", SMALL), ("lang", TEXTS)],
    },
    Table {
        name: "metrics",
        key: &["tenant", "day_no"],
        keys: &[&["'acme'", "'beta'", "''", "'gen'"], &["1", "2", "3", "-1", "0", "9"]],
        columns: &[("value", &["0", "1.5", "NULL", "2"]), ("note", TEXTS)],
    },
    Table {
        name: "\"Upper\"",
        key: &["\"Id\""],
        keys: &[&["1", "2", "3", "10", "11", "12"]],
        columns: &[("\"select\"", TEXTS), ("id", SMALL), ("\"from\"", SMALL)],
    },
    Table { name: "depot.events", key: &["customer_id"], keys: &[NUMBERS], columns: &[("payload", TEXTS)] },
    Table {
        name: "devices",
        key: &["id"],
        keys: &[&[
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
            "'{FFFFFFFF-ffff-ffff-ffff-ffffffffffff}'",
            "'e0000000-0000-0000-0000-000000000001'",
        ]],
        columns: &[("label", TEXTS), ("info", &["'{}'", "'{\"a\": 1}'", "NULL"])],
    },
    Table {
        name: "countries",
        key: &[],
        keys: &[],
        columns: &[
            ("code", &["'DE'", "'FR'", "'G1'", "'G2'"]),
            ("name", &["'x'", "'y'"]),
            ("rank", &["1", "2", "3"]),
        ],
    },
    Table { name: "logs", key: &[], keys: &[], columns: &[("msg", TEXTS), ("level", SMALL)] },
    Table {
        name: "settings",
        key: &[],
        keys: &[],
        columns: &[("key", &["'color'", "'size'", "'g'"]), ("value", TEXTS)],
    },
];

struct Maker {
    random: StdRng,
}

impl Maker {
    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        let at = self.below(list.len());
        list[at]
    }

    fn table(&mut self) -> &'static Table {
        // Mostly the sharded ones, and mostly those that are joined.
        match self.below(4) {
            0 => &TABLES[0],
            1 => &TABLES[1],
            _ => &TABLES[self.below(TABLES.len())],
        }
    }

    fn column(&mut self, table: &Table) -> (&'static str, &'static [&'static str]) {
        table.columns[self.below(table.columns.len())]
    }

    /// A constant of a key, in one of its guises.
    fn constant(&mut self, values: &'static [&'static str]) -> String {
        let value = self.of(values);
        let number = value.parse::<i64>().is_ok();
        match (self.below(12), number) {
            (0, true) => format!("'{value}'"),
            (1, true) => format!("({value})"),
            (2, true) => format!("{value}::bigint"),
            (3, true) => format!("{value}.0"),
            (4, true) => format!("({value} + 0)"),
            (5, true) => format!("CAST({value} AS int)"),
            (6, true) => format!("bigint '{value}'"),
            (0, false) if value.starts_with('\'') => format!("{value}::text"),
            (1, false) => format!("({value})"),
            (2, false) if value.starts_with('\'') => format!("{value} || ''"),
            (3, _) => "NULL".into(),
            _ => value.into(),
        }
    }

    fn key_condition(&mut self, table: &Table, alias: &str) -> String {
        let conditions: Vec<String> = table
            .key
            .iter()
            .zip(table.keys)
            .map(|(column, values)| {
                let column = format!("{alias}{column}");
                match self.below(12) {
                    0 => {
                        let list: Vec<String> =
                            (0..1 + self.below(4)).map(|_| self.constant(values)).collect();
                        format!("{column} IN ({})", list.join(", "))
                    }
                    1 => format!("{} = {column}", self.constant(values)),
                    2 => format!("({column} = {})", self.constant(values)),
                    3 => format!("{column} <> {}", self.constant(values)),
                    4 => format!("NOT ({column} = {})", self.constant(values)),
                    5 => format!(
                        "({column} = {} OR {column} = {})",
                        self.constant(values),
                        self.constant(values)
                    ),
                    6 => format!("({column} = {}) IS TRUE", self.constant(values)),
                    7 => format!("coalesce({column} = {}, false)", self.constant(values)),
                    _ => format!("{column} = {}", self.constant(values)),
                }
            })
            .collect();
        conditions.join(" AND ")
    }

    fn other_condition(&mut self, table: &Table, alias: &str) -> String {
        let (column, values) = self.column(table);
        let column = format!("{alias}{column}");
        let value = self.of(values);
        match self.below(7) {
            0 => format!("{column} IS NULL"),
            1 => format!("{column} IS NOT NULL"),
            2 => format!("{column} <> {value}"),
            3 => format!("{column} IN ({value}, {})", self.of(values)),
            4 => format!("{column} IS DISTINCT FROM {value}"),
            _ => format!("{column} = {value}"),
        }
    }

    fn condition(&mut self, table: &Table, alias: &str) -> String {
        let key = match table.key {
            [] => self.other_condition(table, alias),
            _ => self.key_condition(table, alias),
        };
        match self.below(10) {
            0 => self.other_condition(table, alias),
            1 => format!("{key} AND {}", self.other_condition(table, alias)),
            2 => format!("{} AND {key}", self.other_condition(table, alias)),
            3 => format!("{key} OR {}", self.other_condition(table, alias)),
            4 => format!(
                "{key} AND ({} OR {})",
                self.other_condition(table, alias),
                self.other_condition(table, alias)
            ),
            5 => format!(
                "({key} OR {}) AND {}",
                self.key_or_other(table, alias),
                self.other_condition(table, alias)
            ),
            6 => format!("{key} AND {}", self.key_or_other(table, alias)),
            _ => key,
        }
    }

    fn key_or_other(&mut self, table: &Table, alias: &str) -> String {
        match table.key {
            [] => self.other_condition(table, alias),
            _ => self.key_condition(table, alias),
        }
    }

    fn filter(&mut self, table: &Table, alias: &str) -> String {
        if self.one_in(4) { String::new() } else { format!(" WHERE {}", self.condition(table, alias)) }
    }

    fn outputs(&mut self, table: &Table, alias: &str) -> String {
        match self.below(5) {
            0 => "*".into(),
            1 => format!(
                "{alias}{}, coalesce({alias}{}::text, '-') AS x",
                self.column(table).0,
                self.column(table).0
            ),
            2 if !table.key.is_empty() => format!("{alias}{}, {alias}{}", table.key[0], self.column(table).0),
            3 => format!("1, {alias}{}", self.column(table).0),
            _ => format!("{alias}{}", self.column(table).0),
        }
    }

    fn select(&mut self) -> String {
        let table = self.table();
        match self.below(20) {
            12..=15 => self.sorted(table),
            16..=19 => self.apart(table),
            0 | 1 => self.aggregate(table),
            2 | 3 => self.join(),
            4 => {
                let other = self.table();
                let inner = self.filter(other, "");
                format!(
                    "SELECT {} FROM {}{} AND EXISTS (SELECT FROM {}{inner})",
                    self.outputs(table, ""),
                    table.name,
                    format_args!(" WHERE {}", self.condition(table, "")),
                    other.name
                )
            }
            5 => {
                let (inner, outer) = (self.filter(table, ""), self.filter(table, ""));
                format!("SELECT * FROM (SELECT * FROM {}{inner}) AS s{outer}", table.name)
            }
            6 => {
                let inner = self.filter(table, "");
                format!("WITH c AS (SELECT * FROM {}{inner}) SELECT count(*) FROM c", table.name)
            }
            7 => {
                let key = table.key.first().copied().unwrap_or(table.columns[0].0);
                format!("SELECT {key} FROM {}{} ORDER BY 1 LIMIT 100", table.name, self.filter(table, ""))
            }
            _ => {
                let alias = self.of(&["", "t", "customers"]);
                let (named, dot) = match alias {
                    "" => (String::new(), String::new()),
                    alias => (format!(" AS {alias}"), format!("{alias}.")),
                };
                let lock = if self.one_in(10) { " FOR UPDATE" } else { "" };
                format!(
                    "SELECT {} FROM {}{named}{}{lock}",
                    self.outputs(table, &dot),
                    table.name,
                    self.filter(table, &dot)
                )
            }
        }
    }

    /// Rows in an order: what is put out is the same in all rows that are equal by it.
    fn sorted(&mut self, table: &Table) -> String {
        let mut columns: Vec<&str> = table.key.to_vec();
        columns.extend(table.columns.iter().map(|(name, _)| *name));
        let (first, second) = (self.of(&columns), self.of(&columns));
        let term = |maker: &mut Self, column: &str| {
            let collation = if maker.one_in(3) { " COLLATE \"C\"" } else { "" };
            let direction = maker.of(&["", "", " DESC", " ASC"]);
            let nulls = maker.of(&["", "", " NULLS FIRST", " NULLS LAST"]);
            format!("{column}{collation}{direction}{nulls}")
        };
        let (one, two) = (term(self, first), term(self, second));
        let outputs = match self.below(4) {
            0 => second.to_owned(),
            1 => format!("{first} AS a, {second} AS b"),
            _ => format!("{first}, {second}"),
        };
        let distinct = if self.one_in(6) { "DISTINCT " } else { "" };
        let limit = match self.below(6) {
            0 => format!(" LIMIT {}", self.below(6)),
            1 => format!(" LIMIT {} OFFSET {}", self.below(6), self.below(4)),
            2 => format!(" OFFSET {}", self.below(5)),
            3 => format!(" FETCH FIRST {} ROWS WITH TIES", self.below(4)),
            _ => String::new(),
        };
        let filter = if self.one_in(2) { self.filter(table, "") } else { String::new() };
        format!("SELECT {distinct}{outputs} FROM {}{filter} ORDER BY {one}, {two}{limit}", table.name)
    }

    /// What may stay on one shard: by the key, or by something else.
    fn apart(&mut self, table: &Table) -> String {
        let other = self.table();
        let by = |maker: &mut Self, table: &Table| match (table.key, maker.below(4)) {
            ([key, ..], 0..=2) => (*key).to_owned(),
            _ => maker.column(table).0.to_owned(),
        };
        let all = |table: &Table| match table.key {
            [] => table.columns[0].0.to_owned(),
            key => key.join(", "),
        };
        let (column, filter) = (self.column(table).0, self.filter(table, ""));
        let (left, right) = (by(self, table), by(self, other));
        match self.below(9) {
            0 => format!(
                "SELECT {0}, count(*), count(DISTINCT {column}) FROM {1}{filter} GROUP BY {0}",
                all(table),
                table.name
            ),
            1 => format!(
                "SELECT {left}, count({column}) FROM {}{filter} GROUP BY {left} HAVING count(*) > 1",
                table.name
            ),
            2 => format!("SELECT DISTINCT {left}, {column} FROM {}{filter}", table.name),
            3 => format!("SELECT {left}, count(*) OVER (PARTITION BY {left}) FROM {}{filter}", table.name),
            4 => format!(
                "SELECT {left} FROM {}{filter} {} SELECT {right} FROM {}",
                table.name,
                self.of(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT", "INTERSECT ALL"]),
                other.name
            ),
            5 => format!(
                "SELECT l.{left}, (SELECT count(*) FROM {} r WHERE r.{right} = l.{left}) FROM {} l",
                other.name, table.name
            ),
            6 => format!(
                "SELECT {column} FROM {} WHERE {left} {} (SELECT {right} FROM {})",
                table.name,
                self.of(&["IN", "NOT IN"]),
                other.name
            ),
            7 => format!(
                "SELECT l.{left}, s.n FROM {} l {} (SELECT {right} AS k, count(*) AS n FROM {} GROUP BY {right}) s ON s.k = l.{left}",
                table.name,
                self.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]),
                other.name
            ),
            _ => format!(
                "WITH c AS (SELECT {right} AS k FROM {}) SELECT l.{left}, c.k FROM {} l {} c ON c.k = l.{left}",
                other.name,
                table.name,
                self.of(&["JOIN", "LEFT JOIN", "FULL JOIN"])
            ),
        }
    }

    fn aggregate(&mut self, table: &Table) -> String {
        let mut list = Vec::new();
        for _ in 0..1 + self.below(3) {
            let column = self.column(table).0;
            list.push(match self.below(8) {
                0 | 1 => "count(*)".into(),
                2 => format!("count({column})"),
                3 => format!("count(*) FILTER (WHERE {})", self.other_condition(table, "")),
                4 => format!("min({column})"),
                5 => format!("max({column})"),
                6 => format!("sum(length({column}::text))"),
                _ => match table.key {
                    [key, ..]
                        if !key.contains("word") && !key.contains("tenant") && table.name != "devices" =>
                    {
                        format!("sum({key})")
                    }
                    _ => "count(*)".into(),
                },
            });
        }
        let filter = self.filter(table, "");
        let group =
            if self.one_in(8) { format!(" GROUP BY {}", self.column(table).0) } else { String::new() };
        format!("SELECT {} FROM {}{filter}{group}", list.join(", "), table.name)
    }

    fn join(&mut self) -> String {
        let (left, right) = (self.table(), self.table());
        let kind = self.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "JOIN"]);
        let on = match (left.key, right.key, self.below(4)) {
            ([a], [b], 0..=2) => format!("l.{a} = r.{b}"),
            (_, _, 3) => {
                format!("l.{} IS NOT NULL AND r.{} IS NULL", self.column(left).0, self.column(right).0)
            }
            _ => self.condition(right, "r."),
        };
        let on = if self.one_in(4) { format!("{on} AND {}", self.condition(left, "l.")) } else { on };
        let filter = match self.below(4) {
            0 => String::new(),
            1 => self.filter(right, "r."),
            2 => format!(" WHERE {} AND {}", self.key_or_other(left, "l."), self.key_or_other(right, "r.")),
            _ => self.filter(left, "l."),
        };
        let outputs = self.of(&["count(*)", "l.*", "l.*, r.*"]);
        format!("SELECT {outputs} FROM {} l {kind} {} r ON {on}{filter}", left.name, right.name)
    }

    fn row(&mut self, table: &Table) -> String {
        let mut values: Vec<String> = table.keys.iter().map(|values| self.of(values).to_owned()).collect();
        if self.one_in(12) && !values.is_empty() {
            values[0] = self.constant(table.keys[0]);
        }
        for (_, values_of) in table.columns {
            values.push(if self.one_in(10) { "DEFAULT".into() } else { self.of(values_of).to_owned() });
        }
        format!("({})", values.join(", "))
    }

    fn insert(&mut self) -> String {
        let table = self.table();
        let mut columns: Vec<&str> = table.key.to_vec();
        columns.extend(table.columns.iter().map(|(name, _)| *name));
        let many = if self.one_in(2) { 1 } else { 2 + self.below(4) };
        let rows: Vec<String> = (0..many).map(|_| self.row(table)).collect();
        let conflict = match (self.below(4), table.key) {
            (0, _) => " ON CONFLICT DO NOTHING".into(),
            (1, [key]) => {
                format!(" ON CONFLICT ({key}) DO UPDATE SET {0} = excluded.{0}", table.columns[0].0)
            }
            _ => String::new(),
        };
        let returning = match self.below(4) {
            0 => " RETURNING *".into(),
            1 => format!(" RETURNING {}", self.column(table).0),
            _ => String::new(),
        };
        // Identity and serial columns are the servers' own: not returned.
        let returning =
            if table.name == "logs" || table.name == "settings" { String::new() } else { returning };
        format!(
            "INSERT INTO {} ({}) VALUES {}{conflict}{returning}",
            table.name,
            columns.join(", "),
            rows.join(", ")
        )
    }

    fn update(&mut self) -> String {
        let table = self.table();
        let (column, values) = self.column(table);
        let value = match self.below(3) {
            0 => column.to_owned(),
            _ => self.of(values).to_owned(),
        };
        let returning = if self.one_in(4) { format!(" RETURNING {column}") } else { String::new() };
        format!("UPDATE {} SET {column} = {value}{}{returning}", table.name, self.filter(table, ""))
    }

    fn delete(&mut self) -> String {
        let table = self.table();
        let returning = if self.one_in(4) { " RETURNING *" } else { "" };
        format!("DELETE FROM {} WHERE {}{returning}", table.name, self.condition(table, ""))
    }

    /// What has rows, numbers or moments of several shards, besides the tables' own conditions.
    fn across(&mut self) -> String {
        let orders = &TABLES[1];
        match self.below(7) {
            0 => {
                let rows: Vec<String> =
                    (0..1 + self.below(4)).map(|_| format!("({})", self.of(TEXTS))).collect();
                format!("INSERT INTO tickets (title) VALUES {} RETURNING id, title", rows.join(", "))
            }
            1 => {
                let filter = self.condition(orders, "");
                format!("SELECT count(*), min(number) FROM orders WHERE placed < now() AND {filter}")
            }
            2 => {
                let filter = self.condition(orders, "");
                format!(
                    "UPDATE orders SET qty = qty WHERE placed < now() - interval '1 day' AND {filter} RETURNING number"
                )
            }
            3 => {
                let filter = self.condition(orders, "");
                format!(
                    "INSERT INTO hollow (id) SELECT customer_id FROM orders WHERE {filter} ON CONFLICT (id) DO NOTHING"
                )
            }
            4 => {
                let filter = self.filter(&TABLES[0], "");
                format!("INSERT INTO small (k, v) SELECT id, name FROM customers{filter} RETURNING k, v")
            }
            5 => format!("COPY ({}) TO STDOUT", self.select().replace(" FOR UPDATE", "")),
            _ => {
                let filter = self.of(&["", " WHERE id = 1", " WHERE id > 2", " WHERE name = 'Ada'"]);
                format!("SELECT name, count(*) FROM active_customers{filter} GROUP BY name")
            }
        }
    }

    fn statement(&mut self) -> String {
        if self.one_in(12) {
            return self.across();
        }
        match self.below(10) {
            0 | 1 => self.insert(),
            2 => self.update(),
            3 => self.delete(),
            _ => self.select(),
        }
    }
}

/// `seed`: `None`, another one each time.
pub fn run(world: &mut World, tally: &mut Tally, count: usize, seed: Option<u64>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("PGHERD_DIFF_SEED").or(seed).unwrap_or_else(|| rand::random_range(0..1_000_000));
    let count = number("PGHERD_DIFF_STATEMENTS").map_or(count, |n| n as usize);
    println!("PGHERD_DIFF_SEED={seed} ({count} statements)");
    let layouts: Vec<usize> = world.layouts.iter().map(|layout| layout.shards).collect();
    for (at, shards) in layouts.into_iter().enumerate() {
        let layout = &mut world.layouts[at];
        // Most of it where there is most to go wrong.
        let share = match shards {
            4 | 7 => count * 2 / 3,
            2 => count / 4,
            _ => count / 12,
        };
        layout.save();
        let mut maker = Maker { random: StdRng::seed_from_u64(seed + at as u64) };
        let modes = script::plain_modes();
        let mut inside = false;
        for n in 0..share {
            let sql = match (inside, maker.below(30)) {
                (false, 0) => "BEGIN".to_owned(),
                (true, 0) => "COMMIT".to_owned(),
                (true, 1) => "ROLLBACK".to_owned(),
                (true, 2) => "SAVEPOINT s".to_owned(),
                (true, 3) => "ROLLBACK TO s".to_owned(),
                _ => maker.statement(),
            };
            let mode: &Mode = &modes[maker.below(3)];
            let before = tally.wrong();
            script::generated(layout, tally, &sql, mode);
            inside = layout.plain.status != b'I';
            if tally.wrong() > before || n % 400 == 399 {
                layout.reconnect();
                layout.restore();
                inside = false;
            }
        }
    }
}
