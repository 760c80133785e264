//! The small rules: pacing, budgets, records, chains, padding.

use super::secret;
use crate::e2e::chain::Chain;
use crate::e2e::codec::{Reader, Writer};
use crate::e2e::envelope::Place;
use crate::e2e::key_pair::{KeyPair, PRIME_BYTES};
use crate::e2e::limits::{
    INIT_INTERVAL_MS_MAX, INIT_INTERVAL_MS_MIN, INIT_WINDOW_MS, RECORDS_KEPT_MS, RECORDS_MIN,
    SEGMENT_RECORDS, SKIPPED_KEPT_MS, SKIPPED_KEYS_MAX,
};
use crate::e2e::pace::Pace;
use crate::e2e::plaintext::is_padded_length;
use crate::e2e::preamble_memory::{EpochSecrets, PreambleMemory};
use crate::e2e::records::{Record, Records};
use crate::e2e::secret::Secret;
use crate::e2e::skipped::SkippedKeys;
use crate::ids::{MessageId, Name, Receipt, SessionId};

const NOW: u64 = 1_790_000_000_000;

fn any_secret() -> Secret {
    secret(&"11".repeat(32))
}

fn place(number: u32) -> Place {
    Place { sid: SessionId([7; 16]), epoch: 0, number }
}

fn record(number: u32, opened_ms: u64) -> Record {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Record {
        sid: SessionId([7; 16]),
        epoch: 0,
        number,
        tag: [1; 32],
        receipt: Receipt([2; 32]),
        message_id: MessageId(id),
        opened_ms,
    }
}

#[test]
fn first_init_waits_for_nothing() {
    assert_eq!(Pace::default().check(NOW, false), Ok(()));
}

#[test]
fn intervals_between_unanswered_inits_double_up_to_a_day() {
    let mut pace = Pace::default();
    let (mut now, mut interval) = (NOW, INIT_INTERVAL_MS_MIN);
    for _ in 0..300 {
        pace.init_made(now, false);
        assert_eq!(pace.check(now + interval - 1, false), Err(now + interval));
        assert_eq!(pace.check(now + interval, false), Ok(()));
        now += interval;
        interval = (interval * 2).min(INIT_INTERVAL_MS_MAX);
    }
    assert_eq!(interval, INIT_INTERVAL_MS_MAX);
    pace.receipt_verified();
    assert_eq!(pace.check(now, false), Ok(()));
}

#[test]
fn receipt_ends_the_doubling_but_not_the_ten_minutes() {
    let mut pace = Pace::default();
    pace.init_made(NOW - 1, false);
    pace.init_made(NOW, false);
    pace.receipt_verified();
    assert_eq!(pace.check(NOW + 1, false), Err(NOW + INIT_INTERVAL_MS_MIN));
}

#[test]
fn full_chain_is_succeeded_at_once() {
    let mut pace = Pace::default();
    pace.init_made(NOW, false);
    assert_eq!(pace.check(NOW + 1, true), Ok(()));
    pace.init_made(NOW + 1, true);
    assert_eq!(pace.check(NOW + 2, false), Err(NOW + 1 + INIT_INTERVAL_MS_MIN));
}

#[test]
fn clock_set_back_does_not_block() {
    let mut pace = Pace::default();
    pace.init_made(NOW, false);
    assert_eq!(pace.check(NOW - 1, false), Ok(()));
}

#[test]
fn init_after_a_rejection_uses_no_one_time_prekey() {
    let mut pace = Pace::default();
    assert!(pace.uses_opk());
    pace.rejected();
    assert!(!pace.uses_opk());
    pace.init_made(NOW, false);
    assert!(pace.uses_opk());
}

#[test]
fn hourly_budget_of_inits_is_kept() {
    let names: Vec<Name> = (0..12).map(|i| format!("n{i}").parse().unwrap()).collect();
    let mut memory = PreambleMemory::new();
    let admitted = (0..20).filter(|_| memory.admit(&names[0], true, NOW)).count();
    assert_eq!(admitted, 8);
    memory.init_earned(&names[0]);
    assert!(memory.admit(&names[0], true, NOW));
    assert!(!memory.admit(&names[0], true, NOW));
    assert!(memory.admit(&names[0], true, NOW + INIT_WINDOW_MS));

    let mut memory = PreambleMemory::new();
    let of_all = names.iter().map(|name| (0..9).filter(|_| memory.admit(name, false, NOW)).count());
    assert_eq!(of_all.sum::<usize>(), 64);
    assert!(memory.admit(&"pinned".parse().unwrap(), true, NOW));
}

#[test]
fn four_decrypted_inits_wait_for_a_tag() {
    let peer = "alice".parse().unwrap();
    let mut memory = PreambleMemory::new();
    for n in 0..5 {
        let secrets = EpochSecrets { root: any_secret(), chain_key: any_secret() };
        memory.remember(&peer, &[n; 32], secrets);
    }
    assert!(memory.get(&[0; 32]).is_none());
    assert!((1..5).all(|n| memory.get(&[n; 32]).is_some()));
    memory.forget(&[4; 32]);
    assert!(memory.get(&[4; 32]).is_none());
}

#[test]
fn chain_ends_at_a_thousand() {
    let chain = Chain::new(any_secret());
    assert!(chain.advanced_past(1_000).is_none());
    let (last, _) = chain.advanced_past(999).unwrap();
    assert_eq!(last.skipped.len(), 999);
    assert!(last.chain.is_full());
    assert!(last.chain.clone().step().is_none());
}

#[test]
fn skipped_keys_are_bounded_in_number_and_time() {
    let mut keys = SkippedKeys::default();
    for n in 0..2_100 {
        keys.insert(place(n), any_secret(), NOW + u64::from(n));
    }
    assert_eq!(keys.len(), SKIPPED_KEYS_MAX);
    assert!(keys.get(place(99)).is_none());
    assert!(keys.get(place(100)).is_some());
    keys.erase(place(100));
    assert!(keys.get(place(100)).is_none());
    keys.erase_old(NOW + 2_000 + SKIPPED_KEPT_MS);
    assert_eq!(keys.len(), 100);

    let mut out = Writer::new(1);
    keys.encode(&mut out);
    let bytes = out.finish();
    let mut input = Reader::new(&bytes, 1).unwrap();
    assert_eq!(SkippedKeys::decode(&mut input).unwrap().len(), 100);
    assert!(input.finish().is_ok());
}

#[test]
fn skipped_keys_are_found_by_place_and_epoch() {
    let mut keys = SkippedKeys::default();
    let at = |sid: u8, epoch, number| Place { sid: SessionId([sid; 16]), epoch, number };
    for number in 0..1_000 {
        keys.insert(at(1, 2, number), any_secret(), NOW);
        keys.insert(at(2, 4, number), any_secret(), NOW);
    }
    assert!(keys.has_epoch(SessionId([1; 16]), 2) && keys.has_epoch(SessionId([2; 16]), 4));
    assert!(!keys.has_epoch(SessionId([1; 16]), 1) && !keys.has_epoch(SessionId([1; 16]), 3));
    keys.erase_session(SessionId([1; 16]));
    assert!(!keys.has_epoch(SessionId([1; 16]), 2));
    assert!(keys.get(at(1, 2, 0)).is_none() && keys.get(at(2, 4, 999)).is_some());
    // The clock may have been set back: what is old goes, wherever it stands.
    keys.insert(at(3, 0, 0), any_secret(), NOW - SKIPPED_KEPT_MS);
    assert!(keys.erase_old(NOW + 1));
    assert!(!keys.erase_old(NOW + 1));
    assert_eq!(keys.len(), 1_000);
}

#[test]
fn records_are_found_whatever_went_before_them() {
    let mut records = Records::new();
    // Each message comes in two envelopes, far apart.
    for n in 0..6_000 {
        records.push(&Record { message_id: record(n % 3_000, NOW).message_id, ..record(n, NOW) });
    }
    for n in 0..6_000 {
        let kept = records.iter().any(|kept| kept.number == n);
        assert_eq!(records.receipt_of(place(n), &[1; 32]).is_some(), kept, "{n}");
    }
    assert!((0..3_000).all(|n| records.knows(&record(n, NOW).message_id)));
}

#[test]
fn at_least_four_thousand_records_are_kept() {
    let mut records = Records::new();
    let mut kept = std::collections::BTreeMap::new();
    for n in 0..5_000 {
        let changed = records.push(&record(n, NOW));
        for number in changed.erase {
            assert!(kept.remove(&number).is_some());
        }
        kept.insert(changed.write, records.segment(changed.write).unwrap().to_vec());
    }
    let again = Records::decode(kept.iter().map(|(number, bytes)| (*number, bytes.as_slice()))).unwrap();
    assert!(again.iter().eq(records.iter()));
    let count = again.iter().count();
    assert!((RECORDS_MIN..RECORDS_MIN + SEGMENT_RECORDS).contains(&count), "{count}");
    assert_eq!(again.receipt_of(place(4_999), &[1; 32]), Some(Receipt([2; 32])));
    assert_eq!(again.receipt_of(place(4_999), &[3; 32]), None);
    assert_eq!(again.receipt_of(place(0), &[1; 32]), None);
    assert!(again.knows(&record(1_000, NOW).message_id));
    assert!(!again.knows(&record(5_000, NOW).message_id));
}

#[test]
fn records_go_after_sixty_days() {
    let mut records = Records::new();
    for n in 0..200 {
        records.push(&record(n, NOW));
    }
    let later = records.push(&record(200, NOW + RECORDS_KEPT_MS + 1));
    assert_eq!(later.erase, [0]);
    assert_eq!(later.write, 1);
}

#[test]
fn damaged_segments_are_refused() {
    let mut records = Records::new();
    records.push(&record(0, NOW));
    let segment = records.segment(0).unwrap();
    assert!(Records::decode([(0, segment)]).is_ok());
    assert!(Records::decode([(0, segment), (0, segment)]).is_err());
    assert!(Records::decode([(0, &segment[1..])]).is_err());
    assert!(Records::decode([(0, &segment[..0])]).is_err());
}

#[test]
fn padded_lengths_are_few() {
    let lengths: Vec<usize> = (0..=12_288).filter(|bytes| is_padded_length(*bytes)).collect();
    assert_eq!(lengths, [128, 256, 512, 1_024, 2_048, 4_096, 8_192, 12_288]);
}

/// Found by fuzzing: a damaged key file made the arithmetic of big numbers panic.
#[test]
fn key_of_what_is_no_prime_is_refused() {
    let number = |first: u8, last: u8| {
        let mut bytes = [0x5A; PRIME_BYTES];
        (bytes[0], bytes[PRIME_BYTES - 1]) = (first, last);
        bytes
    };
    let mut one = [0; PRIME_BYTES];
    one[PRIME_BYTES - 1] = 1;
    let odd = number(0xC3, 0x55);
    for bad in [[0; PRIME_BYTES], one, number(0xC3, 0x54), number(0x43, 0x55), odd] {
        assert!(KeyPair::from_primes(&bad, &odd).is_err());
        assert!(KeyPair::from_primes(&odd, &bad).is_err());
    }
}
