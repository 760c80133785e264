//! Measures embedded engines on the relay's own load, one process per engine, and prints one JSON object for
//! each. What the figures decided: docs/store.md.
//!
//!     cargo run --release -p e2e-tests --features store-bench --bin store-bench -- [--dir DIR] [ENGINE]...
//!
//! Every candidate stands behind the store's own interface, [`Engine`]. One process writes and is killed,
//! another opens what it left, checks that it is all there, and deletes it.

mod candidates;
mod load;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// An error is printed and ends the run: there is nobody to tell it apart for.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Arguments of this binary when it runs itself: a phase, then the engine and its directory.
const WRITE: &str = "--write";
const RECOVER: &str = "--recover";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [WRITE, engine, directory] => write(engine, Path::new(directory)),
        [RECOVER, engine, directory] => recover(engine, Path::new(directory)),
        ["--dir", directory, ref engines @ ..] => measure(Path::new(directory), engines),
        ref engines => measure(&env::temp_dir(), engines),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("store-bench: error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Each engine named, or all of them, in a new directory below `parent`.
fn measure(parent: &Path, engines: &[&str]) -> Outcome<()> {
    let engines = if engines.is_empty() { &candidates::NAMES } else { engines };
    for engine in engines {
        let directory = parent.join(format!("store-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let measured = run_itself(WRITE, engine, &directory)
            .and_then(|written| Ok((written, run_itself(RECOVER, engine, &directory)?)));
        fs::remove_dir_all(&directory)?;
        let (written, recovered) = measured?;
        println!("{{\"engine\":\"{engine}\",{written},{recovered}}}");
    }
    Ok(())
}

/// The one line that a phase prints. The process is killed after it, as a relay might be.
fn run_itself(phase: &str, engine: &str, directory: &Path) -> Outcome<String> {
    let mut child = Command::new(env::current_exe()?)
        .args([phase, engine])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    child.kill()?;
    child.wait()?;
    if line.is_empty() { Err(format!("{engine}: {phase} failed").into()) } else { Ok(line.trim().to_owned()) }
}

fn write(engine: &str, directory: &Path) -> Outcome<()> {
    let engine = candidates::open(engine, directory)?;
    let written = load::write(&*engine)?;
    println!("{written},{}", memory()?);
    wait_to_be_killed()
}

fn recover(name: &str, directory: &Path) -> Outcome<()> {
    let start = std::time::Instant::now();
    let engine = candidates::open(name, directory)?;
    let recover_ms = load::milliseconds(start.elapsed());
    let recovered = load::recover(&*engine)?;
    let disk_bytes = disk_bytes(directory)?;
    println!("\"recover_ms\":{recover_ms:.1},{recovered},\"disk_bytes_in_the_end\":{disk_bytes}");
    wait_to_be_killed()
}

/// The other end of standard input is closed only when the parent ends.
fn wait_to_be_killed() -> Outcome<()> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Peak resident memory with mapped files, resident memory of the process alone, bytes given to the disk.
fn memory() -> Outcome<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let io = fs::read_to_string("/proc/self/io")?;
    let (peak, own) = (field(&status, "VmHWM:")? * 1024, field(&status, "RssAnon:")? * 1024);
    let written = field(&io, "write_bytes:")?;
    let per_byte = written as f64 / load::written_payload_bytes() as f64;
    Ok(format!("\"rss_peak_bytes\":{peak},\"rss_own_bytes\":{own},\"written_per_byte\":{per_byte:.2}"))
}

fn field(text: &str, name: &str) -> Outcome<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("/proc lacks a field")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

fn disk_bytes(directory: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut directories: Vec<PathBuf> = vec![directory.to_owned()];
    let mut bytes = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
            if metadata.is_dir() {
                directories.push(path);
            } else {
                bytes += metadata.blocks() * 512;
            }
        }
    }
    Ok(bytes)
}
