//! What `--limits` says of the relay: that nothing is left out, and that the memory which it promises not to
//! exceed is not exceeded by a relay that is flooded on all sides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use e2e_protocol::ids::Lane;
use e2e_protocol::wire::FrameType;
use e2e_protocol::wire::directory::{Lookup, Want, Whose};
use e2e_protocol::wire::session::{Purpose, Receive, emit_ping};
use e2e_tests::process::{Directory, Relay, binary, resident_bytes_most, run, wait_for};
use e2e_tests::raw::{AMPLE, Raw, frame, send_frame};

/// Names, and connections that log in.
const PEERS: usize = 32;
/// Bytes that one of them tries to have the relay keep.
const PUSHED_BYTES: usize = 512 * 1024;
/// Attempts of one peer to log in.
const LOGINS_MAX: usize = 20;

/// Small ones, so that they are reached soon, by one address.
const LIMITS: [&str; 18] = [
    "names_max=256",
    "connections_max=512",
    "connections_before_login_max=128",
    "connections_before_login_per_address_max=128",
    "connections_per_address_minute=1000000",
    "ring_bytes_max=2097152",
    "ring_bytes_per_mailbox=262144",
    "output_bytes_in_all_max=1048576",
    "partial_bytes_in_all_max=262144",
    "replay_bytes_in_all_max=1048576",
    "deliveries_in_all_max=4096",
    "store_in_flight_bytes_max=1048576",
    "lanes_max=256",
    "requests_max=64",
    "rates_max=1024",
    "roll_overs_max=4",
    "lookups_per_name_minute=100000",
    "mailbox_bytes_max=1048576",
];

fn arguments() -> Vec<String> {
    LIMITS.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect()
}

fn limits_page(arguments: &[String]) -> String {
    let output = run(Command::new(binary("e2e-relayd")).args(arguments).arg("--limits"));
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn ceiling_bytes(page: &str) -> u64 {
    let line = page.lines().find(|line| line.ends_with("  in all")).expect("the last line");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The names of constants and of limits that a source file defines.
fn defined(path: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let source = std::fs::read_to_string(root.join(path)).unwrap();
    let constants = source.lines().filter_map(|line| line.trim_start().strip_prefix("pub const "));
    let constants = constants.filter(|rest| !rest.starts_with("ALL:") && !rest.starts_with('$'));
    constants.map(|rest| rest.split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn prints_every_limit_there_is() {
    let page = limits_page(&[]);
    let printed: Vec<_> = page.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let names = ["protocol/src/limits.rs", "daemon/src/limits.rs", "daemon/src/store/limits.rs"]
        .map(defined)
        .concat();
    assert!(names.len() > 20, "the files were read");
    for name in names {
        assert!(printed.contains(&name.as_str()), "{name} is missing");
    }
    assert!(ceiling_bytes(&page) < 512 << 20, "the defaults suit a small box");
}

#[test]
fn refuses_limits_that_do_not_exist_or_make_no_sense() {
    for (limit, reason) in [
        ("nothing_max=1", "there is no limit nothing_max"),
        ("names_max", "not NAME=NUMBER"),
        ("names_max=many", "'many' is not a number"),
        ("names_max=0", "names_max is from 1 to 1099511627776, not 0"),
        ("connections_per_name_max=300", "can't be 300"),
    ] {
        let output = run(Command::new(binary("e2e-relayd")).args(["--limit", limit, "--limits"]));
        assert_eq!(output.status.code(), Some(64), "{limit}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason), "{said}");
    }
}

/// Writes as much of this as the relay takes, again and again, up to so many bytes.
fn push(stream: &mut TcpStream, bytes: &[u8], bytes_max: usize) {
    stream.set_nonblocking(true).unwrap();
    let mut pushed = 0;
    let mut at = 0;
    let mut stalls = 0;
    while pushed < bytes_max && stalls < 20 {
        match stream.write(&bytes[at..]) {
            Ok(count) => {
                (pushed, at) = (pushed + count, (at + count) % bytes.len());
                stalls = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stalls += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            // The relay has had enough of it.
            Err(_) => return,
        }
    }
}

/// Logs in as one of the peers. Where output takes too much memory, a login may lose its connection too: again, then.
fn let_in(address: SocketAddr, index: usize, receive: Receive) -> Raw {
    let name = format!("p{index}");
    let login = || Raw::try_login(address, &name, Purpose::Login, receive);
    let (raw, _) = (0..LOGINS_MAX).find_map(|_| login()).expect("it still lets people in");
    raw
}

#[test]
fn keeps_below_the_memory_that_it_promises_under_floods_of_all_kinds() {
    let directory = Directory::new();
    let arguments = arguments();
    let ceiling = ceiling_bytes(&limits_page(&arguments));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let relay = Relay::start(&directory.path().join("state"), &[&arguments[..], &["-v"]].concat());
    let address = relay.address();
    let mut peers: Vec<_> = (0..PEERS)
        .map(|index| Raw::login(address, &format!("p{index}"), Purpose::Register, Receive::TakeOver(AMPLE)))
        .collect();
    let uids: Vec<_> = peers.iter().map(|(_, welcome)| welcome.uid).collect();
    // Messages to who doesn't read, results that nobody reads, lanes without end.
    for (index, (raw, _)) in peers.iter_mut().enumerate() {
        let to = uids[(index + 1) % PEERS];
        let flood: Vec<_> = (0..400_u64)
            .flat_map(|number| {
                let size = if number % 4 == 0 { 16_384 } else { 1 };
                send_frame(to, Lane(number % 40 + 1), number / 40 + 1, &vec![7; size])
            })
            .collect();
        push(&mut raw.stream, &flood, PUSHED_BYTES);
    }
    // Answers that nobody reads.
    let mut askers: Vec<_> = (0..PEERS).map(|index| let_in(address, index, Receive::No)).collect();
    let lookup = |index: usize| {
        let whose = Whose::Name(format!("p{index}").parse().unwrap());
        frame(|out| Lookup { request: 1, want: Want::Address, whose }.emit(out))
    };
    for (index, raw) in askers.iter_mut().enumerate() {
        let ping = frame(|out| emit_ping(out, FrameType::Ping, *b"unread!!"));
        push(&mut raw.stream, &[lookup(index), ping].concat(), PUSHED_BYTES);
    }
    // Frames that never end, before and after login.
    let begun = send_frame(uids[0], Lane(99), 1, &[1; 16_384]);
    let mut dribblers: Vec<_> = (0..PEERS).map(|index| let_in(address, index, Receive::No)).collect();
    for raw in &mut dribblers {
        raw.send(&begun[..16_000]);
    }
    // Connections that say nothing.
    let silent: Vec<_> = (0..400).filter_map(|_| TcpStream::connect(address).ok()).collect();
    // Backlogs all at once, by others who don't read either.
    let _readers: Vec<_> = (0..PEERS).map(|index| let_in(address, index, Receive::TakeOver(AMPLE))).collect();
    // The limits are met, whenever the relay comes to it.
    for reason in ["OUTPUT_MEMORY_FULL", "no room for frames", "TOO_MANY_CONNECTIONS"] {
        wait_for(reason, || relay.log().contains(reason).then_some(()));
    }
    drop((silent, dribblers));
    let peak = resident_bytes_most(relay.id());
    assert!(peak > 0 && peak < ceiling, "{peak} bytes at most, {ceiling} promised");
    println!("{peak} bytes at most, {ceiling} promised");
    // And it works.
    let (mut last, _) = Raw::login(address, "last", Purpose::Register, Receive::TakeOver(AMPLE));
    last.ping();
    let mut rest = [0; 1];
    peers[0].0.stream.set_nonblocking(false).unwrap();
    let _ = peers[0].0.stream.read(&mut rest);
}
