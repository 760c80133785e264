//! Messages in memory: a stream of whole frames in pooled blocks.
//!
//! Owns: blocks, where a frame lies, and how much memory all rings together take ([`Pool`]). One ring
//! is at once what goes to the socket, what may be sent again, and what goes to the store; the cursors
//! that say so are the mailbox's. Must not know what a frame means.
//!
//! A position counts the bytes ever pushed to a ring. Frames never span blocks; the unused end of a
//! block has no position, so positions stay contiguous.

use std::collections::VecDeque;
use std::io::IoSlice;

use e2e_protocol::limits::FRAME_BYTES_MAX;

/// Bytes of a small block: what a mailbox that holds few messages costs.
pub(crate) const SMALL_BLOCK_BYTES: usize = 4 * 1024;
/// Bytes of a large block: what a mailbox under load is made of.
pub(crate) const LARGE_BLOCK_BYTES: usize = 64 * 1024;
/// Blocks of each size that are kept for reuse when nobody needs them.
const SPARE_BLOCKS_MAX: usize = 64;

/// What those take.
pub(crate) const SPARE_BYTES_MAX: usize = SPARE_BLOCKS_MAX * (SMALL_BLOCK_BYTES + LARGE_BLOCK_BYTES);

const _: () = assert!(LARGE_BLOCK_BYTES >= FRAME_BYTES_MAX);

/// All rings' memory.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    in_use_bytes: usize,
    bytes_max: usize,
}

/// There is no memory left for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolExhausted;

impl Pool {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { small: Vec::new(), large: Vec::new(), in_use_bytes: 0, bytes_max }
    }

    /// So many may be in use from now on; what is in use stays.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    pub(crate) fn in_use_bytes(&self) -> usize {
        self.in_use_bytes
    }

    /// Whether rings should give memory back where they can: three quarters are in use.
    pub(crate) fn is_tight(&self) -> bool {
        self.in_use_bytes > self.bytes_max / 4 * 3
    }

    fn take(&mut self, bytes: usize) -> Result<Box<[u8]>, PoolExhausted> {
        if self.in_use_bytes + bytes > self.bytes_max {
            return Err(PoolExhausted);
        }
        self.in_use_bytes += bytes;
        let spare = if bytes == SMALL_BLOCK_BYTES { &mut self.small } else { &mut self.large };
        Ok(spare.pop().unwrap_or_else(|| vec![0; bytes].into_boxed_slice()))
    }

    fn give_back(&mut self, memory: Box<[u8]>) {
        self.in_use_bytes -= memory.len();
        let spare = if memory.len() == SMALL_BLOCK_BYTES { &mut self.small } else { &mut self.large };
        if spare.len() < SPARE_BLOCKS_MAX {
            spare.push(memory);
        }
    }
}

#[derive(Debug)]
struct Block {
    memory: Box<[u8]>,
    /// Position of its first byte.
    start: u64,
    used: usize,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.used as u64
    }

    /// The bytes from `position` on, which is at or behind the block's start.
    fn from(&self, position: u64) -> &[u8] {
        let offset = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.memory.get(offset..self.used).unwrap_or_default()
    }
}

/// One mailbox's messages in memory.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    blocks: VecDeque<Block>,
    head: u64,
    tail: u64,
}

impl Ring {
    /// Position of the oldest byte that is held.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Position behind the newest byte.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Appends a frame, whose parts are `head` and `rest`.
    pub(crate) fn push(&mut self, head: &[u8], rest: &[u8], pool: &mut Pool) -> Result<(), PoolExhausted> {
        let frame_bytes = head.len() + rest.len();
        let fits = |block: &Block| block.memory.len() - block.used >= frame_bytes;
        if !self.blocks.back().is_some_and(fits) {
            // The first block of a quiet mailbox is small; one with more to hold gets large ones.
            let small = self.blocks.is_empty() && frame_bytes <= SMALL_BLOCK_BYTES;
            let memory = pool.take(if small { SMALL_BLOCK_BYTES } else { LARGE_BLOCK_BYTES })?;
            self.blocks.push_back(Block { memory, start: self.tail, used: 0 });
        }
        let block = self.blocks.back_mut().ok_or(PoolExhausted)?;
        let room = block.memory.get_mut(block.used..block.used + frame_bytes).ok_or(PoolExhausted)?;
        let (to_head, to_rest) = room.split_at_mut(head.len());
        to_head.copy_from_slice(head);
        to_rest.copy_from_slice(rest);
        block.used += frame_bytes;
        self.tail += frame_bytes as u64;
        Ok(())
    }

    /// The bytes from `position` to the end of its block: whole frames if `position` is a frame's start.
    pub(crate) fn bytes_at(&self, position: u64) -> &[u8] {
        self.block_index(position).and_then(|index| self.blocks.get(index)).map_or(&[], |b| b.from(position))
    }

    /// The same, to be changed where it lies.
    pub(crate) fn bytes_at_mut(&mut self, position: u64) -> &mut [u8] {
        let Some(block) = self.block_index(position).and_then(|index| self.blocks.get_mut(index)) else {
            return &mut [];
        };
        let offset = usize::try_from(position - block.start).unwrap_or(usize::MAX);
        block.memory.get_mut(offset..block.used).unwrap_or_default()
    }

    fn block_index(&self, position: u64) -> Option<usize> {
        if position < self.head || position >= self.tail {
            return None;
        }
        // Almost always the first or the last of very few.
        self.blocks.iter().position(|block| position < block.end())
    }

    /// Fills `slices` with the bytes from `from` to `to`; returns how many were filled.
    pub(crate) fn gather<'a>(&'a self, from: u64, to: u64, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(first) = self.block_index(from) else { return 0 };
        let parts = self.blocks.iter().skip(first).take_while(|block| block.start < to);
        let mut filled = 0;
        for (slot, block) in slices.iter_mut().zip(parts) {
            let start = from.max(block.start);
            let count = usize::try_from(to.min(block.end()) - start).unwrap_or(0);
            *slot = IoSlice::new(block.from(start).get(..count).unwrap_or_default());
            filled += 1;
        }
        filled
    }

    /// Lets go of everything before `position`.
    pub(crate) fn release(&mut self, position: u64, pool: &mut Pool) {
        self.head = self.head.max(position.min(self.tail));
        while self.blocks.front().is_some_and(|block| block.end() <= self.head) {
            if let Some(block) = self.blocks.pop_front() {
                pool.give_back(block.memory);
            }
        }
    }

    /// Lets go of everything from `position` on, which is a frame's start.
    pub(crate) fn truncate(&mut self, position: u64, pool: &mut Pool) {
        let position = position.max(self.head);
        while self.blocks.back().is_some_and(|block| block.start >= position) {
            if let Some(block) = self.blocks.pop_back() {
                pool.give_back(block.memory);
            }
        }
        if let Some(block) = self.blocks.back_mut() {
            block.used = usize::try_from(position - block.start).unwrap_or(0).min(block.used);
        }
        self.tail = position.min(self.tail);
        self.release(self.head, pool);
    }
}
