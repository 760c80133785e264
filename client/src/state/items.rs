//! Messages at rest: on their way in the outbox, and not yet printed in the inbox; and contacts.
//!
//! Owns: the content of the files in `outbox`, `inbox` and `peers`. What is done with an outbox item is the
//! engine's policy (`engine::outbox`).

use e2e_protocol::e2e::{Kind, Peer, Plaintext};
use e2e_protocol::ids::{MessageId, Name, Receipt, SessionId, Uid};
use zeroize::Zeroizing;

use super::codec::{Reader, Writer};
use super::{Key, StateError, Transaction};

/// A message on its way: kept until its recipient's receipt verifies, or 30 days are over.
pub struct OutboxItem {
    /// For whom.
    pub to: Name,
    /// The message, which can be encrypted anew.
    pub plaintext: Plaintext,
    /// When it was first encrypted, Unix milliseconds; 0: not yet.
    pub first_sent_ms: u64,
    /// Not to be sent before this time, Unix milliseconds.
    pub not_before_ms: u64,
    /// How often its recipient said that it can't be opened.
    pub rejects: u32,
    /// How often it was sent again for any other reason; makes the pauses longer.
    pub retries: u32,
    /// Whether the relay said that it is on its disk.
    pub stored: bool,
    /// The message encrypted, unless it has to be (again).
    pub sealed: Option<Sealed>,
}

/// A message encrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// In which session.
    pub session: SessionId,
    /// In which epoch of it.
    pub epoch: u32,
    /// The receipt that proves that the recipient has it.
    pub receipt: Receipt,
    /// What travels, 1 to 16,384 bytes.
    pub envelope: Vec<u8>,
}

/// A message that came in and is not printed yet.
pub struct InboxItem {
    /// From whom.
    pub from: Name,
    /// The message.
    pub plaintext: Plaintext,
}

impl OutboxItem {
    /// A message that nothing was done with yet.
    #[must_use]
    pub fn new(to: Name, plaintext: Plaintext) -> Self {
        Self {
            to,
            plaintext,
            first_sent_ms: 0,
            not_before_ms: 0,
            rejects: 0,
            retries: 0,
            stored: false,
            sealed: None,
        }
    }

    /// The item in this file; `None` if there is none (any more).
    ///
    /// # Errors
    /// [`StateError`] if the file can't be read.
    pub fn load(state: &Transaction<'_>, key: &Key) -> Result<Option<Self>, StateError> {
        debug_assert!(matches!(key, Key::Outbox(..)));
        let Some(content) = state.read(key)? else { return Ok(None) };
        Self::decode(&content).map(Some).ok_or_else(|| StateError::corrupt(key))
    }

    /// Keeps it in this file.
    pub fn store(&self, state: &mut Transaction<'_>, key: Key) {
        debug_assert!(matches!(key, Key::Outbox(..)));
        state.write(key, self.encode());
    }

    /// What its file holds.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let envelope_bytes = self.sealed.as_ref().map_or(0, |sealed| sealed.envelope.len());
        let mut out = Writer::with_capacity(256 + self.plaintext.body.len() + envelope_bytes);
        out.name(&self.to);
        write_plaintext(&mut out, &self.plaintext);
        out.u64(self.first_sent_ms);
        out.u64(self.not_before_ms);
        out.u32(self.rejects);
        out.u32(self.retries);
        out.bool(self.stored);
        out.bool(self.sealed.is_some());
        if let Some(sealed) = &self.sealed {
            out.array(&sealed.session.0);
            out.u32(sealed.epoch);
            out.array(&sealed.receipt.0);
            out.bytes(&sealed.envelope);
        }
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote; `None` if it did not.
    #[must_use]
    pub fn decode(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let mut item = Self::new(reader.name()?, read_plaintext(&mut reader)?);
        item.first_sent_ms = reader.u64()?;
        item.not_before_ms = reader.u64()?;
        item.rejects = reader.u32()?;
        item.retries = reader.u32()?;
        item.stored = reader.bool()?;
        item.sealed = match reader.bool()? {
            false => None,
            true => Some(Sealed {
                session: SessionId(reader.array()?),
                epoch: reader.u32()?,
                receipt: Receipt(reader.array()?),
                envelope: reader.bytes()?.to_vec(),
            }),
        };
        reader.end(item)
    }
}

impl InboxItem {
    /// The item in this file; `None` if there is none (any more).
    ///
    /// # Errors
    /// [`StateError`] if the file can't be read.
    pub fn load(state: &Transaction<'_>, key: &Key) -> Result<Option<Self>, StateError> {
        debug_assert!(matches!(key, Key::Inbox(..)));
        let Some(content) = state.read(key)? else { return Ok(None) };
        let mut reader = Reader::new(&content);
        let item = reader.name().and_then(|from| {
            let plaintext = read_plaintext(&mut reader)?;
            reader.end(Self { from, plaintext })
        });
        item.map(Some).ok_or_else(|| StateError::corrupt(key))
    }

    /// Keeps it in this file.
    pub fn store(&self, state: &mut Transaction<'_>, key: Key) {
        debug_assert!(matches!(key, Key::Inbox(..)));
        let mut out = Writer::with_capacity(96 + self.plaintext.body.len());
        out.name(&self.from);
        write_plaintext(&mut out, &self.plaintext);
        state.write(key, out.finish());
    }
}

/// What is kept of a contact in one file: what the relay calls it, and the end-to-end layer's state.
pub struct PeerItem {
    /// Under which it is sent to; [`Uid::NONE`] if that is to be looked up.
    pub uid: Uid,
    /// Key, sessions, and what of them is open.
    pub peer: Peer,
}

impl PeerItem {
    /// The content of its file.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let peer = self.peer.encode();
        let mut out = Writer::with_capacity(peer.len() + 12);
        out.u64(self.uid.0);
        out.bytes(&peer);
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote; `None` if it did not, or for another name.
    #[must_use]
    pub fn decode(content: &[u8], name: &Name) -> Option<Self> {
        let mut reader = Reader::new(content);
        let uid = Uid(reader.u64()?);
        let peer = Peer::decode(reader.bytes()?).ok()?;
        let same = peer.name() == name;
        reader.end(())?;
        same.then_some(Self { uid, peer })
    }
}

fn write_plaintext(out: &mut Writer, plaintext: &Plaintext) {
    out.array(&plaintext.id.0);
    out.u8(plaintext.kind.into());
    out.u64(plaintext.time_ms);
    out.bytes(&plaintext.body);
}

fn read_plaintext(reader: &mut Reader<'_>) -> Option<Plaintext> {
    Some(Plaintext {
        id: MessageId(reader.array()?),
        kind: Kind::from(reader.u8()?),
        time_ms: reader.u64()?,
        body: Zeroizing::new(reader.bytes()?.to_vec()),
    })
}
