//! The metrics page and the status page, of a relay in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod core_common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use core_common::*;
use e2e_protocol::wire::session::Receive;
use e2e_relayd::metrics::{self, LoopFigures, Sources};
use e2e_relayd::reason::Reason;
use e2e_relayd::store::{BUCKETS_US, Durations, Figures};
use e2e_relayd::{process, status};

const OPERATING: &str = include_str!("../../docs/operating.md");

/// A relay in which something has happened: bob, away, has two messages, of which one was said twice.
fn busy() -> World {
    let mut world = World::with_limits(|limits| limits.mailbox_messages_max = 2);
    world.claim("bob");
    let alice = world.register("alice", TAKE_OVER);
    let to = world.uid("bob");
    world.send_all(alice, to, 1, 3);
    world.settle();
    world.send(alice, to, 1, 1, &1_u64.to_be_bytes());
    world.settle();
    world.login("alice", Receive::No);
    world
}

fn store() -> Figures {
    let mut commits = Durations { sum_us: 12_345_678, ..Durations::default() };
    (commits.counts[1], commits.counts[3], commits.counts[BUCKETS_US.len()]) = (7, 2, 1);
    Figures { commits, failures: 3, is_failing: true, in_flight_bytes: 4_096, ..Figures::default() }
}

fn with<T>(world: &World, show: impl FnOnce(Sources<'_>) -> T) -> T {
    let event_loop = LoopFigures { turns: 9, accepting_is_paused: true, ..LoopFigures::default() };
    let process = process::Figures {
        cpu_seconds: 1.25,
        resident_bytes: 5 << 20,
        start_seconds: 1_709_251_199.5,
        open_files: 12,
        open_files_max: 1_024,
        ..process::Figures::default()
    };
    show(Sources { core: &world.core, store: &store(), event_loop: &event_loop, process: &process })
}

/// Each series with its value.
fn series(page: &str) -> BTreeMap<&str, f64> {
    let lines: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
    let series: BTreeMap<_, _> = lines
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    assert_eq!(series.len(), lines.len(), "none is there twice");
    series
}

#[test]
fn promtool_accepts_the_page() {
    let page = with(&busy(), metrics::page);
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return println!("skipped: there is no promtool");
        }
        promtool => promtool.unwrap(),
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{said:?}");
    assert_eq!(said, ["", ""], "no complaint");
}

#[test]
fn every_reason_has_a_series_zero_or_not() {
    let world = busy();
    let page = with(&world, metrics::page);
    let series = series(&page);
    let reasons = series.iter().filter(|(name, _)| name.starts_with("e2e_relayd_reasons_total{"));
    assert_eq!(reasons.clone().count(), Reason::ALL.len());
    let happened: Vec<_> = reasons.filter(|(_, value)| **value > 0.0).map(|(name, _)| *name).collect();
    let expected = ["CONNECTION_LOST", "MAILBOX_FULL"];
    assert_eq!(happened, expected.map(|reason| format!("e2e_relayd_reasons_total{{reason=\"{reason}\"}}")));
}

#[test]
fn says_what_was_counted() {
    let world = busy();
    let page = with(&world, metrics::page);
    let series = series(&page);
    let expected = [
        ("e2e_relayd_messages_accepted_total", 2.0),
        ("e2e_relayd_envelopes_accepted_bytes_total", 16.0),
        ("e2e_relayd_messages_refused_total", 1.0),
        ("e2e_relayd_messages_repeated_total", 1.0),
        ("e2e_relayd_messages_stored_total", 2.0),
        ("e2e_relayd_registrations_total", 2.0),
        ("e2e_relayd_logins_total", 3.0),
        ("e2e_relayd_names", 2.0),
        ("e2e_relayd_connections", 2.0),
        ("e2e_relayd_receivers", 1.0),
        ("e2e_relayd_mailbox_messages{place=\"memory\"}", 0.0),
        ("e2e_relayd_mailbox_messages{place=\"store\"}", 2.0),
        ("e2e_relayd_mailbox_bytes{place=\"store\"}", 144.0),
        ("e2e_relayd_loop_turns_total", 9.0),
        ("e2e_relayd_accept_paused", 1.0),
        ("e2e_relayd_store_failing", 1.0),
        ("e2e_relayd_store_failures_total", 3.0),
        ("e2e_relayd_store_in_flight_bytes", 4_096.0),
        ("e2e_relayd_disk_low", 0.0),
        ("process_cpu_seconds_total", 1.25),
        ("process_start_time_seconds", 1_709_251_199.5),
        ("process_open_fds", 12.0),
    ];
    for (name, value) in expected {
        assert_eq!(series.get(name), Some(&value), "{name}");
    }
    assert!(!page.contains("alice") && !page.contains("bob"), "nobody is named");
}

#[test]
fn buckets_add_up() {
    let page = with(&busy(), metrics::page);
    let series = series(&page);
    let bucket = |end: &str| series[&*format!("e2e_relayd_store_commit_seconds_bucket{{le=\"{end}\"}}")];
    let ends = ["0.0005", "0.001", "0.0025", "0.005", "0.5", "1", "10", "+Inf"];
    assert_eq!(ends.map(bucket), [0.0, 7.0, 7.0, 9.0, 9.0, 9.0, 9.0, 10.0]);
    assert_eq!(series["e2e_relayd_store_commit_seconds_count"], 10.0);
    assert_eq!(series["e2e_relayd_store_commit_seconds_sum"], 12.345678);
}

#[test]
fn the_manual_lists_every_metric_and_every_reason_and_no_other() {
    let page = with(&busy(), metrics::page);
    let mut listed = BTreeSet::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            let kind = page
                .lines()
                .find_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' '))
                .unwrap();
            let row = format!("| `{name}` | {kind} | {help} |");
            assert!(OPERATING.lines().any(|line| line == row), "docs/operating.md lacks\n{row}");
            listed.insert(row);
        }
    }
    for reason in Reason::ALL {
        if let Some(meaning) = reason.meaning() {
            let row = format!("| `{reason}` | {meaning} |");
            assert!(OPERATING.lines().any(|line| line == row), "docs/operating.md lacks\n{row}");
            listed.insert(row);
        }
    }
    let rows =
        OPERATING.lines().filter(|line| line.starts_with("| `e2e_") || line.starts_with("| `process_"));
    let rows: Vec<_> = rows.filter(|row| !listed.contains(*row)).collect();
    assert_eq!(rows, [] as [&str; 0], "metrics that are none");
}

#[test]
fn the_status_page_says_how_it_is_in_a_few_lines() {
    let world = busy();
    let addresses = ["127.0.0.1:5001".to_owned(), "[::1]:5001".to_owned()];
    let page = with(&world, |sources| status::page(sources, &addresses, 1_709_251_200 + 7_200));
    let expected = [
        concat!("e2e-relayd ", env!("CARGO_PKG_VERSION"), ", since 2024-02-29T23:59:59Z (2 h 0 min)"),
        "listens on   127.0.0.1:5001 [::1]:5001",
        "2 of 32768 registered, 1 receiving",
        "2 of 16384 open, 0 before login; 3 opened; PAUSED",
        "2 accepted (16 B), 0 collected, 0 rejected, 0 expired; 1 refused; 2 stored",
        "2 messages and notices (144 B), 0 of them (0 B) in memory only",
        "FAILING: nothing is stored; failed 3 times, 4.0 KiB on their way",
        "10; half of them within 1 ms, 99 of 100 in more than 10 s",
        "5.0 MiB of ",
        "12 of 1024 files open, 1.2 s of processor time",
        "1  MAILBOX_FULL",
        "1  CONNECTION_LOST         The socket failed: reset, or gone.",
    ];
    for part in expected {
        assert!(page.contains(part), "{part}\nis not in\n{page}");
    }
    assert!(page.lines().count() < 20, "{page}");
    let quiet = with(&World::new(), |sources| status::page(sources, &addresses, 0));
    assert!(quiet.contains("by reason:\n  none\n"), "{quiet}");
}
