//! How a message looks on standard output.
//!
//! Owns: the text and the JSON form, and making harmless what could do something to a terminal. Must
//! not know where the message comes from.

use e2e_protocol::e2e::{Kind, Plaintext};
use e2e_protocol::ids::Name;

/// How messages are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `NAME: TEXT`, as it is.
    Plain,
    /// The same for a terminal: control characters as codes, further lines indented, so that no text
    /// looks like a message of somebody else.
    Terminal,
    /// One JSON object a line.
    Json,
}

/// A message in one line, or several; `None` for a kind that can't be shown.
#[must_use]
pub fn message(style: Style, from: &Name, message: &Plaintext) -> Option<String> {
    if !matches!(message.kind, Kind::Text | Kind::Bytes) {
        return None;
    }
    let text = match message.kind {
        Kind::Text => std::str::from_utf8(&message.body).ok(),
        _ => None,
    };
    Some(match (style, text) {
        (Style::Json, _) => json(from, message, text),
        (Style::Plain, Some(text)) => format!("{from}: {text}\n"),
        (Style::Terminal, Some(text)) => format!("{from}: {}\n", harmless(text)),
        (Style::Plain | Style::Terminal, None) => {
            format!("{from}: {} bytes in base64: {}\n", message.body.len(), base64(&message.body))
        }
    })
}

fn json(from: &Name, message: &Plaintext, text: Option<&str>) -> String {
    let body = match text {
        Some(text) => format!("\"text\":\"{}\"", escape(text)),
        None => format!("\"data\":\"{}\"", base64(&message.body)),
    };
    format!("{{\"from\":\"{from}\",\"id\":\"{}\",\"time\":{},{body}}}\n", message.id, message.time_ms)
}

/// A text as the inside of a JSON string (RFC 8259).
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 2);
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if is_harmful(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text for a terminal.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\n  "),
            '\t' => shown.push('\t'),
            c if is_harmful(c) => shown.push_str(&format!("<{:02X}>", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// Control characters, and those that reorder or hide what is around them.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// Base64 (RFC 4648, section 4).
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let sextet = usize::try_from(bits >> (18 - 6 * at) & 0x3F).unwrap_or(0);
            let digit = ALPHABET.get(sextet).copied().unwrap_or(b'=');
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
