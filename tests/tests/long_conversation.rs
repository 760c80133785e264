//! A conversation that steps, with restarts of both clients and the relay. `converse` is the long one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use e2e_protocol::e2e::Profile;
use e2e_tests::converse::{Talk, converse};

#[test]
fn messages_arrive_in_order_once_whatever_is_restarted_in_strict() {
    let _ = converse(Talk { messages: 150, profile: Profile::Strict, restarts: 3 });
}

#[test]
fn messages_arrive_in_order_once_whatever_is_restarted_in_light() {
    let _ = converse(Talk { messages: 150, profile: Profile::Light, restarts: 3 });
}
