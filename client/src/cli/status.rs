//! `status`: how things stand, in this home and at the relay.

use std::collections::BTreeMap;
use std::fmt::Write;

use e2e_protocol::e2e::Kind;
use e2e_protocol::ids::Name;
use rand_chacha::ChaCha20Rng;

use super::failure::Failure;
use super::options::Options;
use super::register::connect_failure;
use super::{open_home, print};
use crate::engine::Config;
use crate::host::{Host, HostError, now_ms};
use crate::net::Server;
use crate::state::{Disk, Folder, OutboxItem, Transaction};

pub(super) fn run(options: &Options, mut rng: ChaCha20Rng) -> Result<(), Failure> {
    let home = open_home(options, &mut rng)?;
    let (mut host, _) = Host::start(&home, rng, Config::default())?;
    let mut text = String::new();
    let account = *host.engine().account();
    let mut line = |what: &str, value: &str| {
        let _ = writeln!(text, "{what:<12} {value}");
    };
    line("name", account.name.as_str());
    line("fingerprint", &host.engine().identity().fingerprint().to_string());
    if let Some(registered) = account.registered {
        line("relay", &registered.relay_id.to_string());
    }
    line("profile", if account.profile.wraps() { "strict" } else { "light" });
    for unconfirmed in outbox(&home)? {
        line("outbox", &unconfirmed);
    }
    line("passphrase", if home.is_protected() { "set" } else { "none" });

    let asked = options
        .server
        .as_ref()
        .map(|server| ask(&mut host, server).map_err(|error| connect_failure(server, error)));
    match (&asked, host.engine().welcome()) {
        (Some(Ok(())), Some(welcome)) => {
            line("prekeys", &format!("{} one-time prekeys left at the relay", welcome.prekeys_left));
            line("mailbox", &format!("{} waiting at the relay", welcome.queued));
        }
        (None, _) => line("prekeys", "not asked: no relay is given (-s HOST:PORT)"),
        (Some(_), _) => {}
    }
    print(&text)?;
    asked.unwrap_or(Ok(()))
}

fn ask(host: &mut Host<'_>, server: &Server) -> Result<(), HostError> {
    host.connect(server)?;
    while host.engine().welcome().is_none() {
        host.step(u64::MAX)?;
    }
    Ok(())
}

/// What has no receipt yet, a line for each recipient, and what was received and not shown.
fn outbox(disk: &dyn Disk) -> Result<Vec<String>, Failure> {
    let state = Transaction::begin(disk)?;
    let mut recipients: BTreeMap<Name, Unconfirmed> = BTreeMap::new();
    for key in state.list(Folder::Outbox)? {
        let Some(item) = OutboxItem::load(&state, &key)? else { continue };
        if item.plaintext.kind == Kind::Nothing {
            continue;
        }
        let of = recipients.entry(item.to).or_default();
        of.count += 1;
        of.stored += usize::from(item.stored);
        of.rejected += usize::from(item.rejects > 0);
        of.oldest_ms = of.oldest_ms.min(item.plaintext.time_ms);
    }
    let mut lines: Vec<String> = recipients.iter().map(|(name, of)| of.describe(name)).collect();
    if lines.is_empty() {
        lines.push("everything is confirmed".into());
    }
    let unshown = state.list(Folder::Inbox)?.len();
    if unshown > 0 {
        lines.push(format!("{unshown} received and not shown"));
    }
    Ok(lines)
}

/// One recipient's messages without a receipt.
struct Unconfirmed {
    count: usize,
    /// Of them on the relay's disk, as it says.
    stored: usize,
    /// Of them refused by the recipient's client before, and encrypted anew.
    rejected: usize,
    /// When the oldest was written, Unix milliseconds.
    oldest_ms: u64,
}

impl Default for Unconfirmed {
    fn default() -> Self {
        Self { count: 0, stored: 0, rejected: 0, oldest_ms: u64::MAX }
    }
}

impl Unconfirmed {
    fn describe(&self, name: &Name) -> String {
        let age = age(now_ms().saturating_sub(self.oldest_ms));
        let mut text = format!("{name}: {} not confirmed, the oldest for {age}", self.count);
        if self.stored > 0 {
            let _ = write!(text, "; {} stored at the relay", self.stored);
        }
        if self.rejected > 0 {
            let _ = write!(text, "; {} could not be opened before", self.rejected);
        }
        text
    }
}

/// A duration as people say it, in its largest unit.
fn age(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
