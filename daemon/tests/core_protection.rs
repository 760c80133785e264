//! What one source or one name may use up, and that others go on meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use std::net::IpAddr;

use core_common::{TAKE_OVER, World, identity, name};
use e2e_protocol::login::key_id;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::directory::{Batch, Lookup, Publish, SignedPrekey, Want, Whose};
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_relayd::address::AddressKey;

const OTHER: AddressKey = AddressKey::V4(0xC000_0201);

fn key(text: &str) -> AddressKey {
    text.parse::<IpAddr>().unwrap().into()
}

// Addresses.

#[test]
fn takes_a_64_bit_prefix_for_one_source_and_a_mapped_address_for_what_it_maps() {
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_eq!(key("::ffff:192.0.2.1"), OTHER);
    assert_eq!(OTHER.to_string(), "192.0.2.1");
    assert_eq!(key("2001:db8::1").to_string(), "2001:db8::/64");
}

#[test]
fn refuses_more_connections_than_one_address_may_have_and_serves_others() {
    let mut world = World::with_limits(|limits| limits.connections_per_address_max = 2);
    let first = world.register("alice", Receive::No);
    world.login("alice", Receive::No);
    let refused = world.connect();
    world.settle();
    assert_eq!(world.last_words(refused), Some(ErrorCode::TooManyConnections));
    world.address = OTHER;
    world.login("alice", Receive::No);
    world.hang_up(first);
    world.address = AddressKey::V4(0x7F00_0001);
    world.login("alice", Receive::No);
}

#[test]
fn refuses_connections_that_come_too_fast_until_the_time_is_over() {
    let mut world = World::with_limits(|limits| limits.connections_per_address_minute = 3);
    for _ in 0..3 {
        let peer = world.connect();
        world.hang_up(peer);
    }
    let refused = world.connect();
    world.settle();
    assert_eq!(world.last_words(refused), Some(ErrorCode::TooManyConnections));
    assert_eq!(world.links[refused].retry_after, 20);
    world.advance(20_000);
    world.register("alice", Receive::No);
}

#[test]
fn lets_a_flood_before_login_displace_itself_and_nobody_else() {
    let mut world = World::with_limits(|limits| limits.connections_before_login_max = 8);
    world.address = OTHER;
    let patient = world.challenged(Purpose::Register);
    world.address = AddressKey::V4(0x7F00_0001);
    let flood: Vec<_> = (0..100).map(|_| world.connect()).collect();
    world.settle();
    let open = flood.iter().filter(|peer| world.is_open(**peer)).count();
    assert_eq!(open, 7, "the flood has what is left");
    assert!(world.is_open(*flood.last().unwrap()), "its oldest went first");
    world.proof(patient, "alice", Purpose::Register, Receive::No);
    world.settle();
    assert!(world.links[patient].welcome.is_some(), "who came from elsewhere logs in");
}

#[test]
fn lets_somebody_in_during_a_flood_from_many_addresses() {
    let mut world = World::with_limits(|limits| limits.connections_before_login_max = 8);
    for source in 0..100_u64 {
        world.address = AddressKey::V6(source.to_be_bytes());
        world.connect();
    }
    world.address = OTHER;
    world.register("alice", Receive::No);
}

#[test]
fn skips_few_frames_before_login() {
    let mut world = World::new();
    let peer = world.connect();
    // spec/vectors/wire/skip/empty.txt
    let frame = [0xE2, 0x52, 0x4C, 0x59, 1, 0x7F, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x2C, 0xEF, 0xFE, 0xBA];
    for _ in 0..8 {
        world.raw(peer, &frame);
    }
    world.settle();
    assert!(world.is_open(peer));
    world.raw(peer, &frame);
    world.settle();
    assert_eq!(world.last_words(peer), Some(ErrorCode::UnexpectedFrame));
}

// Logins.

#[test]
fn verifies_no_more_signatures_for_one_address_than_it_may_cause() {
    let mut world = World::with_limits(|limits| limits.logins_per_address_minute = 3);
    world.register("alice", Receive::No);
    for _ in 0..2 {
        let peer = world.challenged(Purpose::Login);
        world.proof_by(peer, identity(1), "alice", Purpose::Login, Receive::No, None);
        world.settle();
        assert_eq!(world.last_words(peer), Some(ErrorCode::LoginFailed));
    }
    let refused = world.try_login("alice", Purpose::Login, Receive::No);
    assert_eq!(world.last_words(refused), Some(ErrorCode::Busy));
    assert_eq!(world.links[refused].retry_after, 20);
    world.address = OTHER;
    world.login("alice", Receive::No);
    world.address = AddressKey::V4(0x7F00_0001);
    world.advance(20_000);
    world.login("alice", Receive::No);
}

#[test]
fn stops_a_flood_of_registrations_and_lets_those_in_who_have_a_name() {
    let mut world = World::with_limits(|limits| limits.registrations_per_address_hour = 2);
    world.claim("alice");
    world.claim("bob");
    let refused = world.try_login("carol", Purpose::Register, Receive::No);
    assert_eq!(world.last_words(refused), Some(ErrorCode::Busy));
    assert_eq!(world.links[refused].retry_after, 1_800);
    world.register("bob", Receive::No);
    world.address = OTHER;
    world.claim("carol");
}

// The directory.

fn publish(world: &mut World, peer: usize, prekeys: u8) {
    let modulus = |mark: u8| {
        let mut modulus = [mark; 256];
        (modulus[0], modulus[255]) = (0x80, 1);
        modulus
    };
    let signed = modulus(1);
    let moduli: Vec<_> = (0..prekeys).map(|index| modulus(100 + index)).collect();
    let batch = Batch { signed_prekey: key_id(&signed), signature: &[2; 256], moduli: &moduli };
    let signed_prekey = SignedPrekey { modulus: &signed, made_ms: 1, profile: 0, signature: &[1; 256] };
    world.put(peer, |out| {
        Publish { request: 9, signed_prekey: Some(signed_prekey), batch: Some(batch) }.emit(out)
    });
    world.settle();
    assert_eq!(world.links[peer].published.len(), 1);
}

/// Asks for a bundle with a one-time prekey; whether there was one.
fn take_prekey(world: &mut World, peer: usize, of: &str) -> bool {
    let whose = Whose::Name(name(of));
    world.put(peer, |out| Lookup { request: 1, want: Want::OneTime, whose }.emit(out));
    world.settle();
    world.links[peer].found.pop().expect("an ENTRY").one_time.is_some()
}

#[test]
fn lets_nobody_drain_the_prekeys_of_another() {
    let mut world = World::with_limits(|limits| {
        limits.prekeys_per_pair_hour = 2;
        limits.prekeys_per_owner_hour = 5;
    });
    let bob = world.register("bob", Receive::No);
    publish(&mut world, bob, 16);
    let thieves: Vec<_> = (0..4).map(|index| world.register(&format!("thief{index}"), TAKE_OVER)).collect();
    let mut taken = 0;
    for _ in 0..8 {
        for thief in &thieves {
            taken += usize::from(take_prekey(&mut world, *thief, "bob"));
        }
    }
    assert_eq!(taken, 5, "two for each, five in all");
    // The bundle is there without one, and with one when the time has come.
    world.advance(3_600_000);
    let alice = world.register("alice", Receive::No);
    assert!(take_prekey(&mut world, alice, "bob"));
    assert!(take_prekey(&mut world, alice, "bob"));
    assert!(!take_prekey(&mut world, alice, "bob"));
}

#[test]
fn answers_no_more_lookups_of_one_name_than_it_may_ask() {
    let mut world = World::with_limits(|limits| limits.lookups_per_name_minute = 2);
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", Receive::No);
    let ask = |world: &mut World, peer: usize| {
        let whose = Whose::Name(name("alice"));
        world.put(peer, |out| Lookup { request: 7, want: Want::Address, whose }.emit(out));
        world.settle();
    };
    for _ in 0..3 {
        ask(&mut world, alice);
    }
    assert_eq!(world.links[alice].found.len(), 2);
    assert_eq!(world.request_errors(alice), [(7, ErrorCode::Busy)]);
    assert_eq!(world.links[alice].retry_after, 30);
    // A further connection of the same name has no allowance of its own; another name has.
    let again = world.login("alice", Receive::No);
    ask(&mut world, again);
    assert_eq!(world.request_errors(again), [(7, ErrorCode::Busy)]);
    ask(&mut world, bob);
    assert_eq!(world.links[bob].found.len(), 1);
    world.advance(30_000);
    ask(&mut world, alice);
    assert_eq!(world.links[alice].found.len(), 3);
}

#[test]
fn forgets_who_was_met_first_when_the_table_of_rates_is_full() {
    let mut world = World::with_limits(|limits| {
        limits.rates_max = 4;
        limits.registrations_per_address_hour = 1;
    });
    for source in 0..50_u64 {
        world.address = AddressKey::V6(source.to_be_bytes());
        world.claim(&format!("name{source}"));
    }
}
