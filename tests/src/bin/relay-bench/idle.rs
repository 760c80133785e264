//! Idle connections: what each costs the relay in resident memory.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e_protocol::ids::Uid;
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_tests::process::{Directory, Relay, cpu_seconds, resident_bytes};
use e2e_tests::raw::{AMPLE, Raw};

/// Connections that are opened before the first reading, so that one-off costs don't count.
const FIRST: usize = 100;
/// Logins that are under way at once.
const THREADS: usize = 16;

/// Logs in `count` connections, each with a name of its own and receiving, and prints their cost: once with names that they
/// register, and once, after a restart, with those that are there.
pub(crate) fn run(count: usize) {
    let directory = Directory::new();
    let mut relay = super::start(&directory);
    let at_rest = resident_bytes(relay.id());
    let (per_new_name, after) = measure(&relay, count, Purpose::Register);
    let cpu_seconds = cpu_seconds(relay.id());
    assert_eq!(relay.stop("TERM"), Some(0), "the relay stops cleanly");
    let (per_connection, _) = measure(&super::start(&directory), count, Purpose::Login);
    println!(
        "{{\"system\":\"e2e-relayd, idle\",\"connections\":{count},\"bytes_per_connection\":{per_connection},\
         \"bytes_per_new_name_and_connection\":{per_new_name},\
         \"rss_at_rest_bytes\":{at_rest},\"rss_bytes\":{after},\"cpu_secs\":{cpu_seconds:.2}}}"
    );
}

/// Resident bytes that each takes, and of the whole relay at the end.
fn measure(relay: &Relay, count: usize, purpose: Purpose) -> (u64, u64) {
    let open = |from, to| log_in(relay, from..to, purpose, &|index| format!("idle{index}"));
    let first = open(0, FIRST);
    let before = resident_bytes(relay.id());
    let others = open(FIRST, FIRST + count);
    let after = resident_bytes(relay.id());
    drop((first, others));
    (after.saturating_sub(before) / (count as u64).max(1), after)
}

/// Logs in a connection for each of these, which all receive, in no order.
pub(crate) fn log_in(
    relay: &Relay,
    indices: Range<usize>,
    purpose: Purpose,
    name: &(dyn Fn(usize) -> String + Sync),
) -> Vec<(Raw, Uid)> {
    let connections = Mutex::new(Vec::with_capacity(indices.len()));
    let next = AtomicUsize::new(indices.start);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= indices.end {
                        return;
                    }
                    let receive = Receive::TakeOver(AMPLE);
                    let (raw, welcome) = Raw::login(relay.address(), &name(index), purpose, receive);
                    connections.lock().unwrap().push((raw, welcome.uid));
                }
            });
        }
    });
    connections.into_inner().unwrap()
}
