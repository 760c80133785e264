//! Random frames for the property tests: [`Material`] is emitted as a frame and compared with what
//! was parsed of it.

use e2e_protocol::ids::{Fingerprint, KeyId, Lane, Name, Nonce, Number, Receipt, RelayId, Sequence, Uid};
use e2e_protocol::limits::{ENVELOPE_BYTES_MAX, FRAME_BYTES_MAX, RANGE_COUNT_MAX, TTL_SECONDS_MAX};
use e2e_protocol::wire::directory::{
    Batch, BundleParts, Entry, Lookup, OneTimePrekey, Publish, Published, SignedPrekey, Want, Whose,
};
use e2e_protocol::wire::people::{About, Block, Blocked, Presence, Remove, Removed, State, Watch, Who};
use e2e_protocol::wire::query::{IdState, Query, States};
use e2e_protocol::wire::roll::{Roll, RollOver, Rolled, Rolls};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::{
    Challenge, Credit, ErrorFrame, Hello, Proof, Purpose, Receive, Registration, Welcome,
};
use e2e_protocol::wire::transfer::{Ack, OpenResult, ResultCode, ResultKind};
use e2e_protocol::wire::{Code, ErrorCode, Frame, FrameType, NoRoom, Notice, Routing};
use proptest::prelude::*;

use super::emit;

const RESULT_CODES: [ResultCode; 7] = [
    ResultCode::Collected,
    ResultCode::Stored,
    ResultCode::Refused,
    ResultCode::Uncertain,
    ResultCode::Expired,
    ResultCode::Done,
    ResultCode::Accepted,
];

/// What random frames are made of: a frame uses of it what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Material {
    pub(crate) frame_type: FrameType,
    /// Whatever integers the frame has.
    pub(crate) integers: [u64; 4],
    /// Picks among values and parts.
    choice: u8,
    name: Name,
    text: String,
    /// How many receipts, prekeys or numbers.
    count: u16,
    /// Keys, signatures and envelope; long enough for each of them.
    blob: Vec<u8>,
    envelope_bytes: usize,
}

pub(crate) fn material() -> impl Strategy<Value = Material> {
    let integer = || prop_oneof![any::<u64>(), Just(0), Just(1), Just(u64::MAX)];
    let count = prop_oneof![4 => 1..=16_u16, 1 => Just(RANGE_COUNT_MAX), 1 => 1..=RANGE_COUNT_MAX];
    let envelope_bytes = prop_oneof![4 => 1..=300_usize, 1 => Just(ENVELOPE_BYTES_MAX)];
    let parts = (
        prop::sample::select(FrameType::ALL.to_vec()),
        [integer(), integer(), integer(), integer()],
        any::<u8>(),
        "[a-z0-9][a-z0-9._-]{0,31}",
        "[ -~]{0,120}",
        count,
        any::<u64>(),
        envelope_bytes,
    );
    parts.prop_map(|(frame_type, integers, choice, name, text, count, seed, envelope_bytes)| Material {
        frame_type,
        integers,
        choice,
        name: name.parse().unwrap(),
        text,
        count,
        blob: noise(seed, ENVELOPE_BYTES_MAX),
        envelope_bytes,
    })
}

/// Random bytes by xorshift: cheaper than asking proptest for each of them.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    (0..count.div_ceil(8)).flat_map(|_| next()).take(count).collect()
}

#[allow(clippy::cast_possible_truncation)] // random values are cut to the field's size
impl Material {
    /// The same material as a SEND.
    pub(crate) fn as_send(&self) -> Self {
        Self { frame_type: FrameType::Send, ..self.clone() }
    }

    fn array<const N: usize>(&self, at: usize) -> &[u8; N] {
        self.blob[at..].first_chunk().unwrap()
    }

    fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[usize::from(self.choice) % from.len()]
    }

    fn receipts(&self) -> Vec<Receipt> {
        self.blob.as_chunks().0.iter().take(usize::from(self.count)).map(|bytes| Receipt(*bytes)).collect()
    }

    pub(crate) fn envelope(&self) -> &[u8] {
        &self.blob[..self.envelope_bytes]
    }

    pub(crate) fn routing(&self) -> Routing {
        let [peer, lane, number, other] = self.integers;
        let from_client = self.frame_type == FrameType::Send;
        let ttl = other as u32 % TTL_SECONDS_MAX;
        Routing {
            peer: Uid(peer),
            lane: Lane(lane),
            number: Number(number.max(1)),
            sequence: Sequence(if from_client { 0 } else { other }),
            time_ms: if from_client { 0 } else { other.rotate_left(13) },
            ttl_seconds: if from_client { ttl } else { ttl + 1 },
        }
    }

    fn notice(&self) -> Notice {
        let code = self.pick(&[ResultCode::Collected, ResultCode::Expired]);
        let receipt = if code == ResultCode::Expired { Receipt::ZERO } else { Receipt(*self.array(0)) };
        Notice { routing: self.routing(), code, receipt }
    }

    pub(crate) fn result_kind(&self) -> ResultKind {
        let code = self.pick(&RESULT_CODES);
        let refused = code == ResultCode::Refused;
        ResultKind {
            lane: Lane(self.integers[0]),
            code,
            reason: refused.then(|| self.pick(&ErrorCode::ALL)),
            retry_after_seconds: if refused { self.integers[1] as u32 } else { 0 },
        }
    }

    /// The first number of a range that ends before numbers do.
    pub(crate) fn first_number(&self) -> Number {
        Number(self.integers[2].clamp(1, u64::MAX - u64::from(self.count) + 1))
    }

    fn request(&self) -> u32 {
        (self.integers[0] as u32).max(1)
    }

    fn query(&self) -> Query {
        let count = (self.count - 1) % 64 + 1;
        let first = Number(self.integers[2].clamp(1, u64::MAX - u64::from(count) + 1));
        Query { request: self.request(), lane: Lane(self.integers[3]), first, count }
    }

    fn id_state(&self, number: Number) -> IdState {
        IdState::from_number(self.blob[number.0 as usize % 64] % 5).unwrap()
    }

    fn watch(&self) -> Watch {
        self.pick(&[Watch::No, Watch::Yes, Watch::NoMore])
    }

    /// Names that differ in length, 0 to 64 of them.
    fn who_names(&self) -> Vec<Name> {
        let text = self.name.to_string();
        (0..usize::from(self.count % 65)).map(|i| text[..1 + i % text.len()].parse().unwrap()).collect()
    }

    fn presences(&self) -> Vec<(State, Name)> {
        let states = [State::Nobody, State::Offline, State::Online];
        let names = self.who_names().into_iter().zip(&self.blob);
        names.map(|(name, byte)| (states[usize::from(*byte) % 3], name)).collect()
    }

    fn signed_prekey(&self) -> SignedPrekey<'_> {
        SignedPrekey {
            modulus: self.array(256),
            made_ms: self.integers[3],
            profile: self.choice,
            signature: self.array(512),
        }
    }

    fn batch_count(&self) -> usize {
        usize::from((self.count - 1) % 16 + 1)
    }

    fn one_time(&self) -> OneTimePrekey<'_> {
        let hashes = self.blob[1280..].as_chunks().0;
        OneTimePrekey {
            signature: self.array(768),
            modulus: self.array(1024),
            hashes: &hashes[..self.batch_count()],
        }
    }

    /// The frame, where its fields can be stated without its bytes.
    fn frame(&self) -> Option<Frame<'_>> {
        let [a, b, c, d] = self.integers;
        let request = self.request();
        Some(match self.frame_type {
            FrameType::Hello => Frame::Hello(Hello {
                version_min: (a as u16).min(b as u16),
                version_max: (a as u16).max(b as u16),
                purpose: self.pick(&[Purpose::Login, Purpose::Register]),
            }),
            FrameType::Challenge => Frame::Challenge(Challenge {
                version: a as u16,
                registration: self.pick(&[Registration::Open, Registration::Token, Registration::Closed]),
                relay_id: RelayId(*self.array(0)),
                nonce: Nonce(*self.array(32)),
            }),
            FrameType::Proof => {
                let bytes = (b as u32).max(u32::try_from(FRAME_BYTES_MAX).unwrap());
                let credit = Credit { messages: (a as u32).max(1), bytes };
                let values = [Receive::No, Receive::TakeOver(credit), Receive::IfNobody(credit)];
                Frame::Proof(Proof {
                    receive: self.pick(&values),
                    identity_key: self.array(0),
                    signature: self.array(256),
                    token_proof: self.array(512),
                    name: self.name,
                })
            }
            FrameType::Welcome => Frame::Welcome(Welcome {
                uid: Uid(a),
                time_ms: b,
                queued: c,
                signed_prekey: KeyId(*self.array(0)),
                prekeys_left: d as u16,
                receiving: self.choice.is_multiple_of(2),
                keepalive_seconds: (d as u16).max(1),
                in_flight: a as u16,
                ttl_seconds_max: b as u32,
            }),
            FrameType::Error => Frame::Error(ErrorFrame {
                code: Code(a as u16),
                closes: self.choice.is_multiple_of(2),
                request: b as u32,
                retry_after_seconds: c as u32,
                text: &self.text,
            }),
            FrameType::Ping => Frame::Ping(a.to_be_bytes()),
            FrameType::Pong => Frame::Pong(a.to_be_bytes()),
            FrameType::Lookup => {
                let by_name = Whose::Name(self.name);
                let whose = if b == 0 { by_name } else { self.pick(&[by_name, Whose::Uid(Uid(b))]) };
                let want = [Want::Address, Want::Bundle, Want::OneTime, Want::RollOvers]
                    [usize::from(self.choice / 2 % 4)];
                Frame::Lookup(Lookup { request, want, whose })
            }
            FrameType::Entry => {
                let bundle = |one_time| BundleParts {
                    identity_key: self.array(0),
                    signed_prekey: self.signed_prekey(),
                    one_time,
                };
                let bundle = self.pick(&[None, Some(bundle(None)), Some(bundle(Some(self.one_time())))]);
                Frame::Entry(Entry {
                    request,
                    uid: Uid(b),
                    fingerprint: Fingerprint(*self.array(32)),
                    prekeys_left: if bundle.is_none() { 0 } else { c as u16 },
                    name: self.name,
                    bundle,
                })
            }
            FrameType::Publish => {
                let moduli = &self.blob[1024..].as_chunks().0[..self.batch_count()];
                let signed_prekey = KeyId(*self.array(0));
                let batch = Batch { signed_prekey, signature: self.array(768), moduli };
                let prekey = self.signed_prekey();
                let (signed_prekey, batch) =
                    self.pick(&[(Some(prekey), None), (None, Some(batch)), (Some(prekey), Some(batch))]);
                Frame::Publish(Publish { request, signed_prekey, batch })
            }
            FrameType::Published => Frame::Published(Published {
                request,
                signed_prekey: KeyId(*self.array(0)),
                prekeys_left: b as u16,
            }),
            FrameType::Roll => Frame::Roll(Roll {
                request,
                roll_over: RollOver {
                    time_ms: b,
                    identity_key: self.array(0),
                    former_signature: self.array(256),
                    signature: self.array(512),
                },
            }),
            FrameType::Rolled => Frame::Rolled(Rolled { request, uid: Uid(b) }),
            FrameType::Rolls => {
                let roll_overs = &self.blob[256..].as_chunks().0[..usize::from(self.count % 9)];
                Frame::Rolls(Rolls { request, oldest: self.array(0), roll_overs })
            }
            FrameType::Query => Frame::Query(self.query()),
            FrameType::Block => {
                Frame::Block(Block { request, block: self.choice.is_multiple_of(2), name: self.name })
            }
            FrameType::Blocked => Frame::Blocked(Blocked { request, block: self.choice.is_multiple_of(2) }),
            FrameType::Remove => Frame::Remove(Remove { request, signature: self.array(0) }),
            FrameType::Removed => Frame::Removed(Removed { request }),
            FrameType::Send
            | FrameType::Deliver
            | FrameType::Notice
            | FrameType::Ack
            | FrameType::Result
            | FrameType::States
            | FrameType::Who
            | FrameType::Presence => return None,
        })
    }

    pub(crate) fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        if let Some(frame) = self.frame() {
            return emit(&frame, out).unwrap();
        }
        match self.frame_type {
            FrameType::Notice => self.notice().emit(out),
            FrameType::Ack => Ack::emit(out, Sequence(self.integers[0]), &self.receipts()),
            FrameType::Result => {
                let kind = self.result_kind();
                let mut open = OpenResult::new(kind, self.first_number());
                for index in 1..self.count {
                    assert!(open.extend(&kind, Number(self.first_number().0 + u64::from(index))));
                }
                let receipts = if kind.code == ResultCode::Collected { self.receipts() } else { Vec::new() };
                let frame_bytes = OpenResult::HEAD_BYTES + receipts.len() * 32;
                let frame = out.get_mut(..frame_bytes).ok_or(NoRoom)?;
                let places = frame[OpenResult::HEAD_BYTES..].chunks_mut(32);
                places.zip(&receipts).for_each(|(to, from)| to.copy_from_slice(&from.0));
                open.close(frame)
            }
            FrameType::States => States::emit(out, &self.query(), |number| self.id_state(number)),
            FrameType::Who => match self.who_names() {
                names if names.is_empty() => {
                    Who::emit_everybody(out, self.request(), self.integers[1] as u32)
                }
                names => Who::emit(out, self.request(), self.watch(), &names),
            },
            FrameType::Presence => {
                let next = self.integers[1] as u32;
                Presence::emit(out, self.request(), next, &self.presences())
            }
            frame_type => emit_routed(out, frame_type, &self.routing(), self.envelope()),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; FRAME_BYTES_MAX];
        let length = self.emit(&mut out).unwrap();
        out.truncate(length);
        out
    }

    /// Whether `parsed` has the fields that were emitted.
    pub(crate) fn is(&self, parsed: &Frame<'_>) -> bool {
        match parsed {
            Frame::Send(routed) | Frame::Deliver(routed) => {
                !routed.redelivered
                    && routed.routing == self.routing()
                    && routed.envelope() == self.envelope()
                    && routed.frame() == self.bytes()
            }
            Frame::Notice(notice, routed) => {
                *notice == self.notice() && routed.notice() == Some(*notice) && !routed.redelivered
            }
            Frame::Ack(ack) => ack.first.0 == self.integers[0] && ack.receipts.iter().eq(self.receipts()),
            Frame::Result(outcome) => {
                let kind = self.result_kind();
                let collected = kind.code == ResultCode::Collected;
                let numbers = (0..self.count).map(|index| Number(self.first_number().0 + u64::from(index)));
                (outcome.lane, outcome.code, outcome.count) == (kind.lane, kind.code, self.count)
                    && outcome.reason.known() == kind.reason
                    && outcome.retry_after_seconds == kind.retry_after_seconds
                    && outcome.numbers().eq(numbers)
                    && outcome.receipts.is_empty() != collected
                    && (!collected || outcome.receipts.iter().eq(self.receipts()))
            }
            Frame::States(states) => {
                let states_match = states.iter().all(|(number, state)| state == self.id_state(number));
                states.query == self.query()
                    && states.iter().count() == usize::from(states.query.count)
                    && states_match
            }
            Frame::Who(Who { request, about: About::Everybody { from } }) => {
                (*request, *from) == (self.request(), self.integers[1] as u32) && self.who_names().is_empty()
            }
            Frame::Who(Who { request, about: About::Names(watch, names) }) => {
                (*request, *watch) == (self.request(), self.watch()) && names.iter().eq(self.who_names())
            }
            Frame::Presence(presence) => {
                (presence.request, presence.next) == (self.request(), self.integers[1] as u32)
                    && presence.iter().eq(self.presences())
            }
            other => self.frame() == Some(*other),
        }
    }
}
