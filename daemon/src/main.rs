//! `e2e-relayd`: reads the command line, puts core, loop and store together, and runs them.
//!
//! Owns: what is said to a person at start and at failure, and the exit code.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use e2e_relayd::clock::{Clock, system_ms};
use e2e_relayd::core::{Core, Policy};
use e2e_relayd::event_loop::EventLoop;
use e2e_relayd::limits::LISTENERS_MAX;
use e2e_relayd::listen::{listen, passed};
use e2e_relayd::options::{Command, Options};
use e2e_relayd::store::{OpenErrorKind, Store};
use e2e_relayd::supervisor::Supervisor;
use mio::net::TcpListener;

/// Exit codes, as in sysexits.h.
mod exit {
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const DATA: u8 = 65;
    pub(crate) const UNAVAILABLE: u8 = 69;
    pub(crate) const CANNOT_CREATE: u8 = 73;
    pub(crate) const IO: u8 = 74;
    pub(crate) const TEMPORARY: u8 = 75;
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

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match Command::parse(&arguments, |name| std::env::var_os(name)) {
        Ok(Command::Print(text)) => {
            // A reader who has seen enough closes the pipe: that is no failure.
            match io::stdout().write_all(text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(exit::IO, error)),
                _ => Ok(()),
            }
        }
        Ok(Command::Run(options)) => run(&options),
        Err(error) => Err(Failure::new(exit::USAGE, error).hint("e2e-relayd --help lists the options")),
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

fn run(options: &Options) -> Result<(), Failure> {
    start_logging(options.verbose);
    let (seed, relay_id) = (random()?, random()?);
    let policy = Policy {
        registration: options.registration,
        tokens: options.token_file.as_deref().map_or(Ok(Vec::new()), read_tokens)?,
        presence_private: options.presence_private,
    };
    // The addresses first: a relay that can't listen should not touch the state.
    let listeners = bind(options)?;
    let (store, snapshot) =
        Store::open(&options.state_directory, relay_id, system_ms()).map_err(|error| {
            let code = match error.kind {
                OpenErrorKind::Directory | OpenErrorKind::DiskFull => exit::CANNOT_CREATE,
                OpenErrorKind::Locked => exit::TEMPORARY,
                OpenErrorKind::Corrupted | OpenErrorKind::NewerFormat => exit::DATA,
                OpenErrorKind::Io => exit::IO,
            };
            let failure = Failure::new(code, &error);
            match error.kind {
                OpenErrorKind::Locked => {
                    failure.hint("another e2e-relayd runs on it; give -d DIR for a second one")
                }
                OpenErrorKind::Directory => failure.hint("-d DIR names another state directory"),
                OpenErrorKind::Corrupted => failure.hint(
                    "it was left as it is; restore a copy, or give -d an empty directory to start over",
                ),
                _ => failure,
            }
        })?;
    let io_failure = |error: io::Error| Failure::new(exit::IO, error);
    let (signals, signal_writer) = UnixStream::pair().map_err(io_failure)?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let writer = signal_writer.try_clone().map_err(io_failure)?;
        signal_hook::low_level::pipe::register(signal, writer).map_err(io_failure)?;
    }
    let names = snapshot.users.len();
    let queued: u64 = snapshot.mailboxes.iter().map(|mailbox| mailbox.messages).sum();
    let addresses = addresses(&listeners).map_err(io_failure)?;
    let clock = Clock::start(snapshot.clock);
    let core = Core::new(options.limits.clone(), policy, &snapshot, seed);
    drop(snapshot);
    let event_loop = EventLoop::new(core, clock, listeners, signals).map_err(io_failure)?;
    let event_loop = event_loop.trusting(options.proxies.clone(), options.debuggers.clone());
    let mut event_loop = event_loop.supervised(Supervisor::from_environment());
    let waker = event_loop.waker().map_err(io_failure)?;
    let notify = move || {
        if let Err(error) = waker.wake() {
            log::error!("the store cannot wake the loop: {error}");
        }
    };
    let store = store.with_disk_floor(&options.state_directory, options.limits.disk_floor_bytes);
    let mut store = store.start(notify).map_err(io_failure)?;
    log::info!(
        "e2e-relayd {} on {}: {names} names, {queued} stored messages in {}",
        env!("CARGO_PKG_VERSION"),
        addresses.join(" "),
        options.state_directory.display()
    );
    if let Some(path) = &options.ready_file {
        write_ready_file(path, &addresses)
            .map_err(|error| Failure::new(exit::CANNOT_CREATE, format!("{}: {error}", path.display())))?;
    }
    event_loop.run(&mut store).map_err(io_failure)?;
    store.shutdown();
    log::info!("stopped");
    Ok(())
}

fn start_logging(verbose: usize) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        // The journal has the time already.
        builder.format_timestamp(None);
    }
    builder.init();
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(exit::IO, format!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}

fn read_tokens(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::new(exit::CANNOT_CREATE, format!("{}: {error}", path.display())))?;
    let tokens: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() {
        return Err(Failure::new(exit::DATA, format!("{}: there is no token in it", path.display())));
    }
    Ok(tokens.into_iter().map(|token| token.as_bytes().to_vec()).collect())
}

fn bind(options: &Options) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = passed().map_err(|error| {
        Failure::new(exit::UNAVAILABLE, format!("a socket that was passed here: {error}"))
    })?;
    if !listeners.is_empty() && !options.listen_is_explicit {
        return Ok(listeners);
    }
    if listeners.len() + options.listen.len() > LISTENERS_MAX {
        return Err(Failure::new(exit::USAGE, format!("{LISTENERS_MAX} addresses at most")));
    }
    for address in &options.listen {
        match listen(*address) {
            Ok(listener) => listeners.push(listener),
            // A machine without IPv6 is served by the other default address.
            Err(error) if address.is_ipv6() && !options.listen_is_explicit && !in_use(&error) => {
                log::info!("not listening on {address}: {error}");
            }
            Err(error) => {
                let failure = Failure::new(exit::UNAVAILABLE, format!("cannot listen on {address}: {error}"));
                return Err(if in_use(&error) {
                    failure.hint("another program uses this port; -l ADDR:PORT chooses another one")
                } else {
                    failure
                });
            }
        }
    }
    Ok(listeners)
}

fn in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn addresses(listeners: &[TcpListener]) -> io::Result<Vec<String>> {
    listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

/// Written under another name first, so that whoever waits for it reads all of it.
fn write_ready_file(path: &Path, addresses: &[String]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, addresses.join("\n") + "\n")?;
    fs::rename(&temporary, path)
}
