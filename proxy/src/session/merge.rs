//! Sorted rows of several shards, merged into one stream as they come.
//!
//! Invariants:
//! - of each shard no more rows are held than [`STREAM_BYTES`] and what was read at once: a shard ahead of the others is not read, and
//!   a client that does not read stops all of them;
//! - no row is passed on before the types of all columns were seen, and the keys can be compared;
//! - a shard whose rows are not in the order that was asked for ends the statement: its collation is another one.
//!
//! A portal that is executed with a row limit reads from portals on the shards, piece by piece; between two pieces their servers
//! are free for other statements of the transaction.

use std::cell::Cell;
use std::cmp::Ordering;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::Poll;

use pgherd_router::ShardId;
use pgherd_router::order::{self, Sortable, Typed};
use pgherd_router::plan::{Merge, Plan, SortKey, Template};
use pgherd_wire::frame::HEADER_BYTES;
use pgherd_wire::message::{self, Report};

use super::client::Client;
use super::fan::{Via, same_columns};
use super::link::{Expect, Link, Unit};
use super::portals::by_pieces;
use super::query::refused;
use super::snapshot::{ATTEMPTS_MAX, Moment, overtaken};
use super::statements::Prepared;
use super::transaction::Block;
use super::{End, LinkError, Session};

/// Rows of one shard that wait for those of the others.
const STREAM_BYTES: usize = 64 * 1024;

/// Rows that the shards are asked for at once behind a portal with a row limit.
const PIECE_ROWS_MAX: u32 = 10_000;

/// Rows of one shard that are held between two executions of a portal.
const PIECE_BYTES_MAX: usize = 64 << 20;

/// A merge under way.
pub(super) struct Merging {
    plan: Merge,
    streams: Vec<Stream>,
    /// Once the columns are known: their number, and each key with its column's number and type.
    shape: Option<Shape>,
    /// Rows passed over and passed on.
    skipped: u64,
    sent: u64,
    /// Keys of the last row that was passed on.
    last: Vec<Sortable>,
    finished: bool,
    /// The portals on the shards that it reads from; empty: one statement each.
    portal: String,
    /// Floating-point values come as texts that do not hold the whole value.
    rounded: bool,
}

/// A merge between two executions of its portal.
pub(super) type Paused = Cell<Option<Merging>>;

struct Shape {
    columns: usize,
    keys: Vec<(SortKey, Typed)>,
    numbers: Vec<usize>,
}

struct Stream {
    shard: ShardId,
    rows: Vec<u8>,
    at: usize,
    head: Option<Head>,
    previous: Vec<Sortable>,
    /// It has no more rows.
    ended: bool,
    /// Its portal has more rows, and was not asked for them.
    suspended: bool,
}

struct Head {
    frame: Range<usize>,
    keys: Vec<Sortable>,
}

/// What a step came to.
enum Step {
    /// Rows of a shard are needed.
    Hungry,
    /// The client has to read first.
    Full,
    /// As many rows as were asked for.
    Enough,
    Finished,
}

pub(super) enum Portion {
    Suspended,
    Finished(String),
}

impl Merging {
    pub(super) fn new(plan: &Merge, portal: String, rounded: bool) -> Self {
        let stream = |shard: &ShardId| Stream {
            shard: *shard,
            rows: Vec::new(),
            at: 0,
            head: None,
            previous: Vec::new(),
            ended: false,
            suspended: false,
        };
        Self {
            streams: plan.shards.iter().map(stream).collect(),
            plan: plan.clone(),
            shape: None,
            skipped: 0,
            sent: 0,
            last: Vec::new(),
            finished: false,
            portal,
            rounded,
        }
    }

    /// Takes in what the shards sent: their columns, rows and errors. `true`: something was there.
    fn take_in(&mut self, links: &mut [Link], client: &mut Client, describe: bool) -> Result<bool, Report> {
        let mut progress = false;
        let (mut undescribed, mut failed) = (false, false);
        for stream in &mut self.streams {
            let Some(link) = links.iter_mut().find(|link| link.shard == stream.shard) else {
                return Err(Report::error("XX000", "a participant is missing"));
            };
            failed |= link.captured.error.is_some() || link.broken.is_some();
            undescribed |= link.captured.description.is_none();
            if stream.at == stream.rows.len() && !link.captured.rows_raw.is_empty() {
                stream.rows.clear();
                std::mem::swap(&mut stream.rows, &mut link.captured.rows_raw);
                stream.at = 0;
                progress = true;
            }
            if link.quiet() && link.captured.used && link.captured.rows_raw.is_empty() {
                if link.captured.suspended {
                    link.captured.suspended = false;
                    stream.suspended = true;
                    progress = true;
                } else if !stream.suspended && link.captured.tag.is_some() && !stream.ended {
                    stream.ended = true;
                    progress = true;
                }
            }
        }
        if self.shape.is_none() && !undescribed {
            self.learn(links, client, describe)?;
            progress = true;
        }
        if failed {
            // The session words it.
            return Err(Report::error("XX000", ""));
        }
        Ok(progress)
    }

    /// The columns, from what the shards say of them.
    fn learn(&mut self, links: &mut [Link], client: &mut Client, describe: bool) -> Result<(), Report> {
        let unreadable = || Report::error("08P01", "a shard's answer cannot be read");
        let mut first: Option<Vec<u8>> = None;
        for stream in &self.streams {
            let Some(link) = links.iter_mut().find(|link| link.shard == stream.shard) else { continue };
            let description = link.captured.description.take().ok_or_else(unreadable)?;
            match &first {
                None => first = Some(description),
                Some(first) if same_columns(first, &description) => {}
                Some(_) => {
                    return Err(Report::error("0A000", "shards disagree on the columns of the result")
                        .detail("A shard describes them otherwise than the first one.")
                        .hint("Bring the table to the same definition on every shard."));
                }
            }
        }
        let mut columns =
            message::read_row_description(&first.ok_or_else(unreadable)?).map_err(|_| unreadable())?;
        let (mut keys, mut numbers) = (Vec::new(), Vec::new());
        for key in &self.plan.keys {
            let number = key.place.number(columns.len(), self.plan.hidden).ok_or_else(unreadable)?;
            let typed = Typed { type_oid: columns[number].type_oid, format: columns[number].format };
            keys.push((*key, typed));
            numbers.push(number);
        }
        order::check(&keys).map_err(refused)?;
        let float = |typed: &Typed| typed.format == 0 && matches!(typed.type_oid, 700 | 701);
        if self.rounded && keys.iter().any(|(_, typed)| float(typed)) {
            return Err(Report::error("0A000", "cannot sort floating-point values of several shards")
                .detail("extra_float_digits is set below 1, so that the shards round what they answer.")
                .hint("RESET extra_float_digits."));
        }
        self.shape = Some(Shape { columns: columns.len(), keys, numbers });
        columns.truncate(columns.len() - self.plan.hidden);
        if describe {
            client.say(|o| message::row_description(o, &columns));
        }
        Ok(())
    }

    /// Passes rows on, until something is missing. `most`: no more than so many.
    fn step(&mut self, client: &mut Client, most: &mut u64) -> Result<Step, Report> {
        if self.finished {
            return Ok(Step::Finished);
        }
        let Some(shape) = &self.shape else { return Ok(Step::Hungry) };
        let mut fields = Vec::with_capacity(shape.columns);
        loop {
            if *most == 0 {
                return Ok(Step::Enough);
            }
            if client.backlogged() {
                return Ok(Step::Full);
            }
            let mut best: Option<usize> = None;
            let mut waits = false;
            for at in 0..self.streams.len() {
                self.streams[at].look(shape, &mut fields)?;
                let stream = &self.streams[at];
                let Some(head) = &stream.head else {
                    waits |= !stream.ended;
                    continue;
                };
                let earlier = best
                    .and_then(|best| self.streams[best].head.as_ref())
                    .is_none_or(|best| order::compare(&shape.keys, &head.keys, &best.keys) == Ordering::Less);
                if earlier {
                    best = Some(at);
                }
            }
            // Any row will do where no order was asked for.
            if waits && (best.is_none() || !shape.keys.is_empty()) {
                return Ok(Step::Hungry);
            }
            let Some(best) = best else {
                self.finished = true;
                return Ok(Step::Finished);
            };
            let within = self.plan.limit.is_none_or(|limit| self.sent < limit);
            let stream = &mut self.streams[best];
            let Some(head) = stream.head.take() else { continue };
            if !within {
                let tied = order::compare(&shape.keys, &head.keys, &self.last) == Ordering::Equal;
                if !self.plan.ties || !tied {
                    self.finished = true;
                    return Ok(Step::Finished);
                }
            }
            if self.skipped < self.plan.offset {
                self.skipped += 1;
            } else {
                pass_on(client, &stream.rows[head.frame.clone()], self.plan.hidden, &mut fields)?;
                self.sent += 1;
                *most -= 1;
                if self.plan.ties {
                    self.last.clone_from(&head.keys);
                }
            }
            stream.at = head.frame.end;
            stream.previous = head.keys;
            if !self.plan.ties && self.plan.limit == Some(self.sent) {
                self.finished = true;
                // As many as were asked for: PostgreSQL does not look whether there are more.
                return Ok(if *most == 0 { Step::Enough } else { Step::Finished });
            }
        }
    }
}

impl Stream {
    /// Reads the keys of its next row, if it is there.
    fn look(&mut self, shape: &Shape, fields: &mut Vec<Option<Range<usize>>>) -> Result<(), Report> {
        if self.head.is_some() || self.at == self.rows.len() {
            return Ok(());
        }
        let unreadable = || Report::error("08P01", "a shard's row cannot be read");
        let rest = &self.rows[self.at..];
        let length =
            rest.get(1..HEADER_BYTES).and_then(|length| length.try_into().ok()).ok_or_else(unreadable)?;
        let end = self.at + 1 + u32::from_be_bytes(length) as usize;
        let frame = self.at..end;
        let body = self.rows.get(self.at + HEADER_BYTES..end).ok_or_else(unreadable)?;
        let mut keys = Vec::with_capacity(shape.keys.len());
        if !shape.keys.is_empty() {
            places(body, fields).ok_or_else(unreadable)?;
            for ((_, typed), number) in shape.keys.iter().zip(&shape.numbers) {
                let place = fields.get(*number).ok_or_else(unreadable)?;
                keys.push(Sortable::read(*typed, place.clone().map(|place| &body[place])).map_err(refused)?);
            }
            if !self.previous.is_empty()
                && order::compare(&shape.keys, &keys, &self.previous) == Ordering::Less
            {
                return Err(Report::error("XX000", "a shard sorts its rows otherwise than the others")
                    .hint("Compare the collations of the shards' databases."));
            }
        }
        self.head = Some(Head { frame, keys });
        Ok(())
    }
}

/// Where the values of a row stand in its body; `None`: NULL.
fn places(body: &[u8], fields: &mut Vec<Option<Range<usize>>>) -> Option<()> {
    fields.clear();
    let count = u16::from_be_bytes(body.get(..2)?.try_into().ok()?);
    let mut at = 2;
    for _ in 0..count {
        let length = i32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        match usize::try_from(length) {
            Err(_) => fields.push(None),
            Ok(length) => {
                body.get(at..at + length)?;
                fields.push(Some(at..at + length));
                at += length;
            }
        }
    }
    Some(())
}

/// A row to the client, without its hidden columns.
fn pass_on(
    client: &mut Client,
    frame: &[u8],
    hidden: usize,
    fields: &mut Vec<Option<Range<usize>>>,
) -> Result<(), Report> {
    if hidden == 0 {
        client.push(frame);
        return Ok(());
    }
    let unreadable = || Report::error("08P01", "a shard's row cannot be read");
    let body = &frame[HEADER_BYTES..];
    places(body, fields).ok_or_else(unreadable)?;
    let own = fields.len().checked_sub(hidden).ok_or_else(unreadable)?;
    let mut end = 2;
    for field in &fields[..own] {
        end = field.as_ref().map_or(end + 4, |place| place.end);
    }
    client.say(|o| {
        message::frame(o, b'D', |o| {
            o.extend_from_slice(&(own as u16).to_be_bytes());
            o.extend_from_slice(&body[2..end]);
        });
    });
    Ok(())
}

impl Session {
    /// Runs a merge to its end: its tag.
    pub(super) async fn run_merge(
        &mut self,
        text: &str,
        plan: &Merge,
        via: &Via<'_>,
    ) -> Result<Result<String, Report>, End> {
        let (describe, statement) = match via {
            Via::Simple => (true, None),
            Via::Extended { prepared, tail, describe } => match self.rewritten(prepared, tail, plan) {
                Ok(statement) => (*describe, Some(statement)),
                Err(report) => return Ok(Err(report)),
            },
        };
        let mut merging = Merging::new(plan, String::new(), self.rounds_floats());
        let sql = plan.sql.as_deref().unwrap_or(text);
        if let Err(report) = self.start(&mut merging, sql, statement.as_ref(), None).await? {
            return Ok(Err(report));
        }
        match self.go_on(&mut merging, describe, u64::MAX, 0).await? {
            Ok(_) => Ok(Ok(format!("SELECT {}", merging.sent))),
            Err(report) => Ok(Err(moved(report, text, plan.sql.as_deref()))),
        }
    }

    /// The statement that the shards are given, and the Bind behind its name.
    fn rewritten(
        &mut self,
        prepared: &Rc<Prepared>,
        tail: &[u8],
        plan: &Merge,
    ) -> Result<(Rc<Prepared>, Vec<u8>), Report> {
        let malformed = |_| Report::error("08P01", "invalid message format");
        let statement = match &plan.sql {
            None => prepared.clone(),
            Some(sql) => self.worker.intern_text(&self.reading(), sql, &prepared.types),
        };
        let (mut formats, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
        message::read_bind_tail(tail, &mut formats, &mut values, &mut results).map_err(malformed)?;
        if plan.hidden == 0 || results.len() < 2 {
            return Ok((statement, tail.to_vec()));
        }
        results.extend(std::iter::repeat_n(0, plan.hidden));
        let mut bind = Vec::new();
        message::bind(&mut bind, b"", b"", &formats, &values, &results);
        Ok((statement, bind.split_off(7)))
    }

    /// Asks all shards, as of one moment. `rows`: of a portal, so many at first; with 0 it is only opened.
    async fn start(
        &mut self,
        merging: &mut Merging,
        sql: &str,
        statement: Option<&(Rc<Prepared>, Vec<u8>)>,
        rows: Option<u32>,
    ) -> Result<Result<(), Report>, End> {
        let shards = merging.plan.shards.clone();
        for _ in 0..ATTEMPTS_MAX {
            if rows.is_some() {
                // One that was overtaken goes with the transaction.
                self.pieces += 1;
                merging.portal = format!("pgherd_piece_{}", self.pieces);
            }
            let moment = match self.of_one_moment(&shards) {
                false => Moment::Any,
                true => match self.enter_moment(&shards).await {
                    Ok(moment) => moment,
                    Err(LinkError::Refused(report)) => return Ok(Err(report)),
                    Err(LinkError::End(end)) => return Err(end),
                },
            };
            if let Err(report) = self.ask(merging, sql, statement, rows, &moment) {
                return Ok(Err(report));
            }
            let indices: Vec<usize> =
                (0..self.links.len()).filter(|&i| shards.contains(&self.links[i].shard)).collect();
            if self.all_begun(moment, &indices).await? {
                return Ok(Ok(()));
            }
        }
        Ok(Err(overtaken()))
    }

    fn ask(
        &mut self,
        merging: &Merging,
        sql: &str,
        statement: Option<&(Rc<Prepared>, Vec<u8>)>,
        rows: Option<u32>,
        moment: &Moment,
    ) -> Result<(), Report> {
        for stream in &merging.streams {
            let Some(index) = self.links.iter().position(|link| link.shard == stream.shard) else {
                return Err(Report::error("XX000", "a participant is missing"));
            };
            let Some((prepared, tail)) = statement else {
                match moment {
                    Moment::Any => self.links[index].send_unit(sql, Unit::Stream),
                    Moment::One { flush, .. } => self.links[index].send_read(sql, Unit::Stream, *flush),
                }
                continue;
            };
            let name = self.put_statement(index, prepared, false);
            let link = &mut self.links[index];
            link.captured.begin();
            let portal = merging.portal.as_bytes();
            message::bind_with(&mut link.out, portal, name.as_bytes(), tail);
            message::describe(&mut link.out, b'P', portal);
            if moment.flush() {
                link.out.extend_from_slice(message::FLUSH);
            }
            if rows != Some(0) {
                message::execute(&mut link.out, portal, rows.unwrap_or(0));
            }
            link.out.extend_from_slice(message::SYNC);
            link.expects.push_back(Expect::Unit(Unit::Stream));
        }
        Ok(())
    }

    /// Reads and merges until the end, or until `most` rows were passed on.
    async fn go_on(
        &mut self,
        merging: &mut Merging,
        describe: bool,
        most: u64,
        piece: u32,
    ) -> Result<Result<Portion, Report>, End> {
        let mut left = most;
        let outcome = poll_fn(|cx| {
            loop {
                let mut progress = self.client.poll_flush(cx);
                for stream in &merging.streams {
                    let Some(link) = self.links.iter_mut().find(|link| link.shard == stream.shard) else {
                        continue;
                    };
                    progress |= link.poll_flush(cx);
                    if link.captured.rows_raw.len() < STREAM_BYTES && !link.quiet() && link.broken.is_none() {
                        progress |= link.poll_take(cx, &mut self.client);
                    }
                }
                match merging.take_in(&mut self.links, &mut self.client, describe) {
                    Ok(taken) => progress |= taken,
                    Err(report) => return Poll::Ready(Err(report)),
                }
                match merging.step(&mut self.client, &mut left) {
                    Ok(Step::Finished) => return Poll::Ready(Ok(true)),
                    Ok(Step::Enough) => return Poll::Ready(Ok(false)),
                    Ok(Step::Hungry | Step::Full) => {}
                    Err(report) => return Poll::Ready(Err(report)),
                }
                // What a shard's portal has not said yet is asked for when its last row is gone.
                for stream in &mut merging.streams {
                    if stream.suspended && stream.head.is_none() && stream.at == stream.rows.len() {
                        stream.suspended = false;
                        if let Some(link) = self.links.iter_mut().find(|link| link.shard == stream.shard) {
                            link.captured.begin();
                            message::execute(&mut link.out, merging.portal.as_bytes(), piece);
                            link.out.extend_from_slice(message::SYNC);
                            link.expects.push_back(Expect::Unit(Unit::Stream));
                            progress = true;
                        }
                    }
                }
                if self.client.inbox_has_room() {
                    progress |= self.client.poll_fill(cx);
                }
                if self.client.gone || self.card.ends().is_some() {
                    return Poll::Ready(Err(Report::error("08006", "the client is gone")));
                }
                if !progress {
                    return Poll::Pending;
                }
            }
        })
        .await;
        let indices: Vec<usize> = (0..self.links.len())
            .filter(|&i| merging.streams.iter().any(|stream| stream.shard == self.links[i].shard))
            .collect();
        let done = match outcome {
            Ok(done) => done,
            Err(report) => return self.stop(&indices, report).await.map(Err),
        };
        // What is under way comes to its end: rows that belong to a later piece are kept, others are not read.
        if done {
            indices.iter().for_each(|&i| self.hush(i));
        } else if let Err(report) = self.gather_piece(merging, &indices).await {
            return self.stop(&indices, report).await.map(Err);
        }
        self.run_units_watched(&indices).await?;
        for &i in &indices {
            if let Err(report) = self.unit_result(i) {
                return Ok(Err(report));
            }
        }
        Ok(Ok(if done { Portion::Finished(format!("SELECT {}", most - left)) } else { Portion::Suspended }))
    }

    /// The rest of the pieces that were asked for.
    async fn gather_piece(&mut self, merging: &mut Merging, indices: &[usize]) -> Result<(), Report> {
        let mut too_much = false;
        poll_fn(|cx| {
            loop {
                let mut progress = self.client.poll_flush(cx);
                let mut waiting = false;
                for &i in indices {
                    let link = &mut self.links[i];
                    progress |= link.poll_flush(cx);
                    progress |= link.poll_take(cx, &mut self.client);
                    waiting |= link.broken.is_none() && !link.quiet();
                    too_much |= link.captured.rows_raw.len() > PIECE_BYTES_MAX;
                }
                if !waiting || too_much || self.client.gone {
                    return Poll::Ready(());
                }
                if !progress {
                    return Poll::Pending;
                }
            }
        })
        .await;
        if too_much {
            return Err(Report::error("54000", "the rows of one piece are too large to be held")
                .detail(format!(
                    "Up to {} MiB of a shard's rows are held between two executions of a portal.",
                    PIECE_BYTES_MAX >> 20
                ))
                .hint("Ask for fewer rows at once."));
        }
        for stream in &mut merging.streams {
            let Some(link) = self.links.iter_mut().find(|link| link.shard == stream.shard) else { continue };
            // Behind what is there already.
            stream.rows.append(&mut link.captured.rows_raw);
            if link.quiet() && link.captured.used {
                if link.captured.suspended {
                    link.captured.suspended = false;
                    stream.suspended = true;
                } else if link.captured.tag.is_some() && !stream.suspended {
                    stream.ended = true;
                }
            }
        }
        Ok(())
    }

    /// The statement has failed: nothing more of it reaches the client, and the shards need not go on.
    pub(super) async fn stop(&mut self, indices: &[usize], report: Report) -> Result<Report, End> {
        let mut report = report;
        let mut worded = !report.message.is_empty();
        for &i in indices {
            self.hush(i);
            if !worded
                && (self.links[i].captured.error.is_some() || self.links[i].broken.is_some())
                && let Err(own) = self.unit_result(i)
            {
                report = own;
                worded = true;
            }
        }
        for &i in indices {
            if !self.links[i].quiet() && self.links[i].broken.is_none() {
                let _ = self.links[i].server.cancel.cancel().await;
            }
        }
        self.run_units_watched(indices).await?;
        Ok(report)
    }

    /// A portal over several shards is executed with a row limit, for the first time or again.
    pub(super) async fn execute_piece(
        &mut self,
        prepared: &Rc<Prepared>,
        template: &Template,
        plan: &Plan,
        (tail, describe): (&[u8], bool),
        merging: &mut Option<Rc<Paused>>,
        rows: u32,
    ) -> Result<Result<Portion, Report>, End> {
        let Some(plan) = by_pieces(template, plan) else {
            let report =
                Report::error("0A000", "a row limit is not supported for this statement on several shards")
                    .hint("Fetch all rows at once, or restrict the statement to one shard by its key.");
            return Ok(Err(report));
        };
        if let Err(report) = self.join_for_pieces(template, &plan).await? {
            return Ok(Err(report));
        }
        // 0: all that is left.
        let (most, piece) = match rows {
            0 => (u64::MAX, PIECE_ROWS_MAX),
            rows => (rows.into(), rows.min(PIECE_ROWS_MAX)),
        };
        let running = match merging {
            Some(running) => {
                // What other statements have said meanwhile is not its.
                for link in self.links.iter_mut().filter(|link| plan.shards.contains(&link.shard)) {
                    link.captured.begin();
                }
                running.clone()
            }
            None => {
                let statement = match self.rewritten(prepared, tail, &plan) {
                    Ok(statement) => statement,
                    Err(report) => return Ok(Err(report)),
                };
                let rounded = self.rounds_floats();
                let mut new = Merging::new(&plan, String::new(), rounded);
                if let Err(report) = self.start(&mut new, "", Some(&statement), Some(piece)).await? {
                    self.purge_broken();
                    return Ok(Err(report));
                }
                let new = Rc::new(Cell::new(Some(new)));
                *merging = Some(new.clone());
                new
            }
        };
        // Dropped halfway, it is lost with its session.
        let Some(mut merge) = running.take() else {
            return Ok(Err(Report::error("55006", "the portal is being executed already")));
        };
        let outcome = self.go_on(&mut merge, describe, most, piece).await?;
        running.set(Some(merge));
        self.purge_broken();
        Ok(outcome.map_err(|report| moved(report, &prepared.sql, plan.sql.as_deref())))
    }
}

impl Session {
    /// Joins the shards that a portal reads from, which live in a transaction.
    pub(super) async fn join_for_pieces(
        &mut self,
        template: &Template,
        plan: &Merge,
    ) -> Result<Result<(), Report>, End> {
        self.settle().await?;
        if self.links.iter().any(|l| l.unsynced) {
            match self.batch_to_block().await {
                Ok(()) => {}
                Err(LinkError::Refused(report)) => return Ok(Err(report)),
                Err(LinkError::End(end)) => return Err(end),
            }
        }
        if self.block.is_none() {
            self.block = Some(Block::new(false, Default::default(), self.settings.clone()));
        }
        self.sync_links();
        match self.join_all(&plan.shards).await {
            Ok(()) => {}
            Err(LinkError::Refused(report)) => return Ok(Err(report)),
            Err(LinkError::End(end)) => return Err(end),
        }
        if !template.read_only {
            for link in &mut self.links {
                link.wrote |= plan.shards.contains(&link.shard);
            }
        }
        Ok(Ok(()))
    }

    /// Opens a portal on its shards, which have joined: its snapshots are taken, and no row is read.
    pub(super) async fn open_merge(
        &mut self,
        prepared: &Rc<Prepared>,
        tail: &[u8],
        plan: &Merge,
    ) -> Result<Result<Merging, Report>, End> {
        let statement = match self.rewritten(prepared, tail, plan) {
            Ok(statement) => statement,
            Err(report) => return Ok(Err(report)),
        };
        let mut merging = Merging::new(plan, String::new(), self.rounds_floats());
        if let Err(report) = self.start(&mut merging, "", Some(&statement), Some(0)).await? {
            self.purge_broken();
            return Ok(Err(report));
        }
        let indices: Vec<usize> =
            (0..self.links.len()).filter(|&i| plan.shards.contains(&self.links[i].shard)).collect();
        self.run_units_watched(&indices).await?;
        let said: Vec<_> = indices.iter().map(|&i| self.unit_result(i)).collect();
        let failed = said.into_iter().find_map(Result::err);
        let outcome = match failed {
            Some(report) => Err(moved(report, &prepared.sql, plan.sql.as_deref())),
            None => merging.learn(&mut self.links, &mut self.client, false).map(|()| {
                merging.streams.iter_mut().for_each(|stream| stream.suspended = true);
                merging
            }),
        };
        self.purge_broken();
        Ok(outcome)
    }

    /// The client closes a portal that was read piece by piece.
    pub(super) async fn close_pieces(&mut self, paused: &Paused) -> Result<(), End> {
        self.settle().await?;
        let Some(merging) = paused.take() else { return Ok(()) };
        let mut indices = Vec::new();
        for (index, link) in self.links.iter_mut().enumerate() {
            let reads = merging.streams.iter().any(|stream| stream.shard == link.shard);
            if reads && link.in_block && link.broken.is_none() {
                link.captured.begin();
                message::close(&mut link.out, b'P', merging.portal.as_bytes());
                link.out.extend_from_slice(message::SYNC);
                link.expects.push_back(Expect::Unit(Unit::Quiet));
                indices.push(index);
            }
        }
        self.run_units(&indices).await;
        self.purge_broken();
        Ok(())
    }
}

/// Where an error stands in the client's text, when it was said of a longer one.
fn moved(mut report: Report, own: &str, asked: Option<&str>) -> Report {
    let Some(asked) = asked else { return report };
    let same = own.chars().zip(asked.chars()).take_while(|(a, b)| a == b).count() as i64;
    report.shift_position_behind(same, own.chars().count() as i64 - asked.chars().count() as i64);
    report
}
