//! `K`, the key derivation of spec/crypto.md: HKDF-SHA-256 (RFC 5869) with a labelled info.
//!
//! This file owns the framing of the info field. It must not know which keys are derived.

use hkdf::{Hkdf, InvalidLength};
use sha2::Sha256;
use zeroize::Zeroize;

use super::secret::Secret;
use crate::login::notation::{HASH_BYTES, hmac_sha256, label_length, mac_into};

/// `K_32(salt, ikm, label, context)`.
pub(crate) fn derive_one(salt: &[u8], ikm: &[u8], label: &str, context: &[u8]) -> Secret {
    Extracted::new(salt, ikm).one(label, context)
}

/// `K_64(salt, ikm, label, context)`: the first and the second 32 bytes.
pub(crate) fn derive_two(salt: &[u8], ikm: &[u8], label: &str, context: &[u8]) -> (Secret, Secret) {
    Extracted::new(salt, ikm).two(label, context)
}

/// `M(key, label)` without values for two labels, as what follows in a chain. Taking in the key is half
/// of what one costs, and both share it.
pub(crate) fn derive_by_mac(key: &Secret, first: &str, second: &str) -> (Secret, Secret) {
    let keyed = hmac_sha256(key.as_bytes());
    let first = Secret::filled(|out| mac_into(keyed.clone(), first, &[], out));
    (first, Secret::filled(|out| mac_into(keyed, second, &[], out)))
}

/// `K` with a salt and an ikm, for several labels: the extract, and taking in what it gives, are most of what one
/// costs. As secret as the keys; it erases itself, and is meant to stay where it was made.
pub(crate) struct Extracted(Hkdf<Sha256>);

impl Extracted {
    pub(crate) fn new(salt: &[u8], ikm: &[u8]) -> Self {
        Self(Hkdf::new(Some(salt), ikm))
    }

    /// `K_32(..., label, context)`.
    pub(crate) fn one(&self, label: &str, context: &[u8]) -> Secret {
        Secret::filled(|out| self.derive(label, context, out))
    }

    /// `K_64(..., label, context)`: the first and the second 32 bytes.
    pub(crate) fn two(&self, label: &str, context: &[u8]) -> (Secret, Secret) {
        let mut okm = [[0; HASH_BYTES]; 2];
        self.derive(label, context, okm.as_flattened_mut());
        let [first, second] = &mut okm;
        let keys = (Secret::take(first), Secret::take(second));
        okm.zeroize();
        keys
    }

    /// `K_L(..., label, context)`, where L is what `out` holds: 32 or 64 bytes.
    pub(crate) fn derive(&self, label: &str, context: &[u8], out: &mut [u8]) {
        // RFC 5869 allows 255 * 32 bytes of output; all callers ask for 32 or 64.
        #[allow(clippy::expect_used)]
        self.expand(&[&label_length(label), label.as_bytes(), context], out).expect("64 bytes at most");
    }

    /// HKDF-Expand with an info in parts.
    pub(crate) fn expand(&self, info: &[&[u8]], out: &mut [u8]) -> Result<(), InvalidLength> {
        self.0.expand_multi_info(info, out)
    }
}
