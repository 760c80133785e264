//! One read-change-write of the state: all of it or nothing, whatever crashes when.
//!
//! Owns: the exclusive lock while it lives, the commit and playing a cut off commit again, and the
//! frame around each file's content. Must not know what is in the files.
//!
//! A file on disk is `version 1 | tag 1 | CRC-32 of the content 4 | content`.
//!
//! A commit of one file: write `.FILE`, rename it to `FILE`, sync the folder. A commit of several:
//! write all changes to `.commit`, rename it to `commit` and sync (from here on it has happened);
//! then apply each change as above, remove `commit`, sync. Who takes the lock next and finds `commit`
//! applies it again first. `commit` is removed durably before the lock is let go: it must never be
//! played over something newer.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::codec::{Reader, Writer};
use super::disk::{Disk, Guard};
use super::{Folder, Key, StateError};

/// The version of every file of the home.
const VERSION: u8 = 1;
/// Bytes around a file's content.
const FRAME_BYTES: usize = 6;
/// The redo file of a commit over several files, once it has happened.
const COMMIT: &str = "commit";

type Content = Zeroizing<Vec<u8>>;

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
        let changes: Vec<(String, Option<Content>)> = self
            .changes
            .iter()
            .map(|(key, change)| (key.path(), change.as_ref().map(|content| frame(key, content))))
            .collect();
        match changes.as_slice() {
            [] => Ok(()),
            [_] => self.apply(&changes),
            _ => {
                self.replace(COMMIT, &encode(&changes))?;
                self.sync(Folder::Top.path())?;
                self.apply(&changes)?;
                self.finish_commit()
            }
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
        log::info!("finishing a commit that was cut off");
        self.apply(&decode(&redo)?)?;
        self.finish_commit()
    }

    fn apply(&self, changes: &[(String, Option<Content>)]) -> Result<(), StateError> {
        let mut folders: Vec<&str> = Vec::new();
        for (path, change) in changes {
            match change {
                Some(framed) => self.replace(path, framed)?,
                None => self.disk.remove(path).map_err(StateError::io("remove", path))?,
            }
            let folder = split(path).0;
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        folders.into_iter().try_for_each(|folder| self.sync(folder))
    }

    fn replace(&self, path: &str, content: &[u8]) -> Result<(), StateError> {
        let (folder, file) = split(path);
        let temporary = join(folder, &format!(".{file}"));
        self.disk.write(&temporary, content).map_err(StateError::io("write", path))?;
        self.disk.rename(&temporary, path).map_err(StateError::io("rename", path))
    }

    fn sync(&self, folder: &str) -> Result<(), StateError> {
        self.disk.sync(folder).map_err(StateError::io("sync", folder))
    }

    fn finish_commit(&self) -> Result<(), StateError> {
        self.disk.remove(COMMIT).map_err(StateError::io("remove", COMMIT))?;
        self.sync(Folder::Top.path())
    }
}

fn split(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or(("", path))
}

fn join(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
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

/// The redo file: version, CRC-32 of the rest, how many, then path, whether there is content, content.
fn encode(changes: &[(String, Option<Content>)]) -> Content {
    let content_bytes = |change: &Option<Content>| change.as_ref().map_or(0, |content| content.len());
    let capacity: usize = changes.iter().map(|(path, change)| 9 + path.len() + content_bytes(change)).sum();
    let mut body = Writer::with_capacity(capacity + 4);
    body.u32(u32::try_from(changes.len()).unwrap_or(u32::MAX));
    for (path, change) in changes {
        body.bytes(path.as_bytes());
        body.bool(change.is_some());
        body.bytes(change.as_ref().map_or(&[], |content| content.as_slice()));
    }
    let body = body.finish();
    let mut writer = Writer::with_capacity(body.len() + 5);
    writer.u8(VERSION);
    writer.u32(crc32fast::hash(&body));
    writer.array(&body);
    writer.finish()
}

fn decode(redo: &[u8]) -> Result<Vec<(String, Option<Content>)>, StateError> {
    let corrupt = || StateError::Corrupt { path: COMMIT.into() };
    let mut reader = Reader::new(redo);
    match reader.u8() {
        Some(VERSION) => {}
        Some(version) if version > VERSION => return Err(StateError::Newer { path: COMMIT.into(), version }),
        _ => return Err(corrupt()),
    }
    let crc = reader.u32().ok_or_else(corrupt)?;
    if crc != crc32fast::hash(redo.get(5..).unwrap_or_default()) {
        return Err(corrupt());
    }
    let read = |reader: &mut Reader<'_>| {
        let path = Key::from_path(std::str::from_utf8(reader.bytes()?).ok()?)?.path();
        let present = reader.bool()?;
        let content = Zeroizing::new(reader.bytes()?.to_vec());
        Some((path, present.then_some(content)))
    };
    let count = reader.u32().ok_or_else(corrupt)?;
    let changes = (0..count).map(|_| read(&mut reader)).collect::<Option<Vec<_>>>().ok_or_else(corrupt)?;
    reader.end(changes).ok_or_else(corrupt)
}
