//! From a mailbox to its receiving connection (spec/wire.md, section 6).
//!
//! Owns: what is offered next and whether the credit reaches, reading a backlog from the store, and
//! what a host writes to a socket ([`Core::gather`]). A live message goes from the ring to the socket
//! as it lies; a backlog goes through the connection's output.

use std::io::IoSlice;

use e2e_protocol::ids::Sequence;
use e2e_protocol::limits::ENVELOPE_OFFSET;
use e2e_protocol::wire::routed::{frame_bytes_at, routing_at};
use e2e_protocol::wire::session::Credit;
use e2e_protocol::wire::{FrameType, RoutedMut, Routing};

use super::connection::Phase;
use super::expiry::expires_ms;
use super::mailbox::{Delivery, Kind, Mailbox, Replay};
use super::moment::Moment;
use super::timers::Timer;
use super::{Action, ConnId, Core};
use crate::store::{Chunk, Request, StoreErrorKind};

/// What the next frame of a backlog came to.
enum Step {
    /// It was offered, or there was no need to.
    Done,
    /// Its time had run out.
    Expired(Delivery),
    /// Credit or room is used up.
    Wait,
    /// There is none left.
    End,
}

impl Core {
    /// Looks after a mailbox that changed: offers what can be offered, stores what has to be.
    pub(super) fn settle_mailbox(&mut self, slot: u32) {
        let Some(user) = self.users.at(slot) else { return };
        let receiver = user.receiver;
        if let Some(id) = receiver {
            self.offer(slot, id);
        }
        if receiver.is_none() || self.stopping.is_some() {
            self.queue_spill(slot);
        }
        let tight = self.pool.is_tight();
        let ring_bytes_max = self.limits.ring_bytes_per_mailbox / 2;
        let ack_wait_ms = self.limits.ack_wait_ms;
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        if mailbox.acked_unsaid {
            self.to_say_acked.push(slot);
        }
        if mailbox.messages == 0 && !mailbox.shares.is_empty() {
            // What was counted for an append that failed, or before the relay started for what was acknowledged.
            self.drain_shares(slot);
        }
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        let unsafe_bytes = mailbox.unsafe_bytes();
        if receiver.is_some() && unsafe_bytes > 0 {
            if !std::mem::replace(&mut mailbox.ack_wait_set, true) {
                self.timers.set(self.now.monotonic_ms + ack_wait_ms, Timer::AckWait(slot));
            }
            if unsafe_bytes > ring_bytes_max || tight {
                self.queue_spill(slot);
            }
        }
    }

    /// Offers to the receiving connection what its credit reaches.
    fn offer(&mut self, slot: u32, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        let Phase::Ready { credit: Some(credit), .. } = connection.phase else { return };
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        if mailbox.is_behind() {
            self.replay(slot, id, credit);
            let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
            if mailbox.is_behind() {
                return;
            }
        }
        let offer_bytes = self.limits.offer_bytes;
        let present = self.users.mailbox(slot).map_or(0, |mailbox| mailbox.deliveries.len());
        let deliveries_max = self.deliveries_max(present);
        let offered =
            self.with_mailbox(slot, |mailbox| mailbox.offer_ring(credit, deliveries_max, offer_bytes));
        let Some((messages, waits)) = offered else { return };
        self.counters.totals.delivered += messages;
        if waits {
            self.flush_later(id);
        }
    }

    /// Goes on with a backlog.
    fn replay(&mut self, slot: u32, id: ConnId, credit: Credit) {
        loop {
            match self.replay_step(slot, id, credit) {
                Step::Done => {}
                Step::Expired(delivery) => self.expire(slot, delivery),
                Step::Wait => return self.yield_replay(slot),
                Step::End => break,
            }
        }
        let token = self.next_token + 1;
        let bytes_max = self.limits.replay_bytes;
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        match mailbox.replay {
            Replay::Asked { .. } | Replay::Failed => return,
            Replay::Loaded { after, .. } if after == mailbox.offered && mailbox.is_behind() => {
                log::error!("a backlog holds nothing that can be read: slot {slot}");
                return self.reread_later(slot);
            }
            Replay::Idle | Replay::Loaded { .. } => {}
        }
        if !mailbox.is_behind() {
            mailbox.forget_missing(&mut self.counters.waiting);
        }
        let (is_behind, last, after) = (mailbox.is_behind(), mailbox.durable, mailbox.offered);
        // Nothing is read that could not be offered: an acknowledgement comes first.
        let reaches = credit_reaches(&mailbox.deliveries, mailbox.offered_bytes, credit, ENVELOPE_OFFSET + 1)
            || mailbox.deliveries.is_empty();
        self.set_replay(slot, Replay::Idle);
        if is_behind && reaches && self.may_replay(slot) {
            self.set_replay(slot, Replay::Asked { token, last });
            self.next_token = token;
            self.actions.push_back(Action::Store(Request::ReadBacklog { slot, after, bytes_max, token }));
        }
    }

    /// Offers one frame of a loaded backlog.
    fn replay_step(&mut self, slot: u32, id: ConnId, credit: Credit) -> Step {
        // A backlog leaves room for results: because of it alone nobody is read from no more.
        let (now, output_bytes_max) = (self.now, self.limits.output_bytes_max / 2);
        let expired_ahead_max = self.limits.expired_ahead_max;
        let present = self.users.mailbox(slot).map_or(0, |mailbox| mailbox.deliveries.len());
        let deliveries_max = self.deliveries_max(present);
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return Step::End };
        let Replay::Loaded { bytes, at, .. } = &mut mailbox.replay else { return Step::End };
        let rest = bytes.get(*at..).unwrap_or_default();
        let frame = frame_bytes_at(rest).and_then(|count| rest.get(..count));
        let Some((frame, (frame_type, routing))) = frame.and_then(|f| Some((f, routing_at(f)?))) else {
            return Step::End;
        };
        if routing.sequence > mailbox.released {
            // The ring has it.
            mailbox.offered = mailbox.offered.max(mailbox.released);
            return Step::End;
        }
        if routing.sequence <= mailbox.offered {
            *at += frame.len();
            return Step::Done;
        }
        let delivery = delivery_of(frame_type, &routing, frame.len(), 0);
        let is_gone = mailbox.expired.binary_search(&routing.sequence).is_ok();
        let seen = routing.sequence <= mailbox.offered_before;
        if is_gone || (!seen && expires_ms(&routing) <= now.relay_ms) {
            if !is_gone && present > 0 && mailbox.expired.len() >= expired_ahead_max {
                return Step::Wait;
            }
            *at += frame.len();
            return Step::Expired(delivery);
        }
        let Some(connection) = self.connections.get_mut(id) else { return Step::Wait };
        let room = connection.output.len() < output_bytes_max;
        if !room
            || present >= deliveries_max
            || !credit_reaches(&mailbox.deliveries, mailbox.offered_bytes, credit, frame.len())
        {
            return Step::Wait;
        }
        *at += frame.len();
        let place = connection.output.push_frame(&mut self.outputs, frame);
        if seen && let Some(mut routed) = RoutedMut::new(place) {
            routed.mark_redelivered();
        }
        self.with_mailbox(slot, |mailbox| mailbox.note_offered(delivery));
        self.counters.totals.delivered += u64::from(delivery.kind == Kind::Message);
        self.flush_later(id);
        Step::Done
    }

    /// An expired message counts as delivered and acknowledged, in its turn. Its sender is told once.
    fn expire(&mut self, slot: u32, delivery: Delivery) {
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        let is_new = mailbox.note_expired(delivery.sequence);
        match delivery.kind {
            _ if !is_new => {}
            Kind::Message => self.tell_expired(slot, &delivery),
            _ => self.note_notice_expired(slot, &delivery),
        }
        let kind = if delivery.kind.is_charged() { Kind::Expired } else { Kind::ExpiredNotice };
        self.with_mailbox(slot, |mailbox| mailbox.note_offered(Delivery { kind, ..delivery }));
        self.skip_expired(slot);
        self.touch(slot);
    }

    pub(super) fn handle_backlog(
        &mut self,
        slot: u32,
        token: u64,
        result: Result<Vec<Chunk>, StoreErrorKind>,
    ) {
        if self.is_searched(slot, token, &result) {
            return;
        }
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        let last = match mailbox.replay {
            Replay::Asked { token: asked, last } if asked == token => last,
            _ => return,
        };
        match result {
            Ok(chunks) if chunks.is_empty() => self.pass_over(slot, last),
            Ok(chunks) => {
                let read_to = chunks.last().map_or(last, |chunk| chunk.last);
                let whole = self.check_backlog(slot, &chunks);
                let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
                if whole.last > Some(mailbox.offered) {
                    let after = mailbox.offered;
                    self.set_replay(slot, Replay::Loaded { bytes: whole.bytes, at: 0, after });
                } else {
                    self.pass_over(slot, last.min(read_to));
                }
            }
            Err(error) => {
                log::error!("a backlog could not be read: {error}");
                return self.reread_later(slot);
            }
        }
        self.touch(slot);
    }

    /// Nothing that can be offered is on the disk up to `last`: it is in the ring, was acknowledged, or is lost.
    fn pass_over(&mut self, slot: u32, last: Sequence) {
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        mailbox.offered = mailbox.offered.max(last);
        if !mailbox.is_behind() {
            mailbox.forget_missing(&mut self.counters.waiting);
        }
        self.set_replay(slot, Replay::Idle);
    }

    /// Asks for a backlog again after a while. Nobody else is harmed: whether the store takes messages
    /// shows when it is given some.
    pub(super) fn reread_later(&mut self, slot: u32) {
        self.set_replay(slot, Replay::Failed);
        self.to_reread.push(slot);
        self.timers.set(self.now.monotonic_ms + self.limits.store_retry_ms, Timer::StoreRetry);
    }

    /// Lets a backlog be asked for again that could not be read.
    pub(super) fn read_again(&mut self, slot: u32) {
        if let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox())
            && matches!(mailbox.replay, Replay::Failed)
        {
            self.set_replay(slot, Replay::Idle);
            self.touch(slot);
        }
    }

    /// Lets a connection write the rest of a frame, which leaves the ring, before anything else.
    pub(super) fn finish_frame(&mut self, id: ConnId, rest: &[u8]) {
        if let (false, Some(connection)) = (rest.is_empty(), self.connections.get_mut(id)) {
            connection.output.push_front(&mut self.outputs, rest);
            self.flush_later(id);
        }
    }

    /// Whether anything waits to be written to a connection.
    pub(super) fn has_output(&mut self, id: ConnId) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        let waits = connection.output.len() > 0;
        waits || self.receiving_mailbox(id).is_some_and(|mailbox| mailbox.written_at < mailbox.offered_at)
    }

    fn receiving_mailbox(&mut self, id: ConnId) -> Option<&mut Mailbox> {
        let slot = match self.connections.get(id)?.phase {
            Phase::Ready { slot, credit: Some(_) } => slot,
            _ => return None,
        };
        self.users.at(slot)?.mailbox()
    }

    /// What can be written to this connection now, in order; returns how many slices were filled.
    pub fn gather<'a>(&'a mut self, id: ConnId, slices: &mut [IoSlice<'a>]) -> usize {
        let has_output = self.has_output(id);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.announced &= has_output;
            connection.output.close_result();
        }
        let Some(connection) = self.connections.get(id) else { return 0 };
        let output = connection.output.ready();
        let mailbox = match connection.phase {
            Phase::Ready { slot, credit: Some(_) } => self.users.mailbox(slot),
            _ => None,
        };
        let ring_first = mailbox.is_some_and(|mailbox| mailbox.mid_write);
        let mut filled = 0;
        let put_output = |filled: &mut usize, slices: &mut [IoSlice<'a>]| {
            if let (false, Some(slot)) = (output.is_empty(), slices.get_mut(*filled)) {
                *slot = IoSlice::new(output);
                *filled += 1;
            }
        };
        if !ring_first {
            put_output(&mut filled, slices);
        }
        if let (Some(mailbox), Some(free)) = (mailbox, slices.get_mut(filled..)) {
            filled += mailbox.ring.gather(mailbox.written_at, mailbox.offered_at, free);
        }
        if ring_first {
            put_output(&mut filled, slices);
        }
        filled
    }

    /// The socket took `count` bytes of what was gathered.
    pub fn handle_written(&mut self, id: ConnId, count: usize) {
        let now_ms = self.now.monotonic_ms;
        let Some(connection) = self.connections.get_mut(id) else { return };
        if count > 0 {
            connection.progress = Moment::at(now_ms);
        }
        let output_bytes = connection.output.len();
        let receives = match connection.phase {
            Phase::Ready { slot, credit: Some(_) } => Some(slot),
            _ => None,
        };
        let active = receives.and_then(|slot| self.users.at(slot)).and_then(|user| user.active.as_mut());
        let Some(active) = active else {
            connection.output.consume(count.min(output_bytes), &mut self.outputs);
            return self.after_write(id, None);
        };
        let mailbox = &mut active.mailbox;
        let ring_bytes = usize::try_from(mailbox.offered_at - mailbox.written_at).unwrap_or(usize::MAX);
        let from_ring =
            if mailbox.mid_write { count.min(ring_bytes) } else { count.saturating_sub(output_bytes) };
        connection.output.consume(count - from_ring, &mut self.outputs);
        mailbox.written_at += from_ring as u64;
        mailbox.mid_write = mailbox.written_at < mailbox.offered_at && (mailbox.mid_write || from_ring > 0);
        mailbox.release(true, &mut self.pool);
        self.after_write(id, receives);
    }

    /// More may be offered, or the connection may be done, now that something was written.
    fn after_write(&mut self, id: ConnId, receives: Option<u32>) {
        if let Some(slot) = receives {
            self.offer(slot, id);
        }
        let waits = self.has_output(id);
        let slow_ms = self.now.monotonic_ms + self.limits.slow_reader_ms;
        let Some(connection) = self.connections.get_mut(id) else { return };
        if waits && !std::mem::replace(&mut connection.slow_reader_set, true) {
            self.timers.set(slow_ms, Timer::SlowReader(id));
        } else if !waits {
            connection.announced = false;
            self.flush(id);
        }
    }
}

pub(super) fn delivery_of(
    frame_type: FrameType,
    routing: &Routing,
    frame_bytes: usize,
    ring_end: u64,
) -> Delivery {
    Delivery {
        sequence: routing.sequence,
        sender: routing.peer,
        lane: routing.lane,
        number: routing.number,
        ring_end,
        frame_bytes: u32::try_from(frame_bytes).unwrap_or(u32::MAX),
        kind: if frame_type == FrameType::Notice { Kind::Notice } else { Kind::Message },
    }
}

fn credit_reaches(
    deliveries: &std::collections::VecDeque<Delivery>,
    offered_bytes: u64,
    credit: Credit,
    frame_bytes: usize,
) -> bool {
    deliveries.len() < credit.messages as usize && offered_bytes + frame_bytes as u64 <= credit.bytes.into()
}

impl Mailbox {
    fn note_offered(&mut self, delivery: Delivery) {
        self.offered = delivery.sequence;
        self.offered_bytes += u64::from(delivery.frame_bytes);
        self.deliveries.push_back(delivery);
    }

    /// Remembers that a message expired; returns whether that is new.
    fn note_expired(&mut self, sequence: Sequence) -> bool {
        match self.expired.binary_search(&sequence) {
            Ok(_) => false,
            Err(at) => {
                self.expired.insert(at, sequence);
                true
            }
        }
    }

    /// Takes a delivery out of the account: it was acknowledged, or counts as that. Its sender's share is the caller's to
    /// give back.
    pub(super) fn acknowledge(&mut self, delivery: &Delivery) {
        let frame_bytes = u64::from(delivery.frame_bytes);
        self.acked = delivery.sequence;
        self.offered_bytes = self.offered_bytes.saturating_sub(frame_bytes);
        self.safe_at = self.safe_at.max(delivery.ring_end);
        while self.expired.front().is_some_and(|sequence| *sequence <= delivery.sequence) {
            self.expired.pop_front();
        }
        self.forget(delivery.sequence, frame_bytes);
    }

    /// Offers frames of the ring, once those offered before are written, as far as the credit reaches;
    /// returns how many of them are messages, and whether there is something to write.
    fn offer_ring(&mut self, credit: Credit, deliveries_max: usize, offer_bytes: u64) -> (u64, bool) {
        if self.written_at < self.offered_at {
            return (0, true);
        }
        let mut messages = 0;
        let limit = self.offered_at + offer_bytes;
        while self.offered_at < self.ring.tail().min(limit) {
            let at = self.offered_at;
            let seen = self.ring.bytes_at(at);
            let Some((frame_bytes, (frame_type, routing))) = frame_bytes_at(seen).zip(routing_at(seen))
            else {
                debug_assert!(false, "a ring holds whole frames");
                break;
            };
            if self.deliveries.len() >= deliveries_max
                || !credit_reaches(&self.deliveries, self.offered_bytes, credit, frame_bytes)
            {
                break;
            }
            if routing.sequence <= self.offered_before
                && let Some(mut routed) = RoutedMut::new(self.ring.bytes_at_mut(at))
            {
                routed.mark_redelivered();
            }
            self.offered_at = at + frame_bytes as u64;
            self.note_offered(delivery_of(frame_type, &routing, frame_bytes, self.offered_at));
            messages += u64::from(frame_type == FrameType::Deliver);
        }
        (messages, self.written_at < self.offered_at)
    }

    /// Takes back what was offered and not begun to be written, since it lies on disk now and need not
    /// stay in memory. Returns the rest of a frame that is half written.
    pub(super) fn take_back_unwritten(&mut self) -> Vec<u8> {
        while let Some(delivery) = self.deliveries.back() {
            let start = delivery.ring_end.saturating_sub(delivery.frame_bytes.into());
            if delivery.ring_end == 0 || start < self.written_at {
                break;
            }
            self.offered_bytes = self.offered_bytes.saturating_sub(delivery.frame_bytes.into());
            self.offered = Sequence(delivery.sequence.0.saturating_sub(1));
            self.offered_at = start;
            self.deliveries.pop_back();
        }
        let count = usize::try_from(self.offered_at - self.written_at).unwrap_or(0);
        let rest = self.ring.bytes_at(self.written_at).get(..count).unwrap_or_default().to_vec();
        self.written_at = self.offered_at;
        self.mid_write = false;
        rest
    }
}

/// The frames from `from` to `to`, for telling their senders.
pub(super) fn frames_between(
    mailbox: &Mailbox,
    from: u64,
    to: u64,
) -> impl Iterator<Item = (u64, FrameType, Routing, u64)> + '_ {
    let mut at = from.max(mailbox.ring.head());
    std::iter::from_fn(move || {
        if at >= to {
            return None;
        }
        let bytes = mailbox.ring.bytes_at(at);
        let (frame_bytes, (frame_type, routing)) = frame_bytes_at(bytes).zip(routing_at(bytes))?;
        let start = at;
        at += frame_bytes as u64;
        Some((start, frame_type, routing, frame_bytes as u64))
    })
}
