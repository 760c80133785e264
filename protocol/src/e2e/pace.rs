//! How often one may start a session with a peer: an INIT costs the peer a one-time prekey and two
//! private operations, and a relay that fakes rejections must not be able to make them a flood.
//!
//! This file owns that rule and what it remembers. It must not know sessions. Source: spec/crypto.md,
//! "When to start a session".

use super::codec::{Corrupt, Reader, Writer};
use super::limits::{INIT_INTERVAL_MS_MAX, INIT_INTERVAL_MS_MIN};

/// What is remembered of one's own INITs to one peer.
#[derive(Default)]
pub(crate) struct Pace {
    /// When the last was made.
    last_ms: Option<u64>,
    /// How many were made since a receipt last verified, not counting successors of full chains.
    unanswered: u8,
    /// The next INIT uses no one-time prekey: the last session was rejected.
    without_opk: bool,
}

impl Pace {
    /// Whether an INIT may be made at `now_ms`. It always may to succeed a full chain: a thousand
    /// messages went before it.
    ///
    /// # Errors
    /// From when on it may, Unix milliseconds.
    pub(crate) fn check(&self, now_ms: u64, chain_full: bool) -> Result<(), u64> {
        let Some(last_ms) = self.last_ms else { return Ok(()) };
        let doublings = u32::from(self.unanswered.saturating_sub(1)).min(u64::BITS / 2);
        let interval_ms = (INIT_INTERVAL_MS_MIN << doublings).min(INIT_INTERVAL_MS_MAX);
        let until_ms = last_ms.saturating_add(interval_ms);
        // A clock that was set back past the last INIT must not block the peer until then.
        let waiting = (last_ms..until_ms).contains(&now_ms);
        if waiting && !chain_full { Err(until_ms) } else { Ok(()) }
    }

    pub(crate) fn uses_opk(&self) -> bool {
        !self.without_opk
    }

    pub(crate) fn init_made(&mut self, now_ms: u64, chain_full: bool) {
        self.last_ms = Some(now_ms);
        self.without_opk = false;
        if !chain_full {
            self.unanswered = self.unanswered.saturating_add(1);
        }
    }

    pub(crate) fn receipt_verified(&mut self) {
        self.unanswered = 0;
    }

    pub(crate) fn rejected(&mut self) {
        self.without_opk = true;
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.bool(self.last_ms.is_some());
        out.u64(self.last_ms.unwrap_or_default());
        out.u8(self.unanswered);
        out.bool(self.without_opk);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let made = input.bool()?;
        let last_ms = input.u64()?;
        Ok(Self { last_ms: made.then_some(last_ms), unanswered: input.u8()?, without_opk: input.bool()? })
    }
}
