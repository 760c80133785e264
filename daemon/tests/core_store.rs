//! The core over a store that fails, is slow, or is stopped: what is promised is kept, and nothing else
//! is promised (spec/wire.md, section 5).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_relayd::limits::Limits;

/// Alice sends, bob receives or is away.
fn pair(receive: Option<Receive>) -> (World, Peer, Peer) {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", receive.unwrap_or(Receive::No));
    if receive.is_none() {
        world.hang_up(bob);
    }
    (world, alice, bob)
}

fn words(results: &[(u64, String)], word: &str) -> Vec<u64> {
    results.iter().filter(|(_, known)| known == word).map(|(number, _)| *number).collect()
}

#[test]
fn says_stored_only_once_it_is_on_the_disk() {
    let (mut world, alice, _) = pair(None);
    world.disk.held = true;
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.advance(5_000);
    assert_eq!(world.results(alice), []);
    world.restart();
    world.disk.held = false;
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
}

#[test]
fn refuses_untried_while_the_store_fails_and_takes_again_later() {
    let (mut world, alice, _) = pair(None);
    world.disk.fail(true);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    assert_eq!(world.results(alice), all(1, 1, "UNCERTAIN"));
    world.send_all(alice, world.uid("bob"), 2, 2);
    world.settle();
    assert_eq!(world.links[alice].results[0].retry_after, 1);
    assert_eq!(world.results(alice), all(2, 2, "STORE_FAILED"));
    world.disk.fail(false);
    world.advance(1_000);
    world.send_all(alice, world.uid("bob"), 1, 2);
    world.settle();
    assert_eq!(world.results(alice), all(1, 2, "STORED"));
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 2);
    world.settle();
    assert_eq!(world.numbers(bob), [1, 2]);
}

#[test]
fn refuses_what_was_not_yet_given_to_a_store_that_failed() {
    let (mut world, alice, _) = pair(None);
    world.disk.held = true;
    for number in 1..=20 {
        world.send(alice, world.uid("bob"), 1, number, &[7; 16_000]);
    }
    world.settle();
    world.disk.fail(true);
    world.disk.held = false;
    world.settle();
    let results = world.results(alice);
    let (uncertain, refused) = (words(&results, "UNCERTAIN"), words(&results, "STORE_FAILED"));
    assert_eq!(uncertain.len() + refused.len(), 20);
    assert!(!uncertain.is_empty() && !refused.is_empty());
    assert_eq!(world.ring_bytes(), 0, "what was let go takes no memory");
    world.disk.fail(false);
    world.advance(2_000);
    let bob = world.login("bob", TAKE_OVER);
    world.settle();
    assert_eq!(world.numbers(bob), []);
}

#[test]
fn goes_on_with_live_messages_while_the_store_fails() {
    let (mut world, alice, bob) = pair(Some(TAKE_OVER));
    world.disk.fail(true);
    for round in 0..10 {
        world.send_all(alice, world.uid("bob"), round * 5 + 1, round * 5 + 5);
        world.settle();
        let delivered = world.delivered(bob);
        assert_eq!(delivered.len(), 5);
        world.ack_all(bob, &delivered);
        world.advance(150);
    }
    assert_eq!(world.results(alice), all(1, 50, "COLLECTED"));
}

#[test]
fn says_uncertain_once_and_collected_when_it_arrived() {
    let (mut world, alice, bob) = pair(Some(TAKE_OVER));
    world.disk.fail(true);
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.advance(10_000);
    assert_eq!(world.results(alice), all(1, 3, "UNCERTAIN"));
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 3, "COLLECTED"));
    assert_eq!(world.ring_bytes(), 0);
}

#[test]
fn says_nothing_but_collected_after_uncertain() {
    let (mut world, alice, bob) = pair(Some(TAKE_OVER));
    world.disk.fail(true);
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.advance(1_500);
    assert_eq!(world.results(alice), all(1, 3, "UNCERTAIN"));
    world.disk.fail(false);
    world.advance(5_000);
    assert_eq!(world.results(alice), []);
    assert_eq!(world.ring_bytes(), 0, "it is stored all the same");
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 3, "COLLECTED"));
}

#[test]
fn says_uncertain_once_to_who_waits_behind_a_replaced_receiver() {
    let (mut world, alice, _) = pair(Some(TAKE_OVER));
    world.send_all(alice, world.uid("bob"), 1, 9);
    world.settle();
    world.disk.fail(true);
    // The new one is offered only the first, but the old one had them all.
    let new = world.login("bob", credit(1));
    world.advance(10_000);
    assert_eq!(world.results(alice), all(1, 9, "UNCERTAIN"));
    for number in 1..=9 {
        let delivered = world.delivered(new);
        assert_eq!(delivered[0].number, number);
        world.ack_all(new, &delivered);
        world.settle();
    }
    assert_eq!(world.results(alice), all(1, 9, "COLLECTED"));
}

#[test]
fn lets_go_of_what_is_uncertain_when_nobody_receives_any_more() {
    let (mut world, alice, bob) = pair(Some(TAKE_OVER));
    world.disk.fail(true);
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.advance(1_500);
    world.hang_up(bob);
    world.advance(2_000);
    assert_eq!(world.results(alice), all(1, 3, "UNCERTAIN"));
    assert_eq!(world.ring_bytes(), 0);
    world.disk.fail(false);
    world.advance(2_000);
    world.send_all(alice, world.uid("bob"), 1, 4);
    world.settle();
    assert_eq!(world.results(alice), all(1, 4, "STORED"));
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 4);
    world.settle();
    assert_eq!(world.numbers(bob), [1, 2, 3, 4]);
}

#[test]
fn counts_right_when_part_of_a_failed_append_was_acknowledged_meanwhile() {
    let (mut world, alice, bob) = pair(Some(TAKE_OVER));
    world.send_all(alice, world.uid("bob"), 1, 6);
    world.settle();
    let delivered = world.delivered(bob);
    world.disk.held = true;
    world.advance(250);
    assert_eq!(world.disk.waiting().0, 1);
    world.ack_all(bob, &delivered[..3]);
    world.settle();
    world.disk.fail(true);
    world.disk.commit(usize::MAX, NOW);
    world.settle();
    let results = world.results(alice);
    assert_eq!(words(&results, "COLLECTED"), [1, 2, 3]);
    assert_eq!(words(&results, "UNCERTAIN"), [4, 5, 6]);
    world.disk.fail(false);
    world.disk.held = false;
    world.advance(2_000);
    world.ack_all(bob, &delivered[3..5]);
    world.settle();
    world.restart();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 1);
    world.settle();
    assert_eq!(world.numbers(bob), [6]);
}

#[test]
fn collects_while_the_append_is_under_way() {
    let (mut world, alice, bob) = pair(Some(TAKE_OVER));
    world.send_all(alice, world.uid("bob"), 1, 4);
    world.settle();
    let delivered = world.delivered(bob);
    world.disk.held = true;
    world.advance(250);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 4, "COLLECTED"));
    world.disk.held = false;
    world.settle();
    assert_eq!(world.results(alice), []);
    world.restart();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
    world.settle();
    assert_eq!(world.delivered(bob), []);
}

#[test]
fn takes_over_while_the_append_is_under_way() {
    let (mut world, alice, bob) = pair(Some(credit(2)));
    world.send_all(alice, world.uid("bob"), 1, 5);
    world.settle();
    assert_eq!(world.numbers(bob), [1, 2]);
    world.disk.held = true;
    world.advance(250);
    let new = world.login("bob", TAKE_OVER);
    world.settle();
    world.disk.held = false;
    world.settle();
    let delivered = world.delivered(new);
    let seen: Vec<_> = delivered.iter().map(|message| (message.number, message.redelivered)).collect();
    assert_eq!(seen, [(1, true), (2, true), (3, false), (4, false), (5, false)]);
    world.ack_all(new, &delivered);
    world.settle();
    assert_eq!(world.results(alice), [all(1, 5, "STORED"), all(1, 5, "COLLECTED")].concat());
}

#[test]
fn delivers_once_what_a_backlog_shows_before_it_is_known_to_be_stored() {
    let (mut world, alice, _) = pair(None);
    world.disk.held = true;
    for (first, last) in [(1, 3), (4, 6)] {
        world.send_all(alice, world.uid("bob"), first, last);
        world.settle();
    }
    // The first part is known to be stored while the second lies behind it in memory.
    world.disk.commit(1, NOW);
    world.settle();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.disk.waiting(), (1, 1));
    world.disk.commit(1, NOW);
    world.disk.read_and_overtake(0, NOW);
    let mut answers = world.disk.take_answers();
    let appended = answers.split_off(1);
    for answers in [answers, appended] {
        world.disk.give_answers(answers);
        world.settle();
    }
    world.disk.held = false;
    world.settle();
    let delivered = world.delivered(bob);
    let numbers: Vec<_> = delivered.iter().map(|message| message.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), [all(1, 6, "STORED"), all(1, 6, "COLLECTED")].concat());
    assert_eq!(world.ring_bytes(), 0);
}

#[test]
fn reads_a_backlog_again_that_could_not_be_read() {
    let (mut world, alice, _) = pair(None);
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    world.disk.fail_reads(true);
    let bob = world.login("bob", TAKE_OVER);
    for number in 4..=50 {
        world.send_all(alice, world.uid("bob"), number, number);
        world.settle();
    }
    let reads = world.disk.log.iter().filter(|word| **word == "read").count();
    assert_eq!(reads, 1, "it is not asked again at once");
    world.disk.fail_reads(false);
    world.advance(1_000);
    assert_eq!(world.numbers(bob), (1..=50).collect::<Vec<_>>());
}

#[test]
fn counts_no_more_what_a_backlog_turns_out_not_to_hold() {
    let (mut world, alice, _) = pair(None);
    world.send_all(alice, world.uid("bob"), 1, 2);
    world.settle();
    world.disk.forget_chunks(world.uid("bob").slot());
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 2);
    world.settle();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
    world.restart();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
    // And what comes then is counted as ever.
    let alice = world.login("alice", Receive::No);
    world.send_all(alice, world.uid("bob"), 3, 3);
    world.advance(1_000);
    assert_eq!(world.numbers(bob), [3]);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 1);
}

#[test]
fn harms_nobody_else_when_one_backlog_cannot_be_read() {
    let (mut world, alice, _) = pair(None);
    let carol = world.claim("carol");
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    world.results(alice);
    world.disk.damage_chunks(world.uid("bob").slot(), |record| record.truncate(5));
    world.login("bob", TAKE_OVER);
    world.advance(5_500);
    world.send_all(alice, carol, 4, 4);
    world.settle();
    assert_eq!(world.results(alice), all(4, 4, "STORED"));
}

#[test]
fn refuses_a_name_that_cannot_be_stored_and_gives_it_later() {
    let mut world = World::new();
    world.disk.fail(true);
    let alice = world.try_login("alice", Purpose::Register, Receive::No);
    assert_eq!(world.last_words(alice), Some(ErrorCode::StoreFailed));
    let untried = world.try_login("alice", Purpose::Register, Receive::No);
    assert_eq!(world.last_words(untried), Some(ErrorCode::StoreFailed));
    assert_eq!(world.core.counts().0, 0);
    world.disk.fail(false);
    world.advance(1_000);
    world.register("alice", Receive::No);
}

// Stop.

#[test]
fn stores_everything_before_it_stops() {
    let mut world = World::with(
        Limits { append_bytes_max: 4_096, ..Limits::default() },
        e2e_relayd::core::Policy::default(),
    );
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", credit(20));
    for number in 1..=64 {
        world.send(alice, world.uid("bob"), 1, number, &[7; 1_000]);
    }
    world.settle();
    assert_eq!(world.numbers(bob).len(), 20);
    world.core.handle_stop();
    world.turn();
    world.settle();
    assert!(world.core.is_stopped());
    assert_eq!(world.last_words(alice), Some(ErrorCode::Restarting));
    assert_eq!(world.last_words(bob), Some(ErrorCode::Restarting));
    assert_eq!(world.results(alice), all(1, 64, "STORED"));
    world.restart();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 64);
    world.settle();
    assert_eq!(world.numbers(bob), (1..=64).collect::<Vec<_>>());
}

#[test]
fn stops_while_an_append_is_under_way() {
    let (mut world, alice, bob) = pair(Some(TAKE_OVER));
    world.send_all(alice, world.uid("bob"), 1, 2);
    world.disk.held = true;
    world.advance(250);
    world.send_all(alice, world.uid("bob"), 3, 4);
    world.settle();
    world.core.handle_stop();
    world.turn();
    world.settle();
    assert!(!world.core.is_stopped());
    assert!(world.is_open(bob));
    world.disk.held = false;
    world.settle();
    assert!(world.core.is_stopped());
    assert_eq!(world.results(alice), all(1, 4, "STORED"));
}

#[test]
fn stops_in_time_though_the_store_never_answers() {
    let (mut world, alice, _) = pair(Some(TAKE_OVER));
    world.send_all(alice, world.uid("bob"), 1, 2);
    world.settle();
    world.disk.held = true;
    world.core.handle_stop();
    world.turn();
    world.advance(9_999);
    assert!(!world.core.is_stopped());
    world.advance(1);
    assert!(world.core.is_stopped());
}

#[test]
fn stops_in_time_though_connections_keep_coming() {
    let (mut world, alice, _) = pair(Some(TAKE_OVER));
    world.links[alice].reads = false;
    world.links[alice].socket_bytes = 1;
    world.core.handle_stop();
    world.turn();
    world.settle();
    for _ in 0..30 {
        let peer = world.connect();
        world.links[peer].reads = false;
        world.links[peer].socket_bytes = 1;
        world.advance(500);
    }
    assert!(world.core.is_stopped());
}

#[test]
fn stores_nothing_twice_that_is_queued_for_the_store() {
    let (mut world, alice, _) = pair(None);
    world.disk.held = true;
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    for number in 4..=9 {
        world.send_all(alice, world.uid("bob"), number, number);
        world.settle();
    }
    assert_eq!(world.disk.waiting().0, 1, "one append of a mailbox at a time");
    world.disk.held = false;
    world.settle();
    assert_eq!(world.results(alice), all(1, 9, "STORED"));
}
