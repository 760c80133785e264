//! Messages whose time runs out while their recipient stays away (spec/wire.md, section 6).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::ids::Receipt;
use e2e_protocol::wire::session::Receive;
use e2e_protocol::wire::transfer::ResultCode;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Bob is away; Alice is there.
fn world() -> (World, Peer) {
    let mut world = World::new();
    world.claim("bob");
    let alice = world.register("alice", Receive::No);
    (world, alice)
}

fn send(world: &mut World, peer: Peer, number: u64, ttl: u32) {
    let to = world.uid("bob");
    world.send_ttl(peer, to, 1, number, ttl, b"x");
    world.settle();
}

/// Keeps a connection that says nothing else.
fn idle(world: &mut World, peer: Peer, ms: u64) {
    let mut left_ms = ms;
    while left_ms > 0 {
        let step_ms = left_ms.min(MINUTE_MS);
        world.advance(step_ms);
        left_ms -= step_ms;
        world.put(peer, |out| {
            e2e_protocol::wire::session::emit_ping(out, e2e_protocol::wire::FrameType::Ping, [0; 8])
        });
        world.settle();
    }
}

#[test]
fn sender_hears_of_it_although_nobody_comes() {
    let (mut world, alice) = world();
    send(&mut world, alice, 1, 60);
    send(&mut world, alice, 2, 90);
    send(&mut world, alice, 3, 7_200);
    assert_eq!(world.results(alice), all(1, 3, "STORED"));
    idle(&mut world, alice, 3 * MINUTE_MS);
    assert_eq!(world.results(alice), all(1, 2, "EXPIRED"));
    idle(&mut world, alice, HOUR_MS);
    assert_eq!(world.results(alice), []);
    // What is left is delivered, and no more.
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 1);
    assert_eq!(world.numbers(bob), [3]);
}

#[test]
fn message_behind_one_that_lasts_goes_when_it_is_the_oldest() {
    let (mut world, alice) = world();
    send(&mut world, alice, 1, 600);
    send(&mut world, alice, 2, 1);
    idle(&mut world, alice, 5 * MINUTE_MS);
    assert_eq!(world.results(alice), all(1, 2, "STORED"));
    idle(&mut world, alice, 10 * MINUTE_MS);
    assert_eq!(world.results(alice), all(1, 2, "EXPIRED"));
}

#[test]
fn mailbox_is_empty_on_the_disk_too_and_after_a_restart() {
    let (mut world, alice) = world();
    for number in 1..=40 {
        let to = world.uid("bob");
        world.send_ttl(alice, to, 1, number, 60, &[7; 4_000]);
        world.settle();
    }
    world.restart();
    let alice = world.login("alice", TAKE_OVER);
    idle(&mut world, alice, 6 * MINUTE_MS);
    // The lane is forgotten: notices, of which the sender's mailbox takes all.
    let notices: Vec<_> = world.delivered(alice).iter().map(|notice| notice.notice.unwrap()).collect();
    assert_eq!(notices, [(ResultCode::Expired, Receipt::ZERO); 40]);
    world.restart();
    let bob = world.login("bob", TAKE_OVER);
    assert_eq!(world.links[bob].welcome.unwrap().queued, 0);
    assert_eq!(world.delivered(bob), []);
}

#[test]
fn what_was_sent_to_its_recipient_once_does_not_expire() {
    let (mut world, alice) = world();
    let bob = world.login("bob", TAKE_OVER);
    send(&mut world, alice, 1, 60);
    assert_eq!(world.numbers(bob), [1]);
    world.hang_up(bob);
    idle(&mut world, alice, HOUR_MS);
    assert_eq!(world.results(alice), all(1, 1, "STORED"));
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    assert!(delivered[0].redelivered);
}

#[test]
fn store_that_fails_is_asked_again_later() {
    let (mut world, alice) = world();
    send(&mut world, alice, 1, 60);
    world.disk.fail_reads(true);
    idle(&mut world, alice, 3 * MINUTE_MS);
    assert_eq!(world.results(alice), all(1, 1, "STORED"));
    world.disk.fail_reads(false);
    idle(&mut world, alice, 2 * MINUTE_MS);
    assert_eq!(world.results(alice), all(1, 1, "EXPIRED"));
}
