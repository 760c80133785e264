//! `e2e-client` at work: real processes, a real relay, messages both ways.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;

use e2e_tests::client::{World, files};
use e2e_tests::process::{Relay, binary, run, send_signal, wait_for};
use e2e_tests::proxy::Proxy;

#[test]
fn registers_and_says_the_fingerprint() {
    let world = World::new();
    let dora = world.client("dora");
    let first = dora.run(&["register", "dora"]);
    let said = first.stderr.clone();
    assert_eq!(first.printed(), "");
    let fingerprint = said.strip_prefix("registered as dora\nfingerprint ").expect(&said).trim().to_owned();
    assert_eq!(fingerprint.len(), 64);
    assert!(fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{fingerprint}");
    // Repeating it is harmless.
    let again = dora.run(&["register", "dora"]);
    assert_eq!(again.stderr, format!("already registered as dora\nfingerprint {fingerprint}\n"));
    assert_eq!(again.code, Some(0));
    assert_eq!(dora.status("name"), "dora");
    assert_eq!(dora.status("fingerprint"), fingerprint);
    assert!(dora.status("prekeys").starts_with("16 "), "{}", dora.status("prekeys"));
    assert!(dora.status("mailbox").starts_with("0 "));
    assert_eq!(dora.status("outbox"), "everything is confirmed");
    // One home, one name.
    dora.run(&["register", "emil"]).assert_error(77, "dora");
    // And the newcomer can be written to.
    world.client("alice").send("dora", "welcome");
    assert_eq!(dora.receive(), ["alice: welcome"]);
}

#[test]
fn waits_until_each_recipient_has_it_if_told_to() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let ran = alice.run(&["send", "bob", "-m", "nobody is there", "--wait-delivered", "-t", "5"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(75), "bob: stored, and not collected yet\n"));
    let receiving = bob.start_recv(&[]);
    let ran = alice.run(&["send", "bob", "-m", "somebody is", "--wait-delivered"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "bob: collected\n"));
    assert_eq!(receiving.wait_for_lines(2), ["alice: nobody is there", "alice: somebody is"]);
}

#[test]
fn sends_to_who_is_there_and_to_who_is_away() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    assert_eq!(alice.send("bob", "while away"), "bob: stored\n");
    assert!(bob.status("mailbox").starts_with("1 "));
    assert_eq!(bob.receive(), ["alice: while away"]);
    assert_eq!(bob.receive(), [] as [&str; 0], "once");
    let receiving = bob.start_recv(&[]);
    let said = alice.send("bob", "while there");
    assert!(["bob: collected\n", "bob: stored\n"].contains(&&said[..]), "{said}");
    assert_eq!(receiving.wait_for_lines(1), ["alice: while there"]);
    // And back.
    let answer = world.client("alice").start_recv(&[]);
    bob.send("alice", "thank you");
    assert_eq!(answer.wait_for_lines(1), ["bob: thank you"]);
    for (running, line) in [(receiving, "alice: while there\n"), (answer, "bob: thank you\n")] {
        let ran = running.stop("TERM");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), line), "{}", ran.stderr);
    }
    // Each receipt comes home, live or as a notice.
    alice.wait_for_receipts(&[&bob]);
    bob.wait_for_receipts(&[&alice]);
}

#[test]
fn sends_one_text_to_several_and_says_of_each_what_became_of_it() {
    let world = World::new();
    let alice = world.client("alice");
    let ran = alice.run(&["send", "bob", "carol", "bob", "-m", "to both"]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.stderr.lines().collect::<BTreeSet<_>>(), ["bob: stored", "carol: stored"].into());
    // One of several that is not there: the others get it, and the worst counts.
    let ran = alice.run(&["send", "nobody", "carol", "-m", "second"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(77), ""));
    assert_eq!(ran.stderr, "nobody: not sent: nobody has this name\ncarol: stored\n");
    assert_eq!(world.client("bob").receive(), ["alice: to both"]);
    assert_eq!(world.client("carol").receive(), ["alice: to both", "alice: second"]);
    // Nothing stays behind for the one who doesn't exist.
    alice.wait_for_receipts(&[&world.client("bob"), &world.client("carol")]);
}

#[test]
fn takes_the_text_from_everywhere_and_as_it_is() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let file = world.directory.path().join("text");
    let odd = "tab\tquote\" back\\slash \u{1F600} \u{202E}reversed\u{1b}[31m";
    fs::write(&file, format!("{odd}\nsecond line\n")).unwrap();
    let largest = "é".repeat(12_258 / 2);
    alice.run(&["send", "bob", "-f", file.to_str().unwrap()]).printed();
    alice.run_reading(b"from standard input\n", &["send", "bob"]).printed();
    alice.run(&["send", "bob", "-m", &largest]).printed();
    alice.run(&["send", "bob", "--message", "-n"]).printed();
    let json = bob.run(&["recv", "-t", "0", "--json"]).printed();
    let texts: Vec<&str> = json.lines().map(|line| field(line, "text")).collect();
    let escaped = "tab\\tquote\\\" back\\\\slash \u{1F600} \\u202ereversed\\u001b[31m\\nsecond line";
    assert_eq!(texts, [escaped, "from standard input", &largest, "-n"]);
    // What is not a text, or is too much of it.
    for (input, words) in [
        (&b""[..], "no text"),
        (b"\n", "no text"),
        (b"\xFF\xFE", "UTF-8"),
        (&[b'x'; 12_259], "12258"),
        (&[b'x'; 1_000_000], "12258"),
    ] {
        alice.run_reading(input, &["send", "bob"]).assert_error(65, words);
    }
    let missing = world.directory.path().join("missing");
    alice.run(&["send", "bob", "-f", missing.to_str().unwrap()]).assert_error(65, "missing");
    assert_eq!(bob.receive(), [] as [&str; 0]);
}

/// The value of a string or number in a line of JSON, as it stands there.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let rest = line.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {line}")).1;
    match rest.strip_prefix('"') {
        Some(rest) => {
            let end = rest.char_indices().find(|(at, c)| *c == '"' && !is_escaped(rest, *at)).unwrap().0;
            &rest[..end]
        }
        None => rest.split([',', '}']).next().unwrap(),
    }
}

fn is_escaped(text: &str, at: usize) -> bool {
    text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

#[test]
fn receives_a_number_of_messages_or_until_nothing_comes() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    for number in 1..=5 {
        alice.send("bob", &format!("message {number}"));
    }
    // The others stay with the relay.
    assert_eq!(bob.run(&["recv", "-n", "2"]).printed(), "alice: message 1\nalice: message 2\n");
    assert!(bob.status("mailbox").starts_with("3 "), "{}", bob.status("mailbox"));
    let json = bob.run(&["recv", "-n", "1", "--json"]).printed();
    assert_eq!(json.lines().count(), 1);
    assert_eq!((field(&json, "from"), field(&json, "text")), ("alice", "message 3"));
    assert_eq!(field(&json, "id").len(), 32);
    assert!(field(&json, "time").parse::<u64>().unwrap() > 1_700_000_000_000);
    assert_eq!(bob.run(&["recv", "-t", "1"]).printed(), "alice: message 4\nalice: message 5\n");
    assert_eq!(bob.run(&["recv", "-t", "0"]).printed(), "", "nothing came, and that is no failure");
    // -n waits for what is not there yet.
    let running = bob.start_recv(&["-n", "1"]);
    alice.send("bob", "message 6");
    let (_, ran) = running.finish();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "alice: message 6\n"));
}

#[test]
fn receives_in_one_terminal_and_sends_in_another_with_the_same_identity() {
    const COUNT: usize = 8;
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let receiving = [alice.start_recv(&[]), bob.start_recv(&[])];
    thread::scope(|scope| {
        for (from, to) in [(&alice, "bob"), (&bob, "alice")] {
            scope.spawn(move || (0..COUNT).for_each(|number| drop(from.send(to, &format!("{number}")))));
        }
    });
    for (running, from) in receiving.into_iter().zip(["bob", "alice"]) {
        let expected: Vec<_> = (0..COUNT).map(|number| format!("{from}: {number}")).collect();
        assert_eq!(running.wait_for_lines(COUNT), expected);
        let ran = running.stop("INT");
        assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), COUNT), "{}", ran.stderr);
    }
    // Each receipt comes home, live or as a notice.
    alice.wait_for_receipts(&[&bob]);
    bob.wait_for_receipts(&[&alice]);
}

#[test]
fn sends_from_many_processes_of_one_identity_at_once() {
    const PROCESSES: usize = 6;
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let mut expected = BTreeSet::new();
    for round in ["away", "there"] {
        // First with nobody receiving, and the first message among them; then live.
        let receiving = (round == "there").then(|| bob.start_recv(&[]));
        thread::scope(|scope| {
            for process in 0..PROCESSES {
                let text = format!("{round} {process}");
                expected.insert(format!("alice: {text}"));
                let alice = &alice;
                scope.spawn(move || alice.send("bob", &text));
            }
        });
        let received = match receiving {
            Some(running) => {
                let lines = running.wait_for_lines(PROCESSES);
                assert_eq!(running.stop("TERM").code, Some(0));
                lines
            }
            None => bob.receive(),
        };
        assert_eq!(received.len(), PROCESSES, "{received:?}");
        assert_eq!(received.into_iter().collect::<BTreeSet<_>>(), expected);
        expected.clear();
    }
    assert_eq!(bob.receive(), [] as [&str; 0]);
    alice.wait_for_receipts(&[&bob]);
}

#[test]
fn hands_receiving_over_to_a_newer_process() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let older = bob.start_recv(&[]);
    let newer = bob.start_recv(&[]);
    let (_, ran) = older.finish();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(75), ""));
    assert!(ran.stderr.contains("e2e-client: error: the relay says REPLACED"), "{}", ran.stderr);
    alice.send("bob", "to the newer");
    assert_eq!(newer.wait_for_lines(1), ["alice: to the newer"]);
    assert_eq!(newer.stop("TERM").code, Some(0));
}

#[test]
fn goes_on_receiving_when_the_relay_is_killed_and_comes_back() {
    let mut world = World::new();
    let proxy = Proxy::start(world.relay.address());
    let bob = world.client_at("bob", proxy.address());
    let receiving = bob.start_recv(&[]);
    world.client("alice").send("bob", "before");
    assert_eq!(receiving.wait_for_lines(1), ["alice: before"]);
    for round in 1..=2 {
        world.relay.kill();
        world.relay = Relay::start(&world.state(), &[]);
        world.client("alice").send("bob", &format!("after {round}"));
        proxy.point_to(world.relay.address());
        assert_eq!(receiving.wait_for_lines(1 + round).last().unwrap(), &format!("alice: after {round}"));
    }
    let ran = receiving.stop("TERM");
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 3), "{}", ran.stderr);
    // The same with a clean stop.
    let receiving = bob.start_recv(&[]);
    assert_eq!(world.relay.stop("TERM"), Some(0));
    world.relay = Relay::start(&world.state(), &[]);
    proxy.point_to(world.relay.address());
    world.client("alice").send("bob", "after a clean stop");
    assert_eq!(receiving.wait_for_lines(1), ["alice: after a clean stop"]);
}

#[test]
fn takes_a_receipt_that_comes_while_it_closes() {
    let world = World::new();
    let proxy = Proxy::start(world.relay.address());
    let (alice, bob) = (world.client_at("alice", proxy.address()), world.client("bob"));
    let receiving = bob.start_recv(&[]);
    // Bob is slow enough for STORED, which is enough for alice.
    send_signal(receiving.id(), "STOP");
    proxy.hold_ends(true);
    let sending = alice.start(&["send", "bob", "-m", "receipt, please"]);
    wait_for("alice to close", || (proxy.ends_held() == 1).then_some(()));
    send_signal(receiving.id(), "CONT");
    assert_eq!(receiving.wait_for_lines(1), ["alice: receipt, please"]);
    wait_for("the receipt to cross", || {
        let collected = 1; // spec/wire.md, RESULT: lane 8, first number 8, count 2, code 1
        let crossed = proxy.crossed().pop().unwrap().to_client;
        let result = [0xE2, b'R', b'L', b'Y', 1, 0x14];
        let at = crossed.windows(result.len()).rposition(|window| window == result)?;
        (crossed.get(at + 20 + 18) == Some(&collected)).then_some(())
    });
    proxy.hold_ends(false);
    assert_eq!(sending.finish().1.code, Some(0));
    assert!(alice.status("outbox").starts_with("everything is confirmed"), "{}", alice.status("outbox"));
}

#[test]
fn keeps_the_order_of_what_one_process_after_the_other_sent() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let expected: Vec<_> = (1..=30).map(|number| format!("alice: {number}")).collect();
    (1..=30).for_each(|number| drop(alice.send("bob", &format!("{number}"))));
    assert_eq!(bob.receive(), expected);
}

#[test]
fn finds_its_home_and_server_in_the_environment() {
    let world = World::new();
    let server = world.relay.address().to_string();
    let client = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(binary("e2e-client"));
        run(command.env_clear().envs(variables.iter().copied()).args(arguments))
    };
    let home = world.home("alice");
    let text = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
    let variables = [("E2E_SERVER", server.as_str()), ("E2E_HOME", home.to_str().unwrap())];
    assert!(text(client(&variables, &["status"])).starts_with("name         alice\n"));
    // A flag wins.
    let bob = world.home("bob");
    assert!(
        text(client(&variables, &["-H", bob.to_str().unwrap(), "status"])).starts_with("name         bob\n")
    );
    // The directory of the desktop's convention.
    let data = world.directory.path().join("data");
    e2e_tests::client::copy(&home, &data.join("e2e-client"));
    let variables = [("E2E_SERVER", server.as_str()), ("XDG_DATA_HOME", data.to_str().unwrap())];
    assert!(text(client(&variables, &["status"])).starts_with("name         alice\n"));
}

#[test]
fn keeps_its_files_to_itself() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    // The copies are open to everybody at first.
    alice.send("bob", "a secret");
    assert_eq!(bob.receive(), ["alice: a secret"]);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for home in [&alice.home, &bob.home] {
        assert_eq!(mode(home), 0o700);
        for path in files(home) {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}
