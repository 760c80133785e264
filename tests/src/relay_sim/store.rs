//! The store's two threads as a model in virtual time, around the real committer.
//!
//! Owns: which requests wait, which are under way and until when, and the answers that are ready; what a crash leaves
//! of all that. Must not know the core. Its order is that of `daemon/src/store/threads.rs`: one commit at a time with
//! all that waited, acknowledgements alone wait for company, reads in their order, and answers to reads may overtake.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use e2e_protocol::login::key_id;
use e2e_relayd::store::limits::{ACKED_ALONE_WAIT, BATCH_REQUESTS_MAX};
use e2e_relayd::store::{
    Committer, Completion, Failure, OneTimeRecord, PrekeyCount, Request, apply_batch, next_batch,
};

use super::defect::Defect;
use super::disk::{Health, ModelDisk};
use crate::dice::Dice;

/// How long commits and reads take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) commit_ms_max: u64,
    pub(super) read_ms_max: u64,
}

pub(super) struct Store {
    pub(super) disk: Arc<ModelDisk>,
    committer: Committer,
    commits: VecDeque<Request>,
    /// How many of `commits` somebody waits for, and since when there is something in it.
    urgent: usize,
    since_ms: u64,
    /// The commit under way, and when it is over.
    batch: Option<(u64, Vec<Request>)>,
    reads: VecDeque<Request>,
    read_done_ms: Option<u64>,
    retry_ms: Option<u64>,
    answers: VecDeque<Completion>,
    pub(super) pace: Pace,
    /// Bytes of messages that were given to it and are not answered.
    pub(super) in_flight_bytes: usize,
    defect: Option<Defect>,
    /// Appends that failed.
    pub(super) failures: u64,
    /// What was said before it was true.
    said: Vec<(u32, u64)>,
    /// The last one-time prekey of each slot that was handed out.
    last_given: HashMap<u32, OneTimeRecord>,
}

fn is_read(request: &Request) -> bool {
    matches!(
        request,
        Request::ReadBacklog { .. } | Request::TakeBundle { one_time: false, .. } | Request::ReadKeys { .. }
    )
}

fn millis(wait: std::time::Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    pub(super) fn new(seed: u64, pace: Pace, defect: Option<Defect>) -> Self {
        let disk = Arc::new(ModelDisk::new(seed));
        Self {
            committer: Committer::new(Arc::<ModelDisk>::clone(&disk)),
            disk,
            commits: VecDeque::new(),
            urgent: 0,
            since_ms: 0,
            batch: None,
            reads: VecDeque::new(),
            read_done_ms: None,
            retry_ms: None,
            answers: VecDeque::new(),
            pace,
            in_flight_bytes: 0,
            defect,
            failures: 0,
            said: Vec::new(),
            last_given: HashMap::new(),
        }
    }

    pub(super) fn submit(&mut self, mut request: Request, now_ms: u64, dice: &mut Dice) {
        self.in_flight_bytes += request.payload_bytes();
        if let Some(defect) = self.defect {
            if self.forget_request(defect, &request, dice) {
                return;
            }
            self.break_request(defect, &mut request, dice);
        }
        if is_read(&request) {
            self.reads.push_back(request);
            return;
        }
        if self.commits.is_empty() {
            self.since_ms = now_ms;
        }
        self.urgent += usize::from(request.is_urgent());
        self.commits.push_back(request);
    }

    /// Says that a request is carried out that is not; returns whether it did.
    fn forget_request(&mut self, defect: Defect, request: &Request, dice: &mut Dice) -> bool {
        let said = match (defect, request) {
            (Defect::ForgetName, Request::Register { slot, token, .. }) => {
                Completion::Registered { slot: *slot, token: *token, result: Ok(()) }
            }
            (Defect::ForgetKeys, Request::Publish { slot, signed_prekey: Some(prekey), token, .. }) => {
                let count = PrekeyCount { signed_prekey: key_id(&prekey.modulus), one_time_left: 0 };
                Completion::Published { slot: *slot, token: *token, result: Ok(count) }
            }
            _ => return false,
        };
        let forgets = dice.per_mille(defect.per_mille());
        if forgets {
            self.answers.push_back(said);
        }
        forgets
    }

    /// Gives what it gave before, instead of what it should.
    fn give_twice(&mut self, answer: &mut Completion, dice: &mut Dice) {
        if let Completion::Bundle { slot, result: Ok(Some(bundle)), .. } = answer
            && let Some(one_time) = &mut bundle.one_time
        {
            match self.last_given.get(slot) {
                Some(before) if dice.per_mille(Defect::PrekeyTwice.per_mille()) => *one_time = before.clone(),
                _ => drop(self.last_given.insert(*slot, one_time.clone())),
            }
        }
    }

    fn break_request(&mut self, defect: Defect, request: &mut Request, dice: &mut Dice) {
        let Request::Append { slot, last, messages, bytes, .. } = request else { return };
        if !dice.per_mille(defect.per_mille()) {
            return;
        }
        match defect {
            Defect::AckBeforeFsync => {
                self.said.push((*slot, last.0));
                self.answers.push_back(Completion::Appended { slot: *slot, last: *last });
            }
            Defect::DropMessage if *messages > 1 => {
                let first = e2e_protocol::wire::routed::frame_bytes_at(bytes).unwrap_or(0);
                bytes.drain(..first);
                *messages -= 1;
                self.in_flight_bytes -= first;
            }
            _ => {}
        }
    }

    /// When it next does something by itself.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let batch = self.batch.as_ref().map(|(done_ms, _)| *done_ms);
        let start = (batch.is_none() && !self.commits.is_empty()).then(|| self.due_ms());
        [batch, start, self.read_done_ms, self.retry_ms].into_iter().flatten().min()
    }

    fn due_ms(&self) -> u64 {
        let full = self.urgent > 0 || self.commits.len() >= BATCH_REQUESTS_MAX;
        if full { 0 } else { self.since_ms + millis(ACKED_ALONE_WAIT) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.commits.is_empty()
            && self.batch.is_none()
            && self.reads.is_empty()
            && self.answers.is_empty()
            && self.retry_ms.is_none()
    }

    pub(super) fn next_answer(&mut self) -> Option<Completion> {
        self.answers.pop_front()
    }

    /// What the threads do until `now_ms`; `clock` is the relay's.
    pub(super) fn work(&mut self, now_ms: u64, clock: u64, dice: &mut Dice) {
        if self.batch.as_ref().is_some_and(|(done_ms, _)| *done_ms <= now_ms)
            && let Some((_, batch)) = self.batch.take()
        {
            self.carry_out(&batch, clock);
            if self.defect == Some(Defect::PrekeyTwice) {
                let mut answers = std::mem::take(&mut self.answers);
                answers.iter_mut().for_each(|answer| self.give_twice(answer, dice));
                self.answers = answers;
            }
        }
        if self.batch.is_none() && !self.commits.is_empty() && self.due_ms() <= now_ms {
            let batch = self.take_batch(now_ms);
            self.batch = Some((now_ms + dice.below(self.pace.commit_ms_max + 1), batch));
        }
        self.read(now_ms, dice);
        if self.batch.is_none() {
            if self.retry_ms.is_some_and(|retry_ms| retry_ms <= now_ms) {
                self.retry_ms = None;
                self.answers.extend(self.committer.retry(clock));
            }
            self.retry_ms = match self.committer.retry_after() {
                None => None,
                Some(wait) => self.retry_ms.or(Some(now_ms + millis(wait))),
            };
        }
    }

    fn read(&mut self, now_ms: u64, dice: &mut Dice) {
        if self.read_done_ms.is_some_and(|done_ms| done_ms <= now_ms) {
            self.read_done_ms = None;
            if let Some(request) = self.reads.pop_front() {
                let applied = apply_batch(&*self.disk, &[request], 0);
                self.answers.extend(applied.completions);
                if let Some(Failure::Read(error) | Failure::Commit(error)) = applied.failure {
                    self.committer.handle_failure(&error);
                }
            }
        }
        if self.read_done_ms.is_none() && !self.reads.is_empty() {
            self.read_done_ms = Some(now_ms + dice.below(self.pace.read_ms_max + 1));
        }
    }

    fn take_batch(&mut self, now_ms: u64) -> Vec<Request> {
        let batch = next_batch(&mut self.commits);
        self.urgent -= batch.iter().filter(|request| request.is_urgent()).count();
        self.since_ms = now_ms;
        batch
    }

    fn carry_out(&mut self, batch: &[Request], clock: u64) {
        let answers = self.committer.handle_batch(batch, clock);
        self.in_flight_bytes -= batch.iter().map(Request::payload_bytes).sum::<usize>();
        for answer in answers {
            self.failures += u64::from(matches!(answer, Completion::AppendFailed { .. }));
            let (slot, last) = match &answer {
                Completion::Appended { slot, last } | Completion::AppendFailed { slot, last, .. } => {
                    (*slot, last.0)
                }
                _ => (0, 0),
            };
            match self.said.iter().position(|said| *said == (slot, last)) {
                Some(at) => {
                    self.said.swap_remove(at);
                }
                None => self.answers.push_back(answer),
            }
        }
    }

    /// The process dies. What was under way is there or not; what waited after it is there up to some commit.
    pub(super) fn crash(&mut self, now_ms: u64, clock: u64, dice: &mut Dice) {
        let mut batch = self.batch.take().map(|(_, batch)| batch);
        while let Some(under_way) = batch.take().filter(|_| dice.per_mille(500)) {
            self.carry_out(&under_way, clock);
            if dice.per_mille(500) && !self.commits.is_empty() {
                batch = Some(self.take_batch(now_ms));
            }
        }
        self.forget();
    }

    /// The process ends well: all that was asked for is done.
    pub(super) fn shut_down(&mut self, now_ms: u64, clock: u64) {
        if let Some((_, batch)) = self.batch.take() {
            self.carry_out(&batch, clock);
        }
        while !self.commits.is_empty() {
            let batch = self.take_batch(now_ms);
            self.carry_out(&batch, clock);
        }
        if self.committer.retry_after().is_some() {
            let _ = self.committer.retry(clock);
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.commits.clear();
        self.reads.clear();
        self.answers.clear();
        self.said.clear();
        (self.urgent, self.in_flight_bytes) = (0, 0);
        (self.read_done_ms, self.retry_ms) = (None, None);
        self.committer = Committer::new(Arc::<ModelDisk>::clone(&self.disk));
    }

    /// Carries out a request at once, before anything begins.
    pub(super) fn prepare(&mut self, request: Request, clock: u64) {
        self.committer.handle_batch(&[request], clock);
    }

    pub(super) fn set_health(&mut self, health: Health) {
        self.disk.set_health(health);
    }
}
