//! The limits of the end-to-end layer, each with its unit last (spec/crypto.md, "Limits in numbers").
//!
//! This file owns the numbers; what happens at each is in its sentence. Limits of frames and of the
//! relay are in [`crate::limits`].

use crate::limits::ENVELOPE_BYTES_MAX;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Age at which a signed prekey is replaced by a new one.
pub const SPK_AGE_MS_MAX: u64 = 7 * DAY_MS;

/// A replaced signed prekey's private key is erased when a queue is drained this long after its
/// successor's upload, or later: no relay stores a message longer.
pub const SPK_KEPT_MS: u64 = 30 * DAY_MS;

/// Most signed prekeys whose private keys are held; beyond it the oldest is erased.
pub const SPKS_MAX: usize = 16;

/// One-time prekeys made at once; a new batch is due when fewer than half are left at the relay.
pub const BATCH_PREKEYS_MAX: usize = crate::limits::BATCH_PREKEYS_MAX;

/// Below so many one-time prekeys left at the relay a new batch is due.
pub const PREKEYS_LEFT_MIN: u16 = 8;

/// Most batches of one-time prekeys for one signed prekey; none is made beyond it.
pub const BATCHES_MAX: u8 = 8;

/// Failed OAEP decryptions after which a signed prekey is erased, and so has to be replaced: any
/// contact may probe it.
pub const OAEP_FAILURES_MAX: u32 = 256;

/// A bundle whose signed prekey was made longer ago is refused.
pub const BUNDLE_AGE_MS_MAX: u64 = 60 * DAY_MS;

/// A bundle made further in the future is used, but its time is not remembered.
pub const BUNDLE_AHEAD_MS_MAX: u64 = DAY_MS;

/// Numbers in one chain; a full chain is followed by a step or, where it is not one's turn, by a new session.
pub const CHAIN_MESSAGES_MAX: u32 = 1_000;

/// Messages of both ends since the last step from which on one steps with the next message, if a key is ready.
pub const STEP_DUE_MESSAGES: u32 = 64;

/// The same in time.
pub const STEP_DUE_MS: u64 = DAY_MS;

/// Messages of both ends since the last step at which one steps in any case, with an empty message if
/// there is no other.
pub const STEP_FORCED_MESSAGES: u32 = 500;

/// The same in time.
pub const STEP_FORCED_MS: u64 = 7 * DAY_MS;

/// A session that one started and nobody answered is sent on for so long: then the signed prekey may be erased.
pub const UNANSWERED_MS_MAX: u64 = SPK_KEPT_MS;

/// Ratchet keys made ahead in idle time; none is made beyond it.
pub const RATCHET_KEYS_AHEAD_MAX: usize = 2;

/// Most ratchet keys held for one session; the oldest goes, and with it what can't be unwrapped without it.
pub const RATCHETS_HELD_MAX: usize = 64;

/// Most sessions with one peer; the longest unused goes first, the sending one never.
pub const SESSIONS_MAX: usize = 4;

/// A session unused for so long is erased when a message of the peer is authenticated, unless it is the
/// sending one.
pub const SESSION_IDLE_MS_MAX: u64 = 30 * DAY_MS;

/// Most INITs remembered for one peer and signed prekey; a further one is rejected.
pub const INITS_REMEMBERED_MAX: usize = 256;

/// Most INITs of one peer that a process decrypts in [`INIT_WINDOW_MS`]; a further one is rejected.
/// [`INIT_EARNED_MESSAGES`] give one back.
pub const INITS_PER_PEER_MAX: usize = 8;

/// A chain of epoch 0 gives its INIT back with so many authentic messages, half of all: not with a number, which its
/// sender may reach at once, or the relay lose.
pub const INIT_EARNED_MESSAGES: usize = 500;

/// Most INITs of names without a pin that a process decrypts in [`INIT_WINDOW_MS`], all together.
pub const INITS_UNPINNED_MAX: usize = 64;

/// The time over which decrypted INITs are counted.
pub const INIT_WINDOW_MS: u64 = HOUR_MS;

/// Most decrypted INITs and STEPs of one peer that wait in memory for a message with a valid tag; the
/// oldest goes first.
pub const PREAMBLES_WAITING_MAX: usize = 4;

/// The same for all peers together.
pub const PREAMBLES_WAITING_ALL_MAX: usize = 256;

/// Between one's own INITs to one peer: at least so long, doubled with each that no receipt followed.
pub const INIT_INTERVAL_MS_MIN: u64 = 10 * MINUTE_MS;

/// The doubling of [`INIT_INTERVAL_MS_MIN`] ends here.
pub const INIT_INTERVAL_MS_MAX: u64 = DAY_MS;

/// Most message keys kept for numbers that were skipped, for one peer; the oldest go first.
pub const SKIPPED_KEYS_MAX: usize = 2_000;

/// A skipped message key is kept for so long.
pub const SKIPPED_KEPT_MS: u64 = 30 * DAY_MS;

/// Records of opened messages kept for one peer, at least; the oldest segment goes when the others
/// hold as many.
pub const RECORDS_MIN: usize = 4_000;

/// A segment of records is kept until its newest is so old.
pub const RECORDS_KEPT_MS: u64 = 60 * DAY_MS;

/// Records in one segment, which is what one commit rewrites.
pub const SEGMENT_RECORDS: usize = 128;

/// Most bytes of encrypted data: the largest padded length with which an envelope that carries an
/// INIT stays within [`ENVELOPE_BYTES_MAX`].
pub const DATA_BYTES_MAX: usize = 12_288;

/// Most bytes of a message's body; a longer one is refused before anything is encrypted.
pub const BODY_BYTES_MAX: usize = DATA_BYTES_MAX - 1 - super::plaintext::FIXED_BYTES;

const _: () = assert!(super::envelope::OVERHEAD_BYTES_MAX + DATA_BYTES_MAX <= ENVELOPE_BYTES_MAX);
