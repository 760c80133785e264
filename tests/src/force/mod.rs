//! The delivery contract by force: senders and receivers under load on the real relay, which is killed, paused and
//! cut off from them again and again.
//!
//! Owns: the faults, the load, and the comparison of what senders were told with what arrived. Whoever was told STORED or
//! COLLECTED of a message finds it at its recipient, and a recipient that remembers ids, as the specification
//! asks of it, shows it once. How the two ends behave: `sender`, `receiver`. Two more ordeals: the real client, in
//! `clients`, and many stored messages, in `stored`.

mod clients;
mod receiver;
mod sender;
mod stored;

pub use clients::{Killed, kill_clients};
pub use stored::{Stored, restart_with};

use std::net::SocketAddr;
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::process::{PATIENCE, Relay, resident_bytes_most, send_signal};
use crate::proxy::Proxy;

/// What is done to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a new start on the same state.
    Kill,
    /// SIGSTOP, and SIGCONT a while later.
    Pause,
    /// Connections are cut in the middle of a frame.
    Cut,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Ordeal {
    /// Senders, each with a receiver of its own.
    pub pairs: usize,
    /// The faults, one after the other.
    pub faults: Vec<Fault>,
    /// Between two of them, milliseconds: one to two times as long.
    pub calm_ms: u64,
    /// What chance decides.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survived {
    /// Messages of which the relay said STORED or COLLECTED.
    pub accepted: u64,
    /// Those of them of which STORED was said first.
    pub stored: u64,
    /// Deliveries of what had been delivered before.
    pub redelivered: u64,
    /// Accepted, and never arrived.
    pub lost: u64,
    /// Delivered twice on one connection, or with other bytes than were sent.
    pub wrong: u64,
    /// The longest start after a SIGKILL, seconds, until it listened.
    pub start_seconds_max: f64,
    /// The relay's most resident memory, bytes.
    pub resident_bytes_max: u64,
    /// All of it, seconds.
    pub seconds: f64,
}

/// What both ends share.
struct Field {
    address: RwLock<SocketAddr>,
    /// Senders go on to new messages.
    sending: AtomicBool,
    /// Receivers go on when their connection ends.
    receiving: AtomicBool,
    accepted: AtomicU64,
}

impl Field {
    fn address(&self) -> SocketAddr {
        *self.address.read().unwrap()
    }
}

/// Puts a relay on `state` through it.
///
/// # Panics
/// If an end comes to a halt, or the relay doesn't start again.
#[must_use]
pub fn endure(ordeal: &Ordeal, state: &Path) -> Survived {
    let started = Instant::now();
    let mut relay = Relay::start(state, &[]);
    let proxy = Proxy::forgetful(relay.address());
    let field = Field {
        address: RwLock::new(proxy.address()),
        sending: AtomicBool::new(true),
        receiving: AtomicBool::new(true),
        accepted: AtomicU64::new(0),
    };
    let mut survived = Survived::default();
    thread::scope(|scope| {
        let pairs: Vec<_> = (0..ordeal.pairs)
            .map(|pair| {
                let (field, seed) = (&field, ordeal.seed.wrapping_mul(1_000).wrapping_add(pair as u64));
                let receiver = scope.spawn(move || receiver::receive(field, &receiver_name(pair), seed));
                let sender =
                    scope.spawn(move || sender::send(field, &sender_name(pair), &receiver_name(pair)));
                (sender, receiver)
            })
            .collect();
        inflict(ordeal, state, &mut relay, &proxy, &field, &mut survived);
        field.sending.store(false, SeqCst);
        let mut ends = Vec::new();
        for (sender, receiver) in pairs {
            ends.push((sender.join().expect("the sender ends"), receiver));
        }
        field.receiving.store(false, SeqCst);
        for (pair, (told, receiver)) in ends.into_iter().enumerate() {
            // It takes over from the receiver, which ends.
            let rest = receiver::drain(&field, &receiver_name(pair));
            let mut arrived = receiver.join().expect("the receiver ends");
            arrived.add(rest);
            survived.count(&told, &arrived);
        }
        survived.resident_bytes_max = survived.resident_bytes_max.max(resident_bytes_most(relay.id()));
    });
    assert_eq!(relay.stop("TERM"), Some(0));
    survived.seconds = started.elapsed().as_secs_f64();
    survived
}

fn sender_name(pair: usize) -> String {
    format!("sender-{pair}")
}

fn receiver_name(pair: usize) -> String {
    format!("receiver-{pair}")
}

/// The faults, each while messages are on their way.
fn inflict(
    ordeal: &Ordeal,
    state: &Path,
    relay: &mut Relay,
    proxy: &Proxy,
    field: &Field,
    survived: &mut Survived,
) {
    let mut dice = Dice::new(ordeal.seed);
    for fault in &ordeal.faults {
        let (before, patience) = (field.accepted.load(SeqCst), Instant::now() + PATIENCE);
        thread::sleep(Duration::from_millis(dice.range(ordeal.calm_ms..2 * ordeal.calm_ms)));
        while field.accepted.load(SeqCst) == before {
            assert!(Instant::now() < patience, "nothing is accepted any more");
            thread::sleep(Duration::from_millis(1));
        }
        match fault {
            Fault::Kill => {
                survived.resident_bytes_max =
                    survived.resident_bytes_max.max(resident_bytes_most(relay.id()));
                relay.kill();
                let killed = Instant::now();
                *relay = Relay::start(state, &[]);
                survived.start_seconds_max = survived.start_seconds_max.max(killed.elapsed().as_secs_f64());
                proxy.point_to(relay.address());
            }
            Fault::Pause => {
                send_signal(relay.id(), "STOP");
                thread::sleep(Duration::from_millis(dice.range(50..400)));
                send_signal(relay.id(), "CONT");
            }
            Fault::Cut => proxy.cut(1 + dice.index(2 * ordeal.pairs)),
        }
    }
}

impl Survived {
    fn count(&mut self, told: &sender::Told, arrived: &receiver::Arrived) {
        self.accepted += told.accepted.len() as u64;
        self.stored += told.accepted.values().filter(|stored| **stored).count() as u64;
        self.lost += told.accepted.keys().filter(|number| !arrived.times.contains_key(number)).count() as u64;
        self.redelivered += arrived.times.values().map(|times| times - 1).sum::<u64>();
        self.wrong += arrived.wrong;
    }

    /// As a JSON object.
    #[must_use]
    pub fn json(&self, ordeal: &Ordeal) -> String {
        let count = |of: Fault| ordeal.faults.iter().filter(|fault| **fault == of).count();
        format!(
            "{{\"pairs\":{},\"kills\":{},\"pauses\":{},\"cuts\":{},\"accepted\":{},\"stored_first\":{},\
             \"redelivered\":{},\"lost\":{},\"wrong\":{},\"start_ms_max\":{:.0},\"resident_mib_max\":{:.1},\"secs\":{:.1}}}",
            ordeal.pairs,
            count(Fault::Kill),
            count(Fault::Pause),
            count(Fault::Cut),
            self.accepted,
            self.stored,
            self.redelivered,
            self.lost,
            self.wrong,
            self.start_seconds_max * 1e3,
            self.resident_bytes_max as f64 / 1024.0 / 1024.0,
            self.seconds
        )
    }
}

/// What is in the message with this number.
fn envelope(number: u64) -> Vec<u8> {
    let filling = usize::try_from(number * 37 % 1_400).expect("it is small");
    [number.to_be_bytes().to_vec(), vec![number as u8; filling]].concat()
}
