//! Receiving from a peer, in the order that spec/crypto.md, "Receiving", numbers.
//!
//! This file owns that order: what is checked before what, and from where on a failure changes
//! state. It must not know how the answer travels, nor write anything.

use core::ops::Range;

use rsa::rand_core::CryptoRng;

use super::Peer;
use crate::e2e::chain::{Advanced, Chain};
use crate::e2e::envelope::{Envelope, Place};
use crate::e2e::identity::Me;
use crate::e2e::init::{Init, Party, Transcript, TranscriptHash};
use crate::e2e::init::{root_and_chain, session_id, signed_bytes, wrap_label};
use crate::e2e::init_memory::{InitMemory, StartSecrets};
use crate::e2e::limits::INITS_REMEMBERED_MAX;
use crate::e2e::message::{self, AuthKeys, Context};
use crate::e2e::oaep::{Label, Wrapped};
use crate::e2e::plaintext::Plaintext;
use crate::e2e::prekeys::{Prekeys, UnwrapError};
use crate::e2e::records::{Record, Records};
use crate::e2e::reject::{Reject, RejectReason};
use crate::e2e::secret::Secret;
use crate::e2e::session::{Half, Responder, Session};
use crate::ids::{Fingerprint, KeyId, Modulus, Receipt};
use crate::login::{check_modulus, fingerprint, public_key};

/// What receiving needs beside the peer's state.
pub struct Inbox<'a> {
    /// Who receives.
    pub me: Me<'a>,
    /// The own prekeys; changed by what is received, and committed with the peer's state.
    pub prekeys: &'a mut Prekeys,
    /// What was opened from this peer before.
    pub records: &'a Records,
    /// This process's memory of received INITs.
    pub inits: &'a mut InitMemory,
}

/// An envelope that was opened.
pub enum Opened {
    /// It was opened before: nothing changed. Acknowledge with the receipt of then.
    Again(Receipt),
    /// It is new: commit, then acknowledge with the record's receipt.
    New(OpenedMessage),
}

/// What came of a new envelope. One commit takes the peer's state, the prekeys, and the record.
pub struct OpenedMessage {
    /// The message.
    pub plaintext: Plaintext,
    /// Its id is known: the same message came in another envelope, and is not shown again.
    pub known: bool,
    /// To be added to the peer's [`Records`]. It holds the receipt.
    pub record: Record,
    /// The numbers before it that are missing since now. They may still arrive.
    pub missing: Range<u32>,
}

/// A session that the envelope belongs to, as far as receiving needs it.
struct Candidate {
    th: TranscriptHash,
    chain: Chain,
    spk: KeyId,
    /// Set if the envelope's INIT starts it.
    start: Option<Start>,
}

/// A session that stands with the first valid tag.
struct Start {
    session: Session,
    pin: Fingerprint,
    opk: Option<KeyId>,
}

impl Peer {
    /// Opens an envelope that the relay says this peer sent.
    ///
    /// If it gives a message, or a [`Reject`] with `commit`, then the states of this peer and of the
    /// prekeys are committed before the envelope is acknowledged. At most four private operations.
    ///
    /// # Errors
    /// [`Reject`]: acknowledge with 32 zero bytes, and report the reason locally.
    pub fn decrypt(
        &mut self,
        inbox: &mut Inbox<'_>,
        envelope: &[u8],
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Opened, Reject> {
        let failures = inbox.prekeys.oaep_failures();
        self.open(inbox, envelope, now_ms, rng).map_err(|reject| Reject {
            commit: reject.commit || inbox.prekeys.oaep_failures() != failures,
            ..reject
        })
    }

    fn open(
        &mut self,
        inbox: &mut Inbox<'_>,
        envelope: &[u8],
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Opened, Reject> {
        // (1) Bounds, and who sent it.
        let envelope = Envelope::parse(envelope).map_err(|_| RejectReason::Malformed)?;
        let place = envelope.place;
        if self.name == *inbox.me.name {
            return Err(RejectReason::OwnName.into());
        }
        // (2) Done before, with this very tag.
        if let Some(receipt) = inbox.records.receipt_of(place, envelope.tag) {
            return Ok(Opened::Again(receipt));
        }
        // (3) The message key, on copies.
        self.erase_old(now_ms);
        let candidate = match self.session(place.sid) {
            Some(session) => Candidate::of(session)?,
            None => self.evaluate_init(inbox, &envelope, now_ms, rng)?,
        };
        let (advanced, message_key) = self.message_key(&candidate.chain, place)?;
        // (4) The tag.
        let context = Context::new(&candidate.th, place, envelope.iv);
        let keys = AuthKeys::derive(&message_key, &context);
        if !keys.verify(&candidate.th, &envelope) {
            return Err(RejectReason::BadTag.into());
        }
        // (5) From here on the number is used up, whatever comes.
        let Candidate { th, spk, start, .. } = candidate;
        if let Some(start) = start {
            self.begin(start, inbox, spk, now_ms);
        }
        let missing = self.use_up(place, advanced, inbox.inits, now_ms);
        let plaintext = self.finish(inbox, &envelope, (&th, &context), spk, &message_key, rng);
        let plaintext = plaintext.map_err(|reason| Reject { reason, commit: true })?;
        // (6) What the commit takes.
        let record = Record {
            sid: place.sid,
            epoch: place.epoch,
            number: place.number,
            tag: *envelope.tag,
            receipt: keys.receipt(envelope.tag),
            message_id: plaintext.id,
            opened_ms: now_ms,
        };
        let known = inbox.records.knows(&plaintext.id);
        Ok(Opened::New(OpenedMessage { plaintext, known, record, missing }))
    }

    /// The key of the message at `place`: kept when it was skipped, or ahead in the chain.
    fn message_key(&self, chain: &Chain, place: Place) -> Result<(Option<Advanced>, Secret), RejectReason> {
        if let Some(advanced) = chain.advanced_past(place.number) {
            let message_key = advanced.message_key.clone();
            return Ok((Some(advanced), message_key));
        }
        self.skipped.get(place).map(|key| (None, key.clone())).ok_or(RejectReason::NumberUsed)
    }

    /// Unwraps, decrypts and parses an envelope whose tag was right.
    fn finish(
        &mut self,
        inbox: &mut Inbox<'_>,
        envelope: &Envelope<'_>,
        (th, context): (&TranscriptHash, &Context),
        spk: KeyId,
        message_key: &Secret,
        rng: &mut impl CryptoRng,
    ) -> Result<Plaintext, RejectReason> {
        let label = message::wrap_label(th, envelope.place);
        let wrapped_key =
            inbox.prekeys.unwrap(&spk, None, &label, envelope.ek, rng).map_err(|error| match error {
                UnwrapError::Gone => RejectReason::PrekeyErased,
                UnwrapError::Failed => {
                    self.erase_session(envelope.place.sid);
                    RejectReason::BadWrappedKey
                }
            })?;
        let bytes = message::open(envelope, context, message_key, &wrapped_key)
            .map_err(|_| RejectReason::BadPlaintext)?;
        Plaintext::parse(&bytes).ok_or(RejectReason::BadPlaintext)
    }

    /// The first valid tag of a session: it stands, its initiator is pinned, its one-time prekey is
    /// erased, and its INIT can't be used again.
    fn begin(&mut self, start: Start, inbox: &mut Inbox<'_>, spk: KeyId, now_ms: u64) {
        self.pin = Some(start.pin);
        if let Some(opk) = &start.opk {
            inbox.prekeys.erase_opk(&spk, opk);
        }
        self.inits.retain(|(spk, _)| inbox.prekeys.spk_modulus(spk).is_some());
        self.inits.push((spk, start.session.sid));
        inbox.inits.forget(&start.session.th);
        self.add_session(start.session, now_ms);
    }

    /// Uses up the number of an authentic message. Gives the numbers that are missing before it.
    fn use_up(
        &mut self,
        place: Place,
        advanced: Option<Advanced>,
        inits: &mut InitMemory,
        now_ms: u64,
    ) -> Range<u32> {
        let skipped = advanced.as_ref().and_then(|advanced| advanced.skipped.first());
        let missing = skipped.map_or(place.number, |(first, _)| *first)..place.number;
        if let Some(session) = self.session_mut(place.sid) {
            session.used_ms = now_ms;
        }
        let Some(Advanced { chain, skipped, .. }) = advanced else {
            self.skipped.erase(place);
            return missing;
        };
        for (number, key) in skipped {
            self.skipped.insert(Place { number, ..place }, key, now_ms);
        }
        if chain.is_full() {
            inits.chain_completed(&self.name);
        }
        if let Some(Half::Responder(half)) = self.session_mut(place.sid).map(|s| &mut s.half) {
            half.chain = chain;
        }
        missing
    }

    /// An envelope of an unknown session: evaluates its INIT, without changing this peer.
    fn evaluate_init(
        &self,
        inbox: &mut Inbox<'_>,
        envelope: &Envelope<'_>,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Candidate, RejectReason> {
        if envelope.preamble.is_empty() {
            return Err(RejectReason::UnknownSession);
        }
        let init = Init::parse(envelope.preamble).ok_or(RejectReason::Malformed)?;
        let shown = fingerprint(init.identity);
        if self.pin.is_some_and(|pin| pin != shown) {
            return Err(RejectReason::KeyChanged(shown));
        }
        let used_with_spk = self.inits.iter().filter(|(spk, _)| *spk == init.spk);
        if used_with_spk.count() >= INITS_REMEMBERED_MAX {
            return Err(RejectReason::InitsFull);
        }
        let received = ReceivedInit::new(&init, self, shown, inbox)?;
        let th = received.th;
        let sid = session_id(&th);
        if self.inits.iter().any(|(_, used)| *used == sid) {
            return Err(RejectReason::InitUsed);
        }
        let authentic = sid == envelope.place.sid
            && check_modulus(init.ratchet).is_ok()
            && public_key::verifies(init.identity, &signed_bytes(&th), init.signature);
        if !authentic {
            return Err(RejectReason::BadInit);
        }
        let secrets = self.start_secrets(inbox, &received, now_ms, rng)?;
        let chain = Chain::new(secrets.chain_key);
        let half =
            Responder { chain: chain.clone(), spk: init.spk, ratchet: *init.ratchet, profile: init.profile };
        let session = Session::new(th, secrets.root, Half::Responder(half), now_ms);
        let opk = init.one_time.map(|(opk, _)| opk);
        Ok(Candidate { th, chain, spk: init.spk, start: Some(Start { session, pin: shown, opk }) })
    }

    /// The secrets of an authentic INIT: decrypted once, then remembered, so that envelope after
    /// envelope with one INIT asks for no further private operation.
    fn start_secrets(
        &self,
        inbox: &mut Inbox<'_>,
        received: &ReceivedInit<'_>,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<StartSecrets, RejectReason> {
        if let Some(secrets) = inbox.inits.get(&received.th) {
            return Ok(secrets.clone());
        }
        if !inbox.inits.admit(&self.name, self.pin.is_some(), now_ms) {
            return Err(RejectReason::InitBudget);
        }
        let secrets = received.decrypt(inbox.prekeys, rng);
        inbox.inits.remember(&self.name, &received.th, secrets.clone());
        Ok(secrets)
    }
}

/// An INIT with the transcript that it makes here.
struct ReceivedInit<'a> {
    spk: KeyId,
    c1: (Label, &'a Wrapped),
    one_time: Option<(KeyId, Label, &'a Wrapped)>,
    th: TranscriptHash,
}

impl<'a> ReceivedInit<'a> {
    fn new(
        init: &Init<'a>,
        peer: &Peer,
        shown: Fingerprint,
        inbox: &Inbox<'_>,
    ) -> Result<Self, RejectReason> {
        let initiator = Party { name: &peer.name, fingerprint: &shown };
        let responder = Party { name: inbox.me.name, fingerprint: inbox.me.identity.fingerprint() };
        let label = |prekey: &Modulus| wrap_label(&shown, responder.fingerprint, prekey);
        let spk = inbox.prekeys.spk_modulus(&init.spk).ok_or(RejectReason::UnknownPrekey)?;
        let one_time = match init.one_time {
            None => None,
            Some((opk, c2)) => {
                let modulus = inbox.prekeys.opk_modulus(&init.spk, &opk);
                Some((opk, modulus.ok_or(RejectReason::UnknownPrekey)?, c2))
            }
        };
        let transcript = Transcript {
            initiator,
            responder,
            spk,
            c1: init.c1,
            one_time: one_time.map(|(_, modulus, c2)| (modulus, c2)),
            ratchet: init.ratchet,
            profile: init.profile,
        };
        Ok(Self {
            th: transcript.hash(),
            spk: init.spk,
            c1: (label(spk), init.c1),
            one_time: one_time.map(|(opk, modulus, c2)| (opk, label(modulus), c2)),
        })
    }

    /// Both private operations, always. A failure gives a random secret: the tag will tell.
    fn decrypt(&self, prekeys: &mut Prekeys, rng: &mut impl CryptoRng) -> StartSecrets {
        let s2 = self.one_time.as_ref().map(|(opk, label, c2)| {
            let s2 = prekeys.unwrap(&self.spk, Some(opk), label, c2, rng);
            s2.unwrap_or_else(|_| Secret::random(rng))
        });
        let (label, c1) = &self.c1;
        let s1 = prekeys.unwrap(&self.spk, None, label, c1, rng);
        let s1 = s1.unwrap_or_else(|_| Secret::random(rng));
        let (root, chain_key) = root_and_chain(&self.th, &s1, s2.as_ref());
        StartSecrets { root, chain_key }
    }
}

impl Candidate {
    fn of(session: &Session) -> Result<Self, RejectReason> {
        match &session.half {
            Half::Initiator(_) => Err(RejectReason::WrongDirection),
            Half::Responder(half) => {
                Ok(Self { th: session.th, chain: half.chain.clone(), spk: half.spk, start: None })
            }
        }
    }
}
