//! Changes of one table that are not where they belong yet, and a view of the table as if they were.
//!
//! This file owns the order of deletions and puts. It must not know what the records mean, nor where the table is.

use std::{collections::BTreeMap, ops::Bound, ops::ControlFlow};

use super::{StoreError, Table, Visit, Write};

/// One change, where it lies in memory.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    /// Key and value.
    Put(&'a [u8], &'a [u8]),
    /// The lowest and the highest key to go.
    DeleteRange(&'a [u8], &'a [u8]),
}

impl<'a> From<&'a Write> for Change<'a> {
    fn from(write: &'a Write) -> Self {
        match write {
            Write::Put { key, value, .. } => Self::Put(key, value),
            Write::DeleteRange { from, to_inclusive, .. } => Self::DeleteRange(from, to_inclusive),
        }
    }
}

/// A deletion takes what was put before out of `put`; a put after it stays. So the deletions can all be carried out first.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Ranges by their lowest key, to their highest: they do not overlap.
    gone: BTreeMap<Vec<u8>, Vec<u8>>,
    put: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Changes {
    /// What became of a key: `None` if nothing did, `Some(None)` if it is gone.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&Vec<u8>>> {
        match self.put.get(key) {
            None if self.is_gone(key) => Some(None),
            None => None,
            value => Some(value),
        }
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.put.insert(key, value);
    }

    pub(super) fn delete_range(&mut self, mut from: Vec<u8>, mut to: Vec<u8>) {
        if from > to {
            return;
        }
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

    /// How many changes there are.
    pub(super) fn len(&self) -> usize {
        self.gone.len() + self.put.len()
    }

    /// Whether a key that is not put is deleted.
    pub(super) fn is_gone(&self, key: &[u8]) -> bool {
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        self.gone.range::<[u8], _>(up_to_key).next_back().is_some_and(|(_, to)| to.as_slice() >= key)
    }

    /// All changes, in an order in which they can be carried out: deletions first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        let gone = self.gone.iter().map(|(from, to)| Change::DeleteRange(from, to));
        gone.chain(self.put.iter().map(|(key, value)| Change::Put(key, value)))
    }

    /// The same as writes.
    pub(super) fn into_writes(self, table: Table) -> impl Iterator<Item = Write> {
        let gone = self.gone.into_iter().map(move |(from, to_inclusive)| Write::DeleteRange {
            table,
            from,
            to_inclusive,
        });
        gone.chain(self.put.into_iter().map(move |(key, value)| Write::Put { table, key, value }))
    }

    /// Calls `visit` with each key and value of a range as they are with these changes. `scan` calls what it is given with those
    /// that the table has without them, in the order of their keys.
    pub(super) fn scan(
        &self,
        from: &[u8],
        to_inclusive: &[u8],
        scan: impl FnOnce(&mut Visit<'_>) -> Result<(), StoreError>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if from > to_inclusive {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Included(to_inclusive));
        let mut puts = self.put.range::<[u8], _>(range).peekable();
        let mut ended = false;
        scan(&mut |key, value| {
            while let Some((put, value)) = puts.next_if(|(put, _)| put.as_slice() < key) {
                if visit(put, value).is_break() {
                    ended = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match puts.next_if(|(put, _)| put.as_slice() == key) {
                Some((_, value)) => visit(key, value),
                None if self.is_gone(key) => ControlFlow::Continue(()),
                None => visit(key, value),
            };
            ended = flow.is_break();
            flow
        })?;
        if !ended {
            for (key, value) in puts {
                if visit(key, value).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }
}
