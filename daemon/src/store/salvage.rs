//! From a damaged database to a whole one that holds what could be read of it.
//!
//! This file owns what is kept and what is dropped, and that nothing is lost on the way: the damaged file is
//! set aside under another name, never changed and never deleted. How it is read: `damaged_file` and, with what the
//! log has that is newer, `source`.
//!
//! What is dropped was never promised to last without a whole disk, or is asked for again: a message whose receipt
//! does not come is sent again by its sender, prekeys are published again by their owner.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use e2e_protocol::ids::{KeyId, Sequence};

use super::{
    Engine, RedbEngine, StoreError, StoreErrorKind, StoredMailbox, Table, Write,
    beside::Beside,
    damaged_file::{DamagedFile, Header},
    limits::SALVAGE_COMMIT_BYTES,
    log_engine,
    records::{
        self, BatchHead, META_BOOT, META_CLOCK, META_FORMAT, META_LOG, META_RELAY_ID, Reference, User,
    },
    segments::{self, Access},
    source::Source,
    usage::Turnover,
};

/// What came of it, for the log.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    names: u64,
    names_before: Option<u64>,
    messages: u64,
    messages_before: Option<u64>,
    /// Names whose identity key or prekeys are gone.
    without_keys: HashSet<u32>,
    /// What was committed last may be missing.
    is_behind: bool,
    /// Where the damaged file is now.
    pub(super) set_aside: PathBuf,
}

impl fmt::Display for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |before: Option<u64>| before.map_or("an unknown number of".to_owned(), |n| n.to_string());
        write!(
            f,
            "saved {} of {} names and {} of {} messages{}; keys of {} names are lost; the damaged file is now {}",
            self.names,
            of(self.names_before),
            self.messages,
            of(self.messages_before),
            if self.is_behind { ", but for what was committed last" } else { "" },
            self.without_keys.len(),
            self.set_aside.display()
        )
    }
}

/// Why nothing could be saved. The damaged file is where it was.
#[derive(Debug)]
pub(super) enum SalvageError {
    /// Not even the relay's id: with another one, its clients would not know it again.
    NoRelayId,
    /// It is of a newer format, and damaged.
    NewerFormat(u32),
    /// The new file could not be written, or put in place.
    Store(StoreError),
}

impl From<StoreError> for SalvageError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for SalvageError {
    fn from(error: io::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Puts a whole database in the place of the damaged one at `path`. Cut off at any point, it leaves either the
/// damaged one, to begin again with, or the whole one.
pub(super) fn salvage(path: &Path) -> Result<Salvaged, SalvageError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let new = &in_the_making(path);
    let file = DamagedFile::open(path)?;
    let commit = match file.header() {
        Header::Commit(commit) => Some(commit),
        Header::Newer(version) => return Err(SalvageError::NewerFormat(version.into())),
        Header::Unreadable => None,
    };
    remove(new)?;
    let mut saving = Saving::into_new(new)?;
    let beside = Beside::read(directory);
    let log = directory.join(log_engine::DIRECTORY);
    let source = commit.map(|commit| Source::over(&file, commit, &log, Access::ReadWrite));
    let source = source.transpose()?;
    for number in source.iter().flat_map(|source| &source.damaged) {
        segments::set_aside(&log, *number)?;
    }
    let result = saving.meta(source.as_ref(), beside).and_then(|()| match &source {
        Some(source) => saving.records(source),
        // Pages that nothing points to may be outdated, or made up by whoever sent what lies in them.
        None => Ok(()),
    });
    if let Err(error) = result {
        drop(saving);
        remove(new)?;
        return Err(error);
    }
    let mut salvaged = saving.finish()?;
    salvaged.is_behind = source.as_ref().is_none_or(|source| !source.is_latest);
    salvaged.set_aside = set_aside(path)?;
    if source.is_none() {
        // What is in it can be found only with what the damaged file said.
        set_log_aside(&log)?;
    }
    // On the disk before the first name goes, or a power cut could leave the damaged file without any.
    File::open(directory)?.sync_all()?;
    fs::rename(new, path)?;
    File::open(directory)?.sync_all()?;
    Ok(salvaged)
}

/// Where a database is made that is to be at `path`. What a cut-off start left there is made anew.
pub(super) fn in_the_making(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Gives the damaged file a second name, which stays when the first goes to the new one. It has one already if
/// an earlier attempt was cut off.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let inode = fs::metadata(path)?.ino();
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    let first = PathBuf::from(name);
    for number in 1_u32.. {
        let aside =
            if number == 1 { first.clone() } else { first.with_extension(format!("damaged-{number}")) };
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::metadata(&aside).is_ok_and(|found| found.ino() == inode) {
                    return Ok(aside);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Gives the log another name, if there is one.
fn set_log_aside(log: &Path) -> io::Result<()> {
    if !log.exists() {
        return Ok(());
    }
    let free =
        (1_u32..).map(|number| log.with_extension(format!("damaged-{number}"))).find(|aside| !aside.exists());
    fs::rename(log, free.ok_or(io::ErrorKind::AlreadyExists)?)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The new database while it is filled.
struct Saving {
    engine: RedbEngine,
    writes: Vec<Write>,
    /// Of `writes`.
    bytes: usize,
    users: BTreeMap<u32, User>,
    mailboxes: BTreeMap<u32, StoredMailbox>,
    /// What of the log is in use.
    turnover: Turnover,
    salvaged: Salvaged,
}

impl Saving {
    fn into_new(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            engine: RedbEngine::create(path)?,
            writes: Vec::new(),
            bytes: 0,
            users: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            turnover: Turnover::default(),
            salvaged: Salvaged::default(),
        })
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.bytes += key.len() + value.len();
        self.writes.push(Write::Put { table, key: key.to_vec(), value: value.to_vec() });
        if self.bytes < SALVAGE_COMMIT_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        self.engine.commit(&std::mem::take(&mut self.writes))
    }

    fn finish(mut self) -> Result<Salvaged, StoreError> {
        for (slot, user) in std::mem::take(&mut self.users) {
            self.salvaged.names += 1;
            self.put(Table::Users, &records::slot_key(slot), &user.emit())?;
        }
        for (slot, mailbox) in std::mem::take(&mut self.mailboxes) {
            self.salvaged.messages += mailbox.messages;
            self.put(Table::Mailboxes, &records::slot_key(slot), &records::emit_mailbox(&mailbox))?;
        }
        for (number, live) in std::mem::take(&mut self.turnover).into_used() {
            self.put(Table::Segments, &number.to_be_bytes(), &live.to_be_bytes())?;
        }
        self.engine.commit(&std::mem::take(&mut self.writes))?;
        Ok(self.salvaged)
    }

    /// Format, id, starts and clock: by the file, or by what lies beside it.
    fn meta(&mut self, source: Option<&Source<'_>>, beside: Option<Beside>) -> Result<(), SalvageError> {
        let mut meta = BTreeMap::new();
        if let Some(source) = source {
            source.each(Table::Meta, &mut |key, value| {
                meta.insert(key.to_vec(), value.to_vec());
            });
            self.put(Table::Meta, META_LOG, &records::emit_position(source.end))?;
        }
        let u32_of = |key| meta.get(key).and_then(|value| records::parse_u32(value).ok());
        if let Some(format) = u32_of(META_FORMAT).filter(|format| *format > records::FORMAT) {
            return Err(SalvageError::NewerFormat(format));
        }
        let relay_id = meta.get(META_RELAY_ID).and_then(|value| records::parse_relay_id(value).ok());
        let relay_id = relay_id.or(beside.map(|beside| beside.relay_id)).ok_or(SalvageError::NoRelayId)?;
        // The commit before the one in force may be of the start before. One more does no harm.
        let boot = u32_of(META_BOOT).max(beside.map(|beside| beside.boot)).unwrap_or_default();
        let clock = meta.get(META_CLOCK).and_then(|value| records::parse_u64(value).ok()).unwrap_or_default();
        self.put(Table::Meta, META_FORMAT, &records::FORMAT.to_be_bytes())?;
        self.put(Table::Meta, META_RELAY_ID, &relay_id.0)?;
        self.put(Table::Meta, META_BOOT, &boot.saturating_add(1).to_be_bytes())?;
        self.put(Table::Meta, META_CLOCK, &clock.to_be_bytes())?;
        Ok(())
    }

    /// Everything that can be read of a commit and fits together.
    fn records(&mut self, source: &Source<'_>) -> Result<(), SalvageError> {
        let (mut names, mut found) = (HashSet::new(), 0);
        let whole = source.each(Table::Users, &mut |key, value| {
            found += 1;
            if let (Ok(slot), Ok(user)) = (records::slot_of_key(key), User::parse(value))
                && names.insert(user.name)
            {
                self.users.insert(slot, user);
            }
        });
        let before = if whole { found } else { source.commit.records(Table::Users).max(found) };
        self.salvaged.names_before = Some(before);
        self.keys(source)?;
        self.messages(source)?;
        self.each_held(source, Table::Blocks, |saving, _, key, value| match records::parse_block_key(key) {
            Ok((_, blocked)) if saving.users.contains_key(&blocked) => saving.put(Table::Blocks, key, value),
            _ => Ok(()),
        })?;
        let mut result = Ok(());
        source.each(Table::Tokens, &mut |key, value| {
            if result.is_ok() && records::parse_token(key, value).is_ok() {
                result = self.put(Table::Tokens, key, value);
            }
        });
        result?;
        Ok(())
    }

    /// Calls `take` with each record of a table whose slot is held by a name that was saved.
    fn each_held(
        &mut self,
        source: &Source<'_>,
        table: Table,
        mut take: impl FnMut(&mut Self, u32, &[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut result = Ok(());
        source.each(table, &mut |key, value| {
            let slot = records::slot_of_key(key).ok().filter(|slot| self.users.contains_key(slot));
            if let (Some(slot), Ok(())) = (slot, &result) {
                result = take(self, slot, key, value);
            }
        });
        result
    }

    fn keys(&mut self, source: &Source<'_>) -> Result<(), StoreError> {
        let (mut identified, mut signed) = (HashSet::new(), HashSet::new());
        let mut with_prekeys = HashSet::new();
        self.each_held(source, Table::IdentityKeys, |saving, slot, key, value| {
            if records::parse_modulus(value).is_err() {
                return Ok(());
            }
            identified.insert(slot);
            saving.put(Table::IdentityKeys, key, value)
        })?;
        self.each_held(source, Table::RollOvers, |saving, slot, key, value| {
            let Ok(history) = records::parse_key_history(value) else { return Ok(()) };
            if identified.insert(slot) {
                saving.put(Table::IdentityKeys, key, history.present())?;
            }
            saving.put(Table::RollOvers, key, value)
        })?;
        self.each_held(source, Table::SignedPrekeys, |saving, slot, key, value| {
            let Ok(prekey) = records::parse_signed_prekey(value) else { return Ok(()) };
            let in_force = saving.users.get(&slot).map(|user| user.signed_prekey);
            if in_force != Some(records::key_id(&prekey.modulus)) {
                return Ok(());
            }
            signed.insert(slot);
            saving.put(Table::SignedPrekeys, key, value)
        })?;
        // Where something is missing of what was committed last, it is not known what was handed out.
        let mut batches = Batches { is_latest: source.is_latest, slot: None, found: BTreeMap::new() };
        self.each_held(source, Table::PrekeyBatches, |saving, slot, key, value| {
            if batches.slot != Some(slot) {
                batches.close(saving)?;
                batches.slot = Some(slot);
            }
            if signed.contains(&slot) {
                with_prekeys.insert(slot);
                batches.found.insert(key.to_vec(), value.to_vec());
            }
            Ok(())
        })?;
        batches.close(self)?;
        for (slot, user) in &mut self.users {
            let mut lost = !identified.contains(slot);
            if user.signed_prekey != KeyId::ZERO && !signed.contains(slot) {
                (user.signed_prekey, user.batches) = (KeyId::ZERO, Vec::new());
                lost = true;
            }
            if !with_prekeys.contains(slot) {
                lost |= user.batches.iter().any(|batch| batch.used < batch.count);
                user.batches.iter_mut().for_each(|batch| batch.used = batch.count);
            }
            if lost {
                self.salvaged.without_keys.insert(*slot);
            }
        }
        Ok(())
    }

    fn messages(&mut self, source: &Source<'_>) -> Result<(), StoreError> {
        let mut before = BTreeMap::new();
        let whole = source.each(Table::Mailboxes, &mut |key, value| {
            if let Ok(mailbox) =
                records::slot_of_key(key).and_then(|slot| records::parse_mailbox(slot, value))
            {
                before.insert(mailbox.slot, mailbox);
            }
        });
        if whole {
            self.salvaged.messages_before = Some(before.values().map(|mailbox| mailbox.messages).sum());
        }
        self.each_held(source, Table::Chunks, |saving, slot, key, value| {
            let whole = source.whole(Table::Chunks, value)?;
            let Some(Ok(chunk)) = whole.map(|whole| records::parse_chunk(key, &whole)) else { return Ok(()) };
            let acked =
                before.get(&slot).map_or(Sequence(chunk.first.0.saturating_sub(1)), |known| known.acked);
            let nothing = StoredMailbox { slot, acked, durable: acked, messages: 0, bytes: 0 };
            let mailbox = saving.mailboxes.entry(slot).or_insert(nothing);
            if chunk.last <= mailbox.acked {
                return Ok(());
            }
            mailbox.durable = mailbox.durable.max(chunk.last);
            mailbox.messages += u64::from(chunk.messages);
            mailbox.bytes += chunk.bytes.len() as u64;
            if let Some(place) = Reference::parse(Table::Chunks, value) {
                saving.turnover.used(place.segment, place.length);
            }
            saving.put(Table::ChunkShares, key, &records::emit_chunk_shares(&chunk.bytes))?;
            saving.put(Table::Chunks, key, value)
        })?;
        self.mailboxes.retain(|slot, mailbox| {
            // The first chunk may hold messages that were acknowledged: the record does not count them.
            if let Some(before) = before.get(slot) {
                mailbox.messages = mailbox.messages.min(before.messages);
                mailbox.bytes = mailbox.bytes.min(before.bytes);
            }
            mailbox.durable > mailbox.acked
        });
        Ok(())
    }
}

/// The prekey batches of one name while they are gathered.
struct Batches {
    is_latest: bool,
    slot: Option<u32>,
    found: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Batches {
    /// Keeps those that are complete, and counts the others as handed out.
    fn close(&mut self, saving: &mut Saving) -> Result<(), StoreError> {
        let found = std::mem::take(&mut self.found);
        let Some(slot) = self.slot.filter(|_| !found.is_empty()) else { return Ok(()) };
        let Some(user) = saving.users.get_mut(&slot) else { return Ok(()) };
        let mut kept = Vec::new();
        let mut lost = false;
        for (number, batch) in (0..).zip(&mut user.batches) {
            let head_key = records::prekey_key(slot, number, 0);
            let head = found.get(&head_key).and_then(|head| BatchHead::parse(head).ok());
            let keys: Vec<_> =
                (batch.used + 1..=batch.count).map(|i| records::prekey_key(slot, number, i)).collect();
            let is_whole = head.is_some_and(|head| {
                head.hashes.len() == usize::from(batch.count)
                    && keys.iter().zip(head.hashes.iter().skip(batch.used.into())).all(|(key, hash)| {
                        let modulus = found.get(key).and_then(|value| records::parse_modulus(value).ok());
                        modulus.is_some_and(|modulus| records::modulus_hash(&modulus) == *hash)
                    })
            });
            // The head stays where it can, so that a batch that is published again is known.
            kept.push(head_key);
            if is_whole && self.is_latest {
                kept.extend(keys);
            } else {
                lost |= batch.used < batch.count;
                batch.used = batch.count;
            }
        }
        if lost {
            saving.salvaged.without_keys.insert(slot);
        }
        for key in kept {
            if let Some(value) = found.get(&key) {
                saving.put(Table::PrekeyBatches, &key, value)?;
            }
        }
        Ok(())
    }
}

/// What an error of the salvage is for the engine that asked for it.
impl From<SalvageError> for StoreError {
    fn from(error: SalvageError) -> Self {
        match error {
            SalvageError::Store(error) => error,
            SalvageError::NoRelayId => {
                Self::new(StoreErrorKind::Damaged, "nothing could be saved, not even the relay's id")
            }
            SalvageError::NewerFormat(format) => {
                Self::new(StoreErrorKind::Damaged, format!("it is of a newer format: {format}"))
            }
        }
    }
}
