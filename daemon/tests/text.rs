//! A debugging session without sockets: what lines mean, and how frames are shown (spec/wire.md, section 13).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use e2e_protocol::wire::FrameType;
use e2e_protocol::wire::session::emit_ping;
use e2e_relayd::limits::TEXT_LINE_BYTES_MAX;
use e2e_relayd::text::{Input, Text};
use proptest::prelude::*;

/// Everything that these bytes mean, and the end.
fn all(text: &mut Text, mut bytes: &[u8]) -> Vec<Input> {
    let mut inputs = Vec::new();
    while let Some(input) = text.next(&mut bytes) {
        inputs.push(input);
    }
    inputs.extend(text.finish());
    inputs
}

#[test]
fn understands_commands_in_either_case_with_any_line_end() {
    let mut text = Text::new(true);
    let inputs = all(&mut text, b"PING\r\nping\n\n  help \nStat\nHEX\nPING");
    let expected = [Input::Ping, Input::Ping, Input::Help, Input::Stat, Input::Hex, Input::Ping];
    assert_eq!(inputs, expected);
}

#[test]
fn takes_frames_after_hex_and_commands_still() {
    let mut text = Text::new(true);
    let inputs = all(&mut text, b"HEX\ne2 52 4C59 # a magic\n# nothing\nPING\nE\nfg\n");
    assert_eq!(inputs[..3], [Input::Hex, Input::Frame(vec![0xE2, 0x52, 0x4C, 0x59]), Input::Ping]);
    assert!(matches!(&inputs[3..], [Input::Bad(_), Input::Bad(_)]));
}

#[test]
fn keeps_stat_and_hex_from_who_is_not_trusted() {
    let mut text = Text::new(false);
    let inputs = all(&mut text, b"STAT\nHEX\ne2524c59\nPING\n");
    assert!(matches!(&inputs[..], [Input::Bad(_), Input::Bad(_), Input::Bad(_), Input::Ping]));
}

#[test]
fn answers_a_line_that_is_too_long_once_and_goes_on() {
    let mut text = Text::new(true);
    let long = [vec![b'e'; TEXT_LINE_BYTES_MAX + 1], b"\nPING\n".to_vec()].concat();
    let mut inputs = Vec::new();
    for mut piece in long.chunks(1_000) {
        while let Some(input) = text.next(&mut piece) {
            inputs.push(input);
        }
    }
    assert!(matches!(&inputs[..], [Input::Bad(_), Input::Ping]));
}

#[test]
fn shows_a_frame_as_the_specification_does() {
    let mut ping = [0; 28];
    emit_ping(&mut ping, FrameType::Ping, *b"opaque!!").unwrap();
    let mut text = Text::new(true);
    text.show(&ping[..10]);
    assert!(text.output().is_empty(), "it is not complete");
    text.show(&ping[10..]);
    let shown = String::from_utf8(text.output().to_vec()).unwrap();
    assert!(shown.starts_with("e2 52 4c 59    #  0 magic\n"), "{shown}");
    assert!(shown.contains("05 type: PING") || shown.contains("type: PING"), "{shown}");
    assert!(shown.contains("6f 70 61 71 75 65 21 21    # 20 opaque\n"), "{shown}");
    assert!(shown.ends_with("\n\n"), "{shown}");
    text.written(shown.len());
    assert!(text.output().is_empty());
}

proptest! {
    #[test]
    fn means_the_same_however_it_is_cut(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'P'), Just(b'e'), Just(b'2'), Just(b' '), any::<u8>()],
            0..200,
        ),
        piece in 1_usize..20,
    ) {
        let bytes = [&b"HEX\n"[..], &bytes].concat();
        let whole = all(&mut Text::new(true), &bytes);
        let mut text = Text::new(true);
        let mut cut = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while let Some(input) = text.next(&mut piece) {
                cut.push(input);
            }
        }
        cut.extend(text.finish());
        prop_assert_eq!(whole, cut);
    }
}
