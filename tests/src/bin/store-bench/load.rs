//! The load: what a relay does to its store, and how long each part takes.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use e2e_relayd::store::{Engine, StoreError, StoreErrorKind, Table, Write, limits::CHUNK_BYTES_BEST};

const MESSAGE_BYTES: usize = 1024;
const CHUNK_MESSAGES: usize = CHUNK_BYTES_BEST / MESSAGE_BYTES;

/// Each commit appends one chunk to each of so many mailboxes.
const MAILBOXES: u32 = 16;

/// Commits that append only.
const FILLING: u64 = 256;

/// Commits after these, which append as much and delete the oldest as much.
const STEADY: u64 = 512;

/// Commits of one message of one mailbox: what a relay that is hardly used does.
const SMALL: u64 = 1000;

/// The mailbox of the small commits.
const SMALL_MAILBOX: u32 = MAILBOXES;

/// Fills, goes on in a steady state, makes small commits, reads one mailbox. Gives fields of JSON.
pub(crate) fn write(engine: &dyn Engine) -> Result<String, StoreError> {
    let chunk = noise(CHUNK_MESSAGES * MESSAGE_BYTES);
    let start = Instant::now();
    let mut times = Times::default();
    for round in 0..FILLING + STEADY {
        let mut writes = Vec::new();
        for mailbox in 0..MAILBOXES {
            writes.push(put(mailbox, round, &chunk));
            if let Some(oldest) = round.checked_sub(FILLING) {
                writes.push(delete(mailbox, oldest));
            }
        }
        times.measure(|| commit(engine, &writes))?;
    }
    let messages_per_s = per_second((FILLING + STEADY) * u64::from(MAILBOXES) * CHUNK_MESSAGES as u64, start);

    let mut small = Times::default();
    for round in 0..SMALL {
        let writes = [put(SMALL_MAILBOX, round, chunk.get(..MESSAGE_BYTES).unwrap_or_default())];
        small.measure(|| commit(engine, &writes))?;
    }

    let start = Instant::now();
    let bytes = scan(engine, 0)?;
    expect(bytes == FILLING * chunk.len() as u64, "a scan gives what was written")?;
    let scanned_per_s = per_second(FILLING * CHUNK_MESSAGES as u64, start);
    Ok(format!(
        "\"messages_per_s\":{messages_per_s},{},{},\"scanned_per_s\":{scanned_per_s}",
        times.fields("commit"),
        small.fields("small_commit")
    ))
}

/// Payload that [`write`] has the engine write.
pub(crate) fn written_payload_bytes() -> u64 {
    let chunks = (FILLING + STEADY) * u64::from(MAILBOXES);
    chunks * (CHUNK_MESSAGES * MESSAGE_BYTES) as u64 + SMALL * MESSAGE_BYTES as u64
}

/// After a kill: everything is there, and is deleted mailbox by mailbox.
pub(crate) fn recover(engine: &dyn Engine) -> Result<String, StoreError> {
    for mailbox in 0..MAILBOXES {
        let bytes = FILLING * (CHUNK_MESSAGES * MESSAGE_BYTES) as u64;
        expect(scan(engine, mailbox)? == bytes, "committed chunks survive a kill")?;
    }
    expect(
        scan(engine, SMALL_MAILBOX)? == SMALL * MESSAGE_BYTES as u64,
        "committed messages survive a kill",
    )?;
    let start = Instant::now();
    for mailbox in 0..=SMALL_MAILBOX {
        commit(engine, &[delete(mailbox, u64::MAX)])?;
    }
    let delete_ms = milliseconds(start.elapsed());
    for mailbox in 0..=SMALL_MAILBOX {
        expect(scan(engine, mailbox)? == 0, "what is deleted is gone")?;
    }
    Ok(format!("\"delete_all_ms\":{delete_ms:.1}"))
}

/// Nothing else is to be done meanwhile, so that what an engine puts off is a part of it.
fn commit(engine: &dyn Engine, writes: &[Write]) -> Result<(), StoreError> {
    engine.commit(writes)?;
    engine.settle(false)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn key(mailbox: u32, sequence: u64) -> Vec<u8> {
    [&mailbox.to_be_bytes()[..], &sequence.to_be_bytes()].concat()
}

fn put(mailbox: u32, sequence: u64, value: &[u8]) -> Write {
    Write::Put { table: Table::Chunks, key: key(mailbox, sequence), value: value.to_vec() }
}

/// As an acknowledgement does.
fn delete(mailbox: u32, upto: u64) -> Write {
    Write::DeleteRange { table: Table::Chunks, from: key(mailbox, 0), to_inclusive: key(mailbox, upto) }
}

/// Bytes in a mailbox, each chunk copied as a backlog would be.
fn scan(engine: &dyn Engine, mailbox: u32) -> Result<u64, StoreError> {
    let mut bytes = 0;
    let mut copy = Vec::new();
    engine.scan(Table::Chunks, &key(mailbox, 0), &key(mailbox, u64::MAX), &mut |_, value| {
        copy.clear();
        copy.extend_from_slice(value);
        bytes += copy.len() as u64;
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

fn expect(holds: bool, what: &str) -> Result<(), StoreError> {
    if holds { Ok(()) } else { Err(StoreError::new(StoreErrorKind::Corrupted, format!("not so: {what}"))) }
}

fn per_second(count: u64, since: Instant) -> u64 {
    (count as f64 / since.elapsed().as_secs_f64()) as u64
}

/// Bytes that do not compress, the same in every run: envelopes are ciphertext.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn measure<E>(&mut self, call: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let start = Instant::now();
        let result = call();
        self.0.push(start.elapsed());
        result
    }

    /// The value below which so many thousandths lie, in microseconds.
    fn percentile(&self, thousandths: usize) -> u128 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * thousandths / 1000).min(sorted.len().saturating_sub(1));
        sorted.get(place).map_or(0, Duration::as_micros)
    }

    fn fields(&self, name: &str) -> String {
        let (p50, p99) = (self.percentile(500), self.percentile(990));
        format!("\"{name}_p50_us\":{p50},\"{name}_p99_us\":{p99}")
    }
}
