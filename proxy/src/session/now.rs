//! The way of nearly every message: taken in, sent on and answered without a wait in between.
//!
//! Invariant: what is done here is what `query` and `extended` would do with the same message, and nothing else. Each
//! function looks first and then acts: when it answers `false` it has changed nothing that they would not change the same
//! way, and the message is theirs. Nothing here refuses anything: whatever deserves an error goes the long way.
//!
//! One wait belongs to it: where nothing is in the way but that no server is idle, the session waits for one, and the same message is
//! looked at again.
//!
//! Why it exists: the long way is a machine of futures, which costs more than the message. Here a message costs no allocation
//! and no copy of its body.
//!
//! Start reading at [`Session::quick`].

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use pgherd_config::PoolMode;
use pgherd_router::ShardId;
use pgherd_router::plan::{Begin, Kind, Params, Plan, Statement};
use pgherd_router::planner::plainly_one;
use pgherd_wire::message;

use super::client::Incoming;
use super::extended::{Pending, Place, Portal, ordinary};
use super::link::Link;
use super::query::text_of;
use super::statements::Prepared;
use super::transaction::Block;
use super::{End, Granted, LinkError, Luggage, Session};
use crate::database::PLAIN_VERSION;

enum Control {
    Begin,
    Commit,
}

/// BEGIN and COMMIT as nearly everybody writes them; whoever writes them otherwise is understood the long way.
fn plain_control(raw: &[u8]) -> Option<Control> {
    let text = raw.strip_suffix(b";").unwrap_or(raw);
    match text.len() {
        5 if text.eq_ignore_ascii_case(b"begin") => Some(Control::Begin),
        6 if text.eq_ignore_ascii_case(b"commit") => Some(Control::Commit),
        3 if text.eq_ignore_ascii_case(b"end") => Some(Control::Commit),
        _ => None,
    }
}

fn begins_with_begin(sql: &str) -> bool {
    sql.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("begin"))
}

/// How far the quick way led.
pub(super) enum Quick {
    /// Nothing is owed and nothing unread is left.
    Done,
    /// What is at the front needs the long way.
    Long,
    /// What is at the front needs a server of this shard, and none is idle: see [`Session::wait_now`].
    Wait(ShardId),
}

impl Session {
    /// Serves the client as far as that needs no other waiting than for the two sockets.
    pub(super) async fn quick(&mut self) -> Result<Quick, End> {
        self.client.lend(|| self.worker.take_block());
        self.client.lend_out(|| self.worker.take_scratch());
        if self.links.capacity() == 0 && self.portals.is_empty() {
            Luggage { links: self.links, portals: self.portals } = self.worker.take_luggage();
        }
        poll_fn(|cx| self.poll_quick(cx)).await
    }

    /// Waits for a server of `shard`. Whatever comes of it is [`Session::granted`], for whoever takes in the message at the
    /// front.
    pub(super) async fn wait_now(&mut self, shard: ShardId) -> Result<(), End> {
        let outcome = match self.wait_for_server(shard).await {
            Ok(server) => Ok(server),
            Err(LinkError::Refused(report)) => Err(Box::new(report)),
            Err(LinkError::End(end)) => return Err(end),
        };
        self.granted = Some(Granted { shard, outcome });
        Ok(())
    }

    fn poll_quick(&mut self, cx: &mut Context<'_>) -> Poll<Result<Quick, End>> {
        let mut served = false;
        loop {
            if !self.take_in_now() {
                return Poll::Ready(Ok(self.wanted.take().map_or(Quick::Long, Quick::Wait)));
            }
            let backlogged = self.backlogged();
            let mut progress = false;
            let mut news = false;
            let mut quiet = true;
            let mut stuffed = false;
            for link in &mut self.links {
                let full = link.pending_out() > super::SERVER_BACKLOG_BYTES;
                link.poll_flush(cx);
                // What has come from the client already waited for this: no socket will say so again.
                progress |= full && link.pending_out() <= super::SERVER_BACKLOG_BYTES;
                progress |= link.poll_take(cx, &mut self.client);
                news |= link.has_news();
                quiet &= link.quiet();
                stuffed |= link.pending_out() > super::SERVER_BACKLOG_BYTES;
            }
            if self.client.pending_out() > 0 {
                progress |= self.client.poll_flush(cx);
            }
            // What was left unread for that can be taken in now.
            progress |= backlogged && !self.backlogged();
            if news {
                if self.client.gone || self.links.iter().any(|link| link.broken.is_some()) {
                    return Poll::Ready(Ok(Quick::Long));
                }
                self.after_replies()?;
            }
            served |= progress;
            if self.client.pending_out() == 0 && quiet {
                self.release_if_free();
                self.count();
                if served && self.client.inbox_empty() {
                    self.rest();
                    return Poll::Ready(Ok(Quick::Done));
                }
            }
            if self.client.gone || self.client.eof || self.card.ends().is_some() {
                return Poll::Ready(Ok(Quick::Long));
            }
            if !stuffed && !self.backlogged() {
                progress |= self.client.poll_fill(cx);
            }
            if !progress {
                return Poll::Pending;
            }
        }
    }

    /// Takes in the messages that have come. `false`: the one at the front needs the long way.
    fn take_in_now(&mut self) -> bool {
        loop {
            if self.backlogged() {
                return true;
            }
            match self.client.incoming() {
                Ok(Incoming::Nothing) => return true,
                Ok(Incoming::Frame(head)) => {
                    let inbox = self.client.lend_inbox();
                    let done = self.frame_now(head.kind, inbox.body(head));
                    self.client.return_inbox(inbox, if done { head.total() } else { 0 });
                    if !done {
                        return false;
                    }
                }
                Ok(Incoming::CopyBytes) | Err(_) => return false,
            }
        }
    }

    fn frame_now(&mut self, kind: u8, body: &[u8]) -> bool {
        // After an error, in a COPY, or with a lost server, the long way knows what to do.
        if self.skip
            || self.fans
            || self.links.iter().any(|l| l.skipping || l.copying || l.stray_ready || l.broken.is_some())
        {
            return false;
        }
        let sync_of_commit = |block: &Block| kind == b'S' && block.committing;
        if self.block.as_ref().is_some_and(|block| !block.plain() && !sync_of_commit(block))
            || self.client.failed
        {
            return false;
        }
        match kind {
            b'Q' => self.query_now(body),
            b'P' => self.parse_now(body),
            b'B' => self.bind_now(body),
            b'D' => self.describe_now(body),
            b'E' => self.execute_now(body),
            b'S' => self.sync_now(),
            _ => false,
        }
    }

    fn query_now(&mut self, body: &[u8]) -> bool {
        if !self.pending.is_empty() || self.links.iter().any(|l| l.unsynced) {
            return false;
        }
        let Some((0, raw)) = body.split_last() else { return false };
        let (shard, read_only) = if self.db.sharded {
            let Some(place) = self.query_place(raw) else { return false };
            place
        } else {
            match plain_control(raw) {
                Some(Control::Begin) => return self.begin_now(),
                Some(Control::Commit) => return self.commit_now(raw),
                // What has waited for its server was looked at before.
                None if self.granted.is_some() || plainly_one(raw) => (ShardId(0), false),
                None => return false,
            }
        };
        let Some(index) = self.link_now(shard) else { return false };
        // A simple query destroys the unnamed statement and portal.
        self.client.forget_unnamed();
        self.forget_unnamed_portal();
        self.send_query(index, raw, read_only, false);
        true
    }

    /// BEGIN waits for the first statement of its transaction.
    fn begin_now(&mut self) -> bool {
        if !self.may_begin() {
            return false;
        }
        self.client.forget_unnamed();
        self.forget_unnamed_portal();
        self.block = Some(Block::new(true, Begin::default(), self.settings.clone()));
        self.client.say(|o| message::command_complete(o, "BEGIN"));
        self.say_ready();
        true
    }

    fn may_begin(&self) -> bool {
        self.block.is_none() && self.links.is_empty() && self.pools.settings.mode != PoolMode::Statement
    }

    /// COMMIT of a transaction on one server is that server's to answer.
    fn commit_now(&mut self, raw: &[u8]) -> bool {
        let Some(index) = self.only_participant() else { return false };
        self.client.forget_unnamed();
        self.forget_unnamed_portal();
        if let Some(block) = &mut self.block {
            block.committing = true;
        }
        self.send_query(index, raw, true, false);
        true
    }

    /// The link of a transaction on a plain pool, if nothing but its server's COMMIT is needed to end it.
    fn only_participant(&self) -> Option<usize> {
        let block = self.block.as_ref().filter(|block| block.ends_by_itself(&self.settings))?;
        let [link] = &self.links[..] else { return None };
        (block.explicit && link.in_block && link.quiet() && !self.db.sharded).then_some(0)
    }

    /// The one shard of a query string on a sharded database, and whether it only reads.
    fn query_place(&self, raw: &[u8]) -> Option<(ShardId, bool)> {
        if self.block.is_some() {
            return None;
        }
        let sql = std::str::from_utf8(raw).ok()?;
        if raw.contains(&0) {
            return None;
        }
        let topology = self.topology();
        let statements = self.analyze(&topology, sql);
        let [statement] = &statements[..] else { return None };
        let template = &*statement.template;
        let text = text_of(sql, statement);
        if !ordinary(template, text) {
            return None;
        }
        let plan = self.plan_now(&topology, statement, text, Params::default())?;
        let place = match plan {
            Plan::One(shard) => Some((shard, template.read_only)),
            _ => None,
        };
        self.worker.give_statements(statements);
        place
    }

    fn parse_now(&mut self, body: &[u8]) -> bool {
        let Ok(parse) = message::read_parse(body) else { return false };
        if !parse.name.is_empty() && self.client.statements.contains_key(parse.name) {
            return false;
        }
        let tail = &body[parse.name.len() + 1..];
        let prepared = self.interned(tail, &parse);
        if self.db.sharded && prepared.foreign.is_some() {
            return false;
        }
        let analysis = self.analysis_now(&prepared);
        let [statement] = &analysis[..] else { return false };
        if !ordinary(&statement.template, &prepared.sql) || statement.template.refusal().is_some() {
            return false;
        }
        if self.pending.len() >= super::extended::PENDING_MAX {
            return false;
        }
        self.client.define(parse.name, &prepared);
        let unnamed = self.client.unnamed;
        self.pending.push(Pending::Parse { prepared, name: parse.name.into(), unnamed });
        self.pools.stats.of(self.worker.id).client_parses.add(1);
        true
    }

    fn bind_now(&mut self, body: &[u8]) -> bool {
        let Ok(bind) = message::read_bind(body) else { return false };
        let Some(prepared) = self.client.statements.get(bind.statement).map(Rc::clone) else { return false };
        if self.description_is_old(&prepared) {
            return false;
        }
        let analysis = self.analysis_now(&prepared);
        let [statement] = &analysis[..] else { return false };
        let template = &*statement.template;
        match &template.kind {
            Kind::Begin(_) if self.may_begin() && self.pending.is_empty() => {
                self.client.push(message::BIND_COMPLETE);
                self.portals.insert(bind.portal, Portal::new(prepared, Place::Local));
                return true;
            }
            Kind::Commit { chain: false } if !self.db.sharded => {
                let Some(index) = self.only_participant() else { return false };
                self.send_pending(index);
                self.send_bind(index, &bind, prepared, template);
                if let Some(portal) = self.portals.get_mut(bind.portal) {
                    portal.commits = true;
                }
                return true;
            }
            _ => {}
        }
        if !ordinary(template, &prepared.sql) {
            return false;
        }
        let shard = if self.db.sharded {
            let (mut formats, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
            if message::read_bind_tail(bind.tail, &mut formats, &mut values, &mut results).is_err() {
                return false;
            }
            let params = Params { values: &values, formats: &formats, types: &prepared.types };
            match self.plan_now(&self.topology(), statement, &prepared.sql, params) {
                Some(Plan::One(shard)) => shard,
                _ => return false,
            }
        } else {
            ShardId(0)
        };
        let Some(index) = self.link_now(shard) else { return false };
        self.send_pending(index);
        self.send_bind(index, &bind, prepared, template);
        self.pools.stats.of(self.worker.id).binds.add(1);
        true
    }

    fn describe_now(&mut self, body: &[u8]) -> bool {
        let Some((&target, name)) = body.split_first() else { return false };
        let Some((0, name)) = name.split_last() else { return false };
        match target {
            b'S' => {
                let Some(prepared) = self.client.statements.get(name).map(Rc::clone) else { return false };
                if self.description_is_old(&prepared) {
                    return false;
                }
                let analysis = self.analysis_now(&prepared);
                if !matches!(&analysis[..], [one] if ordinary(&one.template, &prepared.sql)) {
                    return false;
                }
                self.pending.push(Pending::Describe { prepared, named: !name.is_empty() });
                true
            }
            b'P' => {
                let Some(index) = self.portal_link(name) else {
                    let local = matches!(self.portals.get(name), Some(Portal { place: Place::Local, .. }));
                    if local && self.links.is_empty() && self.pending.is_empty() {
                        self.client.push(message::NO_DATA);
                        return true;
                    }
                    return false;
                };
                self.send_pending(index);
                self.send_describe_portal(index, name);
                true
            }
            _ => false,
        }
    }

    /// The link of a portal, if nobody else owes the client anything.
    fn portal_link(&self, name: &[u8]) -> Option<usize> {
        let Portal { place: Place::Link(shard), .. } = self.portals.get(name)? else { return None };
        let index = self.links.iter().position(|l| l.shard == *shard)?;
        let alone = self.links.iter().enumerate().all(|(i, l)| i == index || l.quiet());
        alone.then_some(index)
    }

    fn execute_now(&mut self, body: &[u8]) -> bool {
        let mut fields = pgherd_wire::frame::Fields::new(body);
        let (Ok(name), Ok(rows)) = (fields.cstr(), fields.u32()) else { return false };
        let Some(portal) = self.portals.get(name) else { return false };
        if let Place::Local = portal.place {
            return self.execute_begin_now(name);
        }
        let Some(index) = self.portal_link(name) else { return false };
        if self.db.sharded && (self.block.is_some() || !portal.read_only && self.still_placed().is_some()) {
            return false;
        }
        if portal.commits {
            let Some(block) = &mut self.block else { return false };
            block.committing = true;
        } else if !portal.ordinary {
            return false;
        }
        let read_only = portal.read_only || portal.commits;
        self.send_pending(index);
        self.send_execute(index, name, rows, read_only, false);
        true
    }

    fn execute_begin_now(&mut self, name: &[u8]) -> bool {
        let Some(portal) = self.portals.get(name) else { return false };
        let analysis = self.analysis_now(&portal.prepared);
        let [statement] = &analysis[..] else { return false };
        let Kind::Begin(begin) = &statement.template.kind else { return false };
        // START TRANSACTION answers by its own name.
        if !self.may_begin() || !self.pending.is_empty() || !begins_with_begin(&portal.prepared.sql) {
            return false;
        }
        self.block = Some(Block::new(true, begin.clone(), self.settings.clone()));
        self.client.say(|o| message::command_complete(o, "BEGIN"));
        true
    }

    fn sync_now(&mut self) -> bool {
        if !self.pending.is_empty() || self.block.as_ref().is_some_and(|block| !block.explicit) {
            return false;
        }
        if self.links.is_empty() && self.block.as_ref().is_some_and(Block::plain) {
            // Behind a BEGIN.
            self.say_ready();
            return true;
        }
        let mut open = (0..self.links.len()).filter(|&i| self.links[i].unsynced);
        let (Some(index), None) = (open.next(), open.next()) else { return false };
        if self.links.iter().enumerate().any(|(i, l)| i != index && !l.expects.is_empty()) {
            return false;
        }
        // One that no server knows of ends here without being told.
        if self.portals.values().any(|portal| !matches!(portal.place, Place::Link(_))) {
            return false;
        }
        self.send_sync(index);
        true
    }

    /// Like `analysis`: a plain pool has one topology for ever, and need not look which.
    fn analysis_now(&self, prepared: &Prepared) -> Rc<Vec<Statement>> {
        if !self.db.sharded {
            let known = prepared.analysis.borrow();
            if known.0 == PLAIN_VERSION {
                return known.1.clone();
            }
        }
        self.analysis(&self.topology(), prepared)
    }

    /// Like `link_for`, when the server is at hand: held already, or idle with this worker.
    fn link_now(&mut self, shard: ShardId) -> Option<usize> {
        let settings = &self.settings;
        if let Some(index) = self.links.iter().position(|l| l.shard == shard) {
            if self.links.iter().enumerate().any(|(i, l)| i != index && !l.quiet()) {
                return None;
            }
            let link = &self.links[index];
            let ready = match &self.block {
                Some(_) => link.in_block,
                None => link.unsynced || link.server.state.has(settings),
            };
            return ready.then_some(index);
        }
        if !self.links.is_empty() || (self.db.sharded && self.block.is_some()) {
            return None;
        }
        // A PAUSE that came during the wait waits for who has a server already.
        if self.db.is_paused() && self.granted.is_none() {
            return None;
        }
        let pool = self.pools.shard(shard);
        let mut server = match self.granted.take() {
            None => match pool.try_checkout(self.worker.id) {
                Some(server) => server,
                None => {
                    self.wanted = Some(shard);
                    return None;
                }
            },
            Some(Granted { shard: of, outcome: Ok(server) }) if of == shard => server,
            // Refused, or, with other facts than before the wait, for another shard: for the long way.
            other => {
                self.granted = other;
                return None;
            }
        };
        if !server.state.used {
            server.state.used = true;
            server.state.settings = Some(self.worker.no_settings.clone());
            self.note_fresh(&server.parameters);
        }
        if server.state.schema_version != self.db.schema_version() || !server.state.has(&self.settings) {
            // Kept: the long way needs it at once, and whoever waited for it waits no second time.
            self.granted = Some(Granted { shard, outcome: Ok(server) });
            return None;
        }
        self.note_lent(&server);
        let mut link = Link::new(shard, server, self.worker.take_spare());
        if let Some(block) = &self.block {
            link.send_unit(&block.prologue_sql(), super::Unit::Prelude);
            link.in_block = true;
        }
        self.links.push(link);
        Some(self.links.len() - 1)
    }
}
