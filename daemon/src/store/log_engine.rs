//! The engine on a disk: a log that each commit is written to, and an index that says what of it is in force.
//!
//! This file owns the order between the two. A commit is one record at the end of the log, and one fsync; messages stay
//! where they lie in it. What changed is kept in memory until it is settled: carried out in the index, in one commit of
//! its own for many of ours. After a kill it is read again from the log. Segments in which nothing is in use any more
//! are removed, and what is left in sparse ones is written once more. What lies where: docs/store.md.
//!
//! It must not know what the tables hold, but for how much of a value stays in the index ([`Table::head_bytes`]).

use std::{
    collections::BTreeSet,
    mem,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak},
};

use super::{
    Engine, RedbEngine, StoreError, StoreErrorKind, Table, Visit, Write,
    changes::{Change, Changes},
    copy::GivenUp,
    frozen::{Frozen, Hold},
    limits::{
        LOG_COMPACTED_PER_SETTLE, LOG_RECORD_BYTES_KEPT, LOG_SEGMENT_BYTES, LOG_UNSETTLED_BYTES,
        LOG_UNSETTLED_CHANGES_MAX, LOG_UNUSED_BYTES, SALVAGE_COMMIT_BYTES,
    },
    records::{self, META_LOG, Reference},
    segments::{self, Access, Entry, Position, Record, Segment},
    unsettled::{Found, Resolved, Unsettled, resolve},
    usage::{Room, Turnover, Usage},
};

/// Values that are read from the log before the index is asked for further ones.
const VALUES_PER_LOOK: usize = 64;

/// Beside the index: the directory of the segments.
pub(super) const DIRECTORY: &str = "log";

/// Sizes of a log, bytes: as the limits have them, or smaller for tests.
#[derive(Clone, Copy, Debug)]
pub struct LogSizes {
    /// As [`LOG_SEGMENT_BYTES`].
    pub segment: u64,
    /// As [`LOG_UNSETTLED_BYTES`].
    pub unsettled: u64,
    /// As [`LOG_UNUSED_BYTES`].
    pub unused: u64,
}

impl Default for LogSizes {
    fn default() -> Self {
        Self { segment: LOG_SEGMENT_BYTES, unsettled: LOG_UNSETTLED_BYTES, unused: LOG_UNUSED_BYTES }
    }
}

/// See the module.
pub struct LogEngine {
    directory: PathBuf,
    sizes: LogSizes,
    index: RedbEngine,
    /// `None`: it could not be opened again.
    unsettled: RwLock<Option<Unsettled>>,
    /// The same. Taken before `unsettled`.
    writer: Mutex<Option<Writer>>,
    /// What was frozen, while somebody reads it.
    frozen: Mutex<Weak<Hold>>,
}

/// Table, key, and the index's value of something in a segment that is in use.
type Left = (Table, Vec<u8>, Vec<u8>);

struct Writer {
    /// `None`: the next record begins a segment.
    tail: Option<Segment>,
    /// The number of the segment after the tail.
    next: u64,
    record: Record,
    usage: Usage,
    /// Bytes of records that are not settled.
    unsettled_bytes: u64,
    /// Sparse segments out of which something cannot be read.
    unmovable: BTreeSet<u64>,
    /// The index says where the log begins. Otherwise nothing was ever committed to it.
    begun: bool,
}

impl LogEngine {
    /// Opens the log beside the index at `path`, which is there; or makes one.
    ///
    /// # Errors
    /// If index or log cannot be read and written, or are damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::over(RedbEngine::open(path)?, path, LogSizes::default())
    }

    /// The same over an index that is open, with other sizes.
    ///
    /// # Errors
    /// The same.
    pub fn over(index: RedbEngine, path: &Path, sizes: LogSizes) -> Result<Self, StoreError> {
        let directory = path.parent().unwrap_or(Path::new(".")).join(DIRECTORY);
        let (unsettled, writer, frozen) = (RwLock::default(), Mutex::default(), Mutex::default());
        let engine = Self { directory, sizes, index, unsettled, writer, frozen };
        let (loaded, unsettled) = engine.load()?;
        engine.change(|place| *place = Some(unsettled));
        *engine.writer() = Some(loaded);
        Ok(engine)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsettled(&self) -> RwLockReadGuard<'_, Option<Unsettled>> {
        self.unsettled.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Option<Unsettled>) -> T) -> T {
        change(&mut self.unsettled.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// What there is, and what of it is unsettled. It takes no room on the disk: where there is none, what is stored can be read.
    fn load(&self) -> Result<(Writer, Unsettled), StoreError> {
        let position = self.index.get(Table::Meta, META_LOG)?;
        let position = position.map(|value| records::parse_position(&value)).transpose()?;
        let Found { segments, unsettled, unsettled_bytes, mut tail, next, damaged } =
            Found::read(&self.directory, position, Access::ReadWrite)?;
        if let Some(first) = damaged.first() {
            let path = segments::path(&self.directory, *first);
            let detail = format!("the log, in or before {}", path.display());
            return Err(StoreError::new(StoreErrorKind::Damaged, detail));
        }
        if let Some(tail) = &mut tail {
            let bytes = tail.cut()?;
            if bytes > 0 {
                log::info!("store: {bytes} bytes of a commit that was cut off were taken off the log");
            }
        }
        let mut usage = Usage::default();
        for (number, bytes) in &segments {
            usage.put(*number, Room { bytes: *bytes, live: 0 });
        }
        for (number, live) in self.live()? {
            match segments.iter().find(|(found, _)| *found == number) {
                Some((_, bytes)) => usage.put(number, Room { bytes: *bytes, live }),
                None => {
                    let path = segments::path(&self.directory, number);
                    log::error!("store: a segment of the log is missing: {}", path.display());
                }
            }
        }
        // From before a kill, or a power cut: nothing leads to them.
        for number in usage.unused_before(position.map_or(0, |position| position.segment)) {
            self.remove(&mut usage, number);
        }
        let (record, unmovable, begun) = (Record::new(), BTreeSet::new(), position.is_some());
        Ok((Writer { tail, next, record, usage, unsettled_bytes, unmovable, begun }, unsettled))
    }

    /// How many bytes of each segment are in use, as the index has it.
    fn live(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let (mut live, mut malformed) = (Vec::new(), None);
        self.index.scan(Table::Segments, &[], &[0xff; 8], &mut |key, value| {
            match records::parse_u64(key).and_then(|number| Ok((number, records::parse_u64(value)?))) {
                Ok(segment) => live.push(segment),
                Err(error) => malformed = Some(error),
            }
            ControlFlow::Continue(())
        })?;
        malformed.map_or(Ok(live), Err)
    }

    fn frozen(&self) -> MutexGuard<'_, Weak<Hold>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, usage: &mut Usage, number: u64) {
        usage.forget(number);
        if self.frozen().upgrade().is_some_and(|hold| hold.keeps(number)) {
            return;
        }
        if let Err(error) = segments::remove(&self.directory, number) {
            log::warn!("store: a segment that is needed no more stays until the next start: {error}");
        }
    }

    /// Carries out in the index what is unsettled, and removes segments that nothing needs any more.
    fn carry_over(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let end = writer.end();
        let guard = self.unsettled();
        let unsettled = guard.as_ref().ok_or_else(closed)?;
        let turnover = self.turnover(unsettled)?;
        let mut writes = Vec::new();
        let mut usage = writer.usage.clone();
        usage.set_bytes(end.segment, end.offset);
        let mut changed = usage.turn_over(&turnover);
        let unused = usage.unused_before(end.segment);
        changed.extend(&unused);
        for number in changed {
            let (table, key) = (Table::Segments, number.to_be_bytes().to_vec());
            writes.push(match usage.live(number) {
                0 => Write::DeleteRange { table, from: key.clone(), to_inclusive: key },
                live => Write::Put { table, key, value: live.to_be_bytes().to_vec() },
            });
        }
        let (table, key, value) = (Table::Meta, META_LOG.to_vec(), records::emit_position(end));
        writes.push(Write::Put { table, key, value });
        self.index.commit_with(&|table, take| {
            unsettled.changes(table).into_iter().flat_map(Changes::iter).try_for_each(&mut *take)?;
            writes.iter().filter(|write| write.table() == table).try_for_each(|write| take(write.into()))
        })?;
        drop(guard);
        // Only now does nothing lead to them, whenever the power fails.
        for number in unused {
            self.remove(&mut usage, number);
        }
        (writer.usage, writer.unsettled_bytes, writer.begun) = (usage, 0, true);
        self.change(|unsettled| *unsettled = Some(Unsettled::default()));
        Ok(())
    }

    /// What these changes bring into use in the log and take out of it.
    fn turnover(&self, unsettled: &Unsettled) -> Result<Turnover, StoreError> {
        let mut turnover = Turnover::default();
        for (table, changes) in unsettled.tables().filter(|(table, _)| table.head_bytes().is_some()) {
            let mut free = |value: &[u8]| {
                if let Some(place) = Reference::parse(table, value) {
                    turnover.freed(place.segment, place.length);
                }
            };
            for change in changes.iter() {
                match change {
                    Change::DeleteRange(from, to) => self.index.scan(table, from, to, &mut |_, value| {
                        free(value);
                        ControlFlow::Continue(())
                    })?,
                    Change::Put(key, _) if changes.is_gone(key) => {}
                    Change::Put(key, _) => self.index.get(table, key)?.iter().for_each(|before| free(before)),
                }
            }
            for change in changes.iter() {
                if let Change::Put(_, value) = change
                    && let Some(place) = Reference::parse(table, value)
                {
                    turnover.used(place.segment, place.length);
                }
            }
        }
        Ok(turnover)
    }

    /// Writes what is left in some sparse segments once more, if too much of the log is unused. Everything is settled.
    fn compact(&self, writer: &mut Writer) -> Result<(), StoreError> {
        for _ in 0..LOG_COMPACTED_PER_SETTLE {
            let Writer { usage, unmovable, .. } = &*writer;
            let sparse = usage.sparse_before(writer.end().segment, self.sizes.unused, unmovable);
            let Some(number) = sparse else { break };
            // Something stays in it, if it can't be read, and it is not tried again before the next start.
            writer.unmovable.insert(number);
            match self.left_in(number) {
                Ok(left) if left.is_empty() => {}
                Ok(left) => {
                    self.write_again(writer, &left)?;
                    self.carry_over(writer)?;
                }
                Err(error) => log::warn!("store: a sparse segment is left as it is: {error}"),
            }
        }
        Ok(())
    }

    /// What is in use of a segment.
    fn left_in(&self, number: u64) -> Result<Vec<Left>, StoreError> {
        let mut left = Vec::new();
        let mut segment = Segment::open(&self.directory, number, Access::ReadWrite)?;
        segment.walk(Position::start_of(number).offset, &mut |entry| {
            if let Entry::Put { table, key, value, at } = entry
                && let Some(here) = Reference::of(table, value, number, at)
                && self.index.get(table, key)?.is_some_and(|value| value == here)
            {
                left.push((table, key.to_vec(), here));
            }
            Ok(())
        })?;
        Ok(left)
    }

    fn write_again(&self, writer: &mut Writer, left: &[Left]) -> Result<(), StoreError> {
        let (mut writes, mut bytes) = (Vec::new(), 0);
        for (table, key, here) in left {
            if let Ok(Resolved::Read(value)) = resolve(&self.directory, *table, here) {
                bytes += value.len();
                writes.push(Write::Put { table: *table, key: key.clone(), value });
            }
            if bytes >= SALVAGE_COMMIT_BYTES {
                self.append(writer, &mem::take(&mut writes))?;
                bytes = 0;
            }
        }
        self.append(writer, &writes)
    }

    /// Commits writes to the log.
    fn append(&self, writer: &mut Writer, writes: &[Write]) -> Result<(), StoreError> {
        if !writer.begun {
            self.carry_over(writer)?;
        }
        let record = &mut writer.record;
        record.clear(LOG_RECORD_BYTES_KEPT);
        let places: Vec<usize> = writes
            .iter()
            .map(|write| match write {
                Write::Put { table, key, value } => record.put(*table, key, value),
                Write::DeleteRange { table, from, to_inclusive } => {
                    record.delete_range(*table, from, to_inclusive);
                    0
                }
            })
            .collect();
        if record.is_empty() {
            return Ok(());
        }
        let tail = match writer.tail.take_if(|tail| tail.end().offset < self.sizes.segment) {
            Some(tail) => tail,
            None => {
                let new = Segment::create(&self.directory, writer.next)?;
                writer.next += 1;
                if let Some(full) = writer.tail.take() {
                    writer.usage.set_bytes(full.end().segment, full.end().offset);
                }
                new
            }
        };
        let tail = writer.tail.insert(tail);
        let at = tail.append(record)?;
        writer.unsettled_bytes += record.len() as u64;
        let segment = tail.end().segment;
        self.change(|unsettled| {
            let unsettled = unsettled.get_or_insert_default();
            for (write, place) in writes.iter().zip(places) {
                match write {
                    Write::Put { table, key, value } => {
                        unsettled.put(*table, key, value, segment, at + place as u64);
                    }
                    Write::DeleteRange { table, from, to_inclusive } => {
                        unsettled.delete_range(*table, from, to_inclusive);
                    }
                }
            }
        });
        Ok(())
    }

    /// The value of a key as the index has it, or will have it.
    fn look_up(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let unsettled = self.unsettled();
        match unsettled.as_ref().ok_or_else(closed)?.changes(table).and_then(|changes| changes.get(key)) {
            Some(value) => Ok(value.cloned()),
            None => self.index.get(table, key),
        }
    }

    /// The same for a range.
    fn look_through(
        &self,
        table: Table,
        from: &[u8],
        to_inclusive: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let unsettled = self.unsettled();
        let index = |visit: &mut Visit<'_>| self.index.scan(table, from, to_inclusive, visit);
        match unsettled.as_ref().ok_or_else(closed)?.changes(table) {
            Some(changes) => changes.scan(from, to_inclusive, index, visit),
            None => index(visit),
        }
    }

    /// The value of a key as it was put, that was `found` when it was looked up.
    fn whole(&self, table: Table, key: &[u8], found: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut found = found;
        loop {
            match resolve(&self.directory, table, &found)? {
                Resolved::InPlace => return Ok(Some(found)),
                Resolved::Read(value) => return Ok(Some(value)),
                Resolved::Missing => {}
            }
            // It was written once more meanwhile, or deleted.
            match self.look_up(table, key)? {
                None => return Ok(None),
                Some(again) if again == found => {
                    log::error!("store: what the index leads to is missing in the log");
                    return Ok(None);
                }
                Some(again) => found = again,
            }
        }
    }
}

impl Writer {
    /// Where the log ends.
    fn end(&self) -> Position {
        self.tail.as_ref().map_or(Position::start_of(self.next), Segment::end)
    }
}

impl Engine for LogEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.look_up(table, key)? {
            Some(found) => self.whole(table, key, found),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to_inclusive: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if table.head_bytes().is_none() {
            return self.look_through(table, from, to_inclusive, visit);
        }
        // Nobody waits for the index while the log is read.
        let mut from = from.to_vec();
        loop {
            let mut found = Vec::new();
            self.look_through(table, &from, to_inclusive, &mut |key, value| {
                found.push((key.to_vec(), value.to_vec()));
                if found.len() < VALUES_PER_LOOK { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            let is_last = found.len() < VALUES_PER_LOOK;
            for (key, value) in found {
                if let Some(value) = self.whole(table, &key, value)?
                    && visit(&key, &value).is_break()
                {
                    return Ok(());
                }
                from = key;
            }
            if is_last {
                return Ok(());
            }
            // The next key that there can be.
            from.push(0);
        }
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let writer = writer.as_mut().ok_or_else(closed)?;
        if self.unsettled().as_ref().map_or(0, Unsettled::len) > 4 * LOG_UNSETTLED_CHANGES_MAX {
            // That fails again and again, or it would be done: more is not taken.
            self.carry_over(writer)?;
        }
        self.append(writer, writes)
    }

    fn is_settled(&self) -> bool {
        self.writer().as_ref().is_none_or(|writer| writer.unsettled_bytes == 0)
    }

    fn settle(&self, all: bool) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let writer = writer.as_mut().ok_or_else(closed)?;
        let changes = self.unsettled().as_ref().map_or(0, Unsettled::len);
        let full = writer.unsettled_bytes >= self.sizes.unsettled || changes >= LOG_UNSETTLED_CHANGES_MAX;
        if writer.unsettled_bytes == 0 || !(all || full) {
            return Ok(());
        }
        writer.record.clear(if all { 0 } else { LOG_RECORD_BYTES_KEPT });
        self.carry_over(writer)?;
        self.compact(writer)
    }

    fn freeze(&self) -> Result<Option<Frozen>, StoreError> {
        let mut writer = self.writer();
        let writer = writer.as_mut().ok_or_else(closed)?;
        if writer.unsettled_bytes > 0 || !writer.begun {
            self.carry_over(writer)?;
        }
        // The index says that the log is settled to its end: so far it is all that a start needs.
        let end = writer.end();
        let full = writer.usage.used().filter(|number| *number < end.segment);
        let mut segments: Vec<_> = full.map(|number| (number, u64::MAX)).collect();
        segments.extend(writer.tail.as_ref().map(|_| (end.segment, end.offset)));
        let frozen = Frozen::new(&self.directory, self.index.snapshot()?, segments);
        *self.frozen() = Arc::downgrade(frozen.hold());
        Ok(Some(frozen))
    }

    fn give_up_frozen(&self, why: GivenUp) {
        let hold = self.frozen().upgrade();
        if let Some(hold) = hold {
            hold.give_up(why);
        }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut writer = self.writer();
        // Of the index it would keep open what has to be closed.
        self.give_up_frozen(GivenUp::Reopened);
        // Of what was refused nothing may be found again.
        if let Some(tail) = writer.as_mut().and_then(|writer| writer.tail.as_mut()) {
            tail.cut()?;
        }
        *writer = None;
        // Whoever reads waits for it.
        let loaded = self.change(|place| {
            *place = None;
            self.index.reopen()?;
            let (loaded, unsettled) = match self.load() {
                Err(error) if error.kind == StoreErrorKind::Damaged => {
                    self.index.mend(&error)?;
                    self.load()?
                }
                loaded => loaded?,
            };
            *place = Some(unsettled);
            Ok::<_, StoreError>(loaded)
        })?;
        *writer = Some(loaded);
        Ok(())
    }
}

impl Drop for LogEngine {
    fn drop(&mut self) {
        // Before the index is closed: the file would stay locked.
        self.give_up_frozen(GivenUp::Stopped);
    }
}

fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Io, "it is closed")
}
