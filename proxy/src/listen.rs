//! Listening sockets: bound at the start, closed when pgherd stops.
//!
//! Invariant: whoever was accepted by the kernel is accepted by us, also while a listener is being closed; and failing to
//! accept one client ends nothing.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgherd_config::{Listen, Server};
use pgherd_wire::Stream;
use pgherd_wire::stream::Detached;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use crate::roster::Ends;
use crate::serve::Stop;

/// Connections that the kernel holds for us before accept.
const BACKLOG: i32 = 4096;

/// After accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between two lines in the log about clients that could not be accepted.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

pub struct Listener {
    socket: Bound,
    /// Names a unix socket.
    port: u16,
    /// Somebody else (systemd) has it too, and goes on listening when we do not.
    inherited: bool,
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// The file of a unix socket that we made; removed on drop, unless another process has put its own there.
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path) == Some(self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).ok().map(|file| file.ino())
}

/// Sockets that systemd bound for us (LISTEN_FDS); with any of them, `server.listen` is not used.
///
/// # Errors
/// One of them is not a listening stream socket.
pub fn inherited(listeners: &mut [Vec<Listener>]) -> Result<usize, String> {
    let mut given = listenfd::ListenFd::from_env();
    for index in 0..given.len() {
        let failed = |e: io::Error| format!("cannot use the inherited socket {index}: {e}");
        if let Ok(Some(socket)) = given.take_tcp_listener(index) {
            socket.set_nonblocking(true).map_err(failed)?;
            for own in listeners.iter_mut() {
                let socket = Bound::Tcp(socket.try_clone().map_err(failed)?);
                own.push(Listener { socket, port: 0, inherited: true });
            }
        } else if let Ok(Some(socket)) = given.take_unix_listener(index) {
            socket.set_nonblocking(true).map_err(failed)?;
            if let Some(first) = listeners.first_mut() {
                first.push(Listener { socket: Bound::Unix(socket), port: 0, inherited: true });
            }
        } else {
            return Err(format!(
                "cannot use the inherited socket {index}: it is not a listening stream socket"
            ));
        }
    }
    Ok(given.len())
}

pub fn shown(listen: &Listen) -> String {
    match listen {
        Listen::Tcp { host, port } => format!("{host}:{port}"),
        Listen::Unix { directory, port } => socket_path(directory, *port).display().to_string(),
    }
}

fn socket_path(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

/// A TCP port gets a socket for each worker (SO_REUSEPORT), a unix socket one, on the first worker. `beside`: another pgherd
/// listens there, and may go on.
///
/// # Errors
/// The address is taken, or is none.
pub fn bind(
    listen: &Listen,
    server: &Server,
    listeners: &mut [Vec<Listener>],
    beside: bool,
) -> Result<Option<SocketFile>, String> {
    let failed = |e: io::Error| format!("cannot listen on {}: {e}", shown(listen));
    match listen {
        Listen::Tcp { host, port } => {
            use std::net::ToSocketAddrs;
            let addresses: Vec<SocketAddr> =
                (host.as_str(), *port).to_socket_addrs().map_err(failed)?.collect();
            let several = addresses.len() > 1;
            let (mut bound, mut absent) = (0, None);
            for address in addresses {
                if several && let Err(e) = is_here(address) {
                    // As PostgreSQL: of a name's addresses ("localhost", where there is no IPv6) some may not be there.
                    tracing::info!(%address, error = %e, "cannot listen on this address of a name");
                    absent = Some(e);
                    continue;
                }
                bound += 1;
                // Not this: rely on bind failing. With SO_REUSEPORT a second pgherd of the same user would share the port in silence.
                if !beside {
                    std::net::TcpListener::bind(address).map_err(failed)?;
                }
                for own in listeners.iter_mut() {
                    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
                    let socket = socket.map_err(failed)?;
                    socket.set_reuse_address(true).map_err(failed)?;
                    socket.set_reuse_port(true).map_err(failed)?;
                    socket.set_nonblocking(true).map_err(failed)?;
                    socket.bind(&address.into()).map_err(failed)?;
                    socket.listen(BACKLOG).map_err(failed)?;
                    let socket = Bound::Tcp(socket.into());
                    own.push(Listener { socket, port: *port, inherited: false });
                }
            }
            if let (0, Some(e)) = (bound, absent) {
                return Err(failed(e));
            }
        }
        Listen::Unix { directory, port } => {
            let path = socket_path(directory, *port);
            if !beside && path.exists() && std::os::unix::net::UnixStream::connect(&path).is_ok() {
                return Err(format!("cannot listen on {}: somebody else does", path.display()));
            }
            // Bound under another name and then put in its place, so that there is no moment without a socket. What is there
            // belongs to the pgherd before, or was left by one that was killed.
            let ours = directory.join(format!(".s.PGSQL.{port}.{}", std::process::id()));
            let _ = std::fs::remove_file(&ours);
            let listener = std::os::unix::net::UnixListener::bind(&ours).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            // Before it has its name: nobody finds it while it is open to others.
            open_to(&ours, server).map_err(|why| format!("cannot listen on {}: {why}", path.display()))?;
            std::fs::rename(&ours, &path).map_err(failed)?;
            let inode = inode(&path).unwrap_or(0);
            if let Some(first) = listeners.first_mut() {
                first.push(Listener { socket: Bound::Unix(listener), port: *port, inherited: false });
            }
            return Ok(Some(SocketFile { path, inode }));
        }
    }
    Ok(None)
}

/// Whether this machine has the address.
fn is_here(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    let at_any_port = SocketAddr::new(address.ip(), 0);
    socket.bind(&at_any_port.into())
}

/// Gives the file of a socket its group and its permissions.
fn open_to(file: &Path, server: &Server) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(group) = &server.socket_group {
        let id = match group.parse::<u32>() {
            Ok(id) => id,
            Err(_) => match nix::unistd::Group::from_name(group) {
                Ok(Some(found)) => found.gid.as_raw(),
                Ok(None) => return Err(format!("there is no group {group:?}")),
                Err(e) => return Err(format!("the group {group:?} cannot be looked up: {e}")),
            },
        };
        std::os::unix::fs::chown(file, None, Some(id))
            .map_err(|e| format!("it cannot be given to the group {group:?}: {e}"))?;
    }
    if let Some(mode) = server.socket_mode {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode))
            .map_err(|e| format!("its permissions cannot be {mode:o}: {e}"))?;
    }
    Ok(())
}

/// Accepts clients until pgherd stops, and those who are in the kernel's queue by then.
pub async fn accept(
    listener: Listener,
    mut stop: watch::Receiver<Stop>,
    mut admit: impl FnMut(Stream, Ends),
) {
    let watched = match &listener.socket {
        Bound::Tcp(l) => l.try_clone().and_then(tokio::net::TcpListener::from_std).map(Watched::Tcp),
        Bound::Unix(l) => l.try_clone().and_then(tokio::net::UnixListener::from_std).map(Watched::Unix),
    };
    let watched = match watched {
        Ok(watched) => watched,
        Err(e) => {
            tracing::error!(error = %e, "a listening socket cannot be watched");
            return;
        }
    };
    let port = listener.port;
    let local = match &listener.socket {
        Bound::Tcp(l) => l.local_addr().ok(),
        Bound::Unix(_) => None,
    };
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = watched.accept() => accepted,
            _ = stop.wait_for(|stop| *stop != Stop::No) => break,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, Ends { peer, local, port, tls: "" }),
            // ECONNABORTED and the like concern one client; EMFILE and ENFILE pass when clients leave. None ends the process.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                    tracing::warn!(error = %e, "a client could not be accepted");
                    complained = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(watched);
    if listener.inherited {
        return;
    }
    // Closed with connections in its queue, a listener would reset them.
    while let Ok((stream, peer)) = accept_waiting(&listener) {
        admit(stream, Ends { peer, local, port, tls: "" });
    }
}

enum Watched {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Watched {
    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(l) => {
                let (socket, peer) = l.accept().await?;
                let _ = socket.set_nodelay(true);
                Ok((Stream::Tcp(socket), Some(peer)))
            }
            Self::Unix(l) => Ok((Stream::Unix(l.accept().await?.0), None)),
        }
    }
}

/// Who is in the queue already; does not wait.
fn accept_waiting(listener: &Listener) -> io::Result<(Stream, Option<SocketAddr>)> {
    match &listener.socket {
        Bound::Tcp(l) => {
            let (socket, peer) = l.accept()?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            Ok((Stream::attach(Detached::Tcp(socket))?, Some(peer)))
        }
        Bound::Unix(l) => {
            let (socket, _) = l.accept()?;
            socket.set_nonblocking(true)?;
            Ok((Stream::attach(Detached::Unix(socket))?, None))
        }
    }
}
