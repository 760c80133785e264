//! What is said of a store at rest: nothing where nothing is wrong, and each kind of damage for what it is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use e2e_protocol::login::fingerprint;
use e2e_protocol::wire::routed::{frame_bytes_at, routing_at};
use e2e_relayd::store::{
    Engine, FsckReport, Gravity, LogEngine, LogSizes, OpenErrorKind, RedbEngine, Request, RollOverRecord,
    Store, StoreHandle, StoredToken, Table, Write, fsck, limits,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use store_common::*;

const PAGE: usize = 4096;
/// Whoever this store is full of.
const ALICE: u32 = 3;
const BOB: u32 = 4;
const CAROL: u32 = 5;

fn start(dir: &Path) -> StoreHandle {
    let path = dir.join(DATABASE);
    let sizes = LogSizes { segment: 32 * 1024, ..LogSizes::default() };
    let engine = LogEngine::over(RedbEngine::open(&path).unwrap(), &path, sizes).unwrap();
    Store::over(Arc::new(engine), [9; 32], NOW).unwrap().0.start(|| ()).unwrap()
}

fn register_with_key(slot: u32, name: &str, key: u32) -> Request {
    let Request::Register { generation, name, identity_key: _, token, .. } = register(slot, 1, name) else {
        panic!("a registration")
    };
    let fingerprint = fingerprint(&modulus(key));
    Request::Register { slot, generation, name, fingerprint, identity_key: Box::new(modulus(key)), token }
}

/// A store with some of everything in it, stopped; and the same as a kill would have left it before.
fn stores() -> (TempDir, TempDir) {
    let dir = TempDir::new();
    drop(Store::open(dir.path(), [9; 32], NOW).unwrap());
    let mut handle = start(dir.path());
    for (slot, name) in [(ALICE, "alice"), (BOB, "bob"), (CAROL, "carol")] {
        ask(&mut handle, register_with_key(slot, name, slot));
    }
    for slot in [ALICE, BOB] {
        ask(
            &mut handle,
            publish(slot, Some(signed_prekey(slot * 10)), Some(batch(slot * 10, slot * 100, 4))),
        );
    }
    ask(&mut handle, take(ALICE, true));
    ask(&mut handle, Request::Block { slot: BOB, other: CAROL, block: true, token: 1 });
    let token = StoredToken { number: 6, once: true, made: NOW, secret: [b'a'; 20], label: "dave".into() };
    ask(&mut handle, Request::put_token(&token)(1));
    let roll_over = RollOverRecord {
        time: NOW,
        identity_key: modulus(50),
        former_signature: modulus(1),
        signature: modulus(2),
    };
    ask(
        &mut handle,
        Request::RollOver {
            slot: CAROL,
            generation: 1,
            fingerprint: fingerprint(&modulus(50)),
            roll_over: Box::new(roll_over),
            token: 1,
        },
    );
    for sequence in (1..100).step_by(10) {
        ask(&mut handle, append_delivers(ALICE, 4 << 32 | 1, sequence, sequence + 9, 500));
        ask(&mut handle, append_delivers(BOB, 3 << 32 | 1, sequence, sequence + 9, 300));
    }
    handle.submit(acked(ALICE, 25, 75, 75 * 564));
    ask(&mut handle, append_delivers(CAROL, 3 << 32 | 1, 1, 1, 10));
    let killed = TempDir::new();
    copy_directory(dir.path(), killed.path());
    handle.shutdown();
    (dir, killed)
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, into) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy_directory(&path, &into) } else { fs::copy(&path, &into).map(drop).unwrap() }
    }
}

/// Every file below, by its path, with its bytes.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

/// Looks at a store, and that this changes nothing.
fn looked_at(directory: &Path) -> FsckReport {
    let before = files(directory);
    let report = fsck(directory).unwrap();
    assert!(files(directory) == before, "it was changed");
    assert!(report.problems.iter().all(|problem| !problem.to_string().contains('\n')), "{report:?}");
    report
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    files(&directory.join("log")).into_keys().collect()
}

/// Changes the index itself.
fn in_index(directory: &Path, table: Table, key: &[u8], value: Option<Vec<u8>>) {
    let index = RedbEngine::open(&directory.join(DATABASE)).unwrap();
    let write = match value {
        Some(value) => Write::Put { table, key: key.to_vec(), value },
        None => Write::DeleteRange { table, from: key.to_vec(), to_inclusive: key.to_vec() },
    };
    index.commit(&[write]).unwrap();
}

fn value_of(directory: &Path, table: Table, key: &[u8]) -> Vec<u8> {
    RedbEngine::open(&directory.join(DATABASE)).unwrap().get(table, key).unwrap().unwrap()
}

/// Changes one byte of a record of the index.
fn flip(directory: &Path, table: Table, key: &[u8], at: usize) {
    let mut value = value_of(directory, table, key);
    value[at] ^= 1;
    in_index(directory, table, key, Some(value));
}

fn slot_key(slot: u32) -> Vec<u8> {
    slot.to_be_bytes().to_vec()
}

fn chunk_key(slot: u32, last: u64) -> Vec<u8> {
    [&slot.to_be_bytes()[..], &last.to_be_bytes()].concat()
}

/// Where in its segment the messages of a chunk begin: the segment's file, the offset, and how long they are.
fn place_of(directory: &Path, slot: u32, last: u64) -> (PathBuf, u64, u64) {
    let value = value_of(directory, Table::Chunks, &chunk_key(slot, last));
    let number = u64::from_be_bytes(value[12..20].try_into().unwrap());
    let field = |at: usize| u64::from(u32::from_be_bytes(value[at..at + 4].try_into().unwrap()));
    (directory.join(format!("log/{number:016x}")), field(20), field(24))
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn finds_nothing_wrong_with_a_healthy_store_and_says_what_is_in_it() {
    let (dir, killed) = stores();
    for directory in [dir.path(), killed.path()] {
        let report = looked_at(directory);
        assert_eq!(report.problems, []);
        let counts = (report.format, report.names, report.prekeys, report.mailboxes, report.messages);
        assert_eq!(counts, (2, 3, 7, 3, 75 + 100 + 1));
        assert_eq!(report.bytes, 75 * 564 + 100 * 364 + 74);
        assert_eq!(report.segments, segments(directory).len() as u64);
        assert!(report.segments >= 3, "{report}");
    }
    // One that was just made.
    let empty = TempDir::new();
    drop(Store::open(empty.path(), [9; 32], NOW).unwrap());
    assert_eq!(looked_at(empty.path()).problems, []);
    // And one that cannot be written.
    fs::set_permissions(dir.join("log"), fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(looked_at(dir.path()).worst(), None);
    fs::set_permissions(dir.join("log"), fs::Permissions::from_mode(0o700)).unwrap();
}

/// A long history of requests at random, with much that is deleted, settled and compacted. A kill at any time leaves nothing that
/// is wrong.
#[test]
fn finds_nothing_wrong_whenever_a_kill_comes() {
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let dir = TempDir::new();
    drop(Store::open(dir.path(), [9; 32], NOW).unwrap());
    let path = dir.join(DATABASE);
    let sizes = LogSizes { segment: 64 * 1024, unsettled: 96 * 1024, unused: 64 * 1024 };
    let engine = LogEngine::over(RedbEngine::open(&path).unwrap(), &path, sizes).unwrap();
    for slot in 0..5 {
        apply(&engine, &[register_with_key(slot, &format!("name{slot}"), slot)]);
    }
    // Of each mailbox: its last sequence, and the lengths of what is not acknowledged.
    let mut mailboxes: [(u64, Vec<u64>); 5] = Default::default();
    let mut segments_seen = std::collections::BTreeSet::new();
    for round in 0..600 {
        let slot = rng.next_u32() % 5;
        let (last, waiting) = &mut mailboxes[slot as usize];
        let request = match rng.next_u32() % 12 {
            0..=6 => {
                let (count, envelope) =
                    (u64::from(rng.next_u32() % 12) + 1, rng.next_u32() as usize % 1500 + 10);
                let first = *last + 1 + u64::from(rng.next_u32() % 3);
                *last = first + count - 1;
                waiting.extend(vec![64 + envelope as u64; count as usize]);
                append_delivers(slot, 7, first, *last, envelope)
            }
            7..=9 => {
                // Sequences skip: some of what waits is acknowledged, and all before it.
                let left = rng.next_u32() as usize % (waiting.len() + 1);
                let sequences: Vec<_> = waiting_of(&engine, slot);
                let Some(up_to) = sequences.len().checked_sub(left + 1).map(|at| sequences[at]) else {
                    continue;
                };
                waiting.drain(..waiting.len() - left);
                acked(slot, up_to, left as u64, waiting.iter().sum())
            }
            10 => publish(slot, Some(signed_prekey(round)), Some(batch(round, round * 10, 3))),
            _ => take(slot, true),
        };
        apply(&engine, &[request]);
        engine.settle(rng.next_u32() % 40 == 0).unwrap();
        segments_seen.extend(segments(dir.path()));
        if round % 20 == 0 {
            let killed = TempDir::new();
            copy_directory(dir.path(), killed.path());
            let report = looked_at(killed.path());
            assert!(report.worst() <= Some(Gravity::Mended), "round {round}: {:#?}", report.problems);
            assert_eq!(report.messages, mailboxes.iter().map(|mailbox| mailbox.1.len() as u64).sum::<u64>());
        }
    }
    let left = segments(dir.path()).len();
    assert!(segments_seen.len() > 2 * left, "{} segments, {left} left", segments_seen.len());
    engine.settle(true).unwrap();
    drop(engine);
    assert_eq!(looked_at(dir.path()).problems, []);
}

/// The sequences of a mailbox that are not acknowledged.
fn waiting_of(engine: &LogEngine, slot: u32) -> Vec<u64> {
    let mailbox = engine.get(Table::Mailboxes, &slot_key(slot)).unwrap();
    let Some(acked) = mailbox.map(|mailbox| u64::from_be_bytes(mailbox[..8].try_into().unwrap())) else {
        return Vec::new();
    };
    let bytes = backlog_bytes(engine, slot, acked);
    let (mut rest, mut sequences) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let sequence = routing_at(rest).unwrap().1.sequence.0;
        sequences.extend((sequence > acked).then_some(sequence));
        rest = &rest[frame_bytes_at(rest).unwrap()..];
    }
    sequences
}

#[test]
fn refuses_a_store_that_is_in_use_or_newer_or_none() {
    let (dir, _) = stores();
    let (store, _) = Store::open(dir.path(), [9; 32], NOW).unwrap();
    assert_eq!(fsck(dir.path()).unwrap_err().kind, OpenErrorKind::Locked);
    drop(store);
    in_index(dir.path(), Table::Meta, b"format", Some(3_u32.to_be_bytes().to_vec()));
    let error = fsck(dir.path()).unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::NewerFormat);
    assert!(error.to_string().ends_with(": format 3"), "{error}");
    fs::remove_file(dir.join(DATABASE)).unwrap();
    assert_eq!(fsck(dir.path()).unwrap_err().kind, OpenErrorKind::Corrupted);
    let empty = TempDir::new();
    assert_eq!(fsck(empty.path()).unwrap_err().kind, OpenErrorKind::Directory);
    assert_eq!(fsck(&empty.join("none")).unwrap_err().kind, OpenErrorKind::Directory);
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "it made something");
}

type Damage = (&'static str, Gravity, &'static str, fn(&Path));

/// Each in a store of its own: what is done to it, and what is to be said of that.
const DAMAGES: &[Damage] = {
    use Gravity::{Lost, Mended, Wrong};
    &[
        ("a missing clock", Lost, "the clock is not in the index", |dir| {
            in_index(dir, Table::Meta, b"clock", None);
        }),
        ("a missing id", Lost, "the relay's id is not in the index", |dir| {
            in_index(dir, Table::Meta, b"relay-id", None);
        }),
        ("no relay-id", Mended, "the file relay-id is missing or damaged", |dir| {
            fs::remove_file(dir.join("relay-id")).unwrap();
        }),
        ("another relay-id", Mended, "the file relay-id says another id", |dir| {
            in_index(dir, Table::Meta, b"relay-id", Some(vec![8; 32]));
        }),
        ("starts that are not counted", Mended, "the file relay-id counts more starts", |dir| {
            in_index(dir, Table::Meta, b"boot", Some(0_u32.to_be_bytes().to_vec()));
        }),
        ("a malformed name", Lost, "the record 00000003 of the table users: malformed record: user", |dir| {
            in_index(dir, Table::Users, &slot_key(ALICE), Some(vec![1; 20]));
        }),
        ("a name twice", Wrong, "the name alice is there twice, in slot 9 too", |dir| {
            in_index(dir, Table::Users, &slot_key(9), Some(value_of(dir, Table::Users, &slot_key(ALICE))));
        }),
        ("a name that is gone", Wrong, "a mailbox belongs to slot 3, which nobody holds", |dir| {
            in_index(dir, Table::Users, &slot_key(ALICE), None);
        }),
        ("no identity key", Lost, "the identity key of alice", |dir| {
            in_index(dir, Table::IdentityKeys, &slot_key(ALICE), None);
        }),
        ("another identity key", Lost, "the identity key of alice is not that of its fingerprint", |dir| {
            flip(dir, Table::IdentityKeys, &slot_key(ALICE), 7);
        }),
        ("a key of nobody", Wrong, "a record of the table identity-keys belongs to slot 9", |dir| {
            in_index(dir, Table::IdentityKeys, &slot_key(9), Some(vec![0; 256]));
        }),
        ("another last roll-over", Wrong, "the roll-overs of carol do not lead to its key", |dir| {
            flip(dir, Table::RollOvers, &slot_key(CAROL), 256 + 8);
        }),
        ("a short roll-over", Lost, "of the table roll-overs: malformed record", |dir| {
            in_index(dir, Table::RollOvers, &slot_key(CAROL), Some(vec![0; 300]));
        }),
        ("no signed prekey", Lost, "the signed prekey of alice", |dir| {
            in_index(dir, Table::SignedPrekeys, &slot_key(ALICE), None);
        }),
        ("another signed prekey", Lost, "the signed prekey of bob is not the one in force", |dir| {
            flip(dir, Table::SignedPrekeys, &slot_key(BOB), 300);
        }),
        ("a one-time prekey less", Lost, "of 4 one-time prekeys of bob 1 are missing, 0 are others", |dir| {
            in_index(dir, Table::PrekeyBatches, &[&slot_key(BOB)[..], &[0, 3]].concat(), None);
        }),
        (
            "another one-time prekey",
            Lost,
            "of 4 one-time prekeys of bob 0 are missing, 1 are others",
            |dir| {
                flip(dir, Table::PrekeyBatches, &[&slot_key(BOB)[..], &[0, 3]].concat(), 9);
            },
        ),
        ("no head", Lost, "the head of bob's batch 0 of one-time prekeys", |dir| {
            in_index(dir, Table::PrekeyBatches, &[&slot_key(BOB)[..], &[0, 0]].concat(), None);
        }),
        (
            "a prekey that was handed out",
            Wrong,
            "1 one-time prekeys of alice are there that it says were",
            |dir| {
                in_index(
                    dir,
                    Table::PrekeyBatches,
                    &[&slot_key(ALICE)[..], &[0, 1]].concat(),
                    Some(vec![0; 256]),
                );
            },
        ),
        ("a prekey of nobody", Wrong, "a one-time prekey belongs to slot 9", |dir| {
            in_index(dir, Table::PrekeyBatches, &[&slot_key(9)[..], &[0, 1]].concat(), Some(vec![0; 256]));
        }),
        ("a block of nobody", Wrong, "a block belongs to slot 9", |dir| {
            in_index(dir, Table::Blocks, &[slot_key(ALICE), slot_key(9)].concat(), Some(Vec::new()));
        }),
        (
            "a malformed token",
            Lost,
            "the record 00000006 of the table tokens: malformed record: registration token",
            |dir| {
                in_index(dir, Table::Tokens, &slot_key(6), Some(vec![2; 40]));
            },
        ),
        ("no mailbox", Lost, "the record of the mailbox of bob, without which its 100 messages", |dir| {
            in_index(dir, Table::Mailboxes, &slot_key(BOB), None);
        }),
        (
            "a mailbox that counts too many",
            Wrong,
            "the mailbox of bob counts 101 messages of 36400 bytes, there are 100",
            |dir| {
                flip(dir, Table::Mailboxes, &slot_key(BOB), 23);
            },
        ),
        (
            "a mailbox that counts other bytes",
            Wrong,
            "the mailbox of alice counts 75 messages of 42301 bytes, there are 75 of 42300",
            |dir| {
                flip(dir, Table::Mailboxes, &slot_key(ALICE), 31);
            },
        ),
        (
            "a mailbox without messages",
            Wrong,
            "the mailbox of carol counts 1 messages, there are none",
            |dir| {
                in_index(dir, Table::Chunks, &chunk_key(CAROL, 1), None);
            },
        ),
        ("a mailbox that ends too early", Wrong, "the mailbox of bob ends before its last message", |dir| {
            flip(dir, Table::Mailboxes, &slot_key(BOB), 13);
            let mut value = value_of(dir, Table::Mailboxes, &slot_key(BOB));
            value[8..16].copy_from_slice(&99_u64.to_be_bytes());
            in_index(dir, Table::Mailboxes, &slot_key(BOB), Some(value));
        }),
        (
            "more acknowledged than there is",
            Wrong,
            "the mailbox of bob is acknowledged beyond its end",
            |dir| {
                flip(dir, Table::Mailboxes, &slot_key(BOB), 0);
            },
        ),
        ("shares of others", Wrong, "whose messages up to sequence 40 of bob are is said otherwise", |dir| {
            flip(dir, Table::ChunkShares, &chunk_key(BOB, 40), 11);
        }),
        (
            "shares of what is not there",
            Wrong,
            "a share of messages up to sequence 41 of bob, which are not there",
            |dir| {
                in_index(dir, Table::ChunkShares, &chunk_key(BOB, 41), Some(Vec::new()));
            },
        ),
        (
            "a chunk that is said to have more",
            Lost,
            "1 messages of bob between sequences 31 and 40: they are damaged",
            |dir| {
                flip(dir, Table::Chunks, &chunk_key(BOB, 40), 11);
            },
        ),
        ("chunks that overlap", Wrong, "a chunk of bob reaches from 30 to 40, the one before to 30", |dir| {
            let mut value = value_of(dir, Table::Chunks, &chunk_key(BOB, 40));
            value[7] = 30;
            in_index(dir, Table::Chunks, &chunk_key(BOB, 40), Some(value));
        }),
        ("a chunk under another key", Wrong, "sequences of bob between 31 and 39 are not in order", |dir| {
            let value = value_of(dir, Table::Chunks, &chunk_key(BOB, 40));
            in_index(dir, Table::Chunks, &chunk_key(BOB, 40), None);
            in_index(dir, Table::Chunks, &chunk_key(BOB, 39), Some(value));
        }),
        (
            "a damaged message",
            Lost,
            "1 messages of bob between sequences 31 and 40: they are damaged",
            |dir| {
                let (path, at, _) = place_of(dir, BOB, 40);
                overwrite(&path, at + 100, b"damage");
            },
        ),
        ("a damaged record", Wrong, "1 chunks in segment", |dir| {
            // Only its seal: the messages are whole.
            let (path, at, _) = place_of(dir, BOB, 40);
            overwrite(&path, at / 4096 * 4096 + 20, b"damage");
        }),
        ("a damaged head of a segment", Wrong, "of the log lie in no whole record", |dir| {
            overwrite(&place_of(dir, BOB, 40).0, 0, &[0; 4096]);
        }),
        ("a missing segment", Lost, "of the log is missing, and in use", |dir| {
            fs::remove_file(place_of(dir, BOB, 40).0).unwrap();
        }),
        (
            "messages of a missing segment",
            Lost,
            "10 messages of bob between sequences 31 and 40: their place in the log",
            |dir| {
                fs::remove_file(place_of(dir, BOB, 40).0).unwrap();
            },
        ),
        (
            "a short segment",
            Lost,
            "10 messages of bob between sequences 31 and 40: their place in the log",
            |dir| {
                let (path, at, length) = place_of(dir, BOB, 40);
                File::options().write(true).open(path).unwrap().set_len(at + length - 1).unwrap();
            },
        ),
        ("a missing last segment", Lost, "what was committed last, in or before segment", |dir| {
            fs::remove_file(segments(dir).pop().unwrap()).unwrap();
        }),
        ("a segment that is counted wrongly", Wrong, "bytes in use in segment ", |dir| {
            let value = value_of(dir, Table::Chunks, &chunk_key(BOB, 40));
            flip(dir, Table::Segments, &value[12..20], 7);
        }),
        (
            "a segment that nobody needs",
            Mended,
            "segment 0000000000000000 of the log is needed no more",
            |dir| {
                fs::copy(place_of(dir, BOB, 40).0, dir.join("log/0000000000000000")).unwrap();
            },
        ),
        ("a commit that was cut off", Mended, "a commit that was cut off lies at the log's end", |dir| {
            let path = segments(dir).pop().unwrap();
            let bytes = fs::metadata(&path).unwrap().len();
            overwrite(&path, bytes, &[1; 5000]);
        }),
        ("a damaged last commit of the index", Lost, "the index's last commit cannot be read", |dir| {
            let mut bytes = fs::read(dir.join(DATABASE)).unwrap();
            let slot = if bytes[9] & 1 == 0 { 64 } else { 192 };
            bytes[slot + 8] ^= 1;
            fs::write(dir.join(DATABASE), bytes).unwrap();
        }),
        ("an index of nothing", Lost, "no commit of the index can be read", |dir| {
            fs::write(dir.join(DATABASE), "").unwrap();
        }),
    ]
};

#[test]
fn finds_each_kind_of_damage_and_says_how_bad_it_is() {
    let (whole, _) = stores();
    for (what, gravity, text, damage) in DAMAGES {
        let dir = TempDir::new();
        copy_directory(whole.path(), dir.path());
        damage(dir.path());
        let report = looked_at(dir.path());
        let found =
            report.problems.iter().any(|found| found.gravity == *gravity && found.text.contains(text));
        assert!(found, "{what}: {:#?}", report.problems);
        assert!(report.worst() >= Some(*gravity), "{what}");
        if *gravity == Gravity::Mended {
            assert_eq!(report.problems.len(), 1, "{what}: {:#?}", report.problems);
            drop(Store::open(dir.path(), [9; 32], NOW).unwrap());
            let after = looked_at(dir.path());
            assert_eq!(after.problems, [], "{what}: a start mends it");
            assert_eq!(after.messages, 176, "{what}");
        }
    }
}

#[test]
fn finds_every_damaged_page_of_the_index() {
    let (whole, _) = stores();
    let bytes = fs::read(whole.join(DATABASE)).unwrap();
    let (mut found, mut tables) = (0, std::collections::BTreeSet::new());
    for page in 1..bytes.len() / PAGE {
        let dir = TempDir::new();
        copy_directory(whole.path(), dir.path());
        overwrite(&dir.join(DATABASE), (page * PAGE) as u64, &[0xa5; PAGE]);
        let report = looked_at(dir.path());
        let opened = Store::open(dir.path(), [9; 32], NOW);
        let was_salvaged = dir.join("relay.redb.damaged").exists();
        // What a start finds is found, but for pages that hold nothing of ours: the engine's own, or unused.
        if report.worst() == Some(Gravity::Lost) {
            found += 1;
            assert!(was_salvaged || opened.is_err(), "page {page}: {:?}", report.problems);
            for problem in &report.problems {
                tables.extend(problem.text.split("the table ").nth(1).map(str::to_owned));
            }
        }
        drop(opened);
    }
    assert!(found >= Table::ALL.len(), "{found} pages");
    assert!(tables.len() >= Table::ALL.len(), "{tables:?}");
}

#[test]
fn lists_so_many_problems_and_counts_the_others() {
    let (dir, _) = stores();
    let index = RedbEngine::open(&dir.join(DATABASE)).unwrap();
    let blocks = (0..600_u32).map(|number| Write::Put {
        table: Table::Blocks,
        key: [slot_key(100 + number), slot_key(1000 + number)].concat(),
        value: Vec::new(),
    });
    index.commit(&blocks.collect::<Vec<_>>()).unwrap();
    drop(index);
    let report = looked_at(dir.path());
    assert_eq!(report.problems.len(), limits::FSCK_PROBLEMS_MAX);
    assert_eq!(report.problems_more, 1200 - limits::FSCK_PROBLEMS_MAX as u64);
}
