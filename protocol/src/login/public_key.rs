//! A received RSA-2048 public key, and RSASSA-PSS verification under it.
//!
//! This file owns the only way from 256 received bytes to a usable public key. It must not know
//! what is signed, nor any private key: those are in `e2e`. Source: spec/crypto.md, "Notation";
//! RFC 8017, section 8.1.

use rsa::{BoxedUint, Pss, RsaPublicKey};
use sha2::Sha256;

use super::BadModulus;
use super::notation::{HASH_BYTES, sha256};
use crate::ids::{MODULUS_BYTES, Modulus, Signature};

/// The public exponent of every key; it never travels.
pub(crate) const EXPONENT: u64 = 65_537;

/// Bits of every modulus.
#[allow(clippy::cast_possible_truncation)] // 2048
pub(crate) const MODULUS_BITS: u32 = MODULUS_BYTES as u32 * 8;

/// Bytes of the salt in every signature, neither more nor less.
pub(crate) const SALT_BYTES: usize = HASH_BYTES;

/// Checks what can be checked of a received modulus: its top bit is set and it is odd.
pub(crate) fn check(modulus: &Modulus) -> Result<(), BadModulus> {
    let [first, .., last] = modulus;
    if first & 0x80 == 0 || last & 1 == 0 { Err(BadModulus) } else { Ok(()) }
}

/// Makes a received modulus usable, after [`check`].
pub(crate) fn parse(modulus: &Modulus) -> Result<RsaPublicKey, BadModulus> {
    check(modulus)?;
    let n = BoxedUint::from_be_slice(modulus, MODULUS_BITS).map_err(|_| BadModulus)?;
    RsaPublicKey::new(n, BoxedUint::from(EXPONENT)).map_err(|_| BadModulus)
}

/// Whether `signature` is RSASSA-PSS (SHA-256, MGF1-SHA-256, 32 bytes of salt) of `message`.
///
/// False for a modulus that [`check`] refuses, too.
pub(crate) fn verifies(modulus: &Modulus, message: &[u8], signature: &Signature) -> bool {
    let Ok(key) = parse(modulus) else { return false };
    key.verify(Pss::<Sha256>::new_with_salt(SALT_BYTES), &sha256(message), signature).is_ok()
}
