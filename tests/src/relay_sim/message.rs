//! One message as its sender's and its recipient's clients know it, and what may be said of it.
//!
//! Owns: which results may follow each other, and how many there may be. Must not know other messages.
//!
//! A *copy* is what the relay takes as a message of its own: a SEND again is none while the relay remembers the id, and
//! may be one after a restart, or after a result that says that nothing came of the first.

use e2e_protocol::ids::{Lane, Number, Uid};
use e2e_protocol::wire::Routing;
use e2e_protocol::wire::transfer::ResultCode;

use super::{LinkIndex, Who};

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) from: Who,
    pub(super) to: Who,
    pub(super) from_uid: Uid,
    pub(super) to_uid: Uid,
    pub(super) lane: Lane,
    pub(super) number: Number,
    pub(super) ttl_seconds: u32,
    pub(super) envelope_bytes: usize,
    /// Its recipient's client cannot open it.
    pub(super) is_broken: bool,

    /// How often it was sent, the first time and the last.
    pub(super) attempts: u32,
    pub(super) first_link: LinkIndex,
    /// When it was sent, by the relay's clock.
    earliest_relay_ms: u64,
    pub(super) first_boot: u64,
    /// Everything that is said of it is said where it was sent.
    pub(super) is_heard: bool,
    pub(super) last_boot: u64,
    pub(super) first_failures: u64,
    /// Where an answer to it is to come, since it was sent there.
    pub(super) waits_on: Option<LinkIndex>,
    pub(super) last_ms: u64,
    /// So many copies are at the relay at most, if no commit failed and it did not expire.
    pub(super) copies: u32,

    /// The first result, and what came after it, while it was sent once and the relay runs on.
    first: Option<ResultCode>,
    then: Option<ResultCode>,
    /// Another message was sent under its id there, and has no answer yet.
    pub(super) contested_on: Option<LinkIndex>,
    /// Results and notices, by kind.
    pub(super) first_results: u32,
    pub(super) refused: u32,
    pub(super) finals: u32,
    /// The relay answers for it: STORED, COLLECTED or DONE was said.
    pub(super) promised: bool,
    pub(super) expired: bool,
    /// Its sender's client wants no more of it.
    pub(super) is_done: bool,

    pub(super) delivered: u32,
    /// The sequences under which it was seen.
    pub(super) sequence: u64,
    pub(super) more_sequences: Vec<u64>,
    pub(super) acks: u32,
}

/// What a new message is.
pub(super) struct Draft {
    pub(super) from: Who,
    pub(super) to: Who,
    pub(super) from_uid: Uid,
    pub(super) to_uid: Uid,
    pub(super) lane: Lane,
    pub(super) number: Number,
    pub(super) ttl_seconds: u32,
    pub(super) envelope_bytes: usize,
    pub(super) is_broken: bool,
}

/// When and where something is sent or heard.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) link: LinkIndex,
    pub(super) now_ms: u64,
    pub(super) relay_ms: u64,
    pub(super) boot: u64,
    /// No other connection is used for this lane that could hear what is said of it.
    pub(super) is_heard: bool,
    /// Appends to the store that failed until now.
    pub(super) failures: u64,
}

impl Message {
    pub(super) fn new(draft: Draft) -> Self {
        let Draft { from, to, from_uid, to_uid, lane, number, ttl_seconds, envelope_bytes, is_broken } =
            draft;
        Self {
            from,
            to,
            from_uid,
            to_uid,
            lane,
            number,
            ttl_seconds,
            envelope_bytes,
            is_broken,
            attempts: 0,
            first_link: 0,
            earliest_relay_ms: 0,
            first_boot: 0,
            is_heard: false,
            last_boot: 0,
            first_failures: 0,
            waits_on: None,
            last_ms: 0,
            copies: 0,
            first: None,
            then: None,
            contested_on: None,
            first_results: 0,
            refused: 0,
            finals: 0,
            promised: false,
            expired: false,
            is_done: false,
            delivered: 0,
            sequence: 0,
            more_sequences: Vec::new(),
            acks: 0,
        }
    }

    /// What its SEND says of it.
    pub(super) fn routing(&self) -> Routing {
        Routing {
            peer: self.to_uid,
            lane: self.lane,
            number: self.number,
            ttl_seconds: self.ttl_seconds,
            ..Routing::default()
        }
    }

    /// Whether the relay knows for sure, where this connection sends, that it was collected. Not if it was uncertain before.
    pub(super) fn is_remembered_as_collected(&self, link: LinkIndex) -> bool {
        let is_collected = match (self.first, self.then) {
            (Some(ResultCode::Collected), None) => true,
            (Some(ResultCode::Stored), Some(then)) => then == ResultCode::Collected,
            _ => false,
        };
        is_collected
            && self.is_heard
            && self.attempts == 1
            && self.first_link == link
            && self.contested_on.is_none()
    }

    /// Whether the relay knows for sure, where this connection sends, that it stored it, and its time has not run out.
    pub(super) fn is_remembered_as_stored(&self, link: LinkIndex) -> bool {
        let is_stored = (self.first, self.then) == (Some(ResultCode::Stored), None) && self.ttl_seconds == 0;
        is_stored
            && self.is_heard
            && self.attempts == 1
            && self.first_link == link
            && self.contested_on.is_none()
    }

    /// It is sent, once more.
    pub(super) fn note_sent(&mut self, moment: Moment, relay_forgets: bool) {
        if self.attempts == 0 {
            self.first_link = moment.link;
            self.earliest_relay_ms = moment.relay_ms;
            self.first_boot = moment.boot;
            self.first_failures = moment.failures;
            self.is_heard = moment.is_heard;
        }
        // A crash can set the clock back as far as the last commit.
        self.earliest_relay_ms = self.earliest_relay_ms.min(moment.relay_ms);
        let is_known = self.attempts > 0 && self.last_boot == moment.boot && !relay_forgets;
        self.copies += u32::from(!is_known);
        self.attempts += 1;
        (self.last_boot, self.last_ms) = (moment.boot, moment.now_ms);
        self.waits_on = Some(moment.link);
    }

    /// How many copies there can be: each time that it was sent is one, if the relay may have said that nothing came of it.
    fn copies_max(&self, now: Moment) -> u32 {
        let is_over = self.expired || now.relay_ms >= self.expires_ms();
        if is_over || now.failures != self.first_failures { self.attempts } else { self.copies }
    }

    /// Every time that it was sent it was refused: nobody may get it.
    pub(super) fn is_refused(&self) -> bool {
        self.attempts == self.refused
    }

    /// When the relay may let go of it, by its clock, at the earliest.
    pub(super) fn expires_ms(&self) -> u64 {
        let ttl_seconds = if self.ttl_seconds == 0 { 2_592_000 } else { self.ttl_seconds };
        self.earliest_relay_ms + u64::from(ttl_seconds) * 1_000
    }

    /// Takes a result, said on a connection or in a notice that is new; returns what is wrong with it.
    pub(super) fn take_result(&mut self, code: ResultCode, now: Moment) -> Result<(), &'static str> {
        use ResultCode::{Collected, Done, Expired, Refused, Stored, Uncertain};

        self.waits_on = None;
        match code {
            Collected | Done if self.acks == 0 => return Err("nobody acknowledged it"),
            Expired if now.relay_ms < self.expires_ms() => return Err("its time has not run out"),
            Refused => self.refused += 1,
            _ => {}
        }
        self.promised |= matches!(code, Collected | Stored | Done);
        self.expired |= code == Expired;
        self.is_done |= matches!(code, Collected | Stored | Done | Expired);
        if code == Refused && self.is_refused() && self.delivered > 0 {
            return Err("it was delivered");
        }
        if matches!(code, Collected | Expired) {
            self.finals += 1;
            // What was collected in a run that crashed may have to be collected again.
            let copies_max = u64::from(self.copies_max(now));
            let finals_max = copies_max * (1 + now.boot - self.first_boot);
            if u64::from(self.finals) > finals_max {
                return Err("it had its final result");
            }
        } else {
            self.first_results += 1;
            if self.first_results > self.attempts {
                return Err("it was not sent so often");
            }
        }
        // What was said on another connection may not have been heard.
        if !self.is_heard || self.attempts > 1 || now.boot != self.first_boot || now.link != self.first_link {
            return Ok(());
        }
        let is_fit = matches!(
            (self.first, self.then, code),
            (None, _, Collected | Stored | Refused | Uncertain)
                | (Some(Stored | Uncertain), None, Collected | Expired)
        );
        match self.first {
            None => self.first = Some(code),
            Some(_) => self.then = Some(code),
        }
        if is_fit { Ok(()) } else { Err("it contradicts what was said before") }
    }

    /// Takes note of a delivery; returns what is wrong with it.
    pub(super) fn take_delivery(&mut self, sequence: u64, now: Moment) -> Result<(), &'static str> {
        self.delivered += 1;
        if self.sequence == 0 {
            self.sequence = sequence;
        } else if self.sequence != sequence && !self.more_sequences.contains(&sequence) {
            self.more_sequences.push(sequence);
        }
        if self.is_refused() {
            return Err("it was refused");
        }
        if 1 + self.more_sequences.len() > self.copies_max(now) as usize {
            return Err("it is there twice");
        }
        Ok(())
    }
}
