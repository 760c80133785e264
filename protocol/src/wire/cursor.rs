//! Reading and writing a body field by field, without a way to panic.
//!
//! Owns: bounds. Must not know what the fields mean. A reader that ran out says `None`, which its
//! caller turns into MALFORMED; a writer that ran out remembers it until [`Writer::finish`].

use byteorder::{BigEndian, ByteOrder};
use core::fmt;

/// A frame didn't fit into the buffer that it was emitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the frame does not fit into the buffer")
    }
}

impl core::error::Error for NoRoom {}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take(2).map(BigEndian::read_u16)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4).map(BigEndian::read_u32)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take(8).map(BigEndian::read_u64)
    }

    /// A length byte and as many bytes.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let count = self.u8()?;
        self.take(usize::from(count))
    }

    /// Bytes that must be zero.
    pub(super) fn zero(&mut self, count: usize) -> Option<()> {
        self.take(count)?.iter().all(|byte| *byte == 0).then_some(())
    }

    /// What was read, if nothing is left over.
    pub(super) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

pub(super) struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
    overrun: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, at: 0, overrun: false }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        match self.buffer.get_mut(self.at..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.at = end;
            }
            None => self.overrun = true,
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn zero(&mut self, count: usize) {
        for _ in 0..count {
            self.u8(0);
        }
    }

    /// A length byte and as many bytes; what doesn't fit into the length is an overrun.
    pub(super) fn counted(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(count) => {
                self.u8(count);
                self.bytes(bytes);
            }
            Err(_) => self.overrun = true,
        }
    }

    /// How many bytes were written.
    pub(super) fn finish(self) -> Result<usize, NoRoom> {
        if self.overrun { Err(NoRoom) } else { Ok(self.at) }
    }
}
