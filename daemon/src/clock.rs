//! The relay's clock.
//!
//! Owns: the only reading of time. It starts at the system's time, but never before what the store
//! was last given, and from then on follows the monotonic clock: a step of the system's time changes
//! nothing while the relay runs, and no restart makes it run backwards.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::core::Now;

/// See the module.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    relay_ms_at_start: u64,
}

impl Clock {
    /// A clock that never shows less than `stored_ms`, Unix milliseconds.
    #[must_use]
    pub fn start(stored_ms: u64) -> Self {
        Self { started: Instant::now(), relay_ms_at_start: system_ms().max(stored_ms) }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        let monotonic_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { monotonic_ms, relay_ms: self.relay_ms_at_start.saturating_add(monotonic_ms) }
    }
}

/// The system's time, Unix milliseconds; zero before 1970.
#[must_use]
pub fn system_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
