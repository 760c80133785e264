//! `K`, the key derivation of spec/crypto.md: HKDF-SHA-256 (RFC 5869) with a labelled info.
//!
//! This file owns the framing of the info field. It must not know which keys are derived.

use hkdf::{Hkdf, InvalidLength};
use sha2::Sha256;
use zeroize::Zeroize;

use super::secret::Secret;
use crate::login::notation::{HASH_BYTES, label_length, mac};

/// `K_32(salt, ikm, label, context)`.
pub(crate) fn derive_one(salt: &[u8], ikm: &[u8], label: &str, context: &[u8]) -> Secret {
    Secret::filled(|out| derive(salt, ikm, label, context, out))
}

/// `K_64(salt, ikm, label, context)`: the first and the second 32 bytes.
pub(crate) fn derive_two(salt: &[u8], ikm: &[u8], label: &str, context: &[u8]) -> (Secret, Secret) {
    let mut okm = [[0; HASH_BYTES]; 2];
    derive(salt, ikm, label, context, okm.as_flattened_mut());
    let [first, second] = &mut okm;
    let keys = (Secret::take(first), Secret::take(second));
    okm.zeroize();
    keys
}

/// `M(key, label)` without values, as the next secret of a chain.
pub(crate) fn derive_by_mac(key: &Secret, label: &str) -> Secret {
    Secret::take(&mut mac(key.as_bytes(), label, &[]))
}

fn derive(salt: &[u8], ikm: &[u8], label: &str, context: &[u8], out: &mut [u8]) {
    // RFC 5869 allows 255 * 32 bytes of output; the callers above ask for 32 and 64.
    #[allow(clippy::expect_used)]
    hkdf_sha256(salt, ikm, &[&label_length(label), label.as_bytes(), context], out)
        .expect("64 bytes at most");
}

/// HKDF-SHA-256 with an info in parts.
pub(crate) fn hkdf_sha256(
    salt: &[u8],
    ikm: &[u8],
    info: &[&[u8]],
    out: &mut [u8],
) -> Result<(), InvalidLength> {
    Hkdf::<Sha256>::new(Some(salt), ikm).expand_multi_info(info, out)
}
