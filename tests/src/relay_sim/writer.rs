//! A model client's outbox: one lane, its messages in order, and the connection that it sends on.
//!
//! Owns: which message has which number, which wait for a result, and when one is sent again. Must not know what the
//! results mean for the contract (`ledger`).

use std::collections::VecDeque;

use e2e_protocol::ids::{Lane, Number};
use e2e_protocol::limits::ENVELOPE_OFFSET;
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::transfer::{Outcome, ResultCode};
use e2e_protocol::wire::{ErrorCode, FrameType};

use super::envelope;
use super::message::{Draft, Message, Moment};
use super::world::World;
use super::{LinkIndex, MessageIndex, SECOND_MS, Who};

/// Of those sent last, so many may be sent again whatever became of them.
const REPEATED_MAX: u64 = 40;
/// A result that has not come for so long is asked for by sending again (spec/crypto.md, "Outbox").
const ANSWER_MS_MAX: u64 = 20 * SECOND_MS;

pub(super) struct Writer {
    pub(super) lane: Lane,
    /// The number of the first message.
    first: u64,
    pub(super) messages: Vec<MessageIndex>,
    /// Those that the client has not let go of.
    pub(super) waiting: VecDeque<MessageIndex>,
    pub(super) link: Option<LinkIndex>,
    /// The connections that it sent on since the relay started: what is on its way on an earlier one may take the
    /// results of what is sent on a later one.
    sent_on: Vec<LinkIndex>,
    boot: u64,
    /// All connections that it ever sent on: only they hear its results.
    spoke_on: Vec<LinkIndex>,
    /// Its name has another key since: nothing is sent in it.
    pub(super) is_closed: bool,
}

impl Writer {
    pub(super) fn new(lane: u64, first: u64) -> Self {
        Self {
            lane: Lane(lane),
            first,
            messages: Vec::new(),
            waiting: VecDeque::new(),
            link: None,
            sent_on: Vec::new(),
            boot: 0,
            spoke_on: Vec::new(),
            is_closed: false,
        }
    }

    /// The message with this number.
    pub(super) fn at(&self, number: Number) -> Option<MessageIndex> {
        let at = usize::try_from(number.0.checked_sub(self.first)?).ok()?;
        self.messages.get(at).copied()
    }

    fn note_sent(&mut self, link: LinkIndex, boot: u64) {
        if std::mem::replace(&mut self.boot, boot) != boot {
            self.sent_on.clear();
        }
        if !self.sent_on.contains(&link) {
            self.sent_on.push(link);
            self.spoke_on.push(link);
        }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.first + self.messages.len() as u64
    }
}

impl World {
    /// Writes up to `count` new messages in a lane, as far as its window reaches.
    pub(super) fn write(&mut self, who: Who, at: usize, to: Who, count: u64) {
        for _ in 0..count {
            let Some(link) = self.open_link(who, at) else { return };
            let writer = &mut self.users[who].writers[at];
            let ledger = &self.ledger;
            while writer.waiting.front().is_some_and(|index| ledger.messages[*index].is_done) {
                writer.waiting.pop_front();
            }
            let number = writer.next_number();
            let oldest = writer.waiting.front().map_or(number, |index| ledger.messages[*index].number.0);
            if number - oldest >= self.shape.window || ledger.messages.len() >= self.shape.messages {
                return;
            }
            let index = ledger.messages.len();
            writer.messages.push(index);
            writer.waiting.push_back(index);
            let lane = writer.lane;
            let bytes = envelope::ENVELOPE_BYTES_MIN as u64;
            let draft = Draft {
                from: who,
                to,
                from_uid: self.links.all[link].uid,
                to_uid: self.users[who].book[to],
                lane,
                number: Number(number),
                ttl_seconds: self.draw_ttl(),
                envelope_bytes: usize::try_from(self.dice.range(bytes..self.shape.envelope_bytes_max + 1))
                    .unwrap_or(0),
                is_broken: self.dice.per_mille(self.shape.broken),
            };
            self.ledger.messages.push(Message::new(draft));
            self.ledger.counts.written += 1;
            self.send(who, at, link, index);
        }
    }

    /// The connection that a writer can send on.
    pub(super) fn open_link(&self, who: Who, at: usize) -> Option<LinkIndex> {
        let writer = &self.users[who].writers[at];
        writer.link.filter(|link| !writer.is_closed && self.links.all[*link].is_speaking())
    }

    fn draw_ttl(&mut self) -> u32 {
        if self.dice.per_mille(self.shape.short_lived) { self.dice.pick(&[1, 3, 60, 3_600]) } else { 0 }
    }

    /// Gives a message to a connection.
    fn send(&mut self, who: Who, at: usize, link: LinkIndex, index: MessageIndex) {
        let moment = self.moment(link);
        self.users[who].writers[at].note_sent(link, moment.boot);
        let moment = Moment { is_heard: self.is_heard(who, at), ..moment };
        self.ledger.messages[index].contested_on = None;
        self.ledger.note_sent(index, moment);
        let message = &self.ledger.messages[index];
        let routing = message.routing();
        let mut bytes = std::mem::take(&mut self.envelope);
        envelope::write(&mut bytes, index, message);
        let room = ENVELOPE_OFFSET + bytes.len();
        self.links.all[link].put(room, |out| emit_routed(out, FrameType::Send, &routing, &bytes));
        self.envelope = bytes;
        let attempts = self.ledger.messages[index].attempts;
        self.ledger.note(self.now_ms, || format!("link {link}: SEND of message {index}, time {attempts}"));
    }

    /// Whether only one connection can hear its results.
    pub(super) fn is_heard(&self, who: Who, at: usize) -> bool {
        self.users[who].writers[at].sent_on.len() == 1
    }

    /// Sends again what waits for no answer on the present connection, or waits too long.
    pub(super) fn send_again(&mut self, who: Who, at: usize) {
        let Some(link) = self.open_link(who, at) else { return };
        let writer = &mut self.users[who].writers[at];
        let messages = &self.ledger.messages;
        writer.waiting.retain(|index| !messages[*index].is_done);
        let again: Vec<_> = writer
            .waiting
            .iter()
            .copied()
            .filter(|index| {
                let Message { waits_on, last_ms, .. } = messages[*index];
                waits_on != Some(link) || self.now_ms >= last_ms + ANSWER_MS_MAX
            })
            .collect();
        for index in again {
            self.send(who, at, link, index);
        }
    }

    /// Sends something a second time that was sent lately, whatever is known of it.
    pub(super) fn repeat(&mut self, who: Who, at: usize) {
        let Some(link) = self.open_link(who, at) else { return };
        let writer = &self.users[who].writers[at];
        let back = usize::try_from(self.dice.below(REPEATED_MAX)).unwrap_or(0);
        let Some(index) = writer.messages.len().checked_sub(1 + back).map(|at| writer.messages[at]) else {
            return;
        };
        // What was given up after a refusal stays refused.
        let message = &self.ledger.messages[index];
        if (!message.is_done || message.promised) && message.contested_on != Some(link) {
            self.send(who, at, link, index);
        }
    }

    /// Sends another message under the id of one that was collected on this connection: the relay has to notice.
    pub(super) fn use_id_again(&mut self, who: Who, at: usize) {
        let Some(link) = self.open_link(who, at).filter(|_| !self.shape.forgets_lanes) else { return };
        let writer = &self.users[who].writers[at];
        let back = usize::try_from(self.dice.below(REPEATED_MAX)).unwrap_or(0);
        let Some(index) = writer.messages.len().checked_sub(1 + back).map(|at| writer.messages[at]) else {
            return;
        };
        let message = &self.ledger.messages[index];
        if !message.is_remembered_as_collected(link) {
            return;
        }
        let routing = message.routing();
        let mut bytes = std::mem::take(&mut self.envelope);
        envelope::write(&mut bytes, index, message);
        bytes.iter_mut().for_each(|byte| *byte ^= 0xFF);
        let room = ENVELOPE_OFFSET + bytes.len();
        self.links.all[link].put(room, |out| emit_routed(out, FrameType::Send, &routing, &bytes));
        self.envelope = bytes;
        self.ledger.messages[index].contested_on = Some(link);
        self.ledger.note(self.now_ms, || format!("link {link}: SEND under the id of message {index}"));
    }

    /// What came of that.
    fn take_conflict(&mut self, index: MessageIndex, code: ResultCode, reason: Option<ErrorCode>) {
        self.ledger.messages[index].contested_on = None;
        match (code, reason) {
            (ResultCode::Refused, Some(ErrorCode::IdConflict)) => self.ledger.counts.conflicts += 1,
            // Its recipient has another key since; or much was sent in its lane on another connection.
            (ResultCode::Refused, Some(ErrorCode::KeyChanged | ErrorCode::IdTooOld)) => {}
            told => self.ledger.violation(format!("another message under the id of {index}: {told:?}")),
        }
    }

    /// A lane goes on on another connection of its user, and the one that it was sent on lives.
    pub(super) fn move_lane(&mut self, who: Who, at: usize) {
        let Some(link) = self.open_link(who, at) else { return };
        let user = &self.users[who];
        let others = user.receiver.into_iter().chain(user.writers.iter().filter_map(|writer| writer.link));
        let is_fit = |other: &LinkIndex| *other != link && self.links.all[*other].is_speaking();
        let is_same = |other: &LinkIndex| self.links.all[*other].uid == self.links.all[link].uid;
        let Some(other) = others.filter(is_fit).find(is_same) else { return };
        self.users[who].writers[at].link = Some(other);
        // What is said of its messages may come on either.
        for index in &self.users[who].writers[at].messages {
            self.ledger.messages[*index].is_heard = false;
        }
        self.ledger.counts.moved += 1;
        self.ledger.note(self.now_ms, || format!("lane {at} of {who} moves from link {link} to {other}"));
    }

    /// Whether each connection that can hear of a lane is one that the client reads.
    pub(super) fn hears_all(&self, who: Who, at: usize) -> bool {
        let is_fit = |link: &LinkIndex| {
            let link = &self.links.all[*link];
            link.is_speaking() && link.relay_open
        };
        self.users[who].writers[at].sent_on.iter().all(is_fit)
    }

    /// A RESULT came.
    pub(super) fn take_results(&mut self, link: LinkIndex, outcome: &Outcome<'_>) {
        let who = self.links.all[link].who;
        let known = |writer: &&Writer| writer.lane == outcome.lane && writer.spoke_on.contains(&link);
        let Some(at) = self.users[who].writers.iter().position(|writer| known(&writer)) else {
            let lane = outcome.lane.0;
            return self.ledger.violation(format!("{who} hears of lane {lane} on link {link}"));
        };
        let moment = self.moment(link);
        let mut receipts = outcome.receipts.iter();
        for number in outcome.numbers() {
            let receipt = receipts.next();
            let Some(index) = self.users[who].writers[at].at(number) else {
                self.ledger.violation(format!("{who} hears of number {}, never sent", number.0));
                continue;
            };
            self.ledger.note(self.now_ms, || {
                format!("link {link}: {:?} {} of message {index}", outcome.code, outcome.reason)
            });
            if self.ledger.messages[index].contested_on == Some(link) {
                self.take_conflict(index, outcome.code, outcome.reason.known());
                continue;
            }
            self.ledger.take_result(index, outcome.code, receipt, moment);
            if outcome.code == ResultCode::Refused {
                self.take_refusal(who, link, index, outcome.reason.known());
            }
        }
    }

    fn take_refusal(&mut self, who: Who, link: LinkIndex, index: MessageIndex, reason: Option<ErrorCode>) {
        let message = &mut self.ledger.messages[index];
        match reason {
            // It is sent again, or not.
            Some(
                ErrorCode::Busy
                | ErrorCode::StoreFailed
                | ErrorCode::MailboxFull
                | ErrorCode::ShareFull
                | ErrorCode::QuotaFull,
            ) => {
                let is_quota = matches!(reason, Some(ErrorCode::ShareFull | ErrorCode::QuotaFull));
                self.ledger.counts.over_quota += u64::from(is_quota);
                message.is_done |= index.is_multiple_of(3);
            }
            Some(ErrorCode::IdTooOld) => message.is_done = true,
            Some(ErrorCode::KeyChanged) => {
                message.is_done = true;
                let to = message.to;
                self.ask_for(who, link, to);
            }
            reason => {
                let told = format!("message {index} is refused: {reason:?}");
                self.ledger.violation(told);
            }
        }
    }
}
