//! Which slot a name has, as a table of slots: the names themselves lie with the users.
//!
//! Owns: the table. It keeps 32 bits of each hash, so that it grows without looking at a name, and hardly ever asks for one
//! that is not the one sought. Hashes are keyed: nobody can choose names that meet. Must not know users: whether a slot has
//! a name is asked of the caller.

use std::hash::{BuildHasher, RandomState};

use e2e_protocol::ids::Name;
use hashbrown::HashTable;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    entries: HashTable<Entry>,
    keys: RandomState,
}

/// One name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    hash: u32,
    slot: u32,
}

impl Entry {
    /// As the table wants it: it finds a place by the lower bits, and tells entries apart by the upper ones.
    fn wide_hash(&self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }
}

impl Names {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { entries: HashTable::with_capacity(count), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The slot of a name; `has_it` says whether a slot is that name's.
    pub(super) fn slot_of(&self, name: &Name, has_it: impl Fn(u32) -> bool) -> Option<u32> {
        let sought = self.entry(name, 0);
        let is_it = |entry: &Entry| entry.hash == sought.hash && has_it(entry.slot);
        self.entries.find(sought.wide_hash(), is_it).map(|entry| entry.slot)
    }

    /// Adds a name that is not there.
    pub(super) fn insert(&mut self, name: &Name, slot: u32) {
        let entry = self.entry(name, slot);
        self.entries.insert_unique(entry.wide_hash(), entry, Entry::wide_hash);
    }

    /// Forgets a name that has this slot.
    pub(super) fn remove(&mut self, name: &Name, slot: u32) {
        let hash = self.entry(name, slot).wide_hash();
        if let Ok(entry) = self.entries.find_entry(hash, |entry| entry.slot == slot) {
            entry.remove();
        }
    }

    fn entry(&self, name: &Name, slot: u32) -> Entry {
        // The upper half of the hash is cut off.
        Entry { hash: self.keys.hash_one(name) as u32, slot }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use super::*;

    fn name(index: u32) -> Name {
        format!("name{index}").parse().unwrap()
    }

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let (mut names, mut expected) = (Names::with_capacity(0), HashMap::new());
        for round in 0..20_u32 {
            for index in 0..700 {
                expected.entry(index).or_insert_with(|| {
                    names.insert(&name(index), round * 700 + index);
                    round * 700 + index
                });
            }
            for index in (0..700).filter(|index| (index + round) % 7 != 0) {
                names.remove(&name(index), expected.remove(&index).unwrap());
            }
            assert_eq!(names.len(), expected.len());
            for index in 0..800 {
                let found = names.slot_of(&name(index), |slot| expected.get(&index) == Some(&slot));
                assert_eq!(found, expected.get(&index).copied(), "name{index}");
            }
        }
    }

    #[test]
    fn tells_names_of_one_hash_apart() {
        let mut names = Names::default();
        names.insert(&name(1), 1);
        let met = names.entry(&name(1), 2);
        names.entries.insert_unique(met.wide_hash(), met, Entry::wide_hash);
        assert_eq!(names.slot_of(&name(1), |slot| slot == 2), Some(2));
        names.remove(&name(1), 1);
        assert_eq!(names.slot_of(&name(1), |slot| slot == 2), Some(2));
        assert_eq!(names.slot_of(&name(1), |slot| slot == 1), None);
    }
}
