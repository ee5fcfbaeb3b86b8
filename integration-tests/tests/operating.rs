//! What an operator does: the console, signals, another configuration, limits; against one PostgreSQL server.
//!
//! Start reading at [`Place`].

mod raw;

#[path = "operating/console.rs"]
mod console;
#[path = "operating/handover.rs"]
mod handover;
#[path = "operating/limits.rs"]
mod limits;
#[path = "operating/metrics.rs"]
mod metrics;
#[path = "operating/pgbouncer.rs"]
mod pgbouncer;
#[path = "operating/pinned.rs"]
mod pinned;
#[path = "operating/reload.rs"]
mod reload;
#[path = "operating/stop.rs"]
mod stop;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{Herd, HerdOptions};
use raw::{Endpoint, Wire};

/// One server for all tests; it ends with this process.
fn herd() -> &'static Herd {
    static HERD: OnceLock<Herd> = OnceLock::new();
    HERD.get_or_init(|| Herd::start(1, HerdOptions::default()).expect("a PostgreSQL server"))
}

/// What the superuser sees, past pgherd.
fn at_server(sql: &str) -> String {
    herd().psql(0, sql).expect("the server answers")
}

/// A configuration in parts, to be changed by a test.
#[derive(Clone)]
struct Place {
    port: u16,
    number: usize,
    /// Lines of `[server]`, of `[pool]`, and of the user.
    server: String,
    pool: String,
    user: String,
    /// Names of plain databases on the server, and lines of each.
    databases: Vec<(&'static str, &'static str)>,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        Self {
            port: raw::free_port(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            server: String::new(),
            pool: "size = 2".into(),
            user: String::new(),
            databases: vec![("one", ""), ("two", "")],
        }
    }

    fn text(&self) -> String {
        let Self { port, server, pool, user, .. } = self;
        let mut text = format!(
            "[server]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 2\nadmins = [\"boss\"]\nstats_users = [\"watch\"]\n{server}\n\n\
             [auth]\nmethod = \"trust\"\n\n[pool]\n{pool}\n\n"
        );
        for name in ["boss", "watch"] {
            text += &format!("[[users]]\nname = \"{name}\"\n\n");
        }
        text += &format!("[[users]]\nname = \"app\"\npassword = \"env:APP_PASSWORD\"\n{user}\n\n");
        for (name, lines) in &self.databases {
            text += &format!(
                "[databases.{name}]\n{lines}\n[[databases.{name}.shards]]\nname = \"s0\"\nprimary = \"{}\"\n\n",
                self.address(name)
            );
        }
        text
    }

    /// The database on the server: of this place alone, so that tests do not see each other's connections.
    fn on_server(&self, name: &str) -> String {
        format!("{name}_{}", self.number)
    }

    fn address(&self, name: &str) -> String {
        format!("postgres://127.0.0.1:{}/{}", herd().port(0), self.on_server(name))
    }

    fn start(&self) -> Endpoint {
        for name in ["one", "two", "three"] {
            let name = self.on_server(name);
            if at_server(&format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")) == "0" {
                at_server(&format!("CREATE DATABASE {name} OWNER app TEMPLATE template0"));
            }
        }
        Endpoint::start(herd(), self.port, &self.text())
    }
}

fn console(endpoint: &Endpoint, user: &str) -> Wire {
    let mut wire = Wire::tcp(endpoint.port);
    wire.start(user, "pgbouncer", &[]);
    wire
}

/// The rows of an answer, each column by its name.
fn table(wire: &mut Wire, command: &str) -> Vec<Vec<(String, Option<String>)>> {
    let said = wire.query(command);
    assert_eq!(raw::error_of(&said), None, "{command}");
    let described = said.iter().find(|m| m.kind == b'T').expect("a description");
    let names: Vec<String> = described_names(&described.body);
    said.iter()
        .filter(|m| m.kind == b'D')
        .map(|m| names.iter().cloned().zip(raw::columns(&m.body)).collect())
        .collect()
}

/// `name type` of each column of a RowDescription.
fn described_columns(body: &[u8]) -> Vec<(String, u32)> {
    let mut rest = &body[2..];
    let mut found = Vec::new();
    while let Some(end) = rest.iter().position(|b| *b == 0) {
        let name = String::from_utf8_lossy(&rest[..end]).into_owned();
        let fixed = &rest[end + 1..end + 19];
        found.push((name, u32::from_be_bytes(fixed[6..10].try_into().expect("four bytes"))));
        rest = &rest[end + 19..];
    }
    found
}

fn described_names(body: &[u8]) -> Vec<String> {
    described_columns(body).into_iter().map(|(name, _)| name).collect()
}

/// One value of the first row where `key` is `value`.
fn cell(wire: &mut Wire, command: &str, key: &str, value: &str, wanted: &str) -> String {
    let rows = table(wire, command);
    let of = |row: &Vec<(String, Option<String>)>, name: &str| {
        row.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.clone()).unwrap_or_default()
    };
    let row = rows.iter().find(|row| of(row, key) == value);
    row.map(|row| of(row, wanted)).unwrap_or_else(|| panic!("{command}: no {key} {value}: {rows:?}"))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(8);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}
