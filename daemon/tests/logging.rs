//! The log: how lines look, and that no place in the program fills it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use e2e_relayd::limits::{LOG_LINES_AT_ONCE, LOG_LINES_MINUTE};
use e2e_relayd::logging::{Logger, Style};
use env_logger::Builder;
use log::{Level, Log, Record};

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A log with a clock that is set by hand.
struct Scene {
    logger: Box<dyn Log>,
    output: Output,
    now_ms: Arc<AtomicU64>,
}

impl Scene {
    fn new(style: Style) -> Self {
        let (output, now_ms) = (Output::default(), Arc::<AtomicU64>::default());
        let clock = Arc::clone(&now_ms);
        let mut builder = Builder::new();
        builder.parse_filters("debug,quiet=off");
        let clock = move || clock.load(Ordering::Relaxed);
        let logger = Box::new(Logger::new(builder, style, Box::new(output.clone()), clock));
        Self { logger, output, now_ms }
    }

    /// Logs from a place in the program.
    fn log(&self, line: u32, level: Level, text: &str) {
        self.log_to("e2e_relayd::core", line, level, text);
    }

    fn log_to(&self, target: &str, line: u32, level: Level, text: &str) {
        let mut record = Record::builder();
        record.target(target).level(level).module_path_static(Some("e2e_relayd::core"));
        record.file_static(Some("core.rs")).line(Some(line));
        self.logger.log(&record.args(format_args!("{text}")).build());
    }

    fn pass(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// The lines since the last call.
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.output.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

/// In which one more line may be logged.
const INTERVAL_MS: u64 = 60_000 / LOG_LINES_MINUTE;
const BURST: usize = LOG_LINES_AT_ONCE as usize;

#[test]
fn says_the_level_as_the_journal_reads_it() {
    let scene = Scene::new(Style::Journal);
    for level in Level::iter() {
        scene.log(1, level, "text");
    }
    assert_eq!(scene.lines(), ["<3>text", "<4>text", "<6>text", "<7>text"], "trace is not asked for");
}

#[test]
fn says_time_level_and_module_elsewhere() {
    let scene = Scene::new(Style::Plain);
    scene.log(1, Level::Warn, "text");
    let [line] = &scene.lines()[..] else { panic!("one line") };
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.starts_with("[20") && time.ends_with('Z'), "{time}");
    assert_eq!(rest, "WARN  e2e_relayd::core] text");
}

#[test]
fn keeps_each_message_on_one_line() {
    let scene = Scene::new(Style::Journal);
    scene.log(1, Level::Info, "one\n<3>two\r\n\x1b[31mred\tumlaut ä\n");
    assert_eq!(scene.lines(), ["<6>one\\n<3>two\\r\\n\\u{1b}[31mred\\tumlaut ä\\n"]);
}

#[test]
fn leaves_out_what_one_place_says_too_often_and_says_how_many() {
    let scene = Scene::new(Style::Journal);
    for _ in 0..BURST + 5 {
        scene.log(7, Level::Info, "often");
    }
    scene.log(8, Level::Info, "rare");
    let lines = scene.lines();
    assert_eq!(lines.len(), BURST + 1);
    assert_eq!((&lines[BURST - 1][..], &lines[BURST][..]), ("<6>often", "<6>rare"));
    scene.pass(INTERVAL_MS - 1);
    scene.log(7, Level::Info, "often");
    assert_eq!(scene.lines(), [] as [&str; 0]);
    scene.pass(1);
    scene.log(7, Level::Info, "often");
    scene.log(7, Level::Info, "often");
    assert_eq!(scene.lines(), ["<6>6 more lines were left out here: core.rs:7", "<6>often"]);
}

#[test]
fn says_what_was_left_out_though_the_place_is_silent_since() {
    let scene = Scene::new(Style::Journal);
    for _ in 0..=BURST {
        scene.log(7, Level::Warn, "often");
    }
    scene.lines();
    scene.log(8, Level::Info, "too early");
    assert_eq!(scene.lines(), ["<6>too early"]);
    scene.pass(INTERVAL_MS);
    scene.log(8, Level::Info, "another");
    assert_eq!(scene.lines(), ["<4>1 more lines were left out here: core.rs:7", "<6>another"]);
    for _ in 0..BURST {
        scene.log(7, Level::Warn, "often");
    }
    scene.lines();
    scene.logger.flush();
    assert_eq!(scene.lines().len(), 1, "at the end it is said at once");
    scene.logger.flush();
    assert_eq!(scene.lines().len(), 0, "once");
}

#[test]
fn a_flood_of_a_day_takes_so_many_lines_and_no_more() {
    let scene = Scene::new(Style::Journal);
    let minutes = 24 * 60;
    for _ in 0..minutes * 60 {
        scene.log(7, Level::Error, "often");
        scene.log(7, Level::Error, "often");
        scene.pass(1_000);
    }
    let lines = scene.lines();
    let reports = lines.iter().filter(|line| line.contains("left out")).count() as u64;
    let said = lines.len() as u64 - reports;
    assert!(said <= LOG_LINES_AT_ONCE + minutes * LOG_LINES_MINUTE, "{said} lines");
    assert!(said >= minutes * LOG_LINES_MINUTE, "{said} lines");
    assert!(reports <= said, "{reports} reports");
    let left_out: u64 = lines
        .iter()
        .filter(|line| line.contains("left out"))
        .map(|line| line["<3>".len()..].split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let unreported = minutes * 60 * 2 - said - left_out;
    assert!(unreported <= 2 * INTERVAL_MS / 1_000, "{unreported} lines are neither there nor reported");
}

#[test]
fn leaves_out_nothing_that_somebody_asked_for() {
    let scene = Scene::new(Style::Journal);
    for _ in 0..10 * BURST {
        scene.log(7, Level::Debug, "detail");
    }
    assert_eq!(scene.lines().len(), 10 * BURST);
}

#[test]
fn what_is_filtered_uses_nothing_up() {
    let scene = Scene::new(Style::Journal);
    for _ in 0..10 * BURST {
        scene.log_to("quiet", 7, Level::Error, "hidden");
    }
    scene.log(7, Level::Error, "shown");
    assert_eq!(scene.lines(), ["<3>shown"]);
}
