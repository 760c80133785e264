//! Why a command failed: one line, perhaps a hint, and an exit code.
//!
//! Owns: the exit codes, and the wording of what the layers below report.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use e2e_protocol::wire::ErrorCode;

use crate::engine::{End, StartError};
use crate::host::{HostError, Lost};
use crate::net::Server;
use crate::state::StateError;
use crate::state::permissions::{Exposure, FILE_MODE, FOLDER_MODE};

/// How the process ends; those of sysexits.h. The order is that of badness: the worst one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 75: not now; try again later.
    TryAgain,
    /// 69: the relay can't be reached.
    Unreachable,
    /// 64: the command line is wrong.
    Usage,
    /// 65: data or a signature is bad, or the state is damaged.
    BadData,
    /// 73: the state or the output can't be written.
    CannotWrite,
    /// 76: the relay breaks the protocol.
    Protocol,
    /// 77: not permitted: name taken, key changed, not registered, wrong passphrase, exposed files.
    NotPermitted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::TryAgain => 75,
            Self::Unreachable => 69,
            Self::Usage => 64,
            Self::BadData => 65,
            Self::CannotWrite => 73,
            Self::Protocol => 76,
            Self::NotPermitted => 77,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.number().into()
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is said, in one line; `None` if all was said already.
    pub error: Option<String>,
    /// What can be done about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with its line.
    #[must_use]
    pub fn new(exit: Exit, error: impl Display) -> Self {
        Self { exit, error: Some(error.to_string()), hint: None }
    }

    /// A failure of which the user was told already.
    #[must_use]
    pub fn told(exit: Exit) -> Self {
        Self { exit, error: None, hint: None }
    }

    /// A wrong command line.
    #[must_use]
    pub fn usage(error: impl Display) -> Self {
        Self::new(Exit::Usage, error).hint("e2e-client --help shows the command line")
    }

    /// Adds what can be done about it.
    #[must_use]
    pub fn hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    /// Says it on standard error.
    pub fn report(&self) {
        if let Some(error) = &self.error {
            tell!("e2e-client: error: {}", one_line(error));
        }
        if let Some(hint) = &self.hint {
            tell!("hint: {}", one_line(hint));
        }
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io { .. } => Self::new(Exit::CannotWrite, error),
            StateError::Corrupt { .. } => Self::new(Exit::BadData, error)
                .hint("it was left as it is; restore a copy of the whole directory, or use another with -H"),
            StateError::Newer { .. } => {
                Self::new(Exit::BadData, error).hint("it was left as it is; use the newer client")
            }
            StateError::Cost { .. } => Self::new(Exit::BadData, error)
                .hint("no client wrote that; restore a copy of the whole directory, or use another with -H"),
            StateError::Exposed { ref path, why } => {
                let hint = repair(path, why);
                Self::new(Exit::NotPermitted, error).hint(hint)
            }
            StateError::WrongPassphrase => Self::new(Exit::NotPermitted, error),
            StateError::KeysChanged => Self::new(Exit::TryAgain, error).hint("start it again"),
            StateError::Busy => {
                Self::new(Exit::TryAgain, error).hint("end it first, or wait for its end, then try again")
            }
        }
    }
}

/// What makes a file usable that others could read or change.
fn repair(path: &Path, why: Exposure) -> String {
    let word = shell_word(&path.to_string_lossy());
    match why {
        Exposure::FileMode(_) => format!("chmod {FILE_MODE:o} {word}"),
        Exposure::FolderMode(_) => format!("chmod {FOLDER_MODE:o} {word}"),
        Exposure::Owner(..) => "run e2e-client as its owner, or name another directory with -H DIR".into(),
        Exposure::Link | Exposure::NoFile | Exposure::NoFolder => {
            "put back what was there, or name another directory with -H DIR".into()
        }
    }
}

/// As a shell takes it for one word.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-,+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotRegistered => not_registered(),
            StartError::State(error) => error.into(),
        }
    }
}

/// The home has no name at a relay.
#[must_use]
pub fn not_registered() -> Failure {
    Failure::new(Exit::NotPermitted, "not registered")
        .hint("e2e-client register NAME claims a name; -H DIR names another identity's directory")
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::State(error) => error.into(),
            HostError::Lost(Lost::Broken(error)) => Self::new(
                Exit::Unreachable,
                format!("the connection to the relay is lost: {}", describe(&error)),
            ),
            HostError::Lost(Lost::End(end)) => end.into(),
        }
    }
}

/// The relay could not be reached, or was lost.
#[must_use]
pub fn unreachable(server: &Server, error: &io::Error) -> Failure {
    Failure::new(Exit::Unreachable, format!("cannot reach the relay at {server}: {}", describe(error)))
        .hint("is it running? -s HOST:PORT or $E2E_SERVER says where it is")
}

/// Without "(os error 111)".
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

impl From<End> for Failure {
    fn from(end: End) -> Self {
        match end {
            End::Refused { code, text, .. } => {
                let failure =
                    Self::new(exit_for(code.known(), code.retry()), format!("the relay says {code}: {text}"));
                match code.known().and_then(hint_for) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            End::OtherRelay { pinned, shown } => Self::new(
                Exit::NotPermitted,
                format!("another relay answers: this home belongs to {pinned}, not to {shown}"),
            )
            .hint("check -s; for another relay use another home: -H DIR"),
            End::Protocol(what) => Self::new(Exit::Protocol, what),
            End::Silent => Self::new(Exit::Unreachable, "the relay does not answer"),
        }
    }
}

fn exit_for(code: Option<ErrorCode>, retry: bool) -> Exit {
    match code {
        Some(
            ErrorCode::LoginFailed
            | ErrorCode::NameTaken
            | ErrorCode::RegistrationClosed
            | ErrorCode::BadToken,
        ) => Exit::NotPermitted,
        Some(ErrorCode::Replaced) => Exit::TryAgain,
        _ if retry => Exit::TryAgain,
        _ => Exit::Protocol,
    }
}

fn hint_for(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::LoginFailed => {
            "this home's name is not known to this relay, or belongs to another key there; check -s and -H, and \
             repeat rekey if one was cut off"
        }
        ErrorCode::NameTaken => "choose another name, or use the home that has the key of this one: -H DIR",
        ErrorCode::RegistrationClosed => "ask whoever runs the relay",
        ErrorCode::BadToken => "give the token that you got from whoever runs the relay: --token T",
        ErrorCode::Replaced => "one process receives for a name, the one that started last",
        ErrorCode::TooManyConnections => "end another e2e-client of this name first",
        _ => return None,
    })
}
