//! Values that one server has to give: they are drawn from the first shard and put into the text, which is then planned like any
//! other.
//!
//! - INSERT ... VALUES leaves numbers to sequences (serial, identity, nextval).
//! - INSERT leaves columns to defaults that would be others on each shard (now(), gen_random_uuid()): the sharding key, those of a
//!   reference table, and those of rows that belong to several shards.
//! - Conditions and assignments name the moment (now(), CURRENT_DATE) in a statement for several shards.
//!
//! Invariants:
//! - As many values of a sequence are drawn as PostgreSQL would draw: one for each row whose column is left out, DEFAULT or
//!   nextval('name'). Values are given to the rows in their order.
//! - A moment is drawn once. Where it would name a column of the answer, or one of them cannot be drawn, none is.
//! - The text stays the client's own but for the gaps; where a column is GENERATED ALWAYS, OVERRIDING SYSTEM VALUE is added, and no
//!   value of the client's gets past that column's guard by it.
//!
//! Not here: drawing (`proxy`).

use std::ops::Range;

use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Insert, SetExpr};

use super::constant::Values;
use super::insert::{is_default, params, row_places};
use super::names::sharding;
use super::parse::overriding;
use super::query::{Seen, qualified};
use super::reader::Reader;
use super::refuse::{not_proven, sequence};
use super::route::{self, Route};
use super::shape::shape;
use super::views;
use super::write::InsertParts;
use crate::lexer::{Token, TokenKind, tokens};
use crate::plan::{Draw, Literal, LiteralKind, Plan, Source, Written};
use crate::refusal::Refusal;
use crate::topology::{ColumnFacts, Identity, Topology};

/// What a template knows of the gaps.
#[derive(Debug)]
pub(crate) struct DrawRoute {
    /// What it is without anything drawn: taken where that is one shard's, or needs nothing drawn.
    first: Option<Box<Route>>,
    /// Values are put into the rows of an INSERT.
    rows: bool,
    /// Moments are drawn.
    moments: bool,
    /// The queries of views are put in their places, and nothing is drawn.
    views: bool,
    /// Only rows that belong to several shards need what is drawn.
    pub(super) only_apart: bool,
    /// In the order of the table's columns.
    columns: Vec<DrawnColumn>,
    /// Names of the values that the statement lists without names, where columns are added to them.
    names: Option<Vec<String>>,
    /// A column that is GENERATED ALWAYS gets a value of ours.
    system: bool,
}

#[derive(Debug)]
struct DrawnColumn {
    name: String,
    source: Source,
    /// Its place in a row; `None`: it is left out.
    place: Option<usize>,
    /// Whatever value it is given is ignored (OVERRIDING USER VALUE).
    ignored: bool,
}

/// OVERRIDING USER VALUE stands in the statement.
pub(super) fn ignores_values(tokens: &[Token]) -> bool {
    (0..tokens.len()).any(|index| overriding(&tokens[index..]) == Some(true))
}

/// Whether values have to be drawn before the statement can be planned. `listed`: its columns, or all of the table.
pub(super) fn needed(
    topology: &Topology,
    table: usize,
    insert: &Insert,
    listed: &[&str],
    tokens: &[Token],
) -> Seen<Option<DrawRoute>> {
    let Some(facts) = topology.facts.tables.get(&table) else { return Ok(None) };
    let rows: Vec<&[Expr]> = match insert.source.as_ref().map(|source| &*source.body) {
        None => Vec::new(),
        Some(SetExpr::Values(values)) => values.rows.iter().map(|row| row.content.as_slice()).collect(),
        Some(_) => return Ok(None),
    };
    let width = rows.first().map_or(0, |row| row.len());
    if rows.iter().any(|row| row.len() != width) {
        return Ok(None);
    }
    let unnamed = insert.columns.is_empty();
    if width > listed.len() || !unnamed && width != listed.len() && insert.source.is_some() {
        // PostgreSQL has its own words for that.
        return Ok(None);
    }
    let listed = &listed[..width];
    let user = ignores_values(tokens);
    let system = (0..tokens.len()).any(|index| overriding(&tokens[index..]) == Some(false));
    let place = |column: &ColumnFacts| listed.iter().position(|listed| *listed == column.name);
    let given = |place: usize| rows.iter().filter(move |row| row.get(place).is_some_and(|e| !is_default(e)));
    let (key, copied) = match sharding(topology, table) {
        Some((_, key)) => (key, false),
        None => (&[][..], true),
    };
    let mut columns = Vec::new();
    let (mut always, mut only_apart) = (false, true);
    for column in facts.columns.iter().filter(|column| column.from_sequence || column.default_not_immutable) {
        let place = place(column);
        let ignored = user && column.identity != Identity::No;
        let draws = match place {
            None => true,
            Some(place) => ignored || given(place).count() < rows.len(),
        };
        if !draws {
            continue;
        }
        let own = column.from_sequence || copied || key.contains(&column.name);
        if !own && rows.len() < 2 {
            continue;
        }
        let source = match (column.from_sequence, &column.sequence, &column.default) {
            (true, Some(name), _) => of_sequence(&literal(name)),
            (true, None, _) => return Err(sequence(&column.name, &topology.tables[table].name)),
            (false, _, Some(default)) => match of_default(column.type_oid, default) {
                Some(source) => source,
                None => continue,
            },
            (false, _, None) => continue,
        };
        only_apart &= !own;
        always |= column.identity == Identity::Always;
        columns.push(DrawnColumn { name: column.name.clone(), source, place, ignored });
    }
    let called = rows.iter().flat_map(|row| row.iter()).any(is_nextval);
    if columns.is_empty() && !called {
        return Ok(None);
    }
    if called && columns.iter().any(|column| column.source.written == Written::Number) {
        return Err(not_proven("It draws from sequences by DEFAULT and by nextval."));
    }
    let guarded = |column: &&ColumnFacts| column.identity == Identity::Always;
    let mut guarded = facts.columns.iter().filter(guarded).filter_map(place);
    if always && !user && !system && guarded.any(|place| given(place).count() > 0) {
        return Err(not_proven("It gives a value to a column that is GENERATED ALWAYS."));
    }
    for (index, column) in columns.iter().enumerate() {
        let sequence = column.source.written == Written::Number;
        if sequence && columns[..index].iter().any(|other| other.source == column.source) {
            return Err(not_proven("It draws two columns from one sequence."));
        }
    }
    let adds = columns.iter().any(|column| column.place.is_none());
    let names = (unnamed && adds).then(|| listed.iter().map(|name| quoted(name)).collect());
    Ok(Some(DrawRoute {
        first: None,
        rows: true,
        moments: false,
        views: false,
        only_apart: only_apart && !called,
        columns,
        names,
        system: always || user || system,
    }))
}

/// What rows of an INSERT need that belong to several shards, and only they.
pub(super) fn of_rows_apart(
    topology: &Topology,
    table: usize,
    insert: &Insert,
    tokens: &[Token],
) -> Seen<Option<DrawRoute>> {
    let parts = InsertParts::of(insert)?;
    let Some(facts) = topology.facts.tables.get(&table) else { return Ok(None) };
    let listed: Vec<&str> = match parts.columns.as_slice() {
        [] => facts.columns.iter().map(|column| column.name.as_str()).collect(),
        columns => columns.to_vec(),
    };
    Ok(needed(topology, table, insert, &listed, tokens)?.filter(|route| route.only_apart))
}

/// The statement, with moments drawn where they stand in its way.
pub(super) fn with_moments(topology: &Topology, tokens: &[Token], route: Route) -> Route {
    let found = match moments(tokens) {
        Some(found) if !found.is_empty() => found,
        _ => return route,
    };
    let route = match route {
        Route::Draw(mut route) => {
            route.moments = true;
            return Route::Draw(route);
        }
        route @ (Route::Pinned(_) | Route::Insert(_)) => route,
        Route::Refuse(refusal) if refusal.sqlstate == "0A000" => Route::Refuse(refusal),
        route => return route,
    };
    // Would it be of any use?
    let mut plain: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut skipped = 0;
    for (index, token) in tokens.iter().enumerate() {
        if let Some(moment) = found.iter().find(|moment| moment.tokens.start == index) {
            skipped = moment.tokens.end;
            let kind = TokenKind::Literal(LiteralKind::String);
            plain.push(Token { kind, text: "''".to_owned(), ..token.clone() });
        } else if index >= skipped {
            plain.push(token.clone());
        }
    }
    let literals: Vec<Literal> = plain
        .iter()
        .filter_map(|token| match token.kind {
            TokenKind::Literal(kind) => Some(Literal { at: token.at.clone(), kind }),
            _ => None,
        })
        .collect();
    match shape(topology, &plain, &literals).route {
        Route::Refuse(_) => route,
        _ => Route::Draw(Box::new(DrawRoute {
            first: Some(Box::new(route)),
            rows: false,
            moments: true,
            views: false,
            only_apart: false,
            columns: Vec::new(),
            names: None,
            system: false,
        })),
    }
}

/// A moment that is the same all through a statement.
struct Moment {
    tokens: Range<usize>,
    source: Source,
}

/// `None`: one of them names a column of the answer, or nobody knows.
fn moments(tokens: &[Token]) -> Option<Vec<Moment>> {
    let word = |index: usize, text: &str| {
        tokens.get(index).is_some_and(|token| token.kind == TokenKind::Word && token.text == text)
    };
    let symbol = |index: usize, text: &str| {
        tokens.get(index).is_some_and(|token| token.kind == TokenKind::Punctuation && token.text == text)
    };
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if token.kind != TokenKind::Word {
            continue;
        }
        let called = symbol(index + 1, "(") && symbol(index + 2, ")");
        let (sql, oid, ty, length) = match token.text.as_str() {
            "now" | "transaction_timestamp" if called => ("pg_catalog.now()", 1184, "timestamptz", 3),
            "now" | "transaction_timestamp" => continue,
            // With a precision they are others.
            "current_timestamp" | "current_date" | "localtimestamp" if symbol(index + 1, "(") => return None,
            "current_timestamp" => ("CURRENT_TIMESTAMP", 1184, "timestamptz", 1),
            "current_date" => ("CURRENT_DATE", 1082, "date", 1),
            "localtimestamp" => ("LOCALTIMESTAMP", 1114, "timestamp", 1),
            _ => continue,
        };
        let mut start = index;
        if symbol(index.wrapping_sub(1), ".") {
            if !word(index.wrapping_sub(2), "pg_catalog") {
                continue;
            }
            start = index - 2;
        }
        if !has_no_name(tokens, start) {
            return None;
        }
        let source = Source { sql: sql.to_owned(), each: false, oid, written: Written::Typed(ty) };
        found.push(Moment { tokens: start..index + length, source });
    }
    Some(found)
}

/// The clause that an expression stands in makes no column of it.
fn has_no_name(tokens: &[Token], at: usize) -> bool {
    let mut closed = 0;
    for index in (0..at).rev() {
        let token = &tokens[index];
        match (token.kind, token.text.as_str()) {
            (TokenKind::Punctuation, ")") => closed += 1,
            (TokenKind::Punctuation, "(") => closed = (closed - 1).max(0),
            (TokenKind::Word, text) if closed == 0 => {
                let name = index.checked_sub(1).is_some_and(|before| tokens[before].text == ".");
                let opens = tokens.get(index + 1).is_some_and(|next| next.text == "(");
                match text {
                    _ if name => {}
                    "where" | "on" | "having" => return true,
                    "values" if opens => return true,
                    "set" => return tokens.iter().any(|token| token.text == "update"),
                    "select" | "from" | "by" | "returning" | "limit" | "offset" | "fetch" | "window"
                    | "using" | "partition" | "over" => return false,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    false
}

/// nextval('name')
fn is_nextval(expr: &Expr) -> bool {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else {
        return false;
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_slice() else { return false };
    let argument = match argument {
        Expr::Cast { expr, .. } => expr,
        other => other,
    };
    matches!(qualified(name), Ok((None | Some("pg_catalog"), "nextval")))
        && matches!(argument, Expr::Value(_))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `name`: a string constant.
fn of_sequence(name: &str) -> Source {
    // int8, which is what nextval returns.
    let sql = format!("pg_catalog.nextval({name}::pg_catalog.regclass)");
    Source { sql, each: true, oid: 20, written: Written::Number }
}

/// `None`: a type whose texts may not say all.
fn of_default(oid: u32, default: &str) -> Option<Source> {
    let ty = match oid {
        16 => "bool",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        25 => "text",
        1043 => "varchar",
        1082 => "date",
        1114 => "timestamp",
        1184 => "timestamptz",
        1700 => "numeric",
        2950 => "uuid",
        3802 => "jsonb",
        _ => return None,
    };
    let sql = format!("CAST({default} AS pg_catalog.{ty})");
    Some(Source { sql, each: true, oid, written: Written::Text })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What is put in the place of a piece of the text.
enum Edit {
    Text(String),
    Gap(usize),
}

impl DrawRoute {
    /// A query that names views.
    pub(super) fn of_views() -> Self {
        Self {
            first: None,
            rows: false,
            moments: false,
            views: true,
            only_apart: false,
            columns: Vec::new(),
            names: None,
            system: false,
        }
    }

    /// The route that is taken first.
    pub(super) fn unless(mut self, first: Route) -> Self {
        self.first = Some(Box::new(first));
        self
    }

    pub(super) fn first(&self) -> Option<&Route> {
        self.first.as_deref()
    }

    pub(super) fn bind(&self, topology: &Topology, values: Values<'_>) -> Result<Plan, Refusal> {
        if let Some(first) = &self.first {
            match route::bind(first, topology, values.sql, values.literals, values.params) {
                Ok(Plan::Gather(_)) => {}
                Ok(plan) => return Ok(plan),
                Err(refusal) if refusal.sqlstate == "0A000" => {}
                Err(refusal) => return Err(refusal),
            }
        }
        let unfit = || not_proven("The statement's text does not fit its plan.");
        let tokens = tokens(values.sql);
        if self.views {
            let pieces = vec![views::expanded(topology, values.sql).ok_or_else(unfit)?];
            let params = params(&tokens).iter().map(|(number, _)| number + 1).max().unwrap_or(0);
            return Ok(Plan::Draw(Box::new(Draw { sources: Vec::new(), gaps: Vec::new(), pieces, params })));
        }
        let mut edits: Vec<(Range<u32>, Edit)> = Vec::new();
        let mut sources: Vec<Source> = self.columns.iter().map(|column| column.source.clone()).collect();
        if self.rows {
            self.fill_rows(&tokens, values, &mut edits, &mut sources)?;
        }
        if self.moments {
            for moment in moments(&tokens).unwrap_or_default() {
                let known = sources.iter().position(|known| *known == moment.source);
                let index = known.unwrap_or_else(|| {
                    sources.push(moment.source);
                    sources.len() - 1
                });
                let (first, last) = (tokens.get(moment.tokens.start), tokens.get(moment.tokens.end - 1));
                let (Some(first), Some(last)) = (first, last) else { return Err(unfit()) };
                edits.push((first.at.start..last.at.end, Edit::Gap(index)));
            }
            edits.sort_by_key(|(at, _)| at.start);
        }
        let (mut pieces, mut gaps, mut copied) = (vec![String::new()], Vec::new(), 0);
        for (at, edit) in edits {
            let between = values.sql.get(copied as usize..at.start as usize).ok_or_else(unfit)?;
            copied = at.end;
            if let Some(piece) = pieces.last_mut() {
                piece.push_str(between);
            }
            match edit {
                Edit::Text(text) => pieces.last_mut().into_iter().for_each(|piece| piece.push_str(&text)),
                Edit::Gap(sequence) => {
                    gaps.push(sequence);
                    pieces.push(String::new());
                }
            }
        }
        if gaps.is_empty() {
            return Err(not_proven("pgherd understands nextval('name') only, as a value of its own."));
        }
        let rest = values.sql.get(copied as usize..).ok_or_else(unfit)?;
        pieces.last_mut().into_iter().for_each(|piece| piece.push_str(rest));
        let params = params(&tokens).iter().map(|(number, _)| number + 1).max().unwrap_or(0);
        Ok(Plan::Draw(Box::new(Draw { sources, gaps, pieces, params })))
    }

    /// What is put into an INSERT.
    fn fill_rows(
        &self,
        tokens: &[Token],
        values: Values<'_>,
        edits: &mut Vec<(Range<u32>, Edit)>,
        sources: &mut Vec<Source>,
    ) -> Result<(), Refusal> {
        let unfit = || not_proven("The statement's text does not fit its plan.");
        let mut reader = Reader::new(tokens);
        if !reader.accept_all(&["insert", "into"]) || reader.name().is_none() {
            return Err(unfit());
        }
        if reader.accept("as") {
            reader.identifier();
        }
        let mut text = |at: Range<u32>, text: String| edits.push((at, Edit::Text(text)));
        let added: Vec<usize> =
            (0..self.columns.len()).filter(|index| self.columns[*index].place.is_none()).collect();
        let new_names = || added.iter().map(|index| quoted(&self.columns[*index].name));
        match reader.parentheses() {
            Some(list) if !added.is_empty() => {
                let end = list.last().ok_or_else(unfit)?.at.end;
                text(end..end, format!(", {}", new_names().collect::<Vec<_>>().join(", ")));
            }
            Some(_) => {}
            None if !added.is_empty() => {
                let at = reader.peek().ok_or_else(unfit)?.at.start;
                let names = self.names.iter().flatten().cloned().chain(new_names());
                text(at..at, format!("({}) ", names.collect::<Vec<_>>().join(", ")));
            }
            None => {}
        }
        if overriding(reader.rest()).is_some() {
            let (first, last) = (reader.next(), reader.rest().get(1));
            let (Some(first), Some(last)) = (first, last) else { return Err(unfit()) };
            text(first.at.start..last.at.end, "OVERRIDING SYSTEM VALUE".to_owned());
            reader.next();
            reader.next();
        } else if self.system {
            let at = reader.peek().ok_or_else(unfit)?.at.start;
            text(at..at, "OVERRIDING SYSTEM VALUE ".to_owned());
        }
        if reader.accept("default") {
            let (before, last) = (reader.peek().ok_or_else(unfit)?, reader.next().ok_or_else(unfit)?);
            let start = tokens.iter().take_while(|token| token.at.start < before.at.start).last();
            let start = start.ok_or_else(unfit)?.at.start;
            edits.push((start..last.at.end, Edit::Text("VALUES (".to_owned())));
            for (nth, index) in added.iter().enumerate() {
                if nth > 0 {
                    edits.push((last.at.end..last.at.end, Edit::Text(", ".to_owned())));
                }
                edits.push((last.at.end..last.at.end, Edit::Gap(*index)));
            }
            edits.push((last.at.end..last.at.end, Edit::Text(")".to_owned())));
        } else {
            for row in row_places(tokens).ok_or_else(unfit)? {
                let mut called = Vec::new();
                for (place, item) in items(tokens, &row).into_iter().enumerate() {
                    let (Some(first), Some(last)) = (item.first(), item.last()) else { return Err(unfit()) };
                    let at = first.at.start..last.at.end;
                    let default = item.len() == 1 && first.kind == TokenKind::Word && first.text == "default";
                    let column = self.columns.iter().position(|column| column.place == Some(place));
                    if let Some(index) = column.filter(|index| default || self.columns[*index].ignored) {
                        edits.push((at, Edit::Gap(index)));
                    } else if let Some(name) = called_sequence(item, values.sql) {
                        let source = of_sequence(name);
                        let known = sources.iter().position(|known| *known == source);
                        let index = known.unwrap_or_else(|| {
                            sources.push(source);
                            sources.len() - 1
                        });
                        if called.contains(&index) {
                            return Err(not_proven("It draws two columns from one sequence."));
                        }
                        called.push(index);
                        edits.push((at, Edit::Gap(index)));
                    }
                }
                let end = row.end - 1;
                for index in &added {
                    edits.push((end..end, Edit::Text(", ".to_owned())));
                    edits.push((end..end, Edit::Gap(*index)));
                }
            }
        }
        Ok(())
    }
}

/// The values of a row: what stands between its commas.
fn items<'t>(tokens: &'t [Token], row: &Range<u32>) -> Vec<&'t [Token]> {
    let start = tokens.partition_point(|token| token.at.start <= row.start);
    let end = tokens.partition_point(|token| token.at.start < row.end - 1);
    let (mut found, mut depth, mut first) = (Vec::new(), 0, start);
    for index in start..end {
        match (tokens[index].kind, tokens[index].text.as_str()) {
            (TokenKind::Punctuation, "(" | "[") => depth += 1,
            (TokenKind::Punctuation, ")" | "]") => depth -= 1,
            (TokenKind::Punctuation, ",") if depth == 0 => {
                found.push(&tokens[first..index]);
                first = index + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[first..end]);
    found
}

/// `[pg_catalog.]nextval('name'[::regclass])`, and nothing else: the name with its quotes.
fn called_sequence<'s>(item: &[Token], sql: &'s str) -> Option<&'s str> {
    let mut reader = Reader::new(item);
    if reader.accept("pg_catalog") && !reader.accept_symbol(".") {
        return None;
    }
    if !reader.accept("nextval") {
        return None;
    }
    let inside = reader.parentheses()?;
    let mut argument = Reader::new(inside);
    let name = argument.next().filter(|token| token.kind == TokenKind::Literal(LiteralKind::String))?;
    if argument.accept_symbol("::") && !argument.accept("regclass") {
        return None;
    }
    let plain = argument.at_end() && reader.at_end();
    plain.then(|| sql.get(name.at.start as usize..name.at.end as usize)).flatten()
}
