//! The limits of the wire format: one constant each, its unit last in its name (spec/wire.md, section 9).
//!
//! This file owns what both ends must agree on. What only the relay limits (memory, connections)
//! is in the daemon's `limits.rs`.

/// Defines the constants, and lists them for people.
macro_rules! constants {
    ($($(#[doc = $text:literal])+ pub const $name:ident: $type:ty = $value:expr;)+) => {
        $($(#[doc = $text])+ pub const $name: $type = $value;)+

        /// Each of them: its name, its value, and what it says in its documentation, line by line.
        pub const ALL: &[(&str, u64, &[&str])] = &[$((stringify!($name), $name as u64, &[$($text),+]),)+];
    };
}

constants! {
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 20;

/// Bytes of the routing fields, with which a routed frame's body starts.
pub const ROUTING_BYTES: usize = 44;

/// Where the envelope starts in a SEND or DELIVER, from the start of the frame.
pub const ENVELOPE_OFFSET: usize = HEADER_BYTES + ROUTING_BYTES;

/// Most bytes of an envelope: small enough for a small device; larger things travel in pieces.
pub const ENVELOPE_BYTES_MAX: usize = 16_384;

/// Most bytes of any frame's body. A longer one is refused with TOO_LONG as soon as its length is read.
pub const BODY_BYTES_MAX: usize = ROUTING_BYTES + ENVELOPE_BYTES_MAX;

/// Most bytes of a frame: the room that a receiver needs.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;

/// Most bytes of a frame's body before login; a longer one is refused with TOO_LONG.
pub const BODY_BYTES_BEFORE_LOGIN_MAX: usize = 1_024;

/// Most frames that are skipped before login; a further one is refused with UNEXPECTED_FRAME.
pub const SKIPPED_BEFORE_LOGIN_MAX: u8 = 8;

/// Most messages that one ACK or one RESULT is about.
pub const RANGE_COUNT_MAX: u16 = 512;

/// Longest time to live of a message, and what 0 in a SEND stands for: 30 days, in seconds.
pub const TTL_SECONDS_MAX: u32 = 2_592_000;

/// How many of a lane's newest numbers the relay remembers; older ones are refused with ID_TOO_OLD.
pub const LANE_WINDOW: u64 = 64;

/// Most numbers that one QUERY is about: more are not remembered.
pub const QUERY_COUNT_MAX: u16 = LANE_WINDOW as u16;

/// Most names that one WHO is about.
pub const WHO_COUNT_MAX: u8 = 64;

/// Most names in one PRESENCE; of everybody, the rest is asked for with its `next`.
pub const PRESENCE_COUNT_MAX: usize = 255;

/// Most names that one connection watches; more are refused with WATCHES_FULL.
pub const WATCHES_MAX: usize = 64;

/// Most connections that watch one name; a further one is refused BUSY.
pub const WATCHERS_MAX: usize = 256;

/// Most names that one name blocks; a further one is refused with BLOCKS_FULL.
pub const BLOCKS_MAX: usize = 256;

/// Most one-time prekeys in one batch.
pub const BATCH_PREKEYS_MAX: usize = 16;

/// Most batches of one-time prekeys for one signed prekey; a further one is refused with PREKEYS_FULL.
pub const BATCHES_MAX: usize = 8;

/// How many roll-overs of a name the relay keeps, and most that ROLLS has; older ones are forgotten.
pub const ROLL_OVERS_MAX: usize = 8;

/// Most bytes of the text in ERROR; what is longer is cut by the sender.
pub const ERROR_TEXT_BYTES_MAX: usize = 120;

/// Most requests of one connection without an answer; a further one is answered with BUSY.
pub const REQUESTS_PENDING_MAX: u8 = 8;

/// After so many seconds without a byte PING is sent; after twice as many the connection is given up.
pub const KEEPALIVE_SECONDS: u16 = 60;

/// The session version of spec/wire.md.
pub const SESSION_VERSION: u16 = 1;

/// The TCP port of a relay, unless configured otherwise.
pub const PORT: u16 = 5001;
}
