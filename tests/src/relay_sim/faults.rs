//! What goes wrong: connections, readers, the relay's process, its disk, its clock.
//!
//! Owns: how each fault is carried out. How often: `shape`. Must not know what has to hold all the same.

use super::disk::Health;
use super::link::Fate;
use super::store::Pace;
use super::world::World;
use super::{DAY_MS, HOUR_MS, LinkIndex, MINUTE_MS, SECOND_MS, Who};

/// Above this nobody stays connected while time jumps.
const JUMP_ONLINE_MS_MAX: u64 = 3 * MINUTE_MS;

impl World {
    /// Some of the seed's faults, perhaps.
    pub(super) fn go_wrong(&mut self) {
        if self.dice.per_mille(self.shape.cuts)
            && let Some(link) = self.pick_link()
        {
            self.cut(link);
        }
        if self.dice.per_mille(self.shape.replaces) {
            let who = self.dice.index(self.users.len());
            self.replace_receiver(who);
        }
        if self.dice.per_mille(self.shape.stalls)
            && let Some(link) = self.pick_link()
        {
            self.stall(link);
        }
        if self.dice.per_mille(self.shape.rolls) {
            let who = self.dice.index(self.users.len());
            self.roll(who);
        }
        if self.dice.per_mille(self.shape.disk_faults) {
            self.fail_disk();
        }
        if self.dice.per_mille(self.shape.crashes) {
            self.crash();
        }
        if self.dice.per_mille(self.shape.restarts) {
            self.stop();
        }
        if self.dice.per_mille(self.shape.jumps) {
            self.jump();
        }
    }

    fn pick_link(&mut self) -> Option<LinkIndex> {
        let at = self.dice.index(self.links.live.len());
        self.links.live.get(at).copied().filter(|link| self.links.all[*link].client_open)
    }

    /// Ends a connection, somehow.
    fn cut(&mut self, index: LinkIndex) {
        self.ledger.counts.faults += 1;
        self.ledger.counts.cuts += 1;
        let how = self.dice.below(5);
        self.ledger.note(self.now_ms, || format!("link {index} is cut, way {how}"));
        let link = &mut self.links.all[index];
        // In the middle of a frame, as a rule.
        let kept = link.up_at + self.dice.index(link.up_waiting() + 1);
        match how {
            0 | 1 => {
                link.up.truncate(kept);
                link.fate = if how == 0 { Fate::Lost } else { Fate::Ghost };
                link.client_open = false;
            }
            2 => {
                if link.fate == Fate::Lives {
                    link.fate = Fate::Ends;
                }
                if let Some(user) = self.users.get_mut(link.who) {
                    user.receiver = user.receiver.filter(|receiver| *receiver != index);
                }
            }
            how => {
                self.host.lose(self.now_ms, link);
                if how == 3 {
                    link.socket.truncate(self.dice.index(link.socket.len() + 1));
                } else {
                    link.client_open = false;
                }
            }
        }
        self.reap();
    }

    fn replace_receiver(&mut self, who: Who) {
        if !self.is_stopping {
            self.ledger.counts.faults += 1;
            let credit = self.draw_credit();
            self.connect(who, e2e_protocol::wire::session::Receive::TakeOver(credit));
        }
    }

    fn stall(&mut self, index: LinkIndex) {
        self.ledger.counts.faults += 1;
        let longest_ms = self.dice.pick(&[20, 500, 5 * SECOND_MS, 80 * SECOND_MS]);
        let until_ms = self.now_ms + self.dice.below(longest_ms);
        let (up, down) = self.dice.pick(&[(true, false), (false, true), (true, true)]);
        let small = self.dice.per_mille(300).then(|| 1 + self.dice.index(2_000));
        let link = &mut self.links.all[index];
        link.up_after_ms = if up { until_ms } else { link.up_after_ms };
        link.down_after_ms = if down { until_ms } else { link.down_after_ms };
        link.socket_bytes_max = small.unwrap_or(link.socket_bytes_max);
        self.ledger.note(self.now_ms, || format!("link {index} stalls until {until_ms}"));
    }

    fn fail_disk(&mut self) {
        self.ledger.counts.faults += 1;
        self.ledger.counts.disk_faults += 1;
        let mut health = Health::default();
        match self.dice.below(5) {
            0 => health.commits_fail = 1_000,
            1 => health.commits_fail = 300,
            2 => health.full = true,
            3 => health.reads_fail = self.dice.pick(&[100, 1_000]),
            _ => self.host.store.pace = Pace { commit_ms_max: 3 * SECOND_MS, read_ms_max: SECOND_MS },
        }
        health.failed_are_there = self.dice.pick(&[0, 500, 1_000]);
        health.reopens_fail = self.dice.pick(&[0, 0, 700]);
        self.host.store.set_health(health);
        let longest_ms = self.dice.pick(&[100, 3 * SECOND_MS, 20 * SECOND_MS]);
        let well_ms = self.now_ms + 1 + self.dice.below(longest_ms);
        self.disk_well_ms = Some(well_ms);
        self.ledger.note(self.now_ms, || format!("the disk until {well_ms}: {health:?}"));
    }

    pub(super) fn heal_disk(&mut self) {
        self.disk_well_ms = None;
        self.host.store.set_health(Health::default());
        self.host.store.pace = self.shape.pace;
        self.ledger.note(self.now_ms, || "the disk is well".into());
    }

    /// The relay's process dies.
    pub(super) fn crash(&mut self) {
        if self.host.core.is_none() {
            return;
        }
        self.ledger.counts.faults += 1;
        self.ledger.counts.crashes += 1;
        self.ledger.note(self.now_ms, || "the relay dies".into());
        self.host.crash(self.now_ms, &mut self.dice);
        self.go_down();
    }

    /// The relay is told to stop.
    pub(super) fn stop(&mut self) {
        let now_ms = self.now_ms;
        if let Some(core) = self.host.core.as_mut().filter(|_| !self.is_stopping) {
            core.handle_stop();
            self.is_stopping = true;
            self.ledger.counts.faults += 1;
            self.ledger.counts.restarts += 1;
            self.ledger.note(now_ms, || "the relay stops".into());
        }
    }

    /// It has stopped.
    pub(super) fn exit(&mut self) {
        self.ledger.note(self.now_ms, || "the relay has stopped".into());
        self.host.exit(self.now_ms);
        self.go_down();
    }

    /// What is left of the connections of a relay that is not there.
    fn go_down(&mut self) {
        self.is_stopping = false;
        self.start_ms = Some(self.now_ms + 1 + self.dice.below(3 * SECOND_MS));
        for at in 0..self.links.live.len() {
            let link = &mut self.links.all[self.links.live[at]];
            link.relay_open = false;
            // What it had written arrives, or not all of it.
            if self.dice.per_mille(500) {
                link.socket.truncate(self.dice.index(link.socket.len() + 1));
            }
        }
        if self.dice.per_mille(self.shape.clocks) {
            self.ledger.counts.faults += 1;
            self.ledger.counts.clocks += 1;
            let most_ms = self.dice.pick(&[MINUTE_MS, HOUR_MS, 40 * DAY_MS]);
            let by_ms = self.dice.below(most_ms);
            let ahead = self.dice.per_mille(500);
            let at = &mut self.system_at_start_ms;
            *at = if ahead { *at + by_ms } else { *at - by_ms };
            self.ledger.note(self.now_ms, || format!("the clock is set, ahead: {ahead}, by {by_ms} ms"));
        }
        self.reap();
    }

    /// The relay starts, if the disk lets it.
    pub(super) fn start(&mut self) {
        for index in std::mem::take(&mut self.links.live) {
            self.links.all[index].drop_both();
            self.links.live.push(index);
        }
        self.reap();
        let system_ms = self.system_at_start_ms + self.now_ms;
        self.host.start(self.now_ms, system_ms, &mut self.ledger);
        self.start_ms = match self.host.core {
            Some(_) => None,
            None => Some(self.now_ms + SECOND_MS),
        };
    }

    /// Much time goes by.
    fn jump(&mut self) {
        let ms = self.dice.below(self.shape.jump_ms);
        self.ledger.note(self.now_ms, || format!("{ms} ms go by"));
        if ms > JUMP_ONLINE_MS_MAX {
            for at in 0..self.links.live.len() {
                let link = &mut self.links.all[self.links.live[at]];
                (link.fate, link.client_open) = (Fate::Lost, false);
                (link.up_after_ms, link.down_after_ms) = (0, 0);
            }
            self.reap();
        }
        self.advance(ms);
    }
}
