//! Measures the relay: throughput, CPU per message, latency, stored acknowledgements, idle connections.
//!
//! Owns: the command line and the JSON that it prints, one object per measurement. The work itself:
//! `load` (messages), `idle` (connections), `growth` (how both change with what there is); the same for other systems: `peers`; all of it at once, with pictures: `report`. The relay is the real binary on a port that the system
//! chose, pinned to one core where `taskset` is there, with the generator on another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a benchmark

mod figures;
mod growth;
mod idle;
mod load;
mod peers;
mod picture;
mod populate;
mod report;
mod socket;

use std::path::Path;
use std::process::Command;

use e2e_tests::process::{Directory, Relay, binary};
use figures::Figures;
use peers::Task;

/// What the command line asks for.
#[derive(Clone, Copy)]
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
    flags.optopt("", "rounds", "of --stalled, with and without in turn; medians count (default: 5)", "N");
    flags.optopt("", "idle", "log in N connections and measure what each costs", "N");
    flags.optflagopt(
        "",
        "growth",
        "how cost grows with names, stored messages and connections, or with one of them, and a table",
        "OF",
    );
    flags.optflag(
        "",
        "peers",
        "the same for nats-server, redis and mosquitto, where they are installed, and a table",
    );
    flags.optopt("", "report", "all of it, as JSON, tables and pictures in DIR; takes some minutes", "DIR");
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
    if let Some(directory) = matches.opt_str("report") {
        return report::write(Path::new(&directory));
    }
    pin_self();
    if matches.opt_present("growth") {
        return growth::run(&work, &matches.opt_str("growth").unwrap_or_default());
    }
    let peers = matches.opt_present("peers");
    if matches.opt_present("idle") {
        let count = number("idle", 0.0) as usize;
        idle::run(count);
        if peers {
            peers::measure_idle(count, &mut |name, bytes| {
                println!(
                    "{{\"system\":\"{name}, idle\",\"connections\":{count},\"bytes_per_connection\":{bytes}}}"
                );
            });
        }
        return;
    }
    let task = match (matches.opt_present("store"), matches.opt_present("stalled")) {
        (true, _) => Task::Stored,
        (false, true) => Task::Stalled,
        (false, false) => Task::Delivered,
    };
    if task == Task::Stalled && work.rate.is_none() {
        eprintln!("relay-bench: error: --stalled needs --rate");
        std::process::exit(64);
    }
    let mut table = Table::default();
    if task == Task::Stalled {
        let rounds = (number("rounds", 5.0) as usize).max(1);
        measure_stalled(&work, rounds, peers, &mut table);
    } else {
        all(&work, task, peers, &mut |name, figures| table.add(name, figures));
    }
    if peers || task == Task::Stalled {
        table.print();
    }
}

/// The relay, and the peers if they are wanted, one after the other.
fn all(work: &Work, task: Task, peers: bool, see: &mut dyn FnMut(&str, Figures)) {
    see("e2e-relayd", ours(work, task));
    if peers {
        peers::measure(work, task, see);
    }
}

/// Each system without and with a stalled recipient in turn, so that a noisy machine is as noisy for both; of each the
/// round with the median p99.9 counts.
fn measure_stalled(work: &Work, rounds: usize, peers: bool, table: &mut Table) {
    let mut found: Vec<(String, [Vec<Figures>; 2])> = Vec::new();
    for _ in 0..rounds {
        for (which, task) in [Task::Delivered, Task::Stalled].into_iter().enumerate() {
            all(work, task, peers, &mut |name, figures| {
                let at = found.iter().position(|(of, _)| of == name).unwrap_or(found.len());
                if at == found.len() {
                    found.push((name.to_owned(), [Vec::new(), Vec::new()]));
                }
                found[at].1[which].push(figures);
            });
        }
    }
    for (name, measured) in found {
        let [without, with] = measured.map(median_by_p999);
        table.add(&name, without);
        table.add_stalled(&name, with);
    }
}

fn median_by_p999(mut rounds: Vec<Figures>) -> Figures {
    rounds.sort_by(|a, b| a.percentile(0.999).total_cmp(&b.percentile(0.999)));
    rounds.swap_remove(rounds.len() / 2)
}

/// The relay under this work.
fn ours(work: &Work, task: Task) -> Figures {
    let directory = Directory::new();
    let relay = start(&directory);
    match task {
        Task::Stored => load::stored(&relay, work),
        Task::Delivered => load::delivered(&relay, work, false),
        Task::Stalled => load::delivered(&relay, work, true),
    }
}

/// What was measured so far, in order.
#[derive(Default)]
struct Table(Vec<(String, Figures)>);

impl Table {
    fn add(&mut self, system: &str, figures: Figures) {
        println!("{}", figures.json(system));
        self.0.push((system.to_owned(), figures));
    }

    /// One recipient never read: prints how much later the others' messages came.
    fn add_stalled(&mut self, system: &str, with: Figures) {
        let without = self.0.iter().find(|(of, _)| of == system);
        let ratio =
            without.map_or(0.0, |(_, without)| with.percentile(0.999) / without.percentile(0.999).max(1.0));
        let name = format!("{system}, one recipient stalled");
        println!("{}", with.json(&name).replace('}', &format!(",\"p999_ratio\":{ratio:.2}}}")));
        self.0.push((name, with));
    }

    /// For people, on standard error.
    fn print(&self) {
        let width = self.0.iter().map(|(system, _)| system.len()).max().unwrap_or(0);
        eprintln!(
            "{:<width$} {:>12} {:>11} {:>9} {:>9} {:>9} {:>9}",
            "", "messages/s", "CPU us/msg", "p50 us", "p99 us", "p99.9 us", "MiB"
        );
        for (system, figures) in &self.0 {
            eprintln!(
                "{system:<width$} {:>12.0} {:>11.3} {:>9.0} {:>9.0} {:>9.0} {:>9.1}",
                figures.per_second(),
                figures.cpu_us(),
                figures.percentile(0.5),
                figures.percentile(0.99),
                figures.percentile(0.999),
                figures.rss_bytes as f64 / 1_048_576.0
            );
        }
    }
}

/// All the generator's connections come from one address, and its few senders fill whole mailboxes.
const GENEROUS: [&str; 18] = [
    "--limit",
    "share_bytes_max=1000000000",
    "--limit",
    "share_messages_max=1000000",
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
    "names_max=2000000",
    "--limit",
    "connections_max=20000",
];

/// The relay, alone on the first core where it can be.
fn start(directory: &Directory) -> Relay {
    Relay::start_with(pinned(&binary("e2e-relayd")), &directory.path().join("state"), &GENEROUS)
}

/// A program that is to run on the first core, where that can be said.
fn pinned(program: &Path) -> Command {
    if Command::new("taskset").arg("-V").output().is_ok_and(|output| output.status.success()) {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Keeps the generator off the relay's core.
fn pin_self() {
    let id = std::process::id().to_string();
    let _ = Command::new("taskset").args(["-cp", "1", &id]).output();
}
