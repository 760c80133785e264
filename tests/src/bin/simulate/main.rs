//! Simulates the relay under faults, seed after seed (docs/simulation.md).
//!
//! Owns: the command line, the threads, and the JSON that it prints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test tool

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use e2e_tests::relay_sim::{Counts, Defect, run};

/// Failing seeds that are printed.
const SHOWN_MAX: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flags = getopts::Options::new();
    flags.optopt("", "seeds", "so many seeds (default: 1000)", "N");
    flags.optopt("", "from", "the first of them (default: 0)", "SEED");
    flags.optopt("", "threads", "so many at a time (default: 1)", "T");
    flags.optopt("", "defect", "break something: the checks have to find it", "NAME");
    flags.optflag("", "trace", "tell on standard error what happens");
    flags.optflag("h", "help", "print this help and exit");
    let matches = match flags.parse(&arguments) {
        Ok(matches) => matches,
        Err(error) => return usage_error(&error.to_string()),
    };
    if matches.opt_present("h") {
        print!("{}", flags.usage("Usage: simulate [OPTION]...\nPrints one JSON object."));
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: u64| match matches.opt_str(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("--{name} is a number, not '{text}'")),
    };
    let defect = matches.opt_str("defect").map(|name| name.parse::<Defect>()).transpose();
    match (number("from", 0), number("seeds", 1_000), number("threads", 1), defect) {
        (Ok(from), Ok(seeds), Ok(threads), Ok(defect)) => {
            simulate(from, seeds, threads, defect, matches.opt_present("trace"))
        }
        (Err(error), ..) | (_, Err(error), ..) | (_, _, Err(error), _) | (.., Err(error)) => {
            usage_error(&error)
        }
    }
}

fn usage_error(error: &str) -> ExitCode {
    eprintln!("simulate: error: {error}");
    ExitCode::from(64)
}

fn simulate(from: u64, seeds: u64, threads: u64, defect: Option<Defect>, trace: bool) -> ExitCode {
    let next = AtomicU64::new(from);
    let done = Mutex::new((Counts::default(), 0_usize));
    std::panic::set_hook(Box::new(|_| ()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from.saturating_add(seeds) {
                        return;
                    }
                    let outcome = run(seed, defect, trace);
                    let mut done = done.lock().unwrap();
                    done.0 = std::mem::take(&mut done.0).plus(&outcome.counts);
                    if let Some(first) = outcome.violations.first() {
                        if done.1 < SHOWN_MAX {
                            eprintln!("seed {seed}: {first}");
                        }
                        done.1 += 1;
                    }
                }
            });
        }
    });
    let (counts, failed) = done.into_inner().unwrap();
    println!("{}", counts.json(failed));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
