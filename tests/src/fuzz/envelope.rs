//! What a stranger, or the relay, can put into an envelope or a bundle (spec/crypto.md, "Receiving").
//!
//! Owns: that nobody without the keys changes anything: what is not exactly what was sealed is refused, and leaves the
//! state as it was.

use e2e_protocol::e2e::{
    Bundle, EncryptError, Inbox, Kind, OneTime, Opened, Peer, Plaintext, PreambleMemory, Prekeys, Profile,
    RatchetKeys, Records,
};
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::{Frame, Parsed};

use super::conversation::{ALICE, BOB, Home, NOW_MS, entry, homes, rng};
use super::edits::{edit, reseal};
use super::input::Input;
use crate::sessions::keys::{RATCHETS, me, name, pool};

/// The first byte says what: an envelope made of one of the conversation's, one of any bytes, or a bundle.
pub(super) fn open(data: &[u8]) {
    let mut input = Input::new(data);
    match input.index(4) {
        0 => use_bundle(&mut input),
        1 => {
            let home = &homes()[input.index(homes().len())];
            Reader::new(home).read(input.rest(), None);
        }
        _ => {
            let home = &homes()[input.index(homes().len())];
            let genuine = &home.envelopes[input.index(home.envelopes.len())];
            let mut envelope = genuine.clone();
            edit(&mut envelope, &mut input);
            Reader::new(home).read(&envelope, Some(genuine));
        }
    }
}

/// Bob, with what his home holds in memory.
struct Reader {
    profile: Profile,
    prekeys: Prekeys,
    peer: Peer,
    records: Records,
    preambles: PreambleMemory,
    genuine: &'static [Vec<u8>],
}

impl Reader {
    fn new(home: &'static Home) -> Self {
        let mut records = Records::new();
        home.records.iter().for_each(|record| drop(records.push(record)));
        Self {
            profile: home.profile,
            prekeys: Prekeys::decode(&home.prekeys).expect("what was encoded"),
            peer: Peer::decode(&home.peer).expect("what was encoded"),
            records,
            preambles: PreambleMemory::new(),
            genuine: &home.envelopes,
        }
    }

    fn state(&self) -> (Vec<u8>, Vec<u8>) {
        (self.peer.encode().to_vec(), self.prekeys.encode().to_vec())
    }

    fn decrypt(&mut self, envelope: &[u8]) -> Result<Opened, e2e_protocol::e2e::Reject> {
        let mut inbox = Inbox {
            me: me(BOB, self.profile),
            prekeys: &mut self.prekeys,
            records: &self.records,
            preambles: &mut self.preambles,
        };
        self.peer.decrypt(&mut inbox, envelope, NOW_MS, &mut rng())
    }

    /// Opens an envelope, which was made of `genuine` if of any.
    fn read(&mut self, envelope: &[u8], genuine: Option<&Vec<u8>>) {
        let before = self.state();
        let is_genuine = self.genuine.iter().any(|genuine| genuine == envelope);
        match self.decrypt(envelope) {
            Ok(Opened::New(_)) => assert!(is_genuine, "nobody sealed it"),
            Ok(Opened::Again(receipt)) => {
                assert!(self.records.iter().any(|record| record.receipt == receipt), "a receipt of its own");
                assert_eq!(self.state(), before);
            }
            Err(reject) => {
                assert!(!is_genuine, "{}", reject.reason);
                assert!(!reject.commit, "a stranger ends a session: {}", reject.reason);
                assert_eq!(self.state(), before, "{}", reject.reason);
                self.open_all_the_same(genuine);
            }
        }
        assert!(self.prekeys.private_operations() <= 3);
    }

    /// What was forged does not spoil what it was forged of. Only where that takes no private operation.
    fn open_all_the_same(&mut self, genuine: Option<&Vec<u8>>) {
        let is_cheap = |envelope: &&Vec<u8>| envelope.get(1) == Some(&1) && envelope[34..36] == [0, 0];
        if let Some(genuine) = genuine.filter(is_cheap) {
            let opened = self.decrypt(genuine);
            assert!(opened.is_ok(), "it would have been opened before");
        }
    }
}

/// Alice writes to bob with keys that the relay gives her.
fn use_bundle(input: &mut Input<'_>) {
    let (profile, one_time) = (input.pick(&[Profile::Strict, Profile::Light]), input.index(2) == 1);
    let genuine = entry(BOB, profile, one_time, 1);
    let mut given = genuine.clone();
    edit(&mut given, input);
    reseal(&mut given);
    let Ok(Parsed::Frame(Frame::Entry(found), _)) = Frame::parse(&given, BODY_BYTES_MAX) else { return };
    let Some(parts) = found.bundle else { return };
    let bundle = Bundle {
        identity: parts.identity_key,
        spk: parts.signed_prekey.modulus,
        made_ms: parts.signed_prekey.made_ms,
        profile: parts.signed_prekey.profile,
        signature: parts.signed_prekey.signature,
        one_time: parts.one_time.map(|one_time| OneTime {
            modulus: one_time.modulus,
            hashes: one_time.hashes,
            signature: one_time.signature,
        }),
    };
    // She has met him, or not.
    let known = input.index(2) == 1;
    let mut peer = match known {
        true => Peer::pinned(*name(BOB), me(BOB, profile).identity.modulus(), false),
        false => Peer::new(*name(BOB)),
    };
    let before = peer.encode();
    let mut keys = RatchetKeys::new();
    keys.add(&pool()[RATCHETS.start]);
    let mut rng = rng();
    let plaintext = Plaintext::new(Kind::Text, b"hello".to_vec(), NOW_MS, &mut rng);
    match peer.encrypt(me(ALICE, Profile::Light), &plaintext, Some(&bundle), &mut keys, NOW_MS, &mut rng) {
        // What stands before the bundle is the relay's word: request, uid, fingerprint, prekeys left, name.
        Ok(_) => {
            let signed = 20 + 4 + 8 + 32 + 2 + 2 + 1 + name(BOB).as_bytes().len();
            assert_eq!(given.get(signed..), genuine.get(signed..), "bob did not sign it");
        }
        Err(EncryptError::BadBundle(_) | EncryptError::KeyChanged(_)) => {
            assert_eq!(*peer.encode(), *before, "nothing comes of what is refused");
        }
        Err(other) => panic!("{other}"),
    }
}
