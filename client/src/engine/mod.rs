//! The client without I/O: no socket, no clock, no file and no random source of its own.
//!
//! Owns: what the client does when. Parsed frames, commands and the time come in through `handle_*`;
//! everything that comes of them is collected in a [`Turn`], and is handed out only by
//! [`Turn::commit`]: so nothing is sent, and nothing is shown, before it is durable.
//!
//! What is kept between turns is only what dies with the process or its connection. All else is read
//! from the state in every turn, because another process of the same home may have changed it.
//!
//! Where to go next: [`turn`] for the unit of work, `login`, `mailbox` (receiving), `dispatch`
//! (sending), [`outbox`] (the policy for what came of a message), `directory`, `upkeep` (keys made
//! ahead), `people` (changed keys), `names` (who is online, blocks), `contacts`.

mod contacts;
mod directory;
mod dispatch;
mod event;
mod lanes;
mod login;
mod mailbox;
mod names;
pub mod outbox;
mod people;
mod turn;
mod upkeep;

pub use contacts::Contact;
pub use event::{Drop, End, Event, Fate, KeyNews, Wait};
pub use names::NAMES_AT_ONCE_MAX;
pub use turn::{Output, Turn};

use e2e_protocol::e2e::{Identity, Me, PreambleMemory};
use e2e_protocol::ids::{Name, RelayId};
use e2e_protocol::limits::FRAME_BYTES_MAX;
use e2e_protocol::wire::session::{Credit, ErrorFrame, Receive, Welcome};
use e2e_protocol::wire::{Frame, FrameType};

use crate::state::{Account, Key, StateError};
use directory::Directory;
use dispatch::Dispatch;
use lanes::Lanes;
use mailbox::Mailbox;
use upkeep::Upkeep;

/// How long the relay may take from HELLO to WELCOME before it is given up, milliseconds.
pub const LOGIN_MS_MAX: u64 = 20_000;

/// Most messages that the relay may deliver before they are acknowledged.
pub const CREDIT_MESSAGES: u32 = 64;

/// Most bytes that the relay may deliver before they are acknowledged: what waits in memory when a
/// sender's name has to be looked up first.
pub const CREDIT_BYTES: u32 = 256 * 1024;

/// What the relay may deliver to a process that wants notices only: messages that come are left with
/// the relay, so no more than one frame of them should come in vain.
pub const NOTICES_CREDIT: Credit = Credit { messages: 64, bytes: FRAME_BYTES_MAX as u32 };

/// What a client is to do with its connections.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Claim the name instead of logging in with it.
    pub register: bool,
    /// The token, if claiming takes one.
    pub token: Option<String>,
    /// What to receive.
    pub receive: Receiving,
    /// Send, and drive what earlier processes left in the outbox.
    pub send: bool,
    /// See that the relay has prekeys to hand out.
    pub upkeep: bool,
    /// Log in with the identity that the name is to move to: a roll-over was cut off, and may have happened.
    pub next_identity: bool,
    /// Show so many messages, then leave the rest with the relay.
    pub messages_max: Option<u64>,
}

/// What a process receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receiving {
    /// Nothing.
    #[default]
    Nothing,
    /// If no other process receives: what became of earlier messages, as far as no message stands
    /// before it. So the outbox of who only sends empties itself; messages stay with the relay.
    Notices,
    /// Everything, taking over from another process that receives.
    Messages,
}

/// How far a connection has come.
#[derive(Clone, Debug)]
enum Stage {
    /// There is none.
    Closed,
    /// HELLO is sent.
    Greeted,
    /// PROOF is sent to this relay.
    Proven(RelayId),
    /// Logged in.
    Ready(Welcome),
}

/// One process of one home.
pub struct Engine {
    config: Config,
    identity: Identity,
    account: Account,
    stage: Stage,
    /// When the connection was opened, or bytes last came.
    heard_ms: u64,
    /// Whether a PING waits for its answer.
    pinged: bool,
    lanes: Lanes,
    directory: Directory,
    dispatch: Dispatch,
    mailbox: Mailbox,
    upkeep: Upkeep,
    preambles: PreambleMemory,
    /// The user accepts this contact's new key.
    accepting: Option<Name>,
}

/// Why there is no engine for a home.
#[derive(Debug)]
pub enum StartError {
    /// The home has no keys or no name yet.
    NotRegistered,
    /// The state can't be used.
    State(StateError),
}

impl From<StateError> for StartError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl Engine {
    /// Starts a process: removes what a crash left half written, and takes over what earlier processes
    /// left behind.
    ///
    /// # Errors
    /// [`StartError`]. Unless `config.register` is set, the home has to be registered.
    pub fn start(config: Config, turn: &mut Turn<'_>) -> Result<Self, StartError> {
        let identity = if config.next_identity { turn.next_identity()? } else { turn.identity()? };
        let identity = identity.ok_or(StartError::NotRegistered)?;
        let account = Account::load(&turn.state)?.ok_or(StartError::NotRegistered)?;
        if account.registered.is_none() && !config.register {
            return Err(StartError::NotRegistered);
        }
        turn.state.sweep()?;
        let mut engine = Self {
            mailbox: Mailbox::new(config.messages_max),
            upkeep: Upkeep::new(config.upkeep),
            config,
            identity,
            account,
            stage: Stage::Closed,
            heard_ms: turn.now_ms,
            pinged: false,
            lanes: Lanes::default(),
            directory: Directory::default(),
            dispatch: Dispatch::default(),
            preambles: PreambleMemory::new(),
            accepting: None,
        };
        if engine.config.send {
            engine.adopt(turn)?;
        }
        Ok(engine)
    }

    /// The own name, and where it stands with the relay.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The own key.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the relay said at login, while the connection stands.
    #[must_use]
    pub fn welcome(&self) -> Option<&Welcome> {
        match &self.stage {
            Stage::Ready(welcome) => Some(welcome),
            Stage::Closed | Stage::Greeted | Stage::Proven(_) => None,
        }
    }

    /// Bytes came from the relay, whole frames or not: it is alive.
    pub fn handle_bytes(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.pinged = false;
    }

    /// Takes in one frame from the relay.
    ///
    /// # Errors
    /// [`StateError`] if the state can't be used; the turn is to be dropped then, and the process to end.
    pub fn handle_frame(&mut self, turn: &mut Turn<'_>, frame: &Frame<'_>) -> Result<(), StateError> {
        self.handle_bytes(turn.now_ms);
        if turn.out.end.is_some() {
            return Ok(());
        }
        match (frame, &self.stage) {
            (Frame::Challenge(challenge), Stage::Greeted) => self.handle_challenge(turn, challenge),
            (Frame::Welcome(welcome), Stage::Proven(relay_id)) => {
                let relay_id = *relay_id;
                self.handle_welcome(turn, *welcome, relay_id)
            }
            (Frame::Error(error), _) => self.handle_error(turn, error),
            (Frame::Ping(opaque), Stage::Ready(_)) => {
                turn.emit_ping(FrameType::Pong, *opaque);
                Ok(())
            }
            (Frame::Pong(_) | Frame::Skipped, _) => Ok(()),
            (Frame::Deliver(routed), Stage::Ready(welcome)) if welcome.receiving => {
                self.handle_deliver(turn, routed)
            }
            (Frame::Notice(notice, _), Stage::Ready(welcome)) if welcome.receiving => {
                self.handle_notice(turn, notice)
            }
            (Frame::Result(outcome), Stage::Ready(_)) => self.handle_result(turn, outcome),
            (Frame::Entry(entry), Stage::Ready(_)) => self.handle_entry(turn, entry),
            (Frame::Published(published), Stage::Ready(_)) => self.handle_published(turn, published),
            (Frame::Rolls(rolls), Stage::Ready(_)) => self.handle_rolls_answer(turn, rolls),
            (Frame::Rolled(rolled), Stage::Ready(_)) => self.handle_rolled(turn, rolled),
            (Frame::Presence(presence), Stage::Ready(_)) => {
                self.handle_presence(turn, presence);
                Ok(())
            }
            (Frame::Blocked(blocked), Stage::Ready(_)) => {
                self.handle_blocked(turn, *blocked);
                Ok(())
            }
            (Frame::Removed(removed), Stage::Ready(_)) => self.handle_removed(turn, *removed),
            _ => {
                let name = frame.frame_type().map_or("a skipped frame", FrameType::name);
                turn.end(End::Protocol(format!("the relay sent {name}, which does not belong here")));
                Ok(())
            }
        }
    }

    /// Does what has become due: keepalive, messages to send again, prekeys to look after. To be
    /// called when [`Self::next_due_ms`] has come, and after each batch of frames.
    ///
    /// # Errors
    /// As [`Self::handle_frame`].
    pub fn handle_time(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        if turn.out.end.is_some() {
            return Ok(());
        }
        let silent_ms = turn.now_ms.saturating_sub(self.heard_ms);
        match &self.stage {
            Stage::Closed => return Ok(()),
            Stage::Greeted | Stage::Proven(_) => {
                if silent_ms >= LOGIN_MS_MAX {
                    turn.end(End::Silent);
                }
                return Ok(());
            }
            Stage::Ready(welcome) => {
                let keepalive_ms = u64::from(welcome.keepalive_seconds) * 1_000;
                if silent_ms >= 2 * keepalive_ms {
                    turn.end(End::Silent);
                    return Ok(());
                }
                if silent_ms >= keepalive_ms && !self.pinged {
                    self.pinged = true;
                    turn.emit_ping(FrameType::Ping, turn.now_ms.to_be_bytes());
                }
            }
        }
        if self.config.send && self.lanes.search_due(turn.now_ms) {
            self.adopt(turn)?;
        }
        self.directory.end_quiet(turn.now_ms);
        self.advance_upkeep(turn)?;
        self.advance_mailbox(turn)?;
        self.advance_outbox(turn)
    }

    /// When [`Self::handle_time`] has something to do next, Unix milliseconds.
    #[must_use]
    pub fn next_due_ms(&self) -> u64 {
        let heard = |ms: u64| self.heard_ms.saturating_add(ms);
        let Stage::Ready(welcome) = &self.stage else { return heard(LOGIN_MS_MAX) };
        let keepalive_ms = u64::from(welcome.keepalive_seconds) * 1_000;
        let keepalive = heard(if self.pinged { 2 * keepalive_ms } else { keepalive_ms });
        [
            Some(keepalive),
            self.dispatch.next_due_ms(),
            self.directory.next_due_ms(),
            self.upkeep.next_due_ms(),
            self.lanes.next_search_ms(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(keepalive)
    }

    /// The connection is gone: what was on its way is sent again on the next.
    pub fn handle_disconnected(&mut self) {
        self.stage = Stage::Closed;
        self.pinged = false;
        self.directory.reset();
        self.dispatch.reset();
        self.mailbox.reset();
        self.upkeep.reset();
    }

    /// The process ends: lets go of its lane if nothing is left in it.
    ///
    /// # Errors
    /// [`StateError`] if the state can't be used.
    pub fn finish(&mut self, turn: &mut Turn<'_>) -> Result<(), StateError> {
        self.lanes.close(turn)
    }

    /// A message of an earlier [`Event::Message`] was shown: it is erased.
    pub fn handle_shown(&mut self, turn: &mut Turn<'_>, message: Key) {
        debug_assert!(matches!(message, Key::Inbox(..)));
        turn.state.remove(message);
    }

    /// Whether as many messages came as were wanted.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.mailbox.has_enough()
    }

    /// Whether everything was read that waited at the relay when the connection was made.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.welcome().is_some() && self.mailbox.is_drained()
    }

    /// Whether a message that was sent on this connection has no result yet, or is about to be sent.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.dispatch.is_sending()
    }

    /// How many prekeys were made of how many that are to be published; `None` if none is.
    #[must_use]
    pub fn keys_wanted(&self) -> Option<(usize, usize)> {
        self.upkeep.keys_wanted()
    }

    /// Whether a key is worth making while nothing else is to be done.
    #[must_use]
    pub fn wants_key(&self) -> bool {
        self.upkeep.wants_key()
    }

    /// Makes one wanted key: some 60 milliseconds. Apart from the turns, because nobody should wait
    /// for the lock meanwhile.
    pub fn make_key(&mut self, rng: &mut rand_chacha::ChaCha20Rng) {
        self.upkeep.make_key(rng);
    }

    /// Whether prekeys are still to be made or published.
    #[must_use]
    pub fn is_publishing(&self) -> bool {
        self.upkeep.is_busy()
    }

    /// Who acts.
    fn me(&self) -> Me<'_> {
        Me { name: &self.account.name, identity: &self.identity, profile: self.account.profile }
    }

    /// How much the relay may deliver before it is acknowledged.
    fn credit(&self) -> Credit {
        match self.config.receive {
            Receiving::Messages => Credit { messages: CREDIT_MESSAGES, bytes: CREDIT_BYTES },
            Receiving::Nothing | Receiving::Notices => NOTICES_CREDIT,
        }
    }

    fn receive(&self) -> Receive {
        match self.config.receive {
            Receiving::Nothing => Receive::No,
            Receiving::Notices => Receive::IfNobody(self.credit()),
            Receiving::Messages => Receive::TakeOver(self.credit()),
        }
    }

    fn handle_error(&mut self, turn: &mut Turn<'_>, error: &ErrorFrame<'_>) -> Result<(), StateError> {
        if error.closes {
            turn.end(End::Refused {
                code: error.code,
                retry_after_ms: u64::from(error.retry_after_seconds) * 1_000,
                text: error.text.to_owned(),
            });
            return Ok(());
        }
        self.handle_request_failed(turn, error)
    }
}
