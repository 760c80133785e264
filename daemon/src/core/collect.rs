//! ACK: messages are durable at their recipient (spec/wire.md, section 6).
//!
//! Owns: moving a mailbox's `acked` cursor, and handing receipts to the senders.

use e2e_protocol::ids::{Receipt, Sequence};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::transfer::{Ack, ResultCode};

use super::mailbox::{Delivery, Kind};
use super::send::Told;
use super::{ConnId, Core};

impl Core {
    pub(super) fn handle_ack(&mut self, id: ConnId, slot: u32, ack: &Ack<'_>) {
        let recipient = self.uid(slot);
        if !self.is_oldest(id, slot, ack) {
            return self.end(id, ErrorCode::BadAck, "not the oldest deliveries that wait for it");
        }
        for receipt in ack.receipts.iter() {
            let Some(delivery) = self.pop_delivery(slot) else { break };
            if delivery.kind == Kind::Message {
                let Delivery { sender, lane, number, .. } = delivery;
                let message = Told { sender, recipient, lane, number };
                self.tell(&message, ResultCode::Collected, receipt);
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

    /// Takes the oldest delivery out that waits for an acknowledgement.
    fn pop_delivery(&mut self, slot: u32) -> Option<Delivery> {
        self.skip_expired(slot);
        let delivery = self.with_mailbox(slot, |mailbox| {
            let delivery = mailbox.deliveries.pop_front()?;
            mailbox.acknowledge(&delivery);
            Some(delivery)
        })??;
        self.give_back(&delivery);
        Some(delivery)
    }

    /// Takes out what expired and stands at the front: nobody will acknowledge it.
    pub(super) fn skip_expired(&mut self, slot: u32) {
        loop {
            let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
            let Some(delivery) =
                mailbox.deliveries.front().filter(|delivery| delivery.kind.is_expired()).copied()
            else {
                return;
            };
            self.with_mailbox(slot, |mailbox| {
                mailbox.deliveries.pop_front();
                mailbox.acknowledge(&delivery);
            });
            self.give_back(&delivery);
        }
    }

    /// What left a mailbox waits no more.
    pub(super) fn give_back(&mut self, delivery: &Delivery) {
        if delivery.kind.is_charged() {
            self.users.give_back(delivery.sender, delivery.frame_bytes.into());
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
        let recipient = self.uid(slot);
        let Delivery { sender, lane, number, .. } = *delivery;
        self.tell(&Told { sender, recipient, lane, number }, ResultCode::Expired, Receipt::ZERO);
    }
}
