//! The notation of spec/crypto.md in code: `T`, `LP`, `H` and `M`.
//!
//! This file owns how values are framed before they are hashed: a label with a one-byte length,
//! then every value behind a four-byte length, integers too. It must not know what is hashed.
//! `K`, the key derivation, needs HKDF and lives in `e2e::kdf`.

use hmac::digest::FixedOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Bytes of a SHA-256 hash, an HMAC-SHA-256 tag and every symmetric key.
pub(crate) const HASH_BYTES: usize = 32;

/// `T(label)`: the label's length in one byte, then the label.
///
/// Labels are constants of this crate, so that a too long one is our own bug.
pub(crate) fn label_length(label: &str) -> [u8; 1] {
    debug_assert!(label.is_ascii() && label.len() <= 255);
    #[allow(clippy::cast_possible_truncation)] // the assertion above
    [label.len() as u8]
}

/// The length prefix of `LP(value)`: four bytes.
///
/// What is hashed is at most an envelope, far below 4 GiB.
pub(crate) fn value_length(value: &[u8]) -> [u8; 4] {
    debug_assert!(u32::try_from(value.len()).is_ok());
    #[allow(clippy::cast_possible_truncation)] // the assertion above
    (value.len() as u32).to_be_bytes()
}

/// `H(label; values...)` = SHA-256(T(label) || LP(value)...), 32 bytes.
pub(crate) fn hash(label: &str, values: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(label_length(label));
    hasher.update(label);
    for value in values {
        hasher.update(value_length(value));
        hasher.update(value);
    }
    hasher.finalize().into()
}

/// `M(key, label; values...)` = HMAC-SHA-256(key, T(label) || LP(value)...), 32 bytes.
pub(crate) fn mac(key: &[u8], label: &str, values: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut out = [0; HASH_BYTES];
    mac_into(hmac_sha256(key), label, values, &mut out);
    out
}

/// The same with a key that was taken in already, for several under one key, and for those that are
/// secrets: no copy is left behind.
pub(crate) fn mac_into(mut mac: Hmac<Sha256>, label: &str, values: &[&[u8]], out: &mut [u8; HASH_BYTES]) {
    mac.update(&label_length(label));
    mac.update(label.as_bytes());
    for value in values {
        mac.update(&value_length(value));
        mac.update(value);
    }
    mac.finalize_into(out.into());
}

/// HMAC-SHA-256 under `key`, nothing absorbed yet.
pub(crate) fn hmac_sha256(key: &[u8]) -> Hmac<Sha256> {
    // RFC 2104 takes a key of any length (a long one is hashed first), so this constructor, which
    // is fallible only for the trait's sake, has no failing case.
    #[allow(clippy::expect_used)]
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// SHA-256 of `bytes` as they are, without framing.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::digest(bytes).into()
}

/// Whether two 32-byte values are equal, in a time that does not depend on where they differ.
pub(crate) fn equal(a: &[u8; HASH_BYTES], b: &[u8; HASH_BYTES]) -> bool {
    // By words: comparing bytes takes as long as hashing a block.
    let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let differences = a.iter().zip(b).map(|(a, b)| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b));
    differences.fold(0, |all, difference| all | difference).ct_eq(&0).into()
}
