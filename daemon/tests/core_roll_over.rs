//! A name changes to a new identity key (spec/wire.md, section 6, "ROLL, ROLLED, ROLLS").
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use core_common::*;
use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::{KeyId, Modulus, Signature, Uid};
use e2e_protocol::limits::{REQUESTS_PENDING_MAX, ROLL_OVERS_MAX};
use e2e_protocol::login::{self, key_id, verify_roll_over};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::directory::{Batch, Lookup, Publish, SignedPrekey, Want, Whose};
use e2e_protocol::wire::roll::{Roll, RollOver};
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_protocol::wire::transfer::ResultCode;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a ROLL carries, to be spoilt.
#[derive(Clone)]
struct Statement {
    time_ms: u64,
    identity_key: Modulus,
    former_signature: Signature,
    signature: Signature,
}

fn statement(who: &str, from: &Identity, to: &Identity, time_ms: u64) -> Statement {
    let name = name(who);
    let (former, fingerprint) = (from.fingerprint(), to.fingerprint());
    let roll_over = login::RollOver { name: &name, former, fingerprint, time_ms };
    let mut rng = ChaCha20Rng::seed_from_u64(time_ms);
    Statement {
        time_ms,
        identity_key: *to.modulus(),
        former_signature: from.sign_roll_over(&roll_over, &mut rng),
        signature: to.sign_roll_over(&roll_over, &mut rng),
    }
}

fn roll(world: &mut World, peer: Peer, request: u32, statement: &Statement) {
    let Statement { time_ms, identity_key, former_signature, signature } = statement;
    let roll_over = RollOver { time_ms: *time_ms, identity_key, former_signature, signature };
    world.put(peer, |out| Roll { request, roll_over }.emit(out));
}

fn lookup(world: &mut World, peer: Peer, request: u32, want: Want, whose: Whose) {
    world.put(peer, |out| Lookup { request, want, whose }.emit(out));
}

fn of(who: &str) -> Whose {
    Whose::Name(name(who))
}

fn modulus(mark: u8) -> Modulus {
    let mut modulus = [mark; 256];
    (modulus[0], modulus[255]) = (0x80, 1);
    modulus
}

fn publish(world: &mut World, peer: Peer, request: u32, mark: u8) {
    let (signed, one_time, signature) = (modulus(mark), [modulus(mark + 1)], [9; 256]);
    let prekey = SignedPrekey { modulus: &signed, made_ms: NOW, profile: 0, signature: &signature };
    let batch = Batch { signed_prekey: key_id(&signed), signature: &signature, moduli: &one_time };
    let frame = Publish { request, signed_prekey: Some(prekey), batch: Some(batch) };
    world.put(peer, |out| frame.emit(out));
}

fn try_login_by(world: &mut World, key: usize, who: &str, purpose: Purpose, receive: Receive) -> Peer {
    let peer = world.challenged(purpose);
    world.proof_by(peer, identity(key), who, purpose, receive, None);
    world.settle();
    peer
}

fn login_by(world: &mut World, key: usize, who: &str, receive: Receive) -> Peer {
    let peer = try_login_by(world, key, who, Purpose::Login, receive);
    assert_eq!(world.last_words(peer), None);
    peer
}

fn uid_at_login(world: &World, peer: Peer) -> Uid {
    world.links[peer].welcome.unwrap().uid
}

/// Rolls over and hears of it; returns the new uid.
fn roll_over(world: &mut World, peer: Peer, who: &str, from: usize, to: usize, time_ms: u64) -> Uid {
    roll(world, peer, 1, &statement(who, identity(from), identity(to), time_ms));
    world.settle();
    assert_eq!(world.request_errors(peer), []);
    assert_eq!(world.last_words(peer), Some(ErrorCode::KeyChanged));
    world.links[peer].rolled[0].uid
}

#[test]
fn gives_a_name_to_its_new_key_and_closes_every_connection_of_it() {
    let mut world = World::new();
    let asker = world.register("alice", Receive::No);
    let receiver = world.login("alice", TAKE_OVER);
    let bystander = world.register("bob", TAKE_OVER);
    let old = world.uid("alice");
    publish(&mut world, asker, 9, 40);
    world.settle();
    let new = roll_over(&mut world, asker, "alice", 0, 1, 7);
    assert_eq!(world.links[asker].rolled[0].request, 1);
    assert_ne!(new, old);
    assert_eq!(world.last_words(receiver), Some(ErrorCode::KeyChanged));
    assert!(!world.is_open(asker) && !world.is_open(receiver) && world.is_open(bystander));
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        let old_key = try_login_by(&mut world, 0, "alice", Purpose::Login, Receive::No);
        assert_eq!(world.last_words(old_key), Some(ErrorCode::LoginFailed));
        let again = try_login_by(&mut world, 0, "alice", Purpose::Register, Receive::No);
        assert_eq!(world.last_words(again), Some(ErrorCode::NameTaken));
        let new_key = login_by(&mut world, 1, "alice", TAKE_OVER);
        let welcome = world.links[new_key].welcome.unwrap();
        assert_eq!((welcome.uid, welcome.queued, welcome.receiving), (new, 0, true));
        assert_eq!((welcome.signed_prekey, welcome.prekeys_left), (KeyId::ZERO, 0));
        let registered = try_login_by(&mut world, 1, "alice", Purpose::Register, Receive::No);
        assert_eq!(uid_at_login(&world, registered), new, "registering one's own name logs in");
        lookup(&mut world, new_key, 2, Want::OneTime, of("alice"));
        world.settle();
        assert_eq!(world.request_errors(new_key), [(2, ErrorCode::NoBundle)]);
    }
    // Either key may own other names.
    try_login_by(&mut world, 0, "carol", Purpose::Register, Receive::No);
    let dave = try_login_by(&mut world, 1, "dave", Purpose::Register, Receive::No);
    assert!(world.links[dave].welcome.is_some());
}

#[test]
fn refuses_what_is_for_the_older_uid_and_takes_what_is_for_the_new_one() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    let bob = world.register("bob", Receive::No);
    let old = world.uid("alice");
    world.send(bob, old, 1, 1, b"before");
    world.settle();
    let before = world.delivered(alice);
    world.ack_all(alice, &before);
    world.settle();
    world.results(bob);
    let new = roll_over(&mut world, alice, "alice", 0, 1, 7);
    world.send(bob, old, 1, 2, b"for the old key");
    world.send(bob, Uid::new(77, 1), 1, 3, b"for nobody");
    world.send(bob, new, 1, 4, b"for the new key");
    lookup(&mut world, bob, 5, Want::Address, Whose::Uid(old));
    lookup(&mut world, bob, 6, Want::RollOvers, Whose::Uid(old));
    lookup(&mut world, bob, 7, Want::Address, of("alice"));
    world.settle();
    let expected = [(2, "KEY_CHANGED"), (3, "UNKNOWN_RECIPIENT"), (4, "STORED")];
    assert_eq!(world.results(bob), expected.map(|(number, word)| (number, word.to_owned())));
    let unknown = [(5, ErrorCode::UnknownName), (6, ErrorCode::UnknownName)];
    assert_eq!(world.request_errors(bob), unknown);
    assert_eq!(world.links[bob].found[0].uid, new);
    let alice = login_by(&mut world, 1, "alice", TAKE_OVER);
    let after = world.delivered(alice);
    assert_eq!(after[0].envelope, b"for the new key");
    assert!(after[0].sequence > before[0].sequence, "sequences go on");
    world.restart();
    let bob = world.login("bob", Receive::No);
    world.send(bob, old, 1, 2, b"for the old key");
    world.settle();
    assert_eq!(world.results(bob), all(2, 2, "KEY_CHANGED"));
    let alice = login_by(&mut world, 1, "alice", TAKE_OVER);
    let after = world.delivered(alice);
    assert_eq!(after[0].envelope, b"for the new key", "it was not acknowledged");
}

#[test]
fn refuses_each_statement_that_does_not_fit_and_changes_nothing() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let good = statement("alice", identity(0), identity(1), 7);
    let of_other_name = statement("alicf", identity(0), identity(1), 7);
    let of_other_time = Statement { time_ms: 8, ..good.clone() };
    let same_key = statement("alice", identity(0), identity(0), 7);
    let by_new_twice = Statement { former_signature: good.signature, ..good.clone() };
    let by_old_twice = Statement { signature: good.former_signature, ..good.clone() };
    let other_key = Statement { identity_key: *identity(2).modulus(), ..good.clone() };
    let mut even = good.clone();
    even.identity_key[255] &= 0xfe;
    let mut low = good.clone();
    low.identity_key[0] &= 0x7f;
    let at_zero = statement("alice", identity(0), identity(1), 0);
    let from_stranger = statement("alice", identity(2), identity(1), 7);
    let bad = [
        of_other_name,
        of_other_time,
        same_key,
        by_new_twice,
        by_old_twice,
        other_key,
        even,
        low,
        at_zero,
        from_stranger,
    ];
    for (request, statement) in (1..).zip(&bad) {
        roll(&mut world, alice, request, statement);
        world.settle();
        assert_eq!(world.request_errors(alice), [(request, ErrorCode::BadRoll)], "{request}");
    }
    assert!(world.is_open(alice) && world.links[alice].rolled.is_empty());
    let again = world.login("alice", Receive::No);
    assert_eq!(uid_at_login(&world, again), uid_at_login(&world, alice));
    assert!(!world.disk.log.contains(&"roll"), "nothing was given to the store");
    roll_over(&mut world, alice, "alice", 0, 1, 7);
}

#[test]
fn refuses_a_roll_over_that_was_there_before_or_is_older() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    roll_over(&mut world, alice, "alice", 0, 1, 7);
    world.restart();
    let alice = login_by(&mut world, 1, "alice", Receive::No);
    let replayed = statement("alice", identity(0), identity(1), 7);
    let back_at_once = statement("alice", identity(1), identity(0), 7);
    let back_before = statement("alice", identity(1), identity(0), 6);
    for (request, statement) in (1..).zip([&replayed, &back_at_once, &back_before]) {
        roll(&mut world, alice, request, statement);
        world.settle();
        assert_eq!(world.request_errors(alice), [(request, ErrorCode::BadRoll)], "{request}");
    }
    roll_over(&mut world, alice, "alice", 1, 0, 8);
    // Back at the first key, what it signed once is no more worth than before.
    let alice = login_by(&mut world, 0, "alice", Receive::No);
    roll(&mut world, alice, 1, &replayed);
    world.settle();
    assert_eq!(world.request_errors(alice), [(1, ErrorCode::BadRoll)]);
}

#[test]
fn lets_nobody_else_roll_a_name_over() {
    let mut world = World::new();
    world.claim("alice");
    let mallory = try_login_by(&mut world, 1, "mallory", Purpose::Register, Receive::No);
    roll(&mut world, mallory, 1, &statement("alice", identity(0), identity(2), 7));
    world.settle();
    assert_eq!(world.request_errors(mallory), [(1, ErrorCode::BadRoll)]);
    let early = world.challenged(Purpose::Login);
    roll(&mut world, early, 1, &statement("alice", identity(0), identity(2), 7));
    world.settle();
    assert_eq!(world.last_words(early), Some(ErrorCode::UnexpectedFrame));
    world.login("alice", Receive::No);
}

#[test]
fn waits_for_the_mailbox_to_be_read() {
    let mut world = World::new();
    let uid = world.claim("alice");
    let bob = world.register("bob", Receive::No);
    world.send(bob, uid, 1, 1, b"stored");
    world.settle();
    let alice = world.login("alice", Receive::No);
    let good = statement("alice", identity(0), identity(1), 7);
    roll(&mut world, alice, 1, &good);
    world.settle();
    assert_eq!(world.request_errors(alice), [(1, ErrorCode::MailboxNotEmpty)]);
    let alice = world.login("alice", TAKE_OVER);
    let delivered = world.delivered(alice);
    assert_eq!(delivered.len(), 1);
    roll(&mut world, alice, 2, &good);
    world.settle();
    assert_eq!(world.request_errors(alice), [(2, ErrorCode::MailboxNotEmpty)], "it is not acknowledged");
    world.ack_all(alice, &delivered);
    world.settle();
    world.send(bob, uid, 1, 2, b"forwarded");
    world.settle();
    roll(&mut world, alice, 3, &good);
    world.settle();
    assert_eq!(world.request_errors(alice), [(3, ErrorCode::MailboxNotEmpty)], "nor is this one");
    // An acknowledgement before it in the same turn is enough.
    let delivered = world.delivered(alice);
    world.ack_all(alice, &delivered);
    roll_over(&mut world, alice, "alice", 0, 1, 7);
    let told: Vec<_> = world.results(bob).into_iter().filter(|(_, word)| word == "COLLECTED").collect();
    assert_eq!(told, all(1, 2, "COLLECTED"));
    assert_eq!(world.ring_bytes(), 0);
}

#[test]
fn waits_for_notices_too() {
    let mut world = World::new();
    let bob = world.claim("bob");
    let alice = world.register("alice", Receive::No);
    world.send(alice, bob, 1, 1, b"x");
    world.settle();
    world.hang_up(alice);
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    world.ack_all(bob, &delivered);
    world.settle();
    let alice = world.login("alice", TAKE_OVER);
    let good = statement("alice", identity(0), identity(1), 7);
    roll(&mut world, alice, 1, &good);
    world.settle();
    assert_eq!(world.request_errors(alice), [(1, ErrorCode::MailboxNotEmpty)]);
    let notices = world.delivered(alice);
    assert_eq!(notices[0].notice.unwrap().0, ResultCode::Collected);
    world.ack_all(alice, &notices);
    world.settle();
    roll_over(&mut world, alice, "alice", 0, 1, 7);
}

#[test]
fn refuses_messages_with_busy_while_it_is_written() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    let bob = world.register("bob", Receive::No);
    let old = world.uid("alice");
    world.disk.held = true;
    roll(&mut world, alice, 1, &statement("alice", identity(0), identity(1), 7));
    world.settle();
    world.disk.read(0, NOW);
    world.settle();
    assert_eq!(world.disk.waiting(), (1, 0), "the signatures are verified and it is being written");
    world.send(bob, old, 1, 1, b"x");
    world.send(alice, old, 1, 1, b"to myself");
    world.settle();
    assert_eq!(world.results(bob), all(1, 1, "BUSY"));
    assert_eq!(world.results(alice), all(1, 1, "BUSY"));
    assert!(world.links[alice].rolled.is_empty(), "it is not on the disk yet");
    // Nor may prekeys of the old key come behind it, or another roll-over.
    publish(&mut world, alice, 2, 40);
    roll(&mut world, alice, 3, &statement("alice", identity(0), identity(2), 8));
    world.settle();
    assert_eq!(world.request_errors(alice), [(2, ErrorCode::Busy), (3, ErrorCode::Busy)]);
    let early = try_login_by(&mut world, 1, "alice", Purpose::Login, Receive::No);
    assert_eq!(world.last_words(early), Some(ErrorCode::LoginFailed), "it is not in force yet");
    world.disk.held = false;
    world.settle();
    let new = world.links[alice].rolled[0].uid;
    world.send(bob, old, 1, 1, b"x");
    world.send(bob, new, 1, 2, b"x");
    world.settle();
    assert_eq!(world.results(bob), [(1, "KEY_CHANGED".into()), (2, "STORED".into())]);
}

#[test]
fn says_busy_to_who_asked_before_and_is_answered_after_it() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    let bob = world.register("bob", Receive::No);
    publish(&mut world, alice, 1, 40);
    world.settle();
    world.disk.held = true;
    lookup(&mut world, bob, 1, Want::Bundle, of("alice"));
    lookup(&mut world, bob, 2, Want::RollOvers, of("alice"));
    world.settle();
    // Read before, answered after.
    world.disk.read(0, NOW);
    world.disk.read(0, NOW);
    let late = world.disk.take_answers();
    roll(&mut world, alice, 2, &statement("alice", identity(0), identity(1), 7));
    world.settle();
    world.disk.read(0, NOW);
    world.settle();
    lookup(&mut world, bob, 3, Want::OneTime, of("alice"));
    world.settle();
    world.disk.work(NOW);
    world.settle();
    assert_eq!(world.links[alice].rolled.len(), 1);
    world.disk.give_answers(late);
    world.settle();
    let mut errors = world.request_errors(bob);
    errors.sort_by_key(|(request, _)| *request);
    assert_eq!(errors, [(1, ErrorCode::Busy), (2, ErrorCode::Busy), (3, ErrorCode::Busy)]);
    world.disk.held = false;
    let alice = login_by(&mut world, 1, "alice", Receive::No);
    assert_eq!(world.links[alice].welcome.unwrap().signed_prekey, KeyId::ZERO, "the old one is not back");
}

#[test]
fn changes_nothing_if_it_cannot_be_stored() {
    let mut world = World::new();
    let alice = world.register("alice", TAKE_OVER);
    let bob = world.register("bob", Receive::No);
    publish(&mut world, alice, 1, 40);
    world.settle();
    let good = statement("alice", identity(0), identity(1), 7);
    world.disk.fail_reads(true);
    roll(&mut world, alice, 2, &good);
    world.settle();
    assert_eq!(world.request_errors(alice), [(2, ErrorCode::StoreFailed)]);
    world.disk.fail_reads(false);
    world.advance(1_000);
    // A commit that fails is answered when it can be seen what came of it.
    world.disk.fail(true);
    roll(&mut world, alice, 3, &good);
    world.settle();
    assert_eq!(world.request_errors(alice), []);
    world.send(bob, world.uid("alice"), 1, 1, b"x");
    world.settle();
    assert_eq!(world.results(bob), all(1, 1, "BUSY"));
    world.disk.fail(false);
    world.disk.commit(0, NOW);
    world.settle();
    assert_eq!(world.request_errors(alice), [(3, ErrorCode::StoreFailed)]);
    assert!(world.is_open(alice));
    let again = world.login("alice", Receive::No);
    let welcome = world.links[again].welcome.unwrap();
    assert_eq!((welcome.uid, welcome.prekeys_left), (uid_at_login(&world, alice), 1));
    world.send(bob, welcome.uid, 1, 2, b"y");
    world.settle();
    assert_eq!(world.numbers(alice), [2]);
}

#[test]
fn says_rolled_if_a_commit_that_failed_is_on_the_disk() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    world.disk.fail(true);
    world.disk.apply_failed(true);
    roll(&mut world, alice, 1, &statement("alice", identity(0), identity(1), 7));
    world.settle();
    assert!(world.links[alice].rolled.is_empty() && world.is_open(alice));
    world.disk.fail(false);
    world.disk.commit(0, NOW);
    world.settle();
    assert_eq!(world.links[alice].rolled.len(), 1);
    assert_eq!(world.last_words(alice), Some(ErrorCode::KeyChanged));
    world.restart();
    let again = login_by(&mut world, 1, "alice", Receive::No);
    assert_eq!(uid_at_login(&world, again), world.links[alice].rolled[0].uid);
}

/// Bob acknowledges what Alice sent while her roll-over is being written; she has no connection left that
/// would hear of it.
fn acknowledged_while_written(fails: bool) -> (World, Uid) {
    let mut world = World::new();
    world.claim("bob");
    let sender = world.register("alice", Receive::No);
    world.send(sender, world.uid("bob"), 1, 1, b"x");
    world.settle();
    world.hang_up(sender);
    let alice = world.login("alice", TAKE_OVER);
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    assert_eq!(delivered[0].peer, world.uid("alice"));
    world.disk.fail(fails);
    world.disk.held = true;
    roll(&mut world, alice, 1, &statement("alice", identity(0), identity(1), 7));
    world.settle();
    world.disk.read(0, NOW);
    world.settle();
    world.ack_all(bob, &delivered);
    world.settle();
    assert_eq!(world.delivered(alice), [], "it is held back");
    world.disk.held = false;
    world.settle();
    world.disk.fail(false);
    world.disk.commit(0, NOW);
    world.settle();
    if fails {
        assert_eq!(world.numbers(alice), [1], "and comes now");
    }
    (world, delivered[0].peer)
}

#[test]
fn holds_a_notice_back_until_it_is_known_whose_it_is() {
    acknowledged_while_written(true);
    let (mut world, _) = acknowledged_while_written(false);
    let alice = login_by(&mut world, 1, "alice", TAKE_OVER);
    assert_eq!(world.links[alice].welcome.unwrap().queued, 0, "it was for the old key");
}

#[test]
fn delivers_what_the_old_key_sent_and_tells_the_new_one_nothing_of_it() {
    let mut world = World::new();
    world.claim("bob");
    let alice = world.register("alice", Receive::No);
    let old = world.uid("alice");
    world.send(alice, world.uid("bob"), 1, 1, b"by the old key");
    world.settle();
    roll_over(&mut world, alice, "alice", 0, 1, 7);
    let alice = login_by(&mut world, 1, "alice", TAKE_OVER);
    // The same id is another user's now.
    world.send(alice, world.uid("bob"), 1, 1, b"by the new key");
    world.settle();
    assert_eq!(world.results(alice), all(1, 1, "STORED"));
    let bob = world.login("bob", TAKE_OVER);
    let delivered = world.delivered(bob);
    let peers: Vec<_> = delivered.iter().map(|delivery| delivery.peer).collect();
    assert_eq!(peers, [old, uid_at_login(&world, alice)]);
    world.ack_all(bob, &delivered[..1]);
    world.settle();
    assert_eq!(world.results(alice), []);
    assert_eq!(world.delivered(alice), []);
    world.ack_all(bob, &delivered[1..]);
    world.settle();
    assert_eq!(world.results(alice), all(1, 1, "COLLECTED"));
}

/// Asks for the roll-overs of alice and checks every signature; returns the keys from the oldest on.
fn known_keys(world: &mut World, peer: Peer) -> Vec<Modulus> {
    lookup(world, peer, 1, Want::RollOvers, of("alice"));
    world.settle();
    let keys = world.links[peer].keys.pop().unwrap();
    assert_eq!(keys.request, 1);
    let mut known = vec![keys.oldest];
    let mut last_ms = 0;
    for (time_ms, key, by_former, by_this) in &keys.roll_overs {
        let former = known.last().unwrap();
        let verified = verify_roll_over(&name("alice"), former, key, *time_ms, by_former, by_this);
        assert_eq!(verified, Ok(()));
        assert!(*time_ms > last_ms);
        last_ms = *time_ms;
        known.push(*key);
    }
    known
}

#[test]
fn tells_the_roll_overs_of_a_name_as_a_chain_that_verifies() {
    let mut world = World::new();
    let bob = world.register("bob", Receive::No);
    let mut alice = world.register("alice", Receive::No);
    let mut keys = vec![*identity(0).modulus()];
    let mut uids = vec![world.uid("alice")];
    assert_eq!(known_keys(&mut world, bob), keys, "a name with its first key");
    let rolls = ROLL_OVERS_MAX + 3;
    for number in 0..rolls {
        let (from, to) = (number % 3, (number + 1) % 3);
        uids.push(roll_over(&mut world, alice, "alice", from, to, 100 + number as u64));
        keys.push(*identity(to).modulus());
        let kept = keys.len().saturating_sub(ROLL_OVERS_MAX + 1);
        assert_eq!(known_keys(&mut world, bob), keys[kept..]);
        alice = login_by(&mut world, to, "alice", Receive::No);
        assert_eq!(uid_at_login(&world, alice), *uids.last().unwrap());
    }
    world.restart();
    let bob = world.login("bob", Receive::No);
    assert_eq!(known_keys(&mut world, bob), keys[keys.len() - ROLL_OVERS_MAX - 1..]);
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(uids.len(), rolls + 1, "no uid comes again");
}

#[test]
fn counts_among_the_requests_of_a_connection() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    publish(&mut world, alice, 1, 40);
    world.settle();
    world.disk.held = true;
    let pending = u32::from(REQUESTS_PENDING_MAX);
    for request in 0..pending {
        lookup(&mut world, alice, 10 + request, Want::Bundle, of("alice"));
    }
    let good = statement("alice", identity(0), identity(1), 7);
    roll(&mut world, alice, 2, &good);
    world.settle();
    assert_eq!(world.request_errors(alice), [(2, ErrorCode::Busy)]);
    world.disk.held = false;
    world.settle();
    roll_over(&mut world, alice, "alice", 0, 1, 7);
}

#[test]
fn verifies_a_few_signatures_a_turn_and_leaves_nobody_out() {
    let mut world = World::with_limits(|limits| limits.verifications_per_turn = 1);
    let names: Vec<String> = (0..4).map(|number| format!("user{number}")).collect();
    let peers: Vec<_> = names.iter().map(|name| world.register(name, Receive::No)).collect();
    let waiting: Vec<_> = (0..4).map(|_| world.challenged(Purpose::Register)).collect();
    for ((name, peer), login) in names.iter().zip(&peers).zip(&waiting) {
        roll(&mut world, *peer, 1, &statement(name, identity(0), identity(1), 7));
        world.proof(*login, &format!("new-{name}"), Purpose::Register, Receive::No);
    }
    world.settle();
    for (peer, login) in peers.iter().zip(&waiting) {
        assert_eq!(world.links[*peer].rolled.len(), 1);
        assert!(world.links[*login].welcome.is_some());
    }
}

#[test]
fn drops_a_roll_over_whose_asker_went_before_it_was_verified() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    world.disk.held = true;
    let good = statement("alice", identity(0), identity(1), 7);
    roll(&mut world, alice, 1, &good);
    world.settle();
    world.hang_up(alice);
    world.disk.held = false;
    world.settle();
    let alice = world.login("alice", Receive::No);
    assert!(!world.disk.log.contains(&"roll"));
    // One that is being written happens though its asker is gone.
    world.disk.held = true;
    roll(&mut world, alice, 1, &good);
    world.settle();
    world.disk.read(0, NOW);
    world.settle();
    world.hang_up(alice);
    world.disk.held = false;
    world.settle();
    let old = try_login_by(&mut world, 0, "alice", Purpose::Login, Receive::No);
    assert_eq!(world.last_words(old), Some(ErrorCode::LoginFailed));
    login_by(&mut world, 1, "alice", Receive::No);
}

#[test]
fn answers_a_roll_over_after_the_end_of_input() {
    let mut world = World::new();
    let alice = world.register("alice", Receive::No);
    roll(&mut world, alice, 1, &statement("alice", identity(0), identity(1), 7));
    world.end_of_input(alice);
    world.settle();
    assert_eq!(world.links[alice].rolled.len(), 1);
    assert_eq!(world.last_words(alice), Some(ErrorCode::KeyChanged));
}
