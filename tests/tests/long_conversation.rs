//! A conversation that steps, with restarts of both clients and the relay. `converse` is the long one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use e2e_protocol::e2e::Profile;
use e2e_tests::converse::{Talk, converse, write_to_who_is_away};

#[test]
fn messages_arrive_in_order_once_whatever_is_restarted_in_strict() {
    let _ = converse(Talk { messages: 150, profile: Profile::Strict, restarts: 3 });
}

#[test]
fn messages_arrive_in_order_once_whatever_is_restarted_in_light() {
    let _ = converse(Talk { messages: 150, profile: Profile::Light, restarts: 3 });
}

#[test]
fn more_than_a_chain_waits_for_who_is_away_and_arrives_in_order() {
    let _ = write_to_who_is_away(1_100, Profile::Light);
}
