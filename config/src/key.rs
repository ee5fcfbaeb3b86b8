//! Key values: from PostgreSQL's text and binary forms to what is hashed and compared.
//!
//! Invariant: a value returned from here is the value PostgreSQL would read from the same bytes, whatever the
//! server's settings (DateStyle, TimeZone, version 13 to 18). What depends on them, or is not modelled, is
//! [`ValueError::NotUnderstood`]: the caller scatters a read or refuses a write. A wrong value would be a wrong shard.
//!
//! Left to the caller: type modifiers (`numeric(10,2)` rounds, `varchar(3)` drops blanks, `timestamp(0)` rounds:
//! a key column should have none but `char(n)`), and a client encoding that differs from the server's.
//!
//! They are here, and not in `router`, because the bounds of ranges and the values of lists are of the configuration.
//!
//! Start reading at [`KeyValue::from_text`].

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::model::KeyType;

/// Type OIDs as in PostgreSQL's `pg_type.dat`.
pub mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
}

/// One part of a key. Integers, UUIDs, times and borrowed text allocate nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyValue<'a> {
    /// smallint, integer, bigint: one number is one key, whatever its width.
    Integer(i64),
    Boolean(bool),
    /// text, varchar; char(n) without its trailing blanks.
    Text(Cow<'a, [u8]>),
    Bytea(Cow<'a, [u8]>),
    Uuid([u8; 16]),
    /// Days since 2000-01-01; `i32::MIN` and `i32::MAX` are the infinities.
    Date(i32),
    /// timestamp and timestamptz: microseconds since 2000-01-01 (UTC); `i64::MIN` and `i64::MAX` are the infinities.
    Timestamp(i64),
    Numeric(Numeric),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Numeric {
    NaN,
    Infinity,
    NegativeInfinity,
    /// 1.5 and 1.50 are one key: the display scale is not kept.
    Finite(NumericDigits),
}

/// `digits[0] * 10000^weight + digits[1] * 10000^(weight - 1) + ...`, as numeric.c has it. Neither the first nor the
/// last digit is zero; zero has no digits, weight 0, and no sign.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NumericDigits {
    pub negative: bool,
    pub weight: i16,
    pub digits: Box<[i16]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueError {
    /// PostgreSQL refuses it too: 22P02 (22P03 in binary).
    Invalid,
    /// PostgreSQL refuses it too: 22003, 22008.
    OutOfRange,
    /// PostgreSQL may well read it; we do not, or not without its settings.
    NotUnderstood,
}

/// Whether a parameter of type `oid` means the same value as a key of type `ty`, in text and in binary.
///
/// A bpchar does not fit text: its trailing blanks vanish in the comparison. `unknown` is text where nothing else is said.
pub fn oid_fits(ty: KeyType, oid: u32) -> bool {
    match ty {
        KeyType::SmallInt | KeyType::Integer | KeyType::BigInt => {
            matches!(oid, oid::INT2 | oid::INT4 | oid::INT8)
        }
        KeyType::Numeric => matches!(oid, oid::NUMERIC | oid::INT2 | oid::INT4 | oid::INT8),
        KeyType::Text | KeyType::Varchar => {
            matches!(oid, oid::TEXT | oid::VARCHAR | oid::NAME | oid::UNKNOWN)
        }
        KeyType::Char => matches!(oid, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::UNKNOWN),
        KeyType::Uuid => oid == oid::UUID,
        KeyType::Bytea => oid == oid::BYTEA,
        KeyType::Boolean => oid == oid::BOOL,
        KeyType::Date => oid == oid::DATE,
        KeyType::Timestamp => oid == oid::TIMESTAMP,
        KeyType::TimestampTz => oid == oid::TIMESTAMPTZ,
    }
}

/// As PostgreSQL's messages name the type, and as SQL may write it (without a modifier).
pub fn type_name(ty: KeyType) -> &'static str {
    match ty {
        KeyType::SmallInt => "smallint",
        KeyType::Integer => "integer",
        KeyType::BigInt => "bigint",
        KeyType::Text => "text",
        KeyType::Varchar => "character varying",
        // Not "character", which is char(1).
        KeyType::Char => "bpchar",
        KeyType::Uuid => "uuid",
        KeyType::Bytea => "bytea",
        KeyType::Boolean => "boolean",
        KeyType::Date => "date",
        KeyType::Timestamp => "timestamp without time zone",
        KeyType::TimestampTz => "timestamp with time zone",
        KeyType::Numeric => "numeric",
    }
}

impl<'a> KeyValue<'a> {
    /// Reads the text form of a value whose type is `ty` (or fits it: [`oid_fits`]).
    ///
    /// # Errors
    /// [`ValueError`]; see there which of them PostgreSQL shares.
    pub fn from_text(ty: KeyType, text: &'a [u8]) -> Result<Self, ValueError> {
        match ty {
            KeyType::SmallInt | KeyType::Integer | KeyType::BigInt => in_range(ty, integer(text)?),
            KeyType::Text | KeyType::Varchar => Ok(Self::Text(Cow::Borrowed(text))),
            KeyType::Char => Ok(Self::Text(Cow::Borrowed(without_trailing_blanks(text)))),
            KeyType::Uuid => uuid(text).map(Self::Uuid),
            KeyType::Bytea => bytea(text).map(Self::Bytea),
            KeyType::Boolean => boolean(text).map(Self::Boolean),
            KeyType::Numeric => numeric(text).map(Self::Numeric),
            KeyType::Date => date(text).map(Self::Date),
            KeyType::Timestamp => timestamp(text, Zone::Ignored).map(Self::Timestamp),
            KeyType::TimestampTz => timestamp(text, Zone::Required).map(Self::Timestamp),
        }
    }

    /// Reads the binary wire form of type `type_oid`.
    ///
    /// # Errors
    /// `NotUnderstood` when `type_oid` does not fit `ty`.
    pub fn from_binary(ty: KeyType, type_oid: u32, bytes: &'a [u8]) -> Result<Self, ValueError> {
        if !oid_fits(ty, type_oid) {
            return Err(ValueError::NotUnderstood);
        }
        match type_oid {
            oid::INT2 => integer_key(ty, i16::from_be_bytes(fixed(bytes)?).into()),
            oid::INT4 => integer_key(ty, i32::from_be_bytes(fixed(bytes)?).into()),
            oid::INT8 => integer_key(ty, i64::from_be_bytes(fixed(bytes)?)),
            oid::TEXT | oid::VARCHAR | oid::NAME | oid::UNKNOWN | oid::BPCHAR => match ty {
                KeyType::Char => Ok(Self::Text(Cow::Borrowed(without_trailing_blanks(bytes)))),
                _ => Ok(Self::Text(Cow::Borrowed(bytes))),
            },
            oid::UUID => Ok(Self::Uuid(fixed(bytes)?)),
            oid::BYTEA => Ok(Self::Bytea(Cow::Borrowed(bytes))),
            oid::BOOL => Ok(Self::Boolean(fixed::<1>(bytes)? != [0])),
            oid::DATE => {
                let days = i32::from_be_bytes(fixed(bytes)?);
                let valid = DATE_DAYS.contains(&days) || days == i32::MIN || days == i32::MAX;
                valid.then_some(Self::Date(days)).ok_or(ValueError::OutOfRange)
            }
            oid::TIMESTAMP | oid::TIMESTAMPTZ => {
                let micros = i64::from_be_bytes(fixed(bytes)?);
                let valid = TIMESTAMP_MICROS.contains(&micros) || micros == i64::MIN || micros == i64::MAX;
                valid.then_some(Self::Timestamp(micros)).ok_or(ValueError::OutOfRange)
            }
            oid::NUMERIC => numeric_from_binary(bytes).map(Self::Numeric),
            _ => Err(ValueError::NotUnderstood),
        }
    }

    /// The value, on its own.
    pub fn into_owned(self) -> KeyValue<'static> {
        match self {
            Self::Integer(value) => KeyValue::Integer(value),
            Self::Boolean(value) => KeyValue::Boolean(value),
            Self::Text(text) => KeyValue::Text(Cow::Owned(text.into_owned())),
            Self::Bytea(bytes) => KeyValue::Bytea(Cow::Owned(bytes.into_owned())),
            Self::Uuid(uuid) => KeyValue::Uuid(uuid),
            Self::Date(days) => KeyValue::Date(days),
            Self::Timestamp(micros) => KeyValue::Timestamp(micros),
            Self::Numeric(numeric) => KeyValue::Numeric(numeric),
        }
    }

    /// PostgreSQL's order of two values of one key's type; of text, its order under the collation "C".
    ///
    /// Values of different kinds (which no key has) are in the order of the kinds.
    pub fn order(&self, other: &KeyValue<'_>) -> Ordering {
        fn rank(value: &KeyValue<'_>) -> u8 {
            match value {
                KeyValue::Integer(_) => 0,
                KeyValue::Boolean(_) => 1,
                KeyValue::Text(_) => 2,
                KeyValue::Bytea(_) => 3,
                KeyValue::Uuid(_) => 4,
                KeyValue::Date(_) => 5,
                KeyValue::Timestamp(_) => 6,
                KeyValue::Numeric(_) => 7,
            }
        }
        match (self, other) {
            (Self::Integer(left), KeyValue::Integer(right)) => left.cmp(right),
            (Self::Boolean(left), KeyValue::Boolean(right)) => left.cmp(right),
            (Self::Text(left), KeyValue::Text(right)) => left.as_ref().cmp(right.as_ref()),
            // byteacmp: bytes, then the length; uuid_cmp: memcmp
            (Self::Bytea(left), KeyValue::Bytea(right)) => left.as_ref().cmp(right.as_ref()),
            (Self::Uuid(left), KeyValue::Uuid(right)) => left.cmp(right),
            (Self::Date(left), KeyValue::Date(right)) => left.cmp(right),
            (Self::Timestamp(left), KeyValue::Timestamp(right)) => left.cmp(right),
            (Self::Numeric(left), KeyValue::Numeric(right)) => left.order(right),
            (left, right) => rank(left).cmp(&rank(right)),
        }
    }
}

impl Numeric {
    /// numeric.c, `cmp_numerics`: -Infinity, numbers, Infinity, NaN.
    fn order(&self, other: &Self) -> Ordering {
        fn rank(numeric: &Numeric) -> u8 {
            match numeric {
                Numeric::NegativeInfinity => 0,
                Numeric::Finite(_) => 1,
                Numeric::Infinity => 2,
                Numeric::NaN => 3,
            }
        }
        let (Self::Finite(left), Self::Finite(right)) = (self, other) else {
            return rank(self).cmp(&rank(other));
        };
        let sign = |number: &NumericDigits| match (number.digits.is_empty(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let by_sign = sign(left).cmp(&sign(right));
        // Neither has a leading zero, so that the larger weight is the larger number; after that, digit by digit.
        let by_size = || left.weight.cmp(&right.weight).then_with(|| left.digits.cmp(&right.digits));
        by_sign.then_with(|| if left.negative { by_size().reverse() } else { by_size() })
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| ValueError::Invalid)
}

/// isspace() in the C locale.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

/// varchar.c, `bpchartruelen`: blanks only, no other white space.
fn without_trailing_blanks(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// How a number that PostgreSQL 15 refuses is reported: 0x1F, 0o17, 0b11 and 1_000 are numbers from version 16 on.
fn not_a_number(text: &[u8]) -> ValueError {
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let newer =
        matches!(unsigned, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]) || text.contains(&b'_');
    if newer { ValueError::NotUnderstood } else { ValueError::Invalid }
}

/// numutils.c, `pg_strtoint64`.
fn integer(text: &[u8]) -> Result<i64, ValueError> {
    let text = without_blanks(text);
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(not_a_number(text));
    }
    // Downwards, because -2^63 has no positive counterpart.
    let mut value: i64 = 0;
    for digit in digits {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_sub((digit - b'0').into()))
            .ok_or(ValueError::OutOfRange)?;
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or(ValueError::OutOfRange) }
}

fn in_range<'a>(ty: KeyType, value: i64) -> Result<KeyValue<'a>, ValueError> {
    let fits = match ty {
        KeyType::SmallInt => i16::try_from(value).is_ok(),
        KeyType::Integer => i32::try_from(value).is_ok(),
        _ => true,
    };
    fits.then_some(KeyValue::Integer(value)).ok_or(ValueError::OutOfRange)
}

/// An integer parameter for an integer or a numeric key.
fn integer_key<'a>(ty: KeyType, value: i64) -> Result<KeyValue<'a>, ValueError> {
    if ty != KeyType::Numeric {
        return in_range(ty, value);
    }
    let mut rest = value.unsigned_abs();
    let mut digits = Vec::with_capacity(5);
    while rest > 0 {
        digits.push((rest % 10000) as i16);
        rest /= 10000;
    }
    digits.reverse();
    let weight = digits.len() as i16 - 1;
    Ok(KeyValue::Numeric(finite(value < 0, weight.into(), &digits)?))
}

/// uuid.c, `string_to_uuid`: a hyphen may follow any group of four digits; braces around; no blanks.
fn uuid(text: &[u8]) -> Result<[u8; 16], ValueError> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        text => text,
    };
    let mut uuid = [0; 16];
    for (at, byte) in uuid.iter_mut().enumerate() {
        let [high, low, tail @ ..] = rest else { return Err(ValueError::Invalid) };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
        rest = match tail {
            [b'-', tail @ ..] if at % 2 == 1 && at < 15 => tail,
            tail => tail,
        };
    }
    if rest.is_empty() { Ok(uuid) } else { Err(ValueError::Invalid) }
}

fn hex_digit(digit: u8) -> Result<u8, ValueError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ValueError::Invalid),
    }
}

/// varlena.c, `byteain`; encode.c, `hex_decode`.
fn bytea(text: &[u8]) -> Result<Cow<'_, [u8]>, ValueError> {
    if let [b'\\', b'x', hex @ ..] = text {
        let mut bytes = Vec::with_capacity(hex.len() / 2);
        let mut rest = hex;
        while let [high, tail @ ..] = rest {
            if matches!(high, b' ' | b'\n' | b'\t' | b'\r') {
                rest = tail;
                continue;
            }
            let [low, tail @ ..] = tail else { return Err(ValueError::Invalid) };
            bytes.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
            rest = tail;
        }
        return Ok(Cow::Owned(bytes));
    }
    if !text.contains(&b'\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Ok(Cow::Owned(bytes)),
            [b'\\', b'\\', tail @ ..] => {
                bytes.push(b'\\');
                tail
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            [b'\\', ..] => return Err(ValueError::Invalid),
            [byte, tail @ ..] => {
                bytes.push(*byte);
                tail
            }
        };
    }
}

/// bool.c, `boolin` and `parse_bool_with_len`: any unambiguous prefix; "of" is off.
fn boolean(text: &[u8]) -> Result<bool, ValueError> {
    let text = without_blanks(text);
    let begins = |word: &str| {
        !text.is_empty()
            && word.as_bytes().get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
    };
    if begins("true") || begins("yes") || text == b"1" || (text.len() == 2 && begins("on")) {
        return Ok(true);
    }
    if begins("false") || begins("no") || text == b"0" || (text.len() >= 2 && begins("off")) {
        return Ok(false);
    }
    Err(ValueError::Invalid)
}

/// Decimal digits of one numeric digit (numeric.c, DEC_DIGITS).
const DEC_DIGITS: i64 = 4;
/// Largest display scale (numeric.c, NUMERIC_DSCALE_MASK).
const NUMERIC_SCALE_MAX: i64 = 0x3FFF;

/// numeric.c, `numeric_in` and `set_var_from_str`.
fn numeric(text: &[u8]) -> Result<Numeric, ValueError> {
    let text = without_blanks(text);
    for (names, value) in [
        (&["nan"][..], Numeric::NaN),
        (&["infinity", "+infinity", "inf", "+inf"], Numeric::Infinity),
        (&["-infinity", "-inf"], Numeric::NegativeInfinity),
    ] {
        if names.iter().any(|name| text.eq_ignore_ascii_case(name.as_bytes())) {
            return Ok(value);
        }
    }

    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mantissa_len = unsigned.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let (mantissa, tail) = unsigned.split_at(mantissa_len);
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let (whole, fraction) = (&mantissa[..point], mantissa.get(point + 1..).unwrap_or(&[]));
    if fraction.contains(&b'.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(not_a_number(text));
    }
    let exponent = match tail {
        [] => 0,
        // strtol() skips blanks here before version 16.
        [b'e' | b'E', blank, ..] if is_blank(*blank) => return Err(ValueError::NotUnderstood),
        [b'e' | b'E', digits @ ..] => match integer(digits) {
            Ok(exponent) if exponent.abs() < i64::from(i32::MAX / 2) => exponent,
            Ok(_) | Err(ValueError::OutOfRange) => return Err(ValueError::OutOfRange),
            Err(_) => return Err(not_a_number(text)),
        },
        _ => return Err(not_a_number(text)),
    };
    if fraction.len() as i64 - exponent > NUMERIC_SCALE_MAX {
        return Err(ValueError::OutOfRange);
    }

    // Of the first decimal digit; then of the first group of four, which begins `skipped` digits before it.
    let decimal_weight = whole.len() as i64 - 1 + exponent;
    let weight = decimal_weight.div_euclid(DEC_DIGITS);
    let skipped = (DEC_DIGITS - 1 - decimal_weight.rem_euclid(DEC_DIGITS)) as usize;
    let mut digits = vec![0i16; (skipped + whole.len() + fraction.len()).div_ceil(DEC_DIGITS as usize)];
    for (at, digit) in whole.iter().chain(fraction).enumerate() {
        let at = at + skipped;
        let place = [1000, 100, 10, 1][at % DEC_DIGITS as usize];
        digits[at / DEC_DIGITS as usize] += i16::from(digit - b'0') * place;
    }
    finite(negative, weight, &digits)
}

/// numeric.c, `make_result`: no zeros at either end, the weight within 16 bits.
fn finite(negative: bool, mut weight: i64, mut digits: &[i16]) -> Result<Numeric, ValueError> {
    while let [0, rest @ ..] = digits {
        digits = rest;
        weight -= 1;
    }
    while let [rest @ .., 0] = digits {
        digits = rest;
    }
    if digits.is_empty() {
        return Ok(Numeric::Finite(NumericDigits { negative: false, weight: 0, digits: Box::default() }));
    }
    let weight = i16::try_from(weight).map_err(|_| ValueError::OutOfRange)?;
    Ok(Numeric::Finite(NumericDigits { negative, weight, digits: digits.into() }))
}

/// numeric.c, `numeric_recv`.
fn numeric_from_binary(bytes: &[u8]) -> Result<Numeric, ValueError> {
    let word = |at: usize| {
        let bytes = bytes.get(2 * at..2 * at + 2).ok_or(ValueError::Invalid)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (count, weight, sign, scale) = (word(0)?, word(1)? as i16, word(2)?, word(3)?);
    if bytes.len() != 8 + 2 * usize::from(count) || i64::from(scale) > NUMERIC_SCALE_MAX {
        return Err(ValueError::Invalid);
    }
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xC000 => return Ok(Numeric::NaN),
        0xD000 => return Ok(Numeric::Infinity),
        0xF000 => return Ok(Numeric::NegativeInfinity),
        _ => return Err(ValueError::Invalid),
    };
    let mut digits = Vec::with_capacity(count.into());
    for at in 0..usize::from(count) {
        let digit = word(4 + at)?;
        if digit >= 10000 {
            return Err(ValueError::Invalid);
        }
        digits.push(digit as i16);
    }
    let value = finite(negative, weight.into(), &digits)?;
    if let Numeric::Finite(NumericDigits { weight, digits, .. }) = &value
        && let Some(last) = digits.last()
    {
        // The server cuts off what the display scale hides. No driver sends that.
        let last_group_ends = (digits.len() as i64 - 1 - i64::from(*weight)) * DEC_DIGITS;
        let zeros = if last % 1000 == 0 {
            3
        } else if last % 100 == 0 {
            2
        } else {
            i64::from(last % 10 == 0)
        };
        if last_group_ends - zeros > i64::from(scale) {
            return Err(ValueError::NotUnderstood);
        }
    }
    Ok(value)
}

/// Julian day of 2000-01-01 (timestamp.h, POSTGRES_EPOCH_JDATE).
const EPOCH_JULIAN: i64 = 2_451_545;
/// timestamp.h, IS_VALID_DATE: from Julian day 0 to 5874898-05-31.
const DATE_DAYS: std::ops::Range<i32> = -(EPOCH_JULIAN as i32)..(2_147_483_494 - EPOCH_JULIAN) as i32;
/// timestamp.h, MIN_TIMESTAMP and END_TIMESTAMP.
const TIMESTAMP_MICROS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;
/// timestamp.h, MAX_TZDISP_HOUR.
const OFFSET_HOURS_MAX: i64 = 15;

/// What a timestamp's text says about its zone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zone {
    /// timestamp: PostgreSQL reads an offset and forgets it.
    Ignored,
    /// timestamptz: without one it would depend on TimeZone.
    Required,
}

enum Moment {
    Infinity,
    NegativeInfinity,
    At {
        /// Days since 2000-01-01; not checked against a type's range.
        days: i64,
        time_micros: Option<i64>,
        /// Seconds east of UTC.
        offset: Option<i64>,
    },
}

fn date(text: &[u8]) -> Result<i32, ValueError> {
    match moment(text)? {
        Moment::Infinity => Ok(i32::MAX),
        Moment::NegativeInfinity => Ok(i32::MIN),
        Moment::At { days, time_micros: None, .. } => {
            i32::try_from(days).ok().filter(|days| DATE_DAYS.contains(days)).ok_or(ValueError::OutOfRange)
        }
        Moment::At { time_micros: Some(_), .. } => Err(ValueError::NotUnderstood),
    }
}

fn timestamp(text: &[u8], zone: Zone) -> Result<i64, ValueError> {
    match moment(text)? {
        Moment::Infinity => Ok(i64::MAX),
        Moment::NegativeInfinity => Ok(i64::MIN),
        Moment::At { days, time_micros, offset } => {
            let offset = match (zone, time_micros, offset) {
                (Zone::Ignored, ..) => 0,
                (Zone::Required, Some(_), Some(offset)) => offset,
                (Zone::Required, ..) => return Err(ValueError::NotUnderstood),
            };
            // tm2timestamp() adds the time of day before it looks at the range, and the zone after.
            days.checked_mul(DAY_MICROS)
                .and_then(|micros| micros.checked_add(time_micros.unwrap_or(0)))
                .and_then(|micros| micros.checked_sub(offset * SECOND_MICROS))
                .filter(|micros| TIMESTAMP_MICROS.contains(micros))
                .ok_or(ValueError::OutOfRange)
        }
    }
}

/// `Y-M-D [(T|blank) h:mm[:ss[.f]]] [Z|+hh[[:]mm[:ss]]] [ BC]`: what every DateStyle reads alike.
fn moment(text: &[u8]) -> Result<Moment, ValueError> {
    let text = without_blanks(text);
    if text.eq_ignore_ascii_case(b"infinity") {
        return Ok(Moment::Infinity);
    }
    if text.eq_ignore_ascii_case(b"-infinity") {
        return Ok(Moment::NegativeInfinity);
    }
    if text.is_empty() {
        return Err(ValueError::Invalid);
    }
    let mut scan = Scan { rest: text };
    let parsed = scan.moment().ok_or(ValueError::NotUnderstood)?;
    if !scan.rest.is_empty() {
        return Err(ValueError::NotUnderstood);
    }
    parsed
}

/// Takes tokens from the front of a text. `None`: not the expected token.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn moment(&mut self) -> Option<Result<Moment, ValueError>> {
        // A year of fewer digits may be a month, or short for another year.
        let year = self.number(4, 7)?;
        self.byte(b"-")?;
        let month = self.number(1, 2)?;
        self.byte(b"-")?;
        let day = self.number(1, 2)?;

        let t = self.byte(b"tT").is_some();
        let mut blank = self.blanks();
        let time_micros = if t || self.rest.first().is_some_and(u8::is_ascii_digit) {
            if t == blank {
                return None;
            }
            let time = self.time()?;
            blank = self.blanks();
            Some(time)
        } else {
            None
        };
        let offset = match self.rest.first() {
            // Behind a bare date, a sign without a blank would be part of the date.
            Some(b'+' | b'-') if time_micros.is_some() || blank => {
                let offset = self.offset()?;
                blank = self.blanks();
                Some(offset)
            }
            Some(b'z' | b'Z') if time_micros.is_some() => {
                self.byte(b"zZ")?;
                blank = self.blanks();
                Some(Ok(0))
            }
            _ => None,
        };
        let bc = self.rest.eq_ignore_ascii_case(b"bc");
        if bc {
            if !blank {
                return None;
            }
            self.rest = &[];
        }
        let checked = || {
            Ok(Moment::At {
                days: days(year, month, day, bc)?,
                time_micros: time_micros.transpose()?,
                offset: offset.transpose()?,
            })
        };
        Some(checked())
    }

    /// datetime.c, `DecodeTime` and `time_overflows`: 24:00:00 and a second of 60 are allowed.
    fn time(&mut self) -> Option<Result<i64, ValueError>> {
        let hour = self.number(1, 2)?;
        self.byte(b":")?;
        let minute = self.number(2, 2)?;
        let (mut second, mut micros) = (0, 0);
        if self.byte(b":").is_some() {
            second = self.number(2, 2)?;
            if let Some(b'.') = self.rest.first() {
                let len = 1 + self.rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (fraction, rest) = self.rest.split_at(len);
                if fraction.len() < 2 {
                    return None;
                }
                self.rest = rest;
                // Through a double and rint(), as PostgreSQL does: the same value at the halves.
                let fraction: f64 = std::str::from_utf8(fraction).ok()?.parse().ok()?;
                micros = (fraction * 1_000_000.0).round_ties_even() as i64;
            }
        }
        let total = ((hour * 60 + minute) * 60 + second) * SECOND_MICROS + micros;
        if hour > 24 || minute > 59 || second > 60 || total > DAY_MICROS {
            return Some(Err(ValueError::OutOfRange));
        }
        Some(Ok(total))
    }

    /// datetime.c, `DecodeTimezone`.
    fn offset(&mut self) -> Option<Result<i64, ValueError>> {
        let negative = self.rest.first() == Some(&b'-');
        self.byte(b"+-")?;
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = self.number(2, 4)?;
        let (mut hour, mut minute, mut second) = (number, 0, 0);
        match digits {
            2 if self.byte(b":").is_some() => {
                minute = self.number(2, 2)?;
                if self.byte(b":").is_some() {
                    second = self.number(2, 2)?;
                }
            }
            2 => {}
            4 => (hour, minute) = (number / 100, number % 100),
            _ => return None,
        }
        if hour > OFFSET_HOURS_MAX || minute > 59 || second > 59 {
            return Some(Err(ValueError::OutOfRange));
        }
        let seconds = (hour * 60 + minute) * 60 + second;
        Some(Ok(if negative { -seconds } else { seconds }))
    }

    /// A run of `min` to `max` digits, and no digit after it.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let len = self.rest.iter().take(max + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if len < min || len > max {
            return None;
        }
        let (digits, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }

    fn byte(&mut self, any_of: &[u8]) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        any_of.contains(first).then(|| self.rest = rest)
    }

    fn blanks(&mut self) -> bool {
        let len = self.rest.iter().take_while(|byte| is_blank(**byte)).count();
        self.rest = &self.rest[len..];
        len > 0
    }
}

/// datetime.c, `ValidateDate` and `date2j`.
fn days(year: i64, month: i64, day: i64, bc: bool) -> Result<i64, ValueError> {
    if year == 0 {
        return Err(ValueError::OutOfRange);
    }
    // 1 BC is the year 0, which is a leap year.
    let year = if bc { 1 - year } else { year };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(ValueError::OutOfRange),
    };
    if day < 1 || day > month_days {
        return Err(ValueError::OutOfRange);
    }
    // timestamp.h, IS_VALID_JULIAN.
    if (year, month) < (-4713, 11) || (year, month) >= (5_874_898, 6) {
        return Err(ValueError::OutOfRange);
    }
    let (y, m) = if month > 2 { (year + 4800, month + 1) } else { (year + 4799, month + 13) };
    let century = y / 100;
    let julian = y * 365 - 32_167 + y / 4 - century + century / 4 + 7834 * m / 256 + day;
    Ok(julian - EPOCH_JULIAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(value: Result<KeyValue<'_>, ValueError>) -> String {
        match value {
            Ok(KeyValue::Integer(value)) => value.to_string(),
            Ok(KeyValue::Boolean(value)) => value.to_string(),
            Ok(KeyValue::Text(text)) => format!("[{}]", text.escape_ascii()),
            Ok(KeyValue::Bytea(bytes)) => format!("[{}]", bytes.escape_ascii()),
            Ok(KeyValue::Uuid(uuid)) => uuid.iter().map(|byte| format!("{byte:02x}")).collect(),
            Ok(KeyValue::Date(days)) => format!("{days} days"),
            Ok(KeyValue::Timestamp(micros)) => format!("{micros} us"),
            Ok(KeyValue::Numeric(Numeric::Finite(NumericDigits { negative, weight, digits }))) => {
                let sign = if negative { "-" } else { "" };
                format!("{sign}{digits:?}@{weight}")
            }
            Ok(KeyValue::Numeric(special)) => format!("{special:?}"),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn a_text_is_read_as_postgresql_reads_it_or_not_at_all() {
        use KeyType::*;
        let cases: &[(KeyType, &str, &str)] = &[
            (BigInt, "42", "42"),
            (BigInt, " \t+42\n", "42"),
            (BigInt, "-9223372036854775808", "-9223372036854775808"),
            (BigInt, "9223372036854775808", "OutOfRange"),
            (BigInt, "00000000000000000000000042", "42"),
            (BigInt, "-0", "0"),
            (BigInt, "", "Invalid"),
            (BigInt, "-", "Invalid"),
            (BigInt, "- 1", "Invalid"),
            (BigInt, "1.0", "Invalid"),
            (BigInt, "1e3", "Invalid"),
            // A number from PostgreSQL 16 on.
            (BigInt, "0x10", "NotUnderstood"),
            (BigInt, "1_000", "NotUnderstood"),
            (Integer, "2147483647", "2147483647"),
            (Integer, "2147483648", "OutOfRange"),
            (SmallInt, "-32768", "-32768"),
            (SmallInt, "-32769", "OutOfRange"),
            (Text, " a ", "[ a ]"),
            (Varchar, "a  ", "[a  ]"),
            (Char, " a  ", "[ a]"),
            (Char, "   ", "[]"),
            (Char, "a\t ", "[a\\t]"),
            (Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
            (Uuid, "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
            (Uuid, "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
            (Uuid, "a0-eebc999c0b4ef8bb6d6bb9bd380a11", "Invalid"),
            (Uuid, "a0eebc999c0b4ef8bb6d6bb9bd380a11-", "Invalid"),
            (Uuid, "{a0eebc999c0b4ef8bb6d6bb9bd380a11", "Invalid"),
            (Uuid, " a0eebc999c0b4ef8bb6d6bb9bd380a11", "Invalid"),
            (Bytea, "\\xDEadbeef", "[\\xde\\xad\\xbe\\xef]"),
            (Bytea, "\\x de ad\n", "[\\xde\\xad]"),
            (Bytea, "\\xd", "Invalid"),
            (Bytea, "\\xd e0", "Invalid"),
            (Bytea, "\\X41", "Invalid"),
            (Bytea, "a\\\\b\\101", "[a\\\\bA]"),
            (Bytea, "\\400", "Invalid"),
            (Bytea, "a\\", "Invalid"),
            (Boolean, " TRU ", "true"),
            (Boolean, "y", "true"),
            (Boolean, "on", "true"),
            (Boolean, "o", "Invalid"),
            (Boolean, "of", "false"),
            (Boolean, "0", "false"),
            (Boolean, "00", "Invalid"),
            (Boolean, "truer", "Invalid"),
            (Boolean, "", "Invalid"),
            (Numeric, "0", "[]@0"),
            (Numeric, "-0.000", "[]@0"),
            (Numeric, "12345.67800", "[1, 2345, 6780]@1"),
            (Numeric, ".5", "[5000]@-1"),
            (Numeric, "5.", "[5]@0"),
            (Numeric, "-1e-4", "-[1]@-1"),
            (Numeric, "1E+4", "[1]@1"),
            (Numeric, "10e3", "[1]@1"),
            (Numeric, "000123e-00", "[123]@0"),
            (Numeric, "nan", "NaN"),
            (Numeric, " -INF ", "NegativeInfinity"),
            (Numeric, "+NaN", "Invalid"),
            (Numeric, ".", "Invalid"),
            (Numeric, "1..2", "Invalid"),
            (Numeric, "1e", "Invalid"),
            (Numeric, "1e 5", "NotUnderstood"),
            (Numeric, "0x1F", "NotUnderstood"),
            (Numeric, "1e131071", "[1000]@32767"),
            (Numeric, "1e131072", "OutOfRange"),
            (Numeric, "1e-16383", "[10]@-4096"),
            (Numeric, "1e-16384", "OutOfRange"),
            (Numeric, "1e99999999999999999999", "OutOfRange"),
            (Date, "2000-01-01", "0 days"),
            (Date, "2024-02-29", "8825 days"),
            (Date, "2023-02-29", "OutOfRange"),
            (Date, "2024-2-9", "8805 days"),
            (Date, "0000-01-01", "OutOfRange"),
            (Date, "0001-12-31 BC", "-730120 days"),
            (Date, "4714-11-24 bc", "-2451545 days"),
            (Date, "4714-11-23 BC", "OutOfRange"),
            (Date, "5874897-12-31", "2145031948 days"),
            (Date, "5874898-06-01", "OutOfRange"),
            (Date, "infinity", "2147483647 days"),
            (Date, " -Infinity", "-2147483648 days"),
            // A driver's date with its zone.
            (Date, "2024-02-29 +01", "8825 days"),
            (Date, "2024-02-29-08", "NotUnderstood"),
            (Date, "24-02-29", "NotUnderstood"),
            (Date, "02/03/2024", "NotUnderstood"),
            (Date, "20240229", "NotUnderstood"),
            (Date, "Jan 5 2024", "NotUnderstood"),
            (Date, "today", "NotUnderstood"),
            (Date, "J2451187", "NotUnderstood"),
            (Date, "2024-02-29 10:00:00", "NotUnderstood"),
            (Date, "", "Invalid"),
            (Timestamp, "2000-01-01 00:00:01.5", "1500000 us"),
            (Timestamp, "2000-01-01T00:00", "0 us"),
            (Timestamp, "2000-01-01", "0 us"),
            (Timestamp, "2000-01-01 00:00:00.0000005", "0 us"),
            (Timestamp, "2000-01-01 00:00:00.0000015", "2 us"),
            (Timestamp, "2000-01-01 00:00:59.9999999", "60000000 us"),
            (Timestamp, "2000-01-01 24:00:00", "86400000000 us"),
            (Timestamp, "2000-01-01 24:00:01", "OutOfRange"),
            (Timestamp, "2000-01-01 23:59:60", "86400000000 us"),
            (Timestamp, "2000-01-01 10:60:00", "OutOfRange"),
            (Timestamp, "2000-01-01 00:00:01+05", "1000000 us"),
            (Timestamp, "2000-01-01 00:00:01 now", "NotUnderstood"),
            (Timestamp, "2000-01-01 1:00 PM", "NotUnderstood"),
            (Timestamp, "294276-12-31 23:59:59.999999", "9223371331199999999 us"),
            (Timestamp, "294277-01-01 00:00:00", "OutOfRange"),
            (Timestamp, "infinity", "9223372036854775807 us"),
            (TimestampTz, "2000-01-01 00:00:00Z", "0 us"),
            (TimestampTz, "2000-01-01T01:00:00+01", "0 us"),
            (TimestampTz, "2000-01-01 01:30:15+01:30:15", "0 us"),
            (TimestampTz, "1999-12-31 19:00:00 -0500", "0 us"),
            (TimestampTz, "0001-01-01 00:00:00+00 BC", "-63113904000000000 us"),
            (TimestampTz, "2000-01-01 00:00:00+16", "OutOfRange"),
            (TimestampTz, "2000-01-01 00:00:00", "NotUnderstood"),
            (TimestampTz, "2000-01-01 00:00:00 UTC", "NotUnderstood"),
            (TimestampTz, "2000-01-01 00:00:00 Europe/Berlin", "NotUnderstood"),
            (TimestampTz, "2000-01-01", "NotUnderstood"),
        ];
        for (ty, text, expected) in cases {
            assert_eq!(describe(KeyValue::from_text(*ty, text.as_bytes())), *expected, "{ty:?}: {text:?}");
        }
    }

    #[test]
    fn values_are_in_postgresqls_order() {
        use KeyType::*;
        // Each line in ascending order.
        let lines: &[(KeyType, &[&str])] = &[
            (BigInt, &["-9223372036854775808", "-1", "0", "7", "9223372036854775807"]),
            (Boolean, &["false", "true"]),
            (Text, &["", "A", "B", "Ba", "a", "ab", "b", "\u{e9}"]),
            (Char, &["", "a", "a\t", "ab"]),
            (Bytea, &["\\x", "\\x00", "\\x0000", "\\x01", "\\xff"]),
            (Uuid, &["00000000-0000-0000-0000-000000000001", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
            (Date, &["-infinity", "4713-01-01 BC", "1999-12-31", "2000-01-01", "infinity"]),
            (Timestamp, &["-infinity", "1999-12-31 23:59:59.999999", "2000-01-01", "infinity"]),
            (TimestampTz, &["-infinity", "2000-01-01 01:00:00+01:01", "2000-01-01 00:00:00Z", "infinity"]),
            (
                Numeric,
                &[
                    "-inf",
                    "-1e20",
                    "-10000.5",
                    "-10000",
                    "-9999.9999",
                    "-1",
                    "-0.0001",
                    "-0.00001",
                    "0",
                    "0.00001",
                    "0.0001",
                    "0.5",
                    "0.51",
                    "1",
                    "9999",
                    "10000",
                    "10000.00001",
                    "123456789",
                    "1e20",
                    "inf",
                    "nan",
                ],
            ),
        ];
        for (ty, line) in lines {
            let values: Vec<KeyValue<'_>> =
                line.iter().map(|text| KeyValue::from_text(*ty, text.as_bytes()).unwrap()).collect();
            for (i, left) in values.iter().enumerate() {
                for (j, right) in values.iter().enumerate() {
                    assert_eq!(left.order(right), i.cmp(&j), "{ty:?}: {} and {}", line[i], line[j]);
                    assert_eq!(left.clone().into_owned(), *left);
                }
            }
        }
    }

    #[test]
    fn a_binary_value_must_be_of_a_type_that_means_the_same() {
        use KeyType::*;
        let cases: &[(KeyType, u32, &[u8], &str)] = &[
            (BigInt, oid::INT4, &[255, 255, 255, 254], "-2"),
            (Integer, oid::INT8, &[0, 0, 0, 1, 0, 0, 0, 0], "OutOfRange"),
            (BigInt, oid::INT8, &[0, 0, 0, 1], "Invalid"),
            (BigInt, oid::FLOAT8, &[0; 8], "NotUnderstood"),
            (BigInt, oid::TEXT, b"1", "NotUnderstood"),
            (Numeric, oid::INT2, &[0xd8, 0xf0], "-[1]@1"),
            (Text, oid::VARCHAR, b"a ", "[a ]"),
            (Text, oid::BPCHAR, b"a ", "NotUnderstood"),
            (Char, oid::BPCHAR, b"a ", "[a]"),
            (Boolean, oid::BOOL, &[2], "true"),
            (Date, oid::DATE, &[0, 0, 0, 1], "1 days"),
            (Date, oid::DATE, &[0x80, 0, 0, 1], "OutOfRange"),
            (Timestamp, oid::TIMESTAMPTZ, &[0; 8], "NotUnderstood"),
            (TimestampTz, oid::TIMESTAMPTZ, &[0, 0, 0, 0, 0, 0, 0, 9], "9 us"),
            (Numeric, oid::NUMERIC, &[0, 2, 0, 1, 0x40, 0, 0, 0, 0, 0, 0, 7], "-[7]@0"),
            (Numeric, oid::NUMERIC, &[0, 0, 0, 0, 0xC0, 0, 0, 0], "NaN"),
            (Numeric, oid::NUMERIC, &[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10], "Invalid"),
            // 0.05 shown with one place: the server would make it 0.
            (Numeric, oid::NUMERIC, &[0, 1, 255, 255, 0, 0, 0, 1, 1, 0xF4], "NotUnderstood"),
            (Numeric, oid::NUMERIC, &[0, 1, 255, 255, 0, 0, 0, 2, 1, 0xF4], "[500]@-1"),
        ];
        for (ty, oid, bytes, expected) in cases {
            assert_eq!(
                describe(KeyValue::from_binary(*ty, *oid, bytes)),
                *expected,
                "{ty:?}, {oid}: {bytes:?}"
            );
        }
    }
}
