//! What travels between a model client and the model relay: spec/wire.md without the bytes.
//!
//! Owns: the vocabulary of the two. Must not know what either does with it.

use std::sync::Arc;

use e2e_client::engine::outbox::Answer;
use e2e_protocol::e2e::{Bundle, OneTime, PublishedBatch, PublishedSpk};
use e2e_protocol::ids::{KeyId, Modulus, Receipt, Signature};

use super::Who;
use super::home::Id;
use super::keys::me;

/// From a client.
pub(super) enum Up {
    Send { id: Id, to: Who, envelope: Vec<u8> },
    Ack { sequence: u64, receipt: Receipt },
    Lookup { whose: Who, one_time: bool },
    AskOwn,
    Publish { spk: Option<Box<PublishedSpk>>, batch: Option<Box<PublishedBatch>> },
}

/// From the relay.
pub(super) enum Down {
    Welcome { own: Own, queued: usize },
    Deliver { sequence: u64, from: Who, envelope: Vec<u8>, class: Class },
    Result { id: Id, answer: Answer },
    Entry { whose: Who, bundle: Option<Box<OwnedBundle>> },
    Published { own: Own },
    Own { own: Own },
}

/// What the relay has of one's own prekeys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) spk: KeyId,
    pub(super) left: u16,
}

/// What a delivery is, for the checks; no client looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// As its sender sent it, perhaps not for the first time.
    Honest,
    /// A byte of it was changed.
    Flipped,
    /// Under another sender's name.
    WrongSender,
}

/// A bundle as the relay keeps it.
#[derive(Clone)]
pub(super) struct OwnedBundle {
    pub(super) owner: Who,
    pub(super) spk: PublishedSpk,
    pub(super) one_time: Option<OwnedOneTime>,
}

#[derive(Clone)]
pub(super) struct OwnedOneTime {
    pub(super) modulus: Modulus,
    pub(super) batch: Arc<(Vec<[u8; 32]>, Signature)>,
}

impl OwnedBundle {
    pub(super) fn borrowed(&self) -> Bundle<'_> {
        Bundle {
            identity: me(self.owner, e2e_protocol::e2e::Profile::Strict).identity.modulus(),
            spk: &self.spk.modulus,
            made_ms: self.spk.made_ms,
            profile: self.spk.profile,
            signature: &self.spk.signature,
            one_time: self.one_time.as_ref().map(|one_time| OneTime {
                modulus: &one_time.modulus,
                hashes: &one_time.batch.0,
                signature: &one_time.batch.1,
            }),
        }
    }
}
