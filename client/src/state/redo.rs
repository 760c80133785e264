//! The redo file: several changed files, written down at once before they are changed one by one.
//!
//! Owns: its bytes, the steps of a commit over several files, and those of replacing one file. Must not
//! know what is in the files, nor who holds the lock.
//!
//! All changes go to `.commit`, which is renamed to `commit` and synced: from here on they have
//! happened. Then each is applied: write `.FILE`, rename it to `FILE`, sync the folder. Last `commit` is
//! removed and that synced: it must never be played over something newer.

use zeroize::Zeroizing;

use super::codec::{Reader, Writer};
use super::disk::Disk;
use super::{Folder, StateError};

/// The redo file of a commit over several files, once it has happened.
pub(super) const COMMIT: &str = "commit";

pub(super) type Content = Zeroizing<Vec<u8>>;

/// A file's path, and what is to be in it; `None`: it is removed.
pub(super) type Change = (String, Option<Content>);

/// Makes all changes durable, or none. `version` is the redo file's first byte.
pub(super) fn commit(disk: &dyn Disk, version: u8, changes: &[Change]) -> Result<(), StateError> {
    replace(disk, COMMIT, &encode(version, changes))?;
    sync(disk, Folder::Top.path())?;
    apply(disk, changes)?;
    finish(disk)
}

/// Applies what a redo file says, and removes it.
pub(super) fn play_again(disk: &dyn Disk, changes: &[Change]) -> Result<(), StateError> {
    log::info!("finishing a commit that was cut off");
    apply(disk, changes)?;
    finish(disk)
}

/// Changes file by file.
pub(super) fn apply(disk: &dyn Disk, changes: &[Change]) -> Result<(), StateError> {
    let mut folders: Vec<&str> = Vec::new();
    for (path, change) in changes {
        match change {
            Some(content) => replace(disk, path, content)?,
            None => disk.remove(path).map_err(StateError::io("remove", path))?,
        }
        let folder = split(path).0;
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.into_iter().try_for_each(|folder| sync(disk, folder))
}

fn replace(disk: &dyn Disk, path: &str, content: &[u8]) -> Result<(), StateError> {
    let (folder, file) = split(path);
    let temporary = join(folder, &format!(".{file}"));
    disk.write(&temporary, content).map_err(StateError::io("write", path))?;
    disk.rename(&temporary, path).map_err(StateError::io("rename", path))
}

fn finish(disk: &dyn Disk) -> Result<(), StateError> {
    disk.remove(COMMIT).map_err(StateError::io("remove", COMMIT))?;
    sync(disk, Folder::Top.path())
}

fn sync(disk: &dyn Disk, folder: &str) -> Result<(), StateError> {
    disk.sync(folder).map_err(StateError::io("sync", folder))
}

fn split(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or(("", path))
}

/// The path of a file in a folder.
pub(super) fn join(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

/// The redo file: version, CRC-32 of the rest, how many, then path, whether there is content, content.
fn encode(version: u8, changes: &[Change]) -> Content {
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
    writer.u8(version);
    writer.u32(crc32fast::hash(&body));
    writer.array(&body);
    writer.finish()
}

/// What [`encode`] wrote with this version, over paths that are `ours`.
pub(super) fn decode(
    redo: &[u8],
    version: u8,
    ours: impl Fn(&str) -> bool,
) -> Result<Vec<Change>, StateError> {
    let corrupt = || StateError::Corrupt { path: COMMIT.into() };
    let mut reader = Reader::new(redo);
    match reader.u8() {
        Some(found) if found == version => {}
        Some(found) if found > version => {
            return Err(StateError::Newer { path: COMMIT.into(), version: found });
        }
        _ => return Err(corrupt()),
    }
    let crc = reader.u32().ok_or_else(corrupt)?;
    if crc != crc32fast::hash(redo.get(5..).unwrap_or_default()) {
        return Err(corrupt());
    }
    let read = |reader: &mut Reader<'_>| {
        let path = std::str::from_utf8(reader.bytes()?).ok().filter(|path| ours(path))?.to_owned();
        let present = reader.bool()?;
        let content = Zeroizing::new(reader.bytes()?.to_vec());
        Some((path, present.then_some(content)))
    };
    let count = reader.u32().ok_or_else(corrupt)?;
    let changes = (0..count).map(|_| read(&mut reader)).collect::<Option<Vec<_>>>().ok_or_else(corrupt)?;
    reader.end(changes).ok_or_else(corrupt)
}
