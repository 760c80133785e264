//! WHO and PRESENCE, BLOCK and BLOCKED, REMOVE and REMOVED: what a user asks of names, others' and their own
//! (spec/wire.md, section 6).
//!
//! Owns: these bodies. Must not know who is online, nor what the signature is over (`crate::login`).

use super::cursor::{Reader, Writer};
use super::session::emit;
use super::{FrameType, NoRoom};
use crate::ids::{Name, Signature};
use crate::limits::{PRESENCE_COUNT_MAX, WHO_COUNT_MAX};

/// Whether a WHO asks once, or about changes too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Watch {
    /// Asks once.
    No = 0,
    /// Asks, and wants to hear of changes.
    Yes = 1,
    /// Asks, and wants to hear no more.
    NoMore = 2,
}

/// Names as they lie in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Names<'a>(&'a [u8]);

impl<'a> Names<'a> {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Name> + use<'a> {
        let mut reader = Reader(self.0);
        core::iter::from_fn(move || Name::parse(reader.counted()?).ok())
    }

    fn read(reader: &mut Reader<'a>, count: u8) -> Option<Self> {
        let bytes = reader.0;
        for _ in 0..count {
            Name::parse(reader.counted()?).ok()?;
        }
        bytes.get(..bytes.len() - reader.0.len()).map(Self)
    }
}

/// Whom a WHO is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// These, 1 to 64.
    Names(Watch, Names<'a>),
    /// Everybody, from this place on.
    Everybody {
        /// Zero, or `next` of the PRESENCE before.
        from: u32,
    },
}

/// WHO: who is online?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who<'a> {
    /// Echoed in the answer; not zero.
    pub request: u32,
    /// Whom it is about.
    pub about: About<'a>,
}

impl<'a> Who<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let watch = match reader.u8()? {
            0 => Watch::No,
            1 => Watch::Yes,
            2 => Watch::NoMore,
            _ => return None,
        };
        let count = reader.u8().filter(|count| *count <= WHO_COUNT_MAX)?;
        reader.zero(2)?;
        let about = match (count, reader.u32()?) {
            (0, from) if watch == Watch::No => About::Everybody { from },
            (1.., 0) => About::Names(watch, Names::read(&mut reader, count)?),
            _ => return None,
        };
        reader.end(Self { request, about })
    }

    /// Emits a question about `names` (1 to 64); returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short, or the count out of range.
    pub fn emit(out: &mut [u8], request: u32, watch: Watch, names: &[Name]) -> Result<usize, NoRoom> {
        let count = u8::try_from(names.len()).map_err(|_| NoRoom)?;
        if !(1..=WHO_COUNT_MAX).contains(&count) {
            return Err(NoRoom);
        }
        emit(out, FrameType::Who, |writer| {
            Self::write_head(writer, request, watch, count, 0);
            names.iter().for_each(|name| writer.counted(name.as_bytes()));
        })
    }

    /// Emits a question about everybody, from a place on; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit_everybody(out: &mut [u8], request: u32, from: u32) -> Result<usize, NoRoom> {
        emit(out, FrameType::Who, |writer| Self::write_head(writer, request, Watch::No, 0, from))
    }

    fn write_head(writer: &mut Writer<'_>, request: u32, watch: Watch, count: u8, from: u32) {
        writer.u32(request);
        writer.u8(watch as u8);
        writer.u8(count);
        writer.zero(2);
        writer.u32(from);
    }
}

/// Whether a name is there to be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Nobody has this name.
    Nobody = 0,
    /// No connection of it receives.
    Offline = 1,
    /// One does.
    Online = 2,
}

impl State {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Nobody,
            1 => Self::Offline,
            2 => Self::Online,
            _ => return None,
        })
    }
}

/// PRESENCE: the answer to a WHO, or a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence<'a> {
    /// The request's; zero: watched names changed.
    pub request: u32,
    /// Where to go on asking about everybody; zero: there is no more.
    pub next: u32,
    states: &'a [u8],
}

impl<'a> Presence<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let (request, next, count) = (reader.u32()?, reader.u32()?, reader.u8()?);
        reader.zero(3)?;
        let states = reader.0;
        for _ in 0..count {
            State::from_number(reader.u8()?)?;
            Name::parse(reader.counted()?).ok()?;
        }
        let fits = request != 0 || (count > 0 && next == 0);
        reader.end(fits.then_some(Self { request, next, states })?)
    }

    /// Each name with its state.
    pub fn iter(&self) -> impl Iterator<Item = (State, Name)> + use<'a> {
        let mut reader = Reader(self.states);
        core::iter::from_fn(move || {
            let state = State::from_number(reader.u8()?)?;
            Some((state, Name::parse(reader.counted()?).ok()?))
        })
    }

    /// Emits the frame with these states (up to 255); returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short, or there are more.
    pub fn emit(out: &mut [u8], request: u32, next: u32, states: &[(State, Name)]) -> Result<usize, NoRoom> {
        const _: () = assert!(PRESENCE_COUNT_MAX == u8::MAX as usize);
        let count = u8::try_from(states.len()).map_err(|_| NoRoom)?;
        emit(out, FrameType::Presence, |writer| {
            writer.u32(request);
            writer.u32(next);
            writer.u8(count);
            writer.zero(3);
            for (state, name) in states {
                writer.u8(*state as u8);
                writer.counted(name.as_bytes());
            }
        })
    }
}

fn flag(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// BLOCK: blocks a name, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Echoed in the answer; not zero.
    pub request: u32,
    /// Whether it is to be blocked.
    pub block: bool,
    /// Who.
    pub name: Name,
}

impl Block {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let block = flag(&mut reader)?;
        reader.zero(3)?;
        let name = Name::parse(reader.counted()?).ok()?;
        reader.end(Self { request, block, name })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Block, |writer| {
            writer.u32(self.request);
            writer.u8(u8::from(self.block));
            writer.zero(3);
            writer.counted(self.name.as_bytes());
        })
    }
}

/// BLOCKED: it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The request's; not zero.
    pub request: u32,
    /// As asked.
    pub block: bool,
}

impl Blocked {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let block = flag(&mut reader)?;
        reader.zero(3)?;
        reader.end(Self { request, block })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Blocked, |writer| {
            writer.u32(self.request);
            writer.u8(u8::from(self.block));
            writer.zero(3);
        })
    }
}

/// REMOVE: one's own name is to be nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remove<'a> {
    /// Echoed in the answer; not zero.
    pub request: u32,
    /// By the identity key.
    pub signature: &'a Signature,
}

impl<'a> Remove<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        let signature = reader.array()?;
        reader.end(Self { request, signature })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Remove, |writer| {
            writer.u32(self.request);
            writer.bytes(self.signature);
        })
    }
}

/// REMOVED: it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The request's; not zero.
    pub request: u32,
}

impl Removed {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let request = reader.u32().filter(|request| *request != 0)?;
        reader.end(Self { request })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Removed, |writer| writer.u32(self.request))
    }
}
