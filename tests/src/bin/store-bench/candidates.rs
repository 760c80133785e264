//! The engines, each behind the store's interface and configured small.
//!
//! Only one table is measured, so all of them keep only one. They are candidates: errors are not told apart,
//! and nothing is reopened.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    ops::{Bound, ControlFlow},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use e2e_relayd::store::{Engine, LogEngine, RedbEngine, StoreError, StoreErrorKind, Table, Visit, Write};

use crate::Outcome;

/// The engines, in the order in which they are measured: the relay's own first.
pub(crate) const NAMES: [&str; 7] = ["relay", "redb", "redb-full-repair", "fjall", "lmdb", "sqlite", "log"];

/// For caches that can be set.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

/// Makes an engine in `directory`, or opens the one that is there.
pub(crate) fn open(name: &str, directory: &Path) -> Outcome<Box<dyn Engine>> {
    let path = directory.join("data");
    Ok(match name {
        "relay" => {
            if !path.exists() {
                drop(RedbEngine::create(&path)?);
            }
            Box::new(LogEngine::open(&path)?)
        }
        "redb" if path.exists() => Box::new(RedbEngine::open(&path)?),
        "redb" => Box::new(RedbEngine::create(&path)?),
        "redb-full-repair" => Box::new(RedbFullRepair::open(&path)?),
        "fjall" => Box::new(Fjall::open(&path)?),
        "lmdb" => Box::new(Lmdb::open(directory)?),
        "sqlite" => Box::new(Sqlite::open(&path)?),
        "log" => Box::new(Log::open(&path)?),
        _ => return Err(format!("no such engine: {name} (there are {})", NAMES.join(", ")).into()),
    })
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Io, error.to_string())
}

fn not_here<T>() -> Result<T, StoreError> {
    Err(failed("the benchmark does not use this"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// redb as it comes: one fsync per commit, and after a kill it reads the whole file.
struct RedbFullRepair(redb::Database);

const REDB_TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("chunks");

impl RedbFullRepair {
    fn open(path: &Path) -> Outcome<Self> {
        Ok(Self(redb::Database::builder().set_cache_size(CACHE_BYTES).create(path)?))
    }
}

impl Engine for RedbFullRepair {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        not_here()
    }

    fn scan(&self, _: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        use redb::ReadableDatabase;
        let transaction = self.0.begin_read().map_err(failed)?;
        let table = transaction.open_table(REDB_TABLE).map_err(failed)?;
        for entry in table.range(from..=to).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if let ControlFlow::Break(()) = visit(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let transaction = self.0.begin_write().map_err(failed)?;
        {
            let mut table = transaction.open_table(REDB_TABLE).map_err(failed)?;
            for write in writes {
                match write {
                    Write::Put { key, value, .. } => {
                        table.insert(key.as_slice(), value.as_slice()).map_err(failed)?;
                    }
                    Write::DeleteRange { from, to_inclusive, .. } => {
                        let range = from.as_slice()..=to_inclusive.as_slice();
                        table.retain_in(range, |_, _| false).map_err(failed)?;
                    }
                }
            }
        }
        transaction.commit().map_err(failed)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        not_here()
    }
}

/// An LSM tree with values of this size kept apart from keys.
struct Fjall {
    database: fjall::Database,
    chunks: fjall::Keyspace,
}

impl Fjall {
    fn open(path: &Path) -> Outcome<Self> {
        let database = fjall::Database::builder(path)
            .cache_size(CACHE_BYTES as u64)
            .max_journaling_size(64 * 1024 * 1024)
            .worker_threads(1)
            .open()?;
        let options = || {
            fjall::KeyspaceCreateOptions::default()
                .max_memtable_size(2 * CACHE_BYTES as u64)
                .with_kv_separation(Some(fjall::KvSeparationOptions::default()))
        };
        let chunks = database.keyspace("chunks", options)?;
        Ok(Self { database, chunks })
    }
}

impl Engine for Fjall {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        not_here()
    }

    fn scan(&self, _: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        for entry in self.chunks.range(from..=to) {
            let (key, value) = entry.into_inner().map_err(failed)?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for write in writes {
            match write {
                Write::Put { key, value, .. } => batch.insert(&self.chunks, key.as_slice(), value.as_slice()),
                Write::DeleteRange { from, to_inclusive, .. } => {
                    for entry in self.chunks.range(from.as_slice()..=to_inclusive.as_slice()) {
                        batch.remove(&self.chunks, entry.key().map_err(failed)?);
                    }
                }
            }
        }
        batch.commit().map_err(failed)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        not_here()
    }
}

/// A memory-mapped tree: its cache is the system's, so there is none to set.
struct Lmdb {
    environment: heed::Env,
    chunks: heed::Database<heed::types::Bytes, heed::types::Bytes>,
}

impl Lmdb {
    fn open(directory: &Path) -> Outcome<Self> {
        let mut options = heed::EnvOpenOptions::new();
        options.map_size(4 * 1024 * 1024 * 1024);
        // SAFETY: the directory is this run's own, so nobody else changes the file that is mapped.
        #[allow(unsafe_code)]
        let environment = unsafe { options.open(directory) }?;
        let mut transaction = environment.write_txn()?;
        let chunks = environment.create_database(&mut transaction, None)?;
        transaction.commit()?;
        Ok(Self { environment, chunks })
    }
}

impl Engine for Lmdb {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        not_here()
    }

    fn scan(&self, _: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let transaction = self.environment.read_txn().map_err(failed)?;
        let range = (Bound::Included(from), Bound::Included(to));
        for entry in self.chunks.range(&transaction, &range).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut transaction = self.environment.write_txn().map_err(failed)?;
        for write in writes {
            match write {
                Write::Put { key, value, .. } => {
                    self.chunks.put(&mut transaction, key, value).map_err(failed)?;
                }
                Write::DeleteRange { from, to_inclusive, .. } => {
                    let range = (Bound::Included(from.as_slice()), Bound::Included(to_inclusive.as_slice()));
                    self.chunks.delete_range(&mut transaction, &range).map_err(failed)?;
                }
            }
        }
        transaction.commit().map_err(failed)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        not_here()
    }
}

/// A write-ahead log, synced at each commit.
struct Sqlite(Mutex<rusqlite::Connection>);

impl Sqlite {
    fn open(path: &Path) -> Outcome<Self> {
        let connection = rusqlite::Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -2048;
             CREATE TABLE IF NOT EXISTS chunks (key BLOB PRIMARY KEY, value BLOB NOT NULL);",
        )?;
        Ok(Self(Mutex::new(connection)))
    }
}

impl Engine for Sqlite {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        not_here()
    }

    fn scan(&self, _: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let connection = lock(&self.0);
        let mut statement = connection
            .prepare_cached("SELECT key, value FROM chunks WHERE key BETWEEN ? AND ? ORDER BY key")
            .map_err(failed)?;
        let mut rows = statement.query((from, to)).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let blob = |column| row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from);
            if let ControlFlow::Break(()) = visit(blob(0).map_err(failed)?, blob(1).map_err(failed)?) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut connection = lock(&self.0);
        let transaction = connection.transaction().map_err(failed)?;
        for write in writes {
            let (statement, first, second) = match write {
                Write::Put { key, value, .. } => ("INSERT OR REPLACE INTO chunks VALUES (?, ?)", key, value),
                Write::DeleteRange { from, to_inclusive, .. } => {
                    ("DELETE FROM chunks WHERE key BETWEEN ? AND ?", from, to_inclusive)
                }
            };
            let mut statement = transaction.prepare_cached(statement).map_err(failed)?;
            statement.execute((first, second)).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        not_here()
    }
}

/// The floor: a file that is only appended to, with an index in memory. It never gives space back, and a torn
/// end is not told from a whole one.
struct Log(Mutex<LogState>);

struct LogState {
    file: File,
    end: u64,
    /// Where each value lies, and its length.
    index: BTreeMap<Vec<u8>, (u64, usize)>,
}

/// Before each record: lengths of its key and of its value. A deletion is a record whose value is its
/// range's end, marked by the top bit.
const LOG_HEAD_BYTES: usize = 8;
const LOG_DELETION: u32 = 1 << 31;

impl Log {
    fn open(path: &Path) -> Outcome<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut state = LogState { file, end: 0, index: BTreeMap::new() };
        state.replay()?;
        Ok(Self(Mutex::new(state)))
    }
}

impl LogState {
    fn replay(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        while self.end < length {
            let mut head = [0; LOG_HEAD_BYTES];
            self.file.read_exact_at(&mut head, self.end)?;
            let [key_length, value_length] =
                [u64::from_be_bytes(head) >> 32, u64::from_be_bytes(head) & 0xffff_ffff];
            let (value_length, deletion) =
                (value_length & !u64::from(LOG_DELETION), value_length & u64::from(LOG_DELETION) != 0);
            let mut key = vec![0; key_length as usize];
            self.file.read_exact_at(&mut key, self.end + LOG_HEAD_BYTES as u64)?;
            let value_at = self.end + LOG_HEAD_BYTES as u64 + key_length;
            if deletion {
                let mut to = vec![0; value_length as usize];
                self.file.read_exact_at(&mut to, value_at)?;
                self.forget(&key, &to);
            } else {
                self.index.insert(key, (value_at, value_length as usize));
            }
            self.end = value_at + value_length;
        }
        Ok(())
    }

    fn forget(&mut self, from: &[u8], to: &[u8]) {
        let range = self.index.range::<[u8], _>((Bound::Included(from), Bound::Included(to)));
        let gone: Vec<_> = range.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.index.remove(&key);
        }
    }

    fn commit(&mut self, writes: &[Write]) -> io::Result<()> {
        let mut buffer = Vec::new();
        for write in writes {
            let (key, value, mark) = match write {
                Write::Put { key, value, .. } => (key, value, 0),
                Write::DeleteRange { from, to_inclusive, .. } => (from, to_inclusive, LOG_DELETION),
            };
            buffer.write_all(&(key.len() as u32).to_be_bytes())?;
            buffer.write_all(&(value.len() as u32 | mark).to_be_bytes())?;
            buffer.write_all(key)?;
            if mark == 0 {
                self.index.insert(key.clone(), (self.end + buffer.len() as u64, value.len()));
            } else {
                self.forget(key, value);
            }
            buffer.write_all(value)?;
        }
        self.file.write_all_at(&buffer, self.end)?;
        self.end += buffer.len() as u64;
        self.file.sync_data()
    }
}

impl Engine for Log {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        not_here()
    }

    fn scan(&self, _: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let state = lock(&self.0);
        for (key, (at, length)) in state.index.range::<[u8], _>((Bound::Included(from), Bound::Included(to)))
        {
            let mut value = vec![0; *length];
            state.file.read_exact_at(&mut value, *at)?;
            if let ControlFlow::Break(()) = visit(key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        Ok(lock(&self.0).commit(writes)?)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        not_here()
    }
}
