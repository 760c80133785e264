//! The model client's sending, after client/src/engine/dispatch.rs, with its real policy
//! (client/src/engine/outbox.rs) and its real items.
//!
//! Owns: which messages are due, on their way, or wait for the directory. Must not know the relay.

use e2e_client::engine::Drop;
use e2e_client::engine::outbox::{self, Answer, PAUSE_MS_MAX, STORED_PAUSE_MS, Verdict};
use e2e_client::state::OutboxItem;
use e2e_client::state::items::Sealed;
use e2e_protocol::e2e::{EncryptError, Kind, Peer, Plaintext};

use super::Who;
use super::checks::Effect;
use super::client::{Process, Work};
use super::frames::{OwnedBundle, Up};
use super::home::{Home, Id};
use super::keys::{me, name};

/// Most messages on their way without a result.
const WINDOW: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Due(u64),
    Held,
    Asking(Who),
    InFlight,
}

impl Process {
    /// Takes over the messages of processes that are gone.
    pub(super) fn adopt(&mut self, home: &Home, now_ms: u64) {
        for (id, item) in home.items() {
            let is_due = outbox::is_due(item.not_before_ms, now_ms);
            self.tracked.insert(id, Progress::Due(if is_due { 0 } else { item.not_before_ms }));
        }
    }

    pub(super) fn outbox_disconnected(&mut self) {
        for progress in self.tracked.values_mut() {
            if !matches!(progress, Progress::Due(_)) {
                *progress = Progress::Due(0);
            }
        }
        self.asked.clear();
    }

    pub(super) fn outbox_due_ms(&self) -> Option<u64> {
        let due = self.tracked.values().filter_map(|progress| match progress {
            Progress::Due(due_ms) => Some(*due_ms),
            _ => None,
        });
        due.min()
    }

    pub(super) fn write(&mut self, work: &mut Work<'_>, to: Who, body: Vec<u8>) {
        let now_ms = work.now_ms;
        let plaintext = Plaintext::new(Kind::Text, body, now_ms, work.rng());
        self.put(work, to, plaintext);
    }

    fn put(&mut self, work: &mut Work<'_>, to: Who, plaintext: Plaintext) {
        let id = self.next_id();
        work.effects.push(Effect::Wrote { to, plaintext: plaintext.clone() });
        work.turn.store(id, &OutboxItem::new(*name(to), plaintext));
        self.tracked.insert(id, Progress::Due(0));
        self.advance_outbox(work);
    }

    /// An empty message, if a step is due that waits for no other.
    pub(super) fn step_with(&mut self, work: &mut Work<'_>, peer: Who) {
        let now_ms = work.now_ms;
        if work.turn.peer(peer).needs_empty_message(now_ms) && self.in_flight() < WINDOW {
            let empty = Plaintext::new(Kind::Nothing, Vec::new(), now_ms, work.rng());
            self.put(work, peer, empty);
        }
    }

    fn in_flight(&self) -> usize {
        self.tracked.values().filter(|progress| matches!(progress, Progress::InFlight)).count()
    }

    pub(super) fn advance_outbox(&mut self, work: &mut Work<'_>) {
        if !self.ready {
            return;
        }
        let now_ms = work.now_ms;
        let ready = |progress: &Progress| match progress {
            Progress::Due(due_ms) => outbox::is_due(*due_ms, now_ms),
            Progress::Held => true,
            Progress::Asking(_) | Progress::InFlight => false,
        };
        let ids: Vec<Id> =
            self.tracked.iter().filter(|(_, progress)| ready(progress)).map(|(id, _)| *id).collect();
        let mut in_flight = self.in_flight();
        for id in ids {
            if in_flight >= WINDOW {
                self.tracked.insert(id, Progress::Held);
                continue;
            }
            self.dispatch_one(work, id, None);
            in_flight += usize::from(self.tracked.get(&id) == Some(&Progress::InFlight));
        }
    }

    fn dispatch_one(&mut self, work: &mut Work<'_>, id: Id, bundle: Option<&OwnedBundle>) {
        let Some(mut item) = work.turn.item(id) else {
            self.tracked.remove(&id);
            return;
        };
        if outbox::is_too_old(&item, work.now_ms) {
            self.drop_item(work, id, &item, Drop::TooOld);
            return;
        }
        if self.in_flight() >= WINDOW {
            self.tracked.insert(id, Progress::Held);
            return;
        }
        let to = who(&item);
        if item.sealed.is_none() {
            if bundle.is_none() && self.asked.contains(&to) {
                self.tracked.insert(id, Progress::Asking(to));
                return;
            }
            match encrypt(work, to, &item.plaintext, bundle) {
                Ok(sealed) => item.sealed = Some(sealed),
                Err(error) => return self.not_encrypted(work, id, item, error),
            }
            if item.first_sent_ms == 0 {
                item.first_sent_ms = work.now_ms;
            }
            work.turn.store(id, &item);
        }
        if let Some(sealed) = item.sealed {
            work.up.push(Up::Send { id, to, envelope: sealed.envelope });
            self.tracked.insert(id, Progress::InFlight);
        }
    }

    fn not_encrypted(&mut self, work: &mut Work<'_>, id: Id, item: OutboxItem, error: EncryptError) {
        if item.plaintext.kind == Kind::Nothing {
            return self.erase(work, id);
        }
        match error {
            EncryptError::NeedBundle { one_time } => {
                let whose = who(&item);
                self.tracked.insert(id, Progress::Asking(whose));
                if self.asked.insert(whose) {
                    work.up.push(Up::Lookup { whose, one_time });
                }
            }
            EncryptError::WaitUntil(until_ms) => self.postpone(work, id, item, until_ms),
            EncryptError::BadBundle(why) => self.refuse(work, id, item, Drop::BadBundle(why)),
            EncryptError::KeyChanged(_) | EncryptError::TooLong | EncryptError::OwnName => {
                work.checks.violation(format!("a message can't be encrypted: {error}"));
                self.erase(work, id);
            }
        }
    }

    /// The directory's answer.
    pub(super) fn handle_entry(&mut self, work: &mut Work<'_>, whose: Who, bundle: Option<&OwnedBundle>) {
        self.asked.remove(&whose);
        let asking: Vec<Id> = self
            .tracked
            .iter()
            .filter(|(_, at)| **at == Progress::Asking(whose))
            .map(|(id, _)| *id)
            .collect();
        for id in asking {
            match (bundle, work.turn.item(id)) {
                (Some(_), _) | (None, None) => self.dispatch_one(work, id, bundle),
                (None, Some(mut item)) => {
                    item.retries = item.retries.saturating_add(1);
                    let until_ms =
                        work.now_ms.saturating_add(outbox::retry_pause_ms(item.retries).min(PAUSE_MS_MAX));
                    self.postpone(work, id, item, until_ms);
                }
            }
        }
    }

    /// Acts on an answer about a message.
    pub(super) fn settle(&mut self, work: &mut Work<'_>, id: Id, answer: Answer) {
        let Some(mut item) = work.turn.item(id) else { return };
        let Some((session, epoch)) = item.sealed.as_ref().map(|sealed| (sealed.session, sealed.epoch)) else {
            return;
        };
        let to = who(&item);
        match outbox::verdict(&item, answer, work.now_ms) {
            Verdict::LetGo => {
                work.turn.peer(to).receipt_verified(session, epoch);
                work.effects.push(Effect::LetGo { id: item.plaintext.id, to });
                self.erase(work, id);
            }
            Verdict::Keep { until_ms, .. } => {
                item.stored = true;
                self.postpone(work, id, item, until_ms);
            }
            Verdict::SendAgain { renumber, until_ms, .. } => {
                item.retries = item.retries.saturating_add(1);
                let id = if renumber { self.renumber(work, id) } else { id };
                self.postpone(work, id, item, until_ms);
            }
            Verdict::EncryptAnew { until_ms } => {
                work.turn.peer(to).reject_seen(session);
                item.rejects = item.rejects.saturating_add(1);
                item.sealed = None;
                let id = self.renumber(work, id);
                self.postpone(work, id, item, until_ms);
            }
            Verdict::Forget => {
                work.turn.peer(to).reject_seen(session);
                self.erase(work, id);
            }
            Verdict::LookUp { until_ms, .. } => {
                item.retries = item.retries.saturating_add(1);
                self.postpone(work, id, item, until_ms);
            }
            Verdict::Drop(why) => self.drop_item(work, id, &item, why),
        }
    }

    fn renumber(&mut self, work: &mut Work<'_>, id: Id) -> Id {
        self.tracked.remove(&id);
        work.turn.erase(id);
        self.next_id()
    }

    fn refuse(&mut self, work: &mut Work<'_>, id: Id, item: OutboxItem, why: Drop) {
        if item.first_sent_ms == 0 {
            self.drop_item(work, id, &item, why);
        } else {
            let until_ms = work.now_ms.saturating_add(STORED_PAUSE_MS);
            self.postpone(work, id, item, until_ms);
        }
    }

    fn postpone(&mut self, work: &mut Work<'_>, id: Id, mut item: OutboxItem, until_ms: u64) {
        item.not_before_ms = until_ms;
        work.turn.store(id, &item);
        self.tracked.insert(id, Progress::Due(until_ms));
    }

    fn drop_item(&mut self, work: &mut Work<'_>, id: Id, item: &OutboxItem, why: Drop) {
        work.effects.push(Effect::Dropped { id: item.plaintext.id, why });
        self.erase(work, id);
    }

    fn erase(&mut self, work: &mut Work<'_>, id: Id) {
        self.tracked.remove(&id);
        work.turn.erase(id);
    }
}

fn who(item: &OutboxItem) -> Who {
    (0..super::NAMES.len()).find(|who| *name(*who) == item.to).expect("one of us")
}

fn encrypt(
    work: &mut Work<'_>,
    to: Who,
    plaintext: &Plaintext,
    bundle: Option<&OwnedBundle>,
) -> Result<Sealed, EncryptError> {
    work.provide_ratchet(|work| needs_ratchet(work, to, plaintext, bundle));
    let bundle = bundle.map(OwnedBundle::borrowed);
    let (now_ms, me) = (work.now_ms, me(work.who, work.profile));
    let (peer, ratchets) = work.turn.sending(to);
    let sealed = peer.encrypt(me, plaintext, bundle.as_ref(), ratchets, now_ms, work.dice.rng())?;
    let envelope = sealed.envelope.clone();
    work.effects.push(Effect::Emitted { to, kind: plaintext.kind, envelope, at_ms: now_ms });
    Ok(Sealed {
        session: sealed.sid,
        epoch: sealed.epoch,
        receipt: sealed.expected_receipt,
        envelope: sealed.envelope,
    })
}

/// Whether encrypting would make a key if none were there. Tried on a copy.
fn needs_ratchet(work: &mut Work<'_>, to: Who, plaintext: &Plaintext, bundle: Option<&OwnedBundle>) -> bool {
    let now_ms = work.now_ms;
    let mut peer = Peer::decode(&work.turn.peer(to).encode()).expect("a peer that was encoded");
    if peer.needs_empty_message(now_ms) {
        return true;
    }
    let mut ratchets = work.ratchets_to_try();
    let bundle = bundle.map(OwnedBundle::borrowed);
    let me = me(work.who, work.profile);
    let tried = peer.encrypt(me, plaintext, bundle.as_ref(), &mut ratchets, now_ms, work.dice.rng());
    // A session in which something was sent before goes on without a step.
    tried.is_ok_and(|sealed| !ratchets.is_ready() && !work.checks.was_sent_on(work.who, sealed.sid))
}
