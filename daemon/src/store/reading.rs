//! What can be answered from what is already on the disk.
//!
//! Plain functions over an engine, used by the reading thread, and by a batch for what it has not changed.

use std::ops::ControlFlow;

use e2e_protocol::ids::{KeyId, Sequence};

use super::{
    BundleRecord, Chunk, Completion, Engine, KeyHistory, Request, StoreError, StoreErrorKind, Table,
    records::{self, User},
};

/// Whether a request is answered without a commit.
pub(super) fn is_read(request: &Request) -> bool {
    matches!(
        request,
        Request::ReadBacklog { .. } | Request::TakeBundle { one_time: false, .. } | Request::ReadKeys { .. }
    )
}

/// Answers a request for which [`is_read`] holds. An error beside the answer is one that the engine cannot be
/// expected to get over by itself; a malformed record is only reported.
pub(super) fn answer(engine: &dyn Engine, request: &Request) -> (Option<Completion>, Option<StoreError>) {
    match *request {
        Request::ReadBacklog { slot, after, bytes_max, token } => {
            let (chunks, error) = backlog(engine, slot, after, bytes_max);
            let (result, failure) = match error {
                // What was read before it is good; what comes after it is asked for again.
                Some(error) if chunks.is_empty() => split(Err(error)),
                Some(error) => (Ok(chunks), split::<()>(Err(error)).1),
                None => (Ok(chunks), None),
            };
            (Some(Completion::Backlog { slot, token, result }), failure)
        }
        Request::TakeBundle { slot, token, one_time: false } => {
            let (result, failure) = split(bundle(slot, |table, key| engine.get(table, key)));
            (Some(Completion::Bundle { slot, token, result }), failure)
        }
        Request::ReadKeys { slot, token } => {
            let (result, failure) = split(key_history(slot, |table, key| engine.get(table, key)));
            (Some(Completion::Keys { slot, token, result: result.map(|keys| keys.map(Box::new)) }), failure)
        }
        _ => (None, None),
    }
}

fn split<T>(result: Result<T, StoreError>) -> (Result<T, StoreErrorKind>, Option<StoreError>) {
    match result {
        Ok(value) => (Ok(value), None),
        Err(error) if error.kind == StoreErrorKind::Corrupted => {
            log::error!("store: {error}");
            (Err(error.kind), None)
        }
        Err(error) => (Err(error.kind), Some(error)),
    }
}

/// Whole chunks with messages after `after`, until `bytes_max` is reached, or something cannot be read. A record
/// that is no chunk is passed over.
fn backlog(
    engine: &dyn Engine,
    slot: u32,
    after: Sequence,
    bytes_max: usize,
) -> (Vec<Chunk>, Option<StoreError>) {
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    // Nothing comes after the highest sequence.
    let Some(next) = after.0.checked_add(1) else { return (chunks, None) };
    let (from, to) = (records::chunk_key(slot, Sequence(next)), records::chunk_key(slot, Sequence(u64::MAX)));
    let scanned = engine.scan(Table::Chunks, &from, &to, &mut |key, value| {
        match records::parse_chunk(key, value) {
            Ok(chunk) => {
                bytes += chunk.bytes.len();
                chunks.push(chunk);
            }
            Err(error) => log::error!("store: {error}"),
        }
        if bytes >= bytes_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (chunks, scanned.err())
}

/// The keys that a name has had, by whatever `get` sees.
pub(super) fn key_history(
    slot: u32,
    get: impl Fn(Table, &[u8]) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Option<KeyHistory>, StoreError> {
    let key = records::slot_key(slot);
    // In this order: where the first roll-over is committed between the two, its record has it all.
    let identity_key = get(Table::IdentityKeys, &key)?;
    if let Some(record) = get(Table::RollOvers, &key)? {
        return Ok(Some(records::parse_key_history(&record)?));
    }
    let Some(identity_key) = identity_key else { return Ok(None) };
    Ok(Some(KeyHistory { oldest: records::parse_modulus(&identity_key)?, roll_overs: Vec::new() }))
}

/// A bundle without a one-time prekey, by whatever `get` sees.
pub(super) fn bundle(
    slot: u32,
    get: impl Fn(Table, &[u8]) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Option<Box<BundleRecord>>, StoreError> {
    let key = records::slot_key(slot);
    let Some(user) = get(Table::Users, &key)? else { return Ok(None) };
    let user = User::parse(&user)?;
    if user.signed_prekey == KeyId::ZERO {
        return Ok(None);
    }
    // Each `get` may see a later commit than the one before: then the slot has just changed hands.
    let (Some(identity_key), Some(signed_prekey)) =
        (get(Table::IdentityKeys, &key)?, get(Table::SignedPrekeys, &key)?)
    else {
        return Ok(None);
    };
    Ok(Some(Box::new(BundleRecord {
        identity_key: records::parse_modulus(&identity_key)?,
        signed_prekey: records::parse_signed_prekey(&signed_prekey)?,
        one_time: None,
        left: user.prekeys(),
    })))
}
