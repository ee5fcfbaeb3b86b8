//! Statements and portals by the names that a client chooses, and the one of each that has no name.
//!
//! Why the nameless one lies beside the map: nearly every portal is it, and to hash its name, four times in a statement, cost more
//! than all else that is done with one.

use std::collections::HashMap;

/// The hash is seeded at random, and costs a twentieth of the standard one.
type Map<T> = HashMap<Box<[u8]>, T, foldhash::fast::RandomState>;

pub struct Names<T> {
    nameless: Option<T>,
    named: Map<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { nameless: None, named: Map::default() }
    }
}

impl<T> Names<T> {
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        if name.is_empty() { self.nameless.as_ref() } else { self.named.get(name) }
    }

    #[inline]
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        if name.is_empty() { self.nameless.as_mut() } else { self.named.get_mut(name) }
    }

    pub fn contains_key(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    #[inline]
    pub fn insert(&mut self, name: &[u8], value: T) {
        if name.is_empty() {
            self.nameless = Some(value);
        } else if let Some(known) = self.named.get_mut(name) {
            *known = value;
        } else {
            self.named.insert(name.into(), value);
        }
    }

    #[inline]
    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        if name.is_empty() { self.nameless.take() } else { self.named.remove(name) }
    }

    #[inline]
    pub fn clear(&mut self) {
        self.nameless = None;
        // Not without asking: clearing an empty map writes all of its table.
        if !self.named.is_empty() {
            self.named.clear();
        }
    }

    /// Forgets all that have a name.
    pub fn clear_named(&mut self) {
        self.named.clear();
    }

    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        if self.nameless.as_ref().is_some_and(|value| !keep(value)) {
            self.nameless = None;
        }
        if !self.named.is_empty() {
            self.named.retain(|_, value| keep(value));
        }
    }

    pub fn len(&self) -> usize {
        self.named.len() + usize::from(self.nameless.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many with a name there is room for.
    pub fn capacity(&self) -> usize {
        self.named.capacity()
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.nameless.iter().chain(self.named.values())
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.nameless.iter_mut().chain(self.named.values_mut())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        let nameless = self.nameless.iter().map(|value| (&b""[..], value));
        nameless.chain(self.named.iter().map(|(name, value)| (&**name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn the_nameless_one_is_one_of_them() {
        let mut names = Names::default();
        for (name, value) in [(&b"a"[..], 1), (b"", 2), (b"b", 3), (b"", 4), (b"a", 5)] {
            names.insert(name, value);
        }
        let all = |names: &Names<i32>| {
            let mut all: Vec<_> = names.iter().map(|(name, value)| (name.to_vec(), *value)).collect();
            all.sort();
            assert_eq!((all.len(), names.values().count()), (names.len(), names.len()));
            all
        };
        assert_eq!(all(&names), [(b"".to_vec(), 4), (b"a".to_vec(), 5), (b"b".to_vec(), 3)]);
        if let Some(value) = names.get_mut(b"") {
            *value = 6;
        }
        assert_eq!((names.get(b""), names.get(b"a"), names.get(b"c")), (Some(&6), Some(&5), None));
        assert_eq!((names.remove(b"a"), names.remove(b"a"), names.contains_key(b"b")), (Some(5), None, true));
        names.clear_named();
        assert_eq!(all(&names), [(b"".to_vec(), 6)]);
        assert_eq!((names.remove(b""), names.remove(b""), names.len()), (Some(6), None, 0));
        names.insert(b"", 7);
        names.clear();
        assert_eq!(names.len(), 0);
    }
}
