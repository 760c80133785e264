//! Emitting any parsed frame again: whatever is accepted must be what is emitted for its fields.
//!
//! Shared with the fuzz targets (`tests/src/fuzz/`).

use e2e_protocol::wire::people::{About, Presence, Who};
use e2e_protocol::wire::query::States;
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::emit_ping;
use e2e_protocol::wire::transfer::{Ack, OpenResult, ResultCode, ResultKind};
use e2e_protocol::wire::{Frame, FrameType, NoRoom, RoutedMut};

/// Emits a parsed frame again. `None` if there is nothing that emits it: a skipped frame, and a
/// REFUSED with a code that this version doesn't know.
pub(crate) fn emit(frame: &Frame<'_>, out: &mut [u8]) -> Option<Result<usize, NoRoom>> {
    Some(match frame {
        Frame::Hello(hello) => hello.emit(out),
        Frame::Challenge(challenge) => challenge.emit(out),
        Frame::Proof(proof) => proof.emit(out),
        Frame::Welcome(welcome) => welcome.emit(out),
        Frame::Error(error) => error.emit(out),
        Frame::Ping(opaque) => emit_ping(out, FrameType::Ping, *opaque),
        Frame::Pong(opaque) => emit_ping(out, FrameType::Pong, *opaque),
        Frame::Send(send) => emit_routed(out, FrameType::Send, &send.routing, send.envelope()),
        Frame::Deliver(deliver) => {
            let emitted = emit_routed(out, FrameType::Deliver, &deliver.routing, deliver.envelope());
            mark(emitted, deliver.redelivered, out)
        }
        Frame::Notice(notice, routed) => mark(notice.emit(out), routed.redelivered, out),
        Frame::Ack(ack) => Ack::emit(out, ack.first, &ack.receipts.iter().collect::<Vec<_>>()),
        Frame::Result(outcome) => {
            let reason = match (outcome.code, outcome.reason.known()) {
                (ResultCode::Refused, None) => return None,
                (_, reason) => reason,
            };
            let retry_after_seconds = outcome.retry_after_seconds;
            let kind = ResultKind { lane: outcome.lane, code: outcome.code, reason, retry_after_seconds };
            let mut open = OpenResult::new(kind, outcome.first);
            for number in outcome.numbers().skip(1) {
                assert!(open.extend(&kind, number));
            }
            let frame_bytes = OpenResult::HEAD_BYTES + outcome.receipts.len() * 32;
            match out.get_mut(..frame_bytes) {
                None => Err(NoRoom),
                Some(room) => {
                    let places = room[OpenResult::HEAD_BYTES..].chunks_mut(32);
                    places.zip(outcome.receipts.iter()).for_each(|(to, from)| to.copy_from_slice(&from.0));
                    open.close(room)
                }
            }
        }
        Frame::Lookup(lookup) => lookup.emit(out),
        Frame::Entry(entry) => entry.emit(out),
        Frame::Publish(publish) => publish.emit(out),
        Frame::Published(published) => published.emit(out),
        Frame::Roll(roll) => roll.emit(out),
        Frame::Rolled(rolled) => rolled.emit(out),
        Frame::Rolls(rolls) => rolls.emit(out),
        Frame::Query(query) => query.emit(out),
        Frame::States(states) => {
            let listed: Vec<_> = states.iter().collect();
            let first = states.query.first.0;
            States::emit(out, &states.query, |number| listed[usize::try_from(number.0 - first).unwrap()].1)
        }
        Frame::Who(who) => match who.about {
            About::Names(watch, names) => {
                Who::emit(out, who.request, watch, &names.iter().collect::<Vec<_>>())
            }
            About::Everybody { from } => Who::emit_everybody(out, who.request, from),
        },
        Frame::Presence(presence) => {
            Presence::emit(out, presence.request, presence.next, &presence.iter().collect::<Vec<_>>())
        }
        Frame::Block(block) => block.emit(out),
        Frame::Blocked(blocked) => blocked.emit(out),
        Frame::Remove(remove) => remove.emit(out),
        Frame::Removed(removed) => removed.emit(out),
        Frame::Skipped => return None,
    })
}

fn mark(emitted: Result<usize, NoRoom>, redelivered: bool, out: &mut [u8]) -> Result<usize, NoRoom> {
    if redelivered && emitted.is_ok() {
        RoutedMut::new(out).unwrap().mark_redelivered();
    }
    emitted
}
