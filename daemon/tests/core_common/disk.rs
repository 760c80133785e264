//! The store in memory: the real committer over an engine that can be made to fail, with answers that
//! can be held back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e_relayd::store::{
    Committer, Completion, Engine, MemoryEngine, Request, StoreError, StoreErrorKind, Table, Visit, Write,
    apply_batch,
};

/// An engine whose commits or reads fail while they are told to.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    inner: MemoryEngine,
    commits_fail: AtomicBool,
    /// A commit that fails is carried out all the same.
    applied: AtomicBool,
    reads_fail: AtomicBool,
}

fn failure() -> StoreError {
    StoreError::new(StoreErrorKind::Io, "as the test wants it")
}

impl Failing {
    fn read(&self) -> Result<&MemoryEngine, StoreError> {
        if self.reads_fail.load(Ordering::Relaxed) { Err(failure()) } else { Ok(&self.inner) }
    }
}

impl Engine for Failing {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read()?.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.read()?.scan(table, from, to, visit)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        if !self.commits_fail.load(Ordering::Relaxed) {
            return self.inner.commit(writes);
        }
        if self.applied.load(Ordering::Relaxed) {
            self.inner.commit(writes)?;
        }
        Err(failure())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// See the module.
pub(crate) struct Disk {
    engine: Arc<Failing>,
    committer: Committer,
    commits: VecDeque<Request>,
    reads: VecDeque<Request>,
    ready: VecDeque<Completion>,
    /// Requests lie where they are until [`Disk::work`].
    pub(crate) held: bool,
    /// Everything that was asked for, in order.
    pub(crate) log: Vec<&'static str>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let engine = Arc::new(Failing::default());
        Self {
            committer: Committer::new(Arc::<Failing>::clone(&engine)),
            engine,
            commits: VecDeque::new(),
            reads: VecDeque::new(),
            ready: VecDeque::new(),
            held: false,
            log: Vec::new(),
        }
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// From now on commits fail, or don't.
    pub(crate) fn fail(&mut self, fail: bool) {
        self.engine.commits_fail.store(fail, Ordering::Relaxed);
    }

    /// From now on commits that fail are on the disk all the same, or not.
    pub(crate) fn apply_failed(&mut self, applied: bool) {
        self.engine.applied.store(applied, Ordering::Relaxed);
    }

    /// From now on reads fail, or don't.
    pub(crate) fn fail_reads(&mut self, fail: bool) {
        self.engine.reads_fail.store(fail, Ordering::Relaxed);
    }

    pub(crate) fn submit(&mut self, request: Request) {
        self.log.push(match &request {
            Request::Append { .. } => "append",
            Request::Acked { .. } => "acked",
            Request::ReadBacklog { .. } => "read",
            Request::Register { .. } => "register",
            Request::Publish { .. } => "publish",
            Request::TakeBundle { .. } => "take",
            Request::RollOver { .. } => "roll",
            Request::Remove { .. } => "remove",
            Request::Block { .. } => "block",
            Request::PutToken { .. } => "put token",
            Request::DropToken { .. } => "drop token",
            Request::ReadKeys { .. } => "keys",
        });
        match request {
            Request::ReadBacklog { .. }
            | Request::TakeBundle { one_time: false, .. }
            | Request::ReadKeys { .. } => {
                self.reads.push_back(request);
            }
            _ => self.commits.push_back(request),
        }
    }

    /// Requests that are not carried out yet: commits and reads.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.commits.len(), self.reads.len())
    }

    /// Carries out so many commits, in one batch.
    pub(crate) fn commit(&mut self, count: usize, now: u64) {
        if self.committer.retry_after().is_some() {
            let answers = self.committer.retry(now);
            self.ready.extend(answers);
        }
        let batch: Vec<_> = self.commits.drain(..count.min(self.commits.len())).collect();
        if !batch.is_empty() {
            self.ready.extend(self.committer.handle_batch(&batch, now));
        }
    }

    /// Carries out the read at this place in the queue.
    pub(crate) fn read(&mut self, index: usize, now: u64) {
        if let Some(request) = self.reads.remove(index) {
            self.ready.extend(apply_batch(&*self.engine, &[request], now).completions);
        }
    }

    /// The same, and its answer overtakes those to the commits that it saw: another thread gives it.
    pub(crate) fn read_and_overtake(&mut self, index: usize, now: u64) {
        let before = self.ready.len();
        self.read(index, now);
        self.ready.rotate_left(before);
    }

    /// Carries out everything.
    pub(crate) fn work(&mut self, now: u64) {
        self.commit(usize::MAX, now);
        while !self.reads.is_empty() {
            self.read(0, now);
        }
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.ready.is_empty() || (!self.held && self.waiting() != (0, 0))
    }

    /// The answers that are there now.
    pub(crate) fn answers(&mut self, now: u64) -> Vec<Completion> {
        if !self.held {
            self.work(now);
        }
        self.ready.drain(..).collect()
    }

    /// Takes answers out, to be given later.
    pub(crate) fn take_answers(&mut self) -> Vec<Completion> {
        self.ready.drain(..).collect()
    }

    pub(crate) fn give_answers(&mut self, answers: Vec<Completion>) {
        self.ready.extend(answers);
    }

    /// Deletes a mailbox's messages behind the relay's back.
    pub(crate) fn forget_chunks(&self, slot: u32) {
        let from = slot.to_be_bytes().into_iter().chain([0; 8]).collect();
        let to_inclusive = slot.to_be_bytes().into_iter().chain([0xFF; 8]).collect();
        self.engine.inner.commit(&[Write::DeleteRange { table: Table::Chunks, from, to_inclusive }]).unwrap();
    }

    /// Changes the records of a mailbox's messages: first sequence 8, count 4, frames.
    pub(crate) fn damage_chunks(&self, slot: u32, change: impl Fn(&mut Vec<u8>)) {
        let from: Vec<u8> = slot.to_be_bytes().into_iter().chain([0; 8]).collect();
        let to: Vec<u8> = slot.to_be_bytes().into_iter().chain([0xFF; 8]).collect();
        let mut damaged = Vec::new();
        let mut damage = |key: &[u8], value: &[u8]| {
            let mut value = value.to_vec();
            change(&mut value);
            damaged.push(Write::Put { table: Table::Chunks, key: key.to_vec(), value });
            std::ops::ControlFlow::Continue(())
        };
        self.engine.inner.scan(Table::Chunks, &from, &to, &mut damage).unwrap();
        assert!(!damaged.is_empty());
        self.engine.inner.commit(&damaged).unwrap();
    }

    /// What is under way is lost.
    pub(crate) fn crash(&mut self) {
        self.commits.clear();
        self.reads.clear();
        self.ready.clear();
        self.committer = Committer::new(Arc::<Failing>::clone(&self.engine));
    }
}
