//! The state directory: who may use it, what lies in it, and how a store is opened and made.
//!
//! This file owns paths, permissions and the lock. What is in the tables: `snapshot`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use super::{
    Engine, LogEngine, LogSizes, OpenError, OpenErrorKind, RedbEngine, Snapshot, StoreError, StoreHandle,
    Table, Write,
    beside::Beside,
    damaged_file::{DamagedFile, Header},
    limits::OPEN_CHECK_BYTES_MAX,
    records,
    salvage::{self, SalvageError},
    snapshot::{LoadError, SNAPSHOT_TABLES},
    space::Space,
};

/// The index of what is in the log, and all that is small.
pub(super) const DATABASE: &str = "relay.redb";

/// Locked as long as a relay uses the directory, also while it reopens its database. Always empty.
pub(super) const LOCK: &str = "lock";

/// An open store, not yet started.
pub struct Store {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) clock: u64,
    /// Held as long as the directory is in use.
    pub(super) lock: Option<File>,
    pub(super) space: Option<Space>,
}

impl Store {
    /// Opens the store in `directory`, or makes both, for their owner only. `randomness` becomes the
    /// relay's id if this is its first start. `now`: Unix milliseconds.
    ///
    /// A damaged database is set aside, and what can be read of it is the new one.
    ///
    /// # Errors
    /// [`OpenError`], one line that names the path. Nothing that was there is changed then.
    pub fn open(directory: &Path, randomness: [u8; 32], now: u64) -> Result<(Self, Snapshot), OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| OpenError::at(directory, &error))?;
        let lock = lock(directory)?;
        let path = directory.join(DATABASE);
        let missing = match fs::metadata(&path) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(OpenError::at(&path, &error)),
        };
        if missing && Beside::exists(directory) {
            // With a new one, and another id, the clients of this relay would not know it again.
            return Err(OpenError::new(
                OpenErrorKind::Corrupted,
                &path,
                "it is missing, its relay-id is there",
            ));
        }
        if missing {
            create(directory)?;
        }
        let opened = match take_up(&path, randomness, now) {
            Err(error) if error.kind == OpenErrorKind::Corrupted => {
                let salvaged = salvage::salvage(&path);
                let salvaged = salvaged.map_err(|failure| unsalvageable(&path, &error, failure))?;
                log::error!("the store was damaged ({}): {salvaged}", error.detail());
                take_up(&path, randomness, now)
            }
            opened => opened,
        };
        let (mut store, snapshot) = opened?;
        let beside = Beside { relay_id: snapshot.relay_id, boot: snapshot.boot };
        if let Err(error) = beside.write(directory) {
            log::warn!("the relay's id could not be written beside the store: {error}");
        }
        store.lock = Some(lock);
        Ok((store, snapshot))
    }

    /// The same over an engine that is open already.
    ///
    /// # Errors
    /// [`LoadError`]; nothing was changed then.
    pub fn over(
        engine: Arc<dyn Engine>,
        randomness: [u8; 32],
        now: u64,
    ) -> Result<(Self, Snapshot), LoadError> {
        let snapshot = Snapshot::load(&*engine, randomness, now)?;
        // An older version, put back in place of this one, is to see the format before anything else.
        engine.settle(true)?;
        Ok((Self { engine, clock: snapshot.clock, lock: None, space: None }, snapshot))
    }

    /// Watches the free space of this directory: [`StoreHandle::disk_is_low`] says when it is below `floor_bytes`, or
    /// below a share of its file system ([`super::limits::DISK_FLOOR_PART`]).
    #[must_use]
    pub fn with_disk_floor(mut self, directory: &Path, floor_bytes: u64) -> Self {
        self.space = Some(Space::new(directory.to_owned(), floor_bytes));
        self
    }

    /// Starts the store's threads. `notify` is called from them once per batch of answers, and must not
    /// block: it wakes the loop, which then takes them.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self, notify: impl Fn() + Send + Sync + 'static) -> io::Result<StoreHandle> {
        StoreHandle::start(self, notify)
    }
}

pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| OpenError::at(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::new(OpenErrorKind::Locked, directory, "")),
        Err(TryLockError::Error(error)) => Err(OpenError::at(&path, &error)),
    }
}

/// The same where nothing may be changed. `None`: nobody ever used the directory.
pub(super) fn lock_what_is_there(directory: &Path) -> Result<Option<File>, OpenError> {
    let path = directory.join(LOCK);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| OpenError::at(&path, &error))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::new(OpenErrorKind::Locked, directory, "")),
        Err(TryLockError::Error(error)) => Err(OpenError::at(&path, &error)),
    }
}

fn open_existing(path: &Path) -> Result<RedbEngine, OpenError> {
    // Tells a file that may not be used from a disk that fails: the engine's errors do not.
    let usable = OpenOptions::new().read(true).write(true).open(path).and_then(|file| file.metadata());
    let bytes = usable.map_err(|error| OpenError::at(path, &error))?.len();
    if bytes == 0 {
        // The engine would make it a new one.
        return Err(OpenError::new(OpenErrorKind::Corrupted, path, "it is empty"));
    }
    // The engine does not verify a large file as a whole. A flipped bit in a name must not give it to somebody else.
    if bytes > OPEN_CHECK_BYTES_MAX && !holds_whole(path)? {
        return Err(OpenError::new(
            OpenErrorKind::Corrupted,
            path,
            "the names or mailboxes cannot all be read",
        ));
    }
    RedbEngine::open(path).map_err(|error| OpenError::of_store(path, &error))
}

/// Whether the tables that a start reads are whole: all but messages and keys.
fn holds_whole(path: &Path) -> Result<bool, OpenError> {
    let file = DamagedFile::open(path).map_err(|error| OpenError::at(path, &error))?;
    Ok(file.holds_whole(&SNAPSHOT_TABLES))
}

/// The format that a database says. `None`: it says none, or it can't be read.
fn format_of(path: &Path) -> Result<Option<u32>, OpenError> {
    let file = DamagedFile::open(path).map_err(|error| OpenError::at(path, &error))?;
    let Header::Commit(commit) = file.header() else { return Ok(None) };
    let mut format = None;
    file.each(&commit, Table::Meta, &mut |key, value| {
        if key == records::META_FORMAT {
            format = records::parse_u32(value).ok();
        }
    });
    Ok(format)
}

/// Opens index and log and takes up their state.
fn take_up(path: &Path, randomness: [u8; 32], now: u64) -> Result<(Store, Snapshot), OpenError> {
    let of_store = |error| OpenError::of_store(path, &error);
    // Before anything else, and not by the engine: it writes when it opens a file, and a newer store is left as it is.
    if let Some(format) = format_of(path)?.filter(|format| *format > records::FORMAT) {
        return Err(newer(path, format));
    }
    let index = open_existing(path)?;
    let engine: Arc<dyn Engine> =
        Arc::new(LogEngine::over(index, path, LogSizes::default()).map_err(of_store)?);
    let directory = path.parent().unwrap_or(Path::new("."));
    match engine.get(Table::Meta, records::META_BOOT).map_err(of_store)? {
        None if Beside::exists(directory) => {
            return Err(OpenError::new(OpenErrorKind::Corrupted, path, "there is no relay's id in it"));
        }
        None => {}
        Some(boot) => {
            // Of a log that was damaged the last start's record may be missing. No two starts get the same number.
            let beside = Beside::read(directory).map_or(0, |beside| beside.boot);
            if records::parse_u32(&boot).is_ok_and(|boot| boot < beside) {
                let (table, key, value) =
                    (Table::Meta, records::META_BOOT.to_vec(), beside.to_be_bytes().to_vec());
                engine.commit(&[Write::Put { table, key, value }]).map_err(of_store)?;
            }
        }
    }
    Store::over(engine, randomness, now).map_err(|error| match error {
        LoadError::NewerFormat(format) => newer(path, format),
        LoadError::Store(error) => OpenError::of_store(path, &error),
    })
}

pub(super) fn newer(path: &Path, format: u32) -> OpenError {
    OpenError::new(OpenErrorKind::NewerFormat, path, format!("format {format}"))
}

/// Why a damaged store stays as it is. `damage`: what is wrong with it.
fn unsalvageable(path: &Path, damage: &OpenError, failure: SalvageError) -> OpenError {
    match failure {
        SalvageError::NewerFormat(format) => newer(path, format),
        SalvageError::NoRelayId => {
            let detail = format!("{}; not even the relay's id could be read", damage.detail());
            OpenError::new(OpenErrorKind::Corrupted, path, detail)
        }
        SalvageError::Store(error) => OpenError::of_store(path, &error),
    }
}

/// Makes an empty database that appears in the directory only when it is complete, so that an empty or
/// half-written one can be told for what it is: damaged.
fn create(directory: &Path) -> Result<(), OpenError> {
    let path = directory.join(DATABASE);
    let new = salvage::in_the_making(&path);
    let make = || -> Result<(), StoreError> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        drop(RedbEngine::create(&new)?);
        fs::rename(&new, &path)?;
        Ok(File::open(directory)?.sync_all()?)
    };
    make().map_err(|error| OpenError::of_store(&path, &error))
}
