//! A name that moves to another device.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::*;
use e2e_client::state::export::{Export, ExportError};
use e2e_client::state::{Key, MemoryDisk, Transaction};
use e2e_protocol::e2e::at_rest::{KeyParameters, LOG2_N_MAX};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

const CHEAP: KeyParameters = KeyParameters { log2_n: 1, salt: [5; 16] };

fn exported(disk: &MemoryDisk) -> Vec<u8> {
    let (export, _) = Export::from_home(&Transaction::begin(disk).unwrap()).unwrap();
    export.seal(b"secret", CHEAP, &mut ChaCha20Rng::seed_from_u64(4)).unwrap()
}

fn imported(file: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let mut state = Transaction::begin(&disk).unwrap();
    Export::open(file, b"secret").unwrap().put_into(&mut state).unwrap();
    state.commit().unwrap();
    disk
}

#[test]
fn identity_and_account_arrive_and_nothing_else() {
    let (_, _, bob) = two_users();
    let copy = imported(&exported(&bob));
    let files = copy.files();
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["account", "identity", "lock"][..2].iter().collect::<Vec<_>>()
    );
    for path in ["account", "identity"] {
        assert_eq!(files[path], bob.files()[path], "{path}");
    }
}

#[test]
fn refuses_what_is_no_exported_identity() {
    let (_, _, bob) = two_users();
    let file = exported(&bob);
    assert!(matches!(Export::open(&file, b"other"), Err(ExportError::WrongPassphrase)));
    for at in 0..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 1;
        assert!(Export::open(&bad, b"secret").is_err(), "byte {at}");
    }
    assert!(matches!(Export::open(&file[..40], b"secret"), Err(ExportError::Malformed)));
    let mut costly = file.clone();
    costly[11] = LOG2_N_MAX + 1;
    assert!(matches!(Export::open(&costly, b"secret"), Err(ExportError::Cost(_))));
    // A state file with the same passphrase is none.
    let keys = e2e_protocol::e2e::at_rest::StateKeys::derive(b"secret", CHEAP).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let state = keys.seal("identity", &bob.files()["identity"], &mut rng);
    assert!(matches!(Export::open(&state, b"secret"), Err(ExportError::WrongPassphrase)));

    // Contacts, or a version, that this client doesn't know are not left out.
    let content = keys.open("export", &file).unwrap();
    let count = content.len();
    for (at, value, newer) in [(0, 2, true), (0, 0, false), (count - 5, 2, true), (count - 1, 1, false)] {
        let mut other = content.to_vec();
        other[at] = value;
        let error = Export::open(&keys.seal("export", &other, &mut rng), b"secret").err().unwrap();
        assert_eq!(matches!(error, ExportError::Newer(_)), newer, "{error:?}");
        assert!(newer || matches!(error, ExportError::Malformed), "{error:?}");
    }
}

#[test]
fn home_with_an_identity_takes_no_other_and_one_without_gives_none() {
    let (_, alice, bob) = two_users();
    let export = Export::open(&exported(&bob), b"secret").unwrap();
    let mut state = Transaction::begin(&alice).unwrap();
    assert!(
        matches!(export.put_into(&mut state), Err(ExportError::NotEmpty(account)) if account.name == name("alice"))
    );
    state.remove(Key::Account);
    state.commit().unwrap();
    let mut state = Transaction::begin(&alice).unwrap();
    assert!(matches!(export.put_into(&mut state), Err(ExportError::HasKey)));
    drop(state);
    let unregistered = prepare("carol", 6);
    let state = Transaction::begin(&unregistered).unwrap();
    assert!(matches!(Export::from_home(&state), Err(ExportError::NotRegistered)));
}

/// Whatever stood between them: what was sent meanwhile is Rejected, and encrypted anew.
#[test]
fn imported_identity_receives_what_was_and_is_sent() {
    for in_session in [false, true] {
        let (mut relay, alice, bob) = two_users();
        let mut a = Client::new(&alice, 20);
        a.start(receiver(), START_MS).unwrap();
        a.connect(&mut relay, START_MS).unwrap();
        if in_session {
            let mut old = Client::new(&bob, 21);
            old.start(receiver(), START_MS).unwrap();
            old.connect(&mut relay, START_MS).unwrap();
            a.send(&mut relay, "bob", "to the old one", START_MS).unwrap();
            settle(&mut relay, &mut [&mut a, &mut old], START_MS);
            old.send(&mut relay, "alice", "and back", START_MS).unwrap();
            settle(&mut relay, &mut [&mut a, &mut old], START_MS);
            old.finish(&mut relay, START_MS).unwrap();
        }
        let file = exported(&bob);
        a.send(&mut relay, "bob", "meanwhile", START_MS).unwrap();
        settle(&mut relay, &mut [&mut a], START_MS);

        let copy = imported(&file);
        let mut b = Client::new(&copy, 22);
        b.start(receiver(), START_MS).unwrap();
        b.connect(&mut relay, START_MS).unwrap();
        settle(&mut relay, &mut [&mut a, &mut b], START_MS);
        assert!(relay.users[relay.user(&name("bob"))].one_time.len() >= 8, "new prekeys are there");
        a.send(&mut relay, "bob", "afterwards", START_MS).unwrap();
        advance(&mut relay, &mut [&mut a, &mut b], START_MS, START_MS + 30 * MINUTE_MS);
        let mut texts = b.texts();
        texts.sort_unstable();
        assert_eq!(texts, ["afterwards", "meanwhile"], "in a session: {in_session}");
        assert_eq!(a.outbox(), 0);
        let later_ms = START_MS + 31 * MINUTE_MS;
        b.send(&mut relay, "alice", "from the new one", later_ms).unwrap();
        settle(&mut relay, &mut [&mut a, &mut b], later_ms);
        assert_eq!((a.texts().last(), b.outbox()), (Some(&"from the new one"), 0));
    }
}
