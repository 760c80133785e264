//! A home under a passphrase: a disk whose files are protected, over one that holds them.
//!
//! Owns: that every file is opened when read and sealed when written, the marker that says so, and
//! setting, changing and removing the passphrase. The bytes of a protected file are the protocol's
//! (`e2e::at_rest`; spec/crypto.md, "At rest"). Must not know what is in the files, nor where the
//! passphrase comes from.
//!
//! The marker is the file `passphrase`: `version 1 | CRC-32 of the rest 4 | an empty protected file`.
//! Salt and cost are those of that file. If the CRC is right and the tag is not, it is the passphrase
//! that is wrong and not the file. A home without a marker is not protected; it has a vault, too, whose
//! files pass through as they are, so that a process notices when a passphrase is set beside it.
//!
//! A conversion is one redo file on the inner disk, with the last bytes of every file and the marker. Its
//! first byte tells it from a transaction's, protected or not, and it takes no keys to play it again:
//! who takes the lock next does, and finds then that its own keys are the old ones.

use std::cell::RefCell;
use std::io;

use e2e_protocol::e2e::at_rest::{AtRestError, KeyParameters, StateKeys};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use super::codec::{Reader, Writer};
use super::disk::{Disk, Guard};
use super::redo::{self, COMMIT, Change, Content};
use super::{Folder, Key, StateError, Transaction};

/// The marker.
pub const MARKER: &str = "passphrase";

const MARKER_VERSION: u8 = 1;

/// The first byte of a conversion's redo file. A transaction's has its version, 1, there, and a
/// protected one the length of a label, 10; a client that knows no passphrase takes it for newer.
const CONVERSION: u8 = 0xC5;

/// A redo file that was not finished. Of a conversion that removes the passphrase it holds
/// everything unprotected, and so must not lie about.
const UNFINISHED: &str = ".commit";

/// What protects a home: its marker and the keys.
pub struct Protection {
    marker: Content,
    keys: StateKeys,
}

impl Protection {
    /// A new one. Takes as long as `parameters` say, for [`KeyParameters::fresh`] some 0.1 s.
    ///
    /// # Errors
    /// [`StateError::Cost`].
    pub fn new(
        passphrase: &[u8],
        parameters: KeyParameters,
        rng: &mut ChaCha20Rng,
    ) -> Result<Self, StateError> {
        let keys = StateKeys::derive(passphrase, parameters).map_err(|error| refused(error, MARKER))?;
        let sealed = keys.seal(MARKER, &[], rng);
        let mut marker = Writer::with_capacity(sealed.len() + 5);
        marker.u8(MARKER_VERSION);
        marker.u32(crc32fast::hash(&sealed));
        marker.array(&sealed);
        Ok(Self { marker: marker.finish(), keys })
    }

    /// The one that a marker belongs to.
    fn unlock(marker: Content, passphrase: &[u8]) -> Result<Self, StateError> {
        let sealed = check_marker(&marker)?;
        let keys = KeyParameters::of(sealed).and_then(|parameters| StateKeys::derive(passphrase, parameters));
        let keys = keys.map_err(|error| refused(error, MARKER))?;
        keys.open(MARKER, sealed).map_err(|error| match error {
            AtRestError::BadTag => StateError::WrongPassphrase,
            error => refused(error, MARKER),
        })?;
        Ok(Self { marker, keys })
    }
}

/// The protected file in a marker that is whole.
fn check_marker(marker: &[u8]) -> Result<&[u8], StateError> {
    let corrupt = || StateError::Corrupt { path: MARKER.into() };
    let mut reader = Reader::new(marker);
    match reader.u8() {
        Some(MARKER_VERSION) => {}
        Some(version) if version > MARKER_VERSION => {
            return Err(StateError::Newer { path: MARKER.into(), version });
        }
        _ => return Err(corrupt()),
    }
    let crc = reader.u32();
    let sealed = marker.get(5..).unwrap_or_default();
    if crc != Some(crc32fast::hash(sealed)) {
        return Err(corrupt());
    }
    KeyParameters::of(sealed).map_err(|error| refused(error, MARKER))?;
    Ok(sealed)
}

fn refused(error: AtRestError, path: &str) -> StateError {
    match error {
        AtRestError::Cost(log2_n) => StateError::Cost { path: path.into(), log2_n },
        _ => StateError::Corrupt { path: path.into() },
    }
}

/// A disk under a passphrase, or under none.
pub struct Vault<D> {
    inner: D,
    protection: Option<Protection>,
    rng: RefCell<ChaCha20Rng>,
}

impl<D: Disk> Vault<D> {
    /// Opens a home; finishes what a crash left of a conversion. `ask` is called if the home has a passphrase,
    /// while nothing is locked.
    ///
    /// # Errors
    /// What `ask` says; [`StateError::WrongPassphrase`]; what the disk says.
    pub fn open<E: From<StateError>>(
        inner: D,
        rng: ChaCha20Rng,
        ask: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<Self, E> {
        let protection = match read_marker(&inner)? {
            None => None,
            Some(marker) => {
                check_marker(&marker)?;
                Some(Protection::unlock(marker, &ask()?)?)
            }
        };
        Ok(Self { inner, protection, rng: RefCell::new(rng) })
    }

    /// Whether the home has a passphrase.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.protection.is_some()
    }

    /// Protects every file with `to` from now on, or no file any more: all of them or, whatever
    /// crashes when, none. Takes the memory of everything in the home, twice.
    ///
    /// # Errors
    /// [`StateError::Busy`] if another process of this home is at something; [`StateError`] otherwise. It
    /// may or may not have happened then, but for `Busy`; the next [`Vault::open`] finishes what had begun.
    pub fn convert(&mut self, to: Option<Protection>) -> Result<(), StateError> {
        let state = Transaction::begin(self)?;
        state.sweep()?;
        for lane in state.list(Folder::Lanes)? {
            // Lanes are claimed under the lock only: who has none yet will find its keys changed.
            if state.claim(&lane)?.is_none() {
                return Err(StateError::Busy);
            }
        }
        let mut changes: Vec<Change> = Vec::new();
        for folder in Folder::ALL.into_iter().filter(|folder| *folder != Folder::Lanes) {
            for key in state.list(folder)? {
                changes.extend(self.converted(key.path(), to.as_ref())?);
            }
        }
        changes.push((MARKER.into(), to.as_ref().map(|protection| protection.marker.clone())));
        redo::commit(&self.inner, CONVERSION, &changes)?;
        drop(state);
        self.protection = to;
        Ok(())
    }

    /// A file as it is to be; none if it has just gone.
    fn converted(&self, path: String, to: Option<&Protection>) -> Result<Option<Change>, StateError> {
        let content = self.read(&path).map_err(StateError::io("read", &path))?;
        Ok(content.map(|content| {
            let last = match to {
                None => content,
                Some(to) => Zeroizing::new(to.keys.seal(&path, &content, &mut *self.rng.borrow_mut())),
            };
            (path, Some(last))
        }))
    }

    fn marker(&self) -> Option<&[u8]> {
        self.protection.as_ref().map(|protection| protection.marker.as_slice())
    }
}

/// The marker as it is once a conversion that was cut off is finished or forgotten.
fn read_marker(disk: &impl Disk) -> Result<Option<Content>, StateError> {
    let _lock = disk.lock().map_err(StateError::io("lock", "lock"))?;
    finish_conversion(disk)?;
    let top = Folder::Top.path();
    if disk.list(top).map_err(StateError::io("list", top))?.iter().any(|name| name == UNFINISHED) {
        disk.remove(UNFINISHED).map_err(StateError::io("remove", UNFINISHED))?;
        disk.sync(top).map_err(StateError::io("sync", top))?;
    }
    disk.read(MARKER).map_err(StateError::io("read", MARKER))
}

/// Plays a conversion again that was cut off once it had happened. For who holds the lock.
fn finish_conversion(disk: &dyn Disk) -> Result<(), StateError> {
    match disk.read(COMMIT).map_err(StateError::io("read", COMMIT))? {
        Some(redo) if redo.first() == Some(&CONVERSION) => {
            let ours = |path: &str| path == MARKER || Key::from_path(path).is_some();
            redo::play_again(disk, &redo::decode(&redo, CONVERSION, ours)?)
        }
        _ => Ok(()),
    }
}

/// The name that a file has once it is written: its tag is for that one.
fn final_path(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, file)) => format!("{folder}/{}", file.strip_prefix('.').unwrap_or(file)),
        None => path.strip_prefix('.').unwrap_or(path).to_owned(),
    }
}

impl<D: Disk> Disk for Vault<D> {
    fn lock(&self) -> io::Result<Box<dyn Guard>> {
        let guard = self.inner.lock()?;
        finish_conversion(&self.inner)?;
        let marker = self.inner.read(MARKER)?;
        if marker.as_ref().map(|marker| marker.as_slice()) != self.marker() {
            return Err(StateError::KeysChanged.into());
        }
        Ok(guard)
    }

    fn claim(&self, path: &str) -> io::Result<Option<Box<dyn Guard>>> {
        self.inner.claim(path)
    }

    fn read(&self, path: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(file) = self.inner.read(path)? else { return Ok(None) };
        match &self.protection {
            Some(protection) => {
                let content = protection.keys.open(&final_path(path), &file);
                content.map(Some).map_err(|_| StateError::Corrupt { path: path.into() }.into())
            }
            // A protected file that has lost its marker.
            None if KeyParameters::of(&file).is_ok() => {
                Err(StateError::Corrupt { path: MARKER.into() }.into())
            }
            None => Ok(Some(file)),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.inner.list(folder)
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        match &self.protection {
            Some(protection) => {
                let rng = &mut *self.rng.borrow_mut();
                self.inner.write(path, &protection.keys.seal(&final_path(path), content, rng))
            }
            None => self.inner.write(path, content),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        self.inner.sync(folder)
    }
}
