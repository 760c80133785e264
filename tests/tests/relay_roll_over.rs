//! A name changes to a new identity key on a real relay (spec/wire.md, section 6): what was promised
//! survives SIGKILL, what doesn't fit changes nothing, and nobody else notices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::net::SocketAddr;
use std::sync::OnceLock;

use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::{KeyId, Lane, Modulus, Name, Signature, Uid};
use e2e_protocol::login::verify_roll_over;
use e2e_protocol::wire::directory::{Lookup, Want, Whose};
use e2e_protocol::wire::header::FrameError;
use e2e_protocol::wire::roll::Roll;
use e2e_protocol::wire::session::{Purpose, Receive, Welcome, emit_ping};
use e2e_protocol::wire::transfer::ResultCode;
use e2e_protocol::wire::{Code, ErrorCode, Frame, FrameType, Parsed};
use e2e_tests::pair::Pair;
use e2e_tests::process::{Directory, Relay};
use e2e_tests::raw::{AMPLE, Raw, frame, identity, rng, roll_frame, send_frame};

const RECEIVE: Receive = Receive::TakeOver(AMPLE);
const LANE: Lane = Lane(0x0_2011);

/// Changes the key and the two signatures of a ROLL.
type Spoil = fn(&mut Modulus, &mut Signature, &mut Signature);

/// The key that a name rolls over to, and the one after it.
fn next_identity(index: usize) -> &'static Identity {
    static KEYS: [OnceLock<Identity>; 2] = [const { OnceLock::new() }; 2];
    KEYS[index].get_or_init(|| Identity::generate(&mut rng()))
}

/// A relay, and two users on it who are not to notice anything.
struct Scene {
    directory: Directory,
    relay: Relay,
    bystanders: Pair,
}

impl Scene {
    fn new() -> Self {
        let directory = Directory::new();
        let relay = Relay::start(&directory.path().join("state"), &[]);
        let bystanders = Pair::new(relay.address(), "bystander");
        Self { directory, relay, bystanders }
    }

    fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// The bystanders go with the relay; from here on there are none.
    fn kill_and_restart(&mut self) {
        self.relay.kill();
        self.relay = Relay::start(&self.directory.path().join("state"), &[]);
    }

    fn register(&self, name: &str, receive: Receive) -> (Raw, Welcome) {
        Raw::login(self.address(), name, Purpose::Register, receive)
    }

    fn try_login(&self, by: &Identity, name: &str, receive: Receive) -> Result<(Raw, Welcome), Code> {
        let mut raw = Raw::connect(self.address());
        let welcome = raw.log_in(by, name, Purpose::Login, receive, None)?;
        Ok((raw, welcome))
    }
}

/// The answer to the ROLL with request 1: the new uid, or why not.
fn answer(raw: &mut Raw) -> Result<Uid, Code> {
    raw.next_of(|frame| match frame {
        Frame::Rolled(rolled) => {
            assert_eq!(rolled.request, 1);
            Some(Ok(rolled.uid))
        }
        Frame::Error(error) => {
            assert_eq!((error.request, error.closes), (1, false), "{}", error.text);
            Some(Err(error.code))
        }
        _ => None,
    })
}

fn refusal(raw: &mut Raw) -> Code {
    let results = raw.next_results();
    assert_eq!((results.code, results.count), (ResultCode::Refused, 1));
    results.reason
}

/// The keys of a name from the oldest on, every signature being checked.
fn known_keys(raw: &mut Raw, name: &str) -> Vec<Modulus> {
    let name: Name = name.parse().unwrap();
    let lookup = Lookup { request: 8, want: Want::RollOvers, whose: Whose::Name(name) };
    raw.send(&frame(|out| lookup.emit(out)));
    raw.next(|frame| {
        let Frame::Rolls(rolls) = frame else { panic!("{frame:?}") };
        assert_eq!(rolls.request, 8);
        let mut known = vec![*rolls.oldest];
        let mut last_ms = 0;
        for roll_over in rolls.iter() {
            let former = known.last().unwrap();
            verify_roll_over(
                &name,
                former,
                roll_over.identity_key,
                roll_over.time_ms,
                roll_over.former_signature,
                roll_over.signature,
            )
            .unwrap();
            assert!(roll_over.time_ms > last_ms);
            last_ms = roll_over.time_ms;
            known.push(*roll_over.identity_key);
        }
        known
    })
}

#[test]
fn rolls_over_and_keeps_it_through_a_kill() {
    let mut scene = Scene::new();
    let (mut receiver, old) = scene.register("alice", RECEIVE);
    let (mut asker, _) = scene.try_login(identity(), "alice", Receive::No).unwrap();
    let (mut bob, _) = scene.register("bob", Receive::No);
    asker.send(&roll_frame("alice", identity(), next_identity(0), 7));
    let new = answer(&mut asker).unwrap();
    scene.bystanders.exchange();
    assert_ne!(new, old.uid);
    for connection in [&mut asker, &mut receiver] {
        assert_eq!(connection.ending(), Some(ErrorCode::KeyChanged.into()));
    }
    bob.send(&send_frame(old.uid, LANE, 1, b"for the old key"));
    assert_eq!(refusal(&mut bob), ErrorCode::KeyChanged.into());
    bob.send(&send_frame(new, LANE, 2, b"for the new key"));
    assert_eq!(bob.next_results().code, ResultCode::Stored);
    scene.kill_and_restart();
    let refused = scene.try_login(identity(), "alice", RECEIVE).unwrap_err();
    assert_eq!(refused, ErrorCode::LoginFailed.into());
    let mut raw = Raw::connect(scene.address());
    let taken = raw.log_in(identity(), "alice", Purpose::Register, Receive::No, None).unwrap_err();
    assert_eq!(taken, ErrorCode::NameTaken.into());
    let (mut alice, welcome) = scene.try_login(next_identity(0), "alice", RECEIVE).unwrap();
    assert_eq!((welcome.uid, welcome.queued, welcome.signed_prekey), (new, 1, KeyId::ZERO));
    assert_eq!(alice.next_delivery().envelope, b"for the new key");
    let (mut bob, _) = scene.try_login(identity(), "bob", Receive::No).unwrap();
    bob.send(&send_frame(old.uid, LANE, 1, b"for the old key"));
    assert_eq!(refusal(&mut bob), ErrorCode::KeyChanged.into());
    assert_eq!(bob.uid_of("alice"), new);
}

#[test]
fn happens_wholly_or_not_at_all_when_the_relay_is_killed_before_it_answers() {
    let mut scene = Scene::new();
    for round in 0..8 {
        let name = format!("alice{round}");
        let (mut alice, welcome) = scene.register(&name, Receive::No);
        let roll = roll_frame(&name, identity(), next_identity(0), 7);
        let ping = frame(|out| emit_ping(out, FrameType::Ping, *b"got that"));
        alice.send(&[roll, ping].concat());
        // PONG says that the relay has read the ROLL: it is somewhere on its way to the disk.
        alice.next_of(|frame| matches!(frame, Frame::Pong(_)).then_some(()));
        scene.kill_and_restart();
        // What wire.md tells a client to do.
        match scene.try_login(next_identity(0), &name, Receive::No) {
            Ok((_, now)) => assert_ne!(now.uid, welcome.uid),
            Err(code) => {
                assert_eq!(code, ErrorCode::LoginFailed.into());
                let (mut alice, now) = scene.try_login(identity(), &name, Receive::No).unwrap();
                assert_eq!(now.uid, welcome.uid);
                alice.send(&roll_frame(&name, identity(), next_identity(0), 7));
                assert_ne!(answer(&mut alice).unwrap(), welcome.uid);
            }
        }
        assert_eq!(
            scene.try_login(identity(), &name, Receive::No).unwrap_err(),
            ErrorCode::LoginFailed.into()
        );
    }
}

#[test]
fn refuses_while_something_waits_in_the_mailbox() {
    let mut scene = Scene::new();
    let (alice, welcome) = scene.register("alice", Receive::No);
    drop(alice);
    let (mut bob, _) = scene.register("bob", Receive::No);
    bob.send(&send_frame(welcome.uid, LANE, 1, b"read me first"));
    assert_eq!(bob.next_results().code, ResultCode::Stored);
    let (mut alice, _) = scene.try_login(identity(), "alice", RECEIVE).unwrap();
    let roll = roll_frame("alice", identity(), next_identity(0), 7);
    alice.send(&roll);
    assert_eq!(answer(&mut alice), Err(ErrorCode::MailboxNotEmpty.into()));
    drop(alice);
    let (mut alice, _) = scene.try_login(identity(), "alice", RECEIVE).unwrap();
    let sequence = alice.next_delivery().routing.sequence;
    alice.acknowledge(sequence, 1);
    alice.send(&roll);
    answer(&mut alice).unwrap();
    assert_eq!(bob.next_results().code, ResultCode::Collected, "nothing is lost");
    scene.bystanders.exchange();
}

#[test]
fn refuses_each_bad_signature_and_key() {
    let mut scene = Scene::new();
    let (mut alice, welcome) = scene.register("alice", Receive::No);
    let good = roll_frame("alice", identity(), next_identity(0), 7);
    let parsed = Frame::parse(&good, good.len());
    let Ok::<_, FrameError>(Parsed::Frame(Frame::Roll(roll), _)) = parsed else { panic!("{parsed:?}") };
    let mut bad = vec![
        roll_frame("alicf", identity(), next_identity(0), 7),
        roll_frame("alice", next_identity(1), next_identity(0), 7),
        roll_frame("alice", identity(), identity(), 7),
        roll_frame("alice", identity(), next_identity(0), 0),
    ];
    let mut spoil = |change: Spoil| {
        let mut roll_over = roll.roll_over;
        let (mut key, mut by_old, mut by_new) =
            (*roll_over.identity_key, *roll_over.former_signature, *roll_over.signature);
        change(&mut key, &mut by_old, &mut by_new);
        (roll_over.identity_key, roll_over.former_signature, roll_over.signature) = (&key, &by_old, &by_new);
        bad.push(frame(|out| Roll { request: 1, roll_over }.emit(out)));
    };
    spoil(|key, _, _| key[255] &= 0xFE);
    spoil(|key, _, _| key[0] &= 0x7F);
    spoil(|key, _, _| key[100] ^= 1);
    spoil(|_, by_old, _| by_old[255] ^= 1);
    spoil(|_, _, by_new| by_new[255] ^= 1);
    spoil(|_, by_old, _| by_old.fill(0));
    spoil(|_, _, by_new| by_new.fill(0xFF));
    spoil(|_, by_old, by_new| std::mem::swap(by_old, by_new));
    for (index, roll) in bad.iter().enumerate() {
        alice.send(roll);
        assert_eq!(answer(&mut alice), Err(ErrorCode::BadRoll.into()), "{index}");
        scene.bystanders.exchange();
    }
    let (_, again) = scene.try_login(identity(), "alice", Receive::No).unwrap();
    assert_eq!(again.uid, welcome.uid);
    alice.send(&good);
    answer(&mut alice).unwrap();
}

#[test]
fn shows_two_roll_overs_as_a_chain_and_takes_neither_twice() {
    let mut scene = Scene::new();
    let (mut bob, _) = scene.register("bob", Receive::No);
    let (mut alice, first) = scene.register("alice", Receive::No);
    let keys = [identity(), next_identity(0), next_identity(1)];
    let moduli = keys.map(|key| *key.modulus());
    assert_eq!(known_keys(&mut bob, "alice"), moduli[..1]);
    let rolls = [roll_frame("alice", keys[0], keys[1], 7), roll_frame("alice", keys[1], keys[2], 8)];
    alice.send(&rolls[0]);
    let second = answer(&mut alice).unwrap();
    assert_eq!(known_keys(&mut bob, "alice"), moduli[..2]);
    let (mut alice, _) = scene.try_login(keys[1], "alice", Receive::No).unwrap();
    for replayed in [&rolls[0], &roll_frame("alice", keys[1], keys[2], 7)] {
        alice.send(replayed);
        assert_eq!(answer(&mut alice), Err(ErrorCode::BadRoll.into()));
    }
    alice.send(&rolls[1]);
    let third = answer(&mut alice).unwrap();
    assert!(first.uid != second && second != third && third != first.uid);
    scene.bystanders.exchange();
    for restarted in [false, true] {
        if restarted {
            scene.kill_and_restart();
            bob = scene.try_login(identity(), "bob", Receive::No).unwrap().0;
        }
        assert_eq!(known_keys(&mut bob, "alice"), moduli);
        let (mut alice, welcome) = scene.try_login(keys[2], "alice", Receive::No).unwrap();
        assert_eq!(welcome.uid, third);
        for replayed in &rolls {
            alice.send(replayed);
            assert_eq!(answer(&mut alice), Err(ErrorCode::BadRoll.into()));
        }
        for (number, uid) in (1..).zip([first.uid, second]) {
            bob.send(&send_frame(uid, LANE, number, b"too late"));
            assert_eq!(refusal(&mut bob), ErrorCode::KeyChanged.into());
        }
    }
}
