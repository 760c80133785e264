//! Stored messages that the disk gives back damaged: none of them is delivered, and nothing waits for them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::limits::HEADER_BYTES;
use e2e_protocol::wire::session::Receive;

/// Bytes of a chunk's record before its frames.
const HEAD: usize = 12;

/// Alice has sent five messages to bob, who is away, and of whose stored record `change` makes something else.
fn damaged(change: impl Fn(&mut Vec<u8>)) -> (World, Peer) {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    world.send_all(alice, bob, 1, 5);
    world.settle();
    assert_eq!(world.results(alice), all(1, 5, "STORED"));
    world.disk.damage_chunks(bob.slot(), change);
    (world, alice)
}

/// Bytes of one of the five frames.
fn frame_bytes(record: &[u8]) -> usize {
    assert_eq!((record.len() - HEAD) % 5, 0);
    (record.len() - HEAD) / 5
}

/// Takes and acknowledges what comes.
fn take(world: &mut World, bob: Peer) -> Vec<u64> {
    world.settle();
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    delivered.iter().map(|message| message.number).collect()
}

/// Whatever was lost, the mailbox is empty once all is acknowledged, and takes what comes.
fn assert_empty(world: &mut World, alice: Peer, bob: Peer, number: u64) {
    let to = world.uid("bob");
    world.send_all(alice, to, number, number);
    assert_eq!(take(world, bob), [number]);
    world.hang_up(bob);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
    world.advance(1_000);
    world.restart();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
}

#[test]
fn goes_on_behind_a_damaged_message_and_takes_it_again() {
    let (mut world, alice) = damaged(|record| {
        let third_ends = HEAD + 3 * frame_bytes(record);
        record[third_ends - 1] ^= 1;
    });
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(take(&mut world, bob), [1, 2, 4, 5]);
    let results = world.results(alice);
    assert_eq!(results.iter().filter(|(number, word)| *number == 3 && word == "UNCERTAIN").count(), 1);
    assert_eq!(results.iter().filter(|(_, word)| word == "COLLECTED").count(), 4);
    // The same id is new.
    let to = world.uid("bob");
    world.send_all(alice, to, 3, 3);
    assert_eq!(take(&mut world, bob), [3]);
    assert_empty(&mut world, alice, bob, 6);
}

#[test]
fn gives_up_what_is_behind_a_damaged_header() {
    let (mut world, alice) = damaged(|record| {
        let second = HEAD + frame_bytes(record);
        record[second + 9] ^= 1; // its length
    });
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(take(&mut world, bob), [1]);
    assert_empty(&mut world, alice, bob, 6);
}

#[test]
fn is_not_held_up_whichever_byte_is_damaged() {
    let length = std::cell::Cell::new(0);
    drop(damaged(|record| length.set(record.len())));
    for place in (0..length.get()).step_by(5) {
        let (mut world, alice) = damaged(|record| record[place] ^= 0x10);
        let bob = world.login("bob", TAKE_OVER);
        let taken = take(&mut world, bob);
        assert!(
            taken.is_sorted() && taken.len() >= if place < HEAD { 5 } else { 0 },
            "byte {place}: {taken:?}"
        );
        let in_frame = (place.max(HEAD) - HEAD) % ((length.get() - HEAD) / 5);
        if place >= HEAD && in_frame >= HEADER_BYTES + 44 {
            assert_eq!(taken.len(), 4, "byte {place}: {taken:?}");
        }
        assert_empty(&mut world, alice, bob, 6);
    }
}

#[test]
fn is_not_held_up_by_a_record_that_is_cut_off_or_empty() {
    for length in [0, 5, HEAD, HEAD + 1, HEAD + 100] {
        let (mut world, alice) = damaged(|record| record.truncate(length));
        let bob = world.login("bob", TAKE_OVER);
        assert!(take(&mut world, bob).len() <= 1);
        assert_empty(&mut world, alice, bob, 6);
    }
}

#[test]
fn waits_for_nothing_when_the_receiver_comes_again_behind_the_damage() {
    let (mut world, alice) = damaged(|record| {
        let fourth = HEAD + 3 * frame_bytes(record);
        record[fourth] ^= 1;
    });
    let bob = world.login("bob", TAKE_OVER);
    world.settle();
    // Only the first is acknowledged: the rest is read once more.
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered[..1]);
    world.settle();
    world.hang_up(bob);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(take(&mut world, bob), [2, 3]);
    assert_empty(&mut world, alice, bob, 6);
}
