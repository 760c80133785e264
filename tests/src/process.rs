//! The real binaries as child processes: each on its own directory and a port that the system chose,
//! ended by its id when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything may take that should take no time: only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of one of the workspace's binaries, which lies beside the test that runs.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let mut directory = std::env::current_exe().expect("the test's own path");
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    let path = directory.join(name);
    assert!(path.exists(), "{} is missing: `cargo build --workspace` builds it", path.display());
    path
}

/// A directory for one test, removed when dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// A new, empty one.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    #[allow(clippy::new_without_default)] // it does I/O
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay on `state`, with further arguments, and waits until it listens.
    ///
    /// # Panics
    /// If it doesn't; its log is in the message.
    #[must_use]
    pub fn start(state: &Path, arguments: &[&str]) -> Self {
        Self::start_with(Command::new(binary("e2e-relayd")), state, arguments)
    }

    /// The same through another command, such as `taskset -c 0 e2e-relayd`.
    ///
    /// # Panics
    /// As [`Relay::start`].
    #[must_use]
    pub fn start_with(command: Command, state: &Path, arguments: &[&str]) -> Self {
        Self::start_elsewhere(command, state, state.parent().expect("it lies in a directory"), arguments)
    }

    /// The same, where the relay sees another `state` than the test does; `beside` is seen by both.
    ///
    /// # Panics
    /// As [`Relay::start`].
    #[must_use]
    pub fn start_elsewhere(mut command: Command, state: &Path, beside: &Path, arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let ready = beside.join(format!("ready-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut child = command
            .args(["-l", "127.0.0.1:0", "--ready-file"])
            .arg(&ready)
            .arg("-d")
            .arg(state)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("e2e-relayd starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        let sink = Arc::clone(&log);
        let log_reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = sink.lock().expect("no panic while it was held");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = wait_for("the relay to listen", || {
            if let Some(status) = child.try_wait().expect("the relay can be waited for") {
                panic!("the relay ended with {status}: {}", log.lock().unwrap());
            }
            fs::read_to_string(&ready).ok()?.lines().next()?.parse().ok()
        });
        let _ = fs::remove_file(&ready);
        Self { child, address, log, log_reader: Some(log_reader) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    ///
    /// # Panics
    /// If the reading thread did.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Ends it as a power cut does.
    ///
    /// # Panics
    /// If it can't be.
    pub fn kill(&mut self) {
        self.child.kill().expect("the relay can be killed");
        self.child.wait().expect("the relay can be waited for");
        self.finish_log();
    }

    /// Asks it to stop, with this signal's name, and returns its exit code.
    ///
    /// # Panics
    /// If it doesn't stop.
    #[must_use]
    pub fn stop(&mut self, signal: &str) -> Option<i32> {
        send_signal(self.child.id(), signal);
        let status =
            wait_for("the relay to stop", || self.child.try_wait().expect("the relay can be waited for"));
        self.finish_log();
        status.code()
    }

    /// Waits for its last words.
    fn finish_log(&mut self) {
        if let Some(reader) = self.log_reader.take() {
            reader.join().expect("the log was read");
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.finish_log();
            eprintln!("the relay's log:\n{}", self.log());
        }
    }
}

/// Runs a command to its end, without input, and returns what it said.
///
/// # Panics
/// If it can't be run, or doesn't end; it is killed then.
pub fn run(command: &mut Command) -> Output {
    run_with_input(command, Stdio::null())
}

/// The same with an input.
///
/// # Panics
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: Stdio) -> Output {
    let mut child = command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let read = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            bytes
        })
    };
    let stdout = read(Box::new(child.stdout.take().expect("it is piped")));
    let stderr = read(Box::new(child.stderr.take().expect("it is piped")));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} does not end: {}", String::from_utf8_lossy(&stderr.join().unwrap()));
        }
        thread::sleep(Duration::from_millis(2));
    };
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// Whether a command may mount file systems that nobody else sees: that takes root, and `unshare`.
#[must_use]
pub fn private_mounts() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /tmp"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// Sends a signal, by name, to a process that the test started.
///
/// # Panics
/// If `kill` can't be run or refuses.
pub fn send_signal(process: u32, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status();
    assert!(status.expect("kill can be run").success(), "kill -{signal} {process}");
}

/// Looks until `found` finds something.
///
/// # Panics
/// After [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// CPU seconds that a process has used, all threads together.
#[must_use]
pub fn cpu_seconds(process: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanoseconds: f64 = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .sum();
    nanoseconds / 1e9
}

/// Resident memory of a process in bytes.
#[must_use]
pub fn resident_bytes(process: u32) -> u64 {
    memory_bytes(process, "VmRSS:")
}

/// The most resident memory that a process has had, in bytes.
#[must_use]
pub fn resident_bytes_most(process: u32) -> u64 {
    memory_bytes(process, "VmHWM:")
}

fn memory_bytes(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
