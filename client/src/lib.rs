//! The client of an e2e-relay.
//!
//! Where to go next: [`engine`] for what it does, without I/O; [`state`] for what is kept on disk.

pub mod engine;
pub mod state;
