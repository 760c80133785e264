//! How cost grows (`--growth`): with connections, with names, with what waits in mailboxes.
//!
//! Owns: which sizes there are, what is measured at each, and the table. What lies on the disk: `populate`.
//!
//! At each size a relay of its own starts on a state directory that was made for it, busy pairs send as fast as they can, three
//! times, and the median counts. Then it is killed and started, three times. Connections are measured twice: all but the pairs idle, and
//! the pairs' senders sending to all in turn, so that a message meets a connection that did nothing for a while.

use std::time::{Duration, Instant};

use e2e_protocol::wire::session::Purpose;
use e2e_tests::process::{Directory, Relay, resident_bytes};

use super::figures::Figures;
use super::populate::{MAILBOX_MESSAGES, name, populate};
use super::{Work, idle, load};

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Names that are registered.
    Names,
    /// Messages that wait on the disk.
    Backlog,
    /// Connections that are logged in, each with a name of its own, of which only the pairs' are busy.
    Connections,
    /// The same, and what the senders send goes to all others in turn.
    Busy,
}

impl Of {
    fn word(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Backlog => "stored messages",
            Self::Connections => "connections, idle",
            Self::Busy => "connections, in turn",
        }
    }
}

const SIZES: [(Of, [usize; 3]); 4] = [
    (Of::Names, [0, 10_000, 1_000_000]),
    (Of::Backlog, [0, 10_000, 1_000_000]),
    (Of::Connections, [10, 1_000, 15_000]),
    (Of::Busy, [10, 1_000, 15_000]),
];

/// Measurements at each size, of which the median counts.
const ROUNDS: usize = 3;
/// The pairs where connections are counted: all ten of the smallest size.
const CONNECTION_PAIRS: usize = 5;
/// Until what a start took for a moment is given back.
const SETTLING: Duration = Duration::from_millis(300);

/// One size.
struct Cell {
    of: Of,
    count: usize,
    per_second: f64,
    cpu_us: f64,
    rss_bytes: u64,
    /// Beyond a relay without any.
    bytes_per_unit: u64,
    start_ms: f64,
    start_after_kill_ms: f64,
}

/// Measures all sizes; `only` limits them to those whose word begins so.
pub(crate) fn run(work: &Work, only: &str) {
    let mut cells = Vec::new();
    for (of, counts) in SIZES.into_iter().filter(|(of, _)| of.word().starts_with(only)) {
        let mut without = None;
        for count in counts {
            let cell = measure(work, of, count, &mut without);
            println!("{}", cell.json());
            cells.push(cell);
        }
    }
    print(&cells);
}

/// `without`: what a relay without any takes, once it is known.
fn measure(work: &Work, of: Of, count: usize, without: &mut Option<u64>) -> Cell {
    let directory = Directory::new();
    let state = directory.path().join("state");
    let (names, messages) = match of {
        Of::Names => (count, 0),
        Of::Backlog => (SIZES[1].1[2] / MAILBOX_MESSAGES + 1, count),
        Of::Connections | Of::Busy => (0, 0),
    };
    populate(&state, names, messages);
    let (mut relay, start_ms) = start(&directory);
    std::thread::sleep(SETTLING);
    let at_rest = resident_bytes(relay.id());
    let (figures, with) = match of {
        Of::Names | Of::Backlog => (rounds(|| load::delivered(&relay, work, false)), at_rest),
        Of::Connections | Of::Busy => connected(&relay, work, of, count),
    };
    let without = *without.get_or_insert(at_rest);
    let mut starts: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            relay.kill();
            let (next, start_ms) = start(&directory);
            relay = next;
            start_ms
        })
        .collect();
    starts.sort_by(f64::total_cmp);
    Cell {
        of,
        count,
        per_second: figures.per_second(),
        cpu_us: figures.cpu_us(),
        rss_bytes: with,
        bytes_per_unit: with.saturating_sub(without) / (count as u64).max(1),
        start_ms,
        start_after_kill_ms: starts[ROUNDS / 2],
    }
}

/// With so many connections logged in; also the memory once they are.
fn connected(relay: &Relay, work: &Work, of: Of, count: usize) -> (Figures, u64) {
    let work = Work { pairs: CONNECTION_PAIRS, ..*work };
    let beside = if of == Of::Busy { count - work.pairs } else { count - 2 * work.pairs };
    let mut others = idle::log_in(relay, 0..beside, Purpose::Register, &name);
    let with = resident_bytes(relay.id());
    let figures = match of {
        // It keeps its connections to its end; so those that were busy do nothing any more in the next round.
        Of::Busy => load::in_turn(relay, &work, std::mem::take(&mut others)),
        _ => rounds(|| load::delivered(relay, &work, false)),
    };
    (figures, with)
}

/// The median of several measurements, by their processor time.
fn rounds(mut one: impl FnMut() -> Figures) -> Figures {
    let mut all: Vec<Figures> = (0..ROUNDS).map(|_| one()).collect();
    all.sort_by(|a, b| a.cpu_us().total_cmp(&b.cpu_us()));
    all.swap_remove(ROUNDS / 2)
}

/// A relay, and the milliseconds until it said that it listens.
fn start(directory: &Directory) -> (Relay, f64) {
    let begun = Instant::now();
    let relay = super::start(directory);
    (relay, begun.elapsed().as_secs_f64() * 1e3)
}

impl Cell {
    fn json(&self) -> String {
        format!(
            "{{\"system\":\"e2e-relayd, growth\",\"of\":\"{}\",\"count\":{},\"msgs_per_s\":{:.0},\"cpu_us_per_msg\":{:.3},\
             \"rss_bytes\":{},\"bytes_per_unit\":{},\"start_ms\":{:.0},\"start_after_kill_ms\":{:.0}}}",
            self.of.word(),
            self.count,
            self.per_second,
            self.cpu_us,
            self.rss_bytes,
            self.bytes_per_unit,
            self.start_ms,
            self.start_after_kill_ms
        )
    }
}

/// For people, on standard error, with what the largest is to the smallest.
fn print(cells: &[Cell]) {
    eprintln!(
        "{:<22} {:>9} {:>11} {:>11} {:>9} {:>11} {:>9} {:>16}",
        "", "count", "messages/s", "CPU us/msg", "MiB", "bytes each", "start ms", "after a kill ms"
    );
    for cell in cells {
        eprintln!(
            "{:<22} {:>9} {:>11.0} {:>11.3} {:>9.1} {:>11} {:>9.0} {:>16.0}",
            cell.of.word(),
            cell.count,
            cell.per_second,
            cell.cpu_us,
            cell.rss_bytes as f64 / 1_048_576.0,
            cell.bytes_per_unit,
            cell.start_ms,
            cell.start_after_kill_ms
        );
    }
    for (of, _) in SIZES {
        let of_it: Vec<&Cell> = cells.iter().filter(|cell| cell.of == of).collect();
        let [smallest, middle, largest] = of_it[..] else { continue };
        eprintln!(
            "{}: CPU per message of the largest to the smallest {:.2}, memory each {:.2} (to {})",
            of.word(),
            largest.cpu_us / smallest.cpu_us,
            largest.bytes_per_unit as f64 / (middle.bytes_per_unit as f64).max(1.0),
            middle.count
        );
    }
}
