//! The relay's memory of duplicates: for each lane one counter and the state of its 64 newest numbers
//! (spec/wire.md, section 5, "Repeated ids").
//!
//! Owns: one user's lanes, and which connection hears about each. Must not know mailboxes or frames.
//! It is an optimisation: exactly-once is the recipient's durable dedupe. So it may forget, and a
//! restart does.

use e2e_protocol::ids::{Lane, Number, Uid};
use e2e_protocol::limits::LANE_WINDOW;

use super::ConnId;

const WINDOW: usize = 64;
const _: () = assert!(WINDOW as u64 == LANE_WINDOW);

/// What is remembered of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Seen {
    /// Nothing, or it came to nothing: to be taken as new.
    #[default]
    New,
    /// Accepted, no result yet.
    Pending,
    /// UNCERTAIN was said: to be taken as new, but it may be collected yet.
    Uncertain,
    /// STORED was said.
    Stored,
    /// It was collected.
    Done,
}

/// What an id means that a SEND carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nothing is known of it: take it.
    New,
    /// The same message was here before, and this became of it.
    Repeated(Seen),
    /// The id was used for another message.
    Conflict,
    /// Too far below the highest number to say.
    TooOld,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct LaneState {
    id: Lane,
    /// Where its results go: the connection that last sent in it.
    pub(crate) connection: ConnId,
    used_ms: u64,
    highest: u64,
    seen: [Seen; WINDOW],
    /// For each number what tells one message from another.
    digests: [u32; WINDOW],
}

/// What tells one message from another under the same id: its envelope's CRC and its recipient.
pub(crate) fn digest(body_crc: u32, recipient: Uid) -> u32 {
    body_crc ^ recipient.slot().wrapping_mul(0x9E37_79B9) ^ recipient.generation().rotate_left(7)
}

fn place(number: u64) -> usize {
    usize::try_from(number % LANE_WINDOW).unwrap_or(0)
}

impl LaneState {
    fn new(id: Lane, connection: ConnId, used_ms: u64) -> Self {
        Self { id, connection, used_ms, highest: 0, seen: [Seen::New; WINDOW], digests: [0; WINDOW] }
    }

    /// Looks at an id without changing anything.
    pub(crate) fn admission(&self, number: Number, digest: u32) -> Admission {
        if number.0 > self.highest {
            return Admission::New;
        }
        if self.highest - number.0 >= LANE_WINDOW {
            return Admission::TooOld;
        }
        let at = place(number.0);
        match (self.seen.get(at), self.digests.get(at)) {
            (Some(Seen::New | Seen::Uncertain), _) | (None, _) | (_, None) => Admission::New,
            (Some(seen), Some(known)) if *known == digest => Admission::Repeated(*seen),
            _ => Admission::Conflict,
        }
    }

    /// What is remembered of a number.
    pub(crate) fn seen(&self, number: Number) -> Seen {
        let is_remembered = number.0 <= self.highest && self.highest - number.0 < LANE_WINDOW;
        self.seen.get(place(number.0)).filter(|_| is_remembered).copied().unwrap_or_default()
    }

    /// Remembers a message that was taken.
    pub(crate) fn accept(&mut self, number: Number, digest: u32) {
        if self.highest == 0 || number.0.saturating_sub(self.highest) >= LANE_WINDOW {
            self.seen = [Seen::New; WINDOW];
            self.highest = number.0;
        }
        while self.highest < number.0 {
            self.highest += 1;
            self.set(Number(self.highest), Seen::New);
        }
        self.set(number, Seen::Pending);
        if let Some(known) = self.digests.get_mut(place(number.0)) {
            *known = digest;
        }
    }

    /// Notes what became of a number, if it is remembered: not if it has left the window, or was sent
    /// before the relay started or forgot the lane.
    /// Returns what was remembered before.
    pub(crate) fn settle(&mut self, number: Number, seen: Seen) -> Seen {
        let before = self.seen(number);
        // What was collected stays so, though another copy of it is stored.
        let is_less = before == Seen::Done && seen == Seen::Stored;
        if before != Seen::New && !is_less {
            self.set(number, seen);
        }
        before
    }

    /// Whether one of its messages has no result yet.
    fn owes(&self) -> bool {
        self.seen.contains(&Seen::Pending)
    }

    fn set(&mut self, number: Number, seen: Seen) {
        if let Some(known) = self.seen.get_mut(place(number.0)) {
            *known = seen;
        }
    }
}

/// One user's lanes.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Vec<LaneState>);

impl Lanes {
    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where the lane with this id is, if it is remembered: until another one is opened.
    pub(crate) fn position(&self, id: Lane) -> Option<usize> {
        self.0.iter().position(|lane| lane.id == id)
    }

    /// The lane at a position.
    pub(crate) fn at(&mut self, position: usize) -> Option<&mut LaneState> {
        self.0.get_mut(position)
    }

    /// Whether a result is still to come that goes to `connection`.
    pub(crate) fn owe(&self, connection: ConnId) -> bool {
        self.0.iter().any(|lane| lane.connection == connection && lane.owes())
    }

    /// Lets `connection` send in the lane with this id, if it is remembered, and says where it is.
    pub(crate) fn reopen(&mut self, id: Lane, connection: ConnId, now_ms: u64) -> Option<usize> {
        let position = self.position(id)?;
        let lane = self.0.get_mut(position)?;
        (lane.connection, lane.used_ms) = (connection, now_ms);
        Some(position)
    }

    /// The same with a lane that is not remembered: it is made, if `may_grow`, or else takes the place of the one that
    /// was unused longest and owes no result.
    pub(crate) fn open(
        &mut self,
        id: Lane,
        connection: ConnId,
        now_ms: u64,
        may_grow: bool,
    ) -> Option<usize> {
        debug_assert!(self.position(id).is_none(), "a lane that is remembered is reopened");
        let opened = LaneState::new(id, connection, now_ms);
        if may_grow {
            // Most users have one: no room for others is made before they come.
            self.0.reserve_exact(1);
            self.0.push(opened);
            return Some(self.0.len() - 1);
        }
        let settled = self.0.iter_mut().enumerate().filter(|(_, lane)| !lane.owes());
        let (position, oldest) = settled.min_by_key(|(_, lane)| lane.used_ms)?;
        *oldest = opened;
        Some(position)
    }
}
