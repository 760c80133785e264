//! What is said while one waits: a line on a terminal that goes away again, and silence elsewhere.

use std::io::{self, IsTerminal, Write};

/// A line about what is going on. It is erased when dropped.
pub(super) struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: false }
    }

    /// Says what is going on.
    pub(super) fn say(&mut self, what: &str) {
        if self.terminal {
            self.shown = true;
            let _ = write!(io::stderr(), "\r\x1b[K{what}...");
        }
    }

    /// Says which key of how many is being made.
    pub(super) fn say_key(&mut self, number: usize, of: usize) {
        self.say(&format!("making keys ({number} of {of})"));
    }

    /// Erases the line: something else is to be printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
