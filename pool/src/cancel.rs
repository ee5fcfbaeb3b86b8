//! Cancelling what a server runs, without hitting whoever has it next.
//!
//! Invariant: a handle belongs to one lending. At checkin it is revoked: a cancel that begins later
//! does nothing, and one that began earlier holds the server back until it is over. So a CancelRequest
//! that is late reaches a server that serves nobody.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgherd_wire::Stream;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use crate::connect::{self, Secured};
use crate::lock;
use crate::tls::Connector;

/// From connecting until the server has closed the cancel connection.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;

/// Where the connection went, after names were resolved: a cancel key means something on that server only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug)]
struct Peer {
    address: Address,
    /// For a connection that is encrypted: the request goes the same way.
    tls: Option<(Arc<Connector>, String)>,
    /// Process id and secret as they came; `None` from a server that sent none.
    key: Option<Box<[u8]>>,
}

/// Cancels the statement that runs in *this* lending of a connection. Take a new clone at each checkout, and let go of
/// it before checkin (kept, it does no harm, but checkin then allocates).
#[derive(Debug)]
pub struct CancelHandle {
    peer: Arc<Peer>,
    state: Mutex<State>,
    /// Told when the last cancel in flight is over.
    over: Notify,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    in_flight: usize,
    trace: Trace,
    revoked: bool,
}

/// What cancels have left behind on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trace {
    /// None was sent.
    #[default]
    Nothing,
    /// The server has taken note of all that were sent.
    Sent,
    /// One was sent, and may still be on its way.
    Unknown,
}

/// A cancel that has begun: from now until it is dropped its server is lent to nobody.
#[derive(Debug)]
pub struct Cancel {
    handle: Arc<CancelHandle>,
    trace: Trace,
}

impl CancelHandle {
    pub(crate) fn new(
        address: Address,
        tls: Option<(Arc<Connector>, String)>,
        key: Option<Box<[u8]>>,
    ) -> Self {
        Self::of(Arc::new(Peer { address, tls, key }))
    }

    fn of(peer: Arc<Peer>) -> Self {
        Self { peer, state: Mutex::default(), over: Notify::new() }
    }

    /// The server's process, as in `pg_stat_activity.pid`.
    pub fn process_id(&self) -> Option<u32> {
        self.peer.key.as_deref()?.first_chunk().map(|pid| u32::from_be_bytes(*pid))
    }

    /// Claims the right to cancel, at once; `None` when the lending is over: the statement that was meant has ended.
    pub fn begin(self: &Arc<Self>) -> Option<Cancel> {
        let mut state = lock(&self.state);
        if state.revoked {
            return None;
        }
        state.in_flight += 1;
        Some(Cancel { handle: Arc::clone(self), trace: Trace::Nothing })
    }

    /// Cancels what runs, and returns when the server has taken note of it. May be called from any worker.
    ///
    /// # Cancel safety
    /// Safe. Dropped halfway, the request may or may not arrive, and the server is not lent again.
    pub async fn cancel(self: &Arc<Self>) -> io::Result<()> {
        match self.begin() {
            Some(cancel) => cancel.send().await,
            None => Ok(()),
        }
    }

    /// Ends the lending. Returns whether the server may go to somebody else as it is; if not, see [`Self::settled`].
    pub(crate) fn revoke(this: &mut Arc<Self>) -> Revoked {
        // The hot path: nobody else has the handle, so nobody can have begun, nor will.
        if let Some(own) = Arc::get_mut(this) {
            let state = own.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            if *state == State::default() {
                return Revoked::Untouched;
            }
        }
        let fresh = Arc::new(Self::of(Arc::clone(&this.peer)));
        let old = std::mem::replace(this, fresh);
        let mut state = lock(&old.state);
        state.revoked = true;
        let touched = state.in_flight > 0 || state.trace > Trace::Nothing;
        drop(state);
        if touched { Revoked::Touched(old) } else { Revoked::Untouched }
    }

    /// Waits until no cancel is in flight; says what they left behind.
    pub(crate) async fn settled(&self) -> Trace {
        loop {
            let over = self.over.notified();
            {
                let state = lock(&self.state);
                if state.in_flight == 0 {
                    return state.trace;
                }
            }
            // `notify_waiters` also reaches a `Notified` that was made before it and not polled yet.
            over.await;
        }
    }
}

pub(crate) enum Revoked {
    Untouched,
    Touched(Arc<CancelHandle>),
}

impl Cancel {
    /// Sends the request and waits, bounded, until the server has closed the connection: by then it has signalled the
    /// process (postmaster: `kill`, then exit).
    pub async fn send(mut self) -> io::Result<()> {
        let peer = Arc::clone(&self.handle.peer);
        let Some(key) = peer.key.as_deref() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the server gave no cancel key"));
        };
        let mut packet = Vec::with_capacity(8 + key.len());
        packet.extend_from_slice(&(8 + key.len() as u32).to_be_bytes());
        packet.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
        packet.extend_from_slice(key);

        let exchange = Box::pin(async {
            let mut stream = match &peer.address {
                Address::Tcp(address) => Stream::Tcp(TcpStream::connect(address).await?),
                Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
            };
            stream.set_nodelay()?;
            if let Some((connector, host)) = &peer.tls {
                stream = match connect::secure(stream, connector, host).await {
                    Ok(Secured::Tls(stream)) => stream,
                    // Not this: send the key in the clear, where its connection is not.
                    Ok(Secured::Refused(_)) | Err(_) => return Err(io::ErrorKind::ConnectionRefused.into()),
                };
            }
            // From the first byte on, being dropped leaves doubt.
            self.trace = Trace::Unknown;
            stream.write_all(&packet).await?;
            // Nothing is expected but the end; of what comes instead, a little is read.
            let mut block = [0; 64];
            for _ in 0..64 {
                if stream.read(&mut block).await? == 0 {
                    self.trace = Trace::Sent;
                    return Ok(());
                }
            }
            Err(io::ErrorKind::InvalidData.into())
        });
        match tokio::time::timeout(CANCEL_TIMEOUT, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        let mut state = lock(&self.handle.state);
        state.in_flight -= 1;
        state.trace = state.trace.max(self.trace);
        if state.in_flight == 0 {
            self.handle.over.notify_waiters();
        }
    }
}
