//! Who is online, who is blocked, and who goes (spec/wire.md, section 6, "WHO", "BLOCK", "REMOVE").
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::{Name, Uid};
use e2e_protocol::limits::{BLOCKS_MAX, WATCHERS_MAX, WATCHES_MAX};
use e2e_protocol::login::Removal;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::directory::{Lookup, Want, Whose};
use e2e_protocol::wire::people::{Block, Remove, State, Watch, Who};
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_protocol::wire::transfer::ResultCode;
use e2e_relayd::core::Policy;
use e2e_relayd::limits::Limits;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|text| name(text)).collect()
}

fn who(world: &mut World, peer: Peer, request: u32, watch: Watch, about: &[&str]) {
    world.put(peer, |out| Who::emit(out, request, watch, &names(about)));
    world.settle();
}

/// What was told since the last call: request, and each name with its state.
fn told(world: &mut World, peer: Peer) -> Vec<(u32, Vec<(String, State)>)> {
    std::mem::take(&mut world.links[peer].presence)
        .into_iter()
        .map(|(request, next, states)| {
            assert_eq!(next, 0);
            (request, states)
        })
        .collect()
}

fn states(listed: &[(&str, State)]) -> Vec<(String, State)> {
    listed.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
}

fn block(world: &mut World, peer: Peer, request: u32, block: bool, whom: &str) {
    world.put(peer, |out| Block { request, block, name: name(whom) }.emit(out));
    world.settle();
}

fn remove_by(world: &mut World, peer: Peer, request: u32, by: &Identity, uid: Uid, whom: &str) {
    let relay_id = world.links[peer].challenge.unwrap().relay_id;
    let removal = Removal { relay_id: &relay_id, uid, name: &name(whom), fingerprint: by.fingerprint() };
    let signature = by.sign_removal(&removal, &mut ChaCha20Rng::seed_from_u64(request.into()));
    world.put(peer, |out| Remove { request, signature: &signature }.emit(out));
    world.settle();
}

fn remove(world: &mut World, peer: Peer, whom: &str) {
    let uid = world.uid(whom);
    remove_by(world, peer, 7, identity(0), uid, whom);
}

#[test]
fn says_who_is_online_offline_and_nobody() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    world.register("bob", TAKE_OVER);
    world.claim("carol");
    who(&mut world, alice, 3, Watch::No, &["carol", "bob", "dave", "alice", "bob"]);
    let expected = states(&[
        ("carol", State::Offline),
        ("bob", State::Online),
        ("dave", State::Nobody),
        ("alice", State::Offline),
        ("bob", State::Online),
    ]);
    assert_eq!(told(&mut world, alice), [(3, expected)]);
}

#[test]
fn says_everybody_in_parts() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    let all: Vec<String> = (0..600).map(|i| format!("user{i:03}")).collect();
    for user in &all {
        world.claim(user);
    }
    let (mut from, mut found, mut answers) = (0, Vec::new(), 0);
    loop {
        world.put(alice, |out| Who::emit_everybody(out, 4, from));
        world.settle();
        let (request, next, states) = world.links[alice].presence.pop().unwrap();
        assert_eq!(request, 4);
        assert!(states.len() <= 255);
        found.extend(states.into_iter().map(|(name, state)| {
            assert_eq!(state == State::Online, name == "alice");
            name
        }));
        answers += 1;
        from = next;
        if next == 0 {
            break;
        }
    }
    found.sort();
    let mut expected = all;
    expected.insert(0, "alice".to_owned());
    assert_eq!(found, expected);
    assert_eq!(answers, 3);
    world.put(alice, |out| Who::emit_everybody(out, 5, u32::MAX));
    world.settle();
    assert_eq!(world.links[alice].presence, [(5, 0, Vec::new())]);
}

#[test]
fn tells_who_watches_of_changes_that_last() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", TAKE_OVER);
    who(&mut world, alice, 3, Watch::Yes, &["bob", "dave"]);
    let first = states(&[("bob", State::Online), ("dave", State::Nobody)]);
    assert_eq!(told(&mut world, alice), [(3, first)]);
    world.hang_up(bob);
    assert_eq!(told(&mut world, alice), [], "not at once");
    world.advance(1_000);
    assert_eq!(told(&mut world, alice), [(0, states(&[("bob", State::Offline)]))]);
    // Gone and back within a second is no change; nor is one who takes over.
    let bob = world.login("bob", TAKE_OVER);
    world.advance(1_000);
    assert_eq!(told(&mut world, alice), [(0, states(&[("bob", State::Online)]))]);
    world.hang_up(bob);
    world.advance(500);
    world.login("bob", TAKE_OVER);
    world.login("bob", TAKE_OVER);
    world.advance(5_000);
    assert_eq!(told(&mut world, alice), []);
    // A connection that doesn't receive makes nobody online.
    let dave = world.register("dave", Receive::No);
    world.advance(5_000);
    assert_eq!(told(&mut world, alice), [], "a name that nobody had is not watched");
    world.hang_up(dave);
    who(&mut world, alice, 4, Watch::NoMore, &["bob"]);
    assert_eq!(told(&mut world, alice).len(), 1);
    let bob = world.login("bob", TAKE_OVER);
    world.hang_up(bob);
    world.advance(5_000);
    assert_eq!(told(&mut world, alice), [], "it wants to hear no more");
}

#[test]
fn an_answer_counts_as_told() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", TAKE_OVER);
    who(&mut world, alice, 3, Watch::Yes, &["bob"]);
    world.hang_up(bob);
    who(&mut world, alice, 4, Watch::No, &["bob"]);
    told(&mut world, alice);
    let bob = world.login("bob", TAKE_OVER);
    world.advance(2_000);
    assert_eq!(told(&mut world, alice), [(0, states(&[("bob", State::Online)]))], "it was told offline");
    world.hang_up(bob);
    world.put(alice, |out| Who::emit_everybody(out, 5, 0));
    world.settle();
    told(&mut world, alice);
    world.advance(2_000);
    assert_eq!(told(&mut world, alice), [], "it knows already");
}

#[test]
fn blocking_oneself_has_no_effect() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    block(&mut world, alice, 3, true, "alice");
    assert_eq!(world.links[alice].blocks, [(3, true)]);
    let to = world.uid("alice");
    world.send(alice, to, 1, 1, b"note");
    world.settle();
    assert_eq!(world.numbers(alice), [1]);
}

#[test]
fn repeated_id_is_answered_with_its_state_although_its_sender_is_blocked_since() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let mallory = world.register("mallory", Receive::No);
    let to = world.uid("alice");
    world.send(mallory, to, 1, 1, b"before");
    world.settle();
    assert_eq!(world.results(mallory), all(1, 1, "STORED"));
    block(&mut world, alice, 3, true, "mallory");
    world.send(mallory, to, 1, 1, b"before");
    world.send(mallory, to, 1, 2, b"after");
    world.settle();
    assert_eq!(world.results(mallory), [(1, "STORED".to_owned()), (2, "BLOCKED".to_owned())]);
}

#[test]
fn changes_wait_for_a_watcher_who_does_not_read() {
    let mut world = World::with_limits(|limits| limits.output_bytes_max = 100);
    world.claim("alice");
    let bob = world.register("bob", TAKE_OVER);
    let alice = world.login("alice", Receive::No);
    who(&mut world, alice, 3, Watch::Yes, &["bob"]);
    told(&mut world, alice);
    world.links[alice].reads = false;
    world.links[alice].socket_bytes = 0;
    for opaque in 0..3_u64 {
        world.put(alice, |out| {
            e2e_protocol::wire::session::emit_ping(
                out,
                e2e_protocol::wire::FrameType::Ping,
                opaque.to_be_bytes(),
            )
        });
    }
    world.settle();
    world.hang_up(bob);
    world.advance(10_000);
    (world.links[alice].reads, world.links[alice].socket_bytes) = (true, usize::MAX);
    world.advance(2_000);
    assert_eq!(told(&mut world, alice), [(0, states(&[("bob", State::Offline)]))]);
}

#[test]
fn refuses_to_watch_more_than_may_be() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let all: Vec<String> = (0..=WATCHES_MAX).map(|i| format!("user{i}")).collect();
    for user in &all {
        world.claim(user);
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    who(&mut world, alice, 1, Watch::Yes, &all[..WATCHES_MAX]);
    assert_eq!(told(&mut world, alice).len(), 1);
    who(&mut world, alice, 2, Watch::Yes, &all[1..3]);
    assert_eq!(told(&mut world, alice).len(), 1, "what is watched already may be asked for again");
    who(&mut world, alice, 3, Watch::Yes, &all[WATCHES_MAX..]);
    assert_eq!(world.request_errors(alice), [(3, ErrorCode::WatchesFull)]);
    who(&mut world, alice, 4, Watch::NoMore, &all[..1]);
    who(&mut world, alice, 5, Watch::Yes, &all[WATCHES_MAX..]);
    assert_eq!(world.request_errors(alice), []);

    let mut crowd = Vec::new();
    for index in 0..WATCHERS_MAX {
        let watcher = world.register(&format!("watcher{index}"), Receive::No);
        who(&mut world, watcher, 1, Watch::Yes, &["user1"]);
        crowd.push(watcher);
    }
    let last = crowd.pop().unwrap();
    assert_eq!(world.request_errors(last), [(1, ErrorCode::Busy)], "alice is the 256th");
    world.hang_up(alice);
    who(&mut world, last, 2, Watch::Yes, &["user1"]);
    assert_eq!(world.request_errors(last), []);
}

#[test]
fn private_relay_tells_nobody_who_is_online() {
    let policy = Policy { presence_private: true, ..Policy::default() };
    let mut world = World::with(Limits::default(), policy);
    let alice = world.register("alice", Receive::No);
    who(&mut world, alice, 3, Watch::No, &["alice"]);
    world.put(alice, |out| Who::emit_everybody(out, 4, 0));
    world.settle();
    let private = ErrorCode::PresencePrivate;
    assert_eq!(world.request_errors(alice), [(3, private), (4, private)]);
}

#[test]
fn private_relay_says_accepted_whether_collected_or_stored() {
    let policy = Policy { presence_private: true, ..Policy::default() };
    let mut world = World::with(Limits::default(), policy);
    let alice = world.register("alice", TAKE_OVER);
    let bob = world.register("bob", TAKE_OVER);
    let to = world.uid("bob");
    world.send(alice, to, 1, 1, b"one");
    world.settle();
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), all(1, 1, "ACCEPTED"));
    let notices = world.delivered(alice);
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].notice, Some((ResultCode::Collected, receipt(1))));
    assert_eq!((notices[0].lane, notices[0].number, notices[0].peer), (1, 1, to));
    world.ack_all(alice, &notices);

    world.hang_up(bob);
    world.send(alice, to, 1, 2, b"two");
    world.settle();
    assert_eq!(world.results(alice), all(2, 2, "ACCEPTED"));
    for number in [1, 2] {
        world.send(alice, to, 1, number, if number == 1 { b"one" } else { b"two" });
        world.settle();
        assert_eq!(world.results(alice), all(number, number, "ACCEPTED"), "repeated");
    }
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.results(alice), [], "what comes later is in a notice");
    let notices = world.delivered(alice);
    assert_eq!(
        notices.iter().map(|notice| notice.notice.unwrap()).collect::<Vec<_>>(),
        [(ResultCode::Collected, receipt(2))]
    );
}

#[test]
fn refuses_what_comes_from_who_is_blocked() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    let mallory = world.register("mallory", TAKE_OVER);
    let to = world.uid("alice");
    world.send(mallory, to, 1, 1, b"before");
    world.settle();
    block(&mut world, alice, 3, true, "mallory");
    assert_eq!(world.links[alice].blocks, [(3, true)]);
    world.send(mallory, to, 1, 2, b"after");
    world.settle();
    assert_eq!(world.results(mallory), [(2, "BLOCKED".to_owned())]);
    let delivered = world.delivered(alice);
    assert_eq!(delivered.len(), 1, "what was in the mailbox is delivered");
    world.ack_all(alice, &delivered);
    // No bundle, and offline to who is blocked; the address is known anyway.
    for (request, want) in [(4, Want::OneTime), (5, Want::Bundle), (6, Want::Address)] {
        let whose = Whose::Name(name("alice"));
        world.put(mallory, |out| Lookup { request, want, whose }.emit(out));
    }
    who(&mut world, mallory, 7, Watch::No, &["alice"]);
    let blocked = ErrorCode::Blocked;
    assert_eq!(world.request_errors(mallory), [(4, blocked), (5, blocked)]);
    assert_eq!(world.links[mallory].found.len(), 1);
    assert_eq!(told(&mut world, mallory), [(7, states(&[("alice", State::Offline)]))]);
    // The other way it is none.
    let from = world.uid("mallory");
    world.send(alice, from, 1, 1, b"but I may");
    world.settle();
    assert_eq!(world.delivered(mallory).len(), 1);

    world.restart();
    let alice = world.login("alice", TAKE_OVER);
    let mallory = world.login("mallory", Receive::No);
    world.send(mallory, to, 2, 1, b"after a restart");
    world.settle();
    assert_eq!(world.results(mallory), all(1, 1, "BLOCKED"));
    block(&mut world, alice, 8, false, "mallory");
    block(&mut world, alice, 9, false, "mallory");
    assert_eq!(world.links[alice].blocks, [(8, false), (9, false)], "also if nothing changed");
    world.send(mallory, to, 2, 2, b"at last");
    world.settle();
    assert_eq!(world.delivered(alice).len(), 1);
}

#[test]
fn refuses_to_block_nobody_and_more_than_may_be() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    block(&mut world, alice, 1, true, "nobody");
    assert_eq!(world.request_errors(alice), [(1, ErrorCode::UnknownName)]);
    for index in 0..=BLOCKS_MAX {
        world.claim(&format!("user{index}"));
    }
    for index in 0..BLOCKS_MAX {
        block(&mut world, alice, 2, true, &format!("user{index}"));
    }
    assert_eq!(world.links[alice].blocks.len(), BLOCKS_MAX);
    let one_more = format!("user{BLOCKS_MAX}");
    block(&mut world, alice, 3, true, &one_more);
    assert_eq!(world.request_errors(alice), [(3, ErrorCode::BlocksFull)]);
    block(&mut world, alice, 4, true, "user0");
    assert_eq!(world.request_errors(alice), [], "that one is blocked already");
    block(&mut world, alice, 5, false, "user0");
    block(&mut world, alice, 6, true, &one_more);
    assert_eq!(world.request_errors(alice), []);
}

#[test]
fn removed_name_is_nobodys_and_can_be_claimed() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let other = world.login("alice", TAKE_OVER);
    let bob = world.register("bob", TAKE_OVER);
    let carol = world.register("carol", TAKE_OVER);
    let old = world.uid("alice");
    who(&mut world, bob, 1, Watch::Yes, &["alice"]);
    told(&mut world, bob);
    block(&mut world, carol, 2, true, "alice");
    block(&mut world, alice, 3, true, "bob");
    let to = world.uid("bob");
    world.send(alice, to, 1, 1, b"farewell");
    world.settle();
    remove(&mut world, alice, "alice");
    assert_eq!(world.links[alice].removed, [7]);
    for peer in [alice, other] {
        assert_eq!(world.last_words(peer), Some(ErrorCode::NameRemoved));
    }
    assert_eq!(told(&mut world, bob), [(0, states(&[("alice", State::Nobody)]))]);
    let delivered = world.delivered(bob);
    assert_eq!(delivered[0].peer, old, "what it had sent is delivered");
    world.ack_all(bob, &delivered);
    world.send(bob, old, 1, 1, b"too late");
    world.settle();
    assert_eq!(world.results(bob), all(1, 1, "UNKNOWN_RECIPIENT"));
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        let gone = world.try_login("alice", Purpose::Login, Receive::No);
        assert_eq!(world.last_words(gone), Some(ErrorCode::LoginFailed));
    }
    let alice = world.challenged(Purpose::Register);
    world.proof_by(alice, identity(1), "alice", Purpose::Register, TAKE_OVER, None);
    world.settle();
    let welcome = world.links[alice].welcome.unwrap();
    assert_ne!(welcome.uid, old);
    assert_eq!(welcome.queued, 0);
    let (bob, carol) = (world.login("bob", TAKE_OVER), world.login("carol", TAKE_OVER));
    world.send(bob, old, 2, 1, b"to the former");
    world.send(bob, welcome.uid, 2, 2, b"a new alice blocks nobody");
    let to = world.uid("carol");
    world.send(alice, to, 1, 1, b"and nobody blocks her");
    world.settle();
    assert_eq!(world.results(bob), all(1, 1, "KEY_CHANGED"), "the slot has another holder");
    assert_eq!((world.delivered(alice).len(), world.delivered(carol).len()), (1, 1));
}

#[test]
fn refuses_a_removal_that_is_not_signed_so() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    let bob = world.register("bob", Receive::No);
    let uid = world.uid("alice");
    remove_by(&mut world, alice, 1, identity(1), uid, "alice");
    remove_by(&mut world, alice, 2, identity(0), Uid(uid.0 + 1), "alice");
    remove_by(&mut world, alice, 3, identity(0), uid, "alicf");
    remove_by(&mut world, bob, 4, identity(0), uid, "alice");
    let bad = ErrorCode::BadRemoval;
    assert_eq!(world.request_errors(alice), [(1, bad), (2, bad), (3, bad)]);
    assert_eq!(world.request_errors(bob), [(4, bad)], "somebody else's name");
    world.send(bob, uid, 1, 1, b"wait");
    world.settle();
    remove_by(&mut world, alice, 5, identity(0), uid, "alice");
    assert_eq!(world.request_errors(alice), [(5, ErrorCode::MailboxNotEmpty)]);
    let delivered = world.delivered(alice);
    world.ack_all(alice, &delivered);
    remove_by(&mut world, alice, 6, identity(0), uid, "alice");
    assert_eq!(world.links[alice].removed, [6]);
}

#[test]
fn removal_that_failed_is_answered_when_it_can_be_seen() {
    for happened in [false, true] {
        let mut world = World::new();
        let alice = world.register("alice", TAKE_OVER);
        let bob = world.register("bob", Receive::No);
        world.disk.fail(true);
        world.disk.apply_failed(happened);
        remove(&mut world, alice, "alice");
        assert!(world.links[alice].removed.is_empty() && world.is_open(alice));
        world.send(bob, world.uid("alice"), 1, 1, b"x");
        world.settle();
        assert_eq!(world.results(bob), all(1, 1, "BUSY"));
        world.disk.fail(false);
        world.disk.commit(0, NOW);
        world.settle();
        if happened {
            assert_eq!(world.links[alice].removed, [7]);
            assert_eq!(world.last_words(alice), Some(ErrorCode::NameRemoved));
        } else {
            assert_eq!(world.request_errors(alice), [(7, ErrorCode::StoreFailed)]);
            assert!(world.is_open(alice));
        }
        world.restart();
        let again = world.try_login("alice", Purpose::Login, Receive::No);
        assert_eq!(world.last_words(again), happened.then_some(ErrorCode::LoginFailed));
    }
}
