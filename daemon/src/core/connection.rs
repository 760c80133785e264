//! One connection as the core sees it: how far it is, and what waits to be written to it.
//!
//! Owns: phases and the output buffer. Must not know sockets. What a connection receives from its
//! mailbox's ring is not copied here; the ring itself is gathered (`deliver`).

use std::num::NonZeroU32;

use e2e_protocol::ids::{Modulus, Name, Nonce, Number, Receipt, Signature};
use e2e_protocol::limits::FRAME_BYTES_MAX;
use e2e_protocol::wire::NoRoom;
use e2e_protocol::wire::session::{Credit, Purpose, Receive};
use e2e_protocol::wire::transfer::{OpenResult, ResultCode, ResultKind};

use super::moment::Moment;
use crate::address::AddressKey;
use crate::limits::POOLED_BUFFERS_MAX;
use crate::reason::Reason;

/// Names a connection; never reused for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Its place in the tables of the core and of the loop; reused once it is closed.
    pub index: u32,
    pub(crate) generation: NonZeroU32,
}

/// What a PROOF has to answer.
#[derive(Debug)]
pub(crate) struct Challenged {
    pub(crate) version: u16,
    pub(crate) purpose: Purpose,
    pub(crate) nonce: Nonce,
}

/// A PROOF that waits for its verification.
#[derive(Debug)]
pub(crate) struct PendingProof {
    pub(crate) version: u16,
    pub(crate) purpose: Purpose,
    pub(crate) nonce: Nonce,
    pub(crate) receive: Receive,
    pub(crate) identity_key: Modulus,
    pub(crate) signature: Signature,
    pub(crate) token_proof: [u8; 32],
    pub(crate) name: Name,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// HELLO is expected.
    Hello,
    /// PROOF is expected.
    Challenged(Box<Challenged>),
    /// The signature waits to be verified.
    Proving(Box<PendingProof>),
    /// The name is on its way to the disk.
    Registering { receive: Receive },
    /// Logged in; `credit` if it receives.
    Ready { slot: u32, credit: Option<Credit> },
    /// Its last frame is written out, then it is closed.
    Ending(Reason),
}

/// One connection. There are many that have nothing to say: what only some need lies elsewhere, behind a pointer.
#[derive(Debug)]
pub(crate) struct Connection {
    /// See [`ConnId`].
    pub(super) generation: NonZeroU32,
    pub(crate) address: AddressKey,
    /// From when on the time is counted in which its PROOF has to come.
    pub(super) login_from: Moment,
    pub(crate) phase: Phase,
    pub(crate) output: Output,
    /// When the last byte came, when the last byte was taken.
    pub(super) heard: Moment,
    pub(super) progress: Moment,
    /// Requests to the directory without an answer.
    pub(crate) requests_pending: u8,
    /// Frames that were skipped before login.
    pub(crate) skipped: u8,
    /// A trusted debugging session: a person may take their time for the login.
    pub(crate) is_person: bool,
    pub(crate) pinged: bool,
    /// There is a deadline at which to look whether it was heard.
    pub(crate) keepalive_set: bool,
    pub(crate) slow_reader_set: bool,
    /// The host was told of the output, and has not written all of it since: it goes on by itself.
    pub(crate) announced: bool,
    pub(crate) flush_queued: bool,
    pub(crate) end_of_input: bool,
    pub(crate) close_queued: bool,
}

impl Connection {
    pub(super) fn new(generation: NonZeroU32, address: AddressKey, now_ms: u64) -> Self {
        let now = Moment::at(now_ms);
        Self {
            generation,
            address,
            login_from: now,
            phase: Phase::Hello,
            output: Output::default(),
            heard: now,
            progress: now,
            requests_pending: 0,
            skipped: 0,
            is_person: false,
            pinged: false,
            keepalive_set: false,
            slow_reader_set: false,
            announced: false,
            flush_queued: false,
            end_of_input: false,
            close_queued: false,
        }
    }

    /// The slot of the user who is logged in.
    pub(crate) fn slot(&self) -> Option<u32> {
        match self.phase {
            Phase::Ready { slot, .. } => Some(slot),
            _ => None,
        }
    }

    /// Whether login is over, one way or the other.
    pub(crate) fn is_past_login(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. } | Phase::Ending(_))
    }
}

/// Whole frames that wait to be written, the first perhaps partly written already. Most connections have none, and
/// cost no more than a pointer for it.
#[derive(Debug, Default)]
pub(crate) struct Output(Option<Box<Waiting>>);

/// What waits: never nothing between two calls.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    at: usize,
    /// A RESULT that still grows at the end of `bytes`, and where it starts.
    open: Option<(usize, OpenResult)>,
}

/// All connections' memory for output.
#[derive(Debug, Default)]
pub(crate) struct OutputPool {
    /// Buffers that nobody needs at the moment.
    #[allow(clippy::vec_box)] // they move between here and a connection, which has room for a pointer
    spare: Vec<Box<Waiting>>,
    in_use_bytes: usize,
}

impl Output {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.len())
    }

    /// What can be written now: all but nothing, since [`Output::close_result`] was called before.
    pub(crate) fn ready(&self) -> &[u8] {
        let Some(waiting) = &self.0 else { return &[] };
        debug_assert!(waiting.open.is_none(), "a RESULT leaves only when it is closed");
        waiting.bytes.get(waiting.at..).unwrap_or_default()
    }

    /// Appends one frame that `emit` writes.
    pub(crate) fn push(
        &mut self,
        pool: &mut OutputPool,
        frame_bytes: usize,
        emit: impl FnOnce(&mut [u8]) -> Result<usize, NoRoom>,
    ) {
        let bytes = &mut self.room(pool, frame_bytes).bytes;
        let start = bytes.len();
        bytes.resize(start + frame_bytes, 0);
        let emitted = bytes.get_mut(start..).map_or(Err(NoRoom), emit);
        debug_assert!(emitted.is_ok(), "each caller states room enough for its frame");
        bytes.truncate(start + emitted.unwrap_or(0));
    }

    /// Appends a frame as it is, and returns it where it lies now.
    pub(crate) fn push_frame(&mut self, pool: &mut OutputPool, frame: &[u8]) -> &mut [u8] {
        let bytes = &mut self.room(pool, frame.len()).bytes;
        let start = bytes.len();
        bytes.extend_from_slice(frame);
        bytes.get_mut(start..).unwrap_or_default()
    }

    /// Appends a result to the RESULT at the end, or begins a new one.
    pub(crate) fn push_result(
        &mut self,
        pool: &mut OutputPool,
        kind: ResultKind,
        number: Number,
        receipt: Receipt,
    ) {
        let open = self.0.as_mut().and_then(|waiting| waiting.open.as_mut());
        if !open.is_some_and(|(_, open)| open.extend(&kind, number)) {
            let waiting = self.room(pool, OpenResult::HEAD_BYTES);
            let start = waiting.bytes.len();
            waiting.bytes.resize(start + OpenResult::HEAD_BYTES, 0);
            waiting.open = Some((start, OpenResult::new(kind, number)));
        }
        if let (ResultCode::Collected, Some(waiting)) = (kind.code, &mut self.0) {
            waiting.make_room(pool, receipt.0.len());
            waiting.bytes.extend_from_slice(&receipt.0);
        }
    }

    /// Finishes a RESULT that still grows.
    pub(crate) fn close_result(&mut self) {
        if let Some(waiting) = &mut self.0 {
            waiting.close_result();
        }
    }

    /// Puts the rest of a frame that is partly written already before everything else.
    pub(crate) fn push_front(&mut self, pool: &mut OutputPool, rest: &[u8]) {
        let waiting = self.0.get_or_insert_with(|| pool.take());
        waiting.make_room(pool, rest.len());
        waiting.bytes.splice(..waiting.at, rest.iter().copied());
        if let Some((start, _)) = &mut waiting.open {
            *start = *start - waiting.at + rest.len();
        }
        waiting.at = 0;
    }

    /// The first `count` waiting bytes were written.
    pub(crate) fn consume(&mut self, count: usize, pool: &mut OutputPool) {
        let Some(waiting) = &mut self.0 else { return };
        debug_assert!(waiting.open.is_none(), "what is written was gathered, and closed, just before");
        waiting.at += count;
        if waiting.len() == 0 {
            self.discard(pool);
        } else if waiting.at > waiting.len() {
            // What was written makes room, so that a buffer that is never empty does not grow for ever.
            waiting.bytes.drain(..waiting.at);
            waiting.at = 0;
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes.capacity())
    }

    /// Lets go of what waits.
    pub(crate) fn discard(&mut self, pool: &mut OutputPool) {
        if let Some(waiting) = self.0.take() {
            pool.give_back(waiting);
        }
    }

    /// Where a frame of so many bytes can be appended.
    fn room(&mut self, pool: &mut OutputPool, frame_bytes: usize) -> &mut Waiting {
        let waiting = self.0.get_or_insert_with(|| pool.take());
        waiting.close_result();
        waiting.make_room(pool, frame_bytes);
        waiting
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn close_result(&mut self) {
        if let Some((start, open)) = self.open.take() {
            let closed = self.bytes.get_mut(start..).map_or(Err(NoRoom), |frame| open.close(frame));
            debug_assert!(closed.is_ok(), "nothing but its receipts was put behind an open RESULT");
        }
    }

    /// Sees that so much more fits.
    fn make_room(&mut self, pool: &mut OutputPool, count: usize) {
        let before = self.bytes.capacity();
        self.bytes.reserve(count);
        pool.in_use_bytes += self.bytes.capacity() - before;
    }
}

impl OutputPool {
    /// Bytes of memory that output takes, all connections together.
    pub(crate) fn in_use_bytes(&self) -> usize {
        self.in_use_bytes
    }

    fn take(&mut self) -> Box<Waiting> {
        let waiting = self.spare.pop().unwrap_or_default();
        self.in_use_bytes += waiting.bytes.capacity();
        waiting
    }

    fn give_back(&mut self, mut waiting: Box<Waiting>) {
        let capacity = waiting.bytes.capacity();
        self.in_use_bytes -= capacity;
        if self.spare.len() < POOLED_BUFFERS_MAX && capacity <= 4 * FRAME_BYTES_MAX {
            waiting.bytes.clear();
            (waiting.at, waiting.open) = (0, None);
            self.spare.push(waiting);
        }
    }
}
