//! The engine against a relay in memory: what a user may count on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::*;
use e2e_client::engine::{Config, Drop, End, Fate, StartError, Turn, Wait};
use e2e_client::state::{Folder, Key, StateError, Transaction};
use e2e_protocol::ids::Receipt;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::transfer::ResultCode;

/// A process that is started, connected and logged in.
fn up(
    disk: &e2e_client::state::MemoryDisk,
    config: Config,
    seed: u64,
    relay: &mut Relay,
    now_ms: u64,
) -> Client {
    let mut client = Client::new(disk, seed);
    client.start(config, now_ms).unwrap();
    client.connect(relay, now_ms).unwrap();
    settle(relay, &mut [&mut client], now_ms);
    assert_eq!(client.end, None);
    assert!(client.engine.as_ref().unwrap().welcome().is_some());
    client
}

#[test]
fn message_reaches_its_recipient_and_the_receipt_lets_it_go() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    a.send(&mut relay, "bob", "hello", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    assert_eq!(b.texts(), ["hello"]);
    assert_eq!(a.fates, [Fate::Stored, Fate::Collected]);
    assert_eq!((a.outbox(), relay.queued(&name("bob"))), (0, 0));
}

#[test]
fn conversation_runs_both_ways_in_order() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, receiver(), 20, &mut relay, START_MS);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    let texts: Vec<String> = (0..100).map(|n| format!("message {n}")).collect();
    for text in &texts {
        a.send(&mut relay, "bob", text, START_MS).unwrap();
        b.send(&mut relay, "alice", text, START_MS).unwrap();
    }
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    assert_eq!(a.texts(), texts);
    assert_eq!(b.texts(), texts);
    assert_eq!((a.outbox(), b.outbox()), (0, 0));
}

#[test]
fn offline_recipient_gets_it_later_and_a_notice_lets_it_go() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    a.send(&mut relay, "bob", "later", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    assert_eq!(a.fates, [Fate::Stored]);
    a.finish(&mut relay, START_MS).unwrap();

    let b = up(&bob, receiver(), 21, &mut relay, START_MS + DAY_MS);
    assert_eq!(b.texts(), ["later"]);
    let a = up(&alice, receiver(), 22, &mut relay, START_MS + DAY_MS / 2);
    assert_eq!((a.fates, relay.queued(&name("alice"))), (vec![Fate::Collected], 0));
}

#[test]
fn outbox_of_who_only_sends_empties_and_messages_stay_with_the_relay() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender_of_notices(), 20, &mut relay, START_MS);
    a.send(&mut relay, "bob", "one", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    a.finish(&mut relay, START_MS).unwrap();
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    b.send(&mut relay, "alice", "answer", START_MS).unwrap();
    settle(&mut relay, &mut [&mut b], START_MS);
    assert_eq!((b.texts(), relay.queued(&name("alice"))), (vec!["one"], 2));

    // The notice is taken, the message behind it is not.
    let mut a = up(&alice, sender_of_notices(), 22, &mut relay, START_MS);
    assert_eq!((a.fates.as_slice(), a.texts().len()), ([Fate::Collected].as_slice(), 0));
    assert_eq!((a.outbox(), relay.queued(&name("alice"))), (0, 1));
    // Who wants messages takes over; who only sends goes on beside it.
    let r = up(&alice, receiver(), 23, &mut relay, START_MS);
    assert_eq!((r.texts(), relay.queued(&name("alice"))), (vec!["answer"], 0));
    settle(&mut relay, &mut [&mut a], START_MS);
    assert!(matches!(&a.end, Some(End::Refused { code, .. }) if *code == ErrorCode::Replaced.into()));
    let mut again = up(&alice, sender_of_notices(), 24, &mut relay, START_MS);
    again.send(&mut relay, "bob", "two", START_MS).unwrap();
    settle(&mut relay, &mut [&mut again, &mut b], START_MS);
    assert_eq!(b.texts(), ["one", "two"]);
}

#[test]
fn relay_that_delivers_more_than_the_credit_is_given_up() {
    let (mut relay, alice, _) = two_users();
    for number in 1..=65 {
        relay.plant(&name("bob"), &name("alice"), number, b"never looked at");
    }
    let mut a = Client::new(&alice, 20);
    a.start(sender_of_notices(), START_MS).unwrap();
    a.connect(&mut relay, START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    assert!(matches!(a.end, Some(End::Protocol(_))), "{:?}", a.end);
}

#[test]
fn no_more_than_64_numbers_of_a_lane_are_without_a_result() {
    let (mut relay, alice, _) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    relay.script.extend(std::iter::repeat_n(Scripted::Silence, 64));
    for n in 0..100 {
        a.send(&mut relay, "bob", &n.to_string(), START_MS).unwrap();
    }
    settle(&mut relay, &mut [&mut a], START_MS);
    assert_eq!(relay.sends.len(), 64);
    assert!(a.engine.as_ref().unwrap().is_sending());
    // The oldest gets its result: so many may follow as the relay can still tell apart.
    let mut b = up(&two_users().2, receiver(), 21, &mut relay, START_MS);
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    assert_eq!(relay.sends.len(), 100);
    assert_eq!((b.shown.len(), a.outbox()), (100, 0));
}

#[test]
fn new_message_does_not_overtake_what_an_earlier_process_left_without_room() {
    let (mut relay, alice, bob) = two_users();
    let mut earlier = Client::new(&alice, 22);
    earlier.start(sender(), START_MS).unwrap();
    let texts: Vec<String> = (0..97).map(|n| n.to_string()).collect();
    for text in &texts[..96] {
        earlier.send(&mut relay, "bob", text, START_MS).unwrap();
    }
    drop(earlier);
    // The first has no result: the lane has no room for number 65, and another lane would have.
    relay.script.push_back(Scripted::Silence);
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    a.send(&mut relay, "bob", &texts[96], START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    assert_eq!(relay.sends.len(), 64);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    assert_eq!((b.texts(), a.outbox()), (texts.iter().map(String::as_str).collect(), 0));
}

#[test]
fn what_earlier_processes_left_goes_out_in_their_order_also_after_a_new_number() {
    let (mut relay, alice, bob) = two_users();
    let mut first = Client::new(&alice, 22);
    first.start(sender(), START_MS).unwrap();
    first.send(&mut relay, "bob", "a", START_MS).unwrap();
    first.send(&mut relay, "bob", "b", START_MS + 1_000).unwrap();
    drop(first);
    // The next process takes both over. The relay says that it is done with a, which so gets a new number in
    // the lane that c is in; and it says nothing any more.
    relay.script.push_back(Scripted::Instead(ResultCode::Done, None, 0, Receipt::ZERO));
    relay.script.extend(std::iter::repeat_n(Scripted::Silence, 3));
    let later = START_MS + 2_000;
    let mut second = up(&alice, sender(), 20, &mut relay, later);
    second.send(&mut relay, "bob", "c", later).unwrap();
    settle(&mut relay, &mut [&mut second], later);
    assert_eq!(relay.sends.len(), 4);
    second.disconnect(&mut relay);
    drop(second);

    let mut third = up(&alice, sender(), 23, &mut relay, later);
    assert_eq!(relay.sends[4..], relay.sends[1..4], "b, a, c as before");
    let mut b = up(&bob, receiver(), 21, &mut relay, later);
    settle(&mut relay, &mut [&mut third, &mut b], later);
    assert_eq!((b.texts(), third.outbox()), (vec!["b", "a", "c"], 0));
}

#[test]
fn count_leaves_the_rest_with_the_relay() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    for text in ["1", "2", "3"] {
        a.send(&mut relay, "bob", text, START_MS).unwrap();
    }
    settle(&mut relay, &mut [&mut a], START_MS);
    for (seed, text) in [(30, "1"), (31, "2"), (32, "3")] {
        let b = up(&bob, Config { messages_max: Some(1), ..receiver() }, seed, &mut relay, START_MS);
        assert!(b.engine.as_ref().unwrap().has_enough());
        assert_eq!(b.texts(), [text]);
        b.finish(&mut relay, START_MS).unwrap();
    }
    assert_eq!(relay.queued(&name("bob")), 0);
}

#[test]
fn refuses_another_relay_before_proving_anything() {
    let (mut relay, alice, _) = two_users();
    let mut state = Transaction::begin(&alice).unwrap();
    let mut account = e2e_client::state::Account::load(&state).unwrap().unwrap();
    account.registered.as_mut().unwrap().relay_id.0[0] ^= 1;
    let pinned = account.registered.unwrap().relay_id;
    account.store(&mut state);
    state.commit().unwrap();
    let mut a = Client::new(&alice, 20);
    a.start(sender(), START_MS).unwrap();
    a.connect(&mut relay, START_MS).unwrap();
    a.pump(&mut relay, START_MS).unwrap();
    assert_eq!(a.end, Some(End::OtherRelay { pinned, shown: RELAY_ID }));
}

#[test]
fn refuses_to_claim_a_taken_name() {
    let (mut relay, ..) = two_users();
    let mallory = prepare("bob", 3);
    let mut m = Client::new(&mallory, 20);
    m.start(registrar(), START_MS).unwrap();
    m.connect(&mut relay, START_MS).unwrap();
    m.pump(&mut relay, START_MS).unwrap();
    m.pump(&mut relay, START_MS).unwrap();
    assert!(matches!(m.end, Some(End::Refused { code, .. }) if code == ErrorCode::NameTaken.into()));
    let turn = Transaction::begin(&mallory).unwrap();
    assert_eq!(e2e_client::state::Account::load(&turn).unwrap().unwrap().registered, None);
}

#[test]
fn unregistered_home_does_not_start() {
    let disk = prepare("alice", 3);
    assert!(matches!(Client::new(&disk, 1).start(sender(), START_MS), Err(StartError::NotRegistered)));
    let empty = e2e_client::state::MemoryDisk::default();
    assert!(matches!(Client::new(&empty, 1).start(sender(), START_MS), Err(StartError::NotRegistered)));
}

#[test]
fn unknown_recipient_drops_the_message() {
    let (mut relay, alice, _) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    a.send(&mut relay, "nobody", "x", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    assert_eq!((a.fates.as_slice(), a.outbox()), ([Fate::Dropped(Drop::UnknownName)].as_slice(), 0));
}

#[test]
fn recipient_without_prekeys_is_tried_again() {
    let (mut relay, alice, bob) = two_users();
    relay.lookup_errors.push_back(ErrorCode::NoBundle);
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    a.send(&mut relay, "bob", "x", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    assert!(matches!(a.fates[..], [Fate::Waits { why: Wait::Refused(_), .. }]));
    advance(&mut relay, &mut [&mut a], START_MS, START_MS + MINUTE_MS);
    let b = up(&bob, receiver(), 21, &mut relay, START_MS + MINUTE_MS);
    assert_eq!(b.texts(), ["x"]);
}

#[test]
fn changed_key_of_a_recipient_stops_sending() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    a.send(&mut relay, "bob", "1", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    let pinned = *b.engine.as_ref().unwrap().identity().fingerprint();

    // Bob's name gets the key of another home, as an attacker's relay would do.
    let (eve, at) = (relay.user(&name("alice")), relay.user(&name("bob")));
    relay.users[at].identity = relay.users[eve].identity.clone();
    let shown = *a.engine.as_ref().unwrap().identity().fingerprint();
    // Something makes alice's client look bob up again.
    let refused = Scripted::Instead(ResultCode::Refused, Some(ErrorCode::KeyChanged), 0, Receipt::ZERO);
    relay.script.push_back(refused);
    let later = START_MS + DAY_MS;
    a.send(&mut relay, "bob", "2", later).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], later);
    let waits = Fate::Waits { until_ms: later + DAY_MS, why: Wait::KeyChanged { pinned, shown } };
    assert_eq!(a.fates.last(), Some(&waits), "it was sent once: it is kept");
    // What was never sent is not, and nothing goes out any more, though a session stands.
    let sent = relay.sends.len();
    a.send(&mut relay, "bob", "3", later).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], later);
    assert_eq!(a.fates.last(), Some(&Fate::Dropped(Drop::KeyChanged { pinned, shown })));
    assert_eq!((relay.sends.len(), a.outbox()), (sent, 1));

    // The directory shows the pinned key again: all is as before.
    relay.users[at].identity = b.engine.as_ref().unwrap().identity().modulus().to_owned().into();
    a.send(&mut relay, "bob", "4", later).unwrap();
    let mut b = up(&bob, receiver(), 23, &mut relay, later);
    settle(&mut relay, &mut [&mut a, &mut b], later);
    assert_eq!(b.texts(), ["4"]);
    assert_eq!(a.outbox(), 1, "the earlier one waits for its day");
}

#[test]
fn envelope_that_does_not_open_is_acknowledged_and_reported() {
    let (mut relay, alice, bob) = two_users();
    relay.plant(&name("alice"), &name("bob"), 1, &[0; 200]);
    let files = bob.files();
    let b = up(&bob, receiver(), 21, &mut relay, START_MS);
    assert_eq!(b.said, ["not opened: Some(Malformed)"]);
    assert_eq!(relay.queued(&name("bob")), 0);
    let changed: Vec<String> = bob
        .files()
        .into_iter()
        .filter(|(path, content)| files.get(path) != Some(content))
        .map(|(path, _)| path)
        .collect();
    assert!(
        changed.iter().all(|path| path.starts_with("lanes/")),
        "nothing unauthenticated is kept: {changed:?}"
    );
    drop(alice);
}

#[test]
fn rejected_message_is_encrypted_anew_and_shown_once() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    a.send(&mut relay, "bob", "first", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    // Bob loses his sessions, but not his keys.
    let mut state = Transaction::begin(&bob).unwrap();
    state.remove(Key::Peer(name("alice")));
    state.commit().unwrap();

    // Within ten minutes of the last start no new session is started.
    let soon = START_MS + MINUTE_MS;
    a.send(&mut relay, "bob", "second", soon).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], soon);
    assert!(matches!(a.fates.last(), Some(Fate::Waits { why: Wait::SessionPending, .. })));
    advance(&mut relay, &mut [&mut a, &mut b], soon, START_MS + 11 * MINUTE_MS);
    assert_eq!(b.texts(), ["first", "second"]);
    assert_eq!((a.fates.last(), a.outbox()), (Some(&Fate::Collected), 0));
    let numbers: Vec<u64> = relay.sends.iter().map(|(_, number, _)| number.0).collect();
    assert_eq!(numbers, [1, 2, 3], "a new envelope has a new number");
}

#[test]
fn faked_reject_delays_and_does_not_lose() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    relay.script.push_back(Scripted::Forge(Receipt::ZERO));
    let id = a.send(&mut relay, "bob", "once", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    advance(&mut relay, &mut [&mut a, &mut b], START_MS, START_MS + 11 * MINUTE_MS);
    assert_eq!(a.fates.last(), Some(&Fate::Collected));
    assert_eq!(b.shown, [(id, "once".to_owned())], "the same message in two envelopes is shown once");
    assert_eq!(relay.sends.len(), 2);
}

#[test]
fn forged_receipt_delays_and_does_not_lose() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    relay.script.push_back(Scripted::Instead(ResultCode::Collected, None, 0, Receipt([1; 32])));
    a.send(&mut relay, "bob", "once", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    assert_eq!(b.texts(), ["once"]);
    assert_eq!(a.fates.last(), Some(&Fate::Collected));
    assert_eq!(relay.sends[0].2, relay.sends[1].2, "the same envelope");
    assert_ne!(relay.sends[0].1, relay.sends[1].1, "under a new number");
}

#[test]
fn cut_off_message_is_sent_again_under_the_same_id() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    relay.script.push_back(Scripted::Silence);
    a.send(&mut relay, "bob", "once", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    a.disconnect(&mut relay);
    drop(a);
    let mut a = up(&alice, sender(), 22, &mut relay, START_MS);
    assert_eq!(relay.sends[0], relay.sends[1]);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    assert_eq!((b.texts(), a.outbox()), (vec!["once"], 0));
}

#[test]
fn living_process_keeps_its_messages_to_itself() {
    let (mut relay, alice, _) = two_users();
    let mut first = up(&alice, sender(), 20, &mut relay, START_MS);
    relay.script.push_back(Scripted::Silence);
    first.send(&mut relay, "bob", "once", START_MS).unwrap();
    settle(&mut relay, &mut [&mut first], START_MS);
    assert_eq!(relay.sends.len(), 1);

    // Another process of the same home starts and ends while the first one waits.
    let mut second = up(&alice, sender(), 22, &mut relay, START_MS);
    settle(&mut relay, &mut [&mut first, &mut second], START_MS);
    assert_eq!(relay.sends.len(), 1);
    second.finish(&mut relay, START_MS).unwrap();

    // The first one dies: now a third takes its message over.
    first.disconnect(&mut relay);
    drop(first);
    up(&alice, sender(), 23, &mut relay, START_MS);
    assert_eq!(relay.sends.len(), 2);
}

#[test]
fn process_that_stays_takes_over_what_another_left() {
    let (mut relay, alice, bob) = two_users();
    let mut stays = up(&alice, receiver(), 20, &mut relay, START_MS);
    let mut dies = up(&alice, sender(), 22, &mut relay, START_MS);
    relay.script.push_back(Scripted::Silence);
    dies.send(&mut relay, "bob", "once", START_MS).unwrap();
    dies.disconnect(&mut relay);
    drop(dies);
    let later = START_MS + 2 * MINUTE_MS;
    assert!(stays.engine.as_ref().unwrap().next_due_ms() <= later);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    advance(&mut relay, &mut [&mut stays, &mut b], START_MS, later);
    assert_eq!((b.texts(), stays.outbox()), (vec!["once"], 0));
}

#[test]
fn lanes_with_nothing_due_are_left_alone() {
    let (mut relay, alice, _) = two_users();
    for seed in 100..103 {
        let mut a = up(&alice, sender(), seed, &mut relay, START_MS);
        a.send(&mut relay, "bob", "stored", START_MS).unwrap();
        settle(&mut relay, &mut [&mut a], START_MS);
        a.finish(&mut relay, START_MS).unwrap();
    }
    let _next = up(&alice, sender(), 20, &mut relay, START_MS);
    let state = Transaction::begin(&alice).unwrap();
    let lanes = state.list(Folder::Lanes).unwrap();
    assert_eq!(lanes.len(), 3);
    assert!(lanes.iter().all(|lane| state.claim(lane).unwrap().is_some()), "each is free");
}

#[test]
fn any_number_of_lanes_is_taken_over_a_few_at_a_time() {
    const LEFT: usize = 150;
    let (mut relay, alice, bob) = two_users();
    for seed in 0..LEFT {
        let mut a = Client::new(&alice, 1_000 + seed as u64);
        // Each is cut off: none has a result, none sees what the others left.
        a.start(Config { send: true, ..Config::default() }, START_MS).unwrap();
        a.send(&mut relay, "bob", &seed.to_string(), START_MS).unwrap();
    }
    let mut stays = up(&alice, receiver(), 20, &mut relay, START_MS);
    let state = Transaction::begin(&alice).unwrap();
    let lanes = state.list(Folder::Lanes).unwrap();
    let held = lanes.iter().filter(|lane| state.claim(lane).unwrap().is_none()).count();
    assert_eq!((lanes.len(), held), (LEFT, 64));
    drop(state);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    advance(&mut relay, &mut [&mut stays, &mut b], START_MS, START_MS + 5 * MINUTE_MS);
    assert_eq!((b.shown.len(), stays.outbox()), (LEFT, 0));
}

#[test]
fn two_processes_of_one_home_send_and_receive_at_once() {
    let (mut relay, alice, bob) = two_users();
    let mut receives = up(&alice, receiver(), 20, &mut relay, START_MS);
    let mut sends = up(&alice, sender(), 22, &mut relay, START_MS);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    for n in 0..50 {
        // All three change the sessions of one pair in turns.
        sends.send(&mut relay, "bob", &format!("s{n}"), START_MS).unwrap();
        receives.send(&mut relay, "bob", &format!("r{n}"), START_MS).unwrap();
        b.send(&mut relay, "alice", &format!("b{n}"), START_MS).unwrap();
        b.pump(&mut relay, START_MS).unwrap();
        receives.pump(&mut relay, START_MS).unwrap();
        sends.pump(&mut relay, START_MS).unwrap();
    }
    settle(&mut relay, &mut [&mut sends, &mut receives, &mut b], START_MS);
    assert_eq!((receives.shown.len(), b.shown.len()), (50, 100));
    assert_eq!((receives.outbox(), b.outbox()), (0, 0));
    assert!(receives.said.is_empty() && b.said.is_empty(), "{:?} {:?}", receives.said, b.said);
}

#[test]
fn message_that_was_not_shown_is_shown_by_the_next_process() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    let id = a.send(&mut relay, "bob", "once", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    // It is taken and acknowledged, and the process dies before it shows anything.
    let mut b = Client::new(&bob, 21);
    b.blind = true;
    b.start(receiver(), START_MS).unwrap();
    b.connect(&mut relay, START_MS).unwrap();
    settle(&mut relay, &mut [&mut b, &mut a], START_MS);
    assert_eq!((b.shown.len(), a.outbox()), (0, 0));
    b.disconnect(&mut relay);
    drop(b);
    let mut b = Client::new(&bob, 22);
    b.start(receiver(), START_MS).unwrap();
    assert_eq!(b.shown, [(id, "once".to_owned())], "before there is any connection");
    drop(b);
    let mut b = Client::new(&bob, 23);
    b.start(receiver(), START_MS).unwrap();
    assert_eq!(b.shown, [], "and by no other");
}

#[test]
fn temporary_refusal_is_sent_again_after_its_time() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    let refusal = Scripted::Instead(ResultCode::Refused, Some(ErrorCode::MailboxFull), 90, Receipt::ZERO);
    relay.script.push_back(refusal);
    a.send(&mut relay, "bob", "x", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    advance(&mut relay, &mut [&mut a], START_MS, START_MS + MINUTE_MS);
    assert_eq!(relay.sends.len(), 1, "90 seconds are not over");
    assert_eq!(a.engine.as_ref().unwrap().next_due_ms(), START_MS + 90_000, "{:?}", a.fates);
    advance(&mut relay, &mut [&mut a], START_MS + MINUTE_MS, START_MS + 2 * MINUTE_MS);
    assert_eq!(relay.sends[0], relay.sends[1]);
    assert_eq!(up(&bob, receiver(), 21, &mut relay, START_MS).texts(), ["x"]);
}

#[test]
fn moved_recipient_is_looked_up_again() {
    for code in [ErrorCode::KeyChanged, ErrorCode::UnknownRecipient] {
        let (mut relay, alice, _) = two_users();
        let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
        relay.script.push_back(Scripted::Instead(ResultCode::Refused, Some(code), 0, Receipt::ZERO));
        a.send(&mut relay, "bob", "x", START_MS).unwrap();
        let lookups = relay.lookups;
        settle(&mut relay, &mut [&mut a], START_MS);
        assert!(relay.lookups > lookups);
        assert_eq!(a.fates.last(), Some(&Fate::Stored), "the key is the same: sent again");
    }
}

#[test]
fn message_without_a_receipt_is_let_go_after_30_days() {
    let (mut relay, alice, _) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    a.send(&mut relay, "bob", "x", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a], START_MS);
    a.finish(&mut relay, START_MS).unwrap();
    let mut a = up(&alice, sender(), 22, &mut relay, START_MS + 29 * DAY_MS);
    assert_eq!((a.outbox(), relay.sends.len()), (1, 2), "once a day it is asked for");
    settle(&mut relay, &mut [&mut a], START_MS + 29 * DAY_MS);
    a.finish(&mut relay, START_MS).unwrap();
    let a = up(&alice, sender(), 23, &mut relay, START_MS + 31 * DAY_MS);
    assert_eq!((a.fates.as_slice(), a.outbox()), ([Fate::Dropped(Drop::TooOld)].as_slice(), 0));
}

#[test]
fn replaced_receiver_is_told_and_ends() {
    let (mut relay, alice, _) = two_users();
    let mut first = up(&alice, receiver(), 20, &mut relay, START_MS);
    up(&alice, receiver(), 21, &mut relay, START_MS);
    first.pump(&mut relay, START_MS).unwrap();
    assert!(matches!(first.end, Some(End::Refused { code, .. }) if code == ErrorCode::Replaced.into()));
}

#[test]
fn silent_relay_is_pinged_then_given_up() {
    let (mut relay, alice, _) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    assert_eq!(a.engine.as_ref().unwrap().next_due_ms(), START_MS + MINUTE_MS);
    a.turn(&mut relay, START_MS + MINUTE_MS, |engine, turn| engine.handle_time(turn)).unwrap();
    // The answer to PING counts.
    settle(&mut relay, &mut [&mut a], START_MS + MINUTE_MS);
    assert_eq!(a.engine.as_ref().unwrap().next_due_ms(), START_MS + 2 * MINUTE_MS);
    a.turn(&mut relay, START_MS + 2 * MINUTE_MS, |engine, turn| engine.handle_time(turn)).unwrap();
    a.turn(&mut relay, START_MS + 3 * MINUTE_MS, |engine, turn| engine.handle_time(turn)).unwrap();
    assert_eq!(a.end, Some(End::Silent));
}

#[test]
fn answers_a_ping() {
    let (mut relay, alice, _) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    relay.ping(a.connection.unwrap());
    let bytes = relay.output(a.connection.unwrap());
    let Ok(e2e_protocol::wire::Parsed::Frame(ping, _)) = e2e_protocol::wire::Frame::parse(&bytes, 100) else {
        panic!();
    };
    let disk = a.disk.clone();
    let mut turn = Turn::begin(&disk, START_MS, &mut a.rng).unwrap();
    a.engine.as_mut().unwrap().handle_frame(&mut turn, &ping).unwrap();
    let answer = turn.commit().unwrap().bytes;
    let parsed = e2e_protocol::wire::Frame::parse(&answer, 100);
    assert!(
        matches!(parsed, Ok(e2e_protocol::wire::Parsed::Frame(e2e_protocol::wire::Frame::Pong(opaque), _)) if opaque == *b"12345678")
    );
}

#[test]
fn prekeys_are_published_when_few_are_left() {
    let (mut relay, _, bob) = two_users();
    let at = relay.user(&name("bob"));
    assert_eq!(relay.users[at].one_time.len(), 16);
    relay.users[at].one_time.truncate(8);
    let b = up(&bob, receiver(), 21, &mut relay, START_MS);
    assert_eq!(relay.users[at].one_time.len(), 8, "8 are enough");
    b.finish(&mut relay, START_MS).unwrap();
    relay.users[at].one_time.truncate(7);
    let mut b = up(&bob, receiver(), 22, &mut relay, START_MS);
    assert_eq!(relay.users[at].one_time.len(), 23);
    // A process that stays notices, too.
    relay.users[at].one_time.truncate(3);
    advance(&mut relay, &mut [&mut b], START_MS, START_MS + 60 * MINUTE_MS);
    assert_eq!(relay.users[at].one_time.len(), 19);
}

#[test]
fn damaged_state_stops_and_is_left_alone() {
    for path in ["identity", "account"] {
        let (_, alice, _) = two_users();
        alice.plant(path, b"\x01garbage");
        let Err(StartError::State(error)) = Client::new(&alice, 1).start(sender(), START_MS) else {
            panic!("{path}");
        };
        assert!(matches!(error, StateError::Corrupt { path: found } if found == path));
        assert_eq!(alice.files()[path], b"\x01garbage");
    }
}

#[test]
fn nothing_is_left_of_an_ended_process() {
    let (mut relay, alice, bob) = two_users();
    let mut a = up(&alice, sender(), 20, &mut relay, START_MS);
    let mut b = up(&bob, receiver(), 21, &mut relay, START_MS);
    a.send(&mut relay, "bob", "the plaintext itself", START_MS).unwrap();
    settle(&mut relay, &mut [&mut a, &mut b], START_MS);
    let (a, b) = (a.finish(&mut relay, START_MS).unwrap(), b.finish(&mut relay, START_MS).unwrap());
    for disk in [&a.disk, &b.disk] {
        let state = Transaction::begin(disk).unwrap();
        for folder in [Folder::Lanes, Folder::Outbox, Folder::Inbox] {
            assert_eq!(state.list(folder).unwrap(), []);
        }
        let found = disk
            .files()
            .into_iter()
            .find(|(_, content)| content.windows(9).any(|window| window == b"plaintext"));
        assert_eq!(found.map(|(path, _)| path), None, "shown and collected, it is gone");
    }
}
