//! Homes of each version, as clients of their time left them: what this client makes of them. How they were made: samples/README.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e_client::state::export::{Export, ExportError};
use e2e_client::state::vault::MARKER;
use e2e_client::state::{Account, Folder, Home, Key, OutboxItem, PeerItem, StateError, Transaction, Vault};
use e2e_protocol::e2e::{Identity, Prekeys, RatchetKeys, Records};
use e2e_protocol::ids::Name;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zeroize::Zeroizing;

const PASSPHRASE: &str = "a sample's passphrase";

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)
}

/// A copy of a sample, closed to others as a home is; removed at the end.
struct Copy(PathBuf);

impl Copy {
    fn of(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("e2e-samples-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let copy = Self(std::env::temp_dir().join(unique));
        copy_directory(&sample(name), &copy.0);
        copy
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        read_files(&self.0, &mut files);
        files
    }

    fn open(&self) -> Result<Vault<Home>, StateError> {
        let home = Home::open(&self.0).expect("the directory is a home");
        Vault::open(home, ChaCha20Rng::seed_from_u64(1), || {
            Ok(Zeroizing::new(PASSPHRASE.as_bytes().to_vec()))
        })
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_directory(from: &Path, to: &Path) {
    DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, into) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_directory(&path, &into);
        } else {
            fs::copy(&path, &into).unwrap();
            fs::set_permissions(&into, Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn read_files(directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_files(&path, files);
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

fn bob() -> Name {
    "bob".parse().unwrap()
}

/// Reads every file of the home.
fn check(state: &Transaction<'_>, what: &str) {
    let read = |key: &Key| state.read(key).unwrap().unwrap_or_else(|| panic!("{what}: {key:?}"));
    let account = Account::load(state).unwrap().unwrap();
    assert_eq!(account.name.as_str(), "alice", "{what}");
    assert!(account.registered.is_some(), "{what}");
    Identity::decode(&read(&Key::Identity)).expect(what);
    Prekeys::decode(&read(&Key::Prekeys)).expect(what);
    RatchetKeys::decode(&read(&Key::RatchetKeys)).expect(what);
    assert_eq!(state.list(Folder::Peers).unwrap(), [Key::Peer(bob())], "{what}");
    let peer = PeerItem::decode(&read(&Key::Peer(bob())), &bob()).expect(what);
    assert_eq!(state.list(Folder::Uids).unwrap(), [Key::Uid(peer.uid)], "{what}");
    assert!(read(&Key::Uid(peer.uid)).ends_with(b"bob"), "{what}");
    assert_eq!(state.list(Folder::Records).unwrap(), [Key::Records(bob(), 0)], "{what}");
    Records::decode([(0, read(&Key::Records(bob(), 0)).as_slice())]).expect(what);
    let outbox = state.list(Folder::Outbox).unwrap();
    let texts = outbox.iter().map(|key| {
        let item = OutboxItem::load(state, key).unwrap().unwrap();
        assert_eq!(item.to, bob(), "{what}");
        String::from_utf8(item.plaintext.body.to_vec()).unwrap()
    });
    let expected: Vec<_> = (1..=5).map(|n| format!("message {n} of five, for who is away")).collect();
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    assert_eq!(texts, expected, "{what}");
}

#[test]
fn reads_everything_in_a_home_of_each_version() {
    for (name, is_protected) in [("home-1", false), ("home-1-protected", true)] {
        let copy = Copy::of(name);
        let vault = copy.open().unwrap();
        assert_eq!(vault.is_protected(), is_protected, "{name}");
        check(&Transaction::begin(&vault).unwrap(), name);
    }
}

#[test]
fn the_command_goes_on_with_a_home_of_each_version() {
    let copy = Copy::of("home-1");
    let output =
        Command::new(env!("CARGO_BIN_EXE_e2e-client")).arg("-H").arg(&copy.0).arg("contacts").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("bob "));
    // And it is the home of every version since.
    check(&Transaction::begin(&copy.open().unwrap()).unwrap(), "after the command");
}

#[test]
fn refuses_each_file_of_a_newer_home_and_leaves_it_alone() {
    let keys = |state: &Transaction<'_>| -> Vec<Key> {
        Folder::ALL.iter().flat_map(|folder| state.list(*folder).unwrap()).collect()
    };
    let all = keys(&Transaction::begin(&Copy::of("home-1").open().unwrap()).unwrap());
    assert_eq!(all.len(), 12, "{all:?}");
    for key in all {
        let copy = Copy::of("home-1");
        let path = copy.0.join(key.path());
        let mut newer = fs::read(&path).unwrap();
        assert_eq!(newer[0], 1, "{key:?}");
        newer[0] = 2;
        fs::write(&path, newer).unwrap();
        let before = copy.files();
        let vault = copy.open().unwrap();
        let error = Transaction::begin(&vault).unwrap().read(&key).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the state file {} has version 2, which this client does not know", key.path())
        );
        assert!(copy.files() == before, "{key:?}: it was changed");
    }
    // By the command, too: what it needs first is refused.
    let copy = Copy::of("home-1");
    let path = copy.0.join("account");
    let mut newer = fs::read(&path).unwrap();
    newer[0] = 2;
    fs::write(&path, newer).unwrap();
    let before = fs::read(&path).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_e2e-client"))
        .args(["-s", "127.0.0.1:1", "-H"])
        .arg(&copy.0)
        .args(["send", "bob", "-m", "text"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the state file account has version 2, which this client does not know"), "{said}");
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn refuses_a_newer_marker_before_it_asks_for_a_passphrase() {
    let copy = Copy::of("home-1-protected");
    let path = copy.0.join(MARKER);
    let mut newer = fs::read(&path).unwrap();
    newer[0] = 2;
    fs::write(&path, newer).unwrap();
    let before = copy.files();
    let home = Home::open(&copy.0).unwrap();
    let opened = Vault::open(home, ChaCha20Rng::seed_from_u64(1), || -> Result<_, StateError> {
        panic!("nobody should be asked")
    });
    let error = opened.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the state file passphrase has version 2, which this client does not know");
    assert!(copy.files() == before);
}

#[test]
fn imports_an_export_of_each_version() {
    let file = fs::read(sample("export-1")).unwrap();
    assert!(matches!(Export::open(&file, b"another"), Err(ExportError::WrongPassphrase)));
    let disk = e2e_client::state::MemoryDisk::default();
    let mut state = Transaction::begin(&disk).unwrap();
    Export::open(&file, PASSPHRASE.as_bytes()).unwrap().put_into(&mut state).unwrap();
    state.commit().unwrap();
    let state = Transaction::begin(&disk).unwrap();
    let copy = Copy::of("home-1");
    let vault = copy.open().unwrap();
    let home = Transaction::begin(&vault).unwrap();
    for key in [Key::Identity, Key::Account] {
        assert!(state.read(&key).unwrap() == home.read(&key).unwrap(), "{key:?}");
    }
    assert_eq!(state.list(Folder::Peers).unwrap(), [Key::Peer(bob())]);
}
