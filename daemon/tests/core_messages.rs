//! Messages through the core: results, order, credit, replacement, repeated ids (spec/wire.md,
//! sections 4 to 6).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::ids::{Receipt, Uid};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::session::{Credit, Receive};
use e2e_protocol::wire::transfer::ResultCode;

/// Alice sends, bob receives.
fn pair(receive: Receive) -> (World, Peer, Peer) {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", receive);
    (world, alice, bob)
}

// Live.

#[test]
fn delivers_live_and_hands_the_receipt_back() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.now.relay_ms += 5;
    world.send(alice, world.uid("bob"), 7, 1, b"hello");
    world.settle();
    assert_eq!(world.results(alice), []);
    let delivered = world.delivered(bob);
    let [message] = delivered.as_slice() else { panic!("{delivered:?}") };
    assert_eq!(message.envelope, b"hello");
    assert_eq!((message.lane, message.number), (7, 1));
    assert_eq!(message.peer, world.uid("alice"));
    assert_eq!(message.time_ms, NOW + 5);
    assert_eq!(message.ttl_seconds, 2_592_000);
    assert!(!message.redelivered);
    world.ack(bob, message.sequence, &[receipt(1)]);
    world.settle();
    assert_eq!(world.links[alice].results[0].receipt, Some(receipt(1)));
    assert_eq!(world.results(alice), all(1, 1, "COLLECTED"));
    assert_eq!(world.ring_bytes(), 0);
    assert!(!world.disk.log.contains(&"append"), "what is collected at once never meets the disk");
}

#[test]
fn says_collected_in_ranges_for_acknowledgements_in_ranges() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 60);
    world.settle();
    let first = world.links[bob].delivered[0].sequence;
    assert_eq!(world.numbers(bob), (1..=60).collect::<Vec<_>>());
    let receipts: Vec<_> = (1..=60).map(receipt).collect();
    world.ack(bob, first, &receipts);
    world.settle();
    assert_eq!(world.links[alice].result_frames, 1);
    assert!(world.links[alice].results.iter().all(|told| told.receipt == Some(receipt(told.number))));
    assert_eq!(world.results(alice), all(1, 60, "COLLECTED"));
}

#[test]
fn splits_a_range_of_results_at_512() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 600);
    world.settle();
    let deliveries = world.delivered(bob);
    let receipts: Vec<_> = (1..=600).map(receipt).collect();
    world.ack(bob, deliveries[0].sequence, &receipts[..512]);
    world.ack(bob, deliveries[512].sequence, &receipts[512..]);
    world.settle();
    assert_eq!(world.links[alice].result_frames, 2);
    assert_eq!(world.results(alice), all(1, 600, "COLLECTED"));
}

#[test]
fn keeps_the_order_of_each_sender_whatever_the_pieces() {
    let mut world = World::new();
    let bob = world.register("bob", TAKE_OVER);
    let senders: Vec<_> = ["a", "b", "c"].iter().map(|who| world.register(who, Receive::No)).collect();
    for (index, sender) in senders.iter().enumerate() {
        world.links[*sender].piece = 1 + index * 37;
        world.send_all(*sender, world.uid("bob"), 1, 50);
    }
    world.links[bob].socket_bytes = 11;
    world.settle();
    let delivered = world.delivered(bob);
    assert_eq!(delivered.len(), 150);
    for who in ["a", "b", "c"] {
        let uid = world.uid(who);
        let numbers: Vec<_> =
            delivered.iter().filter(|message| message.peer == uid).map(|message| message.number).collect();
        assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    }
}

#[test]
fn delivers_to_oneself() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    world.send_all(alice, world.uid("alice"), 1, 3);
    world.settle();
    let delivered = world.delivered(alice);
    world.ack_all(alice, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 3, "COLLECTED"));
}

// Acknowledgements that are none.

#[test]
fn refuses_bad_acks() {
    type Wrong = fn(&[core_common::link::Delivered]) -> (u64, usize);
    let wrong: [Wrong; 5] = [
        |delivered| (delivered[1].sequence, 1), // leaves out the oldest
        |delivered| (delivered[0].sequence, 4), // more than was delivered
        |_| (0, 1),
        |_| (u64::MAX, 2),
        |delivered| (delivered[2].sequence + 1, 1), // never delivered
    ];
    for make in wrong {
        let (mut world, alice, bob) = pair(TAKE_OVER);
        world.send_all(alice, world.uid("bob"), 1, 3);
        world.settle();
        let delivered = world.delivered(bob);
        let (first, count) = make(&delivered);
        world.ack(bob, first, &vec![Receipt::ZERO; count]);
        world.settle();
        assert_eq!(world.last_words(bob), Some(ErrorCode::BadAck));
        assert!(!world.is_open(bob));
        assert!(world.is_open(alice));
    }
}

#[test]
fn refuses_an_ack_said_twice() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    let first = world.delivered(bob)[0].sequence;
    world.ack(bob, first, &[receipt(1)]);
    world.ack(bob, first, &[receipt(1)]);
    world.settle();
    assert_eq!(world.last_words(bob), Some(ErrorCode::BadAck));
    assert_eq!(world.results(alice)[0], (1, "COLLECTED".into()));
}

#[test]
fn refuses_an_ack_on_a_connection_that_does_not_receive() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    let other = world.login("bob", Receive::No);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    let first = world.delivered(bob)[0].sequence;
    world.ack(other, first, &[receipt(1)]);
    world.settle();
    assert_eq!(world.last_words(other), Some(ErrorCode::BadAck));
    assert!(world.is_open(bob));
}

#[test]
fn refuses_an_ack_of_what_the_socket_has_not_taken() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.links[bob].reads = false;
    world.links[bob].socket_bytes = 100;
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    world.links[bob].reads = true;
    world.links[bob].read();
    world.links[bob].reads = false;
    let first = world.delivered(bob)[0].sequence;
    world.ack(bob, first, &[receipt(1), receipt(2), receipt(3)]);
    world.settle();
    world.links[bob].reads = true;
    world.settle();
    assert_eq!(world.last_words(bob), Some(ErrorCode::BadAck));
}

// Credit.

#[test]
fn delivers_no_more_messages_than_the_credit() {
    let (mut world, alice, bob) = pair(credit(3));
    world.send_all(alice, world.uid("bob"), 1, 10);
    world.settle();
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let delivered = world.delivered(bob);
        assert_eq!(delivered.len(), 3.min(10 - seen.len()));
        seen.extend(delivered.iter().map(|message| message.number));
        world.ack_all(bob, &delivered);
        world.settle();
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
}

#[test]
fn delivers_no_more_bytes_than_the_credit() {
    let (mut world, alice, bob) = pair(Receive::TakeOver(Credit { messages: 100, bytes: 16_448 }));
    for number in 1..=4 {
        world.send(alice, world.uid("bob"), 1, number, &[7; 8_160]); // 8,224 in all: two fill the credit
    }
    world.send(alice, world.uid("bob"), 1, 5, &[7; 16_384]);
    for expected in [vec![1, 2], vec![3, 4], vec![5]] {
        world.settle();
        let delivered = world.delivered(bob);
        assert_eq!(delivered.iter().map(|message| message.number).collect::<Vec<_>>(), expected);
        world.ack_all(bob, &delivered);
    }
}

// Offline, and the ack wait.

#[test]
fn stores_for_who_is_away_and_collects_later() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.hang_up(bob);
    world.send_all(alice, world.uid("bob"), 1, 5);
    world.settle();
    assert_eq!(world.links[alice].result_frames, 1);
    assert_eq!(world.results(alice), all(1, 5, "STORED"));
    assert_eq!(world.ring_bytes(), 0);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 5);
    assert!(world.links[bob].welcome.unwrap().receiving);
    world.settle();
    let delivered = world.delivered(bob);
    assert_eq!(delivered.iter().map(|message| message.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 5, "COLLECTED"));
    world.hang_up(bob);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
    assert_eq!(world.delivered(bob), []);
}

#[test]
fn puts_a_notice_into_the_mailbox_of_a_sender_who_is_gone() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.hang_up(bob);
    world.send_all(alice, world.uid("bob"), 1, 2);
    world.settle();
    world.hang_up(alice);
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    let alice = world.login("alice", TAKE_OVER);
    assert_eq!(world.links[alice].welcome.unwrap().queued, 2);
    world.settle();
    let notices = world.delivered(alice);
    assert_eq!(notices.len(), 2);
    for (number, notice) in (1..).zip(&notices) {
        assert_eq!(notice.notice, Some((ResultCode::Collected, receipt(number))));
        assert_eq!((notice.lane, notice.number, notice.peer), (1, number, world.uid("bob")));
        assert_eq!(notice.ttl_seconds, 2_592_000);
    }
    world.ack_all(alice, &notices);
    world.settle();
    world.hang_up(alice);
    let alice = world.login("alice", TAKE_OVER);
    assert_eq!(world.links[alice].welcome.unwrap().queued, 0);
}

#[test]
fn tells_the_connection_that_used_the_lane_last() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 1);
    let second = world.login("alice", Receive::No);
    world.send_all(second, world.uid("bob"), 2, 2);
    world.settle();
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), []);
    assert_eq!(world.results(second), all(1, 2, "COLLECTED"));
}

#[test]
fn stores_what_is_not_acknowledged_within_the_ack_wait() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.advance(199);
    assert_eq!(world.results(alice), []);
    world.advance(1);
    assert_eq!(world.results(alice), all(1, 3, "STORED"));
    let delivered = world.delivered(bob);
    assert_eq!(delivered.len(), 3);
    world.advance(1_000);
    assert_eq!(world.delivered(bob), [], "it is not sent twice");
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 3, "COLLECTED"));
    world.restart();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
}

#[test]
fn keeps_what_is_stored_across_a_restart_and_gives_no_sequence_twice() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    let before = world.delivered(bob);
    world.advance(300);
    assert_eq!(world.results(alice), all(1, 3, "STORED"));
    world.ack_all(bob, &before[..1]);
    world.settle();
    world.restart();

    let alice = world.login("alice", TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 4, 5);
    world.settle();
    assert_eq!(world.results(alice), all(4, 5, "STORED"));
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 4);
    world.settle();
    let after = world.delivered(bob);
    assert_eq!(after.iter().map(|message| message.number).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(after[0].sequence, before[1].sequence);
    assert!(after[2].sequence > before[2].sequence);
    world.send_all(alice, world.uid("bob"), 6, 6);
    world.settle();
    let last = world.delivered(bob);
    world.ack_all(bob, &after);
    world.ack_all(bob, &last);
    world.settle();
    // The lane is not known any more for the first two: they are told by notices.
    let notices = world.numbers(alice);
    let told: Vec<_> = world.results(alice).into_iter().map(|(number, _)| number).collect();
    assert_eq!([notices, told].concat().len(), 5);
}

#[test]
fn gives_no_sequence_twice_that_was_only_in_memory() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 3);
    world.settle();
    let before = world.delivered(bob);
    world.restart();
    let alice = world.login("alice", Receive::No);
    let bob = world.login("bob", TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 4, 4);
    world.settle();
    assert!(world.delivered(bob)[0].sequence > before[2].sequence);
}

// Replacement.

#[test]
fn hands_what_is_unacknowledged_to_the_connection_that_takes_over() {
    let (mut world, alice, old) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 4);
    world.settle();
    let before = world.delivered(old);
    world.ack_all(old, &before[..1]);
    world.settle();
    let new = world.login("bob", TAKE_OVER);
    assert_eq!(world.last_words(old), Some(ErrorCode::Replaced));
    assert!(!world.is_open(old));
    world.send_all(alice, world.uid("bob"), 5, 5);
    world.settle();
    let after = world.delivered(new);
    let numbers: Vec<_> = after.iter().map(|message| (message.number, message.redelivered)).collect();
    assert_eq!(numbers, [(2, true), (3, true), (4, true), (5, false)]);
    world.ack_all(new, &after);
    world.settle();
    assert_eq!(world.results(alice), all(1, 5, "COLLECTED"));
    assert_eq!(world.ring_bytes(), 0);
}

#[test]
fn redelivers_from_the_store_what_was_stored_meanwhile() {
    let (mut world, alice, old) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 4);
    world.settle();
    world.hang_up(old);
    assert_eq!(world.results(alice), all(1, 4, "STORED"));
    let new = world.login("bob", TAKE_OVER);
    world.settle();
    let after = world.delivered(new);
    assert_eq!(after.len(), 4);
    assert!(after.iter().all(|message| message.redelivered));
}

#[test]
fn ends_a_replaced_connection_behind_a_whole_frame() {
    for taken in 1..200 {
        let (mut world, alice, old) = pair(TAKE_OVER);
        world.links[old].reads = false;
        world.links[old].socket_bytes = taken;
        world.send_all(alice, world.uid("bob"), 1, 4);
        world.settle();
        let new = world.login("bob", TAKE_OVER);
        world.links[old].reads = true;
        world.links[old].socket_bytes = usize::MAX;
        world.settle();
        assert_eq!(world.last_words(old), Some(ErrorCode::Replaced), "after {taken} bytes");
        assert_eq!(world.numbers(new), [1, 2, 3, 4]);
    }
}

#[test]
fn receives_on_a_second_connection_only_if_nobody_does() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    let second = world.login("bob", Receive::IfNobody(PLENTY));
    assert!(!world.links[second].welcome.unwrap().receiving);
    world.hang_up(bob);
    let third = world.login("bob", Receive::IfNobody(PLENTY));
    assert!(world.links[third].welcome.unwrap().receiving);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    assert_eq!(world.numbers(third), [1]);
}

#[test]
fn sends_on_one_connection_and_receives_on_the_other() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    let second = world.login("bob", Receive::No);
    assert!(!world.links[second].welcome.unwrap().receiving);
    world.send_all(second, world.uid("alice"), 1, 1);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    assert_eq!(world.numbers(bob), [1]);
    assert_eq!(world.results(second), all(1, 1, "STORED"));
    assert_eq!(world.delivered(second), []);
}

// Repeated ids.

#[test]
fn answers_a_repeated_id_once_while_its_result_is_not_known() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    let delivered = world.delivered(bob);
    assert_eq!(delivered.len(), 1);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 1, "COLLECTED"));
}

#[test]
fn answers_a_repeated_id_with_stored_or_done() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.hang_up(bob);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    assert_eq!(world.results(alice), [(1, "STORED".into()), (1, "STORED".into())]);
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    assert_eq!(delivered.len(), 1);
    world.ack_all(bob, &delivered);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    let words: Vec<_> = world.results(alice).into_iter().map(|(_, word)| word).collect();
    assert!(words.ends_with(&["DONE".into()]), "{words:?}");
    assert!(words.contains(&"COLLECTED".into()));
    assert_eq!(world.delivered(bob), []);
}

#[test]
fn refuses_an_id_that_was_used_for_another_message() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let (bob, carol) = (world.claim("bob"), world.claim("carol"));
    world.send(alice, bob, 1, 1, b"one");
    world.send(alice, bob, 1, 1, b"another");
    world.send(alice, carol, 1, 1, b"one");
    world.send(alice, carol, 2, 1, b"another lane");
    world.settle();
    let mut words: Vec<_> = world.results(alice).into_iter().map(|(_, word)| word).collect();
    words.sort();
    assert_eq!(words, ["ID_CONFLICT", "ID_CONFLICT", "STORED", "STORED"]);
}

#[test]
fn takes_an_id_again_whose_message_was_collected_after_the_lane_was_forgotten() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.hang_up(bob);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    world.restart();
    let alice = world.login("alice", Receive::No);
    world.send_all(alice, world.uid("bob"), 2, 2);
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    world.results(alice);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.settle();
    assert_eq!(world.numbers(bob), [1], "nobody knows here that it is the same");
}

#[test]
fn refuses_a_number_64_below_the_highest() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    world.send(alice, bob, 1, 100, b"high");
    world.send(alice, bob, 1, 36, b"too low");
    world.send(alice, bob, 1, 37, b"low enough");
    world.settle();
    let mut results = world.results(alice);
    results.sort();
    assert_eq!(results, [(36, "ID_TOO_OLD".into()), (37, "STORED".into()), (100, "STORED".into())]);
}

#[test]
fn takes_an_id_again_that_was_refused() {
    let mut world = World::with_limits(|limits| limits.mailbox_messages_max = 1);
    let alice = world.register("alice", Receive::No);
    let uid = world.claim("bob");
    world.send_all(alice, uid, 1, 2);
    world.settle();
    let mut results = world.results(alice);
    results.sort();
    assert_eq!(results, [(1, "STORED".into()), (2, "MAILBOX_FULL".into())]);
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    world.results(alice);
    world.send_all(alice, uid, 2, 2);
    world.settle();
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(2, 2, "COLLECTED"));
}

#[test]
fn tells_a_second_connection_that_repeats_a_pending_id() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_all(alice, world.uid("bob"), 1, 2);
    world.settle();
    world.hang_up(alice);
    let again = world.login("alice", Receive::No);
    world.send_all(again, world.uid("bob"), 1, 2);
    world.settle();
    let delivered = world.delivered(bob);
    assert_eq!(delivered.len(), 2);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(again), all(1, 2, "COLLECTED"));
}

#[test]
fn keeps_the_lanes_of_two_users_apart() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let carol = world.register("carol", Receive::No);
    let bob = world.register("bob", TAKE_OVER);
    world.send(alice, world.uid("bob"), 1, 1, b"from alice");
    world.send(carol, world.uid("bob"), 1, 1, b"from carol");
    world.settle();
    let delivered = world.delivered(bob);
    assert_eq!(delivered.len(), 2);
    world.ack(bob, delivered[0].sequence, &[receipt(1)]);
    world.settle();
    assert_eq!(world.results(alice), all(1, 1, "COLLECTED"));
    assert_eq!(world.results(carol), []);
}

#[test]
fn remembers_sixteen_lanes_of_a_user() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    for lane in 1..=16 {
        world.send(alice, bob, lane, 1, b"x");
    }
    world.settle();
    world.links[alice].results.clear();
    for lane in 1..=16 {
        world.send(alice, bob, lane, 1, b"x");
    }
    world.settle();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.delivered(bob).len(), 16);
    assert_eq!(world.links[alice].results.len(), 16);
}

#[test]
fn owes_each_lane_of_a_burst_its_result() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    world.disk.held = true;
    for lane in 1..=20 {
        world.send(alice, bob, lane, 1, b"x");
    }
    world.settle();
    // No room for a seventeenth lane while sixteen wait: those are refused, and not taken in silence.
    assert_eq!(world.links[alice].results.len(), 4);
    world.disk.held = false;
    world.settle();
    assert_eq!(world.links[alice].results.len(), 20);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.delivered(bob).len(), 16);
}

#[test]
fn forgets_lanes_of_who_is_gone_before_those_of_who_is_here() {
    let mut world = World::with_limits(|limits| limits.lanes_max = 2);
    let bob = world.claim("bob");
    let gone = world.register("gone", Receive::No);
    world.send_all(gone, bob, 1, 1);
    world.settle();
    let alice = world.register("alice", Receive::No);
    world.send(alice, bob, 1, 1, b"x");
    world.settle();
    world.hang_up(gone);
    world.send(alice, bob, 2, 1, b"y");
    world.settle();
    world.send(alice, bob, 1, 1, b"x");
    world.settle();
    assert_eq!(world.results(alice), [(1, "STORED".into()), (1, "STORED".into()), (1, "STORED".into())]);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.delivered(bob).len(), 3, "both of her lanes are still known");
}

#[test]
fn gives_everybody_a_first_lane_whoever_has_taken_all() {
    let mut world = World::with_limits(|limits| limits.lanes_max = 16);
    let bob = world.claim("bob");
    let greedy = world.register("greedy", Receive::No);
    for lane in 1..=16 {
        world.send(greedy, bob, lane, 1, b"x");
    }
    let carol = world.register("carol", Receive::No);
    world.send(carol, bob, 1, 1, b"x");
    world.settle();
    assert_eq!(world.results(carol), all(1, 1, "STORED"));
}

// Refused.

#[test]
fn refuses_recipients_that_are_none() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    world.send(alice, Uid::new(77, 1), 1, 1, b"x");
    world.send(alice, Uid::NONE, 1, 2, b"x");
    world.send(alice, Uid::new(bob.slot(), bob.generation() ^ 1), 1, 3, b"x");
    world.settle();
    assert_eq!(
        world.results(alice),
        [(1, "UNKNOWN_RECIPIENT".into()), (2, "UNKNOWN_RECIPIENT".into()), (3, "KEY_CHANGED".into())]
    );
}

#[test]
fn refuses_what_does_not_fit_into_a_mailbox() {
    let mut world = World::with_limits(|limits| limits.mailbox_bytes_max = 3_000);
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    world.send(alice, bob, 1, 1, &[1; 2_000]);
    world.send(alice, bob, 1, 2, &[1; 2_000]);
    world.send(alice, bob, 1, 3, &[1; 500]);
    world.settle();
    let told = world.links[alice].results.iter().find(|told| told.number == 2).unwrap().clone();
    assert_eq!((told.word.as_str(), told.retry_after), ("MAILBOX_FULL", 60));
    let mut results = world.results(alice);
    results.sort();
    assert_eq!(results, [(1, "STORED".into()), (2, "MAILBOX_FULL".into()), (3, "STORED".into())]);
}

#[test]
fn refuses_busy_when_memory_is_used_up_and_takes_more_once_it_is_free() {
    let mut world = World::with_limits(|limits| limits.ring_bytes_max = 128 * 1024);
    let alice = world.register("alice", Receive::No);
    let bob = world.claim("bob");
    world.disk.held = true;
    for number in 1..=20 {
        world.send(alice, bob, 1, number, &[1; 16_000]);
    }
    world.settle();
    let refused = world.results(alice);
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|(_, word)| word == "BUSY"), "{refused:?}");
    world.disk.held = false;
    world.settle();
    let stored = world.results(alice);
    assert_eq!(stored.len() + refused.len(), 20);
    assert!(stored.iter().all(|(_, word)| word == "STORED"));
    assert_eq!(world.ring_bytes(), 0);
    for (number, _) in refused.into_iter().take(3) {
        world.send(alice, bob, 1, number, &[1; 16_000]);
    }
    world.settle();
    assert_eq!(world.results(alice).len(), 3);
}

#[test]
fn refuses_busy_beyond_one_mailbox_share_of_memory() {
    let mut world = World::with_limits(|limits| limits.ring_bytes_per_mailbox = 64 * 1024);
    let alice = world.register("alice", Receive::No);
    let (bob, carol) = (world.claim("bob"), world.claim("carol"));
    world.disk.held = true;
    for number in 1..=6 {
        world.send(alice, bob, 1, number, &[1; 16_000]);
    }
    world.send(alice, carol, 1, 7, &[1; 16_000]);
    world.settle();
    assert_eq!(world.results(alice), all(5, 6, "BUSY"));
    world.disk.held = false;
    world.settle();
    assert_eq!(world.results(alice).len(), 5);
}

// Time to live.

/// Three messages wait for bob; when he comes the time of the second has run out.
fn second_of_three_ran_out() -> (World, Peer, Peer) {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.hang_up(bob);
    world.send_all(alice, world.uid("bob"), 1, 1);
    world.send_ttl(alice, world.uid("bob"), 1, 2, 10, b"short");
    world.send_all(alice, world.uid("bob"), 3, 3);
    world.settle();
    world.results(alice);
    world.advance(10_000);
    let bob = world.login("bob", TAKE_OVER);
    world.settle();
    (world, alice, bob)
}

#[test]
fn delivers_nothing_after_it_said_expired_whoever_receives_next() {
    let (mut world, alice, bob) = second_of_three_ran_out();
    assert_eq!(world.numbers(bob), [1, 3]);
    assert_eq!(world.results(alice), all(2, 2, "EXPIRED"));
    // What came before it was not acknowledged: all but it comes again.
    for _ in 0..2 {
        let bob = world.login("bob", TAKE_OVER);
        world.settle();
        let delivered = world.delivered(bob);
        assert_eq!(delivered.iter().map(|message| message.number).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(world.results(alice), []);
    }
    let bob = world.login("bob", TAKE_OVER);
    world.settle();
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), [all(1, 1, "COLLECTED"), all(3, 3, "COLLECTED")].concat());
}

#[test]
fn says_expired_instead_of_delivering_what_ran_out() {
    let (mut world, alice, bob) = second_of_three_ran_out();
    assert_eq!(world.results(alice), all(2, 2, "EXPIRED"));
    let delivered = world.delivered(bob);
    assert_eq!(delivered.iter().map(|message| message.number).collect::<Vec<_>>(), [1, 3]);
    world.ack_all(bob, &delivered);
    world.settle();
    world.hang_up(bob);
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
}

#[test]
fn delivers_what_ran_out_only_after_it_was_sent() {
    let (mut world, alice, bob) = pair(TAKE_OVER);
    world.send_ttl(alice, world.uid("bob"), 1, 1, 1, b"short");
    world.advance(5_000);
    assert_eq!(world.numbers(bob), [1]);
    world.hang_up(bob);
    let bob = world.login("bob", TAKE_OVER);
    world.settle();
    let delivered = world.delivered(bob);
    assert!(delivered[0].redelivered);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), [(1, "STORED".into()), (1, "COLLECTED".into())]);
}

#[test]
fn frees_a_mailbox_in_which_everything_ran_out() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    let bob = world.claim("bob");
    for number in 1..=50 {
        world.send_ttl(alice, bob, 1, number, 5, b"short");
    }
    world.settle();
    world.hang_up(alice);
    world.advance(6_000);
    let peer = world.login("bob", TAKE_OVER);
    world.settle();
    assert_eq!(world.delivered(peer), []);
    world.hang_up(peer);
    world.restart();
    let peer = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[peer].welcome.unwrap().queued, 0);
    let alice = world.login("alice", TAKE_OVER);
    world.settle();
    let notices = world.delivered(alice);
    assert_eq!(notices.len(), 50);
    assert!(notices.iter().all(|notice| notice.notice == Some((ResultCode::Expired, Receipt::ZERO))));
}
