//! The client's side of a session: its socket, what it sent and has not been read, what it is owed and has
//! not been written.
//!
//! Invariant: bytes go out in the order in which they were pushed; when `backlogged`, no server is read,
//! so a slow reader stops the sender and memory stays bounded.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use pgherd_wire::Stream;
use pgherd_wire::frame::{self, FrameError, HEADER_BYTES, Header};
use pgherd_wire::message::{self, Report};

use super::link::BLOCK_BYTES;
use super::names::Names;
use super::seldom::Seldom;
use super::statements::{Prepared, ServerName, StatementId};
use crate::deadlock::Holder;

/// Bytes waiting for a slow client beyond which its servers are not read.
const BACKLOG_BYTES: usize = 64 * 1024;

/// Parameters that servers report, as this client was last told them.
pub type Told = Vec<(Box<str>, Box<str>)>;

pub struct Client {
    pub stream: Stream,
    inbox: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes left of a CopyData whose beginning was handed out.
    copy_left: usize,
    /// The client will send no more.
    pub eof: bool,
    /// Nothing can be written to it any more.
    pub gone: bool,
    /// Before it is welcomed: what servers say is noted and not passed on.
    pub hushed: bool,
    out: Vec<u8>,
    out_at: usize,
    told: Arc<Told>,
    /// Parameters that pgherd's own statements changed, with the value that the client knows: said ahead of the next
    /// ReadyForQuery, unless they are back at that value, as PostgreSQL does (guc.c, ReportChangedGUCOptions).
    reports: Vec<(Box<str>, Option<Box<str>>)>,
    /// The transaction block failed by pgherd's own verdict: the client sees 'E' whatever a server says.
    pub failed: bool,
    /// The status of the last ReadyForQuery it was sent.
    pub status: u8,
    /// By the client's own names.
    pub statements: Names<Rc<Prepared>>,
    /// How often it has parsed one without a name: what takes back an earlier one must leave a later one alone.
    pub unnamed: u16,
    /// What Describe told it of a statement's result. Not those that are parsed for each use.
    pub described: Seldom<StatementId, Described>,
    /// The last definition that an error took back: a server may yet speak of it.
    pub undone: Option<(Box<[u8]>, Rc<Prepared>)>,
    /// Its transaction, while that is on several shards.
    pub holder: Option<Arc<Holder>>,
    pub tally: Tally,
}

/// What has happened since the session last counted it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// ReadyForQuery messages, and those that ended a transaction.
    pub ready: u32,
    pub ended: u32,
    /// Bytes from and to the client.
    pub received: u64,
    pub sent: u64,
}

/// The columns of a statement's result as the client knows them: it reads rows, and asks for formats, by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// [`columns_hash`] of its RowDescription; 0: it returns no rows.
    pub columns: u64,
    /// The version of the schema that this was true of.
    pub schema: u64,
}

/// Of what PostgreSQL compares when it plans a statement again (plancache.c, equalTupleDescs): names and types.
pub fn columns_hash(row_description: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    /// Table, attribute; type, its length, its modifier; format.
    const BEHIND_NAME: usize = 18;
    let mut hasher = DefaultHasher::new();
    let mut rest = row_description.get(2..).unwrap_or_default();
    while let Some(end) = rest.iter().position(|&b| b == 0)
        && let Some(column) = rest.get(end + 1..end + 1 + BEHIND_NAME)
    {
        (&rest[..end], &column[6..10], &column[12..16]).hash(&mut hasher);
        rest = &rest[end + 1 + BEHIND_NAME..];
    }
    hasher.finish() | 1
}

/// What the client sent next.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole frame is there: take it with [`Client::take`].
    Frame(Header),
    /// Some bytes of a CopyData's body: take them with [`Client::copy_bytes`].
    CopyBytes,
    /// Nothing whole.
    Nothing,
}

/// A client's inbox, taken out.
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    /// The body of the whole frame at the front.
    pub fn body(&self, head: Header) -> &[u8] {
        &self.bytes[self.start + HEADER_BYTES..self.start + head.total()]
    }
}

/// SQLSTATE of a shard that does not hold the row any more, as it stands in an ErrorResponse.
const FENCED: &[u8] = b"\0CPG001\0";

/// What stands in its place, and can be acted on.
fn fenced(said: Report) -> Vec<u8> {
    let report = crate::lease::moved_under().detail(format!("A shard said: {}.", said.message));
    let mut bytes = Vec::new();
    report.write(&mut bytes);
    // Without the type and the length.
    bytes.split_off(pgherd_wire::frame::HEADER_BYTES)
}

/// What the victim of a deadlock over several shards is told: PostgreSQL's words, and where it differs.
fn deadlocked() -> Report {
    Report::error("40P01", "deadlock detected")
        .detail("The transaction waits on one shard for another one that waits on another shard for it.")
        .hint("Run the transaction again.")
}

impl Client {
    pub fn new(stream: Stream, told: Arc<Told>) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            start: 0,
            end: 0,
            copy_left: 0,
            eof: false,
            gone: false,
            hushed: false,
            out: Vec::new(),
            out_at: 0,
            told,
            reports: Vec::new(),
            failed: false,
            status: b'I',
            statements: Names::default(),
            unnamed: 0,
            described: Seldom::default(),
            undone: None,
            holder: None,
            tally: Tally::default(),
        }
    }

    /// An ErrorResponse as the client is to read it: where a fence has refused a write that was routed by an old placement, the
    /// client is to run it again; where a server speaks of a statement by pgherd's name for it, the client's
    /// own name stands. `None`: it speaks of none.
    pub fn own_names(&self, body: &[u8]) -> Option<Vec<u8>> {
        if body.windows(FENCED.len()).any(|bytes| bytes == FENCED) {
            return Some(fenced(Report::read_whole(body)));
        }
        if self.holder.as_ref().is_some_and(|holder| holder.is_victim()) {
            let report = Report::read(body);
            // query_canceled: of our own doing.
            if report.sqlstate == "57014" {
                let mut said = Vec::new();
                deadlocked().write(&mut said);
                return Some(said.split_off(HEADER_BYTES));
            }
        }
        let prefix = [&b"\""[..], ServerName::PREFIX].concat();
        let at = body.windows(prefix.len()).position(|bytes| bytes == prefix)?;
        let name_at = at + 1;
        let name_end = name_at + body[name_at..].iter().position(|byte| *byte == b'"')?;
        let named = &body[name_at..name_end];
        let undone = self.undone.iter().map(|(name, statement)| (&**name, statement));
        let mut names = self.statements.iter().chain(undone);
        let own = names.find(|(_, s)| ServerName::of(s.id).as_bytes() == named)?.0;
        // PostgreSQL has words of its own for the unnamed one (postgres.c, exec_bind_message).
        let (from, to) = if own.is_empty()
            && body[..at].ends_with(b"prepared statement ")
            && body[name_end..].starts_with(b"\" does")
        {
            (at - b"prepared statement ".len(), b"unnamed prepared statement".to_vec())
        } else {
            (at, [&b"\""[..], own, b"\""].concat())
        };
        Some([&body[..from], &to, &body[name_end + 1..]].concat())
    }

    /// Waits until the client sends something, without holding a buffer.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    /// Nothing unread.
    pub fn inbox_empty(&self) -> bool {
        self.start == self.end
    }

    /// Lends a block to read into, if there is none.
    pub fn lend(&mut self, block: impl FnOnce() -> Vec<u8>) {
        if self.inbox.is_empty() {
            self.inbox = block();
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives the empty block back.
    pub fn take_block(&mut self) -> Option<Vec<u8>> {
        if self.start != self.end || self.inbox.is_empty() {
            return None;
        }
        self.start = 0;
        self.end = 0;
        Some(std::mem::take(&mut self.inbox))
    }

    /// Takes the block with whatever is in it: nothing more will be read.
    pub fn give_up_block(&mut self) -> Vec<u8> {
        self.start = 0;
        self.end = 0;
        self.copy_left = 0;
        std::mem::take(&mut self.inbox)
    }

    /// Takes the buffer for what it is owed, if nothing is: an idle client does not need it.
    pub fn take_out(&mut self) -> Vec<u8> {
        if self.out.is_empty() { std::mem::take(&mut self.out) } else { Vec::new() }
    }

    /// Lends a buffer for what it will be owed, if there is none.
    pub fn lend_out(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.out.capacity() == 0 {
            self.out = buffer();
        }
    }

    /// Frees buffers that an idle client does not need.
    pub fn shrink(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Reads once. `true`: something happened (bytes, or the end).
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> bool {
        if self.eof || self.gone {
            return false;
        }
        if self.inbox.len() < BLOCK_BYTES {
            self.inbox.resize(BLOCK_BYTES, 0);
        }
        if self.end == self.inbox.len() {
            if self.start > 0 {
                self.inbox.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                // Grows with what has really come, never by a length that was only announced.
                let larger = self.inbox.len() * 2;
                self.inbox.resize(larger, 0);
            }
        }
        match self.stream.poll_read(cx, &mut self.inbox[self.end..]) {
            Poll::Pending => false,
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                true
            }
            Poll::Ready(Ok(n)) => {
                self.end += n;
                self.tally.received += n as u64;
                true
            }
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::Interrupted => true,
            Poll::Ready(Err(_)) => {
                self.eof = true;
                self.gone = true;
                true
            }
        }
    }

    /// What is at the front. `copy`: hand out CopyData in pieces as it comes.
    pub fn incoming(&mut self) -> Result<Incoming, FrameError> {
        if self.copy_left > 0 {
            return Ok(if self.start < self.end { Incoming::CopyBytes } else { Incoming::Nothing });
        }
        let Some(head) = frame::header(&self.inbox[self.start..self.end])? else {
            return Ok(Incoming::Nothing);
        };
        if head.kind == b'd' {
            self.start += HEADER_BYTES;
            self.copy_left = head.body;
            return Ok(if head.body == 0 {
                // An empty CopyData carries nothing.
                return self.incoming();
            } else if self.start < self.end {
                Incoming::CopyBytes
            } else {
                Incoming::Nothing
            });
        }
        Ok(if self.end - self.start >= head.total() { Incoming::Frame(head) } else { Incoming::Nothing })
    }

    /// The client's next message has come already, and is a Sync.
    pub fn sync_is_next(&self) -> bool {
        self.copy_left == 0 && self.inbox.get(self.start) == Some(&b'S') && self.start < self.end
    }

    /// The client's next message has come already, and is a Describe of this portal.
    pub fn describes_next(&self, portal: &[u8]) -> bool {
        let Some(rest) = self.inbox.get(self.start..self.end) else { return false };
        self.copy_left == 0
            && rest.first() == Some(&b'D')
            && rest.get(HEADER_BYTES) == Some(&b'P')
            && rest.get(HEADER_BYTES + 1..).is_some_and(|name| name.starts_with(portal))
            && rest.get(HEADER_BYTES + 1 + portal.len()) == Some(&0)
    }

    /// Takes the whole frame at the front: its body goes to `body`.
    pub fn take(&mut self, head: Header, body: &mut Vec<u8>) {
        let at = self.start + HEADER_BYTES;
        body.clear();
        body.extend_from_slice(&self.inbox[at..at + head.body]);
        self.start += head.total();
        self.tidy();
    }

    /// Takes the inbox out, so that a message can be read where it lies while the session acts on it.
    pub fn lend_inbox(&mut self) -> Inbox {
        Inbox { bytes: std::mem::take(&mut self.inbox), start: self.start }
    }

    /// Gives it back with `taken` bytes less.
    pub fn return_inbox(&mut self, inbox: Inbox, taken: usize) {
        self.inbox = inbox.bytes;
        self.start += taken;
        if taken > 0 {
            self.tidy();
        }
    }

    /// A Parse under this name.
    pub fn define(&mut self, name: &[u8], prepared: &Rc<Prepared>) {
        self.unnamed = self.unnamed.wrapping_add(u16::from(name.is_empty()));
        match self.statements.get_mut(name) {
            Some(known) if Rc::ptr_eq(known, prepared) => {}
            Some(known) => *known = prepared.clone(),
            None => {
                self.statements.insert(name, prepared.clone());
            }
        }
    }

    /// A name of this statement is gone.
    pub fn forget_description(&mut self, id: StatementId) {
        if self.described.get(&id).is_some() && !self.statements.values().any(|statement| statement.id == id)
        {
            self.described.remove(&id);
        }
    }

    pub fn forget_unnamed(&mut self) {
        self.statements.remove(b"");
    }

    /// Hands the CopyData bytes at the front to `use_bytes` and takes them.
    pub fn copy_bytes<T>(&mut self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        let n = self.copy_left.min(self.end - self.start);
        let result = use_bytes(&self.inbox[self.start..self.start + n]);
        self.start += n;
        self.copy_left -= n;
        self.tidy();
        result
    }

    fn tidy(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.inbox.len() > 16 * BLOCK_BYTES {
                self.inbox = vec![0; BLOCK_BYTES];
            }
        }
    }

    /// Appends bytes for the client.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.gone && !self.hushed {
            self.out.extend_from_slice(bytes);
        }
    }

    /// Appends what `write` writes.
    pub fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out);
        if self.gone || self.hushed {
            self.out.clear();
        }
    }

    /// Sends bytes on, straight from the caller's block when nothing waits before them.
    pub fn forward(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) {
        if self.gone || self.hushed {
            return;
        }
        if self.out_at < self.out.len() && bytes.len() <= BLOCK_BYTES {
            // Something waits before them: one write for both costs less than copying a block.
            self.out.extend_from_slice(bytes);
            self.poll_flush(cx);
            return;
        }
        self.poll_flush(cx);
        if self.gone {
            return;
        }
        if self.out.is_empty() {
            while !bytes.is_empty() {
                match self.stream.poll_write(cx, bytes) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        bytes = &bytes[n..];
                        self.tally.sent += n as u64;
                    }
                    Poll::Ready(_) => {
                        self.lose();
                        return;
                    }
                    Poll::Pending => break,
                }
            }
        }
        self.out.extend_from_slice(bytes);
    }

    /// Writes what waits. `true`: something was written.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while self.out_at < self.out.len() {
            match self.stream.poll_write(cx, &self.out[self.out_at..]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.out_at += n;
                    self.tally.sent += n as u64;
                    progress = true;
                }
                Poll::Ready(_) => {
                    self.lose();
                    return true;
                }
                Poll::Pending => return progress,
            }
        }
        self.out.clear();
        self.out_at = 0;
        if self.out.capacity() > 4 * BACKLOG_BYTES {
            self.out = Vec::new();
        }
        progress
    }

    fn lose(&mut self) {
        self.gone = true;
        self.eof = true;
        self.out = Vec::new();
        self.out_at = 0;
    }

    pub fn pending_out(&self) -> usize {
        self.out.len() - self.out_at
    }

    pub fn backlogged(&self) -> bool {
        self.pending_out() > BACKLOG_BYTES
    }

    /// Room for what the client sends while it waits.
    pub fn inbox_has_room(&self) -> bool {
        self.end - self.start < BLOCK_BYTES
    }

    /// Says again something that the client knows: it may come at any time and changes nothing.
    pub fn probe(&mut self) {
        let told = self.told.clone();
        if let Some((name, value)) = told.first() {
            self.say(|o| message::parameter_status(o, name, value));
        }
    }

    /// Writes what can be written now.
    pub async fn flush_some(&mut self) {
        std::future::poll_fn(|cx| {
            self.poll_flush(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// After the end of the stream: whether the peer still takes what is written.
    pub async fn still_there(&mut self) -> bool {
        let mut byte = [0];
        let peer = std::future::poll_fn(|cx| match self.stream.poll_read(cx, &mut byte) {
            Poll::Ready(Err(_)) => Poll::Ready(false),
            // The end of the stream again, or nothing: no reset has come.
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Ready(true),
        })
        .await;
        if !peer {
            self.lose();
        }
        peer && !self.gone
    }

    /// A ReadyForQuery goes to the client with `self.status`.
    pub fn count_ready(&mut self) {
        self.tally.ready += 1;
        self.tally.ended += u32::from(self.status == b'I');
    }

    /// A ReadyForQuery goes to the client: the status that it shall see. `in_block`: the server was in the client's block.
    pub fn ready(&mut self, server: u8, in_block: bool) -> u8 {
        // A COMMIT that fails ends its block: its error may have been looked at before this, and is no error in a block.
        let ended = in_block && server == b'I';
        self.status = if self.failed && !ended { b'E' } else { server };
        self.count_ready();
        self.status
    }

    /// A ParameterStatus of a server. `true`: it is news for this client, to be passed on. `later`: it came of a statement of
    /// pgherd's own, and is kept for the next ReadyForQuery.
    pub fn note_parameter(&mut self, body: &[u8], later: bool) -> bool {
        let mut fields = frame::Fields::new(body);
        let (Ok(name), Ok(value)) = (fields.cstr(), fields.cstr()) else { return false };
        self.note(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value), later)
    }

    /// What [`Self::note_parameter`] does.
    pub fn note(&mut self, name: &str, value: &str, later: bool) -> bool {
        let known = self.told.iter().position(|(n, _)| **n == *name);
        if known.is_some_and(|i| *self.told[i].1 == *value) {
            return false;
        }
        let before = known.map(|i| self.told[i].1.clone());
        match known {
            Some(i) => Arc::make_mut(&mut self.told)[i].1 = value.into(),
            None => Arc::make_mut(&mut self.told).push((name.into(), value.into())),
        }
        if !later || self.hushed {
            // What it was kept for is said by this one.
            self.reports.retain(|(n, _)| **n != *name);
            return true;
        }
        if !self.reports.iter().any(|(n, _)| **n == *name) {
            self.reports.push((name.into(), before));
        }
        false
    }

    /// As a server reported it last.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.told.iter().find(|(n, _)| **n == *name).map(|(_, value)| &**value)
    }

    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    pub fn say_reports(&mut self) {
        for (name, before) in std::mem::take(&mut self.reports) {
            let now = self.told.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
            if let Some(value) = now
                && before.as_ref() != Some(&value)
            {
                self.say(|o| message::parameter_status(o, &name, &value));
            }
        }
    }

    /// Bytes that came with the handshake.
    pub fn preload(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.inbox = vec![0; bytes.len().max(BLOCK_BYTES)];
            self.inbox[..bytes.len()].copy_from_slice(bytes);
            self.end = bytes.len();
        }
    }

    /// Changes what the client will be told, before it was told anything.
    pub fn retell(&mut self, name: &str, value: &str) {
        let told = Arc::make_mut(&mut self.told);
        match told.iter_mut().find(|(n, _)| **n == *name) {
            Some((_, v)) => *v = value.into(),
            None => told.push((name.into(), value.into())),
        }
    }

    pub fn set_told(&mut self, told: Arc<Told>) {
        self.told = told;
    }

    pub fn told(&self) -> &Arc<Told> {
        &self.told
    }
}
