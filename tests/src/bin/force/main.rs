//! Puts the real relay through faults under load, and prints a JSON object (docs/faults.md). It exits with 1 if
//! anything accepted was lost.
//!
//! Owns: the command line. The work is `e2e_tests::force`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test tool

use std::process::ExitCode;

use e2e_tests::force::{Fault, Ordeal, endure, kill_clients, restart_with};
use e2e_tests::process::Directory;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flags = getopts::Options::new();
    flags.optopt("", "pairs", "senders, each with a receiver (default: 4)", "N");
    flags.optopt("", "kills", "SIGKILLs of the relay (default: 100)", "N");
    flags.optopt("", "pauses", "SIGSTOPs of the relay (default: 0)", "N");
    flags.optopt("", "cuts", "times that connections are cut in the middle of a frame (default: 0)", "N");
    flags.optopt("", "stored", "instead: store N messages, SIGKILL, collect them", "N");
    flags.optopt("", "envelope", "bytes of each of those (default: 128)", "BYTES");
    flags.optopt(
        "",
        "clients",
        "instead: N rounds of the real client, in each of which somebody is killed",
        "N",
    );
    flags.optopt("", "calm", "between two faults, milliseconds, one to two times (default: 150)", "MS");
    flags.optopt("", "seed", "what chance decides (default: 1)", "SEED");
    flags.optflag("h", "help", "print this help and exit");
    let matches = match flags.parse(&arguments) {
        Ok(matches) => matches,
        Err(error) => return usage_error(&error.to_string()),
    };
    if matches.opt_present("h") {
        print!("{}", flags.usage("Usage: force [OPTION]...\nPrints one JSON object."));
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: u64| match matches.opt_str(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("--{name} is a number, not '{text}'")),
    };
    let others = number("stored", 0)
        .and_then(|stored| Ok((stored, number("clients", 0)?, number("envelope", 128)? as usize)));
    match others {
        Ok((0, 0, _)) => {}
        Ok((0, rounds, _)) => {
            println!("{}", kill_clients(rounds, 1).json());
            return ExitCode::SUCCESS;
        }
        Ok((messages, _, bytes)) => {
            let directory = Directory::new();
            println!("{}", restart_with(messages, bytes, &directory.path().join("state")).json());
            return ExitCode::SUCCESS;
        }
        Err(error) => return usage_error(&error),
    }
    match ordeal(number) {
        Ok(ordeal) => {
            let directory = Directory::new();
            let survived = endure(&ordeal, &directory.path().join("state"));
            println!("{}", survived.json(&ordeal));
            if survived.lost + survived.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => usage_error(&error),
    }
}

fn ordeal(number: impl Fn(&str, u64) -> Result<u64, String>) -> Result<Ordeal, String> {
    let counts = [number("kills", 100)?, number("pauses", 0)?, number("cuts", 0)?];
    // Spread over the whole time, however many there are of each.
    let mut faults: Vec<(u64, Fault)> = Vec::new();
    for (count, fault) in counts.into_iter().zip([Fault::Kill, Fault::Pause, Fault::Cut]) {
        faults.extend((0..count).map(|number| (number * 1_000_000 / count, fault)));
    }
    faults.sort_by_key(|(at, _)| *at);
    Ok(Ordeal {
        pairs: number("pairs", 4)? as usize,
        faults: faults.into_iter().map(|(_, fault)| fault).collect(),
        calm_ms: number("calm", 150)?.max(1),
        seed: number("seed", 1)?,
    })
}

fn usage_error(error: &str) -> ExitCode {
    eprintln!("force: error: {error}");
    ExitCode::from(64)
}
