//! What each byte of a frame is called: the tables of spec/wire.md as data, for people who look at bytes.
//!
//! Owns: names, order and lengths of all fields. Must not know whether a frame is a good one, which is
//! [`Frame::parse`](super::Frame::parse)'s: so a broken one can be explained as far as it goes.

use core::fmt;
use core::str;

use byteorder::{BigEndian, ByteOrder};

use super::header::{REDELIVERED, ROUTED, SKIPPABLE};
use super::{Code, FrameType};
use crate::ids::{MODULUS_BYTES, SIGNATURE_BYTES};
use crate::limits::{HEADER_BYTES, ROUTING_BYTES};

/// One field where it lies. Prints its name and what its value means.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// From the start of the frame.
    pub offset: usize,
    /// The field's own bytes.
    pub bytes: &'a [u8],
    /// Its name in the specification.
    pub name: &'static str,
    meaning: Meaning<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Meaning<'a> {
    /// The bytes say it all.
    Opaque,
    Number(u64),
    /// A number that stands for this.
    Word(&'static str),
    /// One that stands for nothing.
    Unknown(u64),
    Code(Code),
    Flags(u16),
    /// Printable ASCII.
    Text(&'a str),
    /// A CRC, of so many bytes at the end.
    BodyCrc(usize),
    /// The CRC of the header, and of the routing fields where there are some.
    HeaderCrc {
        routed: bool,
    },
}

/// Bytes in a line of hex.
const LINE_BYTES: usize = 16;

/// Columns that shorter fields are filled up to, so that most comments stand below each other: four bytes.
const LINE_COLUMNS: usize = 11;

impl Field<'_> {
    /// Writes the field as spec/wire.md, section 12, shows it: its bytes in hex, 16 in a line, and behind the first line
    /// its offset, name and meaning.
    ///
    /// # Errors
    /// As `out`.
    pub fn write_lines(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (index, line) in self.bytes.chunks(LINE_BYTES).enumerate() {
            let mut separator = "";
            for byte in line {
                write!(out, "{separator}{byte:02x}")?;
                separator = " ";
            }
            if index == 0 {
                let columns = (3 * line.len()).saturating_sub(1);
                write!(
                    out,
                    "{:1$}    # {2:>2} {self}",
                    "",
                    LINE_COLUMNS.saturating_sub(columns),
                    self.offset
                )?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.meaning {
            Meaning::Opaque => Ok(()),
            Meaning::Number(number) => write!(f, ": {number}"),
            Meaning::Word(word) => write!(f, ": {word}"),
            Meaning::Unknown(number) => write!(f, ": {number}, which this version does not know"),
            Meaning::Code(Code(0)) => f.write_str(": none"),
            Meaning::Code(code) => write!(f, ": {code}"),
            Meaning::Text(text) => write!(f, ": {text}"),
            Meaning::BodyCrc(count) => write!(f, ": of the last {count} bytes"),
            Meaning::HeaderCrc { routed: false } => f.write_str(": of the first 16 bytes"),
            Meaning::HeaderCrc { routed: true } => {
                f.write_str(": of the first 16 bytes and the routing fields")
            }
            Meaning::Flags(0) => f.write_str(": none"),
            Meaning::Flags(flags) => write_flags(f, flags),
        }
    }
}

fn write_flags(f: &mut fmt::Formatter<'_>, flags: u16) -> fmt::Result {
    let known = [(SKIPPABLE, "SKIPPABLE"), (ROUTED, "ROUTED"), (REDELIVERED, "REDELIVERED")];
    let mut separator = ": ";
    for (bit, name) in known.into_iter().filter(|(bit, _)| flags & bit != 0) {
        write!(f, "{separator}{name} 0x{bit:04x}")?;
        separator = ", ";
    }
    match flags & !known.iter().fold(0, |all, (bit, _)| all | bit) {
        0 => Ok(()),
        unknown => write!(f, "{separator}0x{unknown:04x}, which this version does not know"),
    }
}

/// One line of a layout.
#[derive(Clone, Copy)]
pub(crate) enum Item {
    /// An integer of 1, 2, 4 or 8 bytes.
    Number(&'static str, usize),
    /// An integer that says how often [`Item::Times`] is.
    Count(&'static str, usize),
    /// An integer whose values have names.
    Choice(&'static str, usize, &'static [(u64, &'static str)]),
    /// The same, and [`Item::When`] looks at it.
    Select(&'static str, usize, &'static [(u64, &'static str)]),
    /// An error code.
    Code(&'static str),
    /// So many bytes.
    Opaque(&'static str, usize),
    Zero(usize),
    /// A length byte, and as many bytes of text.
    Counted(&'static str),
    /// All that is left.
    Rest(&'static str),
    /// Lines that several layouts share.
    All(&'static [Item]),
    /// As often as the last count says.
    Times(&'static [Item]),
    /// Only if the last selection was one of these.
    When(&'static [u64], &'static [Item]),
}

use Item::{All, Choice, Count, Counted, Number, Opaque, Rest, Select, Times, When, Zero};

const REQUEST: Item = Number("request", 4);
const RECEIPT: Item = Opaque("receipt", 32);
const KEY: usize = MODULUS_BYTES;
const SIGNATURE: usize = SIGNATURE_BYTES;

const ROUTING: &[Item] = &[
    Opaque("peer uid", 8),
    Opaque("lane", 8),
    Number("number", 8),
    Number("sequence", 8),
    Number("time", 8),
    Number("ttl", 4),
];
const RESULT_CODES: &[(u64, &str)] = &[
    (1, "COLLECTED"),
    (2, "STORED"),
    (3, "REFUSED"),
    (4, "UNCERTAIN"),
    (5, "EXPIRED"),
    (6, "DONE"),
    (7, "ACCEPTED"),
];
const ID_STATES: &[(u64, &str)] =
    &[(0, "UNKNOWN"), (1, "WAITING"), (2, "STORED"), (3, "DONE"), (4, "ACCEPTED")];
const NO_YES: &[(u64, &str)] = &[(0, "no"), (1, "yes")];
pub(crate) const PROFILES: &[(u64, &str)] = &[(0, "strict"), (1, "light")];
const IDS: &[Item] = &[REQUEST, Opaque("lane", 8), Number("first number", 8), Count("count", 2), Zero(2)];
const SIGNED_PREKEY: &[Item] = &[
    Opaque("N(SPK)", KEY),
    Number("made", 8),
    Choice("profile", 1, PROFILES),
    Opaque("signature", SIGNATURE),
];
const ONE_TIME: &[Item] = &[
    Opaque("signature of the batch", SIGNATURE),
    Opaque("N(OPK)", KEY),
    Count("count", 1),
    Times(&[Opaque("SHA-256 of an N(OPK) of the batch", 32)]),
];
const BATCH: &[Item] = &[
    Opaque("kid(SPK)", 8),
    Opaque("signature of the batch", SIGNATURE),
    Count("count", 1),
    Times(&[Opaque("N(OPK)", KEY)]),
];

/// The body of a frame of this type, as spec/wire.md has it.
fn body(frame_type: FrameType) -> &'static [Item] {
    match frame_type {
        FrameType::Hello => &[
            Number("lowest session version", 2),
            Number("highest session version", 2),
            Choice("purpose", 1, &[(1, "login"), (2, "register")]),
            Zero(3),
        ],
        FrameType::Challenge => &[
            Number("session version", 2),
            Choice("registration", 1, &[(0, "open"), (1, "token needed"), (2, "closed")]),
            Zero(1),
            Opaque("relay id", 32),
            Opaque("nonce", 32),
        ],
        FrameType::Proof => &[
            Choice("receive", 1, &[(0, "no"), (1, "yes, and takes over"), (2, "if nobody does")]),
            Number("credit messages", 4),
            Number("credit bytes", 4),
            Opaque("N(IK)", KEY),
            Opaque("signature", SIGNATURE),
            Opaque("token proof", 32),
            Counted("name"),
        ],
        FrameType::Welcome => &[
            Opaque("uid", 8),
            Number("time", 8),
            Number("queued", 8),
            Opaque("kid(SPK)", 8),
            Number("prekeys left", 2),
            Choice("receiving", 1, NO_YES),
            Zero(1),
            Number("keepalive", 2),
            Number("in flight", 2),
            Number("envelope max", 4),
            Number("ttl max", 4),
        ],
        FrameType::Error => &[
            Item::Code("code"),
            Choice("closes", 1, NO_YES),
            Zero(1),
            REQUEST,
            Number("retry after", 4),
            Counted("text"),
        ],
        FrameType::Ping | FrameType::Pong => &[Opaque("opaque", 8)],
        FrameType::Send | FrameType::Deliver => &[All(ROUTING), Rest("envelope")],
        FrameType::Notice => &[All(ROUTING), Choice("code", 1, RESULT_CODES), Zero(3), RECEIPT],
        FrameType::Ack => &[Number("first sequence", 8), Count("count", 2), Zero(2), Times(&[RECEIPT])],
        FrameType::Result => &[
            Opaque("lane", 8),
            Number("first number", 8),
            Count("count", 2),
            Select("code", 1, RESULT_CODES),
            Zero(1),
            Item::Code("reason"),
            Zero(2),
            Number("retry after", 4),
            When(&[1], &[Times(&[RECEIPT])]),
        ],
        FrameType::Query => IDS,
        FrameType::States => &[All(IDS), Times(&[Choice("state", 1, ID_STATES)])],
        FrameType::Lookup => &[
            REQUEST,
            Choice(
                "want",
                1,
                &[
                    (1, "the address"),
                    (2, "the bundle"),
                    (3, "the bundle, with a one-time prekey"),
                    (4, "the roll-overs"),
                ],
            ),
            Zero(3),
            Opaque("uid", 8),
            Counted("name"),
        ],
        FrameType::Entry => &[
            REQUEST,
            Opaque("uid", 8),
            Opaque("fingerprint", 32),
            Select(
                "parts",
                1,
                &[(0, "the address"), (1, "the bundle"), (2, "the bundle, with a one-time prekey")],
            ),
            Zero(1),
            Number("prekeys left", 2),
            Counted("name"),
            When(&[1, 2], &[Opaque("N(IK)", KEY), All(SIGNED_PREKEY)]),
            When(&[2], ONE_TIME),
        ],
        FrameType::Publish => &[
            REQUEST,
            Select("parts", 1, &[(1, "a signed prekey"), (2, "a batch of one-time prekeys"), (3, "both")]),
            Zero(3),
            When(&[1, 3], SIGNED_PREKEY),
            When(&[2, 3], BATCH),
        ],
        FrameType::Published => &[REQUEST, Opaque("kid(SPK)", 8), Number("prekeys left", 2), Zero(2)],
        FrameType::Roll => &[
            REQUEST,
            Number("time", 8),
            Opaque("N(new IK)", KEY),
            Opaque("signature by the old key", SIGNATURE),
            Opaque("signature by the new key", SIGNATURE),
        ],
        FrameType::Rolled => &[REQUEST, Opaque("uid", 8)],
        FrameType::Rolls => &[
            REQUEST,
            Count("count", 1),
            Zero(3),
            Opaque("N(oldest IK)", KEY),
            Times(&[
                Number("time", 8),
                Opaque("N(IK)", KEY),
                Opaque("signature by the former key", SIGNATURE),
                Opaque("signature by this key", SIGNATURE),
            ]),
        ],
        FrameType::Who => &[
            REQUEST,
            Choice("watch", 1, &[(0, "no"), (1, "yes"), (2, "no more")]),
            Count("count", 1),
            Zero(2),
            Number("from", 4),
            Times(&[Counted("name")]),
        ],
        FrameType::Presence => &[
            REQUEST,
            Number("next", 4),
            Count("count", 1),
            Zero(3),
            Times(&[
                Choice("state", 1, &[(0, "nobody has this name"), (1, "offline"), (2, "online")]),
                Counted("name"),
            ]),
        ],
        FrameType::Block => &[REQUEST, Choice("block", 1, NO_YES), Zero(3), Counted("name")],
        FrameType::Blocked => &[REQUEST, Choice("block", 1, NO_YES), Zero(3)],
        FrameType::Remove => &[REQUEST, Opaque("signature", SIGNATURE)],
        FrameType::Removed => &[REQUEST],
    }
}

/// Shows each field of the frame that `bytes` begins with, in order and without gaps, as far as it is there.
/// Ends where the frame ends. The magic is not looked at.
pub fn explain<'a>(bytes: &'a [u8], see: &mut dyn FnMut(Field<'a>)) {
    let (header, after) = bytes.split_at(bytes.len().min(HEADER_BYTES));
    let number =
        |at: usize, count: usize| header.get(at..at + count).map(|bytes| BigEndian::read_uint(bytes, count));
    let frame_type = header.get(5).copied().and_then(FrameType::from_number);
    let flags = number(6, 2).and_then(|flags| u16::try_from(flags).ok()).unwrap_or_default();
    let length = number(8, 4).and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let body_bytes = after.get(..length).unwrap_or(after);
    let routed = flags & ROUTED != 0;
    let covered = length.saturating_sub(if routed { ROUTING_BYTES } else { 0 });

    let mut walk = Walk { rest: header, offset: 0, count: 0, selected: 0, see };
    let fields = [
        ("magic", 4, Meaning::Opaque),
        ("version of the header", 1, Meaning::Opaque),
        ("type", 1, frame_type.map_or(Meaning::Word("unknown"), |known| Meaning::Word(known.name()))),
        ("flags", 2, Meaning::Flags(flags)),
        ("length of the body", 4, Meaning::Number(length as u64)),
        ("body CRC", 4, Meaning::BodyCrc(covered)),
        ("header CRC", 4, Meaning::HeaderCrc { routed }),
    ];
    for (name, count, meaning) in fields {
        if walk.take(count, name, |_| meaning).is_none() {
            return walk.left_over("cut off");
        }
    }
    walk.rest = body_bytes;
    let layout = frame_type.map_or(&[Rest("body")] as &[Item], body);
    let end = walk.items(layout).map_or("cut off", |()| "left over");
    walk.left_over(end);
}

/// The same for bytes that have this layout and begin at this offset.
#[cfg(feature = "e2e")]
pub(crate) fn explain_as<'a>(
    layout: &[Item],
    bytes: &'a [u8],
    offset: usize,
    see: &mut dyn FnMut(Field<'a>),
) {
    let mut walk = Walk { rest: bytes, offset, count: 0, selected: 0, see };
    let end = walk.items(layout).map_or("cut off", |()| "left over");
    walk.left_over(end);
}

/// Where one is in a frame.
struct Walk<'a, 's> {
    rest: &'a [u8],
    offset: usize,
    count: u64,
    selected: u64,
    see: &'s mut dyn FnMut(Field<'a>),
}

impl<'a> Walk<'a, '_> {
    /// `None` where the bytes end before the layout.
    fn items(&mut self, layout: &[Item]) -> Option<()> {
        for item in layout {
            match *item {
                Number(name, count) => {
                    let _ = self.number(count, name, Meaning::Number)?;
                }
                Count(name, count) => self.count = self.number(count, name, Meaning::Number)?,
                Choice(name, count, words) => {
                    let _ = self.word(count, name, words)?;
                }
                Select(name, count, words) => self.selected = self.word(count, name, words)?,
                Item::Code(name) => {
                    let code = |number| Meaning::Code(Code(u16::try_from(number).unwrap_or_default()));
                    let _ = self.number(2, name, code)?;
                }
                Opaque(name, count) => {
                    let _ = self.take(count, name, |_| Meaning::Opaque)?;
                }
                Zero(count) => {
                    let _ = self.take(count, "zero", |_| Meaning::Opaque)?;
                }
                Counted(name) => self.counted(name)?,
                Rest(name) => self.left_over(name),
                All(layout) => self.items(layout)?,
                Times(layout) => (0..self.count).try_for_each(|_| self.items(layout))?,
                When(values, layout) => {
                    if values.contains(&self.selected) {
                        self.items(layout)?;
                    }
                }
            }
        }
        Some(())
    }

    fn take(
        &mut self,
        count: usize,
        name: &'static str,
        meaning: impl FnOnce(&'a [u8]) -> Meaning<'a>,
    ) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        (self.see)(Field { offset: self.offset, bytes, name, meaning: meaning(bytes) });
        self.rest = rest;
        self.offset += count;
        Some(bytes)
    }

    fn number(
        &mut self,
        count: usize,
        name: &'static str,
        meaning: impl FnOnce(u64) -> Meaning<'a>,
    ) -> Option<u64> {
        self.take(count, name, |bytes| meaning(BigEndian::read_uint(bytes, count)))
            .map(|bytes| BigEndian::read_uint(bytes, count))
    }

    fn word(&mut self, count: usize, name: &'static str, words: &[(u64, &'static str)]) -> Option<u64> {
        let word = |number| words.iter().find(|(value, _)| *value == number).map(|(_, word)| *word);
        self.number(count, name, |number| word(number).map_or(Meaning::Unknown(number), Meaning::Word))
    }

    fn counted(&mut self, name: &'static str) -> Option<()> {
        let count = self.rest.first()?;
        let printable = |bytes: &&[u8]| bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        let text = |bytes: &'a [u8]| {
            let text = bytes.get(1..).filter(printable).and_then(|bytes| str::from_utf8(bytes).ok());
            text.map_or(Meaning::Opaque, Meaning::Text)
        };
        self.take(1 + usize::from(*count), name, text).map(drop)
    }

    fn left_over(&mut self, name: &'static str) {
        if !self.rest.is_empty() {
            let all = self.rest.len();
            let _ = self.take(all, name, |_| Meaning::Opaque);
        }
    }
}
