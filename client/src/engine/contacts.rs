//! Contacts: what is kept of the people that one writes with, and comparing keys with them.
//!
//! Owns: reading them as a list, and the mark `verified`. Which key is theirs, and when it may change, is
//! the end-to-end layer's (spec/crypto.md, "People").

use e2e_protocol::e2e::comparison_number;
use e2e_protocol::ids::{Fingerprint, Name};

use super::Turn;
use crate::state::{Account, Folder, Key, StateError};

/// One contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The name at the relay.
    pub name: Name,
    /// The pinned key.
    pub pin: Fingerprint,
    /// Whether the user compared the number.
    pub verified: bool,
    /// Another key that the directory shows: nothing passes until it is accepted.
    pub changed: Option<Fingerprint>,
    /// Messages that were skipped and may still come.
    pub missing: usize,
}

impl Turn<'_> {
    /// All contacts with a pinned key, by name.
    ///
    /// # Errors
    /// [`StateError`] if one can't be read.
    pub fn contacts(&mut self) -> Result<Vec<Contact>, StateError> {
        let mut contacts = Vec::new();
        for key in self.state.list(Folder::Peers)? {
            if let Key::Peer(name) = key {
                contacts.extend(self.contact(&name)?);
            }
        }
        Ok(contacts)
    }

    /// One contact; `None` if no key is pinned for the name.
    ///
    /// # Errors
    /// [`StateError`] if it can't be read.
    pub fn contact(&mut self, name: &Name) -> Result<Option<Contact>, StateError> {
        let peer = &self.peer(name)?.0.peer;
        Ok(peer.pin().map(|pin| Contact {
            name: *name,
            pin,
            verified: peer.is_verified(),
            changed: peer.changed(),
            missing: peer.missing(),
        }))
    }

    /// The 60 digits to compare with a contact; `None` if no key is pinned, or one's own is not made.
    ///
    /// # Errors
    /// [`StateError`] if the state can't be read.
    pub fn number_with(&mut self, name: &Name) -> Result<Option<String>, StateError> {
        let (Some(identity), Some(account)) = (self.identity()?, Account::load(&self.state)?) else {
            return Ok(None);
        };
        let own = (identity.modulus(), &account.name);
        Ok(self.peer(name)?.0.peer.identity().map(|theirs| comparison_number(own, (theirs, name))))
    }

    /// The user compared the number with the contact: marks its key.
    ///
    /// # Errors
    /// [`StateError`] if the contact can't be read.
    pub fn set_verified(&mut self, name: &Name) -> Result<(), StateError> {
        self.peer(name)?.0.peer.set_verified();
        Ok(())
    }
}
