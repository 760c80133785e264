//! How a name appears in a log line: as it is, or, where the relay's owner wants names hidden, as a pseudonym.
//!
//! Owns: the pseudonym. It is the same for one name from start to stop of the relay, and says nothing to who has the log and
//! not the key, which is in memory only. Every log line with a name in it goes through [`Core::shown`].

use std::fmt;

use e2e_protocol::ids::Name;
use sha2::{Digest, Sha256};

use super::Core;

/// Bytes of a pseudonym: enough to follow one name through a log, few to read.
const PSEUDONYM_BYTES: usize = 4;

/// The key of this start's pseudonyms.
pub(super) struct Pseudonyms([u8; 32]);

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms")
    }
}

impl Pseudonyms {
    /// From the core's seed, of which this tells nothing.
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self(hash(b"e2e-relayd: pseudonyms of names in logs", seed))
    }

    fn of(&self, name: &Name) -> [u8; PSEUDONYM_BYTES] {
        let hashed = hash(&self.0, name.as_bytes());
        hashed.first_chunk().copied().unwrap_or_default()
    }
}

/// `first` has one length for each use, so that nothing can move between the two.
fn hash(first: &[u8], second: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(first).chain_update(second).finalize().into()
}

/// A name as log lines show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As it is.
    Name(Name),
    /// Its pseudonym.
    Pseudonym([u8; PSEUDONYM_BYTES]),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            // No name has such a character.
            Self::Pseudonym(bytes) => write!(f, "#{:08x}", u32::from_be_bytes(*bytes)),
        }
    }
}

impl Core {
    /// A name as it may stand in a log line.
    #[must_use]
    pub fn shown(&self, name: &Name) -> Shown {
        if self.policy.hide_names { Shown::Pseudonym(self.pseudonyms.of(name)) } else { Shown::Name(*name) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn is_one_for_a_name_and_a_start() {
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse().unwrap());
        let (first, second) = (Pseudonyms::new(&[1; 32]), Pseudonyms::new(&[2; 32]));
        assert_eq!(first.of(&alice), Pseudonyms::new(&[1; 32]).of(&alice));
        assert_ne!(first.of(&alice), first.of(&bob));
        assert_ne!(first.of(&alice), second.of(&alice));
        // Without the key, a hash of the name is of no use.
        assert!(!Sha256::digest(alice.as_bytes()).starts_with(&first.of(&alice)));
        assert_eq!(Shown::Pseudonym([0, 1, 0xAB, 0xCD]).to_string(), "#0001abcd");
    }
}
