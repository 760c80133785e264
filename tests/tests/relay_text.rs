//! Debugging sessions in text, and a proxy in front, at the real relay (spec/wire.md, sections 13 and 14).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};

use e2e_protocol::wire::ErrorCode;
use e2e_protocol::wire::session::{Hello, Purpose, Receive};
use e2e_tests::process::{Directory, PATIENCE, Relay, run_with_input, wait_for};
use e2e_tests::raw::{Raw, frame, identity};

fn start(directory: &Directory, arguments: &[&str]) -> Relay {
    Relay::start(&directory.path().join("state"), arguments)
}

/// Says this, and everything that is answered until the relay closes.
fn say(relay: &Relay, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).expect("text")
}

/// A header that says that the client is at this address.
fn header(last_octet: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    bytes.extend([203, 0, 113, last_octet, 127, 0, 0, 1, 0x30, 0x39, 0x13, 0x89]);
    bytes
}

fn hello() -> Vec<u8> {
    frame(|out| Hello { version_min: 1, version_max: 1, purpose: Purpose::Login }.emit(out))
}

#[test]
fn answers_lines_and_ends_with_its_peer() {
    let directory = Directory::new();
    let relay = start(&directory, &[]);
    assert_eq!(say(&relay, b"PING\n"), "PONG\n");
    assert_eq!(say(&relay, b"ping"), "PONG\n", "the end ends a line, too");
    assert!(say(&relay, b"HELP\n").contains("STAT"));
    let refused = say(&relay, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(refused.lines().count(), 2, "{refused}");
    assert!(refused.lines().all(|line| line.starts_with("ERROR ")), "{refused}");
    let stat = say(&relay, b"STAT\n");
    let number = |name: &str| -> u64 {
        let line = stat.lines().find(|line| line.split_whitespace().next() == Some(name)).expect(name);
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert_eq!((number("names"), number("connections")), (0, 1));
    assert!(number("resident_bytes") < number("memory_ceiling_bytes"));
}

#[test]
fn answers_netcat() {
    let directory = Directory::new();
    let relay = start(&directory, &[]);
    let input = directory.path().join("input");
    std::fs::write(&input, "PING\n").unwrap();
    let port = relay.address().port().to_string();
    let mut command = Command::new("nc");
    command.args(["-N", "127.0.0.1", &port]);
    if Command::new("nc").arg("-h").stdin(Stdio::null()).output().is_err() {
        return println!("skipped: there is no nc");
    }
    let output = run_with_input(&mut command, Stdio::from(File::open(input).unwrap()));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "PONG\n");
}

#[test]
fn takes_frames_in_hex_and_explains_its_answers() {
    let directory = Directory::new();
    let relay = start(&directory, &[]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    let session = format!("HEX\n{} # HELLO\n", hex(&hello()));
    let answer = say(&relay, session.as_bytes());
    assert!(answer.starts_with("# one frame a line\ne2 52 4c 59    #  0 magic\n"), "{answer}");
    for words in ["type: CHALLENGE", "registration: open", "relay id", "nonce"] {
        assert!(answer.contains(words), "{words}: {answer}");
    }
    // What is no frame, as a line and as bytes.
    let answer = say(&relay, b"HEX\ne2 52\nPING\n");
    assert!(answer.contains("ERROR the frame has more than 2 bytes\nPONG\n"), "{answer}");
    let answer = say(&relay, b"HEX\nff ff ff ff\nPING\n");
    assert!(answer.contains("BAD_MAGIC") && answer.contains("closes: yes"), "{answer}");
}

#[test]
fn takes_the_address_from_a_trusted_proxy_only() {
    let directory = Directory::new();
    let relay = start(&directory, &["-v"]);
    let mut raw = Raw::connect(relay.address());
    raw.send(&[header(7), hello()].concat());
    assert_eq!(raw.ending(), Some(ErrorCode::BadMagic.into()), "it trusts nobody");
    drop(relay);

    let arguments = ["-v", "--proxy-from", "127.0.0.0/8", "--limit", "connections_per_address_max=1"];
    let relay = start(&directory, &arguments);
    let behind = |last_octet: u8| {
        let mut raw = Raw::connect(relay.address());
        raw.send(&header(last_octet));
        let login = raw.log_in(identity(), &format!("u{last_octet}"), Purpose::Register, Receive::No, None);
        (raw, login)
    };
    let first = behind(7);
    assert!(first.1.is_ok());
    assert_eq!(behind(7).1.unwrap_err(), ErrorCode::TooManyConnections.into(), "it is the client's address");
    assert!(behind(8).1.is_ok());
    wait_for("the log", || relay.log().contains("203.0.113.7:12345").then_some(()));
    // Without a header, or with a bad one, it ends without a word.
    for bytes in [hello(), b"PING\n".to_vec(), [&header(9)[..12], &[0x31, 0, 0, 0]].concat()] {
        let mut raw = Raw::connect(relay.address());
        raw.send(&bytes);
        assert_eq!(raw.ending(), None);
    }
    wait_for("the log", || relay.log().contains("BAD_PROXY_HEADER").then_some(()));
    // Text behind it, and STAT not for somebody who only comes by way of loopback.
    assert_eq!(say(&relay, &[header(10), b"PING\n".to_vec()].concat()), "PONG\n");
    assert!(say(&relay, &[header(10), b"STAT\n".to_vec()].concat()).starts_with("ERROR "));
}

#[test]
fn allows_stat_from_where_it_is_told_to() {
    let directory = Directory::new();
    let relay = start(&directory, &["--proxy-from", "127.0.0.1", "--debug-from", "203.0.113.0/24"]);
    assert!(say(&relay, &[header(10), b"STAT\n".to_vec()].concat()).starts_with("names "));
}
