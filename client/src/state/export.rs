//! What moves a name to another device: one protected file.
//!
//! Owns: its content, and what a home must be to give or take it. Its bytes are spec/crypto.md, "An
//! identity for another device". Must not know where the file lies, nor where its passphrase comes from.

use e2e_protocol::e2e::Identity;
use e2e_protocol::e2e::at_rest::{AtRestError, KeyParameters, StateKeys};
use e2e_protocol::ids::{RelayId, Uid};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use super::account::Registered;
use super::codec::{Reader, Writer};
use super::{Account, Folder, Key, StateError, Transaction};

/// The longest file that is taken for one, bytes; it holds one key and, once there are any, contacts.
pub const EXPORT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The path that its tag is for: no state file has it.
const PATH: &str = "export";

const VERSION: u8 = 1;

/// The version of the section for contacts: there are none.
const NO_CONTACTS: u8 = 0;

/// The version and length of an identity key as it is kept: modulus and two primes.
const IDENTITY_BYTES: usize = 1 + 256 + 2 * 128;

/// An identity on its way to another device.
pub struct Export {
    /// The name, and where it is registered.
    pub account: Account,
    /// The key that owns it.
    pub identity: Identity,
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
        Ok((Self { account, identity }, left))
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
        let mut out = Writer::with_capacity(1_024);
        out.u8(VERSION);
        out.name(&self.account.name);
        out.array(&self.identity.encode());
        out.array(&registered.relay_id.0);
        out.u64(registered.uid.0);
        out.u8(NO_CONTACTS);
        out.u32(0);
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
        match (reader.u8(), reader.u32()) {
            (Some(NO_CONTACTS), Some(0)) => reader.end(export).ok_or(ExportError::Malformed),
            // Leaving pins out would be believing strangers.
            (Some(version), _) if version > NO_CONTACTS => Err(ExportError::Newer(version)),
            _ => Err(ExportError::Malformed),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let name = reader.name()?;
        let identity = Zeroizing::new(reader.array::<IDENTITY_BYTES>()?);
        let registered = Registered { relay_id: RelayId(reader.array()?), uid: Uid(reader.u64()?) };
        let account = Account { name, registered: Some(registered) };
        Some(Self { account, identity: Identity::decode(identity.as_slice()).ok()? })
    }
}
