//! Who this home is, and at which relay.
//!
//! Owns: the content of the file `account`. The keys are in files of their own.

use e2e_protocol::e2e::Profile;
use e2e_protocol::ids::{Name, RelayId, Uid};

use super::codec::{Reader, Writer};
use super::{Key, StateError, Transaction};

/// The own name, and where it stands with the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name that was claimed, or is to be.
    pub name: Name,
    /// How its owner wants to be sent to.
    pub profile: Profile,
    /// Where it is claimed, once the relay said so.
    pub registered: Option<Registered>,
}

/// A claimed name. A home belongs to one relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The relay's id, pinned.
    pub relay_id: RelayId,
    /// The own uid there.
    pub uid: Uid,
}

impl Account {
    /// The home's account; `None` in a new home.
    ///
    /// # Errors
    /// [`StateError`] if the file can't be read.
    pub fn load(state: &Transaction<'_>) -> Result<Option<Self>, StateError> {
        let Some(content) = state.read(&Key::Account)? else { return Ok(None) };
        Self::decode(&content).map(Some).ok_or_else(|| StateError::corrupt(&Key::Account))
    }

    /// Keeps it.
    pub fn store(&self, state: &mut Transaction<'_>) {
        let mut out = Writer::with_capacity(96);
        out.name(&self.name);
        out.u8(self.profile as u8);
        out.bool(self.registered.is_some());
        if let Some(registered) = &self.registered {
            out.array(&registered.relay_id.0);
            out.u64(registered.uid.0);
        }
        state.write(Key::Account, out.finish());
    }

    fn decode(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let name = reader.name()?;
        let profile = Profile::from_u8(reader.u8()?)?;
        let registered = match reader.bool()? {
            false => None,
            true => Some(Registered { relay_id: RelayId(reader.array()?), uid: Uid(reader.u64()?) }),
        };
        reader.end(Self { name, profile, registered })
    }
}
