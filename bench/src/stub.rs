//! A stub PostgreSQL server that answers at once, and a load that costs little: what is left between them is the proxy.
//!
//! The stub lets everybody in, answers SELECT and SHOW with one row that it has ready, and anything else with a tag. The
//! load has a fixed number of connections, each with one simple query on its way, always. Both are a few threads, each with one `epoll`,
//! one read and one write for a message.
//!
//! Invariant: what the stub does not know ends the connection, so that no figure is of something else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::raw::{self, Client};

/// How their threads are called; the kernel knows 15 characters.
pub const STUB_THREAD: &str = "bench-stub";
pub const LOAD_THREAD: &str = "bench-load";

/// Longer than any message here.
const BLOCK_BYTES: usize = 16 * 1024;
const EVENTS_MAX: usize = 256;

/// No longer than this until a thread sees that it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const WAKE: Token = Token(usize::MAX);

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const PROTOCOL_MAJOR: u32 = 3;

/// A few threads that end with this.
#[derive(Debug)]
pub struct Stub {
    pub address: SocketAddr,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Stub {
    /// # Errors
    /// As the sockets'.
    pub fn start(threads: usize) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let ends = Arc::new(AtomicBool::new(false));
        let mut stub = Self { address, ends: Arc::clone(&ends), threads: Vec::new() };
        let mut inboxes = Vec::new();
        for _ in 0..threads {
            let poll = Poll::new()?;
            let (inbox, arrivals) = mpsc::channel();
            inboxes.push((inbox, Waker::new(poll.registry(), WAKE)?));
            let ends = Arc::clone(&ends);
            stub.threads.push(spawn(STUB_THREAD, move || answer_all(poll, &arrivals, &ends))?);
        }
        let accept = move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (inbox, waker) = &inboxes[number % inboxes.len()];
                let Ok(stream) = stream else { continue };
                if ends.load(Ordering::Relaxed) || give(inbox, waker, stream).is_err() {
                    return;
                }
            }
        };
        stub.threads.push(spawn("bench-accept", accept)?);
        Ok(stub)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // The one that accepts is woken by this.
        let _ = std::net::TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(work)
}

fn give(inbox: &Sender<TcpStream>, waker: &Waker, stream: std::net::TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    inbox.send(TcpStream::from_std(stream)).map_err(|_| io::Error::other("the thread is gone"))?;
    waker.wake()
}

fn answer_all(mut poll: Poll, arrivals: &Receiver<TcpStream>, ends: &AtomicBool) {
    let answers = Answers::new();
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    while !ends.load(Ordering::Relaxed) {
        if poll.poll(&mut events, Some(LOOK_EVERY)).is_err() {
            continue;
        }
        for event in &events {
            if event.token() == WAKE {
                for mut stream in arrivals.try_iter() {
                    let token = Token(peers.len());
                    if poll.registry().register(&mut stream, token, Interest::READABLE).is_ok() {
                        peers.push(Some(Peer { stream, unread: Vec::new(), greeted: false }));
                    }
                }
            } else if let Some(peer) = peers.get_mut(event.token().0)
                && let Some(open) = peer
                && open.answer(&answers, &mut block).is_err()
            {
                *peer = None;
            }
        }
    }
}

struct Answers {
    welcome: Vec<u8>,
    row: Vec<u8>,
    /// To a pooler that asks what an isolation level is by default.
    shown: Vec<u8>,
    other: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let ready = raw::message(b'Z', b"I");
        let status = |name: &str, value: &str| {
            raw::message(b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat())
        };
        let welcome = [
            raw::message(b'R', &0_u32.to_be_bytes()),
            status("server_version", "15.0"),
            status("server_encoding", "UTF8"),
            status("client_encoding", "UTF8"),
            status("DateStyle", "ISO, MDY"),
            status("IntervalStyle", "postgres"),
            status("TimeZone", "UTC"),
            status("integer_datetimes", "on"),
            status("standard_conforming_strings", "on"),
            status("is_superuser", "off"),
            status("default_transaction_read_only", "off"),
            status("in_hot_standby", "off"),
            status("application_name", ""),
            raw::message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
            ready.clone(),
        ];
        // One column "abalance" of an integer, as pgbench's select has it.
        let column = b"\0\x01abalance\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
        let row = [
            raw::message(b'T', column),
            raw::message(b'D', b"\0\x01\0\0\0\x010"),
            raw::message(b'C', b"SELECT 1\0"),
            ready.clone(),
        ];
        let column =
            b"\0\x01default_transaction_isolation\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
        let shown = [
            raw::message(b'T', column),
            raw::message(b'D', b"\0\x01\0\0\0\x0eread committed"),
            raw::message(b'C', b"SHOW\0"),
            ready.clone(),
        ];
        Self {
            shown: shown.concat(),
            welcome: welcome.concat(),
            row: row.concat(),
            other: [raw::message(b'C', b"SET\0"), ready].concat(),
        }
    }
}

struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
    greeted: bool,
}

impl Peer {
    fn answer(&mut self, answers: &Answers, block: &mut [u8]) -> io::Result<()> {
        loop {
            let count = match self.stream.read(block) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.unread.extend_from_slice(&block[..count]);
            let (mut at, mut out) = (0, Vec::new());
            while at < self.unread.len() {
                let Some((length, answer)) = self.next(answers, &self.unread[at..])? else { break };
                self.greeted |= std::ptr::eq(answer, &raw const *answers.welcome);
                // Nearly always the only one: not copied.
                if out.is_empty() && at + length == self.unread.len() {
                    send(&mut self.stream, answer)?;
                } else {
                    out.extend_from_slice(answer);
                }
                at += length;
            }
            self.unread.drain(..at);
            if !out.is_empty() {
                send(&mut self.stream, &out)?;
            }
            // Less than the block: there is no more, or the next event tells.
            if count < block.len() {
                return Ok(());
            }
        }
    }

    /// The length of the first message, when it is whole, and its answer.
    fn next<'a>(&self, answers: &'a Answers, bytes: &[u8]) -> io::Result<Option<(usize, &'a [u8])>> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "a message that the stub does not know");
        if !self.greeted {
            let Some((head, _)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
            let number =
                |at: usize| head[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
            let (length, code) = (number(0) as usize, number(4));
            return match code {
                SSL_REQUEST | GSS_REQUEST => Ok(Some((8, b"N"))),
                _ if code >> 16 != PROTOCOL_MAJOR => Err(unknown()),
                _ if bytes.len() < length => Ok(None),
                _ => Ok(Some((length.max(8), &answers.welcome))),
            };
        }
        let Some((kind, length)) = raw::frame(bytes)? else { return Ok(None) };
        match (kind, &bytes[5..length]) {
            (b'Q', text) if text.starts_with(b"SELECT") => Ok(Some((length, &answers.row))),
            (b'Q', text) if text.starts_with(b"SHOW") => Ok(Some((length, &answers.shown))),
            (b'Q', _) => Ok(Some((length, &answers.other))),
            _ => Err(unknown()),
        }
    }
}

/// Both sides of a connection have at most one short message on its way, which a socket always has place for.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    match stream.write(bytes)? {
        count if count == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Clients that each have one query on its way.
#[derive(Debug)]
pub struct Drive {
    counts: Vec<Arc<AtomicU64>>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    failed: Receiver<io::Error>,
}

impl Drive {
    /// # Errors
    /// As the sockets', and when a client is not let in.
    pub fn start(
        address: SocketAddr,
        user: &str,
        database: &str,
        clients: u32,
        threads: u32,
    ) -> io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let (failures, failed) = mpsc::channel();
        let mut drive = Self { counts: Vec::new(), ends: Arc::clone(&ends), threads: Vec::new(), failed };
        for thread in 0..threads {
            let connect = |_| Client::connect(address, user, database).map(|client| client.stream);
            let streams = (thread..clients).step_by(threads as usize).map(connect);
            let streams: Vec<_> = streams.collect::<io::Result<_>>()?;
            let count = Arc::new(AtomicU64::new(0));
            drive.counts.push(Arc::clone(&count));
            let (ends, failures) = (Arc::clone(&ends), failures.clone());
            drive.threads.push(spawn(LOAD_THREAD, move || {
                if let Err(error) = ask(streams, &count, &ends) {
                    let _ = failures.send(error);
                }
            })?);
        }
        Ok(drive)
    }

    /// Answered so far.
    ///
    /// # Errors
    /// When a client got another answer than its row.
    pub fn count(&self) -> io::Result<u64> {
        match self.failed.try_recv() {
            Ok(error) => Err(error),
            Err(_) => Ok(self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()),
        }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn ask(streams: Vec<std::net::TcpStream>, count: &AtomicU64, ends: &AtomicBool) -> io::Result<()> {
    let query = raw::query("SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;");
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut block = vec![0; BLOCK_BYTES];
    let mut clients = Vec::new();
    for (number, stream) in streams.into_iter().enumerate() {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        send(&mut stream, &query)?;
        clients.push((stream, Vec::new()));
    }
    while !ends.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(LOOK_EVERY))?;
        for event in &events {
            let Some((stream, unread)) = clients.get_mut(event.token().0) else { continue };
            let received = match stream.read(&mut block) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            unread.extend_from_slice(&block[..received]);
            if raw::take_answers(unread)? > 0 {
                // Written by this thread alone.
                count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                send(stream, &query)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_and_the_stub_understand_each_other() {
        let stub = Stub::start(2).unwrap();
        let drive = Drive::start(stub.address, "app", "shop", 5, 2).unwrap();
        while drive.count().unwrap() < 1_000 {
            thread::sleep(Duration::from_millis(5));
        }
        drop(drive);

        let mut client = Client::connect(stub.address, "app", "shop").unwrap();
        client.send(&raw::query("SET work_mem = '1MB'")).unwrap();
        client.wait().unwrap();
        client.send(&raw::message(b'P', b"\0SELECT 1\0\0\0")).unwrap();
        client.wait().unwrap_err();
    }
}
