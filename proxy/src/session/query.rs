//! The simple protocol: a query string of one or several statements.
//!
//! Invariant: one ReadyForQuery for each Query, whatever happened. A string of several statements is one
//! transaction unless it says otherwise, on however many shards.

use pgherd_router::plan::{Combine, Each, Kind, Params, Plan, SessionEffect, Statement, Template};
use pgherd_router::{Refusal, ShardId};
use pgherd_wire::message::{self, Report};

use super::fan::Via;
use super::link::Expect;
use super::listen::Change;
use super::transaction::{Block, in_failed_block};
use super::{End, LinkError, Session};

/// From the router's words to the wire's.
pub fn refused(refusal: Refusal) -> Report {
    let mut report = Report::error(refusal.sqlstate, refusal.message);
    report.detail = refusal.detail;
    report.hint = refusal.hint;
    report
}

/// PostgreSQL's words for what has to commit by itself (xact.c, PreventInTransactionBlock).
const INSIDE_BLOCK: &str = "cannot run inside a transaction block";
const WITHIN_PIPELINE: &str = "cannot be executed within a pipeline";

/// A server that was told to begin a block for the client's pipeline speaks of a block; the client has begun none.
pub(super) fn within_pipeline(mut report: Report) -> Report {
    if report.sqlstate == "25001"
        && let Some(what) = report.message.strip_suffix(INSIDE_BLOCK)
    {
        report = Report::error("25001", format!("{what}{WITHIN_PIPELINE}"));
    }
    report
}

impl Session {
    /// Something was executed since the last Sync or Query, and no BEGIN was: the implicit transaction of a pipeline.
    pub(super) fn in_pipeline(&self) -> bool {
        self.block.as_ref().is_none_or(|block| !block.explicit)
            && (self.piped || self.links.iter().any(|link| link.executed))
    }

    pub(super) async fn on_query(&mut self, body: &[u8]) -> Result<(), End> {
        if self.skipping() {
            return Ok(());
        }
        let Some((0, raw)) = body.split_last() else {
            self.flush_pending(None).await?;
            return self.end_query(Err(Report::error("08P01", "invalid string in message"))).await;
        };
        self.flush_pending(None).await?;
        if self.links.iter().any(|l| l.unsynced && !l.copying) {
            // Behind an error that is not known yet, this is skipped like the rest, until the Sync. (A DISCARD ALL of a pinned client
            // once asked a server that skipped, and waited for ever.)
            self.settle().await?;
        }
        if self.skipping() {
            return Ok(());
        }
        if raw.contains(&0) {
            return self.end_query(Err(Report::error("08P01", "invalid message format"))).await;
        }
        // A simple query destroys the unnamed statement and portal.
        self.client.forget_unnamed();
        self.forget_unnamed_portal();
        let lossy;
        let sql = match std::str::from_utf8(raw) {
            Ok(sql) => sql,
            Err(e) if self.db.sharded => {
                let report = Report::error("22021", "invalid byte sequence for encoding \"UTF8\"")
                    .detail(format!("The query string is not UTF-8 at byte {}.", e.valid_up_to() + 1));
                self.settle().await?;
                return self.end_query(Err(report)).await;
            }
            Err(_) => {
                // A plain pool only looks for what the session must know; the bytes go through as they are.
                lossy = String::from_utf8_lossy(raw).into_owned();
                &lossy
            }
        };
        self.see_own_schema().await?;
        let topology = self.topology();
        let statements = self.analyze(&topology, sql);
        if self.pools.settings.mode == pgherd_config::PoolMode::Statement
            && statements.iter().any(|s| matches!(s.template.kind, Kind::Begin(_)))
        {
            self.settle().await?;
            return self.end_query(Err(super::transaction::no_blocks())).await;
        }
        match &statements[..] {
            [statement] => self.query_one(raw, text_of(sql, statement), statement).await,
            // A server that does not know that the block has failed must not run the string.
            // Nor one that does not know what the session is to remember: asyncpg ends every use of a connection with such a string.
            _ if !self.db.sharded
                && !self.block.as_ref().is_some_and(|b| b.settings_changed)
                && !self.block.as_ref().is_some_and(|b| b.verdict)
                && !remembered(sql, &statements) =>
            {
                for statement in &statements {
                    let mut allowed = self.note_effect(&statement.template);
                    if matches!(statement.template.kind, Kind::Listen(_)) {
                        // With a COPY in it the string is a server's as a whole.
                        allowed = allowed.and_then(|()| self.pin(SessionEffect::Listen));
                    }
                    if matches!(
                        statement.template.kind,
                        Kind::Set(_)
                            | Kind::SetConfig(_)
                            | Kind::DiscardAll
                            | Kind::Prepare { .. }
                            | Kind::Execute { .. }
                            | Kind::Deallocate(_)
                    ) {
                        // What the string leaves in the session is not known statement by statement.
                        allowed = allowed.and_then(|()| self.pin(SessionEffect::Other));
                    }
                    if let Err(report) = allowed {
                        self.settle().await?;
                        return self.end_query(Err(report)).await;
                    }
                }
                let ddl = statements.iter().any(|s| s.template.ddl);
                self.relay_query(ShardId(0), raw, false, ddl).await
            }
            _ => self.query_many(sql, &statements).await,
        }
    }

    async fn query_one(&mut self, raw: &[u8], text: &str, statement: &Statement) -> Result<(), End> {
        let template = &*statement.template;
        if let Some(outcome) = self.local(text, template).await? {
            return self.end_query(outcome).await;
        }
        if let Some(report) = self.refuses_statements() {
            self.settle().await?;
            return self.end_query(Err(report)).await;
        }
        if self.listening.is_some() && template.effect == Some(SessionEffect::ListeningChannels) {
            self.settle().await?;
            let outcome = self.own_channels(text);
            return self.end_query(outcome).await;
        }
        match &template.kind {
            Kind::Execute { .. } => {
                return match self.execute_by_sql(text, template).await? {
                    Ok(()) => Ok(()),
                    Err(report) => self.end_query(Err(report)).await,
                };
            }
            Kind::SetConfig(calls) => {
                if let Some(report) = self.refuses_config() {
                    self.settle().await?;
                    return self.end_query(Err(report)).await;
                }
                let plan = as_each(Plan::One(ShardId(0)), Some(ShardId(0)));
                let outcome = self.run_plan(text, template, plan, Via::Simple).await?;
                if outcome.is_ok() {
                    self.note_config(calls, &[]);
                }
                return self.end_query(outcome).await;
            }
            _ => {}
        }
        let plan = if self.db.sharded {
            self.plan(statement, text, Params::default()).await?
        } else {
            Ok(Plan::One(ShardId(0)))
        };
        let plan = plan.and_then(|plan| match self.cursor_elsewhere(&template.kind, &plan) {
            Some(refusal) => Err(refusal),
            None => Ok(plan),
        });
        let plan = match plan {
            Ok(plan) => self.at_cursor(&template.kind, plan),
            Err(refusal) => {
                self.settle().await?;
                let report = self.worded_by_server(text, refused(refusal)).await?;
                return self.end_query(Err(report)).await;
            }
        };
        if let Some(report) = self.before_running(text, template) {
            self.settle().await?;
            return self.end_query(Err(report)).await;
        }
        let shard = match &plan {
            Plan::Any => Some(self.any_shard()),
            Plan::One(shard) => Some(*shard),
            _ => None,
        };
        if let Some(shard) = shard
            && self.block.is_none()
            && self.links.iter().any(|link| link.unsynced && link.shard != shard)
        {
            // The batch before it is on another shard: the Query is the end of both.
            match self.batch_to_block().await {
                Ok(()) => {}
                Err(LinkError::Refused(report)) => return self.end_query(Err(report)).await,
                Err(LinkError::End(end)) => return Err(end),
            }
        }
        match shard {
            // In a transaction of pgherd's own (a batch that reached several shards) the Query is its end, which no server
            // may announce by itself.
            Some(shard)
                if !(self.echo && template.effect == Some(SessionEffect::Notify)
                    || self.db.sharded && template.ddl)
                    && self.block.as_ref().is_none_or(|b| b.explicit) =>
            {
                for notice in &template.notices {
                    let report = Report::warning("01000", notice.as_str());
                    self.client.say(|o| report.write(o));
                }
                self.relay_query(shard, raw, template.read_only, template.ddl).await
            }
            _ => {
                if let Some(report) = copy_among_others(text, shard) {
                    return self.end_query(Err(report)).await;
                }
                let outcome = self.run_plan(text, template, as_each(plan, shard), Via::Simple).await?;
                self.end_query(outcome).await
            }
        }
    }

    /// A statement that pgherd refuses may be wrong for PostgreSQL as well: then it is PostgreSQL's error that is said.
    async fn worded_by_server(&mut self, text: &str, refusal: Report) -> Result<Report, End> {
        if refusal.sqlstate != "0A000" || self.links.iter().any(|l| l.unsynced) {
            return Ok(refusal);
        }
        let index = match self.link_for(ShardId(0)).await {
            Ok(index) => index,
            Err(LinkError::Refused(_)) => return Ok(refusal),
            Err(LinkError::End(end)) => return Err(end),
        };
        let link = &mut self.links[index];
        *link.captured = super::link::Captured { used: true, ..Default::default() };
        message::parse(&mut link.out, b"", text.as_bytes(), &[]);
        link.out.extend_from_slice(message::SYNC);
        link.server.state.unnamed = None;
        link.expects.push_back(Expect::Unit(super::Unit::Quiet));
        self.run_units(&[index]).await;
        let said = self.unit_result(index);
        self.purge_broken();
        Ok(match said {
            // Syntax errors and names that do not exist.
            Err(report) if report.sqlstate == "42P01" && self.db.names_elsewhere(text) => refusal,
            Err(report) if report.sqlstate.starts_with("42") && report.sqlstate != "42P02" => report,
            _ => refusal,
        })
    }

    /// What has to be known or refused before a statement runs, whatever its plan.
    pub(super) fn before_running(&mut self, text: &str, template: &Template) -> Option<Report> {
        if self.db.sharded {
            if template.effect == Some(SessionEffect::Other) {
                return Some(
                    Report::error("0A000", "cannot change the session of one server in a sharded database")
                        .detail("The statement changes something that lives in a server's session, and a session here has several servers.")
                        .hint("Use SET for settings, and SET LOCAL inside a transaction."),
                );
            }
            let starts_with = |word: &str| {
                text.trim_start().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            };
            if self.block.is_none() && starts_with("lock") {
                // A transaction of pgherd's own would take the locks and let them go at once.
                return Some(Report::error("25P01", "LOCK TABLE can only be used in transaction blocks"));
            }
            if let Some(block) = &mut self.block
                && !block.configured
                && text.to_ascii_lowercase().contains("set_config")
            {
                block.configured = true;
                if self.links.len() > 1 {
                    return block.refuses_second_shard(&self.settings, None);
                }
            }
            if let Some(block) = &mut self.block
                && !template.read_only
                && !block.notified
            {
                block.notified = starts_with("notify") || text.contains("pg_notify");
            }
        }
        match template.effect {
            Some(SessionEffect::ListeningChannels) if self.listening.is_some() => {
                return Some(super::listen::no_channels());
            }
            Some(SessionEffect::SequenceValue) => {
                let first = |link: &super::Link| link.shard == ShardId(0) && link.wrote;
                let drew = |block: &Block| block.drew || self.links.iter().any(first);
                let own = self.pinned.is_some() || self.block.as_ref().is_some_and(drew);
                if !own {
                    // The server's last nextval may have been another client's.
                    return Some(
                        Report::error("0A000", "currval and lastval cannot be called before nextval in the same transaction")
                            .detail("The value is what the server's session drew last, and between transactions other clients use that server.")
                            .hint("Use INSERT ... RETURNING, or one transaction for nextval and currval."),
                    );
                }
            }
            _ => return self.note_effect(template).err(),
        }
        None
    }

    /// A cursor's name is known on one shard; another shard would take it a second time.
    pub(super) fn cursor_elsewhere(&self, kind: &Kind, plan: &Plan) -> Option<Refusal> {
        let (Kind::Declare { name, .. }, Plan::One(shard)) = (kind, plan) else { return None };
        let taken = self.cursors.get(name).is_some_and(|declared| declared != shard);
        taken.then(|| {
            Refusal::unsupported(
                format!("cannot declare cursor \"{name}\" over several shards"),
                "A cursor of that name was declared on another shard in this transaction.",
                "Give it another name.",
            )
        })
    }

    /// A cursor lives on the shard where it was declared: FETCH, MOVE and CLOSE go there.
    pub(super) fn at_cursor(&mut self, kind: &Kind, plan: Plan) -> Plan {
        match kind {
            Kind::Declare { name, .. } => {
                if let Plan::One(shard) = plan {
                    self.cursors.insert(name.clone(), shard);
                }
                plan
            }
            Kind::Fetch { name } | Kind::CloseCursor { name: Some(name) } => {
                self.cursors.get(name).map_or(plan, |shard| Plan::One(*shard))
            }
            Kind::CloseCursor { name: None } => {
                let mut shards: Vec<ShardId> = self.cursors.values().copied().collect();
                shards.sort();
                shards.dedup();
                match shards[..] {
                    [] => plan,
                    [shard] => Plan::One(shard),
                    _ => Plan::Each(Each { shards, combine: Combine::Union, first_alone: false }),
                }
            }
            _ => plan,
        }
    }

    /// Sends the Query to one server; its replies pass through, up to and with ReadyForQuery.
    async fn relay_query(
        &mut self,
        shard: ShardId,
        raw: &[u8],
        read_only: bool,
        ddl: bool,
    ) -> Result<(), End> {
        match self.link_for(shard).await {
            Ok(index) => {
                self.send_query(index, raw, read_only, ddl);
                Ok(())
            }
            Err(LinkError::Refused(report)) => {
                self.settle().await?;
                self.end_query(Err(report)).await
            }
            Err(LinkError::End(end)) => Err(end),
        }
    }

    pub(super) fn send_query(&mut self, index: usize, raw: &[u8], read_only: bool, ddl: bool) {
        let link = &mut self.links[index];
        message::frame(&mut link.out, b'Q', |o| {
            o.extend_from_slice(raw);
            o.push(0);
        });
        link.server.state.unnamed = None;
        link.wrote |= !read_only;
        link.executed = false;
        link.expects.push_back(Expect::Query { ddl });
    }

    pub(super) fn forget_unnamed_portal(&mut self) {
        self.portals.remove(b"");
    }

    /// Several statements in one string, on a sharded database.
    async fn query_many(&mut self, sql: &str, statements: &[Statement]) -> Result<(), End> {
        self.settle().await?;
        if self.skipping() {
            return Ok(());
        }
        if self.block.is_none() && self.links.iter().any(|l| l.unsynced) {
            match self.batch_to_block().await {
                Ok(()) => {}
                Err(LinkError::Refused(report)) => return self.end_query(Err(report)).await,
                Err(LinkError::End(end)) => return Err(end),
            }
        }
        let unread = |statement: &Statement| !pgherd_router::planner::reads(text_of(sql, statement));
        if self.block.is_none()
            && statements.iter().any(unread)
            && let Some(report) = self.syntax_error(sql).await?
        {
            return self.end_query(Err(report)).await;
        }
        for statement in statements {
            let template = &*statement.template;
            let text = text_of(sql, statement);
            if template.kind == Kind::Empty {
                continue;
            }
            if self.block.is_none() && !matches!(template.kind, Kind::Begin(_)) {
                self.block = Some(Block::new(false, Default::default(), self.settings.clone()));
            }
            let outcome = match self.local(text, template).await? {
                Some(outcome) => outcome,
                None => self.many_step(text, statement).await?,
            };
            match outcome {
                Ok(tag) => self.client.say(|o| message::command_complete(o, &tag)),
                Err(mut report) => {
                    // The server was sent this one alone.
                    let before =
                        sql.get(..statement.at.start as usize).map_or(0, |text| text.chars().count());
                    report.shift_position(before as i64);
                    return self.end_query(Err(report)).await;
                }
            }
        }
        let outcome = self.end_implicit().await;
        if let Err(report) = outcome {
            self.client.say(|o| report.write(o));
        }
        if self.echo && self.block.is_none() {
            self.hear_itself().await;
        }
        self.say_ready();
        Ok(())
    }

    /// PostgreSQL reads a whole string before it runs the first statement of it: with a mistake at its end, nothing runs.
    async fn syntax_error(&mut self, sql: &str) -> Result<Option<Report>, End> {
        let index = match self.link_for(ShardId(0)).await {
            Ok(index) => index,
            Err(LinkError::Refused(report)) => return Ok(Some(report)),
            Err(LinkError::End(end)) => return Err(end),
        };
        let link = &mut self.links[index];
        *link.captured = super::link::Captured { used: true, ..Default::default() };
        message::parse(&mut link.out, b"", sql.as_bytes(), &[]);
        link.out.extend_from_slice(message::SYNC);
        link.server.state.unnamed = None;
        link.expects.push_back(Expect::Unit(super::Unit::Quiet));
        self.run_units(&[index]).await;
        // Read well, it says "cannot insert multiple commands into a prepared statement": 42601 too, but at no position.
        let placed = |error: &Vec<u8>| error.split(|byte| *byte == 0).any(|field| field.starts_with(b"P"));
        let mistaken = self.links[index].captured.error.as_ref().is_some_and(placed);
        let said = self.unit_result(index);
        self.purge_broken();
        Ok(said.err().filter(|report| mistaken && report.sqlstate == "42601"))
    }

    async fn many_step(&mut self, text: &str, statement: &Statement) -> Result<Result<String, Report>, End> {
        let template = &*statement.template;
        if let Some(report) = self.refuses_statements() {
            return Ok(Err(report));
        }
        match &template.kind {
            Kind::Execute { .. } => {
                let sql = match self.executable(text, template).await? {
                    Ok(sql) => sql,
                    Err(report) => return Ok(Err(report)),
                };
                let plan = as_each(Plan::One(ShardId(0)), Some(ShardId(0)));
                return self.run_plan(&sql, template, plan, Via::Simple).await;
            }
            Kind::SetConfig(calls) => {
                if let Some(report) = self.refuses_config() {
                    return Ok(Err(report));
                }
                let plan = as_each(Plan::One(ShardId(0)), Some(ShardId(0)));
                let outcome = self.run_plan(text, template, plan, Via::Simple).await?;
                if outcome.is_ok() {
                    self.note_config(calls, &[]);
                }
                return Ok(outcome);
            }
            _ => {}
        }
        self.see_own_schema().await?;
        let plan = if self.db.sharded {
            self.plan(statement, text, Params::default()).await?
        } else {
            Ok(Plan::One(ShardId(0)))
        };
        match plan {
            Ok(plan) => {
                if let Some(refusal) = self.cursor_elsewhere(&template.kind, &plan) {
                    return Ok(Err(refused(refusal)));
                }
                let plan = self.at_cursor(&template.kind, plan);
                if let Some(report) = self.before_running(text, template) {
                    return Ok(Err(report));
                }
                let shard = match &plan {
                    Plan::Any => Some(self.any_shard()),
                    Plan::One(shard) => Some(*shard),
                    _ => None,
                };
                if let Some(report) = copy_among_others(text, shard) {
                    return Ok(Err(report));
                }
                self.run_plan(text, template, as_each(plan, shard), Via::Simple).await
            }
            Err(refusal) => Ok(Err(refused(refusal))),
        }
    }

    /// Ends the transaction that pgherd itself began for a string or batch.
    pub(super) async fn end_implicit(&mut self) -> Result<(), Report> {
        if self.block.as_ref().is_none_or(|b| b.explicit) {
            return Ok(());
        }
        if self.client.failed {
            return self.roll_back().await;
        }
        self.commit().await.map(drop)
    }

    /// The last words of a Query that pgherd answers itself: tag or error, then ReadyForQuery.
    async fn end_query(&mut self, outcome: Result<String, Report>) -> Result<(), End> {
        self.settle().await?;
        match outcome {
            Ok(tag) if tag.is_empty() => self.client.push(message::EMPTY_QUERY),
            Ok(tag) => self.client.say(|o| message::command_complete(o, &tag)),
            Err(report) => {
                if self.block.as_ref().is_some_and(|b| b.explicit) {
                    self.fail_block();
                } else if self.block.is_some() {
                    let _ = self.roll_back().await;
                } else if self.links.iter().any(|l| l.unsynced) {
                    // The batch before it was not synchronised: an error takes it back as well.
                    match self.batch_to_block().await {
                        Ok(()) => drop(self.roll_back().await),
                        Err(LinkError::End(end)) => return Err(end),
                        Err(LinkError::Refused(_)) => self.links.clear(),
                    }
                }
                self.client.say(|o| report.write(o));
            }
        }
        if self.block.as_ref().is_some_and(|b| !b.explicit)
            && let Err(report) = self.end_implicit().await
        {
            self.client.say(|o| report.write(o));
        }
        if self.echo && self.block.is_none() {
            self.hear_itself().await;
        }
        self.say_ready();
        Ok(())
    }

    /// What a failed or broken transaction answers to everything but its end.
    pub(super) fn refuses_statements(&mut self) -> Option<Report> {
        if let Some(loss) = self.block.as_mut().and_then(|b| b.loss.take()).map(|loss| *loss) {
            return Some(loss);
        }
        (self.block.is_some() && self.client.failed).then(in_failed_block)
    }

    /// Statements that the session itself carries out: the tag or the error; `None`: not one of them. An empty tag
    /// stands for EmptyQueryResponse.
    pub(super) async fn local(
        &mut self,
        text: &str,
        template: &Template,
    ) -> Result<Option<Result<String, Report>>, End> {
        match &template.kind {
            Kind::Empty => {
                self.settle().await?;
                return Ok(Some(Ok(String::new())));
            }
            Kind::Begin(_)
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::Release(_) => {
                let outcome = self.control(&template.kind).await?;
                // START TRANSACTION is BEGIN by another name, and says so.
                let named = |tag: &'static str| match tag {
                    "BEGIN" if starts_with_start(text) => "START TRANSACTION".to_owned(),
                    tag => tag.to_owned(),
                };
                return Ok(outcome.map(|o| o.map(named)));
            }
            _ => {}
        }
        let local = matches!(
            template.kind,
            Kind::Set(_)
                | Kind::SetLocal
                | Kind::DiscardAll
                | Kind::Prepare { .. }
                | Kind::Deallocate(_)
                | Kind::Listen(_)
                | Kind::Unlisten(_)
        );
        let prepares = matches!(template.kind, Kind::Other)
            && self.block.as_ref().is_some_and(|block| !block.channels.is_empty())
            && prepares_transaction(text);
        if !local && !prepares {
            return Ok(None);
        }
        self.settle().await?;
        self.adopt_status();
        if let Some(report) = self.refuses_statements() {
            return Ok(Some(Err(report)));
        }
        // A planner's refusal comes before a server's opinion.
        if self.db.sharded {
            let topology = self.topology();
            if let Err(refusal) = template.plan(&topology, text, &[], Params::default()) {
                return Ok(Some(Err(refused(refusal))));
            }
        }
        if let Kind::Other = template.kind {
            // No server knows what it was to listen to. As every end that fails, it ends the block.
            self.control(&Kind::Rollback { chain: false }).await?;
            return Ok(Some(Err(Report::error(
                "0A000",
                "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY",
            ))));
        }
        if let Some((change, tag)) = Change::of(&template.kind) {
            let outcome = self.change_channels(change).await?;
            return Ok(Some(outcome.map(|()| tag.to_owned())));
        }
        let outcome = match &template.kind {
            Kind::Set(statement) => self.set(text, statement).await?.map(str::to_owned),
            Kind::SetLocal => self.set_local(text).await?,
            Kind::DiscardAll => {
                if self.in_pipeline() {
                    Err(Report::error("25001", format!("DISCARD ALL {WITHIN_PIPELINE}")))
                } else if self.block.is_some() {
                    Err(Report::error("25001", format!("DISCARD ALL {INSIDE_BLOCK}")))
                } else {
                    self.unlisten_all().await;
                    self.client.statements.clear();
                    let reported = *self.settings != *self.startup;
                    self.client.described.clear();
                    self.settings = self.startup.clone();
                    if self.pools.settings.mode == pgherd_config::PoolMode::Session {
                        self.discard_links().await;
                    } else if self.pinned.is_some() {
                        if self.discardable() {
                            self.discard_links().await;
                        } else {
                            // What the session held goes with its connections.
                            self.links.clear();
                            self.cancel.clear();
                        }
                        self.unpin();
                    }
                    // What a server reports of the settings that are back at their beginning is the client's to know now.
                    if reported && !self.db.sharded {
                        match self.link_for(ShardId(0)).await {
                            Ok(index) => self.run_units(&[index]).await,
                            Err(LinkError::End(end)) => return Err(end),
                            Err(LinkError::Refused(_)) => {}
                        }
                    }
                    Ok("DISCARD ALL".to_owned())
                }
            }
            Kind::Prepare { name, types, body } => {
                let types = text.get(types.start as usize..types.end as usize).unwrap_or("");
                self.prepare_by_sql(text, name, types, body.start as usize..body.end as usize).await?
            }
            Kind::Deallocate(None) => {
                self.client.statements.clear_named();
                self.client.described.clear();
                if self.pinned.is_some() {
                    for link in &mut self.links {
                        link.server.state.prepared.clear();
                    }
                    let all: Vec<usize> = (0..self.links.len()).collect();
                    for &i in &all {
                        self.links[i].send_unit("DEALLOCATE ALL", super::Unit::Quiet);
                    }
                    self.run_units(&all).await;
                    self.purge_broken();
                }
                Ok("DEALLOCATE ALL".to_owned())
            }
            Kind::Deallocate(Some(name)) => {
                if let Some(statement) = self.client.statements.remove(name.as_bytes()) {
                    self.client.forget_description(statement.id);
                    Ok("DEALLOCATE".to_owned())
                } else if self.pinned.is_some() {
                    // SQL PREPARE made it on the pinned server.
                    return Ok(None);
                } else {
                    Err(Report::error("26000", format!("prepared statement \"{name}\" does not exist")))
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(outcome))
    }
}

fn prepares_transaction(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let mut is = |word: &str| words.next().is_some_and(|found| found.eq_ignore_ascii_case(word));
    is("prepare") && is("transaction")
}

/// The first word, comments aside, is START: BEGIN cannot be followed by it.
fn starts_with_start(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphabetic())
        .find(|word| word.eq_ignore_ascii_case("start") || word.eq_ignore_ascii_case("begin"))
        .is_some_and(|word| word.eq_ignore_ascii_case("start"))
}

/// Behind comments, as the router reads it.
pub(super) fn first_word_is(text: &str, word: &str) -> bool {
    pgherd_router::lexer::tokens(text)
        .iter()
        .find(|token| token.kind != pgherd_router::lexer::TokenKind::Hint)
        .is_some_and(|token| token.text == word)
}

/// COPY of one shard's table, where pgherd says the answers itself: its data would have to pass between them, and here only
/// rows do.
fn copy_among_others(text: &str, shard: Option<ShardId>) -> Option<Report> {
    (shard.is_some() && first_word_is(text, "copy")).then(|| {
        refused(Refusal::unsupported(
            "cannot run COPY of one shard's table among other statements in a sharded database",
            "The statements before it in its string, or in its batch without a Sync, are a transaction that pgherd ends itself.",
            "Send it as a query of its own.",
        ))
    })
}

/// A string that changes what the session remembers of its settings and statements. With COPY in it, it is a server's as a
/// whole all the same: its data passes between the answers.
fn remembered(sql: &str, statements: &[Statement]) -> bool {
    let told = |s: &Statement| {
        matches!(
            s.template.kind,
            Kind::Set(_) | Kind::DiscardAll | Kind::Deallocate(_) | Kind::Listen(_) | Kind::Unlisten(_)
        )
    };
    (super::named::names(statements) || statements.iter().any(told))
        && !statements.iter().any(|s| first_word_is(text_of(sql, s), "copy"))
}

/// One server's plan as a fan of one, for what must be waited for.
pub(super) fn as_each(plan: Plan, shard: Option<ShardId>) -> Plan {
    match shard {
        Some(shard) => Plan::Each(Each { shards: vec![shard], combine: Combine::Union, first_alone: false }),
        None => plan,
    }
}

pub(super) fn text_of<'a>(sql: &'a str, statement: &Statement) -> &'a str {
    sql.get(statement.at.start as usize..statement.at.end as usize).unwrap_or(sql)
}
