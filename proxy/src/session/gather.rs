//! One server finishes the work: rows of sharded tables are pulled to it, into temporary tables, and the statement runs there.
//!
//! Invariants:
//! - The statement's own text is read by PostgreSQL before anything is pulled: its mistakes are said as it says them, and the
//!   types of parameters and columns are those of the real tables.
//! - What is pulled belongs to the client's transaction: the links are its own, its uncommitted rows are seen, and a failure fails it.
//!   Outside a transaction it is one of pgherd's own, in which each shard has one snapshot; in a READ COMMITTED transaction the rows
//!   are read from portals, opened at one moment ([`Session::open_portals`]).
//! - Nothing is left behind: the tables go with the statement, or with its transaction.
//! - Memory is what is on its way ([`ON_THE_WAY_BYTES`]); what the statement may need is limited by `gather.rows_max` and
//!   `gather.bytes_max`.
//!
//! Not here: which rows are needed (the planner's `gather`).

use std::future::poll_fn;
use std::task::Poll;

use pgherd_router::ShardId;
use pgherd_router::plan::{Answer, Explain, GATHER_TABLES, Gather, Kind, Pull, Template};
use pgherd_wire::message::{self, Report};

use super::fan::{Via, format_of};
use super::link::{Expect, Unit};
use super::snapshot::{Moment, overtaken};
use super::transaction::Block;
use super::{End, LinkError, Session};

/// Bytes waiting for the scratch server beyond which no more rows are read from the others.
const ON_THE_WAY_BYTES: usize = 256 * 1024;

/// Rows that the scratch server sends before it takes them in again.
const PIECE_ROWS: u32 = 1_000;

/// How often the portals of a gather are opened before it is given up; between the first and the last of a shard are some 100 us.
const PORTAL_ATTEMPTS_MAX: usize = 50;

/// Two that are the same: nothing was committed between them.
const SNAPSHOT: &str = "SELECT pg_catalog.txid_current_snapshot()";

/// Signature, flags, no extension (copyto.c).
const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const BINARY_TRAILER: &[u8] = &[0xff, 0xff];

/// Type OIDs from here on are each server's own.
const FIRST_OF_USERS: u32 = 16_384;

/// How the rows of one table came in.
enum Flow {
    Done,
    /// The scratch server or a source said an error, or was lost.
    Failed,
    TooMuch(Box<Report>),
    Gone,
}

/// What the client bound.
#[derive(Default)]
struct Bound<'a> {
    formats: Vec<u16>,
    values: Vec<Option<&'a [u8]>>,
    results: Vec<u16>,
    types: Vec<u32>,
}

impl Session {
    /// Like `run_plan`: rows go to the client, the tag or the error is the caller's to say. Nothing is owed by any link.
    pub(super) async fn gather(
        &mut self,
        text: &str,
        template: &Template,
        gather: &Gather,
        via: Via<'_>,
    ) -> Result<Result<String, Report>, End> {
        let simple = matches!(via, Via::Simple);
        let mut declared = None;
        if let Kind::Declare { name, hold } = &template.kind {
            // A query string of several statements is a block, too; a batch is none.
            let inside = self.block.as_ref().is_some_and(|block| block.explicit || simple);
            if !inside && !hold {
                let report = Report::error("25P01", "DECLARE CURSOR can only be used in transaction blocks");
                return Ok(self.fan_failed(false, report).await);
            }
            declared = self.cursors.get(name).copied();
        }
        if let Some(block) = &self.block
            && !block.of_one_statement
            && block.read_only(&self.settings)
        {
            return Ok(self.fan_failed(false, in_read_only()).await);
        }
        let own_block = self.block.is_none();
        if own_block {
            let alone = simple || self.client.sync_is_next();
            self.block = Some(match alone {
                true => Block::of_one_statement(self.settings.clone()),
                false => Block::new(false, Default::default(), self.settings.clone()),
            });
        }
        // Where a cursor of that name is, PostgreSQL itself says so.
        let scratch = gather.scratch.or(declared).unwrap_or_else(|| self.scratch_shard(gather, own_block));
        if declared.is_some_and(|shard| shard != scratch) {
            return Ok(self.fan_failed(own_block, declared_elsewhere()).await);
        }
        let mut shards: Vec<ShardId> =
            gather.pulls.iter().flat_map(|pull| pull.shards.iter().copied()).chain([scratch]).collect();
        shards.sort_unstable();
        shards.dedup();
        let joined = match self.join_all(&shards).await {
            Ok(())
                if self.of_one_moment(&shards) && self.block.as_ref().is_some_and(|b| b.of_one_statement) =>
            {
                self.take_snapshots_of(&shards).await
            }
            joined => joined,
        };
        let outcome = match joined {
            Ok(()) => {
                if let Some(block) = &mut self.block {
                    block.scratch = Some(scratch);
                }
                if let Some(link) = self.links.iter_mut().find(|l| l.shard == scratch) {
                    link.wrote |= !template.read_only;
                }
                self.gather_on(text, gather, scratch, &via, own_block && simple).await?
            }
            Err(LinkError::Refused(report)) => Err(report),
            Err(LinkError::End(end)) => return Err(end),
        };
        self.purge_broken();
        if let Err(report) = outcome {
            return Ok(self.fan_failed(own_block, report).await);
        }
        if let Kind::Declare { name, .. } = &template.kind {
            self.cursors.insert(name.clone(), scratch);
        }
        for notice in &template.notices {
            let report = Report::warning("01000", notice.as_str());
            self.client.say(|o| report.write(o));
        }
        if own_block && simple {
            match self.commit().await {
                Ok("COMMIT") => {}
                Ok(_) => return Ok(Err(Report::error("40000", "the transaction was rolled back"))),
                Err(report) => return Ok(Err(report)),
            }
        }
        Ok(outcome)
    }

    /// Where it runs, if it may run anywhere.
    fn scratch_shard(&self, gather: &Gather, own_block: bool) -> ShardId {
        if !own_block {
            // What cannot be prepared had better be in one place: see `Block::scratch`, and NOTIFY.
            return self.block.as_ref().and_then(|b| b.scratch).unwrap_or(ShardId(0));
        }
        // Rows that are there already need no pulling.
        let mut held: Vec<ShardId> =
            gather.pulls.iter().flat_map(|pull| pull.shards.iter().copied()).collect();
        held.sort_unstable();
        held.dedup();
        match held.len() {
            0 => self.any_shard(),
            count => held[self.worker.turn(count)],
        }
    }

    async fn gather_on(
        &mut self,
        text: &str,
        gather: &Gather,
        scratch: ShardId,
        via: &Via<'_>,
        ends: bool,
    ) -> Result<Result<String, Report>, End> {
        let missing = || Report::error("XX000", "a participant is missing");
        let Some(at) = self.links.iter().position(|l| l.shard == scratch) else { return Ok(Err(missing())) };
        let mut bound = Bound::default();
        if let Via::Extended { prepared, tail, .. } = via {
            let Bound { formats, values, results, types } = &mut bound;
            if message::read_bind_tail(tail, formats, values, results).is_err() {
                return Ok(Err(Report::error("08P01", "invalid message format")));
            }
            types.extend_from_slice(&prepared.types);
        }

        // A cursor's tables stay: others of its transaction have names of their own.
        let stays = gather.answer == Answer::Cursor;
        let tables = if stays {
            self.pieces += 1;
            format!("pgherd_{}_g", self.pieces)
        } else {
            GATHER_TABLES.to_owned()
        };

        // 1. PostgreSQL reads the statement as it is; then the tables are made.
        self.begin_unit(at);
        let link = &mut self.links[at];
        message::parse(&mut link.out, b"", text.as_bytes(), &bound.types);
        message::describe(&mut link.out, b'S', b"");
        for (number, pull) in gather.pulls.iter().enumerate() {
            let sql = format!(
                "CREATE TEMPORARY TABLE {tables}{} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA",
                number + 1,
                pull.columns,
                pull.table
            );
            run(&mut link.out, &sql, &[], &[], &[], 0);
        }
        self.end_unit(at, Unit::Quiet);
        self.run_units_watched(&[at]).await?;
        if let Err(report) = self.unit_result(at) {
            return Ok(Err(without_temporary(report)));
        }
        let captured = &mut self.links[at].captured;
        let description = captured.description.take();
        // As the server inferred them from the whole statement: a part of it might say otherwise.
        if let Some(body) = captured.parameters.take() {
            bound.types = parameter_types(&body);
        }
        let limits = self.db.config.gather;

        // 2. The rows that are on the scratch server already.
        let pulls: &[Pull] = if gather.explain == Explain::Plan { &[] } else { &gather.pulls };
        let here: Vec<(usize, &Pull)> =
            pulls.iter().enumerate().filter(|(_, pull)| pull.shards.contains(&scratch)).collect();
        let mut rows = 0;
        let mut bytes = 0;
        // In READ COMMITTED each statement here would have a snapshot of its own.
        let mut portals = None;
        if !pulls.is_empty() && !self.block.as_ref().is_some_and(|b| b.snapshot || b.of_one_statement) {
            match self.open_portals(pulls, &bound, scratch).await? {
                Ok(attempt) => portals = Some(attempt),
                Err(report) => return Ok(Err(report)),
            }
        }
        if let Some(attempt) = portals {
            for (n, pull) in pulls.iter().enumerate().filter(|(_, pull)| pull.shards.contains(&scratch)) {
                let portal = portal_name(attempt, n);
                let into = (at, Gather::table(&tables, n));
                if let Err(report) = self.pull_here(pull, &portal, into, &mut rows, &mut bytes).await? {
                    return Ok(Err(report));
                }
            }
        } else if !here.is_empty() {
            self.begin_unit(at);
            for (number, pull) in here {
                let sql = format!(
                    "INSERT INTO {} ({}) {} LIMIT {}",
                    Gather::table(&tables, number),
                    pull.columns,
                    pull.select(),
                    limits.rows_max.saturating_add(1)
                );
                let (types, formats, values) = bound.of(pull, true);
                run(&mut self.links[at].out, &sql, &types, &formats, &values, 0);
            }
            self.end_unit(at, Unit::Quiet);
            self.run_units_watched(&[at]).await?;
            if let Err(report) = self.unit_result(at) {
                return Ok(Err(report));
            }
            rows = self.links[at].captured.pulled_rows;
            if rows > limits.rows_max {
                return Ok(Err(too_many_rows(limits.rows_max)));
            }
        }

        // 3. Those of the other shards, table after table, from all shards at once.
        for (n, pull) in pulls.iter().enumerate() {
            let mut sources = Vec::new();
            for shard in pull.shards.iter().filter(|shard| **shard != scratch) {
                match self.links.iter().position(|l| l.shard == *shard) {
                    Some(index) => sources.push(index),
                    None => return Ok(Err(missing())),
                }
            }
            if sources.is_empty() {
                continue;
            }
            if !pull.binary
                && self.client.parameter("DateStyle").is_some_and(|style| !style.starts_with("ISO"))
            {
                // The name of a time zone in it may be read as another one.
                return Ok(Err(Report::error("0A000", "cannot pull rows from several shards as text in this DateStyle")
                    .detail("They have columns of types that are not built in, whose binary form is each server's own.")
                    .hint("SET datestyle = 'ISO'.")));
            }
            if !pull.binary
                && pull.floats
                && self.settings.get("extra_float_digits").is_some_and(super::fan::low)
            {
                return Ok(Err(Report::error(
                    "0A000",
                    "cannot pull floating-point values from several shards as text",
                )
                .detail("extra_float_digits is set below 1, so that the shards round what they answer.")
                .hint("RESET extra_float_digits.")));
            }
            let portal = portals.map(|attempt| portal_name(attempt, n));
            let from = (&sources[..], portal.as_deref());
            let into = (at, Gather::table(&tables, n));
            if let Err(report) = self.pull(pull, &bound, into, from, &mut rows, &mut bytes).await? {
                return Ok(Err(report));
            }
        }

        // 4. What the statement may depend on besides the rows.
        let mut before: Vec<String> = gather
            .pulls
            .iter()
            .enumerate()
            .filter_map(|(number, pull)| {
                let key = pull.primary_key.as_ref()?;
                Some(format!("ALTER TABLE {} ADD PRIMARY KEY ({key})", Gather::table(&tables, number)))
            })
            .collect();
        if !pulls.is_empty() {
            // Without statistics a table of ten rows is planned as one of thousands, which costs more than the rows (JIT above all).
            let names: Vec<String> = (0..pulls.len()).map(|number| Gather::table(&tables, number)).collect();
            before.push(format!("ANALYZE {}", names.join(", ")));
        }
        if !before.is_empty() {
            self.links[at].send_unit(&before.join(";"), Unit::Quiet);
            self.run_units_watched(&[at]).await?;
            if let Err(report) = self.unit_result(at) {
                return Ok(Err(report));
            }
        }

        // 5. The statement itself. Its columns are described as the real tables' are.
        let describe = match via {
            Via::Simple => gather.answer == Answer::Rows,
            Via::Extended { describe, .. } => *describe,
        };
        if describe {
            let columns = description.as_deref().map(message::read_row_description);
            match columns {
                Some(Ok(mut columns)) => {
                    for (n, column) in columns.iter_mut().enumerate() {
                        column.format = format_of(&bound.results, n);
                    }
                    self.client.say(|o| message::row_description(o, &columns));
                }
                Some(Err(_)) => return Ok(Err(Report::error("08P01", "a shard's answer cannot be read"))),
                None => self.client.push(message::NO_DATA),
            }
        }
        if gather.explain != Explain::No {
            for line in self.explained(gather, scratch) {
                self.client.say(|o| message::data_row(o, &[Some(line.into_bytes())]));
            }
        }
        let sql = gather.sql(&tables);
        match via {
            _ if gather.answer == Answer::Copy => {
                // It has no parameters.
                self.links[at].send_unit(&sql, Unit::CopyOut { first: true, header: false, binary: false });
            }
            Via::Simple => self.links[at].send_unit(&sql, Unit::Rows { describe: false }),
            Via::Extended { prepared, tail, .. } => {
                self.begin_unit(at);
                let link = &mut self.links[at];
                message::parse(&mut link.out, b"", sql.as_bytes(), &prepared.types);
                message::bind_with(&mut link.out, b"", b"", tail);
                message::execute(&mut link.out, b"", 0);
                self.end_unit(at, Unit::Rows { describe: false });
            }
        }
        self.run_units_watched(&[at]).await?;
        let tag = match self.unit_result(at) {
            Ok(tag) => tag.unwrap_or_default(),
            Err(report) => return Ok(Err(report)),
        };

        if gather.answer == Answer::Copy {
            self.client.push(message::COPY_DONE);
        }

        // 6. In a transaction that goes on, nothing is left of it.
        if !ends && !stays {
            let names: Vec<String> =
                (0..gather.pulls.len()).map(|number| Gather::table(&tables, number)).collect();
            self.links[at].send_unit(&format!("DROP TABLE {}", names.join(", ")), Unit::Quiet);
            self.run_units(&[at]).await;
            if let Err(report) = self.unit_result(at) {
                return Ok(Err(report));
            }
        }
        Ok(Ok(tag))
    }

    /// What stands before the plan of the server that finishes the work.
    fn explained(&self, gather: &Gather, scratch: ShardId) -> Vec<String> {
        let mut lines = vec![format!("pgherd gathers on shard {}", self.db.shard_name(scratch))];
        for (number, pull) in gather.pulls.iter().enumerate() {
            let shards: Vec<&str> = pull.shards.iter().map(|shard| self.db.shard_name(*shard)).collect();
            let table = format!("{GATHER_TABLES}{}", number + 1);
            lines.push(format!("  {table} from {}: {}", shards.join(", "), pull.select()));
        }
        lines
    }

    /// Opens a portal for each pull on each of its shards, all as of one moment: no commit over several shards goes in between
    /// (the snapshot gate), and none on one shard (its snapshot before the first and behind the last of them is the same). The number that is
    /// part of their names.
    async fn open_portals(
        &mut self,
        pulls: &[Pull],
        bound: &Bound<'_>,
        scratch: ShardId,
    ) -> Result<Result<u64, Report>, End> {
        let mut shards: Vec<ShardId> = pulls.iter().flat_map(|pull| pull.shards.iter().copied()).collect();
        shards.sort_unstable();
        shards.dedup();
        let mut last = None;
        for _ in 0..PORTAL_ATTEMPTS_MAX {
            let moment = match self.of_one_moment(&shards) {
                false => Moment::Any,
                true => match self.enter_moment(&shards).await {
                    Ok(moment) => moment,
                    Err(LinkError::Refused(report)) => return Ok(Err(report)),
                    Err(LinkError::End(end)) => return Err(end),
                },
            };
            self.pieces += 1;
            let attempt = self.pieces;
            let mut indices = Vec::new();
            for &shard in &shards {
                let Some(i) = self.links.iter().position(|l| l.shard == shard) else {
                    return Ok(Err(Report::error("XX000", "a participant is missing")));
                };
                self.begin_unit(i);
                for (n, _) in pulls.iter().enumerate().filter(|(_, pull)| pull.shards.contains(&shard)) {
                    if let Some(last) = last {
                        message::close(&mut self.links[i].out, b'P', portal_name(last, n).as_bytes());
                    }
                }
                run(&mut self.links[i].out, SNAPSHOT, &[], &[], &[], 0);
                for (n, pull) in pulls.iter().enumerate().filter(|(_, pull)| pull.shards.contains(&shard)) {
                    let (types, formats, values) = bound.of(pull, shard == scratch);
                    let out = &mut self.links[i].out;
                    message::parse(out, b"", pull.select().as_bytes(), &types);
                    let results = [u16::from(pull.binary)];
                    message::bind(out, portal_name(attempt, n).as_bytes(), b"", &formats, &values, &results);
                }
                run(&mut self.links[i].out, SNAPSHOT, &[], &[], &[], 0);
                self.end_unit(i, Unit::Collect);
                indices.push(i);
            }
            self.run_units_watched(&indices).await?;
            let mut same = moment.holds();
            drop(moment);
            let mut failed = None;
            for &i in &indices {
                if let Err(report) = self.unit_result(i) {
                    failed.get_or_insert(report);
                }
                let rows = &self.links[i].captured.rows;
                same &= rows.len() == 2 && rows[0] == rows[1];
            }
            if let Some(report) = failed {
                return Ok(Err(report));
            }
            if same {
                return Ok(Ok(attempt));
            }
            last = Some(attempt);
        }
        Ok(Err(overtaken()))
    }

    /// Rows that are on the scratch server itself, piece by piece: it cannot send and take in at once.
    async fn pull_here(
        &mut self,
        pull: &Pull,
        portal: &str,
        (at, into): (usize, String),
        rows: &mut u64,
        bytes: &mut u64,
    ) -> Result<Result<(), Report>, End> {
        let limits = self.db.config.gather;
        loop {
            self.begin_unit(at);
            message::execute(&mut self.links[at].out, portal.as_bytes(), PIECE_ROWS);
            self.end_unit(at, Unit::Pull { binary: pull.binary });
            self.run_units_watched(&[at]).await?;
            if let Err(report) = self.unit_result(at) {
                return Ok(Err(report));
            }
            let captured = &mut self.links[at].captured;
            let more = captured.suspended;
            *rows += captured.pulled_rows;
            *bytes += captured.pulled_bytes;
            let pulled = std::mem::take(&mut captured.pulled);
            if *rows > limits.rows_max {
                return Ok(Err(too_many_rows(limits.rows_max)));
            }
            if *bytes > limits.bytes_max {
                return Ok(Err(too_many_bytes(limits.bytes_max)));
            }
            if !pulled.is_empty() {
                self.begin_copy(pull, at, &into);
                let link = &mut self.links[at];
                message::copy_data(&mut link.out, &pulled);
                if pull.binary {
                    message::copy_data(&mut link.out, BINARY_TRAILER);
                }
                link.out.extend_from_slice(message::COPY_DONE);
                self.run_units_watched(&[at]).await?;
                if let Err(report) = self.unit_result(at) {
                    return Ok(Err(report));
                }
            }
            if !more {
                return Ok(Ok(()));
            }
        }
    }

    fn begin_copy(&mut self, pull: &Pull, at: usize, into: &str) {
        let format = if pull.binary { "binary" } else { "text" };
        let copy = format!("COPY {into} ({}) FROM STDIN (FORMAT {format})", pull.columns);
        self.links[at].send_unit(&copy, Unit::Quiet);
        if pull.binary {
            // Behind the Query that begins the COPY: if that fails, the server ignores it.
            message::copy_data(&mut self.links[at].out, BINARY_HEADER);
        }
    }

    /// Rows of one table go from their shards into its temporary table. With a portal's name: from there.
    async fn pull(
        &mut self,
        pull: &Pull,
        bound: &Bound<'_>,
        (at, into): (usize, String),
        (sources, portal): (&[usize], Option<&str>),
        rows: &mut u64,
        bytes: &mut u64,
    ) -> Result<Result<(), Report>, End> {
        self.begin_copy(pull, at, &into);
        let (types, formats, values) = bound.of(pull, false);
        for &i in sources {
            self.begin_unit(i);
            let out = &mut self.links[i].out;
            match portal {
                Some(portal) => {
                    message::execute(out, portal.as_bytes(), 0);
                    message::close(out, b'P', portal.as_bytes());
                }
                None => {
                    run(out, &pull.select(), &types, &formats, &values, u16::from(pull.binary));
                }
            }
            self.end_unit(i, Unit::Pull { binary: pull.binary });
        }
        let limits = self.db.config.gather;
        let (before_rows, before_bytes) = (*rows, *bytes);
        let flow = poll_fn(|cx| {
            loop {
                let mut progress = self.client.poll_flush(cx);
                let scratch = &mut self.links[at];
                progress |= scratch.poll_flush(cx);
                progress |= scratch.poll_take(cx, &mut self.client);
                if scratch.broken.is_some() || scratch.captured.error.is_some() {
                    return Poll::Ready(Flow::Failed);
                }
                let mut waiting = false;
                (*rows, *bytes) = (before_rows, before_bytes);
                for &i in sources {
                    let room = self.links[at].pending_out() < ON_THE_WAY_BYTES;
                    let link = &mut self.links[i];
                    progress |= link.poll_flush(cx);
                    if room {
                        progress |= link.poll_take(cx, &mut self.client);
                    }
                    waiting |= !link.quiet();
                    if link.broken.is_some() || link.captured.error.is_some() {
                        return Poll::Ready(Flow::Failed);
                    }
                    *rows += link.captured.pulled_rows;
                    *bytes += link.captured.pulled_bytes;
                    if !link.captured.pulled.is_empty() {
                        let mut pulled = std::mem::take(&mut link.captured.pulled);
                        message::copy_data(&mut self.links[at].out, &pulled);
                        pulled.clear();
                        self.links[i].captured.pulled = pulled;
                        progress = true;
                    }
                }
                if *rows > limits.rows_max {
                    return Poll::Ready(Flow::TooMuch(Box::new(too_many_rows(limits.rows_max))));
                }
                if *bytes > limits.bytes_max {
                    return Poll::Ready(Flow::TooMuch(Box::new(too_many_bytes(limits.bytes_max))));
                }
                if !waiting {
                    return Poll::Ready(Flow::Done);
                }
                if self.client.inbox_has_room() {
                    progress |= self.client.poll_fill(cx);
                }
                if self.client.gone || self.client.eof || self.card.ends().is_some() {
                    return Poll::Ready(Flow::Gone);
                }
                if !progress {
                    return Poll::Pending;
                }
            }
        })
        .await;
        if let Flow::Done = flow {
            let link = &mut self.links[at];
            if pull.binary {
                message::copy_data(&mut link.out, BINARY_TRAILER);
            }
            link.out.extend_from_slice(message::COPY_DONE);
            self.run_units_watched(&[at]).await?;
            return Ok(self.unit_result(at).map(drop));
        }
        // The others' work is for nothing.
        let said = std::iter::once(at).chain(sources.iter().copied()).find(|&i| {
            let link = &self.links[i];
            link.broken.is_some() || link.captured.error.is_some()
        });
        let gone = matches!(flow, Flow::Gone);
        let report = match flow {
            Flow::TooMuch(report) => Some(*report),
            _ => said.and_then(|i| self.unit_result(i).err()),
        };
        for &i in sources {
            let link = &mut self.links[i];
            for expect in &mut link.expects {
                if let Expect::Unit(unit) = expect {
                    *unit = Unit::Quiet;
                }
            }
            if !link.quiet() && link.broken.is_none() {
                let _ = link.server.cancel.cancel().await;
            }
        }
        let link = &mut self.links[at];
        if link.broken.is_none() && !link.expects.is_empty() {
            // Where the COPY did not begin, the server ignores it.
            message::copy_fail(&mut link.out, "another shard or pgherd ended the COPY");
        }
        let all: Vec<usize> = std::iter::once(at).chain(sources.iter().copied()).collect();
        self.run_units(&all).await;
        if gone {
            return Err(End::Client);
        }
        Ok(Err(report.unwrap_or_else(|| Report::error("XX000", "a gather ended without a reason"))))
    }

    pub(super) fn begin_unit(&mut self, index: usize) {
        let link = &mut self.links[index];
        link.captured.begin();
        link.server.state.unnamed = None;
    }

    pub(super) fn end_unit(&mut self, index: usize, unit: Unit) {
        let link = &mut self.links[index];
        link.out.extend_from_slice(message::SYNC);
        link.expects.push_back(Expect::Unit(unit));
    }
}

impl<'a> Bound<'a> {
    /// What a pull's condition uses, in its own order. `here`: on the server that inferred the types.
    fn of(&self, pull: &Pull, here: bool) -> (Vec<u32>, Vec<u16>, Vec<Option<&'a [u8]>>) {
        let (mut types, mut formats, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for &param in &pull.params {
            let n = usize::from(param);
            let ty = self.types.get(n).copied().unwrap_or(0);
            types.push(if here || ty < FIRST_OF_USERS { ty } else { 0 });
            formats.push(format_of(&self.formats, n));
            values.push(self.values.get(n).copied().flatten());
        }
        (types, formats, values)
    }
}

fn portal_name(attempt: u64, pull: usize) -> String {
    format!("pgherd_pull_{attempt}_{pull}")
}

/// One statement of a unit, up to and with Execute.
pub(super) fn run(
    out: &mut Vec<u8>,
    sql: &str,
    types: &[u32],
    formats: &[u16],
    values: &[Option<&[u8]>],
    results: u16,
) {
    message::parse(out, b"", sql.as_bytes(), types);
    message::bind(out, b"", b"", formats, values, &[results]);
    message::execute(out, b"", 0);
}

/// ParameterDescription: a count, and an OID each.
fn parameter_types(body: &[u8]) -> Vec<u32> {
    body.get(2..)
        .unwrap_or(&[])
        .chunks_exact(4)
        .map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]))
        .collect()
}

/// A DataRow of text values as a line of COPY's text format.
pub(super) fn copy_line(row: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let cut = || "a row that is cut short".to_owned();
    let (count, mut rest) = row.split_at_checked(2).ok_or_else(cut)?;
    for n in 0..u16::from_be_bytes([count[0], count[1]]) {
        if n > 0 {
            out.push(b'\t');
        }
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        rest = behind;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            out.extend_from_slice(b"\\N");
            continue;
        };
        let (value, behind) = rest.split_at_checked(length).ok_or_else(cut)?;
        rest = behind;
        for &byte in value {
            match byte {
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                _ => out.push(byte),
            }
        }
    }
    out.push(b'\n');
    Ok(())
}

fn too_many_rows(max: u64) -> Report {
    Report::error("54000", "the statement needs too many rows of several shards")
        .detail(format!(
            "They would be pulled to one server, which finishes the statement; gather.rows_max is {max}."
        ))
        .hint("Restrict the statement by conditions on its tables, or raise gather.rows_max in pgherd's configuration.")
}

fn too_many_bytes(max: u64) -> Report {
    Report::error("54000", "the statement needs too much data of several shards")
        .detail(format!(
            "It would be pulled to one server, which finishes the statement; gather.bytes_max is {max} bytes."
        ))
        .hint("Restrict the statement by conditions on its tables, or raise gather.bytes_max in pgherd's configuration.")
}

fn declared_elsewhere() -> Report {
    Report::error("0A000", "cannot declare the cursor over several shards")
        .detail("A cursor of that name was declared on another shard in this transaction.")
        .hint("Give it another name.")
}

fn in_read_only() -> Report {
    Report::error("0A000", "cannot run this statement over several shards in a read-only transaction")
        .detail(
            "One server would finish it with the rows of the others, for which it makes temporary tables.",
        )
        .hint("Run it outside the transaction, or in one that may write.")
}

/// 42501 for want of the privilege to make temporary tables would say nothing to somebody who asked for none.
fn without_temporary(report: Report) -> Report {
    // The second is said in a session that has made temporary tables before.
    let temporary = ["temporary tables", "pg_temp"].iter().any(|word| report.message.contains(word));
    if report.sqlstate != "42501" || !temporary {
        return report;
    }
    Report::error("42501", report.message.clone())
        .detail("The statement needs rows of several shards; one server finishes it, with temporary tables.")
        .hint("GRANT TEMPORARY ON DATABASE ... TO the role, on every shard.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_a_line_that_copy_reads_back() {
        let row = |values: &[Option<&[u8]>]| {
            let mut row = (values.len() as u16).to_be_bytes().to_vec();
            for value in values {
                match value {
                    Some(value) => {
                        row.extend_from_slice(&(value.len() as i32).to_be_bytes());
                        row.extend_from_slice(value);
                    }
                    None => row.extend_from_slice(&(-1i32).to_be_bytes()),
                }
            }
            row
        };
        let cases: [(&[Option<&[u8]>], &[u8]); 5] = [
            (&[Some(b"1"), None, Some(b"")], b"1\t\\N\t\n"),
            (&[Some(b"a\tb\nc\rd\\N")], b"a\\tb\\nc\\rd\\\\N\n"),
            (&[Some("grüße".as_bytes())], "grüße\n".as_bytes()),
            (&[Some(b"\\.")], b"\\\\.\n"),
            (&[], b"\n"),
        ];
        for (values, line) in cases {
            let mut out = Vec::new();
            copy_line(&row(values), &mut out).unwrap();
            assert_eq!(out, line, "{values:?}");
        }
        for cut in 0..6 {
            assert!(copy_line(&row(&[Some(b"1")])[..cut], &mut Vec::new()).is_err(), "{cut}");
        }
    }
}
