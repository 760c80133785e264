//! The command line: what may be typed, and the help that says so.
//!
//! Owns: one table of commands and one of options, from which parser, help and manual page are made, so that
//! none can know what the others don't. Must not act on anything.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use e2e_protocol::e2e::Profile;
use e2e_protocol::e2e::at_rest::PASSPHRASE_BYTES_MAX;
use e2e_protocol::e2e::limits::BODY_BYTES_MAX;
use e2e_protocol::ids::Name;

use super::failure::{Exit, Failure};
use crate::net::Server;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Run a command.
    Run(Options),
    /// Print this and exit.
    Print(String),
}

/// What to run, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the relay is, if it was given.
    pub server: Option<Server>,
    /// Where keys and messages are kept.
    pub home: PathBuf,
    /// How often -v was given.
    pub verbose: usize,
    /// Where passphrases are, if not to be asked for.
    pub passphrases: PassphraseFiles,
    /// What to do.
    pub command: Command,
}

/// The files that the environment names for passphrases; each has the passphrase in its first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassphraseFiles {
    /// $E2E_PASSPHRASE_FILE: the home's.
    pub current: Option<PathBuf>,
    /// $E2E_NEW_PASSPHRASE_FILE: what `passphrase` sets.
    pub new: Option<PathBuf>,
    /// $E2E_EXPORT_PASSPHRASE_FILE: that of an exported file.
    pub export: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Claim a name.
    Register {
        /// The name.
        name: Name,
        /// The relay's token, if it wants one.
        token: Option<String>,
        /// How one wants to be sent to, if that was said.
        profile: Option<Profile>,
    },
    /// Send one text to each of these.
    Send {
        /// Once each, in the order given.
        to: Vec<Name>,
        /// Where the text comes from.
        source: Source,
        /// What is waited for.
        wait: Wait,
    },
    /// Receive.
    Recv {
        /// Until so many messages were shown.
        count: Option<u64>,
        /// Until no message came for so long.
        seconds: Option<Duration>,
        /// As JSON.
        json: bool,
    },
    /// List whose keys are pinned.
    Contacts,
    /// Compare keys with a contact.
    Verify {
        /// With whom.
        name: Name,
        /// The number that the contact's client shows.
        code: Option<String>,
    },
    /// Take the key that is shown for a contact.
    Accept {
        /// Whose.
        name: Name,
    },
    /// Say who is online.
    Who {
        /// Of these; if none, of all.
        names: Vec<Name>,
    },
    /// Have the relay refuse what a name sends, or no longer.
    Block {
        /// Whom.
        name: Name,
        /// Or no longer.
        block: bool,
    },
    /// Give the own name up.
    Unregister {
        /// The own name, so that it is not done by mistake.
        name: Name,
    },
    /// Move the own name to a new key.
    Rekey,
    /// Say how things stand.
    Status,
    /// Set, change or remove the home's passphrase.
    Passphrase {
        /// Remove it.
        remove: bool,
    },
    /// Write the identity for another device.
    Export {
        /// Into this file, which must not exist.
        file: PathBuf,
    },
    /// Take an identity from another device.
    Import {
        /// From this file.
        file: PathBuf,
    },
    /// Explain frames.
    Decode {
        /// In this file, else in standard input.
        file: Option<PathBuf>,
    },
}

/// What `send` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The relay's results.
    Result,
    /// The recipients' receipts, for so long if that was said.
    Delivered(Option<Duration>),
}

/// Where a text comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Text(String),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Standard,
}

/// One option. The table is what is parsed and what help and manual page say.
pub(super) struct Flag {
    pub(super) short: &'static str,
    pub(super) long: &'static str,
    /// What stands for its value; empty if it takes none.
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    /// The commands that take it; none: all do.
    pub(super) of: &'static [&'static str],
}

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        short: "s",
        long: "server",
        value: "HOST:PORT",
        help: "the relay (default: $E2E_SERVER); an IPv6 address goes in brackets; without a port 5001",
        of: &[],
    },
    Flag {
        short: "H",
        long: "home",
        value: "DIR",
        help: "where this identity's keys and messages are kept (default: $E2E_HOME, else \
               $XDG_DATA_HOME/e2e-client, else ~/.local/share/e2e-client)",
        of: &[],
    },
    Flag {
        short: "v",
        long: "verbose",
        value: "",
        help: "log more; twice and thrice: still more ($RUST_LOG wins)",
        of: &[],
    },
    Flag { short: "V", long: "version", value: "", help: "print the version and exit", of: &[] },
    Flag { short: "h", long: "help", value: "", help: "print this help and exit", of: &[] },
    Flag {
        short: "",
        long: "token",
        value: "T",
        help: "what the relay's owner gave you, if it wants a token",
        of: &["register"],
    },
    Flag {
        short: "",
        long: "profile",
        value: "PROFILE",
        help: "how others send to you: strict, an RSA-wrapped key in every message (the default), or light, for \
               slow devices, RSA only when keys are renewed; may be changed by registering the same name again",
        of: &["register"],
    },
    Flag { short: "m", long: "message", value: "TEXT", help: "the text to send", of: &["send"] },
    Flag { short: "f", long: "file", value: "FILE", help: "send the text in FILE", of: &["send"] },
    Flag {
        short: "n",
        long: "count",
        value: "COUNT",
        help: "end after COUNT messages; the others stay at the relay",
        of: &["recv"],
    },
    Flag {
        short: "",
        long: "wait-delivered",
        value: "",
        help: "wait until each recipient's client has the message, -t SECONDS at most",
        of: &["send"],
    },
    Flag {
        short: "t",
        long: "timeout",
        value: "SECONDS",
        help: "recv: end after SECONDS without a message; 0: show what is waiting, then end",
        of: &["recv", "send"],
    },
    Flag {
        short: "",
        long: "json",
        value: "",
        help: "one JSON object a line: from, id (hex), time (ms since 1970, the sender's clock), and text, or data in base64",
        of: &["recv"],
    },
    Flag { short: "", long: "remove", value: "", help: "protect nothing any more", of: &["passphrase"] },
];

/// The commands with their arguments and what they do.
pub(super) const COMMANDS: &[(&str, &str, &str)] = &[
    ("register", "NAME", "make keys and claim NAME; says the fingerprint. Repeating it is harmless"),
    ("send", "TO...", "send a text (-m, -f, else standard input) to each TO; one result line for each"),
    ("recv", "", "show messages until -n, -t, SIGINT or SIGTERM; reconnects by itself"),
    ("contacts", "", "whose keys are known: name, fingerprint, whether it was verified"),
    ("verify", "NAME [NUMBER]", "show the number to compare with NAME, or mark NAME's key if NUMBER is it"),
    ("accept", "NAME", "take the key that was shown for NAME in place of the known one"),
    (
        "rekey",
        "",
        "move the own name to a new key, signed by both; repeating it goes on where it was cut off",
    ),
    ("who", "[NAME]...", "who of these is online; without a NAME: who is registered, those online first"),
    ("block", "NAME", "have the relay refuse what NAME sends"),
    ("unblock", "NAME", "no longer"),
    ("unregister", "NAME", "give the own NAME up: it is nobody's then. Keys and contacts are kept"),
    ("status", "", "own name and fingerprint, prekeys left, what is not confirmed and since when"),
    ("passphrase", "", "protect this home's files with a passphrase, or change it, or --remove it"),
    (
        "export",
        "FILE",
        "write the identity, without messages and sessions, for another device; FILE is new, and has a \
      passphrase of its own",
    ),
    ("import", "FILE", "put an exported identity into a new home; the old one must not be used any more"),
    (
        "decode",
        "[FILE]",
        "explain the frames in FILE, else in standard input: hex, with comments from # on, or the bytes themselves; \
         needs no relay and no home",
    ),
];

/// How the command ends.
pub(super) const EXITS: &[(Exit, &str)] = &[
    (Exit::Done, "done (send: every message was collected, stored or accepted)"),
    (Exit::Usage, "usage"),
    (Exit::BadData, "bad data or signature"),
    (Exit::Unreachable, "relay unreachable"),
    (Exit::CannotWrite, "cannot write"),
    (Exit::TryAgain, "try again later"),
    (Exit::Protocol, "the relay breaks the protocol"),
    (
        Exit::NotPermitted,
        "not permitted: name taken or unknown, key changed, not registered, another relay, wrong or no passphrase, \
         files open to others",
    ),
];

/// The complete help.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "e2e-client: sends and receives messages that only their recipients can read.\n\n\
         Usage: e2e-client [-s HOST:PORT] [-H DIR] [-v]... COMMAND\n\nCommands:\n",
    );
    for (command, arguments, what) in COMMANDS {
        text.push_str(&entry(LEFT, &format!("{command} {arguments}"), what));
    }
    text.push_str("\nOptions, before or after the command:\n");
    FLAGS.iter().filter(|flag| flag.of.is_empty()).for_each(|flag| text.push_str(&flag.entry()));
    for (command, ..) in COMMANDS {
        let mut flags = FLAGS.iter().filter(|flag| flag.of.contains(command)).peekable();
        if flags.peek().is_some() {
            text.push_str(&format!("\nOptions of {command}:\n"));
            flags.for_each(|flag| text.push_str(&flag.entry()));
        }
    }
    text.push_str(&format!(
        "\nA text is UTF-8, up to {BODY_BYTES_MAX} bytes; one newline at the end of a file or of standard input is\n\
         left out. The result lines of send are `TO: collected` (the recipient's client has it), `TO: stored` (it is\n\
         on the relay's disk), `TO: accepted` (one of both: this relay doesn't say which), or why not, on standard\n\
         error. What has no receipt yet is kept, and sent again by a later send or recv for 30 days. recv makes a\n\
         message durable, acknowledges it, then prints it; after a crash it may print one again, with the same id.\n\
         On a terminal control characters are shown as codes.\n\n\
         A passphrase has 1 to {PASSPHRASE_BYTES_MAX} bytes. It is the first line of the file that $E2E_PASSPHRASE_FILE names\n\
         ($E2E_NEW_PASSPHRASE_FILE: a new one; $E2E_EXPORT_PASSPHRASE_FILE: that of an exported file), else it is asked\n\
         for on the terminal. Each command that needs it takes about 0.1 s and 32 MiB for it. Without it what is in\n\
         the home is lost. The names of its files, and so of contacts, stay readable.\n\n\
         Messages go to standard output, everything else to standard error.\n\
         Exit codes:\n"
    ));
    for (exit, what) in EXITS {
        text.push_str(&entry(5, &exit.number().to_string(), what));
    }
    text
}

impl Flag {
    fn entry(&self) -> String {
        let short = if self.short.is_empty() { "   ".into() } else { format!("-{},", self.short) };
        entry(LEFT, &format!("{short} --{} {}", self.long, self.value), self.help)
    }
}

/// Columns of the help for commands and options, before what they do.
const LEFT: usize = 34;

/// One entry of the help: so many columns for what is typed, then what it does, 100 columns in all.
fn entry(left: usize, typed: &str, what: &str) -> String {
    const WIDTH: usize = 100;
    let mut text = format!("  {:<width$}", typed.trim_end(), width = left - 2);
    let mut column = left;
    for word in what.split_whitespace() {
        if column + word.len() > WIDTH {
            text.push_str(&format!("\n{:left$}", ""));
            column = left;
        }
        if column > left {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
    text
}

fn parser() -> getopts::Options {
    let mut parser = getopts::Options::new();
    for flag in FLAGS {
        match flag.value {
            "" => parser.optflagmulti(flag.short, flag.long, ""),
            value => parser.optopt(flag.short, flag.long, "", value),
        };
    }
    parser
}

impl Invocation {
    /// Reads the arguments, without the program's name. `variable` looks up the environment.
    ///
    /// # Errors
    /// [`Failure`] with exit code 64.
    pub fn parse(
        arguments: &[OsString],
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let matches = parser().parse(arguments).map_err(Failure::usage)?;
        if matches.opt_present("help") {
            return Ok(Self::Print(help()));
        }
        if matches.opt_present("version") {
            return Ok(Self::Print(format!("e2e-client {}\n", env!("CARGO_PKG_VERSION"))));
        }
        let Some((command, operands)) = matches.free.split_first() else {
            return Err(Failure::usage("no command is given"));
        };
        for flag in FLAGS.iter().filter(|flag| matches.opt_present(flag.long)) {
            if !flag.of.is_empty() && !flag.of.contains(&command.as_str()) {
                let error =
                    format!("--{} is an option of {}, not of {command}", flag.long, flag.of.join(", "));
                return Err(Failure::usage(error));
            }
        }
        let command = match command.as_str() {
            "register" => register(&matches, operands)?,
            "send" => send(&matches, operands)?,
            "recv" => recv(&matches, operands)?,
            "contacts" => {
                no_operands(operands)?;
                Command::Contacts
            }
            "verify" => verify(operands)?,
            "accept" => Command::Accept { name: one_name("accept", operands)? },
            "who" => Command::Who {
                names: operands.iter().map(|name| parse_name(name)).collect::<Result<_, _>>()?,
            },
            "block" => Command::Block { name: one_name("block", operands)?, block: true },
            "unblock" => Command::Block { name: one_name("unblock", operands)?, block: false },
            "unregister" => Command::Unregister { name: one_name("unregister", operands)? },
            "rekey" => {
                no_operands(operands)?;
                Command::Rekey
            }
            "status" => {
                no_operands(operands)?;
                Command::Status
            }
            "passphrase" => {
                no_operands(operands)?;
                Command::Passphrase { remove: matches.opt_present("remove") }
            }
            "export" => Command::Export { file: one_file("export", operands)? },
            "import" => Command::Import { file: one_file("import", operands)? },
            "decode" => match operands {
                [] => Command::Decode { file: None },
                [file] => Command::Decode { file: Some(file.into()) },
                [_, extra, ..] => return Err(Failure::usage(format!("unexpected argument '{extra}'"))),
            },
            other => return Err(Failure::usage(format!("there is no command '{other}'"))),
        };
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let server = matches.opt_str("server").or_else(|| set("E2E_SERVER")?.into_string().ok());
        let server = server.map(|text| parse_server(&text)).transpose()?;
        let home = matches
            .opt_str("home")
            .map(PathBuf::from)
            .or_else(|| set("E2E_HOME").map(PathBuf::from))
            .or_else(|| set("XDG_DATA_HOME").map(|data| PathBuf::from(data).join("e2e-client")))
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/share/e2e-client")))
            .ok_or_else(|| Failure::usage("no home directory: give -H DIR, or set E2E_HOME or HOME"))?;
        let file = |name| set(name).map(PathBuf::from);
        let passphrases = PassphraseFiles {
            current: file("E2E_PASSPHRASE_FILE"),
            new: file("E2E_NEW_PASSPHRASE_FILE"),
            export: file("E2E_EXPORT_PASSPHRASE_FILE"),
        };
        let verbose = matches.opt_count("verbose");
        Ok(Self::Run(Options { server, home, verbose, passphrases, command }))
    }
}

impl Options {
    /// Where the relay is.
    ///
    /// # Errors
    /// [`Failure`] with exit code 64 if nobody said.
    pub fn server(&self) -> Result<&Server, Failure> {
        self.server.as_ref().ok_or_else(|| {
            Failure::new(Exit::Usage, "no relay is given")
                .hint("-s HOST:PORT or $E2E_SERVER says where it is")
        })
    }
}

fn register(matches: &getopts::Matches, operands: &[String]) -> Result<Command, Failure> {
    match operands {
        [name] => {
            let profile = matches.opt_str("profile").map(|text| parse_profile(&text)).transpose()?;
            Ok(Command::Register { name: parse_name(name)?, token: matches.opt_str("token"), profile })
        }
        [] => Err(Failure::usage("register takes the NAME to claim")),
        [_, extra, ..] => Err(Failure::usage(format!("unexpected argument '{extra}'"))),
    }
}

fn send(matches: &getopts::Matches, operands: &[String]) -> Result<Command, Failure> {
    let mut to = Vec::new();
    for operand in operands {
        let name = parse_name(operand)?;
        if !to.contains(&name) {
            to.push(name);
        }
    }
    if to.is_empty() {
        return Err(Failure::usage("send takes the name of at least one recipient"));
    }
    let source = match (matches.opt_str("message"), matches.opt_str("file")) {
        (Some(_), Some(_)) => return Err(Failure::usage("-m and -f exclude each other")),
        (Some(text), None) => Source::Text(text),
        (None, Some(file)) => Source::File(file.into()),
        (None, None) => Source::Standard,
    };
    let seconds = timeout(matches)?;
    let wait = match (matches.opt_present("wait-delivered"), seconds) {
        (true, seconds) => Wait::Delivered(seconds),
        (false, None) => Wait::Result,
        (false, Some(_)) => return Err(Failure::usage("-t is for send --wait-delivered, and for recv")),
    };
    Ok(Command::Send { to, source, wait })
}

/// A number is taken in groups, as it is shown.
fn verify(operands: &[String]) -> Result<Command, Failure> {
    let (name, code) = operands.split_first().ok_or_else(|| Failure::usage("verify takes a NAME"))?;
    let code = code.join(" ");
    let code = (!code.is_empty()).then_some(code);
    Ok(Command::Verify { name: parse_name(name)?, code })
}

fn recv(matches: &getopts::Matches, operands: &[String]) -> Result<Command, Failure> {
    no_operands(operands)?;
    let count = match matches.opt_str("count").map(|text| (text.parse::<u64>(), text)) {
        None => None,
        Some((Ok(count), _)) if count > 0 => Some(count),
        Some((_, text)) => return Err(Failure::usage(format!("-n takes a count from 1 on, not '{text}'"))),
    };
    let seconds = timeout(matches)?;
    Ok(Command::Recv { count, seconds, json: matches.opt_present("json") })
}

fn timeout(matches: &getopts::Matches) -> Result<Option<Duration>, Failure> {
    match matches.opt_str("timeout").map(|text| (parse_seconds(&text), text)) {
        None => Ok(None),
        Some((Some(seconds), _)) => Ok(Some(seconds)),
        Some((None, text)) => Err(Failure::usage(format!("-t takes seconds, not '{text}'"))),
    }
}

fn parse_seconds(text: &str) -> Option<Duration> {
    // Ten years: beyond any use, and far from where times overflow.
    const SECONDS_MAX: f64 = 3.2e8;
    let seconds: f64 = text.parse().ok()?;
    (0.0..=SECONDS_MAX).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

fn one_name(command: &str, operands: &[String]) -> Result<Name, Failure> {
    match operands {
        [name] => parse_name(name),
        [] => Err(Failure::usage(format!("{command} takes a NAME"))),
        [_, extra, ..] => Err(Failure::usage(format!("unexpected argument '{extra}'"))),
    }
}

fn one_file(command: &str, operands: &[String]) -> Result<PathBuf, Failure> {
    match operands {
        [file] => Ok(file.into()),
        [] => Err(Failure::usage(format!("{command} takes a FILE"))),
        [_, extra, ..] => Err(Failure::usage(format!("unexpected argument '{extra}'"))),
    }
}

fn no_operands(operands: &[String]) -> Result<(), Failure> {
    match operands {
        [] => Ok(()),
        [extra, ..] => Err(Failure::usage(format!("unexpected argument '{extra}'"))),
    }
}

fn parse_server(text: &str) -> Result<Server, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format!(
            "'{text}' is not where a relay can be: HOST:PORT, with a port from 1 to 65535"
        ))
    })
}

fn parse_profile(text: &str) -> Result<Profile, Failure> {
    match text {
        "strict" => Ok(Profile::Strict),
        "light" => Ok(Profile::Light),
        _ => Err(Failure::usage(format!("--profile takes strict or light, not '{text}'"))),
    }
}

fn parse_name(text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("'{text}' is not a name: {error}")))
}
