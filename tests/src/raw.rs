//! A client of raw frames: what the specification allows, and anything that it forbids.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;

use e2e_protocol::e2e::Identity;
use e2e_protocol::ids::{Lane, Name, Number, Receipt, Sequence, Uid};
use e2e_protocol::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, SESSION_VERSION};
use e2e_protocol::login::{self, Login, token_proof};
use e2e_protocol::wire::directory::{Lookup, Want, Whose};
use e2e_protocol::wire::roll::{Roll, RollOver};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::session::{Challenge, Credit, Hello, Proof, Purpose, Receive, Welcome, emit_ping};
use e2e_protocol::wire::transfer::{Ack, ResultCode};
use e2e_protocol::wire::{Code, Frame, FrameType, NoRoom, Notice, Parsed, Routing};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::process::PATIENCE;

/// A credit that never matters.
pub const AMPLE: Credit = Credit { messages: 100_000, bytes: 64 * 1024 * 1024 };

/// One identity for all who don't care: making keys takes time.
///
/// # Panics
/// If the system gives no random numbers.
pub fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate(&mut rng()))
}

/// A random generator seeded by the system.
///
/// # Panics
/// If the system gives no random numbers.
#[must_use]
pub fn rng() -> ChaCha20Rng {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system gives random numbers");
    ChaCha20Rng::from_seed(seed)
}

/// The bytes of a frame that `emit` writes.
///
/// # Panics
/// If it doesn't fit into a frame.
pub fn frame(emit: impl FnOnce(&mut [u8]) -> Result<usize, NoRoom>) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_BYTES_MAX];
    let count = emit(&mut bytes).expect("it fits into a frame");
    bytes.truncate(count);
    bytes
}

/// A SEND.
#[must_use]
pub fn send_frame(to: Uid, lane: Lane, number: u64, envelope: &[u8]) -> Vec<u8> {
    let routing = Routing { peer: to, lane, number: Number(number), ..Routing::default() };
    frame(|out| emit_routed(out, FrameType::Send, &routing, envelope))
}

/// The PROOF that answers a CHALLENGE.
///
/// # Panics
/// If the name is not one.
#[must_use]
pub fn proof_frame(
    identity: &Identity,
    challenge: &Challenge,
    name: &str,
    purpose: Purpose,
    receive: Receive,
    token: Option<&[u8]>,
) -> Vec<u8> {
    let name: Name = name.parse().expect("a good name");
    let login = Login {
        version: SESSION_VERSION,
        purpose,
        relay_id: &challenge.relay_id,
        nonce: &challenge.nonce,
        name: &name,
        fingerprint: identity.fingerprint(),
    };
    let signature = identity.sign_login(&login, &mut rng());
    let token_proof = token.map_or([0; 32], |token| token_proof(token, &login));
    let proof = Proof {
        receive,
        identity_key: identity.modulus(),
        signature: &signature,
        token_proof: &token_proof,
        name,
    };
    frame(|out| proof.emit(out))
}

/// The ROLL that gives a name from one identity to another, with request 1.
///
/// # Panics
/// If the name is not one.
#[must_use]
pub fn roll_frame(name: &str, from: &Identity, to: &Identity, time_ms: u64) -> Vec<u8> {
    let name: Name = name.parse().expect("a good name");
    let (former, fingerprint) = (from.fingerprint(), to.fingerprint());
    let signed = login::RollOver { name: &name, former, fingerprint, time_ms };
    let former_signature = from.sign_roll_over(&signed, &mut rng());
    let signature = to.sign_roll_over(&signed, &mut rng());
    let roll_over = RollOver {
        time_ms,
        identity_key: to.modulus(),
        former_signature: &former_signature,
        signature: &signature,
    };
    frame(|out| Roll { request: 1, roll_over }.emit(out))
}

/// How a login went.
pub type LoggedIn = Result<Welcome, Code>;

/// A DELIVER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its routing fields; `peer` is the sender.
    pub routing: Routing,
    /// The flag.
    pub redelivered: bool,
    /// What the sender sent.
    pub envelope: Vec<u8>,
}

/// A RESULT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// Whose numbers.
    pub lane: Lane,
    /// The first of them.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// What became of them.
    pub code: ResultCode,
    /// Why they were refused; zero otherwise.
    pub reason: Code,
    /// One each, if COLLECTED.
    pub receipts: Vec<Receipt>,
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    /// The socket, for what is beyond frames.
    pub stream: TcpStream,
    received: Vec<u8>,
    taken: usize,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the relay accepts connections");
        stream.set_nodelay(true).expect("the option is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("the option is there");
        Self { stream, received: Vec::new(), taken: 0 }
    }

    /// Connects and logs in.
    ///
    /// # Panics
    /// If the relay refuses.
    #[must_use]
    pub fn login(address: SocketAddr, name: &str, purpose: Purpose, receive: Receive) -> (Self, Welcome) {
        let mut raw = Self::connect(address);
        let welcome = raw.log_in(identity(), name, purpose, receive, None);
        (raw, welcome.expect("the relay lets it in"))
    }

    /// HELLO to WELCOME.
    ///
    /// # Errors
    /// The code of the ERROR that came instead.
    ///
    /// # Panics
    /// If anything else comes.
    pub fn log_in(
        &mut self,
        identity: &Identity,
        name: &str,
        purpose: Purpose,
        receive: Receive,
        token: Option<&[u8]>,
    ) -> LoggedIn {
        let challenge = self.hello(purpose)?;
        self.send(&proof_frame(identity, &challenge, name, purpose, receive, token));
        self.next(|frame| match frame {
            Frame::Welcome(welcome) => Ok(welcome),
            Frame::Error(error) => Err(error.code),
            other => panic!("neither WELCOME nor ERROR: {other:?}"),
        })
    }

    /// HELLO to CHALLENGE.
    ///
    /// # Errors
    /// The code of the ERROR that came instead.
    ///
    /// # Panics
    /// If anything else comes.
    pub fn hello(&mut self, purpose: Purpose) -> Result<Challenge, Code> {
        let hello = Hello { version_min: SESSION_VERSION, version_max: SESSION_VERSION, purpose };
        self.send(&frame(|out| hello.emit(out)));
        self.next(|frame| match frame {
            Frame::Challenge(challenge) => Ok(challenge),
            Frame::Error(error) => Err(error.code),
            other => panic!("neither CHALLENGE nor ERROR: {other:?}"),
        })
    }

    /// Writes bytes. That the relay has closed already is no failure: what it said can still be read.
    ///
    /// # Panics
    /// If the socket fails otherwise.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                panic!("writing: {error}");
            }
            _ => {}
        }
    }

    /// Acknowledges `count` messages from `first` on, each with a receipt made of its sequence.
    pub fn acknowledge(&mut self, first: Sequence, count: u64) {
        let receipts: Vec<_> = (first.0..first.0 + count).map(receipt_for).collect();
        self.send(&frame(|out| Ack::emit(out, first, &receipts)));
    }

    /// Waits for the next frame and looks at it.
    ///
    /// # Panics
    /// If none comes, or what comes is not a frame.
    pub fn next<T>(&mut self, look: impl FnOnce(Frame<'_>) -> T) -> T {
        assert!(self.fill(), "the relay closed the connection");
        let rest = &self.received[self.taken..];
        let Ok(Parsed::Frame(frame, count)) = Frame::parse(rest, BODY_BYTES_MAX) else {
            unreachable!("a whole frame is there")
        };
        let value = look(frame);
        self.taken += count;
        value
    }

    /// The same, but `None` if the connection ends first, as when the relay is killed.
    ///
    /// # Panics
    /// If what comes is not a frame.
    pub fn try_next<T>(&mut self, look: impl FnOnce(Frame<'_>) -> T) -> Option<T> {
        self.fill().then(|| self.next(look))
    }

    /// Connects, and registers or logs in; `None` if the relay is not there, refuses, or ends the connection meanwhile.
    ///
    /// # Panics
    /// If the relay says what is not a frame.
    #[must_use]
    pub fn try_login(
        address: SocketAddr,
        name: &str,
        purpose: Purpose,
        receive: Receive,
    ) -> Option<(Self, Welcome)> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).expect("the option is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("the option is there");
        let mut raw = Self { stream, received: Vec::new(), taken: 0 };
        let hello = Hello { version_min: SESSION_VERSION, version_max: SESSION_VERSION, purpose };
        raw.send(&frame(|out| hello.emit(out)));
        let challenge = raw.try_next(|frame| match frame {
            Frame::Challenge(challenge) => Some(challenge),
            _ => None,
        })??;
        raw.send(&proof_frame(identity(), &challenge, name, purpose, receive, None));
        let welcome = raw.try_next(|frame| match frame {
            Frame::Welcome(welcome) => Some(welcome),
            _ => None,
        })??;
        Some((raw, welcome))
    }

    /// Waits for the next frame of this type, passing over others.
    ///
    /// # Panics
    /// As [`Raw::next`].
    pub fn next_of<T>(&mut self, mut look: impl FnMut(Frame<'_>) -> Option<T>) -> T {
        loop {
            if let Some(value) = self.next(&mut look) {
                return value;
            }
        }
    }

    /// Waits for an ERROR and returns its code and whether the connection closes.
    ///
    /// # Panics
    /// As [`Raw::next`].
    pub fn next_error(&mut self) -> (Code, bool) {
        self.next_of(|frame| match frame {
            Frame::Error(error) => Some((error.code, error.closes)),
            _ => None,
        })
    }

    /// Waits for the next message.
    ///
    /// # Panics
    /// As [`Raw::next`], and if an ERROR comes.
    pub fn next_delivery(&mut self) -> Delivery {
        self.next_of(|frame| match frame {
            Frame::Deliver(message) => Some(Delivery {
                routing: message.routing,
                redelivered: message.redelivered,
                envelope: message.envelope().to_vec(),
            }),
            Frame::Error(error) => panic!("{}: {}", error.code, error.text),
            _ => None,
        })
    }

    /// Waits for the next notice.
    ///
    /// # Panics
    /// As [`Raw::next`], and if an ERROR comes.
    pub fn next_notice(&mut self) -> Notice {
        self.next_of(|frame| match frame {
            Frame::Notice(notice, _) => Some(notice),
            Frame::Error(error) => panic!("{}: {}", error.code, error.text),
            _ => None,
        })
    }

    /// Waits for the next RESULT.
    ///
    /// # Panics
    /// As [`Raw::next`], and if an ERROR comes.
    pub fn next_results(&mut self) -> Results {
        self.next_of(|frame| match frame {
            Frame::Result(outcome) => Some(Results {
                lane: outcome.lane,
                first: outcome.first.0,
                count: outcome.count.into(),
                code: outcome.code,
                reason: outcome.reason,
                receipts: outcome.receipts.iter().collect(),
            }),
            Frame::Error(error) => panic!("{}: {}", error.code, error.text),
            _ => None,
        })
    }

    /// The same, but `None` if the connection ends first, as when the relay is killed.
    ///
    /// # Panics
    /// As [`Raw::next_results`] otherwise.
    pub fn try_next_results(&mut self) -> Option<Results> {
        self.fill().then(|| self.next_results())
    }

    /// Closes the sending direction.
    pub fn finish_writing(&mut self) {
        // The relay may have closed already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends PING and waits for its PONG: whatever the relay had to say before is passed over.
    ///
    /// # Panics
    /// As [`Raw::next`], and if an ERROR comes.
    pub fn ping(&mut self) {
        self.send(&frame(|out| emit_ping(out, FrameType::Ping, *b"are you?")));
        self.next_of(|frame| match frame {
            Frame::Pong(opaque) => {
                assert_eq!(&opaque, b"are you?");
                Some(())
            }
            Frame::Error(error) => panic!("{}: {}", error.code, error.text),
            _ => None,
        });
    }

    /// Reads until the relay closes. The code of the ERROR that said why, if one did.
    ///
    /// # Panics
    /// If the relay doesn't close, or says something after its last word.
    pub fn ending(&mut self) -> Option<Code> {
        while self.fill() {
            let code = self.next(|frame| match frame {
                Frame::Error(error) if error.closes => Some(error.code),
                _ => None,
            });
            if code.is_some() {
                assert!(self.is_closed(), "there is something after the last frame");
                return code;
            }
        }
        None
    }

    /// Whether the relay has closed, all frames being looked at.
    ///
    /// # Panics
    /// If it doesn't and nothing comes, or another frame does.
    pub fn is_closed(&mut self) -> bool {
        !self.fill()
    }

    /// The same as [`Raw::uid_of`], but `None` if the name is not known or the connection ends.
    ///
    /// # Panics
    /// If the name is not one.
    pub fn try_uid_of(&mut self, name: &str) -> Option<Uid> {
        let whose = Whose::Name(name.parse().expect("a good name"));
        self.send(&frame(|out| Lookup { request: 1, want: Want::Address, whose }.emit(out)));
        loop {
            let found = self.try_next(|frame| match frame {
                Frame::Entry(entry) => Some(Some(entry.uid)),
                Frame::Error(_) => Some(None),
                _ => None,
            })?;
            if let Some(uid) = found {
                return uid;
            }
        }
    }

    /// Asks for a uid.
    ///
    /// # Panics
    /// If the relay doesn't know the name.
    pub fn uid_of(&mut self, name: &str) -> Uid {
        let whose = Whose::Name(name.parse().expect("a good name"));
        self.send(&frame(|out| Lookup { request: 1, want: Want::Address, whose }.emit(out)));
        self.next_of(|frame| match frame {
            Frame::Entry(entry) => Some(entry.uid),
            Frame::Error(error) => panic!("{}: {}", error.code, error.text),
            _ => None,
        })
    }

    /// Reads until a whole frame is there; `false` if the relay closes before.
    fn fill(&mut self) -> bool {
        loop {
            match Frame::parse(&self.received[self.taken..], BODY_BYTES_MAX) {
                Ok(Parsed::Frame(..)) => return true,
                Ok(Parsed::Incomplete { .. }) => {}
                Err(error) => panic!("the relay sent what is not a frame: {error}"),
            }
            self.received.drain(..self.taken);
            self.taken = 0;
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                // A machine that is paused and goes on interrupts what waits with a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }
}

/// The receipt with which [`Raw::acknowledge`] acknowledges.
#[must_use]
pub fn receipt_for(sequence: u64) -> Receipt {
    let mut bytes = [0xAC; 32];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    Receipt(bytes)
}
