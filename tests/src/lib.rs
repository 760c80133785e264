//! What the black-box tests and the benchmarks share: the real binaries as child processes, and a
//! client that speaks frames and nothing else.
//!
//! Must not know the insides of the relay or of the client: what a stranger can do with spec/ is what
//! this crate does. But for the simulators (`sessions`, `relay_sim`), `fuzz` and `converse`, which run those insides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

pub mod client;
pub mod converse;
mod dice;
pub mod force;
pub mod fuzz;
pub mod ledger;
pub mod pair;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod relay_sim;
pub mod seeds;
pub mod sessions;
pub mod sim;
pub mod vectors;
