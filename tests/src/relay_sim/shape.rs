//! What kind of seed it is: how many users and messages, the relay's limits, which faults, how time goes.
//!
//! Owns: these choices. Must not know how they are carried out (`world`, `faults`).

use e2e_relayd::limits::Limits;

use super::store::Pace;
use super::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::dice::Dice;

/// Makes other dice of a seed: such that the seeds 86 and 276 are about messages only.
const MORE: u64 = 20;

/// So often at most the relay looks for what has expired while time jumps.
const JUMP_EXPIRIES: u64 = 200;

pub(super) struct Shape {
    pub(super) users: usize,
    /// Most lanes that a user sends in at a time, each on a connection of its own or with others.
    pub(super) writers: usize,
    pub(super) messages: usize,
    pub(super) envelope_bytes_max: u64,
    pub(super) limits: Limits,
    /// The relay may forget lanes, and refuses messages in too many.
    pub(super) forgets_lanes: bool,
    pub(super) pace: Pace,
    /// Time between two actions is up to this.
    pub(super) gap_ms: u64,
    /// Most messages of one action, and most that a lane has without a result.
    pub(super) burst: u64,
    pub(super) window: u64,
    /// A receiver takes up to so many messages before it acknowledges.
    pub(super) credit_messages: u64,
    /// Most that are acknowledged at once.
    pub(super) acks: u64,
    /// Of a thousand messages.
    pub(super) broken: u64,
    pub(super) short_lived: u64,
    /// Of a thousand actions.
    pub(super) repeats: u64,
    pub(super) cuts: u64,
    pub(super) replaces: u64,
    pub(super) stalls: u64,
    pub(super) crashes: u64,
    pub(super) restarts: u64,
    pub(super) disk_faults: u64,
    pub(super) rolls: u64,
    /// Names are asked for, keys published, bundles asked for, ids used twice, lanes moved to another connection.
    pub(super) claims: u64,
    pub(super) publishes: u64,
    pub(super) bundles: u64,
    pub(super) conflicts: u64,
    pub(super) moves: u64,
    pub(super) queries: u64,
    pub(super) jumps: u64,
    pub(super) jump_ms: u64,
    /// Of a thousand starts of the relay.
    pub(super) clocks: u64,
    /// Connections are slow and take few bytes.
    pub(super) narrow: bool,
}

impl Shape {
    pub(super) fn draw(seed: u64, dice: &mut Dice) -> Self {
        let forgets_lanes = dice.per_mille(100);
        let large = dice.per_mille(60);
        let calm = dice.per_mille(100);
        // A fault is rare, frequent, or not there at all.
        let mut fault = |per_mille: u64| {
            let factor = dice.pick(&[0, 1, 1, 3]);
            if calm { 0 } else { per_mille * factor }
        };
        let (repeats, cuts, replaces, stalls) = (fault(60), fault(25), fault(10), fault(40));
        let (crashes, restarts, disk_faults) = (fault(8), fault(4), fault(10));
        let (rolls, jumps) = (fault(6), fault(8));
        let limits = Self::limits(dice, forgets_lanes, large);
        // By dice of their own, and not at all in some seeds: so those that once failed stay what they were.
        let mut more = Dice::new(seed ^ MORE);
        let messages_only = more.per_mille(250);
        let mut often = |of: &[u64]| if messages_only { 0 } else { more.pick(of) };
        let (claims, publishes, bundles) = (often(&[0, 20, 60]), often(&[0, 20, 80]), often(&[20, 80]));
        let (conflicts, moves) = (often(&[0, 30]), often(&[0, 0, 40]));
        let queries = often(&[0, 60]);
        let mut limits = limits;
        if !messages_only {
            limits.share_messages_max = more.pick(&[30, 200, limits.share_messages_max]);
            limits.share_bytes_max = more.pick(&[20_000, limits.share_bytes_max]);
            limits.sender_bytes_max = more.pick(&[60_000, limits.sender_bytes_max]);
        }
        let mut shape = Self {
            users: dice.pick(&[2, 3, 3, 4, 5]),
            writers: dice.pick(&[1, 2, 3]),
            messages: usize::try_from(if large { dice.range(150..300) } else { dice.range(1_050..1_400) })
                .unwrap_or(0),
            envelope_bytes_max: if large { 16_384 } else { dice.pick(&[40, 150, 400]) },
            limits,
            forgets_lanes,
            pace: Pace { commit_ms_max: dice.pick(&[1, 5, 20, 300]), read_ms_max: dice.pick(&[0, 3, 50]) },
            gap_ms: dice.pick(&[2, 5, 30, 150]),
            burst: dice.pick(&[8, 24, 40]),
            // Who has more without a result loses its claim on the lane.
            window: if forgets_lanes { dice.pick(&[16, 64]) } else { dice.pick(&[16, 64, 64, 70]) },
            credit_messages: dice.pick(&[2, 20, 200, 1_000]),
            acks: dice.pick(&[5, 40, 600]),
            broken: dice.pick(&[0, 30]),
            short_lived: dice.pick(&[0, 0, 20, 200]),
            repeats,
            cuts,
            replaces,
            stalls,
            crashes,
            restarts,
            disk_faults,
            rolls,
            claims,
            publishes,
            bundles,
            conflicts,
            moves,
            queries,
            jumps,
            jump_ms: dice.pick(&[3 * SECOND_MS, 2 * MINUTE_MS, HOUR_MS, 40 * DAY_MS]),
            clocks: dice.pick(&[0, 300]),
            narrow: dice.per_mille(250),
        };
        // A minute apart, in a jump of weeks, would be most of what a seed does.
        let limits = &mut shape.limits;
        limits.expiry_interval_ms = limits.expiry_interval_ms.max(shape.jump_ms / JUMP_EXPIRIES);
        shape
    }

    /// Limits that are met, or those of production.
    fn limits(dice: &mut Dice, forgets_lanes: bool, large: bool) -> Limits {
        let production = Limits::default();
        let lanes_per_name_max = if forgets_lanes { 2 } else { production.lanes_per_name_max };
        if large || dice.per_mille(300) {
            return Limits { lanes_per_name_max, ..production };
        }
        Limits {
            ring_bytes_max: dice.pick(&[256 * 1024, 1024 * 1024]),
            ring_bytes_per_mailbox: dice.pick(&[16 * 1024, 64 * 1024]),
            append_bytes_max: dice.pick(&[2_048, 16 * 1024]),
            replay_bytes: dice.pick(&[1_024, 16 * 1024]),
            offer_bytes: dice.pick(&[1_024, 32 * 1024]),
            output_bytes_max: dice.pick(&[2_048, 16 * 1024]),
            store_in_flight_bytes_max: dice.pick(&[4_096, 256 * 1024]),
            mailbox_messages_max: dice.pick(&[100, 600, 100_000]),
            connections_per_name_max: dice.pick(&[4, 8]),
            lanes_per_name_max,
            ..production
        }
    }
}
