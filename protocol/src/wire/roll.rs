//! ROLL, ROLLED and ROLLS: a name changes to a new identity key (spec/wire.md, section 6).
//!
//! Owns: these bodies. Must not know what the signatures are over: that is `crate::login`.

use super::cursor::{Reader, Writer};
use super::session::emit;
use super::{FrameType, NoRoom};
use crate::ids::{MODULUS_BYTES, Modulus, SIGNATURE_BYTES, Signature, Uid};
use crate::limits::ROLL_OVERS_MAX;

/// Bytes of one roll-over in ROLLS: time 8, N(IK) 256, signature by the former key 256, by this key 256.
pub const ROLL_OVER_BYTES: usize = 8 + MODULUS_BYTES + 2 * SIGNATURE_BYTES;

/// One roll-over as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollOver<'a> {
    /// When, by its owner: milliseconds. It grows from one roll-over of a name to the next.
    pub time_ms: u64,
    /// N(IK) that came into force, 256 bytes. That it is a modulus has not been looked at.
    pub identity_key: &'a Modulus,
    /// By the key that was in force before.
    pub former_signature: &'a Signature,
    /// By the key that came into force.
    pub signature: &'a Signature,
}

impl<'a> RollOver<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self {
            time_ms: reader.u64()?,
            identity_key: reader.array()?,
            former_signature: reader.array()?,
            signature: reader.array()?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.u64(self.time_ms);
        writer.bytes(self.identity_key);
        writer.bytes(self.former_signature);
        writer.bytes(self.signature);
    }

    /// As it lies in ROLLS, for [`Rolls::roll_overs`].
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ROLL_OVER_BYTES] {
        let mut bytes = [0; ROLL_OVER_BYTES];
        let mut writer = Writer::new(&mut bytes);
        self.write(&mut writer);
        debug_assert!(writer.finish() == Ok(ROLL_OVER_BYTES), "its fields are as long as it is");
        bytes
    }
}

/// ROLL: the name is to belong to another identity key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roll<'a> {
    /// Echoed in the answer; not zero.
    pub request: u32,
    /// The new key, and both signatures.
    pub roll_over: RollOver<'a>,
}

impl<'a> Roll<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let roll_over = RollOver::read(&mut reader)?;
        reader.end(Self { request, roll_over })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Roll, |writer| {
            writer.u32(self.request);
            self.roll_over.write(writer);
        })
    }
}

/// ROLLED: the roll-over is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// The request's; not zero.
    pub request: u32,
    /// The name's new uid.
    pub uid: Uid,
}

impl Rolled {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let uid = Uid(reader.u64()?);
        reader.end(Self { request, uid })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Rolled, |writer| {
            writer.u32(self.request);
            writer.u64(self.uid.0);
        })
    }
}

/// ROLLS: the roll-overs of a name, as far back as the relay knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolls<'a> {
    /// The request's; not zero.
    pub request: u32,
    /// N(IK) of the oldest key that is known: the one before the first of `roll_overs`, or the present one.
    pub oldest: &'a Modulus,
    /// Each as [`RollOver::to_bytes`] makes it, oldest first, 0 to 8. To be read with [`Rolls::iter`].
    pub roll_overs: &'a [[u8; ROLL_OVER_BYTES]],
}

impl<'a> Rolls<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let count = usize::from(reader.u8()?);
        reader.zero(3)?;
        let oldest = reader.array()?;
        let counts = count <= ROLL_OVERS_MAX;
        let roll_overs = reader.take(counts.then_some(count * ROLL_OVER_BYTES)?)?.as_chunks().0;
        reader.end(Self { request, oldest, roll_overs })
    }

    /// The roll-overs, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = RollOver<'a>> + use<'a> {
        // Each is as long as a roll-over: none is left out.
        self.roll_overs.iter().filter_map(|bytes| RollOver::read(&mut Reader(bytes)))
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Rolls, |writer| {
            writer.u32(self.request);
            writer.u8(u8::try_from(self.roll_overs.len()).unwrap_or(u8::MAX));
            writer.zero(3);
            writer.bytes(self.oldest);
            writer.bytes(self.roll_overs.as_flattened());
        })
    }
}
