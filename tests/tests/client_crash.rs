//! `e2e-client` killed at each step that changes its disk: nothing is lost, nothing is shown twice but
//! perhaps the last lines, no message key is used for two messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;

use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::{Frame, Parsed};
use e2e_tests::client::{Ran, World, copy};
use e2e_tests::process::wait_for;
use e2e_tests::proxy::Proxy;

/// More steps than any command takes: a run that never ends is a failure.
const STEPS_MAX: u32 = 500;

/// Whether the client was killed, and not just failed. Its debug builds are what can be.
fn was_killed(ran: &Ran) -> bool {
    assert!(matches!(ran.code, None | Some(0)), "{:?}: {}", ran.code, ran.stderr);
    ran.code.is_none()
}

/// Each envelope that crossed, by its session's id and its number (spec/crypto.md, "Envelope").
fn message_keys(proxy: &Proxy) -> BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> {
    let mut used = BTreeMap::<_, BTreeSet<_>>::new();
    for crossed in proxy.crossed() {
        let mut rest = &crossed.to_relay[..];
        while let Ok(Parsed::Frame(frame, count)) = Frame::parse(rest, BODY_BYTES_MAX) {
            if let Frame::Send(message) = frame {
                let envelope = message.envelope();
                used.entry(envelope[4..28].to_vec()).or_default().insert(envelope.to_vec());
            }
            rest = &rest[count..];
        }
    }
    used
}

/// Kills `send` at each step, then restarts the relay, so that nobody but the ends remembers anything,
/// and goes on.
fn kill_send(base: &World) {
    let mut delivered_at = Vec::new();
    for step in 1..=STEPS_MAX {
        let mut world = base.continued();
        let proxy = Proxy::start(world.relay.address());
        let (alice, bob) = (world.client_at("alice", proxy.address()), "bob");
        let ran = alice.run_killed_at(step, &["send", bob, "-m", "cut off"]);
        world.kill_and_restart();
        proxy.point_to(world.relay.address());
        alice.send(bob, "after");
        let bob = world.client(bob);
        let mut received = bob.receive();
        // What has to wait for a receipt first goes out now.
        assert_eq!(alice.receive(), [] as [&str; 0]);
        received.extend(bob.receive());
        received.sort();
        let was_delivered = match &received.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["alice: after"] => false,
            ["alice: after", "alice: cut off"] => true,
            other => panic!("killed at step {step}: {other:?}"),
        };
        alice.wait_for_receipts(&[&bob]);
        for (key, envelopes) in message_keys(&proxy) {
            assert_eq!(envelopes.len(), 1, "killed at step {step}: one key for several messages: {key:02x?}");
        }
        delivered_at.push(was_delivered);
        if !was_killed(&ran) {
            break;
        }
    }
    // From one step on it is the client's, and stays that.
    assert!(delivered_at.is_sorted(), "{delivered_at:?}");
    assert_eq!(delivered_at.first(), Some(&false), "{delivered_at:?}");
    assert!(delivered_at.iter().filter(|delivered| **delivered).count() >= 3, "{delivered_at:?}");
}

#[test]
fn loses_no_message_that_starts_a_session_when_killed_at_any_step_of_send() {
    let mut base = World::new();
    assert_eq!(base.relay.stop("TERM"), Some(0));
    kill_send(&base);
}

#[test]
fn loses_no_message_in_a_session_when_killed_at_any_step_of_send() {
    let mut base = World::new();
    let (alice, bob) = (base.client("alice"), base.client("bob"));
    alice.send("bob", "start");
    assert_eq!(bob.receive(), ["alice: start"]);
    bob.send("alice", "and back");
    assert_eq!(alice.receive(), ["bob: and back"]);
    assert_eq!(bob.receive(), [] as [&str; 0]);
    assert_eq!(base.relay.stop("TERM"), Some(0));
    kill_send(&base);
}

#[test]
fn loses_no_message_that_steps_when_killed_at_any_step_of_send() {
    let mut base = World::new();
    let (alice, bob) = (base.client("alice"), base.client("bob"));
    // Bob starts the session: alice's first message on it steps.
    bob.send("alice", "start");
    assert_eq!(alice.receive(), ["bob: start"]);
    assert_eq!(bob.receive(), [] as [&str; 0]);
    assert_eq!(base.relay.stop("TERM"), Some(0));
    kill_send(&base);
}

/// The lines that were printed whole, by id, in their order.
fn ids(output: &str) -> Vec<(String, String)> {
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let field = |line: &str, name: &str| {
        let rest = line.split_once(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("{line}")).1;
        rest.split('"').next().unwrap().to_owned()
    };
    whole.lines().map(|line| (field(line, "id"), field(line, "text"))).collect()
}

/// What is shown again is what was printed last, since the last commit, in the same order.
fn assert_repeats_are_last(run: &[(String, String)], next: &[(String, String)]) {
    let repeated = run.iter().filter(|line| next.contains(line)).count();
    assert!(repeated <= 1, "only the last line may come again: {run:?} and then {next:?}");
    assert_eq!(run[run.len() - repeated..], next[..repeated], "{run:?} and then {next:?}");
}

/// Kills `recv` at each step, restarts the relay, and receives again.
fn kill_receive(base: &World, name: &str, expected: &[&str]) {
    for step in 1..=STEPS_MAX {
        let mut world = base.continued();
        let ran = world.client(name).run_killed_at(step, &["recv", "-t", "0", "--json"]);
        let first = ids(&ran.stdout);
        world.kill_and_restart();
        let client = world.client(name);
        let second = ids(&client.run(&["recv", "-t", "0", "--json"]).printed());
        for run in [&first, &second] {
            let unique: BTreeSet<_> = run.iter().collect();
            assert_eq!(unique.len(), run.len(), "killed at step {step}: twice in one run: {run:?}");
        }
        let all: BTreeSet<_> = first.iter().chain(&second).map(|(_, text)| text.as_str()).collect();
        assert_eq!(all, expected.iter().copied().collect(), "killed at step {step}: {first:?} {second:?}");
        assert_repeats_are_last(&first, &second);
        assert_eq!(client.run(&["recv", "-t", "0"]).printed(), "", "killed at step {step}");
        let (alice, bob) = (world.client("alice"), world.client("bob"));
        alice.wait_for_receipts(&[&bob]);
        bob.wait_for_receipts(&[&alice]);
        if !was_killed(&ran) {
            assert_eq!(first.len(), expected.len());
            return;
        }
    }
    panic!("recv takes more than {STEPS_MAX} steps");
}

#[test]
fn loses_no_message_when_killed_at_any_step_of_recv() {
    let mut base = World::new();
    let alice = base.client("alice");
    alice.send("bob", "one");
    alice.send("bob", "two");
    assert_eq!(base.relay.stop("TERM"), Some(0));
    kill_receive(&base, "bob", &["one", "two"]);
}

#[test]
fn loses_no_receipt_when_killed_at_any_step_of_recv() {
    let mut base = World::new();
    let (alice, bob) = (base.client("alice"), base.client("bob"));
    alice.send("bob", "question");
    assert_eq!(bob.receive(), ["alice: question"]);
    // Two notices and a message wait for alice then.
    alice.send("bob", "more");
    assert_eq!(bob.receive(), ["alice: more"]);
    bob.send("alice", "answer");
    assert_eq!(base.relay.stop("TERM"), Some(0));
    kill_receive(&base, "alice", &["answer"]);
}

#[test]
fn goes_on_with_registering_wherever_it_was_killed() {
    // Without a relay first: the identity, which stays the same from when it is there (the other tests of
    // the client hold that at each step). A home with one goes through these steps again.
    let base = World::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreached = base.client_at("dora", nobody);
    unreached.run(&["register", "dora"]).assert_error(69, "cannot reach");
    let alone =
        (1..=STEPS_MAX).find(|step| unreached.run_killed_at(*step, &["register", "dora"]).code == Some(69));
    let identity = fs::read(unreached.home.join("identity")).unwrap();
    let mut steps = 0;
    for step in alone.unwrap()..=STEPS_MAX {
        let world = World::new();
        let dora = world.client("dora");
        copy(&unreached.home, &dora.home);
        let ran = dora.run_killed_at(step, &["register", "dora"]);
        let again = dora.run(&["register", "dora"]);
        assert_eq!(again.code, Some(0), "killed at step {step}: {}", again.stderr);
        assert!(fs::read(dora.home.join("identity")).unwrap() == identity, "killed at step {step}");
        // Both ways.
        world.client("alice").send("dora", "welcome");
        assert_eq!(dora.receive(), ["alice: welcome"], "killed at step {step}");
        dora.send("bob", "I am new");
        assert_eq!(world.client("bob").receive(), ["dora: I am new"], "killed at step {step}");
        steps += 1;
        if !was_killed(&ran) {
            break;
        }
    }
    assert!(steps > 5, "{steps} steps");
}

#[test]
fn shows_everything_when_recv_is_killed_while_messages_come() {
    const ROUNDS: usize = 4;
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let mut shown: Vec<Vec<(String, String)>> = Vec::new();
    for round in 0..ROUNDS {
        let running = bob.start_recv(&["--json"]);
        for number in 0..3 {
            alice.send("bob", &format!("{round} {number}"));
        }
        let _ = running.wait_for_lines(1);
        let ran = running.stop("KILL");
        shown.push(ids(&ran.stdout));
    }
    shown.push(ids(&bob.run(&["recv", "-t", "0", "--json"]).printed()));
    let all: BTreeSet<_> = shown.iter().flatten().map(|(_, text)| text.clone()).collect();
    assert_eq!(all.len(), 3 * ROUNDS, "{shown:?}");
    shown.iter().zip(&shown[1..]).for_each(|(run, next)| assert_repeats_are_last(run, next));
}

/// The relay has the message, the client was never told, and is killed: at its next start it sends again,
/// to a relay that remembers, and to one that was killed, too.
#[test]
fn sends_again_what_was_cut_off_and_nobody_sees_it_twice() {
    let mut world = World::new();
    let proxy = Proxy::start(world.relay.address());
    let (alice, bob) = (world.client_at("alice", proxy.address()), "bob");
    for restarts in [false, true] {
        for first in [true, false] {
            let text = format!("restarts: {restarts}, first: {first}");
            proxy.keep_results_back(true);
            let sending = alice.start(&["send", bob, "-m", &text]);
            let status = world.client(bob);
            wait_for("the relay to have it", || {
                status.run(&["status"]).printed().contains("1 waiting").then_some(())
            });
            assert_eq!(sending.stop("KILL").code, None);
            proxy.keep_results_back(false);
            let outbox = alice.run(&["status"]).printed();
            assert!(outbox.contains("bob: 1 not confirmed, the oldest for "), "{outbox}");
            assert!(!outbox.contains("stored at the relay"), "{outbox}");
            if restarts {
                world.kill_and_restart();
                proxy.point_to(world.relay.address());
            }
            // Starting anything that sends is enough.
            assert_eq!(alice.receive(), [] as [&str; 0]);
            assert_eq!(world.client(bob).receive(), [format!("alice: {text}")]);
            alice.wait_for_receipts(&[&world.client(bob)]);
        }
    }
}
