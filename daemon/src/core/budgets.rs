//! Memory that all connections share, and who has to do without when it is used up.
//!
//! Owns: accounts of output, of backlogs in memory, of deliveries and of deadlines, and what happens at each one's
//! limit. What the sum of all limits is: `ceiling`.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::mailbox::{Delivery, Mailbox, Replay};
use super::timers::Timer;
use super::{ConnId, Core};
use crate::limits::{DEADLINES_SWEPT_AT, DELIVERIES_ALWAYS};
use crate::reason::Reason;

/// Lists of deliveries that are kept for reuse when nobody needs them.
const SPARE_LISTS_MAX: usize = 64;
/// Deliveries for which such a list may have room. A list in use may have room for this many more than thrice what it has.
const LIST_ROOM_MAX: usize = 256;
/// Deliveries for which all lists in use may have room and don't have them. With more, lists shrink as they get shorter.
const ROOM_IN_ALL_MAX: usize = 16 * 1024;
/// Deliveries for which each list has room in any case.
const LIST_ROOM_MIN: usize = 8;

/// What room for deliveries that are not there takes.
pub(crate) const DELIVERY_ROOM_BYTES: usize =
    (SPARE_LISTS_MAX * LIST_ROOM_MAX + ROOM_IN_ALL_MAX) * size_of::<Delivery>();

/// What is used of the memory that is shared.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    /// Frames that are delivered and not acknowledged.
    pub(super) deliveries: usize,
    /// As many as the lists have room for, these among them.
    delivery_capacity: usize,
    /// Lists for deliveries that nobody needs at the moment.
    spare_lists: Vec<VecDeque<Delivery>>,
    /// Bytes of backlogs that are in memory, or were asked for.
    pub(super) replay_bytes: usize,
    /// Slots whose backlog waits for room.
    to_replay: VecDeque<u32>,
    /// Pairs of a mailbox and somebody of whom something waits in it.
    pub(super) shares: usize,
    /// Deadlines at which those of who is gone are swept out.
    sweep_at: usize,
}

impl Budgets {
    /// What is used when the relay starts.
    pub(super) fn new(shares: usize) -> Self {
        Self { shares, ..Self::default() }
    }
}

impl Core {
    /// Does something with a mailbox, and keeps the accounts of deliveries and shares, and of what waits.
    pub(super) fn with_mailbox<T>(&mut self, slot: u32, act: impl FnOnce(&mut Mailbox) -> T) -> Option<T> {
        let mailbox = self.users.at(slot)?.mailbox()?;
        let (before, shares) = (mailbox.deliveries.len(), mailbox.shares.len());
        let waiting = mailbox.waiting();
        let capacity_before = mailbox.deliveries.capacity();
        if capacity_before == 0
            && let Some(spare) = self.budgets.spare_lists.pop()
        {
            mailbox.deliveries = spare;
        }
        let value = act(mailbox);
        let after = mailbox.deliveries.len();
        self.counters.waiting.change(waiting, mailbox.waiting());
        self.budgets.shares = self.budgets.shares + mailbox.shares.len() - shares;
        self.budgets.deliveries = self.budgets.deliveries + after - before;
        // What was many once must not keep the memory of many, nor who has nothing under way that of anything.
        let capacity = mailbox.deliveries.capacity();
        let is_tight = self.budgets.delivery_capacity > self.budgets.deliveries + ROOM_IN_ALL_MAX;
        if after == 0 && capacity > 0 {
            let list = std::mem::take(&mut mailbox.deliveries);
            if capacity <= LIST_ROOM_MAX && self.budgets.spare_lists.len() < SPARE_LISTS_MAX {
                self.budgets.spare_lists.push(list);
            }
        } else if after < before
            && (capacity > 4 * after + LIST_ROOM_MAX || is_tight && capacity > 2 * after + LIST_ROOM_MIN)
        {
            mailbox.deliveries.shrink_to(after + after / 2);
        }
        self.budgets.delivery_capacity =
            self.budgets.delivery_capacity + mailbox.deliveries.capacity() - capacity_before;
        Some(value)
    }

    /// Gives back all that is charged for a mailbox, which is empty.
    pub(super) fn drain_shares(&mut self, slot: u32) {
        let drained = self.with_mailbox(slot, |mailbox| mailbox.shares.drain().collect::<Vec<_>>());
        for (sender, share) in drained.unwrap_or_default() {
            self.users.give_back(sender, share.bytes);
        }
    }

    /// How many deliveries a mailbox may have that has `present` ones.
    pub(super) fn deliveries_max(&self, present: usize) -> usize {
        let room = self.limits.deliveries_in_all_max.saturating_sub(self.budgets.deliveries);
        (present + room).max(DELIVERIES_ALWAYS)
    }

    /// Bytes that a backlog may take which is asked for.
    fn asked_bytes(&self) -> usize {
        self.limits.replay_bytes + self.limits.append_bytes_max
    }

    /// Changes what is under way with a backlog, and keeps the account of their memory.
    pub(super) fn set_replay(&mut self, slot: u32, replay: Replay) {
        let asked_bytes = self.asked_bytes();
        let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) else { return };
        let before = mailbox.replay.memory(asked_bytes);
        mailbox.replay = replay;
        let after = mailbox.replay.memory(asked_bytes);
        self.budgets.replay_bytes = self.budgets.replay_bytes + after - before;
    }

    /// Whether there is room for another backlog. One at a time always has it.
    fn has_room_to_replay(&self) -> bool {
        let used = self.budgets.replay_bytes;
        used == 0 || used + self.asked_bytes() <= self.limits.replay_bytes_in_all_max
    }

    /// Whether this slot's backlog may be asked for now; if not, it is looked at again when there is room.
    pub(super) fn may_replay(&mut self, slot: u32) -> bool {
        if self.has_room_to_replay() {
            return true;
        }
        if let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox())
            && !std::mem::replace(&mut mailbox.replay_queued, true)
        {
            self.budgets.to_replay.push_back(slot);
        }
        false
    }

    /// A backlog can't go on at the moment: its memory is for those who wait for some.
    pub(super) fn yield_replay(&mut self, slot: u32) {
        if !self.budgets.to_replay.is_empty() {
            self.set_replay(slot, Replay::Idle);
        }
    }

    /// Whether somebody waits for a backlog who can have it.
    pub(super) fn can_replay(&self) -> bool {
        !self.budgets.to_replay.is_empty() && self.has_room_to_replay()
    }

    /// Lets as many ask for their backlogs as there is room for.
    pub(super) fn wake_replays(&mut self) {
        let free = self.limits.replay_bytes_in_all_max.saturating_sub(self.budgets.replay_bytes);
        for _ in 0..(free / self.asked_bytes().max(1)).max(usize::from(self.budgets.replay_bytes == 0)) {
            let Some(slot) = self.budgets.to_replay.pop_front() else { return };
            if let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) {
                mailbox.replay_queued = false;
            }
            self.touch(slot);
        }
    }

    /// Closes who leaves output unread, the longest first, where all output takes too much memory.
    pub(super) fn shed_output(&mut self) {
        if self.outputs.in_use_bytes() <= self.limits.output_bytes_in_all_max {
            return;
        }
        let target = self.limits.output_bytes_in_all_max / 4 * 3;
        let now_ms = self.now.monotonic_ms;
        let mut unread: Vec<_> = self
            .connections
            .ids()
            .into_iter()
            .filter_map(|id| self.connections.get(id).map(|connection| (connection, id)))
            .filter(|(connection, _)| connection.output.capacity() > 0 && !connection.close_queued)
            // Who has not been written to since there was output has not left it unread.
            .map(|(connection, id)| {
                (!connection.slow_reader_set, Reverse(connection.progress.age_ms(now_ms)), id)
            })
            .collect();
        unread.sort_unstable();
        for (_, _, id) in unread {
            if self.outputs.in_use_bytes() <= target {
                return;
            }
            if let Some(connection) = self.connections.get_mut(id) {
                connection.output.discard(&mut self.outputs);
            }
            self.close(id, Reason::OutputMemoryFull);
        }
    }

    /// Forgets deadlines of what is gone.
    pub(super) fn sweep_timers(&mut self) {
        if self.timers.len() <= self.budgets.sweep_at.max(DEADLINES_SWEPT_AT) {
            return;
        }
        let Self { timers, connections, .. } = self;
        timers.retain(|timer| match timer {
            Timer::Login(id) | Timer::Keepalive(id) | Timer::SlowReader(id) | Timer::Linger(id) => {
                connections.get(*id).is_some()
            }
            Timer::AckWait(_) | Timer::Presence(_) | Timer::Expiry | Timer::StoreRetry | Timer::Stop => true,
        });
        self.budgets.sweep_at = 2 * self.timers.len();
    }

    /// The host has no room for this connection's begun frame, which has been on its way for longest.
    pub fn handle_surplus(&mut self, id: ConnId) {
        let text = "no room for frames that come so slowly";
        self.end(id, e2e_protocol::wire::ErrorCode::Busy, text);
    }

    /// Whether the accounts are what a count says; for tests.
    #[must_use]
    pub fn accounts_fit(&mut self) -> bool {
        let asked_bytes = self.asked_bytes();
        let (mut deliveries, mut delivery_capacity, mut replay_bytes, mut shares) = (0, 0, 0, 0);
        let mut receivers = 0;
        for slot in 0..self.users.slots() {
            let receiver = self.users.at(slot).and_then(|user| user.receiver);
            receivers += usize::from(receiver.is_some());
            if let Some(mailbox) = self.users.mailbox(slot) {
                deliveries += mailbox.deliveries.len();
                delivery_capacity += mailbox.deliveries.capacity();
                shares += mailbox.shares.len();
                replay_bytes += mailbox.replay.memory(asked_bytes);
            }
        }
        let ids = self.connections.ids();
        let outputs = ids.iter().filter_map(|id| self.connections.get(*id));
        let output_bytes: usize = outputs.map(|connection| connection.output.capacity()).sum();
        (deliveries, delivery_capacity) == (self.budgets.deliveries, self.budgets.delivery_capacity)
            && (replay_bytes, shares) == (self.budgets.replay_bytes, self.budgets.shares)
            && output_bytes == self.outputs.in_use_bytes()
            && (receivers, self.users.waiting()) == (self.counters.receivers, self.counters.waiting)
    }
}

impl Replay {
    fn memory(&self, asked_bytes: usize) -> usize {
        match self {
            Self::Idle | Self::Failed => 0,
            Self::Asked { .. } => asked_bytes,
            Self::Loaded { bytes, .. } => bytes.capacity(),
        }
    }
}
