//! The vectors of spec/vectors/wire against the code: every outcome, every field, every byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeSet;

use common::{Expect, Vector, emit, numbered_rows, to_hex};
use e2e_protocol::limits::{ENVELOPE_BYTES_MAX, FRAME_BYTES_MAX};
use e2e_protocol::wire::directory::{SignedPrekey, Whose};
use e2e_protocol::wire::people::{About, State, Watch};
use e2e_protocol::wire::query::Query;
use e2e_protocol::wire::session::Receive;
use e2e_protocol::wire::transfer::{Receipts, ResultCode};
use e2e_protocol::wire::{Code, ErrorCode, Frame, FrameError, FrameType, Parsed, Routed, RoutedMut};

/// What only the reader of a frame's bytes can find.
const FRAME_ERRORS: [FrameError; 6] = [
    FrameError::BadMagic,
    FrameError::UnsupportedVersion,
    FrameError::TooLong,
    FrameError::BadCrc,
    FrameError::UnknownType,
    FrameError::Malformed,
];

#[test]
fn every_vector_has_its_outcome() {
    let wrong: Vec<String> = Vector::all().iter().filter_map(disagreement).collect();
    assert!(wrong.is_empty(), "{} vectors:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the code makes of a vector, if it isn't what the vector says.
fn disagreement(vector: &Vector) -> Option<String> {
    let parsed = Frame::parse(&vector.bytes, vector.limit);
    let agrees = match &vector.expect {
        Expect::Frame { name, frame_bytes } => match parsed {
            Ok(Parsed::Frame(frame, length)) => {
                let frame_name = frame.frame_type().map(FrameType::name);
                let found = fields(&frame);
                if let Some((found, expected)) = found.iter().zip(&vector.fields).find(|(a, b)| a != b) {
                    return Some(format!("{}: {found:?}, not {expected:?}", vector.path));
                }
                frame_name == Some(name) && length == *frame_bytes && found.len() == vector.fields.len()
            }
            _ => false,
        },
        Expect::Skip { frame_bytes } => parsed == Ok(Parsed::Frame(Frame::Skipped, *frame_bytes)),
        Expect::Incomplete { frame_bytes } => parsed == Ok(Parsed::Incomplete { frame_bytes: *frame_bytes }),
        // Which side reads is not the parser's business; that the frame is a valid one is.
        Expect::Error { code, after } if code == ErrorCode::UnexpectedFrame.name() => {
            *after == vector.bytes.len() && matches!(parsed, Ok(Parsed::Frame(..)))
        }
        Expect::Error { code, after } => return untimely(vector, code, *after),
    };
    (!agrees).then(|| format!("{}: {:?}, not {:?}", vector.path, parsed, vector.expect))
}

/// The error must be told as soon as it can be known, and not before.
fn untimely(vector: &Vector, code: &str, after: usize) -> Option<String> {
    (0..=vector.bytes.len()).find_map(|length| {
        let parsed = Frame::parse(&vector.bytes[..length], vector.limit);
        let agrees = match parsed {
            Ok(Parsed::Incomplete { .. }) => length < after,
            Ok(Parsed::Frame(..)) => false,
            Err(error) => length >= after && error.code().name() == code,
        };
        (!agrees).then(|| format!("{}: {parsed:?} after {length}, not {code} after {after}", vector.path))
    })
}

#[test]
fn every_positive_vector_is_emitted_byte_for_byte() {
    let mut not_emitted = Vec::new();
    for vector in Vector::all() {
        let Expect::Frame { frame_bytes, .. } = vector.expect else { continue };
        let Ok(Parsed::Frame(frame, _)) = Frame::parse(&vector.bytes, vector.limit) else {
            panic!("{}", vector.path)
        };
        let mut out = [0xA5; FRAME_BYTES_MAX];
        match emit(&frame, &mut out) {
            Some(length) => assert_eq!(length, Ok(frame_bytes), "{}", vector.path),
            None => {
                not_emitted.push(vector.path);
                continue;
            }
        }
        assert_eq!(to_hex(&out[..frame_bytes]), to_hex(&vector.bytes[..frame_bytes]), "{}", vector.path);
    }
    // The relay only ever says codes that it knows.
    assert_eq!(not_emitted, ["result/refused-unknown-try-later"]);
}

#[test]
fn no_bit_of_a_vector_may_flip() {
    for vector in Vector::all() {
        let (Expect::Frame { frame_bytes, .. } | Expect::Skip { frame_bytes }) = vector.expect else {
            continue;
        };
        if frame_bytes > 1_500 {
            continue; // the property tests pick bits of these
        }
        for bit in 0..frame_bytes * 8 {
            let mut bytes = vector.bytes[..frame_bytes].to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let parsed = Frame::parse(&bytes, vector.limit);
            assert!(!matches!(parsed, Ok(Parsed::Frame(..))), "{}, bit {bit}: {parsed:?}", vector.path);
        }
    }
}

#[test]
fn the_relay_makes_the_deliver_vector_of_the_send_vector() {
    let (send, deliver) = (Vector::load("send/typical"), Vector::load("deliver/typical"));
    let Ok(Parsed::Frame(Frame::Deliver(routed), _)) = Frame::parse(&deliver.bytes, deliver.limit) else {
        panic!("not a DELIVER")
    };
    let routing = routed.routing;
    let mut bytes = send.bytes;
    let mut frame = RoutedMut::new(&mut bytes).unwrap();
    frame.make_deliver(routing.peer, routing.sequence, routing.time_ms, routing.ttl_seconds);
    assert_eq!(to_hex(&bytes), to_hex(&deliver.bytes));
}

#[test]
fn every_type_has_vectors_both_ways() {
    let vectors = Vector::all();
    for frame_type in FrameType::ALL {
        let name = frame_type.name();
        let is_positive =
            |vector: &Vector| matches!(&vector.expect, Expect::Frame { name: n, .. } if n == name);
        let is_negative = |vector: &Vector| {
            let malformed = matches!(&vector.expect, Expect::Error { code, .. } if code == "MALFORMED");
            malformed && vector.type_number() == Some(frame_type as u8)
        };
        assert!(vectors.iter().any(is_positive), "{name} has no positive vector");
        assert!(vectors.iter().any(is_negative), "{name} has no negative vector");
    }
    assert!(vectors.iter().any(|vector| matches!(vector.expect, Expect::Skip { .. })));
    assert!(vectors.iter().any(|vector| matches!(vector.expect, Expect::Incomplete { .. })));
}

#[test]
fn every_code_has_a_vector() {
    let vectors = Vector::all();
    let said_by = |frame: &str, field: &str| -> BTreeSet<String> {
        let frames = vectors
            .iter()
            .filter(|vector| matches!(&vector.expect, Expect::Frame { name, .. } if name == frame));
        let values = frames.flat_map(|vector| vector.fields.iter().filter(|(name, _)| name == field));
        values.map(|(_, value)| value.clone()).collect()
    };
    let found_by_reader: BTreeSet<&str> = vectors
        .iter()
        .filter_map(|vector| match &vector.expect {
            Expect::Error { code, .. } => Some(code.as_str()),
            _ => None,
        })
        .collect();
    let (errors, reasons) = (said_by("ERROR", "code"), said_by("RESULT", "reason"));
    for code in ErrorCode::ALL {
        assert!(errors.contains(code.name()), "{code} has no ERROR");
    }
    for (_, cells) in numbered_rows("## 7. ") {
        let (name, place) = (&cells[1], &cells[2]);
        let refuses = place.contains("refused") || place == "all three";
        assert_eq!(reasons.contains(name), refuses, "{name} as the reason of a RESULT");
    }
    let mut readers_codes: BTreeSet<&str> = FRAME_ERRORS.iter().map(|error| error.code().name()).collect();
    readers_codes.insert(ErrorCode::UnexpectedFrame.name());
    assert_eq!(found_by_reader, readers_codes);
}

#[test]
fn every_result_and_receive_value_has_a_vector() {
    let values = |frame: &str, field: &str| -> BTreeSet<String> {
        let vectors = Vector::all()
            .into_iter()
            .filter(|vector| matches!(&vector.expect, Expect::Frame { name, .. } if name == frame));
        let fields = vectors.flat_map(|vector| vector.fields);
        fields.filter(|(name, _)| name == field).map(|(_, value)| value).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let all = ["COLLECTED", "STORED", "REFUSED", "UNCERTAIN", "EXPIRED", "DONE", "ACCEPTED"];
    assert_eq!(values("RESULT", "code"), set(&all));
    assert_eq!(values("NOTICE", "code"), set(&["COLLECTED", "EXPIRED"]));
    assert_eq!(values("NOTICE", "redelivered"), set(&["0", "1"]));
    assert_eq!(values("DELIVER", "redelivered"), set(&["0", "1"]));
    assert_eq!(values("PROOF", "receive"), set(&["0", "1", "2"]));
    assert_eq!(values("HELLO", "purpose"), set(&["1", "2"]));
    assert_eq!(values("CHALLENGE", "registration"), set(&["0", "1", "2"]));
    assert_eq!(values("LOOKUP", "want"), set(&["1", "2", "3", "4"]));
    assert_eq!(values("ENTRY", "parts"), set(&["0", "1", "2"]));
    assert_eq!(values("PUBLISH", "parts"), set(&["1", "2", "3"]));
    assert_eq!(values("ERROR", "closes"), set(&["0", "1"]));
    assert_eq!(values("WHO", "watch"), set(&["0", "1", "2"]));
    assert_eq!(values("BLOCK", "block"), set(&["0", "1"]));
}

/// The fields of a frame as spec/vectors/README.md lists them.
#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn text(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), value.to_string()));
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.text(name, to_hex(value));
    }

    fn routing(&mut self, routed: &Routed<'_>) {
        let routing = &routed.routing;
        self.text("peer_uid", routing.peer.0);
        self.text("lane", routing.lane.0);
        self.text("number", routing.number.0);
        self.text("sequence", routing.sequence.0);
        self.text("time", routing.time_ms);
        self.text("ttl", routing.ttl_seconds);
    }

    fn signed_prekey(&mut self, prekey: &SignedPrekey<'_>) {
        self.bytes("signed_prekey", prekey.modulus);
        self.text("signed_prekey_made", prekey.made_ms);
        self.text("profile", prekey.profile);
        self.bytes("signed_prekey_signature", prekey.signature);
    }

    fn query(&mut self, query: &Query) {
        self.text("request", query.request);
        self.text("lane", query.lane.0);
        self.text("first_number", query.first.0);
        self.text("count", query.count);
    }

    fn receipts(&mut self, receipts: &Receipts<'_>) {
        self.bytes("receipts", &receipts.iter().flat_map(|receipt| receipt.0).collect::<Vec<_>>());
    }
}

fn result_name(code: ResultCode) -> &'static str {
    match code {
        ResultCode::Collected => "COLLECTED",
        ResultCode::Stored => "STORED",
        ResultCode::Refused => "REFUSED",
        ResultCode::Uncertain => "UNCERTAIN",
        ResultCode::Expired => "EXPIRED",
        ResultCode::Done => "DONE",
        ResultCode::Accepted => "ACCEPTED",
    }
}

fn joined(items: impl Iterator<Item = String>, between: &str) -> String {
    items.collect::<Vec<_>>().join(between)
}

fn code_name(code: Code) -> String {
    code.known().map_or_else(|| format!("0x{:04X}", code.0), |code| code.name().to_owned())
}

#[allow(clippy::too_many_lines)] // one arm for each frame, as in the specification
fn fields(frame: &Frame<'_>) -> Vec<(String, String)> {
    let mut f = Fields::default();
    match frame {
        Frame::Hello(hello) => {
            f.text("version_min", hello.version_min);
            f.text("version_max", hello.version_max);
            f.text("purpose", hello.purpose as u8);
        }
        Frame::Challenge(challenge) => {
            f.text("version", challenge.version);
            f.text("registration", challenge.registration as u8);
            f.bytes("relay_id", &challenge.relay_id.0);
            f.bytes("nonce", &challenge.nonce.0);
        }
        Frame::Proof(proof) => {
            let (number, messages, bytes) = match proof.receive {
                Receive::No => (0, 0, 0),
                Receive::TakeOver(credit) => (1, credit.messages, credit.bytes),
                Receive::IfNobody(credit) => (2, credit.messages, credit.bytes),
            };
            f.text("receive", number);
            f.text("credit_messages", messages);
            f.text("credit_bytes", bytes);
            f.bytes("identity_key", proof.identity_key);
            f.bytes("signature", proof.signature);
            f.bytes("token_proof", proof.token_proof);
            f.text("name", proof.name);
        }
        Frame::Welcome(welcome) => {
            f.text("uid", welcome.uid.0);
            f.text("time", welcome.time_ms);
            f.text("queued", welcome.queued);
            f.bytes("signed_prekey_kid", &welcome.signed_prekey.0);
            f.text("prekeys_left", welcome.prekeys_left);
            f.text("receiving", u8::from(welcome.receiving));
            f.text("keepalive", welcome.keepalive_seconds);
            f.text("in_flight", welcome.in_flight);
            f.text("envelope_max", ENVELOPE_BYTES_MAX);
            f.text("ttl_max", welcome.ttl_seconds_max);
        }
        Frame::Error(error) => {
            f.text("code", code_name(error.code));
            f.text("closes", u8::from(error.closes));
            f.text("request", error.request);
            f.text("retry_after", error.retry_after_seconds);
            f.text("text", error.text);
        }
        Frame::Ping(opaque) | Frame::Pong(opaque) => f.bytes("opaque", opaque),
        Frame::Send(routed) => {
            f.routing(routed);
            assert!(!routed.redelivered);
            f.bytes("envelope", routed.envelope());
        }
        Frame::Deliver(routed) => {
            f.routing(routed);
            f.text("redelivered", u8::from(routed.redelivered));
            f.bytes("envelope", routed.envelope());
        }
        Frame::Notice(notice, routed) => {
            assert_eq!(notice.routing, routed.routing);
            f.routing(routed);
            f.text("redelivered", u8::from(routed.redelivered));
            f.text("code", result_name(notice.code));
            f.bytes("receipt", &notice.receipt.0);
        }
        Frame::Ack(ack) => {
            f.text("first_sequence", ack.first.0);
            f.text("count", ack.receipts.len());
            f.receipts(&ack.receipts);
        }
        Frame::Result(outcome) => {
            f.text("lane", outcome.lane.0);
            f.text("first_number", outcome.first.0);
            f.text("count", outcome.count);
            f.text("code", result_name(outcome.code));
            if outcome.code == ResultCode::Refused {
                f.text("reason", code_name(outcome.reason));
                f.text("retry_after", outcome.retry_after_seconds);
            }
            if outcome.code == ResultCode::Collected {
                f.receipts(&outcome.receipts);
            }
        }
        Frame::Lookup(lookup) => {
            f.text("request", lookup.request);
            f.text("want", lookup.want as u8);
            match lookup.whose {
                Whose::Uid(uid) => {
                    f.text("uid", uid.0);
                    f.text("name", "");
                }
                Whose::Name(name) => {
                    f.text("uid", 0);
                    f.text("name", name);
                }
            }
        }
        Frame::Entry(entry) => {
            let one_time = entry.bundle.as_ref().and_then(|bundle| bundle.one_time);
            f.text("request", entry.request);
            f.text("uid", entry.uid.0);
            f.bytes("fingerprint", &entry.fingerprint.0);
            f.text("parts", u8::from(entry.bundle.is_some()) + u8::from(one_time.is_some()));
            f.text("prekeys_left", entry.prekeys_left);
            f.text("name", entry.name);
            if let Some(bundle) = &entry.bundle {
                f.bytes("identity_key", bundle.identity_key);
                f.signed_prekey(&bundle.signed_prekey);
            }
            if let Some(one_time) = one_time {
                f.bytes("batch_signature", one_time.signature);
                f.bytes("one_time_prekey", one_time.modulus);
                f.text("batch_count", one_time.hashes.len());
                f.bytes("batch_hashes", one_time.hashes.as_flattened());
            }
        }
        Frame::Publish(publish) => {
            f.text("request", publish.request);
            let parts = u8::from(publish.signed_prekey.is_some()) + 2 * u8::from(publish.batch.is_some());
            f.text("parts", parts);
            if let Some(signed_prekey) = &publish.signed_prekey {
                f.signed_prekey(signed_prekey);
            }
            if let Some(batch) = &publish.batch {
                f.bytes("batch_kid", &batch.signed_prekey.0);
                f.bytes("batch_signature", batch.signature);
                f.text("batch_count", batch.moduli.len());
                f.bytes("one_time_prekeys", batch.moduli.as_flattened());
            }
        }
        Frame::Published(published) => {
            f.text("request", published.request);
            f.bytes("signed_prekey_kid", &published.signed_prekey.0);
            f.text("prekeys_left", published.prekeys_left);
        }
        Frame::Roll(roll) => {
            f.text("request", roll.request);
            f.text("time", roll.roll_over.time_ms);
            f.bytes("identity_key", roll.roll_over.identity_key);
            f.bytes("former_signature", roll.roll_over.former_signature);
            f.bytes("signature", roll.roll_over.signature);
        }
        Frame::Rolled(rolled) => {
            f.text("request", rolled.request);
            f.text("uid", rolled.uid.0);
        }
        Frame::Rolls(rolls) => {
            f.text("request", rolls.request);
            f.text("count", rolls.iter().count());
            f.bytes("identity_key", rolls.oldest);
            let roll_overs: Vec<u8> = rolls.iter().flat_map(|roll_over| roll_over.to_bytes()).collect();
            f.bytes("roll_overs", &roll_overs);
        }
        Frame::Query(query) => f.query(query),
        Frame::States(states) => {
            f.query(&states.query);
            f.text("states", joined(states.iter().map(|(_, state)| state.name().to_owned()), " "));
        }
        Frame::Who(who) => {
            f.text("request", who.request);
            let (watch, names, from) = match who.about {
                About::Names(watch, names) => (watch, names.iter().collect(), 0),
                About::Everybody { from } => (Watch::No, Vec::new(), from),
            };
            f.text("watch", watch as u8);
            f.text("count", names.len());
            f.text("from", from);
            f.text("names", joined(names.iter().map(ToString::to_string), " "));
        }
        Frame::Presence(presence) => {
            f.text("request", presence.request);
            f.text("next", presence.next);
            f.text("count", presence.iter().count());
            let shown = presence.iter().map(|(state, name)| {
                let state = match state {
                    State::Nobody => "nobody",
                    State::Offline => "offline",
                    State::Online => "online",
                };
                format!("{name} {state}")
            });
            f.text("states", joined(shown, ", "));
        }
        Frame::Block(block) => {
            f.text("request", block.request);
            f.text("block", u8::from(block.block));
            f.text("name", block.name);
        }
        Frame::Blocked(blocked) => {
            f.text("request", blocked.request);
            f.text("block", u8::from(blocked.block));
        }
        Frame::Remove(remove) => {
            f.text("request", remove.request);
            f.bytes("signature", remove.signature);
        }
        Frame::Removed(removed) => f.text("request", removed.request),
        Frame::Skipped => {}
    }
    f.0
}
