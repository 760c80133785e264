//! Batch after batch, over an engine that may fail and be opened again.
//!
//! This file owns what happens after a failure: who is told, what is cleaned up, what is kept, how long to
//! wait. It must not know threads: a simulator drives it too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use e2e_protocol::ids::Sequence;

use super::{
    Completion, CopyError, Engine, Frozen, GivenUp, Request, StoreError, StoreErrorKind,
    batch::{self, Batch, ChunkMemory, Failure},
    limits::{REOPEN_WAIT_MAX, REOPEN_WAIT_MIN},
};

/// Carries out batches. After a failure it refuses what needs a commit, until [`Committer::retry`]
/// succeeds.
pub struct Committer {
    engine: Arc<dyn Engine>,
    state: State,
    /// Before the engine is reopened. It starts over only when a batch was carried out: on a full disk,
    /// reopening works and the next batch fails again.
    wait: Duration,
    /// What the failed commit may have left on the disk and nobody was promised.
    doubts: Vec<Doubt>,
    /// The last acknowledgement of each mailbox that could not be written yet.
    acks: BTreeMap<u32, Request>,
    memory: ChunkMemory,
}

enum State {
    Working,
    /// The engine has to be reopened.
    Failed(StoreErrorKind),
}

#[derive(Clone, Copy)]
enum Doubt {
    Append {
        slot: u32,
        first: Sequence,
        last: Sequence,
    },
    Registration {
        slot: u32,
        generation: u32,
    },
    /// Both its outcomes are right: it is not undone but reported, once it can be seen.
    RollOver {
        slot: u32,
        generation: u32,
        token: u64,
    },
    /// The same.
    Removal {
        slot: u32,
        generation: u32,
        token: u64,
    },
}

impl Committer {
    /// Over an engine that works.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        let (state, wait) = (State::Working, REOPEN_WAIT_MIN);
        Self {
            engine,
            state,
            wait,
            doubts: Vec::new(),
            acks: BTreeMap::new(),
            memory: ChunkMemory::default(),
        }
    }

    /// Carries out `requests` in one commit, or refuses them. `now`: the relay's clock, Unix milliseconds.
    pub fn handle_batch(&mut self, requests: &[Request], now: u64) -> Vec<Completion> {
        if let State::Failed(kind) = self.state {
            self.keep_acks(requests);
            return requests.iter().filter_map(|request| batch::failed(request, kind)).collect();
        }
        let applied = batch::apply_with(&*self.engine, requests, now, &mut self.memory);
        match applied.failure {
            Some(Failure::Commit(error)) => {
                self.doubts.extend(requests.iter().filter_map(Doubt::of));
                self.keep_acks(requests);
                self.handle_failure(&error);
                let is_known = |completion: &Completion| {
                    !matches!(completion, Completion::RolledOver { .. } | Completion::Removed { .. })
                };
                return applied.completions.into_iter().filter(is_known).collect();
            }
            Some(Failure::Read(error)) => self.handle_failure(&error),
            None => self.wait = REOPEN_WAIT_MIN,
        }
        applied.completions
    }

    /// Has the engine settle what was committed: all of it, or only if there is too much. Answers wait meanwhile, so they are
    /// given before.
    pub fn settle(&mut self, all: bool) {
        if all {
            // Nothing goes on: what is not needed for some time is given back.
            self.memory = ChunkMemory::default();
        }
        if let State::Working = self.state
            && let Err(error) = self.engine.settle(all)
        {
            self.handle_failure(&error);
        }
    }

    /// Keeps the store readable as it is now.
    ///
    /// # Errors
    /// If the engine can't, or does not work at present.
    pub fn freeze(&mut self) -> Result<Frozen, CopyError> {
        if let State::Failed(kind) = self.state {
            return Err(StoreError::new(kind, "nothing can be copied until it works again").into());
        }
        match self.engine.freeze() {
            Ok(frozen) => frozen.ok_or(CopyError::Unsupported),
            Err(error) => {
                self.handle_failure(&error);
                Err(error.into())
            }
        }
    }

    /// Keeps no longer what was frozen.
    pub fn give_up_frozen(&self, why: GivenUp) {
        self.engine.give_up_frozen(why);
    }

    /// Whether there is nothing to settle.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.engine.is_settled()
    }

    /// The engine failed outside of a batch, in a read.
    pub fn handle_failure(&mut self, failure: &StoreError) {
        if let State::Working = self.state {
            log::error!("store: {failure}; nothing is stored until it works again");
            self.state = State::Failed(failure.kind);
        }
    }

    /// After which wait [`Committer::retry`] is due. `None`: nothing has failed.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.state {
            State::Working => None,
            State::Failed(_) => Some(self.wait),
        }
    }

    /// Opens the engine again, deletes what the failed commit may have left, and writes the acknowledgements
    /// that came meanwhile. Then batches are carried out again. The next wait is twice as long. Returns the
    /// answers that were put off until it could be seen what the failed commit had done.
    pub fn retry(&mut self, now: u64) -> Vec<Completion> {
        self.wait = REOPEN_WAIT_MAX.min(self.wait * 2);
        match self.recover(now) {
            Ok(answers) => {
                log::info!("store: works again");
                self.doubts.clear();
                self.acks.clear();
                self.state = State::Working;
                answers
            }
            Err(error) => {
                log::warn!("store: {error}");
                self.state = State::Failed(error.kind);
                Vec::new()
            }
        }
    }

    fn recover(&self, now: u64) -> Result<Vec<Completion>, StoreError> {
        self.engine.reopen()?;
        let mut batch = Batch::over(&*self.engine);
        let mut answers = Vec::new();
        for doubt in &self.doubts {
            match *doubt {
                Doubt::Append { slot, first, last } => batch.discard_append(slot, first, last)?,
                Doubt::Registration { slot, generation } => batch.discard_registration(slot, generation)?,
                Doubt::RollOver { slot, generation, token } => {
                    let happened = batch.is_held_by(slot, generation)?;
                    let result = if happened { Ok(()) } else { Err(self.failure()) };
                    answers.push(Completion::RolledOver { slot, token, result });
                }
                Doubt::Removal { slot, generation, token } => {
                    let happened = !batch.is_held_by(slot, generation)?;
                    let result = if happened { Ok(()) } else { Err(self.failure()) };
                    answers.push(Completion::Removed { slot, token, result });
                }
            }
        }
        for acked in self.acks.values() {
            batch.handle(acked)?;
        }
        batch.commit(now)?;
        // An acknowledgement counts what is left by appends of which some failed since.
        let mut batch = Batch::over(&*self.engine);
        for slot in self.slots_in_doubt() {
            batch.count_anew(slot)?;
        }
        batch.commit(now)?;
        Ok(answers)
    }

    fn slots_in_doubt(&self) -> BTreeSet<u32> {
        let appends = self.doubts.iter().filter_map(|doubt| match doubt {
            Doubt::Append { slot, .. } => Some(*slot),
            _ => None,
        });
        appends.chain(self.acks.keys().copied()).collect()
    }

    fn failure(&self) -> StoreErrorKind {
        match self.state {
            State::Working => StoreErrorKind::Io,
            State::Failed(kind) => kind,
        }
    }

    fn keep_acks(&mut self, requests: &[Request]) {
        for request in requests {
            if let Request::Acked { slot, .. } = request {
                self.acks.insert(*slot, request.clone());
            }
        }
    }
}

impl Doubt {
    fn of(request: &Request) -> Option<Self> {
        match *request {
            Request::Append { slot, first, last, .. } => Some(Self::Append { slot, first, last }),
            Request::Register { slot, generation, .. } => Some(Self::Registration { slot, generation }),
            Request::RollOver { slot, generation, token, .. } => {
                Some(Self::RollOver { slot, generation, token })
            }
            Request::Remove { slot, generation, token, .. } => {
                Some(Self::Removal { slot, generation, token })
            }
            _ => None,
        }
    }
}
