//! The relay reads what spec/wire.md says, refuses the rest with the code that it says, and nobody
//! else on the same relay notices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use e2e_protocol::ids::{Lane, Uid};
use e2e_protocol::limits::{BODY_BYTES_BEFORE_LOGIN_MAX, ENVELOPE_BYTES_MAX, SESSION_VERSION};
use e2e_protocol::wire::session::{Challenge, Hello, Purpose, Receive, emit_ping};
use e2e_protocol::wire::{Code, ErrorCode, Frame, FrameType};
use e2e_tests::ledger::Ledger;
use e2e_tests::pair::Pair;
use e2e_tests::process::{Directory, Relay, resident_bytes};
use e2e_tests::raw::{Raw, frame, identity, proof_frame, send_frame};
use e2e_tests::vectors::{self, Expect, Vector};

const HELLO: Hello = Hello { version_min: 1, version_max: SESSION_VERSION, purpose: Purpose::Login };

fn hello_frame() -> Vec<u8> {
    frame(|out| HELLO.emit(out))
}

fn ping_frame() -> Vec<u8> {
    frame(|out| emit_ping(out, FrameType::Ping, *b"12345678"))
}

/// A relay, and two users on it who are not to notice anything.
struct Scene {
    _state: Directory,
    relay: Relay,
    bystanders: Pair,
}

impl Scene {
    fn new() -> Self {
        let state = Directory::new();
        let relay = Relay::start(&state.path().join("state"), &[]);
        let bystanders = Pair::new(relay.address(), "bystander");
        drop(Raw::login(relay.address(), "stranger", Purpose::Register, Receive::No));
        Self { _state: state, relay, bystanders }
    }

    fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    fn logged_in(&self) -> Raw {
        Raw::login(self.address(), "stranger", Purpose::Login, Receive::No).0
    }

    fn connected(&self) -> Raw {
        Raw::connect(self.address())
    }
}

fn code(name: &str) -> Code {
    ErrorCode::ALL.into_iter().find(|code| code.name() == name).expect("a code of section 7").into()
}

/// The code that a vector names, unless it depends on who reads.
fn error_of(vector: &Vector) -> Option<Code> {
    match &vector.expect {
        Expect::Error(name) if name != "UNEXPECTED_FRAME" => Some(code(name)),
        _ => None,
    }
}

/// A whole frame with nothing wrong in it, and its type.
fn frame_of(vector: &Vector) -> Option<(FrameType, &[u8])> {
    match vector.expect {
        Expect::Frame(_) => {}
        // These would be good frames for the other side.
        Expect::Error(ref name) if name == "UNEXPECTED_FRAME" && vector.name.ends_with("/wrong-way") => {}
        _ => return None,
    }
    let length = u32::from_be_bytes(vector.bytes[8..12].try_into().unwrap());
    let bytes = &vector.bytes[..20 + usize::try_from(length).unwrap()];
    Some((FrameType::from_number(bytes[5]).expect("a known type"), bytes))
}

fn is_over_limit_before_login(vector: &Vector) -> bool {
    let length = vector.bytes.get(8..12).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    length.is_some_and(|length| usize::try_from(length).unwrap() > BODY_BYTES_BEFORE_LOGIN_MAX)
}

#[test]
fn refuses_every_malformed_vector_after_login() {
    let mut scene = Scene::new();
    let mut count = 0;
    for vector in vectors::wire().iter().filter(|vector| vector.limit != BODY_BYTES_BEFORE_LOGIN_MAX) {
        let Some(expected) = error_of(vector) else { continue };
        // What is wrong for a client is wrong for the relay too, and sooner than its direction.
        let mut raw = scene.logged_in();
        raw.send(&vector.bytes);
        assert_eq!(raw.ending(), Some(expected), "{}", vector.name);
        let mut raw = scene.logged_in();
        raw.send(&vector.bytes[..vector.after]);
        assert_eq!(raw.ending(), Some(expected), "{}: the first {} bytes", vector.name, vector.after);
        let mut raw = scene.logged_in();
        raw.send(&vector.bytes[..vector.after - 1]);
        raw.finish_writing();
        assert_eq!(raw.ending(), None, "{}: one byte less", vector.name);
        scene.bystanders.exchange();
        count += 1;
    }
    assert!(count > 300, "{count} vectors");
}

#[test]
fn refuses_every_malformed_vector_before_login() {
    let mut scene = Scene::new();
    let mut count = 0;
    for vector in &vectors::wire() {
        let Some(mut expected) = error_of(vector) else { continue };
        let read_first = [ErrorCode::BadMagic.into(), ErrorCode::UnsupportedVersion.into()];
        if is_over_limit_before_login(vector) && !read_first.contains(&expected) {
            expected = ErrorCode::TooLong.into();
        }
        let mut raw = scene.connected();
        raw.send(&vector.bytes);
        assert_eq!(raw.ending(), Some(expected), "{}, instead of HELLO", vector.name);
        let mut raw = scene.connected();
        raw.hello(Purpose::Login).expect("a CHALLENGE");
        raw.send(&vector.bytes);
        assert_eq!(raw.ending(), Some(expected), "{}, instead of PROOF", vector.name);
        scene.bystanders.exchange();
        count += 1;
    }
    assert!(count > 300, "{count} vectors");
}

#[test]
fn refuses_good_frames_that_are_not_expected() {
    let mut scene = Scene::new();
    let mut refused = BTreeMap::<&str, u32>::new();
    for vector in &vectors::wire() {
        let Some((frame_type, bytes)) = frame_of(vector) else { continue };
        let unexpected = ErrorCode::UnexpectedFrame.into();
        let before = if is_over_limit_before_login(vector) { ErrorCode::TooLong.into() } else { unexpected };
        if frame_type != FrameType::Hello {
            let mut raw = scene.connected();
            raw.send(bytes);
            assert_eq!(raw.ending(), Some(before), "{}, instead of HELLO", vector.name);
        }
        if frame_type != FrameType::Proof {
            let mut raw = scene.connected();
            raw.hello(Purpose::Login).expect("a CHALLENGE");
            raw.send(bytes);
            assert_eq!(raw.ending(), Some(before), "{}, instead of PROOF", vector.name);
        }
        let takes = [
            FrameType::Send,
            FrameType::Ack,
            FrameType::Query,
            FrameType::Lookup,
            FrameType::Publish,
            FrameType::Roll,
            FrameType::Who,
            FrameType::Block,
            FrameType::Remove,
        ];
        if !takes.contains(&frame_type) && !matches!(frame_type, FrameType::Ping | FrameType::Pong) {
            let mut raw = scene.logged_in();
            raw.send(bytes);
            assert_eq!(raw.ending(), Some(unexpected), "{}, after login", vector.name);
            *refused.entry(frame_type.name()).or_default() += 1;
        }
        scene.bystanders.exchange();
    }
    let types: Vec<_> = refused.into_keys().collect();
    let all = [
        "BLOCKED",
        "CHALLENGE",
        "DELIVER",
        "ENTRY",
        "ERROR",
        "HELLO",
        "NOTICE",
        "PRESENCE",
        "PROOF",
        "PUBLISHED",
        "REMOVED",
        "RESULT",
        "ROLLED",
        "ROLLS",
        "STATES",
        "WELCOME",
    ];
    assert_eq!(types, all);
}

#[test]
fn answers_every_good_vector_for_the_relay() {
    let mut scene = Scene::new();
    for vector in &vectors::wire() {
        let Some((frame_type, bytes)) = frame_of(vector) else { continue };
        let mut raw = scene.logged_in();
        raw.send(bytes);
        // The keys, uids and sequences of the vectors are made up: what the relay makes of them varies, but it answers.
        let answers: &[FrameType] = match frame_type {
            FrameType::Send => &[FrameType::Result],
            FrameType::Lookup => &[FrameType::Entry, FrameType::Rolls, FrameType::Error],
            FrameType::Roll => &[FrameType::Error],
            FrameType::Publish => &[FrameType::Published, FrameType::Error],
            FrameType::Ping => &[FrameType::Pong],
            FrameType::Pong => &[],
            FrameType::Ack => {
                assert_eq!(raw.ending(), Some(ErrorCode::BadAck.into()), "{}", vector.name);
                continue;
            }
            _ => continue,
        };
        if !answers.is_empty() {
            let answer = raw.next(|frame| match frame {
                Frame::Error(error) => {
                    assert!(!error.closes && error.request != 0, "{}: {}", vector.name, error.code);
                    FrameType::Error
                }
                frame => frame.frame_type().expect("a known frame"),
            });
            assert!(answers.contains(&answer), "{}: {answer:?}", vector.name);
        }
        raw.ping();
        raw.finish_writing();
        assert_eq!(raw.ending(), None, "{}", vector.name);
        scene.bystanders.exchange();
    }
}

#[test]
fn skips_what_is_skippable_and_waits_for_what_is_not_complete() {
    let mut scene = Scene::new();
    for vector in &vectors::wire() {
        match vector.expect {
            Expect::Skip => {
                if vector.limit == BODY_BYTES_BEFORE_LOGIN_MAX || !is_over_limit_before_login(vector) {
                    let mut raw = scene.connected();
                    raw.send(&vector.bytes[..vector.frame_bytes]);
                    raw.hello(Purpose::Login).expect("a CHALLENGE");
                }
                let mut raw = scene.logged_in();
                raw.send(&vector.bytes[..vector.frame_bytes]);
                raw.ping();
            }
            Expect::Incomplete => {
                let mut raw = scene.logged_in();
                raw.send(&vector.bytes);
                raw.finish_writing();
                assert_eq!(raw.ending(), None, "{}", vector.name);
            }
            _ => continue,
        }
        scene.bystanders.exchange();
    }
}

#[test]
fn refuses_a_length_of_4_gib_without_memory_for_it() {
    let mut scene = Scene::new();
    let mut header = ping_frame();
    header[8..12].fill(0xFF);
    let before = resident_bytes(scene.relay.id());
    for _ in 0..100 {
        // Nothing behind the length is needed to know.
        for mut raw in [scene.connected(), scene.logged_in()] {
            raw.send(&header[..12]);
            assert_eq!(raw.ending(), Some(ErrorCode::TooLong.into()));
        }
    }
    // A length within the limit, nothing behind the header, a hundred times at once.
    let largest = send_frame(scene.bystanders.to, Lane(1), 1, &[0; ENVELOPE_BYTES_MAX]);
    let waiting: Vec<_> = (0..100)
        .map(|index| {
            let name = format!("big{}", index / 8);
            let mut raw = Raw::login(scene.address(), &name, Purpose::Register, Receive::No).0;
            raw.send(&largest[..20]);
            raw
        })
        .collect();
    scene.bystanders.exchange();
    let grown = resident_bytes(scene.relay.id()).saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more");
    drop(waiting);
    scene.bystanders.exchange();
}

#[test]
fn reads_frames_that_come_in_single_bytes() {
    let mut scene = Scene::new();
    let mut raw = scene.connected();
    let trickle = |raw: &mut Raw, bytes: &[u8]| bytes.chunks(1).for_each(|byte| raw.send(byte));
    trickle(&mut raw, &hello_frame());
    let challenge = raw.next(|frame| match frame {
        Frame::Challenge(challenge) => challenge,
        other => panic!("{other:?}"),
    });
    trickle(&mut raw, &login_proof(&challenge));
    raw.next(|frame| assert_eq!(frame.frame_type(), Some(FrameType::Welcome)));
    let mut ledger = Ledger::new(Lane(1));
    let envelope: Vec<u8> = (0..ENVELOPE_BYTES_MAX).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for number in 1..=3 {
        let envelope = if number == 3 { &envelope[..] } else { &envelope[..20] };
        trickle(&mut raw, &send_frame(scene.bystanders.to, Lane(1), number, envelope));
        let delivery = scene.bystanders.receiver.next_delivery();
        assert_eq!(delivery.envelope, envelope);
        scene.bystanders.receiver.acknowledge(delivery.routing.sequence, 1);
        ledger.wait_for_final(&mut raw, number);
    }
    raw.ping();
    scene.bystanders.exchange();
}

/// The PROOF with which `stranger` logs in.
fn login_proof(challenge: &Challenge) -> Vec<u8> {
    proof_frame(identity(), challenge, "stranger", Purpose::Login, Receive::No, None)
}

#[test]
fn takes_nothing_from_a_frame_that_was_cut_off() {
    let mut scene = Scene::new();
    let hello = hello_frame();
    for count in 0..hello.len() {
        let mut raw = scene.connected();
        raw.send(&hello[..count]);
        raw.finish_writing();
        assert_eq!(raw.ending(), None, "HELLO cut to {count} bytes");
        scene.connected().send(&hello[..count]);
    }
    scene.bystanders.exchange();
    // The bystander would be the one to get it.
    let send = send_frame(scene.bystanders.to, Lane(2), 1, b"cut off");
    for count in 0..send.len() {
        let mut raw = scene.logged_in();
        raw.send(&send[..count]);
        raw.finish_writing();
        assert_eq!(raw.ending(), None, "SEND cut to {count} bytes");
    }
    scene.bystanders.exchange();
    let mut raw = scene.connected();
    let proof = login_proof(&raw.hello(Purpose::Login).expect("a CHALLENGE"));
    for count in 0..proof.len() {
        let mut raw = scene.connected();
        raw.hello(Purpose::Login).expect("a CHALLENGE");
        raw.send(&proof[..count]);
        raw.finish_writing();
        assert_eq!(raw.ending(), None, "PROOF cut to {count} bytes");
    }
    scene.bystanders.exchange();
}

#[test]
fn tells_a_silent_connection_that_login_took_too_long() {
    let mut scene = Scene::new();
    let silent = scene.connected();
    let mut greeted = scene.connected();
    greeted.hello(Purpose::Login).expect("a CHALLENGE");
    let mut halfway = scene.connected();
    halfway.send(&hello_frame()[..27]);
    let mut trickling = scene.connected();
    let challenge = trickling.hello(Purpose::Login).expect("a CHALLENGE");
    let proof = login_proof(&challenge);
    // Bytes that come in time don't buy more of it.
    let mut stream = trickling.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for byte in proof[..proof.len() - 1].chunks(1) {
            std::thread::sleep(std::time::Duration::from_millis(50));
            if stream.write_all(byte).is_err() {
                break;
            }
        }
    });
    for mut raw in [silent, greeted, halfway, trickling] {
        assert_eq!(raw.ending(), Some(ErrorCode::LoginTimeout.into()));
    }
    writer.join().unwrap();
    scene.bystanders.exchange();
    // Whoever logged in may be as silent as they like, for a minute.
}

#[test]
fn answers_a_session_whose_sending_side_is_closed() {
    let mut scene = Scene::new();
    let mut raw = scene.connected();
    raw.send(&hello_frame());
    raw.finish_writing();
    let first = raw.next(|frame| frame.frame_type());
    assert_eq!(first, Some(FrameType::Challenge));
    assert!(raw.is_closed());
    // What is owed is waited for: the result of a message to somebody who is not there.
    let (mut raw, welcome) = Raw::login(scene.address(), "stranger", Purpose::Login, Receive::No);
    raw.send(&send_frame(welcome.uid, Lane(3), 1, b"to myself"));
    raw.finish_writing();
    raw.next(|frame| assert_eq!(frame.frame_type(), Some(FrameType::Result)));
    assert!(raw.is_closed());
    scene.bystanders.exchange();
}

#[test]
fn agrees_on_a_session_version_or_says_that_there_is_none() {
    let scene = Scene::new();
    let outcome = |version_min, version_max| {
        let mut raw = scene.connected();
        raw.send(&frame(|out| Hello { version_min, version_max, purpose: Purpose::Login }.emit(out)));
        raw.next(|frame| match frame {
            Frame::Challenge(challenge) => Ok(challenge.version),
            Frame::Error(error) => Err((error.code, error.closes)),
            other => panic!("{other:?}"),
        })
    };
    let none = Err((ErrorCode::UnsupportedVersion.into(), true));
    assert_eq!(outcome(1, 1), Ok(1));
    assert_eq!(outcome(0, u16::MAX), Ok(1));
    assert_eq!(outcome(0, 0), none);
    assert_eq!(outcome(2, u16::MAX), none);
}

#[test]
fn refuses_login_frames_out_of_turn() {
    let mut scene = Scene::new();
    let unexpected = Some(ErrorCode::UnexpectedFrame.into());
    let mut raw = scene.connected();
    raw.hello(Purpose::Login).expect("a CHALLENGE");
    raw.send(&hello_frame());
    assert_eq!(raw.ending(), unexpected, "HELLO twice");
    let mut raw = scene.connected();
    raw.send(&ping_frame());
    assert_eq!(raw.ending(), unexpected, "PING before HELLO");
    // A PROOF for another nonce is a replay.
    let mut raw = scene.connected();
    let challenge = raw.hello(Purpose::Login).expect("a CHALLENGE");
    let proof = login_proof(&challenge);
    let mut raw = scene.connected();
    let other = raw.hello(Purpose::Login).expect("a CHALLENGE");
    assert_eq!(challenge.relay_id, other.relay_id);
    assert_ne!(challenge.nonce, other.nonce);
    raw.send(&proof);
    assert_eq!(raw.ending(), Some(ErrorCode::LoginFailed.into()), "a PROOF over another nonce");
    // Uid zero is nobody.
    let mut raw = scene.logged_in();
    raw.send(&send_frame(Uid::NONE, Lane(4), 1, b"to nobody"));
    let results = raw.next_results();
    assert_eq!(results.reason, ErrorCode::UnknownRecipient.into());
    scene.bystanders.exchange();
}

/// The line of spec/wire.md, section 12, as it stands there.
fn netcat_line() -> String {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/wire.md")).unwrap();
    let line =
        text.lines().map(str::trim).find(|line| line.starts_with("printf '") && line.contains("nc -N"));
    line.expect("a printf line in section 12").to_owned()
}

#[test]
fn answers_the_netcat_of_the_specification() {
    let has = |tool: &str| {
        Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success()
    };
    let help = Command::new("sh").args(["-c", "nc -h 2>&1"]).output().unwrap();
    if !has("nc") || !String::from_utf8_lossy(&help.stdout).contains("-N") {
        println!("skipped: there is no nc that knows -N");
        return;
    }
    let mut scene = Scene::new();
    let address = scene.address();
    let line = netcat_line().replace("host 5001", &format!("{} {}", address.ip(), address.port()));
    let line = line.strip_suffix("| xxd").expect("a dump at the end");
    let mut child =
        Command::new("sh").args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut answer = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(answer.len(), 88, "a CHALLENGE and nothing else");
    let mut raw = scene.connected();
    let challenge = raw.hello(Purpose::Login).expect("a CHALLENGE");
    assert_eq!(answer[24..56], challenge.relay_id.0, "the relay's id");
    assert_ne!(answer[56..88], challenge.nonce.0, "a fresh nonce each time");
    scene.bystanders.exchange();
}
