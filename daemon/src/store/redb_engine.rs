//! The engine on a disk: one file of redb, kept small.
//!
//! This file owns redb: its settings, its errors, when it is opened. Why redb: docs/store.md.

use std::{
    fs::OpenOptions,
    io,
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use redb::{Builder, Database, ReadableDatabase, TableDefinition, TableError};

use super::{Engine, StoreError, StoreErrorKind, Table, Visit, Write, limits::ENGINE_CACHE_BYTES};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: Table) -> Definition {
    Definition::new(table.name())
}

/// One redb file.
#[derive(Debug)]
pub struct RedbEngine {
    path: PathBuf,
    /// `None` while it is closed and could not be opened again.
    database: RwLock<Option<Database>>,
}

impl RedbEngine {
    /// Makes a new database at `path`, readable by its owner only. It exists once this returns, but its
    /// directory's entry may not have reached the disk.
    ///
    /// # Errors
    /// If there is a file already, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let database = builder().create(path).map_err(database_error)?;
        Ok(Self { path: path.to_owned(), database: RwLock::new(Some(database)) })
    }

    /// Opens the database at `path`.
    ///
    /// # Errors
    /// If there is none, if it is damaged, or if it cannot be read and written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = builder().open(path).map_err(database_error)?;
        Ok(Self { path: path.to_owned(), database: RwLock::new(Some(database)) })
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(ENGINE_CACHE_BYTES);
    builder
}

impl Engine for RedbEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let guard = self.database();
        let transaction = open_database(guard.as_ref())?.begin_read().map_err(error)?;
        match transaction.open_table(definition(table)) {
            Ok(table) => Ok(table.get(key).map_err(error)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(other) => Err(error(other)),
        }
    }

    fn scan(
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

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let guard = self.database();
        let transaction = open_database(guard.as_ref())?.begin_write().map_err(error)?;
        // Within a table the writes keep their order; between tables it makes no difference.
        for table in Table::ALL {
            let mut of_table = writes.iter().filter(|write| write.table() == table).peekable();
            if of_table.peek().is_none() {
                continue;
            }
            let mut table = transaction.open_table(definition(table)).map_err(error)?;
            for write in of_table {
                match write {
                    Write::Put { key, value, .. } => {
                        table.insert(key.as_slice(), value.as_slice()).map_err(error)?;
                    }
                    Write::DeleteRange { from, to_inclusive, .. } if from == to_inclusive => {
                        table.remove(from.as_slice()).map_err(error)?;
                    }
                    Write::DeleteRange { from, to_inclusive, .. } => {
                        let range = from.as_slice()..=to_inclusive.as_slice();
                        table.retain_in(range, |_, _| false).map_err(error)?;
                    }
                }
            }
        }
        transaction.commit().map_err(error)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // redb holds a lock on its file: the old one has to go first.
        *guard = None;
        *guard = Some(builder().open(&self.path).map_err(database_error)?);
        Ok(())
    }
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
            StoreError::new(StoreErrorKind::Corrupted, error.to_string())
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
        _ => StoreErrorKind::Corrupted,
    }
}
