//! The configuration file of the real relay: what it takes, what it refuses, and what of it takes effect while it runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e_protocol::wire::session::{Purpose, Receive, Registration};
use e2e_tests::process::{Directory, Relay, binary, run, send_signal, wait_for};
use e2e_tests::raw::Raw;

/// A file in a test's directory.
fn write(directory: &Directory, text: &str) -> PathBuf {
    let path = directory.path().join("relay.toml");
    fs::write(&path, text).unwrap();
    path
}

fn check(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("e2e-relayd"));
    run(command.arg("-c").arg(config).arg("--check-config").args(arguments).env_clear())
}

#[test]
fn takes_every_setting_and_every_limit() {
    let directory = Directory::new();
    let tokens = directory.path().join("tokens");
    fs::write(&tokens, "one\ntwo\n").unwrap();
    let page = String::from_utf8(run(Command::new(binary("e2e-relayd")).arg("--limits")).stdout).unwrap();
    let limits: Vec<_> = page
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|words| format!("{} = {}\n", words.first().unwrap(), words.get(1).unwrap()))
        .collect();
    assert!(limits.len() > 50, "{limits:?}");
    let text = format!(
        "listen = [\"127.0.0.1:0\", \"[::1]:0\"]\nstate-directory = \"/somewhere\"\nregistration = \"token\"\n\
         token-file = \"{}\"\npresence = \"private\"\nproxy-from = [\"192.0.2.1\", \"2001:db8::/32\"]\n\
         debug-from = \"192.0.2.2\"\nready-file = \"/somewhere/ready\"\nlog = \"warn\"\nhide-names = true\n[limits]\n{}",
        tokens.display(),
        limits.concat()
    );
    let config = write(&directory, &text);
    let output = check(&config, &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}: in order\n", config.display()));
}

#[test]
fn refuses_a_mistake_with_file_line_and_reason() {
    let directory = Directory::new();
    for (text, line, reason) in [
        ("# a comment\nnothing = 1", 2, "there is no setting 'nothing'"),
        ("presence = \"hidden\"", 1, "presence: public or private, not 'hidden'"),
        ("registration = \"yes\"", 1, "registration: open, token or closed, not 'yes'"),
        ("log = \"loud\"", 1, "log: error, warn, info, debug or trace, not 'loud'"),
        ("log = 3", 1, "log: a text in quotation marks is needed"),
        ("hide-names = \"yes\"", 1, "hide-names: true or false is needed"),
        ("listen = []", 1, "listen: at least one address is needed"),
        ("listen = 5001", 1, "listen: a list of texts is needed"),
        ("listen = [\"127.0.0.1:port\"]", 1, "listen: '127.0.0.1:port':"),
        ("proxy-from = [\"192.0.2.0/33\"]", 1, "proxy-from: '33' is no prefix of 32 bits"),
        ("token-file = \"/tokens\"", 1, "token-file: it is for registration token only"),
        ("state-directory = \"\"", 1, "state-directory: it is empty"),
        ("limits = 5", 1, "limits: a table, [limits]"),
        ("\n\n[limits]\nnames_max = 0", 4, "names_max is from 1 to"),
        ("[limits]\nnames_max = -1", 2, "names_max: a number from 1 on is needed, not -1"),
        ("[limits]\nnames_max = \"many\"", 2, "names_max: a number is needed"),
        ("[limits]\nnames_max = 9_000_000_000_000", 2, "names_max is from 1 to 1099511627776"),
        ("[limits]\nconnections_per_name_max = 300", 2, "connections_per_name_max can't be 300"),
        ("[limits]\nnothing_max = 1", 2, "there is no limit nothing_max"),
        ("[limits]\nmailbox_bytes_max = 1000", 2, "mailbox_bytes_max: 1000 is less than the largest frame"),
        (
            "[limits]\nappend_bytes_max = 100_000_000",
            2,
            "append_bytes_max: 100000000 is more than one commit",
        ),
        ("log = \"info\"\nlog = \"warn\"", 2, "duplicate key"),
        ("log = ", 1, ""),
        ("[logging]\nlevel = 1", 1, "there is no setting 'logging'"),
    ] {
        let config = write(&directory, text);
        let output = check(&config, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{text}: {said}");
        let expected = format!("e2e-relayd: error: {}:{line}: {reason}", config.display());
        assert!(said.starts_with(&expected), "{text}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let config = write(&directory, &"# nothing\n".repeat(200_000));
    let output = check(&config, &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("it has more than 1048576 bytes"));
    let missing = directory.path().join("missing");
    let output = check(&missing, &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("missing: No such file"));
}

#[test]
fn lets_flags_win_over_the_file() {
    let directory = Directory::new();
    let config =
        write(&directory, "presence = \"private\"\nregistration = \"closed\"\n[limits]\nnames_max = 7\n");
    let config = config.to_str().unwrap();
    let limits = |arguments: &[&str]| {
        let mut command = Command::new(binary("e2e-relayd"));
        let page = String::from_utf8(run(command.args(arguments).arg("--limits")).stdout).unwrap();
        let line = page.lines().find(|line| line.trim_start().starts_with("names_max ")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(limits(&["-c", config]), "7");
    assert_eq!(limits(&["-c", config, "--limit", "names_max=9"]), "9");
    let state = directory.path().join("state");
    let relay = Relay::start(&state, &["-c", config, "--registration", "open"]);
    let mut raw = Raw::connect(relay.address());
    assert_eq!(raw.hello(Purpose::Register).unwrap().registration, Registration::Open);
}

#[test]
fn reloads_without_dropping_a_connection_and_a_bad_file_changes_nothing() {
    let directory = Directory::new();
    let config = write(&directory, "registration = \"open\"\n");
    let state = directory.path().join("state");
    let relay = Relay::start(&state, &["-c", config.to_str().unwrap()]);
    let registration = || {
        let mut raw = Raw::connect(relay.address());
        raw.hello(Purpose::Login).unwrap().registration
    };
    let reload = |text: &str, said: &str, count: usize| {
        fs::write(&config, text).unwrap();
        send_signal(relay.id(), "HUP");
        wait_for("the configuration to be read", || {
            (relay.log().matches(said).count() == count).then_some(())
        });
    };
    let (mut alice, _) = Raw::login(relay.address(), "alice", Purpose::Register, Receive::No);
    reload("registration = \"closed\"\nstate-directory = \"/x\"\n", "the configuration was read again", 1);
    assert_eq!(registration(), Registration::Closed);
    assert!(!relay.log().contains("state-directory has changed"), "a flag wins over it");
    reload("registration = \"open\"\npresence = 5\n", "the configuration stays as it was", 1);
    assert!(
        relay.log().contains("relay.toml:2: presence: a text in quotation marks is needed"),
        "{}",
        relay.log()
    );
    assert_eq!(registration(), Registration::Closed);
    reload(
        "[limits]\nconnections_per_name_max = 1\nreplay_bytes = 20000\n",
        "the configuration was read again",
        2,
    );
    assert!(relay.log().contains("replay_bytes has changed: that takes effect at the next start"));
    assert_eq!(registration(), Registration::Open);
    // A second connection of alice's is over the new limit; the first one goes on.
    assert!(Raw::try_login(relay.address(), "alice", Purpose::Login, Receive::No).is_none());
    alice.ping();
}

#[test]
fn changes_where_it_listens_while_it_runs() {
    let directory = Directory::new();
    let config = write(&directory, "");
    // No -l: where it listens is the file's to say.
    fs::write(&config, "listen = [\"127.0.0.1:0\"]\n").unwrap();
    let state = directory.path().join("state");
    let mut command = Command::new(binary("e2e-relayd"));
    let log_path = directory.path().join("log");
    command.arg("-c").arg(&config).arg("-d").arg(&state).stderr(fs::File::create(&log_path).unwrap());
    let mut child = command.spawn().unwrap();
    let log = || fs::read_to_string(&log_path).unwrap();
    let addresses = |after: &str| -> Vec<SocketAddr> {
        wait_for("the relay to listen", || {
            let log = log();
            let line = log.lines().rfind(|line| line.contains(after))?.to_owned();
            let listed = line.split_once(after)?.1.split(": ").next()?.to_owned();
            listed.split(' ').map(|address| address.parse().ok()).collect()
        })
    };
    let first = addresses(concat!("e2e-relayd ", env!("CARGO_PKG_VERSION"), " on "));
    let first = *first.first().unwrap();
    let (mut alice, _) = Raw::login(first, "alice", Purpose::Register, Receive::No);
    fs::write(&config, "listen = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\n").unwrap();
    send_signal(child.id(), "HUP");
    let both = addresses("listening on ");
    assert_eq!((both.len(), both.first()), (2, Some(&first)), "the first one stays as it is");
    let (mut bob, _) = Raw::login(*both.get(1).unwrap(), "bob", Purpose::Register, Receive::No);
    // An address that nobody here has: nothing changes.
    fs::write(&config, "listen = [\"192.0.2.1:0\"]\n").unwrap();
    send_signal(child.id(), "HUP");
    wait_for("the refusal", || log().contains("cannot listen on 192.0.2.1:0").then_some(()));
    Raw::connect(first).hello(Purpose::Login).unwrap();
    // Nor does where it listens if the metrics can't be served: it is all or nothing.
    fs::write(&config, "listen = [\"127.0.0.3:0\"]\nmetrics = [\"192.0.2.1:0\"]\n").unwrap();
    send_signal(child.id(), "HUP");
    wait_for("the refusal", || log().contains("metrics: cannot listen on 192.0.2.1:0").then_some(()));
    Raw::connect(first).hello(Purpose::Login).unwrap();
    assert!(!log().contains("127.0.0.3:"), "{}", log());
    // The second one goes: who came through it stays.
    fs::write(&config, "listen = [\"127.0.0.1:0\"]\n").unwrap();
    send_signal(child.id(), "HUP");
    wait_for("the second address to go", || std::net::TcpStream::connect(*both.get(1).unwrap()).err());
    alice.ping();
    bob.ping();
    send_signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
}
