//! What the relay counts of itself: each way in which something is refused, dropped or closed, and each total.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::ids::{Modulus, Receipt};
use e2e_protocol::login::{Removal, key_id};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::directory::{Batch, Lookup, Publish, SignedPrekey, Want, Whose};
use e2e_protocol::wire::people::Remove;
use e2e_protocol::wire::session::Receive;
use e2e_relayd::core::counters::{Totals, Waiting};
use e2e_relayd::limits::Limits;
use e2e_relayd::reason::Reason;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// Alice is there, and bob, if he is to receive.
fn pair(change: impl FnOnce(&mut Limits), receive: Option<Receive>) -> (World, Peer, Option<Peer>) {
    let mut world = World::with_limits(change);
    let alice = world.register("alice", Receive::No);
    world.claim("bob");
    let bob = receive.map(|receive| world.login("bob", receive));
    (world, alice, bob)
}

fn send(world: &mut World, peer: Peer, number: u64, envelope: &[u8]) {
    let to = world.uid("bob");
    world.send(peer, to, 1, number, envelope);
    world.settle();
}

fn lookup(world: &mut World, peer: Peer, request: u32, want: Want, whose: &str) {
    world.put(peer, |out| Lookup { request, want, whose: Whose::Name(name(whose)) }.emit(out));
    world.settle();
}

#[test]
fn totals_follow_messages_to_a_receiver_who_is_there() {
    let (mut world, alice, bob) = pair(|_| {}, Some(TAKE_OVER));
    let bob = bob.unwrap();
    for number in 1..=3 {
        send(&mut world, alice, number, b"four");
    }
    send(&mut world, alice, 3, b"four");
    let sequences: Vec<_> = world.delivered(bob).iter().map(|delivered| delivered.sequence).collect();
    let gauges = world.core.gauges();
    assert_eq!((gauges.unacknowledged, gauges.receivers, gauges.lanes), (3, 1, 1));
    assert_eq!((gauges.waiting.messages, gauges.waiting.stored_messages), (3, 0));
    world.ack(bob, sequences[0], &[receipt(1), Receipt::ZERO, receipt(3)]);
    world.settle();
    let expected = Totals {
        connections: 3,
        logins: 3,
        registrations: 2,
        accepted: 3,
        accepted_bytes: 12,
        repeated: 1,
        delivered: 3,
        collected: 2,
        rejected: 1,
        ..Totals::default()
    };
    assert_eq!(world.core.counters().totals(), expected);
    assert_eq!(world.core.gauges().waiting, Waiting::default());
    world.hang_up(bob);
    assert_eq!(world.core.gauges().receivers, 0);
    assert_eq!(world.counted(), [("CONNECTION_LOST", 2)], "nothing else came to its end");
}

#[test]
fn totals_follow_messages_through_the_store() {
    let (mut world, alice, _) = pair(|_| {}, None);
    world.disk.held = true;
    for number in 1..=3 {
        send(&mut world, alice, number, b"four");
    }
    let waiting = world.core.gauges().waiting;
    assert_eq!((waiting.messages, waiting.stored_messages), (3, 1), "one append at a time");
    world.disk.held = false;
    world.settle();
    let waiting = world.core.gauges().waiting;
    assert_eq!((waiting.messages, waiting.stored_messages), (3, 3));
    assert_eq!((waiting.bytes, waiting.stored_bytes), (3 * 68, 3 * 68));
    // What waits is known at once after a restart.
    world.restart();
    assert_eq!(world.core.gauges().waiting, waiting);
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    let totals = world.core.counters().totals();
    assert_eq!((totals.accepted, totals.stored, totals.delivered, totals.collected), (0, 0, 3, 3));
    assert_eq!(totals.notices, 3, "alice is not there");
    assert_eq!(world.core.gauges().waiting.messages, 3);
}

#[test]
fn counts_what_is_stored_while_its_sender_listens() {
    let (mut world, alice, _) = pair(|_| {}, None);
    send(&mut world, alice, 1, b"x");
    send(&mut world, alice, 2, b"x");
    assert_eq!(world.core.counters().totals().stored, 2);
    assert_eq!(world.results(alice), all(1, 2, "STORED"));
}

#[test]
fn counts_a_message_that_is_refused_by_its_code() {
    let (mut world, alice, _) = pair(|limits| limits.mailbox_messages_max = 1, None);
    for number in 1..=3 {
        send(&mut world, alice, number, b"x");
    }
    assert_eq!(world.count(ErrorCode::MailboxFull), 2);
    assert_eq!(world.core.counters().totals().refused, 2);
}

#[test]
fn counts_a_request_that_is_refused_by_its_code() {
    let (mut world, alice, _) = pair(|limits| limits.lookups_per_name_minute = 1, None);
    lookup(&mut world, alice, 1, Want::Address, "nobody");
    lookup(&mut world, alice, 2, Want::Address, "nobody");
    assert_eq!((world.count(ErrorCode::UnknownName), world.count(ErrorCode::Busy)), (1, 1));
    assert_eq!(world.core.counters().totals().refused, 0, "no message was");
}

#[test]
fn counts_a_connection_that_is_told_why_once() {
    let mut world = World::with_limits(|limits| limits.connections_max = 1);
    let first = world.connect();
    let second = world.connect();
    world.settle();
    assert_eq!(world.last_words(second), Some(ErrorCode::TooManyConnections));
    world.raw(first, b"no frame at all, and more than its header");
    world.settle();
    assert_eq!(world.counted(), [("BAD_MAGIC", 1), ("TOO_MANY_CONNECTIONS", 1)]);
    assert_eq!(world.core.counters().totals().connections, 2);
}

#[test]
fn counts_each_end_of_which_nobody_is_told() {
    let mut world = World::new();
    let [closes, behind, unusable, lost] = [(); 4].map(|()| world.connect());
    world.end_of_input(closes);
    world.core.handle_bad_proxy_header(world.links[behind].id);
    world.core.handle_unusable(world.links[unusable].id);
    world.turn();
    world.hang_up(lost);
    let expected = [("PEER_CLOSED", 1), ("CONNECTION_LOST", 1), ("BAD_PROXY_HEADER", 1), ("SETUP_FAILED", 1)];
    assert_eq!(world.counted(), expected);
}

#[test]
fn counts_last_words_that_are_cut_as_well() {
    let mut world = World::new();
    let stalled = world.connect();
    world.links[stalled].reads = false;
    world.links[stalled].socket_bytes = 1;
    world.advance(20_000);
    assert_eq!(world.links[stalled].closed, Some(Reason::LingerExpired));
    assert_eq!(world.counted(), [("LOGIN_TIMEOUT", 1), ("LINGER_EXPIRED", 1)]);
}

#[test]
fn counts_who_is_closed_for_memory() {
    let (mut world, alice, _) = pair(|limits| limits.output_bytes_in_all_max = 2_000, None);
    world.links[alice].reads = false;
    world.links[alice].socket_bytes = 1;
    for request in 1..=40 {
        lookup(&mut world, alice, request, Want::Address, "bob");
    }
    assert_eq!(world.count(Reason::OutputMemoryFull), 1);
}

#[test]
fn counts_frames_that_are_skipped() {
    let (mut world, alice, _) = pair(|_| {}, None);
    // spec/vectors/wire/skip/empty.txt
    let frame = [0xE2, 0x52, 0x4C, 0x59, 1, 0x7F, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x2C, 0xEF, 0xFE, 0xBA];
    let newcomer = world.connect();
    world.raw(alice, &frame);
    world.raw(newcomer, &frame);
    world.settle();
    assert_eq!(world.count(Reason::FrameSkipped), 2);
}

#[test]
fn counts_what_nobody_hears() {
    let (mut world, alice, _) = pair(|_| {}, None);
    world.disk.held = true;
    send(&mut world, alice, 1, b"x");
    world.hang_up(alice);
    world.disk.held = false;
    world.settle();
    assert_eq!(world.count(Reason::Unheard), 1, "STORED");
    let alice = world.login("alice", Receive::No);
    world.disk.held = true;
    lookup(&mut world, alice, 1, Want::Bundle, "bob");
    world.hang_up(alice);
    world.disk.held = false;
    world.settle();
    assert_eq!(world.count(Reason::Unheard), 2, "an ENTRY");
}

#[test]
fn counts_prekeys_that_are_withheld() {
    let (mut world, alice, bob) = pair(|limits| limits.prekeys_per_pair_hour = 1, Some(TAKE_OVER));
    let modulus = |mark: u8| -> Modulus {
        let mut modulus = [mark; 256];
        (modulus[0], modulus[255]) = (0x80, 1);
        modulus
    };
    let signed = modulus(1);
    let moduli = [modulus(2), modulus(3), modulus(4)];
    let batch = Some(Batch { signed_prekey: key_id(&signed), signature: &[2; 256], moduli: &moduli });
    let signed_prekey = Some(SignedPrekey { modulus: &signed, made_ms: 1, profile: 0, signature: &[1; 256] });
    world.put(bob.unwrap(), |out| Publish { request: 9, signed_prekey, batch }.emit(out));
    world.settle();
    for request in 1..=3 {
        lookup(&mut world, alice, request, Want::OneTime, "bob");
    }
    assert_eq!(world.links[alice].found.iter().filter(|found| found.one_time.is_some()).count(), 1);
    assert_eq!(world.count(Reason::PrekeyWithheld), 2);
}

#[test]
fn counts_lanes_that_are_forgotten() {
    let (mut world, alice, _) = pair(|limits| limits.lanes_per_name_max = 2, None);
    let to = world.uid("bob");
    for lane in 1..=5 {
        world.send(alice, to, lane, 1, b"x");
        world.settle();
    }
    assert_eq!(world.count(Reason::LaneForgotten), 3, "her own");
    let mut world = World::with_limits(|limits| limits.lanes_max = 1);
    let to = world.claim("bob");
    let gone = world.register("gone", Receive::No);
    world.send(gone, to, 1, 1, b"x");
    world.settle();
    world.hang_up(gone);
    let alice = world.register("alice", Receive::No);
    world.send(alice, to, 1, 1, b"x");
    world.settle();
    assert_eq!(world.count(Reason::LaneForgotten), 1, "another's");
}

#[test]
fn counts_messages_that_expire_whether_somebody_comes_or_not() {
    let (mut world, alice, _) = pair(|_| {}, None);
    let to = world.uid("bob");
    world.send_ttl(alice, to, 1, 1, 30, b"x");
    world.advance(31_000);
    world.login("bob", TAKE_OVER);
    world.settle();
    assert_eq!(world.count(Reason::MessageExpired), 1, "met when he comes");
    let (mut world, alice, _) = pair(|_| {}, None);
    let to = world.uid("bob");
    world.send_ttl(alice, to, 1, 1, 30, b"x");
    world.advance(3 * 60_000);
    assert_eq!(world.count(Reason::MessageExpired), 1, "met by the search");
    assert_eq!(world.core.gauges().waiting, Waiting::default());
}

#[test]
fn counts_what_is_uncertain_and_then_let_go() {
    let (mut world, alice, bob) = pair(|_| {}, Some(TAKE_OVER));
    world.disk.fail(true);
    let to = world.uid("bob");
    world.send_all(alice, to, 1, 3);
    world.advance(1_500);
    assert_eq!((world.count(Reason::Uncertain), world.count(Reason::UncertainLetGo)), (3, 0));
    world.hang_up(bob.unwrap());
    world.advance(2_000);
    assert_eq!((world.count(Reason::Uncertain), world.count(Reason::UncertainLetGo)), (3, 3));
    assert_eq!(world.core.gauges().waiting, Waiting::default());
}

#[test]
fn counts_messages_that_were_taken_and_refused_when_the_store_failed() {
    let (mut world, alice, _) = pair(|_| {}, None);
    world.disk.held = true;
    for number in 1..=3 {
        send(&mut world, alice, number, b"x");
    }
    world.disk.fail(true);
    world.disk.held = false;
    world.settle();
    assert_eq!(world.count(Reason::Uncertain), 1, "the disk may have it");
    assert_eq!((world.count(ErrorCode::StoreFailed), world.core.counters().totals().refused), (2, 2));
}

#[test]
fn counts_stored_messages_that_are_damaged() {
    let (mut world, alice, _) = pair(|_| {}, None);
    let to = world.uid("bob");
    world.send_all(alice, to, 1, 5);
    world.settle();
    world.disk.damage_chunks(to.slot(), |record| *record.last_mut().unwrap() ^= 1);
    assert_eq!(world.count(Reason::StoredDamaged), 0, "nobody has read it");
    world.login("bob", TAKE_OVER);
    world.settle();
    assert!(world.count(Reason::StoredDamaged) >= 1, "each time that it is met");
}

#[test]
fn counts_what_a_stop_cuts() {
    let (mut world, alice, bob) = pair(|_| {}, Some(TAKE_OVER));
    world.disk.held = true;
    let to = world.uid("bob");
    world.send_all(alice, to, 1, 2);
    world.advance(250);
    world.send_all(alice, to, 3, 5);
    world.settle();
    world.core.handle_stop();
    world.turn();
    world.advance(world.limits.stop_ms);
    assert!(world.core.is_stopped());
    assert_eq!(world.count(Reason::StopCut), 3, "the store has the first two");
    assert_eq!(world.links[bob.unwrap()].closed, Some(Reason::Told(ErrorCode::Restarting)));
}

/// Alice has sent so many messages to bob and gone; bob is there, and has not acknowledged them.
fn notices_to_come(change: impl FnOnce(&mut Limits), messages: u64) -> (World, Peer) {
    let (mut world, alice, _) = pair(change, None);
    let to = world.uid("bob");
    world.send_all(alice, to, 1, messages);
    world.settle();
    world.hang_up(alice);
    let bob = world.login("bob", TAKE_OVER);
    (world, bob)
}

fn acknowledge_all(world: &mut World, bob: Peer) {
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
}

#[test]
fn counts_notices_for_which_a_mailbox_has_no_room() {
    let (mut world, bob) = notices_to_come(|limits| limits.mailbox_messages_max = 3, 3);
    acknowledge_all(&mut world, bob);
    assert_eq!((world.core.counters().totals().notices, world.count(Reason::NoticeMailboxFull)), (3, 0));
    let alice = world.login("alice", Receive::No);
    let to = world.uid("bob");
    world.send_all(alice, to, 4, 5);
    world.settle();
    world.hang_up(alice);
    acknowledge_all(&mut world, bob);
    assert_eq!((world.core.counters().totals().notices, world.count(Reason::NoticeMailboxFull)), (3, 2));
}

#[test]
fn counts_notices_for_which_there_is_no_memory() {
    let (mut world, bob) = notices_to_come(|limits| limits.ring_bytes_per_mailbox = 2 * 68 + 10, 2);
    acknowledge_all(&mut world, bob);
    assert_eq!((world.core.counters().totals().notices, world.count(Reason::NoticeBusy)), (1, 1));
}

#[test]
fn counts_notices_that_expire() {
    let day_ms = 86_400_000;
    let (mut world, bob) = notices_to_come(|limits| limits.expiry_interval_ms = day_ms, 2);
    acknowledge_all(&mut world, bob);
    world.hang_up(bob);
    world.advance(33 * day_ms);
    assert_eq!(world.count(Reason::NoticeExpired), 2);
    assert_eq!(world.core.gauges().waiting, Waiting::default());
}

#[test]
fn counts_notices_that_the_store_does_not_take() {
    let (mut world, bob) = notices_to_come(|_| {}, 2);
    world.disk.held = true;
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    world.disk.fail(true);
    world.disk.held = false;
    world.settle();
    assert_eq!(world.count(Reason::NoticeStoreFailed), 2);
}

/// Alice removes her name while bob acknowledges what she sent.
fn removed_meanwhile(change: impl FnOnce(&mut Limits)) -> World {
    let (mut world, bob) = notices_to_come(change, 2);
    let alice = world.login("alice", Receive::No);
    let (uid, relay_id) = (world.uid("alice"), world.links[alice].challenge.unwrap().relay_id);
    let (by, who) = (identity(0), name("alice"));
    let removal = Removal { relay_id: &relay_id, uid, name: &who, fingerprint: by.fingerprint() };
    let signature = by.sign_removal(&removal, &mut ChaCha20Rng::seed_from_u64(1));
    world.disk.held = true;
    world.put(alice, |out| Remove { request: 7, signature: &signature }.emit(out));
    world.settle();
    world.disk.read(0, NOW);
    world.settle();
    acknowledge_all(&mut world, bob);
    world.disk.held = false;
    world.settle();
    assert_eq!(world.links[alice].removed, [7]);
    assert_eq!(world.core.counters().totals().removals, 1);
    world
}

#[test]
fn counts_notices_of_a_name_that_changes_hands() {
    let world = removed_meanwhile(|_| {});
    assert_eq!((world.count(Reason::NoticeKeyChanged), world.count(Reason::NoticeBusy)), (2, 0));
    let world = removed_meanwhile(|limits| limits.held_notices_max = 1);
    assert_eq!((world.count(Reason::NoticeKeyChanged), world.count(Reason::NoticeBusy)), (1, 1));
    assert_eq!(world.count(ErrorCode::NameRemoved), 1, "her connection");
}

#[test]
fn counts_what_goes_with_a_name_that_the_administrator_removes() {
    let (mut world, bob) = notices_to_come(|_| {}, 2);
    let carol = world.register("carol", Receive::No);
    world.disk.held = true;
    let to = world.uid("alice");
    world.send_all(carol, to, 1, 1);
    world.settle();
    world.core.remove_name(&name("alice")).unwrap();
    acknowledge_all(&mut world, bob);
    assert_eq!(world.count(Reason::NoticeKeyChanged), 2, "she will not be there to read them");
    world.disk.held = false;
    world.settle();
    assert_eq!(world.count(Reason::MessageExpired), 1, "carol's");
    assert_eq!(world.core.counters().totals().removals, 1);
    assert_eq!(world.core.gauges().waiting, Waiting::default());
}

#[test]
fn counts_what_its_host_drops() {
    let mut world = World::new();
    world.core.note(Reason::AcceptFailed);
    world.core.note(Reason::AcceptFailed);
    assert_eq!(world.counted(), [("ACCEPT_FAILED", 2)]);
}
