//! What the core's log lines hold: no name where names are hidden, and never a message, a key or a token.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use std::sync::Mutex;

use core_common::*;
use e2e_protocol::login::Removal;
use e2e_protocol::wire::people::Remove;
use e2e_protocol::wire::session::{Purpose, Receive, Registration};
use e2e_relayd::core::Policy;
use e2e_relayd::limits::Limits;
use log::{LevelFilter, Log, Metadata, Record};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Kept;

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

const CONTENT: &[u8] = b"nobody else may read this";
const TOKEN: &[u8] = b"letmein-letmein";

/// Everything that is logged of two names that come, write, and go; of which one name's log is told.
fn lines(hide_names: bool) -> Vec<String> {
    LINES.lock().unwrap().clear();
    let (registration, tokens) = (Registration::Token, vec![TOKEN.to_vec()]);
    let policy = Policy { registration, tokens, hide_names, ..Policy::default() };
    let mut world = World::with(Limits::default(), policy);
    let [alice, bob] = ["alice-in-chains", "bob-the-builder"].map(|who| {
        let peer = world.challenged(Purpose::Register);
        world.proof_by(peer, identity(0), who, Purpose::Register, TAKE_OVER, Some(TOKEN));
        world.settle();
        peer
    });
    let to = world.links[bob].welcome.unwrap().uid;
    world.send(alice, to, 1, 1, CONTENT);
    world.settle();
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.try_login("bob-the-builder", Purpose::Login, Receive::No);
    world.disk.fail(true);
    world.send(alice, to, 1, 2, CONTENT);
    world.advance(1_000);
    world.disk.fail(false);
    world.advance(5_000);
    let challenge = world.links[alice].challenge.unwrap();
    let (uid, who) = (world.links[alice].welcome.unwrap().uid, name("alice-in-chains"));
    let fingerprint = identity(0).fingerprint();
    let removal = Removal { relay_id: &challenge.relay_id, uid, name: &who, fingerprint };
    let signature = identity(0).sign_removal(&removal, &mut ChaCha20Rng::seed_from_u64(1));
    world.put(alice, |out| Remove { request: 7, signature: &signature }.emit(out));
    world.settle();
    assert_eq!(world.links[alice].removed, [7]);
    world.hang_up(bob);
    LINES.lock().unwrap().clone()
}

#[test]
fn shows_names_where_it_may_and_nothing_that_is_secret() {
    log::set_logger(&Kept).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let (open, hidden) = (lines(false), lines(true));
    assert!(open.iter().any(|line| line == "registered alice-in-chains"), "{open:#?}");
    assert!(open.iter().any(|line| line == "alice-in-chains was removed"), "{open:#?}");
    assert_eq!(open.len(), hidden.len(), "the same lines");
    for line in &hidden {
        assert!(!line.contains("alice") && !line.contains("bob"), "{line}");
    }
    // One name has one pseudonym, and another name another.
    let pseudonym = |lines: &[String], what: &str| {
        let line = lines.iter().find(|line| line.contains(what) && line.contains('#')).unwrap();
        line.split(' ').find(|word| word.starts_with('#')).unwrap().to_owned()
    };
    assert_eq!(pseudonym(&hidden, "registered"), pseudonym(&hidden, "was removed"));
    let registered: Vec<_> = hidden.iter().filter(|line| line.starts_with("registered")).collect();
    assert_ne!(registered[0], registered[1]);
    // Who is closed is known by address.
    let is_over = |line: &&String| line.contains(" from 127.0.0.1 is over: ");
    assert!(open.iter().filter(is_over).count() >= 2, "{open:#?}");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = identity(0).modulus();
    for line in open.iter().chain(&hidden) {
        for secret in [&CONTENT[..8], &TOKEN[..8]] {
            assert!(!line.contains(std::str::from_utf8(secret).unwrap()), "{line}");
            assert!(!line.to_lowercase().contains(&hex(secret)), "{line}");
        }
        assert!(!line.to_lowercase().contains(&hex(&key[8..16])), "{line}");
    }
}
