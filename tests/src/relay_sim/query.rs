//! QUERY: a client asks what became of ids of a lane, and what it is told has to be true.
//!
//! Owns: when it asks, what it knew then, and what the answer may be (spec/wire.md, section 5). Must not know how messages
//! come and go.

use e2e_protocol::ids::Number;
use e2e_protocol::limits::{BODY_BYTES_MAX, LANE_WINDOW};
use e2e_protocol::wire::query::{IdState, Query, States};

use super::world::World;
use super::{LinkIndex, MessageIndex, Who};

/// The request number of every QUERY.
const REQUEST: u32 = 8;

/// What was asked, and what was known of each number then.
pub(super) struct Asked {
    query: Query,
    known: Vec<Known>,
}

#[derive(Clone, Copy)]
enum Known {
    /// No message has this number.
    NotSent,
    /// The relay was heard to say, where the lane still is, that it is collected or stored; it remembers.
    Collected(MessageIndex),
    Stored(MessageIndex),
    /// Anything may be true of it.
    Anything(MessageIndex),
}

impl World {
    /// Asks for the newest numbers of a lane, and one that was not sent.
    pub(super) fn query(&mut self, who: Who, at: usize) {
        let Some(link) = self.open_link(who, at) else { return };
        let writer = &self.users[who].writers[at];
        let next = writer.next_number();
        let count = (1 + self.dice.below(LANE_WINDOW)).min(1 + writer.messages.len() as u64);
        let Some(first) = (next + 1).checked_sub(count).filter(|first| *first > 0) else { return };
        let count = u16::try_from(count).unwrap_or(1);
        let query = Query { request: REQUEST, lane: writer.lane, first: Number(first), count };
        let known = query.numbers().map(|number| self.known_of(who, at, link, number)).collect();
        let link = &mut self.links.all[link];
        link.queries.push_back(Asked { query, known });
        link.put(BODY_BYTES_MAX, |out| query.emit(out));
    }

    fn known_of(&self, who: Who, at: usize, link: LinkIndex, number: Number) -> Known {
        let Some(index) = self.users[who].writers[at].at(number) else { return Known::NotSent };
        let message = &self.ledger.messages[index];
        if self.shape.forgets_lanes {
            Known::Anything(index)
        } else if message.is_remembered_as_collected(link) {
            Known::Collected(index)
        } else if message.is_remembered_as_stored(link) {
            Known::Stored(index)
        } else {
            Known::Anything(index)
        }
    }

    /// STATES came.
    pub(super) fn take_states(&mut self, link: LinkIndex, states: &States<'_>) {
        let Some(Asked { query, known }) = self.links.all[link].queries.pop_front() else {
            return self.ledger.violation(format!("link {link}: STATES that nobody asked for"));
        };
        if query != states.query {
            return self
                .ledger
                .violation(format!("link {link}: {query:?} is answered by {:?}", states.query));
        }
        self.ledger.counts.queries += 1;
        for ((number, state), known) in states.iter().zip(known) {
            use IdState::{Accepted, Done, Stored, Unknown, Waiting};
            // Once the lane has moved more may have been said there.
            let known = match known {
                Known::Collected(index) | Known::Stored(index) if !self.ledger.messages[index].is_heard => {
                    Known::Anything(index)
                }
                known => known,
            };
            let is_true = match (known, state) {
                (_, Accepted) => false,
                // It may be on its way on another connection since.
                (Known::NotSent, state) => state == Unknown || self.is_sent_elsewhere(link, &query, number),
                (Known::Collected(_), state) => state == Done,
                (Known::Stored(_), state) => matches!(state, Stored | Done),
                (Known::Anything(_), Unknown) => true,
                (Known::Anything(index), Waiting) => {
                    self.ledger.messages[index].last_boot >= self.links.all[link].boot
                }
                (Known::Anything(index), Stored) => {
                    // From now on the relay answers for it.
                    self.ledger.messages[index].promised = true;
                    !self.ledger.messages[index].is_refused()
                }
                (Known::Anything(index), Done) => self.ledger.messages[index].acks > 0,
            };
            if !is_true {
                let message = self.message_at(link, &query, number);
                let told = format!("link {link} is told that number {} is {state:?}: {message:?}", number.0);
                self.ledger.violation(told);
            }
        }
    }

    fn message_at(&self, link: LinkIndex, query: &Query, number: Number) -> Option<MessageIndex> {
        let writers = &self.users[self.links.all[link].who].writers;
        writers.iter().find(|writer| writer.lane == query.lane)?.at(number)
    }

    fn is_sent_elsewhere(&self, link: LinkIndex, query: &Query, number: Number) -> bool {
        let message = self.message_at(link, query, number).map(|index| &self.ledger.messages[index]);
        message.is_some_and(|message| message.first_link != link || message.attempts > 1)
    }
}
