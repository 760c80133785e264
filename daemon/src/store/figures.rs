//! What the store counts of itself: commits and reads, how long they take, and how often it fails.
//!
//! Owns: the counts, which its threads add to and anybody may look at. Must not know how they are shown.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets in which durations are counted, microseconds. What takes longer is in one more.
pub const BUCKETS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

const BUCKETS: usize = BUCKETS_US.len() + 1;

/// What is known of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Batches that were committed, or could not be, and how long each took.
    pub commits: Durations,
    /// Questions that were answered from the disk, and how long each took.
    pub reads: Durations,
    /// Times that the store stopped working: a commit or a read failed.
    pub failures: u64,
    /// It has, and is to be opened again.
    pub is_failing: bool,
    /// Bytes of messages that were submitted and are not answered yet.
    pub in_flight_bytes: usize,
    /// The disk has too little room for anything new.
    pub disk_is_low: bool,
}

/// How long something took, each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How often it took no longer than the bucket's end and longer than the one before; then how often longer than all.
    pub counts: [u64; BUCKETS],
    /// All of them together, microseconds.
    pub sum_us: u64,
}

impl Durations {
    /// How often it happened.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The end of the bucket below which this part of them (of a thousand) lies, microseconds. `None` if there are none, or
    /// if it is longer than all ends.
    #[must_use]
    pub fn below_us(&self, per_mille: u64) -> Option<u64> {
        let wanted = (self.count() * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        BUCKETS_US.iter().zip(&self.counts).find_map(|(end_us, count)| {
            seen += count;
            (seen >= wanted).then_some(*end_us)
        })
    }
}

/// What the threads add to.
#[derive(Debug, Default)]
pub(super) struct Meters {
    pub(super) commits: Stopwatch,
    pub(super) reads: Stopwatch,
    failures: AtomicU64,
    is_failing: AtomicBool,
}

impl Meters {
    /// Whether the store fails, as its one thread that commits sees it now.
    pub(super) fn note_failing(&self, is_failing: bool) {
        let was_failing = self.is_failing.swap(is_failing, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(is_failing && !was_failing), Ordering::Relaxed);
    }

    /// What was counted, and nothing of what others know.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            commits: self.commits.durations(),
            reads: self.reads.durations(),
            failures: self.failures.load(Ordering::Relaxed),
            is_failing: self.is_failing.load(Ordering::Relaxed),
            ..Figures::default()
        }
    }
}

/// Durations of one kind.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Stopwatch {
    pub(super) fn note(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // The buckets are in order: it is in the first whose end it does not pass.
        let bucket = BUCKETS_US.partition_point(|end_us| *end_us < took_us);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    fn durations(&self) -> Durations {
        Durations {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_bucket_whose_end_it_does_not_pass() {
        let watch = Stopwatch::default();
        for took_us in [0, 500, 501, 9_999_999, 10_000_000, 10_000_001] {
            watch.note(Duration::from_micros(took_us));
        }
        let durations = watch.durations();
        assert_eq!(durations.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        assert_eq!((durations.count(), durations.sum_us), (6, 30_001_001));
        assert_eq!(durations.below_us(500), Some(1_000));
        assert_eq!((durations.below_us(1), durations.below_us(1_000)), (Some(500), None));
        assert_eq!(Durations::default().below_us(990), None);
    }

    #[test]
    fn a_failure_is_counted_once_until_it_is_over() {
        let meters = Meters::default();
        for is_failing in [false, true, true, false, true] {
            meters.note_failing(is_failing);
        }
        let figures = meters.figures();
        assert_eq!((figures.failures, figures.is_failing), (2, true));
    }
}
