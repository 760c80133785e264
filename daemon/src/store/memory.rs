//! An engine in memory, for tests and simulation: durable as long as the process lives.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
};

use super::{Engine, StoreError, Table, Visit, Write};

type Tables = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Ordered maps behind a lock. It never fails.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    tables: Mutex<Tables>,
}

impl MemoryEngine {
    /// Nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        // A panic elsewhere cannot leave the maps half changed: nothing in here panics.
        look(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Engine for MemoryEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.with(|tables| tables.get(&table)?.get(key).cloned()))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to_inclusive: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if from > to_inclusive {
            return Ok(());
        }
        self.with(|tables| {
            for (key, value) in tables.entry(table).or_default().range(from.to_vec()..=to_inclusive.to_vec())
            {
                if let ControlFlow::Break(()) = visit(key, value) {
                    break;
                }
            }
        });
        Ok(())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.with(|tables| {
            for write in writes {
                match write {
                    Write::Put { table, key, value } => {
                        tables.entry(*table).or_default().insert(key.clone(), value.clone());
                    }
                    Write::DeleteRange { table, from, to_inclusive } if from <= to_inclusive => {
                        let table = tables.entry(*table).or_default();
                        let range = table.range(from.clone()..=to_inclusive.clone());
                        let gone: Vec<_> = range.map(|(key, _)| key.clone()).collect();
                        for key in gone {
                            table.remove(&key);
                        }
                    }
                    Write::DeleteRange { .. } => {}
                }
            }
        });
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
