//! Lanes: which process of the home answers for which messages.
//!
//! Owns: this process' own lane and its next number, and the lanes of processes that are gone, which
//! it takes over. Each lane has a file that its process keeps locked while it lives: so two living
//! processes never both send a message again, and none that is cut off is forgotten.
//!
//! Numbers are given out only in a lane of one's own, which no other process ever uses for new
//! messages: so no counter has to be kept, and what is taken over keeps its number.

use std::collections::BTreeSet;

use e2e_protocol::e2e::CryptoRng;
use e2e_protocol::ids::{Lane, Number};

use super::event::Event;
use super::outbox::PAUSE_MS_MAX;
use super::{Engine, Turn};
use crate::state::disk::Guard;
use crate::state::{Folder, InboxItem, Key, OutboxItem, StateError};

/// How often a process that stays looks for what others left behind, milliseconds.
const SEARCH_MS: u64 = 60_000;

#[derive(Default)]
pub(super) struct Lanes {
    own: Option<Held>,
    last_number: u64,
    last_inbox: u64,
    adopted: Vec<Held>,
    next_search_ms: Option<u64>,
}

struct Held {
    lane: Lane,
    // Dropped with it: the lane is free again.
    _claim: Box<dyn Guard>,
}

impl Lanes {
    /// The id for the next message. A lane is taken with the first.
    pub(super) fn next_id(&mut self, turn: &mut Turn<'_>) -> Result<(Lane, Number), StateError> {
        let lane = self.own(turn)?;
        self.last_number += 1;
        Ok((lane, Number(self.last_number)))
    }

    /// The file for the next message that came.
    pub(super) fn next_inbox(&mut self, turn: &mut Turn<'_>) -> Result<Key, StateError> {
        let lane = self.own(turn)?;
        self.last_inbox += 1;
        Ok(Key::Inbox(lane, self.last_inbox))
    }

    fn own(&mut self, turn: &mut Turn<'_>) -> Result<Lane, StateError> {
        loop {
            if let Some(own) = &self.own {
                return Ok(own.lane);
            }
            let lane = Lane(random_u64(turn.rng));
            let claim = turn.state.claim(&Key::Lane(lane))?;
            self.own = claim.map(|claim| Held { lane, _claim: claim });
        }
    }

    /// Whether this process answers for the lane.
    pub(super) fn holds(&self, lane: Lane) -> bool {
        self.own.iter().chain(&self.adopted).any(|held| held.lane == lane)
    }

    pub(super) fn search_due(&self, now_ms: u64) -> bool {
        self.next_search_ms.is_some_and(|due| due <= now_ms)
    }

    pub(super) fn next_search_ms(&self) -> Option<u64> {
        self.next_search_ms
    }

    /// Removes the files of lanes in which nothing is left.
    pub(super) fn close(&self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        let used = used_lanes(turn)?;
        for held in self.own.iter().chain(&self.adopted) {
            if !used.contains(&held.lane) {
                turn.state.remove(Key::Lane(held.lane));
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Takes over the lanes of processes that are gone, with the messages in them.
    pub(super) fn adopt(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        self.lanes.next_search_ms = self.config.receive.then(|| turn.now_ms.saturating_add(SEARCH_MS));
        let lane_files = turn.state.list(Folder::Lanes)?;
        let outbox = turn.state.list(Folder::Outbox)?;
        let inbox = turn.state.list(Folder::Inbox)?;
        let lanes: BTreeSet<Lane> =
            lane_files.iter().chain(&outbox).chain(&inbox).filter_map(lane_of).collect();
        for lane in lanes {
            let of_lane = |keys: &[Key]| -> Vec<Key> {
                keys.iter().copied().filter(|key| lane_of(key) == Some(lane)).collect()
            };
            let (to_send, to_show) = (of_lane(&outbox), of_lane(&inbox));
            // Who doesn't receive leaves unshown messages to a process that does.
            if self.lanes.holds(lane) || !(to_show.is_empty() || self.config.receive) {
                continue;
            }
            let Some(claim) = turn.state.claim(&Key::Lane(lane))? else { continue };
            if to_send.is_empty() && to_show.is_empty() {
                turn.state.remove(Key::Lane(lane));
                continue;
            }
            log::debug!("took over {} messages to send, {} to show", to_send.len(), to_show.len());
            self.lanes.adopted.push(Held { lane, _claim: claim });
            for key in to_send {
                if let (Key::Outbox(lane, number), Some(item)) = (key, OutboxItem::load(&turn.state, &key)?) {
                    // A clock that was wrong once must not hold a message up for longer than any pause.
                    let latest_ms = turn.now_ms.saturating_add(PAUSE_MS_MAX);
                    self.dispatch.track((lane, number), item.not_before_ms.min(latest_ms));
                }
            }
            for key in to_show {
                self.show_again(turn, key)?;
            }
        }
        Ok(())
    }

    /// A message that an earlier process took and did not show.
    fn show_again(&mut self, turn: &mut Turn<'_>, key: Key) -> Result<(), StateError> {
        if !self.mailbox.has_enough()
            && let Some(InboxItem { from, plaintext }) = InboxItem::load(&turn.state, &key)?
        {
            self.mailbox.count_shown(plaintext.kind);
            turn.event(Event::Message { key, from, plaintext });
        }
        Ok(())
    }
}

fn lane_of(key: &Key) -> Option<Lane> {
    match key {
        Key::Lane(lane) | Key::Outbox(lane, _) | Key::Inbox(lane, _) => Some(*lane),
        _ => None,
    }
}

fn used_lanes(turn: &Turn<'_>) -> Result<BTreeSet<Lane>, StateError> {
    let outbox = turn.state.list(Folder::Outbox)?;
    let inbox = turn.state.list(Folder::Inbox)?;
    Ok(outbox.iter().chain(&inbox).filter_map(lane_of).collect())
}

fn random_u64(rng: &mut impl CryptoRng) -> u64 {
    let mut bytes = [0; 8];
    rng.fill_bytes(&mut bytes);
    u64::from_be_bytes(bytes)
}
