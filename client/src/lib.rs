//! The client of an e2e-relay, as a library and as the command `e2e-client`.
//!
//! Where to go next: [`engine`] for what it does, without I/O; [`state`] for what is kept on disk;
//! [`host`] and [`net`] for the loop and the socket around the engine; [`cli`] for the command.

pub mod cli;
pub mod engine;
pub mod host;
pub mod net;
pub mod state;
