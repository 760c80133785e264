//! What kind of seed it is: how many messages, which faults, how time goes.
//!
//! Owns: these choices. Must not know how they are carried out (`world`).

use e2e_protocol::e2e::Profile;

use super::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::dice::Dice;

pub(super) struct Shape {
    pub(super) profiles: Vec<Profile>,
    pub(super) actions: u64,
    /// Time between two actions is up to this.
    pub(super) gap_ms: u64,
    /// Jumps in a thousand actions, and how far at most.
    pub(super) jumps: u64,
    pub(super) jump_ms: u64,
    /// Of a thousand messages, those of alice to bob.
    pub(super) one_way: u64,
    /// Both write before anything comes.
    pub(super) both_start: bool,
    pub(super) lazy: bool,
    pub(super) faultless: bool,
    /// Of a thousand actions.
    pub(super) offline: u64,
    pub(super) crashes: u64,
    pub(super) rollbacks: u64,
    pub(super) losses: u64,
    pub(super) clocks: u64,
    pub(super) replays: u64,
    pub(super) lies: u64,
    pub(super) thief: bool,
}

impl Shape {
    /// Nothing but messages.
    pub(super) fn calm(profiles: Vec<Profile>, messages: u64, faultless: bool) -> Self {
        Self {
            profiles,
            actions: messages,
            gap_ms: 1,
            jumps: 0,
            jump_ms: 1,
            one_way: 1_000,
            both_start: false,
            lazy: false,
            faultless,
            offline: 0,
            crashes: 0,
            rollbacks: 0,
            losses: 0,
            clocks: 0,
            replays: 0,
            lies: 0,
            thief: false,
        }
    }

    pub(super) fn draw(dice: &mut Dice) -> Self {
        let long = dice.per_mille(10);
        let users = if dice.per_mille(150) { 3 } else { 2 };
        let profile = |dice: &mut Dice| dice.pick(&[Profile::Strict, Profile::Light, Profile::Light]);
        let all = if long { Profile::Light } else { profile(dice) };
        let mixed = !long && dice.per_mille(400);
        let profiles = (0..users).map(|_| if mixed { profile(dice) } else { all }).collect();
        let faultless = dice.per_mille(200);
        // A fault is either frequent in a seed, or rare, or does not happen.
        let rate = |dice: &mut Dice, of: &[u64]| if faultless { 0 } else { dice.pick(of) };
        let gaps = [
            SECOND_MS / 10,
            SECOND_MS,
            10 * SECOND_MS,
            MINUTE_MS,
            10 * MINUTE_MS,
            HOUR_MS,
            3 * HOUR_MS,
            DAY_MS,
        ];
        let scale = if long { 20 } else { 1 };
        Self {
            profiles,
            actions: if long {
                dice.range(1_100..2_400)
            } else {
                let most = dice.pick(&[8, 15, 25, 50]);
                dice.range(5..most)
            },
            gap_ms: if long { dice.pick(&gaps[..3]) } else { dice.pick(&gaps) },
            jumps: dice.pick(&[0, 0, 20, 80]) / scale,
            jump_ms: dice.pick(&[HOUR_MS, 2 * DAY_MS, 10 * DAY_MS, 40 * DAY_MS, 70 * DAY_MS]),
            one_way: dice.pick(&[500, 500, 800, 1_000]),
            both_start: dice.per_mille(250),
            lazy: dice.per_mille(250),
            faultless,
            offline: dice.pick(&[0, 0, 60, 200]) / scale,
            crashes: rate(dice, &[0, 0, 30, 120]) / scale,
            rollbacks: rate(dice, &[0, 0, 0, 20, 80]) / scale,
            losses: rate(dice, &[0, 0, 0, 10, 50]) / scale,
            clocks: rate(dice, &[0, 0, 0, 40]) / scale,
            replays: rate(dice, &[0, 30, 150]) / scale,
            lies: rate(dice, &[0, 0, 20, 100, 300]) / scale,
            thief: dice.per_mille(100),
        }
    }
}
