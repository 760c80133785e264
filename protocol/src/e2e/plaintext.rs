//! What an envelope carries: a message, padded so that its length says little.
//!
//! ```text
//!   message id 16 | kind 1 | time 8 | length 4 | body | zeros
//! ```
//!
//! This file owns that layout and the padded lengths. It must not know how it is encrypted. Source:
//! spec/crypto.md, "Plaintext".

use rsa::rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::limits::BODY_BYTES_MAX;
use crate::ids::MessageId;

/// Bytes before the body.
pub(crate) const FIXED_BYTES: usize = MessageId::BYTES + 1 + 8 + 4;

/// Data lengths double from here ...
const PADDED_BYTES_MIN: usize = 128;

/// ... to here, and are multiples of this above.
const PADDED_BYTES_STEP: usize = 4_096;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0: nothing to show; the message only moves a session on.
    Nothing,
    /// 1: UTF-8 text.
    Text,
    /// 2: bytes.
    Bytes,
    /// Anything else: receipted, and reported instead of shown.
    Unknown(u8),
}

impl From<u8> for Kind {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::Nothing,
            1 => Self::Text,
            2 => Self::Bytes,
            other => Self::Unknown(other),
        }
    }
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Nothing => 0,
            Kind::Text => 1,
            Kind::Bytes => 2,
            Kind::Unknown(other) => other,
        }
    }
}

/// A message as its sender wrote it. Its body is erased when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Plaintext {
    /// The same in every attempt to deliver this message.
    pub id: MessageId,
    /// What the body is.
    pub kind: Kind,
    /// When it was written, by its sender's clock, Unix milliseconds.
    pub time_ms: u64,
    /// Up to [`BODY_BYTES_MAX`] bytes.
    pub body: Zeroizing<Vec<u8>>,
}

impl Plaintext {
    /// A new message, with a random id.
    #[must_use]
    pub fn new(kind: Kind, body: Vec<u8>, now_ms: u64, rng: &mut impl CryptoRng) -> Self {
        let mut id = MessageId::ZERO;
        rng.fill_bytes(&mut id.0);
        Self { id, kind, time_ms: now_ms, body: Zeroizing::new(body) }
    }

    /// The bytes to encrypt: zeros fill them up so that PKCS #7 adds one byte to a padded length.
    pub(crate) fn emit(&self) -> Option<Zeroizing<Vec<u8>>> {
        if self.body.len() > BODY_BYTES_MAX {
            return None;
        }
        let length = u32::try_from(self.body.len()).ok()?;
        let padded = padded_length(FIXED_BYTES + self.body.len() + 1);
        let mut out = Zeroizing::new(Vec::with_capacity(padded));
        out.extend_from_slice(&self.id.0);
        out.push(self.kind.into());
        out.extend_from_slice(&self.time_ms.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.body);
        out.resize(padded - 1, 0);
        Some(out)
    }

    /// Reads what was decrypted; whatever follows the body is ignored. The body stays where it lies.
    pub(crate) fn parse(mut bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first()?;
        let (time_ms, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if length > rest.len() {
            return None;
        }
        let (id, kind, time_ms) = (MessageId(*id), (*kind).into(), u64::from_be_bytes(*time_ms));
        bytes.truncate(FIXED_BYTES + length);
        bytes.drain(..FIXED_BYTES);
        Some(Self { id, kind, time_ms, body: bytes })
    }
}

/// The smallest padded length that holds `bytes`: 128, doubling to 4096, then multiples of 4096.
fn padded_length(bytes: usize) -> usize {
    if bytes <= PADDED_BYTES_STEP {
        bytes.next_power_of_two().max(PADDED_BYTES_MIN)
    } else {
        bytes.next_multiple_of(PADDED_BYTES_STEP)
    }
}

/// Whether `bytes` is a length that padding gives.
pub(crate) fn is_padded_length(bytes: usize) -> bool {
    bytes > 0 && padded_length(bytes) == bytes
}
