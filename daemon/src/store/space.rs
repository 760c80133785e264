//! How much room is left on the disk, and whether that is too little to promise anything new.
//!
//! Owns: the floor, and how often the file system is asked. What is refused below it: `core`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::limits::{DISK_FLOOR_PART, DISK_LOOK_WAIT};

/// The file system of the state directory.
#[derive(Debug)]
pub(super) struct Space {
    directory: PathBuf,
    floor_bytes: u64,
    looked: Option<Instant>,
    is_low: bool,
}

impl Space {
    /// What is on `directory`'s file system is kept above `floor_bytes`, or a share of it that is less.
    pub(super) fn new(directory: PathBuf, floor_bytes: u64) -> Self {
        Self { directory, floor_bytes, looked: None, is_low: false }
    }

    /// Whether there is too little room: as it was at most [`DISK_LOOK_WAIT`] ago.
    pub(super) fn is_low(&mut self, now: Instant) -> bool {
        if self.looked.is_some_and(|looked| now < looked + DISK_LOOK_WAIT) {
            return self.is_low;
        }
        self.looked = Some(now);
        // Where the file system does not say, it will say so when it is full.
        let Ok(system) = rustix::fs::statvfs(&self.directory) else { return self.is_low };
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let floor = self.floor_bytes.min(system.f_blocks.saturating_mul(system.f_frsize) / DISK_FLOOR_PART);
        let is_low = free < floor;
        if is_low && !self.is_low {
            let (free, floor) = (free / 1024, floor / 1024);
            log::error!(
                "store: {free} KiB are free, less than {floor}: nothing new is taken until there is room"
            );
        } else if !is_low && self.is_low {
            log::info!("store: there is room again");
        }
        self.is_low = is_low;
        is_low
    }

    /// After what wait to look again though nothing is stored. `None`: whoever stores looks.
    pub(super) fn look_after(&self) -> Option<Duration> {
        self.is_low.then_some(DISK_LOOK_WAIT)
    }
}
