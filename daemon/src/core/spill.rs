//! From a ring to the store, and STORED to the senders (spec/wire.md, section 5).
//!
//! Owns: what is stored and when: at once for a user who doesn't receive; for one who does, what is
//! not acknowledged in time or is too much for memory. One append per mailbox is under way at a time,
//! so that a failure has nothing stored behind it.

use e2e_protocol::ids::{Receipt, Sequence, Uid};
use e2e_protocol::wire::routed::routing_at;
use e2e_protocol::wire::transfer::ResultCode;
use e2e_protocol::wire::{ErrorCode, FrameType};

use super::counters::Counters;
use super::deliver::frames_between;
use super::mailbox::{Mailbox, Spill};
use super::ring::Pool;
use super::send::Told;
use super::timers::Timer;
use super::{Action, Core};
use crate::reason::Reason;
use crate::store::{Request, StoreErrorKind};

impl Core {
    /// Notes that a mailbox has something for the store.
    pub(super) fn queue_spill(&mut self, slot: u32) {
        if let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox())
            && mailbox.unsafe_bytes() > 0
            && mailbox.spill.is_none()
            && !std::mem::replace(&mut mailbox.spill_queued, true)
        {
            self.to_spill.push_back(slot);
        }
    }

    /// Gives the store what waits for it, as far as it may be behind. While it has something to commit, what comes is
    /// collected: then one commit takes all that came during another, and not a piece of each mailbox at a time.
    pub(super) fn run_spills(&mut self) {
        if self.store_in_flight_bytes > 0 {
            return;
        }
        let append_bytes_max = self.limits.append_bytes_max;
        while self.store_in_flight_bytes < self.limits.store_in_flight_bytes_max && !self.store_is_failing() {
            let Some(slot) = self.to_spill.pop_front() else { return };
            let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { continue };
            mailbox.spill_queued = false;
            let waiting = mailbox.waiting();
            if let Some(request) = mailbox.spill(slot, append_bytes_max) {
                self.counters.waiting.change(waiting, mailbox.waiting());
                self.store_in_flight_bytes += request.payload_bytes();
                self.actions.push_back(Action::Store(request));
            }
        }
    }

    /// What was given to the store is on disk.
    pub(super) fn handle_appended(&mut self, slot: u32, last: Sequence) {
        let uid = self.uid(slot);
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        let Some(spill) = mailbox.spill.take_if(|spill| spill.last == last) else { return };
        mailbox.durable = spill.last;
        self.store_in_flight_bytes -= spill.bytes();
        // After UNCERTAIN only COLLECTED or EXPIRED follows: the same id may be on its way again.
        let from = spill.start.max(mailbox.uncertain_at);
        let stored = messages_between(mailbox, uid, from, spill.end);
        self.counters.totals.stored += stored.len() as u64;
        for told in stored {
            self.tell(&told, ResultCode::Stored, Receipt::ZERO);
        }
        let Some(user) = self.users.at(slot) else { return };
        let receiver = user.receiver;
        let Some(mailbox) = user.mailbox() else { return };
        mailbox.safe_at = mailbox.safe_at.max(spill.end);
        if mailbox.recount && !mailbox.is_behind() {
            mailbox.forget_missing(&mut self.counters.waiting);
        }
        // A reader who is slower than the disk gets the rest from there: memory is for the others.
        let rest = if receiver.is_some() && mailbox.written_at < mailbox.safe_at {
            self.with_mailbox(slot, Mailbox::take_back_unwritten).unwrap_or_default()
        } else {
            Vec::new()
        };
        if let Some(id) = receiver {
            self.finish_frame(id, &rest);
        }
        if let Some(active) = self.users.at(slot).and_then(|user| user.active.as_mut()) {
            // What is safe need not wait for the socket: it is written, or will be read back.
            active.mailbox.release(false, &mut self.pool);
        }
        self.touch(slot);
    }

    /// The store failed: senders are told, and what nobody was sent is let go.
    pub(super) fn handle_append_failed(&mut self, slot: u32, first: Sequence, error: StoreErrorKind) {
        let uid = self.uid(slot);
        let Some(user) = self.users.at(slot) else { return };
        let receiving = user.receiver.is_some();
        let Some(mailbox) = user.mailbox() else { return };
        let Some(spill) = mailbox.spill.take_if(|spill| spill.first == first) else { return };
        log::error!("messages could not be stored: {error}");
        let waiting = mailbox.waiting();
        // What was counted as stored, and is not acknowledged since, is not.
        let failed = frames_between(mailbox, spill.start.max(mailbox.safe_at), spill.end)
            .fold((0, 0), |(messages, bytes), (_, _, _, frame_bytes)| (messages + 1, bytes + frame_bytes));
        mailbox.stored_messages = mailbox.stored_messages.saturating_sub(failed.0);
        mailbox.stored_bytes = mailbox.stored_bytes.saturating_sub(failed.1);
        // Forwarded, now or before, or given to the disk, which may have it after all: it may arrive.
        // Else nobody has it.
        let uncertain_to = spill.last.max(mailbox.offered).max(mailbox.offered_before);
        let said_at = mailbox.uncertain_at;
        let tail = mailbox.ring.tail();
        let uncertain_at = frames_between(mailbox, said_at, tail)
            .take_while(|(_, _, routing, _)| routing.sequence <= uncertain_to)
            .last()
            .map_or(said_at, |(at, _, _, frame_bytes)| at + frame_bytes);
        let uncertain = messages_between(mailbox, uid, said_at, uncertain_at);
        let refused = messages_between(mailbox, uid, uncertain_at, tail);
        mailbox.uncertain_at = uncertain_at;
        let shares = mailbox.shares.len();
        let let_go = if receiving { Vec::new() } else { mailbox.let_go(&mut self.pool, &mut self.counters) };
        self.counters.waiting.change(waiting, mailbox.waiting());
        self.budgets.shares -= shares - mailbox.shares.len();
        for (sender, bytes) in let_go {
            self.users.give_back(sender, bytes);
        }
        self.store_in_flight_bytes -= spill.bytes();
        self.store_failed();
        self.counters.count_all(Reason::Uncertain, uncertain.len() as u64);
        for told in uncertain {
            self.tell(&told, ResultCode::Uncertain, Receipt::ZERO);
        }
        if !receiving {
            self.count_refused(ErrorCode::StoreFailed, refused.len() as u64);
            for told in refused {
                self.tell(&told, ResultCode::Refused, Receipt::ZERO);
            }
        }
        self.touch(slot);
    }

    /// Stores what was forwarded and is not acknowledged for too long.
    pub(super) fn check_ack_wait(&mut self, slot: u32) {
        let (now, ack_wait_ms) = (self.now, self.limits.ack_wait_ms);
        let retry_ms = if self.store_is_failing() { self.limits.store_retry_ms } else { 0 };
        let Some(user) = self.users.at(slot) else { return };
        let receiving = user.receiver.is_some();
        let Some(mailbox) = user.mailbox() else { return };
        mailbox.ack_wait_set = false;
        if !receiving || mailbox.unsafe_bytes() == 0 {
            return;
        }
        let oldest = routing_at(mailbox.ring.bytes_at(mailbox.safe_at.max(mailbox.ring.head())));
        let age_ms = oldest.map_or(0, |(_, routing)| now.relay_ms.saturating_sub(routing.time_ms));
        let left_ms = if age_ms < ack_wait_ms { ack_wait_ms - age_ms } else { ack_wait_ms.max(retry_ms) };
        mailbox.ack_wait_set = true;
        self.timers.set(now.monotonic_ms + left_ms, Timer::AckWait(slot));
        if age_ms >= ack_wait_ms {
            self.queue_spill(slot);
        }
    }
}

impl Spill {
    fn bytes(&self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or(0)
    }
}

impl Mailbox {
    /// The oldest part of the ring that is not safe, for the store; `None` if there is none, or some of
    /// it is under way.
    fn spill(&mut self, slot: u32, bytes_max: usize) -> Option<Request> {
        if self.spill.is_some() {
            return None;
        }
        let start = self.safe_at.max(self.ring.head());
        let limit = self.ring.tail().min(start + bytes_max as u64);
        let mut spill = Spill { first: Sequence(0), last: Sequence(0), start, end: start };
        let mut messages = 0;
        for (at, _, routing, frame_bytes) in frames_between(self, start, limit) {
            if at + frame_bytes > limit && messages > 0 {
                break;
            }
            if messages == 0 {
                spill.first = routing.sequence;
            }
            spill.last = routing.sequence;
            spill.end = at + frame_bytes;
            messages += 1;
        }
        if messages == 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(spill.bytes());
        let mut at = spill.start;
        while at < spill.end {
            let part = self.ring.bytes_at(at);
            let count = part.len().min(spill.bytes() - bytes.len());
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(part.get(..count).unwrap_or_default());
            at += count as u64;
        }
        debug_assert_eq!(bytes.len(), spill.bytes(), "a spill is whole frames of the ring");
        self.spill = Some(spill);
        self.stored_messages += u64::from(messages);
        self.stored_bytes += bytes.len() as u64;
        Some(Request::Append { slot, first: spill.first, last: spill.last, messages, bytes })
    }

    /// Lets go of what is in memory only: nobody receives, and it could not be stored. Returns whose it was.
    fn let_go(&mut self, pool: &mut Pool, counters: &mut Counters) -> Vec<(Uid, u64)> {
        let from = self.safe_at.max(self.ring.head());
        let (mut messages, mut bytes, mut whose) = (0, 0, Vec::new());
        for (at, frame_type, routing, frame_bytes) in frames_between(self, from, self.ring.tail()) {
            messages += 1;
            bytes += frame_bytes;
            if frame_type == FrameType::Deliver {
                whose.push((routing.peer, frame_bytes));
            }
            let reason = if frame_type == FrameType::Notice {
                Reason::NoticeStoreFailed
            } else if at < self.uncertain_at {
                Reason::UncertainLetGo
            } else {
                continue;
            };
            counters.count(reason);
            log::warn!("{reason}: sequence {}", routing.sequence.0);
        }
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.ring.truncate(from, pool);
        self.offered_at = self.offered_at.min(from);
        self.written_at = self.written_at.min(from);
        self.uncertain_at = self.uncertain_at.min(from);
        for (sender, bytes) in &whose {
            self.shares.give_back(*sender, 1, *bytes);
        }
        whose
    }
}

fn told(recipient: Uid, routing: &e2e_protocol::wire::Routing) -> Told {
    Told { sender: routing.peer, recipient, lane: routing.lane, number: routing.number }
}

/// The messages between two positions that are not acknowledged, as their senders know them.
fn messages_between(mailbox: &Mailbox, recipient: Uid, from: u64, to: u64) -> Vec<Told> {
    frames_between(mailbox, from.max(mailbox.safe_at), to)
        .filter(|(_, frame_type, _, _)| *frame_type == FrameType::Deliver)
        .map(|(_, _, routing, _)| told(recipient, &routing))
        .collect()
}
