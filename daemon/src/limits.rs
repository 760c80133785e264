//! The relay's limits: one line each, its unit last in its name, and what happens there.
//!
//! This file owns the numbers that are the relay's own business. What both ends must agree on is in
//! `e2e_protocol::limits`; what only the store cares about, in `store::limits`. Fields, defaults, what `--limit`
//! takes and what `--limits` prints are one list, so that none can be left out.

use e2e_protocol::limits::{FRAME_BYTES_MAX, KEEPALIVE_SECONDS};

/// One limit, for people.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub unit: &'static str,
    /// What it bounds and what happens there; lines to be joined.
    pub text: &'static [&'static str],
}

macro_rules! limits {
    ($($(#[doc = $text:literal])+ $name:ident: $type:ty = $default:expr, $unit:literal;)+) => {
        /// Every limit of the relay. The defaults are those of a small box.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $text])+ pub $name: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Each limit with its present value, in the order of the list.
            #[must_use]
            pub fn described(&self) -> Vec<(Described, u64)> {
                vec![$((
                    Described { name: stringify!($name), unit: $unit, text: &[$($text),+] },
                    u64::try_from(self.$name).unwrap_or(u64::MAX),
                ),)+]
            }

            /// Sets the limit of this name.
            ///
            /// # Errors
            /// A sentence that says what is wrong: there is no such limit, or it can't be so much, or zero.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
                match name {
                    _ if value == 0 => return Err(format!("{name} must be more than zero")),
                    $(stringify!($name) => {
                        self.$name = value.try_into().map_err(|_| format!("{name} can't be {value}"))?;
                    })+
                    _ => return Err(format!("there is no limit {name}")),
                }
                Ok(())
            }
        }
    };
}

limits! {
    /// Connections in all. A further one is told TOO_MANY_CONNECTIONS and closed.
    connections_max: usize = 16_384, "connections";
    /// Connections from one address (IPv6: from one /64). A further one is told TOO_MANY_CONNECTIONS and closed.
    connections_per_address_max: usize = 4_096, "connections";
    /// Connections that an address may open in a minute, as many at once if it opened none for so long. A further one
    /// is told TOO_MANY_CONNECTIONS, with the time to wait, and closed.
    connections_per_address_minute: u64 = 3_000, "connections";
    /// Connections that have not logged in. With one more, the address that has the most of them loses its oldest,
    /// which is told TOO_MANY_CONNECTIONS and closed.
    connections_before_login_max: usize = 1_024, "connections";
    /// Connections of one address that have not logged in. With one more, its oldest is told TOO_MANY_CONNECTIONS
    /// and closed.
    connections_before_login_per_address_max: usize = 512, "connections";
    /// Signatures in logins that are verified for one address in a minute, as many at once if there was none for so
    /// long. A further login is told BUSY, with the time to wait, and closed.
    logins_per_address_minute: u64 = 3_000, "signatures";
    /// Names that an address may claim in an hour, as many at once if it claimed none for so long. A further
    /// registration is told BUSY, with the time to wait, and closed.
    registrations_per_address_hour: u64 = 1_000, "names";
    /// Connections of one name. A further one is told TOO_MANY_CONNECTIONS and closed.
    connections_per_name_max: u8 = 8, "connections";
    /// Registered names. A further one is told DIRECTORY_FULL.
    names_max: usize = 1_000_000, "names";
    /// From a connection's start to its PROOF, milliseconds; then LOGIN_TIMEOUT.
    login_ms: u64 = 10_000, "ms";
    /// Signatures verified in one turn of the loop; further logins and roll-overs wait for the next. A roll-over
    /// has two, so that there may be one more.
    verifications_per_turn: usize = 4, "signatures";
    /// Without a byte from a peer for so long, milliseconds: PING. Twice: IDLE_TIMEOUT.
    keepalive_ms: u64 = u64::from(KEEPALIVE_SECONDS) * 1_000, "ms";
    /// Bytes of output, other than live messages, that wait in memory for one connection. Above, it is
    /// no longer read from. A backlog fills half of it.
    output_bytes_max: usize = 64 * 1024, "bytes";
    /// A connection that takes no output for so long, milliseconds, is closed with SLOW_READER.
    slow_reader_ms: u64 = 30_000, "ms";
    /// What is left to say at a connection's end may take so long, milliseconds; then it is cut.
    linger_ms: u64 = 5_000, "ms";
    /// Bytes of blocks that hold messages in memory, all mailboxes together. A SEND above is refused BUSY.
    ring_bytes_max: usize = 64 * 1024 * 1024, "bytes";
    /// Bytes of one mailbox in memory that are neither stored nor acknowledged. Above half of it the oldest go
    /// to the store, acknowledged soon or not; a SEND above it is refused BUSY.
    ring_bytes_per_mailbox: u64 = 1024 * 1024, "bytes";
    /// A forwarded message that is not acknowledged for so long, milliseconds, goes to the store.
    ack_wait_ms: u64 = 200, "ms";
    /// Bytes of frames in one mailbox, memory and store together. A SEND above is refused MAILBOX_FULL.
    mailbox_bytes_max: u64 = 64 * 1024 * 1024, "bytes";
    /// Frames in one mailbox, memory and store together. A SEND above is refused MAILBOX_FULL.
    mailbox_messages_max: u64 = 100_000, "frames";
    /// Bytes of one sender's messages in one mailbox. A SEND above is refused SHARE_FULL.
    share_bytes_max: u64 = 32 * 1024 * 1024, "bytes";
    /// Messages of one sender in one mailbox. A SEND above is refused SHARE_FULL.
    share_messages_max: u64 = 50_000, "frames";
    /// Bytes of one sender's messages in all mailboxes. A SEND above is refused QUOTA_FULL.
    sender_bytes_max: u64 = 256 * 1024 * 1024, "bytes";
    /// A name whose presence changed is watched so long, milliseconds, before those who watch it are told.
    presence_settle_ms: u64 = 1_000, "ms";
    /// Bytes that are on their way to the store. Above, mailboxes wait in memory.
    store_in_flight_bytes_max: usize = 8 * 1024 * 1024, "bytes";
    /// Bytes of one append to the store.
    append_bytes_max: usize = 128 * 1024 - 512, "bytes";
    /// Bytes of a backlog that are read at once for one connection (whole chunks).
    replay_bytes: usize = 64 * 1024, "bytes";
    /// Bytes of live messages offered to a connection's socket at once.
    offer_bytes: u64 = 128 * 1024, "bytes";
    /// After the store failed, for so long, milliseconds, what needs it is refused STORE_FAILED untried.
    store_retry_ms: u64 = 1_000, "ms";
    /// Lanes that are remembered for one name; the longest unused is forgotten first.
    lanes_per_name_max: usize = 16, "lanes";
    /// Lanes that are remembered in all. Above, those of a user who is not connected are forgotten; else one's
    /// own longest unused, or BUSY for who has none.
    lanes_max: usize = 65_536, "lanes";
    /// Requests to the directory that wait for the store, all connections together. A further one: BUSY.
    requests_max: usize = 4_096, "requests";
    /// LOOKUPs and WHOs of one name in a minute, as many at once if there was none for so long. A further one: BUSY.
    lookups_per_name_minute: u64 = 1_200, "requests";
    /// PUBLISHes of one name in an hour, as many at once if there was none for so long. A further one: BUSY.
    publishes_per_name_hour: u64 = 60, "requests";
    /// BLOCKs of one name in an hour, as many at once if there was none for so long. A further one: BUSY.
    blocks_per_name_hour: u64 = 1_200, "requests";
    /// ROLLs and REMOVEs of one name in an hour, as many at once if there was none for so long. A further one: BUSY.
    roll_overs_per_name_hour: u64 = 30, "requests";
    /// One-time prekeys of one name that are handed out to one other in an hour. Above, and above the next two, the
    /// bundle is answered without one, as if there were none left.
    prekeys_per_pair_hour: u64 = 4, "prekeys";
    /// One-time prekeys that are handed out to one name in an hour.
    prekeys_per_asker_hour: u64 = 120, "prekeys";
    /// One-time prekeys of one name that are handed out in an hour, to all others together.
    prekeys_per_owner_hour: u64 = 120, "prekeys";
    /// Addresses and names whose rates are remembered. With one more, the one that was met first is forgotten, and
    /// has its whole allowance again.
    rates_max: usize = 16_384, "entries";
    /// Notices that are held back for one name while its roll-over is written. A further one is dropped.
    held_notices_max: usize = 512, "notices";
    /// A clean stop takes at most so long, milliseconds.
    stop_ms: u64 = 10_000, "ms";
}

/// Bytes that the loop reads from one connection in one turn, at most; the rest waits for the next.
pub const READ_BYTES_PER_TURN: usize = 256 * 1024;

/// Bytes of the loop's one read buffer: a partial frame and what comes after it.
pub const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Buffers for partial frames and output that are kept for reuse when nobody needs them.
pub const POOLED_BUFFERS_MAX: usize = 64;

// A whole frame always fits behind a partial one, so that reading can't come to a halt.
const _: () = assert!(READ_BUFFER_BYTES > 2 * FRAME_BYTES_MAX);
