//! Deadlines, each named by what it is for.
//!
//! Owns: the queue of deadlines. Must not know what happens at one: the core looks, when one comes,
//! whether there is still a reason for it, and sets it anew if it is only too early.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ConnId;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
pub(crate) struct Timers(BinaryHeap<Reverse<(u64, Timer)>>);

impl Timers {
    pub(crate) fn set(&mut self, at_ms: u64, timer: Timer) {
        self.0.push(Reverse((at_ms, timer)));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets those that are not wanted any more.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&Timer) -> bool) {
        self.0.retain(|Reverse((_, timer))| is_wanted(timer));
        self.0.shrink_to_fit();
    }

    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at_ms, _))| *at_ms)
    }

    /// One that is due, if any is.
    pub(crate) fn poll(&mut self, now_ms: u64) -> Option<Timer> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer))| timer)
    }
}
