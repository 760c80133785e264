//! What `explain` says of frames: every byte, once, and by the names of spec/wire.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::fs;

use common::{Expect, Vector};
use e2e_protocol::limits::HEADER_BYTES;
use e2e_protocol::wire::FrameType;
use e2e_protocol::wire::layout::{Field, explain};
use proptest::prelude::*;

fn fields(bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    explain(bytes, &mut |field| fields.push(field));
    fields
}

/// All of `bytes` but what follows the frame is shown, in order and without gaps.
fn assert_all_shown(bytes: &[u8], what: &str) {
    let mut at = 0;
    for field in fields(bytes) {
        assert_eq!(field.offset, at, "{what}: {field}");
        assert_eq!(field.bytes, &bytes[at..at + field.bytes.len()], "{what}: {field}");
        assert!(!field.bytes.is_empty(), "{what}: {field}");
        at += field.bytes.len();
    }
    let length = bytes.get(8..12).map_or(0, |length| u32::from_be_bytes(length.try_into().unwrap()) as usize);
    assert_eq!(at, bytes.len().min(HEADER_BYTES + length), "{what}");
}

#[test]
fn every_byte_of_every_vector_is_shown_once() {
    for vector in Vector::all() {
        assert_all_shown(&vector.bytes, &vector.path);
        let is_good = matches!(vector.expect, Expect::Frame { .. });
        let fits = fields(&vector.bytes).iter().all(|field| !["cut off", "left over"].contains(&field.name));
        assert!(fits || !is_good, "{}: a good frame has a layout that fits", vector.path);
    }
}

#[test]
fn every_cut_of_every_kind_of_frame_is_shown() {
    for frame_type in FrameType::ALL {
        let is_it = |vector: &Vector| matches!(&vector.expect, Expect::Frame { name, .. } if *name == frame_type.name());
        let shortest = Vector::all().into_iter().filter(is_it).min_by_key(|vector| vector.bytes.len());
        let vector = shortest.unwrap();
        for length in 0..vector.bytes.len() {
            assert_all_shown(&vector.bytes[..length], &format!("{} cut at {length}", vector.path));
        }
    }
}

/// The table on the first screen of spec/wire.md and the layouts have the same fields, of the same lengths.
#[test]
fn layouts_are_those_of_the_specification() {
    let spec = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/wire.md")).unwrap();
    let routing = "peer uid 8, lane 8, number 8, sequence 8, time 8, ttl 4";
    assert!(spec.contains(routing));
    let mut compared = 0;
    for vector in Vector::all() {
        let Expect::Frame { name, .. } = &vector.expect else { continue };
        let row = spec.lines().find(|line| line.contains(&format!("| {name} |"))).unwrap();
        let body = row.split('|').nth(4).unwrap().trim().replace("*routing fields* 44", routing);
        let shown = fields(&vector.bytes);
        let mut shown = shown.iter().skip_while(|field| field.offset < HEADER_BYTES);
        // What repeats or depends on a field is said in words.
        for field in body.split(", ").take_while(|field| !field.contains(" x ") && !field.starts_with("then"))
        {
            let shown = shown.next().unwrap_or_else(|| panic!("{}: {field} is missing", vector.path));
            let (_, length) = field.rsplit_once(' ').unwrap();
            match length.parse::<usize>() {
                Ok(length) => assert_eq!(shown.bytes.len(), length, "{}: {field}, {shown}", vector.path),
                Err(_) if length == "1+n" => assert_eq!(shown.bytes.len(), 1 + usize::from(shown.bytes[0])),
                Err(_) => assert_eq!((field, shown.name), ("envelope 1 to 16,384", "envelope")),
            }
            let is_zero = field.starts_with("zero ");
            assert_eq!(shown.name == "zero", is_zero, "{}: {field}, {shown}", vector.path);
            compared += 1;
        }
    }
    assert!(compared > 500, "only {compared} fields were compared");
}

proptest! {
    #[test]
    fn any_bytes_are_shown(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        assert_all_shown(&bytes, "random bytes");
    }
}
