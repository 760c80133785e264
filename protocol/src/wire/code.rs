//! Every code with which the relay refuses something or ends a connection (spec/wire.md, section 7).
//!
//! Owns: the numbers, names and retry classes. The daemon's reasons, the client's messages and the
//! vectors all speak these names.

use core::fmt;

/// A code as it travels. One that this version doesn't know is kept, and still says whether to retry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u16);

impl Code {
    /// Whether trying again later can help: upper byte 0x02.
    #[must_use]
    pub fn retry(self) -> bool {
        self.0 >> 8 == 0x02
    }

    /// The known code with this number.
    #[must_use]
    pub fn known(self) -> Option<ErrorCode> {
        ErrorCode::ALL.into_iter().find(|code| code.number() == self.0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(code) => f.write_str(code.name()),
            None => write!(f, "0x{:04X}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! codes {
    ($( $(#[$doc:meta])* $variant:ident = $number:literal, $name:literal; )*) => {
        /// Why the relay refused something or ended a connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum ErrorCode {
            $( $(#[$doc])* $variant = $number, )*
        }

        impl ErrorCode {
            /// Every code of this version, in order of their numbers.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$variant),*];

            /// The number that travels.
            #[must_use]
            pub fn number(self) -> u16 {
                self as u16
            }

            /// The name in spec/wire.md.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
        }
    };
}

codes! {
    /// The first bytes are not those of a frame. Closes.
    BadMagic = 0x0101, "BAD_MAGIC";
    /// Of the frame, or no common one in HELLO. Closes.
    UnsupportedVersion = 0x0102, "UNSUPPORTED_VERSION";
    /// A length over the limit. Closes.
    TooLong = 0x0103, "TOO_LONG";
    /// Header or body CRC. Closes.
    BadCrc = 0x0104, "BAD_CRC";
    /// A type that is not known, and not skippable. Closes.
    UnknownType = 0x0105, "UNKNOWN_TYPE";
    /// Flags, length or a field break the specification. Closes.
    Malformed = 0x0106, "MALFORMED";
    /// Not now, or not from this side. Closes.
    UnexpectedFrame = 0x0107, "UNEXPECTED_FRAME";
    /// Unknown name, other key, or bad signature. Closes.
    LoginFailed = 0x0108, "LOGIN_FAILED";
    /// The name belongs to another key. Closes.
    NameTaken = 0x0109, "NAME_TAKEN";
    /// This relay takes no new names. Closes.
    RegistrationClosed = 0x010A, "REGISTRATION_CLOSED";
    /// A token is needed, or this one is not known. Closes.
    BadToken = 0x010B, "BAD_TOKEN";
    /// Another connection receives for this name now. Closes.
    Replaced = 0x010C, "REPLACED";
    /// Not the oldest deliveries that wait for an acknowledgement. Closes.
    BadAck = 0x010E, "BAD_ACK";
    /// Nobody has this name or uid (LOOKUP).
    UnknownName = 0x0120, "UNKNOWN_NAME";
    /// Nobody has this uid (SEND).
    UnknownRecipient = 0x0121, "UNKNOWN_RECIPIENT";
    /// This uid is an older one of the name (SEND), or the name has a new key (closes).
    KeyChanged = 0x0122, "KEY_CHANGED";
    /// The id was used for another message.
    IdConflict = 0x0123, "ID_CONFLICT";
    /// The number is too far below the lane's highest.
    IdTooOld = 0x0124, "ID_TOO_OLD";
    /// What was published can't be used.
    BadBundle = 0x0125, "BAD_BUNDLE";
    /// All batches of one-time prekeys are there already.
    PrekeysFull = 0x0126, "PREKEYS_FULL";
    /// A roll-over whose key, time or signatures don't fit.
    BadRoll = 0x0127, "BAD_ROLL";
    /// This relay doesn't say who is online.
    PresencePrivate = 0x0128, "PRESENCE_PRIVATE";
    /// The recipient has blocked the sender.
    Blocked = 0x0129, "BLOCKED";
    /// This connection watches as many names as it may.
    WatchesFull = 0x012A, "WATCHES_FULL";
    /// As many names are blocked as may be.
    BlocksFull = 0x012B, "BLOCKS_FULL";
    /// The signature of a removal doesn't fit.
    BadRemoval = 0x012C, "BAD_REMOVAL";
    /// The name was removed. Closes.
    NameRemoved = 0x012D, "NAME_REMOVED";
    /// Login took too long. Closes.
    LoginTimeout = 0x0201, "LOGIN_TIMEOUT";
    /// Nothing was heard for twice the keepalive. Closes.
    IdleTimeout = 0x0202, "IDLE_TIMEOUT";
    /// What was sent to it was not read. Closes.
    SlowReader = 0x0203, "SLOW_READER";
    /// Of this name, or in all. Closes.
    TooManyConnections = 0x0204, "TOO_MANY_CONNECTIONS";
    /// The relay stops. Closes.
    Restarting = 0x0205, "RESTARTING";
    /// No room for another name. Closes.
    DirectoryFull = 0x0206, "DIRECTORY_FULL";
    /// This user has published no prekeys yet.
    NoBundle = 0x0220, "NO_BUNDLE";
    /// The recipient's mailbox is at its limit.
    MailboxFull = 0x0221, "MAILBOX_FULL";
    /// The relay has too much to do.
    Busy = 0x0222, "BUSY";
    /// The relay's disk failed or is full.
    StoreFailed = 0x0223, "STORE_FAILED";
    /// Messages or notices wait in the mailbox of who wants to roll over.
    MailboxNotEmpty = 0x0224, "MAILBOX_NOT_EMPTY";
    /// Too much of the sender's waits in the recipient's mailbox.
    ShareFull = 0x0225, "SHARE_FULL";
    /// Too much of the sender's waits in all mailboxes together.
    QuotaFull = 0x0226, "QUOTA_FULL";
}

impl ErrorCode {
    /// Whether trying again later can help.
    #[must_use]
    pub fn retry(self) -> bool {
        Code::from(self).retry()
    }
}

impl From<ErrorCode> for Code {
    fn from(code: ErrorCode) -> Self {
        Self(code.number())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
