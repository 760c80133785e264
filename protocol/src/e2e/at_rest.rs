//! State files protected with a passphrase.
//!
//! This file owns the bytes of a protected file and how its keys come from a passphrase. It must not
//! know what is in the files, where they lie, or where the passphrase comes from. Source:
//! spec/crypto.md, "At rest"; scrypt is RFC 7914.

use core::fmt;

use rsa::rand_core::CryptoRng;
use scrypt::{Params, scrypt};
use zeroize::{Zeroize, Zeroizing};

use super::cbc::{self, BLOCK_BYTES};
use super::secret::Secret;
use crate::login::notation::{HASH_BYTES, equal, label_length, mac};

/// Bytes of the salt that all files of a home share.
pub const SALT_BYTES: usize = 16;

/// What is written: N = 2^15, some 0.1 s and 32 MiB for whoever tries one passphrase.
pub const LOG2_N: u8 = 15;

/// The most that is read, 3 s and 1 GiB: a file that asks for more is refused before any work.
pub const LOG2_N_MAX: u8 = 20;

/// The least that is read: RFC 7914 wants N above 1.
pub const LOG2_N_MIN: u8 = 1;

/// The longest passphrase, bytes; what is longer is a wrong file rather than a passphrase.
pub const PASSPHRASE_BYTES_MAX: usize = 1_024;

const LABEL: &str = "RLY1/state";
const BLOCK_SIZE: u32 = 8;
const PARALLELISM: u32 = 1;

/// T(label), log2N, salt, iv.
const HEADER_BYTES: usize = 1 + LABEL.len() + 1 + SALT_BYTES + BLOCK_BYTES;

/// Why a protected file, or keys for it, can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtRestError {
    /// It is not laid out as a protected file.
    Malformed,
    /// It asks for more work than [`LOG2_N_MAX`], or for less than there is: its log2N.
    Cost(u8),
    /// It was made with another salt or cost than these keys.
    OtherKeys,
    /// The tag does not verify: other keys, another path, or changed bytes.
    BadTag,
}

impl fmt::Display for AtRestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("this is not a protected file"),
            Self::Cost(log2_n) => write!(
                f,
                "the key derivation is said to take 2^{log2_n} steps, not 2^{LOG2_N_MIN} to 2^{LOG2_N_MAX}"
            ),
            Self::OtherKeys => f.write_str("it was protected with another passphrase"),
            Self::BadTag => f.write_str("it does not verify"),
        }
    }
}

impl core::error::Error for AtRestError {}

/// What turns a passphrase into keys. Not secret: it stands in every protected file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParameters {
    /// The cost: N = 2^`log2_n`.
    pub log2_n: u8,
    /// Random, 16 bytes.
    pub salt: [u8; SALT_BYTES],
}

impl KeyParameters {
    /// A new salt, and the cost [`LOG2_N`].
    #[must_use]
    pub fn fresh(rng: &mut impl CryptoRng) -> Self {
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        Self { log2_n: LOG2_N, salt }
    }

    /// Those of a protected file.
    ///
    /// # Errors
    /// [`AtRestError::Malformed`], [`AtRestError::Cost`].
    pub fn of(file: &[u8]) -> Result<Self, AtRestError> {
        parse(file).map(|parts| parts.parameters)
    }

    fn check(&self) -> Result<(), AtRestError> {
        let possible = (LOG2_N_MIN..=LOG2_N_MAX).contains(&self.log2_n);
        if possible { Ok(()) } else { Err(AtRestError::Cost(self.log2_n)) }
    }
}

/// The keys of one home's protected files. Erased when dropped.
pub struct StateKeys {
    parameters: KeyParameters,
    encryption: Secret,
    authentication: Secret,
}

impl StateKeys {
    /// `K_enc || K_mac = scrypt(passphrase, salt, 2^log2N, 8, 1)`, 64 bytes. With [`LOG2_N`] it takes
    /// some 0.1 s and 32 MiB, which are given back as they are: keys stay in memory anyway.
    ///
    /// # Errors
    /// [`AtRestError::Cost`], before any work.
    pub fn derive(passphrase: &[u8], parameters: KeyParameters) -> Result<Self, AtRestError> {
        parameters.check()?;
        let log2_n = parameters.log2_n;
        let costs = Params::new(log2_n, BLOCK_SIZE, PARALLELISM).map_err(|_| AtRestError::Cost(log2_n))?;
        let mut okm = [[0; HASH_BYTES]; 2];
        // 64 bytes are always possible; were they not, no key of zeros may come of it.
        scrypt(passphrase, &parameters.salt, &costs, okm.as_flattened_mut())
            .map_err(|_| AtRestError::Cost(log2_n))?;
        let [first, second] = &mut okm;
        let keys = Self { parameters, encryption: Secret::take(first), authentication: Secret::take(second) };
        okm.zeroize();
        Ok(keys)
    }

    /// What they were derived with.
    #[must_use]
    pub fn parameters(&self) -> &KeyParameters {
        &self.parameters
    }

    /// A protected file for `path`, with a random IV: 77 to 92 bytes longer than `content`.
    #[must_use]
    pub fn seal(&self, path: &str, content: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
        let mut iv = [0; BLOCK_BYTES];
        rng.fill_bytes(&mut iv);
        self.seal_with(path, content, &iv)
    }

    pub(crate) fn seal_with(&self, path: &str, content: &[u8], iv: &[u8; BLOCK_BYTES]) -> Vec<u8> {
        let data_bytes = cbc::encrypted_bytes(content.len());
        let mut file = Vec::with_capacity(HEADER_BYTES + data_bytes + HASH_BYTES);
        file.extend_from_slice(&label_length(LABEL));
        file.extend_from_slice(LABEL.as_bytes());
        file.push(self.parameters.log2_n);
        file.extend_from_slice(&self.parameters.salt);
        file.extend_from_slice(iv);
        cbc::encrypt(self.encryption.as_bytes(), iv, content, &mut file);
        let tag = self.tag(path, &file);
        file.extend_from_slice(&tag);
        file
    }

    /// The content of a protected file that lies at `path`. Nothing is decrypted before its tag verified.
    ///
    /// # Errors
    /// [`AtRestError`].
    pub fn open(&self, path: &str, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, AtRestError> {
        let parts = parse(file)?;
        if parts.parameters != self.parameters {
            return Err(AtRestError::OtherKeys);
        }
        if !equal(&self.tag(path, parts.authenticated), parts.tag) {
            return Err(AtRestError::BadTag);
        }
        cbc::decrypt(self.encryption.as_bytes(), parts.iv, parts.data).map_err(|_| AtRestError::Malformed)
    }

    fn tag(&self, path: &str, before: &[u8]) -> [u8; HASH_BYTES] {
        mac(self.authentication.as_bytes(), LABEL, &[path.as_bytes(), before])
    }

    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> (&[u8; HASH_BYTES], &[u8; HASH_BYTES]) {
        (self.encryption.as_bytes(), self.authentication.as_bytes())
    }
}

/// A protected file, taken apart.
struct Parts<'a> {
    parameters: KeyParameters,
    iv: &'a [u8; BLOCK_BYTES],
    data: &'a [u8],
    /// All before the tag.
    authenticated: &'a [u8],
    tag: &'a [u8; HASH_BYTES],
}

fn parse(file: &[u8]) -> Result<Parts<'_>, AtRestError> {
    split(file).ok_or(AtRestError::Malformed).and_then(|parts| {
        parts.parameters.check()?;
        Ok(parts)
    })
}

fn split(file: &[u8]) -> Option<Parts<'_>> {
    let (authenticated, tag) = file.split_last_chunk()?;
    let rest = authenticated.strip_prefix(&label_length(LABEL))?.strip_prefix(LABEL.as_bytes())?;
    let (log2_n, rest) = rest.split_first()?;
    let (salt, rest) = rest.split_first_chunk()?;
    let (iv, data) = rest.split_first_chunk()?;
    let whole = !data.is_empty() && data.len().is_multiple_of(BLOCK_BYTES);
    let parameters = KeyParameters { log2_n: *log2_n, salt: *salt };
    whole.then_some(Parts { parameters, iv, data, authenticated, tag })
}
