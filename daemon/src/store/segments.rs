//! The files of the log: what was committed, record behind record, each recognisable as whole.
//!
//! This file owns their bytes (docs/store.md, "Byte map"), and what a torn record and a damaged one look like. It must not
//! know what the writes mean or which of them are still needed: `log_engine`.
//!
//! What lies in a record was in part made up by whoever sent a message, so that a record is told by a seal over a salt
//! that nobody outside can know: after damage, the next one can be searched for without being led astray.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io, mem,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use super::{StoreError, StoreErrorKind, Table};

/// Records begin at multiples of this, so that no page of a file is written twice.
const BLOCK_BYTES: u64 = 4096;
/// The first block of a segment, in each of its halves: this, its number 8, its salt 16, a checksum of these 16, nothing.
const MAGIC: [u8; 8] = *b"e2e-log1";
const SALT_BYTES: usize = 16;
const FIELDS_BYTES: usize = 8 + 8 + SALT_BYTES;
/// Before the writes of a record: their length 4, their checksum 16, the seal 16.
const HEAD_BYTES: usize = 4 + 16 + 16;

const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;

type Salt = [u8; SALT_BYTES];

/// A place in the log: everything before it, or from it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Position {
    /// Where the first record of a segment is.
    pub(super) fn start_of(segment: u64) -> Self {
        Self { segment, offset: BLOCK_BYTES }
    }
}

/// One write, as it lies in a record.
pub(super) enum Entry<'a> {
    /// `at`: where its value begins in the segment.
    Put {
        table: Table,
        key: &'a [u8],
        value: &'a [u8],
        at: u64,
    },
    DeleteRange {
        table: Table,
        from: &'a [u8],
        to_inclusive: &'a [u8],
    },
}

/// A record in the making, as it will lie in a segment.
pub(super) struct Record {
    /// What is before `start` is there so that the record begins at a multiple of [`BLOCK_BYTES`] in memory too: only so is it
    /// written without a copy.
    bytes: Vec<u8>,
    start: usize,
}

impl Record {
    pub(super) fn new() -> Self {
        let mut record = Self { bytes: Vec::new(), start: 0 };
        record.begin(HEAD_BYTES);
        record
    }

    /// Begins anew, and keeps the memory if it is of up to so many bytes.
    pub(super) fn clear(&mut self, capacity_max: usize) {
        if self.bytes.capacity() > capacity_max {
            self.begin(HEAD_BYTES);
        } else {
            self.bytes.truncate(self.start + HEAD_BYTES);
        }
    }

    /// Takes memory for so many bytes and begins in it.
    fn begin(&mut self, bytes: usize) {
        self.bytes = Vec::with_capacity(bytes + 2 * BLOCK_BYTES as usize);
        let start = self.bytes.as_ptr().align_offset(BLOCK_BYTES as usize);
        self.start = if start < BLOCK_BYTES as usize { start } else { 0 };
        self.bytes.resize(self.start + HEAD_BYTES, 0);
    }

    /// Sees to it that so many bytes have room, and what fills the last block.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more + BLOCK_BYTES as usize;
        if needed > self.bytes.capacity() {
            let before = mem::take(&mut self.bytes);
            let record = before.get(self.start..).unwrap_or_default();
            self.begin(needed.max(2 * record.len()));
            self.bytes.truncate(self.start);
            self.bytes.extend_from_slice(record);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == HEAD_BYTES
    }

    /// Returns where the value begins in the record.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> usize {
        self.write(PUT, table, key, value)
    }

    pub(super) fn delete_range(&mut self, table: Table, from: &[u8], to_inclusive: &[u8]) {
        self.write(DELETE_RANGE, table, from, to_inclusive);
    }

    fn write(&mut self, what: u8, table: Table, key: &[u8], value: &[u8]) -> usize {
        self.reserve(2 + 4 + 4 + key.len() + value.len());
        emit_write(&mut self.bytes, what, table, key, value);
        self.len() - value.len()
    }

    /// The whole record for its place in a segment, filled up to whole blocks.
    fn sealed(&mut self, salt: &Salt, offset: u64) -> Result<&[u8], StoreError> {
        let malformed = || StoreError::malformed("record of the log");
        let record = self.bytes.get_mut(self.start..).ok_or_else(malformed)?;
        let (head, writes) = record.split_first_chunk_mut().ok_or_else(malformed)?;
        let length = u32::try_from(writes.len()).map_err(|_| malformed())?;
        *head = head_of(salt, offset, length, xxh3_128(writes));
        self.bytes.resize(self.start + self.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        self.bytes.get(self.start..).ok_or_else(malformed)
    }
}

/// What it is 1, table 1, length of the key 4, length of the value 4, key, value; of a range, its ends.
fn emit_write(bytes: &mut Vec<u8>, what: u8, table: Table, key: &[u8], value: &[u8]) {
    bytes.extend([what, table.number()]);
    for part in [key, value] {
        // A longer one makes a record that is refused as a whole.
        bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
}

/// Adds a put, as it lies in a record.
pub(super) fn emit_put(bytes: &mut Vec<u8>, table: Table, key: &[u8], value: &[u8]) {
    emit_write(bytes, PUT, table, key, value);
}

fn head_of(salt: &Salt, offset: u64, length: u32, checksum: u128) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let (fields, seal) = head.split_at_mut(HEAD_BYTES - 16);
    let (length_field, checksum_field) = fields.split_at_mut(4);
    length_field.copy_from_slice(&length.to_be_bytes());
    checksum_field.copy_from_slice(&checksum.to_be_bytes());
    let digest =
        Sha256::new().chain_update(salt).chain_update(offset.to_be_bytes()).chain_update(fields).finalize();
    for (byte, of_digest) in seal.iter_mut().zip(digest) {
        *byte = of_digest;
    }
    head
}

/// Calls `visit` with each write of a record that was read whole.
pub(super) fn each_entry(
    writes: &[u8],
    at: u64,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let malformed = || StoreError::malformed("write of the log");
    let mut rest = writes;
    let length = |field| usize::try_from(u32::from_be_bytes(field)).unwrap_or(usize::MAX);
    while let Some((&[what, table, k0, k1, k2, k3, v0, v1, v2, v3], after)) = rest.split_first_chunk() {
        let table = Table::of_number(table).ok_or_else(malformed)?;
        let (key, after) = after.split_at_checked(length([k0, k1, k2, k3])).ok_or_else(malformed)?;
        let at = at + (writes.len() - after.len()) as u64;
        let (value, after) = after.split_at_checked(length([v0, v1, v2, v3])).ok_or_else(malformed)?;
        visit(match what {
            PUT => Entry::Put { table, key, value, at },
            DELETE_RANGE => Entry::DeleteRange { table, from: key, to_inclusive: value },
            _ => return Err(malformed()),
        })?;
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(malformed()) }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing is changed, or made.
    Read,
    ReadWrite,
}

/// One file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    /// The same, written past the system's cache: what is stored is seldom read soon, and a copy of it costs as much as the rest.
    /// `None`: the file system doesn't do that.
    direct: Option<File>,
    number: u64,
    /// `None`: its first block is damaged, and no record can be told.
    salt: Option<Salt>,
    /// Behind the last whole record.
    end: u64,
    /// Something may lie behind `end` that was not committed: a record that is being written or was not, or whatever a walk
    /// found there.
    torn: bool,
}

impl Segment {
    /// Makes a new one, which is on the disk with its name when this returns.
    pub(super) fn create(directory: &Path, number: u64) -> Result<Self, StoreError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| StoreError::new(StoreErrorKind::Io, error.to_string()))?;
        let mut half = [&MAGIC[..], &number.to_be_bytes(), &salt].concat();
        half.extend(xxh3_128(&half).to_be_bytes());
        half.resize(BLOCK_BYTES as usize / 2, 0);
        let make = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(path(directory, number))?;
            file.write_all_at(&half.repeat(2), 0)?;
            file.sync_all()?;
            File::open(directory)?.sync_all()?;
            Ok(file)
        };
        let file = make().inspect_err(|_: &io::Error| {
            // On a full disk it would take room for nothing. If it stays, it is known for what it is.
            let _ = remove(directory, number);
        })?;
        let direct = open_direct(directory, number);
        Ok(Self { file, direct, number, salt: Some(salt), end: BLOCK_BYTES, torn: false })
    }

    /// Opens one that is there. Nothing is believed of what lies in it before [`Segment::walk`].
    pub(super) fn open(directory: &Path, number: u64, access: Access) -> io::Result<Self> {
        let is_written = access == Access::ReadWrite;
        let file = OpenOptions::new().read(true).write(is_written).open(path(directory, number))?;
        let mut salt = None;
        for at in [0, BLOCK_BYTES / 2] {
            let mut fields = [0; FIELDS_BYTES + 16];
            match file.read_exact_at(&mut fields, at) {
                Ok(()) => salt = salt.or(salt_of(&fields, number)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        let direct = if is_written { open_direct(directory, number) } else { None };
        Ok(Self { file, direct, number, salt, end: BLOCK_BYTES, torn: false })
    }

    pub(super) fn end(&self) -> Position {
        Position { segment: self.number, offset: self.end }
    }

    /// Whether there is what is no record behind the last one.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Whether records can be written to it.
    pub(super) fn is_usable(&self) -> bool {
        self.salt.is_some()
    }

    /// Whether, with a file of so many bytes, it is one that was never begun.
    pub(super) fn is_unfinished(&self, bytes: u64) -> bool {
        !self.is_usable() && bytes <= BLOCK_BYTES
    }

    /// Writes a record behind the last one. When it returns `Ok`, it survives power loss; returns where it begins.
    ///
    /// After an error [`Segment::cut`] is due: what of the record may be there has to go first.
    pub(super) fn append(&mut self, record: &mut Record) -> Result<u64, StoreError> {
        let (Some(salt), false) = (&self.salt, self.torn) else {
            return Err(StoreError::new(StoreErrorKind::Io, "the log has to be opened again"));
        };
        let offset = self.end;
        let bytes = record.sealed(salt, offset)?;
        self.torn = true;
        match self.direct.as_ref().map(|file| file.write_all_at(bytes, offset)) {
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                self.direct = None;
                self.file.write_all_at(bytes, offset)?;
            }
            Some(written) => written?,
            None => self.file.write_all_at(bytes, offset)?,
        }
        self.file.sync_data()?;
        self.end = offset + bytes.len() as u64;
        self.torn = false;
        Ok(offset)
    }

    /// Takes away what lies behind the last record, and returns how many bytes that were.
    pub(super) fn cut(&mut self) -> io::Result<u64> {
        if !self.torn {
            return Ok(0);
        }
        let bytes = self.file.metadata()?.len().saturating_sub(self.end);
        self.file.set_len(self.end)?;
        self.file.sync_all()?;
        self.torn = false;
        Ok(bytes)
    }

    /// Sees to it that what was read from it is on the disk: a process that was killed may not have come to that.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Calls `visit` with each write from a record's place on, and ends behind the last record. Returns at how many places
    /// something else is between whole records. Behind the last one there may be something that was cut off, or damaged:
    /// [`Segment::is_torn`].
    pub(super) fn walk(
        &mut self,
        from: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let bytes = self.file.metadata()?.len();
        let mut damages = 0;
        self.end = from;
        let mut at = from;
        while at < bytes {
            match self.record(at, bytes)? {
                Some(writes) => {
                    damages += u64::from(at > self.end);
                    each_entry(&writes, at + HEAD_BYTES as u64, visit)?;
                    at = (at + HEAD_BYTES as u64 + writes.len() as u64).next_multiple_of(BLOCK_BYTES);
                    self.end = at;
                }
                None => at = (at + 1).next_multiple_of(BLOCK_BYTES),
            }
        }
        self.torn = bytes > self.end;
        Ok(damages)
    }

    /// The writes of the record that begins there. `None`: none does, or it is not whole.
    fn record(&self, at: u64, bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(salt) = &self.salt else { return Ok(None) };
        let writes_at = at + HEAD_BYTES as u64;
        if writes_at > bytes {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, at)?;
        let Some((length, rest)) = head.split_first_chunk() else { return Ok(None) };
        let Some(checksum) = rest.first_chunk() else { return Ok(None) };
        let (length, checksum) = (u32::from_be_bytes(*length), u128::from_be_bytes(*checksum));
        if head != head_of(salt, at, length, checksum) || writes_at + u64::from(length) > bytes {
            return Ok(None);
        }
        let mut writes =
            vec![0; usize::try_from(length).map_err(|_| StoreError::malformed("record of the log"))?];
        self.file.read_exact_at(&mut writes, writes_at)?;
        Ok((xxh3_128(&writes) == checksum).then_some(writes))
    }
}

#[cfg(target_os = "linux")]
fn open_direct(directory: &Path, number: u64) -> Option<File> {
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    OpenOptions::new().write(true).custom_flags(flags).open(path(directory, number)).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_directory: &Path, _number: u64) -> Option<File> {
    None
}

fn salt_of(block: &[u8; FIELDS_BYTES + 16], number: u64) -> Option<Salt> {
    let (fields, checksum) = block.split_last_chunk()?;
    let salt = fields.last_chunk()?;
    let is_whole = xxh3_128(fields) == u128::from_be_bytes(*checksum)
        && fields.starts_with(&MAGIC)
        && fields.get(8..16)? == number.to_be_bytes();
    is_whole.then_some(*salt)
}

/// Where a segment is.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}"))
}

/// Makes the directory if it is missing.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(directory.parent().unwrap_or(Path::new(".")))?.sync_all(),
    }
}

/// The segments that there are, with their bytes, oldest first.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut segments = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(segments),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().filter(|name| name.len() == 16).map(|name| u64::from_str_radix(name, 16));
        if let Some(Ok(number)) = number {
            segments.push((number, entry.metadata()?.len()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Reads bytes of a segment. `None`: there is no such segment, or they lie behind its end.
pub(super) fn read(
    directory: &Path,
    place: Position,
    head: &[u8],
    length: u32,
) -> io::Result<Option<Vec<u8>>> {
    let read = || -> io::Result<_> {
        let file = File::open(path(directory, place.segment))?;
        if place.offset.saturating_add(length.into()) > file.metadata()?.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; head.len() + length];
        let (before, behind) = bytes.split_at_mut(head.len());
        before.copy_from_slice(head);
        file.read_exact_at(behind, place.offset)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Gives a damaged segment a second name, under which nobody reads or removes it.
pub(super) fn set_aside(directory: &Path, number: u64) -> io::Result<()> {
    let path = path(directory, number);
    match fs::hard_link(&path, path.with_extension("damaged")) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Removes a segment that is needed no more.
pub(super) fn remove(directory: &Path, number: u64) -> io::Result<()> {
    match fs::remove_file(path(directory, number)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
