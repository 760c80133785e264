//! The relay's core joined in memory with clients, a store and virtual time: no socket, no thread, no
//! sleep. Clients speak raw frames, and every byte in either direction goes through `Frame::parse`.
//!
//! [`World`] is the host, [`link`] one connection, [`disk`] the store. A turn happens only if something
//! calls for one, as in the event loop: a core that forgets to ask for a turn shows here.
#![allow(
    dead_code, // each test binary uses its part of this
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

pub(crate) mod disk;
pub(crate) mod link;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::OnceLock;

use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::{Lane, Name, Nonce, Number, Receipt, RelayId, Sequence, Uid};
use e2e_protocol::limits::FRAME_BYTES_MAX;
use e2e_protocol::login::{Login, token_proof};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::{Credit, Hello, Proof, Purpose, Receive};
use e2e_protocol::wire::transfer::Ack;
use e2e_protocol::wire::{ErrorCode, Frame, FrameType, Parsed, Routing};
use e2e_relayd::address::AddressKey;
use e2e_relayd::core::{Action, Core, Now, Policy};
use e2e_relayd::limits::Limits;
use e2e_relayd::reason::Reason;
use e2e_relayd::store::Snapshot;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use disk::Disk;
use link::{Delivered, Link};

/// When the tests take place.
pub(crate) const NOW: u64 = 1_790_000_000_000;
/// Credit that no test uses up.
pub(crate) const PLENTY: Credit = Credit { messages: u32::MAX, bytes: u32::MAX };
/// Takes over, with [`PLENTY`].
pub(crate) const TAKE_OVER: Receive = Receive::TakeOver(PLENTY);

/// A connection of a [`World`], by its place in the order of opening.
pub(crate) type Peer = usize;

/// Takes over, with so much credit in messages.
pub(crate) fn credit(messages: u32) -> Receive {
    Receive::TakeOver(Credit { messages, bytes: u32::MAX })
}

/// One of three keys, made once: 0 is everybody's unless a test says otherwise.
pub(crate) fn identity(index: usize) -> &'static Identity {
    static KEYS: [OnceLock<Identity>; 3] = [const { OnceLock::new() }; 3];
    KEYS[index].get_or_init(|| Identity::generate(&mut ChaCha20Rng::seed_from_u64(index as u64)))
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn receipt(mark: u64) -> Receipt {
    let mut bytes = [0xA5; 32];
    bytes[..8].copy_from_slice(&mark.to_be_bytes());
    Receipt(bytes)
}

/// The host.
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) disk: Disk,
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
    pub(crate) now: Now,
    pub(crate) links: Vec<Link>,
    pub(crate) turns: u64,
    /// Where the next connections come from.
    pub(crate) address: AddressKey,
    uids: BTreeMap<String, Uid>,
    relay_id: RelayId,
    rng: ChaCha20Rng,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), Policy::default())
    }

    pub(crate) fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(limits, Policy::default())
    }

    pub(crate) fn with(limits: Limits, policy: Policy) -> Self {
        let disk = Disk::new();
        let now = Now { monotonic_ms: 0, relay_ms: NOW };
        let snapshot = Snapshot::load(disk.engine(), [9; 32], NOW).unwrap();
        Self {
            core: Core::new(limits.clone(), policy.clone(), &snapshot, [3; 32]),
            disk,
            limits,
            policy,
            now,
            links: Vec::new(),
            turns: 0,
            address: AddressKey::V4(0x7F00_0001),
            uids: BTreeMap::new(),
            relay_id: snapshot.relay_id,
            rng: ChaCha20Rng::seed_from_u64(5),
        }
    }

    /// The relay is killed and started again: what was not committed is gone, and so is every connection.
    pub(crate) fn restart(&mut self) {
        self.disk.crash();
        let snapshot = Snapshot::load(self.disk.engine(), [8; 32], self.now.relay_ms).unwrap();
        assert_eq!(snapshot.relay_id, self.relay_id, "the relay keeps its id");
        self.core = Core::new(self.limits.clone(), self.policy.clone(), &snapshot, [4; 32]);
        self.links.iter_mut().for_each(Link::cut);
        self.links.iter_mut().for_each(|link| link.reasons = None);
        self.now.monotonic_ms = 0;
    }

    // Time and turns.

    /// Lets everything happen that can happen now.
    pub(crate) fn settle(&mut self) {
        let start = self.turns;
        while self.needs_turn() {
            self.turn();
            assert!(self.turns - start < 200_000, "the relay spins");
        }
        assert!(self.core.accounts_fit(), "memory is accounted for");
        self.assert_all_is_counted();
    }

    /// Nobody was told a reason, or closed for one, that was not counted.
    fn assert_all_is_counted(&self) {
        for reason in Reason::ALL {
            let of = |link: &Link| link.reasons.as_ref()?.get(reason.name()).copied();
            let told: u64 = self.links.iter().filter_map(of).sum();
            assert!(self.count(reason) >= told, "{reason}: {told}, but {} are counted", self.count(reason));
        }
    }

    /// How often this was a reason, as the relay counts.
    pub(crate) fn count(&self, reason: impl Into<Reason>) -> u64 {
        self.core.counters().of(reason.into())
    }

    /// Every reason that was counted, and how often.
    pub(crate) fn counted(&self) -> Vec<(&'static str, u64)> {
        let counts = Reason::ALL.into_iter().map(|reason| (reason.name(), self.count(reason)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Lets `ms` go by, stopping at each of the relay's deadlines.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.settle();
        let end_ms = self.now.monotonic_ms + ms;
        while let Some(at_ms) = self.core.next_deadline_ms().filter(|at_ms| *at_ms <= end_ms) {
            self.step_to(at_ms);
        }
        self.step_to(end_ms);
    }

    fn step_to(&mut self, at_ms: u64) {
        let step_ms = at_ms.saturating_sub(self.now.monotonic_ms);
        self.now.monotonic_ms += step_ms;
        self.now.relay_ms += step_ms;
        self.settle();
    }

    fn needs_turn(&self) -> bool {
        self.core.next_deadline_ms().is_some_and(|at_ms| at_ms <= self.now.monotonic_ms)
            || self.disk.has_answers()
            || self.links.iter().any(|link| link.needs_turn(&self.core))
    }

    pub(crate) fn turn(&mut self) {
        self.turns += 1;
        self.core.begin_turn(self.now);
        for link in &mut self.links {
            link.feed(&mut self.core);
        }
        for completion in self.disk.answers(self.now.relay_ms) {
            self.core.handle_completion(completion);
        }
        self.core.end_turn();
        for peer in 0..self.links.len() {
            if self.links[peer].is_writable() {
                self.write(peer);
            }
        }
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Write(id) => {
                    if let Some(peer) = self.links.iter().position(|link| link.is(id)) {
                        self.write(peer);
                    }
                }
                Action::Close(id, reason) => {
                    if let Some(link) = self.links.iter_mut().find(|link| link.is(id)) {
                        link.close(reason);
                    }
                }
                Action::Store(request) => self.disk.submit(request),
            }
        }
        self.links.iter_mut().for_each(Link::read);
    }

    fn write(&mut self, peer: Peer) {
        loop {
            let link = &mut self.links[peer];
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = self.core.gather(link.id, &mut slices);
            let offered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
            if offered.is_empty() {
                link.blocked = false;
                return;
            }
            link.writes += 1;
            if link.broken {
                return self.core.handle_lost(link.id);
            }
            let count = link.take(&offered);
            self.core.handle_written(link.id, count);
            link.blocked = count < offered.len();
            if link.blocked {
                return;
            }
        }
    }

    // Connections.

    pub(crate) fn connect(&mut self) -> Peer {
        self.core.begin_turn(self.now);
        let id = self.core.handle_opened(self.address);
        self.links.push(Link::new(id));
        self.links.len() - 1
    }

    /// Queues bytes for the relay as they are.
    pub(crate) fn raw(&mut self, peer: Peer, bytes: &[u8]) {
        self.links[peer].to_relay.extend(bytes);
    }

    /// Queues a frame.
    pub(crate) fn put<E: std::fmt::Debug>(
        &mut self,
        peer: Peer,
        emit: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let count = emit(&mut frame).unwrap();
        self.raw(peer, &frame[..count]);
    }

    pub(crate) fn hello(&mut self, peer: Peer, purpose: Purpose) {
        self.put(peer, |out| Hello { version_min: 1, version_max: 1, purpose }.emit(out));
    }

    /// Answers the CHALLENGE that came.
    pub(crate) fn proof(&mut self, peer: Peer, who: &str, purpose: Purpose, receive: Receive) {
        self.proof_by(peer, identity(0), who, purpose, receive, None);
    }

    pub(crate) fn proof_by(
        &mut self,
        peer: Peer,
        by: &Identity,
        who: &str,
        purpose: Purpose,
        receive: Receive,
        token: Option<&[u8]>,
    ) {
        let challenge = self.links[peer].challenge.expect("a CHALLENGE came");
        assert_eq!(challenge.relay_id, self.relay_id);
        let who = name(who);
        let login = Login {
            version: 1,
            purpose,
            relay_id: &challenge.relay_id,
            nonce: &challenge.nonce,
            name: &who,
            fingerprint: by.fingerprint(),
        };
        let signature = by.sign_login(&login, &mut self.rng);
        let token_proof = token.map_or([0; 32], |token| token_proof(token, &login));
        let identity_key = by.modulus();
        self.put(peer, |out| {
            Proof { receive, identity_key, signature: &signature, token_proof: &token_proof, name: who }
                .emit(out)
        });
    }

    /// Opens a connection and goes as far as PROOF.
    pub(crate) fn try_login(&mut self, who: &str, purpose: Purpose, receive: Receive) -> Peer {
        let peer = self.challenged(purpose);
        self.proof(peer, who, purpose, receive);
        self.settle();
        peer
    }

    /// Opens a connection and has it challenged.
    pub(crate) fn challenged(&mut self, purpose: Purpose) -> Peer {
        let peer = self.connect();
        self.hello(peer, purpose);
        self.settle();
        peer
    }

    pub(crate) fn login(&mut self, who: &str, receive: Receive) -> Peer {
        let peer = self.try_login(who, Purpose::Login, receive);
        self.logged_in(peer, who)
    }

    /// Logs in, and reads nothing of what comes; the socket holds so much.
    pub(crate) fn login_stalled(&mut self, who: &str, receive: Receive, socket_bytes: usize) -> Peer {
        let peer = self.challenged(Purpose::Login);
        self.links[peer].reads = false;
        self.links[peer].socket_bytes = socket_bytes;
        self.proof(peer, who, Purpose::Login, receive);
        self.settle();
        peer
    }

    pub(crate) fn register(&mut self, who: &str, receive: Receive) -> Peer {
        let peer = self.try_login(who, Purpose::Register, receive);
        self.logged_in(peer, who)
    }

    fn logged_in(&mut self, peer: Peer, who: &str) -> Peer {
        let welcome = self.links[peer].welcome.expect("a WELCOME came");
        self.uids.insert(who.to_owned(), welcome.uid);
        peer
    }

    /// Registers a name and leaves.
    pub(crate) fn claim(&mut self, who: &str) -> Uid {
        let peer = self.register(who, Receive::No);
        self.hang_up(peer);
        self.uid(who)
    }

    pub(crate) fn uid(&self, who: &str) -> Uid {
        self.uids[who]
    }

    /// The peer's socket is gone.
    pub(crate) fn hang_up(&mut self, peer: Peer) {
        self.core.begin_turn(self.now);
        self.core.handle_lost(self.links[peer].id);
        self.links[peer].cut();
        self.turn();
        self.settle();
    }

    /// The peer closes its sending direction.
    pub(crate) fn end_of_input(&mut self, peer: Peer) {
        self.links[peer].ends = true;
    }

    // Messages.

    pub(crate) fn send(&mut self, peer: Peer, to: Uid, lane: u64, number: u64, envelope: &[u8]) {
        self.send_ttl(peer, to, lane, number, 0, envelope);
    }

    pub(crate) fn send_ttl(
        &mut self,
        peer: Peer,
        to: Uid,
        lane: u64,
        number: u64,
        ttl: u32,
        envelope: &[u8],
    ) {
        let routing = Routing {
            peer: to,
            lane: Lane(lane),
            number: Number(number),
            ttl_seconds: ttl,
            ..Routing::default()
        };
        self.put(peer, |out| emit_routed(out, FrameType::Send, &routing, envelope));
    }

    /// Sends numbers `first` to `last` in lane 1, each with its number for an envelope.
    pub(crate) fn send_all(&mut self, peer: Peer, to: Uid, first: u64, last: u64) {
        for number in first..=last {
            self.send(peer, to, 1, number, &number.to_be_bytes());
        }
    }

    pub(crate) fn ack(&mut self, peer: Peer, first: u64, receipts: &[Receipt]) {
        self.put(peer, |out| Ack::emit(out, Sequence(first), receipts));
    }

    /// Acknowledges these deliveries, each with a receipt made of its number.
    pub(crate) fn ack_all(&mut self, peer: Peer, deliveries: &[Delivered]) {
        for delivery in deliveries {
            self.ack(peer, delivery.sequence, &[receipt(delivery.number)]);
        }
    }

    /// Takes what was delivered since the last call.
    pub(crate) fn delivered(&mut self, peer: Peer) -> Vec<Delivered> {
        std::mem::take(&mut self.links[peer].delivered)
    }

    /// The numbers of what was delivered since the last call.
    pub(crate) fn numbers(&mut self, peer: Peer) -> Vec<u64> {
        self.delivered(peer).iter().map(|delivery| delivery.number).collect()
    }

    /// Takes the results since the last call: number and word.
    pub(crate) fn results(&mut self, peer: Peer) -> Vec<(u64, String)> {
        let results = std::mem::take(&mut self.links[peer].results);
        results.into_iter().map(|result| (result.number, result.word)).collect()
    }

    /// Takes the errors that answered requests: request and name.
    pub(crate) fn request_errors(&mut self, peer: Peer) -> Vec<(u32, ErrorCode)> {
        std::mem::take(&mut self.links[peer].request_errors)
    }

    /// The ERROR that closed a connection.
    pub(crate) fn last_words(&self, peer: Peer) -> Option<ErrorCode> {
        self.links[peer].last_words
    }

    pub(crate) fn is_open(&self, peer: Peer) -> bool {
        self.links[peer].closed.is_none()
    }

    /// Bytes of memory that hold messages.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.core.counts().2
    }
}

/// Numbers `first` to `last`, each with this word.
pub(crate) fn all(first: u64, last: u64, word: &str) -> Vec<(u64, String)> {
    (first..=last).map(|number| (number, word.to_owned())).collect()
}

/// Cuts bytes into frames; returns how many bytes were used.
pub(crate) fn frames(bytes: &[u8], body_bytes_max: usize, mut each: impl FnMut(Frame<'_>)) -> usize {
    let mut at = 0;
    while let Parsed::Frame(frame, count) =
        Frame::parse(&bytes[at..], body_bytes_max).expect("the relay writes only frames")
    {
        each(frame);
        at += count;
    }
    at
}

/// Who a nonce in a CHALLENGE must not be.
pub(crate) const NO_NONCE: Nonce = Nonce::ZERO;
