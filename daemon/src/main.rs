//! `e2e-relayd`: reads the command line, puts core, loop and store together, and runs them.
//!
//! Owns: what is said to a person at start and at failure, and the exit code.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use e2e_relayd::clock::{Clock, system_ms};
use e2e_relayd::core::{Core, Policy};
use e2e_relayd::ctl::CtlError;
use e2e_relayd::event_loop::EventLoop;
use e2e_relayd::limits::{FILE_BYTES_MAX, STORE_STOP_MS};
use e2e_relayd::listen::Listeners;
use e2e_relayd::logging;
use e2e_relayd::options::{Command, Options, Refused};
use e2e_relayd::reload::Configuration;
use e2e_relayd::settings::Settings;
use e2e_relayd::signals::Signals;
use e2e_relayd::store::{CopyError, OpenError, OpenErrorKind, Store};
use e2e_relayd::supervisor::Supervisor;

/// Exit codes, as in sysexits.h.
mod exit {
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const DATA: u8 = 65;
    pub(crate) const UNAVAILABLE: u8 = 69;
    pub(crate) const CANNOT_CREATE: u8 = 73;
    pub(crate) const IO: u8 = 74;
    pub(crate) const TEMPORARY: u8 = 75;
    pub(crate) const REFUSED: u8 = 77;
    pub(crate) const CONFIG: u8 = 78;
}

/// Why the relay did not run: one line, perhaps a hint, and an exit code.
struct Failure {
    code: u8,
    error: String,
    hint: Option<String>,
}

impl Failure {
    fn new(code: u8, error: impl Display) -> Self {
        Self { code, error: error.to_string(), hint: None }
    }

    fn hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }
}

impl From<CtlError> for Failure {
    fn from(error: CtlError) -> Self {
        match error {
            CtlError::Open(error) => open_failure(error),
            CtlError::Copy(ref copy) => {
                let code = match copy {
                    CopyError::NotEmpty(_) | CopyError::Directory(..) => exit::CANNOT_CREATE,
                    CopyError::Busy | CopyError::Unsupported | CopyError::GivenUp(_) => exit::REFUSED,
                    CopyError::Store(_) | CopyError::Stream(_) => exit::IO,
                    CopyError::CutOff | CopyError::Damaged(_) | CopyError::Newer(_) => exit::DATA,
                };
                Self::new(code, error)
            }
            CtlError::Unreachable(..) => Self::new(exit::UNAVAILABLE, error).hint(
                "--control-socket PATH or -d DIR says which relay; its socket is for its own user and root",
            ),
            CtlError::Lost(_) => Self::new(exit::IO, error),
            CtlError::Refused(_) => Self::new(exit::REFUSED, error),
            CtlError::Damaged(_) => Self::new(exit::DATA, error),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Usage(error) => {
                Self::new(exit::USAGE, error).hint("e2e-relayd --help lists the options")
            }
            Refused::Config(error) => Self::new(exit::CONFIG, error),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match parse(&arguments) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Check { settings, config }) => check(&settings, config.as_deref()),
        Ok(Command::Ctl(ctl)) => ctl.run(&mut io::stdout().lock()).map_err(Failure::from),
        Ok(Command::Run(options)) => run(*options, arguments),
        Err(refused) => Err(refused.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error, hint }) => {
            eprintln!("e2e-relayd: error: {error}");
            if let Some(hint) = hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(code)
        }
    }
}

fn parse(arguments: &[OsString]) -> Result<Command, Refused> {
    Command::parse(arguments, |name| std::env::var_os(name), read_text)
}

/// A file that a person wrote: one that is far larger is another one by mistake.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A reader who has seen enough closes the pipe: that is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(exit::IO, error)),
        _ => Ok(()),
    }
}

/// What can be seen of a configuration without running it.
fn check(settings: &Settings, config: Option<&Path>) -> Result<(), Failure> {
    read_tokens(settings)?;
    let what = config.map_or("flags".into(), Path::to_string_lossy);
    print(&format!("{what}: in order\n"))
}

fn run(options: Options, arguments: Vec<OsString>) -> Result<(), Failure> {
    let Options { settings, state_directory, control_socket, .. } = options;
    logging::start(settings.log);
    let (seed, relay_id) = (random()?, random()?);
    let policy = Policy::new(&settings, read_tokens(&settings)?);
    // The addresses first: a relay that can't listen should not touch the state.
    let listeners = listen(&settings)?;
    let (store, snapshot) = Store::open(&state_directory, relay_id, system_ms()).map_err(open_failure)?;
    let io_failure = |error: io::Error| Failure::new(exit::IO, error);
    let Signals { stop, reload } = Signals::catch().map_err(io_failure)?;
    let names = snapshot.users.len();
    let queued: u64 = snapshot.mailboxes.iter().map(|mailbox| mailbox.messages).sum();
    let addresses: Vec<_> =
        listeners.addresses().map_err(io_failure)?.iter().map(ToString::to_string).collect();
    let clock = Clock::start(snapshot.clock);
    let core = Core::new(settings.limits.clone(), policy, &snapshot, seed);
    drop(snapshot);
    let event_loop = EventLoop::new(core, clock, listeners, stop).map_err(io_failure)?;
    let event_loop = event_loop.trusting(settings.proxies.clone(), settings.debuggers.clone());
    let event_loop = event_loop.supervised(Supervisor::from_environment());
    let read = Arc::new(move || configuration(&arguments));
    let mut event_loop = event_loop.reloading(settings.clone(), read, reload).map_err(io_failure)?;
    event_loop
        .serve_metrics_at(&settings.metrics)
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("metrics: {error}")))?;
    match event_loop.control_at(&control_socket) {
        Err(error) if settings.control_socket.is_some() => {
            let error = format!("{}: {error}", control_socket.display());
            return Err(Failure::new(exit::CANNOT_CREATE, error));
        }
        // It is not worth that the relay doesn't run: some file systems take no sockets, and some paths are too long for one.
        Err(error) => log::warn!("no control socket at {}: {error}", control_socket.display()),
        Ok(()) => {}
    }
    let waker = event_loop.waker();
    let notify = move || {
        if let Err(error) = waker.wake() {
            log::error!("the store cannot wake the loop: {error}");
        }
    };
    let store = store.with_disk_floor(&state_directory, settings.limits.disk_floor_bytes);
    let mut store = store.start(notify).map_err(io_failure)?;
    log::info!(
        "e2e-relayd {} on {}: {names} names, {queued} stored messages in {}",
        env!("CARGO_PKG_VERSION"),
        addresses.join(" "),
        state_directory.display()
    );
    if let Some(path) = &settings.ready_file {
        write_ready_file(path, &addresses)
            .map_err(|error| Failure::new(exit::CANNOT_CREATE, format!("{}: {error}", path.display())))?;
    }
    event_loop.run(&mut store).map_err(io_failure)?;
    // The control socket goes as long as the state is ours: later it may be another relay's.
    drop(event_loop);
    if !store.shutdown_within(Duration::from_millis(STORE_STOP_MS)) {
        let error = "the disk does not answer: what it was given last is perhaps not on it";
        return Err(Failure::new(exit::IO, error));
    }
    log::info!("stopped");
    log::logger().flush();
    Ok(())
}

/// The configuration as it is now, or what is wrong with it.
fn configuration(arguments: &[OsString]) -> Result<Configuration, String> {
    match parse(arguments) {
        Ok(Command::Run(options)) => {
            let tokens = read_tokens(&options.settings).map_err(|failure| failure.error)?;
            Ok(Configuration { settings: options.settings, tokens })
        }
        Ok(_) => Err("it was not read".to_owned()),
        Err(Refused::Usage(text) | Refused::Config(text)) => Err(text),
    }
}

fn open_failure(error: OpenError) -> Failure {
    let code = match error.kind {
        OpenErrorKind::Directory | OpenErrorKind::DiskFull => exit::CANNOT_CREATE,
        OpenErrorKind::Locked => exit::TEMPORARY,
        OpenErrorKind::Corrupted | OpenErrorKind::NewerFormat => exit::DATA,
        OpenErrorKind::Io => exit::IO,
    };
    let failure = Failure::new(code, &error);
    match error.kind {
        OpenErrorKind::Locked => failure.hint("another e2e-relayd runs on it; give -d DIR for a second one"),
        OpenErrorKind::Directory => failure.hint("-d DIR names another state directory"),
        OpenErrorKind::Corrupted => {
            failure.hint("it was left as it is; restore a copy, or give -d an empty directory to start over")
        }
        _ => failure,
    }
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(exit::IO, format!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}

fn read_tokens(settings: &Settings) -> Result<Vec<Vec<u8>>, Failure> {
    let Some(path) = &settings.token_file else { return Ok(Vec::new()) };
    let text = read_text(path)
        .map_err(|error| Failure::new(exit::CANNOT_CREATE, format!("{}: {error}", path.display())))?;
    let tokens: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() {
        return Err(Failure::new(exit::DATA, format!("{}: there is no token in it", path.display())));
    }
    Ok(tokens.into_iter().map(|token| token.as_bytes().to_vec()).collect())
}

fn listen(settings: &Settings) -> Result<Listeners, Failure> {
    let (wanted, is_explicit) = settings.listen();
    Listeners::open(&wanted, is_explicit).map_err(|error| {
        let failure = Failure::new(exit::UNAVAILABLE, &error);
        if error.is_in_use() {
            failure.hint("another program uses this port; -l ADDR:PORT chooses another one")
        } else {
            failure
        }
    })
}

/// Written under another name first, so that whoever waits for it reads all of it.
fn write_ready_file(path: &Path, addresses: &[String]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, addresses.join("\n") + "\n")?;
    fs::rename(&temporary, path)
}
