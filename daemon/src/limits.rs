//! The relay's limits: one line each, its unit last in its name, and what happens there.
//!
//! This file owns the numbers that are the relay's own business. What both ends must agree on is in
//! `e2e_protocol::limits`; what only the store cares about, in `store::limits`. Fields, defaults, what `--limit`
//! takes and what `--limits` prints are one list, so that none can be left out.

use e2e_protocol::limits::{FRAME_BYTES_MAX, KEEPALIVE_SECONDS};

use crate::store::limits::BATCH_BYTES_MAX;

/// One limit, for people: its name, its value, and what happens there, line by line.
pub type Described = (&'static str, u64, &'static [&'static str]);

macro_rules! limits {
    ($($(#[doc = $text:literal])+ $name:ident: $type:ty = $default:expr;)+) => {
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
            pub fn described(&self) -> Vec<Described> {
                vec![$((stringify!($name), Quantity::quantity(self.$name), &[$($text),+]),)+]
            }

            /// Sets the limit of this name.
            ///
            /// # Errors
            /// A sentence that says what is wrong: there is no such limit, or it can't be so much, or zero.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
                match name {
                    $(stringify!($name) if !(1..=LIMIT_VALUE_MAX).contains(&value) => {
                        return Err(format!("{name} is from 1 to {LIMIT_VALUE_MAX}, not {value}"));
                    })+
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
    connections_max: usize = 16_384;
    /// Connections from one address (IPv6: from one /64). A further one is told TOO_MANY_CONNECTIONS and closed.
    connections_per_address_max: usize = 4_096;
    /// Connections that an address may open in a minute, as many at once if it opened none for so long. A further one
    /// is told TOO_MANY_CONNECTIONS, with the time to wait, and closed.
    connections_per_address_minute: u64 = 3_000;
    /// Connections that have not logged in. With one more, the address that has the most of them loses its oldest,
    /// which is told TOO_MANY_CONNECTIONS and closed.
    connections_before_login_max: usize = 1_024;
    /// Connections of one address that have not logged in. With one more, its oldest is told TOO_MANY_CONNECTIONS
    /// and closed.
    connections_before_login_per_address_max: usize = 512;
    /// Signatures in logins that are verified for one address in a minute, as many at once if there was none for so
    /// long. A further login is told BUSY, with the time to wait, and closed.
    logins_per_address_minute: u64 = 3_000;
    /// Names that an address may claim in an hour, as many at once if it claimed none for so long. A further
    /// registration is told BUSY, with the time to wait, and closed.
    registrations_per_address_hour: u64 = 1_000;
    /// Connections of one name. A further one is told TOO_MANY_CONNECTIONS and closed.
    connections_per_name_max: u8 = 8;
    /// Registered names. A further one is told DIRECTORY_FULL.
    names_max: usize = 32_768;
    /// From a connection's start to its PROOF; then LOGIN_TIMEOUT.
    login_ms: u64 = 10_000;
    /// Signatures verified in one turn of the loop; further logins and roll-overs wait for the next. A roll-over
    /// has two, so that there may be one more.
    verifications_per_turn: usize = 2;
    /// Without a byte from a peer for so long: PING. Twice: IDLE_TIMEOUT.
    keepalive_ms: u64 = u64::from(KEEPALIVE_SECONDS) * 1_000;
    /// Bytes of output, other than live messages, that wait in memory for one connection. Above, it is
    /// no longer read from. A backlog fills half of it.
    output_bytes_max: usize = 64 * 1024;
    /// Bytes of memory for output of all connections. Above, whoever has left it unread for the longest is closed without
    /// a word (OUTPUT_MEMORY_FULL), until a quarter is free.
    output_bytes_in_all_max: usize = 16 * 1024 * 1024;
    /// Bytes of memory for begun frames of all connections. Above, the one that was begun longest ago costs its
    /// sender the connection: BUSY.
    partial_bytes_in_all_max: usize = 8 * 1024 * 1024;
    /// A connection that takes no output for so long is closed with SLOW_READER.
    slow_reader_ms: u64 = 30_000;
    /// What is left to say at a connection's end may take so long; then it is cut.
    linger_ms: u64 = 5_000;
    /// Bytes of blocks that hold messages in memory, all mailboxes together. A SEND above is refused BUSY.
    ring_bytes_max: usize = 64 * 1024 * 1024;
    /// Bytes of one mailbox in memory that are neither stored nor acknowledged. Above half of it the oldest go
    /// to the store, acknowledged soon or not; a SEND above it is refused BUSY.
    ring_bytes_per_mailbox: u64 = 1024 * 1024;
    /// A forwarded message that is not acknowledged for so long goes to the store.
    ack_wait_ms: u64 = 200;
    /// Bytes of frames in one mailbox, memory and store together. A SEND above is refused MAILBOX_FULL.
    mailbox_bytes_max: u64 = 64 * 1024 * 1024;
    /// Frames in one mailbox, memory and store together. A SEND above is refused MAILBOX_FULL.
    mailbox_messages_max: u64 = 100_000;
    /// Bytes of one sender's messages in one mailbox. A SEND above is refused SHARE_FULL.
    share_bytes_max: u64 = 32 * 1024 * 1024;
    /// Messages of one sender in one mailbox. A SEND above is refused SHARE_FULL.
    share_messages_max: u64 = 50_000;
    /// Bytes of one sender's messages in all mailboxes. A SEND above is refused QUOTA_FULL.
    sender_bytes_max: u64 = 256 * 1024 * 1024;
    /// Pairs of a mailbox and somebody of whom something waits in it. A SEND that makes one more is refused BUSY.
    shares_max: usize = 131_072;
    /// Names that all connections watch together. A WHO above is answered BUSY.
    watches_in_all_max: usize = 32_768;
    /// Names that all names block together. A BLOCK above is answered BLOCKS_FULL.
    blocks_in_all_max: usize = 131_072;
    /// A name whose presence changed is watched so long before those who watch it are told.
    presence_settle_ms: u64 = 1_000;
    /// Bytes that are given to the store at once. The rest waits in memory until those are stored.
    store_in_flight_bytes_max: usize = 8 * 1024 * 1024;
    /// Bytes of one append to the store.
    append_bytes_max: usize = 128 * 1024 - 512;
    /// Bytes of a backlog that are read at once for one connection (whole chunks).
    replay_bytes: usize = 64 * 1024;
    /// Bytes of backlogs in memory, all connections together. Above, a connection waits for its backlog until others have
    /// got rid of theirs; who can't go on with one at the moment gives it back.
    replay_bytes_in_all_max: usize = 16 * 1024 * 1024;
    /// Frames that are delivered and not acknowledged, all connections together. Above, a connection gets no more than
    /// 8 at a time, whatever its credit.
    deliveries_in_all_max: usize = 65_536;
    /// Messages of one mailbox that have expired behind one that is not acknowledged. Above, the rest waits for that.
    expired_ahead_max: usize = 32;
    /// So often a part of the mailboxes of who is away is searched for messages whose time ran out.
    expiry_interval_ms: u64 = 60_000;
    /// Names that such a search looks at.
    expiry_slots_max: u32 = 16_384;
    /// Mailboxes that are read for it at once. Others wait for those.
    expiry_reads_max: usize = 4;
    /// Bytes of live messages offered to a connection's socket at once.
    offer_bytes: u64 = 128 * 1024;
    /// After the store failed, for so long, what needs it is refused STORE_FAILED untried.
    store_retry_ms: u64 = 1_000;
    /// Free bytes on the state directory's disk, or a sixteenth of it if that is less. Below, what is new is refused
    /// STORE_FAILED: messages for who is away, names, prekeys. What was accepted is still stored, in this reserve.
    disk_floor_bytes: u64 = 64 * 1024 * 1024;
    /// Lanes that are remembered for one name; the longest unused is forgotten first.
    lanes_per_name_max: usize = 16;
    /// Lanes that are remembered in all. Above, those of a user who is not connected are forgotten; else one's
    /// own longest unused. Who has none gets one even so.
    lanes_max: usize = 32_768;
    /// Requests to the directory that wait for the store, all connections together. A further one: BUSY.
    requests_max: usize = 1_024;
    /// LOOKUPs and WHOs of one name in a minute, as many at once if there was none for so long. A further one: BUSY.
    lookups_per_name_minute: u64 = 1_200;
    /// PUBLISHes of one name in an hour, as many at once if there was none for so long. A further one: BUSY.
    publishes_per_name_hour: u64 = 60;
    /// BLOCKs of one name in an hour, as many at once if there was none for so long. A further one: BUSY.
    blocks_per_name_hour: u64 = 1_200;
    /// ROLLs and REMOVEs of one name in an hour, as many at once if there was none for so long. A further one: BUSY.
    roll_overs_per_name_hour: u64 = 30;
    /// One-time prekeys of one name that are handed out to one other in an hour. Above, and above the next two, the
    /// bundle is answered without one, as if there were none left.
    prekeys_per_pair_hour: u64 = 4;
    /// One-time prekeys that are handed out to one name in an hour.
    prekeys_per_asker_hour: u64 = 120;
    /// One-time prekeys of one name that are handed out in an hour, to all others together.
    prekeys_per_owner_hour: u64 = 120;
    /// Addresses and names whose rates are remembered. With one more, the one that was met first is forgotten, and
    /// has its whole allowance again.
    rates_max: usize = 16_384;
    /// Names that roll over at one time. A further one: BUSY.
    roll_overs_max: usize = 64;
    /// Notices that are held back for one name while its roll-over is written. A further one is dropped.
    held_notices_max: usize = 512;
    /// Who is connected when the relay stops is told to come back after a second and up to so long later, each at another time.
    restart_spread_ms: u64 = 4_000;
    /// A clean stop takes at most so long. Then what is left is cut.
    stop_ms: u64 = 10_000;
}

impl Limits {
    /// Whether the relay can work with them: what holds messages holds the largest at least, and what is stored at once fits
    /// into one commit.
    ///
    /// # Errors
    /// The name of one that it can't work with, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let least = FRAME_BYTES_MAX.quantity();
        let holding = [
            ("output_bytes_max", self.output_bytes_max.quantity()),
            ("output_bytes_in_all_max", self.output_bytes_in_all_max.quantity()),
            ("ring_bytes_max", self.ring_bytes_max.quantity()),
            ("ring_bytes_per_mailbox", self.ring_bytes_per_mailbox),
            ("mailbox_bytes_max", self.mailbox_bytes_max),
            ("share_bytes_max", self.share_bytes_max),
            ("sender_bytes_max", self.sender_bytes_max),
            ("store_in_flight_bytes_max", self.store_in_flight_bytes_max.quantity()),
            ("append_bytes_max", self.append_bytes_max.quantity()),
            ("replay_bytes", self.replay_bytes.quantity()),
            ("replay_bytes_in_all_max", self.replay_bytes_in_all_max.quantity()),
            ("offer_bytes", self.offer_bytes),
        ];
        if let Some((name, value)) = holding.into_iter().find(|(_, value)| *value < least) {
            return Err((name, format!("{value} is less than the largest frame, {least} bytes")));
        }
        if self.append_bytes_max > BATCH_BYTES_MAX {
            let text =
                format!("{} is more than one commit takes, {BATCH_BYTES_MAX} bytes", self.append_bytes_max);
            return Err(("append_bytes_max", text));
        }
        Ok(())
    }
}

/// A number in a limit's unit: of durations, milliseconds.
pub(crate) trait Quantity {
    fn quantity(self) -> u64;
}

macro_rules! quantities {
    ($($type:ty)+) => {
        $(impl Quantity for $type {
            fn quantity(self) -> u64 {
                u64::try_from(self).unwrap_or(u64::MAX)
            }
        })+
    };
}

quantities! { u8 u16 u32 u64 u128 usize }

impl Quantity for std::time::Duration {
    fn quantity(self) -> u64 {
        self.as_millis().quantity()
    }
}

/// Defines constants, and lists them for people.
macro_rules! constants {
    ($($(#[doc = $text:literal])+ pub const $name:ident: $type:ty = $value:expr;)+) => {
        $($(#[doc = $text])+ pub const $name: $type = $value;)+

        /// Each constant of this file.
        #[must_use]
        pub fn fixed() -> Vec<crate::limits::Described> {
            vec![$((stringify!($name), crate::limits::Quantity::quantity($name), &[$($text),+]),)+]
        }
    };
}
pub(crate) use constants;

constants! {
    /// What a limit can be at most. More is refused at start: sums and products of limits stay far from where numbers end.
    pub const LIMIT_VALUE_MAX: u64 = 1 << 40;
    /// Bytes of the configuration file, and of the file of tokens. A larger one is refused.
    pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
    /// Addresses to listen on. More are refused at start.
    pub const LISTENERS_MAX: usize = 64;
    /// Connections that the kernel holds until they are accepted. It drops further ones, which try again by themselves.
    pub const BACKLOG_MAX: usize = 1_024;
    /// Registration tokens that the relay has made. One more is refused until some are revoked.
    pub const TOKENS_MAX: usize = 256;
    /// Guests: who is at the control socket, and who fetches metrics. One more displaces the one of the latter who has been quiet
    /// for longest; where there is none, it is closed.
    pub const GUESTS_MAX: usize = 16;
    /// A guest who says nothing, or takes nothing, for so long is closed.
    pub const GUEST_MS: u64 = 10_000;
    /// Bytes that a guest may say. One who says more is closed.
    pub const GUEST_INPUT_BYTES_MAX: usize = 4 * 1024;
    /// Names that a guest is told of at once. Others follow when those are written.
    pub const NAMES_PER_PIECE: usize = 256;
    /// Who has a copy written to it and takes nothing for so long gets no more of it.
    pub const COPY_READER_MS: u64 = 60_000;
    /// After a stop the store may take so long to write what it was given. Then the relay ends without it, and says so.
    pub const STORE_STOP_MS: u64 = 10_000;
    /// Events that one turn takes from the system. The rest comes with the next.
    pub const EVENTS_PER_TURN: usize = 1_024;
    /// Connections accepted of each listener in one turn, so that a flood of them leaves time for the others. The rest
    /// waits for the next.
    pub const ACCEPTS_PER_TURN: usize = 8;
    /// How long accepting pauses when the system has no more file descriptors.
    pub const ACCEPT_PAUSE_MS: u64 = 1_000;
    /// Lines that one place in the program may log at once (errors, warnings, information). Further ones are left out, and
    /// it is said how many were.
    pub const LOG_LINES_AT_ONCE: u64 = 30;
    /// Lines that it may log in a minute from then on.
    pub const LOG_LINES_MINUTE: u64 = 10;
    /// So often the service manager is told what the relay is busy with, if that changed.
    pub const STATUS_MS: u64 = 5_000;
    /// Bytes that are read of a connection that has just had something to say, if few others have. The rest waits behind
    /// those of others.
    pub const FIRST_READ_BYTES_MAX: usize = 128 * 1024;
    /// The same, however many have something to say.
    pub const FIRST_READ_BYTES_MIN: usize = 16 * 1024;
    /// Bytes that all who have just had something to say share in one turn, as far as each gets as much as that.
    pub const FIRST_READ_BYTES_SHARED: usize = 256 * 1024;
    /// Connections that have not logged in and are read in one turn. The rest waits for the next, and for everybody else.
    pub const NEWCOMERS_PER_TURN: usize = 32;
    /// Bytes that are read of a connection that goes on saying something, each time its turn comes.
    pub const FURTHER_READ_BYTES: usize = 32 * 1024;
    /// Bytes that are read in one turn of connections that go on saying something. The rest waits for the next, and for
    /// who has something new to say.
    pub const FURTHER_READ_BYTES_PER_TURN: usize = 64 * 1024;
    /// Bytes that are read in one turn of all connections. The rest waits for the next.
    pub const READ_BYTES_PER_TURN: usize = 1024 * 1024;
    /// Bytes of the loop's one read buffer: a begun frame and what comes after it.
    pub const READ_BUFFER_BYTES: usize = 192 * 1024;
    /// Bytes of memory that one begun frame may take: it grows by doubling.
    pub const PARTIAL_CAPACITY_MAX: usize = 2 * FRAME_BYTES_MAX;
    /// Buffers for begun frames, and as many for output, that are kept for reuse when nobody needs them.
    pub const POOLED_BUFFERS_MAX: usize = 64;
    /// Bytes of a proxy's header. A longer one is malformed: the connection is closed (BAD_PROXY_HEADER).
    pub const PROXY_HEADER_BYTES_MAX: usize = 1_024;
    /// Debugging sessions in text from addresses that are trusted, and as many from others. One more is told BAD_MAGIC.
    pub const TEXT_SESSIONS_MAX: usize = 16;
    /// Bytes of a line in a debugging session: a frame in hex, and a comment. A longer one is answered with one error.
    pub const TEXT_LINE_BYTES_MAX: usize = 3 * FRAME_BYTES_MAX + 1_024;
    /// Bytes that such a session leaves unread before it is read from no more.
    pub const TEXT_OUTPUT_BYTES: usize = 64 * 1024;
    /// Bytes of frames that are put into text at once.
    pub const TEXT_PIECE_BYTES: usize = 4 * 1024;
    /// How long a debugging session from an address that is trusted may take to log in, if it does at all; then LOGIN_TIMEOUT.
    pub const TEXT_LOGIN_MS: u64 = 600_000;
    /// How long a socket is kept after its last words, so that they arrive.
    pub const PARTING_MS: u64 = 1_000;
    /// Sockets that are kept after their last words. With one more, the oldest goes.
    pub const PARTING_MAX: usize = 64;
    /// Frames that may be delivered to a connection and not acknowledged even where `deliveries_in_all_max` is reached.
    pub const DELIVERIES_ALWAYS: usize = 8;
    /// Deadlines that are kept before those of connections that are gone are swept out; twice as many as were left
    /// after the last time, if that is more.
    pub const DEADLINES_SWEPT_AT: usize = 4_096;
}

// A whole frame always fits behind a partial one, so that reading can't come to a halt.
const _: () = assert!(READ_BUFFER_BYTES > 2 * FRAME_BYTES_MAX);
