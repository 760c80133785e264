//! The client's engine under whatever a relay says to it. A relay is not trusted: it may say anything, at any time.
//!
//! Owns: a home with a contact, a session and a message on its way, what the relay says, and what must hold: the client
//! says only frames, acknowledges only what came, in order, and gives a receipt only for what it could open; its state stays
//! usable, and nothing is due for ever. Where to go next: `talk` (what the relay says).

mod talk;

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;

use e2e_client::engine::{Config, Engine, Event, Receiving, Turn};
use e2e_client::state::account::Registered;
use e2e_client::state::codec::Writer;
use e2e_client::state::{Account, Key, MemoryDisk, OutboxItem, PeerItem, StateError, Transaction};
use e2e_protocol::e2e::{Kind, Peer, Plaintext, RatchetKeys, Records};
use e2e_protocol::ids::{Lane, MessageId, Number, Receipt, RelayId};
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::{Frame, Parsed};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use super::conversation::{ALICE, BOB, NOW_MS, UIDS, homes, rng};
use super::edits::{edit, reseal};
use super::input::Input;
use crate::sessions::keys::{RATCHETS, me, name, pool};

const RELAY_ID: RelayId = RelayId([7; 32]);
const ACTS_MAX: usize = 60;
/// Of [`homes`]: alice's first session, light.
const HOME: usize = 4;

/// The first byte says what the client is there for; then the relay acts.
pub(super) fn engine(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    let config = Config {
        receive: if choice & 1 == 0 { Receiving::Messages } else { Receiving::Notices },
        send: choice & 2 == 0,
        upkeep: choice & 4 != 0,
        messages_max: (choice & 8 != 0).then_some(2),
        ..Config::default()
    };
    let mut client = Client::start(config);
    if choice & 16 == 0 {
        client.log_in();
    }
    for _ in 0..ACTS_MAX {
        if input.is_empty() {
            break;
        }
        client.act(&mut input);
    }
    client.turn(|engine, turn| engine.finish(turn));
    let state =
        Transaction::begin(&client.disk).unwrap_or_else(|error| panic!("the home is broken: {error}"));
    drop(state);
}

/// The home's files, made once.
fn files() -> &'static BTreeMap<String, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let home = &homes()[HOME];
        let disk = MemoryDisk::default();
        let mut state = Transaction::begin(&disk).expect("an empty home");
        let registered = Some(Registered { relay_id: RELAY_ID, uid: UIDS[BOB] });
        Account { name: *name(BOB), profile: home.profile, registered }.store(&mut state);
        state.write(Key::Identity, me(BOB, home.profile).identity.encode());
        state.write(Key::Prekeys, Zeroizing::new(home.prekeys.clone()));
        let peer = Peer::decode(&home.peer).expect("what was encoded");
        state.write(Key::Peer(*name(ALICE)), PeerItem { uid: UIDS[ALICE], peer }.encode());
        let mut of_uid = Writer::default();
        of_uid.name(name(ALICE));
        state.write(Key::Uid(UIDS[ALICE]), of_uid.finish());
        let mut keys = RatchetKeys::new();
        (0..2).for_each(|at| keys.add(&pool()[RATCHETS.start + 40 + at]));
        state.write(Key::RatchetKeys, keys.encode());
        let mut records = Records::new();
        for record in &home.records {
            let changed = records.push(record);
            let segment = records.segment(changed.write).expect("it was just written").to_vec();
            state.write(Key::Records(*name(ALICE), changed.write), Zeroizing::new(segment));
        }
        OutboxItem::new(*name(ALICE), message(1)).store(&mut state, Key::Outbox(Lane(1), Number(1)));
        state.commit().expect("a disk that works");
        disk.files()
    })
}

fn message(id: u8) -> Plaintext {
    let body = Zeroizing::new(b"hello".to_vec());
    Plaintext { id: MessageId([id; 16]), kind: Kind::Text, time_ms: NOW_MS, body }
}

struct Client {
    disk: MemoryDisk,
    engine: Engine,
    rng: ChaCha20Rng,
    now_ms: u64,
    receives: bool,
    is_over: bool,
    // What it said.
    sent: Vec<(Lane, Number)>,
    requests: Vec<u32>,
    // What was delivered and is not acknowledged: its sequence, and its tag if it is a message.
    unacked: VecDeque<(u64, Option<Vec<u8>>)>,
    last_sequence: u64,
    written: u8,
}

impl Client {
    fn start(config: Config) -> Self {
        let disk = MemoryDisk::default();
        files().iter().for_each(|(path, content)| disk.plant(path, content));
        let mut rng = rng();
        let receives = config.receive == Receiving::Messages;
        let mut turn = Turn::begin(&disk, NOW_MS, &mut rng).expect("a home");
        let engine = Engine::start(config, &mut turn).unwrap_or_else(|_| panic!("a registered home"));
        turn.commit().expect("a disk that works");
        let mut client = Self {
            disk,
            engine,
            rng,
            now_ms: NOW_MS,
            receives,
            is_over: false,
            sent: Vec::new(),
            requests: Vec::new(),
            unacked: VecDeque::new(),
            last_sequence: 0,
            written: 1,
        };
        client.connect();
        client
    }

    fn connect(&mut self) {
        self.is_over = false;
        self.unacked.clear();
        self.requests.clear();
        self.turn(|engine, turn| {
            engine.handle_connected(turn);
            Ok(())
        });
    }

    fn log_in(&mut self) {
        self.hear(&talk::challenge(RELAY_ID, 1));
        let welcome = self.welcome(true, 2);
        self.hear(&welcome);
    }

    /// One turn, and what comes of it.
    fn turn(&mut self, run: impl FnOnce(&mut Engine, &mut Turn<'_>) -> Result<(), StateError>) {
        let disk = self.disk.clone();
        let mut turn = Turn::begin(&disk, self.now_ms, &mut self.rng).expect("nobody else has the home");
        run(&mut self.engine, &mut turn)
            .unwrap_or_else(|error| panic!("the relay breaks the state: {error}"));
        let output = turn.commit().unwrap_or_else(|error| panic!("the relay breaks the state: {error}"));
        self.look_at(&output.bytes);
        for event in output.events {
            if let Event::Message { key, .. } = event {
                let mut turn =
                    Turn::begin(&disk, self.now_ms, &mut self.rng).expect("nobody else has the home");
                self.engine.handle_shown(&mut turn, key);
                turn.commit().expect("a disk that works");
            }
        }
        if output.end.is_some() {
            self.is_over = true;
            self.engine.handle_disconnected();
        }
    }

    /// A frame, and what becomes due with it.
    fn hear(&mut self, frame: &[u8]) {
        if self.is_over {
            return;
        }
        let Ok(Parsed::Frame(parsed, _)) = Frame::parse(frame, BODY_BYTES_MAX) else { return };
        if let Frame::Deliver(routed) | Frame::Notice(_, routed) = &parsed
            && self.engine.welcome().is_some_and(|welcome| welcome.receiving)
        {
            let envelope = routed.envelope();
            let is_message = matches!(parsed, Frame::Deliver(_));
            let tag = is_message.then(|| envelope[envelope.len().saturating_sub(32)..].to_vec());
            self.unacked.push_back((routed.routing.sequence.0, tag));
        }
        self.turn(|engine, turn| {
            engine.handle_frame(turn, &parsed)?;
            engine.handle_time(turn)
        });
        self.look_at_time();
    }

    fn look_at_time(&self) {
        if !self.is_over {
            let due_ms = self.engine.next_due_ms();
            assert!(due_ms > self.now_ms, "what was due {} ms ago was done", self.now_ms - due_ms);
        }
    }

    /// What the client says: whole frames that a relay takes.
    fn look_at(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Ok(Parsed::Frame(frame, count)) = Frame::parse(rest, BODY_BYTES_MAX) else {
                panic!("it says what is no frame");
            };
            match frame {
                Frame::Hello(_) | Frame::Proof(_) | Frame::Ping(_) | Frame::Pong(_) => {}
                Frame::Send(send) => self.sent.push((send.routing.lane, send.routing.number)),
                Frame::Lookup(lookup) => self.requests.push(lookup.request),
                Frame::Publish(publish) => self.requests.push(publish.request),
                Frame::Roll(roll) => self.requests.push(roll.request),
                Frame::Ack(ack) => {
                    for (receipt, at) in ack.receipts.iter().zip(0..) {
                        let sequence = ack.first.0 + at;
                        let Some((delivered, tag)) = self.unacked.pop_front() else {
                            panic!("it acknowledges {sequence}, which did not come");
                        };
                        assert_eq!(sequence, delivered, "in the order in which they came");
                        let is_tag =
                            |genuine: &Vec<u8>| tag.as_ref().is_some_and(|tag| genuine.ends_with(tag));
                        let was_sealed = homes()[HOME].envelopes.iter().any(is_tag);
                        assert!(receipt == Receipt::ZERO || was_sealed, "a receipt for what nobody sealed");
                    }
                }
                other => panic!("it says {other:?}"),
            }
            rest = &rest[count..];
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let act = input.u8();
        let Some(mut frame) = self.say(act, input) else { return self.live(act, input) };
        if input.u8() >= 0xE0 {
            edit(&mut frame, input);
            if frame.len() >= 20 {
                reseal(&mut frame);
            }
        }
        self.hear(&frame);
    }

    /// What is not the relay's doing.
    fn live(&mut self, act: u8, input: &mut Input<'_>) {
        match act % 24 {
            20 => {
                self.now_ms += input.pick(&[1, 1_000, 20_000, 60_000, 120_000, 3_600_000, 31 * 86_400_000]);
                if !self.is_over {
                    self.turn(|engine, turn| engine.handle_time(turn));
                    self.look_at_time();
                }
            }
            21 => {
                self.engine.handle_disconnected();
                self.connect();
                if input.index(2) == 0 {
                    self.log_in();
                }
            }
            22 if self.written < 4 => {
                self.written += 1;
                let (to, plaintext) = (input.pick(&[ALICE, 2]), message(self.written));
                self.turn(|engine, turn| engine.handle_message(turn, *name(to), plaintext).map(drop));
            }
            _ => {
                let of = *name(input.pick(&[ALICE, 2]));
                self.turn(|engine, turn| {
                    engine.handle_accept(turn, of);
                    Ok(())
                });
            }
        }
    }
}
