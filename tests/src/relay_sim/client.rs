//! The model client: what it says to what it hears, and how it acknowledges.
//!
//! Owns: logging in, receiving, and which ends of a connection are fair. Must not know what the contract says of a
//! message (`ledger`). Sending is in `writer`, changing keys in `roll`.

use e2e_protocol::ids::{Receipt, Sequence, Uid};
use e2e_protocol::limits::{BODY_BYTES_MAX, HEADER_BYTES, RANGE_COUNT_MAX};
use e2e_protocol::login::Login;
use e2e_protocol::wire::directory::{Lookup, Want, Whose};
use e2e_protocol::wire::session::{
    Challenge, Credit, ErrorFrame, Hello, Proof, Purpose, Receive, Welcome, emit_ping,
};
use e2e_protocol::wire::transfer::Ack;
use e2e_protocol::wire::{ErrorCode, Frame, FrameType, Parsed};

use super::bundle::{Known, Shelf};
use super::link::{Fate, Link, Phase};
use super::message::Moment;
use super::roll::Rolling;
use super::world::World;
use super::writer::Writer;
use super::{LinkIndex, Who, envelope, keys};

/// The least credit in bytes (spec/wire.md, section 4).
const CREDIT_BYTES_MIN: u64 = 16_448;

/// A user: one name, and whatever of its clients outlives a connection.
pub(super) struct User {
    pub(super) uid: Uid,
    pub(super) key: usize,
    pub(super) rolling: Option<Rolling>,
    /// When its last roll-over was, by its own clock.
    pub(super) rolled_at: u64,
    /// What it knows of everybody's uid.
    pub(super) book: Vec<Uid>,
    pub(super) receiver: Option<LinkIndex>,
    pub(super) writers: Vec<Writer>,
    pub(super) shelf: Shelf,
}

impl World {
    pub(super) fn moment(&self, link: LinkIndex) -> Moment {
        Moment {
            link,
            now_ms: self.now_ms,
            relay_ms: self.host.relay_ms(self.now_ms),
            boot: self.links.all[link].boot,
            is_heard: false,
            failures: self.host.store.failures,
        }
    }

    /// Opens a connection of a user; `None` if there is no relay.
    pub(super) fn connect(&mut self, who: Who, wants: Receive) -> Option<LinkIndex> {
        let user = &self.users[who];
        // Which key is in force may be unknown: then it tries one, and the other after that.
        let key = user.rolling.as_ref().map_or(user.key, |rolling| rolling.key_to_try(user.key));
        self.connect_as(who, key, Purpose::Login, wants)
    }

    /// The same for any name and key.
    pub(super) fn connect_as(
        &mut self,
        who: Who,
        key: usize,
        purpose: Purpose,
        wants: Receive,
    ) -> Option<LinkIndex> {
        let index = self.links.all.len();
        let id = self.host.open(self.now_ms, index)?;
        let mut link = Link::new(who, id, self.host.boot, wants, key);
        link.purpose = purpose;
        if self.shape.narrow {
            link.piece = 1 + self.dice.index(900);
            link.socket_bytes_max = 1 + self.dice.index(3_000);
        }
        let hello = Hello { version_min: 1, version_max: 1, purpose };
        link.put(HEADER_BYTES + 8, |out| hello.emit(out));
        self.links.all.push(link);
        self.links.live.push(index);
        self.ledger.note(self.now_ms, || format!("link {index}: {who} connects, {wants:?}, {id:?}"));
        Some(index)
    }

    pub(super) fn draw_credit(&mut self) -> Credit {
        let messages = 1 + self.dice.below(self.shape.credit_messages);
        let bytes = CREDIT_BYTES_MIN + self.dice.below(60_000);
        Credit {
            messages: u32::try_from(messages).unwrap_or(1),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        }
    }

    /// The client reads what has come; returns whether anything had.
    pub(super) fn read(&mut self, index: LinkIndex) -> bool {
        let link = &mut self.links.all[index];
        if link.socket.is_empty() || self.now_ms < link.down_after_ms || !link.client_open {
            return false;
        }
        let mut unread = std::mem::take(&mut link.unread);
        unread.append(&mut link.socket);
        let mut at = 0;
        loop {
            match Frame::parse(&unread[at..], BODY_BYTES_MAX) {
                Ok(Parsed::Frame(frame, bytes)) => {
                    at += bytes;
                    self.hear(index, frame);
                }
                Ok(Parsed::Incomplete { .. }) => break,
                Err(error) => {
                    self.ledger.violation(format!("link {index} gets no frame: {error:?}"));
                    at = unread.len();
                    break;
                }
            }
        }
        unread.drain(..at);
        self.links.all[index].unread = unread;
        true
    }

    fn hear(&mut self, index: LinkIndex, frame: Frame<'_>) {
        if self.links.all[index].is_over {
            self.ledger.violation(format!("link {index}: {frame:?} after the last word"));
        }
        if self.links.all[index].is_claim() {
            return self.hear_claim(index, frame);
        }
        let phase = self.links.all[index].phase;
        let moment = self.moment(index);
        match (phase, frame) {
            (_, Frame::Error(error)) => self.take_error(index, &error),
            (Phase::Greeting, Frame::Challenge(challenge)) => self.prove(index, &challenge),
            (Phase::Proving, Frame::Welcome(welcome)) => self.take_welcome(index, &welcome),
            (Phase::Ready, Frame::Result(outcome)) => self.take_results(index, &outcome),
            (Phase::Ready, Frame::Deliver(message)) => {
                let link = &mut self.links.all[index];
                self.ledger.note(self.now_ms, || {
                    let at = envelope::index(message.envelope());
                    format!("link {index}: DELIVER {:x} of message {at:?}", message.routing.sequence.0)
                });
                self.ledger.take_delivery(link, &message.routing, message.envelope(), moment);
            }
            (Phase::Ready, Frame::Notice(notice, message)) => {
                let link = &mut self.links.all[index];
                let routing = message.routing;
                let writers = &self.users[link.who].writers;
                let writer = writers.iter().find(|writer| writer.lane == routing.lane);
                let about = writer.and_then(|writer| writer.at(routing.number));
                let told = (notice.code, notice.receipt);
                self.ledger.note(self.now_ms, || format!("link {index}: {told:?} of {about:?}"));
                self.ledger.take_notice(link, &routing, about, told, Moment { link: usize::MAX, ..moment });
            }
            (Phase::Ready, Frame::Ping(opaque)) => {
                let link = &mut self.links.all[index];
                if link.is_speaking() {
                    link.put(HEADER_BYTES + 8, |out| emit_ping(out, FrameType::Pong, opaque));
                }
            }
            (Phase::Ready, Frame::Entry(entry)) => {
                let to = (0..self.users.len()).find(|who| *keys::name(*who) == entry.name);
                if let Some(parts) = &entry.bundle {
                    self.take_bundle(index, &entry, parts);
                }
                match to {
                    Some(to) => self.users[self.links.all[index].who].book[to] = entry.uid,
                    None => self.ledger.violation(format!("an ENTRY that nobody asked for: {entry:?}")),
                }
            }
            (Phase::Ready, Frame::States(states)) => self.take_states(index, &states),
            (Phase::Ready, Frame::Published(published)) => self.take_published(index, &published),
            (Phase::Ready, Frame::Rolled(rolled)) => self.take_rolled(index, rolled.uid),
            (phase, frame) => {
                self.ledger.violation(format!("link {index} is {phase:?} and hears {frame:?}"));
            }
        }
    }

    pub(super) fn prove(&mut self, index: LinkIndex, challenge: &Challenge) {
        let link = &mut self.links.all[index];
        link.phase = Phase::Proving;
        if link.fate != Fate::Lives {
            return;
        }
        if link.is_claim() {
            self.note_claim(index);
        } else {
            link.known = self.users[link.who].shelf.known();
        }
        let link = &mut self.links.all[index];
        let (name, identity) = (keys::name(link.who), keys::identity(link.who, link.key));
        let login = Login {
            version: challenge.version,
            purpose: link.purpose,
            relay_id: &challenge.relay_id,
            nonce: &challenge.nonce,
            name,
            fingerprint: identity.fingerprint(),
        };
        let signature = keys::sign_login(link.who, link.key, &login);
        let proof = Proof {
            receive: link.wants,
            identity_key: identity.modulus(),
            signature: &signature,
            token_proof: &[0; 32],
            name: *name,
        };
        link.put(BODY_BYTES_MAX, |out| proof.emit(out));
    }

    fn take_welcome(&mut self, index: LinkIndex, welcome: &Welcome) {
        let link = &mut self.links.all[index];
        (link.phase, link.uid, link.receiving) = (Phase::Ready, welcome.uid, welcome.receiving);
        let (who, key) = (link.who, link.key);
        self.ledger.counts.logins += 1;
        let fits = match link.wants {
            Receive::No => !welcome.receiving,
            // Who sends no more cannot receive.
            Receive::TakeOver(_) => welcome.receiving || link.fate != Fate::Lives,
            Receive::IfNobody(_) => true,
        };
        if !fits {
            self.ledger.violation(format!("link {index} wants another role than {welcome:?}"));
        }
        // After a crash or a failed commit more can be there: acknowledgements are lost, and what was let go of comes again.
        let comes_again = self.ledger.counts.crashes > 0 || self.host.store.failures > 0;
        if welcome.queued > self.host.limits.mailbox_messages_max * (1 + u64::from(comes_again)) {
            self.ledger.violation(format!("a mailbox over its limit: {welcome:?}"));
        }
        if self.is_drained && welcome.queued > 0 {
            self.ledger.violation(format!("all has drained, but {who} has {} left", welcome.queued));
        }
        self.know_key(who, key, welcome.uid);
        if self.users[who].uid == welcome.uid {
            // What was known of the keys of an older key does not count.
            let known = self.links.all[index].known;
            let known = if self.users[who].shelf.is_known(known) { known } else { Known::default() };
            self.look_at_count(who, welcome.signed_prekey, welcome.prekeys_left, known);
        }
        if welcome.receiving && self.links.all[index].fate == Fate::Lives {
            self.users[who].receiver = Some(index);
        }
    }

    fn take_error(&mut self, index: LinkIndex, error: &ErrorFrame<'_>) {
        let code = error.code.known();
        let who = self.links.all[index].who;
        self.ledger.note(self.now_ms, || format!("link {index}: ERROR {code:?}, {}", error.text));
        if error.closes != (error.request == 0) {
            self.ledger.violation(format!("it closes and answers, or neither: {error:?}"));
        }
        if !error.closes {
            return self.take_request_error(index, error.request, code);
        }
        self.links.all[index].is_over = true;
        use ErrorCode::{
            Busy, IdleTimeout, KeyChanged, LoginFailed, LoginTimeout, Replaced, Restarting, SlowReader,
            TooManyConnections,
        };
        let is_fair = match code {
            Some(Replaced) => self.links.all[index].receiving,
            Some(LoginFailed) => self.take_login_failed(index),
            Some(KeyChanged) => self.users[who].key != self.links.all[index].key || self.is_rolling(who),
            Some(SlowReader | IdleTimeout | LoginTimeout | TooManyConnections | Restarting | Busy) => true,
            _ => false,
        };
        if !is_fair {
            self.ledger.violation(format!("link {index} ends for no reason: {error:?}"));
        }
    }

    /// Asks for somebody's uid.
    pub(super) fn ask_for(&mut self, who: Who, link: LinkIndex, to: Who) {
        debug_assert_eq!(self.links.all[link].who, who, "on one's own connection");
        if self.links.all[link].is_speaking() {
            let lookup = Lookup { request: 1, want: Want::Address, whose: Whose::Name(*keys::name(to)) };
            self.links.all[link].put(BODY_BYTES_MAX, |out| lookup.emit(out));
        }
    }

    /// Acknowledges up to so many of the oldest deliveries of a connection.
    pub(super) fn acknowledge(&mut self, index: LinkIndex, count: usize) {
        let link = &mut self.links.all[index];
        if !link.is_speaking() {
            return;
        }
        let count = count.min(link.unacked.len());
        let mut receipts: Vec<Receipt> = Vec::with_capacity(count);
        let mut first = Sequence(0);
        for _ in 0..count {
            let Some(unacked) = link.unacked.pop_front() else { break };
            link.unacked_bytes -= unacked.frame_bytes;
            let is_next = unacked.sequence.0 == first.0 + receipts.len() as u64;
            if !is_next || receipts.len() == usize::from(RANGE_COUNT_MAX) {
                put_ack(link, first, &mut receipts);
                first = unacked.sequence;
            }
            receipts.push(match unacked.message {
                None => Receipt::ZERO,
                Some(at) => {
                    let message = &mut self.ledger.messages[at];
                    message.acks += 1;
                    if message.is_broken { Receipt::ZERO } else { envelope::receipt(at, message.acks - 1) }
                }
            });
        }
        put_ack(link, first, &mut receipts);
        self.ledger.note(self.now_ms, || format!("link {index}: ACK of {count}"));
    }
}

/// Acknowledges a range, if there is one, and empties it.
fn put_ack(link: &mut Link, first: Sequence, receipts: &mut Vec<Receipt>) {
    if !receipts.is_empty() {
        let bytes = HEADER_BYTES + 12 + receipts.len() * Receipt::BYTES;
        link.put(bytes, |out| Ack::emit(out, first, receipts));
        receipts.clear();
    }
}
