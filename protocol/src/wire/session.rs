//! HELLO, CHALLENGE, PROOF, WELCOME, ERROR, PING and PONG: the life of a connection
//! (spec/wire.md, sections 4, 7 and 8).
//!
//! Owns: these bodies. Must not know what a signature is over (`crate::login`) or which side may
//! send what when (the daemon's core, the client's engine).

use super::cursor::{Reader, Writer};
use super::header::seal;
use super::{Code, FrameType, NoRoom};
use crate::ids::{KeyId, Modulus, Name, Nonce, RelayId, Signature, Uid};
use crate::limits::{ENVELOPE_BYTES_MAX, ERROR_TEXT_BYTES_MAX, FRAME_BYTES_MAX, HEADER_BYTES};

/// Emits one frame: `fields` writes the body.
pub(super) fn emit(
    out: &mut [u8],
    frame_type: FrameType,
    fields: impl FnOnce(&mut Writer<'_>),
) -> Result<usize, NoRoom> {
    let mut writer = Writer::new(out.get_mut(HEADER_BYTES..).ok_or(NoRoom)?);
    fields(&mut writer);
    let body_bytes = writer.finish()?;
    seal(out, frame_type, 0, body_bytes)
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Log in with a name that is one's own.
    Login = 1,
    /// Claim a name.
    Register = 2,
}

impl Purpose {
    /// The purpose with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Login),
            2 => Some(Self::Register),
            _ => None,
        }
    }
}

/// HELLO: the first frame of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest session version that the client speaks.
    pub version_min: u16,
    /// Highest.
    pub version_max: u16,
    /// What the connection is for.
    pub purpose: Purpose,
}

impl Hello {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let (version_min, version_max) = (reader.u16()?, reader.u16()?);
        let purpose = Purpose::from_number(reader.u8()?)?;
        reader.zero(3)?;
        let in_order = version_min <= version_max;
        reader.end(in_order.then_some(Self { version_min, version_max, purpose })?)
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Hello, |writer| {
            writer.u16(self.version_min);
            writer.u16(self.version_max);
            writer.u8(self.purpose as u8);
            writer.zero(3);
        })
    }
}

/// Who may claim a name at this relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Registration {
    /// Anybody.
    #[default]
    Open = 0,
    /// Who proves to know a token.
    Token = 1,
    /// Nobody.
    Closed = 2,
}

impl Registration {
    fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Open),
            1 => Some(Self::Token),
            2 => Some(Self::Closed),
            _ => None,
        }
    }
}

/// CHALLENGE: the relay's answer to HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The session version of this connection.
    pub version: u16,
    /// Who may claim a name.
    pub registration: Registration,
    /// The relay's identity, to be pinned.
    pub relay_id: RelayId,
    /// Fresh and random.
    pub nonce: Nonce,
}

impl Challenge {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let version = reader.u16()?;
        let registration = Registration::from_number(reader.u8()?)?;
        reader.zero(1)?;
        let (relay_id, nonce) = (RelayId(*reader.array()?), Nonce(*reader.array()?));
        reader.end(Self { version, registration, relay_id, nonce })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Challenge, |writer| {
            writer.u16(self.version);
            writer.u8(self.registration as u8);
            writer.zero(1);
            writer.bytes(&self.relay_id.0);
            writer.bytes(&self.nonce.0);
        })
    }
}

/// How much a receiving connection takes before it acknowledges, counted in whole frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// DELIVER and NOTICE frames, at least 1.
    pub messages: u32,
    /// Their bytes, headers included, at least one frame's most.
    pub bytes: u32,
}

/// Whether a connection receives what its name's mailbox holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// It only sends.
    No,
    /// It receives, and takes over from one that does.
    TakeOver(Credit),
    /// It receives if no other connection does; WELCOME says whether.
    IfNobody(Credit),
}

impl Receive {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (number, messages, bytes) = (reader.u8()?, reader.u32()?, reader.u32()?);
        let enough = messages >= 1 && usize::try_from(bytes).is_ok_and(|bytes| bytes >= FRAME_BYTES_MAX);
        match number {
            0 if messages == 0 && bytes == 0 => Some(Self::No),
            1 if enough => Some(Self::TakeOver(Credit { messages, bytes })),
            2 if enough => Some(Self::IfNobody(Credit { messages, bytes })),
            _ => None,
        }
    }

    fn write(self, writer: &mut Writer<'_>) {
        let (number, credit) = match self {
            Self::No => (0, Credit { messages: 0, bytes: 0 }),
            Self::TakeOver(credit) => (1, credit),
            Self::IfNobody(credit) => (2, credit),
        };
        writer.u8(number);
        writer.u32(credit.messages);
        writer.u32(credit.bytes);
    }
}

/// PROOF: the client's answer to CHALLENGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// Whether this connection receives.
    pub receive: Receive,
    /// N(IK), 256 bytes. That it is a modulus has not been looked at.
    pub identity_key: &'a Modulus,
    /// RSA-PSS over the login transcript, 256 bytes.
    pub signature: &'a Signature,
    /// HMAC under the token over the same bytes, or zero.
    pub token_proof: &'a [u8; 32],
    /// Whose connection it is.
    pub name: Name,
}

impl<'a> Proof<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let receive = Receive::read(&mut reader)?;
        let (identity_key, signature, token_proof) = (reader.array()?, reader.array()?, reader.array()?);
        let name = Name::parse(reader.counted()?).ok()?;
        reader.end(Self { receive, identity_key, signature, token_proof, name })
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Proof, |writer| {
            self.receive.write(writer);
            writer.bytes(self.identity_key);
            writer.bytes(self.signature);
            writer.bytes(self.token_proof);
            writer.counted(self.name.as_bytes());
        })
    }
}

/// WELCOME: the client is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// One's own uid.
    pub uid: Uid,
    /// The relay's clock, milliseconds.
    pub time_ms: u64,
    /// Messages and notices waiting in the mailbox.
    pub queued: u64,
    /// Which signed prekey the relay holds; zero for none.
    pub signed_prekey: KeyId,
    /// One-time prekeys not yet handed out.
    pub prekeys_left: u16,
    /// Whether this connection receives.
    pub receiving: bool,
    /// Seconds, see spec/wire.md section 8.
    pub keepalive_seconds: u16,
    /// How many of a lane's numbers the relay remembers.
    pub in_flight: u16,
    /// Longest time to live, seconds.
    pub ttl_seconds_max: u32,
}

impl Welcome {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let (uid, time_ms, queued) = (Uid(reader.u64()?), reader.u64()?, reader.u64()?);
        let (signed_prekey, prekeys_left) = (KeyId(*reader.array()?), reader.u16()?);
        let receiving = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        reader.zero(1)?;
        let (keepalive_seconds, in_flight) = (reader.u16()?, reader.u16()?);
        let envelope_bytes_max = usize::try_from(reader.u32()?).ok()?;
        let ttl_seconds_max = reader.u32()?;
        let fits = envelope_bytes_max == ENVELOPE_BYTES_MAX && keepalive_seconds != 0;
        reader.end(fits.then_some(Self {
            uid,
            time_ms,
            queued,
            signed_prekey,
            prekeys_left,
            receiving,
            keepalive_seconds,
            in_flight,
            ttl_seconds_max,
        })?)
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        emit(out, FrameType::Welcome, |writer| {
            writer.u64(self.uid.0);
            writer.u64(self.time_ms);
            writer.u64(self.queued);
            writer.bytes(&self.signed_prekey.0);
            writer.u16(self.prekeys_left);
            writer.u8(u8::from(self.receiving));
            writer.zero(1);
            writer.u16(self.keepalive_seconds);
            writer.u16(self.in_flight);
            writer.u32(u32::try_from(ENVELOPE_BYTES_MAX).unwrap_or(u32::MAX));
            writer.u32(self.ttl_seconds_max);
        })
    }
}

/// ERROR: the relay refuses a request or ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorFrame<'a> {
    /// Why.
    pub code: Code,
    /// Whether this is the connection's last frame.
    pub closes: bool,
    /// The request that it answers, or zero.
    pub request: u32,
    /// Seconds to wait before trying again, zero where nothing is said.
    pub retry_after_seconds: u32,
    /// Printable ASCII for a person, up to 120 bytes.
    pub text: &'a str,
}

impl<'a> ErrorFrame<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let code = Code(reader.u16()?);
        let closes = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        reader.zero(1)?;
        let (request, retry_after_seconds) = (reader.u32()?, reader.u32()?);
        let text = core::str::from_utf8(reader.counted()?).ok()?;
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let fits = printable && text.len() <= ERROR_TEXT_BYTES_MAX;
        reader.end(fits.then_some(Self { code, closes, request, retry_after_seconds, text })?)
    }

    /// Emits the frame; returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let text = self.text.as_bytes();
        emit(out, FrameType::Error, |writer| {
            writer.u16(self.code.0);
            writer.u8(u8::from(self.closes));
            writer.zero(1);
            writer.u32(self.request);
            writer.u32(self.retry_after_seconds);
            writer.counted(text.get(..ERROR_TEXT_BYTES_MAX).unwrap_or(text));
        })
    }
}

/// Emits PING or PONG; returns its length, 28 bytes.
///
/// # Errors
/// [`NoRoom`] if `out` is too short.
pub fn emit_ping(out: &mut [u8], frame_type: FrameType, opaque: [u8; 8]) -> Result<usize, NoRoom> {
    emit(out, frame_type, |writer| writer.bytes(&opaque))
}

pub(super) fn parse_ping(body: &[u8]) -> Option<[u8; 8]> {
    let mut reader = Reader(body);
    let opaque = *reader.array()?;
    reader.end(opaque)
}
