//! `send`: one text to each of some recipients, and a result line for each.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::sync::atomic::Ordering;

use e2e_protocol::e2e::limits::BODY_BYTES_MAX;
use e2e_protocol::e2e::{Kind, Plaintext};
use e2e_protocol::ids::{MessageId, Name};
use e2e_protocol::wire::ErrorCode;
use rand_chacha::ChaCha20Rng;

use super::failure::{Exit, Failure};
use super::open_home;
use super::options::{self, Options, Source};
use super::people::{changed_hint, tell_news};
use super::progress::Progress;
use super::receive::{is_final, stop_flag};
use super::register::connect_failure;
use crate::engine::{Config, Drop, End, Event, Fate, Receiving, Wait};
use crate::host::{Host, HostError, Lost, now_ms};
use crate::net::Server;

/// How long results are waited for from login on, milliseconds.
const RESULT_MS_MAX: u64 = 20_000;

/// How long is waited between attempts to connect again, milliseconds.
const RECONNECT_MS: u64 = 1_000;

/// One recipient, and what became of its message so far.
struct Recipient {
    name: Name,
    id: Option<MessageId>,
    fate: Option<Fate>,
}

pub(super) fn run(
    options: &Options,
    mut rng: ChaCha20Rng,
    to: &[Name],
    source: &Source,
    wait: options::Wait,
) -> Result<(), Failure> {
    let server = options.server()?;
    let home = open_home(options, &mut rng)?;
    let config = Config { send: true, receive: Receiving::Notices, ..Config::default() };
    let (mut host, events) = Host::start(&home, rng, config)?;
    let mut progress = Progress::new();
    let mut recipients = Vec::new();
    note(&mut recipients, events, &mut progress);
    if to.contains(&host.engine().account().name) {
        return Err(Failure::new(Exit::BadData, "a message to oneself can't be sent"));
    }
    let text = read(source)?;

    progress.say(&format!("connecting to {server}"));
    host.connect(server).map_err(|error| connect_failure(server, error))?;
    while host.engine().welcome().is_none() {
        let events = host.step(u64::MAX)?;
        note(&mut recipients, events, &mut progress);
    }
    let patience_ms = match wait {
        options::Wait::Result => RESULT_MS_MAX,
        options::Wait::Delivered(None) => u64::MAX,
        options::Wait::Delivered(Some(time)) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    };
    let until_delivered = wait != options::Wait::Result;
    let deadline_ms = now_ms().saturating_add(patience_ms);
    // Whoever stops waiting is told how far it came.
    let stop = if until_delivered { Some(stop_flag()?) } else { None };
    let is_stopped = || stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
    for name in to {
        let plaintext = Plaintext::new(Kind::Text, text.clone().into_bytes(), now_ms(), host.rng());
        let (id, events) = host.turn(|engine, turn| engine.handle_message(turn, *name, plaintext))?;
        recipients.push(Recipient { name: *name, id, fate: None });
        note(&mut recipients, events, &mut progress);
    }
    let mut failure = None;
    while now_ms() < deadline_ms
        && !is_stopped()
        && !is_over(&host, &recipients, until_delivered, deadline_ms)
    {
        progress.say(if until_delivered { "waiting for the recipients" } else { "waiting for the relay" });
        match host.step(deadline_ms) {
            Ok(events) => note(&mut recipients, events, &mut progress),
            Err(HostError::Lost(lost)) if is_final(&lost) && !is_replaced(&lost) => {
                failure = Some(HostError::Lost(lost).into());
                break;
            }
            Err(HostError::Lost(lost)) => {
                log::info!("the connection is lost: {lost:?}");
                reconnect(&mut host, server)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    progress.clear();
    let events = host.finish()?;
    note(&mut recipients, events, &mut progress);
    let worst = recipients.iter().map(|recipient| report(recipient, until_delivered)).max();
    let worst = worst.unwrap_or(Exit::Done);
    match failure {
        Some(failure) => Err(failure),
        None if worst == Exit::Done => Ok(()),
        None => Err(Failure::told(worst)),
    }
}

/// Another process of this home receives now: that doesn't end sending, and we ask for notices only if
/// nobody receives.
fn is_replaced(lost: &Lost) -> bool {
    matches!(lost, Lost::End(End::Refused { code, .. }) if *code == ErrorCode::Replaced.into())
}

/// One attempt; what fails now is tried again by the next step. What will never succeed ends it.
fn reconnect(host: &mut Host<'_>, server: &Server) -> Result<(), Failure> {
    std::thread::sleep(std::time::Duration::from_millis(RECONNECT_MS));
    match host.connect(server) {
        Err(HostError::State(error)) => Err(error.into()),
        Ok(()) | Err(HostError::Lost(_)) => Ok(()),
    }
}

/// Whether nothing more is to be expected before the deadline.
fn is_over(host: &Host<'_>, recipients: &[Recipient], until_delivered: bool, deadline_ms: u64) -> bool {
    let settled = |recipient: &Recipient| match &recipient.fate {
        None => false,
        Some(Fate::Collected | Fate::Dropped(_)) => true,
        Some(Fate::Stored | Fate::Accepted) => !until_delivered,
        Some(Fate::Waits { until_ms, .. }) => *until_ms >= deadline_ms,
    };
    recipients.iter().all(settled) && !host.engine().is_sending()
}

fn note(recipients: &mut [Recipient], events: Vec<Event>, progress: &mut Progress) {
    for event in events {
        let (id, to, fate) = match event {
            Event::Fate { id, to, fate } => (id, to, fate),
            Event::NoOneTimePrekey { to } => {
                progress.clear();
                tell_no_one_time_prekey(&to);
                continue;
            }
            Event::Key { name, news } => {
                progress.clear();
                tell_news(&name, &news);
                continue;
            }
            _ => continue,
        };
        match recipients.iter_mut().find(|recipient| recipient.id == Some(id) || recipient.is_new(&to)) {
            Some(recipient) => {
                recipient.id = Some(id);
                recipient.fate = Some(fate);
            }
            None => {
                progress.clear();
                report_earlier(&to, &fate);
            }
        }
    }
}

/// The relay may have withheld it: its user should know what that costs.
pub(super) fn tell_no_one_time_prekey(to: &Name) {
    tell!(
        "e2e-client: note: the relay had no one-time prekey of {to}: until {to} answers, messages rest on a key that lives for weeks"
    );
}

/// What became of a message that was sent before, in words; only what its user should know.
pub(super) fn report_earlier(to: &Name, fate: &Fate) {
    match fate {
        Fate::Dropped(why) => {
            tell!("e2e-client: warning: an earlier message to {to} is given up: {}", dropped(why).0)
        }
        Fate::Waits {
            why: why @ (Wait::KeyChanged { .. } | Wait::NameGone | Wait::BadBundle(_)), ..
        } => {
            tell!("e2e-client: warning: an earlier message to {to} waits: {}", waits(why));
        }
        Fate::Collected | Fate::Stored | Fate::Accepted | Fate::Waits { .. } => {
            log::info!("an earlier message to {to}: {fate:?}");
        }
    }
}

/// Prints a recipient's result line; gives what it is worth.
fn report(recipient: &Recipient, until_delivered: bool) -> Exit {
    let name = &recipient.name;
    let (line, exit) = match &recipient.fate {
        Some(Fate::Collected) => ("collected".to_owned(), Exit::Done),
        Some(Fate::Stored) if until_delivered => ("stored, and not collected yet".to_owned(), Exit::TryAgain),
        Some(Fate::Stored) => ("stored".to_owned(), Exit::Done),
        Some(Fate::Accepted) if until_delivered => {
            ("accepted, and no receipt came yet".to_owned(), Exit::TryAgain)
        }
        Some(Fate::Accepted) => ("accepted".to_owned(), Exit::Done),
        Some(Fate::Waits { why, .. }) => {
            let is_final = matches!(why, Wait::KeyChanged { .. })
                || matches!(why, Wait::Refused(code) if *code == ErrorCode::Blocked.into());
            let exit = if is_final { Exit::NotPermitted } else { Exit::TryAgain };
            (format!("kept, and sent again later: {}", waits(why)), exit)
        }
        Some(Fate::Dropped(why)) => {
            let (line, exit) = dropped(why);
            (format!("not sent: {line}"), exit)
        }
        None => ("kept, and sent again later: the relay gave no result in time".to_owned(), Exit::TryAgain),
    };
    tell!("{name}: {line}");
    if let Some(Fate::Dropped(Drop::KeyChanged { .. }) | Fate::Waits { why: Wait::KeyChanged { .. }, .. }) =
        &recipient.fate
    {
        tell!("hint: {}", changed_hint(name));
    }
    exit
}

fn waits(why: &Wait) -> String {
    match why {
        Wait::Refused(code) if *code == ErrorCode::Blocked.into() => "the recipient has blocked you".into(),
        Wait::Refused(code) => format!("the relay refused it for now ({code})"),
        Wait::Uncertain => "the relay is not sure that it has it".into(),
        Wait::Rejected => "the recipient's client could not open it".into(),
        Wait::Unproven => "nothing proves that the recipient has it".into(),
        Wait::KeyChanged { pinned, shown } => key_changed(pinned, shown),
        Wait::BadBundle(why) => format!("the recipient's keys are refused: {why}"),
        Wait::NameGone => "the recipient's name is gone".into(),
        Wait::SessionPending => "the recipient did not answer to the last session yet".into(),
    }
}

fn dropped(why: &Drop) -> (String, Exit) {
    match why {
        Drop::UnknownName => ("nobody has this name".into(), Exit::NotPermitted),
        Drop::KeyChanged { pinned, shown } => (key_changed(pinned, shown), Exit::NotPermitted),
        Drop::BadBundle(why) => (format!("the recipient's keys are refused: {why}"), Exit::BadData),
        Drop::Refused(code) if *code == ErrorCode::Blocked.into() => {
            ("the recipient has blocked you".into(), Exit::NotPermitted)
        }
        Drop::Refused(code) => (format!("the relay refused it ({code})"), Exit::NotPermitted),
        Drop::Unsendable => ("it can't be encrypted".into(), Exit::BadData),
        Drop::TooOld => ("no receipt came in 30 days".into(), Exit::TryAgain),
    }
}

fn key_changed(pinned: &impl std::fmt::Display, shown: &impl std::fmt::Display) -> String {
    format!("the key changed from {pinned} to {shown}")
}

impl Recipient {
    /// Whether this is a message for `to` of which nothing is known yet, not even its id.
    fn is_new(&self, to: &Name) -> bool {
        self.id.is_none() && self.name == *to
    }
}

/// The text to send.
fn read(source: &Source) -> Result<String, Failure> {
    let bytes = match source {
        Source::Text(text) => text.clone().into_bytes(),
        Source::File(path) => {
            let failure =
                |error| Failure::new(Exit::BadData, format!("cannot read {}: {error}", path.display()));
            let file = File::open(path).map_err(failure)?;
            without_newline(read_limited(file).map_err(failure)?)
        }
        Source::Standard => {
            if io::stdin().is_terminal() {
                tell!("type the text, then end it with Ctrl-D on a line of its own");
            }
            let failure = |error| Failure::new(Exit::BadData, format!("cannot read standard input: {error}"));
            without_newline(read_limited(io::stdin().lock()).map_err(failure)?)
        }
    };
    if bytes.is_empty() {
        return Err(Failure::new(Exit::BadData, "there is no text to send"));
    }
    if bytes.len() > BODY_BYTES_MAX {
        let error = format!("the text has more than {BODY_BYTES_MAX} bytes, the most that a message holds");
        return Err(Failure::new(Exit::BadData, error).hint("send it in parts"));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new(Exit::BadData, "the text is not UTF-8"))
}

/// Reads no more than it takes to see that it is too much: a newline at the end is not counted.
fn read_limited(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input
        .take(u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(2))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn without_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    bytes
}
