//! The command line of `e2e-relayd`.
//!
//! Owns: flags, their help, how flags and configuration file come together, and where the state lies when nobody says so.
//! What is a setting, and so may stand in the file too: `settings`. Must not act on anything.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::config_file::{self, Mistake, Said};
use crate::ctl::{self, Ctl, Known};
use crate::limits_page;
use crate::settings::{SETTINGS, Settings, Takes};

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the relay.
    Run(Box<Options>),
    /// Look whether it could run so, as far as that can be seen without running, and exit.
    Check {
        /// What was chosen.
        settings: Box<Settings>,
        /// The file that some of it came from.
        config: Option<PathBuf>,
    },
    /// Ask a running relay, or look at a store.
    Ctl(Ctl),
    /// Print this and exit.
    Print(String),
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What was chosen.
    pub settings: Settings,
    /// Where the state lies.
    pub state_directory: PathBuf,
    /// Where the control socket is.
    pub control_socket: PathBuf,
}

/// Why a command line can't be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The line itself, in one line of text.
    Usage(String),
    /// The configuration file, in one line of text that names it.
    Config(String),
}

/// A flag that is no setting.
#[derive(Debug)]
pub struct Flag {
    /// One letter; empty if it has none.
    pub short: &'static str,
    /// After two dashes.
    pub long: &'static str,
    /// What stands for its value; empty if it takes none.
    pub value: &'static str,
    /// Whether it may be repeated.
    pub repeats: bool,
    /// What it does.
    pub help: &'static str,
}

/// The flags that are no settings.
pub const FLAGS: &[Flag] = &[
    Flag {
        short: "c",
        long: "config",
        value: "FILE",
        repeats: false,
        help: "read settings from FILE; flags win over it. SIGHUP reads it again",
    },
    Flag {
        short: "",
        long: "check-config",
        value: "",
        repeats: false,
        help: "say whether flags and FILE are in order, and exit",
    },
    Flag {
        short: "",
        long: "limit",
        value: "NAME=NUMBER",
        repeats: true,
        help: "change a limit; may be repeated; --limits lists them",
    },
    Flag {
        short: "",
        long: "limits",
        value: "",
        repeats: false,
        help: "print every limit, and the most memory that this can use, and exit",
    },
    Flag {
        short: "",
        long: "status",
        value: "",
        repeats: false,
        help: "print what the running relay is busy with, and exit: `ctl status`",
    },
    Flag {
        short: "",
        long: "once",
        value: "",
        repeats: false,
        help: "of `ctl token make`: the token is good for one name only",
    },
    Flag { short: "v", long: "verbose", value: "", repeats: true, help: "log debug; twice: trace" },
    Flag { short: "V", long: "version", value: "", repeats: false, help: "print the version and exit" },
    Flag { short: "h", long: "help", value: "", repeats: false, help: "print this help and exit" },
];

/// What the exit codes mean.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done"),
    (64, "usage"),
    (65, "state damaged beyond saving or of a newer version"),
    (69, "cannot listen, or no relay answers"),
    (73, "cannot use the state directory or a file"),
    (74, "disk error"),
    (75, "state in use by another relay"),
    (77, "refused by the running relay"),
    (78, "the configuration file has a mistake"),
];

fn parser() -> getopts::Options {
    let mut parser = getopts::Options::new();
    for setting in SETTINGS {
        match setting.takes {
            Takes::One => parser.optopt(setting.short, setting.name, setting.help, setting.value),
            Takes::Many => {
                let help = format!("{}; may be repeated", setting.help);
                parser.optmulti(setting.short, setting.name, &help, setting.value)
            }
            Takes::Switch => parser.optflag(setting.short, setting.name, setting.help),
        };
    }
    for flag in FLAGS {
        match (flag.value, flag.repeats) {
            ("", false) => parser.optflag(flag.short, flag.long, flag.help),
            ("", true) => parser.optflagmulti(flag.short, flag.long, flag.help),
            (value, false) => parser.optopt(flag.short, flag.long, flag.help, value),
            (value, true) => parser.optmulti(flag.short, flag.long, flag.help, value),
        };
    }
    parser
}

fn help() -> String {
    let brief = "e2e-relayd: routes end-to-end encrypted messages and can read none of them.\n\n\
                 Usage: e2e-relayd [OPTION]...\n       e2e-relayd ctl [OPTION]... COMMAND";
    let mut text = parser().usage(brief);
    text.push_str("\nCommands of ctl:\n");
    text.push_str(&ctl::help());
    text.push_str(
        "\nIt logs to standard error. SIGTERM and SIGINT stop it cleanly, SIGHUP has it read FILE again.\nExit codes:\n",
    );
    for (code, what) in EXIT_CODES {
        text.push_str(&format!("  {code:<3} {what}\n"));
    }
    text
}

impl Command {
    /// Reads the arguments, without the program's name. `variable` looks up the environment, `read` a file.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn parse(
        arguments: &[OsString],
        variable: impl Fn(&str) -> Option<OsString>,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, Refused> {
        let usage = |text: String| Refused::Usage(text);
        let matches = parser().parse(arguments).map_err(|failure| usage(failure.to_string()))?;
        if matches.opt_present("h") {
            return Ok(Self::Print(help()));
        }
        if matches.opt_present("V") {
            return Ok(Self::Print(format!("e2e-relayd {}\n", env!("CARGO_PKG_VERSION"))));
        }
        let config = matches.opt_str("c").map(PathBuf::from);
        let settings = merge(&matches, config.as_deref(), read)?;
        let asked = match matches.free.split_first() {
            None if matches.opt_present("status") => Some(vec!["status".to_owned()]),
            Some((command, operands)) if command == "ctl" => Some(operands.to_vec()),
            Some((extra, _)) => return Err(usage(format!("unexpected argument '{extra}'"))),
            None => None,
        };
        let runtime_directory = first_of(variable("RUNTIME_DIRECTORY"));
        if let Some(operands) = asked {
            let known = Known {
                socket: settings.control_socket,
                state: matches.opt_str("d").map(PathBuf::from),
                runtime_directory,
                configured_state: settings.state_directory.or_else(|| default_state_directory(&variable)),
            };
            return Ctl::parse(&operands, matches.opt_present("once"), known).map(Self::Ctl).map_err(usage);
        }
        if matches.opt_present("limits") {
            return Ok(Self::Print(limits_page::page(&settings.limits)));
        }
        if matches.opt_present("check-config") {
            return Ok(Self::Check { settings: Box::new(settings), config });
        }
        let state_directory = settings.state_directory.clone().or_else(|| default_state_directory(&variable));
        let state_directory = state_directory
            .ok_or_else(|| usage("no state directory: give -d DIR, or set HOME".to_owned()))?;
        let control_socket = settings.control_socket.clone().unwrap_or_else(|| {
            runtime_directory.as_deref().unwrap_or(&state_directory).join(ctl::SOCKET_NAME)
        });
        let options = Box::new(Options { settings, state_directory, control_socket });
        Ok(Self::Run(options))
    }
}

/// The settings: what the file says, and over it what the flags say.
fn merge(
    matches: &getopts::Matches,
    config: Option<&Path>,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Result<Settings, Refused> {
    let mut settings = Settings::default();
    // In which line of the file a setting or limit is that no flag has overridden.
    let mut lines: HashMap<String, usize> = HashMap::new();
    let refuse = |line: Option<usize>, text: String| match (config, line) {
        (Some(path), Some(line)) => Refused::Config(format!("{}:{line}: {text}", path.display())),
        _ => Refused::Usage(text),
    };
    if let Some(path) = config {
        let text = read(path).map_err(|error| Refused::Config(format!("{}: {error}", path.display())))?;
        let said = config_file::parse(&text).map_err(|Mistake { line, text }| refuse(Some(line), text))?;
        for (line, said) in said {
            let (name, set) = match said {
                Said::Setting(setting, values) => {
                    let set =
                        settings.set(setting, &values).map_err(|error| format!("{}: {error}", setting.name));
                    (setting.name.to_owned(), set)
                }
                Said::Limit(name, value) => {
                    let set = settings.limits.set(&name, value);
                    (name, set)
                }
            };
            set.map_err(|text| refuse(Some(line), text))?;
            lines.insert(name, line);
        }
    }
    for setting in SETTINGS.iter().filter(|setting| matches.opt_present(setting.name)) {
        let values = match setting.takes {
            Takes::Switch => vec!["true".to_owned()],
            Takes::One | Takes::Many => matches.opt_strs(setting.name),
        };
        let set = settings.set(setting, &values);
        set.map_err(|error| Refused::Usage(format!("--{}: {error}", setting.name)))?;
        lines.remove(setting.name);
    }
    for text in matches.opt_strs("limit") {
        let wrong = |error: String| Refused::Usage(format!("--limit {text}: {error}"));
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("not NAME=NUMBER".to_owned()))?;
        let value = value.parse().map_err(|_| wrong(format!("'{value}' is not a number")))?;
        settings.limits.set(name, value).map_err(wrong)?;
        lines.remove(name);
    }
    match matches.opt_count("v") {
        0 => {}
        1 => settings.log = settings.log.max(log::LevelFilter::Debug),
        _ => settings.log = log::LevelFilter::Trace,
    }
    settings.check().map_err(|(name, text)| refuse(lines.get(name).copied(), format!("{name}: {text}")))?;
    Ok(settings)
}

/// systemd may name several directories, separated by colons; the first is ours.
fn first_of(variable: Option<OsString>) -> Option<PathBuf> {
    let value = variable.filter(|value| !value.is_empty())?;
    let first = value.to_string_lossy().split(':').next().map(PathBuf::from);
    Some(first.unwrap_or_else(|| PathBuf::from(&value)))
}

fn default_state_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    first_of(variable("STATE_DIRECTORY"))
        .or_else(|| set("XDG_STATE_HOME").map(|home| home.join("e2e-relayd")))
        .or_else(|| set("HOME").map(|home| home.join(".local/state/e2e-relayd")))
}
