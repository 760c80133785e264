//! Everything at rest: the client's home directory.
//!
//! Owns: which file holds what ([`Key`]), the bytes around each file's content, and changing several
//! files at once so that a crash leaves either all or none of it ([`Transaction`]). Must not know
//! what keys and sessions are made of, nor the relay.
//!
//! There are many small files and no log, because what was used up must be gone: a file that is
//! replaced or removed leaves no old chain key behind in one that lives on.
//!
//! Where to go next: [`transaction`] for the commit and its crash points, [`disk`] for the steps
//! that it is made of, [`home`] for those steps on a real disk, [`memory`] for those that a test
//! can crash, [`account`] and [`items`] for the contents that belong to the client itself.

pub mod account;
pub mod codec;
pub mod disk;
pub mod home;
pub mod items;
mod key;
pub mod memory;
mod transaction;

pub use account::Account;
pub use disk::Disk;
pub use home::Home;
pub use items::{InboxItem, OutboxItem};
pub use key::{Folder, Key};
pub use memory::MemoryDisk;
pub use transaction::Transaction;

use std::fmt;
use std::io;

/// Why the state can't be used. Each is told to the user in one line.
#[derive(Debug)]
pub enum StateError {
    /// The disk refused: what was tried, on which path, and why.
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file, relative to the home.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// This file's content is not what the client wrote.
    Corrupt {
        /// Which file, relative to the home.
        path: String,
    },
    /// This file was written by a newer client.
    Newer {
        /// Which file, relative to the home.
        path: String,
        /// Its version.
        version: u8,
    },
}

impl StateError {
    pub(crate) fn io(doing: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn corrupt(key: &Key) -> Self {
        Self::Corrupt { path: key.path() }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, source } => write!(f, "cannot {doing} {path}: {source}"),
            Self::Corrupt { path } => write!(f, "the state file {path} is damaged"),
            Self::Newer { path, version } => {
                write!(f, "the state file {path} has version {version}, which this client does not know")
            }
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Corrupt { .. } | Self::Newer { .. } => None,
        }
    }
}
