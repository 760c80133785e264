//! How often something may be done: a token bucket for each (who, what).
//!
//! Owns: the buckets. Each is one time, by the generic cell rate algorithm: when the bucket will be full again.
//! One that is full is the same as one that is not remembered, so nothing is kept of who does little. The table
//! is bounded: when it is full, the bucket that was begun first is forgotten, and its owner starts with a full one. Who can
//! fill the table with addresses or names has as many buckets anyway.

use std::collections::{HashMap, VecDeque};

use crate::address::AddressKey;

/// What is counted, for whom. Names are meant by their slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// An address opens a connection.
    Connect(AddressKey),
    /// A signature in a PROOF from this address is verified.
    Login(AddressKey),
    /// An address claims a name.
    Register(AddressKey),
    /// A name asks the directory.
    Lookup(u32),
    /// A name publishes prekeys.
    Publish(u32),
    /// A name blocks another, or no longer.
    Block(u32),
    /// A name rolls over, or is removed.
    Change(u32),
    /// A name is handed a one-time prekey.
    TakePrekey(u32),
    /// One of this name's one-time prekeys is handed out.
    GivePrekey(u32),
    /// The first name is handed one of the second's.
    TakePrekeyOf(u32, u32),
}

/// So many in such a time: at once, if it was not done for so long, and evenly from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) count: u64,
    pub(super) period_ms: u64,
}

pub(super) const fn per_minute(count: u64) -> Rate {
    Rate { count, period_ms: 60_000 }
}

pub(super) const fn per_hour(count: u64) -> Rate {
    Rate { count, period_ms: 3_600_000 }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rates {
    /// When each bucket is full again, microseconds of the monotonic clock.
    full_us: HashMap<Act, u64>,
    /// What is in the table, in the order in which it came there.
    order: VecDeque<Act>,
    entries_max: usize,
}

/// Buckets that are looked at for each new one, whether they are full again. More than one, so that the table shrinks.
const LOOKED_AT: usize = 2;

impl Rates {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { full_us: HashMap::new(), order: VecDeque::new(), entries_max }
    }

    /// So many are remembered from now on.
    pub(super) fn set_entries_max(&mut self, entries_max: usize) {
        self.entries_max = entries_max;
    }

    /// Does it once, or says in how many seconds, rounded up, it may be done.
    pub(super) fn take(&mut self, act: Act, rate: Rate, now_ms: u64) -> Result<(), u32> {
        self.check(act, rate, now_ms)?;
        let now_us = now_ms.saturating_mul(1_000);
        let interval_us = rate.period_ms.saturating_mul(1_000) / rate.count.max(1);
        if let Some(full_us) = self.full_us.get_mut(&act) {
            *full_us = (*full_us).max(now_us).saturating_add(interval_us);
            return Ok(());
        }
        self.forget(now_us);
        self.full_us.insert(act, now_us.saturating_add(interval_us));
        self.order.push_back(act);
        Ok(())
    }

    /// Whether it may be done once, or in how many seconds, rounded up.
    pub(super) fn check(&self, act: Act, rate: Rate, now_ms: u64) -> Result<(), u32> {
        let now_us = now_ms.saturating_mul(1_000);
        let period_us = rate.period_ms.saturating_mul(1_000);
        let interval_us = period_us / rate.count.max(1);
        let full_us = self.full_us.get(&act).copied().unwrap_or(0).max(now_us);
        let wait_us = (full_us + interval_us).saturating_sub(now_us + period_us);
        if wait_us == 0 {
            return Ok(());
        }
        Err(u32::try_from(wait_us.div_ceil(1_000_000)).unwrap_or(u32::MAX))
    }

    /// Makes room for one more.
    fn forget(&mut self, now_us: u64) {
        for _ in 0..LOOKED_AT {
            let Some(oldest) = self.order.pop_front() else { return };
            let is_full = self.full_us.get(&oldest).is_none_or(|full_us| *full_us <= now_us);
            if is_full || self.order.len() + 1 >= self.entries_max {
                self.full_us.remove(&oldest);
            } else {
                self.order.push_back(oldest);
            }
        }
    }
}
