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
    /// A length, a type, an epoch or a number is not one of this version.
    Malformed,
    /// It claims to come from oneself.
    OwnName,
    /// It belongs to no session that is held, and starts none.
    UnknownSession,
    /// It came on a session that only we send on.
    WrongDirection,
    /// Its INIT is made with another identity key than the pinned one, whose fingerprint this is.
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
    /// The signed prekey that it is wrapped to was erased.
    PrekeyErased,
    /// The wrapped key can't be unwrapped. The session was erased.
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
            Self::WrongDirection => "it came on a session that only this end sends on",
            Self::KeyChanged(shown) => return write!(f, "the sender's key changed to {shown}"),
            Self::InitUsed => "the start of its session was used before",
            Self::InitsFull => "its sender started too many sessions with one prekey",
            Self::UnknownPrekey => "it uses a prekey that is not held any more",
            Self::BadInit => "the start of its session is not authentic",
            Self::InitBudget => "too many sessions were started in the last hour",
            Self::NumberUsed => "its number was used before",
            Self::BadTag => "it is not authentic",
            Self::PrekeyErased => "the prekey of its session was erased",
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
