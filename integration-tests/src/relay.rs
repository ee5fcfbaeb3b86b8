//! A relay between a client and a server of the protocol, that writes down who said what.
//!
//! Invariant: what goes through is not changed and not held up.
//!
//! Not here: what a message means. Behind TLS there are no messages to be seen; nothing is recorded of it then.
//!
//! Start reading at [`Relay::start`].

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// One message. `kind` is 0 for those of the handshake that have no type byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub side: Side,
    pub kind: u8,
    pub body: Vec<u8>,
}

/// What one connection said, in the order in which the relay saw it. Between the two sides that order means little.
type Conversation = Arc<Mutex<Vec<Said>>>;

pub struct Relay {
    pub port: u16,
    over: Arc<AtomicBool>,
    conversations: Arc<Mutex<Vec<Conversation>>>,
}

impl Relay {
    /// From a port of its own to `target`, both on the loopback address.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("a listener has an address").port();
        let (over, conversations) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let relay = Self { port, over: over.clone(), conversations: conversations.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                // A server that is not there: the client sees the end of the connection.
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let conversation = Conversation::default();
                if let Ok(mut all) = conversations.lock() {
                    all.push(conversation.clone());
                }
                let _ = connect(client, server, conversation);
            }
        });
        relay
    }

    /// What was said on each connection since the last time, in the order of connecting.
    pub fn take(&self) -> Vec<Vec<Said>> {
        let Ok(mut all) = self.conversations.lock() else { return Vec::new() };
        all.drain(..).map(|c| c.lock().map(|said| said.clone()).unwrap_or_default()).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// What both directions of a connection know.
#[derive(Default)]
struct Shared {
    /// Replies of one byte that the server owes, to requests for encryption.
    bytes_owed: AtomicUsize,
    /// Such a request was granted: what follows is not ours to read.
    encrypted: AtomicBool,
}

fn connect(client: TcpStream, server: TcpStream, conversation: Conversation) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let shared = Arc::new(Shared::default());
    for (side, from, to) in
        [(Side::Client, client.try_clone()?, server.try_clone()?), (Side::Server, server, client)]
    {
        let way = Way {
            side,
            shared: shared.clone(),
            conversation: conversation.clone(),
            bytes: Vec::new(),
            started: side == Side::Server,
        };
        thread::spawn(move || way.run(from, to));
    }
    Ok(())
}

/// One direction of a connection.
struct Way {
    side: Side,
    shared: Arc<Shared>,
    conversation: Conversation,
    /// The start of a message that is not whole yet.
    bytes: Vec<u8>,
    /// Messages have a type byte from here on.
    started: bool,
}

impl Way {
    fn run(mut self, mut from: TcpStream, mut to: TcpStream) {
        let mut block = vec![0; 64 * 1024];
        loop {
            let n = match from.read(&mut block) {
                Ok(n) if n > 0 => n,
                _ => break,
            };
            if self.shared.encrypted.load(Ordering::Acquire) {
                if to.write_all(&block[..n]).is_err() {
                    break;
                }
                continue;
            }
            self.bytes.extend_from_slice(&block[..n]);
            // Before the bytes are on their way: the reply to one of them may come at once.
            let (messages, taken) = self.messages();
            if let Ok(mut said) = self.conversation.lock() {
                said.extend(messages);
            }
            self.bytes.drain(..taken);
            if to.write_all(&block[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// The whole messages at the front of `bytes`, and how many bytes they are.
    fn messages(&mut self) -> (Vec<Said>, usize) {
        let (mut messages, mut at) = (Vec::new(), 0);
        let said = |kind, body: &[u8]| Said { side: self.side, kind, body: body.to_vec() };
        loop {
            let rest = &self.bytes[at..];
            if self.side == Side::Server
                && !rest.is_empty()
                && self.shared.bytes_owed.load(Ordering::Acquire) > 0
            {
                self.shared.bytes_owed.fetch_sub(1, Ordering::AcqRel);
                self.shared.encrypted.store(matches!(rest[0], b'S' | b'G'), Ordering::Release);
                messages.push(said(0, &rest[..1]));
                at += 1;
                continue;
            }
            let typed = usize::from(self.started);
            let Some(length) = rest.get(typed..typed + 4).and_then(|b| b.try_into().ok()) else { break };
            let total = u32::from_be_bytes(length) as usize + typed;
            // A length below its own size is the peer's lie, and passed on as it is.
            if total < typed + 4 || rest.len() < total {
                break;
            }
            if self.started {
                messages.push(said(rest[0], &rest[5..total]));
            } else {
                let code = rest.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
                match code {
                    SSL_REQUEST | GSS_REQUEST => {
                        self.shared.bytes_owed.fetch_add(1, Ordering::AcqRel);
                    }
                    _ => self.started = true,
                }
                messages.push(said(0, &rest[..total]));
            }
            at += total;
        }
        (messages, at)
    }
}

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
