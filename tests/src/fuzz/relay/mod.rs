//! The relay's core and the store's committer, in memory, under whatever its peers do.
//!
//! Owns: what one input means: a row of acts, each a byte and what it needs. Where to go next: `talk` (what a peer
//! says), `checks` (what must hold). The host is the one of the core's own tests, which checks the order of what it is told.

mod checks;
mod talk;

use e2e_protocol::ids::Uid;
use e2e_protocol::wire::session::{Purpose, Receive, Registration};
use e2e_relayd::core::Policy;
use e2e_relayd::limits::Limits;
use e2e_relayd::store::Request;

use super::core_common::World;
use super::input::Input;
use crate::relay_sim::keys;
use checks::Ledger;

/// Who is registered when it begins: of the simulator's names the first ones.
const REGISTERED: usize = 3;
const ACTS_MAX: usize = 160;
const CONNECTIONS_MAX: usize = 24;
const TOKEN: &[u8] = b"let me in";

/// Connections of strangers: nobody is logged in, and few may wait for it.
pub(super) fn strangers(data: &[u8]) {
    let mut input = Input::new(data);
    let registration = input.pick(&[Registration::Open, Registration::Token, Registration::Closed]);
    let policy = Policy { registration, tokens: vec![TOKEN.to_vec()], ..Policy::default() };
    let mut relay = Relay::new(small(), policy, input);
    relay.act_all();
    relay.finish();
}

/// Connections of three users who are logged in, and of whoever else comes.
pub(super) fn users(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = if input.index(2) == 0 { small() } else { Limits::default() };
    let mut relay = Relay::new(limits, Policy::default(), input);
    for who in 0..REGISTERED {
        let credit = relay.draw_credit();
        relay.log_in(who, 0, Purpose::Login, Receive::TakeOver(credit));
    }
    relay.act_all();
    relay.finish();
}

/// Limits that an input can meet.
fn small() -> Limits {
    Limits {
        connections_max: 16,
        connections_before_login_max: 6,
        connections_per_name_max: 3,
        names_max: 5,
        verifications_per_turn: 2,
        output_bytes_max: 2_048,
        ring_bytes_max: 256 * 1024,
        ring_bytes_per_mailbox: 16 * 1024,
        mailbox_messages_max: 40,
        store_in_flight_bytes_max: 4_096,
        append_bytes_max: 2_048,
        replay_bytes: 1_024,
        offer_bytes: 2_048,
        lanes_per_name_max: 2,
        lanes_max: 5,
        requests_max: 6,
        held_notices_max: 4,
        ..Limits::default()
    }
}

/// The relay, its peers, and what the input still says.
struct Relay<'a> {
    world: World,
    ledger: Ledger,
    input: Input<'a>,
    is_stopped: bool,
}

impl<'a> Relay<'a> {
    fn new(limits: Limits, policy: Policy, input: Input<'a>) -> Self {
        let mut world = World::with(limits, policy);
        for who in 0..REGISTERED {
            let identity = keys::identity(who, 0);
            let uid = uid(who);
            world.disk.submit(Request::Register {
                slot: uid.slot(),
                generation: uid.generation(),
                name: *keys::name(who),
                fingerprint: *identity.fingerprint(),
                identity_key: Box::new(*identity.modulus()),
                token: 0,
            });
        }
        world.disk.work(world.now.relay_ms);
        world.restart();
        Self { world, ledger: Ledger::default(), input, is_stopped: false }
    }

    fn act_all(&mut self) {
        for _ in 0..ACTS_MAX {
            if self.input.is_empty() {
                break;
            }
            self.act();
            self.look();
        }
    }

    /// One act. What peers say is heard at the next pause.
    fn act(&mut self) {
        let act = self.input.u8();
        match act {
            0 if self.world.links.len() < CONNECTIONS_MAX => {
                self.world.connect();
            }
            1..=28 => self.talk(act),
            29 => self.world.settle(),
            30 => {
                let ms = self.input.pick(&[1, 50, 201, 1_000, 5_001, 10_001, 30_001, 60_001, 120_001]);
                self.world.advance(ms);
            }
            31 => {
                let days = u64::from(self.input.u8() % 40);
                self.world.now.relay_ms += days * 86_400_000;
            }
            32 => {
                let fails = self.input.u8();
                self.world.disk.fail(fails & 1 != 0);
                self.world.disk.apply_failed(fails & 2 != 0);
                self.world.disk.fail_reads(fails & 4 != 0);
            }
            33 => self.world.disk.held = !self.world.disk.held,
            34 => {
                let (count, now) = (1 + self.input.index(4), self.world.now.relay_ms);
                self.world.disk.commit(count, now);
            }
            35 if self.world.disk.waiting().1 > 0 => {
                let (index, now) = (self.input.index(self.world.disk.waiting().1), self.world.now.relay_ms);
                self.world.disk.read_and_overtake(index, now);
            }
            36 if !self.is_stopped => self.restart(),
            37 if self.input.u8() == 7 => {
                self.world.core.handle_stop();
                self.is_stopped = true;
            }
            _ => self.disturb(act),
        }
    }

    /// What a peer does to its connection.
    fn disturb(&mut self, act: u8) {
        let Some(peer) = self.pick_peer() else { return };
        match act {
            38 => self.world.end_of_input(peer),
            39 if self.world.is_open(peer) => self.world.hang_up(peer),
            40 => {
                let link = &mut self.world.links[peer];
                link.reads = !link.reads;
            }
            41 => {
                let bytes = self.input.pick(&[1, 20, 100, 4_096, usize::MAX]);
                self.world.links[peer].socket_bytes = bytes;
            }
            42 => {
                let piece = self.input.pick(&[1, 7, 64, 1_000, usize::MAX]);
                self.world.links[peer].piece = piece;
            }
            43 => self.world.links[peer].broken = true,
            _ => {}
        }
    }

    fn restart(&mut self) {
        // Of what waits, some is on the disk.
        let (count, now) = (self.input.index(4), self.world.now.relay_ms);
        self.world.disk.commit(count, now);
        self.world.disk.fail_reads(false);
        self.world.disk.fail(false);
        self.world.restart();
    }

    /// One of the connections, open or not.
    fn pick_peer(&mut self) -> Option<usize> {
        let count = self.world.links.len();
        (count > 0).then(|| self.input.index(count))
    }

    /// Everybody goes, the disk is well: nothing may be left in memory, and nothing goes on for ever.
    fn finish(&mut self) {
        self.world.disk.held = false;
        self.world.disk.fail(false);
        self.world.disk.fail_reads(false);
        for link in &mut self.world.links {
            (link.reads, link.socket_bytes, link.piece) = (true, usize::MAX, usize::MAX);
        }
        self.world.advance(2_000);
        self.look();
        for peer in 0..self.world.links.len() {
            if self.world.is_open(peer) {
                self.world.hang_up(peer);
            }
        }
        self.world.advance(20_000);
        assert_eq!(self.world.core.counts().1, 0, "connections are left");
        assert_eq!(self.world.ring_bytes(), 0, "memory of messages is left");
        let stopped = self.world.core.is_stopped();
        assert_eq!(stopped, self.is_stopped, "it has stopped as it was told");
    }
}

/// Who is registered at first.
fn uid(who: usize) -> Uid {
    let number = u32::try_from(who).unwrap_or(0);
    Uid::new(number, number + 1)
}
