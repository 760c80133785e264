//! What can go wrong in the store, for those who decide what to do about it.
//!
//! This file owns the kinds and their wording. It must not know an engine's own errors: each engine
//! translates its own.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// What kind of failure it was, as far as anyone acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// There is no room on the disk, or a quota of the file system is used up.
    DiskFull,
    /// The disk or the file system failed in another way. It is tried again.
    Io,
    /// A record is not what was written.
    Corrupted,
    /// The engine cannot read what it wrote. It is to be made whole again.
    Damaged,
}

impl StoreErrorKind {
    /// The kind of an I/O error.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::InvalidData => Self::Damaged,
            _ => Self::Io,
        }
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk is full",
            Self::Io => "the disk failed",
            Self::Corrupted => "the store is corrupted",
            Self::Damaged => "the store is damaged",
        })
    }
}

/// A failed operation of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What to act on.
    pub kind: StoreErrorKind,
    /// What to log: one line, from the library or the operating system.
    pub detail: String,
}

impl StoreError {
    /// Joins a kind and a line for the log.
    pub fn new(kind: StoreErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// A record that does not have the form that this version writes.
    pub(super) fn malformed(what: &str) -> Self {
        Self::new(StoreErrorKind::Corrupted, format!("malformed record: {what}"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for StoreError {}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::new(StoreErrorKind::of_io(&error), error.to_string())
    }
}

/// Why prekeys were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PublishError {
    /// The store failed; nothing changed, or it cannot be said. The same may be published again.
    Store(StoreErrorKind),
    /// Nobody holds that slot.
    NotRegistered,
    /// The signed prekey in force has all the batches that it may have
    /// ([`super::limits::PREKEY_BATCHES_MAX`]).
    BatchesFull,
    /// A batch came, but there is no signed prekey that it could belong to.
    NoSignedPrekey,
    /// The batch was signed for another signed prekey than the one in force.
    WrongSignedPrekey,
    /// A batch of no keys, or of more than [`super::limits::BATCH_KEYS_MAX`].
    BadBatch,
}

/// Why the store could not be opened: what main turns into its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenErrorKind {
    /// The state directory or a file in it cannot be made, read or written.
    Directory,
    /// Another process has this state directory open.
    Locked,
    /// The state is there, but it is not what was written, and nothing can be saved of it. It is left as it is.
    Corrupted,
    /// The state was written by a newer version. It is left as it is.
    NewerFormat,
    /// There is no room on the disk.
    DiskFull,
    /// The disk or the file system failed in another way.
    Io,
}

/// A store that could not be opened. Its text is one line that names the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// What to act on.
    pub kind: OpenErrorKind,
    path: PathBuf,
    detail: String,
}

impl OpenError {
    pub(super) fn new(kind: OpenErrorKind, path: &Path, detail: impl Into<String>) -> Self {
        Self { kind, path: path.to_owned(), detail: detail.into() }
    }

    /// What was wrong, without the path.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// An I/O error at a path that the user chose: most often they are not permitted to use it.
    pub(super) fn at(path: &Path, error: &io::Error) -> Self {
        let kind = match StoreErrorKind::of_io(error) {
            StoreErrorKind::DiskFull => OpenErrorKind::DiskFull,
            StoreErrorKind::Corrupted | StoreErrorKind::Damaged | StoreErrorKind::Io => {
                OpenErrorKind::Directory
            }
        };
        Self::new(kind, path, error.to_string())
    }

    /// A failure of the engine once the file was found and could be opened.
    pub(super) fn of_store(path: &Path, error: &StoreError) -> Self {
        let kind = match error.kind {
            StoreErrorKind::DiskFull => OpenErrorKind::DiskFull,
            StoreErrorKind::Corrupted | StoreErrorKind::Damaged => OpenErrorKind::Corrupted,
            StoreErrorKind::Io => OpenErrorKind::Io,
        };
        Self::new(kind, path, &error.detail)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, detail) = (self.path.display(), &self.detail);
        match self.kind {
            OpenErrorKind::Directory => write!(f, "cannot use the state directory: {path}: {detail}"),
            OpenErrorKind::Locked => write!(f, "another relay is running on this state directory: {path}"),
            OpenErrorKind::Corrupted => {
                write!(f, "the store is corrupted and was left as it is: {path}: {detail}")
            }
            OpenErrorKind::NewerFormat => {
                write!(f, "the store was written by a newer version: {path}: {detail}")
            }
            OpenErrorKind::DiskFull => write!(f, "the disk is full: {path}: {detail}"),
            OpenErrorKind::Io => write!(f, "the disk failed: {path}: {detail}"),
        }
    }
}

impl std::error::Error for OpenError {}
