//! The relay's core and clients' engines in one process: whole conversations without a socket, in
//! virtual time, from a seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use e2e_client::engine::Fate;
use e2e_protocol::ids::{MessageId, Name};
use e2e_tests::sim::World;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn texts(world: &World, who: &str) -> Vec<String> {
    world.clients[&name(who)].shown.iter().map(|shown| shown.text.clone()).collect()
}

fn is_collected(world: &World, from: &str, id: MessageId) -> bool {
    world.clients[&name(from)].fates.get(&id).is_some_and(|fates| fates.contains(&Fate::Collected))
}

fn two(seed: u64) -> World {
    let mut world = World::new(seed);
    world.register("alice");
    world.register("bob");
    world
}

#[test]
fn delivers_both_ways_in_order_and_collects_every_receipt() {
    let mut world = two(1);
    world.start_both("alice");
    world.start_both("bob");
    let mut sent = Vec::new();
    for round in 0..20 {
        sent.push(("alice", world.send("alice", "bob", &format!("to bob {round}"))));
        sent.push(("bob", world.send("bob", "alice", &format!("to alice {round}"))));
        world.run(7);
    }
    world.run_until("all receipts", |world| sent.iter().all(|(from, id)| is_collected(world, from, *id)));
    let expected = |to: &str| (0..20).map(|round| format!("to {to} {round}")).collect::<Vec<_>>();
    assert_eq!(texts(&world, "bob"), expected("bob"));
    assert_eq!(texts(&world, "alice"), expected("alice"));
}

#[test]
fn keeps_for_an_absent_recipient_across_a_crash_of_the_relay() {
    let mut world = two(2);
    world.start_both("alice");
    let ids: Vec<_> = (0..30).map(|i| world.send("alice", "bob", &format!("message {i}"))).collect();
    world.run_until("all stored", |world| {
        let fates = &world.clients[&name("alice")].fates;
        ids.iter().all(|id| fates.get(id).is_some_and(|fates| fates.contains(&Fate::Stored)))
    });
    world.crash_relay();
    world.start_both("bob");
    world.run_until("all receipts", |world| ids.iter().all(|id| is_collected(world, "alice", *id)));
    assert_eq!(texts(&world, "bob"), (0..30).map(|i| format!("message {i}")).collect::<Vec<_>>());
}

#[test]
fn tells_a_sender_who_was_away_by_a_notice() {
    let mut world = two(3);
    world.start_both("alice");
    let id = world.send("alice", "bob", "are you there?");
    world.run_until("the message is stored", |world| {
        world.clients[&name("alice")].fates.get(&id).is_some_and(|fates| fates.contains(&Fate::Stored))
    });
    world.stop(&name("alice"));
    world.start_both("bob");
    world.run_until("bob has it and said so", |world| {
        !world.clients[&name("bob")].shown.is_empty() && world.is_quiet()
    });
    world.stop(&name("bob"));
    assert!(!is_collected(&world, "alice", id));
    world.start_both("alice");
    world.run_until("alice has the receipt", |world| is_collected(world, "alice", id));
    assert_eq!(texts(&world, "bob"), ["are you there?"]);
}

/// Connections are cut, processes and the relay are killed, at any moment. All arrives, nothing is
/// shown twice but what a process was killed over, and what was shown came in order of first showing.
#[test]
fn loses_nothing_to_cuts_and_crashes() {
    for seed in 10..16 {
        let mut world = two(seed);
        world.start_both("alice");
        world.start_both("bob");
        let mut sent = Vec::new();
        for round in 0..30 {
            sent.push(("alice", world.send("alice", "bob", &format!("to bob {round}"))));
            sent.push(("bob", world.send("bob", "alice", &format!("to alice {round}"))));
            let victim = if world.chance(2) { "alice" } else { "bob" };
            match round % 5 {
                0 => world.cut(victim),
                2 => {
                    world.kill(victim);
                    world.start_both(victim);
                }
                4 => world.crash_relay(),
                _ => {}
            }
            let steps = if world.chance(3) { 60 } else { 5 };
            world.run(steps);
        }
        world.run_until("all receipts", |world| sent.iter().all(|(from, id)| is_collected(world, from, *id)));
        for to in ["alice", "bob"] {
            let mut shown = texts(&world, to);
            shown.sort();
            shown.dedup();
            assert_eq!(shown.len(), 30, "seed {seed}: {to} was shown all, each at least once");
        }
    }
}

#[test]
fn neither_wire_nor_store_holds_what_opens_a_message() {
    let mut world = two(4);
    world.start_both("alice");
    let secret = "the treasure is under the third oak";
    let id = world.send("alice", "bob", secret);
    world.run_until("the message is stored", |world| {
        world.clients[&name("alice")].fates.get(&id).is_some_and(|fates| fates.contains(&Fate::Stored))
    });
    let mut public = world.stored();
    world.start_both("bob");
    world.run_until("the receipt", |world| is_collected(world, "alice", id));
    public.extend(world.stored());
    public.extend_from_slice(&world.wire);
    assert_eq!(texts(&world, "bob"), [secret]);
    let contains = |needle: &[u8]| public.windows(needle.len()).any(|window| window == needle);
    assert!(!secret.as_bytes().windows(8).any(contains), "a part of the plaintext is public");
    for who in ["alice", "bob"] {
        let primes = &world.clients[&name(who)].primes;
        assert_eq!(primes.len(), 256);
        assert!(!primes.chunks(16).any(contains), "a part of {who}'s private key is public");
    }
    // The search finds what is there: a name that the relay has to know, the envelope's own header.
    assert!(contains(b"alice") && contains(&[0xE2, b'R', b'L', b'Y']));
}
