//! Which file holds what.
//!
//! Owns: the layout of the home, as types, and their paths. Must not know what is in the files.

use e2e_protocol::ids::{Lane, Name, Number, Uid};

/// A file of the home. Its order is that of the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `identity`: the identity key.
    Identity,
    /// `account`: own name and uid, the relay's id.
    Account,
    /// `prekeys`: signed and one-time prekeys.
    Prekeys,
    /// `ratchets`: ratchet keys made ahead.
    RatchetKeys,
    /// `next-identity`: the identity key that the name is to move to.
    NextIdentity,
    /// `peers/NAME`: a contact's uid, pinned key and sessions.
    Peer(Name),
    /// `records/NAME,N`: the N-th segment of what was received from a contact.
    Records(Name, u64),
    /// `uids/UID`: the name that a uid stands for.
    Uid(Uid),
    /// `outbox/LANE-NUMBER`: a message on its way.
    Outbox(Lane, Number),
    /// `inbox/LANE-N`: a message that came and is not printed yet; LANE is the process that took it.
    Inbox(Lane, u64),
    /// `lanes/LANE`: locked for as long as the process lives whose lane it is.
    Lane(Lane),
}

/// A directory of the home, with one file for each of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// Files that there is one of.
    Top,
    /// [`Key::Peer`].
    Peers,
    /// [`Key::Records`].
    Records,
    /// [`Key::Uid`].
    Uids,
    /// [`Key::Outbox`].
    Outbox,
    /// [`Key::Inbox`].
    Inbox,
    /// [`Key::Lane`].
    Lanes,
}

impl Folder {
    /// Every folder.
    pub const ALL: [Self; 7] =
        [Self::Top, Self::Peers, Self::Records, Self::Uids, Self::Outbox, Self::Inbox, Self::Lanes];

    /// Its path in the home; empty for the home itself.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Peers => "peers",
            Self::Records => "records",
            Self::Uids => "uids",
            Self::Outbox => "outbox",
            Self::Inbox => "inbox",
            Self::Lanes => "lanes",
        }
    }
}

impl Key {
    /// The folder that it is in.
    #[must_use]
    pub fn folder(&self) -> Folder {
        match self {
            Self::Identity | Self::Account | Self::Prekeys | Self::RatchetKeys | Self::NextIdentity => {
                Folder::Top
            }
            Self::Peer(_) => Folder::Peers,
            Self::Records(..) => Folder::Records,
            Self::Uid(_) => Folder::Uids,
            Self::Outbox(..) => Folder::Outbox,
            Self::Inbox(..) => Folder::Inbox,
            Self::Lane(_) => Folder::Lanes,
        }
    }

    /// Its path in the home. A name starts with a letter or a digit (wire.md), so that no name can
    /// climb out of its folder, nor be taken for a file that is being written (which starts with a dot).
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Identity => "identity".into(),
            Self::Account => "account".into(),
            Self::Prekeys => "prekeys".into(),
            Self::RatchetKeys => "ratchets".into(),
            Self::NextIdentity => "next-identity".into(),
            Self::Peer(name) => format!("peers/{name}"),
            Self::Records(name, segment) => format!("records/{name},{segment}"),
            Self::Uid(uid) => format!("uids/{:016x}", uid.0),
            Self::Outbox(lane, number) => format!("outbox/{:016x}-{:016x}", lane.0, number.0),
            Self::Inbox(lane, number) => format!("inbox/{:016x}-{number:016x}", lane.0),
            Self::Lane(lane) => format!("lanes/{:016x}", lane.0),
        }
    }

    /// The key with this path; `None` for a file that is not the client's.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let Some((folder, file)) = path.split_once('/') else {
            let top = [Self::Identity, Self::Account, Self::Prekeys, Self::RatchetKeys, Self::NextIdentity];
            return top.into_iter().find(|key| key.path() == path);
        };
        let key = match folder {
            "peers" => Self::Peer(file.parse().ok()?),
            "records" => {
                let (name, segment) = file.rsplit_once(',')?;
                Self::Records(name.parse().ok()?, segment.parse().ok()?)
            }
            "uids" => Self::Uid(Uid(hex(file)?)),
            "outbox" => {
                let (lane, number) = file.split_once('-')?;
                Self::Outbox(Lane(hex(lane)?), Number(hex(number)?))
            }
            "inbox" => {
                let (lane, number) = file.split_once('-')?;
                Self::Inbox(Lane(hex(lane)?), hex(number)?)
            }
            "lanes" => Self::Lane(Lane(hex(file)?)),
            _ => return None,
        };
        // One spelling each: what is written back must be the same file.
        (key.path() == path).then_some(key)
    }

    /// What stands in the file's second byte, so that a file under a wrong name is noticed.
    pub(super) fn tag(&self) -> u8 {
        match self {
            Self::Identity => 1,
            Self::Account => 2,
            Self::Prekeys => 3,
            Self::Peer(_) => 4,
            Self::Records(..) => 5,
            Self::Uid(_) => 6,
            Self::Outbox(..) => 7,
            Self::Inbox(..) => 8,
            Self::Lane(_) => 9,
            Self::RatchetKeys => 10,
            Self::NextIdentity => 11,
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}
