//! How much of each segment of the log is in use, and which of them can go.
//!
//! This file owns the sums. It must not know an index or a file.

use std::collections::{BTreeMap, BTreeSet};

/// One segment's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Of its file.
    pub(super) bytes: u64,
    /// Of values to which the index leads.
    pub(super) live: u64,
}

/// What comes into use and goes out of it in one commit of the index.
#[derive(Debug, Default)]
pub(super) struct Turnover(BTreeMap<u64, (u64, u64)>);

impl Turnover {
    /// A value of so many bytes is in use. Even one of none keeps its segment.
    pub(super) fn used(&mut self, segment: u64, bytes: u32) {
        self.0.entry(segment).or_default().0 += u64::from(bytes) + 1;
    }

    /// How much comes into use, by segment.
    pub(super) fn into_used(self) -> impl Iterator<Item = (u64, u64)> {
        self.0.into_iter().map(|(segment, (used, _))| (segment, used))
    }

    /// It is not any more.
    pub(super) fn freed(&mut self, segment: u64, bytes: u32) {
        self.0.entry(segment).or_default().1 += u64::from(bytes) + 1;
    }
}

/// All segments, the one that is written to included.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage(BTreeMap<u64, Room>);

impl Usage {
    /// A segment that is there, with what the index says of it.
    pub(super) fn put(&mut self, segment: u64, room: Room) {
        self.0.insert(segment, room);
    }

    pub(super) fn set_bytes(&mut self, segment: u64, bytes: u64) {
        self.0.entry(segment).or_default().bytes = bytes;
    }

    pub(super) fn live(&self, segment: u64) -> u64 {
        self.0.get(&segment).map_or(0, |room| room.live)
    }

    pub(super) fn forget(&mut self, segment: u64) {
        self.0.remove(&segment);
    }

    /// Takes up a turnover. Returns the segments of which something changed.
    pub(super) fn turn_over(&mut self, turnover: &Turnover) -> BTreeSet<u64> {
        for (segment, (used, freed)) in &turnover.0 {
            // One that is lost holds nothing, whatever leads there.
            if let Some(room) = self.0.get_mut(segment) {
                room.live = (room.live + used).saturating_sub(*freed);
            }
        }
        turnover.0.keys().copied().collect()
    }

    /// The segments of which something is in use.
    pub(super) fn used(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|(_, room)| room.live > 0).map(|(number, _)| *number)
    }

    /// The segments before this one of which nothing is in use.
    pub(super) fn unused_before(&self, segment: u64) -> Vec<u64> {
        self.0.range(..segment).filter(|(_, room)| room.live == 0).map(|(number, _)| *number).collect()
    }

    /// While `unused_max` bytes more are unused than used: the oldest segment before this one of which less than half is in use, and
    /// that is not among those to pass over.
    pub(super) fn sparse_before(
        &self,
        segment: u64,
        unused_max: u64,
        pass_over: &BTreeSet<u64>,
    ) -> Option<u64> {
        let (bytes, live) =
            self.0.values().fold((0, 0), |(bytes, live), room| (bytes + room.bytes, live + room.live));
        if bytes.saturating_sub(live) <= live + unused_max {
            return None;
        }
        let sparse = self.0.range(..segment).filter(|(_, room)| room.live < room.bytes / 2);
        sparse.map(|(number, _)| *number).find(|number| !pass_over.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(rooms: &[(u64, u64, u64)]) -> Usage {
        Usage(rooms.iter().map(|&(segment, bytes, live)| (segment, Room { bytes, live })).collect())
    }

    #[test]
    fn counts_once_what_comes_and_goes_in_one_segment() {
        let mut usage = usage(&[(1, 1_000, 501), (2, 1_000, 0)]);
        let mut turnover = Turnover::default();
        turnover.used(1, 99);
        turnover.freed(1, 399);
        turnover.used(2, 0);
        assert_eq!(usage.turn_over(&turnover), BTreeSet::from([1, 2]));
        assert_eq!((usage.live(1), usage.live(2)), (201, 1));
        assert_eq!(usage.unused_before(3), []);
        let mut turnover = Turnover::default();
        turnover.freed(2, 0);
        turnover.freed(7, 10);
        usage.turn_over(&turnover);
        assert_eq!((usage.unused_before(3), usage.unused_before(2)), (vec![2], vec![]));
    }

    #[test]
    fn finds_sparse_ones_only_where_too_much_is_unused() {
        let usage = usage(&[(1, 100, 60), (2, 100, 40), (3, 100, 10), (4, 100, 0)]);
        let none = BTreeSet::new();
        assert_eq!(usage.sparse_before(4, 180, &none), None);
        assert_eq!(usage.sparse_before(4, 179, &none), Some(2));
        assert_eq!(usage.sparse_before(4, 179, &BTreeSet::from([2])), Some(3));
        assert_eq!(usage.sparse_before(3, 179, &BTreeSet::from([2])), None);
    }
}
