//! What a message is opened with: the chain of a session that stands, or what its INIT or STEP gives.
//!
//! This file owns the order in which a preamble is checked, before and after the private operations that it
//! takes. It changes nothing that is kept: what stands with a valid tag is given back. Source:
//! spec/crypto.md, "Receiving an INIT" and "Receiving a STEP".

use rsa::rand_core::CryptoRng;

use super::Peer;
use super::receive::Inbox;
use crate::e2e::bundle::Profile;
use crate::e2e::chain::{Advanced, Chain};
use crate::e2e::envelope::Envelope;
use crate::e2e::init::{Init, Party, Transcript, TranscriptHash};
use crate::e2e::init::{root_and_chain, session_id, signed_bytes, wrap_label};
use crate::e2e::limits::INITS_REMEMBERED_MAX;
use crate::e2e::oaep::{self, Label, Wrapped};
use crate::e2e::preamble_memory::EpochSecrets;
use crate::e2e::prekeys::Prekeys;
use crate::e2e::reject::RejectReason;
use crate::e2e::secret::Secret;
use crate::e2e::session::{Accepted, Session};
use crate::e2e::step::{self, Step, StepHash, step_hash};
use crate::ids::{Fingerprint, KeyId, Modulus, Name};
use crate::login::{check_modulus, fingerprint, public_key};

/// What a message is opened with, on copies: nothing is known to be authentic yet.
pub(super) struct Candidate {
    pub(super) th: TranscriptHash,
    /// The peer's chain moved past the message, and the message's key; `None` if the chain was closed before, or the
    /// number is not ahead in it.
    pub(super) advanced: Option<(Advanced, Secret)>,
    /// What stands with the first valid tag.
    pub(super) opens: Opens,
}

pub(super) enum Opens {
    /// Nothing new: session and epoch stand.
    Nothing,
    Session(Box<NewSession>),
    Epoch(Box<NewEpoch>),
}

/// A session that the envelope's INIT starts.
pub(super) struct NewSession {
    pub(super) session: Session,
    pub(super) identity: Modulus,
    pub(super) opk: Option<KeyId>,
}

/// An epoch that the envelope's STEP opens.
pub(super) struct NewEpoch {
    pub(super) secrets: EpochSecrets,
    pub(super) ratchet: Modulus,
    pub(super) hash: StepHash,
}

impl Peer {
    /// An envelope of an unknown session: evaluates its INIT, without changing this peer.
    pub(super) fn evaluate_init(
        &self,
        inbox: &mut Inbox<'_>,
        envelope: &Envelope<'_>,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Candidate, RejectReason> {
        if envelope.preamble.is_empty() || envelope.place.epoch != 0 {
            return Err(RejectReason::UnknownSession);
        }
        let init = Init::parse(envelope.preamble).ok_or(RejectReason::Malformed)?;
        let shown = fingerprint(init.identity);
        if self.pin().is_some_and(|pin| pin != shown) {
            return Err(RejectReason::KeyChanged(shown));
        }
        let used_with_spk = self.inits.iter().filter(|(spk, _)| *spk == init.spk);
        if used_with_spk.count() >= INITS_REMEMBERED_MAX {
            return Err(RejectReason::InitsFull);
        }
        let received = ReceivedInit::new(&init, self, shown, inbox)?;
        check_profile(received.own_profile, envelope)?;
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
        let start = Accepted {
            secrets: self.start_secrets(inbox, &received, now_ms, rng)?,
            spk: init.spk,
            ratchet: *init.ratchet,
            own_profile: received.own_profile,
            peer_profile: init.profile,
        };
        let session = Session::accept(th, start, now_ms);
        let advanced = session.chain(0).and_then(|chain| chain.advanced_past(envelope.place.number));
        let opk = init.one_time.map(|(opk, _)| opk);
        let opens = Opens::Session(Box::new(NewSession { session, identity: *init.identity, opk }));
        Ok(Candidate { th, advanced, opens })
    }

    /// The secrets of an authentic INIT: decrypted once, then remembered, so that envelope after
    /// envelope with one INIT asks for no further private operation.
    fn start_secrets(
        &self,
        inbox: &mut Inbox<'_>,
        received: &ReceivedInit<'_>,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<EpochSecrets, RejectReason> {
        if let Some(secrets) = inbox.preambles.get(&received.th) {
            return Ok(secrets.clone());
        }
        if !inbox.preambles.admit(&self.name, self.pin().is_some(), now_ms) {
            return Err(RejectReason::InitBudget);
        }
        let secrets = received.decrypt(inbox.prekeys, rng);
        inbox.preambles.remember(&self.name, &received.th, secrets.clone());
        Ok(secrets)
    }
}

/// An envelope of a session that stands: which chain its key comes from, without changing anything.
/// [`RejectReason::BadWrappedKey`] ends the session.
pub(super) fn follow(
    peer: &Name,
    session: &Session,
    inbox: &mut Inbox<'_>,
    envelope: &Envelope<'_>,
    rng: &mut impl CryptoRng,
) -> Result<Candidate, RejectReason> {
    let epoch = envelope.place.epoch;
    check_profile(session.own_profile, envelope)?;
    if !session.is_peers(epoch) || epoch > session.epoch.saturating_add(1) {
        return Err(RejectReason::WrongEpoch);
    }
    if epoch <= session.epoch {
        let advanced = session.chain(epoch).and_then(|chain| chain.advanced_past(envelope.place.number));
        return Ok(Candidate { th: session.th, advanced, opens: Opens::Nothing });
    }
    let step = Step::parse(envelope.preamble).ok_or(RejectReason::WrongEpoch)?;
    let recipient = session.ratchet(session.epoch).ok_or(RejectReason::BadStep)?;
    let hash = step_hash(&session.th, epoch, recipient.modulus(), step.c, step.ratchet);
    if !step.is_authentic(&session.root, &hash) || check_modulus(step.ratchet).is_err() {
        return Err(RejectReason::BadStep);
    }
    let secrets = match inbox.preambles.get(&hash) {
        Some(secrets) => secrets.clone(),
        None => {
            let key = recipient.load().map_err(|_| RejectReason::BadStep)?;
            let label = step::wrap_label(&session.th, epoch, recipient.modulus());
            inbox.prekeys.count_private_operation();
            let s = oaep::unwrap(&key, &label, step.c, rng).map_err(|_| RejectReason::BadWrappedKey)?;
            let (root, chain_key) = step::root_and_chain(&session.root, &s, &hash);
            let secrets = EpochSecrets { root, chain_key };
            inbox.preambles.remember(peer, &hash, secrets.clone());
            secrets
        }
    };
    let advanced = Chain::new(secrets.chain_key.clone()).advanced_past(envelope.place.number);
    let opens = Opens::Epoch(Box::new(NewEpoch { secrets, ratchet: *step.ratchet, hash }));
    Ok(Candidate { th: session.th, advanced, opens })
}

/// A message's own key is wrapped if and only if we want it so in this session.
fn check_profile(own: Profile, envelope: &Envelope<'_>) -> Result<(), RejectReason> {
    if own.wraps() == envelope.ek.is_some() { Ok(()) } else { Err(RejectReason::Malformed) }
}

/// An INIT with the transcript that it makes here.
struct ReceivedInit<'a> {
    spk: KeyId,
    /// How we want to be sent to in sessions of this signed prekey.
    own_profile: Profile,
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
            own_profile: inbox.prekeys.spk_profile(&init.spk).ok_or(RejectReason::UnknownPrekey)?,
            c1: (label(spk), init.c1),
            one_time: one_time.map(|(opk, modulus, c2)| (opk, label(modulus), c2)),
        })
    }

    /// Both private operations, always. A failure gives a random secret: the tag will tell.
    fn decrypt(&self, prekeys: &mut Prekeys, rng: &mut impl CryptoRng) -> EpochSecrets {
        let s2 = self.one_time.as_ref().map(|(opk, label, c2)| {
            let s2 = prekeys.unwrap(&self.spk, Some(opk), label, c2, rng);
            s2.unwrap_or_else(|_| Secret::random(rng))
        });
        let (label, c1) = &self.c1;
        let s1 = prekeys.unwrap(&self.spk, None, label, c1, rng);
        let s1 = s1.unwrap_or_else(|_| Secret::random(rng));
        let (root, chain_key) = root_and_chain(&self.th, &s1, s2.as_ref());
        EpochSecrets { root, chain_key }
    }
}
