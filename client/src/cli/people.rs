//! `accept` and `rekey`: a contact's new key, and one's own.

use e2e_protocol::ids::{Fingerprint, Name};
use e2e_protocol::wire::{Code, ErrorCode};
use rand_chacha::ChaCha20Rng;

use super::failure::{Exit, Failure};
use super::open_home;
use super::options::Options;
use super::progress::Progress;
use super::register;
use super::register::connect_failure;
use crate::engine::{Config, Contact, End, Event, KeyNews, Receiving, Turn};
use crate::host::{Host, HostError, Lost, now_ms};
use crate::net::Server;
use crate::state::Disk;

/// How long a step may wait; the engine has its own limits for the relay's silence.
const STEP_MS: u64 = 5_000;

/// So often the mailbox is read to its end again, because something came meanwhile.
const ROLL_OVER_TRIES_MAX: usize = 20;

pub(super) fn accept(options: &Options, mut rng: ChaCha20Rng, name: Name) -> Result<(), Failure> {
    let server = options.server()?;
    let home = open_home(options, &mut rng)?;
    let known = Turn::begin(&home, now_ms(), &mut rng)?.contact(&name)?;
    let Some(Contact { pin, .. }) = known else {
        return Err(Failure::new(Exit::NotPermitted, format!("no key of {name} is known"))
            .hint(format!("there is nothing to accept: the first message to or from {name} brings a key")));
    };
    let mut progress = Progress::new();
    let (mut host, _) = Host::start(&home, rng, Config::default())?;
    log_in(&mut host, server, &mut progress)?;
    let ((), mut events) = host.turn(|engine, turn| {
        engine.handle_accept(turn, name);
        Ok(())
    })?;
    let news = loop {
        let found = events.into_iter().find_map(|event| match event {
            Event::Key { name: of, news } if of == name => Some(news),
            _ => None,
        });
        if let Some(news) = found {
            break news;
        }
        progress.say("waiting for the relay");
        events = host.step(now_ms().saturating_add(STEP_MS))?;
    };
    progress.clear();
    host.finish()?;
    match news {
        KeyNews::Unchanged => {
            tell!("the key of {name} is the known one: {pin}");
            Ok(())
        }
        KeyNews::RolledOver { shown } => {
            tell_rolled_over(&name, &shown);
            Ok(())
        }
        KeyNews::Accepted { shown } => {
            tell!("accepted: the key of {name} is {shown} now");
            tell!("hint: e2e-client verify {name} shows the number to compare");
            Ok(())
        }
        KeyNews::Changed { pinned, shown } => Err(Failure::new(
            Exit::NotPermitted,
            format!("the key of {name} changed from {pinned} to {shown}; nothing is accepted yet"),
        )
        .hint(format!(
            "ask {name} by another way whether that is theirs; if it is, e2e-client accept {name} again accepts it"
        ))),
        KeyNews::Unknown(code) => Err(Failure::new(
            if code.retry() { Exit::TryAgain } else { Exit::NotPermitted },
            format!("the relay has no answer about {name}: {code}"),
        )),
    }
}

/// The own name moves to a new key. Each part is durable before the next: repeating the command goes on
/// where it was cut off.
pub(super) fn rekey(options: &Options, mut rng: ChaCha20Rng) -> Result<(), Failure> {
    let server = options.server()?;
    let home = open_home(options, &mut rng)?;
    let mut progress = Progress::new();
    let mut turn = Turn::begin(&home, now_ms(), &mut rng)?;
    let was_begun = turn.next_identity()?.is_some();
    if turn.identity()?.is_some() && !was_begun {
        progress.say("making a key");
        turn.make_next_identity();
    }
    turn.commit()?;
    let is_done = was_begun && finish_cut_off(&home, server, &mut progress)?;
    if !is_done {
        roll_over(&home, rng, server, &mut progress)?;
    }
    progress.clear();
    tell!("who knew your former key follows by itself, and is told; who compared it has to compare again");
    // The new key has no prekeys yet.
    let rng = crate::host::seeded_rng().map_err(|error| {
        Failure::new(Exit::CannotWrite, format!("the system gives no random numbers: {error}"))
    })?;
    register::publish(&home, rng, server)
}

/// A roll-over was cut off. If it happened, the next identity can log in, and is the identity from now on.
fn finish_cut_off(home: &dyn Disk, server: &Server, progress: &mut Progress) -> Result<bool, Failure> {
    let rng = crate::host::seeded_rng().map_err(|error| {
        Failure::new(Exit::CannotWrite, format!("the system gives no random numbers: {error}"))
    })?;
    let (mut host, _) = Host::start(home, rng, Config { next_identity: true, ..Config::default() })?;
    if !next_logs_in(&mut host, server, progress)? {
        return Ok(false);
    }
    let ((), events) = host.turn(|engine, turn| engine.finish_roll_over(turn))?;
    progress.clear();
    Ok(tell_own(&events))
}

/// Reads the mailbox to its end, then asks the relay: it doesn't move a name while something waits.
fn roll_over(
    home: &dyn Disk,
    rng: ChaCha20Rng,
    server: &Server,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let config = Config { receive: Receiving::Messages, send: true, ..Config::default() };
    let (mut host, _) = Host::start(home, rng, config)?;
    log_in(&mut host, server, progress)?;
    for _ in 0..ROLL_OVER_TRIES_MAX {
        while !host.engine().is_drained() {
            progress.say("reading the mailbox");
            // What comes is kept, and shown by the next recv.
            host.step(now_ms().saturating_add(STEP_MS))?;
        }
        progress.say("waiting for the relay");
        let ((), mut events) = host.turn(|engine, turn| engine.handle_roll_over(turn))?;
        let refused = loop {
            progress.clear();
            if tell_own(&events) {
                host.finish()?;
                return Ok(());
            }
            let refused = events.iter().find_map(|event| match event {
                Event::NotRolledOver(code) => Some(*code),
                _ => None,
            });
            if let Some(code) = refused {
                break code;
            }
            events = host.step(now_ms().saturating_add(STEP_MS))?;
        };
        if refused != Code::from(ErrorCode::MailboxNotEmpty) {
            return Err(Failure::new(
                if refused.retry() { Exit::TryAgain } else { Exit::Protocol },
                format!("the relay did not move the name to the new key: {refused}"),
            )
            .hint("e2e-client rekey goes on where this one ended"));
        }
        host.step(now_ms().saturating_add(1_000))?;
    }
    Err(Failure::new(Exit::TryAgain, "messages keep coming, and a name moves only while none waits")
        .hint("e2e-client rekey goes on where this one ended"))
}

/// Whether the relay lets the next identity in.
fn next_logs_in(host: &mut Host<'_>, server: &Server, progress: &mut Progress) -> Result<bool, Failure> {
    progress.say(&format!("connecting to {server}"));
    host.connect(server).map_err(|error| connect_failure(server, error))?;
    while host.engine().welcome().is_none() {
        match host.step(now_ms().saturating_add(STEP_MS)) {
            Ok(_) => {}
            Err(HostError::Lost(Lost::End(End::Refused { code, .. })))
                if code == ErrorCode::LoginFailed.into() =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

pub(super) fn log_in(host: &mut Host<'_>, server: &Server, progress: &mut Progress) -> Result<(), Failure> {
    progress.say(&format!("connecting to {server}"));
    host.connect(server).map_err(|error| connect_failure(server, error))?;
    while host.engine().welcome().is_none() {
        host.step(now_ms().saturating_add(STEP_MS))?;
    }
    Ok(())
}

/// Says that the own name moved, if it did.
fn tell_own(events: &[Event]) -> bool {
    let moved = events.iter().find_map(|event| match event {
        Event::RolledOver { fingerprint } => Some(fingerprint),
        _ => None,
    });
    if let Some(fingerprint) = moved {
        tell!("the name belongs to a new key now");
        tell!("fingerprint {fingerprint}");
    }
    moved.is_some()
}

/// A contact moved to another key, and the former one signed that.
pub(super) fn tell_rolled_over(name: &Name, shown: &Fingerprint) {
    tell!("e2e-client: note: {name} moved to a new key, which the former one signed: {shown}");
    tell!("hint: e2e-client verify {name} shows the number to compare anew");
}

/// What became of a contact's key while something else was done.
pub(super) fn tell_news(name: &Name, news: &KeyNews) {
    match news {
        KeyNews::RolledOver { shown } => tell_rolled_over(name, shown),
        KeyNews::Unchanged | KeyNews::Changed { .. } | KeyNews::Accepted { .. } | KeyNews::Unknown(_) => {}
    }
}

/// What a user can do about a changed key.
pub(super) fn changed_hint(name: &Name) -> String {
    format!("ask {name} by another way whether the new key is theirs; e2e-client accept {name} accepts it")
}
