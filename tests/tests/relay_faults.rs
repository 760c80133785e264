//! The delivery contract while the machine does its worst: short forms of what `force` does for longer
//! (docs/faults.md).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use e2e_protocol::ids::Lane;
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_protocol::wire::transfer::ResultCode;
use e2e_tests::client::World;
use e2e_tests::force::{Fault, Ordeal, endure, kill_clients, restart_with};
use e2e_tests::ledger::Ledger;
use e2e_tests::pair::Pair;
use e2e_tests::process::{Directory, Relay, binary, cpu_seconds, send_signal, wait_for};
use e2e_tests::raw::{AMPLE, Raw, send_frame};

const RECEIVE: Receive = Receive::TakeOver(AMPLE);

#[test]
fn loses_nothing_accepted_when_killed_paused_and_cut_off_under_load() {
    let directory = Directory::new();
    let faults = [Fault::Kill, Fault::Cut, Fault::Pause, Fault::Cut].repeat(3);
    let ordeal = Ordeal { pairs: 3, faults, calm_ms: 60, seed: 1 };
    let survived = endure(&ordeal, &directory.path().join("state"));
    assert_eq!((survived.lost, survived.wrong), (0, 0), "{survived:?}");
    assert!(survived.accepted > 100 && survived.stored > 0, "{survived:?}");
}

#[test]
fn loses_nothing_when_clients_and_relay_are_killed() {
    let killed = kill_clients(6, 2);
    assert!(killed.shown >= killed.taken, "{killed:?}");
}

#[test]
fn gives_back_thousands_of_stored_messages_after_sigkill() {
    let directory = Directory::new();
    assert_eq!(restart_with(3_000, 128, &directory.path().join("state")).messages, 3_000);
}

#[test]
fn goes_on_when_a_client_or_the_relay_was_paused() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let receiving = bob.start_recv(&[]);
    send_signal(receiving.id(), "STOP");
    for number in 0..3 {
        // It is stored, since nobody acknowledges it.
        alice.send("bob", &format!("to who sleeps {number}"));
    }
    assert_eq!(receiving.lines(), [] as [&str; 0]);
    send_signal(receiving.id(), "CONT");
    assert_eq!(receiving.wait_for_lines(3), [0, 1, 2].map(|number| format!("alice: to who sleeps {number}")));
    send_signal(world.relay.id(), "STOP");
    let sending = alice.start(&["send", "bob", "-m", "while the relay sleeps"]);
    thread::sleep(Duration::from_millis(100)); // not a race: whatever it has come to by then is right
    send_signal(world.relay.id(), "CONT");
    let (_, sent) = sending.finish();
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    assert_eq!(receiving.wait_for_lines(4)[3], "alice: while the relay sleeps");
}

#[test]
fn serves_on_without_file_descriptors_and_accepts_again() {
    let directory = Directory::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 48 && exec \"$0\" \"$@\""]).arg(binary("e2e-relayd"));
    let relay = Relay::start_with(command, &directory.path().join("state"), &[]);
    let mut pair = Pair::new(relay.address(), "early");
    let away = Raw::login(relay.address(), "away", Purpose::Register, Receive::No).1.uid;
    // The system takes all of these, the relay only some.
    let held: Vec<_> = (0..64).map(|_| Raw::connect(relay.address())).collect();
    wait_for("the relay to have none left", || {
        relay.log().contains("cannot accept a connection").then_some(())
    });
    let before = cpu_seconds(relay.id());
    thread::sleep(Duration::from_secs(1));
    let used = cpu_seconds(relay.id()) - before;
    assert!(used < 0.5, "it used {used} s of CPU in one");
    for _ in 0..20 {
        pair.exchange();
    }
    // It stores, too.
    pair.sender.send(&send_frame(away, Lane(7), 1, b"stored"));
    assert_eq!(Ledger::new(Lane(7)).wait_for_first(&mut pair.sender, 1), ResultCode::Stored);
    drop(held);
    let (mut late, welcome) = Raw::login(relay.address(), "away", Purpose::Login, RECEIVE);
    assert_eq!(welcome.queued, 1);
    assert_eq!(late.next_delivery().envelope, b"stored");
}

#[test]
fn refuses_while_the_disk_fails_and_stores_again() {
    let has_strace = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !has_strace.is_ok_and(|status| status.success()) {
        println!("skipped: failing fsync needs strace");
        return;
    }
    let directory = Directory::new();
    let state = directory.path().join("state");
    let mut relay = Relay::start(&state, &[]);
    let bob = Raw::login(relay.address(), "bob", Purpose::Register, Receive::No).1.uid;
    drop(Raw::login(relay.address(), "alice", Purpose::Register, Receive::No));
    assert_eq!(relay.stop("TERM"), Some(0));
    // Each thread counts by itself: the fifteenth of the one that commits, and some after it.
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    command.args(["-e", "inject=fsync,fdatasync:error=EIO:when=15..18"]).arg(binary("e2e-relayd"));
    let mut relay = Relay::start_with(command, &state, &[]);
    let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Login, Receive::No);
    let (mut stored, mut not) = (BTreeSet::new(), 0);
    let mut number = 0;
    wait_for("the disk to fail and to work again", || {
        number += 1;
        alice.send(&send_frame(bob, Lane(1), number, format!("message {number}").as_bytes()));
        match alice.next_results().code {
            ResultCode::Stored => drop(stored.insert(number)),
            ResultCode::Refused | ResultCode::Uncertain => not += 1,
            code => panic!("{code:?}"),
        }
        (not > 0 && stored.last() == Some(&number)).then_some(())
    });
    assert!(relay.log().contains("the disk failed"), "{}", relay.log());
    assert!(!relay.log().contains("damaged"), "{}", relay.log());
    relay.kill();
    let relay = Relay::start(&state, &[]);
    let (mut reader, welcome) = Raw::login(relay.address(), "bob", Purpose::Login, RECEIVE);
    let arrived: BTreeSet<_> = (0..welcome.queued).map(|_| reader.next_delivery().routing.number.0).collect();
    assert_eq!(arrived.len() as u64, welcome.queued);
    assert!(stored.is_subset(&arrived), "{stored:?} {arrived:?}");
}

#[test]
fn goes_on_behind_messages_that_the_disk_damaged_while_it_ran() {
    const COUNT: u64 = 400;
    let directory = Directory::new();
    let state = directory.path().join("state");
    let relay = Relay::start(&state, &[]);
    let bob = Raw::login(relay.address(), "bob", Purpose::Register, Receive::No).1.uid;
    let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    let envelope = |number: u64| format!("<message {number:04}>").repeat(1_000).into_bytes();
    let mut ledger = Ledger::new(Lane(1));
    ledger.send_all(&mut alice, bob, COUNT, envelope);
    for segment in fs::read_dir(state.join("log")).unwrap() {
        let path = segment.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        // Some bytes of the older half.
        let found = bytes
            .windows(11)
            .enumerate()
            .filter(|(_, found)| matches!(*found, b"<message 00" | b"<message 01"));
        for (place, _) in found.step_by(50) {
            file.write_all_at(b"#", place as u64 + 3).unwrap();
        }
    }
    let (mut reader, welcome) = Raw::login(relay.address(), "bob", Purpose::Login, RECEIVE);
    assert_eq!(welcome.queued, COUNT);
    let take = |reader: &mut Raw| {
        let delivery = reader.next_delivery();
        let number = delivery.routing.number.0;
        assert!(delivery.envelope == envelope(number), "message {number}");
        reader.acknowledge(delivery.routing.sequence, 1);
        number
    };
    let mut arrived = BTreeSet::new();
    while !arrived.contains(&COUNT) {
        assert!(arrived.insert(take(&mut reader)), "twice");
    }
    let lost: BTreeSet<_> = (1..=COUNT).filter(|number| !arrived.contains(number)).collect();
    assert!(!lost.is_empty() && lost.iter().all(|number| *number < 200), "{lost:?}");
    assert!(relay.log().contains("STORED_DAMAGED"), "{}", relay.log());
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
    // Alice is told. These numbers are too old by now: she sends again under new ones.
    let mut told = BTreeSet::new();
    while told != lost {
        let results = alice.next_results();
        if results.code == ResultCode::Uncertain {
            told.extend(results.first..results.first + results.count);
        }
    }
    for number in COUNT + 1..=COUNT + lost.len() as u64 {
        alice.send(&send_frame(bob, Lane(1), number, &envelope(number)));
        assert_eq!(take(&mut reader), number);
    }
    drop(reader);
    assert_eq!(Raw::login(relay.address(), "bob", Purpose::Login, RECEIVE).1.queued, 0);
}
