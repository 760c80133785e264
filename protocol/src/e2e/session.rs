//! A session: what an INIT gave the two ends, and how far each has come.
//!
//! In this version a session is at epoch 0, where only the initiator sends. This file owns the state
//! of either half and its layout at rest. It must not know which session to use (`peer`) nor how a
//! message is sealed (`message`). Source: spec/crypto.md, "Sessions".

use super::bundle::Profile;
use super::chain::Chain;
use super::codec::{Corrupt, Reader, Writer};
use super::init::{INIT_WITH_OPK_BYTES, TranscriptHash, session_id};
use super::key_pair::StoredKey;
use super::limits::SENDING_MS_MAX;
use super::secret::Secret;
use crate::ids::{KeyId, Modulus, SessionId};

/// The only epoch without stepping.
pub(crate) const EPOCH: u32 = 0;

/// One session with one peer.
pub(crate) struct Session {
    pub(crate) sid: SessionId,
    pub(crate) th: TranscriptHash,
    /// Kept for the step to epoch 1.
    pub(crate) root: Secret,
    pub(crate) made_ms: u64,
    /// When a message was last sent or authenticated on it.
    pub(crate) used_ms: u64,
    pub(crate) half: Half,
}

/// Which end of the session is ours.
#[allow(clippy::large_enum_variant)] // at most four per peer
pub(crate) enum Half {
    /// We started it, and send.
    Initiator(Initiator),
    /// The peer started it; we receive.
    Responder(Responder),
}

/// What the starting end holds.
pub(crate) struct Initiator {
    pub(crate) chain: Chain,
    /// N(SPK) of the peer: every message's key is wrapped to it.
    pub(crate) spk: Modulus,
    /// R of epoch 0, which the peer's first step will be wrapped to.
    pub(crate) ratchet: StoredKey,
    pub(crate) standing: Standing,
}

/// What the peer let us know about a session that we started.
pub(crate) enum Standing {
    /// Nothing yet: every message carries this INIT.
    Unconfirmed(Vec<u8>),
    /// A receipt for one of its messages verified: messages travel bare.
    Confirmed,
    /// The peer could not open a message: nothing is sent on it any more.
    Rejected,
}

/// What the other end holds.
pub(crate) struct Responder {
    pub(crate) chain: Chain,
    /// Our signed prekey, which every message's key is wrapped to.
    pub(crate) spk: KeyId,
    /// N(R) of epoch 0, which our first step will be wrapped to.
    pub(crate) ratchet: Modulus,
    /// How the peer wants to be sent to in this session.
    pub(crate) profile: Profile,
}

impl Session {
    pub(crate) fn new(th: TranscriptHash, root: Secret, half: Half, now_ms: u64) -> Self {
        Self { sid: session_id(&th), th, root, made_ms: now_ms, used_ms: now_ms, half }
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.array(&self.th);
        out.array(self.root.as_bytes());
        out.u64(self.made_ms);
        out.u64(self.used_ms);
        match &self.half {
            Half::Initiator(half) => {
                out.u8(1);
                half.chain.encode(out);
                out.array(&half.spk);
                half.ratchet.encode(out);
                half.standing.encode(out);
            }
            Half::Responder(half) => {
                out.u8(2);
                half.chain.encode(out);
                out.array(&half.spk.0);
                out.array(&half.ratchet);
                out.u8(half.profile as u8);
            }
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let th = *input.array()?;
        let root = Secret::decode(input)?;
        let made_ms = input.u64()?;
        let used_ms = input.u64()?;
        let half = match input.u8()? {
            1 => Half::Initiator(Initiator {
                chain: Chain::decode(input)?,
                spk: *input.array()?,
                ratchet: StoredKey::decode(input)?,
                standing: Standing::decode(input)?,
            }),
            2 => Half::Responder(Responder {
                chain: Chain::decode(input)?,
                spk: KeyId(*input.array()?),
                ratchet: *input.array()?,
                profile: Profile::from_u8(input.u8()?).ok_or(Corrupt)?,
            }),
            _ => return Err(Corrupt),
        };
        Ok(Self { sid: session_id(&th), th, root, made_ms, used_ms, half })
    }
}

impl Initiator {
    /// Whether it may be sent on at `now_ms`, being made at `made_ms`.
    pub(crate) fn is_live(&self, made_ms: u64, now_ms: u64) -> bool {
        let young = now_ms.saturating_sub(made_ms) < SENDING_MS_MAX;
        young && !self.chain.is_full() && !self.is_rejected()
    }

    /// Whether nothing but its length ended it.
    pub(crate) fn is_complete(&self) -> bool {
        self.chain.is_full() && !self.is_rejected()
    }

    fn is_rejected(&self) -> bool {
        matches!(self.standing, Standing::Rejected)
    }
}

impl Standing {
    /// What stands before the next message: the INIT, or nothing.
    pub(crate) fn preamble(&self) -> &[u8] {
        match self {
            Self::Unconfirmed(init) => init,
            Self::Confirmed | Self::Rejected => &[],
        }
    }

    /// A receipt verified. A rejection is not taken back.
    pub(crate) fn confirm(&mut self) {
        if matches!(self, Self::Unconfirmed(_)) {
            *self = Self::Confirmed;
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Unconfirmed(init) => {
                out.u8(1);
                out.bytes(init);
            }
            Self::Confirmed => out.u8(2),
            Self::Rejected => out.u8(3),
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Corrupt> {
        match input.u8()? {
            1 => match input.bytes()? {
                init if init.len() <= INIT_WITH_OPK_BYTES => Ok(Self::Unconfirmed(init.to_vec())),
                _ => Err(Corrupt),
            },
            2 => Ok(Self::Confirmed),
            3 => Ok(Self::Rejected),
            _ => Err(Corrupt),
        }
    }
}
