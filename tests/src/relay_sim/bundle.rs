//! What users publish, and what others are given of it: who gets which one-time prekey.
//!
//! Owns: the keys' bytes, PUBLISH and LOOKUP of bundles, and what holds of the answers (spec/wire.md, section 6): what was
//! said to be PUBLISHED is there, and nothing older; each one-time prekey is handed out once. Must not know messages.
//!
//! ```text
//!   modulus:  0x80, kind 1, user 1, signed prekey 4, batch 1, place in it 1, zeros, 0x01
//! ```

use e2e_protocol::ids::{KeyId, Modulus, Signature, Uid};
use e2e_protocol::limits::{BATCH_PREKEYS_MAX, BATCHES_MAX, BODY_BYTES_MAX};
use e2e_protocol::login::key_id;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::directory::{
    Batch, BundleParts, Entry, Lookup, Publish, Published, SignedPrekey, Want, Whose,
};
use sha2::{Digest, Sha256};

use super::world::World;
use super::{LinkIndex, Who, keys};

/// The request numbers of PUBLISHes start here, one for each thing that is published however often it is asked for; those of
/// LOOKUPs of bundles are below.
const PUBLISH_FROM: u32 = 0x4000_0000;
const LOOKUP_FROM: u32 = 10;

/// What a user has published, oldest first. Numbers go on when the name rolls over, and what was before does not count.
#[derive(Default)]
pub(super) struct Shelf {
    prekeys: Vec<Prekey>,
    /// What was not answered: it is asked for again until it is.
    publishing: Option<Publishing>,
    /// How many things were published, in all.
    published: u32,
    /// Connections on which copies of that may be under way.
    asked_on: Vec<LinkIndex>,
    /// Signed prekeys before this one belong to an older key of the name.
    first: usize,
    /// How many one-time prekeys were asked for, and of these requests, how many were answered.
    asked: u64,
    answered: u64,
}

/// A signed prekey: its number is its place.
struct Prekey {
    is_confirmed: bool,
    /// One-time prekeys of each batch, and whether the relay said that it has them.
    batches: Vec<(u8, bool)>,
    /// Requests that were answered before it was published: they took none of them.
    answered_before: u64,
    /// How many of them were handed out and arrived.
    came: u64,
}

/// What was known of somebody's keys when something was asked: the answer can't be older.
#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    /// The newest signed prekey that the relay had for sure, by number.
    confirmed: Option<usize>,
    /// One-time prekeys that it had been given with it for sure, and those that had come.
    sure: u64,
    came: u64,
}

#[derive(Clone, Copy)]
struct Publishing {
    request: u32,
    prekey: usize,
    /// With the signed prekey, not only a batch for it.
    signed: bool,
    batch: Option<u8>,
}

/// A LOOKUP of a bundle that was not answered.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    request: u32,
    to: Who,
    uid: Uid,
    one_time: bool,
    known: Known,
}

/// The kinds of a modulus.
const SIGNED: u8 = 1;
const ONE_TIME: u8 = 2;

fn modulus(kind: u8, who: Who, prekey: usize, batch: u8, place: u8) -> Modulus {
    let mut bytes = [0; 256];
    (bytes[0], bytes[1], bytes[2], bytes[255]) = (0x80, kind, u8::try_from(who).unwrap_or(u8::MAX), 1);
    bytes[3..7].copy_from_slice(&u32::try_from(prekey).unwrap_or(u32::MAX).to_be_bytes());
    (bytes[7], bytes[8]) = (batch, place);
    bytes
}

/// Which signed prekey of this user it is, and which of its batches' keys.
fn read_modulus(bytes: &Modulus, kind: u8, who: Who) -> Option<(usize, u8, u8)> {
    let prekey = u32::from_be_bytes(*bytes[3..].first_chunk()?) as usize;
    let (batch, place) = (bytes[7], bytes[8]);
    (*bytes == modulus(kind, who, prekey, batch, place)).then_some((prekey, batch, place))
}

/// The relay looks at no signature.
fn signature(kind: u8, who: Who, prekey: usize) -> Signature {
    modulus(kind ^ 0xFF, who, prekey, 7, 7)
}

fn made_ms(prekey: usize) -> u64 {
    prekey as u64 + 1
}

impl Shelf {
    /// The name has another key: the relay has nothing of it.
    pub(super) fn clear(&mut self) {
        self.first = self.prekeys.len();
        self.publishing = None;
    }

    /// Whether this was known of the present key's.
    pub(super) fn is_known(&self, known: Known) -> bool {
        known.confirmed.is_some_and(|prekey| prekey >= self.first)
    }

    /// What is known of it now.
    pub(super) fn known(&self) -> Known {
        let confirmed = (self.first..self.prekeys.len()).rev().find(|at| self.prekeys[*at].is_confirmed);
        let Some(prekey) = confirmed.map(|at| &self.prekeys[at]) else { return Known::default() };
        let sure = prekey.batches.iter().filter(|(_, is_confirmed)| *is_confirmed);
        let sure = sure.map(|(count, _)| u64::from(*count)).sum();
        Known { confirmed, sure, came: prekey.came }
    }

    /// What is published was answered there.
    fn forget_asked(&mut self, link: LinkIndex) {
        self.asked_on.retain(|asked| *asked != link);
    }

    /// Whether the relay can have this signed prekey in force, with so many one-time prekeys left, in an answer to what was
    /// asked when this was known.
    fn fits(&self, prekey: usize, left: u64, known: Known) -> bool {
        let Some(present) = self.prekeys.get(prekey) else { return false };
        let all: u64 = present.batches.iter().map(|(count, _)| u64::from(*count)).sum();
        if prekey < self.first || Some(prekey) < known.confirmed {
            return false;
        }
        if Some(prekey) != known.confirmed {
            return left <= all;
        }
        let taken_at_most = self.asked - present.answered_before;
        left + known.came <= all && left + taken_at_most >= known.sure
    }
}

impl World {
    /// Somebody publishes something, or asks again for what was not answered.
    pub(super) fn publish(&mut self, who: Who) {
        let Some(link) = self.own_link(who) else { return };
        let shelf = &mut self.users[who].shelf;
        let (links, boot) = (&self.links.all, self.host.boot);
        shelf.asked_on.retain(|asked| links[*asked].relay_open && links[*asked].boot == boot);
        if shelf.publishing.is_some() {
            if !shelf.asked_on.contains(&link) {
                self.send_publish(who, link);
            }
            return;
        }
        // What is under way must not come after what is newer.
        if !shelf.asked_on.is_empty() {
            return;
        }
        let newest = shelf.prekeys.len().checked_sub(1).filter(|newest| *newest >= shelf.first);
        let may_add = |newest: &usize| {
            let prekey = &shelf.prekeys[*newest];
            prekey.is_confirmed && prekey.batches.len() <= BATCHES_MAX
        };
        let adds = newest.filter(may_add).filter(|_| self.dice.per_mille(700));
        let (prekey, signed) = match adds {
            Some(newest) => (newest, false),
            None => {
                let answered_before = shelf.answered;
                shelf.prekeys.push(Prekey {
                    is_confirmed: false,
                    batches: Vec::new(),
                    answered_before,
                    came: 0,
                });
                (shelf.prekeys.len() - 1, true)
            }
        };
        let count = 1 + u8::try_from(self.dice.below(BATCH_PREKEYS_MAX as u64)).unwrap_or(0);
        let batches = &mut shelf.prekeys[prekey].batches;
        let batch =
            (!signed || self.dice.per_mille(600)).then_some(u8::try_from(batches.len()).unwrap_or(u8::MAX));
        if batch.is_some() {
            batches.push((count, false));
        }
        shelf.published += 1;
        let request = PUBLISH_FROM + shelf.published;
        shelf.publishing = Some(Publishing { request, prekey, signed, batch });
        self.send_publish(who, link);
    }

    fn send_publish(&mut self, who: Who, link: LinkIndex) {
        let shelf = &mut self.users[who].shelf;
        let Some(Publishing { request, prekey, signed, batch }) = shelf.publishing else { return };
        shelf.asked_on.push(link);
        let spk = modulus(SIGNED, who, prekey, 0, 0);
        let signatures = [signature(SIGNED, who, prekey), signature(ONE_TIME, who, prekey)];
        let moduli: Vec<Modulus> = batch.map_or_else(Vec::new, |number| {
            let (count, _) = shelf.prekeys[prekey].batches[usize::from(number)];
            (0..count).map(|place| modulus(ONE_TIME, who, prekey, number, place)).collect()
        });
        let publish = Publish {
            request,
            signed_prekey: signed.then_some(SignedPrekey {
                modulus: &spk,
                made_ms: made_ms(prekey),
                profile: 1,
                signature: &signatures[0],
            }),
            batch: batch.map(|_| Batch {
                signed_prekey: key_id(&spk),
                signature: &signatures[1],
                moduli: &moduli,
            }),
        };
        self.links.all[link].put(BODY_BYTES_MAX, |out| publish.emit(out));
        self.ledger
            .note(self.now_ms, || format!("link {link}: {who} publishes prekey {prekey}, batch {batch:?}"));
    }

    /// A connection on which a user can speak for its present key.
    fn own_link(&self, who: Who) -> Option<LinkIndex> {
        let user = &self.users[who];
        let links = user.receiver.into_iter().chain(user.writers.iter().filter_map(|writer| writer.link));
        let is_fit = |link: &LinkIndex| {
            let link = &self.links.all[*link];
            link.is_speaking() && link.key == user.key && link.uid == user.uid
        };
        links.filter(|_| user.rolling.is_none()).find(is_fit)
    }

    /// PUBLISHED came.
    pub(super) fn take_published(&mut self, index: LinkIndex, published: &Published) {
        let link = &self.links.all[index];
        let who = link.who;
        let is_present = link.uid == self.users[who].uid;
        let shelf = &mut self.users[who].shelf;
        shelf.forget_asked(index);
        // Else it is the answer to a copy, read late, of what was asked for again elsewhere, or before.
        let is_its = |publishing: &mut Publishing| is_present && publishing.request == published.request;
        let Some(Publishing { prekey, batch, .. }) = shelf.publishing.take_if(is_its) else { return };
        shelf.prekeys[prekey].is_confirmed = true;
        if let Some(batch) = batch {
            shelf.prekeys[prekey].batches[usize::from(batch)].1 = true;
        }
        self.ledger.counts.published += 1;
        let known = Known { came: 0, ..shelf.known() };
        self.look_at_count(who, published.signed_prekey, published.prekeys_left, known);
    }

    /// An ERROR answered a PUBLISH.
    fn take_publish_error(&mut self, index: LinkIndex, request: u32, code: Option<ErrorCode>) {
        let who = self.links.all[index].who;
        let shelf = &mut self.users[who].shelf;
        shelf.forget_asked(index);
        let its = shelf.publishing.filter(|publishing| publishing.request == request);
        let is_fair = match (code, its) {
            // It is asked for again.
            (Some(ErrorCode::Busy | ErrorCode::StoreFailed), _) => true,
            // A copy of what was answered, or of what an older key of the name asked for.
            (Some(ErrorCode::PrekeysFull), None) => true,
            (Some(ErrorCode::PrekeysFull), Some(Publishing { prekey, batch, .. })) => {
                shelf.publishing = None;
                let batches = &mut shelf.prekeys[prekey].batches;
                let is_one_too_many = batch.is_some_and(|batch| usize::from(batch) >= BATCHES_MAX);
                is_one_too_many && batches.pop().is_some()
            }
            _ => false,
        };
        if !is_fair {
            self.ledger.violation(format!("what {who} publishes is refused: {code:?}"));
        }
    }

    /// What the relay says that it has of somebody: in PUBLISHED and in WELCOME.
    pub(super) fn look_at_count(&mut self, who: Who, kid: KeyId, left: u16, known: Known) {
        let shelf = &self.users[who].shelf;
        let of = |at: &usize| key_id(&modulus(SIGNED, who, *at, 0, 0)) == kid;
        let prekey = (shelf.first..shelf.prekeys.len()).rev().find(of);
        let is_fit = match prekey {
            None => kid == KeyId::ZERO && known.confirmed.is_none() && left == 0,
            Some(prekey) => shelf.fits(prekey, left.into(), known),
        };
        if !is_fit {
            let told =
                format!("{who} has {left} left of prekey {prekey:?}, but was told of {:?}", known.confirmed);
            self.ledger.violation(told);
        }
    }

    /// Asks for somebody's keys.
    pub(super) fn ask_for_bundle(&mut self, who: Who, to: Who) {
        let Some(link) = self.own_link(who) else { return };
        let one_time = self.dice.per_mille(800);
        let user = &mut self.users[to];
        user.shelf.asked += u64::from(one_time);
        let (uid, known) = (user.uid, user.shelf.known());
        let link = &mut self.links.all[link];
        let request = LOOKUP_FROM + link.asked_in_all;
        link.asked_in_all += 1;
        link.asked.push(Asked { request, to, uid, one_time, known });
        let want = if one_time { Want::OneTime } else { Want::Bundle };
        let lookup = Lookup { request, want, whose: Whose::Name(*keys::name(to)) };
        link.put(BODY_BYTES_MAX, |out| lookup.emit(out));
    }

    /// The LOOKUP that is answered.
    fn take_asked(&mut self, index: LinkIndex, request: u32) -> Option<Asked> {
        let asked = &mut self.links.all[index].asked;
        let at = asked.iter().position(|asked| asked.request == request)?;
        let asked = asked.swap_remove(at);
        self.users[asked.to].shelf.answered += u64::from(asked.one_time);
        Some(asked)
    }

    /// An ERROR answered one of the requests of this module; returns whether it did.
    pub(super) fn take_bundle_error(
        &mut self,
        index: LinkIndex,
        request: u32,
        code: Option<ErrorCode>,
    ) -> bool {
        if request >= PUBLISH_FROM {
            self.take_publish_error(index, request, code);
        } else if let Some(asked) = self.take_asked(index, request) {
            let is_same = self.users[asked.to].uid == asked.uid;
            let is_fair = match code {
                // With a roll-over they are gone, whether or not it is known of already.
                Some(ErrorCode::NoBundle) => {
                    asked.known.confirmed.is_none() || !is_same || self.is_rolling(asked.to)
                }
                Some(ErrorCode::Busy | ErrorCode::StoreFailed) => true,
                _ => false,
            };
            if !is_fair {
                self.ledger.violation(format!("a bundle of {} is refused: {code:?}", asked.to));
            }
        } else {
            return false;
        }
        true
    }

    /// An ENTRY with a bundle came.
    pub(super) fn take_bundle(&mut self, index: LinkIndex, entry: &Entry<'_>, parts: &BundleParts<'_>) {
        let Some(asked) = self.take_asked(index, entry.request) else {
            return self.ledger.violation(format!("link {index}: a bundle that nobody asked for"));
        };
        self.ledger.counts.bundles += 1;
        let to = asked.to;
        let signed = &parts.signed_prekey;
        let shelf = &self.users[to].shelf;
        let Some((prekey, _, _)) = read_modulus(signed.modulus, SIGNED, to) else {
            return self.ledger.violation(format!("a signed prekey that {to} never made"));
        };
        let is_its_own = (signed.made_ms, signed.profile) == (made_ms(prekey), 1)
            && *signed.signature == signature(SIGNED, to, prekey)
            && entry.name == *keys::name(to);
        // What the name's older key had may be given until it has the new one.
        let is_present = entry.uid == self.users[to].uid;
        let known = if asked.uid == entry.uid { asked.known } else { Known::default() };
        let is_fit = !is_present || shelf.fits(prekey, entry.prekeys_left.into(), known);
        if !is_its_own || !is_fit {
            let told =
                format!("{to}: prekey {prekey}, {} left, after {:?}", entry.prekeys_left, known.confirmed);
            self.ledger.violation(told);
        }
        let Some(one_time) = parts.one_time else { return };
        let key = read_modulus(one_time.modulus, ONE_TIME, to);
        let batches = self.users[to].shelf.prekeys.get(prekey).map(|prekey| prekey.batches.as_slice());
        let is_made = key.is_some_and(|(of, batch, place)| {
            let batch = batches.and_then(|batches| batches.get(usize::from(batch)));
            let hash: [u8; 32] = Sha256::digest(one_time.modulus).into();
            of == prekey
                && batch
                    .is_some_and(|(count, _)| place < *count && one_time.hashes.len() == usize::from(*count))
                && one_time.hashes.get(usize::from(place)) == Some(&hash)
                && *one_time.signature == signature(ONE_TIME, to, prekey)
        });
        if !is_made || !asked.one_time {
            return self
                .ledger
                .violation(format!("a one-time prekey {key:?} of {to}, asked: {}", asked.one_time));
        }
        if !self.handed_out.insert(*one_time.modulus) {
            return self.ledger.violation(format!("the one-time prekey {key:?} of {to} is handed out twice"));
        }
        self.users[to].shelf.prekeys[prekey].came += 1;
        self.ledger.counts.handed_out += 1;
    }
}
