//! The store as it was at one moment, readable while it goes on.
//!
//! This file owns what is held back for that: the index's pages, by a transaction that reads, and segments of the log that
//! are needed by nobody else any more. It is let go of as soon as it was read, and all at once when it is given up. Whoever
//! reads holds the store up nowhere: between two looks nothing is locked. What is read for: `copy`.

use std::{
    collections::BTreeSet,
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Table,
    copy::{CopyError, GivenUp},
    redb_engine::{IndexSnapshot, Row},
    segments,
};

/// What reads. Dropped, it lets go of everything.
#[derive(Debug)]
pub struct Frozen {
    hold: Arc<Hold>,
    segments: Vec<(u64, u64)>,
}

/// What is held back, for the engine that asks before it removes something.
#[derive(Debug)]
pub(super) struct Hold {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    index: Option<IndexSnapshot>,
    /// Segments that are still to be read, and others between them.
    needed: RangeInclusive<u64>,
    /// Of those, which are to be removed once they were read.
    waiting: BTreeSet<u64>,
    given_up: Option<GivenUp>,
}

impl Frozen {
    /// `segments`, of the log in `directory`: their numbers, rising, and how far each is to be read at most, bytes.
    pub(super) fn new(directory: &Path, index: IndexSnapshot, segments: Vec<(u64, u64)>) -> Self {
        let ends = segments.first().zip(segments.last());
        let needed = match ends {
            Some(((first, _), (last, _))) => *first..=*last,
            None => nothing(),
        };
        let state = State { index: Some(index), needed, waiting: BTreeSet::new(), given_up: None };
        let hold = Arc::new(Hold { directory: directory.to_owned(), state: Mutex::new(state) });
        Self { hold, segments }
    }

    pub(super) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    pub(super) fn segments(&self) -> &[(u64, u64)] {
        &self.segments
    }

    /// Where a segment is, until [`Frozen::has_passed`] it.
    pub(super) fn path(&self, number: u64) -> PathBuf {
        segments::path(&self.hold.directory, number)
    }

    /// Records of the index after a key, until they hold `bytes_max` bytes or more; none: there are no more.
    pub(super) fn rows(
        &self,
        table: Table,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<Row>, CopyError> {
        let state = self.hold.state();
        match (&state.index, state.given_up) {
            (_, Some(why)) => Err(CopyError::GivenUp(why)),
            (None, None) => Ok(Vec::new()),
            (Some(index), None) => Ok(index.rows(table, after, bytes_max)?),
        }
    }

    /// The index was read.
    pub(super) fn let_go_of_index(&self) {
        self.hold.state().index = None;
    }

    /// This segment and all before it were read.
    pub(super) fn has_passed(&self, number: u64) {
        let mut state = self.hold.state();
        state.needed = number.saturating_add(1)..=*state.needed.end();
        let still_needed = state.waiting.split_off(&number.saturating_add(1));
        let passed = std::mem::replace(&mut state.waiting, still_needed);
        drop(state);
        self.hold.remove(passed);
    }

    /// Whether it is still held.
    pub(super) fn check(&self) -> Result<(), CopyError> {
        self.hold.state().given_up.map_or(Ok(()), |why| Err(CopyError::GivenUp(why)))
    }

    /// Why a segment could not be read: it may be gone because it was given up.
    pub(super) fn failed(&self, error: io::Error) -> CopyError {
        self.check().err().unwrap_or_else(|| CopyError::Store(error.into()))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.hold.give_up(GivenUp::Stopped);
    }
}

impl Hold {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a segment that nothing else needs has to stay for now; it is removed later then.
    pub(super) fn keeps(&self, number: u64) -> bool {
        let mut state = self.state();
        let is_needed = state.needed.contains(&number);
        if is_needed {
            state.waiting.insert(number);
        }
        is_needed
    }

    /// Lets go of everything. Whoever reads is told why.
    pub(super) fn give_up(&self, why: GivenUp) {
        let mut state = self.state();
        state.given_up = state.given_up.or(Some(why));
        state.index = None;
        state.needed = nothing();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.remove(waiting);
    }

    /// Numbers are never given again, so that it makes no difference when this happens.
    fn remove(&self, numbers: BTreeSet<u64>) {
        for number in numbers {
            if let Err(error) = segments::remove(&self.directory, number) {
                log::warn!("store: a segment that is needed no more stays until the next start: {error}");
            }
        }
    }
}

#[expect(clippy::reversed_empty_ranges, reason = "it is to hold nothing")]
fn nothing() -> RangeInclusive<u64> {
    1..=0
}
