//! The real `e2e-client` in homes of its own, on a relay of its own, with a few users registered.
//!
//! Registering makes seventeen keys. So it is done once for each build of the binaries, in a folder of
//! the target directory, and every test works on a copy of what came of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crate::process::{Directory, Relay, binary, run_with_input, send_signal, wait_for};

/// How old what is shared may become: keys and bundles age.
const TEMPLATE_AGE_MAX: Duration = Duration::from_secs(12 * 3600);

/// One identity.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its home.
    pub home: PathBuf,
    /// What it is told with -s.
    pub server: String,
}

/// What a client said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` if it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Asserts that it succeeded and returns what it printed.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn printed(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts on an exit code and a line of error with this in it, with at most one hint behind it, and
    /// that nothing else was said.
    ///
    /// # Panics
    /// If it was otherwise.
    #[track_caller]
    pub fn assert_error(&self, code: i32, words: &str) {
        let Self { stdout, stderr, .. } = self;
        assert_eq!((self.code, stdout.as_str()), (Some(code), ""), "{stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        let error = lines.first().and_then(|line| line.strip_prefix("e2e-client: error: "));
        assert!(error.is_some_and(|error| error.contains(words)), "'{words}' is not in: {stderr}");
        assert!(lines.len() <= 2 && lines[1..].iter().all(|line| line.starts_with("hint: ")), "{stderr}");
    }
}

impl Client {
    /// A command line, in an empty environment.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("e2e-client"));
        command.env_clear().arg("-s").arg(&self.server).arg("-H").arg(&self.home).args(arguments);
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it doesn't end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments), Stdio::null())
    }

    /// The same with these bytes as standard input.
    ///
    /// # Panics
    /// As [`Client::run`].
    #[must_use]
    pub fn run_reading(&self, input: &[u8], arguments: &[&str]) -> Ran {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let input = input.to_vec();
        // It may end before it has read everything.
        let writing = thread::spawn(move || drop(std::io::Write::write_all(&mut writer, &input)));
        let ran = ran(&mut self.command(arguments), reader.into());
        writing.join().expect("the input is written");
        ran
    }

    /// The same, killed at the `step`-th change of its disk.
    ///
    /// # Panics
    /// As [`Client::run`].
    #[must_use]
    pub fn run_killed_at(&self, step: u32, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).env("E2E_CRASH_AT", step.to_string()), Stdio::null())
    }

    /// Sends a text and returns what was said of it.
    ///
    /// # Panics
    /// If it failed.
    #[track_caller]
    pub fn send(&self, to: &str, text: &str) -> String {
        let ran = self.run(&["send", to, "-m", text]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stderr
    }

    /// Receives what waits, as lines.
    ///
    /// # Panics
    /// If it failed.
    #[track_caller]
    pub fn receive(&self) -> Vec<String> {
        self.run(&["recv", "-t", "0"]).printed().lines().map(str::to_owned).collect()
    }

    /// A line of `status`, without what it is about.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn status(&self, about: &str) -> String {
        let text = self.run(&["status"]).printed();
        let line = text.lines().find_map(|line| line.strip_prefix(about));
        line.unwrap_or_else(|| panic!("no {about} in {text}")).trim().to_owned()
    }

    /// Waits until all that this client sent has its receipt. Whoever it sent to looks for messages
    /// meanwhile, and sees none: a message that is sent again to get a receipt is not shown again.
    ///
    /// # Panics
    /// If somebody sees one, or the receipts don't come.
    pub fn wait_for_receipts(&self, sent_to: &[&Self]) {
        wait_for("all receipts", || {
            for client in sent_to.iter().copied().chain([self]) {
                assert_eq!(client.receive(), [] as [&str; 0]);
            }
            self.status("outbox").starts_with("everything is confirmed").then_some(())
        });
    }

    /// Starts it and lets it run.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            keep(child.stdout.take().expect("it is piped"), &lines),
            keep(child.stderr.take().expect("it is piped"), &errors),
        ];
        Running { child, lines, errors, readers }
    }

    /// Starts `recv` and waits until the relay counts it as receiving: a second one that asks would
    /// replace it, so it is asked by its own word.
    ///
    /// # Panics
    /// If it doesn't come to that.
    #[must_use]
    pub fn start_recv(&self, arguments: &[&str]) -> Running {
        let running = self.start(&[&["-v", "recv"], arguments].concat());
        running.wait_for_error("connected to");
        running
    }
}

fn ran(command: &mut Command, input: Stdio) -> Ran {
    let output = run_with_input(command, input);
    let text = |bytes| String::from_utf8(bytes).expect("what it says is UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

type Lines = Arc<Mutex<Vec<String>>>;

fn keep(from: impl std::io::Read + Send + 'static, to: &Lines) -> JoinHandle<()> {
    let to = Arc::clone(to);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            to.lock().expect("no panic while it was held").push(line);
        }
    })
}

/// A client that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Lines,
    errors: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    ///
    /// # Panics
    /// Never while no thread panicked.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until it has printed so many lines, and returns all.
    ///
    /// # Panics
    /// If it doesn't.
    #[must_use]
    pub fn wait_for_lines(&self, count: usize) -> Vec<String> {
        wait_for("lines of output", || Some(self.lines()).filter(|lines| lines.len() >= count))
    }

    /// Waits until a line with this in it came on standard error.
    ///
    /// # Panics
    /// If none comes.
    pub fn wait_for_error(&self, words: &str) {
        wait_for(words, || self.errors.lock().unwrap().iter().any(|line| line.contains(words)).then_some(()));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it doesn't end.
    #[must_use]
    pub fn finish(mut self) -> (ExitStatus, Ran) {
        let status = wait_for("the client to end", || self.child.try_wait().expect("it can be waited for"));
        for reader in self.readers.drain(..) {
            reader.join().expect("it read to the end");
        }
        let text = |lines: &Lines| lines.lock().unwrap().iter().map(|line| format!("{line}\n")).collect();
        let ran = Ran { code: status.code(), stdout: text(&self.lines), stderr: text(&self.errors) };
        (status, ran)
    }

    /// Tells it to stop, and waits for its end.
    ///
    /// # Panics
    /// If it doesn't end.
    #[must_use]
    pub fn stop(self, signal: &str) -> Ran {
        send_signal(self.child.id(), signal);
        self.finish().1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A relay and its users: `alice`, `bob` and `carol`; and `thief`, a home that is registered as `bob`
/// too, on the same relay before bob came (see [`World::before_bob`]).
#[derive(Debug)]
pub struct World {
    /// Where everything is.
    pub directory: Directory,
    /// The relay.
    pub relay: Relay,
}

impl World {
    /// A copy of what every test begins with.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    pub fn new() -> Self {
        Self::with("state", &[])
    }

    /// The same relay, from its state before bob registered: there `thief` is `bob`.
    ///
    /// # Panics
    /// As [`World::new`].
    #[must_use]
    pub fn before_bob() -> Self {
        Self::with("state-of-thief", &[])
    }

    /// A copy with another relay state, or other flags.
    ///
    /// # Panics
    /// As [`World::new`].
    #[must_use]
    pub fn with(state: &str, arguments: &[&str]) -> Self {
        let directory = Directory::new();
        copy(&template().join("homes"), &directory.path().join("homes"));
        copy(&template().join(state), &directory.path().join("state"));
        let relay = Relay::start(&directory.path().join("state"), arguments);
        Self { directory, relay }
    }

    /// Another world that begins where this one, whose relay is stopped, ended.
    ///
    /// # Panics
    /// As [`World::new`].
    #[must_use]
    pub fn continued(&self) -> Self {
        let directory = Directory::new();
        copy(&self.directory.path().join("homes"), &directory.path().join("homes"));
        copy(&self.state(), &directory.path().join("state"));
        let relay = Relay::start(&directory.path().join("state"), &[]);
        Self { directory, relay }
    }

    /// One of its users, or a new home.
    #[must_use]
    pub fn client(&self, name: &str) -> Client {
        self.client_at(name, self.relay.address())
    }

    /// The same through another address.
    #[must_use]
    pub fn client_at(&self, name: &str, address: SocketAddr) -> Client {
        Client { home: self.home(name), server: address.to_string() }
    }

    /// Where a user's home is.
    #[must_use]
    pub fn home(&self, name: &str) -> PathBuf {
        self.directory.path().join("homes").join(name)
    }

    /// Where the relay's state is.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// SIGKILL, and a new start on the same state, at another port.
    pub fn kill_and_restart(&mut self) {
        self.relay.kill();
        self.relay = Relay::start(&self.state(), &[]);
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Copies a directory with all that is in it, and their modes.
///
/// # Panics
/// If the disk fails.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    fs::set_permissions(to, fs::metadata(from).expect("a directory").permissions()).expect("a mode");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// All files below a directory, sorted; a socket is none.
///
/// # Panics
/// If the disk fails.
#[must_use]
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        match entry.path() {
            path if path.is_dir() => all.extend(files(&path)),
            path if path.is_file() => all.push(path),
            _ => {}
        }
    }
    all.sort();
    all
}

/// The directory that [`World`]s are copied from, made once for each build.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let base = binary("e2e-client").parent().expect("a directory").join("e2e-tests-users");
        fs::create_dir_all(&base).expect("a directory");
        let lock = File::create(base.join("lock")).expect("a lock");
        lock.lock().expect("a lock");
        let stamp: Vec<_> = ["e2e-client", "e2e-relayd"].into_iter().map(stamp).collect();
        let path = base.join(stamp.join("-"));
        let age = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        let fresh = age.is_some_and(|made| made.elapsed().is_ok_and(|age| age < TEMPLATE_AGE_MAX));
        if !fresh {
            for entry in fs::read_dir(&base).expect("a directory").flatten() {
                // Of earlier builds.
                let _ = fs::remove_dir_all(entry.path());
            }
            let new = base.join("new");
            make_template(&new);
            fs::rename(&new, &path).expect("a new name");
        }
        path
    })
}

/// What tells one build of a binary from another.
fn stamp(name: &str) -> String {
    let metadata = fs::metadata(binary(name)).expect("the binary");
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    format!("{:x}", metadata.len() as u128 ^ modified.unwrap_or_default().as_nanos() << 20)
}

fn make_template(path: &Path) {
    let homes = path.join("homes");
    fs::create_dir_all(&homes).expect("a directory");
    let register = |relay: &Relay, home: &str, name: &str| {
        let client = Client { home: homes.join(home), server: relay.address().to_string() };
        client.run(&["register", name]).printed();
    };
    let stop = |relay: &mut Relay| assert_eq!(relay.stop("TERM"), Some(0));
    let mut relay = Relay::start(&path.join("state"), &[]);
    thread::scope(|scope| {
        scope.spawn(|| register(&relay, "alice", "alice"));
        scope.spawn(|| register(&relay, "carol", "carol"));
    });
    stop(&mut relay);
    copy(&path.join("state"), &path.join("state-of-thief"));
    let mut relay = Relay::start(&path.join("state"), &[]);
    let mut other = Relay::start(&path.join("state-of-thief"), &[]);
    thread::scope(|scope| {
        scope.spawn(|| register(&relay, "bob", "bob"));
        scope.spawn(|| register(&other, "thief", "bob"));
    });
    stop(&mut relay);
    stop(&mut other);
}
