//! Bytes to frames and back (spec/wire.md, section 3), and explained to people.
//!
//! Owns: what holds for every byte sequence that a socket can give.

use std::fmt::Write as _;

use e2e_protocol::e2e::explain_envelope;
use e2e_protocol::ids::{Sequence, Uid};
use e2e_protocol::limits::{
    BODY_BYTES_BEFORE_LOGIN_MAX, BODY_BYTES_MAX, ENVELOPE_OFFSET, FRAME_BYTES_MAX, HEADER_BYTES,
};
use e2e_protocol::wire::header::{REDELIVERED, ROUTED, SKIPPABLE};
use e2e_protocol::wire::layout::{Field, explain};
use e2e_protocol::wire::routed::frame_bytes_at;
use e2e_protocol::wire::{Frame, FrameError, FrameType, Parsed, RoutedMut};

use super::edits::sealed;
use super::emit::emit;

/// Frames of one input that are looked at.
const FRAMES_MAX: usize = 64;
/// Of a longer frame not every cut is tried, but each near its ends.
const CUTS_NEAR: usize = 160;

/// A stream: the first byte says which limit its reader has, the rest is what arrives, in any pieces.
pub(super) fn deframe(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let limit = if choice & 1 == 0 { BODY_BYTES_MAX } else { BODY_BYTES_BEFORE_LOGIN_MAX };
    let mut rest = stream;
    for _ in 0..FRAMES_MAX {
        let verdict = Frame::parse(rest, limit);
        look_at_cuts(rest, limit, &verdict);
        let Ok(Parsed::Frame(frame, length)) = verdict else { return };
        assert!((HEADER_BYTES..=HEADER_BYTES + limit).contains(&length), "{length} bytes");
        assert_eq!(frame_bytes_at(rest), Some(length));
        let alone = &rest[..length];
        assert_eq!(
            Frame::parse(alone, limit),
            Ok(Parsed::Frame(frame, length)),
            "what follows does not count"
        );
        look_at_form(&frame, alone);
        rest = &rest[length..];
    }
}

/// One frame with any body: its type, its flags, the body; the CRCs are made to fit.
pub(super) fn body(data: &[u8]) {
    let [number, marks, body @ ..] = data else { return };
    let frame_type = FrameType::from_number(*number);
    let routed = frame_type.map_or(marks & 2 != 0, FrameType::is_routed);
    let flags = if routed { ROUTED } else { 0 }
        | if marks & 1 != 0 { REDELIVERED } else { 0 }
        | if frame_type.is_none() || marks & 4 != 0 { SKIPPABLE } else { 0 };
    let mut frame = sealed(*number, flags, body);
    look_at_explanation(&frame);
    let verdict = Frame::parse(&frame, BODY_BYTES_MAX);
    look_at_cuts(&frame, BODY_BYTES_MAX, &verdict);
    match verdict {
        Ok(Parsed::Frame(parsed, length)) => {
            assert_eq!(length, frame.len());
            assert_eq!(parsed.frame_type(), frame_type);
            look_at_form(&parsed, &frame);
            if matches!(parsed, Frame::Send(_)) {
                look_at_forwarding(&mut frame);
            }
        }
        Ok(Parsed::Incomplete { .. }) => panic!("it is whole"),
        Err(FrameError::BadCrc | FrameError::BadMagic | FrameError::UnsupportedVersion) => {
            panic!("its header is made to fit: {verdict:?}")
        }
        Err(FrameError::TooLong | FrameError::UnknownType | FrameError::Malformed) => {}
    }
}

/// Any bytes, explained as `e2e-client decode` does it, and as an envelope.
pub(super) fn explain_bytes(data: &[u8]) {
    look_at_explanation(data);
    look_at_fields(data, 7, |see| explain_envelope(data, 7, see));
}

/// A verdict on a part is "wait", or the verdict on the whole; and who waited once is told the same from then on.
fn look_at_cuts(bytes: &[u8], limit: usize, whole: &Result<Parsed<'_>, FrameError>) {
    let end = match whole {
        Ok(Parsed::Frame(_, length)) => *length,
        _ => bytes.len().min(FRAME_BYTES_MAX),
    };
    let mut known = None;
    let far_from_ends = |cut: &usize| *cut >= CUTS_NEAR && cut + CUTS_NEAR < end;
    for cut in (0..end).filter(|cut| !far_from_ends(cut) || cut.is_multiple_of(501)) {
        match Frame::parse(&bytes[..cut], limit) {
            Ok(Parsed::Incomplete { frame_bytes }) => {
                assert!(known.is_none() || known == frame_bytes, "{frame_bytes:?} after {known:?}");
                assert!(frame_bytes.is_none_or(|bytes| bytes > cut), "{frame_bytes:?} are there, of {cut}");
                known = frame_bytes;
            }
            Ok(Parsed::Frame(..)) => panic!("a frame in {cut} of {end} bytes"),
            Err(error) => {
                assert_eq!(whole, &Err(error), "after {cut} of {end} bytes");
            }
        }
    }
    match whole {
        Ok(Parsed::Frame(_, length)) => assert!(known.is_none_or(|known| known == *length)),
        Ok(Parsed::Incomplete { frame_bytes }) => assert!(known.is_none() || known == *frame_bytes),
        Err(_) => {}
    }
}

/// What is accepted has one form: the one that is emitted for its fields, in just so much room.
fn look_at_form(frame: &Frame<'_>, bytes: &[u8]) {
    let mut out = vec![0xA5; bytes.len() + 1];
    let Some(emitted) = emit(frame, &mut out) else { return };
    assert_eq!(emitted, Ok(bytes.len()), "{frame:?}");
    assert_eq!(&out[..bytes.len()], bytes, "{frame:?}");
    assert_eq!(out[bytes.len()], 0xA5, "a byte too many");
    assert!(emit(frame, &mut out[..bytes.len() - 1]).is_some_and(|emitted| emitted.is_err()), "{frame:?}");
}

/// A SEND that the relay takes becomes a DELIVER where it lies.
fn look_at_forwarding(frame: &mut [u8]) {
    let envelope = frame[ENVELOPE_OFFSET..].to_vec();
    let mut routed = RoutedMut::new(frame).expect("a routed frame");
    routed.make_deliver(Uid(7), Sequence(9), 11, 13);
    routed.mark_redelivered();
    match Frame::parse(frame, BODY_BYTES_MAX) {
        Ok(Parsed::Frame(Frame::Deliver(deliver), _)) => {
            assert_eq!(deliver.envelope(), envelope);
            assert!(deliver.redelivered && deliver.routing.sequence == Sequence(9));
        }
        other => panic!("{other:?}"),
    }
}

fn look_at_explanation(bytes: &[u8]) {
    let shown = look_at_fields(bytes, 0, |see| explain(bytes, see));
    if let Ok(Parsed::Frame(_, length)) = Frame::parse(bytes, BODY_BYTES_MAX) {
        assert_eq!(shown, length, "it ends where the frame ends");
    }
}

/// Every field stands where the one before ends, and is the bytes that lie there. Gives how many bytes all have.
fn look_at_fields<'a>(bytes: &'a [u8], start: usize, walk: impl FnOnce(&mut dyn FnMut(Field<'a>))) -> usize {
    let mut at = 0;
    let mut text = String::new();
    walk(&mut |field| {
        assert_eq!(field.offset, start + at, "{field}");
        assert_eq!(Some(field.bytes), bytes.get(at..at + field.bytes.len()), "{field}");
        at += field.bytes.len();
        text.clear();
        write!(text, "{field}").expect("a string takes everything");
        assert!(text.is_ascii() && !text.contains('\n'), "{text:?}");
    });
    assert!(at <= bytes.len());
    at
}
