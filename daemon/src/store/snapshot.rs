//! What the relay needs of the store before it can start, read once at open.
//!
//! This file owns the first look at the tables and the counters that each start moves on. It reads no chunk
//! and no key, so that a start costs the same whatever is stored.

use e2e_protocol::ids::{Fingerprint, Name, RelayId, Sequence};

use super::PrekeyCount;

/// The state at open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Made at the first start, the same ever after.
    pub relay_id: RelayId,
    /// Counts starts, this one included, from 1. No two starts get the same, even if one was cut off.
    pub boot: u32,
    /// Unix milliseconds: the relay's time starts here. At least what any commit was given.
    pub clock: u64,
    /// Everyone who is registered, by slot.
    pub users: Vec<StoredUser>,
    /// Every mailbox with a backlog, by slot.
    pub mailboxes: Vec<StoredMailbox>,
}

/// A registered user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredUser {
    /// The slot in the relay's table of names.
    pub slot: u32,
    /// Which holder of that slot this is.
    pub generation: u32,
    /// The name.
    pub name: Name,
    /// Of the identity key.
    pub fingerprint: Fingerprint,
    /// What can be handed out of their prekeys.
    pub prekeys: PrekeyCount,
}

/// A mailbox with messages on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMailbox {
    /// Whose.
    pub slot: u32,
    /// Acknowledged up to here.
    pub acked: Sequence,
    /// The last that was stored.
    pub durable: Sequence,
    /// Stored messages after `acked`.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}
