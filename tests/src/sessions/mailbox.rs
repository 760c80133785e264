//! The model client's receiving and its prekeys, after client/src/engine/mailbox.rs and upkeep.rs.
//!
//! Owns: what is done with each frame that comes, and how many private operations that may take. Must not
//! know the relay.

use e2e_protocol::e2e::limits::{
    INIT_EARNED_MESSAGES, INIT_WINDOW_MS, INITS_PER_PEER_MAX, PREAMBLES_WAITING_MAX, RECORDS_KEPT_MS,
    SPK_AGE_MS_MAX,
};
use e2e_protocol::e2e::{HEADER_BYTES, INIT_BYTES, Inbox, Kind, Opened, RejectReason, STEP_BYTES};
use e2e_protocol::ids::{Receipt, SessionId};

use super::checks::Effect;
use super::client::{Process, Work};
use super::frames::{Class, Down, Own, Up};
use super::home::Message;
use super::keys::me;
use super::{HOUR_MS, Who};

/// Preambles that this process decrypted, as the checks know it.
#[derive(Default)]
pub(super) struct Decrypted {
    /// Those that no valid tag followed, oldest first.
    waiting: Vec<(Who, Vec<u8>)>,
    /// INITs: by whom and when.
    inits: Vec<(Who, u64)>,
}

/// What came of opening an envelope.
struct Attempt {
    class: Class,
    is_new: bool,
    reason: Option<RejectReason>,
    operations: u64,
}

impl Process {
    pub(super) fn disconnected(&mut self) {
        self.connected = false;
        self.ready = false;
        self.drained = false;
        self.publishing = false;
        self.next_ask_ms = None;
        self.planned = None;
        self.outbox_disconnected();
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        [self.outbox_due_ms(), self.next_ask_ms.filter(|_| !self.publishing)].into_iter().flatten().min()
    }

    pub(super) fn handle_time(&mut self, work: &mut Work<'_>) {
        if !self.ready {
            return;
        }
        let later = work.now_ms + 1..=work.now_ms + HOUR_MS;
        if self.next_ask_ms.is_some_and(|due_ms| !later.contains(&due_ms)) && !self.publishing {
            self.next_ask_ms = Some(work.now_ms.saturating_add(HOUR_MS));
            work.up.push(Up::AskOwn);
        }
        self.advance_outbox(work);
    }

    pub(super) fn handle(&mut self, work: &mut Work<'_>, frame: Down) {
        match frame {
            Down::Welcome { own, queued } => {
                self.ready = true;
                self.queued = queued;
                self.plan_prekeys(work, own);
                self.read_to_the_end(work);
                self.advance_outbox(work);
            }
            Down::Own { own } => self.plan_prekeys(work, own),
            Down::Published { own } => {
                let now_ms = work.now_ms;
                work.turn.prekeys().spk_uploaded(own.spk, now_ms);
                self.publishing = false;
                self.next_ask_ms = Some(now_ms.saturating_add(HOUR_MS));
            }
            Down::Deliver { sequence, from, envelope, class } => {
                let receipt = self.open(work, from, &envelope, class);
                work.up.push(Up::Ack { sequence, receipt });
                self.queued = self.queued.saturating_sub(1);
                self.read_to_the_end(work);
            }
            Down::Result { id, answer } => {
                self.settle(work, id, answer);
                self.advance_outbox(work);
            }
            Down::Entry { whose, bundle } => self.handle_entry(work, whose, bundle.as_deref()),
        }
    }

    fn read_to_the_end(&mut self, work: &mut Work<'_>) {
        if self.queued == 0 && !self.drained {
            self.drained = true;
            let now_ms = work.now_ms;
            let _ = work.turn.prekeys().queue_drained(now_ms);
        }
    }

    fn plan_prekeys(&mut self, work: &mut Work<'_>, own: Own) {
        let now_ms = work.now_ms;
        if self.publishing {
            return;
        }
        self.next_ask_ms = Some(now_ms.saturating_add(HOUR_MS));
        if self.planned.is_some_and(|(planned, until_ms)| planned == own && now_ms < until_ms) {
            return;
        }
        let prekeys = work.turn.prekeys();
        prekeys.spk_uploaded(own.spk, now_ms);
        let renew = prekeys.needs_spk(now_ms, work.profile, own.spk);
        let me = me(work.who, work.profile);
        let spk =
            renew.then(|| work.turn.prekeys().publish_spk(me, work.keys.spk(), now_ms, work.dice.rng()));
        let batch = if renew || work.turn.prekeys().needs_batch(own.spk, own.left) {
            let keys = work.keys.batch();
            let made = work.turn.prekeys().publish_batch(me, keys, work.dice.rng());
            Some(made.expect("it was asked for"))
        } else {
            // Nothing changes by itself but the signed prekey's age.
            self.planned = Some((own, now_ms.saturating_add(SPK_AGE_MS_MAX / 7)));
            None
        };
        if spk.is_some() || batch.is_some() {
            self.publishing = true;
            work.checks.counts.signatures += u64::from(spk.is_some()) + u64::from(batch.is_some());
            work.up.push(Up::Publish { spk: spk.map(Box::new), batch: batch.map(Box::new) });
        }
    }

    /// Opens a message and keeps it; gives what is to be acknowledged.
    fn open(&mut self, work: &mut Work<'_>, from: Who, envelope: &[u8], class: Class) -> Receipt {
        let now_ms = work.now_ms;
        let (peer, records, prekeys) = work.turn.receiving(from);
        let before = prekeys.private_operations();
        let me = me(work.who, work.profile);
        let mut inbox = Inbox { me, prekeys, records, preambles: &mut self.preambles };
        let opened = peer.decrypt(&mut inbox, envelope, now_ms, work.dice.rng());
        let what = Attempt {
            class,
            is_new: matches!(opened, Ok(Opened::New(_))),
            reason: opened.as_ref().err().map(|reject| reject.reason),
            operations: prekeys.private_operations() - before,
        };
        work.checks.counts.decryptions += what.operations;
        self.decrypted.count(work, from, envelope, &what);
        let before = work.checks.opened_at(work.who, work.generation, envelope);
        // As long as its record is kept: 60 days. No seed has so many messages that the number matters.
        let slack_ms = 2 * work.checks.clocks_off_ms;
        let is_recorded = before.is_some_and(|at_ms| now_ms.abs_diff(at_ms) + slack_ms < RECORDS_KEPT_MS);
        if class == Class::Honest && is_recorded && !matches!(opened, Ok(Opened::Again(_))) {
            work.checks.violation(format!("opened before, and not receipted again: {:?}", what.reason));
        }
        match opened {
            Ok(Opened::Again(receipt)) => receipt,
            Ok(Opened::New(message)) => {
                work.turn.push_record(from, &message.record);
                if !message.known && message.plaintext.kind != Kind::Nothing {
                    let body = message.plaintext.body.to_vec();
                    work.turn.keep(Message { from, id: message.plaintext.id, body });
                }
                let receipt = message.record.receipt;
                work.effects.push(Effect::Opened { from, message, class, envelope: envelope.to_vec() });
                self.step_with(work, from);
                receipt
            }
            Err(reject) => {
                let tag = *envelope.last_chunk().expect("an envelope ends with its tag");
                work.effects.push(Effect::Rejected { from, reason: reject.reason, class, tag });
                Receipt::ZERO
            }
        }
    }
}

impl Decrypted {
    /// What an envelope may cost: 2 private operations for an INIT with an OPK, 1 for another and for a STEP, once as
    /// long as it is remembered; and 1 for its own key, once its tag was right.
    fn count(&mut self, work: &mut Work<'_>, from: Who, envelope: &[u8], what: &Attempt) {
        let preamble = preamble(envelope);
        let is_known = self.waiting.iter().any(|(peer, bytes)| *peer == from && bytes == preamble);
        let of_preamble = match preamble.len() {
            0 => 0,
            _ if is_known => 0,
            bytes if bytes > INIT_BYTES => 2,
            _ => 1,
        };
        let is_authentic = what.is_new
            || matches!(
                what.reason,
                Some(RejectReason::KeyErased | RejectReason::BadWrappedKey | RejectReason::BadPlaintext)
            );
        let of_key = u64::from(is_authentic && work.profile.wraps());
        if what.operations > of_preamble + of_key {
            let Attempt { class, reason, operations, .. } = what;
            work.checks.violation(format!("{operations} private operations for {class:?}: {reason:?}"));
        }
        let decrypted =
            !is_known && of_preamble > 0 && what.operations >= of_preamble + u64::from(what.is_new) * of_key;
        if is_authentic {
            self.waiting.retain(|(_, bytes)| bytes != preamble);
        } else if decrypted {
            if self.waiting.iter().filter(|(peer, _)| *peer == from).count() >= PREAMBLES_WAITING_MAX {
                let oldest = self.waiting.iter().position(|(peer, _)| *peer == from);
                oldest.map(|oldest| self.waiting.remove(oldest));
            }
            self.waiting.push((from, preamble.to_vec()));
        }
        if decrypted && preamble.len() > STEP_BYTES {
            self.count_init(work, from);
        }
        let before = work.checks.opened_of_first_chain(work.who, session(envelope));
        if what.is_new && epoch(envelope) == 0 && before + 1 == INIT_EARNED_MESSAGES {
            let oldest = self.inits.iter().position(|(peer, _)| *peer == from);
            oldest.map(|oldest| self.inits.remove(oldest));
        }
    }

    fn count_init(&mut self, work: &mut Work<'_>, from: Who) {
        self.inits.retain(|(_, at_ms)| work.now_ms.abs_diff(*at_ms) < INIT_WINDOW_MS);
        self.inits.push((from, work.now_ms));
        if self.inits.iter().filter(|(peer, _)| *peer == from).count() > INITS_PER_PEER_MAX {
            work.checks.violation("more INITs of one peer were decrypted in an hour than are allowed".into());
        }
    }
}

/// The preamble of an envelope, as its header says; nothing if that does not fit.
pub(super) fn preamble(envelope: &[u8]) -> &[u8] {
    let bytes = usize::from(u16::from_be_bytes([envelope[32], envelope[33]]));
    envelope.get(HEADER_BYTES..HEADER_BYTES + bytes).unwrap_or_default()
}

pub(super) fn session(envelope: &[u8]) -> SessionId {
    SessionId(envelope[4..20].try_into().expect("16 bytes"))
}

pub(super) fn epoch(envelope: &[u8]) -> u32 {
    u32::from_be_bytes(envelope[20..24].try_into().expect("four bytes"))
}

pub(super) fn number(envelope: &[u8]) -> u32 {
    u32::from_be_bytes(envelope[24..28].try_into().expect("four bytes"))
}
