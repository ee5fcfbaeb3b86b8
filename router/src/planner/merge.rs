//! What is done with the rows of several shards: nothing, one row made of many, or sorted streams merged into one.
//!
//! Invariant: a plan is made only when its sort keys can be compared outside a server as PostgreSQL compares them; what is not
//! known here (the type of an expression) is looked at again before the first row is passed on, see `order`.
//!
//! A merge changes the shards' text at token positions only: sort keys that are not among the output are added behind it, LIMIT and
//! OFFSET become one LIMIT. Positions are found in the tokens of each text anew, since texts of one fingerprint have the same tokens,
//! not the same lengths.

use std::ops::Range;

use pgherd_config::KeyType;
use sqlparser::ast::{BinaryOperator, DataType, DuplicateTreatment};
use sqlparser::ast::{
    Distinct, Expr, Fetch, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, LimitClause,
    ObjectNamePart, OrderByExpr, OrderByKind, OrderBySort, Query, Select, SelectItem, SetExpr, Value,
};

use super::constant::{self, Constant, Source, Values};
use super::level::Rows;
use super::query::{Walk, qualified};
use super::refuse::not_proven;
use super::scope::Scope;
use crate::lexer::{Token, TokenKind, tokens};
use crate::order;
use crate::plan::{Aggregate, LiteralKind, Merge, Place, Plan, SortKey};
use crate::refusal::Refusal;
use crate::topology::ShardId;
use crate::value::oid;

const UNSORTED: &str =
    "Its rows would have to be sorted again (ORDER BY), by values that only a server compares.";

/// What becomes of the rows of several shards.
#[derive(Debug, Default)]
pub(super) enum Combined {
    #[default]
    Union,
    /// One row from each shard.
    Aggregates(Vec<Aggregate>),
    Merge(Box<MergeRoute>),
}

#[derive(Debug)]
pub(super) struct MergeRoute {
    /// Tokens of the text that the places below were found in. EXPLAIN has more, in front.
    count: usize,
    /// Before this token stand the hidden sort keys.
    from: Option<usize>,
    keys: Vec<Key>,
    limit: Amount,
    offset: Amount,
    ties: bool,
    /// LIMIT, OFFSET and FETCH, in the order of the text.
    clauses: Vec<Range<usize>>,
}

#[derive(Debug)]
struct Key {
    at: At,
    descending: bool,
    nulls_first: bool,
    c_collation: bool,
}

#[derive(Debug)]
enum At {
    /// Counted from the first output column, or from the last one backwards.
    Start(usize),
    End(usize),
    /// ORDER BY 2: the number is this token. How each output column is compared, as far as it is known.
    Number(usize, Vec<Sorted>),
    /// Not among the output: these tokens are added to it.
    Hidden(Range<usize>),
}

#[derive(Debug, Clone, Copy)]
enum Amount {
    /// There is no such clause, or it says ALL.
    None,
    One,
    Constant(Constant),
}

/// ORDER BY, LIMIT and OFFSET of a statement whose rows are the union of what the shards give.
pub(super) fn finish(
    query: &Query,
    rows: &Rows,
    walk: &mut Walk<'_>,
    names: &Scope<'_>,
) -> Result<(), String> {
    let order: &[OrderByExpr] = match query.order_by.as_ref().map(|order| &order.kind) {
        Some(OrderByKind::Expressions(list)) => list,
        Some(OrderByKind::All(_)) => return Err("pgherd does not understand ORDER BY ALL.".into()),
        None => &[],
    };
    let (limit, offset) = match &query.limit_clause {
        None => (None, None),
        Some(LimitClause::LimitOffset { limit, offset, .. }) => (limit.as_ref(), offset.as_ref()),
        Some(LimitClause::OffsetCommaLimit { .. }) => return Err("pgherd does not understand LIMIT.".into()),
    };
    let limited = limit.is_some() || offset.is_some() || query.fetch.is_some();
    match walk.found.combined {
        // One row, in any order.
        Combined::Aggregates(_) if !limited => return Ok(()),
        Combined::Aggregates(_) => {
            return Err("LIMIT and OFFSET would count the rows of each shard by itself.".into());
        }
        Combined::Union | Combined::Merge(_) => {}
    }
    if order.is_empty() && !limited {
        return Ok(());
    }
    if limited && walk.found.writes {
        return Err("LIMIT would lock, or write, rows of each shard that are not among the result.".into());
    }
    let clauses = Clauses::of(walk.tokens).ok_or("pgherd does not find the clauses of the statement.")?;
    let misread = || "pgherd does not find the clauses of the statement.".to_owned();
    if clauses.order.len() != order.len() {
        return Err(misread());
    }
    let outputs: Option<&[SelectItem]> = match &*query.body {
        SetExpr::Select(select) => Some(&select.projection),
        _ => None,
    };
    if outputs.is_some_and(|outputs| clauses.outputs.len() != outputs.len()) {
        return Err(misread());
    }
    let distinct =
        matches!(&*query.body, SetExpr::Select(select) if select.distinct == Some(Distinct::Distinct));
    let mut keys = Vec::with_capacity(order.len());
    for (expr, place) in order.iter().zip(&clauses.order) {
        keys.push(key(expr, place.clone(), (outputs, &clauses.outputs, distinct), rows, walk, names)?);
    }
    let hidden = keys.iter().any(|key| matches!(key.at, At::Hidden(_)));
    if hidden && clauses.from.is_none() {
        return Err(misread());
    }
    let amount = |expr: Option<&Expr>| match expr {
        None => Ok(Amount::None),
        Some(expr) => constant::recognise(expr, walk.literals)
            .filter(|constant| constant.cast.is_none())
            .map(Amount::Constant)
            .ok_or("LIMIT and OFFSET of several shards must be constants or parameters."),
    };
    let mut route = MergeRoute {
        count: walk.tokens.len(),
        from: clauses.from,
        keys,
        limit: amount(limit)?,
        offset: amount(offset.map(|offset| &offset.value))?,
        ties: false,
        clauses: clauses.limits,
    };
    let mut expected = usize::from(offset.is_some());
    if let Some(Fetch { with_ties, percent: _, quantity }) = &query.fetch {
        route.limit = match quantity {
            None => Amount::One,
            quantity => amount(quantity.as_ref())?,
        };
        route.ties = *with_ties;
        expected += 1;
    }
    // LIMIT ALL leaves no trace in the tree.
    expected += usize::from(limit.is_some());
    if route.clauses.len() < expected || route.clauses.len() > expected + 1 {
        return Err(misread());
    }
    if route.ties && order.is_empty() {
        return Err(misread());
    }
    walk.found.combined = Combined::Merge(Box::new(route));
    Ok(())
}

fn key(
    order: &OrderByExpr,
    place: Range<usize>,
    (outputs, ranges, distinct): (Option<&[SelectItem]>, &[Range<usize>], bool),
    rows: &Rows,
    walk: &Walk<'_>,
    names: &Scope<'_>,
) -> Result<Key, String> {
    let descending = match &order.options.sort {
        None | Some(OrderBySort::Asc) => false,
        Some(OrderBySort::Desc) => true,
        Some(OrderBySort::Using(_)) => {
            return Err("pgherd does not know the operator of ORDER BY ... USING.".into());
        }
    };
    let nulls_first = order.options.nulls_first.unwrap_or(descending);
    let trailing = match &order.options.sort {
        None => 0,
        Some(_) => 1,
    } + if order.options.nulls_first.is_some() { 2 } else { 0 };
    let place = place.start..place.end.saturating_sub(trailing);
    let (mut at, expr) = match &order.expr {
        Expr::Value(value) if matches!(value.value, Value::Number(..)) => {
            let number = walk
                .tokens
                .get(place.start)
                .filter(|token| token.kind == TokenKind::Literal(LiteralKind::Integer) && place.len() == 1);
            if number.is_none() {
                return Err("pgherd does not understand ORDER BY.".into());
            }
            let at = At::Number(place.start, rows.kinds.clone());
            return Ok(Key { at, descending, nulls_first, c_collation: false });
        }
        Expr::Identifier(name) => match outputs {
            Some(outputs) => match named(outputs, name)? {
                Some((at, expr)) => (at, expr),
                None => (At::Hidden(place), &order.expr),
            },
            // Of a set operation the left side gives the names.
            None => {
                return Err("ORDER BY a name of a set operation is not merged; a column's number is.".into());
            }
        },
        expr if outputs.is_some() => (At::Hidden(place), expr),
        _ => return Err("pgherd does not understand ORDER BY.".into()),
    };
    if let (At::Hidden(place), true, Some(outputs)) = (&at, distinct, outputs) {
        // Another column would make other rows distinct: PostgreSQL wants it among the output, too.
        let same = |range: &Range<usize>| {
            let tokens = |range: Range<usize>| {
                walk.tokens[range].iter().map(|token| (token.kind, token.text.as_str()))
            };
            let length = place.len();
            // Behind it may stand its name only.
            range.len() >= length
                && range.len() <= length + 2
                && tokens(place.clone()).eq(tokens(range.start..range.start + length))
                && place.clone().all(|at| !matches!(walk.tokens[at].kind, TokenKind::Literal(_)))
        };
        let single = !outputs
            .iter()
            .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
        let star = outputs.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
        match ranges.iter().position(same) {
            Some(number) if single => at = At::Start(number),
            _ if star && names.fact(walk.topology, expr).is_some() => {}
            _ => return Err("ORDER BY of SELECT DISTINCT names what is not among the output.".into()),
        }
    }
    let kind = sort_kind(expr, walk, names);
    let c_collation = match kind {
        Sorted::Plain => false,
        Sorted::Bytes => true,
        Sorted::Unknown => {
            return Err(
                "Its rows would have to be sorted again (ORDER BY), by values that only a server compares."
                    .into(),
            );
        }
    };
    Ok(Key { at, descending, nulls_first, c_collation })
}

/// The output column that a bare name in ORDER BY means: an output's name comes before a column of FROM.
fn named<'e>(outputs: &'e [SelectItem], name: &Ident) -> Result<Option<(At, &'e Expr)>, String> {
    let star =
        |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let mut found = None;
    for (number, item) in outputs.iter().enumerate() {
        let (expr, called) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.value == name.value),
            SelectItem::UnnamedExpr(expr) => (expr, called(expr, &name.value)?),
            _ => continue,
        };
        if called && found.is_none() {
            let at = if !outputs[..number].iter().any(star) {
                At::Start(number)
            } else if !outputs[number..].iter().any(star) {
                At::End(outputs.len() - 1 - number)
            } else {
                return Err("ORDER BY names a column between two *.".into());
            };
            found = Some((at, expr));
        }
    }
    Ok(found)
}

/// Names that PostgreSQL gives to expressions of its own grammar (parse_target.c, FigureColname): of types, and of what looks like
/// no function but is one.
const FIGURED: &[&str] = &[
    "array",
    "bool",
    "bpchar",
    "btrim",
    "bytea",
    "case",
    "ceil",
    "coalesce",
    "date",
    "date_part",
    "exists",
    "extract",
    "float4",
    "float8",
    "floor",
    "greatest",
    "int2",
    "int4",
    "int8",
    "interval",
    "json",
    "jsonb",
    "least",
    "ltrim",
    "name",
    "normalize",
    "nullif",
    "numeric",
    "oid",
    "overlay",
    "position",
    "row",
    "rtrim",
    "substring",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "timezone",
    "uuid",
    "varchar",
];

/// Whether PostgreSQL calls an expression without an alias by this name.
fn called(expr: &Expr, name: &str) -> Result<bool, String> {
    let unknown =
        || Err("pgherd does not know what PostgreSQL calls a column of it: give it a name (AS).".into());
    match expr {
        Expr::Identifier(own) => Ok(own.value == name),
        Expr::CompoundIdentifier(parts) => Ok(parts.last().is_some_and(|own| own.value == name)),
        Expr::Function(function) => match function.name.0.last() {
            Some(ObjectNamePart::Identifier(own)) => Ok(own.value == name),
            _ => unknown(),
        },
        Expr::BinaryOp { .. } | Expr::UnaryOp { .. } | Expr::Value(_) => Ok(false),
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::Like { .. } => Ok(false),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => called(inner, name),
        _ if FIGURED.contains(&name) => unknown(),
        Expr::Cast { expr: inner, data_type, .. } => {
            // A type of the users' has any name.
            Ok(called(inner, name)? || data_type.to_string().to_ascii_lowercase().contains(name))
        }
        Expr::Case { else_result, .. } => else_result.as_ref().map_or(Ok(false), |inner| called(inner, name)),
        Expr::Extract { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Position { .. }
        | Expr::Overlay { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::AtTimeZone { .. }
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::Exists { .. }
        | Expr::Interval(_) => Ok(false),
        _ => unknown(),
    }
}

/// How values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sorted {
    /// Like numbers and times, or whatever its type: looked at again when it is known.
    Plain,
    /// A text, by its bytes.
    Bytes,
    /// Not outside a server, for all that is known.
    Unknown,
}

fn sort_kind(expr: &Expr, walk: &Walk<'_>, names: &Scope<'_>) -> Sorted {
    match expr {
        Expr::Nested(inner) => sort_kind(inner, walk, names),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
            if let Some((table, column)) = names.fact(walk.topology, expr) {
                let facts = &walk.topology.facts.tables[&table].columns[column];
                return of_type(facts.type_oid, facts.c_collation);
            }
            if let Some(kind) = names.kind(expr) {
                return kind;
            }
            // A key, by whatever table it is known: its type is that of the distribution.
            match names.key(expr).and_then(|(node, _)| walk.found.column(node)) {
                Some(column) if !matches!(column.ty, KeyType::Text | KeyType::Varchar | KeyType::Char) => {
                    Sorted::Plain
                }
                _ => Sorted::Unknown,
            }
        }
        Expr::Collate { expr: _, collation } => match qualified(collation) {
            Ok((None | Some("pg_catalog"), "C" | "POSIX")) => Sorted::Bytes,
            _ => Sorted::Unknown,
        },
        Expr::Cast { data_type, format: None, .. } => type_kind(data_type),
        Expr::BinaryOp { op, .. } => match op {
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo => Sorted::Plain,
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
            | BinaryOperator::And
            | BinaryOperator::Or => Sorted::Plain,
            _ => Sorted::Unknown,
        },
        Expr::UnaryOp { .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::Extract { .. }
        | Expr::Position { .. }
        | Expr::Floor { .. }
        | Expr::Ceil { .. } => Sorted::Plain,
        Expr::Case { conditions, else_result, .. } => {
            let mut results = conditions.iter().map(|when| &when.result).chain(else_result.as_deref());
            all_plain(&mut results, walk, names)
        }
        Expr::Value(value) => match value.value {
            Value::Number(..) | Value::Boolean(_) | Value::Null => Sorted::Plain,
            _ => Sorted::Unknown,
        },
        Expr::Function(function) => function_kind(function, walk, names),
        _ => Sorted::Unknown,
    }
}

fn all_plain(exprs: &mut dyn Iterator<Item = &Expr>, walk: &Walk<'_>, names: &Scope<'_>) -> Sorted {
    for expr in exprs {
        if sort_kind(expr, walk, names) != Sorted::Plain {
            return Sorted::Unknown;
        }
    }
    Sorted::Plain
}

/// Of built-in functions whose result is never a text.
const NUMERIC_FUNCTIONS: &[&str] = &[
    "abs",
    "ascii",
    "avg",
    "bit_length",
    "bool_and",
    "bool_or",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "count",
    "date_part",
    "date_trunc",
    "dense_rank",
    "every",
    "extract",
    "floor",
    "length",
    "mod",
    "ntile",
    "octet_length",
    "power",
    "rank",
    "round",
    "row_number",
    "sign",
    "sqrt",
    "strpos",
    "sum",
    "trunc",
];

fn function_kind(function: &Function, walk: &Walk<'_>, names: &Scope<'_>) -> Sorted {
    let Ok((None | Some("pg_catalog"), name)) = qualified(&function.name) else { return Sorted::Unknown };
    if NUMERIC_FUNCTIONS.contains(&name) {
        return Sorted::Plain;
    }
    let FunctionArguments::List(list) = &function.args else { return Sorted::Unknown };
    let mut arguments = Vec::with_capacity(list.args.len());
    for argument in &list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return Sorted::Unknown };
        arguments.push(expr);
    }
    match name {
        "coalesce" | "greatest" | "least" | "max" | "min" | "nullif" => {
            all_plain(&mut arguments.into_iter(), walk, names)
        }
        _ => Sorted::Unknown,
    }
}

fn type_kind(data_type: &DataType) -> Sorted {
    match data_type {
        DataType::SmallInt(_)
        | DataType::Int2(_)
        | DataType::Int(_)
        | DataType::Integer(_)
        | DataType::Int4(_)
        | DataType::BigInt(_)
        | DataType::Int8(_)
        | DataType::Numeric(_)
        | DataType::Decimal(_)
        | DataType::Real
        | DataType::Float4
        | DataType::Float8
        | DataType::DoublePrecision
        | DataType::Bool
        | DataType::Boolean
        | DataType::Date
        | DataType::Timestamp(..)
        | DataType::Uuid
        | DataType::Bytea => Sorted::Plain,
        _ => Sorted::Unknown,
    }
}

fn of_type(type_oid: u32, c_collation: bool) -> Sorted {
    match type_oid {
        oid::TEXT | oid::VARCHAR | oid::BPCHAR if c_collation => Sorted::Bytes,
        oid::TEXT | oid::VARCHAR | oid::BPCHAR => Sorted::Unknown,
        type_oid if order::compares(type_oid) => Sorted::Plain,
        _ => Sorted::Unknown,
    }
}

/// How each output column is compared. Empty: only the servers know which columns there are.
pub(super) fn kinds(outputs: &[SelectItem], walk: &Walk<'_>, names: &Scope<'_>) -> Vec<Sorted> {
    if let ([SelectItem::Wildcard(_)], [item]) = (outputs, names.items.as_slice()) {
        let facts = item.table.and_then(|table| walk.topology.facts.tables.get(&table));
        let columns = facts.map_or(&[][..], |facts| facts.columns.as_slice());
        return columns.iter().map(|column| of_type(column.type_oid, column.c_collation)).collect();
    }
    let mut found = Vec::with_capacity(outputs.len());
    for item in outputs {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => {
                found.push(sort_kind(expr, walk, names));
            }
            _ => return found,
        }
    }
    found
}

/// Aggregates, groups and DISTINCT that reach over shards.
pub(super) fn two_phase(
    select: &Select,
    _order: &[OrderByExpr],
    walk: &Walk<'_>,
    names: &Scope<'_>,
) -> Combined {
    let ungrouped = matches!(&select.group_by, sqlparser::ast::GroupByExpr::Expressions(list, modifiers)
        if list.is_empty() && modifiers.is_empty());
    if ungrouped && select.distinct.is_none() && select.having.is_none() && !select.projection.is_empty() {
        let simple: Option<Vec<Aggregate>> = select.projection.iter().map(simple_aggregate).collect();
        if let Some(aggregates) = simple
            && select.projection.iter().all(|item| is_combined(item, walk, names))
        {
            return Combined::Aggregates(aggregates);
        }
    }
    Combined::Union
}

/// A column whose type is known, and is none that `combine` knows, had better be gathered.
fn is_combined(item: &SelectItem, walk: &Walk<'_>, names: &Scope<'_>) -> bool {
    /// int8, int2, int4, numeric, float4, float8; then those of which there is a least one only: oid, date, timestamp, timestamptz.
    const NUMBERS: [u32; 6] = [20, 21, 23, 1700, 700, 701];
    const ORDERED: [u32; 4] = [26, 1082, 1114, 1184];
    let (SelectItem::UnnamedExpr(Expr::Function(function))
    | SelectItem::ExprWithAlias { expr: Expr::Function(function), alias: _ }) = item
    else {
        return true;
    };
    let (Some(aggregate), FunctionArguments::List(list)) = (aggregate_of(function), &function.args) else {
        return true;
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_slice() else { return true };
    let Some((table, column)) = names.fact(walk.topology, argument) else { return true };
    let oid = walk.topology.facts.tables[&table].columns[column].type_oid;
    match aggregate {
        Aggregate::Count => true,
        Aggregate::Sum => NUMBERS.contains(&oid),
        Aggregate::Min | Aggregate::Max => NUMBERS.contains(&oid) || ORDERED.contains(&oid),
    }
}

/// count(*), count(x), sum(x), min(x), max(x): what one row from each shard can be combined from.
fn simple_aggregate(item: &SelectItem) -> Option<Aggregate> {
    let (SelectItem::UnnamedExpr(Expr::Function(function))
    | SelectItem::ExprWithAlias { expr: Expr::Function(function), alias: _ }) = item
    else {
        return None;
    };
    aggregate_of(function)
}

fn aggregate_of(function: &Function) -> Option<Aggregate> {
    let Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        within_group,
        filter: _,
        null_treatment: None,
        over: None,
    } = function
    else {
        return None;
    };
    let aggregate = match qualified(name).ok()? {
        (None | Some("pg_catalog"), name) => match name {
            "count" => Aggregate::Count,
            "sum" => Aggregate::Sum,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            _ => return None,
        },
        (Some(_), _) => return None,
    };
    let one_argument = match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(_))] => true,
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => aggregate == Aggregate::Count,
        _ => false,
    };
    let over_all = match list.duplicate_treatment {
        None | Some(DuplicateTreatment::All) => true,
        Some(DuplicateTreatment::Distinct) => matches!(aggregate, Aggregate::Min | Aggregate::Max),
    };
    (one_argument && over_all && list.clauses.is_empty() && within_group.is_empty()).then_some(aggregate)
}

/// Where the clauses of the outermost query stand among the tokens.
#[derive(Debug, Default)]
struct Clauses {
    outputs: Vec<Range<usize>>,
    from: Option<usize>,
    order: Vec<Range<usize>>,
    limits: Vec<Range<usize>>,
}

impl Clauses {
    /// Words between parentheses, behind a point or behind AS are names or another query's.
    fn of(tokens: &[Token]) -> Option<Self> {
        #[derive(PartialEq, Eq, Clone, Copy)]
        enum Part {
            Before,
            Outputs,
            Order,
            Limit,
            Other,
        }
        let mut found = Self::default();
        let (mut part, mut start, mut depth) = (Part::Before, 0, 0usize);
        let mut at = 0;
        let word = |at: usize, text: &str| {
            tokens.get(at).is_some_and(|token| token.kind == TokenKind::Word && token.text == text)
        };
        let mut selects = 0;
        loop {
            let token = tokens.get(at);
            let symbol = |text: &str| {
                token.is_some_and(|token| token.kind == TokenKind::Punctuation && token.text == text)
            };
            if symbol("(") || symbol("[") {
                depth += 1;
            } else if symbol(")") || symbol("]") {
                depth = depth.checked_sub(1)?;
            }
            let name = at > 0
                && (word(at - 1, "as")
                    || tokens[at - 1].kind == TokenKind::Punctuation && tokens[at - 1].text == ".");
            let keyword = match token {
                None => Some(""),
                Some(token) if depth == 0 && !name && token.kind == TokenKind::Word => {
                    Some(token.text.as_str())
                }
                Some(_) if depth == 0 && symbol(";") => Some(";"),
                Some(_) => None,
            };
            let compared = at > 1 && word(at - 1, "distinct") && (word(at - 2, "is") || word(at - 2, "not"));
            let next = match keyword {
                Some("select") => {
                    selects += 1;
                    Some(Part::Outputs)
                }
                Some("from") if part == Part::Outputs && !compared => Some(Part::Other),
                Some("where" | "group" | "having" | "window" | "union" | "intersect" | "except" | "for") => {
                    Some(Part::Other)
                }
                Some("order") if word(at + 1, "by") => Some(Part::Order),
                Some("limit" | "offset" | "fetch") => Some(Part::Limit),
                Some("" | ";") => Some(Part::Other),
                _ => None,
            };
            let ends = next.is_some();
            let comma = depth == 0 && symbol(",");
            if ends || comma {
                match part {
                    Part::Outputs if start < at => found.outputs.push(start..at),
                    Part::Order if start < at => found.order.push(start..at),
                    Part::Limit if ends => found.limits.push(start..at),
                    _ => {}
                }
                if comma && part != Part::Limit {
                    start = at + 1;
                }
            }
            if let Some(next) = next {
                if keyword == Some("from") && part == Part::Outputs {
                    found.from = Some(at);
                }
                part = next;
                start = match next {
                    Part::Order => at + 2,
                    Part::Limit => at,
                    _ => at + 1,
                };
                if next == Part::Outputs {
                    found.outputs.clear();
                    found.from = None;
                    // SELECT ALL, SELECT DISTINCT [ON (...)]
                    if word(at + 1, "all") || word(at + 1, "distinct") {
                        start += 1;
                        at += 1;
                        if word(at, "distinct") && word(at + 1, "on") {
                            let mut open = 0usize;
                            at += 2;
                            while let Some(token) = tokens.get(at) {
                                match token.text.as_str() {
                                    "(" if token.kind == TokenKind::Punctuation => open += 1,
                                    ")" if token.kind == TokenKind::Punctuation => open -= 1,
                                    _ => {}
                                }
                                if open == 0 {
                                    break;
                                }
                                at += 1;
                            }
                            start = at + 1;
                        }
                    }
                }
            }
            if token.is_none() || keyword == Some(";") {
                break;
            }
            at += 1;
        }
        if selects > 1 {
            // The outputs of a set operation are nobody's to add to.
            found.from = None;
            found.outputs.clear();
        }
        (depth == 0).then_some(found)
    }
}

impl MergeRoute {
    pub fn plan(&self, shards: Vec<ShardId>, values: Values<'_>) -> Result<Plan, Refusal> {
        let limit = match self.limit {
            Amount::None => Number::Fixed(None),
            Amount::One => Number::Fixed(Some(1)),
            Amount::Constant(constant) => amount(constant, values, "LIMIT")?,
        };
        let offset = match self.offset {
            Amount::None | Amount::One => Number::Fixed(None),
            Amount::Constant(constant) => amount(constant, values, "OFFSET")?,
        };
        let tokens = tokens(values.sql);
        let Some(shift) = tokens.len().checked_sub(self.count) else {
            return Err(not_proven("pgherd does not find the clauses of the statement."));
        };
        let start = |token: usize| {
            tokens.get(token + shift).map_or(values.sql.len(), |token| token.at.start as usize)
        };
        let text = |range: &Range<usize>| {
            let end = tokens
                .get((range.end + shift).wrapping_sub(1))
                .map_or(values.sql.len(), |token| token.at.end as usize);
            values.sql.get(start(range.start)..end).unwrap_or("")
        };
        let mut keys = Vec::with_capacity(self.keys.len());
        let mut added = String::new();
        let mut hidden = 0;
        for key in &self.keys {
            let mut c_collation = key.c_collation;
            let place = match &key.at {
                At::Start(column) => Place::Start(*column),
                At::End(column) => Place::End(*column),
                At::Number(token, kinds) => {
                    let number = tokens.get(token + shift).and_then(|token| token.text.parse::<usize>().ok());
                    let number = number.unwrap_or(0).wrapping_sub(1);
                    match kinds.get(number) {
                        Some(Sorted::Plain) => {}
                        Some(Sorted::Bytes) => c_collation = true,
                        Some(Sorted::Unknown) | None => return Err(not_proven(UNSORTED)),
                    }
                    Place::Start(number)
                }
                At::Hidden(range) => {
                    hidden += 1;
                    added.push_str(&format!(", ({}) AS pgherd_sort_{hidden} ", text(range)));
                    Place::Hidden(hidden - 1)
                }
            };
            keys.push(SortKey {
                place,
                descending: key.descending,
                nulls_first: key.nulls_first,
                c_collation,
            });
        }
        let mut pieces: Vec<(Range<usize>, String)> = Vec::new();
        if let (Some(from), true) = (self.from, hidden > 0) {
            let at = start(from);
            pieces.push((at..at, added));
        }
        if let Some(clause) = pushed(&limit, &offset, self.ties) {
            for (number, range) in self.clauses.iter().enumerate() {
                let end = start(range.start) + text(range).len();
                let text = if number == 0 { clause.clone() } else { String::new() };
                pieces.push((start(range.start)..end, text));
            }
        }
        let sql = (!pieces.is_empty()).then(|| {
            let mut sql = String::with_capacity(values.sql.len() + 64);
            let mut done = 0;
            for (range, text) in &pieces {
                sql.push_str(values.sql.get(done..range.start).unwrap_or(""));
                sql.push_str(text);
                done = range.end;
            }
            sql.push_str(values.sql.get(done..).unwrap_or(""));
            sql
        });
        Ok(Plan::Merge(Merge {
            shards,
            sql,
            hidden,
            keys,
            offset: offset.value().unwrap_or(0),
            limit: limit.value(),
            ties: self.ties,
        }))
    }
}

/// LIMIT or OFFSET, for the values of one execution. Inner `None`: NULL, or not there.
enum Number {
    Fixed(Option<u64>),
    /// The number of a parameter, from 1.
    Param(usize, Option<u64>),
}

impl Number {
    fn value(&self) -> Option<u64> {
        match self {
            Self::Fixed(value) | Self::Param(_, value) => *value,
        }
    }
}

/// What the shards are told. `None`: the text stays as it is.
///
/// Parameters stay in the text, so that it is one prepared statement for all their values, and their types can be found.
fn pushed(limit: &Number, offset: &Number, ties: bool) -> Option<String> {
    let written = |number: &Number| match number {
        Number::Fixed(value) => value.map(|value| value.to_string()),
        Number::Param(number, _) => Some(format!("${number}::int8")),
    };
    let sum = match (limit, offset) {
        (_, Number::Fixed(None)) => return None,
        // Without a limit there is none to push; but a parameter must stay.
        (Number::Fixed(None), Number::Fixed(Some(_))) => return Some(String::new()),
        (Number::Fixed(None), Number::Param(number, _)) => {
            return Some(format!("OFFSET 0 * ${number}::int8"));
        }
        (Number::Fixed(Some(limit)), Number::Fixed(Some(offset))) => match limit.checked_add(*offset) {
            Some(sum) if sum <= i64::MAX as u64 => sum.to_string(),
            _ => return Some(String::new()),
        },
        (limit, offset) => {
            let (limit, offset) = (written(limit)?, written(offset)?);
            // LEAST passes over NULL, which is no limit.
            format!("(LEAST({limit}, 9223372036854775807 - COALESCE({offset}, 0)) + COALESCE({offset}, 0))")
        }
    };
    Some(if ties { format!("FETCH FIRST {sum} ROWS WITH TIES") } else { format!("LIMIT {sum}") })
}

fn amount(constant: Constant, values: Values<'_>, clause: &str) -> Result<Number, Refusal> {
    let odd = || not_proven(format!("{clause} of several shards must be a plain number."));
    let negative = || Refusal {
        sqlstate: if clause == "LIMIT" { "2201W" } else { "2201X" },
        message: format!("{clause} must not be negative"),
        detail: None,
        hint: None,
    };
    let checked = |value: i64| u64::try_from(value).map_err(|_| negative());
    match constant.source {
        Source::Null => Ok(Number::Fixed(None)),
        Source::Boolean(_) => Err(odd()),
        Source::Literal { index, negative } => {
            let literal = values.literals.get(index).ok_or_else(odd)?;
            if literal.kind != LiteralKind::Integer {
                return Err(odd());
            }
            let text = values.sql.get(literal.at.start as usize..literal.at.end as usize).unwrap_or("");
            let value: i64 = text.parse().map_err(|_| odd())?;
            Ok(Number::Fixed(Some(checked(if negative { -value } else { value })?)))
        }
        Source::Param(number) => {
            let declared = values.params.types.get(number).copied().unwrap_or(0);
            if !matches!(declared, 0 | oid::INT2 | oid::INT4 | oid::INT8) {
                return Err(odd());
            }
            let value = values.params.values.get(number).ok_or_else(odd)?;
            let format = match values.params.formats {
                [] => 0,
                [one] => *one,
                each => each.get(number).copied().unwrap_or(0),
            };
            let value = match (value, format) {
                (None, _) => None,
                (Some(bytes), 0) => {
                    let text = std::str::from_utf8(bytes).map_err(|_| odd())?;
                    Some(text.trim().parse::<i64>().map_err(|_| odd())?)
                }
                (Some(bytes), _) => match **bytes {
                    [a, b] => Some(i64::from(i16::from_be_bytes([a, b]))),
                    [a, b, c, d] => Some(i64::from(i32::from_be_bytes([a, b, c, d]))),
                    _ => Some(i64::from_be_bytes((*bytes).try_into().map_err(|_| odd())?)),
                },
            };
            Ok(Number::Param(number + 1, value.map(checked).transpose()?))
        }
    }
}
