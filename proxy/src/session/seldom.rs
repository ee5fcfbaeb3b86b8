//! A map that most clients never put anything into: until somebody does it is one word, for there are many clients.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

#[expect(clippy::box_collection, reason = "a map without anything in it is still five words long")]
pub struct Seldom<K, V>(Option<Box<HashMap<K, V, foldhash::fast::RandomState>>>);

impl<K, V> Default for Seldom<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Hash + Eq, V> Seldom<K, V> {
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|map| map.is_empty())
    }

    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.as_ref()?.get(key)
    }

    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.as_mut()?.get_mut(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.0.get_or_insert_default().insert(key, value);
    }

    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(map) = &mut self.0 {
            map.remove(key);
        }
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(|map| map.values())
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }
}
