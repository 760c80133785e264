//! The identity key: it signs logins, roll-overs, removals, bundles and INITs, and never decrypts.
//!
//! This file owns the client's long-term key pair. It must not know what the signatures are about,
//! but for a login's and a roll-over's. Source: spec/crypto.md, "Keys of a client" and "Login".

use rsa::rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::bundle::Profile;
use super::codec::{Corrupt, Reader, Writer};
use super::key_pair::{KeyPair, StoredKey};
use super::pss;
use crate::ids::{Fingerprint, Modulus, Name, Signature};
use crate::login::{Login, Removal, RollOver, fingerprint};

const STATE_VERSION: u8 = 1;

/// A client's identity key pair and its fingerprint.
pub struct Identity {
    key: KeyPair,
    fingerprint: Fingerprint,
}

/// Who is acting: the own name and identity, and how one wants to be sent to.
#[derive(Clone, Copy)]
pub struct Me<'a> {
    /// The own name at the relay.
    pub name: &'a Name,
    /// The key that owns it.
    pub identity: &'a Identity,
    /// How one wants to be sent to, in sessions that start from now on.
    pub profile: Profile,
}

impl Identity {
    /// Makes a new identity: 50 to 60 ms, with a long tail.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        KeyPair::generate(rng).into()
    }

    /// The public key, 256 bytes.
    #[must_use]
    pub fn modulus(&self) -> &Modulus {
        self.key.modulus()
    }

    /// `H("RLY1/id"; N(IK))`.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Signs a login, which carries this identity's fingerprint. One private operation.
    #[must_use]
    pub fn sign_login(&self, login: &Login<'_>, rng: &mut impl CryptoRng) -> Signature {
        debug_assert!(*login.fingerprint == self.fingerprint);
        self.sign(login.signed_bytes().as_bytes(), rng)
    }

    /// Signs a roll-over, of which this identity is the former or the new key. One private operation.
    #[must_use]
    pub fn sign_roll_over(&self, roll_over: &RollOver<'_>, rng: &mut impl CryptoRng) -> Signature {
        debug_assert!([roll_over.former, roll_over.fingerprint].contains(&&self.fingerprint));
        self.sign(roll_over.signed_bytes().as_bytes(), rng)
    }

    /// Signs the removal of the name that this identity owns. One private operation.
    #[must_use]
    pub fn sign_removal(&self, removal: &Removal<'_>, rng: &mut impl CryptoRng) -> Signature {
        debug_assert!(*removal.fingerprint == self.fingerprint);
        self.sign(removal.signed_bytes().as_bytes(), rng)
    }

    pub(crate) fn sign(&self, message: &[u8], rng: &mut impl CryptoRng) -> Signature {
        pss::sign(&self.key, message, rng)
    }

    /// The state to keep: version 1, modulus 256, two primes 128 each.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new(STATE_VERSION);
        self.key.to_stored().encode(&mut out);
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] if it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Reader::new(bytes, STATE_VERSION)?;
        let key = StoredKey::decode(&mut input)?;
        input.finish()?;
        Ok(key.load()?.into())
    }
}

impl From<KeyPair> for Identity {
    fn from(key: KeyPair) -> Self {
        let fingerprint = fingerprint(key.modulus());
        Self { key, fingerprint }
    }
}
