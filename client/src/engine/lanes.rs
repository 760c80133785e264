//! Lanes: which process of the home answers for which messages.
//!
//! Owns: this process' own lane and its next number, and the lanes of processes that are gone, which
//! it takes over. Each lane has a file that its process keeps locked while it lives: so two living
//! processes never both send a message again, and none that is cut off is forgotten.
//!
//! Numbers are given out only in a lane of one's own, which no other process ever uses for new
//! messages: so no counter has to be kept, and what is taken over keeps its number. A new lane is
//! above all that are left: so what earlier processes left is dealt with in the order of lanes,
//! whatever the clock was when they ran.

use std::collections::{BTreeMap, BTreeSet};

use e2e_protocol::e2e::CryptoRng;
use e2e_protocol::ids::{Lane, Number};

use super::event::Event;
use super::{Engine, Turn, outbox};
use crate::state::disk::Guard;
use crate::state::{Folder, InboxItem, Key, OutboxItem, StateError};

/// How often a process that stays looks for what others left behind, milliseconds.
const SEARCH_MS: u64 = 60_000;

/// Most lanes that are taken over at once: each is an open file. The others wait for the next search.
const ADOPTED_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Lanes {
    own: Option<Held>,
    last_number: u64,
    last_inbox: u64,
    adopted: Vec<Held>,
    next_search_ms: Option<u64>,
}

/// What a process left in its lane.
#[derive(Default)]
struct Left {
    to_send: Vec<Number>,
    to_show: Vec<Key>,
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
            let newest = turn.state.list(Folder::Lanes)?.into_iter().filter_map(|key| lane_of(&key)).max();
            let lane = lane_above(newest, random_u64(turn.rng));
            let claim = turn.state.claim(&Key::Lane(lane))?;
            self.own = claim.map(|claim| Held { lane, _claim: claim });
        }
    }

    /// Whether this process answers for the lane.
    pub(super) fn holds(&self, lane: Lane) -> bool {
        self.own.iter().chain(&self.adopted).any(|held| held.lane == lane)
    }

    /// Sorts messages of lanes that are held as they were written: what was left by others before what this
    /// process adds.
    pub(super) fn sort(&self, ids: &mut [(Lane, Number)]) {
        let own = self.own.as_ref().map(|held| held.lane);
        ids.sort_unstable_by_key(|(lane, number)| (Some(*lane) == own, *lane, *number));
    }

    pub(super) fn search_due(&self, now_ms: u64) -> bool {
        self.next_search_ms.is_some_and(|due| due <= now_ms)
    }

    pub(super) fn next_search_ms(&self) -> Option<u64> {
        self.next_search_ms
    }

    /// Removes the files of lanes in which nothing is left.
    pub(super) fn close(&self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        let items = [turn.state.list(Folder::Outbox)?, turn.state.list(Folder::Inbox)?].concat();
        let used: BTreeSet<Lane> = items.iter().filter_map(lane_of).collect();
        for held in self.own.iter().chain(&self.adopted) {
            if !used.contains(&held.lane) {
                turn.state.remove(Key::Lane(held.lane));
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Takes over the lanes of processes that are gone, as far as something in them is due, and lets
    /// go of those where nothing is any more.
    pub(super) fn adopt(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        self.lanes.next_search_ms = self.receives_messages().then(|| turn.now_ms.saturating_add(SEARCH_MS));
        let mut left: BTreeMap<Lane, Left> = BTreeMap::new();
        for folder in [Folder::Lanes, Folder::Outbox, Folder::Inbox] {
            for key in turn.state.list(folder)? {
                let Some(lane) = lane_of(&key) else { continue };
                let left = left.entry(lane).or_default();
                match key {
                    Key::Outbox(_, number) => left.to_send.push(number),
                    Key::Inbox(..) => left.to_show.push(key),
                    _ => {}
                }
            }
        }
        let idle = |held: &Held| {
            let nothing_to_show = left.get(&held.lane).is_none_or(|left| left.to_show.is_empty());
            nothing_to_show && self.dispatch.is_idle(held.lane, turn.now_ms)
        };
        let (idle, busy) = std::mem::take(&mut self.lanes.adopted).into_iter().partition(idle);
        self.lanes.adopted = busy;
        for Held { lane, .. } in idle {
            self.dispatch.forget(lane);
        }
        for (lane, left) in left {
            // Who doesn't receive leaves unshown messages to a process that does.
            let ours = left.to_show.is_empty() || self.receives_messages();
            if ours && !self.lanes.holds(lane) && self.lanes.adopted.len() < ADOPTED_MAX {
                self.adopt_one(turn, lane, &left)?;
            }
        }
        Ok(())
    }

    fn adopt_one(&mut self, turn: &mut Turn<'_>, lane: Lane, left: &Left) -> Result<(), StateError> {
        let Some(claim) = turn.state.claim(&Key::Lane(lane))? else { return Ok(()) };
        if left.to_send.is_empty() && left.to_show.is_empty() {
            turn.state.remove(Key::Lane(lane));
            return Ok(());
        }
        let mut due = Vec::new();
        for number in &left.to_send {
            if let Some(item) = OutboxItem::load(&turn.state, &Key::Outbox(lane, *number))? {
                let is_due = outbox::is_due(item.not_before_ms, turn.now_ms);
                due.push(((lane, *number), if is_due { 0 } else { item.not_before_ms }));
            }
        }
        if left.to_show.is_empty() && due.iter().all(|(_, due_ms)| *due_ms > turn.now_ms) {
            return Ok(());
        }
        log::debug!("took over {} messages to send, {} to show", due.len(), left.to_show.len());
        self.lanes.adopted.push(Held { lane, _claim: claim });
        due.into_iter().for_each(|(id, due_ms)| self.dispatch.track(id, due_ms));
        left.to_show.iter().try_for_each(|key| self.show_again(turn, *key))
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

/// A random lane above the newest that is left. After some 2^24 lanes, each begun while another was left, there
/// is none above: then any is taken, and only the order is lost.
fn lane_above(newest: Option<Lane>, random: u64) -> Lane {
    match newest {
        None => Lane(random >> 1),
        Some(Lane(newest)) => Lane(newest.checked_add(1 + (random >> 24)).unwrap_or(random)),
    }
}

fn random_u64(rng: &mut impl CryptoRng) -> u64 {
    let mut bytes = [0; 8];
    rng.fill_bytes(&mut bytes);
    u64::from_be_bytes(bytes)
}
