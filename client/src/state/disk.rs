//! The steps that a commit is made of, each of which a crash may be the last.
//!
//! Owns: the trait between the commit and a disk. Implemented by [`Home`](super::Home) for a real
//! directory and by [`MemoryDisk`](super::MemoryDisk) for tests.
//!
//! What an implementation promises: after [`Disk::write`] the file's content is durable, but not its
//! name; after [`Disk::rename`] or [`Disk::remove`] the folder's change is visible, and durable only
//! after [`Disk::sync`]. A crash between leaves either the old or the new.

use std::io;

use zeroize::Zeroizing;

/// Holds something locked until it is dropped.
pub trait Guard {}

/// A directory tree with paths relative to its root, `/` between folder and file, one level deep.
pub trait Disk {
    /// Waits until no other process has the state locked, and locks it.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn lock(&self) -> io::Result<Box<dyn Guard>>;

    /// Locks one file, which is made if need be, for the life of the guard; `None` if a living
    /// process holds it.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn claim(&self, path: &str) -> io::Result<Option<Box<dyn Guard>>>;

    /// The file's content; `None` if there is no such file.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn read(&self, path: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>>;

    /// The names of the files in a folder, in no particular order.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes a file with this content, replacing one, and makes the content durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn write(&self, path: &str, content: &[u8]) -> io::Result<()>;

    /// Gives a file another name in its folder, replacing what has that name.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. None there is no error: a commit that is played again finds it gone.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn sync(&self, folder: &str) -> io::Result<()>;
}
