//! Signals, as bytes on sockets that the loop polls.
//!
//! Owns: which signal means what. SIGTERM and SIGINT: stop; SIGHUP: read the configuration again.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe::register;

/// A byte comes from each for each signal.
#[derive(Debug)]
pub struct Signals {
    /// Stop.
    pub stop: UnixStream,
    /// Read the configuration again.
    pub reload: UnixStream,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn catch() -> io::Result<Self> {
        let (stop, stop_writer) = UnixStream::pair()?;
        let (reload, reload_writer) = UnixStream::pair()?;
        register(SIGTERM, stop_writer.try_clone()?)?;
        register(SIGINT, stop_writer)?;
        register(SIGHUP, reload_writer)?;
        Ok(Self { stop, reload })
    }
}
