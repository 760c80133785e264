//! The relay's core: a state machine without I/O.
//!
//! Owns: who is logged in, every mailbox, every lane, what is owed to whom. In come connections,
//! frames, store completions and the time; out come [`Action`]s and, for each connection, bytes to
//! write. It must not know sockets, clocks, threads or a source of randomness: its hosts (the event
//! loop, tests, the simulator) bring them.
//!
//! A host's turn: [`Core::begin_turn`], any number of `handle_*`, [`Core::end_turn`], then
//! [`Core::poll_action`] until there is none, and for each [`Action::Write`] [`Core::gather`] and
//! [`Core::handle_written`].
//!
//! The way of a message: `send` (SEND to the recipient's ring), `deliver` (ring to the receiving
//! connection), `collect` (ACK to the sender's RESULT), `spill` (ring to the store and STORED). Who is let in is
//! decided in `arrivals`, login is in `login`, keys in `directory`, registration tokens in `tokens`, a name's change to a new key or to nobody in `ownership`, what a connection is told
//! and its end in `output`, what time brings about in `deadlines` and `expiry`; what is asked of names and ids: `presence`, `blocks`, `query`; what the
//! administrator does: `admin`.
//! Memory that all share is in `budgets`, the sum of all limits in `ceiling`, what is counted in `counters`, how names are logged in `pseudonyms`. State: `users`, `names`,
//! `mailbox`, `ring`, `lane`, `connection`.

mod addresses;
pub mod admin;
mod arrivals;
mod blocks;
mod budgets;
pub mod ceiling;
mod collect;
mod connection;
mod connections;
pub mod counters;
mod damage;
mod deadlines;
mod deliver;
mod directory;
mod expiry;
mod lane;
mod login;
mod mailbox;
mod moment;
mod names;
mod output;
mod ownership;
mod presence;
mod pseudonyms;
mod query;
mod rates;
mod ring;
mod send;
mod shares;
mod spill;
mod timers;
mod tokens;
mod users;

use std::collections::{HashMap, VecDeque};

use e2e_protocol::ids::{RelayId, Uid};
use e2e_protocol::limits::{BODY_BYTES_BEFORE_LOGIN_MAX, BODY_BYTES_MAX, HEADER_BYTES};
use e2e_protocol::wire::session::{Registration, emit_ping};
use e2e_protocol::wire::{ErrorCode, Frame, FrameError, FrameType};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use admin::{Answer, TokenChange};
use blocks::{Blocking, Blocks};
use budgets::Budgets;
pub use connection::ConnId;
use connection::{OutputPool, Phase};
use connections::Connections;
use counters::Counters;
use directory::Pending;
use expiry::Search;
use login::ToVerify;
use moment::Moment;
use ownership::Changing;
use presence::Watches;
use pseudonyms::Pseudonyms;
pub use pseudonyms::Shown;
use rates::Rates;
use ring::Pool;
use send::Told;
use timers::{Timer, Timers};
use tokens::Tokens;
use users::Users;

use crate::limits::Limits;
use crate::reason::Reason;
use crate::settings::Settings;
use crate::store::{Completion, Request, Snapshot};

/// The time, read once a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds of a clock that only goes forward, for deadlines.
    pub monotonic_ms: u64,
    /// The relay's clock: Unix milliseconds, never less than any it gave before, restarts included.
    pub relay_ms: u64,
}

/// What the relay's owner has decided: who may register, and what is told of whom.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Whether names may be claimed.
    pub registration: Registration,
    /// The tokens with which they may, where a token is needed.
    pub tokens: Vec<Vec<u8>>,
    /// Nobody is told who is online; results say ACCEPTED instead of COLLECTED and STORED.
    pub presence_private: bool,
    /// Names appear in log lines as pseudonyms that nobody can turn back.
    pub hide_names: bool,
}

impl Policy {
    /// What was chosen, and the tokens in the file that it names.
    #[must_use]
    pub fn new(settings: &Settings, tokens: Vec<Vec<u8>>) -> Self {
        Self {
            registration: settings.registration,
            tokens,
            presence_private: settings.presence_private,
            hide_names: settings.hide_names,
        }
    }
}

/// What the host is to do.
#[derive(Debug)]
pub enum Action {
    /// There is something to write to this connection. It is not said again before all is written: when
    /// the socket has room again, the host goes on by itself.
    Write(ConnId),
    /// This connection is over: drop its socket.
    Close(ConnId, Reason),
    /// Ask the store.
    Store(Request),
}

/// The relay's state.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    policy: Policy,
    relay_id: RelayId,
    now: Now,
    rng: ChaCha20Rng,
    users: Users,
    blocks: Blocks,
    /// Blocks on their way to the disk, by the request that waits for them.
    blocking: HashMap<u64, Blocking>,
    watches: Watches,
    search: Search,
    connections: Connections,
    pool: Pool,
    outputs: OutputPool,
    timers: Timers,
    rates: Rates,
    budgets: Budgets,
    counters: Counters,
    pseudonyms: Pseudonyms,
    actions: VecDeque<Action>,

    /// What waits for a signature to be verified.
    to_verify: VecDeque<ToVerify>,
    /// Names that are about to have a new key or to be gone, by slot.
    changing: HashMap<u32, Changing>,
    /// Those of them that the administrator takes from their owners and whose mailboxes are not empty yet.
    emptying: Vec<u32>,
    tokens: Tokens,
    /// Tokens on their way to the disk, by the request that waits for it.
    token_changes: HashMap<u64, TokenChange>,
    /// For the administrator.
    answers: VecDeque<Answer>,
    /// Connections with output that was not announced yet.
    to_flush: Vec<ConnId>,
    /// Slots whose mailbox changed in this turn.
    touched: Vec<u32>,
    /// Slots with something for the store.
    to_spill: VecDeque<u32>,
    /// Slots with acknowledgements that the store was not told of.
    to_say_acked: Vec<u32>,
    /// Slots whose backlog could not be read.
    to_reread: Vec<u32>,
    /// Questions to the store that a connection waits for.
    pending: HashMap<u64, Pending>,
    next_token: u64,
    store_in_flight_bytes: usize,
    /// The store failed: until then nothing new is given to it.
    store_failing_until_ms: Option<u64>,
    /// The disk has too little room for anything new.
    disk_is_low: bool,
    lanes: usize,
    /// Where the search for lanes to forget goes on.
    lane_hand: u32,
    stopping: Option<Stopping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    /// What is in memory goes to the store.
    Draining,
    /// Everybody is told, and closed.
    Closing,
    /// The time for it is over: who still comes is not waited for.
    Over,
}

impl Core {
    /// A relay as the store left it. `seed` is 32 bytes from a source that nobody can guess.
    #[must_use]
    pub fn new(limits: Limits, policy: Policy, snapshot: &Snapshot, seed: [u8; 32]) -> Self {
        let users = Users::new(snapshot);
        let budgets = Budgets::new(users.shares());
        let counters = Counters::new(&users);
        let mut timers = Timers::default();
        timers.set(limits.expiry_interval_ms, Timer::Expiry);
        Self {
            pool: Pool::new(limits.ring_bytes_max),
            policy,
            relay_id: snapshot.relay_id,
            now: Now { monotonic_ms: 0, relay_ms: snapshot.clock },
            rng: ChaCha20Rng::from_seed(seed),
            users,
            blocks: Blocks::new(snapshot.blocks.iter().copied()),
            blocking: HashMap::new(),
            watches: Watches::default(),
            search: Search::default(),
            connections: Connections::default(),
            outputs: OutputPool::default(),
            timers,
            budgets,
            counters,
            pseudonyms: Pseudonyms::new(&seed),
            rates: Rates::new(limits.rates_max),
            actions: VecDeque::new(),
            to_verify: VecDeque::new(),
            changing: HashMap::new(),
            emptying: Vec::new(),
            tokens: Tokens::new(&snapshot.tokens),
            token_changes: HashMap::new(),
            answers: VecDeque::new(),
            to_flush: Vec::new(),
            touched: Vec::new(),
            to_spill: VecDeque::new(),
            to_say_acked: Vec::new(),
            to_reread: Vec::new(),
            pending: HashMap::new(),
            next_token: 0,
            store_in_flight_bytes: 0,
            store_failing_until_ms: None,
            disk_is_low: false,
            lanes: 0,
            lane_hand: 0,
            stopping: None,
            limits,
        }
    }

    /// Begins a turn at `now`. Time never goes back: what would, stands still.
    pub fn begin_turn(&mut self, now: Now) {
        self.now.monotonic_ms = self.now.monotonic_ms.max(now.monotonic_ms);
        self.now.relay_ms = self.now.relay_ms.max(now.relay_ms);
        while let Some(timer) = self.timers.poll(self.now.monotonic_ms) {
            self.handle_timer(timer);
        }
    }

    /// Something came from this peer, if only a part of a frame.
    pub fn handle_heard(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.heard = Moment::at(self.now.monotonic_ms);
            connection.pinged = false;
        }
    }

    /// How long a body this connection may send at present.
    #[must_use]
    pub fn body_bytes_max(&self, id: ConnId) -> usize {
        match self.connections.get(id) {
            Some(connection) if connection.is_past_login() => BODY_BYTES_MAX,
            _ => BODY_BYTES_BEFORE_LOGIN_MAX,
        }
    }

    /// Whether the host should read from this connection: not while it leaves its results unread, nor
    /// after its end.
    #[must_use]
    pub fn may_read(&self, id: ConnId) -> bool {
        self.stopping.is_none()
            && self.connections.get(id).is_some_and(|connection| {
                !matches!(connection.phase, Phase::Ending(_))
                    && connection.output.len() <= self.limits.output_bytes_max
            })
    }

    /// A whole frame came.
    pub fn handle_frame(&mut self, id: ConnId, frame: Frame<'_>) {
        let Some(connection) = self.connections.get(id) else { return };
        match (&connection.phase, frame) {
            (Phase::Ending(_), _) => {}
            (Phase::Ready { .. }, Frame::Skipped) => self.counters.count(Reason::FrameSkipped),
            (_, Frame::Skipped) => self.skip_before_login(id),
            (Phase::Ready { slot, .. }, Frame::Send(message)) => self.handle_send(id, *slot, &message),
            (Phase::Ready { slot, .. }, Frame::Ack(ack)) => self.handle_ack(id, *slot, &ack),
            (Phase::Ready { slot, .. }, Frame::Query(query)) => self.handle_query(id, *slot, &query),
            (Phase::Ready { slot, .. }, Frame::Lookup(lookup)) => self.handle_lookup(id, *slot, lookup),
            (Phase::Ready { slot, .. }, Frame::Who(who)) => self.handle_who(id, *slot, &who),
            (Phase::Ready { slot, .. }, Frame::Block(block)) => self.handle_block(id, *slot, block),
            (Phase::Ready { slot, .. }, Frame::Publish(publish)) => self.handle_publish(id, *slot, &publish),
            (Phase::Ready { slot, .. }, Frame::Roll(roll)) => self.handle_roll(id, *slot, &roll),
            (Phase::Ready { slot, .. }, Frame::Remove(remove)) => self.handle_remove(id, *slot, &remove),
            (Phase::Ready { .. }, Frame::Ping(opaque)) => {
                self.push(id, HEADER_BYTES + 8, |out| emit_ping(out, FrameType::Pong, opaque));
            }
            (Phase::Ready { .. }, Frame::Pong(_)) => {}
            (Phase::Hello, Frame::Hello(hello)) => self.handle_hello(id, hello),
            (Phase::Challenged(_), Frame::Proof(proof)) => self.handle_proof(id, &proof),
            _ => self.end(id, ErrorCode::UnexpectedFrame, "this frame is not expected now"),
        }
    }

    /// What came was not a frame.
    pub fn handle_bad_frame(&mut self, id: ConnId, error: FrameError) {
        let text = match error {
            FrameError::BadMagic => "a frame starts with E2 52 4C 59",
            FrameError::UnsupportedVersion => "this relay speaks version 1 of the header",
            FrameError::TooLong => "the length is over the limit",
            FrameError::BadCrc => "a CRC does not fit",
            FrameError::UnknownType => "unknown frame type",
            FrameError::Malformed => "flags, length or a field break the format",
        };
        self.end(id, error.code(), text);
    }

    /// The peer sends no more. What is owed to it is still said.
    pub fn handle_end_of_input(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.end_of_input = true;
        if let Phase::Ready { slot, credit: credit @ Some(_) } = &mut connection.phase {
            let slot = *slot;
            *credit = None;
            self.detach_receiver(slot, id);
        }
        self.timers.set(self.now.monotonic_ms + self.limits.linger_ms, Timer::Linger(id));
        self.flush_later(id);
    }

    /// The socket is gone.
    pub fn handle_lost(&mut self, id: ConnId) {
        self.close(id, Reason::ConnectionLost);
    }

    /// The relay's owner has decided otherwise. What is there already stays, also where there is more of it now than may be.
    pub fn handle_reconfigured(&mut self, limits: Limits, policy: Policy) {
        if policy.presence_private {
            self.watches = Watches::default();
        }
        self.pool.set_bytes_max(limits.ring_bytes_max);
        self.rates.set_entries_max(limits.rates_max);
        (self.limits, self.policy) = (limits, policy);
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Stop cleanly: store what is in memory, tell everybody, close. [`Core::is_stopped`] says when.
    pub fn handle_stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping::Draining);
        self.timers.set(self.now.monotonic_ms + self.limits.stop_ms, Timer::Stop);
        for slot in 0..self.users.slots() {
            let holds = self.users.at(slot).and_then(|user| user.mailbox()).is_some_and(|m| m.messages > 0);
            if holds {
                self.queue_spill(slot);
            }
        }
    }

    /// Whether a stop is complete.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        match self.stopping {
            None | Some(Stopping::Draining) => false,
            Some(Stopping::Closing) => self.connections.len() == 0,
            Some(Stopping::Over) => true,
        }
    }

    /// Ends a turn: everything that was put off during it is done now, once.
    pub fn end_turn(&mut self) {
        self.verify_signatures();
        self.wake_replays();
        while let Some(slot) = self.touched.pop() {
            if let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox()) {
                mailbox.touched = false;
            }
            self.settle_mailbox(slot);
        }
        self.run_spills();
        self.say_acked();
        self.empty_mailboxes();
        if self.stopping == Some(Stopping::Draining)
            && self.to_spill.is_empty()
            && self.store_in_flight_bytes == 0
            && self.pending.is_empty()
        {
            self.stopping = Some(Stopping::Closing);
            // Each at another time, so that they don't all come back at once.
            let spread =
                u32::try_from(self.limits.restart_spread_ms / 1_000).unwrap_or(u32::MAX).saturating_add(1);
            for id in self.connections.ids() {
                let seconds = retry_after_seconds(ErrorCode::Restarting) + self.rng.next_u32() % spread;
                self.end_after(id, ErrorCode::Restarting, seconds, "the relay is stopping");
            }
        }
        self.shed_output();
        while let Some(id) = self.to_flush.pop() {
            self.flush(id);
        }
        self.sweep_timers();
    }

    /// When the host must begin a turn even if nothing happens; milliseconds of the monotonic clock.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        // What was said to the core since the turn's end, and what waits for the next turn.
        let is_idle = self.to_verify.is_empty()
            && self.actions.is_empty()
            && self.touched.is_empty()
            && self.to_flush.is_empty()
            && !self.can_replay();
        if is_idle { self.timers.next_ms() } else { Some(self.now.monotonic_ms) }
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front()?;
        if let Action::Close(id, _) = action
            && let Some(mut connection) = self.connections.remove(id)
        {
            connection.output.discard(&mut self.outputs);
        }
        Some(action)
    }

    /// The store answered.
    pub fn handle_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Appended { slot, last } => self.handle_appended(slot, last),
            Completion::AppendFailed { slot, first, error, .. } => {
                self.handle_append_failed(slot, first, error);
            }
            Completion::Backlog { slot, token, result } => self.handle_backlog(slot, token, result),
            Completion::Registered { slot, token, result } => self.handle_registered(slot, token, result),
            Completion::Published { slot, token, result } => self.handle_published(slot, token, result),
            Completion::Blocked { token, result } => self.handle_blocked(token, result),
            Completion::Bundle { slot, token, result } => self.handle_bundle(slot, token, result),
            Completion::Keys { slot, token, result } => self.handle_keys(slot, token, result),
            Completion::RolledOver { slot, token, result } | Completion::Removed { slot, token, result } => {
                self.handle_changed(slot, token, result);
            }
            Completion::TokenChanged { token, result } => self.handle_token_changed(token, result),
        }
    }

    fn touch(&mut self, slot: u32) {
        if let Some(mailbox) = self.users.at(slot).and_then(|user| user.mailbox())
            && !std::mem::replace(&mut mailbox.touched, true)
        {
            self.touched.push(slot);
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Whether the disk has room for what is new, from now on; it has until this is said otherwise. What was accepted is
    /// given to the store in any case.
    pub fn set_disk_low(&mut self, is_low: bool) {
        self.disk_is_low = is_low;
    }

    /// Whether messages, names and prekeys that have to be stored can be accepted.
    fn takes_new(&self) -> bool {
        !self.disk_is_low && !self.store_is_failing()
    }

    fn store_is_failing(&self) -> bool {
        self.store_failing_until_ms.is_some()
    }

    /// The store failed: leave it alone for a while.
    fn store_failed(&mut self) {
        if self.store_failing_until_ms.is_none() {
            let until_ms = self.now.monotonic_ms + self.limits.store_retry_ms;
            self.store_failing_until_ms = Some(until_ms);
            self.timers.set(until_ms, Timer::StoreRetry);
        }
    }

    /// A new holder of a slot: any number but zero.
    fn new_generation(&mut self) -> u32 {
        self.rng.next_u32().max(1)
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many names are registered, connections open, and bytes of blocks in use.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.users.count(), self.connections.len(), self.pool.in_use_bytes())
    }

    fn uid(&mut self, slot: u32) -> Uid {
        self.users.uid(slot)
    }
}

/// How long to wait before trying again, as ERROR and RESULT say it; zero where nothing is said.
fn retry_after_seconds(code: ErrorCode) -> u32 {
    match code {
        ErrorCode::Busy | ErrorCode::StoreFailed | ErrorCode::Restarting => 1,
        ErrorCode::TooManyConnections => 5,
        ErrorCode::MailboxFull | ErrorCode::ShareFull | ErrorCode::QuotaFull | ErrorCode::NoBundle => 60,
        _ => 0,
    }
}
