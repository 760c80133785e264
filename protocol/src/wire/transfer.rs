//! ACK and RESULT: what became of messages, in ranges (spec/wire.md, sections 5 and 6).
//!
//! Owns: the two bodies, and growing a RESULT where it lies in an output buffer ([`OpenResult`]), so
//! that many results leave as one frame.

use super::cursor::{Reader, Writer};
use super::header::seal;
use super::{Code, FrameType, NoRoom};
use crate::ids::{Lane, Number, Receipt, Sequence};
use crate::limits::{HEADER_BYTES, RANGE_COUNT_MAX};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResultCode {
    /// The recipient's client acknowledged it, having made it durable.
    Collected = 1,
    /// It is on the relay's disk, fsynced.
    Stored = 2,
    /// The relay did not take it and will not deliver it.
    Refused = 3,
    /// It was forwarded or given to the disk, and could then not be stored.
    Uncertain = 4,
    /// Its time to live ran out in the mailbox.
    Expired = 5,
    /// A repeated id: it was collected before, and its receipt is no longer known.
    Done = 6,
    /// COLLECTED, STORED or DONE: this relay doesn't say which.
    Accepted = 7,
}

impl ResultCode {
    /// The code with this number, if this version has it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Collected,
            2 => Self::Stored,
            3 => Self::Refused,
            4 => Self::Uncertain,
            5 => Self::Expired,
            6 => Self::Done,
            7 => Self::Accepted,
            _ => return None,
        })
    }
}

/// Receipts as they lie in a frame, 32 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Receipts<'a>(&'a [u8]);

impl<'a> Receipts<'a> {
    /// One after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Receipt> + use<'a> {
        self.0.as_chunks::<32>().0.iter().map(|bytes| Receipt(*bytes))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / Receipt::BYTES
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// ACK: these messages are durable at their recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The oldest delivery that is not yet acknowledged.
    pub first: Sequence,
    /// One for it and each that follows it, 1 to 512.
    pub receipts: Receipts<'a>,
}

impl<'a> Ack<'a> {
    const FIXED_BYTES: usize = 12;

    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let first = Sequence(reader.u64()?);
        let count = reader.u16().filter(|count| (1..=RANGE_COUNT_MAX).contains(count))?;
        reader.zero(2)?;
        let receipts = Receipts(reader.take(usize::from(count) * Receipt::BYTES)?);
        reader.end(Self { first, receipts })
    }

    /// Emits an ACK for as many messages as there are `receipts` (1 to 512); returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short, or the count out of range.
    pub fn emit(out: &mut [u8], first: Sequence, receipts: &[Receipt]) -> Result<usize, NoRoom> {
        let count = u16::try_from(receipts.len()).map_err(|_| NoRoom)?;
        if !(1..=RANGE_COUNT_MAX).contains(&count) {
            return Err(NoRoom);
        }
        let mut writer = Writer::new(out.get_mut(HEADER_BYTES..).ok_or(NoRoom)?);
        writer.u64(first.0);
        writer.u16(count);
        writer.zero(2);
        receipts.iter().for_each(|receipt| writer.bytes(&receipt.0));
        let body_bytes = writer.finish()?;
        debug_assert_eq!(body_bytes, Self::FIXED_BYTES + receipts.len() * Receipt::BYTES);
        seal(out, FrameType::Ack, 0, body_bytes)
    }
}

/// RESULT: what became of consecutive numbers of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The sender's lane.
    pub lane: Lane,
    /// The first number it is about.
    pub first: Number,
    /// How many numbers, 1 to 512.
    pub count: u16,
    /// What became of them.
    pub code: ResultCode,
    /// REFUSED: why. Else zero.
    pub reason: Code,
    /// REFUSED: seconds to wait, zero where nothing is said. Else zero.
    pub retry_after_seconds: u32,
    /// COLLECTED: one each. Else none.
    pub receipts: Receipts<'a>,
}

/// Bytes of a RESULT's body before the receipts.
const RESULT_FIXED_BYTES: usize = 28;

impl<'a> Outcome<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let lane = Lane(reader.u64()?);
        let first = Number(reader.u64()?);
        let count = reader.u16().filter(|count| (1..=RANGE_COUNT_MAX).contains(count))?;
        let code = ResultCode::from_number(reader.u8()?)?;
        reader.zero(1)?;
        let reason = Code(reader.u16()?);
        reader.zero(2)?;
        let retry_after_seconds = reader.u32()?;
        let receipts_count = if code == ResultCode::Collected { usize::from(count) } else { 0 };
        let receipts = Receipts(reader.take(receipts_count * Receipt::BYTES)?);
        let fits = (code == ResultCode::Refused) == (reason.0 != 0)
            && (code == ResultCode::Refused || retry_after_seconds == 0)
            && first.0 != 0
            && first.0.checked_add(u64::from(count - 1)).is_some();
        reader.end(fits.then_some(Self {
            lane,
            first,
            count,
            code,
            reason,
            retry_after_seconds,
            receipts,
        })?)
    }

    /// The numbers that it is about.
    pub fn numbers(&self) -> impl Iterator<Item = Number> + use<> {
        let first = self.first.0;
        (0..self.count).map(move |index| Number(first.saturating_add(u64::from(index))))
    }
}

/// What makes two results one range: all of a RESULT but its first number, count and receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultKind {
    /// The sender's lane.
    pub lane: Lane,
    /// What became of them.
    pub code: ResultCode,
    /// REFUSED: why.
    pub reason: Option<super::ErrorCode>,
    /// REFUSED: seconds to wait, zero where nothing is said.
    pub retry_after_seconds: u32,
}

/// A RESULT frame that is still growing at the end of an output buffer. The buffer's owner keeps it
/// beside the buffer, pushes [`OpenResult::HEAD_BYTES`] of room and then receipts, and closes it
/// with [`OpenResult::close`] before anything else is appended or the bytes leave.
#[derive(Clone, Copy, Debug)]
pub struct OpenResult {
    kind: ResultKind,
    first: Number,
    count: u16,
}

impl OpenResult {
    /// Bytes of the frame before its receipts.
    pub const HEAD_BYTES: usize = HEADER_BYTES + RESULT_FIXED_BYTES;

    /// A range of one number.
    #[must_use]
    pub fn new(kind: ResultKind, first: Number) -> Self {
        Self { kind, first, count: 1 }
    }

    /// Takes `number` in, if it is the next of the same kind and the range has room.
    pub fn extend(&mut self, kind: &ResultKind, number: Number) -> bool {
        let next = self.first.0.checked_add(u64::from(self.count));
        let fits = next == Some(number.0) && *kind == self.kind && self.count < RANGE_COUNT_MAX;
        self.count += u16::from(fits);
        fits
    }

    /// Fills in header and fields of `frame`: the room, and the receipts if the code is COLLECTED.
    ///
    /// # Errors
    /// [`NoRoom`] if `frame` is not exactly that long.
    pub fn close(&self, frame: &mut [u8]) -> Result<usize, NoRoom> {
        let collected = self.kind.code == ResultCode::Collected;
        let receipts_bytes = if collected { usize::from(self.count) * Receipt::BYTES } else { 0 };
        if frame.len() != Self::HEAD_BYTES + receipts_bytes {
            return Err(NoRoom);
        }
        let mut writer = Writer::new(frame.get_mut(HEADER_BYTES..Self::HEAD_BYTES).ok_or(NoRoom)?);
        writer.u64(self.kind.lane.0);
        writer.u64(self.first.0);
        writer.u16(self.count);
        writer.u8(self.kind.code as u8);
        writer.zero(1);
        writer.u16(self.kind.reason.map_or(0, super::ErrorCode::number));
        writer.zero(2);
        writer.u32(self.kind.retry_after_seconds);
        writer.finish()?;
        seal(frame, FrameType::Result, 0, RESULT_FIXED_BYTES + receipts_bytes)
    }
}
