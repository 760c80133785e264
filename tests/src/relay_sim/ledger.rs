//! What must hold, whatever happens (spec/wire.md, sections 5 and 6).
//!
//! Owns: every message, what was seen in each mailbox, and the verdicts. Must not know how anything comes about. What
//! may be said of one message: `message`.

use std::collections::HashMap;

use e2e_protocol::ids::{Receipt, Sequence, Uid};
use e2e_protocol::limits::ENVELOPE_OFFSET;
use e2e_protocol::wire::Routing;
use e2e_protocol::wire::transfer::ResultCode;
use e2e_relayd::limits::Limits;

use super::counts::Counts;
use super::envelope;
use super::link::{Link, Unacked};
use super::message::{Message, Moment};
use super::{LinkIndex, MessageIndex, Outcome, Who};

/// So many are told of a seed.
const VIOLATIONS_MAX: usize = 20;

/// What has a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Message(MessageIndex),
    Notice(MessageIndex, ResultCode),
}

pub(super) struct Ledger {
    pub(super) messages: Vec<Message>,
    /// What each sequence of each mailbox was given to.
    entries: HashMap<(Who, u64), Entry>,
    /// The relay may forget lanes.
    relay_forgets: bool,
    pub(super) counts: Counts,
    violations: Vec<String>,
    trace: bool,
}

impl Ledger {
    pub(super) fn new(relay_forgets: bool, trace: bool) -> Self {
        Self {
            messages: Vec::new(),
            entries: HashMap::new(),
            relay_forgets,
            counts: Counts { seeds: 1, ..Counts::default() },
            violations: Vec::new(),
            trace,
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        self.note(0, || format!("VIOLATION: {what}"));
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    pub(super) fn has_violations(&self) -> bool {
        !self.violations.is_empty()
    }

    /// For who reads along.
    pub(super) fn note(&self, now_ms: u64, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>10}.{:03} {}", now_ms / 1_000, now_ms % 1_000, what());
        }
    }

    pub(super) fn note_sent(&mut self, index: MessageIndex, moment: Moment) {
        self.counts.sends += 1;
        self.messages[index].note_sent(moment, self.relay_forgets);
    }

    /// A result, on a connection of the message's sender.
    pub(super) fn take_result(
        &mut self,
        index: MessageIndex,
        code: ResultCode,
        receipt: Option<Receipt>,
        now: Moment,
    ) {
        let count = match code {
            ResultCode::Collected => &mut self.counts.collected,
            ResultCode::Stored | ResultCode::Accepted => &mut self.counts.stored,
            ResultCode::Refused => &mut self.counts.refused,
            ResultCode::Uncertain => &mut self.counts.uncertain,
            ResultCode::Expired => &mut self.counts.expired,
            ResultCode::Done => &mut self.counts.done,
        };
        *count += 1;
        self.judge(index, code, receipt, now);
    }

    fn judge(&mut self, index: MessageIndex, code: ResultCode, receipt: Option<Receipt>, now: Moment) {
        let message = &mut self.messages[index];
        let mut taken = message.take_result(code, now);
        if let (ResultCode::Collected, Some(receipt)) = (code, receipt) {
            let fits = if message.is_broken {
                receipt == Receipt::ZERO
            } else {
                envelope::is_receipt_of(receipt, index, message.acks)
            };
            if !fits {
                taken = Err("with a receipt that its recipient did not give");
            }
            self.counts.rejected += u64::from(message.is_broken);
        }
        if let Err(why) = taken {
            let told = format!("{code:?} of message {index}, but {why}: {:?}", self.messages[index]);
            self.violation(told);
        }
    }

    /// Something came to a receiving connection: checks what holds of messages and notices alike.
    pub(super) fn take_frame(&mut self, link: &mut Link, routing: &Routing, frame_bytes: usize) {
        let (sequence, time_ms) = (routing.sequence.0, routing.time_ms);
        let who = link.who;
        if !link.receiving {
            self.violation(format!("{sequence} is delivered to a connection that does not receive"));
        }
        if sequence <= link.last_sequence {
            let last = link.last_sequence;
            self.violation(format!("sequence {sequence} after {last} on one connection, mailbox {who}"));
        }
        if time_ms < link.last_time_ms {
            let last_ms = link.last_time_ms;
            self.violation(format!("the time goes back from {last_ms} to {time_ms}, mailbox {who}"));
        }
        (link.last_sequence, link.last_time_ms) = (sequence, time_ms);
        link.unacked_bytes += frame_bytes;
        let credit = link.credit().map_or((0, 0), |credit| (credit.messages as usize, credit.bytes as usize));
        if link.unacked.len() + 1 > credit.0 || link.unacked_bytes > credit.1 {
            self.violation(format!("over the credit of {credit:?}, mailbox {who}"));
        }
    }

    /// A DELIVER came.
    pub(super) fn take_delivery(&mut self, link: &mut Link, routing: &Routing, bytes: &[u8], now: Moment) {
        self.counts.deliveries += 1;
        let frame_bytes = ENVELOPE_OFFSET + bytes.len();
        self.take_frame(link, routing, frame_bytes);
        let index = envelope::index(bytes).filter(|index| *index < self.messages.len());
        let Some(index) = index else { return self.violation("an envelope that nobody sent".into()) };
        let unacked = Unacked { sequence: routing.sequence, message: Some(index), frame_bytes };
        link.unacked.push_back(unacked);
        let message = &self.messages[index];
        let is_its_own = routing.peer == message.from_uid
            && (routing.lane, routing.number) == (message.lane, message.number)
            && envelope::is_of(bytes, index, message);
        if !is_its_own {
            self.violation(format!("message {index} is not what it was: {routing:?}"));
        } else if message.to != link.who || message.to_uid != link.uid {
            self.violation(format!("message {index} came to {}, who it is not for", link.who));
        }
        self.take_sequence(link.who, routing.sequence, Entry::Message(index));
        let message = &mut self.messages[index];
        self.counts.messages += u64::from(message.delivered == 0);
        if let Err(why) = message.take_delivery(routing.sequence.0, now) {
            let told = format!("message {index} is delivered, but {why}: {message:?}");
            self.violation(told);
        }
    }

    /// A NOTICE came that is about this message.
    pub(super) fn take_notice(
        &mut self,
        link: &mut Link,
        routing: &Routing,
        index: Option<MessageIndex>,
        (code, receipt): (ResultCode, Receipt),
        now: Moment,
    ) {
        self.counts.notices += 1;
        let frame_bytes = e2e_protocol::wire::Notice::FRAME_BYTES;
        self.take_frame(link, routing, frame_bytes);
        link.unacked.push_back(Unacked { sequence: routing.sequence, message: None, frame_bytes });
        let Some(index) = index else {
            return self.violation(format!("a notice of what nobody sent: {routing:?}"));
        };
        if self.messages[index].to_uid != routing.peer {
            self.violation(format!("a notice of message {index} that names another recipient"));
        }
        if self.take_sequence(link.who, routing.sequence, Entry::Notice(index, code)) {
            self.counts.expired += u64::from(code == ResultCode::Expired);
            self.judge(index, code, Some(receipt), now);
        }
    }

    /// Whether it is seen for the first time. No sequence is given twice.
    fn take_sequence(&mut self, who: Who, sequence: Sequence, entry: Entry) -> bool {
        match self.entries.insert((who, sequence.0), entry) {
            None => true,
            Some(before) if before == entry => false,
            Some(before) => {
                self.violation(format!("sequence {} of {who} is {before:?} and {entry:?}", sequence.0));
                false
            }
        }
    }

    /// What surely waits of each sender, in each mailbox and in all, is within its quotas: what was promised, and is neither
    /// acknowledged nor too old.
    pub(super) fn check_quotas(&mut self, limits: &Limits, relay_ms: u64) {
        let mut shares: HashMap<(Uid, Uid), (u64, u64)> = HashMap::new();
        let mut senders: HashMap<Uid, u64> = HashMap::new();
        for message in &self.messages {
            let waits = message.promised && message.acks == 0 && !message.expired;
            if waits && relay_ms < message.expires_ms() {
                let bytes = (ENVELOPE_OFFSET + message.envelope_bytes) as u64;
                let share = shares.entry((message.from_uid, message.to_uid)).or_default();
                *share = (share.0 + 1, share.1 + bytes);
                *senders.entry(message.from_uid).or_default() += bytes;
            }
        }
        for (of, (messages, bytes)) in shares {
            if messages > limits.share_messages_max || bytes > limits.share_bytes_max {
                self.violation(format!("{of:?}: {messages} messages and {bytes} bytes wait, over the share"));
            }
        }
        for (sender, bytes) in senders {
            if bytes > limits.sender_bytes_max {
                self.violation(format!("{bytes} bytes of {sender:?} wait, over its quota"));
            }
        }
    }

    /// At the end, when all has drained: what was promised has come.
    pub(super) fn close(&mut self, relay_ms: u64) {
        let mut found = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            let may_have_expired = message.expired || relay_ms >= message.expires_ms();
            if message.promised && message.acks == 0 && !may_have_expired {
                found.push(format!("message {index} is lost: {message:?}"));
            } else if !message.is_done {
                found.push(format!("message {index} never came to an end: {message:?}"));
            }
            self.counts.doubled += message.more_sequences.len() as u64;
        }
        found.into_iter().for_each(|what| self.violation(what));
        self.check_order();
    }

    /// Of what was sent once: one connection's messages to one recipient have rising sequences.
    fn check_order(&mut self) {
        let mut last: HashMap<(LinkIndex, Who), (u64, MessageIndex)> = HashMap::new();
        let mut found = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            if message.attempts != 1 || message.sequence == 0 {
                continue;
            }
            let key = (message.first_link, message.to);
            if let Some((sequence, before)) = last.insert(key, (message.sequence, index))
                && sequence > message.sequence
            {
                found.push(format!("message {index} came before {before}, which was sent first"));
            }
        }
        found.into_iter().for_each(|what| self.violation(what));
    }

    pub(super) fn finish(self) -> Outcome {
        Outcome { counts: self.counts, violations: self.violations }
    }
}
