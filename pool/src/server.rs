//! One server connection, and its place among the `size` of its pool.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use pgherd_wire::{Header, Stream, frame, message};
use tokio::time::Instant;

use crate::cancel::CancelHandle;
use crate::cap::Taken;
use crate::connect::{Login, read_parameter};
use crate::parameters::Parameters;

/// Most that is read from an idle server at one checkout. A server says a notice or a parameter, not a book.
const IDLE_BYTES_MAX: usize = 64 * 1024;

/// A server that does not answer a Sync at once has no place in the pool.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is lent. Dropped, its socket is closed and its place is free for a waiter.
///
/// Dropping sends no Terminate: only the caller knows whether the last frame was sent whole, and five bytes more could
/// complete it to a statement that nobody wrote. A caller that knows uses [`Server::terminate`].
#[derive(Debug)]
pub struct Server<S> {
    pub stream: Stream,
    /// What the session layer knows about this connection.
    pub state: S,
    /// As reported at login, and whenever it was idle since.
    pub parameters: Arc<Parameters>,
    /// A parameter was reported while the connection was idle. For the caller to look at and to reset.
    pub parameters_changed: bool,
    /// For this lending only: the next checkout has another.
    pub cancel: Arc<CancelHandle>,
    /// Whose runtime the stream is registered with.
    pub(crate) worker: usize,
    pub(crate) generation: u32,
    /// When a sweep first saw it idle: so that checkin need not read the clock.
    pub(crate) idle_seen: Option<Instant>,
    pub(crate) opened: Instant,
    pub(crate) place: Place,
}

/// A connection as a pool's list has it, for the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: u64,
    /// As [`Server::number`].
    pub number: u64,
    /// As in `pg_stat_activity.pid`.
    pub process: Option<u32>,
    pub opened: SystemTime,
    /// Our end of it, and the server's; `None` for a unix socket.
    pub local: Option<SocketAddr>,
    pub peer: Option<SocketAddr>,
    /// Version and cipher; empty without.
    pub tls: &'static str,
    pub idle: bool,
    /// It is closed when it comes back.
    pub stale: bool,
    pub(crate) generation: u32,
}

impl Listed {
    /// A connection that is in no pool, and serves somebody.
    pub fn alone(number: u64, login: &Login) -> Self {
        Self {
            id: 0,
            number,
            process: login.cancel.process_id(),
            opened: SystemTime::now(),
            local: login.stream.local_addr(),
            peer: login.stream.peer_addr(),
            tls: login.stream.tls().map_or("", |tls| tls.agreed()),
            idle: false,
            stale: false,
            generation: 0,
        }
    }
}

/// One of the `size` places of a pool; free again on drop.
pub(crate) struct Place {
    // Weak: the pool owns its idle servers, and these own their places.
    pool: Weak<dyn Places>,
    pool_number: u32,
    /// Of the connection that has it; 0 before there is one.
    pub(crate) server: u64,
    /// In the bounds that the pool shares with others. `None`: given back for now.
    pub(crate) taken: Option<Taken>,
}

/// A pool, seen by what takes up its places.
pub(crate) trait Places: Send + Sync {
    fn free_place(self: Arc<Self>, server: u64, taken: Option<Taken>);
}

impl Place {
    /// For a place that is already counted.
    pub(crate) fn new(pool_number: u32, pool: Weak<dyn Places>, taken: Taken) -> Self {
        Self { pool, pool_number, server: 0, taken: Some(taken) }
    }

    pub(crate) fn number(&self) -> u64 {
        u64::from(self.pool_number) << 32 | self.server
    }

    pub(crate) fn belongs_to<P>(&self, pool: &Arc<P>) -> bool {
        std::ptr::addr_eq(self.pool.as_ptr(), Arc::as_ptr(pool))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.free_place(self.server, self.taken.take());
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl<S> Server<S> {
    pub(crate) fn new(login: Login, place: Place, worker: usize, generation: u32) -> Self
    where
        S: Default,
    {
        Self {
            stream: login.stream,
            state: S::default(),
            parameters: Arc::new(login.parameters),
            parameters_changed: false,
            cancel: login.cancel,
            worker,
            generation,
            idle_seen: None,
            opened: Instant::now(),
            place,
        }
    }

    /// Names this connection in logs, as long as the process lives.
    pub fn id(&self) -> u64 {
        self.place.server
    }

    /// No other connection of the process has it.
    pub fn number(&self) -> u64 {
        self.place.number()
    }

    /// Says goodbye, if that needs no waiting, and closes. Only between frames.
    // Servers are moved by their boxes.
    #[expect(clippy::boxed_local)]
    pub fn terminate(mut self: Box<Self>) {
        let stream = &mut self.stream;
        let _ = now(|cx| stream.poll_write(cx, message::TERMINATE));
    }

    /// Whether an idle connection may be lent: reads what came in meanwhile, if anything did. Costs no system call
    /// when nothing did.
    #[inline]
    pub(crate) fn is_fit(&mut self) -> bool {
        !self.stream.may_read_now() || self.is_fit_with_something_to_read()
    }

    fn is_fit_with_something_to_read(&mut self) -> bool {
        let stream = &mut self.stream;
        match now(|cx| stream.poll_read_ready(cx)) {
            Poll::Pending => true,
            Poll::Ready(Err(_)) => false,
            Poll::Ready(Ok(())) => self.read_idle_messages().is_some(),
        }
    }

    /// Notices and parameters are no reason to close; whatever else an idle server says is.
    #[cold]
    fn read_idle_messages(&mut self) -> Option<()> {
        let mut received = Vec::new();
        let mut block = [0; 1024];
        loop {
            let stream = &mut self.stream;
            match now(|cx| stream.poll_read(cx, &mut block)) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) if n > 0 && received.len() + n <= IDLE_BYTES_MAX => {
                    received.extend_from_slice(&block[..n]);
                }
                Poll::Ready(_) => return None,
            }
        }
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            // Half a message is rare enough here to be a reason as well: keeping it would be state of its own.
            let Header { kind, body } = frame::header(rest).ok()??;
            let (message, tail) = rest.split_at_checked(body.checked_add(frame::HEADER_BYTES)?)?;
            self.take_note(kind, &message[frame::HEADER_BYTES..])?;
            rest = tail;
        }
        Some(())
    }

    /// Takes a message that was not asked for.
    fn take_note(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        match kind {
            b'N' => Some(()),
            b'S' => {
                read_parameter(body, Arc::make_mut(&mut self.parameters))?;
                self.parameters_changed = true;
                Some(())
            }
            // 'E': it is going. 'A': the session listens, which no session of a pool does; lent on, the next client
            // would hear what another one asked for.
            _ => None,
        }
    }

    /// Registers the socket with the runtime of the calling thread. `None`: it was lost on the way, or it is dead.
    pub(crate) fn move_to(mut self: Box<Self>, worker: usize) -> Option<Box<Self>> {
        if self.worker == worker {
            return Some(self);
        }
        // Asked before: the new registration knows nothing until its reactor has run.
        if !self.is_fit() {
            return None;
        }
        let stream = Stream::attach(self.stream.detach().ok()?).ok()?;
        Some(Box::new(Self { stream, worker, ..*self }))
    }

    /// Sync, and the answer to it: the server went through its command loop, where a signal that is left over is
    /// noticed and forgotten. `None`: the server is not as it should be.
    pub(crate) async fn round_trip(&mut self) -> Option<()> {
        let exchange = Box::pin(async {
            self.stream.write_all(message::SYNC).await.ok()?;
            let mut received = Vec::new();
            let mut block = [0; 1024];
            loop {
                while let Some(Header { kind, body }) = frame::header(&received).ok()? {
                    let total = body + frame::HEADER_BYTES;
                    if received.len() < total {
                        break;
                    }
                    let message: Vec<u8> = received.drain(..total).collect();
                    let body = &message[frame::HEADER_BYTES..];
                    match kind {
                        b'Z' => return (body == b"I" && received.is_empty()).then_some(()),
                        // This is the signal that was left over.
                        b'E' if message::Report::read(body).sqlstate == "57014" => {}
                        _ => self.take_note(kind, body)?,
                    }
                }
                let n = self.stream.read(&mut block).await.ok()?;
                if n == 0 || received.len() + n > IDLE_BYTES_MAX {
                    return None;
                }
                received.extend_from_slice(&block[..n]);
            }
        });
        tokio::time::timeout(ROUND_TRIP_TIMEOUT, exchange).await.ok()?
    }
}

/// Asks once, without waiting. Outside tokio's budget: with the budget spent, everything would seem not to be ready.
fn now<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let asked = pin!(tokio::task::unconstrained(std::future::poll_fn(|cx| poll(cx))));
    asked.poll(&mut Context::from_waker(Waker::noop()))
}
