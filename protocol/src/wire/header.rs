//! Framing: the 20-byte header, its two CRCs, and the order in which a frame is looked at
//! (spec/wire.md, section 3).
//!
//! Owns: everything that can be said of a frame without knowing its body's fields. The fields are
//! the business of the modules beside this one; [`Frame::parse`](super::Frame::parse) puts both together.

use byteorder::{BigEndian, ByteOrder};

use super::{ErrorCode, FrameType, MAGIC, NoRoom, VERSION};
use crate::limits::{BODY_BYTES_MAX, HEADER_BYTES, ROUTING_BYTES};

/// Flag: a receiver that doesn't know the type skips the frame.
pub const SKIPPABLE: u16 = 0x0001;
/// Flag: the body starts with the routing fields, which the header CRC covers.
pub const ROUTED: u16 = 0x0002;
/// Flag of DELIVER and NOTICE: it was sent on an earlier connection already.
pub const REDELIVERED: u16 = 0x0100;

/// Offsets of the header's fields behind the magic's four bytes.
pub(super) mod field {
    use core::ops::Range;
    pub(crate) const VERSION: usize = 4;
    pub(crate) const TYPE: usize = 5;
    pub(crate) const FLAGS: Range<usize> = 6..8;
    pub(crate) const LENGTH: Range<usize> = 8..12;
    pub(crate) const BODY_CRC: Range<usize> = 12..16;
    pub(crate) const HEADER_CRC: Range<usize> = 16..20;
}

/// Why bytes are not a frame. Each ends the connection, with [`FrameError::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The first bytes are not [`MAGIC`].
    BadMagic,
    /// The header's version is not [`VERSION`].
    UnsupportedVersion,
    /// The body is longer than the receiver's limit.
    TooLong,
    /// The header's or the body's CRC doesn't fit.
    BadCrc,
    /// A type that this version doesn't have, and not skippable.
    UnknownType,
    /// Flags, length or a field break the specification.
    Malformed,
}

impl FrameError {
    /// The code that the peer is told.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::BadMagic => ErrorCode::BadMagic,
            Self::UnsupportedVersion => ErrorCode::UnsupportedVersion,
            Self::TooLong => ErrorCode::TooLong,
            Self::BadCrc => ErrorCode::BadCrc,
            Self::UnknownType => ErrorCode::UnknownType,
            Self::Malformed => ErrorCode::Malformed,
        }
    }
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.code().fmt(f)
    }
}

impl core::error::Error for FrameError {}

/// A header that passed steps 1 to 6 of "Reading a frame".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type; `None` for an unknown one that is to be skipped.
    pub frame_type: Option<FrameType>,
    /// The flags as they came.
    pub flags: u16,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// CRC-32 of the body, without the routing fields in a routed frame.
    pub body_crc: u32,
}

impl Header {
    /// Looks at the start of `bytes`. `Ok(None)`: more bytes are needed to say anything.
    ///
    /// # Errors
    /// The first [`FrameError`] in the order of spec/wire.md, as soon as it can be known.
    pub fn parse(bytes: &[u8], body_bytes_max: usize) -> Result<Option<Self>, FrameError> {
        if bytes.iter().zip(MAGIC).any(|(byte, expected)| *byte != expected) {
            return Err(FrameError::BadMagic);
        }
        if bytes.get(field::VERSION).is_some_and(|version| *version != VERSION) {
            return Err(FrameError::UnsupportedVersion);
        }
        let (Some(&type_number), Some(flags), Some(length)) =
            (bytes.get(field::TYPE), bytes.get(field::FLAGS), bytes.get(field::LENGTH))
        else {
            return Ok(None);
        };
        let flags = BigEndian::read_u16(flags);
        let body_bytes = match usize::try_from(BigEndian::read_u32(length)) {
            Ok(count) if count <= body_bytes_max => count,
            _ => return Err(FrameError::TooLong),
        };
        let routing_bytes = if flags & ROUTED == 0 { 0 } else { ROUTING_BYTES };
        if body_bytes < routing_bytes {
            return Err(FrameError::Malformed);
        }
        let (Some(covered), Some(header_crc), Some(routing)) = (
            bytes.get(..field::HEADER_CRC.start),
            bytes.get(field::HEADER_CRC),
            bytes.get(HEADER_BYTES..HEADER_BYTES + routing_bytes),
        ) else {
            return Ok(None);
        };
        if header_crc_of(covered, routing) != BigEndian::read_u32(header_crc) {
            return Err(FrameError::BadCrc);
        }
        let frame_type = match FrameType::from_number(type_number) {
            None if flags & SKIPPABLE != 0 => None,
            None => return Err(FrameError::UnknownType),
            Some(known) if flags_fit(known, flags) && length_fits(known, body_bytes) => Some(known),
            Some(_) => return Err(FrameError::Malformed),
        };
        let body_crc = bytes.get(field::BODY_CRC).map_or(0, BigEndian::read_u32);
        Ok(Some(Self { frame_type, flags, body_bytes, body_crc }))
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes
    }

    /// Whether the body starts with the routing fields.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.flags & ROUTED != 0
    }

    /// Step 7: whether `body`, all of it, is what the body CRC says.
    #[must_use]
    pub fn body_fits(&self, body: &[u8]) -> bool {
        let start = if self.is_routed() { ROUTING_BYTES } else { 0 };
        body.get(start..).is_some_and(|covered| crc32fast::hash(covered) == self.body_crc)
    }
}

fn flags_fit(frame_type: FrameType, flags: u16) -> bool {
    match frame_type {
        FrameType::Send => flags == ROUTED,
        FrameType::Deliver | FrameType::Notice => flags & !REDELIVERED == ROUTED,
        _ => flags == 0,
    }
}

/// Step 6: whether a body of this type can have this length, for some name, text and counts. That
/// it is the length for these is looked at with the fields, in step 8.
fn length_fits(frame_type: FrameType, bytes: usize) -> bool {
    match frame_type {
        FrameType::Hello | FrameType::Ping | FrameType::Pong => bytes == 8,
        FrameType::Challenge => bytes == 68,
        FrameType::Proof => (555..=586).contains(&bytes),
        FrameType::Welcome => bytes == 48,
        FrameType::Error => (13..=133).contains(&bytes),
        FrameType::Send | FrameType::Deliver => bytes > ROUTING_BYTES && bytes <= BODY_BYTES_MAX,
        FrameType::Notice => bytes == ROUTING_BYTES + 36,
        FrameType::Ack => (44..=16_396).contains(&bytes) && (bytes - 12).is_multiple_of(32),
        FrameType::Result => (28..=16_412).contains(&bytes) && (bytes - 28).is_multiple_of(32),
        FrameType::Lookup => (17..=49).contains(&bytes),
        // The address; with the bundle; with a one-time prekey, where name and count fill every gap.
        FrameType::Entry => matches!(bytes, 50..=81 | 827..=858 | 1_372..=1_883),
        // A signed prekey (529 too); a batch of 1 to 16; both.
        FrameType::Publish => {
            let batch = (529..=4_369).contains(&bytes) && (bytes - 273).is_multiple_of(256);
            let both = (1_050..=4_890).contains(&bytes) && (bytes - 794).is_multiple_of(256);
            batch || both
        }
        FrameType::Published => bytes == 16,
        FrameType::Roll => bytes == 780,
        FrameType::Rolled => bytes == 12,
        FrameType::Query => bytes == 24,
        FrameType::States => (25..=88).contains(&bytes),
        // Names of any length fill every gap from the shortest one on.
        FrameType::Who => bytes == 12 || (14..=2_124).contains(&bytes),
        FrameType::Presence => bytes == 12 || (15..=8_682).contains(&bytes),
        FrameType::Block => (10..=41).contains(&bytes),
        FrameType::Blocked => bytes == 8,
        FrameType::Remove => bytes == 260,
        FrameType::Removed => bytes == 4,
        FrameType::Rolls => (264..=6_472).contains(&bytes) && (bytes - 264).is_multiple_of(776),
    }
}

/// CRC-32 (ISO-HDLC) of a header up to its own CRC, and of the routing fields, if the frame has them.
pub(super) fn header_crc_of(covered: &[u8], routing: &[u8]) -> u32 {
    let Some(routing) = routing.first_chunk::<ROUTING_BYTES>() else { return crc32fast::hash(covered) };
    // One piece costs little more than each of two.
    let mut piece = [0; field::HEADER_CRC.start + ROUTING_BYTES];
    if let Some((head, tail)) = piece.split_first_chunk_mut::<{ field::HEADER_CRC.start }>()
        && let Some(covered) = covered.first_chunk()
    {
        *head = *covered;
        tail.copy_from_slice(routing);
    }
    crc32fast::hash(&piece)
}

/// Writes the header of a frame whose body already stands behind it, and returns the frame's length.
///
/// `frame` starts with room for the header; `body_bytes` bytes of body follow it.
///
/// # Errors
/// [`NoRoom`] if `frame` is shorter than that.
pub(super) fn seal(
    frame: &mut [u8],
    frame_type: FrameType,
    flags: u16,
    body_bytes: usize,
) -> Result<usize, NoRoom> {
    let length = u32::try_from(body_bytes).map_err(|_| NoRoom)?;
    let frame = frame.get_mut(..HEADER_BYTES + body_bytes).ok_or(NoRoom)?;
    let (header, body) = frame.split_at_mut_checked(HEADER_BYTES).ok_or(NoRoom)?;
    let routing_bytes = if flags & ROUTED == 0 { 0 } else { ROUTING_BYTES };
    let (routing, rest) = body.split_at_checked(routing_bytes).ok_or(NoRoom)?;
    let (covered, header_crc) =
        header.split_first_chunk_mut::<{ field::HEADER_CRC.start }>().ok_or(NoRoom)?;
    let [m0, m1, m2, m3] = MAGIC;
    let [f0, f1] = flags.to_be_bytes();
    let [l0, l1, l2, l3] = length.to_be_bytes();
    let [b0, b1, b2, b3] = crc32fast::hash(rest).to_be_bytes();
    let type_number = frame_type as u8;
    *covered = [m0, m1, m2, m3, VERSION, type_number, f0, f1, l0, l1, l2, l3, b0, b1, b2, b3];
    header_crc.copy_from_slice(&header_crc_of(covered, routing).to_be_bytes());
    Ok(HEADER_BYTES + body_bytes)
}
