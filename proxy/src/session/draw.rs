//! A statement that lacks values of sequences, defaults or moments: they are drawn on the first shard, then it runs like any other.
//!
//! Invariants:
//! - A sequence is the first shard's, whoever's rows it numbers: nowhere else is a value drawn for a row of a sharded or reference
//!   table.
//! - It is drawn in the client's own session and transaction there: with its privileges, and from sequences that nobody else sees yet.
//! - Nothing is drawn for a statement that pgherd refuses, or that PostgreSQL does not understand. What was drawn is gone, whatever
//!   becomes of the statement then, as in PostgreSQL.

use std::collections::VecDeque;
use std::rc::Rc;

use pgherd_router::ShardId;
use pgherd_router::plan::{Draw, Params, Plan, Statement, Written};
use pgherd_wire::message::{self, Report};

use super::fan::{Via, format_of};
use super::gather::run;
use super::link::Unit;
use super::query::{as_each, refused};
use super::statements::Prepared;
use super::{End, LinkError, Session};

const FIRST: ShardId = ShardId(0);

/// Bind counts parameters in 16 bits.
const PARAMS_MAX: usize = u16::MAX as usize;

/// What the client bound, and where the values that are drawn come to stand behind it.
struct Bound<'a> {
    formats: Vec<u16>,
    values: Vec<Option<&'a [u8]>>,
    results: Vec<u16>,
    /// As a statement of its own, whatever the numbers are.
    prepared: Rc<Prepared>,
}

impl Session {
    /// Like `run_plan`: rows go to the client, the tag or the error is the caller's to say. Nothing is owed by any link.
    pub(super) async fn draw(
        &mut self,
        text: &str,
        draw: &Draw,
        via: Via<'_>,
    ) -> Result<Result<String, Report>, End> {
        let outcome = match via {
            Via::Simple => self.draw_simple(text, draw).await?,
            Via::Extended { prepared, tail, describe } => {
                self.draw_extended(draw, prepared, tail, describe).await?
            }
        };
        match outcome {
            Ok(tag) => Ok(Ok(tag)),
            Err(report) => Ok(self.fan_failed(false, report).await),
        }
    }

    async fn draw_simple(&mut self, text: &str, draw: &Draw) -> Result<Result<String, Report>, End> {
        // Planned with numbers that stand for others: what is refused whatever they are.
        if draw.sources.is_empty() {
            // Only its text is another one.
            let sql = draw.sql(std::iter::empty::<&str>());
            let topology = self.topology();
            let statements = self.analyze(&topology, &sql);
            let [statement] = &statements[..] else { return Ok(Err(malformed())) };
            return match self.plan(statement, &sql, Params::default()).await? {
                Ok(Plan::Draw(_)) => Ok(Err(twice())),
                Ok(plan) => {
                    let shard = one(&plan);
                    self.run_plan(&sql, &statement.template, as_each(plan, shard), Via::Simple).await
                }
                Err(refusal) => Ok(Err(refused(refusal))),
            };
        }
        let example = draw.sql(draw.gaps.iter().map(|gap| draw.sources[*gap].constant(Some("1"))));
        let topology = self.topology();
        if let [statement] = &self.analyze(&topology, &example)[..]
            && let Some(report) = refusal(&topology, statement, &example, Params::default())
        {
            return Ok(Err(report));
        }
        let values = match self.drawn(draw, Some(text)).await? {
            Ok(values) => values,
            Err(report) => return Ok(Err(report)),
        };
        // Where rows are is looked up when their keys are known.
        let topology = self.topology();
        let constants = draw.gaps.iter().zip(&values);
        let sql = draw.sql(constants.map(|(gap, value)| draw.sources[*gap].constant(value.as_deref())));
        let statements = self.analyze(&topology, &sql);
        let [statement] = &statements[..] else { return Ok(Err(malformed())) };
        match self.plan(statement, &sql, Params::default()).await? {
            Ok(Plan::Draw(_)) => Ok(Err(twice())),
            Ok(plan) => {
                let shard = one(&plan);
                self.run_plan(&sql, &statement.template, as_each(plan, shard), Via::Simple).await
            }
            Err(refusal) => Ok(Err(refused(refusal))),
        }
    }

    async fn draw_extended(
        &mut self,
        draw: &Draw,
        prepared: &Rc<Prepared>,
        tail: &[u8],
        describe: bool,
    ) -> Result<Result<String, Report>, End> {
        let Bound { formats, mut values, results, prepared } = match self.bound(draw, prepared, tail) {
            Ok(bound) => bound,
            Err(report) => return Ok(Err(report)),
        };
        let topology = self.topology();
        let analysis = self.analysis(&topology, &prepared);
        let [statement] = &analysis[..] else { return Ok(Err(malformed())) };
        let own = values.len() - draw.gaps.len();
        let params = Params { values: &values, formats: &formats, types: &prepared.types };
        let draws = !draw.sources.is_empty();
        if draws && let Some(report) = refusal(&topology, statement, &prepared.sql, params) {
            return Ok(Err(report));
        }
        // A server has read its text already.
        let drawn = match draws {
            true => self.drawn(draw, None).await?,
            false => Ok(Vec::new()),
        };
        let drawn = match drawn {
            Ok(drawn) => drawn,
            Err(report) => return Ok(Err(report)),
        };
        let topology = self.topology();
        let analysis = self.analysis(&topology, &prepared);
        let [statement] = &analysis[..] else { return Ok(Err(malformed())) };
        values.truncate(own);
        values.extend(drawn.iter().map(|value| value.as_deref().map(str::as_bytes)));
        let params = Params { values: &values, formats: &formats, types: &prepared.types };
        let plan = match self.plan(statement, &prepared.sql, params).await? {
            Ok(Plan::Draw(_)) => return Ok(Err(twice())),
            Ok(plan) => plan,
            Err(refusal) => return Ok(Err(refused(refusal))),
        };
        let mut bind = Vec::new();
        message::bind(&mut bind, b"", b"", &formats, &values, &results);
        // Type, length and two empty names stand before the tail.
        let tail = bind.split_off(7);
        let via = Via::Extended { prepared: &prepared, tail: &tail, describe };
        let shard = one(&plan);
        self.run_plan(&prepared.sql, &statement.template, as_each(plan, shard), via).await
    }

    /// The statement with parameters for the values to be drawn, which are numbers that stand for others as yet.
    fn bound<'a>(&self, draw: &Draw, prepared: &Rc<Prepared>, tail: &'a [u8]) -> Result<Bound<'a>, Report> {
        let (mut formats, mut values, mut results) = (Vec::new(), Vec::new(), Vec::new());
        message::read_bind_tail(tail, &mut formats, &mut values, &mut results).map_err(|_| malformed())?;
        let own = draw.params.max(prepared.types.len());
        if values.len() != own {
            let why = format!(
                "bind message supplies {} parameters, but prepared statement \"\" requires {own}",
                values.len()
            );
            return Err(Report::error("08P01", why));
        }
        if own + draw.gaps.len() > PARAMS_MAX {
            return Err(Report::error("54000", "too many values are to be drawn on the first shard")
                .detail(format!("They are parameters of the statement, which has at most {PARAMS_MAX}.")));
        }
        let mut types = prepared.types.to_vec();
        types.resize(own, 0);
        let mut formats: Vec<u16> = (0..own).map(|n| format_of(&formats, n)).collect();
        for gap in &draw.gaps {
            types.push(draw.sources[*gap].oid);
            formats.push(0);
            values.push(Some(b"1"));
        }
        let sql = draw.sql((own + 1..).take(draw.gaps.len()).map(|number| format!("${number}")));
        let prepared = self.worker.intern_text(&self.reading(), &sql, &types);
        Ok(Bound { formats, values, results, prepared })
    }

    /// For each gap of the statement, its value. `text`: a statement that PostgreSQL has to understand first.
    async fn drawn(
        &mut self,
        draw: &Draw,
        text: Option<&str>,
    ) -> Result<Result<Vec<Option<String>>, Report>, End> {
        if draw.sources.iter().any(|source| source.written != Written::Number)
            && self.client.parameter("DateStyle").is_some_and(|style| !style.starts_with("ISO"))
        {
            // The name of a time zone in it may be read as another one.
            return Ok(Err(Report::error(
                "0A000",
                "cannot give several shards one moment in this DateStyle",
            )
            .detail("A value is drawn on the first shard, and goes to the others as a text.")
            .hint("SET datestyle = 'ISO'.")));
        }
        match self.join_all(&[FIRST]).await {
            Ok(()) => {}
            Err(LinkError::Refused(report)) => return Ok(Err(report)),
            Err(LinkError::End(end)) => return Err(end),
        }
        let Some(at) = self.links.iter().position(|link| link.shard == FIRST) else {
            return Ok(Err(Report::error("XX000", "a participant is missing")));
        };
        self.begin_unit(at);
        if let Some(text) = text {
            message::parse(&mut self.links[at].out, b"", text.as_bytes(), &[]);
        }
        for source in 0..draw.sources.len() {
            run(&mut self.links[at].out, &draw.question(source), &[], &[], &[], 0);
        }
        self.end_unit(at, Unit::Collect);
        self.run_units_watched(&[at]).await?;
        let said = self.unit_result(at);
        let rows = std::mem::take(&mut self.links[at].captured.rows);
        self.purge_broken();
        if let Err(report) = said {
            return Ok(Err(with_privilege(report)));
        }
        if let Some(block) = &mut self.block {
            block.drew = true;
        }
        let mut answers: VecDeque<Option<String>> = VecDeque::with_capacity(rows.len());
        for row in rows {
            let mut columns = Vec::new();
            if message::read_data_row(&row, &mut columns).is_err() {
                return Ok(Err(malformed()));
            }
            let value = columns.first().copied().flatten();
            answers.push_back(value.map(|value| String::from_utf8_lossy(value).into_owned()));
        }
        // Source after source, each for its gaps in their order.
        let mut of_source: Vec<VecDeque<Option<String>>> = Vec::with_capacity(draw.sources.len());
        for source in 0..draw.sources.len() {
            let count = draw.count(source);
            if answers.len() < count {
                return Ok(Err(malformed()));
            }
            of_source.push(answers.drain(..count).collect());
        }
        let value = |gap: &usize| match draw.sources.get(*gap)?.each {
            true => of_source.get_mut(*gap)?.pop_front(),
            false => of_source.get(*gap)?.front().cloned(),
        };
        let values: Option<Vec<Option<String>>> = draw.gaps.iter().map(value).collect();
        Ok(values.ok_or_else(malformed))
    }
}

/// Why the statement is refused whatever is drawn for it.
fn refusal(
    topology: &pgherd_router::Topology,
    statement: &Statement,
    sql: &str,
    params: Params<'_>,
) -> Option<Report> {
    let template = &*statement.template;
    // Where its rows belong is not known yet: that no shard takes a number is no refusal of another.
    let first = match template.plan(topology, sql, &statement.literals, params) {
        Ok(Plan::Draw(_)) => return Some(twice()),
        planned => planned.err().filter(|refusal| refusal.sqlstate == "0A000"),
    };
    first.or_else(|| template.against_several(sql, &statement.literals, params)).map(refused)
}

fn one(plan: &Plan) -> Option<ShardId> {
    match plan {
        Plan::Any => Some(FIRST),
        Plan::One(shard) => Some(*shard),
        _ => None,
    }
}

fn malformed() -> Report {
    Report::error("08P01", "invalid message format")
}

fn twice() -> Report {
    Report::error("0A000", "cannot run this statement over several shards")
        .detail("pgherd does not understand all of its calls of nextval.")
        .hint("Draw the numbers first: SELECT nextval('name').")
}

/// PostgreSQL asks for no privilege on the sequence of an identity column; nextval does.
fn with_privilege(report: Report) -> Report {
    match report.sqlstate == "42501" {
        true => report.hint(
            "GRANT USAGE ON SEQUENCE ... TO the role, on the first shard: pgherd calls nextval for rows of all shards.",
        ),
        false => report,
    }
}
