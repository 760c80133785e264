//! Which files of a home may be used: those that nobody else can read or change.
//!
//! Owns: modes and owners, and what is said of them. Must not know what is in the files.
//!
//! It is the opened file that is looked at, with one fstat, so that nothing can be exchanged between
//! looking and reading; a symbolic link is not followed, and a pipe not waited for.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::StateError;

/// The mode of the home and its folders.
pub const FOLDER_MODE: u32 = 0o700;

/// The mode of every file.
pub const FILE_MODE: u32 = 0o600;

/// What the owner's group and others may do.
const OTHERS: u32 = 0o077;

const PERMISSIONS: u32 = 0o7777;

/// What is wrong with a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// A file with this mode.
    FileMode(u32),
    /// A folder with this mode.
    FolderMode(u32),
    /// It belongs to this user, with this mode.
    Owner(u32, u32),
    /// It is a symbolic link, where a file should be.
    Link,
    /// It is neither file nor link, where a file should be.
    NoFile,
    /// It is no directory, where one should be.
    NoFolder,
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileMode(mode) | Self::FolderMode(mode) => {
                write!(f, "is open to other users (mode {mode:04o})")
            }
            Self::Owner(uid, mode) => {
                write!(f, "belongs to another user (uid {uid}, mode {mode:04o}), not to uid {}", own_uid())
            }
            Self::Link => f.write_str("is a symbolic link, not a file"),
            Self::NoFile => f.write_str("is not a regular file"),
            Self::NoFolder => f.write_str("is not a directory"),
        }
    }
}

/// Opens a state file, or makes it with the right mode.
///
/// # Errors
/// What the system says; with [`StateError::Exposed`] inside if it is not to be used.
pub(super) fn open_own(options: &mut OpenOptions, path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.mode(FILE_MODE).custom_flags(flags.bits().cast_signed());
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => exposed(path, Exposure::Link),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(exposed(path, Exposure::NoFile));
    }
    check_owner(path, &metadata)?;
    check_mode(path, &metadata, Exposure::FileMode)?;
    Ok((file, metadata))
}

/// Checks a folder of the home.
///
/// # Errors
/// What the system says; with [`StateError::Exposed`] inside if it is not to be used.
pub(super) fn check_folder(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Err(exposed(path, Exposure::NoFolder));
    }
    check_owner(path, &metadata)?;
    check_mode(path, &metadata, Exposure::FolderMode)
}

/// Checks that it is the user's own. So root doesn't leave files of its own in another user's home.
///
/// # Errors
/// [`StateError::Exposed`] inside.
pub(super) fn check_owner(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.uid() == own_uid() {
        return Ok(());
    }
    Err(exposed(path, Exposure::Owner(metadata.uid(), metadata.mode() & PERMISSIONS)))
}

fn check_mode(path: &Path, metadata: &Metadata, why: impl Fn(u32) -> Exposure) -> io::Result<()> {
    let mode = metadata.mode() & PERMISSIONS;
    if mode & OTHERS == 0 { Ok(()) } else { Err(exposed(path, why(mode))) }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn exposed(path: &Path, why: Exposure) -> io::Error {
    StateError::Exposed { path: path.to_owned(), why }.into()
}
