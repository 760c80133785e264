//! One read-change-write of the state: all of it or nothing, whatever crashes when.
//!
//! Owns: the exclusive lock while it lives, the commit and playing a cut off commit again, and the
//! frame around each file's content. Must not know what is in the files.
//!
//! A file on disk is `version 1 | tag 1 | CRC-32 of the content 4 | content`.
//!
//! A commit of one file: write `.FILE`, rename it to `FILE`, sync the folder. A commit of several goes
//! through a redo file, `commit` (see [`redo`](super::redo)). Who takes the lock next and finds it
//! applies it again first.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::codec::{Reader, Writer};
use super::disk::{Disk, Guard};
use super::redo::{self, COMMIT, Change, Content, join};
use super::{Folder, Key, StateError};

/// The version of every file of the home.
const VERSION: u8 = 1;
/// Bytes around a file's content.
const FRAME_BYTES: usize = 6;

/// A locked view of the state, and the changes to it that are not committed yet.
///
/// Reads see the changes. Dropping it without [`Transaction::commit`] forgets them.
pub struct Transaction<'a> {
    disk: &'a dyn Disk,
    changes: BTreeMap<Key, Option<Content>>,
    _lock: Box<dyn Guard>,
}

impl<'a> Transaction<'a> {
    /// Waits for the lock, and finishes what a crash cut off.
    ///
    /// # Errors
    /// [`StateError`] if the disk refuses or the cut off commit is damaged.
    pub fn begin(disk: &'a dyn Disk) -> Result<Self, StateError> {
        let lock = disk.lock().map_err(StateError::io("lock", "lock"))?;
        let this = Self { disk, changes: BTreeMap::new(), _lock: lock };
        this.play_again()?;
        Ok(this)
    }

    /// The content of a file, `None` if there is none.
    ///
    /// # Errors
    /// [`StateError`] if it can't be read or is not what was written.
    pub fn read(&self, key: &Key) -> Result<Option<Content>, StateError> {
        if let Some(change) = self.changes.get(key) {
            return Ok(change.clone());
        }
        let path = key.path();
        match self.disk.read(&path).map_err(StateError::io("read", path))? {
            Some(framed) => unframe(key, &framed).map(Some),
            None => Ok(None),
        }
    }

    /// Replaces a file's content, or makes the file.
    pub fn write(&mut self, key: Key, content: Content) {
        self.changes.insert(key, Some(content));
    }

    /// Removes a file.
    pub fn remove(&mut self, key: Key) {
        self.changes.insert(key, None);
    }

    /// The files in a folder, in order. Files that are not the client's are left out.
    ///
    /// # Errors
    /// [`StateError`] if the folder can't be read.
    pub fn list(&self, folder: Folder) -> Result<Vec<Key>, StateError> {
        let names = self.disk.list(folder.path()).map_err(StateError::io("list", folder.path()))?;
        let on_disk = names.iter().filter_map(|name| match folder {
            Folder::Top => Key::from_path(name),
            _ => Key::from_path(&format!("{}/{name}", folder.path())),
        });
        let mut keys: Vec<Key> = on_disk.filter(|key| !self.changes.contains_key(key)).collect();
        let written = self.changes.iter().filter(|(_, change)| change.is_some()).map(|(key, _)| *key);
        keys.extend(written.filter(|key| key.folder() == folder));
        keys.sort_unstable();
        Ok(keys)
    }

    /// Locks this process' own lane, or one that it may take over; `None` if its process lives.
    ///
    /// # Errors
    /// [`StateError`] if the disk refuses.
    pub fn claim(&self, key: &Key) -> Result<Option<Box<dyn Guard>>, StateError> {
        let path = key.path();
        self.disk.claim(&path).map_err(StateError::io("lock", path))
    }

    /// Makes the changes durable, all or none. With this the lock is let go.
    ///
    /// # Errors
    /// [`StateError`] if the disk refuses. The changes may or may not have happened then; the next
    /// transaction finishes what had begun to.
    pub fn commit(self) -> Result<(), StateError> {
        let changes: Vec<Change> = self
            .changes
            .iter()
            .map(|(key, change)| (key.path(), change.as_ref().map(|content| frame(key, content))))
            .collect();
        match changes.as_slice() {
            [] => Ok(()),
            [_] => redo::apply(self.disk, &changes),
            _ => redo::commit(self.disk, VERSION, &changes),
        }
    }

    /// Removes what crashes left half written: a file of ours with a dot before its name. Whatever else is
    /// there is somebody's. For the start of a process.
    ///
    /// # Errors
    /// [`StateError`] if the disk refuses.
    pub fn sweep(&self) -> Result<(), StateError> {
        for folder in Folder::ALL {
            let names = self.disk.list(folder.path()).map_err(StateError::io("list", folder.path()))?;
            for name in names {
                let Some(whole) = name.strip_prefix('.').map(|whole| join(folder.path(), whole)) else {
                    continue;
                };
                if whole != COMMIT && Key::from_path(&whole).is_none() {
                    continue;
                }
                let path = join(folder.path(), &name);
                self.disk.remove(&path).map_err(StateError::io("remove", path))?;
            }
        }
        Ok(())
    }

    fn play_again(&self) -> Result<(), StateError> {
        let Some(redo) = self.disk.read(COMMIT).map_err(StateError::io("read", COMMIT))? else {
            return Ok(());
        };
        let changes = redo::decode(&redo, VERSION, |path| Key::from_path(path).is_some())?;
        redo::play_again(self.disk, &changes)
    }
}

fn frame(key: &Key, content: &[u8]) -> Content {
    let mut writer = Writer::with_capacity(FRAME_BYTES + content.len());
    writer.u8(VERSION);
    writer.u8(key.tag());
    writer.u32(crc32fast::hash(content));
    writer.array(content);
    writer.finish()
}

fn unframe(key: &Key, framed: &[u8]) -> Result<Content, StateError> {
    let mut reader = Reader::new(framed);
    match reader.u8() {
        Some(VERSION) => {}
        Some(version) if version > VERSION => return Err(StateError::Newer { path: key.path(), version }),
        _ => return Err(StateError::corrupt(key)),
    }
    let (tag, crc) = (reader.u8(), reader.u32());
    let content = framed.get(FRAME_BYTES..).unwrap_or_default();
    if tag == Some(key.tag()) && crc == Some(crc32fast::hash(content)) {
        Ok(Zeroizing::new(content.to_vec()))
    } else {
        Err(StateError::corrupt(key))
    }
}
