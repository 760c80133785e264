//! ACK: messages are durable at their recipient (spec/wire.md, section 6).
//!
//! Owns: moving a mailbox's `acked` cursor, and handing receipts to the senders.

use e2e_protocol::ids::{Lane, Number, Receipt, Sequence, Uid};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::transfer::{Ack, ResultCode};

use super::mailbox::{Delivery, Kind, Mailbox};
use super::send::{SendersLane, Told};
use super::{ConnId, Core};
use crate::reason::Reason;

/// Deliveries of one run: so many numbers are carried from a mailbox to a sender at once.
const RUN_MAX: usize = 64;

/// The oldest deliveries of a mailbox, as far as they are of one kind and one lane: their sender is looked up once.
struct Run {
    kind: Kind,
    sender: Uid,
    lane: Lane,
    numbers: [Number; RUN_MAX],
    len: usize,
    bytes: u64,
}

impl Core {
    pub(super) fn handle_ack(&mut self, id: ConnId, slot: u32, ack: &Ack<'_>) {
        let recipient = self.uid(slot);
        if !self.is_oldest(id, slot, ack) {
            return self.end(id, ErrorCode::BadAck, "not the oldest deliveries that wait for it");
        }
        let mut receipts = ack.receipts.iter();
        while receipts.len() > 0
            && let Some(run) = self.take_run(slot, receipts.len())
        {
            // Nobody acknowledges what expired.
            if run.kind.is_expired() {
                continue;
            }
            let results = run.numbers.into_iter().zip(receipts.by_ref()).take(run.len);
            if run.kind == Kind::Message {
                let mut rejected = 0;
                let results =
                    results.inspect(|(_, receipt)| rejected += u64::from(*receipt == Receipt::ZERO));
                let lane = SendersLane { sender: run.sender, recipient, lane: run.lane };
                self.tell_all(lane, ResultCode::Collected, results);
                let totals = &mut self.counters.totals;
                totals.rejected += rejected;
                totals.collected += run.len as u64 - rejected;
            } else {
                results.for_each(drop);
            }
        }
        self.skip_expired(slot);
        if let Some(active) = self.users.at(slot).and_then(|user| user.active.as_mut()) {
            active.mailbox.release(true, &mut self.pool);
        }
        self.touch(slot);
    }

    /// Whether an ACK names the oldest deliveries on this connection, all of them written: it counts whole or not at all.
    fn is_oldest(&mut self, id: ConnId, slot: u32, ack: &Ack<'_>) -> bool {
        let Some(user) = self.users.at(slot).filter(|user| user.receiver == Some(id)) else { return false };
        let Some(mailbox) = user.mailbox() else { return false };
        let written_at = mailbox.written_at;
        let mut waiting = mailbox.deliveries.iter().filter(|delivery| !delivery.kind.is_expired());
        let mut expected = Some(ack.first);
        (0..ack.receipts.len()).all(|_| {
            let fits = waiting
                .next()
                .is_some_and(|next| Some(next.sequence) == expected && next.ring_end <= written_at);
            expected = expected.and_then(|sequence| sequence.0.checked_add(1)).map(Sequence);
            fits
        })
    }

    /// Takes up to `messages_max` deliveries out of a mailbox, the oldest ones; at least one, if there is one.
    fn take_run(&mut self, slot: u32, messages_max: usize) -> Option<Run> {
        let run = self.with_mailbox(slot, |mailbox| mailbox.take_run(messages_max))??;
        if run.kind.is_charged() {
            self.users.give_back(run.sender, run.bytes);
        }
        Some(run)
    }

    /// Takes out what expired and stands at the front: nobody will acknowledge it.
    pub(super) fn skip_expired(&mut self, slot: u32) {
        let is_next =
            |mailbox: &Mailbox| mailbox.deliveries.front().is_some_and(|next| next.kind.is_expired());
        while self.users.mailbox(slot).is_some_and(is_next) {
            self.take_run(slot, RUN_MAX);
        }
    }

    /// Tells the store, once a turn, how far mailboxes are acknowledged.
    pub(super) fn say_acked(&mut self) {
        while let Some(slot) = self.to_say_acked.pop() {
            let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { continue };
            if std::mem::take(&mut mailbox.acked_unsaid) {
                let request = crate::store::Request::Acked {
                    slot,
                    acked: mailbox.acked,
                    messages_left: mailbox.stored_messages,
                    bytes_left: mailbox.stored_bytes,
                };
                self.actions.push_back(super::Action::Store(request));
            }
        }
    }

    /// What became of an expired message, told to its sender.
    pub(super) fn tell_expired(&mut self, slot: u32, delivery: &Delivery) {
        self.counters.count(Reason::MessageExpired);
        let recipient = self.uid(slot);
        let Delivery { sender, lane, number, .. } = *delivery;
        self.tell(&Told { sender, recipient, lane, number }, ResultCode::Expired, Receipt::ZERO);
    }

    /// Nobody is told of a notice whose time ran out.
    pub(super) fn note_notice_expired(&mut self, slot: u32, delivery: &Delivery) {
        self.counters.count(Reason::NoticeExpired);
        log::warn!("{}: sequence {} of slot {slot}", Reason::NoticeExpired, delivery.sequence.0);
    }
}

impl Mailbox {
    fn take_run(&mut self, messages_max: usize) -> Option<Run> {
        let Delivery { kind, sender, lane, .. } = *self.deliveries.front()?;
        let mut run = Run { kind, sender, lane, numbers: [Number(0); RUN_MAX], len: 0, bytes: 0 };
        for number in run.numbers.iter_mut().take(messages_max) {
            let is_of_run = |next: &Delivery| next.kind == kind && next.sender == sender && next.lane == lane;
            let Some(delivery) = self.deliveries.front().copied().filter(is_of_run) else { break };
            self.deliveries.pop_front();
            self.acknowledge(&delivery);
            *number = delivery.number;
            run.len += 1;
            run.bytes += u64::from(delivery.frame_bytes);
        }
        if kind.is_charged() {
            self.shares.give_back(sender, run.len as u64, run.bytes);
        }
        Some(run)
    }
}
