//! The command `e2e-client`.
//!
//! Owns: what a user types, reads, and gets as exit code. Messages go to standard output, and so does
//! what `status`, `--help` and `--version` were asked for; everything else goes to standard error.
//!
//! Where to go next: [`options`] for the command line and its help, [`manual`] for the manual page, [`failure`] for errors and exit
//! codes, `show` for how a message looks, `secrets` for where passphrases come from, and one file for
//! each command.

/// Writes a line to standard error. That nobody reads it any more is no reason to fail.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub mod failure;
pub mod manual;
pub mod options;
pub mod show;

mod contacts;
mod decode;
mod names;
mod passphrase;
mod people;
mod progress;
mod receive;
mod register;
mod secrets;
mod send;
mod status;
mod terminal;
mod transfer;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::host::seeded_rng;
use crate::state::{Home, StateError, Vault};
use failure::{Exit, Failure};
use options::{Command, Invocation, Options};
use secrets::Wanted;

/// Runs the command line of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match Invocation::parse(&arguments, |name| std::env::var_os(name)) {
        Ok(Invocation::Print(text)) => print(&text),
        Ok(Invocation::Run(options)) => run(&options),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit.into()
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    start_logging(options.verbose);
    let rng = seeded_rng().map_err(|error| {
        Failure::new(Exit::CannotWrite, format!("the system gives no random numbers: {error}"))
    })?;
    match &options.command {
        Command::Register { name, token, profile } => {
            register::run(options, rng, name, token.as_deref(), *profile)
        }
        Command::Send { to, source, wait } => send::run(options, rng, to, source, *wait),
        Command::Recv { count, seconds, json } => receive::run(options, rng, *count, *seconds, *json),
        Command::Contacts => contacts::list(options, rng),
        Command::Verify { name, code } => contacts::verify(options, rng, name, code.as_deref()),
        Command::Accept { name } => people::accept(options, rng, *name),
        Command::Who { names } => names::who(options, rng, names),
        Command::Block { name, block } => names::block(options, rng, *name, *block),
        Command::Unregister { name } => names::unregister(options, rng, *name),
        Command::Rekey => people::rekey(options, rng),
        Command::Status => status::run(options, rng),
        Command::Passphrase { remove } => passphrase::run(options, rng, *remove),
        Command::Export { file } => transfer::export(options, rng, file),
        Command::Decode { file } => decode::run(file.as_deref()),
        Command::Import { file } => transfer::import(options, rng, file),
    }
}

/// Opens the home, and asks for its passphrase if it has one.
fn open_home(options: &Options, rng: &mut ChaCha20Rng) -> Result<Vault<Home>, Failure> {
    let path = &options.home;
    let home = Home::open(path).map_err(|error| match error.downcast::<StateError>() {
        Ok(error) => error.into(),
        Err(error) => Failure::new(Exit::CannotWrite, format!("cannot use {}: {error}", path.display()))
            .hint("-H DIR or $E2E_HOME names another directory"),
    })?;
    let wanted = Wanted {
        what: &format!("passphrase of {}", path.display()),
        file: options.passphrases.current.as_ref(),
        variable: "E2E_PASSPHRASE_FILE",
    };
    Vault::open(home, ChaCha20Rng::from_rng(rng), || wanted.get())
}

fn start_logging(verbose: usize) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
}

/// Prints what was asked for. A reader that has seen enough is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::CannotWrite, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
