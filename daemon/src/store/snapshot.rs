//! What the relay needs of the store before it can start, read once at open.
//!
//! This file owns the first look at the tables and the counters that each start moves on. It reads no chunk
//! and no key, so that a start costs the same whatever is stored.

use std::ops::ControlFlow;

use e2e_protocol::ids::{Fingerprint, Name, RelayId, Sequence, Uid};

use super::{
    Engine, PrekeyCount, StoreError, StoredToken, Table, Write,
    records::{self, META_BOOT, META_CLOCK, META_FORMAT, META_RELAY_ID, User},
};

/// The tables that are read for it.
pub(super) const SNAPSHOT_TABLES: [Table; 6] =
    [Table::Meta, Table::Users, Table::Mailboxes, Table::ChunkShares, Table::Blocks, Table::Tokens];

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
    /// What is whose in them; a sender may come more than once for one mailbox.
    pub shares: Vec<StoredShare>,
    /// Who blocks whom, by slots.
    pub blocks: Vec<(u32, u32)>,
    /// Registration tokens that the relay made, by number.
    pub tokens: Vec<StoredToken>,
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
    /// Stored messages after `acked`. After a failed commit it may be too high, until the next
    /// acknowledgement: a backlog can turn out to be empty.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What one sender has waiting in a part of a mailbox. It may count some that was acknowledged already, of the same chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredShare {
    /// Whose mailbox.
    pub slot: u32,
    /// Whose messages.
    pub sender: Uid,
    /// How many.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why the state could not be taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// It was written by a newer version, in this format.
    NewerFormat(u32),
    /// The engine failed, or what it holds is malformed.
    Store(StoreError),
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Snapshot {
    /// Takes up the state, or makes a new one with `randomness` for its relay id, and counts this start.
    /// `now`: Unix milliseconds. The counters are on the disk when it returns.
    ///
    /// # Errors
    /// [`LoadError`]; nothing was changed then.
    pub fn load(engine: &dyn Engine, randomness: [u8; 32], now: u64) -> Result<Self, LoadError> {
        let (relay_id, boot, clock) = match engine.get(Table::Meta, META_FORMAT)? {
            None => (RelayId(randomness), 0, 0),
            Some(format) => match records::parse_u32(&format)? {
                1..=records::FORMAT => (
                    records::parse_relay_id(&meta(engine, META_RELAY_ID)?)?,
                    records::parse_u32(&meta(engine, META_BOOT)?)?,
                    records::parse_u64(&meta(engine, META_CLOCK)?)?,
                ),
                newer => return Err(LoadError::NewerFormat(newer)),
            },
        };
        let mut snapshot = Self {
            relay_id,
            boot,
            clock: clock.max(now),
            users: Vec::new(),
            mailboxes: Vec::new(),
            shares: Vec::new(),
            blocks: Vec::new(),
            tokens: Vec::new(),
        };
        each_slot(engine, Table::Users, |slot, value| {
            snapshot.users.push(User::parse(value)?.stored(slot));
            Ok(())
        })?;
        each_slot(engine, Table::Mailboxes, |slot, value| {
            snapshot.mailboxes.push(records::parse_mailbox(slot, value)?);
            Ok(())
        })?;
        each_slot(engine, Table::ChunkShares, |slot, value| {
            snapshot.shares.extend(records::parse_chunk_shares(slot, value)?);
            Ok(())
        })?;
        each(engine, Table::Blocks, |key, _| {
            snapshot.blocks.push(records::parse_block_key(key)?);
            Ok(())
        })?;
        each(engine, Table::Tokens, |key, value| {
            snapshot.tokens.push(records::parse_token(key, value)?);
            Ok(())
        })?;
        snapshot.boot = boot.checked_add(1).ok_or_else(|| StoreError::malformed("boot counter"))?;
        let put = |key: &[u8], value: &[u8]| Write::Put {
            table: Table::Meta,
            key: key.to_vec(),
            value: value.to_vec(),
        };
        engine.commit(&[
            put(META_FORMAT, &records::FORMAT.to_be_bytes()),
            put(META_RELAY_ID, &relay_id.0),
            put(META_BOOT, &snapshot.boot.to_be_bytes()),
            put(META_CLOCK, &snapshot.clock.to_be_bytes()),
        ])?;
        Ok(snapshot)
    }
}

fn meta(engine: &dyn Engine, key: &[u8]) -> Result<Vec<u8>, StoreError> {
    engine.get(Table::Meta, key)?.ok_or_else(|| StoreError::malformed("meta"))
}

fn each_slot(
    engine: &dyn Engine,
    table: Table,
    mut take: impl FnMut(u32, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    each(engine, table, |key, value| take(records::slot_of_key(key)?, value))
}

fn each(
    engine: &dyn Engine,
    table: Table,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // No key is longer than that.
    let (first, last) = (Vec::new(), [0xff; 16]);
    let mut result = Ok(());
    engine.scan(table, &first, &last, &mut |key, value| {
        result = take(key, value);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result
}
