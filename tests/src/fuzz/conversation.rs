//! Two people who know each other, as their homes keep it: what envelopes, bundles and state files are made from.
//!
//! Owns: fixed keys and a short conversation, made once. The keys are the simulator's public test keys.

use std::sync::OnceLock;

use e2e_protocol::e2e::{
    Bundle, Inbox, Kind, Me, OneTime, Opened, Peer, Plaintext, PreambleMemory, Prekeys, Profile, RatchetKeys,
    Record, Records, Sealed,
};
use e2e_protocol::ids::{Modulus, Uid};
use e2e_protocol::limits::FRAME_BYTES_MAX;
use e2e_protocol::login::fingerprint;
use e2e_protocol::wire::directory::{BundleParts, Entry, OneTimePrekey, SignedPrekey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use crate::sessions::keys::{RATCHETS, beginning, me, name, pool};

/// When it takes place: when the simulator's prekeys are made.
pub(super) const NOW_MS: u64 = 1_790_000_000_000;

pub(super) const ALICE: usize = 0;
pub(super) const BOB: usize = 1;
/// What the relay calls them.
pub(super) const UIDS: [Uid; 3] = [Uid(7), Uid(8), Uid(9)];

/// What bob's home holds, and envelopes of alice that it can open as it is.
pub(super) struct Home {
    pub(super) profile: Profile,
    pub(super) prekeys: Vec<u8>,
    /// Of alice.
    pub(super) peer: Vec<u8>,
    pub(super) records: Vec<Record>,
    pub(super) envelopes: Vec<Vec<u8>>,
}

pub(super) fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// A user with one peer.
struct User {
    who: usize,
    me: Me<'static>,
    prekeys: Prekeys,
    peer: Peer,
    records: Vec<Record>,
    ratchets: RatchetKeys,
    next_key: usize,
    rng: ChaCha20Rng,
}

impl User {
    fn new(who: usize, of: usize, profile: Profile) -> Self {
        let prekeys = Prekeys::decode(&beginning(who, profile).prekeys).expect("what was encoded");
        let peer = Peer::new(*name(of));
        let (me, next_key) = (me(who, profile), RATCHETS.start + 20 * who);
        Self {
            who,
            me,
            prekeys,
            peer,
            records: Vec::new(),
            ratchets: RatchetKeys::new(),
            next_key,
            rng: rng(),
        }
    }

    fn send(&mut self, to: &Self, one_time: bool, text: &str) -> Sealed {
        while self.ratchets.wanted() > 0 {
            self.ratchets.add(&pool()[self.next_key]);
            self.next_key += 1;
        }
        let plaintext = Plaintext::new(Kind::Text, text.into(), NOW_MS, &mut self.rng);
        let hashes = hashes(to.who, to.me.profile);
        let bundle = bundle(to.who, to.me.profile, one_time.then_some(hashes.as_slice()));
        let (keys, rng) = (&mut self.ratchets, &mut self.rng);
        self.peer.encrypt(self.me, &plaintext, Some(&bundle), keys, NOW_MS, rng).expect("it is encrypted")
    }

    fn open(&mut self, envelope: &[u8]) {
        let mut records = Records::new();
        self.records.iter().for_each(|record| drop(records.push(record)));
        let mut inbox = Inbox {
            me: self.me,
            prekeys: &mut self.prekeys,
            records: &records,
            preambles: &mut PreambleMemory::new(),
        };
        match self.peer.decrypt(&mut inbox, envelope, NOW_MS, &mut self.rng) {
            Ok(Opened::New(message)) => self.records.push(message.record),
            _ => panic!("it is opened"),
        }
    }

    fn home(&self, envelopes: Vec<Vec<u8>>) -> Home {
        Home {
            profile: self.me.profile,
            prekeys: self.prekeys.encode().to_vec(),
            peer: self.peer.encode().to_vec(),
            records: self.records.clone(),
            envelopes,
        }
    }
}

fn hashes(who: usize, profile: Profile) -> Vec<[u8; 32]> {
    beginning(who, profile).batch.moduli.iter().map(|modulus| Sha256::digest(modulus).into()).collect()
}

fn bundle(who: usize, profile: Profile, hashes: Option<&[[u8; 32]]>) -> Bundle<'_> {
    let beginning = beginning(who, profile);
    Bundle {
        identity: me(who, profile).identity.modulus(),
        spk: &beginning.spk.modulus,
        made_ms: beginning.spk.made_ms,
        profile: beginning.spk.profile,
        signature: &beginning.spk.signature,
        one_time: hashes.map(|hashes| OneTime {
            modulus: &beginning.batch.moduli[0],
            hashes,
            signature: &beginning.batch.signature,
        }),
    }
}

/// What the relay answers to who asks for somebody's keys.
pub(super) fn entry(who: usize, profile: Profile, one_time: bool, request: u32) -> Vec<u8> {
    let hashes = hashes(who, profile);
    let bundle = bundle(who, profile, one_time.then_some(hashes.as_slice()));
    let identity: &Modulus = bundle.identity;
    let entry = Entry {
        request,
        uid: UIDS[who],
        fingerprint: fingerprint(identity),
        prekeys_left: 3,
        name: *name(who),
        bundle: Some(BundleParts {
            identity_key: identity,
            signed_prekey: SignedPrekey {
                modulus: bundle.spk,
                made_ms: bundle.made_ms,
                profile: bundle.profile,
                signature: bundle.signature,
            },
            one_time: bundle.one_time.map(|one_time| OneTimePrekey {
                signature: one_time.signature,
                modulus: one_time.modulus,
                hashes: one_time.hashes,
            }),
        }),
    };
    let mut out = vec![0; FRAME_BYTES_MAX];
    let bytes = entry.emit(&mut out).expect("there is room");
    out.truncate(bytes);
    out
}

/// Bob's home: before alice writes, in her first session, and after both have stepped; for either profile of his.
pub(super) fn homes() -> &'static [Home] {
    static HOMES: OnceLock<Vec<Home>> = OnceLock::new();
    HOMES.get_or_init(|| [Profile::Strict, Profile::Light].into_iter().flat_map(make_homes).collect())
}

fn make_homes(profile: Profile) -> Vec<Home> {
    let (mut alice, mut bob) = (User::new(ALICE, BOB, Profile::Light), User::new(BOB, ALICE, profile));
    let other = User::new(ALICE, BOB, Profile::Light).send(&bob, false, "without a one-time prekey");
    let first: Vec<_> = (0..4).map(|n| alice.send(&bob, true, &format!("number {n}"))).collect();
    let envelopes = |of: &[Sealed]| of.iter().map(|sealed| sealed.envelope.clone()).collect::<Vec<_>>();
    let before = bob.home([envelopes(&first[..2]), vec![other.envelope]].concat());

    bob.open(&first[0].envelope);
    alice.peer.receipt_verified(first[0].sid, first[0].epoch);
    let bare = alice.send(&bob, true, "bare");
    let begun = bob.home([envelopes(&first), vec![bare.envelope.clone()]].concat());

    let answer = bob.send(&alice, true, "an answer");
    alice.open(&answer.envelope);
    let steps: Vec<_> = (0..3).map(|n| alice.send(&bob, true, &format!("after a step, {n}"))).collect();
    bob.open(&steps[1].envelope);
    let stepped = [envelopes(&steps), envelopes(&first[2..]), vec![bare.envelope]].concat();
    vec![before, begun, bob.home(stepped)]
}
