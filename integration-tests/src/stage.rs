//! A herd of PostgreSQL servers with `pgherd serve` in front of it.
//!
//! Invariant: one stage at a time in a test binary: crashes under load are a matter of time, and two herds on a
//! small machine would only measure each other.
//!
//! The pgherd that runs is the one beside the test's own binary, in the same profile; `cargo test --workspace`
//! builds it (it builds the binaries of every package that has tests). `PGHERD_BIN` names another one. Fault points exist only in
//! builds with debug assertions.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{APP_ROLE, CONTROL_ROLE, Herd, HerdOptions, leashed};

pub const SHARDS: usize = 4;

/// The issue's own bound: what a crash left prepared is finished within this of the last restart.
pub const PREPARED_GONE_WITHIN: Duration = Duration::from_secs(10);

const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

static ALONE: Mutex<()> = Mutex::new(());

pub struct StageOptions {
    pub shards: usize,
    /// On where servers are killed: then it is the disk that must know.
    pub fsync: bool,
    /// Lines of `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    pub pool_size: u32,
    pub checkout_timeout: &'static str,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self { shards: SHARDS, fsync: true, settings: Vec::new(), pool_size: 20, checkout_timeout: "5s" }
    }
}

/// What the four tables of pgbench add up to on all servers together, past pgherd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub accounts: i64,
    pub tellers: i64,
    pub branches: i64,
    /// pgbench's history and the ledger of our own clients.
    pub deltas: i64,
    pub history_rows: i64,
}

pub struct Stage {
    proxy: Mutex<Option<Child>>,
    herd: Herd,
    port: u16,
    configuration: PathBuf,
    log: PathBuf,
    // Last: the next stage may begin when everything of this one is gone.
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    /// Servers and a configuration; pgherd is not started.
    pub fn prepare(options: &StageOptions) -> Self {
        let alone = lock(&ALONE);
        let herd_options = HerdOptions {
            fsync: options.fsync,
            settings: options.settings.clone(),
            ..HerdOptions::default()
        };
        let herd = Herd::start(options.shards, herd_options).unwrap_or_else(|error| panic!("{error}"));
        let port = free_port();
        let configuration = herd.folder().join("pgherd.toml");
        fs::write(&configuration, configuration_text(&herd, port, options))
            .expect("the configuration is written");
        let log = herd.folder().join("pgherd.log");
        Self { proxy: Mutex::new(None), herd, port, configuration, log, _alone: alone }
    }

    /// Servers, and pgherd answering.
    pub fn start(options: &StageOptions) -> Self {
        let stage = Self::prepare(options);
        stage.serve(None);
        stage
    }

    pub fn herd(&self) -> &Herd {
        &self.herd
    }

    /// Starts pgherd and returns when it answers. `fault`: as in `PGHERD_FAULT`.
    pub fn serve(&self, fault: Option<&str>) {
        self.launch(fault);
        let started = Instant::now();
        loop {
            match self.herd.psql_at(&self.url(), "SELECT 1") {
                Ok(answer) => {
                    assert_eq!(answer, "1");
                    return;
                }
                Err(error) if started.elapsed() > ANSWERS_WITHIN => {
                    panic!("pgherd does not answer: {error}\n{}", self.log_tail())
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
            if let Some(status) = self.has_ended() {
                panic!("pgherd ended by itself ({status})\n{}", self.log_tail());
            }
        }
    }

    /// Starts pgherd and does not wait.
    pub fn launch(&self, fault: Option<&str>) {
        let mut proxy = lock(&self.proxy);
        assert!(proxy.is_none(), "one pgherd at a time");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("the log opens");
        let mut command = leashed("KILL", program());
        command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
        command.arg("serve").arg(&self.configuration).envs(self.herd.env()).env_remove("PGHERD_FAULT");
        if let Some(fault) = fault {
            command.env("PGHERD_FAULT", fault);
        }
        command.stdout(log.try_clone().expect("the log opens")).stderr(log);
        *proxy = Some(self.herd.keeper().spawn(command).expect("pgherd starts"));
    }

    /// `pgherd rebalance` with these arguments, in a process of its own, to its end. `fault`: as in `PGHERD_FAULT`.
    pub fn rebalance(&self, what: &str, arguments: &[&str], fault: Option<&str>) -> Output {
        let mut command = leashed("KILL", program());
        command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0").env_remove("PGHERD_FAULT");
        command.args(["rebalance", what]).arg(&self.configuration).args(arguments).envs(self.herd.env());
        if let Some(fault) = fault {
            command.env("PGHERD_FAULT", fault);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.herd.keeper().spawn(command).expect("pgherd starts");
        child.wait_with_output().expect("pgherd can be waited for")
    }

    /// Where the configuration is.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// `None`: it runs.
    pub fn has_ended(&self) -> Option<ExitStatus> {
        lock(&self.proxy).as_mut().expect("pgherd was started").try_wait().expect("a child can be asked")
    }

    /// As the kernel or an operator would: no last word, nothing flushed.
    pub fn kill_pgherd(&self) {
        if let Some(mut child) = lock(&self.proxy).take() {
            let ended = child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "pgherd ended by itself ({ended:?})\n{}", self.log_tail());
            child.kill().expect("pgherd can be killed");
            child.wait().expect("pgherd can be waited for");
        }
    }

    /// Waits until an armed fault has struck. `false`: it has not, in this time.
    pub fn struck(&self, within: Duration) -> bool {
        let struck = wait_for(within, || self.has_ended().is_some());
        if struck {
            *lock(&self.proxy) = None;
        }
        struck
    }

    /// As the application, through pgherd.
    pub fn url(&self) -> String {
        let HerdOptions { app_password, database, .. } = self.herd.options();
        format!("postgres://{APP_ROLE}:{app_password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs `sql` through pgherd, each statement by itself; fields between '|', rows between newlines.
    pub fn ask(&self, sql: &str) -> String {
        self.herd
            .psql_at(&self.url(), sql)
            .unwrap_or_else(|error| panic!("{sql}\n{error}\n{}", self.log_tail()))
    }

    /// Runs `sql` on one server, past pgherd.
    pub fn ask_server(&self, server: usize, sql: &str) -> String {
        self.herd.psql(server, sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// The answers of all servers, one after the other.
    pub fn ask_servers(&self, sql: &str) -> Vec<String> {
        (0..self.herd.len()).map(|server| self.ask_server(server, sql)).collect()
    }

    /// The sum of one number from each server; no rows and NULL count as 0.
    pub fn sum(&self, sql: &str) -> i64 {
        let number = |text: &String| match text.as_str() {
            "" => 0,
            text => text.parse::<i64>().unwrap_or_else(|_| panic!("{sql}: {text:?} is no number")),
        };
        self.ask_servers(sql).iter().map(number).sum()
    }

    pub fn totals(&self) -> Totals {
        Totals {
            accounts: self.sum("SELECT sum(abalance) FROM pgbench_accounts"),
            tellers: self.sum("SELECT sum(tbalance) FROM pgbench_tellers"),
            branches: self.sum("SELECT sum(bbalance) FROM pgbench_branches"),
            deltas: self.sum("SELECT sum(delta) FROM pgbench_history")
                + self.sum("SELECT sum(delta) FROM ledger"),
            history_rows: self.sum("SELECT count(*) FROM pgbench_history"),
        }
    }

    /// The four sums must agree.
    pub fn check_sums(&self, when: &str) -> Totals {
        let totals = self.totals();
        let Totals { accounts, tellers, branches, deltas, .. } = totals;
        assert!(
            accounts == tellers && tellers == branches && branches == deltas,
            "{when}: the sums do not agree: {totals:?}\n{}",
            self.log_tail()
        );
        totals
    }

    /// Transactions of pgherd's that are prepared, on all servers.
    pub fn prepared(&self) -> i64 {
        self.sum("SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'pgherd:%'")
    }

    /// Waits until nothing is prepared and nobody's transaction is open any more; how long it took.
    pub fn check_nothing_left(&self, since: Instant, when: &str) -> Duration {
        while self.prepared() > 0 {
            if since.elapsed() > PREPARED_GONE_WITHIN {
                panic!(
                    "{when}: prepared {:?} after the last restart: {:?}\n{}",
                    since.elapsed(),
                    self.ask_servers("SELECT gid, prepared, owner FROM pg_prepared_xacts"),
                    self.log_tail()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        let took = since.elapsed();
        self.check_nothing_open(when);
        took
    }

    /// Nobody's transaction is open on any server.
    pub fn check_nothing_open(&self, when: &str) {
        let busy =
            format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{APP_ROLE}' AND state <> 'idle'");
        let none = wait_for(PREPARED_GONE_WITHIN, || self.sum(&busy) == 0);
        assert!(
            none,
            "{when}: still open: {:?}\n{}",
            self.ask_servers(
                "SELECT pid, state, wait_event, xact_start, query FROM pg_stat_activity WHERE state <> 'idle'"
            ),
            self.log_tail()
        );
    }

    /// pgbench's tables, filled through pgherd by pgbench itself, and the ledger of our own clients.
    pub fn make_bank(&self, scale: u32) {
        let output = self.pgbench(&["-i", "-q", "-s", &scale.to_string()]);
        assert!(
            output.status.success(),
            "pgbench -i: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.log_tail()
        );
        self.ask(
            "CREATE TABLE ledger (aid integer NOT NULL, n bigint NOT NULL, delta bigint NOT NULL, PRIMARY KEY (aid, n))",
        );
    }

    /// Runs pgbench through pgherd to its end.
    pub fn pgbench(&self, arguments: &[&str]) -> Output {
        let mut command = leashed("KILL", self.herd.binaries().program("pgbench"));
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(variable);
            }
        }
        command.env("LC_ALL", "C.UTF-8").args(arguments).arg(self.url());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.herd.keeper().spawn(command).expect("pgbench starts");
        child.wait_with_output().expect("pgbench can be waited for")
    }

    /// Bound to pgherd's life: a psql command that the test feeds.
    pub fn psql_command(&self) -> Command {
        let mut command = leashed("KILL", self.herd.binaries().program("psql"));
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(variable);
            }
        }
        command.env("LC_ALL", "C.UTF-8").args([
            "-X",
            "-A",
            "-t",
            "-v",
            "VERBOSITY=verbose",
            "-d",
            &self.url(),
        ]);
        command
    }

    /// A panic in pgherd is a failure whatever the data say.
    pub fn check_no_panic(&self) {
        let log = self.log();
        let panic: Vec<&str> = log.lines().filter(|line| line.contains("panicked at")).collect();
        assert!(panic.is_empty(), "pgherd panicked: {panic:?}\n{}", self.log_tail());
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("the end of pgherd's log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
    }

    pub fn note(&self, text: &str) {
        if let Ok(mut log) = File::options().append(true).create(true).open(&self.log) {
            let _ = writeln!(log, "--- the test: {text}");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if let Some(mut child) = lock(&self.proxy).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn configuration_text(herd: &Herd, port: u16, options: &StageOptions) -> String {
    let database = &herd.options().database;
    let StageOptions { pool_size, checkout_timeout, .. } = options;
    let mut text = format!(
        r#"[server]
listen = ["127.0.0.1:{port}"]
workers = 2

[auth]
method = "scram-sha-256"

[pool]
size = {pool_size}
checkout_timeout = "{checkout_timeout}"

[[users]]
name = "{APP_ROLE}"
password = "env:APP_PASSWORD"

[databases.{database}]
control = {{ user = "{CONTROL_ROLE}", password = "env:PGHERD_PASSWORD" }}
"#
    );
    for server in 0..herd.len() {
        let primary = herd.address(server);
        text.push_str(&format!(
            "\n[[databases.{database}.shards]]\nname = \"s{server}\"\nprimary = \"{primary}\"\n"
        ));
    }
    for (distribution, key_type) in
        [("account", "integer"), ("teller", "integer"), ("branch", "integer"), ("item", "bigint")]
    {
        text.push_str(&format!(
            "\n[databases.{database}.distributions.{distribution}]\nby = \"hash\"\ntype = \"{key_type}\"\n"
        ));
    }
    text.push_str(&format!("\n[databases.{database}.tables]\n"));
    for (table, distribution, key) in [
        ("pgbench_accounts", "account", "aid"),
        ("pgbench_history", "account", "aid"),
        ("pgbench_tellers", "teller", "tid"),
        ("pgbench_branches", "branch", "bid"),
        ("ledger", "account", "aid"),
        ("items", "item", "id"),
    ] {
        text.push_str(&format!("{table} = {{ distribution = \"{distribution}\", key = \"{key}\" }}\n"));
    }
    text
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("PGHERD_BIN") {
        return named.into();
    }
    // target/debug/deps/crash-1234 -> target/debug/pgherd
    let own = std::env::current_exe().expect("a test knows its own path");
    let program = own.parent().and_then(Path::parent).expect("target/<profile>/deps").join("pgherd");
    assert!(program.is_file(), "pgherd is not built: cargo build --package pgherd");
    program
}

/// Below the range for outgoing connections, so that no client's socket takes it while pgherd is down.
fn free_port() -> u16 {
    loop {
        let port = rand::Rng::random_range(&mut rand::rng(), 12_000..20_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_for(within: Duration, holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for something that must come to hold.
pub fn until(what: &str, within: Duration, holds: impl Fn() -> bool) {
    assert!(wait_for(within, holds), "not within {within:?}: {what}");
}
