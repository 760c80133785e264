//! Message keys of numbers that were skipped: messages that may still arrive.
//!
//! This file owns how many are kept and how long. It must not know chains or envelopes. Source:
//! spec/crypto.md, "Receiving".

use std::collections::BTreeMap;

use super::codec::{Corrupt, Reader, Writer};
use super::envelope::Place;
use super::limits::{SKIPPED_KEPT_MS, SKIPPED_KEYS_MAX};
use super::secret::Secret;
use crate::ids::SessionId;

/// The skipped message keys of one peer. A peer may skip 999 with each message, and each message asks what
/// is kept: nothing here goes through all of them but what erases for their age.
#[derive(Default)]
pub(crate) struct SkippedKeys {
    /// By the order in which they were skipped, oldest first.
    keys: BTreeMap<u64, Skipped>,
    /// Where in that order a place is.
    places: BTreeMap<Place, u64>,
    /// No key is older: until this is too long ago, nothing is.
    since_ms_min: u64,
}

struct Skipped {
    place: Place,
    since_ms: u64,
    message_key: Secret,
}

impl SkippedKeys {
    pub(crate) fn insert(&mut self, place: Place, message_key: Secret, now_ms: u64) {
        self.erase(place);
        self.push(Skipped { place, since_ms: now_ms, message_key });
        while self.len() > SKIPPED_KEYS_MAX
            && let Some((_, oldest)) = self.keys.pop_first()
        {
            self.places.remove(&oldest.place);
        }
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Secret> {
        self.keys.get(self.places.get(&place)?).map(|skipped| &skipped.message_key)
    }

    /// How many numbers of this chain are waited for.
    pub(crate) fn count(&self, sid: SessionId, epoch: u32) -> usize {
        let numbers = Place { sid, epoch, number: 0 }..=Place { sid, epoch, number: u32::MAX };
        self.places.range(numbers).count()
    }

    /// Whether a number of this chain is waited for.
    pub(crate) fn has_epoch(&self, sid: SessionId, epoch: u32) -> bool {
        let first = Place { sid, epoch, number: 0 };
        self.places.range(first..).next().is_some_and(|(place, _)| place.sid == sid && place.epoch == epoch)
    }

    /// Erases the key of a message that was used.
    pub(crate) fn erase(&mut self, place: Place) {
        if let Some(order) = self.places.remove(&place) {
            self.keys.remove(&order);
        }
    }

    /// Erases the keys of a session that is not held any more.
    pub(crate) fn erase_session(&mut self, sid: SessionId) {
        self.retain(|skipped| skipped.place.sid != sid);
    }

    /// Erases what was waited for too long; true if there was any.
    pub(crate) fn erase_old(&mut self, now_ms: u64) -> bool {
        let is_kept = |since_ms: u64| now_ms.saturating_sub(since_ms) <= SKIPPED_KEPT_MS;
        if self.keys.is_empty() || is_kept(self.since_ms_min) {
            return false;
        }
        let before = self.len();
        self.retain(|skipped| is_kept(skipped.since_ms));
        self.since_ms_min = self.keys.values().map(|skipped| skipped.since_ms).min().unwrap_or_default();
        self.len() != before
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.count(self.len());
        for skipped in self.keys.values() {
            out.array(&skipped.place.sid.0);
            out.u32(skipped.place.epoch);
            out.u32(skipped.place.number);
            out.u64(skipped.since_ms);
            out.array(skipped.message_key.as_bytes());
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut keys = Self::default();
        for _ in 0..input.count(SKIPPED_KEYS_MAX)? {
            let sid = SessionId(*input.array()?);
            let place = Place { sid, epoch: input.u32()?, number: input.u32()? };
            if keys.places.contains_key(&place) {
                return Err(Corrupt);
            }
            keys.push(Skipped { place, since_ms: input.u64()?, message_key: Secret::decode(input)? });
        }
        Ok(keys)
    }

    fn push(&mut self, skipped: Skipped) {
        let order = self.keys.last_key_value().map_or(0, |(order, _)| order + 1);
        let is_first = self.keys.is_empty();
        self.since_ms_min = if is_first { skipped.since_ms } else { self.since_ms_min.min(skipped.since_ms) };
        self.places.insert(skipped.place, order);
        self.keys.insert(order, skipped);
    }

    fn retain(&mut self, is_kept: impl Fn(&Skipped) -> bool) {
        let places = &mut self.places;
        self.keys.retain(|_, skipped| {
            let kept = is_kept(skipped);
            if !kept {
                places.remove(&skipped.place);
            }
            kept
        });
    }
}
