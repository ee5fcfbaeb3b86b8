//! One server connection lent to a session, and the replies that it owes.
//!
//! Invariant: `expects` holds exactly what the server was asked and has not answered, in order; a link may go
//! back to the pool only when it is empty, nothing waits in `out`, and the server said 'I'.
//!
//! Not here: who asked and why (`session`), lending (`pgherd_pool`).

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use pgherd_pool::Server;
use pgherd_router::ShardId;
use pgherd_wire::frame::{self, HEADER_BYTES};
use pgherd_wire::message::{self, Report};

use super::client::{Client, Described, columns_hash};
use super::settings::Settings;
use super::statements::{Prepared, StatementId};

/// Longest message that has to be understood whole (ParameterStatus, a captured ErrorResponse or row of an
/// aggregate). A server that sends a longer one is closed.
const UNDERSTOOD_BYTES_MAX: usize = 16 << 20;

/// A block for reading; forwarded in place.
pub const BLOCK_BYTES: usize = 16 * 1024;

/// What a block becomes while a server fills it: a large result costs fewer reads and writes.
const LARGE_BLOCK_BYTES: usize = 64 * 1024;

/// What a server connection remembers while it goes from client to client.
#[derive(Debug, Default)]
pub struct LinkState {
    /// Settings that differ from the server's own; `None`: not known, everything is reset before use.
    pub settings: Option<Arc<Settings>>,
    /// A connection that was never used has nothing to reset.
    pub used: bool,
    /// Statements prepared under pgherd's names, with the tick of their last use.
    pub prepared: HashMap<StatementId, u64, foldhash::fast::RandomState>,
    /// What the unnamed statement is, if it is one of ours.
    pub unnamed: Option<StatementId>,
    /// The schema version that `prepared` was made for.
    pub schema_version: u64,
    pub tick: u64,
}

impl LinkState {
    /// The server's settings are the client's.
    pub fn has(&self, settings: &Arc<Settings>) -> bool {
        self.settings.as_ref().is_some_and(|own| Arc::ptr_eq(own, settings) || **own == **settings)
    }
}

/// What is owed next, and what becomes of it.
#[derive(Debug)]
pub enum Expect {
    /// A simple Query (or FunctionCall) of the client: all goes to the client up to and with ReadyForQuery.
    Query {
        ddl: bool,
    },
    /// ParseComplete; `undo`: what an error before it takes back.
    Parse {
        forward: bool,
        id: StatementId,
        undo: Undo,
    },
    Bind,
    /// A Bind that only serves a Describe.
    BindQuiet,
    /// ParameterDescription (statement only), then RowDescription or NoData.
    Describe,
    /// The same, with columns that the client was not told before, in this version of the schema.
    DescribeNews {
        id: StatementId,
        schema: u64,
    },
    /// Describe of a statement for pgherd's own eyes: swallowed, what it says is captured.
    DescribeQuiet,
    Execute {
        ddl: bool,
    },
    Close,
    Sync,
    /// A reply of pgherd's own, in its place among the server's.
    Local(Cow<'static, [u8]>, Undo),
    /// Everything up to ReadyForQuery belongs to a statement of pgherd's own, or to a part of a statement that runs on several shards.
    Unit(Unit),
    /// One extended message of pgherd's own inside the client's batch: swallowed until CommandComplete. `prepares`: what it makes
    /// the server know.
    Own {
        prepares: Option<StatementId>,
    },
    /// CloseComplete of a statement that pgherd itself let go of: swallowed.
    CloseQuiet,
    /// An error forced on the server to end its implicit transaction; the client gets these bytes in its place.
    Abort(Vec<u8>),
}

/// What must be taken back when an error makes the server skip a message.
#[derive(Debug, Default)]
pub enum Undo {
    #[default]
    Nothing,
    /// A Parse: the name is free again. Of those without a name the n-th: see `Client::unnamed`.
    Define(Box<[u8]>, u16),
    /// A Close: the statement is there again.
    Restore(Box<[u8]>, std::rc::Rc<Prepared>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nothing reaches the client; tag and error are captured.
    Quiet,
    /// Like `Quiet`, but it cannot fail, and a statement of the client's is already behind it: an error breaks the link.
    Prelude,
    /// Rows go to the client; RowDescription too when `describe`.
    Rows { describe: bool },
    /// Rows and description are captured.
    Collect,
    /// Like `Collect`, but whoever asked takes the rows as they come: whole messages, see [`Captured::rows_raw`].
    Stream,
    /// COPY TO STDOUT of one shard among several. The first one's CopyOutResponse is the client's; a header line or a
    /// binary signature is kept once, a binary trailer is the session's to say.
    CopyOut { first: bool, header: bool, binary: bool },
    /// Rows on their way to another server: they are kept in `Captured::pulled` as the data of a COPY, until somebody takes
    /// them away. `binary`: as they are, for the binary format.
    Pull { binary: bool },
}

/// What a unit said.
#[derive(Debug, Default)]
pub struct Captured {
    /// A unit was sent since it was empty.
    pub used: bool,
    pub tag: Option<String>,
    /// Body of the first ErrorResponse.
    pub error: Option<Vec<u8>>,
    /// Body of the RowDescription.
    pub description: Option<Vec<u8>>,
    /// ParameterDescription's body.
    pub parameters: Option<Vec<u8>>,
    pub rows: Vec<Vec<u8>>,
    pub rows_bytes: usize,
    /// DataRow messages, one behind the other.
    pub rows_raw: Vec<u8>,
    /// PortalSuspended: there are more.
    pub suspended: bool,
    /// Its portal is bound (BindComplete), or its COPY begun: its snapshot is taken.
    pub begun: bool,
    pub no_data: bool,
    /// What DescribeQuiet learned: see [`Described`].
    pub columns: Option<u64>,
    pub empty: bool,
    /// CopyInResponse or CopyOutResponse: kind and body.
    pub copy: Option<(u8, Vec<u8>)>,
    /// CopyData messages of a COPY TO.
    pub copied_rows: u64,
    /// Rows of [`Unit::Pull`] that nobody has taken yet, and all that there were so far. With rows that statements of a unit inserted.
    pub pulled: Vec<u8>,
    pub pulled_rows: u64,
    pub pulled_bytes: u64,
}

impl Captured {
    /// A unit is sent: what the last one said is no longer asked for.
    pub fn begin(&mut self) {
        *self = Self { used: true, ..Self::default() };
    }

    fn clear(&mut self) {
        if self.used {
            *self = Self::default();
        }
    }
}

/// Why a link cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The server closed or reset the connection; what it said last, if anything.
    Lost(Option<Report>),
    /// The server broke the protocol.
    Violation(String),
}

/// Buffers that outlive a link: made once, lent again and again by the worker.
#[derive(Default)]
pub struct Spare {
    pub block: Vec<u8>,
    out: Vec<u8>,
    expects: VecDeque<Expect>,
    captured: Box<Captured>,
}

impl Spare {
    pub fn new(block: Vec<u8>) -> Self {
        Self { block, ..Self::default() }
    }
}

pub struct Link {
    pub shard: ShardId,
    pub server: Box<Server<LinkState>>,
    /// Bytes for the server.
    pub out: Vec<u8>,
    pub out_at: usize,
    block: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes left of a frame that is passed on as it comes; `true`: to the client.
    body_left: usize,
    body_forward: bool,
    /// What a unit says behind its beginning is left where it is, until the other shards have begun as well.
    hold: bool,
    /// Something was left.
    held: bool,
    pub expects: VecDeque<Expect>,
    /// Extended messages were sent since the last Sync.
    pub unsynced: bool,
    /// An Execute was among them.
    pub executed: bool,
    /// After an error in the extended protocol: the server skips until Sync.
    pub skipping: bool,
    /// COPY FROM STDIN runs: the client's CopyData goes here.
    pub copying: bool,
    /// An error ended a COPY of the extended protocol; a Sync sent before may be answered after all.
    pub stray_ready: bool,
    /// In a transaction block that pgherd (or the client) began.
    pub in_block: bool,
    /// May have written in this transaction.
    pub wrote: bool,
    /// Last transaction status of a ReadyForQuery.
    pub status: u8,
    pub broken: Option<Box<Broken>>,
    /// Boxed, as everything here that is seldom looked at: a link is moved with every transaction.
    pub captured: Box<Captured>,
    /// Something undone by an error, for the session to carry out: see [`Undo`].
    pub undone: Vec<Undo>,
    /// A schema change was completed on this link.
    pub ddl_done: bool,
    /// The same of an Execute: outside a block it is true for others when its Sync is answered, and not before.
    ddl_unsynced: bool,
    /// An error reached the client since the session last looked.
    pub errors: u32,
    /// A Flush was sent since the last reply or Sync.
    pub flush_asked: bool,
    /// A statement that the unit under way parses: known to be on the server when the unit succeeds.
    pub unit_parse: Option<(StatementId, u64)>,
    /// When the link broke: replies that the client was owed, ReadyForQuerys among them, and whether instead a unit of
    /// pgherd's own was under way, whose waiter looks at `broken` itself.
    pub lost_replies: usize,
    pub lost_ready: usize,
    pub lost_unit: bool,
}

impl Link {
    pub fn new(shard: ShardId, server: Box<Server<LinkState>>, spare: Spare) -> Self {
        Self {
            shard,
            server,
            out: spare.out,
            out_at: 0,
            block: spare.block,
            start: 0,
            end: 0,
            body_left: 0,
            body_forward: false,
            hold: false,
            held: false,
            expects: spare.expects,
            unsynced: false,
            executed: false,
            skipping: false,
            copying: false,
            stray_ready: false,
            in_block: false,
            wrote: false,
            status: b'I',
            broken: None,
            captured: spare.captured,
            undone: Vec::new(),
            ddl_done: false,
            ddl_unsynced: false,
            errors: 0,
            flush_asked: false,
            unit_parse: None,
            lost_replies: 0,
            lost_ready: 0,
            lost_unit: false,
        }
    }

    /// Gives up what the next link can use again.
    pub fn into_parts(self) -> (Box<Server<LinkState>>, Spare) {
        let (mut block, mut out, mut expects, mut captured) =
            (self.block, self.out, self.expects, self.captured);
        if block.len() == LARGE_BLOCK_BYTES {
            block.truncate(BLOCK_BYTES);
        }
        out.clear();
        expects.clear();
        captured.clear();
        (self.server, Spare { block, out, expects, captured })
    }

    /// No reply owed and nothing to send.
    pub fn quiet(&self) -> bool {
        self.expects.is_empty() && self.out_at == self.out.len() && self.body_left == 0
    }

    /// Something for the session to carry out: see `Session::after_replies`.
    pub fn has_news(&self) -> bool {
        self.errors > 0
            || self.ddl_done
            || self.broken.is_some()
            || !self.undone.is_empty()
            || self.has_local_news()
    }

    /// A reply of pgherd's own may be said now. One that stands before a BindComplete of the same batch goes out with that.
    fn has_local_news(&self) -> bool {
        matches!(self.expects.front(), Some(Expect::Local(..)))
            && !matches!(self.expects.get(1), Some(Expect::Bind))
    }

    /// A ReadyForQuery will come by itself.
    pub fn owes_ready(&self) -> bool {
        self.body_left > 0
            || self.expects.iter().any(|e| matches!(e, Expect::Query { .. } | Expect::Sync | Expect::Unit(_)))
    }

    /// Fit for the next client.
    pub fn reusable(&self) -> bool {
        self.quiet()
            && self.start == self.end
            && self.status == b'I'
            && !self.unsynced
            && !self.skipping
            && !self.copying
            && !self.stray_ready
            && self.broken.is_none()
    }

    /// A frame is half delivered to the client: nothing else may be said to it before the rest.
    pub fn inside_frame(&self) -> bool {
        self.body_left > 0 && self.body_forward
    }

    pub fn pending_out(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Appends a simple query of pgherd's own.
    pub fn send_unit(&mut self, sql: &str, unit: Unit) {
        *self.captured = Captured { used: true, ..Captured::default() };
        message::query(&mut self.out, sql);
        self.server.state.unnamed = None;
        self.expects.push_back(Expect::Unit(unit));
    }

    /// Like [`Self::send_unit`], in messages of which one says that its snapshot is taken. `flush`: the server says so at once.
    pub fn send_read(&mut self, sql: &str, unit: Unit, flush: bool) {
        self.captured.begin();
        message::parse(&mut self.out, b"", sql.as_bytes(), &[]);
        message::bind(&mut self.out, b"", b"", &[], &[], &[]);
        message::describe(&mut self.out, b'P', b"");
        if flush {
            self.out.extend_from_slice(message::FLUSH);
        }
        message::execute(&mut self.out, b"", 0);
        self.out.extend_from_slice(message::SYNC);
        self.server.state.unnamed = None;
        self.expects.push_back(Expect::Unit(unit));
    }

    /// From here on nothing is taken in behind the beginning of the unit that was sent.
    pub fn hold(&mut self, hold: bool) {
        self.hold = hold;
    }

    /// Nothing more will come of what it was asked.
    pub fn has_answered(&self) -> bool {
        self.broken.is_some() || self.quiet()
    }

    /// The unit that was sent has begun, or will not.
    pub fn has_begun(&self) -> bool {
        self.captured.begun || self.has_answered()
    }

    pub fn fail(&mut self, broken: Broken) {
        self.hold = false;
        self.held = false;
        if self.broken.is_none() {
            self.broken = Some(Box::new(broken));
        }
        self.out.clear();
        self.out_at = 0;
        self.start = 0;
        self.end = 0;
        self.copying = false;
        let mut units = false;
        for expect in self.expects.drain(..).rev() {
            match &expect {
                Expect::Unit(_) | Expect::Own { .. } => units = true,
                Expect::Query { .. } | Expect::Sync => {
                    self.lost_ready += 1;
                    self.lost_replies += 1;
                }
                _ => self.lost_replies += 1,
            }
            if let Expect::Parse { undo, .. } | Expect::Local(_, undo) = expect {
                self.undone.push(undo);
            }
        }
        self.lost_unit = units && self.lost_replies == 0;
    }

    /// Writes what waits for the server. `true`: something was written.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while self.out_at < self.out.len() {
            match self.server.stream.poll_write(cx, &self.out[self.out_at..]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.out_at += n;
                    progress = true;
                }
                // Not this: break the link here. The server may have said why it closes; that is read first.
                Poll::Ready(_) => {
                    self.out.clear();
                    self.out_at = 0;
                    return true;
                }
                Poll::Pending => return progress,
            }
        }
        if self.out_at > 0 {
            self.out.clear();
            self.out_at = 0;
            // A large COPY or Bind must not keep its buffer for ever.
            if self.out.capacity() > 4 * BLOCK_BYTES {
                self.out = Vec::new();
            }
        }
        progress
    }

    /// Reads once and takes in what came. `true`: something happened.
    pub fn poll_take(&mut self, cx: &mut Context<'_>, client: &mut Client) -> bool {
        if self.broken.is_some() || client.backlogged() {
            return false;
        }
        if self.held && !self.hold {
            self.held = false;
            if let Err(why) = self.digest(cx, client) {
                self.fail(Broken::Violation(why));
            }
            return true;
        }
        if self.block.len() < BLOCK_BYTES {
            self.block.resize(BLOCK_BYTES, 0);
        }
        if self.end == self.block.len() {
            if self.start > 0 {
                self.block.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else if self.block.len() >= UNDERSTOOD_BYTES_MAX {
                self.fail(Broken::Violation("a message is too long to be understood".into()));
                return true;
            } else {
                let larger = self.block.len() * 2;
                self.block.resize(larger, 0);
            }
        }
        match self.server.stream.poll_read(cx, &mut self.block[self.end..]) {
            Poll::Pending => false,
            Poll::Ready(Ok(0)) => {
                self.fail(Broken::Lost(None));
                true
            }
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::Interrupted => true,
            Poll::Ready(Err(_)) => {
                self.fail(Broken::Lost(None));
                true
            }
            Poll::Ready(Ok(n)) => {
                self.end += n;
                let filled = self.end == BLOCK_BYTES && self.block.len() == BLOCK_BYTES;
                if let Err(why) = self.digest(cx, client) {
                    self.fail(Broken::Violation(why));
                }
                if self.expects.is_empty() {
                    // What is asked from here on needs a Flush of its own.
                    self.flush_asked = false;
                } else if filled {
                    self.block.resize(LARGE_BLOCK_BYTES, 0);
                }
                true
            }
        }
    }

    /// Takes in the frames of the block: forwards runs of them in place, keeps a cut one for the next read.
    fn digest(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Result<(), String> {
        // [run, at) is to be forwarded and has not been yet.
        let mut at = self.start;
        let mut run = at;
        macro_rules! skip_to {
            ($next:expr) => {{
                if run < at {
                    client.push(&self.block[run..at]);
                }
                at = $next;
                run = at;
            }};
        }
        loop {
            if self.body_left > 0 {
                let n = self.body_left.min(self.end - at);
                self.body_left -= n;
                if self.body_forward {
                    at += n;
                } else {
                    skip_to!(at + n);
                }
                if self.body_left > 0 {
                    break;
                }
            }
            if at == self.end {
                break;
            }
            let head = match frame::header(&self.block[at..self.end]) {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(e) => {
                    if run < at {
                        client.push(&self.block[run..at]);
                    }
                    return Err(format!("message {:?} with length {}", e.kind as char, e.length));
                }
            };
            let available = self.end - at;
            let whole = available >= head.total();
            let plain = match self.expects.front() {
                Some(Expect::Query { .. }) => matches!(head.kind, b'D' | b'T' | b'd'),
                Some(Expect::Execute { .. }) => matches!(head.kind, b'D' | b'd'),
                _ => false,
            };
            if whole && plain {
                // Most of what ever comes.
                at += head.total();
                continue;
            }
            if self.hold {
                // A COPY has its snapshot when it begins; the client is told of that later.
                self.captured.begun |= head.kind == b'H'
                    && matches!(self.expects.front(), Some(Expect::Unit(Unit::CopyOut { .. })));
                if self.captured.begun {
                    self.held = true;
                    break;
                }
            }
            // Replies of pgherd's own that stand before this one.
            if let Some(Expect::Local(..)) = self.expects.front() {
                skip_to!(at);
                while let Some(Expect::Local(..)) = self.expects.front() {
                    if let Some(Expect::Local(bytes, _)) = self.expects.pop_front() {
                        client.push(&bytes);
                    }
                }
            }
            if head.kind == b'Z'
                && whole
                && client.has_reports()
                && !matches!(self.expects.front(), Some(Expect::Unit(_)))
            {
                skip_to!(at);
                client.say_reports();
            }
            // These are understood, so they must be whole.
            let understood = matches!(head.kind, b'Z' | b'S' | b'E' | b'1' | b'2' | b'3')
                || match self.expects.front() {
                    Some(Expect::Unit(unit)) => match head.kind {
                        b'C' | b'E' | b'T' | b'G' | b'H' | b't' => true,
                        b'D' => matches!(unit, Unit::Collect | Unit::Stream | Unit::Pull { .. }),
                        b'd' => matches!(
                            unit,
                            Unit::CopyOut { header: true, .. } | Unit::CopyOut { binary: true, .. }
                        ),
                        _ => false,
                    },
                    None => head.kind == b'E',
                    Some(Expect::Abort(_)) => true,
                    Some(Expect::DescribeNews { .. } | Expect::DescribeQuiet) => head.kind == b'T',
                    Some(_) => false,
                };
            if understood && !whole {
                if head.total() > UNDERSTOOD_BYTES_MAX {
                    return Err(format!("message {:?} of {} bytes", head.kind as char, head.body));
                }
                break;
            }
            let body = at + HEADER_BYTES..at + head.total().min(available);
            if head.kind == b'E'
                && whole
                && (self.expects.is_empty() || ends_the_session(&self.block[body.clone()]))
            {
                // The server's last words. Not this: pass them on and report the loss as well. The client gets one error, made
                // from these words, and its session lives on.
                let report = Report::read(&self.block[body]);
                if run < at {
                    client.push(&self.block[run..at]);
                }
                client.poll_flush(cx);
                self.fail(Broken::Lost(Some(report)));
                return Ok(());
            }
            if head.kind == b'E' && whole && plan_outdated(&self.block[body.clone()]) {
                // The schema was changed past pgherd: prepared again, the statement is what the client finds now.
                self.ddl_done = true;
            }
            // pgherd itself writes the first data of a binary COPY, behind the CopyOutResponse that is still in the run.
            let first_of_copy = head.kind == b'd'
                && self.captured.copied_rows == 0
                && matches!(self.expects.front(), Some(Expect::Unit(Unit::CopyOut { binary: true, .. })));
            if head.kind == b'E' || first_of_copy {
                // What is said in its place stands behind what came before it.
                skip_to!(at);
            }
            let forward = match self.take_frame(head.kind, body, client) {
                Ok(forward) => forward,
                Err(why) => {
                    // What came before the lie is the client's all the same.
                    if run < at {
                        client.push(&self.block[run..at]);
                    }
                    return Err(why);
                }
            };
            if self.broken.is_some() {
                // The server's last word, with nobody asking: `fail` has closed the block, what stood before is the client's.
                client.push(&self.block[run..at]);
                return Ok(());
            }
            if whole {
                if forward {
                    at += head.total();
                } else {
                    skip_to!(at + head.total());
                }
            } else {
                self.body_left = head.total() - available;
                self.body_forward = forward;
                if forward {
                    at = self.end;
                } else {
                    skip_to!(self.end);
                }
                break;
            }
        }
        // Replies of pgherd's own behind the last one of the server.
        if matches!(self.expects.front(), Some(Expect::Local(..))) && self.body_left == 0 {
            skip_to!(at);
            self.flush_local(client);
        }
        if self.ddl_done {
            // The session notes the change before anybody can hear of it: who then uses a statement of before must find it outdated.
            client.push(&self.block[run..at]);
        } else if run < at {
            client.forward(cx, &self.block[run..at]);
        } else {
            client.poll_flush(cx);
        }
        self.start = at;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.block.len() > 16 * BLOCK_BYTES {
                self.block = Vec::new();
            }
        }
        Ok(())
    }

    /// Says pgherd's own replies that no server reply stands before.
    pub fn flush_local(&mut self, client: &mut Client) {
        if self.body_left > 0 {
            return;
        }
        while let Some(Expect::Local(..)) = self.expects.front() {
            if let Some(Expect::Local(bytes, _)) = self.expects.pop_front() {
                client.push(&bytes);
            }
        }
    }

    /// One frame (its body may be cut, unless it is one that is understood). `true`: the client gets it.
    fn take_frame(
        &mut self,
        kind: u8,
        body: std::ops::Range<usize>,
        client: &mut Client,
    ) -> Result<bool, String> {
        // May come at any time, asked for or not.
        match kind {
            b'S' => {
                let later = matches!(self.expects.front(), Some(Expect::Unit(_) | Expect::Own { .. }));
                return Ok(client.note_parameter(&self.block[body], later));
            }
            b'N' => {
                return Ok(!matches!(
                    self.expects.front(),
                    Some(Expect::Unit(Unit::Quiet | Unit::Prelude) | Expect::Own { .. })
                ));
            }
            b'A' => return Ok(true),
            _ => {}
        }
        let Some(front) = self.expects.front() else {
            if kind == b'Z' && self.stray_ready {
                self.stray_ready = false;
                self.skipping = false;
                self.unsynced = false;
                self.status = self.status_of(&body)?;
                self.block[body.start] = client.ready(self.status, self.in_block);
                return Ok(true);
            }
            return Err(format!("message {:?} that nobody asked for", kind as char));
        };
        match front {
            Expect::Query { ddl } => match kind {
                b'Z' => {
                    if *ddl {
                        self.ddl_done = true;
                    }
                    self.status = self.status_of(&body)?;
                    self.copying = false;
                    self.expects.pop_front();
                    self.block[body.start] = client.ready(self.status, self.in_block);
                    Ok(true)
                }
                b'G' => {
                    self.copying = true;
                    // Syncs that were sent behind the Query are read, and ignored, by the COPY.
                    self.expects.retain(|e| !matches!(e, Expect::Sync));
                    Ok(true)
                }
                b'W' => Err("replication in a pooled session".into()),
                b'E' => {
                    self.copying = false;
                    self.errors += 1;
                    let named = client.own_names(&self.block[body]);
                    if let Some(error) = &named {
                        client.say(|o| message::frame(o, b'E', |o| o.extend_from_slice(error)));
                    }
                    Ok(named.is_none())
                }
                b'C' => {
                    self.copying = false;
                    Ok(true)
                }
                b'T' | b'D' | b'I' | b'H' | b'd' | b'c' | b'V' => Ok(true),
                other => Err(format!("message {:?} in reply to a query", other as char)),
            },
            Expect::Unit(unit) => {
                let unit = *unit;
                self.take_unit(unit, kind, body, client)
            }
            Expect::Local(..) => unreachable_frame(kind),
            _ if kind == b'E' => {
                let named = client.own_names(&self.block[body]);
                // The forced error, unless one before it was faster: that one is the batch's, and it has but one.
                let forced = match self.expects.front_mut() {
                    Some(Expect::Abort(bytes)) => Some(std::mem::take(bytes)),
                    _ => None,
                };
                self.skip_after_error();
                if let Some(bytes) = forced {
                    client.push(&bytes);
                    return Ok(false);
                }
                if let Some(error) = &named {
                    client.say(|o| message::frame(o, b'E', |o| o.extend_from_slice(error)));
                }
                Ok(named.is_none())
            }
            Expect::Parse { forward, .. } if kind == b'1' => {
                let forward = *forward;
                self.expects.pop_front();
                Ok(forward)
            }
            Expect::Bind if kind == b'2' => {
                self.expects.pop_front();
                Ok(true)
            }
            Expect::Close if kind == b'3' => {
                self.expects.pop_front();
                Ok(true)
            }
            Expect::BindQuiet if kind == b'2' => {
                self.expects.pop_front();
                Ok(false)
            }
            Expect::CloseQuiet if kind == b'3' => {
                self.expects.pop_front();
                Ok(false)
            }
            Expect::Describe => match kind {
                b't' => Ok(true),
                b'T' | b'n' => {
                    self.expects.pop_front();
                    Ok(true)
                }
                other => Err(format!("message {:?} in reply to Describe", other as char)),
            },
            Expect::DescribeNews { id, schema } => {
                let columns = match kind {
                    b't' => return Ok(true),
                    b'T' => columns_hash(&self.block[body]),
                    b'n' => 0,
                    other => return Err(format!("message {:?} in reply to Describe", other as char)),
                };
                client.described.insert(*id, Described { columns, schema: *schema });
                self.expects.pop_front();
                Ok(true)
            }
            Expect::DescribeQuiet => {
                self.captured.columns = match kind {
                    b't' => return Ok(false),
                    b'T' => Some(columns_hash(&self.block[body])),
                    b'n' => Some(0),
                    other => return Err(format!("message {:?} in reply to Describe", other as char)),
                };
                self.expects.pop_front();
                Ok(false)
            }
            Expect::Execute { ddl } => match kind {
                b'D' | b'd' | b'c' | b'H' => Ok(true),
                b'G' => {
                    self.copying = true;
                    // Syncs that were sent with the Execute are read, and ignored, by the COPY.
                    self.expects.retain(|e| !matches!(e, Expect::Sync));
                    self.unsynced = true;
                    Ok(true)
                }
                b'C' | b'I' | b's' => {
                    if *ddl {
                        self.ddl_done = true;
                        self.ddl_unsynced = true;
                    }
                    self.copying = false;
                    self.expects.pop_front();
                    Ok(true)
                }
                other => Err(format!("message {:?} in reply to Execute", other as char)),
            },
            Expect::Own { .. } => match kind {
                b'1' | b'2' | b'3' | b'n' => Ok(false),
                b'C' => {
                    self.expects.pop_front();
                    Ok(false)
                }
                other => Err(format!("message {:?} in reply to pgherd's own statement", other as char)),
            },
            Expect::Sync => match kind {
                b'Z' => {
                    self.ddl_done |= std::mem::take(&mut self.ddl_unsynced);
                    self.status = self.status_of(&body)?;
                    self.expects.pop_front();
                    self.copying = false;
                    self.block[body.start] = client.ready(self.status, self.in_block);
                    Ok(true)
                }
                other => Err(format!("message {:?} in place of ReadyForQuery", other as char)),
            },
            Expect::Abort(_)
            | Expect::Parse { .. }
            | Expect::Bind
            | Expect::BindQuiet
            | Expect::Close
            | Expect::CloseQuiet => Err(format!("message {:?} out of turn", kind as char)),
        }
    }

    fn status_of(&self, body: &std::ops::Range<usize>) -> Result<u8, String> {
        match self.block[body.clone()] {
            [s @ (b'I' | b'T' | b'E')] => Ok(s),
            _ => Err("a ReadyForQuery without a status".into()),
        }
    }

    /// The server skips everything until Sync: what it skips is taken back.
    fn skip_after_error(&mut self) {
        self.errors += 1;
        if self.copying {
            self.stray_ready = self.expects.iter().all(|e| !matches!(e, Expect::Sync));
            self.copying = false;
        }
        let mut skipped = Vec::new();
        while let Some(front) = self.expects.front() {
            if matches!(front, Expect::Sync) {
                break;
            }
            skipped.extend(self.expects.pop_front());
        }
        for expect in skipped.into_iter().rev() {
            match expect {
                Expect::Parse { undo, id, .. } => {
                    self.server.state.prepared.remove(&id);
                    if self.server.state.unnamed == Some(id) {
                        self.server.state.unnamed = None;
                    }
                    self.undone.push(undo);
                }
                Expect::Local(_, undo) => self.undone.push(undo),
                Expect::Own { prepares: Some(id) } => {
                    self.server.state.prepared.remove(&id);
                }
                _ => {}
            }
        }
        if self.expects.is_empty() {
            self.skipping = true;
        }
    }

    fn take_unit(
        &mut self,
        unit: Unit,
        kind: u8,
        body: std::ops::Range<usize>,
        client: &mut Client,
    ) -> Result<bool, String> {
        match kind {
            b'Z' => {
                self.status = self.status_of(&body)?;
                self.expects.pop_front();
                if unit == Unit::Prelude {
                    // What it said must not be taken for what the next unit says.
                    *self.captured = Captured { used: true, ..Captured::default() };
                }
                Ok(false)
            }
            b'C' => {
                let text = &self.block[body];
                let text = text.strip_suffix(b"\0").unwrap_or(text);
                if let Some(rows) = text.strip_prefix(b"INSERT 0 ") {
                    let rows = std::str::from_utf8(rows).ok().and_then(|rows| rows.parse::<u64>().ok());
                    self.captured.pulled_rows += rows.unwrap_or(0);
                }
                self.captured.tag = Some(String::from_utf8_lossy(text).into_owned());
                Ok(false)
            }
            b'E' => {
                if unit == Unit::Prelude {
                    let report = Report::read(&self.block[body]);
                    return Err(format!("the session could not be prepared: {}", report.message));
                }
                self.unit_parse = None;
                if self.captured.error.is_none() {
                    self.captured.error = Some(self.block[body].to_vec());
                }
                Ok(false)
            }
            b'T' => {
                self.captured.description = Some(self.block[body].to_vec());
                Ok(matches!(unit, Unit::Rows { describe: true }))
            }
            b'n' => {
                self.captured.no_data = true;
                Ok(matches!(unit, Unit::Rows { describe: true }))
            }
            b'I' => {
                self.captured.empty = true;
                Ok(false)
            }
            b't' => {
                self.captured.parameters = Some(self.block[body].to_vec());
                Ok(false)
            }
            b'D' => match unit {
                Unit::Quiet | Unit::Prelude | Unit::CopyOut { .. } => Ok(false),
                Unit::Rows { .. } => Ok(true),
                Unit::Stream => {
                    let frame = body.start - HEADER_BYTES..body.end;
                    self.captured.rows_raw.extend_from_slice(&self.block[frame]);
                    Ok(false)
                }
                Unit::Pull { binary } => {
                    let captured = &mut *self.captured;
                    captured.pulled_rows += 1;
                    captured.pulled_bytes += body.len() as u64;
                    // The body of a DataRow is a tuple of COPY's binary format, byte for byte.
                    match binary {
                        true => captured.pulled.extend_from_slice(&self.block[body]),
                        false => super::gather::copy_line(&self.block[body], &mut captured.pulled)?,
                    }
                    Ok(false)
                }
                Unit::Collect => {
                    self.captured.rows_bytes += body.len();
                    if self.captured.rows_bytes > UNDERSTOOD_BYTES_MAX {
                        return Err("too many rows to be held".into());
                    }
                    self.captured.rows.push(self.block[body].to_vec());
                    Ok(false)
                }
            },
            b'G' | b'H' => {
                self.captured.copy = Some((kind, self.block[body].to_vec()));
                Ok(matches!(unit, Unit::CopyOut { first: true, .. }))
            }
            // CopyDone is said once, by the session.
            b'd' => {
                let Unit::CopyOut { first, header, binary } = unit else { return Ok(false) };
                self.captured.copied_rows += 1;
                if header && !first && self.captured.copied_rows == 1 {
                    return Ok(false);
                }
                if binary {
                    let data = &self.block[body];
                    if *data == [0xff, 0xff] {
                        return Ok(false);
                    }
                    if self.captured.copied_rows == 1 {
                        let start = binary_header_bytes(data).ok_or("a binary COPY without its header")?;
                        let mut rows = &data[start..];
                        if rows == [0xff, 0xff] {
                            rows = &[];
                        }
                        let kept = if first { [&data[..start], rows].concat() } else { rows.to_vec() };
                        if !kept.is_empty() {
                            client.say(|o| message::copy_data(o, &kept));
                        }
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            b'1' => {
                // Whatever comes of its Bind: the server has the statement.
                if let Some((id, tick)) = self.unit_parse.take() {
                    self.server.state.prepared.insert(id, tick);
                }
                Ok(false)
            }
            b's' => {
                self.captured.suspended = true;
                Ok(false)
            }
            b'2' => {
                self.captured.begun = true;
                Ok(false)
            }
            b'3' | b'c' => Ok(false),
            other => Err(format!("message {:?} in reply to a statement", other as char)),
        }
    }
}

/// Whether an ErrorResponse is FATAL or PANIC, by its field that is never translated (since PostgreSQL 9.6).
fn ends_the_session(body: &[u8]) -> bool {
    body.split(|&b| b == 0).any(|field| matches!(field, b"VFATAL" | b"VPANIC"))
}

/// "cached plan must not change result type": the only 0A000 of this routine, whose name is never translated.
fn plan_outdated(body: &[u8]) -> bool {
    let mut fields = body.split(|&b| b == 0);
    fields.any(|field| field == b"C0A000") && fields.any(|field| field == b"RRevalidateCachedQuery")
}

/// Signature, flags, and the length of an extension with the extension itself (copyto.c).
fn binary_header_bytes(data: &[u8]) -> Option<usize> {
    let extension = data.get(15..19)?;
    let extension = u32::from_be_bytes(extension.try_into().ok()?) as usize;
    let end = 19usize.checked_add(extension)?;
    (end <= data.len()).then_some(end)
}

fn unreachable_frame(kind: u8) -> Result<bool, String> {
    Err(format!("message {:?} before pgherd's own reply", kind as char))
}
