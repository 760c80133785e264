//! Mailboxes: that the messages are there which the index leads to, and that what is counted of them is so.
//!
//! This file owns what is to be true of the tables that have to do with messages. It must not know what lies around them in the
//! log: `log`.

use std::{collections::BTreeMap, mem};

use e2e_protocol::ids::Sequence;
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::routed::{frame_bytes_at, routing_at};
use e2e_protocol::wire::{Frame, Parsed};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    super::{
        StoreError, StoredMailbox, Table,
        records::{self, CHUNK_HEAD_BYTES, Reference},
        source::Source,
    },
    FsckReport,
    Gravity::{Lost, Wrong},
    people::{People, malformed},
};

/// Where in each segment of the log something lies that is in use: offset and length.
pub(super) type InUse = BTreeMap<u64, Vec<(u32, u32)>>;

pub(super) fn look(
    source: &Source<'_>,
    people: &People,
    report: &mut FsckReport,
) -> Result<InUse, StoreError> {
    let mut mailboxes = BTreeMap::new();
    source.each(Table::Mailboxes, &mut |key, value| {
        let parsed = records::slot_of_key(key).and_then(|slot| records::parse_mailbox(slot, value));
        match parsed {
            Ok(mailbox) => {
                people.look_held(mailbox.slot, "a mailbox", report);
                if mailbox.acked > mailbox.durable {
                    let name = people.name(mailbox.slot);
                    report.note(Wrong, format!("the mailbox of {name} is acknowledged beyond its end"));
                }
                mailboxes.insert(mailbox.slot, mailbox);
            }
            Err(error) => malformed(Table::Mailboxes, key, &error, report),
        }
    });
    let mut look =
        Look { source, people, report, mailboxes, present: None, in_use: InUse::new(), shares: Vec::new() };
    let mut result = Ok(());
    let are_whole = source.each(Table::Chunks, &mut |key, value| {
        if result.is_ok() {
            result = look.chunk(key, value);
        }
    });
    result?;
    look.close();
    // Each that has something was taken out.
    for (slot, mailbox) in mem::take(&mut look.mailboxes) {
        let (name, messages) = (people.name(slot), mailbox.messages);
        if are_whole {
            look.report
                .note(Wrong, format!("the mailbox of {name} counts {messages} messages, there are none"));
        }
    }
    look.shares(are_whole);
    Ok(look.in_use)
}

struct Look<'a> {
    source: &'a Source<'a>,
    people: &'a People,
    report: &'a mut FsckReport,
    /// Those of which no chunk came yet.
    mailboxes: BTreeMap<u32, StoredMailbox>,
    present: Option<Present>,
    in_use: InUse,
    /// What is to be said of each chunk: slot, last sequence, and a hash, unless it is damaged.
    shares: Vec<(u32, u64, Option<u64>)>,
}

/// The mailbox whose chunks are read.
struct Present {
    slot: u32,
    mailbox: Option<StoredMailbox>,
    last: Sequence,
    /// What the chunks say of messages that are not acknowledged, and what of them is whole: messages, bytes.
    said: (u64, u64),
    whole: (u64, u64),
}

/// What the frames of a chunk are.
#[derive(Default)]
struct Frames {
    /// Those that are whole.
    messages: u64,
    /// Whole ones that are not acknowledged, and their bytes.
    waiting: (u64, u64),
    /// All that can be told apart, the damaged ones too.
    count: u64,
    first: Option<Sequence>,
    last: Option<Sequence>,
    are_in_order: bool,
}

impl Look<'_> {
    fn chunk(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let Ok(chunk) = records::parse_chunk(key, value) else {
            malformed(Table::Chunks, key, &StoreError::malformed("chunk"), self.report);
            return Ok(());
        };
        let slot = records::slot_of_key(key)?;
        let place = Reference::parse(Table::Chunks, value);
        let bytes = place.as_ref().map_or(chunk.bytes.len() as u64, |place| place.length.into());
        if let Some(place) = &place {
            self.in_use.entry(place.segment).or_default().push((place.offset, place.length));
        }
        self.begin(slot);
        let name = self.people.name(slot);
        let Some(present) = &mut self.present else { return Ok(()) };
        let acked = present.mailbox.map_or(Sequence(0), |mailbox| mailbox.acked);
        let (first, last) = (chunk.first, chunk.last);
        if first > last || first <= present.last && present.last != Sequence(0) {
            let text = format!(
                "a chunk of {name} reaches from {} to {}, the one before to {}",
                first.0, last.0, present.last.0
            );
            self.report.note(Wrong, text);
        }
        present.last = last;
        let lost = |lost: u64, why: &str| {
            format!("{lost} messages of {name} between sequences {} and {}: {why}", first.0, last.0)
        };
        let messages = u64::from(chunk.messages);
        let Some(whole) = self.source.whole(Table::Chunks, value)? else {
            present.said = (present.said.0 + messages, present.said.1 + bytes);
            self.report.note(Lost, lost(messages, "their place in the log is not there"));
            self.shares.push((slot, last.0, None));
            return Ok(());
        };
        let content = whole.get(CHUNK_HEAD_BYTES..).unwrap_or_default();
        let frames = look_at_frames(content, acked);
        if frames.messages < messages {
            self.report.note(Lost, lost(messages - frames.messages, "they are damaged"));
        } else if frames.messages > messages {
            self.report.note(
                Wrong,
                format!("a chunk of {name} says {messages} messages, and has {}", frames.messages),
            );
        } else if !frames.are_in_order || frames.first != Some(first) || frames.last != Some(last) {
            self.report.note(
                Wrong,
                format!("sequences of {name} between {} and {} are not in order", first.0, last.0),
            );
        }
        let is_whole = frames.messages == messages && frames.count == messages;
        if first > acked {
            present.said = (present.said.0 + messages, present.said.1 + bytes);
        } else {
            // Of a part, no record says how much it is.
            present.said = (present.said.0 + frames.waiting.0, present.said.1 + frames.waiting.1);
        }
        present.whole = (present.whole.0 + frames.waiting.0, present.whole.1 + frames.waiting.1);
        self.shares.push((slot, last.0, is_whole.then(|| xxh3_64(&records::emit_chunk_shares(content)))));
        Ok(())
    }

    fn begin(&mut self, slot: u32) {
        if self.present.as_ref().is_some_and(|present| present.slot == slot) {
            return;
        }
        self.close();
        self.people.look_held(slot, "a chunk of messages", self.report);
        let mailbox = self.mailboxes.remove(&slot);
        self.present = Some(Present { slot, mailbox, last: Sequence(0), said: (0, 0), whole: (0, 0) });
    }

    /// Compares what a mailbox counts with what there is.
    fn close(&mut self) {
        let Some(Present { slot, mailbox, last, said, whole }) = self.present.take() else { return };
        self.report.mailboxes += 1;
        self.report.messages += whole.0;
        self.report.bytes += whole.1;
        let name = self.people.name(slot);
        let Some(mailbox) = mailbox else {
            self.report.note(
                Lost,
                format!(
                    "the record of the mailbox of {name}, without which its {} messages wait for ever",
                    said.0
                ),
            );
            return;
        };
        if mailbox.durable < last {
            self.report.note(Wrong, format!("the mailbox of {name} ends before its last message"));
        }
        // A relay that met damage counts without it.
        let fits = |counted: u64, whole: u64, said: u64| (whole..=said).contains(&counted);
        if !fits(mailbox.messages, whole.0, said.0) || !fits(mailbox.bytes, whole.1, said.1) {
            let StoredMailbox { messages, bytes, .. } = mailbox;
            let text = format!(
                "the mailbox of {name} counts {messages} messages of {bytes} bytes, there are {} of {}",
                said.0, said.1
            );
            self.report.note(Wrong, text);
        }
    }

    /// Compares what is said of the senders in each chunk with what is in it.
    fn shares(&mut self, are_whole: bool) {
        let mut found = BTreeMap::new();
        let (source, report) = (self.source, &mut *self.report);
        source.each(Table::ChunkShares, &mut |key, value| {
            let Some((slot, last)) = key.split_first_chunk().and_then(|(slot, last)| {
                Some((u32::from_be_bytes(*slot), u64::from_be_bytes(last.try_into().ok()?)))
            }) else {
                return malformed(Table::ChunkShares, key, &StoreError::malformed("key"), report);
            };
            if let Err(error) = records::parse_chunk_shares(slot, value) {
                return malformed(Table::ChunkShares, key, &error, report);
            }
            found.insert((slot, last), xxh3_64(value));
        });
        for (slot, last, expected) in mem::take(&mut self.shares) {
            // A store of before there were shares has none for its chunks: that is no mistake.
            let said = found.remove(&(slot, last));
            if expected.zip(said).is_some_and(|(expected, said)| expected != said) {
                let name = self.people.name(slot);
                report.note(
                    Wrong,
                    format!("whose messages up to sequence {last} of {name} are is said otherwise"),
                );
            }
        }
        for (slot, last) in found.into_keys().filter(|_| are_whole) {
            let name = self.people.name(slot);
            report.note(
                Wrong,
                format!("a share of messages up to sequence {last} of {name}, which are not there"),
            );
        }
    }
}

/// Looks at each frame as the relay does before it gives it out.
fn look_at_frames(bytes: &[u8], acked: Sequence) -> Frames {
    let mut frames = Frames { are_in_order: true, ..Frames::default() };
    let mut rest = bytes;
    while let Some((length, (_, routing))) = frame_bytes_at(rest).zip(routing_at(rest)) {
        let Some(frame) = rest.get(..length) else { break };
        rest = rest.get(length..).unwrap_or_default();
        frames.count += 1;
        let parsed = Frame::parse(frame, BODY_BYTES_MAX);
        if !matches!(parsed, Ok(Parsed::Frame(Frame::Deliver(_) | Frame::Notice(..), _))) {
            continue;
        }
        frames.are_in_order &= frames.last < Some(routing.sequence);
        frames.first = frames.first.or(Some(routing.sequence));
        frames.last = Some(routing.sequence);
        frames.messages += 1;
        if routing.sequence > acked {
            frames.waiting = (frames.waiting.0 + 1, frames.waiting.1 + length as u64);
        }
    }
    frames
}
