//! The store: what must survive power loss, on threads that may wait for the disk so that the loop need not.
//!
//! It owns the state directory, what lies in it, and the order in which things reach the disk. It must not
//! know connections, frames (messages are opaque bytes here) or the clock (it is told the time).
//!
//! - `request`: what can be asked and what is answered. Start here.
//! - `engine`: the narrow interface to the library that keeps the bytes, so that another can take its place.
//! - `log_engine`: the engine on a disk. A log (`segments`), what of it is not in the index yet (`unsettled`), how much of it is
//!   in use (`usage`), and the index (`redb_engine`).
//! - `fsck`: what is wrong with a store at rest. `source` reads one without changing it.
//! - `frozen`, `copy`: the store as it was at one moment, and how it comes to another place.
//! - docs/store.md: what lies on the disk, byte by byte, and the measurement that chose the engine.

mod batch;
mod beside;
mod changes;
mod committer;
mod copy;
mod damaged_file;
mod engine;
mod error;
mod figures;
mod frozen;
mod fsck;
pub mod limits;
mod log_engine;
mod memory;
mod open;
mod overlay;
mod reading;
mod records;
mod redb_engine;
mod request;
mod salvage;
mod segments;
mod snapshot;
mod source;
mod space;
mod threads;
mod unsettled;
mod usage;

pub use batch::{Applied, Failure, apply_batch};
pub use committer::Committer;
pub use copy::{CopyError, CopyReport, GivenUp, receive_copy};
pub use engine::{Engine, Table, Visit, Write};
pub use error::{OpenError, OpenErrorKind, PublishError, StoreError, StoreErrorKind};
pub use figures::{BUCKETS_US, Durations, Figures};
pub use frozen::Frozen;
pub use fsck::{FsckReport, Gravity, Problem, fsck};
pub use log_engine::{LogEngine, LogSizes};
pub use memory::MemoryEngine;
pub use open::Store;
pub use redb_engine::RedbEngine;
pub use request::{
    BundleRecord, Chunk, Completion, KeyHistory, OneTimeRecord, PrekeyBatchRecord, PrekeyCount, Request,
    RollOverRecord, SignedPrekeyRecord, StoredToken, TOKEN_SECRET_BYTES,
};
pub use snapshot::{LoadError, Snapshot, StoredMailbox, StoredShare, StoredUser};
pub use threads::{StoreHandle, next_batch};
