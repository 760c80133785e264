//! Deadlines, each named by what it is for.
//!
//! Owns: the queue of deadlines. Must not know what happens at one: the core looks, when one comes,
//! whether there is still a reason for it, and sets it anew if it is only too early.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use super::ConnId;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// When to give up a connection whose PROOF has not come.
    Login(ConnId),
    /// When to look whether a peer was heard.
    Keepalive(ConnId),
    /// When to look whether a connection with output has taken some.
    SlowReader(ConnId),
    /// When to cut a connection that ends, or whose peer sends no more.
    Linger(ConnId),
    /// When to store what was forwarded to this slot's user and is not acknowledged.
    AckWait(u32),
    /// When to tell of this slot's user's presence who watches it.
    Presence(u32),
    /// When to look for messages whose time ran out while their recipients are away.
    Expiry,
    /// When to try the store again.
    StoreRetry,
    /// When to stop, drained or not.
    Stop,
}

/// All deadlines, in milliseconds of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<Deadline>>);

/// One of them, as small as it can be: each connection has one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    /// The milliseconds, and in the last [`KIND_BITS`] what it is for.
    at_and_kind: u64,
    /// The connection's, or the slot.
    index: u32,
    generation: u32,
}

const KIND_BITS: u32 = 8;

impl Deadline {
    fn new(at_ms: u64, timer: Timer) -> Self {
        let (kind, index, generation) = match timer {
            Timer::Login(id) => (0, id.index, id.generation.get()),
            Timer::Keepalive(id) => (1, id.index, id.generation.get()),
            Timer::SlowReader(id) => (2, id.index, id.generation.get()),
            Timer::Linger(id) => (3, id.index, id.generation.get()),
            Timer::AckWait(slot) => (4, slot, 0),
            Timer::Presence(slot) => (5, slot, 0),
            Timer::Expiry => (6, 0, 0),
            Timer::StoreRetry => (7, 0, 0),
            Timer::Stop => (8, 0, 0),
        };
        Self { at_and_kind: at_ms.min(u64::MAX >> KIND_BITS) << KIND_BITS | kind, index, generation }
    }

    fn at_ms(self) -> u64 {
        self.at_and_kind >> KIND_BITS
    }

    fn timer(self) -> Timer {
        let slot = self.index;
        // What belongs to a connection has the generation that was put in.
        let generation = NonZeroU32::new(self.generation).unwrap_or(NonZeroU32::MIN);
        let id = ConnId { index: self.index, generation };
        match self.at_and_kind & ((1 << KIND_BITS) - 1) {
            0 => Timer::Login(id),
            1 => Timer::Keepalive(id),
            2 => Timer::SlowReader(id),
            3 => Timer::Linger(id),
            4 => Timer::AckWait(slot),
            5 => Timer::Presence(slot),
            6 => Timer::Expiry,
            7 => Timer::StoreRetry,
            _ => Timer::Stop,
        }
    }
}

impl Timers {
    pub(crate) fn set(&mut self, at_ms: u64, timer: Timer) {
        self.0.push(Reverse(Deadline::new(at_ms, timer)));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets those that are not wanted any more.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&Timer) -> bool) {
        self.0.retain(|Reverse(deadline)| is_wanted(&deadline.timer()));
        self.0.shrink_to_fit();
    }

    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse(deadline)| deadline.at_ms())
    }

    /// One that is due, if any is.
    pub(crate) fn poll(&mut self, now_ms: u64) -> Option<Timer> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.0.pop().map(|Reverse(deadline)| deadline.timer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_back_as_it_was_set_and_in_order() {
        let id = ConnId { index: u32::MAX, generation: NonZeroU32::MAX };
        let all = [
            Timer::Login(id),
            Timer::Keepalive(id),
            Timer::SlowReader(id),
            Timer::Linger(id),
            Timer::AckWait(u32::MAX),
            Timer::Presence(7),
            Timer::Expiry,
            Timer::StoreRetry,
            Timer::Stop,
        ];
        let mut timers = Timers::default();
        for (at_ms, timer) in (1..).zip(all).collect::<Vec<_>>().into_iter().rev() {
            timers.set(at_ms, timer);
        }
        for (at_ms, timer) in (1..).zip(all) {
            assert_eq!((timers.next_ms(), timers.poll(at_ms - 1)), (Some(at_ms), None));
            assert_eq!(timers.poll(at_ms), Some(timer));
        }
        assert_eq!(timers.poll(u64::MAX), None);
    }

    #[test]
    fn what_is_set_beyond_all_time_never_comes_early() {
        let mut timers = Timers::default();
        timers.set(u64::MAX, Timer::Stop);
        timers.set(5, Timer::Expiry);
        assert_eq!((timers.poll(5), timers.poll(1 << 50)), (Some(Timer::Expiry), None));
    }
}
