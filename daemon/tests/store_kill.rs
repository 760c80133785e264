//! A process that is killed while it commits: everything that it had reported durable is there afterwards.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    collections::{BTreeMap, HashSet},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::channel,
};

use e2e_protocol::ids::Sequence;
use e2e_relayd::store::{Completion, Request, Snapshot, Store, StoreHandle};
use store_common::*;

/// The directory that the child is to use, in its environment.
const CHILD_DIRECTORY: &str = "E2E_STORE_TEST_DIRECTORY";

/// Chunks of this size make commits of several pages, which a kill can cut in two.
const MESSAGE_BYTES: usize = 1000;

const SLOTS: u32 = 4;

fn open(directory: &Path) -> (Store, Snapshot) {
    Store::open(directory, [9; 32], NOW).unwrap()
}

/// Not a test by itself: what the child process runs. It stores, acknowledges and takes prekeys as fast as it
/// can, and says on a line what is durable.
#[test]
fn child_commits_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY).map(PathBuf::from) else { return };
    let (store, snapshot) = open(&directory);
    let (notify, answered) = channel();
    let mut handle = store.start(move || notify.send(()).unwrap_or(())).unwrap();
    if snapshot.users.is_empty() {
        handle.submit(register(0, 1, "alice"));
        handle.submit(publish(0, Some(signed_prekey(5)), None));
    }
    // As the relay does: the start counts in the upper half, so no sequence is given twice.
    let base = u64::from(snapshot.boot) << 32;
    let mut out = std::io::stdout().lock();
    for round in 1_u64.. {
        submit_round(&handle, snapshot.boot, base, round);
        for () in answered.try_iter() {}
        while handle.in_flight_bytes() > 1_000_000 {
            answered.recv().unwrap();
        }
        while let Some(completion) = handle.try_completion() {
            match completion {
                Completion::Appended { slot, last } => writeln!(out, "stored {slot} {}", last.0).unwrap(),
                Completion::Bundle { result: Ok(Some(bundle)), .. } => {
                    if let Some(one_time) = bundle.one_time {
                        let seed = u32::from_be_bytes(one_time.modulus[..4].try_into().unwrap());
                        writeln!(out, "taken {seed}").unwrap();
                    }
                }
                Completion::AppendFailed { .. } => panic!("{completion:?}"),
                _ => {}
            }
        }
    }
}

fn submit_round(handle: &StoreHandle, boot: u32, base: u64, round: u64) {
    for slot in 0..SLOTS {
        let first = base + round * 10;
        handle.submit(append(slot, first, first + 9, MESSAGE_BYTES));
        if slot == 1 && round > 20 {
            handle.submit(acked(slot, first - 200, 200, 200 * MESSAGE_BYTES as u64));
        }
    }
    let seed = boot * 1_000_000 + u32::try_from(round).unwrap() * 20;
    if round == 1 {
        handle.submit(publish(0, Some(signed_prekey(boot)), None));
    }
    if round.is_multiple_of(8) {
        handle.submit(publish(0, None, Some(batch(boot, seed, 16))));
    }
    handle.submit(take(0, true));
}

#[test]
fn a_killed_process_loses_nothing_that_it_reported_durable() {
    let dir = TempDir::new();
    let mut stored: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut taken = HashSet::new();
    for run in 1..=4 {
        for line in run_and_kill(dir.path(), 200 * run) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["stored", slot, last] => {
                    stored.entry(slot.parse().unwrap()).or_default().push(last.parse().unwrap());
                }
                ["taken", seed] => assert!(taken.insert(seed.to_owned()), "{seed} was handed out twice"),
                _ => {}
            }
        }
        assert!(!taken.is_empty());
        let (store, snapshot) = open(dir.path());
        let mut handle = store.start(|| ()).unwrap();
        for slot in 0..SLOTS {
            check(&mut handle, &snapshot, slot, &stored[&slot]);
        }
        handle.shutdown();
    }
}

/// The lines that a child printed until it had printed so many, and was killed.
fn run_and_kill(directory: &Path, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_commits_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut printed = Vec::new();
    for _ in 0..lines {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
        printed.push(line);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    // What was written to the pipe was reported, but a last line may be cut off.
    let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
    printed.into_iter().chain(whole.lines().map(str::to_owned)).map(|line| line.trim().to_owned()).collect()
}

/// All that was reported stored and not acknowledged is there, byte for byte, each once and in order.
fn check(handle: &mut StoreHandle, snapshot: &Snapshot, slot: u32, reported: &[u64]) {
    let mailbox = snapshot.mailboxes.iter().find(|mailbox| mailbox.slot == slot).unwrap();
    assert!(mailbox.durable >= Sequence(*reported.last().unwrap()));
    handle.submit(Request::ReadBacklog { slot, after: mailbox.acked, bytes_max: usize::MAX, token: 1 });
    let chunks = loop {
        match handle.try_completion() {
            Some(Completion::Backlog { result, .. }) => break result.unwrap(),
            Some(other) => panic!("{other:?}"),
            None => std::thread::yield_now(),
        }
    };
    let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
    let mut found = Vec::new();
    for bytes in bytes.chunks(MESSAGE_BYTES) {
        let sequence = sequence_of(slot, bytes);
        assert_eq!(bytes, message(slot, sequence, MESSAGE_BYTES), "slot {slot}, {sequence}");
        found.push(sequence);
    }
    assert!(found.is_sorted_by(|one, next| one < next), "slot {slot}");
    let lost = reported.iter().find(|&&last| Sequence(last) > mailbox.acked && !found.contains(&last));
    assert_eq!(lost, None, "slot {slot}");
}
