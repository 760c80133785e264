//! A disk in memory that can be made to fail at any step, for tests and the simulator.
//!
//! Owns: a model of what is durable. Contents are durable when written; names are when their folder
//! was synced. What a crash leaves of names that were not is chosen: none or all of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::disk::{Disk, Guard};

type Files = BTreeMap<String, Rc<Vec<u8>>>;

#[derive(Debug, Default)]
struct Inner {
    /// As a running process sees them.
    seen: Files,
    /// As they are after a power cut.
    durable: Files,
    /// Locked paths.
    locked: BTreeSet<String>,
    /// Steps that changed something.
    steps: u64,
    /// Before which step all fails.
    fails_at: Option<u64>,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Rc<RefCell<Inner>>);

/// What a power cut leaves of renames and removals that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// They are lost.
    Lost,
    /// They happened.
    Kept,
}

struct MemoryGuard {
    disk: MemoryDisk,
    path: String,
}

impl Guard for MemoryGuard {}

impl Drop for MemoryGuard {
    fn drop(&mut self) {
        if let Ok(mut inner) = self.disk.0.try_borrow_mut() {
            inner.locked.remove(&self.path);
        }
    }
}

impl MemoryDisk {
    /// How many steps have changed it so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    /// Makes the step after `steps` more, and all that follow, fail.
    pub fn fail_after(&self, steps: u64) {
        let mut inner = self.0.borrow_mut();
        inner.fails_at = Some(inner.steps + steps);
    }

    /// Cuts the power: locks are gone, and of what was not synced is left what `unsynced` says. It
    /// no longer fails.
    pub fn crash(&self, unsynced: Unsynced) {
        let mut inner = self.0.borrow_mut();
        match unsynced {
            Unsynced::Lost => inner.seen = inner.durable.clone(),
            Unsynced::Kept => inner.durable = inner.seen.clone(),
        }
        inner.locked.clear();
        inner.fails_at = None;
    }

    /// Everything on it, for comparing and searching.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.borrow().seen.iter().map(|(path, content)| (path.clone(), content.to_vec())).collect()
    }

    /// Puts a file there, as somebody other than the client would.
    pub fn plant(&self, path: &str, content: &[u8]) {
        let mut inner = self.0.borrow_mut();
        inner.seen.insert(path.to_owned(), Rc::new(content.to_vec()));
        inner.durable.insert(path.to_owned(), Rc::new(content.to_vec()));
    }

    fn change(&self, change: impl FnOnce(&mut Inner) -> io::Result<()>) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        if inner.fails_at.is_some_and(|at| inner.steps >= at) {
            return Err(io::Error::other("the test's crash"));
        }
        inner.steps += 1;
        change(&mut inner)
    }

    fn try_lock(&self, path: &str) -> Option<Box<dyn Guard>> {
        let newly = self.0.borrow_mut().locked.insert(path.to_owned());
        newly.then(|| -> Box<dyn Guard> {
            Box::new(MemoryGuard { disk: self.clone(), path: path.to_owned() })
        })
    }
}

impl Disk for MemoryDisk {
    fn lock(&self) -> io::Result<Box<dyn Guard>> {
        // Within one thread nobody could ever let go of it: waiting would be for ever.
        self.try_lock("lock").ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn claim(&self, path: &str) -> io::Result<Option<Box<dyn Guard>>> {
        {
            let mut inner = self.0.borrow_mut();
            inner.seen.entry(path.to_owned()).or_default();
            inner.durable.entry(path.to_owned()).or_default();
        }
        Ok(self.try_lock(path))
    }

    fn read(&self, path: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self.0.borrow().seen.get(path).map(|content| Zeroizing::new(content.to_vec())))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let inner = self.0.borrow();
        let files = inner.seen.keys().filter_map(|path| match path.rsplit_once('/') {
            Some((in_folder, file)) => (in_folder == folder).then_some(file),
            None => folder.is_empty().then_some(path.as_str()),
        });
        Ok(files.map(str::to_owned).collect())
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.change(|inner| {
            // Written under a temporary name only, so that name and content may well be durable at once.
            inner.seen.insert(path.to_owned(), Rc::new(content.to_vec()));
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|inner| {
            let content = inner.seen.remove(from).ok_or(io::ErrorKind::NotFound)?;
            inner.seen.insert(to.to_owned(), content);
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(|inner| {
            inner.seen.remove(path);
            Ok(())
        })
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        self.change(|inner| {
            let in_folder = |path: &String| path.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
            inner.durable.retain(|path, _| !in_folder(path));
            let synced = inner.seen.iter().filter(|(path, _)| in_folder(path));
            inner.durable.extend(synced.map(|(path, content)| (path.clone(), content.clone())));
            Ok(())
        })
    }
}
