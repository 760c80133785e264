//! A state directory with names and messages in it that nobody registered or sent over a wire: a million registrations
//! would take their signatures' time.
//!
//! Owns: what is in it. It goes through the store's own requests, so that it lies there as the relay would have put it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use e2e_protocol::ids::{Lane, Name, Number, Sequence, Uid};
use e2e_protocol::limits::FRAME_BYTES_MAX;
use e2e_protocol::wire::{FrameType, Routing, routed::emit_routed};
use e2e_relayd::store::{Engine, LogEngine, Request, Store, apply_batch};
use e2e_tests::raw::identity;

/// Registrations or appends in one commit.
const BATCH: usize = 16_384;
/// Messages in one append: a chunk of 64 KiB, about.
const APPENDED: u64 = 320;
/// Bytes of an envelope.
const ENVELOPE_BYTES: usize = 128;
/// Messages in a mailbox, of 1,000 names but the first, who sent them all.
pub(crate) const MAILBOX_MESSAGES: usize = 1_000;
/// They live for so long.
const TTL_SECONDS: u32 = 7 * 86_400;

/// The name with this index.
pub(crate) fn name(index: usize) -> String {
    format!("name{index}")
}

/// Makes the directory, with `names` in it who all have the identity of [`identity`], and `messages` in the mailboxes
/// of those from the second on.
pub(crate) fn populate(state: &Path, names: usize, messages: usize) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    drop(Store::open(state, [7; 32], now).expect("a new store"));
    let engine = LogEngine::open(&state.join("relay.redb")).expect("it was just made");
    let indices: Vec<usize> = (0..names).collect();
    for batch in indices.chunks(BATCH) {
        let requests: Vec<Request> = batch.iter().map(|index| register(*index)).collect();
        carry_out(&engine, &requests, now);
    }
    let mailboxes: Vec<usize> = (1..=messages / MAILBOX_MESSAGES).collect();
    for batch in mailboxes.chunks(64) {
        let requests: Vec<Request> = batch.iter().flat_map(|index| appends(*index, now)).collect();
        carry_out(&engine, &requests, now);
    }
}

fn carry_out(engine: &dyn Engine, requests: &[Request], now: u64) {
    let applied = apply_batch(engine, requests, now);
    assert!(applied.failure.is_none(), "{:?}", applied.failure);
    engine.settle(false).expect("there is room");
}

fn register(index: usize) -> Request {
    let name: Name = name(index).parse().expect("a good name");
    let (fingerprint, identity_key) = (*identity().fingerprint(), Box::new(*identity().modulus()));
    let slot = u32::try_from(index).expect("not so many");
    Request::Register { slot, generation: 1, name, fingerprint, identity_key, token: 0 }
}

fn appends(index: usize, now: u64) -> Vec<Request> {
    let slot = u32::try_from(index).expect("not so many");
    let mut requests = Vec::new();
    let (mut first, end) = (1, MAILBOX_MESSAGES as u64 + 1);
    while first < end {
        let last = (first + APPENDED).min(end) - 1;
        let mut bytes = Vec::new();
        for sequence in first..=last {
            let routing = Routing {
                peer: Uid::new(0, 1),
                lane: Lane(index as u64),
                number: Number(sequence),
                sequence: Sequence(sequence),
                time_ms: now,
                ttl_seconds: TTL_SECONDS,
            };
            let at = bytes.len();
            bytes.resize(at + FRAME_BYTES_MAX, 0);
            let count = emit_routed(&mut bytes[at..], FrameType::Deliver, &routing, &[0x5A; ENVELOPE_BYTES])
                .expect("there is room");
            bytes.truncate(at + count);
        }
        let messages = (last + 1 - first) as u32;
        requests.push(Request::Append {
            slot,
            first: Sequence(first),
            last: Sequence(last),
            messages,
            bytes,
        });
        first = last + 1;
    }
    requests
}
