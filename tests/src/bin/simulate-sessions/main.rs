//! Simulates the end-to-end layer under faults, seed after seed (docs/sessions.md).
//!
//! Owns: the command line, the threads, and the JSON that it prints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test tool

use std::process::ExitCode;

use e2e_protocol::e2e::Profile;
use e2e_tests::seeds::run_all;
use e2e_tests::sessions::{Counts, Trouble, make_keys, offline, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flags = getopts::Options::new();
    flags.optopt("", "seeds", "so many seeds (default: 1000)", "N");
    flags.optopt("", "from", "the first of them (default: 0)", "SEED");
    flags.optopt("", "threads", "so many at a time (default: 1)", "T");
    flags.optflag("", "trace", "tell on standard error what happens");
    flags.optopt("", "offline", "instead: N messages to who is not there", "N");
    flags.optflag("", "make-keys", "print a new tests/src/sessions/keys.txt");
    flags.optflag("h", "help", "print this help and exit");
    let matches = match flags.parse(&arguments) {
        Ok(matches) => matches,
        Err(error) => {
            eprintln!("simulate-sessions: error: {error}");
            return ExitCode::from(64);
        }
    };
    if matches.opt_present("h") {
        print!("{}", flags.usage("Usage: simulate-sessions [OPTION]...\nPrints one JSON object."));
        return ExitCode::SUCCESS;
    }
    if matches.opt_present("make-keys") {
        print!("{}", make_keys());
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: u64| match matches.opt_str(name) {
        None => default,
        Some(text) => text.parse().unwrap_or_else(|_| {
            eprintln!("simulate-sessions: error: --{name} is a number, not '{text}'");
            std::process::exit(64);
        }),
    };
    if matches.opt_present("offline") {
        return send_offline(number("offline", 0));
    }
    simulate(number("from", 0), number("seeds", 1_000), number("threads", 1), matches.opt_present("trace"))
}

fn simulate(from: u64, seeds: u64, threads: u64, trace: bool) -> ExitCode {
    std::panic::set_hook(Box::new(|_| ()));
    let seeds = from..from.saturating_add(seeds);
    let (counts, failed) = run_all(seeds, threads, |seed| run(seed, trace), Counts::plus);
    println!("{}", counts.json(failed));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn send_offline(messages: u64) -> ExitCode {
    let mut failed = false;
    for profile in [Profile::Light, Profile::Strict] {
        for trouble in [Trouble::Nothing, Trouble::LastLost, Trouble::Restarts(messages / 4 + 1)] {
            let report = offline(messages, profile, trouble);
            println!("{}", report.json(profile, trouble));
            for violation in &report.violations {
                eprintln!("{profile:?}, {trouble:?}: {violation}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
