//! The home directory on a real disk.
//!
//! Owns: file locks, and what fsync is done when. What it finds is used only as far as
//! [`permissions`](super::permissions) lets it. Must not know which files there are. The steps are those
//! of [`Disk`].

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Folder;
use super::disk::{Disk, Guard};
use super::permissions::{FOLDER_MODE, check_folder, check_owner, open_own};

/// The file that is locked for each read-change-write.
const LOCK: &str = "lock";

/// The client's home directory.
#[derive(Debug)]
pub struct Home {
    root: PathBuf,
}

struct LockedFile {
    // Closing the file is what unlocks it.
    _file: File,
}

impl Guard for LockedFile {}

impl Home {
    /// Opens a home, and makes its directories where they are missing.
    ///
    /// # Errors
    /// What the disk says; `PermissionDenied` if it is open to other users and can't be closed to them;
    /// `InvalidInput` if it is a directory with other things in it; with
    /// [`StateError::Exposed`](super::StateError::Exposed) inside if it is another user's, or a folder in it is
    /// open to others.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        refuse_foreign(&root)?;
        let parents = parents_of_missing(&root);
        for folder in Folder::ALL {
            let path = if folder == Folder::Top { root.clone() } else { root.join(folder.path()) };
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&path)?;
            if folder != Folder::Top {
                check_folder(&path)?;
            }
        }
        let metadata = fs::metadata(&root)?;
        check_owner(&root, &metadata)?;
        // A home is often made by hand before it is used: that is repaired, and keeps all below it closed.
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&root, fs::Permissions::from_mode(FOLDER_MODE))?;
        }
        let home = Self { root };
        // The folders' own names must survive what is written into them, and so must the home's.
        home.sync("")?;
        parents.iter().try_for_each(|folder| File::open(folder)?.sync_all())?;
        Ok(home)
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn open_to_lock(&self, path: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        open_own(&mut options, &self.path(path)).map(|(file, _)| file)
    }
}

/// A directory that holds other things, and nothing of ours, was named by mistake: it is left as it is.
fn refuse_foreign(root: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut foreign = false;
    for entry in entries {
        let name = entry?.file_name();
        if name == LOCK {
            return Ok(());
        }
        foreign |= !Folder::ALL.iter().any(|folder| name == folder.path());
    }
    if foreign {
        let text = "it is not empty, and not a home of e2e-client";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// The directories in which something is made when this path is: the parent of each part of it that
/// is missing.
fn parents_of_missing(path: &Path) -> Vec<PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let missing = absolute.ancestors().take_while(|ancestor| !ancestor.exists());
    missing.filter_map(Path::parent).map(Path::to_owned).collect()
}

impl Disk for Home {
    fn lock(&self) -> io::Result<Box<dyn Guard>> {
        let file = self.open_to_lock(LOCK)?;
        file.lock()?;
        Ok(Box::new(LockedFile { _file: file }))
    }

    fn claim(&self, path: &str) -> io::Result<Option<Box<dyn Guard>>> {
        let file = self.open_to_lock(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(LockedFile { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn read(&self, path: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let (mut file, metadata) = match open_own(OpenOptions::new().read(true), &self.path(path)) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // With room for all of it and one byte more, reading never grows the buffer, and so
        // leaves no copy of a secret behind.
        let bytes = usize::try_from(metadata.len()).map_err(|_| ErrorKind::FileTooLarge)?;
        let mut content = Zeroizing::new(Vec::with_capacity(bytes.saturating_add(1)));
        file.read_to_end(&mut content)?;
        Ok(Some(content))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(folder))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        crash_point();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let (mut file, _) = open_own(&mut options, &self.path(path))?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        crash_point();
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        crash_point();
        match fs::remove_file(self.path(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        crash_point();
        File::open(self.path(folder))?.sync_all()
    }
}

/// For black-box tests, and in debug builds only: with `E2E_CRASH_AT=k` in the environment the
/// process is killed before the k-th step that changes the disk, counted from 1.
#[cfg(debug_assertions)]
fn crash_point() {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static STEPS: AtomicU64 = AtomicU64::new(0);
    static CRASH_AT: OnceLock<Option<u64>> = OnceLock::new();

    let crash_at = CRASH_AT.get_or_init(|| std::env::var("E2E_CRASH_AT").ok()?.parse().ok());
    if Some(STEPS.fetch_add(1, Ordering::Relaxed) + 1) == *crash_at {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
fn crash_point() {}
