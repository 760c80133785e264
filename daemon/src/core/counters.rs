//! What the core counts of itself, for metrics and for people.
//!
//! Owns: one count for each [`Reason`], totals that only grow, and what would take a walk over all users to know. Each is
//! added to where it happens, and takes no memory. Must not know how any of it is shown: `crate::metrics`, `crate::status`.

use super::Core;
use super::mailbox::Mailbox;
use super::users::Users;
use crate::reason::Reason;

/// Since the relay started.
#[derive(Clone, Debug)]
pub struct Counters {
    reasons: [u64; Reason::ALL.len()],
    pub(super) totals: Totals,
    pub(super) waiting: Waiting,
    /// Names of which a connection receives.
    pub(super) receivers: usize,
}

/// What happened so often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that were opened, those among them that were turned away at once.
    pub connections: u64,
    /// Logins that succeeded, registrations among them.
    pub logins: u64,
    /// Names that were registered.
    pub registrations: u64,
    /// Names that rolled over to a new key.
    pub roll_overs: u64,
    /// Names that were removed.
    pub removals: u64,
    /// Messages that were taken from their senders.
    pub accepted: u64,
    /// Bytes of their envelopes.
    pub accepted_bytes: u64,
    /// Messages whose id had been taken before: they were answered, and not taken again.
    pub repeated: u64,
    /// Messages that were refused (each is counted by its reason, too).
    pub refused: u64,
    /// Messages that were handed to a receiving connection, each time that they were.
    pub delivered: u64,
    /// Messages that their recipients' clients acknowledged with a receipt.
    pub collected: u64,
    /// Messages that their recipients' clients acknowledged and could not open.
    pub rejected: u64,
    /// Messages that were committed to the disk, and not acknowledged before that.
    pub stored: u64,
    /// Notices that were put into mailboxes.
    pub notices: u64,
}

/// What waits in mailboxes, messages and notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub messages: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Those of them that are on the disk or on their way there.
    pub stored_messages: u64,
    /// Bytes of their frames.
    pub stored_bytes: u64,
}

/// How much there is of everything at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Names that are registered, or are about to be.
    pub names: usize,
    /// Open connections.
    pub connections: usize,
    /// Those of them that have not logged in.
    pub before_login: usize,
    /// Names of which a connection receives.
    pub receivers: usize,
    /// What waits in mailboxes.
    pub waiting: Waiting,
    /// Lanes that are remembered.
    pub lanes: usize,
    /// Bytes of blocks that hold messages in memory.
    pub message_bytes: usize,
    /// Bytes of memory for output.
    pub output_bytes: usize,
    /// Bytes of backlogs that are in memory, or were asked for.
    pub backlog_bytes: usize,
    /// Frames that are delivered and not acknowledged.
    pub unacknowledged: usize,
    /// Pairs of a mailbox and somebody of whom something waits in it.
    pub shares: usize,
    /// Names that connections watch.
    pub watches: usize,
    /// Requests to the directory that wait for the store.
    pub requests_pending: usize,
    /// Logins and changes of names whose signatures wait to be verified.
    pub to_verify: usize,
    /// Bytes that were given to the store and are not on the disk yet.
    pub store_in_flight_bytes: usize,
    /// The store failed: for a while, what needs it is refused untried.
    pub store_is_failing: bool,
    /// The disk has too little room for anything new.
    pub disk_is_low: bool,
    /// The relay stops.
    pub is_stopping: bool,
}

impl Counters {
    /// Of a relay that starts with these mailboxes.
    pub(super) fn new(users: &Users) -> Self {
        let (reasons, totals) = ([0; Reason::ALL.len()], Totals::default());
        Self { reasons, totals, waiting: users.waiting(), receivers: 0 }
    }

    /// How often this was a reason.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.reasons.get(reason.index()).copied().unwrap_or_default()
    }

    /// The totals.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn count(&mut self, reason: Reason) {
        self.count_all(reason, 1);
    }

    pub(super) fn count_all(&mut self, reason: Reason, times: u64) {
        if let Some(count) = self.reasons.get_mut(reason.index()) {
            *count += times;
        }
    }
}

impl Waiting {
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.stored_messages += other.stored_messages;
        self.stored_bytes += other.stored_bytes;
    }

    /// A mailbox had `before` of it, and has `after`.
    pub(super) fn change(&mut self, before: Self, after: Self) {
        self.messages = self.messages + after.messages - before.messages;
        self.bytes = self.bytes + after.bytes - before.bytes;
        self.stored_messages = self.stored_messages + after.stored_messages - before.stored_messages;
        self.stored_bytes = self.stored_bytes + after.stored_bytes - before.stored_bytes;
    }
}

impl Mailbox {
    /// What waits in it.
    pub(super) fn waiting(&self) -> Waiting {
        let Self { messages, bytes, stored_messages, stored_bytes, .. } = *self;
        Waiting { messages, bytes, stored_messages, stored_bytes }
    }
}

impl Users {
    /// What waits in all mailboxes: looks at each.
    pub(super) fn waiting(&self) -> Waiting {
        let mut waiting = Waiting::default();
        for mailbox in (0..self.slots()).filter_map(|slot| self.mailbox(slot)) {
            waiting.add(mailbox.waiting());
        }
        waiting
    }
}

impl Core {
    /// What was counted since the relay started.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The host refused or dropped something of its own, of which the core knows nothing else.
    pub fn note(&mut self, reason: Reason) {
        self.counters.count(reason);
    }

    /// How much there is of everything.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            names: self.users.count(),
            connections: self.connections.len(),
            before_login: self.connections.before_login,
            receivers: self.counters.receivers,
            waiting: self.counters.waiting,
            lanes: self.lanes,
            message_bytes: self.pool.in_use_bytes(),
            output_bytes: self.outputs.in_use_bytes(),
            backlog_bytes: self.budgets.replay_bytes,
            unacknowledged: self.budgets.deliveries,
            shares: self.budgets.shares,
            watches: self.watches.count(),
            requests_pending: self.pending.len(),
            to_verify: self.to_verify.len(),
            store_in_flight_bytes: self.store_in_flight_bytes,
            store_is_failing: self.store_is_failing(),
            disk_is_low: self.disk_is_low,
            is_stopping: self.stopping.is_some(),
        }
    }

    /// What there is of everything, for a debugging session.
    #[must_use]
    pub fn stat(&self) -> Vec<(&'static str, u64)> {
        let gauges = self.gauges();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        vec![
            ("names", count(gauges.names)),
            ("connections", count(gauges.connections)),
            ("before_login", count(gauges.before_login)),
            ("to_verify", count(gauges.to_verify)),
            ("requests_pending", count(gauges.requests_pending)),
            ("lanes", count(gauges.lanes)),
            ("message_bytes", count(gauges.message_bytes)),
            ("output_bytes", count(gauges.output_bytes)),
            ("backlog_bytes", count(gauges.backlog_bytes)),
            ("unacknowledged", count(gauges.unacknowledged)),
            ("store_in_flight_bytes", count(gauges.store_in_flight_bytes)),
            ("store_is_failing", u64::from(gauges.store_is_failing)),
        ]
    }
}
