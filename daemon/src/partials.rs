//! Frames that have begun to come and whose rest has not.
//!
//! Owns: their bytes, all connections together, and how much memory they take. When that is used up, the frame
//! that was begun longest ago has to go: a peer that sends its frames whole has one here for an instant, one that dribbles
//! them for long. Must not know what a frame is.

use crate::ages::{Age, Ages};
use crate::core::ConnId;
use crate::limits::{PARTIAL_CAPACITY_MAX, POOLED_BUFFERS_MAX};

/// One connection's begun frame.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    bytes: Vec<u8>,
    /// Its place in the order of all that were begun, while there are bytes.
    age: Option<Age>,
}

impl Partial {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Partials {
    /// Buffers that nobody needs at the moment.
    spare: Vec<Vec<u8>>,
    in_use_bytes: usize,
    begun: Ages<ConnId>,
}

impl Partials {
    /// Keeps `rest`, the whole of what has come of this connection's next frame. `is_next`: it is another one than
    /// what was kept before.
    pub(crate) fn keep(&mut self, id: ConnId, partial: &mut Partial, rest: &[u8], is_next: bool) {
        if rest.is_empty() || is_next {
            self.clear(partial);
        }
        if rest.is_empty() {
            return;
        }
        if partial.bytes.is_empty() {
            partial.age = Some(self.begun.begin(id));
            partial.bytes = self.spare.pop().unwrap_or_default();
            self.in_use_bytes += partial.bytes.capacity();
        }
        let before = partial.bytes.capacity();
        partial.bytes.clear();
        partial.bytes.extend_from_slice(rest);
        self.in_use_bytes += partial.bytes.capacity() - before;
    }

    /// Lets go of what came.
    pub(crate) fn clear(&mut self, partial: &mut Partial) {
        let Some(age) = partial.age.take() else { return };
        self.begun.end(age);
        let mut buffer = std::mem::take(&mut partial.bytes);
        self.in_use_bytes -= buffer.capacity();
        if self.spare.len() < POOLED_BUFFERS_MAX && buffer.capacity() <= PARTIAL_CAPACITY_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// How many frames are begun, and the bytes of memory that they take.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.begun.len(), self.in_use_bytes)
    }

    /// Whose frame has to go, where all together have more than `bytes_max`: the one that was begun longest ago.
    pub(crate) fn surplus(&self, bytes_max: usize) -> Option<ConnId> {
        self.begun.oldest().filter(|_| self.in_use_bytes > bytes_max)
    }
}
