//! The engine on a disk: a log that each commit is written to, and an index that says what of it is in force.
//!
//! This file owns the order between the two. A commit is one record at the end of the log, and one fsync; messages stay
//! where they lie in it. What changed is kept in memory until it is settled: carried out in the index, in one commit of
//! its own for many of ours. After a kill it is read again from the log. Segments in which nothing is in use any more
//! are removed, and what is left in sparse ones is written once more. What lies where: docs/store.md.
//!
//! It must not know what the tables hold, but for how much of a value stays in the index ([`Table::head_bytes`]).

use std::{
    collections::BTreeMap,
    mem,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use super::{
    Engine, RedbEngine, StoreError, StoreErrorKind, Table, Visit, Write,
    changes::Changes,
    limits::{
        LOG_RECORD_BYTES_KEPT, LOG_SEGMENT_BYTES, LOG_UNSETTLED_BYTES, LOG_UNSETTLED_CHANGES_MAX,
        LOG_UNUSED_BYTES, SALVAGE_COMMIT_BYTES,
    },
    records::{self, META_LOG, Reference},
    segments::{self, Entry, Position, Record, Segment},
};

/// Values that are read from the log before the index is asked for further ones.
const VALUES_PER_LOOK: usize = 64;

/// Beside the index: the directory of the segments.
pub(super) const DIRECTORY: &str = "log";

/// See the module.
pub struct LogEngine {
    directory: PathBuf,
    index: RedbEngine,
    /// `None`: it could not be opened again.
    unsettled: RwLock<Option<Unsettled>>,
    /// The same. Taken before `unsettled`.
    writer: Mutex<Option<Writer>>,
}

/// What was committed and is not in the index yet, as the index will have it.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    tables: BTreeMap<Table, Changes>,
}

struct Writer {
    tail: Segment,
    record: Record,
    /// All segments but the tail.
    segments: BTreeMap<u64, Usage>,
    /// Bytes of values that the index has in the tail.
    tail_live: u64,
    /// Bytes of records that are not settled.
    unsettled_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    bytes: u64,
    /// Of values to which the index leads.
    live: u64,
}

impl LogEngine {
    /// Opens the log beside the index at `path`, which is there; or makes one.
    ///
    /// # Errors
    /// If index or log cannot be read and written, or the index is damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let engine = Self {
            directory: path.parent().unwrap_or(Path::new(".")).join(DIRECTORY),
            index: RedbEngine::open(path)?,
            unsettled: RwLock::default(),
            writer: Mutex::default(),
        };
        engine.take_up(&mut engine.writer(), |_| Ok(()))?;
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

    /// Takes up index and log once `reopen` has succeeded, and settles what was left unsettled. Whoever reads waits for it.
    fn take_up(
        &self,
        writer: &mut Option<Writer>,
        reopen: impl FnOnce(&RedbEngine) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut loaded = self.change(|place| {
            *place = None;
            reopen(&self.index)?;
            let (loaded, unsettled) = self.load()?;
            *place = Some(unsettled);
            Ok::<_, StoreError>(loaded)
        })?;
        self.carry_over(&mut loaded)?;
        *writer = Some(loaded);
        Ok(())
    }

    /// What there is, and what is unsettled of it.
    fn load(&self) -> Result<(Writer, Unsettled), StoreError> {
        let position = self.index.get(Table::Meta, META_LOG)?.map(|value| records::parse_position(&value));
        let found = segments::list(&self.directory)?;
        let last = found.last().map_or(0, |(number, _)| *number);
        // Without one, nothing was ever committed to the log.
        let position = position.transpose()?.unwrap_or(Position::start_of(last + 1));
        let mut usage: BTreeMap<u64, Usage> =
            found.into_iter().map(|(number, bytes)| (number, Usage { bytes, live: 0 })).collect();
        for (number, live) in self.live()? {
            match usage.get_mut(&number) {
                Some(usage) => usage.live = live,
                None => {
                    let path = segments::path(&self.directory, number);
                    log::error!("store: a segment of the log is missing: {}", path.display());
                }
            }
        }
        let (unsettled, tail) = replay(&self.directory, position)?;
        let tail = match tail {
            Some(mut tail) if tail.is_usable() => {
                tail.cut()?;
                tail
            }
            _ => Segment::create(&self.directory, position.segment.max(last + 1))?,
        };
        // From before a power cut: nothing in the index leads to them.
        let number = tail.end().segment;
        let tail_live = usage.remove(&number).unwrap_or_default().live;
        let (kept, unused): (_, BTreeMap<u64, Usage>) =
            usage.into_iter().partition(|(number, usage)| usage.live > 0 || *number >= position.segment);
        for number in unused.into_keys() {
            segments::remove(&self.directory, number)?;
        }
        let writer = Writer { tail, record: Record::new(), segments: kept, tail_live, unsettled_bytes: 0 };
        Ok((writer, unsettled))
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

    /// Carries out in the index what is unsettled, and removes segments that nothing needs any more.
    fn carry_over(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let end = writer.tail.end();
        let mut writes = Vec::new();
        // Bytes that come into use and go out of it, by segment.
        let (mut used, mut freed) = (BTreeMap::<u64, u64>::new(), BTreeMap::<u64, u64>::new());
        for (&table, changes) in
            self.unsettled().as_ref().map(|unsettled| &unsettled.tables).into_iter().flatten()
        {
            let mut free = |value: &[u8]| {
                if let Some(place) = Reference::parse(table, value) {
                    *freed.entry(place.segment).or_default() += u64::from(place.length);
                }
            };
            for (from, to) in changes.gone() {
                if table.head_bytes().is_some() {
                    self.index.scan(table, from, to, &mut |_, value| {
                        free(value);
                        ControlFlow::Continue(())
                    })?;
                }
                writes.push(Write::DeleteRange { table, from: from.clone(), to_inclusive: to.clone() });
            }
            for (key, value) in changes.puts() {
                if let Some(place) = Reference::parse(table, value) {
                    *used.entry(place.segment).or_default() += u64::from(place.length);
                    if !changes.is_gone(key)
                        && let Some(before) = self.index.get(table, key)?
                    {
                        free(&before);
                    }
                }
                writes.push(Write::Put { table, key: key.clone(), value: value.clone() });
            }
        }
        let tail_before = writer.tail_live;
        let mut segments = mem::take(&mut writer.segments);
        segments.insert(end.segment, Usage { bytes: end.offset, live: tail_before });
        for number in used.keys().chain(freed.keys()) {
            if let Some(usage) = segments.get_mut(number) {
                let used = used.get(number).copied().unwrap_or_default();
                usage.live =
                    (usage.live + used).saturating_sub(freed.get(number).copied().unwrap_or_default());
            }
        }
        let unused: Vec<u64> = segments
            .iter()
            .filter(|(number, usage)| usage.live == 0 && **number != end.segment)
            .map(|(number, _)| *number)
            .collect();
        for number in used.keys().chain(freed.keys()).chain(&unused) {
            let key = number.to_be_bytes().to_vec();
            writes.push(match segments.get(number) {
                Some(usage) if usage.live > 0 => {
                    Write::Put { table: Table::Segments, key, value: usage.live.to_be_bytes().to_vec() }
                }
                _ => Write::DeleteRange { table: Table::Segments, from: key.clone(), to_inclusive: key },
            });
        }
        let (table, key, value) = (Table::Meta, META_LOG.to_vec(), records::emit_position(end));
        writes.push(Write::Put { table, key, value });
        let committed = self.index.commit(&writes);
        if committed.is_err() {
            // It has to be opened again, and then everything is counted anew.
            writer.segments = segments;
            return committed;
        }
        writer.tail_live = segments.remove(&end.segment).unwrap_or_default().live;
        for number in unused {
            segments.remove(&number);
            if let Err(error) = segments::remove(&self.directory, number) {
                log::warn!("store: a segment that is needed no more: {error}");
            }
        }
        writer.segments = segments;
        writer.unsettled_bytes = 0;
        self.change(|unsettled| *unsettled = Some(Unsettled::default()));
        Ok(())
    }

    /// Writes what is left in sparse segments once more, as long as more of the log is unused than used.
    fn compact(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let mut looked_at = 0;
        loop {
            let all = |part: fn(&Usage) -> u64| writer.segments.values().map(part).sum::<u64>();
            let (bytes, live) = (all(|usage| usage.bytes), all(|usage| usage.live));
            let sparse =
                writer.segments.range(looked_at + 1..).find(|(_, usage)| usage.live < usage.bytes / 2);
            let Some((&number, _)) = sparse.filter(|_| bytes - live.min(bytes) > live + LOG_UNUSED_BYTES)
            else {
                return Ok(());
            };
            looked_at = number;
            let mut moved = Record::new();
            let mut segment = Segment::open(&self.directory, number)?;
            let mut writes = Vec::new();
            segment.walk(Position::start_of(number).offset, &mut |entry| {
                let Entry::Put { table, key, value, at } = entry else { return Ok(()) };
                let Some(here) = Reference::of(table, value, number, at) else { return Ok(()) };
                if self.index.get(table, key)?.is_none_or(|value| value != here) {
                    return Ok(());
                }
                writes.push(Write::Put { table, key: key.to_vec(), value: value.to_vec() });
                if writes.iter().map(Write::bytes).sum::<usize>() > SALVAGE_COMMIT_BYTES {
                    self.append(writer, &mut moved, &mem::take(&mut writes))?;
                }
                Ok(())
            })?;
            self.append(writer, &mut moved, &writes)?;
            self.carry_over(writer)?;
        }
    }

    /// Commits writes to the log, through a record's memory.
    fn append(&self, writer: &mut Writer, record: &mut Record, writes: &[Write]) -> Result<(), StoreError> {
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
        if writer.tail.end().offset >= LOG_SEGMENT_BYTES {
            let full = writer.tail.end();
            let new = Segment::create(&self.directory, full.segment + 1)?;
            writer.segments.insert(full.segment, Usage { bytes: full.offset, live: writer.tail_live });
            (writer.tail, writer.tail_live) = (new, 0);
        }
        let at = writer.tail.append(record)?;
        writer.unsettled_bytes += record.len() as u64;
        let segment = writer.tail.end().segment;
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

    /// A value as it was put: `None` if where it was is not there any more.
    fn whole(&self, table: Table, value: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
        resolve(&self.directory, table, &value).map(|whole| match whole {
            Resolved::InPlace => Some(value),
            Resolved::Read(whole) => Some(whole),
            Resolved::Missing => None,
        })
    }

    /// The value of a key as the index has it, or will have it.
    fn look_up(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let unsettled = self.unsettled();
        match unsettled.as_ref().ok_or_else(closed)?.tables.get(&table).and_then(|changes| changes.get(key)) {
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
        match unsettled.as_ref().ok_or_else(closed)?.tables.get(&table) {
            Some(changes) => changes.scan(from, to_inclusive, index, visit),
            None => index(visit),
        }
    }
}

impl Engine for LogEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.look_up(table, key)? {
            Some(value) => self.whole(table, value),
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
                let value = match self.whole(table, value)? {
                    // It was written once more meanwhile, or deleted.
                    None => self.get(table, &key)?,
                    value => value,
                };
                from.clone_from(&key);
                match value {
                    Some(value) if visit(&key, &value).is_break() => return Ok(()),
                    Some(_) => {}
                    None if self.look_up(table, &key)?.is_none() => {}
                    None => log::error!("store: what the index leads to is missing in the log"),
                }
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
        let mut record = mem::replace(&mut writer.record, Record::new());
        let result = self.append(writer, &mut record, writes);
        writer.record = record;
        result
    }

    fn is_settled(&self) -> bool {
        self.writer().as_ref().is_none_or(|writer| writer.unsettled_bytes == 0)
    }

    fn settle(&self, all: bool) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let writer = writer.as_mut().ok_or_else(closed)?;
        let changes = self.unsettled().as_ref().map_or(0, Unsettled::len);
        let full = writer.unsettled_bytes >= LOG_UNSETTLED_BYTES || changes >= LOG_UNSETTLED_CHANGES_MAX;
        if writer.unsettled_bytes == 0 || !(all || full) {
            return Ok(());
        }
        writer.record.clear(if all { 0 } else { LOG_RECORD_BYTES_KEPT });
        self.carry_over(writer)?;
        self.compact(writer)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut writer = self.writer();
        // Of what was refused nothing may be found again.
        if let Some(open) = writer.as_mut() {
            open.tail.cut()?;
        }
        *writer = None;
        self.take_up(&mut writer, RedbEngine::reopen)
    }
}

impl Unsettled {
    fn len(&self) -> usize {
        self.tables.values().map(Changes::len).sum()
    }

    pub(super) fn changes(&self, table: Table) -> Option<&Changes> {
        self.tables.get(&table)
    }

    /// `at`: where the value begins in its segment.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8], segment: u64, at: u64) {
        let value = Reference::of(table, value, segment, at).unwrap_or_else(|| value.to_vec());
        self.tables.entry(table).or_default().put(key.to_vec(), value);
    }

    fn delete_range(&mut self, table: Table, from: &[u8], to_inclusive: &[u8]) {
        self.tables.entry(table).or_default().delete_range(from.to_vec(), to_inclusive.to_vec());
    }
}

/// Reads what was committed from a position on. Returns it with the last segment, if there is one from there on.
pub(super) fn replay(
    directory: &Path,
    position: Position,
) -> Result<(Unsettled, Option<Segment>), StoreError> {
    let mut unsettled = Unsettled::default();
    let mut tail: Option<Segment> = None;
    let mut expected = position.segment;
    for (number, bytes) in
        segments::list(directory)?.into_iter().filter(|(number, _)| *number >= position.segment)
    {
        let from =
            if number == position.segment { position.offset } else { Position::start_of(number).offset };
        let mut segment = Segment::open(directory, number)?;
        let damages = segment.walk(from, &mut |entry| {
            match entry {
                Entry::Put { table, key, value, at } => unsettled.put(table, key, value, number, at),
                Entry::DeleteRange { table, from, to_inclusive } => {
                    unsettled.delete_range(table, from, to_inclusive)
                }
            }
            Ok(())
        })?;
        segment.sync()?;
        // Only at the very end may a record be cut off: none is begun before the one before it is on the disk.
        let torn_before = tail.as_ref().is_some_and(Segment::is_torn);
        let damages = damages + u64::from(torn_before || !segment.is_usable() || bytes < from);
        let missing = number - expected;
        if damages + missing > 0 {
            log::error!(
                "store: the log is damaged in or before {}: of what was committed last, something is lost",
                segments::path(directory, number).display()
            );
        }
        expected = number + 1;
        tail = Some(segment);
    }
    if tail.is_none() && position != Position::start_of(position.segment) {
        let path = segments::path(directory, position.segment);
        log::error!("store: a segment of the log is missing: {}", path.display());
    }
    Ok((unsettled, tail))
}

/// Where a value is.
pub(super) enum Resolved {
    /// It is what it says.
    InPlace,
    /// It was read from the log.
    Read(Vec<u8>),
    /// Its segment is gone, or too short.
    Missing,
}

/// Reads the value to which one of the index leads.
pub(super) fn resolve(directory: &Path, table: Table, value: &[u8]) -> Result<Resolved, StoreError> {
    let Some(place) = Reference::parse(table, value) else { return Ok(Resolved::InPlace) };
    let position = Position { segment: place.segment, offset: place.offset.into() };
    let read = segments::read(directory, position, place.head, place.length)?;
    Ok(read.map_or(Resolved::Missing, Resolved::Read))
}

fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Io, "it is closed")
}
