//! What each request of the store means, over every engine.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod store_common;

use std::collections::HashSet;

use e2e_protocol::ids::{KeyId, Sequence};
use e2e_protocol::wire::{FrameType, Routing, routed::emit_routed};
use e2e_relayd::store::{
    BundleRecord, Completion, Engine, PrekeyCount, PublishError, Request, Snapshot, Table, limits,
};
use sha2::{Digest, Sha256};
use store_common::*;

fn load(engine: &dyn Engine) -> Snapshot {
    Snapshot::load(engine, [1; 32], NOW).unwrap()
}

fn mailbox(engine: &dyn Engine, slot: u32) -> Option<(u64, u64, u64, u64)> {
    let found = load(engine).mailboxes.into_iter().find(|mailbox| mailbox.slot == slot)?;
    Some((found.acked.0, found.durable.0, found.messages, found.bytes))
}

fn published(engine: &dyn Engine, request: Request) -> Result<PrekeyCount, PublishError> {
    let [Completion::Published { slot: 3, token: 8, result }] = apply(engine, &[request])[..] else {
        panic!("a publication is answered by its result")
    };
    result
}

fn taken(engine: &dyn Engine, slot: u32, one_time: bool) -> Option<BundleRecord> {
    let Some(Completion::Bundle { token: 9, result, .. }) = apply(engine, &[take(slot, one_time)]).pop()
    else {
        panic!("a take is answered by a bundle")
    };
    result.unwrap().map(|bundle| *bundle)
}

fn count(signed: u32, left: u8) -> PrekeyCount {
    PrekeyCount { signed_prekey: key_id(signed), one_time_left: left }
}

#[test]
fn stores_bytes_as_they_lay_in_memory() {
    over_each_engine(|engine| {
        let completions = apply(engine, &[append(3, 10, 19, 100)]);
        assert_eq!(completions, [Completion::Appended { slot: 3, last: Sequence(19) }]);
        let expected: Vec<u8> = (10..=19).flat_map(|sequence| message(3, sequence, 100)).collect();
        assert_eq!(backlog_bytes(engine, 3, 0), expected);
        assert_eq!(mailbox(engine, 3), Some((0, 19, 10, 1000)));
        assert_eq!(chunks(engine, 2, 0, usize::MAX), [], "another mailbox has nothing of it");
        assert_eq!(chunks(engine, 4, 0, usize::MAX), [], "another mailbox has nothing of it");
    });
}

/// Whole frames back to back, as the core gives them.
fn frames(sequences: std::ops::RangeInclusive<u64>, envelope: &[u8]) -> Vec<u8> {
    let mut out = vec![0; limits::CHUNK_BYTES_BEST * 4];
    let mut end = 0;
    for sequence in sequences {
        let routing = Routing { sequence: Sequence(sequence), ..Routing::default() };
        end += emit_routed(&mut out[end..], FrameType::Deliver, &routing, envelope).unwrap();
    }
    out.truncate(end);
    out
}

#[test]
fn cuts_a_large_append_into_chunks_that_fit_their_pages() {
    over_each_engine(|engine| {
        let bytes = frames(10..=109, &[7; 1024]);
        assert!(bytes.len() > limits::CHUNK_BYTES_BEST);
        let (first, last) = (Sequence(10), Sequence(109));
        let request = Request::Append { slot: 3, first, last, messages: 100, bytes: bytes.clone() };
        assert_eq!(apply(engine, &[request]), [Completion::Appended { slot: 3, last }]);
        let in_one = (limits::CHUNK_BYTES_BEST / (bytes.len() / 100)) as u64;
        assert_eq!(chunks(engine, 3, 0, usize::MAX), [(10, 9 + in_one), (10 + in_one, 109)]);
        assert_eq!(backlog_bytes(engine, 3, 0), bytes);
        assert_eq!(mailbox(engine, 3), Some((0, 109, 100, bytes.len() as u64)));
        apply(engine, &[acked(3, 9 + in_one, 100 - in_one, 1)]);
        assert_eq!(chunks(engine, 3, 0, usize::MAX), [(10 + in_one, 109)], "each goes by itself");
    });
}

#[test]
fn joins_appends_of_one_commit_into_one_chunk_and_completes_each() {
    over_each_engine(|engine| {
        let completions = apply(engine, &[append(3, 1, 2, 50), append(4, 1, 1, 50), append(3, 5, 9, 50)]);
        assert_eq!(
            completions,
            [(3, 2), (4, 1), (3, 9)].map(|(slot, last)| Completion::Appended { slot, last: Sequence(last) })
        );
        assert_eq!(chunks(engine, 3, 0, usize::MAX), [(1, 9)]);
        assert_eq!(mailbox(engine, 3), Some((0, 9, 7, 350)));
        apply(engine, &[append(3, 10, 10, 50)]);
        assert_eq!(chunks(engine, 3, 0, usize::MAX), [(1, 9), (10, 10)], "a later commit is a new chunk");
    });
}

#[test]
fn starts_a_new_chunk_when_the_last_is_full() {
    over_each_engine(|engine| {
        let half = limits::CHUNK_BYTES_BEST / 2;
        apply(engine, &[append(3, 1, 1, half), append(3, 2, 2, half), append(3, 3, 3, 1)]);
        assert_eq!(chunks(engine, 3, 0, usize::MAX), [(1, 2), (3, 3)]);
        apply(engine, &[append(3, 4, 4, 4 * half)]);
        assert_eq!(chunks(engine, 3, 3, usize::MAX), [(4, 4)], "a large append is a chunk by itself");
    });
}

#[test]
fn reads_whole_chunks_until_enough_bytes_and_at_least_one() {
    over_each_engine(|engine| {
        for first in [1, 11, 21] {
            apply(engine, &[append(3, first, first + 9, 10)]);
        }
        assert_eq!(chunks(engine, 3, 0, 0), [(1, 10)]);
        assert_eq!(chunks(engine, 3, 0, 100), [(1, 10)]);
        assert_eq!(chunks(engine, 3, 0, 101), [(1, 10), (11, 20)]);
        assert_eq!(chunks(engine, 3, 9, 1), [(1, 10)], "10 is after 9");
        assert_eq!(chunks(engine, 3, 10, 1), [(11, 20)]);
        assert_eq!(chunks(engine, 3, 30, usize::MAX), []);
        assert_eq!(chunks(engine, 3, u64::MAX, usize::MAX), []);
    });
}

#[test]
fn acknowledgement_deletes_whole_chunks_only() {
    over_each_engine(|engine| {
        for first in [1, 11] {
            apply(engine, &[append(3, first, first + 9, 10)]);
        }
        assert_eq!(apply(engine, &[acked(3, 15, 5, 50)]), []);
        assert_eq!(chunks(engine, 3, 0, usize::MAX), [(11, 20)]);
        assert_eq!(mailbox(engine, 3), Some((15, 20, 5, 50)));
        apply(engine, &[acked(3, 12, 8, 80)]);
        assert_eq!(mailbox(engine, 3), Some((15, 20, 5, 50)), "an acknowledgement is never taken back");
    });
}

#[test]
fn leaves_nothing_of_a_mailbox_that_is_all_acknowledged() {
    over_each_engine(|engine| {
        apply(engine, &[append(3, 1, 10, 10), append(4, 1, 10, 10)]);
        apply(engine, &[acked(3, 10, 0, 0)]);
        assert_eq!(mailbox(engine, 3), None);
        assert_eq!(chunks(engine, 3, 0, usize::MAX), []);
        assert_eq!(chunks(engine, 4, 0, usize::MAX), [(1, 10)]);
        assert_eq!(apply(engine, &[acked(5, 10, 0, 0)]), [], "nothing was stored, nothing is deleted");
    });
}

#[test]
fn never_writes_what_is_acknowledged_in_the_same_commit() {
    over_each_engine(|engine| {
        apply(engine, &[append(3, 1, 5, 10), acked(3, 5, 0, 0), append(3, 6, 7, 10)]);
        assert_eq!(chunks(engine, 3, 0, usize::MAX), [(6, 7)]);
        assert_eq!(mailbox(engine, 3).unwrap().1, 7);
    });
}

#[test]
fn keeps_a_chunk_of_which_a_part_is_acknowledged_in_the_same_commit() {
    over_each_engine(|engine| {
        apply(engine, &[append(3, 1, 5, 10), acked(3, 3, 2, 20), append(3, 6, 7, 10)]);
        assert_eq!(chunks(engine, 3, 3, usize::MAX), [(1, 7)]);
        assert_eq!(mailbox(engine, 3), Some((3, 7, 4, 40)));
    });
}

#[test]
fn registration_survives_and_starts_with_nothing_of_an_earlier_holder() {
    over_each_engine(|engine| {
        let completions = apply(engine, &[register(3, 1, "alice")]);
        assert_eq!(completions, [Completion::Registered { slot: 3, token: 7, result: Ok(()) }]);
        published(engine, publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 16)))).unwrap();
        apply(engine, &[append(3, 1, 10, 10)]);
        let user = load(engine).users[0];
        assert_eq!((user.slot, user.generation, user.name.as_str()), (3, 1, "alice"));
        assert_eq!(user.prekeys, count(5, 16));

        apply(engine, &[register(3, 2, "carol")]);
        let user = load(engine).users[0];
        assert_eq!((user.slot, user.generation, user.name.as_str()), (3, 2, "carol"));
        assert_eq!(user.prekeys, PrekeyCount { signed_prekey: KeyId::ZERO, one_time_left: 0 });
        assert_eq!(chunks(engine, 3, 0, usize::MAX), []);
        assert_eq!(mailbox(engine, 3), None);
        assert_eq!(taken(engine, 3, true), None);
        assert_eq!(count_keys(engine, Table::PrekeyBatches), 0);
    });
}

#[test]
fn hands_out_each_one_time_prekey_once_and_the_bundle_without_one_after_that() {
    over_each_engine(|engine| {
        apply(engine, &[register(3, 1, "alice")]);
        published(engine, publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 3)))).unwrap();
        published(engine, publish(3, None, Some(batch(5, 200, 2)))).unwrap();
        let mut seen = HashSet::new();
        for left in [4, 3, 2, 1, 0] {
            let bundle = taken(engine, 3, true).unwrap();
            let one_time = bundle.one_time.unwrap();
            assert!(seen.insert(one_time.modulus), "handed out twice");
            let hash: [u8; 32] = Sha256::digest(one_time.modulus).into();
            assert!(one_time.hashes.contains(&hash), "its hash is in its batch");
            assert_eq!(one_time.signature, modulus(if one_time.hashes.len() == 3 { 100 } else { 200 }));
            assert_eq!(bundle.left, count(5, left));
            assert_eq!(bundle.identity_key, modulus(1));
            assert_eq!(bundle.signed_prekey, signed_prekey(5));
        }
        assert_eq!(taken(engine, 3, true).unwrap().one_time, None);
        assert_eq!(load(engine).users[0].prekeys, count(5, 0));
    });
}

#[test]
fn hands_out_different_keys_to_takes_of_one_commit() {
    over_each_engine(|engine| {
        apply(engine, &[register(3, 1, "alice")]);
        let publication = publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 4)));
        let completions = apply(engine, &[publication, take(3, true), take(3, true), take(3, false)]);
        let keys: Vec<_> = completions
            .iter()
            .filter_map(|completion| match completion {
                Completion::Bundle { result, .. } => Some(result.clone().unwrap().unwrap().one_time),
                _ => None,
            })
            .collect();
        let keys: Vec<_> = keys.into_iter().map(|key| key.map(|key| key.modulus)).collect();
        assert_eq!(keys, [Some(modulus(100)), Some(modulus(101)), None]);
        assert_eq!(load(engine).users[0].prekeys, count(5, 2));
    });
}

#[test]
fn a_bundle_without_one_time_prekey_takes_none() {
    over_each_engine(|engine| {
        apply(engine, &[register(3, 1, "alice")]);
        assert_eq!(taken(engine, 3, false), None);
        assert_eq!(taken(engine, 9, false), None, "nobody holds slot 9");
        assert_eq!(taken(engine, 9, true), None, "nobody holds slot 9");
        published(engine, publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 2)))).unwrap();
        let bundle = taken(engine, 3, false).unwrap();
        assert_eq!((bundle.one_time, bundle.left), (None, count(5, 2)));
    });
}

#[test]
fn a_new_signed_prekey_drops_the_older_ones_batches() {
    over_each_engine(|engine| {
        apply(engine, &[register(3, 1, "alice")]);
        published(engine, publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 16)))).unwrap();
        assert_eq!(published(engine, publish(3, Some(signed_prekey(6)), None)), Ok(count(6, 0)));
        assert_eq!(count_keys(engine, Table::PrekeyBatches), 0);
        let result = published(engine, publish(3, None, Some(batch(5, 200, 16))));
        assert_eq!(result, Err(PublishError::WrongSignedPrekey));
        assert_eq!(published(engine, publish(3, None, Some(batch(6, 200, 1)))), Ok(count(6, 1)));
        assert_eq!(taken(engine, 3, true).unwrap().one_time.unwrap().modulus, modulus(200));
    });
}

#[test]
fn the_same_publication_again_changes_nothing() {
    over_each_engine(|engine| {
        apply(engine, &[register(3, 1, "alice")]);
        let publication = || publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 2)));
        assert_eq!(published(engine, publication()), Ok(count(5, 2)));
        taken(engine, 3, true).unwrap();
        assert_eq!(published(engine, publication()), Ok(count(5, 1)), "handed out stays handed out");
        taken(engine, 3, true).unwrap();
        assert_eq!(published(engine, publication()), Ok(count(5, 0)), "handed out stays handed out");
    });
}

#[test]
fn refuses_publications_by_their_reason_and_changes_nothing() {
    over_each_engine(|engine| {
        assert_eq!(
            published(engine, publish(3, Some(signed_prekey(5)), None)),
            Err(PublishError::NotRegistered)
        );
        apply(engine, &[register(3, 1, "alice")]);
        let refused = |request| published(engine, request).unwrap_err();
        assert_eq!(refused(publish(3, None, Some(batch(5, 100, 1)))), PublishError::NoSignedPrekey);
        published(engine, publish(3, Some(signed_prekey(5)), Some(batch(5, 100, 1)))).unwrap();
        assert_eq!(refused(publish(3, None, Some(batch(5, 200, 0)))), PublishError::BadBatch);
        assert_eq!(refused(publish(3, None, Some(batch(5, 200, 17)))), PublishError::BadBatch);
        let both = publish(3, Some(signed_prekey(6)), Some(batch(5, 200, 1)));
        assert_eq!(refused(both), PublishError::WrongSignedPrekey);
        assert_eq!(load(engine).users[0].prekeys, count(5, 1), "the signed prekey was not taken either");
    });
}

#[test]
fn refuses_a_ninth_batch_even_if_others_are_used_up() {
    over_each_engine(|engine| {
        apply(engine, &[register(3, 1, "alice")]);
        published(engine, publish(3, Some(signed_prekey(5)), None)).unwrap();
        for first in (100..).step_by(100).take(limits::PREKEY_BATCHES_MAX) {
            published(engine, publish(3, None, Some(batch(5, first, 16)))).unwrap();
        }
        for _ in 0..16 {
            taken(engine, 3, true).unwrap();
        }
        assert_eq!(
            published(engine, publish(3, None, Some(batch(5, 9000, 1)))),
            Err(PublishError::BatchesFull)
        );
        assert_eq!(load(engine).users[0].prekeys, count(5, 112));
    });
}

#[test]
fn counts_starts_and_never_lets_the_clock_run_backwards() {
    over_each_engine(|engine| {
        let first = Snapshot::load(engine, [1; 32], NOW).unwrap();
        assert_eq!((first.relay_id.0, first.boot, first.clock), ([1; 32], 1, NOW));
        apply(engine, &[append(3, 1, 1, 10)]);
        let second = Snapshot::load(engine, [2; 32], NOW - 1000).unwrap();
        assert_eq!((second.relay_id.0, second.boot, second.clock), ([1; 32], 2, NOW));
    });
}

#[test]
fn refuses_a_newer_format_and_leaves_it() {
    over_each_engine(|engine| {
        load(engine);
        let format = engine.get(Table::Meta, b"format").unwrap();
        assert_eq!(format, Some(2_u32.to_be_bytes().to_vec()));
        let (table, key, value) = (Table::Meta, b"format".to_vec(), 3_u32.to_be_bytes().to_vec());
        engine.commit(&[e2e_relayd::store::Write::Put { table, key, value }]).unwrap();
        let error = Snapshot::load(engine, [1; 32], NOW).unwrap_err();
        assert_eq!(error, e2e_relayd::store::LoadError::NewerFormat(3));
        assert_eq!(engine.get(Table::Meta, b"boot").unwrap(), Some(1_u32.to_be_bytes().to_vec()));
    });
}

#[test]
fn a_malformed_record_fails_its_own_request_alone() {
    over_each_engine(|engine| {
        let (table, key) = (Table::Mailboxes, 3_u32.to_be_bytes().to_vec());
        engine.commit(&[e2e_relayd::store::Write::Put { table, key, value: vec![1, 2, 3] }]).unwrap();
        let completions = apply(engine, &[append(3, 1, 1, 10), append(4, 1, 1, 10)]);
        assert!(matches!(completions[0], Completion::AppendFailed { slot: 3, .. }));
        assert_eq!(completions[1], Completion::Appended { slot: 4, last: Sequence(1) });
        assert_eq!(chunks(engine, 3, 0, usize::MAX), []);
        assert_eq!(chunks(engine, 4, 0, usize::MAX), [(1, 1)]);
    });
}

fn count_keys(engine: &dyn Engine, table: Table) -> usize {
    let mut keys = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        keys += 1;
        std::ops::ControlFlow::Continue(())
    };
    engine.scan(table, &[], &[0xff; 16], &mut visit).unwrap();
    keys
}
