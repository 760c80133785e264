//! The engine on a disk: one file of redb, kept small.
//!
//! This file owns redb: its settings, its errors, when it is opened. Why redb: docs/store.md.

use std::{
    cell::Cell,
    fmt,
    fs::{self, OpenOptions},
    io,
    ops::{Bound, ControlFlow},
    os::unix::fs::OpenOptionsExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Once, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, TableDefinition, TableError};

use super::{
    Engine, StoreError, StoreErrorKind, Table, Visit, Write,
    changes::Change,
    limits::{ENGINE_CACHE_BYTES, OPEN_CHECK_BYTES_MAX, SALVAGES_MAX},
    salvage::salvage,
};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What is called with a table, and with what takes each of its changes.
type EachChange<'a> = &'a dyn Fn(Table, TakeChange<'_>) -> Result<(), StoreError>;
type TakeChange<'a> = &'a mut dyn FnMut(Change<'_>) -> Result<(), StoreError>;

fn definition(table: Table) -> Definition {
    Definition::new(table.name())
}

/// One redb file.
#[derive(Debug)]
pub struct RedbEngine {
    path: PathBuf,
    /// `None` while it is closed and could not be opened again.
    database: RwLock<Option<Database>>,
    /// Something in it could not be read since it was opened.
    damaged: AtomicBool,
    /// How often it was made whole again.
    salvages: AtomicU32,
}

impl RedbEngine {
    /// Makes a new database at `path`, readable by its owner only. It exists once this returns, but its
    /// directory's entry may not have reached the disk.
    ///
    /// # Errors
    /// If there is a file already, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Self::over(path, |path| builder().create(path))
    }

    /// Opens the database at `path`. Up to [`OPEN_CHECK_BYTES_MAX`] it is read and verified as a whole.
    ///
    /// # Errors
    /// If there is none, if it is damaged, or if it cannot be read and written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::over(path, |path| open(path, OPEN_CHECK_BYTES_MAX))
    }

    fn over(
        path: &Path,
        open: impl FnOnce(&Path) -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, StoreError> {
        let database = guarded(|| open(path).map_err(database_error))?;
        Ok(Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            damaged: AtomicBool::new(false),
            salvages: AtomicU32::new(0),
        })
    }

    /// Remembers that something was damaged.
    fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Damaged) {
            self.damaged.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Opens the file, which is closed. One in which something could not be read is verified as a whole; a damaged
    /// one is set aside, and what is whole of it is opened.
    fn open_again(&self) -> Result<Database, StoreError> {
        let suspect = self.damaged.load(Ordering::Relaxed);
        let check = if suspect { u64::MAX } else { OPEN_CHECK_BYTES_MAX };
        let open = |check| guarded(|| open(&self.path, check).map_err(database_error));
        let database = match open(check) {
            Err(error) if error.kind == StoreErrorKind::Damaged => {
                self.salvage(&error)?;
                open(check)?
            }
            opened => opened?,
        };
        self.damaged.store(false, Ordering::Relaxed);
        Ok(database)
    }

    /// Puts a whole file in place of the one that is there, which is closed.
    fn salvage(&self, damage: &StoreError) -> Result<(), StoreError> {
        if self.salvages.load(Ordering::Relaxed) >= SALVAGES_MAX {
            return Err(damage.clone());
        }
        let salvaged = salvage(&self.path)?;
        self.salvages.fetch_add(1, Ordering::Relaxed);
        log::error!("the store was damaged ({}): {salvaged}", damage.detail);
        Ok(())
    }

    /// Makes the file anew although it is whole itself: what belongs to it is damaged.
    pub(super) fn mend(&self, damage: &StoreError) -> Result<(), StoreError> {
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        guarded(|| {
            *guard = None;
            Ok(())
        })?;
        self.salvage(damage)?;
        *guard = Some(self.open_again()?);
        Ok(())
    }

    /// What is in it now, whatever is committed later. While it lives, pages are not used again, and the file cannot be opened
    /// again.
    pub(super) fn snapshot(&self) -> Result<IndexSnapshot, StoreError> {
        self.noted(guarded(|| {
            let guard = self.database();
            open_database(guard.as_ref())?.begin_read().map(IndexSnapshot).map_err(error)
        }))
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Key and value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// See [`RedbEngine::snapshot`].
pub(super) struct IndexSnapshot(ReadTransaction);

impl fmt::Debug for IndexSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexSnapshot")
    }
}

impl IndexSnapshot {
    /// Records after a key, until they hold `bytes_max` bytes or more; none: there are no more.
    pub(super) fn rows(
        &self,
        table: Table,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<Row>, StoreError> {
        guarded(|| {
            let table = match self.0.open_table(definition(table)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(other) => return Err(error(other)),
            };
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let (mut rows, mut bytes) = (Vec::new(), 0);
            for entry in table.range::<&[u8]>((from, Bound::Unbounded)).map_err(error)? {
                let (key, value) = entry.map_err(error)?;
                bytes += key.value().len() + value.value().len();
                rows.push((key.value().to_vec(), value.value().to_vec()));
                if bytes >= bytes_max {
                    break;
                }
            }
            Ok(rows)
        })
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(ENGINE_CACHE_BYTES);
    builder
}

/// Opens a file, and verifies it as a whole if it is of up to `check_bytes_max`.
fn open(path: &Path, check_bytes_max: u64) -> Result<Database, redb::DatabaseError> {
    let bytes = fs::metadata(path)?.len();
    builder().set_check_integrity_on_open(bytes <= check_bytes_max).open(path)
}

impl Engine for RedbEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.noted(guarded(|| self.try_get(table, key)))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to_inclusive: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.noted(guarded(|| self.try_scan(table, from, to_inclusive, visit)))
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.commit_with(&|table, take| {
            writes.iter().filter(|write| write.table() == table).try_for_each(|write| take(write.into()))
        })
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // redb holds a lock on its file: the old one has to go first.
        guarded(|| {
            *guard = None;
            Ok(())
        })?;
        *guard = Some(self.open_again()?);
        Ok(())
    }
}

impl RedbEngine {
    fn try_get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let guard = self.database();
        let transaction = open_database(guard.as_ref())?.begin_read().map_err(error)?;
        match transaction.open_table(definition(table)) {
            Ok(table) => Ok(table.get(key).map_err(error)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(other) => Err(error(other)),
        }
    }

    fn try_scan(
        &self,
        table: Table,
        from: &[u8],
        to_inclusive: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let guard = self.database();
        let transaction = open_database(guard.as_ref())?.begin_read().map_err(error)?;
        let table = match transaction.open_table(definition(table)) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(other) => return Err(error(other)),
        };
        for entry in table.range(from..=to_inclusive).map_err(error)? {
            let (key, value) = entry.map_err(error)?;
            if let ControlFlow::Break(()) = visit(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }

    /// Carries out all changes that `each` gives for each table, in their order, or none.
    pub(super) fn commit_with(&self, each: EachChange<'_>) -> Result<(), StoreError> {
        self.noted(guarded(|| self.try_commit(each)))
    }

    fn try_commit(&self, each: EachChange<'_>) -> Result<(), StoreError> {
        let guard = self.database();
        let mut transaction = open_database(guard.as_ref())?.begin_write().map_err(error)?;
        // Recovery after a kill or a power cut then takes a millisecond, whatever is stored: without it the
        // whole file is read.
        transaction.set_quick_repair(true);
        // Within a table the writes keep their order; between tables it makes no difference.
        for table in Table::ALL {
            let mut opened = None;
            each(table, &mut |change| {
                let table = match &mut opened {
                    Some(table) => table,
                    None => opened.insert(transaction.open_table(definition(table)).map_err(error)?),
                };
                match change {
                    Change::Put(key, value) => drop(table.insert(key, value).map_err(error)?),
                    Change::DeleteRange(from, to) if from == to => drop(table.remove(from).map_err(error)?),
                    Change::DeleteRange(from, to) => {
                        table.retain_in(from..=to, |_, _| false).map_err(error)?;
                    }
                }
                Ok(())
            })?;
        }
        transaction.commit().map_err(error)
    }
}

thread_local! {
    /// A panic of this thread is caught, and becomes an error with its text.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// redb verifies pages when it opens a file, not when it reads one later: over damaged pages it panics. Where
/// panics unwind, that fails one request and not the relay.
fn guarded<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        // Whoever gets the error logs it: a backtrace of redb's on standard error says no more.
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                others(info);
            }
        }));
    });
    let nested = GUARDED.replace(true);
    // Nothing of ours is changed inside but the database, which is reopened after any failure.
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(nested);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
        let line = text.lines().next().unwrap_or_default();
        Err(StoreError::new(StoreErrorKind::Damaged, format!("redb: {line}")))
    })
}

fn open_database(database: Option<&Database>) -> Result<&Database, StoreError> {
    database.ok_or_else(|| StoreError::new(StoreErrorKind::Io, "it is closed"))
}

fn error(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => error.into(),
        other => StoreError::new(kind(&other), other.to_string()),
    }
}

fn database_error(error: redb::DatabaseError) -> StoreError {
    match redb::Error::from(error) {
        // Shorter than its own header: a file that was cut off.
        redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StoreError::new(StoreErrorKind::Damaged, error.to_string())
        }
        other => self::error(other),
    }
}

fn kind(error: &redb::Error) -> StoreErrorKind {
    match error {
        // After an I/O error every call fails like this, until it is opened again. A file that another
        // process has locked is tried again, too.
        redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::DatabaseAlreadyOpen => {
            StoreErrorKind::Io
        }
        _ => StoreErrorKind::Damaged,
    }
}
