//! Lets two clients talk through the real relay, with all three restarted in between, and prints a JSON object
//! for each conversation. It ends with a panic if a message does not arrive, in order, once.
//!
//! Owns: the command line. The work is `e2e_tests::converse`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use e2e_protocol::e2e::Profile;
use e2e_tests::converse::{Talk, converse, write_to_who_is_away};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flags = getopts::Options::new();
    flags.optopt("", "messages", "messages each way (default: 5000)", "N");
    flags.optopt("", "restarts", "restarts of each of the three (default: 10)", "R");
    flags.optopt("", "profile", "strict or light (default: one after the other)", "P");
    flags.optflag("", "offline", "one way, to who comes only when all are stored");
    flags.optflag("h", "help", "print this help and exit");
    let matches = flags.parse(&arguments).unwrap_or_else(|error| usage_error(&error.to_string()));
    if matches.opt_present("h") {
        return print!(
            "{}",
            flags.usage("Usage: converse [OPTION]...\nPrints JSON, one object a conversation.")
        );
    }
    let number = |name: &str, default: u64| match matches.opt_str(name) {
        None => default,
        Some(text) => text.parse().unwrap_or_else(|_| usage_error(&format!("--{name} takes a number"))),
    };
    let (messages, restarts) = (number("messages", 5_000), number("restarts", 10));
    let profiles = match matches.opt_str("profile").as_deref() {
        None => vec![Profile::Strict, Profile::Light],
        Some("strict") => vec![Profile::Strict],
        Some("light") => vec![Profile::Light],
        Some(_) => usage_error("--profile takes strict or light"),
    };
    for profile in profiles {
        if matches.opt_present("offline") {
            let offline = write_to_who_is_away(messages, profile);
            let profile = if profile.wraps() { "strict" } else { "light" };
            println!(
                "{{\"profile\":\"{profile}\",\"messages_to_who_is_away\":{messages},\"stored_secs\":{:.1},\
                 \"shown_secs\":{:.1},\"arrived_in_order_once\":true}}",
                offline.stored_seconds, offline.shown_seconds
            );
            continue;
        }
        let seconds = converse(Talk { messages, profile, restarts });
        let profile = if profile.wraps() { "strict" } else { "light" };
        println!(
            "{{\"profile\":\"{profile}\",\"messages_each_way\":{messages},\"restarts_of_each\":{restarts},\
             \"arrived_in_order_once\":true,\"secs\":{seconds:.1}}}"
        );
    }
}

fn usage_error(error: &str) -> ! {
    eprintln!("converse: error: {error}");
    std::process::exit(64);
}
