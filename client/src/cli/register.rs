//! `register`: makes keys, claims a name, publishes prekeys. Each part is durable before the next, so
//! that repeating the command goes on where it was cut off.

use e2e_protocol::e2e::Profile;
use e2e_protocol::e2e::limits::BATCH_PREKEYS_MAX;
use e2e_protocol::ids::{Fingerprint, Name};
use e2e_protocol::wire::Code;
use rand_chacha::ChaCha20Rng;

use super::failure::{Exit, Failure, unreachable};
use super::open_home;
use super::options::Options;
use super::progress::Progress;
use crate::engine::{Config, Event, Turn};
use crate::host::{Host, HostError, Lost, now_ms};
use crate::net::Server;
use crate::state::{Account, Disk};

/// How long a step may wait; the engine has its own limits for the relay's silence.
const STEP_MS: u64 = 5_000;

/// The identity key comes before the relay is asked; these follow.
const KEYS_BEFORE: usize = 1;

pub(super) fn run(
    options: &Options,
    mut rng: ChaCha20Rng,
    name: &Name,
    token: Option<&str>,
    profile: Option<Profile>,
) -> Result<(), Failure> {
    let server = options.server()?;
    let home = open_home(options, &mut rng)?;
    let mut progress = Progress::new();
    let was_registered = prepare(&home, &mut rng, name, profile, &mut progress)?;

    let (fingerprint, refused) = log_in_and_publish(&home, rng, server, token, &mut progress)?;
    tell!("{} as {name}", if was_registered { "already registered" } else { "registered" });
    tell!("fingerprint {fingerprint}");
    refused.map_or(Ok(()), |code| Err(not_published(code)))
}

/// Publishes prekeys for a name that is registered.
pub(super) fn publish(home: &dyn Disk, rng: ChaCha20Rng, server: &Server) -> Result<(), Failure> {
    let (_, refused) = log_in_and_publish(home, rng, server, None, &mut Progress::new())?;
    refused.map_or(Ok(()), |code| Err(not_published(code)))
}

fn not_published(code: Code) -> Failure {
    let exit = if code.retry() { Exit::TryAgain } else { Exit::Protocol };
    Failure::new(exit, format!("the relay did not take the prekeys: {code}"))
        .hint("until it has some, nobody can write to you; the next register or recv tries again")
}

/// Logs in, registering the name if need be, and sees that the relay has prekeys. Gives the own fingerprint,
/// and why prekeys were refused, if they were.
fn log_in_and_publish(
    home: &dyn Disk,
    rng: ChaCha20Rng,
    server: &Server,
    token: Option<&str>,
    progress: &mut Progress,
) -> Result<(Fingerprint, Option<Code>), Failure> {
    let config =
        Config { register: true, token: token.map(str::to_owned), upkeep: true, ..Config::default() };
    let (mut host, _) = Host::start(home, rng, config)?;
    progress.say(&format!("connecting to {server}"));
    host.connect(server).map_err(|error| connect_failure(server, error))?;
    let mut refused = None;
    while host.engine().welcome().is_none() || host.engine().is_publishing() {
        match host.engine().keys_wanted() {
            Some((made, wanted)) => progress.say_key(KEYS_BEFORE + made + 1, KEYS_BEFORE + wanted),
            None => progress.say("waiting for the relay"),
        }
        for event in host.step(now_ms().saturating_add(STEP_MS))? {
            if let Event::NotPublished(code) = event {
                refused = Some(code);
            }
        }
    }
    progress.clear();
    let fingerprint = *host.engine().identity().fingerprint();
    host.finish()?;
    Ok((fingerprint, refused))
}

/// Sees that there is an identity and a name in the home. True if the name is registered already.
fn prepare(
    home: &dyn Disk,
    rng: &mut ChaCha20Rng,
    name: &Name,
    profile: Option<Profile>,
    progress: &mut Progress,
) -> Result<bool, Failure> {
    let mut turn = Turn::begin(home, now_ms(), rng)?;
    let account = Account::load(&turn.state)?;
    if let Some(Account { name: own, registered: Some(_), .. }) = account
        && own != *name
    {
        return Err(Failure::new(Exit::NotPermitted, format!("this home is registered as {own}"))
            .hint("use another home for another name: -H DIR"));
    }
    if turn.identity()?.is_none() {
        progress.say_key(1, KEYS_BEFORE + BATCH_PREKEYS_MAX + 1);
        turn.make_identity();
    }
    let wanted = Account {
        name: *name,
        profile: profile.or(account.map(|account| account.profile)).unwrap_or_default(),
        registered: account.and_then(|account| account.registered),
    };
    if account != Some(wanted) {
        wanted.store(&mut turn.state);
    }
    turn.commit()?;
    Ok(account.is_some_and(|account| account.registered.is_some()))
}

pub(super) fn connect_failure(server: &Server, error: HostError) -> Failure {
    match error {
        HostError::Lost(Lost::Broken(error)) => unreachable(server, &error),
        other => other.into(),
    }
}
