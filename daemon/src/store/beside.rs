//! The relay's id and its count of starts, once more, in a file of their own beside the database.
//!
//! Clients pin the relay's id and refuse another one, so it must outlive a database that is damaged beyond
//! that; and sequences rise with the count of starts. One line of text: the id in hex, the count, and the first
//! four bytes of the SHA-256 of what is before, in hex.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use e2e_protocol::ids::RelayId;
use sha2::{Digest, Sha256};

/// The file, and the same while it is written.
const FILE: &str = "relay-id";
const FILE_NEW: &str = "relay-id.new";

/// What is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) relay_id: RelayId,
    /// Starts, up to the last one that came to an end of its opening.
    pub(super) boot: u32,
}

impl Beside {
    /// Whether there is such a file, readable or not.
    pub(super) fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// `None`: there is none, or it is damaged.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join(FILE)).ok()?;
        let (fields, check) = text.trim_end().rsplit_once(' ')?;
        if check != check_of(fields) {
            return None;
        }
        let (id, boot) = fields.split_once(' ')?;
        let mut relay_id = [0; 32];
        for (byte, digits) in relay_id.iter_mut().zip(id.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        (id.len() == 64).then_some(Self { relay_id: RelayId(relay_id), boot: boot.parse().ok()? })
    }

    /// Removes it, if it is there.
    pub(super) fn remove(directory: &Path) {
        let _ = fs::remove_file(directory.join(FILE_NEW));
        let _ = fs::remove_file(directory.join(FILE));
    }

    /// Puts it in place of what was there, at once or not at all.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let id: String = self.relay_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = format!("{id} {}", self.boot);
        let new = directory.join(FILE_NEW);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        writeln!(file, "{fields} {}", check_of(&fields))?;
        file.sync_all()?;
        fs::rename(&new, directory.join(FILE))?;
        File::open(directory)?.sync_all()
    }
}

fn check_of(fields: &str) -> String {
    Sha256::digest(fields.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
