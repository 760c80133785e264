//! A relay that lies: each thing that it can do with keys, bundles, envelopes and receipts, and how it is
//! found out. What a user sees of it is in the client's tests.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod e2e_support;

use e2e_protocol::e2e::{Answer, BadBundle, EncryptError, RejectReason, ShownKey, comparison_number, judge};
use e2e_protocol::ids::Receipt;
use e2e_support::{DAY, MINUTE, NOW, User, alice_and_bob, key};

/// Who the relay puts in the middle: another key under bob's name.
fn mallory() -> User {
    User::with_keys("bob", "alice", "carol-ik", "bob-spk-2", &[key("bob-opk-2")])
}

#[test]
fn substituted_key_of_somebody_known_is_refused() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("1", &mut bob);
    bob.opens(&sent.envelope);
    alice.peer.reject_seen(sent.sid);
    alice.now += 20 * MINUTE;
    let mut mallory = mallory();
    let plaintext = alice.text("2");
    let shown = *mallory.identity.fingerprint();
    let refused = mallory.with_bundle(true, |bundle| alice.seal(&plaintext, Some(bundle)).err());
    assert_eq!(refused, Some(EncryptError::KeyChanged(shown)));
    // Said by the directory, it stops both directions, also on sessions that stand.
    assert_eq!(alice.peer.key_shown(shown), ShownKey::Changed);
    assert_eq!(alice.seal(&plaintext, None).err(), Some(EncryptError::KeyChanged(shown)));
    let answer = bob.send("an answer", &mut alice);
    assert_eq!(alice.rejects(&answer.envelope).reason, RejectReason::KeyChanged(shown));
    // And what claims to start a session in bob's name with that key is not looked at.
    let planted = mallory.send("it is me, bob", &mut alice);
    assert_eq!(alice.rejects(&planted.envelope).reason, RejectReason::KeyChanged(shown));
    assert_eq!(alice.prekeys.private_operations(), 0);
    // The pinned key again: all is as before.
    assert_eq!(alice.peer.key_shown(*bob.identity.fingerprint()), ShownKey::Pinned);
    assert_eq!(alice.reads(&answer.envelope), "an answer");
}

#[test]
fn substituted_key_at_the_first_contact_shows_when_numbers_are_compared() {
    let (mut alice, bob) = alice_and_bob();
    let mut mallory = mallory();
    let plaintext = alice.text("hello");
    mallory.with_bundle(true, |bundle| alice.seal(&plaintext, Some(bundle))).unwrap();
    let of = |user: &User, other: &[u8; 256], name| {
        comparison_number((user.identity.modulus(), &user.name), (other, name))
    };
    let at_alice = of(&alice, alice.peer.identity().unwrap(), &bob.name);
    let at_bob = of(&bob, alice.identity.modulus(), &alice.name);
    assert_ne!(at_alice, at_bob);
    assert_eq!(at_alice, of(&mallory, alice.identity.modulus(), &alice.name));
}

#[test]
fn replayed_bundle_is_refused() {
    let (mut alice, mut bob) = alice_and_bob();
    let (old, old_batch) = (bob.spk.clone(), bob.batch.clone());
    bob.spk = {
        let me = e2e_protocol::e2e::Me { name: &bob.name, identity: &bob.identity, profile: bob.profile };
        bob.prekeys.publish_spk(me, &key("bob-spk-2"), NOW + DAY, &mut bob.rng)
    };
    alice.now += DAY;
    let plaintext = alice.text("1");
    let first = bob.with_bundle(false, |bundle| alice.seal(&plaintext, Some(bundle))).unwrap();
    alice.peer.reject_seen(first.sid);
    alice.now += DAY;
    (bob.spk, bob.batch) = (old, old_batch);
    let refused = bob.with_bundle(false, |bundle| alice.seal(&plaintext, Some(bundle)).err());
    assert_eq!(refused, Some(EncryptError::BadBundle(BadBundle::Older)));
}

#[test]
fn bundle_of_somebody_else_is_refused() {
    let (mut alice, _) = alice_and_bob();
    // Carol's true bundle, said to be bob's.
    let mut carol = User::with_keys("carol", "alice", "carol-ik", "bob-spk-2", &[key("bob-opk-2")]);
    let plaintext = alice.text("1");
    let refused = carol.with_bundle(true, |bundle| alice.seal(&plaintext, Some(bundle)).err());
    assert_eq!(refused, Some(EncryptError::BadBundle(BadBundle::SpkSignature)));
}

#[test]
fn message_that_is_given_to_somebody_else_is_rejected() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("for bob", &mut bob);
    let mut carol = User::with_keys("carol", "alice", "carol-ik", "bob-spk-2", &[key("bob-opk-2")]);
    assert_eq!(carol.rejects(&sent.envelope).reason, RejectReason::UnknownPrekey);
    // Even who holds the very same prekeys is another person.
    let opks = [key("bob-opk-1"), key("bob-opk-2")];
    let mut twin = User::with_keys("carol", "alice", "carol-ik", "bob-spk", &opks);
    assert_eq!(twin.rejects(&sent.envelope).reason, RejectReason::BadInit);
    assert_eq!(twin.prekeys.private_operations(), 0);
}

#[test]
fn message_that_is_said_to_come_from_somebody_else_is_rejected() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("from alice", &mut bob);
    let opks = [key("bob-opk-1"), key("bob-opk-2")];
    let mut bob_with_carol = User::with_keys("bob", "carol", "bob-ik", "bob-spk", &opks);
    assert_eq!(bob_with_carol.rejects(&sent.envelope).reason, RejectReason::BadInit);
    assert_eq!(bob_with_carol.prekeys.private_operations(), 0);
}

#[test]
fn reordered_messages_open_once_each_and_withheld_ones_are_missed() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent: Vec<_> = (0..4).map(|n| alice.send(&n.to_string(), &mut bob)).collect();
    assert_eq!(bob.opens(&sent[3].envelope).missing, 3, "told at once");
    assert_eq!(bob.reads(&sent[1].envelope), "1");
    assert_eq!(bob.receipt_again(&sent[1].envelope), sent[1].expected_receipt);
    assert_eq!(bob.reads(&sent[0].envelope), "0");
    assert_eq!(bob.peer.missing(), 1, "the third is withheld");
}

#[test]
fn false_receipt_is_told_from_the_true_one() {
    let (mut alice, mut bob) = alice_and_bob();
    let first = alice.send("1", &mut bob);
    let second = alice.send("2", &mut bob);
    let receipt = bob.opens(&first.envelope).record.receipt;
    assert_eq!(judge(&first.expected_receipt, &receipt), Answer::Received);
    // That of another message, one with a bit changed, and one that is made up.
    assert_eq!(judge(&second.expected_receipt, &receipt), Answer::Forged);
    let mut changed = receipt;
    changed.0[31] ^= 1;
    assert_eq!(judge(&first.expected_receipt, &changed), Answer::Forged);
    assert_eq!(judge(&first.expected_receipt, &Receipt([7; 32])), Answer::Forged);
    // Zeros can be faked by anybody: they make the sender encrypt anew, and nothing else.
    assert_eq!(judge(&first.expected_receipt, &Receipt::ZERO), Answer::Rejected);
}

#[test]
fn replayed_preamble_with_a_bad_tag_costs_no_further_private_operation() {
    let (mut alice, mut bob) = alice_and_bob();
    let init = alice.send("init", &mut bob);
    let replay = |envelope: &[u8], to: &mut User, salt: u8| {
        // Another message behind the same preamble.
        let mut forged = envelope.to_vec();
        let end = forged.len();
        forged[end - 33..].fill(salt);
        assert_eq!(to.rejects(&forged).reason, RejectReason::BadTag);
    };
    for salt in 0..20 {
        replay(&init.envelope, &mut bob, salt);
        assert_eq!(bob.prekeys.private_operations(), 2, "c1 and c2, once");
    }
    assert_eq!(bob.reads(&init.envelope), "init");
    let step = bob.send("step", &mut alice);
    for salt in 0..20 {
        replay(&step.envelope, &mut alice, salt);
        assert_eq!(alice.prekeys.private_operations(), 1, "c, once");
    }
    assert_eq!(alice.reads(&step.envelope), "step");
    // Behind the session that stands none is looked at.
    let mut forged = bob.send("with the step still", &mut alice).envelope;
    let before = alice.prekeys.private_operations();
    forged[60] ^= 1;
    assert_eq!(alice.rejects(&forged).reason, RejectReason::BadTag);
    assert_eq!(alice.prekeys.private_operations(), before);
}

#[test]
fn withheld_one_time_prekey_is_told() {
    let (mut alice, mut bob) = alice_and_bob();
    let plaintext = alice.text("hello");
    assert_eq!(alice.seal(&plaintext, None).err(), Some(EncryptError::NeedBundle { one_time: true }));
    let sealed = bob.with_bundle(false, |bundle| alice.seal(&plaintext, Some(bundle))).unwrap();
    assert!(sealed.without_one_time);
    assert!(!alice.send("the session stands", &mut bob).without_one_time);
    let (mut alice, mut bob) = alice_and_bob();
    assert!(!alice.send("hello", &mut bob).without_one_time);
}
