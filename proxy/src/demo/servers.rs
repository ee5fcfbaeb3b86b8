//! A herd of real PostgreSQL servers for a while: for `pgherd demo`, the tests and the benchmark.
//!
//! Invariant: what a [`Herd`] started ends with it — when it is dropped, when a test panics, when this
//! process is killed with -9. Three things see to that: `Drop`, a parent-death signal on every server, and a
//! janitor process that removes the folder once the pipe from us closes.
//!
//! The servers listen on loopback and on a socket inside the herd's own folder (0700), never run as root, and
//! ask for scram-sha-256 over TCP. They are copies of one initdb, so they share a system identifier.
//!
//! Not here: what is in the tables (`tables`), pgherd itself (`endpoint`).
//!
//! Start reading at [`Herd::start`].

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// pgherd's own role on the servers: a superuser, also the one that `initdb` creates.
pub const CONTROL_ROLE: &str = "pgherd";

/// The role of the application; owns the database.
pub const APP_ROLE: &str = "app";

/// Below Linux's range for outgoing connections (32768..60999), so that while a killed server is down no
/// client's socket can take its port.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A free port may be taken between our look and the server's bind.
const PORT_ATTEMPTS_MAX: u32 = 10;

/// Crash recovery of a busy server with fsync takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A server that does not stop within this is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);

const POLL_EVERY: Duration = Duration::from_millis(10);

/// Longest path of a unix socket is 107 bytes; this much is left for ours.
const FOLDER_BYTES_MAX: usize = 80;

/// What of a server's log goes into an error.
const LOG_TAIL_LINES: usize = 12;

/// How the servers are set up.
#[derive(Debug, Clone)]
pub struct HerdOptions {
    /// Off: fast, and a killed *server* still loses nothing (only a killed machine would).
    pub fsync: bool,
    /// The database that every server has, owned by [`APP_ROLE`].
    pub database: String,
    pub control_password: String,
    pub app_password: String,
    /// Lines of `postgresql.conf`, after ours: the last one wins.
    pub settings: Vec<(String, String)>,
    /// Further arguments of `initdb`, after ours: `--locale=...`, `--wal-segsize=...`.
    pub initdb: Vec<String>,
}

impl Default for HerdOptions {
    fn default() -> Self {
        Self {
            fsync: false,
            database: "shop".into(),
            control_password: random_password(),
            app_password: random_password(),
            settings: Vec::new(),
            initdb: Vec::new(),
        }
    }
}

/// Why there is no herd. Every text says what to do, or what the server itself said.
#[derive(Debug)]
pub enum HerdError {
    /// No folder has `postgres` and `initdb`.
    NoPostgres { looked_in: Vec<PathBuf> },
    /// We are root, which PostgreSQL refuses, and there is nobody else to be.
    NoAccount,
    /// A program of ours could not be started, or a file not be written.
    Io { doing: String, source: io::Error },
    /// A program ended with an error; `said` is its stderr.
    Failed { doing: String, said: String },
    /// The server did not come up; `log` is the end of its log.
    NotReady { server: usize, log: String },
    /// No port of ours was free, time after time.
    NoPort { server: usize },
}

impl fmt::Display for HerdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPostgres { looked_in } => {
                let places: Vec<_> = looked_in.iter().map(|path| path.display().to_string()).collect();
                write!(
                    f,
                    "PostgreSQL's server programs (postgres, initdb) were not found in: {}\n\
                     hint: install them (Debian, Ubuntu: apt-get install postgresql), or name their folder in PGHERD_PG_BIN",
                    places.join(", ")
                )
            }
            Self::NoAccount => write!(
                f,
                "PostgreSQL does not run as root, and there is no user \"postgres\" or \"nobody\" to run it as\n\
                 hint: run this as an ordinary user"
            ),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Failed { doing, said } => write!(f, "{doing} failed: {}", said.trim_end()),
            Self::NotReady { server, log } => {
                write!(
                    f,
                    "PostgreSQL server {server} did not come up; the end of its log:\n{}",
                    log.trim_end()
                )
            }
            Self::NoPort { server } => write!(
                f,
                "no free port for PostgreSQL server {server} between {} and {}",
                PORTS.start,
                PORTS.end - 1
            ),
        }
    }
}

impl std::error::Error for HerdError {}

/// Where PostgreSQL's programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// `PGHERD_PG_BIN` when it is set; else the newest of Debian's versions, what `pg_config` says, `PATH`.
    ///
    /// # Errors
    /// [`HerdError::NoPostgres`] with the places that were looked at.
    pub fn find() -> Result<Self, HerdError> {
        Self::find_in(match std::env::var_os("PGHERD_PG_BIN") {
            Some(folder) => vec![PathBuf::from(folder)],
            None => usual_folders(),
        })
    }

    fn find_in(folders: Vec<PathBuf>) -> Result<Self, HerdError> {
        let complete =
            |folder: &&PathBuf| folder.join("postgres").is_file() && folder.join("initdb").is_file();
        match folders.iter().find(complete) {
            Some(folder) => Ok(Self { folder: folder.clone() }),
            None => Err(HerdError::NoPostgres { looked_in: folders }),
        }
    }

    /// `psql`, `pgbench`, ...: beside the server, else wherever `PATH` has it.
    pub fn program(&self, name: &str) -> PathBuf {
        let beside = self.folder.join(name);
        if beside.is_file() { beside } else { name.into() }
    }

    /// A client program that sees nothing of the caller's `PG*` variables and speaks English.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        plain_environment(&mut command);
        command.stdin(Stdio::null());
        command
    }
}

/// Nothing of the caller's `PG*` variables, and messages in English, which is what we read.
pub(super) fn plain_environment(command: &mut Command) {
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(variable);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
}

fn usual_folders() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));

    let mut folders: Vec<PathBuf> = versions.into_iter().map(|(_, folder)| folder).collect();
    if folders.is_empty() {
        folders.push("/usr/lib/postgresql/*/bin".into());
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !folder.is_empty() {
            folders.push(folder.into());
        }
    }
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    folders
}

/// Starts processes from a thread that lives as long as they may: Linux ties a parent-death signal to the
/// parent *thread*, so a server started from a test's worker thread would end with that thread.
#[derive(Debug)]
pub struct Keeper {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

impl Keeper {
    /// # Errors
    /// When the system refuses another thread.
    pub fn new() -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let thread = thread::Builder::new().name("keeper".into()).spawn(move || {
            while let Ok((mut command, answer)) = inbox.recv() {
                // The one who asked waits for the answer; if it is gone, the child has to go too.
                if let Err(mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Starts `command`, which should come from [`leashed`], on the keeper's thread.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the keeper thread is gone");
        let (answer, reply) = mpsc::channel();
        self.orders.as_ref().ok_or_else(gone)?.send((command, answer)).map_err(|_| gone())?;
        reply.recv().map_err(|_| gone())?
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `program`, to receive `signal` ("INT", "TERM", "KILL") when the thread that starts it ends, however that
/// happens. In a process group of its own: Ctrl-C in a terminal reaches us, and we end it in order.
pub fn leashed(signal: &str, program: impl AsRef<OsStr>) -> Command {
    leashed_as(None, signal, program.as_ref())
}

fn leashed_as(account: Option<&Account>, signal: &str, program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(account) = account {
        // A change of user clears the parent-death signal; setpriv sets it last.
        command.arg(format!("--reuid={}", account.uid)).arg(format!("--regid={}", account.gid));
        command.arg("--clear-groups");
    }
    command.arg(format!("--pdeathsig={signal}")).arg("--").arg(program);
    command.process_group(0).stdin(Stdio::null());
    command
}

/// Whom the servers run as, when that is not us.
#[derive(Debug, Clone)]
struct Account {
    uid: u32,
    gid: u32,
}

/// `None`: we are an ordinary user, and so are the servers.
fn account() -> Result<Option<Account>, HerdError> {
    let me = fs::metadata("/proc/self").map_err(io_while("look up who runs this"))?;
    if me.uid() != 0 {
        return Ok(None);
    }
    let number = |flag: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, user]).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|user| Some(Account { uid: number("-u", user)?, gid: number("-g", user)? }))
        .map(Some)
        .ok_or(HerdError::NoAccount)
}

/// Running PostgreSQL servers, numbered from 0.
///
/// Everything takes `&self`, so a test may kill one server while other threads load the rest.
#[derive(Debug)]
pub struct Herd {
    options: HerdOptions,
    binaries: Binaries,
    account: Option<Account>,
    servers: Vec<Server>,
    // From here on in the order in which they must be dropped: servers are stopped by `Drop for Herd`, then
    // the folder goes, then the janitor finds nothing left to do.
    folder: tempfile::TempDir,
    _janitor: Janitor,
    keeper: Keeper,
}

#[derive(Debug)]
struct Server {
    number: usize,
    data: PathBuf,
    log: PathBuf,
    /// 0 until the first start found one; the same ever after.
    port: AtomicU16,
    /// The postmaster, while it should be running.
    postmaster: Mutex<Option<Child>>,
}

impl Herd {
    /// Starts `count` servers and returns when each accepts connections.
    ///
    /// # Errors
    /// [`HerdError`]; what had been started by then is stopped.
    pub fn start(count: usize, options: HerdOptions) -> Result<Self, HerdError> {
        let binaries = Binaries::find()?;
        let account = account()?;
        let folder = own_folder(account.as_ref())?;
        let janitor = Janitor::start(folder.path()).map_err(io_while("start the janitor"))?;
        let keeper = Keeper::new().map_err(io_while("start the keeper thread"))?;
        let servers = (0..count).map(|number| Server::new(number, folder.path())).collect();
        let herd = Self { options, binaries, account, servers, folder, _janitor: janitor, keeper };

        herd.initialise()?;
        thread::scope(|scope| {
            let starting: Vec<_> =
                herd.servers.iter().map(|server| scope.spawn(|| herd.start_on_a_free_port(server))).collect();
            starting.into_iter().try_for_each(|start| start.join().expect("starting a server does not panic"))
        })?;
        Ok(herd)
    }

    pub fn len(&self) -> usize {
        self.servers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The herd's folder: the servers' sockets are here, other files may be. Goes with the herd.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn options(&self) -> &HerdOptions {
        &self.options
    }

    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Starts other programs that shall not outlive us; see [`leashed`].
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// On 127.0.0.1, and in the name of the socket in [`Herd::folder`]. A restart keeps it.
    pub fn port(&self, server: usize) -> u16 {
        self.servers[server].port.load(Ordering::Relaxed)
    }

    /// For pgherd's configuration: no user, no password.
    pub fn address(&self, server: usize) -> String {
        format!("postgres://127.0.0.1:{}/{}", self.port(server), self.options.database)
    }

    /// As the application, over TCP, with the password.
    pub fn url(&self, server: usize) -> String {
        let HerdOptions { app_password, database, .. } = &self.options;
        format!("postgres://{APP_ROLE}:{app_password}@127.0.0.1:{}/{database}", self.port(server))
    }

    /// As pgherd's own role (a superuser), over TCP, with the password.
    pub fn control_url(&self, server: usize) -> String {
        let HerdOptions { control_password, database, .. } = &self.options;
        format!("postgres://{CONTROL_ROLE}:{control_password}@127.0.0.1:{}/{database}", self.port(server))
    }

    /// What a process needs to see so that "env:APP_PASSWORD" and "env:PGHERD_PASSWORD" of a configuration resolve.
    pub fn env(&self) -> [(&'static str, &str); 2] {
        [
            ("APP_PASSWORD", self.options.app_password.as_str()),
            ("PGHERD_PASSWORD", self.options.control_password.as_str()),
        ]
    }

    /// Runs `sql` on one server, past pgherd, as superuser; every statement in a transaction of its own.
    /// The answer is unaligned: fields between '|', rows between newlines.
    ///
    /// # Errors
    /// With what psql said, after the first statement that fails.
    pub fn psql(&self, server: usize, sql: &str) -> Result<String, HerdError> {
        let mut command = self.binaries.command("psql");
        command.arg("-h").arg(self.folder()).args(["-p", &self.port(server).to_string()]);
        command.args(["-U", CONTROL_ROLE, "-d", &self.options.database]);
        run_psql(command, sql, &format!("psql on server {server}"))
    }

    /// Runs `sql` wherever `url` leads, as [`Herd::psql`] does.
    ///
    /// # Errors
    /// With what psql said, after the first statement that fails.
    pub fn psql_at(&self, url: &str, sql: &str) -> Result<String, HerdError> {
        let mut command = self.binaries.command("psql");
        command.args(["-d", url]);
        run_psql(command, sql, "psql")
    }

    pub fn is_running(&self, server: usize) -> bool {
        lock(&self.servers[server].postmaster)
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kills a server as a crash would: the postmaster and every process of it, at one blow, with SIGKILL.
    /// Nothing of it is left when this returns, so that a restart cannot meet a straggler.
    ///
    /// # Errors
    /// When a process of the server survives.
    pub fn kill9(&self, server: usize) -> Result<(), HerdError> {
        let server = &self.servers[server];
        kill_all_of(server, &mut lock(&server.postmaster))
    }

    /// Stops a server as an operator would ("fast": clients are disconnected, a checkpoint is written).
    ///
    /// # Errors
    /// When a process of the server survives.
    pub fn stop(&self, server: usize) -> Result<(), HerdError> {
        let server = &self.servers[server];
        stop_with(server, libc::SIGINT)
    }

    /// Starts a server again on its port, after stopping it if it runs; returns when it accepts connections.
    ///
    /// # Errors
    /// [`HerdError::NotReady`] with the server's log.
    pub fn restart(&self, server: usize) -> Result<(), HerdError> {
        let server = &self.servers[server];
        stop_with(server, libc::SIGINT)?;
        let port = server.port.load(Ordering::Relaxed);
        for _ in 0..PORT_ATTEMPTS_MAX {
            match self.launch(server, port)? {
                Launched::Ready => return Ok(()),
                // Someone took it for a moment; our clients know this port only.
                Launched::PortTaken => thread::sleep(Duration::from_millis(500)),
            }
        }
        Err(HerdError::NoPort { server: server.number })
    }

    /// One initdb with roles and database, copied to every server.
    fn initialise(&self) -> Result<(), HerdError> {
        let template = self.folder().join("template");
        let password_file = self.folder().join("password");
        fs::write(&password_file, &self.options.control_password).map_err(io_while("write a file"))?;
        self.give_away(&password_file)?;

        let mut initdb = self.server_program("initdb");
        initdb.arg("-D").arg(&template).args(["-U", CONTROL_ROLE, "-A", "scram-sha-256", "--no-sync"]);
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.arg(format!("--pwfile={}", password_file.display())).args(&self.options.initdb);
        succeed(initdb, "initdb")?;
        let _ = fs::remove_file(&password_file);

        let write = |name: &str, text: String, append: bool| {
            let path = template.join(name);
            let mut file = OpenOptions::new().append(append).write(true).truncate(!append).open(path)?;
            file.write_all(text.as_bytes())
        };
        write("postgresql.conf", self.settings(), true).map_err(io_while("write postgresql.conf"))?;
        write("pg_hba.conf", HBA.into(), false).map_err(io_while("write pg_hba.conf"))?;
        self.create_roles_and_database(&template)?;

        for server in &self.servers {
            let home = server.data.parent().expect("the data folder has a parent");
            fs::create_dir(home).map_err(io_while("create a folder"))?;
            self.give_away(home)?;
            let mut copy = Command::new("cp");
            copy.args(["-a", "--reflink=auto"]).arg(&template).arg(&server.data);
            succeed(copy, "copy a data folder")?;
        }
        fs::remove_dir_all(&template).map_err(io_while("remove a folder"))
    }

    /// In single-user mode, so that every copy has them from its first start.
    fn create_roles_and_database(&self, template: &Path) -> Result<(), HerdError> {
        let HerdOptions { app_password, database, .. } = &self.options;
        let sql = format!(
            "CREATE ROLE {APP_ROLE} LOGIN PASSWORD {};\nCREATE DATABASE {} OWNER {APP_ROLE};\n",
            literal(app_password),
            identifier(database),
        );
        let mut single = self.server_program("postgres");
        single.arg("--single").arg("-D").arg(template).args(["-c", "password_encryption=scram-sha-256"]);
        // In this mode an error does not end the program; exit_on_error makes it do so.
        single.args(["-c", "exit_on_error=on", "postgres"]);
        let output = feed(single, sql.as_bytes()).map_err(io_while("create roles and database"))?;
        check(&output, "create roles and database")
    }

    fn settings(&self) -> String {
        let mut lines = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", self.folder().display().to_string()),
            ("max_connections", "300".into()),
            ("max_prepared_transactions", "200".into()),
            ("shared_buffers", "64MB".into()),
            ("password_encryption", "scram-sha-256".into()),
            // In the data folder, where a killed server leaves nothing behind once the folder is gone.
            ("dynamic_shared_memory_type", "mmap".into()),
            ("logging_collector", "off".into()),
            ("log_line_prefix", "%m [%p] %q%a: ".into()),
        ];
        if !self.options.fsync {
            lines.push(("fsync", "off".into()));
            lines.push(("full_page_writes", "off".into()));
        }
        let ours = lines.iter().map(|(name, value)| (*name, value.as_str()));
        let theirs = self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let text = ours.chain(theirs).map(|(name, value)| format!("{name} = {}\n", literal(value)));
        format!("\n{}", text.collect::<String>())
    }

    fn start_on_a_free_port(&self, server: &Server) -> Result<(), HerdError> {
        for _ in 0..PORT_ATTEMPTS_MAX {
            let port = free_port().ok_or(HerdError::NoPort { server: server.number })?;
            if matches!(self.launch(server, port)?, Launched::Ready) {
                server.port.store(port, Ordering::Relaxed);
                return Ok(());
            }
        }
        Err(HerdError::NoPort { server: server.number })
    }

    /// Starts the postmaster and waits for it. On an error nothing of it is left.
    fn launch(&self, server: &Server, port: u16) -> Result<Launched, HerdError> {
        let mut postmaster = lock(&server.postmaster);
        let mut log = OpenOptions::new().create(true).append(true).read(true).open(&server.log);
        let log = log.as_mut().map_err(|error| HerdError::Io {
            doing: "open a server's log".into(),
            source: io::Error::from(error.kind()),
        })?;
        let log_start = log.seek(SeekFrom::End(0)).map_err(io_while("read a server's log"))?;

        let mut command = self.server_program("postgres");
        command.arg("-D").arg(&server.data).args(["-p", &port.to_string()]);
        command.stdout(duplicate(log)?).stderr(duplicate(log)?);
        let child = self.keeper.spawn(command).map_err(io_while("start PostgreSQL (setpriv, postgres)"))?;
        let process = child.id();
        *postmaster = Some(child);

        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if is_ready(&server.data, process) {
                return Ok(Launched::Ready);
            }
            let ended = postmaster.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() >= deadline {
                kill_all_of(server, &mut postmaster)?;
                let mut said = String::new();
                let _ = log.seek(SeekFrom::Start(log_start));
                let _ = log.read_to_string(&mut said);
                return match ended && said.contains("could not create any TCP/IP sockets") {
                    true => Ok(Launched::PortTaken),
                    false => Err(HerdError::NotReady { server: server.number, log: tail(&said) }),
                };
            }
            thread::sleep(POLL_EVERY);
        }
    }

    /// A program of PostgreSQL's server side: not as root, and never after our end.
    fn server_program(&self, name: &str) -> Command {
        let program = self.binaries.program(name);
        // INT is PostgreSQL's fast shutdown.
        let mut command = leashed_as(self.account.as_ref(), "INT", program.as_os_str());
        plain_environment(&mut command);
        command.current_dir(self.folder());
        command
    }

    /// To whom the servers run as.
    fn give_away(&self, path: &Path) -> Result<(), HerdError> {
        let Some(account) = &self.account else { return Ok(()) };
        chown(path, Some(account.uid), Some(account.gid))
            .map_err(io_while("give a file to the servers' user"))
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        thread::scope(|scope| {
            for server in &self.servers {
                // "Immediate": nobody needs the data any more.
                scope.spawn(|| stop_with(server, libc::SIGQUIT));
            }
        });
    }
}

enum Launched {
    Ready,
    PortTaken,
}

/// Whoever may enter the folder of the socket is us or the servers' user.
const HBA: &str = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nlocal replication all trust\n\
                   host replication all 127.0.0.1/32 scram-sha-256\n";

impl Server {
    fn new(number: usize, folder: &Path) -> Self {
        let home = folder.join(format!("s{number}"));
        Self {
            number,
            data: home.join("data"),
            log: home.join("log"),
            port: AtomicU16::new(0),
            postmaster: Mutex::new(None),
        }
    }
}

/// Removes the folder when we are gone without having done so: its stdin ends with us.
#[derive(Debug)]
struct Janitor {
    process: Child,
    pipe: Option<ChildStdin>,
}

/// The servers get their own signal; the janitor waits for them (at most 20 s), then sweeps.
const JANITOR: &str = r#"trap '' INT TERM HUP
read -r _
tries=0
while ls "$1"/*/data/postmaster.pid >/dev/null 2>&1 && [ "$tries" -lt 200 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
rm -rf -- "$1""#;

impl Janitor {
    fn start(folder: &Path) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", JANITOR, "pgherd-janitor"]).arg(folder).current_dir("/").process_group(0);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let pipe = process.stdin.take();
        Ok(Self { process, pipe })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.process.wait();
    }
}

fn own_folder(account: Option<&Account>) -> Result<tempfile::TempDir, HerdError> {
    let usual = std::env::temp_dir();
    let base = if usual.as_os_str().len() <= FOLDER_BYTES_MAX { usual } else { "/tmp".into() };
    let folder = tempfile::Builder::new().prefix("pgherd-").tempdir_in(&base);
    let folder = folder.map_err(io_while("create a temporary folder"))?;
    if let Some(account) = account {
        chown(folder.path(), Some(account.uid), Some(account.gid))
            .map_err(io_while("give the temporary folder to the servers' user"))?;
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))
        .map_err(io_while("protect the temporary folder"))?;
    Ok(folder)
}

fn free_port() -> Option<u16> {
    (0..1000)
        .map(|_| rand::random_range(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}

/// The last line of `postmaster.pid` is the server's own word that it accepts connections.
fn is_ready(data: &Path, process: u32) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    lines.next() == Some(&process.to_string()) && lines.nth(6).is_some_and(|status| status.trim() == "ready")
}

fn stop_with(server: &Server, how: i32) -> Result<(), HerdError> {
    let mut postmaster = lock(&server.postmaster);
    if let Some(child) = postmaster.as_mut() {
        send(child.id(), how);
        let deadline = Instant::now() + STOPPED_WITHIN;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL_EVERY);
        }
    }
    kill_all_of(server, &mut postmaster)
}

/// Ends what still runs of a server and removes what would keep it from starting.
fn kill_all_of(server: &Server, postmaster: &mut Option<Child>) -> Result<(), HerdError> {
    let mut family = Vec::new();
    if let Some(mut child) = postmaster.take() {
        // Stopped first: it can neither start another process nor tell its children to go while we look for them.
        if matches!(child.try_wait(), Ok(None)) {
            send(child.id(), libc::SIGSTOP);
            family = processes(|process| process.parent == child.id());
        }
        let _ = child.kill();
        for process in &family {
            send(*process, libc::SIGKILL);
        }
        let _ = child.wait();
    }
    let deadline = Instant::now() + STOPPED_WITHIN;
    loop {
        // Those of a postmaster that had ended by itself are nobody's children; they still work in its folder.
        let left = processes(|process| process.works_in(&server.data));
        for process in &left {
            send(*process, libc::SIGKILL);
        }
        if left.is_empty() && processes(|process| family.contains(&process.id)).is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            return Err(HerdError::Failed {
                doing: format!("kill server {}", server.number),
                said: format!("its processes are still there: {left:?} {family:?}"),
            });
        }
        thread::sleep(POLL_EVERY);
    }
    remove_remains(&server.data);
    Ok(())
}

/// What a killed postmaster leaves: its pid file, and a System V segment that only says "in use".
fn remove_remains(data: &Path) {
    let pid_file = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&pid_file) else { return };
    if let Some(segment) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
        let _ = Command::new("ipcrm").args(["-m", segment]).stderr(Stdio::null()).status();
    }
    let _ = fs::remove_file(pid_file);
}

/// A living process, as `/proc` shows it.
struct Process {
    id: u32,
    parent: u32,
}

impl Process {
    /// `None` for what is no process, or a dead one that nobody has waited for.
    fn read(entry: &fs::DirEntry) -> Option<Self> {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // "12 (name) S 1 ...": the name may contain anything, parentheses too.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        match fields.next()? {
            "Z" | "X" => None,
            _ => Some(Self { id, parent: fields.next()?.parse().ok()? }),
        }
    }

    /// Root in a container may not be allowed to see this of other users' processes.
    fn works_in(&self, folder: &Path) -> bool {
        let cwd = fs::read_link(format!("/proc/{}/cwd", self.id));
        cwd.is_ok_and(|cwd| folder.canonicalize().is_ok_and(|folder| cwd == folder))
    }
}

fn processes(wanted: impl Fn(&Process) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::read(&entry)).filter(wanted).map(|process| process.id).collect()
}

/// Sends a signal to a process that we started.
#[allow(unsafe_code)]
pub(super) fn send(process: u32, signal: i32) {
    let Ok(process) = libc::pid_t::try_from(process) else { return };
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    unsafe { libc::kill(process, signal) };
}

fn run_psql(mut command: Command, sql: &str, doing: &str) -> Result<String, HerdError> {
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
    let output = feed(command, sql.as_bytes()).map_err(io_while(doing))?;
    check(&output, doing)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

/// Runs a program to its end with `input` on its stdin.
fn feed(mut command: Command, input: &[u8]) -> io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let pipe = child.stdin.take();
    thread::scope(|scope| {
        // Beside the reading: a program that answers before it has read everything must not block us both.
        // A broken pipe is no news; the exit status tells more.
        scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input)));
        child.wait_with_output()
    })
}

fn succeed(mut command: Command, doing: &str) -> Result<(), HerdError> {
    check(&command.output().map_err(io_while(doing))?, doing)
}

fn check(output: &Output, doing: &str) -> Result<(), HerdError> {
    if output.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.trim().is_empty() {
        said = format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stdout));
    }
    Err(HerdError::Failed { doing: doing.to_owned(), said })
}

fn duplicate(file: &File) -> Result<File, HerdError> {
    file.try_clone().map_err(io_while("open a server's log"))
}

/// The last lines of a log.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

fn io_while(doing: &str) -> impl FnOnce(io::Error) -> HerdError {
    let doing = doing.to_owned();
    move |source| HerdError::Io { doing, source }
}

/// A panic elsewhere must not keep us from stopping the servers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn random_password() -> String {
    format!("{:016x}", rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    fn herd(count: usize, options: HerdOptions) -> Herd {
        Herd::start(count, options).unwrap_or_else(|error| panic!("{error}"))
    }

    fn postmaster(data: &Path) -> u32 {
        let pid_file = fs::read_to_string(data.join("postmaster.pid")).expect("the server runs");
        pid_file.lines().next().unwrap().parse().unwrap()
    }

    /// The server's postmaster and all of its children.
    fn family(data: &Path) -> Vec<u32> {
        let postmaster = postmaster(data);
        let family = processes(|process| process.id == postmaster || process.parent == postmaster);
        assert!(family.len() > 3, "a postmaster has a checkpointer, a walwriter, ...: {family:?}");
        family
    }

    fn nothing_left(folder: &Path, family: &[u32]) -> bool {
        !folder.exists() && processes(|process| family.contains(&process.id)).is_empty()
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "not within 30 s: {what}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn every_server_has_the_roles_and_the_database_and_asks_for_the_password() {
        let settings = vec![("work_mem".to_owned(), "7MB".to_owned())];
        let herd = herd(2, HerdOptions { settings, ..HerdOptions::default() });
        for server in 0..2 {
            let facts = "SELECT current_user, usesuper FROM pg_user WHERE usename = current_user";
            assert_eq!(herd.psql_at(&herd.url(server), facts).unwrap(), "app|f");
            assert_eq!(herd.psql_at(&herd.control_url(server), facts).unwrap(), "pgherd|t");
            assert_eq!(herd.psql(server, facts).unwrap(), "pgherd|t");
            assert_eq!(herd.psql_at(&herd.url(server), "CREATE TABLE mine (id int)").unwrap(), "");
            let settings = "SHOW max_prepared_transactions; SHOW fsync; SHOW work_mem; SHOW listen_addresses";
            assert_eq!(herd.psql(server, settings).unwrap(), "200\noff\n7MB\n127.0.0.1");

            let wrong = herd.url(server).replace("app:", "app:not");
            let refusal = herd.psql_at(&wrong, "SELECT 1").unwrap_err().to_string();
            assert!(refusal.contains("password authentication failed"), "{refusal}");
        }
        let error = herd.psql(0, "SELECT 1; SELECT 1/0; SELECT 2").unwrap_err().to_string();
        assert!(error.contains("division by zero"), "{error}");
        assert_ne!(herd.port(0), herd.port(1));
    }

    #[test]
    fn a_killed_server_comes_back_on_its_port_with_what_was_committed() {
        let herd = herd(1, HerdOptions { fsync: true, ..HerdOptions::default() });
        let port = herd.port(0);
        herd.psql(0, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)").unwrap();
        herd.psql(0, "BEGIN; INSERT INTO kept VALUES (2); PREPARE TRANSACTION 'pending'").unwrap();
        assert!(herd.is_running(0));

        for _ in 0..2 {
            let family = family(&herd.servers[0].data);
            herd.kill9(0).unwrap();
            assert!(!herd.is_running(0));
            assert!(processes(|process| family.contains(&process.id)).is_empty());
            herd.psql(0, "SELECT 1").unwrap_err();
            herd.restart(0).unwrap();
        }
        assert_eq!(herd.port(0), port);
        assert_eq!(
            herd.psql(0, "SELECT gid FROM pg_prepared_xacts; SELECT id FROM kept").unwrap(),
            "pending\n1"
        );

        herd.stop(0).unwrap();
        herd.restart(0).unwrap();
        herd.restart(0).unwrap();
        assert_eq!(herd.psql(0, "COMMIT PREPARED 'pending'; SELECT count(*) FROM kept").unwrap(), "2");
    }

    #[test]
    fn a_herd_ends_with_a_panic_of_the_test_that_holds_it() {
        let (sender, receiver) = mpsc::channel();
        let panicked = thread::spawn(move || {
            let herd = herd(1, HerdOptions::default());
            sender.send((herd.folder().to_owned(), family(&herd.servers[0].data))).unwrap();
            panic!("on purpose");
        });
        let (folder, family) = receiver.recv().unwrap();
        assert!(panicked.join().is_err());
        assert!(nothing_left(&folder, &family));
    }

    #[test]
    fn a_herd_ends_when_its_process_is_killed() {
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "demo::servers::tests::hold_a_herd_until_killed"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        let folder = lines
            .map(Result::unwrap)
            .find_map(|line| Some(PathBuf::from(line.split_once("herd in ")?.1)))
            .expect("the holder says where its herd is");
        let family = family(&folder.join("s0/data"));

        holder.kill().unwrap();
        holder.wait().unwrap();

        until("servers and folder gone", || nothing_left(&folder, &family));
    }

    #[test]
    #[ignore = "runs in the process that the test above kills"]
    fn hold_a_herd_until_killed() {
        let herd = herd(1, HerdOptions::default());
        println!("herd in {}", herd.folder().display());
        thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn without_postgresql_the_error_says_what_to_install() {
        let error = Binaries::find_in(vec!["/nowhere/bin".into()]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/bin"), "{error}");
        assert!(error.contains("apt-get install postgresql"), "{error}");
    }
}
