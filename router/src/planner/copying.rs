//! COPY, by its tokens.
//!
//! Invariant: an option that is not understood refuses a COPY of a sharded table: rows could be read wrong.

use super::behind::behind;
use super::classify::{Draft, inner, string};
use super::names::{self, FIRST, Relation, sharding};
use super::reader::Reader;
use super::refuse::{no_such_relation, not_proven, sequence, view};
use super::route::Route;
use crate::lexer::{Token, TokenKind};
use crate::plan::{Answer, CopyFormat, CopyPlan, CopyRows, Kind, LiteralKind};
use crate::refusal::Refusal;
use crate::topology::{Event, ShardId, TableFacts, Topology};

#[derive(Debug, PartialEq, Clone, Copy)]
enum Direction {
    From,
    To,
}

pub(super) fn copy(topology: &Topology, tokens: &[Token]) -> Draft {
    read(topology, tokens).unwrap_or_else(Draft::refused)
}

fn read(topology: &Topology, tokens: &[Token]) -> Result<Draft, Refusal> {
    let mut reader = Reader::new(tokens);
    reader.next();
    if let Some(query) = reader.parentheses() {
        return answer(topology, tokens, query, reader);
    }
    let binary = reader.accept("binary");
    // What is not COPY's grammar is an error on any server.
    let Some(name) = reader.name() else { return Ok(Draft::other(Route::One(FIRST))) };
    let relation = names::relation(topology, name.schema, name.name);
    let columns = match reader.parentheses() {
        None => None,
        Some(list) => match Reader::new(list).names() {
            Some(names) => Some(names.into_iter().map(|name| name.name).collect::<Vec<_>>()),
            None => return Ok(Draft::other(Route::One(FIRST))),
        },
    };
    let direction = if reader.accept("from") {
        Direction::From
    } else if reader.accept("to") {
        Direction::To
    } else {
        return Ok(Draft::other(Route::One(FIRST)));
    };
    let client = reader.accept_any(&["stdin", "stdout"]);
    let table = match relation {
        Relation::Sharded(table) | Relation::Reference(table) => table,
        Relation::On(shard) => return Ok(Draft::other(Route::One(shard))),
        Relation::Derived => return Err(view(name.name)),
        Relation::Ambiguous => {
            return Err(not_proven("Several schemas have a configured table of this name: name one."));
        }
    };
    if !client {
        return Err(not_proven("COPY with a file or program of the server would see one shard's rows only."));
    }
    let mut options = Options::read(&mut reader, binary)?;
    let is_reference = matches!(relation, Relation::Reference(_));
    let event = if direction == Direction::From { Event::Insert } else { Event::Read };
    if let Some(reason) = behind(topology, table, event)?
        && !(is_reference && event == Event::Read)
    {
        return Err(not_proven(reason));
    }
    if direction == Direction::To {
        let header = options.header && options.format != CopyFormat::Binary;
        let mut draft = match is_reference {
            true => Draft::other(Route::Any),
            false => Draft::new(Kind::CopyTo, Route::CopyTo { format: options.format, header }),
        };
        draft.read_only = true;
        return Ok(draft);
    }
    let Some(facts) = topology.facts.tables.get(&table) else {
        return Err(no_such_relation(name.name));
    };
    let columns = match columns {
        Some(columns) => columns,
        None => facts
            .columns
            .iter()
            .filter(|column| !column.generated)
            .map(|column| column.name.as_str())
            .collect(),
    };
    omitted_defaults(facts, &columns, name.name)?;
    let shards = (0..topology.shards.len() as u16).map(ShardId).collect();
    let rows = match sharding(topology, table) {
        None => None,
        Some((distribution, key)) => Some(options.rows(facts, &columns, distribution, key, name.name)?),
    };
    Ok(Draft::new(Kind::CopyFrom, Route::CopyFrom(Box::new(CopyPlan { table, shards, rows }))))
}

/// COPY (query) TO. `reader`: behind the query.
fn answer(
    topology: &Topology,
    tokens: &[Token],
    query: &[Token],
    mut reader: Reader<'_>,
) -> Result<Draft, Refusal> {
    let shape = inner(topology, tokens, query)?;
    let mut route = shape.route;
    let behind = query
        .last()
        .map_or(0, |last| tokens.len() - tokens.partition_point(|token| token.at.start <= last.at.start));
    if let Route::Pinned(pinned) = &mut route
        && let Ok(gather) = &mut pinned.gather
    {
        gather.before(behind);
    }
    let out = reader.accept("to") && reader.accept("stdout");
    // An option of one shard's own COPY is its server's to read.
    let options = if out { Options::read(&mut reader, false).ok() } else { None };
    if !out && let Route::Pinned(pinned) = &mut route {
        pinned.gather = Err("COPY to a file or program of the server would be one server's.".to_owned());
    }
    // What writes, or locks, is not a row's to be told of.
    let format = options
        .filter(|_| shape.read_only)
        .map(|options| (options.format, options.header && options.format != CopyFormat::Binary));
    let mut draft = Draft::other(Route::Answered {
        inner: Box::new(route),
        what: "COPY (query) TO",
        answer: Answer::Copy,
        format,
    });
    draft.read_only = shape.read_only;
    Ok(draft)
}

fn omitted_defaults(facts: &TableFacts, columns: &[&str], table: &str) -> Result<(), Refusal> {
    for column in facts.columns.iter().filter(|column| !columns.contains(&column.name.as_str())) {
        if column.from_sequence {
            return Err(sequence(&column.name, table));
        }
        if column.default_not_immutable {
            return Err(not_proven(format!(
                "Each shard would evaluate the default of column \"{}\" by itself.",
                column.name
            )));
        }
    }
    Ok(())
}

/// What COPY's options say about how rows are read.
#[derive(Debug)]
struct Options {
    format: CopyFormat,
    delimiter: Option<u8>,
    null: Option<Vec<u8>>,
    quote: Option<u8>,
    escape: Option<u8>,
    header: bool,
    /// `None`: all columns.
    force_not_null: Option<Vec<String>>,
    force_null: Option<Vec<String>>,
}

fn unknown(token: Option<&Token>) -> Refusal {
    let name = token.map_or("", |token| token.text.as_str());
    not_proven(format!("pgherd does not understand COPY's option \"{name}\"."))
}

impl Options {
    fn read(reader: &mut Reader<'_>, binary: bool) -> Result<Self, Refusal> {
        let mut options = Self {
            format: if binary { CopyFormat::Binary } else { CopyFormat::Text },
            delimiter: None,
            null: None,
            quote: None,
            escape: None,
            header: false,
            force_not_null: Some(Vec::new()),
            force_null: Some(Vec::new()),
        };
        if reader.accept("using") || reader.word() == Some("delimiters") {
            if !reader.accept("delimiters") {
                return Err(unknown(reader.peek()));
            }
            options.delimiter = Some(byte(reader)?);
        }
        reader.accept("with");
        match reader.parentheses() {
            Some(list) => {
                let mut inside = Reader::new(list);
                while !inside.at_end() {
                    options.generic(&mut inside)?;
                    if !inside.accept_symbol(",") && !inside.at_end() {
                        return Err(unknown(inside.peek()));
                    }
                }
            }
            None => {
                while !reader.at_end() && reader.word() != Some("where") {
                    options.legacy(reader)?;
                }
            }
        }
        match reader.peek() {
            None => Ok(options),
            Some(token) if token.text == "where" => Err(not_proven("COPY ... WHERE is not taken apart.")),
            token => Err(unknown(token)),
        }
    }

    /// `name value` inside parentheses.
    fn generic(&mut self, reader: &mut Reader<'_>) -> Result<(), Refusal> {
        let name = reader.identifier().ok_or_else(|| unknown(reader.peek()))?.to_ascii_lowercase();
        match name.as_str() {
            "format" => {
                let format = value(reader)?.to_ascii_lowercase();
                self.format = match format.as_slice() {
                    b"text" => CopyFormat::Text,
                    b"csv" => CopyFormat::Csv,
                    b"binary" => CopyFormat::Binary,
                    _ => return Err(not_proven("pgherd does not know this format of COPY.")),
                };
            }
            "freeze" => {
                boolean(reader)?;
            }
            "header" => self.header = reader.accept("match") || boolean(reader)?,
            "delimiter" => self.delimiter = Some(byte(reader)?),
            "null" => self.null = Some(value(reader)?),
            "quote" => self.quote = Some(byte(reader)?),
            "escape" => self.escape = Some(byte(reader)?),
            "encoding" => encoding(&value(reader)?)?,
            "force_not_null" => self.force_not_null = columns(reader)?,
            "force_null" => self.force_null = columns(reader)?,
            "force_quote" => {
                columns(reader)?;
            }
            _ => return Err(not_proven(format!("pgherd does not understand COPY's option \"{name}\"."))),
        }
        Ok(())
    }

    /// The syntax from before PostgreSQL 9.0.
    fn legacy(&mut self, reader: &mut Reader<'_>) -> Result<(), Refusal> {
        let name = reader.word().ok_or_else(|| unknown(reader.peek()))?;
        reader.next();
        let listed = |reader: &mut Reader<'_>| -> Result<Option<Vec<String>>, Refusal> {
            if reader.accept_symbol("*") {
                return Ok(None);
            }
            let names = reader.names().ok_or_else(|| unknown(reader.peek()))?;
            Ok(Some(names.into_iter().map(|name| name.name.to_owned()).collect()))
        };
        match name {
            "binary" => self.format = CopyFormat::Binary,
            "csv" => self.format = CopyFormat::Csv,
            "freeze" => {}
            "header" => self.header = true,
            "force" if reader.accept_all(&["not", "null"]) => self.force_not_null = listed(reader)?,
            "force" if reader.accept("null") => self.force_null = listed(reader)?,
            "force" if reader.accept("quote") => {
                listed(reader)?;
            }
            "delimiter" | "null" | "quote" | "escape" | "encoding" => {
                reader.accept("as");
                match name {
                    "delimiter" => self.delimiter = Some(byte(reader)?),
                    "null" => self.null = Some(value(reader)?),
                    "quote" => self.quote = Some(byte(reader)?),
                    "escape" => self.escape = Some(byte(reader)?),
                    _ => encoding(&value(reader)?)?,
                }
            }
            _ => return Err(not_proven(format!("pgherd does not understand COPY's option \"{name}\"."))),
        }
        Ok(())
    }

    fn rows(
        &mut self,
        facts: &TableFacts,
        columns: &[&str],
        distribution: usize,
        key: &[String],
        table: &str,
    ) -> Result<CopyRows, Refusal> {
        let position = |name: &str| columns.iter().position(|column| *column == name);
        let mut positions = Vec::with_capacity(key.len());
        let mut key_types = Vec::with_capacity(key.len());
        let mut key_chars = Vec::with_capacity(key.len());
        for name in key {
            let (Some(at), Some(column)) =
                (position(name), facts.columns.iter().find(|column| column.name == *name))
            else {
                return Err(not_proven(format!(
                    "COPY does not fill the sharding key \"{name}\" of table \"{table}\"."
                )));
            };
            // numeric, timestamp, timestamptz
            if column.type_modifier != -1 && matches!(column.type_oid, 1700 | 1114 | 1184) {
                return Err(not_proven(format!(
                    "The type of \"{name}\" rounds: its stored value is not what is sent."
                )));
            }
            if column.nondeterministic_collation {
                return Err(not_proven(format!("The collation of \"{name}\" calls different values equal.")));
            }
            positions.push(at);
            key_types.push(column.type_oid);
            // A modifier of varchar counts the length word, too.
            let limited = column.type_oid == 1043 && column.type_modifier != -1;
            key_chars.push(limited.then(|| usize::try_from(column.type_modifier - 4).unwrap_or(0)));
        }
        let listed = |names: &Option<Vec<String>>| -> Result<Vec<usize>, Refusal> {
            match names {
                None => Ok((0..columns.len()).collect()),
                Some(names) => names
                    .iter()
                    .map(|name| position(name))
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| not_proven("FORCE names a column that COPY does not fill.")),
            }
        };
        let csv = self.format == CopyFormat::Csv;
        let quote = self.quote.unwrap_or(b'"');
        Ok(CopyRows {
            format: self.format,
            delimiter: self.delimiter.unwrap_or(if csv { b',' } else { b'\t' }),
            null: self.null.take().unwrap_or_else(|| if csv { Vec::new() } else { b"\\N".to_vec() }),
            quote,
            escape: self.escape.unwrap_or(quote),
            header: self.header,
            force_not_null: listed(&self.force_not_null)?,
            force_null: listed(&self.force_null)?,
            distribution,
            key: positions,
            columns: columns.len(),
            key_types,
            key_chars,
        })
    }
}

/// A word or a string.
fn value(reader: &mut Reader<'_>) -> Result<Vec<u8>, Refusal> {
    let token = reader.peek().ok_or_else(|| unknown(None))?;
    let value = match token.kind {
        TokenKind::Word | TokenKind::Quoted => Some(token.text.clone().into_bytes()),
        _ => string(token),
    };
    reader.next();
    value.ok_or_else(|| unknown(Some(token)))
}

fn byte(reader: &mut Reader<'_>) -> Result<u8, Refusal> {
    match value(reader)?.as_slice() {
        [byte] => Ok(*byte),
        _ => Err(not_proven("COPY's delimiter, quote and escape are single characters.")),
    }
}

/// As `defGetBoolean`; nothing means true.
fn boolean(reader: &mut Reader<'_>) -> Result<bool, Refusal> {
    let Some(token) = reader.peek().filter(|token| token.text != ",") else { return Ok(true) };
    let value = match token.kind {
        TokenKind::Literal(LiteralKind::Integer) => {
            reader.next();
            token.text.clone().into_bytes()
        }
        _ => value(reader)?,
    };
    match value.to_ascii_lowercase().as_slice() {
        b"1" | b"true" | b"on" => Ok(true),
        b"0" | b"false" | b"off" => Ok(false),
        _ => Err(unknown(Some(token))),
    }
}

fn encoding(name: &[u8]) -> Result<(), Refusal> {
    let plain: Vec<u8> =
        name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    match plain.as_slice() {
        b"utf8" | b"unicode" => Ok(()),
        _ => Err(not_proven("pgherd reads the rows of COPY in UTF8 only.")),
    }
}

/// `(a, b)` or `*`, which is `None`.
fn columns(reader: &mut Reader<'_>) -> Result<Option<Vec<String>>, Refusal> {
    if reader.accept_symbol("*") {
        return Ok(None);
    }
    let list = reader.parentheses().ok_or_else(|| unknown(reader.peek()))?;
    let names = Reader::new(list).names().ok_or_else(|| unknown(list.first()))?;
    Ok(Some(names.into_iter().map(|name| name.name.to_owned()).collect()))
}
