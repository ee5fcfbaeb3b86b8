//! Serving: listeners, workers, the control thread, and their end.
//!
//! Invariant: a client is given to one worker, the one with the fewest clients, and stays there.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgherd_config::{Config, Listen};
use pgherd_wire::Stream;
use pgherd_wire::frame;
use pgherd_wire::message::{self, Report};
use pgherd_wire::stream::Detached;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};

use crate::cancel::{CancelEntry, CancelKeys};
use crate::control;
use crate::database::Database;
use crate::handshake::{self, Opening, Refused, Users};
use crate::session::client::Client;
use crate::session::statements::Ids;
use crate::session::{Session, settings};
use crate::worker::Worker;

/// Connections that the kernel holds for us before accept.
const BACKLOG: i32 = 4096;

/// After accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between two looks for idle server connections to close.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What all workers share.
pub struct Shared {
    config: Config,
    users: Arc<Users>,
    databases: HashMap<String, Arc<Database>>,
    cancel_keys: CancelKeys,
    ids: Arc<Ids>,
    clients: AtomicUsize,
    /// Clients of each worker, and the way to hand one over.
    loads: Vec<AtomicUsize>,
    inboxes: Vec<mpsc::UnboundedSender<Detached>>,
    stop: watch::Sender<bool>,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// What stands in the way of starting; nothing was started then.
pub fn serve(config: Config) -> Result<(), String> {
    let users = Users::new(&config)?;
    let mut databases = HashMap::new();
    let mut controls = Vec::new();
    for database in &config.databases {
        let (requests, inbox) = mpsc::unbounded_channel();
        let made = Arc::new(Database::new(database, &config.users, config.server.workers, requests)?);
        controls.push((made.clone(), inbox));
        databases.insert(database.name.clone(), made);
    }
    let workers = config.server.workers;
    let mut listeners: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    for listen in &config.server.listen {
        bind(listen, &mut listeners)?;
    }
    let mut inboxes = Vec::new();
    let mut receivers = Vec::new();
    for _ in 0..workers {
        let (sender, receiver) = mpsc::unbounded_channel();
        inboxes.push(sender);
        receivers.push(receiver);
    }
    let shared = Arc::new(Shared {
        users,
        databases,
        cancel_keys: CancelKeys::default(),
        ids: Arc::default(),
        clients: AtomicUsize::new(0),
        loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        inboxes,
        stop: watch::Sender::new(false),
        config,
    });

    let control = std::thread::Builder::new().name("control".into()).spawn(move || run_control(controls));
    let _control = control.map_err(|e| format!("cannot start a thread: {e}"))?;
    let mut threads = Vec::new();
    for (id, (own, receiver)) in listeners.into_iter().zip(receivers).enumerate() {
        let shared = shared.clone();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{id}"))
            .spawn(move || run_worker(id, &shared, own, receiver));
        threads.push(thread.map_err(|e| format!("cannot start a thread: {e}"))?);
    }
    for listen in &shared.config.server.listen {
        tracing::info!(listen = %shown(listen), workers, "serving");
    }
    wait_for_signal(&shared);
    for thread in threads {
        let _ = thread.join();
    }
    for listen in &shared.config.server.listen {
        if let Listen::Unix { directory, port } = listen {
            let _ = std::fs::remove_file(socket_path(directory, *port));
        }
    }
    tracing::info!("stopped");
    Ok(())
}

fn shown(listen: &Listen) -> String {
    match listen {
        Listen::Tcp { host, port } => format!("{host}:{port}"),
        Listen::Unix { directory, port } => socket_path(directory, *port).display().to_string(),
    }
}

fn socket_path(directory: &Path, port: u16) -> std::path::PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn run_control(controls: Vec<(Arc<Database>, mpsc::UnboundedReceiver<crate::database::Request>)>) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            tracing::error!(error = %e, "the control thread cannot start");
            return;
        }
    };
    runtime.block_on(async {
        let tasks: Vec<_> =
            controls.into_iter().map(|(db, inbox)| tokio::spawn(control::run(db, inbox))).collect();
        for task in tasks {
            let _ = task.await;
        }
    });
}

/// Waits for SIGINT or SIGTERM, then asks the workers to stop.
fn wait_for_signal(shared: &Shared) {
    let Ok(runtime) = runtime() else { return };
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            tracing::error!("signals cannot be watched");
            return std::future::pending().await;
        };
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return std::future::pending().await };
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => {
                    tracing::warn!("SIGHUP: reloading the configuration is not supported yet; the running one is unchanged");
                }
            }
        }
        tracing::info!("stopping");
    });
    shared.stop.send_replace(true);
}

enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A TCP port gets a socket for each worker (SO_REUSEPORT), a unix socket one, on the first worker.
fn bind(listen: &Listen, listeners: &mut [Vec<Listener>]) -> Result<(), String> {
    let failed = |e: io::Error| format!("cannot listen on {}: {e}", shown(listen));
    match listen {
        Listen::Tcp { host, port } => {
            use std::net::ToSocketAddrs;
            let addresses: Vec<SocketAddr> =
                (host.as_str(), *port).to_socket_addrs().map_err(failed)?.collect();
            for address in addresses {
                // Not this: rely on bind failing. With SO_REUSEPORT a second pgherd of the same user would share the port in silence.
                std::net::TcpListener::bind(address).map_err(failed)?;
                for own in listeners.iter_mut() {
                    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
                    let socket = socket.map_err(failed)?;
                    socket.set_reuse_address(true).map_err(failed)?;
                    socket.set_reuse_port(true).map_err(failed)?;
                    socket.set_nonblocking(true).map_err(failed)?;
                    socket.bind(&address.into()).map_err(failed)?;
                    socket.listen(BACKLOG).map_err(failed)?;
                    own.push(Listener::Tcp(socket.into()));
                }
            }
        }
        Listen::Unix { directory, port } => {
            let path = socket_path(directory, *port);
            if path.exists() {
                if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                    return Err(format!("cannot listen on {}: somebody else does", path.display()));
                }
                // Left by a process that was killed.
                std::fs::remove_file(&path).map_err(failed)?;
            }
            let listener = std::os::unix::net::UnixListener::bind(&path).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            if let Some(first) = listeners.first_mut() {
                first.push(Listener::Unix(listener));
            }
        }
    }
    Ok(())
}

fn run_worker(
    id: usize,
    shared: &Arc<Shared>,
    listeners: Vec<Listener>,
    mut inbox: mpsc::UnboundedReceiver<Detached>,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            tracing::error!(error = %e, "a worker cannot start");
            return;
        }
    };
    let worker = Worker::new(id, shared.ids.clone());
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        for listener in listeners {
            match listener {
                Listener::Tcp(listener) => {
                    tokio::task::spawn_local(accept_tcp(shared.clone(), worker.clone(), listener));
                }
                Listener::Unix(listener) => {
                    tokio::task::spawn_local(accept_unix(shared.clone(), worker.clone(), listener));
                }
            }
        }
        tokio::task::spawn_local(sweep(shared.clone(), worker.clone()));
        let mut stop = shared.stop.subscribe();
        loop {
            tokio::select! {
                stopped = stop.wait_for(|s| *s) => {
                    let _ = stopped;
                    break;
                }
                handed = inbox.recv() => {
                    let Some(detached) = handed else { break };
                    match Stream::attach(detached) {
                        Ok(stream) => start_client(shared, &worker, stream),
                        Err(e) => {
                            tracing::warn!(error = %e, "a client could not be handed over");
                            forget_client(shared, id);
                        }
                    }
                }
            }
        }
    });
}

async fn sweep(shared: Arc<Shared>, worker: Rc<Worker>) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for database in shared.databases.values() {
            for user in database.users() {
                for pool in user.all() {
                    pool.sweep(worker.id);
                }
            }
        }
    }
}

async fn accept_tcp(shared: Arc<Shared>, worker: Rc<Worker>, listener: std::net::TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let _ = socket.set_nodelay(true);
                place(&shared, &worker, Stream::Tcp(socket));
            }
            Err(e) => accept_failed(e).await,
        }
    }
}

async fn accept_unix(shared: Arc<Shared>, worker: Rc<Worker>, listener: std::os::unix::net::UnixListener) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((socket, _)) => place(&shared, &worker, Stream::Unix(socket)),
            Err(e) => accept_failed(e).await,
        }
    }
}

async fn accept_failed(e: io::Error) {
    // ECONNABORTED and the like concern one client; EMFILE and ENFILE pass when clients leave. None ends the process.
    if e.kind() != io::ErrorKind::ConnectionAborted {
        tracing::warn!(error = %e, "a client could not be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Gives a new client to the worker with the fewest.
fn place(shared: &Arc<Shared>, worker: &Rc<Worker>, stream: Stream) {
    let own = shared.loads[worker.id].load(Ordering::Relaxed);
    let least = shared.loads.iter().enumerate().min_by_key(|(_, load)| load.load(Ordering::Relaxed));
    let target = match least {
        Some((id, load)) if load.load(Ordering::Relaxed) < own => id,
        _ => worker.id,
    };
    shared.loads[target].fetch_add(1, Ordering::Relaxed);
    shared.clients.fetch_add(1, Ordering::Relaxed);
    if target == worker.id {
        start_client(shared, worker, stream);
        return;
    }
    match stream.detach() {
        Ok(detached) => {
            if shared.inboxes[target].send(detached).is_err() {
                forget_client(shared, target);
            }
        }
        Err(_) => forget_client(shared, target),
    }
}

fn forget_client(shared: &Shared, worker: usize) {
    shared.loads[worker].fetch_sub(1, Ordering::Relaxed);
    shared.clients.fetch_sub(1, Ordering::Relaxed);
}

fn start_client(shared: &Arc<Shared>, worker: &Rc<Worker>, stream: Stream) {
    let shared = shared.clone();
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        let counted = Counted(&shared, worker.id);
        // Boxed: its buffers live only as long as the handshake.
        let session = Box::pin(greet(&shared, &worker, stream)).await;
        if let Some((session, key)) = session {
            session.run().await;
            shared.cancel_keys.remove(key);
        }
        drop(counted);
    });
}

struct Counted<'a>(&'a Shared, usize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        forget_client(self.0, self.1);
    }
}

/// The handshake, in its time. `None`: it did not become a session.
async fn greet(
    shared: &Arc<Shared>,
    worker: &Rc<Worker>,
    mut stream: Stream,
) -> Option<(Session, crate::cancel::CancelKey)> {
    let timeout = shared.config.server.login_timeout;
    match tokio::time::timeout(timeout, admit(shared, worker, &mut stream)).await {
        Err(_) => None,
        Ok(Err(Refused::Silent)) => None,
        Ok(Err(Refused::Said(report))) => {
            let mut out = Vec::new();
            report.write(&mut out);
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&out)).await;
            None
        }
        Ok(Ok(None)) => None,
        Ok(Ok(Some(admitted))) => begin(shared, worker, stream, admitted).await,
    }
}

struct Admitted {
    db: Arc<Database>,
    pools: Arc<crate::database::UserPools>,
    settings: Arc<settings::Settings>,
    rest: Vec<u8>,
}

async fn admit(
    shared: &Arc<Shared>,
    worker: &Rc<Worker>,
    stream: &mut Stream,
) -> Result<Option<Admitted>, Refused> {
    let startup = match handshake::open(stream).await? {
        Opening::Cancel(key) => {
            if let Some(entry) = shared.cancel_keys.find(key) {
                entry.cancel().await;
            }
            return Ok(None);
        }
        Opening::Session(startup) => startup,
    };
    if shared.clients.load(Ordering::Relaxed) > shared.config.server.max_clients {
        return Err(Refused::Said(
            Report::fatal("53300", "sorry, too many clients already")
                .hint("The limit is server.max_clients in pgherd's configuration."),
        ));
    }
    handshake::negotiate(stream, &startup).await?;
    let user = startup.user().to_owned();
    let proof = shared.users.proof(&user);
    let mut authenticated = handshake::authenticate(stream, startup, proof).await?;
    if !shared.users.knows(&user) {
        return Err(Refused::Said(Report::fatal("28000", format!("role \"{user}\" does not exist"))));
    }
    let startup = &mut authenticated.startup;
    let database = startup.database().to_owned();
    if let Some(replication) = startup.get("replication")
        && !matches!(replication, "false" | "off" | "no" | "0")
    {
        return Err(Refused::Said(
            Report::fatal("0A000", "replication connections are not supported yet")
                .hint("Connect to the server itself."),
        ));
    }
    let db = shared.databases.get(&database).cloned();
    let db = db.ok_or_else(|| {
        Refused::Said(Report::fatal("3D000", format!("database \"{database}\" does not exist")))
    })?;
    let pools = db.user(&user).cloned();
    let pools = pools
        .ok_or_else(|| Refused::Said(Report::fatal("28000", format!("role \"{user}\" does not exist"))))?;
    db.wait_ready(pools.settings.checkout_timeout).await.map_err(Refused::Said)?;
    let settings = settings::from_startup(startup.parameters());
    if db.sharded
        && let Some(settings::Value::Raw(encoding)) = settings.get("client_encoding")
    {
        return Err(Refused::Said(
            Report::fatal(
                "0A000",
                format!("client_encoding \"{encoding}\" is not supported on a sharded database"),
            )
            .detail("Keys are hashed as UTF-8, so statements must come in UTF-8.")
            .hint("Set client_encoding to UTF8."),
        ));
    }
    if pools.told().is_none() {
        let told = learn_parameters(worker, &db, &pools).await.map_err(Refused::Said)?;
        pools.set_told(told);
    }
    let rest = startup.take_rest();
    Ok(Some(Admitted { db, pools, settings, rest }))
}

/// What a fresh server connection of this user reports: asked of a server once.
async fn learn_parameters(
    worker: &Rc<Worker>,
    db: &Database,
    pools: &crate::database::UserPools,
) -> Result<Arc<crate::session::client::Told>, Report> {
    let mut last = None;
    // Any shard will do when the first is away.
    for (shard, pool) in pools.all().iter().enumerate() {
        match pool.checkout(worker.id).await {
            Ok(mut server) => {
                let isolation = default_isolation(&mut server.stream).await;
                let isolation =
                    isolation.ok_or_else(|| Report::fatal("08006", "a server was lost during the login"))?;
                pools.set_default_isolation(isolation);
                let told = server.parameters.iter().map(|(n, v)| (n.into(), v.into())).collect();
                pool.checkin(worker.id, server);
                return Ok(Arc::new(told));
            }
            Err(e) => {
                let mut report = e.report();
                report.severity = "FATAL".into();
                report.raw = None;
                if db.sharded {
                    let name = &db.config.shards[shard].name;
                    report.detail = Some(format!("Shard \"{name}\". {}", report.detail.unwrap_or_default()));
                }
                last = Some(report);
            }
        }
    }
    Err(last.unwrap_or_else(|| Report::fatal("XX000", "the database has no shard")))
}

/// What a transaction's isolation level is on this server when nobody says. The connection is fresh or idle, and idle again afterwards.
async fn default_isolation(stream: &mut Stream) -> Option<String> {
    let mut out = Vec::new();
    message::query(&mut out, "SHOW default_transaction_isolation");
    stream.write_all(&out).await.ok()?;
    let (mut buffer, mut level) = (Vec::new(), None);
    loop {
        while let Some(head) = frame::header(&buffer).ok()?.filter(|head| buffer.len() >= head.total()) {
            let body = &buffer[frame::HEADER_BYTES..head.total()];
            if head.kind == b'D' {
                let mut values = Vec::new();
                message::read_data_row(body, &mut values).ok()?;
                level = Some(String::from_utf8_lossy(values.first().copied().flatten()?).into_owned());
            } else if head.kind == b'Z' {
                return level;
            }
            buffer.drain(..head.total());
        }
        let mut some = [0; 1024];
        let n = stream.read(&mut some).await.ok()?;
        if n == 0 || buffer.len() > 64 * 1024 {
            return None;
        }
        buffer.extend_from_slice(&some[..n]);
    }
}

/// The session begins: what the client set at startup is checked, then it is welcomed.
async fn begin(
    shared: &Arc<Shared>,
    worker: &Rc<Worker>,
    stream: Stream,
    admitted: Admitted,
) -> Option<(Session, crate::cancel::CancelKey)> {
    let Admitted { db, pools, settings, rest } = admitted;
    let cancel = Arc::new(CancelEntry::default());
    let told = pools.told()?;
    let mut client = Client::new(stream, told);
    client.preload(&rest);
    let mut session = Session::new(worker.clone(), db, pools, client, settings, cancel.clone());
    match tokio::time::timeout(shared.config.server.login_timeout, session.accept_settings()).await {
        Ok(Ok(())) => {
            let key = shared.cancel_keys.register(cancel);
            session.welcome(key).await;
            Some((session, key))
        }
        Ok(Err(report)) => {
            let mut out = Vec::new();
            Report { severity: "FATAL".into(), raw: None, ..report }.write(&mut out);
            session.last_words(&out).await;
            None
        }
        Err(_) => None,
    }
}
