//! The log under the store: what it holds after a kill at any byte, after damage, when it is cleaned up, and what it makes of a
//! store of before it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use e2e_protocol::ids::Sequence;
use e2e_relayd::store::{
    Completion, Engine, LogEngine, LogSizes, MemoryEngine, OpenErrorKind, RedbEngine, Request, Snapshot,
    Store, StoreErrorKind, Table, Write, limits,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use store_common::*;

/// Records of the log begin at multiples of this.
const BLOCK: u64 = 4096;

fn open(dir: &TempDir) -> LogEngine {
    LogEngine::open(&dir.join(DATABASE)).unwrap()
}

/// The segments of a directory's log, oldest first.
fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = entries.filter(|path| path.extension().is_none()).collect();
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
    Snapshot::load(&engine, [9; 32], NOW).unwrap();
    apply(&engine, &[register(7, 1, "seven"), register(8, 1, "eight"), register(9, 1, "nine")]);
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

/// Opens a directory whose log is damaged as the relay does: the store is made whole. Gives what it holds then.
fn mended(dir: &TempDir) -> (Contents, Snapshot) {
    let Err(error) = LogEngine::open(&dir.join(DATABASE)) else { panic!("it was opened") };
    assert_eq!(error.kind, StoreErrorKind::Damaged, "{error}");
    let (store, snapshot) = Store::open(dir.path(), [8; 32], NOW).unwrap();
    drop(store);
    let aside = fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(aside.filter(|path| path.extension().is_some_and(|end| end == "damaged")).count(), 1);
    (contents(&open(dir)), snapshot)
}

#[test]
fn goes_on_behind_damage_in_its_middle() {
    let (dir, _engine, states) = history();
    for pair in states.windows(2).take(8) {
        let copy = copy_of(&dir);
        set_bytes(&segments(&copy)[0], pair[0].0 + 50, b"damaged");
        let (held, snapshot) = mended(&copy);
        // What came later is there: the last appends.
        let is_there = |sequence: u64| {
            let key = [&8_u32.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
            held.iter().any(|(table, found, _)| *table == Table::Chunks && *found == key)
        };
        assert!(is_there(214) && is_there(229));
        // What was handed out is not known: nothing is handed out again.
        assert!(snapshot.users.iter().all(|user| user.prekeys.one_time_left == 0));
        // It is not met again.
        assert!(contents(&open(&copy)) == held);
    }
}

#[test]
fn hands_out_no_prekey_twice_after_damage_and_counts_starts_on() {
    let dir = TempDir::new();
    let mut handle = Store::open(dir.path(), [9; 32], NOW).unwrap().0.start(|| ()).unwrap();
    ask(&mut handle, register(3, 1, "alice"));
    ask(&mut handle, publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 16))));
    handle.shutdown();
    let (store, snapshot) = Store::open(dir.path(), [9; 32], NOW).unwrap();
    let settled = fs::metadata(&segments(&dir)[0]).unwrap().len();
    let mut handle = store.start(|| ()).unwrap();
    assert!(matches!(
        ask(&mut handle, take(3, true)),
        Completion::Bundle { result: Ok(Some(bundle)), .. } if bundle.one_time.is_some()
    ));
    ask(&mut handle, append(8, 1, 9, 100));
    for at in [settled - BLOCK, settled] {
        let copy = copy_of(&dir);
        fs::copy(dir.join("relay-id"), copy.join("relay-id")).unwrap();
        if at < settled {
            // Where the index says how far the log is settled.
            let mut index = fs::read(copy.join(DATABASE)).unwrap();
            for page in index.chunks_mut(BLOCK as usize) {
                if let Some(place) = page.windows(8).position(|window| window == b"relay-id") {
                    page[place] ^= 1;
                }
            }
            fs::write(copy.join(DATABASE), index).unwrap();
        } else {
            set_bytes(&segments(&copy)[0], at + 50, b"damaged");
        }
        let (store, again) = Store::open(copy.path(), [8; 32], NOW).unwrap();
        assert_eq!((again.relay_id.0, again.boot > snapshot.boot), ([9; 32], true));
        let mut handle = store.start(|| ()).unwrap();
        assert!(matches!(
            ask(&mut handle, take(3, true)),
            Completion::Bundle { result: Ok(Some(bundle)), .. } if bundle.one_time.is_none()
        ));
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
    // Nothing is whole behind it: it is taken for what was cut off.
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
fn needs_only_one_of_the_two_heads_of_a_segment() {
    let (dir, _engine, states) = history();
    let last = &states.last().unwrap().1;
    for at in [20, BLOCK / 2 + 20] {
        let copy = copy_of(&dir);
        set_bytes(&segments(&copy)[0], at, b"damaged");
        assert!(contents(&open(&copy)) == *last);
    }
    let copy = copy_of(&dir);
    set_bytes(&segments(&copy)[0], 0, &[0; BLOCK as usize]);
    let (held, _) = mended(&copy);
    // What was settled is read where it lies, and the log goes on in another.
    let of = |contents: &Contents| -> Vec<_> {
        contents.iter().filter(|(table, ..)| *table == Table::Chunks).cloned().collect()
    };
    assert!(of(&held) == of(&states[0].1) && !of(&held).is_empty());
    let engine = open(&copy);
    apply(&engine, &[append(9, 1, 9, 100)]);
    drop(engine);
    assert_eq!(chunks(&open(&copy), 9, 0, usize::MAX), [(1, 9)]);
}

#[test]
fn begins_a_segment_again_whose_making_was_cut_off() {
    let (dir, engine, states) = history();
    let last = &states.last().unwrap().1;
    for bytes in [0, 10, BLOCK] {
        let copy = copy_of(&dir);
        fs::write(copy.join("log/0000000000000002"), vec![0; bytes as usize]).unwrap();
        let reopened = open(&copy);
        assert!(contents(&reopened) == *last);
        apply(&reopened, &[append(9, 1, 9, 100)]);
        drop(reopened);
        assert_eq!(chunks(&open(&copy), 9, 0, usize::MAX), [(1, 9)]);
    }
    drop(engine);
}

#[test]
fn goes_on_in_another_segment_where_one_was_cut_off_in_what_was_settled() {
    let (dir, _engine, states) = history();
    let copy = copy_of(&dir);
    cut(&segments(&copy)[0], states[0].0 - 2 * BLOCK);
    let (held, _) = mended(&copy);
    let engine = open(&copy);
    apply(&engine, &[append(9, 1, 9, 100)]);
    assert!(segments(&copy).len() <= 2);
    drop(engine);
    assert_eq!(chunks(&open(&copy), 9, 0, usize::MAX), [(1, 9)]);
    assert!(held.iter().all(|(table, key, _)| *table != Table::Chunks || key[..4] != [0, 0, 0, 9]));
}

#[test]
fn gives_no_number_of_a_segment_twice() {
    let dir = TempDir::new();
    let engine = log_engine(&dir);
    Snapshot::load(&engine, [9; 32], NOW).unwrap();
    apply(&engine, &[register(3, 1, "three"), append(3, 1, 9, 100)]);
    engine.settle(true).unwrap();
    drop(engine);
    fs::remove_file(&segments(&dir)[0]).unwrap();
    drop(Store::open(dir.path(), [8; 32], NOW).unwrap());
    let engine = open(&dir);
    apply(&engine, &[append(4, 1, 9, 100)]);
    engine.settle(true).unwrap();
    assert_eq!(chunks(&engine, 3, 0, usize::MAX), []);
    apply(&engine, &[acked(3, 9, 0, 0)]);
    engine.settle(true).unwrap();
    assert_eq!(chunks(&engine, 4, 0, usize::MAX), [(1, 9)]);
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

/// A log with segments of some records.
fn small(dir: &TempDir) -> LogEngine {
    let sizes = LogSizes { segment: 64 * 1024, unsettled: 96 * 1024, unused: 64 * 1024 };
    let path = dir.join(DATABASE);
    LogEngine::over(RedbEngine::open(&path).unwrap(), &path, sizes).unwrap()
}

/// What the index says of the segments is what it leads to, and all that is needed is there, and nothing else.
fn audit(dir: &TempDir, what: &str) {
    let copy = copy_of(dir);
    let index = RedbEngine::open(&copy.join(DATABASE)).unwrap();
    let (mut leads_to, mut says) = (BTreeMap::<u64, u64>::new(), BTreeMap::new());
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let each = |table, visit: &mut dyn FnMut(&[u8], &[u8])| {
        let mut visit = |key: &[u8], value: &[u8]| {
            visit(key, value);
            std::ops::ControlFlow::Continue(())
        };
        index.scan(table, &[], &[0xff; 16], &mut visit).unwrap();
    };
    each(Table::Chunks, &mut |_, value| {
        let length = u32::from_be_bytes(value[24..].try_into().unwrap());
        *leads_to.entry(number(&value[12..20])).or_default() += u64::from(length) + 1;
    });
    each(Table::Segments, &mut |key, value| _ = says.insert(number(key), number(value)));
    assert_eq!(leads_to, says, "{what}");
    let files: BTreeSet<u64> = segments(dir)
        .iter()
        .map(|path| u64::from_str_radix(path.file_name().unwrap().to_str().unwrap(), 16).unwrap())
        .collect();
    assert!(leads_to.keys().all(|number| files.contains(number)), "{what}: {leads_to:?} {files:?}");
    let last = files.last().copied();
    assert!(files.iter().all(|number| leads_to.contains_key(number) || Some(*number) == last), "{what}");
}

#[test]
fn holds_what_a_map_holds_whatever_is_settled_moved_and_cut_off() {
    for seed in 1..=4 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut below = |count: u32| rng.next_u32() % count;
        let dir = TempDir::new();
        drop(log_engine(&dir));
        let (engine, model) = (small(&dir), MemoryEngine::new());
        for step in 0..400 {
            let what = format!("seed {seed}, step {step}");
            match below(20) {
                0..=14 => {
                    let writes: Vec<_> = (0..=below(5)).map(|_| any_write(&mut below)).collect();
                    engine.commit(&writes).unwrap();
                    model.commit(&writes).unwrap();
                }
                15 | 16 => engine.settle(false).unwrap(),
                17 => {
                    engine.settle(true).unwrap();
                    audit(&dir, &what);
                }
                18 => engine.reopen().unwrap(),
                _ => {
                    let copy = copy_of(&dir);
                    let engine = small(&copy);
                    assert!(contents(&engine) == contents(&model), "{what}, cut off");
                    engine.settle(true).unwrap();
                    audit(&copy, &what);
                }
            }
            assert!(contents(&engine) == contents(&model), "{what}");
        }
    }
}

fn any_write(below: &mut impl FnMut(u32) -> u32) -> Write {
    let table = if below(4) == 0 { Table::Users } else { Table::Chunks };
    let key = |below: &mut dyn FnMut(u32) -> u32| {
        let key = [below(4).to_be_bytes(), 0_u32.to_be_bytes(), below(40).to_be_bytes()].concat();
        if below(8) == 0 { key[..4].to_vec() } else { key }
    };
    if below(4) == 0 {
        let from = key(below);
        let to_inclusive = if below(3) == 0 { key(below) } else { from.clone() };
        return Write::DeleteRange { table, from, to_inclusive };
    }
    let key = key(below);
    let bytes = if below(10) == 0 { 30_000 } else { 12 + below(3_000) };
    let first = below(256);
    Write::Put { table, key, value: (first..first + bytes).map(|byte| byte as u8).collect() }
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
