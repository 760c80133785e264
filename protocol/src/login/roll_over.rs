//! What both keys sign to give a name to a new identity key, and how anybody checks it.
//!
//! This file owns the bytes of a roll-over and the verification of its two signatures. It must not know
//! frames, nor which key is in force: the relay checks a ROLL with it, a client each step from the key
//! that it pinned. Source: spec/crypto.md, "People".

use core::fmt;

use super::notation::{label_length, value_length};
use super::{BadModulus, LOGIN_BYTES_MAX, SignedBytes, check_modulus, fingerprint, public_key};
use crate::ids::{Fingerprint, Modulus, NAME_BYTES_MAX, Name, Signature};

const ROLL_LABEL: &str = "RLY1/roll";

/// Most bytes that a roll-over signs: label, name, both fingerprints, time.
const ROLL_BYTES_MAX: usize = 1 + ROLL_LABEL.len() + 4 + NAME_BYTES_MAX + 2 * Fingerprint::BYTES + 8;

// It shares the login's buffer.
const _: () = assert!(ROLL_BYTES_MAX <= LOGIN_BYTES_MAX);

/// Why a roll-over is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollOverError {
    /// One of the keys is no RSA-2048 modulus.
    BadModulus,
    /// The new key is the former one.
    SameKey,
    /// The signature by the former key does not verify.
    BadFormerSignature,
    /// The signature by the new key does not verify.
    BadSignature,
}

impl fmt::Display for RollOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadModulus => BadModulus.fmt(f),
            Self::SameKey => f.write_str("the new key is the former one"),
            Self::BadFormerSignature => f.write_str("the signature by the former key does not verify"),
            Self::BadSignature => f.write_str("the signature by the new key does not verify"),
        }
    }
}

impl core::error::Error for RollOverError {}

/// Everything that one roll-over binds together.
#[derive(Clone, Copy, Debug)]
pub struct RollOver<'a> {
    /// The name that changes hands.
    pub name: &'a Name,
    /// The fingerprint of the key in force.
    pub former: &'a Fingerprint,
    /// The fingerprint of the new key.
    pub fingerprint: &'a Fingerprint,
    /// When, milliseconds by its owner's clock, and above that of the roll-over before.
    pub time_ms: u64,
}

impl RollOver<'_> {
    /// The exact bytes that both keys sign:
    /// `T("RLY1/roll") || LP(name) || fp_old 32 || fp_new 32 || u64 time`.
    #[must_use]
    pub fn signed_bytes(&self) -> SignedBytes {
        let mut out = SignedBytes { bytes: [0; LOGIN_BYTES_MAX], len: 0 };
        out.push(&label_length(ROLL_LABEL));
        out.push(ROLL_LABEL.as_bytes());
        out.push(&value_length(self.name.as_bytes()));
        out.push(self.name.as_bytes());
        out.push(&self.former.0);
        out.push(&self.fingerprint.0);
        out.push(&self.time_ms.to_be_bytes());
        out
    }
}

/// Checks that both the key with modulus `former` and the one with modulus `new` signed that `name` changes
/// from the one to the other. That the time is above the last one's is for the caller to see.
///
/// Two verifications as in [`super::verify_login`]; none if a modulus is bad or the keys are one.
///
/// # Errors
/// [`RollOverError`], the first in the order of its values.
pub fn verify_roll_over(
    name: &Name,
    former: &Modulus,
    new: &Modulus,
    time_ms: u64,
    former_signature: &Signature,
    signature: &Signature,
) -> Result<(), RollOverError> {
    for modulus in [former, new] {
        check_modulus(modulus).map_err(|BadModulus| RollOverError::BadModulus)?;
    }
    if former == new {
        return Err(RollOverError::SameKey);
    }
    let (former_fingerprint, new_fingerprint) = (fingerprint(former), fingerprint(new));
    let roll_over = RollOver { name, former: &former_fingerprint, fingerprint: &new_fingerprint, time_ms };
    let signed = roll_over.signed_bytes();
    if !public_key::verifies(former, signed.as_bytes(), former_signature) {
        return Err(RollOverError::BadFormerSignature);
    }
    if !public_key::verifies(new, signed.as_bytes(), signature) {
        return Err(RollOverError::BadSignature);
    }
    Ok(())
}
