//! The store against a simple model: whatever is asked for, in whatever batches, with failures and restarts
//! between them, it holds what it said it holds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use e2e_protocol::ids::Modulus;
use e2e_relayd::store::{
    Committer, Completion, Engine, MemoryEngine, PublishError, Request, Snapshot, StoreErrorKind, limits,
};
use proptest::{collection::vec, prelude::*};
use store_common::*;

const SLOTS: u32 = 3;
const MESSAGE_BYTES: usize = 40;

/// One step of a history. Numbers are reduced to what makes sense in the model's state.
#[derive(Clone, Debug)]
enum Step {
    Append { slot: u32, messages: u64, skip: u64 },
    Ack { slot: u32, part: u64 },
    SignedPrekey { slot: u32 },
    Batch { slot: u32, keys: u32 },
    SamePublicationAgain { slot: u32 },
    Take { slot: u32, one_time: bool },
    Commit,
    FailCommit,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    prop_oneof![
        6 => (slot.clone(), 1_u64..40, 0_u64..5)
            .prop_map(|(slot, messages, skip)| Step::Append { slot, messages, skip }),
        4 => (slot.clone(), 0_u64..=100).prop_map(|(slot, part)| Step::Ack { slot, part }),
        1 => slot.clone().prop_map(|slot| Step::SignedPrekey { slot }),
        2 => (slot.clone(), 1_u32..=16).prop_map(|(slot, keys)| Step::Batch { slot, keys }),
        1 => slot.clone().prop_map(|slot| Step::SamePublicationAgain { slot }),
        4 => (slot, any::<bool>()).prop_map(|(slot, one_time)| Step::Take { slot, one_time }),
        6 => Just(Step::Commit),
        1 => Just(Step::FailCommit),
        1 => Just(Step::Restart),
    ]
}

/// What a mailbox and its owner's prekeys should be.
#[derive(Clone, Default)]
struct Slot {
    next: u64,
    acked: u64,
    stored: BTreeSet<u64>,
    signed: Option<u32>,
    batches: u32,
    left: Vec<Modulus>,
    last_publication: Option<(u32, u32, u32)>,
}

struct Model {
    engine: Arc<FailingEngine>,
    committer: Committer,
    slots: Vec<Slot>,
    /// The state after the last commit that succeeded, but for sequences: none is given twice.
    committed: Vec<Slot>,
    queued: Vec<(Request, Option<Completion>)>,
    handed_out: BTreeMap<Modulus, u32>,
    seed: u32,
}

impl Model {
    fn over(inner: Arc<dyn Engine>, applied_all_the_same: bool) -> Self {
        let engine = Arc::new(FailingEngine::new(inner, StoreErrorKind::Io, applied_all_the_same));
        Snapshot::load(&*engine, [1; 32], NOW).unwrap();
        let slots = vec![Slot { next: 1, ..Slot::default() }; SLOTS as usize];
        for (slot, name) in (0..).zip(["alice", "bob", "carol"]) {
            apply(&*engine, &[register(slot, 1, name)]);
        }
        let committer = Committer::new(Arc::clone(&engine) as Arc<dyn Engine>);
        let (committed, queued) = (slots.clone(), Vec::new());
        Self { engine, committer, slots, committed, queued, handed_out: BTreeMap::new(), seed: 1000 }
    }

    fn handle(&mut self, step: &Step) {
        match *step {
            Step::Append { slot, messages, skip } => self.append(slot, messages, skip),
            Step::Ack { slot, part } => self.ack(slot, part),
            Step::SignedPrekey { slot } => {
                self.seed += 100;
                let seed = self.seed;
                let state = &mut self.slots[slot as usize];
                (state.signed, state.batches, state.left) = (Some(seed), 0, Vec::new());
                state.last_publication = None;
                self.queue(publish(slot, Some(signed_prekey(seed)), None), None);
            }
            Step::Batch { slot, keys } => self.batch(slot, keys),
            Step::SamePublicationAgain { slot } => {
                if let Some((signed, first, count)) = self.slots[slot as usize].last_publication {
                    self.queue(publish(slot, None, Some(batch(signed, first, count))), None);
                }
            }
            Step::Take { slot, one_time } => self.queue(take(slot, one_time), None),
            Step::Commit => self.commit(false),
            Step::FailCommit => self.commit(true),
            Step::Restart => {
                self.commit(false);
                self.engine.reopen().unwrap();
                self.committer = Committer::new(Arc::clone(&self.engine) as Arc<dyn Engine>);
            }
        }
    }

    fn queue(&mut self, request: Request, expected: Option<Completion>) {
        self.queued.push((request, expected));
    }

    fn append(&mut self, slot: u32, messages: u64, skip: u64) {
        let state = &mut self.slots[slot as usize];
        let (first, last) = (state.next + skip, state.next + skip + messages - 1);
        state.next = last + 1;
        state.stored.extend(first..=last);
        let last_sequence = e2e_protocol::ids::Sequence(last);
        self.queue(
            append(slot, first, last, MESSAGE_BYTES),
            Some(Completion::Appended { slot, last: last_sequence }),
        );
    }

    /// Acknowledges a part, in percent, of what is stored.
    fn ack(&mut self, slot: u32, part: u64) {
        let state = &mut self.slots[slot as usize];
        let upto = state.acked + (state.next - 1 - state.acked) * part / 100;
        state.acked = upto;
        state.stored.retain(|sequence| *sequence > upto);
        let left = state.stored.len() as u64;
        self.queue(acked(slot, upto, left, left * MESSAGE_BYTES as u64), None);
    }

    fn batch(&mut self, slot: u32, keys: u32) {
        self.seed += 100;
        let (seed, token) = (self.seed, 8);
        let state = &mut self.slots[slot as usize];
        let refused = match state.signed {
            None => Some(PublishError::NoSignedPrekey),
            Some(_) if state.batches as usize == limits::PREKEY_BATCHES_MAX => {
                Some(PublishError::BatchesFull)
            }
            Some(signed) => {
                state.batches += 1;
                state.left.extend((seed..seed + keys).map(modulus));
                state.last_publication = Some((signed, seed, keys));
                None
            }
        };
        let expected = refused.map(|error| Completion::Published { slot, token, result: Err(error) });
        let signed = state.signed.unwrap_or(1);
        self.queue(publish(slot, None, Some(batch(signed, seed, keys))), expected);
    }

    fn commit(&mut self, fail: bool) {
        let (requests, expected): (Vec<_>, Vec<_>) = std::mem::take(&mut self.queued).into_iter().unzip();
        if fail {
            self.engine.fail(1, 0);
        }
        let completions = self.committer.handle_batch(&requests, NOW);
        self.engine.fail(0, 0);
        let answered =
            requests.iter().zip(expected).filter(|(request, _)| !matches!(request, Request::Acked { .. }));
        let answered: Vec<_> = answered.collect();
        assert_eq!(answered.len(), completions.len());
        if self.committer.retry_after().is_some() {
            self.committer.retry(NOW);
            assert_eq!(self.committer.retry_after(), None);
            return self.resume_after_failure();
        }
        for ((_, expected), completion) in answered.into_iter().zip(completions) {
            if let Some(expected) = expected {
                assert_eq!(completion, expected);
            }
            self.check_taken(completion);
        }
        self.committed.clone_from(&self.slots);
        self.check();
    }

    /// A one-time prekey that is handed out was published, is of the batches in force, and was not handed
    /// out before.
    fn check_taken(&mut self, completion: Completion) {
        let Completion::Bundle { slot, result, .. } = completion else { return };
        let Some(one_time) = result.unwrap().and_then(|bundle| bundle.one_time) else { return };
        assert_eq!(self.handed_out.insert(one_time.modulus, slot), None, "handed out twice");
        self.slots[slot as usize].left.retain(|modulus| *modulus != one_time.modulus);
    }

    /// Messages of the failed batch are gone, and acknowledgements took effect.
    fn resume_after_failure(&mut self) {
        for (state, before) in self.slots.iter_mut().zip(&self.committed) {
            let acked = state.acked;
            state.stored = before.stored.iter().copied().filter(|sequence| *sequence > acked).collect();
        }
        // Of the prekeys either state would be right: a new signed prekey makes both sides agree again.
        for (slot, state) in (0..).zip(&mut self.slots) {
            self.seed += 100;
            (state.signed, state.batches, state.left) = (Some(self.seed), 0, Vec::new());
            state.last_publication = None;
            apply(&*self.engine, &[publish(slot, Some(signed_prekey(self.seed)), None)]);
        }
        self.committed.clone_from(&self.slots);
        self.check();
    }

    fn check(&self) {
        let snapshot = Snapshot::load(&*self.engine, [0; 32], NOW).unwrap();
        for (slot, state) in (0..).zip(&self.slots) {
            let found = backlog_bytes(&*self.engine, slot, state.acked);
            let found = found.chunks_exact(MESSAGE_BYTES).map(|bytes| sequence_of(slot, bytes));
            // The first chunk may hold some that are acknowledged.
            let found: Vec<u64> = found.filter(|sequence| *sequence > state.acked).collect();
            assert_eq!(found, state.stored.iter().copied().collect::<Vec<_>>(), "slot {slot}");
            let mailbox = snapshot.mailboxes.iter().find(|mailbox| mailbox.slot == slot);
            match mailbox {
                None => assert_eq!(state.stored, BTreeSet::new(), "slot {slot}"),
                Some(mailbox) => assert!(mailbox.messages >= state.stored.len() as u64, "slot {slot}"),
            }
            let prekeys = snapshot.users[slot as usize].prekeys;
            assert_eq!(usize::from(prekeys.one_time_left), state.left.len(), "slot {slot}");
            assert!(state.signed.is_none_or(|seed| prekeys.signed_prekey == key_id(seed)), "slot {slot}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn memory_engine_holds_what_the_model_holds(applied in any::<bool>(), steps in vec(step(), 1..120)) {
        let mut model = Model::over(Arc::new(MemoryEngine::new()), applied);
        steps.iter().for_each(|step| model.handle(step));
        model.commit(false);
    }

    #[test]
    fn log_holds_what_the_model_holds(
        applied in any::<bool>(),
        settling in any::<bool>(),
        steps in vec(step(), 1..60),
    ) {
        let dir = TempDir::new();
        let log = log_engine(&dir);
        let engine: Arc<dyn Engine> = if settling { Arc::new(Settling(log)) } else { Arc::new(log) };
        let mut model = Model::over(engine, applied);
        steps.iter().for_each(|step| model.handle(step));
        model.commit(false);
    }
}
