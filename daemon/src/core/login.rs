//! From HELLO to WELCOME (spec/wire.md, section 4).
//!
//! Owns: who may log in, register and receive. Must not know what a message is. Verifying a
//! signature is what costs here, so each turn verifies a bounded number and further logins wait.

use e2e_protocol::ids::{Fingerprint, Nonce, Uid};
use e2e_protocol::limits::{HEADER_BYTES, LANE_WINDOW, SESSION_VERSION, TTL_SECONDS_MAX};
use e2e_protocol::login::{Login, check_modulus, fingerprint, verify_login};
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::session::{Challenge, Hello, Proof, Purpose, Receive, Registration, Welcome};
use rand_chacha::rand_core::Rng;

use super::connection::{Challenged, PendingProof, Phase};
use super::directory::Pending;
use super::mailbox::Replay;
use super::rates::{Act, per_hour, per_minute};
use super::tokens::Fitting;
use super::{ConnId, Core, retry_after_seconds};
use crate::store::{Request, StoreErrorKind};

/// Whose signature waits to be verified.
#[derive(Clone, Copy, Debug)]
pub(super) enum ToVerify {
    /// Of this connection's PROOF.
    Login(ConnId),
    /// Of the ROLL (two) or REMOVE (one) for the name in this slot.
    Change(u32),
}

/// Why a PROOF is refused, in a word for the peer, and in how many seconds it may be tried again.
struct Refusal(ErrorCode, u32, &'static str);

fn refusal(code: ErrorCode, text: &'static str) -> Refusal {
    Refusal(code, retry_after_seconds(code), text)
}

const LOGIN_FAILED: Refusal = Refusal(ErrorCode::LoginFailed, 0, "unknown name, other key, or bad signature");

impl Core {
    pub(super) fn handle_hello(&mut self, id: ConnId, hello: Hello) {
        if !(hello.version_min..=hello.version_max).contains(&SESSION_VERSION) {
            return self.end(id, ErrorCode::UnsupportedVersion, "this relay speaks session version 1");
        }
        let registration = self.policy.registration;
        if hello.purpose == Purpose::Register && registration == Registration::Closed {
            return self.end(id, ErrorCode::RegistrationClosed, "this relay takes no new names");
        }
        let mut nonce = Nonce::ZERO;
        self.rng.fill_bytes(&mut nonce.0);
        let challenge = Challenge { version: SESSION_VERSION, registration, relay_id: self.relay_id, nonce };
        if let Some(connection) = self.connections.get_mut(id) {
            let challenged = Challenged { version: SESSION_VERSION, purpose: hello.purpose, nonce };
            connection.phase = Phase::Challenged(Box::new(challenged));
        }
        self.push(id, HEADER_BYTES + 68, |out| challenge.emit(out));
    }

    pub(super) fn handle_proof(&mut self, id: ConnId, proof: &Proof<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Phase::Challenged(challenged) = &connection.phase else { return };
        let Challenged { version, purpose, nonce } = **challenged;
        let rate = per_minute(self.limits.logins_per_address_minute);
        if let Err(seconds) = self.rates.take(Act::Login(connection.address), rate, self.now.monotonic_ms) {
            return self.end_after(id, ErrorCode::Busy, seconds, "your address logs in too often");
        }
        connection.phase = Phase::Proving(Box::new(PendingProof {
            version,
            purpose,
            nonce,
            receive: proof.receive,
            identity_key: *proof.identity_key,
            signature: *proof.signature,
            token_proof: *proof.token_proof,
            name: proof.name,
        }));
        self.to_verify.push_back(ToVerify::Login(id));
    }

    /// Verifies as many waiting signatures as one turn may. Who is gone costs none.
    pub(super) fn verify_signatures(&mut self) {
        let mut verified = 0;
        while verified < self.limits.verifications_per_turn {
            match self.to_verify.pop_front() {
                None => return,
                Some(ToVerify::Change(slot)) => verified += self.prove_change(slot),
                Some(ToVerify::Login(id)) => {
                    let Some(proof) = self.take_proof(id) else { continue };
                    verified += 1;
                    if let Err(Refusal(code, seconds, text)) = self.verify_login(id, &proof) {
                        self.end_after(id, code, seconds, text);
                    }
                }
            }
        }
    }

    /// The PROOF of a connection that is still there to be logged in.
    fn take_proof(&mut self, id: ConnId) -> Option<Box<PendingProof>> {
        let connection = self.connections.get_mut(id)?;
        if matches!(connection.phase, Phase::Proving(_))
            // Taken out and not put back: what comes next is Registering, Ready or Ending.
            && let Phase::Proving(proof) = std::mem::replace(&mut connection.phase, Phase::Hello)
        {
            return Some(proof);
        }
        None
    }

    /// Unknown name and wrong key cost the same as a good login: each verifies one signature.
    fn verify_login(&mut self, id: ConnId, proof: &PendingProof) -> Result<(), Refusal> {
        check_modulus(&proof.identity_key).map_err(|_| LOGIN_FAILED)?;
        let claimed = fingerprint(&proof.identity_key);
        let login = Login {
            version: proof.version,
            purpose: proof.purpose,
            relay_id: &self.relay_id,
            nonce: &proof.nonce,
            name: &proof.name,
            fingerprint: &claimed,
        };
        verify_login(&proof.identity_key, &login, &proof.signature).map_err(|_| LOGIN_FAILED)?;
        let owner = self.users.slot_of(&proof.name).and_then(|slot| {
            self.users.at(slot).map(|user| (slot, user.fingerprint == claimed, user.registered))
        });
        match (owner, proof.purpose) {
            (Some((slot, true, true)), _) if self.is_emptying(slot) => {
                Err(refusal(ErrorCode::NameRemoved, "the relay's administrator removed the name"))
            }
            (Some((slot, true, true)), _) => self.admit(id, slot, proof.receive),
            (Some((_, true, false)), _) => {
                Err(refusal(ErrorCode::Busy, "this name is being registered by another connection"))
            }
            (Some(_), Purpose::Register) => {
                Err(refusal(ErrorCode::NameTaken, "the name belongs to another key"))
            }
            (Some(_) | None, Purpose::Login) => Err(LOGIN_FAILED),
            (None, Purpose::Register) => {
                let token = match self.policy.registration {
                    Registration::Token => self.fitting_token(&login, &proof.token_proof),
                    _ => Fitting::Lasting,
                };
                match token {
                    Fitting::None => Err(refusal(ErrorCode::BadToken, "a registration token is needed")),
                    Fitting::Lasting => self.register(id, proof, claimed, None),
                    Fitting::Once(number) => self.register(id, proof, claimed, Some(number)),
                }
            }
        }
    }

    fn register(
        &mut self,
        id: ConnId,
        proof: &PendingProof,
        claimed: Fingerprint,
        token_number: Option<u32>,
    ) -> Result<(), Refusal> {
        if !self.takes_new() {
            return Err(refusal(ErrorCode::StoreFailed, "the relay cannot store names at the moment"));
        }
        const FULL: Refusal = Refusal(ErrorCode::DirectoryFull, 0, "the relay has no room for another name");
        if self.users.count() >= self.limits.names_max {
            return Err(FULL);
        }
        if self.pending.len() >= self.limits.requests_max {
            return Err(refusal(ErrorCode::Busy, "too many requests wait for an answer"));
        }
        let Some(address) = self.connections.get(id).map(|connection| connection.address) else {
            return Ok(());
        };
        let rate = per_hour(self.limits.registrations_per_address_hour);
        if let Err(seconds) = self.rates.take(Act::Register(address), rate, self.now.monotonic_ms) {
            return Err(Refusal(ErrorCode::Busy, seconds, "your address registers too many names"));
        }
        let generation = self.new_generation();
        let slot = self.users.reserve(proof.name, claimed, generation).ok_or(FULL)?;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Registering { receive: proof.receive };
        }
        // Before the name: a token that is good for one must not be good for two if the relay ends in between.
        let spent = token_number.and_then(|number| self.spend_token(number));
        let token = self.token();
        self.pending.insert(token, Pending::Register(id, spent.map(Box::new)));
        self.actions.push_back(super::Action::Store(Request::Register {
            slot,
            generation,
            name: proof.name,
            fingerprint: claimed,
            identity_key: Box::new(proof.identity_key),
            token,
        }));
        Ok(())
    }

    pub(super) fn handle_registered(&mut self, slot: u32, token: u64, result: Result<(), StoreErrorKind>) {
        let Some(Pending::Register(id, spent)) = self.pending.remove(&token) else { return };
        let receive = match self.connections.get(id).map(|connection| &connection.phase) {
            Some(Phase::Registering { receive }) => Some(*receive),
            _ => None,
        };
        if let Err(error) = result {
            log::error!("a name could not be stored: {error}");
            self.users.unreserve(slot);
            if let Some(token) = spent {
                self.return_token(*token);
            }
            self.store_failed();
            return self.end(id, ErrorCode::StoreFailed, "the relay could not store the name");
        }
        if let Some(user) = self.users.at(slot) {
            user.registered = true;
            let name = user.name;
            self.counters.totals.registrations += 1;
            log::info!("registered {}", self.shown(&name));
        }
        // The name is its key's even if the connection is gone meanwhile.
        if let Some(receive) = receive
            && let Err(Refusal(code, seconds, text)) = self.admit(id, slot, receive)
        {
            self.end_after(id, code, seconds, text);
        }
    }

    /// The connection is this user's now.
    fn admit(&mut self, id: ConnId, slot: u32, receive: Receive) -> Result<(), Refusal> {
        let connections_max = self.limits.connections_per_name_max;
        let now = self.now;
        // Who sends no more could not acknowledge anything.
        let ended = self.connections.get(id).is_some_and(|connection| connection.end_of_input);
        let receive = if ended { Receive::No } else { receive };
        let Some(user) = self.users.at(slot) else { return Err(LOGIN_FAILED) };
        let (credit, older) = match receive {
            Receive::No => (None, None),
            Receive::TakeOver(credit) => (Some(credit), user.receiver),
            Receive::IfNobody(_) if user.receiver.is_some() => (None, None),
            Receive::IfNobody(credit) => (Some(credit), None),
        };
        // The one that is replaced makes room.
        if user.connections - u8::from(older.is_some()) >= connections_max {
            return Err(refusal(ErrorCode::TooManyConnections, "this name has too many connections"));
        }
        user.connections += 1;
        if let Some(older) = older {
            self.end(older, ErrorCode::Replaced, "another connection receives for this name now");
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        connection.phase = Phase::Ready { slot, credit };
        self.connections.leave_login(id);
        let Some(user) = self.users.at(slot) else { return Ok(()) };
        let (prekeys, uid, name) = (user.prekeys, Uid::new(slot, user.generation), user.name);
        let queued = user.mailbox().map_or(0, |mailbox| mailbox.messages);
        let welcome = Welcome {
            uid,
            time_ms: now.relay_ms,
            queued,
            signed_prekey: prekeys.signed_prekey,
            prekeys_left: prekeys.one_time_left.into(),
            receiving: credit.is_some(),
            keepalive_seconds: u16::try_from(self.limits.keepalive_ms / 1_000).unwrap_or(u16::MAX).max(1),
            in_flight: u16::try_from(LANE_WINDOW).unwrap_or(u16::MAX),
            ttl_seconds_max: TTL_SECONDS_MAX,
        };
        self.push(id, HEADER_BYTES + 48, |out| welcome.emit(out));
        self.counters.totals.logins += 1;
        log::debug!("connection {} is {}'s", id.index, self.shown(&name));
        self.keep_alive_from_login(id);
        if credit.is_some() {
            self.attach_receiver(slot, id);
        }
        Ok(())
    }

    fn attach_receiver(&mut self, slot: u32, id: ConnId) {
        if let Some(user) = self.users.at(slot) {
            debug_assert!(user.receiver.is_none(), "the older receiver was ended before");
            user.receiver = Some(id);
            self.counters.receivers += 1;
        }
        self.note_presence(slot);
        self.touch(slot);
    }

    /// This connection receives no more: what it had not acknowledged starts over, in the store if
    /// nobody else receives.
    pub(super) fn detach_receiver(&mut self, slot: u32, id: ConnId) {
        let Some(user) = self.users.at(slot) else { return };
        if user.receiver != Some(id) {
            return;
        }
        user.receiver = None;
        self.counters.receivers = self.counters.receivers.saturating_sub(1);
        self.note_presence(slot);
        self.set_replay(slot, Replay::Idle);
        // The account of deliveries is kept by `with_mailbox`, which must not have the pool meanwhile.
        let mut pool = std::mem::take(&mut self.pool);
        let rest = self.with_mailbox(slot, |mailbox| mailbox.detach(&mut pool));
        self.pool = pool;
        if let Some(rest) = rest {
            self.finish_frame(id, &rest);
        }
        self.touch(slot);
    }
}
