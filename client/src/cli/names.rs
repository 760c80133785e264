//! `who`, `block`, `unblock` and `unregister`: what the relay is asked about names.
//!
//! Owns: asking, and how the answers look. Needs a relay, and a home that is registered.

use std::fmt::Write;

use e2e_protocol::ids::Name;
use e2e_protocol::wire::people::State;
use e2e_protocol::wire::{Code, ErrorCode};
use rand_chacha::ChaCha20Rng;

use super::failure::{Exit, Failure};
use super::options::Options;
use super::people::log_in;
use super::progress::Progress;
use super::{open_home, print};
use crate::engine::{Config, Engine, Event, NAMES_AT_ONCE_MAX, Turn};
use crate::host::{Host, now_ms};
use crate::state::{Disk, Folder, Transaction};

/// How long a step may wait; the engine has its own limits for the relay's silence.
const STEP_MS: u64 = 5_000;

pub(super) fn who(options: &Options, mut rng: ChaCha20Rng, names: &[Name]) -> Result<(), Failure> {
    let home = open_home(options, &mut rng)?;
    let mut host = connect(options, &home, rng)?;
    let mut found = Vec::new();
    if names.is_empty() {
        let mut from = 0;
        loop {
            let event =
                ask(&mut host, |engine, turn| engine.handle_who_everybody(turn, from))?.map_err(refused)?;
            let Event::Presence { states, next } = event else { continue };
            found.extend(states);
            // A relay that sends round in circles is not followed.
            if next <= from {
                break;
            }
            from = next;
        }
        found.sort_by_key(|(state, name)| (*state != State::Online, *name));
    } else {
        for names in names.chunks(NAMES_AT_ONCE_MAX) {
            let event = ask(&mut host, |engine, turn| engine.handle_who(turn, names))?.map_err(refused)?;
            if let Event::Presence { states, .. } = event {
                found.extend(states);
            }
        }
    }
    host.finish()?;
    let width = found.iter().map(|(_, name)| name.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (state, name) in found {
        let state = match state {
            State::Online => "online",
            State::Offline => "offline",
            State::Nobody => "nobody has this name",
        };
        let _ = writeln!(text, "{:<width$} {state}", name.as_str());
    }
    print(&text)
}

pub(super) fn block(options: &Options, mut rng: ChaCha20Rng, name: Name, block: bool) -> Result<(), Failure> {
    let home = open_home(options, &mut rng)?;
    let mut host = connect(options, &home, rng)?;
    ask(&mut host, |engine, turn| engine.handle_block(turn, name, block))?.map_err(refused)?;
    host.finish()?;
    if block {
        tell!(
            "{name} is blocked: the relay takes no more messages from {name} for you, and says so to {name}"
        );
    } else {
        tell!("{name} is not blocked any more");
    }
    Ok(())
}

pub(super) fn unregister(options: &Options, mut rng: ChaCha20Rng, name: Name) -> Result<(), Failure> {
    let home = open_home(options, &mut rng)?;
    let waiting = "messages wait to be shown, and would not be any more";
    let hint = "e2e-client recv -t 0 shows them; then unregister again";
    if !Transaction::begin(&home)?.list(Folder::Inbox)?.is_empty() {
        return Err(Failure::new(Exit::TryAgain, waiting).hint(hint));
    }
    let mut host = connect(options, &home, rng)?;
    let own = host.engine().account().name;
    if own != name {
        return Err(Failure::new(Exit::Usage, format!("this home is registered as {own}, not as {name}"))
            .hint("unregister takes the own name, so that it is not done by mistake"));
    }
    match ask(&mut host, Engine::handle_remove)? {
        Ok(_) => {}
        Err(code) if code == ErrorCode::MailboxNotEmpty.into() => {
            return Err(Failure::new(Exit::TryAgain, waiting).hint(hint));
        }
        Err(code) => return Err(refused(code)),
    }
    host.finish()?;
    tell!("{name} is nobody's any more at this relay, and anyone can claim it");
    tell!(
        "the keys and contacts are kept in {}; register claims a name with them again",
        options.home.display()
    );
    Ok(())
}

fn connect<'a>(options: &Options, home: &'a dyn Disk, rng: ChaCha20Rng) -> Result<Host<'a>, Failure> {
    let server = options.server()?;
    let (mut host, _) = Host::start(home, rng, Config::default())?;
    let mut progress = Progress::new();
    log_in(&mut host, server, &mut progress)?;
    progress.clear();
    Ok(host)
}

/// Asks one thing and waits for its answer, or for the code with which it is refused.
fn ask(
    host: &mut Host<'_>,
    run: impl FnOnce(&mut Engine, &mut Turn<'_>),
) -> Result<Result<Event, Code>, Failure> {
    let ((), mut events) = host.turn(|engine, turn| {
        run(engine, turn);
        Ok(())
    })?;
    loop {
        for event in events {
            match event {
                Event::NotDone(code) => return Ok(Err(code)),
                Event::Presence { .. } | Event::Blocked | Event::Removed => return Ok(Ok(event)),
                _ => {}
            }
        }
        events = host.step(now_ms().saturating_add(STEP_MS))?;
    }
}

fn refused(code: Code) -> Failure {
    let exit = if code.retry() { Exit::TryAgain } else { Exit::NotPermitted };
    let why = match code.known() {
        Some(ErrorCode::PresencePrivate) => "this relay does not say who is online".to_owned(),
        Some(ErrorCode::UnknownName) => "nobody has this name".to_owned(),
        Some(ErrorCode::BlocksFull) => "as many names are blocked as may be".to_owned(),
        _ => format!("the relay refused it: {code}"),
    };
    Failure::new(exit, why)
}
