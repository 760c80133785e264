//! Who copied a user's state, and what that copy opens.
//!
//! Owns: copies, and that they open nothing that was opened before, nor anything from the third epoch on
//! after the one that was known when the copy was made. Must not know the client that was copied.

use std::collections::BTreeMap;

use e2e_protocol::e2e::{
    INIT_WITH_OPK_BYTES, Inbox, Opened, Peer, PreambleMemory, Prekeys, Profile, Records,
};
use e2e_protocol::ids::SessionId;

use super::Who;
use super::checks::Checks;
use super::home::Home;
use super::keys::{me, name};
use super::mailbox::{epoch, preamble, session};
use crate::dice::Dice;

/// Envelopes that are kept to be tried, of all users.
const KEPT_MAX: usize = 30;

#[derive(Default)]
pub(super) struct Thief {
    /// Opened by their recipients: to whom, from whom.
    opened: Vec<(Who, Who, Vec<u8>)>,
    copy: Option<Copy>,
}

/// A copy, with which the thief follows what comes.
struct Copy {
    of: Who,
    profile: Profile,
    prekeys: Prekeys,
    peers: BTreeMap<Who, Peer>,
    /// The epoch of each session when it was made.
    epochs: BTreeMap<SessionId, u32>,
}

impl Copy {
    fn opens(&mut self, from: Who, envelope: &[u8], now_ms: u64, dice: &mut Dice) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        let records = Records::new();
        let mut preambles = PreambleMemory::new();
        let mut inbox = Inbox {
            me: me(self.of, self.profile),
            prekeys: &mut self.prekeys,
            records: &records,
            preambles: &mut preambles,
        };
        matches!(peer.decrypt(&mut inbox, envelope, now_ms, dice.rng()), Ok(Opened::New(_)))
    }
}

impl Thief {
    /// Copies a state, and turns it on what was opened before.
    pub(super) fn steal(
        &mut self,
        of: Who,
        profile: Profile,
        home: &Home,
        now_ms: u64,
        dice: &mut Dice,
        checks: &mut Checks,
    ) {
        let peers: BTreeMap<Who, Peer> = home.peers.keys().map(|who| (*who, home.peer(*who))).collect();
        let mut copy = Copy { of, profile, prekeys: home.read_prekeys(), peers, epochs: BTreeMap::new() };
        for (to, from, envelope) in &self.opened {
            if *to == of && copy.opens(*from, envelope, now_ms, dice) {
                checks.violation("a copied state opens what was opened before it was copied".into());
            }
            // The thief need not remember which INITs were used. Without the one-time prekey that is no help.
            if *to == of && preamble(envelope).len() == INIT_WITH_OPK_BYTES {
                let known = copy.peers.insert(*from, Peer::new(*name(*from)));
                if copy.opens(*from, envelope, now_ms, dice) {
                    checks.violation("copied prekeys open what was opened before they were copied".into());
                }
                known.map(|known| copy.peers.insert(*from, known));
            }
            let sid = session(envelope);
            if let Some(epoch) = checks.highest_epoch(of, sid) {
                copy.epochs.insert(sid, epoch);
            }
        }
        copy.prekeys = home.read_prekeys();
        copy.peers = home.peers.keys().map(|who| (*who, home.peer(*who))).collect();
        self.copy = Some(copy);
    }

    /// A state was put back: what was opened since may be opened again.
    pub(super) fn forget(&mut self, of: Who) {
        self.opened.retain(|(to, _, _)| *to != of);
        self.copy = None;
    }

    /// A message was opened by its recipient.
    pub(super) fn listen(
        &mut self,
        to: Who,
        from: Who,
        envelope: &[u8],
        now_ms: u64,
        dice: &mut Dice,
        checks: &mut Checks,
    ) {
        if let Some(copy) = self.copy.as_mut().filter(|copy| copy.of == to) {
            let stolen = copy.epochs.get(&session(envelope)).copied();
            let healed = stolen.is_some_and(|stolen| epoch(envelope) >= stolen + 3);
            if copy.opens(from, envelope, now_ms, dice) && healed {
                checks.violation("a copied state opens what was sent after two later steps".into());
            }
        }
        if self.opened.len() >= KEPT_MAX {
            self.opened.remove(0);
        }
        self.opened.push((to, from, envelope.to_vec()));
    }
}
