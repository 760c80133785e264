//! Everything that docs/performance.md shows, made anew (`--report`): JSON, tables, pictures.
//!
//! Owns: which measurements there are, by the command lines that make them, and the files. Each is this program once more, so that
//! what stands beside a table is what was run.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::picture::{Row, dots};

/// A file's name, what it shows, and how it is measured.
const SECTIONS: [(&str, &str, &str); 7] = [
    ("delivered-128", "As fast as it goes, 128 B", "--peers --size 128 --secs 3"),
    ("delivered-1024", "As fast as it goes, 1 KiB", "--peers --size 1024 --secs 3"),
    ("latency", "10,000 messages a second, 128 B", "--peers --rate 10000 --secs 5"),
    ("stored", "Stored, nobody receives, 1 KiB", "--peers --store --size 1024 --secs 3"),
    (
        "stalled",
        "One recipient never reads, 10,000 messages a second, 128 B",
        "--peers --stalled --rounds 3 --rate 10000 --secs 2",
    ),
    ("idle", "Idle connections", "--peers --idle 10000"),
    ("growth", "How cost grows", "--growth --secs 1"),
];

/// Measures all of it into this directory.
pub(crate) fn write(directory: &Path) {
    fs::create_dir_all(directory).expect("the directory can be made");
    let machine = machine();
    let mut tables = format!("# Figures\n\nMade by `tests/bench/all`. {machine}\n");
    for (name, title, arguments) in SECTIONS {
        eprintln!("relay-bench {arguments}");
        let output = Command::new(std::env::current_exe().expect("its own path"))
            .args(arguments.split(' '))
            .stdin(Stdio::null())
            .output()
            .expect("this program runs");
        let (json, table) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "relay-bench {arguments}: {table}");
        let head = format!("{{\"command\":\"relay-bench {arguments}\",\"machine\":\"{machine}\"}}\n");
        fs::write(directory.join(format!("{name}.json")), head + &json)
            .expect("the directory can be written to");
        let table = if table.is_empty() { &json } else { &table };
        write!(tables, "\n## {title}\n\n    relay-bench {arguments}\n\n```text\n{table}```\n")
            .expect("it is memory");
        fs::write(directory.join("tables.md"), &tables).expect("the directory can be written to");
    }
    draw(directory, &machine);
}

/// The pictures, from the JSON beside them.
fn draw(directory: &Path, machine: &str) {
    let read =
        |name: &str| fs::read_to_string(directory.join(format!("{name}.json"))).expect("it was written");
    let (small, large) = (read("delivered-128"), read("delivered-1024"));
    let cpu: Vec<Row> = systems(&small)
        .map(|line| {
            let system = field(line, "system").unwrap_or_default();
            let same = systems(&large).find(|line| field(line, "system") == Some(system));
            let values = [Some(line), same].map(|line| number(line, "cpu_us_per_msg"));
            Row { name: system.to_owned(), values: values.to_vec() }
        })
        .collect();
    let picture = dots("Processor time per message, microseconds", machine, &["128 B", "1 KiB"], &cpu);
    fs::write(directory.join("cpu.svg"), picture).expect("the directory can be written to");
    let latency = read("latency");
    let percentiles: Vec<Row> = systems(&latency)
        .map(|line| Row {
            name: field(line, "system").unwrap_or_default().to_owned(),
            values: ["p50_us", "p99_us", "p999_us"].map(|of| number(Some(line), of)).to_vec(),
        })
        .collect();
    let title = "Latency at 10,000 messages a second of 128 B, microseconds";
    let picture = dots(title, machine, &["p50", "p99", "p99.9"], &percentiles);
    fs::write(directory.join("latency.svg"), picture).expect("the directory can be written to");
}

fn systems(json: &str) -> impl Iterator<Item = &str> {
    json.lines().filter(|line| field(line, "system").is_some())
}

/// A field of an object that this program printed: no value in it has a quotation mark or an object.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}']).next(),
    }
}

fn number(line: Option<&str>, name: &str) -> f64 {
    line.and_then(|line| field(line, name)?.parse().ok()).unwrap_or(0.0)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it was measured on: processor, cores, kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let virtual_machine = if processors.contains(" hypervisor") { " of a virtual machine" } else { "" };
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("Machine: {model}, {cores} cores{virtual_machine}, Linux {}.", kernel.trim())
}
