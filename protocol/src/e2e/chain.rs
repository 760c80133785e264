//! The hash chain of one epoch: every step gives one message key and forgets how it came about.
//!
//! This file owns the chain key and the next number. It must not know sessions, nor keep what was
//! skipped (`skipped`). Source: spec/crypto.md, "A message".

use super::codec::{Corrupt, Reader, Writer};
use super::kdf::derive_by_mac;
use super::limits::CHAIN_MESSAGES_MAX;
use super::secret::Secret;

/// A chain key and the number of the message whose key comes next.
#[derive(Clone)]
pub(crate) struct Chain {
    key: Secret,
    next: u32,
}

/// A chain moved past one message, with what was passed on the way.
pub(crate) struct Advanced {
    pub(crate) chain: Chain,
    pub(crate) skipped: Vec<(u32, Secret)>,
}

impl Chain {
    pub(crate) fn new(key: Secret) -> Self {
        Self { key, next: 0 }
    }

    /// The number of the next message: so many came before it.
    pub(crate) fn next_number(&self) -> u32 {
        self.next
    }

    pub(crate) fn is_full(&self) -> bool {
        self.next >= CHAIN_MESSAGES_MAX
    }

    /// The next message's number and key; the chain key is replaced.
    pub(crate) fn step(&mut self) -> Option<(u32, Secret)> {
        let number = self.next;
        let (chain, message_key) = self.after()?;
        *self = chain;
        Some((number, message_key))
    }

    /// A copy moved past `number`, if that is still ahead and within the chain, and the message's key. The original
    /// stays: nothing is known to be authentic yet.
    pub(crate) fn advanced_past(&self, number: u32) -> Option<(Advanced, Secret)> {
        let ahead = number.checked_sub(self.next)?;
        if number >= CHAIN_MESSAGES_MAX {
            return None;
        }
        let mut skipped = Vec::with_capacity(ahead as usize);
        let (mut chain, mut message_key) = self.after()?;
        while chain.next <= number {
            skipped.push((chain.next - 1, message_key));
            (chain, message_key) = chain.after()?;
        }
        Some((Advanced { chain, skipped }, message_key))
    }

    /// The chain after the next message, and that message's key.
    fn after(&self) -> Option<(Self, Secret)> {
        if self.is_full() {
            return None;
        }
        let (message_key, key) = derive_by_mac(&self.key, "RLY1/mk", "RLY1/ck");
        Some((Self { key, next: self.next + 1 }, message_key))
    }

    /// The keys of the numbers that are left below `count`, which is the length of the chain: it is closed.
    pub(crate) fn closed_at(mut self, count: u32) -> Vec<(u32, Secret)> {
        let mut left = Vec::new();
        while self.next < count
            && let Some(skipped) = self.step()
        {
            left.push(skipped);
        }
        left
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.array(self.key.as_bytes());
        out.u32(self.next);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let key = Secret::decode(input)?;
        let next = input.u32()?;
        if next <= CHAIN_MESSAGES_MAX { Ok(Self { key, next }) } else { Err(Corrupt) }
    }
}
