//! A scripted PostgreSQL server on a real loopback socket, and a clock that stands still.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgherd_pool::{Cap, Connector, Limits, Pool, Secrets, Target};
use pgherd_wire::message::{self, Report};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};

/// What the proxy would hang on a connection.
#[derive(Debug, Default)]
pub struct Session {
    pub note: String,
}

pub type TestPool = Pool<Session>;

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn target(address: SocketAddr) -> Target {
    Target {
        host: address.ip().to_string(),
        port: address.port(),
        others: Vec::new(),
        balance: false,
        startup: Vec::new(),
        connect_query: String::new(),
        dbname: "shop".into(),
        user: "app".into(),
        secrets: Secrets::password("secret"),
        tls: Connector::plain(),
        application_name: "pgherd".into(),
        options: String::new(),
    }
}

pub trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// A listener in a directory of its own.
pub fn unix_server() -> (tempfile::TempDir, UnixListener, Target) {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join(".s.PGSQL.6543")).unwrap();
    let mut target = target("127.0.0.1:6543".parse().unwrap());
    target.host = directory.path().to_str().unwrap().into();
    (directory, listener, target)
}

pub fn limits(size: usize) -> Limits {
    Limits {
        size,
        checkout_timeout: secs(5),
        connect_timeout: secs(2),
        idle_timeout: secs(60),
        waiting_max: 100,
        ..Limits::default()
    }
}

/// Stops tokio's clock while it lives: with paused time alone, the clock would jump to the next timer whenever the
/// runtime waits for a real socket.
pub struct StoppedClock(#[allow(dead_code)] std::sync::mpsc::Sender<()>);

pub fn stop_clock() -> StoppedClock {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || {
        let _ = stopped.recv();
    });
    tokio::time::pause();
    StoppedClock(stop)
}

/// Lets everything run until `condition` holds, without time passing for the pool.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < secs(20), "never happened: {what}");
        tokio::task::yield_now().await;
    }
}

/// Lets everything run that can run, without time passing for the pool.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Spawns a checkout and lets it join the queue.
pub async fn queued<T: Send + 'static>(
    pool: &Arc<TestPool>,
    client: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let before = pool.status().waiting;
    let task = tokio::spawn(client);
    until("the client waits", || pool.status().waiting > before).await;
    task
}

#[derive(Debug, Clone)]
pub enum Mode {
    Serve,
    /// Accepts and says nothing.
    Hang,
    /// Closes before the first byte.
    HangUp,
    Refuse(Report),
}

/// What the server saw and how it behaves, shared with the test.
pub struct Peer {
    target: Target,
    /// Of its unix socket.
    _directory: Option<tempfile::TempDir>,
    state: Mutex<State>,
    /// A cancel connection is closed when it gets a permit.
    pub cancels_done: Semaphore,
}

struct State {
    mode: Mode,
    logins: usize,
    attempts_now: usize,
    attempts_at_once: usize,
    open: usize,
    open_at_once: usize,
    syncs: usize,
    terminates: usize,
    cancels: Vec<u32>,
    /// By process id: bytes to send; none closes.
    connections: HashMap<u32, mpsc::UnboundedSender<Vec<u8>>>,
    answer_sync: bool,
}

impl Peer {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self::new(target(listener.local_addr().unwrap()), None);
        let accepting = Arc::clone(&peer);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(Arc::clone(&accepting), socket));
            }
        });
        peer
    }

    /// On a unix socket: thousands of connections would use up the machine's ports.
    pub async fn start_unix() -> Arc<Self> {
        let (directory, listener, target) = unix_server();
        let peer = Self::new(target, Some(directory));
        let accepting = Arc::clone(&peer);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(Arc::clone(&accepting), socket));
            }
        });
        peer
    }

    fn new(target: Target, directory: Option<tempfile::TempDir>) -> Arc<Self> {
        Arc::new(Self {
            target,
            _directory: directory,
            state: Mutex::new(State {
                mode: Mode::Serve,
                logins: 0,
                attempts_now: 0,
                attempts_at_once: 0,
                open: 0,
                open_at_once: 0,
                syncs: 0,
                terminates: 0,
                cancels: Vec::new(),
                connections: HashMap::new(),
                answer_sync: true,
            }),
            cancels_done: Semaphore::new(0),
        })
    }

    pub fn pool(&self, limits: Limits, workers: usize) -> Arc<TestPool> {
        Pool::new(self.target.clone(), limits, workers)
    }

    pub fn capped_pool(&self, caps: Vec<Arc<Cap>>, limits: Limits, workers: usize) -> Arc<TestPool> {
        Pool::under(caps, self.target.clone(), limits, workers)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn set_mode(&self, mode: Mode) {
        self.state().mode = mode;
    }

    pub fn answer_sync(&self, answer: bool) {
        self.state().answer_sync = answer;
    }

    /// Login attempts, refused ones included.
    pub fn logins(&self) -> usize {
        self.state().logins
    }

    pub fn attempts_at_once(&self) -> usize {
        self.state().attempts_at_once
    }

    pub fn open(&self) -> usize {
        self.state().open
    }

    pub fn open_at_once(&self) -> usize {
        self.state().open_at_once
    }

    pub fn syncs(&self) -> usize {
        self.state().syncs
    }

    pub fn terminates(&self) -> usize {
        self.state().terminates
    }

    pub fn cancels(&self) -> Vec<u32> {
        self.state().cancels.clone()
    }

    /// Sends bytes nobody asked for.
    pub fn say(&self, process: u32, bytes: Vec<u8>) {
        self.state().connections[&process].send(bytes).unwrap();
    }

    pub fn hang_up(&self, process: u32) {
        self.say(process, Vec::new());
    }

    pub fn hang_up_all(&self) {
        for connection in self.state().connections.values() {
            let _ = connection.send(Vec::new());
        }
    }
}

/// Counts down when a connection ends, however it ends.
struct Open<'a>(&'a Peer, u32);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.connections.remove(&self.1);
    }
}

async fn serve(peer: Arc<Peer>, mut socket: impl Wire) {
    let mode = {
        let mut state = peer.state();
        state.attempts_now += 1;
        state.attempts_at_once = state.attempts_at_once.max(state.attempts_now);
        state.mode.clone()
    };
    let process = login(&peer, &mut socket, mode).await;
    peer.state().attempts_now -= 1;
    if let Some((process, mut commands)) = process {
        let _open = Open(&peer, process);
        converse(&peer, &mut socket, &mut commands).await;
    }
}

async fn login(
    peer: &Peer,
    socket: &mut impl Wire,
    mode: Mode,
) -> Option<(u32, mpsc::UnboundedReceiver<Vec<u8>>)> {
    if matches!(mode, Mode::HangUp) {
        peer.state().logins += 1;
        return None;
    }
    let length = socket.read_u32().await.ok()?;
    let mut packet = vec![0; length as usize - 4];
    socket.read_exact(&mut packet).await.ok()?;
    if packet[..4] == ((1234u32 << 16) | 5678).to_be_bytes() {
        peer.state().cancels.push(u32::from_be_bytes(packet[4..8].try_into().unwrap()));
        peer.cancels_done.acquire().await.unwrap().forget();
        return None;
    }
    let process = {
        let mut state = peer.state();
        state.logins += 1;
        state.logins as u32
    };
    let mut out = Vec::new();
    match mode {
        Mode::Serve => {}
        Mode::Refuse(report) => {
            report.write(&mut out);
            let _ = socket.write_all(&out).await;
            return None;
        }
        Mode::Hang | Mode::HangUp => {
            let _ = socket.read_u8().await;
            return None;
        }
    }
    message::authentication(&mut out, 0, &[]);
    message::parameter_status(&mut out, "server_version", "18.0");
    message::parameter_status(&mut out, "TimeZone", "UTC");
    message::backend_key_data(&mut out, process, b"key!");
    message::ready_for_query(&mut out, b'I');
    let (sender, commands) = mpsc::unbounded_channel();
    {
        // Before the client can know that it is in.
        let mut state = peer.state();
        state.open += 1;
        state.open_at_once = state.open_at_once.max(state.open);
        state.connections.insert(process, sender);
    }
    if socket.write_all(&out).await.is_err() {
        drop(Open(peer, process));
        return None;
    }
    Some((process, commands))
}

async fn converse(
    peer: &Peer,
    socket: &mut impl Wire,
    commands: &mut mpsc::UnboundedReceiver<Vec<u8>>,
) -> Option<()> {
    loop {
        tokio::select! {
            command = commands.recv() => match command? {
                bytes if bytes.is_empty() => return None,
                bytes => socket.write_all(&bytes).await.ok()?,
            },
            kind = socket.read_u8() => {
                let kind = kind.ok()?;
                let length = socket.read_u32().await.ok()?;
                let mut body = vec![0; length as usize - 4];
                socket.read_exact(&mut body).await.ok()?;
                let mut out = Vec::new();
                match kind {
                    b'X' => {
                        peer.state().terminates += 1;
                        return None;
                    }
                    b'S' => {
                        let answer = {
                            let mut state = peer.state();
                            state.syncs += 1;
                            state.answer_sync
                        };
                        if answer {
                            message::ready_for_query(&mut out, b'I');
                        }
                    }
                    b'Q' => {
                        message::command_complete(&mut out, "SELECT 0");
                        message::ready_for_query(&mut out, b'I');
                    }
                    other => panic!("the pool sent {:?}", other as char),
                }
                socket.write_all(&out).await.ok()?;
            }
        }
    }
}
