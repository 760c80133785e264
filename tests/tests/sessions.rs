//! Seeds of the simulator of the end-to-end layer (docs/sessions.md), and those that once failed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use e2e_protocol::e2e::Profile;
use e2e_tests::sessions::{Counts, Trouble, offline, run};

fn holds(seed: u64) -> Counts {
    let outcome = run(seed, false);
    assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
    outcome.counts
}

#[test]
fn a_hundred_seeds_hold() {
    let counts = (0..100).map(holds).fold(Counts::default(), |sum, counts| sum.plus(&counts));
    // Of everything that is checked there was something.
    assert!(counts.inits > 100 && counts.steps > 50 && counts.rejects > 20 && counts.faults > 100);
    assert!(counts.replaced > 5 && counts.messages > 1_000, "{}", counts.json(0));
}

#[test]
fn a_seed_gives_the_same_again() {
    assert_eq!(run(7, false).counts.json(0), run(7, false).counts.json(0));
}

/// Found that each end erased what the other goes on with, after simultaneous starts and 30 days of silence.
#[test]
fn simultaneous_starts_outlive_a_long_silence() {
    holds(6_124);
}

/// Found that a clock set back held messages up in a process that goes on.
#[test]
fn clock_set_back_holds_nothing_up() {
    holds(6_067);
}

/// Found that a message overtook those that waited for the recipient's keys.
#[test]
fn session_of_the_recipient_lets_nothing_overtake() {
    holds(787);
}

/// Found that a starter went on with chain 0 when the signed prekey that it is wrapped to was erased.
#[test]
fn late_first_answer_ends_the_first_chain() {
    holds(6_874);
}

#[test]
fn full_chains_to_who_is_offline_are_succeeded_at_once_and_open_in_order() {
    let report = offline(2_100, Profile::Light, Trouble::Nothing);
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!((report.inits_to_store, report.rejects), (3, 0));
    assert!(report.stored_ms < 60_000, "they waited for a session: {} ms", report.stored_ms);
}
