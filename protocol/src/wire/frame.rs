//! One received frame, parsed once: from here on nobody sees raw bytes.
//!
//! Owns: [`Frame`] and putting the header's checks and the bodies' together in the order of
//! spec/wire.md, section 3. Must not know which side may send what when.

use super::FrameType;
use super::directory::{Entry, Lookup, Publish, Published};
use super::header::{FrameError, Header};
use super::people::{Block, Blocked, Presence, Remove, Removed, Who};
use super::query::{Query, States};
use super::roll::{Roll, Rolled, Rolls};
use super::routed::{Notice, Routed};
use super::session::{Challenge, ErrorFrame, Hello, Proof, Welcome, parse_ping};
use super::transfer::{Ack, Outcome};
use crate::limits::HEADER_BYTES;

/// A frame, borrowing the bytes that it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// To the relay: versions and purpose.
    Hello(Hello),
    /// To the client: relay id and nonce.
    Challenge(Challenge),
    /// To the relay: key, signature, name.
    Proof(Proof<'a>),
    /// To the client: logged in.
    Welcome(Welcome),
    /// To the client: refused, or closed.
    Error(ErrorFrame<'a>),
    /// Are you there?
    Ping([u8; 8]),
    /// Yes.
    Pong([u8; 8]),
    /// To the relay: a message.
    Send(Routed<'a>),
    /// To the client: a message.
    Deliver(Routed<'a>),
    /// To the client: what became of a message, late.
    Notice(Notice, Routed<'a>),
    /// To the relay: messages are durable at the client.
    Ack(Ack<'a>),
    /// To the client: what became of messages.
    Result(Outcome<'a>),
    /// To the relay: what became of these ids?
    Query(Query),
    /// To the client: this.
    States(States<'a>),
    /// To the relay: a question to the directory.
    Lookup(Lookup),
    /// To the client: its answer.
    Entry(Entry<'a>),
    /// To the relay: new prekeys.
    Publish(Publish<'a>),
    /// To the client: they are on disk.
    Published(Published),
    /// To the relay: the name is to have a new key.
    Roll(Roll<'a>),
    /// To the client: it has.
    Rolled(Rolled),
    /// To the client: the roll-overs of a name.
    Rolls(Rolls<'a>),
    /// To the relay: who is online?
    Who(Who<'a>),
    /// To the client: these are.
    Presence(Presence<'a>),
    /// To the relay: a name is to be blocked, or no longer.
    Block(Block),
    /// To the client: it is.
    Blocked(Blocked),
    /// To the relay: the name is to be nobody's.
    Remove(Remove<'a>),
    /// To the client: it is.
    Removed(Removed),
    /// A frame of an unknown type that may be skipped.
    Skipped,
}

/// What [`Frame::parse`] found at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// All fits so far, and more bytes are needed: with `frame_bytes` known, so many in all.
    Incomplete {
        /// Bytes of the whole frame, once its header is there.
        frame_bytes: Option<usize>,
    },
    /// A frame and its length in bytes.
    Frame(Frame<'a>, usize),
}

impl<'a> Frame<'a> {
    /// Looks at the frame at the start of `bytes`, which may be cut off anywhere or hold more.
    ///
    /// # Errors
    /// The first [`FrameError`] in the order of spec/wire.md section 3, steps 1 to 8.
    pub fn parse(bytes: &'a [u8], body_bytes_max: usize) -> Result<Parsed<'a>, FrameError> {
        let Some(header) = Header::parse(bytes, body_bytes_max)? else {
            return Ok(Parsed::Incomplete { frame_bytes: None });
        };
        let frame_bytes = header.frame_bytes();
        let Some(frame) = bytes.get(..frame_bytes) else {
            return Ok(Parsed::Incomplete { frame_bytes: Some(frame_bytes) });
        };
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        if !header.body_fits(body) {
            return Err(FrameError::BadCrc);
        }
        let parsed = match header.frame_type {
            None => Some(Self::Skipped),
            Some(frame_type) => Self::parse_body(frame_type, &header, body, frame),
        };
        parsed.map(|parsed| Parsed::Frame(parsed, frame_bytes)).ok_or(FrameError::Malformed)
    }

    fn parse_body(frame_type: FrameType, header: &Header, body: &'a [u8], frame: &'a [u8]) -> Option<Self> {
        let routed = || Routed::parse(frame_type, header.flags, header.body_crc, frame);
        Some(match frame_type {
            FrameType::Hello => Self::Hello(Hello::parse(body)?),
            FrameType::Challenge => Self::Challenge(Challenge::parse(body)?),
            FrameType::Proof => Self::Proof(Proof::parse(body)?),
            FrameType::Welcome => Self::Welcome(Welcome::parse(body)?),
            FrameType::Error => Self::Error(ErrorFrame::parse(body)?),
            FrameType::Ping => Self::Ping(parse_ping(body)?),
            FrameType::Pong => Self::Pong(parse_ping(body)?),
            FrameType::Send => Self::Send(routed()?),
            FrameType::Deliver => Self::Deliver(routed()?),
            FrameType::Notice => {
                let routed = routed()?;
                Self::Notice(routed.notice()?, routed)
            }
            FrameType::Ack => Self::Ack(Ack::parse(body)?),
            FrameType::Result => Self::Result(Outcome::parse(body)?),
            FrameType::Query => Self::Query(Query::parse(body)?),
            FrameType::States => Self::States(States::parse(body)?),
            FrameType::Lookup => Self::Lookup(Lookup::parse(body)?),
            FrameType::Entry => Self::Entry(Entry::parse(body)?),
            FrameType::Publish => Self::Publish(Publish::parse(body)?),
            FrameType::Published => Self::Published(Published::parse(body)?),
            FrameType::Roll => Self::Roll(Roll::parse(body)?),
            FrameType::Rolled => Self::Rolled(Rolled::parse(body)?),
            FrameType::Rolls => Self::Rolls(Rolls::parse(body)?),
            FrameType::Who => Self::Who(Who::parse(body)?),
            FrameType::Presence => Self::Presence(Presence::parse(body)?),
            FrameType::Block => Self::Block(Block::parse(body)?),
            FrameType::Blocked => Self::Blocked(Blocked::parse(body)?),
            FrameType::Remove => Self::Remove(Remove::parse(body)?),
            FrameType::Removed => Self::Removed(Removed::parse(body)?),
        })
    }

    /// Its type; `None` for a skipped one.
    #[must_use]
    pub fn frame_type(&self) -> Option<FrameType> {
        Some(match self {
            Self::Hello(_) => FrameType::Hello,
            Self::Challenge(_) => FrameType::Challenge,
            Self::Proof(_) => FrameType::Proof,
            Self::Welcome(_) => FrameType::Welcome,
            Self::Error(_) => FrameType::Error,
            Self::Ping(_) => FrameType::Ping,
            Self::Pong(_) => FrameType::Pong,
            Self::Send(_) => FrameType::Send,
            Self::Deliver(_) => FrameType::Deliver,
            Self::Notice(..) => FrameType::Notice,
            Self::Ack(_) => FrameType::Ack,
            Self::Result(_) => FrameType::Result,
            Self::Query(_) => FrameType::Query,
            Self::States(_) => FrameType::States,
            Self::Lookup(_) => FrameType::Lookup,
            Self::Entry(_) => FrameType::Entry,
            Self::Publish(_) => FrameType::Publish,
            Self::Published(_) => FrameType::Published,
            Self::Roll(_) => FrameType::Roll,
            Self::Rolled(_) => FrameType::Rolled,
            Self::Rolls(_) => FrameType::Rolls,
            Self::Who(_) => FrameType::Who,
            Self::Presence(_) => FrameType::Presence,
            Self::Block(_) => FrameType::Block,
            Self::Blocked(_) => FrameType::Blocked,
            Self::Remove(_) => FrameType::Remove,
            Self::Removed(_) => FrameType::Removed,
            Self::Skipped => return None,
        })
    }
}
