//! The number that two people compare to know that they hold each other's keys.
//!
//! This file owns how it is made of two keys and names. It must not know what comes of comparing it:
//! that is `peer::pin`. Source: spec/crypto.md, "People".

use sha2::{Digest, Sha512};

use crate::ids::{Modulus, Name};
use crate::login::notation::{label_length, value_length};

const LABEL: &str = "RLY1/number";

/// Digits of one key's number.
const DIGITS: usize = 30;
/// Bytes of the hash that give five digits.
const GROUP_BYTES: usize = 5;
const GROUP_DIGITS: usize = 5;

/// The 60 digits that two people compare, without spaces: both keys' 30, the lower first. The same at
/// either end.
#[must_use]
pub fn comparison_number(one: (&Modulus, &Name), other: (&Modulus, &Name)) -> String {
    let (one, other) = (number(one), number(other));
    if one <= other { one + &other } else { other + &one }
}

/// One key's 30 digits.
pub(crate) fn number((identity, name): (&Modulus, &Name)) -> String {
    let mut hasher = Sha512::new();
    hasher.update(label_length(LABEL));
    hasher.update(LABEL);
    hasher.update(identity);
    hasher.update(value_length(name.as_bytes()));
    hasher.update(name.as_bytes());
    let groups = DIGITS / GROUP_DIGITS;
    let hash = hasher.finalize();
    let value = |group: &[u8]| group.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    hash.chunks_exact(GROUP_BYTES)
        .take(groups)
        .map(|group| format!("{:05}", value(group) % 100_000))
        .collect()
}
