//! What a user's client has at rest, and the transactions that change it.
//!
//! Owns: that all of it is bytes, encoded and decoded by the code of the client and of the end-to-end layer, and
//! that a transaction changes all of it or nothing. A copy of a [`Home`] is what a backup would hold. Must
//! not know what a client does (`client`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use e2e_client::state::OutboxItem;
use e2e_protocol::e2e::{Changed, Peer, Prekeys, RatchetKeys, Record, Records};
use e2e_protocol::ids::{Lane, MessageId, Number};

use super::Who;
use super::keys::name;

/// How a message is called by its sender and the relay.
pub(super) type Id = (Lane, Number);

type Bytes = Arc<Vec<u8>>;

/// Everything that a client keeps but the identity key.
#[derive(Clone, Default)]
pub(super) struct Home {
    prekeys: Option<Bytes>,
    ratchets: Option<Bytes>,
    pub(super) peers: BTreeMap<Who, Bytes>,
    records: BTreeMap<(Who, u64), Bytes>,
    pub(super) outbox: BTreeMap<Id, Bytes>,
    /// What came and was not shown yet.
    pub(super) inbox: Vec<Message>,
    /// Not the client's, but the checks': what was shown by this very state, whatever other copies did.
    pub(super) shown: Arc<BTreeSet<MessageId>>,
}

/// A message that came.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) from: Who,
    pub(super) id: MessageId,
    pub(super) body: Vec<u8>,
}

/// A transaction: what it read, and what it will write.
pub(super) struct Turn<'a> {
    home: &'a Home,
    peers: BTreeMap<Who, (Peer, Option<Records>)>,
    prekeys: Option<Prekeys>,
    ratchets: Option<RatchetKeys>,
    changes: Changes,
}

/// What a transaction writes; `None` removes.
#[derive(Default)]
pub(super) struct Changes {
    prekeys: Option<Bytes>,
    ratchets: Option<Bytes>,
    peers: BTreeMap<Who, Bytes>,
    records: BTreeMap<(Who, u64), Option<Bytes>>,
    outbox: BTreeMap<Id, Option<Bytes>>,
    inbox: Vec<Message>,
}

impl Home {
    pub(super) fn with_prekeys(prekeys: Bytes) -> Self {
        Self { prekeys: Some(prekeys), ..Self::default() }
    }

    pub(super) fn apply(&mut self, changes: Changes) {
        self.prekeys = changes.prekeys.or(self.prekeys.take());
        self.ratchets = changes.ratchets.or(self.ratchets.take());
        self.peers.extend(changes.peers);
        put(&mut self.records, changes.records);
        put(&mut self.outbox, changes.outbox);
        self.inbox.extend(changes.inbox);
    }

    /// Puts the sessions and keys of `older` back, but not the messages.
    pub(super) fn put_sessions_back(&mut self, older: &Self) {
        self.prekeys.clone_from(&older.prekeys);
        self.ratchets.clone_from(&older.ratchets);
        self.peers.clone_from(&older.peers);
    }

    pub(super) fn peer(&self, who: Who) -> Peer {
        match self.peers.get(&who) {
            Some(bytes) => Peer::decode(bytes).expect("a peer that was encoded"),
            None => Peer::new(*name(who)),
        }
    }

    pub(super) fn read_prekeys(&self) -> Prekeys {
        match &self.prekeys {
            Some(bytes) => Prekeys::decode(bytes).expect("prekeys that were encoded"),
            None => Prekeys::new(),
        }
    }

    pub(super) fn items(&self) -> impl Iterator<Item = (Id, OutboxItem)> {
        self.outbox
            .iter()
            .map(|(id, bytes)| (*id, OutboxItem::decode(bytes).expect("an item that was encoded")))
    }

    fn read_records(&self, who: Who) -> Records {
        let segments = self.records.range((who, 0)..=(who, u64::MAX));
        Records::decode(segments.map(|((_, number), bytes)| (*number, bytes.as_slice())))
            .expect("records that were encoded")
    }
}

fn put<K: Ord, V>(into: &mut BTreeMap<K, V>, changes: BTreeMap<K, Option<V>>) {
    for (key, change) in changes {
        match change {
            Some(value) => drop(into.insert(key, value)),
            None => drop(into.remove(&key)),
        }
    }
}

impl<'a> Turn<'a> {
    pub(super) fn new(home: &'a Home) -> Self {
        Self { home, peers: BTreeMap::new(), prekeys: None, ratchets: None, changes: Changes::default() }
    }

    fn open(&mut self, who: Who) -> &mut (Peer, Option<Records>) {
        self.peers.entry(who).or_insert_with(|| (self.home.peer(who), None))
    }

    pub(super) fn peer(&mut self, who: Who) -> &mut Peer {
        &mut self.open(who).0
    }

    pub(super) fn prekeys(&mut self) -> &mut Prekeys {
        self.prekeys.get_or_insert_with(|| self.home.read_prekeys())
    }

    pub(super) fn ratchets(&mut self) -> &mut RatchetKeys {
        self.ratchets.get_or_insert_with(|| match &self.home.ratchets {
            Some(bytes) => RatchetKeys::decode(bytes).expect("keys that were encoded"),
            None => RatchetKeys::new(),
        })
    }

    /// All that sending takes.
    pub(super) fn sending(&mut self, to: Who) -> (&mut Peer, &mut RatchetKeys) {
        self.open(to);
        self.ratchets();
        let (Some((peer, _)), Some(ratchets)) = (self.peers.get_mut(&to), &mut self.ratchets) else {
            unreachable!("both were opened");
        };
        (peer, ratchets)
    }

    /// All that receiving takes.
    pub(super) fn receiving(&mut self, from: Who) -> (&mut Peer, &Records, &mut Prekeys) {
        self.open(from);
        self.prekeys();
        let (Some((peer, records)), Some(prekeys)) = (self.peers.get_mut(&from), &mut self.prekeys) else {
            unreachable!("both were opened");
        };
        (peer, records.get_or_insert_with(|| self.home.read_records(from)), prekeys)
    }

    pub(super) fn push_record(&mut self, from: Who, record: &Record) {
        let (_, records) = self.open(from);
        let records = records.as_mut().expect("a message was received");
        let Changed { write, erase } = records.push(record);
        let segment = records.segment(write).expect("it was just written").to_vec();
        self.changes.records.insert((from, write), Some(Arc::new(segment)));
        self.changes.records.extend(erase.into_iter().map(|number| ((from, number), None)));
    }

    pub(super) fn item(&self, id: Id) -> Option<OutboxItem> {
        let bytes = match self.changes.outbox.get(&id) {
            Some(change) => change.as_ref(),
            None => self.home.outbox.get(&id),
        };
        bytes.map(|bytes| OutboxItem::decode(bytes).expect("an item that was encoded"))
    }

    pub(super) fn store(&mut self, id: Id, item: &OutboxItem) {
        self.changes.outbox.insert(id, Some(Arc::new(item.encode().to_vec())));
    }

    pub(super) fn erase(&mut self, id: Id) {
        self.changes.outbox.insert(id, None);
    }

    pub(super) fn keep(&mut self, message: Message) {
        self.changes.inbox.push(message);
    }

    /// What is to be written: only what differs.
    pub(super) fn finish(self) -> Changes {
        let Self { home, peers, prekeys, ratchets, mut changes } = self;
        for (who, (peer, _)) in peers {
            let bytes = peer.encode();
            if home.peers.get(&who).is_none_or(|before| **before != *bytes) {
                changes.peers.insert(who, Arc::new(bytes.to_vec()));
            }
        }
        changes.prekeys = prekeys.map(|prekeys| Arc::new(prekeys.encode().to_vec()));
        changes.ratchets = ratchets.map(|ratchets| Arc::new(ratchets.encode().to_vec()));
        changes
    }
}
