//! The metrics page: everything that is counted, as Prometheus reads it (text format 0.0.4).
//!
//! Owns: names, types and the sentence on each; docs/operating.md lists the same, and a test compares them. A function of
//! what others have counted: it must not know how the page is asked for. Nobody's name is on it.

use std::fmt::{Display, Write as _};

use crate::core::{Core, ceiling};
use crate::reason::Reason;
use crate::store::{self, BUCKETS_US, Durations};
use crate::{logging, process};

/// What the page says its format is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that a page is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The core, with its counters.
    pub core: &'a Core,
    /// What the store's threads have counted.
    pub store: &'a store::Figures,
    /// What the event loop has counted.
    pub event_loop: &'a LoopFigures,
    /// What the system says of this process.
    pub process: &'a process::Figures,
}

/// What the event loop knows and nobody else does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopFigures {
    /// Turns since the start.
    pub turns: u64,
    /// Connections may wait to be accepted, and are not for a while: the system gave no socket for one.
    pub accepting_is_paused: bool,
    /// Debugging sessions in text.
    pub text_sessions: usize,
    /// Frames that have begun to come and whose rest has not.
    pub begun_frames: usize,
    /// Bytes of memory that those take.
    pub begun_frame_bytes: usize,
}

/// The whole page.
#[must_use]
pub fn page(sources: Sources<'_>) -> String {
    // Some 20 KiB, most of it the reasons.
    let mut page = Page(String::with_capacity(32 * 1024));
    page.metric("build_info", GAUGE, "The version that runs, as a label; always 1.");
    page.labelled("build_info", "version", env!("CARGO_PKG_VERSION"), 1);
    page.reasons(sources.core);
    page.totals(sources.core);
    page.gauges(sources.core);
    page.store(sources.store);
    page.event_loop(sources.event_loop);
    page.process(sources.process);
    page.0
}

/// What each metric's name begins with.
const PREFIX: &str = "e2e_relayd_";

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

struct Page(String);

impl Page {
    fn reasons(&mut self, core: &Core) {
        let help = "What was refused, dropped or closed, by reason.";
        self.metric("reasons_total", COUNTER, help);
        for reason in Reason::ALL {
            self.labelled("reasons_total", "reason", reason.name(), core.counters().of(reason));
        }
    }

    fn totals(&mut self, core: &Core) {
        let totals = core.counters().totals();
        let expired = core.counters().of(Reason::MessageExpired);
        let counters = [
            (
                "connections_opened_total",
                "Connections that were opened, those among them that were turned away.",
                totals.connections,
            ),
            ("logins_total", "Logins that succeeded, registrations among them.", totals.logins),
            ("registrations_total", "Names that were registered.", totals.registrations),
            ("roll_overs_total", "Names that rolled over to a new key.", totals.roll_overs),
            ("removals_total", "Names that were removed.", totals.removals),
            ("messages_accepted_total", "Messages that were taken from their senders.", totals.accepted),
            (
                "envelopes_accepted_bytes_total",
                "Bytes of the envelopes of messages that were taken.",
                totals.accepted_bytes,
            ),
            (
                "messages_repeated_total",
                "Messages whose id had been taken before; answered, and not taken again.",
                totals.repeated,
            ),
            ("messages_refused_total", "Messages that were refused; reasons_total says why.", totals.refused),
            (
                "messages_delivered_total",
                "Messages handed to a receiving connection, each time that they were.",
                totals.delivered,
            ),
            (
                "messages_collected_total",
                "Messages that their recipients acknowledged with a receipt.",
                totals.collected,
            ),
            (
                "messages_rejected_total",
                "Messages that their recipients acknowledged and could not open.",
                totals.rejected,
            ),
            (
                "messages_stored_total",
                "Messages that were stored before they were acknowledged.",
                totals.stored,
            ),
            ("messages_expired_total", "Messages whose time ran out.", expired),
            ("notices_total", "Notices of late results that were put into mailboxes.", totals.notices),
            (
                "log_lines_left_out_total",
                "Lines of the log that were left out because one place said too many.",
                logging::lines_left_out(),
            ),
        ];
        for (name, help, value) in counters {
            self.one(name, COUNTER, help, value);
        }
    }

    fn gauges(&mut self, core: &Core) {
        let (gauges, limits) = (core.gauges(), core.limits());
        self.one("names", GAUGE, "Registered names.", gauges.names);
        self.one("connections", GAUGE, "Open connections.", gauges.connections);
        self.one(
            "connections_before_login",
            GAUGE,
            "Open connections that have not logged in.",
            gauges.before_login,
        );
        self.one("receivers", GAUGE, "Names for which a connection receives.", gauges.receivers);
        let waiting = gauges.waiting;
        let places = [
            (
                "mailbox_messages",
                "Messages and notices in mailboxes, in memory only or given to the store.",
                waiting.messages,
                waiting.stored_messages,
            ),
            (
                "mailbox_bytes",
                "Bytes of frames in mailboxes, in memory only or given to the store.",
                waiting.bytes,
                waiting.stored_bytes,
            ),
        ];
        for (name, help, all, stored) in places {
            self.metric(name, GAUGE, help);
            self.labelled(name, "place", "memory", all.saturating_sub(stored));
            self.labelled(name, "place", "store", stored);
        }
        let more = [
            (
                "mailbox_shares",
                "Pairs of a mailbox and a sender of whom something waits in it.",
                gauges.shares,
            ),
            ("lanes", "Lanes whose ids are remembered.", gauges.lanes),
            ("ring_bytes", "Memory in use for messages.", gauges.message_bytes),
            ("ring_limit_bytes", "Memory that messages may use.", limits.ring_bytes_max),
            ("output_bytes", "Memory in use for output that waits for its readers.", gauges.output_bytes),
            ("output_limit_bytes", "Memory that output may use.", limits.output_bytes_in_all_max),
            (
                "backlog_bytes",
                "Memory in use for stored messages on their way to recipients.",
                gauges.backlog_bytes,
            ),
            (
                "unacknowledged_deliveries",
                "Frames that were delivered and are not acknowledged.",
                gauges.unacknowledged,
            ),
            ("watches", "Names whose presence connections watch.", gauges.watches),
            (
                "requests_pending",
                "Requests to the directory that wait for the store.",
                gauges.requests_pending,
            ),
            (
                "signatures_pending",
                "Logins and changes of names whose signatures wait to be verified.",
                gauges.to_verify,
            ),
            ("names_limit", "Names that may be registered.", limits.names_max),
            ("connections_limit", "Connections that may be open.", limits.connections_max),
        ];
        for (name, help, value) in more {
            self.one(name, GAUGE, help, value);
        }
        self.one(
            "memory_ceiling_bytes",
            GAUGE,
            "The most memory that all limits together allow.",
            ceiling::bytes_max(limits),
        );
        self.one("stopping", GAUGE, "Whether the relay stops.", u8::from(gauges.is_stopping));
        self.one(
            "store_refusing",
            GAUGE,
            "Whether what needs the store is refused untried, after it failed.",
            u8::from(gauges.store_is_failing),
        );
    }

    fn store(&mut self, store: &store::Figures) {
        self.histogram(
            "store_commit_seconds",
            "Time that a commit took, from its first request to the disk's answer.",
            &store.commits,
        );
        self.histogram("store_read_seconds", "Time that the answer to a question took.", &store.reads);
        self.one("store_failures_total", COUNTER, "Times that the store stopped working.", store.failures);
        self.one(
            "store_failing",
            GAUGE,
            "Whether the store failed and is to be opened again.",
            u8::from(store.is_failing),
        );
        self.one(
            "store_in_flight_bytes",
            GAUGE,
            "Bytes that were given to the store and are not on the disk yet.",
            store.in_flight_bytes,
        );
        self.one(
            "disk_low",
            GAUGE,
            "Whether less of the disk is free than the floor: nothing new is taken to be stored.",
            u8::from(store.disk_is_low),
        );
    }

    fn event_loop(&mut self, figures: &LoopFigures) {
        self.one("loop_turns_total", COUNTER, "Turns of the event loop.", figures.turns);
        self.one(
            "accept_paused",
            GAUGE,
            "Whether connections wait because the system gave no socket for one.",
            u8::from(figures.accepting_is_paused),
        );
        self.one("text_sessions", GAUGE, "Debugging sessions in text.", figures.text_sessions);
        self.one("begun_frames", GAUGE, "Frames of which only a part has come.", figures.begun_frames);
        self.one(
            "begun_frames_bytes",
            GAUGE,
            "Memory in use for frames of which only a part has come.",
            figures.begun_frame_bytes,
        );
    }

    /// These have the names that every program's have.
    fn process(&mut self, figures: &process::Figures) {
        let process::Figures { resident_bytes, virtual_bytes, open_files, open_files_max, .. } = *figures;
        self.process_one("cpu_seconds_total", COUNTER, "Processor time used.", figures.cpu_seconds);
        self.process_one("resident_memory_bytes", GAUGE, "Resident memory.", resident_bytes);
        self.process_one("virtual_memory_bytes", GAUGE, "Address space.", virtual_bytes);
        self.process_one("open_fds", GAUGE, "Open files and sockets.", open_files);
        self.process_one("max_fds", GAUGE, "Files and sockets that may be open.", open_files_max);
        self.process_one(
            "start_time_seconds",
            GAUGE,
            "When the process started, Unix time.",
            figures.start_seconds,
        );
    }

    fn histogram(&mut self, name: &str, help: &str, durations: &Durations) {
        self.metric(name, HISTOGRAM, help);
        let mut count = 0;
        let ends = BUCKETS_US.iter().map(|end_us| seconds(*end_us).to_string());
        for (end, more) in ends.chain(["+Inf".to_owned()]).zip(durations.counts) {
            count += more;
            self.put(format_args!("{PREFIX}{name}_bucket{{le=\"{end}\"}} {count}\n"));
        }
        let sum = seconds(durations.sum_us);
        self.put(format_args!("{PREFIX}{name}_sum {sum}\n{PREFIX}{name}_count {count}\n"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.put(format_args!("{PREFIX}{name} {value}\n"));
    }

    fn process_one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head("process_", name, kind, help);
        self.put(format_args!("process_{name} {value}\n"));
    }

    fn labelled(&mut self, name: &str, label: &str, of: &str, value: impl Display) {
        self.put(format_args!("{PREFIX}{name}{{{label}=\"{of}\"}} {value}\n"));
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.head(PREFIX, name, kind, help);
    }

    fn head(&mut self, prefix: &str, name: &str, kind: &str, help: &str) {
        self.put(format_args!("# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.0.write_fmt(text);
    }
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}
