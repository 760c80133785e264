//! One turn of the engine: what it reads and changes under one lock, and what comes of it.
//!
//! Owns: the order "commit, then send, then show", by handing out [`Output`] only from
//! [`Turn::commit`]; and the keys and sessions that a turn has open. They are loaded when first asked
//! for, and written back if what they encode to has changed. Must not know why they change.

use std::collections::BTreeMap;

use e2e_protocol::e2e::{Changed, Identity, Peer, Prekeys, RatchetKeys, Record, Records};
use e2e_protocol::ids::{Name, Receipt, Sequence, Uid};
use e2e_protocol::limits::{FRAME_BYTES_MAX, RANGE_COUNT_MAX};
use e2e_protocol::wire::session::emit_ping;
use e2e_protocol::wire::transfer::Ack;
use e2e_protocol::wire::{FrameType, NoRoom};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use super::event::{End, Event};
use crate::state::{Account, Disk, Folder, Key, PeerItem, StateError, Transaction};

/// What a turn gives out once it is durable.
#[derive(Default)]
pub struct Output {
    /// Frames for the relay.
    pub bytes: Vec<u8>,
    /// What to show.
    pub events: Vec<Event>,
    /// Set if the connection is over: nothing of the frames after it was looked at.
    pub end: Option<End>,
}

/// A turn in progress.
pub struct Turn<'a> {
    /// Unix milliseconds.
    pub(super) now_ms: u64,
    pub(super) rng: &'a mut ChaCha20Rng,
    /// Public to the crate for what belongs to the client alone: account, outbox, inbox.
    pub(crate) state: Transaction<'a>,
    pub(super) out: Output,
    peers: BTreeMap<Name, OpenPeer>,
    prekeys: Option<OpenPrekeys>,
    ratchets: Option<OpenRatchets>,
    /// Deliveries that are durable with this turn, in order.
    acks: Vec<(Sequence, Receipt)>,
}

/// The prekeys, beside the bytes that they were decoded from.
struct OpenPrekeys {
    prekeys: Prekeys,
    before: Zeroizing<Vec<u8>>,
}

/// The same of the ratchet keys made ahead.
struct OpenRatchets {
    keys: RatchetKeys,
    before: Zeroizing<Vec<u8>>,
}

/// A contact, and what was received from it.
struct OpenPeer {
    item: PeerItem,
    /// Loaded when the first message comes.
    records: Option<Records>,
    before: Zeroizing<Vec<u8>>,
}

impl<'a> Turn<'a> {
    /// Waits for the lock of the state and begins.
    ///
    /// # Errors
    /// [`StateError`] if the state can't be used.
    pub fn begin(disk: &'a dyn Disk, now_ms: u64, rng: &'a mut ChaCha20Rng) -> Result<Self, StateError> {
        Ok(Self {
            now_ms,
            rng,
            state: Transaction::begin(disk)?,
            out: Output::default(),
            peers: BTreeMap::new(),
            prekeys: None,
            ratchets: None,
            acks: Vec::new(),
        })
    }

    /// Makes everything durable that changed, and only then gives out what came of it.
    ///
    /// # Errors
    /// [`StateError`] if the state can't be changed; nothing may be sent or shown then.
    pub fn commit(mut self) -> Result<Output, StateError> {
        for (name, open) in std::mem::take(&mut self.peers) {
            let encoded = open.encode();
            if encoded != open.before {
                self.state.write(Key::Peer(name), encoded);
            }
        }
        if let Some(OpenPrekeys { prekeys, before }) = self.prekeys.take() {
            let encoded = prekeys.encode();
            if encoded != before {
                self.state.write(Key::Prekeys, encoded);
            }
        }
        if let Some(OpenRatchets { keys, before }) = self.ratchets.take() {
            let encoded = keys.encode();
            if encoded != before {
                self.state.write(Key::RatchetKeys, encoded);
            }
        }
        self.emit_acks();
        self.state.commit()?;
        Ok(self.out)
    }

    /// Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The identity key, if it was made.
    ///
    /// # Errors
    /// [`StateError`] if it can't be read.
    pub fn identity(&self) -> Result<Option<Identity>, StateError> {
        let Some(content) = self.state.read(&Key::Identity)? else { return Ok(None) };
        Identity::decode(&content).map(Some).map_err(|_| StateError::corrupt(&Key::Identity))
    }

    /// Says whose home it is.
    pub fn set_account(&mut self, account: &Account) {
        account.store(&mut self.state);
    }

    /// Makes the identity key: some 60 milliseconds.
    pub fn make_identity(&mut self) {
        let identity = Identity::generate(self.rng);
        self.state.write(Key::Identity, identity.encode());
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.events.push(event);
    }

    pub(super) fn end(&mut self, end: End) {
        self.out.end.get_or_insert(end);
    }

    /// Appends a frame for the relay.
    pub(super) fn emit(&mut self, emit: impl FnOnce(&mut [u8]) -> Result<usize, NoRoom>) {
        let start = self.out.bytes.len();
        self.out.bytes.resize(start + FRAME_BYTES_MAX, 0);
        let frame = self.out.bytes.get_mut(start..).unwrap_or_default();
        let emitted = emit(frame);
        debug_assert!(emitted.is_ok(), "every frame of ours fits into FRAME_BYTES_MAX");
        self.out.bytes.truncate(start + emitted.unwrap_or(0));
    }

    pub(super) fn emit_ping(&mut self, frame_type: FrameType, opaque: [u8; 8]) {
        self.emit(|out| emit_ping(out, frame_type, opaque));
    }

    /// Acknowledges a delivery, once this turn is durable.
    pub(super) fn acknowledge(&mut self, sequence: Sequence, receipt: Receipt) {
        self.acks.push((sequence, receipt));
    }

    /// One ACK for each run of consecutive sequences.
    fn emit_acks(&mut self) {
        let acks = std::mem::take(&mut self.acks);
        let follows = |a: &(Sequence, Receipt), b: &(Sequence, Receipt)| a.0.0.checked_add(1) == Some(b.0.0);
        for run in acks.chunk_by(follows).flat_map(|run| run.chunks(usize::from(RANGE_COUNT_MAX))) {
            let receipts: Vec<Receipt> = run.iter().map(|(_, receipt)| *receipt).collect();
            let first = run.first().map_or(Sequence(0), |(first, _)| *first);
            self.emit(|out| Ack::emit(out, first, &receipts));
        }
    }

    /// The prekeys, and the random source beside them.
    pub(super) fn prekeys(&mut self) -> Result<(&mut Prekeys, &mut ChaCha20Rng), StateError> {
        self.open_prekeys()?;
        let Self { prekeys, rng, .. } = self;
        Ok((&mut prekeys.get_or_insert_with(OpenPrekeys::none).prekeys, rng))
    }

    /// A contact, a new one if need be, and the random source beside it.
    pub(super) fn peer(&mut self, name: &Name) -> Result<(&mut PeerItem, &mut ChaCha20Rng), StateError> {
        self.open_peer(name)?;
        let Self { peers, rng, .. } = self;
        let open = peers.entry(*name).or_insert_with(|| OpenPeer::new(*name));
        Ok((&mut open.item, rng))
    }

    /// Erases all prekeys: they are bound to an identity that is not ours any more.
    pub(super) fn forget_prekeys(&mut self) {
        self.prekeys = None;
        self.state.remove(Key::Prekeys);
    }

    /// The ratchet keys made ahead.
    pub(super) fn ratchets(&mut self) -> Result<&mut RatchetKeys, StateError> {
        self.open_ratchets()?;
        Ok(&mut self.ratchets.get_or_insert_with(OpenRatchets::none).keys)
    }

    /// All that sending to a contact takes: the contact, and the ratchet keys made ahead.
    pub(super) fn sending(
        &mut self,
        name: &Name,
    ) -> Result<(&mut Peer, &mut RatchetKeys, &mut ChaCha20Rng), StateError> {
        self.open_peer(name)?;
        self.open_ratchets()?;
        let Self { peers, ratchets, rng, .. } = self;
        let open = peers.entry(*name).or_insert_with(|| OpenPeer::new(*name));
        Ok((&mut open.item.peer, &mut ratchets.get_or_insert_with(OpenRatchets::none).keys, rng))
    }

    /// All that receiving from a contact takes: the contact, what was received from it, the prekeys.
    pub(super) fn receiving(
        &mut self,
        name: &Name,
    ) -> Result<(&mut Peer, &Records, &mut Prekeys, &mut ChaCha20Rng), StateError> {
        self.open_peer(name)?;
        let wanted = self.peers.get(name).is_none_or(|open| open.records.is_none());
        let records = if wanted { Some(self.load_records(name)?) } else { None };
        self.open_prekeys()?;
        let Self { peers, prekeys, rng, .. } = self;
        let open = peers.entry(*name).or_insert_with(|| OpenPeer::new(*name));
        if records.is_some() {
            open.records = records;
        }
        let records = open.records.get_or_insert_with(Records::new);
        let prekeys = &mut prekeys.get_or_insert_with(OpenPrekeys::none).prekeys;
        Ok((&mut open.item.peer, records, prekeys, rng))
    }

    /// Adds a record to what was received from a contact.
    pub(super) fn push_record(&mut self, name: &Name, record: &Record) {
        let Some(records) = self.peers.get_mut(name).and_then(|open| open.records.as_mut()) else { return };
        let Changed { write, erase } = records.push(record);
        let segment = records.segment(write).unwrap_or_default();
        self.state.write(Key::Records(*name, write), Zeroizing::new(segment.to_vec()));
        erase.into_iter().for_each(|number| self.state.remove(Key::Records(*name, number)));
    }

    fn open_prekeys(&mut self) -> Result<(), StateError> {
        if self.prekeys.is_none() {
            self.prekeys = Some(match self.state.read(&Key::Prekeys)? {
                None => OpenPrekeys::none(),
                Some(before) => OpenPrekeys {
                    prekeys: Prekeys::decode(&before).map_err(|_| StateError::corrupt(&Key::Prekeys))?,
                    before,
                },
            });
        }
        Ok(())
    }

    fn open_ratchets(&mut self) -> Result<(), StateError> {
        if self.ratchets.is_none() {
            self.ratchets = Some(match self.state.read(&Key::RatchetKeys)? {
                None => OpenRatchets::none(),
                Some(before) => OpenRatchets {
                    keys: RatchetKeys::decode(&before).map_err(|_| StateError::corrupt(&Key::RatchetKeys))?,
                    before,
                },
            });
        }
        Ok(())
    }

    fn open_peer(&mut self, name: &Name) -> Result<(), StateError> {
        if !self.peers.contains_key(name) {
            let key = Key::Peer(*name);
            let open = match self.state.read(&key)? {
                None => OpenPeer::new(*name),
                Some(before) => OpenPeer::decode(before, name).ok_or_else(|| StateError::corrupt(&key))?,
            };
            self.peers.insert(*name, open);
        }
        Ok(())
    }

    fn load_records(&self, name: &Name) -> Result<Records, StateError> {
        let mut segments = Vec::new();
        for key in self.state.list(Folder::Records)? {
            if let Key::Records(of, number) = key
                && of == *name
                && let Some(content) = self.state.read(&key)?
            {
                segments.push((number, content));
            }
        }
        let borrowed = segments.iter().map(|(number, content)| (*number, content.as_slice()));
        Records::decode(borrowed).map_err(|_| StateError::Corrupt { path: format!("records/{name},*") })
    }
}

impl OpenPrekeys {
    fn none() -> Self {
        let prekeys = Prekeys::new();
        Self { before: prekeys.encode(), prekeys }
    }
}

impl OpenRatchets {
    fn none() -> Self {
        let keys = RatchetKeys::new();
        Self { before: keys.encode(), keys }
    }
}

impl OpenPeer {
    /// A contact that nothing is kept of. What it encodes to is what it is compared with: it is not
    /// written unless something comes of it.
    fn new(name: Name) -> Self {
        let item = PeerItem { uid: Uid::NONE, peer: Peer::new(name) };
        let mut open = Self { item, records: None, before: Zeroizing::default() };
        open.before = open.encode();
        open
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        self.item.encode()
    }

    fn decode(before: Zeroizing<Vec<u8>>, name: &Name) -> Option<Self> {
        let item = PeerItem::decode(&before, name)?;
        Some(Self { item, records: None, before })
    }
}
