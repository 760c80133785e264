//! What an event of the poll is about.
//!
//! Owns: the numbers by which the poll knows its sources. Connections have the numbers from zero on, everything else those at
//! the other end.

use mio::Token;

use crate::limits::{GUESTS_MAX, LISTENERS_MAX};

/// One source of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Another thread wakes the loop.
    Waker,
    /// A signal to stop.
    Stop,
    /// A signal to read the configuration again.
    Reload,
    /// The control socket has somebody to accept.
    Control,
    /// A listening socket has.
    Listener(usize),
    /// A listening socket for metrics has.
    Metrics(usize),
    /// A guest.
    Guest(usize),
    /// A connection.
    Connection(usize),
}

const LISTENERS: usize = 4;
const METRICS: usize = LISTENERS + LISTENERS_MAX;
const GUESTS: usize = METRICS + LISTENERS_MAX;
const END: usize = GUESTS + GUESTS_MAX;

impl Source {
    /// Its number.
    pub(super) fn token(self) -> Token {
        let from_end = match self {
            Self::Connection(index) => return Token(index),
            Self::Waker => 0,
            Self::Stop => 1,
            Self::Reload => 2,
            Self::Control => 3,
            Self::Listener(index) => LISTENERS + index,
            Self::Metrics(index) => METRICS + index,
            Self::Guest(index) => GUESTS + index,
        };
        // The last number is the poll's own.
        Token(usize::MAX - 1 - from_end)
    }

    /// The source with this number.
    pub(super) fn of(token: Token) -> Self {
        match usize::MAX - 1 - token.0.min(usize::MAX - 1) {
            0 => Self::Waker,
            1 => Self::Stop,
            2 => Self::Reload,
            3 => Self::Control,
            index @ LISTENERS..METRICS => Self::Listener(index - LISTENERS),
            index @ METRICS..GUESTS => Self::Metrics(index - METRICS),
            index @ GUESTS..END => Self::Guest(index - GUESTS),
            _ => Self::Connection(token.0),
        }
    }
}
