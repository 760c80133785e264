//! The command itself: one line, perhaps a hint, and the right exit code. Without a relay; with one
//! see the crate `tests`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use e2e_protocol::ids::{Lane, Number, Uid};
use e2e_protocol::wire::routed::emit_routed;
use e2e_protocol::wire::{FrameType, Routing};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("e2e-command-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(home: &Scratch, arguments: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_e2e-client"))
        .args(arguments)
        .env_clear()
        .env("HOME", &home.0)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// `e2e-client decode`, with this on its standard input.
fn decode(input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_e2e-client"))
        .arg("decode")
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The frames that the specification shows, each as it is shown there.
fn shown_in_the_specification() -> Vec<String> {
    let spec = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/wire.md")).unwrap();
    let blocks = spec.split("\n\n").filter(|block| block.starts_with("    e2 52 4c 59"));
    blocks.map(|block| block.lines().map(|line| format!("{}\n", line.trim())).collect()).collect()
}

/// A port of this machine on which nobody listens: the system chose it, and it was given back.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn assert_error(outcome: &(i32, String, String), code: i32, said: &str) {
    let (found, stdout, stderr) = outcome;
    assert_eq!((*found, stdout.as_str()), (code, ""), "{stderr}");
    let mut lines = stderr.lines();
    let error = lines.next().unwrap();
    assert!(error.starts_with("e2e-client: error: ") && error.contains(said), "{stderr}");
    assert!(lines.all(|line| line.starts_with("hint: ")), "{stderr}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    let home = Scratch::new();
    for arguments in [["--help"], ["-h"]] {
        let (code, stdout, stderr) = run(&home, &arguments);
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stdout.starts_with("e2e-client: ") && stdout.ends_with('\n'));
    }
    let (code, stdout, _) = run(&home, &["-V"]);
    assert_eq!((code, stdout), (0, format!("e2e-client {}\n", env!("CARGO_PKG_VERSION"))));
    assert!(fs::read_dir(&home.0).unwrap().next().is_none(), "asking makes no files");
}

#[test]
fn wrong_usage_is_64() {
    let home = Scratch::new();
    for arguments in [&[][..], &["fly"], &["recv", "-n", "x"], &["send", "bob"], &["register", "a", "b"]] {
        assert_error(&run(&home, arguments), 64, "");
    }
}

#[test]
fn unreachable_relay_is_69() {
    let home = Scratch::new();
    let server = closed_port();
    assert_error(&run(&home, &["-s", &server, "register", "alice"]), 69, &server);
    // The keys are made, but the name is not claimed.
    assert_error(&run(&home, &["-s", &server, "recv"]), 77, "not registered");
    assert_error(&run(&home, &["-s", &server, "register", "alice"]), 69, "cannot reach");
}

#[test]
fn unregistered_home_is_77() {
    let home = Scratch::new();
    let server = closed_port();
    for arguments in [&["recv"][..], &["send", "bob", "-m", "x"], &["status"]] {
        let arguments = [&["-s", &server][..], arguments].concat();
        assert_error(&run(&home, &arguments), 77, "not registered");
    }
}

#[test]
fn damaged_state_is_65_and_left_as_it_is() {
    let home = Scratch::new();
    let server = closed_port();
    run(&home, &["-s", &server, "register", "alice"]);
    let identity = home.0.join(".local/share/e2e-client/identity");
    let good = fs::read(&identity).unwrap();
    assert_eq!(fs::metadata(&identity).unwrap().permissions().mode() & 0o777, 0o600);
    for (bad, said) in
        [(b"\x01".to_vec(), "damaged"), ([&[2], &good[1..]].concat(), "version 2"), (Vec::new(), "damaged")]
    {
        fs::write(&identity, &bad).unwrap();
        assert_error(&run(&home, &["-s", &server, "register", "alice"]), 65, said);
        assert_eq!(fs::read(&identity).unwrap(), bad);
    }
}

#[test]
fn unusable_home_is_73() {
    let home = Scratch::new();
    let file = home.0.join("file");
    fs::write(&file, b"").unwrap();
    let path = file.join("home");
    let arguments = ["-s", "localhost:1", "-H", path.to_str().unwrap(), "recv"];
    assert_error(&run(&home, &arguments), 73, "cannot use");
}

/// In a debug build the process can be killed at any step that changes the disk: the keys that a
/// registration made stay the same afterwards.
#[cfg(debug_assertions)]
#[test]
fn killed_at_each_step_of_key_making_it_goes_on() {
    let server = closed_port();
    let home = Scratch::new();
    let identity = home.0.join(".local/share/e2e-client/identity");
    let mut kept: Option<Vec<u8>> = None;
    for step in 1.. {
        let status = Command::new(env!("CARGO_BIN_EXE_e2e-client"))
            .args(["-s", &server, "register", "alice"])
            .env_clear()
            .env("HOME", &home.0)
            .env("E2E_CRASH_AT", step.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if let Ok(found) = fs::read(&identity) {
            assert_eq!(*kept.get_or_insert(found.clone()), found, "step {step}");
        }
        if status.code() == Some(69) {
            break;
        }
        assert_eq!(status.code(), None, "killed");
    }
    assert!(kept.is_some());
}

#[test]
fn decode_shows_frames_as_the_specification_does() {
    let blocks = shown_in_the_specification();
    assert_eq!(blocks.len(), 2);
    for block in &blocks {
        assert_eq!(decode(block.as_bytes()), (0, block.clone(), String::new()));
    }
    let both = blocks.join("\n");
    assert_eq!(decode(both.as_bytes()), (0, both, String::new()), "what is printed can be read again");
}

#[test]
fn decode_takes_bytes_and_files_and_explains_envelopes() {
    let home = Scratch::new();
    let mut frame = vec![0; 2_000];
    let routing = Routing { peer: Uid(1), lane: Lane(2), number: Number(3), ..Routing::default() };
    let mut envelope = vec![1, 1, 0, 0];
    envelope.resize(56 + 128 + 32, 0);
    envelope[36..40].copy_from_slice(&128_u32.to_be_bytes());
    let length = emit_routed(&mut frame, FrameType::Send, &routing, &envelope).unwrap();
    let (code, stdout, stderr) = decode(&frame[..length]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for said in [
        "# 20 peer uid\n",
        "# 36 number: 3\n",
        "# 65 type: bare\n",
        "# 100 length of data: 128\n",
        "# 248 tag\n",
    ] {
        assert!(stdout.contains(said), "{said}: {stdout}");
    }
    let file = home.0.join("frame");
    fs::write(&file, &frame[..length]).unwrap();
    assert_eq!(run(&home, &["decode", file.to_str().unwrap()]), (0, stdout, String::new()));
}

#[test]
fn decode_says_what_is_wrong_and_shows_what_was_there() {
    let hello = shown_in_the_specification().swap_remove(0);
    let broken = hello.replace("72 5e 15 81", "72 5e 15 80");
    let (code, stdout, stderr) = decode(format!("{hello}{broken}").as_bytes());
    assert_eq!((code, stderr.as_str()), (65, "e2e-client: error: frame 2, at byte 28: BAD_CRC\n"));
    assert_eq!(stdout, format!("{hello}\n{broken}"));

    let (code, stdout, stderr) = decode(b"e25 24c59 01 # begun");
    assert_eq!(
        (code, stderr.as_str()),
        (65, "e2e-client: error: frame 1, at byte 0: it ends after 5 of at least 20 bytes\n")
    );
    assert!(stdout.ends_with("#  4 version of the header\n"), "{stdout}");

    assert_error(&decode(b"47 45 54 20 2f"), 65, "BAD_MAGIC");
    assert_error(&decode(b"e2 52\nGET /"), 65, "line 2: 'G' is no hex digit");
    assert_error(&decode(b"e2 5"), 65, "one hex digit");
    assert_error(&decode(b" # nothing\n"), 65, "no bytes");
    assert_error(&run(&Scratch::new(), &["decode", "/nonexistent/frame"]), 65, "/nonexistent/frame");
    assert_error(&run(&Scratch::new(), &["decode", "a", "b"]), 64, "'b'");
}
