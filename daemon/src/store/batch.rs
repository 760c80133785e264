//! What each request means: requests in, one commit, completions out. No thread, no clock, no disk of its own.
//!
//! This file owns the semantics. It must not know who asks or when: `committer` decides what happens after
//! a failure, `threads` what goes into a batch.

use std::collections::BTreeMap;

use e2e_protocol::ids::{Fingerprint, KeyId, Sequence};

use super::{
    Completion, Engine, OneTimeRecord, PrekeyBatchRecord, PrekeyCount, PublishError, Request, RollOverRecord,
    SignedPrekeyRecord, StoreError, StoreErrorKind, StoredMailbox, Table, Write,
    limits::{BATCH_KEYS_MAX, CHUNK_BYTES_BEST, CHUNK_MEMORY_KEPT, PREKEY_BATCHES_MAX},
    overlay::Overlay,
    reading,
    records::{self, BatchHead, BatchUse, ChunkRecord, User},
};

/// What came of a batch.
#[derive(Debug)]
pub struct Applied {
    /// One for each request but [`Request::Acked`], in their order.
    pub completions: Vec<Completion>,
    /// What the engine cannot be expected to get over by itself: it has to be reopened.
    pub failure: Option<Failure>,
}

/// Where an engine failed.
#[derive(Debug)]
pub enum Failure {
    /// Every request that needed the commit has its failure among the completions, acknowledgements have to
    /// be asked for again. What was to be written may be there or not.
    Commit(StoreError),
    /// The commit was carried out, but something could not be read.
    Read(StoreError),
}

/// Carries out `requests` in one commit, which also records that it was `now` (Unix milliseconds).
pub fn apply_batch(engine: &dyn Engine, requests: &[Request], now: u64) -> Applied {
    apply_with(engine, requests, now, &mut ChunkMemory::default())
}

/// The same, with the memory of an earlier batch.
pub(super) fn apply_with(
    engine: &dyn Engine,
    requests: &[Request],
    now: u64,
    memory: &mut ChunkMemory,
) -> Applied {
    let (mut answers, mut failure) = match commit(engine, requests, now, memory) {
        Ok(answers) => (answers, None),
        Err(error) => {
            let refuse = |request| failed(request, error.kind);
            (requests.iter().map(refuse).collect(), Some(Failure::Commit(error)))
        }
    };
    for (request, answer) in requests.iter().zip(&mut answers) {
        if reading::is_read(request) {
            let (read, error) = reading::answer(engine, request);
            *answer = read;
            failure = failure.or(error.map(Failure::Read));
        }
    }
    Applied { completions: answers.into_iter().flatten().collect(), failure }
}

/// The same, for those that need a commit; the others get no answer.
fn commit(
    engine: &dyn Engine,
    requests: &[Request],
    now: u64,
    memory: &mut ChunkMemory,
) -> Result<Vec<Option<Completion>>, StoreError> {
    let mut batch = Batch { memory: std::mem::take(memory), ..Batch::over(engine) };
    let answers = requests.iter().map(|request| batch.handle(request)).collect::<Result<_, _>>()?;
    *memory = batch.commit(now)?;
    Ok(answers)
}

/// Memory in which chunks were made: taken anew for each batch, it would be given back to the system and zeroed by it in between.
#[derive(Default)]
pub(super) struct ChunkMemory {
    free: Vec<Vec<u8>>,
    bytes: usize,
}

impl ChunkMemory {
    fn take(&mut self) -> Vec<u8> {
        let memory = self.free.pop().unwrap_or_default();
        self.bytes -= memory.capacity();
        memory
    }

    fn give_back(&mut self, writes: Vec<Write>) {
        for write in writes {
            if let Write::Put { table: Table::Chunks, value, .. } = write
                && self.bytes + value.capacity() <= CHUNK_MEMORY_KEPT
            {
                self.bytes += value.capacity();
                self.free.push(value);
            }
        }
    }
}

/// The answer to a request that could not be carried out.
pub(super) fn failed(request: &Request, error: StoreErrorKind) -> Option<Completion> {
    match *request {
        Request::Append { slot, first, last, .. } => {
            Some(Completion::AppendFailed { slot, first, last, error })
        }
        Request::Acked { .. } => None,
        Request::ReadBacklog { slot, token, .. } => {
            Some(Completion::Backlog { slot, token, result: Err(error) })
        }
        Request::Register { slot, token, .. } => {
            Some(Completion::Registered { slot, token, result: Err(error) })
        }
        Request::Publish { slot, token, .. } => {
            Some(Completion::Published { slot, token, result: Err(PublishError::Store(error)) })
        }
        Request::TakeBundle { slot, token, .. } => {
            Some(Completion::Bundle { slot, token, result: Err(error) })
        }
        Request::RollOver { slot, token, .. } => {
            Some(Completion::RolledOver { slot, token, result: Err(error) })
        }
        Request::Remove { slot, token, .. } => Some(Completion::Removed { slot, token, result: Err(error) }),
        Request::Block { token, .. } => Some(Completion::Blocked { token, result: Err(error) }),
        Request::PutToken { token, .. } | Request::DropToken { token, .. } => {
            Some(Completion::TokenChanged { token, result: Err(error) })
        }
        Request::ReadKeys { slot, token } => Some(Completion::Keys { slot, token, result: Err(error) }),
    }
}

/// One commit in the making. Each handler reads before it changes anything, so that one that finds a
/// malformed record fails alone.
pub(super) struct Batch<'e> {
    engine: &'e dyn Engine,
    overlay: Overlay<'e>,
    /// The last chunk of a mailbox, while appends of this batch may still join it.
    open: BTreeMap<u32, ChunkRecord>,
    memory: ChunkMemory,
}

impl<'e> Batch<'e> {
    pub(super) fn over(engine: &'e dyn Engine) -> Self {
        let memory = ChunkMemory::default();
        Self { engine, overlay: Overlay::over(engine), open: BTreeMap::new(), memory }
    }

    /// Commits, if there is anything to commit. Returns the memory of its chunks.
    pub(super) fn commit(mut self, now: u64) -> Result<ChunkMemory, StoreError> {
        for (slot, chunk) in std::mem::take(&mut self.open) {
            self.close(slot, chunk);
        }
        let mut writes = self.overlay.into_writes();
        if writes.is_empty() {
            return Ok(self.memory);
        }
        let (table, key, value) = (Table::Meta, records::META_CLOCK.to_vec(), now.to_be_bytes().to_vec());
        writes.push(Write::Put { table, key, value });
        self.engine.commit(&writes)?;
        self.memory.give_back(writes);
        Ok(self.memory)
    }

    /// Takes one request into the batch and prepares its answer. An error is the engine's and ends the batch.
    pub(super) fn handle(&mut self, request: &Request) -> Result<Option<Completion>, StoreError> {
        match self.try_handle(request) {
            Err(error) if error.kind == StoreErrorKind::Corrupted => {
                log::error!("store: {error}");
                Ok(failed(request, error.kind))
            }
            result => result,
        }
    }

    fn try_handle(&mut self, request: &Request) -> Result<Option<Completion>, StoreError> {
        match *request {
            Request::Append { slot, first, last, messages, ref bytes } => {
                self.append(slot, first, last, messages, bytes)?;
                Ok(Some(Completion::Appended { slot, last }))
            }
            Request::Acked { slot, acked, messages_left, bytes_left } => {
                self.acked(slot, acked, messages_left, bytes_left)?;
                Ok(None)
            }
            Request::Register { slot, generation, name, fingerprint, ref identity_key, token } => {
                let user =
                    User { generation, name, fingerprint, signed_prekey: KeyId::ZERO, batches: Vec::new() };
                self.register(slot, &user, identity_key.to_vec())?;
                Ok(Some(Completion::Registered { slot, token, result: Ok(()) }))
            }
            Request::Publish { slot, ref signed_prekey, ref batch, token } => {
                let result = self.publish(slot, signed_prekey.as_deref(), batch.as_deref())?;
                Ok(Some(Completion::Published { slot, token, result }))
            }
            Request::TakeBundle { slot, one_time: true, token } => {
                let result = Ok(self.take_bundle(slot)?);
                Ok(Some(Completion::Bundle { slot, token, result }))
            }
            Request::RollOver { slot, generation, fingerprint, ref roll_over, token } => {
                self.roll_over(slot, generation, fingerprint, roll_over)?;
                Ok(Some(Completion::RolledOver { slot, token, result: Ok(()) }))
            }
            Request::Remove { slot, generation, ref blockers, token } => {
                if self.is_held_by(slot, generation)? {
                    self.drop_user(slot);
                    for blocker in blockers {
                        self.overlay.delete(Table::Blocks, records::block_key(*blocker, slot));
                    }
                }
                Ok(Some(Completion::Removed { slot, token, result: Ok(()) }))
            }
            Request::Block { slot, other, block, token } => {
                let key = records::block_key(slot, other);
                if block {
                    self.overlay.put(Table::Blocks, key, Vec::new());
                } else {
                    self.overlay.delete(Table::Blocks, key);
                }
                Ok(Some(Completion::Blocked { token, result: Ok(()) }))
            }
            Request::PutToken { ref registration_token, token } => {
                let key = records::token_key(registration_token.number);
                self.overlay.put(Table::Tokens, key, records::emit_token(registration_token));
                Ok(Some(Completion::TokenChanged { token, result: Ok(()) }))
            }
            Request::DropToken { number, token } => {
                self.overlay.delete(Table::Tokens, records::token_key(number));
                Ok(Some(Completion::TokenChanged { token, result: Ok(()) }))
            }
            Request::TakeBundle { one_time: false, .. }
            | Request::ReadBacklog { .. }
            | Request::ReadKeys { .. } => Ok(None),
        }
    }

    fn mailbox(&self, slot: u32) -> Result<Option<StoredMailbox>, StoreError> {
        let record = self.overlay.get(Table::Mailboxes, &records::slot_key(slot))?;
        record.map(|value| records::parse_mailbox(slot, &value)).transpose()
    }

    fn put_mailbox(&mut self, mailbox: &StoredMailbox) {
        let key = records::slot_key(mailbox.slot);
        self.overlay.put(Table::Mailboxes, key, records::emit_mailbox(mailbox));
    }

    fn append(
        &mut self,
        slot: u32,
        first: Sequence,
        last: Sequence,
        messages: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        debug_assert!(first <= last, "an append names its messages by a range of sequences");
        let nothing = StoredMailbox { slot, acked: Sequence(0), durable: Sequence(0), messages: 0, bytes: 0 };
        let mut mailbox = self.mailbox(slot)?.unwrap_or(nothing);
        mailbox.durable = mailbox.durable.max(last);
        mailbox.messages += u64::from(messages);
        mailbox.bytes += bytes.len() as u64;
        self.put_mailbox(&mailbox);
        let (mut first, mut messages, mut bytes) = (first, messages, bytes);
        while bytes.len() > CHUNK_BYTES_BEST
            && let Some(cut) = records::cut_frames(bytes, CHUNK_BYTES_BEST)
            && cut.messages < messages
        {
            let (front, back) = bytes.split_at(cut.bytes);
            self.put_chunk(slot, first, cut.last, cut.messages, front);
            (first, messages, bytes) = (cut.next, messages - cut.messages, back);
        }
        self.put_chunk(slot, first, last, messages, bytes);
        Ok(())
    }

    /// Takes frames into the mailbox's last chunk, or begins another.
    fn put_chunk(&mut self, slot: u32, first: Sequence, last: Sequence, messages: u32, bytes: &[u8]) {
        match self.open.get_mut(&slot) {
            Some(open) if open.last < first && open.frames().len() + bytes.len() <= CHUNK_BYTES_BEST => {
                open.join(last, messages, bytes);
            }
            _ => {
                let chunk = ChunkRecord::of(first, last, messages, bytes, self.memory.take());
                if let Some(full) = self.open.insert(slot, chunk) {
                    self.close(slot, full);
                }
            }
        }
    }

    fn close(&mut self, slot: u32, chunk: ChunkRecord) {
        let key = records::chunk_key(slot, chunk.last);
        self.overlay.put(Table::ChunkShares, key.clone(), records::emit_chunk_shares(chunk.frames()));
        self.overlay.put(Table::Chunks, key, chunk.into_record());
    }

    fn acked(
        &mut self,
        slot: u32,
        acked: Sequence,
        messages_left: u64,
        bytes_left: u64,
    ) -> Result<(), StoreError> {
        // No record, no chunk: they are written together.
        let Some(mut mailbox) = self.mailbox(slot)?.filter(|mailbox| acked > mailbox.acked) else {
            return Ok(());
        };
        if self.open.get(&slot).is_some_and(|open| open.last <= acked) {
            self.open.remove(&slot);
        }
        self.delete_chunks(slot, Sequence(0), acked);
        if acked >= mailbox.durable {
            self.overlay.delete(Table::Mailboxes, records::slot_key(slot));
        } else {
            (mailbox.acked, mailbox.messages, mailbox.bytes) = (acked, messages_left, bytes_left);
            self.put_mailbox(&mailbox);
        }
        Ok(())
    }

    fn register(&mut self, slot: u32, user: &User, identity_key: Vec<u8>) -> Result<(), StoreError> {
        let key = records::slot_key(slot);
        if self.overlay.get(Table::Users, &key)?.is_some() {
            self.drop_user(slot);
        }
        self.overlay.put(Table::Users, key.clone(), user.emit());
        self.overlay.put(Table::IdentityKeys, key, identity_key);
        Ok(())
    }

    fn drop_user(&mut self, slot: u32) {
        let key = records::slot_key(slot);
        for table in [Table::Users, Table::IdentityKeys, Table::RollOvers] {
            self.overlay.delete(table, key.clone());
        }
        let (from, to) = (records::block_key(slot, 0), records::block_key(slot, u32::MAX));
        self.overlay.delete_range(Table::Blocks, from, to);
        self.drop_belongings(slot);
    }

    /// Deletes the messages and prekeys of who holds a slot.
    fn drop_belongings(&mut self, slot: u32) {
        let key = records::slot_key(slot);
        for table in [Table::Mailboxes, Table::SignedPrekeys] {
            self.overlay.delete(table, key.clone());
        }
        self.drop_prekey_batches(slot);
        self.open.remove(&slot);
        self.delete_chunks(slot, Sequence(0), Sequence(u64::MAX));
    }

    /// Deletes the chunks whose last sequence is in this range, and what is said of them.
    fn delete_chunks(&mut self, slot: u32, from: Sequence, to: Sequence) {
        let (from, to) = (records::chunk_key(slot, from), records::chunk_key(slot, to));
        self.overlay.delete_range(Table::ChunkShares, from.clone(), to.clone());
        self.overlay.delete_range(Table::Chunks, from, to);
    }

    fn roll_over(
        &mut self,
        slot: u32,
        generation: u32,
        fingerprint: Fingerprint,
        roll_over: &RollOverRecord,
    ) -> Result<(), StoreError> {
        let missing = || StoreError::malformed("who rolls over is missing");
        let User { name, .. } = self.user(slot)?.ok_or_else(missing)?;
        let history = reading::key_history(slot, |table, key| self.overlay.get(table, key))?;
        let mut history = history.ok_or_else(missing)?;
        history.push(roll_over.clone());
        self.drop_belongings(slot);
        let user = User { generation, name, fingerprint, signed_prekey: KeyId::ZERO, batches: Vec::new() };
        let key = records::slot_key(slot);
        self.overlay.put(Table::Users, key.clone(), user.emit());
        self.overlay.put(Table::IdentityKeys, key.clone(), roll_over.identity_key.to_vec());
        self.overlay.put(Table::RollOvers, key, records::emit_key_history(&history));
        Ok(())
    }

    /// Whether this holder has the slot.
    pub(super) fn is_held_by(&self, slot: u32, generation: u32) -> Result<bool, StoreError> {
        Ok(self.user(slot)?.is_some_and(|user| user.generation == generation))
    }

    fn drop_prekey_batches(&mut self, slot: u32) {
        let (from, to) = (records::prekey_key(slot, 0, 0), records::prekey_key(slot, u8::MAX, u8::MAX));
        self.overlay.delete_range(Table::PrekeyBatches, from, to);
    }

    fn user(&self, slot: u32) -> Result<Option<User>, StoreError> {
        let record = self.overlay.get(Table::Users, &records::slot_key(slot))?;
        record.map(|value| User::parse(&value)).transpose()
    }

    fn publish(
        &mut self,
        slot: u32,
        signed_prekey: Option<&SignedPrekeyRecord>,
        batch: Option<&PrekeyBatchRecord>,
    ) -> Result<Result<PrekeyCount, PublishError>, StoreError> {
        let Some(mut user) = self.user(slot)? else { return Ok(Err(PublishError::NotRegistered)) };
        let in_force = signed_prekey.map_or(user.signed_prekey, |prekey| records::key_id(&prekey.modulus));
        let renewed = in_force != user.signed_prekey;
        if renewed {
            (user.signed_prekey, user.batches) = (in_force, Vec::new());
        }
        let mut new_batch = None;
        if let Some(batch) = batch {
            let count = match batch.moduli.len() {
                count @ 1..=BATCH_KEYS_MAX => u8::try_from(count).unwrap_or(u8::MAX),
                _ => return Ok(Err(PublishError::BadBatch)),
            };
            if in_force == KeyId::ZERO {
                return Ok(Err(PublishError::NoSignedPrekey));
            } else if batch.signed_prekey != in_force {
                return Ok(Err(PublishError::WrongSignedPrekey));
            }
            let head = BatchHead::of(batch);
            if !self.holds(slot, &user, &head)? {
                if user.batches.len() == PREKEY_BATCHES_MAX {
                    return Ok(Err(PublishError::BatchesFull));
                }
                new_batch = Some((u8::try_from(user.batches.len()).unwrap_or(u8::MAX), head, batch));
                user.batches.push(BatchUse { count, used: 0 });
            }
        }
        // From here on nothing is refused.
        if renewed {
            self.drop_prekey_batches(slot);
        }
        if let Some(prekey) = signed_prekey {
            let record = records::emit_signed_prekey(prekey);
            self.overlay.put(Table::SignedPrekeys, records::slot_key(slot), record);
        }
        if let Some((number, head, batch)) = new_batch {
            self.overlay.put(Table::PrekeyBatches, records::prekey_key(slot, number, 0), head.emit());
            for (index, modulus) in (1..).zip(&batch.moduli) {
                let key = records::prekey_key(slot, number, index);
                self.overlay.put(Table::PrekeyBatches, key, modulus.to_vec());
            }
        }
        self.overlay.put(Table::Users, records::slot_key(slot), user.emit());
        Ok(Ok(user.prekeys()))
    }

    /// Whether that batch was taken before: its owner may not have heard of it and sends it again.
    fn holds(&self, slot: u32, user: &User, head: &BatchHead) -> Result<bool, StoreError> {
        for (number, _) in (0..).zip(&user.batches) {
            let held = self.overlay.get(Table::PrekeyBatches, &records::prekey_key(slot, number, 0))?;
            if held
                .map(|held| BatchHead::parse(&held))
                .transpose()?
                .is_some_and(|held| held.hashes == head.hashes)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_bundle(&mut self, slot: u32) -> Result<Option<Box<super::BundleRecord>>, StoreError> {
        let bundle = reading::bundle(slot, |table, key| self.overlay.get(table, key))?;
        let (Some(mut bundle), Some(mut user)) = (bundle, self.user(slot)?) else { return Ok(None) };
        let next = (0..).zip(&mut user.batches).find(|(_, batch)| batch.used < batch.count);
        let Some((number, batch)) = next else { return Ok(Some(bundle)) };
        batch.used += 1;
        let (head_key, key) =
            (records::prekey_key(slot, number, 0), records::prekey_key(slot, number, batch.used));
        let missing = || StoreError::malformed("a one-time prekey is missing");
        let head = self.overlay.get(Table::PrekeyBatches, &head_key)?.ok_or_else(missing)?;
        let modulus = self.overlay.get(Table::PrekeyBatches, &key)?.ok_or_else(missing)?;
        let BatchHead { signature, hashes } = BatchHead::parse(&head)?;
        let modulus = records::parse_modulus(&modulus)?;
        bundle.one_time = Some(OneTimeRecord { hashes, signature, modulus });
        bundle.left = user.prekeys();
        self.overlay.delete(Table::PrekeyBatches, key);
        self.overlay.put(Table::Users, records::slot_key(slot), user.emit());
        Ok(Some(bundle))
    }

    /// Deletes what a failed commit may have left of an append.
    pub(super) fn discard_append(
        &mut self,
        slot: u32,
        first: Sequence,
        last: Sequence,
    ) -> Result<(), StoreError> {
        let (from, to) = (records::chunk_key(slot, first), records::chunk_key(slot, last));
        let mut found = Vec::new();
        self.engine.scan(Table::Chunks, &from, &to, &mut |_, value| {
            found.push(records::parse_chunk_size(value));
            std::ops::ControlFlow::Continue(())
        })?;
        if found.is_empty() {
            return Ok(());
        }
        self.delete_chunks(slot, first, last);
        if let Some(mut mailbox) = self.mailbox(slot)? {
            for (messages, bytes) in found.into_iter().flatten() {
                mailbox.messages = mailbox.messages.saturating_sub(u64::from(messages));
                mailbox.bytes = mailbox.bytes.saturating_sub(bytes);
            }
            self.put_mailbox(&mailbox);
        }
        Ok(())
    }

    /// Corrects a mailbox's summary by the chunks that are there: it says no more than they hold. Nothing of this
    /// batch may have changed them.
    pub(super) fn count_anew(&mut self, slot: u32) -> Result<(), StoreError> {
        let Some(mut mailbox) = self.mailbox(slot)? else { return Ok(()) };
        let from = records::chunk_key(slot, Sequence(mailbox.acked.0.saturating_add(1)));
        let to = records::chunk_key(slot, Sequence(u64::MAX));
        let (mut messages, mut bytes, mut malformed) = (0, 0, None);
        self.engine.scan(Table::Chunks, &from, &to, &mut |_, value| {
            match records::parse_chunk_size(value) {
                Ok(size) => (messages, bytes) = (messages + u64::from(size.0), bytes + size.1),
                Err(error) => malformed = Some(error),
            }
            std::ops::ControlFlow::Continue(())
        })?;
        if malformed.is_some() {
            return Ok(());
        }
        if messages == 0 {
            self.overlay.delete(Table::Mailboxes, records::slot_key(slot));
        } else if mailbox.messages > messages {
            (mailbox.messages, mailbox.bytes) = (messages, mailbox.bytes.min(bytes));
            self.put_mailbox(&mailbox);
        }
        Ok(())
    }

    /// Deletes what a failed commit may have left of a registration.
    pub(super) fn discard_registration(&mut self, slot: u32, generation: u32) -> Result<(), StoreError> {
        if self.is_held_by(slot, generation)? {
            self.drop_user(slot);
        }
        Ok(())
    }
}
