//! Two clients that talk for long through the real relay, with all three restarted in between.
//!
//! Owns: what is sent, when somebody is restarted, and the check: all arrive, in order, once. Receipts that a
//! killed relay took with it come a day later, and are not waited for. The clients are
//! the real engine, host and state, in threads of this process, so that thousands of messages need no
//! thousands of processes; what a killed process leaves is the business of the crash tests.

use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use e2e_client::engine::{Config, Event, Fate, Receiving, Turn};
use e2e_client::host::{Host, HostError, now_ms, seeded_rng};
use e2e_client::net::Server;
use e2e_client::state::{Account, Folder, Home, Key, Transaction};
use e2e_protocol::e2e::{Kind, Plaintext, Profile};
use e2e_protocol::ids::Name;

use crate::process::{Directory, Relay};

/// Messages of one side on their way at once, so that both sides talk and steps fall due.
const OUTSTANDING_MAX: u64 = 48;

/// How long a step of a client may wait, milliseconds.
const STEP_MS: u64 = 50;

/// How long somebody who can't connect waits before trying again.
const RECONNECT: Duration = Duration::from_millis(20);

/// No conversation takes longer; only a dead end does.
const TIME_MAX: Duration = Duration::from_secs(3_000);

/// Written while a relay's process is made: until that runs its own program it holds what this one has open, the
/// lanes of a client that has just ended among it. Read while a client starts, and looks for such lanes.
static FORKING: RwLock<()> = RwLock::new(());

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// Messages each way.
    pub messages: u64,
    /// How both want to be sent to.
    pub profile: Profile,
    /// How often each of the three is restarted, evenly over the conversation; every other time without a
    /// word, as a crash.
    pub restarts: u64,
}

/// What came of messages to somebody who was away.
#[derive(Clone, Copy, Debug)]
pub struct Offline {
    /// Until all of them were encrypted and on the relay's disk, seconds.
    pub stored_seconds: f64,
    /// From when the recipient came until all were shown, seconds.
    pub shown_seconds: f64,
}

struct World {
    talk: Talk,
    server: RwLock<Server>,
    /// What each side was shown of the other's messages.
    shown: [AtomicU64; 2],
    /// A side gave up: nobody waits for it.
    failed: AtomicBool,
    until: Instant,
}

/// One side of the conversation, over all its restarts.
struct Side<'a> {
    world: &'a World,
    index: usize,
    home: &'a Path,
    peer: Name,
    sent: u64,
}

/// Lets alice and bob talk; gives how long it took, in seconds.
///
/// # Panics
/// If a message does not arrive, not in order or not once, or something fails that may not.
#[must_use]
pub fn converse(talk: Talk) -> f64 {
    let directory = Directory::new();
    let state = directory.path().join("relay");
    let relay = start_relay(&state);
    let started = Instant::now();
    let world = World {
        talk,
        server: RwLock::new(server(&relay)),
        shown: Default::default(),
        failed: AtomicBool::new(false),
        until: started + TIME_MAX,
    };
    let names: [Name; 2] = ["alice", "bob"].map(|name| name.parse().expect("a name"));
    let homes: [PathBuf; 2] = names.map(|name| directory.path().join(name.as_str()));
    for (name, home) in names.iter().zip(&homes) {
        register(&world, home, *name);
    }
    std::thread::scope(|scope| {
        for index in 0..2 {
            let (world, home, peer) = (&world, &homes[index], names[1 - index]);
            scope.spawn(move || Side { world, index, home, peer, sent: 0 }.run());
        }
        world.keep_relay(relay, &state);
    });
    for home in &homes {
        let home = Home::open(home).expect("the home is there");
        let state = Transaction::begin(&home).expect("nobody holds it");
        assert_eq!(state.list(Folder::Inbox).expect("it can be read"), [] as [Key; 0]);
    }
    started.elapsed().as_secs_f64()
}

/// Lets alice write `messages` to bob, who comes only when all of them are stored.
///
/// # Panics
/// As [`converse`].
#[must_use]
pub fn write_to_who_is_away(messages: u64, profile: Profile) -> Offline {
    let directory = Directory::new();
    let relay = start_relay(&directory.path().join("relay"));
    let world = World {
        talk: Talk { messages, profile, restarts: 0 },
        server: RwLock::new(server(&relay)),
        shown: Default::default(),
        failed: AtomicBool::new(false),
        until: Instant::now() + TIME_MAX,
    };
    let names: [Name; 2] = ["alice", "bob"].map(|name| name.parse().expect("a name"));
    let homes: [PathBuf; 2] = names.map(|name| directory.path().join(name.as_str()));
    for (name, home) in names.iter().zip(&homes) {
        register(&world, home, *name);
    }
    let started = Instant::now();
    send_all(&world, &homes[0], names[1]);
    let stored_seconds = started.elapsed().as_secs_f64();
    let came = Instant::now();
    // Alice has said everything: only bob's side is looked at.
    world.shown[0].store(messages, SeqCst);
    Side { world: &world, index: 1, home: &homes[1], peer: names[0], sent: messages }.run();
    Offline { stored_seconds, shown_seconds: came.elapsed().as_secs_f64() }
}

/// Puts all messages into the outbox as fast as they go out, until the relay has stored each.
fn send_all(world: &World, home: &Path, to: Name) {
    /// Messages that wait in the outbox for room on the connection.
    const AHEAD_MAX: u64 = 64;
    let home = Home::open(home).expect("the home is there");
    let (mut host, _) = start_client(&home);
    host.connect(&world.server()).expect("the relay listens");
    let (mut sent, mut stored) = (0, 0);
    let mut note = |events: Vec<Event>| {
        for event in events {
            match event {
                Event::Fate { fate: Fate::Stored, .. } => stored += 1,
                Event::Fate { fate, .. } => panic!("not stored: {fate:?}"),
                _ => {}
            }
        }
        stored
    };
    while note(Vec::new()) < world.talk.messages {
        assert!(Instant::now() < world.until, "they came to a dead end: {sent} sent");
        while host.engine().welcome().is_some()
            && sent < world.talk.messages
            && sent - note(Vec::new()) < AHEAD_MAX
        {
            let plaintext = Plaintext::new(Kind::Text, sent.to_string().into(), now_ms(), host.rng());
            let (_, events) = host
                .turn(|engine, turn| engine.handle_message(turn, to, plaintext))
                .expect("the disk takes it");
            sent += 1;
            note(events);
        }
        note(host.step(now_ms() + STEP_MS).map_err(|_| ()).expect("the relay stays"));
    }
    host.finish().expect("the disk takes it");
}

fn start_relay(state: &Path) -> Relay {
    let _forking = FORKING.write().expect("a relay starts");
    Relay::start(state, &[])
}

/// A client that receives, sends, and does its upkeep.
fn start_client(home: &Home) -> (Host<'_>, Vec<Event>) {
    let config = Config { receive: Receiving::Messages, send: true, upkeep: true, ..Config::default() };
    let rng = seeded_rng().expect("random numbers");
    let _still = FORKING.read().expect("a relay starts");
    Host::start(home, rng, config).map_err(|_| ()).expect("it is registered")
}

fn server(relay: &Relay) -> Server {
    relay.address().to_string().parse().expect("an address is one")
}

/// As `e2e-client register` does.
fn register(world: &World, home: &Path, name: Name) {
    let home = Home::open(home).expect("a new home");
    let mut rng = seeded_rng().expect("random numbers");
    let mut turn = Turn::begin(&home, now_ms(), &mut rng).expect("nobody holds it");
    turn.make_identity();
    turn.set_account(&Account { name, profile: world.talk.profile, registered: None });
    turn.commit().expect("the disk takes it");
    let config = Config { register: true, upkeep: true, ..Config::default() };
    let (mut host, _) = Host::start(&home, rng, config).map_err(|_| ()).expect("there is an identity");
    host.connect(&world.server()).expect("the relay listens");
    while host.engine().welcome().is_none() || host.engine().is_publishing() {
        host.step(now_ms() + STEP_MS).expect("it takes the prekeys");
    }
    host.finish().expect("the disk takes it");
}

impl World {
    fn server(&self) -> Server {
        self.server.read().expect("nobody panicked with it").clone()
    }

    /// In which of `restarts + 1` equal parts one is after `shown` messages `of` all.
    fn part(&self, shown: u64, of: u64) -> u64 {
        shown * (self.talk.restarts + 1) / of
    }

    fn is_finished(&self) -> bool {
        assert!(!self.failed.load(SeqCst), "a side failed");
        assert!(Instant::now() < self.until, "they came to a dead end: {:?}", self.shown);
        self.shown.iter().all(|shown| shown.load(SeqCst) == self.talk.messages)
    }

    /// Kills the relay, or stops it, whenever another part of the messages was shown.
    fn keep_relay(&self, mut relay: Relay, state: &Path) {
        let mut restarts = 0;
        while !self.is_finished() {
            let shown = self.shown.iter().map(|shown| shown.load(SeqCst)).sum();
            if restarts < self.part(shown, 2 * self.talk.messages).min(self.talk.restarts) {
                restarts += 1;
                if restarts % 2 == 0 {
                    assert_eq!(relay.stop("TERM"), Some(0));
                } else {
                    relay.kill();
                }
                relay = start_relay(state);
                *self.server.write().expect("nobody panicked with it") = server(&relay);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(restarts, self.talk.restarts);
    }
}

impl Drop for Side<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.world.failed.store(true, SeqCst);
        }
    }
}

impl Side<'_> {
    fn run(mut self) {
        let home = Home::open(self.home).expect("the home is there");
        let mut restarts = 0;
        while !self.world.is_finished() {
            let (mut host, events) = start_client(&home);
            self.note(&mut host, events);
            while !self.world.is_finished() {
                self.turn(&mut host);
                let shown = self.world.shown[self.index].load(SeqCst);
                if restarts < self.world.part(shown, self.world.talk.messages).min(self.world.talk.restarts) {
                    restarts += 1;
                    break;
                }
            }
            if restarts % 2 == 0 {
                let events = host.finish().expect("the disk takes it");
                assert!(
                    events.iter().all(|event| !matches!(event, Event::Message { .. })),
                    "nothing comes any more"
                );
            }
        }
        assert_eq!(restarts, self.world.talk.restarts);
    }

    /// Connects if need be, sends what may be sent, and takes what comes.
    fn turn(&mut self, host: &mut Host<'_>) {
        if !host.is_connected() && host.connect(&self.world.server()).is_err() {
            return std::thread::sleep(RECONNECT);
        }
        while host.engine().welcome().is_some()
            && self.sent < self.world.talk.messages
            && self.sent - self.world.shown[1 - self.index].load(SeqCst) < OUTSTANDING_MAX
        {
            let body = self.sent.to_string().into_bytes();
            let plaintext = Plaintext::new(Kind::Text, body, now_ms(), host.rng());
            let peer = self.peer;
            let (_, events) = host
                .turn(|engine, turn| engine.handle_message(turn, peer, plaintext))
                .expect("the disk takes it");
            self.sent += 1;
            self.note(host, events);
        }
        match host.step(now_ms() + STEP_MS) {
            Ok(events) => self.note(host, events),
            Err(HostError::Lost(_)) => std::thread::sleep(RECONNECT),
            Err(HostError::State(error)) => panic!("{error}"),
        }
    }

    fn note(&mut self, host: &mut Host<'_>, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Message { key, plaintext, .. } => {
                    let text = String::from_utf8(plaintext.body.to_vec()).expect("it is text");
                    let expected = self.world.shown[self.index].fetch_add(1, SeqCst);
                    assert_eq!(text, expected.to_string(), "not in order, or not once");
                    host.turn(|engine, turn| {
                        engine.handle_shown(turn, key);
                        Ok(())
                    })
                    .expect("the disk takes it");
                }
                Event::NotOpened { reason, .. } => panic!("a message could not be opened: {reason:?}"),
                Event::Fate { fate: Fate::Dropped(why), .. } => panic!("a message is dropped: {why:?}"),
                Event::Key { news, .. } => panic!("no key changes here: {news:?}"),
                _ => {}
            }
        }
    }
}
