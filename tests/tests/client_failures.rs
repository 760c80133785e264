//! What `e2e-client` says, and with which code it ends, when something is in its way; and that nothing
//! is lost by it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use e2e_protocol::limits::HEADER_BYTES;
use e2e_tests::client::{Client, Ran, World, copy, files};
use e2e_tests::process::{Relay, binary, private_mounts, run};

/// An address where nobody listens: the system chose it, and it was given back.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn assert_hint(ran: &Ran, words: &str) {
    let hint = ran.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
    assert!(hint.is_some_and(|hint| hint.contains(words)), "'{words}' is not hinted at in: {}", ran.stderr);
}

#[test]
fn says_what_is_wrong_with_a_command_line() {
    let world = World::new();
    let alice = world.client("alice");
    for (arguments, words) in [
        (&[][..], "no command"),
        (&["fly"], "fly"),
        (&["--nonsense", "status"], "nonsense"),
        (&["register"], "NAME"),
        (&["register", "two", "names"], "names"),
        (&["register", "Not-a-name"], "name"),
        (&["register", "-n", "3", "x"], "-count"),
        (&["send"], "recipient"),
        (&["send", "Not a name", "-m", "x"], "name"),
        (&["send", "bob", "-m", "x", "-f", "y"], "-m and -f"),
        (&["recv", "bob"], "bob"),
        (&["recv", "-n", "0"], "-n"),
        (&["recv", "-t", "soon"], "-t"),
        (&["recv", "-t", "-1"], "-t"),
        (&["status", "-m", "x"], "--message"),
        (&["status", "now"], "now"),
    ] {
        let ran = alice.run(arguments);
        ran.assert_error(64, words);
        assert_hint(&ran, "--help");
    }
    // Nobody said where the relay is, or it can't be meant.
    let mut command = Command::new(binary("e2e-client"));
    let output = run(command.env_clear().arg("-H").arg(&alice.home).args(["recv", "-t", "0"]));
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("E2E_SERVER"));
    // And without any home.
    let output = run(Command::new(binary("e2e-client")).env_clear().args(["-s", "localhost", "status"]));
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn says_that_the_relay_cannot_be_reached_and_keeps_nothing_back() {
    let world = World::new();
    let alice = world.client_at("alice", closed_port());
    for arguments in
        [&["send", "bob", "-m", "x"][..], &["recv", "-t", "0"], &["status"], &["register", "alice"]]
    {
        let ran = alice.run(arguments);
        if arguments[0] == "status" {
            // What the home knows is told all the same.
            assert_eq!(ran.code, Some(69));
            assert!(ran.stdout.contains("fingerprint"), "{}", ran.stdout);
            continue;
        }
        ran.assert_error(69, &alice.server);
        assert_hint(&ran, "-s HOST:PORT");
    }
    // A failed send is no sent message: the user was told.
    assert_eq!(world.client("alice").receive(), [] as [&str; 0]);
    assert_eq!(world.client("bob").receive(), [] as [&str; 0]);
    for server in ["no-such-host.invalid:5001", "127.0.0.1:notaport", "[::1"] {
        let nowhere = Client { server: server.to_owned(), ..world.client("alice") };
        let ran = nowhere.run(&["recv", "-t", "0"]);
        assert!(matches!(ran.code, Some(64 | 69)), "{server}: {:?} {}", ran.code, ran.stderr);
        assert!(ran.stderr.lines().count() <= 2, "{}", ran.stderr);
    }
}

#[test]
fn says_that_a_name_is_not_registered_taken_or_unknown() {
    let world = World::new();
    let fresh = world.client("fresh");
    for arguments in [&["send", "bob", "-m", "x"][..], &["recv", "-t", "0"], &["status"]] {
        let ran = fresh.run(arguments);
        ran.assert_error(77, "not registered");
        assert_hint(&ran, "register");
    }
    let ran = fresh.run(&["register", "bob"]);
    ran.assert_error(77, "NAME_TAKEN");
    assert_hint(&ran, "another name");
    // It may try another name with the keys that it made.
    fresh.run(&["register", "fresh"]).printed();
    // A home whose name this relay gave to another key.
    let ran = world.client("thief").run(&["recv", "-t", "0"]);
    ran.assert_error(77, "LOGIN_FAILED");
    assert_hint(&ran, "-s and -H");
    // Oneself.
    world.client("alice").run(&["send", "alice", "-m", "x"]).assert_error(65, "oneself");
}

#[test]
fn says_that_registration_needs_a_token_or_is_closed() {
    let mut world = World::new();
    let tokens = world.directory.path().join("tokens");
    fs::write(&tokens, "open sesame\n").unwrap();
    let flags = ["--registration", "token", "--token-file", tokens.to_str().unwrap()];
    assert_eq!(world.relay.stop("TERM"), Some(0));
    world.relay = Relay::start(&world.state(), &flags);
    let fresh = world.client("fresh");
    for arguments in [&["register", "fresh"][..], &["register", "fresh", "--token", "wrong"]] {
        let ran = fresh.run(arguments);
        ran.assert_error(77, "BAD_TOKEN");
        assert_hint(&ran, "--token");
    }
    fresh.run(&["register", "fresh", "--token", "open sesame"]).printed();
    assert_eq!(world.relay.stop("TERM"), Some(0));
    world.relay = Relay::start(&world.state(), &["--registration", "closed"]);
    let ran = world.client("late").run(&["register", "late"]);
    ran.assert_error(77, "REGISTRATION_CLOSED");
    assert_hint(&ran, "runs the relay");
    // Who has a name is not concerned.
    assert_eq!(world.client("fresh").receive(), [] as [&str; 0]);
}

#[test]
fn refuses_another_relay_than_its_own() {
    let world = World::new();
    let other_state = world.directory.path().join("other");
    let other = Relay::start(&other_state, &[]);
    let alice = world.client_at("alice", other.address());
    for arguments in [&["send", "bob", "-m", "x"][..], &["recv", "-t", "0"], &["register", "alice"]] {
        let ran = alice.run(arguments);
        ran.assert_error(77, "another relay");
        assert_hint(&ran, "-s");
    }
    assert_eq!(world.client("alice").run(&["status"]).code, Some(0));
}

#[test]
fn refuses_what_does_not_speak_the_protocol() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers: [&[u8]; 3] = [b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xE2, 0x52, 0x4C, 0x59, 9], b""];
    let server = thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; HEADER_BYTES + 8]).unwrap(); // HELLO
            stream.write_all(answer).unwrap();
        }
    });
    let alice = world.client_at("alice", address);
    alice.run(&["recv", "-t", "0"]).assert_error(76, "not a frame");
    alice.run(&["send", "bob", "-m", "x"]).assert_error(76, "not a frame");
    alice.run(&["recv", "-t", "0"]).assert_error(69, "closed the connection");
    server.join().unwrap();
}

/// The name `bob` belongs to another key than the one that alice pinned: a relay whose state was put
/// back, or one that lies.
#[test]
fn does_not_write_to_a_changed_key_nor_believe_one() {
    let mut world = World::new();
    world.client("alice").send("bob", "to the real one");
    assert_eq!(world.client("bob").receive(), ["alice: to the real one"]);
    assert_eq!(world.client("alice").receive(), [] as [&str; 0]);
    assert_eq!(world.relay.stop("TERM"), Some(0));
    let thieves = World::before_bob();
    // The same relay id, another bob.
    let alice = world.client_at("alice", thieves.relay.address());
    let ran = alice.run(&["send", "bob", "-m", "a secret"]);
    assert_eq!(ran.code, Some(77), "{}", ran.stderr);
    let line = ran.stderr.lines().next().unwrap();
    assert!(line.starts_with("bob: ") && line.contains(": the key changed from "), "{line}");
    let thief = thieves.client("thief");
    assert_eq!(thief.receive(), [] as [&str; 0], "nothing reached the other key");
    // The other way: not shown, and said.
    assert_eq!(thief.run(&["send", "alice", "-m", "it is me, bob"]).code, Some(0));
    let ran = alice.run(&["recv", "-t", "0"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    assert!(ran.stderr.contains("e2e-client: warning: a message from bob is refused: the key changed from "));
    assert!(!ran.stderr.contains("it is me"));
    // With the real bob back, all is as before.
    world.relay = Relay::start(&world.state(), &[]);
    world.client("alice").send("bob", "the real one again");
    assert_eq!(world.client("bob").receive(), ["alice: the real one again"]);
}

#[test]
fn says_which_file_is_damaged_and_loses_nothing() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    // State with something of everything: pinned both ways, a message on its way, one that waits.
    bob.send("alice", "first");
    assert_eq!(alice.receive(), ["bob: first"]);
    alice.send("bob", "on its way");
    bob.send("alice", "waits");
    let backup = world.directory.path().join("backup");
    copy(&alice.home, &backup);
    let mut noticed = 0;
    for file in files(&backup).iter().filter(|file| fs::metadata(file).unwrap().len() > 0) {
        let name = file.strip_prefix(&backup).unwrap();
        let target = alice.home.join(name);
        let good = fs::read(file).unwrap();
        for damaged in
            [Vec::new(), good[..good.len() / 2].to_vec(), vec![0xFF; good.len()], [&good[..], b"x"].concat()]
        {
            fs::write(&target, &damaged).unwrap();
            // Not one command may be hurt by it that doesn't need the file, so both outcomes are fine; lost is nothing.
            let ran = alice.run(&["send", "bob", "-m", "x"]);
            match ran.code {
                Some(65) => {
                    ran.assert_error(65, name.to_str().unwrap());
                    assert_hint(&ran, "left as it is");
                    assert_eq!(fs::read(&target).unwrap(), damaged, "{} was changed", name.display());
                    noticed += 1;
                }
                Some(0 | 75) => {}
                code => panic!("{}: {code:?}: {}", name.display(), ran.stderr),
            }
            fs::remove_dir_all(&alice.home).unwrap();
            copy(&backup, &alice.home);
        }
    }
    assert!(noticed >= 4 * 4, "{noticed} cases: identity, account, prekeys and peer are always read");
    assert_eq!(alice.receive(), ["bob: waits"]);
    assert!(bob.receive().contains(&"alice: on its way".to_owned()));
}

#[test]
fn says_that_its_home_cannot_be_used() {
    let world = World::new();
    let file = world.directory.path().join("file");
    fs::write(&file, "in the way").unwrap();
    for home in [file.clone(), file.join("below"), Path::new("/proc/home").to_owned()] {
        let client = Client { home: home.clone(), ..world.client("alice") };
        for arguments in [&["register", "x"][..], &["send", "bob", "-m", "x"], &["recv"], &["status"]] {
            client.run(arguments).assert_error(73, home.to_str().unwrap());
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn does_not_acknowledge_what_a_full_disk_cannot_keep() {
    if !private_mounts() {
        println!("skipped: mounting a tmpfs in a private mount namespace needs root and unshare");
        return;
    }
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let long = "z".repeat(12_000);
    alice.send("bob", &long);
    let mount = world.directory.path().join("disk");
    fs::create_dir(&mount).unwrap();
    // One namespace for all of it: the small disk lives as long as the script.
    let script = r#"
        mount -t tmpfs -o size=256k tmpfs "$MOUNT" && cp -r "$HOME_TO_COPY" "$MOUNT/home" || exit 99
        cat /dev/zero > "$MOUNT/ballast" 2>/dev/null
        "$CLIENT" -s "$SERVER" -H "$MOUNT/home" recv -t 0 > "$OUT/full.out" 2> "$OUT/full.err"
        echo $? > "$OUT/full.code"
        "$CLIENT" -s "$SERVER" -H "$MOUNT/home" send alice -m "from a full disk" > "$OUT/send.out" 2> "$OUT/send.err"
        echo $? > "$OUT/send.code"
        "$CLIENT" -s "$SERVER" -H "$MOUNT/new" register new > "$OUT/new.out" 2> "$OUT/new.err"
        echo $? > "$OUT/new.code"
        rm "$MOUNT/ballast"
        "$CLIENT" -s "$SERVER" -H "$MOUNT/home" recv -t 0 > "$OUT/free.out" 2> "$OUT/free.err"
        echo $? > "$OUT/free.code"
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]);
    command.env("MOUNT", &mount).env("OUT", world.directory.path()).env("HOME_TO_COPY", &bob.home);
    command.env("CLIENT", binary("e2e-client")).env("SERVER", &bob.server);
    let output = run(&mut command);
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| {
        let text =
            |suffix| fs::read_to_string(world.directory.path().join(format!("{name}.{suffix}"))).unwrap();
        Ran { code: text("code").trim().parse().ok(), stdout: text("out"), stderr: text("err") }
    };
    for name in ["full", "send", "new"] {
        read(name).assert_error(73, "No space");
    }
    assert_eq!(read("free").printed(), format!("alice: {long}\n"));
    // The message that could not be kept was not sent.
    assert_eq!(alice.receive(), [] as [&str; 0]);
}

#[test]
fn says_that_standard_output_is_gone_and_shows_the_message_next_time() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    alice.send("bob", "to nobody's eyes");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bob.command(&["recv", "-t", "0"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(73), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("e2e-client: error: cannot write to standard output"), "{said}");
    assert!(!said.contains("panicked"));
    assert_eq!(bob.receive(), ["alice: to nobody's eyes"]);
    // /dev/full is a full disk behind the output.
    alice.send("bob", "again");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = bob.command(&["recv", "-t", "0"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(73));
    assert_eq!(bob.receive(), ["alice: again"]);
    // Help to nobody is no failure.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bob.command(&["--help"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
