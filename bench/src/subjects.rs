//! What is measured: PostgreSQL itself, and the poolers in front of it.
//!
//! Invariant: a pooler ends with its [`Subject`], and with us. Both poolers ask for SCRAM, pool by transaction and
//! have the same number of server connections.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{APP_ROLE, CONTROL_ROLE, Herd, leashed};

use crate::POOL;
use crate::failure::Failure;
use crate::round::{Script, plain_environment};

/// The first with `max_prepared_statements`.
const PGBOUNCER_MIN: (u32, u32) = (1, 21);

/// For pgherd that includes the catalog on all shards.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Clients of a pooler at most; none is near it.
const CLIENTS_MAX: u32 = 10_000;

/// Below what the herd and outgoing connections use.
const PORTS: std::ops::Range<u16> = 12_000..20_000;

const LOG_TAIL_LINES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooler {
    None,
    PgBouncer,
    Pgherd,
    PgherdSharded,
}

impl Pooler {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "direct",
            Self::PgBouncer => "PgBouncer",
            Self::Pgherd => "pgherd",
            Self::PgherdSharded => "pgherd, 4 shards",
        }
    }
}

#[derive(Debug)]
pub struct Subject {
    pub pooler: Pooler,
    /// As the application.
    pub url: String,
    servers: Vec<usize>,
    process: Option<Process>,
}

impl Subject {
    pub fn direct(herd: &Herd) -> Self {
        Self { pooler: Pooler::None, url: herd.url(0), servers: vec![0], process: None }
    }

    /// Select-only runs on one shard for any key, so the sharded pgherd takes part in TPC-B only.
    pub fn takes(&self, script: Script) -> bool {
        self.pooler != Pooler::PgherdSharded || script == Script::Tpcb
    }

    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Of the servers that work for this subject.
    pub fn postmasters(&self, herd: &Herd) -> Vec<u32> {
        let read = |server: &usize| {
            let file = herd.folder().join(format!("s{server}/data/postmaster.pid"));
            fs::read_to_string(file).ok()?.lines().next()?.parse().ok()
        };
        self.servers.iter().filter_map(read).collect()
    }

    /// Asks the pooler to end, waits for that, and returns all that it wrote.
    pub fn stop(mut self) -> String {
        let Some(process) = &mut self.process else { return String::new() };
        let _ = Command::new("kill").args(["-TERM", &process.child.id().to_string()]).status();
        let deadline = Instant::now() + ANSWERS_WITHIN;
        while matches!(process.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        fs::read_to_string(&process.log).unwrap_or_default()
    }

    /// The end of what the pooler wrote, with the news that it has ended when it has.
    pub fn log_tail(&mut self) -> String {
        let Some(process) = &mut self.process else { return String::new() };
        let log = tail(&fs::read_to_string(&process.log).unwrap_or_default());
        match process.child.try_wait() {
            Ok(Some(status)) => format!("{log}\n{} ended by itself ({status})", self.pooler),
            _ => log,
        }
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A PgBouncer that is new enough.
#[derive(Debug)]
pub struct PgBouncer {
    /// The program with what belongs before its own arguments.
    words: Vec<String>,
    version: String,
}

impl PgBouncer {
    /// # Errors
    /// Why it has to be left out.
    pub fn find(command: &str) -> Result<Self, String> {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let [program, arguments @ ..] = &words[..] else { return Err("PGBOUNCER is empty".into()) };
        let output = Command::new(program)
            .args(arguments)
            .arg("--version")
            .output()
            .map_err(|error| format!("{command}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (version, number) = read_version(&said).ok_or_else(|| {
            format!("{command} --version: {}", tail(&String::from_utf8_lossy(&output.stderr)))
        })?;
        if number < PGBOUNCER_MIN {
            return Err(format!(
                "{command} is {version}, older than {}.{}, which is the first with prepared statements; \
                 name a newer one in PGBOUNCER",
                PGBOUNCER_MIN.0, PGBOUNCER_MIN.1
            ));
        }
        Ok(Self { words, version })
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// In front of the first server.
    ///
    /// # Errors
    /// [`Failure::Program`] with its log when it does not answer.
    pub fn start(&self, herd: &Herd) -> Result<Subject, Failure> {
        let port = free_port()?;
        let file = |name: &str| herd.folder().join(name);
        let (users, ini) = (file("pgbouncer.users"), file("pgbouncer.ini"));
        let write = |path: &Path, text: &str| fs::write(path, text).map_err(Failure::io("write a file"));
        write(&users, &format!("\"{APP_ROLE}\" \"{}\"\n", herd.options().app_password))?;
        write(&ini, &self.configuration(herd, port, &users))?;

        // It refuses to run as root, as the servers do: whoever they run as owns the folder.
        let owner = fs::metadata(herd.folder()).map_err(Failure::io("look at the folder of the servers"))?;
        let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        let mut command = Command::new("setpriv");
        if root {
            command.arg(format!("--reuid={}", owner.uid())).arg(format!("--regid={}", owner.gid()));
            command.arg("--clear-groups");
        }
        command.args(["--pdeathsig=KILL", "--"]).args(&self.words).arg(&ini);
        command.process_group(0).stdin(Stdio::null());
        start(herd, Pooler::PgBouncer, command, port, vec![0])
    }

    fn configuration(&self, herd: &Herd, port: u16, users: &Path) -> String {
        let (server, database) = (herd.port(0), &herd.options().database);
        format!(
            "[databases]\n\
             {database} = host=127.0.0.1 port={server} dbname={database}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = scram-sha-256\n\
             auth_file = {}\n\
             pool_mode = transaction\n\
             default_pool_size = {POOL}\n\
             max_client_conn = {CLIENTS_MAX}\n\
             max_prepared_statements = 200\n",
            users.display()
        )
    }
}

/// "PgBouncer 1.24.1" and its first two numbers.
fn read_version(said: &str) -> Option<(String, (u32, u32))> {
    let version = said.lines().next()?.strip_prefix("PgBouncer ")?.trim();
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    Some((version.to_owned(), (numbers.next()?, numbers.next()?)))
}

#[derive(Debug)]
pub struct Pgherd {
    program: PathBuf,
    version: String,
    workers: u32,
}

impl Pgherd {
    /// `None`: beside this program.
    ///
    /// # Errors
    /// [`Failure::NoPgherd`].
    pub fn find(program: Option<&Path>, workers: u32) -> Result<Self, Failure> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => {
                std::env::current_exe().map_err(Failure::io("find this program"))?.with_file_name("pgherd")
            }
        };
        let missing = || Failure::NoPgherd(program.display().to_string());
        let output = Command::new(&program).arg("--version").output().map_err(|_| missing())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = said.trim().strip_prefix("pgherd ").ok_or_else(missing)?.to_owned();
        Ok(Self { program, version, workers })
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// In front of the first server: a plain pool.
    ///
    /// # Errors
    /// [`Failure::Program`] with its log when it does not answer.
    pub fn start_single(&self, herd: &Herd) -> Result<Subject, Failure> {
        let shards = shards(herd, 0..=0);
        let words = [self.program.clone().into_os_string()];
        self.start(herd, Pooler::Pgherd, vec![0], &words, |database| {
            format!("[databases.{database}]\n{shards}")
        })
    }

    /// Like [`Self::start_single`], under callgrind. To be ended with [`Subject::stop`].
    ///
    /// # Errors
    /// [`Failure::Program`] with its log when it does not answer.
    pub fn start_counted(&self, herd: &Herd) -> Result<Subject, Failure> {
        let mut words =
            vec!["valgrind".into(), "--tool=callgrind".into(), "--callgrind-out-file=/dev/null".into()];
        words.push(self.program.clone().into_os_string());
        let shards = shards(herd, 0..=0);
        let text = |database: &str| format!("[databases.{database}]\n{shards}");
        self.start(herd, Pooler::Pgherd, vec![0], &words, text)
    }

    /// In front of `servers`, with pgbench's tables spread over them as `pgherd demo` does it: one transaction of
    /// TPC-B changes rows on two or three of four shards.
    ///
    /// # Errors
    /// [`Failure::Program`] with its log when it does not answer.
    pub fn start_sharded(&self, herd: &Herd, servers: RangeInclusive<usize>) -> Result<Subject, Failure> {
        let shards = shards(herd, servers.clone());
        let words = [self.program.clone().into_os_string()];
        self.start(herd, Pooler::PgherdSharded, servers.collect(), &words, |database| {
            format!(
                r#"[databases.{database}]
control = {{ user = "{CONTROL_ROLE}", password = "env:PGHERD_PASSWORD" }}
{shards}
[databases.{database}.distributions]
account = {{ by = "hash", type = "integer" }}
teller = {{ by = "hash", type = "integer" }}
branch = {{ by = "hash", type = "integer" }}

[databases.{database}.tables]
pgbench_accounts = {{ distribution = "account", key = "aid" }}
pgbench_history = {{ distribution = "account", key = "aid" }}
pgbench_tellers = {{ distribution = "teller", key = "tid" }}
pgbench_branches = {{ distribution = "branch", key = "bid" }}
"#
            )
        })
    }

    fn start(
        &self,
        herd: &Herd,
        pooler: Pooler,
        servers: Vec<usize>,
        words: &[OsString],
        databases: impl FnOnce(&str) -> String,
    ) -> Result<Subject, Failure> {
        let port = free_port()?;
        let workers = self.workers;
        let text = format!(
            r#"[server]
listen = ["127.0.0.1:{port}"]
workers = {workers}
max_clients = {CLIENTS_MAX}

[auth]
method = "scram-sha-256"

[[users]]
name = "{APP_ROLE}"
password = "env:APP_PASSWORD"

[pool]
size = {POOL}

{}"#,
            databases(&herd.options().database)
        );
        let file = herd.folder().join(format!("pgherd-{port}.toml"));
        fs::write(&file, text).map_err(Failure::io("write a file"))?;
        let mut command = leashed("KILL", &words[0]);
        command.args(&words[1..]).arg("serve").arg(&file);
        start(herd, pooler, command, port, servers)
    }
}

fn shards(herd: &Herd, servers: RangeInclusive<usize>) -> String {
    let database = &herd.options().database;
    let shard = |server| {
        let primary = herd.address(server);
        format!("[[databases.{database}.shards]]\nname = \"s{server}\"\nprimary = \"{primary}\"\n")
    };
    servers.map(shard).collect()
}

/// Starts a pooler and waits for its first answer.
fn start(
    herd: &Herd,
    pooler: Pooler,
    mut command: Command,
    port: u16,
    servers: Vec<usize>,
) -> Result<Subject, Failure> {
    let log = herd.folder().join(format!("pooler-{port}.log"));
    let output = File::create(&log).map_err(Failure::io("create a log"))?;
    let error = output.try_clone().map_err(Failure::io("create a log"))?;
    plain_environment(&mut command);
    command.stdout(output).stderr(error);
    // What `plain_environment` removes of ours is set again: the passwords' names begin with PG, too.
    command.envs(herd.env());
    let child = herd.keeper().spawn(command).map_err(Failure::io(&format!("start {pooler}")))?;

    let (password, database) = (&herd.options().app_password, &herd.options().database);
    let url = format!("postgres://{APP_ROLE}:{password}@127.0.0.1:{port}/{database}");
    let mut subject = Subject { pooler, url, servers, process: Some(Process { child, log }) };

    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let error = match herd.psql_at(&subject.url, "SELECT 1") {
            Ok(_) => return Ok(subject),
            Err(error) => error,
        };
        let ended =
            subject.process.as_mut().is_some_and(|process| !matches!(process.child.try_wait(), Ok(None)));
        if ended || Instant::now() >= deadline {
            return Err(Failure::Program {
                what: format!("{pooler} does not answer: {error}"),
                said: subject.log_tail(),
            });
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Someone else may take it before the pooler does; then the pooler says so.
fn free_port() -> Result<u16, Failure> {
    let own = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start)).unwrap_or(0);
    let from = PORTS.start + own;
    (from..PORTS.end)
        .chain(PORTS.start..from)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| Failure::Program { what: "no free port".into(), said: String::new() })
}

/// The last lines of a log.
pub fn tail(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_pgbouncer_are_read() {
        let cases = [
            ("PgBouncer 1.24.1\nlibevent 2.1.12-stable\n", Some(("1.24.1", (1, 24)))),
            ("PgBouncer 1.18.0\n", Some(("1.18.0", (1, 18)))),
            ("PgBouncer 2.0dev\n", Some(("2.0dev", (2, 0)))),
            ("bash: no such program", None),
            ("", None),
        ];
        for (said, expected) in cases {
            let found = read_version(said);
            let found = found.as_ref().map(|(version, number)| (version.as_str(), *number));
            assert_eq!(found, expected, "{said}");
        }
        let missing = PgBouncer::find("/nowhere/pgbouncer").unwrap_err();
        assert!(missing.starts_with("/nowhere/pgbouncer: "), "{missing}");
    }
}
