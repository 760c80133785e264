//! What a user asks the relay about names: who is online, whom to block, and to remove one's own
//! (spec/wire.md, section 6).
//!
//! Owns: these requests and what comes of them. Nothing of them but a removal changes this home.

use e2e_protocol::ids::{Name, Uid};
use e2e_protocol::limits::WHO_COUNT_MAX;
use e2e_protocol::login::Removal;
use e2e_protocol::wire::people::{Block, Blocked, Presence, Remove, Removed, Watch, Who};

use super::directory::Question;
use super::event::{End, Event};
use super::{Engine, Turn};
use crate::state::StateError;

/// Most names that are asked for at once.
pub const NAMES_AT_ONCE_MAX: usize = WHO_COUNT_MAX as usize;

impl Engine {
    /// Asks who of these, 1 to [`NAMES_AT_ONCE_MAX`], is online. What comes of it is an [`Event::Presence`] or an
    /// [`Event::NotDone`].
    pub fn handle_who(&mut self, turn: &mut Turn<'_>, names: &[Name]) {
        let request = self.directory.open_request(Question::Who);
        turn.emit(|out| Who::emit(out, request, Watch::No, names));
    }

    /// Asks who is registered and who of them is online, from a place on: zero, or the last answer's `next`.
    pub fn handle_who_everybody(&mut self, turn: &mut Turn<'_>, from: u32) {
        let request = self.directory.open_request(Question::Who);
        turn.emit(|out| Who::emit_everybody(out, request, from));
    }

    /// Asks the relay to refuse what a name sends, or no longer. What comes of it is an [`Event::Blocked`] or an
    /// [`Event::NotDone`].
    pub fn handle_block(&mut self, turn: &mut Turn<'_>, name: Name, block: bool) {
        let request = self.directory.open_request(Question::Block);
        turn.emit(|out| Block { request, block, name }.emit(out));
    }

    /// Asks the relay to forget the own name. What comes of it is an [`Event::Removed`] or an [`Event::NotDone`].
    pub fn handle_remove(&mut self, turn: &mut Turn<'_>) {
        let Some(registered) = self.account.registered else { return };
        let removal = Removal {
            relay_id: &registered.relay_id,
            uid: self.welcome().map_or(Uid::NONE, |welcome| welcome.uid),
            name: &self.account.name,
            fingerprint: self.identity.fingerprint(),
        };
        let signature = self.identity.sign_removal(&removal, turn.rng);
        let request = self.directory.open_request(Question::Remove);
        turn.emit(|out| Remove { request, signature: &signature }.emit(out));
    }

    pub(super) fn handle_presence(&mut self, turn: &mut Turn<'_>, presence: &Presence<'_>) {
        if self.is_answer(turn, presence.request, Question::Who) {
            turn.event(Event::Presence { states: presence.iter().collect(), next: presence.next });
        }
    }

    pub(super) fn handle_blocked(&mut self, turn: &mut Turn<'_>, blocked: Blocked) {
        if self.is_answer(turn, blocked.request, Question::Block) {
            turn.event(Event::Blocked);
        }
    }

    /// The name is gone. The home keeps its keys and contacts, and can claim a name again; prekeys are made anew then,
    /// since the relay has none, and those made before open what still comes for them.
    pub(super) fn handle_removed(&mut self, turn: &mut Turn<'_>, removed: Removed) -> Result<(), StateError> {
        if self.is_answer(turn, removed.request, Question::Remove) {
            self.account.registered = None;
            self.account.store(&mut turn.state);
            turn.event(Event::Removed);
        }
        Ok(())
    }

    fn is_answer(&mut self, turn: &mut Turn<'_>, request: u32, to: Question) -> bool {
        let is_answer = self.close_request(turn, request, to);
        if !is_answer {
            turn.end(End::Protocol("the relay answers what was not asked".into()));
        }
        is_answer
    }
}
