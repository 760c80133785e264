//! What is asked of the relay about names, with real processes: who is online, whom it blocks, and giving a name up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use e2e_tests::client::World;

#[test]
fn who_shows_those_who_receive_and_those_who_do_not() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    assert_eq!(alice.run(&["who"]).printed(), "alice offline\nbob   offline\ncarol offline\n");
    let receiving = bob.start_recv(&[]);
    assert_eq!(alice.run(&["who"]).printed(), "bob   online\nalice offline\ncarol offline\n");
    let asked = alice.run(&["who", "alice", "dave", "bob"]);
    assert_eq!(asked.printed(), "alice offline\ndave  nobody has this name\nbob   online\n");
    let _ = receiving.stop("TERM");
    assert_eq!(alice.run(&["who", "bob"]).printed(), "bob offline\n");
    alice.run(&["who", "no name"]).assert_error(64, "no name");
}

#[test]
fn blocked_sender_is_told_and_what_it_sends_does_not_come() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    bob.run(&["block", "dave"]).assert_error(77, "nobody has this name");
    let ran = bob.run(&["block", "alice"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = alice.run(&["send", "bob", "-m", "hello"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(77), "bob: not sent: the recipient has blocked you\n"));
    assert_eq!(bob.receive(), [] as [&str; 0]);
    assert_eq!(bob.run(&["unblock", "alice"]).code, Some(0));
    alice.send("bob", "hello again");
    assert_eq!(bob.receive(), ["alice: hello again"]);
    // With a session there already, the message waits: a word of the relay's alone is no end.
    bob.send("alice", "yes?");
    assert_eq!(alice.receive(), ["bob: yes?"]);
    assert_eq!(bob.run(&["block", "alice"]).code, Some(0));
    let ran = alice.run(&["send", "bob", "-m", "and again"]);
    assert_eq!(ran.code, Some(77), "{}", ran.stderr);
    assert!(ran.stderr.contains("the recipient has blocked you"), "{}", ran.stderr);
    assert_eq!(bob.receive(), [] as [&str; 0]);
}

#[test]
fn name_that_was_given_up_can_be_claimed_again() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    alice.run(&["unregister", "bob"]).assert_error(64, "registered as alice, not as bob");
    bob.send("alice", "wait");
    alice.run(&["unregister", "alice"]).assert_error(75, "messages wait");
    assert_eq!(alice.receive(), ["bob: wait"]);
    let fingerprint = alice.status("fingerprint");
    let ran = alice.run(&["unregister", "alice"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(bob.run(&["who", "alice"]).printed(), "alice nobody has this name\n");
    alice.run(&["recv", "-t", "0"]).assert_error(77, "not registered");
    assert_ne!(bob.run(&["send", "alice", "-m", "to nobody"]).code, Some(0));

    // With the same keys it is the same person for those who know them, and what was kept comes.
    let ran = alice.run(&["register", "alice"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(alice.status("fingerprint"), fingerprint);
    let ran = bob.run(&["send", "alice", "-m", "welcome back"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(alice.receive().contains(&"bob: welcome back".to_owned()));
}

#[test]
fn private_relay_says_accepted_and_not_who_is_online() {
    let world = World::with("state", &["--presence", "private"]);
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    alice.run(&["who"]).assert_error(77, "does not say who is online");
    let receiving = bob.start_recv(&[]);
    // The receipt may come before send ends: in a notice, since nobody else receives for alice.
    let ran = alice.run(&["send", "bob", "-m", "live"]);
    assert!(["bob: accepted\n", "bob: collected\n"].contains(&ran.stderr.as_str()), "{}", ran.stderr);
    assert_eq!(ran.code, Some(0));
    assert_eq!(receiving.wait_for_lines(1), ["alice: live"]);
    let ran = alice.run(&["send", "bob", "-m", "until it is there", "--wait-delivered"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "bob: collected\n"));
    let _ = receiving.stop("TERM");
    let ran = alice.run(&["send", "bob", "-m", "stored"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "bob: accepted\n"));
    assert_eq!(bob.receive(), ["alice: stored"]);
    alice.wait_for_receipts(&[&bob]);
}
