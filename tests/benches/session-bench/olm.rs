//! The two ends of a vodozemac session, in the same roles as `ours`.
//!
//! Owns Olm's part of the benchmark. An envelope is bytes here, too: making and reading them is part of a message.

use std::time::{Duration, Instant};

use vodozemac::olm::{Account, OlmMessage, Session, SessionConfig};

use super::BODY_BYTES;

/// A message as it travels.
pub(crate) type Sealed = (usize, Vec<u8>);

/// Two users with a session.
pub(crate) struct Pair {
    alice: Session,
    bob: Session,
}

impl Pair {
    /// Alice started, and Bob answered: messages travel without the session's start.
    pub(crate) fn answered() -> Self {
        let mut strangers = Strangers::new();
        let (_, _, mut pair) = strangers.start();
        let answer = seal(&mut pair.bob);
        open(&mut pair.alice, &answer);
        pair
    }

    /// Alice to Bob.
    pub(crate) fn encrypt(&mut self) -> Sealed {
        seal(&mut self.alice)
    }

    /// Bob's end of it.
    pub(crate) fn decrypt(&mut self, sealed: &Sealed) -> Vec<u8> {
        open(&mut self.bob, sealed)
    }

    /// Each answers the other, `turns` messages in all.
    pub(crate) fn converse(mut self, turns: u32) -> Duration {
        let start = Instant::now();
        for _ in 0..turns / 2 {
            let there = seal(&mut self.alice);
            open(&mut self.bob, &there);
            let back = seal(&mut self.bob);
            open(&mut self.alice, &back);
        }
        start.elapsed()
    }
}

/// Two users without a session.
pub(crate) struct Strangers {
    alice: Account,
    bob: Account,
}

impl Strangers {
    pub(crate) fn new() -> Self {
        Self { alice: Account::new(), bob: Account::new() }
    }

    /// How long the first message took to encrypt and to decrypt, and the session.
    pub(crate) fn start(&mut self) -> (Duration, Duration, Pair) {
        self.bob.generate_one_time_keys(1);
        let one_time = *self.bob.one_time_keys().values().next().unwrap();
        self.bob.mark_keys_as_published();
        let config = SessionConfig::version_1();

        let start = Instant::now();
        let session = self.alice.create_outbound_session(config, self.bob.curve25519_key(), one_time);
        let mut alice = session.unwrap();
        let first = seal(&mut alice);
        let encrypt = start.elapsed();

        let start = Instant::now();
        let OlmMessage::PreKey(first) = OlmMessage::from_parts(first.0, &first.1).unwrap() else {
            panic!("not a session's first message");
        };
        let inbound = self.bob.create_inbound_session(config, self.alice.curve25519_key(), &first);
        let bob = inbound.unwrap().session;
        (encrypt, start.elapsed(), Pair { alice, bob })
    }
}

fn seal(session: &mut Session) -> Sealed {
    session.encrypt([b'm'; BODY_BYTES]).unwrap().to_parts()
}

fn open(session: &mut Session, (kind, bytes): &Sealed) -> Vec<u8> {
    session.decrypt(&OlmMessage::from_parts(*kind, bytes).unwrap()).unwrap()
}
