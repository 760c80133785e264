//! A copy of the store while it goes on: what it holds, what it holds up, and that half of one is none.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
    time::Duration,
};

use e2e_protocol::ids::Sequence;
use e2e_protocol::wire::routed::{frame_bytes_at, routing_at};
use e2e_relayd::store::{
    Completion, CopyError, CopyReport, Engine, GivenUp, LogEngine, LogSizes, OpenErrorKind, RedbEngine,
    Request, Snapshot, Store, StoreHandle, Table, limits, receive_copy,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use store_common::*;

/// A log of small segments, settled often.
const SMALL: LogSizes = LogSizes { segment: 64 * 1024, unsettled: 64 * 1024, unused: 128 * 1024 };

fn small_engine(dir: &TempDir) -> LogEngine {
    let path = dir.join(DATABASE);
    if !path.exists() {
        drop(RedbEngine::create(&path).unwrap());
    }
    LogEngine::over(RedbEngine::open(&path).unwrap(), &path, SMALL).unwrap()
}

fn small_store(dir: &TempDir) -> StoreHandle {
    Store::over(Arc::new(small_engine(dir)), [9; 32], NOW).unwrap().0.start(|| ()).unwrap()
}

type Done = mpsc::Receiver<Result<CopyReport, CopyError>>;

fn copy_to(handle: &StoreHandle, out: impl Write + Send + 'static) -> Done {
    let (tell, done) = mpsc::channel();
    handle.copy_to(out, move |result| drop(tell.send(result))).unwrap();
    done
}

/// Waits for the end of a copy.
fn end_of(done: &Done) -> Result<CopyReport, CopyError> {
    done.recv().unwrap()
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Somebody who takes the first bytes, and nothing more until told to.
#[derive(Clone, Default)]
struct Gated {
    taken: Memory,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Default)]
struct Gate {
    begun: bool,
    /// There is more to take, and it is not taken.
    is_full: bool,
    is_open: bool,
}

impl Gated {
    fn wait_until_full(&self) {
        let (gate, changed) = &*self.gate;
        drop(changed.wait_while(gate.lock().unwrap(), |gate| !gate.is_full).unwrap());
    }

    fn open(&self) {
        let (gate, changed) = &*self.gate;
        gate.lock().unwrap().is_open = true;
        changed.notify_all();
    }

    fn bytes(&self) -> Vec<u8> {
        self.taken.0.lock().unwrap().clone()
    }
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (gate, changed) = &*self.gate;
        let mut guard = gate.lock().unwrap();
        if guard.begun {
            guard.is_full = true;
            changed.notify_all();
            drop(changed.wait_while(guard, |gate| !gate.is_open).unwrap());
        } else {
            guard.begun = true;
        }
        self.taken.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins a copy of which only the first bytes were taken: its moment is over.
fn gated_copy(handle: &StoreHandle) -> (Gated, Done) {
    let out = Gated::default();
    let done = copy_to(handle, out.clone());
    out.wait_until_full();
    (out, done)
}

/// The bytes of a copy.
fn copied(handle: &StoreHandle) -> Vec<u8> {
    let memory = Memory::default();
    end_of(&copy_to(handle, memory.clone())).unwrap();
    let mut bytes = memory.0.lock().unwrap();
    std::mem::take(&mut bytes)
}

/// A store with some of everything in it, in a few segments, and the bytes of a copy of it.
fn sample() -> (TempDir, Vec<u8>) {
    let dir = TempDir::new();
    let mut handle = small_store(&dir);
    for (slot, name) in [(3, "alice"), (4, "bob"), (5, "carol")] {
        ask(&mut handle, register(slot, 1, name));
    }
    ask(&mut handle, publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 4))));
    ask(&mut handle, take(3, true));
    ask(&mut handle, Request::Block { slot: 4, other: 5, block: true, token: 1 });
    for sequence in (1..200).step_by(10) {
        ask(&mut handle, append_delivers(3, 4, sequence, sequence + 9, 500));
        ask(&mut handle, append_delivers(4, 5, sequence, sequence + 9, 300));
    }
    handle.submit(acked(3, 95, 105, 105 * 564));
    ask(&mut handle, append_delivers(5, 3, 1, 1, 10));
    let bytes = copied(&handle);
    handle.shutdown();
    (dir, bytes)
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Frames of a mailbox that are not acknowledged, by their sequences.
fn waiting(engine: &dyn Engine, slot: u32, acked: Sequence) -> Vec<u64> {
    let bytes = backlog_bytes(engine, slot, acked.0);
    let mut rest = &bytes[..];
    let mut sequences = Vec::new();
    while !rest.is_empty() {
        let (_, routing) = routing_at(rest).unwrap();
        let frame = &rest[..frame_bytes_at(rest).unwrap()];
        assert!(frame == deliver(routing.peer.0, routing.sequence.0, frame.len() - 64));
        rest = &rest[frame.len()..];
        sequences.extend(Some(routing.sequence.0).filter(|sequence| *sequence > acked.0));
    }
    sequences
}

#[test]
fn holds_what_the_store_holds_and_opens_as_one() {
    let (dir, bytes) = sample();
    let copy = TempDir::new();
    let into = copy.join("a/b");
    let report = receive_copy(&bytes[..], &into).unwrap();
    assert_eq!((report.names, report.messages), (3, 105 + 200 + 1));
    assert_eq!(report.segments, entries(&into.join("log")).len() as u64);
    assert!(report.segments >= 3, "{report}");
    let held = contents(&LogEngine::open(&into.join(DATABASE)).unwrap());
    let mut original = contents(&LogEngine::open(&dir.join(DATABASE)).unwrap());
    // All the same but the number of starts, so that the copy gives no sequence that the original gives too.
    let starts =
        original.iter_mut().find(|(table, key, _)| (*table, &key[..]) == (Table::Meta, b"boot")).unwrap();
    starts.2 =
        (u32::from_be_bytes(starts.2[..].try_into().unwrap()) + limits::COPY_STARTS).to_be_bytes().to_vec();
    assert!(held == original);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&into), mode(&into.join("log"))), (0o700, 0o700));
    assert_eq!(entries(&into), ["lock", "log", "relay-id", DATABASE]);
    let files = entries(&into).into_iter().filter(|name| name != "log").map(|name| into.join(name));
    let segments = entries(&into.join("log")).into_iter().map(|name| into.join("log").join(name));
    files.chain(segments).for_each(|file| assert_eq!(mode(&file), 0o600, "{file:?}"));
    // A relay can be started with it, as the same relay, and goes on.
    let (store, snapshot) = Store::open(&into, [1; 32], NOW).unwrap();
    assert_eq!(
        (snapshot.relay_id.0, snapshot.boot, snapshot.users.len()),
        ([9; 32], 2 + limits::COPY_STARTS, 3)
    );
    let mut handle = store.start(|| ()).unwrap();
    assert!(matches!(ask(&mut handle, append_delivers(5, 3, 2, 2, 10)), Completion::Appended { .. }));
    handle.shutdown();
    let engine = LogEngine::open(&into.join(DATABASE)).unwrap();
    assert_eq!(waiting(&engine, 5, Sequence(0)), [1, 2]);
}

/// Step by step: a message for alice, one for bob, and alice's acknowledgement of an older one.
struct Load {
    /// The sequence of the last that was asked for.
    last: u64,
    /// How many messages are stored for sure.
    answered: u64,
}

impl Load {
    fn step(&mut self, handle: &StoreHandle) {
        self.last += 1;
        for slot in [3, 4] {
            handle.submit(append_delivers(slot, 7, self.last, self.last, 1_000));
        }
        if self.last > 5 {
            handle.submit(acked(3, self.last - 5, 5, 5 * 1_064));
        }
    }

    /// Waits for what was asked for.
    fn wait(&mut self, handle: &mut StoreHandle) {
        while self.answered < 2 * self.last {
            match handle.try_completion() {
                Some(Completion::Appended { .. }) => self.answered += 1,
                Some(other) => panic!("{other:?}"),
                None => thread::yield_now(),
            }
        }
    }
}

#[test]
fn holds_what_was_committed_at_its_moment_while_the_store_goes_on() {
    let dir = TempDir::new();
    let mut handle = small_store(&dir);
    for (slot, name) in [(3, "alice"), (4, "bob")] {
        ask(&mut handle, register(slot, 1, name));
    }
    let mut load = Load { last: 0, answered: 0 };
    for _ in 0..40 {
        (0..10).for_each(|_| load.step(&handle));
        load.wait(&mut handle);
    }
    for round in 0..5 {
        (0..10).for_each(|_| load.step(&handle));
        let before = load.answered / 2;
        let (out, mut input) = UnixStream::pair().unwrap();
        let done = copy_to(&handle, out);
        (0..10).for_each(|_| load.step(&handle));
        // As soon as anything comes of it, its moment is over.
        let mut bytes = vec![0];
        input.read_exact(&mut bytes).unwrap();
        let after = load.last;
        for _ in 0..10 {
            (0..10).for_each(|_| load.step(&handle));
            load.wait(&mut handle);
        }
        assert!(done.try_recv().is_err(), "it is as large as what waits to be read");
        let reader = thread::spawn(move || {
            let mut piece = [0; 20_000];
            loop {
                match input.read(&mut piece).unwrap() {
                    0 => return bytes,
                    count => bytes.extend_from_slice(&piece[..count]),
                }
                // It is slow on purpose: the store goes on meanwhile, in any case.
                thread::sleep(Duration::from_millis(1));
            }
        });
        while !reader.is_finished() {
            load.step(&handle);
            load.wait(&mut handle);
        }
        let report = end_of(&done).unwrap();
        let copy = TempDir::new();
        assert_eq!(receive_copy(&reader.join().unwrap()[..], &copy.join("it")).unwrap(), report);
        let engine = LogEngine::open(&copy.join("it").join(DATABASE)).unwrap();
        let snapshot = Snapshot::load(&engine, [0; 32], NOW).unwrap();
        let [alice, bob] = snapshot.mailboxes[..] else { panic!("two mailboxes") };
        // It is what there was after one of the requests: none is in it without all those before it.
        let (to_alice, to_bob, acked) = (alice.durable.0, bob.durable.0, alice.acked.0);
        assert!((before..=after).contains(&to_bob), "round {round}: {before} {to_bob} {after}");
        let is_between_two = to_alice == to_bob + 1 && acked == to_bob - 5
            || to_alice == to_bob && (acked == to_bob - 5 || acked == to_bob - 6);
        assert!(is_between_two, "round {round}: {to_alice} {to_bob} {acked}");
        assert!(waiting(&engine, 3, alice.acked).into_iter().eq(acked + 1..=to_alice));
        assert!(waiting(&engine, 4, bob.acked).into_iter().eq(1..=to_bob));
        assert_eq!((alice.messages, bob.messages), (to_alice - acked, to_bob));
    }
    let last = load.last;
    handle.shutdown();
    // And the store itself lost nothing.
    let engine = small_engine(&dir);
    engine.settle(true).unwrap();
    assert!(waiting(&engine, 4, Sequence(0)).into_iter().eq(1..=last));
}

#[test]
fn a_reader_who_takes_nothing_holds_up_nobody_and_a_second_copy_is_refused() {
    let (dir, _) = sample();
    let mut handle = small_store(&dir);
    let (out, done) = gated_copy(&handle);
    let refused = handle.copy_to(io::sink(), |_| panic!("it is not made")).unwrap_err();
    assert!(matches!(refused, CopyError::Busy), "{refused}");
    assert_eq!(refused.to_string(), "another copy of the store is being made");
    for sequence in 2..200 {
        let answer = ask(&mut handle, append_delivers(5, 3, sequence, sequence, 2_000));
        assert!(matches!(answer, Completion::Appended { .. }), "{answer:?}");
    }
    assert!(matches!(ask(&mut handle, read(3, 95, 1)), Completion::Backlog { result: Ok(_), .. }));
    assert!(done.try_recv().is_err());
    // Once it is over, there may be another.
    out.open();
    end_of(&done).unwrap();
    end_of(&copy_to(&handle, io::sink())).unwrap();
    // Whoever reads goes away: that copy has failed, and nothing else.
    let (out, input) = UnixStream::pair().unwrap();
    let done = copy_to(&handle, out);
    drop(input);
    assert!(matches!(end_of(&done), Err(CopyError::Stream(_))));
    end_of(&copy_to(&handle, io::sink())).unwrap();
    handle.shutdown();
}

#[test]
fn segments_that_nothing_else_needs_stay_until_they_were_read() {
    let (dir, _) = sample();
    let mut handle = small_store(&dir);
    let before = entries(&dir.join("log"));
    assert!(before.len() >= 3, "{before:?}");
    let (out, done) = gated_copy(&handle);
    // Everything is collected, and so much is stored and collected after it that it was settled.
    handle.submit(acked(3, 200, 0, 0));
    handle.submit(acked(4, 200, 0, 0));
    for sequence in 2..400 {
        ask(&mut handle, append_delivers(5, 3, sequence, sequence, 1_000));
        handle.submit(acked(5, sequence, 0, 0));
    }
    let during = entries(&dir.join("log"));
    assert!(before.iter().all(|segment| during.contains(segment)), "{before:?} {during:?}");
    // Those that the copy does not need go as ever.
    assert!(during.len() < before.len() + 4, "{during:?}");
    out.open();
    end_of(&done).unwrap();
    let after = entries(&dir.join("log"));
    assert!(
        before[..before.len() - 1].iter().all(|segment| !after.contains(segment)),
        "{before:?} {after:?}"
    );
    let copy = TempDir::new();
    let report = receive_copy(&out.bytes()[..], copy.path()).unwrap();
    assert_eq!(report.messages, 105 + 200 + 1);
    let engine = LogEngine::open(&copy.join(DATABASE)).unwrap();
    assert!(waiting(&engine, 4, Sequence(0)).into_iter().eq(1..=200));
    handle.shutdown();
}

#[test]
fn a_store_that_stops_does_not_wait_for_its_copy() {
    let (dir, _) = sample();
    let handle = small_store(&dir);
    let (out, done) = gated_copy(&handle);
    handle.shutdown();
    // The copy hangs in its reader, and the directory can be used again.
    assert!(done.try_recv().is_err());
    small_store(&dir).shutdown();
    out.open();
    let ended = end_of(&done).unwrap_err();
    assert!(matches!(ended, CopyError::GivenUp(GivenUp::Stopped)), "{ended}");
    let copy = TempDir::new();
    assert!(matches!(receive_copy(&out.bytes()[..], &copy.join("it")), Err(CopyError::CutOff)));
    assert!(!copy.join("it").exists());
}

#[test]
fn a_copy_is_given_up_where_the_store_needs_what_it_holds() {
    let (dir, _) = sample();
    for (give_up, why) in [
        (&(|engine: &LogEngine| engine.reopen().unwrap()) as &dyn Fn(&LogEngine), GivenUp::Reopened),
        (&|engine| engine.give_up_frozen(GivenUp::DiskLow), GivenUp::DiskLow),
    ] {
        let engine = Arc::new(small_engine(&dir));
        let shared: Arc<dyn Engine> = Arc::<LogEngine>::clone(&engine);
        let handle = Store::over(shared, [9; 32], NOW).unwrap().0.start(|| ()).unwrap();
        let (out, done) = gated_copy(&handle);
        give_up(&engine);
        out.open();
        let ended = end_of(&done).unwrap_err();
        assert!(matches!(ended, CopyError::GivenUp(given_up) if given_up == why), "{ended}");
        // And it can be tried again.
        end_of(&copy_to(&handle, io::sink())).unwrap();
        handle.shutdown();
    }
}

/// Where each block of a copy begins.
fn blocks(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut blocks) = (12, Vec::new());
    while at < bytes.len() {
        blocks.push(at);
        at += 21 + u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
    }
    assert_eq!(at, bytes.len());
    blocks
}

/// That a stream is refused, and leaves nothing.
fn refused(bytes: &[u8], what: &str) -> CopyError {
    let copy = TempDir::new();
    let Err(error) = receive_copy(bytes, &copy.join("it")) else { panic!("{what}: it was taken") };
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    assert_eq!(entries(copy.path()), [] as [&str; 0], "{what}");
    // A directory that was there stays, as empty as it was.
    fs::create_dir(copy.join("it")).unwrap();
    assert!(receive_copy(bytes, &copy.join("it")).is_err(), "{what}");
    assert_eq!(entries(&copy.join("it")), [] as [&str; 0], "{what}");
    error
}

#[test]
fn refuses_a_copy_that_was_cut_off_wherever_that_was() {
    let (_dir, bytes) = sample();
    let blocks = blocks(&bytes);
    let mut cuts = vec![0, 1, 8, 11, 12, bytes.len() - 1];
    for block in &blocks {
        cuts.extend([*block, block + 1, block + 5, block + 20, block + 21, block + 22]);
    }
    cuts.retain(|cut| *cut < bytes.len());
    for cut in cuts {
        let error = refused(&bytes[..cut], &format!("{cut} bytes"));
        assert!(matches!(error, CopyError::CutOff), "{cut} bytes: {error}");
    }
}

#[test]
fn refuses_a_copy_that_was_damaged_wherever_that_is() {
    let (_dir, bytes) = sample();
    let blocks = blocks(&bytes);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut places: Vec<_> = (0..60).map(|_| rng.next_u64() as usize % bytes.len()).collect();
    places.extend(0..12);
    for block in &blocks {
        places.extend([*block, block + 1, block + 3, block + 4, block + 5, block + 21]);
    }
    places.retain(|place| *place < bytes.len());
    for place in places {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (rng.next_u32() % 8);
        let error = refused(&damaged, &format!("byte {place}"));
        let expected = matches!(error, CopyError::Damaged(_) | CopyError::Newer(_) | CopyError::CutOff);
        assert!(expected, "byte {place}: {error}");
    }
    // Whole blocks that are not where they were sent.
    let block =
        |number: usize| &bytes[blocks[number]..blocks.get(number + 1).copied().unwrap_or(bytes.len())];
    let joined = |order: &[usize]| {
        let parts = order.iter().flat_map(|number| block(*number).iter().copied());
        bytes[..12].iter().copied().chain(parts).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..blocks.len()).collect();
    assert!(joined(&all) == bytes);
    for left_out in &all[..all.len() - 1] {
        let rest: Vec<_> = all.iter().copied().filter(|number| number != left_out).collect();
        refused(&joined(&rest), &format!("without block {left_out}"));
        let mut swapped = all.clone();
        swapped.swap(*left_out, left_out + 1);
        refused(&joined(&swapped), &format!("block {left_out} after the next"));
    }
    // No length is believed.
    let mut long = bytes[..blocks[1] + 1].to_vec();
    long.extend(u32::MAX.to_be_bytes());
    long.extend([0; 16]);
    assert!(matches!(refused(&long, "a long block"), CopyError::Damaged("a block's length")));
}

#[test]
fn refuses_a_newer_version_and_a_directory_with_something_in_it() {
    let (_dir, bytes) = sample();
    let mut newer = bytes.clone();
    newer[11] = 2;
    let error = refused(&newer, "a newer version");
    assert_eq!(error.to_string(), "the copy is of a newer version: format 2");
    let copy = TempDir::new();
    fs::write(copy.join("something"), "else").unwrap();
    let error = receive_copy(&bytes[..], copy.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("there is something in it: {}", copy.path().display()));
    assert_eq!(entries(copy.path()), ["something"]);
    let error = receive_copy(&bytes[..], &copy.join("something")).unwrap_err();
    assert!(matches!(error, CopyError::Directory(..)), "{error}");
    assert_eq!(fs::read(copy.join("something")).unwrap(), b"else");
}

/// Copies the directory as it is once so much was read: what a kill leaves.
struct Killed<'a> {
    bytes: &'a [u8],
    at: usize,
    left: usize,
    from: &'a Path,
    to: &'a Path,
}

impl Read for Killed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.to.exists() && self.from.exists() {
            copy_directory(self.from, self.to);
        }
        let count = into.len().min(self.bytes.len()).min(if self.left > 0 { self.left } else { usize::MAX });
        into[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        self.left = self.left.saturating_sub(count);
        self.at += count;
        Ok(count)
    }
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in entries(from) {
        if from.join(&name).is_dir() {
            copy_directory(&from.join(&name), &to.join(&name));
        } else {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[test]
fn what_a_kill_leaves_of_a_copy_is_no_store() {
    let (_dir, bytes) = sample();
    // From the second block on the relay's id is there.
    for at in blocks(&bytes).into_iter().skip(1) {
        let copy = TempDir::new();
        let (from, to) = (copy.join("it"), copy.join("left"));
        let killed = Killed { bytes: &bytes, at: 0, left: at, from: &from, to: &to };
        receive_copy(killed, &from).unwrap();
        let Err(error) = Store::open(&to, [1; 32], NOW) else { panic!("{at}: it was opened") };
        assert_eq!(error.kind, OpenErrorKind::Corrupted, "{at}: {error}");
        assert!(Store::open(&from, [1; 32], NOW).is_ok());
    }
}
