//! A model of the client: one user's home, and while it runs a process with or without a connection.
//!
//! Owns: processes, transactions and what interrupts them, copies of the home, and the clock. What a
//! process does is in `dispatch` and `mailbox`, after client/src/engine. Must not know what should come
//! out (`checks`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use e2e_protocol::e2e::{CryptoRng, PreambleMemory, Profile, RatchetKeys};
use e2e_protocol::ids::{Lane, Number};

use super::checks::{Checks, Effect};
use super::dispatch::Progress;
use super::frames::{Down, Own, Up};
use super::home::{Home, Id, Turn};
use super::keys::{KeySource, beginning};
use super::mailbox::Decrypted;
use super::{START_MS, Who};
use crate::dice::Dice;

/// Copies of a home that are kept, to be put back.
const COPIES_MAX: usize = 6;
/// One in so many commits is copied.
const COPY_ONE_IN: u64 = 6;

pub(super) struct Client {
    pub(super) who: Who,
    pub(super) profile: Profile,
    pub(super) home: Home,
    pub(super) process: Option<Process>,
    /// Grows whenever the home is replaced by another one: what was unique before may come again.
    pub(super) generation: u32,
    /// How far the clock is ahead.
    pub(super) clock_ms: i64,
    /// Whether a key is only at hand when nothing goes on without.
    pub(super) lazy: bool,
    pub(super) copies: Vec<Home>,
    pub(super) keeps_copies: bool,
    /// After so many more commits the process dies, before or after it.
    pub(super) crash: Option<(u32, Crash)>,
    /// What was opened: from whom, and the envelope. For the thief.
    pub(super) opened: Vec<(Who, Vec<u8>)>,
    keys: KeySource,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// Nothing is kept.
    BeforeCommit,
    /// All is kept, nothing goes out.
    AfterCommit,
}

/// What dies with a process.
pub(super) struct Process {
    pub(super) connected: bool,
    /// Logged in.
    pub(super) ready: bool,
    lane: Lane,
    last_number: u64,
    pub(super) tracked: BTreeMap<Id, Progress>,
    pub(super) asked: BTreeSet<Who>,
    pub(super) preambles: PreambleMemory,
    pub(super) decrypted: Decrypted,
    pub(super) publishing: bool,
    pub(super) next_ask_ms: Option<u64>,
    /// What the relay last said, and until when nothing follows from it.
    pub(super) planned: Option<(Own, u64)>,
    pub(super) queued: usize,
    pub(super) drained: bool,
}

/// What a transaction works with.
pub(super) struct Work<'a> {
    pub(super) who: Who,
    pub(super) profile: Profile,
    pub(super) now_ms: u64,
    pub(super) turn: Turn<'a>,
    pub(super) dice: &'a mut Dice,
    pub(super) checks: &'a mut Checks,
    pub(super) effects: Vec<Effect>,
    pub(super) up: Vec<Up>,
    pub(super) keys: &'a mut KeySource,
    pub(super) generation: u32,
    lazy: bool,
}

/// What a client is called with.
pub(super) struct Outside<'a> {
    pub(super) now_ms: u64,
    pub(super) dice: &'a mut Dice,
    pub(super) checks: &'a mut Checks,
}

impl Client {
    pub(super) fn new(who: Who, profile: Profile, dice: &mut Dice) -> Self {
        let prekeys = Arc::clone(&beginning(who, profile).prekeys);
        Self {
            who,
            profile,
            home: Home::with_prekeys(prekeys),
            process: None,
            generation: 0,
            clock_ms: 0,
            lazy: false,
            copies: Vec::new(),
            keeps_copies: false,
            crash: None,
            opened: Vec::new(),
            keys: KeySource::new(dice),
        }
    }

    pub(super) fn local_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.clock_ms)
    }

    /// When something has to be done, by the world's clock.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let process = self.process.as_ref().filter(|process| process.ready)?;
        let due = process.next_due_ms()?;
        Some(due.saturating_add_signed(-self.clock_ms).max(START_MS))
    }

    pub(super) fn is_online(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.connected)
    }

    /// Starts a process, which takes over what the last one left.
    pub(super) fn start(&mut self, outside: &mut Outside<'_>) {
        let lane = Lane(u64::from_be_bytes(outside.dice.bytes()));
        let mut process = Process {
            connected: false,
            ready: false,
            lane,
            last_number: 0,
            tracked: BTreeMap::new(),
            asked: BTreeSet::new(),
            preambles: PreambleMemory::new(),
            decrypted: Decrypted::default(),
            publishing: false,
            next_ask_ms: None,
            planned: None,
            queued: 0,
            drained: false,
        };
        process.adopt(&self.home, self.local_ms(outside.now_ms));
        self.process = Some(process);
        self.show(outside);
    }

    pub(super) fn connect(&mut self) {
        if let Some(process) = &mut self.process {
            process.connected = true;
        }
    }

    pub(super) fn disconnect(&mut self) {
        if let Some(process) = &mut self.process {
            process.disconnected();
        }
    }

    pub(super) fn handle(&mut self, frame: Down, outside: &mut Outside<'_>) -> Vec<Up> {
        self.transact(outside, |process, work| process.handle(work, frame))
    }

    pub(super) fn handle_time(&mut self, outside: &mut Outside<'_>) -> Vec<Up> {
        self.transact(outside, Process::handle_time)
    }

    pub(super) fn write(&mut self, to: Who, body: Vec<u8>, outside: &mut Outside<'_>) -> Vec<Up> {
        self.transact(outside, |process, work| process.write(work, to, body))
    }

    fn transact(
        &mut self,
        outside: &mut Outside<'_>,
        run: impl FnOnce(&mut Process, &mut Work<'_>),
    ) -> Vec<Up> {
        let now_ms = self.local_ms(outside.now_ms);
        let Some(process) = &mut self.process else { return Vec::new() };
        let mut work = Work {
            who: self.who,
            profile: self.profile,
            now_ms,
            turn: Turn::new(&self.home),
            dice: outside.dice,
            checks: outside.checks,
            effects: Vec::new(),
            up: Vec::new(),
            keys: &mut self.keys,
            generation: self.generation,
            lazy: self.lazy,
        };
        run(process, &mut work);
        let Work { turn, effects, up, .. } = work;
        let changes = turn.finish();
        let crash = self.crash_now();
        if crash == Some(Crash::BeforeCommit) {
            self.process = None;
            return Vec::new();
        }
        self.home.apply(changes);
        for effect in effects {
            outside.checks.committed(self.who, self.generation, &effect, outside.now_ms);
            if let Effect::Opened { from, envelope, .. } = effect {
                self.opened.push((from, envelope));
            }
        }
        if self.keeps_copies && outside.dice.below(COPY_ONE_IN) == 0 {
            if self.copies.len() >= COPIES_MAX {
                let at = outside.dice.index(COPIES_MAX);
                self.copies.swap_remove(at);
            }
            self.copies.push(self.home.clone());
        }
        if crash.is_some() {
            self.process = None;
            return Vec::new();
        }
        self.show(outside);
        up
    }

    fn crash_now(&mut self) -> Option<Crash> {
        let (commits, crash) = self.crash.as_mut()?;
        if *commits > 0 {
            *commits -= 1;
            return None;
        }
        let crash = *crash;
        self.crash = None;
        Some(crash)
    }

    /// What is in the inbox is shown and erased.
    fn show(&mut self, outside: &mut Outside<'_>) {
        for message in std::mem::take(&mut self.home.inbox) {
            outside.checks.shown(self.who, &message, &self.home.shown);
            Arc::make_mut(&mut self.home.shown).insert(message.id);
        }
    }
}

impl Process {
    pub(super) fn next_id(&mut self) -> Id {
        self.last_number += 1;
        (self.lane, Number(self.last_number))
    }
}

impl Work<'_> {
    /// Sees that a ratchet key is at hand, as upkeep does in idle time: making one now would take longer
    /// than all else. A lazy client has one only where nothing goes on without.
    pub(super) fn provide_ratchet(&mut self, is_needed: impl FnOnce(&mut Self) -> bool) {
        if self.turn.ratchets().is_ready() || (self.lazy && !is_needed(self)) {
            return;
        }
        let key = self.keys.ratchet();
        self.turn.ratchets().add(key);
        self.effects.push(Effect::MadeRatchet(*key.modulus()));
    }

    /// As many keys as would be used, to look ahead with.
    pub(super) fn ratchets_to_try(&self) -> RatchetKeys {
        let mut ratchets = RatchetKeys::new();
        ratchets.add(self.keys.next_ratchet());
        ratchets
    }

    pub(super) fn rng(&mut self) -> &mut (impl CryptoRng + use<>) {
        self.dice.rng()
    }
}
