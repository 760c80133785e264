//! Everything that is kept about one peer: the pin, the sessions, and what of them is still open.
//!
//! This file owns that state, its rules and its layout at rest. Sending on it is in `peer::send`,
//! receiving in `peer::receive`. Records of opened messages are apart ([`super::Records`]), because
//! they are many and rarely change. It must not know files, frames or the outbox. Source:
//! spec/crypto.md, "Sessions".

mod receive;
mod send;

use zeroize::Zeroizing;

pub use receive::{Inbox, Opened, OpenedMessage};
pub use send::{EncryptError, Sealed};

use super::codec::{Corrupt, Reader, Writer};
use super::limits::{INITS_REMEMBERED_MAX, SESSION_IDLE_MS_MAX, SESSIONS_MAX, SPKS_MAX};
use super::pace::Pace;
use super::session::{Half, Initiator, Session, Standing};
use super::skipped::SkippedKeys;
use crate::ids::{Fingerprint, KeyId, Name, SessionId};

const STATE_VERSION: u8 = 1;

/// One peer. The methods change the value in memory; the caller commits what [`Self::encode`] gives
/// before anything that came of it leaves the process, and drops the value if it can't.
pub struct Peer {
    name: Name,
    pin: Option<Fingerprint>,
    /// The newest `made` of the peer's signed prekeys that was seen in a bundle.
    last_made_ms: u64,
    /// In the order in which they were made.
    sessions: Vec<Session>,
    skipped: SkippedKeys,
    /// Sessions that INITs of the peer ever opened, with the signed prekey that these used.
    inits: Vec<(KeyId, SessionId)>,
    pace: Pace,
}

impl Peer {
    /// A peer of whom nothing is known but the name.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self {
            name,
            pin: None,
            last_made_ms: 0,
            sessions: Vec::new(),
            skipped: SkippedKeys::default(),
            inits: Vec::new(),
            pace: Pace::default(),
        }
    }

    /// The name at the relay.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The fingerprint of the identity key that was met first, and is the only one accepted.
    #[must_use]
    pub fn pin(&self) -> Option<Fingerprint> {
        self.pin
    }

    /// How many messages were skipped and may still arrive.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.skipped.len()
    }

    /// A receipt for a message on this session verified: its messages travel bare from now on.
    pub fn receipt_verified(&mut self, sid: SessionId) {
        if let Some(initiator) = self.initiator_mut(sid) {
            initiator.standing.confirm();
            self.pace.receipt_verified();
        }
    }

    /// The latest envelope of a message on this session was rejected: nothing is sent on it any more,
    /// and the next session starts without a one-time prekey, in case the last one's was spent.
    pub fn reject_seen(&mut self, sid: SessionId) {
        if let Some(initiator) = self.initiator_mut(sid) {
            initiator.standing = Standing::Rejected;
            self.pace.rejected();
        }
    }

    /// The state to keep. Layout: version 1, name 4+n, pin 1+32, last made 8, count 4 and sessions,
    /// count 4 and skipped keys 64 each, count 4 and INITs 8+16 each, pace 11.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new(STATE_VERSION);
        out.bytes(self.name.as_bytes());
        out.bool(self.pin.is_some());
        out.array(&self.pin.unwrap_or(Fingerprint::ZERO).0);
        out.u64(self.last_made_ms);
        out.count(self.sessions.len());
        self.sessions.iter().for_each(|session| session.encode(&mut out));
        self.skipped.encode(&mut out);
        out.count(self.inits.len());
        for (spk, sid) in &self.inits {
            out.array(&spk.0);
            out.array(&sid.0);
        }
        self.pace.encode(&mut out);
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] if it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Reader::new(bytes, STATE_VERSION)?;
        let name = Name::parse(input.bytes()?).map_err(|_| Corrupt)?;
        let pinned = input.bool()?;
        let pin = Fingerprint(*input.array()?);
        let last_made_ms = input.u64()?;
        let sessions = input.count(SESSIONS_MAX)?;
        let sessions = (0..sessions).map(|_| Session::decode(&mut input)).collect::<Result<_, _>>()?;
        let skipped = SkippedKeys::decode(&mut input)?;
        let inits = input.count(INITS_REMEMBERED_MAX * SPKS_MAX)?;
        let inits = (0..inits).map(|_| Ok((KeyId(*input.array()?), SessionId(*input.array()?))));
        let inits = inits.collect::<Result<_, _>>()?;
        let pace = Pace::decode(&mut input)?;
        input.finish()?;
        Ok(Self { name, pin: pinned.then_some(pin), last_made_ms, sessions, skipped, inits, pace })
    }

    fn session(&self, sid: SessionId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.sid == sid)
    }

    fn session_mut(&mut self, sid: SessionId) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.sid == sid)
    }

    fn initiator_mut(&mut self, sid: SessionId) -> Option<&mut Initiator> {
        match &mut self.session_mut(sid)?.half {
            Half::Initiator(initiator) => Some(initiator),
            Half::Responder(_) => None,
        }
    }

    /// The newest session that we started: the only one that we may send on.
    fn newest_started(&self) -> Option<(&Session, &Initiator)> {
        self.sessions.iter().rev().find_map(|session| match &session.half {
            Half::Initiator(initiator) => Some((session, initiator)),
            Half::Responder(_) => None,
        })
    }

    /// The session that is sent on, if the newest one that we started is live.
    fn sending(&self, now_ms: u64) -> Option<SessionId> {
        let (session, initiator) = self.newest_started()?;
        initiator.is_live(session.made_ms, now_ms).then_some(session.sid)
    }

    /// Adds a session; the longest unused goes if there are too many, but not the sending one.
    fn add_session(&mut self, session: Session, now_ms: u64) {
        self.sessions.push(session);
        let added = self.sessions.last().map(|session| session.sid);
        while self.sessions.len() > SESSIONS_MAX {
            let sending = self.sending(now_ms);
            let others = self.sessions.iter().filter(|s| Some(s.sid) != sending && Some(s.sid) != added);
            let Some(oldest) = others.min_by_key(|session| session.used_ms).map(|session| session.sid) else {
                break;
            };
            self.erase_session(oldest);
        }
    }

    fn erase_session(&mut self, sid: SessionId) {
        self.sessions.retain(|session| session.sid != sid);
        self.skipped.erase_session(sid);
    }

    /// Erases what is kept too long, before anything else is done with the state.
    fn erase_old(&mut self, now_ms: u64) {
        let sending = self.sending(now_ms);
        let idle = |session: &Session| now_ms.saturating_sub(session.used_ms) > SESSION_IDLE_MS_MAX;
        let outdated = self.sessions.iter().filter(|s| idle(s) && Some(s.sid) != sending);
        let outdated: Vec<SessionId> = outdated.map(|session| session.sid).collect();
        outdated.into_iter().for_each(|sid| self.erase_session(sid));
        self.skipped.erase_old(now_ms);
    }
}
