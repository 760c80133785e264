//! What the relay's administrator does to it: look, disconnect, remove names, make and revoke tokens.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::ids::Receipt;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::session::{Purpose, Receive, Registration};
use e2e_protocol::wire::transfer::ResultCode;
use e2e_relayd::core::Policy;
use e2e_relayd::core::admin::Answer;
use e2e_relayd::limits::{Limits, TOKENS_MAX};
use e2e_relayd::store::StoredToken;

fn by_token() -> World {
    World::with(Limits::default(), Policy { registration: Registration::Token, ..Policy::default() })
}

fn made(world: &mut World, once: bool, label: &str) -> StoredToken {
    let asked = world.core.make_token(once, label).unwrap();
    world.settle();
    match world.core.poll_answer() {
        Some(Answer::TokenMade(number, token)) if number == asked => token,
        other => panic!("{other:?}"),
    }
}

/// Claims a name with a token; what the relay says if it refuses.
fn claim(world: &mut World, who: &str, token: &[u8]) -> Option<ErrorCode> {
    let peer = world.challenged(Purpose::Register);
    world.proof_by(peer, identity(0), who, Purpose::Register, Receive::No, Some(token));
    world.settle();
    let refused = world.last_words(peer);
    world.hang_up(peer);
    refused
}

fn removed(world: &mut World, who: &str) {
    let asked = world.core.remove_name(&name(who)).unwrap();
    world.settle();
    assert_eq!(world.core.poll_answer(), Some(Answer::Removed(asked)));
}

#[test]
fn lists_names_in_pieces_with_what_waits_for_them() {
    let mut world = World::new();
    let bob = world.claim("bob");
    world.claim("carol");
    let alice = world.register("alice", TAKE_OVER);
    world.send(alice, bob, 1, 1, b"hello");
    world.settle();
    let (mut states, mut next) = (Vec::new(), Some(0));
    while let Some(slot) = next {
        let (piece, further) = world.core.names_from(slot, 2);
        assert!(piece.len() <= 2);
        states.extend(piece);
        next = further;
    }
    let of = |who: &str| states.iter().find(|state| state.name == name(who)).unwrap().clone();
    assert_eq!(states.len(), 3);
    assert_eq!((of("alice").connections, of("alice").receives, of("alice").messages), (1, true, 0));
    assert_eq!((of("bob").connections, of("bob").receives, of("bob").messages), (0, false, 1));
    assert!(of("bob").bytes > 5 && of("alice").sent_bytes == of("bob").bytes);
    assert_eq!(world.core.name_state(&name("bob")), Some(of("bob")));
    assert_eq!(world.core.name_state(&name("dave")), None);
}

#[test]
fn disconnected_name_may_come_back() {
    let mut world = World::new();
    let bob = world.register("bob", TAKE_OVER);
    let alice = world.register("alice", Receive::No);
    assert_eq!(world.core.disconnect(&name("bob")), Ok(1));
    world.settle();
    assert_eq!(world.last_words(bob), Some(ErrorCode::Restarting));
    assert!(world.is_open(alice));
    world.login("bob", TAKE_OVER);
    assert!(world.core.disconnect(&name("dave")).is_err());
}

#[test]
fn removed_name_is_nobodys_and_its_senders_hear_what_expired() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let online = world.login("bob", credit(2));
    let alice = world.register("alice", Receive::No);
    // Two are forwarded, three wait.
    world.send_all(alice, bob, 1, 5);
    world.settle();
    world.results(alice);
    removed(&mut world, "bob");
    assert_eq!(world.last_words(online), Some(ErrorCode::NameRemoved));
    let results = world.results(alice);
    for number in 1..=5 {
        assert_eq!(
            results.iter().filter(|(n, word)| *n == number && word == "EXPIRED").count(),
            1,
            "{results:?}"
        );
    }
    assert_eq!(world.core.name_state(&name("alice")).unwrap().sent_bytes, 0, "nothing is charged any more");
    world.send(alice, bob, 1, 9, b"late");
    world.settle();
    assert_eq!(world.results(alice), [(9, ErrorCode::UnknownRecipient.name().to_owned())]);
    // Anybody can have the name, and gets nothing that was the old owner's.
    let again = world.register("bob", TAKE_OVER);
    assert_eq!(world.links[again].welcome.unwrap().queued, 0);
    world.restart();
    let again = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[again].welcome.unwrap().queued, 0);
}

#[test]
fn senders_who_left_find_a_notice_of_what_was_removed() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let alice = world.register("alice", Receive::No);
    world.send_all(alice, bob, 1, 3);
    world.settle();
    world.hang_up(alice);
    removed(&mut world, "bob");
    let alice = world.login("alice", TAKE_OVER);
    let notices = world.delivered(alice);
    assert_eq!(notices.len(), 3);
    assert!(
        notices.iter().all(|notice| notice.notice == Some((ResultCode::Expired, Receipt::ZERO))),
        "{notices:?}"
    );
}

#[test]
fn name_with_damaged_messages_can_be_removed() {
    for forget in [false, true] {
        let mut world = World::new();
        let bob = world.claim("bob");
        let alice = world.register("alice", Receive::No);
        world.send_all(alice, bob, 1, 3);
        world.settle();
        if forget {
            world.disk.forget_chunks(bob.slot());
        } else {
            world.disk.damage_chunks(bob.slot(), |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55));
        }
        removed(&mut world, "bob");
        assert_eq!(world.core.name_state(&name("bob")), None);
    }
}

#[test]
fn removal_waits_for_a_disk_that_fails_and_lets_nobody_in_meanwhile() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let alice = world.register("alice", Receive::No);
    world.send(alice, bob, 1, 1, b"x");
    world.settle();
    let asked = world.core.remove_name(&name("bob")).unwrap();
    world.disk.held = true;
    let peer = world.try_login("bob", Purpose::Login, TAKE_OVER);
    assert_eq!(world.last_words(peer), Some(ErrorCode::NameRemoved));
    world.send(alice, bob, 1, 2, b"y");
    world.settle();
    assert!(world.results(alice).contains(&(2, ErrorCode::Busy.name().to_owned())));
    assert!(world.core.remove_name(&name("bob")).is_err(), "once is enough");
    world.disk.held = false;
    world.advance(10_000);
    assert_eq!(world.core.poll_answer(), Some(Answer::Removed(asked)));
}

#[test]
fn token_is_good_until_it_is_revoked_across_restarts() {
    let mut world = by_token();
    let token = made(&mut world, false, "friends");
    assert_eq!(token.label, "friends");
    assert_eq!(claim(&mut world, "alice", b"another"), Some(ErrorCode::BadToken));
    assert_eq!(claim(&mut world, "alice", &token.secret), None);
    world.restart();
    assert_eq!(world.core.tokens(), std::slice::from_ref(&token));
    assert_eq!(claim(&mut world, "bob", &token.secret), None);
    let asked = world.core.revoke_token(token.number).unwrap();
    world.settle();
    assert_eq!(world.core.poll_answer(), Some(Answer::TokenRevoked(asked)));
    assert_eq!(claim(&mut world, "carol", &token.secret), Some(ErrorCode::BadToken));
    assert!(world.core.revoke_token(token.number).is_err());
    world.restart();
    assert!(world.core.tokens().is_empty());
    assert_eq!(claim(&mut world, "carol", &token.secret), Some(ErrorCode::BadToken));
}

#[test]
fn token_for_one_name_is_used_up_by_it() {
    let mut world = by_token();
    let (once, other) = (made(&mut world, true, ""), made(&mut world, true, ""));
    assert_ne!(once.secret, other.secret);
    assert_eq!(claim(&mut world, "alice", &once.secret), None);
    assert_eq!(claim(&mut world, "bob", &once.secret), Some(ErrorCode::BadToken));
    world.restart();
    assert_eq!(world.core.tokens(), std::slice::from_ref(&other));
    assert_eq!(claim(&mut world, "bob", &once.secret), Some(ErrorCode::BadToken));
    assert_eq!(claim(&mut world, "bob", &other.secret), None);
}

#[test]
fn token_for_one_name_is_not_used_up_by_a_failed_registration() {
    let mut world = by_token();
    let token = made(&mut world, true, "");
    world.disk.fail(true);
    assert_eq!(claim(&mut world, "alice", &token.secret), Some(ErrorCode::StoreFailed));
    world.disk.fail(false);
    world.advance(10_000);
    assert_eq!(claim(&mut world, "alice", &token.secret), None);
}

#[test]
fn refuses_tokens_that_cannot_be_made() {
    let mut world = by_token();
    assert!(world.core.make_token(false, &"x".repeat(65)).is_err());
    assert!(world.core.make_token(false, "two\nlines").is_err());
    for _ in 0..TOKENS_MAX {
        made(&mut world, false, "");
    }
    assert!(world.core.make_token(false, "").is_err());
    world.disk.fail(true);
    let asked = world.core.revoke_token(world.core.tokens()[0].number).unwrap();
    world.settle();
    assert_eq!(world.core.poll_answer(), Some(Answer::Failed(asked)));
    assert_eq!(world.core.tokens().len(), TOKENS_MAX, "what may be on the disk is not forgotten");
}

#[test]
fn stop_sends_each_connection_away_for_a_time_of_its_own() {
    let mut world = World::with_limits(|limits| limits.restart_spread_ms = 9_000);
    let peers: Vec<_> = (0..40).map(|number| world.register(&format!("user{number}"), Receive::No)).collect();
    world.core.handle_stop();
    world.turn();
    world.settle();
    let mut seconds: Vec<_> = peers.iter().map(|peer| world.links[*peer].retry_after).collect();
    assert!(peers.iter().all(|peer| world.last_words(*peer) == Some(ErrorCode::Restarting)));
    assert!(seconds.iter().all(|seconds| (1..=10).contains(seconds)), "{seconds:?}");
    seconds.sort_unstable();
    seconds.dedup();
    // That forty agree on three of ten is not to be expected in the life of the universe.
    assert!(seconds.len() > 3, "{seconds:?}");
    assert!(world.core.is_stopped());
}

#[test]
fn removal_asks_a_disk_that_cannot_be_read_only_now_and_then() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let alice = world.register("alice", Receive::No);
    world.send_all(alice, bob, 1, 3);
    world.settle();
    world.disk.fail_reads(true);
    let before = world.disk.log.iter().filter(|what| **what == "read").count();
    let asked = world.core.remove_name(&name("bob")).unwrap();
    world.settle();
    world.advance(10_000);
    let reads = world.disk.log.iter().filter(|what| **what == "read").count() - before;
    assert!((1..=20).contains(&reads), "{reads}");
    assert_eq!(world.core.poll_answer(), None);
    world.disk.fail_reads(false);
    world.advance(10_000);
    assert_eq!(world.core.poll_answer(), Some(Answer::Removed(asked)));
}

#[test]
fn removal_comes_to_its_end_although_commits_fail_in_the_middle() {
    for (receiving, applied, committed) in [
        (false, false, 0),
        (true, false, 0),
        (true, true, 0),
        (false, true, 1),
        (true, true, 1),
        (true, false, 2),
    ] {
        let mut world = World::new();
        let bob = world.claim("bob");
        if receiving {
            world.login("bob", credit(2));
        }
        let alice = world.register("alice", Receive::No);
        world.send_all(alice, bob, 1, 5);
        world.settle();
        world.disk.held = true;
        world.send_all(alice, bob, 6, 9);
        world.settle();
        let asked = world.core.remove_name(&name("bob")).unwrap();
        world.settle();
        for _ in 0..committed {
            world.disk.commit(usize::MAX, 1_700_000_000_000);
            world.settle();
        }
        world.disk.apply_failed(applied);
        world.disk.fail(true);
        world.disk.held = false;
        world.settle();
        world.advance(3_000);
        world.disk.fail(false);
        world.advance(30_000);
        match world.core.poll_answer() {
            Some(Answer::Removed(number)) if number == asked => {}
            Some(Answer::Failed(number)) if number == asked => removed(&mut world, "bob"),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.core.name_state(&name("alice")).unwrap().sent_bytes, 0);
        world.register("bob", TAKE_OVER);
        world.restart();
        let again = world.login("bob", TAKE_OVER);
        assert_eq!(world.links[again].welcome.unwrap().queued, 0);
        assert_eq!(world.core.name_state(&name("alice")).unwrap().sent_bytes, 0);
    }
}
