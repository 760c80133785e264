//! One connection: a socket with a small buffer, and the client behind it that keeps what it was told.

use std::collections::BTreeMap;

use e2e_protocol::ids::{Modulus, Receipt, Signature, Uid};
use e2e_protocol::limits::BODY_BYTES_MAX;
use e2e_protocol::wire::directory::Published;
use e2e_protocol::wire::people::State;
use e2e_protocol::wire::query::IdState;
use e2e_protocol::wire::roll::Rolled;
use e2e_protocol::wire::session::{Challenge, Welcome};
use e2e_protocol::wire::transfer::ResultCode;
use e2e_protocol::wire::{ErrorCode, Frame, Parsed};
use e2e_relayd::core::{ConnId, Core};
use e2e_relayd::reason::Reason;

use super::frames;

/// A DELIVER or NOTICE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) sequence: u64,
    pub(crate) peer: Uid,
    pub(crate) lane: u64,
    pub(crate) number: u64,
    pub(crate) time_ms: u64,
    pub(crate) ttl_seconds: u32,
    pub(crate) redelivered: bool,
    pub(crate) envelope: Vec<u8>,
    /// Code and receipt, if it is a NOTICE.
    pub(crate) notice: Option<(ResultCode, Receipt)>,
}

/// What a RESULT says of one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) lane: u64,
    pub(crate) number: u64,
    /// `STORED`, or the reason of a REFUSED.
    pub(crate) word: String,
    pub(crate) retry_after: u32,
    pub(crate) receipt: Option<Receipt>,
}

/// An ENTRY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) request: u32,
    pub(crate) uid: Uid,
    pub(crate) name: String,
    pub(crate) prekeys_left: u16,
    /// First byte of N(SPK), and of N(OPK).
    pub(crate) signed_prekey: Option<u8>,
    pub(crate) one_time: Option<u8>,
}

/// A ROLLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownKeys {
    pub(crate) request: u32,
    pub(crate) oldest: Modulus,
    /// Time, key, and both signatures.
    pub(crate) roll_overs: Vec<(u64, Modulus, Signature, Signature)>,
}

/// The request that was answered, or zero; `next`; each name with its state.
pub(crate) type ToldPresence = (u32, u32, Vec<(String, State)>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: ConnId,
    pub(crate) to_relay: Vec<u8>,
    /// Bytes that the relay reads at once.
    pub(crate) piece: usize,
    /// The client closes its direction once `to_relay` is read.
    pub(crate) ends: bool,
    ended: bool,
    /// Whether the client reads, and how much the socket holds.
    pub(crate) reads: bool,
    pub(crate) socket_bytes: usize,
    pub(crate) blocked: bool,
    /// The next write fails.
    pub(crate) broken: bool,
    /// How often the relay tried to write.
    pub(crate) writes: usize,
    partial: Vec<u8>,
    socket: Vec<u8>,
    unread: Vec<u8>,
    pub(crate) closed: Option<Reason>,
    /// How often the relay gave it each reason, codes that it was told and how it was closed; of a relay that was
    /// started again since, nothing.
    pub(crate) reasons: Option<BTreeMap<&'static str, u64>>,

    pub(crate) challenge: Option<Challenge>,
    pub(crate) welcome: Option<Welcome>,
    pub(crate) delivered: Vec<Delivered>,
    pub(crate) results: Vec<Told>,
    pub(crate) result_frames: usize,
    pub(crate) found: Vec<Found>,
    pub(crate) published: Vec<Published>,
    pub(crate) rolled: Vec<Rolled>,
    pub(crate) keys: Vec<KnownKeys>,
    pub(crate) request_errors: Vec<(u32, ErrorCode)>,
    pub(crate) presence: Vec<ToldPresence>,
    /// Request, and each number with its state.
    pub(crate) states: Vec<(u32, Vec<(u64, IdState)>)>,
    /// Request, and whether it was to block.
    pub(crate) blocks: Vec<(u32, bool)>,
    pub(crate) removed: Vec<u32>,
    pub(crate) last_words: Option<ErrorCode>,
    /// Of the last ERROR.
    pub(crate) retry_after: u32,
    pub(crate) pings: Vec<[u8; 8]>,
    pub(crate) pongs: Vec<[u8; 8]>,
    last_sequence: u64,
}

impl Link {
    pub(crate) fn new(id: ConnId) -> Self {
        Self {
            id,
            to_relay: Vec::new(),
            piece: usize::MAX,
            ends: false,
            ended: false,
            reads: true,
            socket_bytes: usize::MAX,
            blocked: false,
            broken: false,
            writes: 0,
            partial: Vec::new(),
            socket: Vec::new(),
            unread: Vec::new(),
            closed: None,
            reasons: Some(BTreeMap::new()),
            challenge: None,
            welcome: None,
            delivered: Vec::new(),
            results: Vec::new(),
            result_frames: 0,
            found: Vec::new(),
            published: Vec::new(),
            rolled: Vec::new(),
            keys: Vec::new(),
            request_errors: Vec::new(),
            presence: Vec::new(),
            states: Vec::new(),
            blocks: Vec::new(),
            removed: Vec::new(),
            last_words: None,
            retry_after: 0,
            pings: Vec::new(),
            pongs: Vec::new(),
            last_sequence: 0,
        }
    }

    /// Whether this is the open connection with that id.
    pub(crate) fn is(&self, id: ConnId) -> bool {
        self.id == id && self.closed.is_none()
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.closed.is_none() && self.blocked && self.socket.len() < self.socket_bytes
    }

    pub(crate) fn needs_turn(&self, core: &Core) -> bool {
        let says = !self.to_relay.is_empty() || (self.ends && !self.ended);
        self.closed.is_none() && ((says && core.may_read(self.id)) || self.is_writable() || self.can_read())
    }

    fn can_read(&self) -> bool {
        self.reads && !self.socket.is_empty()
    }

    /// The relay reads.
    pub(crate) fn feed(&mut self, core: &mut Core) {
        if self.closed.is_some() || !core.may_read(self.id) {
            return;
        }
        if self.to_relay.is_empty() {
            if self.ends && !self.ended {
                self.ended = true;
                core.handle_end_of_input(self.id);
            }
            return;
        }
        let count = self.piece.min(self.to_relay.len());
        self.partial.extend(self.to_relay.drain(..count));
        core.handle_heard(self.id);
        let mut at = 0;
        loop {
            match Frame::parse(&self.partial[at..], core.body_bytes_max(self.id)) {
                Ok(Parsed::Frame(frame, bytes)) => {
                    core.handle_frame(self.id, frame);
                    at += bytes;
                }
                Ok(Parsed::Incomplete { .. }) => break,
                Err(error) => {
                    core.handle_bad_frame(self.id, error);
                    at = self.partial.len();
                    break;
                }
            }
        }
        self.partial.drain(..at);
    }

    /// The relay reads all there is, in one turn.
    pub(crate) fn feed_all(&mut self, core: &mut Core) {
        while !self.to_relay.is_empty() || (self.ends && !self.ended) {
            self.feed(core);
        }
    }

    /// The socket takes what it has room for; returns how much.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.socket_bytes.saturating_sub(self.socket.len()));
        self.socket.extend_from_slice(&bytes[..count]);
        count
    }

    /// The client reads.
    pub(crate) fn read(&mut self) {
        if !self.can_read() {
            return;
        }
        self.unread.append(&mut self.socket);
        let unread = std::mem::take(&mut self.unread);
        let used = frames(&unread, BODY_BYTES_MAX, |frame| self.note(frame));
        self.unread = unread[used..].to_vec();
    }

    fn note(&mut self, frame: Frame<'_>) {
        assert_eq!(self.last_words, None, "ERROR with closes = 1 is the last frame: {frame:?}");
        match frame {
            Frame::Challenge(challenge) => self.challenge = Some(challenge),
            Frame::Welcome(welcome) => self.welcome = Some(welcome),
            Frame::Error(error) => {
                let code = error.code.known().expect("the relay says only what it knows");
                assert_eq!(error.closes, error.request == 0);
                self.retry_after = error.retry_after_seconds;
                self.note_reason(code.into());
                if error.closes {
                    self.last_words = Some(code);
                } else {
                    self.request_errors.push((error.request, code));
                }
            }
            Frame::Ping(opaque) => self.pings.push(opaque),
            Frame::Pong(opaque) => self.pongs.push(opaque),
            Frame::Deliver(message) => self.note_delivered(&message, None),
            Frame::Notice(notice, message) => {
                self.note_delivered(&message, Some((notice.code, notice.receipt)));
            }
            Frame::Result(result) => {
                self.result_frames += 1;
                let mut receipts = result.receipts.iter();
                for number in result.numbers() {
                    if result.code == ResultCode::Refused {
                        self.note_reason(result.reason.known().expect("a reason that is known").into());
                    }
                    self.results.push(Told {
                        lane: result.lane.0,
                        number: number.0,
                        word: match result.code {
                            ResultCode::Refused => result.reason.to_string(),
                            code => format!("{code:?}").to_uppercase(),
                        },
                        retry_after: result.retry_after_seconds,
                        receipt: receipts.next(),
                    });
                }
            }
            Frame::Entry(entry) => self.found.push(Found {
                request: entry.request,
                uid: entry.uid,
                name: entry.name.to_string(),
                prekeys_left: entry.prekeys_left,
                signed_prekey: entry.bundle.map(|bundle| bundle.signed_prekey.modulus[1]),
                one_time: entry.bundle.and_then(|bundle| bundle.one_time).map(|key| key.modulus[1]),
            }),
            Frame::Published(published) => self.published.push(published),
            Frame::Rolled(rolled) => self.rolled.push(rolled),
            Frame::Rolls(rolls) => self.keys.push(KnownKeys {
                request: rolls.request,
                oldest: *rolls.oldest,
                roll_overs: rolls
                    .iter()
                    .map(|roll| (roll.time_ms, *roll.identity_key, *roll.former_signature, *roll.signature))
                    .collect(),
            }),
            Frame::Presence(presence) => {
                let states = presence.iter().map(|(state, name)| (name.to_string(), state)).collect();
                self.presence.push((presence.request, presence.next, states));
            }
            Frame::States(states) => {
                let listed = states.iter().map(|(number, state)| (number.0, state)).collect();
                self.states.push((states.query.request, listed));
            }
            Frame::Blocked(blocked) => self.blocks.push((blocked.request, blocked.block)),
            Frame::Removed(removed) => self.removed.push(removed.request),
            other => panic!("the relay says {other:?}"),
        }
    }

    fn note_reason(&mut self, reason: Reason) {
        if let Some(reasons) = &mut self.reasons {
            *reasons.entry(reason.name()).or_default() += 1;
        }
    }

    fn note_delivered(
        &mut self,
        message: &e2e_protocol::wire::Routed<'_>,
        notice: Option<(ResultCode, Receipt)>,
    ) {
        let routing = message.routing;
        assert!(self.welcome.is_some(), "nothing is delivered before WELCOME");
        assert!(routing.sequence.0 > self.last_sequence, "in order, and nothing twice on one connection");
        self.last_sequence = routing.sequence.0;
        self.delivered.push(Delivered {
            sequence: routing.sequence.0,
            peer: routing.peer,
            lane: routing.lane.0,
            number: routing.number.0,
            time_ms: routing.time_ms,
            ttl_seconds: routing.ttl_seconds,
            redelivered: message.redelivered,
            envelope: message.envelope().to_vec(),
            notice,
        });
    }

    /// The relay closed.
    pub(crate) fn close(&mut self, reason: Reason) {
        self.read();
        self.closed = Some(reason);
        if !matches!(reason, Reason::Told(_)) {
            self.note_reason(reason);
        }
        if self.reads && matches!(reason, Reason::Told(_) | Reason::PeerClosed) {
            assert!(self.unread.is_empty(), "a connection that ends well ends behind a whole frame");
        }
    }

    /// The socket is gone.
    pub(crate) fn cut(&mut self) {
        self.closed.get_or_insert(Reason::ConnectionLost);
        self.to_relay.clear();
    }
}
