//! The end that has the store: out with all that is in it.
//!
//! This file owns the order: first the index, of which nothing is held back any more then, then the log, segment by segment,
//! each of which may go when it is out. It waits for whoever reads, on a thread of its own.

use std::{fs::File, io::Write, os::unix::fs::FileExt};

use super::{
    super::{Table, frozen::Frozen, limits::COPY_PIECE_BYTES, segments::emit_put},
    CopyError, CopyReport,
    stream::{Kind, Outgoing},
};

/// Writes a copy of the store as it was when it was frozen.
pub(in super::super) fn send(frozen: Frozen, out: impl Write) -> Result<CopyReport, CopyError> {
    let mut copy =
        Copy { out: Outgoing::begin(out)?, frozen, report: CopyReport::default(), memory: Vec::new() };
    for table in Table::ALL {
        copy.table(table)?;
    }
    copy.frozen.let_go_of_index();
    for (number, bytes_max) in copy.frozen.segments().to_vec() {
        copy.segment(number, bytes_max)?;
    }
    // Whoever has all of it believes it; a copy that was given up is not one.
    copy.frozen.check()?;
    let CopyReport { rows, segments, log_bytes, .. } = copy.report;
    copy.out.end([rows, segments, log_bytes])?;
    Ok(copy.report)
}

struct Copy<W> {
    out: Outgoing<W>,
    frozen: Frozen,
    report: CopyReport,
    memory: Vec<u8>,
}

impl<W: Write> Copy<W> {
    fn table(&mut self, table: Table) -> Result<(), CopyError> {
        let mut after = None;
        loop {
            let rows = self.frozen.rows(table, after.as_deref(), COPY_PIECE_BYTES)?;
            self.memory.clear();
            for (key, value) in &rows {
                self.report.note_row(table, value);
                emit_put(&mut self.memory, table, key, value);
            }
            match rows.into_iter().next_back() {
                None => return Ok(()),
                Some((key, _)) => after = Some(key),
            }
            self.out.put(Kind::Rows, &self.memory)?;
        }
    }

    fn segment(&mut self, number: u64, bytes_max: u64) -> Result<(), CopyError> {
        let file = File::open(self.frozen.path(number)).map_err(|error| self.frozen.failed(error))?;
        let bytes = file.metadata().map_err(|error| self.frozen.failed(error))?.len().min(bytes_max);
        self.out.put(Kind::Segment, &number.to_be_bytes())?;
        let mut at = 0;
        while at < bytes {
            self.frozen.check()?;
            let piece = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(COPY_PIECE_BYTES);
            self.memory.resize(piece, 0);
            file.read_exact_at(&mut self.memory, at).map_err(|error| self.frozen.failed(error))?;
            self.out.put(Kind::Piece, &self.memory)?;
            at += piece as u64;
        }
        self.report.segments += 1;
        self.report.log_bytes += bytes;
        self.frozen.has_passed(number);
        Ok(())
    }
}
