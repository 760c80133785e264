//! Tests of what is inside: the primitives against other people's vectors, every intermediate value
//! against ours, and the small rules. What the public interface shows is tested in `protocol/tests`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod at_rest;
mod derivations;
mod primitives;
mod rules;
mod stepping;
mod wycheproof;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::secret::Secret;

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(2)
}

fn unhex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text).try_into().unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::take(&mut array(text))
}
