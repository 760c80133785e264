//! The prekeys: key pairs that decrypt, made ahead so that others can start a session unasked.
//!
//! This file owns their private keys, when new ones are due, and when old ones are erased; it counts
//! private operations and their failures. It must not know sessions or messages. Source:
//! spec/crypto.md, "Keys of a client".

use core::fmt;

use rsa::rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::bundle::{Profile, PublishedBatch, PublishedSpk, batch_bytes, spk_bytes};
use super::codec::{Corrupt, Reader, Writer};
use super::identity::Me;
use super::key_pair::{KeyPair, StoredKey};
use super::limits::{
    BATCH_PREKEYS_MAX, BATCHES_MAX, OAEP_FAILURES_MAX, PREKEYS_LEFT_MIN, SPK_AGE_MS_MAX, SPK_KEPT_MS,
    SPKS_MAX,
};
use super::oaep::{self, Label, Wrapped};
use super::secret::Secret;
use crate::ids::{KeyId, Modulus};
use crate::login::key_id;
use crate::login::notation::sha256;

const STATE_VERSION: u8 = 2;

/// Why a batch can't be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// There is no signed prekey that it could belong to.
    NoSpk,
    /// A batch is 1 to 16 one-time prekeys.
    Size,
    /// Eight batches were made for this signed prekey.
    TooMany,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpk => "there is no signed prekey",
            Self::Size => "a batch is 1 to 16 one-time prekeys",
            Self::TooMany => "eight batches were made for this signed prekey",
        })
    }
}

impl core::error::Error for BatchError {}

/// Why nothing was unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnwrapError {
    /// The private key is not held, or not any more.
    Gone,
    /// OAEP failed; it was counted.
    Failed,
}

/// All prekeys of a client.
#[derive(Default)]
pub struct Prekeys {
    /// Oldest first. The last is the current one, unless that was erased and this one superseded.
    spks: Vec<SignedPrekey>,
    /// The newest `made` ever published: the next is later, whatever the clock says.
    last_made_ms: u64,
    /// Since this value was made or read; for tests and local reports.
    private_operations: u64,
}

struct SignedPrekey {
    id: KeyId,
    key: StoredKey,
    made_ms: u64,
    /// How its owner wants to be sent to in the sessions that it starts.
    profile: Profile,
    /// When its successor was uploaded.
    superseded_ms: Option<u64>,
    oaep_failures: u32,
    batches: u8,
    one_time: Vec<OneTimePrekey>,
}

struct OneTimePrekey {
    id: KeyId,
    key: StoredKey,
}

impl Prekeys {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a new signed prekey is due: there is none, it is 7 days old, it is for another profile, or
    /// `relay_spk`, which the relay says it hands out (zero for none), is another.
    #[must_use]
    pub fn needs_spk(&self, now_ms: u64, profile: Profile, relay_spk: KeyId) -> bool {
        self.spks.last().is_none_or(|spk| {
            spk.id != relay_spk
                || spk.profile != profile
                || spk.superseded_ms.is_some()
                || now_ms.saturating_sub(spk.made_ms) >= SPK_AGE_MS_MAX
        })
    }

    /// Makes `key` the current signed prekey. The caller commits the state, uploads, and reports the
    /// relay's answer with [`Self::spk_uploaded`].
    pub fn publish_spk(
        &mut self,
        me: Me<'_>,
        key: &KeyPair,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> PublishedSpk {
        let made_ms = now_ms.max(self.last_made_ms.saturating_add(1));
        let modulus = *key.modulus();
        let profile = me.profile as u8;
        let signed = spk_bytes(me.name, me.identity.fingerprint(), &modulus, made_ms, profile);
        let signature = me.identity.sign(&signed, rng);

        self.last_made_ms = made_ms;
        self.spks.push(SignedPrekey {
            id: key_id(&modulus),
            key: key.to_stored(),
            made_ms,
            profile: me.profile,
            superseded_ms: None,
            oaep_failures: 0,
            batches: 0,
            one_time: Vec::new(),
        });
        let surplus = self.spks.len().saturating_sub(SPKS_MAX);
        self.spks.drain(..surplus);
        PublishedSpk { modulus, made_ms, profile, signature }
    }

    /// The relay confirmed that it hands out `spk`: when it answered the upload, and whenever it says
    /// so after a login. From the first time on the older ones' remaining days count.
    pub fn spk_uploaded(&mut self, spk: KeyId, now_ms: u64) {
        let Some(position) = self.spks.iter().position(|held| held.id == spk) else { return };
        for older in self.spks.iter_mut().take(position) {
            older.superseded_ms.get_or_insert(now_ms);
        }
    }

    /// Whether a batch of one-time prekeys is due: fewer than 8 are `left` at the relay for the
    /// current signed prekey, which `relay_spk` must be, and fewer than 8 batches were made for it.
    #[must_use]
    pub fn needs_batch(&self, relay_spk: KeyId, left: u16) -> bool {
        self.spks
            .last()
            .is_some_and(|spk| spk.id == relay_spk && left < PREKEYS_LEFT_MIN && spk.batches < BATCHES_MAX)
    }

    /// Takes 1 to 16 new one-time prekeys for the current signed prekey. The caller makes them one
    /// by one (16 take about a second), then commits the state and uploads.
    ///
    /// # Errors
    /// [`BatchError`]; nothing is changed then.
    pub fn publish_batch(
        &mut self,
        me: Me<'_>,
        keys: &[KeyPair],
        rng: &mut impl CryptoRng,
    ) -> Result<PublishedBatch, BatchError> {
        let spk = self.spks.last_mut().ok_or(BatchError::NoSpk)?;
        if keys.is_empty() || keys.len() > BATCH_PREKEYS_MAX {
            return Err(BatchError::Size);
        }
        if spk.batches >= BATCHES_MAX {
            return Err(BatchError::TooMany);
        }
        let moduli: Vec<Modulus> = keys.iter().map(|key| *key.modulus()).collect();
        let hashes: Vec<_> = moduli.iter().map(|modulus| sha256(modulus)).collect();
        let signature = me.identity.sign(&batch_bytes(me.identity.fingerprint(), &spk.id, &hashes), rng);

        spk.batches += 1;
        spk.one_time
            .extend(keys.iter().map(|key| OneTimePrekey { id: key_id(key.modulus()), key: key.to_stored() }));
        Ok(PublishedBatch { spk: spk.id, signature, moduli })
    }

    /// The mailbox was read to its end: erases signed prekeys, with their one-time prekeys, whose
    /// successor was uploaded 30 days ago. True if something was erased and is to be committed.
    #[must_use]
    pub fn queue_drained(&mut self, now_ms: u64) -> bool {
        let before = self.spks.len();
        self.spks
            .retain(|spk| spk.superseded_ms.is_none_or(|since| now_ms.saturating_sub(since) < SPK_KEPT_MS));
        self.spks.len() != before
    }

    /// Private operations of receiving, those of ratchet keys included, since this value was made or read.
    #[must_use]
    pub fn private_operations(&self) -> u64 {
        self.private_operations
    }

    /// A private operation of a ratchet key, which is not held here.
    pub(crate) fn count_private_operation(&mut self) {
        self.private_operations += 1;
    }

    /// How we want to be sent to in sessions that this signed prekey starts.
    pub(crate) fn spk_profile(&self, spk: &KeyId) -> Option<Profile> {
        self.spks.iter().find(|held| held.id == *spk).map(|held| held.profile)
    }

    /// N(SPK), if its private key is held.
    pub(crate) fn spk_modulus(&self, spk: &KeyId) -> Option<&Modulus> {
        self.spks.iter().find(|held| held.id == *spk).map(|held| held.key.modulus())
    }

    /// N(OPK), if its private key is held and it belongs to `spk`.
    pub(crate) fn opk_modulus(&self, spk: &KeyId, opk: &KeyId) -> Option<&Modulus> {
        let spk = self.spks.iter().find(|held| held.id == *spk)?;
        spk.one_time.iter().find(|held| held.id == *opk).map(|held| held.key.modulus())
    }

    /// OAEP failures of all held signed prekeys: a change is to be committed.
    pub(crate) fn oaep_failures(&self) -> u64 {
        // An erased prekey lowers the sum, which is a change as well.
        self.spks.iter().map(|spk| u64::from(spk.oaep_failures)).sum()
    }

    /// Unwraps with `spk`, or with its one-time prekey `opk`. A failure counts against `spk`, and
    /// the last allowed one erases it.
    pub(crate) fn unwrap(
        &mut self,
        spk: &KeyId,
        opk: Option<&KeyId>,
        label: &Label,
        wrapped: &Wrapped,
        rng: &mut impl CryptoRng,
    ) -> Result<Secret, UnwrapError> {
        let held = self.spks.iter_mut().find(|held| held.id == *spk).ok_or(UnwrapError::Gone)?;
        let stored = match opk {
            None => &held.key,
            Some(opk) => &held.one_time.iter().find(|held| held.id == *opk).ok_or(UnwrapError::Gone)?.key,
        };
        let key = stored.load().map_err(|Corrupt| UnwrapError::Gone)?;
        self.private_operations += 1;
        let secret = oaep::unwrap(&key, label, wrapped, rng);
        if secret.is_err() {
            held.oaep_failures += 1;
            if held.oaep_failures >= OAEP_FAILURES_MAX {
                self.spks.retain(|held| held.id != *spk);
            }
        }
        secret.map_err(|_| UnwrapError::Failed)
    }

    /// Erases a one-time prekey after its first use.
    pub(crate) fn erase_opk(&mut self, spk: &KeyId, opk: &KeyId) {
        for held in self.spks.iter_mut().filter(|held| held.id == *spk) {
            held.one_time.retain(|held| held.id != *opk);
        }
    }

    /// The state to keep. Layout: version 1, last made 8, count 4, then per signed prekey: key 512,
    /// made 8, profile 1, superseded 1+8, failures 4, batches 1, count 4, one-time keys 512 each.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new(STATE_VERSION);
        out.u64(self.last_made_ms);
        out.count(self.spks.len());
        for spk in &self.spks {
            spk.key.encode(&mut out);
            out.u64(spk.made_ms);
            out.u8(spk.profile as u8);
            out.bool(spk.superseded_ms.is_some());
            out.u64(spk.superseded_ms.unwrap_or_default());
            out.u32(spk.oaep_failures);
            out.u8(spk.batches);
            out.count(spk.one_time.len());
            spk.one_time.iter().for_each(|opk| opk.key.encode(&mut out));
        }
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] if it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Reader::new(bytes, STATE_VERSION)?;
        let last_made_ms = input.u64()?;
        let count = input.count(SPKS_MAX)?;
        let spks = (0..count).map(|_| SignedPrekey::decode(&mut input)).collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self { spks, last_made_ms, private_operations: 0 })
    }
}

impl SignedPrekey {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let key = StoredKey::decode(input)?;
        let made_ms = input.u64()?;
        let profile = Profile::from_u8(input.u8()?).ok_or(Corrupt)?;
        let superseded = input.bool()?;
        let superseded_ms = input.u64()?;
        let oaep_failures = input.u32()?;
        let batches = input.u8()?;
        let count = input.count(BATCH_PREKEYS_MAX * usize::from(BATCHES_MAX))?;
        let one_time = (0..count).map(|_| {
            let key = StoredKey::decode(input)?;
            Ok(OneTimePrekey { id: key_id(key.modulus()), key })
        });
        Ok(Self {
            one_time: one_time.collect::<Result<_, _>>()?,
            id: key_id(key.modulus()),
            key,
            made_ms,
            profile,
            superseded_ms: superseded.then_some(superseded_ms),
            oaep_failures,
            batches,
        })
    }
}
