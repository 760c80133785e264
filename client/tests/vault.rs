//! A home under a passphrase: nothing readable on the disk, and a passphrase that is set, changed or
//! removed whole or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use e2e_client::state::memory::Unsynced;
use e2e_client::state::vault::{MARKER, Protection};
use e2e_client::state::{Disk, Folder, Key, MemoryDisk, StateError, Transaction, Vault};
use e2e_protocol::e2e::at_rest::{KeyParameters, LOG2_N_MAX};
use e2e_protocol::ids::{Lane, Number};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zeroize::Zeroizing;

const OUT: Key = Key::Outbox(Lane(0xAB), Number(1));
const LANE: Key = Key::Lane(Lane(0xAB));
const BOTH: [Unsynced; 2] = [Unsynced::Lost, Unsynced::Kept];

fn bob() -> Key {
    Key::Peer("bob".parse().unwrap())
}

fn put(tx: &mut Transaction<'_>, key: Key, content: &[u8]) {
    tx.write(key, Zeroizing::new(content.to_vec()));
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(3)
}

/// As cheap as can be, and another salt for each passphrase.
fn protection(passphrase: &str) -> Protection {
    let salt = [passphrase.as_bytes()[0]; 16];
    Protection::new(passphrase.as_bytes(), KeyParameters { log2_n: 1, salt }, &mut rng()).unwrap()
}

fn open(disk: &MemoryDisk, passphrase: Option<&str>) -> Result<Vault<MemoryDisk>, StateError> {
    Vault::open(disk.clone(), rng(), || {
        Ok(Zeroizing::new(passphrase.expect("nobody should be asked").as_bytes().to_vec()))
    })
}

/// A disk with some state, and a lane that a dead process left.
fn home(passphrase: Option<&str>) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let mut vault = open(&disk, None).unwrap();
    let mut tx = Transaction::begin(&vault).unwrap();
    put(&mut tx, Key::Identity, b"the identity");
    put(&mut tx, bob(), b"about bob");
    put(&mut tx, OUT, b"a message");
    drop(tx.claim(&LANE).unwrap());
    tx.commit().unwrap();
    if let Some(passphrase) = passphrase {
        vault.convert(Some(protection(passphrase))).unwrap();
    }
    disk
}

fn contents(disk: &dyn Disk) -> BTreeMap<Key, Vec<u8>> {
    let tx = Transaction::begin(disk).unwrap();
    let folders = Folder::ALL.into_iter().filter(|folder| *folder != Folder::Lanes);
    let keys = folders.flat_map(|folder| tx.list(folder).unwrap());
    keys.map(|key| (key, tx.read(&key).unwrap().unwrap().to_vec())).collect()
}

fn is_protected(disk: &MemoryDisk) -> bool {
    disk.files().contains_key(MARKER)
}

/// Every file with something in it is as the marker says, and nothing half written is left.
fn assert_whole(disk: &MemoryDisk) {
    let files = disk.files();
    for (path, file) in &files {
        assert!(!path.contains("commit"), "{path}");
        if !file.is_empty() && path != MARKER {
            assert_eq!(KeyParameters::of(file).is_ok(), is_protected(disk), "{path}");
        }
    }
}

#[test]
fn nothing_is_readable_and_everything_is_read_back() {
    let disk = home(Some("a"));
    for (path, file) in disk.files() {
        for secret in ["the identity", "about bob", "a message"] {
            assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()), "{path}");
        }
    }
    assert_whole(&disk);
    let vault = open(&disk, Some("a")).unwrap();
    assert!(vault.is_protected());
    assert_eq!(contents(&vault), contents(&home(None)));
    // Without the vault it is not taken for anything else.
    let tx = Transaction::begin(&disk).unwrap();
    assert!(matches!(tx.read(&Key::Identity), Err(StateError::Newer { .. })));
}

#[test]
fn commit_under_a_passphrase_is_whole_or_nothing_at_every_step() {
    let change = |disk: &MemoryDisk| -> Result<(), StateError> {
        let vault = open(disk, Some("a"))?;
        let mut tx = Transaction::begin(&vault)?;
        put(&mut tx, bob(), b"more about bob");
        put(&mut tx, Key::Prekeys, b"prekeys");
        tx.remove(OUT);
        tx.commit()
    };
    let old = contents(&home(None));
    let new = {
        let disk = home(Some("a"));
        change(&disk).unwrap();
        contents(&open(&disk, Some("a")).unwrap())
    };
    let mut redone = false;
    for unsynced in BOTH {
        for step in 0.. {
            let disk = home(Some("a"));
            disk.fail_after(step);
            let done = change(&disk).is_ok();
            disk.crash(unsynced);
            if let Some(redo) = disk.files().get("commit") {
                assert!(KeyParameters::of(redo).is_ok(), "the redo file is protected, too");
                redone = true;
            }
            let vault = open(&disk, Some("a")).unwrap();
            let found = contents(&vault);
            assert!(found == new || (found == old && !done), "step {step}, {unsynced:?}: {found:?}");
            Transaction::begin(&vault).unwrap().sweep().unwrap();
            assert_whole(&disk);
            if done {
                break;
            }
        }
    }
    assert!(redone);
}

/// Sets, changes or removes a passphrase, killed at each step, and then again at each step of what the next
/// process does about it.
fn convert_killed_at_each_step(from: Option<&str>, to: Option<&str>) {
    let expected = contents(&home(None));
    let reopen = |disk: &MemoryDisk| {
        // Which of the two it is must be found out as a user would.
        let vault = open(disk, to.or(from)).or_else(|_| open(disk, from.or(to)));
        vault.unwrap_or_else(|error| panic!("neither passphrase opens it: {error}"))
    };
    for unsynced in BOTH {
        let mut happened = Vec::new();
        for step in 0.. {
            let killed = || {
                let disk = home(from);
                let mut vault = open(&disk, from).unwrap();
                disk.fail_after(step);
                let done = vault.convert(to.map(protection)).is_ok();
                disk.crash(unsynced);
                (disk, done)
            };
            let (disk, done) = killed();
            let vault = reopen(&disk);
            assert_eq!(contents(&vault), expected, "step {step}, {unsynced:?}");
            assert_whole(&disk);
            let is_new = match to {
                Some(passphrase) => open(&disk, Some(passphrase)).is_ok() && is_protected(&disk),
                None => !is_protected(&disk),
            };
            happened.push(is_new);

            for second in 0..30 {
                let (disk, _) = killed();
                disk.fail_after(second);
                let opened = open(&disk, to.or(from)).is_ok();
                disk.crash(unsynced);
                assert_eq!(contents(&reopen(&disk)), expected, "steps {step}, {second}, {unsynced:?}");
                assert_whole(&disk);
                if opened {
                    break;
                }
            }
            if done {
                break;
            }
        }
        // From one step on it has happened.
        assert!(happened.is_sorted(), "{happened:?}");
        assert!(!happened[0] && happened[happened.len() - 1], "{happened:?}");
        assert!(happened.len() > 10, "{happened:?}");
    }
}

#[test]
fn passphrase_is_set_whole_or_not_at_every_step() {
    convert_killed_at_each_step(None, Some("a"));
}

#[test]
fn passphrase_is_changed_whole_or_not_at_every_step() {
    convert_killed_at_each_step(Some("a"), Some("b"));
}

#[test]
fn passphrase_is_removed_whole_or_not_at_every_step() {
    convert_killed_at_each_step(Some("a"), None);
}

#[test]
fn process_that_runs_across_a_conversion_writes_nothing_after_it() {
    for (from, to) in [(None, Some("a")), (Some("a"), Some("b")), (Some("a"), None)] {
        // Also one that was cut off once it had happened, and that the old process is the first to see.
        for cut_off in [false, true] {
            let disk = home(from);
            let (old, mut new) = (open(&disk, from).unwrap(), open(&disk, from).unwrap());
            if cut_off {
                disk.fail_after(5);
            }
            assert_eq!(new.convert(to.map(protection)).is_err(), cut_off);
            if cut_off {
                disk.crash(Unsynced::Kept);
            }
            for _ in 0..2 {
                let error = Transaction::begin(&old).err().expect("its keys are the old ones");
                assert!(matches!(error, StateError::KeysChanged), "{error}");
            }
            assert_whole(&disk);
            assert_eq!(contents(&open(&disk, to).unwrap()), contents(&home(None)));
        }
    }
}

#[test]
fn refuses_to_convert_while_another_process_holds_a_lane() {
    let disk = home(None);
    let (other, mut vault) = (open(&disk, None).unwrap(), open(&disk, None).unwrap());
    let claim = Transaction::begin(&other).unwrap().claim(&LANE).unwrap().expect("nobody has it");
    let before = disk.files();
    assert!(matches!(vault.convert(Some(protection("a"))), Err(StateError::Busy)));
    assert_eq!(disk.files(), before);
    drop(claim);
    vault.convert(Some(protection("a"))).unwrap();
    // It goes on with the new one.
    assert_eq!(contents(&vault), contents(&home(None)));
}

#[test]
fn tells_a_wrong_passphrase_from_damage() {
    let disk = home(Some("a"));
    assert!(matches!(open(&disk, Some("b")), Err(StateError::WrongPassphrase)));
    let files = disk.files();
    for (path, good) in files.iter().filter(|(path, file)| !file.is_empty() && *path != "lock") {
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            disk.plant(path, &bad);
            let read = || open(&disk, Some("a")).map(|vault| vault.read(path));
            let error = match read() {
                Err(error) => error,
                Ok(read) => *read.unwrap_err().downcast::<StateError>().map(Box::new).unwrap(),
            };
            match error {
                StateError::Corrupt { path: found } => assert_eq!(&found, path),
                StateError::Newer { path: found, .. } => assert_eq!((at, &found), (0, path)),
                error => panic!("{path}, byte {at}: {error}"),
            }
            assert_eq!(disk.files()[path], bad, "what can't be read must be left alone");
        }
        disk.plant(path, good);
    }
}

#[test]
fn refuses_exchanged_files_a_lost_marker_and_an_absurd_cost() {
    let disk = home(Some("a"));
    let good = disk.files();
    disk.plant("peers/eve", &good["peers/bob"]);
    let vault = open(&disk, Some("a")).unwrap();
    let eve = Key::Peer("eve".parse().unwrap());
    let error = Transaction::begin(&vault).unwrap().read(&eve).unwrap_err();
    assert!(matches!(error, StateError::Corrupt { path } if path == "peers/eve"));
    drop(vault);

    // An unprotected file is none of this home.
    disk.plant("peers/eve", &home(None).files()["peers/bob"]);
    let vault = open(&disk, Some("a")).unwrap();
    assert!(matches!(Transaction::begin(&vault).unwrap().read(&eve), Err(StateError::Corrupt { .. })));

    let mut sealed = good[MARKER][5..].to_vec();
    sealed[11] = LOG2_N_MAX + 1;
    let crc = crc32fast::hash(&sealed).to_be_bytes();
    disk.plant(MARKER, &[&[1], &crc[..], &sealed].concat());
    assert!(matches!(open(&disk, None), Err(StateError::Cost { log2_n: 21, .. })), "before anybody is asked");

    let bare = MemoryDisk::default();
    good.iter().filter(|(path, _)| *path != MARKER).for_each(|(path, file)| bare.plant(path, file));
    let vault = open(&bare, None).unwrap();
    let error = Transaction::begin(&vault).unwrap().read(&Key::Identity).unwrap_err();
    assert!(matches!(error, StateError::Corrupt { path } if path == MARKER));
}
