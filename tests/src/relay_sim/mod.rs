//! A simulator of the relay: its real core and its real store's committer, model clients that speak real frames,
//! a model disk, all in one process, in virtual time, from one seed.
//!
//! Owns: [`run`], one seed, and what is counted. Where to go next: `shape` (what a seed is), `world` (what happens),
//! `faults` (what goes wrong), `ending` (faults stop, all has to drain), `host` (a relay's process), `store` and
//! `disk` (the store's threads, and what they write to), `link` (a connection), `client` and `writer` (the model
//! client), `claim`, `bundle` and `query` (names, keys, what is known of ids), `ledger` and `message` (what must hold), `defect` (what is broken on purpose). docs/simulation.md is the
//! page about it.

mod bundle;
mod claim;
mod client;
mod counts;
mod defect;
mod disk;
mod ending;
mod envelope;
mod faults;
mod host;
pub(crate) mod keys;
mod ledger;
mod link;
mod message;
mod query;
mod roll;
mod shape;
mod store;
mod world;
mod writer;

pub use counts::Counts;
pub use defect::Defect;

use crate::seeds::run_one;

/// A user, by position in the world.
type Who = usize;
/// A connection, by the order of opening.
type LinkIndex = usize;
/// A message, by the order of writing.
type MessageIndex = usize;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// When every seed begins.
const START_MS: u64 = 1_790_000_000_000;

/// What came of a seed.
pub type Outcome = crate::seeds::Outcome<Counts>;

/// Runs one seed, with a defect if there is to be one; with `trace` it tells on standard error what happens.
#[must_use]
pub fn run(seed: u64, defect: Option<Defect>, trace: bool) -> Outcome {
    run_one(|| world::run(seed, defect, trace))
}
