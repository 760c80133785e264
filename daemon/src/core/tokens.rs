//! Registration tokens: with which a name may be claimed where the relay asks for one.
//!
//! Owns: the tokens that the relay has made, and whether a proof is that of one. Those of a file come with the policy. Must not
//! know who asks for a token, nor how a name is claimed.

use e2e_protocol::login::{Login, verify_token_proof};
use rand_chacha::rand_core::Rng;

use super::Core;
use crate::limits::TOKENS_MAX;
use crate::store::{StoredToken, TOKEN_SECRET_BYTES};

/// Which letters and digits a secret is made of: 32, and none that is easily taken for another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Numbers are below this one: short enough to be typed, and far more than there are tokens.
const NUMBERS: u32 = 1_000_000;

/// The tokens that the relay has made, by number, rising.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<StoredToken>);

/// Which token a proof is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fitting {
    /// None that is known.
    None,
    /// One that is good for any number of names.
    Lasting,
    /// One that is good for one, with this number.
    Once(u32),
}

impl Tokens {
    pub(super) fn new(stored: &[StoredToken]) -> Self {
        Self(stored.to_vec())
    }

    pub(super) fn all(&self) -> &[StoredToken] {
        &self.0
    }

    /// Whether there are as many as may be.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= TOKENS_MAX
    }

    pub(super) fn put(&mut self, token: StoredToken) {
        match self.0.binary_search_by_key(&token.number, |known| known.number) {
            Ok(at) => self.0.get_mut(at).map_or((), |known| *known = token),
            Err(at) => self.0.insert(at, token),
        }
    }

    pub(super) fn take(&mut self, number: u32) -> Option<StoredToken> {
        let at = self.0.binary_search_by_key(&number, |known| known.number).ok()?;
        Some(self.0.remove(at))
    }
}

impl Core {
    /// Makes a token, which is nowhere yet. Its number is any that no other has: one that rises with each token would be given again
    /// after the last one went, and somebody's note would name another token.
    pub(super) fn new_token(&mut self, once: bool, label: &str) -> StoredToken {
        let mut number = 0;
        while number == 0 || self.tokens.all().iter().any(|token| token.number == number) {
            number = self.rng.next_u32() % NUMBERS;
        }
        let mut secret = [0; TOKEN_SECRET_BYTES];
        self.rng.fill_bytes(&mut secret);
        for byte in &mut secret {
            *byte = ALPHABET.get(usize::from(*byte % 32)).copied().unwrap_or(b'a');
        }
        StoredToken { number, once, made: self.now.relay_ms, secret, label: label.to_owned() }
    }

    /// Whose proof this is, of all tokens that are good at present.
    pub(super) fn fitting_token(&self, login: &Login<'_>, proof: &[u8; 32]) -> Fitting {
        let is_of_file = self.policy.tokens.iter().any(|token| verify_token_proof(token, login, proof));
        if is_of_file {
            return Fitting::Lasting;
        }
        let made = self.tokens.all().iter().find(|token| verify_token_proof(&token.secret, login, proof));
        match made {
            None => Fitting::None,
            Some(StoredToken { once: false, .. }) => Fitting::Lasting,
            Some(StoredToken { number, .. }) => Fitting::Once(*number),
        }
    }
}
