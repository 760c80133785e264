//! The table of names: who is registered, found by slot for every message and by name once a lookup.
//!
//! Owns: slots, generations, and what is kept in memory for each user. Must not know frames. Keys and
//! prekeys stay in the store.

use e2e_protocol::ids::{Fingerprint, KeyId, Name, Sequence, Uid};

use super::ConnId;
use super::lane::{LaneState, Lanes};
use super::mailbox::Mailbox;
use super::names::Names;
use super::ring::Pool;
use crate::store::{PrekeyCount, Snapshot};

/// One registered user.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: Name,
    pub(crate) generation: u32,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) prekeys: PrekeyCount,
    /// On disk: until then nobody can log in with it or write to it.
    pub(crate) registered: bool,
    pub(crate) connections: u8,
    /// Bytes of what it sent and waits in mailboxes, all together.
    pub(crate) waiting_bytes: u64,
    /// The one connection that receives.
    pub(crate) receiver: Option<ConnId>,
    /// What only users with something under way have.
    pub(crate) active: Option<Box<Active>>,
    /// The last sequence given, while there is no mailbox to know it.
    last_sequence: Sequence,
}

/// What is kept for a user who sends or has messages.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) mailbox: Mailbox,
    pub(crate) lanes: Lanes,
}

impl User {
    /// The mailbox and lanes, made if need be.
    pub(crate) fn activate(&mut self) -> &mut Active {
        let last = self.last_sequence;
        self.active
            .get_or_insert_with(|| Box::new(Active { mailbox: Mailbox::new(last), lanes: Lanes::default() }))
    }

    /// The mailbox, if there is one.
    pub(crate) fn mailbox(&mut self) -> Option<&mut Mailbox> {
        self.active.as_mut().map(|active| &mut active.mailbox)
    }

    /// One of the lanes.
    pub(crate) fn lane(&mut self, position: usize) -> Option<&mut LaneState> {
        self.active.as_mut()?.lanes.at(position)
    }

    /// Forgets lanes and an empty mailbox; returns how many lanes there were.
    pub(crate) fn deactivate(&mut self) -> usize {
        let Some(active) = &mut self.active else { return 0 };
        let lanes = std::mem::take(&mut active.lanes).len();
        if active.mailbox.is_empty() {
            self.last_sequence = active.mailbox.last;
            self.active = None;
        }
        lanes
    }

    /// The name is another key's now, and starts with nothing; its mailbox was empty. Returns how many lanes
    /// are forgotten.
    pub(crate) fn roll_over(&mut self, uid: Uid, fingerprint: Fingerprint, pool: &mut Pool) -> usize {
        debug_assert!(self.connections == 0, "every connection was ended before");
        (self.generation, self.fingerprint, self.prekeys) = (uid.generation(), fingerprint, NO_PREKEYS);
        self.waiting_bytes = 0;
        let Some(active) = self.active.take() else { return 0 };
        let Active { mut mailbox, lanes } = *active;
        debug_assert!(mailbox.messages == 0 && mailbox.spill.is_none(), "nothing came to it meanwhile");
        // Sequences go on, so that none is given twice whoever owns the name.
        self.last_sequence = mailbox.last;
        mailbox.ring.release(mailbox.ring.tail(), pool);
        lanes.len()
    }
}

/// Of who has published none.
const NO_PREKEYS: PrekeyCount = PrekeyCount { signed_prekey: KeyId::ZERO, one_time_left: 0 };

/// Everybody who is registered.
#[derive(Debug)]
pub(crate) struct Users {
    slots: Vec<Option<User>>,
    by_name: Names,
    free: Vec<u32>,
    /// Sequences of this start of the relay are above this one.
    sequence_base: Sequence,
}

/// Sequences count from the number of the relay's start in the upper 24 bits, so that none is given
/// twice although the last one given is not stored.
const SEQUENCE_BOOT_SHIFT: u32 = 40;

impl Users {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let sequence_base = Sequence(u64::from(snapshot.boot) << SEQUENCE_BOOT_SHIFT);
        let count = snapshot.users.iter().map(|user| user.slot as usize + 1).max().unwrap_or(0);
        let mut slots = Vec::with_capacity(count);
        slots.resize_with(count, || None);
        let by_name = Names::with_capacity(snapshot.users.len());
        let mut users = Self { slots, by_name, free: Vec::new(), sequence_base };
        for stored in &snapshot.users {
            let user = User {
                name: stored.name,
                generation: stored.generation,
                fingerprint: stored.fingerprint,
                prekeys: stored.prekeys,
                registered: true,
                connections: 0,
                waiting_bytes: 0,
                receiver: None,
                active: None,
                last_sequence: sequence_base,
            };
            users.by_name.insert(&stored.name, stored.slot);
            if let Some(place) = users.slots.get_mut(stored.slot as usize) {
                *place = Some(user);
            }
        }
        for stored in &snapshot.mailboxes {
            if let Some(user) = users.at(stored.slot) {
                let mailbox = Mailbox::stored(
                    stored.acked,
                    stored.durable,
                    sequence_base,
                    stored.messages,
                    stored.bytes,
                );
                user.active = Some(Box::new(Active { mailbox, lanes: Lanes::default() }));
            }
        }
        for stored in &snapshot.shares {
            if let Some(mailbox) = users.at(stored.slot).and_then(User::mailbox) {
                mailbox.shares.charge(stored.sender, stored.messages, stored.bytes);
                if let Some(sender) = users.with_uid(stored.sender) {
                    sender.waiting_bytes += stored.bytes;
                }
            }
        }
        users.free =
            (0..).zip(&users.slots).filter(|(_, user)| user.is_none()).map(|(slot, _)| slot).collect();
        users
    }

    pub(crate) fn count(&self) -> usize {
        self.by_name.len()
    }

    /// The user in a slot.
    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut User> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The user with a uid: the very holder of the slot that was meant.
    pub(crate) fn with_uid(&mut self, uid: Uid) -> Option<&mut User> {
        self.at(uid.slot()).filter(|user| user.registered && user.generation == uid.generation())
    }

    /// The slot of a name, registered or about to be.
    pub(crate) fn slot_of(&self, name: &Name) -> Option<u32> {
        let user = |slot: u32| self.slots.get(slot as usize)?.as_ref();
        self.by_name.slot_of(name, |slot| user(slot).is_some_and(|user| user.name == *name))
    }

    /// The slot of a name that somebody has.
    pub(crate) fn registered_slot_of(&mut self, name: &Name) -> Option<u32> {
        let slot = self.slot_of(name)?;
        self.at(slot).filter(|user| user.registered).map(|_| slot)
    }

    /// Something of a sender's does not wait in any mailbox any more.
    pub(crate) fn give_back(&mut self, sender: Uid, bytes: u64) {
        if let Some(user) = self.with_uid(sender) {
            user.waiting_bytes = user.waiting_bytes.saturating_sub(bytes);
        }
    }

    pub(crate) fn uid(&mut self, slot: u32) -> Uid {
        self.at(slot).map_or(Uid::NONE, |user| Uid::new(slot, user.generation))
    }

    /// Sets a slot aside for a name that is about to be registered.
    pub(crate) fn reserve(&mut self, name: Name, fingerprint: Fingerprint, generation: u32) -> Option<u32> {
        debug_assert!(self.slot_of(&name).is_none(), "only a name that nobody has is set aside");
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).ok()?
            }
        };
        let user = User {
            name,
            generation,
            fingerprint,
            prekeys: NO_PREKEYS,
            registered: false,
            connections: 0,
            waiting_bytes: 0,
            receiver: None,
            active: None,
            last_sequence: self.sequence_base,
        };
        self.by_name.insert(&name, slot);
        *self.slots.get_mut(slot as usize)? = Some(user);
        Some(slot)
    }

    /// Gives a slot back whose registration failed.
    pub(crate) fn unreserve(&mut self, slot: u32) {
        if let Some(user) = self.slots.get_mut(slot as usize).and_then(Option::take) {
            debug_assert!(!user.registered, "only a slot that nobody owns is given back");
            self.by_name.remove(&user.name, slot);
            self.free.push(slot);
        }
    }

    /// Nobody has this name any more; its mailbox was empty. Returns the name, and how many lanes are forgotten.
    pub(crate) fn remove(&mut self, slot: u32, pool: &mut Pool) -> Option<(Name, usize)> {
        let mut user = self.slots.get_mut(slot as usize)?.take()?;
        let (uid, fingerprint) = (Uid::new(slot, user.generation), user.fingerprint);
        let lanes = user.roll_over(uid, fingerprint, pool);
        self.by_name.remove(&user.name, slot);
        // Who gets the slot next goes on after the sequences that were given in it.
        self.sequence_base = self.sequence_base.max(user.last_sequence);
        self.free.push(slot);
        Some((user.name, lanes))
    }

    /// Pairs of a mailbox and somebody of whom something waits in it.
    pub(crate) fn shares(&self) -> usize {
        (0..self.slots()).filter_map(|slot| self.mailbox(slot)).map(|mailbox| mailbox.shares.len()).sum()
    }

    /// How many slots there are, used or not.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// The mailbox of a slot, to look at.
    pub(crate) fn mailbox(&self, slot: u32) -> Option<&Mailbox> {
        let user = self.slots.get(slot as usize)?.as_ref()?;
        user.active.as_ref().map(|active| &active.mailbox)
    }
}
