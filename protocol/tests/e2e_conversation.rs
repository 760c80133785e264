//! Two users joined in memory, with virtual time: order, loss, repetition, lost and old state.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod e2e_support;

use e2e_protocol::e2e::limits::{BODY_BYTES_MAX, CHAIN_MESSAGES_MAX, INIT_INTERVAL_MS_MIN};
use e2e_protocol::e2e::{
    Answer, EncryptError, Kind, Opened, Peer, Plaintext, PreambleMemory, Prekeys, Records, RejectReason,
    judge,
};
use e2e_protocol::ids::{MessageId, Receipt};
use e2e_protocol::limits::ENVELOPE_BYTES_MAX;
use e2e_support::{DAY, MINUTE, NOW, User, alice_and_bob, key};
use rand_chacha::rand_core::Rng;

const BARE_BYTES: usize = 56 + 256 + 128 + 32;
const INIT_BYTES: usize = BARE_BYTES + 1_297;

#[test]
fn message_arrives_with_its_receipt() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("hello", &mut bob);
    let message = bob.opens(&sent.envelope);
    assert_eq!(*message.plaintext.body, *b"hello");
    assert_eq!(message.plaintext.kind, Kind::Text);
    assert_eq!(message.plaintext.time_ms, NOW);
    assert!(!message.known);
    assert_eq!(message.missing, 0);
    assert_eq!((message.record.sid, message.record.number), (sent.sid, sent.number));
    assert_eq!(judge(&sent.expected_receipt, &message.record.receipt), Answer::Received);
    assert_eq!(judge(&sent.expected_receipt, &Receipt::ZERO), Answer::Rejected);
    assert_eq!(judge(&sent.expected_receipt, &Receipt([1; 32])), Answer::Forged);
}

#[test]
fn both_ends_pin_each_other() {
    let (mut alice, mut bob) = alice_and_bob();
    assert_eq!(bob.peer.pin(), None);
    let sent = alice.send("hello", &mut bob);
    bob.opens(&sent.envelope);
    assert_eq!(bob.peer.pin().as_ref(), Some(alice.identity.fingerprint()));
    assert_eq!(alice.peer.pin().as_ref(), Some(bob.identity.fingerprint()));
}

#[test]
fn answers_go_out_on_the_session_that_was_heard() {
    let (mut alice, mut bob) = alice_and_bob();
    for round in 0..4 {
        let there = alice.send("ping", &mut bob);
        assert_eq!(bob.reads(&there.envelope), "ping");
        let back = bob.send("pong", &mut alice);
        assert_eq!(alice.reads(&back.envelope), "pong");
        assert_eq!(there.sid, back.sid);
        assert_eq!((there.epoch, there.number), (0, round));
        assert_eq!((back.epoch, back.number), (1, round));
    }
    assert_eq!(alice.handed_out, 0, "bob needed no bundle");
}

#[test]
fn init_travels_until_a_receipt_verified() {
    let (mut alice, mut bob) = alice_and_bob();
    let first = alice.send("1", &mut bob);
    let second = alice.send("2", &mut bob);
    assert_eq!((first.envelope.len(), second.envelope.len()), (INIT_BYTES, INIT_BYTES));
    alice.peer.receipt_verified(first.sid, first.epoch);
    let third = alice.send("3", &mut bob);
    assert_eq!(third.envelope.len(), BARE_BYTES);
    for (sent, text) in [(first, "1"), (second, "2"), (third, "3")] {
        assert_eq!(bob.reads(&sent.envelope), text);
    }
}

#[test]
fn same_text_never_looks_the_same() {
    let (mut alice, mut bob) = alice_and_bob();
    let plaintext = alice.text("hello");
    let first = alice.send_plaintext(&plaintext, &mut bob).unwrap().envelope;
    let second = alice.send_plaintext(&plaintext, &mut bob).unwrap().envelope;
    let same = first[INIT_BYTES - 416..].iter().zip(&second[INIT_BYTES - 416..]).filter(|(a, b)| a == b);
    assert!(same.count() < 16);
}

#[test]
fn longest_body_fits_and_a_longer_one_is_refused() {
    let (mut alice, mut bob) = alice_and_bob();
    let body = |bytes| Plaintext::new(Kind::Bytes, vec![7; bytes], NOW, &mut e2e_support::rng(9));
    let sent = alice.send_plaintext(&body(BODY_BYTES_MAX), &mut bob).unwrap();
    assert_eq!(BODY_BYTES_MAX, 12_258);
    assert_eq!(sent.envelope.len(), 13_929);
    assert!(sent.envelope.len() <= ENVELOPE_BYTES_MAX);
    assert_eq!(bob.opens(&sent.envelope).plaintext.body.len(), BODY_BYTES_MAX);
    let refused = alice.send_plaintext(&body(BODY_BYTES_MAX + 1), &mut bob).err();
    assert_eq!(refused, Some(EncryptError::TooLong));
}

#[test]
fn envelopes_open_in_any_order_and_missing_ones_are_told() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent: Vec<_> = (0..6).map(|n| alice.send(&n.to_string(), &mut bob)).collect();
    let missing = |bob: &mut User, n: usize| {
        let message = bob.opens(&sent[n].envelope);
        assert_eq!(*message.plaintext.body, *n.to_string().as_bytes());
        message.missing
    };
    assert_eq!(missing(&mut bob, 3), 3);
    assert_eq!(missing(&mut bob, 1), 0);
    assert_eq!(missing(&mut bob, 5), 1);
    assert_eq!(bob.peer.missing(), 3);
    for n in [4, 0, 2] {
        assert_eq!(missing(&mut bob, n), 0);
    }
    assert_eq!(bob.peer.missing(), 0);
}

#[test]
fn any_interleaving_of_loss_repetition_and_disorder_shows_each_message_once() {
    for seed in 0..3 {
        let (mut alice, mut bob) = alice_and_bob();
        let mut random = e2e_support::rng(100 + seed);
        let mut on_the_way = Vec::new();
        let mut shown = Vec::new();
        for n in 0..20 {
            let sent = alice.send(&n.to_string(), &mut bob);
            on_the_way.push(sent);
            while !on_the_way.is_empty() && !random.next_u32().is_multiple_of(3) {
                let at = random.next_u32() as usize % on_the_way.len();
                // Delivered, and in one of four cases delivered again later.
                let again = random.next_u32().is_multiple_of(4);
                let sent = &on_the_way[at];
                let receipt = match bob.open(&sent.envelope).unwrap() {
                    Opened::New(message) => {
                        shown.push(String::from_utf8(message.plaintext.body.to_vec()).unwrap());
                        message.record.receipt
                    }
                    Opened::Again(receipt) => receipt,
                };
                assert_eq!(judge(&sent.expected_receipt, &receipt), Answer::Received);
                alice.peer.receipt_verified(sent.sid, sent.epoch);
                if !again {
                    on_the_way.remove(at);
                }
            }
        }
        for sent in on_the_way {
            if let Opened::New(message) = bob.open(&sent.envelope).unwrap() {
                shown.push(String::from_utf8(message.plaintext.body.to_vec()).unwrap());
            }
        }
        let mut all: Vec<u32> = shown.iter().map(|text| text.parse().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn resent_envelope_is_answered_with_the_same_receipt() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("hello", &mut bob);
    bob.opens(&sent.envelope);
    let operations = bob.prekeys.private_operations();
    assert_eq!(bob.receipt_again(&sent.envelope), sent.expected_receipt);
    assert_eq!(bob.prekeys.private_operations(), operations);
}

#[test]
fn same_message_in_a_new_envelope_is_not_shown_again() {
    let (mut alice, mut bob) = alice_and_bob();
    let plaintext = alice.text("hello");
    let first = alice.send_plaintext(&plaintext, &mut bob).unwrap();
    assert!(!bob.opens(&first.envelope).known);
    let second = alice.send_plaintext(&plaintext, &mut bob).unwrap();
    let message = bob.opens(&second.envelope);
    assert!(message.known);
    assert_eq!(judge(&second.expected_receipt, &message.record.receipt), Answer::Received);
}

#[test]
fn without_records_a_replay_is_still_rejected() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("hello", &mut bob);
    bob.opens(&sent.envelope);
    bob.records = Records::new();
    assert_eq!(bob.rejects(&sent.envelope).reason, RejectReason::NumberUsed);
}

#[test]
fn simultaneous_starts_need_no_rule_of_their_own() {
    let (mut alice, mut bob) = alice_and_bob();
    let there = alice.send("from alice", &mut bob);
    let back = bob.send("from bob", &mut alice);
    assert_eq!(bob.reads(&there.envelope), "from alice");
    assert_eq!(alice.reads(&back.envelope), "from bob");
    // Each answers on the session that it heard. As soon as messages don't cross, one is left.
    let answer = alice.send("2", &mut bob);
    assert_eq!((answer.sid, answer.epoch), (back.sid, 1));
    assert_eq!(bob.reads(&answer.envelope), "2");
    let next = bob.send("3", &mut alice);
    assert_eq!(next.sid, back.sid);
    assert_eq!(alice.reads(&next.envelope), "3");
    assert_eq!(alice.send("4", &mut bob).sid, back.sid);
}

#[test]
fn reflected_envelope_is_rejected() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("hello", &mut bob);
    assert_eq!(alice.rejects(&sent.envelope).reason, RejectReason::WrongEpoch);
}

#[test]
fn full_chain_is_followed_by_a_new_session_at_once() {
    let (mut alice, mut bob) = alice_and_bob();
    let first = alice.send("0", &mut bob);
    bob.opens(&first.envelope);
    alice.peer.receipt_verified(first.sid, first.epoch);
    let mut last = first;
    for n in 1..CHAIN_MESSAGES_MAX {
        last = alice.send(&n.to_string(), &mut bob);
        assert_eq!(last.envelope.len(), BARE_BYTES);
    }
    assert_eq!(bob.opens(&last.envelope).missing, 998);
    let next = alice.send("1000", &mut bob);
    assert_ne!(next.sid, last.sid);
    assert_eq!((next.number, next.envelope.len()), (0, INIT_BYTES));
    assert_eq!(bob.reads(&next.envelope), "1000");
}

#[test]
fn second_init_waits_ten_minutes() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("1", &mut bob);
    alice.peer.reject_seen(sent.sid);
    let plaintext = alice.text("1");
    let until = NOW + INIT_INTERVAL_MS_MIN;
    assert_eq!(alice.seal(&plaintext, None).err(), Some(EncryptError::WaitUntil(until)));
    alice.now = until;
    // And it asks for no one-time prekey, nor takes one.
    assert_eq!(alice.seal(&plaintext, None).err(), Some(EncryptError::NeedBundle { one_time: false }));
    let again = bob.with_bundle(true, |bundle| alice.seal(&plaintext, Some(bundle))).unwrap();
    assert_eq!(again.envelope.len(), INIT_BYTES - 256);
    assert_eq!(bob.reads(&again.envelope), "1");
}

#[test]
fn lost_state_of_the_recipient_heals() {
    let (mut alice, mut bob) = alice_and_bob();
    let first = alice.send("1", &mut bob);
    bob.opens(&first.envelope);
    alice.peer.receipt_verified(first.sid, first.epoch);
    // Bob lost all but his identity key, and published new prekeys.
    bob = User::with_keys("bob", "alice", "bob-ik", "bob-spk-2", &[key("bob-opk-1")]);
    bob.spk.made_ms = NOW;
    alice.now += 20 * MINUTE;
    let plaintext = alice.text("2");
    let second = alice.send_plaintext(&plaintext, &mut bob).unwrap();
    assert_eq!(bob.rejects(&second.envelope).reason, RejectReason::UnknownSession);
    alice.peer.reject_seen(second.sid);
    let third = alice.send_plaintext(&plaintext, &mut bob).unwrap();
    assert_eq!(bob.reads(&third.envelope), "2");
}

#[test]
fn state_put_back_to_an_older_copy_heals() {
    let (mut alice, mut bob) = alice_and_bob();
    let old = (bob.peer.encode(), bob.prekeys.encode());
    let first = alice.send("1", &mut bob);
    bob.opens(&first.envelope);
    alice.peer.receipt_verified(first.sid, first.epoch);
    bob.peer = Peer::decode(&old.0).unwrap();
    bob.prekeys = Prekeys::decode(&old.1).unwrap();
    let second = alice.send("2", &mut bob);
    assert_eq!(bob.rejects(&second.envelope).reason, RejectReason::UnknownSession);
    // The same envelope again, as after a lost acknowledgement: the record is there still.
    assert_eq!(bob.receipt_again(&first.envelope), first.expected_receipt);
}

#[test]
fn rejection_is_final_even_if_a_receipt_comes_later() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("1", &mut bob);
    alice.peer.reject_seen(sent.sid);
    alice.peer.receipt_verified(sent.sid, sent.epoch);
    alice.now += 20 * MINUTE;
    assert_ne!(alice.send("2", &mut bob).sid, sent.sid);
}

#[test]
fn fifth_session_takes_the_place_of_the_longest_unused() {
    let (mut alice, mut bob) = alice_and_bob();
    let mut sent = Vec::new();
    for n in 0..5 {
        let one = alice.send(&n.to_string(), &mut bob);
        bob.now = alice.now;
        bob.opens(&one.envelope);
        sent.push((one.sid, alice.send("late", &mut bob)));
        // So that the next message starts another.
        alice.peer.reject_seen(one.sid);
        alice.now += DAY;
    }
    assert_eq!(bob.rejects(&sent[0].1.envelope).reason, RejectReason::UnknownPrekey);
    for (_, late) in &sent[1..] {
        assert_eq!(bob.reads(&late.envelope), "late");
    }
}

#[test]
fn idle_sessions_and_their_skipped_keys_are_erased_but_not_the_one_that_is_sent_on() {
    let (mut alice, mut bob) = alice_and_bob();
    let skipped = alice.send("1", &mut bob);
    let second = alice.send("2", &mut bob);
    bob.opens(&second.envelope);
    alice.peer.reject_seen(second.sid);
    alice.now += DAY;
    bob.now += DAY;
    let other = alice.send("3", &mut bob);
    let late = alice.send("4", &mut bob);
    bob.opens(&other.envelope);
    assert_ne!(other.sid, second.sid);
    bob.now += 31 * DAY;
    bob.records = Records::new();
    assert_eq!(bob.rejects(&skipped.envelope).reason, RejectReason::NumberUsed, "its key is gone");
    assert_eq!(bob.peer.missing(), 0);
    assert_eq!(bob.reads(&late.envelope), "4");
    assert_eq!(bob.rejects(&skipped.envelope).reason, RejectReason::UnknownPrekey, "and its session too");
}

#[test]
fn simultaneous_starts_outlive_a_long_silence() {
    let (mut alice, mut bob) = alice_and_bob();
    let (from_alice, from_bob) = (alice.send("1", &mut bob), bob.send("2", &mut alice));
    bob.opens(&from_alice.envelope);
    alice.opens(&from_bob.envelope);
    (alice.now, bob.now) = (alice.now + 40 * DAY, bob.now + 40 * DAY);
    // Each goes on with the other's session, and neither has erased its own.
    let (from_alice, from_bob) = (alice.send("3", &mut bob), bob.send("4", &mut alice));
    assert_eq!(bob.reads(&from_alice.envelope), "3");
    assert_eq!(alice.reads(&from_bob.envelope), "4");
}

#[test]
fn init_of_an_erased_session_is_not_used_again() {
    let (mut alice, mut bob) = alice_and_bob();
    // Without a one-time prekey nothing but the memory of it stands against the replay.
    bob.handed_out = 2;
    let sent = alice.send("1", &mut bob);
    assert_eq!(sent.envelope.len(), INIT_BYTES - 256);
    bob.opens(&sent.envelope);
    bob.peer.forget_sessions();
    bob.records = Records::new();
    assert_eq!(bob.rejects(&sent.envelope).reason, RejectReason::InitUsed);
}

#[test]
fn hourly_budget_of_inits_is_kept() {
    let (mut alice, mut bob) = alice_and_bob();
    for n in 0..9 {
        // Another session each time, and each with a wrong tag.
        alice.peer = Peer::new(*alice.peer.name());
        let mut envelope = alice.send(&n.to_string(), &mut bob).envelope;
        let last = envelope.len() - 1;
        envelope[last] ^= 1;
        let expected = if n < 8 { RejectReason::BadTag } else { RejectReason::InitBudget };
        assert_eq!(bob.rejects(&envelope).reason, expected, "{n}");
        bob.handed_out = 0;
    }
    bob.now += 60 * MINUTE;
    alice.peer = Peer::new(*alice.peer.name());
    let sent = alice.send("hello", &mut bob);
    assert_eq!(bob.reads(&sent.envelope), "hello");
}

#[test]
fn clock_set_back_does_not_lengthen_the_hour_of_the_budget() {
    let (mut alice, mut bob) = alice_and_bob();
    bob.handed_out = 2;
    let now = bob.now;
    bob.now += 10 * DAY;
    for _ in 0..8 {
        alice.peer = Peer::new(*alice.peer.name());
        let sent = alice.send("hello", &mut bob);
        bob.reads(&sent.envelope);
    }
    bob.now = now;
    alice.peer = Peer::new(*alice.peer.name());
    let sent = alice.send("hello", &mut bob);
    assert_eq!(bob.reads(&sent.envelope), "hello");
}

#[test]
fn restarted_process_opens_what_it_once_refused() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("hello", &mut bob);
    let mut forged = sent.envelope.clone();
    forged[BARE_BYTES] ^= 1;
    bob.rejects(&forged);
    bob.preambles = PreambleMemory::new();
    assert_eq!(bob.reads(&sent.envelope), "hello");
}

#[test]
fn one_does_not_write_to_oneself() {
    let mut bob = User::new("bob", "bob");
    let plaintext = bob.text("hello");
    assert_eq!(bob.seal(&plaintext, None).err(), Some(EncryptError::OwnName));
}

#[test]
fn empty_and_unknown_messages_are_opened() {
    let (mut alice, mut bob) = alice_and_bob();
    for kind in [Kind::Nothing, Kind::Unknown(9)] {
        let plaintext =
            Plaintext { id: MessageId([u8::from(kind); 16]), kind, time_ms: 0, body: vec![].into() };
        let sent = alice.send_plaintext(&plaintext, &mut bob).unwrap();
        assert!(bob.opens(&sent.envelope).plaintext == plaintext);
    }
}
