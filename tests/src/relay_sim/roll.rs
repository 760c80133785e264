//! A name changes to its user's next key, and what its client does if the connection ends before the answer.
//!
//! Owns: roll-overs under way (spec/wire.md, section 6, "ROLL"). Must not know what becomes of messages, but for letting
//! go of those that the old key sent.

use e2e_protocol::ids::Uid;
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::login;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::roll::{Roll, RollOver};

use super::world::World;
use super::{LinkIndex, Who, keys};

/// The request number of every ROLL; a LOOKUP has another.
pub(super) const REQUEST: u32 = 7;

/// A roll-over that was asked for, and is not known to have happened or not.
pub(super) struct Rolling {
    key: usize,
    time_ms: u64,
    /// How often, and where last.
    asked: u32,
    link: Option<LinkIndex>,
    /// The next login tries the new key.
    tries_new: bool,
}

impl Rolling {
    /// The key to log in with, where `present` is the one that was in force.
    pub(super) fn key_to_try(&self, present: usize) -> usize {
        if self.tries_new { self.key } else { present }
    }
}

impl World {
    pub(super) fn is_rolling(&self, who: Who) -> bool {
        self.users[who].rolling.is_some()
    }

    /// Asks for the next key.
    pub(super) fn roll(&mut self, who: Who) {
        let Some(link) = self.users[who].receiver.filter(|link| self.links.all[*link].is_speaking()) else {
            return;
        };
        let user = &mut self.users[who];
        if user.rolling.is_some() || self.links.all[link].key != user.key {
            return;
        }
        let (key, time_ms) = (user.key + 1, user.rolled_at + 1);
        user.rolling = Some(Rolling { key, time_ms, asked: 0, link: None, tries_new: false });
        self.acknowledge(link, usize::MAX);
        self.ask_to_roll(who, link);
    }

    /// Asks again, if nobody else answers and the old key is still in force.
    pub(super) fn go_on_rolling(&mut self, who: Who) {
        let user = &mut self.users[who];
        let Some(rolling) = &mut user.rolling else { return };
        let waits = rolling.link.is_some_and(|link| self.links.all[link].is_speaking());
        if waits {
            return;
        }
        let present = user.receiver.filter(|link| {
            let link = &self.links.all[*link];
            link.is_speaking() && link.key == user.key
        });
        match present {
            Some(link) => self.ask_to_roll(who, link),
            // It finds out by logging in with the new one.
            None if rolling.link.take().is_some() => rolling.tries_new = true,
            None => {}
        }
    }

    fn ask_to_roll(&mut self, who: Who, link: LinkIndex) {
        let present = self.users[who].key;
        let Some(rolling) = &mut self.users[who].rolling else { return };
        rolling.asked += 1;
        rolling.link = Some(link);
        let (key, time_ms) = (rolling.key, rolling.time_ms);
        let (former, identity) = (keys::identity(who, present), keys::identity(who, key));
        let signed = login::RollOver {
            name: keys::name(who),
            former: former.fingerprint(),
            fingerprint: identity.fingerprint(),
            time_ms,
        };
        let former_signature = keys::sign_roll_over(who, present, &signed);
        let signature = keys::sign_roll_over(who, key, &signed);
        let roll_over = RollOver {
            time_ms,
            identity_key: identity.modulus(),
            former_signature: &former_signature,
            signature: &signature,
        };
        self.links.all[link].put(BODY_BYTES_MAX, |out| Roll { request: REQUEST, roll_over }.emit(out));
        self.ledger.note(self.now_ms, || format!("link {link}: ROLL of {who} to key {key}"));
    }

    /// ROLLED came.
    pub(super) fn take_rolled(&mut self, link: LinkIndex, uid: Uid) {
        let (who, key) = (self.links.all[link].who, self.links.all[link].key);
        if key != self.users[who].key {
            // It knew already: a login with the new key was faster.
        } else if self.users[who].rolling.is_some() {
            self.become_new(who, uid);
        } else {
            self.ledger.violation(format!("{who} did not ask for {uid:?}"));
        }
    }

    /// A login with a key shows that it is in force.
    pub(super) fn know_key(&mut self, who: Who, key: usize, uid: Uid) {
        let user = &self.users[who];
        let is_new = user.rolling.as_ref().is_some_and(|rolling| rolling.key == key);
        if is_new {
            self.become_new(who, uid);
        } else if key == user.key && uid != user.uid {
            self.ledger.violation(format!("{who} has another uid: {uid:?}"));
        }
    }

    /// The name is the new key's now: what the old one had under way is not its business any more.
    fn become_new(&mut self, who: Who, uid: Uid) {
        let user = &mut self.users[who];
        let Some(rolling) = user.rolling.take() else { return };
        if uid == user.uid || uid.slot() != user.uid.slot() {
            self.ledger.violation(format!("{who} was {:?} and is {uid:?}", user.uid));
        }
        (user.key, user.rolled_at, user.uid) = (rolling.key, rolling.time_ms, uid);
        user.shelf.clear();
        user.book[who] = uid;
        user.receiver = None;
        for writer in &mut user.writers {
            writer.is_closed = true;
            for index in writer.waiting.drain(..) {
                self.ledger.messages[index].is_done = true;
            }
        }
        self.ledger.counts.rolled += 1;
        self.ledger.note(self.now_ms, || format!("{who} is {uid:?} now"));
    }

    /// Whether it is fair: the key is not known to be in force.
    pub(super) fn take_login_failed(&mut self, link: LinkIndex) -> bool {
        let link = &self.links.all[link];
        let user = &mut self.users[link.who];
        match &mut user.rolling {
            Some(rolling) => {
                rolling.tries_new = link.key != rolling.key;
                true
            }
            None => link.key != user.key,
        }
    }

    /// An ERROR answered a request.
    pub(super) fn take_request_error(&mut self, index: LinkIndex, request: u32, code: Option<ErrorCode>) {
        if self.take_bundle_error(index, request, code) {
            return;
        }
        let who = self.links.all[index].who;
        if request != REQUEST {
            if code != Some(ErrorCode::Busy) {
                self.ledger.violation(format!("link {index}: a question for a uid is answered by {code:?}"));
            }
            return;
        }
        let rolling = &mut self.users[who].rolling;
        let is_its = rolling.as_ref().is_some_and(|rolling| rolling.link == Some(index));
        let is_first = rolling.as_ref().is_some_and(|rolling| rolling.asked == 1);
        match code {
            // What was asked for on an earlier connection may still be under way.
            Some(ErrorCode::Busy) if is_its && !is_first => {
                if let Some(rolling) = rolling {
                    rolling.link = None;
                }
            }
            Some(ErrorCode::Busy | ErrorCode::StoreFailed | ErrorCode::MailboxNotEmpty) if is_its => {
                *rolling = None;
            }
            // An earlier connection's answer comes after all.
            Some(ErrorCode::Busy | ErrorCode::StoreFailed | ErrorCode::MailboxNotEmpty) => {}
            code => self.ledger.violation(format!("link {index}: a request is answered by {code:?}")),
        }
    }
}
