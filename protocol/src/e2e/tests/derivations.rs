//! Every intermediate value of spec/vectors/crypto/derive/, which another implementation calculated.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::{array, rng, secret, unhex};
use crate::e2e::bundle::{Profile, batch_bytes, spk_bytes};
use crate::e2e::chain::Chain;
use crate::e2e::envelope::Envelope;
use crate::e2e::identity::{Identity, Me};
use crate::e2e::init::{Init, Party, Transcript, root_and_chain, session_id, signed_bytes, wrap_label};
use crate::e2e::key_pair::KeyPair;
use crate::e2e::message::{self, Context, MessageKeys};
use crate::e2e::plaintext::Plaintext;
use crate::e2e::prekeys::Prekeys;
use crate::e2e::{cbc, kdf, oaep};
use crate::ids::{Fingerprint, Name, Nonce, RelayId, Uid};
use crate::login::notation::sha256;
use crate::login::{Login, LoginError, Purpose, Removal, RollOver, fingerprint, key_id, public_key};
use crate::login::{token_proof, verify_login, verify_removal, verify_roll_over, verify_token_proof};

pub(super) struct Vector(HashMap<String, String>);

impl Vector {
    pub(super) fn load(path: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/crypto");
        let text = fs::read_to_string(folder.join(path)).unwrap();
        let pairs = text.lines().map(|line| line.split_once(':').unwrap());
        Self(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    pub(super) fn find(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn get(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("no {key}"))
    }

    pub(super) fn bytes(&self, key: &str) -> Vec<u8> {
        unhex(self.get(key))
    }

    pub(super) fn array<const N: usize>(&self, key: &str) -> [u8; N] {
        array(self.get(key))
    }
}

pub(super) fn key(name: &str) -> KeyPair {
    let keys = Vector::load("keys.txt");
    let (p, q) = keys.get(name).split_once(' ').unwrap();
    KeyPair::from_primes(&array(p), &array(q)).unwrap()
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn session_start_is_as_in_the_vector() {
    let v = Vector::load("derive/session.txt");
    let (alice, bob) = (Identity::from(key("alice-ik")), Identity::from(key("bob-ik")));
    let (spk, opk, ratchet) = (key("bob-spk"), key("bob-opk-1"), key("alice-r"));
    assert_eq!(*alice.fingerprint(), Fingerprint(v.array("initiator fp")));
    assert_eq!(*bob.fingerprint(), Fingerprint(v.array("responder fp")));
    assert_eq!(key_id(spk.modulus()).0, v.array("kid spk"));
    assert_eq!(key_id(opk.modulus()).0, v.array("kid opk"));

    let label = wrap_label(alice.fingerprint(), bob.fingerprint(), spk.modulus());
    assert_eq!(label, v.array("c1 label"));
    let (c1, c2) = (v.array("c1"), v.array("c2"));
    let (s1, s2) = (secret(v.get("s1")), secret(v.get("s2")));
    let unwrapped = oaep::unwrap(&spk, &label, &c1, &mut rng());
    assert!(unwrapped.is_ok_and(|unwrapped| unwrapped.as_bytes() == s1.as_bytes()));

    let (initiator_name, responder_name) = (name(v.get("initiator")), name(v.get("responder")));
    let transcript = Transcript {
        initiator: Party { name: &initiator_name, fingerprint: alice.fingerprint() },
        responder: Party { name: &responder_name, fingerprint: bob.fingerprint() },
        spk: spk.modulus(),
        c1: &c1,
        one_time: Some((opk.modulus(), &c2)),
        ratchet: ratchet.modulus(),
        profile: Profile::Strict,
    };
    let th = transcript.hash();
    assert_eq!(th, v.array("th"));
    assert_eq!(session_id(&th).0, v.array("sid"));
    let (root, chain_key) = root_and_chain(&th, &s1, Some(&s2));
    assert_eq!(*root.as_bytes(), v.array("root"));

    let bytes = v.bytes("init");
    let init = Init::parse(&bytes).unwrap();
    assert!(public_key::verifies(alice.modulus(), &signed_bytes(&th), init.signature));
    assert_eq!(init.emit(), bytes);

    let mut chain = Chain::new(chain_key);
    chain.step();
    chain.step();
    let (number, message_key) = chain.step().unwrap();
    assert_eq!(number, 2);
    assert_eq!(*message_key.as_bytes(), v.array("mk"));
    let mut third = Chain::new(secret(v.get("chain key")));
    assert_eq!(third.step().unwrap().1.as_bytes(), message_key.as_bytes());
}

#[test]
fn message_is_as_in_the_vector() {
    let v = Vector::load("derive/session.txt");
    let bytes = v.bytes("envelope");
    let envelope = Envelope::parse(&bytes).unwrap();
    assert_eq!(*envelope.header, v.array("header"));
    assert_eq!(*envelope.iv, v.array("iv"));
    assert_eq!(envelope.preamble, v.bytes("init"));
    assert_eq!(*envelope.ek.unwrap(), v.array("ek"));
    assert_eq!(envelope.data, v.bytes("data"));
    assert_eq!(*envelope.tag, v.array("tag"));

    let (th, message_key) = (v.array("th"), secret(v.get("mk")));
    let context = Context::new(&th, envelope.place, envelope.iv);
    let context_bytes = v.bytes("ctx");
    let (mac, ack) = kdf::derive_two(message_key.as_bytes(), &[], "RLY1/auth", &context_bytes);
    assert_eq!(*mac.as_bytes(), v.array("k mac"));
    assert_eq!(*ack.as_bytes(), v.array("k ack"));
    let keys = MessageKeys::derive(&message_key, &context, true);
    assert!(keys.verify(&th, &envelope));
    assert_eq!(keys.receipt(envelope.tag).0, v.array("receipt"));

    let label = message::wrap_label(&th, envelope.place);
    let wrapped_key = oaep::unwrap(&key("bob-spk"), &label, envelope.ek.unwrap(), &mut rng()).ok().unwrap();
    assert_eq!(*wrapped_key.as_bytes(), v.array("k"));
    let encryption_key =
        kdf::derive_one(message_key.as_bytes(), wrapped_key.as_bytes(), "RLY1/enc", &context_bytes);
    assert_eq!(*encryption_key.as_bytes(), v.array("k enc"));
    let mut data = Vec::new();
    cbc::encrypt(encryption_key.as_bytes(), envelope.iv, &v.bytes("plaintext"), &mut data);
    assert_eq!(data, envelope.data);
    let plaintext = message::open(&envelope, &context, (&message_key, &keys), Some(&wrapped_key)).unwrap();
    assert_eq!(*plaintext, v.bytes("plaintext"));
    assert_eq!(**Plaintext::parse(plaintext).unwrap().emit().unwrap(), *v.bytes("plaintext"));
}

#[test]
fn bundle_is_signed_as_in_the_vector() {
    let v = Vector::load("derive/bundle.txt");
    let (owner, identity, spk) = (name("bob"), Identity::from(key("bob-ik")), key("bob-spk"));
    let made_ms = v.get("made").parse().unwrap();
    let signed = spk_bytes(&owner, identity.fingerprint(), spk.modulus(), made_ms, 0);
    assert_eq!(signed, v.bytes("spk signed"));
    assert!(public_key::verifies(identity.modulus(), &signed, &v.array("spk signature")));
    let opks = [key("bob-opk-1"), key("bob-opk-2")];
    let hashes = opks.each_ref().map(|opk| sha256(opk.modulus()));
    let signed = batch_bytes(identity.fingerprint(), &key_id(spk.modulus()), &hashes);
    assert_eq!(signed, v.bytes("batch signed"));
    assert!(public_key::verifies(identity.modulus(), &signed, &v.array("batch signature")));

    // What is published is what was signed.
    let me = Me { name: &owner, identity: &identity, profile: Profile::Strict };
    let mut prekeys = Prekeys::new();
    let published = prekeys.publish_spk(me, &spk, made_ms, &mut rng());
    let batch = prekeys.publish_batch(me, &opks, &mut rng()).unwrap();
    assert!(public_key::verifies(identity.modulus(), &v.bytes("spk signed"), &published.signature));
    assert!(public_key::verifies(identity.modulus(), &v.bytes("batch signed"), &batch.signature));
}

#[test]
fn login_is_proven_as_in_the_vectors() {
    for (path, purpose) in [("login", Purpose::Login), ("register", Purpose::Register)] {
        let v = Vector::load(&format!("derive/{path}.txt"));
        let identity = Identity::from(key("alice-ik"));
        assert_eq!(fingerprint(identity.modulus()), *identity.fingerprint());
        let login = Login {
            version: 1,
            purpose,
            relay_id: &RelayId(v.array("relay id")),
            nonce: &Nonce(v.array("nonce")),
            name: &name("alice"),
            fingerprint: identity.fingerprint(),
        };
        assert_eq!(login.signed_bytes().as_bytes(), v.bytes("signed"));
        assert_eq!(verify_login(identity.modulus(), &login, &v.array("signature")), Ok(()));
        let ours = identity.sign_login(&login, &mut rng());
        assert_eq!(verify_login(identity.modulus(), &login, &ours), Ok(()));
        let elsewhere = Login { relay_id: &RelayId::ZERO, ..login };
        let refused = verify_login(identity.modulus(), &elsewhere, &ours);
        assert_eq!(refused, Err(LoginError::BadSignature));

        assert_eq!(token_proof(&v.bytes("token"), &login), v.array("token proof"));
        assert!(verify_token_proof(&v.bytes("token"), &login, &v.array("token proof")));
        assert!(!verify_token_proof(b"other", &login, &v.array("token proof")));
    }
}

#[test]
fn roll_over_and_removal_are_proven_as_in_the_vectors() {
    let v = Vector::load("derive/roll.txt");
    let (old, new) = (key(v.get("old identity")), key(v.get("new identity")));
    let (old, new) = (Identity::from(old), Identity::from(new));
    let time_ms = v.get("time").parse().unwrap();
    let who = name(v.get("name"));
    let roll_over =
        RollOver { name: &who, former: old.fingerprint(), fingerprint: new.fingerprint(), time_ms };
    assert_eq!(roll_over.signed_bytes().as_bytes(), v.bytes("signed"));
    let (by_old, by_new) = (v.array("old signature"), v.array("new signature"));
    let verified = verify_roll_over(&who, old.modulus(), new.modulus(), time_ms, &by_old, &by_new);
    assert_eq!(verified, Ok(()));

    let v = Vector::load("derive/remove.txt");
    let identity = Identity::from(key(v.get("identity")));
    let removal = Removal {
        relay_id: &RelayId(v.array("relay id")),
        uid: Uid(v.get("uid").parse().unwrap()),
        name: &name(v.get("name")),
        fingerprint: identity.fingerprint(),
    };
    assert_eq!(removal.signed_bytes().as_bytes(), v.bytes("signed"));
    assert!(verify_removal(identity.modulus(), &removal, &v.array("signature")));
}

#[test]
fn numbers_are_as_in_the_vector() {
    use crate::e2e::number::{comparison_number, number};
    let v = Vector::load("derive/number.txt");
    let person = |i: usize| (key(v.get(&format!("identity {i}"))), name(v.get(&format!("name {i}"))));
    for i in 1..=3 {
        let (identity, who) = person(i);
        assert_eq!(number((identity.modulus(), &who)), v.get(&format!("digits {i}")));
        for j in i + 1..=3 {
            let (other, whom) = person(j);
            let (one, two) = ((identity.modulus(), &who), (other.modulus(), &whom));
            assert_eq!(comparison_number(one, two), v.get(&format!("number {i} {j}")));
            assert_eq!(comparison_number(two, one), comparison_number(one, two));
        }
    }
}
