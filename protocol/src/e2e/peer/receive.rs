//! Receiving from a peer, in the order that spec/crypto.md, "Receiving", numbers.
//!
//! This file owns that order: what is checked before what, and from where on a failure changes
//! state. It must not know how the answer travels, nor write anything.

use rsa::rand_core::CryptoRng;

use super::Peer;
use super::preamble::{Candidate, NewEpoch, NewSession, Opens, follow};
use crate::e2e::chain::Advanced;
use crate::e2e::envelope::{Envelope, Place};
use crate::e2e::identity::Me;
use crate::e2e::init::TranscriptHash;
use crate::e2e::limits::INIT_EARNED_MESSAGES;
use crate::e2e::message::{self, Context, MessageKeys};
use crate::e2e::oaep::{self, Label, Wrapped};
use crate::e2e::plaintext::Plaintext;
use crate::e2e::preamble_memory::PreambleMemory;
use crate::e2e::prekeys::{Prekeys, UnwrapError};
use crate::e2e::records::{Record, Records};
use crate::e2e::reject::{Reject, RejectReason};
use crate::e2e::secret::Secret;
use crate::ids::{Receipt, SessionId};

/// What receiving needs beside the peer's state.
pub struct Inbox<'a> {
    /// Who receives.
    pub me: Me<'a>,
    /// The own prekeys; changed by what is received, and committed with the peer's state.
    pub prekeys: &'a mut Prekeys,
    /// What was opened from this peer before.
    pub records: &'a Records,
    /// This process's memory of received INITs and STEPs.
    pub preambles: &'a mut PreambleMemory,
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
    /// How many messages before it are missing since now. They may still arrive.
    pub missing: usize,
}

impl Peer {
    /// Opens an envelope that the relay says this peer sent.
    ///
    /// If it gives a message, or a [`Reject`] with `commit`, then the states of this peer and of the
    /// prekeys are committed before the envelope is acknowledged. At most three private operations.
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
        if let Some(shown) = self.changed() {
            return Err(RejectReason::KeyChanged(shown).into());
        }
        // (3) The message key, on copies.
        self.erase_old(now_ms);
        let candidate = match self.session(place.sid) {
            Some(session) => follow(&self.name, session, inbox, &envelope, rng),
            None => self.evaluate_init(inbox, &envelope, now_ms, rng),
        };
        let Candidate { th, advanced, opens } =
            candidate.map_err(|reason| self.end_of_candidate(reason, place))?;
        let (advanced, message_key) = self.message_key(advanced, place)?;
        // (4) The tag.
        let context = Context::new(&th, place, envelope.iv);
        let keys = MessageKeys::derive(&message_key, &context, envelope.ek.is_some());
        if !keys.verify(&th, &envelope) {
            return Err(RejectReason::BadTag.into());
        }
        // (5) From here on the number is used up, whatever comes.
        let closed = match opens {
            Opens::Nothing => 0,
            Opens::Session(new) => self.begin_session(*new, inbox, now_ms),
            Opens::Epoch(new) => self.begin_epoch(*new, inbox, &envelope, now_ms),
        };
        let missing = closed + self.use_up(place, advanced, inbox.preambles, now_ms);
        self.erase_idle(now_ms);
        let plaintext = self.finish(inbox, &envelope, (&th, &context), (&message_key, &keys), rng);
        self.retire_ratchets();
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

    /// What a refused preamble leaves behind: only a STEP that its maker could not have made wrong by
    /// accident ends its session.
    fn end_of_candidate(&mut self, reason: RejectReason, place: Place) -> Reject {
        let commit = reason == RejectReason::BadWrappedKey;
        if commit {
            self.erase_session(place.sid);
        }
        Reject { reason, commit }
    }

    /// The key of the message at `place`: kept when it was skipped, or ahead in the chain.
    fn message_key(
        &self,
        advanced: Option<(Advanced, Secret)>,
        place: Place,
    ) -> Result<(Option<Advanced>, Secret), RejectReason> {
        if let Some((advanced, key)) = advanced {
            return Ok((Some(advanced), key));
        }
        self.skipped.get(place).map(|key| (None, key.clone())).ok_or(RejectReason::NumberUsed)
    }

    /// Unwraps, decrypts and parses an envelope whose tag was right.
    fn finish(
        &mut self,
        inbox: &mut Inbox<'_>,
        envelope: &Envelope<'_>,
        (th, context): (&TranscriptHash, &Context),
        keys: (&Secret, &MessageKeys),
        rng: &mut impl CryptoRng,
    ) -> Result<Plaintext, RejectReason> {
        let wrapped_key = match envelope.ek {
            None => None,
            Some(ek) => {
                let label = message::wrap_label(th, envelope.place);
                Some(self.unwrap(inbox, envelope.place, &label, ek, rng)?)
            }
        };
        let bytes = message::open(envelope, context, keys, wrapped_key.as_ref())
            .map_err(|_| RejectReason::BadPlaintext)?;
        Plaintext::parse(bytes).ok_or(RejectReason::BadPlaintext)
    }

    /// Unwraps a message's own key with what its epoch was wrapped to: the signed prekey, or the ratchet key
    /// of our epoch before.
    fn unwrap(
        &mut self,
        inbox: &mut Inbox<'_>,
        place: Place,
        label: &Label,
        ek: &Wrapped,
        rng: &mut impl CryptoRng,
    ) -> Result<Secret, RejectReason> {
        let session = self.session(place.sid).ok_or(RejectReason::KeyErased)?;
        let unwrapped = match place.epoch.checked_sub(1) {
            None => inbox.prekeys.unwrap(&session.spk, None, label, ek, rng),
            Some(own_epoch) => match session.ratchet(own_epoch).map(|key| key.load()) {
                Some(Ok(key)) => {
                    inbox.prekeys.count_private_operation();
                    oaep::unwrap(&key, label, ek, rng).map_err(|_| UnwrapError::Failed)
                }
                None | Some(Err(_)) => Err(UnwrapError::Gone),
            },
        };
        unwrapped.map_err(|error| match error {
            UnwrapError::Gone => RejectReason::KeyErased,
            UnwrapError::Failed => {
                self.erase_session(place.sid);
                RejectReason::BadWrappedKey
            }
        })
    }

    /// The first valid tag of a session: it stands, its initiator is pinned, its one-time prekey is
    /// erased, and its INIT can't be used again. No chain was closed.
    fn begin_session(&mut self, new: NewSession, inbox: &mut Inbox<'_>, now_ms: u64) -> usize {
        let NewSession { session, identity, opk } = new;
        self.pin.meet(&identity);
        if let Some(opk) = &opk {
            inbox.prekeys.erase_opk(&session.spk, opk);
        }
        self.inits.retain(|(spk, _)| inbox.prekeys.spk_modulus(spk).is_some());
        self.inits.push((session.spk, session.sid));
        inbox.preambles.forget(&session.th);
        self.add_session(session, now_ms);
        0
    }

    /// The first valid tag of an epoch: the chain before is closed at the length that its sender says.
    /// Gives how many of its numbers are missing since now.
    fn begin_epoch(
        &mut self,
        new: NewEpoch,
        inbox: &mut Inbox<'_>,
        envelope: &Envelope<'_>,
        now_ms: u64,
    ) -> usize {
        inbox.preambles.forget(&new.hash);
        let sid = envelope.place.sid;
        // Whoever answers on our session has it.
        self.pace.receipt_verified();
        let former =
            self.session_mut(sid).and_then(|session| session.begin_epoch(new.secrets, new.ratchet, now_ms));
        let Some((epoch, chain)) = former else { return 0 };
        let left = chain.closed_at(envelope.prior);
        let missing = left.len();
        for (number, key) in left {
            self.skipped.insert(Place { sid, epoch, number }, key, now_ms);
        }
        missing
    }

    /// Uses up the number of an authentic message. Gives how many before it are missing since now.
    fn use_up(
        &mut self,
        place: Place,
        advanced: Option<Advanced>,
        preambles: &mut PreambleMemory,
        now_ms: u64,
    ) -> usize {
        self.heard = self.heard.saturating_add(1);
        let heard = self.heard;
        if let Some(session) = self.session_mut(place.sid) {
            session.hear(heard, now_ms);
        }
        let missing = match advanced {
            None => {
                self.skipped.erase(place);
                0
            }
            Some(Advanced { chain, skipped }) => {
                let missing = skipped.len();
                for (number, key) in skipped {
                    self.skipped.insert(Place { number, ..place }, key, now_ms);
                }
                if let Some(session) = self.session_mut(place.sid) {
                    session.receive(chain);
                }
                missing
            }
        };
        if place.epoch == 0 && self.opened_of_first_chain(place.sid) == Some(INIT_EARNED_MESSAGES) {
            preambles.init_earned(&self.name);
        }
        missing
    }

    /// How many messages of the chain that an INIT of the peer opened were authenticated, while it is the newest.
    fn opened_of_first_chain(&self, sid: SessionId) -> Option<usize> {
        let passed = usize::try_from(self.session(sid)?.chain(0)?.next_number()).ok()?;
        let enough = passed >= INIT_EARNED_MESSAGES;
        enough.then(|| passed.saturating_sub(self.skipped.count(sid, 0)))
    }
}
