//! Receiving: messages and notices of the own mailbox, in order (spec/wire.md, section 6;
//! spec/crypto.md, "Receiving").
//!
//! Owns: what was delivered and is not acknowledged yet. In a turn a delivery is opened, kept, and
//! its acknowledgement queued; committing the turn makes all of it durable and then gives the
//! acknowledgement out. Nothing is acknowledged out of order: a sender whose name is still to be
//! looked up holds up those behind.

use std::collections::{BTreeSet, VecDeque};

use e2e_protocol::e2e::{Inbox, Kind, Me, Opened, OpenedMessage, Reject, RejectReason};
use e2e_protocol::ids::{Lane, Name, Number, Receipt, Sequence, Uid};
use e2e_protocol::limits::ENVELOPE_OFFSET;
use e2e_protocol::wire::session::Credit;
use e2e_protocol::wire::transfer::ResultCode;
use e2e_protocol::wire::{Notice, Routed};

use super::directory::{Question, Resolved};
use super::event::{End, Event};
use super::outbox::Answer;
use super::{Engine, Receiving, Turn};
use crate::state::{InboxItem, StateError};

pub(super) struct Mailbox {
    waiting: VecDeque<Delivery>,
    /// How many are still to be shown; `None`: all.
    wanted: Option<u64>,
    /// How many of those that waited at login did not come yet.
    queued: u64,
    /// Whether that the queue was read to its end has been acted upon.
    drained: bool,
    /// Contacts with whom a step may be due since something came from them.
    heard: BTreeSet<Name>,
}

struct Delivery {
    sequence: Sequence,
    what: What,
}

enum What {
    Message { from: Uid, envelope: Vec<u8> },
    Notice { id: (Lane, Number), answer: Answer },
}

impl Mailbox {
    pub(super) fn new(wanted: Option<u64>) -> Self {
        Self { waiting: VecDeque::new(), wanted, queued: 0, drained: false, heard: BTreeSet::new() }
    }

    /// The connection is gone: what was not acknowledged comes again.
    pub(super) fn reset(&mut self) {
        self.waiting.clear();
        self.drained = false;
    }

    /// Logged in; `queued` deliveries wait at the relay.
    pub(super) fn begin(&mut self, queued: u64) {
        self.queued = queued;
    }

    pub(super) fn has_enough(&self) -> bool {
        self.wanted == Some(0)
    }

    /// Takes out the next delivery, unless it is a message and none is wanted.
    fn next_wanted(&mut self, messages: bool) -> Option<Delivery> {
        let wants_messages = messages && !self.has_enough();
        let next = self.waiting.front()?;
        let is_wanted = wants_messages || matches!(next.what, What::Notice { .. });
        if is_wanted { self.waiting.pop_front() } else { None }
    }

    fn exceeds(&self, credit: Credit) -> bool {
        let bytes = self.waiting.iter().map(|delivery| match &delivery.what {
            What::Message { envelope, .. } => ENVELOPE_OFFSET + envelope.len(),
            What::Notice { .. } => Notice::FRAME_BYTES,
        });
        self.waiting.len() > credit.messages as usize || bytes.sum::<usize>() > credit.bytes as usize
    }

    pub(super) fn is_drained(&self) -> bool {
        self.queued == 0 && self.waiting.is_empty()
    }

    /// A message of this kind is shown: counts it, if it is one that a user waits for.
    pub(super) fn count_shown(&mut self, kind: Kind) {
        if let (Some(wanted), Kind::Text | Kind::Bytes) = (&mut self.wanted, kind) {
            *wanted = wanted.saturating_sub(1);
        }
    }
}

impl Engine {
    pub(super) fn receives_messages(&self) -> bool {
        self.config.receive == Receiving::Messages
    }

    pub(super) fn handle_deliver(
        &mut self,
        turn: &mut Turn<'_>,
        routed: &Routed<'_>,
    ) -> Result<(), StateError> {
        let what = What::Message { from: routed.routing.peer, envelope: routed.envelope().to_vec() };
        self.take_delivery(turn, Delivery { sequence: routed.routing.sequence, what })
    }

    /// The relay may deliver as much as it was given credit for: that is all that waits in memory.
    fn take_delivery(&mut self, turn: &mut Turn<'_>, delivery: Delivery) -> Result<(), StateError> {
        self.mailbox.waiting.push_back(delivery);
        if self.mailbox.exceeds(self.credit()) {
            turn.end(End::Protocol("the relay delivered more than it was given credit for".into()));
            return Ok(());
        }
        self.advance_mailbox(turn)
    }

    pub(super) fn handle_notice(&mut self, turn: &mut Turn<'_>, notice: &Notice) -> Result<(), StateError> {
        let answer = match notice.code {
            ResultCode::Collected => Answer::Collected(notice.receipt),
            _ => Answer::Expired,
        };
        let what = What::Notice { id: (notice.routing.lane, notice.routing.number), answer };
        self.take_delivery(turn, Delivery { sequence: notice.routing.sequence, what })
    }

    /// Takes what is delivered, as far as its senders are known and messages are wanted.
    pub(super) fn advance_mailbox(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        while let Some(delivery) = self.mailbox.next_wanted(self.receives_messages()) {
            let receipt = match &delivery.what {
                What::Notice { id, answer } => {
                    self.settle(turn, *id, *answer)?;
                    Receipt::ZERO
                }
                What::Message { from, envelope } => match self.resolve_sender(turn, *from)? {
                    Resolved::Name(name) => match self.open(turn, *from, &name, envelope)? {
                        Some(receipt) => receipt,
                        None => {
                            self.mailbox.waiting.push_front(delivery);
                            break;
                        }
                    },
                    Resolved::Gone => {
                        turn.event(Event::NotOpened { from: None, pin: None, reason: None });
                        Receipt::ZERO
                    }
                    Resolved::Asked => {
                        self.mailbox.waiting.push_front(delivery);
                        break;
                    }
                },
            };
            turn.acknowledge(delivery.sequence, receipt);
            self.mailbox.queued = self.mailbox.queued.saturating_sub(1);
        }
        while let Some(name) = self.mailbox.heard.pop_first() {
            if !self.step_with(turn, name)? {
                self.mailbox.heard.insert(name);
                break;
            }
        }
        if self.mailbox.is_drained() && !self.mailbox.drained && self.receives_messages() {
            self.mailbox.drained = true;
            let now_ms = turn.now_ms;
            let erased = turn.prekeys()?.0.queue_drained(now_ms);
            log::debug!("the queue is drained; old prekeys erased: {erased}");
        }
        Ok(())
    }

    /// Opens a message and keeps it; gives what is to be acknowledged, or nothing if it waits for what the
    /// directory says about its sender's key.
    fn open(
        &mut self,
        turn: &mut Turn<'_>,
        uid: Uid,
        from: &Name,
        envelope: &[u8],
    ) -> Result<Option<Receipt>, StateError> {
        let now_ms = turn.now_ms;
        let (peer, records, prekeys, rng) = turn.receiving(from)?;
        let Self { account, identity, preambles, .. } = self;
        let me = Me { name: &account.name, identity, profile: account.profile };
        let mut inbox = Inbox { me, prekeys, records, preambles };
        let opened = peer.decrypt(&mut inbox, envelope, now_ms, rng);
        let pin = peer.pin();
        match opened {
            Ok(Opened::Again(receipt)) => Ok(Some(receipt)),
            Ok(Opened::New(message)) => {
                let receipt = message.record.receipt;
                self.keep(turn, uid, from, message)?;
                Ok(Some(receipt))
            }
            Err(Reject { reason, .. }) => {
                // It proves nothing: what the directory shows decides, and a roll-over may lead to it.
                let is_changed = matches!(reason, RejectReason::KeyChanged(_));
                if is_changed && self.ask_once(turn, Question::RollOvers(*from)) {
                    return Ok(None);
                }
                turn.event(Event::NotOpened { from: Some(*from), pin, reason: Some(reason) });
                Ok(Some(Receipt::ZERO))
            }
        }
    }

    fn keep(
        &mut self,
        turn: &mut Turn<'_>,
        uid: Uid,
        from: &Name,
        message: OpenedMessage,
    ) -> Result<(), StateError> {
        let OpenedMessage { plaintext, known, record, missing } = message;
        turn.push_record(from, &record);
        self.mailbox.heard.insert(*from);
        // Only now: whoever sends what does not open can't make files.
        turn.remember_uid(from, uid)?;
        if missing > 0 {
            turn.event(Event::Missing { from: *from, count: missing });
        }
        if !known && plaintext.kind != Kind::Nothing {
            let key = self.lanes.next_inbox(turn)?;
            self.mailbox.count_shown(plaintext.kind);
            InboxItem { from: *from, plaintext: plaintext.clone() }.store(&mut turn.state, key);
            turn.event(Event::Message { key, from: *from, plaintext });
        }
        Ok(())
    }
}
