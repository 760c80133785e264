//! An engine that fails: what was reported durable stays, what was refused goes, and storing resumes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use e2e_protocol::ids::Sequence;
use e2e_relayd::store::{
    Committer, Completion, Engine, MemoryEngine, PublishError, Snapshot, Store, StoreError, StoreErrorKind,
    StoreHandle, Table, Visit, Write, limits,
};
use store_common::*;

const KINDS: [StoreErrorKind; 2] = [StoreErrorKind::DiskFull, StoreErrorKind::Io];

/// Runs a test over each engine, failing with each kind, with the failed commit carried out or not.
fn over_each_failure(test: impl Fn(&Arc<FailingEngine>, StoreErrorKind)) {
    for kind in KINDS {
        for applied in [false, true] {
            let dir = TempDir::new();
            let log = log_engine(&dir);
            for inner in [Arc::new(MemoryEngine::new()) as Arc<dyn Engine>, Arc::new(log)] {
                test(&Arc::new(FailingEngine::new(inner, kind, applied)), kind);
            }
        }
    }
}

fn committer(engine: &Arc<FailingEngine>) -> Committer {
    Committer::new(Arc::clone(engine) as Arc<dyn Engine>)
}

#[test]
fn every_request_of_a_failed_batch_gets_its_failure() {
    over_each_failure(|engine, error| {
        let mut committer = committer(engine);
        engine.fail(1, 0);
        let requests = [
            append(3, 1, 2, 10),
            acked(3, 1, 1, 10),
            register(4, 1, "bob"),
            publish(4, Some(signed_prekey(5)), None),
            take(4, true),
        ];
        let (first, last) = (Sequence(1), Sequence(2));
        assert_eq!(
            committer.handle_batch(&requests, NOW),
            [
                Completion::AppendFailed { slot: 3, first, last, error },
                Completion::Registered { slot: 4, token: 7, result: Err(error) },
                Completion::Published { slot: 4, token: 8, result: Err(PublishError::Store(error)) },
                Completion::Bundle { slot: 4, token: 9, result: Err(error) },
            ]
        );
    });
}

#[test]
fn nothing_of_a_failed_batch_is_there_after_the_retry() {
    over_each_failure(|engine, _| {
        let mut committer = committer(engine);
        committer.handle_batch(&[append(3, 1, 2, 10), register(1, 1, "alice")], NOW);
        engine.fail(1, 0);
        committer.handle_batch(&[append(3, 3, 9, 10), append(5, 1, 1, 10), register(4, 1, "bob")], NOW);
        committer.retry(NOW);
        assert_eq!(committer.retry_after(), None);
        assert_eq!(chunks(&**engine, 3, 0, usize::MAX), [(1, 2)]);
        assert_eq!(chunks(&**engine, 5, 0, usize::MAX), []);
        let snapshot = Snapshot::load(&**engine, [0; 32], NOW).unwrap();
        assert_eq!(snapshot.users.iter().map(|user| user.slot).collect::<Vec<_>>(), [1]);
        let mailbox = snapshot.mailboxes[0];
        assert_eq!((mailbox.slot, mailbox.messages, mailbox.bytes), (3, 2, 20));
        // And it can be asked for again, in other pieces.
        committer.handle_batch(&[append(3, 3, 6, 10)], NOW);
        committer.handle_batch(&[append(3, 7, 9, 10), register(4, 2, "bob")], NOW);
        assert_eq!(chunks(&**engine, 3, 0, usize::MAX), [(1, 2), (3, 6), (7, 9)]);
        assert_eq!(Snapshot::load(&**engine, [0; 32], NOW).unwrap().mailboxes[0].messages, 9);
    });
}

#[test]
fn acknowledgements_outlive_the_failure() {
    over_each_failure(|engine, _| {
        let mut committer = committer(engine);
        committer.handle_batch(&[append(3, 1, 5, 10), append(4, 1, 5, 10), append(5, 1, 5, 10)], NOW);
        engine.fail(1, 0);
        committer.handle_batch(&[append(3, 6, 6, 10), acked(3, 5, 0, 0)], NOW);
        assert_eq!(committer.handle_batch(&[acked(4, 2, 3, 30)], NOW), []);
        assert_eq!(committer.handle_batch(&[acked(4, 5, 0, 0)], NOW), []);
        committer.retry(NOW);
        for (slot, expected) in [(3, vec![]), (4, vec![]), (5, vec![(1, 5)])] {
            assert_eq!(chunks(&**engine, slot, 0, usize::MAX), expected, "slot {slot}");
        }
    });
}

#[test]
fn counts_what_is_there_whatever_was_left_by_a_failed_append() {
    over_each_failure(|engine, _| {
        let mut committer = committer(engine);
        committer.handle_batch(&[append(3, 1, 2, 10)], NOW);
        engine.fail(1, 0);
        // Counted with the append that fails: seven of it, and one before.
        committer.handle_batch(&[append(3, 3, 9, 10), append(5, 1, 6, 10)], NOW);
        committer.handle_batch(&[acked(3, 1, 8, 80), acked(5, 1, 5, 50)], NOW);
        committer.retry(NOW);
        assert_eq!(committer.retry_after(), None);
        let mailboxes = Snapshot::load(&**engine, [1; 32], NOW).unwrap().mailboxes;
        // No more than the chunk that is there holds, of which one is acknowledged.
        assert_eq!(mailboxes.iter().map(|left| (left.slot, left.messages)).collect::<Vec<_>>(), [(3, 2)]);
    });
}

#[test]
fn refuses_until_it_is_reopened_and_waits_longer_each_time() {
    over_each_failure(|engine, error| {
        let mut committer = committer(engine);
        assert_eq!(committer.retry_after(), None);
        engine.fail(1, 8);
        committer.handle_batch(&[append(3, 1, 1, 10)], NOW);
        let mut wait = limits::REOPEN_WAIT_MIN;
        for _ in 0..8 {
            assert_eq!(committer.retry_after(), Some(wait));
            let (slot, first, last) = (3, Sequence(1), Sequence(1));
            assert_eq!(
                committer.handle_batch(&[append(3, 1, 1, 10)], NOW),
                [Completion::AppendFailed { slot, first, last, error }]
            );
            committer.retry(NOW);
            wait = limits::REOPEN_WAIT_MAX.min(wait * 2);
        }
        assert_eq!(wait, limits::REOPEN_WAIT_MAX);
        committer.retry(NOW);
        assert_eq!(committer.retry_after(), None);
        assert_eq!(
            committer.handle_batch(&[append(3, 1, 1, 10)], NOW),
            [Completion::Appended { slot: 3, last: Sequence(1) }]
        );
    });
}

#[test]
fn waits_longer_while_it_can_be_reopened_but_not_written() {
    over_each_failure(|engine, _| {
        let mut committer = committer(engine);
        for wait in [1, 2, 4].map(|times| limits::REOPEN_WAIT_MIN * times) {
            engine.fail(1, 0);
            committer.handle_batch(&[append(3, 1, 1, 10)], NOW);
            assert_eq!(committer.retry_after(), Some(wait));
            committer.retry(NOW);
            assert_eq!(committer.retry_after(), None);
        }
        committer.handle_batch(&[append(3, 1, 1, 10)], NOW);
        engine.fail(1, 0);
        committer.handle_batch(&[append(3, 2, 2, 10)], NOW);
        assert_eq!(committer.retry_after(), Some(limits::REOPEN_WAIT_MIN));
    });
}

#[test]
fn a_retry_whose_own_commit_fails_is_tried_again() {
    over_each_failure(|engine, _| {
        let mut committer = committer(engine);
        committer.handle_batch(&[append(3, 1, 5, 10)], NOW);
        engine.fail(1, 0);
        committer.handle_batch(&[append(3, 6, 9, 10), acked(3, 4, 5, 50)], NOW);
        engine.fail(1, 0);
        committer.retry(NOW);
        committer.retry(NOW);
        assert_eq!(committer.retry_after(), None);
        assert_eq!(chunks(&**engine, 3, 0, usize::MAX), [(1, 5)]);
        let mailbox = Snapshot::load(&**engine, [0; 32], NOW).unwrap().mailboxes[0];
        assert_eq!(mailbox.acked, Sequence(4));
        assert!((1..=5).contains(&mailbox.messages), "the failed append may be counted still");
    });
}

/// Failures at every place of a longer run, through the threads: a model of what was reported is compared
/// with what is there at the end.
#[test]
fn loses_nothing_reported_durable_wherever_it_fails() {
    for commit in 1..12 {
        let inner: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let engine = Arc::new(FailingEngine::new(Arc::clone(&inner), StoreErrorKind::Io, commit % 2 == 0));
        let (mut handle, answered) = start(&engine);
        engine.fail(commit, commit % 3);
        let mut durable: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for round in 1..=20 {
            for slot in 0..3 {
                handle.submit(append(slot, round, round, 10));
            }
            for _ in 0..3 {
                match next(&mut handle, &answered) {
                    Completion::Appended { slot, last } => durable.entry(slot).or_default().push(last.0),
                    Completion::AppendFailed { error: StoreErrorKind::Io, .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(handle.in_flight_bytes(), 0);
        handle.shutdown();
        for (slot, expected) in durable {
            let stored = backlog_bytes(&*inner, slot, 0);
            let stored: Vec<&[u8]> = stored.chunks_exact(10).collect();
            let lost = expected.iter().find(|&&last| !stored.contains(&&*message(slot, last, 10)));
            assert_eq!(lost, None, "failed commit {commit}, slot {slot}");
        }
    }
}

#[test]
fn the_threads_resume_by_themselves() {
    let engine = Arc::new(FailingEngine::new(Arc::new(MemoryEngine::new()), StoreErrorKind::DiskFull, false));
    let (mut handle, answered) = start(&engine);
    engine.fail(1, 1);
    for sequence in 1.. {
        handle.submit(append(3, sequence, sequence, 10));
        if let Completion::Appended { last, .. } = next(&mut handle, &answered) {
            assert!(last > Sequence(1), "the first was to fail");
            break;
        }
        std::thread::sleep(Duration::from_millis(5)); // not a race: it only keeps the loop from spinning
    }
}

#[test]
fn a_failed_read_reopens_the_engine() {
    let engine = Arc::new(FailingEngine::new(Arc::new(MemoryEngine::new()), StoreErrorKind::Io, false));
    let (mut handle, answered) = start(&engine);
    engine.fail(1, 0);
    engine.commit(&[]).unwrap_err(); // not through the store, which does not know of it
    handle.submit(read(3, 0, 1));
    let Completion::Backlog { result, .. } = next(&mut handle, &answered) else { panic!("a backlog") };
    assert_eq!(result, Err(StoreErrorKind::Io));
    loop {
        handle.submit(read(3, 0, 1));
        let Completion::Backlog { result, .. } = next(&mut handle, &answered) else { panic!("a backlog") };
        if result.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5)); // not a race: it only keeps the loop from spinning
    }
}

#[test]
fn counts_commits_reads_and_failures() {
    let engine = Arc::new(FailingEngine::new(Arc::new(MemoryEngine::new()), StoreErrorKind::Io, false));
    let (mut handle, answered) = start(&engine);
    handle.submit(append(3, 1, 1, 10));
    handle.submit(read(3, 0, 1));
    next(&mut handle, &answered);
    next(&mut handle, &answered);
    engine.fail(1, 0);
    handle.submit(append(3, 2, 2, 10));
    next(&mut handle, &answered);
    // What is counted shows a little later than the answer, and failing may be over by then.
    let figures = loop {
        let figures = handle.figures();
        if figures.failures > 0 && !figures.is_failing {
            break figures;
        }
        std::thread::sleep(Duration::from_millis(5)); // not a race: it only keeps the loop from spinning
    };
    assert_eq!((figures.commits.count(), figures.reads.count(), figures.failures), (2, 1, 1));
    assert_eq!((figures.in_flight_bytes, figures.disk_is_low), (0, false));
}

#[test]
fn shutdown_carries_out_what_is_queued_and_gives_the_answers() {
    let inner: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let engine = Arc::new(FailingEngine::new(Arc::clone(&inner), StoreErrorKind::Io, false));
    let (handle, _answered) = start(&engine);
    for sequence in 1..=100 {
        handle.submit(append(3, sequence, sequence, 10));
        handle.submit(read(4, 0, 1));
    }
    handle.submit(acked(3, 50, 50, 500));
    let answers = handle.shutdown();
    let appended = answers.iter().filter(|answer| matches!(answer, Completion::Appended { .. }));
    assert_eq!((appended.count(), answers.len()), (100, 200));
    let mailbox = Snapshot::load(&*inner, [0; 32], NOW).unwrap().mailboxes[0];
    assert_eq!((mailbox.acked, mailbox.durable), (Sequence(50), Sequence(100)));
}

/// A disk that takes nothing while somebody holds it.
#[derive(Default)]
struct Hanging {
    inner: MemoryEngine,
    held: Mutex<()>,
}

impl Engine for Hanging {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(table, from, to, visit)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let _disk = self.held.lock().unwrap();
        self.inner.commit(writes)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn shutdown_does_not_wait_for_ever_for_a_disk_that_hangs() {
    let engine = Arc::new(Hanging::default());
    for hangs in [true, false] {
        let (store, _) = Store::over(Arc::<Hanging>::clone(&engine), [0; 32], NOW).unwrap();
        let handle = store.start(|| ()).unwrap();
        let disk = hangs.then(|| engine.held.lock().unwrap());
        handle.submit(append(3, 1, 1, 10));
        let patience = if hangs { Duration::from_millis(20) } else { Duration::from_secs(60) };
        assert_eq!(handle.shutdown_within(patience), !hangs);
        drop(disk);
    }
}

#[test]
fn acknowledgements_alone_are_written_in_the_end() {
    let inner: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    apply(&*inner, &[append(3, 1, 5, 10)]);
    let engine = Arc::new(FailingEngine::new(Arc::clone(&inner), StoreErrorKind::Io, false));
    let (handle, _answered) = start(&engine);
    handle.submit(acked(3, 5, 0, 0));
    while !chunks(&*inner, 3, 0, 1).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(handle);
}

#[test]
fn commits_record_the_clock_that_was_observed() {
    let inner: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let (store, _) = Store::over(Arc::clone(&inner), [0; 32], NOW).unwrap();
    let handle = store.start(|| ()).unwrap();
    handle.observe_clock(NOW + 5000);
    handle.observe_clock(NOW + 4000);
    handle.submit(append(3, 1, 1, 10));
    handle.shutdown();
    assert_eq!(Snapshot::load(&*inner, [0; 32], 0).unwrap().clock, NOW + 5000);
}

fn start(engine: &Arc<FailingEngine>) -> (StoreHandle, Receiver<()>) {
    let engine = Arc::clone(engine) as Arc<dyn Engine>;
    let (notify, answered) = channel();
    let (store, _) = Store::over(engine, [0; 32], NOW).unwrap();
    (store.start(move || notify.send(()).unwrap_or(())).unwrap(), answered)
}

fn next(handle: &mut StoreHandle, answered: &Receiver<()>) -> Completion {
    loop {
        if let Some(completion) = handle.try_completion() {
            return completion;
        }
        answered.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
