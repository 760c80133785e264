//! What the tests of the wire format share: reading spec/wire.md and the vector files
//! (spec/vectors/README.md), and emitting any parsed frame again. Each test binary uses its part of it.
#![allow(dead_code)]

mod emit;
pub(crate) mod material;

use std::fs;
use std::path::{Path, PathBuf};

use e2e_protocol::limits::BODY_BYTES_MAX;

pub(crate) use emit::emit;

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
