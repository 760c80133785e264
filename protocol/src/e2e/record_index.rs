//! Where among the records of a peer those with a given key lie: an open hash table of positions.
//!
//! It is made from the records when they are read, and is not kept. Four bytes an entry: with a map of the
//! keys themselves, reading a full history would cost four times as much. This file owns the table. It must not
//! know what a record is: what lies at a position is compared by the caller.

use std::hash::{BuildHasher, RandomState};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// Positions, counted from 0, by key.
pub(crate) struct RecordIndex {
    /// One more than a position, or 0 for none. A power of two of them, at most half of them taken.
    slots: Vec<u32>,
    taken: usize,
    /// Peers choose what is hashed. Without this they can't tell which keys meet.
    secret: [u64; 2],
}

impl Default for RecordIndex {
    fn default() -> Self {
        Self::with_room(0)
    }
}

impl RecordIndex {
    /// Room for so many, and some more.
    pub(crate) fn with_room(positions: usize) -> Self {
        let state = RandomState::new();
        let slots = vec![0; (positions * 2 + 256).next_power_of_two()];
        Self { slots, taken: 0, secret: [state.hash_one(0) | 1, state.hash_one(1) | 1] }
    }

    /// Whether it has to be made anew before another one goes in.
    pub(crate) fn is_full(&self) -> bool {
        self.taken * 2 >= self.slots.len()
    }

    /// Adds one. A key may have several.
    pub(crate) fn insert(&mut self, key: &[u8; KEY_BYTES], position: usize) {
        debug_assert!(!self.is_full());
        let free = self.way(key).find(|at| self.slots.get(*at) == Some(&0));
        if let (Some(at), Ok(entry)) = (free, u32::try_from(position + 1))
            && let Some(slot) = self.slots.get_mut(at)
        {
            *slot = entry;
            self.taken += 1;
        }
    }

    /// All positions of a key, and maybe some of others.
    pub(crate) fn candidates(&self, key: &[u8; KEY_BYTES]) -> impl Iterator<Item = usize> {
        let entries = self.way(key).map_while(|at| self.slots.get(at));
        entries.take_while(|entry| **entry != 0).map(|entry| *entry as usize - 1)
    }

    /// The slots that a key may be in, in the order in which they are looked at.
    fn way(&self, key: &[u8; KEY_BYTES]) -> impl Iterator<Item = usize> + use<> {
        let [a, b] = self.secret;
        let key = u128::from_be_bytes(*key);
        #[allow(clippy::cast_possible_truncation)] // its halves
        let (high, low) = ((key >> 64) as u64, key as u64);
        let product = u128::from(high ^ b).wrapping_mul(u128::from(low ^ a) | 1 << 64);
        #[allow(clippy::cast_possible_truncation)] // as many bits as there are slots count
        let start = (((product >> 64) as u64 ^ product as u64).wrapping_mul(a) >> 32) as usize;
        let mask = self.slots.len() - 1;
        (0..=mask).map(move |step| (start + step) & mask)
    }
}
