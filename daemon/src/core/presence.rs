//! WHO: who is online, and telling those who watch (spec/wire.md, section 6).
//!
//! Owns: which connection watches whom and what it was told last. Must not know how a connection comes to receive:
//! `login` says when that changes ([`Core::note_presence`]).

use std::collections::HashMap;

use e2e_protocol::ids::Name;
use e2e_protocol::limits::{HEADER_BYTES, PRESENCE_COUNT_MAX, WATCHERS_MAX, WATCHES_MAX};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::people::{About, Names, Presence, State, Watch, Who};

use super::rates::{Act, per_minute};
use super::timers::Timer;
use super::{ConnId, Core};

/// Slots looked at for one answer about everybody, so that a table with holes stops nobody else.
const SLOTS_PER_ANSWER: u32 = 1_024;

/// Bytes of a PRESENCE, header included, at most for each name, and besides.
const STATE_BYTES: usize = 34;
const HEAD_BYTES: usize = HEADER_BYTES + 12;

/// Who watches whom.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_slot: HashMap<u32, Watched>,
    by_connection: HashMap<ConnId, Vec<u32>>,
    /// How many there are in all.
    count: usize,
}

/// One name that is watched.
#[derive(Debug, Default)]
struct Watched {
    /// Each with what it was told last.
    watchers: Vec<(ConnId, State)>,
    timer_set: bool,
}

impl Watches {
    fn is_watching(&self, id: ConnId, slot: u32) -> bool {
        self.by_connection.get(&id).is_some_and(|slots| slots.contains(&slot))
    }

    fn count_of(&self, id: ConnId) -> usize {
        self.by_connection.get(&id).map_or(0, Vec::len)
    }

    /// A connection was told this of a name, in an answer.
    fn note_told(&mut self, id: ConnId, slot: u32, state: State) {
        let watched = self.by_slot.get_mut(&slot);
        if let Some((_, told)) =
            watched.and_then(|watched| watched.watchers.iter_mut().find(|(watcher, _)| *watcher == id))
        {
            *told = state;
        }
    }

    fn add(&mut self, id: ConnId, slot: u32, state: State) {
        self.count += 1;
        self.by_connection.entry(id).or_default().push(slot);
        self.by_slot.entry(slot).or_default().watchers.push((id, state));
    }

    fn remove(&mut self, id: ConnId, slot: u32) {
        if let Some(slots) = self.by_connection.get_mut(&id) {
            slots.retain(|watched| *watched != slot);
        }
        self.forget_watcher(id, slot);
    }

    fn forget_watcher(&mut self, id: ConnId, slot: u32) {
        if let Some(watched) = self.by_slot.get_mut(&slot) {
            let before = watched.watchers.len();
            watched.watchers.retain(|(watcher, _)| *watcher != id);
            self.count -= before - watched.watchers.len();
            if watched.watchers.is_empty() {
                self.by_slot.remove(&slot);
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// A connection is over.
    pub(super) fn forget(&mut self, id: ConnId) {
        for slot in self.by_connection.remove(&id).unwrap_or_default() {
            self.forget_watcher(id, slot);
        }
    }
}

impl Core {
    pub(super) fn handle_who(&mut self, id: ConnId, slot: u32, who: &Who<'_>) {
        let request = who.request;
        if self.policy.presence_private {
            let text = "this relay does not say who is online";
            return self.push_error(id, ErrorCode::PresencePrivate, request, text);
        }
        let unread = self.connections.get(id).map_or(0, |connection| connection.output.len());
        if unread > self.limits.output_bytes_max / 2 {
            return self.push_error(id, ErrorCode::Busy, request, "read the answers before asking for more");
        }
        let rate = per_minute(self.limits.lookups_per_name_minute);
        if !self.may_ask(id, request, Act::Lookup(slot), rate) {
            return;
        }
        match who.about {
            About::Everybody { from } => self.answer_everybody(id, slot, request, from),
            About::Names(watch, names) => {
                if watch == Watch::Yes
                    && let Err((code, text)) = self.watch(id, slot, &names)
                {
                    return self.push_error(id, code, request, text);
                }
                let states: Vec<_> =
                    names.iter().map(|name| (self.state_of_name(slot, &name), name)).collect();
                if watch == Watch::NoMore {
                    for watched in names.iter().filter_map(|name| self.users.registered_slot_of(&name)) {
                        self.watches.remove(id, watched);
                    }
                }
                self.push_presence(id, request, 0, &states);
            }
        }
    }

    fn answer_everybody(&mut self, id: ConnId, slot: u32, request: u32, from: u32) {
        let (slots, mut states) = (self.users.slots(), Vec::new());
        let end = slots.min(from.saturating_add(SLOTS_PER_ANSWER));
        let mut next = from;
        while next < end && states.len() < PRESENCE_COUNT_MAX {
            if let Some(name) = self.users.at(next).filter(|user| user.registered).map(|user| user.name) {
                states.push((self.state_of_slot(slot, next), name));
            }
            next += 1;
        }
        self.push_presence(id, request, if next < slots { next } else { 0 }, &states);
    }

    /// Watches all of these names, or none more than before.
    fn watch(&mut self, id: ConnId, asker: u32, names: &Names<'_>) -> Result<(), (ErrorCode, &'static str)> {
        let mut new: Vec<u32> = names
            .iter()
            .filter_map(|name| self.users.registered_slot_of(&name))
            .filter(|slot| !self.watches.is_watching(id, *slot))
            .collect();
        new.sort_unstable();
        new.dedup();
        if self.watches.count_of(id) + new.len() > WATCHES_MAX {
            return Err((ErrorCode::WatchesFull, "this connection watches as many names as it may"));
        }
        let is_full = |slot: &u32| {
            self.watches.by_slot.get(slot).is_some_and(|watched| watched.watchers.len() >= WATCHERS_MAX)
        };
        if self.watches.count + new.len() > self.limits.watches_in_all_max || new.iter().any(is_full) {
            return Err((ErrorCode::Busy, "too many connections watch one of these names"));
        }
        for slot in new {
            let state = self.state_of_slot(asker, slot);
            self.watches.add(id, slot, state);
        }
        Ok(())
    }

    fn state_of_name(&mut self, asker: u32, name: &Name) -> State {
        self.users.registered_slot_of(name).map_or(State::Nobody, |slot| self.state_of_slot(asker, slot))
    }

    /// As `asker` may know it.
    fn state_of_slot(&mut self, asker: u32, slot: u32) -> State {
        let is_hidden = self.blocks.holds(slot, asker);
        match self.users.at(slot).filter(|user| user.registered) {
            None => State::Nobody,
            Some(user) if user.receiver.is_some() && !is_hidden => State::Online,
            Some(_) => State::Offline,
        }
    }

    fn push_presence(&mut self, id: ConnId, request: u32, next: u32, states: &[(State, Name)]) {
        if self.watches.count_of(id) > 0 {
            for (state, name) in states {
                if let Some(slot) = self.users.slot_of(name) {
                    self.watches.note_told(id, slot, *state);
                }
            }
        }
        let frame_bytes = HEAD_BYTES + STATE_BYTES * states.len();
        self.push(id, frame_bytes, |out| Presence::emit(out, request, next, states));
    }

    /// A name's state may have changed: those who watch it are told after a while, if it still has.
    pub(super) fn note_presence(&mut self, slot: u32) {
        let at_ms = self.now.monotonic_ms + self.limits.presence_settle_ms;
        if let Some(watched) = self.watches.by_slot.get_mut(&slot)
            && !std::mem::replace(&mut watched.timer_set, true)
        {
            self.timers.set(at_ms, Timer::Presence(slot));
        }
    }

    /// Tells those who watch a name and were told another state last. Who leaves much unread is told later.
    pub(super) fn tell_presence(&mut self, slot: u32) {
        let Some(mut watched) = self.watches.by_slot.remove(&slot) else { return };
        watched.timer_set = false;
        let Some(name) = self.users.at(slot).map(|user| user.name) else { return };
        let mut is_behind = false;
        for (id, told) in &mut watched.watchers {
            let Some((asker, unread)) =
                self.connections.get(*id).and_then(|watcher| Some((watcher.slot()?, watcher.output.len())))
            else {
                continue;
            };
            let state = self.state_of_slot(asker, slot);
            if state == *told {
                continue;
            }
            if unread > self.limits.output_bytes_max / 2 {
                is_behind = true;
                continue;
            }
            *told = state;
            self.push_presence(*id, 0, 0, &[(state, name)]);
        }
        self.watches.by_slot.insert(slot, watched);
        if is_behind {
            self.note_presence(slot);
        }
    }

    /// A name is nobody's any more: who watched it is told at once, and does no longer.
    pub(super) fn tell_gone(&mut self, slot: u32, name: Name) {
        let Some(watched) = self.watches.by_slot.remove(&slot) else { return };
        self.watches.count -= watched.watchers.len();
        for (id, _) in watched.watchers {
            if let Some(slots) = self.watches.by_connection.get_mut(&id) {
                slots.retain(|other| *other != slot);
            }
            self.push_presence(id, 0, 0, &[(State::Nobody, name)]);
        }
    }
}
