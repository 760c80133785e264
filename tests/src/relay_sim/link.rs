//! One connection: two pipes with what is on its way in them, the relay's end, and the client's end.
//!
//! Owns: bytes in either direction and how each side ends. Must not know what a client makes of a frame (`client`),
//! nor when bytes move (`world`).

use std::collections::VecDeque;

use e2e_protocol::ids::{Sequence, Uid};
use e2e_protocol::wire::session::{Credit, Purpose, Receive};
use e2e_relayd::core::ConnId;

use super::bundle::{Asked, Known};
use super::{MessageIndex, Who, keys, query};

/// How far the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// CHALLENGE is to come.
    Greeting,
    /// WELCOME is to come.
    Proving,
    /// Logged in.
    Ready,
}

/// What becomes of the client's direction once the relay has read what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Lives,
    /// The client closes it.
    Ends,
    /// The connection is reset.
    Lost,
    /// Nothing ever comes again, and nobody says so.
    Ghost,
}

/// What was delivered and waits to be acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unacked {
    pub(super) sequence: Sequence,
    /// Which message; none: a notice.
    pub(super) message: Option<MessageIndex>,
    pub(super) frame_bytes: usize,
}

pub(super) struct Link {
    pub(super) who: Who,
    pub(super) id: ConnId,
    /// Which start of the relay it belongs to.
    pub(super) boot: u64,
    pub(super) relay_open: bool,
    pub(super) client_open: bool,

    // To the relay.
    pub(super) up: Vec<u8>,
    pub(super) up_at: usize,
    /// What the relay has read of a frame that is not whole.
    pub(super) partial: Vec<u8>,
    /// Nothing moves before.
    pub(super) up_after_ms: u64,
    /// Most bytes that the relay reads at once.
    pub(super) piece: usize,
    pub(super) fate: Fate,
    pub(super) ended: bool,
    /// A SEND that the defect holds back.
    pub(super) held: Vec<u8>,

    // To the client.
    pub(super) socket: Vec<u8>,
    pub(super) socket_bytes_max: usize,
    pub(super) blocked: bool,
    pub(super) down_after_ms: u64,
    pub(super) unread: Vec<u8>,

    // The client.
    pub(super) phase: Phase,
    pub(super) wants: Receive,
    pub(super) purpose: Purpose,
    /// Whether its key was known to have the name when it proved that it has the key.
    pub(super) owned_before: bool,
    /// What was known of its user's keys then.
    pub(super) known: Known,
    /// Questions for bundles without an answer, and how many there were.
    pub(super) asked: Vec<Asked>,
    pub(super) asked_in_all: u32,
    /// Questions for what became of ids, without an answer.
    pub(super) queries: VecDeque<query::Asked>,
    /// The key that it logs in with, and the uid that this is.
    pub(super) key: usize,
    pub(super) uid: Uid,
    pub(super) receiving: bool,
    pub(super) unacked: VecDeque<Unacked>,
    pub(super) unacked_bytes: usize,
    pub(super) last_sequence: u64,
    pub(super) last_time_ms: u64,
    /// The relay said its last word.
    pub(super) is_over: bool,
}

impl Link {
    pub(super) fn new(who: Who, id: ConnId, boot: u64, wants: Receive, key: usize) -> Self {
        Self {
            who,
            id,
            boot,
            relay_open: true,
            client_open: true,
            up: Vec::new(),
            up_at: 0,
            partial: Vec::new(),
            up_after_ms: 0,
            piece: usize::MAX,
            fate: Fate::Lives,
            ended: false,
            held: Vec::new(),
            socket: Vec::new(),
            socket_bytes_max: 64 * 1024,
            blocked: false,
            down_after_ms: 0,
            unread: Vec::new(),
            phase: Phase::Greeting,
            wants,
            purpose: Purpose::Login,
            owned_before: false,
            known: Known::default(),
            asked: Vec::new(),
            asked_in_all: 0,
            queries: VecDeque::new(),
            key,
            uid: Uid::NONE,
            receiving: false,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            last_sequence: 0,
            last_time_ms: 0,
            is_over: false,
        }
    }

    /// What the client may have delivered and not acknowledged.
    pub(super) fn credit(&self) -> Option<Credit> {
        match self.wants {
            Receive::No => None,
            Receive::TakeOver(credit) | Receive::IfNobody(credit) => Some(credit),
        }
    }

    /// Whether it is of somebody who wants a name that nobody had at first.
    pub(super) fn is_claim(&self) -> bool {
        self.who >= keys::USERS_MAX
    }

    /// Whether the client can say something that the relay may hear.
    pub(super) fn is_speaking(&self) -> bool {
        self.client_open && self.phase == Phase::Ready && self.fate == Fate::Lives && !self.is_over
    }

    /// Whether it is being logged in.
    pub(super) fn is_starting(&self) -> bool {
        self.client_open && self.phase != Phase::Ready && self.fate == Fate::Lives && !self.is_over
    }

    /// Bytes that the relay has not read.
    pub(super) fn up_waiting(&self) -> usize {
        self.up.len() - self.up_at
    }

    /// Appends what `emit` writes into room of `bytes_max`.
    pub(super) fn put<E: std::fmt::Debug>(
        &mut self,
        bytes_max: usize,
        emit: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) {
        if self.up_at > 0 && self.up_at == self.up.len() {
            self.up.clear();
            self.up_at = 0;
        }
        let start = self.up.len();
        self.up.resize(start + bytes_max, 0);
        let bytes = emit(&mut self.up[start..]).expect("there is room");
        self.up.truncate(start + bytes);
    }

    /// Nothing of it moves any more.
    pub(super) fn drop_both(&mut self) {
        (self.relay_open, self.client_open) = (false, false);
        self.up = Vec::new();
        self.partial = Vec::new();
        self.socket = Vec::new();
        self.unread = Vec::new();
        self.up_at = 0;
    }
}
