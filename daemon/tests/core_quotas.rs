//! What a sender may have waiting, and what is known of ids (spec/wire.md, section 5).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::ids::{Lane, Number};
use e2e_protocol::wire::query::{IdState, Query};
use e2e_protocol::wire::session::Receive;

/// Bytes of a frame whose envelope has 36 bytes.
const FRAME: u64 = 100;
const ENVELOPE: [u8; 36] = [7; 36];

fn send(world: &mut World, peer: Peer, to: &str, lane: u64, number: u64) {
    let to = world.uid(to);
    world.send(peer, to, lane, number, &ENVELOPE);
    world.settle();
}

fn words(world: &mut World, peer: Peer) -> Vec<String> {
    world.results(peer).into_iter().map(|(_, word)| word).collect()
}

/// Two senders and one who is away.
fn world(change: impl FnOnce(&mut e2e_relayd::limits::Limits)) -> (World, Peer, Peer) {
    let mut world = World::with_limits(change);
    world.claim("bob");
    world.claim("carol");
    let alice = world.register("alice", Receive::No);
    let mallory = world.register("mallory", Receive::No);
    (world, alice, mallory)
}

#[test]
fn one_sender_fills_no_more_than_a_share_of_a_mailbox() {
    let (mut world, alice, mallory) = world(|limits| limits.share_bytes_max = 3 * FRAME);
    for number in 1..=4 {
        send(&mut world, mallory, "bob", 1, number);
    }
    assert_eq!(words(&mut world, mallory), ["STORED", "STORED", "STORED", "SHARE_FULL"]);
    send(&mut world, alice, "bob", 1, 1);
    assert_eq!(words(&mut world, alice), ["STORED"], "another's share is free");
    send(&mut world, mallory, "carol", 1, 5);
    assert_eq!(words(&mut world, mallory), ["STORED"], "and so is one's share of another mailbox");
    // Each acknowledgement gives back what it deletes.
    let bob = world.login("bob", credit(1));
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    send(&mut world, mallory, "bob", 1, 6);
    send(&mut world, mallory, "bob", 1, 7);
    world.advance(1_000);
    assert!(world.results(mallory).contains(&(7, "SHARE_FULL".to_owned())));
}

#[test]
fn many_small_messages_are_a_share_too() {
    let (mut world, alice, mallory) = world(|limits| limits.share_messages_max = 2);
    for number in 1..=3 {
        send(&mut world, mallory, "bob", 1, number);
    }
    assert_eq!(words(&mut world, mallory), ["STORED", "STORED", "SHARE_FULL"]);
    send(&mut world, alice, "bob", 1, 1);
    assert_eq!(words(&mut world, alice), ["STORED"]);
}

#[test]
fn one_sender_has_no_more_than_a_quota_waiting_in_all_mailboxes() {
    let (mut world, alice, mallory) = world(|limits| limits.sender_bytes_max = 2 * FRAME);
    send(&mut world, mallory, "bob", 1, 1);
    send(&mut world, mallory, "carol", 1, 2);
    send(&mut world, mallory, "bob", 1, 3);
    send(&mut world, mallory, "alice", 1, 4);
    assert_eq!(words(&mut world, mallory), ["STORED", "STORED", "QUOTA_FULL", "QUOTA_FULL"]);
    send(&mut world, alice, "bob", 1, 1);
    assert_eq!(words(&mut world, alice), ["STORED"]);
    let carol = world.login("carol", TAKE_OVER);
    let delivered = world.delivered(carol);
    world.ack_all(carol, &delivered);
    world.settle();
    assert_eq!(words(&mut world, mallory), ["COLLECTED"]);
    send(&mut world, mallory, "bob", 1, 5);
    assert_eq!(words(&mut world, mallory), ["STORED"]);
}

#[test]
fn what_expires_is_given_back() {
    let (mut world, _, mallory) = world(|limits| limits.sender_bytes_max = FRAME);
    let to = world.uid("bob");
    world.send_ttl(mallory, to, 1, 1, 1, &ENVELOPE);
    world.settle();
    world.advance(2_000);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.delivered(bob).len(), 0);
    assert_eq!(words(&mut world, mallory), ["STORED", "EXPIRED"]);
    send(&mut world, mallory, "bob", 1, 2);
    assert_eq!(world.delivered(bob).len(), 1);
}

#[test]
fn quotas_hold_across_a_restart() {
    let change = |limits: &mut e2e_relayd::limits::Limits| {
        limits.share_bytes_max = 2 * FRAME;
        limits.sender_bytes_max = 3 * FRAME;
    };
    let (mut world, _, mallory) = world(change);
    send(&mut world, mallory, "bob", 1, 1);
    send(&mut world, mallory, "bob", 1, 2);
    send(&mut world, mallory, "carol", 1, 3);
    assert_eq!(words(&mut world, mallory), ["STORED"; 3]);
    world.restart();
    let mallory = world.login("mallory", Receive::No);
    send(&mut world, mallory, "carol", 2, 1);
    assert_eq!(words(&mut world, mallory), ["QUOTA_FULL"]);
    let carol = world.login("carol", TAKE_OVER);
    let delivered = world.delivered(carol);
    world.ack_all(carol, &delivered);
    world.settle();
    send(&mut world, mallory, "bob", 2, 2);
    send(&mut world, mallory, "carol", 2, 3);
    assert!(world.results(mallory).contains(&(2, "SHARE_FULL".to_owned())));
    assert_eq!(world.delivered(carol).len(), 1);
    // What was acknowledged stays so.
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    world.advance(1_000);
    world.restart();
    let mallory = world.login("mallory", Receive::No);
    send(&mut world, mallory, "bob", 3, 1);
    send(&mut world, mallory, "bob", 3, 2);
    assert_eq!(words(&mut world, mallory), ["STORED"; 2]);
}

#[test]
fn what_could_not_be_stored_is_given_back() {
    let (mut world, _, mallory) = world(|limits| limits.sender_bytes_max = FRAME);
    world.disk.fail(true);
    send(&mut world, mallory, "bob", 1, 1);
    assert_eq!(words(&mut world, mallory), ["UNCERTAIN"]);
    world.disk.fail(false);
    world.advance(2_000);
    send(&mut world, mallory, "bob", 1, 1);
    assert_eq!(words(&mut world, mallory), ["STORED"]);
}

#[test]
fn says_what_is_known_of_ids_and_changes_nothing() {
    let mut world = World::new();
    world.claim("bob");
    world.claim("carol");
    let alice = world.register("alice", Receive::No);
    let (to_bob, to_carol) = (world.uid("bob"), world.uid("carol"));
    world.send(alice, to_bob, 1, 3, b"stored");
    world.settle();
    let carol = world.login("carol", TAKE_OVER);
    world.send(alice, to_carol, 1, 4, b"collected");
    world.settle();
    let delivered = world.delivered(carol);
    world.ack_all(carol, &delivered);
    world.send(alice, to_carol, 1, 6, b"waiting");
    world.settle();
    let other = world.login("alice", Receive::No);
    let query =
        |request, lane, first, count| Query { request, lane: Lane(lane), first: Number(first), count };
    world.put(other, |out| query(8, 1, 2, 6).emit(out));
    world.put(other, |out| query(9, 2, 3, 1).emit(out));
    world.put(other, |out| query(10, 1, u64::MAX, 1).emit(out));
    world.settle();
    let expected = [
        (2, IdState::Unknown),
        (3, IdState::Stored),
        (4, IdState::Done),
        (5, IdState::Unknown),
        (6, IdState::Waiting),
        (7, IdState::Unknown),
    ];
    let states = std::mem::take(&mut world.links[other].states);
    assert_eq!(states[0], (8, expected.to_vec()));
    assert_eq!(states[1], (9, vec![(3, IdState::Unknown)]), "another lane");
    assert_eq!(states[2], (10, vec![(u64::MAX, IdState::Unknown)]));
    // Results still go to the connection that sends in the lane.
    world.results(alice);
    world.advance(1_000);
    assert_eq!(world.results(alice), all(6, 6, "STORED"));
    assert_eq!(world.results(other), []);
    world.put(carol, |out| query(11, 1, 3, 1).emit(out));
    world.settle();
    assert_eq!(world.links[carol].states, [(11, vec![(3, IdState::Unknown)])], "somebody else's lane");
    world.restart();
    let alice = world.login("alice", Receive::No);
    world.put(alice, |out| query(12, 1, 3, 1).emit(out));
    world.settle();
    assert_eq!(world.links[alice].states, [(12, vec![(3, IdState::Unknown)])], "no longer remembered");
}

#[test]
fn uncertain_message_that_is_collected_after_all_is_remembered() {
    let mut world = World::new();
    world.claim("bob");
    let alice = world.register("alice", Receive::No);
    let bob = world.login("bob", TAKE_OVER);
    let to = world.uid("bob");
    world.disk.fail(true);
    world.send(alice, to, 1, 1, b"x");
    world.advance(1_000);
    assert_eq!(world.results(alice), all(1, 1, "UNCERTAIN"));
    let query = Query { request: 1, lane: Lane(1), first: Number(1), count: 1 };
    world.put(alice, |out| query.emit(out));
    world.settle();
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 1, "COLLECTED"));
    world.disk.fail(false);
    world.put(alice, |out| query.emit(out));
    world.send(alice, to, 1, 1, b"x");
    world.settle();
    assert_eq!(world.links[alice].states, [(1, vec![(1, IdState::Unknown)]), (1, vec![(1, IdState::Done)])]);
    assert_eq!(world.results(alice), all(1, 1, "DONE"));
    assert_eq!(world.delivered(bob), [], "it is not delivered again");
}

#[test]
fn live_messages_one_after_the_other_use_up_no_account() {
    let mut world = World::with_limits(|limits| limits.shares_max = 2);
    let bob = world.register("bob", TAKE_OVER);
    let alice = world.register("alice", Receive::No);
    let to = world.uid("bob");
    for number in 1..=20 {
        world.send(alice, to, 1, number, &ENVELOPE);
        world.settle();
        let delivered = world.delivered(bob);
        world.ack_all(bob, &delivered);
        world.settle();
    }
    assert_eq!(world.results(alice), all(1, 20, "COLLECTED"));
    assert!(world.core.accounts_fit());
}
