//! Frames that have begun to come and whose rest has not.
//!
//! Owns: their bytes, all connections together, and how much memory they take. When that is used up, the frame
//! that was begun longest ago has to go: a peer that sends its frames whole has one here for an instant, one that dribbles
//! them for long. Must not know what a frame is.

use crate::ages::{Age, Ages};
use crate::core::ConnId;
use crate::limits::{PARTIAL_CAPACITY_MAX, POOLED_BUFFERS_MAX};

/// One connection's begun frame, if there is one. Most have none, and cost no more than a pointer for it.
#[derive(Debug, Default)]
pub(crate) struct Partial(Option<Box<Begun>>);

#[derive(Debug, Default)]
struct Begun {
    bytes: Vec<u8>,
    /// Its place in the order of all that were begun.
    age: Age,
}

impl Partial {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |begun| &begun.bytes)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Partials {
    /// Buffers that nobody needs at the moment.
    #[allow(clippy::vec_box)] // they move between here and a socket, which has room for a pointer
    spare: Vec<Box<Begun>>,
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
        let begun = partial.0.get_or_insert_with(|| {
            let mut begun = self.spare.pop().unwrap_or_default();
            begun.age = self.begun.begin(id);
            self.in_use_bytes += begun.bytes.capacity();
            begun
        });
        let before = begun.bytes.capacity();
        begun.bytes.clear();
        begun.bytes.extend_from_slice(rest);
        self.in_use_bytes += begun.bytes.capacity() - before;
    }

    /// Lets go of what came.
    pub(crate) fn clear(&mut self, partial: &mut Partial) {
        let Some(mut begun) = partial.0.take() else { return };
        self.begun.end(begun.age);
        let capacity = begun.bytes.capacity();
        self.in_use_bytes -= capacity;
        if self.spare.len() < POOLED_BUFFERS_MAX && capacity <= PARTIAL_CAPACITY_MAX {
            begun.bytes.clear();
            self.spare.push(begun);
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
