//! The relay under a service manager: what it says, and the sockets that it is given.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_tests::process::{Directory, Relay, binary, run, send_signal, wait_for};
use e2e_tests::raw::Raw;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a relay as a service manager does that wants to hear from it each 300 ms, and waits until it is ready.
fn supervised(directory: &Directory) -> (Relay, UnixDatagram, PathBuf) {
    let notify = directory.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "WATCHDOG_USEC=300000 WATCHDOG_PID=$$ exec \"$0\" \"$@\""]).arg(binary("e2e-relayd"));
    command.env("NOTIFY_SOCKET", &notify);
    let relay = Relay::start_with(command, &directory.path().join("state"), &[]);
    hears(&socket, "READY=1");
    (relay, socket, notify)
}

/// Waits for a message with this line in it.
fn hears(socket: &UnixDatagram, line: &str) {
    let mut bytes = [0; 4096];
    loop {
        let count = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {line}: {error}"));
        let said = String::from_utf8(bytes.get(..count).unwrap().to_vec()).unwrap();
        if said.lines().any(|said| said == line) {
            return;
        }
    }
}

#[test]
fn tells_that_it_stops_where_the_administrator_drains_it() {
    let directory = Directory::new();
    let (_relay, socket, _) = supervised(&directory);
    let mut command = Command::new(binary("e2e-relayd"));
    let drained = command.arg("-d").arg(directory.path().join("state")).args(["ctl", "drain"]).status();
    assert!(drained.unwrap().success());
    hears(&socket, "STOPPING=1");
}

#[test]
fn tells_that_it_is_ready_alive_busy_and_stops() {
    let directory = Directory::new();
    let (mut relay, socket, _) = supervised(&directory);
    for _ in 0..3 {
        hears(&socket, "WATCHDOG=1");
    }
    let (_alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    hears(&socket, "STATUS=1 connections, 1 names");
    send_signal(relay.id(), "TERM");
    hears(&socket, "STOPPING=1");
    assert_eq!(relay.stop("TERM"), Some(0));
}

#[test]
fn tells_that_it_reads_its_configuration_again() {
    let directory = Directory::new();
    let (relay, socket, _) = supervised(&directory);
    send_signal(relay.id(), "HUP");
    hears(&socket, "RELOADING=1");
    hears(&socket, "READY=1");
}

#[test]
fn goes_on_where_nobody_listens_to_it_any_more() {
    let directory = Directory::new();
    let (mut relay, socket, path) = supervised(&directory);
    drop(socket);
    fs::remove_file(&path).unwrap();
    let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    alice.ping();
    assert_eq!(relay.stop("TERM"), Some(0));
}

/// Starts a relay that is given a listening socket, and nothing else to listen on.
fn with_socket(listener: &TcpListener, state: &Path) -> Child {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\""])
        .arg(binary("e2e-relayd"))
        .arg("-d")
        .arg(state)
        .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
        .stderr(Stdio::null());
    command.spawn().expect("sh is there")
}

fn ping(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"PING\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn takes_up_the_socket_that_outlives_it() {
    let directory = Directory::new();
    let state = directory.path().join("state");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut relay = with_socket(&listener, &state);
    assert_eq!(ping(address), "PONG\n");
    // Who comes while it is gone waits for the next.
    send_signal(relay.id(), "TERM");
    let ended = wait_for("the relay to stop", || relay.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    let waiting = std::thread::spawn(move || ping(address));
    let mut relay = with_socket(&listener, &state);
    assert_eq!(waiting.join().unwrap(), "PONG\n");
    relay.kill().unwrap();
    relay.wait().unwrap();
}

/// The units of this repository in a directory of their own, with programs that are there.
fn units(directory: &Path) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("systemd");
    let programs = binary("e2e-relayd").parent().unwrap().display().to_string();
    let mut units = Vec::new();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if !path.extension().is_some_and(|extension| extension == "service" || extension == "socket") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let unit = directory.join(path.file_name().unwrap());
        fs::write(&unit, text.replace("/usr/bin", &programs)).unwrap();
        units.push(unit);
    }
    units
}

#[test]
fn its_units_are_good_and_leave_it_little_to_reach() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: there is no systemd-analyze");
        return;
    }
    let directory = Directory::new();
    let units = units(directory.path());
    assert!(units.len() >= 3);
    let verified = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    // It looks at units of this machine too.
    let said = String::from_utf8(verified.stderr).unwrap();
    let of_ours: Vec<_> = said.lines().filter(|line| line.contains("e2e-")).collect();
    assert_eq!(of_ours, [""; 0], "{said}");
    let service = directory.path().join("e2e-relayd.service");
    let mut security = Command::new("systemd-analyze");
    // Tenths: 1.5 of 10.
    let rated = run(security.args(["security", "--offline=true", "--threshold=15"]).arg(service));
    assert!(rated.status.success(), "{}", String::from_utf8_lossy(&rated.stdout));
}
