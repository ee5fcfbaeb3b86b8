//! One statement on several shards: sent to all, answered as one.
//!
//! Invariants: rows reach the client shard after shard, never mixed within a frame; a write on more than one shard
//! runs in a transaction over all of them; no tag is said before every shard has answered.

use std::rc::Rc;

use pgherd_router::ShardId;
use pgherd_router::combine::Aggregator;
use pgherd_router::plan::{Combine, CopyFormat, Each, Plan, Shown, Template};
use pgherd_wire::message::{self, Report};

use super::link::{Expect, Unit};
use super::query::{refused, within_pipeline};
use super::snapshot::{ATTEMPTS_MAX, Moment, overtaken};
use super::statements::Prepared;
use super::transaction::Block;
use super::{End, LinkError, Session};

/// How the client asked.
pub enum Via<'a> {
    Simple,
    Extended {
        prepared: &'a Rc<Prepared>,
        /// The Bind message behind the statement's name.
        tail: &'a [u8],
        /// The client asked for the portal's description.
        describe: bool,
    },
}

struct Job {
    shard: ShardId,
    sql: String,
    /// Extended protocol: statement and Bind tail.
    bound: Option<(Rc<Prepared>, Vec<u8>)>,
}

impl Session {
    /// Runs a plan that is not one server's alone. Rows go to the client as they come; the tag (or the error) is the
    /// caller's to say.
    pub(super) async fn run_plan(
        &mut self,
        text: &str,
        template: &Template,
        plan: Plan,
        via: Via<'_>,
    ) -> Result<Result<String, Report>, End> {
        self.settle().await?;
        let piped = template.outside_transaction && self.in_pipeline();
        if template.outside_transaction && !piped && self.block.is_none() {
            // Nothing has run yet in this batch, which is at most parsed: it need not be kept together.
            self.sync_links();
            let all: Vec<usize> = (0..self.links.len()).collect();
            self.run_units(&all).await;
        }
        if self.links.iter().any(|l| l.unsynced) {
            match self.batch_to_block().await {
                Ok(()) => {}
                Err(LinkError::Refused(report)) => return Ok(Err(report)),
                Err(LinkError::End(end)) => return Err(end),
            }
        }
        if piped && self.block.is_none() {
            self.block = Some(Block::new(false, Default::default(), self.settings.clone()));
        }
        if self.block.is_some() {
            self.sync_links();
        }
        let shards: Vec<ShardId> = match &plan {
            Plan::Any | Plan::One(_) => vec![self.any_shard()],
            Plan::Each(each) => each.shards.clone(),
            Plan::Merge(merge) => merge.shards.clone(),
            Plan::Explain(explain) => explain.shards.clone(),
            Plan::Split { parts, .. } => parts.iter().map(|p| p.shard).collect(),
            Plan::CopyFrom(copy) => copy.shards.clone(),
            Plan::CopyTo { shards, .. } => shards.clone(),
            Plan::Gather(gather) => {
                let tenure = self.db.lease.tenure();
                let outcome = Box::pin(self.gather(text, template, gather, via)).await?;
                return Ok(outcome.and_then(|tag| self.placed_since(tenure).map_or(Ok(tag), Err)));
            }
            Plan::Draw(draw) => return Box::pin(self.draw(text, draw, via)).await,
        };
        let copy_in = matches!(plan, Plan::CopyFrom(_));
        let write = !template.read_only && !matches!(plan, Plan::CopyTo { .. });
        if template.outside_transaction && self.block.is_none() {
            return self.run_apart(text, template, &shards, via).await;
        }
        let simple = matches!(via, Via::Simple);
        let own_block = self.block.is_none() && write && (shards.len() > 1 || copy_in);
        if own_block {
            self.block = Some(Block::new(false, Default::default(), self.settings.clone()));
        }
        let mut outcome = match self.join_all(&shards).await {
            Ok(()) => {
                for link in &mut self.links {
                    link.wrote |= write && shards.contains(&link.shard);
                }
                match plan {
                    Plan::CopyFrom(copy) => self.copy_from(text, &copy, &via).await?,
                    Plan::CopyTo { shards, format, header } => {
                        self.copy_to(text, &shards, format, header).await?
                    }
                    Plan::Each(each) => {
                        let jobs = each.shards.iter().map(|&shard| Job {
                            shard,
                            sql: text.to_owned(),
                            bound: bound_of(&via),
                        });
                        let jobs = jobs.collect();
                        let atomic =
                            template.read_only && !each.first_alone && self.of_one_moment(&each.shards);
                        self.run_jobs(jobs, &each, &via, atomic).await?
                    }
                    Plan::Merge(merge) => self.run_merge(text, &merge, &via).await?,
                    Plan::Explain(explain) => self.run_explain(text, &explain, &via).await?,
                    Plan::Split { parts, combine } => {
                        let each = Each { shards: shards.clone(), combine, first_alone: false };
                        let mut jobs = Vec::new();
                        for part in parts {
                            let bound = match &via {
                                Via::Simple => None,
                                Via::Extended { prepared, tail, .. } => {
                                    match self.rebind(prepared, tail, &part.sql, &part.params) {
                                        Ok(bound) => Some(bound),
                                        Err(report) => return Ok(self.fan_failed(own_block, report).await),
                                    }
                                }
                            };
                            jobs.push(Job { shard: part.shard, sql: part.sql, bound });
                        }
                        self.run_jobs(jobs, &each, &via, false).await?
                    }
                    Plan::Any | Plan::One(_) | Plan::Gather(_) | Plan::Draw(_) => {
                        Err(Report::error("XX000", "a plan of one shard was fanned out"))
                    }
                }
            }
            Err(LinkError::Refused(report)) => Err(report),
            Err(LinkError::End(end)) => return Err(end),
        };
        self.purge_broken();
        if outcome.is_ok()
            && shards.len() > 1
            && let Some(report) = self.still_placed()
        {
            // Where a shard was asked later than another, rows may have moved between them.
            outcome = Err(report);
        }
        match outcome {
            Err(report) => {
                let report = if piped { within_pipeline(report) } else { report };
                Ok(self.fan_failed(own_block, report).await)
            }
            Ok(_) => {
                for notice in &template.notices {
                    let report = Report::warning("01000", notice.as_str());
                    self.client.say(|o| report.write(o));
                }
                if template.ddl {
                    match &mut self.block {
                        Some(block) => {
                            block.ddl = true;
                            block.topology_stale = true;
                            // What these servers have prepared may answer with other columns now.
                            for link in &mut self.links {
                                link.server.state.schema_version = u64::MAX;
                            }
                        }
                        None => {
                            self.db.schema_changed();
                            self.db.refresh().await;
                        }
                    }
                }
                if own_block && simple {
                    match self.commit().await {
                        Ok("COMMIT") => {}
                        Ok(_) => outcome = Err(Report::error("40000", "the transaction was rolled back")),
                        Err(report) => outcome = Err(report),
                    }
                }
                Ok(outcome)
            }
        }
    }

    pub(super) async fn fan_failed(&mut self, own_block: bool, report: Report) -> Result<String, Report> {
        if own_block {
            let _ = self.roll_back().await;
        } else if self.block.is_some() {
            self.client.failed = true;
        }
        Err(report)
    }

    /// What PostgreSQL refuses in a transaction (VACUUM, CREATE INDEX CONCURRENTLY): shard by shard, each by itself, with a
    /// report of those that failed.
    async fn run_apart(
        &mut self,
        text: &str,
        template: &Template,
        shards: &[ShardId],
        via: Via<'_>,
    ) -> Result<Result<String, Report>, End> {
        match self.join_all(shards).await {
            Ok(()) => {}
            Err(LinkError::Refused(report)) => return Ok(Err(report)),
            Err(LinkError::End(end)) => return Err(end),
        }
        // No parameters can be bound to such a statement.
        let _ = via;
        let mut indices = Vec::new();
        for &shard in shards {
            if let Some(i) = self.links.iter().position(|l| l.shard == shard) {
                // What VACUUM VERBOSE has to say comes from every shard.
                self.links[i].send_unit(text, Unit::Rows { describe: false });
                indices.push(i);
            }
        }
        self.run_units_watched(&indices).await?;
        let mut tag = None;
        let mut failures = Vec::new();
        for &i in &indices {
            match self.unit_result(i) {
                Ok(said) => tag = tag.or(said),
                Err(report) => failures.push((self.links[i].shard, report)),
            }
        }
        self.purge_broken();
        if template.ddl {
            self.db.schema_changed();
            self.db.refresh().await;
        }
        if failures.is_empty() {
            return Ok(Ok(tag.unwrap_or_default()));
        }
        let (_, first) = &failures[0];
        if failures.len() == shards.len() {
            return Ok(Err(first.clone()));
        }
        let detail: Vec<String> = failures
            .iter()
            .map(|(shard, r)| format!("Shard \"{}\": {}.", self.db.shard_name(*shard), r.message))
            .collect();
        let report = Report::error(
            &first.sqlstate,
            format!("the statement failed on {} of {} shards", failures.len(), shards.len()),
        )
        .detail(detail.join(" "))
        .hint("It took effect on the other shards. Mend the cause and run it again.");
        Ok(Err(report))
    }

    /// Holds a server of every one of the shards.
    pub(super) async fn join_all(&mut self, shards: &[ShardId]) -> Result<(), LinkError> {
        if self.wants_snapshot() {
            Box::pin(self.take_snapshot()).await?;
        }
        if self.block.is_none() && self.pinned.is_none() {
            self.let_servers_go();
        }
        if shards.len() > 1 && self.db.sharded && self.pass.is_none() {
            self.pass = match self.pools.gate.try_enter() {
                Some(pass) => Some(pass),
                None => Some(self.wait_for(Box::pin(self.pools.clone().enter())).await?),
            };
        }
        for &shard in shards {
            match self.links.iter().position(|l| l.shard == shard) {
                Some(index) => self.prepare_link(index).await.map_err(LinkError::Refused)?,
                None => {
                    self.join(shard).await?;
                }
            }
        }
        Ok(())
    }

    async fn run_jobs(
        &mut self,
        mut jobs: Vec<Job>,
        each: &Each,
        via: &Via<'_>,
        atomic: bool,
    ) -> Result<Result<String, Report>, End> {
        let describe = match via {
            Via::Simple => true,
            Via::Extended { describe, .. } => *describe,
        };
        let collect = matches!(each.combine, Combine::Aggregate(_) | Combine::Interleave(_));
        // Every shard answers the same: only the first one's rows are the client's.
        let same = matches!(each.combine, Combine::Same);
        let mut formats = Vec::new();
        for job in &mut jobs {
            if let (Combine::Aggregate(_), Some((_, tail))) = (&each.combine, &mut job.bound)
                && let Err(report) = results_as_text(tail, &mut formats)
            {
                return Ok(Err(report));
            }
        }
        let mut indices = Vec::new();
        let mut attempts = 0;
        'asked: loop {
            let moment = match atomic {
                false => Moment::Any,
                true => match self.enter_moment(&each.shards).await {
                    Ok(moment) => moment,
                    Err(LinkError::Refused(report)) => return Ok(Err(report)),
                    Err(LinkError::End(end)) => return Err(end),
                },
            };
            indices.clear();
            for (n, job) in jobs.iter().enumerate() {
                let Some(i) = self.links.iter().position(|l| l.shard == job.shard) else {
                    return Ok(Err(Report::error("XX000", "a participant is missing")));
                };
                let unit = match n {
                    _ if collect => Unit::Collect,
                    0 => Unit::Rows { describe },
                    _ if same => Unit::Quiet,
                    _ => Unit::Rows { describe: false },
                };
                self.send_job(i, job, unit, describe || collect, &moment);
                indices.push(i);
                if n == 0 && each.first_alone {
                    self.run_units_watched(&[i]).await?;
                    if let Some(error) = self.links[i].captured.error.clone() {
                        return Ok(Err(Report::read_whole(&error)));
                    }
                    if self.links[i].broken.is_some() {
                        break 'asked;
                    }
                }
            }
            if self.all_begun(moment, &indices).await? {
                break;
            }
            attempts += 1;
            if attempts == ATTEMPTS_MAX {
                return Ok(Err(overtaken()));
            }
        }
        // Shard after shard: the first one's rows first. The others run meanwhile and wait with theirs.
        let mut failure: Option<Report> = None;
        let mut description: Option<Vec<u8>> = None;
        let mut tags: Vec<String> = Vec::new();
        self.flush_all(&indices).await;
        for (n, &i) in indices.iter().enumerate() {
            if failure.is_some() {
                self.hush(i);
            }
            self.run_units_watched(&[i]).await?;
            if self.client.gone {
                for &j in &indices[n..] {
                    self.hush(j);
                }
            }
            match self.unit_result(i) {
                Ok(tag) => tags.extend(tag),
                Err(report) => {
                    if failure.is_none() {
                        failure = Some(self.follower_failed(n, i, each, report));
                        // The others' work is for nothing.
                        for &j in &indices[n + 1..] {
                            self.hush(j);
                            if !self.links[j].quiet() && self.links[j].broken.is_none() {
                                let _ = self.links[j].server.cancel.cancel().await;
                            }
                        }
                    }
                    continue;
                }
            }
            let described = self.links[i].captured.description.take();
            match (&description, described) {
                (None, described) => description = described,
                (Some(first), Some(other)) if !same_columns(first, &other) && failure.is_none() => {
                    failure = Some(
                        Report::error("0A000", "shards disagree on the columns of the result")
                            .detail(format!(
                                "Shard \"{}\" describes them otherwise than the first one.",
                                self.db.shard_name(self.links[i].shard)
                            ))
                            .hint("Bring the table to the same definition on every shard."),
                    );
                }
                _ => {}
            }
        }
        if let Some(report) = failure {
            return Ok(Err(report));
        }
        Ok(self.combine(&each.combine, &indices, description, &formats, describe, &tags))
    }

    pub(super) fn rounds_floats(&self) -> bool {
        self.settings.get("extra_float_digits").is_some_and(low)
    }

    /// EXPLAIN: the plan of pgherd's own, then each shard's.
    async fn run_explain(
        &mut self,
        text: &str,
        explain: &Shown,
        via: &Via<'_>,
    ) -> Result<Result<String, Report>, End> {
        let describe = !matches!(via, Via::Extended { describe: false, .. });
        let sql = explain.sql.as_deref().unwrap_or(text);
        let mut indices = Vec::new();
        for &shard in &explain.shards {
            let Some(index) = self.links.iter().position(|link| link.shard == shard) else {
                return Ok(Err(Report::error("XX000", "a participant is missing")));
            };
            let mut bound = bound_of(via);
            if let (Some((prepared, _)), Some(sql)) = (&mut bound, &explain.sql) {
                *prepared = self.worker.intern_text(&self.reading(), sql, &prepared.types);
            }
            let job = Job { shard, sql: sql.to_owned(), bound };
            self.send_job(index, &job, Unit::Collect, true, &Moment::Any);
            indices.push(index);
        }
        self.run_units_watched(&indices).await?;
        let mut lines = vec![format!("pgherd: {}", explain.line)];
        let mut description = None;
        let mut failure = None;
        for &index in &indices {
            if let Err(report) = self.unit_result(index) {
                failure.get_or_insert(report);
                continue;
            }
            let captured = &mut self.links[index].captured;
            description = description.or(captured.description.take());
            let rows = std::mem::take(&mut captured.rows);
            lines.push(format!("Shard {}:", self.db.shard_name(self.links[index].shard)));
            for row in rows {
                let mut values = Vec::new();
                if message::read_data_row(&row, &mut values).is_ok()
                    && let Some(Some(line)) = values.first()
                {
                    lines.push(format!("  {}", String::from_utf8_lossy(line)));
                }
            }
        }
        if let Some(report) = failure {
            return Ok(Err(report));
        }
        if let (true, Some(body)) = (describe, description) {
            self.client.say(|o| message::frame(o, b'T', |o| o.extend_from_slice(&body)));
        }
        for line in lines {
            self.client.say(|o| message::data_row(o, &[Some(line.into_bytes())]));
        }
        Ok(Ok("EXPLAIN".to_owned()))
    }

    /// The first shard did it, and another one lacks a table, type or function that only the first one has.
    fn follower_failed(&self, n: usize, index: usize, each: &Each, report: Report) -> Report {
        let lacks = matches!(&*report.sqlstate, "42P01" | "42704" | "42883" | "3F000");
        if n == 0 || !each.first_alone || !lacks {
            return report;
        }
        Report::error("0A000", "cannot do this on every shard of a sharded database")
            .detail(format!("Shard \"{}\": {}.", self.db.shard_name(self.links[index].shard), report.message))
            .hint("What every shard has can use only what every shard has: list the table in the configuration.")
    }

    fn combine(
        &mut self,
        combine: &Combine,
        indices: &[usize],
        description: Option<Vec<u8>>,
        formats: &[u16],
        describe: bool,
        tags: &[String],
    ) -> Result<String, Report> {
        match combine {
            Combine::Same => {
                let first = tags.first().cloned().unwrap_or_default();
                if tags.iter().any(|t| *t != first) {
                    return Err(Report::error("XX001", "the shards' copies of a reference table differ")
                        .detail(format!("They answered {}.", tags.join(", ")))
                        .hint("Compare the table on the shards; nothing was changed."));
                }
                Ok(first)
            }
            Combine::Union => add_tags(tags),
            Combine::Interleave(order) => {
                if describe && let Some(body) = &description {
                    self.client.say(|o| message::frame(o, b'T', |o| o.extend_from_slice(body)));
                } else if describe {
                    self.client.push(message::NO_DATA);
                }
                let mut rows: Vec<_> = indices
                    .iter()
                    .map(|&i| std::mem::take(&mut self.links[i].captured.rows).into_iter())
                    .collect();
                if description.is_some() {
                    for &part in order {
                        let Some(row) = rows.get_mut(part as usize).and_then(Iterator::next) else {
                            return Err(Report::error(
                                "XX000",
                                "a shard returned fewer rows than it was given",
                            ));
                        };
                        self.client.say(|o| message::frame(o, b'D', |o| o.extend_from_slice(&row)));
                    }
                }
                add_tags(tags)
            }
            Combine::Aggregate(aggregates) => {
                let broken = || Report::error("08P01", "a shard's answer cannot be read");
                let mut columns =
                    message::read_row_description(&description.ok_or_else(broken)?).map_err(|_| broken())?;
                let oids: Vec<u32> = columns.iter().map(|c| c.type_oid).collect();
                if oids.iter().any(|oid| matches!(oid, 700 | 701)) && self.rounds_floats() {
                    return Err(Report::error(
                        "0A000",
                        "cannot combine floating-point values of several shards",
                    )
                    .detail("extra_float_digits is set below 1, so that the shards round what they answer.")
                    .hint("RESET extra_float_digits."));
                }
                let mut aggregator = Aggregator::new(aggregates, &oids).map_err(refused)?;
                for &i in indices {
                    for row in std::mem::take(&mut self.links[i].captured.rows) {
                        let mut values = Vec::new();
                        message::read_data_row(&row, &mut values).map_err(|_| broken())?;
                        aggregator.add(&values).map_err(refused)?;
                    }
                }
                let row = aggregator.finish(formats).map_err(refused)?;
                if describe {
                    for (n, column) in columns.iter_mut().enumerate() {
                        column.format = format_of(formats, n);
                        // An aggregate's column belongs to no table.
                    }
                    self.client.say(|o| message::row_description(o, &columns));
                }
                self.client.say(|o| message::data_row(o, &row));
                Ok("SELECT 1".to_owned())
            }
        }
    }

    fn send_job(&mut self, index: usize, job: &Job, unit: Unit, describe: bool, moment: &Moment) {
        match &job.bound {
            None => match moment {
                Moment::Any => self.links[index].send_unit(&job.sql, unit),
                Moment::One { flush, .. } => self.links[index].send_read(&job.sql, unit, *flush),
            },
            Some((prepared, tail)) => {
                let name = self.put_statement(index, prepared, false);
                let link = &mut self.links[index];
                *link.captured = super::link::Captured { used: true, ..Default::default() };
                message::bind_with(&mut link.out, b"", name.as_bytes(), tail);
                if describe {
                    message::describe(&mut link.out, b'P', b"");
                }
                if moment.flush() {
                    link.out.extend_from_slice(message::FLUSH);
                }
                message::execute(&mut link.out, b"", 0);
                link.out.extend_from_slice(message::SYNC);
                link.expects.push_back(Expect::Unit(unit));
            }
        }
    }

    async fn flush_all(&mut self, indices: &[usize]) {
        std::future::poll_fn(|cx| {
            for &i in indices {
                self.links[i].poll_flush(cx);
            }
            std::task::Poll::Ready(())
        })
        .await;
    }

    /// Nothing more of this link's unit reaches the client.
    pub(super) fn hush(&mut self, index: usize) {
        for expect in &mut self.links[index].expects {
            if let Expect::Unit(unit) = expect {
                *unit = Unit::Quiet;
            }
        }
    }

    /// A part of a split statement: its own text, and the parameters that it uses.
    fn rebind(
        &mut self,
        prepared: &Rc<Prepared>,
        tail: &[u8],
        sql: &str,
        params: &[u16],
    ) -> Result<(Rc<Prepared>, Vec<u8>), Report> {
        let malformed = || Report::error("08P01", "invalid message format");
        let (mut formats, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
        message::read_bind_tail(tail, &mut formats, &mut values, &mut results).map_err(|_| malformed())?;
        let mut types = Vec::with_capacity(params.len());
        let mut part_formats = Vec::with_capacity(params.len());
        let mut part_values = Vec::with_capacity(params.len());
        for &p in params {
            let p = p as usize;
            types.push(prepared.types.get(p).copied().unwrap_or(0));
            part_formats.push(format_of(&formats, p));
            part_values.push(*values.get(p).ok_or_else(malformed)?);
        }
        while types.last() == Some(&0) {
            types.pop();
        }
        let mut bind = Vec::new();
        message::bind(&mut bind, b"", b"", &part_formats, &part_values, &results);
        let statement = self.worker.intern_text(&self.reading(), sql, &types);
        // Type, length and two empty names stand before the tail.
        Ok((statement, bind.split_off(7)))
    }

    async fn copy_to(
        &mut self,
        text: &str,
        shards: &[ShardId],
        format: CopyFormat,
        header: bool,
    ) -> Result<Result<String, Report>, End> {
        let binary = format == CopyFormat::Binary;
        let mut indices = Vec::new();
        for shard in shards {
            match self.links.iter().position(|l| l.shard == *shard) {
                Some(index) => indices.push(index),
                None => return Ok(Err(Report::error("XX000", "a participant is missing"))),
            }
        }
        let mut attempts = 0;
        loop {
            let moment = match self.of_one_moment(shards) {
                false => Moment::Any,
                true => match self.enter_moment(shards).await {
                    Ok(moment) => moment,
                    Err(LinkError::Refused(report)) => return Ok(Err(report)),
                    Err(LinkError::End(end)) => return Err(end),
                },
            };
            for (n, &i) in indices.iter().enumerate() {
                self.links[i].send_unit(text, Unit::CopyOut { first: n == 0, header, binary });
            }
            if self.all_begun(moment, &indices).await? {
                break;
            }
            attempts += 1;
            if attempts == ATTEMPTS_MAX {
                return Ok(Err(overtaken()));
            }
        }
        // Shard after shard; the others wait with their rows.
        let mut tags = Vec::new();
        for &i in &indices {
            self.run_units_watched(&[i]).await?;
            match self.unit_result(i) {
                Ok(tag) => tags.extend(tag),
                Err(report) => return self.stop(&indices, report).await.map(Err),
            }
        }
        if binary {
            self.client.say(|o| message::copy_data(o, &[0xff, 0xff]));
        }
        self.client.push(message::COPY_DONE);
        Ok(add_tags(&tags))
    }
}

fn bound_of(via: &Via<'_>) -> Option<(Rc<Prepared>, Vec<u8>)> {
    match via {
        Via::Simple => None,
        Via::Extended { prepared, tail, .. } => Some(((*prepared).clone(), tail.to_vec())),
    }
}

/// Bind's rule for format codes: none (all text), one for all, or one each.
pub(super) fn format_of(formats: &[u16], n: usize) -> u16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(n).copied().unwrap_or(0),
    }
}

/// Asks for text results; what the client asked for goes to `formats`.
fn results_as_text(tail: &mut Vec<u8>, formats: &mut Vec<u16>) -> Result<(), Report> {
    let malformed = |_| Report::error("08P01", "invalid message format");
    let (mut params, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
    message::read_bind_tail(tail, &mut params, &mut values, &mut results).map_err(malformed)?;
    let mut bind = Vec::new();
    message::bind(&mut bind, b"", b"", &params, &values, &[]);
    *tail = bind.split_off(7);
    *formats = results;
    Ok(())
}

/// Names, types and formats; tables have other OIDs on other shards.
pub(super) fn same_columns(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    match (message::read_row_description(a), message::read_row_description(b)) {
        (Ok(a), Ok(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(&b)
                    .all(|(x, y)| x.name == y.name && x.type_oid == y.type_oid && x.format == y.format)
        }
        _ => false,
    }
}

/// A setting of extra_float_digits under which floats do not survive being text.
pub(super) fn low(value: &super::settings::Value) -> bool {
    !value.text().trim().trim_matches('\'').parse::<i32>().is_ok_and(|digits| digits >= 1)
}

/// `UPDATE 2` and `UPDATE 3` are `UPDATE 5`; tags without a count must agree.
fn add_tags(tags: &[String]) -> Result<String, Report> {
    let Some(first) = tags.first() else { return Ok(String::new()) };
    let split = |tag: &str| -> Option<(String, u64)> {
        let (word, count) = tag.rsplit_once(' ')?;
        Some((word.to_owned(), count.parse().ok()?))
    };
    let Some((word, _)) = split(first) else { return Ok(first.clone()) };
    let mut sum = 0u64;
    for tag in tags {
        match split(tag) {
            Some((w, n)) if w == word => sum += n,
            _ => {
                return Err(Report::error("XX000", "shards answered with different command tags")
                    .detail(format!("They answered {}.", tags.join(", "))));
            }
        }
    }
    Ok(format!("{word} {sum}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_the_shards_tags_add_up() {
        let cases: [(&str, &[&str], Result<&str, ()>); 6] = [
            ("updates", &["UPDATE 2", "UPDATE 3"], Ok("UPDATE 5")),
            ("inserts keep their zero", &["INSERT 0 1", "INSERT 0 2"], Ok("INSERT 0 3")),
            ("one shard", &["SELECT 7"], Ok("SELECT 7")),
            ("no count", &["TRUNCATE TABLE", "TRUNCATE TABLE"], Ok("TRUNCATE TABLE")),
            ("nothing", &[], Ok("")),
            ("another word is no sum", &["UPDATE 2", "DELETE 3"], Err(())),
        ];
        for (why, tags, expected) in cases {
            let tags: Vec<String> = tags.iter().map(|t| t.to_string()).collect();
            assert_eq!(add_tags(&tags).map_err(drop), expected.map(str::to_owned), "{why}");
        }
    }
}
