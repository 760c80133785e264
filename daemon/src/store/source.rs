//! A database and its log as they lie on the disk, read without the engine and without changing anything.
//!
//! This file owns one view over both: what the log has that is newer stands over what is in the database. What is damaged is
//! passed over. What is made of it: `salvage`, `fsck`.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use super::{
    StoreError, Table,
    damaged_file::{Commit, DamagedFile},
    records::{self, META_LOG},
    segments::{Access, Position, Segment},
    unsettled::{Found, Resolved, Unsettled, resolve},
};

/// See the module.
pub(super) struct Source<'a> {
    pub(super) file: &'a DamagedFile,
    pub(super) commit: Commit,
    pub(super) log: PathBuf,
    /// How far the log is settled. `None`: there was none yet, or it can't be known.
    pub(super) position: Option<Position>,
    /// Every segment of the log, with the bytes of its file.
    pub(super) segments: Vec<(u64, u64)>,
    /// Those in which something is missing that was committed and is not settled.
    pub(super) damaged: Vec<u64>,
    /// A commit was cut off at the log's end.
    pub(super) is_torn: bool,
    unsettled: Unsettled,
    /// Nothing that was committed is missing after the commit that was read: what was handed out is known.
    pub(super) is_latest: bool,
    /// Where the log ends.
    pub(super) end: Position,
}

impl<'a> Source<'a> {
    pub(super) fn over(
        file: &'a DamagedFile,
        commit: Commit,
        log: &Path,
        access: Access,
    ) -> Result<Self, StoreError> {
        let mut settled = None;
        let meta_is_whole = file.each(&commit, Table::Meta, &mut |key, value| {
            if key == META_LOG {
                settled = records::parse_position(value).ok();
            }
        });
        // What came after it goes on from the commit in force, not from the one before.
        let position = settled.filter(|_| commit.in_force);
        let found = Found::read(log, position, access)?;
        // A database of before there was a log has no position.
        let is_latest = commit.in_force && meta_is_whole && found.damaged.is_empty();
        let end = found.end();
        let is_torn = found.tail.as_ref().is_some_and(Segment::is_torn);
        let Found { segments, unsettled, damaged, .. } = found;
        let log = log.to_owned();
        Ok(Self { file, commit, log, position, segments, damaged, is_torn, unsettled, is_latest, end })
    }

    /// Calls `visit` with each record of a table that can be read, in the order of their keys. Returns whether all can be.
    pub(super) fn each(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let Some(changes) = self.unsettled.changes(table) else {
            return self.file.each(&self.commit, table, visit);
        };
        let mut whole = true;
        let scanned = changes.scan(
            &[],
            &[0xff; 16],
            |visit| {
                whole = self.file.each(&self.commit, table, &mut |key, value| {
                    let _ = visit(key, value);
                });
                Ok(())
            },
            &mut |key, value| {
                visit(key, value);
                ControlFlow::Continue(())
            },
        );
        scanned.is_ok() && whole
    }

    /// A value as it was put. `None`: it is not there.
    pub(super) fn whole(&self, table: Table, value: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(match resolve(&self.log, table, value)? {
            Resolved::InPlace => Some(value.to_vec()),
            Resolved::Read(whole) => Some(whole),
            Resolved::Missing => None,
        })
    }
}
