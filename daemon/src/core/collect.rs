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
        let mut expected = ack.first;
        for receipt in ack.receipts.iter() {
            let Some(delivery) = self.pop_delivery(id, slot, expected) else {
                return self.end(id, ErrorCode::BadAck, "not the oldest deliveries that wait for it");
            };
            if delivery.kind == Kind::Message {
                let Delivery { sender, lane, number, .. } = delivery;
                let message = Told { sender, recipient, lane, number };
                self.tell(&message, ResultCode::Collected, receipt);
            }
            expected = Sequence(expected.0.saturating_add(1));
        }
        self.skip_expired(slot);
        if let Some(active) = self.users.at(slot).and_then(|user| user.active.as_mut()) {
            active.mailbox.release(true, &mut self.pool);
        }
        self.touch(slot);
    }

    /// Takes the oldest delivery out, if it is the one with this sequence and this connection's.
    fn pop_delivery(&mut self, id: ConnId, slot: u32, sequence: Sequence) -> Option<Delivery> {
        self.skip_expired(slot);
        let user = self.users.at(slot).filter(|user| user.receiver == Some(id))?;
        let mailbox = user.mailbox()?;
        let oldest = mailbox.deliveries.front()?;
        if oldest.sequence != sequence || oldest.ring_end > mailbox.written_at {
            return None;
        }
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
