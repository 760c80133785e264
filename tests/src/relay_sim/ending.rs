//! The end of a seed: faults stop, everybody comes online, and all that is on its way has to arrive.
//!
//! Owns: when all has drained, and how long that may take. What must hold then: `ledger`.

use e2e_protocol::wire::session::{Credit, Receive};

use super::link::Fate;
use super::message::Message;
use super::store::Pace;
use super::world::World;
use super::{MINUTE_MS, MessageIndex, SECOND_MS};

/// Once faults have stopped, everything has arrived after so long: a connection that nobody answers on is given up
/// after two minutes, what reads slowly after 30 seconds.
const DRAIN_MS_MAX: u64 = 10 * MINUTE_MS;
const ROUND_MS: u64 = 250;
/// It is at rest when nothing happens for so long: a backlog that could not be read is tried again after a second.
const REST_MS: u64 = 3 * SECOND_MS;
/// Nobody waits longer for a first result then: the store is tried again after 5 seconds.
const ANSWER_MS_MAX: u64 = 15 * SECOND_MS;

impl World {
    pub(super) fn drain(&mut self) {
        self.ledger.note(self.now_ms, || "faults stop".into());
        self.shape.narrow = false;
        self.shape.pace = Pace { commit_ms_max: 5, read_ms_max: 3 };
        self.heal_disk();
        self.drain_ms = self.now_ms;
        let mut rest_ms = self.now_ms;
        loop {
            self.ease_links();
            self.advance(ROUND_MS);
            if self.ledger.has_violations() {
                return;
            }
            if !self.is_at_rest() {
                rest_ms = self.now_ms;
            } else if self.now_ms >= rest_ms + REST_MS {
                break;
            }
            if self.now_ms > self.drain_ms + DRAIN_MS_MAX {
                let what = self.what_is_stuck();
                return self.ledger.violation(format!("it does not come to rest: {what}"));
            }
            self.push_on();
        }
        let relay_ms = self.host.relay_ms(self.now_ms);
        self.ledger.close(relay_ms);
        self.look_at_what_is_left();
    }

    /// Nothing is slow any more.
    fn ease_links(&mut self) {
        for index in &self.links.live {
            let link = &mut self.links.all[*index];
            (link.up_after_ms, link.down_after_ms) = (0, 0);
            (link.piece, link.socket_bytes_max) = (usize::MAX, 1 << 20);
        }
    }

    /// Everybody connects, acknowledges, and sends again what has no result.
    fn push_on(&mut self) {
        let unanswered = self.unanswered(ANSWER_MS_MAX);
        if let Some(first) = unanswered.first()
            && self.now_ms >= self.drain_ms + ANSWER_MS_MAX
        {
            let message = &self.ledger.messages[*first];
            let told = format!("{} messages wait in vain for an answer: {message:?}", unanswered.len());
            self.ledger.violation(told);
        }
        for who in 0..self.users.len() {
            self.come_online(who, 1_000);
            if let Some(link) = self.users[who].receiver {
                self.acknowledge(link, usize::MAX);
            }
            for at in 0..self.users[who].writers.len() {
                self.send_again(who, at);
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        self.what_is_stuck().is_empty()
    }

    /// What has not come to rest, in words.
    fn what_is_stuck(&self) -> String {
        let mut stuck = Vec::new();
        match &self.host.core {
            None => stuck.push("the relay is down".to_owned()),
            Some(core) if core.counts().2 > 0 => stuck.push(format!("{} bytes of rings", core.counts().2)),
            Some(_) => {}
        }
        if !self.host.store.is_idle() {
            stuck.push("the store has something to do".into());
        }
        for (who, user) in self.users.iter().enumerate() {
            let is_fit = |link: &usize| self.links.all[*link].is_speaking();
            match user.receiver.filter(is_fit) {
                None => stuck.push(format!("{who} does not receive")),
                Some(link) if !self.links.all[link].unacked.is_empty() => {
                    stuck.push(format!("{who} has not acknowledged all"));
                }
                Some(_) => {}
            }
            if user.rolling.is_some() {
                stuck.push(format!("{who} does not know its key"));
            }
            let waiting = user.writers.iter().flat_map(|writer| &writer.waiting);
            let mut unsettled = waiting.filter(|index| !self.ledger.messages[**index].is_done);
            if let Some(first) = unsettled.next() {
                let more = unsettled.count();
                stuck.push(format!("{who} waits for the result of {first} and {more} more"));
            }
        }
        for index in &self.links.live {
            let link = &self.links.all[*index];
            if link.fate == Fate::Lives && (link.up_waiting() > 0 || !link.socket.is_empty()) {
                stuck.push(format!("link {index} has something on its way"));
            }
        }
        let unanswered = self.unanswered(0);
        if !unanswered.is_empty() {
            stuck.push(format!("{} messages have no answer", unanswered.len()));
        }
        stuck.join(", ")
    }

    /// Messages that were sent on a connection that is open, so long ago, and have no answer, though nobody else can have
    /// heard it.
    fn unanswered(&self, ms: u64) -> Vec<MessageIndex> {
        let mut found = Vec::new();
        for (who, user) in self.users.iter().enumerate() {
            for (at, writer) in user.writers.iter().enumerate() {
                let Some(link) = writer.link.filter(|_| self.hears_all(who, at)) else { continue };
                if !self.links.all[link].is_speaking() || !self.links.all[link].relay_open {
                    continue;
                }
                found.extend(writer.messages.iter().copied().filter(|index| {
                    let Message { waits_on, last_ms, .. } = self.ledger.messages[*index];
                    // On this connection, or on the one that the lane moved from.
                    let waits = waits_on.is_some_and(|on| on == link || self.links.all[on].is_speaking());
                    waits && self.now_ms >= last_ms + ms
                }));
            }
        }
        found
    }

    /// The relay starts once more: nothing may be left for anybody.
    fn look_at_what_is_left(&mut self) {
        self.advance(2 * SECOND_MS);
        if self.dice.per_mille(500) {
            self.crash()
        } else {
            self.stop()
        }
        self.advance(15 * SECOND_MS);
        self.is_drained = true;
        if self.host.core.is_none() {
            return self.ledger.violation("the relay does not start".into());
        }
        for who in 0..self.users.len() {
            let credit = Credit { messages: 1_000, bytes: 1_000_000 };
            self.connect(who, Receive::TakeOver(credit));
        }
        self.advance(3 * SECOND_MS);
        self.look_at_names();
        for who in 0..self.users.len() {
            match self.users[who].receiver {
                Some(link) if self.links.all[link].unacked.is_empty() => {}
                Some(_) => self.ledger.violation(format!("{who}'s mailbox has something left")),
                None => self.ledger.violation(format!("{who} can't log in at the end")),
            }
        }
    }
}
