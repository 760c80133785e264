//! The client of an e2e-relay.
//!
//! Where to go next: [`state`] for what is kept on disk.

pub mod state;
