//! What the store is asked for, and what it answers.
//!
//! This file owns the shapes. It must not know threads or engines. What each request does: `batch`
//! and `reading`. Who carries requests to the disk and answers back: `threads`.

use e2e_protocol::ids::{Fingerprint, KeyId, Modulus, Name, Sequence, Signature};

use super::{PublishError, StoreErrorKind};

/// A request. Those that name a `token` get it back in their completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Store messages. Answer: [`Completion::Appended`] once they survive power loss, or
    /// [`Completion::AppendFailed`]; after that the same may be asked for again, in whatever pieces. No
    /// sequence may be stored twice.
    Append {
        /// Whose mailbox.
        slot: u32,
        /// The lowest sequence in `bytes`.
        first: Sequence,
        /// The highest sequence in `bytes`.
        last: Sequence,
        /// How many messages there are in `bytes`.
        messages: u32,
        /// Whole frames back to back, as they lay in memory.
        bytes: Vec<u8>,
    },
    /// Everything up to and including `acked` may be deleted. Nobody waits for it and there is no answer:
    /// alone it may lie for [`super::limits::ACKED_ALONE_WAIT`], and it outlives failed commits.
    Acked {
        /// Whose mailbox.
        slot: u32,
        /// Acknowledged up to here.
        acked: Sequence,
        /// Stored messages after `acked`, counting every append asked for before this.
        messages_left: u64,
        /// Their bytes.
        bytes_left: u64,
    },
    /// Read whole chunks that hold messages after `after`: at least one if there is one, further ones until
    /// there are `bytes_max` bytes or more. Answer: [`Completion::Backlog`].
    ReadBacklog {
        /// Whose mailbox.
        slot: u32,
        /// Messages up to and including this one are not wanted (the first chunk may hold some).
        after: Sequence,
        /// Where to stop, in bytes.
        bytes_max: usize,
        /// Returned with the answer.
        token: u64,
    },
    /// A name was claimed. An earlier holder's messages and prekeys in that slot are deleted. Answer:
    /// [`Completion::Registered`].
    Register {
        /// The slot in the relay's table of names.
        slot: u32,
        /// Which holder of that slot this is.
        generation: u32,
        /// The name.
        name: Name,
        /// Of the identity key.
        fingerprint: Fingerprint,
        /// The identity key.
        identity_key: Box<Modulus>,
        /// Returned with the answer.
        token: u64,
    },
    /// Take a signed prekey, a batch of one-time prekeys, or first the one and then the other, both or
    /// neither. Another signed prekey than the one in force drops all batches; a batch that is there
    /// already is not taken again. Answer: [`Completion::Published`].
    Publish {
        /// Whose.
        slot: u32,
        /// A signed prekey.
        signed_prekey: Option<Box<SignedPrekeyRecord>>,
        /// A batch for the signed prekey that is then in force.
        batch: Option<Box<PrekeyBatchRecord>>,
        /// Returned with the answer.
        token: u64,
    },
    /// Hand out a bundle. A one-time prekey in it is durably gone from the store before the answer,
    /// [`Completion::Bundle`], is given.
    TakeBundle {
        /// Whose.
        slot: u32,
        /// Whether to hand out a one-time prekey, if there is one left.
        one_time: bool,
        /// Returned with the answer.
        token: u64,
    },
    /// The name in this slot gets another identity key: its messages and prekeys are deleted, and the
    /// roll-over is added to its history. Answer: [`Completion::RolledOver`], which after a failed commit
    /// comes only when it is known what became of it.
    RollOver {
        /// The slot in the relay's table of names.
        slot: u32,
        /// Which holder of that slot this is.
        generation: u32,
        /// Of the new identity key.
        fingerprint: Fingerprint,
        /// The new identity key, and what proves it.
        roll_over: Box<RollOverRecord>,
        /// Returned with the answer.
        token: u64,
    },
    /// Nobody holds this slot any more: all that it held is deleted, and blocks by and of it. Answer: [`Completion::Removed`],
    /// which after a failed commit comes only when it is known what became of it.
    Remove {
        /// The slot in the relay's table of names.
        slot: u32,
        /// Which holder of that slot is meant.
        generation: u32,
        /// Who blocks it.
        blockers: Vec<u32>,
        /// Returned with the answer.
        token: u64,
    },
    /// One name blocks another, or no longer. Answer: [`Completion::Blocked`].
    Block {
        /// Who blocks.
        slot: u32,
        /// Whom.
        other: u32,
        /// Or no longer.
        block: bool,
        /// Returned with the answer.
        token: u64,
    },
    /// Keep a registration token, in place of one with the same number. Answer: [`Completion::TokenChanged`].
    PutToken {
        /// The token.
        registration_token: Box<StoredToken>,
        /// Returned with the answer.
        token: u64,
    },
    /// Delete a registration token, if it is there. Answer: [`Completion::TokenChanged`].
    DropToken {
        /// Its number.
        number: u32,
        /// Returned with the answer.
        token: u64,
    },
    /// Read the keys that a name has had. Answer: [`Completion::Keys`].
    ReadKeys {
        /// Whose.
        slot: u32,
        /// Returned with the answer.
        token: u64,
    },
}

impl Request {
    /// Whether somebody waits for its answer: an acknowledgement has none.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !matches!(self, Self::Acked { .. })
    }

    /// [`Request::PutToken`], once its number is known.
    pub fn put_token(registration_token: &StoredToken) -> impl FnOnce(u64) -> Self + use<> {
        let registration_token = Box::new(registration_token.clone());
        move |token| Self::PutToken { registration_token, token }
    }

    /// [`Request::DropToken`], once its number is known.
    pub fn drop_token(number: u32) -> impl FnOnce(u64) -> Self {
        move |token| Self::DropToken { number, token }
    }

    /// The bytes of messages that this request holds in memory.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// The answer to one [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// These messages survive power loss. One for each append.
    Appended {
        /// Whose mailbox.
        slot: u32,
        /// As in the request.
        last: Sequence,
    },
    /// These messages were not stored, and what may have reached the disk of them will be deleted before
    /// anything else is stored (only a crash before that can let them reappear).
    AppendFailed {
        /// Whose mailbox.
        slot: u32,
        /// As in the request.
        first: Sequence,
        /// As in the request.
        last: Sequence,
        /// Why.
        error: StoreErrorKind,
    },
    /// Stored messages, oldest first. Empty: there are none after the given sequence.
    Backlog {
        /// Whose mailbox.
        slot: u32,
        /// As in the request.
        token: u64,
        /// The chunks.
        result: Result<Vec<Chunk>, StoreErrorKind>,
    },
    /// The name is claimed, and stays so across power loss.
    Registered {
        /// As in the request.
        slot: u32,
        /// As in the request.
        token: u64,
        /// Whether it is.
        result: Result<(), StoreErrorKind>,
    },
    /// The prekeys are stored.
    Published {
        /// Whose.
        slot: u32,
        /// As in the request.
        token: u64,
        /// What is there now.
        result: Result<PrekeyCount, PublishError>,
    },
    /// A bundle to hand out. `None`: no signed prekey was published.
    Bundle {
        /// Whose.
        slot: u32,
        /// As in the request.
        token: u64,
        /// The bundle.
        result: Result<Option<Box<BundleRecord>>, StoreErrorKind>,
    },
    /// The name has its new key, and keeps it across power loss.
    RolledOver {
        /// As in the request.
        slot: u32,
        /// As in the request.
        token: u64,
        /// Whether it has. If not, nothing changed.
        result: Result<(), StoreErrorKind>,
    },
    /// The slot is nobody's, and stays so across power loss.
    Removed {
        /// As in the request.
        slot: u32,
        /// As in the request.
        token: u64,
        /// Whether it is. If not, nothing changed.
        result: Result<(), StoreErrorKind>,
    },
    /// The block is stored, or no longer.
    Blocked {
        /// As in the request.
        token: u64,
        /// Whether it is. If not, it cannot be said. The same may be asked for again.
        result: Result<(), StoreErrorKind>,
    },
    /// The registration token is kept, or deleted, and stays so across power loss.
    TokenChanged {
        /// As in the request.
        token: u64,
        /// Whether it is. If not, it cannot be said. The same may be asked for again.
        result: Result<(), StoreErrorKind>,
    },
    /// The keys that a name has had. `None`: nobody holds that slot.
    Keys {
        /// As in the request.
        slot: u32,
        /// As in the request.
        token: u64,
        /// The keys.
        result: Result<Option<Box<KeyHistory>>, StoreErrorKind>,
    },
}

/// Stored messages as they lay in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The lowest sequence in `bytes`.
    pub first: Sequence,
    /// The highest sequence in `bytes`.
    pub last: Sequence,
    /// How many messages there are in `bytes`.
    pub messages: u32,
    /// Whole frames back to back.
    pub bytes: Vec<u8>,
}

/// A signed prekey as published. Source: spec/crypto.md, "Keys of a client".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPrekeyRecord {
    /// N(SPK), 256 bytes.
    pub modulus: Modulus,
    /// When its owner made it, Unix milliseconds by the owner's clock.
    pub made: u64,
    /// 0 strict, 1 light.
    pub profile: u8,
    /// By the identity key over these fields, 256 bytes.
    pub signature: Signature,
}

/// A batch of one-time prekeys as published. Source: spec/crypto.md, "Keys of a client".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrekeyBatchRecord {
    /// kid(SPK): the signed prekey that the batch was signed for, 8 bytes.
    pub signed_prekey: KeyId,
    /// By the identity key over the hashes of all the moduli, 256 bytes.
    pub signature: Signature,
    /// N(OPK), 256 bytes each, 1 to [`super::limits::BATCH_KEYS_MAX`] of them.
    pub moduli: Vec<Modulus>,
}

/// A change of a name to a new identity key. Source: spec/crypto.md, "People".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollOverRecord {
    /// When its owner made it, Unix milliseconds by the owner's clock.
    pub time: u64,
    /// N(IK) that came into force, 256 bytes.
    pub identity_key: Modulus,
    /// By the key that was in force before, 256 bytes.
    pub former_signature: Signature,
    /// By the key that came into force, 256 bytes.
    pub signature: Signature,
}

/// The keys that a name has had, as far back as they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHistory {
    /// N(IK) of the oldest of them.
    pub oldest: Modulus,
    /// How it came to the present one, oldest first: at most [`super::limits::ROLL_OVERS_KEPT_MAX`].
    pub roll_overs: Vec<RollOverRecord>,
}

impl KeyHistory {
    /// N(IK) of the key in force.
    #[must_use]
    pub fn present(&self) -> &Modulus {
        self.roll_overs.last().map_or(&self.oldest, |roll_over| &roll_over.identity_key)
    }

    /// When the last roll-over was; zero if there was none.
    #[must_use]
    pub fn last_time(&self) -> u64 {
        self.roll_overs.last().map_or(0, |roll_over| roll_over.time)
    }

    /// Adds a roll-over, and forgets what is too much.
    pub(super) fn push(&mut self, roll_over: RollOverRecord) {
        self.roll_overs.push(roll_over);
        let surplus = self.roll_overs.len().saturating_sub(super::limits::ROLL_OVERS_KEPT_MAX);
        if let Some(forgotten) = self.roll_overs.drain(..surplus).next_back() {
            self.oldest = forgotten.identity_key;
        }
    }
}

/// What prekeys a user has at the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrekeyCount {
    /// kid of the signed prekey in force; zero: none.
    pub signed_prekey: KeyId,
    /// One-time prekeys not yet handed out, at most 128.
    pub one_time_left: u8,
}

/// A registration token that the relay made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// By which it is called.
    pub number: u32,
    /// Whether it is good for one name only.
    pub once: bool,
    /// When it was made, Unix milliseconds.
    pub made: u64,
    /// What its holder says: 20 letters and digits.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// What it is for, at most [`super::limits::TOKEN_LABEL_BYTES_MAX`] bytes.
    pub label: String,
}

/// Bytes of a registration token's secret.
pub const TOKEN_SECRET_BYTES: usize = 20;

/// All that someone needs to start a session with a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRecord {
    /// N(IK), 256 bytes.
    pub identity_key: Modulus,
    /// The signed prekey in force.
    pub signed_prekey: SignedPrekeyRecord,
    /// A one-time prekey that nobody else was or will be given, if one was asked for and left.
    pub one_time: Option<OneTimeRecord>,
    /// What is there after this.
    pub left: PrekeyCount,
}

/// One one-time prekey, and what proves that its owner signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimeRecord {
    /// SHA-256 of each modulus of its batch, 32 bytes each, in the batch's order.
    pub hashes: Vec<[u8; 32]>,
    /// By the identity key over those hashes, 256 bytes.
    pub signature: Signature,
    /// N(OPK), 256 bytes; its hash is one of `hashes`.
    pub modulus: Modulus,
}
