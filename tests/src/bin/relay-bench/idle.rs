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

/// Logs in `count` connections, each with a name of its own and receiving, and prints their cost.
pub(crate) fn run(count: usize) {
    let directory = Directory::new();
    let relay = super::start(&directory);
    let open = |from, to| log_in(&relay, from..to, Purpose::Register, &|index| format!("idle{index}"));
    let at_rest = resident_bytes(relay.id());
    let first = open(0, FIRST);
    let before = resident_bytes(relay.id());
    let others = open(FIRST, FIRST + count);
    let after = resident_bytes(relay.id());
    drop((first, others));
    let per_connection = after.saturating_sub(before) / (count as u64).max(1);
    println!(
        "{{\"system\":\"e2e-relayd, idle\",\"connections\":{count},\"bytes_per_connection\":{per_connection},\
         \"rss_at_rest_bytes\":{at_rest},\"rss_bytes\":{after},\"cpu_secs\":{:.2}}}",
        cpu_seconds(relay.id())
    );
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
