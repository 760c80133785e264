//! What the tests of the store share: directories, engines, requests.
#![allow(dead_code, clippy::unwrap_used)] // not every test file uses all of it

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use e2e_protocol::ids::{Fingerprint, Lane, Modulus, Name, Number, Sequence, Uid};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::{FrameType, Routing};
use e2e_relayd::store::{
    Applied, Completion, Engine, LogEngine, MemoryEngine, PrekeyBatchRecord, RedbEngine, Request,
    SignedPrekeyRecord, Store, StoreError, StoreErrorKind, StoreHandle, Table, Visit, Write, apply_batch,
};

pub(crate) const NOW: u64 = 1_700_000_000_000;

/// A new empty directory, removed with everything in it at the end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("e2e-store-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Asks a running store and waits for the answer.
pub(crate) fn ask(handle: &mut StoreHandle, request: Request) -> Completion {
    handle.submit(request);
    loop {
        match handle.try_completion() {
            Some(completion) => return completion,
            None => std::thread::yield_now(),
        }
    }
}

/// The database in a state directory.
pub(crate) const DATABASE: &str = "relay.redb";

/// A directory with some thousands of messages of 200 bytes, a user and prekeys in it.
pub(crate) fn filled() -> TempDir {
    let dir = TempDir::new();
    let handle = Store::open(dir.path(), [9; 32], NOW).unwrap().0.start(|| ()).unwrap();
    handle.submit(register(3, 1, "alice"));
    handle.submit(publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 16))));
    for first in (1..5000).step_by(100) {
        handle.submit(append(3, first, first + 99, 200));
    }
    handle.shutdown();
    dir
}

/// Runs a test over every engine.
pub(crate) fn over_each_engine(test: impl Fn(&dyn Engine)) {
    test(&MemoryEngine::new());
    let dir = TempDir::new();
    test(&RedbEngine::create(&dir.join("alone.redb")).unwrap());
    test(&log_engine(&dir));
    let dir = TempDir::new();
    test(&Settling(log_engine(&dir)));
}

/// A new log and its index in a directory.
pub(crate) fn log_engine(dir: &TempDir) -> LogEngine {
    drop(RedbEngine::create(&dir.join(DATABASE)).unwrap());
    LogEngine::open(&dir.join(DATABASE)).unwrap()
}

/// A log that is settled after each commit: all that is read comes from the index.
pub(crate) struct Settling(pub(crate) LogEngine);

impl Engine for Settling {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.0.scan(table, from, to, visit)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.0.commit(writes)?;
        self.0.settle(true)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.0.reopen()
    }
}

/// Table, key and value of each record.
pub(crate) type Contents = Vec<(Table, Vec<u8>, Vec<u8>)>;

/// Everything that the store holds, as a start and a reading client see it.
pub(crate) fn contents(engine: &dyn Engine) -> Contents {
    let mut contents = Vec::new();
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Segments) {
        let mut visit = |key: &[u8], value: &[u8]| {
            if key != b"log" {
                contents.push((table, key.to_vec(), value.to_vec()));
            }
            std::ops::ControlFlow::Continue(())
        };
        engine.scan(table, &[], &[0xff; 16], &mut visit).unwrap();
    }
    contents
}

/// A message as the relay stores it: `sender`'s, 64 bytes and its envelope.
pub(crate) fn deliver(sender: u64, sequence: u64, envelope_bytes: usize) -> Vec<u8> {
    let routing = Routing {
        peer: Uid(sender),
        lane: Lane(9),
        number: Number(sequence),
        sequence: Sequence(sequence),
        time_ms: NOW,
        ttl_seconds: 60,
    };
    let envelope = message(0, sequence, envelope_bytes);
    let mut frame = vec![0; 64 + envelope_bytes];
    emit_routed(&mut frame, FrameType::Deliver, &routing, &envelope).unwrap();
    frame
}

/// The same, `first` to `last`, to be stored.
pub(crate) fn append_delivers(
    slot: u32,
    sender: u64,
    first: u64,
    last: u64,
    envelope_bytes: usize,
) -> Request {
    let bytes = (first..=last).flat_map(|sequence| deliver(sender, sequence, envelope_bytes)).collect();
    let messages = u32::try_from(last - first + 1).unwrap();
    Request::Append { slot, first: Sequence(first), last: Sequence(last), messages, bytes }
}

/// Carries out requests that must not fail.
pub(crate) fn apply(engine: &dyn Engine, requests: &[Request]) -> Vec<Completion> {
    let Applied { completions, failure } = apply_batch(engine, requests, NOW);
    assert!(failure.is_none(), "{failure:?}");
    completions
}

/// Messages `first` to `last`, told from others by their bytes.
pub(crate) fn append(slot: u32, first: u64, last: u64, message_bytes: usize) -> Request {
    let bytes = (first..=last).flat_map(|sequence| message(slot, sequence, message_bytes)).collect();
    let messages = u32::try_from(last - first + 1).unwrap();
    Request::Append { slot, first: Sequence(first), last: Sequence(last), messages, bytes }
}

pub(crate) fn message(slot: u32, sequence: u64, message_bytes: usize) -> Vec<u8> {
    let mark = u64::from(slot).wrapping_mul(31).wrapping_add(sequence).to_be_bytes();
    mark.into_iter().cycle().take(message_bytes).collect()
}

/// The sequence of a message made by [`message`].
pub(crate) fn sequence_of(slot: u32, message: &[u8]) -> u64 {
    let (mark, _) = message.split_first_chunk().unwrap();
    u64::from_be_bytes(*mark).wrapping_sub(u64::from(slot).wrapping_mul(31))
}

pub(crate) fn acked(slot: u32, acked: u64, messages_left: u64, bytes_left: u64) -> Request {
    Request::Acked { slot, acked: Sequence(acked), messages_left, bytes_left }
}

pub(crate) fn read(slot: u32, after: u64, bytes_max: usize) -> Request {
    Request::ReadBacklog { slot, after: Sequence(after), bytes_max, token: 1 }
}

/// First and last sequence of each chunk that a read gives.
pub(crate) fn chunks(engine: &dyn Engine, slot: u32, after: u64, bytes_max: usize) -> Vec<(u64, u64)> {
    let Some(Completion::Backlog { result, .. }) = apply(engine, &[read(slot, after, bytes_max)]).pop()
    else {
        unreachable!("a read is answered by a backlog")
    };
    result.unwrap().iter().map(|chunk| (chunk.first.0, chunk.last.0)).collect()
}

/// Every message after `after`, as bytes.
pub(crate) fn backlog_bytes(engine: &dyn Engine, slot: u32, after: u64) -> Vec<u8> {
    let Some(Completion::Backlog { result, .. }) = apply(engine, &[read(slot, after, usize::MAX)]).pop()
    else {
        unreachable!("a read is answered by a backlog")
    };
    result.unwrap().into_iter().flat_map(|chunk| chunk.bytes).collect()
}

pub(crate) fn register(slot: u32, generation: u32, name: &str) -> Request {
    Request::Register {
        slot,
        generation,
        name: Name::parse(name.as_bytes()).unwrap(),
        fingerprint: Fingerprint([u8::try_from(generation).unwrap(); 32]),
        identity_key: Box::new(modulus(generation)),
        token: 7,
    }
}

/// Not a key, but as long as one, and told from others.
pub(crate) fn modulus(seed: u32) -> Modulus {
    let mut modulus = [0; 256];
    for (place, byte) in modulus.chunks_exact_mut(4).zip(std::iter::repeat(seed.to_be_bytes())) {
        place.copy_from_slice(&byte);
    }
    modulus
}

pub(crate) fn signed_prekey(seed: u32) -> SignedPrekeyRecord {
    SignedPrekeyRecord { modulus: modulus(seed), made: NOW, profile: 0, signature: modulus(seed + 1) }
}

/// `count` one-time prekeys with the seeds from `first` on, for the signed prekey made of `signed`.
pub(crate) fn batch(signed: u32, first: u32, count: u32) -> PrekeyBatchRecord {
    PrekeyBatchRecord {
        signed_prekey: key_id(signed),
        signature: modulus(first),
        moduli: (first..first + count).map(modulus).collect(),
    }
}

pub(crate) fn key_id(seed: u32) -> e2e_protocol::ids::KeyId {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(modulus(seed));
    e2e_protocol::ids::KeyId(hash[..8].try_into().unwrap())
}

pub(crate) fn publish(
    slot: u32,
    signed: Option<SignedPrekeyRecord>,
    batch: Option<PrekeyBatchRecord>,
) -> Request {
    Request::Publish { slot, signed_prekey: signed.map(Box::new), batch: batch.map(Box::new), token: 8 }
}

pub(crate) fn take(slot: u32, one_time: bool) -> Request {
    Request::TakeBundle { slot, one_time, token: 9 }
}

/// An engine whose commits fail when told to, as a disk does: either nothing of the commit is there
/// afterwards or, worse, all of it. Then everything fails until it is reopened.
pub(crate) struct FailingEngine {
    pub(crate) inner: Arc<dyn Engine>,
    /// Fails the commit that counts this down to zero.
    commits_until_failure: AtomicUsize,
    /// Whether the failing commit is carried out all the same.
    applied_all_the_same: bool,
    /// How often reopening fails then.
    reopen_failures: AtomicUsize,
    poisoned: std::sync::atomic::AtomicBool,
    kind: StoreErrorKind,
}

impl FailingEngine {
    pub(crate) fn new(inner: Arc<dyn Engine>, kind: StoreErrorKind, applied_all_the_same: bool) -> Self {
        Self {
            inner,
            commits_until_failure: AtomicUsize::new(0),
            applied_all_the_same,
            reopen_failures: AtomicUsize::new(0),
            poisoned: false.into(),
            kind,
        }
    }

    /// The `commit`-th commit from now on fails (1: the next), and then `reopens` attempts to reopen.
    pub(crate) fn fail(&self, commit: usize, reopens: usize) {
        self.commits_until_failure.store(commit, Ordering::SeqCst);
        self.reopen_failures.store(reopens, Ordering::SeqCst);
    }

    fn working(&self) -> Result<(), StoreError> {
        if self.poisoned.load(Ordering::SeqCst) { Err(self.error()) } else { Ok(()) }
    }

    fn error(&self) -> StoreError {
        StoreError::new(self.kind, "injected")
    }
}

impl Engine for FailingEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.working()?;
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.working()?;
        self.inner.scan(table, from, to, visit)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.working()?;
        let count = |left: usize| left.checked_sub(1);
        let left = self.commits_until_failure.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
        if left != Ok(1) {
            return self.inner.commit(writes);
        }
        self.poisoned.store(true, Ordering::SeqCst);
        if self.applied_all_the_same {
            self.inner.commit(writes)?;
        }
        Err(self.error())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let count = |left: usize| left.checked_sub(1);
        if self.reopen_failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).is_ok() {
            return Err(self.error());
        }
        self.poisoned.store(false, Ordering::SeqCst);
        self.inner.reopen()
    }
}
