//! Records of opened messages, with which a re-sent envelope is answered and a message shown once.
//!
//! ```text
//!   session id 16 | epoch 4 | number 4 | tag 32 | receipt 32 | message id 16 | time 8   = 112 bytes
//! ```
//!
//! They are many and rarely change, so they are kept in segments of 128: a commit rewrites the
//! newest, or starts one. Each message that comes asks for two of them, its envelope's and its own, so that both
//! are found by an index, which is made when they are read and is not kept. This file owns their
//! layout and how long they are kept. It must not know how a message is opened, nor files. Source: spec/crypto.md,
//! "Receiving".

use std::collections::VecDeque;

use super::codec::{Corrupt, joined};
use super::envelope::{Place, TAG_BYTES, Tag};
use super::limits::{RECORDS_KEPT_MS, RECORDS_MIN, SEGMENT_RECORDS};
use super::record_index::{KEY_BYTES, RecordIndex};
use crate::ids::{MessageId, Receipt, SessionId};
use crate::login::notation::equal;

const PLACE_BYTES: usize = SessionId::BYTES + 4 + 4;
const RECORD_BYTES: usize = PLACE_BYTES + TAG_BYTES + Receipt::BYTES + MessageId::BYTES + 8;

/// What is remembered of one opened message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The session that it came in.
    pub sid: SessionId,
    /// The epoch in it.
    pub epoch: u32,
    /// The number in that epoch's chain.
    pub number: u32,
    /// The envelope's tag.
    pub tag: [u8; TAG_BYTES],
    /// What it was, and will be, answered with.
    pub receipt: Receipt,
    /// The message's own identity.
    pub message_id: MessageId,
    /// When it was opened, Unix milliseconds.
    pub opened_ms: u64,
}

/// The records of one peer.
#[derive(Default)]
pub struct Records {
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// By place and by message id: which segment, times 128, and which record in it.
    places: RecordIndex,
    ids: RecordIndex,
}

/// Up to 128 records as they are kept, and the number under which.
struct Segment {
    number: u64,
    records: Vec<u8>,
    /// When the newest of them was opened, Unix milliseconds.
    newest_ms: u64,
}

/// What one [`Records::push`] changed: in one commit, `write` is written and `erase` removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The segment that took the record.
    pub write: u64,
    /// The segments that are not kept any longer.
    pub erase: Vec<u64>,
}

impl Records {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the record of a message that was just opened.
    pub fn push(&mut self, record: &Record) -> Changed {
        let erase = self.erase_old(record.opened_ms);
        if !erase.is_empty() || self.places.is_full() {
            self.make_index();
        }
        let mut newest = match self.segments.pop_back() {
            Some(newest) if newest.len() < SEGMENT_RECORDS => newest,
            Some(full) => {
                let number = full.number + 1;
                self.segments.push_back(full);
                Segment::new(number)
            }
            None => Segment::new(0),
        };
        let (position, write) = (self.segments.len() * SEGMENT_RECORDS + newest.len(), newest.number);
        newest.push(record);
        self.segments.push_back(newest);
        self.add_to_index(record, position);
        Changed { write, erase }
    }

    /// A segment as it is kept: records of 112 bytes each, 1 to 128 of them.
    #[must_use]
    pub fn segment(&self, number: u64) -> Option<&[u8]> {
        self.find(number).map(|segment| segment.records.as_slice())
    }

    /// Puts segments together again, given by number in any order.
    ///
    /// # Errors
    /// [`Corrupt`] if one has another length than a segment can have, or two have one number.
    pub fn decode<'a>(segments: impl IntoIterator<Item = (u64, &'a [u8])>) -> Result<Self, Corrupt> {
        let mut segments: Vec<_> =
            segments.into_iter().map(|(number, bytes)| Segment::of(number, bytes.to_vec())).collect();
        segments.sort_by_key(|segment| segment.number);
        let twice = segments.iter().zip(segments.iter().skip(1)).any(|(a, b)| a.number == b.number);
        let fits = |segment: &Segment| {
            segment.records.len().is_multiple_of(RECORD_BYTES)
                && (1..=SEGMENT_RECORDS).contains(&segment.len())
                && segment.number < u64::MAX
        };
        if twice || !segments.iter().all(fits) {
            return Err(Corrupt);
        }
        let mut records = Self { segments: segments.into(), ..Self::default() };
        records.make_index();
        Ok(records)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Record> {
        self.segments.iter().flat_map(Segment::iter)
    }

    /// The receipt of the envelope at `place` with this very tag, if it was opened.
    pub(crate) fn receipt_of(&self, place: Place, tag: &Tag) -> Option<Receipt> {
        let key = place_key(place);
        let candidates = self.places.candidates(&key).filter_map(|at| self.record(at));
        candidates
            .filter(|record| record.place() == place)
            .find(|record| equal(&record.tag, tag))
            .map(|record| record.receipt)
    }

    /// Whether a message with this identity was opened.
    pub(crate) fn knows(&self, id: &MessageId) -> bool {
        let mut candidates = self.ids.candidates(&id.0).filter_map(|at| self.record(at));
        candidates.any(|record| record.message_id == *id)
    }

    fn record(&self, position: usize) -> Option<Record> {
        self.segments.get(position / SEGMENT_RECORDS)?.record(position % SEGMENT_RECORDS)
    }

    fn make_index(&mut self) {
        let count = self.segments.iter().map(Segment::len).sum();
        (self.places, self.ids) = (RecordIndex::with_room(count), RecordIndex::with_room(count));
        for (first, segment) in (0..).step_by(SEGMENT_RECORDS).zip(&self.segments) {
            for (at, record) in segment.iter().enumerate() {
                self.places.insert(&place_key(record.place()), first + at);
                self.ids.insert(&record.message_id.0, first + at);
            }
        }
    }

    fn add_to_index(&mut self, record: &Record, position: usize) {
        self.places.insert(&place_key(record.place()), position);
        self.ids.insert(&record.message_id.0, position);
    }

    fn find(&self, number: u64) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&number, |segment| segment.number);
        self.segments.get(at.ok()?)
    }

    fn erase_old(&mut self, now_ms: u64) -> Vec<u64> {
        let mut kept: usize = self.segments.iter().map(Segment::len).sum();
        let mut erased = Vec::new();
        while let Some(oldest) = self.segments.front() {
            let surplus = kept.saturating_sub(oldest.len()) >= RECORDS_MIN;
            let outdated = now_ms.saturating_sub(oldest.newest_ms) > RECORDS_KEPT_MS;
            // The newest stays, so that numbers of segments are never given twice.
            if !(surplus || outdated) || self.segments.len() == 1 {
                break;
            }
            kept -= oldest.len();
            erased.push(oldest.number);
            self.segments.pop_front();
        }
        erased
    }
}

impl Segment {
    fn new(number: u64) -> Self {
        Self { number, records: Vec::with_capacity(SEGMENT_RECORDS * RECORD_BYTES), newest_ms: 0 }
    }

    fn of(number: u64, records: Vec<u8>) -> Self {
        let mut segment = Self { number, records, newest_ms: 0 };
        segment.newest_ms = segment.iter().map(|record| record.opened_ms).max().unwrap_or_default();
        segment
    }

    fn len(&self) -> usize {
        self.records.len() / RECORD_BYTES
    }

    fn iter(&self) -> impl Iterator<Item = Record> {
        self.records.as_chunks().0.iter().filter_map(Record::parse)
    }

    fn record(&self, at: usize) -> Option<Record> {
        self.records.as_chunks().0.get(at).and_then(Record::parse)
    }

    fn push(&mut self, record: &Record) {
        self.newest_ms = self.newest_ms.max(record.opened_ms);
        self.records.extend_from_slice(&place_bytes(record.place()));
        self.records.extend_from_slice(&record.tag);
        self.records.extend_from_slice(&record.receipt.0);
        self.records.extend_from_slice(&record.message_id.0);
        self.records.extend_from_slice(&record.opened_ms.to_be_bytes());
    }
}

impl Record {
    fn place(&self) -> Place {
        Place { sid: self.sid, epoch: self.epoch, number: self.number }
    }

    fn parse(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let (sid, rest) = bytes.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (tag, rest) = rest.split_first_chunk()?;
        let (receipt, rest) = rest.split_first_chunk()?;
        let (message_id, opened_ms) = rest.split_first_chunk()?;
        Some(Self {
            sid: SessionId(*sid),
            epoch: u32::from_be_bytes(*epoch),
            number: u32::from_be_bytes(*number),
            tag: *tag,
            receipt: Receipt(*receipt),
            message_id: MessageId(*message_id),
            opened_ms: u64::from_be_bytes(opened_ms.try_into().ok()?),
        })
    }
}

fn place_bytes(place: Place) -> [u8; PLACE_BYTES] {
    joined(&[&place.sid.0, &place.epoch.to_be_bytes(), &place.number.to_be_bytes()])
}

/// A place for the index: whoever starts a session can't choose its sid.
fn place_key(place: Place) -> [u8; KEY_BYTES] {
    let place_in_session = u128::from(place.epoch) << 32 | u128::from(place.number);
    (u128::from_be_bytes(place.sid.0) ^ place_in_session).to_be_bytes()
}
