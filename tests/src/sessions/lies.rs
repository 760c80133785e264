//! What whoever holds the relay can do with what passes through it.
//!
//! Owns: each lie that the model relay tells, drawn from the seed. Must not know what follows from it.

use e2e_client::engine::outbox::Answer;
use e2e_protocol::ids::Receipt;
use e2e_protocol::wire::ErrorCode;

use super::frames::{Class, OwnedBundle};
use super::home::Id;
use super::relay::Relay;
use super::{DAY_MS, HOUR_MS, Who};
use crate::dice::Dice;

/// So many of the last envelopes can be replayed.
const HISTORY_MAX: usize = 256;

impl Relay {
    pub(super) fn lies_now(&mut self, dice: &mut Dice) -> bool {
        let lies = dice.per_mille(self.lies);
        self.lied += u64::from(lies);
        lies
    }

    /// What the directory hands out.
    pub(super) fn bundle(&mut self, whose: Who, one_time: bool, dice: &mut Dice) -> Option<OwnedBundle> {
        let lie = if self.lies_now(dice) { dice.below(5) } else { 5 };
        let user = &mut self.users[whose];
        let mut spk = user.spks.last()?.clone();
        let mut one_time = if one_time { user.one_time.pop_front() } else { None };
        user.handed_out.extend(one_time.clone());
        match lie {
            0 => one_time = None,
            // Once more. Of a former signed prekey it is refused.
            1 => one_time = user.handed_out.get(dice.index(user.handed_out.len())).cloned(),
            2 => {
                spk = user.spks[dice.index(user.spks.len())].clone();
                one_time = None;
            }
            3 => spk.signature[dice.index(256)] ^= 1,
            4 => return None,
            _ => {}
        }
        Some(OwnedBundle { owner: whose, spk, one_time })
    }

    pub(super) fn remember(&mut self, from: Who, to: Who, envelope: &[u8]) {
        self.history.push_back((from, to, envelope.to_vec()));
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }

    /// Answers what is not so, or changes what was sent. False if the message does not go on.
    pub(super) fn lie_about(
        &mut self,
        id: (Who, Id),
        to: Who,
        envelope: &[u8],
        now_ms: u64,
        dice: &mut Dice,
    ) -> bool {
        let (sender, own_id) = id;
        let passes_on = dice.per_mille(500);
        let answer = match dice.below(10) {
            0 => Answer::Collected(Receipt::ZERO),
            1 => Answer::Collected(Receipt(dice.bytes())),
            2 => Answer::Done,
            3 => Answer::Expired,
            4 => Answer::Uncertain,
            5 => Answer::Stored,
            6 => {
                let code = dice.pick(&[
                    ErrorCode::IdConflict,
                    ErrorCode::IdTooOld,
                    ErrorCode::MailboxFull,
                    ErrorCode::KeyChanged,
                    ErrorCode::BadBundle,
                ]);
                Answer::Refused { code: code.into(), retry_after_ms: dice.below(60_000) }
            }
            7 => {
                self.push(sender, to, None, flip(envelope.to_vec(), dice), Class::Flipped, now_ms);
                return passes_on;
            }
            8 => {
                // In its place: the recipient's Reject comes back as the message's own.
                self.push(sender, to, Some(id), flip(envelope.to_vec(), dice), Class::Flipped, now_ms);
                return false;
            }
            _ => return passes_on,
        };
        self.tell(sender, own_id, answer);
        passes_on
    }

    /// Delivers it twice, or under another name, or something that was sent before.
    pub(super) fn send_something_else(
        &mut self,
        sender: Who,
        to: Who,
        envelope: &[u8],
        now_ms: u64,
        dice: &mut Dice,
    ) {
        match dice.below(5) {
            0 => self.push(sender, to, None, envelope.to_vec(), Class::Honest, now_ms),
            1 => {
                let other = dice.index(self.users.len());
                if other != sender && other != to {
                    self.push(other, to, None, envelope.to_vec(), Class::WrongSender, now_ms);
                } else if other == to {
                    // Back to its sender as from the recipient, or to the recipient as from itself.
                    let at = dice.pick(&[sender, to]);
                    self.push(to, at, None, envelope.to_vec(), Class::WrongSender, now_ms);
                }
            }
            _ => self.replay(now_ms, dice),
        }
    }

    /// Something that was sent before, once more.
    pub(super) fn replay(&mut self, now_ms: u64, dice: &mut Dice) {
        if self.history.is_empty() {
            return;
        }
        let (from, to, envelope) = self.history[dice.index(self.history.len())].clone();
        if dice.per_mille(300) {
            let flipped = flip(envelope, dice);
            self.push(from, to, None, flipped, Class::Flipped, now_ms);
        } else {
            self.push(from, to, None, envelope, Class::Honest, now_ms);
        }
        self.pump(to, now_ms, dice);
    }
}

/// Until when a message is held back: forever, if faults do not stop before.
pub(super) fn hold(now_ms: u64, dice: &mut Dice) -> Option<u64> {
    match dice.below(3) {
        0 => Some(now_ms + dice.below(HOUR_MS)),
        1 => Some(now_ms + dice.below(5 * DAY_MS)),
        _ => Some(u64::MAX),
    }
}

/// One bit changed, anywhere.
fn flip(mut envelope: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let at = dice.index(envelope.len());
    envelope[at] ^= 1 << dice.below(8);
    envelope
}
