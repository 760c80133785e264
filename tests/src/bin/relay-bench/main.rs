//! Measures the relay: throughput, CPU per message, latency, stored acknowledgements, idle connections.
//!
//! Owns: the command line and the JSON that it prints, one object per measurement. The work itself:
//! `load` (messages), `idle` (connections). The relay is the real binary on a port that the system
//! chose, pinned to one core where `taskset` is there, with the generator on another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a benchmark

mod idle;
mod load;

use std::process::Command;

use e2e_tests::process::{Directory, Relay, binary};

/// What the command line asks for.
struct Work {
    pairs: usize,
    size: usize,
    window: usize,
    seconds: f64,
    /// Messages a second, all pairs together; `None`: as many as go.
    rate: Option<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flags = getopts::Options::new();
    flags.optopt("", "pairs", "sender/receiver pairs (default: 16)", "P");
    flags.optopt("", "size", "bytes of an envelope, at least 8 (default: 128)", "S");
    flags.optopt("", "window", "messages in flight for each pair, up to 4000 (default: 64)", "W");
    flags.optopt("", "secs", "seconds to measure, after a tenth of it to warm up (default: 5)", "N");
    flags.optopt("", "rate", "messages a second in all, at fixed times (default: as many as go)", "R");
    flags.optflag("", "store", "nobody receives: count stored acknowledgements");
    flags.optflag(
        "",
        "stalled",
        "one recipient never reads: compare latencies with and without; needs --rate",
    );
    flags.optopt("", "idle", "log in N connections and measure what each costs", "N");
    flags.optflag("h", "help", "print this help and exit");
    let usage = |flags: &getopts::Options| {
        flags.usage("Usage: relay-bench [OPTION]...\nPrints JSON, one object a line.")
    };
    let matches = match flags.parse(&arguments) {
        Ok(matches) if matches.opt_present("h") => return print!("{}", usage(&flags)),
        Ok(matches) => matches,
        Err(error) => {
            eprintln!("relay-bench: error: {error}");
            std::process::exit(64);
        }
    };
    let number = |name: &str, default: f64| match matches.opt_str(name) {
        None => default,
        Some(text) => text.parse().unwrap_or_else(|_| {
            eprintln!("relay-bench: error: --{name} is a number, not '{text}'");
            std::process::exit(64);
        }),
    };
    let work = Work {
        pairs: number("pairs", 16.0) as usize,
        size: (number("size", 128.0) as usize).max(8),
        window: (number("window", 64.0) as usize).clamp(1, 4_000),
        seconds: number("secs", 5.0),
        rate: matches.opt_present("rate").then(|| number("rate", 0.0)),
    };
    pin_self();
    if matches.opt_present("idle") {
        return idle::run(number("idle", 0.0) as usize);
    }
    if matches.opt_present("store") {
        let directory = Directory::new();
        let relay = start(&directory);
        return println!("{}", load::stored(&relay, &work).json("e2e-relayd, stored"));
    }
    let without = {
        let directory = Directory::new();
        let relay = start(&directory);
        load::delivered(&relay, &work, false)
    };
    println!("{}", without.json("e2e-relayd"));
    if matches.opt_present("stalled") {
        let directory = Directory::new();
        let relay = start(&directory);
        let with = load::delivered(&relay, &work, true);
        let ratio = with.percentile(0.999) / without.percentile(0.999).max(1.0);
        let json = with.json("e2e-relayd, one recipient stalled");
        println!("{}", json.replace('}', &format!(",\"p999_ratio\":{ratio:.2}}}")));
    }
}

/// All the generator's connections come from one address, and its few senders fill whole mailboxes.
const GENEROUS: [&str; 18] = [
    "--limit",
    "share_bytes_max=67108864",
    "--limit",
    "share_messages_max=100000",
    "--limit",
    "sender_bytes_max=1000000000000",
    "--limit",
    "connections_per_address_max=20000",
    "--limit",
    "connections_per_address_minute=1000000",
    "--limit",
    "logins_per_address_minute=1000000",
    "--limit",
    "registrations_per_address_hour=1000000",
    "--limit",
    "names_max=1000000",
    "--limit",
    "connections_max=20000",
];

/// The relay, alone on the first core where it can be.
fn start(directory: &Directory) -> Relay {
    let state = directory.path().join("state");
    let relay = binary("e2e-relayd");
    if Command::new("taskset").arg("-V").output().is_ok_and(|output| output.status.success()) {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(relay);
        Relay::start_with(command, &state, &GENEROUS)
    } else {
        Relay::start(&state, &GENEROUS)
    }
}

/// Keeps the generator off the relay's core.
fn pin_self() {
    let id = std::process::id().to_string();
    let _ = Command::new("taskset").args(["-cp", "1", &id]).output();
}
