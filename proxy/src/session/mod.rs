//! One client: what it sends, which servers it holds for it, what it is owed.
//!
//! Invariants:
//! - Replies reach the client in the order of its requests. At any moment at most one link owes replies that
//!   are passed through; whatever needs another server first waits for those (`settle`).
//! - Outside a transaction block, with nothing owed, no server is held, unless the session is pinned.
//! - `client.failed` says that the block failed, whoever said so; then only its end is served.
//!
//! The rooms: [`client`] and [`link`] are the two sides; `query` and `extended` take in the client's messages, `now`
//! those that need no waiting;
//! `fan` runs a statement on several shards, `portals` keeps those that are bound and not executed, `merge` where their rows are sorted into one stream; `gather` lets one finish it with rows of the others; `transaction` begins and ends;
//! `hold` plans, and waits for what is about to move; `copy` splits COPY FROM; `schema` reads what a transaction changed; `named` is SQL PREPARE and set_config; `pin` keeps servers
//! with their client.
//!
//! Start reading at [`Session::run`].

pub mod client;
mod copy;
mod draw;
mod extended;
mod fan;
mod gather;
mod hold;
pub mod link;
mod listen;
mod login;
mod merge;
mod named;
mod names;
mod now;
mod pin;
mod portals;
mod query;
mod schema;
mod seldom;
pub mod settings;
mod snapshot;
pub mod statements;
mod transaction;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use pgherd_pool::{Pass, Server};
use pgherd_router::ShardId;
use pgherd_wire::message::{self, Report};

use crate::cancel::CancelEntry;
use crate::database::{Database, UserPools};
use crate::roster::{Card, Order, Phase, Why};
use crate::worker::Worker;
use client::{Client, Incoming, Tally};
use extended::Pending;
pub use extended::Portal;
use link::{Broken, Expect, Link, LinkState, Undo, Unit};
use listen::Listening;
use names::Names;
use now::Quick;
use pin::Kept;
use seldom::Seldom;
use settings::Settings;
use transaction::Block;

/// Bytes waiting for a server beyond which no more of the client's messages are taken in.
const SERVER_BACKLOG_BYTES: usize = 256 * 1024;

/// Replies owed beyond which no more of the client's messages are taken in.
const OWED_MAX: usize = 10_000;

/// How long the servers of a client that went away may take to answer its last statement's cancellation.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two looks at a client whose stream ended while it is owed a reply.
const HALF_CLOSED_LOOK: Duration = Duration::from_millis(50);

/// Between two cancel requests for a statement whose client went away.
const CANCEL_AGAIN: Duration = Duration::from_millis(200);

/// Why the session ends.
#[derive(Debug)]
pub enum End {
    /// Terminate, or the socket closed.
    Client,
    /// The last word was said to the client; the socket is closed.
    Fatal,
}

/// What a client with a server needs and an idle one does not: made once, lent again and again by the worker. Empty, with
/// room.
#[derive(Default)]
pub struct Luggage {
    pub links: Vec<Link>,
    pub portals: Names<Portal>,
}

/// What came of waiting for a server, until the message that waits is taken in.
struct Granted {
    shard: ShardId,
    outcome: Result<Box<Server<LinkState>>, Box<Report>>,
}

pub struct Session {
    worker: Rc<Worker>,
    db: Arc<Database>,
    pools: Arc<UserPools>,
    client: Client,
    links: Vec<Link>,
    /// A server that none of the links has yet, because of the wait for it.
    granted: Option<Granted>,
    /// What is at the front needs a server of this shard, and nothing but that none is idle keeps it from the quick way.
    wanted: Option<ShardId>,
    /// Leave to hold servers of several shards at once: see `pgherd_pool::Gate`.
    pass: Option<Pass>,
    block: Option<Block>,
    startup: Arc<Settings>,
    settings: Arc<Settings>,
    portals: Names<Portal>,
    /// Some of them are over several shards.
    fans: bool,
    /// SQL cursors, by the shard that they were declared on.
    cursors: Seldom<String, ShardId>,
    /// Messages of the extended protocol whose server is not known yet.
    pending: Vec<Pending>,
    /// After an error of pgherd's own in the extended protocol: everything is skipped until Sync.
    skip: bool,
    /// Something that no single link has executed ran since the last Sync: see `in_pipeline`.
    piped: bool,
    pinned: Option<Kept>,
    listening: Option<Box<Listening>>,
    /// It listens and has notified: it may be about to hear itself.
    echo: bool,
    cancel: Arc<CancelEntry>,
    card: Rc<Card>,
    /// Of `db`.
    tenancy: Arc<()>,
    /// Waiting for servers since the session last counted it.
    waited: Duration,
    scratch: Vec<u8>,
    /// Portals that were read piece by piece so far: each has a name of its own on the shards.
    pieces: u64,
}

impl Session {
    pub fn new(
        worker: Rc<Worker>,
        db: Arc<Database>,
        pools: Arc<UserPools>,
        client: Client,
        startup: Arc<Settings>,
        card: Rc<Card>,
    ) -> Self {
        // In session mode it has its server from the first statement to the last.
        let pinned = Kept::by(pools.settings.mode);
        let tenancy = db.tenancy.clone();
        Self {
            worker,
            db,
            pools,
            client,
            links: Vec::new(),
            granted: None,
            wanted: None,
            pass: None,
            block: None,
            settings: startup.clone(),
            startup,
            portals: Names::default(),
            fans: false,
            cursors: Seldom::default(),
            pending: Vec::new(),
            skip: false,
            piped: false,
            pinned,
            listening: None,
            echo: false,
            cancel: card.cancel.clone(),
            card,
            tenancy,
            waited: Duration::ZERO,
            scratch: Vec::new(),
            pieces: 0,
        }
    }

    /// Serves the client until it leaves.
    pub async fn run(mut self: Box<Self>) {
        poll_fn(|cx| {
            self.card.served_by(cx.waker());
            Poll::Ready(())
        })
        .await;
        let end = loop {
            if self.client.inbox_empty() {
                self.idle().await;
            }
            if self.must_leave() {
                self.card.tell(Order::End(self.deaf().unwrap_or(Why::Operator)));
                break End::Client;
            }
            self.deliver();
            if self.pools.successor().is_some() {
                self.follow();
            }
            self.card.begin();
            // Boxed, so that an idle session is small: what a running statement needs lives only as long as it.
            let served = loop {
                match self.quick().await {
                    Ok(Quick::Done) => break Ok(()),
                    Ok(Quick::Long) => break Box::pin(self.busy()).await,
                    Ok(Quick::Wait(shard)) => match Box::pin(self.wait_now(shard)).await {
                        Ok(()) => {}
                        Err(end) => break Err(end),
                    },
                    Err(end) => break Err(end),
                }
            };
            self.return_granted();
            if let Err(end) = served {
                break end;
            }
            if self.lets_go() {
                Box::pin(self.let_go()).await;
            }
        };
        Box::pin(self.leave(end)).await;
    }

    /// Waits until the client sends something, holding no buffer. A server held meanwhile may speak as well.
    async fn idle(&mut self) {
        if let Some(block) = self.client.take_block() {
            self.worker.give_block(block);
        }
        self.worker.give_scratch(self.client.take_out());
        if self.links.is_empty() && self.portals.is_empty() {
            self.worker.give_luggage(Luggage {
                links: std::mem::take(&mut self.links),
                portals: std::mem::take(&mut self.portals),
            });
        }
        poll_fn(|cx| {
            for link in &mut self.links {
                while link.poll_take(cx, &mut self.client) {}
            }
            self.client.poll_flush(cx);
            self.deliver();
            self.client.poll_flush(cx);
            if self.pools.successor().is_some() {
                // Not this: with its next message. The lease of the database before would live until then.
                self.follow();
            }
            if self.client.gone || self.must_leave() {
                return Poll::Ready(());
            }
            self.client.poll_readable(cx).map(drop)
        })
        .await;
    }

    /// Goes on with the pools of the configuration in force, once nothing is held of those before.
    #[cold]
    fn follow(&mut self) {
        while let Some(successor) = self.pools.successor()
            && self.links.is_empty()
            && self.granted.is_none()
            && self.block.is_none()
        {
            let Some((db, pools)) = successor.clone() else {
                self.card.tell(Order::Leave);
                return;
            };
            if self.listening.is_some() && !Arc::ptr_eq(&self.db.hub, &db.hub) {
                // Other servers: what they say between now and the next LISTEN nobody hears.
                self.card.tell(Order::End(Why::NotificationsLost));
            }
            self.card.pools.replace(pools.clone());
            self.tenancy = db.tenancy.clone();
            self.db = db;
            self.pools = pools;
        }
    }

    /// It was told to, and no transaction of the client's stands in the way.
    fn must_leave(&self) -> bool {
        match self.card.order() {
            None => self.deaf().is_some(),
            Some(Order::End(_)) => true,
            Some(Order::Leave) => self.block.is_none() && !self.links.iter().any(|l| l.unsynced),
        }
    }

    /// Counts what has happened since the last time. Nothing is owed to the client.
    fn count(&mut self) {
        let tally = std::mem::take(&mut self.client.tally);
        if tally == Tally::default() {
            return;
        }
        let counters = self.pools.stats.of(self.worker.id);
        counters.received.add(tally.received);
        counters.sent.add(tally.sent);
        if tally.ready == 0 {
            return;
        }
        let now = Instant::now();
        let begun = self.card.since.replace(now);
        let waited = std::mem::take(&mut self.waited);
        counters.queries.add(u64::from(tally.ready));
        counters.query.note((now - begun).saturating_sub(waited));
        let xact_begun = self.card.xact_since.take().unwrap_or(begun + waited);
        if tally.ended > 0 {
            counters.xacts.add(u64::from(tally.ended));
            counters.xact_us.add(now.saturating_duration_since(xact_begun).as_micros() as u64);
        }
        if self.client.status != b'I' {
            self.card.xact_since.set(Some(if tally.ended > 0 { begun } else { xact_begun }));
        }
    }

    /// Notes that everything is answered.
    fn rest(&self) {
        self.card.rest(!self.links.is_empty(), &self.settings, self.client.statements.len());
    }

    /// Takes in what the client sent and runs it, until nothing is owed and nothing unread is left.
    async fn busy(&mut self) -> Result<(), End> {
        self.client.lend(|| self.worker.take_block());
        self.scratch = self.worker.take_scratch();
        loop {
            let mut held = false;
            while !self.backlogged() {
                let incoming = self.client.incoming();
                let of_copy = match &incoming {
                    Ok(Incoming::CopyBytes) => true,
                    Ok(Incoming::Frame(head)) => matches!(head.kind, b'c' | b'f'),
                    _ => false,
                };
                if of_copy && self.copy_undecided() {
                    held = true;
                    break;
                }
                match incoming {
                    Ok(Incoming::Nothing) => break,
                    Ok(Incoming::CopyBytes) => self.on_copy_bytes(),
                    Ok(Incoming::Frame(head)) => {
                        let mut body = std::mem::take(&mut self.scratch);
                        self.client.take(head, &mut body);
                        let result = self.on_frame(head.kind, &body).await;
                        if body.capacity() <= 64 * 1024 {
                            self.scratch = body;
                        }
                        result?;
                    }
                    Err(lie) => {
                        // PostgreSQL loses synchronisation here and ends the session (pqcomm.c pq_getmessage).
                        let why = format!(
                            "invalid message length {} of type \"{}\"",
                            lie.length as i32, lie.kind as char
                        );
                        return self.fatal(Report::fatal("08P01", why));
                    }
                }
            }
            self.after_replies()?;
            if self.links.iter().all(Link::quiet) && self.client.pending_out() == 0 {
                self.release_if_free();
                self.show_pin(false);
                self.count();
                if self.client.gone || self.client.eof {
                    return Err(End::Client);
                }
                if self.client.inbox_empty() {
                    self.rest();
                    self.worker.give_scratch(std::mem::take(&mut self.scratch));
                    return Ok(());
                }
            }
            // A COPY that gets no more rows, or a batch that gets no Sync, would wait for ever: PostgreSQL ends here as well.
            let starved = self.links.iter().any(|l| l.copying) || !self.links.iter().any(Link::owes_ready);
            if self.client.eof && !self.backlogged() && starved {
                self.flush_client().await;
                return Err(End::Client);
            }
            if self.client.gone || self.card.ends().is_some() {
                return Err(End::Client);
            }
            if self.client.eof {
                // Half a close, or a whole one? See `half_closed`.
                let served = tokio::time::timeout(HALF_CLOSED_LOOK, self.pump(false)).await;
                if served.is_err() && !self.half_closed().await {
                    return Err(End::Client);
                }
            } else {
                self.pump(!held).await;
            }
        }
    }

    /// A client that shut its writing side still waits for its reply; one that is gone does not, and both look like the
    /// end of the stream. Something is said that every client ignores (a ParameterStatus that it knows): the kernel of a peer
    /// that closed answers with a reset.
    async fn half_closed(&mut self) -> bool {
        if self.links.iter().any(Link::inside_frame) || self.client.pending_out() > 0 {
            // Whatever is being written tells as well.
            return !self.client.gone;
        }
        self.client.probe();
        self.client.flush_some().await;
        tokio::time::sleep(HALF_CLOSED_LOOK).await;
        self.client.still_there().await
    }

    /// Like [`Self::run_units`] for a statement of the client's that may take long: a client that goes away meanwhile has it
    /// cancelled.
    async fn run_units_watched(&mut self, indices: &[usize]) -> Result<(), End> {
        loop {
            let sent_away = self.card.ends().is_some();
            if self.client.eof || self.client.gone || sent_away {
                if tokio::time::timeout(HALF_CLOSED_LOOK, self.run_units(indices)).await.is_ok() {
                    return Ok(());
                }
                if self.client.gone || sent_away || !self.half_closed().await {
                    self.client.gone |= !sent_away;
                    for &i in indices {
                        if !self.links[i].quiet() && self.links[i].broken.is_none() {
                            let _ = self.links[i].server.cancel.cancel().await;
                        }
                    }
                    self.run_units(indices).await;
                    return Err(End::Client);
                }
            } else if self.links_until(indices, Link::has_answered, true).await {
                return Ok(());
            }
        }
    }

    /// Waits until each of these links is `done`. `false`, with `or_eof` only: the client's stream ended before.
    async fn links_until(&mut self, indices: &[usize], done: fn(&Link) -> bool, or_eof: bool) -> bool {
        poll_fn(|cx| {
            loop {
                // The client first: a link is not read, nor its waker registered, while the client is backlogged.
                let mut progress = self.client.poll_flush(cx);
                let mut waiting = false;
                for &i in indices {
                    let link = &mut self.links[i];
                    progress |= link.poll_flush(cx);
                    if !done(link) {
                        progress |= link.poll_take(cx, &mut self.client);
                    }
                    waiting |= !done(link);
                }
                if !waiting {
                    return Poll::Ready(true);
                }
                if or_eof {
                    if self.client.inbox_has_room() {
                        progress |= self.client.poll_fill(cx);
                    }
                    if self.client_is_leaving() {
                        return Poll::Ready(false);
                    }
                }
                if !progress {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn client_is_leaving(&self) -> bool {
        self.client.eof || self.client.gone || self.card.ends().is_some()
    }

    fn backlogged(&self) -> bool {
        self.client.backlogged()
            || self.links.iter().any(|l| l.pending_out() > SERVER_BACKLOG_BYTES || l.expects.len() > OWED_MAX)
    }

    async fn on_frame(&mut self, kind: u8, body: &[u8]) -> Result<(), End> {
        if let Some(link) = self.links.iter_mut().find(|l| l.copying)
            && !matches!(kind, b'c' | b'f')
        {
            match kind {
                // Read and ignored during COPY.
                b'S' | b'H' => {}
                b'X' => return Err(End::Client),
                // The server words the error and ends the COPY; no reply of its own is owed for the message.
                _ => message::frame(&mut link.out, kind, |o| o.extend_from_slice(body)),
            }
            return Ok(());
        }
        if self.block.as_ref().is_some_and(|b| b.committing) && !matches!(kind, b'S' | b'X') {
            self.see_commit().await?;
        }
        if self.failed_in_string() && !matches!(kind, b'S' | b'X' | b'c' | b'f') {
            self.settle().await?;
            self.adopt_status();
        }
        if self.fans && !self.skipping() {
            self.see_to_portals(kind, body).await?;
        }
        match kind {
            b'Q' => self.on_query(body).await,
            b'P' => self.on_parse(body).await,
            b'B' => self.on_bind(body).await,
            b'D' => self.on_describe(body).await,
            b'E' => self.on_execute(body).await,
            b'C' => self.on_close(body).await,
            b'H' => self.on_flush().await,
            b'S' => self.on_sync().await,
            b'F' => self.on_function_call(body).await,
            b'c' | b'f' => {
                self.on_copy_end(kind, body);
                Ok(())
            }
            b'X' => {
                // What was asked before is finished first, as PostgreSQL does.
                self.settle().await?;
                Err(End::Client)
            }
            other => {
                let why = format!("invalid frontend message type {other}");
                self.fatal(Report::fatal("08P01", why))
            }
        }
    }

    /// The error of a query string is known, and not yet whether the string had ended the block before (`...; COMMIT`).
    fn failed_in_string(&self) -> bool {
        self.client.failed
            && !self.db.sharded
            && self.links.iter().any(|l| matches!(l.expects.front(), Some(Expect::Query { .. })))
    }

    /// CopyData for a COPY that runs on one server; late ones of a COPY that failed are dropped, as
    /// PostgreSQL drops them.
    fn on_copy_bytes(&mut self) {
        let link = self.links.iter_mut().find(|l| l.copying);
        self.client.copy_bytes(|bytes| {
            if let Some(link) = link {
                message::copy_data(&mut link.out, bytes);
            }
        });
    }

    /// CopyData has come, and whether it belongs to a COPY is for a server to say: it began one, or it ended without.
    fn copy_undecided(&mut self) -> bool {
        if self.links.iter().any(|l| l.copying) {
            return false;
        }
        let mut waiting = false;
        for link in self.links.iter_mut().filter(|l| !l.expects.is_empty()) {
            waiting = true;
            if link.unsynced {
                ask_to_flush(link);
            }
        }
        waiting
    }

    fn on_copy_end(&mut self, kind: u8, body: &[u8]) {
        if let Some(link) = self.links.iter_mut().find(|l| l.copying) {
            message::frame(&mut link.out, kind, |o| o.extend_from_slice(body));
            // A query string may begin another COPY: what comes for it waits until the server says so.
            link.copying = false;
            // One that was sent to learn whether the COPY began was answered by that.
            link.flush_asked = false;
            if !matches!(link.expects.front(), Some(Expect::Query { .. })) {
                // The extended protocol: the next Sync is answered.
                link.unsynced = true;
            }
        }
    }

    /// Waits for one event at least and handles what is there. `fill`: read from the client too.
    async fn pump(&mut self, fill: bool) {
        poll_fn(|cx| {
            let mut progress = false;
            for link in &mut self.links {
                progress |= link.poll_flush(cx);
            }
            for link in &mut self.links {
                progress |= link.poll_take(cx, &mut self.client);
            }
            progress |= self.client.poll_flush(cx);
            if self.client.gone || self.card.ends().is_some() {
                return Poll::Ready(());
            }
            if fill && !progress && !self.links.iter().any(|l| l.pending_out() > SERVER_BACKLOG_BYTES) {
                progress |= self.client.poll_fill(cx);
            }
            // A frame is whole, or a link broke: somebody must look.
            if progress { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits until nothing is owed by any server. The client is not read meanwhile.
    async fn settle(&mut self) -> Result<(), End> {
        if self.settle_or_copy().await? {
            return Ok(());
        }
        // The server waits for rows, and the client has sent something else: PostgreSQL ends the session too.
        let report = Report::error("08P01", "unexpected message during COPY from stdin");
        self.client.say(|o| report.write(o));
        let why = "terminating connection because protocol synchronization was lost";
        self.fatal(Report::fatal("08P01", why))
    }

    /// Like [`Self::settle`]; `false`: a COPY FROM STDIN has begun, and the server waits for its rows.
    async fn settle_or_copy(&mut self) -> Result<bool, End> {
        loop {
            for link in &mut self.links {
                if link.unsynced && !link.expects.is_empty() {
                    ask_to_flush(link);
                }
            }
            self.after_replies()?;
            if self.links.iter().all(Link::quiet) {
                // What is asked from here on needs a Flush of its own.
                self.links.iter_mut().for_each(|l| l.flush_asked = false);
                return Ok(true);
            }
            if self.links.iter().any(|l| l.copying) {
                return Ok(false);
            }
            if self.client.gone || self.card.ends().is_some() {
                return Err(End::Client);
            }
            self.pump(false).await;
        }
    }

    async fn flush_client(&mut self) {
        poll_fn(|cx| {
            self.client.poll_flush(cx);
            if self.client.pending_out() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Carries out what replies brought with them: undone definitions, failures, schema changes, lost servers.
    fn after_replies(&mut self) -> Result<(), End> {
        for link in &mut self.links {
            // A reply of pgherd's own with none of the server's before it: no server will ever speak in its place.
            if !link.inside_frame() {
                link.flush_local(&mut self.client);
            }
        }
        for i in 0..self.links.len() {
            for undo in std::mem::take(&mut self.links[i].undone) {
                self.undo(undo);
            }
        }
        for link in &mut self.links {
            if link.ddl_done {
                link.ddl_done = false;
                self.db.schema_changed();
            }
            if self.block.is_some() && link.errors > 0 {
                self.client.failed = true;
            }
            link.errors = 0;
        }
        if self.links.iter().any(|l| l.broken.is_some()) {
            self.on_broken()?;
        }
        Ok(())
    }

    /// A server was lost while the client waited for it: exactly one error, and the session lives on if it can.
    fn on_broken(&mut self) -> Result<(), End> {
        let mut index = 0;
        while index < self.links.len() {
            let Some(broken) = self.links[index].broken.clone() else {
                index += 1;
                continue;
            };
            // A unit of pgherd's own: whoever waits for it looks at `broken` itself.
            if self.links[index].lost_unit {
                index += 1;
                continue;
            }
            let link = self.drop_link(index);
            tracing::warn!(shard = %self.db.shard_name(link.shard), broken = ?broken, "a server was lost under a client");
            let report = self.lost_report(link.shard, &broken);
            if link.inside_frame() {
                // Half a frame is with the client: whatever is said now would be read as the rest of it.
                return Err(End::Fatal);
            }
            if matches!(&*broken, Broken::Lost(Some(said)) if said.sqlstate == "08P01") {
                // It is the client that broke the protocol (a Query in the middle of COPY): the session ends, as it would there.
                return self.fatal(Report { severity: "FATAL".into(), detail: None, ..report });
            }
            if link.lost_ready > 1 {
                // Several batches are without an answer: no error can be put in their place.
                return self.fatal(Report { severity: "FATAL".into(), ..report });
            }
            if link.lost_replies == 0 && self.block.is_none() {
                // Idle: dropped silently, the next statement gets another one.
                continue;
            }
            let committing = self.block.as_ref().is_some_and(|b| b.committing);
            let report = if committing { transaction::outcome_unknown() } else { report };
            if committing && link.lost_ready > 0 {
                // Whichever way it ended, it ended.
                self.block = None;
                self.client.failed = false;
            }
            if let Some(block) = &mut self.block {
                block.doomed = true;
                self.client.failed = true;
            }
            if link.lost_replies == 0 {
                // In a transaction, but nothing asked: the next statement learns of it.
                if let Some(block) = &mut self.block {
                    block.loss = Some(Box::new(report));
                }
                continue;
            }
            self.client.say(|o| report.write(o));
            if link.lost_ready > 0 {
                self.end_implicit_after_loss();
                self.say_ready();
            } else {
                self.skip = true;
            }
        }
        Ok(())
    }

    fn end_implicit_after_loss(&mut self) {
        if self.block.as_ref().is_some_and(|b| !b.explicit) {
            self.block = None;
            self.client.failed = false;
            for link in self.links.drain(..) {
                drop(link);
            }
        }
    }

    fn lost_report(&self, shard: ShardId, broken: &Broken) -> Report {
        let name = self.db.shard_name(shard);
        match broken {
            Broken::Lost(Some(said)) => {
                Report { severity: "ERROR".into(), ..said.clone() }.detail(format!("The server of shard \"{name}\" ended the connection."))
            }
            Broken::Lost(None) => Report::error("08006", "server closed the connection unexpectedly")
                .detail(format!(
                    "The connection to shard \"{name}\" was lost while a statement was running; whether it took effect is not known."
                ))
                .hint("Check what the statement did before sending it again."),
            Broken::Violation(why) => {
                tracing::error!(shard = %name, why, "a server broke the protocol");
                Report::error("08P01", "a server broke the protocol; its connection was closed")
                    .detail(format!("It was connected to shard \"{name}\"."))
            }
        }
    }

    /// Ends the session with a last word.
    fn fatal(&mut self, report: Report) -> Result<(), End> {
        self.client.say(|o| report.write(o));
        Err(End::Fatal)
    }

    /// A ReadyForQuery of pgherd's own.
    fn say_ready(&mut self) {
        let status = match &self.block {
            Some(block) if block.explicit && self.client.failed => b'E',
            Some(block) if block.explicit => b'T',
            _ => b'I',
        };
        self.client.status = status;
        self.piped = false;
        self.end_portals();
        self.client.count_ready();
        self.client.say_reports();
        self.client.say(|o| message::ready_for_query(o, status));
    }

    /// Servers go back to the pool when the client has let go of them.
    fn release_if_free(&mut self) {
        self.adopt_status();
        if self.block.is_some()
            || !self.pending.is_empty()
            || self.links.iter().any(|l| l.unsynced || l.skipping)
        {
            return;
        }
        if self.pinned.is_none() && !self.links.is_empty() {
            self.release_all();
        }
        // What was planned to run on several shards may be yet to run.
        if self.db.sharded && !self.portals.values().any(Portal::is_planned) {
            self.card.stand.clear();
        }
    }

    fn release_all(&mut self) {
        self.portals.clear();
        self.fans = false;
        self.cursors.clear();
        // Before they go back: from then on a cancel request must not find them.
        self.cancel.clear();
        self.card.server.set(0);
        while let Some(link) = self.links.pop() {
            self.give_back(link);
        }
        self.pass = None;
    }

    fn give_back(&mut self, link: Link) {
        let reusable = link.reusable();
        let shard = link.shard;
        let (server, spare) = link.into_parts();
        self.worker.give_spare(spare);
        if reusable {
            self.pools.shard(shard).checkin(self.worker.id, server);
        }
    }

    /// On a plain pool a query string may begin or end a transaction by itself: the server's status decides.
    fn adopt_status(&mut self) {
        if self.db.sharded || self.links.len() != 1 {
            return;
        }
        let link = &mut self.links[0];
        match (&mut self.block, link.status) {
            (None, b'T' | b'E') => {
                link.in_block = true;
                link.wrote = true;
                self.client.failed = link.status == b'E';
                self.block = Some(Block::adopted(self.settings.clone()));
            }
            (Some(_), b'I') if link.in_block => {
                self.block = None;
                link.in_block = false;
                link.wrote = false;
                self.client.failed = false;
            }
            (Some(block), status) if link.in_block => {
                self.client.failed = status == b'E' || block.verdict || block.doomed;
            }
            _ => {}
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            // Defined once more since then, by a Parse that answers for itself.
            Undo::Define(name, unnamed) if name.is_empty() && unnamed != self.client.unnamed => {}
            Undo::Define(name, _) => {
                self.client.undone = self.client.statements.remove(&name).map(|statement| (name, statement));
            }
            Undo::Restore(name, statement) => {
                self.client.statements.insert(&name, statement);
            }
        }
    }

    /// An error of pgherd's own: the block has failed, if there is one.
    fn fail_block(&mut self) {
        if let Some(block) = &mut self.block {
            block.verdict = true;
            self.client.failed = true;
        }
    }

    fn drop_link(&mut self, index: usize) -> Link {
        let link = self.links.remove(index);
        self.cancel.set(self.links.iter().map(|l| l.server.cancel.clone()));
        link
    }

    /// The link to `shard`, ready to take a statement of the client: joined to the transaction, with the client's settings, and
    /// no other link owing replies.
    async fn link_for(&mut self, shard: ShardId) -> Result<usize, LinkError> {
        if self.wants_snapshot() {
            Box::pin(self.take_snapshot()).await?;
        }
        self.link_to(shard).await
    }

    /// Like [`Self::link_for`], for what needs no snapshot: settings, and what has to stand before it.
    async fn link_to(&mut self, shard: ShardId) -> Result<usize, LinkError> {
        if let Some(index) = self.links.iter().position(|l| l.shard == shard) {
            if self.links.iter().enumerate().any(|(i, l)| i != index && !l.quiet()) {
                self.settle().await?;
            }
            let Some(index) = self.links.iter().position(|l| l.shard == shard && l.broken.is_none()) else {
                return Err(LinkError::Refused(self.lost_in_block(shard)));
            };
            let link = &mut self.links[index];
            if self.block.is_some() && !link.in_block {
                // Pinned before the transaction began.
                if let Err(e) = self.prepare_link(index).await {
                    return Err(LinkError::Refused(e));
                }
            } else if self.block.is_none() && !link.unsynced && !link.server.state.has(&self.settings) {
                self.prepare_link(index).await.map_err(LinkError::Refused)?;
            }
            return Ok(index);
        }
        if !self.links.is_empty() {
            if self.links.iter().any(|l| l.unsynced) {
                // The client's batch is one implicit transaction; it now reaches a second shard.
                self.batch_to_block().await?;
            }
            self.settle().await?;
            self.adopt_status();
            if self.block.is_none() && self.pinned.is_none() {
                self.let_servers_go();
            }
        }
        self.join(shard).await
    }

    fn lost_in_block(&mut self, shard: ShardId) -> Report {
        self.lost_report(shard, &Broken::Lost(None))
    }

    /// Why no further shard may join the transaction. Servers that the client only holds, because it is pinned, count for nothing:
    /// they have taken no snapshot in it.
    fn refuses_to_join(&self) -> Option<Report> {
        let block = self.block.as_ref()?;
        if !self.links.iter().any(|link| link.in_block) {
            return None;
        }
        block.refuses_second_shard(&self.settings, self.pools.default_isolation())
    }

    /// Checks a server of `shard` out and brings it to where the client is.
    async fn join(&mut self, shard: ShardId) -> Result<usize, LinkError> {
        if self.block.is_some() {
            if let Some(refusal) = self.refuses_to_join() {
                return Err(LinkError::Refused(refusal));
            }
            if self.db.sharded && self.pass.is_none() {
                // Nobody waits in front of the gate with a server in hand.
                self.return_granted();
                let pass = match self.pools.gate.try_enter() {
                    Some(pass) => pass,
                    None => self.wait_for(Box::pin(self.pools.clone().enter())).await?,
                };
                self.pass = Some(pass);
            }
        }
        if self.db.is_paused() && self.links.is_empty() && self.granted.is_none() {
            let db = self.db.clone();
            self.wait_for(Box::pin(async move {
                db.resumed().await;
                Ok(())
            }))
            .await?;
        }
        let server = match self.take_granted(shard) {
            Some(outcome) => outcome.map_err(|report| LinkError::Refused(*report))?,
            None => match self.pools.shard(shard).try_checkout(self.worker.id) {
                Some(server) => server,
                None => self.wait_for_server(shard).await?,
            },
        };
        self.note_lent(&server);
        self.links.push(Link::new(shard, server, self.worker.take_spare()));
        let index = self.links.len() - 1;
        if let Err(report) = self.prepare_link(index).await {
            self.drop_link(index);
            return Err(LinkError::Refused(report));
        }
        Ok(index)
    }

    /// Waits until a server of `shard` is lent.
    async fn wait_for_server(&mut self, shard: ShardId) -> Result<Box<Server<LinkState>>, LinkError> {
        let pool = self.pools.shard(shard).clone();
        let worker = self.worker.id;
        let sharded = self.db.sharded.then(|| self.db.clone());
        self.wait_for(async move {
            pool.checkout(worker).await.map_err(|e| {
                let mut report = e.report();
                if let Some(db) = sharded {
                    let detail = report.detail.take().unwrap_or_default();
                    let name = db.shard_name(shard);
                    report.detail = Some(format!("Shard \"{name}\". {detail}").trim_end().to_owned());
                }
                report
            })
        })
        .await
    }

    /// What the quick way waited for.
    fn take_granted(&mut self, shard: ShardId) -> Option<Result<Box<Server<LinkState>>, Box<Report>>> {
        if self.granted.as_ref()?.shard == shard {
            return self.granted.take().map(|granted| granted.outcome);
        }
        self.return_granted();
        None
    }

    /// Nobody needs it after all.
    fn return_granted(&mut self) {
        if let Some(Granted { shard, outcome: Ok(server) }) = self.granted.take() {
            self.pools.shard(shard).checkin(self.worker.id, server);
        }
    }

    /// A server is this client's from now on: for cancel requests, the console, statistics.
    fn note_lent(&self, server: &Server<LinkState>) {
        self.cancel.add(server.cancel.clone());
        self.card.server.set(server.number());
        self.pools.stats.of(self.worker.id).assignments.add(1);
    }

    /// Waits for a server or for leave to hold several, unless the client is cancelled.
    async fn wait_for<T>(
        &mut self,
        granted: impl Future<Output = Result<T, Report>>,
    ) -> Result<T, LinkError> {
        let begun = Instant::now();
        self.card.phase.set(Phase::Waiting);
        let cancelled = self.cancel.waiting();
        // Whoever tells the client to leave wakes its task.
        let sent_away = poll_fn(|_| if self.card.ends().is_some() { Poll::Ready(()) } else { Poll::Pending });
        let outcome = tokio::select! {
            biased;
            result = granted => result.map_err(LinkError::Refused),
            () = cancelled => Err(LinkError::Refused(
                Report::error("57014", "canceling statement due to user request"),
            )),
            () = sent_away => Err(LinkError::End(End::Client)),
        };
        self.card.phase.set(Phase::Running);
        let waited = begun.elapsed();
        self.waited += waited;
        self.pools.stats.of(self.worker.id).wait.note(waited);
        outcome
    }

    /// Sends ahead what the server must know before a statement of this client: settings, then the transaction.
    async fn prepare_link(&mut self, index: usize) -> Result<(), Report> {
        // Here, where all ways of joining meet: a pinned client's server is held already and joins without a checkout.
        if !self.links[index].in_block
            && let Some(refusal) = self.refuses_to_join()
        {
            return Err(refusal);
        }
        let schema_version = self.db.schema_version();
        let link = &mut self.links[index];
        let state = &mut link.server.state;
        if state.schema_version != schema_version {
            // After a schema change a cached plan may have another result type (0A000); all are prepared again.
            if !state.prepared.is_empty() {
                state.prepared.clear();
                link.send_unit("DEALLOCATE ALL", Unit::Prelude);
            }
            link.server.state.schema_version = schema_version;
            link.server.state.unnamed = None;
        }
        if !link.server.state.used {
            link.server.state.used = true;
            link.server.state.settings = Some(self.worker.no_settings.clone());
            let parameters = link.server.parameters.clone();
            self.note_fresh(&parameters);
        }
        let link = &mut self.links[index];
        let state = &mut link.server.state;
        if !state.has(&self.settings) {
            let from = state.settings.take();
            let sql = self.settings.sql_from(from.as_deref());
            let harmless = self.settings.harmless_from(from.as_deref());
            if !sql.is_empty() {
                link.send_unit(&sql, if harmless { Unit::Prelude } else { Unit::Quiet });
                if !harmless {
                    self.run_units(&[index]).await;
                    self.unit_result(index)?;
                }
            }
            self.links[index].server.state.settings = Some(self.settings.clone());
        }
        if let Some(block) = &self.block {
            let link = &mut self.links[index];
            if !link.in_block {
                link.send_unit(&block.prologue_sql(), Unit::Prelude);
                link.in_block = true;
                link.wrote = false;
                self.list_holder(index);
            }
        }
        Ok(())
    }

    /// A shard has joined the transaction: with two of them it may be part of a deadlock that no server sees.
    fn list_holder(&mut self, index: usize) {
        let backend = |link: &Link| Some((link.shard.0 as usize, link.server.cancel.process_id()?));
        let Some(block) = &mut self.block else { return };
        match &block.listing {
            Some(listing) => {
                if let Some(backend) = backend(&self.links[index]) {
                    listing.holder.joined(backend);
                }
            }
            None => {
                let joined = self.links.iter().filter(|link| link.in_block);
                if joined.clone().count() > 1 {
                    let backends = joined.filter_map(backend).collect();
                    let began = self.card.xact_since.get().unwrap_or_else(|| self.card.since.get());
                    let listing = self.db.holders.list(backends, began, self.cancel.clone());
                    self.client.holder = Some(listing.holder.clone());
                    block.listing = Some(listing);
                }
            }
        }
    }

    /// Waits until the given links have answered all that they were asked. Broken ones count as answered.
    async fn run_units(&mut self, indices: &[usize]) {
        self.links_until(indices, Link::has_answered, false).await;
    }

    /// What the last unit on a link said: its tag, or its error, or how the link was lost.
    fn unit_result(&mut self, index: usize) -> Result<Option<String>, Report> {
        if let Some(broken) = self.links[index].broken.clone() {
            let shard = self.links[index].shard;
            return Err(self.lost_report(shard, &broken));
        }
        let captured = &mut self.links[index].captured;
        match captured.error.take() {
            Some(body) => Err(Report::read_whole(&self.client.own_names(&body).unwrap_or(body))),
            None => Ok(captured.tag.take()),
        }
    }

    /// The client is gone: its statements are cancelled, its transaction rolled back, its servers kept if that is clean.
    async fn leave(mut self: Box<Self>, end: End) {
        self.count();
        if let Some(why) = self.card.ends()
            && !self.client.gone
            && !self.links.iter().any(Link::inside_frame)
        {
            tracing::debug!(?why, database = %self.db.name, "a client is sent away");
            self.client.say(|o| why.report().write(o));
        }
        if matches!(end, End::Fatal) || self.card.ends().is_some() {
            let _ = tokio::time::timeout(Duration::from_secs(1), self.flush_client()).await;
        }
        self.client.gone = true;
        self.client.shrink();
        // For the next client: a block of its own for each connection would be cleared each time.
        self.worker.give_block(self.client.give_up_block());
        let clean = tokio::time::timeout(CLEAN_UP_TIMEOUT, async {
            let running: Vec<_> =
                self.links.iter().filter(|l| !l.quiet()).map(|l| l.server.cancel.clone()).collect();
            for cancel in running {
                let _ = cancel.cancel().await;
            }
            for link in &mut self.links {
                if link.copying {
                    message::copy_fail(&mut link.out, "the client went away");
                    if link.unsynced {
                        // Whether the COPY read the Sync behind it, or the cancel came first and it is answered, nobody can
                        // tell: the replies cannot be counted, and the connection is not lent again.
                        link.stray_ready = true;
                        link.copying = false;
                    }
                }
                if link.unsynced && !link.skipping {
                    // Without its Sync the batch is not to be committed: a statement that cannot exist makes it fail.
                    message::bind(&mut link.out, b"", b"pgherd_no_such_statement", &[], &[], &[]);
                    link.expects.push_back(Expect::Abort(Vec::new()));
                }
                if link.unsynced || link.skipping {
                    link.out.extend_from_slice(message::SYNC);
                    link.expects.push_back(Expect::Sync);
                    link.unsynced = false;
                    link.skipping = false;
                }
            }
            let all: Vec<usize> = (0..self.links.len()).collect();
            // A cancel that overtakes its query strikes nothing: asked again until the server answers.
            while tokio::time::timeout(CANCEL_AGAIN, self.run_units(&all)).await.is_err() {
                for link in self.links.iter_mut().filter(|l| l.broken.is_none() && !l.quiet()) {
                    if link.copying {
                        // A COPY that began only now: a cancel does not reach a server that reads rows. Told more than once it
                        // does no harm. Not this: forget `copying`. A Sync behind the COPY may be answered after the error.
                        message::copy_fail(&mut link.out, "the client went away");
                    }
                    let _ = link.server.cancel.cancel().await;
                }
            }
            for link in &mut self.links {
                // One that skips until a Sync would not answer; it is closed, which rolls back as well.
                if link.broken.is_none() && !link.skipping && (link.in_block || link.status != b'I') {
                    link.send_unit("ROLLBACK", Unit::Quiet);
                }
            }
            self.run_units(&all).await;
        })
        .await;
        if clean.is_ok()
            && self.discardable()
            && tokio::time::timeout(CLEAN_UP_TIMEOUT, self.discard_links()).await.is_ok()
        {
            // As new: nothing of this client is left in them.
            self.unpin();
            self.release_all();
        }
        if clean.is_ok() && self.pinned.is_none() {
            self.release_all();
        }
        // Otherwise dropping a link closes its connection.
    }
}

/// PostgreSQL answers extended messages at Sync or Flush.
fn ask_to_flush(link: &mut Link) {
    if !link.out.ends_with(message::FLUSH) && !link.flush_asked {
        link.out.extend_from_slice(message::FLUSH);
        link.flush_asked = true;
    }
}

/// Why a statement gets no server.
#[derive(Debug)]
pub enum LinkError {
    /// The client is told, the session goes on.
    Refused(Report),
    End(End),
}

impl From<End> for LinkError {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_is_small() {
        // There are many of them: what only a running statement needs is boxed, or lent.
        let sizes = [
            ("the session", size_of::<Session>(), 768),
            ("its client's side", size_of::<Client>(), 304),
            ("its card", size_of::<crate::roster::Card>(), 360),
        ];
        for (what, bytes, bytes_max) in sizes {
            println!("{what}: {bytes} bytes");
            assert!(bytes <= bytes_max, "{what}: {bytes} bytes, at most {bytes_max}");
        }
    }
}
