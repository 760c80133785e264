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
pub(crate) struct Shares {
    /// Whose message came last. Most mailboxes have few senders, who send many at a time: no hashing for these.
    latest: Option<(Uid, Share)>,
    /// All others.
    others: HashMap<Uid, Share, BuildHasherDefault<UidHasher>>,
}

impl Share {
    fn add(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }

    /// Takes away; returns whether nothing is left.
    fn take(&mut self, messages: u64, bytes: u64) -> bool {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.messages == 0
    }
}

impl Shares {
    /// The share of a sender.
    pub(crate) fn of(&self, sender: Uid) -> Share {
        match self.latest {
            Some((latest, share)) if latest == sender => share,
            _ => self.others.get(&sender).copied().unwrap_or_default(),
        }
    }

    /// Adds to a sender's share.
    pub(crate) fn charge(&mut self, sender: Uid, messages: u64, bytes: u64) {
        if let Some((latest, share)) = &mut self.latest {
            if *latest == sender {
                return share.add(messages, bytes);
            }
            self.others.insert(*latest, *share);
        }
        let mut share = self.others.remove(&sender).unwrap_or_default();
        share.add(messages, bytes);
        self.latest = Some((sender, share));
    }

    /// Takes messages out of a sender's share.
    pub(crate) fn give_back(&mut self, sender: Uid, messages: u64, bytes: u64) {
        if let Some((latest, share)) = &mut self.latest
            && *latest == sender
        {
            if share.take(messages, bytes) {
                self.latest = None;
            }
        } else if let Some(share) = self.others.get_mut(&sender)
            && share.take(messages, bytes)
        {
            self.others.remove(&sender);
        }
    }

    /// Of how many senders something waits.
    pub(crate) fn len(&self) -> usize {
        self.others.len() + usize::from(self.latest.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all of them out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Uid, Share)> + '_ {
        self.latest.take().into_iter().chain(self.others.drain())
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
