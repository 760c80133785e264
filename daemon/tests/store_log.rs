//! The log under the store: what it holds after a kill at any byte, after damage, when it is cleaned up, and what it makes of a
//! store of before it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use e2e_protocol::ids::Sequence;
use e2e_relayd::store::{
    Completion, Engine, LogEngine, OpenErrorKind, RedbEngine, Request, Snapshot, Store, Table, Write, limits,
};
use store_common::*;

/// Records of the log begin at multiples of this.
const BLOCK: u64 = 4096;

fn open(dir: &TempDir) -> LogEngine {
    LogEngine::open(&dir.join(DATABASE)).unwrap()
}

/// The segments of a directory's log, oldest first.
fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let mut segments: Vec<_> =
        fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    segments
}

fn bytes_in(dir: &TempDir) -> u64 {
    segments(dir).iter().map(|segment| fs::metadata(segment).unwrap().len()).sum()
}

/// Database and log as they are now, in a directory of their own: what a kill leaves, or a power cut.
fn copy_of(dir: &TempDir) -> TempDir {
    let copy = TempDir::new();
    fs::create_dir(copy.join("log")).unwrap();
    fs::copy(dir.join(DATABASE), copy.join(DATABASE)).unwrap();
    for segment in segments(dir) {
        fs::copy(&segment, copy.join("log").join(segment.file_name().unwrap())).unwrap();
    }
    copy
}

fn set_bytes(path: &Path, at: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn cut(path: &Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

/// Table, key and value of each record.
type Contents = Vec<(Table, Vec<u8>, Vec<u8>)>;

/// Everything that the store holds, as a start and a reading client see it.
fn contents(engine: &dyn Engine) -> Contents {
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

/// A step of a history that has one of everything in it.
fn step(number: u32) -> Vec<Request> {
    let sequence = u64::from(number) * 10;
    match number % 5 {
        0 => vec![register(number, 1, &format!("name{number}")), append(7, sequence, sequence + 9, 500)],
        1 => vec![append(7, sequence, sequence, 70_000), append(8, sequence, sequence + 4, 100)],
        2 => vec![acked(7, sequence - 10, 0, 0), append(8, sequence, sequence + 9, 300)],
        3 => vec![publish(number - 3, Some(signed_prekey(number)), Some(batch(number, number * 100, 4)))],
        _ => vec![take(number - 4, true), acked(8, sequence - 30, 5, 500)],
    }
}

/// A log of some commits of which the first were settled, and what it held after each of the others, from the last settled one
/// on, with where the log ended.
fn history() -> (TempDir, LogEngine, Vec<(u64, Contents)>) {
    let dir = TempDir::new();
    let engine = log_engine(&dir);
    (0..10).for_each(|number| drop(apply(&engine, &step(number))));
    engine.settle(true).unwrap();
    let state = |engine: &LogEngine| (fs::metadata(&segments(&dir)[0]).unwrap().len(), contents(engine));
    let mut states = vec![state(&engine)];
    for number in 10..25 {
        apply(&engine, &step(number));
        states.push(state(&engine));
    }
    assert!(!engine.is_settled());
    assert_eq!(segments(&dir).len(), 1);
    (dir, engine, states)
}

#[test]
fn holds_whole_commits_whatever_byte_it_was_cut_off_at() {
    let (dir, _engine, states) = history();
    let (mut at, last) = (states[0].0, states.last().unwrap().0);
    while at <= last {
        let copy = copy_of(&dir);
        cut(&segments(&copy)[0], at);
        let whole = states.iter().rposition(|(end, _)| *end <= at).unwrap();
        // What is behind the record's own bytes is filling, and not missed.
        let is_next =
            |engine: &LogEngine| states.get(whole + 1).is_some_and(|next| contents(engine) == next.1);
        let engine = open(&copy);
        assert!(contents(&engine) == states[whole].1 || is_next(&engine), "cut off at {at}");
        // And it goes on as any does.
        apply(&engine, &[append(9, 1, 9, 100)]);
        let held = contents(&engine);
        drop(engine);
        assert!(contents(&open(&copy)) == held, "cut off at {at}");
        at += 611;
    }
}

#[test]
fn holds_whole_commits_whatever_was_written_of_the_last_one() {
    let (dir, _engine, states) = history();
    let [.., (begin, before), (end, after)] = &states[..] else { panic!("states") };
    // The file was extended, but some of its blocks did not reach the disk.
    for block in (*begin..*end).step_by(BLOCK as usize) {
        let copy = copy_of(&dir);
        let bytes = (end - block).min(BLOCK) as usize;
        set_bytes(&segments(&copy)[0], block, &vec![0; bytes]);
        assert!(contents(&open(&copy)) == *before, "block {block}");
    }
    assert!(contents(&open(&copy_of(&dir))) == *after);
}

#[test]
fn goes_on_behind_damage_in_its_middle() {
    let (dir, _engine, states) = history();
    for pair in states.windows(2).take(8) {
        let copy = copy_of(&dir);
        set_bytes(&segments(&copy)[0], pair[0].0 + 50, b"damaged");
        let engine = open(&copy);
        let held = contents(&engine);
        // What came later is there: the last append to each mailbox.
        let last = |slot: u32, sequence: u64| {
            let key = [&slot.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
            held.iter().any(|(table, found, _)| *table == Table::Chunks && *found == key)
        };
        assert!(last(8, 214) && last(8, 229));
        drop(engine);
        // It is settled: not even damage is met again.
        assert!(contents(&open(&copy)) == held);
    }
}

#[test]
fn is_not_led_astray_by_messages_that_look_like_records() {
    let (dir, engine, states) = history();
    // Somebody sends the bytes of a record, for every place at which a block can begin.
    let path = segments(&dir)[0].clone();
    let log = fs::read(&path).unwrap();
    let record = &log[states[3].0 as usize..states[4].0 as usize];
    let mut bytes = vec![0; 4 * BLOCK as usize];
    let end = fs::metadata(&path).unwrap().len();
    apply(&engine, &[append(9, 1, 1, 10)]);
    let begins = fs::metadata(&path).unwrap().len();
    assert!(begins > end);
    // The message's first byte lies behind heads of some dozens of bytes: found by trying.
    for shift in 0..256 {
        let at = BLOCK as usize - shift;
        let room = (bytes.len() - at).min(record.len());
        bytes[at..at + room].copy_from_slice(&record[..room]);
        let request = Request::Append {
            slot: 9,
            first: Sequence(100 + shift as u64),
            last: Sequence(100 + shift as u64),
            messages: 1,
            bytes: bytes.clone(),
        };
        apply(&engine, &[request]);
    }
    let held = contents(&engine);
    let copy = copy_of(&dir);
    // With its own record damaged, each block of a message is looked at.
    let sent = fs::read(&path).unwrap();
    let mut at = begins;
    while at < sent.len() as u64 {
        set_bytes(&segments(&copy)[0], at, &[0; 36]);
        let length = u32::from_be_bytes(sent[at as usize..at as usize + 4].try_into().unwrap());
        at = (at + 36 + u64::from(length)).next_multiple_of(BLOCK);
    }
    assert!(contents(&open(&copy)).len() < held.len());
    let damaged = contents(&open(&copy));
    let expected: Vec<_> = held
        .into_iter()
        .filter(|(table, key, _)| {
            let of_nine = key.starts_with(&9_u32.to_be_bytes()) && key.len() == 12;
            !(of_nine && *table != Table::Users && key[4..] != 1_u64.to_be_bytes())
        })
        .collect();
    let keys = |contents: &[(Table, Vec<u8>, Vec<u8>)]| -> Vec<_> {
        contents.iter().map(|(table, key, _)| (*table, key.clone())).collect()
    };
    assert_eq!(keys(&damaged), keys(&expected));
}

#[test]
fn takes_nothing_from_a_segment_whose_head_is_damaged_and_goes_on_in_another() {
    let (dir, _engine, states) = history();
    let copy = copy_of(&dir);
    set_bytes(&segments(&copy)[0], 20, b"damaged");
    let engine = open(&copy);
    // What was settled is read where it lies, whatever the head says.
    assert!(contents(&engine) == states[0].1);
    apply(&engine, &[append(9, 1, 9, 100)]);
    assert_eq!(segments(&copy).len(), 2);
    drop(engine);
    assert_eq!(chunks(&open(&copy), 9, 0, usize::MAX), [(1, 9)]);
}

#[test]
fn passes_over_messages_whose_segment_is_gone() {
    let dir = TempDir::new();
    let engine = log_engine(&dir);
    apply(&engine, &[append(3, 1, 9, 100)]);
    engine.settle(true).unwrap();
    fill_segment(&engine, 4);
    apply(&engine, &[append(3, 10, 19, 100)]);
    engine.settle(true).unwrap();
    drop(engine);
    assert_eq!(segments(&dir).len(), 2);
    fs::remove_file(&segments(&dir)[0]).unwrap();
    let engine = open(&dir);
    assert_eq!(chunks(&engine, 3, 0, usize::MAX), [(10, 19)]);
    apply(&engine, &[acked(3, 19, 0, 0), append(3, 20, 20, 100)]);
    engine.settle(true).unwrap();
    drop(engine);
    assert_eq!(chunks(&open(&dir), 3, 0, usize::MAX), [(20, 20)]);
}

/// Appends to a mailbox until the log goes on in another segment.
fn fill_segment(engine: &LogEngine, slot: u32) -> u64 {
    let count = limits::LOG_SEGMENT_BYTES / 60_000 + 2;
    for sequence in 1..=count {
        apply(engine, &[append(slot, sequence, sequence, 60_000)]);
    }
    count
}

#[test]
fn gives_back_the_room_of_what_was_acknowledged() {
    let dir = TempDir::new();
    let engine = log_engine(&dir);
    let mut last = 0;
    for slot in 0..5 {
        last = fill_segment(&engine, slot);
        engine.settle(false).unwrap();
    }
    assert!(segments(&dir).len() >= 5);
    for slot in 0..5 {
        apply(&engine, &[acked(slot, last, 0, 0)]);
    }
    assert!(!engine.is_settled());
    engine.settle(true).unwrap();
    assert!(engine.is_settled());
    assert_eq!(segments(&dir).len(), 1);
    drop(engine);
    let engine = open(&dir);
    assert_eq!(segments(&dir).len(), 1);
    assert_eq!(Snapshot::load(&engine, [1; 32], NOW).unwrap().mailboxes, []);
}

#[test]
fn writes_what_is_left_in_sparse_segments_once_more() {
    let dir = TempDir::new();
    let engine = log_engine(&dir);
    let stop = AtomicBool::new(false);
    let left = std::thread::scope(|scope| {
        // Whoever reads meanwhile misses nothing.
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                let found = chunks(&engine, 9, 0, usize::MAX);
                assert!(found.len() >= seen, "{} after {seen}", found.len());
                assert!(found.iter().enumerate().all(|(index, chunk)| chunk.0 == index as u64 + 1));
                seen = found.len();
            }
        });
        for round in 1..=12_u64 {
            // One that stays in each segment, among many that go.
            apply(&engine, &[append(9, round, round, 1_000)]);
            let slot = u32::try_from(round % 2).unwrap();
            let last = fill_segment(&engine, slot);
            engine.settle(false).unwrap();
            apply(&engine, &[acked(slot, last, 0, 0)]);
            engine.settle(true).unwrap();
            apply(&engine, &[register(slot, u32::try_from(round).unwrap(), "name")]);
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        engine.settle(true).unwrap();
        bytes_in(&dir)
    });
    let unused_max = limits::LOG_UNUSED_BYTES + 2 * limits::LOG_SEGMENT_BYTES;
    assert!(left < unused_max, "{left} bytes for 12 messages");
    let expected: Vec<u8> = (1..=12).flat_map(|sequence| message(9, sequence, 1_000)).collect();
    assert!(backlog_bytes(&engine, 9, 0) == expected);
    drop(engine);
    let engine = open(&dir);
    assert!(backlog_bytes(&engine, 9, 0) == expected);
    apply(&engine, &[acked(9, 12, 0, 0)]);
    engine.settle(true).unwrap();
    assert_eq!(segments(&dir).len(), 1);
}

#[test]
fn settles_by_itself_when_there_is_too_much() {
    let dir = TempDir::new();
    let engine = log_engine(&dir);
    engine.settle(false).unwrap();
    apply(&engine, &[append(3, 1, 1, 100)]);
    engine.settle(false).unwrap();
    assert!(!engine.is_settled(), "one message is not too much");
    for slot in 0..u32::try_from(limits::LOG_UNSETTLED_CHANGES_MAX).unwrap() {
        apply(&engine, &[append(slot, 10, 10, 10)]);
        engine.settle(false).unwrap();
    }
    assert!(fs::metadata(dir.join(DATABASE)).unwrap().len() > 0);
    let mut unsettled_bytes = 0;
    for sequence in 1..=2 * limits::LOG_UNSETTLED_BYTES / 60_000 {
        apply(&engine, &[append(1 << 20, sequence, sequence, 60_000)]);
        engine.settle(false).unwrap();
        unsettled_bytes = if engine.is_settled() { 0 } else { unsettled_bytes + 60_000 };
        assert!(unsettled_bytes <= limits::LOG_UNSETTLED_BYTES + 60_000);
    }
}

#[test]
fn is_the_same_after_any_number_of_starts() {
    let (dir, engine, states) = history();
    drop(engine);
    for _ in 0..3 {
        let engine = open(&dir);
        assert!(engine.is_settled());
        assert!(contents(&engine) == states.last().unwrap().1);
        engine.reopen().unwrap();
        assert!(contents(&engine) == states.last().unwrap().1);
    }
}

/// A directory as a relay of format 1 left it: its messages are in the database.
fn of_format_1() -> TempDir {
    let dir = TempDir::new();
    let index = RedbEngine::create(&dir.join(DATABASE)).unwrap();
    Snapshot::load(&index, [9; 32], NOW).unwrap();
    apply(&index, &[register(3, 1, "alice"), append(3, 1, 50, 200)]);
    apply(&index, &[append(3, 51, 100, 200)]);
    let (table, key, value) = (Table::Meta, b"format".to_vec(), 1_u32.to_be_bytes().to_vec());
    index.commit(&[Write::Put { table, key, value }]).unwrap();
    dir
}

#[test]
fn takes_up_a_store_of_format_1() {
    let dir = of_format_1();
    let (store, snapshot) = Store::open(dir.path(), [8; 32], NOW).unwrap();
    assert_eq!((snapshot.relay_id.0, snapshot.mailboxes[0].messages), ([9; 32], 100));
    let handle = store.start(|| ()).unwrap();
    handle.submit(append(3, 101, 150, 200));
    handle.submit(acked(3, 50, 100, 20_000));
    assert_eq!(handle.shutdown(), [Completion::Appended { slot: 3, last: Sequence(150) }]);
    let engine = open(&dir);
    assert_eq!(engine.get(Table::Meta, b"format").unwrap(), Some(2_u32.to_be_bytes().to_vec()));
    assert_eq!(chunks(&engine, 3, 0, usize::MAX), [(51, 100), (101, 150)]);
    let expected: Vec<u8> = (51..=150).flat_map(|sequence| message(3, sequence, 200)).collect();
    assert!(backlog_bytes(&engine, 3, 50) == expected);
    apply(&engine, &[acked(3, 150, 0, 0)]);
    engine.settle(true).unwrap();
    assert_eq!(chunks(&engine, 3, 0, usize::MAX), []);
}

#[test]
fn refuses_a_store_of_a_newer_format_and_leaves_it() {
    let dir = of_format_1();
    let index = RedbEngine::open(&dir.join(DATABASE)).unwrap();
    let (table, key, value) = (Table::Meta, b"format".to_vec(), 3_u32.to_be_bytes().to_vec());
    index.commit(&[Write::Put { table, key, value }]).unwrap();
    drop(index);
    let Err(error) = Store::open(dir.path(), [8; 32], NOW) else { panic!("it was opened") };
    assert_eq!(error.kind, OpenErrorKind::NewerFormat, "{error}");
    assert_eq!(
        chunks(&RedbEngine::open(&dir.join(DATABASE)).unwrap(), 3, 0, usize::MAX),
        [(1, 50), (51, 100)]
    );
}
