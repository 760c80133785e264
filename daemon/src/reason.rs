//! Why something was refused, dropped or closed: one enum for logs, counters and tests.
//!
//! Owns: the list. What a peer is told is a subset of it, [`Reason::Told`]. Nothing is dropped in
//! silence: every path that ends a connection, refuses a request or a message, or lets go of one, names its reason
//! here, and `core::counters` counts it.

use core::fmt;
use e2e_protocol::wire::ErrorCode;

macro_rules! reasons {
    ($( #[doc = $meaning:literal] $variant:ident = $name:literal; )+) => {
        /// Why.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            /// The peer was told this code (spec/wire.md, section 7).
            Told(ErrorCode),
            $( #[doc = $meaning] $variant, )+
        }

        /// Those of which no peer is told, in their order.
        const UNTOLD: [Reason; [$($name),+].len()] = [$(Reason::$variant),+];

        impl Reason {
            /// The word in logs, and the label in metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    Self::Told(code) => code.name(),
                    $( Self::$variant => $name, )+
                }
            }

            /// What it means, a sentence or two. `None` for a code: spec/wire.md, section 7, says it.
            #[must_use]
            pub fn meaning(self) -> Option<&'static str> {
                match self {
                    Self::Told(_) => None,
                    $( Self::$variant => Some($meaning.trim_ascii()), )+
                }
            }

            /// Its place in [`Reason::ALL`].
            #[must_use]
            pub fn index(self) -> usize {
                /// The place of each among the untold.
                enum Place { $($variant),+ }
                match self {
                    // The codes are in order. One that is not among them can't be.
                    Self::Told(code) => ErrorCode::ALL.binary_search(&code).unwrap_or_default(),
                    $( Self::$variant => ErrorCode::ALL.len() + Place::$variant as usize, )+
                }
            }
        }
    };
}

reasons! {
    /// The peer closed its side, and nothing was left to say.
    PeerClosed = "PEER_CLOSED";
    /// The socket failed: reset, or gone.
    ConnectionLost = "CONNECTION_LOST";
    /// A trusted proxy's header was none.
    BadProxyHeader = "BAD_PROXY_HEADER";
    /// Output took too much memory, and this peer had left its own unread for the longest. It was told nothing.
    OutputMemoryFull = "OUTPUT_MEMORY_FULL";
    /// Its last words were not read in time.
    LingerExpired = "LINGER_EXPIRED";
    /// The system gave no socket for a connection that waits: accepting pauses.
    AcceptFailed = "ACCEPT_FAILED";
    /// A connection was gone before it was accepted.
    AcceptAborted = "ACCEPT_ABORTED";
    /// A connection was accepted, and its socket could not be set up.
    SetupFailed = "SETUP_FAILED";
    /// A socket was let go soon after its peer's last words, which may not have arrived: too many were kept.
    PartedEarly = "PARTED_EARLY";
    /// A line of a debugging session was nothing that is known or allowed.
    TextLineRefused = "TEXT_LINE_REFUSED";
    /// A frame of an unknown type that may be skipped was.
    FrameSkipped = "FRAME_SKIPPED";
    /// An answer, or a result that is not kept, came when its connection was gone.
    Unheard = "UNHEARD";
    /// A bundle was handed out without a one-time prekey, so that nobody uses up another's.
    PrekeyWithheld = "PREKEY_WITHHELD";
    /// What was remembered of a lane's ids was forgotten: there are too many lanes.
    LaneForgotten = "LANE_FORGOTTEN";
    /// A message's time ran out. Its sender is told EXPIRED.
    MessageExpired = "MESSAGE_EXPIRED";
    /// A message was forwarded or given to the disk, and could not be stored. Its sender is told UNCERTAIN.
    Uncertain = "UNCERTAIN";
    /// A message that was forwarded, reported UNCERTAIN and never acknowledged was let go.
    UncertainLetGo = "UNCERTAIN_LET_GO";
    /// Stored messages were dropped: the disk gave back something else. Counted each time that they are read.
    StoredDamaged = "STORED_DAMAGED";
    /// The time for a clean stop was over before a message was given to the disk. Its sender was told nothing, and sends again.
    StopCut = "STOP_CUT";
    /// A notice was dropped: the sender's own mailbox is full.
    NoticeMailboxFull = "NOTICE_MAILBOX_FULL";
    /// A notice was dropped: no memory for it, or too many were held back.
    NoticeBusy = "NOTICE_BUSY";
    /// A notice was dropped: its thirty days are over.
    NoticeExpired = "NOTICE_EXPIRED";
    /// A notice was dropped: its recipient's name has a new key, and the message was sent with an older one.
    NoticeKeyChanged = "NOTICE_KEY_CHANGED";
    /// A notice was let go because the store failed.
    NoticeStoreFailed = "NOTICE_STORE_FAILED";
}

impl Reason {
    /// Every reason: the codes in order of their numbers, then the others.
    #[allow(clippy::indexing_slicing)] // evaluated by the compiler, which refuses an index that is too large
    pub const ALL: [Self; ErrorCode::ALL.len() + UNTOLD.len()] = {
        let mut all = [Self::PeerClosed; ErrorCode::ALL.len() + UNTOLD.len()];
        let (codes, mut at) = (ErrorCode::ALL.len(), 0);
        while at < all.len() {
            all[at] = if at < codes { Self::Told(ErrorCode::ALL[at]) } else { UNTOLD[at - codes] };
            at += 1;
        }
        all
    };
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_has_its_own_place_and_its_own_word() {
        let places: Vec<_> = Reason::ALL.into_iter().map(Reason::index).collect();
        assert_eq!(places, (0..Reason::ALL.len()).collect::<Vec<_>>());
        let words: HashSet<_> = Reason::ALL.into_iter().map(Reason::name).collect();
        assert_eq!(words.len(), Reason::ALL.len(), "no code has an untold reason's name");
        let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        assert!(words.iter().all(is_word));
    }
}
