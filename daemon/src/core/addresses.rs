//! How many connections each source address has, and whose turn it is when there are too many.
//!
//! Owns: the counts. An address is remembered while it has a connection, so that the table is bounded by the
//! connections. Must not know limits: the core compares. What an address may do in a time: `rates`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};

use super::ConnId;
use crate::address::AddressKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: HashMap<AddressKey, Address>,
    /// Addresses with connections that have not logged in: the one with the most of them last, of equals the one
    /// whose oldest has waited longest.
    ranks: BTreeSet<Rank>,
    opened: u64,
}

type Rank = (usize, Reverse<u64>, AddressKey);

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    /// Those that have not logged in, oldest first, each with its place in the order of all.
    before_login: VecDeque<(u64, ConnId)>,
}

impl Address {
    fn rank(&self, key: AddressKey) -> Option<Rank> {
        self.before_login.front().map(|(opened, _)| (self.before_login.len(), Reverse(*opened), key))
    }
}

impl Addresses {
    /// A connection was opened; returns how many this address has, and how many of them have not logged in.
    pub(super) fn open(&mut self, key: AddressKey, id: ConnId) -> (usize, usize) {
        self.opened += 1;
        let opened = self.opened;
        self.change(key, |address| {
            address.connections += 1;
            address.before_login.push_back((opened, id));
            (address.connections, address.before_login.len())
        })
    }

    /// It has logged in, or ends before.
    pub(super) fn leave_login(&mut self, key: AddressKey, id: ConnId) {
        self.change(key, |address| address.before_login.retain(|(_, waiting)| *waiting != id));
    }

    /// It is gone.
    pub(super) fn close(&mut self, key: AddressKey) {
        self.change(key, |address| address.connections = address.connections.saturating_sub(1));
    }

    /// Of those that have not logged in, the oldest of this address.
    pub(super) fn oldest_of(&self, key: AddressKey) -> Option<ConnId> {
        self.known.get(&key)?.before_login.front().map(|(_, id)| *id)
    }

    /// Of those that have not logged in, the oldest of the address that has the most.
    pub(super) fn oldest_of_the_worst(&self) -> Option<ConnId> {
        self.ranks.last().and_then(|(_, _, key)| self.oldest_of(*key))
    }

    fn change<T>(&mut self, key: AddressKey, change: impl FnOnce(&mut Address) -> T) -> T {
        let address = self.known.entry(key).or_default();
        let before = address.rank(key);
        let value = change(address);
        let after = address.rank(key);
        let is_gone = address.connections == 0;
        if before != after {
            before.map(|rank| self.ranks.remove(&rank));
            self.ranks.extend(after);
        }
        if is_gone {
            self.known.remove(&key);
        }
        value
    }
}
