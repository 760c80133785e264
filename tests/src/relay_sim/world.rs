//! One seed: the relay, its users, what is on its way between them, and time.
//!
//! Owns: what users do and when, and how time goes on. First things go wrong as the seed's shape says (`faults`); then
//! faults stop and everything has to arrive (`ending`). Must not know what has to hold (`ledger`).

use std::collections::HashSet;

use e2e_protocol::ids::{Modulus, Uid};
use e2e_protocol::wire::session::Receive;
use e2e_relayd::store::Request;

use super::bundle::Shelf;
use super::claim::Claim;
use super::client::User;
use super::defect::Defect;
use super::host::{Host, Links};
use super::ledger::Ledger;
use super::link::Fate;
use super::shape::Shape;
use super::store::Store;
use super::writer::Writer;
use super::{LinkIndex, Outcome, START_MS, Who, keys};
use crate::dice::Dice;

/// More actions than a seed needs: then it does without the rest of its messages.
const ACTIONS_MAX: u64 = 6_000;
/// Lanes that a user begins in a seed, at most: as many as the relay remembers.
const LANES_MAX: usize = 14;

/// After so many actions what waits is counted.
const QUOTA_ACTIONS: u64 = 50;

pub(super) struct World {
    pub(super) now_ms: u64,
    /// The system's clock, as it stands beside virtual time.
    pub(super) system_at_start_ms: u64,
    pub(super) dice: Dice,
    pub(super) shape: Shape,
    pub(super) host: Host,
    pub(super) links: Links,
    pub(super) users: Vec<User>,
    /// Names that are wanted.
    pub(super) claims: Vec<Claim>,
    /// One-time prekeys that somebody was given.
    pub(super) handed_out: HashSet<Modulus>,
    pub(super) ledger: Ledger,
    /// The relay was told to stop.
    pub(super) is_stopping: bool,
    /// When it starts again.
    pub(super) start_ms: Option<u64>,
    /// When the disk is well again.
    pub(super) disk_well_ms: Option<u64>,
    /// When faults stopped.
    pub(super) drain_ms: u64,
    /// Nothing may be left in any mailbox.
    pub(super) is_drained: bool,
    /// For envelopes.
    pub(super) envelope: Vec<u8>,
}

/// Runs a seed.
pub(super) fn run(seed: u64, defect: Option<Defect>, trace: bool) -> Outcome {
    let mut dice = Dice::new(seed);
    let shape = Shape::draw(seed, &mut dice);
    let mut world = World::new(seed, dice, shape, defect, trace);
    world.make_trouble();
    world.drain();
    world.finish()
}

impl World {
    fn new(seed: u64, mut dice: Dice, shape: Shape, defect: Option<Defect>, trace: bool) -> Self {
        let mut store = Store::new(seed, shape.pace, defect);
        let uids: Vec<Uid> = (1..).take(shape.users).map(|number| Uid::new(number - 1, number)).collect();
        for (who, uid) in uids.iter().enumerate() {
            let identity = keys::identity(who, 0);
            let request = Request::Register {
                slot: uid.slot(),
                generation: uid.generation(),
                name: *keys::name(who),
                fingerprint: *identity.fingerprint(),
                identity_key: Box::new(*identity.modulus()),
                token: 0,
            };
            store.prepare(request, START_MS);
        }
        let users = uids.iter().map(|uid| User {
            uid: *uid,
            key: 0,
            rolling: None,
            rolled_at: 0,
            book: uids.clone(),
            receiver: None,
            writers: Vec::new(),
            shelf: Shelf::default(),
        });
        let users = users.collect();
        let mut ledger = Ledger::new(shape.forgets_lanes, trace);
        let mut host = Host::new(shape.limits.clone(), store, defect);
        host.start(0, START_MS, &mut ledger);
        let mut world = Self {
            now_ms: 0,
            system_at_start_ms: START_MS,
            dice: Dice::new(dice.below(u64::MAX)),
            shape,
            host,
            links: Links { all: Vec::new(), live: Vec::new() },
            users,
            claims: (0..keys::WANTED_MAX).map(|_| Claim::default()).collect(),
            handed_out: HashSet::new(),
            ledger,
            is_stopping: false,
            start_ms: None,
            disk_well_ms: None,
            drain_ms: 0,
            is_drained: false,
            envelope: Vec::new(),
        };
        for who in 0..world.users.len() {
            world.come_online(who, 1_000);
        }
        world
    }

    fn make_trouble(&mut self) {
        let mut actions = 0;
        while self.ledger.messages.len() < self.shape.messages
            && actions < ACTIONS_MAX
            && !self.ledger.has_violations()
        {
            actions += 1;
            self.act();
            if actions.is_multiple_of(QUOTA_ACTIONS) {
                let relay_ms = self.host.relay_ms(self.now_ms);
                self.ledger.check_quotas(&self.host.limits, relay_ms);
            }
            self.go_wrong();
            let gap_ms = 1 + self.dice.below(self.shape.gap_ms);
            self.advance(gap_ms);
        }
    }

    /// Somebody writes, everybody acknowledges some.
    fn act(&mut self) {
        let who = self.dice.index(self.users.len());
        self.come_online(who, 400);
        for other in 0..self.users.len() {
            if let Some(link) = self.users[other].receiver.filter(|_| self.dice.per_mille(700)) {
                let count = usize::try_from(self.dice.below(self.shape.acks + 1)).unwrap_or(0);
                self.acknowledge(link, count);
            }
        }
        for at in 0..self.users[who].writers.len() {
            if self.dice.per_mille(300) {
                self.send_again(who, at);
            }
        }
        self.act_on_keys(who);
        let writers = self.users[who].writers.len();
        if writers > 0 {
            let to = self.dice.index(self.users.len());
            // Seldom to oneself.
            let to = if to == who && self.dice.per_mille(700) { (who + 1) % self.users.len() } else { to };
            let at = self.dice.index(writers);
            let count = 1 + self.dice.below(self.shape.burst);
            self.write(who, at, to, count);
            if self.dice.per_mille(self.shape.repeats) {
                self.repeat(who, at);
            }
            if self.dice.per_mille(self.shape.conflicts) {
                self.use_id_again(who, at);
            }
            if self.dice.per_mille(self.shape.queries) {
                self.query(who, at);
            }
            if self.dice.per_mille(self.shape.moves) {
                self.move_lane(who, at);
            }
        }
    }

    /// Names and prekeys: somebody claims, publishes, asks.
    fn act_on_keys(&mut self, who: Who) {
        if self.dice.per_mille(self.shape.claims) {
            self.claim();
        }
        if self.dice.per_mille(self.shape.publishes) {
            self.publish(who);
        }
        if self.dice.per_mille(self.shape.bundles) {
            let to = self.dice.index(self.users.len());
            self.ask_for_bundle(who, to);
        }
    }

    /// Opens what connections a user lacks, each in so many of a thousand.
    pub(super) fn come_online(&mut self, who: Who, per_mille: u64) {
        if self.host.core.is_none() || self.is_stopping {
            return;
        }
        self.go_on_rolling(who);
        if self.shape.moves > 0 && self.dice.per_mille(per_mille / 10) {
            self.leave_unused(who);
        }
        let receives = self.users[who].receiver.is_some();
        if !receives && !self.is_connecting(who) && self.dice.per_mille(per_mille) {
            let credit = self.draw_credit();
            self.connect(who, Receive::TakeOver(credit));
        }
        if self.is_rolling(who) {
            return;
        }
        let open = self.users[who].writers.iter().filter(|writer| !writer.is_closed).count();
        let begun = self.users[who].writers.len();
        let lacks = open < self.shape.writers && (begun < LANES_MAX || open == 0);
        if lacks && self.dice.per_mille(per_mille) {
            let first = self.dice.pick(&[1, 1, 1_000, u64::MAX / 2]);
            let lane = self.dice.below(u64::MAX);
            self.users[who].writers.push(Writer::new(lane, first));
        }
        for at in 0..self.users[who].writers.len() {
            let writer = &self.users[who].writers[at];
            if writer.link.is_none() && !writer.is_closed && self.dice.per_mille(per_mille) {
                self.users[who].writers[at].link = self.link_to_write_on(who);
            }
        }
    }

    /// Ends connections that nobody uses any more, since their lanes moved to others.
    fn leave_unused(&mut self, who: Who) {
        for at in 0..self.links.live.len() {
            let index = self.links.live[at];
            let user = &self.users[who];
            let is_used =
                user.receiver == Some(index) || user.writers.iter().any(|writer| writer.link == Some(index));
            let link = &mut self.links.all[index];
            if link.who == who && link.is_speaking() && !is_used {
                link.fate = Fate::Ends;
            }
        }
    }

    /// A connection of its own, or the one that receives.
    fn link_to_write_on(&mut self, who: Who) -> Option<LinkIndex> {
        let receiver = self.users[who].receiver.filter(|link| self.links.all[*link].is_speaking());
        match receiver {
            Some(link) if self.dice.per_mille(400) => Some(link),
            // It receives as well, if nobody does.
            _ if self.dice.per_mille(150) => {
                let credit = self.draw_credit();
                self.connect(who, Receive::IfNobody(credit))
            }
            _ => self.connect(who, Receive::No),
        }
    }

    /// A connection that is to receive is being opened.
    fn is_connecting(&self, who: Who) -> bool {
        self.links.live.iter().any(|index| {
            let link = &self.links.all[*index];
            link.who == who && link.is_starting() && link.credit().is_some()
        })
    }

    /// Lets time go on, a millisecond a turn while something moves.
    pub(super) fn advance(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        loop {
            let moved = self.turn();
            if self.now_ms >= end_ms {
                return;
            }
            let next_ms = self.now_ms + 1;
            self.now_ms =
                if moved { next_ms } else { self.next_event_ms().unwrap_or(end_ms).clamp(next_ms, end_ms) };
        }
    }

    fn next_event_ms(&self) -> Option<u64> {
        let held = self.links.live.iter().flat_map(|index| {
            let link = &self.links.all[*index];
            [link.up_after_ms, link.down_after_ms].into_iter().filter(|at_ms| *at_ms > self.now_ms)
        });
        [self.host.next_ms(), self.start_ms, self.disk_well_ms].into_iter().flatten().chain(held).min()
    }

    fn turn(&mut self) -> bool {
        if self.disk_well_ms.is_some_and(|well_ms| well_ms <= self.now_ms) {
            self.heal_disk();
        }
        if self.start_ms.is_some_and(|start_ms| start_ms <= self.now_ms) {
            self.start();
        }
        let mut moved = self.host.turn(self.now_ms, &mut self.links, &mut self.dice, &mut self.ledger);
        self.ledger.counts.turns += 1;
        for at in 0..self.links.live.len() {
            moved |= self.read(self.links.live[at]);
        }
        if self.is_stopping && self.host.core.as_ref().is_some_and(|core| core.is_stopped()) {
            self.exit();
            moved = true;
        }
        self.reap();
        moved
    }

    /// Lets go of connections that have ended.
    pub(super) fn reap(&mut self) {
        let mut at = 0;
        while let Some(index) = self.links.live.get(at).copied() {
            let link = &mut self.links.all[index];
            if !link.relay_open && link.socket.is_empty() {
                link.client_open = false;
            }
            let (is_over, who) = (!link.relay_open && !link.client_open, link.who);
            if !link.client_open {
                self.let_go(who, index);
            }
            if is_over {
                self.links.all[index].drop_both();
                self.links.live.remove(at);
            } else {
                at += 1;
            }
        }
    }

    fn let_go(&mut self, who: Who, index: LinkIndex) {
        let Some(user) = self.users.get_mut(who) else { return };
        user.receiver = user.receiver.filter(|link| *link != index);
        for writer in &mut user.writers {
            writer.link = writer.link.filter(|link| *link != index);
        }
    }

    fn finish(mut self) -> Outcome {
        self.ledger.counts.milliseconds = self.now_ms;
        self.ledger.counts.failed_commits = self.host.store.disk.failed_commits();
        self.ledger.finish()
    }
}
