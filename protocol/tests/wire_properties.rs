//! What must hold for all frames and all bytes, not only for the vectors.
//!
//! The seed is fixed, so that a run is repeatable; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` look
//! further. A finding becomes a vector.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use common::emit;
use common::material::material;
use e2e_protocol::ids::{Lane, Number, Receipt, Sequence, Uid};
use e2e_protocol::limits::{
    BODY_BYTES_MAX, ENVELOPE_OFFSET, ERROR_TEXT_BYTES_MAX, FRAME_BYTES_MAX, HEADER_BYTES, RANGE_COUNT_MAX,
    ROUTING_BYTES, TTL_SECONDS_MAX,
};
use e2e_protocol::wire::header::ROUTED;
use e2e_protocol::wire::routed::{emit_routed, frame_bytes_at};
use e2e_protocol::wire::session::ErrorFrame;
use e2e_protocol::wire::transfer::{Ack, OpenResult, ResultCode, ResultKind};
use e2e_protocol::wire::{
    ErrorCode, Frame, FrameError, FrameType, MAGIC, NoRoom, Parsed, RoutedMut, Routing,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config() -> ProptestConfig {
    let from_environment = ProptestConfig::default();
    let rng_seed = match from_environment.rng_seed {
        RngSeed::Random => RngSeed::Fixed(0xE252_4C59),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    ProptestConfig { rng_seed, failure_persistence: None, ..from_environment }
}

/// Makes header and CRCs fit whatever body stands behind the header.
fn reseal(frame: &mut [u8], flags: u16) {
    let body_bytes = u32::try_from(frame.len() - HEADER_BYTES).unwrap();
    let routing_bytes = if flags & ROUTED == 0 { 0 } else { ROUTING_BYTES };
    let split = (HEADER_BYTES + routing_bytes).min(frame.len());
    let body_crc = crc32fast::hash(&frame[split..]);
    frame[..4].copy_from_slice(&MAGIC);
    frame[4] = 1;
    frame[6..8].copy_from_slice(&flags.to_be_bytes());
    frame[8..12].copy_from_slice(&body_bytes.to_be_bytes());
    frame[12..16].copy_from_slice(&body_crc.to_be_bytes());
    let covered = [&frame[..16], &frame[HEADER_BYTES..split]].concat();
    frame[16..20].copy_from_slice(&crc32fast::hash(&covered).to_be_bytes());
}

/// Whatever is accepted must be what is emitted for its fields.
fn assert_one_form(bytes: &[u8]) {
    let Ok(Parsed::Frame(frame, length)) = Frame::parse(bytes, BODY_BYTES_MAX) else { return };
    let mut out = vec![0xA5; FRAME_BYTES_MAX];
    if let Some(emitted) = emit(&frame, &mut out) {
        assert_eq!(emitted, Ok(length));
        assert_eq!(&out[..length], &bytes[..length]);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn parses_what_was_emitted(material in material()) {
        let bytes = material.bytes();
        match Frame::parse(&bytes, BODY_BYTES_MAX) {
            Ok(Parsed::Frame(frame, length)) => {
                prop_assert_eq!(length, bytes.len());
                prop_assert_eq!(frame.frame_type(), Some(material.frame_type));
                prop_assert!(material.is(&frame), "{:?}", frame);
            }
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(frame_bytes_at(&bytes), Some(bytes.len()));
    }

    #[test]
    fn waits_for_the_rest_of_a_cut_frame(material in material()) {
        let bytes = material.bytes();
        for length in 0..bytes.len() {
            match Frame::parse(&bytes[..length], BODY_BYTES_MAX) {
                Ok(Parsed::Incomplete { frame_bytes }) => {
                    let head = if material.frame_type.is_routed() { ENVELOPE_OFFSET } else { HEADER_BYTES };
                    prop_assert_eq!(frame_bytes, (length >= head).then_some(bytes.len()));
                }
                other => prop_assert!(false, "{} of {}: {:?}", length, bytes.len(), other),
            }
        }
    }

    #[test]
    fn parses_the_same_when_more_follows(material in material(), rest in prop::collection::vec(any::<u8>(), 0..80)) {
        let bytes = material.bytes();
        let longer = [&bytes[..], &rest].concat();
        prop_assert_eq!(Frame::parse(&longer, BODY_BYTES_MAX), Frame::parse(&bytes, BODY_BYTES_MAX));
    }

    #[test]
    fn refuses_a_body_over_the_limit(material in material()) {
        let bytes = material.bytes();
        let body_bytes = bytes.len() - HEADER_BYTES;
        prop_assert!(matches!(Frame::parse(&bytes, body_bytes), Ok(Parsed::Frame(..))));
        prop_assert_eq!(Frame::parse(&bytes, body_bytes - 1), Err(FrameError::TooLong));
        prop_assert_eq!(Frame::parse(&bytes[..12], body_bytes - 1), Err(FrameError::TooLong));
    }

    #[test]
    fn refuses_each_flipped_bit(material in material(), bits in prop::collection::vec(any::<prop::sample::Index>(), 64)) {
        let mut bytes = material.bytes();
        let head_bits = 0..HEADER_BYTES * 8;
        let others = bits.iter().map(|bit| bit.index(bytes.len() * 8)).collect::<Vec<_>>();
        for bit in head_bits.chain(others) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let parsed = Frame::parse(&bytes, BODY_BYTES_MAX);
            prop_assert!(!matches!(parsed, Ok(Parsed::Frame(..))), "bit {}: {:?}", bit, parsed);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), limit in 0..=BODY_BYTES_MAX) {
        for start in [&[][..], &MAGIC, &[0xE2, 0x52, 0x4C, 0x59, 1]] {
            let _ = Frame::parse(&[start, &bytes].concat(), limit);
        }
        let mut bytes = bytes;
        let _ = frame_bytes_at(&bytes);
        if let Some(mut frame) = RoutedMut::new(&mut bytes) {
            frame.make_deliver(Uid(1), Sequence(2), 3, 4);
            frame.mark_redelivered();
        }
    }

    /// With CRCs that fit, so that the fields are reached.
    #[test]
    fn takes_any_body_in_one_form_only(
        material in material(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        resized in -3..=3_isize,
        flags in prop_oneof![8 => Just(None), 1 => any::<u16>().prop_map(Some)],
    ) {
        let mut bytes = material.bytes();
        let flags = flags.unwrap_or(if material.frame_type.is_routed() { ROUTED } else { 0 });
        let length = bytes.len().saturating_add_signed(resized).clamp(HEADER_BYTES, FRAME_BYTES_MAX);
        bytes.resize(length, 0);
        for (at, value) in changes.iter().filter(|_| length > HEADER_BYTES) {
            // Mostly near the front, where the fields are.
            let span = (length - HEADER_BYTES).min(64);
            bytes[HEADER_BYTES + at.index(span)] = *value;
        }
        reseal(&mut bytes, flags);
        assert_one_form(&bytes);
    }

    #[test]
    fn takes_noise_in_one_form_only(frame_type in any::<u8>(), body in prop::collection::vec(0..4_u8, 0..100)) {
        let mut bytes = [&[0; HEADER_BYTES][..], &body].concat();
        bytes[5] = frame_type;
        let routed = FrameType::from_number(frame_type).is_some_and(FrameType::is_routed);
        reseal(&mut bytes, if routed { ROUTED } else { 0 });
        assert_one_form(&bytes);
    }

    #[test]
    fn emits_every_byte_and_no_more(material in material()) {
        let bytes = material.bytes();
        for fill in [0xA5, 0x5A] {
            let mut out = vec![fill; bytes.len() + 7];
            prop_assert_eq!(material.emit(&mut out), Ok(bytes.len()));
            prop_assert_eq!(&out[..bytes.len()], &bytes[..]);
            prop_assert!(out[bytes.len()..].iter().all(|byte| *byte == fill));
        }
    }

    #[test]
    fn has_no_room_in_each_shorter_buffer(material in material()) {
        let length = material.bytes().len();
        let mut out = vec![0xA5; length];
        // All of them where that is quick, else the ends and some between.
        let step = if length <= 2_000 { 1 } else { 97 };
        for shorter in (0..length).filter(|shorter| shorter % step == 0 || shorter + 64 >= length) {
            prop_assert_eq!(material.emit(&mut out[..shorter]), Err(NoRoom), "{} of {}", shorter, length);
        }
        prop_assert_eq!(material.emit(&mut out), Ok(length));
    }

    #[test]
    fn a_send_becomes_the_deliver_that_would_be_emitted(
        material in material(),
        sender in any::<u64>(),
        sequence in any::<u64>(),
        time_ms in any::<u64>(),
        ttl_seconds in 1..=TTL_SECONDS_MAX,
    ) {
        let send = material.as_send();
        let mut bytes = send.bytes();
        let body_crc = bytes[12..16].to_vec();
        RoutedMut::new(&mut bytes).unwrap().make_deliver(Uid(sender), Sequence(sequence), time_ms, ttl_seconds);
        let routing = Routing {
            peer: Uid(sender),
            sequence: Sequence(sequence),
            time_ms,
            ttl_seconds,
            ..send.routing()
        };
        let mut emitted = vec![0xA5; bytes.len()];
        prop_assert_eq!(emit_routed(&mut emitted, FrameType::Deliver, &routing, send.envelope()), Ok(bytes.len()));
        prop_assert_eq!(&bytes, &emitted);
        prop_assert_eq!(&bytes[12..16], &body_crc[..]);

        RoutedMut::new(&mut bytes).unwrap().mark_redelivered();
        prop_assert_eq!(&bytes[12..16], &body_crc[..]);
        match Frame::parse(&bytes, BODY_BYTES_MAX) {
            Ok(Parsed::Frame(Frame::Deliver(routed), _)) => {
                prop_assert!(routed.redelivered);
                prop_assert_eq!(routed.routing, routing);
                prop_assert_eq!(routed.envelope(), send.envelope());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// An output buffer that takes results as they come, and what its reader makes of it.
    #[test]
    fn results_that_grow_in_ranges_parse_as_they_came(
        material in material(),
        steps in prop::collection::vec((1..=3_u64, any::<bool>()), 1..900),
    ) {
        let kinds = [material.result_kind(), ResultKind { lane: Lane(!material.integers[0]), ..material.result_kind() }];
        let (mut number, mut kind) = (material.first_number().0 / 2, kinds[0]);
        let mut told = Vec::new();
        let mut buffer = Vec::new();
        let mut open: Option<(OpenResult, usize)> = None;
        for (index, (step, same)) in steps.into_iter().enumerate() {
            // Mostly the next number of the same kind.
            number += if same || step == 1 { 1 } else { step };
            kind = if index % 700 == 699 { kinds[1] } else { kind };
            let receipt = Receipt([u8::try_from(index % 256).unwrap(); 32]);
            told.push((kind.lane, Number(number), kind.code, receipt));
            let extended = open.as_mut().is_some_and(|(open, _)| open.extend(&kind, Number(number)));
            if !extended {
                if let Some((open, at)) = open.take() {
                    prop_assert!(open.close(&mut buffer[at..]).is_ok());
                }
                open = Some((OpenResult::new(kind, Number(number)), buffer.len()));
                buffer.resize(buffer.len() + OpenResult::HEAD_BYTES, 0xA5);
            }
            if kind.code == ResultCode::Collected {
                buffer.extend_from_slice(&receipt.0);
            }
        }
        let (open, at) = open.unwrap();
        prop_assert_eq!(open.close(&mut buffer[at..]), Ok(buffer.len() - at));

        let mut rest = &buffer[..];
        let mut heard = Vec::new();
        while !rest.is_empty() {
            match Frame::parse(rest, BODY_BYTES_MAX) {
                Ok(Parsed::Frame(Frame::Result(outcome), length)) => {
                    prop_assert_eq!(outcome.reason.known(), kind.reason);
                    let mut receipts = outcome.receipts.iter();
                    for number in outcome.numbers() {
                        heard.push((outcome.lane, number, outcome.code, receipts.next()));
                    }
                    rest = &rest[length..];
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        let collected = kind.code == ResultCode::Collected;
        let told = told.into_iter().map(|(a, b, c, receipt)| (a, b, c, collected.then_some(receipt)));
        prop_assert_eq!(heard, told.collect::<Vec<_>>());
    }

    #[test]
    fn cuts_the_text_of_an_error(text in "[ -~]{121,200}") {
        let error = ErrorFrame {
            code: ErrorCode::Busy.into(),
            closes: false,
            request: 1,
            retry_after_seconds: 0,
            text: &text,
        };
        let mut out = [0xA5; FRAME_BYTES_MAX];
        let length = error.emit(&mut out).unwrap();
        let cut = Frame::Error(ErrorFrame { text: &text[..ERROR_TEXT_BYTES_MAX], ..error });
        prop_assert_eq!(Frame::parse(&out[..length], BODY_BYTES_MAX), Ok(Parsed::Frame(cut, length)));
    }
}

#[test]
fn a_range_ends_at_512() {
    let kind = ResultKind { lane: Lane(1), code: ResultCode::Stored, reason: None, retry_after_seconds: 0 };
    let mut open = OpenResult::new(kind, Number(1));
    for number in 2..=u64::from(RANGE_COUNT_MAX) {
        assert!(open.extend(&kind, Number(number)));
    }
    assert!(!open.extend(&kind, Number(u64::from(RANGE_COUNT_MAX) + 1)));
    assert_eq!(open.close(&mut [0; OpenResult::HEAD_BYTES]), Ok(OpenResult::HEAD_BYTES));
}

#[test]
fn a_range_takes_only_the_next_of_its_kind() {
    let kind = ResultKind { lane: Lane(1), code: ResultCode::Stored, reason: None, retry_after_seconds: 0 };
    let mut open = OpenResult::new(kind, Number(7));
    assert!(!open.extend(&kind, Number(7)));
    assert!(!open.extend(&kind, Number(9)));
    assert!(!open.extend(&kind, Number(6)));
    assert!(!open.extend(&ResultKind { lane: Lane(2), ..kind }, Number(8)));
    assert!(!open.extend(&ResultKind { code: ResultCode::Done, ..kind }, Number(8)));
    assert!(open.extend(&kind, Number(8)));
    let mut last = OpenResult::new(kind, Number(u64::MAX));
    assert!(!last.extend(&kind, Number(0)));
}

#[test]
fn refuses_to_emit_ranges_without_or_with_too_many_receipts() {
    let mut out = [0; FRAME_BYTES_MAX];
    let receipts = [Receipt::ZERO; RANGE_COUNT_MAX as usize + 1];
    assert_eq!(Ack::emit(&mut out, Sequence(1), &[]), Err(NoRoom));
    assert_eq!(Ack::emit(&mut out, Sequence(1), &receipts), Err(NoRoom));
    assert!(Ack::emit(&mut out, Sequence(1), &receipts[1..]).is_ok());
}
