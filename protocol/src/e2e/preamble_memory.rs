//! What a process remembers about received INITs and STEPs between transactions, and never writes down.
//!
//! Decrypting them takes private operations that others can ask for. So each is decrypted once, whatever
//! became of it, and only so many INITs in an hour. This file owns that memory and that budget. Source:
//! spec/crypto.md, "Receiving an INIT" and "Receiving a STEP".

use super::limits::{
    INIT_WINDOW_MS, INITS_PER_PEER_MAX, INITS_UNPINNED_MAX, PREAMBLES_WAITING_ALL_MAX, PREAMBLES_WAITING_MAX,
};
use super::secret::Secret;
use crate::ids::Name;
use crate::login::notation::HASH_BYTES;

/// One process's memory of received preambles. Made empty at start, shared by all peers.
#[derive(Default)]
pub struct PreambleMemory {
    /// Decrypted, but no message with a valid tag came yet; oldest first.
    waiting: Vec<Waiting>,
    /// INITs of the last hour, oldest first.
    decrypted: Vec<Decrypted>,
}

/// `th` of an INIT, `sh` of a STEP.
type PreambleHash = [u8; HASH_BYTES];

struct Waiting {
    peer: Name,
    hash: PreambleHash,
    secrets: EpochSecrets,
}

struct Decrypted {
    peer: Name,
    pinned: bool,
    at_ms: u64,
}

/// The root and the first chain key that an INIT or a STEP gave.
#[derive(Clone)]
pub(crate) struct EpochSecrets {
    pub(crate) root: Secret,
    pub(crate) chain_key: Secret,
}

impl PreambleMemory {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn get(&self, hash: &PreambleHash) -> Option<&EpochSecrets> {
        self.waiting.iter().find(|waiting| waiting.hash == *hash).map(|waiting| &waiting.secrets)
    }

    /// Takes one decryption from the budget; false if nothing is left of it.
    pub(crate) fn admit(&mut self, peer: &Name, pinned: bool, now_ms: u64) -> bool {
        // In both directions: a clock that is set back must not make the hour longer.
        self.decrypted.retain(|done| now_ms.abs_diff(done.at_ms) < INIT_WINDOW_MS);
        let of_peer = self.decrypted.iter().filter(|done| done.peer == *peer).count();
        let of_unpinned = self.decrypted.iter().filter(|done| !done.pinned).count();
        if of_peer >= INITS_PER_PEER_MAX || (!pinned && of_unpinned >= INITS_UNPINNED_MAX) {
            return false;
        }
        self.decrypted.push(Decrypted { peer: *peer, pinned, at_ms: now_ms });
        true
    }

    /// A chain of epoch 0 of this peer brought so many messages that another INIT has to come: gives back what
    /// one INIT of the peer took from the budget.
    pub(crate) fn init_earned(&mut self, peer: &Name) {
        let oldest = self.decrypted.iter().position(|done| done.peer == *peer);
        oldest.map(|oldest| self.decrypted.remove(oldest));
    }

    pub(crate) fn remember(&mut self, peer: &Name, hash: &PreambleHash, secrets: EpochSecrets) {
        let of_peer = self.waiting.iter().filter(|waiting| waiting.peer == *peer).count();
        let oldest = if of_peer >= PREAMBLES_WAITING_MAX {
            self.waiting.iter().position(|waiting| waiting.peer == *peer)
        } else {
            (self.waiting.len() >= PREAMBLES_WAITING_ALL_MAX).then_some(0)
        };
        oldest.map(|oldest| self.waiting.remove(oldest));
        self.waiting.push(Waiting { peer: *peer, hash: *hash, secrets });
    }

    /// The session or its epoch stands: the secrets live there now.
    pub(crate) fn forget(&mut self, hash: &PreambleHash) {
        self.waiting.retain(|waiting| waiting.hash != *hash);
    }
}
