//! SEND, DELIVER and NOTICE: frames that start with the routing fields, which the relay overwrites
//! in place (spec/wire.md, section 3).
//!
//! Owns: the offsets of those fields, the view over a received frame ([`Routed`]), and changing a
//! frame where it lies ([`RoutedMut`]). Must not know mailboxes or what an envelope contains.

use byteorder::{BigEndian, ByteOrder};

use super::cursor::Reader;
use super::header::{REDELIVERED, ROUTED, field as header_field, header_crc_of, seal};
use super::transfer::ResultCode;
use super::{FrameType, NoRoom};
use crate::ids::{Lane, Number, Receipt, Sequence, Uid};
use crate::limits::{ENVELOPE_OFFSET, HEADER_BYTES, ROUTING_BYTES, TTL_SECONDS_MAX};

/// Offsets of the routing fields, from the start of the frame.
mod field {
    use core::ops::Range;
    pub(super) const PEER: Range<usize> = 20..28;
    pub(super) const LANE: Range<usize> = 28..36;
    pub(super) const NUMBER: Range<usize> = 36..44;
    pub(super) const SEQUENCE: Range<usize> = 44..52;
    pub(super) const TIME: Range<usize> = 52..60;
    pub(super) const TTL: Range<usize> = 60..64;
}

/// The routing fields as values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// SEND: the recipient. DELIVER: the sender. NOTICE: the recipient of the message it is about.
    pub peer: Uid,
    /// The sender's lane.
    pub lane: Lane,
    /// The number in that lane, at least 1.
    pub number: Number,
    /// The place in the mailbox; zero in SEND.
    pub sequence: Sequence,
    /// Milliseconds, the relay's clock, at acceptance; zero in SEND.
    pub time_ms: u64,
    /// Seconds; zero in SEND stands for the most.
    pub ttl_seconds: u32,
}

impl Routing {
    fn read(frame: &[u8]) -> Option<Self> {
        let mut reader = Reader(frame.get(HEADER_BYTES..ENVELOPE_OFFSET)?);
        let routing = Self {
            peer: Uid(reader.u64()?),
            lane: Lane(reader.u64()?),
            number: Number(reader.u64()?),
            sequence: Sequence(reader.u64()?),
            time_ms: reader.u64()?,
            ttl_seconds: reader.u32()?,
        };
        reader.end(routing)
    }

    fn write(&self, frame: &mut [u8]) -> Result<(), NoRoom> {
        let fields =
            frame.get_mut(HEADER_BYTES..).and_then(<[u8]>::first_chunk_mut::<ROUTING_BYTES>).ok_or(NoRoom)?;
        let mut put = |at: core::ops::Range<usize>, bytes: &[u8]| {
            if let Some(room) = fields.get_mut(at.start - HEADER_BYTES..at.end - HEADER_BYTES) {
                room.copy_from_slice(bytes);
            }
        };
        put(field::PEER, &self.peer.0.to_be_bytes());
        put(field::LANE, &self.lane.0.to_be_bytes());
        put(field::NUMBER, &self.number.0.to_be_bytes());
        put(field::SEQUENCE, &self.sequence.0.to_be_bytes());
        put(field::TIME, &self.time_ms.to_be_bytes());
        put(field::TTL, &self.ttl_seconds.to_be_bytes());
        Ok(())
    }
}

/// A whole SEND, DELIVER or NOTICE, checked, borrowed where it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed<'a> {
    /// The routing fields.
    pub routing: Routing,
    /// Whether it was sent on an earlier connection already.
    pub redelivered: bool,
    /// CRC-32 of what follows the routing fields, as it travelled.
    pub body_crc: u32,
    frame: &'a [u8],
}

impl<'a> Routed<'a> {
    /// Step 8 for the routing fields. `frame` is the whole frame, its CRCs already checked.
    pub(super) fn parse(frame_type: FrameType, flags: u16, body_crc: u32, frame: &'a [u8]) -> Option<Self> {
        let routing = Routing::read(frame)?;
        let from_client = frame_type == FrameType::Send;
        let fields_fit = routing.number.0 != 0
            && routing.ttl_seconds <= TTL_SECONDS_MAX
            && (!from_client || (routing.sequence.0 == 0 && routing.time_ms == 0))
            && (from_client || routing.ttl_seconds != 0);
        fields_fit.then_some(Self { routing, redelivered: flags & REDELIVERED != 0, body_crc, frame })
    }

    /// The whole frame as it was received.
    #[must_use]
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// What follows the routing fields: the envelope of a SEND or DELIVER.
    #[must_use]
    pub fn envelope(&self) -> &'a [u8] {
        self.frame.get(ENVELOPE_OFFSET..).unwrap_or_default()
    }

    /// The fields of a NOTICE, if this is one that reads as one.
    #[must_use]
    pub fn notice(&self) -> Option<Notice> {
        Notice::parse(self.routing, self.envelope())
    }
}

/// Emits a SEND or a DELIVER into `out`; returns its length, 64 bytes and the envelope's.
///
/// # Errors
/// [`NoRoom`] if `out` is too short, or `frame_type` is neither.
pub fn emit_routed(
    out: &mut [u8],
    frame_type: FrameType,
    routing: &Routing,
    envelope: &[u8],
) -> Result<usize, NoRoom> {
    if !frame_type.is_routed() {
        return Err(NoRoom);
    }
    let room = out.get_mut(ENVELOPE_OFFSET..ENVELOPE_OFFSET + envelope.len()).ok_or(NoRoom)?;
    room.copy_from_slice(envelope);
    routing.write(out)?;
    seal(out, frame_type, ROUTED, ROUTING_BYTES + envelope.len())
}

/// "This became of your message": what the relay puts into the sender's own mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Peer (the recipient), lane and number of the message; sequence and time of the notice.
    pub routing: Routing,
    /// [`ResultCode::Collected`] or [`ResultCode::Expired`].
    pub code: ResultCode,
    /// The recipient's receipt; zero for EXPIRED.
    pub receipt: Receipt,
}

impl Notice {
    /// Bytes of the whole frame.
    pub const FRAME_BYTES: usize = ENVELOPE_OFFSET + 36;

    pub(super) fn parse(routing: Routing, body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let code = ResultCode::from_number(reader.u8()?)?;
        reader.zero(3)?;
        let receipt = Receipt(*reader.array()?);
        let fits = match code {
            ResultCode::Collected => true,
            ResultCode::Expired => receipt == Receipt::ZERO,
            _ => false,
        };
        reader.end(fits.then_some(Self { routing, code, receipt })?)
    }

    /// Emits the frame into `out`; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is shorter than [`Notice::FRAME_BYTES`].
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let mut body = [0; 36];
        let [code, _, _, _, receipt @ ..] = &mut body;
        *code = self.code as u8;
        receipt.copy_from_slice(&self.receipt.0);
        emit_routed(out, FrameType::Notice, &self.routing, &body)
    }
}

/// A whole routed frame where it lies, to be changed there. The body CRC is left alone; the header
/// CRC is made anew by each method.
#[derive(Debug)]
pub struct RoutedMut<'a>(&'a mut [u8; ENVELOPE_OFFSET]);

impl<'a> RoutedMut<'a> {
    /// Takes hold of the first 64 bytes of `frame`; `None` if it has fewer.
    #[must_use]
    pub fn new(frame: &'a mut [u8]) -> Option<Self> {
        frame.first_chunk_mut().map(Self)
    }

    /// Makes the SEND that lies here the DELIVER that its recipient gets.
    pub fn make_deliver(&mut self, sender: Uid, sequence: Sequence, time_ms: u64, ttl_seconds: u32) {
        self.put(header_field::TYPE..header_field::TYPE + 1, &[FrameType::Deliver as u8]);
        self.put(header_field::FLAGS, &ROUTED.to_be_bytes());
        self.put(field::PEER, &sender.0.to_be_bytes());
        self.put(field::SEQUENCE, &sequence.0.to_be_bytes());
        self.put(field::TIME, &time_ms.to_be_bytes());
        self.put(field::TTL, &ttl_seconds.to_be_bytes());
        self.seal();
    }

    /// Flags the frame as one that was sent on an earlier connection already.
    pub fn mark_redelivered(&mut self) {
        self.put(header_field::FLAGS, &(ROUTED | REDELIVERED).to_be_bytes());
        self.seal();
    }

    fn put(&mut self, at: core::ops::Range<usize>, bytes: &[u8]) {
        if let Some(room) = self.0.get_mut(at) {
            room.copy_from_slice(bytes);
        }
    }

    fn seal(&mut self) {
        let (covered, rest) = self.0.split_at(header_field::HEADER_CRC.start);
        let routing = rest.split_at(HEADER_BYTES - header_field::HEADER_CRC.start).1;
        let header_crc = header_crc_of(covered, routing);
        self.put(header_field::HEADER_CRC, &header_crc.to_be_bytes());
    }
}

/// The type and routing fields of the frame that starts at `frame`; for frames that were checked
/// before they were put there. `None` if not even these are there.
#[must_use]
pub fn routing_at(frame: &[u8]) -> Option<(FrameType, Routing)> {
    Some((FrameType::from_number(*frame.get(header_field::TYPE)?)?, Routing::read(frame)?))
}

/// The length of the whole frame that starts at `frame`, as its header says; for frames that were
/// checked before they were put there. `None` if not even the length is there.
#[must_use]
pub fn frame_bytes_at(frame: &[u8]) -> Option<usize> {
    let length = frame.get(header_field::LENGTH).map(BigEndian::read_u32)?;
    usize::try_from(length).ok()?.checked_add(HEADER_BYTES)
}
