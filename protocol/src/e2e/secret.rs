//! 32 secret bytes that erase themselves and do not print.
//!
//! This file owns how a symmetric secret lies in memory: on the heap, so that moving it leaves no
//! copy behind. It must not know what the secret is for.

use rsa::rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::codec::{Corrupt, Reader};
use crate::login::notation::HASH_BYTES;

/// A symmetric secret: a root, chain, message or wrapped key, 32 bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret(Box<[u8; HASH_BYTES]>);

impl Secret {
    pub(crate) const BYTES: usize = HASH_BYTES;

    /// Takes the secret over and erases where it came from.
    pub(crate) fn take(bytes: &mut [u8; HASH_BYTES]) -> Self {
        let secret = Self(Box::new(*bytes));
        bytes.zeroize();
        secret
    }

    /// A fresh one.
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        Self::filled(|bytes| rng.fill_bytes(bytes))
    }

    /// Written in place by `fill`.
    pub(crate) fn filled(fill: impl FnOnce(&mut [u8; HASH_BYTES])) -> Self {
        let mut secret = Self(Box::new([0; HASH_BYTES]));
        fill(&mut secret.0);
        secret
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let bytes = input.array()?;
        Ok(Self::filled(|to| *to = *bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }
}
