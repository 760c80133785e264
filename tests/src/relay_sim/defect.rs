//! What can be broken on purpose, between the relay's core and the world around it.
//!
//! Owns: the defects' names, and how often each strikes. Must not know how it is carried out: that is done
//! where core and world meet (`host`, `store`). The daemon's code knows nothing of it.

use std::str::FromStr;

/// A defect that the checks have to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The store loses one message of those that it is given together.
    DropMessage,
    /// The store says that messages are on the disk as soon as it is asked to put them there.
    AckBeforeFsync,
    /// Two messages from one connection to one recipient change places.
    Reorder,
    /// What is for one connection goes to another.
    CrossConnection,
    /// The store says that a name is on the disk, and loses it.
    ForgetName,
    /// The store says that keys are on the disk, and loses them.
    ForgetKeys,
    /// The store hands out a one-time prekey twice.
    PrekeyTwice,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::DropMessage,
        Self::AckBeforeFsync,
        Self::Reorder,
        Self::CrossConnection,
        Self::ForgetName,
        Self::ForgetKeys,
        Self::PrekeyTwice,
    ];

    /// How it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DropMessage => "drop-message",
            Self::AckBeforeFsync => "ack-before-fsync",
            Self::Reorder => "reorder",
            Self::CrossConnection => "cross-connection",
            Self::ForgetName => "forget-name",
            Self::ForgetKeys => "forget-keys",
            Self::PrekeyTwice => "prekey-twice",
        }
    }

    /// Of a thousand opportunities it takes so many.
    pub(super) fn per_mille(self) -> u64 {
        match self {
            Self::DropMessage => 20,
            Self::AckBeforeFsync => 1_000,
            Self::Reorder | Self::CrossConnection => 10,
            Self::ForgetName | Self::ForgetKeys | Self::PrekeyTwice => 100,
        }
    }
}

impl FromStr for Defect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|defect| defect.name() == text)
            .ok_or(format!("there is no defect '{text}', but {names}"))
    }
}
