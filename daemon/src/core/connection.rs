//! One connection as the core sees it: how far it is, and what waits to be written to it.
//!
//! Owns: phases and the output buffer. Must not know sockets. What a connection receives from its
//! mailbox's ring is not copied here; the ring itself is gathered (`deliver`).

use e2e_protocol::ids::{Modulus, Name, Nonce, Number, Receipt, Signature};
use e2e_protocol::limits::FRAME_BYTES_MAX;
use e2e_protocol::wire::NoRoom;
use e2e_protocol::wire::session::{Credit, Purpose, Receive};
use e2e_protocol::wire::transfer::{OpenResult, ResultCode, ResultKind};

use crate::address::AddressKey;
use crate::limits::POOLED_BUFFERS_MAX;
use crate::reason::Reason;

/// Names a connection; never reused for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Its place in the tables of the core and of the loop; reused once it is closed.
    pub index: u32,
    pub(crate) generation: u32,
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
    Challenged { version: u16, purpose: Purpose, nonce: Nonce },
    /// The signature waits to be verified.
    Proving(Box<PendingProof>),
    /// The name is on its way to the disk.
    Registering { receive: Receive },
    /// Logged in; `credit` if it receives.
    Ready { slot: u32, credit: Option<Credit> },
    /// Its last frame is written out, then it is closed.
    Ending(Reason),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) address: AddressKey,
    /// When it is given up if its PROOF has not come.
    pub(crate) login_until_ms: u64,
    pub(crate) phase: Phase,
    pub(crate) output: Output,
    /// When the last byte came, when the last byte was taken: milliseconds of the monotonic clock.
    pub(crate) heard_ms: u64,
    pub(crate) progress_ms: u64,
    /// Requests to the directory without an answer.
    pub(crate) requests_pending: u8,
    /// Frames that were skipped before login.
    pub(crate) skipped: u8,
    pub(crate) pinged: bool,
    pub(crate) slow_reader_set: bool,
    /// The host was told of the output, and has not written all of it since: it goes on by itself.
    pub(crate) announced: bool,
    pub(crate) flush_queued: bool,
    pub(crate) end_of_input: bool,
    pub(crate) close_queued: bool,
}

impl Connection {
    pub(crate) fn new(address: AddressKey, now_ms: u64, login_until_ms: u64) -> Self {
        Self {
            address,
            login_until_ms,
            phase: Phase::Hello,
            output: Output::default(),
            heard_ms: now_ms,
            progress_ms: now_ms,
            requests_pending: 0,
            skipped: 0,
            pinged: false,
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

/// Whole frames that wait to be written, the first perhaps partly written already.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    at: usize,
    /// A RESULT that still grows at the end of `bytes`, and where it starts.
    open: Option<(usize, OpenResult)>,
}

/// All connections' memory for output.
#[derive(Debug, Default)]
pub(crate) struct OutputPool {
    /// Buffers that nobody needs at the moment.
    spare: Vec<Vec<u8>>,
    in_use_bytes: usize,
}

impl Output {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What can be written now: all but nothing, since [`Output::close_result`] was called before.
    pub(crate) fn ready(&self) -> &[u8] {
        debug_assert!(self.open.is_none(), "a RESULT leaves only when it is closed");
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Appends one frame that `emit` writes.
    pub(crate) fn push(
        &mut self,
        pool: &mut OutputPool,
        frame_bytes: usize,
        emit: impl FnOnce(&mut [u8]) -> Result<usize, NoRoom>,
    ) {
        self.close_result();
        self.make_room(pool, frame_bytes);
        let start = self.bytes.len();
        self.bytes.resize(start + frame_bytes, 0);
        let emitted = self.bytes.get_mut(start..).map_or(Err(NoRoom), emit);
        debug_assert!(emitted.is_ok(), "each caller states room enough for its frame");
        self.bytes.truncate(start + emitted.unwrap_or(0));
    }

    /// Appends a frame as it is, and returns it where it lies now.
    pub(crate) fn push_frame(&mut self, pool: &mut OutputPool, frame: &[u8]) -> &mut [u8] {
        self.close_result();
        self.make_room(pool, frame.len());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.bytes.get_mut(start..).unwrap_or_default()
    }

    /// Appends a result to the RESULT at the end, or begins a new one.
    pub(crate) fn push_result(
        &mut self,
        pool: &mut OutputPool,
        kind: ResultKind,
        number: Number,
        receipt: Receipt,
    ) {
        let extended = self.open.as_mut().is_some_and(|(_, open)| open.extend(&kind, number));
        if !extended {
            self.close_result();
            self.make_room(pool, OpenResult::HEAD_BYTES);
            let start = self.bytes.len();
            self.bytes.resize(start + OpenResult::HEAD_BYTES, 0);
            self.open = Some((start, OpenResult::new(kind, number)));
        }
        if kind.code == ResultCode::Collected {
            self.make_room(pool, receipt.0.len());
            self.bytes.extend_from_slice(&receipt.0);
        }
    }

    /// Finishes a RESULT that still grows.
    pub(crate) fn close_result(&mut self) {
        if let Some((start, open)) = self.open.take() {
            let closed = self.bytes.get_mut(start..).map_or(Err(NoRoom), |frame| open.close(frame));
            debug_assert!(closed.is_ok(), "nothing but its receipts was put behind an open RESULT");
        }
    }

    /// Puts the rest of a frame that is partly written already before everything else.
    pub(crate) fn push_front(&mut self, pool: &mut OutputPool, rest: &[u8]) {
        self.make_room(pool, rest.len());
        self.bytes.splice(..self.at, rest.iter().copied());
        if let Some((start, _)) = &mut self.open {
            *start = *start - self.at + rest.len();
        }
        self.at = 0;
    }

    /// The first `count` waiting bytes were written.
    pub(crate) fn consume(&mut self, count: usize, pool: &mut OutputPool) {
        debug_assert!(self.open.is_none(), "what is written was gathered, and closed, just before");
        self.at += count;
        if self.at >= self.bytes.len() {
            self.at = 0;
            self.bytes.clear();
            pool.give_back(std::mem::take(&mut self.bytes));
        } else if self.at > self.len() {
            // What was written makes room, so that a buffer that is never empty does not grow for ever.
            self.bytes.drain(..self.at);
            self.at = 0;
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Lets go of what waits.
    pub(crate) fn discard(&mut self, pool: &mut OutputPool) {
        self.open = None;
        self.at = 0;
        self.bytes.clear();
        pool.give_back(std::mem::take(&mut self.bytes));
    }

    /// Sees that so much more fits.
    fn make_room(&mut self, pool: &mut OutputPool, count: usize) {
        let before = self.bytes.capacity();
        if before - self.bytes.len() >= count && before > 0 {
            return;
        }
        if before == 0 {
            self.bytes = pool.spare.pop().unwrap_or_default();
        }
        self.bytes.reserve(count);
        pool.in_use_bytes += self.bytes.capacity() - before;
    }
}

impl OutputPool {
    /// Bytes of memory that output takes, all connections together.
    pub(crate) fn in_use_bytes(&self) -> usize {
        self.in_use_bytes
    }

    fn give_back(&mut self, buffer: Vec<u8>) {
        self.in_use_bytes -= buffer.capacity();
        if self.spare.len() < POOLED_BUFFERS_MAX && (1..=4 * FRAME_BYTES_MAX).contains(&buffer.capacity()) {
            self.spare.push(buffer);
        }
    }
}
