//! A session: a row of epochs, each with a chain that one end sends, and how far each end has come.
//!
//! This file owns the state of one session, whose turn it is, when a step is due, and the layout at
//! rest. It must not know which session to use (`peer`) nor how a message is sealed (`message`).
//! Source: spec/crypto.md, "Stepping" and "Sessions".

use rsa::rand_core::CryptoRng;

use super::bundle::Profile;
use super::chain::Chain;
use super::codec::{Corrupt, Reader, Writer};
use super::init::{INIT_WITH_OPK_BYTES, TranscriptHash, session_id};
use super::key_pair::StoredKey;
use super::limits::{
    CHAIN_MESSAGES_MAX, RATCHETS_HELD_MAX, STEP_DUE_MESSAGES, STEP_DUE_MS, STEP_FORCED_MESSAGES,
    STEP_FORCED_MS, UNANSWERED_MS_MAX,
};
use super::oaep::wrap;
use super::preamble_memory::EpochSecrets;
use super::secret::Secret;
use super::step::{Step, auth, root_and_chain, step_hash, wrap_label};
use crate::ids::{KeyId, Modulus, SessionId};
use crate::login::BadModulus;

/// One session with one peer.
pub(crate) struct Session {
    pub(crate) sid: SessionId,
    pub(crate) th: TranscriptHash,
    pub(crate) role: Role,
    /// How we want to be sent to.
    pub(crate) own_profile: Profile,
    /// How the peer wants to be sent to.
    peer_profile: Profile,
    /// The highest epoch that is known, and its root.
    pub(crate) epoch: u32,
    pub(crate) root: Secret,
    /// The peer could not open a message of ours: nothing is sent on it any more.
    pub(crate) rejected: bool,
    /// When a message was last sent or authenticated on it.
    pub(crate) used_ms: u64,
    /// Where it stands among the peer's sessions by when a message was last authenticated; 0: never.
    pub(crate) heard: u64,
    /// Messages of both ends since the last step, and when that was.
    messages: u32,
    stepped_ms: u64,
    sending: Option<Sending>,
    receiving: Option<Receiving>,
    /// The responder's signed prekey, which the messages of epoch 0 are wrapped to.
    pub(crate) spk: KeyId,
    /// Our ratchet keys that may still be needed, oldest first.
    ratchets: Vec<Ratchet>,
    /// What the peer's newest epoch announced, and our next step is wrapped to.
    peer_ratchet: Option<Modulus>,
}

/// Which end of the session is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// We started it, and own the even epochs.
    Initiator,
    /// The peer started it; we own the odd epochs.
    Responder,
}

/// Our newest chain.
struct Sending {
    epoch: u32,
    chain: Chain,
    /// What the epoch was wrapped to, and strict messages' keys are.
    recipient: Modulus,
    /// Stands before every message until something proves that the peer knows the epoch; then empty.
    preamble: Vec<u8>,
    /// The length of our chain before.
    prior: u32,
}

/// The peer's newest chain, as far as it was received.
struct Receiving {
    epoch: u32,
    chain: Chain,
}

/// A key pair that one of our epochs announced.
struct Ratchet {
    epoch: u32,
    key: StoredKey,
}

/// Whether our next message should step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// It is not our turn, or too early.
    No,
    /// Only with the next message, and if a key is ready.
    IfReady,
    /// With the next message: we have no chain yet.
    WithMessage,
    /// In any case, with an empty message if there is no other.
    Now,
}

/// What the next message of ours is made with.
pub(crate) struct Outgoing<'a> {
    pub(crate) th: &'a TranscriptHash,
    pub(crate) epoch: u32,
    pub(crate) number: u32,
    pub(crate) prior: u32,
    pub(crate) message_key: Secret,
    /// Whom the message's own key is wrapped to; `None` in the profile light.
    pub(crate) recipient: Option<&'a Modulus>,
    pub(crate) preamble: &'a [u8],
}

/// What an INIT of ours started.
pub(crate) struct Initiated {
    pub(crate) secrets: EpochSecrets,
    /// N(SPK) of the responder.
    pub(crate) spk: Modulus,
    pub(crate) ratchet: StoredKey,
    pub(crate) init: Vec<u8>,
    pub(crate) own_profile: Profile,
    pub(crate) peer_profile: Profile,
}

/// What an INIT of the peer started.
pub(crate) struct Accepted {
    pub(crate) secrets: EpochSecrets,
    pub(crate) spk: KeyId,
    pub(crate) ratchet: Modulus,
    pub(crate) own_profile: Profile,
    pub(crate) peer_profile: Profile,
}

impl Role {
    fn owns(self, epoch: u32) -> bool {
        epoch.is_multiple_of(2) == (self == Self::Initiator)
    }
}

impl Session {
    /// A session that our INIT starts.
    pub(crate) fn initiate(th: TranscriptHash, start: Initiated, now_ms: u64) -> Self {
        let EpochSecrets { root, chain_key } = start.secrets;
        let chain = Chain::new(chain_key);
        let sending = Sending { epoch: 0, chain, recipient: start.spk, preamble: start.init, prior: 0 };
        Self {
            sending: Some(sending),
            ratchets: vec![Ratchet { epoch: 0, key: start.ratchet }],
            ..Self::at_epoch_0(th, Role::Initiator, root, [start.own_profile, start.peer_profile], now_ms)
        }
    }

    /// A session that the peer's INIT starts.
    pub(crate) fn accept(th: TranscriptHash, start: Accepted, now_ms: u64) -> Self {
        let EpochSecrets { root, chain_key } = start.secrets;
        Self {
            receiving: Some(Receiving { epoch: 0, chain: Chain::new(chain_key) }),
            spk: start.spk,
            peer_ratchet: Some(start.ratchet),
            ..Self::at_epoch_0(th, Role::Responder, root, [start.own_profile, start.peer_profile], now_ms)
        }
    }

    /// What both ends begin with; neither chain, nor the keys that go with it.
    fn at_epoch_0(
        th: TranscriptHash,
        role: Role,
        root: Secret,
        [own_profile, peer_profile]: [Profile; 2],
        now_ms: u64,
    ) -> Self {
        Self {
            sid: session_id(&th),
            th,
            role,
            own_profile,
            peer_profile,
            epoch: 0,
            root,
            rejected: false,
            used_ms: now_ms,
            heard: 0,
            messages: 0,
            stepped_ms: now_ms,
            sending: None,
            receiving: None,
            spk: KeyId::ZERO,
            ratchets: Vec::new(),
            peer_ratchet: None,
        }
    }

    /// Whether this epoch is one that the peer sends in.
    pub(crate) fn is_peers(&self, epoch: u32) -> bool {
        !self.role.owns(epoch)
    }

    /// Whether we may step: the newest epoch is the peer's.
    pub(crate) fn is_on_turn(&self) -> bool {
        self.is_peers(self.epoch)
    }

    /// Whether a message can go out on it.
    pub(crate) fn is_live(&self, now_ms: u64) -> bool {
        !self.rejected && self.can_send() && !self.is_unanswered_for_long(now_ms)
    }

    /// Whether nobody answered for so long that the prekey that it was started with may be erased by now.
    fn is_unanswered_for_long(&self, now_ms: u64) -> bool {
        let since_ms = now_ms.saturating_sub(self.stepped_ms);
        self.epoch == 0 && !self.is_on_turn() && since_ms >= UNANSWERED_MS_MAX
    }

    /// Whether it is us who started it, and nothing but a full chain ended it.
    pub(crate) fn is_complete(&self) -> bool {
        !self.rejected && !self.can_send()
    }

    fn can_send(&self) -> bool {
        self.is_on_turn() || self.sending.as_ref().is_some_and(|sending| !sending.chain.is_full())
    }

    /// Whether our next message is to step.
    pub(crate) fn step_due(&self, now_ms: u64) -> Due {
        if !self.is_on_turn() {
            return Due::No;
        }
        let since_ms = now_ms.saturating_sub(self.stepped_ms);
        let is_full = |chain: &Chain| chain.is_full();
        let own_is_full = self.sending.as_ref().is_some_and(|sending| is_full(&sending.chain));
        let peers_is_full = self.receiving.as_ref().is_some_and(|receiving| is_full(&receiving.chain));
        if self.messages >= STEP_FORCED_MESSAGES || since_ms >= STEP_FORCED_MS || own_is_full || peers_is_full
        {
            Due::Now
        } else if self.sending.is_none() {
            Due::WithMessage
        } else if self.messages >= STEP_DUE_MESSAGES || since_ms >= STEP_DUE_MS {
            Due::IfReady
        } else {
            Due::No
        }
    }

    /// Steps to our next epoch, which announces `ratchet`.
    pub(crate) fn step(
        &mut self,
        ratchet: StoredKey,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), BadModulus> {
        debug_assert!(self.is_on_turn());
        // Where it is our turn the peer's epoch announced a key.
        let recipient = self.peer_ratchet.ok_or(BadModulus)?;
        let epoch = self.epoch.saturating_add(1);
        let s = Secret::random(rng);
        let c = wrap(&recipient, &wrap_label(&self.th, epoch, &recipient), &s, rng)?;
        let sh = step_hash(&self.th, epoch, &recipient, &c, ratchet.modulus());
        let auth = auth(&self.root, &sh);
        let (root, chain_key) = root_and_chain(&self.root, &s, &sh);

        let prior = self.sending.as_ref().map_or(0, |sending| sending.chain.next_number());
        let preamble = Step { ratchet: ratchet.modulus(), c: &c, auth: &auth }.emit();
        self.sending = Some(Sending { epoch, chain: Chain::new(chain_key), recipient, preamble, prior });
        self.ratchets.push(Ratchet { epoch, key: ratchet });
        self.enter(epoch, root, now_ms);
        Ok(())
    }

    /// The next message of ours; `None` if the chain is full, or there is none.
    pub(crate) fn next_message(&mut self, now_ms: u64) -> Option<Outgoing<'_>> {
        let sending = self.sending.as_mut()?;
        let (number, message_key) = sending.chain.step()?;
        self.used_ms = now_ms;
        self.messages = self.messages.saturating_add(1);
        Some(Outgoing {
            th: &self.th,
            epoch: sending.epoch,
            number,
            prior: sending.prior,
            message_key,
            recipient: self.peer_profile.wraps().then_some(&sending.recipient),
            preamble: &sending.preamble,
        })
    }

    /// The peer's chain of this epoch, if it is the newest.
    pub(crate) fn chain(&self, epoch: u32) -> Option<&Chain> {
        self.receiving.as_ref().filter(|receiving| receiving.epoch == epoch).map(|receiving| &receiving.chain)
    }

    /// The peer's chain, moved on by a message that was authenticated.
    pub(crate) fn receive(&mut self, chain: Chain) {
        if let Some(receiving) = &mut self.receiving {
            receiving.chain = chain;
        }
    }

    /// A message of the peer was authenticated.
    pub(crate) fn hear(&mut self, heard: u64, now_ms: u64) {
        self.heard = heard;
        self.used_ms = now_ms;
        self.messages = self.messages.saturating_add(1);
    }

    /// The peer stepped: its new chain takes the place of the former one, which is given back with its
    /// epoch. That our own preamble arrived is known with it.
    pub(crate) fn begin_epoch(
        &mut self,
        secrets: EpochSecrets,
        ratchet: Modulus,
        now_ms: u64,
    ) -> Option<(u32, Chain)> {
        let epoch = self.epoch.saturating_add(1);
        debug_assert!(self.is_peers(epoch));
        let EpochSecrets { root, chain_key } = secrets;
        let former = self.receiving.replace(Receiving { epoch, chain: Chain::new(chain_key) });
        self.peer_ratchet = Some(ratchet);
        self.confirm(self.epoch);
        let began_ms = self.stepped_ms;
        self.enter(epoch, root, now_ms);
        if epoch == 1 && now_ms.saturating_sub(began_ms) >= STEP_FORCED_MS {
            // Our chain is wrapped to the signed prekey, which is erased by its own clock: a step is due at once.
            self.stepped_ms = began_ms;
        }
        former.map(|former| (former.epoch, former.chain))
    }

    fn enter(&mut self, epoch: u32, root: Secret, now_ms: u64) {
        self.epoch = epoch;
        self.root = root;
        self.messages = 0;
        self.stepped_ms = now_ms;
    }

    /// The peer knows this epoch of ours: its messages travel bare from now on. True if that is news.
    pub(crate) fn confirm(&mut self, epoch: u32) -> bool {
        match &mut self.sending {
            Some(sending) if sending.epoch == epoch && !sending.preamble.is_empty() => {
                sending.preamble = Vec::new();
                true
            }
            _ => false,
        }
    }

    /// Our key that this epoch of ours announced, if it is held.
    pub(crate) fn ratchet(&self, epoch: u32) -> Option<&StoredKey> {
        self.ratchets.iter().find(|ratchet| ratchet.epoch == epoch).map(|ratchet| &ratchet.key)
    }

    /// Erases ratchet keys that nothing can need any more: the peer's chain that was wrapped to them is
    /// closed, and `has_skipped` says that none of its numbers is waited for.
    pub(crate) fn retire_ratchets(&mut self, has_skipped: impl Fn(u32) -> bool) {
        let epoch = self.epoch;
        self.ratchets.retain(|ratchet| {
            epoch < ratchet.epoch.saturating_add(3) || has_skipped(ratchet.epoch.saturating_add(1))
        });
        // Skipped keys live for 30 days; a peer that steps with every message must not fill the disk.
        let surplus = self.ratchets.len().saturating_sub(RATCHETS_HELD_MAX);
        self.ratchets.drain(..surplus);
    }

    /// Layout: th 32, role 1, profiles 1+1, epoch 4, root 32, rejected 1, used 8, heard 8, messages 4, stepped 8,
    /// SPK 8, sending 1 (epoch 4, chain 36, recipient 256, preamble 4+n, prior 4), receiving 1 (epoch 4,
    /// chain 36), peer's ratchet 1 (256), count 4 and ratchets (epoch 4, key 512).
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.array(&self.th);
        out.bool(self.role == Role::Initiator);
        out.u8(self.own_profile as u8);
        out.u8(self.peer_profile as u8);
        out.u32(self.epoch);
        out.array(self.root.as_bytes());
        out.bool(self.rejected);
        out.u64(self.used_ms);
        out.u64(self.heard);
        out.u32(self.messages);
        out.u64(self.stepped_ms);
        out.array(&self.spk.0);
        out.bool(self.sending.is_some());
        if let Some(sending) = &self.sending {
            out.u32(sending.epoch);
            sending.chain.encode(out);
            out.array(&sending.recipient);
            out.bytes(&sending.preamble);
            out.u32(sending.prior);
        }
        out.bool(self.receiving.is_some());
        if let Some(receiving) = &self.receiving {
            out.u32(receiving.epoch);
            receiving.chain.encode(out);
        }
        out.bool(self.peer_ratchet.is_some());
        if let Some(modulus) = &self.peer_ratchet {
            out.array(modulus);
        }
        out.count(self.ratchets.len());
        for ratchet in &self.ratchets {
            out.u32(ratchet.epoch);
            ratchet.key.encode(out);
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let th = *input.array()?;
        let role = if input.bool()? { Role::Initiator } else { Role::Responder };
        let mut profile = || Profile::from_u8(input.u8()?).ok_or(Corrupt);
        let (own_profile, peer_profile) = (profile()?, profile()?);
        Ok(Self {
            sid: session_id(&th),
            th,
            role,
            own_profile,
            peer_profile,
            epoch: input.u32()?,
            root: Secret::decode(input)?,
            rejected: input.bool()?,
            used_ms: input.u64()?,
            heard: input.u64()?,
            messages: input.u32()?,
            stepped_ms: input.u64()?,
            spk: KeyId(*input.array()?),
            sending: if input.bool()? { Some(Sending::decode(input)?) } else { None },
            receiving: if input.bool()? { Some(Receiving::decode(input)?) } else { None },
            peer_ratchet: if input.bool()? { Some(*input.array()?) } else { None },
            ratchets: {
                let count = input.count(RATCHETS_HELD_MAX)?;
                let ratchets =
                    (0..count).map(|_| Ok(Ratchet { epoch: input.u32()?, key: StoredKey::decode(input)? }));
                ratchets.collect::<Result<_, _>>()?
            },
        })
    }
}

impl Sending {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let sending = Self {
            epoch: input.u32()?,
            chain: Chain::decode(input)?,
            recipient: *input.array()?,
            preamble: input.bytes()?.to_vec(),
            prior: input.u32()?,
        };
        let fits = sending.preamble.len() <= INIT_WITH_OPK_BYTES && sending.prior <= CHAIN_MESSAGES_MAX;
        if fits { Ok(sending) } else { Err(Corrupt) }
    }
}

impl Receiving {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self { epoch: input.u32()?, chain: Chain::decode(input)? })
    }
}
