//! What the log has that is not in the index yet: in memory, and how a start finds it again.
//!
//! This file owns the reading of the log from the place up to which it is settled. What is written, and when it is settled:
//! `log_engine`; what a file looks like: `segments`.

use std::{collections::BTreeMap, path::Path};

use super::{
    StoreError, Table,
    changes::Changes,
    records::Reference,
    segments::{self, Access, Entry, Position, Segment},
};

/// The changes, by table. In it large values are as the index will have them: where they are in the log.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    tables: BTreeMap<Table, Changes>,
}

impl Unsettled {
    pub(super) fn len(&self) -> usize {
        self.tables.values().map(Changes::len).sum()
    }

    pub(super) fn changes(&self, table: Table) -> Option<&Changes> {
        self.tables.get(&table)
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = (Table, &Changes)> {
        self.tables.iter().map(|(table, changes)| (*table, changes))
    }

    /// `at`: where the value begins in its segment.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8], segment: u64, at: u64) {
        let value = Reference::of(table, value, segment, at).unwrap_or_else(|| value.to_vec());
        self.tables.entry(table).or_default().put(key.to_vec(), value);
    }

    pub(super) fn delete_range(&mut self, table: Table, from: &[u8], to_inclusive: &[u8]) {
        self.tables.entry(table).or_default().delete_range(from.to_vec(), to_inclusive.to_vec());
    }
}

/// A log as it was found.
pub(super) struct Found {
    /// Every segment, with the bytes of its file.
    pub(super) segments: Vec<(u64, u64)>,
    pub(super) unsettled: Unsettled,
    /// Bytes of the log that are not settled.
    pub(super) unsettled_bytes: u64,
    /// The last segment, where a record can be written behind its last one.
    pub(super) tail: Option<Segment>,
    /// The number of the next segment.
    pub(super) next: u64,
    /// Segments in which something is missing that was committed.
    pub(super) damaged: Vec<u64>,
}

impl Found {
    /// Reads what was committed from a position on. `None`: nothing ever was.
    pub(super) fn read(
        directory: &Path,
        position: Option<Position>,
        access: Access,
    ) -> Result<Self, StoreError> {
        if access == Access::ReadWrite {
            segments::make(directory)?;
        }
        let segments = segments::list(directory)?;
        let last = segments.last().map_or(0, |(number, _)| *number);
        let mut found = Self {
            unsettled: Unsettled::default(),
            unsettled_bytes: 0,
            tail: None,
            next: last + 1,
            damaged: Vec::new(),
            segments,
        };
        let Some(position) = position else { return Ok(found) };
        let has_begun = position != Position::start_of(position.segment);
        // One that is lost is not made again: what led into it would lead into the new one.
        found.next = found.next.max(position.segment + u64::from(has_begun));
        if has_begun && last < position.segment {
            found.damaged.push(position.segment);
        }
        let mut expected = position.segment;
        let unsettled = found.segments.iter().copied().filter(|(number, _)| *number >= position.segment);
        for (number, bytes) in unsettled.collect::<Vec<_>>() {
            let start = if number == position.segment { position } else { Position::start_of(number) };
            let segment = Segment::open(directory, number, access)?;
            if number == last && segment.is_unfinished(bytes) {
                // A kill, or a full disk, while it was made.
                found.next = number;
                break;
            }
            if number != expected {
                found.damaged.push(expected);
            }
            expected = number + 1;
            found.take(segment, start, bytes)?;
            if let (Access::ReadWrite, Some(tail)) = (access, &found.tail) {
                // A process that was killed may not have come to that.
                tail.sync()?;
            }
        }
        if found.tail.as_ref().is_some_and(|tail| !tail.is_usable()) {
            found.tail = None;
        }
        Ok(found)
    }

    fn take(&mut self, mut segment: Segment, start: Position, bytes: u64) -> Result<(), StoreError> {
        let (number, unsettled) = (start.segment, &mut self.unsettled);
        if bytes < start.offset {
            // Cut off in what was settled: nothing can be written behind that.
            self.damaged.push(number);
            self.tail = None;
            return Ok(());
        }
        let damages = segment.walk(start.offset, &mut |entry| {
            match entry {
                Entry::Put { table, key, value, at } => unsettled.put(table, key, value, number, at),
                Entry::DeleteRange { table, from, to_inclusive } => {
                    unsettled.delete_range(table, from, to_inclusive);
                }
            }
            Ok(())
        })?;
        self.unsettled_bytes += segment.end().offset.saturating_sub(start.offset);
        if damages > 0 || !segment.is_usable() {
            self.damaged.push(number);
        }
        // A record is begun only when the one before it is on the disk: what is cut off in one that is not the last is damage.
        if let Some(before) = self.tail.replace(segment)
            && before.is_torn()
        {
            self.damaged.push(before.end().segment);
        }
        Ok(())
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Position {
        self.tail.as_ref().map_or(Position::start_of(self.next), Segment::end)
    }
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
