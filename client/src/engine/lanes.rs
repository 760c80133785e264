//! Lanes: which process of the home answers for which messages.
//!
//! Owns: this process' own lane and its next number, and the lanes of processes that are gone, which
//! it takes over. Each lane has a file that its process keeps locked while it lives: so two living
//! processes never both send a message again, and none that is cut off is forgotten.
//!
//! Numbers are given out only in a lane of one's own, which no other process ever uses for new
//! messages: so no counter has to be kept, and what is taken over keeps its number.

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
            let lane = Lane(random_u64(turn.rng));
            let claim = turn.state.claim(&Key::Lane(lane))?;
            self.own = claim.map(|claim| Held { lane, _claim: claim });
        }
    }

    /// Whether this process answers for the lane.
    pub(super) fn holds(&self, lane: Lane) -> bool {
        self.own.iter().chain(&self.adopted).any(|held| held.lane == lane)
    }

    /// Where a lane stands among those that are held: older ones first, the own one last.
    pub(super) fn rank(&self, lane: Lane) -> usize {
        self.adopted.iter().position(|held| held.lane == lane).unwrap_or(usize::MAX)
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
        let lane_of = |key: &Key| match key {
            Key::Outbox(lane, _) | Key::Inbox(lane, _) => Some(*lane),
            _ => None,
        };
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
                match key {
                    Key::Outbox(lane, number) => left.entry(lane).or_default().to_send.push(number),
                    Key::Inbox(lane, _) => left.entry(lane).or_default().to_show.push(key),
                    Key::Lane(lane) => drop(left.entry(lane).or_default()),
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
        let mut left: Vec<(u64, Lane, Left)> = left
            .into_iter()
            .map(|(lane, left)| Ok((written_ms(turn, lane, &left)?, lane, left)))
            .collect::<Result<_, StateError>>()?;
        left.sort_by_key(|(written_ms, ..)| *written_ms);
        for (_, lane, left) in left {
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

/// When the oldest message that a process left was written, by the clock of then.
fn written_ms(turn: &Turn<'_>, lane: Lane, left: &Left) -> Result<u64, StateError> {
    let Some(oldest) = left.to_send.iter().min() else { return Ok(0) };
    let item = OutboxItem::load(&turn.state, &Key::Outbox(lane, *oldest))?;
    Ok(item.map_or(0, |item| item.plaintext.time_ms))
}

fn random_u64(rng: &mut impl CryptoRng) -> u64 {
    let mut bytes = [0; 8];
    rng.fill_bytes(&mut bytes);
    u64::from_be_bytes(bytes)
}
