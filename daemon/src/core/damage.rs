//! Stored messages that come back from the disk otherwise than they went there.
//!
//! Owns: telling whole frames from damaged ones, and what becomes of those: a mailbox goes on behind them, and a
//! sender who is there sends again. Must not know how the disk is read; a database that is damaged itself is the
//! store's business (docs/store.md, "Damage").

use e2e_protocol::ids::{Receipt, Sequence};
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::routed::routing_at;
use e2e_protocol::wire::transfer::ResultCode;
use e2e_protocol::wire::{Frame, FrameType, Header, Parsed, Routing};

use super::Core;
use super::send::Told;
use crate::reason::Reason;
use crate::store::Chunk;

/// What chunks still hold.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// Their whole frames, back to back.
    pub(super) bytes: Vec<u8>,
    /// The sequence of the last of them.
    pub(super) last: Option<Sequence>,
    /// How many are not.
    pub(super) lost: u32,
    /// Those of them whose routing fields are whole, and that are messages.
    senders: Vec<Routing>,
}

/// Checks each frame of a chunk: both its CRCs, and its sequence.
pub(super) fn whole_frames(chunk: &Chunk) -> Whole {
    let mut whole = Whole::default();
    let (mut at, mut count, mut previous) = (0, 0_u32, None);
    while let Some(rest) = chunk.bytes.get(at..).filter(|rest| !rest.is_empty()) {
        // Where a header is damaged, nobody knows where the next frame begins. Looking for one would find what a
        // sender put into an envelope.
        let Ok(Some(header)) = Header::parse(rest, BODY_BYTES_MAX) else { break };
        let frame = rest.get(..header.frame_bytes());
        let Some((frame, (frame_type, routing))) = frame.zip(routing_at(rest)) else { break };
        at += frame.len();
        count += 1;
        let in_order = previous < Some(routing.sequence) && routing.sequence <= chunk.last;
        previous = previous.max(Some(routing.sequence));
        let parsed = Frame::parse(frame, BODY_BYTES_MAX);
        if in_order && matches!(parsed, Ok(Parsed::Frame(Frame::Deliver(_) | Frame::Notice(..), _))) {
            whole.last = Some(routing.sequence);
            whole.bytes.extend_from_slice(frame);
        } else {
            whole.lost += 1;
            whole.senders.extend((frame_type == FrameType::Deliver).then_some(routing));
        }
    }
    whole.lost += chunk.messages.saturating_sub(count);
    whole
}

impl Core {
    /// The whole frames of what was read for a mailbox. Of the others the senders hear, as far as they can be known
    /// and are there: who gets no receipt sends again in any case.
    pub(super) fn check_backlog(&mut self, slot: u32, chunks: &[Chunk]) -> Whole {
        let mut all = Whole::default();
        for chunk in chunks {
            let whole = whole_frames(chunk);
            if whole.lost > 0 {
                let (reason, lost, first, last) =
                    (Reason::StoredDamaged, whole.lost, chunk.first.0, chunk.last.0);
                self.counters.count_all(reason, lost.into());
                log::error!("{reason}: {lost} messages of slot {slot} between sequences {first} and {last}");
            }
            if all.bytes.is_empty() {
                all.bytes = whole.bytes;
            } else {
                all.bytes.extend_from_slice(&whole.bytes);
            }
            all.last = all.last.max(whole.last);
            all.senders.extend(whole.senders);
        }
        let recipient = self.uid(slot);
        for Routing { peer, lane, number, .. } in std::mem::take(&mut all.senders) {
            self.tell(&Told { sender: peer, recipient, lane, number }, ResultCode::Uncertain, Receipt::ZERO);
        }
        all
    }
}
