//! `e2e-relayd` as a process: what it says and how it exits when something is wrong, and that nothing
//! stored is lost by it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use e2e_protocol::ids::Lane;
use e2e_protocol::wire::session::{Purpose, Receive};
use e2e_protocol::wire::transfer::ResultCode;
use e2e_protocol::wire::{Code, ErrorCode};
use e2e_tests::client::files;
use e2e_tests::ledger::Ledger;
use e2e_tests::process::{Directory, Relay, binary, private_mounts, run, send_signal};
use e2e_tests::raw::{AMPLE, Raw, identity, send_frame};

const RECEIVE: Receive = Receive::TakeOver(AMPLE);

/// Runs the relay with these arguments, which must make it end by itself.
fn end(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("e2e-relayd"));
    run(command.args(arguments).env_remove("RUST_LOG"))
}

/// Asserts on the exit code, that there is one line of error with this in it, and at most one hint; and
/// that nobody was told anything else. Returns the error.
fn assert_error(output: &Output, exit: i32, words: &str) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(output.status.code(), Some(exit), "{text}");
    let error = lines.first().and_then(|line| line.strip_prefix("e2e-relayd: error: ")).expect(&text);
    assert!(error.contains(words), "'{words}' is not in: {error}");
    assert!(lines.len() <= 2 && lines[1..].iter().all(|line| line.starts_with("hint: ")), "{text}");
    assert!(output.stdout.is_empty());
    error.to_owned()
}

/// The arguments of a relay that would run.
fn good(state: &Path) -> Vec<&str> {
    vec!["-l", "127.0.0.1:0", "-d", state.to_str().unwrap()]
}

#[test]
fn refuses_bad_command_lines() {
    let directory = Directory::new();
    let state = directory.path().join("state");
    for (arguments, words) in [
        (&["--nonsense"][..], "nonsense"),
        (&["extra"], "extra"),
        (&["-l"], "l"),
        (&["-l", "nonsense"], "nonsense"),
        (&["-l", "127.0.0.1:99999"], "99999"),
        (&["-d"], "d"),
        (&["--registration", "maybe"], "maybe"),
        (&["--token-file", "/dev/null"], "token"),
        (&["-d", "/one", "-d", "/two"], "d"),
    ] {
        let mut all = if arguments.contains(&"-d") { vec![] } else { vec!["-d", state.to_str().unwrap()] };
        all.extend(arguments);
        assert_error(&end(&all), 64, words);
    }
    assert!(!state.exists(), "a bad command line changes nothing");
}

#[test]
fn prints_help_with_every_flag_and_the_version() {
    for flag in ["--help", "-h"] {
        let output = end(&[flag]);
        assert!(output.status.success() && output.stderr.is_empty());
        let help = String::from_utf8(output.stdout).unwrap();
        for known in [
            "-l, --listen ADDR:PORT",
            "-d, --state-directory DIR",
            "--registration MODE",
            "--token-file FILE",
            "--ready-file FILE",
            "-v, --verbose",
            "-V, --version",
            "-h, --help",
            "5001",
            "Exit codes",
        ] {
            assert!(help.contains(known), "{known} is missing in:\n{help}");
        }
    }
    for flag in ["--version", "-V"] {
        let output = end(&[flag]);
        assert!(output.status.success() && output.stderr.is_empty());
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("e2e-relayd {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn ends_quietly_when_nobody_reads_its_help() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output =
        Command::new(binary("e2e-relayd")).arg("--help").stdout(writer).stderr(Stdio::piped()).output();
    let output = output.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn refuses_a_port_in_use() {
    let directory = Directory::new();
    let state = directory.path().join("state");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = end(&["-l", &address, "-d", state.to_str().unwrap()]);
    let error = assert_error(&output, 69, &address);
    assert!(error.contains("in use"), "{error}");
    assert!(!state.exists(), "a relay that can't listen doesn't touch the state");
    // One of several is enough to stop it.
    let output = end(&["-l", "127.0.0.1:0", "-l", &address, "-d", state.to_str().unwrap()]);
    assert_error(&output, 69, &address);
    // An address that this machine doesn't have (reserved for documentation).
    let output = end(&["-l", "192.0.2.1:0", "-d", state.to_str().unwrap()]);
    assert_error(&output, 69, "192.0.2.1");
}

#[test]
fn refuses_a_state_directory_that_it_cannot_use() {
    let directory = Directory::new();
    let file = directory.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    // Root may read everything, so not permissions: a file in the way.
    assert_error(&end(&good(&file)), 73, file.to_str().unwrap());
    assert_error(&end(&good(&file.join("below"))), 73, file.to_str().unwrap());
    assert_error(&end(&good(Path::new("/proc/state"))), 73, "/proc/state");
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
    // A directory where the database should be.
    let odd = directory.path().join("odd");
    fs::create_dir_all(odd.join("relay.redb")).unwrap();
    let output = end(&good(&odd));
    assert!(matches!(output.status.code(), Some(65 | 73)), "{output:?}");
    assert!(odd.join("relay.redb").is_dir());
    // The files that flags name.
    let state = directory.path().join("state");
    let missing = directory.path().join("missing/file");
    let missing = missing.to_str().unwrap();
    let with = |more: &[&'static str], path| [good(&state), more.to_vec(), vec![path]].concat();
    assert_error(&end(&with(&["--registration", "token", "--token-file"], missing)), 73, missing);
    assert_error(&end(&with(&["--ready-file"], missing)), 73, missing);
    let empty = directory.path().join("empty");
    fs::write(&empty, "\n  \n").unwrap();
    let path = empty.to_str().unwrap();
    assert_error(
        &end(&[good(&state), vec!["--registration", "token", "--token-file", path]].concat()),
        65,
        path,
    );
}

/// A state directory with a name and a stored message in it.
fn filled(directory: &Directory) -> PathBuf {
    let state = directory.path().join("state");
    let mut relay = Relay::start(&state, &[]);
    let (mut alice, alices) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    alice.send(&send_frame(alices.uid, Lane(1), 1, b"kept"));
    assert_eq!(alice.next_results().code, ResultCode::Stored);
    assert_eq!(relay.stop("TERM"), Some(0));
    state
}

fn assert_kept(relay: &Relay) {
    let (mut alice, welcome) = Raw::login(relay.address(), "alice", Purpose::Login, RECEIVE);
    assert_eq!(welcome.queued, 1);
    assert_eq!(alice.next_delivery().envelope, b"kept");
}

/// Kinds of damage that leave little or nothing of a database.
fn damaged(whole: &[u8]) -> [(&'static str, Vec<u8>); 5] {
    let scattered: Vec<u8> =
        whole.iter().enumerate().map(|(at, byte)| if at % 97 == 0 { byte ^ 0xA5 } else { *byte }).collect();
    [
        ("empty", Vec::new()),
        ("something else", b"this is not a database\n".repeat(1_000)),
        ("cut off", whole[..whole.len() / 3].to_vec()),
        ("zeros", vec![0; whole.len()]),
        ("bytes changed all over it", scattered),
    ]
}

#[test]
fn refuses_damaged_state_whose_relay_id_is_lost_and_leaves_it_as_it_is() {
    let directory = Directory::new();
    let state = filled(&directory);
    let database = state.join("relay.redb");
    fs::remove_file(state.join("relay-id")).unwrap();
    let whole = fs::read(&database).unwrap();
    for (what, bytes) in damaged(&whole) {
        if what == "cut off" {
            continue; // its id may be in what is left
        }
        fs::write(&database, &bytes).unwrap();
        let output = end(&good(&state));
        let error = assert_error(&output, 65, database.to_str().unwrap());
        assert!(error.contains("corrupted"), "{what}: {error}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("hint: "), "{what}");
        assert!(fs::read(&database).unwrap() == bytes, "{what}: the file was changed");
    }
    // And with the file back, all is there.
    fs::write(&database, &whole).unwrap();
    assert_kept(&Relay::start(&state, &[]));
}

#[test]
fn starts_on_damaged_state_with_what_is_whole_and_sets_it_aside() {
    let directory = Directory::new();
    let state = filled(&directory);
    let (database, aside) = (state.join("relay.redb"), state.join("relay.redb.damaged"));
    let whole = fs::read(&database).unwrap();
    let id_of = |relay: &Relay| Raw::connect(relay.address()).hello(Purpose::Login).unwrap().relay_id;
    let id = id_of(&Relay::start(&state, &[]));
    for (what, bytes) in damaged(&whole) {
        fs::write(&database, &bytes).unwrap();
        let mut relay = Relay::start(&state, &[]);
        assert_eq!(id_of(&relay), id, "{what}");
        assert_eq!(relay.stop("TERM"), Some(0));
        let log = relay.log();
        let errors: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{what}: {log}");
        assert!(
            errors[0].contains("damaged") && errors[0].contains(aside.to_str().unwrap()),
            "{what}: {log}"
        );
        assert!(!log.contains("panicked"), "{what}: {log}");
        assert!(fs::read(&aside).unwrap() == bytes, "{what}");
        fs::remove_file(&aside).unwrap();
    }
    // A page of messages is lost, or a page that is not in use: the names stay.
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096 + 8] ^= 1;
        fs::write(&database, &bytes).unwrap();
        let relay = Relay::start(&state, &[]);
        let mut raw = Raw::connect(relay.address());
        let login = raw.log_in(identity(), "alice", Purpose::Register, RECEIVE, None);
        assert!(login.is_ok_and(|welcome| welcome.queued <= 1), "page {page}");
        assert!(!relay.log().contains("panicked"), "{}", relay.log());
        let _ = fs::remove_file(&aside);
    }
}

#[test]
fn refuses_a_second_relay_on_the_same_state() {
    let directory = Directory::new();
    let state = filled(&directory);
    let relay = Relay::start(&state, &[]);
    assert_error(&end(&good(&state)), 75, state.to_str().unwrap());
    assert_kept(&relay);
    drop(relay);
    // The lock of a relay that was killed doesn't outlive it.
    assert_kept(&Relay::start(&state, &[]));
}

#[test]
fn stops_cleanly_on_a_signal_and_stores_what_was_in_memory() {
    for signal in ["TERM", "INT"] {
        let directory = Directory::new();
        let state = directory.path().join("state");
        let mut relay = Relay::start(&state, &[]);
        let (mut bob, bobs) = Raw::login(relay.address(), "bob", Purpose::Register, RECEIVE);
        let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
        let idle = Raw::connect(relay.address());
        for number in 1..=20 {
            alice.send(&send_frame(bobs.uid, Lane(1), number, format!("{number}").as_bytes()));
        }
        // Delivered, not acknowledged: in memory until the clock of the ring runs out, or now.
        for _ in 0..20 {
            bob.next_delivery();
        }
        assert_eq!(relay.stop(signal), Some(0), "SIG{signal}");
        for mut raw in [alice, bob, idle] {
            assert_eq!(raw.ending(), Some(ErrorCode::Restarting.into()), "SIG{signal}");
        }
        assert!(relay.log().contains("stopped"), "{}", relay.log());
        assert!(!relay.log().contains("panicked"), "{}", relay.log());
        let relay = Relay::start(&state, &[]);
        let (mut bob, welcome) = Raw::login(relay.address(), "bob", Purpose::Login, RECEIVE);
        assert_eq!(welcome.queued, 20);
        for number in 1..=20 {
            assert_eq!(bob.next_delivery().envelope, format!("{number}").as_bytes());
        }
    }
}

#[test]
fn stops_at_once_when_told_twice() {
    let directory = Directory::new();
    let mut relay = Relay::start(&directory.path().join("state"), &[]);
    send_signal(relay.id(), "INT");
    assert_eq!(relay.stop("TERM"), Some(0));
}

#[test]
fn writes_where_it_listens_into_the_ready_file() {
    let directory = Directory::new();
    let (state, ready) = (directory.path().join("state"), directory.path().join("ready"));
    let two = ["-l", "127.0.0.1:0", "--ready-file", ready.to_str().unwrap()];
    // The harness gives a ready file of its own, so this one is started by hand.
    let mut command = Command::new(binary("e2e-relayd"));
    command.args(two).args(["-l", "127.0.0.2:0", "-d", state.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let text = e2e_tests::process::wait_for("the ready file", || fs::read_to_string(&ready).ok());
    let addresses: Vec<SocketAddr> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(text.ends_with('\n'));
    assert_eq!(addresses.len(), 2);
    assert_eq!(
        addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>(),
        ["127.0.0.1", "127.0.0.2"]
    );
    for address in &addresses {
        let mut raw = Raw::connect(*address);
        raw.log_in(identity(), "alice", Purpose::Register, Receive::No, None).expect("it listens there");
    }
    send_signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    for address in addresses {
        assert!(log.contains(&address.to_string()), "the log says it too: {log}");
    }
}

#[test]
fn keeps_its_state_to_itself() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    let state = filled(&directory);
    let paths: Vec<_> = files(&state).into_iter().chain([state.clone(), state.join("log")]).collect();
    assert!(paths.len() >= 6, "database, lock, id and a segment: {paths:?}");
    for path in paths {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

/// A relay whose state lies on a tmpfs of this size, seen by it alone (and by us through /proc).
struct SmallDisk {
    relay: Relay,
    state: PathBuf,
}

impl SmallDisk {
    /// `None`, having said so, where that needs rights that the test doesn't have.
    fn start(directory: &Directory, kib: u32, floor_bytes: u64) -> Option<Self> {
        if !private_mounts() {
            println!("skipped: mounting a tmpfs in a private mount namespace needs root and unshare");
            return None;
        }
        let mount = directory.path().join("disk");
        fs::create_dir_all(&mount).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={kib}k,mode=0700 tmpfs '{}' && exec \"$0\" \"$@\"",
            mount.display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).arg(binary("e2e-relayd"));
        // The ready file lies beside the state, on the small disk: name another one.
        let floor = format!("disk_floor_bytes={floor_bytes}");
        let relay =
            Relay::start_elsewhere(command, &mount.join("state"), directory.path(), &["--limit", &floor]);
        let state = PathBuf::from(format!("/proc/{}/root{}", relay.id(), mount.join("state").display()));
        Some(Self { relay, state })
    }
}

#[test]
fn refuses_to_store_on_a_full_disk_and_loses_nothing() {
    // With one segment of the log, and with more.
    for kibibytes in [6 * 1024, 40 * 1024] {
        fill_a_disk(kibibytes);
    }
}

fn fill_a_disk(kibibytes: u32) {
    let directory = Directory::new();
    let Some(mut disk) = SmallDisk::start(&directory, kibibytes, 1) else { return };
    let address = disk.relay.address();
    let (mut alice, _) = Raw::login(address, "alice", Purpose::Register, Receive::No);
    let bob = Raw::login(address, "bob", Purpose::Register, Receive::No).1.uid;
    // Fill it, one message after the other: each is stored or refused.
    let envelope = |number: u64| [number.to_be_bytes().to_vec(), vec![0x77; 8_000]].concat();
    let mut stored = Vec::new();
    let mut number = 0;
    let reason = loop {
        number += 1;
        assert!(number < 10_000, "a disk of some megabytes never fills");
        alice.send(&send_frame(bob, Lane(1), number, &envelope(number)));
        let results = alice.next_results();
        match results.code {
            ResultCode::Stored => stored.push(number),
            ResultCode::Refused => break results.reason,
            // It may have reached the disk, or not; the next one is not tried.
            ResultCode::Uncertain => {}
            code => panic!("{code:?}"),
        }
    };
    assert_eq!(reason, Code::from(ErrorCode::StoreFailed));
    assert!(stored.len() > 50, "{} messages stored", stored.len());
    // It goes on for those who are there.
    let (mut carol, carols) = {
        let mut raw = Raw::connect(address);
        match raw.log_in(identity(), "alice", Purpose::Login, RECEIVE, None) {
            Ok(welcome) => (raw, welcome),
            Err(code) => panic!("{code}"),
        }
    };
    alice.send(&send_frame(carols.uid, Lane(2), 1, b"live"));
    let delivery = carol.next_delivery();
    assert_eq!(delivery.envelope, b"live");
    carol.acknowledge(delivery.routing.sequence, 1);
    let mut live = Ledger::new(Lane(2));
    assert_eq!(live.wait_for_final(&mut alice, 1), ResultCode::Collected);
    // Registration needs the disk.
    let mut raw = Raw::connect(address);
    let late = raw.log_in(identity(), "late", Purpose::Register, Receive::No, None);
    if let Err(code) = late {
        assert_eq!(code, ErrorCode::StoreFailed.into());
    }
    // Killed on the full disk, and started on it by another process: what was stored is there. The
    // copy is taken while nobody writes.
    send_signal(disk.relay.id(), "STOP");
    let copy = directory.path().join("copy");
    fs::create_dir_all(copy.join("log")).unwrap();
    fs::copy(disk.state.join("relay.redb"), copy.join("relay.redb")).unwrap();
    for segment in fs::read_dir(disk.state.join("log")).unwrap() {
        let segment = segment.unwrap();
        fs::copy(segment.path(), copy.join("log").join(segment.file_name())).unwrap();
    }
    disk.relay.kill();
    let relay = Relay::start(&copy, &[]);
    let (mut reader, welcome) = Raw::login(relay.address(), "bob", Purpose::Login, RECEIVE);
    assert!(welcome.queued >= stored.len() as u64, "{} of {}", welcome.queued, stored.len());
    let mut arrived = Vec::new();
    for _ in 0..welcome.queued {
        let delivery = reader.next_delivery();
        let number = delivery.routing.number.0;
        assert!(delivery.envelope == envelope(number));
        reader.acknowledge(delivery.routing.sequence, 1);
        arrived.push(number);
    }
    arrived.retain(|number| stored.contains(number));
    assert_eq!(arrived, stored);
}

#[test]
fn stores_again_once_there_is_room() {
    let directory = Directory::new();
    let Some(disk) = SmallDisk::start(&directory, 8 * 1024, 1) else { return };
    let address = disk.relay.address();
    let (mut alice, alices) = Raw::login(address, "alice", Purpose::Register, Receive::No);
    // Somebody else's file takes the rest of the disk.
    let ballast = disk.state.join("../ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    drop(file);
    let mut number = 0;
    let mut send = |alice: &mut Raw| {
        number += 1;
        alice.send(&send_frame(alices.uid, Lane(1), number, &[0x11; 16_000]));
        alice.next_results()
    };
    let mut stored = 0;
    let refused = loop {
        let results = send(&mut alice);
        match results.code {
            ResultCode::Stored => stored += 1,
            ResultCode::Uncertain => {}
            _ => break results,
        }
    };
    assert_eq!((refused.code, refused.reason), (ResultCode::Refused, ErrorCode::StoreFailed.into()));
    fs::remove_file(&ballast).unwrap();
    e2e_tests::process::wait_for("the relay to store again", || {
        (send(&mut alice).code == ResultCode::Stored).then_some(())
    });
    stored += 1;
    let (mut reader, welcome) = Raw::login(address, "alice", Purpose::Login, RECEIVE);
    assert!(welcome.queued >= stored, "{} of {stored}", welcome.queued);
    reader.next_delivery();
}

#[test]
fn keeps_a_reserve_on_the_disk_for_what_it_accepted() {
    const FLOOR: u64 = 2 * 1024 * 1024;
    let directory = Directory::new();
    let Some(disk) = SmallDisk::start(&directory, 32 * 1024, FLOOR) else { return };
    let address = disk.relay.address();
    let (mut alice, _) = Raw::login(address, "alice", Purpose::Register, Receive::No);
    let (bob, bobs) = Raw::login(address, "bob", Purpose::Register, RECEIVE);
    let away = Raw::login(address, "away", Purpose::Register, Receive::No).1.uid;
    let (mut reader, readers) = Raw::login(address, "reader", Purpose::Register, RECEIVE);
    // Somebody else's file leaves three quarters of the floor.
    let ballast = disk.state.join("../ballast");
    let file = fs::File::create(&ballast).unwrap();
    let free = || {
        let output = run(Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&disk.state));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(|field| field.parse::<u64>().unwrap()).product::<u64>()
    };
    let mut written = 0;
    while free() > FLOOR * 3 / 4 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 65_536], written).unwrap();
        written += 65_536;
    }
    drop(file);
    let mut number = 0;
    let mut to_away = |alice: &mut Raw| {
        number += 1;
        alice.send(&send_frame(away, Lane(1), number, b"for who is away"));
        let results = loop {
            let results = alice.next_results();
            if results.lane == Lane(1) {
                break results;
            }
        };
        (results.code, results.reason)
    };
    let refused = (ResultCode::Refused, Code::from(ErrorCode::StoreFailed));
    e2e_tests::process::wait_for("the relay to see it", || (to_away(&mut alice) == refused).then_some(()));
    // What is live goes on; what was accepted so, and is not acknowledged, is stored in the reserve.
    alice.send(&send_frame(readers.uid, Lane(2), 1, b"live"));
    let delivery = reader.next_delivery();
    reader.acknowledge(delivery.routing.sequence, 1);
    assert_eq!(Ledger::new(Lane(2)).wait_for_final(&mut alice, 1), ResultCode::Collected);
    alice.send(&send_frame(bobs.uid, Lane(3), 1, b"not acknowledged"));
    assert_eq!(Ledger::new(Lane(3)).wait_for_first(&mut alice, 1), ResultCode::Stored);
    drop(bob);
    // No new names, but those that are known come in, and take what is theirs off the disk.
    let mut raw = Raw::connect(address);
    let late = raw.log_in(identity(), "late", Purpose::Register, Receive::No, None);
    assert_eq!(late, Err(ErrorCode::StoreFailed.into()));
    let (mut bob, welcome) = Raw::login(address, "bob", Purpose::Login, RECEIVE);
    assert_eq!(welcome.queued, 1);
    let delivery = bob.next_delivery();
    bob.acknowledge(delivery.routing.sequence, 1);
    bob.ping();
    drop(bob);
    assert_eq!(Raw::login(address, "bob", Purpose::Login, RECEIVE).1.queued, 0);
    assert_eq!(to_away(&mut alice), refused);
    assert!(disk.relay.log().contains("nothing new is taken until there is room"), "{}", disk.relay.log());
    // With room, everything is as before.
    fs::remove_file(&ballast).unwrap();
    e2e_tests::process::wait_for("the relay to store again", || {
        (to_away(&mut alice).0 == ResultCode::Stored).then_some(())
    });
    assert!(Raw::connect(address).log_in(identity(), "late", Purpose::Register, Receive::No, None).is_ok());
}

#[test]
fn says_that_the_disk_is_full_at_start() {
    if !private_mounts() {
        println!("skipped: mounting a tmpfs in a private mount namespace needs root and unshare");
        return;
    }
    let directory = Directory::new();
    let mount = directory.path().join("disk");
    fs::create_dir_all(&mount).unwrap();
    let path = mount.display();
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs '{path}' && {{ cat /dev/zero > '{path}/ballast' 2>/dev/null; \
         exec \"$0\" -l 127.0.0.1:0 -d '{path}/state'; }}"
    );
    let output = run(Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(binary("e2e-relayd")));
    let error = assert_error(&output, 73, mount.to_str().unwrap());
    assert!(error.contains("full") || error.contains("No space"), "{error}");
}
