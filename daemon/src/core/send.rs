//! SEND: from a sender's connection into the recipient's ring (spec/wire.md, section 5).
//!
//! Owns: whether a message is taken, and its sequence. What becomes of it then: `deliver`, `spill`.

use e2e_protocol::ids::{Lane, Number, Receipt, Sequence, Uid};
use e2e_protocol::limits::{ENVELOPE_OFFSET, TTL_SECONDS_MAX};
use e2e_protocol::wire::routed::routing_at;
use e2e_protocol::wire::transfer::{ResultCode, ResultKind};
use e2e_protocol::wire::{ErrorCode, Notice, Routed, RoutedMut, Routing};

use super::expiry::expires_ms;
use super::lane::{self, Seen};
use super::{ConnId, Core, retry_after_seconds};
use crate::reason::Reason;

/// How many users one SEND looks at for lanes to forget; the next SEND goes on from there.
const LANE_SEARCH_SLOTS: u32 = 64;

/// What becomes of a SEND.
enum Taken {
    /// It is in the recipient's ring.
    Accepted,
    /// It was here before, and this is known of it.
    Repeated(Seen),
}

impl Core {
    pub(super) fn handle_send(&mut self, id: ConnId, slot: u32, message: &Routed<'_>) {
        let Routing { lane, number, .. } = message.routing;
        let taken = self.take(id, slot, message);
        let totals = &mut self.counters.totals;
        match &taken {
            Ok(Taken::Accepted) => {
                totals.accepted += 1;
                totals.accepted_bytes += message.envelope().len() as u64;
            }
            Ok(Taken::Repeated(_)) => totals.repeated += 1,
            Err(code) => self.count_refused(*code, 1),
        }
        let kind = match taken {
            // The result is said when it comes.
            Ok(Taken::Accepted | Taken::Repeated(Seen::New | Seen::Uncertain | Seen::Pending)) => return,
            Ok(Taken::Repeated(Seen::Stored | Seen::Done)) if self.policy.presence_private => {
                result_kind(lane, ResultCode::Accepted, None)
            }
            Ok(Taken::Repeated(Seen::Stored)) => result_kind(lane, ResultCode::Stored, None),
            Ok(Taken::Repeated(Seen::Done)) => result_kind(lane, ResultCode::Done, None),
            Err(code) => result_kind(lane, ResultCode::Refused, Some(code)),
        };
        self.say(id, kind, number, Receipt::ZERO);
        self.flush_later(id);
    }

    fn take(&mut self, id: ConnId, slot: u32, message: &Routed<'_>) -> Result<Taken, ErrorCode> {
        let Routing { peer: recipient, lane, number, ttl_seconds, .. } = message.routing;
        let position = self.open_lane(id, slot, lane).ok_or(ErrorCode::Busy)?;
        let Some(user) = self.users.at(slot) else { return Err(ErrorCode::Busy) };
        let (sender, waiting_bytes) = (Uid::new(slot, user.generation), user.waiting_bytes);
        // What was taken under an id is answered first, whatever became of its recipient since.
        let digest = lane::digest(message.body_crc, recipient);
        match user.lane(position).ok_or(ErrorCode::Busy)?.admission(number, digest) {
            lane::Admission::New => {}
            lane::Admission::Repeated(seen) => return Ok(Taken::Repeated(seen)),
            lane::Admission::Conflict => return Err(ErrorCode::IdConflict),
            lane::Admission::TooOld => return Err(ErrorCode::IdTooOld),
        }
        let user = self.users.at(recipient.slot()).filter(|user| user.registered && recipient != Uid::NONE);
        let Some(user) = user else { return Err(ErrorCode::UnknownRecipient) };
        if user.generation != recipient.generation() {
            return Err(ErrorCode::KeyChanged);
        }
        let receiving = user.receiver.is_some();
        if self.blocks.holds(recipient.slot(), slot) {
            return Err(ErrorCode::Blocked);
        }
        if self.is_changing_hands(recipient.slot()) {
            return Err(ErrorCode::Busy);
        }
        if !receiving && !self.takes_new() {
            return Err(ErrorCode::StoreFailed);
        }
        let relay_ms = self.now.relay_ms;
        let ttl_seconds = if ttl_seconds == 0 { TTL_SECONDS_MAX } else { ttl_seconds };
        let frame = message.frame();
        let frame_bytes = frame.len() as u64;
        if waiting_bytes + frame_bytes > self.limits.sender_bytes_max {
            return Err(ErrorCode::QuotaFull);
        }
        self.put(recipient, Some(sender), frame, |frame, sequence| {
            frame.make_deliver(sender, sequence, relay_ms, ttl_seconds);
        })?;
        if let Some(user) = self.users.at(slot) {
            user.waiting_bytes += frame_bytes;
            if let Some(lane) = user.lane(position) {
                lane.accept(number, digest);
            }
        }
        Ok(Taken::Accepted)
    }

    /// Where the sender's lane is, made if need be. `None`: no more lanes can be remembered.
    fn open_lane(&mut self, id: ConnId, slot: u32, lane: Lane) -> Option<usize> {
        let now_ms = self.now.monotonic_ms;
        if let Some(known) = self.users.at(slot)?.activate().lanes.reopen(lane, id, now_ms) {
            return Some(known);
        }
        if self.lanes >= self.limits.lanes_max {
            self.forget_lanes(slot);
        }
        let room = self.lanes < self.limits.lanes_max;
        let per_name_max = self.limits.lanes_per_name_max;
        let lanes = &mut self.users.at(slot)?.activate().lanes;
        let may_grow = lanes.len() < per_name_max && (room || lanes.len() == 0);
        self.lanes += usize::from(may_grow);
        let opened = lanes.open(lane, id, now_ms, may_grow);
        if opened.is_some() && !may_grow {
            self.counters.count(Reason::LaneForgotten);
        }
        opened
    }

    /// Forgets the lanes of the next user who is not connected, if one is near.
    fn forget_lanes(&mut self, but: u32) {
        for _ in 0..self.users.slots().min(LANE_SEARCH_SLOTS) {
            self.lane_hand = (self.lane_hand + 1) % self.users.slots().max(1);
            let hand = self.lane_hand;
            if let Some(user) = self.users.at(hand).filter(|user| hand != but && user.connections == 0) {
                let forgotten = user.deactivate();
                self.lanes -= forgotten;
                self.counters.count_all(Reason::LaneForgotten, forgotten as u64);
                if forgotten > 0 {
                    return;
                }
            }
        }
    }

    /// Puts a frame at the end of a mailbox; `finish` makes it what its recipient gets. It counts for `charged`, if it is a
    /// message.
    fn put(
        &mut self,
        recipient: Uid,
        charged: Option<Uid>,
        frame: &[u8],
        finish: impl FnOnce(&mut RoutedMut<'_>, Sequence),
    ) -> Result<(), ErrorCode> {
        let frame_bytes = frame.len() as u64;
        let Some(user) = self.users.at(recipient.slot()) else { return Err(ErrorCode::UnknownRecipient) };
        let mailbox = &mut user.activate().mailbox;
        if let Some(sender) = charged {
            let limits = &self.limits;
            let share = mailbox.shares.of(sender);
            if share.messages >= limits.share_messages_max
                || share.bytes + frame_bytes > limits.share_bytes_max
            {
                return Err(ErrorCode::ShareFull);
            } else if share.messages == 0 && self.budgets.shares >= limits.shares_max {
                return Err(ErrorCode::Busy);
            }
        }
        if mailbox.messages >= self.limits.mailbox_messages_max
            || mailbox.bytes + frame_bytes > self.limits.mailbox_bytes_max
        {
            return Err(ErrorCode::MailboxFull);
        }
        if mailbox.unsafe_bytes() + frame_bytes > self.limits.ring_bytes_per_mailbox {
            return Err(ErrorCode::Busy);
        }
        let Some((head, rest)) = frame.split_first_chunk::<ENVELOPE_OFFSET>() else {
            return Err(ErrorCode::Busy);
        };
        let sequence = Sequence(mailbox.last.0 + 1);
        // Finished before it is copied: to look at it where it lies would wait until the processor has written all of
        // the envelope to its place.
        let mut head = *head;
        if let Some(mut routed) = RoutedMut::new(&mut head) {
            finish(&mut routed, sequence);
        }
        mailbox.ring.push(&head, rest, &mut self.pool).map_err(|_| ErrorCode::Busy)?;
        mailbox.last = sequence;
        if mailbox.messages == 0 {
            mailbox.oldest_expires_ms = routing_at(&head).map_or(0, |(_, routing)| expires_ms(&routing));
        }
        mailbox.messages += 1;
        mailbox.bytes += frame_bytes;
        self.counters.waiting.messages += 1;
        self.counters.waiting.bytes += frame_bytes;
        if let Some(sender) = charged {
            let before = mailbox.shares.len();
            mailbox.shares.charge(sender, 1, frame_bytes);
            self.budgets.shares += mailbox.shares.len() - before;
        }
        if !std::mem::replace(&mut mailbox.touched, true) {
            self.touched.push(recipient.slot());
        }
        Ok(())
    }

    /// Tells a sender what became of a message.
    pub(super) fn tell(&mut self, message: &Told, code: ResultCode, receipt: Receipt) {
        let Told { sender, recipient, lane, number } = *message;
        let lane = SendersLane { sender, recipient, lane };
        self.tell_all(lane, code, std::iter::once((number, receipt)));
    }

    /// Tells a sender what became of messages, the same of each: on the connection that uses their lane, or, if that is
    /// gone and it matters, by notices in the sender's own mailbox.
    pub(super) fn tell_all(
        &mut self,
        lane: SendersLane,
        code: ResultCode,
        results: impl Iterator<Item = (Number, Receipt)>,
    ) {
        let sender = lane.sender;
        let is_late = matches!(code, ResultCode::Collected | ResultCode::Expired);
        let Some(user) = self.users.with_uid(sender) else {
            let reason = if is_late { Reason::NoticeKeyChanged } else { Reason::Unheard };
            let count = results.count();
            if is_late {
                log::warn!("{reason}: {count} notices for slot {}", sender.slot());
            }
            return self.counters.count_all(reason, count as u64);
        };
        let seen = match code {
            ResultCode::Collected | ResultCode::Done | ResultCode::Accepted => Seen::Done,
            ResultCode::Stored => Seen::Stored,
            ResultCode::Uncertain => Seen::Uncertain,
            ResultCode::Refused | ResultCode::Expired => Seen::New,
        };
        let lanes = user.active.as_mut().map(|active| &mut active.lanes);
        let known = lanes.and_then(|lanes| {
            let position = lanes.position(lane.lane)?;
            Some((position, lanes.at(position)?.connection))
        });
        // The connection that last used the lane, if it still is its sender's.
        let listener = known.map(|(_, id)| id).filter(|id| {
            self.connections.get(*id).is_some_and(|connection| connection.slot() == Some(sender.slot()))
        });
        let is_private = self.policy.presence_private;
        for (number, receipt) in results {
            let before = known.and_then(|(position, _)| {
                Some(self.users.at(sender.slot())?.lane(position)?.settle(number, seen))
            });
            if let (ResultCode::Stored, Some(Seen::Done)) = (code, before) {
                // Another copy of it was collected already, sent before under the same id: nothing more is to be said of this one.
                continue;
            }
            // Where presence is private, a first result says no more than that the relay has it, or had it.
            let said = match (code, before) {
                _ if !is_private => Some(code),
                (ResultCode::Stored, _) | (ResultCode::Collected, Some(Seen::Pending)) => {
                    Some(ResultCode::Accepted)
                }
                _ => Some(code).filter(|_| !is_late),
            };
            let is_heard = said.zip(listener).is_some_and(|(said, id)| {
                let reason = (said == ResultCode::Refused).then_some(ErrorCode::StoreFailed);
                self.say(id, result_kind(lane.lane, said, reason), number, receipt)
            });
            if !is_heard && !is_late {
                self.counters.count(Reason::Unheard);
            }
            let message = Told { sender, recipient: lane.recipient, lane: lane.lane, number };
            if is_late && (is_private || !is_heard) && !self.hold_notice(&message, code, receipt) {
                self.put_notice(&message, code, receipt);
            }
        }
        if let Some(id) = listener {
            self.flush_later(id);
        }
    }

    /// Messages are refused, now or after they were taken.
    pub(super) fn count_refused(&mut self, code: ErrorCode, messages: u64) {
        self.counters.totals.refused += messages;
        self.counters.count_all(code.into(), messages);
    }

    /// Appends a result to a connection's output, which is to be flushed then; returns whether there is the connection.
    fn say(&mut self, id: ConnId, kind: ResultKind, number: Number, receipt: Receipt) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        connection.output.push_result(&mut self.outputs, kind, number, receipt);
        true
    }

    /// Puts a notice of what became of a message into its sender's own mailbox.
    pub(super) fn put_notice(&mut self, message: &Told, code: ResultCode, receipt: Receipt) {
        let Told { sender, recipient, lane, number } = *message;
        let time_ms = self.now.relay_ms;
        let last = self.users.at(sender.slot()).map(|user| user.activate().mailbox.last);
        let sequence = Sequence(last.unwrap_or_default().0 + 1);
        let routing =
            Routing { peer: recipient, lane, number, sequence, time_ms, ttl_seconds: TTL_SECONDS_MAX };
        let mut frame = [0; Notice::FRAME_BYTES];
        let emitted = Notice { routing, code, receipt }.emit(&mut frame);
        debug_assert!(emitted.is_ok(), "the frame has room for a notice");
        let dropped = match self.put(sender, None, &frame, |_, _| {}) {
            Ok(()) => {
                self.counters.totals.notices += 1;
                return;
            }
            Err(ErrorCode::MailboxFull) => Reason::NoticeMailboxFull,
            Err(_) => Reason::NoticeBusy,
        };
        self.counters.count(dropped);
        log::warn!("{dropped}: a notice for slot {}", sender.slot());
    }
}

fn result_kind(lane: Lane, code: ResultCode, reason: Option<ErrorCode>) -> ResultKind {
    ResultKind { lane, code, reason, retry_after_seconds: reason.map_or(0, retry_after_seconds) }
}

/// A message as its sender knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) sender: Uid,
    pub(super) recipient: Uid,
    pub(super) lane: Lane,
    pub(super) number: Number,
}

/// One sender's lane to one recipient.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendersLane {
    pub(super) sender: Uid,
    pub(super) recipient: Uid,
    pub(super) lane: Lane,
}
