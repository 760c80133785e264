//! A client killed at each durable step: nothing is lost, nothing is delivered twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::*;
use e2e_client::engine::Config;
use e2e_client::state::MemoryDisk;
use e2e_client::state::memory::Unsynced;
use e2e_protocol::ids::MessageId;

const BOTH: [Unsynced; 2] = [Unsynced::Lost, Unsynced::Kept];

/// What a process does until it is killed; how far it came is in what it leaves.
fn try_all(
    client: &mut Client,
    relay: &mut Relay,
    config: &Config,
    texts: &[&str],
) -> Option<Vec<MessageId>> {
    client.start(config.clone(), START_MS).ok()?;
    client.connect(relay, START_MS).ok()?;
    while client.pump(relay, START_MS).ok()? {}
    let mut ids = Vec::new();
    for text in texts {
        ids.push(client.send(relay, "bob", text, START_MS).ok()?);
        while client.pump(relay, START_MS).ok()? {}
    }
    client.turn(relay, START_MS, |engine, turn| engine.finish(turn)).ok()?;
    Some(ids)
}

fn die(mut client: Client, relay: &mut Relay, disk: &MemoryDisk, unsynced: Unsynced) -> Client {
    if client.engine.is_some() {
        client.disconnect(relay);
    }
    client.engine = None;
    disk.crash(unsynced);
    client
}

/// Runs processes with the usual life until both sides have nothing left to do.
fn heal(relay: &mut Relay, alice: &MemoryDisk, bob: &MemoryDisk) -> (Client, Client) {
    let mut a = Client::new(alice, 50);
    let mut b = Client::new(bob, 51);
    for (client, now_ms) in [(&mut a, START_MS), (&mut b, START_MS)] {
        client.start(receiver(), now_ms).unwrap();
        client.connect(relay, now_ms).unwrap();
    }
    settle(relay, &mut [&mut a, &mut b], START_MS);
    // What had to wait for a new session to be allowed.
    advance(relay, &mut [&mut a, &mut b], START_MS, START_MS + 30 * MINUTE_MS);
    (a, b)
}

#[test]
fn sender_killed_at_each_step_delivers_each_message_once() {
    let texts = ["one", "two"];
    for unsynced in BOTH {
        let mut survived = false;
        for step in 0..1_000 {
            let (mut relay, alice, bob) = two_users();
            let mut a = Client::new(&alice, 20);
            alice.fail_after(step);
            survived = try_all(&mut a, &mut relay, &sender(), &texts).is_some();
            die(a, &mut relay, &alice, unsynced);

            let kept = relay.queued(&name("bob"));
            let (a, b) = heal(&mut relay, &alice, &bob);
            assert_eq!(a.outbox(), 0, "step {step}, {unsynced:?}");
            let shown = b.texts();
            assert!(shown == texts[..shown.len()], "step {step}, {unsynced:?}: {shown:?}");
            assert!(shown.len() >= kept, "what reached the relay is shown");
            assert!(!survived || shown == texts);
            assert!(b.said.is_empty(), "step {step}, {unsynced:?}: {:?}", b.said);
            if survived {
                assert!(step > 20, "a life has more durable steps than {step}");
                break;
            }
        }
        assert!(survived);
    }
}

#[test]
fn receiver_killed_at_each_step_shows_each_message_and_no_other() {
    let texts = ["one", "two"];
    for unsynced in BOTH {
        let mut survived = false;
        for step in 0..1_000 {
            let (mut relay, alice, bob) = two_users();
            let mut a = Client::new(&alice, 20);
            let ids = try_all(&mut a, &mut relay, &sender(), &texts).unwrap();
            a.finish(&mut relay, START_MS).unwrap();

            let mut b = Client::new(&bob, 21);
            bob.fail_after(step);
            survived = try_all(&mut b, &mut relay, &receiver(), &[]).is_some();
            let first = die(b, &mut relay, &bob, unsynced);

            let (a, b) = heal(&mut relay, &alice, &bob);
            assert_eq!((a.outbox(), relay.queued(&name("bob"))), (0, 0), "step {step}, {unsynced:?}");
            let mut shown: Vec<MessageId> = first.shown.iter().chain(&b.shown).map(|(id, _)| *id).collect();
            // Shown, and killed before that was noted: then once more, under the same id, in order.
            shown.dedup();
            let again = shown.len() > ids.len();
            assert_eq!(shown[..2], ids, "step {step}, {unsynced:?}");
            assert!(!again || shown[2..] == ids[shown.len() - ids.len()..] || shown[2..] == ids, "{shown:?}");
            assert!(b.said.is_empty(), "step {step}, {unsynced:?}: {:?}", b.said);
            if survived {
                assert!(step > 20);
                break;
            }
        }
        assert!(survived);
    }
}

#[test]
fn registration_killed_at_each_step_goes_on_with_the_same_key() {
    let home = prepare("carol", 5);
    let identity = home.files()["identity"].clone();
    let mut survived = false;
    for step in 0..1_000 {
        let mut relay = Relay::default();
        let carol = MemoryDisk::default();
        home.files().iter().for_each(|(path, content)| carol.plant(path, content));
        let mut c = Client::new(&carol, 20);
        carol.fail_after(step);
        survived = try_all(&mut c, &mut relay, &registrar(), &[]).is_some();
        die(c, &mut relay, &carol, Unsynced::Lost);

        let mut c = Client::new(&carol, 21);
        try_all(&mut c, &mut relay, &registrar(), &[]).unwrap();
        assert_eq!(carol.files()["identity"], identity);
        assert_eq!(relay.users.len(), 1);
        assert_eq!(relay.users[0].one_time.len(), 16);
        if survived {
            break;
        }
    }
    assert!(survived);
}
