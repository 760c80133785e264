//! The most memory that a configuration can use.
//!
//! Owns: the formula. Each line is what a limit allows of something, times what one costs; the sum, and a quarter for the
//! allocator, is the ceiling. docs/protection.md explains the lines, and a test floods the real relay and looks at it from
//! outside. Must not know what happens at a limit.

use std::mem::size_of;

use e2e_protocol::ids::Uid;
use e2e_protocol::limits::{BODY_BYTES_BEFORE_LOGIN_MAX, FRAME_BYTES_MAX};

use super::budgets::DELIVERY_ROOM_BYTES;
use super::connection::PendingProof;
use super::connections::Place;
use super::lane::LaneState;
use super::mailbox::Delivery;
use super::names;
use super::rates::Act;
use super::ring::SPARE_BYTES_MAX;
use super::shares::Share;
use super::timers::Deadline;
use super::users::{Active, User};
use super::{Action, ConnId, Told};
use crate::event_loop::SOCKET_BYTES;
use crate::limits::{
    DEADLINES_SWEPT_AT, DELIVERIES_ALWAYS, Limits, PARTIAL_CAPACITY_MAX, PARTING_MAX, POOLED_BUFFERS_MAX,
    READ_BUFFER_BYTES, READ_BYTES_PER_TURN, TEXT_LINE_BYTES_MAX, TEXT_OUTPUT_BYTES, TEXT_SESSIONS_MAX,
};
use crate::store::StoredUser;
use crate::store::limits::{
    BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, ENGINE_CACHE_BYTES, LOG_UNSETTLED_CHANGES_MAX,
};

/// One line: what it is for, and its bytes.
pub type Line = (&'static str, u64);

/// The program, its libraries, its threads' stacks and the engine's own state, bytes.
const AT_REST: usize = 12 * 1024 * 1024;
/// A list grows by doubling, so that half of it may be unused.
const LIST: usize = 2;
/// Places that the smallest list or hash table has.
const SMALL_LIST: usize = 4;
/// Bytes that a hash table has for each entry, beside the entry.
const HASHED: usize = 1;
/// Bytes that a tree has for each entry, beside the entry.
const TREE: usize = 16;
/// What a request to the directory takes at most, with its answer: a PUBLISH of both parts, or the keys of a name.
const REQUEST_BYTES: usize = 3 * 4_096;
/// What is answered to the bytes that are read in one turn, before anybody looks at the sum: a LOOKUP of 41 bytes gets an
/// ENTRY of up to 101.
const ANSWERS_PER_BYTE: usize = 3;
/// A request in the store's queue, with what its changes take until they are committed.
const STORE_REQUEST_BYTES: usize = 1_024;
/// A change that is not in the store's index yet: mostly where a chunk is, at most a key of 256 bytes.
const UNSETTLED_CHANGE_BYTES: usize = 512;
/// A name and its mailbox in the trees and sets of a salvage, the name in three of them.
const MENDED_NAME_BYTES: usize = 400;
/// How often the bytes of a batch are in memory at once: in the requests, in chunks, and in the log's record, which is copied when
/// it grows; while the log is compacted, in what is read of it too.
const BATCH_COPIES: usize = 6;

/// What each part of the relay takes at most.
#[must_use]
pub fn lines(limits: &Limits) -> Vec<Line> {
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    // A hash table is a power of two of places, of which at most seven eighths are used.
    let hashed = |entry: usize| (entry + HASHED) * LIST * 8 / 7;
    let name = LIST * (size_of::<Option<User>>() + size_of::<StoredUser>())
        + hashed(size_of::<names::Entry>())
        + size_of::<Active>()
        + size_of::<LaneState>()
        + SMALL_LIST * (size_of::<(Uid, Share)>() + HASHED)
        + limits.expired_ahead_max * LIST * size_of::<u64>();
    let watch =
        hashed(size_of::<(u32, [usize; 4])>()) + hashed(size_of::<(ConnId, Vec<u32>)>()) + SMALL_LIST * 32;
    let block = LIST * size_of::<(u32, u32)>() + TREE + hashed(size_of::<(u32, usize)>());
    let of_address = hashed(size_of::<(u128, [usize; 8])>()) + LIST * size_of::<(u64, ConnId)>() + 64 + TREE;
    let connection = LIST * (size_of::<Place>() + SOCKET_BYTES)
        + of_address
        + 4 * LIST * LIST * size_of::<Deadline>()
        + 4 * LIST * size_of::<ConnId>()
        + LIST * size_of::<Action>();
    let delivery = LIST * size_of::<Delivery>() + size_of::<Delivery>();
    let deliveries = limits.deliveries_in_all_max + DELIVERIES_ALWAYS * limits.connections_max;
    let rate = hashed(size_of::<(Act, u64)>()) + LIST * size_of::<Act>();
    let appended = limits.store_in_flight_bytes_max + limits.append_bytes_max;
    vec![
        ("the program at rest", bytes(AT_REST)),
        ("names, each with a mailbox and a lane", bytes(limits.names_max.saturating_mul(name))),
        (
            "watches, blocks and shares of mailboxes",
            bytes(
                limits.watches_in_all_max * watch
                    + limits.blocks_in_all_max * block
                    + limits.shares_max * hashed(size_of::<(Uid, Share)>()),
            ),
        ),
        ("further lanes", bytes(limits.lanes_max * size_of::<LaneState>())),
        ("messages in memory", bytes(limits.ring_bytes_max + SPARE_BYTES_MAX)),
        ("connections", bytes(limits.connections_max * connection)),
        (
            "logins under way",
            bytes(
                limits.connections_before_login_max
                    * (size_of::<PendingProof>() + 2 * BODY_BYTES_BEFORE_LOGIN_MAX),
            ),
        ),
        (
            "sessions in text",
            bytes(
                2 * TEXT_SESSIONS_MAX
                    * LIST
                    * (TEXT_LINE_BYTES_MAX + 3 * TEXT_OUTPUT_BYTES + FRAME_BYTES_MAX),
            ),
        ),
        ("sockets that part", bytes(PARTING_MAX * 64)),
        (
            "begun frames",
            bytes(
                limits.partial_bytes_in_all_max
                    + (POOLED_BUFFERS_MAX + 1) * PARTIAL_CAPACITY_MAX
                    + READ_BUFFER_BYTES,
            ),
        ),
        (
            "output",
            bytes(
                limits.output_bytes_in_all_max
                    + LIST * ANSWERS_PER_BYTE * READ_BYTES_PER_TURN
                    + limits.requests_max * FRAME_BYTES_MAX
                    + POOLED_BUFFERS_MAX * 4 * FRAME_BYTES_MAX,
            ),
        ),
        (
            "backlogs on their way",
            bytes(
                (LIST * (limits.expiry_reads_max + 1))
                    .saturating_mul(limits.replay_bytes + limits.append_bytes_max)
                    .saturating_add(limits.replay_bytes_in_all_max),
            ),
        ),
        ("deliveries without an acknowledgement", bytes(deliveries * delivery + DELIVERY_ROOM_BYTES)),
        ("rates", bytes(limits.rates_max * rate)),
        ("deadlines", bytes(LIST * DEADLINES_SWEPT_AT * size_of::<Deadline>())),
        ("requests to the directory", bytes(limits.requests_max * REQUEST_BYTES)),
        (
            "roll-overs",
            bytes(
                limits
                    .roll_overs_max
                    .saturating_mul(REQUEST_BYTES + limits.held_notices_max * size_of::<Told>() * LIST),
            ),
        ),
        ("appends on their way to the disk", bytes(appended)),
        (
            "the store's batch and cache",
            bytes(
                BATCH_COPIES * BATCH_BYTES_MAX
                    + BATCH_REQUESTS_MAX * STORE_REQUEST_BYTES
                    + LIST * ENGINE_CACHE_BYTES,
            ),
        ),
        (
            "changes that are not in the store's index yet",
            bytes(
                4 * LOG_UNSETTLED_CHANGES_MAX * UNSETTLED_CHANGE_BYTES
                    + BATCH_REQUESTS_MAX * STORE_REQUEST_BYTES,
            ),
        ),
        ("acknowledgements for the store", bytes(limits.names_max * 3 * 64)),
        // Its commits and its pages take the place of the batch and the cache.
        ("names and mailboxes while a damaged store is mended", bytes(limits.names_max * MENDED_NAME_BYTES)),
    ]
}

/// The sum of all lines, and a quarter more: what the allocator needs for itself and can't give back in between.
#[must_use]
pub fn bytes_max(limits: &Limits) -> u64 {
    (sum(&lines(limits)) / 4).saturating_mul(5)
}

/// The sum of these lines. Where one limit is multiplied by another, and both are as high as may be, it is all that a number holds.
#[must_use]
pub fn sum(lines: &[Line]) -> u64 {
    lines.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LIMIT_VALUE_MAX;

    #[test]
    fn is_not_less_where_limits_are_as_high_as_may_be() {
        let mut limits = Limits::default();
        for (name, ..) in Limits::default().described() {
            // Those of a smaller type can't be so much.
            let _ = limits.set(name, LIMIT_VALUE_MAX);
        }
        assert_eq!(bytes_max(&limits), u64::MAX);
        assert!(!crate::limits_page::page(&limits).is_empty());
    }
}
