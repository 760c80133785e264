//! One user's mailbox: what waits for them, where it lies, and how far each cursor is.
//!
//! Owns: the ring in memory, the deliveries that wait for an acknowledgement, the cursors and the
//! counters. Must not know connections, lanes or the store's threads; `deliver`, `collect` and `spill`
//! join it with those.
//!
//! Messages are either in memory (`ring`), on disk, or both:
//!
//! ```text
//!   sequence:   acked <= released <= last    durable <= released    acked <= offered <= last
//!   on disk:    (acked, durable], if not empty
//!   in the ring:            (released, last]
//!   deliveries: (acked, offered], on the present receiving connection
//! ```
//!
//! What is between `durable` and `released` was acknowledged before it had to be stored. A receiver whose
//! `offered` is behind `durable` is read a backlog from disk, else it gets the ring.

use std::collections::VecDeque;

use e2e_protocol::ids::{Lane, Number, Sequence, Uid};

use e2e_protocol::wire::routed::routing_at;

use super::counters::Waiting;
use super::ring::{Pool, Ring};
use super::shares::Shares;

/// What kind of frame an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message: its sender hears what becomes of it.
    Message,
    /// A notice: nobody does.
    Notice,
    /// A message whose time ran out before it was offered: it counts as acknowledged.
    Expired,
    /// The same of a notice.
    ExpiredNotice,
}

impl Kind {
    /// Whether it is charged to its sender.
    pub(crate) fn is_charged(self) -> bool {
        matches!(self, Self::Message | Self::Expired)
    }

    /// Whether nobody will acknowledge it.
    pub(crate) fn is_expired(self) -> bool {
        matches!(self, Self::Expired | Self::ExpiredNotice)
    }
}

/// A frame that was offered to the receiving connection and is not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) sequence: Sequence,
    pub(crate) sender: Uid,
    pub(crate) lane: Lane,
    pub(crate) number: Number,
    /// Position of its end in the ring; zero if it came from disk.
    pub(crate) ring_end: u64,
    pub(crate) frame_bytes: u32,
    pub(crate) kind: Kind,
}

/// What is on its way to the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spill {
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    /// Ring positions of its start and its end.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Spill {
    fn holds(&self, sequence: Sequence) -> bool {
        self.first <= sequence && sequence <= self.last
    }
}

/// A backlog that is being read to the receiver.
#[derive(Debug)]
pub(crate) enum Replay {
    /// Nothing is under way.
    Idle,
    /// The store was asked.
    Asked {
        /// Which question: an answer to an older one is ignored.
        token: u64,
        /// What was on disk then: an empty answer says nothing of what came there later.
        last: Sequence,
    },
    /// Whole frames, of which those before `at` were offered; the question was what comes after `after`.
    Loaded { bytes: Vec<u8>, at: usize, after: Sequence },
    /// It could not be read. It is tried again later.
    Failed,
}

/// One user's mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) ring: Ring,
    pub(crate) deliveries: VecDeque<Delivery>,
    pub(crate) replay: Replay,
    pub(crate) spill: Option<Spill>,

    /// The last sequence that was given.
    pub(crate) last: Sequence,
    /// Everything up to here was acknowledged.
    pub(crate) acked: Sequence,
    /// Everything up to here is on disk, if not acknowledged.
    pub(crate) durable: Sequence,
    /// Everything up to here has left the ring.
    pub(crate) released: Sequence,
    /// Everything up to here was offered to the present receiving connection.
    pub(crate) offered: Sequence,
    /// Everything up to here was offered to an earlier connection since the relay started.
    pub(crate) offered_before: Sequence,
    /// What expired and does not count as acknowledged yet, because something before it is not. Its sender was told, so
    /// it is not sent to whoever receives next, either.
    pub(crate) expired: VecDeque<Sequence>,

    /// Ring positions: offered to the socket, and taken by it.
    pub(crate) offered_at: u64,
    pub(crate) written_at: u64,
    /// Ring position up to which nothing needs storing: durable or acknowledged.
    pub(crate) safe_at: u64,
    /// Ring position up to which UNCERTAIN was said where it had to be.
    pub(crate) uncertain_at: u64,
    /// The socket took part of what was offered: the rest goes before anything else.
    pub(crate) mid_write: bool,

    /// Frames and bytes in it, wherever they lie.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Whose they are, notices not counted.
    pub(crate) shares: Shares,
    /// Those of them that are on disk or on their way there.
    pub(crate) stored_messages: u64,
    pub(crate) stored_bytes: u64,
    /// Those of them that were offered and not acknowledged, for the credit.
    pub(crate) offered_bytes: u64,

    /// Before this time, Unix milliseconds, the oldest stored message doesn't expire. It may say too little; zero: not known.
    pub(crate) oldest_expires_ms: u64,
    /// The store has not been told of `acked` yet.
    pub(crate) acked_unsaid: bool,
    /// What is stored is to be counted anew, once nothing is on its way there.
    pub(crate) recount: bool,
    pub(crate) spill_queued: bool,
    /// It waits for room to read its backlog.
    pub(crate) replay_queued: bool,
    pub(crate) touched: bool,
    pub(crate) ack_wait_set: bool,
}

impl Mailbox {
    /// An empty mailbox whose sequences up to `last` are gone.
    pub(crate) fn new(last: Sequence) -> Self {
        Self {
            ring: Ring::default(),
            deliveries: VecDeque::new(),
            replay: Replay::Idle,
            spill: None,
            last,
            acked: last,
            durable: last,
            released: last,
            offered: last,
            offered_before: last,
            expired: VecDeque::new(),
            offered_at: 0,
            written_at: 0,
            safe_at: 0,
            uncertain_at: 0,
            mid_write: false,
            messages: 0,
            bytes: 0,
            shares: Shares::default(),
            stored_messages: 0,
            stored_bytes: 0,
            offered_bytes: 0,
            oldest_expires_ms: 0,
            acked_unsaid: false,
            recount: false,
            spill_queued: false,
            replay_queued: false,
            touched: false,
            ack_wait_set: false,
        }
    }

    /// A mailbox as the store holds it when the relay starts.
    pub(crate) fn stored(
        acked: Sequence,
        durable: Sequence,
        last: Sequence,
        messages: u64,
        bytes: u64,
    ) -> Self {
        Self {
            last,
            acked,
            offered: acked,
            offered_before: acked,
            messages,
            bytes,
            stored_messages: messages,
            stored_bytes: bytes,
            ..Self::new(durable)
        }
    }

    /// Whether nothing would be lost with it.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0 && self.spill.is_none() && !self.acked_unsaid
    }

    /// Whether something of it is in memory and has to be stored, or on its way there.
    pub(crate) fn is_spilling(&self) -> bool {
        self.spill.is_some() || self.unsafe_bytes() > 0
    }

    /// Bytes in the ring that are neither durable nor acknowledged.
    pub(crate) fn unsafe_bytes(&self) -> u64 {
        self.ring.tail() - self.safe_at.max(self.ring.head())
    }

    /// Whether the next message for the receiver is on disk only.
    pub(crate) fn is_behind(&self) -> bool {
        self.offered < self.durable
    }

    /// Whether a message is on disk, or on its way there.
    pub(crate) fn is_stored(&self, sequence: Sequence) -> bool {
        sequence <= self.durable || self.spill.is_some_and(|spill| spill.holds(sequence))
    }

    /// Accounts for a frame that is in the mailbox no more.
    pub(crate) fn forget(&mut self, sequence: Sequence, frame_bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(frame_bytes);
        if self.is_stored(sequence) {
            self.stored_messages = self.stored_messages.saturating_sub(1);
            self.stored_bytes = self.stored_bytes.saturating_sub(frame_bytes);
            self.acked_unsaid = true;
        }
    }

    /// All that the store holds was offered: whatever else was counted there never came to the disk
    /// (`StoredMailbox::messages`), or was lost on it. While something is on its way there, it is counted later.
    pub(super) fn forget_missing(&mut self, waiting: &mut Waiting) {
        debug_assert!(!self.is_behind(), "what was not offered is not missing");
        self.recount = self.spill.is_some();
        if self.recount {
            return;
        }
        let stored = self.deliveries.iter().filter(|delivery| self.is_stored(delivery.sequence));
        let (messages, bytes) = stored.fold((0, 0), |(messages, bytes), delivery| {
            (messages + 1, bytes + u64::from(delivery.frame_bytes))
        });
        let missing = self.stored_messages.saturating_sub(messages);
        if missing == 0 {
            return;
        }
        let before = self.waiting();
        self.messages = self.messages.saturating_sub(missing);
        self.bytes = self.bytes.saturating_sub(self.stored_bytes.saturating_sub(bytes));
        (self.stored_messages, self.stored_bytes) = (messages, bytes);
        if self.deliveries.is_empty() {
            self.acked = self.acked.max(self.durable);
        }
        self.acked_unsaid = true;
        waiting.change(before, self.waiting());
    }

    /// Lets go of what is both safe and, if somebody receives, written to their socket.
    pub(crate) fn release(&mut self, receiving: bool, pool: &mut Pool) {
        let position = if receiving { self.safe_at.min(self.written_at) } else { self.safe_at };
        self.release_to(position, pool);
    }

    fn release_to(&mut self, position: u64, pool: &mut Pool) {
        if position <= self.ring.head() {
            return;
        }
        self.ring.release(position, pool);
        // The first frame that is left says how far the ring is released.
        let next = routing_at(self.ring.bytes_at(self.ring.head()));
        self.released = next.map_or(self.last, |(_, routing)| Sequence(routing.sequence.0.saturating_sub(1)));
        self.offered_at = self.offered_at.max(position);
        self.written_at = self.written_at.max(position);
        self.safe_at = self.safe_at.max(position);
        self.uncertain_at = self.uncertain_at.max(position);
    }

    /// Nobody receives any more: what was offered and not acknowledged starts over. Returns the rest of a
    /// frame that is half written.
    #[must_use]
    pub(crate) fn detach(&mut self, pool: &mut Pool) -> Vec<u8> {
        let rest = self.take_back_unwritten();
        debug_assert!(matches!(self.replay, Replay::Idle), "given back before");
        self.deliveries.clear();
        self.offered_before = self.offered_before.max(self.offered);
        self.offered = self.acked;
        self.offered_bytes = 0;
        self.oldest_expires_ms = 0;
        self.release(false, pool);
        self.offered_at = self.ring.head();
        self.written_at = self.ring.head();
        rest
    }
}
