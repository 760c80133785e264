//! The two ends of a session of ours, as a client holds them, without its files.
//!
//! Owns our part of the benchmark. State stays in memory: what it costs to keep it is the client's.

use std::time::{Duration, Instant};

use e2e_protocol::e2e::{
    Answer, Bundle, Identity, Inbox, KeyPair, Kind, Me, OneTime, Opened, OpenedMessage, Peer, Plaintext,
    PreambleMemory, Prekeys, Profile, PublishedBatch, PublishedSpk, RatchetKeys, Record, Records, Sealed,
    judge,
};
use e2e_protocol::ids::{MessageId, Name, Receipt, SessionId};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};

use super::BODY_BYTES;

const NOW_MS: u64 = 1_790_000_000_000;

/// Key pairs, made once: what is measured doesn't depend on which.
pub(crate) struct Keys(Vec<KeyPair>);

impl Keys {
    pub(crate) fn make(rng: &mut ChaCha20Rng) -> Self {
        Self((0..6).map(|_| KeyPair::generate(rng)).collect())
    }

    fn get(&self, index: usize) -> &KeyPair {
        &self.0[index % self.0.len()]
    }
}

/// One end.
struct User<'a> {
    keys: &'a Keys,
    name: Name,
    identity: Identity,
    profile: Profile,
    prekeys: Prekeys,
    spk: PublishedSpk,
    batch: PublishedBatch,
    peer: Peer,
    records: Records,
    ratchets: RatchetKeys,
    preambles: PreambleMemory,
    rng: ChaCha20Rng,
    /// Ratchet keys that were made ready.
    ready: usize,
}

/// Two users who write to each other.
pub(crate) struct Pair<'a> {
    alice: User<'a>,
    bob: User<'a>,
    /// Both ends' states of the session, for [`Pair::restart`].
    states: [Vec<u8>; 2],
    next_record: u32,
}

impl<'a> Pair<'a> {
    /// They never met.
    pub(crate) fn strangers(keys: &'a Keys, profile: Profile) -> Self {
        let alice = User::new(keys, "alice", "bob", profile);
        let bob = User::new(keys, "bob", "alice", profile);
        Self { alice, bob, states: [Vec::new(), Vec::new()], next_record: 0 }
    }

    /// Alice started, Bob's receipt came, and Alice goes on writing.
    pub(crate) fn one_way(keys: &'a Keys, profile: Profile) -> Self {
        let mut pair = Self::strangers(keys, profile);
        let first = pair.start();
        let opened = pair.decrypt(&first);
        pair.alice.receipt_came(&first, &opened.record.receipt);
        pair.states = [&pair.alice, &pair.bob].map(|user| user.peer.encode().to_vec());
        pair
    }

    /// Alice started, and Bob answered.
    pub(crate) fn talking(keys: &'a Keys, profile: Profile) -> Self {
        let mut pair = Self::one_way(keys, profile);
        pair.converse(2);
        pair
    }

    /// Back to the state that [`Self::one_way`] gave.
    pub(crate) fn restart(&mut self) {
        let [alice, bob] = &self.states;
        self.alice.peer = Peer::decode(alice).unwrap();
        self.bob.peer = Peer::decode(bob).unwrap();
    }

    /// Both forget that they met. The first message takes a one-time prekey, which is published again.
    pub(crate) fn forget(&mut self) {
        self.alice.peer = Peer::new(self.bob.name);
        self.bob.peer = Peer::new(self.alice.name);
        self.bob.publish();
        self.bob.preambles = PreambleMemory::new();
        self.alice.make_ready();
    }

    /// Alice's first message to Bob.
    pub(crate) fn start(&mut self) -> Sealed {
        self.alice.make_ready();
        let hashes: Vec<[u8; 32]> =
            self.bob.batch.moduli.iter().map(|modulus| Sha256::digest(modulus).into()).collect();
        let bundle = Bundle {
            identity: self.bob.identity.modulus(),
            spk: &self.bob.spk.modulus,
            made_ms: self.bob.spk.made_ms,
            profile: self.bob.spk.profile,
            signature: &self.bob.spk.signature,
            one_time: Some(OneTime {
                modulus: &self.bob.batch.moduli[0],
                hashes: &hashes,
                signature: &self.bob.batch.signature,
            }),
        };
        self.alice.seal(Some(&bundle))
    }

    /// Alice to Bob.
    pub(crate) fn encrypt(&mut self) -> Sealed {
        self.alice.seal(None)
    }

    /// Bob's end of it.
    pub(crate) fn decrypt(&mut self, sealed: &Sealed) -> OpenedMessage {
        self.bob.open(sealed)
    }

    /// Gives Bob a history of so many records.
    pub(crate) fn fill_records(&mut self, count: usize) {
        (0..count).for_each(|_| self.push_record());
    }

    /// Bob's history as it is kept.
    pub(crate) fn segments(&self) -> Vec<(u64, Vec<u8>)> {
        let kept = |number| Some((number, self.bob.records.segment(number)?.to_vec()));
        (0..u64::MAX).map_while(kept).collect()
    }

    /// One more record in Bob's history.
    pub(crate) fn push_record(&mut self) {
        self.next_record += 1;
        let mut id = MessageId::ZERO;
        self.bob.rng.fill_bytes(&mut id.0);
        let (epoch, number) = (self.next_record / 1_000, self.next_record % 1_000);
        self.bob.records.push(&Record {
            sid: SessionId::ZERO,
            epoch,
            number,
            tag: [0; 32],
            receipt: Receipt::ZERO,
            message_id: id,
            opened_ms: NOW_MS,
        });
    }

    /// Each answers the other, `turns` messages in all, with all that a client does for them in memory: the
    /// record, the receipt, and the steps that fall due. Their keys are made between, as in idle time.
    pub(crate) fn converse(&mut self, turns: u32) -> Duration {
        let Self { alice, bob, .. } = self;
        let mut took = Duration::ZERO;
        for _ in 0..turns / 2 {
            alice.make_ready();
            bob.make_ready();
            let start = Instant::now();
            alice.write_to(bob);
            bob.write_to(alice);
            took += start.elapsed();
        }
        took
    }
}

impl<'a> User<'a> {
    fn new(keys: &'a Keys, name: &str, peer: &str, profile: Profile) -> Self {
        let (name, peer): (Name, Name) = (name.parse().unwrap(), peer.parse().unwrap());
        let mut rng = ChaCha20Rng::from_seed([profile as u8 + name.as_bytes().len() as u8; 32]);
        let identity = Identity::generate(&mut rng);
        let (prekeys, spk, batch) = publish(keys, Me { name: &name, identity: &identity, profile }, &mut rng);
        let (records, ratchets, preambles) = (Records::new(), RatchetKeys::new(), PreambleMemory::new());
        Self {
            keys,
            name,
            identity,
            profile,
            prekeys,
            spk,
            batch,
            peer: Peer::new(peer),
            records,
            ratchets,
            preambles,
            rng,
            ready: 0,
        }
    }

    fn publish(&mut self) {
        let me = Me { name: &self.name, identity: &self.identity, profile: self.profile };
        (self.prekeys, self.spk, self.batch) = publish(self.keys, me, &mut self.rng);
    }

    /// What idle time is for.
    fn make_ready(&mut self) {
        while self.ratchets.wanted() > 0 {
            self.ratchets.add(self.keys.get(self.ready));
            self.ready += 1;
        }
    }

    fn seal(&mut self, bundle: Option<&Bundle<'_>>) -> Sealed {
        let body = vec![b'm'; BODY_BYTES];
        let plaintext = Plaintext::new(Kind::Bytes, body, NOW_MS, &mut self.rng);
        let me = Me { name: &self.name, identity: &self.identity, profile: self.profile };
        self.peer.encrypt(me, &plaintext, bundle, &mut self.ratchets, NOW_MS, &mut self.rng).unwrap()
    }

    fn open(&mut self, sealed: &Sealed) -> OpenedMessage {
        let mut inbox = Inbox {
            me: Me { name: &self.name, identity: &self.identity, profile: self.profile },
            prekeys: &mut self.prekeys,
            records: &self.records,
            preambles: &mut self.preambles,
        };
        match self.peer.decrypt(&mut inbox, &sealed.envelope, NOW_MS, &mut self.rng) {
            Ok(Opened::New(opened)) => opened,
            Ok(Opened::Again(_)) => panic!("opened before"),
            Err(reject) => panic!("{}", reject.reason),
        }
    }

    fn receipt_came(&mut self, sealed: &Sealed, receipt: &Receipt) {
        assert_eq!(judge(&sealed.expected_receipt, receipt), Answer::Received);
        self.peer.receipt_verified(sealed.sid, sealed.epoch);
    }

    fn write_to(&mut self, to: &mut User<'_>) {
        let sealed = self.seal(None);
        let opened = to.open(&sealed);
        to.records.push(&opened.record);
        self.receipt_came(&sealed, &opened.record.receipt);
    }
}

/// A history, as it was kept.
pub(crate) fn read_records(segments: &[(u64, Vec<u8>)]) -> Records {
    Records::decode(segments.iter().map(|(number, bytes)| (*number, bytes.as_slice()))).unwrap()
}

fn publish(keys: &Keys, me: Me<'_>, rng: &mut ChaCha20Rng) -> (Prekeys, PublishedSpk, PublishedBatch) {
    let mut prekeys = Prekeys::new();
    let spk = prekeys.publish_spk(me, keys.get(0), NOW_MS, rng);
    let one_time = std::slice::from_ref(keys.get(1));
    let batch = prekeys.publish_batch(me, one_time, rng).unwrap();
    (prekeys, spk, batch)
}
