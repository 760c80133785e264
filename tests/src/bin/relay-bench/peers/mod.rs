//! The systems that a user would otherwise pick, under the same work (`--peers`).
//!
//! Owns: which there are, and in which order they are measured. Each is started here, on a port that the system chose, pinned
//! like the relay, in a directory that goes with it; who isn't installed is named and left out. What they speak:
//! `nats`, `mqtt`, `resp`; the work: `load`; their processes: `server`.

mod load;
mod mqtt;
mod nats;
mod resp;
mod server;

use super::Work;
use super::figures::Figures;
use load::Dialect;
use server::Server;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Somebody receives what is sent.
    Delivered,
    /// The same, and one more recipient never reads.
    Stalled,
    /// Nobody receives: acknowledgements of what is stored are counted.
    Stored,
}

/// Measures every peer that is installed and can do this, and hands its figures to `see`.
pub(crate) fn measure(work: &Work, task: Task, see: &mut dyn FnMut(&str, Figures)) {
    let mut one = |name: &str, server: Option<Server>, dialect: &dyn Dialect| match server {
        Some(server) => see(name, load::run(&server, work, task, dialect)),
        None => eprintln!("relay-bench: {name} is not installed and is left out"),
    };
    if task == Task::Stored {
        one("redis, list, fsync always", server::redis(true), &resp::List);
        one("nats-server, JetStream", server::nats(true), &nats::JetStream);
    } else {
        one("nats-server", server::nats(false), &nats::Core);
        one("redis, pub/sub", server::redis(false), &resp::PubSub);
        one("mosquitto, QoS 1", server::mosquitto(), &mqtt::Qos1);
    }
}

/// What an idle connection costs each peer: name, bytes.
pub(crate) fn measure_idle(count: usize, see: &mut dyn FnMut(&str, u64)) {
    let mut one = |name: &str, server: Option<Server>, dialect: &dyn Dialect| match server {
        Some(server) => see(name, load::idle(&server, count, dialect)),
        None => eprintln!("relay-bench: {name} is not installed and is left out"),
    };
    one("mosquitto", server::mosquitto(), &mqtt::Qos1);
    one("redis", server::redis(false), &resp::PubSub);
    one("nats-server", server::nats(false), &nats::Core);
}
