//! One seed: users, the relay, what is on its way between them, and time.
//!
//! Owns: what happens and when. First, things go wrong as the seed's shape says; then faults stop, everybody
//! comes online, and all that is on its way has to arrive. Must not know what has to hold (`checks`), but
//! for that end.

use std::collections::BTreeMap;

use super::checks::Checks;
use super::client::{Client, Crash, Outside};
use super::frames::{Down, Up};
use super::home::Home;
use super::relay::Relay;
use super::shape::Shape;
use super::thief::Thief;
use super::{Counts, DAY_MS, HOUR_MS, MINUTE_MS, NAMES, Outcome, START_MS, Who};
use crate::dice::Dice;

/// Once faults have stopped, everything has arrived after so long. It is made of: a day, until what the relay
/// said that it stored is sent again, or a message's pause after Rejects or the wait for an INIT are over; and
/// 7 days, if a signed prekey looks older than one that was seen, until its successor.
pub(super) const SETTLED_MS_MAX: u64 = 8 * DAY_MS;
/// Most things that happen in one seed, for each message: more is a loop.
const EVENTS_MAX: u64 = 60_000;
const LATENCY_MS: u64 = 120;
/// After so long time goes on without jumps.
const JUMPS_MS_MAX: u64 = 120 * DAY_MS;

pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) dice: Dice,
    pub(super) checks: Checks,
    pub(super) clients: Vec<Client>,
    pub(super) relay: Relay,
    /// On its way, by when it arrives and in what order it was sent.
    transit: BTreeMap<(u64, u64), (Who, Transit)>,
    last_sent: u64,
    /// When the last of it arrives, each way: nothing overtakes.
    last_arrival: Vec<[u64; 2]>,
    thief: Option<Thief>,
    events: u64,
    events_max: u64,
    written: u64,
}

enum Transit {
    Up(Up),
    Down(Down),
}

/// Runs a seed.
pub(super) fn run(seed: u64, trace: bool) -> Outcome {
    let mut dice = Dice::new(seed);
    let shape = Shape::draw(&mut dice);
    let mut world = World::new(dice, &shape, trace);
    world.make_trouble(&shape);
    world.settle(&shape);
    world.finish()
}

impl World {
    pub(super) fn new(mut dice: Dice, shape: &Shape, trace: bool) -> Self {
        let relay = Relay::new(&shape.profiles);
        let mut clients: Vec<Client> = shape
            .profiles
            .iter()
            .enumerate()
            .map(|(who, profile)| Client::new(who, *profile, &mut dice))
            .collect();
        for client in &mut clients {
            client.lazy = shape.lazy;
            client.keeps_copies = shape.rollbacks > 0;
        }
        let checks = Checks::new(shape.faultless, trace);
        Self {
            now_ms: START_MS,
            dice,
            checks,
            last_arrival: vec![[0; 2]; clients.len()],
            clients,
            relay,
            transit: BTreeMap::new(),
            last_sent: 0,
            thief: shape.thief.then(Thief::default),
            events: 0,
            events_max: EVENTS_MAX + 400 * shape.actions,
            written: 0,
        }
    }

    fn make_trouble(&mut self, shape: &Shape) {
        for who in 0..self.clients.len() {
            self.go_online(who);
        }
        if !shape.both_start {
            self.advance(self.now_ms + MINUTE_MS);
        }
        self.relay.lies = shape.lies;
        if shape.both_start {
            self.write(0, 1);
            self.write(1, 0);
        }
        for _ in 0..shape.actions {
            self.act(shape);
            let jumps = self.dice.per_mille(shape.jumps) && self.now_ms < START_MS + JUMPS_MS_MAX;
            let gap_ms = if jumps { self.dice.below(shape.jump_ms) } else { self.dice.below(shape.gap_ms) };
            self.advance(self.now_ms + gap_ms);
        }
    }

    fn act(&mut self, shape: &Shape) {
        let who = self.dice.index(self.clients.len());
        let chance = |dice: &mut Dice, of| dice.per_mille(of);
        if chance(&mut self.dice, shape.offline) {
            if self.clients[who].is_online() { self.go_offline(who) } else { self.go_online(who) }
        }
        if chance(&mut self.dice, shape.crashes) {
            let how = self.dice.pick(&[Crash::BeforeCommit, Crash::AfterCommit]);
            let commits = u32::try_from(self.dice.below(6)).unwrap_or(0);
            self.clients[who].crash = Some((commits, how));
            self.checks.counts.faults += 1;
        }
        if chance(&mut self.dice, shape.rollbacks) && !self.clients[who].copies.is_empty() {
            let at = self.dice.index(self.clients[who].copies.len());
            let copy = self.clients[who].copies[at].clone();
            let mut home = copy.clone();
            if self.dice.per_mille(400) {
                // Only keys and sessions are put back, as where a home's files are not of one time.
                home = self.clients[who].home.clone();
                home.put_sessions_back(&copy);
            }
            self.replace(who, home);
        }
        if chance(&mut self.dice, shape.losses) {
            self.replace(who, Home::default());
        }
        if chance(&mut self.dice, shape.clocks) {
            self.set_clock(who);
        }
        if chance(&mut self.dice, shape.replays) {
            self.relay.replay(self.now_ms, &mut self.dice);
            self.checks.counts.faults += 1;
            self.flush_relay();
        }
        if self.dice.per_mille(60) {
            self.steal(who);
        }
        // Whose process died starts again sooner or later.
        for who in 0..self.clients.len() {
            if !self.clients[who].is_online() && (shape.offline == 0 || self.dice.per_mille(300)) {
                self.go_online(who);
            }
        }
        let (from, to) = self.pick_pair(shape);
        self.write(from, to);
    }

    fn pick_pair(&mut self, shape: &Shape) -> (Who, Who) {
        if self.clients.len() > 2 && self.dice.per_mille(400) {
            let from = self.dice.index(3);
            return (from, (from + 1 + self.dice.index(2)) % 3);
        }
        if self.dice.per_mille(shape.one_way) { (0, 1) } else { (1, 0) }
    }

    /// Faults stop. Everything has to arrive now, and the next message has to arrive as well.
    fn settle(&mut self, shape: &Shape) {
        self.relay.heal(&mut self.dice);
        self.checks.note(self.now_ms, || "faults stop".into());
        let right_clocks = self.dice.per_mille(500);
        for who in 0..self.clients.len() {
            let client = &mut self.clients[who];
            client.crash = None;
            client.keeps_copies = false;
            if right_clocks {
                client.clock_ms = 0;
                self.call(who, Client::handle_time);
            }
            self.go_offline(who);
            // What a new process writes may overtake what an earlier one left.
            if !shape.faultless && self.dice.per_mille(500) {
                self.clients[who].process = None;
            }
        }
        let began_ms = self.now_ms;
        (0..self.clients.len()).for_each(|who| self.go_online(who));
        self.write(0, 1);
        self.write(1, 0);
        self.drain(began_ms);
        if !shape.faultless {
            let drain_ms = self.now_ms - began_ms;
            let longest = &mut self.checks.counts.longest_drain_ms;
            *longest = (*longest).max(drain_ms);
        }
        if self.dice.per_mille(250) {
            self.write(0, 1);
            self.write(1, 0);
            self.drain(self.now_ms);
        }
    }

    pub(super) fn drain(&mut self, began_ms: u64) {
        while self.is_fine() {
            if self.is_settled() {
                return;
            }
            self.give_up_after(began_ms);
            self.advance(self.now_ms + HOUR_MS);
        }
    }

    pub(super) fn is_fine(&self) -> bool {
        self.checks.violations.is_empty()
    }

    /// What has not arrived so long after it could never will.
    pub(super) fn give_up_after(&mut self, began_ms: u64) {
        if self.now_ms > began_ms + SETTLED_MS_MAX {
            let left: Vec<usize> = self.clients.iter().map(|client| client.home.outbox.len()).collect();
            self.checks.violation(format!("a dead end: {left:?} messages are left in outboxes"));
        }
    }

    fn is_settled(&self) -> bool {
        self.transit.is_empty()
            && self.relay.waiting() == 0
            && self.clients.iter().all(|client| client.home.outbox.is_empty())
    }

    pub(super) fn finish(mut self) -> Outcome {
        let homes: Vec<&Home> = self.clients.iter().map(|client| &client.home).collect();
        self.checks.account(&homes);
        let counts = Counts {
            seeds: 1,
            milliseconds: self.now_ms - START_MS,
            faults: self.checks.counts.faults + self.relay.lied,
            ..self.checks.counts
        };
        Outcome { counts, violations: self.checks.violations }
    }

    pub(super) fn write(&mut self, from: Who, to: Who) {
        self.written += 1;
        let mut body = format!("message {}", self.written).into_bytes();
        if self.dice.per_mille(20) {
            body.resize(self.dice.index(9_000).max(body.len()), b'.');
        }
        self.call(from, |client, outside| client.write(to, body, outside));
    }

    pub(super) fn go_online(&mut self, who: Who) {
        if self.clients[who].is_online() {
            return;
        }
        if self.clients[who].process.is_none() {
            let Self { clients, dice, checks, .. } = self;
            clients[who].start(&mut Outside { now_ms: self.now_ms, dice, checks });
        }
        self.clients[who].connect();
        self.checks.note(self.now_ms, || format!("{} comes", NAMES[who]));
        self.relay.handle_connected(who, self.now_ms, &mut self.dice);
        self.flush_relay();
    }

    pub(super) fn go_offline(&mut self, who: Who) {
        self.clients[who].disconnect();
        self.cut(who);
    }

    /// The connection is gone. What comes from the relay is lost, and what goes to it, or not.
    fn cut(&mut self, who: Who) {
        let process = if self.clients[who].process.is_some() { "goes" } else { "dies" };
        self.checks.note(self.now_ms, || format!("{} {process}", NAMES[who]));
        let arrives = self.dice.per_mille(500);
        self.transit.retain(|_, (of, transit)| *of != who || (arrives && matches!(transit, Transit::Up(_))));
        self.relay.handle_disconnected(who);
        self.flush_relay();
    }

    fn replace(&mut self, who: Who, home: Home) {
        self.clients[who].disconnect();
        self.cut(who);
        let client = &mut self.clients[who];
        self.checks.note(self.now_ms, || format!("the state of {} is put back or lost", NAMES[who]));
        self.checks.replaced(who, &client.home, &home);
        client.process = None;
        client.crash = None;
        client.generation += 1;
        client.home = home;
        self.checks.counts.faults += 1;
        if let Some(thief) = &mut self.thief {
            thief.forget(who);
        }
    }

    fn set_clock(&mut self, who: Who) {
        let most = self.dice.pick(&[2 * MINUTE_MS, 5 * HOUR_MS, 3 * DAY_MS, 20 * DAY_MS]);
        let off_ms = i64::try_from(self.dice.below(2 * most)).unwrap_or(0) - i64::try_from(most).unwrap_or(0);
        self.clients[who].clock_ms = off_ms;
        self.checks.note(self.now_ms, || format!("the clock of {} is {off_ms} ms ahead", NAMES[who]));
        self.checks.clocks_off_ms = self.checks.clocks_off_ms.max(off_ms.unsigned_abs());
        // A process looks at the time more often than it has something to do: for its connection's sake.
        self.call(who, Client::handle_time);
        self.checks.counts.faults += 1;
    }

    fn steal(&mut self, who: Who) {
        let Self { thief: Some(thief), clients, dice, checks, .. } = self else { return };
        let client = &clients[who];
        thief.steal(who, client.profile, &client.home, client.local_ms(self.now_ms), dice, checks);
    }

    /// Lets time go on, and everything happen that is due until then.
    pub(super) fn advance(&mut self, until_ms: u64) {
        while self.is_fine() {
            let arrival = self.transit.first_key_value().map(|((at_ms, _), _)| *at_ms);
            let clients = self.clients.iter().map(Client::next_due_ms);
            let due = clients.min_by_key(|due| due.unwrap_or(u64::MAX)).flatten();
            let next = [arrival, due, self.relay.next_due_ms(self.now_ms)].into_iter().flatten().min();
            let Some(next_ms) = next.filter(|next_ms| *next_ms <= until_ms) else { break };
            self.now_ms = self.now_ms.max(next_ms);
            self.events += 1;
            if self.events > self.events_max {
                return self.checks.violation("it does not come to rest".into());
            }
            self.happen();
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    fn happen(&mut self) {
        let now_ms = self.now_ms;
        if let Some(first) = self.transit.first_entry().filter(|first| first.key().0 <= now_ms) {
            match first.remove() {
                (who, Transit::Up(frame)) => {
                    self.relay.handle(who, frame, now_ms, &mut self.dice);
                    self.flush_relay();
                }
                (who, Transit::Down(Down::Result { id, answer })) => {
                    let frame = Down::Result { id, answer };
                    self.checks.note(now_ms, || format!("{} is told {answer:?}", NAMES[who]));
                    self.call(who, |client, outside| client.handle(frame, outside));
                }
                (who, Transit::Down(frame)) => {
                    self.call(who, |client, outside| client.handle(frame, outside))
                }
            }
            return;
        }
        for who in 0..self.clients.len() {
            if self.clients[who].next_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
                return self.call(who, Client::handle_time);
            }
        }
        self.relay.pump_all(now_ms, &mut self.dice);
        self.flush_relay();
    }

    fn call(&mut self, who: Who, run: impl FnOnce(&mut Client, &mut Outside<'_>) -> Vec<Up>) {
        let Self { clients, dice, checks, .. } = self;
        let was_online = clients[who].is_online();
        let up = run(&mut clients[who], &mut Outside { now_ms: self.now_ms, dice, checks });
        if let Some(thief) = &mut self.thief {
            let local_ms = clients[who].local_ms(self.now_ms);
            for (from, envelope) in std::mem::take(&mut clients[who].opened) {
                thief.listen(who, from, &envelope, local_ms, dice, checks);
            }
        } else {
            clients[who].opened.clear();
        }
        if was_online && !clients[who].is_online() {
            return self.cut(who);
        }
        if was_online {
            up.into_iter().for_each(|frame| self.send(who, Transit::Up(frame)));
        }
    }

    fn flush_relay(&mut self) {
        for (who, frame) in self.relay.take_out() {
            self.send(who, Transit::Down(frame));
        }
    }

    fn send(&mut self, who: Who, transit: Transit) {
        let way = usize::from(matches!(transit, Transit::Down(_)));
        let latency_ms = 1 + self.dice.below(LATENCY_MS);
        let arrival_ms = (self.now_ms + latency_ms).max(self.last_arrival[who][way]);
        self.last_arrival[who][way] = arrival_ms;
        self.last_sent += 1;
        self.transit.insert((arrival_ms, self.last_sent), (who, transit));
    }
}
