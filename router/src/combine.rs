//! Merging one row of partial aggregates from each shard into the row that one PostgreSQL would give.
//!
//! Invariant: the result is exact (float sums: some order of summation, as in PostgreSQL itself) and printed as
//! PostgreSQL prints it. What cannot be merged exactly is refused before any row is read.
//!
//! Left to the caller: shards answer in text format, with the same settings; `extra_float_digits` must be at least 1
//! (the default) where floats are summed, or their text does not hold the whole value.
//!
//! Start reading at [`Aggregator`].

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};
use pgherd_config::KeyType;

use crate::plan::Aggregate;
use crate::refusal::Refusal;
use crate::value::{KeyValue, Numeric, oid};

/// One combination for each column, fed row by row.
#[derive(Debug)]
pub struct Aggregator {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    type_oid: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Count(i128),
    SumInteger(Option<i128>),
    SumNumeric(Option<Decimal>),
    SumFloat4(Option<f32>),
    SumFloat8(Option<f64>),
    /// `keep`: how a new value compares with the best one to take its place.
    Extreme {
        keep: Ordering,
        best: Option<Best>,
    },
}

#[derive(Debug)]
struct Best {
    value: Value,
    /// As the shard printed it: 1.0 and 1.00 are equal, not the same.
    text: Vec<u8>,
}

/// A value that can be compared as PostgreSQL compares it.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Integer(i64),
    Float4(f32),
    Float8(f64),
    Numeric(Decimal),
    Date(i32),
    Timestamp(i64),
}

/// A numeric with its display scale. The order of the variants is the order of their values.
#[derive(Debug, Clone, PartialEq)]
enum Decimal {
    NegativeInfinity,
    /// `digits / 10^scale`
    Finite {
        digits: BigInt,
        scale: u32,
    },
    Infinity,
    NaN,
}

/// Digits before the decimal point (numeric.c: the weight has 16 bits, a digit is 10000).
const NUMERIC_WHOLE_DIGITS_MAX: usize = 131_072;

impl Aggregator {
    /// `type_oids`: of the result columns as the shards describe them.
    ///
    /// # Errors
    /// 0A000 for what cannot be merged exactly here: the extreme of a text (its collation), sums of money or intervals.
    pub fn new(aggregates: &[Aggregate], type_oids: &[u32]) -> Result<Self, Refusal> {
        if aggregates.len() != type_oids.len() {
            return Err(internal(format!(
                "shards answer {} columns where {} aggregates were planned",
                type_oids.len(),
                aggregates.len()
            )));
        }
        let column = |(aggregate, type_oid): (&Aggregate, &u32)| {
            Ok(Column { type_oid: *type_oid, state: State::new(*aggregate, *type_oid)? })
        };
        let columns = aggregates.iter().zip(type_oids).map(column).collect::<Result<_, Refusal>>()?;
        Ok(Self { columns })
    }

    /// Adds the row of one shard: values in text format, `None` for NULL.
    ///
    /// # Errors
    /// 0A000 for a date or timestamp that is not in ISO form; XX000 for what a shard should not have sent.
    pub fn add(&mut self, row: &[Option<&[u8]>]) -> Result<(), Refusal> {
        if row.len() != self.columns.len() {
            return Err(internal(format!(
                "a shard answered {} of {} columns",
                row.len(),
                self.columns.len()
            )));
        }
        for (column, text) in self.columns.iter_mut().zip(row) {
            // As in PostgreSQL, a NULL (of a shard without rows) changes nothing.
            if let Some(text) = text {
                column.add(text)?;
            }
        }
        Ok(())
    }

    /// The one row of the result. `formats` as in Bind: none (all text), one for all, or one each.
    ///
    /// # Errors
    /// 22003 when a sum leaves the range of its type.
    pub fn finish(self, formats: &[u16]) -> Result<Vec<Option<Vec<u8>>>, Refusal> {
        let count = self.columns.len();
        if formats.len() > 1 && formats.len() != count {
            return Err(refuse(
                "08P01",
                format!("bind message has {} result formats but query has {count} columns", formats.len()),
            ));
        }
        let format = |at: usize| match formats {
            [] => 0,
            [one] => *one,
            each => each[at],
        };
        self.columns.into_iter().enumerate().map(|(at, column)| column.finish(format(at))).collect()
    }
}

impl State {
    fn new(aggregate: Aggregate, type_oid: u32) -> Result<Self, Refusal> {
        let extreme = |keep| match type_oid {
            oid::INT2
            | oid::INT4
            | oid::INT8
            | oid::OID
            | oid::NUMERIC
            | oid::FLOAT4
            | oid::FLOAT8
            | oid::DATE
            | oid::TIMESTAMP
            | oid::TIMESTAMPTZ => Ok(Self::Extreme { keep, best: None }),
            _ => Err(not_merged(match keep {
                Ordering::Less => "min",
                _ => "max",
            })),
        };
        match aggregate {
            Aggregate::Count if type_oid == oid::INT8 => Ok(Self::Count(0)),
            Aggregate::Count => Err(not_merged("count")),
            Aggregate::Sum => match type_oid {
                // Of smallint and integer; that of bigint is numeric.
                oid::INT8 => Ok(Self::SumInteger(None)),
                oid::NUMERIC => Ok(Self::SumNumeric(None)),
                oid::FLOAT4 => Ok(Self::SumFloat4(None)),
                oid::FLOAT8 => Ok(Self::SumFloat8(None)),
                _ => Err(not_merged("sum")),
            },
            Aggregate::Min => extreme(Ordering::Less),
            Aggregate::Max => extreme(Ordering::Greater),
        }
    }
}

impl Column {
    fn add(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let value = Value::parse(self.type_oid, text)?;
        match (&mut self.state, value) {
            // 2^63 rows of 2^63 each do not fill 128 bits.
            (State::Count(sum), Value::Integer(value)) => *sum += i128::from(value),
            (State::SumInteger(sum), Value::Integer(value)) => {
                *sum = Some(sum.unwrap_or(0) + i128::from(value));
            }
            (State::SumNumeric(sum), Value::Numeric(value)) => {
                *sum = Some(match sum.take() {
                    None => value,
                    Some(sum) => sum.plus(value),
                });
            }
            (State::SumFloat4(sum), Value::Float4(value)) => {
                let before = sum.unwrap_or(0.0);
                let after = before + value;
                refuse_overflow(after.is_infinite(), before.is_infinite() || value.is_infinite())?;
                // -0 stays -0.
                *sum = Some(if sum.is_none() { value } else { after });
            }
            (State::SumFloat8(sum), Value::Float8(value)) => {
                let before = sum.unwrap_or(0.0);
                let after = before + value;
                refuse_overflow(after.is_infinite(), before.is_infinite() || value.is_infinite())?;
                *sum = Some(if sum.is_none() { value } else { after });
            }
            (State::Extreme { keep, best }, value) => {
                if best.as_ref().is_none_or(|best| value.compare(&best.value) == *keep) {
                    *best = Some(Best { value, text: text.into() });
                }
            }
            (state, value) => return Err(internal(format!("{state:?} was fed {value:?}"))),
        }
        Ok(())
    }

    fn finish(self, format: u16) -> Result<Option<Vec<u8>>, Refusal> {
        let integer = |sum: i128| {
            i64::try_from(sum).map(Value::Integer).map_err(|_| refuse("22003", "bigint out of range"))
        };
        let (value, text) = match self.state {
            State::Count(sum) => (Some(integer(sum)?), None),
            State::SumInteger(sum) => (sum.map(integer).transpose()?, None),
            State::SumNumeric(sum) => (sum.map(Value::Numeric), None),
            State::SumFloat4(sum) => (sum.map(Value::Float4), None),
            State::SumFloat8(sum) => (sum.map(Value::Float8), None),
            State::Extreme { best: None, .. } => (None, None),
            State::Extreme { best: Some(best), .. } => (Some(best.value), Some(best.text)),
        };
        let Some(value) = value else { return Ok(None) };
        match (format, text) {
            (0, Some(text)) => Ok(Some(text)),
            (0, None) => value.text().map(|text| Some(text.into_bytes())),
            (1, _) => value.binary(self.type_oid).map(Some),
            _ => Err(refuse("22023", format!("unsupported format code: {format}"))),
        }
    }
}

impl Value {
    fn parse(type_oid: u32, text: &[u8]) -> Result<Self, Refusal> {
        let parsed = match type_oid {
            oid::NUMERIC => Decimal::parse(text).map(Self::Numeric),
            oid::FLOAT4 => utf8(text).and_then(|text| text.parse().ok()).map(Self::Float4),
            oid::FLOAT8 => utf8(text).and_then(|text| text.parse().ok()).map(Self::Float8),
            oid::DATE => return moment(KeyType::Date, text),
            oid::TIMESTAMP => return moment(KeyType::Timestamp, text),
            oid::TIMESTAMPTZ => return moment(KeyType::TimestampTz, text),
            _ => utf8(text).and_then(|text| text.parse().ok()).map(Self::Integer),
        };
        parsed.ok_or_else(|| internal("a shard answered an aggregate that cannot be read"))
    }

    /// NaN is above all others and equal to itself, as in PostgreSQL.
    fn compare(&self, other: &Self) -> Ordering {
        let float = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
            (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (a, b) => a.cmp(&b),
        };
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Float4(a), Self::Float4(b)) => float((*a).into(), (*b).into()),
            (Self::Float8(a), Self::Float8(b)) => float(*a, *b),
            (Self::Numeric(a), Self::Numeric(b)) => a.compare(b),
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            // One column has one type.
            _ => Ordering::Equal,
        }
    }

    /// Of a sum or a count: an extreme keeps the text it came with.
    fn text(&self) -> Result<String, Refusal> {
        match self {
            Self::Integer(value) => Ok(value.to_string()),
            Self::Float4(value) => Ok(float4_text(*value)),
            Self::Float8(value) => Ok(float8_text(*value)),
            Self::Numeric(value) => value.text(),
            Self::Date(_) | Self::Timestamp(_) => Err(internal("a time is not summed")),
        }
    }

    fn binary(&self, type_oid: u32) -> Result<Vec<u8>, Refusal> {
        Ok(match (self, type_oid) {
            (Self::Integer(value), oid::INT2) => (*value as i16).to_be_bytes().into(),
            (Self::Integer(value), oid::INT4) => (*value as i32).to_be_bytes().into(),
            (Self::Integer(value), oid::OID) => (*value as u32).to_be_bytes().into(),
            (Self::Integer(value), _) => value.to_be_bytes().into(),
            (Self::Float4(value), _) => value.to_be_bytes().into(),
            (Self::Float8(value), _) => value.to_be_bytes().into(),
            (Self::Numeric(value), _) => value.binary()?,
            (Self::Date(days), _) => days.to_be_bytes().into(),
            (Self::Timestamp(micros), _) => micros.to_be_bytes().into(),
        })
    }
}

fn utf8(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok()
}

fn moment(ty: KeyType, text: &[u8]) -> Result<Value, Refusal> {
    match KeyValue::from_text(ty, text) {
        Ok(KeyValue::Date(days)) => Ok(Value::Date(days)),
        Ok(KeyValue::Timestamp(micros)) => Ok(Value::Timestamp(micros)),
        _ => Err(Refusal::unsupported(
            "cannot compare dates of several shards in this DateStyle",
            "",
            "SET datestyle = 'ISO'.",
        )),
    }
}

impl Decimal {
    /// As numeric_out prints it: no blanks, no exponent.
    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"NaN" => return Some(Self::NaN),
            b"Infinity" => return Some(Self::Infinity),
            b"-Infinity" => return Some(Self::NegativeInfinity),
            _ => {}
        }
        let unsigned = text.strip_prefix(b"-").unwrap_or(text);
        let mut parts = unsigned.splitn(2, |byte| *byte == b'.');
        let (whole, fraction) = (parts.next()?, parts.next());
        let digits = [whole, fraction.unwrap_or(b"")].concat();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let digits = BigInt::parse_bytes(&digits, 10)?;
        let digits = if unsigned.len() < text.len() { -digits } else { digits };
        Some(Self::Finite { digits, scale: fraction.map_or(0, <[u8]>::len) as u32 })
    }

    /// numeric.c, `do_numeric_accum` and `numeric_sum`: the largest scale of all; NaN wins; opposite infinities are NaN.
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Self::NaN,
            (Self::Infinity, Self::NegativeInfinity) | (Self::NegativeInfinity, Self::Infinity) => Self::NaN,
            (Self::Finite { digits: a, scale: a_scale }, Self::Finite { digits: b, scale: b_scale }) => {
                let scale = a_scale.max(b_scale);
                let digits = a * power_of_ten(scale - a_scale) + b * power_of_ten(scale - b_scale);
                Self::Finite { digits, scale }
            }
            (infinite, Self::Finite { .. }) | (Self::Finite { .. }, infinite) => infinite,
            (infinite, _) => infinite,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let rank = |value: &Self| match value {
            Self::NegativeInfinity => 0,
            Self::Finite { .. } => 1,
            Self::Infinity => 2,
            Self::NaN => 3,
        };
        match (self, other) {
            (Self::Finite { digits: a, scale: a_scale }, Self::Finite { digits: b, scale: b_scale }) => {
                let scale = *a_scale.max(b_scale);
                (a * power_of_ten(scale - a_scale)).cmp(&(b * power_of_ten(scale - b_scale)))
            }
            _ => rank(self).cmp(&rank(other)),
        }
    }

    fn text(&self) -> Result<String, Refusal> {
        let (digits, scale) = match self {
            Self::NaN => return Ok("NaN".into()),
            Self::Infinity => return Ok("Infinity".into()),
            Self::NegativeInfinity => return Ok("-Infinity".into()),
            Self::Finite { digits, scale } => (digits, *scale as usize),
        };
        let mut text = digits.magnitude().to_str_radix(10);
        if text.len() <= scale {
            text.insert_str(0, &"0".repeat(scale + 1 - text.len()));
        }
        let point = text.len() - scale;
        if point > NUMERIC_WHOLE_DIGITS_MAX {
            return Err(refuse("22003", "value overflows numeric format"));
        }
        if scale > 0 {
            text.insert(point, '.');
        }
        if digits.sign() == Sign::Minus {
            text.insert(0, '-');
        }
        Ok(text)
    }

    /// numeric.c, `numeric_send`.
    fn binary(&self) -> Result<Vec<u8>, Refusal> {
        let header = |count: u16, weight: i16, sign: u16, scale: u16| {
            [count.to_be_bytes(), weight.to_be_bytes(), sign.to_be_bytes(), scale.to_be_bytes()].concat()
        };
        let scale = match self {
            Self::NaN => return Ok(header(0, 0, 0xC000, 0)),
            // The scale of an infinity has no meaning; this is what the server sends.
            Self::Infinity => return Ok(header(0, 0, 0xD000, 0x20)),
            Self::NegativeInfinity => return Ok(header(0, 0, 0xF000, 0x20)),
            Self::Finite { scale, .. } => *scale as u16,
        };
        let text = self.text()?;
        let Ok(KeyValue::Numeric(Numeric::Finite(value))) =
            KeyValue::from_text(KeyType::Numeric, text.as_bytes())
        else {
            return Err(refuse("22003", "value overflows numeric format"));
        };
        let sign = if value.negative { 0x4000 } else { 0x0000 };
        let mut binary = header(value.digits.len() as u16, value.weight, sign, scale);
        binary.extend(value.digits.iter().flat_map(|digit| digit.to_be_bytes()));
        Ok(binary)
    }
}

fn power_of_ten(power: u32) -> BigInt {
    BigInt::from(10).pow(power)
}

fn float8_text(value: f64) -> String {
    let bits = value.to_bits();
    let parts = Float {
        fraction: bits & ((1 << 52) - 1),
        fraction_bits: 52,
        exponent: (bits >> 52 & 0x7FF) as i32,
        bias: 1023,
    };
    float_text(value, parts, 15)
}

fn float4_text(value: f32) -> String {
    let bits = value.to_bits();
    let parts = Float {
        fraction: (bits & ((1 << 23) - 1)).into(),
        fraction_bits: 23,
        exponent: (bits >> 23 & 0xFF) as i32,
        bias: 127,
    };
    float_text(value.into(), parts, 6)
}

/// The fields of an IEEE 754 number.
struct Float {
    fraction: u64,
    fraction_bits: u32,
    exponent: i32,
    bias: i32,
}

/// d2s.c and f2s.c, `to_chars`: the shortest digits; with an exponent below 10^-4 and from 10^`fixed_below` on.
fn float_text(value: f64, parts: Float, fixed_below: i32) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return format!("{sign}Infinity");
    }
    if value == 0.0 {
        return format!("{sign}0");
    }
    let (digits, exponent) = shortest(&parts, value.abs().log10().floor() as i32 + 1);
    let unsigned = if exponent < -4 || exponent >= fixed_below {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        format!("{first}{point}{rest}e{exponent_sign}{:02}", exponent.abs())
    } else if exponent < 0 {
        format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize))
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            format!("{digits}{}", "0".repeat(whole - digits.len()))
        } else {
            format!("{}.{}", &digits[..whole], &digits[whole..])
        }
    };
    format!("{sign}{unsigned}")
}

/// The shortest decimal that is read back as this number, the nearest of those, and the exponent of its first digit.
///
/// Not Rust's own: PostgreSQL does not take a decimal that lies exactly between two floats (it prints 1e23 as
/// 9.999999999999999e+22), and between two equally near it takes the even one.
///
/// `power`: at least that of the first digit.
fn shortest(parts: &Float, power: i32) -> (String, i32) {
    let (mantissa, exponent) = match parts.exponent {
        0 => (parts.fraction, 1),
        exponent => (parts.fraction | 1 << parts.fraction_bits, exponent),
    };
    // In units of a quarter of the last place; the neighbour below a power of two is twice as near.
    let binary_power = exponent - parts.bias - parts.fraction_bits as i32 - 2;
    let below = if parts.fraction == 0 && parts.exponent > 1 { 1 } else { 2 };
    let (mut low, mut exact, mut high) =
        (BigInt::from(4 * mantissa - below), BigInt::from(4 * mantissa), BigInt::from(4 * mantissa + 2));
    let mut unit = BigInt::from(1);
    let scaled = |value: &BigInt| value << binary_power.max(0);
    (low, exact, high) = (scaled(&low), scaled(&exact), scaled(&high));
    unit <<= (-binary_power).max(0);

    // From coarse to fine. The last place of any float is above 10^-800.
    let mut power = power;
    if power > 0 {
        unit *= power_of_ten(power as u32);
    } else {
        let factor = power_of_ten(power.unsigned_abs());
        (low, exact, high) = (low * &factor, exact * &factor, high * &factor);
    }
    loop {
        let floor: BigInt = &exact / &unit;
        let candidates = [floor.clone(), floor + 1];
        let inside = candidates.iter().filter(|digits| {
            let value = *digits * &unit;
            low < value && value < high
        });
        let nearest = inside.min_by(|a, b| {
            let distance = |digits: &BigInt| {
                let difference = digits * &unit - &exact;
                BigInt::from(difference.magnitude().clone())
            };
            let odd = |digits: &BigInt| digits.bit(0);
            distance(a).cmp(&distance(b)).then_with(|| odd(a).cmp(&odd(b)))
        });
        if let Some(digits) = nearest {
            let text = digits.to_str_radix(10);
            let exponent = power + text.len() as i32 - 1;
            return (text.trim_end_matches('0').to_string(), exponent);
        }
        // One decimal place finer.
        if power > 0 {
            unit /= 10;
        } else {
            (low, exact, high) = (low * 10, exact * 10, high * 10);
        }
        power -= 1;
    }
}

fn refuse(sqlstate: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { sqlstate, message: message.into(), detail: None, hint: None }
}

fn refuse_overflow(infinite: bool, was_infinite: bool) -> Result<(), Refusal> {
    match infinite && !was_infinite {
        true => Err(refuse("22003", "value out of range: overflow")),
        false => Ok(()),
    }
}

/// A broken promise of a shard or of ours, not the client's doing.
fn internal(message: impl Into<String>) -> Refusal {
    refuse("XX000", message)
}

fn not_merged(function: &str) -> Refusal {
    Refusal::unsupported(
        format!("cannot combine {function}() of this type over several shards"),
        "Values of this type are not compared or added outside a server.",
        "Restrict the query to one shard by its sharding key.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use Aggregate::{Count, Max, Min, Sum};

    /// The result of one column in text; `!` and the SQLSTATE where it is refused.
    fn combined(aggregate: Aggregate, type_oid: u32, parts: &[Option<&str>]) -> String {
        let run = |format| {
            let mut aggregator = Aggregator::new(&[aggregate], &[type_oid])?;
            for part in parts {
                aggregator.add(&[part.map(str::as_bytes)])?;
            }
            aggregator.finish(&[format])
        };
        match (run(0), run(1)) {
            (Ok(text), Ok(_)) => {
                text[0].as_ref().map_or("NULL".into(), |text| String::from_utf8(text.clone()).unwrap())
            }
            (Err(refusal), Err(_)) => format!("! {}", refusal.sqlstate),
            (text, binary) => panic!("{text:?} in text, {binary:?} in binary"),
        }
    }

    #[test]
    fn partial_aggregates_merge_to_what_one_server_would_say() {
        const MAX: &str = "9223372036854775807";
        let cases: &[(Aggregate, u32, &[&str], &str)] = &[
            (Count, oid::INT8, &[], "0"),
            (Count, oid::INT8, &["1", "0", "41"], "42"),
            (Count, oid::INT8, &[MAX, "1"], "! 22003"),
            (Sum, oid::INT8, &[], "NULL"),
            (Sum, oid::INT8, &["NULL", "NULL"], "NULL"),
            (Sum, oid::INT8, &["NULL", "-7", "2"], "-5"),
            (Sum, oid::INT8, &[MAX, "1"], "! 22003"),
            (Sum, oid::INT8, &[MAX, "1", "-1"], MAX),
            (Sum, oid::NUMERIC, &["1.5", "2.50"], "4.00"),
            (Sum, oid::NUMERIC, &["0.1", "-0.100"], "0.000"),
            (Sum, oid::NUMERIC, &["0.001", "-0.002"], "-0.001"),
            (
                Sum,
                oid::NUMERIC,
                &["99999999999999999999999999999999", "1"],
                "100000000000000000000000000000000",
            ),
            (Sum, oid::NUMERIC, &["1", "NaN", "Infinity"], "NaN"),
            (Sum, oid::NUMERIC, &["1", "Infinity", "2"], "Infinity"),
            (Sum, oid::NUMERIC, &["-Infinity", "-Infinity"], "-Infinity"),
            (Sum, oid::NUMERIC, &["-Infinity", "Infinity"], "NaN"),
            (Sum, oid::FLOAT8, &["0.1", "0.2"], "0.30000000000000004"),
            (Sum, oid::FLOAT8, &["-0"], "-0"),
            (Sum, oid::FLOAT8, &["Infinity", "-Infinity"], "NaN"),
            (Sum, oid::FLOAT8, &["1e308", "1e+308"], "! 22003"),
            (Sum, oid::FLOAT4, &["0.1", "0.2"], "0.3"),
            (Sum, oid::FLOAT4, &["16777216", "1"], "1.6777216e+07"),
            (Sum, oid::FLOAT4, &["3e38", "3e+38"], "! 22003"),
            // money, interval
            (Sum, 790, &["$1.00"], "! 0A000"),
            (Sum, 1186, &["1 day"], "! 0A000"),
            (Min, oid::INT4, &["7", "NULL", "-3"], "-3"),
            (Max, oid::INT2, &["7", "-3"], "7"),
            (Max, oid::OID, &["4294967295", "1"], "4294967295"),
            (Max, oid::NUMERIC, &["9", "10.0", "10"], "10.0"),
            (Max, oid::NUMERIC, &["Infinity", "NaN", "1"], "NaN"),
            (Min, oid::NUMERIC, &["1", "-Infinity", "NaN"], "-Infinity"),
            (Max, oid::FLOAT8, &["1", "NaN", "Infinity"], "NaN"),
            (Min, oid::FLOAT8, &["NaN", "1e-07", "2"], "1e-07"),
            (Min, oid::DATE, &["0100-01-01", "0100-01-01 BC", "infinity"], "0100-01-01 BC"),
            (Max, oid::DATE, &["9999-01-01", "10000-01-01"], "10000-01-01"),
            (Max, oid::TIMESTAMP, &["2024-01-01 10:00:00", "2024-01-01 10:00:00.5"], "2024-01-01 10:00:00.5"),
            (
                Min,
                oid::TIMESTAMPTZ,
                &["2024-01-01 10:00:00+02", "2024-01-01 09:00:00+00"],
                "2024-01-01 10:00:00+02",
            ),
            (Max, oid::DATE, &["29.02.2024"], "! 0A000"),
            (Max, oid::TIMESTAMPTZ, &["Thu Feb 29 10:00:00 2024 UTC"], "! 0A000"),
            (Min, oid::TEXT, &["a"], "! 0A000"),
            (Max, oid::BOOL, &["t"], "! 0A000"),
            (Sum, oid::INT8, &["x"], "! XX000"),
        ];
        for (aggregate, type_oid, parts, expected) in cases {
            let parts: Vec<Option<&str>> =
                parts.iter().map(|part| (*part != "NULL").then_some(*part)).collect();
            assert_eq!(
                combined(*aggregate, *type_oid, &parts),
                *expected,
                "{aggregate:?} {type_oid} {parts:?}"
            );
        }
    }

    #[test]
    fn a_float_is_printed_as_postgresql_prints_it() {
        for text in [
            "0.1",
            "100000000000000",
            "1e+15",
            "123456789012345",
            "1.234567890123456e+15",
            "0.0001",
            "1e-05",
            "1.5e-07",
            "9.999999999999999e+22",
            "9.007199254740992e+15",
            "1.152921504606847e+18",
            "1.8014398509481988e+16",
            "5e-324",
            "1.7976931348623157e+308",
            "2.2250738585072014e-308",
            "-1.5",
            // Two decimals of this length are equally near: the even one.
            "1.1258999068426242e+15",
        ] {
            assert_eq!(float8_text(text.parse().unwrap()), text);
        }
        for text in [
            "0.1",
            "100000",
            "1e+06",
            "123456.7",
            "1.234567e+06",
            "8.4999997e+09",
            "3.3554436e+07",
            "1e-45",
            "3.4028235e+38",
        ] {
            assert_eq!(float4_text(text.parse().unwrap()), text);
        }
    }

    #[test]
    fn each_column_comes_in_the_format_asked_for() {
        let run = |formats: &[u16]| {
            let types = [oid::INT8, oid::NUMERIC, oid::INT2, oid::FLOAT4, oid::DATE];
            let mut aggregator = Aggregator::new(&[Count, Sum, Min, Max, Max], &types).unwrap();
            aggregator.add(&[Some(b"3"), Some(b"-12345.6700"), Some(b"-2"), Some(b"1.5"), None]).unwrap();
            aggregator.finish(formats)
        };
        let numeric = [0, 3, 0, 1, 0x40, 0, 0, 4, 0, 1, 0x09, 0x29, 0x1a, 0x2c];
        let text = [
            Some(b"3".to_vec()),
            Some(b"-12345.6700".to_vec()),
            Some(b"-2".to_vec()),
            Some(b"1.5".to_vec()),
            None,
        ];
        let binary = [
            Some(vec![0, 0, 0, 0, 0, 0, 0, 3]),
            Some(numeric.to_vec()),
            Some(vec![0xff, 0xfe]),
            Some(vec![0x3f, 0xc0, 0, 0]),
            None,
        ];
        assert_eq!(run(&[]).unwrap(), text);
        assert_eq!(run(&[0]).unwrap(), text);
        assert_eq!(run(&[1]).unwrap(), binary);
        assert_eq!(run(&[0, 1, 0, 0, 1]).unwrap()[..2], [text[0].clone(), binary[1].clone()]);
        assert_eq!(run(&[0, 1]).unwrap_err().sqlstate, "08P01");
        assert_eq!(run(&[2]).unwrap_err().sqlstate, "22023");
    }
}
