//! Changes that are not committed yet, and a view of the engine as if they were.
//!
//! This file owns one table's pending changes. It must not know what the records mean.

use std::{collections::BTreeMap, ops::Bound};

use super::{Engine, StoreError, Table, Write};

/// What a batch will change, over an engine that does not know of it yet.
pub(super) struct Overlay<'e> {
    engine: &'e dyn Engine,
    tables: BTreeMap<Table, Changes>,
}

/// A deletion takes what was put before out of `put`; a put after it stays. So the deletions of a table can
/// all be carried out first.
#[derive(Default)]
struct Changes {
    /// Ranges by their lowest key, to their highest: they do not overlap.
    gone: BTreeMap<Vec<u8>, Vec<u8>>,
    put: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'e> Overlay<'e> {
    pub(super) fn over(engine: &'e dyn Engine) -> Self {
        Self { engine, tables: BTreeMap::new() }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.tables.get(&table) {
            Some(changes) if changes.put.contains_key(key) => Ok(changes.put.get(key).cloned()),
            Some(changes) if changes.is_gone(key) => Ok(None),
            _ => self.engine.get(table, key),
        }
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.tables.entry(table).or_default().put.insert(key, value);
    }

    pub(super) fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.delete_range(table, key.clone(), key);
    }

    pub(super) fn delete_range(&mut self, table: Table, from: Vec<u8>, to_inclusive: Vec<u8>) {
        self.tables.entry(table).or_default().delete_range(from, to_inclusive);
    }

    /// Everything that changed. Nothing: no commit is needed.
    pub(super) fn into_writes(self) -> Vec<Write> {
        let writes = self.tables.into_iter().flat_map(|(table, Changes { gone, put })| {
            let gone = gone.into_iter().map(move |(from, to_inclusive)| Write::DeleteRange {
                table,
                from,
                to_inclusive,
            });
            gone.chain(put.into_iter().map(move |(key, value)| Write::Put { table, key, value }))
        });
        writes.collect()
    }
}

impl Changes {
    fn is_gone(&self, key: &[u8]) -> bool {
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        self.gone.range::<[u8], _>(up_to_key).next_back().is_some_and(|(_, to)| to.as_slice() >= key)
    }

    fn delete_range(&mut self, mut from: Vec<u8>, mut to: Vec<u8>) {
        let put: Vec<_> = self.put.range(from.clone()..=to.clone()).map(|(key, _)| key.clone()).collect();
        for key in put {
            self.put.remove(&key);
        }
        // Join it with what it overlaps: a range that reaches into it from below, and those that start in it.
        if let Some((below, below_to)) = self.gone.range(..=from.clone()).next_back()
            && *below_to >= from
        {
            (from, to) = (below.clone(), to.max(below_to.clone()));
        }
        let inside: Vec<_> = self.gone.range(from.clone()..=to.clone()).map(|(key, _)| key.clone()).collect();
        for key in inside {
            if let Some(end) = self.gone.remove(&key) {
                to = to.max(end);
            }
        }
        self.gone.insert(from, to);
    }
}
