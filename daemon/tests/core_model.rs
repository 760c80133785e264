//! Random histories: a few users, several connections each, sockets that take a few bytes, a store that
//! is slow or fails, connections cut and relays killed at any point. What the delivery contract says
//! (spec/wire.md, sections 5 and 6) holds in each. A failure is a seed: it stays in `SEEDS`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use std::collections::{BTreeMap, BTreeSet};

use core_common::*;
use e2e_protocol::ids::Uid;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::session::{Credit, Receive};
use e2e_relayd::core::Policy;
use e2e_relayd::limits::Limits;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// Seeds that found something once.
const SEEDS: [u64; 1] = [
    2, // a result for a message of before the restart made its number a conflict
];
const FRESH_SEEDS: u64 = 100;
const STEPS: u32 = 250;

/// A message, by sender and number: each is sent under a number of its own, whatever the lane.
type Id = (usize, u64);

#[derive(Default)]
struct Message {
    to: usize,
    /// The relay took it to its disk, or the recipient has it.
    stored: bool,
    collected: bool,
    /// The recipient said ACK, heard or not.
    acked: bool,
    /// How often it was sent, and how often refused.
    sent: u32,
    refused: u32,
    /// The connection that it was sent on last, and whether no result came since.
    sent_on: Peer,
    waits: bool,
    delivered: u32,
}

impl Message {
    /// Every copy was refused: nobody may get it.
    fn is_refused(&self) -> bool {
        self.sent == self.refused
    }
}

#[derive(Default)]
struct User {
    uid: Uid,
    receiver: Option<Peer>,
    sender: Option<Peer>,
    lane: u64,
    next: u64,
    /// The open connections that something was sent on; once there were two, nobody can say which of
    /// them a result goes to.
    sent_on: BTreeSet<Peer>,
    is_mixed: bool,
    /// What this user's receiver got and did not acknowledge: sequence, and which message unless a notice.
    to_ack: Vec<(u64, Option<Id>)>,
    /// The last number that the receiver got from each sending connection, of those sent once.
    newest: BTreeMap<Peer, u64>,
}

struct Model {
    rng: ChaCha20Rng,
    world: World,
    users: Vec<User>,
    messages: BTreeMap<Id, Message>,
    failing: bool,
}

impl Model {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            ring_bytes_max: 256 * 1024,
            ring_bytes_per_mailbox: 16 * 1024,
            append_bytes_max: 2_048,
            replay_bytes: 1_024,
            offer_bytes: 1_024,
            output_bytes_max: 2_048,
            store_in_flight_bytes_max: 4_096,
            mailbox_messages_max: 60,
            ..Limits::default()
        };
        let mut world = World::with(limits, Policy::default());
        let users = USERS
            .iter()
            .map(|who| User { uid: world.claim(who), lane: 1, next: 1, ..User::default() })
            .collect();
        let rng = ChaCha20Rng::seed_from_u64(seed);
        Self { rng, world, users, messages: BTreeMap::new(), failing: false }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end
    }

    fn pick(&mut self) -> usize {
        usize::try_from(self.below(USERS.len() as u64)).unwrap()
    }

    fn now(&self) -> u64 {
        self.world.now.relay_ms
    }

    fn step(&mut self) {
        let who = self.pick();
        match self.below(100) {
            0..30 => self.send(who),
            30..36 => self.send_again(who),
            36..52 => self.ack(who),
            52..58 => self.receive(who),
            58..61 => self.connect_sender(who),
            61..63 => self.cut(who),
            63..73 => self.disk_works(),
            73..75 => {
                self.failing = !self.failing && self.below(2) == 0;
                self.world.disk.fail(self.failing);
            }
            75..80 => self.world.disk.held = !self.world.disk.held,
            80..87 => self.change_socket(who),
            87..94 => {
                let ms = self.below(700);
                self.world.advance(ms);
            }
            94 if self.below(4) == 0 => self.restart(),
            _ => {
                self.world.turn();
            }
        }
        if self.below(2) == 0 {
            self.world.settle();
        }
        self.look();
    }

    fn send(&mut self, from: usize) {
        let Some(peer) = self.sender(from) else { return };
        let number = self.users[from].next;
        self.users[from].next += 1;
        let to = self.pick();
        self.messages.insert((from, number), Message { to, ..Message::default() });
        self.put_send(peer, from, number);
    }

    /// What a client does after a break: the same number again, in the same lane.
    fn send_again(&mut self, from: usize) {
        let Some(peer) = self.sender(from) else { return };
        let next = self.users[from].next;
        let number = next.saturating_sub(1 + self.below(20)).max(1);
        if self.messages.contains_key(&(from, number)) {
            self.put_send(peer, from, number);
        }
    }

    fn put_send(&mut self, peer: Peer, from: usize, number: u64) {
        let user = &mut self.users[from];
        user.sent_on.insert(peer);
        user.sent_on.retain(|peer| self.world.is_open(*peer));
        user.is_mixed |= user.sent_on.len() > 1;
        let message = self.messages.get_mut(&(from, number)).unwrap();
        (message.sent_on, message.waits) = (peer, true);
        message.sent += 1;
        let to = self.users[message.to].uid;
        let mut envelope = vec![u8::try_from(from).unwrap(); 9 + usize::try_from(number * 37 % 400).unwrap()];
        envelope[1..9].copy_from_slice(&number.to_be_bytes());
        self.world.send(peer, to, self.users[from].lane, number, &envelope);
    }

    fn sender(&mut self, who: usize) -> Option<Peer> {
        if self.users[who].sender.is_none_or(|peer| !self.world.is_open(peer)) {
            self.connect_sender(who);
        }
        self.users[who].sender.filter(|peer| self.world.is_open(*peer))
    }

    fn connect_sender(&mut self, who: usize) {
        if let Some(before) = self.users[who].sender.filter(|_| self.below(4) > 0) {
            self.hang_up(before);
        }
        let receiver = self.users[who].receiver.filter(|peer| self.world.is_open(*peer));
        // Either a connection of its own, or the receiving one: then results go between deliveries.
        self.users[who].sender = match receiver {
            Some(peer) if self.below(2) == 0 => Some(peer),
            _ => self.login(who, Receive::No),
        };
    }

    fn receive(&mut self, who: usize) {
        let messages = 1 + u32::try_from(self.below(12)).unwrap();
        let bytes = 16_448 + u32::try_from(self.below(5_000)).unwrap();
        if let Some(peer) = self.login(who, Receive::TakeOver(Credit { messages, bytes })) {
            let socket_bytes = 1 + usize::try_from(self.below(3_000)).unwrap();
            self.world.links[peer].socket_bytes = socket_bytes;
        } else {
            self.users[who].receiver = None;
        }
    }

    /// `None` if the name has too many connections.
    fn login(&mut self, who: usize, receive: Receive) -> Option<Peer> {
        let purpose = e2e_protocol::wire::session::Purpose::Login;
        let peer = self.world.challenged(purpose);
        self.world.proof(peer, USERS[who], purpose, receive);
        if receive != Receive::No {
            self.look();
            self.users[who].receiver = Some(peer);
            self.users[who].to_ack.clear();
            self.users[who].newest.clear();
        }
        self.world.turn();
        self.world.turn();
        self.look();
        self.world.links[peer].welcome.map(|_| peer)
    }

    fn cut(&mut self, who: usize) {
        let peer =
            if self.below(2) == 0 { self.users[who].receiver.take() } else { self.users[who].sender.take() };
        // It may be both: who said the last word on a connection says nothing more on it.
        let user = &mut self.users[who];
        user.receiver = user.receiver.filter(|other| Some(*other) != peer);
        user.sender = user.sender.filter(|other| Some(*other) != peer);
        if let Some(peer) = peer.filter(|peer| self.world.is_open(*peer)) {
            if self.below(3) == 0 {
                self.world.end_of_input(peer);
            } else {
                self.hang_up(peer);
            }
        }
    }

    /// As [`World::hang_up`], but for letting everything else happen.
    fn hang_up(&mut self, peer: Peer) {
        if self.world.is_open(peer) {
            self.world.core.begin_turn(self.world.now);
            self.world.core.handle_lost(self.world.links[peer].id);
            self.world.links[peer].cut();
            self.world.turn();
        }
    }

    fn ack(&mut self, who: usize) {
        let Some(peer) = self.users[who].receiver.filter(|peer| self.world.is_open(*peer)) else { return };
        let count = usize::try_from(self.below(8)).unwrap().min(self.users[who].to_ack.len());
        let acked: Vec<_> = self.users[who].to_ack.drain(..count).collect();
        // In ranges, where sequences follow each other.
        for range in acked.chunk_by(|one, next| one.0 + 1 == next.0) {
            let number = |id: &Option<Id>| id.map_or(0, |(_, number)| number);
            let receipts: Vec<_> = range.iter().map(|(_, id)| receipt(number(id))).collect();
            for (_, id) in range.iter().filter(|(_, id)| id.is_some()) {
                self.messages.get_mut(&id.unwrap()).unwrap().acked = true;
            }
            self.world.ack(peer, range[0].0, &receipts);
        }
    }

    fn disk_works(&mut self) {
        let now = self.now();
        let (commits, reads) = self.world.disk.waiting();
        if commits > 0 {
            let count = 1 + usize::try_from(self.below(commits as u64)).unwrap();
            self.world.disk.commit(count, now);
        }
        if reads > 0 {
            let index = usize::try_from(self.below(reads as u64)).unwrap();
            if self.below(2) == 0 {
                self.world.disk.read(index, now);
            } else {
                self.world.disk.read_and_overtake(index, now);
            }
        }
    }

    fn change_socket(&mut self, who: usize) {
        let pick = self.below(2);
        let user = &self.users[who];
        let peer = if pick == 0 { user.receiver } else { user.sender };
        if let Some(peer) = peer {
            let socket_bytes = 1 + usize::try_from(self.below(2_000)).unwrap();
            let piece = 1 + usize::try_from(self.below(600)).unwrap();
            let link = &mut self.world.links[peer];
            link.reads = !link.reads;
            link.socket_bytes = socket_bytes;
            link.piece = piece;
        }
    }

    fn restart(&mut self) {
        self.look();
        (self.failing, self.world.disk.held) = (false, false);
        self.world.disk.fail(false);
        self.world.restart();
        for user in &mut self.users {
            (user.receiver, user.sender) = (None, None);
            user.to_ack.clear();
            user.newest.clear();
            user.is_mixed = false;
        }
    }

    /// Takes what every client heard, and holds it to the contract.
    fn look(&mut self) {
        for peer in 0..self.world.links.len() {
            use ErrorCode::{Replaced, SlowReader, TooManyConnections};

            let ended = self.world.last_words(peer);
            let is_fair = matches!(ended, None | Some(Replaced | SlowReader | TooManyConnections));
            assert!(is_fair, "{ended:?} for no reason");
            let results = std::mem::take(&mut self.world.links[peer].results);
            let delivered = self.world.delivered(peer);
            if results.is_empty() && delivered.is_empty() {
                continue;
            }
            let uid = self.world.links[peer].welcome.unwrap().uid;
            let who = self.users.iter().position(|user| user.uid == uid).unwrap();
            for told in results {
                let message = self.messages.get_mut(&(who, told.number)).unwrap();
                message.waits = false;
                match told.word.as_str() {
                    "STORED" => message.stored = true,
                    "COLLECTED" | "DONE" => {
                        assert!(message.delivered > 0, "collected before it was delivered: {told:?}");
                        if let Some(known) = told.receipt {
                            assert_eq!(known, receipt(told.number), "the receipt of another message");
                        }
                        (message.stored, message.collected) = (true, true);
                    }
                    "UNCERTAIN" => {}
                    "BUSY" | "MAILBOX_FULL" | "STORE_FAILED" | "ID_TOO_OLD" => message.refused += 1,
                    word => panic!("{word}"),
                }
            }
            for message in delivered {
                let from = self.users.iter().position(|user| user.uid == message.peer).unwrap();
                let id = message.notice.is_none().then_some((from, message.number));
                if self.users[who].receiver == Some(peer) {
                    self.users[who].to_ack.push((message.sequence, id));
                }
                if message.notice.is_some() {
                    self.messages.get_mut(&(who, message.number)).unwrap().stored = true;
                    self.messages.get_mut(&(who, message.number)).unwrap().collected = true;
                    continue;
                }
                assert_eq!(message.envelope[0], u8::try_from(from).unwrap());
                assert_eq!(message.envelope[1..9], message.number.to_be_bytes());
                let known = self.messages.get_mut(&(from, message.number)).unwrap();
                assert_eq!(known.to, who, "delivered to who it was not for");
                assert!(!known.is_refused(), "delivered although it was refused: {message:?}");
                known.delivered += 1;
                if known.sent == 1 && self.users[who].receiver == Some(peer) {
                    let before = self.users[who].newest.insert(known.sent_on, message.number);
                    assert!(before < Some(message.number), "out of order: {message:?} after {before:?}");
                }
            }
        }
    }

    /// At the end everything works again: what was promised arrives, and all counters return to zero.
    fn finish(&mut self) {
        self.world.disk.fail(false);
        self.world.disk.held = false;
        self.world.advance(3_000);
        self.look();
        for link in &mut self.world.links {
            link.reads = true;
            link.socket_bytes = usize::MAX;
            link.piece = usize::MAX;
        }
        self.world.advance(1_000);
        self.look();
        for (id, message) in &self.messages {
            let is_heard = !self.users[id.0].is_mixed
                && self.users[id.0].sender == Some(message.sent_on)
                && self.world.is_open(message.sent_on)
                && !self.world.links[message.sent_on].ends;
            assert!(!(is_heard && message.waits), "{id:?} has no result");
        }
        if self.below(2) == 0 {
            self.restart();
        }
        for peer in 0..self.world.links.len() {
            if self.world.is_open(peer) {
                self.world.hang_up(peer);
            }
        }
        self.look();
        let mut arrived: BTreeSet<Id> = BTreeSet::new();
        for _ in 0..3 {
            for who in USERS {
                let peer = self.world.login(who, credit(3));
                loop {
                    self.world.settle();
                    let delivered = self.world.delivered(peer);
                    if delivered.is_empty() {
                        break;
                    }
                    for message in &delivered {
                        if message.notice.is_none() {
                            let from = self.users.iter().position(|user| user.uid == message.peer).unwrap();
                            let known = self.messages.get_mut(&(from, message.number)).unwrap();
                            assert!(!known.is_refused(), "delivered although it was refused: {message:?}");
                            known.delivered += 1;
                            arrived.insert((from, message.number));
                        }
                    }
                    self.world.ack_all(peer, &delivered);
                }
            }
        }
        for (id, message) in &self.messages {
            assert!(!message.stored || message.delivered > 0, "{id:?} was stored and never delivered");
            assert!(!message.stored || message.acked || arrived.contains(id), "{id:?} is lost");
            assert!(
                !message.collected || message.acked || arrived.contains(id),
                "{id:?} was not acknowledged"
            );
        }
        self.world.advance(1_000);
        assert_eq!(self.world.ring_bytes(), 0, "memory that nobody needs");
        self.world.restart();
        for who in USERS {
            let peer = self.world.login(who, Receive::No);
            assert_eq!(
                self.world.links[peer].welcome.unwrap().queued,
                0,
                "something is left of {who}'s mailbox"
            );
        }
    }
}

fn run(seed: u64) {
    let mut model = Model::new(seed);
    for _ in 0..STEPS {
        model.step();
    }
    model.finish();
}

fn run_all(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("seed {seed}");
        }
    }
}

#[test]
fn keeps_the_contract_in_random_histories() {
    let from = std::env::var("E2E_MODEL_FROM").map_or(0, |from| from.parse().unwrap());
    let count = std::env::var("E2E_MODEL_SEEDS").map_or(FRESH_SEEDS, |count| count.parse().unwrap());
    run_all(from..from + count);
}

#[test]
fn keeps_the_contract_in_histories_that_broke_it_once() {
    run_all(SEEDS.into_iter());
}
