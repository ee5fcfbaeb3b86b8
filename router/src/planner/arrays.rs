//! The elements of an array constant, as values of a key: `key = ANY ('{1,2}')`, `key = ANY ($1)`.
//!
//! Invariant: all elements, each as PostgreSQL would read it, or nothing at all.
//!
//! Sources: `arrayfuncs.c` (`array_in`, `array_recv`), `array.h` (MAXDIM).

use pgherd_config::KeyType;

use super::constant::{Column, Constant, Source, UNKNOWN_OID, Values, literal, string};
use crate::plan::LiteralKind;
use crate::value::{KeyValue, oid, oid_fits};

/// Elements that are worth a look.
const ELEMENTS_MAX: usize = 65_536;

/// The elements that are not NULL (nothing is equal to those). `None`: not known.
pub(super) fn elements(
    array: Constant,
    column: Column,
    values: Values<'_>,
    shared: bool,
) -> Option<Vec<KeyValue<'static>>> {
    if array.cast.is_some_and(|cast| !super::constant::same_family(cast, column.ty)) {
        return None;
    }
    match array.source {
        Source::Literal { index, negative: false } => {
            let (kind, raw) = literal(values, index)?;
            match kind {
                LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => {
                    from_text(column.ty, string(values, index, raw)?)
                }
                LiteralKind::Integer | LiteralKind::Numeric | LiteralKind::OtherString => None,
            }
        }
        Source::Param(number) => {
            let declared = match values.params.types.get(number).copied().unwrap_or(0) {
                0 | UNKNOWN_OID => None,
                declared => Some(declared),
            };
            match declared {
                Some(declared) if !element_oid(declared).is_some_and(|oid| oid_fits(column.ty, oid)) => {
                    return None;
                }
                None if shared => return None,
                _ => {}
            }
            // Nothing is equal to an element of NULL.
            let Some(bytes) = values.params.values.get(number)? else { return Some(Vec::new()) };
            let binary = match values.params.formats {
                [] => false,
                [all] => *all == 1,
                each => each.get(number) == Some(&1),
            };
            if binary { from_binary(column.ty, bytes) } else { from_text(column.ty, bytes) }
        }
        Source::Null => Some(Vec::new()),
        Source::Literal { .. } | Source::Boolean(_) => None,
    }
}

/// pg_type.dat: the element type of an array type.
fn element_oid(array: u32) -> Option<u32> {
    Some(match array {
        1000 => oid::BOOL,
        1001 => oid::BYTEA,
        1003 => oid::NAME,
        1005 => oid::INT2,
        1007 => oid::INT4,
        1016 => oid::INT8,
        1009 => oid::TEXT,
        1014 => oid::BPCHAR,
        1015 => oid::VARCHAR,
        1115 => oid::TIMESTAMP,
        1182 => oid::DATE,
        1185 => oid::TIMESTAMPTZ,
        1231 => oid::NUMERIC,
        2951 => oid::UUID,
        _ => return None,
    })
}

fn owned(value: Result<KeyValue<'_>, crate::value::ValueError>) -> Option<KeyValue<'static>> {
    value.ok().map(KeyValue::into_owned)
}

/// array_in. Of arrays in arrays, ANY looks at the innermost elements.
fn from_text(ty: KeyType, text: &[u8]) -> Option<Vec<KeyValue<'static>>> {
    let text = text.trim_ascii();
    let mut rest = text;
    let mut found = Vec::new();
    let mut depth = 0usize;
    // Whether an element (or a closed brace) stands before, so that only , or } may follow.
    let mut complete = false;
    let mut item = Vec::new();
    // With bounds ("[1:2]={...}") it is not read here.
    if rest.first() != Some(&b'{') {
        return None;
    }
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'{' if !complete => depth += 1,
            b'}' if depth > 0 => {
                depth -= 1;
                complete = true;
                if depth == 0 {
                    break;
                }
            }
            b',' if complete && depth > 0 => complete = false,
            byte if byte.is_ascii_whitespace() || byte == 0x0b => {}
            b'"' if !complete => {
                item.clear();
                loop {
                    let (&byte, after) = rest.split_first()?;
                    rest = after;
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            let (&escaped, after) = rest.split_first()?;
                            rest = after;
                            item.push(escaped);
                        }
                        byte => item.push(byte),
                    }
                }
                found.push(owned(KeyValue::from_text(ty, &item))?);
                complete = true;
            }
            _ if !complete => {
                let at = text.len() - rest.len() - 1;
                let len = rest.iter().position(|byte| matches!(byte, b',' | b'{' | b'}' | b'"' | b'\\'))?;
                let whole;
                (whole, rest) = text[at..].split_at(1 + len);
                if !matches!(rest.first(), Some(b',' | b'}')) {
                    return None;
                }
                let element = whole.trim_ascii_end();
                if !element.eq_ignore_ascii_case(b"null") {
                    found.push(owned(KeyValue::from_text(ty, element))?);
                }
                complete = true;
            }
            _ => return None,
        }
        if found.len() > ELEMENTS_MAX {
            return None;
        }
    }
    (depth == 0 && rest.is_empty()).then_some(found)
}

/// array_recv
fn from_binary(ty: KeyType, bytes: &[u8]) -> Option<Vec<KeyValue<'static>>> {
    /// array.h
    const DIMENSIONS_MAX: u32 = 6;
    let mut rest = bytes;
    let mut word = || {
        let (word, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        Some(u32::from_be_bytes(*word))
    };
    let dimensions = word()?;
    let _has_nulls = word()?;
    let element = word()?;
    if dimensions > DIMENSIONS_MAX || !oid_fits(ty, element) {
        return None;
    }
    let mut count = usize::from(dimensions > 0);
    for _ in 0..dimensions {
        count = count.checked_mul(word()? as usize)?;
        let _lower_bound = word()?;
    }
    if count > ELEMENTS_MAX {
        return None;
    }
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let (len, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        if let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) {
            let (value, after) = rest.split_at_checked(len)?;
            rest = after;
            found.push(owned(KeyValue::from_binary(ty, element, value))?);
        }
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_read_whole_or_not_at_all() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("{}", Some(&[])),
            ("{1}", Some(&["1"])),
            (" { 1 , 2 } ", Some(&["1", "2"])),
            ("{1,NULL,null,3}", Some(&["1", "3"])),
            ("{a b, c }", Some(&["a b", "c"])),
            ("{\"NULL\",\"a,b\",\"c\\\"}\\\\\",\"\"}", Some(&["NULL", "a,b", "c\"}\\", ""])),
            ("{{1,2},{3,4}}", Some(&["1", "2", "3", "4"])),
            ("{\u{e9},x}", Some(&["\u{e9}", "x"])),
            // PostgreSQL refuses these, or reads them in a way that is not modelled here.
            ("", None),
            ("1,2", None),
            ("{1,2", None),
            ("{1,2}}", None),
            ("{1,2} x", None),
            ("{a\"b\"}", None),
            ("{a\\,b}", None),
            ("{\"a\"b}", None),
            ("{\"a", None),
            ("[1:2]={1,2}", None),
            ("{1}{2}", None),
        ];
        for (text, expected) in cases {
            let found = from_text(KeyType::Text, text.as_bytes());
            let expected: Option<Vec<KeyValue<'_>>> =
                expected.map(|list| list.iter().map(|text| KeyValue::Text(text.as_bytes().into())).collect());
            assert_eq!(found, expected, "{text:?}");
        }
        assert_eq!(from_text(KeyType::BigInt, b"{1,x}"), None, "one that cannot be read spoils all");
    }

    #[test]
    fn a_binary_array_says_its_own_type() {
        let array = |element: u32, values: &[Option<&[u8]>]| {
            let mut bytes = Vec::new();
            for word in [1, 0, element, values.len() as u32, 1] {
                bytes.extend(word.to_be_bytes());
            }
            for value in values {
                bytes.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
                bytes.extend(value.unwrap_or_default());
            }
            bytes
        };
        let seven: &[u8] = &[0, 0, 0, 7];
        let integers =
            |values: &[i64]| Some(values.iter().copied().map(KeyValue::Integer).collect::<Vec<_>>());
        let of = |bytes: &[u8]| from_binary(KeyType::BigInt, bytes);
        assert_eq!(of(&array(oid::INT4, &[Some(seven), None])), integers(&[7]));
        assert_eq!(of(&array(oid::INT8, &[Some(seven)])), None, "of another length");
        assert_eq!(of(&array(oid::TEXT, &[Some(b"7")])), None);
        assert_eq!(of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20]), integers(&[]));
        let whole = array(oid::INT4, &[Some(seven), Some(seven)]);
        for len in 0..whole.len() {
            assert_eq!(of(&whole[..len]), None, "cut at {len}");
        }
        let mut huge = array(oid::INT4, &[]);
        huge[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(of(&huge), None);
    }
}
