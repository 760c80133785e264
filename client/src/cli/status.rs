//! `status`: how things stand, in this home and at the relay.

use std::fmt::Write;

use rand_chacha::ChaCha20Rng;

use super::failure::Failure;
use super::options::Options;
use super::register::connect_failure;
use super::{open_home, print};
use crate::engine::Config;
use crate::host::{Host, HostError};
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
    line("outbox", &outbox(&home)?);
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

fn outbox(disk: &dyn Disk) -> Result<String, Failure> {
    let state = Transaction::begin(disk)?;
    let keys = state.list(Folder::Outbox)?;
    let mut stored = 0;
    for key in &keys {
        stored += usize::from(OutboxItem::load(&state, key)?.is_some_and(|item| item.stored));
    }
    let unshown = state.list(Folder::Inbox)?.len();
    let mut text = format!("{} without a receipt, {stored} of them stored at the relay", keys.len());
    if unshown > 0 {
        let _ = write!(text, "; {unshown} received and not shown");
    }
    Ok(text)
}
