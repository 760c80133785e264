//! The relay's library: its core, its event loop and its store.
//!
//! `core` is a state machine without I/O; `event_loop` joins it with sockets and the clock, `store`
//! with the disk. `limits` names every bound, `reason` every refusal. The binary is in `main.rs`.

pub mod address;
mod ages;
pub mod clock;
pub mod config_file;
pub mod control;
pub mod core;
pub mod ctl;
pub mod event_loop;
pub mod http;
pub mod limits;
pub mod limits_page;
pub mod listen;
pub mod logging;
pub mod manual;
pub mod metrics;
pub mod options;
mod partials;
pub mod process;
pub mod proxy;
pub mod reason;
pub mod reload;
pub mod settings;
pub mod signals;
pub mod status;
pub mod store;
pub mod supervisor;
pub mod text;
