//! Sending to a peer: on the session that stands, with a step if one is due, or on a new session.
//!
//! This file owns when a new session is started, and its INIT. It must not know the outbox, which
//! decides what to do about an error. Source: spec/crypto.md, "Sending" and "When to step".

use core::fmt;

use rsa::rand_core::CryptoRng;

use super::Peer;
use crate::e2e::bundle::{BadBundle, Bundle, Profile};
use crate::e2e::identity::Me;
use crate::e2e::init::{Init, Party, Transcript, root_and_chain, signed_bytes, wrap_label};
use crate::e2e::key_pair::StoredKey;
use crate::e2e::limits::BUNDLE_AHEAD_MS_MAX;
use crate::e2e::message;
use crate::e2e::oaep::wrap;
use crate::e2e::plaintext::Plaintext;
use crate::e2e::preamble_memory::EpochSecrets;
use crate::e2e::ratchet_keys::RatchetKeys;
use crate::e2e::secret::Secret;
use crate::e2e::session::{Due, Initiated, Outgoing, Session};
use crate::ids::{Fingerprint, Receipt, SessionId};
use crate::login::{BadModulus, fingerprint, key_id};

/// An encrypted message, to be committed together with the peer's state before it is sent.
pub struct Sealed {
    /// The bytes to send, at most 16,384.
    pub envelope: Vec<u8>,
    /// What the recipient's client will answer once it made the message durable.
    pub expected_receipt: Receipt,
    /// The session that it went out on, for [`Peer::receipt_verified`] and [`Peer::reject_seen`].
    pub sid: SessionId,
    /// Its epoch there.
    pub epoch: u32,
    /// Its number in that epoch's chain.
    pub number: u32,
    /// Whether it starts a session for which the relay gave no one-time prekey, though it was asked for one.
    pub without_one_time: bool,
}

/// Why a message was not encrypted. The state did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptError {
    /// A session has to be started: fetch the peer's bundle and call again with it. Without
    /// `one_time` the relay is asked for no one-time prekey; one that comes anyway is not used.
    NeedBundle {
        /// Whether a one-time prekey will be used.
        one_time: bool,
    },
    /// The bundle is of another identity key than the pinned one, or the directory showed another, and
    /// nobody accepted it: this is its fingerprint.
    KeyChanged(Fingerprint),
    /// The bundle is refused.
    BadBundle(BadBundle),
    /// A session has to be started, but not before this time, Unix milliseconds.
    WaitUntil(u64),
    /// The body is longer than [`crate::e2e::limits::BODY_BYTES_MAX`].
    TooLong,
    /// One does not write to oneself.
    OwnName,
}

impl fmt::Display for EncryptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedBundle { .. } => f.write_str("the recipient's keys are needed"),
            Self::KeyChanged(shown) => write!(f, "the recipient's key changed to {shown}"),
            Self::BadBundle(why) => write!(f, "the recipient's keys are refused: {why}"),
            Self::WaitUntil(_) => f.write_str("a session was started a short while ago"),
            Self::TooLong => f.write_str("the message is too long"),
            Self::OwnName => f.write_str("a message to oneself can't be encrypted"),
        }
    }
}

impl core::error::Error for EncryptError {}

impl From<BadModulus> for EncryptError {
    fn from(_: BadModulus) -> Self {
        Self::BadBundle(BadBundle::Modulus)
    }
}

impl Peer {
    /// Encrypts a message to this peer, on the sending session or, with a `bundle` fetched for it, on
    /// a new one. Takes some 60 microseconds (4 where the peer is light); a step twice that, a new session
    /// 2 ms. Either takes one of `keys`, or 60 ms more if it has to make one.
    ///
    /// `keys` is committed together with this peer's state.
    ///
    /// # Errors
    /// [`EncryptError`]; a bundle that is not needed is ignored.
    pub fn encrypt(
        &mut self,
        me: Me<'_>,
        plaintext: &Plaintext,
        bundle: Option<&Bundle<'_>>,
        keys: &mut RatchetKeys,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed, EncryptError> {
        if self.name == *me.name {
            return Err(EncryptError::OwnName);
        }
        if let Some(shown) = self.changed() {
            return Err(EncryptError::KeyChanged(shown));
        }
        let padded = plaintext.emit().ok_or(EncryptError::TooLong)?;
        self.erase_old(now_ms);
        let started = match self.sending(now_ms) {
            Some(_) => Started { without_one_time: false },
            None => self.start(me, bundle, keys, now_ms, rng)?,
        };
        // A session stands now. If a defect of ours denied it, a new bundle would be the way to one.
        let sealed = self.seal(&padded, keys, now_ms, rng);
        let sealed = sealed.unwrap_or(Err(EncryptError::NeedBundle { one_time: true }))?;
        Ok(Sealed { without_one_time: started.without_one_time, ..sealed })
    }

    /// Seals on the sending session; `None` if there is none.
    fn seal(
        &mut self,
        padded: &[u8],
        keys: &mut RatchetKeys,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Option<Result<Sealed, EncryptError>> {
        let sid = self.sending(now_ms)?;
        let session = self.session_mut(sid)?;
        let steps = match session.step_due(now_ms) {
            Due::No => false,
            Due::IfReady => keys.is_ready(),
            Due::WithMessage | Due::Now => true,
        };
        if steps && let Err(error) = session.step(keys.take(rng), now_ms, rng) {
            return Some(Err(error.into()));
        }
        let outgoing = session.next_message(now_ms)?;
        let Outgoing { epoch, number, .. } = outgoing;
        let sealed = message::seal(sid, &outgoing, padded, rng).map_err(EncryptError::from);
        Some(sealed.map(|(envelope, expected_receipt)| Sealed {
            envelope,
            expected_receipt,
            sid,
            epoch,
            number,
            without_one_time: false,
        }))
    }

    /// Starts a session with a bundle fetched for it.
    fn start(
        &mut self,
        me: Me<'_>,
        bundle: Option<&Bundle<'_>>,
        keys: &mut RatchetKeys,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Started, EncryptError> {
        let chain_full = self.newest_started().is_some_and(Session::is_complete);
        self.pace.check(now_ms, chain_full).map_err(EncryptError::WaitUntil)?;
        let one_time = self.pace.uses_opk();
        let bundle = bundle.ok_or(EncryptError::NeedBundle { one_time })?;
        let bundle = Bundle { one_time: bundle.one_time.filter(|_| one_time), ..*bundle };
        let shown = fingerprint(bundle.identity);
        if self.pin().is_some_and(|pin| pin != shown) {
            return Err(EncryptError::KeyChanged(shown));
        }
        let verified = bundle.verify(&self.name, &shown, self.last_made_ms, now_ms);
        let profile = verified.map_err(EncryptError::BadBundle)?;

        let responder = Party { name: &self.name, fingerprint: &shown };
        let session = make_session(me, responder, &bundle, profile, keys.take(rng), now_ms, rng)?;
        self.pin.meet(bundle.identity);
        if bundle.made_ms <= now_ms.saturating_add(BUNDLE_AHEAD_MS_MAX) {
            self.last_made_ms = bundle.made_ms;
        }
        self.pace.init_made(now_ms, chain_full);
        self.add_session(session, now_ms);
        Ok(Started { without_one_time: one_time && bundle.one_time.is_none() })
    }
}

/// What came of starting a session, beside the session.
struct Started {
    without_one_time: bool,
}

/// Makes INIT and our end of the session, with a bundle that was verified.
fn make_session(
    me: Me<'_>,
    responder: Party<'_>,
    bundle: &Bundle<'_>,
    peer_profile: Profile,
    ratchet: StoredKey,
    now_ms: u64,
    rng: &mut impl CryptoRng,
) -> Result<Session, BadModulus> {
    let initiator = Party { name: me.name, fingerprint: me.identity.fingerprint() };
    let label = |prekey| wrap_label(initiator.fingerprint, responder.fingerprint, prekey);

    let s1 = Secret::random(rng);
    let c1 = wrap(bundle.spk, &label(bundle.spk), &s1, rng)?;
    let one_time = match &bundle.one_time {
        None => None,
        Some(opk) => {
            let s2 = Secret::random(rng);
            let c2 = wrap(opk.modulus, &label(opk.modulus), &s2, rng)?;
            Some((opk.modulus, s2, c2))
        }
    };

    let transcript = Transcript {
        initiator,
        responder,
        spk: bundle.spk,
        c1: &c1,
        one_time: one_time.as_ref().map(|(modulus, _, c2)| (*modulus, c2)),
        ratchet: ratchet.modulus(),
        profile: me.profile,
    };
    let th = transcript.hash();
    let signature = me.identity.sign(&signed_bytes(&th), rng);
    let init = Init {
        identity: me.identity.modulus(),
        ratchet: ratchet.modulus(),
        profile: me.profile,
        spk: key_id(bundle.spk),
        one_time: one_time.as_ref().map(|(modulus, _, c2)| (key_id(modulus), c2)),
        c1: &c1,
        signature: &signature,
    };
    let init = init.emit();
    let (root, chain_key) = root_and_chain(&th, &s1, one_time.as_ref().map(|(_, s2, _)| s2));
    let start = Initiated {
        secrets: EpochSecrets { root, chain_key },
        spk: *bundle.spk,
        ratchet,
        init,
        own_profile: me.profile,
        peer_profile,
    };
    Ok(Session::initiate(th, start, now_ms))
}
