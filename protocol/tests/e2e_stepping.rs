//! Epochs: who steps when, what arrives across a step, what is erased, and what a copied state is worth.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod e2e_support;

use e2e_protocol::e2e::limits::{CHAIN_MESSAGES_MAX, STEP_DUE_MESSAGES, STEP_FORCED_MESSAGES};
use e2e_protocol::e2e::{
    EncryptError, Inbox, Kind, Me, Opened, Peer, Plaintext, PreambleMemory, Prekeys, Records, RejectReason,
    STEP_BYTES, Sealed,
};
use e2e_protocol::ids::MessageId;
use e2e_support::{DAY, User, alice_and_bob, key};

const STRICT_BYTES: usize = 56 + 256 + 128 + 32;
const LIGHT_BYTES: usize = STRICT_BYTES - 256;

/// Alice and bob, both light.
fn light_alice_and_bob() -> (User, User) {
    let (mut alice, mut bob) = alice_and_bob();
    alice.become_light("alice-spk", &[key("alice-opk")]);
    bob.become_light("bob-spk", &[key("bob-opk-1"), key("bob-opk-2")]);
    (alice, bob)
}

fn both_profiles() -> [(User, User); 2] {
    [alice_and_bob(), light_alice_and_bob()]
}

/// A ratchet key made ahead.
fn ready(user: &mut User) {
    user.ratchets.add(&e2e_protocol::e2e::KeyPair::generate(&mut user.rng));
}

/// Sends, opens, and lets the sender know.
fn pass(from: &mut User, to: &mut User, text: &str) -> Sealed {
    let sent = from.send(text, to);
    assert_eq!(to.reads(&sent.envelope), text);
    from.peer.receipt_verified(sent.sid, sent.epoch);
    sent
}

/// The next epoch: whoever is on turn steps, with the 24 hours that make a step due.
fn step(from: &mut User, to: &mut User) -> Sealed {
    from.now += DAY;
    to.now = from.now;
    ready(from);
    pass(from, to, "step")
}

#[test]
fn conversation_steps_once_in_64_messages_if_a_key_is_ready() {
    for (mut alice, mut bob) in both_profiles() {
        pass(&mut alice, &mut bob, "hello");
        assert_eq!(pass(&mut bob, &mut alice, "hello").epoch, 1);
        // That message counts for both: it follows the step.
        for n in 1..STEP_DUE_MESSAGES {
            assert_eq!(pass(&mut alice, &mut bob, "more").epoch, 0, "{n}");
        }
        assert_eq!(pass(&mut alice, &mut bob, "no key is ready").epoch, 0);
        ready(&mut alice);
        assert_eq!(pass(&mut alice, &mut bob, "one is").epoch, 2);
        assert_eq!(pass(&mut alice, &mut bob, "and then not again").epoch, 2);
        assert_eq!(pass(&mut bob, &mut alice, "bob goes on").epoch, 1);
    }
}

#[test]
fn conversation_steps_once_a_day_if_a_key_is_ready() {
    let (mut alice, mut bob) = alice_and_bob();
    pass(&mut alice, &mut bob, "hello");
    pass(&mut bob, &mut alice, "hello");
    ready(&mut alice);
    alice.now += DAY - 1;
    assert_eq!(pass(&mut alice, &mut bob, "before").epoch, 0);
    alice.now += 1;
    assert_eq!(pass(&mut alice, &mut bob, "then").epoch, 2);
}

#[test]
fn steps_in_any_case_after_500_messages_or_7_days() {
    let (mut alice, mut bob) = alice_and_bob();
    pass(&mut alice, &mut bob, "hello");
    for n in 1..STEP_FORCED_MESSAGES {
        assert!(!bob.peer.needs_empty_message(bob.now), "{n}");
        pass(&mut alice, &mut bob, "more");
    }
    assert!(bob.peer.needs_empty_message(bob.now), "bob never said a word");
    let empty = Plaintext { id: MessageId([9; 16]), kind: Kind::Nothing, time_ms: 0, body: vec![].into() };
    let sent = bob.send_plaintext(&empty, &mut alice).unwrap();
    assert_eq!((sent.epoch, sent.number), (1, 0));
    assert!(!bob.peer.needs_empty_message(bob.now));
    alice.opens(&sent.envelope);
    assert!(!alice.peer.needs_empty_message(alice.now + 7 * DAY - 1));
    assert!(alice.peer.needs_empty_message(alice.now + 7 * DAY));
    alice.now += 7 * DAY;
    assert_eq!(alice.send("a key is made", &mut bob).epoch, 2);
}

#[test]
fn full_chain_goes_on_with_a_step_where_it_is_ones_turn() {
    let (mut alice, mut bob) = light_alice_and_bob();
    pass(&mut alice, &mut bob, "hello");
    let answer = bob.send("hello", &mut alice);
    let mut last = answer.number;
    for _ in 1..CHAIN_MESSAGES_MAX {
        last = bob.send("more", &mut alice).number;
    }
    assert_eq!(last, 999);
    let refused = {
        let text = bob.text("more");
        bob.seal(&text, None).err()
    };
    assert_eq!(refused, Some(EncryptError::NeedBundle { one_time: true }), "not his turn");
    // Number 999 of the peer's makes a step due, whatever is missing before it.
    alice.opens(&answer.envelope);
    assert!(!alice.peer.needs_empty_message(alice.now));
    let stepped = step(&mut alice, &mut bob);
    assert_eq!(stepped.epoch, 2);
    assert_eq!(bob.send("and bob has a new chain", &mut alice).epoch, 3);
}

#[test]
fn number_999_makes_a_step_due() {
    let (mut alice, mut bob) = light_alice_and_bob();
    let sent: Vec<_> = (0..CHAIN_MESSAGES_MAX).map(|n| alice.send(&n.to_string(), &mut bob)).collect();
    bob.opens(&sent[998].envelope);
    assert!(!bob.peer.needs_empty_message(bob.now));
    assert_eq!(bob.opens(&sent[999].envelope).missing, 0);
    assert!(bob.peer.needs_empty_message(bob.now));
}

/// Alice's next message starts a session, without a one-time prekey.
fn start_anew(alice: &mut User, bob: &mut User) {
    alice.peer = Peer::new(*alice.peer.name());
    bob.handed_out = bob.batch.moduli.len();
}

#[test]
fn number_999_alone_earns_no_init() {
    let (mut alice, mut bob) = light_alice_and_bob();
    for n in 0..9 {
        start_anew(&mut alice, &mut bob);
        let mut sent = alice.send("0", &mut bob);
        while sent.number < CHAIN_MESSAGES_MAX - 1 {
            sent = alice.send("more", &mut bob);
        }
        match bob.open(&sent.envelope) {
            Ok(_) => assert!(n < 8, "{n}"),
            Err(reject) => assert!(n == 8 && reject.reason == RejectReason::InitBudget, "{n}"),
        }
    }
}

#[test]
fn half_a_chain_earns_an_init_whatever_of_it_is_lost() {
    let (mut alice, mut bob) = light_alice_and_bob();
    for n in 0..9 {
        start_anew(&mut alice, &mut bob);
        for at in 0..CHAIN_MESSAGES_MAX {
            let sent = alice.send("more", &mut bob);
            // Every other one is lost, and so is the last.
            if at % 2 == 0 {
                assert_eq!(bob.reads(&sent.envelope), "more", "{n} {at}");
            }
        }
    }
}

#[test]
fn late_first_answer_makes_the_starter_step_in_any_case() {
    for (late, is_forced) in [(7 * DAY - 1, false), (7 * DAY, true)] {
        let (mut alice, mut bob) = alice_and_bob();
        pass(&mut alice, &mut bob, "hello");
        (alice.now, bob.now) = (alice.now + late, bob.now + late);
        pass(&mut bob, &mut alice, "a late answer");
        assert_eq!(alice.peer.needs_empty_message(alice.now), is_forced);
        assert_eq!(alice.send("more", &mut bob).epoch, if is_forced { 2 } else { 0 });
    }
}

#[test]
fn step_travels_until_a_receipt_or_the_next_epoch() {
    for (mut alice, mut bob) in both_profiles() {
        let bare = if alice.profile.wraps() { STRICT_BYTES } else { LIGHT_BYTES };
        pass(&mut alice, &mut bob, "hello");
        let first = bob.send("1", &mut alice);
        let second = bob.send("2", &mut alice);
        assert_eq!(first.envelope.len(), bare + STEP_BYTES);
        assert_eq!(second.envelope.len(), bare + STEP_BYTES);
        assert_eq!(alice.reads(&second.envelope), "2");
        let stepped = step(&mut alice, &mut bob);
        assert_eq!(stepped.epoch, 2);
        let third = bob.send("3", &mut alice);
        assert_eq!((third.epoch, third.envelope.len()), (1, bare));
        assert_eq!(alice.reads(&first.envelope), "1");
        assert_eq!(alice.reads(&third.envelope), "3");
        // A receipt for a message of an epoch before proves nothing for this one.
        bob.peer.receipt_verified(first.sid, 1);
        let fourth = step(&mut bob, &mut alice);
        assert_eq!((fourth.epoch, fourth.number), (3, 0));
    }
}

#[test]
fn messages_arrive_across_steps_in_any_order() {
    for (mut alice, mut bob) in both_profiles() {
        pass(&mut alice, &mut bob, "hello");
        pass(&mut bob, &mut alice, "hello");
        let early: Vec<_> = (0..3).map(|n| alice.send(&n.to_string(), &mut bob)).collect();
        ready(&mut alice);
        alice.now += DAY;
        let stepped: Vec<_> = (3..6).map(|n| alice.send(&n.to_string(), &mut bob)).collect();
        assert_eq!((early[2].epoch, stepped[0].epoch), (0, 2));
        assert_eq!(bob.opens(&stepped[1].envelope).missing, 3 + 1);
        for (sent, text) in
            [(&early[2], "2"), (&stepped[2], "5"), (&early[0], "0"), (&stepped[0], "3"), (&early[1], "1")]
        {
            assert_eq!(bob.reads(&sent.envelope), text);
        }
        assert_eq!(bob.peer.missing(), 0);
        bob.records = Records::new();
        assert_eq!(bob.rejects(&early[0].envelope).reason, RejectReason::NumberUsed);
        assert_eq!(bob.rejects(&stepped[0].envelope).reason, RejectReason::NumberUsed);
    }
}

#[test]
fn lost_step_is_made_up_for_by_the_next_message() {
    let (mut alice, mut bob) = alice_and_bob();
    pass(&mut alice, &mut bob, "hello");
    bob.send("lost", &mut alice);
    assert_eq!(pass(&mut bob, &mut alice, "found").number, 1);
    assert_eq!(alice.peer.missing(), 1);
}

#[test]
fn unanswered_starter_goes_on_for_30_days() {
    let (mut alice, mut bob) = light_alice_and_bob();
    let first = alice.send("0", &mut bob);
    alice.now += 30 * DAY - 1;
    assert_eq!(alice.send("1", &mut bob).sid, first.sid, "nobody can step for bob");
    // Bob's prekey may be erased from now on.
    alice.now += 1;
    assert_ne!(alice.send("2", &mut bob).sid, first.sid);
}

#[test]
fn ratchet_key_is_erased_two_steps_after_it_was_used() {
    let (mut alice, mut bob) = alice_and_bob();
    pass(&mut alice, &mut bob, "hello");
    pass(&mut bob, &mut alice, "hello");
    let late = bob.send("late", &mut alice);
    // Epoch 3 closes chain 1, which R of epoch 0 serves; one message of it is waited for.
    assert_eq!(step(&mut alice, &mut bob).epoch, 2);
    let before = alice.peer.encode().len();
    assert_eq!(step(&mut bob, &mut alice).epoch, 3);
    assert_eq!(alice.peer.missing(), 1);
    assert_eq!(alice.reads(&late.envelope), "late");
    let after = alice.peer.encode().len();
    assert!(before - after >= 512, "the key is gone: {before}, {after}");
}

/// Everything that a thief finds, turned on an envelope as the owner would.
fn thief_opens(stolen: &User, copy: &Copy, envelope: &[u8]) -> bool {
    let mut peer = Peer::decode(&copy.peer).unwrap();
    let mut prekeys = Prekeys::decode(&copy.prekeys).unwrap();
    let mut preambles = PreambleMemory::new();
    let mut inbox = Inbox {
        me: Me { name: &stolen.name, identity: &stolen.identity, profile: stolen.profile },
        prekeys: &mut prekeys,
        records: &Records::new(),
        preambles: &mut preambles,
    };
    matches!(peer.decrypt(&mut inbox, envelope, stolen.now, &mut e2e_support::rng(5)), Ok(Opened::New(_)))
}

struct Copy {
    peer: Vec<u8>,
    prekeys: Vec<u8>,
}

fn steal(from: &User) -> Copy {
    Copy { peer: from.peer.encode().to_vec(), prekeys: from.prekeys.encode().to_vec() }
}

#[test]
fn copied_state_opens_no_message_that_was_opened_before() {
    for (mut alice, mut bob) in both_profiles() {
        let mut opened = Vec::new();
        for round in 0..4 {
            for n in 0..3 {
                opened.push(pass(&mut alice, &mut bob, &format!("{round} {n}")));
            }
            pass(&mut bob, &mut alice, "answer");
            opened.push(step(&mut alice, &mut bob));
            step(&mut bob, &mut alice);
        }
        assert_eq!(opened.last().unwrap().epoch, 8);
        let skipped = alice.send("skipped", &mut bob);
        pass(&mut alice, &mut bob, "after it");
        let copy = steal(&bob);
        for sent in &opened {
            assert!(!thief_opens(&bob, &copy, &sent.envelope), "epoch {} number {}", sent.epoch, sent.number);
        }
        // What is named under Limits: a skipped message, and what comes next.
        assert!(thief_opens(&bob, &copy, &skipped.envelope));
        let next = alice.send("next", &mut bob);
        assert!(thief_opens(&bob, &copy, &next.envelope));
    }
}

#[test]
fn conversation_heals_two_steps_after_a_theft() {
    for (mut alice, mut bob) in both_profiles() {
        pass(&mut alice, &mut bob, "hello");
        pass(&mut bob, &mut alice, "hello");
        let copy = steal(&bob);
        let first = step(&mut alice, &mut bob);
        assert!(thief_opens(&bob, &copy, &first.envelope), "wrapped to what was stolen");
        step(&mut bob, &mut alice);
        let second = step(&mut alice, &mut bob);
        assert!(!thief_opens(&bob, &copy, &second.envelope));
        let later = pass(&mut alice, &mut bob, "later");
        assert!(!thief_opens(&bob, &copy, &later.envelope));
    }
}

#[test]
fn stolen_sender_reads_nothing_it_sends_in_strict() {
    let (mut alice, mut bob) = alice_and_bob();
    pass(&mut alice, &mut bob, "hello");
    pass(&mut bob, &mut alice, "hello");
    let copy = steal(&alice);
    let sent = pass(&mut alice, &mut bob, "next");
    assert!(!thief_opens(&alice, &copy, &sent.envelope));
}

/// Each byte flipped, as the first thing that comes of its kind, then the honest one.
fn flip_all(to: &mut User, sent: &Sealed, text: &str) {
    let (peer, mut first) = (to.peer.encode(), None);
    let before = to.prekeys.private_operations();
    for at in 0..sent.envelope.len() {
        let mut flipped = sent.envelope.clone();
        flipped[at] ^= 1;
        let reject = to.rejects(&flipped);
        assert!(!reject.commit, "byte {at}: {:?}", reject.reason);
        // A preamble is decrypted at most once, whatever becomes of what stands behind it.
        let operations = to.prekeys.private_operations();
        assert!(operations == before || operations == *first.get_or_insert(operations), "byte {at}");
        assert!(*to.peer.encode() == *peer, "byte {at} changed what is kept");
    }
    let once = first.unwrap_or(before);
    assert_eq!(to.reads(&sent.envelope), text);
    let of_message = u64::from(to.profile.wraps());
    assert_eq!(to.prekeys.private_operations(), once + of_message);
}

#[test]
fn any_flipped_byte_of_any_envelope_is_the_same_reject_without_private_operations() {
    for (mut alice, mut bob) in both_profiles() {
        let init = alice.send("init", &mut bob);
        flip_all(&mut bob, &init, "init");
        alice.peer.receipt_verified(init.sid, init.epoch);
        let bare = alice.send("bare", &mut bob);
        flip_all(&mut bob, &bare, "bare");
        let first = bob.send("step", &mut alice);
        assert!(first.envelope.len() > STEP_BYTES);
        flip_all(&mut alice, &first, "step");
        alice.now += DAY;
        ready(&mut alice);
        let second = alice.send("step 2", &mut bob);
        assert_eq!(second.epoch, 2);
        flip_all(&mut bob, &second, "step 2");
    }
}
