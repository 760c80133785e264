//! The envelope: header, preamble, wrapped key, encrypted data and tag, as bytes.
//!
//! ```text
//!   0        1      2       4         20      24       28      32         34     36      40      56
//!   +--------+------+-------+---------+-------+--------+-------+----------+------+-------+-------+
//!   | vers 1 | type | zero  | sid     | epoch | number | prior | preamble | ek   | data  | iv    |
//!   | = 1    | 1    | 2     | 16      | 4     | 4      | 4     | len 2    | len 2| len 4 | 16    |
//!   +--------+------+-------+---------+-------+--------+-------+----------+------+-------+-------+
//!   | preamble (0, 544, 1041, 1297) | ek 0 or 256 | data 128 to 12288 | tag 32 |
//!   +-------------------------------+-------------+-------------------+--------+
//! ```
//!
//! This file owns the offsets and which lengths fit together. It must not know keys or sessions.
//! Source: spec/crypto.md, "Envelope".

use super::cbc::BLOCK_BYTES;
use super::codec::joined;
use super::init::{INIT_BYTES, INIT_WITH_OPK_BYTES};
use super::limits::{CHAIN_MESSAGES_MAX, DATA_BYTES_MAX};
use super::oaep::Wrapped;
use super::plaintext;
use super::step::STEP_BYTES;
use crate::ids::{MODULUS_BYTES, SessionId};
use crate::login::notation::HASH_BYTES;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 56;

/// Bytes of the tag.
pub const TAG_BYTES: usize = HASH_BYTES;

/// Bytes of the wrapped key, where there is one.
pub(crate) const EK_BYTES: usize = MODULUS_BYTES;

/// Bytes of an envelope beside its data, with the longest preamble.
pub const OVERHEAD_BYTES_MAX: usize = HEADER_BYTES + INIT_WITH_OPK_BYTES + EK_BYTES + TAG_BYTES;

const VERSION: u8 = 1;

pub(crate) type Iv = [u8; BLOCK_BYTES];
/// The tag with which every envelope ends.
pub(crate) type Tag = [u8; TAG_BYTES];

/// The types of an envelope: without a preamble, with an INIT, with a STEP.
pub(crate) const TYPE_BARE: u8 = 1;
pub(crate) const TYPE_INIT: u8 = 2;
pub(crate) const TYPE_STEP: u8 = 3;

/// Where a message stands: its session, epoch and number in the epoch's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) sid: SessionId,
    pub(crate) epoch: u32,
    pub(crate) number: u32,
}

/// An envelope's parts, borrowed from its bytes; all lengths fit.
pub(crate) struct Envelope<'a> {
    pub(crate) place: Place,
    pub(crate) iv: &'a Iv,
    /// The header's bytes as they came, for the tag.
    pub(crate) header: &'a [u8; HEADER_BYTES],
    /// How many messages the sender's chain before has.
    pub(crate) prior: u32,
    /// Empty, an INIT (only in epoch 0) or a STEP (only in others).
    pub(crate) preamble: &'a [u8],
    /// The message's wrapped key; none where the recipient is light.
    pub(crate) ek: Option<&'a Wrapped>,
    pub(crate) data: &'a [u8],
    pub(crate) tag: &'a Tag,
}

/// Not an envelope that this version takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Envelope<'a> {
    /// Step 1 of receiving: every bound that needs no key.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed)?;
        let fields = Header::parse(header)?;
        let (preamble, body) = body.split_at_checked(fields.preamble_bytes).ok_or(Malformed)?;
        let (ek, body) = match fields.wraps {
            true => {
                body.split_first_chunk::<EK_BYTES>().map(|(ek, body)| (Some(ek), body)).ok_or(Malformed)?
            }
            false => (None, body),
        };
        let (data, tag) = body.split_last_chunk::<TAG_BYTES>().ok_or(Malformed)?;
        if data.len() != fields.data_bytes {
            return Err(Malformed);
        }
        let Header { place, prior, iv, .. } = fields;
        Ok(Self { place, iv, header, prior, preamble, ek, data, tag })
    }
}

/// The header's fields that decide anything, checked.
struct Header<'a> {
    place: Place,
    prior: u32,
    iv: &'a Iv,
    preamble_bytes: usize,
    wraps: bool,
    data_bytes: usize,
}

impl<'a> Header<'a> {
    fn parse(header: &'a [u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let ([version, kind, zero @ ..], rest) = header.split_first_chunk::<4>().ok_or(Malformed)?;
        let (sid, rest) = rest.split_first_chunk().ok_or(Malformed)?;
        let (epoch, rest) = u32_field(rest)?;
        let (number, rest) = u32_field(rest)?;
        let (prior, rest) = u32_field(rest)?;
        let (preamble_bytes, rest) = u16_field(rest)?;
        let (ek_bytes, rest) = u16_field(rest)?;
        let (data_bytes, rest) = u32_field(rest)?;
        let iv = rest.try_into().map_err(|_| Malformed)?;

        let preamble_bytes = usize::from(preamble_bytes);
        let preamble_fits = match *kind {
            TYPE_BARE => preamble_bytes == 0,
            TYPE_INIT => epoch == 0 && matches!(preamble_bytes, INIT_BYTES | INIT_WITH_OPK_BYTES),
            TYPE_STEP => epoch != 0 && preamble_bytes == STEP_BYTES,
            _ => false,
        };
        let wraps = match usize::from(ek_bytes) {
            0 => false,
            EK_BYTES => true,
            _ => return Err(Malformed),
        };
        let data_bytes = usize::try_from(data_bytes).map_err(|_| Malformed)?;
        // An end's first chain has none before it.
        let prior_fits = if epoch < 2 { prior == 0 } else { prior <= CHAIN_MESSAGES_MAX };
        let place_fits = prior_fits && number < CHAIN_MESSAGES_MAX;
        let sizes_fit =
            preamble_fits && data_bytes <= DATA_BYTES_MAX && plaintext::is_padded_length(data_bytes);
        if *version != VERSION || *zero != [0, 0] || !place_fits || !sizes_fit {
            return Err(Malformed);
        }
        let place = Place { sid: SessionId(*sid), epoch, number };
        Ok(Self { place, prior, iv, preamble_bytes, wraps, data_bytes })
    }
}

/// Builds a header. The lengths are those of a message that this version makes.
pub(crate) fn header(
    place: Place,
    prior: u32,
    iv: &Iv,
    preamble: &[u8],
    ek: &[u8],
    data_bytes: usize,
) -> [u8; HEADER_BYTES] {
    debug_assert!(preamble.len() <= INIT_WITH_OPK_BYTES && ek.len() <= EK_BYTES);
    debug_assert!(data_bytes <= DATA_BYTES_MAX);
    let kind = match (preamble, place.epoch) {
        ([], _) => TYPE_BARE,
        (_, 0) => TYPE_INIT,
        _ => TYPE_STEP,
    };
    let fields: [&[u8]; 9] = [
        &[VERSION, kind, 0, 0],
        &place.sid.0,
        &place.epoch.to_be_bytes(),
        &place.number.to_be_bytes(),
        &prior.to_be_bytes(),
        #[allow(clippy::cast_possible_truncation)] // the assertion above
        &(preamble.len() as u16).to_be_bytes(),
        #[allow(clippy::cast_possible_truncation)] // the assertion above
        &(ek.len() as u16).to_be_bytes(),
        #[allow(clippy::cast_possible_truncation)] // the assertion above
        &(data_bytes as u32).to_be_bytes(),
        iv,
    ];
    joined(&fields)
}

fn u32_field(bytes: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let (field, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    Ok((u32::from_be_bytes(*field), rest))
}

fn u16_field(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (field, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    Ok((u16::from_be_bytes(*field), rest))
}
