//! What lies in the home of `e2e-client`: under a passphrase, closed to others, and on its way to another
//! device.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e_client::engine::{Config, Engine, Event, Fate, Turn};
use e2e_client::host::{HostError, now_ms, seeded_rng};
use e2e_client::net::{Connection, Received};
use e2e_client::state::vault::Protection;
use e2e_client::state::{Home, StateError, Vault};
use e2e_protocol::e2e::at_rest::KeyParameters;
use e2e_tests::client::{Client, Ran, World, copy, files};
use e2e_tests::process::{binary, run_with_input, wait_for};

/// More steps than any conversion takes.
const STEPS_MAX: u32 = 200;

const CURRENT: &str = "E2E_PASSPHRASE_FILE";
const NEW: &str = "E2E_NEW_PASSPHRASE_FILE";
const EXPORT: &str = "E2E_EXPORT_PASSPHRASE_FILE";

/// A file with a passphrase in its first line, beside the homes.
fn passphrase(world: &World, text: &str) -> PathBuf {
    let path = world.directory.path().join(format!("passphrase-{text}"));
    fs::write(&path, format!("{text}\nanother line\n")).unwrap();
    path
}

fn ran(mut command: Command) -> Ran {
    let output = run_with_input(&mut command, Stdio::null());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn run(client: &Client, files: &[(&str, &PathBuf)], arguments: &[&str]) -> Ran {
    let mut command = client.command(arguments);
    command.envs(files.iter().copied());
    ran(command)
}

/// `status` without a relay.
fn status(home: &Path, passphrase: Option<&PathBuf>) -> Ran {
    let mut command = Command::new(binary("e2e-client"));
    command.env_clear().arg("-H").arg(home).arg("status").envs(passphrase.map(|file| (CURRENT, file)));
    ran(command)
}

fn done(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

/// Receives a message and cannot print it: it stays in the inbox.
fn receive_without_printing(client: &Client) {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = client.command(&["recv", "-t", "0"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(73), "{output:?}");
}

#[test]
fn passphrase_hides_what_is_in_the_files_and_everything_goes_on() {
    const WAITS: &str = "this waits in the outbox of alice";
    const UNSHOWN: &str = "this waits in the inbox of bob";
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    alice.send("bob", UNSHOWN);
    receive_without_printing(&bob);
    // She is told by a notice, which the relay stores in its time.
    alice.wait_for_receipts(&[]);
    alice.send("bob", WAITS);

    // What is secret in the files, by its pieces; the names as they are written: behind their length.
    let homes = [&alice, &bob];
    let mut pieces: HashSet<Vec<u8>> = HashSet::new();
    for client in homes {
        for path in files(&client.home) {
            let content = fs::read(&path).unwrap();
            pieces.extend(
                content.windows(16).filter(|piece| piece.iter().any(|byte| *byte != 0)).map(<[u8]>::to_vec),
            );
        }
    }
    let texts: [&[u8]; 4] = [WAITS.as_bytes(), UNSHOWN.as_bytes(), b"\0\0\0\x05alice", b"\0\0\0\x03bob"];
    let found = |client: &Client| {
        let contents: Vec<_> = files(&client.home).iter().map(|path| fs::read(path).unwrap()).collect();
        let has =
            |text: &[u8]| contents.iter().any(|content| content.windows(text.len()).any(|part| part == text));
        let pieces =
            contents.iter().flat_map(|content| content.windows(16)).filter(|part| pieces.contains(*part));
        (texts.map(has), pieces.count())
    };
    assert_eq!(found(&alice).0, [true, false, true, true]);
    assert_eq!(found(&bob).0, [false, true, true, true]);
    assert!(found(&bob).1 > 5_000);

    let (first, second) = (passphrase(&world, "first"), passphrase(&world, "second"));
    for client in homes {
        let set = run(client, &[(NEW, &first)], &["passphrase"]);
        done(&set);
        assert!(set.stderr.starts_with("the passphrase is set"), "{}", set.stderr);
        // Nothing that was there before.
        assert_eq!(found(client), ([false; 4], 0));
    }

    let with: &[(&str, &PathBuf)] = &[(CURRENT, &first)];
    let received = run(&bob, with, &["recv", "-t", "0"]).printed();
    assert_eq!(received, format!("alice: {UNSHOWN}\nalice: {WAITS}\n"));
    done(&run(&bob, with, &["send", "alice", "-m", "answer"]));
    assert_eq!(run(&alice, with, &["recv", "-t", "0"]).printed(), "bob: answer\n");
    let said = run(&alice, with, &["status"]).printed();
    assert!(said.contains("passphrase   set\n") && said.contains("name         alice\n"), "{said}");
    assert_eq!(found(&alice).0, [false; 4]);

    // Wrong, or none.
    run(&alice, &[(CURRENT, &second)], &["status"]).assert_error(77, "the passphrase is wrong");
    let none = alice.run(&["recv", "-t", "0"]);
    none.assert_error(77, "no passphrase of ");
    assert!(none.stderr.contains("hint: $E2E_PASSPHRASE_FILE"), "{}", none.stderr);
    let missing = world.directory.path().join("nowhere");
    run(&alice, &[(CURRENT, &missing)], &["status"]).assert_error(65, "cannot read");
    let empty = passphrase(&world, "");
    run(&alice, &[(CURRENT, &empty)], &["status"]).assert_error(65, "the passphrase is empty");
    run(&alice, &[(CURRENT, &first), (NEW, &empty)], &["passphrase"]).assert_error(65, "empty");

    // Damage is no wrong passphrase.
    let identity = alice.home.join("identity");
    let good = fs::read(&identity).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(&identity, &bad).unwrap();
    run(&alice, with, &["status"]).assert_error(65, "the state file identity is damaged");
    fs::write(&identity, &good).unwrap();

    // Changed, and removed.
    let changed = run(&alice, &[(CURRENT, &first), (NEW, &second)], &["passphrase"]);
    done(&changed);
    assert_eq!(changed.stderr, "the passphrase is changed\n");
    run(&alice, with, &["status"]).assert_error(77, "the passphrase is wrong");
    run(&alice, with, &["passphrase", "--remove"]).assert_error(77, "the passphrase is wrong");
    let removed = run(&alice, &[(CURRENT, &second)], &["passphrase", "--remove"]);
    done(&removed);
    assert!(removed.stderr.starts_with("the passphrase is removed"), "{}", removed.stderr);
    alice.run(&["passphrase", "--remove"]).assert_error(77, "this home has no passphrase");
    assert_eq!(alice.status("passphrase"), "none");
    alice.send("bob", "in the clear again");
    assert_eq!(run(&bob, with, &["recv", "-t", "0"]).printed(), "alice: in the clear again\n");
}

#[test]
fn name_can_be_registered_in_a_home_that_has_a_passphrase_already() {
    let world = World::new();
    let (first, erin) = (passphrase(&world, "first"), world.client("erin"));
    done(&run(&erin, &[(NEW, &first)], &["passphrase"]));
    done(&run(&erin, &[(CURRENT, &first)], &["register", "erin"]));
    world.client("alice").send("erin", "welcome");
    assert_eq!(run(&erin, &[(CURRENT, &first)], &["recv", "-t", "0"]).printed(), "alice: welcome\n");
}

/// Protects a home at a cost that a test can pay often.
fn protect_cheaply(home: &Path, passphrase: &str) {
    let mut rng = seeded_rng().unwrap();
    let parameters = KeyParameters { log2_n: 1, ..KeyParameters::fresh(&mut rng) };
    let protection = Protection::new(passphrase.as_bytes(), parameters, &mut rng).unwrap();
    let home = Home::open(home).unwrap();
    let mut vault = Vault::open(home, rng, || -> Result<_, StateError> { panic!("it has none") }).unwrap();
    vault.convert(Some(protection)).unwrap();
}

#[test]
fn passphrase_killed_at_any_step_leaves_one_home_and_not_half_of_another() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    // A contact, records, the inbox and the outbox.
    bob.send("alice", "to alice");
    receive_without_printing(&alice);
    alice.send("bob", "to bob");
    let (first, second) = (passphrase(&world, "first"), passphrase(&world, "second"));
    let cheap = world.home("cheap");
    copy(&alice.home, &cheap);
    protect_cheaply(&cheap, "first");

    let set: &[(&str, &PathBuf)] = &[(NEW, &first)];
    let change: &[(&str, &PathBuf)] = &[(CURRENT, &first), (NEW, &second)];
    let remove: &[(&str, &PathBuf)] = &[(CURRENT, &first)];
    // What is done to which home, with which passphrase before and after.
    for (from, environment, arguments, before, after) in [
        (&alice.home, set, &["passphrase"][..], None, Some(&first)),
        (&cheap, change, &["passphrase"], Some(&first), Some(&second)),
        (&cheap, remove, &["passphrase", "--remove"], Some(&first), None),
    ] {
        let expected = status(from, before).printed();
        let without_passphrase = |text: &str| {
            // Nor how long ago something was: time goes on.
            let lines = text.lines().filter(|line| !line.starts_with("passphrase"));
            lines.map(|line| line.split(", the oldest for").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut happened = Vec::new();
        for step in 1..=STEPS_MAX {
            let home = world.home(&format!("{arguments:?}-{}-{step}", environment.len()).replace('"', ""));
            copy(from, &home);
            let client = Client { home: home.clone(), server: alice.server.clone() };
            let mut command = client.command(arguments);
            command.envs(environment.iter().copied()).env("E2E_CRASH_AT", step.to_string());
            let killed = ran(command);
            assert!(matches!(killed.code, None | Some(0)), "{}", killed.stderr);
            // The next process finishes what had begun, whatever passphrase it is given.
            let with_new = status(&home, after);
            let is_new = with_new.code == Some(0) && home.join("passphrase").exists() == after.is_some();
            let said = if is_new { with_new.printed() } else { status(&home, before).printed() };
            assert_eq!(without_passphrase(&said), without_passphrase(&expected), "killed at step {step}");
            for path in files(&home) {
                let content = fs::read(&path).unwrap();
                let name = path.strip_prefix(&home).unwrap().to_str().unwrap();
                assert!(!name.contains("commit"), "killed at step {step}: {name}");
                if !content.is_empty() && name != "passphrase" {
                    let is_protected = KeyParameters::of(&content).is_ok();
                    let expected = if is_new { after } else { before }.is_some();
                    assert_eq!(is_protected, expected, "killed at step {step}: {name}");
                }
            }
            happened.push(is_new);
            if killed.code == Some(0) {
                break;
            }
        }
        assert!(happened.is_sorted() && !happened[0] && happened[happened.len() - 1], "{happened:?}");
        assert!(happened.len() > 15, "{} steps", happened.len());
    }
}

#[test]
fn passphrase_is_not_set_beside_a_process_that_is_at_something() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let first = passphrase(&world, "first");
    let receiving = bob.start_recv(&[]);
    alice.send("bob", "one");
    let _ = receiving.wait_for_lines(1);
    let before: Vec<_> = files(&bob.home).iter().map(|path| fs::read(path).unwrap()).collect();
    run(&bob, &[(NEW, &first)], &["passphrase"])
        .assert_error(75, "another e2e-client of this home is running");
    assert!(!bob.home.join("passphrase").exists() && !before.is_empty());
    alice.send("bob", "two");
    assert_eq!(receiving.wait_for_lines(2), ["alice: one", "alice: two"]);
    assert_eq!(receiving.stop("TERM").code, Some(0));
    done(&run(&bob, &[(NEW, &first)], &["passphrase"]));
}

#[test]
fn process_that_runs_while_a_passphrase_is_set_ends_and_loses_nothing() {
    let world = World::new();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let first = passphrase(&world, "first");
    // It has taken nothing yet.
    let receiving = bob.start_recv(&[]);
    done(&run(&bob, &[(NEW, &first)], &["passphrase"]));
    alice.send("bob", "who reads this?");
    let (_, ended) = receiving.finish();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("while this command was running\nhint: start it again"),
        "{}",
        ended.stderr
    );
    for path in files(&bob.home) {
        let content = fs::read(&path).unwrap();
        let is_marker = path.ends_with("passphrase");
        assert!(content.is_empty() || is_marker || KeyParameters::of(&content).is_ok(), "{}", path.display());
    }
    assert_eq!(run(&bob, &[(CURRENT, &first)], &["recv", "-t", "0"]).printed(), "alice: who reads this?\n");
}

#[test]
fn files_that_others_can_reach_are_refused_with_the_command_that_closes_them() {
    let world = World::new();
    let alice = world.client("alice");
    alice.send("bob", "so that there is a contact");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (path, bad, shown) in [
        ("identity", 0o644, "(mode 0644)"),
        ("prekeys", 0o660, "(mode 0660)"),
        ("peers/bob", 0o602, "(mode 0602)"),
        ("lock", 0o666, "(mode 0666)"),
        ("peers", 0o755, "(mode 0755)"),
    ] {
        let path = alice.home.join(path);
        mode(&path, bad);
        let arguments = ["send", "bob", "-m", "refused"];
        let refused =
            if path.ends_with("prekeys") { alice.run(&["recv", "-t", "0"]) } else { alice.run(&arguments) };
        refused.assert_error(77, &format!("{} is open to other users {shown}", path.display()));
        let repair = refused.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap().to_owned();
        assert!(repair.starts_with("chmod "), "{repair}");
        assert!(Command::new("sh").args(["-c", &repair]).status().unwrap().success());
        assert_eq!(alice.receive(), [] as [&str; 0]);
    }
    // The home itself is closed, as it always was.
    mode(&alice.home, 0o755);
    assert_eq!(alice.receive(), [] as [&str; 0]);
    assert_eq!(fs::metadata(&alice.home).unwrap().permissions().mode() & 0o777, 0o700);

    let (identity, elsewhere) = (alice.home.join("identity"), world.directory.path().join("elsewhere"));
    fs::rename(&identity, &elsewhere).unwrap();
    symlink(&elsewhere, &identity).unwrap();
    alice.run(&["status"]).assert_error(77, "identity is a symbolic link");
    fs::remove_file(&identity).unwrap();
    fs::rename(&elsewhere, &identity).unwrap();
    assert_eq!(alice.run(&["status"]).code, Some(0));
    // Only root can give files away.
    if chown(&identity, Some(12_345), None).is_ok() {
        alice.run(&["status"]).assert_error(77, "belongs to another user (uid 12345, mode 0600)");
    } else {
        println!("skipped: giving a file away needs root");
    }
}

/// How much later, so that a session may be started again (spec/crypto.md, "When to start a session").
const LATER_MS: u64 = 11 * 60_000;

/// A process of this home whose clock is ahead: sends what is due then, until the relay has one of it.
fn send_later(client: &Client) {
    let later_ms = || now_ms() + LATER_MS;
    let (home, mut rng) = (Home::open(&client.home).unwrap(), seeded_rng().unwrap());
    let mut turn = Turn::begin(&home, later_ms(), &mut rng).unwrap();
    let config = Config { send: true, ..Config::default() };
    let mut engine = Engine::start(config, &mut turn).unwrap_or_else(|error| panic!("{error:?}"));
    turn.commit().unwrap();
    let mut connection = Connection::open(&client.server.parse().unwrap()).unwrap();
    let mut turn = Turn::begin(&home, later_ms(), &mut rng).unwrap();
    engine.handle_connected(&mut turn);
    connection.send(&turn.commit().unwrap().bytes).unwrap();
    wait_for("the relay to have it", || {
        if let Received::Bytes = connection.receive(Duration::from_millis(20)).unwrap() {
            engine.handle_bytes(later_ms());
        }
        let mut turn = Turn::begin(&home, later_ms(), &mut rng).unwrap();
        let taken =
            connection.take_frames(|frame| engine.handle_frame(&mut turn, frame).map_err(HostError::State));
        taken.unwrap_or_else(|error| panic!("{error:?}"));
        engine.handle_time(&mut turn).unwrap();
        let output = turn.commit().unwrap();
        connection.send(&output.bytes).unwrap();
        let taken = |event: &Event| matches!(event, Event::Fate { fate: Fate::Stored | Fate::Collected, .. });
        output.events.iter().any(taken).then_some(())
    });
}

#[test]
fn exported_identity_receives_in_its_new_home_what_was_and_is_sent() {
    let world = World::new();
    let (alice, bob, carol) = (world.client("alice"), world.client("bob"), world.client("carol"));
    // A session stands, bob has something to say still, and something to read.
    alice.send("bob", "in a session");
    assert_eq!(bob.receive(), ["alice: in a session"]);
    assert_eq!(alice.receive(), [] as [&str; 0]);
    alice.send("bob", "never shown");
    receive_without_printing(&bob);
    bob.send("carol", "still on its way");

    let (secret, other) = (passphrase(&world, "secret"), passphrase(&world, "other"));
    let file = world.directory.path().join("bob.identity");
    let path = file.to_str().unwrap();
    bob.run(&["export", path]).assert_error(77, "no passphrase for the exported file");
    assert!(!file.exists());
    let exported = run(&bob, &[(EXPORT, &secret)], &["export", path]);
    done(&exported);
    assert!(
        exported.stderr.contains("in this home stay: 1 without a receipt in the outbox, 1 not shown"),
        "{}",
        exported.stderr
    );
    assert!(exported.stderr.contains("do not use this home any more"), "{}", exported.stderr);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let content = fs::read(&file).unwrap();
    let identity = fs::read(bob.home.join("identity")).unwrap();
    let pieces: HashSet<&[u8]> = identity.windows(16).collect();
    assert!(!content.windows(16).any(|piece| pieces.contains(piece)) && content.len() < 1_500);
    // Nothing is overwritten.
    run(&bob, &[(EXPORT, &secret)], &["export", path]).assert_error(73, "exists already");
    assert_eq!(fs::read(&file).unwrap(), content);

    alice.send("bob", "meanwhile");
    let new = Client { home: world.home("new"), server: bob.server.clone() };
    new.run(&["export", path]).assert_error(77, "not registered");
    run(&new, &[(EXPORT, &other)], &["import", path]).assert_error(77, "the passphrase is wrong");
    let nonsense = other.to_str().unwrap();
    run(&new, &[(EXPORT, &secret)], &["import", nonsense]).assert_error(65, "not an exported identity");
    let imported = run(&new, &[(EXPORT, &secret)], &["import", path]);
    done(&imported);
    assert!(imported.stderr.contains("imported bob, and the keys of 2 contacts\n"), "{}", imported.stderr);
    assert!(imported.stderr.contains("do not use the old home any more"), "{}", imported.stderr);
    for taken in [&new, &bob] {
        let again = run(taken, &[(EXPORT, &secret)], &["import", path]);
        again.assert_error(77, "this home has an identity already: bob");
    }
    let fingerprint = bob.status("fingerprint");
    assert_eq!(new.status("fingerprint"), fingerprint);
    assert!(exported.stderr.contains(&fingerprint) && imported.stderr.contains(&fingerprint));

    // What was sent to the old home's keys is Rejected, and new keys are published.
    let first = new.run(&["recv", "-t", "0"]);
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), ""), "{}", first.stderr);
    assert!(first.stderr.contains("a message from alice could not be opened"), "{}", first.stderr);
    carol.send("bob", "to the new home");
    let received = wait_for("the message of carol", || Some(new.receive()).filter(|lines| !lines.is_empty()));
    assert_eq!(received, ["carol: to the new home"]);
    // Alice is told, and encrypts it anew as soon as she may start a session again.
    assert_eq!(alice.receive(), [] as [&str; 0]);
    assert!(alice.status("outbox").starts_with("bob: 1 not confirmed"));
    send_later(&alice);
    assert_eq!(new.receive(), ["alice: meanwhile"]);
    assert_eq!(new.send("alice", "from the new home"), "alice: stored\n");
    assert_eq!(alice.receive(), ["bob: from the new home"]);
}

/// Answers prompts on a terminal of its own; prints what it shows.
const TERMINAL: &str = r#"
import os, pty, sys
answers = sys.argv[2].split("|")
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:2] + sys.argv[3:])
shown = b""
def more():
    global shown
    try:
        part = os.read(terminal, 4096)
    except OSError:
        part = b""
    shown += part
    return part
for answer in answers:
    start = len(shown)
    while b": " not in shown[start:] and more():
        pass
    os.write(terminal, answer.encode().decode("unicode_escape").encode())
while more():
    pass
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn passphrase_is_asked_for_on_the_terminal_and_not_shown() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3 to make a terminal with");
        return;
    }
    let world = World::new();
    let alice = world.client("alice");
    let home = alice.home.to_str().unwrap();
    let on_terminal = |answers: &str, arguments: &[&str]| {
        let mut command = Command::new("python3");
        command
            .arg("-c")
            .arg(TERMINAL)
            .arg(binary("e2e-client"))
            .arg(answers)
            .args(["-H", home])
            .args(arguments);
        let ran = ran(command);
        assert!(!ran.stdout.contains("sesame"), "{}", ran.stdout);
        assert_eq!(ran.stderr, "");
        (ran.code, ran.stdout)
    };
    let (code, said) = on_terminal("open sesame\\n|open sesame!\\n", &["passphrase"]);
    assert!(code == Some(65) && said.contains("not the same"), "{said}");
    let (code, said) = on_terminal("\\x03", &["passphrase"]);
    assert!(code == Some(77) && said.contains("no passphrase was given"), "{said}");
    assert_eq!(status(&alice.home, None).code, Some(0));
    // With a slip of the fingers, and a second start.
    let (code, said) = on_terminal("open sesamx\\x7fe\\n|nonsense\\x15open sesame\\n", &["passphrase"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = on_terminal("open sesame\\n", &["status"]);
    assert!(code == Some(0) && said.contains("passphrase   set"), "{said}");
    assert_eq!(status(&alice.home, Some(&passphrase(&world, "open sesame"))).code, Some(0));
}
