//! The layout of keys and values: the one copy in code of the byte map in docs/store.md.
//!
//! This file owns bytes. It must not know an engine or a request. Everything is big-endian; lengths are
//! fixed, but for one run of bytes at a record's end.

use std::collections::BTreeMap;

use e2e_protocol::ids::{
    Fingerprint, KeyId, MODULUS_BYTES, Modulus, Name, RelayId, SIGNATURE_BYTES, Sequence, Uid,
};
use e2e_protocol::wire::FrameType;
use e2e_protocol::wire::routed::{frame_bytes_at, routing_at};
use sha2::{Digest, Sha256};

use super::{
    Chunk, KeyHistory, PrekeyBatchRecord, PrekeyCount, RollOverRecord, SignedPrekeyRecord, StoreError,
    StoredMailbox, StoredShare, StoredToken, StoredUser, Table,
    limits::{BATCH_KEYS_MAX, PREKEY_BATCHES_MAX, ROLL_OVERS_KEPT_MAX, TOKEN_LABEL_BYTES_MAX},
    segments::Position,
};

/// The version of these layouts, in `Meta`. An older daemon refuses a newer one. Of the older ones, format 1 had its chunks
/// in the index; they are read where they are.
pub(super) const FORMAT: u32 = 2;

/// Keys of `Meta`: u32, 32 bytes, u32, u64, u64 twice.
pub(super) const META_FORMAT: &[u8] = b"format";
pub(super) const META_RELAY_ID: &[u8] = b"relay-id";
pub(super) const META_BOOT: &[u8] = b"boot";
pub(super) const META_CLOCK: &[u8] = b"clock";
pub(super) const META_LOG: &[u8] = b"log";

/// Key of a slot's one record in `Users`, `IdentityKeys`, `Mailboxes`, `SignedPrekeys`, `RollOvers`; it also sorts before
/// all the records of that slot in the other tables.
pub(super) fn slot_key(slot: u32) -> Vec<u8> {
    slot.to_be_bytes().to_vec()
}

/// Key in `Chunks`: slot 4, last sequence 8.
pub(super) fn chunk_key(slot: u32, last: Sequence) -> Vec<u8> {
    [&slot.to_be_bytes()[..], &last.0.to_be_bytes()[..]].concat()
}

/// Key in `Blocks`: blocker's slot 4, blocked slot 4.
pub(super) fn block_key(slot: u32, other: u32) -> Vec<u8> {
    [slot.to_be_bytes(), other.to_be_bytes()].concat()
}

/// Key in `Tokens`: number 4.
pub(super) fn token_key(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// The record in `Tokens`: made 8, once 1, secret 20, label.
pub(super) fn emit_token(token: &StoredToken) -> Vec<u8> {
    let mut record = token.made.to_be_bytes().to_vec();
    record.push(u8::from(token.once));
    record.extend(token.secret);
    record.extend(token.label.as_bytes());
    record
}

pub(super) fn parse_token(key: &[u8], value: &[u8]) -> Result<StoredToken, StoreError> {
    let mut fields = Fields::of(value, "registration token");
    let (made, once, secret) = (fields.u64()?, fields.u8()?, fields.take()?);
    let label = std::str::from_utf8(fields.rest).ok().filter(|label| label.len() <= TOKEN_LABEL_BYTES_MAX);
    let label = label.ok_or_else(|| fields.malformed())?.to_owned();
    let once = match once {
        0 => false,
        1 => true,
        _ => return Err(fields.malformed()),
    };
    Ok(StoredToken { number: slot_of_key(key)?, once, made, secret, label })
}

/// Key in `PrekeyBatches`: slot 4, batch 1, index 1. Index 0 is the head, then come the keys from 1 on.
pub(super) fn prekey_key(slot: u32, batch: u8, index: u8) -> Vec<u8> {
    [&slot.to_be_bytes()[..], &[batch, index]].concat()
}

/// SHA-256 of a modulus; its first 8 bytes are the key's id.
pub(super) fn modulus_hash(modulus: &Modulus) -> [u8; 32] {
    Sha256::digest(modulus).into()
}

pub(super) fn key_id(modulus: &Modulus) -> KeyId {
    let [a, b, c, d, e, f, g, h, ..] = modulus_hash(modulus);
    KeyId([a, b, c, d, e, f, g, h])
}

/// Takes a record apart from its front. Whatever does not fit is corruption.
struct Fields<'a> {
    rest: &'a [u8],
    record: &'static str,
}

impl<'a> Fields<'a> {
    fn of(rest: &'a [u8], record: &'static str) -> Self {
        Self { rest, record }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, StoreError> {
        self.take().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, StoreError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, StoreError> {
        self.take().map(u64::from_be_bytes)
    }

    fn end(&self) -> Result<(), StoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    fn malformed(&self) -> StoreError {
        StoreError::malformed(self.record)
    }
}

/// Both slots of a key in `Blocks`.
pub(super) fn parse_block_key(key: &[u8]) -> Result<(u32, u32), StoreError> {
    let mut fields = Fields::of(key, "block");
    let slots = (fields.u32()?, fields.u32()?);
    fields.end().map(|()| slots)
}

/// The slot at the front of a key.
pub(super) fn slot_of_key(key: &[u8]) -> Result<u32, StoreError> {
    Fields::of(key, "key").u32()
}

/// A value of `Meta` that is a u32.
pub(super) fn parse_u32(value: &[u8]) -> Result<u32, StoreError> {
    let mut fields = Fields::of(value, "meta");
    let number = fields.u32()?;
    fields.end().map(|()| number)
}

/// A value of `Meta` that is a u64.
pub(super) fn parse_u64(value: &[u8]) -> Result<u64, StoreError> {
    let mut fields = Fields::of(value, "meta");
    let number = fields.u64()?;
    fields.end().map(|()| number)
}

/// How far the log is settled, in `Meta`: segment 8, offset 8.
pub(super) fn emit_position(position: Position) -> Vec<u8> {
    [position.segment.to_be_bytes(), position.offset.to_be_bytes()].concat()
}

pub(super) fn parse_position(value: &[u8]) -> Result<Position, StoreError> {
    let mut fields = Fields::of(value, "meta");
    let position = Position { segment: fields.u64()?, offset: fields.u64()? };
    fields.end().map(|()| position)
}

/// What stands in the index for a value that is in the log: its head, segment 8, offset 4, length 4. Nothing that stands for
/// itself is as short.
pub(super) struct Reference<'a> {
    pub(super) head: &'a [u8],
    pub(super) segment: u64,
    /// Where the rest of the value begins in the segment.
    pub(super) offset: u32,
    /// Of the rest, bytes.
    pub(super) length: u32,
}

impl<'a> Reference<'a> {
    /// The reference for a value that begins at a place of a segment, as it is stored. `None`: such values stay as they are.
    pub(super) fn of(table: Table, value: &[u8], segment: u64, at: u64) -> Option<Vec<u8>> {
        let (head, rest) = value.split_at_checked(table.head_bytes()?)?;
        let offset = u32::try_from(at + head.len() as u64).ok()?;
        let length = u32::try_from(rest.len()).ok()?;
        Some([head, &segment.to_be_bytes(), &offset.to_be_bytes(), &length.to_be_bytes()].concat())
    }

    /// `None`: the value stands for itself.
    pub(super) fn parse(table: Table, value: &'a [u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(table.head_bytes()?)?;
        let rest: &[u8; 16] = rest.try_into().ok()?;
        let mut fields = Fields::of(rest, "reference");
        Some(Self {
            head,
            segment: fields.u64().ok()?,
            offset: fields.u32().ok()?,
            length: fields.u32().ok()?,
        })
    }
}

/// The relay's id in `Meta`.
pub(super) fn parse_relay_id(value: &[u8]) -> Result<RelayId, StoreError> {
    let mut fields = Fields::of(value, "meta");
    let id = RelayId(fields.take()?);
    fields.end().map(|()| id)
}

/// How much of a batch of one-time prekeys has been handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchUse {
    pub(super) count: u8,
    /// The keys 1 to `used` were handed out and are deleted.
    pub(super) used: u8,
}

/// The record in `Users`: generation 4, fingerprint 32, kid(SPK) 8, number of batches 1,
/// that many times (count 1, used 1), name 1 to 32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) generation: u32,
    pub(super) name: Name,
    pub(super) fingerprint: Fingerprint,
    /// Zero: none.
    pub(super) signed_prekey: KeyId,
    /// Of the signed prekey in force, in the order of their arrival.
    pub(super) batches: Vec<BatchUse>,
}

impl User {
    pub(super) fn emit(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(96);
        record.extend(self.generation.to_be_bytes());
        record.extend(self.fingerprint.0);
        record.extend(self.signed_prekey.0);
        record.push(u8::try_from(self.batches.len()).unwrap_or(u8::MAX));
        record.extend(self.batches.iter().flat_map(|batch| [batch.count, batch.used]));
        record.extend(self.name.as_bytes());
        record
    }

    pub(super) fn parse(value: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Fields::of(value, "user");
        let generation = fields.u32()?;
        let fingerprint = Fingerprint(fields.take()?);
        let signed_prekey = KeyId(fields.take()?);
        let batches = (0..fields.u8()?).map(|_| {
            let [count, used] = fields.take()?;
            let possible = used <= count && usize::from(count) <= BATCH_KEYS_MAX;
            if possible { Ok(BatchUse { count, used }) } else { Err(fields.malformed()) }
        });
        let batches: Vec<_> = batches.collect::<Result<_, _>>()?;
        let name = Name::parse(fields.rest).map_err(|_| fields.malformed())?;
        if batches.len() > PREKEY_BATCHES_MAX {
            return Err(fields.malformed());
        }
        Ok(Self { generation, name, fingerprint, signed_prekey, batches })
    }

    pub(super) fn prekeys(&self) -> PrekeyCount {
        let left = self.batches.iter().map(|batch| batch.count - batch.used).sum();
        PrekeyCount { signed_prekey: self.signed_prekey, one_time_left: left }
    }

    pub(super) fn stored(&self, slot: u32) -> StoredUser {
        let (generation, name, fingerprint) = (self.generation, self.name, self.fingerprint);
        StoredUser { slot, generation, name, fingerprint, prekeys: self.prekeys() }
    }
}

/// The record in `IdentityKeys`: modulus 256.
pub(super) fn parse_modulus(value: &[u8]) -> Result<Modulus, StoreError> {
    let mut fields = Fields::of(value, "key");
    let modulus = fields.take::<MODULUS_BYTES>()?;
    fields.end().map(|()| modulus)
}

/// The record in `Mailboxes`: acked 8, durable 8, messages 8, bytes 8.
pub(super) fn emit_mailbox(mailbox: &StoredMailbox) -> Vec<u8> {
    let fields = [mailbox.acked.0, mailbox.durable.0, mailbox.messages, mailbox.bytes];
    fields.map(u64::to_be_bytes).concat()
}

pub(super) fn parse_mailbox(slot: u32, value: &[u8]) -> Result<StoredMailbox, StoreError> {
    let mut fields = Fields::of(value, "mailbox");
    let (acked, durable) = (Sequence(fields.u64()?), Sequence(fields.u64()?));
    let mailbox = StoredMailbox { slot, acked, durable, messages: fields.u64()?, bytes: fields.u64()? };
    fields.end().map(|()| mailbox)
}

/// Bytes of a chunk's record before its messages.
pub(super) const CHUNK_HEAD_BYTES: usize = 12;

/// A chunk in the making, as the record in `Chunks`: first 8, messages 4, then the frames. Its last sequence is in its key.
pub(super) struct ChunkRecord {
    pub(super) last: Sequence,
    messages: u32,
    record: Vec<u8>,
}

impl ChunkRecord {
    /// A chunk of these frames, in memory that was used before.
    pub(super) fn of(first: Sequence, last: Sequence, messages: u32, frames: &[u8], memory: Vec<u8>) -> Self {
        let mut record = memory;
        record.clear();
        record.reserve(CHUNK_HEAD_BYTES + frames.len());
        record.extend(first.0.to_be_bytes());
        record.extend(messages.to_be_bytes());
        record.extend_from_slice(frames);
        Self { last, messages, record }
    }

    /// Adds frames with later sequences.
    pub(super) fn join(&mut self, last: Sequence, messages: u32, frames: &[u8]) {
        self.last = last;
        self.messages += messages;
        if let Some(field) = self.record.get_mut(CHUNK_HEAD_BYTES - 4..CHUNK_HEAD_BYTES) {
            field.copy_from_slice(&self.messages.to_be_bytes());
        }
        self.record.extend_from_slice(frames);
    }

    /// The frames, back to back.
    pub(super) fn frames(&self) -> &[u8] {
        self.record.get(CHUNK_HEAD_BYTES..).unwrap_or_default()
    }

    pub(super) fn into_record(self) -> Vec<u8> {
        self.record
    }
}

/// Where frames can be cut in two.
pub(super) struct Cut {
    /// Of the part before.
    pub(super) bytes: usize,
    pub(super) messages: u32,
    pub(super) last: Sequence,
    /// The first sequence of the part behind.
    pub(super) next: Sequence,
}

/// The last place before `bytes_max` where frames can be cut. `None`: there is none, or their sequences don't rise.
pub(super) fn cut_frames(frames: &[u8], bytes_max: usize) -> Option<Cut> {
    let sequence_at = |at| routing_at(frames.get(at..)?).map(|(_, routing)| routing.sequence);
    let (mut bytes, mut messages, mut last, mut next) = (0, 0, None, sequence_at(0)?);
    loop {
        let end = bytes + frame_bytes_at(frames.get(bytes..)?)?;
        if end > bytes_max {
            return Some(Cut { bytes, messages, last: last?, next });
        }
        last = Some(next);
        next = sequence_at(end).filter(|after| *after > next)?;
        (bytes, messages) = (end, messages + 1);
    }
}

/// What a chunk's record says of itself: its number of messages and the length of its frames.
pub(super) fn parse_chunk_size(value: &[u8]) -> Result<(u32, u64), StoreError> {
    let mut fields = Fields::of(value, "chunk");
    fields.u64()?;
    Ok((fields.u32()?, fields.rest.len() as u64))
}

pub(super) fn parse_chunk(key: &[u8], value: &[u8]) -> Result<Chunk, StoreError> {
    let mut key = Fields::of(key, "chunk");
    key.u32()?;
    let last = Sequence(key.u64()?);
    let mut fields = Fields::of(value, "chunk");
    let (first, messages) = (Sequence(fields.u64()?), fields.u32()?);
    Ok(Chunk { first, last, messages, bytes: fields.rest.to_vec() })
}

/// The record in `ChunkShares`: for each sender uid 8, messages 4, bytes 4. Notices are nobody's.
pub(super) fn emit_chunk_shares(frames: &[u8]) -> Vec<u8> {
    let mut shares: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    let mut rest = frames;
    while let Some((frame_bytes, (frame_type, routing))) = frame_bytes_at(rest).zip(routing_at(rest)) {
        if frame_type == FrameType::Deliver {
            let (messages, bytes) = shares.entry(routing.peer.0).or_default();
            *messages += 1;
            *bytes += u32::try_from(frame_bytes).unwrap_or(0);
        }
        rest = rest.get(frame_bytes..).unwrap_or_default();
    }
    let mut record = Vec::with_capacity(16 * shares.len());
    for (sender, (messages, bytes)) in shares {
        record.extend(sender.to_be_bytes());
        record.extend(messages.to_be_bytes());
        record.extend(bytes.to_be_bytes());
    }
    record
}

pub(super) fn parse_chunk_shares(slot: u32, value: &[u8]) -> Result<Vec<StoredShare>, StoreError> {
    let mut fields = Fields::of(value, "chunk's shares");
    let mut shares = Vec::new();
    while !fields.rest.is_empty() {
        let (sender, messages, bytes) = (Uid(fields.u64()?), fields.u32()?.into(), fields.u32()?.into());
        shares.push(StoredShare { slot, sender, messages, bytes });
    }
    Ok(shares)
}

/// The record in `SignedPrekeys`: made 8, profile 1, signature 256, modulus 256.
pub(super) fn emit_signed_prekey(prekey: &SignedPrekeyRecord) -> Vec<u8> {
    let made = prekey.made.to_be_bytes();
    [&made[..], &[prekey.profile], &prekey.signature, &prekey.modulus].concat()
}

pub(super) fn parse_signed_prekey(value: &[u8]) -> Result<SignedPrekeyRecord, StoreError> {
    let mut fields = Fields::of(value, "signed prekey");
    let (made, profile) = (fields.u64()?, fields.u8()?);
    let prekey = SignedPrekeyRecord { made, profile, signature: fields.take()?, modulus: fields.take()? };
    fields.end().map(|()| prekey)
}

/// The record in `RollOvers`: oldest modulus 256, then for each roll-over, oldest first: time 8, modulus 256,
/// signature by the former key 256, signature 256.
pub(super) fn emit_key_history(history: &KeyHistory) -> Vec<u8> {
    let mut record = history.oldest.to_vec();
    for roll_over in &history.roll_overs {
        record.extend(roll_over.time.to_be_bytes());
        record.extend(roll_over.identity_key);
        record.extend(roll_over.former_signature);
        record.extend(roll_over.signature);
    }
    record
}

pub(super) fn parse_key_history(value: &[u8]) -> Result<KeyHistory, StoreError> {
    let mut fields = Fields::of(value, "roll-overs");
    let mut history = KeyHistory { oldest: fields.take()?, roll_overs: Vec::new() };
    while !fields.rest.is_empty() {
        if history.roll_overs.len() == ROLL_OVERS_KEPT_MAX {
            return Err(fields.malformed());
        }
        history.roll_overs.push(RollOverRecord {
            time: fields.u64()?,
            identity_key: fields.take()?,
            former_signature: fields.take()?,
            signature: fields.take()?,
        });
    }
    Ok(history)
}

/// The head of a batch in `PrekeyBatches`: signature 256, then 32 for each key of the batch.
pub(super) struct BatchHead {
    pub(super) signature: [u8; SIGNATURE_BYTES],
    pub(super) hashes: Vec<[u8; 32]>,
}

impl BatchHead {
    pub(super) fn of(batch: &PrekeyBatchRecord) -> Self {
        Self { signature: batch.signature, hashes: batch.moduli.iter().map(modulus_hash).collect() }
    }

    pub(super) fn emit(&self) -> Vec<u8> {
        [&self.signature[..], self.hashes.as_flattened()].concat()
    }

    pub(super) fn parse(value: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Fields::of(value, "prekey batch");
        let signature = fields.take()?;
        let (hashes, rest) = fields.rest.as_chunks();
        if rest.is_empty() {
            Ok(Self { signature, hashes: hashes.to_vec() })
        } else {
            Err(fields.malformed())
        }
    }
}
