//! The engine's host: gives it a clock, a socket, a random source and the state.
//!
//! Owns: the loop of one process around [`Engine`]. What comes of it goes to the command that runs.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e_protocol::wire::{Frame, FrameError};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::engine::{Config, End, Engine, Event, Output, StartError, Turn};
use crate::net::{Connection, Received, Server};
use crate::state::{Disk, StateError};

/// At most so long is waited at once: a signal that comes just before the wait is noticed after it.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long the end of a connection may take: the relay reads what was sent, and closes.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// One process of one home, with its connection.
pub struct Host<'a> {
    disk: &'a dyn Disk,
    rng: ChaCha20Rng,
    engine: Engine,
    connection: Option<Connection>,
    /// Set if the connection is over, until the next step says so: first comes what it still gave.
    lost: Option<Lost>,
}

/// Why a connection is over.
#[derive(Debug)]
pub enum Lost {
    /// The engine says so.
    End(End),
    /// It broke, or the relay closed it without a word.
    Broken(io::Error),
}

/// Why a step failed for good.
#[derive(Debug)]
pub enum HostError {
    /// The state can't be used.
    State(StateError),
    /// The connection is over; there may be another.
    Lost(Lost),
}

impl From<StateError> for HostError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<io::Error> for HostError {
    fn from(error: io::Error) -> Self {
        Self::Lost(Lost::Broken(error))
    }
}

impl From<FrameError> for HostError {
    fn from(error: FrameError) -> Self {
        Self::Lost(Lost::End(End::Protocol(format!("what the relay sends is not a frame: {error}"))))
    }
}

/// Unix milliseconds, by the system's clock.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A random source seeded by the system. Waits until the system has gathered enough.
///
/// # Errors
/// If the system has none.
pub fn seeded_rng() -> io::Result<ChaCha20Rng> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(io::Error::other)?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

impl<'a> Host<'a> {
    /// Starts a process on a home; gives what earlier ones did not come to show.
    ///
    /// # Errors
    /// [`StartError`] as of [`Engine::start`].
    pub fn start(
        disk: &'a dyn Disk,
        mut rng: ChaCha20Rng,
        config: Config,
    ) -> Result<(Self, Vec<Event>), StartError> {
        let mut turn = Turn::begin(disk, now_ms(), &mut rng)?;
        let engine = Engine::start(config, &mut turn)?;
        let events = turn.commit()?.events;
        Ok((Self { disk, rng, engine, connection: None, lost: None }, events))
    }

    /// The engine, to be asked.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The random source.
    pub fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.rng
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Connects and greets the relay. Whether it lets one in shows in the steps that follow.
    ///
    /// # Errors
    /// [`HostError`]; there is no connection then.
    pub fn connect(&mut self, server: &Server) -> Result<(), HostError> {
        self.lost = None;
        self.connection = Some(Connection::open(server)?);
        self.turn(|engine, turn| {
            engine.handle_connected(turn);
            Ok(())
        })?;
        Ok(())
    }

    /// Runs one turn: commits, then sends. What is to be shown is given back.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn turn<T>(
        &mut self,
        run: impl FnOnce(&mut Engine, &mut Turn<'_>) -> Result<T, StateError>,
    ) -> Result<(T, Vec<Event>), HostError> {
        let mut turn = Turn::begin(self.disk, now_ms(), &mut self.rng)?;
        let value = run(&mut self.engine, &mut turn)?;
        let output = turn.commit()?;
        Ok((value, self.give_out(output)))
    }

    /// Waits until frames come, something is due, a signal comes, or `until_ms` (Unix milliseconds), and
    /// does what is to be done. With keys to make it makes one instead of waiting.
    ///
    /// # Errors
    /// [`HostError`]; after `Lost` there is no connection.
    pub fn step(&mut self, until_ms: u64) -> Result<Vec<Event>, HostError> {
        let result = self.wait_and_work(until_ms);
        if let Err(HostError::Lost(_)) = result {
            self.connection = None;
            self.engine.handle_disconnected();
        }
        result
    }

    fn wait_and_work(&mut self, until_ms: u64) -> Result<Vec<Event>, HostError> {
        if let Some(lost) = self.lost.take() {
            return Err(HostError::Lost(self.last_words()?.map_or(lost, Lost::End)));
        }
        let Some(connection) = &mut self.connection else {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        };
        let making_keys = self.engine.wants_key();
        let due_ms = self.engine.next_due_ms().min(until_ms);
        let wait = Duration::from_millis(due_ms.saturating_sub(now_ms())).min(WAIT_MAX);
        let received = connection.receive(if making_keys { Duration::ZERO } else { wait })?;
        if making_keys {
            self.engine.make_key(&mut self.rng);
        }
        let keys_ready = making_keys && !self.engine.wants_key();
        match received {
            Received::Closed => {
                return Err(
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the relay closed the connection").into()
                );
            }
            Received::Nothing if now_ms() < self.engine.next_due_ms() && !keys_ready => return Ok(Vec::new()),
            Received::Nothing => {}
            Received::Bytes => self.engine.handle_bytes(now_ms()),
        }
        let mut turn = Turn::begin(self.disk, now_ms(), &mut self.rng)?;
        connection
            .take_frames(|frame| self.engine.handle_frame(&mut turn, frame).map_err(HostError::State))?;
        self.engine.handle_time(&mut turn)?;
        let output = turn.commit()?;
        Ok(self.give_out(output))
    }

    /// Sends; what became durable is shown whatever becomes of that.
    fn give_out(&mut self, output: Output) -> Vec<Event> {
        if let Some(connection) = &mut self.connection
            && !output.bytes.is_empty()
            && let Err(error) = connection.send(&output.bytes)
        {
            self.lost = Some(Lost::Broken(error));
        }
        if let Some(end) = output.end {
            self.lost = Some(Lost::End(end));
        }
        output.events
    }

    /// What the relay said before a connection broke: that a write failed is known before what it had
    /// said already was read, and REPLACED must not be taken for a broken line.
    fn last_words(&mut self) -> Result<Option<End>, StateError> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        while let Ok(Received::Bytes) = connection.receive(Duration::ZERO) {
            let mut turn = Turn::begin(self.disk, now_ms(), &mut self.rng)?;
            let taken = connection.take_frames(|frame| match frame {
                Frame::Error(_) => self.engine.handle_frame(&mut turn, frame).map_err(HostError::State),
                _ => Ok(()),
            });
            let end = turn.commit()?.end;
            match taken {
                Err(HostError::State(error)) => return Err(error),
                Err(HostError::Lost(_)) => return Ok(end),
                Ok(()) if end.is_some() => return Ok(end),
                Ok(()) => {}
            }
        }
        Ok(None)
    }

    /// Ends the process in order: lets the relay read what was sent, takes in the results that are
    /// still on their way, and lets go of the lane. Gives what came of those.
    ///
    /// # Errors
    /// [`HostError`] if the state can't be used.
    pub fn finish(mut self) -> Result<Vec<Event>, HostError> {
        let mut events = Vec::new();
        if let Some(connection) = self.connection.take() {
            events = self.take_last_results(connection)?;
        }
        let ((), last) = self.turn(|engine, turn| engine.finish(turn))?;
        events.extend(last);
        Ok(events)
    }

    /// A receipt that crosses with our end would not come again. Messages would: nothing can be
    /// acknowledged any more.
    fn take_last_results(&mut self, mut connection: Connection) -> Result<Vec<Event>, StateError> {
        let mut events = Vec::new();
        let deadline = Instant::now() + CLOSE_TIME_MAX;
        let mut open = connection.end_sending().is_ok();
        while open {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !matches!(connection.receive(left), Ok(Received::Bytes)) {
                break;
            }
            let mut turn = Turn::begin(self.disk, now_ms(), &mut self.rng)?;
            let taken = connection.take_frames(|frame| match frame {
                Frame::Result(_) => self.engine.handle_frame(&mut turn, frame).map_err(HostError::State),
                _ => Ok(()),
            });
            match taken {
                Err(HostError::State(error)) => return Err(error),
                Err(HostError::Lost(_)) => open = false,
                Ok(()) => {}
            }
            // What it gives to send comes too late, and stays in the outbox.
            events.extend(turn.commit()?.events);
        }
        Ok(events)
    }
}
