//! The threads around the store, and the handle that the event loop holds.
//!
//! One thread commits: it takes what is queued at that moment, makes one commit of it, and answers. One
//! thread reads. This file owns the queues and the waiting; what requests mean is elsewhere (`batch`,
//! `committer`, `reading`).

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io::{self, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Committer, Completion, CopyError, CopyReport, Engine, Figures, Frozen, GivenUp, Request, Store,
    StoreError, copy,
    figures::Meters,
    limits::{ACKED_ALONE_WAIT, BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, LOG_UNSETTLED_WAIT, STOP_LOOK_WAIT},
    reading,
    space::Space,
};

/// How much less urgent than the loop the store's threads are, as nice(2) counts.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// What the event loop sees of the store. Dropped, it flushes and stops the threads, as
/// [`StoreHandle::shutdown`] does.
#[derive(Debug)]
pub struct StoreHandle {
    shared: Arc<Shared>,
    ready: VecDeque<Completion>,
    threads: Vec<JoinHandle<()>>,
    /// The state directory is ours as long as this is open: let go last.
    _lock: Option<File>,
}

#[derive(Debug)]
struct Shared {
    queues: Mutex<Queues>,
    /// Wakes the committing thread.
    commits: Condvar,
    /// Wakes the reading thread.
    reads: Condvar,
    completions: Mutex<VecDeque<Completion>>,
    in_flight_bytes: AtomicUsize,
    /// The relay's clock as last observed, Unix milliseconds.
    clock: AtomicU64,
    disk_is_low: AtomicBool,
    meters: Meters,
}

#[derive(Debug, Default)]
struct Queues {
    commits: VecDeque<Request>,
    /// How many of `commits` somebody waits for.
    urgent: usize,
    /// Since when there is something in `commits`.
    since: Option<Instant>,
    reads: VecDeque<Request>,
    /// A read failed: the engine has to be reopened.
    failure: Option<StoreError>,
    /// A copy is being made.
    copying: bool,
    /// Who waits for the store to be frozen for it.
    freeze: Option<mpsc::Sender<Result<Frozen, CopyError>>>,
    stopping: bool,
    /// How many of `commits` there may be before acknowledgements are looked at that later ones supersede.
    sweep_at: usize,
    /// The committing thread waits and is to be woken. It saves a system call per request that it does not.
    committer_waits: bool,
}

impl StoreHandle {
    /// Starts the threads over a store, and lets go of its lock when they have ended. `notify` is called by either thread after it has answered.
    pub(super) fn start(store: Store, notify: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let Store { engine, clock, lock, mut space } = store;
        let is_low = space.as_mut().is_some_and(|space| space.is_low(Instant::now()));
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            commits: Condvar::new(),
            reads: Condvar::new(),
            completions: Mutex::default(),
            in_flight_bytes: AtomicUsize::new(0),
            clock: AtomicU64::new(clock),
            disk_is_low: AtomicBool::new(is_low),
            meters: Meters::default(),
        });
        let (ready, threads) = (VecDeque::new(), Vec::new());
        let mut handle = Self { shared: Arc::clone(&shared), ready, threads, _lock: lock };
        let notify = Arc::new(notify);
        let (committer, commit_shared, commit_notify) =
            (Committer::new(Arc::clone(&engine)), Arc::clone(&shared), Arc::clone(&notify));
        handle
            .spawn("store-commit", move || commit_loop(&commit_shared, committer, space, &*commit_notify))?;
        handle.spawn("store-read", move || read_loop(&shared, &*engine, &*notify))?;
        Ok(handle)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(spawn(name, body)?);
        Ok(())
    }

    /// Tells the store the relay's time, Unix milliseconds. Each commit records the latest, so that time never
    /// runs backwards across restarts. Once per turn of the loop is enough.
    pub fn observe_clock(&self, now: u64) {
        self.shared.clock.fetch_max(now, Ordering::Relaxed);
    }

    /// Queues a request. It never waits for the disk.
    pub fn submit(&self, request: Request) {
        self.shared.in_flight_bytes.fetch_add(request.payload_bytes(), Ordering::Relaxed);
        let mut queues = self.shared.lock();
        if reading::is_read(&request) {
            queues.reads.push_back(request);
            self.shared.reads.notify_one();
            return;
        }
        let urgent = request.is_urgent();
        let first = queues.commits.is_empty();
        queues.urgent += usize::from(urgent);
        queues.commits.push_back(request);
        queues.forget_superseded();
        if first {
            queues.since = Some(Instant::now());
        }
        if queues.committer_waits && (urgent || first || queues.commits.len() == BATCH_REQUESTS_MAX) {
            queues.committer_waits = false;
            self.shared.commits.notify_one();
        }
    }

    /// The next answer, if there is one.
    pub fn try_completion(&mut self) -> Option<Completion> {
        if self.ready.is_empty() {
            mem::swap(&mut self.ready, &mut *self.shared.completions());
        }
        self.ready.pop_front()
    }

    /// Bytes of messages that were submitted and are not answered yet.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.shared.in_flight_bytes.load(Ordering::Relaxed)
    }

    /// Whether there is too little room on the disk for anything new. What was accepted may still be stored.
    #[must_use]
    pub fn disk_is_low(&self) -> bool {
        self.shared.disk_is_low.load(Ordering::Relaxed)
    }

    /// What is counted of the store.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            in_flight_bytes: self.in_flight_bytes(),
            disk_is_low: self.disk_is_low(),
            ..self.shared.meters.figures()
        }
    }

    /// Writes a copy of the store to `out`, on a thread of its own: as it is between two commits, with all that was committed by
    /// now. `done` is called from that thread with what came of it, `out` is dropped by then. Whoever reads slowly, or not at all,
    /// holds up the copy only; what the store holds back for it, docs/store.md says. The other end is [`super::receive_copy`].
    ///
    /// A store that stops does not wait for the copy: it ends as soon as `out` takes something or fails.
    ///
    /// # Errors
    /// [`CopyError::Busy`] if there is another one, [`CopyError::Stream`] if the system gives no thread. Then `done` is not
    /// called.
    pub fn copy_to(
        &self,
        out: impl Write + Send + 'static,
        done: impl FnOnce(Result<CopyReport, CopyError>) + Send + 'static,
    ) -> Result<(), CopyError> {
        if mem::replace(&mut self.shared.lock().copying, true) {
            return Err(CopyError::Busy);
        }
        let shared = Arc::clone(&self.shared);
        let body = move || {
            let result = shared.frozen().and_then(|frozen| copy::send(frozen, out));
            shared.lock().copying = false;
            done(result);
        };
        // It is not waited for: it may never end, and holds nothing that anyone needs.
        spawn("store-copy", body).map(drop).map_err(|error| {
            self.shared.lock().copying = false;
            CopyError::Stream(error)
        })
    }

    /// Carries out everything that is queued, stops the threads, and gives the answers not yet taken.
    pub fn shutdown(mut self) -> Vec<Completion> {
        self.stop();
        let mut rest = Vec::from(mem::take(&mut self.ready));
        rest.extend(self.shared.completions().drain(..));
        rest
    }

    /// The same, but it waits so long at most: whether it came to its end. Where the disk does not answer, the threads are left alone.
    #[must_use]
    pub fn shutdown_within(mut self, wait: Duration) -> bool {
        self.tell_to_stop();
        let until = Instant::now() + wait;
        while !self.threads.iter().all(JoinHandle::is_finished) {
            if Instant::now() >= until {
                self.threads.clear();
                return false;
            }
            thread::sleep(STOP_LOOK_WAIT);
        }
        true
    }

    fn tell_to_stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.commits.notify_all();
        self.shared.reads.notify_all();
    }

    fn stop(&mut self) {
        self.tell_to_stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("store: a thread ended by a panic");
            }
        }
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn completions(&self) -> MutexGuard<'_, VecDeque<Completion>> {
        self.completions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the committing thread has frozen the store.
    fn frozen(&self) -> Result<Frozen, CopyError> {
        let (answer, frozen) = mpsc::channel();
        let mut queues = self.lock();
        if queues.stopping {
            return Err(CopyError::GivenUp(GivenUp::Stopped));
        }
        queues.freeze = Some(answer);
        queues.committer_waits = false;
        drop(queues);
        self.commits.notify_one();
        frozen.recv().unwrap_or(Err(CopyError::GivenUp(GivenUp::Stopped)))
    }

    fn clock(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn answer(&self, completions: impl IntoIterator<Item = Completion>, notify: &dyn Fn()) {
        let mut queue = self.completions();
        let before = queue.len();
        queue.extend(completions);
        let after = queue.len();
        drop(queue);
        if after > before {
            notify();
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let body = move || {
        // The loop goes first where both want one core: it is short of time, the disk is slow anyway. On Linux this is
        // the thread's own priority; elsewhere, or where it may not, all goes on as it was.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        body();
    };
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// What the committing thread does next.
enum Step {
    Commit(Vec<Request>),
    /// Freeze the store, for whoever waits for it.
    Freeze(mpsc::Sender<Result<Frozen, CopyError>>),
    /// A read failed with this.
    Fail(StoreError),
    Retry,
    /// Look whether there is room again.
    Look,
    /// Settle what was committed some time ago.
    Settle,
    Stop,
}

fn commit_loop(shared: &Shared, mut committer: Committer, mut space: Option<Space>, notify: &dyn Fn()) {
    let (mut retry_at, mut settle_at) = (None, None);
    loop {
        let look_after = space.as_ref().and_then(Space::look_after);
        match next_step(shared, retry_at, look_after.map(|wait| Instant::now() + wait), settle_at) {
            Step::Look => {}
            Step::Settle => committer.settle(true),
            Step::Commit(requests) => {
                // What is refused untried is no commit.
                let is_tried = committer.retry_after().is_none();
                let begun = Instant::now();
                let completions = committer.handle_batch(&requests, shared.clock());
                if is_tried {
                    shared.meters.commits.note(begun.elapsed());
                }
                let bytes = requests.iter().map(Request::payload_bytes).sum();
                drop(requests);
                shared.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
                shared.answer(completions, notify);
                committer.settle(false);
            }
            Step::Freeze(answer) => {
                let is_low = shared.disk_is_low.load(Ordering::Relaxed);
                let frozen =
                    if is_low { Err(CopyError::GivenUp(GivenUp::DiskLow)) } else { committer.freeze() };
                // Whoever has gone drops it.
                let _ = answer.send(frozen);
            }
            Step::Fail(error) => committer.handle_failure(&error),
            Step::Retry => {
                retry_at = None;
                let completions = committer.retry(shared.clock());
                shared.answer(completions, notify);
            }
            Step::Stop => break,
        }
        shared.meters.note_failing(committer.retry_after().is_some());
        let is_low = space.as_mut().is_some_and(|space| space.is_low(Instant::now()));
        if shared.disk_is_low.swap(is_low, Ordering::Relaxed) != is_low {
            notify();
        }
        if is_low {
            committer.give_up_frozen(GivenUp::DiskLow);
        }
        settle_at = if committer.is_settled() || committer.retry_after().is_some() {
            None
        } else {
            settle_at.or_else(|| Some(Instant::now() + LOG_UNSETTLED_WAIT))
        };
        retry_at = match committer.retry_after() {
            None => None,
            Some(wait) => retry_at.or_else(|| Some(Instant::now() + wait)),
        };
    }
    // Whoever waits hears that nobody will answer.
    shared.lock().freeze = None;
    if retry_at.is_some() {
        // The last chance for acknowledgements that could not be written.
        let completions = committer.retry(shared.clock());
        shared.answer(completions, notify);
    }
    committer.settle(true);
}

/// Waits until there is something to do.
fn next_step(
    shared: &Shared,
    retry_at: Option<Instant>,
    look_at: Option<Instant>,
    settle_at: Option<Instant>,
) -> Step {
    let mut queues = shared.lock();
    loop {
        if let Some(error) = queues.failure.take() {
            return Step::Fail(error);
        }
        if let Some(answer) = queues.freeze.take() {
            return Step::Freeze(answer);
        }
        let now = Instant::now();
        let full = queues.urgent > 0 || queues.stopping || queues.commits.len() >= BATCH_REQUESTS_MAX;
        let due = queues.since.map(|since| if full { now } else { since + ACKED_ALONE_WAIT });
        if due.is_some_and(|due| due <= now) {
            return Step::Commit(queues.take_batch(now));
        } else if queues.stopping {
            return Step::Stop;
        } else if retry_at.is_some_and(|retry_at| retry_at <= now) {
            return Step::Retry;
        } else if look_at.is_some_and(|look_at| look_at <= now) {
            return Step::Look;
        } else if settle_at.is_some_and(|settle_at| settle_at <= now) {
            return Step::Settle;
        }
        let wake_at = [due, retry_at, look_at, settle_at].into_iter().flatten().min();
        let wait = wake_at.map_or(Duration::MAX, |wake_at| wake_at - now);
        queues.committer_waits = true;
        (queues, _) = shared.commits.wait_timeout(queues, wait).unwrap_or_else(PoisonError::into_inner);
        queues.committer_waits = false;
    }
}

/// Takes the oldest requests, as many as one commit may hold: at least one, if there is one.
pub fn next_batch(commits: &mut VecDeque<Request>) -> Vec<Request> {
    let (mut count, mut bytes) = (0, 0);
    for request in commits.iter().take(BATCH_REQUESTS_MAX) {
        if bytes >= BATCH_BYTES_MAX {
            break;
        }
        bytes += request.payload_bytes();
        count += 1;
    }
    commits.drain(..count).collect()
}

impl Queues {
    /// While a disk hangs, acknowledgements go on: of each mailbox the last one is kept. Like any, it says how far the
    /// mailbox is acknowledged and what is left in it.
    fn forget_superseded(&mut self) {
        if self.commits.len() <= self.sweep_at.max(2 * BATCH_REQUESTS_MAX) {
            return;
        }
        let mut said = HashSet::new();
        let mut kept: VecDeque<_> = VecDeque::new();
        while let Some(request) = self.commits.pop_back() {
            match request {
                Request::Acked { slot, .. } if !said.insert(slot) => {}
                request => kept.push_front(request),
            }
        }
        self.commits = kept;
        self.sweep_at = 2 * self.commits.len();
    }

    fn take_batch(&mut self, now: Instant) -> Vec<Request> {
        let batch = next_batch(&mut self.commits);
        self.urgent -= batch.iter().filter(|request| request.is_urgent()).count();
        self.since = if self.commits.is_empty() { None } else { Some(now) };
        batch
    }
}

fn read_loop(shared: &Shared, engine: &dyn Engine, notify: &dyn Fn()) {
    loop {
        let mut queues = shared.lock();
        let request = loop {
            match queues.reads.pop_front() {
                Some(request) => break request,
                None if queues.stopping => return,
                None => queues = shared.reads.wait(queues).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queues);
        let begun = Instant::now();
        let (completion, failure) = reading::answer(engine, &request);
        shared.meters.reads.note(begun.elapsed());
        if failure.is_some() {
            shared.lock().failure = failure;
            shared.commits.notify_one();
        }
        shared.answer(completion, notify);
    }
}
