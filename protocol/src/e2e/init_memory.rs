//! What a process remembers about received INITs between transactions, and never writes down.
//!
//! Decrypting an INIT takes private operations that a stranger can ask for. So each is decrypted
//! once, whatever became of it, and only so many in an hour. This file owns that memory and that
//! budget. Source: spec/crypto.md, "Receiving an INIT".

use super::init::TranscriptHash;
use super::limits::{
    INIT_WINDOW_MS, INITS_PER_PEER_MAX, INITS_UNPINNED_MAX, INITS_WAITING_ALL_MAX, INITS_WAITING_MAX,
};
use super::secret::Secret;
use crate::ids::Name;

/// One process's memory of received INITs. Made empty at start, shared by all peers.
#[derive(Default)]
pub struct InitMemory {
    /// Decrypted, but no message with a valid tag came yet; oldest first.
    waiting: Vec<Waiting>,
    /// Those of the last hour, oldest first.
    decrypted: Vec<Decrypted>,
}

struct Waiting {
    peer: Name,
    th: TranscriptHash,
    secrets: StartSecrets,
}

struct Decrypted {
    peer: Name,
    pinned: bool,
    at_ms: u64,
}

/// The root and the chain key that an INIT gave.
#[derive(Clone)]
pub(crate) struct StartSecrets {
    pub(crate) root: Secret,
    pub(crate) chain_key: Secret,
}

impl InitMemory {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn get(&self, th: &TranscriptHash) -> Option<&StartSecrets> {
        self.waiting.iter().find(|waiting| waiting.th == *th).map(|waiting| &waiting.secrets)
    }

    /// Takes one decryption from the budget; false if nothing is left of it.
    pub(crate) fn admit(&mut self, peer: &Name, pinned: bool, now_ms: u64) -> bool {
        self.decrypted.retain(|done| now_ms.saturating_sub(done.at_ms) < INIT_WINDOW_MS);
        let of_peer = self.decrypted.iter().filter(|done| done.peer == *peer).count();
        let of_unpinned = self.decrypted.iter().filter(|done| !done.pinned).count();
        if of_peer >= INITS_PER_PEER_MAX || (!pinned && of_unpinned >= INITS_UNPINNED_MAX) {
            return false;
        }
        self.decrypted.push(Decrypted { peer: *peer, pinned, at_ms: now_ms });
        true
    }

    /// A chain of this peer was received to its end, and a new INIT has to come: gives back what one
    /// INIT of the peer took from the budget. Each INIT gives one chain, so that no more is given back
    /// than led somewhere.
    pub(crate) fn chain_completed(&mut self, peer: &Name) {
        let oldest = self.decrypted.iter().position(|done| done.peer == *peer);
        oldest.map(|oldest| self.decrypted.remove(oldest));
    }

    pub(crate) fn remember(&mut self, peer: &Name, th: &TranscriptHash, secrets: StartSecrets) {
        let of_peer = self.waiting.iter().filter(|waiting| waiting.peer == *peer).count();
        let oldest = if of_peer >= INITS_WAITING_MAX {
            self.waiting.iter().position(|waiting| waiting.peer == *peer)
        } else {
            (self.waiting.len() >= INITS_WAITING_ALL_MAX).then_some(0)
        };
        oldest.map(|oldest| self.waiting.remove(oldest));
        self.waiting.push(Waiting { peer: *peer, th: *th, secrets });
    }

    /// The session stands: the secrets live there now.
    pub(crate) fn forget(&mut self, th: &TranscriptHash) {
        self.waiting.retain(|waiting| waiting.th != *th);
    }
}
