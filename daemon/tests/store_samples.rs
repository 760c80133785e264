//! Stores of each format, as relays of their time left them: what is made of them now. How they were made: samples/README.md.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use e2e_protocol::ids::Sequence;
use e2e_protocol::wire::FrameType;
use e2e_protocol::wire::routed::{frame_bytes_at, routing_at};
use e2e_relayd::store::{
    Completion, Engine, OpenErrorKind, RedbEngine, Request, Snapshot, Store, StoreHandle, Table, Write, fsck,
    limits, receive_copy,
};
use store_common::*;

fn sample(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/samples/store-{format}"))
}

/// A copy of a sample.
fn copy_of(format: u32) -> TempDir {
    let dir = TempDir::new();
    copy_directory(&sample(format), dir.path());
    dir
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, into) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy_directory(&path, &into) } else { fs::copy(&path, &into).map(drop).unwrap() }
    }
}

/// Every frame that waits for somebody: its type, by whom it is, and its bytes.
fn waiting(handle: &mut StoreHandle, slot: u32, after: Sequence) -> Vec<(FrameType, u32, usize)> {
    let read = Request::ReadBacklog { slot, after, bytes_max: usize::MAX, token: 1 };
    let Completion::Backlog { result: Ok(chunks), .. } = ask(handle, read) else { panic!("a backlog") };
    let mut found = Vec::new();
    for chunk in chunks {
        let mut rest = &chunk.bytes[..];
        while !rest.is_empty() {
            let (frame_type, routing) = routing_at(rest).unwrap();
            let bytes = frame_bytes_at(rest).unwrap();
            found.extend((routing.sequence > after).then_some((frame_type, routing.peer.slot(), bytes)));
            rest = &rest[bytes..];
        }
    }
    found
}

/// What is in each sample.
fn check(store: Store, snapshot: &Snapshot, boot: u32, what: &str) {
    let slot = |name: &str| snapshot.users.iter().find(|user| user.name.as_str() == name).unwrap().slot;
    let (alice, bob, carol) = (slot("alice"), slot("bob"), slot("carol"));
    assert_eq!((snapshot.users.len(), snapshot.boot), (3, boot), "{what}");
    assert_eq!(snapshot.blocks, [(bob, carol)], "{what}");
    let mut handle = store.start(|| ()).unwrap();
    for (slot, expected) in [(alice, vec![bob]), (bob, vec![alice; 5]), (carol, vec![bob])] {
        let mailbox = snapshot.mailboxes.iter().find(|mailbox| mailbox.slot == slot).unwrap();
        let found = waiting(&mut handle, slot, mailbox.acked);
        let messages = found.iter().filter(|(frame_type, ..)| *frame_type == FrameType::Deliver);
        assert_eq!(messages.map(|(_, peer, _)| *peer).collect::<Vec<_>>(), expected, "{what}: {slot}");
        let bytes: usize = found.iter().map(|(.., bytes)| bytes).sum();
        assert_eq!((mailbox.messages, mailbox.bytes), (found.len() as u64, bytes as u64), "{what}: {slot}");
        let shares = snapshot.shares.iter().filter(|share| share.slot == slot);
        let shared: u64 = shares.map(|share| share.messages).sum();
        assert_eq!(shared, expected.len() as u64, "{what}: {slot}");
    }
    for slot in [alice, bob, carol] {
        let user = snapshot.users.iter().find(|user| user.slot == slot).unwrap();
        let Completion::Keys { result: Ok(Some(keys)), .. } =
            ask(&mut handle, Request::ReadKeys { slot, token: 1 })
        else {
            panic!("{what}: keys")
        };
        assert_eq!(keys.roll_overs.len(), usize::from(slot == carol), "{what}");
        assert_eq!(e2e_protocol::login::fingerprint(keys.present()), user.fingerprint, "{what}");
        let Completion::Bundle { result: Ok(Some(bundle)), .. } = ask(&mut handle, take(slot, true)) else {
            panic!("{what}: a bundle")
        };
        let one_time = bundle.one_time.unwrap();
        assert!(one_time.hashes.len() >= usize::from(bundle.left.one_time_left), "{what}");
        assert_eq!(bundle.left.one_time_left, user.prekeys.one_time_left - 1, "{what}");
    }
    // It goes on as any store does: what was there is read, and goes, and more comes.
    let mailbox = snapshot.mailboxes.iter().find(|mailbox| mailbox.slot == bob).unwrap();
    let next = mailbox.durable.0 + 1;
    assert!(matches!(ask(&mut handle, append_delivers(bob, 1, next, next, 9)), Completion::Appended { .. }));
    handle.submit(acked(bob, mailbox.durable.0, 1, 73));
    assert_eq!(waiting(&mut handle, carol, Sequence(0)).len(), 1, "{what}");
    handle.shutdown();
}

#[test]
fn takes_up_a_store_of_each_format() {
    for format in [1, 2] {
        let what = format!("format {format}");
        let dir = copy_of(format);
        let before = fsck(dir.path()).unwrap();
        assert_eq!((before.format, before.problems.as_slice()), (format, &[][..]), "{what}");
        assert_eq!((before.names, before.mailboxes), (3, 3), "{what}");
        assert_eq!(before.log_bytes == 0, format == 1, "{what}");
        let id = fs::read_to_string(dir.join("relay-id")).unwrap();
        let (store, snapshot) = Store::open(dir.path(), [1; 32], NOW).unwrap();
        let hex: String = snapshot.relay_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(id.starts_with(&hex), "{what}: it is the same relay");
        check(store, &snapshot, 2, &what);
        // From then on it is of the present format, and as healthy.
        let after = fsck(dir.path()).unwrap();
        assert_eq!((after.format, after.problems.as_slice()), (2, &[][..]), "{what}");
        assert_eq!(after.prekeys, before.prekeys - 3, "{what}");
        let (_, again) = Store::open(dir.path(), [1; 32], NOW).unwrap();
        let mut messages: Vec<_> = again.mailboxes.iter().map(|mailbox| mailbox.messages).collect();
        messages.sort_unstable();
        assert_eq!((again.boot, messages.as_slice()), (3, &[1, 1, 1][..]), "{what}");
    }
}

#[test]
fn copies_a_store_of_each_format_as_one_of_the_present() {
    for format in [1, 2] {
        let what = format!("a copy of format {format}");
        let dir = copy_of(format);
        let handle = Store::open(dir.path(), [1; 32], NOW).unwrap().0.start(|| ()).unwrap();
        let (out, input) = std::os::unix::net::UnixStream::pair().unwrap();
        handle.copy_to(out, |result| assert!(result.is_ok())).unwrap();
        receive_copy(input, &dir.join("copy")).unwrap();
        handle.shutdown();
        let report = fsck(&dir.join("copy")).unwrap();
        assert_eq!((report.format, report.problems.as_slice()), (2, &[][..]), "{what}");
        let (store, snapshot) = Store::open(&dir.join("copy"), [1; 32], NOW).unwrap();
        check(store, &snapshot, 3 + limits::COPY_STARTS, &what);
    }
}

#[test]
fn refuses_a_newer_one_and_leaves_it_alone() {
    let dir = copy_of(2);
    let index = RedbEngine::open(&dir.join(DATABASE)).unwrap();
    let (table, key, value) = (Table::Meta, b"format".to_vec(), 3_u32.to_be_bytes().to_vec());
    index.commit(&[Write::Put { table, key, value }]).unwrap();
    drop(index);
    let held =
        || ["relay-id", DATABASE, "log/0000000000000001"].map(|name| fs::read(dir.join(name)).unwrap());
    let before = held();
    for error in [
        Store::open(dir.path(), [1; 32], NOW).map(drop).unwrap_err(),
        fsck(dir.path()).map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind, OpenErrorKind::NewerFormat);
        let path = dir.join(DATABASE);
        let expected = format!("the store was written by a newer version: {}: format 3", path.display());
        assert_eq!(error.to_string(), expected);
    }
    assert!(held() == before, "it was changed");
}
