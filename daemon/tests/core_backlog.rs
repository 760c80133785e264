//! Backlogs, slow readers and stalled ones: order and exactly once on a connection, memory bounded,
//! others unharmed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::ids::Sequence;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::session::{Credit, Receive};
use e2e_relayd::reason::Reason;

/// Sends numbers `first` to `last` with envelopes of many lengths, not more than 64 at a time.
fn send_many(world: &mut World, peer: Peer, to: &str, first: u64, last: u64) {
    let to = world.uid(to);
    for number in first..=last {
        let length = usize::try_from(number * 131 % 1_900 + 8).unwrap();
        let mut envelope = vec![0xEE; length];
        envelope[..8].copy_from_slice(&number.to_be_bytes());
        world.send(peer, to, 1, number, &envelope);
        if number % 64 == 0 {
            world.settle();
        }
    }
    world.settle();
}

/// Takes and acknowledges until nothing more comes; returns the numbers.
fn drain(world: &mut World, peer: Peer) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        world.settle();
        let delivered = world.delivered(peer);
        if delivered.is_empty() {
            return numbers;
        }
        numbers.extend(delivered.iter().map(|message| message.number));
        world.ack_all(peer, &delivered);
    }
}

#[test]
fn replays_a_backlog_of_thousands_mixed_with_new_messages() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    world.claim("bob");
    send_many(&mut world, alice, "bob", 1, 3_000);
    assert_eq!(world.results(alice).len(), 3_000);
    assert_eq!(world.ring_bytes(), 0);
    let bob = world.login("bob", Receive::TakeOver(Credit { messages: 50, bytes: 40_000 }));
    world.links[bob].socket_bytes = 777;
    let mut numbers = Vec::new();
    let mut next = 3_001;
    while numbers.len() < 3_600 {
        if next <= 3_600 {
            send_many(&mut world, alice, "bob", next, next + 9);
            next += 10;
        }
        world.settle();
        let delivered = world.delivered(bob);
        assert!(!delivered.is_empty(), "it stands still at {}", numbers.len());
        numbers.extend(delivered.iter().map(|message| message.number));
        world.ack_all(bob, &delivered);
    }
    assert_eq!(numbers, (1..=3_600).collect::<Vec<_>>());
    world.settle();
    assert_eq!(world.ring_bytes(), 0);
    let results = world.results(alice);
    assert_eq!(results.iter().filter(|(_, word)| word == "COLLECTED").count(), 3_600);
}

#[test]
fn replays_the_same_backlog_to_each_connection_that_takes_over() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    world.claim("bob");
    send_many(&mut world, alice, "bob", 1, 300);
    for taken in [1, 63, 64, 65, 400, 5_000, 70_000, 200_000] {
        world.login_stalled("bob", TAKE_OVER, taken);
    }
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(drain(&mut world, bob), (1..=300).collect::<Vec<_>>());
}

#[test]
fn goes_on_from_the_store_where_a_slow_reader_was_left_behind() {
    for taken in (64..1_400).step_by(7) {
        let mut world = World::new();
        let alice = world.register("alice", Receive::No);
        let bob = world.register("bob", TAKE_OVER);
        world.links[bob].reads = false;
        world.links[bob].socket_bytes = taken;
        for number in 1..=20 {
            world.send(alice, world.uid("bob"), 1, number, &[7; 50]);
        }
        // All of it is stored; what the socket did not take comes from the store.
        world.advance(300);
        assert_eq!(world.results(alice), all(1, 20, "STORED"));
        assert_eq!(world.ring_bytes(), 0);
        for number in 21..=25 {
            world.send(alice, world.uid("bob"), 1, number, &[7; 50]);
        }
        world.settle();
        world.links[bob].socket_bytes = 97;
        world.links[bob].reads = true;
        world.settle();
        let delivered = world.delivered(bob);
        let numbers: Vec<_> = delivered.iter().map(|message| message.number).collect();
        assert_eq!(numbers, (1..=25).collect::<Vec<_>>());
        assert!(delivered.iter().all(|message| !message.redelivered));
        world.ack_all(bob, &delivered);
        world.settle();
        assert_eq!(world.results(alice), all(1, 25, "COLLECTED"));
        assert_eq!(world.ring_bytes(), 0);
    }
}

#[test]
fn says_results_between_frames_of_a_stream_that_is_written_in_pieces() {
    for piece in [1, 7, 63, 64, 65, 100] {
        let mut world = World::new();
        let alice = world.register("alice", TAKE_OVER);
        let bob = world.register("bob", TAKE_OVER);
        for peer in [alice, bob] {
            world.links[peer].socket_bytes = piece;
        }
        for round in 0..10 {
            world.send_all(alice, world.uid("bob"), round * 10 + 1, round * 10 + 10);
            world.send_all(bob, world.uid("alice"), round * 10 + 1, round * 10 + 10);
            world.turn();
            world.turn();
            for peer in [alice, bob] {
                let delivered = world.delivered(peer);
                world.ack_all(peer, &delivered);
            }
        }
        drain(&mut world, alice);
        drain(&mut world, bob);
        drain(&mut world, alice);
        assert_eq!(world.results(alice), all(1, 100, "COLLECTED"));
        assert_eq!(world.results(bob), all(1, 100, "COLLECTED"));
    }
}

#[test]
fn bounds_what_a_stalled_receiver_costs_and_closes_it() {
    let mut world = World::with_limits(|limits| {
        limits.ring_bytes_max = 4 * 1024 * 1024;
        limits.mailbox_messages_max = 5_000;
    });
    let alice = world.register("alice", Receive::No);
    let stalled = world.register("stalled", TAKE_OVER);
    let bob = world.register("bob", TAKE_OVER);
    world.links[stalled].reads = false;
    world.links[stalled].socket_bytes = 4_096;
    let mut number = 0;
    let mut most = 0;
    for round in 0..200 {
        for _ in 0..20 {
            number += 1;
            world.send(alice, world.uid("stalled"), 1, number, &[1; 1_000]);
        }
        world.send(alice, world.uid("bob"), 2, round + 1, b"for who reads");
        world.settle();
        let delivered = world.delivered(bob);
        assert_eq!(delivered.len(), 1, "bob is not harmed in round {round}");
        world.ack_all(bob, &delivered);
        world.advance(20);
        most = most.max(world.ring_bytes());
    }
    assert!(most <= 1024 * 1024 + 128 * 1024, "{most} bytes");
    world.advance(35_000);
    assert_eq!(world.links[stalled].closed, Some(Reason::LingerExpired));
    let results = world.results(alice);
    assert_eq!(results.iter().filter(|(_, word)| word == "STORED").count(), 4_000);
    assert_eq!(world.ring_bytes(), 0);
    // Who reads again gets everything.
    let again = world.login("stalled", credit(100));
    assert_eq!(drain(&mut world, again), (1..=4_000).collect::<Vec<_>>());
    assert_eq!(world.ring_bytes(), 0);
}

#[test]
fn writes_to_a_stalled_receiver_only_when_its_socket_has_room() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let stalled = world.register("stalled", TAKE_OVER);
    let bob = world.register("bob", TAKE_OVER);
    world.links[stalled].reads = false;
    world.links[stalled].socket_bytes = 100;
    world.send_all(alice, world.uid("stalled"), 1, 10);
    world.settle();
    let before = world.links[stalled].writes;
    for number in 11..=60 {
        world.send_all(alice, world.uid("bob"), number, number);
        world.settle();
    }
    assert_eq!(world.links[stalled].writes, before);
    assert_eq!(world.numbers(bob).len(), 50);
}

#[test]
fn says_slow_reader_to_who_reads_again_too_late() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    world.links[alice].reads = false;
    world.links[alice].socket_bytes = 10;
    world.send_all(alice, bob, 1, 10);
    world.advance(29_999);
    assert!(world.is_open(alice));
    world.advance(1);
    world.links[alice].reads = true;
    world.settle();
    assert_eq!(world.last_words(alice), Some(ErrorCode::SlowReader));
    assert_eq!(world.results(alice), all(1, 10, "STORED"));
}

#[test]
fn reads_no_more_from_who_leaves_its_results_unread() {
    let mut world = World::with_limits(|limits| limits.output_bytes_max = 4_096);
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    world.links[alice].reads = false;
    world.links[alice].socket_bytes = 100;
    world.links[alice].piece = 1_000;
    for number in 1..=2_000 {
        // Every other number: no two results make a range.
        world.send(alice, bob, 1, number * 2, &[1; 8]);
    }
    world.settle();
    assert!(world.links[alice].to_relay.len() > 100_000, "{}", world.links[alice].to_relay.len());
    world.links[alice].reads = true;
    world.settle();
    assert!(world.links[alice].to_relay.is_empty());
    assert_eq!(world.results(alice).len(), 2_000);
}

#[test]
fn reads_acknowledgements_while_a_backlog_waits_to_be_written() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    world.claim("bob");
    send_many(&mut world, alice, "bob", 1, 400);
    let bob = world.login_stalled("bob", TAKE_OVER, 10_000);
    assert!(world.core.may_read(world.links[bob].id));
}

#[test]
fn stores_what_a_receiver_had_whose_socket_breaks_while_written_to() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", TAKE_OVER);
    world.links[bob].broken = true;
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    assert!(!world.is_open(bob));
    assert_eq!(world.results(alice), all(1, 3, "STORED"), "without waiting for anything");
}

#[test]
fn tells_expired_in_the_turn_in_which_it_is_met() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    for number in 1..=300 {
        world.send_ttl(alice, bob, 1, number, if number > 150 { 5 } else { 0 }, &[1; 1_000]);
        if number % 60 == 0 {
            world.settle();
        }
    }
    world.settle();
    assert_eq!(world.results(alice).len(), 300);
    world.advance(5_000);
    let bob = world.login("bob", TAKE_OVER);
    world.links[bob].socket_bytes = 3_000;
    assert_eq!(drain(&mut world, bob), (1..=150).collect::<Vec<_>>());
    let results = world.results(alice);
    assert_eq!(results.iter().filter(|(_, word)| word == "EXPIRED").count(), 150);
}

#[test]
fn delivers_what_came_while_an_empty_backlog_was_read() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    world.claim("bob");
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    // What the relay takes for a backlog is gone from the disk.
    world.disk.forget_chunks(world.uid("bob").slot());
    world.restart();
    let alice = world.login("alice", Receive::No);
    world.disk.held = true;
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.disk.waiting().1, 1);
    world.disk.read(0, NOW);
    let answers = world.disk.take_answers();
    world.send_all(alice, world.uid("bob"), 4, 6);
    world.advance(250);
    world.disk.commit(usize::MAX, NOW);
    world.settle();
    assert_eq!(world.results(alice), all(4, 6, "STORED"));
    world.disk.give_answers(answers);
    world.disk.held = false;
    world.settle();
    let delivered = world.delivered(bob);
    assert_eq!(delivered.iter().map(|message| message.number).collect::<Vec<_>>(), [4, 5, 6]);
    assert!(Sequence(delivered[0].sequence) > Sequence(0));
}
