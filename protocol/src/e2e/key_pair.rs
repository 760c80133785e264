//! An RSA-2048 key pair, in use and at rest.
//!
//! This file owns making a pair and turning it to bytes and back: the two primes, 128 bytes each. It
//! must not know what a pair is for; signing is in `pss`, decrypting in `oaep`.

use rsa::rand_core::CryptoRng;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BoxedUint, RsaPrivateKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::codec::{Corrupt, Reader, Writer};
use crate::ids::Modulus;
use crate::login::public_key::{EXPONENT, MODULUS_BITS, check};

/// Bytes of one prime.
pub const PRIME_BYTES: usize = 128;

/// An RSA-2048 key pair, ready for use. Erased when dropped.
pub struct KeyPair {
    modulus: Modulus,
    pub(crate) private: RsaPrivateKey,
}

impl KeyPair {
    /// Makes a new pair: 50 to 60 ms, with a long tail, so that whoever makes several shows that
    /// something is going on.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        // It fails for sizes below 1024 bits and for an exponent that can't be inverted, neither of
        // which depends on anything but these constants; and the modulus it makes has all its bits.
        #[allow(clippy::expect_used)]
        RsaPrivateKey::new(rng, MODULUS_BITS as usize)
            .ok()
            .and_then(|private| Self::from_private(private).ok())
            .expect("2048 bits and 65537 are always possible")
    }

    /// Puts a pair together again from its primes, big-endian.
    ///
    /// # Errors
    /// [`Corrupt`] if these are not the primes of an RSA-2048 key with exponent 65537.
    pub fn from_primes(p: &[u8; PRIME_BYTES], q: &[u8; PRIME_BYTES]) -> Result<Self, Corrupt> {
        // Only such numbers have a product of 2048 bits that is odd; zero and even ones must not come to arithmetic
        // that takes them for impossible.
        let fits = |[first, .., last]: &[u8; PRIME_BYTES]| first & 0x80 != 0 && last & 1 != 0;
        if !(fits(p) && fits(q)) {
            return Err(Corrupt);
        }
        let prime = |bytes| BoxedUint::from_be_slice(bytes, MODULUS_BITS / 2).map_err(|_| Corrupt);
        let private = RsaPrivateKey::from_p_q(prime(p)?, prime(q)?, BoxedUint::from(EXPONENT));
        Self::from_private(private.map_err(|_| Corrupt)?)
    }

    /// The public key.
    #[must_use]
    pub fn modulus(&self) -> &Modulus {
        &self.modulus
    }

    fn from_private(private: RsaPrivateKey) -> Result<Self, Corrupt> {
        let modulus: Modulus = (*private.n().to_be_bytes()).try_into().map_err(|_| Corrupt)?;
        check(&modulus).map_err(|_| Corrupt)?;
        Ok(Self { modulus, private })
    }

    /// The form in which it is kept.
    pub(crate) fn to_stored(&self) -> StoredKey {
        let mut primes = Box::new([[0; PRIME_BYTES]; 2]);
        for (kept, prime) in primes.iter_mut().zip(self.private.primes()) {
            let mut bytes = prime.to_be_bytes();
            kept.iter_mut().zip(bytes.iter()).for_each(|(to, from)| *to = *from);
            bytes.zeroize();
        }
        StoredKey { modulus: self.modulus, primes }
    }
}

/// A key pair as it is kept: the modulus and the primes. [`StoredKey::load`] makes it usable, which
/// costs more than reading it, and most are read more often than used.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct StoredKey {
    #[zeroize(skip)]
    modulus: Modulus,
    primes: Box<[[u8; PRIME_BYTES]; 2]>,
}

impl StoredKey {
    pub(crate) fn modulus(&self) -> &Modulus {
        &self.modulus
    }

    /// Makes it usable.
    pub(crate) fn load(&self) -> Result<KeyPair, Corrupt> {
        let [p, q] = &*self.primes;
        let pair = KeyPair::from_primes(p, q)?;
        if pair.modulus == self.modulus { Ok(pair) } else { Err(Corrupt) }
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.array(&self.modulus);
        self.primes.iter().for_each(|prime| out.array(prime));
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let modulus = *input.array()?;
        let primes = Box::new([*input.array()?, *input.array()?]);
        Ok(Self { modulus, primes })
    }
}
