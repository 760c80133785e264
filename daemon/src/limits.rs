//! The relay's limits: one field each, its unit last in its name, and what happens there.
//!
//! This file owns the numbers that are the relay's own business. What both ends must agree on is in
//! `e2e_protocol::limits`; what only the store cares about, in `store::limits`.

use e2e_protocol::limits::{FRAME_BYTES_MAX, KEEPALIVE_SECONDS};

/// Every limit of the relay. The defaults are those of a small box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all. A further one is told TOO_MANY_CONNECTIONS and closed.
    pub connections_max: usize,
    /// Connections that have not logged in. A further one is told TOO_MANY_CONNECTIONS and closed.
    pub connections_before_login_max: usize,
    /// Connections of one name. A further one is told TOO_MANY_CONNECTIONS and closed.
    pub connections_per_name_max: u8,
    /// Registered names. A further one is told DIRECTORY_FULL.
    pub names_max: usize,
    /// From a connection's start to its PROOF, milliseconds; then LOGIN_TIMEOUT.
    pub login_ms: u64,
    /// Signatures verified in one turn of the loop; further logins and roll-overs wait for the next. A roll-over
    /// has two, so that there may be one more.
    pub verifications_per_turn: usize,
    /// Without a byte from a peer for so long, milliseconds: PING. Twice: IDLE_TIMEOUT.
    pub keepalive_ms: u64,
    /// Bytes of output, other than live messages, that wait in memory for one connection. Above, it is
    /// no longer read from. A backlog fills half of it.
    pub output_bytes_max: usize,
    /// A connection that takes no output for so long, milliseconds, is closed with SLOW_READER.
    pub slow_reader_ms: u64,
    /// What is left to say at a connection's end may take so long, milliseconds; then it is cut.
    pub linger_ms: u64,
    /// Bytes of blocks that hold messages in memory, all mailboxes together. A SEND above is refused BUSY.
    pub ring_bytes_max: usize,
    /// Bytes of one mailbox in memory that are neither stored nor acknowledged. Above half of it the oldest go
    /// to the store, acknowledged soon or not; a SEND above it is refused BUSY.
    pub ring_bytes_per_mailbox: u64,
    /// A forwarded message that is not acknowledged for so long, milliseconds, goes to the store.
    pub ack_wait_ms: u64,
    /// Bytes of frames in one mailbox, memory and store together. A SEND above is refused MAILBOX_FULL.
    pub mailbox_bytes_max: u64,
    /// Frames in one mailbox, memory and store together. A SEND above is refused MAILBOX_FULL.
    pub mailbox_messages_max: u64,
    /// Bytes that are on their way to the store. Above, mailboxes wait in memory.
    pub store_in_flight_bytes_max: usize,
    /// Bytes of one append to the store.
    pub append_bytes_max: usize,
    /// Bytes of a backlog that are read at once for one connection (whole chunks).
    pub replay_bytes: usize,
    /// Bytes of live messages offered to a connection's socket at once.
    pub offer_bytes: u64,
    /// After the store failed, for so long, milliseconds, what needs it is refused STORE_FAILED untried.
    pub store_retry_ms: u64,
    /// Lanes that are remembered for one name; the longest unused is forgotten first.
    pub lanes_per_name_max: usize,
    /// Lanes that are remembered in all. Above, those of a user who is not connected are forgotten; else one's
    /// own longest unused, or BUSY for who has none.
    pub lanes_max: usize,
    /// Requests to the directory that wait for the store, all connections together. A further one: BUSY.
    pub requests_max: usize,
    /// Notices that are held back for one name while its roll-over is written. A further one is dropped.
    pub held_notices_max: usize,
    /// A clean stop takes at most so long, milliseconds.
    pub stop_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            connections_before_login_max: 1_024,
            connections_per_name_max: 8,
            names_max: 1_000_000,
            login_ms: 10_000,
            verifications_per_turn: 4,
            keepalive_ms: u64::from(KEEPALIVE_SECONDS) * 1_000,
            output_bytes_max: 64 * 1024,
            slow_reader_ms: 30_000,
            linger_ms: 5_000,
            ring_bytes_max: 64 * 1024 * 1024,
            ring_bytes_per_mailbox: 1024 * 1024,
            ack_wait_ms: 200,
            mailbox_bytes_max: 64 * 1024 * 1024,
            mailbox_messages_max: 100_000,
            store_in_flight_bytes_max: 8 * 1024 * 1024,
            append_bytes_max: 128 * 1024 - 512,
            replay_bytes: 64 * 1024,
            offer_bytes: 128 * 1024,
            store_retry_ms: 1_000,
            lanes_per_name_max: 16,
            lanes_max: 65_536,
            requests_max: 4_096,
            held_notices_max: 512,
            stop_ms: 10_000,
        }
    }
}

/// Bytes that the loop reads from one connection in one turn, at most; the rest waits for the next.
pub const READ_BYTES_PER_TURN: usize = 256 * 1024;

/// Bytes of the loop's one read buffer: a partial frame and what comes after it.
pub const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Buffers for partial frames and output that are kept for reuse when nobody needs them.
pub const POOLED_BUFFERS_MAX: usize = 64;

// A whole frame always fits behind a partial one, so that reading can't come to a halt.
const _: () = assert!(READ_BUFFER_BYTES > 2 * FRAME_BYTES_MAX);
