//! QUERY and STATES: what is known of ids that were sent (spec/wire.md, section 5).
//!
//! Owns: these bodies. Must not know lanes or results: `transfer` has those.

use super::cursor::Reader;
use super::session::emit;
use super::{FrameType, NoRoom};
use crate::ids::{Lane, Number};
use crate::limits::QUERY_COUNT_MAX;

/// QUERY: what became of consecutive numbers of one lane?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Echoed in the answer; not zero.
    pub request: u32,
    /// One's own.
    pub lane: Lane,
    /// The first number; at least 1.
    pub first: Number,
    /// How many numbers, 1 to 64.
    pub count: u16,
}

impl Query {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let request = reader.u32().filter(|request| *request != 0)?;
        let (lane, first) = (Lane(reader.u64()?), Number(reader.u64()?));
        let count = reader.u16().filter(|count| (1..=QUERY_COUNT_MAX).contains(count))?;
        reader.zero(2)?;
        let fits = first.0 != 0 && first.0.checked_add(u64::from(count - 1)).is_some();
        fits.then_some(Self { request, lane, first, count })
    }

    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let query = Self::read(&mut reader)?;
        reader.end(query)
    }

    /// The numbers that it is about.
    pub fn numbers(&self) -> impl Iterator<Item = Number> + use<> {
        let first = self.first.0;
        (0..self.count).map(move |index| Number(first.saturating_add(u64::from(index))))
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        self.emit_with(out, FrameType::Query, &[])
    }

    fn emit_with(&self, out: &mut [u8], frame_type: FrameType, states: &[u8]) -> Result<usize, NoRoom> {
        emit(out, frame_type, |writer| {
            writer.u32(self.request);
            writer.u64(self.lane.0);
            writer.u64(self.first.0);
            writer.u16(self.count);
            writer.zero(2);
            writer.bytes(states);
        })
    }
}

/// What the relay knows of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum IdState {
    /// Not seen, came to nothing, or no longer remembered.
    Unknown = 0,
    /// Taken; its first result is still to come.
    Waiting = 1,
    /// On the relay's disk.
    Stored = 2,
    /// It was collected.
    Done = 3,
    /// One of the last two: this relay doesn't say which.
    Accepted = 4,
}

impl IdState {
    /// The state with this number, if this version has it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Unknown,
            1 => Self::Waiting,
            2 => Self::Stored,
            3 => Self::Done,
            4 => Self::Accepted,
            _ => return None,
        })
    }

    /// Its name in spec/wire.md.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Waiting => "WAITING",
            Self::Stored => "STORED",
            Self::Done => "DONE",
            Self::Accepted => "ACCEPTED",
        }
    }
}

/// STATES: the answer to a QUERY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States<'a> {
    /// What was asked.
    pub query: Query,
    states: &'a [u8],
}

impl<'a> States<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let query = Query::read(&mut reader)?;
        let states = reader.take(usize::from(query.count))?;
        let known = states.iter().all(|state| IdState::from_number(*state).is_some());
        reader.end(known.then_some(Self { query, states })?)
    }

    /// Each number with its state.
    pub fn iter(&self) -> impl Iterator<Item = (Number, IdState)> + use<'a> {
        // Each was looked at: none is left out.
        self.query.numbers().zip(self.states.iter().filter_map(|state| IdState::from_number(*state)))
    }

    /// Emits the answer to `query`, with a state for each of its numbers; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(
        out: &mut [u8],
        query: &Query,
        mut state_of: impl FnMut(Number) -> IdState,
    ) -> Result<usize, NoRoom> {
        let mut states = [0; QUERY_COUNT_MAX as usize];
        for (state, number) in states.iter_mut().zip(query.numbers()) {
            *state = state_of(number) as u8;
        }
        let listed = states.get(..usize::from(query.count)).ok_or(NoRoom)?;
        query.emit_with(out, FrameType::States, listed)
    }
}
