//! Servers, pgherd over some numbers of them, one plain server beside them; what their tables hold.
//!
//! Every layout is a database of its own, on the shards' servers and on the plain one, so that one herd serves all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{APP_ROLE, CONTROL_ROLE, Herd, HerdOptions, leashed};
use pgherd_config::KeyType;
use pgherd_router::hash::slot_sql;

use super::client::Client;

const SCHEMA: &str = include_str!("schema.sql");
const ROWS: &str = include_str!("rows.sql");

/// Table, distribution, key, types.
type Sharded = (&'static str, &'static str, &'static [&'static str], &'static [KeyType]);

const SHARDED: [Sharded; 23] = [
    ("customers", "customer", &["id"], &[KeyType::BigInt]),
    ("orders", "customer", &["customer_id"], &[KeyType::BigInt]),
    ("lines", "customer", &["customer_id"], &[KeyType::BigInt]),
    ("depot.events", "customer", &["customer_id"], &[KeyType::BigInt]),
    ("small", "customer", &["k"], &[KeyType::BigInt]),
    ("hollow", "customer", &["id"], &[KeyType::BigInt]),
    ("serials", "other", &["k"], &[KeyType::BigInt]),
    ("tickets", "other", &["id"], &[KeyType::BigInt]),
    ("parcels", "customer", &["id"], &[KeyType::BigInt]),
    ("Upper", "other", &["Id"], &[KeyType::BigInt]),
    ("words", "word", &["word"], &[KeyType::Text]),
    ("devices", "device", &["id"], &[KeyType::Uuid]),
    ("metrics", "metric", &["tenant", "day_no"], &[KeyType::Text, KeyType::BigInt]),
    ("codes", "code", &["code"], &[KeyType::Char]),
    ("names", "name", &["name"], &[KeyType::Varchar]),
    ("amounts", "amount", &["amount"], &[KeyType::Numeric]),
    ("days", "day", &["day"], &[KeyType::Date]),
    ("moments", "moment", &["at"], &[KeyType::TimestampTz]),
    ("stamps", "stamp", &["at"], &[KeyType::Timestamp]),
    ("flags", "flag", &["f"], &[KeyType::Boolean]),
    ("fired", "customer", &["id"], &[KeyType::BigInt]),
    ("counted", "customer", &["id"], &[KeyType::BigInt]),
    ("veiled", "customer", &["id"], &[KeyType::BigInt]),
];
const REFERENCE: [&str; 2] = ["countries", "colors"];
/// On the second shard (the first, where there is one only).
const SECOND: [&str; 1] = ["settings"];

fn type_word(ty: KeyType) -> &'static str {
    match ty {
        KeyType::BigInt => "bigint",
        KeyType::Text => "text",
        KeyType::Uuid => "uuid",
        KeyType::Char => "char",
        KeyType::Varchar => "varchar",
        KeyType::Numeric => "numeric",
        KeyType::Date => "date",
        KeyType::TimestampTz => "timestamptz",
        KeyType::Timestamp => "timestamp",
        KeyType::Boolean => "boolean",
        KeyType::SmallInt => "smallint",
        KeyType::Integer => "integer",
        KeyType::Bytea => "bytea",
    }
}

pub struct World {
    pub layouts: Vec<Layout>,
    proxy: Child,
    log: std::path::PathBuf,
    // Last: the servers go when everybody has left.
    _herd: Herd,
}

pub struct Layout {
    pub shards: usize,
    pub database: String,
    pub herd: Client,
    pub plain: Client,
    port: u16,
    plain_port: u16,
    folder: std::path::PathBuf,
    servers: Vec<Client>,
    beside: Client,
    /// For each distribution: the shard of each slot.
    owners: BTreeMap<String, Vec<usize>>,
    /// Relation -> (query of its rows) by server; of plain, last.
    queries: Vec<String>,
}

/// Relation -> its rows, sorted.
type Content = BTreeMap<String, Vec<String>>;

impl World {
    /// `layouts`: numbers of shards.
    pub fn start(layouts: &[usize]) -> Self {
        let only: Option<usize> = std::env::var("PGHERD_DIFF_SHARDS").ok().and_then(|n| n.parse().ok());
        let settings = vec![("max_connections".into(), "150".into())];
        let layouts: Vec<usize> =
            layouts.iter().copied().filter(|shards| only.is_none_or(|only| only == *shards)).collect();
        let plain = layouts.iter().copied().max().expect("a layout");
        let herd = Herd::start(plain + 1, HerdOptions { settings, ..HerdOptions::default() })
            .unwrap_or_else(|error| panic!("{error}"));
        let port = free_port();
        let configuration = configuration(&herd, port, &layouts);
        let file = herd.folder().join("pgherd.toml");
        fs::write(&file, &configuration).expect("the configuration is written");
        thread::scope(|scope| {
            for server in 0..=plain {
                let (herd, layouts) = (&herd, &layouts);
                scope.spawn(move || prepare(herd, server, plain, layouts));
            }
        });
        let log = herd.folder().join("pgherd.log");
        let output = File::create(&log).expect("a log");
        let mut command: Command = leashed("KILL", program());
        command.arg("serve").arg(&file).envs(herd.env());
        command.stdout(output.try_clone().expect("a log")).stderr(output);
        let proxy = herd.keeper().spawn(command).expect("pgherd starts");
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "pgherd does not listen:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(30));
        }
        let mut layouts: Vec<Layout> =
            layouts.into_iter().map(|shards| Layout::open(&herd, port, shards, plain)).collect();
        for layout in &mut layouts {
            for line in ROWS.lines().filter(|line| !line.is_empty() && !line.starts_with("--")) {
                for (side, client) in [("herd", &mut layout.herd), ("plain", &mut layout.plain)] {
                    let answer = client.simple(line, b"").expect("an answer");
                    assert!(answer.failure().is_none(), "{side}: {line}: {:?}", answer.failure());
                }
            }
            layout.look();
            let differences = layout.differences();
            assert!(differences.is_empty(), "after the first rows: {differences:?}");
        }
        Self { layouts, proxy, log, _herd: herd }
    }

    /// What pgherd itself had to say.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("pgherd's log ends:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// `pgherd` beside this test, or `PGHERD_BIN`.
fn program() -> std::path::PathBuf {
    if let Some(path) = std::env::var_os("PGHERD_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("our own path");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("deps is in a folder");
    folder.join("pgherd")
}

/// A name in the configuration: in quotes of its own when it is not as PostgreSQL folds it.
fn named(name: &str) -> String {
    match name.chars().any(char::is_uppercase) {
        true => format!("'\"{name}\"'"),
        false => format!("\"{name}\""),
    }
}

fn database(shards: usize) -> String {
    format!("h{shards}")
}

fn configuration(herd: &Herd, port: u16, layouts: &[usize]) -> String {
    let mut text = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 2\n[auth]\nmethod = \"trust\"\n\
         [[users]]\nname = \"{APP_ROLE}\"\npassword = \"env:APP_PASSWORD\"\n"
    );
    for shards in layouts {
        let database = database(*shards);
        writeln!(
            text,
            "[databases.{database}]\ncontrol = {{ user = \"{CONTROL_ROLE}\", password = \"env:PGHERD_PASSWORD\" }}"
        )
        .unwrap();
        for server in 0..*shards {
            let address = format!("postgres://127.0.0.1:{}/{database}", herd.port(server));
            writeln!(text, "[[databases.{database}.shards]]\nname = \"s{server}\"\nprimary = \"{address}\"")
                .unwrap();
        }
        let mut known = Vec::new();
        for (_, distribution, _, types) in SHARDED {
            if known.contains(&distribution) {
                continue;
            }
            known.push(distribution);
            let words: Vec<String> = types.iter().map(|ty| format!("\"{}\"", type_word(*ty))).collect();
            let ty = match &words[..] {
                [one] => one.clone(),
                several => format!("[{}]", several.join(", ")),
            };
            writeln!(text, "[databases.{database}.distributions.{distribution}]\nby = \"hash\"\ntype = {ty}")
                .unwrap();
        }
        writeln!(text, "[databases.{database}.tables]").unwrap();
        for (table, distribution, key, _) in SHARDED {
            let words: Vec<String> = key.iter().map(|column| named(column)).collect();
            let key = match &words[..] {
                [one] => one.clone(),
                several => format!("[{}]", several.join(", ")),
            };
            let table = named(table);
            writeln!(text, "{table} = {{ distribution = \"{distribution}\", key = {key} }}").unwrap();
        }
        for table in REFERENCE {
            writeln!(text, "{table} = {{ reference = true }}").unwrap();
        }
        for table in SECOND {
            writeln!(text, "{table} = {{ shard = \"s{}\" }}", 1.min(shards - 1)).unwrap();
        }
    }
    text
}

/// Databases and schema of one server. `plain`: the last one.
fn prepare(herd: &Herd, server: usize, plain: usize, layouts: &[usize]) {
    for shards in layouts.iter().filter(|shards| server == plain || server < **shards) {
        let database = database(*shards);
        let create = format!("CREATE DATABASE {database} OWNER {APP_ROLE}");
        herd.psql(server, &create).unwrap_or_else(|error| panic!("{error}"));
        let mut client = Client::unix(herd.folder(), herd.port(server), APP_ROLE, &database);
        for section in SCHEMA.split("-- @").skip(1) {
            let (place, sql) = section.split_once('\n').expect("a section has lines");
            let here = server == plain
                || match place {
                    "everywhere" => true,
                    "first" => server == 0,
                    "s1" => server == 1.min(shards - 1),
                    other => panic!("section {other}"),
                };
            if here {
                let answer = client.simple(sql, b"").expect("an answer");
                assert!(answer.failure().is_none(), "{:?}", answer.failure());
            }
        }
    }
}

/// Where the rows of a relation should be.
enum Home {
    Sharded(&'static Sharded),
    Everywhere,
    On(usize),
}

fn home(relation: &str, shards: usize) -> Home {
    // Found through the search path: in "public" when the configuration names no schema.
    let relation = relation.strip_prefix("public.").unwrap_or(relation);
    if let Some(sharded) = SHARDED.iter().find(|(name, ..)| *name == relation) {
        Home::Sharded(sharded)
    } else if REFERENCE.contains(&relation) {
        Home::Everywhere
    } else if SECOND.contains(&relation) {
        Home::On(1.min(shards - 1))
    } else {
        Home::On(0)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Layout {
    fn open(herd: &Herd, port: u16, shards: usize, plain: usize) -> Self {
        let database = database(shards);
        let folder = herd.folder().to_owned();
        let at = |server: usize, user: &str| Client::unix(herd.folder(), herd.port(server), user, &database);
        let mut servers: Vec<Client> = (0..shards).map(|server| at(server, CONTROL_ROLE)).collect();
        let mut layout_herd = Client::tcp(port, APP_ROLE, &database);
        layout_herd.rows("SELECT 1");
        let mut owners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        if shards > 1 {
            let sql = "SELECT distribution, slot_from, slot_to, shard FROM pgherd.placement ORDER BY 1, 2";
            for row in servers[0].rows(sql) {
                let text = |n: usize| row[n].clone().expect("no column is NULL");
                let shard = text(3)[1..].parse().expect("s0, s1, ...");
                let (from, to): (usize, usize) = (text(1).parse().unwrap(), text(2).parse().unwrap());
                let slots = owners.entry(text(0)).or_insert_with(|| vec![usize::MAX; 16384]);
                slots[from..=to].iter_mut().for_each(|owner| *owner = shard);
            }
        }
        Self {
            shards,
            plain: at(plain, APP_ROLE),
            beside: at(plain, CONTROL_ROLE),
            herd: layout_herd,
            servers,
            port,
            plain_port: herd.port(plain),
            folder,
            owners,
            queries: Vec::new(),
            database,
        }
    }

    /// New sessions on both sides.
    pub fn reconnect(&mut self) {
        self.herd = Client::tcp(self.port, APP_ROLE, &self.database);
        self.plain = Client::unix(&self.folder, self.plain_port, APP_ROLE, &self.database);
    }

    /// Which tables there are, on every server.
    pub fn look(&mut self) {
        const TABLES: &str = "SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'S', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgherd')
              AND n.nspname !~ '^pg_' ORDER BY 1, 2";
        let shards = self.shards;
        let make = |client: &mut Client| {
            let mut parts = Vec::new();
            for row in client.rows(TABLES) {
                let text = |n: usize| row[n].clone().unwrap_or_default();
                let (schema, name, kind) = (text(0), text(1), text(2));
                let relation = format!("{schema}.{name}");
                let literal = relation.replace('\'', "''");
                let from = format!("{}.{}", quoted(&schema), quoted(&name));
                let slot = match home(&relation, shards) {
                    Home::Sharded((_, _, key, types)) => {
                        let columns: Vec<String> = key.iter().map(|column| quoted(column)).collect();
                        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
                        slot_sql(types, &columns).unwrap_or_else(|| "NULL".into())
                    }
                    _ => "NULL".into(),
                };
                parts.push(match kind.as_str() {
                    "S" => {
                        format!("SELECT 'sequence {literal}', ROW(last_value, is_called)::text, NULL::text FROM {from}")
                    }
                    _ => format!("SELECT '{literal}', t::text, ({slot})::text FROM ONLY {from} t"),
                });
            }
            parts.push("SELECT '', '', NULL WHERE false".into());
            parts.join(" UNION ALL ")
        };
        let mut queries: Vec<String> = self.servers.iter_mut().map(make).collect();
        queries.push(make(&mut self.beside));
        self.queries = queries;
    }

    /// Where the herd's tables are not what the plain server's are.
    pub fn differences(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut read = |client: &mut Client, sql: &str, shard: Option<usize>| {
            let mut content = Content::new();
            for row in client.rows(sql) {
                let (relation, text) =
                    (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default());
                if let (Some(shard), Home::Sharded((_, distribution, ..))) =
                    (shard, home(&relation, self.shards))
                {
                    let slot = row[2].as_ref().and_then(|slot| slot.parse::<usize>().ok());
                    let owner = slot.zip(self.owners.get(*distribution)).map(|(slot, owners)| owners[slot]);
                    if self.shards > 1 && owner != Some(shard) {
                        found.push(format!(
                            "row {text} of {relation} is on s{shard}, but belongs to {owner:?}"
                        ));
                    }
                }
                content.entry(relation).or_default().push(text);
            }
            content.values_mut().for_each(|rows| rows.sort());
            content
        };
        let (plain_query, queries) = self.queries.split_last().expect("looked");
        let plain = read(&mut self.beside, plain_query, None);
        let mut shards: Vec<Content> = Vec::new();
        for (shard, (client, sql)) in self.servers.iter_mut().zip(queries).enumerate() {
            shards.push(read(client, sql, Some(shard)));
        }
        let mut relations: Vec<&String> = plain.keys().chain(shards.iter().flat_map(Content::keys)).collect();
        relations.sort();
        relations.dedup();
        let nothing = Vec::new();
        for relation in relations {
            let expected = plain.get(relation).unwrap_or(&nothing);
            let mut differs = |place: &str, rows: &Vec<String>| {
                if rows != expected {
                    let missing: Vec<_> = without(expected, rows);
                    let extra: Vec<_> = without(rows, expected);
                    found.push(format!("{relation} on {place}: missing {missing:?}, too many {extra:?}"));
                }
            };
            if let Some(name) = relation.strip_prefix("sequence ") {
                // Those of sharded and reference tables are the first shard's; others are where the table is.
                let at = if name.starts_with("public.settings") { 1.min(self.shards - 1) } else { 0 };
                differs(&format!("s{at}"), shards[at].get(relation).unwrap_or(&nothing));
                continue;
            }
            match home(relation, self.shards) {
                Home::Sharded(_) => {
                    let mut all: Vec<String> =
                        shards.iter().filter_map(|shard| shard.get(relation)).flatten().cloned().collect();
                    all.sort();
                    differs("all shards", &all);
                }
                Home::Everywhere => {
                    for (shard, content) in shards.iter().enumerate() {
                        differs(&format!("s{shard}"), content.get(relation).unwrap_or(&nothing));
                    }
                }
                Home::On(at) => {
                    differs(&format!("s{at}"), shards[at].get(relation).unwrap_or(&nothing));
                    for (shard, content) in shards.iter().enumerate().filter(|(shard, _)| *shard != at) {
                        if let Some(rows) = content.get(relation) {
                            found.push(format!("{relation} has {} rows on s{shard}", rows.len()));
                        }
                    }
                }
            }
        }
        found
    }

    /// Where the herd's definitions are not what the plain server's are.
    pub fn definitions(&mut self) -> Vec<String> {
        const DEFINITIONS: &str = "
            SELECT n.nspname || '.' || c.relname, 'column ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' '
                || a.attnotnull || ' ' || a.attidentity::text || a.attgenerated::text || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
            LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
            WHERE c.relkind IN ('r', 'p', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgherd')
            UNION ALL
            SELECT n.nspname || '.' || c.relname, 'constraint ' || k.conname || ' ' || pg_get_constraintdef(k.oid)
            FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgherd')
            UNION ALL
            SELECT schemaname || '.' || tablename, 'index ' || indexdef FROM pg_indexes WHERE schemaname !~ '^pg_' AND schemaname <> 'pgherd'
            UNION ALL
            SELECT n.nspname || '.' || c.relname, 'trigger ' || pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND n.nspname !~ '^pg_' AND n.nspname <> 'pgherd'
            UNION ALL
            SELECT n.nspname || '.' || c.relname, 'comment ' || d.objsubid || d.description FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgherd')";
        let read = |client: &mut Client| {
            let mut content = Content::new();
            for row in client.rows(DEFINITIONS) {
                content
                    .entry(row[0].clone().unwrap_or_default())
                    .or_default()
                    .push(row[1].clone().unwrap_or_default());
            }
            content.values_mut().for_each(|rows| rows.sort());
            content
        };
        let plain = read(&mut self.beside);
        let shards: Vec<Content> = self.servers.iter_mut().map(read).collect();
        let mut relations: Vec<&String> = plain.keys().chain(shards.iter().flat_map(Content::keys)).collect();
        relations.sort();
        relations.dedup();
        let nothing = Vec::new();
        let mut found = Vec::new();
        for relation in relations {
            let expected = plain.get(relation).unwrap_or(&nothing);
            for (shard, content) in shards.iter().enumerate() {
                let here = match home(relation, self.shards) {
                    Home::Sharded(_) | Home::Everywhere => true,
                    Home::On(at) => at == shard,
                };
                let own = content.get(relation).unwrap_or(&nothing);
                // Views are made by the schema on every server.
                if here && own != expected {
                    found.push(format!(
                        "definition of {relation} on s{shard}: missing {:?}, too many {:?}",
                        without(expected, own),
                        without(own, expected)
                    ));
                }
            }
        }
        found
    }
}

/// Of `a`, what `b` does not have. Both sorted.
fn without(a: &[String], b: &[String]) -> Vec<String> {
    let mut rest: Vec<&String> = b.iter().collect();
    let mut found = Vec::new();
    for text in a {
        match rest.iter().position(|other| *other == text) {
            Some(at) => {
                rest.swap_remove(at);
            }
            None => found.push(text.clone()),
        }
    }
    found.truncate(5);
    found
}

impl Layout {
    /// Remembers what the tables hold now.
    pub fn save(&mut self) {
        self.on_every_server(
            "CREATE SCHEMA IF NOT EXISTS pgherd;
             CREATE TABLE pgherd.saved_sequences (name text, last_value bigint, is_called boolean);
             DO $$ DECLARE r record; BEGIN
                 FOR r IN SELECT c.oid::regclass AS name, n.nspname || '_' || c.relname AS copy, c.relkind AS kind FROM pg_class c
                     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'S') AND n.nspname IN ('public', 'depot') LOOP
                     IF r.kind = 'S' THEN
                         EXECUTE format('INSERT INTO pgherd.saved_sequences SELECT %L, last_value, is_called FROM %s', r.name, r.name);
                     ELSE
                         EXECUTE format('CREATE TABLE pgherd.%I AS SELECT * FROM %s', 'saved_' || r.copy, r.name);
                     END IF;
                 END LOOP;
             END $$",
        );
    }

    /// Back to what was saved: after a wrong answer, so that it does not make others.
    pub fn restore(&mut self) {
        self.on_every_server(
            "SET session_replication_role = replica;
             DO $$ DECLARE r record; BEGIN
                 FOR r IN SELECT c.oid::regclass AS name, 'saved_' || n.nspname || '_' || c.relname AS copy,
                         (SELECT string_agg(quote_ident(a.attname), ', ') FROM pg_attribute a
                          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname IN ('public', 'depot') LOOP
                     EXECUTE format('DELETE FROM %s', r.name);
                     IF EXISTS (SELECT FROM pg_class WHERE relname = r.copy) THEN
                         EXECUTE format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM pgherd.%I', r.name, r.columns, r.columns, r.copy);
                     END IF;
                 END LOOP;
             END $$;
             SELECT setval(name::regclass, last_value, is_called) FROM pgherd.saved_sequences WHERE to_regclass(name) IS NOT NULL;
             RESET session_replication_role",
        );
        self.look();
    }

    fn on_every_server(&mut self, sql: &str) {
        for client in self.servers.iter_mut().chain([&mut self.beside]) {
            client.simple(sql, b"").map(|answer| answer.failure().cloned()).map_or_else(
                |error| panic!("{sql}: {error}"),
                |failure| {
                    if let Some(failure) = failure {
                        eprintln!("restoring: {} {}", failure.sqlstate, failure.message);
                    }
                },
            );
        }
    }
}
