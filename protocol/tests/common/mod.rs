//! What the tests of the wire format share: reading spec/wire.md and the vector files
//! (spec/vectors/README.md), and emitting any parsed frame again. Each test binary uses its part of it.
#![allow(dead_code)]

pub(crate) mod material;

use std::fs;
use std::path::{Path, PathBuf};

use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::people::{About, Presence, Who};
use e2e_protocol::wire::query::States;
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::emit_ping;
use e2e_protocol::wire::transfer::{Ack, OpenResult, ResultCode, ResultKind};
use e2e_protocol::wire::{Frame, FrameType, NoRoom, RoutedMut};

/// The folder spec/ of this checkout.
pub(crate) fn spec() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec")
}

/// The lines of the section of wire.md whose heading starts with `heading`.
pub(crate) fn section(heading: &str) -> Vec<String> {
    let text = fs::read_to_string(spec().join("wire.md")).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    let lines: Vec<String> = lines.take_while(|line| !line.starts_with("## ")).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "wire.md has no section {heading}");
    lines
}

/// The cells of a section's table rows whose first cell is a number in hex.
pub(crate) fn numbered_rows(heading: &str) -> Vec<(u16, Vec<String>)> {
    let rows = section(heading).into_iter().filter(|line| line.starts_with("| 0x"));
    rows.map(|row| {
        let cells: Vec<String> =
            row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        (u16::from_str_radix(&cells[0][2..], 16).unwrap(), cells)
    })
    .collect()
}

/// What a vector's reader must find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Frame { name: String, frame_bytes: usize },
    Skip { frame_bytes: usize },
    Incomplete { frame_bytes: Option<usize> },
    Error { code: String, after: usize },
}

/// One file of spec/vectors/wire/.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) path: String,
    pub(crate) direction: String,
    pub(crate) limit: usize,
    pub(crate) expect: Expect,
    /// The decoded fields, in order, with `@offset+length` resolved.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
}

impl Vector {
    /// Every vector there is, in order of their paths.
    pub(crate) fn all() -> Vec<Self> {
        let root = spec().join("vectors/wire");
        let mut vectors = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for item in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            {
                let path = item.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                    let name = name.strip_suffix(".txt").unwrap_or_else(|| panic!("{name}: not a vector"));
                    vectors.push(Self::parse(name, &fs::read_to_string(&path).unwrap()));
                }
            }
        }
        vectors.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(!vectors.is_empty(), "{} holds no vectors", root.display());
        vectors
    }

    /// The vector with this path.
    pub(crate) fn load(path: &str) -> Self {
        let file = spec().join("vectors/wire").join(path).with_extension("txt");
        Self::parse(path, &fs::read_to_string(file).unwrap())
    }

    fn parse(path: &str, text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or_else(|| panic!("{path}: no empty line"));
        let bytes = hex(body);
        let mut keys: Vec<(&str, &str)> = Vec::new();
        let mut fields = Vec::new();
        for line in head.lines() {
            let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("{path}: {line}"));
            let value = value.strip_prefix(' ').unwrap_or(value);
            if let Some(field) = key.strip_prefix("field ") {
                fields.push((field.to_owned(), resolve(value, &bytes)));
            } else {
                assert!(!keys.iter().any(|(known, _)| *known == key), "{path}: {key} twice");
                keys.push((key, value));
            }
        }
        let mut take = |key: &str| {
            let at = keys.iter().position(|(known, _)| *known == key)?;
            Some(keys.remove(at).1)
        };
        let number = |value: &str| value.parse::<usize>().unwrap_or_else(|_| panic!("{path}: {value}"));
        assert_eq!(take("vector"), Some(path));
        take("about").expect("about");
        let direction = take("direction").expect("direction").to_owned();
        assert!(["to relay", "to client", "both"].contains(&direction.as_str()), "{path}: {direction}");
        let limit = take("limit").map_or(BODY_BYTES_MAX, number);
        let expect = take("expect").expect("expect");
        let frame_bytes = take("frame bytes").map(number);
        let expect = match expect.split_once(' ').unwrap_or((expect, "")) {
            ("frame", name) => Expect::Frame { name: name.to_owned(), frame_bytes: frame_bytes.unwrap() },
            ("skip", "") => Expect::Skip { frame_bytes: frame_bytes.unwrap() },
            ("incomplete", "") => Expect::Incomplete { frame_bytes },
            ("error", code) => Expect::Error { code: code.to_owned(), after: number(take("after").unwrap()) },
            _ => panic!("{path}: {expect}"),
        };
        assert!(keys.is_empty(), "{path}: {keys:?}");
        Self { path: path.to_owned(), direction, limit, expect, fields, bytes }
    }

    /// The type number in its header, if there is one.
    pub(crate) fn type_number(&self) -> Option<u8> {
        self.bytes.get(5).copied()
    }
}

/// Bytes from hex with `#` comments.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .map(|line| line.split('#').next().unwrap())
        .flat_map(str::chars)
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    assert!(digits.is_ascii() && digits.len().is_multiple_of(2), "{digits}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Lower-case hex of some bytes.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field's value, with `@offset+length` replaced by those bytes in hex.
fn resolve(value: &str, bytes: &[u8]) -> String {
    match value.strip_prefix('@').and_then(|range| range.split_once('+')) {
        Some((at, length)) => {
            let at: usize = at.parse().unwrap();
            to_hex(&bytes[at..at + length.parse::<usize>().unwrap()])
        }
        None => value.to_owned(),
    }
}

/// Emits a parsed frame again. `None` if there is nothing that emits it: a skipped frame, and a
/// REFUSED with a code that this version doesn't know.
pub(crate) fn emit(frame: &Frame<'_>, out: &mut [u8]) -> Option<Result<usize, NoRoom>> {
    Some(match frame {
        Frame::Hello(hello) => hello.emit(out),
        Frame::Challenge(challenge) => challenge.emit(out),
        Frame::Proof(proof) => proof.emit(out),
        Frame::Welcome(welcome) => welcome.emit(out),
        Frame::Error(error) => error.emit(out),
        Frame::Ping(opaque) => emit_ping(out, FrameType::Ping, *opaque),
        Frame::Pong(opaque) => emit_ping(out, FrameType::Pong, *opaque),
        Frame::Send(send) => emit_routed(out, FrameType::Send, &send.routing, send.envelope()),
        Frame::Deliver(deliver) => {
            let emitted = emit_routed(out, FrameType::Deliver, &deliver.routing, deliver.envelope());
            mark(emitted, deliver.redelivered, out)
        }
        Frame::Notice(notice, routed) => mark(notice.emit(out), routed.redelivered, out),
        Frame::Ack(ack) => Ack::emit(out, ack.first, &ack.receipts.iter().collect::<Vec<_>>()),
        Frame::Result(outcome) => {
            let reason = match (outcome.code, outcome.reason.known()) {
                (ResultCode::Refused, None) => return None,
                (_, reason) => reason,
            };
            let retry_after_seconds = outcome.retry_after_seconds;
            let kind = ResultKind { lane: outcome.lane, code: outcome.code, reason, retry_after_seconds };
            let mut open = OpenResult::new(kind, outcome.first);
            for number in outcome.numbers().skip(1) {
                assert!(open.extend(&kind, number));
            }
            let frame_bytes = OpenResult::HEAD_BYTES + outcome.receipts.len() * 32;
            match out.get_mut(..frame_bytes) {
                None => Err(NoRoom),
                Some(room) => {
                    let places = room[OpenResult::HEAD_BYTES..].chunks_mut(32);
                    places.zip(outcome.receipts.iter()).for_each(|(to, from)| to.copy_from_slice(&from.0));
                    open.close(room)
                }
            }
        }
        Frame::Lookup(lookup) => lookup.emit(out),
        Frame::Entry(entry) => entry.emit(out),
        Frame::Publish(publish) => publish.emit(out),
        Frame::Published(published) => published.emit(out),
        Frame::Roll(roll) => roll.emit(out),
        Frame::Rolled(rolled) => rolled.emit(out),
        Frame::Rolls(rolls) => rolls.emit(out),
        Frame::Query(query) => query.emit(out),
        Frame::States(states) => {
            let listed: Vec<_> = states.iter().collect();
            let first = states.query.first.0;
            States::emit(out, &states.query, |number| listed[usize::try_from(number.0 - first).unwrap()].1)
        }
        Frame::Who(who) => match who.about {
            About::Names(watch, names) => {
                Who::emit(out, who.request, watch, &names.iter().collect::<Vec<_>>())
            }
            About::Everybody { from } => Who::emit_everybody(out, who.request, from),
        },
        Frame::Presence(presence) => {
            Presence::emit(out, presence.request, presence.next, &presence.iter().collect::<Vec<_>>())
        }
        Frame::Block(block) => block.emit(out),
        Frame::Blocked(blocked) => blocked.emit(out),
        Frame::Remove(remove) => remove.emit(out),
        Frame::Removed(removed) => removed.emit(out),
        Frame::Skipped => return None,
    })
}

fn mark(emitted: Result<usize, NoRoom>, redelivered: bool, out: &mut [u8]) -> Result<usize, NoRoom> {
    if redelivered && emitted.is_ok() {
        RoutedMut::new(out).unwrap().mark_redelivered();
    }
    emitted
}
