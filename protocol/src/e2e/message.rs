//! One message's keys, and its way into an envelope and out of it.
//!
//! This file owns the derivation from a message key, the tag and the receipt. It must not know where
//! the message key came from (`chain`, `skipped`) nor whose RSA key unwraps (`prekeys`). Source:
//! spec/crypto.md, "A message".

use rsa::rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::cbc::{self, BLOCK_BYTES, CipherKey};
use super::codec::joined;
use super::envelope::{self, Envelope, HEADER_BYTES, Iv, Place, TAG_BYTES, Tag};
use super::init::TranscriptHash;
use super::kdf::{Extracted, derive_one};
use super::oaep::{self, Label};
use super::secret::Secret;
use super::session::Outgoing;
use crate::ids::{Receipt, SessionId};
use crate::login::BadModulus;
use crate::login::notation::{HASH_BYTES, equal, hash, mac};

/// A message's keys that do not need a wrapped one: enough to authenticate it and its receipt, and to
/// decrypt it where there is none.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct MessageKeys {
    /// K_mac, K_ack and, in the profile light, K_enc, which comes of the same extract as the others. In one box,
    /// and written in place: like a [`Secret`], they leave no copies behind.
    keys: Box<[[u8; HASH_BYTES]; 3]>,
    #[zeroize(skip)]
    is_wrapped: bool,
}

impl MessageKeys {
    /// The keys of a message that has a wrapped key of its own, or none.
    pub(crate) fn derive(message_key: &Secret, context: &Context, is_wrapped: bool) -> Self {
        let extracted = Extracted::new(message_key.as_bytes(), &[]);
        let mut keys = Self { keys: Box::new([[0; HASH_BYTES]; 3]), is_wrapped };
        let [auth @ .., light] = &mut *keys.keys;
        extracted.derive("RLY1/auth", &context.0, auth.as_flattened_mut());
        if !is_wrapped {
            extracted.derive(ENC_LABEL, &context.0, light);
        }
        keys
    }

    /// Whether the envelope's tag is right, in constant time.
    pub(crate) fn verify(&self, th: &TranscriptHash, envelope: &Envelope<'_>) -> bool {
        let ek = envelope.ek.map_or(&[] as &[u8], |ek| ek);
        let tag = self.tag(th, envelope.header, envelope.preamble, ek, envelope.data);
        equal(&tag, envelope.tag)
    }

    /// What the recipient's client answers to the envelope with this tag once it is durable.
    pub(crate) fn receipt(&self, tag: &Tag) -> Receipt {
        let [_, ack, _] = &*self.keys;
        Receipt(mac(ack, "RLY1/ack", &[tag]))
    }

    /// K_enc: with the message's wrapped key or, in the profile light, what was derived without one.
    fn with_encryption_key<T>(
        &self,
        message_key: &Secret,
        wrapped_key: Option<&Secret>,
        context: &Context,
        then: impl FnOnce(&CipherKey) -> T,
    ) -> T {
        debug_assert!(wrapped_key.is_some() == self.is_wrapped);
        match wrapped_key {
            None => {
                let [_, _, light] = &*self.keys;
                then(light)
            }
            Some(key) => {
                let key = derive_one(message_key.as_bytes(), key.as_bytes(), ENC_LABEL, &context.0);
                then(key.as_bytes())
            }
        }
    }

    fn tag(
        &self,
        th: &TranscriptHash,
        header: &[u8; HEADER_BYTES],
        preamble: &[u8],
        ek: &[u8],
        data: &[u8],
    ) -> Tag {
        let [key, ..] = &*self.keys;
        mac(key, "RLY1/tag", &[th, header, preamble, ek, data])
    }
}

const ENC_LABEL: &str = "RLY1/enc";

/// `ctx = th || u32 epoch || u32 number || iv`.
pub(crate) struct Context([u8; HASH_BYTES + 4 + 4 + BLOCK_BYTES]);

impl Context {
    pub(crate) fn new(th: &TranscriptHash, place: Place, iv: &Iv) -> Self {
        Self(joined(&[th, &place.epoch.to_be_bytes(), &place.number.to_be_bytes(), iv]))
    }
}

/// The label under which a message's own key is wrapped.
pub(crate) fn wrap_label(th: &TranscriptHash, place: Place) -> Label {
    hash("RLY1/msg-label", &[th, &place.epoch.to_be_bytes(), &place.number.to_be_bytes()])
}

/// Encrypts `plaintext`, already padded, with its message key and, where the recipient is strict, a fresh
/// key wrapped to it. Gives the envelope and the receipt that it will be answered with.
pub(crate) fn seal(
    sid: SessionId,
    outgoing: &Outgoing<'_>,
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Receipt), BadModulus> {
    let Outgoing { th, epoch, number, prior, message_key, recipient, preamble } = outgoing;
    let place = Place { sid, epoch: *epoch, number: *number };
    let mut iv = [0; BLOCK_BYTES];
    rng.fill_bytes(&mut iv);
    let context = Context::new(th, place, &iv);
    let wrapped = match recipient {
        None => None,
        Some(recipient) => {
            let key = Secret::random(rng);
            let ek = oaep::wrap(recipient, &wrap_label(th, place), &key, rng)?;
            Some((key, ek))
        }
    };
    let ek = wrapped.as_ref().map_or(&[] as &[u8], |(_, ek)| ek);
    let data_bytes = cbc::encrypted_bytes(plaintext.len());
    let header = envelope::header(place, *prior, &iv, preamble, ek, data_bytes);
    let keys = MessageKeys::derive(message_key, &context, wrapped.is_some());

    let data_at = HEADER_BYTES + preamble.len() + ek.len();
    let mut bytes = Vec::with_capacity(data_at + data_bytes + TAG_BYTES);
    for part in [header.as_slice(), preamble, ek] {
        bytes.extend_from_slice(part);
    }
    let wrapped_key = wrapped.as_ref().map(|(key, _)| key);
    keys.with_encryption_key(message_key, wrapped_key, &context, |key| {
        cbc::encrypt(key, &iv, plaintext, &mut bytes);
    });
    let tag = keys.tag(th, &header, preamble, ek, bytes.get(data_at..).unwrap_or_default());
    bytes.extend_from_slice(&tag);
    Ok((bytes, keys.receipt(&tag)))
}

/// Decrypts an envelope whose tag was right.
pub(crate) fn open(
    envelope: &Envelope<'_>,
    context: &Context,
    (message_key, keys): (&Secret, &MessageKeys),
    wrapped_key: Option<&Secret>,
) -> Result<Zeroizing<Vec<u8>>, cbc::BadPadding> {
    keys.with_encryption_key(message_key, wrapped_key, context, |key| {
        cbc::decrypt(key, envelope.iv, envelope.data)
    })
}
