//! Identifiers of the protocol, each its own type, so that none can be taken for another.
//!
//! This file owns their shapes and text forms. It must not know frames, connections or keys'
//! insides. Frames that carry them: [`crate::wire`]. Source: spec/wire.md, "Identifiers".

use core::fmt;

/// Most bytes in a [`Name`].
pub const NAME_BYTES_MAX: usize = 32;

/// Bytes of an RSA-2048 modulus, which is how a public key travels (the exponent is always 65537).
pub const MODULUS_BYTES: usize = 256;

/// Bytes of an RSA-2048 signature.
pub const SIGNATURE_BYTES: usize = 256;

/// The modulus of an RSA-2048 public key, big-endian: 256 bytes, top bit set, odd.
pub type Modulus = [u8; MODULUS_BYTES];

/// An RSA-PSS signature: 256 bytes.
pub type Signature = [u8; SIGNATURE_BYTES];

/// Why some bytes are not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name is 1 to 32 of a-z 0-9 . _ - and starts with a letter or a digit")
    }
}

impl core::error::Error for BadName {}

/// A user's name: 1 to 32 bytes of `a-z 0-9 . _ -`, the first a letter or a digit. Never folded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    // Unused bytes are zero, so that derived comparison and order are those of the text.
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

impl Name {
    /// Checks `bytes` against the rule for names.
    ///
    /// # Errors
    /// [`BadName`] if the length or a byte breaks the rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadName> {
        let (Some(&first), Ok(len)) = (bytes.first(), u8::try_from(bytes.len())) else {
            return Err(BadName);
        };
        let allowed = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !first.is_ascii_alphanumeric() || !bytes.iter().all(allowed) {
            return Err(BadName);
        }
        let mut padded = [0; NAME_BYTES_MAX];
        padded.get_mut(..bytes.len()).ok_or(BadName)?.copy_from_slice(bytes);
        Ok(Self { bytes: padded, len })
    }

    /// The bytes that travel, 1 to 32 of them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The same as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl core::str::FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A registered name at this relay, resolved once: the table slot in the upper 32 bits, the
/// incarnation's generation (never 0) in the lower. Zero is nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uid(pub u64);

impl Uid {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Joins a slot and a generation.
    #[must_use]
    pub fn new(slot: u32, generation: u32) -> Self {
        Self((u64::from(slot) << 32) | u64::from(generation))
    }

    /// The slot in the relay's table of names.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the upper half, by construction
    pub fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The generation: which holder of that slot is meant.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the lower half, by construction
    pub fn generation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08x}", self.slot(), self.generation())
    }
}

/// One outbox writer's series of message numbers: opaque. (Lane, [`Number`]) names a
/// message for its sender and for the relay's memory of duplicates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Lane(pub u64);

/// A message's number in its [`Lane`], counting up from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Number(pub u64);

/// A message's place in its recipient's mailbox, given by the relay: it only grows, may skip, and
/// is never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Sequence(pub u64);

macro_rules! opaque_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Its length in bytes.
            pub const BYTES: usize = $len;
            /// All zero.
            pub const ZERO: Self = Self([0; $len]);
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

opaque_bytes! {
    /// The relay's identity: 32 random bytes made at its first start. Pinned by clients, not proven.
    RelayId, 32
}
opaque_bytes! {
    /// The challenge of one login: 32 fresh random bytes.
    Nonce, 32
}
opaque_bytes! {
    /// What an identity key is known by: `H("RLY1/id"; N(IK))`, 32 bytes.
    Fingerprint, 32
}
opaque_bytes! {
    /// The short name of a prekey: the first 8 bytes of SHA-256 of its modulus. Zero: none.
    KeyId, 8
}
opaque_bytes! {
    /// The recipient's end-to-end receipt for one message: 32 bytes, opaque to the relay.
    /// All zero: the recipient's client could not open the message.
    Receipt, 32
}
opaque_bytes! {
    /// An end-to-end session: the first 16 bytes of its transcript hash (spec/crypto.md).
    SessionId, 16
}
opaque_bytes! {
    /// A message's identity from end to end: 16 random bytes inside the envelope, the same in every
    /// attempt to deliver it, so that the recipient shows it once (spec/crypto.md).
    MessageId, 16
}
