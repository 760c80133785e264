//! The data files of spec/vectors/wire, as any other implementation would read them.

use std::fs;
use std::path::{Path, PathBuf};

use e2e_protocol::limits::BODY_BYTES_MAX;

/// One file.
#[derive(Debug)]
pub struct Vector {
    /// Its path in `wire/`, without `.txt`.
    pub name: String,
    /// Who reads these bytes: `to relay`, `to client` or `both`.
    pub direction: String,
    /// The longest body that this reader takes.
    pub limit: usize,
    /// What a reader makes of it.
    pub expect: Expect,
    /// How many bytes must be there before an error can be told.
    pub after: usize,
    /// Length of the frame at the start, where it is known.
    pub frame_bytes: usize,
    /// What has arrived.
    pub bytes: Vec<u8>,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A frame of this type.
    Frame(String),
    /// A frame to be ignored.
    Skip,
    /// More is needed.
    Incomplete,
    /// The connection ends with this code.
    Error(String),
}

/// All of them, by name.
///
/// # Panics
/// If one can't be read.
#[must_use]
pub fn wire() -> Vec<Vector> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/wire");
    let mut paths = Vec::new();
    for folder in fs::read_dir(&root).expect("spec/vectors/wire").flatten() {
        paths.extend(fs::read_dir(folder.path()).into_iter().flatten().flatten().map(|file| file.path()));
    }
    paths.sort();
    assert!(paths.len() > 400, "only {} vectors", paths.len());
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vector {
    let text = fs::read_to_string(path).expect("a vector");
    let (head, hex) = text.split_once("\n\n").expect("an empty line after the keys");
    let value = |key: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
    };
    let number = |key: &str, or: usize| value(key).map_or(or, |value| value.parse().expect("a number"));
    let expect = value("expect").expect("an outcome");
    Vector {
        name: value("vector").expect("a name"),
        direction: value("direction").expect("a direction"),
        limit: number("limit", BODY_BYTES_MAX),
        expect: match expect.split_once(' ') {
            Some(("frame", name)) => Expect::Frame(name.to_owned()),
            Some(("error", code)) => Expect::Error(code.to_owned()),
            None if expect == "skip" => Expect::Skip,
            None if expect == "incomplete" => Expect::Incomplete,
            _ => panic!("{}: unknown outcome {expect}", path.display()),
        },
        after: number("after", 0),
        frame_bytes: number("frame bytes", 0),
        bytes: unhex(hex),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().bytes())
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).expect("hex"))
        .collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}
