//! Transactions over one shard and over several: BEGIN that waits for its first statement, savepoints on every
//! participant, and a commit that no proxy has to remember.
//!
//! Invariant: with two or more writers the deciding shard's own COMMIT is the decision. Before it, every other
//! writer is prepared; before the first PREPARE is sent, the decision row stands, uncommitted, on the deciding shard.
//! So a resolver that can insert that row itself knows that the owner is gone and nothing was decided (DESIGN.md section 7).
//!
//! Not here: finishing what a dead proxy left (`resolver`).

use std::sync::Arc;

use pgherd_router::Topology;
use pgherd_router::plan::{Begin, Isolation, Kind, SetStatement};
use pgherd_wire::message::{self, Report};

use super::link::{Expect, Unit};
use super::listen::Change;
use super::settings::{Settings, Value, literal};
use super::{End, LinkError, Session};
use crate::deadlock::Listing;
use crate::fault;
use crate::gid::Gid;

/// A transaction block: the client's own, or one that pgherd runs for a statement or batch that needs several shards.
pub struct Block {
    /// The client said BEGIN.
    pub explicit: bool,
    begin: Begin,
    /// What a shard that joins later is told after BEGIN.
    prologue: Vec<Prologue>,
    settings_before: Arc<Settings>,
    /// SET inside the block: a rollback takes it back.
    pub settings_changed: bool,
    /// LISTEN and UNLISTEN, in force when it has committed.
    pub channels: Vec<Change>,
    /// The schema was changed.
    pub ddl: bool,
    /// NOTIFY was said on the first shard: it cannot be prepared there, so that shard has to decide.
    pub notified: bool,
    /// set_config(..., true) was called: the setting is that one server's.
    pub configured: bool,
    /// A participant was lost: only ROLLBACK is possible.
    pub doomed: bool,
    /// pgherd itself said an error in it, which no server knows of: it has failed whatever they say.
    pub verdict: bool,
    /// What the next statement is told about that.
    pub loss: Option<Box<Report>>,
    /// The schema as this transaction sees it, when it changed it.
    pub topology: Option<Arc<Topology>>,
    /// The client's own COMMIT is on its way to its only server: see `now`.
    pub committing: bool,
    /// It was changed since `topology` was made.
    pub topology_stale: bool,
    /// One statement's, with one snapshot on each shard: the client knows nothing of it, and it may have several shards.
    pub of_one_statement: bool,
    /// It is on several shards: see [`crate::deadlock`].
    pub listing: Option<Listing>,
    /// Statements have run in it before it was a block: a participant may have a snapshot already.
    pub late: bool,
    /// All shards are joining, before the first of them takes its snapshot.
    pub joining: bool,
    /// Temporary tables were used there: that shard cannot prepare, so it has to decide.
    pub scratch: Option<pgherd_router::ShardId>,
    /// pgherd has drawn from sequences of the first shard in it: what `currval` says there is the client's.
    pub drew: bool,
    /// Every participant has its snapshot, all of one moment, and keeps it: no shard has to join any more.
    pub snapshot: bool,
    /// Savepoints so far, those included that are gone: a portal made behind one goes with it.
    pub marks: u64,
}

enum Prologue {
    Savepoint {
        name: String,
        /// It is the n-th.
        mark: u64,
        settings: Arc<Settings>,
        /// How many changes of channels came before it.
        channels: usize,
    },
    /// SET LOCAL, SET CONSTRAINTS, SET TRANSACTION
    Statement(String),
}

impl Block {
    pub fn new(explicit: bool, begin: Begin, settings: Arc<Settings>) -> Self {
        Self {
            explicit,
            begin,
            prologue: Vec::new(),
            settings_before: settings,
            settings_changed: false,
            channels: Vec::new(),
            ddl: false,
            notified: false,
            configured: false,
            doomed: false,
            verdict: false,
            loss: None,
            topology: None,
            topology_stale: false,
            committing: false,
            of_one_statement: false,
            listing: None,
            late: false,
            joining: false,
            scratch: None,
            drew: false,
            snapshot: false,
            marks: 0,
        }
    }

    /// pgherd's own, around one read of several relations: each shard shows all of them as of one moment, as PostgreSQL does. It
    /// makes temporary tables, which READ ONLY would forbid.
    pub fn of_one_statement(settings: Arc<Settings>) -> Self {
        let begin =
            Begin { isolation: Some(Isolation::RepeatableRead), read_only: Some(false), ..Begin::default() };
        Self { of_one_statement: true, ..Self::new(false, begin, settings) }
    }

    /// One that a query string began on a plain pool's server.
    pub fn adopted(settings: Arc<Settings>) -> Self {
        Self::new(true, Begin::default(), settings)
    }

    /// Nothing has happened in it that a statement would have to be told, or be kept from.
    pub fn plain(&self) -> bool {
        self.explicit
            && !self.doomed
            && !self.verdict
            && !self.committing
            && self.loss.is_none()
            && !self.topology_stale
    }

    /// Its COMMIT may go to its only server as it is: the session has nothing to do at its end.
    pub fn ends_by_itself(&self, settings: &Arc<Settings>) -> bool {
        self.plain() && !self.ddl && !self.settings_changed && Arc::ptr_eq(&self.settings_before, settings)
    }

    /// What makes a fresh server connection a participant.
    pub fn prologue_sql(&self) -> String {
        let mut sql = String::from("BEGIN");
        if let Some(isolation) = self.begin.isolation {
            sql.push_str(" ISOLATION LEVEL ");
            sql.push_str(match isolation {
                Isolation::ReadUncommitted => "READ UNCOMMITTED",
                Isolation::ReadCommitted => "READ COMMITTED",
                Isolation::RepeatableRead => "REPEATABLE READ",
                Isolation::Serializable => "SERIALIZABLE",
            });
        }
        if let Some(read_only) = self.begin.read_only {
            sql.push_str(if read_only { " READ ONLY" } else { " READ WRITE" });
        }
        if let Some(deferrable) = self.begin.deferrable {
            sql.push_str(if deferrable { " DEFERRABLE" } else { " NOT DEFERRABLE" });
        }
        for entry in &self.prologue {
            sql.push(';');
            match entry {
                Prologue::Savepoint { name, .. } => sql.push_str(&format!("SAVEPOINT {}", quoted(name))),
                Prologue::Statement(text) => sql.push_str(text),
            }
        }
        sql
    }

    /// Whether a second shard may not join: its snapshot would be of another moment.
    pub fn refuses_second_shard(&self, settings: &Settings, of_server: Option<&str>) -> Option<Report> {
        if self.configured {
            return Some(
                Report::error("0A000", "a transaction that called set_config cannot use more than one shard in a sharded database")
                    .detail("The setting is in force on one server only.")
                    .hint("Use SET LOCAL: it is carried to every shard."),
            );
        }
        if self.of_one_statement {
            return None;
        }
        match self.keeps_snapshot(settings, of_server) {
            Some(Isolation::Serializable) => Some(
                Report::error("0A000", "a SERIALIZABLE transaction cannot use more than one shard")
                    .detail("Each server knows only the conflicts among its own transactions.")
                    .hint("Use REPEATABLE READ or READ COMMITTED, or keep the transaction on the rows of one shard."),
            ),
            Some(_) if !self.joining => Some(
                Report::error("0A000", "a REPEATABLE READ transaction cannot use one more shard")
                    .detail("Its snapshots were taken without this shard.")
                    .hint("Use READ COMMITTED, or begin the transaction with BEGIN ISOLATION LEVEL REPEATABLE READ."),
            ),
            _ => None,
        }
    }

    /// One snapshot for all its statements. `None`: each of them has its own.
    pub fn keeps_snapshot(&self, settings: &Settings, of_server: Option<&str>) -> Option<Isolation> {
        let of = |level: &str| {
            if mentions(level, "committed") {
                None
            } else if mentions(level, "repeatable") {
                Some(Isolation::RepeatableRead)
            } else {
                // Whatever was written there that is not plainly another level counts.
                Some(Isolation::Serializable)
            }
        };
        match self.begin.isolation {
            Some(Isolation::ReadUncommitted | Isolation::ReadCommitted) => None,
            Some(level) => Some(level),
            None => match settings.get("default_transaction_isolation") {
                None => of_server.and_then(of),
                Some(value) => of(value.text()),
            },
        }
    }

    /// Nothing can be written in it: then there is nothing to agree on, and no decision row could be inserted.
    pub fn read_only(&self, settings: &Settings) -> bool {
        self.begin.read_only.unwrap_or_else(|| match settings.get("default_transaction_read_only") {
            None => false,
            Some(value) => ["on", "true", "yes", "1"].iter().any(|t| mentions(value.text(), t)),
        })
    }

    /// SET TRANSACTION inside the block.
    fn note_isolation(&mut self, text: &str, wrote: bool) {
        let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
        let says =
            |mode: &str| words.windows(2).any(|w| w[0] == "read" && w[1].trim_matches([',', ';']) == mode);
        if words.iter().any(|w| w == "transaction") {
            if says("only") && !wrote {
                self.begin.read_only = Some(true);
            } else if says("write") {
                self.begin.read_only = Some(false);
            }
        }
        if !mentions(text, "isolation") {
            return;
        }
        self.begin.isolation = Some(if mentions(text, "serializable") {
            Isolation::Serializable
        } else if mentions(text, "repeatable") {
            Isolation::RepeatableRead
        } else {
            Isolation::ReadCommitted
        });
    }

    fn savepoint_index(&self, name: &str) -> Option<usize> {
        self.prologue.iter().rposition(|e| matches!(e, Prologue::Savepoint { name: n, .. } if n == name))
    }
}

fn mentions(text: &str, word: &str) -> bool {
    text.to_ascii_lowercase().contains(word)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What the client is told at the end of a control statement.
pub type Outcome = Result<&'static str, Report>;

pub fn in_failed_block() -> Report {
    Report::error("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}

impl Session {
    /// What the constants of a statement are read under, here and now.
    pub(super) fn reading(&self) -> Vec<u8> {
        let mut reading = self.settings.reading();
        for step in self.block.iter().flat_map(|block| &block.prologue) {
            if let Prologue::Statement(sql) = step {
                reading.push(2);
                reading.extend_from_slice(sql.as_bytes());
                reading.push(0);
            }
        }
        reading
    }

    /// Runs BEGIN, COMMIT, SAVEPOINT and their kin: `None` when `kind` is none of them. Warnings go to the client here; the
    /// tag or the error is the caller's to say.
    pub(super) async fn control(&mut self, kind: &Kind) -> Result<Option<Outcome>, End> {
        let outcome = match kind {
            Kind::Begin(begin) => self.begin(begin).await?,
            Kind::Commit { chain } => self.end_block(true, *chain).await?,
            Kind::Rollback { chain } => self.end_block(false, *chain).await?,
            Kind::Savepoint(name) => self.savepoint(name).await?,
            Kind::Release(name) => self.release(name).await?,
            Kind::RollbackTo(name) => self.rollback_to(name).await?,
            _ => return Ok(None),
        };
        if outcome.is_err() {
            self.fail_block();
        }
        Ok(Some(outcome))
    }

    async fn begin(&mut self, begin: &Begin) -> Result<Outcome, End> {
        self.settle().await?;
        self.adopt_status();
        if self.pools.settings.mode == pgherd_config::PoolMode::Statement {
            return Ok(Err(no_blocks()));
        }
        if self.block.is_none() && self.links.iter().any(|l| l.unsynced) {
            // BEGIN in a pipeline takes what ran before it in.
            if let Err(e) = self.batch_to_block().await {
                return match e {
                    LinkError::Refused(report) => Ok(Err(report)),
                    LinkError::End(end) => Err(end),
                };
            }
        }
        match &mut self.block {
            Some(_) if self.client.failed => return Ok(Err(in_failed_block())),
            Some(block) if block.explicit => {
                let warning = Report::warning("25001", "there is already a transaction in progress");
                self.client.say(|o| warning.write(o));
            }
            Some(block) => block.explicit = true,
            None => self.block = Some(Block::new(true, begin.clone(), self.settings.clone())),
        }
        Ok(Ok("BEGIN"))
    }

    /// The batch of extended messages that ran on one link without a Sync becomes a transaction block: PostgreSQL lets
    /// BEGIN take in what its implicit transaction did before.
    pub(super) async fn batch_to_block(&mut self) -> Result<(), LinkError> {
        self.settle().await?;
        if self.skipping() {
            // The batch has failed meanwhile: its server takes in nothing before the Sync, and the client is told already.
            return Err(LinkError::Refused(in_failed_block()));
        }
        if self.block.is_some() {
            return Ok(());
        }
        let indices: Vec<usize> = (0..self.links.len()).filter(|&i| self.links[i].unsynced).collect();
        if self.db.sharded && self.pass.is_none() {
            self.pass = match self.pools.gate.try_enter() {
                Some(pass) => Some(pass),
                None => Some(self.wait_for(Box::pin(self.pools.clone().enter())).await?),
            };
        }
        for &i in &indices {
            let link = &mut self.links[i];
            message::parse(&mut link.out, b"", b"BEGIN", &[]);
            // One of the same batch may be there still.
            message::close(&mut link.out, b'P', b"pgherd_begin");
            message::bind(&mut link.out, b"pgherd_begin", b"", &[], &[], &[]);
            message::execute(&mut link.out, b"pgherd_begin", 0);
            link.out.extend_from_slice(message::FLUSH);
            link.server.state.unnamed = None;
            link.expects.push_back(Expect::Own { prepares: None });
        }
        self.run_units(&indices).await;
        for &i in &indices {
            self.links[i].in_block = true;
            // No ReadyForQuery has said so yet.
            self.links[i].status = b'T';
        }
        self.piped |= indices.iter().any(|&i| self.links[i].executed);
        let mut block = Block::new(false, Begin::default(), self.settings.clone());
        block.late = true;
        self.block = Some(block);
        self.after_replies()?;
        Ok(())
    }

    /// Brings links out of an extended batch: only inside a block, where Sync ends no transaction.
    pub(super) fn sync_links(&mut self) {
        for link in &mut self.links {
            if link.unsynced || link.skipping {
                self.piped |= link.executed;
                link.out.extend_from_slice(message::SYNC);
                link.expects.push_back(Expect::Unit(Unit::Quiet));
                link.unsynced = false;
                link.executed = false;
                link.skipping = false;
                link.flush_asked = false;
            }
        }
    }

    async fn savepoint(&mut self, name: &str) -> Result<Outcome, End> {
        if let Err(report) = self.ready_for_subtransaction("SAVEPOINT").await? {
            return Ok(Err(report));
        }
        if self.client.failed {
            return Ok(Err(in_failed_block()));
        }
        if let Err(report) = self.on_participants(&format!("SAVEPOINT {}", quoted(name))).await {
            return Ok(Err(report));
        }
        let settings = self.settings.clone();
        if let Some(block) = &mut self.block {
            let channels = block.channels.len();
            block.marks += 1;
            let mark = block.marks;
            block.prologue.push(Prologue::Savepoint { name: name.to_owned(), mark, settings, channels });
        }
        Ok(Ok("SAVEPOINT"))
    }

    async fn release(&mut self, name: &str) -> Result<Outcome, End> {
        if let Err(report) = self.ready_for_subtransaction("RELEASE SAVEPOINT").await? {
            return Ok(Err(report));
        }
        if self.client.failed {
            return Ok(Err(in_failed_block()));
        }
        let Some(at) = self.block.as_ref().and_then(|b| b.savepoint_index(name)) else {
            return Ok(Err(no_savepoint(name)));
        };
        if let Err(report) = self.on_participants(&format!("RELEASE SAVEPOINT {}", quoted(name))).await {
            return Ok(Err(report));
        }
        if let Some(block) = &mut self.block {
            // The savepoints go, what was SET stays.
            let mut index = 0;
            block.prologue.retain(|entry| {
                index += 1;
                index - 1 < at || matches!(entry, Prologue::Statement(_))
            });
        }
        Ok(Ok("RELEASE"))
    }

    async fn rollback_to(&mut self, name: &str) -> Result<Outcome, End> {
        if let Err(report) = self.ready_for_subtransaction("ROLLBACK TO SAVEPOINT").await? {
            return Ok(Err(report));
        }
        if let Some(block) = &self.block
            && block.doomed
        {
            return Ok(Err(Report::error(
                "25P02",
                "the transaction lost one of its servers and can only be rolled back",
            )));
        }
        let Some(at) = self.block.as_ref().and_then(|b| b.savepoint_index(name)) else {
            return Ok(Err(no_savepoint(name)));
        };
        if let Err(report) = self.on_participants(&format!("ROLLBACK TO SAVEPOINT {}", quoted(name))).await {
            return Ok(Err(report));
        }
        self.client.failed = false;
        let mut restored = None;
        let mut mark = None;
        if let Some(block) = &mut self.block {
            block.verdict = false;
            block.topology_stale |= block.ddl;
            block.prologue.truncate(at + 1);
            if let Some(Prologue::Savepoint { settings, channels, mark: of, .. }) = block.prologue.last() {
                mark = Some(*of);
                restored = Some(settings.clone());
                block.channels.truncate(*channels);
            }
        }
        if let Some(mark) = mark {
            self.end_portals_behind(mark);
        }
        if let Some(settings) = restored
            && *settings != *self.settings
        {
            self.settings = settings;
            // A shard that joined after the SET has it from before its BEGIN, where no rollback reaches: set all anew.
            let sql = self.settings.sql_from(None);
            if let Err(report) = self.on_participants(&sql).await {
                return Ok(Err(report));
            }
        }
        Ok(Ok("ROLLBACK"))
    }

    async fn ready_for_subtransaction(&mut self, what: &str) -> Result<Result<(), Report>, End> {
        self.settle().await?;
        self.adopt_status();
        if self.block.as_ref().is_some_and(|b| b.explicit) {
            self.sync_links();
            return Ok(Ok(()));
        }
        Ok(Err(Report::error("25P01", format!("{what} can only be used in transaction blocks"))))
    }

    /// Runs a control statement on every participant: all of them, or the first error.
    pub(super) async fn on_participants(&mut self, sql: &str) -> Result<(), Report> {
        let indices: Vec<usize> = (0..self.links.len()).filter(|&i| self.links[i].in_block).collect();
        for &i in &indices {
            self.links[i].send_unit(sql, Unit::Quiet);
        }
        self.run_units(&indices).await;
        let mut result = Ok(());
        for &i in &indices {
            if let Err(report) = self.unit_result(i)
                && result.is_ok()
            {
                result = Err(report);
            }
        }
        self.purge_broken();
        result
    }

    /// Drops links that broke under a unit; the block cannot commit any more.
    pub(super) fn purge_broken(&mut self) {
        let mut lost = false;
        self.links.retain(|l| {
            lost |= l.broken.is_some();
            l.broken.is_none()
        });
        if lost {
            self.cancel.set(self.links.iter().map(|l| l.server.cancel.clone()));
            if let Some(block) = &mut self.block {
                block.doomed = true;
                self.client.failed = true;
            }
        }
    }

    /// COMMIT or ROLLBACK of the client.
    async fn end_block(&mut self, commit: bool, chain: bool) -> Result<Outcome, End> {
        self.settle().await?;
        self.adopt_status();
        let word = if commit { "COMMIT" } else { "ROLLBACK" };
        match &self.block {
            Some(block) if block.explicit => {}
            _ if chain => {
                let why = format!("{word} AND CHAIN can only be used in transaction blocks");
                return Ok(Err(Report::error("25P01", why)));
            }
            implicit => {
                let implicit = implicit.is_some();
                let warning = Report::warning("25P01", "there is no transaction in progress");
                self.client.say(|o| warning.write(o));
                if implicit || self.links.iter().any(|l| l.unsynced) {
                    // In a pipeline or query string it ends the implicit transaction.
                    if self.block.is_none()
                        && let Err(LinkError::End(end)) = self.batch_to_block().await
                    {
                        return Err(end);
                    }
                } else {
                    return Ok(Ok(word));
                }
            }
        }
        let begin = self.block.as_ref().map(|b| b.begin.clone()).unwrap_or_default();
        let outcome = if commit { self.commit().await } else { self.roll_back().await.map(|()| "ROLLBACK") };
        if chain && outcome.is_ok() {
            self.block = Some(Block::new(true, begin, self.settings.clone()));
        }
        Ok(outcome)
    }

    /// More of the client's messages stand behind a COMMIT that is its server's to answer: first it has to be known how that ended.
    pub(super) async fn see_commit(&mut self) -> Result<(), End> {
        self.settle().await?;
        self.adopt_status();
        if self.block.as_ref().is_some_and(|b| b.committing) && !self.skipping() {
            // CommandComplete has come, ReadyForQuery only comes with the Sync.
            self.block = None;
            self.client.failed = false;
            for link in &mut self.links {
                link.in_block = false;
                link.wrote = false;
            }
        }
        Ok(())
    }

    /// Ends the block, for good: committed with `Ok("COMMIT")`, rolled back with `Ok("ROLLBACK")` or an error.
    ///
    /// # Errors
    /// What the server said, or 08007 when the outcome is not known.
    pub(super) async fn commit(&mut self) -> Outcome {
        if self.client.failed || self.block.as_ref().is_some_and(|b| b.doomed) {
            // Not this: the tag alone. A server lost between two statements was no news to the client yet, and
            // drivers take COMMIT for done unless it is answered with an error.
            let untold = self.block.as_mut().and_then(|b| b.loss.take()).map(|loss| *loss);
            self.roll_back().await?;
            return untold.map_or(Ok("ROLLBACK"), |loss| {
                let detail = "A server that took part was lost; the transaction is rolled back.";
                Err(loss.detail(detail).hint("Run the transaction again."))
            });
        }
        self.sync_links();
        // As it was at BEGIN: a transaction may write, and be declared read-only afterwards.
        let read_only = self.block.as_ref().is_some_and(|b| b.read_only(&b.settings_before));
        let writers: Vec<usize> = (0..self.links.len())
            .filter(|&i| self.links[i].in_block && self.links[i].wrote && !read_only)
            .collect();
        let changes = self.block.as_mut().map(|b| std::mem::take(&mut b.channels)).unwrap_or_default();
        let promise = match self.promise(&changes).await {
            Ok(promise) => promise,
            Err(report) => {
                self.roll_back().await?;
                return Err(report);
            }
        };
        let outcome = if writers.len() >= 2 {
            self.commit_writers(&writers).await
        } else {
            self.commit_one(&writers).await
        };
        let committed = matches!(outcome, Ok("COMMIT"));
        self.redeem(promise, committed);
        self.block_ended(committed).await;
        outcome
    }

    /// At most one writer: its own COMMIT is the transaction's; the others only give up their snapshots.
    async fn commit_one(&mut self, writers: &[usize]) -> Outcome {
        let all: Vec<usize> = (0..self.links.len()).filter(|&i| self.links[i].in_block).collect();
        for &i in &all {
            self.links[i].send_unit("COMMIT", Unit::Quiet);
        }
        fault::point("commit.single.sent");
        self.run_units(&all).await;
        let Some(&judge) = writers.first().or(all.first()) else { return Ok("COMMIT") };
        if self.links[judge].broken.is_some() && !writers.is_empty() {
            return Err(outcome_unknown());
        }
        match self.unit_result(judge)?.as_deref() {
            Some("COMMIT") => Ok("COMMIT"),
            _ => Ok("ROLLBACK"),
        }
    }

    /// Two-phase commit with a deciding shard (DESIGN.md section 7).
    async fn commit_writers(&mut self, writers: &[usize]) -> Outcome {
        let mut writers = writers.to_vec();
        if self.pinned.is_some() || self.block.as_ref().is_some_and(|b| b.notified) {
            // What pins (temporary tables, LISTEN) is on the first shard, and cannot be prepared: it had better decide.
            writers.sort_by_key(|&i| self.links[i].shard);
        }
        if let Some(scratch) = self.block.as_ref().and_then(|b| b.scratch) {
            writers.sort_by_key(|&i| self.links[i].shard != scratch);
        }
        let (decider, others) = (writers[0], &writers[1..]);
        let readers: Vec<usize> =
            (0..self.links.len()).filter(|&i| self.links[i].in_block && !self.links[i].wrote).collect();
        let plain_gid =
            Gid::new(&self.db.cluster(), self.db.shard_name(self.links[decider].shard)).to_string();
        let gid = literal(&plain_gid);

        // 1. The decision row, uncommitted: from now on a resolver that asks is kept waiting.
        // On disk before anybody carries it out, even where synchronous_commit is off: a server that is killed must not
        // forget what it decided.
        // What is deferred to the COMMIT is checked now, as PREPARE does it on the others: the COMMIT itself then waits for nobody.
        let decision = format!(
            "SET CONSTRAINTS ALL IMMEDIATE; INSERT INTO pgherd.decisions (gid) SELECT {gid} WHERE pg_catalog.current_setting('synchronous_commit') <> 'off' \
             OR pg_catalog.set_config('synchronous_commit', 'local', true) IS NOT NULL"
        );
        self.links[decider].send_unit(&decision, Unit::Quiet);
        fault::point("commit.decision.sent");
        self.run_units(&[decider]).await;
        if let Err(report) = self.unit_result(decider) {
            let _ = self.roll_back_participants(&[]).await;
            return Err(report);
        }
        fault::point("commit.decision.done");

        // 2. The other writers promise.
        for (n, &i) in others.iter().enumerate() {
            self.links[i].send_unit(&format!("PREPARE TRANSACTION {gid}"), Unit::Quiet);
            if n == 0 && fault::armed("commit.prepare.one") {
                self.run_units(&[i]).await;
                fault::point("commit.prepare.one");
            }
        }
        if fault::armed("commit.prepare.sent") {
            self.flush_links(others).await;
            fault::point("commit.prepare.sent");
        }
        self.run_units(others).await;
        let mut refusal = None;
        let mut prepared = Vec::new();
        for &i in others {
            match self.unit_result(i) {
                Ok(Some(tag)) if tag == "PREPARE TRANSACTION" => {
                    self.links[i].in_block = false;
                    prepared.push(i);
                }
                // A failed transaction answers ROLLBACK.
                Ok(_) => {
                    self.links[i].in_block = false;
                    refusal.get_or_insert_with(in_failed_block);
                }
                Err(report) => {
                    self.links[i].in_block = false;
                    refusal.get_or_insert(report);
                }
            }
        }
        if let Some(report) = refusal {
            for &i in &prepared {
                self.links[i].send_unit(&format!("ROLLBACK PREPARED {gid}"), Unit::Quiet);
            }
            // A participant that was lost may have prepared all the same: the resolver finds no decision and rolls it back.
            let _ = self.roll_back_participants(&prepared).await;
            return Err(report);
        }
        fault::point("commit.prepare.done");

        // 3. The decision. From here until it is carried out everywhere nobody takes snapshots of several shards.
        let _leave = self.db.moment.clone().commit().await;
        self.links[decider].send_unit("COMMIT", Unit::Quiet);
        for &i in &readers {
            self.links[i].send_unit("COMMIT", Unit::Quiet);
        }
        if fault::armed("commit.decide.sent") {
            self.flush_links(&[decider]).await;
            fault::point("commit.decide.sent");
        }
        self.run_units(&[decider]).await;
        let decided = match self.unit_result(decider) {
            Ok(Some(tag)) if tag == "COMMIT" => true,
            Ok(_) => false,
            Err(_) if self.links[decider].broken.is_some() => {
                // Nobody here knows; the resolver will, and finishes the prepared ones either way.
                for &i in &writers {
                    self.db.moment.unsettle(self.db.shard_name(self.links[i].shard));
                }
                self.db.resolve_soon();
                return Err(outcome_unknown());
            }
            Err(report) => {
                for &i in &prepared {
                    self.links[i].send_unit(&format!("ROLLBACK PREPARED {gid}"), Unit::Quiet);
                }
                let _ = self.roll_back_participants(&prepared).await;
                return Err(report);
            }
        };
        fault::point("commit.decide.done");

        // 4. The others carry it out. Whatever happens to them now, the resolver finishes it the same way.
        let verb = if decided { "COMMIT" } else { "ROLLBACK" };
        for (n, &i) in prepared.iter().enumerate() {
            self.links[i].send_unit(&format!("{verb} PREPARED {gid}"), Unit::Quiet);
            if n == 0 && fault::armed("commit.finish.one") {
                self.run_units(&[i]).await;
                fault::point("commit.finish.one");
            }
        }
        if fault::armed("commit.finish.sent") {
            self.flush_links(&prepared).await;
            fault::point("commit.finish.sent");
        }
        let all: Vec<usize> = prepared.iter().chain(&readers).copied().collect();
        self.run_units(&all).await;
        let mut finished = true;
        for &i in &prepared {
            if let Err(report) = self.unit_result(i) {
                // undefined_object: a resolver was faster, and there is but one way to finish it.
                if report.sqlstate == "42704" {
                    continue;
                }
                finished = false;
                self.db.moment.unsettle(self.db.shard_name(self.links[i].shard));
                tracing::warn!(
                    shard = %self.db.shard_name(self.links[i].shard),
                    error = %report.message,
                    "a decided transaction is left to the resolver",
                );
            }
        }
        fault::point("commit.finish.done");
        if finished {
            if decided {
                self.db.forget_decision(self.links[decider].shard, plain_gid);
            }
        } else {
            self.db.resolve_soon();
            if decided {
                let warning = Report::warning(
                    "01000",
                    "the transaction is committed, but not yet visible on every shard",
                )
                .detail(
                    "A server was lost after the decision; the resolver finishes the commit when it is back.",
                );
                self.client.say(|o| warning.write(o));
            }
        }
        Ok(if decided { "COMMIT" } else { "ROLLBACK" })
    }

    /// Writes out what waits for the given links, without reading: for faults that strike on the way.
    async fn flush_links(&mut self, indices: &[usize]) {
        std::future::poll_fn(|cx| {
            for &i in indices {
                self.links[i].poll_flush(cx);
            }
            std::task::Poll::Ready(())
        })
        .await;
    }

    pub(super) async fn roll_back(&mut self) -> Result<(), Report> {
        self.sync_links();
        let result = self.roll_back_participants(&[]).await;
        self.block_ended(false).await;
        result
    }

    /// ROLLBACK wherever a transaction is open; `also`: links with something of their own under way.
    async fn roll_back_participants(&mut self, also: &[usize]) -> Result<(), Report> {
        let mut indices: Vec<usize> = also.to_vec();
        for i in 0..self.links.len() {
            if self.links[i].in_block && self.links[i].broken.is_none() {
                self.links[i].send_unit("ROLLBACK", Unit::Quiet);
                indices.push(i);
            }
        }
        self.run_units(&indices).await;
        for &i in &indices {
            // A server that cannot roll back is dropped by whoever sees its status; the rollback stands.
            let _ = self.unit_result(i);
        }
        Ok(())
    }

    async fn block_ended(&mut self, committed: bool) {
        self.client.failed = false;
        self.client.holder = None;
        let block = self.block.take();
        for link in &mut self.links {
            link.in_block = false;
            link.wrote = false;
        }
        self.links.retain(|l| l.broken.is_none());
        if let Some(block) = block {
            if committed {
                if block.settings_changed {
                    for link in &mut self.links {
                        link.server.state.settings = Some(self.settings.clone());
                    }
                }
            } else if block.settings_changed || *block.settings_before != *self.settings {
                self.settings = block.settings_before.clone();
                for link in &mut self.links {
                    link.server.state.settings = None;
                }
            }
            if block.ddl {
                // Rolled back as well: what was prepared inside is of a schema that never was.
                self.db.schema_changed();
            }
            if block.ddl && committed {
                self.db.refresh().await;
            }
        }
        match self.pinned {
            None => {
                self.release_all();
                self.card.stand.clear();
            }
            Some(_) => self.end_portals(),
        }
    }

    /// SET and RESET of the client: validated by a server, then remembered.
    pub(super) async fn set(
        &mut self,
        text: &str,
        statement: &SetStatement,
    ) -> Result<Result<&'static str, Report>, End> {
        if let SetStatement::Set { name, .. } | SetStatement::Reset { name } = statement
            && name.starts_with("pgherd.")
        {
            // A server would take it for a setting of an extension, and nothing would come of it.
            let report = Report::error("0A000", format!("setting \"{name}\" is not supported yet"))
                .hint("To name a shard by hand, write /* pgherd: shard=NAME */ in the statement.");
            return Ok(Err(report));
        }
        if let SetStatement::Set { name, value: Some(value) } = statement
            && name == "client_encoding"
            && self.listening.is_some()
            && !super::settings::is_utf8(value)
        {
            let report = Report::error("0A000", "cannot change client_encoding while the session listens")
                .detail("Notifications come in UTF8.")
                .hint("UNLISTEN * first.");
            return Ok(Err(report));
        }
        if let Err(e) = self.take_batch_in().await {
            return match e {
                LinkError::Refused(report) => Ok(Err(report)),
                LinkError::End(end) => Err(end),
            };
        }
        // A server's own RESET would go back to what pgherd logged in with.
        let sql = self.reset_sql(text, statement);
        let participants = self.links.iter().any(|l| l.in_block);
        let target = if participants {
            self.sync_links();
            (0..self.links.len()).filter(|&i| self.links[i].in_block).collect::<Vec<_>>()
        } else {
            match self.link_to(self.any_shard()).await {
                Ok(index) => {
                    self.sync_links();
                    vec![index]
                }
                Err(LinkError::Refused(report)) => return Ok(Err(report)),
                Err(LinkError::End(end)) => return Err(end),
            }
        };
        for &i in &target {
            self.links[i].send_unit(&sql, Unit::Quiet);
        }
        self.run_units(&target).await;
        let mut result = Ok(());
        for &i in &target {
            if let Err(report) = self.unit_result(i)
                && result.is_ok()
            {
                result = Err(report);
            }
        }
        if result.is_ok() {
            let mut next = self.settings.after(statement, &self.startup);
            if matches!(statement, SetStatement::Set { name, value: Some(_) } if name == "datestyle")
                && let Some(whole) = self.client.parameter("DateStyle")
            {
                // A part of it may be as it was: on another server it would be that server's.
                next.put("datestyle", Value::Raw(whole.into()));
            }
            self.settings = Arc::new(next);
            match &mut self.block {
                Some(block) => block.settings_changed = true,
                None => {
                    for &i in &target {
                        self.links[i].server.state.settings = Some(self.settings.clone());
                    }
                }
            }
        } else if self.block.is_none() {
            for &i in &target {
                self.links[i].server.state.settings = None;
            }
        }
        self.purge_broken();
        let tag = if matches!(statement, SetStatement::Set { .. }) { "SET" } else { "RESET" };
        Ok(result.map(|()| tag))
    }

    /// SET in a pipeline belongs to the transaction of what ran before it there, and is taken back with it.
    async fn take_batch_in(&mut self) -> Result<(), LinkError> {
        self.settle().await?;
        if self.block.is_none() && self.links.iter().any(|l| l.unsynced) {
            self.batch_to_block().await?;
        }
        Ok(())
    }

    /// RESET goes back to what the client said at startup, which no server knows.
    fn reset_sql(&self, text: &str, statement: &SetStatement) -> String {
        let nothing = Settings::default();
        match statement {
            SetStatement::Set { name, value: None } | SetStatement::Reset { name } => {
                let Some(value) = self.startup.get(name) else { return text.to_owned() };
                let mut one = Settings::default();
                one.put(name, value.clone());
                one.sql_from(Some(&nothing))
            }
            SetStatement::ResetAll => format!("RESET ALL;{}", self.startup.sql_from(Some(&nothing))),
            SetStatement::Set { .. } => text.to_owned(),
        }
    }

    /// SET LOCAL, SET CONSTRAINTS, SET TRANSACTION: on every participant, and on those that join later.
    pub(super) async fn set_local(&mut self, text: &str) -> Result<Result<String, Report>, End> {
        let pipelined = self.in_pipeline();
        if let Err(e) = self.take_batch_in().await {
            return match e {
                LinkError::Refused(report) => Ok(Err(report)),
                LinkError::End(end) => Err(end),
            };
        }
        if !self.links.iter().any(|l| l.in_block)
            && let Err(e) = self.link_to(self.any_shard()).await
        {
            return match e {
                LinkError::Refused(report) => Ok(Err(report)),
                LinkError::End(end) => Err(end),
            };
        }
        self.sync_links();
        let in_block = self.block.is_some();
        let indices: Vec<usize> =
            (0..self.links.len()).filter(|&i| self.links[i].in_block || !in_block).collect();
        for &i in &indices {
            self.links[i].send_unit(text, Unit::Quiet);
        }
        self.run_units(&indices).await;
        let mut tag = String::from("SET");
        let mut result = Ok(());
        for &i in &indices {
            match self.unit_result(i) {
                Ok(said) => tag = said.unwrap_or(tag),
                Err(report) if result.is_ok() => result = Err(report),
                Err(_) => {}
            }
        }
        let wrote = self.links.iter().any(|l| l.in_block && l.wrote);
        if result.is_ok()
            && let Some(block) = &mut self.block
        {
            block.note_isolation(text, wrote);
            block.prologue.push(Prologue::Statement(text.trim().trim_end_matches(';').to_owned()));
        }
        self.purge_broken();
        // A batch is no block, however many statements it has, and a string is one.
        if result.is_ok() && self.block.as_ref().is_none_or(|block| !block.explicit && pipelined) {
            // The server said so too, to us.
            let what = match text.split_ascii_whitespace().nth(1).map(str::to_ascii_uppercase).as_deref() {
                Some("LOCAL") => "SET LOCAL",
                Some("CONSTRAINTS") => "SET CONSTRAINTS",
                _ => "SET TRANSACTION",
            };
            let warning = Report::warning("25P01", format!("{what} can only be used in transaction blocks"));
            self.client.say(|o| warning.write(o));
        }
        Ok(result.map(|()| tag))
    }
}

/// pool.mode = "statement"
pub(super) fn no_blocks() -> Report {
    Report::error("0A000", "transaction blocks are not allowed in statement pooling mode")
        .hint("Ask for the pool mode \"transaction\", or send the statements without BEGIN.")
}

fn no_savepoint(name: &str) -> Report {
    Report::error("3B001", format!("savepoint \"{name}\" does not exist"))
}

pub(super) fn outcome_unknown() -> Report {
    Report::error("08007", "the outcome of the transaction is not known")
        .detail("The server that decides it was lost while it was committing.")
        .hint("Check whether the changes are there before sending them again.")
}
