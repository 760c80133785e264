//! The relay's directory: names, uids and bundles (spec/wire.md, section 6).
//!
//! Owns: which questions are asked and not answered yet, at most eight at a time, and the names of
//! senders that nothing is kept of. Must not know what is done with an answer: it goes to `dispatch`,
//! `mailbox` or `upkeep`.

use std::collections::{BTreeMap, VecDeque};

use e2e_protocol::e2e::{Bundle, OneTime};
use e2e_protocol::ids::{KeyId, Name, Uid};
use e2e_protocol::limits::REQUESTS_PENDING_MAX;
use e2e_protocol::wire::directory::{BundleParts, Entry, Lookup, Want, Whose};
use e2e_protocol::wire::roll::Rolls;
use e2e_protocol::wire::session::ErrorFrame;
use e2e_protocol::wire::{Code, ErrorCode};

use super::event::{End, Event};
use super::{Engine, Turn};
use crate::state::codec::{Reader, Writer};
use crate::state::{Key, StateError};

/// Most senders whose names are remembered though nothing of them could be opened; beyond it they
/// are forgotten and looked up again.
const STRANGERS_MAX: usize = 256;

/// At least so long until a question is asked again that the relay was too busy for, milliseconds.
const ASK_AGAIN_MS_MIN: u64 = 1_000;

/// Most questions that are asked once on a connection; beyond it none is asked.
const ASKED_ONCE_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Directory {
    last_request: u32,
    pending: BTreeMap<u32, Question>,
    waiting: VecDeque<Question>,
    /// Names of senders that are not contacts (yet); `None`: the relay knows no such uid.
    strangers: BTreeMap<Uid, Option<Name>>,
    /// Senders are not asked for before this time.
    quiet_until_ms: u64,
    /// What was asked on this connection because of something that anybody could have sent.
    asked_once: Vec<Question>,
}

/// What is asked, and on whose behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// A message is to be sent to this name.
    Recipient(Name, Want),
    /// A message came from this uid.
    Sender(Uid),
    /// What prekeys of our own are left.
    Own,
    /// Which keys did this name have?
    RollOvers(Name),
    /// Not a question: prekeys are published.
    Publish,
    /// Not a question: the own name is to move to another key.
    RollOver,
    /// Who is online?
    Who,
    /// Not a question: a name is to be blocked, or no longer.
    Block,
    /// Not a question: the own name is to be removed.
    Remove,
}

/// What a uid stands for.
pub(super) enum Resolved {
    Name(Name),
    /// Nobody (any more).
    Gone,
    /// It will be known later.
    Asked,
}

impl Directory {
    /// The connection is gone, and with it all questions.
    pub(super) fn reset(&mut self) {
        self.pending.clear();
        self.waiting.clear();
        self.quiet_until_ms = 0;
        self.asked_once.clear();
    }

    fn is_asked(&self, question: &Question) -> bool {
        self.pending.values().chain(&self.waiting).any(|asked| asked == question)
    }

    /// A request's number, for what is sent at once.
    pub(super) fn open_request(&mut self, question: Question) -> u32 {
        self.last_request = self.last_request.checked_add(1).unwrap_or(1);
        self.pending.insert(self.last_request, question);
        self.last_request
    }

    fn remember_stranger(&mut self, uid: Uid, name: Option<Name>) {
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.clear();
        }
        self.strangers.insert(uid, name);
    }

    /// When senders may be asked for again, if they may not now.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        (self.quiet_until_ms > 0).then_some(self.quiet_until_ms)
    }

    pub(super) fn end_quiet(&mut self, now_ms: u64) {
        if self.quiet_until_ms <= now_ms {
            self.quiet_until_ms = 0;
        }
    }
}

impl Engine {
    /// Asks the relay, unless the same was asked already.
    pub(super) fn ask(&mut self, turn: &mut Turn<'_>, question: Question) {
        if !self.directory.is_asked(&question) {
            self.directory.waiting.push_back(question);
            self.ask_waiting(turn);
        }
    }

    /// The same, but no more than once on a connection.
    /// False if it was asked before, and answered.
    pub(super) fn ask_once(&mut self, turn: &mut Turn<'_>, question: Question) -> bool {
        if self.directory.asked_once.contains(&question) {
            return self.directory.is_asked(&question);
        }
        if self.directory.asked_once.len() >= ASKED_ONCE_MAX {
            return false;
        }
        self.directory.asked_once.push(question);
        self.ask(turn, question);
        true
    }

    fn ask_waiting(&mut self, turn: &mut Turn<'_>) {
        while self.directory.pending.len() < usize::from(REQUESTS_PENDING_MAX)
            && let Some(question) = self.directory.waiting.pop_front()
        {
            let (whose, want) = match question {
                Question::Recipient(name, want) => (Whose::Name(name), want),
                Question::Sender(uid) => (Whose::Uid(uid), Want::Address),
                Question::Own => (Whose::Name(self.account.name), Want::Bundle),
                Question::RollOvers(name) => (Whose::Name(name), Want::RollOvers),
                // These are sent at once.
                Question::Publish
                | Question::RollOver
                | Question::Who
                | Question::Block
                | Question::Remove => continue,
            };
            let request = self.directory.open_request(question);
            turn.emit(|out| Lookup { request, want, whose }.emit(out));
        }
    }

    /// The name of a sender.
    pub(super) fn resolve_sender(&mut self, turn: &mut Turn<'_>, uid: Uid) -> Result<Resolved, StateError> {
        if let Some(name) = turn.name_of(uid)? {
            return Ok(Resolved::Name(name));
        }
        match self.directory.strangers.get(&uid) {
            Some(Some(name)) => Ok(Resolved::Name(*name)),
            Some(None) => Ok(Resolved::Gone),
            None => {
                if self.directory.quiet_until_ms <= turn.now_ms {
                    self.ask(turn, Question::Sender(uid));
                }
                Ok(Resolved::Asked)
            }
        }
    }

    pub(super) fn handle_entry(&mut self, turn: &mut Turn<'_>, entry: &Entry<'_>) -> Result<(), StateError> {
        let Some(question) = self.directory.pending.remove(&entry.request) else {
            turn.end(End::Protocol("the relay answers what was not asked".into()));
            return Ok(());
        };
        self.ask_waiting(turn);
        let fits = entry.uid != Uid::NONE
            && match question {
                Question::Recipient(name, want) => {
                    entry.name == name && entry.bundle.is_some() == (want != Want::Address)
                }
                Question::Sender(uid) => entry.uid == uid,
                Question::Own => entry.name == self.account.name,
                _ => false,
            };
        if !fits {
            turn.end(End::Protocol("the relay's answer is not to what was asked".into()));
            return Ok(());
        }
        match question {
            Question::Recipient(name, _) => self.handle_recipient(turn, &name, entry),
            Question::Sender(uid) => {
                self.directory.remember_stranger(uid, Some(entry.name));
                self.advance_mailbox(turn)
            }
            _ => self.handle_own_entry(turn, entry),
        }
    }

    pub(super) fn handle_request_failed(
        &mut self,
        turn: &mut Turn<'_>,
        error: &ErrorFrame<'_>,
    ) -> Result<(), StateError> {
        let Some(question) = self.directory.pending.remove(&error.request) else {
            log::warn!("the relay says {}: {}", error.code, error.text);
            return Ok(());
        };
        self.ask_waiting(turn);
        let retry_after_ms = u64::from(error.retry_after_seconds) * 1_000;
        match question {
            Question::Recipient(name, _) => self.handle_no_recipient(turn, &name, error.code, retry_after_ms),
            Question::Sender(uid) => {
                if error.code == Code::from(ErrorCode::UnknownName) {
                    self.directory.remember_stranger(uid, None);
                } else {
                    let pause_ms = retry_after_ms.max(ASK_AGAIN_MS_MIN);
                    self.directory.quiet_until_ms = turn.now_ms.saturating_add(pause_ms);
                }
                self.advance_mailbox(turn)
            }
            Question::Own if error.code == Code::from(ErrorCode::NoBundle) => {
                self.plan_prekeys(turn, KeyId::ZERO, 0)
            }
            Question::Own => Ok(()),
            Question::RollOvers(name) => self.handle_no_rolls(turn, name, error.code),
            Question::RollOver => {
                turn.event(Event::NotRolledOver(error.code));
                Ok(())
            }
            Question::Who | Question::Block | Question::Remove => {
                turn.event(Event::NotDone(error.code));
                Ok(())
            }
            Question::Publish => {
                self.upkeep.published(turn.now_ms);
                turn.event(Event::NotPublished(error.code));
                Ok(())
            }
        }
    }

    /// Closes the request that was opened for something else than a question. False if there is none such.
    pub(super) fn close_request(&mut self, turn: &mut Turn<'_>, request: u32, opened_for: Question) -> bool {
        let closed = self.directory.pending.remove(&request) == Some(opened_for);
        self.ask_waiting(turn);
        closed
    }

    pub(super) fn handle_rolls_answer(
        &mut self,
        turn: &mut Turn<'_>,
        rolls: &Rolls<'_>,
    ) -> Result<(), StateError> {
        let question = self.directory.pending.remove(&rolls.request);
        self.ask_waiting(turn);
        match question {
            Some(Question::RollOvers(name)) => self.handle_rolls(turn, name, rolls),
            _ => {
                turn.end(End::Protocol("the relay answers what was not asked".into()));
                Ok(())
            }
        }
    }
}

impl Turn<'_> {
    /// The contact with this uid.
    fn name_of(&self, uid: Uid) -> Result<Option<Name>, StateError> {
        let key = Key::Uid(uid);
        let Some(content) = self.state.read(&key)? else { return Ok(None) };
        let mut reader = Reader::new(&content);
        let name = reader.name().and_then(|name| reader.end(name));
        name.map(Some).ok_or_else(|| StateError::corrupt(&key))
    }

    /// Keeps what a contact is called at the relay. Where it is sent to changes only by an answer to a
    /// question for its name.
    pub(super) fn remember_uid(&mut self, name: &Name, uid: Uid) -> Result<(), StateError> {
        if self.name_of(uid)? != Some(*name) {
            let mut out = Writer::with_capacity(40);
            out.name(name);
            self.state.write(Key::Uid(uid), out.finish());
        }
        let known = &mut self.peer(name)?.0.uid;
        if *known == Uid::NONE {
            *known = uid;
        }
        Ok(())
    }
}

/// The same bundle, as the end-to-end layer wants it.
pub(super) fn bundle<'a>(parts: &BundleParts<'a>) -> Bundle<'a> {
    Bundle {
        identity: parts.identity_key,
        spk: parts.signed_prekey.modulus,
        made_ms: parts.signed_prekey.made_ms,
        profile: parts.signed_prekey.profile,
        signature: parts.signed_prekey.signature,
        one_time: parts.one_time.map(|one_time| OneTime {
            modulus: one_time.modulus,
            hashes: one_time.hashes,
            signature: one_time.signature,
        }),
    }
}
