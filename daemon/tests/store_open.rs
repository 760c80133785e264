//! Opening a state directory: what is made, what is refused, and that refusing changes nothing. A damaged
//! database: `store_salvage`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use e2e_protocol::ids::Sequence;
use e2e_relayd::store::{OpenError, OpenErrorKind, Snapshot, Store};
use store_common::*;

fn open(directory: &Path) -> Result<(Store, Snapshot), OpenError> {
    Store::open(directory, [9; 32], NOW)
}

fn refusal(directory: &Path) -> OpenError {
    let Err(error) = open(directory) else { panic!("it was opened") };
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    error
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn makes_directory_and_files_for_their_owner_only() {
    let dir = TempDir::new();
    let state = dir.join("a/b");
    let (_store, snapshot) = open(&state).unwrap();
    assert_eq!((snapshot.relay_id.0, snapshot.boot, snapshot.clock), ([9; 32], 1, NOW));
    assert_eq!((snapshot.users.len(), snapshot.mailboxes.len()), (0, 0));
    assert_eq!(mode(&state), 0o700);
    let entries =
        |path: &Path| -> Vec<_> { fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let (directories, files): (Vec<_>, Vec<_>) = entries(&state).into_iter().partition(|path| path.is_dir());
    assert_eq!(directories, [state.join("log")]);
    assert_eq!(mode(&directories[0]), 0o700);
    let segments = entries(&directories[0]);
    assert_eq!((files.len(), segments.len()), (3, 1));
    assert!(files.iter().chain(&segments).all(|file| mode(file) == 0o600), "{files:?}");
}

#[test]
fn leaves_the_permissions_of_a_directory_that_was_there() {
    let dir = TempDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    open(dir.path()).unwrap();
    assert_eq!(mode(dir.path()), 0o755);
}

#[test]
fn takes_up_what_was_stored() {
    let dir = filled();
    let (store, snapshot) = open(dir.path()).unwrap();
    assert_eq!(snapshot.boot, 2);
    assert_eq!(snapshot.users[0].name.as_str(), "alice");
    assert_eq!(snapshot.users[0].prekeys.one_time_left, 16);
    let mailbox = snapshot.mailboxes[0];
    assert_eq!((mailbox.durable, mailbox.messages, mailbox.bytes), (Sequence(5000), 5000, 1_000_000));
    drop(store);
    assert_eq!(open(dir.path()).unwrap().1.boot, 3);
}

#[test]
fn refuses_a_directory_that_another_relay_uses() {
    let dir = TempDir::new();
    let (store, _) = open(dir.path()).unwrap();
    assert_eq!(refusal(dir.path()).kind, OpenErrorKind::Locked);
    let handle = store.start(|| ()).unwrap();
    let error = refusal(dir.path());
    assert_eq!(error.kind, OpenErrorKind::Locked);
    assert_eq!(
        error.to_string(),
        format!("another relay is running on this state directory: {}", dir.path().display())
    );
    handle.shutdown();
    open(dir.path()).unwrap();
}

#[test]
fn refuses_a_path_that_cannot_be_a_directory() {
    let dir = TempDir::new();
    fs::write(dir.join("file"), "").unwrap();
    assert_eq!(refusal(&dir.join("file")).kind, OpenErrorKind::Directory);
    assert_eq!(refusal(&dir.join("file/state")).kind, OpenErrorKind::Directory);
    assert_eq!(refusal(Path::new("/proc/none")).kind, OpenErrorKind::Directory);
    fs::create_dir(dir.join(DATABASE)).unwrap();
    assert_eq!(refusal(dir.path()).kind, OpenErrorKind::Directory);
}

#[test]
fn a_first_start_that_was_cut_off_is_made_again() {
    let dir = TempDir::new();
    fs::write(dir.join("relay.redb.new"), "half").unwrap();
    assert_eq!(open(dir.path()).unwrap().1.boot, 1);
    assert!(!dir.join("relay.redb.new").exists());
}
