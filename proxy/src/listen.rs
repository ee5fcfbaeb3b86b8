//! Listening sockets: bound at the start, closed when pgherd stops.
//!
//! Invariant: whoever was accepted by the kernel is accepted by us, also while a listener is being closed; and failing to
//! accept one client ends nothing.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgherd_config::Listen;
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

pub enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, u16),
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

/// A TCP port gets a socket for each worker (SO_REUSEPORT), a unix socket one, on the first worker.
pub fn bind(listen: &Listen, listeners: &mut [Vec<Listener>]) -> Result<(), String> {
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
                first.push(Listener::Unix(listener, *port));
            }
        }
    }
    Ok(())
}

/// Removes the files of unix sockets.
pub fn remove_sockets(listens: &[Listen]) {
    for listen in listens {
        if let Listen::Unix { directory, port } = listen {
            let _ = std::fs::remove_file(socket_path(directory, *port));
        }
    }
}

/// Accepts clients until pgherd stops, and those who are in the kernel's queue by then.
pub async fn accept(
    listener: Listener,
    mut stop: watch::Receiver<Stop>,
    mut admit: impl FnMut(Stream, Ends),
) {
    let watched = match &listener {
        Listener::Tcp(l) => l.try_clone().and_then(tokio::net::TcpListener::from_std).map(Watched::Tcp),
        Listener::Unix(l, _) => l.try_clone().and_then(tokio::net::UnixListener::from_std).map(Watched::Unix),
    };
    let watched = match watched {
        Ok(watched) => watched,
        Err(e) => {
            tracing::error!(error = %e, "a listening socket cannot be watched");
            return;
        }
    };
    let (local, port) = match &listener {
        Listener::Tcp(l) => (l.local_addr().ok(), 0),
        Listener::Unix(_, port) => (None, *port),
    };
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = watched.accept() => accepted,
            _ = stop.wait_for(|stop| *stop != Stop::No) => break,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, Ends { peer, local, port }),
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
    // Closed with connections in its queue, a listener would reset them.
    while let Ok((stream, peer)) = accept_waiting(&listener) {
        admit(stream, Ends { peer, local, port });
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
    match listener {
        Listener::Tcp(l) => {
            let (socket, peer) = l.accept()?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            Ok((Stream::attach(Detached::Tcp(socket))?, Some(peer)))
        }
        Listener::Unix(l, _) => {
            let (socket, _) = l.accept()?;
            socket.set_nonblocking(true)?;
            Ok((Stream::attach(Detached::Unix(socket))?, None))
        }
    }
}
