//! A simulator of the end-to-end layer: two or three users over a model relay, in virtual time, from one
//! seed. The code that encrypts, decrypts, paces and judges is the real one; the relay and the client around
//! it are models, so that everything that whoever holds the relay, the disk or the clock can do is done.
//!
//! Owns: [`run`], one seed, and what is counted. Where to go next: `shape` (what a seed is), `world`
//! (what happens), `client`, `dispatch` and `mailbox` (the model client), `relay` and `lies` (the model relay),
//! `checks` (what must hold), `offline` (10,000 messages to who is not there). docs/sessions.md is the
//! page about it.

mod checks;
mod client;
mod dispatch;
mod frames;
mod home;
pub(crate) mod keys;
mod lies;
mod mailbox;
mod offline;
mod relay;
mod shape;
mod thief;
mod world;

use crate::seeds::run_one;
pub(crate) use keys::identity;
pub use keys::make_keys;
pub use offline::{Report, Trouble, offline};

/// A user, by position in [`NAMES`].
type Who = usize;
const NAMES: [&str; 3] = ["alice", "bob", "carol"];

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// When every seed begins.
const START_MS: u64 = 1_790_000_000_000;

/// What happened in one seed or in many.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Seeds.
    pub seeds: u64,
    /// Messages that were written.
    pub messages: u64,
    /// Messages that were shown.
    pub shown: u64,
    /// Empty messages.
    pub empty: u64,
    /// Envelopes that were made.
    pub envelopes: u64,
    /// Sessions that were started.
    pub inits: u64,
    /// Steps that were made.
    pub steps: u64,
    /// Private operations of those who received.
    pub decryptions: u64,
    /// Signatures of prekeys and sessions.
    pub signatures: u64,
    /// Envelopes that were not opened.
    pub rejects: u64,
    /// Messages that were given up with a report.
    pub reported: u64,
    /// States that were put back or lost.
    pub replaced: u64,
    /// Lies, crashes, replays, clocks set, and states replaced.
    pub faults: u64,
    /// Virtual time.
    pub milliseconds: u64,
    /// The longest that outboxes took to drain once faults had stopped.
    pub longest_drain_ms: u64,
}

/// What came of a seed.
pub type Outcome = crate::seeds::Outcome<Counts>;

/// Runs one seed; with `trace` it tells on standard error what happens.
#[must_use]
pub fn run(seed: u64, trace: bool) -> Outcome {
    run_one(|| world::run(seed, trace))
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            seeds: self.seeds + other.seeds,
            messages: self.messages + other.messages,
            shown: self.shown + other.shown,
            empty: self.empty + other.empty,
            envelopes: self.envelopes + other.envelopes,
            inits: self.inits + other.inits,
            steps: self.steps + other.steps,
            decryptions: self.decryptions + other.decryptions,
            signatures: self.signatures + other.signatures,
            rejects: self.rejects + other.rejects,
            reported: self.reported + other.reported,
            replaced: self.replaced + other.replaced,
            faults: self.faults + other.faults,
            milliseconds: self.milliseconds + other.milliseconds,
            longest_drain_ms: self.longest_drain_ms.max(other.longest_drain_ms),
        }
    }

    /// One JSON object.
    #[must_use]
    pub fn json(&self, violations: usize) -> String {
        format!(
            "{{\"seeds\":{},\"messages\":{},\"shown\":{},\"empty\":{},\"envelopes\":{},\"inits\":{},\"steps\":{},\
             \"decryptions\":{},\"signatures\":{},\"rejects\":{},\"reported\":{},\"faults\":{},\"virtual_hours\":{},\"longest_drain_hours\":{:.1},\
             \"violations\":{violations}}}",
            self.seeds,
            self.messages,
            self.shown,
            self.empty,
            self.envelopes,
            self.inits,
            self.steps,
            self.decryptions,
            self.signatures,
            self.rejects,
            self.reported,
            self.faults,
            self.milliseconds / HOUR_MS,
            self.longest_drain_ms as f64 / HOUR_MS as f64,
        )
    }
}
