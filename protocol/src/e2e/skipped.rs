//! Message keys of numbers that were skipped: messages that may still arrive.
//!
//! This file owns how many are kept and how long. It must not know chains or envelopes. Source:
//! spec/crypto.md, "Receiving".

use super::codec::{Corrupt, Reader, Writer};
use super::envelope::Place;
use super::limits::{SKIPPED_KEPT_MS, SKIPPED_KEYS_MAX};
use super::secret::Secret;
use crate::ids::SessionId;

/// The skipped message keys of one peer, oldest first.
#[derive(Default)]
pub(crate) struct SkippedKeys(Vec<Skipped>);

struct Skipped {
    place: Place,
    since_ms: u64,
    message_key: Secret,
}

impl SkippedKeys {
    pub(crate) fn insert(&mut self, place: Place, message_key: Secret, now_ms: u64) {
        self.0.push(Skipped { place, since_ms: now_ms, message_key });
        let surplus = self.0.len().saturating_sub(SKIPPED_KEYS_MAX);
        self.0.drain(..surplus);
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Secret> {
        self.0.iter().find(|skipped| skipped.place == place).map(|skipped| &skipped.message_key)
    }

    /// Whether a number of this chain is waited for.
    pub(crate) fn has_epoch(&self, sid: SessionId, epoch: u32) -> bool {
        self.0.iter().any(|skipped| skipped.place.sid == sid && skipped.place.epoch == epoch)
    }

    /// Erases the key of a message that was used.
    pub(crate) fn erase(&mut self, place: Place) {
        self.0.retain(|skipped| skipped.place != place);
    }

    /// Erases the keys of a session that is not held any more.
    pub(crate) fn erase_session(&mut self, sid: SessionId) {
        self.0.retain(|skipped| skipped.place.sid != sid);
    }

    /// Erases what was waited for too long; true if there was any.
    pub(crate) fn erase_old(&mut self, now_ms: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|skipped| now_ms.saturating_sub(skipped.since_ms) <= SKIPPED_KEPT_MS);
        self.0.len() != before
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.count(self.0.len());
        for skipped in &self.0 {
            out.array(&skipped.place.sid.0);
            out.u32(skipped.place.epoch);
            out.u32(skipped.place.number);
            out.u64(skipped.since_ms);
            out.array(skipped.message_key.as_bytes());
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let count = input.count(SKIPPED_KEYS_MAX)?;
        let keys = (0..count).map(|_| {
            let sid = SessionId(*input.array()?);
            let place = Place { sid, epoch: input.u32()?, number: input.u32()? };
            Ok(Skipped { place, since_ms: input.u64()?, message_key: Secret::decode(input)? })
        });
        keys.collect::<Result<_, _>>().map(Self)
    }
}
