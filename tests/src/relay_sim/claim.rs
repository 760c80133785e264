//! Names that several keys want: whoever was told WELCOME has the name, whatever the relay and its disk go through.
//!
//! Owns: who asks for which name with which key, what they are told, and that no name ever has two keys (spec/wire.md,
//! section 4). Must not know messages: who has claimed a name here asks for its own address, and leaves.

use e2e_protocol::ids::Uid;
use e2e_protocol::limits::{BODY_BYTES_MAX, HEADER_BYTES};
use e2e_protocol::wire::directory::{Lookup, Want, Whose};
use e2e_protocol::wire::session::{ErrorFrame, Purpose, Receive, Welcome, emit_ping};
use e2e_protocol::wire::{ErrorCode, Frame, FrameType};

use super::link::{Fate, Phase};
use super::world::World;
use super::{LinkIndex, SECOND_MS, Who, keys};

/// What is known of a name that is wanted.
#[derive(Default)]
pub(super) struct Claim {
    /// The key that was told WELCOME, and what the relay called it.
    owner: Option<(usize, Uid)>,
    /// The keys that asked for the name.
    asked: [bool; keys::KEYS_EACH],
}

/// Which of the wanted names it is.
fn claim_of(who: Who) -> usize {
    who - keys::USERS_MAX
}

impl World {
    /// Somebody asks for a name that nobody of the users has.
    pub(super) fn claim(&mut self) {
        if self.host.core.is_none() || self.is_stopping {
            return;
        }
        let (name, key) = (self.dice.index(self.claims.len()), self.dice.index(keys::KEYS_EACH));
        let purpose = if self.dice.per_mille(750) { Purpose::Register } else { Purpose::Login };
        self.ask_for_name(name, key, purpose);
    }

    fn ask_for_name(&mut self, name: usize, key: usize, purpose: Purpose) {
        self.connect_as(keys::USERS_MAX + name, key, purpose, Receive::No);
    }

    /// A PROOF is about to be sent.
    pub(super) fn note_claim(&mut self, index: LinkIndex) {
        let link = &mut self.links.all[index];
        let claim = &mut self.claims[claim_of(link.who)];
        claim.asked[link.key] |= link.purpose == Purpose::Register;
        link.owned_before = claim.owner.is_some_and(|(key, _)| key == link.key);
    }

    /// What the relay says to who wants a name.
    pub(super) fn hear_claim(&mut self, index: LinkIndex, frame: Frame<'_>) {
        let phase = self.links.all[index].phase;
        match (phase, frame) {
            (_, Frame::Error(error)) => self.take_claim_error(index, &error),
            (Phase::Greeting, Frame::Challenge(challenge)) => self.prove(index, &challenge),
            (Phase::Proving, Frame::Welcome(welcome)) => self.take_claimed(index, &welcome),
            (Phase::Ready, Frame::Ping(opaque)) => {
                let link = &mut self.links.all[index];
                link.put(HEADER_BYTES + 8, |out| emit_ping(out, FrameType::Pong, opaque));
            }
            (Phase::Ready, Frame::Entry(entry)) => {
                let link = &self.links.all[index];
                let identity = keys::identity(link.who, link.key);
                if (entry.uid, entry.fingerprint) != (link.uid, *identity.fingerprint()) {
                    self.ledger.violation(format!("link {index} is somebody else: {entry:?}"));
                }
            }
            (phase, frame) => {
                self.ledger
                    .violation(format!("link {index} is {phase:?}, wants a name, and hears {frame:?}"));
            }
        }
    }

    fn take_claimed(&mut self, index: LinkIndex, welcome: &Welcome) {
        let link = &mut self.links.all[index];
        (link.phase, link.uid) = (Phase::Ready, welcome.uid);
        let (who, key, uid) = (link.who, link.key, welcome.uid);
        let claim = &mut self.claims[claim_of(who)];
        self.ledger.note(self.now_ms, || format!("link {index}: key {key} has the name {who}, {uid:?}"));
        let told = match claim.owner {
            Some(owner) if owner != (key, uid) => Some(format!("{who} is key {key}, {uid:?}, and {owner:?}")),
            None if !claim.asked[key] => Some(format!("{who} is key {key}, which did not ask for it")),
            Some(_) => None,
            None => {
                claim.owner = Some((key, uid));
                self.ledger.counts.claimed += 1;
                None
            }
        };
        if let Some(told) = told {
            self.ledger.violation(told);
        }
        if welcome.queued > 0 || welcome.prekeys_left > 0 || welcome.receiving {
            self.ledger.violation(format!("a new name that has something: {welcome:?}"));
        }
        // It looks itself up, and leaves.
        let link = &mut self.links.all[index];
        if link.fate == Fate::Lives {
            let lookup = Lookup { request: 1, want: Want::Address, whose: Whose::Name(*keys::name(who)) };
            link.put(BODY_BYTES_MAX, |out| lookup.emit(out));
            link.fate = Fate::Ends;
        }
    }

    fn take_claim_error(&mut self, index: LinkIndex, error: &ErrorFrame<'_>) {
        use ErrorCode::{
            Busy, LoginFailed, LoginTimeout, NameTaken, Restarting, SlowReader, StoreFailed,
            TooManyConnections,
        };
        let code = error.code.known();
        let link = &mut self.links.all[index];
        let (who, key, purpose) = (link.who, link.key, link.purpose);
        self.ledger.note(self.now_ms, || format!("link {index}: ERROR {code:?}, {}", error.text));
        if !error.closes {
            if code != Some(Busy) {
                self.ledger.violation(format!("{who} asks for itself and hears {error:?}"));
            }
            return;
        }
        link.is_over = true;
        let (mine, claim) = (link.owned_before, &self.claims[claim_of(who)]);
        let others_asked = (0..keys::KEYS_EACH).any(|other| other != key && claim.asked[other]);
        let is_fair = match code {
            // Another key may have it, or be about to.
            Some(NameTaken) => purpose == Purpose::Register && !mine && others_asked,
            Some(LoginFailed) => purpose == Purpose::Login && !mine,
            // The same key asks for it on another connection.
            Some(Busy) => !mine,
            Some(StoreFailed) => !mine && self.ledger.counts.disk_faults > 0,
            Some(TooManyConnections | Restarting | LoginTimeout | SlowReader) => true,
            _ => false,
        };
        if !is_fair {
            self.ledger.violation(format!("{who} with key {key}, mine: {mine}, hears {error:?}"));
        }
    }

    /// At the very end: each name is its key's, and only its.
    pub(super) fn look_at_names(&mut self) {
        let first = self.links.all.len();
        for name in 0..self.claims.len() {
            for key in 0..keys::KEYS_EACH {
                self.ask_for_name(name, key, Purpose::Login);
            }
        }
        self.advance(5 * SECOND_MS);
        for index in first..self.links.all.len() {
            let link = &self.links.all[index];
            let owner = self.claims[claim_of(link.who)].owner;
            let is_owner = owner.is_some_and(|(key, _)| key == link.key);
            let got_in = link.phase == Phase::Ready;
            if is_owner && !got_in {
                let told =
                    format!("key {} was told that it has the name {}, and can't log in", link.key, link.who);
                self.ledger.violation(told);
            }
        }
    }
}
