//! Constants of a statement: recognised in its tree once, read from its text or its parameters each time.
//!
//! Invariant: a constant has a value only when PostgreSQL, comparing or storing it as the key's type, would use exactly
//! that value. Everything else is `Unknown`, and the caller does not prune (or refuses).

use pgherd_config::KeyType;
use sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, TimezoneInfo, UnaryOperator, Value as Parsed,
};

use super::parse::offset;
use crate::lexer::string_value;
use crate::plan::{Literal, LiteralKind, Params};
use crate::value::{KeyValue, ValueError, oid_fits};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Index into the statement's literals.
    Literal {
        index: usize,
        negative: bool,
    },
    /// 0-based.
    Param(usize),
    Boolean(bool),
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Constant {
    pub source: Source,
    pub cast: Option<KeyType>,
}

/// The column that a constant is compared with or stored into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub ty: KeyType,
    /// From the facts; `None`: not loaded.
    pub oid: Option<u32>,
    /// From the facts; `None`: not loaded.
    pub modifier: Option<i32>,
    /// From the facts: a text of it is compared by its bytes.
    pub c_collation: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Key(KeyValue<'a>),
    Null,
    /// PostgreSQL itself reports an error for it.
    Invalid,
    Unknown,
}

/// What the constants of one statement are read from.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub sql: &'a str,
    pub literals: &'a [Literal],
    /// Strings whose value is not the text between their quotes, by index; see [`decoded`].
    pub decoded: &'a [(usize, Vec<u8>)],
    pub params: Params<'a>,
}

/// The values of strings with doubled quotes or escapes.
pub(super) fn decoded(sql: &str, literals: &[Literal]) -> Vec<(usize, Vec<u8>)> {
    let mut found = Vec::new();
    for (index, literal) in literals.iter().enumerate() {
        let raw = || sql.get(literal.at.start as usize..literal.at.end as usize).unwrap_or("");
        let plain = match literal.kind {
            LiteralKind::Integer | LiteralKind::Numeric | LiteralKind::OtherString => true,
            LiteralKind::String => between_quotes(raw()).is_some(),
            LiteralKind::EscapeString | LiteralKind::DollarString => false,
        };
        if !plain && let Some(value) = string_value(raw(), literal.kind) {
            found.push((index, value));
        }
    }
    found
}

/// `None`: it has quotes inside, or goes on over several lines.
fn between_quotes(raw: &str) -> Option<&str> {
    let inside = raw.get(1..raw.len().checked_sub(1)?)?;
    memchr::memchr(b'\'', inside.as_bytes()).is_none().then_some(inside)
}

/// `None`: not a constant that we understand.
pub(super) fn recognise(expr: &Expr, literals: &[Literal]) -> Option<Constant> {
    match expr {
        Expr::Nested(inner) => recognise(inner, literals),
        Expr::Value(value) => {
            let index = || {
                let at = offset(value.span);
                literals.binary_search_by_key(&at, |literal| literal.at.start).ok()
            };
            let source = match &value.value {
                Parsed::Number(..)
                | Parsed::SingleQuotedString(_)
                | Parsed::EscapedStringLiteral(_)
                | Parsed::DollarQuotedString(_) => Source::Literal { index: index()?, negative: false },
                Parsed::Placeholder(name) => {
                    let number: usize = name.strip_prefix('$')?.parse().ok()?;
                    Source::Param(number.checked_sub(1)?)
                }
                Parsed::Boolean(value) => Source::Boolean(*value),
                Parsed::Null => Source::Null,
                _ => return None,
            };
            Some(Constant { source, cast: None })
        }
        Expr::UnaryOp { op, expr } => {
            let constant = recognise(expr, literals)?;
            let Source::Literal { index, negative: false } = constant.source else { return None };
            if !matches!(literals[index].kind, LiteralKind::Integer | LiteralKind::Numeric) {
                return None;
            }
            match op {
                UnaryOperator::Plus => Some(constant),
                UnaryOperator::Minus => {
                    Some(Constant { source: Source::Literal { index, negative: true }, cast: constant.cast })
                }
                _ => None,
            }
        }
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None } => {
            cast(recognise(expr, literals)?, data_type)
        }
        Expr::TypedString(typed) if !typed.uses_odbc_syntax => {
            cast(recognise(&Expr::Value(typed.value.clone()), literals)?, &typed.data_type)
        }
        _ => None,
    }
}

fn cast(constant: Constant, data_type: &DataType) -> Option<Constant> {
    match constant.cast {
        None => Some(Constant { cast: Some(key_type(data_type)?), ..constant }),
        Some(_) => None,
    }
}

/// Key types without a modifier: `varchar(3)` would cut the value.
pub(super) fn key_type(data_type: &DataType) -> Option<KeyType> {
    match data_type {
        DataType::SmallInt(None) | DataType::Int2(None) => Some(KeyType::SmallInt),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => Some(KeyType::Integer),
        DataType::BigInt(None) | DataType::Int8(None) => Some(KeyType::BigInt),
        DataType::Text => Some(KeyType::Text),
        DataType::Varchar(None) | DataType::CharacterVarying(None) => Some(KeyType::Varchar),
        DataType::Uuid => Some(KeyType::Uuid),
        DataType::Bytea => Some(KeyType::Bytea),
        DataType::Bool | DataType::Boolean => Some(KeyType::Boolean),
        DataType::Date => Some(KeyType::Date),
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Some(KeyType::Timestamp)
        }
        DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            Some(KeyType::TimestampTz)
        }
        DataType::Numeric(ExactNumberInfo::None) | DataType::Decimal(ExactNumberInfo::None) => {
            Some(KeyType::Numeric)
        }
        _ => None,
    }
}

pub(super) fn is_integer(ty: KeyType) -> bool {
    matches!(ty, KeyType::SmallInt | KeyType::Integer | KeyType::BigInt)
}

/// Equal values of the two types are one value, so a constant of one can be used as the other.
pub(super) fn same_family(left: KeyType, right: KeyType) -> bool {
    let text = |ty| matches!(ty, KeyType::Text | KeyType::Varchar);
    left == right || (is_integer(left) && is_integer(right)) || (text(left) && text(right))
}

fn oid(ty: KeyType) -> u32 {
    match ty {
        KeyType::SmallInt => 21,
        KeyType::Integer => 23,
        KeyType::BigInt => 20,
        KeyType::Text => 25,
        KeyType::Varchar => 1043,
        KeyType::Char => 1042,
        KeyType::Uuid => 2950,
        KeyType::Bytea => 17,
        KeyType::Boolean => 16,
        KeyType::Date => 1082,
        KeyType::Timestamp => 1114,
        KeyType::TimestampTz => 1184,
        KeyType::Numeric => 1700,
    }
}

/// pg_type "unknown": what a driver declares when it does not know.
pub(super) const UNKNOWN_OID: u32 = 705;

impl Constant {
    /// The value as PostgreSQL compares it with `column`.
    ///
    /// `shared`: the parameter is used elsewhere, too, so that an undeclared type may come from there.
    pub fn compared<'a>(self, column: Column, values: Values<'a>, shared: bool) -> Value<'a> {
        match self.cast {
            Some(cast) if !same_family(cast, column.ty) => return Value::Unknown,
            _ => {}
        }
        match self.source {
            Source::Null => Value::Null,
            Source::Boolean(value) => match column.ty {
                KeyType::Boolean => from_text(column.ty, if value { b"true" } else { b"false" }),
                _ => Value::Unknown,
            },
            Source::Literal { index, negative } => self.literal(column.ty, values, index, negative),
            Source::Param(number) => self.param(column, values.params, number, shared),
        }
    }

    /// The value as PostgreSQL stores it in `column`: a type modifier may change it on the way.
    pub fn stored<'a>(self, column: Column, values: Values<'a>, shared: bool) -> Value<'a> {
        let value = self.compared(column, values, shared);
        match value {
            Value::Key(_) if !self.kept(column, values) => Value::Unknown,
            value => value,
        }
    }

    fn literal<'a>(self, ty: KeyType, values: Values<'a>, index: usize, negative: bool) -> Value<'a> {
        let Some((kind, raw)) = literal(values, index) else { return Value::Unknown };
        match kind {
            LiteralKind::Integer | LiteralKind::Numeric => {
                let number = is_integer(ty) && kind == LiteralKind::Integer
                    || ty == KeyType::Numeric && self.cast.is_none_or(|cast| cast == KeyType::Numeric);
                if !number || raw.contains(['_', 'x', 'X', 'o', 'O', 'b', 'B']) {
                    Value::Unknown
                } else if negative {
                    signed(ty, raw)
                } else {
                    from_text(ty, raw.as_bytes())
                }
            }
            LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => {
                match string(values, index, raw) {
                    Some(text) => from_text(ty, text),
                    None => Value::Unknown,
                }
            }
            LiteralKind::OtherString => Value::Unknown,
        }
    }

    fn param<'a>(self, column: Column, params: Params<'a>, number: usize, shared: bool) -> Value<'a> {
        let declared = match params.types.get(number).copied().unwrap_or(0) {
            0 | UNKNOWN_OID => None,
            declared => Some(declared),
        };
        let Some(value) = params.values.get(number) else { return Value::Unknown };
        let Some(bytes) = value else { return Value::Null };
        let type_oid = match declared {
            Some(declared) if !oid_fits(column.ty, declared) => return Value::Unknown,
            Some(declared) => Some(declared),
            // Its first use gives an undeclared parameter its type, and that may not be this one.
            None if shared => return Value::Unknown,
            None => self.cast.map(oid).or(column.oid),
        };
        let binary = match params.formats {
            [] => false,
            [all] => *all == 1,
            each => each.get(number) == Some(&1),
        };
        match (binary, type_oid) {
            (false, _) => from_text(column.ty, bytes),
            (true, Some(type_oid)) => key(KeyValue::from_binary(column.ty, type_oid, bytes)),
            (true, None) => Value::Unknown,
        }
    }

    /// Does the column keep the value as it is?
    fn kept(self, column: Column, values: Values<'_>) -> bool {
        if column.modifier == Some(-1) {
            return true;
        }
        let text = match self.source {
            Source::Null | Source::Boolean(_) => return true,
            Source::Literal { index, .. } => match literal(values, index) {
                Some((LiteralKind::Integer | LiteralKind::Numeric, raw)) => raw.as_bytes(),
                Some((_, raw)) => match string(values, index, raw) {
                    Some(text) => text,
                    None => return false,
                },
                None => return false,
            },
            Source::Param(number) => match values.params.values.get(number) {
                Some(Some(bytes)) => bytes,
                Some(None) | None => return false,
            },
        };
        match column.ty {
            KeyType::SmallInt
            | KeyType::Integer
            | KeyType::BigInt
            | KeyType::Char
            | KeyType::Uuid
            | KeyType::Bytea
            | KeyType::Boolean
            | KeyType::Date => true,
            // varchar(n), in a distribution of text as well, cuts surplus blanks without a word. (Its modifier counts the length
            // word, too.)
            KeyType::Text | KeyType::Varchar => {
                let chars = text.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
                let fits = column.modifier.and_then(|modifier| usize::try_from(modifier - 4).ok());
                !text.ends_with(b" ") || fits.is_some_and(|most| chars <= most)
            }
            // numeric(p, s) and timestamp(p) round: only what has no fraction is surely kept.
            KeyType::Numeric | KeyType::Timestamp | KeyType::TimestampTz => {
                text.iter().all(|byte| !matches!(byte, b'.' | b'e' | b'E'))
                    && text.is_ascii()
                    && !text.contains(&0)
            }
        }
    }
}

pub(super) fn literal<'a>(values: Values<'a>, index: usize) -> Option<(LiteralKind, &'a str)> {
    let literal = values.literals.get(index)?;
    Some((literal.kind, values.sql.get(literal.at.start as usize..literal.at.end as usize)?))
}

/// A string's value.
pub(super) fn string<'a>(values: Values<'a>, index: usize, raw: &'a str) -> Option<&'a [u8]> {
    match values.decoded.binary_search_by_key(&index, |(index, _)| *index) {
        Ok(found) => Some(&values.decoded[found].1),
        // An E or $$ string that is not decoded cannot be read.
        Err(_) if raw.starts_with('\'') => between_quotes(raw).map(str::as_bytes),
        Err(_) => None,
    }
}

fn signed(ty: KeyType, digits: &str) -> Value<'static> {
    let mut text = [0u8; 64];
    text[0] = b'-';
    match text.get_mut(1..=digits.len()) {
        Some(place) => {
            place.copy_from_slice(digits.as_bytes());
            match from_text(ty, &text[..=digits.len()]) {
                Value::Key(KeyValue::Integer(value)) => Value::Key(KeyValue::Integer(value)),
                Value::Key(KeyValue::Numeric(value)) => Value::Key(KeyValue::Numeric(value)),
                Value::Invalid => Value::Invalid,
                Value::Key(_) | Value::Null | Value::Unknown => Value::Unknown,
            }
        }
        None => Value::Unknown,
    }
}

fn from_text(ty: KeyType, bytes: &[u8]) -> Value<'_> {
    key(KeyValue::from_text(ty, bytes))
}

fn key(value: Result<KeyValue<'_>, ValueError>) -> Value<'_> {
    match value {
        Ok(value) => Value::Key(value),
        Err(ValueError::Invalid | ValueError::OutOfRange) => Value::Invalid,
        Err(ValueError::NotUnderstood) => Value::Unknown,
    }
}

/// Strings that mean the moment at which a server reads them: 'now', 'today 10:00 PST'.
pub(super) fn names_a_moment(text: &[u8]) -> bool {
    const MOMENTS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];
    /// Longer than any date with a time and a zone.
    const LENGTH_MAX: usize = 64;
    if text.len() > LENGTH_MAX {
        return false;
    }
    let words = || text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let moment = |word: &[u8]| MOMENTS.iter().any(|moment| word.eq_ignore_ascii_case(moment));
    let number = |word: &[u8]| word.iter().any(u8::is_ascii_digit);
    // Beside it may stand a time, am or pm, a time zone. A sentence is not a moment.
    let others = words().filter(|word| !moment(word) && !number(word)).count();
    let short = words().all(|word| moment(word) || number(word) || word.len() <= 4);
    let zone = text.contains(&b'/');
    words().any(moment) && (zone || short && others <= if words().any(number) { 2 } else { 1 })
}

/// Whether any string of the statement names a moment: over several servers it would be several moments.
pub(super) fn any_moment(values: Values<'_>) -> bool {
    let in_literals = || {
        (0..values.literals.len()).any(|index| match literal(values, index) {
            Some((LiteralKind::Integer | LiteralKind::Numeric, _)) | None => false,
            Some((LiteralKind::OtherString, raw)) => {
                names_a_moment(raw.trim_start_matches(['u', 'U', 'n', 'N']).as_bytes())
            }
            Some((_, raw)) => string(values, index, raw).is_some_and(names_a_moment),
        })
    };
    let in_params = || values.params.values.iter().flatten().any(|value| names_a_moment(value));
    in_literals() || in_params()
}
