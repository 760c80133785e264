//! The real relay and its administrator: the control socket, `ctl`, the metrics, and a stop that loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e_protocol::ids::Lane;
use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::session::{Credit, Purpose, Receive};
use e2e_protocol::wire::transfer::ResultCode;
use e2e_tests::process::{Directory, PATIENCE, Relay, binary, run, send_signal, wait_for};
use e2e_tests::raw::{Raw, send_frame};

const TAKE_OVER: Receive = Receive::TakeOver(Credit { messages: 1_000, bytes: 1 << 20 });

fn ctl(state: &Path, arguments: &[&str]) -> Output {
    run(Command::new(binary("e2e-relayd")).arg("-d").arg(state).arg("ctl").args(arguments))
}

/// What a command says that is carried out.
fn said(state: &Path, arguments: &[&str]) -> String {
    let output = ctl(state, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.starts_with("e2e-relayd: error: ") && error.contains(words), "{error}");
}

fn relay(arguments: &[&str]) -> (Directory, PathBuf, Relay) {
    let directory = Directory::new();
    let state = directory.path().join("state");
    let relay = Relay::start(&state, arguments);
    (directory, state, relay)
}

#[test]
fn control_socket_is_for_its_owner_and_goes_with_the_relay() {
    let (_directory, state, mut relay) = relay(&[]);
    let socket = state.join("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // A relay that was killed leaves it, and the next one takes its place.
    relay.kill();
    assert!(socket.exists());
    assert_refused(&ctl(&state, &["status"]), 69, "no relay answers at");
    let mut relay = Relay::start(&state, &[]);
    assert!(said(&state, &["status"]).contains(&relay.address().to_string()));
    assert_eq!(relay.stop("TERM"), Some(0));
    assert!(!socket.exists());
    assert_refused(&ctl(&state, &["status"]), 69, "no relay answers at");
}

#[test]
fn lies_where_it_is_told_or_in_the_runtime_directory() {
    let directory = Directory::new();
    let (elsewhere, runtime) = (directory.path().join("elsewhere.sock"), directory.path().join("run"));
    fs::create_dir(&runtime).unwrap();
    let mut command = Command::new(binary("e2e-relayd"));
    command.env("RUNTIME_DIRECTORY", &runtime);
    let first = Relay::start_with(command, &directory.path().join("state"), &[]);
    assert!(runtime.join("control.sock").exists());
    let second =
        Relay::start(&directory.path().join("second"), &["--control-socket", elsewhere.to_str().unwrap()]);
    for (socket, relay) in [(runtime.join("control.sock"), &first), (elsewhere, &second)] {
        let mut command = Command::new(binary("e2e-relayd"));
        let output = run(command.arg("--control-socket").arg(socket).arg("--status"));
        let status = String::from_utf8(output.stdout).unwrap();
        assert!(status.contains(&relay.address().to_string()), "{status}");
    }
}

#[test]
fn lists_disconnects_and_removes_names() {
    let (_directory, state, relay) = relay(&[]);
    let (mut bob, _) = Raw::login(relay.address(), "bob", Purpose::Register, TAKE_OVER);
    let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    let row = |name: &str| -> Vec<String> {
        let listed = said(&state, &["names"]);
        let row = listed.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        row.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("bob"), ["bob", "1", "yes", "0", "0", "0", "0"]);
    assert_eq!(row("alice"), ["alice", "1", "no", "0", "0", "0", "0"]);
    assert_eq!(said(&state, &["disconnect", "bob"]), "1 connections ended\n");
    assert_eq!(bob.ending(), Some(ErrorCode::Restarting.into()));
    let uid = alice.uid_of("bob");
    alice.send(&send_frame(uid, Lane(1), 1, b"for nobody to read"));
    assert_eq!(alice.next_results().code, ResultCode::Stored);
    assert_eq!(row("bob").get(3).map(String::as_str), Some("1"));
    assert_eq!(said(&state, &["remove", "bob"]), "");
    assert_eq!(alice.next_results().code, ResultCode::Expired);
    assert!(alice.try_uid_of("bob").is_none());
    assert_refused(&ctl(&state, &["names", "bob"]), 77, "bob: nobody has this name");
    assert_refused(&ctl(&state, &["remove", "bob"]), 77, "nobody has this name");
    assert_refused(&ctl(&state, &["disconnect", "no/name"]), 77, "is not a name");
}

#[test]
fn lists_many_names_whole() {
    let (_directory, state, relay) = relay(&[]);
    let names: Vec<_> = (0..300).map(|number| format!("name{number}")).collect();
    for name in &names {
        let _ = Raw::login(relay.address(), name, Purpose::Register, Receive::No);
    }
    let listed = said(&state, &["names"]);
    let mut listed: Vec<_> = listed.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    listed.sort_unstable();
    let mut expected: Vec<_> = names.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
}

#[test]
fn tokens_that_it_makes_let_people_in_until_they_are_revoked() {
    let (directory, state, mut relay) = relay(&["--registration", "token"]);
    let many = said(&state, &["token", "make", "for", "friends"]);
    let once = said(&state, &["--once", "token", "make"]);
    let register = |relay: &Relay, name: &str, token: &str| {
        let mut command = Command::new(binary("e2e-client"));
        command.arg("-s").arg(relay.address().to_string()).arg("-H").arg(directory.path().join(name));
        run(command.args(["register", name, "--token", token.trim()])).status.code()
    };
    assert_eq!(register(&relay, "alice", &once), Some(0));
    assert_eq!(register(&relay, "bob", &once), Some(77));
    assert_eq!(relay.stop("TERM"), Some(0));
    let relay = Relay::start(&state, &["--registration", "token"]);
    assert_eq!(register(&relay, "bob", &once), Some(77));
    assert_eq!(register(&relay, "bob", &many), Some(0));
    let listed = said(&state, &["token", "list"]);
    assert!(listed.lines().nth(1).unwrap().ends_with("any name    for friends"), "{listed}");
    assert!(
        listed.lines().count() == 2 && !listed.contains(many.trim()),
        "nobody who looks learns it: {listed}"
    );
    let number = listed.lines().nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(said(&state, &["token", "revoke", number]), "");
    assert_eq!(register(&relay, "carol", &many), Some(77));
    assert_refused(&ctl(&state, &["token", "revoke", number]), 77, "there is no token with this number");
}

#[test]
fn refuses_command_lines_that_mean_nothing() {
    let directory = Directory::new();
    for (arguments, words) in [
        (&[][..], "ctl takes a command"),
        (&["dance"], "there is no command 'dance' of ctl"),
        (&["remove"], "ctl remove NAME"),
        (&["remove", "a", "b"], "ctl remove NAME"),
        (&["token"], "ctl token make [LABEL], list, or revoke NUMBER"),
        (&["copy"], "ctl copy DIR"),
        (&["--once", "status"], "--once is for ctl token make"),
        (&["disconnect", "two\nlines"], "control characters"),
    ] {
        assert_refused(&ctl(directory.path(), arguments), 64, words);
    }
}

#[test]
fn says_whether_the_configuration_was_taken_up() {
    let directory = Directory::new();
    let config = directory.path().join("relay.toml");
    fs::write(&config, "").unwrap();
    let state = directory.path().join("state");
    let _relay = Relay::start(&state, &["-c", config.to_str().unwrap()]);
    assert_eq!(said(&state, &["reload"]), "");
    fs::write(&config, "presence = 3").unwrap();
    assert_refused(
        &ctl(&state, &["reload"]),
        77,
        "relay.toml:1: presence: a text in quotation marks is needed",
    );
}

#[test]
fn copy_of_a_running_relay_is_a_relay_of_its_own() {
    let (directory, state, relay) = relay(&[]);
    let _ = Raw::login(relay.address(), "bob", Purpose::Register, Receive::No);
    let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    let uid = alice.uid_of("bob");
    for number in 1..=20 {
        alice.send(&send_frame(uid, Lane(1), number, format!("message {number}").as_bytes()));
    }
    let mut stored = 0;
    while stored < 20 {
        stored += alice.next_results().count;
    }
    let copy = directory.path().join("copy");
    let report = said(&state, &["copy", copy.to_str().unwrap()]);
    assert!(report.starts_with("2 names, 20 messages"), "{report}");
    assert_refused(&ctl(&state, &["copy", copy.to_str().unwrap()]), 73, "");
    alice.ping();
    let second = Relay::start(&copy, &[]);
    let (mut bob, welcome) = Raw::login(second.address(), "bob", Purpose::Login, TAKE_OVER);
    assert_eq!(welcome.queued, 20);
    for number in 1..=20_u64 {
        assert_eq!(bob.next_delivery().envelope, format!("message {number}").as_bytes());
    }
}

#[test]
fn drain_stores_what_is_in_memory_and_sends_everybody_away() {
    let (_directory, state, mut relay) = relay(&["--limit", "ack_wait_ms=100000000"]);
    let (mut bob, _) = Raw::login(relay.address(), "bob", Purpose::Register, TAKE_OVER);
    let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    let uid = alice.uid_of("bob");
    alice.send(&send_frame(uid, Lane(1), 1, b"in memory only"));
    bob.next_delivery();
    assert_eq!(said(&state, &["drain"]), "");
    assert_eq!(alice.next_results().code, ResultCode::Stored);
    for raw in [&mut alice, &mut bob] {
        assert_eq!(raw.ending(), Some(ErrorCode::Restarting.into()));
    }
    wait_for("the relay to go", || std::os::unix::net::UnixStream::connect(state.join("control.sock")).err());
    assert_eq!(relay.stop("TERM"), Some(0));
    let relay = Relay::start(&state, &[]);
    let (mut bob, _) = Raw::login(relay.address(), "bob", Purpose::Login, TAKE_OVER);
    assert_eq!(bob.next_delivery().envelope, b"in memory only");
}

#[test]
fn nobody_is_let_in_while_it_stops_and_it_stops_in_time() {
    let directory = Directory::new();
    let state = directory.path().join("state");
    let mut relay = Relay::start(&state, &["--limit", "stop_ms=300"]);
    // Somebody who reads nothing can't keep it.
    let (_stalled, _) = Raw::login(relay.address(), "bob", Purpose::Register, TAKE_OVER);
    let address = relay.address();
    assert_eq!(relay.stop("TERM"), Some(0));
    assert!(TcpStream::connect(address).is_err());
}

/// What is answered to these bytes at the metrics' address.
fn fetch(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Where the relay says that it serves metrics, the last time that it said so.
fn metrics_address(relay: &Relay) -> SocketAddr {
    wait_for("metrics to be served", || {
        let log = relay.log();
        let (_, rest) = log.rsplit_once("metrics at http://")?;
        rest.split_once('/')?.0.parse().ok()
    })
}

#[test]
fn serves_metrics_where_it_is_told_and_nothing_else() {
    let (_directory, state, relay) = relay(&["--metrics", "127.0.0.1:0"]);
    let address = metrics_address(&relay);
    Raw::connect(relay.address()).send(b"\x01\x02\x03\x04\x05\x06\x07\x08");
    let page = wait_for("a bad frame to be counted", || {
        let page = fetch(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        page.contains("e2e_relayd_reasons_total{reason=\"BAD_MAGIC\"} 1\n").then_some(page)
    });
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    let by_ctl = said(&state, &["metrics"]);
    assert!(by_ctl.lines().count() > 100 && by_ctl.lines().count() == body.lines().count());
    let head = fetch(address, b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"\x00\x01\x02\r\n\r\n", "400"),
    ] {
        assert!(fetch(address, request).starts_with(&format!("HTTP/1.1 {status} ")), "{status}");
    }
    // Who says too much is closed.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)).as_bytes());
    let closed = stream.read(&mut [0; 16]);
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

#[test]
fn guests_who_hang_about_keep_nobody_out() {
    let (_directory, state, relay) = relay(&["--metrics", "127.0.0.1:0"]);
    let address = metrics_address(&relay);
    let idle: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(said(&state, &["status"]).contains("listens on"));
    assert!(fetch(address, b"GET /metrics HTTP/1.1\r\n\r\n").contains("200 OK"));
    // Nonsense at the control socket is answered, and harms nobody.
    let socket = state.join("control.sock");
    for (line, answer) in
        [(&b"dance\n"[..], "error there is no such order\n"), (b"\xff\xfe\n", "error there is")]
    {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(line).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with(answer), "{said}");
    }
    let mut stream = UnixStream::connect(&socket).unwrap();
    let _ = stream.write_all(&[b'x'; 10_000]);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    Raw::connect(relay.address()).hello(Purpose::Login).unwrap();
    drop(idle);
}

#[test]
fn changes_where_it_serves_metrics_while_it_runs() {
    let directory = Directory::new();
    let config = directory.path().join("relay.toml");
    fs::write(&config, "metrics = [\"127.0.0.1:0\"]\n").unwrap();
    let state = directory.path().join("state");
    let relay = Relay::start(&state, &["-c", config.to_str().unwrap()]);
    let first = metrics_address(&relay);
    assert!(fetch(first, b"GET /metrics HTTP/1.1\r\n\r\n").contains("200 OK"));
    fs::write(&config, "metrics = [\"127.0.0.2:0\"]\n").unwrap();
    send_signal(relay.id(), "HUP");
    let second = wait_for("metrics at the new address", || {
        Some(metrics_address(&relay)).filter(|address| *address != first)
    });
    assert!(fetch(second, b"GET /metrics HTTP/1.1\r\n\r\n").contains("200 OK"));
    assert!(TcpStream::connect(first).is_err());
}

#[test]
fn fsck_finds_a_whole_store_whole_and_a_damaged_one_damaged() {
    let (_directory, state, mut relay) = relay(&[]);
    let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    let _ = Raw::login(relay.address(), "bob", Purpose::Register, Receive::No);
    let uid = alice.uid_of("bob");
    alice.send(&send_frame(uid, Lane(1), 1, &[b'x'; 2_000]));
    assert_eq!(alice.next_results().code, ResultCode::Stored);
    said(&state, &["token", "make"]);
    assert_refused(&ctl(&state, &["fsck"]), 75, "");
    assert_eq!(relay.stop("TERM"), Some(0));
    let report = said(&state, &["fsck"]);
    assert!(report.contains("2 names") && report.contains("1 messages"), "{report}");
    assert_eq!(report.lines().count(), 1, "{report}");
    // Envelopes lie in the log as they came.
    let segment = fs::read_dir(state.join("log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(64).position(|window| window == [b'x'; 64]).unwrap();
    *bytes.get_mut(at).unwrap() ^= 1;
    fs::write(&segment, bytes).unwrap();
    let output = ctl(&state, &["fsck", state.to_str().unwrap()]);
    assert_refused(&output, 65, "not in order");
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() > 1, "{output:?}");
}

/// A relay whose configuration, when it is read again, says nothing until somebody writes to it; its directory, the file, its state.
fn with_slow_configuration() -> (Directory, PathBuf, PathBuf, Relay) {
    let directory = Directory::new();
    let (config, state) = (directory.path().join("relay.toml"), directory.path().join("state"));
    fs::write(&config, "").unwrap();
    let relay = Relay::start(&state, &["-c", config.to_str().unwrap()]);
    fs::remove_file(&config).unwrap();
    assert!(run(Command::new("mkfifo").arg(&config)).status.success());
    (directory, config, state, relay)
}

#[test]
fn who_hung_up_or_says_too_much_while_an_answer_takes_its_time_keeps_nobody_out() {
    let (directory, config, state, _relay) = with_slow_configuration();
    let socket = state.join("control.sock");
    let ask = || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"reload\n").unwrap();
        stream
    };
    let waiting = ask();
    for _ in 0..20 {
        drop(ask());
        wait_for("a place to be free", || ctl(&state, &["status"]).status.success().then_some(()));
    }
    let mut flooding = ask();
    let flood = std::thread::spawn(move || while flooding.write(&[b'x'; 65_536]).is_ok() {});
    wait_for("who says too much to be sent away", || flood.is_finished().then_some(()));
    assert!(said(&state, &["status"]).contains("listens on"));
    // Who asked and waits has the answer, also one that sends no more.
    waiting.shutdown(std::net::Shutdown::Write).unwrap();
    let writer = std::thread::spawn(move || while fs::write(&config, "").is_ok() {});
    let mut answer = String::new();
    (&waiting).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "ok\nend\n");
    drop(directory);
    drop(writer);
}

#[test]
fn reads_an_answer_whole_although_nobody_reads_what_it_prints() {
    let directory = Directory::new();
    let socket = directory.path().join("control.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let relay = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"ok\n").unwrap();
        stream.write_all(&vec![b'x'; 4 << 20]).unwrap();
        stream.write_all(b"end\n").unwrap();
    });
    let mut command = Command::new(binary("e2e-relayd"));
    command.arg("--control-socket").arg(&socket).args(["ctl", "names"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    // The real one would send away who takes nothing for some seconds.
    wait_for("the answer to be read", || relay.is_finished().then_some(()));
    let mut printed = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(printed.len(), 4 << 20);
}

#[test]
fn answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let directory = Directory::new();
    let socket = directory.path().join("control.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let relay = std::thread::spawn(move || {
        for answer in ["", "ok", "ok\nNAME  CONN", "yes\nend\n"] {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 6]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for _ in 0..4 {
        let mut command = Command::new(binary("e2e-relayd"));
        let output = run(command.arg("--control-socket").arg(&socket).args(["ctl", "names"]));
        assert_refused(&output, 74, "the answer broke off");
        assert!(output.stdout.is_empty());
    }
    relay.join().unwrap();
}

#[test]
fn reload_is_answered_by_what_was_read_after_it_was_asked_for() {
    let (_directory, config, state, _relay) = with_slow_configuration();
    let ask = || {
        let mut stream = UnixStream::connect(state.join("control.sock")).unwrap();
        stream.write_all(b"reload\n").unwrap();
        stream
    };
    let _first = ask();
    // Opened as soon as the relay reads it.
    let mut slow = fs::OpenOptions::new().write(true).open(&config).unwrap();
    fs::remove_file(&config).unwrap();
    fs::write(&config, "presence = 3").unwrap();
    let second = ask();
    said(&state, &["status"]);
    slow.write_all(b"# in order\n").unwrap();
    drop(slow);
    let mut answer = String::new();
    (&second).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("error ") && answer.contains("relay.toml:1: presence"), "{answer}");
}

#[test]
fn puts_its_socket_in_no_files_place() {
    let directory = Directory::new();
    let file = directory.path().join("letter");
    fs::write(&file, "dear").unwrap();
    let mut command = Command::new(binary("e2e-relayd"));
    command.args(["-l", "127.0.0.1:0", "-d"]).arg(directory.path().join("state"));
    let output = run(command.arg("--control-socket").arg(&file));
    assert_refused(&output, 73, "letter is there, and no socket");
    assert_eq!(fs::read_to_string(&file).unwrap(), "dear");
}
