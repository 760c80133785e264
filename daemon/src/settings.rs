//! What an operator can choose: each setting once, for the command line and for the configuration file.
//!
//! Owns: the table of settings, what each takes, what it is when nobody says so, and which can't be together. Must not know
//! where a value was written (`options`, `config_file`) nor act on anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use e2e_protocol::limits::PORT;
use e2e_protocol::wire::session::Registration;

use crate::limits::{LISTENERS_MAX, Limits};
use crate::proxy::Network;

/// One setting. Its name is that of the flag, after two dashes, and of the key in the configuration file.
#[derive(Debug)]
pub struct Setting {
    /// As a flag, one letter; empty if it has none.
    pub short: &'static str,
    /// The name.
    pub name: &'static str,
    /// How many values it takes.
    pub takes: Takes,
    /// What stands for a value.
    pub value: &'static str,
    /// What it is unless set, as the configuration file writes it; empty if that depends.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// When a changed configuration file brings it about.
    pub effect: Effect,
}

/// How many values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One.
    One,
    /// Any number of them.
    Many,
    /// None: it is on or off.
    Switch,
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With SIGHUP.
    AtReload,
    /// When the relay is started anew.
    AtStart,
}

/// Every setting, in the order in which people are shown them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        short: "l",
        name: "listen",
        takes: Takes::Many,
        value: "ADDR:PORT",
        default: "[\"0.0.0.0:5001\", \"[::]:5001\"]",
        help: "listen here; port 0 lets the system choose (default: the sockets that systemd passes, else 0.0.0.0:5001 and \
               [::]:5001)",
        effect: Effect::AtReload,
    },
    Setting {
        short: "d",
        name: "state-directory",
        takes: Takes::One,
        value: "DIR",
        default: "",
        help: "keep the state here (default: $STATE_DIRECTORY, else $XDG_STATE_HOME/e2e-relayd, else \
               ~/.local/state/e2e-relayd)",
        effect: Effect::AtStart,
    },
    Setting {
        short: "",
        name: "registration",
        takes: Takes::One,
        value: "MODE",
        default: "\"open\"",
        help: "who may claim a name: open, token or closed (default: open)",
        effect: Effect::AtReload,
    },
    Setting {
        short: "",
        name: "token-file",
        takes: Takes::One,
        value: "FILE",
        default: "",
        help: "registration tokens, one a line, beside those that `ctl token make` makes; only with registration token",
        effect: Effect::AtReload,
    },
    Setting {
        short: "",
        name: "presence",
        takes: Takes::One,
        value: "MODE",
        default: "\"public\"",
        help: "public, or private: tell nobody who is online (default: public)",
        effect: Effect::AtReload,
    },
    Setting {
        short: "",
        name: "proxy-from",
        takes: Takes::Many,
        value: "ADDR[/PREFIX]",
        default: "[]",
        help: "a proxy at this address says for whom it speaks (PROXY protocol, version 2)",
        effect: Effect::AtReload,
    },
    Setting {
        short: "",
        name: "debug-from",
        takes: Takes::Many,
        value: "ADDR[/PREFIX]",
        default: "[]",
        help: "allow STAT and HEX in text sessions from here, not from loopback only",
        effect: Effect::AtReload,
    },
    Setting {
        short: "",
        name: "metrics",
        takes: Takes::Many,
        value: "ADDR:PORT",
        default: "[]",
        help: "serve metrics for Prometheus at http://ADDR:PORT/metrics (default: nowhere)",
        effect: Effect::AtReload,
    },
    Setting {
        short: "",
        name: "control-socket",
        takes: Takes::One,
        value: "PATH",
        default: "",
        help: "where `ctl` reaches the relay (default: control.sock in $RUNTIME_DIRECTORY, else in the state directory)",
        effect: Effect::AtStart,
    },
    Setting {
        short: "",
        name: "ready-file",
        takes: Takes::One,
        value: "FILE",
        default: "",
        help: "write the bound addresses there, ADDR:PORT one a line, once listening",
        effect: Effect::AtStart,
    },
    Setting {
        short: "",
        name: "log",
        takes: Takes::One,
        value: "LEVEL",
        default: "\"info\"",
        help: "log error, warn, info, debug or trace, and what is more important (default: info; $RUST_LOG wins)",
        effect: Effect::AtReload,
    },
    Setting {
        short: "",
        name: "hide-names",
        takes: Takes::Switch,
        value: "",
        default: "false",
        help: "show pseudonyms in the log, new ones at each start, in place of users' names",
        effect: Effect::AtReload,
    },
];

/// Limits that take effect when the relay is started anew; all others do with SIGHUP.
pub const LIMITS_AT_START: [&str; 3] = ["append_bytes_max", "replay_bytes", "disk_floor_bytes"];

/// The setting of this name.
#[must_use]
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen; `None`: nobody said.
    pub listen: Option<Vec<SocketAddr>>,
    /// Where the state lies, if somebody said so.
    pub state_directory: Option<PathBuf>,
    /// Who may register.
    pub registration: Registration,
    /// Where tokens are, one a line.
    pub token_file: Option<PathBuf>,
    /// Whether nobody is told who is online.
    pub presence_private: bool,
    /// Which proxies are trusted.
    pub proxies: Vec<Network>,
    /// From where STAT and HEX are allowed, besides loopback.
    pub debuggers: Vec<Network>,
    /// Where to serve metrics.
    pub metrics: Vec<SocketAddr>,
    /// Where the control socket is, if somebody said so.
    pub control_socket: Option<PathBuf>,
    /// Where to write the bound addresses.
    pub ready_file: Option<PathBuf>,
    /// What is logged.
    pub log: log::LevelFilter,
    /// Whether names stay out of the log.
    pub hide_names: bool,
    /// What may be used up, and how fast.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: None,
            state_directory: None,
            registration: Registration::Open,
            token_file: None,
            presence_private: false,
            proxies: Vec::new(),
            debuggers: Vec::new(),
            metrics: Vec::new(),
            control_socket: None,
            ready_file: None,
            log: log::LevelFilter::Info,
            hide_names: false,
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// Sets one to what was written: one value, or any number where it takes them, or `true` or `false` for a switch.
    ///
    /// # Errors
    /// What is wrong, without the setting's name.
    pub fn set(&mut self, setting: &Setting, values: &[String]) -> Result<(), String> {
        let one = values.last().map(String::as_str).unwrap_or_default();
        let path =
            || if one.is_empty() { Err("it is empty".to_owned()) } else { Ok(Some(PathBuf::from(one))) };
        match setting.name {
            "listen" if values.is_empty() => return Err("at least one address is needed".to_owned()),
            "listen" => self.listen = Some(addresses(values)?),
            "state-directory" => self.state_directory = path()?,
            "registration" => {
                self.registration = match one {
                    "open" => Registration::Open,
                    "token" => Registration::Token,
                    "closed" => Registration::Closed,
                    other => return Err(format!("open, token or closed, not '{other}'")),
                };
            }
            "token-file" => self.token_file = path()?,
            "presence" => {
                self.presence_private = match one {
                    "public" => false,
                    "private" => true,
                    other => return Err(format!("public or private, not '{other}'")),
                };
            }
            "proxy-from" => self.proxies = networks(values)?,
            "debug-from" => self.debuggers = networks(values)?,
            "metrics" => self.metrics = addresses(values)?,
            "control-socket" => self.control_socket = path()?,
            "ready-file" => self.ready_file = path()?,
            "log" => {
                self.log = match one {
                    "error" => log::LevelFilter::Error,
                    "warn" => log::LevelFilter::Warn,
                    "info" => log::LevelFilter::Info,
                    "debug" => log::LevelFilter::Debug,
                    "trace" => log::LevelFilter::Trace,
                    other => return Err(format!("error, warn, info, debug or trace, not '{other}'")),
                };
            }
            "hide-names" => self.hide_names = one == "true",
            _ => return Err("there is no such setting".to_owned()),
        }
        Ok(())
    }

    /// Whether they can be together.
    ///
    /// # Errors
    /// The name of the setting, or limit, that can't, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.token_file.is_some() && self.registration != Registration::Token {
            return Err(("token-file", "it is for registration token only".to_owned()));
        }
        self.limits.check()
    }

    /// Where to listen, and whether that was said: then each of them must work.
    #[must_use]
    pub fn listen(&self) -> (Vec<SocketAddr>, bool) {
        let defaults = || {
            vec![
                SocketAddr::from((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)),
                SocketAddr::from((IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT)),
            ]
        };
        self.listen.clone().map_or_else(|| (defaults(), false), |listen| (listen, true))
    }

    /// Names of settings and limits that differ from `running`'s and take effect at the next start only.
    #[must_use]
    pub fn differing_at_start(&self, running: &Self) -> Vec<&'static str> {
        let mut kept = self.clone();
        kept.keep_from_start(running);
        let settings = SETTINGS.iter().filter(|setting| setting.effect == Effect::AtStart);
        let settings = settings.map(|setting| setting.name).filter(|name| match *name {
            "state-directory" => kept.state_directory != self.state_directory,
            "control-socket" => kept.control_socket != self.control_socket,
            "ready-file" => kept.ready_file != self.ready_file,
            _ => false,
        });
        let limits = kept.limits.described().into_iter().zip(self.limits.described());
        let limits = limits.filter(|(kept, new)| kept.1 != new.1).map(|(_, (name, ..))| name);
        settings.chain(limits).collect()
    }

    /// Takes over from `running` what takes effect at the next start only.
    pub fn keep_from_start(&mut self, running: &Self) {
        self.state_directory.clone_from(&running.state_directory);
        self.control_socket.clone_from(&running.control_socket);
        self.ready_file.clone_from(&running.ready_file);
        // Memory is accounted for by the first two from when something is asked for until it is given back.
        self.limits.append_bytes_max = running.limits.append_bytes_max;
        self.limits.replay_bytes = running.limits.replay_bytes;
        self.limits.disk_floor_bytes = running.limits.disk_floor_bytes;
    }
}

fn networks(values: &[String]) -> Result<Vec<Network>, String> {
    values.iter().map(|text| text.parse()).collect()
}

fn addresses(values: &[String]) -> Result<Vec<SocketAddr>, String> {
    let mut addresses = Vec::new();
    for text in values {
        let mut are_none = true;
        for address in text.to_socket_addrs().map_err(|error| format!("'{text}': {error}"))? {
            are_none = false;
            // Said twice, it is one: only port 0 is another each time.
            if address.port() == 0 || !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if are_none {
            return Err(format!("'{text}': no such address"));
        }
    }
    if addresses.len() > LISTENERS_MAX {
        return Err(format!("{LISTENERS_MAX} addresses at most"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_at_start_are_those_that_a_reload_keeps() {
        let running = Settings::default();
        for (name, value, _) in running.limits.described() {
            let mut new = Settings::default();
            let changed = new.limits.set(name, value + 1).or_else(|_| new.limits.set(name, value - 1));
            assert_eq!(changed, Ok(()), "{name}");
            let expected: &[&str] = if LIMITS_AT_START.contains(&name) { &[name] } else { &[] };
            assert_eq!(new.differing_at_start(&running), expected);
        }
    }

    #[test]
    fn every_setting_can_be_set() {
        for setting in SETTINGS {
            let value = match setting.name {
                "listen" | "metrics" => "127.0.0.1:1",
                "proxy-from" | "debug-from" => "192.0.2.0/24",
                "registration" => "token",
                "presence" => "private",
                "log" => "trace",
                "hide-names" => "true",
                _ => "/somewhere",
            };
            let mut settings = Settings::default();
            assert_eq!(settings.set(setting, &[value.to_owned()]), Ok(()), "{}", setting.name);
            assert_ne!(settings, Settings::default(), "{}", setting.name);
        }
    }
}
