//! One message's keys, and its way into an envelope and out of it.
//!
//! This file owns the derivation from a message key, the tag and the receipt. It must not know where
//! the message key came from (`chain`, `skipped`) nor whose RSA key unwraps (`prekeys`). Source:
//! spec/crypto.md, "A message".

use rsa::rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::cbc::{self, BLOCK_BYTES};
use super::envelope::{self, Envelope, HEADER_BYTES, Iv, Place, TAG_BYTES, Tag};
use super::init::TranscriptHash;
use super::kdf::{derive_one, derive_two};
use super::oaep::{self, Label};
use super::secret::Secret;
use super::session::Outgoing;
use crate::ids::{Receipt, SessionId};
use crate::login::BadModulus;
use crate::login::notation::{HASH_BYTES, equal, hash, mac};

/// A message's keys that do not need the wrapped one: enough to authenticate it and its receipt.
pub(crate) struct AuthKeys {
    mac: Secret,
    ack: Secret,
}

impl AuthKeys {
    pub(crate) fn derive(message_key: &Secret, context: &Context) -> Self {
        let (mac, ack) = derive_two(message_key.as_bytes(), &[], "RLY1/auth", &context.0);
        Self { mac, ack }
    }

    /// Whether the envelope's tag is right, in constant time.
    pub(crate) fn verify(&self, th: &TranscriptHash, envelope: &Envelope<'_>) -> bool {
        let ek = envelope.ek.map_or(&[] as &[u8], |ek| ek);
        let tag = self.tag(th, envelope.header, envelope.preamble, ek, envelope.data);
        equal(&tag, envelope.tag)
    }

    /// What the recipient's client answers to the envelope with this tag once it is durable.
    pub(crate) fn receipt(&self, tag: &Tag) -> Receipt {
        Receipt(mac(self.ack.as_bytes(), "RLY1/ack", &[tag]))
    }

    fn tag(
        &self,
        th: &TranscriptHash,
        header: &[u8; HEADER_BYTES],
        preamble: &[u8],
        ek: &[u8],
        data: &[u8],
    ) -> Tag {
        mac(self.mac.as_bytes(), "RLY1/tag", &[th, header, preamble, ek, data])
    }
}

/// `ctx = th || u32 epoch || u32 number || iv`.
pub(crate) struct Context([u8; HASH_BYTES + 4 + 4 + BLOCK_BYTES]);

impl Context {
    pub(crate) fn new(th: &TranscriptHash, place: Place, iv: &Iv) -> Self {
        let (epoch, number) = (place.epoch.to_be_bytes(), place.number.to_be_bytes());
        let parts = th.iter().chain(&epoch).chain(&number).chain(iv);
        let mut context = [0; HASH_BYTES + 4 + 4 + BLOCK_BYTES];
        context.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Self(context)
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
    let key = encryption_key(message_key, wrapped.as_ref().map(|(key, _)| key), &context);
    let data = cbc::encrypt(&key, &iv, plaintext);

    let ek = wrapped.as_ref().map_or(&[] as &[u8], |(_, ek)| ek);
    let header = envelope::header(place, *prior, &iv, preamble, ek, &data);
    let keys = AuthKeys::derive(message_key, &context);
    let tag = keys.tag(th, &header, preamble, ek, &data);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + preamble.len() + ek.len() + data.len() + TAG_BYTES);
    for part in [header.as_slice(), preamble, ek, &data, &tag] {
        bytes.extend_from_slice(part);
    }
    Ok((bytes, keys.receipt(&tag)))
}

/// Decrypts an envelope whose tag was right.
pub(crate) fn open(
    envelope: &Envelope<'_>,
    context: &Context,
    message_key: &Secret,
    wrapped_key: Option<&Secret>,
) -> Result<Zeroizing<Vec<u8>>, cbc::BadPadding> {
    cbc::decrypt(&encryption_key(message_key, wrapped_key, context), envelope.iv, envelope.data)
}

fn encryption_key(message_key: &Secret, wrapped_key: Option<&Secret>, context: &Context) -> Secret {
    let wrapped_key = wrapped_key.map_or(&[] as &[u8], |key| key.as_bytes());
    derive_one(message_key.as_bytes(), wrapped_key, "RLY1/enc", &context.0)
}
