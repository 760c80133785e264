//! ROLL and REMOVE: a name changes to a new identity key, or is nobody's any more (spec/wire.md, section 6).
//!
//! Owns: such changes under way, from the frame to ROLLED or REMOVED, and what else is put off meanwhile. The key in
//! force is read from the store, signatures wait their turn among the logins (`login`), then the
//! store writes it. Must not know where keys lie (`crate::store`) or what is signed (`e2e_protocol::login`).

use e2e_protocol::ids::{Fingerprint, Modulus, Receipt, Signature, Uid};
use e2e_protocol::limits::HEADER_BYTES;
use e2e_protocol::login::{
    Removal, RollOverError, check_modulus, fingerprint, verify_removal, verify_roll_over,
};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::people::{Remove, Removed};
use e2e_protocol::wire::roll::{Roll, Rolled};
use e2e_protocol::wire::transfer::ResultCode;

use super::admin::Answer;
use super::directory::Pending;
use super::login::ToVerify;
use super::rates::{Act, per_hour};
use super::send::Told;
use super::{Action, Core};
use crate::core::ConnId;
use crate::reason::Reason;
use crate::store::{KeyHistory, Request, RollOverRecord, StoreErrorKind};

/// One name's change. A name has one at a time, so that nobody's take the place of others' logins.
#[derive(Debug)]
pub(super) struct Changing {
    /// The request that waits for it.
    token: u64,
    change: Change,
    step: Step,
}

/// What is to become of a name.
#[derive(Debug)]
enum Change {
    RollOver(Box<RollOverRecord>),
    Removal(Box<Signature>),
    /// Not by its owner, but by the relay's administrator (`admin`).
    RemovalByAdmin,
}

/// How far it is.
#[derive(Debug)]
enum Step {
    /// The mailbox has to be empty first.
    Emptying,
    /// The key in force is read.
    Reading,
    /// The signatures wait to be verified, the first or only one by this key.
    Proving(Box<Modulus>),
    /// It is on its way to the disk: whatever is said to its asker, it may happen.
    Writing(Writing),
}

#[derive(Debug)]
struct Writing {
    /// Who has the name afterwards; `None` for nobody.
    becomes: Option<(Uid, Fingerprint)>,
    /// Notices that came meanwhile: in the mailbox they would be lost.
    notices: Vec<(Told, ResultCode, Receipt)>,
}

/// Why it is refused.
struct Refusal(ErrorCode, &'static str);

const STORE_FAILED: Refusal = Refusal(ErrorCode::StoreFailed, "the relay's disk failed");

impl Core {
    pub(super) fn handle_roll(&mut self, id: ConnId, slot: u32, roll: &Roll<'_>) {
        if check_modulus(roll.roll_over.identity_key).is_err() {
            return self.push_error(id, ErrorCode::BadRoll, roll.request, "not a modulus of RSA-2048");
        }
        let record = RollOverRecord {
            time: roll.roll_over.time_ms,
            identity_key: *roll.roll_over.identity_key,
            former_signature: *roll.roll_over.former_signature,
            signature: *roll.roll_over.signature,
        };
        self.begin_change(id, slot, roll.request, Change::RollOver(Box::new(record)));
    }

    pub(super) fn handle_remove(&mut self, id: ConnId, slot: u32, remove: &Remove<'_>) {
        self.begin_change(id, slot, remove.request, Change::Removal(Box::new(*remove.signature)));
    }

    fn begin_change(&mut self, id: ConnId, slot: u32, request: u32, change: Change) {
        let rate = per_hour(self.limits.roll_overs_per_name_hour);
        if !self.may_ask(id, request, Act::Change(slot), rate) {
            return;
        }
        let refused = if self.changing.contains_key(&slot) {
            Some(Refusal(ErrorCode::Busy, "another change of this name is under way"))
        } else if self.changing.len() >= self.limits.roll_overs_max {
            Some(Refusal(ErrorCode::Busy, "too many names change at the moment"))
        } else if self.store_is_failing() {
            Some(STORE_FAILED)
        } else {
            None
        };
        if let Some(Refusal(code, text)) = refused {
            return self.push_error(id, code, request, text);
        }
        let of = self.uid(slot);
        if let Some(token) = self.ask(id, request, of) {
            self.changing.insert(slot, Changing { token, change, step: Step::Reading });
            self.actions.push_back(Action::Store(Request::ReadKeys { slot, token }));
        }
    }

    /// Whether this is the request that a change of this name waits for.
    pub(super) fn is_changing(&self, slot: u32, token: u64) -> bool {
        self.changing.get(&slot).is_some_and(|changing| changing.token == token)
    }

    /// Whether a name's change is on its way to the disk, or sure to come there: nothing may come to it that would be the old
    /// owner's.
    pub(super) fn is_changing_hands(&self, slot: u32) -> bool {
        let step = self.changing.get(&slot).map(|changing| &changing.step);
        matches!(step, Some(Step::Writing(_) | Step::Emptying))
    }

    /// Begins to take a name from its owner, unless another change is under way that can't be told to make way.
    pub(super) fn begin_emptying(&mut self, slot: u32, token: u64) -> bool {
        if self.is_changing_hands(slot) {
            return false;
        }
        // A change that its owner asked for and that is not sure yet ends with its connection.
        if let Some(changing) = self.changing.remove(&slot) {
            self.answered(changing.token);
        }
        let changing = Changing { token, change: Change::RemovalByAdmin, step: Step::Emptying };
        self.changing.insert(slot, changing);
        self.emptying.push(slot);
        true
    }

    /// Whether a name is being taken from its owner.
    pub(super) fn is_emptying(&self, slot: u32) -> bool {
        self.changing.get(&slot).is_some_and(|changing| matches!(changing.step, Step::Emptying))
    }

    /// Goes on with each name that is being taken from its owner: what is in memory goes to the store, what is there
    /// expires, and then the name goes.
    pub(super) fn empty_mailboxes(&mut self) {
        let mut emptying = std::mem::take(&mut self.emptying);
        emptying.retain(|slot| {
            let Some(user) = self.users.at(*slot) else { return false };
            let is_empty = user.mailbox().is_none_or(|mailbox| mailbox.is_empty() && !mailbox.is_spilling());
            if !is_empty {
                self.queue_spill(*slot);
                self.expire_all(*slot);
                return true;
            }
            if let Some(Changing { token, change, .. }) = self.changing.remove(slot) {
                self.write_change(*slot, token, change);
            }
            false
        });
        self.emptying.extend(emptying);
    }

    /// The key in force was read.
    pub(super) fn handle_key_in_force(&mut self, slot: u32, result: Result<Box<KeyHistory>, StoreErrorKind>) {
        let Some(changing) = self.changing.get_mut(&slot) else { return };
        if !matches!(changing.step, Step::Reading) {
            return;
        }
        let token = changing.token;
        let is_too_old = match (&result, &changing.change) {
            (Ok(keys), Change::RollOver(record)) => record.time <= keys.last_time(),
            _ => false,
        };
        match result {
            Err(error) => {
                self.changing.remove(&slot);
                if let Some((id, request)) = self.answered(token) {
                    self.store_error(id, request, error);
                }
            }
            Ok(_) if is_too_old => {
                let text = "its time is not above that of the last roll-over";
                self.refuse_change(slot, token, &Refusal(ErrorCode::BadRoll, text));
            }
            Ok(keys) => {
                changing.step = Step::Proving(Box::new(*keys.present()));
                self.to_verify.push_back(ToVerify::Change(slot));
            }
        }
    }

    fn refuse_change(&mut self, slot: u32, token: u64, Refusal(code, text): &Refusal) {
        self.changing.remove(&slot);
        if let Some((id, request)) = self.answered(token) {
            self.push_error(id, *code, request, text);
        }
    }

    /// Verifies a waiting change and gives it to the store; returns how many signatures that took.
    pub(super) fn prove_change(&mut self, slot: u32) -> usize {
        let Some(Changing { token, change, step }) = self.changing.remove(&slot) else { return 0 };
        let Step::Proving(key) = step else {
            // It stood in the queue for one whose asker was gone.
            self.changing.insert(slot, Changing { token, change, step });
            return 0;
        };
        if !self.is_awaited(token) {
            self.answered(token);
            return 0;
        }
        let Some(user) = self.users.at(slot) else { return 0 };
        let is_empty = user.mailbox().is_none_or(|mailbox| mailbox.messages == 0);
        if !is_empty {
            let text = "read and acknowledge what waits in the mailbox first";
            self.refuse_change(slot, token, &Refusal(ErrorCode::MailboxNotEmpty, text));
            return 0;
        } else if self.store_is_failing() {
            self.refuse_change(slot, token, &STORE_FAILED);
            return 0;
        }
        let (verified, count) = self.verify_change(slot, &change, &key);
        match verified {
            Ok(()) => self.write_change(slot, token, change),
            Err(refusal) => self.refuse_change(slot, token, &refusal),
        }
        count
    }

    /// Whether a change is signed as it has to be, and how many verifications it took to say so.
    fn verify_change(&mut self, slot: u32, change: &Change, key: &Modulus) -> (Result<(), Refusal>, usize) {
        let relay_id = self.relay_id;
        let Some(user) = self.users.at(slot) else { return (Err(STORE_FAILED), 0) };
        match change {
            Change::RollOver(record) => {
                let RollOverRecord { time, identity_key, former_signature, signature } = &**record;
                let verified =
                    verify_roll_over(&user.name, key, identity_key, *time, former_signature, signature);
                let (text, count) = match verified {
                    Ok(()) => return (Ok(()), 2),
                    Err(RollOverError::BadModulus) => ("not a modulus of RSA-2048", 0),
                    Err(RollOverError::SameKey) => ("the name has this key already", 0),
                    Err(RollOverError::BadFormerSignature) => {
                        ("the signature by the old key does not verify", 1)
                    }
                    Err(RollOverError::BadSignature) => ("the signature by the new key does not verify", 2),
                };
                (Err(Refusal(ErrorCode::BadRoll, text)), count)
            }
            Change::Removal(signature) => {
                let uid = Uid::new(slot, user.generation);
                let removal =
                    Removal { relay_id: &relay_id, uid, name: &user.name, fingerprint: &user.fingerprint };
                let refusal = Refusal(ErrorCode::BadRemoval, "the signature does not verify");
                (if verify_removal(key, &removal, signature) { Ok(()) } else { Err(refusal) }, 1)
            }
            Change::RemovalByAdmin => (Ok(()), 0),
        }
    }

    /// Whether who asked is there still.
    fn is_awaited(&self, token: u64) -> bool {
        match self.pending.get(&token) {
            Some(Pending::Request { id, .. }) => {
                self.connections.get(*id).is_some_and(|connection| connection.slot().is_some())
            }
            _ => false,
        }
    }

    fn write_change(&mut self, slot: u32, token: u64, change: Change) {
        let (becomes, request) = match &change {
            Change::RollOver(record) => {
                let generation = next_generation(self.uid(slot).generation());
                let fingerprint = fingerprint(&record.identity_key);
                let roll_over = record.clone();
                let request = Request::RollOver { slot, generation, fingerprint, roll_over, token };
                (Some((Uid::new(slot, generation), fingerprint)), request)
            }
            Change::Removal(_) | Change::RemovalByAdmin => {
                let generation = self.uid(slot).generation();
                let blockers = self.blockers(slot);
                (None, Request::Remove { slot, generation, blockers, token })
            }
        };
        let step = Step::Writing(Writing { becomes, notices: Vec::new() });
        self.changing.insert(slot, Changing { token, change, step });
        self.actions.push_back(Action::Store(request));
    }

    /// Takes a notice whose recipient's name is changing, until it is known whether it did.
    pub(super) fn hold_notice(&mut self, message: &Told, code: ResultCode, receipt: Receipt) -> bool {
        let held_max = self.limits.held_notices_max;
        let slot = message.sender.slot();
        let writing = match self.changing.get_mut(&slot).map(|changing| &mut changing.step) {
            Some(Step::Writing(writing)) => writing,
            Some(Step::Emptying) => {
                self.counters.count(Reason::NoticeKeyChanged);
                log::warn!("{}: a notice for slot {slot}", Reason::NoticeKeyChanged);
                return true;
            }
            _ => return false,
        };
        if writing.notices.len() < held_max {
            writing.notices.push((*message, code, receipt));
        } else {
            self.counters.count(Reason::NoticeBusy);
            log::warn!("{}: a notice for slot {slot}", Reason::NoticeBusy);
        }
        true
    }

    /// It is on disk, or is not and won't be.
    pub(super) fn handle_changed(&mut self, slot: u32, token: u64, result: Result<(), StoreErrorKind>) {
        if !self.is_changing(slot, token) {
            return;
        }
        let Some(Changing { step: Step::Writing(writing), change, .. }) = self.changing.remove(&slot) else {
            return;
        };
        if matches!(change, Change::RemovalByAdmin) {
            self.answers.push_back(if result.is_ok() {
                Answer::Removed(token)
            } else {
                Answer::Failed(token)
            });
        }
        let asker = self.answered(token);
        if let Err(error) = result {
            match asker {
                Some((id, request)) => self.store_error(id, request, error),
                None => self.store_failed(),
            }
            for (message, code, receipt) in writing.notices {
                self.put_notice(&message, code, receipt);
            }
            return;
        }
        if !writing.notices.is_empty() {
            let count = writing.notices.len();
            self.counters.count_all(Reason::NoticeKeyChanged, count as u64);
            log::warn!("{}: {count} notices for slot {slot}", Reason::NoticeKeyChanged);
        }
        match writing.becomes {
            Some((uid, fingerprint)) => self.finish_roll_over(slot, asker, uid, fingerprint),
            None => self.finish_removal(slot, asker),
        }
    }

    fn finish_roll_over(
        &mut self,
        slot: u32,
        asker: Option<(ConnId, u32)>,
        uid: Uid,
        fingerprint: Fingerprint,
    ) {
        if let Some((id, request)) = asker {
            let rolled = Rolled { request, uid };
            self.push(id, HEADER_BYTES + 12, |out| rolled.emit(out));
        }
        self.end_all(slot, ErrorCode::KeyChanged, "the name belongs to a new key now");
        self.drain_shares(slot);
        if let Some(user) = self.users.at(slot) {
            let name = user.name;
            self.lanes -= user.roll_over(uid, fingerprint, &mut self.pool);
            self.counters.totals.roll_overs += 1;
            log::info!("{} rolled over to a new key", self.shown(&name));
        }
    }

    fn finish_removal(&mut self, slot: u32, asker: Option<(ConnId, u32)>) {
        if let Some((id, request)) = asker {
            self.push(id, HEADER_BYTES + 4, |out| Removed { request }.emit(out));
        }
        self.end_all(slot, ErrorCode::NameRemoved, "the name was removed");
        self.forget_blocks(slot);
        self.drain_shares(slot);
        if let Some((name, lanes)) = self.users.remove(slot, &mut self.pool) {
            log::info!("{} was removed", self.shown(&name));
            self.counters.totals.removals += 1;
            self.lanes -= lanes;
            self.tell_gone(slot, name);
        }
    }

    /// Ends every connection of a name; returns how many there were.
    pub(super) fn end_all(&mut self, slot: u32, code: ErrorCode, text: &str) -> usize {
        let mut count = 0;
        for id in self.connections.ids() {
            if self.connections.get(id).is_some_and(|connection| connection.slot() == Some(slot)) {
                self.end(id, code, text);
                count += 1;
            }
        }
        count
    }
}

/// The generation after this one: any but zero.
fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}
