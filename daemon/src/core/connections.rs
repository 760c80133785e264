//! The table of connections.
//!
//! Owns: places and their generations, so that an id never names two connections.

use super::ConnId;
use super::addresses::Addresses;
use super::connection::Connection;

/// The table of connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<(u32, Option<Connection>)>,
    free: Vec<u32>,
    /// Those that have not logged in.
    pub(super) before_login: usize,
    /// How many each source address has.
    pub(super) addresses: Addresses,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, connection: Connection) -> ConnId {
        self.before_login += 1;
        if let Some(index) = self.free.pop()
            && let Some((generation, slot)) = self.slots.get_mut(index as usize)
        {
            *slot = Some(connection);
            return ConnId { index, generation: *generation };
        }
        self.slots.push((0, Some(connection)));
        // As many sockets as this can't be open.
        ConnId { index: u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX), generation: 0 }
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Connection> {
        if let Some((generation, slot)) = self.slots.get_mut(id.index as usize)
            && *generation == id.generation
            && let Some(connection) = slot.take()
        {
            self.addresses.close(connection.address);
            *generation = generation.wrapping_add(1);
            self.free.push(id.index);
            return Some(connection);
        }
        None
    }

    /// One of those that have not logged in has, or ends before.
    pub(super) fn leave_login(&mut self, id: ConnId) {
        self.before_login = self.before_login.saturating_sub(1);
        if let Some(address) = self.get(id).map(|connection| connection.address) {
            self.addresses.leave_login(address, id);
        }
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Connection> {
        let (generation, connection) = self.slots.get(id.index as usize)?;
        if *generation == id.generation { connection.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let (generation, connection) = self.slots.get_mut(id.index as usize)?;
        if *generation == id.generation { connection.as_mut() } else { None }
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        (0..)
            .zip(&self.slots)
            .filter(|(_, (_, connection))| connection.is_some())
            .map(|(index, (generation, _))| ConnId { index, generation: *generation })
            .collect()
    }
}
