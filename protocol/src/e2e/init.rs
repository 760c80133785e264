//! INIT: the preamble with which a session starts, and the secrets that both ends take from it.
//!
//! ```text
//!   N(IK_A) 256 | N(R_A) 256 | profile 1 | kid(SPK) 8 | kid(OPK) 8 | c1 256 | c2 256 or 0 | sig 256
//! ```
//!
//! This file owns INIT's bytes, its transcript hash and the derivation from it. It must not know
//! who may start a session when (`pace`, `peer`). Source: spec/crypto.md, "Starting a session".

use super::bundle::Profile;
use super::kdf::derive_two;
use super::oaep::{Label, Wrapped};
use super::secret::Secret;
use crate::ids::{Fingerprint, KeyId, MODULUS_BYTES, Modulus, Name, SIGNATURE_BYTES, SessionId, Signature};
use crate::login::notation::{HASH_BYTES, hash};

/// Bytes of an INIT without a one-time prekey.
pub const INIT_BYTES: usize = 3 * MODULUS_BYTES + 1 + 2 * KeyId::BYTES + SIGNATURE_BYTES;

/// Bytes of an INIT with a one-time prekey.
pub const INIT_WITH_OPK_BYTES: usize = INIT_BYTES + MODULUS_BYTES;

/// The only suite: RSA-2048 OAEP and PSS, AES-256-CBC, HMAC and HKDF, all with SHA-256.
const SUITE: u16 = 1;

const SIGNATURE_LABEL: &[u8; 13] = b"RLY1/init-sig";

/// The transcript hash: what both ends agree on when they agree on a session.
pub(crate) type TranscriptHash = [u8; HASH_BYTES];

/// An INIT's parts, borrowed from its bytes; nothing in it is verified yet.
pub(crate) struct Init<'a> {
    pub(crate) identity: &'a Modulus,
    pub(crate) ratchet: &'a Modulus,
    pub(crate) profile: Profile,
    pub(crate) spk: KeyId,
    /// The one-time prekey, and what was wrapped to it.
    pub(crate) one_time: Option<(KeyId, &'a Wrapped)>,
    pub(crate) c1: &'a Wrapped,
    pub(crate) signature: &'a Signature,
}

impl<'a> Init<'a> {
    /// Takes an INIT apart; `None` if the parts do not fit together.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (identity, rest) = bytes.split_first_chunk()?;
        let (ratchet, rest) = rest.split_first_chunk()?;
        let (profile, rest) = rest.split_first()?;
        let (spk, rest) = rest.split_first_chunk()?;
        let (opk, rest) = rest.split_first_chunk()?;
        let (c1, rest) = rest.split_first_chunk()?;
        let (c2, signature) = rest.split_last_chunk()?;
        let one_time = match (KeyId(*opk), c2) {
            (KeyId::ZERO, []) => None,
            (KeyId::ZERO, _) => return None,
            (opk, c2) => Some((opk, c2.try_into().ok()?)),
        };
        let profile = Profile::from_u8(*profile)?;
        Some(Self { identity, ratchet, profile, spk: KeyId(*spk), one_time, c1, signature })
    }

    pub(crate) fn emit(&self) -> Vec<u8> {
        let (opk, c2): (KeyId, &[u8]) = match &self.one_time {
            Some((opk, c2)) => (*opk, c2.as_slice()),
            None => (KeyId::ZERO, &[]),
        };
        let mut out = Vec::with_capacity(INIT_WITH_OPK_BYTES);
        out.extend_from_slice(self.identity);
        out.extend_from_slice(self.ratchet);
        out.push(self.profile as u8);
        out.extend_from_slice(&self.spk.0);
        out.extend_from_slice(&opk.0);
        out.extend_from_slice(self.c1);
        out.extend_from_slice(c2);
        out.extend_from_slice(self.signature);
        out
    }
}

/// One end of a session that is about to start.
#[derive(Clone, Copy)]
pub(crate) struct Party<'a> {
    pub(crate) name: &'a Name,
    pub(crate) fingerprint: &'a Fingerprint,
}

/// Everything that a session is bound to, but the signature.
pub(crate) struct Transcript<'a> {
    pub(crate) initiator: Party<'a>,
    pub(crate) responder: Party<'a>,
    pub(crate) spk: &'a Modulus,
    pub(crate) c1: &'a Wrapped,
    /// N(OPK) and c2.
    pub(crate) one_time: Option<(&'a Modulus, &'a Wrapped)>,
    pub(crate) ratchet: &'a Modulus,
    pub(crate) profile: Profile,
}

impl Transcript<'_> {
    /// `th`.
    pub(crate) fn hash(&self) -> TranscriptHash {
        let (opk, c2): (&[u8], &[u8]) = match &self.one_time {
            Some((opk, c2)) => (opk.as_slice(), c2.as_slice()),
            None => (&[], &[]),
        };
        hash(
            "RLY1/th",
            &[
                &SUITE.to_be_bytes(),
                self.initiator.name.as_bytes(),
                &self.initiator.fingerprint.0,
                self.responder.name.as_bytes(),
                &self.responder.fingerprint.0,
                self.spk,
                opk,
                self.c1,
                c2,
                self.ratchet,
                &[self.profile as u8],
            ],
        )
    }
}

/// The label under which a start secret is wrapped to `prekey`.
pub(crate) fn wrap_label(initiator: &Fingerprint, responder: &Fingerprint, prekey: &Modulus) -> Label {
    hash("RLY1/init-label", &[&initiator.0, &responder.0, prekey])
}

/// The session's identifier: the first half of `th`.
pub(crate) fn session_id(th: &TranscriptHash) -> SessionId {
    let mut sid = SessionId::ZERO;
    sid.0.iter_mut().zip(th).for_each(|(to, from)| *to = *from);
    sid
}

/// The bytes that the initiator's identity key signs: `T("RLY1/init-sig") || th`.
pub(crate) fn signed_bytes(th: &TranscriptHash) -> [u8; 1 + SIGNATURE_LABEL.len() + HASH_BYTES] {
    let mut out = [0; 1 + SIGNATURE_LABEL.len() + HASH_BYTES];
    #[allow(clippy::cast_possible_truncation)] // 13
    let length = [SIGNATURE_LABEL.len() as u8];
    let parts = length.iter().chain(SIGNATURE_LABEL).chain(th);
    out.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    out
}

/// The root and the chain key of epoch 0.
pub(crate) fn root_and_chain(th: &TranscriptHash, s1: &Secret, s2: Option<&Secret>) -> (Secret, Secret) {
    let mut ikm = zeroize::Zeroizing::new([0; 2 * Secret::BYTES]);
    let parts = s1.as_bytes().iter().chain(s2.iter().flat_map(|s2| s2.as_bytes()));
    ikm.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    let ikm_bytes = if s2.is_some() { 2 * Secret::BYTES } else { Secret::BYTES };
    derive_two(th, ikm.get(..ikm_bytes).unwrap_or_default(), "RLY1/init", &[])
}
