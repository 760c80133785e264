//! How much of one mailbox is whose (spec/wire.md, section 5, "SEND").
//!
//! Owns: messages and bytes of each sender who has some waiting in the mailbox. Must not know limits: `send` asks
//! before it charges. What a sender has waiting in all mailboxes is in `users`; both change together.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use e2e_protocol::ids::Uid;

/// What waits of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Share {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// The shares of a mailbox, each more than nothing.
#[derive(Debug, Default)]
pub(crate) struct Shares(HashMap<Uid, Share, BuildHasherDefault<UidHasher>>);

impl Shares {
    /// The share of a sender.
    pub(crate) fn of(&self, sender: Uid) -> Share {
        self.0.get(&sender).copied().unwrap_or_default()
    }

    /// Adds to a sender's share.
    pub(crate) fn charge(&mut self, sender: Uid, messages: u64, bytes: u64) {
        let share = self.0.entry(sender).or_default();
        share.messages += messages;
        share.bytes += bytes;
    }

    /// Takes one message out of a sender's share.
    pub(crate) fn give_back(&mut self, sender: Uid, bytes: u64) {
        if let Some(share) = self.0.get_mut(&sender) {
            share.messages = share.messages.saturating_sub(1);
            share.bytes = share.bytes.saturating_sub(bytes);
            if share.messages == 0 {
                self.0.remove(&sender);
            }
        }
    }

    /// Of how many senders something waits.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all of them out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Uid, Share)> + '_ {
        self.0.drain()
    }
}

/// Spreads uids, which the relay itself gives out: nobody can choose some that collide.
#[derive(Default)]
struct UidHasher(u64);

/// 2^64 divided by the golden ratio, odd.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for UidHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(SPREAD);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
