//! Identity keys, and signatures that are made once.
//!
//! Owns: who has which key, and what was signed with it. Signing takes longer than a hundred messages do, so every
//! signature is kept: each start of the relay draws the same nonces, and the same logins come again and again, over
//! all seeds. Must not know frames.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::{Name, Signature};
use e2e_protocol::login::{Login, RollOver};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::Who;

/// As many users as there are.
pub(crate) const USERS_MAX: usize = 5;
/// Keys of each; a name rolls over from one to the next, and then begins anew.
pub(crate) const KEYS_EACH: usize = 3;

/// Names that nobody has at first, behind those of the users; each of their keys may be another's who wants the name.
pub(crate) const WANTED_MAX: usize = 4;

const NAMES: [&str; USERS_MAX + WANTED_MAX] =
    ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan"];

type Signed = Mutex<HashMap<(Who, usize, Vec<u8>), Box<Signature>>>;

pub(crate) fn name(who: Who) -> &'static Name {
    static PARSED: OnceLock<Vec<Name>> = OnceLock::new();
    &PARSED.get_or_init(|| NAMES.iter().map(|name| name.parse().expect("a good name")).collect())[who]
}

pub(crate) fn identity(who: Who, key: usize) -> &'static Identity {
    static KEYS: OnceLock<Vec<Identity>> = OnceLock::new();
    let all = KEYS.get_or_init(|| (0..NAMES.len() * KEYS_EACH).map(crate::sessions::identity).collect());
    &all[who * KEYS_EACH + key % KEYS_EACH]
}

fn remembered(
    who: Who,
    key: usize,
    signed: &[u8],
    make: impl FnOnce(&mut ChaCha20Rng) -> Signature,
) -> Signature {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    let mut known = SIGNED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let place = known.entry((who, key % KEYS_EACH, signed.to_vec()));
    **place.or_insert_with(|| Box::new(make(&mut ChaCha20Rng::seed_from_u64(5))))
}

pub(crate) fn sign_login(who: Who, key: usize, login: &Login<'_>) -> Signature {
    remembered(who, key, login.signed_bytes().as_bytes(), |rng| identity(who, key).sign_login(login, rng))
}

pub(crate) fn sign_roll_over(who: Who, key: usize, roll_over: &RollOver<'_>) -> Signature {
    let signed = roll_over.signed_bytes();
    remembered(who, key, signed.as_bytes(), |rng| identity(who, key).sign_roll_over(roll_over, rng))
}
