//! Why an envelope was not opened. Outward there is one answer, 32 zero bytes; the reason is for the
//! local report, the log and the tests.

use core::fmt;

use crate::ids::Fingerprint;

/// An envelope that was not opened. It is acknowledged with [`crate::ids::Receipt::ZERO`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why; never shown to the sender or the relay.
    pub reason: RejectReason,
    /// The peer's or the prekeys' state changed and is to be committed before the answer: a number
    /// was used up, or a failure counted.
    pub commit: bool,
}

/// Why an envelope was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// A length, a type, an epoch or a number is not one of this version, or its profile is not ours.
    Malformed,
    /// It claims to come from oneself.
    OwnName,
    /// It belongs to no session that is held, and starts none.
    UnknownSession,
    /// Its epoch is one of ours, or too far ahead, or new and without a step.
    WrongEpoch,
    /// Its INIT is made with another identity key than the pinned one, or the directory showed another and
    /// nobody accepted it: this is its fingerprint.
    KeyChanged(Fingerprint),
    /// Its INIT was used before.
    InitUsed,
    /// Too many INITs of this peer used this signed prekey.
    InitsFull,
    /// Its INIT names a prekey that is not held, or not any more.
    UnknownPrekey,
    /// Its INIT does not belong to the session id, or its signature does not verify.
    BadInit,
    /// Too many INITs were decrypted in the last hour.
    InitBudget,
    /// The key for this number was used, or was never kept.
    NumberUsed,
    /// The tag is wrong.
    BadTag,
    /// Its step was not made by who knows the session, or announces what is no key.
    BadStep,
    /// The key that it is wrapped to was erased.
    KeyErased,
    /// What is wrapped in it can't be unwrapped. The session was erased.
    BadWrappedKey,
    /// What was decrypted is not a message.
    BadPlaintext,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not an envelope of this version",
            Self::OwnName => "it claims to come from oneself",
            Self::UnknownSession => "its session is not known",
            Self::WrongEpoch => "it does not follow in its session",
            Self::KeyChanged(shown) => return write!(f, "the sender's key changed to {shown}"),
            Self::InitUsed => "the start of its session was used before",
            Self::InitsFull => "its sender started too many sessions with one prekey",
            Self::UnknownPrekey => "it uses a prekey that is not held any more",
            Self::BadInit => "the start of its session is not authentic",
            Self::InitBudget => "too many sessions were started in the last hour",
            Self::NumberUsed => "its number was used before",
            Self::BadTag => "it is not authentic",
            Self::BadStep => "the step in its session is not authentic",
            Self::KeyErased => "the key that it is wrapped to was erased",
            Self::BadWrappedKey => "its key can't be unwrapped",
            Self::BadPlaintext => "what was decrypted is not a message",
        })
    }
}

impl core::error::Error for RejectReason {}

impl From<RejectReason> for Reject {
    fn from(reason: RejectReason) -> Self {
        Self { reason, commit: false }
    }
}
