//! Proof of possession: what a client signs to log in, and how the relay checks it.
//!
//! This module owns the names of public keys (fingerprint, key id), the bytes of a login, and the
//! verification of both proofs. What is signed to give a name to a new key: [`RollOver`]; to remove it: [`Removal`]. It must not know connections or frames, nor anything that decrypts
//! or signs: the client's side is `e2e::identity`. Without feature `e2e` it allocates only what the
//! `rsa` crate does for a verification. Source: spec/crypto.md, "Keys of a client" and "Login".

pub(crate) mod notation;
pub(crate) mod public_key;
mod removal;
mod roll_over;

use core::fmt;

use crate::ids::{Fingerprint, KeyId, Modulus, NAME_BYTES_MAX, Name, Nonce, RelayId, Signature};
pub use crate::wire::session::Purpose;
pub use removal::{Removal, verify_removal};
pub use roll_over::{RollOver, RollOverError, verify_roll_over};

use notation::{HASH_BYTES, equal, hash, label_length, mac, sha256, value_length};

const LOGIN_LABEL: &str = "RLY1/login";

/// Most bytes that a login signs: label, version, purpose, relay id, nonce, name, fingerprint.
pub const LOGIN_BYTES_MAX: usize =
    1 + LOGIN_LABEL.len() + 2 + 1 + RelayId::BYTES + Nonce::BYTES + 4 + NAME_BYTES_MAX + Fingerprint::BYTES;

/// Bytes of a token proof.
pub const TOKEN_PROOF_BYTES: usize = HASH_BYTES;

/// Why 256 bytes are not the modulus of an RSA-2048 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadModulus;

impl fmt::Display for BadModulus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an RSA-2048 modulus has its top bit set and is odd")
    }
}

impl core::error::Error for BadModulus {}

/// Why a login is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// The key is no RSA-2048 modulus.
    BadModulus,
    /// The fingerprint in the login is not that of the key.
    WrongFingerprint,
    /// The signature does not verify.
    BadSignature,
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadModulus => BadModulus.fmt(f),
            Self::WrongFingerprint => f.write_str("the fingerprint is not that of the key"),
            Self::BadSignature => f.write_str("the signature does not verify"),
        }
    }
}

impl core::error::Error for LoginError {}

/// What an identity key is known by: `H("RLY1/id"; N(IK))`.
#[must_use]
pub fn fingerprint(modulus: &Modulus) -> Fingerprint {
    Fingerprint(hash("RLY1/id", &[modulus]))
}

/// The short name of a prekey: the first 8 bytes of SHA-256 of its modulus.
#[must_use]
pub fn key_id(modulus: &Modulus) -> KeyId {
    let mut id = KeyId::ZERO;
    id.0.iter_mut().zip(sha256(modulus)).for_each(|(to, from)| *to = from);
    id
}

/// Checks what can be checked of a received modulus: its top bit is set and it is odd.
///
/// # Errors
/// [`BadModulus`] otherwise.
pub fn check_modulus(modulus: &Modulus) -> Result<(), BadModulus> {
    public_key::check(modulus)
}

/// Everything that one login binds together.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The protocol version in use.
    pub version: u16,
    /// Login or registration: told apart in the signed bytes, so that a typo at login never claims a name.
    pub purpose: Purpose,
    /// The relay that asked.
    pub relay_id: &'a RelayId,
    /// The relay's challenge.
    pub nonce: &'a Nonce,
    /// The name that is claimed.
    pub name: &'a Name,
    /// The fingerprint of the key that claims it.
    pub fingerprint: &'a Fingerprint,
}

impl Login<'_> {
    /// The exact bytes that are signed:
    /// `T("RLY1/login") || u16 version || u8 purpose || relay_id 32 || nonce 32 || LP(name) || fp 32`.
    #[must_use]
    pub fn signed_bytes(&self) -> SignedBytes {
        let mut out = SignedBytes { bytes: [0; LOGIN_BYTES_MAX], len: 0 };
        out.push(&label_length(LOGIN_LABEL));
        out.push(LOGIN_LABEL.as_bytes());
        out.push(&self.version.to_be_bytes());
        out.push(&[self.purpose as u8]);
        out.push(&self.relay_id.0);
        out.push(&self.nonce.0);
        out.push(&value_length(self.name.as_bytes()));
        out.push(self.name.as_bytes());
        out.push(&self.fingerprint.0);
        out
    }
}

/// The bytes of one login, roll-over or removal, at most [`LOGIN_BYTES_MAX`], on the stack.
#[derive(Clone, Copy, Debug)]
pub struct SignedBytes {
    bytes: [u8; LOGIN_BYTES_MAX],
    len: usize,
}

impl SignedBytes {
    /// The bytes to be signed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, field: &[u8]) {
        // LOGIN_BYTES_MAX is the sum of the fields' largest lengths: nothing is ever cut off.
        debug_assert!(self.len + field.len() <= LOGIN_BYTES_MAX);
        self.bytes.iter_mut().skip(self.len).zip(field).for_each(|(to, from)| *to = *from);
        self.len += field.len();
    }
}

/// Checks that `signature` proves possession of the key with `modulus` for this login.
///
/// RSASSA-PSS with SHA-256, MGF1-SHA-256 and exactly 32 bytes of salt (RFC 8017, section 8.1), some
/// 60 microseconds.
///
/// # Errors
/// [`LoginError`]: the modulus is bounded first, then the fingerprint compared, then the signature
/// verified.
pub fn verify_login(modulus: &Modulus, login: &Login<'_>, signature: &Signature) -> Result<(), LoginError> {
    check_modulus(modulus).map_err(|BadModulus| LoginError::BadModulus)?;
    if fingerprint(modulus) != *login.fingerprint {
        return Err(LoginError::WrongFingerprint);
    }
    if public_key::verifies(modulus, login.signed_bytes().as_bytes(), signature) {
        Ok(())
    } else {
        Err(LoginError::BadSignature)
    }
}

/// Proves knowledge of a registration token without sending it: `M(token, "RLY1/token"; the bytes
/// signed)`.
#[must_use]
pub fn token_proof(token: &[u8], login: &Login<'_>) -> [u8; TOKEN_PROOF_BYTES] {
    mac(token, "RLY1/token", &[login.signed_bytes().as_bytes()])
}

/// Whether `proof` is that of `token` for this login, compared in constant time.
#[must_use]
pub fn verify_token_proof(token: &[u8], login: &Login<'_>, proof: &[u8; TOKEN_PROOF_BYTES]) -> bool {
    equal(&token_proof(token, login), proof)
}
