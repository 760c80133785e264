//! Seeds of the simulator of the relay (docs/simulation.md), and those that once failed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use e2e_tests::relay_sim::{Counts, Defect, run};

/// Within so many seeds each defect has to be found.
const DEFECT_SEEDS: u64 = 300;

fn holds(seed: u64) -> Counts {
    let outcome = run(seed, None, false);
    assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
    outcome.counts
}

#[test]
fn two_hundred_seeds_hold() {
    let counts = (0..200).map(holds).fold(Counts::default(), |sum, counts| sum.plus(&counts));
    // Of everything that is checked there was something.
    let told = counts.json(0);
    assert!(counts.messages > 150_000 && counts.stored > 50_000 && counts.collected > 100_000, "{told}");
    assert!(counts.refused > 1_000 && counts.uncertain > 1_000 && counts.expired > 1_000, "{told}");
    assert!(counts.done > 100 && counts.notices > 1_000 && counts.rejected > 100, "{told}");
    assert!(counts.cuts > 500 && counts.crashes > 200 && counts.restarts > 100, "{told}");
    assert!(counts.failed_commits > 100 && counts.clocks > 20 && counts.rolled > 20, "{told}");
    assert!(counts.claimed > 100 && counts.published > 300 && counts.handed_out > 100, "{told}");
    assert!(counts.conflicts > 20 && counts.moved > 100, "{told}");
    assert!(counts.queries > 300 && counts.over_quota > 1_000, "{told}");
}

#[test]
fn a_seed_gives_the_same_again() {
    for seed in 0..10 {
        assert_eq!(run(seed, None, false).counts, run(seed, None, false).counts, "seed {seed}");
    }
    let broken = |seed| run(seed, Some(Defect::DropMessage), false).violations;
    let seed = (0..DEFECT_SEEDS).find(|seed| !broken(*seed).is_empty()).expect("a seed finds it");
    assert_eq!(broken(seed), broken(seed));
}

fn is_found(defect: Defect) {
    let found = (0..DEFECT_SEEDS).find_map(|seed| run(seed, Some(defect), false).violations.pop());
    assert!(found.is_some(), "{} is not found", defect.name());
}

#[test]
fn a_lost_message_is_found() {
    is_found(Defect::DropMessage);
}

#[test]
fn a_message_that_is_said_to_be_stored_before_it_is_is_found() {
    is_found(Defect::AckBeforeFsync);
}

#[test]
fn messages_that_change_places_are_found() {
    is_found(Defect::Reorder);
}

#[test]
fn output_of_another_connection_is_found() {
    is_found(Defect::CrossConnection);
}

#[test]
fn a_name_that_is_lost_is_found() {
    is_found(Defect::ForgetName);
}

#[test]
fn keys_that_are_lost_are_found() {
    is_found(Defect::ForgetKeys);
}

#[test]
fn a_prekey_that_is_handed_out_twice_is_found() {
    is_found(Defect::PrekeyTwice);
}

/// Found that a message was delivered after its sender had been told EXPIRED: to whoever received next, where something
/// before it was not acknowledged.
#[test]
fn nothing_is_delivered_after_expired() {
    holds(86);
}

/// Found that a mailbox counted messages for ever that a failed append had not brought to the disk.
#[test]
fn nothing_is_counted_that_is_not_there() {
    holds(276);
}
