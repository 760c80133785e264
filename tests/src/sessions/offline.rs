//! Many messages to who is not there: how many sessions that takes, and that all of them open once the
//! recipient comes, with its budget of INITs in force.
//!
//! Owns: this one scenario. Must not know how it is checked (`checks`).

use std::time::Instant;

use e2e_protocol::e2e::Profile;

use super::shape::Shape;
use super::world::World;
use super::{HOUR_MS, NAMES, SECOND_MS};
use crate::dice::Dice;

/// What goes wrong while the messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    Nothing,
    /// The relay loses number 999 of every chain, after it said that it stored it.
    LastLost,
    /// The recipient's process ends and starts again, each time that so many messages were shown.
    Restarts(u64),
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Messages that were written.
    pub messages: u64,
    /// Sessions that the sender started until all messages were stored.
    pub inits_to_store: u64,
    /// Sessions that were started in all.
    pub inits: u64,
    /// Envelopes that were not opened.
    pub rejects: u64,
    /// Virtual time until the relay had stored all, milliseconds.
    pub stored_ms: u64,
    /// Virtual time from when the recipient came until it had shown all.
    pub shown_ms: u64,
    /// The same until it had shown all but those that the relay had lost.
    pub most_shown_ms: u64,
    /// Virtual time from then until the sender had let go of all.
    pub drained_ms: u64,
    /// Real time of all this.
    pub real_ms: u128,
    /// What did not hold.
    pub violations: Vec<String>,
}

/// Sends so many messages to a recipient who is offline, and lets it come. In order, unless there is trouble.
#[must_use]
pub fn offline(messages: u64, profile: Profile, trouble: Trouble) -> Report {
    let began = Instant::now();
    let shape = Shape::calm(vec![profile; 2], messages, trouble == Trouble::Nothing);
    let mut world = World::new(Dice::new(messages), &shape, false);
    world.relay.loses_last_numbers = trouble == Trouble::LastLost;
    let (alice, bob) = (0, 1);
    world.go_online(alice);
    let start_ms = world.now_ms;
    for _ in 0..messages {
        world.write(alice, bob);
        world.advance(world.now_ms + 3);
    }
    while !world.relay.has_all(bob, messages) && world.is_fine() && world.now_ms < start_ms + HOUR_MS {
        world.advance(world.now_ms + SECOND_MS);
    }
    let stored_ms = world.now_ms - start_ms;
    if !world.relay.has_all(bob, messages) {
        world.checks.violation(format!("not all messages to {} were stored in an hour", NAMES[bob]));
    }
    let inits_to_store = world.checks.counts.inits;

    let came_ms = world.now_ms;
    world.go_online(bob);
    let (mut restarts, mut most_shown_ms) = (0, None);
    while world.checks.counts.shown < messages && world.is_fine() {
        world.advance(world.now_ms + SECOND_MS);
        if world.checks.counts.shown + world.relay.lost >= messages {
            most_shown_ms.get_or_insert(world.now_ms - came_ms);
        }
        if let Trouble::Restarts(every) = trouble
            && world.checks.counts.shown / every > restarts
        {
            restarts += 1;
            world.go_offline(bob);
            world.clients[bob].process = None;
            world.go_online(bob);
        }
        world.give_up_after(came_ms);
    }
    let shown_ms = world.now_ms - came_ms;
    let drain_ms = world.now_ms;
    world.drain(drain_ms);
    let drained_ms = world.now_ms - drain_ms;
    let outcome = world.finish();
    Report {
        messages,
        inits_to_store,
        inits: outcome.counts.inits,
        rejects: outcome.counts.rejects,
        stored_ms,
        most_shown_ms: most_shown_ms.unwrap_or(shown_ms),
        shown_ms,
        drained_ms,
        real_ms: began.elapsed().as_millis(),
        violations: outcome.violations,
    }
}

impl Report {
    /// One JSON object.
    #[must_use]
    pub fn json(&self, profile: Profile, trouble: Trouble) -> String {
        format!(
            "{{\"offline\":{},\"profile\":\"{profile:?}\",\"trouble\":\"{trouble:?}\",\"inits_to_store\":{},\"inits\":{},\
             \"rejects\":{},\"stored_seconds\":{},\"most_shown_seconds\":{},\"shown_seconds\":{},\"drained_seconds\":{},\"real_seconds\":{:.1},\
             \"violations\":{}}}",
            self.messages,
            self.inits_to_store,
            self.inits,
            self.rejects,
            self.stored_ms / SECOND_MS,
            self.most_shown_ms / SECOND_MS,
            self.shown_ms / SECOND_MS,
            self.drained_ms / SECOND_MS,
            self.real_ms as f64 / 1e3,
            self.violations.len(),
        )
    }
}
