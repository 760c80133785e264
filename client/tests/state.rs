//! What is at rest survives every crash, whole or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e_client::state::account::Registered;
use e2e_client::state::memory::Unsynced;
use e2e_client::state::permissions::Exposure;
use e2e_client::state::{Account, Disk, Folder, Home, Key, MemoryDisk, StateError, Transaction};
use e2e_protocol::e2e::Profile;
use e2e_protocol::ids::{Lane, Name, Number, RelayId, Uid};
use zeroize::Zeroizing;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn put(tx: &mut Transaction<'_>, key: Key, content: &[u8]) {
    tx.write(key, Zeroizing::new(content.to_vec()));
}

fn get(disk: &dyn Disk, key: Key) -> Option<Vec<u8>> {
    Transaction::begin(disk).unwrap().read(&key).unwrap().map(|content| content.to_vec())
}

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("e2e-state-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(unique))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const A: Key = Key::Identity;
const OUT: Key = Key::Outbox(Lane(0xAB), Number(1));

/// Two states, and the commits that lead from the first to the second.
fn before(disk: &MemoryDisk) {
    let mut tx = Transaction::begin(disk).unwrap();
    put(&mut tx, A, b"a1");
    put(&mut tx, Key::Peer(name("bob")), b"bob1");
    put(&mut tx, OUT, b"out1");
    tx.commit().unwrap();
}

fn change(disk: &MemoryDisk) -> Result<(), StateError> {
    let mut tx = Transaction::begin(disk)?;
    put(&mut tx, A, b"a2");
    put(&mut tx, Key::Peer(name("bob")), b"bob2");
    put(&mut tx, Key::Records(name("bob"), 7), b"records2");
    tx.remove(OUT);
    tx.commit()
}

fn contents(disk: &MemoryDisk) -> BTreeMap<Key, Vec<u8>> {
    let tx = Transaction::begin(disk).unwrap();
    let keys = Folder::ALL.into_iter().flat_map(|folder| tx.list(folder).unwrap());
    keys.map(|key| (key, tx.read(&key).unwrap().unwrap().to_vec())).collect()
}

#[test]
fn commit_is_whole_or_nothing_at_every_step() {
    let count = {
        let disk = MemoryDisk::default();
        before(&disk);
        let first = disk.steps();
        change(&disk).unwrap();
        disk.steps() - first
    };
    assert!(count > 10, "a commit of four files takes many steps, not {count}");
    let mut outcomes = [0, 0];
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        for step in 0..=count {
            let disk = MemoryDisk::default();
            before(&disk);
            let old = contents(&disk);
            disk.fail_after(step);
            let result = change(&disk);
            assert_eq!(result.is_ok(), step == count);
            disk.crash(unsynced);

            let found = contents(&disk);
            let is_old = found == old;
            let new = BTreeMap::from([
                (A, b"a2".to_vec()),
                (Key::Peer(name("bob")), b"bob2".to_vec()),
                (Key::Records(name("bob"), 7), b"records2".to_vec()),
            ]);
            assert!(is_old || found == new, "step {step}, {unsynced:?}: a mixture: {found:?}");
            assert!(!is_old || step < count, "a finished commit was lost");
            outcomes[usize::from(is_old)] += 1;

            Transaction::begin(&disk).unwrap().sweep().unwrap();
            let left = disk.files().into_keys().filter(|path| path.contains("/.") || path.contains("commit"));
            assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both outcomes must occur");
}

#[test]
fn replay_survives_a_crash_at_every_step() {
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        // The commit has happened once its file is there: three steps (write, rename, sync).
        for step in 0..40 {
            let disk = MemoryDisk::default();
            before(&disk);
            disk.fail_after(3);
            change(&disk).unwrap_err();
            disk.crash(unsynced);
            disk.fail_after(step);
            let _ = Transaction::begin(&disk);
            disk.crash(unsynced);
            assert_eq!(get(&disk, A).unwrap(), b"a2");
            assert_eq!(get(&disk, OUT), None);
        }
    }
}

#[test]
fn finished_commit_is_never_played_over_a_newer_one() {
    // In another folder than the redo file, so that no sync of that one hides a missing sync.
    let bob = Key::Peer(name("bob"));
    for unsynced in [Unsynced::Lost, Unsynced::Kept] {
        for step in 0..4 {
            let disk = MemoryDisk::default();
            before(&disk);
            change(&disk).unwrap();
            let mut tx = Transaction::begin(&disk).unwrap();
            put(&mut tx, bob, b"bob3");
            disk.fail_after(step);
            let committed = tx.commit().is_ok();
            disk.crash(unsynced);
            let found = get(&disk, bob).unwrap();
            assert!(found == b"bob3" || (found == b"bob2" && !committed), "step {step}, {unsynced:?}");
        }
    }
}

#[test]
fn one_changed_file_needs_no_redo_file() {
    let disk = MemoryDisk::default();
    let mut tx = Transaction::begin(&disk).unwrap();
    put(&mut tx, A, b"x");
    tx.commit().unwrap();
    assert_eq!(disk.steps(), 3);
}

#[test]
fn dropped_transaction_changes_nothing() {
    let disk = MemoryDisk::default();
    before(&disk);
    let files = disk.files();
    let mut tx = Transaction::begin(&disk).unwrap();
    put(&mut tx, A, b"other");
    tx.remove(OUT);
    assert_eq!(tx.read(&A).unwrap().unwrap().as_slice(), b"other");
    assert!(tx.read(&OUT).unwrap().is_none());
    assert!(tx.list(Folder::Outbox).unwrap().is_empty());
    drop(tx);
    assert_eq!(disk.files(), files);
}

#[test]
fn reports_a_flipped_bit_in_every_byte() {
    let disk = MemoryDisk::default();
    before(&disk);
    let files = disk.files();
    let good = &files["identity"];
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        disk.plant("identity", &bad);
        let error = Transaction::begin(&disk).unwrap().read(&A).unwrap_err();
        match error {
            StateError::Newer { version, .. } => assert_eq!((at, version), (0, 0x81)),
            StateError::Corrupt { path } => assert_eq!(path, "identity"),
            _ => panic!("{error}"),
        }
        assert_eq!(disk.files()["identity"], bad, "what can't be read must be left alone");
    }
    for length in 0..good.len() {
        disk.plant("identity", &good[..length]);
        assert!(matches!(Transaction::begin(&disk).unwrap().read(&A), Err(StateError::Corrupt { .. })));
    }
}

#[test]
fn reports_a_damaged_redo_file_and_leaves_it() {
    let disk = MemoryDisk::default();
    before(&disk);
    disk.fail_after(3);
    change(&disk).unwrap_err();
    disk.crash(Unsynced::Kept);
    let good = disk.files()["commit"].clone();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        disk.plant("commit", &bad);
        assert!(Transaction::begin(&disk).is_err(), "byte {at}");
        assert_eq!(disk.files()["commit"], bad);
    }
}

#[test]
fn file_under_another_ones_name_is_corrupt() {
    let disk = MemoryDisk::default();
    before(&disk);
    disk.plant("prekeys", &disk.files()["identity"]);
    assert!(matches!(
        Transaction::begin(&disk).unwrap().read(&Key::Prekeys),
        Err(StateError::Corrupt { .. })
    ));
}

#[test]
fn every_key_has_one_path_and_back() {
    let keys = [
        Key::Identity,
        Key::Account,
        Key::Prekeys,
        Key::Peer(name("bob.tmp")),
        Key::Records(name("bob.1"), 2),
        Key::Records(name("bob"), 12),
        Key::Uid(Uid(u64::MAX)),
        Key::Outbox(Lane(1), Number(u64::MAX)),
        Key::Inbox(Lane(u64::MAX), 0),
        Key::Lane(Lane(7)),
    ];
    for key in keys {
        assert_eq!(Key::from_path(&key.path()), Some(key));
    }
    for foreign in [
        "",
        "lock",
        "commit",
        "peers/",
        "peers/.bob",
        "peers/../x",
        "records/bob",
        "records/bob,01",
        "uids/1",
        "x/y",
    ] {
        assert_eq!(Key::from_path(foreign), None, "{foreign}");
    }
}

#[test]
fn account_comes_back() {
    let disk = MemoryDisk::default();
    for registered in [None, Some(Registered { relay_id: RelayId([7; 32]), uid: Uid(9) })] {
        let account = Account { name: name("alice"), profile: Profile::Light, registered };
        let mut tx = Transaction::begin(&disk).unwrap();
        account.store(&mut tx);
        tx.commit().unwrap();
        let tx = Transaction::begin(&disk).unwrap();
        assert_eq!(Account::load(&tx).unwrap(), Some(account));
    }
}

#[test]
fn lane_of_a_living_process_cannot_be_claimed() {
    let scratch = Scratch::new();
    let (home, memory) = (Home::open(&scratch.0).unwrap(), MemoryDisk::default());
    for disk in [&home as &dyn Disk, &memory] {
        let key = Key::Lane(Lane(5));
        let tx = Transaction::begin(disk).unwrap();
        let claim = tx.claim(&key).unwrap().expect("nobody has it");
        assert!(tx.claim(&key).unwrap().is_none());
        assert_eq!(tx.list(Folder::Lanes).unwrap(), [key]);
        drop(claim);
        assert!(tx.claim(&key).unwrap().is_some());
    }
}

#[test]
fn home_is_closed_to_others() {
    let scratch = Scratch::new();
    fs::create_dir(&scratch.0).unwrap();
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)).unwrap();
    let home = Home::open(&scratch.0).unwrap();
    let mut tx = Transaction::begin(&home).unwrap();
    put(&mut tx, A, b"secret");
    put(&mut tx, OUT, b"secret");
    drop(tx.claim(&Key::Lane(Lane(1))).unwrap());
    tx.commit().unwrap();
    let mode = |path: &str| fs::metadata(scratch.0.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for folder in ["peers", "records", "uids", "outbox", "inbox", "lanes"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    for file in ["identity", "lock", "outbox/00000000000000ab-0000000000000001", "lanes/0000000000000001"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn directory_with_other_things_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    fs::create_dir(&scratch.0).unwrap();
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(scratch.0.join(".profile"), "mine").unwrap();
    assert_eq!(Home::open(&scratch.0).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
    assert_eq!(fs::metadata(&scratch.0).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn file_or_folder_that_others_can_reach_is_refused() {
    let scratch = Scratch::new();
    let home = Home::open(&scratch.0).unwrap();
    let mut tx = Transaction::begin(&home).unwrap();
    put(&mut tx, A, b"secret");
    tx.commit().unwrap();
    let path = scratch.0.join("identity");
    let error = || Transaction::begin(&home).unwrap().read(&A).unwrap_err();
    let mode = |path: &PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

    for bad in [0o640, 0o604, 0o620, 0o601, 0o666] {
        mode(&path, bad);
        let error = error();
        assert!(
            matches!(&error, StateError::Exposed { path: found, why } if *found == path && *why == Exposure::FileMode(bad)),
            "{error}"
        );
    }
    for good in [0o600, 0o400] {
        mode(&path, good);
        assert_eq!(get(&home, A).unwrap(), b"secret");
    }

    let elsewhere = scratch.0.join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(matches!(error(), StateError::Exposed { why: Exposure::Link, .. }));
    // Nor is written through one.
    let temporary = scratch.0.join(".identity");
    symlink(&elsewhere, &temporary).unwrap();
    let mut tx = Transaction::begin(&home).unwrap();
    put(&mut tx, A, b"other");
    assert!(matches!(tx.commit(), Err(StateError::Exposed { why: Exposure::Link, .. })));
    fs::remove_file(&temporary).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(error(), StateError::Exposed { why: Exposure::NoFile, .. }));

    mode(&scratch.0.join("lock"), 0o644);
    assert!(matches!(Transaction::begin(&home).err(), Some(StateError::Exposed { .. })));
    mode(&scratch.0.join("lock"), 0o600);

    let folder = scratch.0.join("outbox");
    let opened = || Home::open(&scratch.0).unwrap_err().downcast::<StateError>().unwrap();
    mode(&folder, 0o750);
    assert!(matches!(opened(), StateError::Exposed { why: Exposure::FolderMode(0o750), .. }));
    mode(&folder, 0o700);
    fs::rename(&folder, scratch.0.join("aside")).unwrap();
    symlink(scratch.0.join("aside"), &folder).unwrap();
    assert!(matches!(opened(), StateError::Exposed { why: Exposure::NoFolder, .. }));
}

#[test]
fn sweeping_takes_only_what_we_left_half_written() {
    let disk = MemoryDisk::default();
    for path in
        [".identity", ".commit", "outbox/.00000000000000ab-0000000000000001", ".bashrc", "outbox/.mine"]
    {
        disk.plant(path, b"something");
    }
    Transaction::begin(&disk).unwrap().sweep().unwrap();
    let left: Vec<_> = disk.files().into_keys().filter(|path| path != "lock").collect();
    assert_eq!(left, [".bashrc", "outbox/.mine"]);
}

#[test]
fn memory_and_home_agree() {
    let scratch = Scratch::new();
    let (home, memory) = (Home::open(&scratch.0).unwrap(), MemoryDisk::default());
    for disk in [&home as &dyn Disk, &memory] {
        let mut tx = Transaction::begin(disk).unwrap();
        put(&mut tx, A, b"a");
        put(&mut tx, OUT, b"b");
        tx.commit().unwrap();
        let mut tx = Transaction::begin(disk).unwrap();
        tx.remove(A);
        put(&mut tx, OUT, b"c");
        assert_eq!(tx.list(Folder::Outbox).unwrap(), [OUT]);
        tx.commit().unwrap();
        assert_eq!(get(disk, A), None);
        assert_eq!(get(disk, OUT).unwrap(), b"c");
    }
    for (path, content) in memory.files() {
        assert_eq!(fs::read(scratch.0.join(&path)).unwrap(), content, "{path}");
    }
}

/// Two holders of one home add to the same file: without the lock some additions would be lost.
#[test]
fn two_holders_of_one_home_lose_no_change() {
    const ADDITIONS: u64 = 100;
    let scratch = Scratch::new();
    Home::open(&scratch.0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Opened anew: file locks are between open files, as between processes.
                let home = Home::open(&scratch.0).unwrap();
                for _ in 0..ADDITIONS {
                    let mut tx = Transaction::begin(&home).unwrap();
                    let old =
                        tx.read(&A).unwrap().map_or(0, |old| u64::from_be_bytes(old[..].try_into().unwrap()));
                    put(&mut tx, A, &(old + 1).to_be_bytes());
                    put(&mut tx, OUT, &(old + 1).to_be_bytes());
                    tx.commit().unwrap();
                }
            });
        }
    });
    let home = Home::open(&scratch.0).unwrap();
    assert_eq!(get(&home, A).unwrap(), (2 * ADDITIONS).to_be_bytes());
    assert_eq!(get(&home, OUT).unwrap(), (2 * ADDITIONS).to_be_bytes());
}
