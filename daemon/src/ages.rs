//! The order in which things began, for finding the oldest; each can end at any time.
//!
//! Owns: a doubly linked list in one table, so that a beginning and an end cost the same however many there are, and take
//! no memory once the table is as long as the list ever was. Must not know what began.

/// A place in an [`Ages`]. Only the one who was given it may end it, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age(u32);

impl Default for Age {
    /// Of nothing that has begun.
    fn default() -> Self {
        Self(NONE)
    }
}

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Entry<T> {
    /// Nothing while the place is free.
    value: Option<T>,
    older: u32,
    /// The next free place while this one is free.
    newer: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ages<T> {
    entries: Vec<Entry<T>>,
    oldest: u32,
    newest: u32,
    free: u32,
    len: usize,
}

impl<T> Default for Ages<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), oldest: NONE, newest: NONE, free: NONE, len: 0 }
    }
}

impl<T: Copy> Ages<T> {
    /// How many have begun and not ended.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What began first of all that have not ended.
    pub(crate) fn oldest(&self) -> Option<T> {
        self.entries.get(self.oldest as usize)?.value
    }

    /// Something begins.
    pub(crate) fn begin(&mut self, value: T) -> Age {
        let entry = Entry { value: Some(value), older: self.newest, newer: NONE };
        let place = match self.entries.get_mut(self.free as usize) {
            Some(free) => {
                let place = std::mem::replace(&mut self.free, free.newer);
                *free = entry;
                place
            }
            None => {
                self.entries.push(entry);
                // As many connections as this can't be open.
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        match self.entries.get_mut(self.newest as usize) {
            Some(before) => before.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
        self.len += 1;
        Age(place)
    }

    /// It has ended.
    pub(crate) fn end(&mut self, age: Age) {
        let Some(entry) = self.entries.get_mut(age.0 as usize) else { return };
        debug_assert!(entry.value.is_some(), "nothing ends twice");
        entry.value = None;
        let (older, newer) = (entry.older, std::mem::replace(&mut entry.newer, self.free));
        self.free = age.0;
        self.len -= 1;
        match self.entries.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer as usize) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_oldest_is_known_whatever_ends_in_between() {
        let mut ages = Ages::default();
        let [a, b, c] = ["a", "b", "c"].map(|value| ages.begin(value));
        ages.end(b);
        assert_eq!((ages.oldest(), ages.len()), (Some("a"), 2));
        ages.end(a);
        assert_eq!((ages.oldest(), ages.len()), (Some("c"), 1));
        let d = ages.begin("d");
        ages.end(c);
        assert_eq!((ages.oldest(), ages.len()), (Some("d"), 1));
        ages.end(d);
        assert_eq!((ages.oldest(), ages.len()), (None, 0));
    }

    #[test]
    fn places_are_used_again() {
        let mut ages = Ages::default();
        for round in 0..100 {
            let all: Vec<_> = (0..7).map(|value| ages.begin(round * 7 + value)).collect();
            // Each with the oldest that is left when it ends.
            for (index, oldest) in [(3, 0), (0, 0), (6, 1), (1, 1), (5, 2), (2, 2), (4, 4)] {
                assert_eq!(ages.oldest(), Some(round * 7 + oldest));
                ages.end(*all.get(index).unwrap());
            }
        }
        assert_eq!((ages.len(), ages.entries.len()), (0, 7));
    }
}
