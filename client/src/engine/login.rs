//! HELLO to WELCOME (spec/wire.md, section 4).
//!
//! Owns: the pin of the relay's id and the proof of one's own. What happens on a connection after
//! that is not its business.

use e2e_protocol::ids::RelayId;
use e2e_protocol::limits::SESSION_VERSION;
use e2e_protocol::login::{Login, token_proof};
use e2e_protocol::wire::session::{Challenge, Hello, Proof, Purpose, Welcome};

use super::event::{End, Event};
use super::{Engine, Receiving, Stage, Turn};
use crate::state::StateError;
use crate::state::account::Registered;

impl Engine {
    /// A connection was made: greets the relay.
    pub fn handle_connected(&mut self, turn: &mut Turn<'_>) {
        self.handle_disconnected();
        self.stage = Stage::Greeted;
        self.heard_ms = turn.now_ms;
        let hello =
            Hello { version_min: SESSION_VERSION, version_max: SESSION_VERSION, purpose: self.purpose() };
        turn.emit(|out| hello.emit(out));
    }

    /// A name that is one's own already is logged in with: that needs no token, and no registration
    /// to be open.
    fn purpose(&self) -> Purpose {
        if self.config.register && self.account.registered.is_none() {
            Purpose::Register
        } else {
            Purpose::Login
        }
    }

    pub(super) fn handle_challenge(
        &mut self,
        turn: &mut Turn<'_>,
        challenge: &Challenge,
    ) -> Result<(), StateError> {
        if let Some(Registered { relay_id: pinned, .. }) = self.account.registered
            && pinned != challenge.relay_id
        {
            turn.end(End::OtherRelay { pinned, shown: challenge.relay_id });
            return Ok(());
        }
        if challenge.version != SESSION_VERSION {
            let version = challenge.version;
            turn.end(End::Protocol(format!(
                "the relay chose session version {version}, not {SESSION_VERSION}"
            )));
            return Ok(());
        }
        let login = Login {
            version: challenge.version,
            purpose: self.purpose(),
            relay_id: &challenge.relay_id,
            nonce: &challenge.nonce,
            name: &self.account.name,
            fingerprint: self.identity.fingerprint(),
        };
        let token_proof = match (&self.config.token, login.purpose) {
            (Some(token), Purpose::Register) => token_proof(token.as_bytes(), &login),
            _ => [0; 32],
        };
        let proof = Proof {
            receive: self.receive(),
            identity_key: self.identity.modulus(),
            signature: &self.identity.sign_login(&login, turn.rng),
            token_proof: &token_proof,
            name: self.account.name,
        };
        turn.emit(|out| proof.emit(out));
        self.stage = Stage::Proven(challenge.relay_id);
        Ok(())
    }

    pub(super) fn handle_welcome(
        &mut self,
        turn: &mut Turn<'_>,
        welcome: Welcome,
        relay_id: RelayId,
    ) -> Result<(), StateError> {
        let as_asked = match self.config.receive {
            Receiving::Nothing => !welcome.receiving,
            Receiving::Notices => true,
            Receiving::Messages => welcome.receiving,
        };
        if !as_asked {
            turn.end(End::Protocol("the relay did not do as asked about receiving".into()));
            return Ok(());
        }
        let registered = Some(Registered { relay_id, uid: welcome.uid });
        if self.account.registered != registered {
            self.account.registered = registered;
            self.account.store(&mut turn.state);
        }
        self.stage = Stage::Ready(welcome);
        self.mailbox.begin(welcome.queued);
        turn.event(Event::Ready);
        self.plan_prekeys(turn, welcome.signed_prekey, welcome.prekeys_left)
    }
}
