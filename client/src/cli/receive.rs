//! `recv`: shows messages as they come, and sees to the outbox and the prekeys meanwhile.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e_protocol::e2e::{Kind, RejectReason};
use e2e_protocol::wire::ErrorCode;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

use super::failure::{Exit, Failure};
use super::open_home;
use super::options::Options;
use super::people::{changed_hint, tell_news};
use super::progress::Progress;
use super::register::connect_failure;
use super::send::{report_earlier, tell_no_one_time_prekey};
use super::show::{Style, message};
use crate::engine::{Config, End, Event, Receiving};
use crate::host::{Host, HostError, Lost, now_ms};
use crate::net::Server;
use crate::state::Key;

/// The first pause before connecting again, milliseconds; it doubles ...
const RECONNECT_MS_MIN: u64 = 500;
/// ... up to this.
const RECONNECT_MS_MAX: u64 = 60_000;
/// A pause is slept in slices of this, to end early when told to stop, milliseconds.
const SLICE_MS: u64 = 100;

pub(super) fn run(
    options: &Options,
    mut rng: ChaCha20Rng,
    count: Option<u64>,
    seconds: Option<Duration>,
    json: bool,
) -> Result<(), Failure> {
    let server = options.server()?;
    let home = open_home(options, &mut rng)?;
    let stop = stop_flag()?;
    let config = Config {
        receive: Receiving::Messages,
        send: true,
        upkeep: true,
        messages_max: count,
        ..Config::default()
    };
    let (host, events) = Host::start(&home, rng, config)?;
    let style = match (json, io::stdout().is_terminal()) {
        (true, _) => Style::Json,
        (false, true) => Style::Terminal,
        (false, false) => Style::Plain,
    };
    let patience_ms = seconds.map(|seconds| u64::try_from(seconds.as_millis()).unwrap_or(u64::MAX));
    let mut receiver = Receiver {
        host,
        server,
        style,
        stop,
        patience_ms,
        quiet_since_ms: now_ms(),
        heard_ms: now_ms(),
        progress: Progress::new(),
    };
    receiver.show(events)?;
    receiver.receive()?;
    receiver.progress.clear();
    for event in receiver.host.finish()? {
        if let Event::Fate { to, fate, .. } = event {
            report_earlier(&to, &fate);
        }
    }
    Ok(())
}

/// How long a step may wait at least, so that waiting for a backlog is waiting.
const STEP_MS_MIN: u64 = 50;

/// How long nothing may come of a backlog that the relay speaks of, once patience is over.
const BACKLOG_MS_MAX: u64 = 10_000;

struct Receiver<'a> {
    host: Host<'a>,
    server: &'a Server,
    style: Style,
    stop: Arc<AtomicBool>,
    /// How long without a message is long enough.
    patience_ms: Option<u64>,
    /// When a message last came, or the queue was read to its end.
    quiet_since_ms: u64,
    /// When the relay last let us in, or anything came.
    heard_ms: u64,
    progress: Progress,
}

impl Receiver<'_> {
    /// Until enough was received, nothing came for long enough, or somebody says stop.
    fn receive(&mut self) -> Result<(), Failure> {
        let mut pause_ms = RECONNECT_MS_MIN;
        let mut connected_before = false;
        while !self.is_over() {
            if !self.host.is_connected() {
                self.progress.say(&format!("connecting to {}", self.server));
                match self.host.connect(self.server) {
                    Ok(()) => {}
                    Err(HostError::Lost(lost)) if connected_before => {
                        self.pause_after(&lost, &mut pause_ms)?;
                        continue;
                    }
                    Err(error) => return Err(connect_failure(self.server, error)),
                }
            }
            let was_drained = self.host.engine().is_drained();
            match self.host.step(self.deadline_ms().max(now_ms().saturating_add(STEP_MS_MIN))) {
                Ok(events) => {
                    if !events.is_empty() || self.host.engine().welcome().is_none() {
                        self.heard_ms = now_ms();
                    }
                    self.show(events)?;
                }
                Err(HostError::Lost(lost)) => {
                    if !connected_before || is_final(&lost) {
                        return Err(HostError::Lost(lost).into());
                    }
                    self.pause_after(&lost, &mut pause_ms)?;
                }
                Err(error) => return Err(error.into()),
            }
            if self.host.engine().welcome().is_some() {
                (connected_before, pause_ms) = (true, RECONNECT_MS_MIN);
            }
            if self.host.engine().is_drained() && !was_drained {
                self.quiet_since_ms = now_ms();
            }
            self.say_what_goes_on();
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let patient = now_ms() < self.deadline_ms();
        // What waits at the relay is not "nothing came", nor is a relay that can't be reached.
        let drained = self.host.engine().is_drained() && !self.host.engine().is_publishing();
        // How much waits is the relay's word: what doesn't come for long enough isn't there.
        let given_up = now_ms() >= self.heard_ms.saturating_add(BACKLOG_MS_MAX);
        self.stop.load(Ordering::Relaxed)
            || self.host.engine().has_enough()
            || (!patient && (drained || given_up))
    }

    fn deadline_ms(&self) -> u64 {
        self.patience_ms.map_or(u64::MAX, |patience_ms| self.quiet_since_ms.saturating_add(patience_ms))
    }

    fn say_what_goes_on(&mut self) {
        match self.host.engine().keys_wanted() {
            Some((made, wanted)) => self.progress.say_key(made + 1, wanted),
            None => self.progress.clear(),
        }
    }

    /// Waits before connecting again, each time longer, and not always the same: many clients lose
    /// their relay at once. Ends early when told to stop or when patience ends.
    fn pause_after(&mut self, lost: &Lost, pause_ms: &mut u64) -> Result<(), Failure> {
        let mut random = [0; 2];
        self.host.rng().fill_bytes(&mut random);
        let jitter = u64::from(u16::from_be_bytes(random)) * *pause_ms / u64::from(u16::MAX) / 2;
        let asked_ms = match lost {
            Lost::End(End::Refused { retry_after_ms, .. }) => *retry_after_ms,
            _ => 0,
        };
        let until_ms = now_ms().saturating_add((*pause_ms + jitter).max(asked_ms));
        *pause_ms = (*pause_ms * 2).min(RECONNECT_MS_MAX);
        self.progress.clear();
        log::info!("the connection is lost: {lost:?}");
        self.progress.say("the connection is lost; connecting again soon");
        while now_ms() < until_ms && !self.stop.load(Ordering::Relaxed) {
            if now_ms() >= self.deadline_ms() {
                return Err(Failure::new(Exit::Unreachable, "the connection to the relay is lost"));
            }
            std::thread::sleep(Duration::from_millis(SLICE_MS));
        }
        Ok(())
    }

    /// Shows what came, then erases what was shown.
    fn show(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        self.progress.clear();
        for event in events {
            let Some(key) = self.show_one(event)? else { continue };
            // Each is marked before the next is printed: a crash repeats one at most.
            io::stdout().flush().map_err(output_failure)?;
            self.quiet_since_ms = now_ms();
            let ((), events) = self.host.turn(|engine, turn| {
                engine.handle_shown(turn, key);
                Ok(())
            })?;
            debug_assert!(events.is_empty());
        }
        Ok(())
    }

    fn show_one(&self, event: Event) -> Result<Option<Key>, Failure> {
        match event {
            Event::Message { key, from, plaintext } => {
                match message(self.style, &from, &plaintext) {
                    Some(text) => io::stdout().write_all(text.as_bytes()).map_err(output_failure)?,
                    None => {
                        if let Kind::Unknown(kind) = plaintext.kind {
                            tell!(
                                "e2e-client: warning: {from} sent a message of kind {kind}, which this version cannot show"
                            );
                        }
                    }
                }
                return Ok(Some(key));
            }
            Event::Missing { from, count } => {
                tell!(
                    "e2e-client: note: {count} earlier messages from {from} are missing; they may still come"
                );
            }
            Event::NotOpened { from: Some(from), pin, reason: Some(RejectReason::KeyChanged(shown)) } => {
                let pinned = pin.map_or_else(String::new, |pin| pin.to_string());
                tell!(
                    "e2e-client: warning: a message from {from} is refused: the key changed from {pinned} to {shown}"
                );
                tell!("hint: {}", changed_hint(&from));
            }
            Event::NotOpened { from: Some(from), reason: Some(reason), .. } => {
                tell!("e2e-client: warning: a message from {from} could not be opened: {reason}");
            }
            Event::NotOpened { .. } => {
                tell!("e2e-client: warning: a message came from a name that is gone; it could not be opened");
            }
            Event::Key { name, news } => tell_news(&name, &news),
            Event::NoOneTimePrekey { to } => tell_no_one_time_prekey(&to),
            Event::Fate { to, fate, .. } => report_earlier(&to, &fate),
            Event::NotPublished(code) => {
                tell!("e2e-client: warning: the relay did not take new prekeys: {code}");
            }
            // Nobody asked for that here.
            Event::RolledOver { .. }
            | Event::NotRolledOver(_)
            | Event::Presence { .. }
            | Event::Blocked
            | Event::Removed
            | Event::NotDone(_) => {}
            Event::Ready => log::info!("connected to {}", self.server),
            Event::Published { prekeys_left } => log::info!("the relay has {prekeys_left} one-time prekeys"),
        }
        Ok(None)
    }
}

/// Whether connecting again can't help, or must not be done.
pub(super) fn is_final(lost: &Lost) -> bool {
    match lost {
        Lost::Broken(_) | Lost::End(End::Silent) => false,
        Lost::End(End::OtherRelay { .. } | End::Protocol(_)) => true,
        // A proof or a frame may be damaged on the way: the checksums find that, and it passes.
        Lost::End(End::Refused { code, .. }) => !code.retry() && code.known() != Some(ErrorCode::BadCrc),
    }
}

/// A flag that SIGINT and SIGTERM set; a second one kills.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::new(Exit::CannotWrite, format!("cannot watch for signals: {error}")))?;
    }
    Ok(stop)
}

fn output_failure(error: io::Error) -> Failure {
    Failure::new(Exit::CannotWrite, format!("cannot write to standard output: {error}"))
        .hint("what was not shown is kept, and shown by the next recv")
}
