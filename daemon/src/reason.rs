//! Why something was refused, dropped or closed: one enum for logs, counters and tests.
//!
//! Owns: the list. What a peer is told is a subset of it, [`Reason::Told`]. Nothing is dropped in
//! silence: every path that ends a connection or lets go of a message names its reason here.

use core::fmt;
use e2e_protocol::wire::ErrorCode;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The peer was told this code (spec/wire.md, section 7).
    Told(ErrorCode),
    /// The peer closed its side, and nothing was left to say.
    PeerClosed,
    /// The socket failed: reset, or gone.
    ConnectionLost,
    /// A trusted proxy's header was none.
    BadProxyHeader,
    /// Output took too much memory, and this peer had left its own unread for the longest. It was told nothing.
    OutputMemoryFull,
    /// Its last words were not read in time.
    LingerExpired,
    /// A notice was dropped: the sender's own mailbox is full.
    NoticeMailboxFull,
    /// A notice was dropped: no memory for it, or too many were held back.
    NoticeBusy,
    /// A notice was dropped: its thirty days are over.
    NoticeExpired,
    /// A notice was dropped: its recipient's name has a new key, and the message was sent with an older one.
    NoticeKeyChanged,
    /// A message that was forwarded, reported UNCERTAIN and never acknowledged was let go.
    UncertainLetGo,
    /// A notice was let go because the store failed.
    NoticeStoreFailed,
    /// Stored messages were dropped: the disk gave back something else.
    StoredDamaged,
}

impl Reason {
    /// The word in logs and, later, the label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Told(code) => code.name(),
            Self::PeerClosed => "PEER_CLOSED",
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::BadProxyHeader => "BAD_PROXY_HEADER",
            Self::OutputMemoryFull => "OUTPUT_MEMORY_FULL",
            Self::LingerExpired => "LINGER_EXPIRED",
            Self::NoticeMailboxFull => "NOTICE_MAILBOX_FULL",
            Self::NoticeBusy => "NOTICE_BUSY",
            Self::NoticeExpired => "NOTICE_EXPIRED",
            Self::NoticeKeyChanged => "NOTICE_KEY_CHANGED",
            Self::UncertainLetGo => "UNCERTAIN_LET_GO",
            Self::NoticeStoreFailed => "NOTICE_STORE_FAILED",
            Self::StoredDamaged => "STORED_DAMAGED",
        }
    }
}

impl From<ErrorCode> for Reason {
    fn from(code: ErrorCode) -> Self {
        Self::Told(code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
