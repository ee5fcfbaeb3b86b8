//! What is measured: PostgreSQL itself, and the poolers in front of it.
//!
//! Invariant: a pooler ends with its [`Subject`], and with us. Both poolers let clients in by the same door, pool by
//! transaction and have the same number of server connections.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
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
use crate::load::{Door, ITEMS_TABLE, Load};
use crate::round::plain_environment;

/// The first with `max_prepared_statements`.
const PGBOUNCER_MIN: (u32, u32) = (1, 21);

/// For pgherd that includes the catalog on all shards.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Clients of a pooler at most: the idle ones, and whoever looks whether it answers.
const CLIENTS_MAX: u32 = crate::idle::CLIENTS + 100;

/// Below what the herd and outgoing connections use.
const PORTS: std::ops::Range<u16> = 12_000..20_000;

const LOG_TAIL_LINES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooler {
    None,
    PgBouncer,
    Pgherd,
    PgherdTwo,
    PgherdSharded,
}

impl Pooler {
    pub const ALL: [Self; 5] =
        [Self::None, Self::PgBouncer, Self::Pgherd, Self::PgherdTwo, Self::PgherdSharded];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "direct",
            Self::PgBouncer => "PgBouncer",
            Self::Pgherd => "pgherd",
            Self::PgherdTwo => "pgherd, 2 workers",
            Self::PgherdSharded => "pgherd, 4 shards",
        }
    }
}

/// What is behind a pooler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    Server(usize),
    /// pgbench's tables are spread over these.
    Shards(RangeInclusive<usize>),
    /// Answers at once; see [`crate::stub`].
    Stub(SocketAddr),
}

impl Behind {
    fn servers(&self) -> Vec<usize> {
        match self {
            Self::Server(server) => vec![*server],
            Self::Shards(servers) => servers.clone().collect(),
            Self::Stub(_) => Vec::new(),
        }
    }

    /// In TOML.
    fn shards(&self, herd: &Herd) -> String {
        let database = &herd.options().database;
        let shard = |name: String, primary: String| {
            format!("[[databases.{database}.shards]]\nname = \"{name}\"\nprimary = \"{primary}\"\n")
        };
        match self {
            Self::Stub(address) => shard("stub".into(), format!("postgres://{address}/{database}")),
            Self::Server(_) | Self::Shards(_) => self
                .servers()
                .into_iter()
                .map(|server| shard(format!("s{server}"), herd.address(server)))
                .collect(),
        }
    }
}

#[derive(Debug)]
pub struct Subject {
    pub pooler: Pooler,
    door: Door,
    /// As the application.
    pub url: String,
    /// `None`: there is no pooler.
    pub address: Option<SocketAddr>,
    servers: Vec<usize>,
    process: Option<Process>,
}

impl Subject {
    pub fn direct(herd: &Herd) -> Self {
        Self {
            pooler: Pooler::None,
            door: Door::Scram,
            url: herd.url(0),
            address: None,
            servers: vec![0],
            process: None,
        }
    }

    pub fn takes(&self, load: &Load, poolers: &[Pooler]) -> bool {
        self.door == load.door && poolers.contains(&self.pooler)
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

    /// With one server, or the stub, behind it.
    ///
    /// # Errors
    /// [`Failure::Program`] with its log when it does not answer.
    pub fn start(&self, herd: &Herd, door: Door, behind: &Behind) -> Result<Subject, Failure> {
        let port = free_port()?;
        let file = |name: &str| herd.folder().join(format!("pgbouncer-{port}.{name}"));
        let (users, ini) = (file("users"), file("ini"));
        let write = |path: &Path, text: &str| fs::write(path, text).map_err(Failure::io("write a file"));
        write(&users, &format!("\"{APP_ROLE}\" \"{}\"\n", herd.options().app_password))?;
        write(&ini, &configuration(herd, port, &users, door, behind))?;

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
        start(herd, Pooler::PgBouncer, door, command, port, behind)
    }
}

/// Of PgBouncer.
fn configuration(herd: &Herd, port: u16, users: &Path, door: Door, behind: &Behind) -> String {
    let database = &herd.options().database;
    let server = match behind {
        Behind::Stub(address) => address.port(),
        Behind::Server(server) => herd.port(*server),
        Behind::Shards(servers) => herd.port(*servers.start()),
    };
    let (method, tls) = match door {
        Door::Scram => ("scram-sha-256", String::new()),
        Door::Trust => ("trust", String::new()),
        Door::Tls => {
            let [certificate, key] = certificate_files(herd).map(|file| file.display().to_string());
            let tls = format!(
                "client_tls_sslmode = require\nclient_tls_cert_file = {certificate}\nclient_tls_key_file = {key}\n"
            );
            ("scram-sha-256", tls)
        }
    };
    format!(
        "[databases]\n\
         {database} = host=127.0.0.1 port={server} dbname={database}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = {method}\n\
         auth_file = {}\n\
         {tls}\
         pool_mode = transaction\n\
         default_pool_size = {POOL}\n\
         max_client_conn = {CLIENTS_MAX}\n\
         max_prepared_statements = 200\n",
        users.display()
    )
}

/// A certificate that nobody has to trust (`sslmode=require`), and its key, where both poolers find them.
///
/// # Errors
/// [`Failure::Program`], [`Failure::Io`].
pub fn make_certificate(herd: &Herd) -> Result<(), Failure> {
    let failed = |error: rcgen::Error| Failure::Program {
        what: "a certificate cannot be made".into(),
        said: error.to_string(),
    };
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).map_err(failed)?;
    let texts = [made.cert.pem(), made.signing_key.serialize_pem()];
    for (file, text) in certificate_files(herd).iter().zip(texts) {
        fs::write(file, text).map_err(Failure::io("write a certificate"))?;
    }
    Ok(())
}

fn certificate_files(herd: &Herd) -> [PathBuf; 2] {
    ["tls.crt", "tls.key"].map(|name| herd.folder().join(name))
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
}

impl Pgherd {
    /// `None`: beside this program.
    ///
    /// # Errors
    /// [`Failure::NoPgherd`].
    pub fn find(program: Option<&Path>) -> Result<Self, Failure> {
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
        Ok(Self { program, version })
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// # Errors
    /// [`Failure::Program`] with its log when it does not answer.
    pub fn start(
        &self,
        herd: &Herd,
        pooler: Pooler,
        door: Door,
        behind: &Behind,
        workers: u32,
    ) -> Result<Subject, Failure> {
        let words = [self.program.clone().into_os_string()];
        self.start_by(herd, pooler, door, behind, workers, &words)
    }

    /// Like [`Self::start`], under callgrind. To be ended with [`Subject::stop`].
    ///
    /// # Errors
    /// [`Failure::Program`] with its log when it does not answer.
    pub fn start_counted(&self, herd: &Herd, pooler: Pooler, behind: &Behind) -> Result<Subject, Failure> {
        let mut words =
            vec!["valgrind".into(), "--tool=callgrind".into(), "--callgrind-out-file=/dev/null".into()];
        words.push(self.program.clone().into_os_string());
        self.start_by(herd, pooler, Door::Scram, behind, 1, &words)
    }

    fn start_by(
        &self,
        herd: &Herd,
        pooler: Pooler,
        door: Door,
        behind: &Behind,
        workers: u32,
        words: &[OsString],
    ) -> Result<Subject, Failure> {
        let port = free_port()?;
        let (database, shards) = (&herd.options().database, behind.shards(herd));
        let tables = match behind {
            Behind::Shards(_) => tables(database),
            Behind::Server(_) | Behind::Stub(_) => String::new(),
        };
        let control = match behind {
            Behind::Shards(_) => {
                format!("control = {{ user = \"{CONTROL_ROLE}\", password = \"env:PGHERD_PASSWORD\" }}\n")
            }
            Behind::Server(_) | Behind::Stub(_) => String::new(),
        };
        let method = if door == Door::Trust { "trust" } else { "scram-sha-256" };
        let tls = match door {
            Door::Scram | Door::Trust => String::new(),
            Door::Tls => {
                let [certificate, key] = certificate_files(herd).map(|file| file.display().to_string());
                format!(
                    "[server.tls]\nmode = \"require\"\ncertificate = \"{certificate}\"\nprivate_key = \"{key}\"\n"
                )
            }
        };
        let text = format!(
            r#"[server]
listen = ["127.0.0.1:{port}"]
workers = {workers}
max_clients = {CLIENTS_MAX}
{tls}
[auth]
method = "{method}"

[[users]]
name = "{APP_ROLE}"
password = "env:APP_PASSWORD"

[pool]
size = {POOL}

[databases.{database}]
{control}
{shards}
{tables}"#
        );
        let file = herd.folder().join(format!("pgherd-{port}.toml"));
        fs::write(&file, text).map_err(Failure::io("write a file"))?;
        let mut command = leashed("KILL", &words[0]);
        command.args(&words[1..]).arg("serve").arg(&file);
        start(herd, pooler, door, command, port, behind)
    }
}

/// pgbench's tables spread as `pgherd demo` does it: one transaction of TPC-B changes rows on two or three of four
/// shards.
fn tables(database: &str) -> String {
    format!(
        r#"[databases.{database}.distributions]
account = {{ by = "hash", type = "integer" }}
teller = {{ by = "hash", type = "integer" }}
branch = {{ by = "hash", type = "integer" }}

[databases.{database}.tables]
pgbench_accounts = {{ distribution = "account", key = "aid" }}
pgbench_history = {{ distribution = "account", key = "aid" }}
pgbench_tellers = {{ distribution = "teller", key = "tid" }}
pgbench_branches = {{ distribution = "branch", key = "bid" }}
{ITEMS_TABLE} = {{ distribution = "account", key = "id" }}
"#
    )
}

/// Starts a pooler and waits for its first answer.
fn start(
    herd: &Herd,
    pooler: Pooler,
    door: Door,
    mut command: Command,
    port: u16,
    behind: &Behind,
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
    let mode = if door == Door::Tls { "?sslmode=require" } else { "" };
    let mut subject = Subject {
        pooler,
        door,
        url: format!("postgres://{APP_ROLE}:{password}@127.0.0.1:{port}/{database}{mode}"),
        address: Some((Ipv4Addr::LOCALHOST, port).into()),
        servers: behind.servers(),
        process: Some(Process { child, log }),
    };

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
