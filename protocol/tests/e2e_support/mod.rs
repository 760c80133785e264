//! What the tests of the end-to-end layer share: the vectors' files and keys (spec/crypto.md,
//! "Vectors"), and two users joined in memory. Each test binary uses its part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use e2e_protocol::e2e::{
    Bundle, EncryptError, Identity, Inbox, KeyPair, Kind, Me, OneTime, Opened, OpenedMessage, PRIME_BYTES,
    Peer, Plaintext, PreambleMemory, Prekeys, Profile, PublishedBatch, PublishedSpk, RatchetKeys, Records,
    Reject, Sealed,
};
use e2e_protocol::ids::{Modulus, Name, Receipt};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// When the tests take place.
pub(crate) const NOW: u64 = 1_790_000_000_000;
pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const DAY: u64 = 24 * 60 * MINUTE;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/crypto")
}

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// One vector file: its `key: value` lines.
pub(crate) struct Vector {
    pub(crate) path: String,
    values: HashMap<String, String>,
}

impl Vector {
    /// All files of a folder and those below it, in order of their paths.
    pub(crate) fn all(of: &str) -> Vec<Self> {
        let mut folders = vec![folder().join(of)];
        let mut vectors = Vec::new();
        while let Some(at) = folders.pop() {
            for item in fs::read_dir(&at).unwrap() {
                let path = item.unwrap().path();
                if path.is_dir() { folders.push(path) } else { vectors.push(Self::load(&path)) }
            }
        }
        vectors.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(!vectors.is_empty(), "no vectors in {of}");
        vectors
    }

    pub(crate) fn load(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut values = HashMap::new();
        for line in text.lines() {
            let (key, value) = line.split_once(':').unwrap();
            assert!(values.insert(key.to_owned(), value.trim().to_owned()).is_none(), "{key} twice");
        }
        Self { path: path.display().to_string(), values }
    }

    pub(crate) fn find(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.find(key).unwrap_or_else(|| panic!("{}: no {key}", self.path))
    }

    pub(crate) fn bytes(&self, key: &str) -> Vec<u8> {
        unhex(self.get(key))
    }

    pub(crate) fn array<const N: usize>(&self, key: &str) -> [u8; N] {
        self.bytes(key).try_into().unwrap()
    }
}

/// A key pair of keys.txt, so that no test has to make one.
pub(crate) fn key(name: &str) -> KeyPair {
    let keys = Vector::load(&folder().join("keys.txt"));
    let (p, q) = keys.get(name).split_once(' ').unwrap();
    let prime = |text| <[u8; PRIME_BYTES]>::try_from(unhex(text)).unwrap();
    KeyPair::from_primes(&prime(p), &prime(q)).unwrap()
}

/// A user, with everything that a client keeps, and one peer.
pub(crate) struct User {
    pub(crate) name: Name,
    pub(crate) identity: Identity,
    pub(crate) prekeys: Prekeys,
    pub(crate) spk: PublishedSpk,
    pub(crate) batch: PublishedBatch,
    /// One-time prekeys that the relay handed out.
    pub(crate) handed_out: usize,
    pub(crate) peer: Peer,
    pub(crate) records: Records,
    pub(crate) profile: Profile,
    pub(crate) ratchets: RatchetKeys,
    pub(crate) preambles: PreambleMemory,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) now: u64,
}

impl User {
    /// A user with published keys: alice has one one-time prekey, bob two.
    pub(crate) fn new(who: &str, peer: &str) -> Self {
        let opks: Vec<KeyPair> = match who {
            "alice" => vec![key("alice-opk")],
            _ => vec![key("bob-opk-1"), key("bob-opk-2")],
        };
        Self::with_keys(who, peer, &format!("{who}-ik"), &format!("{who}-spk"), &opks)
    }

    pub(crate) fn with_keys(who: &str, peer: &str, identity: &str, spk: &str, opks: &[KeyPair]) -> Self {
        let identity = Identity::from(key(identity));
        let who_name = name(who);
        let me = Me { name: &who_name, identity: &identity, profile: Profile::Strict };
        let mut rng = rng(who.len() as u64);
        let mut prekeys = Prekeys::new();
        let spk = prekeys.publish_spk(me, &key(spk), NOW, &mut rng);
        let batch = prekeys.publish_batch(me, opks, &mut rng).unwrap();
        let peer = Peer::new(name(peer));
        Self {
            name: who_name,
            identity,
            prekeys,
            spk,
            batch,
            handed_out: 0,
            peer,
            records: Records::new(),
            profile: Profile::Strict,
            ratchets: RatchetKeys::new(),
            preambles: PreambleMemory::new(),
            rng,
            now: NOW,
        }
    }

    /// Publishes this signed prekey anew, and says with it that messages need no wrapped key.
    pub(crate) fn become_light(&mut self, spk: &str, opks: &[KeyPair]) {
        self.profile = Profile::Light;
        let me = Me { name: &self.name, identity: &self.identity, profile: self.profile };
        self.prekeys = Prekeys::new();
        self.spk = self.prekeys.publish_spk(me, &key(spk), NOW, &mut self.rng);
        self.batch = self.prekeys.publish_batch(me, opks, &mut self.rng).unwrap();
    }

    /// What the relay hands out: with a one-time prekey, if wanted and left.
    pub(crate) fn with_bundle<T>(&mut self, one_time: bool, then: impl FnOnce(&Bundle<'_>) -> T) -> T {
        let hashes = self.hashes();
        let opk: Option<Modulus> =
            one_time.then(|| self.batch.moduli.get(self.handed_out).copied()).flatten();
        self.handed_out += usize::from(opk.is_some());
        then(&Bundle {
            identity: self.identity.modulus(),
            spk: &self.spk.modulus,
            made_ms: self.spk.made_ms,
            profile: self.spk.profile,
            signature: &self.spk.signature,
            one_time: opk.as_ref().map(|modulus| OneTime {
                modulus,
                hashes: &hashes,
                signature: &self.batch.signature,
            }),
        })
    }

    pub(crate) fn hashes(&self) -> Vec<[u8; 32]> {
        use sha2::Digest;
        self.batch.moduli.iter().map(|modulus| sha2::Sha256::digest(modulus).into()).collect()
    }

    pub(crate) fn text(&mut self, body: &str) -> Plaintext {
        Plaintext::new(Kind::Text, body.as_bytes().to_vec(), self.now, &mut self.rng)
    }

    /// Encrypts with the bundle given.
    pub(crate) fn seal(
        &mut self,
        plaintext: &Plaintext,
        bundle: Option<&Bundle<'_>>,
    ) -> Result<Sealed, EncryptError> {
        self.reload();
        let me = Me { name: &self.name, identity: &self.identity, profile: self.profile };
        self.peer.encrypt(me, plaintext, bundle, &mut self.ratchets, self.now, &mut self.rng)
    }

    /// Encrypts as a client does: fetches the other's bundle if one is asked for.
    pub(crate) fn send(&mut self, body: &str, to: &mut User) -> Sealed {
        let plaintext = self.text(body);
        self.send_plaintext(&plaintext, to).unwrap()
    }

    pub(crate) fn send_plaintext(
        &mut self,
        plaintext: &Plaintext,
        to: &mut User,
    ) -> Result<Sealed, EncryptError> {
        match self.seal(plaintext, None) {
            Err(EncryptError::NeedBundle { one_time }) => {
                to.with_bundle(one_time, |bundle| self.seal(plaintext, Some(bundle)))
            }
            other => other,
        }
    }

    /// Opens, and commits what came of it.
    pub(crate) fn open(&mut self, envelope: &[u8]) -> Result<Opened, Reject> {
        self.reload();
        let mut inbox = Inbox {
            me: Me { name: &self.name, identity: &self.identity, profile: self.profile },
            prekeys: &mut self.prekeys,
            records: &self.records,
            preambles: &mut self.preambles,
        };
        let opened = self.peer.decrypt(&mut inbox, envelope, self.now, &mut self.rng)?;
        if let Opened::New(message) = &opened {
            self.records.push(&message.record);
        }
        Ok(opened)
    }

    /// Opens what must be new; gives its text.
    pub(crate) fn reads(&mut self, envelope: &[u8]) -> String {
        String::from_utf8(self.opens(envelope).plaintext.body.to_vec()).unwrap()
    }

    pub(crate) fn opens(&mut self, envelope: &[u8]) -> OpenedMessage {
        match self.open(envelope) {
            Ok(Opened::New(message)) => message,
            Ok(Opened::Again(_)) => panic!("opened before"),
            Err(reject) => panic!("{}", reject.reason),
        }
    }

    pub(crate) fn receipt_again(&mut self, envelope: &[u8]) -> Receipt {
        match self.open(envelope) {
            Ok(Opened::Again(receipt)) => receipt,
            Ok(Opened::New(_)) => panic!("opened anew"),
            Err(reject) => panic!("{}", reject.reason),
        }
    }

    pub(crate) fn rejects(&mut self, envelope: &[u8]) -> Reject {
        match self.open(envelope) {
            Err(reject) => reject,
            Ok(_) => panic!("opened"),
        }
    }

    /// Everything kept goes to bytes and back, as between any two transactions of a client.
    pub(crate) fn reload(&mut self) {
        let operations = self.prekeys.private_operations();
        let peer = Peer::decode(&self.peer.encode()).unwrap();
        assert_eq!(*peer.encode(), *self.peer.encode());
        self.peer = peer;
        // Read again only when nothing was counted, so that tests can count.
        if operations == 0 {
            let prekeys = Prekeys::decode(&self.prekeys.encode()).unwrap();
            assert_eq!(*prekeys.encode(), *self.prekeys.encode());
            self.prekeys = prekeys;
        }
    }
}

/// Alice and bob, who never met.
pub(crate) fn alice_and_bob() -> (User, User) {
    (User::new("alice", "bob"), User::new("bob", "alice"))
}
