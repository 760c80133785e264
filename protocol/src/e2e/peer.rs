//! Everything that is kept about one peer: the pinned key, the sessions, and what of them is still open.
//!
//! This file owns that state, which session is sent on, and its layout at rest. Sending is in
//! `peer::send`, receiving in `peer::receive` and `peer::preamble`, who the peer is in `peer::pin`. Records of opened messages
//! are apart ([`super::Records`]), because they are many and rarely change. It must not know files,
//! frames or the outbox. Source: spec/crypto.md, "Sessions".

mod pin;
mod preamble;
mod receive;
mod send;

use zeroize::Zeroizing;

pub use pin::ShownKey;
pub use receive::{Inbox, Opened, OpenedMessage};
pub use send::{EncryptError, Sealed};

use super::codec::{Corrupt, Reader, Writer};
use super::limits::{INITS_REMEMBERED_MAX, SESSION_IDLE_MS_MAX, SESSIONS_MAX, SPKS_MAX};
use super::pace::Pace;
use super::session::{Due, Role, Session};
use super::skipped::SkippedKeys;
use crate::ids::{KeyId, Name, SessionId};
use pin::Pin;

const STATE_VERSION: u8 = 2;

/// One peer. The methods change the value in memory; the caller commits what [`Self::encode`] gives
/// before anything that came of it leaves the process, and drops the value if it can't.
pub struct Peer {
    name: Name,
    pin: Pin,
    /// The newest `made` of the peer's signed prekeys that was seen in a bundle.
    last_made_ms: u64,
    /// In the order in which they were made.
    sessions: Vec<Session>,
    /// How many messages of the peer were authenticated: which session was heard last.
    heard: u64,
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
            pin: Pin::default(),
            last_made_ms: 0,
            sessions: Vec::new(),
            heard: 0,
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

    /// How many messages were skipped and may still arrive.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.skipped.len()
    }

    /// Whether a step is due that waits for no message: an empty one is to be sent.
    #[must_use]
    pub fn needs_empty_message(&self, now_ms: u64) -> bool {
        let sending = self.sending(now_ms).and_then(|sid| self.session(sid));
        sending.is_some_and(|session| session.step_due(now_ms) == Due::Now)
    }

    /// A receipt for a message of this epoch of a session verified: its messages travel bare from now on.
    pub fn receipt_verified(&mut self, sid: SessionId, epoch: u32) {
        if let Some(session) = self.session_mut(sid) {
            session.confirm(epoch);
            self.pace.receipt_verified();
        }
    }

    /// The latest envelope of a message on this session was rejected: nothing is sent on it any more,
    /// and the next session starts without a one-time prekey, in case the last one's was spent.
    pub fn reject_seen(&mut self, sid: SessionId) {
        if let Some(session) = self.session_mut(sid) {
            session.rejected = true;
            self.pace.rejected();
        }
    }

    /// The state to keep. Layout: version 1, name 4+n, pin, last made 8, count 4 and sessions, heard 8,
    /// count 4 and skipped keys 64 each, count 4 and INITs 8+16 each, pace 11.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new(STATE_VERSION);
        out.bytes(self.name.as_bytes());
        self.pin.encode(&mut out);
        out.u64(self.last_made_ms);
        out.count(self.sessions.len());
        self.sessions.iter().for_each(|session| session.encode(&mut out));
        out.u64(self.heard);
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
        let pin = Pin::decode(&mut input)?;
        let last_made_ms = input.u64()?;
        let sessions = input.count(SESSIONS_MAX)?;
        let sessions = (0..sessions).map(|_| Session::decode(&mut input)).collect::<Result<_, _>>()?;
        let heard = input.u64()?;
        let skipped = SkippedKeys::decode(&mut input)?;
        let inits = input.count(INITS_REMEMBERED_MAX * SPKS_MAX)?;
        let inits = (0..inits).map(|_| Ok((KeyId(*input.array()?), SessionId(*input.array()?))));
        let inits = inits.collect::<Result<_, _>>()?;
        let pace = Pace::decode(&mut input)?;
        input.finish()?;
        Ok(Self { name, pin, last_made_ms, sessions, heard, skipped, inits, pace })
    }

    fn session(&self, sid: SessionId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.sid == sid)
    }

    fn session_mut(&mut self, sid: SessionId) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.sid == sid)
    }

    /// The newest session that we started.
    fn newest_started(&self) -> Option<&Session> {
        self.sessions.iter().rev().find(|session| session.role == Role::Initiator)
    }

    /// The session that is sent on: the live one that the peer was last heard on, else the newest that
    /// we started, if it is live.
    fn sending(&self, now_ms: u64) -> Option<SessionId> {
        let live = self.sessions.iter().filter(|session| session.is_live(now_ms));
        let heard = live.filter(|session| session.heard > 0).max_by_key(|session| session.heard);
        let session = heard.or_else(|| self.newest_started().filter(|session| session.is_live(now_ms)))?;
        Some(session.sid)
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

    /// Erases what was waited for too long, before anything else is done with the state.
    fn erase_old(&mut self, now_ms: u64) {
        if self.skipped.erase_old(now_ms) {
            self.retire_ratchets();
        }
    }

    /// Erases what is unused for too long, once a message of the peer was authenticated. Not earlier: after
    /// simultaneous starts each end sends on the other's session, and after a long silence each would
    /// have erased what the other goes on with.
    fn erase_idle(&mut self, now_ms: u64) {
        let sending = self.sending(now_ms);
        let idle = |session: &Session| now_ms.saturating_sub(session.used_ms) > SESSION_IDLE_MS_MAX;
        let outdated = self.sessions.iter().filter(|s| idle(s) && Some(s.sid) != sending);
        let outdated: Vec<SessionId> = outdated.map(|session| session.sid).collect();
        outdated.into_iter().for_each(|sid| self.erase_session(sid));
    }

    fn retire_ratchets(&mut self) {
        let skipped = &self.skipped;
        for session in &mut self.sessions {
            let sid = session.sid;
            session.retire_ratchets(|epoch| skipped.has_epoch(sid, epoch));
        }
    }
}
