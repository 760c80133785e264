//! The end that makes a directory of it, with which a relay can be started.
//!
//! This file owns in what order things come to the disk: the index gets its name last, so that what was cut off is no
//! store. Before anything else is there, the relay's id is: a relay refuses a directory that has only that.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write as _},
    mem,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    super::{
        Engine, RedbEngine, StoreError, Table, Write,
        beside::Beside,
        limits::{COPY_STARTS, SALVAGE_COMMIT_BYTES},
        log_engine,
        open::{DATABASE, LOCK, lock},
        records::{self, META_BOOT, META_FORMAT, META_RELAY_ID},
        salvage::in_the_making,
        segments::{self, Entry},
    },
    CopyError, CopyReport,
    stream::{Incoming, Kind, each_row, numbers},
};

/// Reads a copy that [`super::super::StoreHandle::copy_to`] wrote, and makes a state directory of it: `directory`, which must be
/// missing or empty, with the mode 0700 if it is made, its files 0600. Everything is on the disk when this returns.
///
/// # Errors
/// [`CopyError`]; then what was made is removed again. If that is cut off too, what is left is no store, and no relay starts
/// with it.
pub fn receive_copy(input: impl Read, directory: &Path) -> Result<CopyReport, CopyError> {
    // Nothing is made if nothing comes.
    let mut incoming = Incoming::begin(input)?;
    let made = make(directory)?;
    // No relay starts in it meanwhile; if one has, what is there is its own.
    let lock = lock(directory).map_err(|error| CopyError::at(directory)(io::Error::other(error)))?;
    refuse_filled(directory, &[LOCK])?;
    let result = Receiver::begin(directory, lock).and_then(|receiver| receiver.take(&mut incoming));
    if result.is_err() {
        discard(directory, made);
    }
    result
}

/// Returns whether there was no such directory.
fn make(directory: &Path) -> Result<bool, CopyError> {
    match refuse_filled(directory, &[]) {
        Ok(()) => Ok(false),
        Err(CopyError::Directory(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map(|()| true).map_err(CopyError::at(directory))
        }
        Err(error) => Err(error),
    }
}

/// `known`: what may be in it.
fn refuse_filled(directory: &Path, known: &[&str]) -> Result<(), CopyError> {
    let at = CopyError::at(directory);
    for entry in fs::read_dir(directory).map_err(&at)? {
        let name = entry.map_err(&at)?.file_name();
        if !known.iter().any(|known| name == *known) {
            return Err(CopyError::NotEmpty(directory.to_owned()));
        }
    }
    Ok(())
}

/// Removes what is there of a copy. What can't be removed is no store.
fn discard(directory: &Path, made: bool) {
    let index = directory.join(DATABASE);
    let _ = fs::remove_file(in_the_making(&index));
    let _ = fs::remove_file(index);
    let _ = fs::remove_dir_all(directory.join(log_engine::DIRECTORY));
    Beside::remove(directory);
    let _ = fs::remove_file(directory.join(LOCK));
    if made {
        let _ = fs::remove_dir(directory);
    }
}

struct Receiver {
    directory: PathBuf,
    log: PathBuf,
    lock: File,
    index: RedbEngine,
    writes: Vec<Write>,
    /// Of `writes`.
    bytes: usize,
    relay_id: Option<Beside>,
    segment: Option<(u64, File)>,
    report: CopyReport,
}

impl Receiver {
    fn begin(directory: &Path, lock: File) -> Result<Self, CopyError> {
        let log = directory.join(log_engine::DIRECTORY);
        DirBuilder::new().mode(0o700).create(&log).map_err(CopyError::at(&log))?;
        let index = RedbEngine::create(&in_the_making(&directory.join(DATABASE)))?;
        Ok(Self {
            directory: directory.to_owned(),
            log,
            lock,
            index,
            writes: Vec::new(),
            bytes: 0,
            relay_id: None,
            segment: None,
            report: CopyReport::default(),
        })
    }

    fn take(mut self, incoming: &mut Incoming<impl Read>) -> Result<CopyReport, CopyError> {
        loop {
            match incoming.next()? {
                (Kind::Rows, body) => self.rows(body)?,
                (Kind::Segment, body) => {
                    let [number] = numbers(body)?;
                    self.begin_segment(number)?;
                }
                (Kind::Piece, body) => {
                    let (_, file) = self.segment.as_mut().ok_or(CopyError::Damaged("no segment began"))?;
                    file.write_all(body).map_err(CopyError::at(&self.log))?;
                    self.report.log_bytes += body.len() as u64;
                }
                (Kind::End, body) => {
                    let totals = numbers(body)?;
                    return self.finish(totals);
                }
            }
        }
    }

    fn rows(&mut self, body: &[u8]) -> Result<(), CopyError> {
        let mut meta = Vec::new();
        each_row(body, &mut |entry| {
            let Entry::Put { table, key, value, .. } = entry else {
                return Err(CopyError::Damaged("a record"));
            };
            self.report.note_row(table, value);
            if table == Table::Meta {
                meta.push((key.to_vec(), value.to_vec()));
            }
            self.bytes += key.len() + value.len();
            self.writes.push(Write::Put { table, key: key.to_vec(), value: value.to_vec() });
            if self.bytes >= SALVAGE_COMMIT_BYTES {
                self.bytes = 0;
                self.index.commit(&mem::take(&mut self.writes))?;
            }
            Ok(())
        })?;
        if self.relay_id.is_none() {
            self.take_meta(&meta)?;
        }
        Ok(())
    }

    /// The first block of all has the few records of this table.
    fn take_meta(&mut self, meta: &[(Vec<u8>, Vec<u8>)]) -> Result<(), CopyError> {
        let value = |wanted| meta.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_slice());
        let number = |wanted| value(wanted).and_then(|value| records::parse_u32(value).ok());
        let relay_id = value(META_RELAY_ID).and_then(|value| records::parse_relay_id(value).ok());
        let (Some(format), Some(boot), Some(relay_id)) = (number(META_FORMAT), number(META_BOOT), relay_id)
        else {
            return Err(CopyError::Damaged("it does not begin with the relay's id"));
        };
        if format > records::FORMAT {
            return Err(CopyError::Newer(format));
        }
        // The relay goes on, and gives sequences out of each further start's own range. The copy must not give the same ones.
        let boot = boot.checked_add(COPY_STARTS).ok_or(CopyError::Damaged("the number of starts"))?;
        let beside = Beside { relay_id, boot };
        beside.write(&self.directory).map_err(CopyError::at(&self.directory))?;
        self.relay_id = Some(beside);
        Ok(())
    }

    fn begin_segment(&mut self, number: u64) -> Result<(), CopyError> {
        if self.segment.as_ref().is_some_and(|(before, _)| *before >= number) {
            return Err(CopyError::Damaged("a segment's number"));
        }
        self.end_segment()?;
        let path = segments::path(&self.log, number);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        self.segment = Some((number, file.map_err(CopyError::at(&path))?));
        self.report.segments += 1;
        Ok(())
    }

    fn end_segment(&mut self) -> Result<(), CopyError> {
        match &self.segment {
            Some((_, file)) => file.sync_all().map_err(CopyError::at(&self.log)),
            None => Ok(()),
        }
    }

    fn finish(mut self, totals: [u64; 3]) -> Result<CopyReport, CopyError> {
        let CopyReport { rows, segments, log_bytes, .. } = self.report;
        let Some(Beside { boot, .. }) = self.relay_id.filter(|_| totals == [rows, segments, log_bytes])
        else {
            return Err(CopyError::Damaged("something is missing in it"));
        };
        let (key, value) = (META_BOOT.to_vec(), boot.to_be_bytes().to_vec());
        self.writes.push(Write::Put { table: Table::Meta, key, value });
        self.end_segment()?;
        self.index.commit(&mem::take(&mut self.writes))?;
        // Closed, the index is as a relay finds it that was stopped.
        let Self { index, directory, log, report, lock, .. } = self;
        drop(index);
        let put_in_place = || -> Result<(), io::Error> {
            File::open(&log)?.sync_all()?;
            File::open(&directory)?.sync_all()?;
            let path = directory.join(DATABASE);
            fs::rename(in_the_making(&path), &path)?;
            File::open(&directory)?.sync_all()?;
            match directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) => File::open(parent)?.sync_all(),
                None => File::open(".")?.sync_all(),
            }
        };
        put_in_place().map_err(StoreError::from)?;
        drop(lock);
        Ok(report)
    }
}
