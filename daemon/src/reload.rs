//! The configuration, read while the relay runs.
//!
//! Owns: reading it on a thread of its own, since a file system may take its time and the loop has none, and handing it over.
//! What becomes of it: `event_loop::reconfigure`. Must not know what is in it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use mio::Waker;

use crate::settings::Settings;

/// What a relay is told: the settings, and the tokens in the file that they name.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The settings.
    pub settings: Settings,
    /// The tokens.
    pub tokens: Vec<Vec<u8>>,
}

/// Reads it: or says what is wrong with it, in a line.
pub type Read = dyn Fn() -> Result<Configuration, String> + Send + Sync;

/// See the module.
pub struct Reloader {
    read: Arc<Read>,
    sender: Sender<Result<Configuration, String>>,
    receiver: Receiver<Result<Configuration, String>>,
    is_reading: bool,
    /// It was asked for once more meanwhile.
    is_asked_again: bool,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("is_reading", &self.is_reading).finish_non_exhaustive()
    }
}

impl Reloader {
    /// One that reads so.
    #[must_use]
    pub fn new(read: Arc<Read>) -> Self {
        let (sender, receiver) = channel();
        Self { read, sender, receiver, is_reading: false, is_asked_again: false }
    }

    /// Begins to read; `waker` wakes the loop when it is done.
    pub fn begin(&mut self, waker: Arc<Waker>) {
        if self.is_reading {
            self.is_asked_again = true;
            return;
        }
        let (read, sender) = (Arc::clone(&self.read), self.sender.clone());
        let body = move || {
            // The relay is there as long as its loop: who is gone needs no answer.
            let _ = sender.send(read());
            let _ = waker.wake();
        };
        match thread::Builder::new().name("configuration".to_owned()).spawn(body) {
            Ok(_) => self.is_reading = true,
            Err(error) => {
                let _ = self.sender.send(Err(format!("it cannot be read: {error}")));
            }
        }
    }

    /// What was read, once it is, and whether it was asked for again since.
    pub fn poll(&mut self) -> Option<(Result<Configuration, String>, bool)> {
        let read = self.receiver.try_recv().ok()?;
        self.is_reading = false;
        Some((read, std::mem::take(&mut self.is_asked_again)))
    }
}
