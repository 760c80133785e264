//! A model of the relay: mailboxes in order, a directory, results.
//!
//! Owns: what becomes of what clients send, and the answers. It answers at once; how long that takes on the way is
//! the world's. Must not know what is in an envelope, nor what it does when it lies (`lies`). The real
//! relay has its own tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use e2e_client::engine::outbox::Answer;
use e2e_protocol::e2e::limits::CHAIN_MESSAGES_MAX;
use e2e_protocol::e2e::{Profile, PublishedBatch, PublishedSpk};
use e2e_protocol::ids::Receipt;
use e2e_protocol::wire::ErrorCode;
use sha2::{Digest, Sha256};

use super::frames::{Class, Down, Own, OwnedOneTime, Up};
use super::home::Id;
use super::keys::{beginning, spk_id};
use super::lies::hold;
use super::mailbox::number;
use super::{DAY_MS, Who};
use crate::dice::Dice;

/// Deliveries that wait for an acknowledgement.
const CREDIT: usize = 64;
/// A message that was not collected expires.
const KEPT_MS: u64 = 30 * DAY_MS;
/// How far the order of a mailbox is changed.
const REORDER_MAX: usize = 8;

pub(super) struct Relay {
    pub(super) users: Vec<User>,
    seen: BTreeMap<(Who, Id), Seen>,
    last_sequence: u64,
    /// Lies in a thousand decisions.
    pub(super) lies: u64,
    /// The last envelopes that came: from whom, to whom.
    pub(super) history: VecDeque<(Who, Who, Vec<u8>)>,
    /// Says of each number 999 that it stored it, and loses it, once.
    pub(super) loses_last_numbers: bool,
    pub(super) lost: u64,
    /// How many lies were told.
    pub(super) lied: u64,
    out: Vec<(Who, Down)>,
}

pub(super) struct User {
    online: bool,
    mailbox: VecDeque<Parcel>,
    pub(super) spks: Vec<PublishedSpk>,
    pub(super) one_time: VecDeque<OwnedOneTime>,
    pub(super) handed_out: Vec<OwnedOneTime>,
    results: Vec<(Id, Answer)>,
}

struct Parcel {
    sequence: u64,
    from: Who,
    /// Whose result its acknowledgement is.
    id: Option<(Who, Id)>,
    envelope: Vec<u8>,
    class: Class,
    offered: bool,
    stored: bool,
    came_ms: u64,
    /// Held back until then.
    ready_ms: u64,
}

struct Seen {
    tag: [u8; 32],
    result: Option<Receipt>,
}

impl Relay {
    pub(super) fn new(profiles: &[Profile]) -> Self {
        let users = profiles.iter().enumerate().map(|(who, profile)| {
            let beginning = beginning(who, *profile);
            let mut user = User {
                online: false,
                mailbox: VecDeque::new(),
                spks: vec![beginning.spk.clone()],
                one_time: VecDeque::new(),
                handed_out: Vec::new(),
                results: Vec::new(),
            };
            user.publish_batch(&beginning.batch);
            user
        });
        Self {
            users: users.collect(),
            seen: BTreeMap::new(),
            last_sequence: 0,
            lies: 0,
            history: VecDeque::new(),
            loses_last_numbers: false,
            lost: 0,
            lied: 0,
            out: Vec::new(),
        }
    }

    /// What is to be sent, in order.
    pub(super) fn take_out(&mut self) -> Vec<(Who, Down)> {
        std::mem::take(&mut self.out)
    }

    pub(super) fn waiting(&self) -> usize {
        self.users.iter().map(|user| user.mailbox.len()).sum()
    }

    /// Whether the relay took so many messages for a user, those that it lost included.
    pub(super) fn has_all(&self, who: Who, messages: u64) -> bool {
        self.users[who].mailbox.len() as u64 + self.lost >= messages
    }

    /// When something that is held back may go out.
    pub(super) fn next_due_ms(&self, now_ms: u64) -> Option<u64> {
        let online = self.users.iter().filter(|user| user.online);
        online
            .flat_map(|user| &user.mailbox)
            .map(|parcel| parcel.ready_ms)
            .filter(|ready_ms| *ready_ms > now_ms)
            .min()
    }

    /// Faults stop: what is held back goes out, or was lost.
    pub(super) fn heal(&mut self, dice: &mut Dice) {
        self.lies = 0;
        for user in &mut self.users {
            for parcel in &mut user.mailbox {
                parcel.ready_ms = if parcel.ready_ms == u64::MAX && dice.per_mille(500) { 1 } else { 0 };
            }
            user.mailbox.retain(|parcel| parcel.ready_ms == 0);
        }
    }

    pub(super) fn handle_connected(&mut self, who: Who, now_ms: u64, dice: &mut Dice) {
        self.expire(who, now_ms);
        let own = self.own(who);
        let user = &mut self.users[who];
        user.online = true;
        let results = std::mem::take(&mut user.results);
        let queued = user.mailbox.iter().filter(|parcel| parcel.ready_ms <= now_ms).count();
        self.out.push((who, Down::Welcome { own, queued }));
        self.out.extend(results.into_iter().map(|(id, answer)| (who, Down::Result { id, answer })));
        self.pump(who, now_ms, dice);
    }

    pub(super) fn handle_disconnected(&mut self, who: Who) {
        self.users[who].online = false;
        let mut stored = Vec::new();
        for parcel in &mut self.users[who].mailbox {
            parcel.offered = false;
            if !std::mem::replace(&mut parcel.stored, true) {
                stored.extend(parcel.id);
            }
        }
        for (sender, id) in stored.into_iter().filter(|(sender, _)| *sender != who) {
            self.tell(sender, id, Answer::Stored);
        }
    }

    /// Time went on.
    pub(super) fn pump_all(&mut self, now_ms: u64, dice: &mut Dice) {
        (0..self.users.len()).for_each(|who| self.pump(who, now_ms, dice));
    }

    pub(super) fn handle(&mut self, who: Who, frame: Up, now_ms: u64, dice: &mut Dice) {
        match frame {
            Up::Send { id, to, envelope } => {
                self.handle_send((who, id), to, envelope, now_ms, dice);
                self.pump(to, now_ms, dice);
            }
            Up::Ack { sequence, receipt } => {
                self.handle_ack(who, sequence, receipt, dice);
                self.pump(who, now_ms, dice);
            }
            Up::Lookup { whose, one_time } => {
                if self.lies_now(dice) && dice.per_mille(300) {
                    return;
                }
                let bundle = self.bundle(whose, one_time, dice).map(Box::new);
                self.out.push((who, Down::Entry { whose, bundle }));
            }
            Up::AskOwn => {
                let own = self.own(who);
                self.out.push((who, Down::Own { own }));
            }
            Up::Publish { spk, batch } => {
                let user = &mut self.users[who];
                if let Some(spk) = spk {
                    user.spks.push(*spk);
                    user.one_time.clear();
                }
                if let Some(batch) = batch.filter(|batch| batch.spk == spk_id(user.spks.last())) {
                    user.publish_batch(&batch);
                }
                let own = self.own(who);
                self.out.push((who, Down::Published { own }));
            }
        }
    }

    fn own(&self, who: Who) -> Own {
        let user = &self.users[who];
        let left = u16::try_from(user.one_time.len()).unwrap_or(u16::MAX);
        Own { spk: spk_id(user.spks.last()), left }
    }

    fn handle_send(&mut self, id: (Who, Id), to: Who, envelope: Vec<u8>, now_ms: u64, dice: &mut Dice) {
        self.remember(id.0, to, &envelope);
        if self.lies_now(dice) && !self.lie_about(id, to, &envelope, now_ms, dice) {
            return;
        }
        if self.is_settled(id, to, &envelope, dice) {
            return;
        }
        let (sender, own_id) = id;
        self.seen.insert(id, Seen { tag: tag(&envelope), result: None });
        if self.lies_now(dice) {
            self.send_something_else(sender, to, &envelope, now_ms, dice);
        }
        self.push(sender, to, Some(id), envelope, Class::Honest, now_ms);
        let held_until_ms = if self.lies_now(dice) { hold(now_ms, dice) } else { None };
        let is_online = self.users[to].online;
        let parcel = self.users[to].mailbox.back_mut().expect("it was just put there");
        parcel.ready_ms = held_until_ms.unwrap_or(0);
        if held_until_ms.is_some() || !is_online {
            parcel.stored = true;
            self.tell(sender, own_id, Answer::Stored);
        }
    }

    /// Whether the message needs no more than the answer that it got: it came before, or is lost.
    fn is_settled(&mut self, id: (Who, Id), to: Who, envelope: &[u8], dice: &mut Dice) -> bool {
        let (sender, own_id) = id;
        let tag = tag(envelope);
        let is_last = number(envelope) == CHAIN_MESSAGES_MAX - 1;
        if self.loses_last_numbers && is_last && !self.seen.contains_key(&id) {
            self.lost += 1;
            self.seen.insert(id, Seen { tag, result: None });
            self.tell(sender, own_id, Answer::Stored);
            return true;
        }
        match self.seen.get(&id) {
            Some(seen) if seen.tag != tag => {
                let code = ErrorCode::IdConflict.into();
                self.tell(sender, own_id, Answer::Refused { code, retry_after_ms: 0 });
            }
            Some(Seen { result: Some(receipt), .. }) => {
                let forgotten = self.lies > 0 && dice.per_mille(200);
                let answer = if forgotten { Answer::Done } else { Answer::Collected(*receipt) };
                self.tell(sender, own_id, answer);
            }
            Some(_) if self.users[to].mailbox.iter().any(|parcel| parcel.id == Some(id)) => {
                if !self.users[to].online {
                    self.tell(sender, own_id, Answer::Stored);
                }
            }
            _ => return false,
        }
        true
    }

    pub(super) fn push(
        &mut self,
        from: Who,
        to: Who,
        id: Option<(Who, Id)>,
        envelope: Vec<u8>,
        class: Class,
        now_ms: u64,
    ) {
        self.last_sequence += 1;
        self.users[to].mailbox.push_back(Parcel {
            sequence: self.last_sequence,
            from,
            id,
            envelope,
            class,
            offered: false,
            stored: false,
            came_ms: now_ms,
            ready_ms: 0,
        });
    }

    fn handle_ack(&mut self, who: Who, sequence: u64, receipt: Receipt, dice: &mut Dice) {
        let mailbox = &mut self.users[who].mailbox;
        let Some(at) = mailbox.iter().position(|parcel| parcel.sequence == sequence) else { return };
        let Some(parcel) = mailbox.remove(at) else { return };
        let Some((sender, id)) = parcel.id else { return };
        if let Some(seen) = self.seen.get_mut(&(sender, id)) {
            seen.result = Some(receipt);
        }
        if !self.lies_now(dice) {
            self.tell(sender, id, Answer::Collected(receipt));
        }
    }

    pub(super) fn tell(&mut self, who: Who, id: Id, answer: Answer) {
        if self.users[who].online {
            self.out.push((who, Down::Result { id, answer }));
        } else if answer != Answer::Stored {
            self.users[who].results.push((id, answer));
        }
    }

    pub(super) fn pump(&mut self, who: Who, now_ms: u64, dice: &mut Dice) {
        let lies = self.lies;
        let User { online: true, mailbox, .. } = &mut self.users[who] else { return };
        let mut offered = mailbox.iter().filter(|parcel| parcel.offered).count();
        loop {
            let mut ready = mailbox.iter_mut().filter(|parcel| !parcel.offered && parcel.ready_ms <= now_ms);
            let ahead = if dice.per_mille(lies) { dice.index(REORDER_MAX) } else { 0 };
            let Some(parcel) = (if ahead > 0 { ready.by_ref().take(ahead + 1).last() } else { ready.next() })
            else {
                return;
            };
            if offered >= CREDIT {
                return;
            }
            offered += 1;
            parcel.offered = true;
            let Parcel { sequence, from, class, .. } = *parcel;
            self.out.push((who, Down::Deliver { sequence, from, envelope: parcel.envelope.clone(), class }));
        }
    }

    fn expire(&mut self, who: Who, now_ms: u64) {
        let mut expired = Vec::new();
        self.users[who].mailbox.retain(|parcel| {
            let over = now_ms.saturating_sub(parcel.came_ms) >= KEPT_MS;
            expired.extend(parcel.id.filter(|_| over));
            !over
        });
        for (sender, id) in expired {
            self.seen.remove(&(sender, id));
            self.tell(sender, id, Answer::Expired);
        }
    }
}

impl User {
    fn publish_batch(&mut self, batch: &PublishedBatch) {
        let hashes = batch.moduli.iter().map(|modulus| Sha256::digest(modulus).into()).collect();
        let listed = Arc::new((hashes, batch.signature));
        let keys =
            batch.moduli.iter().map(|modulus| OwnedOneTime { modulus: *modulus, batch: Arc::clone(&listed) });
        self.one_time.extend(keys);
    }
}

fn tag(envelope: &[u8]) -> [u8; 32] {
    *envelope.last_chunk().expect("an envelope ends with its tag")
}
