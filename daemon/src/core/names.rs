//! Which slot a name has, as a table of slots: the names themselves lie with the users.
//!
//! Owns: the hash table, open addressing with linear probing. It keeps 32 bits of each hash, so that it grows without looking
//! at a name, and hardly ever asks for one that is not the one sought. Hashes are keyed: nobody can choose names that
//! meet. Must not know users: whether a slot has a name is asked of the caller.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

use e2e_protocol::ids::Name;

/// Places of the smallest table. Always a power of two.
const PLACES_MIN: usize = 16;
/// At most so many of [`OF`] places are used, so that probing stays short.
const USED: usize = 3;
const OF: usize = 4;

/// What one name takes at most, bytes: the table has just doubled.
pub(super) const PLACES_BYTES_PER_NAME: usize = size_of::<Option<Place>>() * 2 * OF / USED + 1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    places: Vec<Option<Place>>,
    count: usize,
    keys: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The lower half of the name's hash; never zero, which makes an empty place as small.
    hash: NonZeroU32,
    slot: u32,
}

impl Names {
    pub(super) fn with_capacity(count: usize) -> Self {
        let places = (count * OF / USED + 1).next_power_of_two().max(PLACES_MIN);
        Self { places: vec![None; places], ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The slot of a name; `has_it` says whether a slot is that name's.
    pub(super) fn slot_of(&self, name: &Name, has_it: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hash(name);
        self.find(hash, |place| place.hash == hash && has_it(place.slot)).map(|(_, slot)| slot)
    }

    /// Adds a name that is not there.
    pub(super) fn insert(&mut self, name: &Name, slot: u32) {
        if (self.count + 1) * OF > self.places.len() * USED {
            self.grow();
        }
        self.count += 1;
        let hash = self.hash(name);
        self.put(Place { hash, slot });
    }

    /// Forgets a name that has this slot.
    pub(super) fn remove(&mut self, name: &Name, slot: u32) {
        let Some((mut hole, _)) = self.find(self.hash(name), |place| place.slot == slot) else { return };
        self.count -= 1;
        // What was put further on because this place was taken moves up, so that it is found.
        let mut index = hole;
        loop {
            index = self.wrap(index + 1);
            let Some(place) = self.at(index) else { break };
            let home = self.home(place.hash);
            if self.wrap(index.wrapping_sub(home)) >= self.wrap(index.wrapping_sub(hole)) {
                self.set(hole, Some(place));
                hole = index;
            }
        }
        self.set(hole, None);
    }

    fn grow(&mut self) {
        let places = (self.places.len() * 2).max(PLACES_MIN);
        let before = std::mem::replace(&mut self.places, vec![None; places]);
        for place in before.into_iter().flatten() {
            self.put(place);
        }
    }

    /// The place that is sought, and what is in it. There is an empty place, where a search ends at the latest.
    fn find(&self, hash: NonZeroU32, is_it: impl Fn(Place) -> bool) -> Option<(usize, u32)> {
        let mut index = self.home(hash);
        loop {
            let place = self.at(index)?;
            if is_it(place) {
                return Some((index, place.slot));
            }
            index = self.wrap(index + 1);
        }
    }

    fn put(&mut self, place: Place) {
        let mut index = self.home(place.hash);
        while self.at(index).is_some() {
            index = self.wrap(index + 1);
        }
        self.set(index, Some(place));
    }

    fn hash(&self, name: &Name) -> NonZeroU32 {
        // The upper half is cut off.
        NonZeroU32::new(self.keys.hash_one(name) as u32).unwrap_or(NonZeroU32::MIN)
    }

    /// Where a search begins.
    fn home(&self, hash: NonZeroU32) -> usize {
        self.wrap(hash.get() as usize)
    }

    fn wrap(&self, index: usize) -> usize {
        index & self.places.len().wrapping_sub(1)
    }

    fn at(&self, index: usize) -> Option<Place> {
        self.places.get(index).copied().flatten()
    }

    fn set(&mut self, index: usize, to: Option<Place>) {
        if let Some(place) = self.places.get_mut(index) {
            *place = to;
        }
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

    /// Compares with a table that is known to work.
    fn check(names: &Names, expected: &HashMap<Name, u32>, up_to: u32) {
        assert_eq!(names.len(), expected.len());
        for index in 0..up_to {
            let found = names.slot_of(&name(index), |slot| expected.get(&name(index)) == Some(&slot));
            assert_eq!(found, expected.get(&name(index)).copied(), "name{index}");
        }
    }

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let (mut names, mut expected) = (Names::with_capacity(0), HashMap::new());
        // Of 700 places up to three quarters are used, then most are emptied again, many times over.
        for round in 0..20_u32 {
            for index in 0..700 {
                expected.entry(name(index)).or_insert_with(|| {
                    names.insert(&name(index), round * 700 + index);
                    round * 700 + index
                });
            }
            for index in (0..700).filter(|index| (index + round) % 7 != 0) {
                names.remove(&name(index), expected.remove(&name(index)).unwrap());
            }
            check(&names, &expected, 800);
        }
        assert_eq!(names.places.len(), 1_024, "what is removed leaves nothing behind that makes it grow");
    }

    #[test]
    fn tells_names_of_one_hash_apart() {
        let mut names = Names::with_capacity(0);
        let hash = names.hash(&name(1));
        names.insert(&name(1), 1);
        names.count += 1;
        names.put(Place { hash, slot: 2 });
        assert_eq!(names.slot_of(&name(1), |slot| slot == 2), Some(2));
        names.remove(&name(1), 1);
        assert_eq!(names.slot_of(&name(1), |slot| slot == 2), Some(2));
        assert_eq!(names.slot_of(&name(1), |slot| slot == 1), None);
    }

    #[test]
    fn finds_nothing_in_a_new_table() {
        assert_eq!(Names::default().slot_of(&name(1), |_| true), None);
        assert_eq!(Names::with_capacity(0).slot_of(&name(1), |_| true), None);
    }
}
