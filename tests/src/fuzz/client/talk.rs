//! What a relay may say to a client, good and bad.
//!
//! Owns: how an input becomes frames. Must not know what has to hold.

use e2e_protocol::e2e::Profile;
use e2e_protocol::ids::{KeyId, Lane, Nonce, Number, Receipt, RelayId, Sequence, Uid};
use e2e_protocol::limits::{FRAME_BYTES_MAX, TTL_SECONDS_MAX};
use e2e_protocol::wire::directory::Published;
use e2e_protocol::wire::header::ROUTED;
use e2e_protocol::wire::roll::Rolled;
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::{Challenge, ErrorFrame, Registration, Welcome, emit_ping};
use e2e_protocol::wire::transfer::{OpenResult, ResultCode, ResultKind};
use e2e_protocol::wire::{ErrorCode, FrameType, NoRoom, Notice, Routing};

use super::super::conversation::{ALICE, BOB, UIDS, entry, homes};
use super::super::edits::{edit, sealed};
use super::super::input::Input;
use super::{Client, HOME, RELAY_ID};

const CODES: [ResultCode; 6] = [
    ResultCode::Collected,
    ResultCode::Stored,
    ResultCode::Refused,
    ResultCode::Uncertain,
    ResultCode::Expired,
    ResultCode::Done,
];

impl Client {
    /// A frame, if this act is one.
    pub(super) fn say(&mut self, act: u8, input: &mut Input<'_>) -> Option<Vec<u8>> {
        Some(match act % 24 {
            0 => challenge(input.pick(&[RELAY_ID, RelayId([8; 32])]), u16::from(input.u8() % 3)),
            1 => {
                let (receiving, left) = (input.index(2) == 0, u16::from(input.u8()));
                self.welcome(receiving, left)
            }
            2 => {
                let kind = input.pick(&[FrameType::Ping, FrameType::Pong]);
                made(|out| emit_ping(out, kind, [3; 8]))
            }
            3..=6 => self.deliver(input),
            7 => self.notice(input),
            8..=10 => self.result(input),
            11..=13 => {
                let (who, request) = (input.pick(&[ALICE, 2]), self.request(input));
                let profile = input.pick(&[Profile::Strict, Profile::Light]);
                entry(who, profile, input.index(2) == 0, request)
            }
            14 | 15 => self.error(input),
            16 => {
                let (request, left) = (self.request(input), u16::from(input.u8()));
                let signed_prekey = KeyId([input.u8(); 8]);
                made(|out| Published { request, signed_prekey, prekeys_left: left }.emit(out))
            }
            17 => {
                let (request, uid) = (self.request(input), Uid(input.u8().into()));
                made(|out| Rolled { request, uid }.emit(out))
            }
            // Of any type, with any body.
            18 | 19 => {
                let number = input.u8();
                let routed = FrameType::from_number(number).is_some_and(FrameType::is_routed);
                sealed(number, if routed { ROUTED } else { 0 }, input.counted())
            }
            _ => return None,
        })
    }

    fn request(&self, input: &mut Input<'_>) -> u32 {
        match (input.u8(), self.requests.last()) {
            (other @ 0xF0.., _) => u32::from(other),
            (back, Some(last)) if back < 0xC0 => *last,
            (back, _) => self.requests.get(usize::from(back & 7)).copied().unwrap_or(1),
        }
    }

    pub(super) fn welcome(&self, as_asked: bool, prekeys_left: u16) -> Vec<u8> {
        let welcome = Welcome {
            uid: UIDS[BOB],
            time_ms: self.now_ms,
            queued: 3,
            signed_prekey: KeyId::ZERO,
            prekeys_left,
            receiving: self.receives == as_asked,
            keepalive_seconds: 60,
            in_flight: 64,
            ttl_seconds_max: TTL_SECONDS_MAX,
        };
        made(|out| welcome.emit(out))
    }

    fn routing(&mut self, input: &mut Input<'_>) -> Routing {
        self.last_sequence = match input.u8() {
            more @ 0..0xE0 => self.last_sequence.wrapping_add(u64::from(more % 3) + 1),
            0xE0..0xF0 => self.last_sequence,
            _ => input.u64(),
        };
        let peer = match input.u8() {
            0..0xC0 => UIDS[ALICE],
            0xC0..0xE0 => UIDS[2],
            other => Uid(other.into()),
        };
        let (lane, number) = self.id(input);
        let sequence = Sequence(self.last_sequence);
        Routing { peer, lane, number, sequence, time_ms: self.now_ms, ttl_seconds: TTL_SECONDS_MAX }
    }

    /// Of a message that it sent, or any.
    fn id(&self, input: &mut Input<'_>) -> (Lane, Number) {
        let back = input.index(8);
        let sent = self.sent.len().checked_sub(1 + back).map(|at| self.sent[at]);
        sent.unwrap_or_else(|| (Lane(1), Number(u64::from(input.u8()).max(1))))
    }

    fn deliver(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let routing = self.routing(input);
        let genuine = &homes()[HOME].envelopes;
        let envelope = match input.u8() {
            0xF0.. => input.counted().to_vec(),
            which => {
                let mut envelope = genuine[usize::from(which) % genuine.len()].clone();
                if which >= 0xC0 {
                    edit(&mut envelope, input);
                }
                envelope
            }
        };
        made(|out| emit_routed(out, FrameType::Deliver, &routing, &envelope))
    }

    fn notice(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let routing = self.routing(input);
        let (code, receipt) =
            (input.pick(&[ResultCode::Collected, ResultCode::Expired]), Receipt([input.u8(); 32]));
        let receipt = if code == ResultCode::Expired { Receipt::ZERO } else { receipt };
        made(|out| Notice { routing, code, receipt }.emit(out))
    }

    fn result(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let ((lane, first), code) = (self.id(input), input.pick(&CODES));
        let reason = (code == ResultCode::Refused).then(|| input.pick(&ErrorCode::ALL));
        let retry_after_seconds = if reason.is_some() { input.u8().into() } else { 0 };
        let count = 1 + input.index(4);
        let kind = ResultKind { lane, code, reason, retry_after_seconds };
        let mut open = OpenResult::new(kind, first);
        let numbers = (first.0..).skip(1).take(count - 1);
        let more = numbers.take_while(|number| open.extend(&kind, Number(*number))).count();
        let mut frame = vec![input.u8() & 1; OpenResult::HEAD_BYTES];
        if code == ResultCode::Collected {
            frame.resize(OpenResult::HEAD_BYTES + 32 * (1 + more), frame[0]);
        }
        if open.close(&mut frame).is_ok() { frame } else { Vec::new() }
    }

    fn error(&self, input: &mut Input<'_>) -> Vec<u8> {
        let code = input.pick(&ErrorCode::ALL).into();
        let closes = input.u8() >= 0xF0;
        let request = if closes { 0 } else { self.request(input) };
        let retry_after_seconds = u32::from(input.u8());
        made(|out| ErrorFrame { code, closes, request, retry_after_seconds, text: "no" }.emit(out))
    }
}

fn made(emit: impl FnOnce(&mut [u8]) -> Result<usize, NoRoom>) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_BYTES_MAX];
    let count = emit(&mut bytes).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

pub(super) fn challenge(relay_id: RelayId, version: u16) -> Vec<u8> {
    let nonce = Nonce([9; 32]);
    made(|out| Challenge { version, registration: Registration::Open, relay_id, nonce }.emit(out))
}
