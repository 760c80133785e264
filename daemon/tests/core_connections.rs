//! The life of a connection: login and registration, states, keepalive, ends, limits, the directory
//! (spec/wire.md, sections 4, 6, 8 and 9).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::ids::{KeyId, Receipt, Sequence, Uid};
use e2e_protocol::login::key_id;
use e2e_protocol::wire::directory::{Batch, Lookup, Publish, SignedPrekey, Want, Whose};
use e2e_protocol::wire::session::{
    Challenge, ErrorFrame, Hello, Proof, Purpose, Receive, Registration, emit_ping,
};
use e2e_protocol::wire::transfer::Ack;
use e2e_protocol::wire::{ErrorCode, FrameType, NoRoom};
use e2e_relayd::core::Policy;
use e2e_relayd::limits::Limits;
use e2e_relayd::reason::Reason;

fn with_admission(registration: Registration) -> World {
    let tokens = vec![b"first".to_vec(), b"second".to_vec()];
    World::with(Limits::default(), Policy { registration, tokens, ..Policy::default() })
}

// Login and registration.

#[test]
fn welcomes_who_registers_and_who_logs_in() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let welcome = world.links[alice].welcome.unwrap();
    assert_eq!((welcome.queued, welcome.prekeys_left, welcome.receiving), (0, 0, false));
    assert_eq!((welcome.time_ms, welcome.keepalive_seconds, welcome.in_flight), (NOW, 60, 64));
    assert_eq!(welcome.signed_prekey, KeyId::ZERO);
    world.hang_up(alice);
    let again = world.login("alice", TAKE_OVER);
    assert_eq!(world.links[again].welcome.unwrap().uid, welcome.uid);
    world.restart();
    let later = world.login("alice", TAKE_OVER);
    assert_eq!(world.links[later].welcome.unwrap().uid, welcome.uid);
    assert_eq!(world.core.counts().0, 1);
}

#[test]
fn challenges_with_a_fresh_nonce_each_time() {
    let mut world = World::new();
    let nonces: Vec<_> = (0..3)
        .map(|_| {
            let peer = world.challenged(Purpose::Login);
            world.links[peer].challenge.unwrap().nonce
        })
        .collect();
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2] && nonces[0] != nonces[2]);
}

#[test]
fn says_the_same_to_an_unknown_name_a_wrong_key_and_a_bad_signature() {
    let mut world = World::new();
    world.claim("alice");
    let unknown = world.try_login("nobody", Purpose::Login, Receive::No);
    let wrong_key = world.challenged(Purpose::Login);
    world.proof_by(wrong_key, identity(1), "alice", Purpose::Login, Receive::No, None);
    // Signed for the other purpose.
    let bad_signature = world.challenged(Purpose::Login);
    world.proof(bad_signature, "alice", Purpose::Register, Receive::No);
    world.settle();
    for peer in [unknown, wrong_key, bad_signature] {
        assert_eq!(world.last_words(peer), Some(ErrorCode::LoginFailed));
        assert!(world.links[peer].welcome.is_none());
        assert!(!world.is_open(peer));
    }
}

#[test]
fn refuses_a_key_that_is_none() {
    let mut world = World::new();
    let peer = world.challenged(Purpose::Register);
    let proof = Proof {
        receive: Receive::No,
        identity_key: &[0; 256],
        signature: &[0; 256],
        token_proof: &[0; 32],
        name: name("alice"),
    };
    world.put(peer, |out| proof.emit(out));
    world.settle();
    assert_eq!(world.last_words(peer), Some(ErrorCode::LoginFailed));
}

#[test]
fn gives_a_name_to_the_first_key_only() {
    let mut world = World::new();
    world.claim("alice");
    let other = world.challenged(Purpose::Register);
    world.proof_by(other, identity(1), "alice", Purpose::Register, Receive::No, None);
    world.settle();
    assert_eq!(world.last_words(other), Some(ErrorCode::NameTaken));
    let same = world.register("alice", Receive::No);
    assert!(world.is_open(same), "registering one's own name logs in");
}

#[test]
fn gives_a_name_to_one_of_two_keys_that_come_at_once() {
    let mut world = World::new();
    world.disk.held = true;
    let first = world.challenged(Purpose::Register);
    let second = world.challenged(Purpose::Register);
    world.proof(first, "alice", Purpose::Register, Receive::No);
    world.settle();
    world.proof_by(second, identity(1), "alice", Purpose::Register, Receive::No, None);
    world.settle();
    assert_eq!(world.last_words(second), Some(ErrorCode::NameTaken));
    assert!(world.links[first].welcome.is_none(), "it is not on the disk yet");
    world.disk.held = false;
    world.settle();
    assert!(world.links[first].welcome.is_some());
}

#[test]
fn keeps_a_name_for_its_key_though_the_connection_went_before_the_answer() {
    let mut world = World::new();
    world.disk.held = true;
    let peer = world.try_login("alice", Purpose::Register, Receive::No);
    world.hang_up(peer);
    world.disk.held = false;
    world.settle();
    world.login("alice", Receive::No);
    assert_eq!(world.core.counts(), (1, 1, 0));
}

#[test]
fn asks_for_a_token_where_one_is_needed() {
    let mut world = with_admission(Registration::Token);
    for (token, expected) in [
        (None, Some(ErrorCode::BadToken)),
        (Some(&b"third"[..]), Some(ErrorCode::BadToken)),
        (Some(b"second"), None),
        (None, None), // it is registered now
    ] {
        let peer = world.challenged(Purpose::Register);
        assert_eq!(world.links[peer].challenge.unwrap().registration, Registration::Token);
        world.proof_by(peer, identity(0), "alice", Purpose::Register, Receive::No, token);
        world.settle();
        assert_eq!(world.last_words(peer), expected);
        assert_eq!(world.links[peer].welcome.is_some(), expected.is_none());
    }
}

#[test]
fn takes_no_new_names_where_registration_is_closed() {
    let mut world = with_admission(Registration::Closed);
    let peer = world.challenged(Purpose::Register);
    assert_eq!(world.last_words(peer), Some(ErrorCode::RegistrationClosed));
    let peer = world.challenged(Purpose::Login);
    assert_eq!(world.links[peer].challenge.unwrap().registration, Registration::Closed);
}

#[test]
fn refuses_a_name_too_many() {
    let mut world = World::with_limits(|limits| limits.names_max = 2);
    world.claim("alice");
    world.claim("bob");
    let peer = world.try_login("carol", Purpose::Register, Receive::No);
    assert_eq!(world.last_words(peer), Some(ErrorCode::DirectoryFull));
}

#[test]
fn speaks_session_version_1_only() {
    for (version_min, version_max, fits) in [(1, 1, true), (1, 9, true), (2, 3, false), (0, 0, false)] {
        let mut world = World::new();
        let peer = world.connect();
        let hello = Hello { version_min, version_max, purpose: Purpose::Login };
        world.put(peer, |out| hello.emit(out));
        world.settle();
        assert_eq!(world.links[peer].challenge.is_some(), fits);
        let expected = if fits { None } else { Some(ErrorCode::UnsupportedVersion) };
        assert_eq!(world.last_words(peer), expected);
    }
}

#[test]
fn logs_everybody_in_though_each_turn_verifies_a_few() {
    let mut world = World::with_limits(|limits| limits.verifications_per_turn = 2);
    let peers: Vec<_> = (0..9).map(|_| world.challenged(Purpose::Register)).collect();
    for (index, peer) in peers.iter().enumerate() {
        world.proof(*peer, &format!("user{index}"), Purpose::Register, Receive::No);
    }
    world.settle();
    assert!(peers.iter().all(|peer| world.links[*peer].welcome.is_some()));
}

#[test]
fn verifies_nothing_for_who_is_gone() {
    let mut world = World::with_limits(|limits| limits.verifications_per_turn = 1);
    let gone: Vec<_> = (0..20).map(|_| world.challenged(Purpose::Register)).collect();
    let last = world.challenged(Purpose::Register);
    world.core.begin_turn(world.now);
    for peer in &gone {
        world.proof(*peer, "alice", Purpose::Register, Receive::No);
        let link = &mut world.links[*peer];
        link.feed(&mut world.core);
        world.core.handle_lost(link.id);
    }
    world.proof(last, "bob", Purpose::Register, Receive::No);
    world.turn();
    world.turn();
    assert!(world.links[last].welcome.is_some(), "the dead are passed over");
}

// States.

type Emit = fn(&mut [u8]) -> Result<usize, NoRoom>;

fn send_frame(out: &mut [u8]) -> Result<usize, NoRoom> {
    let routing = e2e_protocol::wire::Routing { number: e2e_protocol::ids::Number(1), ..Default::default() };
    e2e_protocol::wire::routed::emit_routed(out, FrameType::Send, &routing, b"x")
}

const HELLO: Emit = |out| Hello { version_min: 1, version_max: 1, purpose: Purpose::Login }.emit(out);
const PROOF: Emit = |out| {
    let (key, zero) = (&[0xFF; 256], &[0; 32]);
    let name = "alice".parse().unwrap();
    Proof { receive: Receive::No, identity_key: key, signature: key, token_proof: zero, name }.emit(out)
};
const PING: Emit = |out| emit_ping(out, FrameType::Ping, [1; 8]);
const ACK: Emit = |out| Ack::emit(out, Sequence(1), &[Receipt::ZERO]);
const LOOKUP: Emit = |out| Lookup { request: 1, want: Want::Address, whose: Whose::Uid(Uid(1)) }.emit(out);
const ERROR: Emit = |out| {
    let code = ErrorCode::Busy.into();
    ErrorFrame { code, closes: false, request: 1, retry_after_seconds: 0, text: "" }.emit(out)
};
const CHALLENGE: Emit = |out| {
    let (relay_id, nonce) = (e2e_protocol::ids::RelayId::ZERO, NO_NONCE);
    Challenge { version: 1, registration: Registration::Open, relay_id, nonce }.emit(out)
};

#[test]
fn refuses_what_is_not_expected_in_each_state() {
    let fresh: &[Emit] = &[PROOF, send_frame, PING, ACK, LOOKUP, ERROR, CHALLENGE];
    let challenged: &[Emit] = &[HELLO, send_frame, PING, ACK, LOOKUP, ERROR, CHALLENGE];
    let ready: &[Emit] = &[HELLO, PROOF, ERROR, CHALLENGE];
    for (state, emits) in [fresh, challenged, challenged, ready].into_iter().enumerate() {
        for emit in emits {
            let mut world = World::new();
            world.disk.held = state == 2;
            let peer = match state {
                0 => world.connect(),
                1 => world.challenged(Purpose::Login),
                2 => world.try_login("alice", Purpose::Register, Receive::No),
                _ => world.register("alice", Receive::No),
            };
            world.put(peer, emit);
            world.settle();
            assert_eq!(world.last_words(peer), Some(ErrorCode::UnexpectedFrame), "in state {state}");
            assert!(!world.is_open(peer));
            world.disk.held = false;
            world.settle();
            assert_eq!(world.core.counts().1, 0);
        }
    }
}

#[test]
fn refuses_a_frame_between_proof_and_welcome() {
    let mut world = World::new();
    let peer = world.challenged(Purpose::Register);
    world.proof(peer, "alice", Purpose::Register, Receive::No);
    world.put(peer, PING);
    world.settle();
    assert_eq!(world.last_words(peer), Some(ErrorCode::UnexpectedFrame));
}

#[test]
fn says_what_is_wrong_with_bytes_that_are_no_frame() {
    let mut ping = vec![0; 28];
    PING(&mut ping).unwrap();
    let broken = |at: usize, to: u8| {
        let mut bytes = ping.clone();
        bytes[at] = to;
        bytes
    };
    for (bytes, expected) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), ErrorCode::BadMagic),
        (broken(4, 2), ErrorCode::UnsupportedVersion),
        (broken(8, 0xFF), ErrorCode::TooLong),
        (broken(27, 0xFF), ErrorCode::BadCrc),
        (broken(19, ping[19] ^ 1), ErrorCode::BadCrc),
    ] {
        let mut world = World::new();
        let bystander = world.register("bob", Receive::No);
        let peer = world.register("alice", Receive::No);
        world.raw(peer, &bytes);
        world.settle();
        assert_eq!(world.last_words(peer), Some(expected));
        assert!(world.is_open(bystander));
    }
}

#[test]
fn limits_a_body_before_login_to_1024_bytes() {
    let mut world = World::new();
    let peer = world.connect();
    let mut frame = vec![0; 2_000];
    let routing = e2e_protocol::wire::Routing { number: e2e_protocol::ids::Number(1), ..Default::default() };
    let count =
        e2e_protocol::wire::routed::emit_routed(&mut frame, FrameType::Send, &routing, &[1; 1_000]).unwrap();
    world.raw(peer, &frame[..count]);
    world.settle();
    assert_eq!(world.last_words(peer), Some(ErrorCode::TooLong));
}

#[test]
fn reads_a_session_in_pieces_of_one_byte() {
    let mut world = World::new();
    let peer = world.connect();
    world.links[peer].piece = 1;
    world.links[peer].socket_bytes = 1;
    world.hello(peer, Purpose::Register);
    world.settle();
    world.proof(peer, "alice", Purpose::Register, TAKE_OVER);
    world.settle();
    let uid = world.links[peer].welcome.unwrap().uid;
    world.send(peer, uid, 1, 1, b"to myself");
    world.settle();
    let delivered = world.delivered(peer);
    world.ack_all(peer, &delivered);
    world.settle();
    assert_eq!(world.results(peer), all(1, 1, "COLLECTED"));
}

// Time.

#[test]
fn gives_up_a_login_after_ten_seconds() {
    let mut world = World::new();
    let silent = world.connect();
    let challenged = world.challenged(Purpose::Login);
    world.advance(9_999);
    assert!(world.is_open(silent) && world.is_open(challenged));
    world.advance(1);
    for peer in [silent, challenged] {
        assert_eq!(world.last_words(peer), Some(ErrorCode::LoginTimeout));
        assert!(!world.is_open(peer));
    }
}

#[test]
fn waits_for_a_slow_disk_with_a_registration_that_came_in_time() {
    let mut world = World::new();
    world.disk.held = true;
    let peer = world.try_login("alice", Purpose::Register, Receive::No);
    world.advance(15_000);
    assert!(world.is_open(peer));
    world.disk.held = false;
    world.settle();
    assert!(world.links[peer].welcome.is_some());
}

#[test]
fn pings_who_is_silent_and_gives_up_at_twice_the_keepalive() {
    let mut world = World::new();
    let silent = world.register("alice", Receive::No);
    let answers = world.register("bob", Receive::No);
    world.advance(59_999);
    assert!(world.links[silent].pings.is_empty());
    world.advance(1);
    assert_eq!(world.links[silent].pings.len(), 1);
    let opaque = world.links[answers].pings[0];
    world.put(answers, |out| emit_ping(out, FrameType::Pong, opaque));
    world.advance(59_999);
    assert!(world.is_open(silent));
    assert_eq!(world.links[silent].pings.len(), 1);
    world.advance(1);
    assert_eq!(world.last_words(silent), Some(ErrorCode::IdleTimeout));
    assert!(world.is_open(answers));
    assert_eq!(world.links[answers].pings.len(), 2);
}

#[test]
fn counts_any_byte_as_a_sign_of_life() {
    let mut world = World::new();
    let peer = world.register("alice", Receive::No);
    let mut ping = [0; 28];
    PING(&mut ping).unwrap();
    for byte in ping {
        world.raw(peer, &[byte]);
        world.advance(59_000);
    }
    assert!(world.links[peer].pings.is_empty());
    assert_eq!(world.links[peer].pongs, [[1; 8]]);
}

// Ends.

#[test]
fn says_what_it_owes_after_the_end_of_input() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let alice = world.register("alice", Receive::No);
    world.disk.held = true;
    world.send_all(alice, bob, 1, 5);
    world.end_of_input(alice);
    world.settle();
    assert!(world.is_open(alice));
    world.disk.held = false;
    world.settle();
    assert_eq!(world.results(alice), all(1, 5, "STORED"));
    assert_eq!(world.links[alice].closed, Some(Reason::PeerClosed));
    assert_eq!(world.core.counts().1, 0);
}

#[test]
fn closes_at_the_end_of_input_though_an_id_was_repeated() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let alice = world.register("alice", Receive::No);
    world.disk.held = true;
    world.send_all(alice, bob, 1, 3);
    world.send_all(alice, bob, 1, 3);
    world.end_of_input(alice);
    world.settle();
    world.disk.held = false;
    world.settle();
    assert_eq!(world.results(alice), all(1, 3, "STORED"));
    assert!(!world.is_open(alice));
}

#[test]
fn owes_a_connection_only_what_goes_to_it() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let first = world.register("alice", Receive::No);
    let second = world.login("alice", Receive::No);
    world.disk.held = true;
    world.send_all(first, bob, 1, 3);
    world.settle();
    // The lane moves to the second connection, which then says no more.
    world.send_all(second, bob, 4, 5);
    world.end_of_input(second);
    world.end_of_input(first);
    world.settle();
    assert!(!world.is_open(first), "all results go to the second one");
    assert!(world.is_open(second));
    world.disk.commit(1, NOW);
    world.settle();
    assert!(world.is_open(second), "two more are owed");
    world.disk.held = false;
    world.settle();
    assert_eq!(world.results(second), all(1, 5, "STORED"));
    assert!(!world.is_open(second));
}

#[test]
fn waits_five_seconds_for_what_it_owes_after_the_end_of_input() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let alice = world.register("alice", Receive::No);
    world.disk.held = true;
    world.send_all(alice, bob, 1, 5);
    world.end_of_input(alice);
    world.advance(4_999);
    assert!(world.is_open(alice));
    world.advance(1);
    assert_eq!(world.links[alice].closed, Some(Reason::LingerExpired));
}

#[test]
fn stores_what_a_receiver_had_who_says_no_more() {
    for taken in [1, 64, 70, 200, usize::MAX] {
        let mut world = World::new();
        let alice = world.register("alice", Receive::No);
        let bob = world.register("bob", TAKE_OVER);
        world.links[bob].reads = false;
        world.links[bob].socket_bytes = taken;
        world.send_all(alice, world.uid("bob"), 1, 5);
        world.settle();
        world.end_of_input(bob);
        world.settle();
        world.links[bob].reads = true;
        world.links[bob].socket_bytes = usize::MAX;
        world.settle();
        assert_eq!(world.links[bob].closed, Some(Reason::PeerClosed));
        assert_eq!(world.results(alice), all(1, 5, "STORED"));
    }
}

#[test]
fn does_not_receive_on_a_connection_whose_input_ended_before_welcome() {
    let mut world = World::new();
    world.claim("bob");
    let receiver = world.login("bob", TAKE_OVER);
    let ended = world.challenged(Purpose::Login);
    world.proof(ended, "bob", Purpose::Login, TAKE_OVER);
    world.end_of_input(ended);
    world.links[ended].feed_all(&mut world.core);
    world.settle();
    assert!(world.links[ended].welcome.is_some_and(|welcome| !welcome.receiving));
    assert!(!world.is_open(ended));
    assert!(world.is_open(receiver), "nobody takes over");
}

// Limits.

#[test]
fn refuses_connections_beyond_the_limits() {
    let mut world = World::with_limits(|limits| {
        limits.connections_max = 6;
        limits.connections_before_login_max = 2;
    });
    let alice = world.register("alice", Receive::No);
    let waiting: Vec<_> = (0..3).map(|_| world.challenged(Purpose::Login)).collect();
    assert_eq!(world.last_words(waiting[0]), Some(ErrorCode::TooManyConnections), "the oldest makes room");
    for peer in waiting.into_iter().skip(1) {
        world.proof(peer, "alice", Purpose::Login, Receive::No);
    }
    world.settle();
    world.login("alice", Receive::No);
    world.login("alice", Receive::No);
    world.login("alice", Receive::No);
    let refused = world.challenged(Purpose::Login);
    assert_eq!(world.last_words(refused), Some(ErrorCode::TooManyConnections));
    world.hang_up(alice);
    world.login("alice", Receive::No);
}

#[test]
fn refuses_a_ninth_connection_of_one_name_unless_it_takes_over() {
    let mut world = World::new();
    let receiver = world.register("alice", TAKE_OVER);
    for _ in 0..7 {
        world.login("alice", Receive::No);
    }
    let ninth = world.try_login("alice", Purpose::Login, Receive::No);
    assert_eq!(world.last_words(ninth), Some(ErrorCode::TooManyConnections));
    let instead = world.login("alice", TAKE_OVER);
    assert!(world.is_open(instead));
    assert_eq!(world.last_words(receiver), Some(ErrorCode::Replaced));
}

// The directory.

fn modulus(mark: u8) -> [u8; 256] {
    let mut modulus = [mark; 256];
    modulus[0] = 0x80;
    modulus[255] = 1;
    modulus
}

fn publish(world: &mut World, peer: Peer, request: u32, signed: Option<u8>, batch: Option<(u8, &[u8])>) {
    let signature = [9; 256];
    let moduli: Vec<_> = batch.map_or(Vec::new(), |(_, marks)| marks.iter().map(|m| modulus(*m)).collect());
    let signed_modulus = modulus(signed.unwrap_or(0));
    let frame = Publish {
        request,
        signed_prekey: signed.map(|_| SignedPrekey {
            modulus: &signed_modulus,
            made_ms: NOW,
            profile: 0,
            signature: &signature,
        }),
        batch: batch.map(|(of, _)| Batch {
            signed_prekey: key_id(&modulus(of)),
            signature: &signature,
            moduli: &moduli,
        }),
    };
    world.put(peer, |out| frame.emit(out));
}

fn lookup(world: &mut World, peer: Peer, request: u32, want: Want, whose: Whose) {
    world.put(peer, |out| Lookup { request, want, whose }.emit(out));
}

#[test]
fn finds_names_and_hands_out_each_prekey_once() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", Receive::No);
    let of_alice = Whose::Name(name("alice"));
    lookup(&mut world, bob, 1, Want::OneTime, of_alice);
    world.settle();
    assert_eq!(world.request_errors(bob), [(1, ErrorCode::NoBundle)]);
    publish(&mut world, alice, 5, Some(40), Some((40, &[51, 52])));
    world.settle();
    let published = world.links[alice].published[0];
    assert_eq!((published.request, published.prekeys_left), (5, 2));
    assert_eq!(published.signed_prekey, key_id(&modulus(40)));
    for request in 2..=4 {
        lookup(&mut world, bob, request, Want::OneTime, of_alice);
    }
    let uid = Whose::Uid(world.uid("alice"));
    lookup(&mut world, bob, 5, Want::Bundle, uid);
    lookup(&mut world, bob, 6, Want::Address, of_alice);
    world.settle();
    let mut found = std::mem::take(&mut world.links[bob].found);
    found.sort_by_key(|entry| entry.request);
    assert!(found.iter().all(|entry| entry.uid == world.uid("alice") && entry.name == "alice"));
    let handed: Vec<_> = found.iter().map(|entry| (entry.one_time, entry.prekeys_left)).collect();
    assert_eq!(handed, [(Some(51), 1), (Some(52), 0), (None, 0), (None, 0), (None, 0)]);
    assert_eq!(found[4].signed_prekey, None);
    world.hang_up(alice);
    let alice = world.login("alice", Receive::No);
    let welcome = world.links[alice].welcome.unwrap();
    assert_eq!((welcome.signed_prekey, welcome.prekeys_left), (key_id(&modulus(40)), 0));
}

#[test]
fn says_what_is_wrong_with_a_request() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    lookup(&mut world, alice, 1, Want::Address, Whose::Name(name("nobody")));
    lookup(&mut world, alice, 2, Want::OneTime, Whose::Uid(Uid::new(0, 1)));
    publish(&mut world, alice, 3, None, Some((40, &[51])));
    publish(&mut world, alice, 4, Some(40), Some((41, &[51])));
    world.settle();
    let mut errors = world.request_errors(alice);
    errors.sort_by_key(|(request, _)| *request);
    assert_eq!(
        errors,
        [
            (1, ErrorCode::UnknownName),
            (2, ErrorCode::UnknownName),
            (3, ErrorCode::BadBundle),
            (4, ErrorCode::BadBundle)
        ]
    );
    let even = SignedPrekey { modulus: &[0x80; 256], made_ms: 1, profile: 0, signature: &[0; 256] };
    world.put(alice, |out| Publish { request: 5, signed_prekey: Some(even), batch: None }.emit(out));
    publish(&mut world, alice, 6, Some(40), None);
    for batch in 0..9 {
        publish(&mut world, alice, 10 + u32::from(batch), None, Some((40, &[100 + batch])));
        world.settle();
    }
    assert_eq!(world.request_errors(alice), [(5, ErrorCode::BadBundle), (18, ErrorCode::PrekeysFull)]);
    assert!(world.is_open(alice));
}

#[test]
fn lets_eight_requests_of_a_connection_wait() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    publish(&mut world, alice, 1, Some(40), None);
    world.settle();
    world.disk.held = true;
    for request in 2..=11 {
        lookup(&mut world, alice, request, Want::Bundle, Whose::Name(name("alice")));
    }
    world.settle();
    assert_eq!(world.request_errors(alice), [(10, ErrorCode::Busy), (11, ErrorCode::Busy)]);
    lookup(&mut world, alice, 12, Want::Address, Whose::Name(name("alice")));
    world.settle();
    assert_eq!(world.links[alice].found.len(), 1, "an address waits for nothing");
    world.disk.held = false;
    world.settle();
    assert_eq!(world.links[alice].found.len(), 9);
    lookup(&mut world, alice, 13, Want::Bundle, Whose::Name(name("alice")));
    world.settle();
    assert_eq!(world.links[alice].found.len(), 10);
}

#[test]
fn answers_requests_with_store_failed() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    world.disk.fail(true);
    publish(&mut world, alice, 1, Some(40), None);
    world.settle();
    lookup(&mut world, alice, 2, Want::OneTime, Whose::Name(name("alice")));
    publish(&mut world, alice, 3, Some(40), None);
    world.settle();
    let failed: Vec<_> = (1..=3).map(|request| (request, ErrorCode::StoreFailed)).collect();
    assert_eq!(world.request_errors(alice), failed);
    world.disk.fail(false);
    world.advance(1_000);
    publish(&mut world, alice, 4, Some(40), None);
    world.settle();
    assert_eq!(world.links[alice].published.len(), 1);
}

#[test]
fn answers_nobody_when_who_asked_is_gone() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    publish(&mut world, alice, 1, Some(40), None);
    world.settle();
    world.disk.held = true;
    lookup(&mut world, alice, 2, Want::OneTime, Whose::Name(name("alice")));
    world.settle();
    world.hang_up(alice);
    let other = world.login("alice", Receive::No);
    world.disk.held = false;
    world.settle();
    assert_eq!(world.links[other].found, []);
    assert_eq!(world.core.counts().1, 1);
}

#[test]
fn answers_what_was_asked_before_the_end_of_input() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    publish(&mut world, alice, 1, Some(40), None);
    lookup(&mut world, alice, 2, Want::OneTime, Whose::Name(name("alice")));
    world.end_of_input(alice);
    world.settle();
    assert_eq!(world.links[alice].found.len(), 1);
    assert_eq!(world.links[alice].closed, Some(Reason::PeerClosed));
}
