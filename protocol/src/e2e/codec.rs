//! Bytes of state at rest: a writer that leaves no copies behind, and a reader that can't panic.
//!
//! This file owns the primitives (big-endian integers, arrays, length-prefixed bytes). The layout of
//! each kind of state stands with that kind. It must not know files: the client writes them.

use core::fmt;

use zeroize::Zeroizing;

/// Stored state that can't be read: cut off, too long, of another version, or not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stored state is damaged or of another version")
    }
}

impl core::error::Error for Corrupt {}

/// Collects secret bytes. Outgrown buffers are erased.
pub(crate) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// Starts with the version of the layout.
    pub(crate) fn new(version: u8) -> Self {
        let mut writer = Self(Zeroizing::new(Vec::with_capacity(4_096)));
        writer.u8(version);
        writer
    }

    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn array<const N: usize>(&mut self, value: &[u8; N]) {
        self.raw(value);
    }

    /// A four-byte length, then the bytes.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.raw(value);
    }

    /// How many items follow. Every collection here is bounded far below 2^32.
    pub(crate) fn count(&mut self, items: usize) {
        debug_assert!(u32::try_from(items).is_ok());
        #[allow(clippy::cast_possible_truncation)] // the assertion above
        self.u32(items as u32);
    }

    fn raw(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            // Growing in place would leave the old buffer, secrets and all, to the allocator.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }
}

/// Reads what [`Writer`] wrote.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks the version of the layout.
    pub(crate) fn new(bytes: &'a [u8], version: u8) -> Result<Self, Corrupt> {
        let mut reader = Self(bytes);
        if reader.u8()? == version { Ok(reader) } else { Err(Corrupt) }
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), Corrupt> {
        if self.0.is_empty() { Ok(()) } else { Err(Corrupt) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Corrupt> {
        self.array().map(|[value]| *value)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Corrupt> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Corrupt> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Corrupt> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Corrupt),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Corrupt> {
        let (value, rest) = self.0.split_first_chunk().ok_or(Corrupt)?;
        self.0 = rest;
        Ok(value)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = self.u32()? as usize;
        let (value, rest) = self.0.split_at_checked(length).ok_or(Corrupt)?;
        self.0 = rest;
        Ok(value)
    }

    /// How many items follow, at most `max`.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, Corrupt> {
        let items = self.u32()? as usize;
        if items <= max { Ok(items) } else { Err(Corrupt) }
    }
}

/// Parts one after the other, which are `N` bytes together.
pub(crate) fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    debug_assert!(parts.iter().map(|part| part.len()).sum::<usize>() == N);
    let mut joined = [0; N];
    let mut rest = joined.as_mut_slice();
    for part in parts {
        let Some((to, after)) = rest.split_at_mut_checked(part.len()) else { break };
        to.copy_from_slice(part);
        rest = after;
    }
    joined
}
