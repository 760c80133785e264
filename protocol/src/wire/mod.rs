//! The wire format (spec/wire.md), the code's one copy of it.
//!
//! Owns: turning bytes into frames ([`Frame::parse`]) and frames into bytes (`emit`), nothing else.
//! Must not know: connections, sockets, time, what an envelope contains. Nothing here allocates or
//! can panic; frames borrow the bytes that they were parsed from.
//!
//! The protocol on one screen: [`FrameType`]. Then: [`header`] for framing and the order of checks,
//! [`routed`] for SEND, DELIVER and NOTICE, [`session`] for login and errors, [`transfer`] for ACK
//! and RESULT, [`query`] for ids, [`directory`] for keys, [`roll`] for a name's change to a new key, [`people`] for who is
//! online, blocked or removed, [`code`] for every refusal.

pub mod code;
mod cursor;
pub mod directory;
mod frame;
pub mod header;
pub mod layout;
pub mod people;
pub mod query;
pub mod roll;
pub mod routed;
pub mod session;
pub mod transfer;

pub use code::{Code, ErrorCode};
pub use cursor::NoRoom;
pub use frame::{Frame, Parsed};
pub use header::{FrameError, Header};
pub use routed::{Notice, Routed, RoutedMut, Routing};

/// The bytes with which every frame starts. The first is not ASCII.
pub const MAGIC: [u8; 4] = [0xE2, b'R', b'L', b'Y'];

/// The version of the header.
pub const VERSION: u8 = 1;

/// The types of frames, each with its direction and its body. `1+n`: a length byte and as many bytes.
/// *routing* is peer uid 8, lane 8, number 8, sequence 8, time 8, ttl 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[rustfmt::skip]
pub enum FrameType {
    /// to relay: versions min 2, max 2, purpose 1, zero 3
    Hello     = 0x01,
    /// to client: version 2, registration 1, zero 1, relay id 32, nonce 32
    Challenge = 0x02,
    /// to relay: receive 1, credit messages 4, credit bytes 4, N(IK) 256, signature 256, token proof 32, name 1+n
    Proof     = 0x03,
    /// to client: uid 8, time 8, queued 8, kid(SPK) 8, prekeys left 2, receiving 1, zero 1, keepalive 2, in flight 2, envelope max 4, ttl max 4
    Welcome   = 0x04,
    /// to client: code 2, closes 1, zero 1, request 4, retry after 4, text 1+n
    Error     = 0x05,
    /// both ways: opaque 8
    Ping      = 0x06,
    /// both ways: opaque 8
    Pong      = 0x07,
    /// to relay: routing 44, envelope 1..16384
    Send      = 0x10,
    /// to client: routing 44, envelope 1..16384
    Deliver   = 0x11,
    /// to client: routing 44, code 1, zero 3, receipt 32
    Notice    = 0x12,
    /// to relay: first sequence 8, count 2, zero 2, receipts 32 x count
    Ack       = 0x13,
    /// to client: lane 8, first number 8, count 2, code 1, zero 1, reason 2, zero 2, retry after 4, receipts 32 x count if COLLECTED
    Result    = 0x14,
    /// to relay: request 4, lane 8, first number 8, count 2, zero 2
    Query     = 0x15,
    /// to client: request 4, lane 8, first number 8, count 2, zero 2, states 1 x count
    States    = 0x16,
    /// to relay: request 4, want 1, zero 3, uid 8, name 1+n
    Lookup    = 0x20,
    /// to client: request 4, uid 8, fingerprint 32, parts 1, zero 1, prekeys left 2, name 1+n, then by parts
    Entry     = 0x21,
    /// to relay: request 4, parts 1, zero 3, then by parts
    Publish   = 0x22,
    /// to client: request 4, kid(SPK) 8, prekeys left 2, zero 2
    Published = 0x23,
    /// to relay: request 4, time 8, N(new IK) 256, signature by the old key 256, signature by the new key 256
    Roll      = 0x24,
    /// to client: request 4, uid 8
    Rolled    = 0x25,
    /// to client: request 4, count 1, zero 3, N(oldest IK) 256, roll-overs 776 x count
    Rolls     = 0x26,
    /// to relay: request 4, watch 1, count 1, zero 2, from 4, names (1+n) x count
    Who       = 0x28,
    /// to client: request 4, next 4, count 1, zero 3, then count times: state 1, name 1+n
    Presence  = 0x29,
    /// to relay: request 4, block 1, zero 3, name 1+n
    Block     = 0x2A,
    /// to client: request 4, block 1, zero 3
    Blocked   = 0x2B,
    /// to relay: request 4, signature 256
    Remove    = 0x2C,
    /// to client: request 4
    Removed   = 0x2D,
}

impl FrameType {
    /// Every type of this version.
    pub const ALL: [Self; 27] = [
        Self::Hello,
        Self::Challenge,
        Self::Proof,
        Self::Welcome,
        Self::Error,
        Self::Ping,
        Self::Pong,
        Self::Send,
        Self::Deliver,
        Self::Notice,
        Self::Ack,
        Self::Result,
        Self::Query,
        Self::States,
        Self::Lookup,
        Self::Entry,
        Self::Publish,
        Self::Published,
        Self::Roll,
        Self::Rolled,
        Self::Rolls,
        Self::Who,
        Self::Presence,
        Self::Block,
        Self::Blocked,
        Self::Remove,
        Self::Removed,
    ];

    /// The type with this number, if this version has it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        // A match and not a search: this runs for every frame.
        Some(match number {
            0x01 => Self::Hello,
            0x02 => Self::Challenge,
            0x03 => Self::Proof,
            0x04 => Self::Welcome,
            0x05 => Self::Error,
            0x06 => Self::Ping,
            0x07 => Self::Pong,
            0x10 => Self::Send,
            0x11 => Self::Deliver,
            0x12 => Self::Notice,
            0x13 => Self::Ack,
            0x14 => Self::Result,
            0x15 => Self::Query,
            0x16 => Self::States,
            0x20 => Self::Lookup,
            0x21 => Self::Entry,
            0x22 => Self::Publish,
            0x23 => Self::Published,
            0x24 => Self::Roll,
            0x25 => Self::Rolled,
            0x26 => Self::Rolls,
            0x28 => Self::Who,
            0x29 => Self::Presence,
            0x2A => Self::Block,
            0x2B => Self::Blocked,
            0x2C => Self::Remove,
            0x2D => Self::Removed,
            _ => return None,
        })
    }

    /// Its name in spec/wire.md.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Challenge => "CHALLENGE",
            Self::Proof => "PROOF",
            Self::Welcome => "WELCOME",
            Self::Error => "ERROR",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Send => "SEND",
            Self::Deliver => "DELIVER",
            Self::Notice => "NOTICE",
            Self::Ack => "ACK",
            Self::Result => "RESULT",
            Self::Query => "QUERY",
            Self::States => "STATES",
            Self::Lookup => "LOOKUP",
            Self::Entry => "ENTRY",
            Self::Publish => "PUBLISH",
            Self::Published => "PUBLISHED",
            Self::Roll => "ROLL",
            Self::Rolled => "ROLLED",
            Self::Rolls => "ROLLS",
            Self::Who => "WHO",
            Self::Presence => "PRESENCE",
            Self::Block => "BLOCK",
            Self::Blocked => "BLOCKED",
            Self::Remove => "REMOVE",
            Self::Removed => "REMOVED",
        }
    }

    /// Whether its body starts with the routing fields.
    #[must_use]
    pub fn is_routed(self) -> bool {
        matches!(self, Self::Send | Self::Deliver | Self::Notice)
    }
}
