//! The model disk: what is committed stays, come what may; it can fail, be full, and fail although the writes are there.
//!
//! Owns: the tables, how full it is, and the dice of its failures. Must not know what the records mean, nor time. A
//! transaction is whole or not at all: that is the engine's promise, which `store_kill` holds the real one to.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use e2e_relayd::store::{Engine, StoreError, StoreErrorKind, Table, Visit, Write};

use crate::dice::Dice;

/// How the disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Of a thousand commits so many fail, and of these so many are on the disk all the same.
    pub(super) commits_fail: u64,
    pub(super) failed_are_there: u64,
    /// Of a thousand looks at the disk so many fail.
    pub(super) reads_fail: u64,
    /// Of a thousand attempts to open it again so many fail.
    pub(super) reopens_fail: u64,
    /// It has no room for another message.
    pub(super) full: bool,
}

pub(super) struct ModelDisk(Mutex<State>);

struct State {
    tables: [BTreeMap<Vec<u8>, Vec<u8>>; Table::ALL.len()],
    health: Health,
    dice: Dice,
    failed_commits: u64,
}

fn failure(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, "as the seed wants it")
}

impl ModelDisk {
    pub(super) fn new(seed: u64) -> Self {
        let tables = std::array::from_fn(|_| BTreeMap::new());
        Self(Mutex::new(State {
            tables,
            health: Health::default(),
            dice: Dice::new(seed),
            failed_commits: 0,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_health(&self, health: Health) {
        self.state().health = health;
    }

    pub(super) fn failed_commits(&self) -> u64 {
        self.state().failed_commits
    }
}

impl State {
    fn may_read(&mut self) -> Result<(), StoreError> {
        if self.dice.per_mille(self.health.reads_fail) { Err(failure(StoreErrorKind::Io)) } else { Ok(()) }
    }

    fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            let table = &mut self.tables[write.table() as usize];
            match write {
                Write::Put { key, value, .. } => {
                    table.insert(key.clone(), value.clone());
                }
                Write::DeleteRange { from, to_inclusive, .. } if from <= to_inclusive => {
                    let range = table.range::<Vec<u8>, _>(from..=to_inclusive);
                    let gone: Vec<_> = range.map(|(key, _)| key.clone()).collect();
                    for key in gone {
                        table.remove(&key);
                    }
                }
                Write::DeleteRange { .. } => {}
            }
        }
    }
}

impl Engine for ModelDisk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut state = self.state();
        state.may_read()?;
        Ok(state.tables[table as usize].get(key).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to_inclusive: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        state.may_read()?;
        if from > to_inclusive {
            return Ok(());
        }
        for (key, value) in state.tables[table as usize].range(from.to_vec()..=to_inclusive.to_vec()) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut state = self.state();
        let (health, grows) =
            (state.health, |write: &Write| matches!(write, Write::Put { table: Table::Chunks, .. }));
        if health.full && writes.iter().any(grows) {
            state.failed_commits += 1;
            return Err(failure(StoreErrorKind::DiskFull));
        }
        if state.dice.per_mille(health.commits_fail) {
            state.failed_commits += 1;
            if state.dice.per_mille(health.failed_are_there) {
                state.apply(writes);
            }
            return Err(failure(StoreErrorKind::Io));
        }
        state.apply(writes);
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        let fails = state.health.reopens_fail;
        if state.dice.per_mille(fails) { Err(failure(StoreErrorKind::Io)) } else { Ok(()) }
    }
}
