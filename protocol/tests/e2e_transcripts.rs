//! The golden transcripts of spec/vectors/crypto/transcript/, played by both ends with the randomness that
//! they name: every envelope comes out as another implementation made it, and opens at the other end.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod e2e_support;

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;

use e2e_protocol::e2e::{Bundle, Kind, Me, Plaintext, Profile, Sealed, explain_envelope};
use e2e_protocol::ids::{MessageId, Receipt};
use e2e_support::{DAY, User, Vector, key, rng};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, TryCryptoRng, TryRng};

/// Gives the values of a transcript, each to a call for as many bytes; to others what nobody sees (the
/// blinding of private operations, which is longer).
struct Script {
    values: VecDeque<Vec<u8>>,
    rest: ChaCha20Rng,
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.rest.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.rest.next_u64())
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        if self.values.front().is_some_and(|value| value.len() == to.len()) {
            to.copy_from_slice(&self.values.pop_front().unwrap());
        } else {
            self.rest.fill_bytes(to);
        }
        Ok(())
    }
}

impl TryCryptoRng for Script {}

struct Play {
    vector: Vector,
    alice: User,
    bob: User,
    /// Values that the next message of ours takes before its own: of an INIT or a STEP.
    before: Vec<Vec<u8>>,
}

impl Play {
    fn new(vector: Vector) -> Self {
        let opks = [key(vector.get("opk"))];
        let alice = User::with_keys("alice", "bob", "alice-ik", "alice-spk", &[key("alice-opk")]);
        let bob = User::with_keys("bob", "alice", "bob-ik", vector.get("spk"), &opks);
        let before = ["s1", "c1 seed", "s2", "c2 seed", "sig salt"].map(|name| vector.bytes(name)).to_vec();
        let mut play = Self { vector, alice, bob, before };
        play.alice.profile = play.profile("initiator profile");
        play.bob.profile = play.profile("responder profile");
        if play.bob.profile == Profile::Light {
            let spk = play.vector.get("spk").to_owned();
            play.bob.become_light(&spk, &opks);
        }
        play.alice.ratchets.add(&key(play.vector.get("epoch 0 ratchet")));
        play
    }

    fn profile(&self, key: &str) -> Profile {
        Profile::from_u8(self.vector.get(key).parse().unwrap()).unwrap()
    }

    fn number(&self, key: &str) -> u32 {
        self.vector.get(key).parse().unwrap()
    }

    fn owner(&mut self, epoch: u32) -> &mut User {
        if epoch.is_multiple_of(2) { &mut self.alice } else { &mut self.bob }
    }

    /// Whoever's turn it is has a key ready, and a day goes by.
    fn step(&mut self, epoch: u32) {
        let ratchet = key(self.vector.get(&format!("epoch {epoch} ratchet")));
        self.before =
            ["s", "c seed"].map(|name| self.vector.bytes(&format!("epoch {epoch} {name}"))).to_vec();
        self.alice.now += DAY;
        self.bob.now += DAY;
        self.owner(epoch).ratchets.add(&ratchet);
    }

    fn send(&mut self, message: u32) {
        let of = |name: &str| format!("message {message} {name}");
        let plaintext = Plaintext {
            id: MessageId(self.vector.array(&of("id"))),
            kind: Kind::from(self.vector.get(&of("kind")).parse::<u8>().unwrap()),
            time_ms: self.vector.get(&of("time")).parse().unwrap(),
            body: self.vector.bytes(&of("body")).into(),
        };
        let own = ["iv", "k", "ek seed"].map(|name| self.vector.bytes(&of(name)));
        let values = std::mem::take(&mut self.before).into_iter().chain(own);
        let mut script = Script { values: values.filter(|value| !value.is_empty()).collect(), rest: rng(1) };

        let epoch = self.number(&of("epoch"));
        let sealed = if message == 1 {
            let Self { alice, bob, .. } = self;
            bob.with_bundle(true, |bundle| seal(alice, &plaintext, Some(bundle), &mut script))
        } else {
            seal(self.owner(epoch), &plaintext, None, &mut script)
        };
        assert!(script.values.is_empty(), "message {message} took less randomness");
        assert_eq!((sealed.epoch, sealed.number), (epoch, self.number(&of("number"))), "message {message}");
        assert!(sealed.envelope == self.vector.bytes(&of("envelope")), "message {message} is another");
        assert_eq!(sealed.expected_receipt, Receipt(self.vector.array(&of("receipt"))), "message {message}");
    }

    fn receive(&mut self, message: u32) {
        let of = |name: &str| format!("message {message} {name}");
        let epoch = self.number(&of("epoch"));
        let (envelope, body) = (self.vector.bytes(&of("envelope")), self.vector.bytes(&of("body")));
        let operations = u64::from(self.number(&of("private operations")));
        let receipt = Receipt(self.vector.array(&of("receipt")));
        let to = self.owner(epoch + 1);
        let before = to.prekeys.private_operations();
        let opened = to.opens(&envelope);
        assert!(*opened.plaintext.body == body, "message {message}");
        assert_eq!(opened.record.receipt, receipt, "message {message}");
        assert_eq!(to.prekeys.private_operations() - before, operations, "message {message}");
    }

    fn receipt(&mut self, message: u32) {
        let epoch = self.number(&format!("message {message} epoch"));
        let mut sid = [0; 16];
        sid.copy_from_slice(&self.vector.bytes("sid"));
        self.owner(epoch).peer.receipt_verified(e2e_protocol::ids::SessionId(sid), epoch);
    }
}

fn seal(from: &mut User, plaintext: &Plaintext, bundle: Option<&Bundle<'_>>, script: &mut Script) -> Sealed {
    from.reload();
    let me = Me { name: &from.name, identity: &from.identity, profile: from.profile };
    from.peer.encrypt(me, plaintext, bundle, &mut from.ratchets, from.now, script).unwrap()
}

#[test]
fn both_ends_play_the_golden_transcripts() {
    for vector in Vector::all("transcript") {
        println!("{}", vector.path);
        let order = vector.get("order").to_owned();
        let mut play = Play::new(vector);
        let (mut sent, mut received) = (0, 0);
        for what in order.split(',') {
            let (what, number) = what.trim().split_once(' ').unwrap();
            let number = number.parse().unwrap();
            match what {
                "step" => play.step(number),
                "send" => {
                    play.send(number);
                    sent += 1;
                }
                "receive" => {
                    play.receive(number);
                    received += 1;
                }
                "receipt" => play.receipt(number),
                other => panic!("{other}"),
            }
        }
        assert_eq!((sent, received), (14, 14));
        assert_eq!(play.alice.peer.missing() + play.bob.peer.missing(), 0);
    }
}

/// What is shown of an envelope to who has no keys: every byte, once, under the names of spec/crypto.md.
#[test]
fn every_envelope_of_the_transcripts_is_explained() {
    const OFFSET: usize = 64;
    let mut lengths = BTreeSet::new();
    for vector in Vector::all("transcript") {
        for message in 1..=14 {
            let of = |name: &str| vector.bytes(&format!("message {message} {name}"));
            let envelope = of("envelope");
            let mut fields = Vec::new();
            explain_envelope(&envelope, OFFSET, &mut |field| fields.push(field));
            let mut at = OFFSET;
            for field in &fields {
                assert_eq!(field.offset, at, "message {message}: {field}");
                at += field.bytes.len();
            }
            assert_eq!(at, OFFSET + envelope.len());
            let joined: Vec<u8> = fields.iter().flat_map(|field| field.bytes).copied().collect();
            assert!(joined == envelope, "message {message}");
            let bytes = |name: &str| {
                let field = fields.iter().find(|field| field.name == name);
                field.map(|field| field.bytes.to_vec()).unwrap_or_default()
            };
            for name in ["iv", "ek", "data", "tag"] {
                assert!(bytes(name) == of(name), "message {message}: {name}");
            }
            assert_eq!(bytes("sid"), vector.bytes("sid"));
            assert!(!fields.iter().any(|field| ["cut off", "left over", "preamble"].contains(&field.name)));
            lengths.insert(fields.len());
        }
    }
    assert!(lengths.len() >= 3, "bare, with INIT and with STEP: {lengths:?}");
}
