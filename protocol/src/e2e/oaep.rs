//! RSAES-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017, section 7.1), around exactly 32 secret bytes.
//!
//! This file owns wrapping and unwrapping. It must not know which key is whose, nor how labels are
//! made. Private operations are blinded.

use rsa::Oaep;
use rsa::rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key_pair::KeyPair;
use super::secret::Secret;
use crate::ids::{MODULUS_BYTES, Modulus};
use crate::login::BadModulus;
use crate::login::notation::HASH_BYTES;
use crate::login::public_key;

/// A wrapped secret, as long as the modulus.
pub(crate) type Wrapped = [u8; MODULUS_BYTES];

/// The label that binds a wrapped secret to its place.
pub(crate) type Label = [u8; HASH_BYTES];

/// What was wrapped can't be unwrapped, for whatever reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OaepFailure;

/// Wraps `secret` to the holder of `recipient`.
pub(crate) fn wrap(
    recipient: &Modulus,
    label: &Label,
    secret: &Secret,
    rng: &mut impl CryptoRng,
) -> Result<Wrapped, BadModulus> {
    let padding = Oaep::<Sha256>::new_with_label(label.as_slice());
    let wrapped = public_key::parse(recipient)?.encrypt(rng, padding, secret.as_bytes());
    wrapped.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(BadModulus)
}

/// Unwraps 32 bytes; another length is a failure too. One private operation, 1.4 to 2.1 ms.
pub(crate) fn unwrap(
    recipient: &KeyPair,
    label: &Label,
    wrapped: &Wrapped,
    rng: &mut impl CryptoRng,
) -> Result<Secret, OaepFailure> {
    let message = decrypt(recipient, label, wrapped, rng)?;
    let message = message.as_slice().try_into().map_err(|_| OaepFailure)?;
    Ok(Secret::filled(|bytes| *bytes = message))
}

/// RSAES-OAEP-DECRYPT for a message and a label of any length.
pub(crate) fn decrypt(
    recipient: &KeyPair,
    label: &[u8],
    wrapped: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Zeroizing<Vec<u8>>, OaepFailure> {
    let padding = Oaep::<Sha256>::new_with_label(label);
    recipient.private.decrypt_blinded(rng, padding, wrapped).map(Zeroizing::new).map_err(|_| OaepFailure)
}
