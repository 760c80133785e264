//! Every vector of spec/vectors/crypto/ that says what becomes of envelopes, by the public interface.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod e2e_support;

use e2e_protocol::e2e::{Kind, Opened, RejectReason};
use e2e_protocol::ids::{MessageId, Receipt};
use e2e_support::{NOW, User, Vector, key};

/// The recipient of vectors without a state: bob, with one signed prekey and two one-time prekeys.
fn recipient(vector: &Vector) -> User {
    assert_eq!(vector.get("recipient"), "bob");
    let opks = [key("bob-opk-1"), key("bob-opk-2")];
    let mut bob = User::with_keys("bob", vector.get("sender"), "bob-ik", "bob-spk", &opks);
    if vector.find("profile") == Some("1") {
        bob.become_light("bob-spk", &opks);
    }
    if let Some(pinned) = Some(vector.get("pinned")).filter(|pinned| *pinned != "none") {
        // Bob wrote to the sender first, and pinned the key that he found.
        let mut sender =
            User::with_keys(vector.get("sender"), "bob", pinned, "alice-spk", &[key("alice-opk")]);
        bob.send("hello", &mut sender);
        assert_eq!(bob.peer.pin().as_ref(), Some(sender.identity.fingerprint()));
    }
    bob
}

fn check(vector: &Vector) {
    let mut bob = recipient(vector);
    let mut count = 0;
    while vector.find(&format!("envelope {}", count + 1)).is_some() {
        count += 1;
        let key = |what: &str| format!("{what} {count}");
        let before = bob.prekeys.private_operations();
        let outcome = bob.open(&vector.bytes(&key("envelope")));
        match (vector.get(&key("expect")), outcome) {
            (expect @ ("open" | "open known"), Ok(Opened::New(message))) => {
                assert_eq!(message.known, expect == "open known");
                assert_eq!(message.record.receipt, Receipt(vector.array(&key("receipt"))));
                let plaintext = message.plaintext;
                assert_eq!(plaintext.id, MessageId(vector.array(&key("id"))));
                assert_eq!(plaintext.kind, Kind::from(vector.get(&key("kind")).parse::<u8>().unwrap()));
                assert_eq!(plaintext.time_ms, NOW);
                assert_eq!(plaintext.time_ms, vector.get(&key("time")).parse::<u64>().unwrap());
                assert_eq!(*plaintext.body, vector.bytes(&key("body")));
            }
            ("again", Ok(Opened::Again(receipt))) => {
                assert_eq!(receipt, Receipt(vector.array(&key("receipt"))));
            }
            (expect, Err(reject)) => {
                let reason = format!("{:?}", reject.reason);
                let (reason, _) = reason.split_once('(').unwrap_or((&reason, ""));
                assert_eq!(expect, format!("reject {reason}"), "envelope {count}");
            }
            (expect, Ok(_)) => panic!("envelope {count} opens, expected: {expect}"),
        }
        let operations = bob.prekeys.private_operations() - before;
        assert_eq!(operations.to_string(), vector.get(&key("private operations")), "envelope {count}");
    }
    assert!(count > 0, "no envelope");
}

fn check_all(folder: &str) {
    // Those that start from a state are played where the state can be made: src/e2e/tests/stepping.rs.
    for vector in Vector::all(folder).into_iter().filter(|vector| vector.find("state role").is_none()) {
        println!("{}", vector.path);
        check(&vector);
    }
}

#[test]
fn opens_what_the_vectors_open() {
    check_all("open");
}

#[test]
fn rejects_what_the_vectors_reject() {
    check_all("reject");
}

#[test]
fn every_reason_that_bytes_can_cause_has_a_vector() {
    use RejectReason as R;
    let vectors = Vector::all("reject");
    let expected = |reason: &str| {
        vectors
            .iter()
            .any(|v| (1..6).any(|n| v.find(&format!("expect {n}")) == Some(&format!("reject {reason}"))))
    };
    for reason in [
        R::Malformed,
        R::OwnName,
        R::UnknownSession,
        R::InitUsed,
        R::UnknownPrekey,
        R::BadInit,
        R::WrongEpoch,
        R::BadStep,
        R::NumberUsed,
        R::BadTag,
        R::BadWrappedKey,
        R::BadPlaintext,
    ] {
        assert!(expected(&format!("{reason:?}")), "{reason:?}");
    }
    assert!(expected("KeyChanged"));
}
