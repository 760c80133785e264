//! What the engine tells its host.
//!
//! Owns: the vocabulary of events. How they are worded is the command line's business.

use e2e_protocol::e2e::{BadBundle, Plaintext, RejectReason};
use e2e_protocol::ids::{Fingerprint, MessageId, Name, RelayId};
use e2e_protocol::wire::Code;
use e2e_protocol::wire::people::State;

use crate::state::Key;

/// Something to be shown, handed out once it is durable.
pub enum Event {
    /// Logged in.
    Ready,
    /// A message came. After it was shown, its key goes to [`Engine::handle_shown`](super::Engine::handle_shown);
    /// until then it is shown again by the next process.
    Message {
        /// Where it is kept.
        key: Key,
        /// From whom.
        from: Name,
        /// The message; of an unknown kind too.
        plaintext: Plaintext,
    },
    /// Messages before one that came are missing. They may still arrive.
    Missing {
        /// From whom.
        from: Name,
        /// How many.
        count: usize,
    },
    /// A message came that could not be opened; its sender is told so.
    NotOpened {
        /// From whom, as the relay says; `None`: from a name that is gone.
        from: Option<Name>,
        /// The pinned key, if there is one.
        pin: Option<Fingerprint>,
        /// Why.
        reason: Option<RejectReason>,
    },
    /// What became of a message in the outbox.
    Fate {
        /// Which message.
        id: MessageId,
        /// For whom.
        to: Name,
        /// What became of it.
        fate: Fate,
    },
    /// A session was started without a one-time prekey: the relay had none left, or withheld it.
    NoOneTimePrekey {
        /// With whom.
        to: Name,
    },
    /// What became of a contact's key.
    Key {
        /// Whose.
        name: Name,
        /// What.
        news: KeyNews,
    },
    /// The own name belongs to the next identity now, with this fingerprint.
    RolledOver {
        /// Of the key that the name belongs to.
        fingerprint: Fingerprint,
    },
    /// The relay did not give the name to the next identity.
    NotRolledOver(Code),
    /// Who is online.
    Presence {
        /// Each name that was asked for, or that is registered.
        states: Vec<(State, Name)>,
        /// Where to go on asking for everybody; zero: nowhere.
        next: u32,
    },
    /// The block is on the relay's disk, or gone from it.
    Blocked,
    /// The own name is nobody's any more.
    Removed,
    /// The relay did not do what the user asked for.
    NotDone(Code),
    /// The relay has our prekeys.
    Published {
        /// One-time prekeys not yet handed out.
        prekeys_left: u16,
    },
    /// The relay did not take our prekeys.
    NotPublished(Code),
}

/// What became of a contact's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyNews {
    /// The directory shows the pinned one.
    Unchanged,
    /// The contact moved to another key, and the former one signed that. It is pinned.
    RolledOver {
        /// The key now.
        shown: Fingerprint,
    },
    /// The directory shows another one, and nothing leads to it: nothing passes until it is accepted.
    Changed {
        /// The pinned one.
        pinned: Fingerprint,
        /// The one that is shown.
        shown: Fingerprint,
    },
    /// The user accepted the one that was shown before. It is pinned.
    Accepted {
        /// The key now.
        shown: Fingerprint,
    },
    /// The directory has no answer.
    Unknown(Code),
}

/// What became of a message, so far or for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The recipient's receipt verified. For good.
    Collected,
    /// It is on the relay's disk. It stays in the outbox until the receipt comes.
    Stored,
    /// The relay took it, and doesn't say whether its recipient has it. It stays in the outbox until the receipt comes.
    Accepted,
    /// It stays in the outbox and is sent (again).
    Waits {
        /// Not before, Unix milliseconds.
        until_ms: u64,
        /// Why.
        why: Wait,
    },
    /// It is dropped.
    Dropped(Drop),
}

/// Why a message waits in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The relay refused it for now.
    Refused(Code),
    /// The relay is not sure that it still has it.
    Uncertain,
    /// The recipient's client could not open it; it is encrypted anew.
    Rejected,
    /// What answered was not the recipient's client; or it was not kept. It is sent under a new number.
    Unproven,
    /// Its recipient's key changed.
    KeyChanged {
        /// The key that it is meant for.
        pinned: Fingerprint,
        /// The key that the relay shows.
        shown: Fingerprint,
    },
    /// The recipient's keys can't be used.
    BadBundle(BadBundle),
    /// The recipient's name is gone.
    NameGone,
    /// A session with the recipient was started a short while ago and is not answered yet.
    SessionPending,
}

/// Why a message is dropped from the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Nobody has the recipient's name.
    UnknownName,
    /// The recipient's key is not the pinned one.
    KeyChanged {
        /// The pinned key.
        pinned: Fingerprint,
        /// The key that the relay shows.
        shown: Fingerprint,
    },
    /// The recipient's keys are refused.
    BadBundle(BadBundle),
    /// The relay refused it for good.
    Refused(Code),
    /// It can't be encrypted: too long, or to oneself.
    Unsendable,
    /// 30 days went by without a receipt.
    TooOld,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The relay said so.
    Refused {
        /// Why.
        code: Code,
        /// How long to wait before trying again, milliseconds; 0 where nothing is said.
        retry_after_ms: u64,
        /// The relay's words.
        text: String,
    },
    /// It is not the relay that this home belongs to.
    OtherRelay {
        /// The relay of this home.
        pinned: RelayId,
        /// The relay that answered.
        shown: RelayId,
    },
    /// The relay breaks the protocol.
    Protocol(String),
    /// The relay has fallen silent.
    Silent,
}
