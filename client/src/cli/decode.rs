//! `decode`: explains frames, given as hex or as the bytes themselves.
//!
//! Owns: reading them, and how they are shown: as spec/wire.md shows its session, so that what is printed can be
//! read again. Must not know keys: of an envelope only what everybody sees is explained.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use e2e_protocol::e2e::explain_envelope;
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::layout::{Field, explain};
use e2e_protocol::wire::{ErrorCode, Frame, MAGIC, Parsed};

use super::failure::{Exit, Failure};
use super::print;

/// Most bytes that are read: some hundred of the longest frames in hex.
const INPUT_BYTES_MAX: u64 = 16 << 20;

pub(super) fn run(file: Option<&Path>) -> Result<(), Failure> {
    let input = read(file)?;
    let bytes = if input.first() == Some(&MAGIC[0]) { input } else { from_hex(&input)? };
    if bytes.is_empty() {
        return Err(Failure::new(Exit::BadData, "there are no bytes to explain"));
    }
    let (text, end) = explain_all(&bytes);
    print(&text)?;
    end
}

fn read(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut input = Vec::new();
    let (read, from) = match file {
        Some(path) => {
            let read =
                File::open(path).and_then(|file| file.take(INPUT_BYTES_MAX + 1).read_to_end(&mut input));
            (read, path.display().to_string())
        }
        None => {
            let read = io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut input);
            (read, "standard input".into())
        }
    };
    read.map_err(|error| Failure::new(Exit::BadData, format!("cannot read {from}: {error}")))?;
    if input.len() as u64 > INPUT_BYTES_MAX {
        let error = format!("{from} has more than {} MiB", INPUT_BYTES_MAX >> 20);
        return Err(Failure::new(Exit::BadData, error));
    }
    Ok(input)
}

/// Two digits for a byte, spaces where one likes, comments from `#` to the end of the line.
fn from_hex(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut high = None;
    for (line, text) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let digits = text.split(|byte| *byte == b'#').next().unwrap_or_default();
        for digit in digits.iter().filter(|byte| !byte.is_ascii_whitespace()) {
            let Some(value) = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
            else {
                let error = format!("line {line}: '{}' is no hex digit", digit.escape_ascii());
                return Err(Failure::new(Exit::BadData, error)
                    .hint("two hex digits for a byte; spaces, and comments from # on, are skipped"));
            };
            match high.take() {
                None => high = Some(value),
                Some(high) => bytes.push(high << 4 | value),
            }
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err(Failure::new(Exit::BadData, "the last byte has one hex digit only")),
    }
}

/// The explanation, and what is wrong with the first frame that isn't one. What follows that is not looked at.
fn explain_all(bytes: &[u8]) -> (String, Result<(), Failure>) {
    let mut text = String::new();
    let mut rest = bytes;
    for number in 1.. {
        if rest.is_empty() {
            break;
        }
        let at = bytes.len() - rest.len();
        let bad =
            |what: String| Err(Failure::new(Exit::BadData, format!("frame {number}, at byte {at}: {what}")));
        let parsed = Frame::parse(rest, BODY_BYTES_MAX);
        if let Err(error) = parsed
            && error.code() == ErrorCode::BadMagic
        {
            return (text, bad("BAD_MAGIC: frames begin with e2 52 4c 59".into()));
        }
        if number > 1 {
            text.push('\n');
        }
        explain_one(rest, &mut text);
        match parsed {
            Ok(Parsed::Frame(_, count)) => rest = rest.get(count..).unwrap_or_default(),
            Ok(Parsed::Incomplete { frame_bytes }) => {
                let whole = frame_bytes.map_or("at least 20".into(), |bytes| bytes.to_string());
                return (text, bad(format!("it ends after {} of {whole} bytes", rest.len())));
            }
            Err(error) => return (text, bad(error.to_string())),
        }
    }
    (text, Ok(()))
}

fn explain_one(bytes: &[u8], text: &mut String) {
    explain(bytes, &mut |field| match field.name {
        "envelope" => explain_envelope(field.bytes, field.offset, &mut |field| show(field, text)),
        _ => show(field, text),
    });
}

fn show(field: Field<'_>, text: &mut String) {
    // A string takes everything.
    let _ = field.write_lines(text);
}
