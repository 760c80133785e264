//! The table of connections.
//!
//! Owns: places and their generations, so that an id never names two connections.

use std::num::NonZeroU32;

use super::ConnId;
use super::addresses::Addresses;
use super::connection::Connection;
use crate::address::AddressKey;

/// The table of connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Vec<Place>,
    free: Vec<u32>,
    /// Those that have not logged in.
    pub(super) before_login: usize,
    /// How many each source address has.
    pub(super) addresses: Addresses,
}

#[derive(Debug)]
pub(super) enum Place {
    /// Who comes next has this generation.
    Free(NonZeroU32),
    Taken(Connection),
}

// One line of a processor's cache.
const _: () = assert!(size_of::<Place>() <= 64, "a connection has grown");

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, address: AddressKey, now_ms: u64) -> ConnId {
        self.before_login += 1;
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
            && let Place::Free(generation) = *place
        {
            *place = Place::Taken(Connection::new(generation, address, now_ms));
            return ConnId { index, generation };
        }
        let generation = NonZeroU32::MIN;
        self.places.push(Place::Taken(Connection::new(generation, address, now_ms)));
        // As many sockets as this can't be open.
        ConnId { index: u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX), generation }
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Connection> {
        self.get(id)?;
        let place = self.places.get_mut(id.index as usize)?;
        let next = Place::Free(id.generation.checked_add(1).unwrap_or(NonZeroU32::MIN));
        let Place::Taken(connection) = std::mem::replace(place, next) else { return None };
        self.addresses.close(connection.address);
        self.free.push(id.index);
        Some(connection)
    }

    /// One of those that have not logged in has, or ends before.
    pub(super) fn leave_login(&mut self, id: ConnId) {
        self.before_login = self.before_login.saturating_sub(1);
        if let Some(address) = self.get(id).map(|connection| connection.address) {
            self.addresses.leave_login(address, id);
        }
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Connection> {
        match self.places.get(id.index as usize)? {
            Place::Taken(connection) if connection.generation == id.generation => Some(connection),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        match self.places.get_mut(id.index as usize)? {
            Place::Taken(connection) if connection.generation == id.generation => Some(connection),
            _ => None,
        }
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        (0..)
            .zip(&self.places)
            .filter_map(|(index, place)| match place {
                Place::Taken(connection) => Some(ConnId { index, generation: connection.generation }),
                Place::Free(_) => None,
            })
            .collect()
    }
}
