//! Key pairs made ahead, because making one takes 60 ms and a whole seed has less than that.
//!
//! Owns: the pool in `keys.txt` (test keys: their primes are public), who has which of them, and the
//! published prekeys that every seed begins with. Must not know what comes of a key.
//!
//! ```text
//!   0       18      36      54        70        142           202
//!   | alice | bob   | carol | 16 SPKs | 8 batches | 60 ratchets |   IK, SPK, 16 OPKs each; then for everybody
//! ```

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use e2e_protocol::e2e::{Identity, KeyPair, Me, PRIME_BYTES, Prekeys, Profile, PublishedBatch, PublishedSpk};
use e2e_protocol::ids::{KeyId, Name};
use e2e_protocol::login::key_id;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{NAMES, START_MS, Who};
use crate::dice::Dice;

/// An identity key, a signed prekey, and a whole batch: with these each user begins.
const FIRST_KEYS: usize = 18;
/// As many as a user holds, so that one comes again only when its last use is over.
const SPKS: Range<usize> = 54..70;
/// As many batches as belong to one signed prekey, so that none has a key twice.
const BATCHES: Range<usize> = 70..142;
const BATCH_KEYS: usize = 9;
/// Keys for steps and INITs, in [`pool`].
pub(crate) const RATCHETS: Range<usize> = 142..202;
const POOL_KEYS: usize = RATCHETS.end;

const TEXT: &str = include_str!("keys.txt");

/// What a user has published before anything happens.
pub(crate) struct Beginning {
    pub(crate) prekeys: Arc<Vec<u8>>,
    pub(crate) spk: PublishedSpk,
    pub(crate) batch: PublishedBatch,
}

/// The keys that one user makes in one seed, in the order of that seed. They come again when all were
/// used.
pub(super) struct KeySource {
    spks: Vec<usize>,
    batches: Vec<usize>,
    ratchets: Vec<usize>,
}

/// The text of a new `keys.txt`.
#[must_use]
pub fn make_keys() -> String {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system's random numbers");
    let mut rng = ChaCha20Rng::from_seed(seed);
    let mut text = String::from(
        "# TEST KEYS: public, worth nothing, never to be used for anything but tests.\n\
         # RSA-2048 key pairs, one a line: the primes p q in hex. Made by `simulate-sessions --make-keys`.\n",
    );
    for _ in 0..POOL_KEYS {
        let encoded = Identity::generate(&mut rng).encode();
        // The primes stand last (Identity::encode).
        let (p, q) = encoded[encoded.len() - 2 * PRIME_BYTES..].split_at(PRIME_BYTES);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        text += &format!("{} {}\n", hex(p), hex(q));
    }
    text
}

fn lines() -> impl Iterator<Item = &'static str> {
    TEXT.lines().filter(|line| !line.starts_with('#'))
}

fn parse(line: &str) -> KeyPair {
    let prime = |text: &str| -> [u8; PRIME_BYTES] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
    };
    let (p, q) = line.split_once(' ').expect("two primes");
    KeyPair::from_primes(&prime(p), &prime(q)).expect("a key pair")
}

/// All of them.
pub(crate) fn pool() -> &'static [KeyPair] {
    static POOL: OnceLock<Vec<KeyPair>> = OnceLock::new();
    POOL.get_or_init(|| {
        let keys: Vec<KeyPair> = lines().map(parse).collect();
        assert_eq!(keys.len(), POOL_KEYS, "keys.txt has another number of keys");
        keys
    })
}

/// An identity key of the pool, for who needs nothing but that.
pub(crate) fn identity(index: usize) -> Identity {
    lines().nth(RATCHETS.start + index).map(parse).map(Identity::from).expect("fewer than the pool has")
}

pub(crate) fn name(who: Who) -> &'static Name {
    static PARSED: OnceLock<Vec<Name>> = OnceLock::new();
    &PARSED.get_or_init(|| NAMES.iter().map(|name| name.parse().expect("a good name")).collect())[who]
}

pub(crate) fn me(who: Who, profile: Profile) -> Me<'static> {
    static IDENTITIES: OnceLock<Vec<Identity>> = OnceLock::new();
    let identities = IDENTITIES.get_or_init(|| {
        lines().step_by(FIRST_KEYS).take(NAMES.len()).map(parse).map(Identity::from).collect()
    });
    Me { name: name(who), identity: &identities[who], profile }
}

pub(crate) fn beginning(who: Who, profile: Profile) -> &'static Beginning {
    static BEGINNINGS: OnceLock<Vec<[Beginning; 2]>> = OnceLock::new();
    let make = |who, profile| {
        let mut rng = ChaCha20Rng::seed_from_u64(who as u64);
        let mut prekeys = Prekeys::new();
        let keys = &pool()[who * FIRST_KEYS + 1..][..FIRST_KEYS - 1];
        let spk = prekeys.publish_spk(me(who, profile), &keys[0], START_MS, &mut rng);
        let batch = prekeys.publish_batch(me(who, profile), &keys[1..], &mut rng).expect("a first batch");
        prekeys.spk_uploaded(key_id(&spk.modulus), START_MS);
        Beginning { prekeys: Arc::new(prekeys.encode().to_vec()), spk, batch }
    };
    let all = BEGINNINGS.get_or_init(|| {
        (0..NAMES.len()).map(|who| [Profile::Strict, Profile::Light].map(|p| make(who, p))).collect()
    });
    &all[who][profile as usize]
}

impl KeySource {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let mut shuffled = |range: Range<usize>, step| {
            let mut of_pool: Vec<usize> = range.step_by(step).collect();
            dice.shuffle(&mut of_pool);
            of_pool
        };
        Self {
            spks: shuffled(SPKS, 1),
            batches: shuffled(BATCHES, BATCH_KEYS),
            ratchets: shuffled(RATCHETS, 1),
        }
    }

    /// A key to become the signed prekey.
    pub(super) fn spk(&mut self) -> &'static KeyPair {
        self.spks.rotate_left(1);
        &pool()[self.spks[0]]
    }

    /// Keys to become one-time prekeys.
    pub(super) fn batch(&mut self) -> &'static [KeyPair] {
        self.batches.rotate_left(1);
        &pool()[self.batches[0]..][..BATCH_KEYS]
    }

    /// A key for a step or an INIT.
    pub(crate) fn ratchet(&mut self) -> &'static KeyPair {
        self.ratchets.rotate_left(1);
        &pool()[self.ratchets[0]]
    }

    /// The key that comes next of these.
    pub(super) fn next_ratchet(&self) -> &'static KeyPair {
        &pool()[self.ratchets[1]]
    }
}

/// What the relay calls a signed prekey.
pub(super) fn spk_id(spk: Option<&PublishedSpk>) -> KeyId {
    spk.map_or(KeyId::ZERO, |spk| key_id(&spk.modulus))
}
