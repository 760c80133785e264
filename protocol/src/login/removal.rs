//! What a name's key signs to remove the name from a relay.
//!
//! This file owns the bytes of a removal and the verification of its signature. It must not know frames, nor which
//! key is in force. Source: spec/crypto.md, "People".

use super::notation::{label_length, value_length};
use super::{LOGIN_BYTES_MAX, SignedBytes, check_modulus, fingerprint, public_key};
use crate::ids::{Fingerprint, Modulus, NAME_BYTES_MAX, Name, RelayId, Signature, Uid};

const REMOVE_LABEL: &str = "RLY1/remove";

/// Most bytes that a removal signs: label, relay id, uid, name, fingerprint.
const REMOVE_BYTES_MAX: usize = 1 + REMOVE_LABEL.len() + 32 + 8 + 4 + NAME_BYTES_MAX + Fingerprint::BYTES;

// It shares the login's buffer.
const _: () = assert!(REMOVE_BYTES_MAX <= LOGIN_BYTES_MAX);

/// Everything that one removal binds together. The uid is in it so that it says nothing of who claims the name
/// later, be it with the same key.
#[derive(Clone, Copy, Debug)]
pub struct Removal<'a> {
    /// The relay that is to forget the name.
    pub relay_id: &'a RelayId,
    /// Which holder of the name.
    pub uid: Uid,
    /// The name.
    pub name: &'a Name,
    /// The fingerprint of the key in force.
    pub fingerprint: &'a Fingerprint,
}

impl Removal<'_> {
    /// The exact bytes that are signed: `T("RLY1/remove") || relay_id 32 || u64 uid || LP(name) || fp 32`.
    #[must_use]
    pub fn signed_bytes(&self) -> SignedBytes {
        let mut out = SignedBytes { bytes: [0; LOGIN_BYTES_MAX], len: 0 };
        out.push(&label_length(REMOVE_LABEL));
        out.push(REMOVE_LABEL.as_bytes());
        out.push(&self.relay_id.0);
        out.push(&self.uid.0.to_be_bytes());
        out.push(&value_length(self.name.as_bytes()));
        out.push(self.name.as_bytes());
        out.push(&self.fingerprint.0);
        out
    }
}

/// Whether the key with this modulus signed this removal: one verification as in [`super::verify_login`], none if the
/// modulus is bad or is not the one with that fingerprint.
#[must_use]
pub fn verify_removal(modulus: &Modulus, removal: &Removal<'_>, signature: &Signature) -> bool {
    check_modulus(modulus).is_ok()
        && fingerprint(modulus) == *removal.fingerprint
        && public_key::verifies(modulus, removal.signed_bytes().as_bytes(), signature)
}
