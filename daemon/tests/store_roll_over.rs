//! A name's change to a new identity key, in the store: what goes with it, what is kept, and that a
//! failure leaves all of it or nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::sync::Arc;

use e2e_protocol::ids::{Fingerprint, KeyId, Sequence};
use e2e_relayd::store::{
    Committer, Completion, Engine, KeyHistory, MemoryEngine, RedbEngine, Request, RollOverRecord, Snapshot,
    Store, StoreErrorKind, Table, Write, limits,
};
use store_common::*;

/// The roll-over to the key made of `seed`, which is its generation too.
fn roll_over(slot: u32, seed: u32) -> Request {
    Request::RollOver {
        slot,
        generation: seed,
        fingerprint: Fingerprint([u8::try_from(seed).unwrap(); 32]),
        roll_over: Box::new(record(seed)),
        token: 10,
    }
}

fn record(seed: u32) -> RollOverRecord {
    RollOverRecord {
        time: NOW + u64::from(seed),
        identity_key: modulus(seed),
        former_signature: modulus(seed + 1_000),
        signature: modulus(seed + 2_000),
    }
}

fn rolled(slot: u32, result: Result<(), StoreErrorKind>) -> Completion {
    Completion::RolledOver { slot, token: 10, result }
}

fn keys(engine: &dyn Engine, slot: u32) -> Option<KeyHistory> {
    let [Completion::Keys { token: 11, result, .. }] = &apply(engine, &[read_keys(slot)])[..] else {
        panic!("a question for keys is answered by keys")
    };
    result.clone().unwrap().map(|keys| *keys)
}

fn read_keys(slot: u32) -> Request {
    Request::ReadKeys { slot, token: 11 }
}

fn load(engine: &dyn Engine) -> Snapshot {
    Snapshot::load(engine, [1; 32], NOW).unwrap()
}

fn bundle_is_there(engine: &dyn Engine, slot: u32) -> bool {
    let Some(Completion::Bundle { result, .. }) = apply(engine, &[take(slot, true)]).pop() else {
        panic!("a take is answered by a bundle")
    };
    result.unwrap().is_some()
}

fn fill(engine: &dyn Engine) {
    for (slot, name) in [(3, "alice"), (4, "bob")] {
        let (signed, one_time) = (signed_prekey(5), batch(5, 100 * slot, 16));
        let publication = publish(slot, Some(signed), Some(one_time));
        apply(engine, &[register(slot, 1, name), publication, append(slot, 1, 10, 10)]);
    }
}

#[test]
fn leaves_nothing_of_the_former_key_but_the_history() {
    over_each_engine(|engine| {
        fill(engine);
        assert_eq!(keys(engine, 3), Some(KeyHistory { oldest: modulus(1), roll_overs: vec![] }));
        assert_eq!(apply(engine, &[roll_over(3, 2)]), [rolled(3, Ok(()))]);
        let snapshot = load(engine);
        let [alice, bob] = &snapshot.users[..] else { panic!("two users") };
        assert_eq!((alice.slot, alice.generation, alice.name.as_str()), (3, 2, "alice"));
        assert_eq!(alice.fingerprint, Fingerprint([2; 32]));
        assert_eq!((alice.prekeys.signed_prekey, alice.prekeys.one_time_left), (KeyId::ZERO, 0));
        assert_eq!((bob.generation, bob.prekeys.one_time_left), (1, 16));
        assert_eq!(snapshot.mailboxes.iter().map(|mailbox| mailbox.slot).collect::<Vec<_>>(), [4]);
        assert_eq!(chunks(engine, 3, 0, usize::MAX), []);
        assert_eq!(chunks(engine, 4, 0, usize::MAX), [(1, 10)]);
        assert!(!bundle_is_there(engine, 3) && bundle_is_there(engine, 4));
        let history = keys(engine, 3).unwrap();
        assert_eq!(history, KeyHistory { oldest: modulus(1), roll_overs: vec![record(2)] });
        assert_eq!((history.present(), history.last_time()), (&modulus(2), NOW + 2));
        assert_eq!(keys(engine, 4).unwrap().roll_overs, []);
        // The new key publishes, and is what bundles are made of.
        apply(engine, &[publish(3, Some(signed_prekey(6)), None)]);
        let Some(Completion::Bundle { result, .. }) = apply(engine, &[take(3, false)]).pop() else {
            panic!("a take is answered by a bundle")
        };
        assert_eq!(result.unwrap().unwrap().identity_key, modulus(2));
    });
}

#[test]
fn takes_its_place_in_the_order_of_one_commit() {
    over_each_engine(|engine| {
        fill(engine);
        let before = [append(3, 11, 12, 10), publish(3, Some(signed_prekey(6)), None)];
        let after = [take(3, true), append(3, 13, 14, 10)];
        let completions = apply(engine, &[&before[..], &[roll_over(3, 2)], &after].concat());
        assert_eq!(completions[2], rolled(3, Ok(())));
        assert_eq!(completions[3], Completion::Bundle { slot: 3, token: 9, result: Ok(None) });
        assert_eq!(completions[4], Completion::Appended { slot: 3, last: Sequence(14) });
        assert_eq!(chunks(engine, 3, 0, usize::MAX), [(13, 14)]);
        let mailbox = load(engine).mailboxes[0];
        assert_eq!((mailbox.slot, mailbox.messages, mailbox.bytes), (3, 2, 20));
        assert_eq!(load(engine).users[0].prekeys.signed_prekey, KeyId::ZERO);
    });
}

#[test]
fn keeps_the_newest_eight_and_the_key_before_them() {
    let dir = TempDir::new();
    let open = || Store::open(dir.path(), [9; 32], NOW).unwrap();
    let handle = open().0.start(|| ()).unwrap();
    handle.submit(register(3, 1, "alice"));
    handle.shutdown();
    for seed in 2..=12 {
        // Each after a start of its own: it is all on the disk.
        let (store, snapshot) = open();
        assert_eq!(snapshot.users[0].generation, seed - 1);
        let handle = store.start(|| ()).unwrap();
        handle.submit(roll_over(3, seed));
        assert_eq!(handle.shutdown(), [rolled(3, Ok(()))]);
        let handle = open().0.start(|| ()).unwrap();
        handle.submit(read_keys(3));
        let [Completion::Keys { result, .. }] = &handle.shutdown()[..] else { panic!("keys") };
        let history = result.clone().unwrap().unwrap();
        let oldest = seed.saturating_sub(8).max(1);
        assert_eq!(history.oldest, modulus(oldest));
        assert_eq!(history.roll_overs, (oldest + 1..=seed).map(record).collect::<Vec<_>>());
        assert!(history.roll_overs.len() <= limits::ROLL_OVERS_KEPT_MAX);
    }
}

#[test]
fn takes_up_a_database_that_knows_no_roll_overs() {
    let dir = TempDir::new();
    let path = dir.join("test.redb");
    let engine = RedbEngine::create(&path).unwrap();
    load(&engine);
    fill(&engine);
    drop(engine);
    // Nothing has made the table, which is how databases of before look.
    let engine = RedbEngine::open(&path).unwrap();
    assert_eq!(engine.get(Table::RollOvers, &3_u32.to_be_bytes()).unwrap(), None);
    assert_eq!(keys(&engine, 3).unwrap().oldest, modulus(1));
    apply(&engine, &[roll_over(3, 2)]);
    drop(engine);
    let engine = RedbEngine::open(&path).unwrap();
    assert_eq!(keys(&engine, 3).unwrap().roll_overs, [record(2)]);
}

#[test]
fn fails_alone_where_nobody_is_or_a_record_is_malformed() {
    over_each_engine(|engine| {
        fill(engine);
        assert_eq!(keys(engine, 9), None);
        let (table, key) = (Table::RollOvers, 4_u32.to_be_bytes().to_vec());
        engine.commit(&[Write::Put { table, key, value: vec![1; 300] }]).unwrap();
        let corrupted = Err(StoreErrorKind::Corrupted);
        let completions = apply(engine, &[roll_over(9, 2), roll_over(4, 2), roll_over(3, 2), read_keys(4)]);
        assert_eq!(completions[..3], [rolled(9, corrupted), rolled(4, corrupted), rolled(3, Ok(()))]);
        assert!(matches!(&completions[3], Completion::Keys { result: Err(StoreErrorKind::Corrupted), .. }));
        assert_eq!(chunks(engine, 4, 0, usize::MAX), [(1, 10)], "nothing changed");
    });
}

#[test]
fn a_new_name_in_the_slot_starts_with_no_history() {
    over_each_engine(|engine| {
        apply(engine, &[register(3, 1, "alice"), roll_over(3, 2)]);
        apply(engine, &[register(3, 7, "carol")]);
        assert_eq!(keys(engine, 3), Some(KeyHistory { oldest: modulus(7), roll_overs: vec![] }));
    });
}

#[test]
fn answers_after_a_failed_commit_when_it_can_see_what_came_of_it() {
    for kind in [StoreErrorKind::DiskFull, StoreErrorKind::Io] {
        for applied in [false, true] {
            let dir = TempDir::new();
            let log = log_engine(&dir);
            for inner in [Arc::new(MemoryEngine::new()) as Arc<dyn Engine>, Arc::new(log)] {
                fill(&*inner);
                let engine = Arc::new(FailingEngine::new(Arc::clone(&inner), kind, applied));
                let mut committer = Committer::new(Arc::clone(&engine) as Arc<dyn Engine>);
                engine.fail(1, 1);
                let (first, last, error) = (Sequence(11), Sequence(12), kind);
                assert_eq!(
                    committer.handle_batch(&[append(4, 11, 12, 10), roll_over(3, 2)], NOW),
                    [Completion::AppendFailed { slot: 4, first, last, error }]
                );
                // One that comes now is not tried: nothing is in doubt.
                assert_eq!(committer.handle_batch(&[roll_over(4, 2)], NOW), [rolled(4, Err(kind))]);
                assert_eq!(committer.retry(NOW), [], "it could not be reopened");
                let outcome = if applied { Ok(()) } else { Err(kind) };
                assert_eq!(committer.retry(NOW), [rolled(3, outcome)]);
                assert_eq!(committer.retry_after(), None);
                let users = load(&*inner).users;
                assert_eq!((users[0].generation, users[1].generation), (1 + u32::from(applied), 1));
                assert_eq!(bundle_is_there(&*inner, 3), !applied, "all of it or nothing");
                assert_eq!(chunks(&*inner, 3, 0, usize::MAX).is_empty(), applied);
                assert_eq!(keys(&*inner, 3).unwrap().roll_overs.len(), usize::from(applied));
                assert_eq!(chunks(&*inner, 4, 0, usize::MAX), [(1, 10)]);
            }
        }
    }
}
