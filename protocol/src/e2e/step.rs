//! STEP: the preamble with which one end of a session moves it to its next epoch, and the secrets that
//! both ends take from it.
//!
//! ```text
//!   N(R_new) 256 | c 256 | auth 32
//! ```
//!
//! This file owns STEP's bytes, its hash and the derivation from it. It must not know when to step
//! (`session`) nor which key is whose. Source: spec/crypto.md, "Stepping".

use super::kdf::{derive_one, derive_two};
use super::oaep::{Label, Wrapped};
use super::secret::Secret;
use crate::e2e::init::TranscriptHash;
use crate::ids::{MODULUS_BYTES, Modulus};
use crate::login::notation::{HASH_BYTES, equal, hash, mac};

/// Bytes of a STEP.
pub const STEP_BYTES: usize = 2 * MODULUS_BYTES + HASH_BYTES;

/// The hash of a step: what both ends agree on when they agree on an epoch.
pub(crate) type StepHash = [u8; HASH_BYTES];

/// A STEP's parts, borrowed from its bytes; nothing in it is verified yet.
pub(crate) struct Step<'a> {
    /// N(R_new): what the next step will be wrapped to.
    pub(crate) ratchet: &'a Modulus,
    pub(crate) c: &'a Wrapped,
    pub(crate) auth: &'a [u8; HASH_BYTES],
}

impl<'a> Step<'a> {
    /// Takes a STEP apart; `None` if it has another length.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (ratchet, rest) = bytes.split_first_chunk()?;
        let (c, rest) = rest.split_first_chunk()?;
        Some(Self { ratchet, c, auth: rest.try_into().ok()? })
    }

    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(STEP_BYTES);
        out.extend_from_slice(self.ratchet);
        out.extend_from_slice(self.c);
        out.extend_from_slice(self.auth);
        out
    }

    /// Whether whoever made it knew `root`, in constant time.
    pub(crate) fn is_authentic(&self, root: &Secret, step_hash: &StepHash) -> bool {
        equal(&auth(root, step_hash), self.auth)
    }
}

/// The label under which a step's secret is wrapped to `recipient`, the key of the epoch before.
pub(crate) fn wrap_label(th: &TranscriptHash, epoch: u32, recipient: &Modulus) -> Label {
    hash("RLY1/step-label", &[th, &epoch.to_be_bytes(), recipient])
}

/// `sh`.
pub(crate) fn step_hash(
    th: &TranscriptHash,
    epoch: u32,
    recipient: &Modulus,
    c: &Wrapped,
    ratchet: &Modulus,
) -> StepHash {
    hash("RLY1/step", &[th, &epoch.to_be_bytes(), recipient, c, ratchet])
}

/// What proves that a step comes from who knows the root of the epoch before.
pub(crate) fn auth(root: &Secret, step_hash: &StepHash) -> [u8; HASH_BYTES] {
    let key = derive_one(root.as_bytes(), &[], "RLY1/step-auth", &[]);
    mac(key.as_bytes(), "RLY1/step-auth", &[step_hash])
}

/// The new epoch's root and chain key.
pub(crate) fn root_and_chain(root: &Secret, s: &Secret, step_hash: &StepHash) -> (Secret, Secret) {
    derive_two(root.as_bytes(), s.as_bytes(), "RLY1/root", step_hash)
}
