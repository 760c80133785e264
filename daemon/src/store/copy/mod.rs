//! A copy of the store while it goes on: streamed out by one process, written down by another.
//!
//! This file owns what came of a copy and why there is none. What is copied, and how it is kept meanwhile: `frozen`; how it
//! travels: `stream`; the two ends: `sender`, `receiver`. docs/store.md, "A copy".

mod receiver;
mod sender;
mod stream;

pub use receiver::receive_copy;
pub(super) use sender::send;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::{StoreError, Table, records};

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Names.
    pub names: u64,
    /// Messages that wait, by the mailboxes' own count.
    pub messages: u64,
    /// Records of the index.
    pub rows: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Their bytes.
    pub log_bytes: u64,
}

impl CopyReport {
    fn note_row(&mut self, table: Table, value: &[u8]) {
        self.rows += 1;
        match table {
            Table::Users => self.names += 1,
            Table::Mailboxes => {
                let messages = records::parse_mailbox(0, value).map_or(0, |mailbox| mailbox.messages);
                self.messages = self.messages.saturating_add(messages);
            }
            _ => {}
        }
    }
}

impl fmt::Display for CopyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, messages, rows, segments, log_bytes } = self;
        write!(
            f,
            "{names} names, {messages} messages ({rows} records, {log_bytes} bytes in {segments} segments)"
        )
    }
}

/// Why the relay gave up a copy that it had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It stops.
    Stopped,
    /// The disk failed, and the store had to be opened again.
    Reopened,
    /// What the copy holds back is needed: the disk is getting full.
    DiskLow,
}

/// Why there is no copy. Its text is one line.
#[derive(Debug)]
pub enum CopyError {
    /// Another one is being made.
    Busy,
    /// This engine's stores can't be copied.
    Unsupported,
    /// The relay gave it up.
    GivenUp(GivenUp),
    /// The store could not be read, or at the other end written.
    Store(StoreError),
    /// What it was written to, or read from, failed.
    Stream(io::Error),
    /// It ended before its end.
    CutOff,
    /// Something in it is not as it was sent.
    Damaged(&'static str),
    /// It was made by a newer version: the stream, or the store in it.
    Newer(u32),
    /// The directory it was to come into has something in it.
    NotEmpty(PathBuf),
    /// The directory it was to come into can't be written.
    Directory(PathBuf, io::Error),
}

impl CopyError {
    fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Directory(path.to_owned(), error)
    }
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another copy of the store is being made"),
            Self::Unsupported => f.write_str("this store cannot be copied while it is in use"),
            Self::GivenUp(GivenUp::Stopped) => f.write_str("the copy was given up: the relay stops"),
            Self::GivenUp(GivenUp::Reopened) => {
                f.write_str("the copy was given up: the disk failed, and the store was opened again")
            }
            Self::GivenUp(GivenUp::DiskLow) => {
                f.write_str("the copy was given up: too little room is left on the relay's disk")
            }
            Self::Store(error) => error.fmt(f),
            Self::Stream(error) => write!(f, "the copy could not be passed on: {error}"),
            Self::CutOff => f.write_str("the copy ended too early"),
            Self::Damaged(what) => write!(f, "the copy was damaged on its way: {what}"),
            Self::Newer(version) => write!(f, "the copy is of a newer version: format {version}"),
            Self::NotEmpty(path) => write!(f, "there is something in it: {}", path.display()),
            Self::Directory(path, error) => write!(f, "cannot write {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for CopyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Stream(error) | Self::Directory(_, error) => Some(error),
            _ => None,
        }
    }
}
