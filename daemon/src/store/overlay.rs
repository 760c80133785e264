//! What a batch will change, over an engine that does not know of it yet.
//!
//! This file owns the changes of all tables until they are committed. It must not know what the records mean.

use std::collections::BTreeMap;

use super::{Engine, StoreError, Table, Write, changes::Changes};

/// See the module.
pub(super) struct Overlay<'e> {
    engine: &'e dyn Engine,
    tables: BTreeMap<Table, Changes>,
}

impl<'e> Overlay<'e> {
    pub(super) fn over(engine: &'e dyn Engine) -> Self {
        Self { engine, tables: BTreeMap::new() }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.tables.get(&table).and_then(|changes| changes.get(key)) {
            Some(value) => Ok(value.cloned()),
            None => self.engine.get(table, key),
        }
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.tables.entry(table).or_default().put(key, value);
    }

    pub(super) fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.delete_range(table, key.clone(), key);
    }

    pub(super) fn delete_range(&mut self, table: Table, from: Vec<u8>, to_inclusive: Vec<u8>) {
        self.tables.entry(table).or_default().delete_range(from, to_inclusive);
    }

    /// Everything that changed. Nothing: no commit is needed.
    pub(super) fn into_writes(self) -> Vec<Write> {
        self.tables.into_iter().flat_map(|(table, changes)| changes.into_writes(table)).collect()
    }
}
