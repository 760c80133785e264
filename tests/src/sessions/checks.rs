//! What must hold, checked whenever something is committed, shown, or over.
//!
//! Owns: what was written and what became of it, and every place and key that was used. Must not know how it
//! comes about. docs/sessions.md says what is checked, in words.

use std::collections::{BTreeMap, BTreeSet};

use e2e_client::engine::Drop;
use e2e_client::engine::outbox::KEPT_MS_MAX;
use e2e_protocol::e2e::limits::{CHAIN_MESSAGES_MAX, INIT_INTERVAL_MS_MIN, SKIPPED_KEPT_MS};
use e2e_protocol::e2e::{BadBundle, Kind, OpenedMessage, Plaintext, RejectReason, STEP_BYTES};
use e2e_protocol::ids::{MessageId, Modulus, SessionId};

use super::frames::Class;
use super::home::{Home, Message};
use super::mailbox::{epoch, number, preamble, session};
use super::{Counts, Who};

/// What a transaction did, once it is committed.
pub(super) enum Effect {
    Wrote {
        to: Who,
        plaintext: Plaintext,
    },
    /// When is by the sender's own clock.
    Emitted {
        to: Who,
        kind: Kind,
        envelope: Vec<u8>,
        at_ms: u64,
    },
    MadeRatchet(Modulus),
    Opened {
        from: Who,
        message: OpenedMessage,
        class: Class,
        envelope: Vec<u8>,
    },
    Rejected {
        from: Who,
        reason: RejectReason,
        class: Class,
        tag: [u8; 32],
    },
    LetGo {
        id: MessageId,
        to: Who,
    },
    Dropped {
        id: MessageId,
        why: Drop,
    },
}

#[derive(Default)]
pub(super) struct Checks {
    pub(super) violations: Vec<String>,
    pub(super) counts: Counts,
    /// Nothing goes wrong in this seed: what is sent is shown in order.
    faultless: bool,
    trace: bool,
    /// The farthest that any clock was from the right time.
    pub(super) clocks_off_ms: u64,
    messages: BTreeMap<MessageId, Written>,
    written: BTreeMap<(Who, Who), u64>,
    in_order: BTreeMap<(Who, Who), u64>,
    places: BTreeSet<(Who, u32, SessionId, u32, u32)>,
    opened: BTreeSet<(Who, u32, SessionId, u32, u32)>,
    /// When each user's state opened an envelope, by its tag and its own clock.
    opened_tags: BTreeMap<(Who, u32, [u8; 32]), u64>,
    last_sent: BTreeMap<(Who, SessionId), LastSent>,
    starters: BTreeMap<SessionId, Who>,
    ratchets_made: BTreeMap<(Who, Modulus), u32>,
    ratchets_announced: BTreeMap<(Who, u32, Modulus), u32>,
    highest: BTreeMap<(Who, SessionId), u32>,
    replaced: BTreeSet<Who>,
    /// The newest session that each state started with each peer, and when.
    newest_init: BTreeMap<(Who, u32, Who), (SessionId, u64)>,
    opened_of_first_chain: BTreeMap<(Who, SessionId), usize>,
}

struct Written {
    from: Who,
    to: Who,
    plaintext: Plaintext,
    at_ms: u64,
    /// Where it stands among those of its author to its recipient.
    position: u64,
    opened: bool,
    shown: bool,
    reported: bool,
    /// It went with a state of its sender or, opened but not shown, of its recipient.
    lost: bool,
}

struct LastSent {
    generation: u32,
    epoch: u32,
    number: u32,
}

impl Effect {
    fn words(&self) -> String {
        let to = |to: &Who| super::NAMES[*to];
        match self {
            Self::Wrote { to: who, plaintext } => format!("writes {} to {}", plaintext.id, to(who)),
            Self::Emitted { to: who, envelope, .. } => format!(
                "encrypts to {}: {} {} {}, preamble {}",
                to(who),
                SessionId(envelope[4..20].try_into().unwrap_or_default()),
                epoch(envelope),
                number(envelope),
                preamble(envelope).len()
            ),
            Self::MadeRatchet(_) => "makes a ratchet key".into(),
            Self::Opened { from, message, .. } => format!(
                "opens {} of {}: {} {} {}{}",
                message.record.message_id,
                to(from),
                message.record.sid,
                message.record.epoch,
                message.record.number,
                if message.known { ", known" } else { "" }
            ),
            Self::Rejected { reason, class, .. } => format!("rejects: {reason:?} ({class:?})"),
            Self::LetGo { id, .. } => format!("lets go of {id}"),
            Self::Dropped { id, why } => format!("gives up {id}: {why:?}"),
        }
    }
}

impl Checks {
    pub(super) fn new(faultless: bool, trace: bool) -> Self {
        Self { faultless, trace, ..Self::default() }
    }

    /// Tells what happens, if anybody wants to know.
    pub(super) fn note(&self, now_ms: u64, what: impl FnOnce() -> String) {
        if self.trace {
            let since_ms = now_ms.saturating_sub(super::START_MS);
            let (days, ms) = (since_ms / super::DAY_MS, since_ms % super::DAY_MS);
            eprintln!(
                "{days:3} {:02}:{:02}:{:06.3} {}",
                ms / 3_600_000,
                ms / 60_000 % 60,
                (ms % 60_000) as f64 / 1e3,
                what()
            );
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violation(what());
        }
    }

    pub(super) fn was_sent_on(&self, who: Who, sid: SessionId) -> bool {
        self.last_sent.contains_key(&(who, sid))
    }

    /// When this state opened this very envelope of whoever sent it.
    pub(super) fn opened_at(&self, who: Who, generation: u32, envelope: &[u8]) -> Option<u64> {
        self.opened_tags.get(&(who, generation, *envelope.last_chunk()?)).copied()
    }

    /// How many messages of epoch 0 a user opened in a session.
    pub(super) fn opened_of_first_chain(&self, who: Who, sid: SessionId) -> usize {
        self.opened_of_first_chain.get(&(who, sid)).copied().unwrap_or(0)
    }

    /// The highest epoch of a session that this user knows.
    pub(super) fn highest_epoch(&self, who: Who, sid: SessionId) -> Option<u32> {
        self.highest.get(&(who, sid)).copied()
    }

    pub(super) fn committed(&mut self, who: Who, generation: u32, effect: &Effect, now_ms: u64) {
        self.note(now_ms, || format!("{} {}", super::NAMES[who], effect.words()));
        match effect {
            Effect::Wrote { to, plaintext } => self.wrote(who, *to, plaintext, now_ms),
            Effect::Emitted { to, kind, envelope, at_ms } => {
                self.paced(who, generation, *to, envelope, *at_ms);
                self.emitted(who, generation, *to, *kind, envelope);
            }
            Effect::MadeRatchet(modulus) => *self.ratchets_made.entry((who, *modulus)).or_default() += 1,
            Effect::Opened { from, message, class, .. } => {
                let tag = (who, generation, message.record.tag);
                self.opened_tags.insert(tag, message.record.opened_ms);
                self.opened(who, generation, *from, message, *class);
            }
            Effect::Rejected { from, reason, class, tag } => {
                self.counts.rejects += 1;
                let is_first =
                    *class == Class::Honest && !self.opened_tags.contains_key(&(who, generation, *tag));
                let kept = now_ms < super::START_MS + SKIPPED_KEPT_MS && self.clocks_off_ms == 0;
                if is_first && kept && *reason == RejectReason::NumberUsed && !self.was_replaced(who, *from) {
                    self.violation("the key of a message that never came is gone".into());
                }
                // Who has many sessions erases the oldest; what the other end then sends on one comes too late.
                let expected =
                    !self.faultless || *reason == RejectReason::UnknownSession && self.counts.inits > 4;
                self.require(expected, || format!("rejected without a fault: {reason:?} ({class:?})"));
            }
            Effect::LetGo { id, to } => {
                let opened = self.messages.get(id).is_some_and(|written| written.opened && written.to == *to);
                self.require(opened, || format!("let go, but its recipient never had it: {id}"));
            }
            Effect::Dropped { id, why } => self.dropped(*id, why, now_ms),
        }
    }

    fn wrote(&mut self, from: Who, to: Who, plaintext: &Plaintext, at_ms: u64) {
        let position = if plaintext.kind == Kind::Nothing {
            self.counts.empty += 1;
            0
        } else {
            self.counts.messages += 1;
            let position = self.written.entry((from, to)).or_default();
            *position += 1;
            *position
        };
        let written = Written {
            from,
            to,
            plaintext: plaintext.clone(),
            at_ms,
            position,
            opened: false,
            shown: false,
            reported: false,
            lost: false,
        };
        let before = self.messages.insert(plaintext.id, written);
        self.require(before.is_none(), || "a message id came twice".into());
    }

    /// The next INIT waits, but for the successor of a full chain, or if the clock was set back.
    fn paced(&mut self, who: Who, generation: u32, to: Who, envelope: &[u8], at_ms: u64) {
        let sid = session(envelope);
        if preamble(envelope).len() <= STEP_BYTES || self.last_sent.contains_key(&(who, sid)) {
            return;
        }
        let last = self.newest_init.insert((who, generation, to), (sid, at_ms));
        let Some((last, last_ms)) = last else { return };
        let is_full =
            self.last_sent.get(&(who, last)).is_some_and(|last| last.number == CHAIN_MESSAGES_MAX - 1);
        let waits = (last_ms..last_ms + INIT_INTERVAL_MS_MIN).contains(&at_ms);
        self.require(!waits || is_full, || format!("an INIT {} ms after the last", at_ms - last_ms));
    }

    /// An envelope is committed to be sent.
    fn emitted(&mut self, who: Who, generation: u32, to: Who, kind: Kind, envelope: &[u8]) {
        let sid = SessionId(envelope[4..20].try_into().expect("16 bytes"));
        let (epoch, number, preamble) = (epoch(envelope), number(envelope), preamble(envelope));
        self.counts.envelopes += 1;
        if !self.places.insert((who, generation, sid, epoch, number)) {
            self.violation(format!("{sid} {epoch} {number} was sent twice"));
        }
        let last = self.last_sent.get(&(who, sid)).filter(|last| last.generation == generation);
        let (follows, new_epoch) = match last {
            None => (true, true),
            Some(last) if epoch == last.epoch => (number == last.number + 1, false),
            Some(last) => (epoch > last.epoch && number == 0, true),
        };
        self.require(follows, || format!("{sid} {epoch} {number} does not follow"));
        self.last_sent.insert((who, sid), LastSent { generation, epoch, number });
        if epoch == 0 {
            let starter = *self.starters.entry(sid).or_insert(who);
            self.require(starter == who, || format!("{sid} was started by both"));
        }
        let is_starter = self.starters.get(&sid) == Some(&who);
        self.require(epoch.is_multiple_of(2) == is_starter, || {
            format!("{epoch} is not an epoch of its sender")
        });
        let highest = self.highest.entry((who, sid)).or_default();
        *highest = epoch.max(*highest);
        if new_epoch && !preamble.is_empty() {
            let is_init = preamble.len() > STEP_BYTES;
            if is_init {
                self.counts.inits += 1
            } else {
                self.counts.steps += 1
            }
            self.counts.signatures += u64::from(is_init);
            if is_init && kind == Kind::Nothing {
                self.violation(format!("an empty message to {to} started a session"));
            }
            let at = if is_init { 256 } else { 0 };
            let ratchet: Modulus = preamble[at..at + 256].try_into().expect("256 bytes");
            let announced = self.ratchets_announced.entry((who, generation, ratchet)).or_default();
            *announced += 1;
            // One that was not made ahead was made for this.
            let made = self.ratchets_made.get(&(who, ratchet)).copied().unwrap_or(1);
            if *announced > made {
                self.violation("a ratchet key was announced twice".into());
            }
        }
    }

    fn opened(&mut self, who: Who, generation: u32, from: Who, message: &OpenedMessage, class: Class) {
        let OpenedMessage { record, plaintext, .. } = message;
        self.require(class == Class::Honest, || format!("what was changed was opened: {class:?}"));
        if !self.opened.insert((who, generation, record.sid, record.epoch, record.number)) {
            self.violation(format!("{} {} {} was opened twice", record.sid, record.epoch, record.number));
        }
        if record.epoch == 0 {
            *self.opened_of_first_chain.entry((who, record.sid)).or_default() += 1;
        }
        let parity = record.epoch.is_multiple_of(2) == (self.starters.get(&record.sid) == Some(&from));
        self.require(parity, || "opened in an epoch that is not its sender's".into());
        let highest = self.highest.entry((who, record.sid)).or_default();
        *highest = record.epoch.max(*highest);
        let same = match self.messages.get_mut(&plaintext.id) {
            Some(written) => {
                written.opened = true;
                (written.from, written.to) == (from, who) && written.plaintext == *plaintext
            }
            None => false,
        };
        self.require(same, || "opened what was not written, not so, or not to this user".into());
    }

    pub(super) fn shown(&mut self, who: Who, message: &Message, before: &BTreeSet<MessageId>) {
        self.counts.shown += 1;
        let Message { from, id, body } = message;
        self.require(!before.contains(id), || format!("shown twice: {id}"));
        let Some(written) = self.messages.get_mut(id) else {
            return self.violation(format!("shown, but not written: {id}"));
        };
        written.shown = true;
        let position = written.position;
        let same = (written.from, written.to) == (*from, who)
            && *written.plaintext.body == *body
            && written.plaintext.kind != Kind::Nothing;
        self.require(same, || format!("shown with another content or sender: {id}"));
        let last = self.in_order.insert((*from, who), position).unwrap_or(0);
        if self.faultless {
            // Not the one after it: one in between may have been given up after 30 days.
            self.require(position > last, || format!("number {position} was shown after number {last}"));
        }
    }

    fn dropped(&mut self, id: MessageId, why: &Drop, now_ms: u64) {
        self.counts.reported += 1;
        // Nobody came for 30 days; or the recipient was away for so long that its prekey is too old to start with.
        let expected = matches!(why, Drop::TooOld | Drop::BadBundle(BadBundle::TooOld));
        self.require(!self.faultless || expected, || format!("given up without a fault: {why:?}"));
        let slack_ms = 2 * self.clocks_off_ms;
        let Some(written) = self.messages.get_mut(&id) else { return };
        written.reported = true;
        let age_ms = now_ms.saturating_sub(written.at_ms);
        match why {
            Drop::TooOld => {
                self.require(age_ms + slack_ms >= KEPT_MS_MAX, || format!("given up after {age_ms} ms"));
            }
            Drop::BadBundle(_) => {}
            other => self.violation(format!("given up: {other:?}")),
        }
    }

    fn was_replaced(&self, one: Who, other: Who) -> bool {
        self.replaced.contains(&one) || self.replaced.contains(&other)
    }

    /// The state of a user was put back, or lost.
    pub(super) fn replaced(&mut self, who: Who, before: &Home, after: &Home) {
        let ids = |home: &Home| home.items().map(|(_, item)| item.plaintext.id).collect::<BTreeSet<_>>();
        let (sending, still_sending) = (ids(before), ids(after));
        let unshown = |home: &Home| home.inbox.iter().map(|message| message.id).collect::<BTreeSet<_>>();
        let (waiting, still_waiting) = (unshown(before), unshown(after));
        let lost = sending.difference(&still_sending).chain(waiting.difference(&still_waiting));
        for id in lost {
            if let Some(written) = self.messages.get_mut(id) {
                written.lost = true;
            }
        }
        self.replaced.insert(who);
        self.counts.replaced += 1;
    }

    /// At the end: what was written was shown, or is accounted for.
    pub(super) fn account(&mut self, homes: &[&Home]) {
        let in_outbox: BTreeSet<MessageId> =
            homes.iter().flat_map(|home| home.items()).map(|(_, item)| item.plaintext.id).collect();
        let missing: Vec<MessageId> = self
            .messages
            .iter()
            .filter(|(_, written)| written.plaintext.kind != Kind::Nothing)
            .filter(|(id, w)| !(w.shown || w.reported || w.lost || in_outbox.contains(*id)))
            .map(|(id, _)| *id)
            .collect();
        for id in missing {
            self.violation(format!("lost without a word: {id}"));
        }
    }
}
