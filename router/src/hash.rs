//! The slot of a key: PostgreSQL's own partition hash, modulo [`SLOTS`].
//!
//! Invariant: [`slot`] is the remainder for which `satisfies_hash_partition('t', 16384, remainder, key)` holds on a
//! server, bit for bit, for every key type. The rows of a herd are where this says: it never changes.
//!
//! PostgreSQL hashes in its machine's byte order; this is the order of a little-endian server.
//!
//! Sources: `src/common/hashfn.c`, `src/include/common/hashfn.h`, `src/backend/access/hash/hashfunc.c`,
//! `src/backend/utils/adt/numeric.c` (`hash_numeric_extended`), `src/backend/partitioning/partbounds.c`
//! (`compute_partition_hash_value`); which function belongs to which type: `pg_amproc`, `amprocnum` 2.
//!
//! Start reading at [`slot`].

use pgherd_config::KeyType;

use crate::topology::SLOTS;
use crate::value::{KeyValue, Numeric, NumericDigits, type_name};

/// partition.h, HASH_PARTITION_SEED.
const PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;
/// hashfn.h, `hash_combine64`.
const COMBINE: u64 = 0x49A0_F4DD_15E5_A8E3;
const SLOT_MASK: u64 = SLOTS as u64 - 1;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();

const _: () = assert!(SLOTS.is_power_of_two());

/// The slot, 0 to 16383, of a key with these parts.
pub fn slot(values: &[KeyValue<'_>]) -> u16 {
    let mut key = KeyHash::default();
    values.iter().for_each(|value| key.add(value));
    key.slot()
}

/// [`slot`], part by part: no part need outlive its turn.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyHash(u64);

impl KeyHash {
    pub fn add(&mut self, value: &KeyValue<'_>) {
        self.0 = combine(self.0, hash(value, PARTITION_SEED));
    }

    pub fn slot(self) -> u16 {
        (self.0 & SLOT_MASK) as u16
    }
}

fn combine(row: u64, hash: u64) -> u64 {
    row ^ hash.wrapping_add(COMBINE).wrapping_add(row << 54).wrapping_add(row >> 7)
}

fn hash(value: &KeyValue<'_>, seed: u64) -> u64 {
    match value {
        KeyValue::Integer(value) => hash_int8(*value, seed),
        // hashcharextended
        KeyValue::Boolean(value) => hash_uint32(u32::from(*value), seed),
        // hashtextextended (of a deterministic collation), hashbpcharextended, hashvarlenaextended
        KeyValue::Text(text) => hash_bytes(text, seed),
        KeyValue::Bytea(bytes) => hash_bytes(bytes, seed),
        // uuid_hash_extended
        KeyValue::Uuid(uuid) => hash_bytes(uuid, seed),
        // hashint4extended
        KeyValue::Date(days) => hash_uint32(*days as u32, seed),
        // timestamp_hash_extended
        KeyValue::Timestamp(micros) => hash_int8(*micros, seed),
        KeyValue::Numeric(numeric) => hash_numeric(numeric, seed),
    }
}

/// hashint8extended. A number that fits has the hash that hashint4extended and hashint2extended give it.
fn hash_int8(value: i64, seed: u64) -> u64 {
    let low = value as u32;
    let high = (value >> 32) as u32;
    hash_uint32(low ^ if value >= 0 { high } else { !high }, seed)
}

/// hash_numeric_extended. The sign is not hashed.
fn hash_numeric(numeric: &Numeric, seed: u64) -> u64 {
    match numeric {
        Numeric::NaN | Numeric::Infinity | Numeric::NegativeInfinity => seed,
        Numeric::Finite(NumericDigits { digits, .. }) if digits.is_empty() => seed.wrapping_sub(1),
        Numeric::Finite(NumericDigits { digits, weight, .. }) => {
            let bytes: Vec<u8> = digits.iter().flat_map(|digit| digit.to_le_bytes()).collect();
            hash_bytes(&bytes, seed) ^ i64::from(*weight) as u64
        }
    }
}

/// Bob Jenkins' hash (2006), as hashfn.c adapts it.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(len: u32, seed: u64) -> Self {
        let start = 0x9E37_79B9_u32.wrapping_add(len).wrapping_add(3_923_095);
        let mut state = Self { a: start, b: start, c: start };
        if seed != 0 {
            state.add((seed >> 32) as u32, seed as u32, 0);
            state.mix();
        }
        state
    }

    fn add(&mut self, a: u32, b: u32, c: u32) {
        self.a = self.a.wrapping_add(a);
        self.b = self.b.wrapping_add(b);
        self.c = self.c.wrapping_add(c);
    }

    /// hashfn.c, `mix`.
    fn mix(&mut self) {
        let Self { mut a, mut b, mut c } = *self;
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        *self = Self { a, b, c };
    }

    /// hashfn.c, `final`, and the two words that the extended functions return.
    fn finish(self) -> u64 {
        let Self { mut a, mut b, mut c } = self;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
        u64::from(b) << 32 | u64::from(c)
    }
}

/// hash_bytes_uint32_extended
fn hash_uint32(value: u32, seed: u64) -> u64 {
    let mut state = State::new(4, seed);
    state.add(value, 0, 0);
    state.finish()
}

/// hash_bytes_extended
fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    // A PostgreSQL value is below 1 GiB.
    let mut state = State::new(bytes.len() as u32, seed);
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        state.add(word(block, 0), word(block, 4), word(block, 8));
        state.mix();
    }
    let mut last = [0; 12];
    let rest = blocks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    // The lowest byte of c is reserved for the length.
    state.add(word(&last, 0), word(&last, 4), word(&last, 8) << 8);
    state.finish()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Longest composite key whose slot is computed in SQL: its expression doubles with every part.
const SQL_PARTS_MAX: usize = 4;

/// [`slot`] as an SQL expression of type bigint, of built-in immutable functions only (so it can be indexed). It is NULL
/// when a part is NULL. `expressions` name the parts, of `types` or castable to them.
///
/// `None`: a type whose hash function cannot be called from SQL (bytea's takes `internal`), or too many parts.
pub fn slot_sql(types: &[KeyType], expressions: &[&str]) -> Option<String> {
    if types.is_empty() || types.len() != expressions.len() || types.len() > SQL_PARTS_MAX {
        return None;
    }
    // hash_combine64 without overflow: of the row's hash after each part only those low bits are kept that reach the
    // slot. `row << 54` never does, and `row >> 7` asks for 7 bits more of the part before.
    let mut row: Option<String> = None;
    for (at, (ty, expression)) in types.iter().zip(expressions).enumerate() {
        let later = (types.len() - 1 - at) as u32;
        let mask = (1_u64 << (SLOT_BITS + 7 * later)) - 1;
        let hash = hash_sql(*ty, expression)?;
        let sum = format!("({hash} & {mask}) + {}", COMBINE & mask);
        row = Some(match row {
            None => format!("({sum} & {mask})"),
            Some(row) => format!("(({row} # ({sum} + ({row} >> 7))) & {mask})"),
        });
    }
    row
}

fn hash_sql(ty: KeyType, expression: &str) -> Option<String> {
    let value = format!("({expression})::pg_catalog.{}", sql_type(ty));
    let seed = PARTITION_SEED as i64;
    let call = |function: &str, value: &str| Some(format!("pg_catalog.{function}({value}, {seed})"));
    match ty {
        KeyType::SmallInt => call("hashint2extended", &value),
        KeyType::Integer => call("hashint4extended", &value),
        KeyType::BigInt => call("hashint8extended", &value),
        KeyType::Text => call("hashtextextended", &value),
        KeyType::Varchar => call("hashtextextended", &format!("{value}::pg_catalog.text")),
        KeyType::Char => call("hashbpcharextended", &value),
        KeyType::Uuid => call("uuid_hash_extended", &value),
        KeyType::Bytea => None,
        // hashcharextended wants "char", to which boolean has no cast; of 0 and 1 the hashes are equal.
        KeyType::Boolean => call("hashint4extended", &format!("{value}::pg_catalog.int4")),
        KeyType::Numeric => call("hash_numeric_extended", &value),
        KeyType::Date => {
            // The hash is that of the number of days, but infinite dates cannot be subtracted.
            let days = format!(
                "CASE {value} WHEN pg_catalog.date 'infinity' THEN 2147483647 \
                 WHEN pg_catalog.date '-infinity' THEN (-2147483648)::pg_catalog.int4 \
                 ELSE {value} - pg_catalog.date '2000-01-01' END"
            );
            call("hashint4extended", &days)
        }
        KeyType::Timestamp => call("timestamp_hash_extended", &value),
        // The function is declared for timestamp only. Zone zero leaves the number as it is.
        KeyType::TimestampTz => {
            call("timestamp_hash_extended", &format!("pg_catalog.timezone(interval '0', {value})"))
        }
    }
}

/// The name of the type in pg_catalog.
fn sql_type(ty: KeyType) -> &'static str {
    match ty {
        KeyType::SmallInt => "int2",
        KeyType::Integer => "int4",
        KeyType::BigInt => "int8",
        KeyType::Varchar => "varchar",
        KeyType::Boolean => "bool",
        KeyType::Timestamp => "timestamp",
        KeyType::TimestampTz => "timestamptz",
        other => type_name(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few values that guard the hash here; integration-tests/tests/partition_hash.rs asks a server about thousands.
    #[test]
    fn a_slot_is_the_one_that_postgresql_15_accepts() {
        let cases = [
            (KeyType::BigInt, "0", 6576),
            (KeyType::Integer, "1", 4024),
            (KeyType::SmallInt, "-1", 12197),
            (KeyType::BigInt, "42", 6754),
            (KeyType::BigInt, "9223372036854775807", 14966),
        ];
        for (ty, text, expected) in cases {
            let value = KeyValue::from_text(ty, text.as_bytes()).unwrap();
            assert_eq!(slot(&[value]), expected, "{ty:?} {text:?}");
        }
    }
}
