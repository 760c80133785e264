//! The log: that its segments are what they are to be, that what is in use lies in whole records, and what is counted of it.
//!
//! This file owns what is to be true of segments. It must not know what is in the records: `mailboxes`.

use std::collections::{BTreeMap, HashSet};

use super::{
    super::{
        StoreError, StoreErrorKind, Table,
        records::{self, Reference},
        segments::{Access, Entry, Position, Segment},
        source::Source,
        usage::Turnover,
    },
    FsckReport,
    Gravity::{Lost, Mended, Wrong},
    mailboxes::InUse,
};

pub(super) fn look(
    source: &Source<'_>,
    mut in_use: InUse,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    report.segments = source.segments.len() as u64;
    report.log_bytes = source.segments.iter().map(|(_, bytes)| bytes).sum();
    for number in &source.damaged {
        let text =
            format!("what was committed last, in or before segment {number:016x} of the log, is damaged");
        report.note(Lost, text);
    }
    if source.is_torn {
        report.note(Mended, "a commit that was cut off lies at the log's end".into());
    }
    let settled = source.position.map_or(0, |position| position.segment);
    for (number, _) in &source.segments {
        let places = in_use.remove(number);
        if places.is_none() && *number < settled {
            report.note(Mended, format!("segment {number:016x} of the log is needed no more"));
            continue;
        }
        let Some(places) = places else { continue };
        match look_at_segment(source, *number, places) {
            Ok(0) => {}
            Ok(outside) => {
                let text =
                    format!("{outside} chunks in segment {number:016x} of the log lie in no whole record");
                report.note(Wrong, text);
            }
            Err(error) if error.kind == StoreErrorKind::Corrupted => {
                report.note(Wrong, format!("a record in segment {number:016x} of the log is malformed"));
            }
            Err(error) => return Err(error),
        }
    }
    for number in in_use.keys() {
        report.note(Lost, format!("segment {number:016x} of the log is missing, and in use"));
    }
    look_at_counts(source, report);
    Ok(())
}

/// Returns how many of the places are not what a whole record says to be there.
fn look_at_segment(source: &Source<'_>, number: u64, places: Vec<(u32, u32)>) -> Result<usize, StoreError> {
    let mut places: HashSet<_> = places.into_iter().collect();
    let mut segment = Segment::open(&source.log, number, Access::Read)?;
    let walked = segment.walk(Position::start_of(number).offset, &mut |entry| {
        if let Entry::Put { table, value, at, .. } = entry
            && let Some(place) = Reference::of(table, value, number, at)
            && let Some(place) = Reference::parse(table, &place)
        {
            places.remove(&(place.offset, place.length));
        }
        Ok(())
    });
    walked?;
    Ok(places.len())
}

/// What the index counts of each segment goes by what is settled.
fn look_at_counts(source: &Source<'_>, report: &mut FsckReport) {
    let mut turnover = Turnover::default();
    let mut are_whole = source.file.each(&source.commit, Table::Chunks, &mut |_, value| {
        if let Some(place) = Reference::parse(Table::Chunks, value) {
            turnover.used(place.segment, place.length);
        }
    });
    let mut counted = BTreeMap::new();
    are_whole &= source.file.each(&source.commit, Table::Segments, &mut |key, value| {
        if let (Ok(number), Ok(live)) = (records::parse_u64(key), records::parse_u64(value)) {
            counted.insert(number, live);
        }
    });
    let used: BTreeMap<_, _> = turnover.into_used().collect();
    for (number, _) in source.segments.iter().filter(|_| are_whole) {
        let (used, counted) = (used.get(number).unwrap_or(&0), counted.get(number).unwrap_or(&0));
        if used != counted {
            let text = format!(
                "the index counts {counted} bytes in use in segment {number:016x} of the log, there are {used}"
            );
            report.note(Wrong, text);
        }
    }
}
