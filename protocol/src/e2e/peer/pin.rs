//! Who a peer is: the pinned identity key, whether its user compared it, and what happens when another
//! one shows up.
//!
//! This file owns that rule. It must not know how a key was shown, nor ask anybody. Source:
//! spec/crypto.md, "People".

use super::Peer;
use crate::e2e::codec::{Corrupt, Reader, Writer};
use crate::e2e::pace::Pace;
use crate::e2e::skipped::SkippedKeys;
use crate::ids::{Fingerprint, Modulus, Name};
use crate::login::fingerprint;

/// What is known of a peer's identity.
#[derive(Default)]
pub(super) struct Pin {
    key: Option<(Modulus, Fingerprint)>,
    /// Its user compared the number with the peer's.
    verified: bool,
    /// The directory showed this other key: nothing passes in either direction.
    changed: Option<Fingerprint>,
}

/// What a key that the directory shows means for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownKey {
    /// Nothing is pinned yet.
    New,
    /// It is the pinned one.
    Pinned,
    /// It is another: the peer is stopped until it is accepted.
    Changed,
}

impl Pin {
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.key.as_ref().map(|(_, fingerprint)| *fingerprint)
    }

    /// Pins the key of a peer that is met for the first time.
    pub(super) fn meet(&mut self, key: &Modulus) {
        if self.key.is_none() {
            self.key = Some((*key, fingerprint(key)));
        }
    }

    /// Layout: pinned 1, N(IK) 256 if so, verified 1, changed 1, its fingerprint 32 if so.
    pub(super) fn encode(&self, out: &mut Writer) {
        out.bool(self.key.is_some());
        if let Some((modulus, _)) = &self.key {
            out.array(modulus);
        }
        out.bool(self.verified);
        out.bool(self.changed.is_some());
        if let Some(changed) = &self.changed {
            out.array(&changed.0);
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let key = if input.bool()? { Some(*input.array()?) } else { None };
        Ok(Self {
            key: key.map(|modulus| (modulus, fingerprint(&modulus))),
            verified: input.bool()?,
            changed: if input.bool()? { Some(Fingerprint(*input.array()?)) } else { None },
        })
    }
}

impl Peer {
    /// A peer of whom nothing is kept but the key: one that was met on another device.
    #[must_use]
    pub fn pinned(name: Name, key: &Modulus, verified: bool) -> Self {
        let mut peer = Self::new(name);
        peer.pin.meet(key);
        peer.pin.verified = verified;
        peer
    }

    /// The fingerprint of the pinned identity key: that which was met first, or was accepted.
    #[must_use]
    pub fn pin(&self) -> Option<Fingerprint> {
        self.pin.fingerprint()
    }

    /// The pinned identity key, 256 bytes.
    #[must_use]
    pub fn identity(&self) -> Option<&Modulus> {
        self.pin.key.as_ref().map(|(modulus, _)| modulus)
    }

    /// Whether the user compared the numbers, and marked this key.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.pin.verified
    }

    /// The user compared the number of the pinned key. Without one nothing changes.
    pub fn set_verified(&mut self) {
        self.pin.verified = self.pin.key.is_some();
    }

    /// The key that the directory showed in place of the pinned one, if nobody accepted it yet.
    #[must_use]
    pub fn changed(&self) -> Option<Fingerprint> {
        self.pin.changed
    }

    /// The directory shows this key for the name. Another one than the pinned stops both directions;
    /// the pinned one ends that.
    pub fn key_shown(&mut self, shown: Fingerprint) -> ShownKey {
        let known = match self.pin() {
            None => return ShownKey::New,
            Some(pin) if pin == shown => ShownKey::Pinned,
            Some(_) => ShownKey::Changed,
        };
        self.pin.changed = (known == ShownKey::Changed).then_some(shown);
        known
    }

    /// Pins another key: the user accepted it, or a roll-over led to it. Nothing of the old one is left.
    /// Marked as verified only if it is said anew.
    pub fn repin(&mut self, key: &Modulus) {
        self.pin = Pin { key: Some((*key, fingerprint(key))), verified: false, changed: None };
        self.last_made_ms = 0;
        self.sessions.clear();
        self.skipped = SkippedKeys::default();
        self.pace = Pace::default();
    }

    /// Erases all sessions and what was skipped in them: our own key is another now, which they are
    /// bound to.
    pub fn forget_sessions(&mut self) {
        self.sessions.clear();
        self.skipped = SkippedKeys::default();
        self.pace = Pace::default();
    }
}
