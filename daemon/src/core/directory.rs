//! LOOKUP and PUBLISH (spec/wire.md, section 6); ROLL and REMOVE are in `ownership`.
//!
//! Owns: requests to the directory and the answers that a connection waits for. Addresses are in
//! memory, keys in the store. Must not know what a signature is over: it passes them on.

use e2e_protocol::ids::{Fingerprint, Name, Uid};
use e2e_protocol::limits::{BODY_BYTES_MAX, HEADER_BYTES, REQUESTS_PENDING_MAX};
use e2e_protocol::login::check_modulus;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::directory::{
    BundleParts, Entry, Lookup, OneTimePrekey, Publish, Published, SignedPrekey, Want, Whose,
};

use e2e_protocol::wire::roll::{RollOver, Rolls};

use super::rates::{Act, Rate, per_hour, per_minute};
use super::{Action, ConnId, Core};
use crate::reason::Reason;
use crate::store::{
    BundleRecord, KeyHistory, PrekeyBatchRecord, PrekeyCount, PublishError, Request, RollOverRecord,
    SignedPrekeyRecord, StoreErrorKind, StoredToken,
};

/// What a connection waits for the store for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// The WELCOME of a registration; the token that it took, if that was good for one name.
    Register(ConnId, Option<Box<StoredToken>>),
    /// The answer to a request.
    Request {
        /// Whose.
        id: ConnId,
        /// Which.
        request: u32,
        /// What it is about: a name can change hands before the store answers.
        of: Uid,
    },
}

/// What an ENTRY says of a user besides the bundle.
struct Address {
    uid: Uid,
    fingerprint: Fingerprint,
    name: Name,
}

impl Core {
    pub(super) fn handle_lookup(&mut self, id: ConnId, asker: u32, lookup: Lookup) {
        let rate = per_minute(self.limits.lookups_per_name_minute);
        if !self.may_ask(id, lookup.request, Act::Lookup(asker), rate) {
            return;
        }
        let slot = match lookup.whose {
            Whose::Name(name) => self.users.slot_of(&name),
            Whose::Uid(uid) => self.users.with_uid(uid).map(|_| uid.slot()),
        };
        let found = slot.and_then(|slot| self.address(slot).map(|address| (slot, address)));
        let Some((slot, address)) = found else {
            return self.push_error(id, ErrorCode::UnknownName, lookup.request, "nobody has this name");
        };
        if lookup.want == Want::Address {
            return self.push_entry(id, lookup.request, &address, 0, None);
        }
        if lookup.want != Want::RollOvers && self.blocks.holds(slot, asker) {
            return self.push_error(
                id,
                ErrorCode::Blocked,
                lookup.request,
                "this name has blocked the asker",
            );
        }
        if self.store_is_failing() {
            return self.push_error(id, ErrorCode::StoreFailed, lookup.request, "the relay's disk failed");
        }
        if let Some(token) = self.ask(id, lookup.request, address.uid) {
            let wanted = lookup.want == Want::OneTime;
            let one_time = wanted && self.may_hand_out(asker, slot);
            if wanted && !one_time {
                self.counters.count(Reason::PrekeyWithheld);
            }
            self.actions.push_back(Action::Store(match lookup.want {
                Want::RollOvers => Request::ReadKeys { slot, token },
                _ => Request::TakeBundle { slot, one_time, token },
            }));
        }
    }

    /// Whether this may be asked for now; BUSY is said if not.
    pub(super) fn may_ask(&mut self, id: ConnId, request: u32, act: Act, rate: Rate) -> bool {
        match self.rates.take(act, rate, self.now.monotonic_ms) {
            Ok(()) => true,
            Err(seconds) => {
                let text = "this was asked for too often";
                self.push_error_after(id, ErrorCode::Busy, request, seconds, text);
                false
            }
        }
    }

    /// Whether a one-time prekey may be handed out to the asker, so that nobody uses up another's. If not, the
    /// bundle goes without one, as if there were none left.
    fn may_hand_out(&mut self, asker: u32, owner: u32) -> bool {
        let now_ms = self.now.monotonic_ms;
        let acts = [
            (Act::TakePrekeyOf(asker, owner), per_hour(self.limits.prekeys_per_pair_hour)),
            (Act::TakePrekey(asker), per_hour(self.limits.prekeys_per_asker_hour)),
            (Act::GivePrekey(owner), per_hour(self.limits.prekeys_per_owner_hour)),
        ];
        let may = acts.iter().all(|(act, rate)| self.rates.check(*act, *rate, now_ms).is_ok());
        may && acts.iter().all(|(act, rate)| self.rates.take(*act, *rate, now_ms).is_ok())
    }

    pub(super) fn handle_publish(&mut self, id: ConnId, slot: u32, publish: &Publish<'_>) {
        let rate = per_hour(self.limits.publishes_per_name_hour);
        if !self.may_ask(id, publish.request, Act::Publish(slot), rate) {
            return;
        }
        let signed_prekey = publish.signed_prekey.map(|prekey| {
            Box::new(SignedPrekeyRecord {
                modulus: *prekey.modulus,
                made: prekey.made_ms,
                profile: prekey.profile,
                signature: *prekey.signature,
            })
        });
        let batch = publish.batch.map(|batch| {
            Box::new(PrekeyBatchRecord {
                signed_prekey: batch.signed_prekey,
                signature: *batch.signature,
                moduli: batch.moduli.to_vec(),
            })
        });
        let mut moduli = signed_prekey
            .iter()
            .map(|prekey| &prekey.modulus)
            .chain(batch.iter().flat_map(|batch| &batch.moduli));
        if !moduli.all(|modulus| check_modulus(modulus).is_ok()) {
            return self.push_error(id, ErrorCode::BadBundle, publish.request, "not a modulus of RSA-2048");
        }
        if !self.takes_new() {
            return self.push_error(
                id,
                ErrorCode::StoreFailed,
                publish.request,
                "the relay's disk failed or is full",
            );
        }
        if self.is_changing_hands(slot) {
            return self.push_error(id, ErrorCode::Busy, publish.request, "the name is changing hands");
        }
        let uid = self.uid(slot);
        if let Some(token) = self.ask(id, publish.request, uid) {
            self.actions.push_back(Action::Store(Request::Publish { slot, signed_prekey, batch, token }));
        }
    }

    pub(super) fn handle_published(
        &mut self,
        slot: u32,
        token: u64,
        result: Result<PrekeyCount, PublishError>,
    ) {
        if let (Ok(count), Some(user)) = (&result, self.users.at(slot)) {
            user.prekeys = *count;
        }
        let Some((id, request)) = self.answered(token) else { return };
        match result {
            Ok(count) => {
                let published = Published {
                    request,
                    signed_prekey: count.signed_prekey,
                    prekeys_left: count.one_time_left.into(),
                };
                self.push(id, HEADER_BYTES + 16, |out| published.emit(out));
            }
            Err(PublishError::BatchesFull) => {
                self.push_error(id, ErrorCode::PrekeysFull, request, "8 batches are there already");
            }
            Err(PublishError::Store(error)) => self.store_error(id, request, error),
            Err(_) => {
                let text = "the batch is not for the signed prekey in force";
                self.push_error(id, ErrorCode::BadBundle, request, text);
            }
        }
    }

    pub(super) fn handle_bundle(
        &mut self,
        slot: u32,
        token: u64,
        result: Result<Option<Box<BundleRecord>>, StoreErrorKind>,
    ) {
        let of = self.asked_about(token);
        let address = self.address(slot).filter(|address| Some(address.uid) == of);
        if let (Ok(Some(record)), Some(user)) = (&result, self.users.at(slot).filter(|_| address.is_some())) {
            user.prekeys = record.left;
        }
        let Some((id, request)) = self.answered(token) else { return };
        match (result, address) {
            // What was read is the former key's, or this may be.
            (Ok(_), None) => self.push_error(id, ErrorCode::Busy, request, "the key changed meanwhile"),
            (Ok(Some(record)), Some(address)) => {
                let left = record.left.one_time_left.into();
                self.push_entry(id, request, &address, left, Some(bundle_parts(&record)));
            }
            (Ok(None), Some(_)) => {
                self.push_error(id, ErrorCode::NoBundle, request, "this user has published no prekeys yet");
            }
            (Err(error), _) => self.store_error(id, request, error),
        }
    }

    /// Answers a LOOKUP of roll-overs, or lets a change of the name go on that had to know the key in force.
    pub(super) fn handle_keys(
        &mut self,
        slot: u32,
        token: u64,
        result: Result<Option<Box<KeyHistory>>, StoreErrorKind>,
    ) {
        let result = result.and_then(|keys| keys.ok_or(StoreErrorKind::Corrupted));
        if self.is_changing(slot, token) {
            return self.handle_key_in_force(slot, result);
        }
        let is_present = self.asked_about(token) == Some(self.uid(slot));
        let Some((id, request)) = self.answered(token) else { return };
        match result {
            Ok(_) if !is_present => {
                self.push_error(id, ErrorCode::Busy, request, "the key changed meanwhile");
            }
            Ok(keys) => {
                let roll_overs: Vec<_> =
                    keys.roll_overs.iter().map(|record| wire(record).to_bytes()).collect();
                let rolls = Rolls { request, oldest: &keys.oldest, roll_overs: &roll_overs };
                self.push(id, HEADER_BYTES + BODY_BYTES_MAX, |out| rolls.emit(out));
            }
            Err(error) => self.store_error(id, request, error),
        }
    }

    fn address(&mut self, slot: u32) -> Option<Address> {
        let user = self.users.at(slot).filter(|user| user.registered)?;
        let uid = Uid::new(slot, user.generation);
        Some(Address { uid, fingerprint: user.fingerprint, name: user.name })
    }

    fn push_entry(
        &mut self,
        id: ConnId,
        request: u32,
        address: &Address,
        prekeys_left: u16,
        bundle: Option<BundleParts<'_>>,
    ) {
        let Address { uid, fingerprint, name } = *address;
        let entry = Entry { request, uid, fingerprint, prekeys_left, name, bundle };
        self.push(id, HEADER_BYTES + BODY_BYTES_MAX, |out| entry.emit(out));
    }

    /// Notes that this request waits for the store; `None`, and BUSY said, if too many do.
    pub(super) fn ask(&mut self, id: ConnId, request: u32, of: Uid) -> Option<u64> {
        let full = self.pending.len() >= self.limits.requests_max;
        let connection = self.connections.get_mut(id)?;
        if full || connection.requests_pending >= REQUESTS_PENDING_MAX {
            self.push_error(id, ErrorCode::Busy, request, "too many requests wait for an answer");
            return None;
        }
        connection.requests_pending += 1;
        let token = self.token();
        self.pending.insert(token, Pending::Request { id, request, of });
        Some(token)
    }

    /// Who waited for this answer, if they still are there.
    pub(super) fn answered(&mut self, token: u64) -> Option<(ConnId, u32)> {
        let Some(Pending::Request { id, request, .. }) = self.pending.remove(&token) else { return None };
        let mut is_ready = false;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.requests_pending = connection.requests_pending.saturating_sub(1);
            is_ready = connection.slot().is_some();
            self.flush_later(id);
        }
        if !is_ready {
            self.counters.count(Reason::Unheard);
        }
        is_ready.then_some((id, request))
    }

    /// What a request is about that waits for an answer.
    fn asked_about(&self, token: u64) -> Option<Uid> {
        match self.pending.get(&token)? {
            Pending::Request { of, .. } => Some(*of),
            Pending::Register(..) => None,
        }
    }

    pub(super) fn store_error(&mut self, id: ConnId, request: u32, error: StoreErrorKind) {
        log::error!("the directory's disk failed: {error}");
        // One record that is lost fails those who ask for it, and nobody else.
        if error != StoreErrorKind::Corrupted {
            self.store_failed();
        }
        self.push_error(id, ErrorCode::StoreFailed, request, "the relay's disk failed");
    }
}

fn wire(record: &RollOverRecord) -> RollOver<'_> {
    RollOver {
        time_ms: record.time,
        identity_key: &record.identity_key,
        former_signature: &record.former_signature,
        signature: &record.signature,
    }
}

fn bundle_parts(record: &BundleRecord) -> BundleParts<'_> {
    BundleParts {
        identity_key: &record.identity_key,
        signed_prekey: SignedPrekey {
            modulus: &record.signed_prekey.modulus,
            made_ms: record.signed_prekey.made,
            profile: record.signed_prekey.profile,
            signature: &record.signed_prekey.signature,
        },
        one_time: record.one_time.as_ref().map(|one_time| OneTimePrekey {
            signature: &one_time.signature,
            modulus: &one_time.modulus,
            hashes: &one_time.hashes,
        }),
    }
}
