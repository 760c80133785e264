//! How messages look, and that none of them can do harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use e2e_client::cli::show::{Style, base64, escape, harmless, message};
use e2e_protocol::e2e::{Kind, Plaintext};
use e2e_protocol::ids::MessageId;

fn shown(style: Style, kind: Kind, body: &[u8]) -> Option<String> {
    let plaintext = Plaintext { id: MessageId([0xAB; 16]), kind, time_ms: 1_234, body: body.to_vec().into() };
    message(style, &"alice".parse().unwrap(), &plaintext)
}

#[test]
fn text_is_printed_as_it_is_where_no_terminal_is() {
    assert_eq!(
        shown(Style::Plain, Kind::Text, "a\x1b[2J\nb ü".as_bytes()).unwrap(),
        "alice: a\x1b[2J\nb ü\n"
    );
}

#[test]
fn terminal_gets_no_control_characters() {
    assert_eq!(shown(Style::Terminal, Kind::Text, b"a\x1b[2J\rb").unwrap(), "alice: a<1B>[2J<0D>b\n");
    assert_eq!(harmless("\u{202E}x\u{9B}31m"), "<202E>x<9B>31m");
}

#[test]
fn no_text_looks_like_a_message_of_somebody_else() {
    assert_eq!(shown(Style::Terminal, Kind::Text, b"hi\nbob: hello").unwrap(), "alice: hi\n  bob: hello\n");
}

#[test]
fn json_is_one_object_a_line() {
    let line = shown(Style::Json, Kind::Text, "say \"hi\"\\\n\t\x01\u{202E}\u{1F600}".as_bytes()).unwrap();
    let id = "ab".repeat(16);
    let text = r#"say \"hi\"\\\n\t\u0001\u202e😀"#;
    assert_eq!(line, format!("{{\"from\":\"alice\",\"id\":\"{id}\",\"time\":1234,\"text\":\"{text}\"}}\n"));
}

#[test]
fn what_is_no_text_is_base64() {
    let line = shown(Style::Json, Kind::Bytes, &[0xFF, 0]).unwrap();
    assert!(line.ends_with("\"data\":\"/wA=\"}\n"), "{line}");
    // A text that isn't UTF-8 is data, too.
    assert!(shown(Style::Json, Kind::Text, &[0xFF]).unwrap().contains("\"data\":\"/w==\""));
    assert_eq!(shown(Style::Plain, Kind::Bytes, b"abc").unwrap(), "alice: 3 bytes in base64: YWJj\n");
}

#[test]
fn unknown_kind_is_not_shown_as_a_message() {
    assert_eq!(shown(Style::Json, Kind::Unknown(9), b"x"), None);
    assert_eq!(shown(Style::Plain, Kind::Nothing, b""), None);
}

#[test]
fn base64_is_that_of_rfc_4648() {
    let vectors = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("foobar", "Zm9vYmFy"),
    ];
    for (plain, encoded) in vectors {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
    assert_eq!(base64(&[0xFB, 0xFF, 0xBF]), "+/+/");
}

#[test]
fn every_control_character_is_escaped_in_json() {
    for c in (0..=0x9F).filter_map(char::from_u32).filter(|c| c.is_control()) {
        let escaped = escape(&c.to_string());
        assert!(escaped.starts_with('\\') && escaped.is_ascii(), "{c:?}: {escaped}");
    }
}
