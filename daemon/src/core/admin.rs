//! What the relay's administrator may do to it while it runs.
//!
//! Owns: looking at names, ending their connections, taking a name from its owner, making and taking back registration tokens. What
//! has to be stored first is answered later ([`Core::poll_answer`]). Must not know how the administrator is asked.
//!
//! A name that is removed gets nothing new from then on, and its connections end. What waits in its mailbox expires: who sent it is
//! told so, as far as EXPIRED is told at all. When the mailbox is empty, the name goes as if its owner had removed it (`ownership`).

use e2e_protocol::ids::Name;
use e2e_protocol::wire::ErrorCode;

use super::{Action, Core};
use crate::store::limits::TOKEN_LABEL_BYTES_MAX;
use crate::store::{Request, StoreErrorKind, StoredToken};

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameState {
    /// The name.
    pub name: Name,
    /// How many connections it has.
    pub connections: u8,
    /// Whether one of them receives.
    pub receives: bool,
    /// Frames in its mailbox, and their bytes.
    pub messages: u64,
    /// See above.
    pub bytes: u64,
    /// Bytes of messages that it sent and that wait in others' mailboxes.
    pub sent_bytes: u64,
    /// One-time prekeys that can still be handed out.
    pub prekeys_left: u8,
}

/// What came of something that was put off. The number is what was returned when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name is nobody's.
    Removed(u64),
    /// The token is good.
    TokenMade(u64, StoredToken),
    /// The token is good no more.
    TokenRevoked(u64),
    /// The disk failed; nothing has changed, as far as is known.
    Failed(u64),
}

/// A change of a token on its way to the disk.
#[derive(Debug)]
pub(super) enum TokenChange {
    Made(StoredToken),
    Revoked(StoredToken),
    /// It was good for one name, which is being claimed, or goes back where that failed: nobody waits for it.
    Unasked,
}

const NO_SUCH_NAME: &str = "nobody has this name";
const STORE_FAILS: &str = "the disk fails at the moment";

impl Core {
    /// What is known of the registered names from this slot on, at most `count` of them, and the slot to go on with.
    #[must_use]
    pub fn names_from(&mut self, slot: u32, count: usize) -> (Vec<NameState>, Option<u32>) {
        let mut states = Vec::new();
        for slot in slot..self.users.slots() {
            if states.len() == count {
                return (states, Some(slot));
            }
            states.extend(self.state_of(slot));
        }
        (states, None)
    }

    /// What is known of a name.
    #[must_use]
    pub fn name_state(&mut self, name: &Name) -> Option<NameState> {
        let slot = self.users.registered_slot_of(name)?;
        self.state_of(slot)
    }

    fn state_of(&mut self, slot: u32) -> Option<NameState> {
        let user = self.users.at(slot).filter(|user| user.registered)?;
        let (messages, bytes) = user.mailbox().map_or((0, 0), |mailbox| (mailbox.messages, mailbox.bytes));
        Some(NameState {
            name: user.name,
            connections: user.connections,
            receives: user.receiver.is_some(),
            messages,
            bytes,
            sent_bytes: user.waiting_bytes,
            prekeys_left: user.prekeys.one_time_left,
        })
    }

    /// Ends a name's connections, which may come back; returns how many there were.
    ///
    /// # Errors
    /// Why not.
    pub fn disconnect(&mut self, name: &Name) -> Result<usize, &'static str> {
        let slot = self.users.registered_slot_of(name).ok_or(NO_SUCH_NAME)?;
        Ok(self.end_all(slot, ErrorCode::Restarting, "the relay's administrator ended this connection"))
    }

    /// Takes a name from its owner. Answer: [`Answer::Removed`] or [`Answer::Failed`], with the number that is returned.
    ///
    /// # Errors
    /// Why not.
    pub fn remove_name(&mut self, name: &Name) -> Result<u64, &'static str> {
        let slot = self.users.registered_slot_of(name).ok_or(NO_SUCH_NAME)?;
        if self.store_is_failing() {
            return Err(STORE_FAILS);
        }
        let token = self.token();
        if !self.begin_emptying(slot, token) {
            return Err("the name is changing hands: try again later");
        }
        self.end_all(slot, ErrorCode::NameRemoved, "the relay's administrator removed the name");
        self.touch(slot);
        Ok(token)
    }

    /// The tokens that the relay has made.
    #[must_use]
    pub fn tokens(&self) -> &[StoredToken] {
        self.tokens.all()
    }

    /// Makes a token. Answer: [`Answer::TokenMade`] or [`Answer::Failed`], with the number that is returned.
    ///
    /// # Errors
    /// Why not.
    pub fn make_token(&mut self, once: bool, label: &str) -> Result<u64, &'static str> {
        if label.len() > TOKEN_LABEL_BYTES_MAX || label.chars().any(char::is_control) {
            return Err("a label has 64 bytes at most, and no control characters");
        }
        if !self.takes_new() {
            return Err(STORE_FAILS);
        }
        let under_way = self.token_changes.values().any(|change| matches!(change, TokenChange::Made(_)));
        if self.tokens.is_full() {
            return Err("there are as many tokens as may be: revoke some");
        }
        if under_way {
            return Err("another token is being made: try again");
        }
        let made = self.new_token(once, label);
        Ok(self.change_token(Request::put_token(&made), TokenChange::Made(made)))
    }

    /// Takes a token back: no name can be claimed with it from now on. Answer: [`Answer::TokenRevoked`] or [`Answer::Failed`], with the
    /// number that is returned.
    ///
    /// # Errors
    /// Why not.
    pub fn revoke_token(&mut self, number: u32) -> Result<u64, &'static str> {
        if self.store_is_failing() {
            return Err(STORE_FAILS);
        }
        let revoked = self.tokens.take(number).ok_or("there is no token with this number")?;
        Ok(self.change_token(Request::drop_token(number), TokenChange::Revoked(revoked)))
    }

    /// A token that is good for one name is used up.
    pub(super) fn spend_token(&mut self, number: u32) -> Option<StoredToken> {
        let spent = self.tokens.take(number)?;
        self.change_token(Request::drop_token(number), TokenChange::Unasked);
        Some(spent)
    }

    /// The name for which a token was spent was not claimed.
    pub(super) fn return_token(&mut self, token: StoredToken) {
        self.change_token(Request::put_token(&token), TokenChange::Unasked);
        self.tokens.put(token);
    }

    fn change_token(&mut self, request: impl FnOnce(u64) -> Request, change: TokenChange) -> u64 {
        let asked = self.token();
        self.token_changes.insert(asked, change);
        self.actions.push_back(Action::Store(request(asked)));
        asked
    }

    pub(super) fn handle_token_changed(&mut self, asked: u64, result: Result<(), StoreErrorKind>) {
        let Some(change) = self.token_changes.remove(&asked) else { return };
        if let Err(error) = result {
            log::error!("a registration token could not be stored: {error}");
            self.store_failed();
        }
        match (change, result) {
            (TokenChange::Made(token), Ok(())) => {
                log::info!("registration token {} was made", token.number);
                self.tokens.put(token.clone());
                self.answers.push_back(Answer::TokenMade(asked, token));
            }
            (TokenChange::Revoked(token), Ok(())) => {
                log::info!("registration token {} was revoked", token.number);
                self.answers.push_back(Answer::TokenRevoked(asked));
            }
            // What may be on the disk still must not look as if it were not.
            (TokenChange::Revoked(token), Err(_)) => {
                self.tokens.put(token);
                self.answers.push_back(Answer::Failed(asked));
            }
            (TokenChange::Made(_), Err(_)) => self.answers.push_back(Answer::Failed(asked)),
            (TokenChange::Unasked, _) => {}
        }
    }

    /// What came of something that was put off.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }
}
