//! What the relay logs, seen from outside: the journal's levels, no flood, no names where they are hidden.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::process::Command;

use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_relayd::limits::LOG_LINES_AT_ONCE;
use e2e_tests::process::{Directory, Relay, binary};
use e2e_tests::raw::Raw;

/// A relay whose standard error is named in $JOURNAL_STREAM, or something else is.
fn start(directory: &Directory, stream: &str, arguments: &[&str]) -> Relay {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("JOURNAL_STREAM={stream} exec \"$0\" \"$@\"")]).arg(binary("e2e-relayd"));
    command.env_remove("RUST_LOG");
    Relay::start_with(command, &directory.path().join("state"), arguments)
}

/// Stops it, and gives all that it logged.
fn lines(mut relay: Relay) -> Vec<String> {
    assert_eq!(relay.stop("TERM"), Some(0));
    relay.log().lines().map(str::to_owned).collect()
}

fn register(relay: &Relay, name: &str) {
    let _ = Raw::login(relay.address(), name, Purpose::Register, Receive::No);
}

#[test]
fn speaks_to_the_journal_if_it_is_the_journal() {
    let directory = Directory::new();
    let relay = start(&directory, "$(stat -L -c %d:%i /proc/self/fd/2)", &["-v"]);
    register(&relay, "alice");
    let lines = lines(relay);
    let starts = |start: &str| lines.iter().any(|line| line.starts_with(start));
    assert!(
        starts("<6>e2e-relayd ")
            && starts("<6>registered alice")
            && starts("<7>connection 0 from 127.0.0.1:")
    );
    assert!(lines.iter().all(|line| line.starts_with('<')), "{lines:#?}");
    // Somebody inherited the variable and has redirected standard error.
    let relay = start(&directory, "1:2", &[]);
    let lines = self::lines(relay);
    assert!(lines.iter().all(|line| line.starts_with("[20") && line.contains("Z INFO  ")), "{lines:#?}");
}

#[test]
fn a_flood_of_registrations_leaves_room_in_the_log() {
    let directory = Directory::new();
    let relay = start(&directory, "1:2", &["--hide-names"]);
    let count = 2 * LOG_LINES_AT_ONCE;
    for index in 0..count {
        register(&relay, &format!("flooder{index}"));
    }
    let lines = lines(relay);
    let registered = lines.iter().filter(|line| line.contains("registered #")).count() as u64;
    assert!(registered >= LOG_LINES_AT_ONCE, "{registered} lines");
    let left_out: u64 = lines
        .iter()
        .filter_map(|line| {
            line.split_once(" more lines were left out here: ")?.0.rsplit(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    assert!(left_out > 0, "{lines:#?}");
    assert_eq!(registered + left_out, count, "each is there or accounted for");
    assert!(!lines.iter().any(|line| line.contains("flooder")), "{lines:#?}");
}
