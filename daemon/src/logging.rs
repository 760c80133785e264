//! The relay's log: lines on standard error, and not too many of them.
//!
//! Owns: how a line looks, and that nothing a peer can cause fills the log. Errors, warnings and information are limited,
//! for each place in the program by itself; debug and trace lines are for who asks for them. What a level means is in
//! docs/operating.md. Must not know what is logged; how names appear is `core`'s business ([`crate::core::Core::shown`]).

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use env_logger::{Builder, Env, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::limits::{LOG_LINES_AT_ONCE, LOG_LINES_MINUTE};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// With the time and the level, for a terminal or a file.
    Plain,
    /// With the level as systemd's journal reads it, sd-daemon(3); it has the time by itself.
    Journal,
}

/// Starts logging to standard error. $RUST_LOG, where it is set, wins over `level`, now and later. Nothing happens if
/// something else logs already.
pub fn start(level: LevelFilter) {
    let style = if is_journal() { Style::Journal } else { Style::Plain };
    let started = Instant::now();
    let clock = move || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let builder = Builder::from_env(Env::default().default_filter_or("trace"));
    let logger = Logger::new(builder, style, Box::new(io::stderr()), clock);
    let level_max = logger.inner.filter();
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level_max);
        set_level(level);
    }
}

/// Logs so much from now on.
pub fn set_level(level: LevelFilter) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
    }
}

/// Lines that were left out since the start.
#[must_use]
pub fn lines_left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Whether standard error goes to the journal: systemd names the socket, which an heir of its environment may have replaced.
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stat = rustix::fs::fstat(io::stderr());
    stat.is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// See the module.
pub struct Logger<C> {
    inner: env_logger::Logger,
    /// Milliseconds of any clock that only goes forward.
    clock: C,
    sites: Mutex<Sites>,
}

impl<C: Fn() -> u64 + Send + Sync> Logger<C> {
    /// Logs what `builder` lets through.
    pub fn new(mut builder: Builder, style: Style, output: Box<dyn Write + Send>, clock: C) -> Self {
        builder.target(Target::Pipe(output)).format(move |out, record| match style {
            Style::Plain => {
                let (time, level, target) = (out.timestamp_seconds(), record.level(), record.target());
                writeln!(out, "[{time} {level:<5} {target}] {}", OneLine(record.args()))
            }
            Style::Journal => writeln!(out, "<{}>{}", priority(record.level()), OneLine(record.args())),
        });
        Self { inner: builder.build(), clock, sites: Mutex::default() }
    }

    fn sites(&self) -> MutexGuard<'_, Sites> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, reports: Vec<(Site, LeftOut)>) {
        for (site, LeftOut { lines, level, module }) in reports {
            let mut record = Record::builder();
            record.level(level).target(module);
            let text = format_args!("{lines} more lines were left out here: {site}");
            self.inner.log(&record.args(text).build());
        }
    }
}

impl<C: Fn() -> u64 + Send + Sync> Log for Logger<C> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.inner.matches(record) {
            return;
        }
        if record.level() > Level::Info {
            return self.inner.log(record);
        }
        let now_ms = (self.clock)();
        let (reports, may) = {
            let mut sites = self.sites();
            (sites.reports(now_ms), sites.take(record, now_ms))
        };
        self.report(reports);
        if may {
            self.inner.log(record);
        } else {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says what was left out: nothing may come that would bring it up.
    fn flush(&self) {
        let reports = self.sites().silenced.drain().collect();
        self.report(reports);
        self.inner.flush();
    }
}

/// As syslog(3) numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// A message without anything that would end its line, or move a terminal's cursor.
struct OneLine<'a>(&'a fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for part in text.split_inclusive(char::is_control) {
                    let clean = part.trim_end_matches(char::is_control);
                    self.0.write_str(clean)?;
                    part.chars()
                        .filter(|char| char.is_control())
                        .try_for_each(|char| write!(self.0, "{}", char.escape_default()))?;
                }
                Ok(())
            }
        }
        Escaping(f).write_fmt(*self.0)
    }
}

/// A place in the program that logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Site {
    file: &'static str,
    line: u32,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What was left out of one.
#[derive(Clone, Copy, Debug)]
struct LeftOut {
    lines: u64,
    level: Level,
    module: &'static str,
}

/// All that have logged. There are as many as the program has, and no more.
#[derive(Debug, Default)]
struct Sites {
    buckets: HashMap<Site, Bucket>,
    /// Those of which something was left out and not reported.
    silenced: HashMap<Site, LeftOut>,
}

impl Sites {
    /// Whether this line may be logged.
    fn take(&mut self, record: &Record<'_>, now_ms: u64) -> bool {
        let site = Site {
            file: record.file_static().unwrap_or("another crate"),
            line: record.line().unwrap_or_default(),
        };
        let may = self.buckets.entry(site).or_default().take(now_ms);
        if !may {
            let module = record.module_path_static().unwrap_or(env!("CARGO_CRATE_NAME"));
            let none = LeftOut { lines: 0, level: record.level(), module };
            self.silenced.entry(site).or_insert(none).lines += 1;
        }
        may
    }

    /// What was left out where something may be logged again. It takes nothing of what may be: else a flood of lines would
    /// leave room for reports only.
    fn reports(&mut self, now_ms: u64) -> Vec<(Site, LeftOut)> {
        let buckets = &self.buckets;
        let may_again = |site: &Site| buckets.get(site).is_none_or(|bucket| bucket.may_take(now_ms));
        self.silenced.extract_if(|site, _| may_again(site)).collect()
    }
}

/// A token bucket, as one time: when it will be full again, milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_ms: u64,
}

const INTERVAL_MS: u64 = 60_000 / LOG_LINES_MINUTE;

impl Bucket {
    fn may_take(self, now_ms: u64) -> bool {
        self.full_ms.max(now_ms) + INTERVAL_MS <= now_ms + LOG_LINES_AT_ONCE * INTERVAL_MS
    }

    fn take(&mut self, now_ms: u64) -> bool {
        let may = self.may_take(now_ms);
        if may {
            self.full_ms = self.full_ms.max(now_ms) + INTERVAL_MS;
        }
        may
    }
}
