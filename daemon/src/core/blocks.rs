//! BLOCK: whom a user takes no messages from (spec/wire.md, section 6).
//!
//! Owns: the pairs, and their way to the disk. Must not know what a block is good for: `send`, `directory` and
//! `presence` ask.

use std::collections::{BTreeSet, HashMap};

use e2e_protocol::limits::{BLOCKS_MAX, HEADER_BYTES};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::people::{Block, Blocked};

use super::rates::{Act, per_hour};
use super::{Action, ConnId, Core};
use crate::store::{Request, StoreErrorKind};

/// Who has blocked whom, by slots: a block outlives roll-overs, and ends with either name.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// (blocked, blocker).
    pairs: BTreeSet<(u32, u32)>,
    /// How many each one blocks; nobody with none.
    counts: HashMap<u32, usize>,
}

impl Blocks {
    pub(super) fn new(pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut blocks = Self::default();
        for (blocker, blocked) in pairs {
            blocks.set(blocker, blocked, true);
        }
        blocks
    }

    /// Whether `blocker` has blocked `other`.
    pub(super) fn holds(&self, blocker: u32, other: u32) -> bool {
        // Where nobody blocks, which is nearly everywhere, this costs nothing.
        !self.pairs.is_empty() && self.pairs.contains(&(other, blocker))
    }

    fn count(&self, blocker: u32) -> usize {
        self.counts.get(&blocker).copied().unwrap_or(0)
    }

    fn set(&mut self, blocker: u32, blocked: u32, block: bool) {
        if block && self.pairs.insert((blocked, blocker)) {
            *self.counts.entry(blocker).or_default() += 1;
        } else if !block && self.pairs.remove(&(blocked, blocker)) {
            match self.counts.get_mut(&blocker) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.counts.remove(&blocker)),
            }
        }
    }

    fn blockers(&self, blocked: u32) -> Vec<u32> {
        self.pairs.range((blocked, 0)..=(blocked, u32::MAX)).map(|(_, blocker)| *blocker).collect()
    }

    /// Forgets all blocks by and of a name that is gone.
    fn forget(&mut self, slot: u32) {
        for blocker in self.blockers(slot) {
            self.set(blocker, slot, false);
        }
        if self.counts.remove(&slot).is_some() {
            self.pairs.retain(|(_, blocker)| *blocker != slot);
        }
    }
}

/// A block on its way to the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocking {
    pub(super) blocker: u32,
    pub(super) blocked: u32,
    pub(super) block: bool,
}

impl Core {
    pub(super) fn handle_block(&mut self, id: ConnId, slot: u32, asked: Block) {
        let Block { request, block, name } = asked;
        let rate = per_hour(self.limits.blocks_per_name_hour);
        if !self.may_ask(id, request, Act::Block(slot), rate) {
            return;
        }
        let other = self.users.registered_slot_of(&name);
        let refused = match other {
            None => Some((ErrorCode::UnknownName, "nobody has this name")),
            Some(other)
                if block
                    && !self.blocks.holds(slot, other)
                    && (self.is_full(slot) || self.blocks.pairs.len() >= self.limits.blocks_in_all_max) =>
            {
                Some((ErrorCode::BlocksFull, "as many names are blocked as may be"))
            }
            Some(_) if self.store_is_failing() => Some((ErrorCode::StoreFailed, "the relay's disk failed")),
            Some(_) if self.is_changing_hands(slot) => Some((ErrorCode::Busy, "the name is changing hands")),
            Some(_) => None,
        };
        if let Some((code, text)) = refused {
            return self.push_error(id, code, request, text);
        }
        let Some(blocked) = other else { return };
        if blocked == slot {
            // Nobody is kept from writing to themselves.
            let answer = Blocked { request, block };
            return self.push(id, HEADER_BYTES + 8, |out| answer.emit(out));
        }
        let uid = self.uid(slot);
        if let Some(token) = self.ask(id, request, uid) {
            self.blocking.insert(token, Blocking { blocker: slot, blocked, block });
            self.actions.push_back(Action::Store(Request::Block { slot, other: blocked, block, token }));
        }
    }

    /// Who blocks this one, or is about to.
    pub(super) fn blockers(&self, slot: u32) -> Vec<u32> {
        let on_their_way = self.blocking.values().filter(|blocking| blocking.blocked == slot);
        let mut blockers = self.blocks.blockers(slot);
        blockers.extend(on_their_way.map(|blocking| blocking.blocker));
        blockers
    }

    /// A name is gone, and with it all blocks by and of it.
    pub(super) fn forget_blocks(&mut self, slot: u32) {
        self.blocks.forget(slot);
        self.blocking.retain(|_, blocking| blocking.blocker != slot && blocking.blocked != slot);
    }

    /// Whether one more block, those on their way counted, would be too many.
    fn is_full(&self, slot: u32) -> bool {
        let on_their_way =
            self.blocking.values().filter(|blocking| blocking.blocker == slot && blocking.block).count();
        self.blocks.count(slot) + on_their_way >= BLOCKS_MAX
    }

    pub(super) fn handle_blocked(&mut self, token: u64, result: Result<(), StoreErrorKind>) {
        // Not there: one of the two names is gone since.
        let Some(Blocking { blocker, blocked, block }) = self.blocking.remove(&token) else {
            if let Some((id, request)) = self.answered(token) {
                self.push_error(id, ErrorCode::UnknownName, request, "nobody has this name any more");
            }
            return;
        };
        if result.is_ok() {
            self.blocks.set(blocker, blocked, block);
            self.note_presence(blocker);
        }
        let Some((id, request)) = self.answered(token) else { return };
        match result {
            Ok(()) => {
                let answer = Blocked { request, block };
                self.push(id, HEADER_BYTES + 8, |out| answer.emit(out));
            }
            Err(error) => self.store_error(id, request, error),
        }
    }
}
