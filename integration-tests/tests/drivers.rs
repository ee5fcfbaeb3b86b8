//! Real drivers: the same program on a direct connection and through pgherd, what it prints compared line by line.
//!
//! Invariant: an expectation here is what the program printed on a direct connection in the same run. The programs are in
//! `integration-tests/drivers/`; each does with one driver what applications do with it.
//!
//! - The pool has two servers, and other clients ([`Noise`]) use them between the program's transactions, with settings that
//!   nobody else wants. So what belongs to a session moves from server to server, or it shows.
//! - Of some programs a section is run once more with a relay in between that writes down what is said: [`traces`] compares that
//!   message by message.
//! - Drivers are installed by the first run into a folder under `target/drivers/`, in the versions that are named beside the
//!   programs. One that cannot be installed is skipped, and the last lines of the test say so.
//!
//! `PGHERD_DRIVERS_ONLY=text` runs those whose name contains it, `ONLY=text` of each the sections whose name does. What both
//! sides printed stays in `target/drivers/output/`.
//!
//! Start reading at [`DRIVERS`].

mod raw;

#[path = "drivers/noise.rs"]
mod noise;
#[path = "drivers/setup.rs"]
mod setup;
#[path = "drivers/traces.rs"]
mod traces;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use noise::Noise;
use pgherd::demo::servers::{Herd, HerdOptions, leashed};
use pgherd_integration_tests::relay::{Relay, Said};
use raw::Endpoint;
use setup::{Setup, Tool};

/// A program of a driver. What it needs is installed first.
struct Driver {
    name: &'static str,
    tool: Tool,
    /// Below `integration-tests/drivers/`.
    program: &'static str,
    arguments: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    /// The section whose messages are compared: one that says the same from run to run.
    traced: Option<&'static str>,
}

const fn driver(name: &'static str, tool: Tool, program: &'static str) -> Driver {
    Driver { name, tool, program, arguments: &[], env: &[], traced: None }
}

const fn traced(section: &'static str, driver: Driver) -> Driver {
    Driver { traced: Some(section), ..driver }
}

/// The long ones first: two run at a time.
const DRIVERS: &[Driver] = &[
    traced("transactions", driver("jdbc", Tool::Java, "java/Tour.java")),
    driver("pgbench", Tool::Shell, "shell/pgbench.sh"),
    driver("asyncpg", Tool::Python, "python/asyncpg_tour.py"),
    traced("transactions", driver("psycopg", Tool::Python, "python/psycopg_tour.py")),
    Driver {
        env: &[("PSYCOPG_IMPL", "python")],
        ..driver("psycopg_python", Tool::Python, "python/psycopg_tour.py")
    },
    traced("transactions", driver("pg", Tool::Node, "node/pg_tour.js")),
    driver("postgres_js", Tool::Node, "node/postgres_tour.js"),
    driver("django", Tool::Python, "python/django_tour.py"),
    Driver { arguments: &["bind"], ..driver("django_bind", Tool::Python, "python/django_tour.py") },
    driver("sqlalchemy", Tool::Python, "python/sqlalchemy_tour.py"),
    // Not traced: in a failed block it is told or not that a Parse is complete, as the server has the statement already or not.
    driver("tokio_postgres", Tool::Rust, env!("CARGO_BIN_EXE_tokio_postgres_tour")),
    Driver { arguments: &["postgres"], ..driver("lib_pq", Tool::Go, "go/tour.go") },
    Driver { arguments: &["pgx"], ..driver("pgx", Tool::Go, "go/tour.go") },
    driver("libpq", Tool::C, "c/pipeline.c"),
    driver("ruby", Tool::Ruby, "ruby/pg_tour.rb"),
    driver("php", Tool::Php, "php/pdo_tour.php"),
    driver("psql", Tool::Shell, "shell/psql.sh"),
    traced("", driver("traced", Tool::Shell, "shell/traced.sh")),
    driver("pg_dump", Tool::Shell, "shell/pg_dump.sh"),
];

/// Lines that differ, each with its reason: (driver, part of the line on the direct connection, reason).
const DIFFERENT: &[(&str, &str, &str)] = &[
    (
        "pg",
        "after ALTER error | 0A000",
        "node-postgres asks for the columns with each Bind: pgherd prepares the statement again, and nobody sees the change",
    ),
    ("psycopg", "[('_pg3_", "open: pg_prepared_statements shows what all clients share on that server"),
];

/// One that takes longer hangs.
const PROGRAM_MAX: Duration = Duration::from_secs(150);

/// Programs at a time: the machine has two cores.
const LANES: usize = 2;

/// Lines of a section that are shown, from its first difference on.
const SHOWN_MAX: usize = 5;

struct Stage {
    herd: Herd,
    endpoint: Endpoint,
}

impl Stage {
    fn start(drivers: &[&Driver]) -> Self {
        let herd = Herd::start(1, HerdOptions::default()).expect("a PostgreSQL server");
        let port = raw::free_port();
        let mut text = format!(
            r#"
[server]
listen = ["127.0.0.1:{port}"]
workers = 2

[auth]
method = "scram-sha-256"

[[users]]
name = "app"
password = "env:APP_PASSWORD"

[pool]
size = 2
checkout_timeout = "30s"
"#
        );
        for driver in drivers {
            text += &format!(
                "\n[[databases.{0}.shards]]\nname = \"s0\"\nprimary = \"postgres://127.0.0.1:{1}/{0}\"\n",
                driver.name,
                herd.port(0)
            );
        }
        let endpoint = Endpoint::start(&herd, port, &text);
        Self { herd, endpoint }
    }

    fn port(&self, pooled: bool) -> u16 {
        if pooled { self.endpoint.port } else { self.herd.port(0) }
    }

    /// Runs the program in an empty database; what it printed, and how it ended.
    fn run(&self, driver: &Driver, setup: &Setup, pooled: bool) -> String {
        self.run_on(self.port(pooled), driver, setup, pooled, None)
    }

    /// One section of it; what was said.
    fn trace(&self, driver: &Driver, section: &str, setup: &Setup, pooled: bool) -> Vec<Vec<Said>> {
        let relay = Relay::start(self.port(pooled));
        self.run_on(relay.port, driver, setup, pooled, Some(section));
        relay.take()
    }

    fn run_on(
        &self,
        port: u16,
        driver: &Driver,
        setup: &Setup,
        pooled: bool,
        section: Option<&str>,
    ) -> String {
        let name = driver.name;
        for sql in [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name} OWNER app"),
        ] {
            self.herd.psql(0, &sql).expect("a database of its own");
        }
        let noise = pooled.then(|| Noise::start(self.endpoint.port, name, &self.herd.options().app_password));
        let folder = setup.folder(if section.is_some() { "output/traced" } else { "output" });
        let file = folder.join(format!("{name}.{}", if pooled { "pgherd" } else { "direct" }));
        let output = File::create(&file).expect("the output's file can be written");

        let (program, arguments) = setup.command(driver.tool, &drivers_folder().join(driver.program));
        let mut command = leashed("KILL", program);
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(variable);
            }
        }
        let binaries = self.herd.binaries().program("psql");
        let mut path = binaries.parent().map(PathBuf::from).unwrap_or_default().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.args(arguments).args(driver.arguments).envs(driver.env.iter().copied());
        if let Some(section) = section {
            command.env("ONLY", section);
        }
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("PGUSER", "app");
        command.env("PGPASSWORD", &self.herd.options().app_password).env("PGDATABASE", name);
        command.env("PATH", path).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command
            .env("NODE_PATH", setup.folder("node").join("node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("HOME", setup.folder("home")).env("NODE_NO_WARNINGS", "1");
        command.stdout(output.try_clone().expect("a file can be shared")).stderr(output).stdin(Stdio::null());
        let mut child = self.herd.keeper().spawn(command).expect("the program starts");
        let deadline = Instant::now() + PROGRAM_MAX;
        let ended = loop {
            match child.try_wait().expect("a child can be asked") {
                Some(status) => break status.to_string(),
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break "it hung".into();
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        drop(noise);
        String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()).into_owned() + &ended + "\n"
    }
}

fn drivers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// `None`: the same, apart from what is listed. Section by section: a line more in one says nothing of the next.
fn difference(name: &str, direct: &str, pooled: &str) -> Option<String> {
    let listed = |line: &str| DIFFERENT.iter().any(|(d, part, _)| *d == name_of(name) && line.contains(part));
    let sections = |text: &str| text.split("\n== ").map(str::to_owned).collect::<Vec<_>>();
    let (direct, pooled) = (sections(direct), sections(pooled));
    let mut text = String::new();
    // Two programs that fail alike prove nothing.
    let ended = direct.last().is_some_and(|section| section.ends_with("exit status: 0\n"));
    if !ended || direct.iter().any(|section| section.contains("!! ")) {
        text += "  the program fails on the direct connection\n";
    }
    for at in 0..direct.len().max(pooled.len()) {
        let lines = |side: &[String]| {
            side.get(at).map(|s| s.lines().map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default()
        };
        let (left, right) = (lines(&direct), lines(&pooled));
        let same = left.iter().zip(&right).take_while(|(a, b)| a == b || listed(a)).count();
        if same == left.len() && same == right.len() {
            continue;
        }
        text += &format!("  {}, line {same}\n", left.first().or(right.first()).map_or("", String::as_str));
        for (sign, side) in [('-', &left), ('+', &right)] {
            for line in side.iter().skip(same).take(SHOWN_MAX) {
                text += &format!("    {sign} {}\n", line.chars().take(400).collect::<String>());
            }
        }
    }
    (!text.is_empty()).then_some(text)
}

/// `psycopg_python` is psycopg.
fn name_of(name: &str) -> &str {
    name.strip_suffix("_python").unwrap_or(name)
}

#[test]
fn every_driver_prints_what_it_prints_on_a_direct_connection() {
    let only = std::env::var("PGHERD_DRIVERS_ONLY").unwrap_or_default();
    let wanted: Vec<&Driver> = DRIVERS.iter().filter(|d| d.name.contains(&only)).collect();
    let setup = Setup::new(&drivers_folder());
    let stage = Stage::start(&wanted);
    let queue = Mutex::new(wanted.iter().copied().collect::<VecDeque<_>>());
    let (wrong, told) = (Mutex::new(String::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(driver) = { queue.lock().expect("nobody panics with it").pop_front() } {
                    let name = driver.name;
                    let line = match setup.install(driver.tool) {
                        Err(why) => format!("SKIPPED {name}: {why}"),
                        Ok(version) => {
                            let started = Instant::now();
                            let direct = stage.run(driver, &setup, false);
                            let pooled = stage.run(driver, &setup, true);
                            let mut verdict = format!("{} lines agree", direct.lines().count());
                            let mut different = difference(name, &direct, &pooled);
                            // The whole program shows what a trace of it would.
                            if let (Some(section), None) = (driver.traced, &different) {
                                let direct = stage.trace(driver, section, &setup, false);
                                let pooled = stage.trace(driver, section, &setup, true);
                                match traces::compare(name, &direct, &pooled) {
                                    Ok(count) => verdict += &format!(", {count} messages too"),
                                    Err(text) => different = Some(text),
                                }
                            }
                            let verdict = match different {
                                None => verdict,
                                Some(text) => {
                                    *wrong.lock().expect("nobody panics with it") +=
                                        &format!("== {name}\n{text}");
                                    "DIFFERENT".into()
                                }
                            };
                            let took = started.elapsed().as_secs_f32();
                            format!("{name} ({version}): {verdict}, {took:.1} s")
                        }
                    };
                    told.lock().expect("nobody panics with it").push(line);
                }
            });
        }
    });
    // Past the test's own capture: what was skipped is not to be overlooked.
    let mut terminal = std::io::stderr();
    for line in told.into_inner().expect("nobody panicked with it") {
        let _ = writeln!(terminal, "drivers: {line}");
    }
    let wrong = wrong.into_inner().expect("nobody panicked with it");
    let log = stage.endpoint.log();
    assert!(!log.contains("panicked"), "pgherd panicked:\n{log}");
    assert!(
        wrong.is_empty(),
        "a direct connection (-) and pgherd (+) differ; the whole output is in {}\n{wrong}",
        setup.folder("output").display()
    );
}
