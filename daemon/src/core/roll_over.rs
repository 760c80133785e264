//! ROLL: a name changes to a new identity key (spec/wire.md, section 6).
//!
//! Owns: roll-overs under way, from the frame to ROLLED, and what else is put off meanwhile. The key in
//! force is read from the store, both signatures wait their turn among the logins (`login`), then the
//! store writes it. Must not know where keys lie (`crate::store`) or what both sign (`e2e_protocol::login`).

use e2e_protocol::ids::{Fingerprint, Modulus, Receipt, Uid};
use e2e_protocol::limits::HEADER_BYTES;
use e2e_protocol::login::{RollOverError, check_modulus, fingerprint, verify_roll_over};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::roll::{Roll, Rolled};
use e2e_protocol::wire::transfer::ResultCode;

use super::directory::Pending;
use super::login::ToVerify;
use super::rates::{Act, per_hour};
use super::send::Told;
use super::{Action, Core};
use crate::core::ConnId;
use crate::reason::Reason;
use crate::store::{KeyHistory, Request, RollOverRecord, StoreErrorKind};

/// One name's roll-over. A name has one at a time, so that nobody's take the place of others' logins.
#[derive(Debug)]
pub(super) struct RollingOver {
    /// The request that waits for it.
    token: u64,
    step: Step,
}

/// How far it is.
#[derive(Debug)]
enum Step {
    /// The key in force is read.
    Reading(Box<RollOverRecord>),
    /// The signatures wait to be verified, the first by this key.
    Proving(Box<RollOverRecord>, Box<Modulus>),
    /// It is on its way to the disk: whatever is said to its asker, it may happen.
    Writing(Box<Writing>),
}

#[derive(Debug)]
struct Writing {
    uid: Uid,
    fingerprint: Fingerprint,
    /// Notices that came meanwhile: in the mailbox they would be lost.
    notices: Vec<(Told, ResultCode, Receipt)>,
}

/// Why a ROLL is refused.
struct Refusal(ErrorCode, &'static str);

const STORE_FAILED: Refusal = Refusal(ErrorCode::StoreFailed, "the relay's disk failed");

impl Core {
    pub(super) fn handle_roll(&mut self, id: ConnId, slot: u32, roll: &Roll<'_>) {
        let request = roll.request;
        let rate = per_hour(self.limits.roll_overs_per_name_hour);
        if !self.may_ask(id, request, Act::Roll(slot), rate) {
            return;
        }
        let refused = if self.rolling_over.contains_key(&slot) {
            Some(Refusal(ErrorCode::Busy, "another roll-over of this name is under way"))
        } else if check_modulus(roll.roll_over.identity_key).is_err() {
            Some(Refusal(ErrorCode::BadRoll, "not a modulus of RSA-2048"))
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
            let record = Box::new(RollOverRecord {
                time: roll.roll_over.time_ms,
                identity_key: *roll.roll_over.identity_key,
                former_signature: *roll.roll_over.former_signature,
                signature: *roll.roll_over.signature,
            });
            self.rolling_over.insert(slot, RollingOver { token, step: Step::Reading(record) });
            self.actions.push_back(Action::Store(Request::ReadKeys { slot, token }));
        }
    }

    /// Whether this is the request that a roll-over waits for.
    pub(super) fn is_rolling_over(&self, slot: u32, token: u64) -> bool {
        self.rolling_over.get(&slot).is_some_and(|rolling| rolling.token == token)
    }

    /// Whether a name's new key is on its way to the disk: nothing may come to it that would be the old one's.
    pub(super) fn is_changing_hands(&self, slot: u32) -> bool {
        let rolling = self.rolling_over.get(&slot);
        rolling.is_some_and(|rolling| matches!(rolling.step, Step::Writing(_)))
    }

    /// The key in force was read.
    pub(super) fn handle_key_in_force(&mut self, slot: u32, result: Result<Box<KeyHistory>, StoreErrorKind>) {
        let Some(RollingOver { token, step: Step::Reading(record) }) = self.rolling_over.remove(&slot) else {
            return;
        };
        match result {
            Err(error) => {
                if let Some((id, request)) = self.answered(token) {
                    self.store_error(id, request, error);
                }
            }
            Ok(keys) if record.time <= keys.last_time() => {
                let text = "its time is not above that of the last roll-over";
                self.refuse_roll_over(token, &Refusal(ErrorCode::BadRoll, text));
            }
            Ok(keys) => {
                let step = Step::Proving(record, Box::new(*keys.present()));
                self.rolling_over.insert(slot, RollingOver { token, step });
                self.to_verify.push_back(ToVerify::RollOver(slot));
            }
        }
    }

    fn refuse_roll_over(&mut self, token: u64, Refusal(code, text): &Refusal) {
        if let Some((id, request)) = self.answered(token) {
            self.push_error(id, *code, request, text);
        }
    }

    /// Verifies a waiting roll-over and gives it to the store; returns how many signatures that took.
    pub(super) fn prove_roll_over(&mut self, slot: u32) -> usize {
        let Some(RollingOver { token, step }) = self.rolling_over.remove(&slot) else { return 0 };
        let (record, former) = match step {
            Step::Proving(record, former) => (record, former),
            // It stood in the queue for one whose asker was gone.
            step @ (Step::Reading(_) | Step::Writing(_)) => {
                self.rolling_over.insert(slot, RollingOver { token, step });
                return 0;
            }
        };
        if !self.is_awaited(token) {
            self.answered(token);
            return 0;
        }
        let Some(user) = self.users.at(slot) else { return 0 };
        let name = user.name;
        let is_empty = user.mailbox().is_none_or(|mailbox| mailbox.messages == 0);
        if !is_empty {
            let text = "read and acknowledge what waits in the mailbox first";
            self.refuse_roll_over(token, &Refusal(ErrorCode::MailboxNotEmpty, text));
            return 0;
        } else if self.store_is_failing() {
            self.refuse_roll_over(token, &STORE_FAILED);
            return 0;
        }
        let RollOverRecord { time, identity_key, former_signature, signature } = &*record;
        let verified = verify_roll_over(&name, &former, identity_key, *time, former_signature, signature);
        if let Err(error) = verified {
            let (text, count) = match error {
                RollOverError::BadModulus => ("not a modulus of RSA-2048", 0),
                RollOverError::SameKey => ("the name has this key already", 0),
                RollOverError::BadFormerSignature => ("the signature by the old key does not verify", 1),
                RollOverError::BadSignature => ("the signature by the new key does not verify", 2),
            };
            self.refuse_roll_over(token, &Refusal(ErrorCode::BadRoll, text));
            return count;
        }
        self.write_roll_over(slot, token, record);
        2
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

    fn write_roll_over(&mut self, slot: u32, token: u64, roll_over: Box<RollOverRecord>) {
        let generation = next_generation(self.uid(slot).generation());
        let fingerprint = fingerprint(&roll_over.identity_key);
        let uid = Uid::new(slot, generation);
        let step = Step::Writing(Box::new(Writing { uid, fingerprint, notices: Vec::new() }));
        self.rolling_over.insert(slot, RollingOver { token, step });
        let request = Request::RollOver { slot, generation, fingerprint, roll_over, token };
        self.actions.push_back(Action::Store(request));
    }

    /// Takes a notice whose recipient's key is changing, until it is known whether it did.
    pub(super) fn hold_notice(&mut self, message: &Told, code: ResultCode, receipt: Receipt) -> bool {
        let held_max = self.limits.held_notices_max;
        let slot = message.sender.slot();
        let Some(RollingOver { step: Step::Writing(writing), .. }) = self.rolling_over.get_mut(&slot) else {
            return false;
        };
        if writing.notices.len() < held_max {
            writing.notices.push((*message, code, receipt));
        } else {
            log::warn!("{}: a notice for slot {slot}", Reason::NoticeBusy);
        }
        true
    }

    /// It is on disk, or is not and won't be.
    pub(super) fn handle_rolled_over(&mut self, slot: u32, token: u64, result: Result<(), StoreErrorKind>) {
        if !self.is_rolling_over(slot, token) {
            return;
        }
        let Some(RollingOver { step: Step::Writing(writing), .. }) = self.rolling_over.remove(&slot) else {
            return;
        };
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
        if let Some((id, request)) = asker {
            let rolled = Rolled { request, uid: writing.uid };
            self.push(id, HEADER_BYTES + 12, |out| rolled.emit(out));
        }
        for id in self.connections.ids() {
            if self.connections.get(id).is_some_and(|connection| connection.slot() == Some(slot)) {
                self.end(id, ErrorCode::KeyChanged, "the name belongs to a new key now");
            }
        }
        if !writing.notices.is_empty() {
            let count = writing.notices.len();
            log::warn!("{}: {count} notices for slot {slot}", Reason::NoticeKeyChanged);
        }
        if let Some(user) = self.users.at(slot) {
            log::info!("{} rolled over to a new key", user.name);
            self.lanes -= user.roll_over(writing.uid, writing.fingerprint, &mut self.pool);
        }
    }
}

/// The generation after this one: any but zero.
fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}
