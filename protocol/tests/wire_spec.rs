//! spec/wire.md itself against the code: its tables, its limits and its hex.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::{Expect, Vector, hex, numbered_rows, section, to_hex};
use e2e_protocol::limits;
use e2e_protocol::wire::{Code, ErrorCode, Frame, FrameType, Parsed};

/// The indented blocks of a section, one string each.
fn blocks(heading: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in section(heading) {
        match line.strip_prefix("    ") {
            Some(line) => {
                let block = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            None if blocks.last().unwrap().is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[test]
fn the_table_of_types_is_the_codes() {
    let rows = numbered_rows("## 1. ");
    let names: Vec<(u8, &str)> =
        rows.iter().map(|(number, cells)| (u8::try_from(*number).unwrap(), cells[1].as_str())).collect();
    let ours: Vec<(u8, &str)> = FrameType::ALL.iter().map(|known| (*known as u8, known.name())).collect();
    assert_eq!(names, ours);
    for (number, cells) in rows {
        let known = FrameType::from_number(u8::try_from(number).unwrap()).unwrap();
        assert_eq!(cells[3].starts_with("*routing fields* 44"), known.is_routed(), "{}", cells[1]);
    }
    let known = (0..=u8::MAX).filter(|number| FrameType::from_number(*number).is_some()).count();
    assert_eq!(known, FrameType::ALL.len());
}

#[test]
fn the_directions_are_those_of_the_vectors() {
    let directions: BTreeMap<u8, String> = numbered_rows("## 1. ")
        .into_iter()
        .map(|(number, cells)| (u8::try_from(number).unwrap(), cells[2].clone()))
        .collect();
    for vector in Vector::all() {
        let Some(direction) = vector.type_number().and_then(|number| directions.get(&number)) else {
            continue;
        };
        let fits = direction == "both" || *direction == vector.direction;
        match &vector.expect {
            Expect::Frame { .. } => assert!(fits, "{}", vector.path),
            Expect::Error { code, .. } if code == "UNEXPECTED_FRAME" => assert!(!fits, "{}", vector.path),
            _ => {}
        }
    }
}

#[test]
fn the_table_of_errors_is_the_codes() {
    let rows = numbered_rows("## 7. ");
    let names: Vec<(u16, &str)> = rows.iter().map(|(number, cells)| (*number, cells[1].as_str())).collect();
    let ours: Vec<(u16, &str)> = ErrorCode::ALL.iter().map(|code| (code.number(), code.name())).collect();
    assert_eq!(names, ours);
    for (number, cells) in rows {
        assert_eq!(Code(number).retry(), cells[3] == "yes", "{}", cells[1]);
    }
}

#[test]
fn the_table_of_limits_is_the_codes() {
    let limits = section("## 9. ").join("\n");
    for (row, value) in [
        ("| body | {} bytes |", limits::BODY_BYTES_MAX),
        ("| body before login | {} bytes |", limits::BODY_BYTES_BEFORE_LOGIN_MAX),
        ("| envelope | {} bytes |", limits::ENVELOPE_BYTES_MAX),
        ("| name | {} bytes |", e2e_protocol::ids::NAME_BYTES_MAX),
        ("| receipts in ACK and RESULT, numbers in RESULT | {} |", usize::from(limits::RANGE_COUNT_MAX)),
        ("| time to live | {} s (30 days) |", usize::try_from(limits::TTL_SECONDS_MAX).unwrap()),
        (
            "| numbers remembered in a lane; numbers in a QUERY | {} |",
            usize::try_from(limits::LANE_WINDOW).unwrap(),
        ),
        ("| roll-overs kept of a name | {} |", limits::ROLL_OVERS_MAX),
        ("| requests without an answer | {} a connection |", usize::from(limits::REQUESTS_PENDING_MAX)),
    ] {
        let row = row.replace("{}", &with_commas(value));
        assert!(limits.contains(&row), "section 9 doesn't say: {row}");
    }
    let window = format!("| {}; MALFORMED |", limits::LANE_WINDOW);
    assert_eq!(u64::from(limits::QUERY_COUNT_MAX), limits::LANE_WINDOW);
    let people = format!(
        "| {}, {}, {} | MALFORMED, WATCHES_FULL, BUSY |",
        limits::WHO_COUNT_MAX,
        limits::WATCHES_MAX,
        limits::WATCHERS_MAX
    );
    let blocks = format!("| names that one name blocks | {} | BLOCKS_FULL |", limits::BLOCKS_MAX);
    for row in [window.replace("64;", "64 | ID_TOO_OLD;"), people, blocks] {
        assert!(limits.contains(&row), "section 9 doesn't say: {row}");
    }
    let batches = format!("| {}, {} |", limits::BATCH_PREKEYS_MAX, limits::BATCHES_MAX);
    assert!(limits.contains(&batches), "section 9 doesn't say: {batches}");
}

fn with_commas(value: usize) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn the_session_in_hex_is_that_of_the_vectors() {
    let blocks = blocks("## 12. ");
    let [hello, command, challenge] = &blocks[..] else { panic!("{blocks:?}") };
    for (block, path) in [(hello, "hello/login"), (challenge, "challenge/open")] {
        let bytes = hex(block);
        assert_eq!(to_hex(&bytes), to_hex(&Vector::load(path).bytes));
        assert!(
            matches!(Frame::parse(&bytes, limits::BODY_BYTES_MAX), Ok(Parsed::Frame(_, n)) if n == bytes.len())
        );
        assert_offsets(block);
    }
    let escaped = command.strip_prefix("printf '\\").unwrap().split_once('\'').unwrap().0;
    let said: Vec<u8> = escaped.split('\\').map(|octal| u8::from_str_radix(octal, 8).unwrap()).collect();
    assert_eq!(to_hex(&said), to_hex(&hex(hello)));
}

/// Each comment starts with the offset of its line's first byte.
fn assert_offsets(block: &str) {
    let mut at = 0;
    for line in block.lines() {
        if let Some((_, comment)) = line.split_once('#') {
            let offset: usize = comment.split_whitespace().next().unwrap().parse().unwrap();
            assert_eq!(offset, at, "{line}");
        }
        at += hex(line).len();
    }
}
