//! INSERT ... VALUES that leaves numbers to sequences (serial, identity, nextval): the values are drawn from the first shard's
//! sequence and put into the text, which is then planned like any other.
//!
//! Invariants:
//! - As many values are drawn as PostgreSQL would draw: one for each row whose column is left out, DEFAULT or nextval('name').
//! - Values are given to the rows in their order.
//! - The text stays the client's own but for the gaps; where a column is GENERATED ALWAYS, OVERRIDING SYSTEM VALUE is added, and no
//!   value of the client's gets past that column's guard by it.
//!
//! Not here: drawing (`proxy`).

use std::ops::Range;

use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Insert, SetExpr};

use super::constant::Values;
use super::insert::{is_default, params, row_places};
use super::parse::overriding;
use super::query::{Seen, qualified};
use super::reader::Reader;
use super::refuse::{not_proven, sequence};
use crate::lexer::{Token, TokenKind, tokens};
use crate::plan::{Draw, LiteralKind, Plan};
use crate::refusal::Refusal;
use crate::topology::{ColumnFacts, Identity, Topology};

/// What a template knows of the gaps.
#[derive(Debug)]
pub(crate) struct DrawRoute {
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
    /// SQL, of type regclass.
    sequence: String,
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
    let mut columns = Vec::new();
    let mut always = false;
    for column in facts.columns.iter().filter(|column| column.from_sequence) {
        let place = place(column);
        let ignored = user && column.identity != Identity::No;
        let draws = match place {
            None => true,
            Some(place) => ignored || given(place).count() < rows.len(),
        };
        if !draws {
            continue;
        }
        let Some(name) = &column.sequence else {
            return Err(sequence(&column.name, &topology.tables[table].name));
        };
        always |= column.identity == Identity::Always;
        columns.push(DrawnColumn { name: column.name.clone(), sequence: regclass(name), place, ignored });
    }
    let called = rows.iter().flat_map(|row| row.iter()).any(is_nextval);
    if columns.is_empty() && !called {
        return Ok(None);
    }
    if called && !columns.is_empty() {
        return Err(not_proven("It draws from sequences by DEFAULT and by nextval."));
    }
    let guarded = |column: &&ColumnFacts| column.identity == Identity::Always;
    let mut guarded = facts.columns.iter().filter(guarded).filter_map(place);
    if always && !user && !system && guarded.any(|place| given(place).count() > 0) {
        return Err(not_proven("It gives a value to a column that is GENERATED ALWAYS."));
    }
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].iter().any(|other| other.sequence == column.sequence) {
            return Err(not_proven("It draws two columns from one sequence."));
        }
    }
    let adds = columns.iter().any(|column| column.place.is_none());
    let names = (unnamed && adds).then(|| listed.iter().map(|name| quoted(name)).collect());
    Ok(Some(DrawRoute { columns, names, system: always || user || system }))
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

fn regclass(name: &str) -> String {
    format!("'{}'::pg_catalog.regclass", name.replace('\'', "''"))
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
    pub(super) fn bind(&self, values: Values<'_>) -> Result<Plan, Refusal> {
        let unfit = || not_proven("The statement's text does not fit its plan.");
        let tokens = tokens(values.sql);
        let mut reader = Reader::new(&tokens);
        if !reader.accept_all(&["insert", "into"]) || reader.name().is_none() {
            return Err(unfit());
        }
        if reader.accept("as") {
            reader.identifier();
        }
        let mut edits: Vec<(Range<u32>, Edit)> = Vec::new();
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
        let mut sequences: Vec<String> = self.columns.iter().map(|column| column.sequence.clone()).collect();
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
            for row in row_places(&tokens).ok_or_else(unfit)? {
                let mut called = Vec::new();
                for (place, item) in items(&tokens, &row).into_iter().enumerate() {
                    let (Some(first), Some(last)) = (item.first(), item.last()) else { return Err(unfit()) };
                    let at = first.at.start..last.at.end;
                    let default = item.len() == 1 && first.kind == TokenKind::Word && first.text == "default";
                    let column = self.columns.iter().position(|column| column.place == Some(place));
                    if let Some(index) = column.filter(|index| default || self.columns[*index].ignored) {
                        edits.push((at, Edit::Gap(index)));
                    } else if let Some(name) = called_sequence(item, values.sql) {
                        let name = format!("{name}::pg_catalog.regclass");
                        let known = sequences.iter().position(|known| *known == name);
                        let index = known.unwrap_or_else(|| {
                            sequences.push(name);
                            sequences.len() - 1
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
        Ok(Plan::Draw(Box::new(Draw { sequences, gaps, pieces, params })))
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
