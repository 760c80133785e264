//! The relay's core and clients' engines joined in memory, under virtual time and one seed: no socket,
//! no sleeping, no thread. The seed of the simulator.
//!
//! Owns: pipes between them, the order in which bytes move (drawn from the seed), and time, which only
//! goes on when nothing else can. Must not know what should come out: that is the tests' business.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use e2e_client::engine::{Config, Engine, Event, Fate, Output, Receiving, Turn};
use e2e_client::state::memory::Unsynced;
use e2e_client::state::{Account, Key, MemoryDisk, Transaction};
use e2e_protocol::e2e::{Identity, Kind, Plaintext, Profile};
use e2e_protocol::ids::{MessageId, Name};
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::{Frame, Parsed};
use e2e_relayd::address::AddressKey;
use e2e_relayd::core::{Action, ConnId, Core, Now, Policy};
use e2e_relayd::limits::Limits;
use e2e_relayd::store::{Committer, MemoryEngine, Request, Snapshot};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Most bytes that move at once: smaller than a frame and larger, as it comes.
const MOVE_BYTES_MAX: u64 = 3_000;
/// Virtual time at the start, Unix milliseconds.
const START_MS: u64 = 1_700_000_000_000;

/// A message that a client showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// From whom.
    pub from: Name,
    /// Which message.
    pub id: MessageId,
    /// Its text.
    pub text: String,
}

/// One client: a home, and while it runs a process with a connection.
#[derive(Default)]
pub struct Client {
    disk: MemoryDisk,
    engine: Option<Engine>,
    connection: Option<Pipe>,
    /// Where messages are kept that were shown, until the engine is told.
    erase: Vec<Key>,
    /// The primes of its identity key, 256 bytes, for searching.
    pub primes: Vec<u8>,
    /// What was shown, over all its processes.
    pub shown: Vec<Shown>,
    /// What became of each message that it sent, in order.
    pub fates: BTreeMap<MessageId, Vec<Fate>>,
}

struct Pipe {
    id: ConnId,
    to_relay: VecDeque<u8>,
    /// What came and is not a whole frame yet.
    at_relay: Vec<u8>,
    to_client: VecDeque<u8>,
    at_client: Vec<u8>,
    relay_closed: bool,
}

/// Everything.
pub struct World {
    rng: ChaCha20Rng,
    now_ms: u64,
    store: Arc<MemoryEngine>,
    committer: Committer,
    requests: Vec<Request>,
    core: Core,
    /// All clients, by name.
    pub clients: BTreeMap<Name, Client>,
    /// Everything that ever crossed the pipes, for searching.
    pub wire: Vec<u8>,
}

impl World {
    /// An empty world, in which everything is drawn from `seed`.
    ///
    /// # Panics
    /// If the store in memory fails, which it can't.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let store = Arc::new(MemoryEngine::new());
        let core = start_core(&store, &mut rng, START_MS);
        Self {
            committer: Committer::new(Arc::clone(&store) as _),
            rng,
            now_ms: START_MS,
            store,
            requests: Vec::new(),
            core,
            clients: BTreeMap::new(),
            wire: Vec::new(),
        }
    }

    /// Makes a client with fresh keys, registers it, publishes its prekeys, and ends its process.
    ///
    /// # Panics
    /// If that doesn't come to an end.
    pub fn register(&mut self, name: &str) {
        let name: Name = name.parse().expect("a good name");
        let mut client = Client::default();
        let identity = Identity::generate(&mut self.rng).encode();
        // The two primes stand last (Identity::encode).
        client.primes = identity[identity.len() - 256..].to_vec();
        let mut state = Transaction::begin(&client.disk).expect("a new disk");
        state.write(Key::Identity, identity);
        Account { name, profile: Profile::Strict, registered: None }.store(&mut state);
        state.commit().expect("a new disk");
        self.clients.insert(name, client);
        self.start(&name, Config { register: true, upkeep: true, ..Config::default() });
        self.run_until("the registration", |world| {
            let engine = world.clients[&name].engine.as_ref().expect("it runs");
            engine.welcome().is_some() && !engine.is_publishing()
        });
        self.stop(&name);
    }

    /// Starts a process that sends and receives.
    pub fn start_both(&mut self, name: &str) {
        let config = Config { receive: Receiving::Messages, send: true, upkeep: true, ..Config::default() };
        self.start(&name.parse().expect("a good name"), config);
    }

    /// Starts a process.
    ///
    /// # Panics
    /// If its state can't be used.
    pub fn start(&mut self, name: &Name, config: Config) {
        let client = self.clients.get_mut(name).expect("it is registered");
        let mut turn = Turn::begin(&client.disk, self.now_ms, &mut self.rng).expect("its state");
        let engine = Engine::start(config, &mut turn);
        let output = turn.commit().expect("its state");
        client.engine = Some(engine.unwrap_or_else(|_| panic!("{name} starts")));
        client.connection = None;
        client.take(output, &mut self.wire);
        self.connect(name);
    }

    fn connect(&mut self, name: &Name) {
        self.core.begin_turn(now(self.now_ms));
        let id = self.core.handle_opened(AddressKey::V4(1));
        let client = self.clients.get_mut(name).expect("it is registered");
        client.connection = Some(Pipe {
            id,
            to_relay: VecDeque::new(),
            at_relay: Vec::new(),
            to_client: VecDeque::new(),
            at_client: Vec::new(),
            relay_closed: false,
        });
        self.turn(name, |engine, turn| engine.handle_connected(turn));
        self.finish_turn();
    }

    /// Writes a message; it goes out with the steps that follow.
    ///
    /// # Panics
    /// If the client doesn't run, or its lane is full.
    pub fn send(&mut self, from: &str, to: &str, text: &str) -> MessageId {
        let (from, to): (Name, Name) = (from.parse().unwrap(), to.parse().unwrap());
        let plaintext = Plaintext::new(Kind::Text, text.into(), self.now_ms, &mut self.rng);
        let sent = self.turn(&from, |engine, turn| engine.handle_message(turn, to, plaintext));
        sent.expect("its state").expect("a process that sends has a lane")
    }

    /// Ends a process in order.
    pub fn stop(&mut self, name: &Name) {
        self.turn(name, |engine, turn| engine.finish(turn)).expect("its state");
        self.lose(name);
        self.clients.get_mut(name).expect("it is registered").engine = None;
    }

    /// Ends a process as a power cut does.
    pub fn kill(&mut self, name: &str) {
        let name: Name = name.parse().expect("a good name");
        self.lose(&name);
        let unsynced = if self.chance(2) { Unsynced::Lost } else { Unsynced::Kept };
        let client = self.clients.get_mut(&name).expect("it is registered");
        client.engine = None;
        client.disk.crash(unsynced);
    }

    /// Cuts a connection; the process goes on, and connects again.
    pub fn cut(&mut self, name: &str) {
        let name: Name = name.parse().expect("a good name");
        self.lose(&name);
        if let Some(engine) = &mut self.clients.get_mut(&name).expect("it is registered").engine {
            engine.handle_disconnected();
            self.connect(&name);
        }
    }

    fn lose(&mut self, name: &Name) {
        if let Some(pipe) = self.clients.get_mut(name).and_then(|client| client.connection.take()) {
            self.core.begin_turn(now(self.now_ms));
            self.core.handle_lost(pipe.id);
            self.finish_turn();
        }
    }

    /// Kills the relay: what was not committed is gone. Starts it again, and everybody connects anew.
    pub fn crash_relay(&mut self) {
        self.requests.clear();
        self.committer = Committer::new(Arc::clone(&self.store) as _);
        self.core = start_core(&self.store, &mut self.rng, self.now_ms);
        let running: Vec<Name> =
            self.clients.iter().filter(|(_, c)| c.engine.is_some()).map(|(n, _)| *n).collect();
        for name in running {
            let client = self.clients.get_mut(&name).expect("it is there");
            client.connection = None;
            client.engine.as_mut().expect("it runs").handle_disconnected();
            self.connect(&name);
        }
    }

    /// Goes on until `done`, at most a day of virtual time.
    ///
    /// # Panics
    /// If it is not done by then.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline_ms = self.now_ms + 24 * 3_600_000;
        while !done(self) {
            assert!(self.now_ms < deadline_ms, "waited a day for {what}");
            self.step();
        }
    }

    /// Goes on for this many steps.
    pub fn run(&mut self, steps: u64) {
        (0..steps).for_each(|_| self.step());
    }

    /// One in `of`.
    pub fn chance(&mut self, of: u64) -> bool {
        self.rng.next_u64().is_multiple_of(of)
    }

    /// Everything in the store, for searching.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        use e2e_relayd::store::{Engine as _, Table};
        let mut bytes = Vec::new();
        for table in Table::ALL {
            let mut take = |key: &[u8], value: &[u8]| {
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(value);
                std::ops::ControlFlow::Continue(())
            };
            self.store.scan(table, &[], &[0xFF; 64], &mut take).expect("memory doesn't fail");
        }
        bytes
    }

    /// Whether nothing is on its way to the relay or its store.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let pipes = self.clients.values().filter_map(|client| client.connection.as_ref());
        self.requests.is_empty() && pipes.into_iter().all(|pipe| pipe.to_relay.is_empty())
    }

    /// One thing happens: bytes move somewhere, the store commits, a key is made, or time goes on.
    fn step(&mut self) {
        let names: Vec<Name> = self.clients.keys().copied().collect();
        let offset = usize::try_from(self.rng.next_u64() % 64).unwrap_or(0);
        let count = usize::try_from(1 + self.rng.next_u64() % MOVE_BYTES_MAX).unwrap_or(1);
        for name in names.iter().cycle().skip(offset).take(names.len()) {
            if self.move_to_client(name, count) || self.move_to_relay(name, count) || self.make_key(name) {
                return;
            }
        }
        if !self.requests.is_empty() {
            return self.commit();
        }
        self.pass_time();
    }

    fn move_to_relay(&mut self, name: &Name, count: usize) -> bool {
        let Some(pipe) = self.clients.get_mut(name).and_then(|client| client.connection.as_mut()) else {
            return false;
        };
        if pipe.to_relay.is_empty() || !self.core.may_read(pipe.id) {
            return false;
        }
        let count = count.min(pipe.to_relay.len());
        pipe.at_relay.extend(pipe.to_relay.drain(..count));
        self.core.begin_turn(now(self.now_ms));
        self.core.handle_heard(pipe.id);
        let mut at = 0;
        loop {
            match Frame::parse(&pipe.at_relay[at..], self.core.body_bytes_max(pipe.id)) {
                Ok(Parsed::Frame(frame, count)) => {
                    self.core.handle_frame(pipe.id, frame);
                    at += count;
                }
                Ok(Parsed::Incomplete { .. }) => break,
                Err(error) => panic!("{name} sent what is not a frame: {error}"),
            }
        }
        pipe.at_relay.drain(..at);
        self.finish_turn();
        true
    }

    fn move_to_client(&mut self, name: &Name, count: usize) -> bool {
        let client = self.clients.get_mut(name).expect("it is registered");
        let (Some(pipe), Some(engine)) = (&mut client.connection, &mut client.engine) else { return false };
        if pipe.to_client.is_empty() {
            if pipe.relay_closed {
                engine.handle_disconnected();
                self.connect(name);
                return true;
            }
            return false;
        }
        let count = count.min(pipe.to_client.len());
        pipe.at_client.extend(pipe.to_client.drain(..count));
        let mut turn = Turn::begin(&client.disk, self.now_ms, &mut self.rng).expect("its state");
        let mut at = 0;
        while let Parsed::Frame(frame, count) =
            Frame::parse(&pipe.at_client[at..], BODY_BYTES_MAX).expect("the relay sends frames")
        {
            engine.handle_frame(&mut turn, &frame).expect("its state");
            at += count;
        }
        engine.handle_time(&mut turn).expect("its state");
        let output = turn.commit().expect("its state");
        pipe.at_client.drain(..at);
        client.take(output, &mut self.wire);
        self.show(name);
        true
    }

    fn make_key(&mut self, name: &Name) -> bool {
        let Some(engine) = &mut self.clients.get_mut(name).expect("it is registered").engine else {
            return false;
        };
        if engine.keys_wanted().is_none() {
            return false;
        }
        engine.make_key(&mut self.rng);
        self.turn(name, |engine, turn| engine.handle_time(turn)).expect("its state");
        true
    }

    /// Tells the engine that what it gave out was shown.
    fn show(&mut self, name: &Name) {
        let keys = std::mem::take(&mut self.clients.get_mut(name).expect("it is there").erase);
        if !keys.is_empty() {
            self.turn(name, |engine, turn| {
                keys.into_iter().for_each(|key| engine.handle_shown(turn, key));
            });
        }
    }

    fn commit(&mut self) {
        let requests = std::mem::take(&mut self.requests);
        let completions = self.committer.handle_batch(&requests, self.now_ms);
        self.core.begin_turn(now(self.now_ms));
        completions.into_iter().for_each(|completion| self.core.handle_completion(completion));
        self.finish_turn();
    }

    fn pass_time(&mut self) {
        let engines = self.clients.values().filter_map(|client| client.engine.as_ref());
        let next_ms =
            engines.map(Engine::next_due_ms).chain(self.core.next_deadline_ms()).min().unwrap_or(self.now_ms);
        self.now_ms = (self.now_ms + 1).max(next_ms);
        self.core.begin_turn(now(self.now_ms));
        self.finish_turn();
        let names: Vec<Name> = self.clients.keys().copied().collect();
        for name in names {
            if self.clients[&name].engine.is_some() {
                self.turn(&name, |engine, turn| engine.handle_time(turn)).expect("its state");
                self.show(&name);
            }
        }
    }

    /// One turn of a client's engine.
    fn turn<T>(&mut self, name: &Name, run: impl FnOnce(&mut Engine, &mut Turn<'_>) -> T) -> T {
        let client = self.clients.get_mut(name).expect("it is registered");
        let engine = client.engine.as_mut().expect("it runs");
        let mut turn = Turn::begin(&client.disk, self.now_ms, &mut self.rng).expect("its state");
        let value = run(engine, &mut turn);
        let output = turn.commit().expect("its state");
        client.take(output, &mut self.wire);
        value
    }

    /// Ends a turn of the core and does what it says.
    fn finish_turn(&mut self) {
        self.core.end_turn();
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Store(request) => self.requests.push(request),
                Action::Write(id) => self.write(id),
                Action::Close(id, _) => {
                    if let Some(pipe) = self.pipe(id) {
                        pipe.relay_closed = true;
                    }
                }
            }
        }
    }

    fn write(&mut self, id: ConnId) {
        loop {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = self.core.gather(id, &mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
            if bytes.is_empty() {
                return;
            }
            // A socket takes what it likes.
            let count = 1 + usize::try_from(self.rng.next_u64()).unwrap_or(usize::MAX) % bytes.len();
            self.wire.extend_from_slice(&bytes[..count]);
            if let Some(pipe) = self.pipe(id) {
                pipe.to_client.extend(&bytes[..count]);
            }
            self.core.handle_written(id, count);
        }
    }

    fn pipe(&mut self, id: ConnId) -> Option<&mut Pipe> {
        self.clients.values_mut().filter_map(|client| client.connection.as_mut()).find(|pipe| pipe.id == id)
    }
}

impl Client {
    /// Takes in what a turn gave out.
    fn take(&mut self, output: Output, wire: &mut Vec<u8>) {
        wire.extend_from_slice(&output.bytes);
        if let Some(pipe) = &mut self.connection {
            pipe.to_relay.extend(&output.bytes);
        }
        assert!(output.end.is_none(), "the client gave the relay up: {:?}", output.end);
        for event in output.events {
            match event {
                Event::Message { key, from, plaintext } => {
                    let text = String::from_utf8(plaintext.body.to_vec()).expect("the tests send text");
                    self.shown.push(Shown { from, id: plaintext.id, text });
                    self.erase.push(key);
                }
                Event::Fate { id, fate, .. } => self.fates.entry(id).or_default().push(fate),
                Event::NotOpened { reason, .. } => panic!("a message could not be opened: {reason:?}"),
                Event::Key { news, .. } => panic!("no key changes here: {news:?}"),
                Event::RolledOver { .. } | Event::NotRolledOver(_) => panic!("nobody rolls over"),
                Event::Presence { .. } | Event::Blocked | Event::Removed | Event::NotDone(_) => {
                    panic!("nobody asks about names")
                }
                Event::Ready
                | Event::Missing { .. }
                | Event::NoOneTimePrekey { .. }
                | Event::Published { .. }
                | Event::NotPublished(_) => {}
            }
        }
    }
}

fn now(ms: u64) -> Now {
    Now { monotonic_ms: ms, relay_ms: ms }
}

fn start_core(store: &Arc<MemoryEngine>, rng: &mut ChaCha20Rng, now_ms: u64) -> Core {
    let (mut relay_id, mut seed) = ([0; 32], [0; 32]);
    rng.fill_bytes(&mut relay_id);
    rng.fill_bytes(&mut seed);
    let snapshot = Snapshot::load(&**store, relay_id, now_ms).expect("memory doesn't fail");
    Core::new(Limits::default(), Policy::default(), &snapshot, seed)
}
