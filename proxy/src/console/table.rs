//! An answer of the console: columns and rows, in text or in binary.

use pgherd_wire::message::{self, Column};

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Int,
    Big,
    Numeric,
}

pub type Columns = &'static [(&'static str, Kind)];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Text(String),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(i64::from(number))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(i64::from(number))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Number(i64::from(flag))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row from values of different types.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::console::table::Value::from($value)),*] };
}
pub(super) use row;

pub struct Table {
    pub columns: Columns,
    pub rows: Vec<Vec<Value>>,
}

/// `formats`: as a Bind says them: none, one for all, or one for each.
pub fn describe(out: &mut Vec<u8>, columns: Columns, formats: &[u16]) {
    let columns: Vec<Column> = columns
        .iter()
        .enumerate()
        .map(|(i, (name, kind))| {
            let (type_oid, type_length) = match kind {
                Kind::Text => (25, u16::MAX),
                Kind::Int => (23, 4),
                Kind::Big => (20, 8),
                Kind::Numeric => (1700, u16::MAX),
            };
            Column {
                name: name.as_bytes().to_vec(),
                type_oid,
                type_modifier: u32::MAX,
                format: format_of(formats, i),
                table: 0,
                attribute: 0,
                type_length,
            }
        })
        .collect();
    message::row_description(out, &columns);
}

fn format_of(formats: &[u16], column: usize) -> u16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(column).copied().unwrap_or(0),
    }
}

impl Table {
    pub fn write_row(&self, out: &mut Vec<u8>, row: usize, formats: &[u16]) {
        let values: Vec<Option<Vec<u8>>> = self.rows[row]
            .iter()
            .zip(self.columns)
            .enumerate()
            .map(|(i, (value, (_, kind)))| encode(value, *kind, format_of(formats, i) == 1))
            .collect();
        message::data_row(out, &values);
    }
}

fn encode(value: &Value, kind: Kind, binary: bool) -> Option<Vec<u8>> {
    match (value, kind) {
        (Value::Null, _) => None,
        (Value::Text(text), _) => Some(text.clone().into_bytes()),
        (Value::Number(n), Kind::Text) => Some(n.to_string().into_bytes()),
        // A number that its column cannot hold is shown as the largest: a counter that stands still, not one that jumps back.
        (Value::Number(n), Kind::Int) => {
            let n = i32::try_from(*n).unwrap_or(i32::MAX);
            Some(if binary { n.to_be_bytes().to_vec() } else { n.to_string().into_bytes() })
        }
        (Value::Number(n), _) if !binary => Some(n.to_string().into_bytes()),
        (Value::Number(n), Kind::Big) => Some(n.to_be_bytes().to_vec()),
        (Value::Number(n), Kind::Numeric) => Some(binary_numeric(*n)),
    }
}

/// A whole number as `numeric_send` writes it: base 10000, the highest digit first, no trailing zero digits.
fn binary_numeric(number: i64) -> Vec<u8> {
    let mut digits = Vec::new();
    let mut rest = number.unsigned_abs();
    while rest > 0 {
        digits.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    let weight = (digits.len() as u16).wrapping_sub(1) as i16;
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits = &digits[zeros..];
    let sign: u16 = if number < 0 { 0x4000 } else { 0 };
    let weight = if digits.is_empty() { 0 } else { weight };
    let mut bytes = Vec::new();
    for head in [digits.len() as u16, weight as u16, sign, 0] {
        bytes.extend_from_slice(&head.to_be_bytes());
    }
    for digit in digits.iter().rev() {
        bytes.extend_from_slice(&digit.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_in_binary_are_as_postgresql_sends_them() {
        // SELECT encode(numeric_send(n), 'hex')
        let cases = [
            (0, "0000000000000000"),
            (1, "00010000000000000001"),
            (10_000, "00010001000000000001"),
            (12_345_678, "000200010000000004d2162e"),
            (100_000_000, "00010002000000000001"),
            (-42, "0001000040000000002a"),
        ];
        for (number, expected) in cases {
            let hex: String = binary_numeric(number).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{number}");
        }
        assert_eq!(encode(&Value::Number(7), Kind::Int, true), Some(vec![0, 0, 0, 7]));
        assert_eq!(encode(&Value::Number(7), Kind::Big, false), Some(b"7".to_vec()));
        assert_eq!(encode(&Value::Number(1 << 40), Kind::Int, false), Some(b"2147483647".to_vec()));
        assert_eq!(encode(&Value::Null, Kind::Text, true), None);
    }
}
