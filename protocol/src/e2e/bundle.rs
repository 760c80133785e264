//! The bundle: a user's public keys as the relay's directory hands them out, and what is published.
//!
//! This file owns the signed bytes and the rules by which a bundle is refused. It must not know
//! frames (the wire module carries these fields) nor private keys (`prekeys`). Source:
//! spec/crypto.md, "Bundle".

use core::fmt;

use super::limits::{BATCH_PREKEYS_MAX, BUNDLE_AGE_MS_MAX};
use crate::ids::{Fingerprint, KeyId, Modulus, Name, Signature};
use crate::login::notation::{label_length, sha256, value_length};
use crate::login::{check_modulus, key_id, public_key};

const SPK_LABEL: &str = "RLY1/spk";
const OPK_LABEL: &str = "RLY1/opk";

/// How a recipient wants messages to be wrapped, as it says with its signed prekey or its INIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Profile {
    /// An RSA-wrapped key in every message.
    #[default]
    Strict = 0,
    /// RSA only when keys are renewed.
    Light = 1,
}

impl Profile {
    /// The profile that `value` stands for, if any.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Strict),
            1 => Some(Self::Light),
            _ => None,
        }
    }

    /// Whether every message carries an RSA-wrapped key.
    #[must_use]
    pub fn wraps(self) -> bool {
        self == Self::Strict
    }
}

/// A signed prekey to be published: everything but the name and identity, which the relay knows.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishedSpk {
    /// N(SPK), 256 bytes.
    pub modulus: Modulus,
    /// When it was made, Unix milliseconds; strictly growing.
    pub made_ms: u64,
    /// The wanted [`Profile`], as it travels.
    pub profile: u8,
    /// The identity key's signature of all this, 256 bytes.
    pub signature: Signature,
}

/// A batch of one-time prekeys to be published for one signed prekey.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishedBatch {
    /// The signed prekey that it belongs to.
    pub spk: KeyId,
    /// The identity key's signature of the batch, 256 bytes.
    pub signature: Signature,
    /// N(OPK) of each, 1 to 16 of them.
    pub moduli: Vec<Modulus>,
}

/// A user's bundle as it was received: nothing in it is verified yet.
#[derive(Clone, Copy)]
pub struct Bundle<'a> {
    /// N(IK), 256 bytes.
    pub identity: &'a Modulus,
    /// N(SPK), 256 bytes.
    pub spk: &'a Modulus,
    /// When the signed prekey was made, Unix milliseconds.
    pub made_ms: u64,
    /// The [`Profile`] as it travels.
    pub profile: u8,
    /// The identity key's signature of the signed prekey.
    pub signature: &'a Signature,
    /// A one-time prekey, if the relay had one left.
    pub one_time: Option<OneTime<'a>>,
}

/// A one-time prekey with the batch that proves it.
#[derive(Clone, Copy)]
pub struct OneTime<'a> {
    /// N(OPK), 256 bytes.
    pub modulus: &'a Modulus,
    /// SHA-256 of each N(OPK) of its batch, 1 to 16 of them.
    pub hashes: &'a [[u8; 32]],
    /// The identity key's signature of the batch.
    pub signature: &'a Signature,
}

/// Why a bundle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBundle {
    /// One of its keys is no RSA-2048 modulus.
    Modulus,
    /// The signed prekey's signature does not verify.
    SpkSignature,
    /// The batch of one-time prekeys is empty, too long, or its signature does not verify.
    BatchSignature,
    /// The one-time prekey is not in the batch.
    NotListed,
    /// The signed prekey is older than one seen before.
    Older,
    /// The signed prekey is over 60 days old.
    TooOld,
    /// The recipient wants a profile that this version does not know.
    Profile(u8),
}

impl fmt::Display for BadBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modulus => f.write_str("a key in it is no RSA-2048 key"),
            Self::SpkSignature => f.write_str("the signature of its prekey does not verify"),
            Self::BatchSignature => f.write_str("the signature of its one-time prekeys does not verify"),
            Self::NotListed => f.write_str("its one-time prekey is not among the signed ones"),
            Self::Older => f.write_str("its prekey is older than one seen before"),
            Self::TooOld => f.write_str("its prekey is over 60 days old"),
            Self::Profile(profile) => write!(f, "it asks for profile {profile}, which is not known"),
        }
    }
}

impl core::error::Error for BadBundle {}

/// The bytes that the identity key signs for a signed prekey.
pub(crate) fn spk_bytes(name: &Name, fp: &Fingerprint, spk: &Modulus, made_ms: u64, profile: u8) -> Vec<u8> {
    let name = name.as_bytes();
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&label_length(SPK_LABEL));
    out.extend_from_slice(SPK_LABEL.as_bytes());
    out.extend_from_slice(&value_length(name));
    out.extend_from_slice(name);
    out.extend_from_slice(&fp.0);
    out.extend_from_slice(spk);
    out.extend_from_slice(&made_ms.to_be_bytes());
    out.push(profile);
    out
}

/// The bytes that the identity key signs for a batch of at most [`BATCH_PREKEYS_MAX`].
pub(crate) fn batch_bytes(fp: &Fingerprint, spk: &KeyId, hashes: &[[u8; 32]]) -> Vec<u8> {
    debug_assert!(hashes.len() <= BATCH_PREKEYS_MAX);
    let mut out = Vec::with_capacity(1_024);
    out.extend_from_slice(&label_length(OPK_LABEL));
    out.extend_from_slice(OPK_LABEL.as_bytes());
    out.extend_from_slice(&fp.0);
    out.extend_from_slice(&spk.0);
    #[allow(clippy::cast_possible_truncation)] // the assertion above
    out.push(hashes.len() as u8);
    out.extend_from_slice(hashes.as_flattened());
    out
}

impl Bundle<'_> {
    /// Checks everything but the pin, and gives the profile: `owner` is the name that it was asked for, `fp` the
    /// fingerprint of the identity in it, `last_made_ms` the newest time seen of this owner.
    pub(crate) fn verify(
        &self,
        owner: &Name,
        fp: &Fingerprint,
        last_made_ms: u64,
        now_ms: u64,
    ) -> Result<Profile, BadBundle> {
        let one_time = self.one_time.map(|one_time| one_time.modulus);
        for modulus in [self.identity, self.spk].into_iter().chain(one_time) {
            check_modulus(modulus).map_err(|_| BadBundle::Modulus)?;
        }
        let signed = spk_bytes(owner, fp, self.spk, self.made_ms, self.profile);
        if !public_key::verifies(self.identity, &signed, self.signature) {
            return Err(BadBundle::SpkSignature);
        }
        if self.made_ms < last_made_ms {
            return Err(BadBundle::Older);
        }
        if now_ms.saturating_sub(self.made_ms) > BUNDLE_AGE_MS_MAX {
            return Err(BadBundle::TooOld);
        }
        let profile = Profile::from_u8(self.profile).ok_or(BadBundle::Profile(self.profile))?;
        if let Some(one_time) = &self.one_time {
            one_time.verify(self.identity, fp, &key_id(self.spk))?;
        }
        Ok(profile)
    }
}

impl OneTime<'_> {
    fn verify(&self, identity: &Modulus, fp: &Fingerprint, spk: &KeyId) -> Result<(), BadBundle> {
        if self.hashes.is_empty() || self.hashes.len() > BATCH_PREKEYS_MAX {
            return Err(BadBundle::BatchSignature);
        }
        if !self.hashes.contains(&sha256(self.modulus)) {
            return Err(BadBundle::NotListed);
        }
        if !public_key::verifies(identity, &batch_bytes(fp, spk, self.hashes), self.signature) {
            return Err(BadBundle::BatchSignature);
        }
        Ok(())
    }
}
