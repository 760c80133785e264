//! What moves a name to another device: one protected file.
//!
//! Owns: its content, and what a home must be to give or take it. Its bytes are spec/crypto.md, "An
//! identity for another device". Must not know where the file lies, nor where its passphrase comes from.

use e2e_protocol::e2e::at_rest::{AtRestError, KeyParameters, StateKeys};
use e2e_protocol::e2e::{Identity, Peer, Profile};
use e2e_protocol::ids::{Modulus, Name, RelayId, Uid};
use e2e_protocol::login::check_modulus;
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use super::account::Registered;
use super::codec::{Reader, Writer};
use super::{Account, Folder, Key, PeerItem, StateError, Transaction};

/// The longest file that is taken for one, bytes; it holds one key and some 14,000 contacts.
pub const EXPORT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The path that its tag is for: no state file has it.
const PATH: &str = "export";

const VERSION: u8 = 1;

/// The version of the contacts' section.
const CONTACTS_VERSION: u8 = 1;

/// Bytes of one contact at most: its name with its length, its key, a mark.
const CONTACT_BYTES_MAX: usize = 4 + 32 + 256 + 1;

/// The version and length of an identity key as it is kept: modulus and two primes.
const IDENTITY_BYTES: usize = 1 + 256 + 2 * 128;

/// An identity on its way to another device.
pub struct Export {
    /// The name, and where it is registered.
    pub account: Account,
    /// The key that owns it.
    pub identity: Identity,
    /// Whose keys are pinned.
    pub contacts: Vec<PinnedContact>,
}

/// A contact's key, without anything that came of it.
pub struct PinnedContact {
    /// The name at the relay.
    pub name: Name,
    /// N(IK).
    pub key: Box<Modulus>,
    /// Whether its user compared the number.
    pub verified: bool,
}

/// Messages that stay behind in a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// On their way, without a receipt.
    pub outbox: usize,
    /// Received, and not printed.
    pub inbox: usize,
}

/// Why a home can't give or take an identity.
#[derive(Debug)]
pub enum ExportError {
    /// There is none, or its name is not registered.
    NotRegistered,
    /// The home has this one already, or a name that is being registered.
    NotEmpty(Account),
    /// The home has a key, and no name.
    HasKey,
    /// The file is none, or was cut off.
    Malformed,
    /// The file, or a part of it, has this version, which is newer.
    Newer(u8),
    /// The file asks for more work than any client ever wrote: its log2N.
    Cost(u8),
    /// The passphrase is wrong, or the file was changed.
    WrongPassphrase,
    /// The state can't be used.
    State(StateError),
}

impl From<StateError> for ExportError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<AtRestError> for ExportError {
    fn from(error: AtRestError) -> Self {
        match error {
            AtRestError::Malformed | AtRestError::OtherKeys => Self::Malformed,
            AtRestError::Cost(log2_n) => Self::Cost(log2_n),
            AtRestError::BadTag => Self::WrongPassphrase,
        }
    }
}

impl Export {
    /// The identity of a home, and how much does not go with it.
    ///
    /// # Errors
    /// [`ExportError::NotRegistered`], [`ExportError::State`].
    pub fn from_home(state: &Transaction<'_>) -> Result<(Self, LeftBehind), ExportError> {
        let account = Account::load(state)?.filter(|account| account.registered.is_some());
        let (Some(account), Some(identity)) = (account, state.read(&Key::Identity)?) else {
            return Err(ExportError::NotRegistered);
        };
        let identity = Identity::decode(&identity).map_err(|_| StateError::corrupt(&Key::Identity))?;
        let count = |folder| state.list(folder).map(|keys| keys.len());
        let left = LeftBehind { outbox: count(Folder::Outbox)?, inbox: count(Folder::Inbox)? };
        let mut contacts = Vec::new();
        for key in state.list(Folder::Peers)? {
            let (Key::Peer(name), Some(content)) = (key, state.read(&key)?) else { continue };
            let item = PeerItem::decode(&content, &name).ok_or_else(|| StateError::corrupt(&key))?;
            if let Some(pinned) = item.peer.identity() {
                let (key, verified) = (Box::new(*pinned), item.peer.is_verified());
                contacts.push(PinnedContact { name, key, verified });
            }
        }
        Ok((Self { account, identity, contacts }, left))
    }

    /// Checks that a home has no identity yet.
    ///
    /// # Errors
    /// [`ExportError::NotEmpty`], [`ExportError::HasKey`], [`ExportError::State`].
    pub fn check_empty(state: &Transaction<'_>) -> Result<(), ExportError> {
        if let Some(account) = Account::load(state)? {
            return Err(ExportError::NotEmpty(account));
        }
        if state.read(&Key::Identity)?.is_some() { Err(ExportError::HasKey) } else { Ok(()) }
    }

    /// Puts it into a home that has none.
    ///
    /// # Errors
    /// As [`Self::check_empty`].
    pub fn put_into(&self, state: &mut Transaction<'_>) -> Result<(), ExportError> {
        Self::check_empty(state)?;
        state.write(Key::Identity, self.identity.encode());
        self.account.store(state);
        for PinnedContact { name, key, verified } in &self.contacts {
            let item = PeerItem { uid: Uid::NONE, peer: Peer::pinned(*name, key, *verified) };
            state.write(Key::Peer(*name), item.encode());
        }
        Ok(())
    }

    /// The file, with a salt of its own. Some 0.1 s.
    ///
    /// # Errors
    /// [`ExportError::NotRegistered`], [`ExportError::Cost`].
    pub fn seal(
        &self,
        passphrase: &[u8],
        parameters: KeyParameters,
        rng: &mut ChaCha20Rng,
    ) -> Result<Vec<u8>, ExportError> {
        let registered = self.account.registered.ok_or(ExportError::NotRegistered)?;
        let keys = StateKeys::derive(passphrase, parameters)?;
        let mut out = Writer::with_capacity(1_024 + CONTACT_BYTES_MAX * self.contacts.len());
        out.u8(VERSION);
        out.name(&self.account.name);
        out.array(&self.identity.encode());
        out.array(&registered.relay_id.0);
        out.u64(registered.uid.0);
        out.u8(self.account.profile as u8);
        out.u8(CONTACTS_VERSION);
        out.u32(u32::try_from(self.contacts.len()).unwrap_or(u32::MAX));
        for PinnedContact { name, key, verified } in &self.contacts {
            out.name(name);
            out.array(key.as_slice());
            out.bool(*verified);
        }
        Ok(keys.seal(PATH, &out.finish(), rng))
    }

    /// Reads a file that [`Self::seal`] made. Takes as long as the file says, at most some seconds.
    ///
    /// # Errors
    /// [`ExportError`]: `Malformed`, `Newer`, `Cost`, `WrongPassphrase`.
    pub fn open(file: &[u8], passphrase: &[u8]) -> Result<Self, ExportError> {
        let keys = StateKeys::derive(passphrase, KeyParameters::of(file)?)?;
        let content: Zeroizing<Vec<u8>> = keys.open(PATH, file)?;
        let mut reader = Reader::new(&content);
        match reader.u8() {
            Some(VERSION) => {}
            Some(version) if version > VERSION => return Err(ExportError::Newer(version)),
            _ => return Err(ExportError::Malformed),
        }
        let export = Self::decode(&mut reader).ok_or(ExportError::Malformed)?;
        match reader.u8() {
            Some(CONTACTS_VERSION) => {}
            // Leaving pins out would be believing strangers.
            Some(version) if version > CONTACTS_VERSION => return Err(ExportError::Newer(version)),
            _ => return Err(ExportError::Malformed),
        }
        let contacts = decode_contacts(&mut reader).ok_or(ExportError::Malformed)?;
        reader.end(Self { contacts, ..export }).ok_or(ExportError::Malformed)
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let name = reader.name()?;
        let identity = Zeroizing::new(reader.array::<IDENTITY_BYTES>()?);
        let registered = Registered { relay_id: RelayId(reader.array()?), uid: Uid(reader.u64()?) };
        let profile = Profile::from_u8(reader.u8()?)?;
        let account = Account { name, profile, registered: Some(registered) };
        Some(Self { account, identity: Identity::decode(identity.as_slice()).ok()?, contacts: Vec::new() })
    }
}

/// Memory is taken for what is there, not for what the count says.
fn decode_contacts(reader: &mut Reader<'_>) -> Option<Vec<PinnedContact>> {
    let mut contacts = Vec::new();
    for _ in 0..reader.u32()? {
        let (name, key, verified) = (reader.name()?, Box::new(reader.array::<256>()?), reader.bool()?);
        check_modulus(&key).ok()?;
        contacts.push(PinnedContact { name, key, verified });
    }
    Some(contacts)
}
