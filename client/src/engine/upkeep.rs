//! Keys made ahead: seeing that the relay has prekeys to hand out, and that ratchet keys are ready
//! (spec/crypto.md, "Keys of a client").
//!
//! Owns: when keys are made, published and kept. The keys are made one at a time between turns, by the host,
//! because each takes a while and nobody should wait for the lock meanwhile.

use e2e_protocol::e2e::limits::BATCH_PREKEYS_MAX;
use e2e_protocol::e2e::{KeyPair, PublishedBatch, PublishedSpk};
use e2e_protocol::ids::KeyId;
use e2e_protocol::login::key_id;
use e2e_protocol::wire::directory::{Batch, Entry, Publish, Published, SignedPrekey};
use rand_chacha::ChaCha20Rng;

use super::directory::Question;
use super::event::{End, Event};
use super::{Engine, Stage, Turn};
use crate::state::StateError;

/// How often a process that stays asks what the relay has left, milliseconds.
const ASK_MS: u64 = 60 * 60 * 1_000;

pub(super) struct Upkeep {
    enabled: bool,
    wanted: Wanted,
    made: Vec<KeyPair>,
    /// PUBLISH is sent and not answered.
    publishing: bool,
    next_ask_ms: Option<u64>,
    /// Ratchet keys that are worth making while nothing else is to be done, and those that were made.
    ratchets_wanted: usize,
    ratchets_made: Vec<KeyPair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    /// One-time prekeys for the signed prekey in force.
    Batch,
    /// A new signed prekey, and one-time prekeys for it: the relay drops the others.
    All,
}

impl Wanted {
    fn keys(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Batch => BATCH_PREKEYS_MAX,
            Self::All => BATCH_PREKEYS_MAX + 1,
        }
    }
}

impl Upkeep {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            wanted: Wanted::Nothing,
            made: Vec::new(),
            publishing: false,
            next_ask_ms: None,
            ratchets_wanted: 0,
            ratchets_made: Vec::new(),
        }
    }

    /// The connection is gone. Keys that were made serve the next.
    pub(super) fn reset(&mut self) {
        self.wanted = Wanted::Nothing;
        self.publishing = false;
        self.next_ask_ms = None;
    }

    /// How many prekeys were made of how many that are to be published.
    pub(super) fn keys_wanted(&self) -> Option<(usize, usize)> {
        let wanted = self.wanted.keys();
        (self.made.len() < wanted).then_some((self.made.len(), wanted))
    }

    /// Whether a key is worth making in idle time. Prekeys come first.
    pub(super) fn wants_key(&self) -> bool {
        self.keys_wanted().is_some() || self.ratchets_made.len() < self.ratchets_wanted
    }

    pub(super) fn make_key(&mut self, rng: &mut ChaCha20Rng) {
        if self.keys_wanted().is_some() {
            self.made.push(KeyPair::generate(rng));
        } else if self.wants_key() {
            self.ratchets_made.push(KeyPair::generate(rng));
        }
    }

    /// Ratchet keys were used, or others made some: so many are wanted now.
    pub(super) fn want_ratchets(&mut self, wanted: usize) {
        if self.enabled {
            self.ratchets_wanted = wanted;
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.publishing || self.wanted != Wanted::Nothing
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.next_ask_ms.filter(|_| !self.is_busy())
    }

    /// PUBLISH was answered.
    pub(super) fn published(&mut self, now_ms: u64) {
        self.publishing = false;
        self.next_ask_ms = Some(now_ms.saturating_add(ASK_MS));
    }
}

impl Engine {
    /// The relay hands out this signed prekey, and has so many one-time prekeys left.
    pub(super) fn plan_prekeys(
        &mut self,
        turn: &mut Turn<'_>,
        relay_spk: KeyId,
        left: u16,
    ) -> Result<(), StateError> {
        if !self.upkeep.enabled || self.upkeep.is_busy() {
            return Ok(());
        }
        let now_ms = turn.now_ms;
        self.upkeep.want_ratchets(turn.ratchets()?.wanted());
        let prekeys = turn.prekeys()?.0;
        prekeys.spk_uploaded(relay_spk, now_ms);
        self.upkeep.wanted = if prekeys.needs_spk(now_ms, self.account.profile, relay_spk) {
            Wanted::All
        } else if prekeys.needs_batch(relay_spk, left) {
            Wanted::Batch
        } else {
            Wanted::Nothing
        };
        self.upkeep.next_ask_ms = Some(now_ms.saturating_add(ASK_MS));
        Ok(())
    }

    /// Keeps ratchet keys that were made, publishes prekeys once all are made, and asks now and then whether more are needed.
    pub(super) fn advance_upkeep(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        if !self.upkeep.ratchets_made.is_empty() {
            let ratchets = turn.ratchets()?;
            self.upkeep.ratchets_made.drain(..).for_each(|key| ratchets.add(&key));
            self.upkeep.want_ratchets(ratchets.wanted());
        }
        if !matches!(self.stage, Stage::Ready(_)) {
            return Ok(());
        }
        // Not in the time to come, or farther than ever: the clock was set back.
        let later = turn.now_ms.saturating_add(1)..=turn.now_ms.saturating_add(ASK_MS);
        if self.upkeep.next_ask_ms.is_some_and(|due| !later.contains(&due)) && !self.upkeep.is_busy() {
            self.upkeep.next_ask_ms = Some(turn.now_ms.saturating_add(ASK_MS));
            self.ask(turn, Question::Own);
        }
        let wanted = self.upkeep.wanted;
        if wanted == Wanted::Nothing || self.upkeep.made.len() < wanted.keys() {
            return Ok(());
        }
        self.upkeep.wanted = Wanted::Nothing;
        let keys: Vec<KeyPair> = self.upkeep.made.drain(..wanted.keys()).collect();
        let me = self.me();
        let now_ms = turn.now_ms;
        let (prekeys, rng) = turn.prekeys()?;
        let (first, others) = match (wanted, keys.split_first()) {
            (Wanted::All, Some((first, others))) => (Some(first), others),
            _ => (None, keys.as_slice()),
        };
        let spk = first.map(|key| prekeys.publish_spk(me, key, now_ms, rng));
        let batch = prekeys.publish_batch(me, others, rng);
        if let Err(error) = &batch {
            log::warn!("no one-time prekeys are published: {error}");
        }
        self.publish(turn, spk.as_ref(), batch.ok().as_ref());
        Ok(())
    }

    fn publish(&mut self, turn: &mut Turn<'_>, spk: Option<&PublishedSpk>, batch: Option<&PublishedBatch>) {
        let signed_prekey = spk.map(|spk| SignedPrekey {
            modulus: &spk.modulus,
            made_ms: spk.made_ms,
            profile: spk.profile,
            signature: &spk.signature,
        });
        let batch = batch.map(|batch| Batch {
            signed_prekey: batch.spk,
            signature: &batch.signature,
            moduli: &batch.moduli,
        });
        if signed_prekey.is_none() && batch.is_none() {
            return;
        }
        self.upkeep.publishing = true;
        let request = self.directory.open_request(Question::Publish);
        turn.emit(|out| Publish { request, signed_prekey, batch }.emit(out));
    }

    pub(super) fn handle_published(
        &mut self,
        turn: &mut Turn<'_>,
        published: &Published,
    ) -> Result<(), StateError> {
        if !self.close_request(turn, published.request, Question::Publish) {
            turn.end(End::Protocol("the relay says that it published what was not sent".into()));
            return Ok(());
        }
        let now_ms = turn.now_ms;
        turn.prekeys()?.0.spk_uploaded(published.signed_prekey, now_ms);
        self.upkeep.published(now_ms);
        turn.event(Event::Published { prekeys_left: published.prekeys_left });
        Ok(())
    }

    /// What the relay has left of our own.
    pub(super) fn handle_own_entry(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Entry<'_>,
    ) -> Result<(), StateError> {
        let relay_spk = entry.bundle.map_or(KeyId::ZERO, |bundle| key_id(bundle.signed_prekey.modulus));
        self.plan_prekeys(turn, relay_spk, entry.prekeys_left)
    }
}
