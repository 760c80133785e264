//! Ratchet keys made ahead, so that neither an INIT nor a step has to wait for one.
//!
//! This file owns the keys that belong to no session yet. It must not know when one is used: that is
//! `peer::send`. Taking a key and the session that takes it are committed together, so that no key is
//! ever used twice. Source: spec/crypto.md, "Keys of a client".

use rsa::rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::codec::{Corrupt, Reader, Writer};
use super::key_pair::{KeyPair, StoredKey};
use super::limits::RATCHET_KEYS_AHEAD_MAX;

const STATE_VERSION: u8 = 1;

/// Up to two key pairs, oldest first.
#[derive(Default)]
pub struct RatchetKeys(Vec<StoredKey>);

impl RatchetKeys {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many more are worth making in idle time.
    #[must_use]
    pub fn wanted(&self) -> usize {
        RATCHET_KEYS_AHEAD_MAX.saturating_sub(self.0.len())
    }

    /// Whether a step can be made without waiting for a key.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes in a key made ahead. One too many is erased.
    pub fn add(&mut self, key: &KeyPair) {
        if self.wanted() > 0 {
            self.0.push(key.to_stored());
        }
    }

    /// The oldest, or one made now, which takes some 60 ms.
    pub(crate) fn take(&mut self, rng: &mut impl CryptoRng) -> StoredKey {
        if self.0.is_empty() { KeyPair::generate(rng).to_stored() } else { self.0.remove(0) }
    }

    /// The state to keep. Layout: version 1, count 4, keys 512 each.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new(STATE_VERSION);
        out.count(self.0.len());
        self.0.iter().for_each(|key| key.encode(&mut out));
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] if it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Reader::new(bytes, STATE_VERSION)?;
        let count = input.count(RATCHET_KEYS_AHEAD_MAX)?;
        let keys = (0..count).map(|_| StoredKey::decode(&mut input)).collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self(keys))
    }
}
