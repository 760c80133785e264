//! The delivery contract on a real relay (spec/wire.md, sections 4 to 6): what it takes arrives, once,
//! in order, whoever else does what, and through SIGKILL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::Number;
use e2e_protocol::ids::{Lane, Name, Sequence, Uid};
use e2e_protocol::limits::TTL_SECONDS_MAX;
use e2e_protocol::login::Login;
use e2e_protocol::wire::directory::{Lookup, Want, Whose};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::{Credit, Proof, Purpose, Receive, Welcome};
use e2e_protocol::wire::transfer::ResultCode;
use e2e_protocol::wire::{Code, ErrorCode, Frame, FrameType, Routing};
use e2e_tests::client::files;
use e2e_tests::ledger::Ledger;
use e2e_tests::pair::Pair;
use e2e_tests::process::{Directory, Relay, wait_for};
use e2e_tests::raw::{AMPLE, Raw, frame, identity, proof_frame, receipt_for, rng, send_frame};

const RECEIVE: Receive = Receive::TakeOver(AMPLE);
const LANE: Lane = Lane(0x1A9E);

/// A relay that can be killed and started again on the same state.
struct Scene {
    directory: Directory,
    relay: Relay,
}

impl Scene {
    fn new(arguments: &[&str]) -> Self {
        let directory = Directory::new();
        let relay = Relay::start(&directory.path().join("state"), arguments);
        Self { directory, relay }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    fn kill_and_restart(&mut self) {
        self.relay.kill();
        self.relay = Relay::start(&self.state(), &[]);
    }

    fn register(&self, name: &str, receive: Receive) -> (Raw, Welcome) {
        Raw::login(self.address(), name, Purpose::Register, receive)
    }

    fn login(&self, name: &str, receive: Receive) -> (Raw, Welcome) {
        Raw::login(self.address(), name, Purpose::Login, receive)
    }

    /// Claims a name and leaves.
    fn claim(&self, name: &str) -> Uid {
        self.register(name, Receive::No).1.uid
    }
}

fn refused(raw: &mut Raw) -> Code {
    let results = raw.next_results();
    assert_eq!((results.code, results.count), (ResultCode::Refused, 1));
    results.reason
}

/// Takes and acknowledges `count` messages; returns them as number and envelope. Sequences must grow.
fn collect(raw: &mut Raw, count: u64) -> Vec<(u64, Vec<u8>)> {
    let mut before = Sequence(0);
    (0..count)
        .map(|_| {
            let delivery = raw.next_delivery();
            assert!(delivery.routing.sequence > before, "{:?} after {before:?}", delivery.routing.sequence);
            before = delivery.routing.sequence;
            raw.acknowledge(before, 1);
            (delivery.routing.number.0, delivery.envelope)
        })
        .collect()
}

#[test]
fn delivers_at_once_and_hands_back_the_receipt() {
    let scene = Scene::new(&[]);
    let (mut bob, bobs) = scene.register("bob", RECEIVE);
    let (mut alice, alices) = scene.register("alice", Receive::No);
    assert!(bobs.receiving && !alices.receiving);
    let uid = alice.uid_of("bob");
    assert_eq!(uid, bobs.uid);
    alice.send(&send_frame(uid, LANE, 7, b"hello"));
    let delivery = bob.next_delivery();
    let Routing { peer, lane, number, sequence, time_ms, ttl_seconds } = delivery.routing;
    assert_eq!((peer, lane, number.0, ttl_seconds), (alices.uid, LANE, 7, TTL_SECONDS_MAX));
    assert!(time_ms >= bobs.time_ms && sequence.0 > 0);
    assert!(!delivery.redelivered);
    assert_eq!(delivery.envelope, b"hello");
    bob.acknowledge(sequence, 1);
    let mut results = alice.next_results();
    if results.code == ResultCode::Stored {
        results = alice.next_results(); // the acknowledgement took its time
    }
    assert_eq!((results.lane, results.first, results.count), (LANE, 7, 1));
    assert_eq!(results.code, ResultCode::Collected);
    assert_eq!(results.receipts, [receipt_for(sequence.0)]);
}

#[test]
fn stores_for_who_is_away_and_delivers_after_login() {
    let scene = Scene::new(&[]);
    let bob = scene.claim("bob");
    let (mut alice, _) = scene.register("alice", Receive::No);
    let mut ledger = Ledger::new(LANE);
    alice.send(&send_frame(bob, LANE, 1, b"first"));
    assert_eq!(ledger.wait_for_first(&mut alice, 1), ResultCode::Stored);
    alice.send(&send_frame(bob, LANE, 2, b"second"));
    assert_eq!(ledger.wait_for_first(&mut alice, 2), ResultCode::Stored);
    let (mut bob, welcome) = scene.login("bob", RECEIVE);
    assert_eq!(welcome.queued, 2);
    assert_eq!(collect(&mut bob, 2), [(1, b"first".to_vec()), (2, b"second".to_vec())]);
    assert_eq!(ledger.wait_for_final(&mut alice, 2), ResultCode::Collected);
    assert_eq!(ledger.wait_for_final(&mut alice, 1), ResultCode::Collected);
    drop(bob);
    assert_eq!(scene.login("bob", RECEIVE).1.queued, 0);
}

#[test]
fn tells_a_sender_who_was_away_by_a_notice() {
    let mut scene = Scene::new(&[]);
    let bob = scene.claim("bob");
    let (mut alice, alices) = scene.register("alice", Receive::No);
    alice.send(&send_frame(bob, LANE, 1, b"for later"));
    assert_eq!(alice.next_results().code, ResultCode::Stored);
    drop(alice);
    scene.kill_and_restart();
    let (mut bob, bobs) = scene.login("bob", RECEIVE);
    let sequence = bob.next_delivery().routing.sequence;
    bob.acknowledge(sequence, 1);
    let (mut alice, _) = scene.login("alice", RECEIVE);
    let notice = alice.next_notice();
    assert_eq!(notice.code, ResultCode::Collected);
    assert_eq!(notice.receipt, receipt_for(sequence.0));
    assert_eq!((notice.routing.peer, notice.routing.lane, notice.routing.number.0), (bobs.uid, LANE, 1));
    // It is acknowledged like a message, and gone then.
    alice.acknowledge(notice.routing.sequence, 1);
    alice.ping();
    drop(alice);
    let (_, again) = scene.login("alice", Receive::No);
    assert_eq!((again.uid, again.queued), (alices.uid, 0));
}

#[test]
fn keeps_what_is_stored_through_sigkill_once_and_counts_on() {
    let mut scene = Scene::new(&[]);
    let (mut bob, bobs) = scene.register("bob", RECEIVE);
    let (mut alice, _) = scene.register("alice", Receive::No);
    // A live message never sees the disk, and its sequence is still not given twice.
    alice.send(&send_frame(bobs.uid, LANE, 1, b"live"));
    let live = bob.next_delivery().routing.sequence;
    bob.acknowledge(live, 1);
    let mut ledger = Ledger::new(LANE);
    assert_eq!(ledger.wait_for_final(&mut alice, 1), ResultCode::Collected);
    drop(bob);
    let mut before = live;
    for round in 2..=5 {
        let (mut alice, _) = scene.login("alice", Receive::No);
        // With bob's connection just gone it may have been forwarded first; STORED it is in the end.
        alice.send(&send_frame(bobs.uid, LANE, round, format!("round {round}").as_bytes()));
        assert_eq!(alice.next_results().code, ResultCode::Stored);
        scene.kill_and_restart();
        let (mut bob, welcome) = scene.login("bob", RECEIVE);
        assert_eq!((welcome.uid, welcome.queued), (bobs.uid, 1), "once");
        let delivery = bob.next_delivery();
        assert_eq!(delivery.envelope, format!("round {round}").as_bytes());
        assert!(delivery.routing.sequence > before, "{:?} after {before:?}", delivery.routing.sequence);
        before = delivery.routing.sequence;
        // Killed before the acknowledgement: it comes again, under the same sequence.
        scene.kill_and_restart();
        let (mut bob, _) = scene.login("bob", RECEIVE);
        assert_eq!(bob.next_delivery().routing.sequence, before);
        bob.acknowledge(before, 1);
        // The relay remembers an acknowledgement after a clean stop in any case.
        bob.ping();
        assert_eq!(scene.relay.stop("TERM"), Some(0));
        scene.relay = Relay::start(&scene.state(), &[]);
        assert_eq!(scene.login("bob", Receive::No).1.queued, 0);
    }
}

/// Many senders, many mailboxes, some with a reader who never acknowledges; SIGKILL while all are at it.
#[test]
fn keeps_everything_that_was_stored_when_killed_under_load() {
    const MAILBOXES: u64 = 24;
    const SENDERS: u64 = 4;
    const ENOUGH: u64 = 600;
    let mut scene = Scene::new(&[]);
    let uids: Vec<Uid> = (0..MAILBOXES).map(|index| scene.claim(&format!("box{index}"))).collect();
    (0..SENDERS).for_each(|index| drop(scene.register(&format!("sender{index}"), Receive::No)));
    let envelope = |sender: u64, mailbox: u64, number: u64| {
        format!("from {sender} to {mailbox}: {number} {}", "x".repeat((number % 700) as usize)).into_bytes()
    };
    for round in 1..=2 {
        let readers: Vec<Raw> =
            (0..MAILBOXES / 4).map(|index| scene.login(&format!("box{index}"), RECEIVE).0).collect();
        let address = scene.address();
        let stored_count = AtomicU64::new(0);
        // (mailbox, sender, number) of all that was promised.
        let mut promised: Vec<(u64, u64, u64)> = Vec::new();
        thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let (uids, stored_count) = (&uids, &stored_count);
                    scope.spawn(move || {
                        let (mut raw, _) =
                            Raw::login(address, &format!("sender{sender}"), Purpose::Login, Receive::No);
                        // A lane for each sender and round; number n goes to mailbox n modulo their number.
                        let lane = Lane(round * 100 + sender);
                        let (mut next, mut open) = (1_u64, 0_u64);
                        let mut stored = Vec::new();
                        loop {
                            while open < 32 {
                                let to = usize::try_from(next % MAILBOXES).unwrap();
                                raw.send(&send_frame(
                                    uids[to],
                                    lane,
                                    next,
                                    &envelope(sender, next % MAILBOXES, next),
                                ));
                                (next, open) = (next + 1, open + 1);
                            }
                            let Some(results) = raw.try_next_results() else { break };
                            assert_eq!(results.code, ResultCode::Stored);
                            open -= results.count;
                            stored_count.fetch_add(results.count, Ordering::Relaxed);
                            let numbers = results.first..results.first + results.count;
                            stored.extend(numbers.map(|number| (number % MAILBOXES, sender, number)));
                        }
                        stored
                    })
                })
                .collect();
            wait_for("enough to be stored", || {
                (stored_count.load(Ordering::Relaxed) >= ENOUGH).then_some(())
            });
            scene.relay.kill();
            for sender in senders {
                promised.extend(sender.join().unwrap());
            }
        });
        drop(readers);
        assert!(promised.len() >= usize::try_from(ENOUGH).unwrap());
        scene.relay = Relay::start(&scene.state(), &[]);
        for mailbox in 0..MAILBOXES {
            let (mut raw, welcome) = scene.login(&format!("box{mailbox}"), RECEIVE);
            let mut arrived = BTreeMap::<u64, Vec<u64>>::new();
            let mut before = Sequence(0);
            for _ in 0..welcome.queued {
                let delivery = raw.next_delivery();
                let (lane, number) = (delivery.routing.lane.0, delivery.routing.number.0);
                let sender = lane - round * 100;
                assert_eq!(delivery.envelope, envelope(sender, mailbox, number));
                assert!(delivery.routing.sequence > before);
                before = delivery.routing.sequence;
                raw.acknowledge(before, 1);
                arrived.entry(sender).or_default().push(number);
            }
            raw.ping();
            for (sender, numbers) in &arrived {
                assert!(numbers.is_sorted_by(|a, b| a < b), "from {sender}, in order and once: {numbers:?}");
            }
            for (_, sender, number) in promised.iter().filter(|(to, _, _)| *to == mailbox) {
                let there = arrived.get(sender).is_some_and(|numbers| numbers.contains(number));
                assert!(there, "round {round}: STORED and lost: {number} from {sender} to {mailbox}");
            }
        }
        // So that the next round begins with empty mailboxes.
        assert_eq!(scene.relay.stop("TERM"), Some(0));
        scene.relay = Relay::start(&scene.state(), &[]);
    }
}

#[test]
fn delivers_an_id_once_however_often_it_is_sent() {
    let scene = Scene::new(&[]);
    let (mut bob, bobs) = scene.register("bob", RECEIVE);
    let (mut alice, _) = scene.register("alice", Receive::No);
    let mut ledger = Ledger::new(LANE);
    let send = send_frame(bobs.uid, LANE, 1, b"once");
    // While it is under way.
    alice.send(&send);
    alice.send(&send);
    let delivery = bob.next_delivery();
    alice.send(&send);
    alice.ping();
    bob.acknowledge(delivery.routing.sequence, 1);
    assert_eq!(ledger.wait_for_final(&mut alice, 1), ResultCode::Collected);
    // When it is collected; from another connection, too.
    let (mut other, _) = scene.login("alice", Receive::No);
    for raw in [&mut alice, &mut other] {
        raw.send(&send);
        let results = raw.next_results();
        assert_eq!((results.code, results.first, results.count), (ResultCode::Done, 1, 1));
    }
    // Other bytes, or another recipient, under the same id.
    alice.send(&send_frame(bobs.uid, LANE, 1, b"twice"));
    assert_eq!(refused(&mut alice), ErrorCode::IdConflict.into());
    let carol = scene.claim("carol");
    alice.send(&send_frame(carol, LANE, 1, b"once"));
    assert_eq!(refused(&mut alice), ErrorCode::IdConflict.into());
    // The same lane of another user is another lane.
    let (mut dora, _) = scene.register("dora", Receive::No);
    dora.send(&send_frame(bobs.uid, LANE, 1, b"once"));
    let from_dora = bob.next_delivery();
    assert!(from_dora.routing.peer != delivery.routing.peer);
    bob.acknowledge(from_dora.routing.sequence, 1);
    drop(bob);
    // When it is stored.
    alice.send(&send_frame(bobs.uid, LANE, 2, b"stored"));
    assert_eq!(ledger.wait_for_first(&mut alice, 2), ResultCode::Stored);
    alice.send(&send_frame(bobs.uid, LANE, 2, b"stored"));
    let results = alice.next_results();
    assert_eq!((results.code, results.first, results.count), (ResultCode::Stored, 2, 1));
    // Long ago.
    alice.send(&send_frame(bobs.uid, LANE, 70, b"much later"));
    assert_eq!(ledger.wait_for_first(&mut alice, 70), ResultCode::Stored);
    alice.send(&send_frame(bobs.uid, LANE, 6, b"too old"));
    assert_eq!(refused(&mut alice), ErrorCode::IdTooOld.into());
    alice.send(&send_frame(bobs.uid, LANE, 7, b"just in time"));
    assert_eq!(ledger.wait_for_first(&mut alice, 7), ResultCode::Stored);
    let (mut bob, welcome) = scene.login("bob", RECEIVE);
    assert_eq!(welcome.queued, 3);
    let numbers: Vec<_> = collect(&mut bob, 3).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [2, 70, 7]);
}

#[test]
fn lets_a_newer_receiver_take_over_and_gives_it_what_was_not_acknowledged() {
    let scene = Scene::new(&[]);
    let (mut first, bobs) = scene.register("bob", RECEIVE);
    let (mut alice, _) = scene.register("alice", Receive::No);
    for number in 1..=5 {
        alice.send(&send_frame(bobs.uid, LANE, number, format!("{number}").as_bytes()));
    }
    let seen: Vec<_> = (0..5).map(|_| first.next_delivery().routing.sequence).collect();
    first.acknowledge(seen[0], 2);
    let mut ledger = Ledger::new(LANE);
    assert_eq!(ledger.wait_for_final(&mut alice, 2), ResultCode::Collected);
    let (mut second, welcome) = scene.login("bob", RECEIVE);
    assert!(welcome.receiving);
    assert_eq!(first.ending(), Some(ErrorCode::Replaced.into()));
    for (index, sequence) in seen.iter().enumerate().skip(2) {
        let delivery = second.next_delivery();
        assert_eq!(delivery.routing.sequence, *sequence);
        assert_eq!(delivery.envelope, format!("{}", index + 1).as_bytes());
        assert!(delivery.redelivered, "sequence {sequence:?} was sent before");
    }
    alice.send(&send_frame(bobs.uid, LANE, 6, b"6"));
    let sixth = second.next_delivery();
    assert!(!sixth.redelivered);
    second.acknowledge(seen[2], 3);
    second.acknowledge(sixth.routing.sequence, 1);
    assert_eq!(ledger.wait_for_final(&mut alice, 6), ResultCode::Collected);
}

#[test]
fn lets_only_one_receive_who_asks_politely() {
    let scene = Scene::new(&[]);
    let (receiver, bobs) = scene.register("bob", RECEIVE);
    let polite = Receive::IfNobody(AMPLE);
    let (_second, welcome) = scene.login("bob", polite);
    assert!(!welcome.receiving);
    // Sending beside it is always allowed, also to oneself.
    let (mut sender, welcome) = scene.login("bob", Receive::No);
    assert!(!welcome.receiving);
    let mut receiver = receiver;
    sender.send(&send_frame(bobs.uid, LANE, 1, b"to myself"));
    let delivery = receiver.next_delivery();
    assert_eq!((delivery.routing.peer, &delivery.envelope[..]), (bobs.uid, &b"to myself"[..]));
    receiver.acknowledge(delivery.routing.sequence, 1);
    drop(receiver);
    // Once it is gone, whoever asks may.
    wait_for("the relay to see it go", || scene.login("bob", polite).1.receiving.then_some(()));
}

#[test]
fn protects_a_name_from_other_keys() {
    let scene = Scene::new(&[]);
    let (mut bob, bobs) = scene.register("bob", RECEIVE);
    let thief = Identity::generate(&mut rng());
    for (purpose, code) in
        [(Purpose::Register, ErrorCode::NameTaken), (Purpose::Login, ErrorCode::LoginFailed)]
    {
        let mut raw = Raw::connect(scene.address());
        assert_eq!(raw.log_in(&thief, "bob", purpose, RECEIVE, None), Err(code.into()));
        assert!(raw.is_closed());
    }
    // The right key under a signature of another.
    let mut raw = Raw::connect(scene.address());
    let challenge = raw.hello(Purpose::Login).unwrap();
    let login = Login {
        version: challenge.version,
        purpose: Purpose::Login,
        relay_id: &challenge.relay_id,
        nonce: &challenge.nonce,
        name: &"bob".parse().unwrap(),
        fingerprint: thief.fingerprint(),
    };
    let signature = thief.sign_login(&login, &mut rng());
    let identity_key = identity().modulus();
    let proof = Proof {
        receive: RECEIVE,
        identity_key,
        signature: &signature,
        token_proof: &[0; 32],
        name: *login.name,
    };
    raw.send(&frame(|out| proof.emit(out)));
    assert_eq!(raw.ending(), Some(ErrorCode::LoginFailed.into()));
    // Registering one's own name again is a login, and none of this disturbed its owner.
    let (mut again, welcome) = scene.register("bob", Receive::No);
    assert_eq!(welcome.uid, bobs.uid);
    again.send(&send_frame(bobs.uid, LANE, 1, b"still here"));
    assert_eq!(collect(&mut bob, 1), [(1, b"still here".to_vec())]);
}

#[test]
fn refuses_recipients_that_nobody_knows() {
    let scene = Scene::new(&[]);
    let bob = scene.claim("bob");
    let (mut alice, alices) = scene.register("alice", Receive::No);
    let whose = Whose::Name("nobody".parse::<Name>().unwrap());
    alice.send(&frame(|out| Lookup { request: 9, want: Want::Address, whose }.emit(out)));
    alice.next(|frame| match frame {
        Frame::Error(error) => {
            assert_eq!((error.code, error.closes, error.request), (ErrorCode::UnknownName.into(), false, 9));
        }
        other => panic!("{other:?}"),
    });
    alice.send(&send_frame(Uid::new(1_000_000, 1), LANE, 1, b"nobody"));
    assert_eq!(refused(&mut alice), ErrorCode::UnknownRecipient.into());
    alice.send(&send_frame(Uid::NONE, LANE, 1, b"nobody"));
    assert_eq!(refused(&mut alice), ErrorCode::UnknownRecipient.into());
    alice.send(&send_frame(Uid(bob.0 ^ 1), LANE, 1, b"an older bob"));
    assert_eq!(refused(&mut alice), ErrorCode::KeyChanged.into());
    // A refused number is free.
    alice.send(&send_frame(alices.uid, LANE, 1, b"alice"));
    assert_eq!(alice.next_results().code, ResultCode::Stored);
}

/// Everything that the relay says to a PROOF, to the last byte.
fn answer_to_login(address: SocketAddr, identity: &Identity, name: &str) -> Vec<u8> {
    let mut raw = Raw::connect(address);
    let challenge = raw.hello(Purpose::Login).expect("a CHALLENGE");
    raw.send(&proof_frame(identity, &challenge, name, Purpose::Login, Receive::No, None));
    let mut answer = Vec::new();
    raw.stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn says_the_same_to_an_unknown_name_and_a_wrong_key_where_registration_is_closed() {
    let mut scene = Scene::new(&[]);
    let bob = scene.claim("bob");
    assert_eq!(scene.relay.stop("TERM"), Some(0));
    scene.relay = Relay::start(&scene.state(), &["--registration", "closed"]);
    let thief = Identity::generate(&mut rng());
    let unknown = answer_to_login(scene.address(), &thief, "eve");
    let wrong_key = answer_to_login(scene.address(), &thief, "bob");
    assert!(unknown.len() > 20);
    assert_eq!(unknown, wrong_key);
    let mut raw = Raw::connect(scene.address());
    assert_eq!(raw.hello(Purpose::Register).unwrap_err(), ErrorCode::RegistrationClosed.into());
    assert!(raw.is_closed());
    assert_eq!(scene.login("bob", Receive::No).1.uid, bob);
}

#[test]
fn registers_with_a_token_where_one_is_needed() {
    let directory = Directory::new();
    let tokens = directory.path().join("tokens");
    fs::write(&tokens, "first token\n\n  second-token  \n").unwrap();
    let state = directory.path().join("state");
    let arguments = ["--registration", "token", "--token-file", tokens.to_str().unwrap()];
    let relay = Relay::start(&state, &arguments);
    let register = |name: &str, token: Option<&[u8]>| {
        let mut raw = Raw::connect(relay.address());
        raw.log_in(identity(), name, Purpose::Register, Receive::No, token).map(|welcome| welcome.uid)
    };
    let bad = Err(ErrorCode::BadToken.into());
    assert_eq!(register("bob", None), bad);
    assert_eq!(register("bob", Some(b"third token")), bad);
    assert_eq!(register("bob", Some(b"")), bad);
    let bob = register("bob", Some(b"second-token")).expect("a good token");
    let carol = register("carol", Some(b"first token")).expect("a good token");
    assert_ne!(bob, carol);
    assert_eq!(register("bob", None), Ok(bob), "who has the name needs no token");
    let (_, welcome) = Raw::login(relay.address(), "bob", Purpose::Login, Receive::No);
    assert_eq!(welcome.uid, bob);
    // The token itself travels nowhere and is kept nowhere.
    let state_bytes = files(&state).iter().flat_map(fs::read).collect::<Vec<_>>().concat();
    assert!(state_bytes.windows(5).any(|window| window == b"carol"));
    assert!(!state_bytes.windows(12).any(|window| window == b"second-token"));
}

#[test]
fn keeps_the_order_of_a_thousand_messages() {
    const COUNT: u64 = 1_000;
    let scene = Scene::new(&[]);
    let (mut bob, bobs) = scene.register("bob", RECEIVE);
    let (mut alice, _) = scene.register("alice", Receive::No);
    let envelope =
        |number: u64| format!("{number} {}", "y".repeat((number * 37 % 900) as usize)).into_bytes();
    let expected: Vec<_> = (1..=COUNT).map(|number| (number, envelope(number))).collect();
    // Live.
    let receiver = thread::spawn(move || {
        let arrived = collect(&mut bob, COUNT);
        (bob, arrived)
    });
    Ledger::new(Lane(1)).send_all(&mut alice, bobs.uid, COUNT, envelope);
    let (bob, arrived) = receiver.join().unwrap();
    assert!(arrived == expected);
    drop(bob);
    // Stored, and read back in many pieces, with a small credit.
    Ledger::new(Lane(2)).send_all(&mut alice, bobs.uid, COUNT, envelope);
    let small = Receive::TakeOver(Credit { messages: 3, bytes: 16_448 });
    let (mut bob, welcome) = scene.login("bob", small);
    assert_eq!(welcome.queued, COUNT);
    assert!(collect(&mut bob, COUNT) == expected);
    // While it is read back, new ones come behind.
    drop(bob);
    Ledger::new(Lane(3)).send_all(&mut alice, bobs.uid, COUNT, envelope);
    let (mut bob, _) = scene.login("bob", RECEIVE);
    let receiver = thread::spawn(move || collect(&mut bob, 2 * COUNT));
    Ledger::new(Lane(4)).send_all(&mut alice, bobs.uid, COUNT, envelope);
    let arrived = receiver.join().unwrap();
    let (old, new) = arrived.split_at(expected.len());
    assert!(old == expected && new == expected);
}

#[test]
fn does_not_let_a_recipient_who_never_reads_hold_up_others() {
    const COUNT: u64 = 600;
    let scene = Scene::new(&[]);
    let (stalled, stalls) = scene.register("stalled", RECEIVE);
    let mut bystanders = Pair::new(scene.address(), "bystander");
    let (mut alice, _) = scene.register("alice", Receive::No);
    let envelope = |number: u64| [number.to_be_bytes().to_vec(), vec![0x5A; 16_000]].concat();
    let address = scene.address();
    let sender = thread::spawn(move || {
        let mut ledger = Ledger::new(LANE);
        // Nine megabytes: more than sockets and the ring take.
        ledger.send_all(&mut alice, stalls.uid, COUNT, envelope);
        assert_eq!(ledger.stored(), (1..=COUNT).collect::<Vec<_>>());
        alice
    });
    let mut exchanged = 0;
    while !sender.is_finished() || exchanged < 10 {
        bystanders.exchange();
        exchanged += 1;
    }
    // The same sender reaches others, too.
    let mut alice = sender.join().unwrap();
    let (mut carol, carols) = Raw::login(address, "carol", Purpose::Register, RECEIVE);
    alice.send(&send_frame(carols.uid, Lane(2), 1, b"past it"));
    assert_eq!(collect(&mut carol, 1), [(1, b"past it".to_vec())]);
    // And nothing is lost to the one who stalled.
    drop(stalled);
    let (mut reader, welcome) = scene.login("stalled", RECEIVE);
    assert_eq!(welcome.queued, COUNT);
    for (number, bytes) in collect(&mut reader, COUNT) {
        assert!(bytes == envelope(number));
    }
}

#[test]
fn refuses_acknowledgements_that_do_not_fit() {
    let scene = Scene::new(&[]);
    let (mut bob, bobs) = scene.register("bob", RECEIVE);
    let (mut alice, _) = scene.register("alice", Receive::No);
    let bad = Some(ErrorCode::BadAck.into());
    bob.acknowledge(Sequence(1), 1);
    assert_eq!(bob.ending(), bad, "nothing was delivered");
    let deliver_three = |bob: &mut Raw, alice: &mut Raw, lane| {
        (1..=3).for_each(|number| alice.send(&send_frame(bobs.uid, Lane(lane), number, b"message")));
        (0..3).map(|_| bob.next_delivery().routing.sequence).collect::<Vec<_>>()
    };
    let (mut bob, _) = scene.login("bob", RECEIVE);
    let three = deliver_three(&mut bob, &mut alice, 1);
    bob.acknowledge(three[1], 1);
    assert_eq!(bob.ending(), bad, "an older one was left out");
    let (mut bob, welcome) = scene.login("bob", RECEIVE);
    assert_eq!(welcome.queued, 3, "a refused acknowledgement acknowledges nothing");
    assert_eq!(bob.next_delivery().routing.sequence, three[0]);
    bob.acknowledge(three[0], 1);
    bob.acknowledge(three[0], 1);
    assert_eq!(bob.ending(), bad, "twice");
    let (mut bob, _) = scene.login("bob", RECEIVE);
    assert_eq!(bob.next_delivery().routing.sequence, three[1]);
    bob.next_delivery();
    bob.acknowledge(three[1], 3);
    assert_eq!(bob.ending(), bad, "more than was delivered");
    // A connection that doesn't receive has nothing to acknowledge.
    let (mut sender, _) = scene.login("bob", Receive::No);
    sender.acknowledge(three[2], 1);
    assert_eq!(sender.ending(), bad);
}

#[test]
fn delivers_no_more_than_the_credit() {
    let scene = Scene::new(&[]);
    let one = Receive::TakeOver(Credit { messages: 1, bytes: 16_448 });
    let (mut bob, bobs) = scene.register("bob", one);
    let (mut alice, _) = scene.register("alice", Receive::No);
    (1..=4).for_each(|number| alice.send(&send_frame(bobs.uid, LANE, number, &[0; 16_384])));
    for _ in 0..4 {
        let sequence = bob.next_delivery().routing.sequence;
        // Nothing else comes before the answer to PING.
        bob.send(&frame(|out| e2e_protocol::wire::session::emit_ping(out, FrameType::Ping, [7; 8])));
        bob.next(|frame| assert_eq!(frame, Frame::Pong([7; 8])));
        bob.acknowledge(sequence, 1);
    }
}

#[test]
fn does_not_deliver_what_has_expired_and_says_so() {
    let scene = Scene::new(&[]);
    let bob = scene.claim("bob");
    let (mut alice, alices) = scene.register("alice", Receive::No);
    for (number, ttl_seconds) in [(1, 1), (2, 0)] {
        let routing =
            Routing { peer: bob, lane: LANE, number: Number(number), ttl_seconds, ..Routing::default() };
        alice.send(&frame(|out| emit_routed(out, FrameType::Send, &routing, b"for a second")));
    }
    let mut ledger = Ledger::new(LANE);
    assert_eq!(ledger.wait_for_first(&mut alice, 1), ResultCode::Stored);
    assert_eq!(ledger.wait_for_first(&mut alice, 2), ResultCode::Stored);
    wait_for("a second of the relay's clock", || {
        (scene.login("alice", Receive::No).1.time_ms > alices.time_ms + 2_000).then_some(())
    });
    let (mut bob, _) = scene.login("bob", RECEIVE);
    assert_eq!(collect(&mut bob, 1)[0].0, 2);
    assert_eq!(ledger.wait_for_final(&mut alice, 1), ResultCode::Expired);
    assert_eq!(ledger.wait_for_final(&mut alice, 2), ResultCode::Collected);
}
