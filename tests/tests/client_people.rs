//! Whose key it is, with real processes: comparing, a changed key, acceptance, and a name that moves to a
//! new key.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use e2e_tests::client::{Client, World};
use e2e_tests::process::Relay;

/// Alice and bob have written to each other.
fn acquainted() -> World {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    alice.send("bob", "hello");
    assert_eq!(bob.receive(), ["alice: hello"]);
    bob.send("alice", "hello");
    assert_eq!(alice.receive(), ["bob: hello"]);
    world
}

fn contact(of: &Client, name: &str) -> String {
    let listed = of.run(&["contacts"]).printed();
    let line = listed.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {listed}")).to_owned()
}

#[test]
fn shows_one_number_at_both_ends_and_marks_who_compared_it() {
    let world = acquainted();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let (at_alice, at_bob) = (alice.run(&["verify", "bob"]), bob.run(&["verify", "alice"]));
    assert!(at_alice.stderr.contains("bob is not verified yet"), "{}", at_alice.stderr);
    let number = at_alice.printed();
    assert_eq!(number, at_bob.printed());
    let groups: Vec<&str> = number.split_whitespace().collect();
    assert!(groups.len() == 12 && groups.iter().all(|group| group.len() == 5), "{number}");
    assert_eq!(number.lines().count(), 3);

    let fingerprint = bob.status("fingerprint");
    assert_eq!(contact(&alice, "bob"), format!("bob {fingerprint} not verified"));
    // As it is read out, and as it is pasted.
    let arguments: Vec<&str> = ["verify", "bob"].into_iter().chain(groups.iter().copied()).collect();
    assert_eq!(alice.run(&arguments).stderr, "bob is verified\n");
    assert_eq!(bob.run(&["verify", "alice", &groups.concat()]).code, Some(0));
    assert_eq!(contact(&alice, "bob"), format!("bob {fingerprint} verified"));

    let mut other = groups.concat();
    other.replace_range(0..1, if other.starts_with('1') { "2" } else { "1" });
    alice.run(&["verify", "bob", &other]).assert_error(65, "not the number of the two keys");
    assert_eq!(contact(&alice, "bob"), format!("bob {fingerprint} verified"), "a slip changes nothing");
    alice.run(&["verify", "carol"]).assert_error(77, "no key of carol is known");
}

#[test]
fn accepts_no_key_but_the_one_that_was_shown() {
    let mut world = acquainted();
    let alice = world.client("alice");
    alice.run(&["accept", "carol"]).assert_error(77, "no key of carol is known");
    let ran = alice.run(&["accept", "bob"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("the key of bob is the known one: "), "{}", ran.stderr);

    let real = world.client("bob").status("fingerprint");
    assert_eq!(world.relay.stop("TERM"), Some(0));
    let thieves = World::before_bob();
    let (alice, thief) = (world.client_at("alice", thieves.relay.address()), thieves.client("thief"));
    let other = thief.status("fingerprint");
    // What was not shown before is shown now, and not accepted.
    alice.run(&["accept", "bob"]).assert_error(77, &format!("changed from {real} to {other}"));
    assert!(contact(&alice, "bob").contains(&format!("changed to {other}: nothing passes")));
    assert_eq!(alice.run(&["send", "bob", "-m", "a secret"]).code, Some(77));
    assert_eq!(thief.run(&["send", "alice", "-m", "it is me"]).code, Some(0));
    assert_eq!(alice.receive(), [] as [&str; 0]);

    let ran = alice.run(&["accept", "bob"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with(&format!("accepted: the key of bob is {other} now\n")), "{}", ran.stderr);
    assert_eq!(contact(&alice, "bob"), format!("bob {other} not verified"));
    alice.send("bob", "to the new key");
    assert!(thief.receive().contains(&"alice: to the new key".to_owned()));

    // The relay shows the former key again: nothing goes to it.
    world.relay = Relay::start(&world.state(), &[]);
    let ran = world.client("alice").run(&["send", "bob", "-m", "not for the former"]);
    assert_eq!(ran.code, Some(77), "{}", ran.stderr);
    assert_eq!(world.client("bob").receive(), [] as [&str; 0]);
}

#[test]
fn name_moves_to_a_new_key_and_contacts_follow() {
    let world = acquainted();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let number = alice.run(&["verify", "bob"]).printed();
    assert_eq!(alice.run(&["verify", "bob", number.trim()]).code, Some(0));
    let former = bob.status("fingerprint");
    // Something waits in the mailbox: it is read first, and not lost.
    alice.send("bob", "before");
    let ran = bob.run(&["rekey"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let new = bob.status("fingerprint");
    assert_ne!(new, former);
    assert!(ran.stderr.contains(&format!("fingerprint {new}\n")), "{}", ran.stderr);
    assert!(bob.status("prekeys").starts_with("16 "), "{}", bob.status("prekeys"));
    assert_eq!(bob.receive(), ["alice: before"]);

    // Alice follows by sending; she is told, and has to compare again.
    let ran = alice.run(&["send", "bob", "-m", "after"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let note = format!("e2e-client: note: bob moved to a new key, which the former one signed: {new}");
    assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    assert_eq!(contact(&alice, "bob"), format!("bob {new} not verified"));
    assert_eq!(bob.receive(), ["alice: after"]);
    bob.send("alice", "an answer");
    assert_eq!(alice.receive(), ["bob: an answer"]);

    // And by receiving: nothing is refused meanwhile.
    assert_eq!(bob.run(&["rekey"]).code, Some(0));
    bob.send("alice", "from the third key");
    let ran = alice.run(&["recv", "-t", "0"]);
    assert_eq!(ran.stdout, "bob: from the third key\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("moved to a new key"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    // Carol, who knew the first key, follows two steps at once.
    let carol = world.client("carol");
    carol.send("bob", "who are you now?");
    assert_eq!(bob.receive(), ["carol: who are you now?"]);
}

/// Steps that are looked at after the one with which the home has its new key: publishing prekeys is that of
/// `register`.
const STEPS_AFTER: u32 = 3;

#[test]
fn rekey_goes_on_wherever_it_was_killed() {
    let mut base = acquainted();
    base.client("alice").send("bob", "read before it moves");
    let former = base.client("bob").status("fingerprint");
    assert_eq!(base.relay.stop("TERM"), Some(0));
    let (mut locked_out, mut after) = (false, 0);
    for step in 1..200 {
        let world = base.continued();
        let (alice, bob) = (world.client("alice"), world.client("bob"));
        assert_eq!(bob.run_killed_at(step, &["rekey"]).code, None, "step {step}");
        // The relay may have moved the name, and the home not know it yet.
        let status = bob.run(&["status"]);
        locked_out |= status.code == Some(77) && status.stderr.contains("repeat rekey");
        after += u32::from(bob.run(&["status"]).stdout.lines().all(|line| !line.contains(&former)));

        let finished = bob.run(&["rekey"]);
        assert_eq!(finished.code, Some(0), "step {step}: {}", finished.stderr);
        assert_ne!(bob.status("fingerprint"), former, "step {step}");
        assert_eq!(bob.receive(), ["alice: read before it moves"], "step {step}");
        alice.send("bob", "hello again");
        assert_eq!(bob.receive(), ["alice: hello again"], "step {step}");
        if after > STEPS_AFTER {
            assert!(locked_out, "no kill fell between the relay's commit and ours");
            return;
        }
    }
    panic!("it never moves");
}
