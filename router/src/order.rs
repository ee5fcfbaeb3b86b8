//! Comparing values of result rows outside a server, as PostgreSQL compares them.
//!
//! Invariant: two values are in the order in which PostgreSQL's default B-tree operators have them, whether they came as text or
//! binary; a value that cannot be read exactly (a date that is not in ISO form, an interval in another style) is refused.
//!
//! Texts are compared by their bytes, which is right under the collations "C" and "POSIX" only: the caller says so.

use std::cmp::Ordering;

use pgherd_config::KeyType;

use crate::plan::SortKey;
use crate::refusal::Refusal;
use crate::value::{KeyValue, Numeric, NumericDigits, oid};

const TIME: u32 = 1083;
const INTERVAL: u32 = 1186;

/// Whether values of the type can be compared here (texts: under the right collation).
pub fn compares(type_oid: u32) -> bool {
    matches!(
        type_oid,
        oid::BOOL
            | oid::BYTEA
            | oid::NAME
            | oid::INT8
            | oid::INT2
            | oid::INT4
            | oid::TEXT
            | oid::OID
            | oid::FLOAT4
            | oid::FLOAT8
            | oid::BPCHAR
            | oid::VARCHAR
            | oid::DATE
            | oid::TIMESTAMP
            | oid::TIMESTAMPTZ
            | oid::NUMERIC
            | oid::UUID
            | TIME
            | INTERVAL
    )
}

/// A value, ready to be compared with others of its column.
#[derive(Debug, Clone, PartialEq)]
pub enum Sortable {
    Null,
    Integer(i64),
    Float(f64),
    Bytes(Vec<u8>),
    Numeric(Numeric),
    /// An interval as one number of microseconds: a month has 30 days, a day 24 hours (timestamp.c, interval_cmp_value).
    Span(i128),
}

/// One column's type and format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typed {
    pub type_oid: u32,
    pub format: u16,
}

/// Whether the rows can be sorted by these keys, now that the types of their columns are known.
///
/// # Errors
/// 0A000: a type that is not compared here, or a text whose collation is not known to be "C".
pub fn check(keys: &[(SortKey, Typed)]) -> Result<(), Refusal> {
    for (key, typed) in keys {
        let text = matches!(typed.type_oid, oid::TEXT | oid::VARCHAR | oid::BPCHAR);
        if !compares(typed.type_oid) || text && !key.c_collation {
            return Err(Refusal::unsupported(
                "cannot sort rows of several shards by values of this type",
                if text {
                    "A text is compared by its collation, which only a server knows."
                } else {
                    "Values of this type are not compared outside a server."
                },
                "Restrict the query to one shard by its sharding key, or sort by COLLATE \"C\".",
            ));
        }
    }
    Ok(())
}

impl Sortable {
    /// # Errors
    /// 0A000 for a time that is not in ISO form; XX000 for what a shard should not have sent.
    pub fn read(typed: Typed, bytes: Option<&[u8]>) -> Result<Self, Refusal> {
        let Some(bytes) = bytes else { return Ok(Self::Null) };
        let binary = typed.format == 1;
        let unreadable = || internal("a shard answered a value that cannot be read");
        let key = |ty: KeyType| {
            let value = match binary {
                true => KeyValue::from_binary(ty, typed.type_oid, bytes),
                false => KeyValue::from_text(ty, bytes),
            };
            value.map_err(|_| match ty {
                KeyType::Date | KeyType::Timestamp | KeyType::TimestampTz => not_iso(),
                _ => unreadable(),
            })
        };
        let ty = match typed.type_oid {
            oid::INT2 => KeyType::SmallInt,
            oid::INT4 => KeyType::Integer,
            oid::INT8 => KeyType::BigInt,
            oid::BOOL => KeyType::Boolean,
            oid::BPCHAR => KeyType::Char,
            oid::BYTEA => KeyType::Bytea,
            oid::DATE => KeyType::Date,
            oid::TIMESTAMP => KeyType::Timestamp,
            oid::TIMESTAMPTZ => KeyType::TimestampTz,
            oid::NUMERIC => KeyType::Numeric,
            oid::UUID => KeyType::Uuid,
            oid::TEXT | oid::VARCHAR | oid::NAME => return Ok(Self::Bytes(bytes.to_vec())),
            oid::OID if binary => {
                return Ok(Self::Integer(
                    u32::from_be_bytes(bytes.try_into().map_err(|_| unreadable())?).into(),
                ));
            }
            oid::OID => {
                return text(bytes)
                    .and_then(|text| text.parse().ok())
                    .map(Self::Integer)
                    .ok_or_else(unreadable);
            }
            oid::FLOAT4 if binary => {
                let bytes = bytes.try_into().map_err(|_| unreadable())?;
                return Ok(Self::Float(f32::from_be_bytes(bytes).into()));
            }
            oid::FLOAT8 if binary => {
                return Ok(Self::Float(f64::from_be_bytes(bytes.try_into().map_err(|_| unreadable())?)));
            }
            // Rounded to a float4 first: the same value must be equal to itself in either format.
            oid::FLOAT4 => {
                let value: Option<f32> = text(bytes).and_then(|text| text.parse().ok());
                return value.map(|value| Self::Float(value.into())).ok_or_else(unreadable);
            }
            oid::FLOAT8 => {
                return text(bytes)
                    .and_then(|text| text.parse().ok())
                    .map(Self::Float)
                    .ok_or_else(unreadable);
            }
            TIME if binary => {
                return Ok(Self::Integer(i64::from_be_bytes(bytes.try_into().map_err(|_| unreadable())?)));
            }
            TIME => return text(bytes).and_then(clock).map(Self::Integer).ok_or_else(unreadable),
            INTERVAL if binary => return binary_span(bytes).map(Self::Span).ok_or_else(unreadable),
            INTERVAL => return text(bytes).and_then(span).map(Self::Span).ok_or_else(odd_interval),
            _ => return Err(internal("a type that is not compared here")),
        };
        Ok(match key(ty)? {
            KeyValue::Integer(value) => Self::Integer(value),
            KeyValue::Boolean(value) => Self::Integer(value.into()),
            KeyValue::Text(bytes) => Self::Bytes(bytes.to_vec()),
            KeyValue::Bytea(bytes) => Self::Bytes(bytes.into_owned()),
            KeyValue::Uuid(bytes) => Self::Bytes(bytes.to_vec()),
            KeyValue::Date(days) => Self::Integer(days.into()),
            KeyValue::Timestamp(micros) => Self::Integer(micros),
            KeyValue::Numeric(value) => Self::Numeric(value),
        })
    }

    /// In ascending order, NULL above all.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Greater,
            (_, Self::Null) => Ordering::Less,
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => match (a.is_nan(), b.is_nan()) {
                (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
                (a, b) => a.cmp(&b),
            },
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Numeric(a), Self::Numeric(b)) => numeric(a, b),
            (Self::Span(a), Self::Span(b)) => a.cmp(b),
            // One column has one type.
            _ => Ordering::Equal,
        }
    }
}

/// The order of two rows, by their keys.
pub fn compare(keys: &[(SortKey, Typed)], a: &[Sortable], b: &[Sortable]) -> Ordering {
    for (((key, _), a), b) in keys.iter().zip(a).zip(b) {
        let order = match (a, b) {
            (Sortable::Null, Sortable::Null) => Ordering::Equal,
            (Sortable::Null, _) if key.nulls_first => Ordering::Less,
            (Sortable::Null, _) => Ordering::Greater,
            (_, Sortable::Null) if key.nulls_first => Ordering::Greater,
            (_, Sortable::Null) => Ordering::Less,
            (a, b) if key.descending => b.compare(a),
            (a, b) => a.compare(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn numeric(a: &Numeric, b: &Numeric) -> Ordering {
    let rank = |value: &Numeric| match value {
        Numeric::NegativeInfinity => 0,
        Numeric::Finite(_) => 1,
        Numeric::Infinity => 2,
        Numeric::NaN => 3,
    };
    let magnitude = |a: &NumericDigits, b: &NumericDigits| match (a.digits.is_empty(), b.digits.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.weight.cmp(&b.weight).then_with(|| a.digits.cmp(&b.digits)),
    };
    match (a, b) {
        (Numeric::Finite(a), Numeric::Finite(b)) => match (a.negative, b.negative) {
            (false, false) => magnitude(a, b),
            (true, true) => magnitude(b, a),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        },
        _ => rank(a).cmp(&rank(b)),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// `HH:MM:SS[.ffffff]` in microseconds.
fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    if fraction.len() > 6 {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    let hours: i64 = hours.parse().ok()?;
    let seconds = hours.checked_mul(60)?.checked_add(minutes.parse().ok()?)?.checked_mul(60)?;
    seconds.checked_add(whole.parse().ok()?)?.checked_mul(1_000_000)?.checked_add(micros)
}

const DAY_MICROS: i128 = 86_400_000_000;

fn binary_span(bytes: &[u8]) -> Option<i128> {
    let micros = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let days = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    let months = i32::from_be_bytes(bytes.get(12..16)?.try_into().ok()?);
    Some(i128::from(micros) + (i128::from(days) + i128::from(months) * 30) * DAY_MICROS)
}

/// IntervalStyle "postgres": `1 year 2 mons -3 days +04:05:06.7`.
fn span(text: &str) -> Option<i128> {
    match text {
        "infinity" => {
            return binary_span(&[
                0x7f, 255, 255, 255, 255, 255, 255, 255, 0x7f, 255, 255, 255, 0x7f, 255, 255, 255,
            ]);
        }
        "-infinity" => return binary_span(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0x80, 0, 0, 0]),
        _ => {}
    }
    let mut words = text.split(' ').peekable();
    let mut sum = 0i128;
    words.peek()?;
    while let Some(word) = words.next() {
        if word.contains(':') {
            let unsigned = word.trim_start_matches(['-', '+']);
            let micros = i128::from(clock(unsigned)?);
            sum += if word.starts_with('-') { -micros } else { micros };
            if words.next().is_some() {
                return None;
            }
            return Some(sum);
        }
        let number: i128 = word.parse().ok()?;
        let unit = match words.next()? {
            "year" | "years" => 360,
            "mon" | "mons" => 30,
            "day" | "days" => 1,
            _ => return None,
        };
        sum += number * unit * DAY_MICROS;
    }
    Some(sum)
}

fn internal(message: &str) -> Refusal {
    Refusal { sqlstate: "XX000", message: message.into(), detail: None, hint: None }
}

fn not_iso() -> Refusal {
    Refusal::unsupported(
        "cannot compare dates of several shards in this DateStyle",
        "",
        "SET datestyle = 'ISO'.",
    )
}

fn odd_interval() -> Refusal {
    Refusal::unsupported(
        "cannot compare intervals of several shards in this IntervalStyle",
        "",
        "SET intervalstyle = 'postgres'.",
    )
}
