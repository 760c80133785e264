//! A relay in memory, and users of it: no socket, no sleeping, a clock that the test turns.
//!
//! The relay stores everything (STORED at once), and sends COLLECTED as soon as the message is
//! acknowledged, as a RESULT if the sender's connection stands and as a NOTICE otherwise. Each answer
//! can be scripted instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub
)]

use std::collections::{BTreeMap, VecDeque};

use e2e_client::engine::{Config, End, Engine, Event, Fate, Receiving, StartError, Turn};
use e2e_client::state::{Account, Disk, Folder, MemoryDisk, StateError, Transaction};
use e2e_protocol::e2e::{Kind, Plaintext, Profile};
use e2e_protocol::ids::{
    KeyId, Lane, MessageId, Modulus, Name, Nonce, Number, Receipt, RelayId, Sequence, Signature, Uid,
};
use e2e_protocol::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, TTL_SECONDS_MAX};
use e2e_protocol::login::{Login, fingerprint, key_id, verify_login, verify_roll_over};
use e2e_protocol::wire::directory::{
    BundleParts, Entry, OneTimePrekey, Published, SignedPrekey, Want, Whose,
};
use e2e_protocol::wire::roll::{ROLL_OVER_BYTES, RollOver, Rolled, Rolls};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::{
    Challenge, ErrorFrame, Purpose, Receive, Registration, Welcome, emit_ping,
};
use e2e_protocol::wire::transfer::{OpenResult, ResultCode, ResultKind};
use e2e_protocol::wire::{ErrorCode, Frame, FrameType, NoRoom, Notice, Parsed, Routing};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

pub const START_MS: u64 = 1_800_000_000_000;
pub const MINUTE_MS: u64 = 60_000;
pub const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
pub const RELAY_ID: RelayId = RelayId([7; 32]);
const NONCE: Nonce = Nonce([9; 32]);

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// What the relay answers to one SEND instead of storing it.
#[derive(Clone, Debug)]
pub enum Scripted {
    /// Nothing at all; the message is stored.
    Silence,
    /// This result; the message is not stored.
    Instead(ResultCode, Option<ErrorCode>, u32, Receipt),
    /// The message is stored; when it is acknowledged, this receipt comes instead of its own.
    Forge(Receipt),
}

#[derive(Clone, Default)]
pub struct Relay {
    pub users: Vec<User>,
    pub script: VecDeque<Scripted>,
    /// Every SEND that came: lane, number, envelope.
    pub sends: Vec<(Lane, Number, Vec<u8>)>,
    /// Answers to LOOKUPs by name instead of the true ones.
    pub lookup_errors: VecDeque<ErrorCode>,
    pub lookups: usize,
    last_sequence: u64,
    forged: BTreeMap<(Lane, Number), Receipt>,
    /// Which connection last used a lane.
    lanes: BTreeMap<Lane, usize>,
    /// Output of each connection; `None` once it is closed.
    connections: Vec<Option<Connection>>,
}

#[derive(Clone)]
pub struct User {
    pub name: Name,
    pub identity: Box<Modulus>,
    spk: Option<(Box<Modulus>, u64, u8, Box<Signature>)>,
    pub one_time: VecDeque<(Modulus, Signature, Vec<[u8; 32]>)>,
    /// Its roll-overs, each beside the key before it.
    pub rolls: Vec<(Box<Modulus>, [u8; ROLL_OVER_BYTES])>,
    mailbox: VecDeque<Stored>,
}

#[derive(Clone)]
struct Stored {
    sequence: Sequence,
    frame: Vec<u8>,
    /// Whose message it is, unless it is a notice.
    from: Option<(usize, Lane, Number)>,
}

#[derive(Clone, Default)]
struct Connection {
    out: Vec<u8>,
    purpose: Option<Purpose>,
    user: Option<usize>,
    receives: bool,
    delivered: u64,
}

fn frame(emit: impl FnOnce(&mut [u8]) -> Result<usize, NoRoom>) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_BYTES_MAX];
    let length = emit(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

fn sha256(modulus: &Modulus) -> [u8; 32] {
    Sha256::digest(modulus).into()
}

impl Relay {
    pub fn user(&self, name: &Name) -> usize {
        self.users.iter().position(|user| user.name == *name).unwrap()
    }

    pub fn queued(&self, name: &Name) -> usize {
        self.users[self.user(name)].mailbox.len()
    }

    pub fn connect(&mut self) -> usize {
        self.connections.push(Some(Connection::default()));
        self.connections.len() - 1
    }

    pub fn disconnect(&mut self, connection: usize) {
        self.connections[connection] = None;
    }

    /// Everything that goes to this connection.
    pub fn output(&mut self, connection: usize) -> Vec<u8> {
        self.deliver(connection);
        self.connections[connection].as_mut().map(|c| std::mem::take(&mut c.out)).unwrap_or_default()
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) {
        if let Some(connection) = &mut self.connections[connection] {
            connection.out.extend_from_slice(bytes);
        }
    }

    pub fn error(&mut self, connection: usize, code: ErrorCode, closes: bool, request: u32) {
        let error =
            ErrorFrame { code: code.into(), closes, request, retry_after_seconds: 0, text: "scripted" };
        self.send(connection, &frame(|out| error.emit(out)));
    }

    pub fn ping(&mut self, connection: usize) {
        self.send(connection, &frame(|out| emit_ping(out, FrameType::Ping, *b"12345678")));
    }

    fn deliver(&mut self, connection: usize) {
        let Some(Connection { user: Some(user), receives: true, delivered, .. }) =
            self.connections[connection].clone()
        else {
            return;
        };
        let waiting: Vec<(Sequence, Vec<u8>)> = self.users[user]
            .mailbox
            .iter()
            .filter(|stored| stored.sequence.0 > delivered)
            .map(|stored| (stored.sequence, stored.frame.clone()))
            .collect();
        for (sequence, bytes) in waiting {
            self.send(connection, &bytes);
            self.connections[connection].as_mut().unwrap().delivered = sequence.0;
        }
    }

    pub fn handle(&mut self, connection: usize, mut bytes: &[u8], now_ms: u64) {
        while !bytes.is_empty() {
            let Parsed::Frame(parsed, length) = Frame::parse(bytes, BODY_BYTES_MAX).unwrap() else {
                panic!("the client sent part of a frame");
            };
            self.handle_frame(connection, &parsed, now_ms);
            bytes = &bytes[length..];
        }
    }

    fn handle_frame(&mut self, at: usize, parsed: &Frame<'_>, now_ms: u64) {
        let Some(connection) = &mut self.connections[at] else { return };
        match parsed {
            Frame::Hello(hello) => {
                connection.purpose = Some(hello.purpose);
                let challenge = Challenge {
                    version: 1,
                    registration: Registration::Open,
                    relay_id: RELAY_ID,
                    nonce: NONCE,
                };
                self.send(at, &frame(|out| challenge.emit(out)));
            }
            Frame::Proof(proof) => {
                let purpose = connection.purpose.expect("HELLO comes first");
                let login = Login {
                    version: 1,
                    purpose,
                    relay_id: &RELAY_ID,
                    nonce: &NONCE,
                    name: &proof.name,
                    fingerprint: &fingerprint(proof.identity_key),
                };
                verify_login(proof.identity_key, &login, proof.signature).expect("the proof verifies");
                let known = self.users.iter().position(|user| user.name == proof.name);
                let user = match (known, purpose) {
                    (Some(user), _) if *self.users[user].identity == *proof.identity_key => user,
                    (Some(_), Purpose::Register) => return self.error(at, ErrorCode::NameTaken, true, 0),
                    (None, Purpose::Register) => {
                        self.users.push(User {
                            name: proof.name,
                            identity: Box::new(*proof.identity_key),
                            spk: None,
                            one_time: VecDeque::new(),
                            rolls: Vec::new(),
                            mailbox: VecDeque::new(),
                        });
                        self.users.len() - 1
                    }
                    _ => return self.error(at, ErrorCode::LoginFailed, true, 0),
                };
                let somebody_receives =
                    self.connections.iter().flatten().any(|c| c.user == Some(user) && c.receives);
                let receives = match proof.receive {
                    Receive::No => false,
                    Receive::TakeOver(_) => true,
                    Receive::IfNobody(_) => !somebody_receives,
                };
                if receives {
                    for other in 0..self.connections.len() {
                        if self.connections[other]
                            .as_ref()
                            .is_some_and(|c| c.user == Some(user) && c.receives)
                        {
                            self.error(other, ErrorCode::Replaced, true, 0);
                            self.connections[other].as_mut().unwrap().receives = false;
                        }
                    }
                }
                let connection = self.connections[at].as_mut().unwrap();
                (connection.user, connection.receives) = (Some(user), receives);
                let of_user = &self.users[user];
                let welcome = Welcome {
                    uid: uid(user),
                    time_ms: now_ms,
                    queued: of_user.mailbox.len() as u64,
                    signed_prekey: of_user.spk.as_ref().map_or(KeyId::ZERO, |spk| key_id(&spk.0)),
                    prekeys_left: of_user.one_time.len() as u16,
                    receiving: receives,
                    keepalive_seconds: 60,
                    in_flight: 64,
                    ttl_seconds_max: TTL_SECONDS_MAX,
                };
                self.send(at, &frame(|out| welcome.emit(out)));
            }
            Frame::Lookup(lookup) => {
                self.lookups += 1;
                let user = match lookup.whose {
                    Whose::Uid(wanted) => (0..self.users.len()).find(|user| uid(*user) == wanted),
                    Whose::Name(wanted) => {
                        if let Some(code) = self.lookup_errors.pop_front() {
                            return self.error(at, code, false, lookup.request);
                        }
                        self.users.iter().position(|user| user.name == wanted)
                    }
                };
                let Some(index) = user else {
                    return self.error(at, ErrorCode::UnknownName, false, lookup.request);
                };
                if lookup.want == Want::RollOvers {
                    let user = &self.users[index];
                    let rolls = Rolls {
                        request: lookup.request,
                        oldest: user.rolls.first().map_or(&user.identity, |(former, _)| former),
                        roll_overs: &user.rolls.iter().map(|(_, roll)| *roll).collect::<Vec<_>>(),
                    };
                    let bytes = frame(|out| rolls.emit(out));
                    return self.send(at, &bytes);
                }
                let user = &mut self.users[index];
                let one_time = if lookup.want == Want::OneTime { user.one_time.pop_front() } else { None };
                let bundle = match (&user.spk, lookup.want) {
                    (_, Want::Address) => None,
                    (None, _) => return self.error(at, ErrorCode::NoBundle, false, lookup.request),
                    (Some((modulus, made_ms, profile, signature)), _) => Some(BundleParts {
                        identity_key: &user.identity,
                        signed_prekey: SignedPrekey {
                            modulus,
                            made_ms: *made_ms,
                            profile: *profile,
                            signature,
                        },
                        one_time: one_time.as_ref().map(|(modulus, signature, hashes)| OneTimePrekey {
                            signature,
                            modulus,
                            hashes,
                        }),
                    }),
                };
                let entry = Entry {
                    request: lookup.request,
                    uid: uid(index),
                    fingerprint: fingerprint(&user.identity),
                    prekeys_left: if bundle.is_some() { user.one_time.len() as u16 } else { 0 },
                    name: user.name,
                    bundle,
                };
                let bytes = frame(|out| entry.emit(out));
                self.send(at, &bytes);
            }
            Frame::Roll(roll) => {
                let user = &mut self.users[connection.user.unwrap()];
                if !user.mailbox.is_empty() {
                    return self.error(at, ErrorCode::MailboxNotEmpty, false, roll.request);
                }
                let RollOver { time_ms, identity_key, former_signature, signature } = roll.roll_over;
                verify_roll_over(
                    &user.name,
                    &user.identity,
                    identity_key,
                    time_ms,
                    former_signature,
                    signature,
                )
                .expect("the roll-over verifies");
                let former = std::mem::replace(&mut user.identity, Box::new(*identity_key));
                user.rolls.push((former, roll.roll_over.to_bytes()));
                (user.spk, user.one_time) = (None, VecDeque::new());
                let index = connection.user.unwrap();
                let rolled = Rolled { request: roll.request, uid: uid(index) };
                self.send(at, &frame(|out| rolled.emit(out)));
                self.error(at, ErrorCode::KeyChanged, true, 0);
            }
            Frame::Publish(publish) => {
                let user = &mut self.users[connection.user.unwrap()];
                if let Some(spk) = publish.signed_prekey {
                    user.spk =
                        Some((Box::new(*spk.modulus), spk.made_ms, spk.profile, Box::new(*spk.signature)));
                    user.one_time.clear();
                }
                let kid = user.spk.as_ref().map_or(KeyId::ZERO, |spk| key_id(&spk.0));
                if let Some(batch) = publish.batch {
                    assert_eq!(batch.signed_prekey, kid);
                    let hashes: Vec<[u8; 32]> = batch.moduli.iter().map(sha256).collect();
                    let of_batch = |modulus: &Modulus| (*modulus, *batch.signature, hashes.clone());
                    user.one_time.extend(batch.moduli.iter().map(of_batch));
                }
                let prekeys_left = user.one_time.len() as u16;
                let published = Published { request: publish.request, signed_prekey: kid, prekeys_left };
                self.send(at, &frame(|out| published.emit(out)));
            }
            Frame::Send(routed) => {
                let sender = connection.user.unwrap();
                let (lane, number) = (routed.routing.lane, routed.routing.number);
                self.lanes.insert(lane, at);
                self.sends.push((lane, number, routed.envelope().to_vec()));
                match self.script.pop_front() {
                    Some(Scripted::Instead(code, reason, retry_after_seconds, receipt)) => {
                        let kind = ResultKind { lane, code, reason, retry_after_seconds };
                        self.result(at, kind, number, receipt);
                    }
                    Some(Scripted::Silence) => self.store(sender, routed.routing, routed.envelope(), now_ms),
                    Some(Scripted::Forge(receipt)) => {
                        self.forged.insert((lane, number), receipt);
                        self.store(sender, routed.routing, routed.envelope(), now_ms);
                    }
                    None => {
                        self.store(sender, routed.routing, routed.envelope(), now_ms);
                        let kind = ResultKind {
                            lane,
                            code: ResultCode::Stored,
                            reason: None,
                            retry_after_seconds: 0,
                        };
                        self.result(at, kind, number, Receipt::ZERO);
                    }
                }
            }
            Frame::Ack(ack) => {
                let user = connection.user.unwrap();
                for (offset, receipt) in ack.receipts.iter().enumerate() {
                    let stored = self.users[user].mailbox.pop_front().expect("something to acknowledge");
                    assert_eq!(stored.sequence.0, ack.first.0 + offset as u64, "out of order");
                    if let Some((sender, lane, number)) = stored.from {
                        let receipt = self.forged.remove(&(lane, number)).unwrap_or(receipt);
                        self.collected(sender, user, lane, number, receipt, now_ms);
                    }
                }
            }
            Frame::Ping(opaque) => self.send(at, &frame(|out| emit_ping(out, FrameType::Pong, *opaque))),
            Frame::Pong(_) => {}
            other => panic!("the client sent {other:?}"),
        }
    }

    /// A SEND that is still in the mailbox is not stored twice; one that was acknowledged is.
    fn store(&mut self, sender: usize, routing: Routing, envelope: &[u8], now_ms: u64) {
        let recipient = (0..self.users.len()).find(|user| uid(*user) == routing.peer).unwrap();
        let from = Some((sender, routing.lane, routing.number));
        if self.users[recipient].mailbox.iter().any(|stored| stored.from == from) {
            return;
        }
        let routing = Routing { peer: uid(sender), time_ms: now_ms, ttl_seconds: 9, ..routing };
        self.put(recipient, from, |sequence| {
            let routing = Routing { sequence, ..routing };
            frame(|out| emit_routed(out, FrameType::Deliver, &routing, envelope))
        });
    }

    /// Puts any envelope into a mailbox, as if `sender` had sent it.
    pub fn plant(&mut self, sender: &Name, recipient: &Name, number: u64, envelope: &[u8]) {
        let routing = Routing {
            peer: uid(self.user(recipient)),
            lane: Lane(0xBAD),
            number: Number(number),
            ..Routing::default()
        };
        self.store(self.user(sender), routing, envelope, START_MS);
    }

    fn put(
        &mut self,
        user: usize,
        from: Option<(usize, Lane, Number)>,
        make: impl FnOnce(Sequence) -> Vec<u8>,
    ) {
        self.last_sequence += 1;
        let sequence = Sequence(self.last_sequence);
        self.users[user].mailbox.push_back(Stored { sequence, frame: make(sequence), from });
    }

    fn collected(
        &mut self,
        sender: usize,
        recipient: usize,
        lane: Lane,
        number: Number,
        receipt: Receipt,
        now_ms: u64,
    ) {
        match self.lanes.get(&lane).copied().filter(|at| self.connections[*at].is_some()) {
            Some(at) => {
                let kind =
                    ResultKind { lane, code: ResultCode::Collected, reason: None, retry_after_seconds: 0 };
                self.result(at, kind, number, receipt);
            }
            None => self.put(sender, None, |sequence| {
                let routing = Routing {
                    peer: uid(recipient),
                    lane,
                    number,
                    sequence,
                    time_ms: now_ms,
                    ttl_seconds: TTL_SECONDS_MAX,
                };
                frame(|out| Notice { routing, code: ResultCode::Collected, receipt }.emit(out))
            }),
        }
    }

    fn result(&mut self, at: usize, kind: ResultKind, number: Number, receipt: Receipt) {
        let collected = kind.code == ResultCode::Collected;
        let mut bytes = vec![0; OpenResult::HEAD_BYTES];
        if collected {
            bytes.extend_from_slice(&receipt.0);
        }
        OpenResult::new(kind, number).close(&mut bytes).unwrap();
        self.send(at, &bytes);
    }
}

pub fn uid(user: usize) -> Uid {
    Uid::new(user as u32 + 1, 77)
}

/// One process of one user.
pub struct Client {
    pub disk: MemoryDisk,
    pub rng: ChaCha20Rng,
    pub engine: Option<Engine>,
    pub connection: Option<usize>,
    /// Every text shown, with its id.
    pub shown: Vec<(MessageId, String)>,
    /// What became of messages, in order.
    pub fates: Vec<Fate>,
    /// Everything else that was said.
    pub said: Vec<String>,
    pub end: Option<End>,
    /// Does not come to show anything.
    pub blind: bool,
    /// Whether the last turn sent anything.
    sent: bool,
}

impl Client {
    /// A process on this disk. `seed` has to be another for each.
    pub fn new(disk: &MemoryDisk, seed: u64) -> Self {
        Self {
            disk: disk.clone(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            engine: None,
            connection: None,
            shown: Vec::new(),
            fates: Vec::new(),
            said: Vec::new(),
            end: None,
            blind: false,
            sent: false,
        }
    }

    pub fn start(&mut self, config: Config, now_ms: u64) -> Result<(), StartError> {
        let disk = self.disk.clone();
        let mut turn = Turn::begin(&disk, now_ms, &mut self.rng)?;
        self.engine = Some(Engine::start(config, &mut turn)?);
        let output = turn.commit()?;
        self.note(output.events, now_ms)?;
        Ok(())
    }

    pub fn connect(&mut self, relay: &mut Relay, now_ms: u64) -> Result<(), StateError> {
        self.connection = Some(relay.connect());
        self.turn(relay, now_ms, |engine, turn| {
            engine.handle_connected(turn);
            Ok(())
        })
    }

    pub fn disconnect(&mut self, relay: &mut Relay) {
        if let Some(connection) = self.connection.take() {
            relay.disconnect(connection);
        }
        self.engine.as_mut().unwrap().handle_disconnected();
    }

    /// Ends as a process does that is told to.
    pub fn finish(mut self, relay: &mut Relay, now_ms: u64) -> Result<Self, StateError> {
        self.turn(relay, now_ms, |engine, turn| engine.finish(turn))?;
        self.disconnect(relay);
        self.engine = None;
        Ok(self)
    }

    pub fn turn(
        &mut self,
        relay: &mut Relay,
        now_ms: u64,
        run: impl FnOnce(&mut Engine, &mut Turn<'_>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let disk = self.disk.clone();
        let mut turn = Turn::begin(&disk, now_ms, &mut self.rng)?;
        run(self.engine.as_mut().unwrap(), &mut turn)?;
        let output = turn.commit()?;
        self.sent = !output.bytes.is_empty();
        if let Some(connection) = self.connection {
            relay.handle(connection, &output.bytes, now_ms);
        }
        if output.end.is_some() {
            self.end = output.end;
            self.disconnect(relay);
        }
        self.note(output.events, now_ms)
    }

    fn note(&mut self, events: Vec<Event>, now_ms: u64) -> Result<(), StateError> {
        for event in events {
            match event {
                Event::Message { .. } if self.blind => {}
                Event::Message { key, plaintext, .. } => {
                    if plaintext.kind == Kind::Text {
                        let text = String::from_utf8(plaintext.body.to_vec()).unwrap();
                        self.shown.push((plaintext.id, text));
                    } else {
                        self.said.push(format!("kind {:?}", plaintext.kind));
                    }
                    let disk = self.disk.clone();
                    let mut turn = Turn::begin(&disk, now_ms, &mut self.rng)?;
                    self.engine.as_mut().unwrap().handle_shown(&mut turn, key);
                    turn.commit()?;
                }
                Event::Fate { fate, .. } => self.fates.push(fate),
                Event::NotOpened { reason, .. } => self.said.push(format!("not opened: {reason:?}")),
                Event::Key { name, news } => self.said.push(format!("key of {name}: {news:?}")),
                Event::RolledOver { fingerprint } => self.said.push(format!("rolled over: {fingerprint}")),
                Event::NotRolledOver(code) => self.said.push(format!("not rolled over: {code}")),
                Event::NoOneTimePrekey { to } => self.said.push(format!("no one-time prekey of {to}")),
                Event::Missing { count, .. } => self.said.push(format!("missing: {count}")),
                Event::NotPublished(code) => self.said.push(format!("not published: {code}")),
                Event::Presence { states, next } => {
                    let states: Vec<_> =
                        states.iter().map(|(state, name)| format!("{name} {state:?}")).collect();
                    self.said.push(format!("presence: {} next {next}", states.join(", ")));
                }
                Event::Blocked => self.said.push("blocked".into()),
                Event::Removed => self.said.push("removed".into()),
                Event::NotDone(code) => self.said.push(format!("not done: {code}")),
                Event::Ready | Event::Published { .. } => {}
            }
        }
        Ok(())
    }

    /// Lets what the relay has for this client in. True if there was anything.
    pub fn pump(&mut self, relay: &mut Relay, now_ms: u64) -> Result<bool, StateError> {
        let Some(connection) = self.connection else { return Ok(false) };
        while let Some(engine) = self.engine.as_mut().filter(|engine| engine.keys_wanted().is_some()) {
            engine.make_key(&mut self.rng);
        }
        let bytes = relay.output(connection);
        self.turn(relay, now_ms, |engine, turn| {
            let mut rest = bytes.as_slice();
            while let Ok(Parsed::Frame(parsed, length)) = Frame::parse(rest, BODY_BYTES_MAX) {
                engine.handle_frame(turn, &parsed)?;
                rest = &rest[length..];
            }
            assert!(rest.is_empty());
            engine.handle_time(turn)
        })?;
        let making = self.engine.as_ref().is_some_and(|engine| engine.keys_wanted().is_some());
        Ok(!bytes.is_empty() || self.sent || making)
    }

    pub fn send(
        &mut self,
        relay: &mut Relay,
        to: &str,
        text: &str,
        now_ms: u64,
    ) -> Result<MessageId, StateError> {
        let plaintext = Plaintext::new(Kind::Text, text.into(), now_ms, &mut self.rng);
        let id = plaintext.id;
        self.turn(relay, now_ms, |engine, turn| {
            engine.handle_message(turn, name(to), plaintext).map(|id| assert!(id.is_some()))
        })?;
        Ok(id)
    }

    pub fn outbox(&self) -> usize {
        Transaction::begin(&self.disk).unwrap().list(Folder::Outbox).unwrap().len()
    }

    pub fn texts(&self) -> Vec<&str> {
        self.shown.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// Until nobody has anything more to say.
pub fn settle(relay: &mut Relay, clients: &mut [&mut Client], now_ms: u64) {
    for _ in 0..1_000 {
        let mut busy = false;
        for client in clients.iter_mut() {
            busy |= client.pump(relay, now_ms).unwrap();
        }
        if !busy {
            return;
        }
    }
    panic!("they talk for ever");
}

/// Turns the clock on, stopping whenever somebody has something to do.
pub fn advance(relay: &mut Relay, clients: &mut [&mut Client], from_ms: u64, to_ms: u64) {
    let mut now_ms = from_ms;
    while now_ms < to_ms {
        let due =
            clients.iter().filter_map(|client| client.engine.as_ref().map(|engine| engine.next_due_ms()));
        let next_ms = due.min().unwrap_or(to_ms);
        assert!(next_ms > now_ms, "what is due was done");
        now_ms = next_ms.min(to_ms);
        settle(relay, clients, now_ms);
    }
}

pub fn sender() -> Config {
    Config { send: true, ..Config::default() }
}

/// As `send` runs.
pub fn sender_of_notices() -> Config {
    Config { receive: Receiving::Notices, ..sender() }
}

pub fn receiver() -> Config {
    Config { receive: Receiving::Messages, send: true, upkeep: true, ..Config::default() }
}

/// Makes a home for a name, unregistered.
pub fn prepare(text: &str, seed: u64) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut turn = Turn::begin(&disk, START_MS, &mut rng).unwrap();
    turn.make_identity();
    turn.commit().unwrap();
    set_name(&disk, text);
    disk
}

pub fn set_name(disk: &dyn Disk, text: &str) {
    let mut state = Transaction::begin(disk).unwrap();
    Account { name: name(text), profile: Profile::Strict, registered: None }.store(&mut state);
    state.commit().unwrap();
}

pub fn registrar() -> Config {
    Config { register: true, upkeep: true, ..Config::default() }
}

/// Alice and bob, registered and with prekeys, made once for all tests of a process.
pub fn two_users() -> (Relay, MemoryDisk, MemoryDisk) {
    use std::sync::OnceLock;
    type Files = BTreeMap<String, Vec<u8>>;
    // The disks are not Sync: their files are.
    static MADE: OnceLock<(Relay, Files, Files)> = OnceLock::new();
    let (relay, alice, bob) = MADE.get_or_init(|| {
        let mut relay = Relay::default();
        let mut files = Vec::new();
        for (text, seed) in [("alice", 1), ("bob", 2)] {
            let disk = prepare(text, seed);
            let mut client = Client::new(&disk, seed + 10);
            client.start(registrar(), START_MS).unwrap();
            client.connect(&mut relay, START_MS).unwrap();
            settle(&mut relay, &mut [&mut client], START_MS);
            client.finish(&mut relay, START_MS).unwrap();
            files.push(disk.files());
        }
        let bob = files.pop().unwrap();
        (relay, files.pop().unwrap(), bob)
    });
    let disk = |files: &Files| {
        let disk = MemoryDisk::default();
        files.iter().for_each(|(path, content)| disk.plant(path, content));
        disk
    };
    (relay.clone(), disk(alice), disk(bob))
}
