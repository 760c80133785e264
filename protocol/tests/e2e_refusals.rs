//! What must not be accepted: bundles, forged envelopes, spent and erased prekeys.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod e2e_support;

use e2e_protocol::e2e::limits::{BATCHES_MAX, OAEP_FAILURES_MAX, SPKS_MAX};
use e2e_protocol::e2e::{
    BadBundle, BatchError, Bundle, EncryptError, Identity, Me, OneTime, Peer, Prekeys, Profile, Records,
    RejectReason,
};
use e2e_protocol::ids::KeyId;
use e2e_protocol::login::{check_modulus, key_id};
use e2e_support::{DAY, NOW, User, alice_and_bob, key, name, rng};

/// What becomes of a message to bob with a bundle that was tampered with.
fn with_tampered(tamper: impl Fn(&mut Bundle<'_>)) -> EncryptError {
    let (mut alice, mut bob) = alice_and_bob();
    let plaintext = alice.text("hello");
    let before = alice.peer.encode();
    let refused = bob.with_bundle(true, |bundle| {
        let mut bundle = *bundle;
        tamper(&mut bundle);
        alice.seal(&plaintext, Some(&bundle)).err()
    });
    assert_eq!(*before, *alice.peer.encode(), "a refused bundle changes nothing");
    refused.unwrap()
}

/// A bundle borrows; what is put in its place has to live as long.
fn leaked(bytes: [u8; 256]) -> &'static [u8; 256] {
    Box::leak(Box::new(bytes))
}

fn bad(why: BadBundle) -> EncryptError {
    EncryptError::BadBundle(why)
}

#[test]
fn refuses_bundles_that_are_not_signed_as_they_are() {
    let carol = leaked(*key("carol-ik").modulus());
    let nonsense = leaked([1; 256]);
    assert_eq!(with_tampered(|b| b.made_ms += 1), bad(BadBundle::SpkSignature));
    assert_eq!(with_tampered(|b| b.profile = 1), bad(BadBundle::SpkSignature));
    assert_eq!(with_tampered(|b| b.spk = carol), bad(BadBundle::SpkSignature));
    assert_eq!(with_tampered(|b| b.identity = carol), bad(BadBundle::SpkSignature));
    assert_eq!(with_tampered(|b| b.signature = nonsense), bad(BadBundle::SpkSignature));
    let spk_signature = with_tampered(|b| {
        let signature = b.signature;
        b.one_time.as_mut().unwrap().signature = signature;
    });
    assert_eq!(spk_signature, bad(BadBundle::BatchSignature));
}

#[test]
fn refuses_keys_that_are_no_rsa_2048_moduli() {
    let (mut even, mut short) = (*key("carol-ik").modulus(), *key("carol-ik").modulus());
    even[255] &= 0xfe;
    short[0] &= 0x7f;
    for modulus in [leaked(even), leaked(short)] {
        assert!(check_modulus(modulus).is_err());
        assert_eq!(with_tampered(|b| b.spk = modulus), bad(BadBundle::Modulus));
        assert_eq!(with_tampered(|b| b.identity = modulus), bad(BadBundle::Modulus));
        assert_eq!(
            with_tampered(|b| b.one_time.as_mut().unwrap().modulus = modulus),
            bad(BadBundle::Modulus)
        );
    }
}

#[test]
fn refuses_one_time_prekeys_that_are_not_in_the_batch() {
    let carol = leaked(*key("carol-ik").modulus());
    assert_eq!(with_tampered(|b| b.one_time.as_mut().unwrap().modulus = carol), bad(BadBundle::NotListed));
    let with_hashes = |hashes: &[[u8; 32]]| {
        let (mut alice, mut bob) = alice_and_bob();
        let plaintext = alice.text("hello");
        bob.with_bundle(true, |bundle| {
            let one_time = OneTime { hashes, ..bundle.one_time.unwrap() };
            alice.seal(&plaintext, Some(&Bundle { one_time: Some(one_time), ..*bundle })).err().unwrap()
        })
    };
    let hashes = User::new("bob", "alice").hashes();
    assert_eq!(with_hashes(&[]), bad(BadBundle::BatchSignature));
    assert_eq!(with_hashes(&hashes[..1]), bad(BadBundle::BatchSignature));
    assert_eq!(with_hashes(&hashes[1..]), bad(BadBundle::NotListed));
    assert_eq!(with_hashes(&hashes.repeat(9)), bad(BadBundle::BatchSignature));
}

#[test]
fn refuses_a_bundle_of_another_name() {
    let (mut alice, _) = alice_and_bob();
    let mut bobby = User::with_keys("bobby", "alice", "bob-ik", "bob-spk", &[key("bob-opk-1")]);
    let plaintext = alice.text("hello");
    let refused = bobby.with_bundle(true, |bundle| alice.seal(&plaintext, Some(bundle)).err());
    assert_eq!(refused, Some(bad(BadBundle::SpkSignature)));
}

#[test]
fn refuses_a_batch_of_another_signed_prekey() {
    let (mut alice, mut bob) = alice_and_bob();
    let mut other = User::with_keys("bob", "alice", "bob-ik", "bob-spk-2", &[key("bob-opk-1")]);
    let plaintext = alice.text("hello");
    let refused = bob.with_bundle(false, |bundle| {
        other.with_bundle(true, |other| {
            alice.seal(&plaintext, Some(&Bundle { one_time: other.one_time, ..*bundle })).err()
        })
    });
    assert_eq!(refused, Some(bad(BadBundle::BatchSignature)));
}

#[test]
fn changed_key_is_told_with_its_fingerprint() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("1", &mut bob);
    alice.peer.reject_seen(sent.sid);
    alice.now += DAY;
    let mut other = User::with_keys("bob", "alice", "carol-ik", "bob-spk-2", &[key("bob-opk-1")]);
    let plaintext = alice.text("2");
    let refused = alice.send_plaintext(&plaintext, &mut other).err();
    let shown = *other.identity.fingerprint();
    assert_eq!(refused, Some(EncryptError::KeyChanged(shown)));

    // And in the other direction.
    bob.opens(&sent.envelope);
    let mut impostor = User::with_keys("alice", "bob", "carol-ik", "alice-spk", &[key("alice-opk")]);
    let forged = impostor.send("3", &mut bob);
    assert_eq!(bob.rejects(&forged.envelope).reason, RejectReason::KeyChanged(shown));
}

/// A bundle of bob made `made_ms`, used by an alice at `now`.
fn made(alice: &mut User, made_ms: u64, now: u64) -> Option<EncryptError> {
    let mut bob = User::with_keys("bob", "alice", "bob-ik", "bob-spk", &[key("bob-opk-1")]);
    let me = Me { name: &bob.name, identity: &bob.identity, profile: Profile::Strict };
    bob.prekeys = Prekeys::new();
    bob.spk = bob.prekeys.publish_spk(me, &key("bob-spk"), made_ms, &mut bob.rng);
    alice.now = now;
    let plaintext = alice.text("hello");
    let sealed = bob.with_bundle(false, |bundle| alice.seal(&plaintext, Some(bundle)));
    if let Ok(sealed) = &sealed {
        alice.peer.receipt_verified(sealed.sid, sealed.epoch);
        alice.peer.reject_seen(sealed.sid);
    }
    sealed.err()
}

#[test]
fn refuses_outdated_signed_prekeys() {
    let mut alice = User::new("alice", "bob");
    assert_eq!(made(&mut alice, NOW, NOW + 60 * DAY + 1), Some(bad(BadBundle::TooOld)));
    assert_eq!(made(&mut alice, NOW, NOW + 60 * DAY), None);
}

#[test]
fn refuses_an_older_signed_prekey_than_the_last() {
    let mut alice = User::new("alice", "bob");
    assert_eq!(made(&mut alice, NOW, NOW), None);
    assert_eq!(made(&mut alice, NOW - 1, NOW + DAY), Some(bad(BadBundle::Older)));
    assert_eq!(made(&mut alice, NOW, NOW + DAY), None);
}

#[test]
fn time_of_a_signed_prekey_from_far_ahead_is_not_remembered() {
    let mut alice = User::new("alice", "bob");
    assert_eq!(made(&mut alice, NOW + DAY + 1, NOW), None);
    assert_eq!(made(&mut alice, NOW, NOW + DAY), None);
    assert_eq!(made(&mut alice, NOW + 3 * DAY, NOW + 2 * DAY), None);
    assert_eq!(made(&mut alice, NOW + 3 * DAY - 1, NOW + 3 * DAY), Some(bad(BadBundle::Older)));
}

#[test]
fn refuses_to_send_to_a_profile_it_does_not_know() {
    let (mut alice, mut bob) = alice_and_bob();
    // A light bundle, signed as it should be, by the bytes of spec/crypto.md.
    let mut signed = vec![8];
    signed.extend(b"RLY1/spk\0\0\0\x03bob");
    signed.extend(bob.identity.fingerprint().0);
    signed.extend(bob.spk.modulus);
    signed.extend(NOW.to_be_bytes());
    signed.push(2);
    let signature = sign_raw("bob-ik", &signed);
    (bob.spk.profile, bob.spk.signature) = (2, signature);
    let plaintext = alice.text("hello");
    let refused = bob.with_bundle(false, |bundle| alice.seal(&plaintext, Some(bundle)).err());
    assert_eq!(refused, Some(bad(BadBundle::Profile(2))));
}

/// RSASSA-PSS without our code.
fn sign_raw(signer: &str, message: &[u8]) -> [u8; 256] {
    use rsa::{BoxedUint, Pss, RsaPrivateKey};
    use sha2::Digest;
    let keys = e2e_support::Vector::load(&e2e_support::folder().join("keys.txt"));
    let (p, q) = keys.get(signer).split_once(' ').unwrap();
    let prime = |text: &str| BoxedUint::from_be_slice(&e2e_support::unhex(text), 1024).unwrap();
    let key = RsaPrivateKey::from_p_q(prime(p), prime(q), BoxedUint::from(65_537_u64)).unwrap();
    let hash = sha2::Sha256::digest(message);
    let signature = key.sign_with_rng(&mut rng(3), Pss::<sha2::Sha256>::new_with_salt(32), &hash);
    signature.unwrap().try_into().unwrap()
}

#[test]
fn flipping_any_byte_of_a_known_session_asks_for_no_private_operation() {
    let (mut alice, mut bob) = alice_and_bob();
    let first = alice.send("1", &mut bob);
    bob.opens(&first.envelope);
    // One with its INIT still, and one without.
    let with_init = alice.send("2", &mut bob).envelope;
    alice.peer.receipt_verified(first.sid, first.epoch);
    let bare = alice.send("3", &mut bob).envelope;
    let operations = bob.prekeys.private_operations();
    let (peer, prekeys) = (bob.peer.encode(), bob.prekeys.encode());
    for envelope in [&with_init, &bare] {
        for at in 0..envelope.len() {
            let mut forged = envelope.clone();
            forged[at] ^= 1;
            let reject = bob.rejects(&forged);
            assert!(!reject.commit, "byte {at}: {}", reject.reason);
            assert_eq!(bob.prekeys.private_operations(), operations, "byte {at}");
        }
    }
    assert_eq!(*bob.peer.encode(), *peer);
    assert_eq!(*bob.prekeys.encode(), *prekeys);
    assert_eq!(bob.reads(&with_init), "2");
    assert_eq!(bob.reads(&bare), "3");
}

#[test]
fn flipping_any_byte_of_a_first_envelope_asks_for_one_decryption_of_its_init_at_most() {
    let (mut alice, mut bob) = alice_and_bob();
    let envelope = alice.send("hello", &mut bob).envelope;
    let (peer, prekeys) = (bob.peer.encode(), bob.prekeys.encode());
    let init = 56..56 + 1_297;
    let mut decrypted = 0;
    for at in 0..envelope.len() {
        let mut forged = envelope.clone();
        forged[at] ^= 1;
        let before = bob.prekeys.private_operations();
        let reject = bob.rejects(&forged);
        assert!(!reject.commit, "byte {at}: {}", reject.reason);
        let operations = bob.prekeys.private_operations() - before;
        if init.contains(&at) {
            assert_eq!(operations, 0, "byte {at} of the envelope, in INIT: {}", reject.reason);
        }
        decrypted += operations;
    }
    assert_eq!(decrypted, 2, "c1 and c2, once");
    assert_eq!(*bob.peer.encode(), *peer);
    assert_eq!(*bob.prekeys.encode(), *prekeys);
    assert_eq!(bob.reads(&envelope), "hello");
}

#[test]
fn envelope_for_somebody_else_is_rejected() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("hello", &mut bob);
    let mut carol = User::with_keys("carol", "alice", "carol-ik", "bob-spk", &[key("bob-opk-1")]);
    assert_eq!(carol.rejects(&sent.envelope).reason, RejectReason::BadInit);
    // The relay says that it is from somebody else.
    let mut bob = User::new("bob", "mallory");
    assert_eq!(bob.rejects(&sent.envelope).reason, RejectReason::BadInit);
}

#[test]
fn failed_unwrapping_is_counted_and_ends_the_signed_prekey() {
    let v = e2e_support::Vector::load(&e2e_support::folder().join("reject/c1-garbage.txt"));
    let mut bob = User::new("bob", "alice");
    let garbage = v.bytes("envelope 1");
    let reject = bob.rejects(&garbage);
    assert_eq!(reject.reason, RejectReason::BadTag);
    assert!(reject.commit, "the failure count is kept");
    let kid = key_id(&bob.spk.modulus);
    assert!(!bob.prekeys.needs_spk(NOW, Profile::Strict, kid));
    for n in 1..OAEP_FAILURES_MAX {
        assert!(!bob.prekeys.needs_spk(NOW, Profile::Strict, kid), "{n}");
        bob.preambles = e2e_protocol::e2e::PreambleMemory::new();
        assert!(bob.rejects(&garbage).commit);
    }
    assert!(bob.prekeys.needs_spk(NOW, Profile::Strict, kid));
    assert_eq!(bob.rejects(&garbage).reason, RejectReason::UnknownPrekey);
}

#[test]
fn number_is_used_up_by_what_fails_behind_a_valid_tag() {
    let v = e2e_support::Vector::load(&e2e_support::folder().join("reject/padding.txt"));
    let mut bob = User::new("bob", "alice");
    let reject = bob.rejects(&v.bytes("envelope 1"));
    assert_eq!((reject.reason, reject.commit), (RejectReason::BadPlaintext, true));
    assert!(bob.peer.pin().is_some());
    assert_eq!(bob.rejects(&v.bytes("envelope 1")).reason, RejectReason::NumberUsed);
}

#[test]
fn erased_signed_prekey_opens_nothing() {
    let (mut alice, mut bob) = alice_and_bob();
    let first = alice.send("1", &mut bob);
    bob.opens(&first.envelope);
    let second = alice.send("2", &mut bob);

    let me = Me { name: &bob.name, identity: &bob.identity, profile: Profile::Strict };
    let next = bob.prekeys.publish_spk(me, &key("bob-spk-2"), NOW + 7 * DAY, &mut bob.rng);
    bob.prekeys.spk_uploaded(key_id(&next.modulus), NOW + 7 * DAY);
    assert!(!bob.prekeys.queue_drained(NOW + 37 * DAY - 1));
    assert_eq!(bob.reads(&second.envelope), "2");
    let third = alice.send("3", &mut bob);
    assert!(bob.prekeys.queue_drained(NOW + 37 * DAY));
    let reject = bob.rejects(&third.envelope);
    assert_eq!((reject.reason, reject.commit), (RejectReason::KeyErased, true));
    bob.records = Records::new();
    bob.peer = Peer::new(name("alice"));
    assert_eq!(bob.rejects(&first.envelope).reason, RejectReason::UnknownPrekey);
}

#[test]
fn prekeys_are_due_when_the_rules_say_so() {
    let (identity, owner) = (Identity::from(key("bob-ik")), name("bob"));
    let me = Me { name: &owner, identity: &identity, profile: Profile::Strict };
    let mut prekeys = Prekeys::new();
    assert!(prekeys.needs_spk(NOW, Profile::Strict, KeyId::ZERO));
    let no_keys = prekeys.publish_batch(me, &[key("bob-opk-1")], &mut rng(1)).err();
    assert_eq!(no_keys, Some(BatchError::NoSpk));
    let spk = prekeys.publish_spk(me, &key("bob-spk"), NOW, &mut rng(1));
    let kid = key_id(&spk.modulus);
    assert!(prekeys.needs_spk(NOW, Profile::Strict, KeyId::ZERO), "the relay does not have it");
    assert!(!prekeys.needs_spk(NOW + 7 * DAY - 1, Profile::Strict, kid));
    assert!(prekeys.needs_spk(NOW + 7 * DAY, Profile::Strict, kid));

    assert!(!prekeys.needs_batch(kid, 8));
    assert!(!prekeys.needs_batch(KeyId::ZERO, 0));
    assert_eq!(prekeys.publish_batch(me, &[], &mut rng(1)).err(), Some(BatchError::Size));
    for _ in 0..BATCHES_MAX {
        assert!(prekeys.needs_batch(kid, 7));
        prekeys.publish_batch(me, &[key("bob-opk-1")], &mut rng(1)).unwrap();
    }
    assert!(!prekeys.needs_batch(kid, 0));
    assert_eq!(prekeys.publish_batch(me, &[key("bob-opk-1")], &mut rng(1)).err(), Some(BatchError::TooMany));
}

#[test]
fn made_grows_when_the_clock_does_not() {
    let (identity, owner) = (Identity::from(key("bob-ik")), name("bob"));
    let me = Me { name: &owner, identity: &identity, profile: Profile::Strict };
    let mut prekeys = Prekeys::new();
    let made: Vec<u64> = [NOW, NOW, NOW - DAY]
        .map(|now| prekeys.publish_spk(me, &key("bob-spk"), now, &mut rng(1)).made_ms)
        .into();
    assert_eq!(made, [NOW, NOW + 1, NOW + 2]);
    for _ in 0..SPKS_MAX {
        prekeys.publish_spk(me, &key("bob-spk"), NOW, &mut rng(1));
    }
    assert_eq!(*Prekeys::decode(&prekeys.encode()).unwrap().encode(), *prekeys.encode());
}

#[test]
fn damaged_state_is_refused_and_never_panics() {
    let (mut alice, mut bob) = alice_and_bob();
    let sent = alice.send("1", &mut bob);
    alice.send("2", &mut bob);
    let second = alice.send("3", &mut bob);
    bob.opens(&second.envelope);
    bob.send("4", &mut alice);
    bob.opens(&sent.envelope);
    let (peer, prekeys, identity) = (bob.peer.encode(), bob.prekeys.encode(), bob.identity.encode());
    assert!(Peer::decode(&peer).is_ok() && Prekeys::decode(&prekeys).is_ok());
    for cut in 0..peer.len() {
        assert!(Peer::decode(&peer[..cut]).is_err(), "{cut}");
    }
    for cut in 0..prekeys.len() {
        assert!(Prekeys::decode(&prekeys[..cut]).is_err(), "{cut}");
    }
    assert!(Identity::decode(&identity).is_ok());
    assert!(Identity::decode(&identity[1..]).is_err());
    for at in 0..peer.len() {
        let mut changed = peer.to_vec();
        changed[at] ^= 0xff;
        let _ = Peer::decode(&changed);
    }
    for damaged in [[peer.as_slice(), &[0]].concat(), [&[3], &peer[1..]].concat()] {
        assert!(Peer::decode(&damaged).is_err());
    }
    let mut other_prime = identity.to_vec();
    other_prime[300] ^= 1;
    assert!(Identity::decode(&other_prime).is_err());
}
