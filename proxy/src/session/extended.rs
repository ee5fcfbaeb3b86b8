//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Invariants:
//! - Replies keep the order of the requests, whether a server makes them or pgherd.
//! - A Parse has no server until a Bind (or Sync, or Flush) tells which: until then it waits in `pending`.
//! - After an error everything is skipped until Sync, and what the skipped messages would have defined is not.

use std::rc::Rc;
use std::sync::Arc;

use pgherd_router::plan::{Combine, Each, Kind, Params, Plan, Statement, Template};
use pgherd_router::{ShardId, Topology, lexer};
use pgherd_wire::message::{self, Report};

use super::fan::Via;
use super::link::{Expect, Undo};
use super::merge::Portion;
use super::portals::{Care, reads_at_bind, stale};
use super::query::{as_each, refused};
use super::statements::{Prepared, ServerName, StatementId};
use super::transaction::Block;
use super::{End, LinkError, Session};

/// A message whose server is not known yet.
pub enum Pending {
    Parse {
        prepared: Rc<Prepared>,
        name: Box<[u8]>,
        unnamed: u16,
    },
    Describe {
        prepared: Rc<Prepared>,
        named: bool,
    },
    /// A reply of pgherd's own in its place.
    Reply(Vec<u8>, Undo),
}

/// A bound statement.
#[derive(Clone)]
pub struct Portal {
    pub(super) prepared: Rc<Prepared>,
    /// Of a statement with a name: the client may use it again without asking what it returns.
    named: bool,
    pub(super) place: Place,
    /// Executing it needs nothing from the session: see `now`.
    pub(super) ordinary: bool,
    pub(super) read_only: bool,
    /// A COMMIT that goes to its server as it is.
    pub(super) commits: bool,
}

#[derive(Clone)]
pub(super) enum Place {
    /// On that shard's link.
    Link(ShardId),
    /// The session runs it itself.
    Local,
    /// On several shards, at Execute: see `portals`.
    Fan { plan: Rc<Plan>, tail: Rc<[u8]>, care: Care },
}

/// Messages that may wait for a server at once; then they go to one that can check them.
pub(super) const PENDING_MAX: usize = 1_000;

impl Session {
    /// After an error, until Sync.
    pub(super) fn skipping(&self) -> bool {
        self.skip || self.links.iter().any(|l| l.skipping)
    }

    /// The statement of a text, for the topology of now. A prepared statement is always one statement.
    pub(super) fn analysis(&self, topology: &Arc<Topology>, prepared: &Prepared) -> Rc<Vec<Statement>> {
        let version = self.worker.version_of(topology);
        {
            let known = prepared.analysis.borrow();
            if known.0 == version {
                return known.1.clone();
            }
        }
        let made = Rc::new(self.analyze(topology, &prepared.sql));
        *prepared.analysis.borrow_mut() = (version, made.clone());
        made
    }

    /// A reply of pgherd's own, in its place among those that servers owe.
    fn reply(&mut self, bytes: &[u8], undo: Undo) {
        if !self.pending.is_empty() {
            self.pending.push(Pending::Reply(bytes.to_vec(), undo));
        } else if let Some(link) = self.links.iter_mut().find(|l| !l.expects.is_empty()) {
            link.expects.push_back(Expect::Local(bytes.to_vec().into(), undo));
        } else {
            self.client.push(bytes);
        }
    }

    /// An error of pgherd's own in a batch.
    pub(super) async fn batch_error(&mut self, report: Report) -> Result<(), End> {
        Box::pin(self.flush_pending(None)).await?;
        if self.skipping() {
            // An earlier message failed already: this one was never looked at.
            return Ok(());
        }
        let mut bytes = Vec::new();
        report.write(&mut bytes);
        if self.block.is_none()
            && let Some(link) = self.links.iter_mut().find(|l| l.unsynced)
        {
            // The server is in an implicit transaction that must not be committed by the coming Sync: a statement that cannot
            // exist makes it fail there as well.
            message::bind(&mut link.out, b"", b"pgherd_no_such_statement", &[], &[], &[]);
            link.expects.push_back(Expect::Abort(bytes));
        } else {
            if self.block.is_some() {
                // What was asked before is answered before the block has failed.
                self.settle().await?;
                if self.skipping() {
                    // One of them has failed: that was the batch's error, and it has but one.
                    return Ok(());
                }
            }
            self.reply(&bytes, Undo::Nothing);
            self.fail_block();
        }
        self.skip = true;
        Ok(())
    }

    /// Its frame was whole, so nothing is out of step: an error like any other, as in PostgreSQL.
    async fn malformed(&mut self) -> Result<(), End> {
        self.batch_error(Report::error("08P01", "invalid message format")).await
    }

    pub(super) async fn on_parse(&mut self, body: &[u8]) -> Result<(), End> {
        if self.skipping() {
            return Ok(());
        }
        let Ok(parse) = message::read_parse(body) else { return self.malformed().await };
        self.pools.stats.of(self.worker.id).client_parses.add(1);
        let tail = &body[parse.name.len() + 1..];
        let prepared = self.interned(tail, &parse);
        if self.db.sharded && prepared.foreign.is_some() {
            let report = Report::error("22021", "invalid byte sequence for encoding \"UTF8\"");
            return self.batch_error(report).await;
        }
        if !parse.name.is_empty() && self.client.statements.contains_key(parse.name) {
            self.settle_names().await?;
        }
        if self.skipping() {
            return Ok(());
        }
        self.see_own_schema().await?;
        let topology = self.topology();
        let analysis = self.analysis(&topology, &prepared);
        if !parse.name.is_empty() && self.client.statements.contains_key(parse.name) {
            return self.name_is_taken(parse.name, &prepared, &analysis).await;
        }
        if analysis.len() > 1 {
            let report = Report::error("42601", "cannot insert multiple commands into a prepared statement");
            return self.batch_error(report).await;
        }
        if let Some(refusal) = analysis.first().and_then(|statement| statement.template.refusal())
            && !self.client.failed
            && self.db.names_elsewhere(&prepared.sql)
        {
            // Not this: let a server look for tables that are on several shards, and say that one does not exist.
            return self.batch_error(refused(refusal.clone())).await;
        }
        let prepared = match analysis.first().map(|statement| &statement.template.kind) {
            Some(Kind::Execute { name, at }) => match self.executing(&prepared, name, at) {
                Ok(executing) => executing,
                Err(report) => return self.batch_error(report).await,
            },
            _ => prepared,
        };
        self.client.define(parse.name, &prepared);
        if is_local(&analysis) {
            self.reply(message::PARSE_COMPLETE, Undo::Define(parse.name.into(), self.client.unnamed));
            return Ok(());
        }
        let unnamed = self.client.unnamed;
        self.pending.push(Pending::Parse { prepared, name: parse.name.into(), unnamed });
        if self.pending.len() > PENDING_MAX {
            self.flush_pending(None).await?;
        }
        Ok(())
    }

    /// A Parse under a name that the client has given already. PostgreSQL reads the statement first, and what is wrong with it is
    /// what it says.
    async fn name_is_taken(
        &mut self,
        name: &[u8],
        prepared: &Rc<Prepared>,
        analysis: &[Statement],
    ) -> Result<(), End> {
        if let [statement] = analysis
            && !is_local(analysis)
            && !self.client.failed
        {
            let shard = if self.db.sharded { statement.template.home() } else { ShardId(0) };
            match self.link_for(shard).await {
                Ok(index) => {
                    self.put(index, prepared, None);
                    self.links[index].unsynced = true;
                }
                Err(LinkError::Refused(report)) => return self.batch_error(report).await,
                Err(LinkError::End(end)) => return Err(end),
            }
            self.settle().await?;
            if self.skipping() {
                return Ok(());
            }
        }
        let name = String::from_utf8_lossy(name);
        let why = format!("prepared statement \"{name}\" already exists");
        self.batch_error(Report::error("42P05", why)).await
    }

    /// Makes sure that the link's server has the statement. Returns its name there; a Parse goes ahead where it lacks.
    /// `forward`: the client waits for a ParseComplete of this statement, under the given name.
    pub(super) fn put(
        &mut self,
        index: usize,
        prepared: &Rc<Prepared>,
        client_name: Option<(&[u8], u16)>,
    ) -> ServerName {
        if let Some(inner) = prepared.needs.get() {
            self.put(index, inner, None);
        }
        let cache_unnamed = self.pools.settings.cache_unnamed;
        let max = self.pools.settings.statements_max;
        let link = &mut self.links[index];
        let state = &mut link.server.state;
        state.tick += 1;
        let tick = state.tick;
        let undo = |(name, unnamed): (&[u8], u16)| Undo::Define(name.into(), unnamed);
        if let Some(used) = state.prepared.get_mut(&prepared.id) {
            *used = tick;
            if let Some(name) = client_name {
                link.expects.push_back(Expect::Local(message::PARSE_COMPLETE.into(), undo(name)));
            }
            return ServerName::of(prepared.id);
        }
        // An unnamed statement that is met for the first time may never come again: it takes no name on the server.
        let named = match client_name {
            _ if prepared.declared.is_some() => true,
            Some((b"", _)) => cache_unnamed && prepared.parses.get() > 1,
            Some(_) => true,
            None => prepared.parses.get() > 1 || state.unnamed != Some(prepared.id),
        };
        if !named && state.unnamed == Some(prepared.id) {
            if let Some(name) = client_name {
                link.expects.push_back(Expect::Local(message::PARSE_COMPLETE.into(), undo(name)));
            }
            return ServerName::unnamed();
        }
        let name = if named { ServerName::of(prepared.id) } else { ServerName::unnamed() };
        if named {
            if state.prepared.len() >= max
                && let Some((&oldest, _)) = state.prepared.iter().min_by_key(|(_, used)| **used)
            {
                state.prepared.remove(&oldest);
                message::close(&mut link.out, b'S', ServerName::of(oldest).as_bytes());
                link.expects.push_back(Expect::CloseQuiet);
            }
            state.prepared.insert(prepared.id, tick);
        } else {
            state.unnamed = Some(prepared.id);
        }
        self.pools.stats.of(self.worker.id).server_parses.add(1);
        if let Some(sql) = prepared.declaration() {
            message::parse(&mut link.out, b"", sql.as_bytes(), &[]);
            // One of the same batch may be there still.
            message::close(&mut link.out, b'P', b"pgherd_prepare");
            message::bind(&mut link.out, b"pgherd_prepare", b"", &[], &[], &[]);
            message::execute(&mut link.out, b"pgherd_prepare", 0);
            // The transaction may come to prepare another one.
            message::close(&mut link.out, b'P', b"pgherd_prepare");
            link.server.state.unnamed = None;
            link.expects.push_back(Expect::Own { prepares: Some(prepared.id) });
            link.expects.push_back(Expect::CloseQuiet);
            return name;
        }
        message::parse(&mut link.out, name.as_bytes(), prepared.text(), &prepared.types);
        link.expects.push_back(Expect::Parse {
            forward: client_name.is_some(),
            id: prepared.id,
            undo: client_name.map(undo).unwrap_or_default(),
        });
        name
    }

    /// For a unit of pgherd's own: like [`Self::put`], under a name always; its ParseComplete belongs to the unit.
    pub(super) fn put_statement(
        &mut self,
        index: usize,
        prepared: &Rc<Prepared>,
        _unnamed: bool,
    ) -> ServerName {
        let link = &mut self.links[index];
        let state = &mut link.server.state;
        state.tick += 1;
        let tick = state.tick;
        let name = ServerName::of(prepared.id);
        if let Some(used) = state.prepared.get_mut(&prepared.id) {
            *used = tick;
            return name;
        }
        if state.prepared.len() >= self.pools.settings.statements_max
            && let Some((&oldest, _)) = state.prepared.iter().min_by_key(|(_, used)| **used)
        {
            state.prepared.remove(&oldest);
            message::close(&mut link.out, b'S', ServerName::of(oldest).as_bytes());
        }
        // Recorded at its ParseComplete; until then it is closed again, which is no error for a name that is not there.
        message::close(&mut link.out, b'S', name.as_bytes());
        self.pools.stats.of(self.worker.id).server_parses.add(1);
        message::parse(&mut link.out, name.as_bytes(), prepared.text(), &prepared.types);
        link.unit_parse = Some((prepared.id, tick));
        name
    }

    /// Sends what waits for a server. `target`: the link that a Bind chose.
    pub(super) async fn flush_pending(&mut self, target: Option<usize>) -> Result<(), End> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let index = match target {
            Some(index) => index,
            None => {
                if self.pending.iter().all(|p| matches!(p, Pending::Reply(..))) {
                    for pending in std::mem::take(&mut self.pending) {
                        if let Pending::Reply(bytes, undo) = pending {
                            self.reply(&bytes, undo);
                        }
                    }
                    return Ok(());
                }
                let shard = self.parse_shard();
                match self.link_for(shard).await {
                    Ok(index) => index,
                    Err(LinkError::End(end)) => return Err(end),
                    Err(LinkError::Refused(report)) => {
                        // Nobody can answer the first of them; the rest is skipped.
                        self.forget_pending();
                        return self.batch_error(report).await;
                    }
                }
            }
        };
        self.send_pending(index);
        Ok(())
    }

    /// What waits goes to this link's server.
    pub(super) fn send_pending(&mut self, index: usize) {
        if self.pending.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.pending);
        for pending in waiting.drain(..) {
            match pending {
                Pending::Parse { prepared, name, unnamed } => {
                    self.put(index, &prepared, Some((&name, unnamed)));
                }
                Pending::Describe { prepared, named } => {
                    let name = self.put(index, &prepared, None);
                    let link = &mut self.links[index];
                    message::describe(&mut link.out, b'S', name.as_bytes());
                    let expect = if named { self.describing(index, prepared.id) } else { Expect::Describe };
                    self.links[index].expects.push_back(expect);
                }
                Pending::Reply(bytes, undo) => {
                    self.links[index].expects.push_back(Expect::Local(bytes.into(), undo));
                }
            }
        }
        self.links[index].unsynced = true;
        // Its memory serves the next batch.
        self.pending = waiting;
    }

    pub(super) fn send_bind(
        &mut self,
        index: usize,
        bind: &message::BindBody<'_>,
        prepared: Rc<Prepared>,
        template: &Template,
    ) {
        let name = self.put(index, &prepared, None);
        let link = &mut self.links[index];
        message::bind_with(&mut link.out, bind.portal, name.as_bytes(), bind.tail);
        link.expects.push_back(Expect::Bind);
        link.unsynced = true;
        link.wrote |= !template.read_only;
        let portal = Portal {
            ordinary: ordinary(template, &prepared.sql),
            read_only: template.read_only,
            prepared,
            named: !bind.statement.is_empty(),
            place: Place::Link(link.shard),
            commits: false,
        };
        self.portals.insert(bind.portal, portal);
    }

    pub(super) fn send_describe_portal(&mut self, index: usize, name: &[u8]) {
        let expect = match self.portals.get(name) {
            Some(Portal { prepared, named: true, .. }) => self.describing(index, prepared.id),
            _ => Expect::Describe,
        };
        let link = &mut self.links[index];
        message::describe(&mut link.out, b'P', name);
        link.expects.push_back(expect);
        link.unsynced = true;
    }

    pub(super) fn send_execute(&mut self, index: usize, name: &[u8], rows: u32, read_only: bool, ddl: bool) {
        let link = &mut self.links[index];
        message::execute(&mut link.out, name, rows);
        link.wrote |= !read_only;
        link.unsynced = true;
        link.executed = true;
        link.expects.push_back(Expect::Execute { ddl });
    }

    pub(super) fn send_sync(&mut self, index: usize) {
        self.piped = false;
        let link = &mut self.links[index];
        link.out.extend_from_slice(message::SYNC);
        link.expects.push_back(Expect::Sync);
        link.unsynced = link.copying;
        link.executed = false;
        link.skipping = false;
        link.flush_asked = false;
    }

    /// What waits for a server is skipped: it never was.
    fn forget_pending(&mut self) {
        for pending in std::mem::take(&mut self.pending).into_iter().rev() {
            let undo = match pending {
                Pending::Parse { name, unnamed, .. } => Undo::Define(name, unnamed),
                Pending::Reply(_, undo) => undo,
                Pending::Describe { .. } => Undo::Nothing,
            };
            self.undo(undo);
        }
    }

    /// A name is about to be judged: what is under way may yet take its definition back.
    pub(super) async fn settle_names(&mut self) -> Result<(), End> {
        self.flush_pending(None).await?;
        self.settle().await
    }

    /// Before a portal is made that no server knows of: whatever was asked before has its answer, and the statement was neither
    /// skipped nor refused. `false`: it was, and the client has its error. Nothing is waited for that Execute would not wait for.
    async fn still_there(&mut self, name: &[u8], prepared: &Rc<Prepared>) -> Result<bool, End> {
        self.settle_names().await?;
        if self.skipping() {
            return Ok(false);
        }
        if self.client.statements.get(name).is_some_and(|known| Rc::ptr_eq(known, prepared)) {
            return Ok(true);
        }
        self.batch_error(unknown(name)).await.map(|()| false)
    }

    /// A shard that can check and describe the statements that wait.
    fn parse_shard(&mut self) -> ShardId {
        let topology = self.topology();
        for pending in &self.pending {
            let (Pending::Parse { prepared, .. } | Pending::Describe { prepared, .. }) = pending else {
                continue;
            };
            let analysis = self.analysis(&topology, prepared);
            let [statement] = &analysis[..] else { continue };
            match statement.template.plan(&topology, &prepared.sql, &statement.literals, Params::default()) {
                Ok(Plan::One(shard)) => return shard,
                Ok(Plan::Gather(gather)) => {
                    if let Some(shard) = gather.scratch {
                        return shard;
                    }
                }
                // It may name a sequence.
                Ok(Plan::Draw(_)) => return ShardId(0),
                Ok(_) => {}
                // Without its values nobody knows where it runs; but not every shard knows its tables.
                Err(_) => return statement.template.home(),
            }
        }
        self.any_shard()
    }

    pub(super) async fn on_bind(&mut self, body: &[u8]) -> Result<(), End> {
        if self.skipping() {
            return Ok(());
        }
        let Ok(bind) = message::read_bind(body) else { return self.malformed().await };
        self.pools.stats.of(self.worker.id).binds.add(1);
        if !self.client.statements.contains_key(bind.statement) {
            self.settle_names().await?;
            if self.skipping() {
                return Ok(());
            }
        }
        let Some(prepared) = self.client.statements.get(bind.statement).cloned() else {
            return self.batch_error(unknown(bind.statement)).await;
        };
        self.see_own_schema().await?;
        let topology = self.topology();
        let analysis = self.analysis(&topology, &prepared);
        if is_local(&analysis) {
            if !self.still_there(bind.statement, &prepared).await? {
                return Ok(());
            }
            // Nothing in these statements is a parameter, but what the Parse declared as one counts.
            if let Some(report) = miscounted(&bind, prepared.types.len()) {
                return self.batch_error(report).await;
            }
            self.reply(message::BIND_COMPLETE, Undo::Nothing);
            self.portals.insert(bind.portal, Portal::new(prepared, Place::Local));
            return Ok(());
        }
        if let Some(report) = self.refuses_statements() {
            return self.batch_error(report).await;
        }
        let Some(statement) = analysis.first() else { return self.malformed().await };
        let plan = if !self.db.sharded {
            Ok(Plan::One(ShardId(0)))
        } else {
            let (mut formats, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
            if message::read_bind_tail(bind.tail, &mut formats, &mut values, &mut results).is_err() {
                return self.malformed().await;
            }
            let params = Params { values: &values, formats: &formats, types: &prepared.types };
            let plan = self.plan(statement, &prepared.sql, params).await?;
            if self.skipping() {
                // What was asked before it has failed while it waited.
                return Ok(());
            }
            plan
        };
        let plan = plan.and_then(|plan| match self.cursor_elsewhere(&statement.template.kind, &plan) {
            Some(refusal) => Err(refusal),
            None => Ok(plan),
        });
        let plan = match plan {
            Ok(plan) => self.at_cursor(&statement.template.kind, plan),
            Err(refusal) => return self.batch_error(refused(refusal)).await,
        };
        if self.description_is_old(&prepared)
            && !self.client.describes_next(bind.portal)
            && !self.description_holds(&prepared).await?
        {
            return Ok(());
        }
        if self.fans && !self.makes_room(bind.portal).await? {
            return Ok(());
        }
        let shard = match &plan {
            Plan::Any => Some(self.any_shard()),
            Plan::One(shard) => Some(*shard),
            _ => None,
        };
        match shard {
            Some(shard)
                if !(matches!(statement.template.kind, Kind::SetConfig(_))
                    || self.db.sharded && statement.template.ddl) =>
            {
                let index = match self.link_for(shard).await {
                    Ok(index) => index,
                    Err(LinkError::Refused(report)) => {
                        // Not this: ask for a server once more, for the Parse before it. The client was refused, or cancelled.
                        self.forget_pending();
                        return self.batch_error(report).await;
                    }
                    Err(LinkError::End(end)) => return Err(end),
                };
                if self.skipping() {
                    return Ok(());
                }
                self.flush_pending(Some(index)).await?;
                self.send_bind(index, &bind, prepared, &statement.template);
            }
            _ => {
                if !self.still_there(bind.statement, &prepared).await? {
                    return Ok(());
                }
                if let Some(report) = miscounted(&bind, parameters(&prepared, &statement.template)) {
                    return self.batch_error(report).await;
                }
                self.reply(message::BIND_COMPLETE, Undo::Nothing);
                let care = Care { made: self.marks(), ..Care::default() };
                let place = Place::Fan { plan: Rc::new(as_each(plan, shard)), tail: bind.tail.into(), care };
                self.note_portal(bind.portal, Portal::new(prepared, place));
            }
        }
        Ok(())
    }

    /// The statement of a Parse.
    pub(super) fn interned(&self, tail: &[u8], parse: &message::ParseBody<'_>) -> Rc<Prepared> {
        let mut reading = self.reading();
        let prepared = self.worker.intern(&reading, tail, parse);
        if !self.description_is_old(&prepared) {
            return prepared;
        }
        // Under another name the client knows columns that this one may not have any more: a statement of its own, for all
        // who parse it in this version of the schema.
        reading.push(3);
        reading.extend_from_slice(&self.db.schema_version().to_be_bytes());
        self.worker.intern(&reading, tail, parse)
    }

    /// Where a portal may be that no Bind made: DECLARE makes one too, and psycopg describes it. The server knows.
    fn cursor_link(&self, name: &[u8]) -> Option<usize> {
        if self.portals.contains_key(name) {
            return None;
        }
        if !self.db.sharded {
            return (self.links.len() == 1).then_some(0);
        }
        let shard = *self.cursors.get(std::str::from_utf8(name).ok()?)?;
        let index = self.links.iter().position(|l| l.shard == shard)?;
        self.links.iter().enumerate().all(|(i, l)| i == index || l.quiet()).then_some(index)
    }

    /// The client knows the statement's columns from before a change of the schema.
    pub(super) fn description_is_old(&self, prepared: &Prepared) -> bool {
        !self.client.described.is_empty()
            && self.client.described.get(&prepared.id).is_some_and(|d| d.schema != self.db.schema_version())
    }

    /// What a Describe of a named statement (or of its portal) is to the client.
    fn describing(&self, index: usize, id: StatementId) -> Expect {
        let schema = self.links[index].server.state.schema_version;
        match self.client.described.get(&id) {
            Some(known) if known.schema == schema => Expect::Describe,
            _ => Expect::DescribeNews { id, schema },
        }
    }

    /// Asks a server whether the columns are still those that the client was told. `false`: they are not, or the statement
    /// cannot be read any more, and the client has its error: PostgreSQL refuses such a statement too, and drivers know what
    /// to do then. Not this: prepare it again and go on. The client would read the rows by the old columns.
    async fn description_holds(&mut self, prepared: &Rc<Prepared>) -> Result<bool, End> {
        self.settle_names().await?;
        if self.skipping() {
            return Ok(false);
        }
        let topology = self.topology();
        let analysis = self.analysis(&topology, prepared);
        let shard = match &analysis[..] {
            [statement] if self.db.sharded => statement.template.home(),
            _ => ShardId(0),
        };
        let index = match self.link_for(shard).await {
            Ok(index) => index,
            Err(LinkError::Refused(report)) => return self.batch_error(report).await.map(|()| false),
            Err(LinkError::End(end)) => return Err(end),
        };
        let server_name = self.put(index, prepared, None);
        let link = &mut self.links[index];
        link.captured.columns = None;
        message::describe(&mut link.out, b'S', server_name.as_bytes());
        link.expects.push_back(Expect::DescribeQuiet);
        link.unsynced = true;
        let schema = link.server.state.schema_version;
        self.settle().await?;
        if self.skipping() {
            return Ok(false);
        }
        let now = self.links.iter_mut().find(|l| l.shard == shard).and_then(|l| l.captured.columns.take());
        let Some(known) = self.client.described.get_mut(&prepared.id) else { return Ok(true) };
        if now.is_none_or(|columns| columns == known.columns) {
            known.schema = schema;
            return Ok(true);
        }
        self.batch_error(outdated()).await.map(|()| false)
    }

    pub(super) async fn on_describe(&mut self, body: &[u8]) -> Result<(), End> {
        if self.skipping() {
            return Ok(());
        }
        let Some((&target, name)) = body.split_first() else { return self.malformed().await };
        let Some((0, name)) = name.split_last() else { return self.malformed().await };
        if !matches!(target, b'S' | b'P') {
            let why = format!("invalid DESCRIBE message subtype {target}");
            return self.batch_error(Report::error("08P01", why)).await;
        }
        if target == b'S' {
            if !self.client.statements.contains_key(name) {
                self.settle_names().await?;
                if self.skipping() {
                    return Ok(());
                }
            }
            let Some(prepared) = self.client.statements.get(name).cloned() else {
                return self.batch_error(unknown(name)).await;
            };
            let topology = self.topology();
            if is_local(&self.analysis(&topology, &prepared)) {
                let mut bytes = b"t\0\0\0\x06\0\0".to_vec();
                bytes.extend_from_slice(message::NO_DATA);
                self.reply(&bytes, Undo::Nothing);
                return Ok(());
            }
            if self.description_is_old(&prepared) && !self.description_holds(&prepared).await? {
                return Ok(());
            }
            self.pending.push(Pending::Describe { prepared, named: !name.is_empty() });
            return Ok(());
        }
        if let Some(index) = self.cursor_link(name) {
            self.flush_pending(Some(index)).await?;
            self.send_describe_portal(index, name);
            return Ok(());
        }
        let Some(portal) = self.portals.get_mut(name) else {
            let name = String::from_utf8_lossy(name).into_owned();
            return self
                .batch_error(Report::error("34000", format!("portal \"{name}\" does not exist")))
                .await;
        };
        match &mut portal.place {
            Place::Local => {
                self.reply(message::NO_DATA, Undo::Nothing);
                Ok(())
            }
            Place::Fan { care, .. } => {
                care.describe = true;
                if care.done || care.open.is_some() {
                    // No Execute of it will say so.
                    return self.describe_portals(None).await;
                }
                Ok(())
            }
            Place::Link(shard) => {
                let shard = *shard;
                let Some(index) = self.links.iter().position(|l| l.shard == shard) else {
                    return self.batch_error(Report::error("34000", "portal does not exist")).await;
                };
                self.flush_pending(Some(index)).await?;
                self.send_describe_portal(index, name);
                Ok(())
            }
        }
    }

    pub(super) async fn on_execute(&mut self, body: &[u8]) -> Result<(), End> {
        if self.skipping() {
            return Ok(());
        }
        let mut fields = pgherd_wire::frame::Fields::new(body);
        let (Ok(name), Ok(rows)) = (fields.cstr(), fields.u32()) else { return self.malformed().await };
        if let Some(index) = self.cursor_link(name) {
            if let Some(report) = self.refuses_statements() {
                return self.batch_error(report).await;
            }
            self.flush_pending(Some(index)).await?;
            self.send_execute(index, name, rows, false, false);
            return Ok(());
        }
        let Some(portal) = self.portals.get(name).cloned() else {
            let name = String::from_utf8_lossy(name).into_owned();
            return self
                .batch_error(Report::error("34000", format!("portal \"{name}\" does not exist")))
                .await;
        };
        let prepared = portal.prepared;
        let topology = self.topology();
        let analysis = self.analysis(&topology, &prepared);
        let Some(statement) = analysis.first() else { return self.malformed().await };
        let template = &*statement.template;
        if !matches!(portal.place, Place::Local)
            && let Some(report) = self.still_placed()
        {
            // It was planned at its Bind.
            return self.batch_error(report).await;
        }
        match portal.place {
            Place::Local => {
                self.settle_names().await?;
                if self.skipping() {
                    // An error before it: a server would skip this too, and no server sees it.
                    return Ok(());
                }
                if matches!(template.kind, Kind::Set(_) | Kind::Listen(_) | Kind::Unlisten(_))
                    && !self.client.sync_is_next()
                {
                    self.hold_setting().await?;
                }
                let outcome = self.local(&prepared.sql, template).await?;
                // What ends or begins a transaction, or commits by itself, is followed by a new one.
                self.piped |= matches!(outcome, Some(Ok(_)))
                    && !matches!(
                        template.kind,
                        Kind::Begin(_) | Kind::Commit { .. } | Kind::Rollback { .. } | Kind::DiscardAll
                    );
                match outcome {
                    Some(Ok(tag)) if tag.is_empty() => self.reply(message::EMPTY_QUERY, Undo::Nothing),
                    Some(Ok(tag)) => {
                        let mut bytes = Vec::new();
                        message::command_complete(&mut bytes, &tag);
                        self.reply(&bytes, Undo::Nothing);
                    }
                    Some(Err(report)) => return self.batch_error(report).await,
                    None => {
                        let report = Report::error("0A000", "this statement cannot be executed by name here")
                            .hint("Send it as a simple query.");
                        return self.batch_error(report).await;
                    }
                }
                Ok(())
            }
            Place::Link(shard) => {
                let Some(index) = self.links.iter().position(|l| l.shard == shard) else {
                    return self.batch_error(Report::error("34000", "portal does not exist")).await;
                };
                if self.links.iter().enumerate().any(|(i, l)| i != index && !l.expects.is_empty()) {
                    self.settle().await?;
                    if self.skipping() {
                        return Ok(());
                    }
                }
                let Some(index) = self.links.iter().position(|l| l.shard == shard) else { return Ok(()) };
                self.flush_pending(Some(index)).await?;
                if let Some(report) = self.before_running(&prepared.sql, template) {
                    return self.batch_error(report).await;
                }
                self.send_execute(index, name, rows, template.read_only, template.ddl);
                Ok(())
            }
            Place::Fan { plan, tail, care } => {
                let Care { describe, done, open: mut merging, .. } = care;
                self.settle().await?;
                self.settle_names().await?;
                if self.skipping() {
                    return Ok(());
                }
                if care.stale {
                    return self.batch_error(stale()).await;
                }
                let one_row = matches!(&*plan, Plan::Each(Each { combine: Combine::Aggregate(_), .. }));
                if (rows != 0 && !one_row) || merging.is_some() {
                    if let Some(report) = self.before_running(&prepared.sql, template) {
                        return self.batch_error(report).await;
                    }
                    let bound = (&*tail, describe);
                    let outcome =
                        self.execute_piece(&prepared, template, &plan, bound, &mut merging, rows).await?;
                    if let Some(care) = self.care_of(name) {
                        care.open = merging;
                        care.describe = false;
                    }
                    return self.say_portion(outcome);
                }
                if done && (one_row || reads_at_bind(&prepared.sql, template, &plan)) {
                    self.client.say(|o| message::command_complete(o, "SELECT 0"));
                    return Ok(());
                }
                if done {
                    // A portal that ran to its end returns no more rows.
                    let why = format!("portal \"{}\" cannot be run", String::from_utf8_lossy(name));
                    return self.batch_error(Report::error("55000", why)).await;
                }
                if let Some(report) = self.before_running(&prepared.sql, template) {
                    return self.batch_error(report).await;
                }
                if let (Kind::SetConfig(_), Some(report)) = (&template.kind, self.refuses_config()) {
                    return self.batch_error(report).await;
                }
                let plan_clone = Plan::clone(&plan);
                let via = Via::Extended { prepared: &prepared, tail: &tail, describe };
                let outcome = self.run_plan(&prepared.sql, template, plan_clone, via).await?;
                if let Some(care) = self.care_of(name) {
                    care.done = true;
                    care.describe = false;
                }
                if let (Kind::SetConfig(calls), Ok(_)) = (&template.kind, &outcome) {
                    let (mut formats, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
                    let _ = message::read_bind_tail(&tail, &mut formats, &mut values, &mut results);
                    self.note_config(calls, &values);
                }
                // One row, and as many were asked for: PostgreSQL does not look whether there are more.
                let portion =
                    |tag| if one_row && rows == 1 { Portion::Suspended } else { Portion::Finished(tag) };
                self.say_portion(outcome.map(portion))
            }
        }
    }

    fn say_portion(&mut self, outcome: Result<Portion, Report>) -> Result<(), End> {
        match outcome {
            Ok(Portion::Finished(tag)) => {
                self.piped = true;
                self.client.say(|o| message::command_complete(o, &tag));
            }
            Ok(Portion::Suspended) => {
                self.piped = true;
                self.client.say(|o| message::frame(o, b's', |_| {}));
            }
            Err(report) => {
                self.client.say(|o| report.write(o));
                self.fail_block();
                self.skip = true;
            }
        }
        Ok(())
    }

    /// A SET with more of its pipeline behind it: what fails there takes it back, so it belongs to a transaction from the start.
    async fn hold_setting(&mut self) -> Result<(), End> {
        self.settle().await?;
        self.adopt_status();
        if self.block.is_none() && !self.links.iter().any(|l| l.unsynced) && !self.skipping() {
            self.block = Some(Block::new(false, Default::default(), self.settings.clone()));
        }
        Ok(())
    }

    pub(super) async fn on_close(&mut self, body: &[u8]) -> Result<(), End> {
        if self.skipping() {
            return Ok(());
        }
        let Some((&target, name)) = body.split_first() else { return self.malformed().await };
        let Some((0, name)) = name.split_last() else { return self.malformed().await };
        if !matches!(target, b'S' | b'P') {
            let why = format!("invalid CLOSE message subtype {target}");
            return self.batch_error(Report::error("08P01", why)).await;
        }
        if target == b'S' {
            // Only the client's name goes: other clients share the statement on the server.
            let undo = match self.client.statements.remove(name) {
                Some(statement) => {
                    self.client.forget_description(statement.id);
                    Undo::Restore(name.into(), statement)
                }
                None => Undo::Nothing,
            };
            self.reply(message::CLOSE_COMPLETE, undo);
            return Ok(());
        }
        if let Some(index) = self.cursor_link(name) {
            self.flush_pending(Some(index)).await?;
            let link = &mut self.links[index];
            message::close(&mut link.out, b'P', name);
            link.expects.push_back(Expect::Close);
            link.unsynced = true;
            return Ok(());
        }
        match self.portals.remove(name) {
            Some(Portal { place: Place::Link(shard), .. }) => {
                if let Some(index) = self.links.iter().position(|l| l.shard == shard) {
                    self.flush_pending(Some(index)).await?;
                    let link = &mut self.links[index];
                    message::close(&mut link.out, b'P', name);
                    link.expects.push_back(Expect::Close);
                    link.unsynced = true;
                    return Ok(());
                }
                self.reply(message::CLOSE_COMPLETE, Undo::Nothing);
            }
            Some(Portal { place: Place::Fan { care: Care { open: Some(merging), .. }, .. }, .. }) => {
                self.flush_pending(None).await?;
                self.close_pieces(&merging).await?;
                self.reply(message::CLOSE_COMPLETE, Undo::Nothing);
            }
            _ => self.reply(message::CLOSE_COMPLETE, Undo::Nothing),
        }
        Ok(())
    }

    pub(super) async fn on_flush(&mut self) -> Result<(), End> {
        if self.skipping() {
            return Ok(());
        }
        self.flush_pending(None).await?;
        for link in &mut self.links {
            if link.unsynced {
                link.flush_local(&mut self.client);
                link.out.extend_from_slice(message::FLUSH);
            }
        }
        Ok(())
    }

    pub(super) async fn on_sync(&mut self) -> Result<(), End> {
        if !self.skipping() {
            self.flush_pending(None).await?;
        }
        if self.skipping() && self.fans {
            // The batch has had its error: what waited for a description is not described by a later one.
            for portal in self.portals.values_mut() {
                if let Place::Fan { care, .. } = &mut portal.place {
                    care.describe = false;
                }
            }
        }
        self.forget_pending();
        self.piped = false;
        let skipped = std::mem::take(&mut self.skip);
        if self.block.as_ref().is_some_and(|b| !b.explicit) {
            // The batch reached several shards: its end is a commit over all of them.
            if !self.settle_or_copy().await? {
                // It came with the Execute of a COPY, which reads it and ignores it; the one behind the rows counts.
                self.skip = skipped;
                return Ok(());
            }
            if skipped || self.links.iter().any(|l| l.skipping) {
                self.client.failed = true;
            }
            if let Err(report) = self.end_implicit().await {
                self.client.say(|o| report.write(o));
            }
            self.say_ready();
            return Ok(());
        }
        self.end_portals();
        let open: Vec<usize> =
            (0..self.links.len()).filter(|&i| self.links[i].unsynced || self.links[i].skipping).collect();
        match open[..] {
            [index] if self.links.iter().enumerate().all(|(i, l)| i == index || l.expects.is_empty()) => {
                self.send_sync(index);
            }
            [] if self.links.iter().filter(|l| !l.expects.is_empty()).count() == 1 => {
                // Behind a Query: the server answers in its turn, unless the Query is a COPY, which ignores a Sync.
                for link in self.links.iter_mut().filter(|l| !l.expects.is_empty()) {
                    link.out.extend_from_slice(message::SYNC);
                    link.expects.push_back(Expect::Sync);
                }
            }
            [] => {
                self.settle().await?;
                self.adopt_status();
                if self.block.is_none() {
                    // What was bound and not executed ends with its batch.
                    self.portals.clear();
                }
                self.say_ready();
            }
            _ => {
                self.settle().await?;
                self.sync_links();
                let all: Vec<usize> = (0..self.links.len()).collect();
                self.run_units(&all).await;
                self.purge_broken();
                self.say_ready();
            }
        }
        Ok(())
    }

    pub(super) async fn on_function_call(&mut self, body: &[u8]) -> Result<(), End> {
        if self.skipping() {
            return Ok(());
        }
        self.flush_pending(None).await?;
        if let Some(report) = self.refuses_statements() {
            self.settle().await?;
            self.client.say(|o| report.write(o));
            self.say_ready();
            return Ok(());
        }
        match self.link_for(ShardId(0)).await {
            Ok(index) => {
                let link = &mut self.links[index];
                message::frame(&mut link.out, b'F', |o| o.extend_from_slice(body));
                link.wrote = true;
                link.expects.push_back(Expect::Query { ddl: false });
            }
            Err(LinkError::Refused(report)) => {
                self.client.say(|o| report.write(o));
                self.say_ready();
            }
            Err(LinkError::End(end)) => return Err(end),
        }
        Ok(())
    }
}

impl Portal {
    /// Its plan is made and has not been run to its end.
    pub(super) fn is_planned(&self) -> bool {
        matches!(&self.place, Place::Fan { care, .. } if !care.done)
    }

    pub(super) fn new(prepared: Rc<Prepared>, place: Place) -> Self {
        Self { prepared, named: false, place, ordinary: false, read_only: false, commits: false }
    }
}

fn unknown(name: &[u8]) -> Report {
    if name.is_empty() {
        return Report::error("26000", "unnamed prepared statement does not exist");
    }
    let name = String::from_utf8_lossy(name);
    Report::error("26000", format!("prepared statement \"{name}\" does not exist"))
}

/// How many parameters a statement has: those that its Parse declared, and those that it names. In DDL they are somebody else's.
fn parameters(prepared: &Prepared, template: &Template) -> usize {
    let declared = prepared.types.len();
    if template.ddl || !prepared.sql.contains('$') {
        return declared;
    }
    let tokens = lexer::tokens(&prepared.sql);
    let named = tokens.iter().filter(|token| token.kind == lexer::TokenKind::Param);
    declared.max(named.filter_map(|token| token.text.parse().ok()).max().unwrap_or(0))
}

/// A Bind whose values are not as many as the statement has parameters.
fn miscounted(bind: &message::BindBody<'_>, required: usize) -> Option<Report> {
    let (mut formats, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
    message::read_bind_tail(bind.tail, &mut formats, &mut values, &mut results).ok()?;
    (values.len() != required).then(|| {
        let name = String::from_utf8_lossy(bind.statement);
        let supplied = values.len();
        Report::error(
            "08P01",
            format!("bind message supplies {supplied} parameters, but prepared statement \"{name}\" requires {required}"),
        )
    })
}

/// As PostgreSQL says it: drivers tell it from other refusals by the routine.
fn outdated() -> Report {
    let report = Report::error("0A000", "cached plan must not change result type");
    let fields = [
        ("S", "ERROR"),
        ("V", "ERROR"),
        ("C", &*report.sqlstate),
        ("M", &*report.message),
        ("R", "RevalidateCachedQuery"),
    ];
    let mut raw = fields.map(|(code, text)| format!("{code}{text}\0")).concat().into_bytes();
    raw.push(0);
    Report { raw: Some(raw), ..report }
}

/// Neither the session nor the transaction has to know of it.
pub(super) fn ordinary(template: &Template, text: &str) -> bool {
    matches!(template.kind, Kind::Other)
        && template.effect.is_none()
        && !template.ddl
        && template.notices.is_empty()
        // LOCK TABLE is refused outside a transaction, by whoever runs it; PREPARE TRANSACTION behind LISTEN.
        && (template.read_only
            || !text.trim_start().get(..4).is_some_and(|word| {
                word.eq_ignore_ascii_case("lock") || word.eq_ignore_ascii_case("prep")
            }))
}

/// Statements that no server needs to see.
fn is_local(analysis: &[Statement]) -> bool {
    match analysis {
        [] => true,
        [one] => matches!(
            one.template.kind,
            Kind::Empty
                | Kind::Begin(_)
                | Kind::Commit { .. }
                | Kind::Rollback { .. }
                | Kind::Savepoint(_)
                | Kind::RollbackTo(_)
                | Kind::Release(_)
                | Kind::Set(_)
                | Kind::SetLocal
                | Kind::DiscardAll
                | Kind::Prepare { .. }
                | Kind::Deallocate(_)
                | Kind::Listen(_)
                | Kind::Unlisten(_)
        ),
        _ => false,
    }
}
