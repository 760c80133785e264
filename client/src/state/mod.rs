//! Everything at rest: the client's home directory.
//!
//! Owns: which file holds what ([`Key`]), the bytes around each file's content, and changing several
//! files at once so that a crash leaves either all or none of it ([`Transaction`]). Must not know
//! what keys and sessions are made of, nor the relay.
//!
//! There are many small files and no log, because what was used up must be gone: a file that is
//! replaced or removed leaves no old chain key behind in one that lives on.
//!
//! Where to go next: [`transaction`] and `redo` for the commit and its crash points, [`disk`] for the
//! steps that it is made of, [`home`] for those steps on a real disk and `permissions` for what it
//! refuses there, [`vault`] for the same under a passphrase, [`memory`] for those that a test can crash,
//! [`account`] and [`items`] for the contents that belong to the client itself, [`export`] for what
//! moves to another device.

pub mod account;
pub mod codec;
pub mod disk;
pub mod export;
pub mod home;
pub mod items;
mod key;
pub mod memory;
pub mod permissions;
mod redo;
mod transaction;
pub mod vault;

pub use account::Account;
pub use disk::Disk;
pub use home::Home;
pub use items::{InboxItem, OutboxItem, PeerItem};
pub use key::{Folder, Key};
pub use memory::MemoryDisk;
pub use transaction::Transaction;
pub use vault::Vault;

use std::fmt;
use std::io;
use std::path::PathBuf;

use permissions::Exposure;

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
    /// Others could read or change this file, or it is none: it is not used.
    Exposed {
        /// Which file or folder, as it can be opened.
        path: PathBuf,
        /// What is wrong with it.
        why: Exposure,
    },
    /// The home's passphrase is another.
    WrongPassphrase,
    /// This file says that trying a passphrase takes 2^`log2_n` steps, which no client ever wrote.
    Cost {
        /// Which file, relative to the home.
        path: String,
        /// What it says.
        log2_n: u8,
    },
    /// The home was given another passphrase, or its first, or none, since this process began.
    KeysChanged,
    /// Another process of this home runs, and what was to be done can't be done beside it.
    Busy,
}

impl StateError {
    /// For `map_err`. What a [`Disk`] knows better than the system comes through it unchanged.
    pub(crate) fn io(doing: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.downcast::<Self>() {
            Ok(error) => error,
            Err(source) => Self::Io { doing, path, source },
        }
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
            Self::Exposed { path, why } => write!(f, "{} {why}", path.display()),
            Self::WrongPassphrase => f.write_str("the passphrase is wrong"),
            Self::Cost { path, log2_n } => {
                write!(f, "the state file {path} asks for a key derivation of 2^{log2_n} steps")
            }
            Self::KeysChanged => f.write_str(
                "the passphrase of this home was set, changed or removed while this command was running",
            ),
            Self::Busy => f.write_str("another e2e-client of this home is running"),
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// How a [`Disk`] says what the system has no word for.
impl From<StateError> for io::Error {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io { source, .. } => source,
            error => Self::other(error),
        }
    }
}
