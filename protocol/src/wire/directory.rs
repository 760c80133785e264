//! LOOKUP, ENTRY, PUBLISH and PUBLISHED: names, keys and prekeys (spec/wire.md, section 6).
//!
//! Owns: these bodies. The relay passes keys and signatures on; it doesn't check what they sign, and
//! neither does this module: that is the end-to-end layer's (spec/crypto.md, "Bundle").

use super::cursor::{Reader, Writer};
use super::session::emit;
use super::{FrameType, NoRoom};
use crate::ids::{Fingerprint, KeyId, MODULUS_BYTES, Modulus, Name, Signature, Uid};
use crate::limits::BATCH_PREKEYS_MAX;

/// How much of an entry is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Want {
    /// Uid, name and fingerprint.
    Address = 1,
    /// And the bundle, without a one-time prekey.
    Bundle = 2,
    /// And the bundle, with a one-time prekey if one is left.
    OneTime = 3,
    /// The roll-overs of the name, answered with ROLLS.
    RollOvers = 4,
}

/// Who is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user with this uid.
    Uid(Uid),
    /// The user with this name.
    Name(Name),
}

/// LOOKUP: asks the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Echoed in the answer; not zero.
    pub request: u32,
    /// How much.
    pub want: Want,
    /// Of whom.
    pub whose: Whose,
}

impl Lookup {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let want = match reader.u8()? {
            1 => Want::Address,
            2 => Want::Bundle,
            3 => Want::OneTime,
            4 => Want::RollOvers,
            _ => return None,
        };
        reader.zero(3)?;
        let (uid, name) = (Uid(reader.u64()?), reader.counted()?);
        let whose = match (uid, name) {
            (Uid::NONE, name) => Whose::Name(Name::parse(name).ok()?),
            (uid, []) => Whose::Uid(uid),
            _ => return None,
        };
        reader.end(Self { request, want, whose })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Lookup, |writer| {
            writer.u32(self.request);
            writer.u8(self.want as u8);
            writer.zero(3);
            match &self.whose {
                Whose::Uid(uid) => {
                    writer.u64(uid.0);
                    writer.counted(&[]);
                }
                Whose::Name(name) => {
                    writer.u64(0);
                    writer.counted(name.as_bytes());
                }
            }
        })
    }
}

/// A signed prekey as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedPrekey<'a> {
    /// N(SPK), 256 bytes.
    pub modulus: &'a Modulus,
    /// When it was made, by its owner: milliseconds.
    pub made_ms: u64,
    /// The owner's profile.
    pub profile: u8,
    /// By the identity key.
    pub signature: &'a Signature,
}

impl<'a> SignedPrekey<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let (modulus, made_ms) = (reader.array()?, reader.u64()?);
        Some(Self { modulus, made_ms, profile: reader.u8()?, signature: reader.array()? })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.modulus);
        writer.u64(self.made_ms);
        writer.u8(self.profile);
        writer.bytes(self.signature);
    }
}

/// One one-time prekey and what proves that it is of a signed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneTimePrekey<'a> {
    /// The batch's signature, by the identity key.
    pub signature: &'a Signature,
    /// N(OPK), 256 bytes.
    pub modulus: &'a Modulus,
    /// SHA-256 of each modulus of the batch, 1 to 16.
    pub hashes: &'a [[u8; 32]],
}

/// What a sender needs to start a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleParts<'a> {
    /// N(IK), 256 bytes.
    pub identity_key: &'a Modulus,
    /// The signed prekey.
    pub signed_prekey: SignedPrekey<'a>,
    /// A one-time prekey, if one was wanted and left.
    pub one_time: Option<OneTimePrekey<'a>>,
}

impl<'a> BundleParts<'a> {
    fn read(reader: &mut Reader<'a>, one_time: bool) -> Option<Self> {
        let (identity_key, signed_prekey) = (reader.array()?, SignedPrekey::read(reader)?);
        let one_time = if one_time {
            let (signature, modulus) = (reader.array()?, reader.array()?);
            let count = usize::from(reader.u8()?);
            let counts = (1..=BATCH_PREKEYS_MAX).contains(&count);
            let hashes = reader.take(counts.then_some(count * 32)?)?.as_chunks().0;
            Some(OneTimePrekey { signature, modulus, hashes })
        } else {
            None
        };
        Some(Self { identity_key, signed_prekey, one_time })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.identity_key);
        self.signed_prekey.write(writer);
        if let Some(one_time) = &self.one_time {
            writer.bytes(one_time.signature);
            writer.bytes(one_time.modulus);
            writer.u8(u8::try_from(one_time.hashes.len()).unwrap_or(u8::MAX));
            writer.bytes(one_time.hashes.as_flattened());
        }
    }
}

/// ENTRY: the directory's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The request's; not zero.
    pub request: u32,
    /// Resolved once, used in SEND.
    pub uid: Uid,
    /// Of the identity key, as the relay says.
    pub fingerprint: Fingerprint,
    /// One-time prekeys left after this answer; zero without a bundle.
    pub prekeys_left: u16,
    /// Whose entry it is.
    pub name: Name,
    /// The bundle, if it was wanted.
    pub bundle: Option<BundleParts<'a>>,
}

impl<'a> Entry<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let (uid, fingerprint) = (Uid(reader.u64()?), Fingerprint(*reader.array()?));
        let parts = reader.u8()?;
        reader.zero(1)?;
        let (prekeys_left, name) = (reader.u16()?, Name::parse(reader.counted()?).ok()?);
        let bundle = match parts {
            0 => None,
            1 => Some(BundleParts::read(&mut reader, false)?),
            2 => Some(BundleParts::read(&mut reader, true)?),
            _ => return None,
        };
        let fits = bundle.is_some() || prekeys_left == 0;
        reader.end(fits.then_some(Self { request, uid, fingerprint, prekeys_left, name, bundle })?)
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let parts = match &self.bundle {
            None => 0,
            Some(BundleParts { one_time: None, .. }) => 1,
            Some(BundleParts { one_time: Some(_), .. }) => 2,
        };
        emit(out, FrameType::Entry, |writer| {
            writer.u32(self.request);
            writer.u64(self.uid.0);
            writer.bytes(&self.fingerprint.0);
            writer.u8(parts);
            writer.zero(1);
            writer.u16(self.prekeys_left);
            writer.counted(self.name.as_bytes());
            if let Some(bundle) = &self.bundle {
                bundle.write(writer);
            }
        })
    }
}

/// A batch of one-time prekeys as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Of the signed prekey that it belongs to.
    pub signed_prekey: KeyId,
    /// By the identity key.
    pub signature: &'a Signature,
    /// N(OPK) of each, 1 to 16.
    pub moduli: &'a [Modulus],
}

/// PUBLISH: new prekeys for the directory; at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Echoed in the answer; not zero.
    pub request: u32,
    /// Replaces the former, whose one-time prekeys are dropped.
    pub signed_prekey: Option<SignedPrekey<'a>>,
    /// Added to those of the signed prekey in force.
    pub batch: Option<Batch<'a>>,
}

impl<'a> Publish<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let parts = reader.u8().filter(|parts| (1..=3).contains(parts))?;
        reader.zero(3)?;
        let signed_prekey = if parts & 1 == 0 { None } else { Some(SignedPrekey::read(&mut reader)?) };
        let batch = if parts & 2 == 0 {
            None
        } else {
            let (signed_prekey, signature) = (KeyId(*reader.array()?), reader.array()?);
            let count = usize::from(reader.u8()?);
            let counts = (1..=BATCH_PREKEYS_MAX).contains(&count);
            let moduli = reader.take(counts.then_some(count * MODULUS_BYTES)?)?.as_chunks().0;
            Some(Batch { signed_prekey, signature, moduli })
        };
        reader.end(Self { request, signed_prekey, batch })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Publish, |writer| {
            writer.u32(self.request);
            writer.u8(u8::from(self.signed_prekey.is_some()) | u8::from(self.batch.is_some()) << 1);
            writer.zero(3);
            if let Some(signed_prekey) = &self.signed_prekey {
                signed_prekey.write(writer);
            }
            if let Some(batch) = &self.batch {
                writer.bytes(&batch.signed_prekey.0);
                writer.bytes(batch.signature);
                writer.u8(u8::try_from(batch.moduli.len()).unwrap_or(u8::MAX));
                writer.bytes(batch.moduli.as_flattened());
            }
        })
    }
}

/// PUBLISHED: what was published is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The request's; not zero.
    pub request: u32,
    /// The signed prekey in force.
    pub signed_prekey: KeyId,
    /// Its one-time prekeys not yet handed out.
    pub prekeys_left: u16,
}

impl Published {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let (signed_prekey, prekeys_left) = (KeyId(*reader.array()?), reader.u16()?);
        reader.zero(2)?;
        reader.end(Self { request, signed_prekey, prekeys_left })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Published, |writer| {
            writer.u32(self.request);
            writer.bytes(&self.signed_prekey.0);
            writer.u16(self.prekeys_left);
            writer.zero(2);
        })
    }
}
