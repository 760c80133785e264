//! What peers say to the relay: frames of every type, good ones and others, and bytes that are none.
//!
//! Owns: how an act becomes bytes. Must not know what has to hold (`checks`).

use e2e_protocol::ids::{KeyId, Lane, Number, Receipt, Sequence, Uid};
use e2e_protocol::limits::{ENVELOPE_BYTES_MAX, FRAME_BYTES_MAX, TTL_SECONDS_MAX};
use e2e_protocol::login::{self, Login, key_id, token_proof};
use e2e_protocol::wire::directory::{Batch, Lookup, Publish, SignedPrekey, Want, Whose};
use e2e_protocol::wire::header::ROUTED;
use e2e_protocol::wire::roll::{Roll, RollOver};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::{Credit, Hello, Proof, Purpose, Receive, emit_ping};
use e2e_protocol::wire::transfer::Ack;
use e2e_protocol::wire::{FrameType, NoRoom, Routing};

use super::super::edits::{edit, reseal, sealed};
use super::{CONNECTIONS_MAX, Relay, TOKEN, uid};
use crate::relay_sim::keys;
use crate::sessions::keys::pool;

fn frame(emit: impl FnOnce(&mut [u8]) -> Result<usize, NoRoom>) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_BYTES_MAX];
    // What can't be said is not said.
    let count = emit(&mut bytes).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

impl Relay<'_> {
    pub(super) fn talk(&mut self, act: u8) {
        if act == 1 {
            return self.draw_login();
        }
        let Some(peer) = self.pick_peer() else { return };
        let said = match act {
            2 => self.hello(),
            3 => self.proof(peer),
            4..=9 => self.message(),
            10..=13 => self.ack(peer),
            14 | 15 => self.lookup(),
            16 | 17 => self.publish(),
            18 => self.roll(peer),
            19 => {
                let kind = self.input.pick(&[FrameType::Ping, FrameType::Pong]);
                frame(|out| emit_ping(out, kind, [7; 8]))
            }
            // Of any type, with any body.
            20..=23 => {
                let number = self.input.u8();
                let routed = FrameType::from_number(number).is_some_and(FrameType::is_routed);
                let flags = if routed { ROUTED } else { u16::from(self.input.u8() & 3) };
                sealed(number, flags, self.input.counted())
            }
            _ => self.input.counted().to_vec(),
        };
        self.say(peer, said);
    }

    /// Says it, perhaps not as it was meant.
    fn say(&mut self, peer: usize, mut bytes: Vec<u8>) {
        let how = self.input.u8();
        if how >= 0xF0 {
            edit(&mut bytes, &mut self.input);
            if how & 1 != 0 && bytes.len() >= 20 {
                reseal(&mut bytes);
            }
        }
        self.ledger.note_said(peer, &bytes);
        self.world.raw(peer, &bytes);
    }

    /// A connection that goes all the way, as any of the names with any of their keys.
    fn draw_login(&mut self) {
        if self.world.links.len() >= CONNECTIONS_MAX {
            return;
        }
        let (who, key) = (self.input.index(keys::USERS_MAX), self.input.index(keys::KEYS_EACH));
        let purpose = self.input.pick(&[Purpose::Login, Purpose::Register]);
        let receive = self.draw_receive();
        self.log_in(who, key, purpose, receive);
    }

    pub(super) fn log_in(&mut self, who: usize, key: usize, purpose: Purpose, receive: Receive) {
        let peer = self.world.connect();
        self.world.hello(peer, purpose);
        self.world.settle();
        let proof = self.proof_of(peer, who, key, purpose, receive);
        self.world.raw(peer, &proof);
        self.ledger.note_proof(peer, who, key, receive);
        self.world.settle();
    }

    fn draw_receive(&mut self) -> Receive {
        let credit = self.draw_credit();
        self.input.pick(&[Receive::No, Receive::TakeOver(credit), Receive::IfNobody(credit)])
    }

    pub(super) fn draw_credit(&mut self) -> Credit {
        let messages = self.input.pick(&[1, 2, 20, u32::MAX]);
        let bytes = self.input.pick(&[16_448, 20_000, u32::MAX]);
        Credit { messages, bytes }
    }

    fn hello(&mut self) -> Vec<u8> {
        let purpose = self.input.pick(&[Purpose::Login, Purpose::Register]);
        let (version_min, more) = (self.input.u8() % 3, self.input.u8() % 3);
        let version_max = u16::from(version_min) + u16::from(more);
        frame(|out| Hello { version_min: version_min.into(), version_max, purpose }.emit(out))
    }

    fn proof(&mut self, peer: usize) -> Vec<u8> {
        let (who, key) = (self.input.index(keys::USERS_MAX), self.input.index(keys::KEYS_EACH));
        let purpose = self.input.pick(&[Purpose::Login, Purpose::Register]);
        let receive = self.draw_receive();
        self.ledger.note_proof(peer, who, key, receive);
        self.proof_of(peer, who, key, purpose, receive)
    }

    /// A PROOF whose signature fits the CHALLENGE that came, or one of zeros.
    fn proof_of(
        &mut self,
        peer: usize,
        who: usize,
        key: usize,
        purpose: Purpose,
        receive: Receive,
    ) -> Vec<u8> {
        let identity = keys::identity(who, key);
        let name = keys::name(who);
        let mut signature = [0; 256];
        let mut token = [0; 32];
        if let Some(challenge) = self.world.links[peer].challenge {
            let login = Login {
                version: 1,
                purpose,
                relay_id: &challenge.relay_id,
                nonce: &challenge.nonce,
                name,
                fingerprint: identity.fingerprint(),
            };
            signature = keys::sign_login(who, key, &login);
            if self.input.u8() & 1 == 0 {
                token = token_proof(TOKEN, &login);
            }
        }
        let identity_key = identity.modulus();
        frame(|out| {
            Proof { receive, identity_key, signature: &signature, token_proof: &token, name: *name }.emit(out)
        })
    }

    /// A uid of somebody: as it was first, as WELCOME said it, or of nobody.
    fn draw_uid(&mut self) -> Uid {
        let choice = self.input.u8();
        let welcome = |peer: usize| self.world.links.get(peer)?.welcome.map(|welcome| welcome.uid);
        match choice {
            0..=9 => uid(usize::from(choice) % super::REGISTERED),
            10..=0xDF => welcome(usize::from(choice) % CONNECTIONS_MAX).unwrap_or(uid(0)),
            _ => Uid(self.input.u64()),
        }
    }

    fn message(&mut self) -> Vec<u8> {
        let peer = self.draw_uid();
        let lane = Lane(u64::from(self.input.u8() % 4));
        let number = match self.input.u8() {
            number @ 1..0xF0 => u64::from(number),
            number => u64::MAX - u64::from(number & 0xF),
        };
        let ttl_seconds = self.input.pick(&[0, 1, 60, TTL_SECONDS_MAX]);
        let bytes = self.input.pick(&[1, 8, 100, 1_000, ENVELOPE_BYTES_MAX]);
        let envelope = vec![self.input.u8(); bytes];
        let routing = Routing { peer, lane, number: Number(number), ttl_seconds, ..Routing::default() };
        frame(|out| emit_routed(out, FrameType::Send, &routing, &envelope))
    }

    /// Of the oldest that waits for it, or beside that.
    fn ack(&mut self, peer: usize) -> Vec<u8> {
        let count = 1 + self.input.index(8);
        let oldest = self.ledger.oldest(peer, count);
        let (first, count) = match (self.input.u8(), oldest) {
            (beside @ 0xF0.., oldest) => {
                let first = oldest.map_or(u64::from(beside), |(first, _)| first);
                (first.wrapping_add(u64::from(beside & 0xF)).wrapping_sub(4), count)
            }
            (_, Some(oldest)) => oldest,
            (_, None) => return Vec::new(),
        };
        let receipts = vec![Receipt([self.input.u8(); 32]); count];
        frame(|out| Ack::emit(out, Sequence(first), &receipts))
    }

    fn lookup(&mut self) -> Vec<u8> {
        let want = self.input.pick(&[Want::Address, Want::Bundle, Want::OneTime, Want::RollOvers]);
        let whose = match self.input.u8() {
            by_name @ 0..0x80 => Whose::Name(*keys::name(usize::from(by_name) % keys::USERS_MAX)),
            _ => Whose::Uid(self.draw_uid()),
        };
        let request = u32::from(self.input.u8()) + 1;
        frame(|out| Lookup { request, want, whose }.emit(out))
    }

    fn publish(&mut self) -> Vec<u8> {
        let parts = self.input.u8();
        let spk = pool()[54 + self.input.index(16)].modulus();
        let first = self.input.index(60);
        let count = 1 + self.input.index(16);
        let moduli: Vec<_> = (0..count).map(|at| *pool()[70 + first + at].modulus()).collect();
        let signature = [parts; 256];
        let signed =
            SignedPrekey { modulus: spk, made_ms: parts.into(), profile: parts & 1, signature: &signature };
        let of = if parts & 0x80 == 0 { key_id(spk) } else { KeyId::ZERO };
        let batch = Batch { signed_prekey: of, signature: &signature, moduli: &moduli };
        let (signed, batch) = match parts % 3 {
            0 => (Some(signed), None),
            1 => (None, Some(batch)),
            _ => (Some(signed), Some(batch)),
        };
        let request = u32::from(parts) + 1;
        frame(|out| Publish { request, signed_prekey: signed, batch }.emit(out))
    }

    /// To another key of the same name, from the one that it is logged in with.
    fn roll(&mut self, peer: usize) -> Vec<u8> {
        let Some((who, present)) = self.ledger.identity(peer) else { return Vec::new() };
        let (key, time_ms) = (self.input.index(keys::KEYS_EACH), u64::from(self.input.u8() % 8));
        let (former, identity) = (keys::identity(who, present), keys::identity(who, key));
        let signed = login::RollOver {
            name: keys::name(who),
            former: former.fingerprint(),
            fingerprint: identity.fingerprint(),
            time_ms,
        };
        let former_signature = keys::sign_roll_over(who, present, &signed);
        let signature = keys::sign_roll_over(who, key, &signed);
        let roll_over = RollOver {
            time_ms,
            identity_key: identity.modulus(),
            former_signature: &former_signature,
            signature: &signature,
        };
        frame(|out| Roll { request: 7, roll_over }.emit(out))
    }
}
