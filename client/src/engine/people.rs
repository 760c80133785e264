//! Whose key it is: what is done when the directory shows another key for a contact, and moving one's own
//! name to a new one (spec/crypto.md, "People").
//!
//! Owns: asking for a name's roll-overs and following them, acceptance by the user, and the order of one's
//! own roll-over. Which keys are pinned is the end-to-end layer's.

use e2e_protocol::e2e::{Identity, ShownKey};
use e2e_protocol::ids::{Fingerprint, Modulus, Name, Uid};
use e2e_protocol::login::{RollOver, fingerprint, verify_roll_over};
use e2e_protocol::wire::Code;
use e2e_protocol::wire::roll::{self, Roll, Rolled, Rolls};

use super::directory::Question;
use super::event::{End, Event, KeyNews};
use super::{Engine, Stage, Turn};
use crate::state::account::Registered;
use crate::state::{Folder, Key, OutboxItem, StateError};

impl Engine {
    /// The user says that the key that was shown for a contact is theirs: pins it, if the directory still
    /// shows it. What came of it is an [`Event::Key`].
    pub fn handle_accept(&mut self, turn: &mut Turn<'_>, name: Name) {
        self.accepting = Some(name);
        self.ask(turn, Question::RollOvers(name));
    }

    /// The directory shows another key for a contact. If a roll-over may lead to it, that is asked for; true
    /// if it was answered on this connection already, and did not.
    pub(super) fn is_changed_for_good(&mut self, turn: &mut Turn<'_>, name: Name) -> bool {
        !self.ask_once(turn, Question::RollOvers(name))
    }

    /// The keys that a name ever had, as far as the relay tells.
    pub(super) fn handle_rolls(
        &mut self,
        turn: &mut Turn<'_>,
        name: Name,
        rolls: &Rolls<'_>,
    ) -> Result<(), StateError> {
        let accepted = self.accepting.take_if(|accepting| *accepting == name).is_some();
        let item = turn.peer(&name)?.0;
        let Some(pinned) = item.peer.pin() else { return self.after_key(turn, name) };
        let current = rolls.iter().last().map_or(rolls.oldest, |last| last.identity_key);
        let shown = fingerprint(current);
        let was_shown = item.peer.changed() == Some(shown);
        let news = if item.peer.key_shown(shown) == ShownKey::Pinned {
            accepted.then_some(KeyNews::Unchanged)
        } else if leads_from(&name, pinned, rolls) {
            Some(KeyNews::RolledOver { shown })
        } else if accepted && was_shown {
            Some(KeyNews::Accepted { shown })
        } else {
            accepted.then_some(KeyNews::Changed { pinned, shown })
        };
        if let Some(KeyNews::RolledOver { .. } | KeyNews::Accepted { .. }) = news {
            item.peer.repin(current);
            // The old uid is nobody's any more.
            item.uid = Uid::NONE;
            self.encrypt_anew(turn, name)?;
        }
        if let Some(news) = news {
            turn.event(Event::Key { name, news });
        }
        self.after_key(turn, name)
    }

    /// The directory has no answer about a name's keys.
    pub(super) fn handle_no_rolls(
        &mut self,
        turn: &mut Turn<'_>,
        name: Name,
        code: Code,
    ) -> Result<(), StateError> {
        if self.accepting.take_if(|accepting| *accepting == name).is_some() {
            turn.event(Event::Key { name, news: KeyNews::Unknown(code) });
        }
        self.after_key(turn, name)
    }

    /// What waited for an answer about a contact's key goes on.
    fn after_key(&mut self, turn: &mut Turn<'_>, name: Name) -> Result<(), StateError> {
        self.retry_recipient(turn, &name)?;
        self.advance_mailbox(turn)
    }

    /// What was encrypted for the former key of a contact is of no use to anybody.
    fn encrypt_anew(&self, turn: &mut Turn<'_>, name: Name) -> Result<(), StateError> {
        for key in turn.state.list(Folder::Outbox)? {
            if let Some(mut item) = OutboxItem::load(&turn.state, &key)?
                && item.to == name
            {
                item.sealed = None;
                item.stored = false;
                item.store(&mut turn.state, key);
            }
        }
        Ok(())
    }

    /// Asks the relay to give the own name to the next identity. What came of it is an
    /// [`Event::RolledOver`] or an [`Event::NotRolledOver`].
    ///
    /// # Errors
    /// [`StateError`] if the state can't be used.
    pub fn handle_roll_over(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        let Some(next) = turn.next_identity()? else { return Ok(()) };
        let roll_over = RollOver {
            name: &self.account.name,
            former: self.identity.fingerprint(),
            fingerprint: next.fingerprint(),
            time_ms: turn.now_ms,
        };
        let former_signature = self.identity.sign_roll_over(&roll_over, turn.rng);
        let signature = next.sign_roll_over(&roll_over, turn.rng);
        let request = self.directory.open_request(Question::RollOver);
        let roll_over = roll::RollOver {
            time_ms: roll_over.time_ms,
            identity_key: next.modulus(),
            former_signature: &former_signature,
            signature: &signature,
        };
        turn.emit(|out| Roll { request, roll_over }.emit(out));
        Ok(())
    }

    pub(super) fn handle_rolled(&mut self, turn: &mut Turn<'_>, rolled: &Rolled) -> Result<(), StateError> {
        if !self.close_request(turn, rolled.request, Question::RollOver) {
            turn.end(End::Protocol("the relay rolled over what was not asked".into()));
            return Ok(());
        }
        self.become_next(turn, rolled.uid)
    }

    /// Whether the name belongs to the next identity already: that one logged in.
    ///
    /// # Errors
    /// [`StateError`] if the state can't be used.
    pub fn finish_roll_over(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        match &self.stage {
            Stage::Ready(welcome) => {
                let uid = welcome.uid;
                self.become_next(turn, uid)
            }
            Stage::Closed | Stage::Greeted | Stage::Proven(_) => Ok(()),
        }
    }

    /// The name is the next identity's: in one commit that becomes the identity, and everything that was bound
    /// to the former goes. Messages on their way are encrypted anew.
    fn become_next(&mut self, turn: &mut Turn<'_>, uid: Uid) -> Result<(), StateError> {
        let Some(next) = turn.next_identity()? else { return Ok(()) };
        if let Some(Registered { relay_id, .. }) = self.account.registered {
            self.account.registered = Some(Registered { relay_id, uid });
            self.account.store(&mut turn.state);
        }
        turn.state.write(Key::Identity, next.encode());
        turn.state.remove(Key::NextIdentity);
        turn.forget_prekeys();
        for key in turn.state.list(Folder::Peers)? {
            if let Key::Peer(name) = key {
                turn.peer(&name)?.0.peer.forget_sessions();
                self.encrypt_anew(turn, name)?;
            }
        }
        turn.event(Event::RolledOver { fingerprint: *next.fingerprint() });
        self.identity = next;
        Ok(())
    }
}

/// Whether a row of roll-overs leads from the pinned key to the last one, each signed by the key before and
/// its own, and each later than the one before.
fn leads_from(name: &Name, pinned: Fingerprint, rolls: &Rolls<'_>) -> bool {
    let mut former: &Modulus = rolls.oldest;
    // A name may come back to a key that it had: the last time counts.
    let mut is_on_the_way = fingerprint(former) == pinned;
    let mut last_ms = 0;
    for roll in rolls.iter() {
        let roll::RollOver { time_ms, identity_key, former_signature, signature } = roll;
        let verified = verify_roll_over(name, former, identity_key, time_ms, former_signature, signature);
        let follows = time_ms > last_ms && verified.is_ok();
        is_on_the_way = (is_on_the_way && follows) || fingerprint(identity_key) == pinned;
        (former, last_ms) = (identity_key, time_ms);
    }
    is_on_the_way
}

impl Turn<'_> {
    /// The identity key that the name is to move to, if it was made.
    ///
    /// # Errors
    /// [`StateError`] if it can't be read.
    pub fn next_identity(&self) -> Result<Option<Identity>, StateError> {
        let Some(content) = self.state.read(&Key::NextIdentity)? else { return Ok(None) };
        Identity::decode(&content).map(Some).map_err(|_| StateError::corrupt(&Key::NextIdentity))
    }

    /// Makes it: some 60 milliseconds.
    pub fn make_next_identity(&mut self) {
        let identity = Identity::generate(self.rng);
        self.state.write(Key::NextIdentity, identity.encode());
    }
}
