//! The outbox policy: what is done with a message for each answer that there can be.
//!
//! Owns: the rules of spec/crypto.md, "Outbox", as one pure function, and the pauses between
//! attempts. Must not know files or frames. The relay's word is believed as far as it can only delay;
//! a message is let go only on its recipient's receipt, or after 30 days.

use e2e_protocol::e2e::{self, Kind, judge};
use e2e_protocol::ids::Receipt;
use e2e_protocol::wire::{Code, ErrorCode};

use super::event::{Drop, Fate, Wait};
use crate::state::OutboxItem;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// A message is let go, with a report, so long after it was first sent. No relay keeps one longer.
pub const KEPT_MS_MAX: u64 = 30 * DAY_MS;

/// No pause is longer.
pub const PAUSE_MS_MAX: u64 = DAY_MS;

/// What the relay stored is sent again only after so long: it either still has it, and says so, or
/// lost it.
pub const STORED_PAUSE_MS: u64 = PAUSE_MS_MAX;

/// The pause after the second Reject; it doubles with each further one, up to a day.
pub const REJECT_PAUSE_MS_MIN: u64 = 10 * MINUTE_MS;

/// The first pause after the relay asked to try again later and did not say when; it doubles.
pub const RETRY_PAUSE_MS_MIN: u64 = 5 * SECOND_MS;

/// Other pauses double up to this.
pub const RETRY_PAUSE_MS_MAX: u64 = 60 * MINUTE_MS;

/// What the relay said about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The recipient's client acknowledged it, with this.
    Collected(Receipt),
    /// It is on the relay's disk.
    Stored,
    /// It is on the relay's disk, or its recipient has it.
    Accepted,
    /// It was not taken.
    Refused {
        /// Why.
        code: Code,
        /// When it may be tried again, milliseconds from now; 0 where nothing is said.
        retry_after_ms: u64,
    },
    /// It was forwarded, and may be lost.
    Uncertain,
    /// Its time to live ran out.
    Expired,
    /// It was acknowledged before, and the receipt is forgotten.
    Done,
}

/// What is done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its recipient has it: it is erased.
    LetGo,
    /// It is kept and not sent again before this time.
    Keep {
        /// Unix milliseconds.
        until_ms: u64,
        /// What is said of it.
        fate: Fate,
    },
    /// The same envelope is sent again.
    SendAgain {
        /// Under a new number, because the relay regards this one as dealt with.
        renumber: bool,
        /// Not before, Unix milliseconds.
        until_ms: u64,
        /// Why.
        why: Wait,
    },
    /// The message is encrypted anew; its session is not used any more.
    EncryptAnew {
        /// Not before, Unix milliseconds.
        until_ms: u64,
    },
    /// Its session is not used any more, and there is nothing in it to be sent again.
    Forget,
    /// The recipient is looked up again, then the same envelope is sent.
    LookUp {
        /// Not before, Unix milliseconds.
        until_ms: u64,
        /// Why.
        why: Wait,
    },
    /// It is dropped, with a report.
    Drop(Drop),
}

/// Judges an answer about the latest envelope of `item`.
#[must_use]
pub fn verdict(item: &OutboxItem, answer: Answer, now_ms: u64) -> Verdict {
    let after = |pause_ms: u64| now_ms.saturating_add(pause_ms);
    let again = |renumber, pause_ms, why| Verdict::SendAgain { renumber, until_ms: after(pause_ms), why };
    let pause_ms = retry_pause_ms(item.retries);
    match answer {
        Answer::Collected(receipt) => {
            let expected = item.sealed.as_ref().map_or(Receipt::ZERO, |sealed| sealed.receipt);
            match judge(&expected, &receipt) {
                e2e::Answer::Received => Verdict::LetGo,
                e2e::Answer::Rejected if item.plaintext.kind == Kind::Nothing => Verdict::Forget,
                e2e::Answer::Rejected => {
                    Verdict::EncryptAnew { until_ms: after(reject_pause_ms(item.rejects)) }
                }
                e2e::Answer::Forged => again(true, pause_ms, Wait::Unproven),
            }
        }
        Answer::Stored => Verdict::Keep { until_ms: after(STORED_PAUSE_MS), fate: Fate::Stored },
        // Said once more long after: that it was collected and the receipt was lost can't be told from that it waits still.
        Answer::Accepted if item.stored => again(true, STORED_PAUSE_MS, Wait::Unproven),
        Answer::Accepted => Verdict::Keep { until_ms: after(STORED_PAUSE_MS), fate: Fate::Accepted },
        Answer::Uncertain => again(false, pause_ms.max(SECOND_MS), Wait::Uncertain),
        Answer::Done => again(true, pause_ms, Wait::Unproven),
        Answer::Expired if is_too_old(item, now_ms) => Verdict::Drop(Drop::TooOld),
        Answer::Expired => again(false, pause_ms, Wait::Unproven),
        Answer::Refused { code, retry_after_ms } => match code.known() {
            Some(ErrorCode::IdTooOld | ErrorCode::IdConflict) => again(true, pause_ms, Wait::Refused(code)),
            Some(ErrorCode::UnknownRecipient | ErrorCode::KeyChanged) => {
                Verdict::LookUp { until_ms: after(pause_ms), why: Wait::Refused(code) }
            }
            _ if code.retry() => {
                let pause_ms = retry_after_ms.max(pause_ms).clamp(RETRY_PAUSE_MS_MIN, PAUSE_MS_MAX);
                again(false, pause_ms, Wait::Refused(code))
            }
            // A word of the relay's alone can only delay: it may have stored the message before.
            _ => again(false, STORED_PAUSE_MS, Wait::Refused(code)),
        },
    }
}

/// Whether nobody will keep it any longer.
#[must_use]
pub fn is_too_old(item: &OutboxItem, now_ms: u64) -> bool {
    item.first_sent_ms != 0 && now_ms.saturating_sub(item.first_sent_ms) >= KEPT_MS_MAX
}

/// Whether a pause until `until_ms` is over. One that looks longer than any is, because the clock was
/// set back since.
#[must_use]
pub fn is_due(until_ms: u64, now_ms: u64) -> bool {
    until_ms <= now_ms || until_ms > now_ms.saturating_add(PAUSE_MS_MAX)
}

/// The pause before attempt `retries + 2`: the first retry comes at once, because most causes are
/// gone with it; then it doubles from [`RETRY_PAUSE_MS_MIN`].
#[must_use]
pub fn retry_pause_ms(retries: u32) -> u64 {
    doubling(RETRY_PAUSE_MS_MIN, retries, RETRY_PAUSE_MS_MAX)
}

/// The pause after a Reject, when there were `rejects` before it.
fn reject_pause_ms(rejects: u32) -> u64 {
    doubling(REJECT_PAUSE_MS_MIN, rejects, PAUSE_MS_MAX)
}

/// 0, then `first_ms`, then twice the one before, up to `max_ms`.
fn doubling(first_ms: u64, step: u32, max_ms: u64) -> u64 {
    match step.checked_sub(1) {
        None => 0,
        Some(doublings) => first_ms.saturating_mul(1 << doublings.min(20)).min(max_ms),
    }
}
