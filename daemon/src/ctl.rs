//! `e2e-relayd ctl`: the administrator's end of the control socket.
//!
//! Owns: which commands there are, how an answer is shown, where the socket is looked for. What the relay makes of a command:
//! `control`. Must not know the core.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::control::{ANSWER_END, ANSWER_ERROR, ANSWER_OK};
use crate::limits::GUEST_INPUT_BYTES_MAX;
use crate::store::{CopyError, fsck, receive_copy};

/// The socket's name in its directory.
pub const SOCKET_NAME: &str = "control.sock";
/// Where the packaged relay's socket is.
const SERVICE_DIRECTORY: &str = "/run/e2e-relayd";

/// The commands with their arguments and what they do.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("status", "", "what the relay is busy with"),
    (
        "names",
        "[NAME]...",
        "each name: connections, and what waits in its mailbox; without a NAME: all of them",
    ),
    (
        "remove",
        "NAME",
        "take NAME from its owner; who wrote what waits in its mailbox is told that it expired",
    ),
    ("disconnect", "NAME", "end NAME's connections; its clients may connect again"),
    ("token make", "[LABEL]", "make a registration token and print it; with --once it is good for one name"),
    ("token list", "", "the tokens that were made so: number, when, how often they are good, label"),
    ("token revoke", "NUMBER", "take one back; names that were claimed with it stay"),
    ("drain", "", "store what is in memory, tell everybody, and stop, as SIGTERM does"),
    ("reload", "", "read the configuration file again, as SIGHUP does"),
    ("metrics", "", "what --metrics serves"),
    (
        "copy",
        "DIR",
        "write a copy of the running relay's state, as of one moment, into DIR, which is new or empty",
    ),
    ("fsck", "[DIR]", "look for damage in a state that no relay runs on; changes nothing"),
];

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ctl {
    /// Say this line to the relay behind the socket, and print the answer.
    Ask {
        /// The socket.
        socket: PathBuf,
        /// The command and its arguments.
        line: String,
    },
    /// Have a copy made.
    Copy {
        /// The socket.
        socket: PathBuf,
        /// Where to.
        directory: PathBuf,
    },
    /// Look at a state at rest.
    Fsck(PathBuf),
}

/// What is known of where a relay is.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The socket, if that was said.
    pub socket: Option<PathBuf>,
    /// The state directory, if the command line says it: then its relay is meant, and no other.
    pub state: Option<PathBuf>,
    /// What a service manager gave the service that this is a part of.
    pub runtime_directory: Option<PathBuf>,
    /// The state directory that is configured, else the one where it lies unless configured.
    pub configured_state: Option<PathBuf>,
}

/// Why it did not come about.
#[derive(Debug)]
pub enum CtlError {
    /// No relay answers, and what the system says.
    Unreachable(PathBuf, io::Error),
    /// The connection failed in the middle.
    Lost(io::Error),
    /// The relay says no, and why.
    Refused(String),
    /// The copy was not made.
    Copy(CopyError),
    /// The state that was looked at is not in order.
    Damaged(String),
    /// The state that was to be looked at can't be opened.
    Open(crate::store::OpenError),
}

/// The commands, for the help.
#[must_use]
pub fn help() -> String {
    COMMANDS
        .iter()
        .map(|(command, arguments, what)| {
            let typed = format!("{command} {arguments}");
            format!("  {:<22} {what}\n", typed.trim_end())
        })
        .collect()
}

impl Ctl {
    /// Reads what follows `ctl`.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub fn parse(words: &[String], once: bool, known: Known) -> Result<Self, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let find = || known.find_socket();
        if once && !matches!(words.as_slice(), ["token", "make", ..]) {
            return Err("--once is for ctl token make".to_owned());
        }
        match words.as_slice() {
            [] => return Err("ctl takes a command; --help lists them".to_owned()),
            ["status" | "drain" | "reload" | "metrics"] | ["names", ..] | ["remove" | "disconnect", _] => {}
            ["token", "list"] | ["token", "revoke", _] => {}
            ["token", "make", label @ ..] => {
                let kind = if once { "once" } else { "many" };
                let line = format!("token make {kind} {}", label.join(" "));
                return Ok(Self::Ask { socket: find()?, line: checked(line.trim_end())? });
            }
            ["copy", directory] => return Ok(Self::Copy { socket: find()?, directory: directory.into() }),
            ["fsck"] => {
                let directory = known.state.or(known.configured_state);
                return Ok(Self::Fsck(directory.ok_or("no state directory: give it, or set HOME")?));
            }
            ["fsck", directory] => return Ok(Self::Fsck(directory.into())),
            [command, ..] => {
                return Err(
                    match COMMANDS.iter().find(|(known, ..)| known.split(' ').next() == Some(command)) {
                        Some((_, arguments, _)) if *command != "token" => {
                            format!("ctl {command} {arguments}").trim_end().to_owned()
                        }
                        Some(_) => "ctl token make [LABEL], list, or revoke NUMBER".to_owned(),
                        None => format!("there is no command '{command}' of ctl"),
                    },
                );
            }
        }
        Ok(Self::Ask { socket: find()?, line: checked(&words.join(" "))? })
    }

    /// Carries it out; what is to be shown goes to `output`.
    ///
    /// # Errors
    /// [`CtlError`].
    pub fn run(&self, output: &mut impl Write) -> Result<(), CtlError> {
        match self {
            Self::Ask { socket, line } => {
                // All of it first: the relay sends away who takes nothing for a while, and a pager may be slow.
                let mut answer = Vec::new();
                ask(socket, line)?.read_to_end(&mut answer).map_err(CtlError::Lost)?;
                let end = [ANSWER_END.as_bytes(), b"\n"].concat();
                let cut_off = || CtlError::Lost(io::ErrorKind::UnexpectedEof.into());
                let answer = answer.strip_suffix(&end[..]).ok_or_else(cut_off)?;
                output.write_all(answer).map_err(CtlError::Lost)?;
            }
            Self::Copy { socket, directory } => {
                let answer = ask(socket, "copy")?;
                let report = receive_copy(answer, directory).map_err(CtlError::Copy)?;
                writeln!(output, "{report}").map_err(CtlError::Lost)?;
            }
            Self::Fsck(directory) => {
                let report = fsck(directory).map_err(CtlError::Open)?;
                writeln!(output, "{report}").map_err(CtlError::Lost)?;
                for problem in &report.problems {
                    writeln!(output, "{problem}").map_err(CtlError::Lost)?;
                }
                if report.problems_more > 0 {
                    writeln!(output, "and {} more", report.problems_more).map_err(CtlError::Lost)?;
                }
                if report.worst().is_some() {
                    return Err(CtlError::Damaged(format!("{}: not in order", directory.display())));
                }
            }
        }
        Ok(())
    }
}

/// A line that the relay would take.
fn checked(line: &str) -> Result<String, String> {
    if line.len() >= GUEST_INPUT_BYTES_MAX || line.contains(|letter: char| letter.is_control()) {
        return Err("it is too long, or has control characters in it".to_owned());
    }
    Ok(line.to_owned())
}

impl Known {
    /// Where the socket is: where it was said to be, else where the service or the state has it that was meant.
    fn find_socket(&self) -> Result<PathBuf, String> {
        let in_directory = |directory: &PathBuf| directory.join(SOCKET_NAME);
        let of_service = Path::new(SERVICE_DIRECTORY).join(SOCKET_NAME);
        self.socket
            .clone()
            .or_else(|| self.state.as_ref().map(in_directory))
            .or_else(|| self.runtime_directory.as_ref().map(in_directory))
            .or_else(|| of_service.exists().then_some(of_service))
            .or_else(|| self.configured_state.as_ref().map(in_directory))
            .ok_or_else(|| "no control socket: give --control-socket PATH, or -d DIR".to_owned())
    }
}

/// Says a line and reads whether the relay carries it out; what comes then is the answer.
fn ask(socket: &Path, line: &str) -> Result<BufReader<UnixStream>, CtlError> {
    let unreachable = |error| CtlError::Unreachable(socket.to_owned(), error);
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(CtlError::Lost)?;
    let mut answer = BufReader::new(stream);
    let mut head = String::new();
    answer.by_ref().take(GUEST_INPUT_BYTES_MAX as u64).read_line(&mut head).map_err(CtlError::Lost)?;
    match head.trim_end().split_once(' ').unwrap_or((head.trim_end(), "")) {
        (ANSWER_OK, _) => Ok(answer),
        (ANSWER_ERROR, text) => Err(CtlError::Refused(text.to_owned())),
        _ => Err(CtlError::Lost(io::ErrorKind::UnexpectedEof.into())),
    }
}

impl Display for CtlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(socket, error) => {
                write!(f, "no relay answers at {}: {error}", socket.display())
            }
            Self::Lost(error) => write!(f, "the answer broke off: {error}"),
            Self::Refused(text) | Self::Damaged(text) => f.write_str(text),
            Self::Copy(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
        }
    }
}
