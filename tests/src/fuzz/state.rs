//! A client's files as damage, another version or somebody else's hand may leave them.
//!
//! Owns: that reading them ends in content or in an error, never in a panic, and that what was read is written back as
//! something that is read as the same.

use e2e_client::state::export::Export;
use e2e_client::state::{OutboxItem, PeerItem};
use e2e_protocol::e2e::at_rest::{KeyParameters, StateKeys};
use e2e_protocol::e2e::{
    Identity, Inbox, KeyPair, Kind, PRIME_BYTES, Peer, Plaintext, PreambleMemory, Prekeys, Profile,
    RatchetKeys, Records,
};
use e2e_protocol::login::check_modulus;

use super::conversation::{ALICE, BOB, NOW_MS, homes, rng};
use super::edits::edit;
use super::input::Input;
use crate::sessions::keys::{RATCHETS, me, name, pool};

/// What every protected file here is under. The cost is the least that is read, so that it costs nothing.
pub(super) const PASSPHRASE: &[u8] = b"open sesame";
pub(super) const PARAMETERS: KeyParameters = KeyParameters { log2_n: 1, salt: *b"salt of the fuzz" };

/// The first byte says which file, the rest is what is in it, or how it differs from a good one.
pub(super) fn files(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() {
        0 => identity(input.rest()),
        1 => primes(&mut input),
        2 => drop(again(input.rest(), Prekeys::decode, |prekeys| prekeys.encode().to_vec())),
        3 => drop(again(input.rest(), RatchetKeys::decode, |keys| keys.encode().to_vec())),
        4 => peer(input.rest()),
        5 => {
            let mut bytes = homes()[input.index(homes().len())].peer.clone();
            edit(&mut bytes, &mut input);
            peer(&bytes);
        }
        6 => records(&mut input),
        7 => {
            let decode = |bytes: &[u8]| OutboxItem::decode(bytes).ok_or(());
            drop(again(input.rest(), decode, |item| item.encode().to_vec()));
        }
        8 => protected(input.rest()),
        9 => export(input.rest()),
        _ => {
            let mut file = exported();
            edit(&mut file, &mut input);
            let _ = open_export(&file);
        }
    }
}

/// What is read is written as something that is read as the same. (Not all that is read is what would be written: where a
/// field does not count, any value is taken.)
fn again<T, E>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    let value = decode(bytes).ok()?;
    let once = encode(&value);
    let Ok(twice) = decode(&once) else { panic!("what was written is not read") };
    assert!(encode(&twice) == once, "what was written is read as something else");
    Some(value)
}

fn identity(bytes: &[u8]) {
    if let Ok(identity) = Identity::decode(bytes) {
        assert!(check_modulus(identity.modulus()).is_ok());
        assert_eq!(*identity.encode(), bytes);
    }
}

/// A key of two numbers that are primes, or nearly.
fn primes(input: &mut Input<'_>) {
    let of_key = pool()[RATCHETS.start].modulus();
    let mut number = || -> [u8; PRIME_BYTES] {
        let mut bytes = match input.index(4) {
            0 => vec![0; PRIME_BYTES],
            1 => of_key[..PRIME_BYTES].to_vec(),
            2 => vec![0xFF; PRIME_BYTES],
            _ => known_primes()[input.index(2)].to_vec(),
        };
        edit(&mut bytes, input);
        bytes.resize(PRIME_BYTES, 1);
        bytes.try_into().expect("its length was just made")
    };
    let (p, q) = (number(), number());
    if let Ok(pair) = KeyPair::from_primes(&p, &q) {
        assert!(check_modulus(pair.modulus()).is_ok());
    }
}

/// Those of a pool key: they stand last in an identity's bytes.
fn known_primes() -> [[u8; PRIME_BYTES]; 2] {
    let encoded = me(ALICE, Profile::Light).identity.encode();
    let primes = encoded[encoded.len() - 2 * PRIME_BYTES..].as_chunks().0;
    [primes[0], primes[1]]
}

/// What is known of a peer, and then used.
fn peer(bytes: &[u8]) {
    let Some(mut peer) = again(bytes, Peer::decode, |peer| peer.encode().to_vec()) else { return };
    let _ = (peer.missing(), peer.needs_empty_message(NOW_MS), peer.identity(), peer.changed());
    let home = &homes()[4];
    let mut prekeys = Prekeys::decode(&home.prekeys).expect("what was encoded");
    let records = Records::new();
    let mut preambles = PreambleMemory::new();
    for envelope in [&home.envelopes[0], &home.envelopes[4]] {
        let me = me(BOB, home.profile);
        let mut inbox = Inbox { me, prekeys: &mut prekeys, records: &records, preambles: &mut preambles };
        let _ = peer.decrypt(&mut inbox, envelope, NOW_MS, &mut rng());
    }
    let mut keys = RatchetKeys::new();
    keys.add(&pool()[RATCHETS.start]);
    let plaintext = Plaintext::new(Kind::Text, b"hello".to_vec(), NOW_MS, &mut rng());
    let _ = peer.encrypt(me(BOB, home.profile), &plaintext, None, &mut keys, NOW_MS, &mut rng());
    let item = PeerItem { uid: e2e_protocol::ids::Uid(7), peer };
    let encoded = item.encode();
    assert!(PeerItem::decode(&encoded, item.peer.name()).is_some(), "what was written is read");
}

/// Segments of records, each with its number.
fn records(input: &mut Input<'_>) {
    let mut segments = Vec::new();
    while !input.is_empty() && segments.len() < 8 {
        let number = if input.index(2) == 0 { u64::from(input.u8()) } else { input.u64() };
        let mut content = input.counted().to_vec();
        // A fuzzer does not find whole records by itself.
        let whole = content.len().next_multiple_of(112);
        content.resize(whole, 7);
        segments.push((number, content));
    }
    let borrowed = segments.iter().map(|(number, content)| (*number, content.as_slice()));
    let Ok(mut records) = Records::decode(borrowed) else { return };
    let kept = records.iter().count();
    assert_eq!(kept, segments.iter().map(|(_, content)| content.len() / 112).sum::<usize>());
    for (number, content) in &segments {
        assert_eq!(records.segment(*number), Some(content.as_slice()));
    }
    let record = homes()[4].records[0];
    let changed = records.push(&record);
    assert!(records.segment(changed.write).is_some(), "the record is in it");
}

pub(super) fn keys() -> &'static StateKeys {
    static KEYS: std::sync::OnceLock<StateKeys> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| StateKeys::derive(PASSPHRASE, PARAMETERS).expect("a possible cost"))
}

/// A protected file: any bytes, and any content that is under the right keys.
fn protected(bytes: &[u8]) {
    assert!(keys().open("identity", bytes).is_err(), "nobody sealed it");
    let sealed = keys().seal("identity", bytes, &mut rng());
    assert!(keys().open("identity", &sealed).is_ok_and(|content| *content == bytes));
    assert!(keys().open("account", &sealed).is_err(), "it is another file's");
    let cut = &sealed[..sealed.len() - 1];
    assert!(keys().open("identity", cut).is_err());
}

/// An export whose passphrase is right, with any content.
fn export(content: &[u8]) {
    let _ = open_export(content);
    let sealed = keys().seal("export", content, &mut rng());
    if let Some(export) = open_export(&sealed) {
        let again =
            export.seal(PASSPHRASE, PARAMETERS, &mut rng()).unwrap_or_else(|_| panic!("it has a name"));
        assert!(keys().open("export", &again).is_ok_and(|again| *again == content), "it has one form");
    }
}

/// Without the work that a file may ask for.
fn open_export(file: &[u8]) -> Option<Export> {
    let is_cheap = KeyParameters::of(file).is_ok_and(|parameters| parameters.log2_n <= 2);
    if is_cheap { Export::open(file, PASSPHRASE).ok() } else { None }
}

/// One that is good.
fn exported() -> Vec<u8> {
    keys().seal("export", &exported_content(), &mut rng())
}

/// What is in it.
pub(super) fn exported_content() -> Vec<u8> {
    let name = name(ALICE).as_bytes();
    let mut content = vec![1, 0, 0, 0, u8::try_from(name.len()).expect("a short name")];
    content.extend_from_slice(name);
    content.extend_from_slice(&me(ALICE, Profile::Light).identity.encode());
    content.extend_from_slice(&[7; 32]);
    content.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1]);
    content.extend_from_slice(&[0, 0, 0, 3]);
    content.extend_from_slice(b"bob");
    content.extend_from_slice(me(BOB, Profile::Light).identity.modulus());
    content.push(1);
    content
}
