//! A whole home of a client: files under any names with any content, protected or not, and a commit that was cut off.
//!
//! Owns: that opening it and reading everything ends in content or errors, and gives the same the second time.

use e2e_client::state::{
    Account, Disk, Folder, InboxItem, Key, MemoryDisk, OutboxItem, PeerItem, StateError, Transaction, Vault,
};
use e2e_protocol::e2e::at_rest::KeyParameters;
use e2e_protocol::e2e::{Prekeys, Profile, RatchetKeys};
use zeroize::Zeroizing;

use super::conversation::{ALICE, homes, rng};
use super::edits::edit;
use super::input::Input;
use super::state::{PARAMETERS, PASSPHRASE, keys};
use crate::sessions::keys::me;

const FILES_MAX: usize = 24;
/// Each with the number in its second byte (`client/src/state/key.rs`).
const PATHS: [(&str, u8); 16] = [
    ("identity", 1),
    ("account", 2),
    ("prekeys", 3),
    ("peers/alice", 4),
    ("records/alice,0", 5),
    ("records/alice,1", 5),
    ("uids/0000000000000007", 6),
    ("outbox/0000000000000001-0000000000000001", 7),
    ("outbox/0000000000000001-0000000000000002", 7),
    ("inbox/0000000000000001-0000000000000001", 8),
    ("lanes/0000000000000001", 9),
    ("ratchets", 10),
    ("next-identity", 11),
    ("commit", 0),
    (".commit", 0),
    ("passphrase", 0),
];

/// Files, each by its path, kind and content; the first byte says whether the home has a passphrase.
pub(super) fn files(data: &[u8]) {
    let mut input = Input::new(data);
    let input = &mut input;
    let disk = MemoryDisk::default();
    let is_protected = input.index(4) == 0;
    if is_protected {
        let sealed = keys().seal("passphrase", &[], &mut rng());
        disk.plant("passphrase", &with_crc(&[1], &sealed));
    }
    for _ in 0..FILES_MAX {
        if input.is_empty() {
            break;
        }
        let (path, tag) = input.pick(&PATHS);
        let mut content = content(path, tag, input);
        if is_protected && path != "passphrase" {
            content = keys().seal(path, &content, &mut rng());
        }
        if input.index(8) == 7 {
            edit(&mut content, input);
        }
        disk.plant(path, &content);
    }
    let seen = read_all(&disk);
    if seen.is_some() {
        assert!(read_all(&disk) == seen, "it gives something else the second time");
    }
}

/// What a file holds, by the input's choice: any bytes, any bytes behind a good head, or what a home would hold there.
fn content(path: &str, tag: u8, input: &mut Input<'_>) -> Vec<u8> {
    match (input.index(4), path) {
        (0, _) => input.counted().to_vec(),
        (_, "commit" | ".commit") => redo(input),
        (_, "passphrase") => with_crc(&[1], &keys().seal("passphrase", &[], &mut rng())),
        (1, _) => with_crc(&[1, tag], input.counted()),
        (_, _) => {
            let home = &homes()[4];
            let mut content = match tag {
                1 | 11 => me(ALICE, Profile::Light).identity.encode().to_vec(),
                3 => home.prekeys.clone(),
                4 => [&[0; 8], &u32::try_from(home.peer.len()).unwrap_or(0).to_be_bytes()[..], &home.peer]
                    .concat(),
                _ => input.counted().to_vec(),
            };
            edit(&mut content, input);
            with_crc(&[1, tag], &content)
        }
    }
}

/// A commit of several files: of a transaction, or of a conversion to another passphrase.
fn redo(input: &mut Input<'_>) -> Vec<u8> {
    let version = input.pick(&[1, 0xC5, 2]);
    let count = input.index(5);
    let mut body = u32::try_from(count).unwrap_or(0).to_be_bytes().to_vec();
    for _ in 0..count {
        let (path, tag) = input.pick(&PATHS);
        let present = input.index(3);
        let content = with_crc(&[1, tag], input.counted());
        body.extend_from_slice(&u32::try_from(path.len()).unwrap_or(0).to_be_bytes());
        body.extend_from_slice(path.as_bytes());
        body.push(u8::try_from(present).unwrap_or(0));
        body.extend_from_slice(&u32::try_from(content.len()).unwrap_or(0).to_be_bytes());
        body.extend_from_slice(&content);
    }
    with_crc(&[version], &body)
}

/// A head, the CRC of what follows, and that.
fn with_crc(head: &[u8], content: &[u8]) -> Vec<u8> {
    [head, &crc32fast::hash(content).to_be_bytes(), content].concat()
}

/// Opens the home and reads everything in it; `None` where something can't be used.
fn read_all(disk: &MemoryDisk) -> Option<Vec<(Key, Vec<u8>)>> {
    let files = disk.clone();
    // Without the work that a marker may ask for.
    let ask = move || {
        let marker = files.files().remove("passphrase").unwrap_or_default();
        let parameters = KeyParameters::of(marker.get(5..).unwrap_or_default());
        match parameters {
            Ok(parameters) if parameters.log2_n <= PARAMETERS.log2_n => {
                Ok(Zeroizing::new(PASSPHRASE.to_vec()))
            }
            _ => Err(StateError::WrongPassphrase),
        }
    };
    let vault = Vault::open(disk.clone(), rng(), ask).ok()?;
    let state = Transaction::begin(&vault as &dyn Disk).ok()?;
    state.sweep().ok()?;
    let mut all = Vec::new();
    for folder in Folder::ALL.into_iter().filter(|folder| *folder != Folder::Lanes) {
        for key in state.list(folder).ok()? {
            if let Ok(Some(content)) = state.read(&key) {
                decode(&state, &key, &content);
                all.push((key, content.to_vec()));
            }
        }
    }
    Some(all)
}

fn decode(state: &Transaction<'_>, key: &Key, content: &[u8]) {
    match key {
        Key::Account => drop(Account::load(state)),
        Key::Prekeys => drop(Prekeys::decode(content)),
        Key::RatchetKeys => drop(RatchetKeys::decode(content)),
        Key::Peer(name) => drop(PeerItem::decode(content, name)),
        Key::Outbox(..) => drop(OutboxItem::load(state, key)),
        Key::Inbox(..) => drop(InboxItem::load(state, key)),
        // An identity takes a millisecond, and is a target of its own.
        Key::Identity | Key::NextIdentity | Key::Records(..) | Key::Uid(_) | Key::Lane(_) => {}
    }
}
