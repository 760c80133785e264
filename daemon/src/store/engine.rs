//! The narrow interface to whatever keeps the bytes: ordered tables, one atomic durable commit.
//!
//! This file owns the interface only. An engine must not know messages, users or prekeys: it sees
//! tables, keys and values. What the keys and values mean: `records`. Engines: [`super::MemoryEngine`]
//! for tests and simulation, [`super::RedbEngine`] on a disk.

use std::ops::ControlFlow;

use super::{StoreError, copy::GivenUp, frozen::Frozen, records};

/// The tables of the store: a fixed set, each ordered by its keys' bytes. Integers in keys are big-endian,
/// so that the order of bytes is the order of numbers. The values' layouts: docs/store.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Format version, relay id, boot counter, clock. Key: a word in ASCII.
    Meta,
    /// Who holds each slot, and a count of their prekeys. Key: slot u32.
    Users,
    /// The modulus of each identity key, apart from `Users` because no start needs it. Key: slot u32.
    IdentityKeys,
    /// The summary of each mailbox that has a backlog. Key: slot u32.
    Mailboxes,
    /// Messages, several to a chunk. Key: slot u32, last sequence in the chunk u64.
    Chunks,
    /// The signed prekey in force. Key: slot u32.
    SignedPrekeys,
    /// One-time prekeys. Key: slot u32, batch u8, index u8; index 0 is the batch's head.
    PrekeyBatches,
    /// The last roll-overs of a name that had any. Key: slot u32.
    RollOvers,
    /// What is whose in a chunk. Key: as in `Chunks`.
    ChunkShares,
    /// Who blocks whom; the value is empty. Key: blocker's slot u32, blocked slot u32.
    Blocks,
    /// An engine's own: how many bytes of a segment of its log are in use. Key: segment u64.
    Segments,
    /// Registration tokens that the relay made. Key: number u32.
    Tokens,
}

impl Table {
    /// All of them, in the order of their declaration. It gives their numbers: a further one goes to the end.
    pub const ALL: [Self; 12] = [
        Self::Meta,
        Self::Users,
        Self::IdentityKeys,
        Self::Mailboxes,
        Self::Chunks,
        Self::SignedPrekeys,
        Self::PrekeyBatches,
        Self::RollOvers,
        Self::ChunkShares,
        Self::Blocks,
        Self::Segments,
        Self::Tokens,
    ];

    /// The name by which an engine keeps it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Users => "users",
            Self::IdentityKeys => "identity-keys",
            Self::Mailboxes => "mailboxes",
            Self::Chunks => "chunks",
            Self::SignedPrekeys => "signed-prekeys",
            Self::PrekeyBatches => "prekey-batches",
            Self::RollOvers => "roll-overs",
            Self::ChunkShares => "chunk-shares",
            Self::Blocks => "blocks",
            Self::Segments => "segments",
            Self::Tokens => "tokens",
        }
    }

    /// The number by which a log keeps it.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The table with this number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Of a table with large values: how many bytes at the front of each say what it holds, and stay with the key where an
    /// engine keeps the rest elsewhere.
    #[must_use]
    pub fn head_bytes(self) -> Option<usize> {
        (self == Self::Chunks).then_some(records::CHUNK_HEAD_BYTES)
    }
}

/// One change. A commit takes several and carries them out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the value of a key, in place of an earlier one.
    Put {
        /// Where.
        table: Table,
        /// Under what.
        key: Vec<u8>,
        /// What.
        value: Vec<u8>,
    },
    /// Deletes every key of a range, both ends included. An empty range is no error.
    DeleteRange {
        /// Where.
        table: Table,
        /// The lowest key to go.
        from: Vec<u8>,
        /// The highest key to go.
        to_inclusive: Vec<u8>,
    },
}

impl Write {
    /// The table that it changes.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Self::Put { table, .. } | Self::DeleteRange { table, .. } => *table,
        }
    }

    /// Bytes of its keys and its value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::DeleteRange { from, to_inclusive, .. } => from.len() + to_inclusive.len(),
        }
    }
}

/// What [`Engine::scan`] calls for each key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A place that keeps ordered tables across power loss.
///
/// One thread commits; others may read meanwhile, and see whole commits only.
pub trait Engine: Send + Sync + 'static {
    /// The value under `key`, if there is one.
    ///
    /// # Errors
    /// Whatever kept the engine from reading.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Calls `visit` for each key from `from` to `to_inclusive`, in their order, until it breaks off. Of a table with large
    /// values, what is far behind may be of a later commit than what comes first.
    ///
    /// # Errors
    /// Whatever kept the engine from reading; `visit` may have been called by then.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to_inclusive: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError>;

    /// Carries out all of `writes`, or none. When it returns `Ok`, they survive power loss.
    ///
    /// # Errors
    /// After an error it is unknown whether the writes are there: [`Engine::reopen`], then look.
    fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;

    /// Whether everything that was committed is where it belongs; otherwise [`Engine::settle`] is due at some time.
    fn is_settled(&self) -> bool {
        true
    }

    /// Brings what was committed to where it belongs: all of it, or only if there is too much. It may take as long as
    /// some commits; nothing is lost if it never comes to it.
    ///
    /// # Errors
    /// What was committed stays so, but further commits may fail: [`Engine::reopen`].
    fn settle(&self, _all: bool) -> Result<(), StoreError> {
        Ok(())
    }

    /// Keeps everything readable as it is now, for a copy, until that is dropped; one at a time. It takes as long as
    /// [`Engine::settle`]. `None`: this engine can't.
    ///
    /// # Errors
    /// As of [`Engine::settle`].
    fn freeze(&self) -> Result<Option<Frozen>, StoreError> {
        Ok(None)
    }

    /// Keeps no longer what was frozen, whether it was read or not. [`Engine::reopen`] does that too.
    fn give_up_frozen(&self, _why: GivenUp) {}

    /// Opens the same place again: after an I/O error the library may refuse everything until then.
    ///
    /// # Errors
    /// Whatever kept it from opening. It can be called again.
    fn reopen(&self) -> Result<(), StoreError>;
}
