//! Keys that have a place of their own, one by one: what a pgherd knows of the catalog's table `pgherd.directory`.
//!
//! Invariant: what stands here is recorded in the catalog, where an entry changes only while its key is on hold, and is forgotten
//! here before the key is served again. A key that is missing says nothing: another pgherd may have entered it a moment ago.
//! Whoever must know asks the catalog.
//!
//! Limit: [`KEYS_MAX`] keys; at the bound all are forgotten, and looked up again as they are needed.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::topology::ShardId;
use crate::value::KeyValue;

/// Keys of one distribution that are kept in memory: some 100 bytes each.
pub const KEYS_MAX: usize = 2_000_000;

#[derive(Debug, Default)]
pub struct Directory {
    known: DashMap<Box<[u8]>, ShardId>,
    /// How often keys were forgotten because they may be elsewhere now.
    forgotten: AtomicU64,
}

/// Two directories are the same only if they are one.
impl PartialEq for Directory {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// The value's bytes: of one type, different values have different ones. `None`: a type that no directory has.
fn bytes<'b>(value: &'b KeyValue<'_>, buffer: &'b mut [u8; 8]) -> Option<&'b [u8]> {
    match value {
        KeyValue::Integer(number) => {
            *buffer = number.to_be_bytes();
            Some(buffer)
        }
        KeyValue::Text(text) => Some(text),
        KeyValue::Uuid(uuid) => Some(uuid),
        KeyValue::Boolean(_)
        | KeyValue::Bytea(_)
        | KeyValue::Date(_)
        | KeyValue::Timestamp(_)
        | KeyValue::Numeric(_) => None,
    }
}

impl Directory {
    /// `None`: not known here.
    pub fn get(&self, value: &KeyValue<'_>) -> Option<ShardId> {
        self.known.get(bytes(value, &mut [0; 8])?).map(|shard| *shard)
    }

    /// To be asked before the catalog is.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// The key may be elsewhere now.
    pub fn forget(&self, value: &KeyValue<'_>) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        if let Some(bytes) = bytes(value, &mut [0; 8]) {
            self.known.remove(bytes);
        }
    }

    pub fn forget_all(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.known.clear();
    }

    /// Enters what the catalog said, unless keys were forgotten since it was asked. (All of this on one thread: the control
    /// thread's.)
    pub fn enter_since(&self, forgotten: u64, value: &KeyValue<'_>, shard: ShardId) {
        if self.forgotten() == forgotten {
            self.enter(value, shard);
        }
    }

    pub fn enter(&self, value: &KeyValue<'_>, shard: ShardId) {
        if self.known.len() >= KEYS_MAX {
            self.known.clear();
        }
        if let Some(bytes) = bytes(value, &mut [0; 8]) {
            self.known.insert(bytes.into(), shard);
        }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Known shards, ascending.
    pub fn shards(&self) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = self.known.iter().map(|entry| *entry.value()).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }
}

/// The one text of a key in the catalog. `None`: a type that no directory has.
pub fn key_text(value: &KeyValue<'_>) -> Option<String> {
    match value {
        KeyValue::Integer(number) => Some(number.to_string()),
        KeyValue::Text(text) => String::from_utf8(text.to_vec()).ok().filter(|text| !text.contains('\0')),
        KeyValue::Uuid(uuid) => {
            let mut text = String::with_capacity(36);
            for (at, byte) in uuid.iter().enumerate() {
                if matches!(at, 4 | 6 | 8 | 10) {
                    text.push('-');
                }
                let _ = write!(text, "{byte:02x}");
            }
            Some(text)
        }
        KeyValue::Boolean(_)
        | KeyValue::Bytea(_)
        | KeyValue::Date(_)
        | KeyValue::Timestamp(_)
        | KeyValue::Numeric(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use pgherd_config::KeyType;

    use super::*;

    #[test]
    fn a_key_has_one_text_and_is_found_by_its_value() {
        let directory = Directory::default();
        let cases = [
            (KeyType::BigInt, "-7", " -07"),
            (KeyType::Text, "acme", "acme"),
            (KeyType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"),
        ];
        for (shard, (ty, text, other)) in (0..).zip(cases) {
            let value = KeyValue::from_text(ty, text.as_bytes()).unwrap();
            assert_eq!(directory.get(&value), None);
            directory.enter(&value, ShardId(shard));
            let same = KeyValue::from_text(ty, other.as_bytes()).unwrap();
            assert_eq!(directory.get(&same), Some(ShardId(shard)));
            assert_eq!(key_text(&same).as_deref(), Some(text));
        }
        assert_eq!(directory.len(), 3);
        assert_eq!(directory.shards(), [ShardId(0), ShardId(1), ShardId(2)]);
        let key = KeyValue::from_text(KeyType::Text, b"acme").unwrap();
        let asked = directory.forgotten();
        directory.forget(&key);
        directory.enter_since(asked, &key, ShardId(1));
        assert_eq!(directory.get(&key), None, "the answer may be of before");
        directory.enter_since(directory.forgotten(), &key, ShardId(3));
        assert_eq!(directory.get(&key), Some(ShardId(3)));
        assert_eq!(key_text(&KeyValue::Text(b"\xff".as_slice().into())), None);
    }
}
