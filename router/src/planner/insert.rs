//! INSERT into a sharded table: every row's key is known, or the statement is refused.
//!
//! Splitting VALUES by row changes nothing but the place: since PostgreSQL 10 `transformInsertRow` coerces every row of
//! a VALUES list to the target's columns by itself (analyze.c), so no row's types depend on another row.
//! A route knows no places in the text: with other literals they are other places. They are found again when needed.
//!
//! An undeclared parameter that is used twice is the exception: its first use gives it its type.

use std::ops::Range;

use sqlparser::ast::{BinaryOperator, CastKind};
use sqlparser::ast::{
    ConflictTarget, Expr, FunctionArg, FunctionArgExpr, Insert, OnConflict, OnInsert, Query, Select,
    SelectItem, SetExpr, TableFactor, UnaryOperator, Value as Parsed,
};

use super::constant::{self, Column, Constant, is_integer};
use super::draw::{self, DrawRoute};
use super::found::Found;
use super::level::{Export, Rows};
use super::names::sharding;
use super::query::{Seen, Walk, qualified, unclear};
use super::refuse::{FIRST_SHARDS, key_missing, no_such_relation, not_proven, sequence, uneven_values};
use super::scope::{Item, Scope};
use super::write::InsertParts;
use crate::lexer::{Token, TokenKind};
use crate::topology::{ColumnFacts, Event};

/// 0-based; the protocol counts parameters in 16 bits.
const PARAM_MAX: usize = u16::MAX as usize - 1;

/// INSERT ... VALUES.
#[derive(Debug)]
pub(crate) struct InsertRoute {
    pub(super) table: usize,
    pub(super) distribution: usize,
    pub(super) key: Vec<Column>,
    /// For each row, its key.
    pub(super) rows: Vec<Vec<Constant>>,
    /// Parameters that stand in more than one place, sorted.
    pub(super) shared: Vec<usize>,
    pub(super) returning: bool,
    pub(super) on_conflict: bool,
    /// What else the statement reads, and why it cannot be split.
    pub(super) found: Found,
}

/// INSERT ... SELECT over generate_series: every shard computes all rows and keeps its own.
#[derive(Debug)]
pub(crate) struct GenerateRoute {
    pub(super) distribution: usize,
    /// Number of columns, and which is the key.
    pub(super) columns: usize,
    pub(super) key: usize,
}

#[derive(Debug)]
pub(super) enum Inserted {
    Values(Box<InsertRoute>),
    Generate(GenerateRoute),
    Draw(DrawRoute),
    /// INSERT ... SELECT whose rows stay on the shards that they are read from.
    InPlace(Box<Found>),
}

impl Walk<'_> {
    /// `table` is sharded.
    pub fn insert_sharded(mut self, insert: &Insert, table: usize, tokens: &[Token]) -> Seen<Inserted> {
        let parts = InsertParts::of(insert)?;
        self.found.writes = true;
        self.behind(table, Event::Insert)?;
        let facts = self.topology.facts.tables.get(&table);
        let name = &self.topology.tables[table].name;
        let Some((distribution, key)) = sharding(self.topology, table) else { return unclear("the table") };
        if self.equal_is_not_same(table) {
            return Err(key_missing(&key[0], name, "Its collation calls different values equal."));
        }
        let listed: Vec<&str> = match (parts.columns.is_empty(), facts) {
            (false, _) => parts.columns.clone(),
            (true, Some(facts)) => facts.columns.iter().map(|column| column.name.as_str()).collect(),
            (true, None) => return Err(no_such_relation(name)),
        };
        let drawn = draw::needed(self.topology, table, insert, &listed, tokens)?;
        if let Some(route) = drawn.filter(|route| !route.only_apart) {
            return Ok(Inserted::Draw(route));
        }
        let positions: Option<Vec<usize>> =
            key.iter().map(|column| listed.iter().position(|listed| listed == column)).collect();
        let Some(positions) = positions else {
            return Err(key_missing(&key.join("\", \""), name, "The statement gives it no value."));
        };
        if params(tokens).iter().any(|(number, _)| *number > PARAM_MAX) {
            return unclear("a parameter with that number");
        }
        let returning = insert.returning.is_some();
        let on_conflict = insert.on.is_some();
        if let Some(OnInsert::OnConflict(OnConflict {
            conflict_target: Some(ConflictTarget::Columns(columns)),
            ..
        })) = &insert.on
            && !key.iter().all(|key| columns.iter().any(|column| column.value == *key))
        {
            return Err(not_proven(
                "ON CONFLICT looks for a conflict on one shard only: its columns must contain the sharding key.",
            ));
        }
        let mut names = Scope::inside(None);
        let alias = parts.alias.as_ref().map_or(name.as_str(), |alias| alias.name.value.as_str());
        names.items.push(Item {
            name: alias.to_owned(),
            schema: None,
            sharded: None,
            reference: false,
            columns: None,
            table: None,
            kinds: Vec::new(),
            nullable: false,
        });
        self.conflict(insert.on.as_ref(), Some(table), &names)?;
        self.returning(insert.returning.as_deref(), &names)?;
        let Some(source) = &insert.source else {
            return Err(key_missing(&key[0], name, "DEFAULT VALUES gives it no value."));
        };
        if !matches!(&*source.body, SetExpr::Values(_)) {
            if draw::ignores_values(tokens) {
                return unclear("OVERRIDING USER VALUE of INSERT ... SELECT");
            }
            let rows = self.query(source, None)?;
            let width = width(&source.body, Some(&rows));
            let given =
                if parts.columns.is_empty() { width.unwrap_or(0).min(listed.len()) } else { listed.len() };
            self.defaults(table, |column| !listed[..given].contains(&column.name.as_str()))?;
            if facts.is_some() && width.is_some() && self.stays(&rows, table, &positions) {
                if let Some(reason) = rows.whole {
                    // On one shard all the same.
                    self.found.against_union(reason);
                }
                self.found.names.push(name.clone());
                return Ok(Inserted::InPlace(Box::new(self.found)));
            }
        }
        match plain_body(source)? {
            SetExpr::Values(values) => {
                let rows: Vec<&[Expr]> = values.rows.iter().map(|row| row.content.as_slice()).collect();
                if rows.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
                    // Taken apart, each shard could find its own rows good.
                    return Err(uneven_values());
                }
                let omitted =
                    |column: &ColumnFacts| match listed.iter().position(|listed| *listed == column.name) {
                        None => true,
                        Some(at) => rows.iter().any(|row| row.get(at).is_none_or(is_default)),
                    };
                self.defaults(table, omitted)?;
                let inside = Scope::inside(None);
                for row in &rows {
                    self.expressions(row.iter(), &inside)?;
                }
                if row_places(tokens).map(|places| places.len()) != Some(rows.len()) {
                    return unclear("VALUES");
                }
                let mut found_rows = Vec::with_capacity(rows.len());
                for row in &rows {
                    let mut constants = Vec::with_capacity(positions.len());
                    for (position, column) in positions.iter().zip(key) {
                        let constant =
                            row.get(*position).and_then(|expr| constant::recognise(expr, self.literals));
                        let Some(constant) = constant else {
                            return Err(key_missing(column, name, "pgherd does not compute expressions."));
                        };
                        constants.push(constant);
                    }
                    found_rows.push(constants);
                }
                if self.found.sequences {
                    return Err(not_proven(FIRST_SHARDS));
                }
                let pin = self.found.pin(self.topology, table);
                let key = self.found.pins.remove(pin).columns.iter().map(|column| column.column).collect();
                if facts.is_none() {
                    self.found.against_union("pgherd has no facts about the table from the servers.");
                }
                self.found.spread();
                Ok(Inserted::Values(Box::new(InsertRoute {
                    table,
                    distribution,
                    key,
                    rows: found_rows,
                    shared: shared(&params(tokens)),
                    returning,
                    on_conflict,
                    found: self.found,
                })))
            }
            SetExpr::Select(select) => {
                let Some(facts) = facts else { return Err(no_such_relation(name)) };
                if returning || on_conflict || !params(tokens).is_empty() {
                    return Err(not_proven(
                        "INSERT ... SELECT with RETURNING, ON CONFLICT or parameters is not taken apart.",
                    ));
                }
                let [position] = positions[..] else {
                    return Err(not_proven(
                        "INSERT ... SELECT is not taken apart for a key of several columns.",
                    ));
                };
                if let Some(reason) = self.found.against_copies.take() {
                    return Err(not_proven(reason));
                }
                let types = &self.topology.distributions[distribution].types;
                let targets: Vec<Option<&ColumnFacts>> = listed
                    .iter()
                    .map(|name| facts.columns.iter().find(|column| column.name == *name))
                    .collect();
                let reads = |token: &&Token| {
                    token.kind == TokenKind::Word
                        && matches!(token.text.as_str(), "select" | "table" | "values" | "with")
                };
                if tokens.iter().filter(reads).count() > 1 {
                    // What it reads, be it the target, would be each shard's own rows.
                    return Err(not_proven(
                        "A subquery of INSERT ... SELECT would see each shard's rows only.",
                    ));
                }
                if !types.iter().all(|ty| is_integer(*ty)) || !generated(select, position, &targets) {
                    return Err(not_proven(
                        "INSERT ... SELECT into a sharded table is understood where it takes each row's key from a sharding key of the same distribution, and from generate_series, with an integer key.",
                    ));
                }
                if select.projection.len() != listed.len() && !parts.columns.is_empty()
                    || select.projection.len() > listed.len()
                {
                    return unclear("an INSERT with more columns than values, or fewer");
                }
                if source_place(tokens).is_none() {
                    return unclear("INSERT ... SELECT");
                }
                Ok(Inserted::Generate(GenerateRoute {
                    distribution,
                    columns: select.projection.len(),
                    key: position,
                }))
            }
            _ => unclear("the source of INSERT"),
        }
    }

    /// Each row is inserted on the shard that it is read from: the key that it gets is the key of a row there.
    fn stays(&mut self, rows: &Rows, table: usize, positions: &[usize]) -> bool {
        let (true, Some(pin)) = (rows.sharded, rows.pin) else { return false };
        let target = self.found.pin(self.topology, table);
        let target = self.found.pins.remove(target);
        let Some(source) = self.found.pins.get(pin) else { return false };
        let place = |export: &Export| match (&export.name, export.position, &rows.columns) {
            (_, Some(position), _) => Some(position),
            // Behind a *: its name says where, if no other column has it.
            (Some(name), None, Some(columns)) => {
                let mut named = (0..columns.len()).filter(|index| columns[*index] == *name);
                named.next().filter(|_| named.next().is_none())
            }
            _ => None,
        };
        // What is stored is the value itself: neither rounded nor cut.
        let kept = |from: Column, to: Column| match (from.oid, to.oid) {
            (Some(20 | 21 | 23), Some(20 | 21 | 23)) => true,
            (Some(25 | 1043), Some(25 | 1043)) => to.modifier == Some(-1) || to.modifier == from.modifier,
            (from_type, to_type) => {
                from_type.is_some()
                    && from_type == to_type
                    && (to.modifier == Some(-1) || to.modifier == from.modifier)
            }
        };
        source.distribution == target.distribution
            && !positions.is_empty()
            && rows.key.len() == positions.len()
            && source.columns.len() == positions.len()
            && target.columns.len() == positions.len()
            && rows.key.iter().zip(positions).all(|(export, position)| place(export) == Some(*position))
            && source.columns.iter().zip(&target.columns).all(|(from, to)| kept(from.column, to.column))
    }

    /// Columns whose value is the table's business: not from a sequence, and on one shard only when each would differ.
    fn defaults(&mut self, table: usize, omitted: impl Fn(&ColumnFacts) -> bool) -> Seen {
        let Some(facts) = self.topology.facts.tables.get(&table) else { return Ok(()) };
        let name = &self.topology.tables[table].name;
        for column in
            facts.columns.iter().filter(|column| column.from_sequence || column.default_not_immutable)
        {
            if !omitted(column) {
                continue;
            }
            if column.from_sequence {
                return Err(sequence(&column.name, name));
            }
            self.found.against_both(format!(
                "Each shard would evaluate the default of column \"{}\" by itself.",
                column.name
            ));
        }
        Ok(())
    }

    /// INSERT into a reference table: no copy may get another value. `Some`: values are to be drawn first.
    pub fn insert_reference(&mut self, insert: &Insert, table: usize) -> Seen<Option<DrawRoute>> {
        let parts = InsertParts::of(insert)?;
        let Some(facts) = self.topology.facts.tables.get(&table) else {
            return Err(no_such_relation(&self.topology.tables[table].name));
        };
        let listed: Vec<&str> = match parts.columns.as_slice() {
            [] => facts.columns.iter().map(|column| column.name.as_str()).collect(),
            columns => columns.to_vec(),
        };
        if let Some(route) = draw::needed(self.topology, table, insert, &listed, self.tokens)? {
            return Ok(Some(route));
        }
        let rows: Vec<&[Expr]> = match insert.source.as_ref().map(|source| &*source.body) {
            Some(SetExpr::Values(values)) => values.rows.iter().map(|row| row.content.as_slice()).collect(),
            Some(SetExpr::Select(_)) if draw::ignores_values(self.tokens) => {
                return unclear("OVERRIDING USER VALUE of INSERT ... SELECT");
            }
            Some(SetExpr::Select(select)) => {
                let short = select.projection.len() < listed.len();
                let wild = select
                    .projection
                    .iter()
                    .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
                if short || wild {
                    return unclear("INSERT ... SELECT without all its columns");
                }
                if insert.on.is_some() {
                    self.found.against_copies("ON CONFLICT depends on the order of the rows of the SELECT.");
                }
                Vec::new()
            }
            _ => return unclear("the source of INSERT"),
        };
        let omitted = |column: &ColumnFacts| match listed.iter().position(|listed| *listed == column.name) {
            None => true,
            Some(at) => rows.iter().any(|row| row.get(at).is_none_or(is_default)),
        };
        self.defaults(table, omitted).map(|()| None)
    }
}

/// How many columns a query has. Those of a join's * are not counted: USING has one for two.
fn width(body: &SetExpr, rows: Option<&Rows>) -> Option<usize> {
    let plain =
        |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    match body {
        SetExpr::Select(select) if select.projection.iter().all(plain) => Some(select.projection.len()),
        SetExpr::Select(select) => {
            let alone = matches!(select.from.as_slice(), [table] if table.joins.is_empty());
            rows.filter(|_| alone)?.columns.as_ref().map(Vec::len)
        }
        SetExpr::SetOperation { left, .. } => width(left, None),
        SetExpr::Query(query) => width(&query.body, None),
        _ => None,
    }
}

/// The body of a query that has nothing else.
fn plain_body(query: &Query) -> Seen<&SetExpr> {
    let Query {
        with: None,
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return Err(not_proven(
            "The source of this INSERT has a clause (WITH, ORDER BY, LIMIT) that is not taken apart.",
        ));
    };
    if !locks.is_empty() || !pipe_operators.is_empty() {
        return unclear("the source of INSERT");
    }
    Ok(body)
}

pub(super) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(name) if name.quote_style.is_none() && name.value == "default")
}

/// The parameters: number (0-based) and place, in order of appearance.
pub(super) fn params(tokens: &[Token]) -> Vec<(usize, Range<u32>)> {
    let number = |token: &Token| token.text.parse::<usize>().ok()?.checked_sub(1);
    tokens
        .iter()
        .filter(|token| token.kind == TokenKind::Param)
        .filter_map(|token| Some((number(token)?, token.at.clone())))
        .collect()
}

fn shared(params: &[(usize, Range<u32>)]) -> Vec<usize> {
    let mut numbers: Vec<usize> = params.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    let mut shared: Vec<usize> =
        numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    shared.dedup();
    shared
}

/// The parenthesised rows after VALUES.
pub(super) fn row_places(tokens: &[Token]) -> Option<Vec<Range<u32>>> {
    let start = top_level(tokens, &["values"])?;
    let mut places = Vec::new();
    let (mut depth, mut open) = (0, 0);
    for (index, token) in tokens.iter().enumerate().skip(start + 1) {
        let punctuation = (token.kind == TokenKind::Punctuation).then_some(token.text.as_str());
        match punctuation {
            Some("(") => {
                if depth == 0 {
                    let before = &tokens[index - 1];
                    if index != start + 1 && before.text != "," {
                        return None;
                    }
                    open = token.at.start;
                }
                depth += 1;
            }
            Some(")") => {
                depth -= 1;
                if depth == 0 {
                    places.push(open..token.at.end);
                }
            }
            Some(",") if depth == 0 => {}
            _ if depth == 0 && token.kind != TokenKind::Hint => break,
            _ => {}
        }
    }
    Some(places)
}

/// From SELECT to the end of the statement.
pub(super) fn source_place(tokens: &[Token]) -> Option<Range<u32>> {
    let start = top_level(tokens, &["select"])?;
    Some(tokens[start].at.start..tokens.last()?.at.end)
}

/// The first of these words outside parentheses.
fn top_level(tokens: &[Token], words: &[&str]) -> Option<usize> {
    let mut depth = 0;
    tokens.iter().position(|token| {
        match (token.kind, token.text.as_str()) {
            (TokenKind::Punctuation, "(") => depth += 1,
            (TokenKind::Punctuation, ")") => depth -= 1,
            _ => {}
        }
        depth == 0 && token.kind == TokenKind::Word && words.contains(&token.text.as_str())
    })
}

/// `SELECT ... FROM generate_series(1, n) AS x`: the key is never NULL, and as output of a subquery each column has the
/// type that it has as the source of the INSERT.
fn generated(select: &Select, key: usize, targets: &[Option<&ColumnFacts>]) -> bool {
    let [table] = select.from.as_slice() else { return false };
    let TableFactor::Table { name, alias: Some(alias), args: Some(args), with_ordinality: false, .. } =
        &table.relation
    else {
        return false;
    };
    let column = match alias.columns.as_slice() {
        [] => alias.name.value.as_str(),
        [column] if column.data_type.is_none() => column.name.value.as_str(),
        _ => return false,
    };
    let bound = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => never_null(expr, None),
        _ => false,
    };
    let plain = matches!(qualified(name), Ok((None | Some("pg_catalog"), "generate_series")))
        && matches!(args.args.len(), 2 | 3)
        && args.args.iter().all(bound)
        && table.joins.is_empty()
        && select.distinct.is_none()
        && matches!(&select.group_by, sqlparser::ast::GroupByExpr::Expressions(list, _) if list.is_empty())
        && select.having.is_none();
    let outputs: Option<Vec<&Expr>> = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => Some(expr),
            _ => None,
        })
        .collect();
    let Some(outputs) = outputs else { return false };
    plain
        && outputs.get(key).is_some_and(|expr| never_null(expr, Some(column)))
        && outputs.iter().zip(targets).all(|(expr, target)| keeps_its_type(expr, *target))
}

/// An integer that is never NULL: a number, the series' own column, arithmetic and casts of them.
fn never_null(expr: &Expr, column: Option<&str>) -> bool {
    match expr {
        Expr::Nested(expr) => never_null(expr, column),
        Expr::Value(value) => matches!(value.value, Parsed::Number(..)),
        Expr::Identifier(name) => Some(name.value.as_str()) == column,
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => never_null(expr, column),
        Expr::BinaryOp { left, op, right } => {
            use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
            matches!(op, Plus | Minus | Multiply | Divide | Modulo)
                && never_null(left, column)
                && never_null(right, column)
        }
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None } => {
            use sqlparser::ast::DataType::{BigInt, Int, Int4, Int8, Integer};
            matches!(data_type, BigInt(None) | Int(None) | Int4(None) | Int8(None) | Integer(None))
                && never_null(expr, column)
        }
        _ => false,
    }
}

/// A bare string takes the type of the column it is inserted into; as output of a subquery it is text.
fn keeps_its_type(expr: &Expr, target: Option<&ColumnFacts>) -> bool {
    /// text, bpchar, varchar: text is assigned to them as a string constant is.
    const TEXT: [u32; 3] = [25, 1042, 1043];
    match expr {
        Expr::Nested(expr) => keeps_its_type(expr, target),
        Expr::Value(value) => match &value.value {
            Parsed::Number(..) | Parsed::Boolean(_) => true,
            Parsed::SingleQuotedString(_)
            | Parsed::EscapedStringLiteral(_)
            | Parsed::DollarQuotedString(_) => target.is_some_and(|target| TEXT.contains(&target.type_oid)),
            _ => false,
        },
        _ => true,
    }
}
