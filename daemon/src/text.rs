//! A debugging session in text (spec/wire.md, "Text"): lines in, lines out.
//!
//! Owns: what a line means, and how frames are shown. A translator in front of the core: the loop gives it bytes, carries out what
//! it makes of them, and gives it the frames that the core says. Must not know sockets or the core.

use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::layout::{Field, explain};
use e2e_protocol::wire::{Frame, Parsed};

use crate::limits::{TEXT_LINE_BYTES_MAX, TEXT_OUTPUT_BYTES};

const HELP: &str = "\
PING  is answered with PONG
STAT  says what the relay is busy with
HEX   takes frames from here on: one a line, two hex digits for a byte, spaces skipped, comments after #;
      answers are shown in hex, explained
HELP  says this
STAT and HEX are for addresses that the relay's operator trusts: loopback, unless configured.
The session ends when you send no more.";

/// What a line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// PING.
    Ping,
    /// HELP.
    Help,
    /// STAT.
    Stat,
    /// HEX.
    Hex,
    /// A frame, or what claims to be one.
    Frame(Vec<u8>),
    /// Nothing that is known, and why.
    Bad(String),
}

/// One session.
#[derive(Debug)]
pub struct Text {
    /// Whether it may have STAT and HEX.
    is_trusted: bool,
    /// HEX was said.
    takes_frames: bool,
    /// The start of a line whose end has not come; nothing more of one that is too long.
    line: Vec<u8>,
    is_too_long: bool,
    /// The start of a frame of the core's.
    frame: Vec<u8>,
    output: Vec<u8>,
}

impl Text {
    /// A session; `is_trusted` ones may have STAT and HEX.
    #[must_use]
    pub fn new(is_trusted: bool) -> Self {
        let (line, frame, output) = (Vec::new(), Vec::new(), Vec::new());
        Self { is_trusted, takes_frames: false, line, is_too_long: false, frame, output }
    }

    /// Whether it may have STAT and HEX.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Takes bytes off the front of `bytes`, up to the end of a line that means something, or all.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Input> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) =
                (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
            self.add(line);
            *bytes = rest;
            if let Some(input) = self.finish() {
                return Some(input);
            }
        }
        self.add(bytes);
        *bytes = &[];
        None
    }

    /// The line ends, or the session does: what it means, unless it is empty.
    pub fn finish(&mut self) -> Option<Input> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_too_long) {
            return Some(Input::Bad(format!("the line has more than {TEXT_LINE_BYTES_MAX} bytes")));
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        let input = match line.to_ascii_uppercase().as_slice() {
            b"PING" => Input::Ping,
            b"HELP" => Input::Help,
            b"STAT" | b"HEX" if !self.is_trusted => Input::Bad("not from this address".to_owned()),
            b"STAT" => Input::Stat,
            b"HEX" => {
                self.takes_frames = true;
                Input::Hex
            }
            _ if !self.takes_frames => Input::Bad("unknown command; HELP lists them".to_owned()),
            _ => match from_hex(line) {
                Ok(frame) if frame.is_empty() => return None,
                Ok(frame) => Input::Frame(frame),
                Err(what) => Input::Bad(what),
            },
        };
        Some(input)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.is_too_long |= self.line.len() + bytes.len() > TEXT_LINE_BYTES_MAX;
        if self.is_too_long {
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    /// Says a line, or several.
    pub fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
    }

    /// Answers what was asked for without the relay's doing.
    pub fn say_help(&mut self) {
        self.say(HELP);
    }

    /// Shows what the core says: bytes of frames, cut anywhere.
    pub fn show(&mut self, bytes: &[u8]) {
        self.frame.extend_from_slice(bytes);
        while let Ok(Parsed::Frame(_, count)) = Frame::parse(&self.frame, BODY_BYTES_MAX) {
            let mut text = String::new();
            explain(self.frame.get(..count).unwrap_or_default(), &mut |field| show(field, &mut text));
            self.say(&text);
            self.frame.drain(..count);
        }
    }

    /// What is to be written.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So much of it was written.
    pub fn written(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    /// Whether so much is unwritten that nothing more should be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.output.len() >= TEXT_OUTPUT_BYTES
    }
}

/// Two digits for a byte; spaces and what follows a `#` are skipped.
fn from_hex(line: &[u8]) -> Result<Vec<u8>, String> {
    let digits = line.split(|byte| *byte == b'#').next().unwrap_or_default();
    let (mut bytes, mut high) = (Vec::with_capacity(digits.len() / 2), None);
    for digit in digits.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let value = value.ok_or_else(|| format!("'{}' is no hex digit", digit.escape_ascii()))?;
        match high.take() {
            None => high = Some(value),
            Some(high) => bytes.push(high << 4 | value),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err("the last byte has one hex digit only".to_owned()),
    }
}

/// As spec/wire.md shows its session.
fn show(field: Field<'_>, text: &mut String) {
    // A string takes everything.
    let _ = field.write_lines(text);
}
