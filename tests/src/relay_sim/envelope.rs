//! What the model clients put into envelopes: which message it is, from whom to whom, and bytes that belong to it.
//!
//! Owns: these bytes and those of receipts. Must not know frames.
//!
//! ```text
//!   envelope:  message 4, sender 1, recipient 1, recipient's uid 8, filling
//!   receipt:   message 4, which acknowledgement of it 4, 0xA5 x 24
//! ```

use std::sync::OnceLock;

use e2e_protocol::ids::{Receipt, Uid};
use e2e_protocol::limits::ENVELOPE_BYTES_MAX;

use super::message::Message;
use super::{MessageIndex, Who};

const HEAD_BYTES: usize = 14;
/// Fillings: a message's begins at its index, modulo this.
const FILLINGS: usize = 251;

pub(super) const ENVELOPE_BYTES_MIN: usize = HEAD_BYTES + 1;

/// Bytes in no short pattern.
fn filling() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut state = 0x9E37_79B9_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..ENVELOPE_BYTES_MAX + FILLINGS).map(next).collect()
    })
}

fn head(index: MessageIndex, from: Who, to: Who, to_uid: Uid) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
    head[4] = u8::try_from(from).unwrap_or(u8::MAX);
    head[5] = u8::try_from(to).unwrap_or(u8::MAX);
    head[6..].copy_from_slice(&to_uid.0.to_be_bytes());
    head
}

/// Writes a message's envelope into `out`.
pub(super) fn write(out: &mut Vec<u8>, index: MessageIndex, message: &Message) {
    out.clear();
    out.extend_from_slice(&head(index, message.from, message.to, message.to_uid));
    let rest = message.envelope_bytes - HEAD_BYTES;
    out.extend_from_slice(&filling()[index % FILLINGS..][..rest]);
}

/// Which message an envelope says that it is.
pub(super) fn index(envelope: &[u8]) -> Option<MessageIndex> {
    envelope.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize)
}

/// Whether these are that message's very bytes.
pub(super) fn is_of(envelope: &[u8], index: MessageIndex, message: &Message) -> bool {
    envelope.len() == message.envelope_bytes
        && envelope[..HEAD_BYTES] == head(index, message.from, message.to, message.to_uid)
        && envelope[HEAD_BYTES..] == filling()[index % FILLINGS..][..envelope.len() - HEAD_BYTES]
}

/// The receipt in a message's acknowledgement number `nth`, from 0.
pub(super) fn receipt(index: MessageIndex, nth: u32) -> Receipt {
    let mut bytes = [0xA5; 32];
    bytes[..4].copy_from_slice(&u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
    bytes[4..8].copy_from_slice(&nth.to_be_bytes());
    Receipt(bytes)
}

/// Whether a receipt is of one of a message's first `acks` acknowledgements.
pub(super) fn is_receipt_of(given: Receipt, index: MessageIndex, acks: u32) -> bool {
    let nth = given.0[4..8].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    nth < acks && given == receipt(index, nth)
}
