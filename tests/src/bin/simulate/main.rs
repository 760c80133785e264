//! Simulates the relay under faults, seed after seed (docs/simulation.md).
//!
//! Owns: the command line, the threads, and the JSON that it prints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test tool

use std::process::ExitCode;

use e2e_tests::relay_sim::{Counts, Defect, run};
use e2e_tests::seeds::run_all;

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
    std::panic::set_hook(Box::new(|_| ()));
    let seeds = from..from.saturating_add(seeds);
    let (counts, failed) = run_all(seeds, threads, |seed| run(seed, defect, trace), Counts::plus);
    println!("{}", counts.json(failed));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
