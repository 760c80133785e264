//! The status page: what the relay is busy with and how it is, for a person.
//!
//! Owns: the words. The figures are those of the metrics page (`crate::metrics`). Must not know how the page is asked for.

use std::fmt::Write as _;

use crate::core::ceiling;
use crate::core::counters::Gauges;
use crate::logging;
use crate::metrics::Sources;
use crate::reason::Reason;
use crate::store::{self, Durations};

/// The page, some 20 lines. `addresses` are where the relay listens, `now_seconds` is the time, Unix seconds.
#[must_use]
pub fn page(sources: Sources<'_>, addresses: &[String], now_seconds: u64) -> String {
    let Sources { core, store, event_loop, process } = sources;
    let (gauges, limits, totals) = (core.gauges(), core.limits(), core.counters().totals());
    let started_seconds = process.start_seconds as u64;
    let mut page = Page(String::new());
    page.put(format_args!(
        "e2e-relayd {}, since {} ({}){}\n",
        env!("CARGO_PKG_VERSION"),
        utc(started_seconds),
        duration(now_seconds.saturating_sub(started_seconds)),
        if gauges.is_stopping { ", stopping" } else { "" },
    ));
    page.line("listens on", &addresses.join(" "));
    page.line(
        "names",
        &format!("{} of {} registered, {} receiving", gauges.names, limits.names_max, gauges.receivers),
    );
    page.line(
        "connections",
        &format!(
            "{} of {} open, {} before login; {} opened{}",
            gauges.connections,
            limits.connections_max,
            gauges.before_login,
            totals.connections,
            if event_loop.accepting_is_paused { "; PAUSED: the system has no more sockets" } else { "" },
        ),
    );
    page.line(
        "messages",
        &format!(
            "{} accepted ({}), {} collected, {} rejected, {} expired; {} refused; {} stored meanwhile",
            totals.accepted,
            bytes(totals.accepted_bytes),
            totals.collected,
            totals.rejected,
            core.counters().of(Reason::MessageExpired),
            totals.refused,
            totals.stored,
        ),
    );
    page.line("waiting", &waiting(&gauges));
    page.line("store", &state(store, &gauges));
    page.line("commits", &durations(&store.commits));
    page.line("reads", &durations(&store.reads));
    page.line(
        "memory",
        &format!(
            "{} of {} at most; messages {}, output {}, backlogs {}",
            bytes(process.resident_bytes),
            bytes(ceiling::bytes_max(limits)),
            bytes(count(gauges.message_bytes)),
            bytes(count(gauges.output_bytes)),
            bytes(count(gauges.backlog_bytes)),
        ),
    );
    page.line(
        "process",
        &format!(
            "{} of {} files open, {:.1} s of processor time, {} log lines left out",
            process.open_files,
            process.open_files_max,
            process.cpu_seconds,
            logging::lines_left_out(),
        ),
    );
    page.reasons(sources);
    page.0
}

fn waiting(gauges: &Gauges) -> String {
    let waiting = gauges.waiting;
    format!(
        "{} messages and notices ({}), {} of them ({}) in memory only; {} delivered and not acknowledged",
        waiting.messages,
        bytes(waiting.bytes),
        waiting.messages.saturating_sub(waiting.stored_messages),
        bytes(waiting.bytes.saturating_sub(waiting.stored_bytes)),
        gauges.unacknowledged,
    )
}

fn state(store: &store::Figures, gauges: &Gauges) -> String {
    let works = match (store.is_failing || gauges.store_is_failing, store.disk_is_low) {
        (true, _) => "FAILING: nothing is stored",
        (false, true) => "DISK LOW: nothing new is taken to be stored",
        (false, false) => "works",
    };
    let (failures, in_flight) = (store.failures, bytes(count(store.in_flight_bytes)));
    format!("{works}; failed {failures} times, {in_flight} on their way to the disk")
}

fn durations(durations: &Durations) -> String {
    let below = |per_mille: u64| match durations.below_us(per_mille) {
        Some(end_us) => format!("within {} ms", end_us as f64 / 1e3),
        None => "in more than 10 s".to_owned(),
    };
    match durations.count() {
        0 => "none".to_owned(),
        count => format!("{count}; half of them {}, 99 of 100 {}", below(500), below(990)),
    }
}

struct Page(String);

impl Page {
    /// What happened at all, the most frequent first.
    fn reasons(&mut self, sources: Sources<'_>) {
        let counters = sources.core.counters();
        let mut happened: Vec<_> = Reason::ALL
            .into_iter()
            .map(|reason| (counters.of(reason), reason))
            .filter(|(times, _)| *times > 0)
            .collect();
        happened.sort_by_key(|(times, _)| std::cmp::Reverse(*times));
        self.put(format_args!("refused, dropped or closed, by reason:\n"));
        if happened.is_empty() {
            self.put(format_args!("  none\n"));
        }
        for (times, reason) in happened {
            let name = reason.name();
            match reason.meaning() {
                Some(meaning) => self.put(format_args!("  {times:>10}  {name:<22}  {meaning}\n")),
                None => self.put(format_args!("  {times:>10}  {name}\n")),
            }
        }
    }

    fn line(&mut self, what: &str, text: &str) {
        self.put(format_args!("  {what:<12} {text}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.0.write_fmt(text);
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Bytes in the largest unit of which there is one at least.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} B"),
    }
}

/// A duration in its two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A time as people write it.
pub(crate) fn utc(unix_seconds: u64) -> String {
    let time =
        i64::try_from(unix_seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "?".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_sizes_and_durations_in_the_units_that_fit() {
        let sizes = [0, 1_023, 1_024, 1_536, 64 << 20, 3 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "64.0 MiB", "3.0 TiB"]);
        let durations = [59, 60, 3_599, 3_600, 86_399, 86_400, 90_000].map(duration);
        let expected = ["59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 0 h", "1 d 1 h"];
        assert_eq!(durations, expected);
    }
}
