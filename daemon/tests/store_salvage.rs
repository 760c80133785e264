//! A damaged database: what is whole is taken up, what is not is set aside, and nothing is made up.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use e2e_protocol::ids::Sequence;
use e2e_relayd::store::{
    Completion, Engine, OpenError, OpenErrorKind, RedbEngine, Request, Snapshot, Store, StoreHandle, Table,
    Write, limits,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use store_common::*;

const PAGE: usize = 4096;

fn open(directory: &Path) -> Result<(Store, Snapshot), OpenError> {
    // Another id than at the first start: it must not come up.
    Store::open(directory, [8; 32], NOW)
}

/// The files that were set aside.
fn set_aside(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_aside = |path: &PathBuf| path.to_string_lossy().contains("relay.redb.damaged");
    let mut files: Vec<_> = files.filter(is_aside).collect();
    files.sort();
    files
}

fn copy_files(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The log as it was when its index was whole.
const SAVED_LOG: &str = "saved";

/// Takes one-time prekeys until there are none left; the seeds that they were made of.
fn take_all(handle: &mut StoreHandle) -> Vec<u32> {
    let mut taken = Vec::new();
    while let Completion::Bundle { result: Ok(Some(bundle)), .. } = ask(handle, take(3, true)) {
        let Some(one_time) = bundle.one_time else { break };
        taken.push(u32::from_be_bytes(one_time.modulus[..4].try_into().unwrap()));
    }
    taken
}

/// What came of a damaged copy of `whole`, in which the prekeys `handed_out` were handed out before.
struct Outcome {
    set_aside: bool,
    names: usize,
    messages: usize,
}

/// Writes damaged bytes into a directory, opens it, and checks what holds whatever the damage is.
fn check(dir: &TempDir, damaged: &[u8], handed_out: &[u32], what: &str) -> Outcome {
    let database = dir.join(DATABASE);
    fs::write(&database, damaged).unwrap();
    copy_files(&dir.join(SAVED_LOG), &dir.join("log"));
    let (store, snapshot) = open(dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(snapshot.relay_id.0, [9; 32], "{what}");
    assert!(snapshot.boot >= 2, "{what}");
    let aside = set_aside(dir.path());
    assert!(aside.len() <= 1, "{what}");
    for file in &aside {
        assert!(fs::read(file).unwrap() == damaged, "{what}: the damaged file was changed");
    }
    assert!(!dir.join("relay.redb.new").exists(), "{what}");
    let mut handle = store.start(|| ()).unwrap();
    let names: Vec<_> = snapshot.users.iter().map(|user| user.name.as_str()).collect();
    assert!(names == ["alice"] || names.is_empty(), "{what}: {names:?}");
    let mut messages = 0;
    if let Some(mailbox) = snapshot.mailboxes.first() {
        let read = Request::ReadBacklog { slot: 3, after: mailbox.acked, bytes_max: usize::MAX, token: 1 };
        let Completion::Backlog { result: Ok(chunks), .. } = ask(&mut handle, read) else { panic!("{what}") };
        let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
        let found: Vec<_> = bytes.chunks(200).map(|bytes| (sequence_of(3, bytes), bytes)).collect();
        assert!(found.is_sorted_by(|one, next| one.0 < next.0), "{what}");
        assert!(found.iter().all(|(sequence, bytes)| *bytes == message(3, *sequence, 200)), "{what}");
        messages = found.len();
        assert_eq!((mailbox.messages, mailbox.bytes), (messages as u64, messages as u64 * 200), "{what}");
        assert!(mailbox.durable >= Sequence(found.last().unwrap().0), "{what}");
    }
    let taken = take_all(&mut handle);
    let unique: HashSet<_> = handed_out.iter().chain(&taken).collect();
    assert_eq!(unique.len(), handed_out.len() + taken.len(), "{what}: a prekey was handed out twice");
    // It works as any store does.
    let slot = if names.is_empty() { 0 } else { 3 };
    assert!(
        matches!(ask(&mut handle, append(slot, 1 << 40, 1 << 40, 200)), Completion::Appended { .. }),
        "{what}"
    );
    handle.shutdown();
    // And needs no second look.
    let (store, again) = open(dir.path()).unwrap();
    assert_eq!((again.users.len(), again.boot), (names.len(), snapshot.boot + 1), "{what}");
    drop(store);
    assert_eq!(set_aside(dir.path()).len(), aside.len(), "{what}");
    for file in &aside {
        fs::remove_file(file).unwrap();
    }
    // Where nothing says what the log is of, it is set aside too.
    let log_aside = dir.join("log.damaged-1");
    assert!(!log_aside.exists() || names.is_empty() && !aside.is_empty(), "{what}");
    let _ = fs::remove_dir_all(log_aside);
    Outcome { set_aside: !aside.is_empty(), names: names.len(), messages }
}

/// A filled directory of which five prekeys were handed out, and its database's bytes.
fn handed_out() -> (TempDir, Vec<u8>, Vec<u32>) {
    let dir = filled();
    let mut handle = Store::open(dir.path(), [9; 32], NOW).unwrap().0.start(|| ()).unwrap();
    let mut taken = Vec::new();
    for _ in 0..5 {
        let Completion::Bundle { result: Ok(Some(bundle)), .. } = ask(&mut handle, take(3, true)) else {
            panic!("there are prekeys")
        };
        let modulus = bundle.one_time.unwrap().modulus;
        taken.push(u32::from_be_bytes(modulus[..4].try_into().unwrap()));
    }
    handle.shutdown();
    copy_files(&dir.join("log"), &dir.join(SAVED_LOG));
    let whole = fs::read(dir.join(DATABASE)).unwrap();
    (dir, whole, taken)
}

#[test]
fn takes_up_what_is_whole_whichever_page_is_overwritten() {
    let (dir, whole, taken) = handed_out();
    let (mut salvaged, mut with_name, mut with_most) = (0, 0, 0);
    // Each of the first, where the trees are, and some of those that hold messages.
    let pages = (0..whole.len() / PAGE).filter(|page| *page < 24 || page % 24 == 0);
    for place in pages.map(|page| page * PAGE) {
        let mut damaged = whole.clone();
        damaged[place..place + PAGE].fill(0xa5);
        let outcome = check(&dir, &damaged, &taken, &format!("page {}", place / PAGE));
        salvaged += usize::from(outcome.set_aside);
        with_name += usize::from(outcome.set_aside && outcome.names == 1);
        with_most += usize::from(outcome.set_aside && outcome.messages > 4_500);
    }
    // Most pages hold messages of one chunk.
    assert!(
        salvaged > 10 && with_name + 5 > salvaged && with_most + 10 > salvaged,
        "{salvaged} {with_name} {with_most}"
    );
}

#[test]
fn takes_up_what_is_whole_whichever_bit_is_flipped() {
    let (dir, whole, taken) = handed_out();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for round in 0..40 {
        // The header more often than its size deserves.
        let range = if round % 5 == 0 { 512 } else { used };
        let (place, bit) = (rng.next_u64() as usize % range, rng.next_u32() % 8);
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << bit;
        let outcome = check(&dir, &damaged, &taken, &format!("byte {place}, bit {bit}"));
        assert!(outcome.set_aside || outcome.messages == 5_000, "byte {place}, bit {bit}");
    }
}

#[test]
fn takes_up_what_is_whole_of_a_truncated_database() {
    let (dir, whole, taken) = handed_out();
    let mut some = false;
    for length in [
        0,
        1,
        63,
        64,
        319,
        320,
        4095,
        4096,
        8192,
        65_536,
        65_537,
        whole.len() / 2,
        whole.len() - PAGE,
        whole.len() - 1,
    ] {
        let outcome = check(&dir, &whole[..length], &taken, &format!("{length} bytes"));
        assert!(outcome.set_aside, "{length} bytes");
        some |= outcome.messages > 0;
    }
    assert!(some);
}

#[test]
fn hands_out_no_prekey_twice_after_going_back_by_a_commit() {
    let (dir, mut damaged, taken) = handed_out();
    // The commit in force: the one before knows one prekey more.
    let slot = if damaged[9] & 1 == 0 { 64 } else { 192 };
    damaged[slot + 8] ^= 1;
    let outcome = check(&dir, &damaged, &taken, "the former commit");
    assert!(outcome.set_aside && outcome.names == 1 && outcome.messages == 5_000);
}

#[test]
fn keeps_its_id_where_nothing_else_is_left_and_is_refused_without() {
    let garbage: [Vec<u8>; 4] =
        [Vec::new(), b"hello".to_vec(), vec![0; 8192], (0..200_000_u32).flat_map(u32::to_le_bytes).collect()];
    let dir = filled();
    copy_files(&dir.join("log"), &dir.join(SAVED_LOG));
    for bytes in &garbage {
        let outcome = check(&dir, bytes, &[], "garbage");
        assert!(outcome.set_aside && outcome.names == 0);
    }
    for damage in [None, Some("0909 1 00000000\n")] {
        match damage {
            None => fs::remove_file(dir.join("relay-id")).unwrap(),
            Some(text) => fs::write(dir.join("relay-id"), text).unwrap(),
        }
        for bytes in &garbage {
            fs::write(dir.join(DATABASE), bytes).unwrap();
            let Err(error) = open(dir.path()) else { panic!("it was opened") };
            assert_eq!(error.kind, OpenErrorKind::Corrupted, "{error}");
            assert!(
                error.to_string().starts_with("the store is corrupted and was left as it is: "),
                "{error}"
            );
            assert!(fs::read(dir.join(DATABASE)).unwrap() == *bytes);
            assert_eq!(set_aside(dir.path()), [] as [PathBuf; 0]);
            assert!(!dir.join("relay.redb.new").exists());
        }
    }
}

#[test]
fn refuses_to_start_anew_where_only_the_database_is_missing() {
    let dir = filled();
    fs::rename(dir.join(DATABASE), dir.join("elsewhere")).unwrap();
    let Err(error) = open(dir.path()) else { panic!("it was opened") };
    assert_eq!(error.kind, OpenErrorKind::Corrupted, "{error}");
    fs::rename(dir.join("elsewhere"), dir.join(DATABASE)).unwrap();
    assert_eq!(open(dir.path()).unwrap().1.users.len(), 1);
}

#[test]
fn begins_again_wherever_it_was_cut_off() {
    let (dir, mut damaged, taken) = handed_out();
    // Cut off: that is found whatever lies where.
    damaged.truncate(damaged.len() - PAGE);
    fs::write(dir.join(DATABASE), &damaged).unwrap();
    // The new file half written; and the second name given as well.
    fs::write(dir.join("relay.redb.new"), &damaged[..10_000]).unwrap();
    fs::hard_link(dir.join(DATABASE), dir.join("relay.redb.damaged")).unwrap();
    let (store, snapshot) = open(dir.path()).unwrap();
    assert_eq!(set_aside(dir.path()), [dir.join("relay.redb.damaged")]);
    assert_eq!(snapshot.relay_id.0, [9; 32]);
    drop(store);
    // Another damage does not touch what was set aside before.
    let mut whole = fs::read(dir.join(DATABASE)).unwrap();
    whole.truncate(whole.len() - PAGE);
    fs::write(dir.join(DATABASE), &whole).unwrap();
    drop(open(dir.path()).unwrap());
    assert_eq!(set_aside(dir.path()), [dir.join("relay.redb.damaged"), dir.join("relay.redb.damaged-2")]);
    assert!(fs::read(dir.join("relay.redb.damaged")).unwrap() == damaged);
    assert_eq!(taken.len(), 5);
}

/// Overwrites the head of each page in which the database says, or once said, where this message is.
fn damage_index(database: &Path, slot: u32, sequence: u64) {
    let mut bytes = fs::read(database).unwrap();
    let key = [&slot.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
    let mut damaged = 0;
    for place in (PAGE..bytes.len()).step_by(PAGE) {
        // A leaf with keys of 12 bytes and values of 28.
        let page = &bytes[place..place + PAGE];
        let count = usize::from(u16::from_le_bytes([page[2], page[3]]));
        let end_of = |number: usize| {
            page.get(4 + 4 * number..8 + 4 * number)
                .map(|field| u32::from_le_bytes(field.try_into().unwrap()))
        };
        let (keys, values) = (end_of(count.wrapping_sub(1)), end_of(count));
        let is_chunks = page[0] == 1
            && count > 0
            && keys == u32::try_from(4 + 8 * count + 12 * count).ok()
            && values == keys.map(|end| end + 28);
        if is_chunks && page.windows(12).any(|window| window == key) {
            bytes[place..place + 64].fill(0xa5);
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    // In place: the relay has it open.
    let file = fs::OpenOptions::new().write(true).open(database).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
}

#[test]
fn a_running_store_is_made_whole_where_damage_is_met() {
    let dir = TempDir::new();
    let handle = Store::open(dir.path(), [9; 32], NOW).unwrap().0.start(|| ()).unwrap();
    handle.submit(register(3, 1, "alice"));
    handle.submit(register(4, 1, "bob"));
    for sequence in 1..=300 {
        handle.submit(append(3, sequence, sequence, 60_000));
        handle.submit(append(4, sequence, sequence, 60_000));
    }
    handle.shutdown();
    let (store, _) = open(dir.path()).unwrap();
    let mut handle = store.start(|| ()).unwrap();
    damage_index(&dir.join(DATABASE), 3, 150);
    let mut read_all = |slot| {
        let (mut after, mut found, mut failures) = (0, Vec::new(), 0);
        loop {
            match ask(&mut handle, read(slot, after, 300_000)) {
                Completion::Backlog { result: Ok(chunks), .. } if chunks.is_empty() => break,
                Completion::Backlog { result: Ok(chunks), .. } => {
                    for chunk in chunks {
                        assert!(chunk.bytes == message(slot, chunk.last.0, 60_000));
                        after = chunk.last.0;
                        found.push(after);
                    }
                }
                Completion::Backlog { result: Err(_), .. } => {
                    failures += 1;
                    assert!(failures < 1_000, "it never works again");
                    std::thread::sleep(std::time::Duration::from_millis(5)); // not a race: as the relay does
                }
                other => panic!("{other:?}"),
            }
        }
        found
    };
    let found = read_all(3);
    // A page says where some dozens are.
    assert!(found.is_sorted() && (150..300).contains(&found.len()), "{} of 300", found.len());
    assert!(!found.contains(&150));
    assert_eq!(read_all(4), (1..=300).collect::<Vec<_>>());
    assert_eq!(set_aside(dir.path()), [dir.join("relay.redb.damaged")]);
    let appended = ask(&mut handle, append(3, 301, 301, 200));
    assert!(matches!(appended, Completion::Appended { .. }), "{appended:?}");
    handle.shutdown();
    let (_, snapshot) = open(dir.path()).unwrap();
    assert_eq!((snapshot.users.len(), snapshot.mailboxes[0].messages), (2, found.len() as u64 + 1));
    assert_eq!(set_aside(dir.path()).len(), 1);
}

#[test]
fn takes_up_no_altered_name_of_a_database_that_is_too_large_to_verify() {
    let dir = TempDir::new();
    let handle = Store::open(dir.path(), [9; 32], NOW).unwrap().0.start(|| ()).unwrap();
    handle.submit(register(3, 1, "alice"));
    handle.submit(register(4, 1, "bob"));
    handle.shutdown();
    let database = dir.join(DATABASE);
    // Messages in the database itself, as format 1 had them.
    let index = RedbEngine::open(&database).unwrap();
    for sequence in 1..=1_200_u64 {
        let key = [&4_u32.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
        let value =
            [&sequence.to_be_bytes()[..], &1_u32.to_be_bytes(), &message(4, sequence, 60_000)].concat();
        index.commit(&[Write::Put { table: Table::Chunks, key, value }]).unwrap();
    }
    drop(index);
    let mut bytes = fs::read(&database).unwrap();
    assert!(bytes.len() as u64 > limits::OPEN_CHECK_BYTES_MAX);
    drop(open(dir.path()).unwrap());
    assert_eq!(set_aside(dir.path()), [] as [PathBuf; 0]);
    // One bit of it, wherever the name lies.
    for place in 0..bytes.len() - 5 {
        if bytes[place..].starts_with(b"alice") {
            bytes[place] ^= 0x02;
        }
    }
    fs::write(&database, &bytes).unwrap();
    let (_, snapshot) = open(dir.path()).unwrap();
    // Both records lay in the page.
    assert_eq!((snapshot.users.len(), snapshot.relay_id.0), (0, [9; 32]));
    assert_eq!(set_aside(dir.path()).len(), 1);
}
