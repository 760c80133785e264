//! The store's limits, each with its unit, and what happens there.

use std::time::Duration;

use crate::limits::constants;

constants! {
/// Most one-time prekeys in a batch. A larger one is refused as a bad batch.
pub const BATCH_KEYS_MAX: usize = 16;

/// Most batches for one signed prekey, used up or not. One more is refused until there is a new
/// signed prekey.
pub const PREKEY_BATCHES_MAX: usize = 8;

/// Roll-overs that are kept of a name; with one more the oldest is forgotten.
pub const ROLL_OVERS_KEPT_MAX: usize = 8;

/// Bytes of what a registration token's maker notes about it. A longer label is refused.
pub const TOKEN_LABEL_BYTES_MAX: usize = 64;

/// Up to this many bytes of messages, appends to one mailbox in one commit share a chunk, and a larger append is
/// cut into chunks of this size. The engine rounds a value up to a power of two of 4 KiB pages and writes all of
/// them, so this stays a little below 64 KiB.
pub const CHUNK_BYTES_BEST: usize = 64 * 1024 - 256;

/// Memory of chunks that is kept from one batch for the next, bytes, until all is settled.
pub const CHUNK_MEMORY_KEPT: usize = BATCH_BYTES_MAX;

/// A batch takes requests until its appends hold this many bytes; the rest waits for the next commit. It
/// bounds both the time of one commit and the memory that it takes.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A batch takes this many requests at most; the rest waits for the next commit.
pub const BATCH_REQUESTS_MAX: usize = 4096;

/// Acknowledgements alone wait this long for a request that needs a commit anyway.
pub const ACKED_ALONE_WAIT: Duration = Duration::from_millis(100);

/// Who waits for the store's threads to end looks this often whether they have.
pub const STOP_LOOK_WAIT: Duration = Duration::from_millis(2);

/// A copy of a store counts as if its relay had been started so often since: so often it may be, before it gives sequences that
/// a relay on the copy gives too.
pub const COPY_STARTS: u32 = 4096;

/// After a failed commit the engine is reopened after this wait, which doubles until a commit succeeds. What
/// needs a commit is refused meanwhile, acknowledgements are kept.
pub const REOPEN_WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest wait between two attempts to reopen the engine.
pub const REOPEN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Memory that the index may use to keep pages, in bytes. Beyond it pages are written early, and read again. All of it stays
/// in use once it was; twice as much stored no more messages.
pub const ENGINE_CACHE_BYTES: usize = 1024 * 1024;

/// A segment of the log that is as long gets no further record, bytes.
pub const LOG_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// With so many bytes in the log that are not settled, they are: carried out in the index, in one commit.
pub const LOG_UNSETTLED_BYTES: u64 = 16 * 1024 * 1024;

/// The same, for changes to keys. A batch may come on top.
pub const LOG_UNSETTLED_CHANGES_MAX: usize = 1024;

/// What was committed is settled after this wait, if there was not too much before.
pub const LOG_UNSETTLED_WAIT: Duration = Duration::from_secs(5);

/// While so many bytes more of the log are unused than used, what is in use in sparse segments is written once more.
pub const LOG_UNUSED_BYTES: u64 = 64 * 1024 * 1024;

/// Segments that are written once more in one settling. Commits wait for it.
pub const LOG_COMPACTED_PER_SETTLE: usize = 4;

/// Memory that is kept from one commit to the next to write the log with, bytes, until all is settled.
pub const LOG_RECORD_BYTES_KEPT: usize = BATCH_BYTES_MAX + 512 * 1024;

/// Bytes of the store that are read at once for a copy, and held in memory for it.
pub const COPY_PIECE_BYTES: usize = 256 * 1024;

/// The largest block of a copy, bytes: no record comes near it. What claims to be larger is damage.
pub const COPY_BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A database of up to this many bytes is read and verified as a whole when it is opened. A larger one is
/// opened in constant time, and damage in it shows when it is met.
pub const OPEN_CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A damaged database is made whole again at most so often in one run of the relay: if that doesn't help, it is
/// refused as corrupted, and the disk isn't filled with copies.
pub const SALVAGES_MAX: u32 = 3;

/// Bytes that are saved from a damaged database in one commit, and held in memory for it.
pub const SALVAGE_COMMIT_BYTES: usize = 2 * 1024 * 1024;

/// The largest page of a damaged database that is looked at, in bytes: no record comes near it. What claims to be
/// larger is damage.
pub const DAMAGED_PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The deepest tree of a damaged database that is followed; what is below is given up.
pub const DAMAGED_TREE_DEPTH_MAX: usize = 32;

/// Problems of a store that are listed one by one; of further ones there is a count.
pub const FSCK_PROBLEMS_MAX: usize = 1_000;

/// How long what the file system said of its free space is believed.
pub const DISK_LOOK_WAIT: Duration = Duration::from_secs(1);

/// The floor of free space is at most one so many-th part of the file system, so that a small one can be used too.
pub const DISK_FLOOR_PART: u64 = 16;
}
