//! What is wrong with a store that no relay uses: everything in it is read, nothing is changed.
//!
//! This file owns the report, and the order of looking. What is looked at: `people` (names and keys), `mailboxes` (messages and
//! what is counted of them), `log` (segments and their records). It goes by what the records are to be, docs/store.md, not by
//! what the relay makes of them.

mod log;
mod mailboxes;
mod people;

use std::{fmt, io, path::Path};

use super::{
    OpenError, OpenErrorKind, StoreError, Table,
    beside::Beside,
    damaged_file::{DamagedFile, Header},
    limits::FSCK_PROBLEMS_MAX,
    log_engine,
    open::{DATABASE, lock_what_is_there, newer},
    records::{self, META_BOOT, META_CLOCK, META_FORMAT, META_RELAY_ID},
    segments::Access,
    source::Source,
};
use people::People;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gravity {
    /// Nothing is lost, and the next start mends it by itself.
    Mended,
    /// Something does not fit together. A start leaves it so; what was stored is there.
    Wrong,
    /// Something that was stored is not there any more, or can't be used.
    Lost,
}

impl fmt::Display for Gravity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mended => "mended at the next start",
            Self::Wrong => "wrong",
            Self::Lost => "lost",
        })
    }
}

/// One thing that is wrong. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub gravity: Gravity,
    /// What it is.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.gravity, self.text)
    }
}

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Of the store; zero if it can't be read.
    pub format: u32,
    /// Names.
    pub names: u64,
    /// One-time prekeys that are there to be handed out.
    pub prekeys: u64,
    /// Mailboxes with messages.
    pub mailboxes: u64,
    /// Messages that are whole and not acknowledged.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// At most [`FSCK_PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub problems_more: u64,
}

impl FsckReport {
    fn note(&mut self, gravity: Gravity, text: String) {
        if self.problems.len() < FSCK_PROBLEMS_MAX {
            self.problems.push(Problem { gravity, text });
        } else {
            self.problems_more += 1;
        }
    }

    /// Of the worst problem; `None`: there is none.
    #[must_use]
    pub fn worst(&self) -> Option<Gravity> {
        self.problems.iter().map(|problem| problem.gravity).max()
    }
}

impl fmt::Display for FsckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, names, prekeys, mailboxes, messages, bytes, segments, log_bytes, .. } = self;
        write!(
            f,
            "format {format}: {names} names, {prekeys} one-time prekeys, {messages} messages of {bytes} bytes in \
             {mailboxes} mailboxes, {log_bytes} bytes of log in {segments} segments"
        )
    }
}

/// Reads the whole store in `directory`, which no relay may be using, and says what is wrong with it. It is locked meanwhile.
/// It takes some 150 bytes of memory for each name, and 40 for each chunk of messages.
///
/// # Errors
/// [`OpenErrorKind::Locked`], [`OpenErrorKind::NewerFormat`]; [`OpenErrorKind::Directory`] if there is no store or it may not be
/// read; [`OpenErrorKind::Corrupted`] if the index is missing where there was one; [`OpenErrorKind::Io`]. What is damaged is
/// no error.
pub fn fsck(directory: &Path) -> Result<FsckReport, OpenError> {
    let _lock = lock_what_is_there(directory)?;
    let path = directory.join(DATABASE);
    let file = DamagedFile::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if Beside::exists(directory) => {
            OpenError::new(OpenErrorKind::Corrupted, &path, "it is missing, its relay-id is there")
        }
        _ => OpenError::at(&path, &error),
    })?;
    let mut report = FsckReport::default();
    let commit = match file.header() {
        Header::Commit(commit) => commit,
        Header::Newer(version) => return Err(newer(&path, version.into())),
        Header::Unreadable => {
            let what = "no commit of the index can be read: names, keys and messages";
            report.note(Gravity::Lost, what.into());
            return Ok(report);
        }
    };
    if !commit.in_force {
        let what = "the index's last commit cannot be read: what was committed since the one before";
        report.note(Gravity::Lost, what.into());
    }
    let of_store = |error: StoreError| OpenError::of_store(&path, &error);
    let log = directory.join(log_engine::DIRECTORY);
    let source = Source::over(&file, commit, &log, Access::Read).map_err(of_store)?;
    meta(&source, directory, &mut report).map_err(|format| newer(&path, format))?;
    for table in Table::ALL {
        look_whole(&source, table, &mut report);
    }
    let people = People::look(&source, &mut report);
    let in_use = mailboxes::look(&source, &people, &mut report).map_err(of_store)?;
    log::look(&source, in_use, &mut report).map_err(of_store)?;
    Ok(report)
}

/// What the store says of itself. An error is its format, which is newer.
fn meta(source: &Source<'_>, directory: &Path, report: &mut FsckReport) -> Result<(), u32> {
    let (mut format, mut relay_id, mut boot, mut clock) = (None, None, None, None);
    source.each(Table::Meta, &mut |key, value| match key {
        META_FORMAT => format = records::parse_u32(value).ok(),
        META_RELAY_ID => relay_id = records::parse_relay_id(value).ok(),
        META_BOOT => boot = records::parse_u32(value).ok(),
        META_CLOCK => clock = records::parse_u64(value).ok(),
        _ => {}
    });
    if let Some(format) = format.filter(|format| *format > records::FORMAT) {
        return Err(format);
    }
    report.format = format.unwrap_or(0);
    for (what, is_missing) in [
        ("format", format.is_none()),
        ("relay's id", relay_id.is_none()),
        ("count of starts", boot.is_none()),
        ("clock", clock.is_none()),
    ] {
        if is_missing {
            report.note(Gravity::Lost, format!("the {what} is not in the index"));
        }
    }
    match Beside::read(directory) {
        None => {
            report.note(Gravity::Mended, "the file relay-id is missing or damaged".into());
        }
        Some(beside) => {
            if relay_id.is_some_and(|relay_id| relay_id != beside.relay_id) {
                let what = "the file relay-id says another id than the index, which is the one that counts";
                report.note(Gravity::Mended, what.into());
            }
            if boot.is_some_and(|boot| boot < beside.boot) {
                let what = "the file relay-id counts more starts than the index, and is believed";
                report.note(Gravity::Mended, what.into());
            }
        }
    }
    Ok(())
}

/// Whether every page of a table fits its checksum.
fn look_whole(source: &Source<'_>, table: Table, report: &mut FsckReport) {
    let (mut found, before) = (0_u64, source.commit.records(table));
    let is_whole = source.file.each(&source.commit, table, &mut |_, _| found += 1);
    if !is_whole || found != before {
        let name = table.name();
        let text = format!(
            "pages of the index are damaged: {found} of {before} records of the table {name} are left"
        );
        report.note(Gravity::Lost, text);
    }
}
