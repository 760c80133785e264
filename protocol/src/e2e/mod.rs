//! The end-to-end layer: keys, sessions and messages that no relay can read.
//!
//! It does no I/O, reads no clock and has no random source: `now_ms` (Unix milliseconds) and `rng`
//! (a ChaCha20Rng seeded by the system) are arguments. Secrets erase themselves and do not print.
//! The construction, RLY1, is spec/crypto.md, which decides; it has no proof.
//!
//! The way of a message: [`Peer::encrypt`] makes a [`Sealed`] of a [`Plaintext`], starting a session
//! with a [`Bundle`] if none stands (`pace` says how often). At the other end [`Peer::decrypt`] takes
//! the [`Inbox`] and gives the [`Plaintext`] back, with the [`Record`] and the receipt that [`judge`]
//! compares at the sender. State is committed between each step and what it sends.
//!
//! | file | concept |
//! |---|---|
//! | `kdf`, `oaep`, `pss`, `cbc`, `key_pair`, `secret` | one primitive each |
//! | `identity`, `prekeys`, `ratchet_keys`, `bundle` | the keys of a client, and what of them is published |
//! | `init`, `step`, `chain`, `message`, `envelope`, `plaintext` | bytes and derivations of a session |
//! | `session`, `skipped`, `records`, `record_index`, `peer` | what is kept |
//! | `number` | what two people compare |
//! | `pace`, `preamble_memory`, `limits` | what is not allowed |
//! | `receipt`, `reject` | how it ends |
//! | `at_rest` | state files under a passphrase |

pub mod at_rest;
mod bundle;
mod cbc;
mod chain;
mod codec;
mod envelope;
mod envelope_layout;
mod identity;
mod init;
mod kdf;
mod key_pair;
pub mod limits;
mod message;
mod number;
mod oaep;
mod pace;
mod peer;
mod plaintext;
mod preamble_memory;
mod prekeys;
mod pss;
mod ratchet_keys;
mod receipt;
mod record_index;
mod records;
mod reject;
mod secret;
mod session;
mod skipped;
mod step;
#[cfg(test)]
mod tests;

pub use bundle::{BadBundle, Bundle, OneTime, Profile, PublishedBatch, PublishedSpk};
pub use codec::Corrupt;
pub use envelope::{HEADER_BYTES, OVERHEAD_BYTES_MAX, TAG_BYTES};
pub use envelope_layout::explain_envelope;
pub use identity::{Identity, Me};
pub use init::{INIT_BYTES, INIT_WITH_OPK_BYTES};
pub use key_pair::{KeyPair, PRIME_BYTES};
pub use number::comparison_number;
pub use peer::{EncryptError, Inbox, Opened, OpenedMessage, Peer, Sealed, ShownKey};
pub use plaintext::{Kind, Plaintext};
pub use preamble_memory::PreambleMemory;
pub use prekeys::{BatchError, Prekeys};
pub use ratchet_keys::RatchetKeys;
pub use receipt::{Answer, judge};
pub use records::{Changed, Record, Records};
pub use reject::{Reject, RejectReason};
/// What `rng` has to be.
pub use rsa::rand_core::CryptoRng;
pub use step::STEP_BYTES;
