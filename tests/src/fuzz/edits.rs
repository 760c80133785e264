//! Frames of the fuzzer's making: a header that fits whatever body there is, and bytes that are changed.
//!
//! Owns: CRCs, which no fuzzer finds. Must not know what the frames are for.

use e2e_protocol::limits::{HEADER_BYTES, ROUTING_BYTES};
use e2e_protocol::wire::header::ROUTED;
use e2e_protocol::wire::{MAGIC, VERSION};

use super::input::Input;

/// A frame with this type, these flags and this body, whose CRCs fit.
pub(super) fn sealed(frame_type: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    frame.extend_from_slice(body);
    frame[5] = frame_type;
    frame[6..8].copy_from_slice(&flags.to_be_bytes());
    reseal(&mut frame);
    frame
}

/// Makes magic, version, length and CRCs fit type, flags and body.
pub(super) fn reseal(frame: &mut [u8]) {
    let Some(body_bytes) = frame.len().checked_sub(HEADER_BYTES) else { return };
    let flags = u16::from_be_bytes([frame[6], frame[7]]);
    let routing_bytes = if flags & ROUTED == 0 { 0 } else { ROUTING_BYTES };
    let split = (HEADER_BYTES + routing_bytes).min(frame.len());
    let length = u32::try_from(body_bytes).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&MAGIC);
    frame[4] = VERSION;
    frame[8..12].copy_from_slice(&length.to_be_bytes());
    let body_crc = crc32fast::hash(&frame[split..]);
    frame[12..16].copy_from_slice(&body_crc.to_be_bytes());
    let covered = [&frame[..16], &frame[HEADER_BYTES..split]].concat();
    let header_crc = crc32fast::hash(&covered);
    frame[16..20].copy_from_slice(&header_crc.to_be_bytes());
}

/// Changes up to seven bytes, or cuts some off, or appends some: as the input says.
pub(super) fn edit(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..input.index(8) {
        let at = usize::from(input.u16());
        let value = input.u8();
        let count = bytes.len();
        match at >> 13 {
            0..6 if count > 0 => bytes[at % count] ^= value.max(1),
            6 => bytes.truncate(count - usize::from(value).min(count)),
            _ => bytes.extend(std::iter::repeat_n(value, at % 64)),
        }
    }
}
