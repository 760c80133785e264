//! The relay's library: its core, its event loop and its store.

pub mod store;
