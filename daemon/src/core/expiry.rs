//! Messages whose time runs out while their recipient stays away (spec/wire.md, section 6).
//!
//! Owns: looking at mailboxes, a part of the table at a time, and letting go of the oldest stored messages whose time is
//! over, so that nothing lies on the disk for ever and each sender hears of it. What expires while somebody
//! receives is `deliver`'s. Must not know why a message was not collected.

use std::collections::HashMap;

use e2e_protocol::wire::Routing;
use e2e_protocol::wire::routed::{frame_bytes_at, routing_at};

use super::damage::whole_frames;
use super::deliver::delivery_of;
use super::mailbox::{Delivery, Kind, Mailbox};
use super::timers::Timer;
use super::{Action, Core};
use crate::reason::Reason;
use crate::store::{Chunk, Request, StoreErrorKind};

/// Where the search for messages whose time is over goes on, and which mailboxes are read for it.
#[derive(Debug, Default)]
pub(super) struct Search {
    hand: u32,
    /// How many names are still to be looked at before the next search begins.
    left: u32,
    /// By the token of the question.
    asked: HashMap<u64, u32>,
}

/// When a message's time is over, by the relay's clock.
pub(super) fn expires_ms(routing: &Routing) -> u64 {
    routing.time_ms.saturating_add(u64::from(routing.ttl_seconds) * 1_000)
}

impl Core {
    /// Begins with the next part of the table.
    pub(super) fn search_expired(&mut self) {
        self.timers.set(self.now.monotonic_ms + self.limits.expiry_interval_ms, Timer::Expiry);
        self.search.left = self.users.slots().min(self.limits.expiry_slots_max);
        self.go_on_searching();
    }

    /// Asks the store for the start of each mailbox of somebody away whose oldest message may have expired.
    fn go_on_searching(&mut self) {
        if self.store_is_failing() || self.stopping.is_some() {
            return;
        }
        let (slots, relay_ms) = (self.users.slots(), self.now.relay_ms);
        while self.search.left > 0 && self.search.asked.len() < self.limits.expiry_reads_max {
            self.search.left -= 1;
            let slot = self.search.hand % slots.max(1);
            self.search.hand = slot + 1;
            let Some(user) = self.users.at(slot).filter(|user| user.receiver.is_none()) else { continue };
            let is_due =
                |mailbox: &&mut Mailbox| mailbox.is_behind() && mailbox.oldest_expires_ms <= relay_ms;
            let Some(after) = user.mailbox().filter(is_due).map(|mailbox| mailbox.acked) else { continue };
            if self.search.asked.values().any(|asked| *asked == slot) {
                continue;
            }
            let token = self.token();
            let bytes_max = self.limits.replay_bytes;
            self.search.asked.insert(token, slot);
            self.actions.push_back(Action::Store(Request::ReadBacklog { slot, after, bytes_max, token }));
        }
    }

    /// Asks the store for the start of a mailbox of which everything is to expire. The answer brings the next question.
    pub(super) fn expire_all(&mut self, slot: u32) {
        let bytes_max = self.limits.replay_bytes;
        let is_asked = self.search.asked.values().any(|asked| *asked == slot);
        if self.store_is_failing() || is_asked || self.to_reread.contains(&slot) {
            return;
        }
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        if mailbox.is_spilling() {
            return;
        } else if !mailbox.is_behind() {
            // All that there is has gone; what is counted beyond that never came to the disk, or was lost on it.
            mailbox.forget_missing(&mut self.counters.waiting);
            return self.touch(slot);
        }
        let after = mailbox.acked;
        let token = self.token();
        self.search.asked.insert(token, slot);
        self.actions.push_back(Action::Store(Request::ReadBacklog { slot, after, bytes_max, token }));
    }

    /// Takes the answer to a question of the search; `false` if it was somebody else's.
    pub(super) fn is_searched(
        &mut self,
        slot: u32,
        token: u64,
        result: &Result<Vec<Chunk>, StoreErrorKind>,
    ) -> bool {
        if self.search.asked.remove(&token) != Some(slot) {
            return false;
        }
        match result {
            Ok(chunks) => self.expire_oldest(slot, chunks),
            Err(error) => {
                log::warn!("a mailbox could not be looked through for what expired: {error}");
                if self.is_emptying(slot) {
                    self.reread_later(slot);
                }
            }
        }
        self.go_on_searching();
        true
    }

    /// Lets go of what expired at the start of a mailbox.
    fn expire_oldest(&mut self, slot: u32, chunks: &[Chunk]) {
        let (relay_ms, is_emptying) = (self.now.relay_ms, self.is_emptying(slot));
        for chunk in chunks {
            let whole = whole_frames(chunk);
            if is_emptying {
                self.counters.count_all(Reason::StoredDamaged, whole.lost.into());
            }
            let mut rest = whole.bytes.as_slice();
            while let Some((count, (frame_type, routing))) = frame_bytes_at(rest).zip(routing_at(rest)) {
                rest = rest.get(count..).unwrap_or_default();
                // Who came meanwhile is told what expired by `deliver`.
                let Some(user) = self.users.at(slot).filter(|user| user.receiver.is_none()) else { return };
                let Some(mailbox) = user.mailbox() else { return };
                if routing.sequence <= mailbox.acked {
                    continue;
                }
                let is_next = routing.sequence <= mailbox.durable;
                let is_over = is_emptying
                    || routing.sequence > mailbox.offered_before && expires_ms(&routing) <= relay_ms;
                if !is_next || !is_over {
                    mailbox.oldest_expires_ms = expires_ms(&routing);
                    return;
                }
                self.expire_one(slot, &delivery_of(frame_type, &routing, count, 0));
            }
        }
        if is_emptying && let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) {
            // Whatever else was read is damaged; where nothing was, there is nothing.
            let read_to = chunks.last().map_or(mailbox.durable, |chunk| chunk.last);
            mailbox.acked = mailbox.acked.max(read_to);
            mailbox.offered = mailbox.offered.max(read_to);
            mailbox.acked_unsaid = true;
            self.touch(slot);
        }
    }

    fn expire_one(&mut self, slot: u32, delivery: &Delivery) {
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        let was_told = mailbox.expired.binary_search(&delivery.sequence).is_ok();
        self.with_mailbox(slot, |mailbox| {
            mailbox.acknowledge(delivery);
            if delivery.kind.is_charged() {
                mailbox.shares.give_back(delivery.sender, 1, delivery.frame_bytes.into());
            }
            mailbox.offered = mailbox.offered.max(delivery.sequence);
        });
        if delivery.kind.is_charged() {
            self.users.give_back(delivery.sender, delivery.frame_bytes.into());
        }
        match delivery.kind {
            _ if was_told => {}
            Kind::Message => self.tell_expired(slot, delivery),
            _ => self.note_notice_expired(slot, delivery),
        }
        self.touch(slot);
    }
}
