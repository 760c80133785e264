//! The command line of `e2e-relayd`.
//!
//! Owns: flags, their help, and where the state lies when nobody says so. Must not act on anything.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use e2e_protocol::limits::PORT;
use e2e_protocol::wire::session::Registration;

use crate::limits::{LISTENERS_MAX, Limits};
use crate::limits_page;
use crate::proxy::Network;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the relay.
    Run(Box<Options>),
    /// Print this and exit.
    Print(String),
}

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Whether `listen` was chosen by the user: then each of them must work.
    pub listen_is_explicit: bool,
    /// Where the state lies.
    pub state_directory: PathBuf,
    /// Who may register.
    pub registration: Registration,
    /// Where the tokens are, one a line.
    pub token_file: Option<PathBuf>,
    /// Whether nobody is told who is online.
    pub presence_private: bool,
    /// Where to write the bound addresses.
    pub ready_file: Option<PathBuf>,
    /// Which proxies are trusted.
    pub proxies: Vec<Network>,
    /// From where STAT and HEX are allowed, besides loopback.
    pub debuggers: Vec<Network>,
    /// What may be used up, and how fast.
    pub limits: Limits,
    /// How often -v was given.
    pub verbose: usize,
}

fn flags() -> getopts::Options {
    let mut flags = getopts::Options::new();
    flags.optmulti(
        "l",
        "listen",
        "listen here; may be repeated; port 0 lets the system choose (default: the sockets that systemd passes, else 0.0.0.0:5001 and [::]:5001)",
        "ADDR:PORT",
    );
    flags.optopt(
        "d",
        "state-directory",
        "keep the state here (default: $STATE_DIRECTORY, else $XDG_STATE_HOME/e2e-relayd, else ~/.local/state/e2e-relayd)",
        "DIR",
    );
    flags.optopt("", "registration", "who may claim a name: open, token or closed (default: open)", "MODE");
    flags.optopt(
        "",
        "token-file",
        "the registration tokens, one a line; needed by --registration token",
        "FILE",
    );
    flags.optopt("", "presence", "public, or private: tell nobody who is online (default: public)", "MODE");
    flags.optopt(
        "",
        "ready-file",
        "write the bound addresses there, ADDR:PORT one a line, once listening",
        "FILE",
    );
    flags.optmulti(
        "",
        "proxy-from",
        "a proxy at this address says for whom it speaks (PROXY protocol, version 2); may be repeated",
        "ADDR[/PREFIX]",
    );
    flags.optmulti(
        "",
        "debug-from",
        "allow STAT and HEX in text sessions from here, not from loopback only; may be repeated",
        "ADDR[/PREFIX]",
    );
    flags.optmulti("", "limit", "change a limit; may be repeated; --limits lists them", "NAME=NUMBER");
    flags.optflag("", "limits", "print every limit, and the most memory that this can use, and exit");
    flags.optflagmulti("v", "verbose", "log more; twice: everything ($RUST_LOG wins)");
    flags.optflag("V", "version", "print the version and exit");
    flags.optflag("h", "help", "print this help and exit");
    flags
}

fn help() -> String {
    let brief = "e2e-relayd: routes end-to-end encrypted messages and can read none of them.\n\n\
                 Usage: e2e-relayd [OPTION]...";
    let exit = "\nIt logs to standard error. SIGTERM and SIGINT stop it cleanly.\n\
                Exit codes: 0 stopped, 64 usage, 65 state damaged beyond saving or of a newer version, 69 cannot listen,\n\
                73 cannot use the state directory or a file, 74 disk error, 75 state in use by another relay.";
    format!("{}{exit}\n", flags().usage(brief))
}

impl Command {
    /// Reads the arguments, without the program's name. `variable` looks up the environment.
    ///
    /// # Errors
    /// One line that says what is wrong with them.
    pub fn parse(
        arguments: &[OsString],
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, String> {
        let matches = flags().parse(arguments).map_err(|failure| failure.to_string())?;
        if matches.opt_present("h") {
            return Ok(Self::Print(help()));
        }
        if matches.opt_present("V") {
            return Ok(Self::Print(format!("e2e-relayd {}\n", env!("CARGO_PKG_VERSION"))));
        }
        if let Some(extra) = matches.free.first() {
            return Err(format!("unexpected argument '{extra}'"));
        }
        let given = matches.opt_strs("l");
        let listen = if given.is_empty() {
            vec![
                SocketAddr::from((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)),
                SocketAddr::from((IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT)),
            ]
        } else {
            given.iter().map(|text| resolve(text)).collect::<Result<Vec<_>, _>>()?.concat()
        };
        if listen.len() > LISTENERS_MAX {
            return Err(format!("-l: {LISTENERS_MAX} addresses at most"));
        }
        let registration = match matches.opt_str("registration").as_deref() {
            None | Some("open") => Registration::Open,
            Some("token") => Registration::Token,
            Some("closed") => Registration::Closed,
            Some(other) => return Err(format!("--registration is open, token or closed, not '{other}'")),
        };
        let limits = limits(&matches.opt_strs("limit"))?;
        if matches.opt_present("limits") {
            return Ok(Self::Print(limits_page::page(&limits)));
        }
        let token_file = matches.opt_str("token-file").map(PathBuf::from);
        if (registration == Registration::Token) != token_file.is_some() {
            return Err("--registration token and --token-file go together".to_owned());
        }
        let presence_private = match matches.opt_str("presence").as_deref() {
            None | Some("public") => false,
            Some("private") => true,
            Some(other) => return Err(format!("--presence is public or private, not '{other}'")),
        };
        let state_directory = matches
            .opt_str("d")
            .map(PathBuf::from)
            .or_else(|| default_state_directory(variable))
            .ok_or("no state directory: give -d DIR, or set HOME")?;
        Ok(Self::Run(Box::new(Options {
            listen,
            listen_is_explicit: !given.is_empty(),
            state_directory,
            registration,
            token_file,
            presence_private,
            ready_file: matches.opt_str("ready-file").map(PathBuf::from),
            proxies: networks("--proxy-from", &matches.opt_strs("proxy-from"))?,
            debuggers: networks("--debug-from", &matches.opt_strs("debug-from"))?,
            limits,
            verbose: matches.opt_count("v"),
        })))
    }
}

fn networks(flag: &str, given: &[String]) -> Result<Vec<Network>, String> {
    given.iter().map(|text| text.parse().map_err(|error| format!("{flag} {text}: {error}"))).collect()
}

fn limits(given: &[String]) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for text in given {
        let (name, value) = text.split_once('=').ok_or(format!("--limit {text}: not NAME=NUMBER"))?;
        let value = value.parse().map_err(|_| format!("--limit {text}: '{value}' is not a number"))?;
        limits.set(name, value).map_err(|error| format!("--limit {text}: {error}"))?;
    }
    Ok(limits)
}

fn resolve(text: &str) -> Result<Vec<SocketAddr>, String> {
    let resolved = text.to_socket_addrs().map_err(|error| format!("-l {text}: {error}"))?;
    let addresses: Vec<_> = resolved.collect();
    if addresses.is_empty() { Err(format!("-l {text}: no such address")) } else { Ok(addresses) }
}

fn default_state_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd may name several, separated by colons; the first is ours.
    let from_systemd = variable("STATE_DIRECTORY").filter(|value| !value.is_empty()).map(|value| {
        let first = value.to_string_lossy().split(':').next().map(str::to_owned);
        first.map_or_else(|| PathBuf::from(&value), PathBuf::from)
    });
    from_systemd
        .or_else(|| set("XDG_STATE_HOME").map(|home| home.join("e2e-relayd")))
        .or_else(|| set("HOME").map(|home| home.join(".local/state/e2e-relayd")))
}
