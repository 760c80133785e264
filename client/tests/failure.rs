//! Which exit code stands for what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io;

use e2e_client::cli::failure::{Exit, Failure};
use e2e_client::engine::{End, StartError};
use e2e_client::host::{HostError, Lost};
use e2e_client::state::StateError;
use e2e_client::state::permissions::Exposure;
use e2e_protocol::ids::RelayId;
use e2e_protocol::wire::{Code, ErrorCode};

fn refused(code: impl Into<Code>) -> Failure {
    End::Refused { code: code.into(), retry_after_ms: 0, text: "the relay's words".into() }.into()
}

#[test]
fn every_code_of_the_relay_has_its_exit_code() {
    use ErrorCode as E;
    for code in ErrorCode::ALL {
        let expected = match code {
            E::LoginFailed | E::NameTaken | E::RegistrationClosed | E::BadToken => 77,
            E::Replaced => 75,
            code if code.retry() => 75,
            _ => 76,
        };
        let failure = refused(code);
        assert_eq!(failure.exit.number(), expected, "{code}");
        let error = failure.error.unwrap();
        assert!(error.contains(code.name()) && error.contains("the relay's words"), "{error}");
    }
    // Unknown ones go by their upper byte.
    assert_eq!((refused(Code(0x02FF)).exit, refused(Code(0x01FF)).exit), (Exit::TryAgain, Exit::Protocol));
}

#[test]
fn every_other_end_has_its_exit_code() {
    let pinned = RelayId([1; 32]);
    for (end, code) in [
        (End::OtherRelay { pinned, shown: RelayId([2; 32]) }, 77),
        (End::Protocol("what".into()), 76),
        (End::Silent, 69),
    ] {
        assert_eq!(Failure::from(end).exit.number(), code);
    }
    let broken = HostError::Lost(Lost::Broken(io::ErrorKind::ConnectionReset.into()));
    assert_eq!(Failure::from(broken).exit.number(), 69);
}

#[test]
fn every_failure_of_the_state_has_its_exit_code() {
    let full =
        StateError::Io { doing: "write", path: "peers/bob".into(), source: io::Error::from_raw_os_error(28) };
    let newer = StateError::Newer { path: "identity".into(), version: 2 };
    for (error, code, said) in [
        (full, 73, "cannot write peers/bob: No space left on device"),
        (StateError::Corrupt { path: "identity".into() }, 65, "identity is damaged"),
        (newer, 65, "version 2"),
        (StateError::Cost { path: "passphrase".into(), log2_n: 40 }, 65, "2^40"),
        (StateError::WrongPassphrase, 77, "the passphrase is wrong"),
        (StateError::KeysChanged, 75, "while this command was running"),
        (StateError::Busy, 75, "another e2e-client"),
    ] {
        let failure = Failure::from(error);
        assert_eq!(failure.exit.number(), code);
        assert!(failure.error.unwrap().contains(said));
    }
    assert_eq!(Failure::from(StartError::NotRegistered).exit.number(), 77);
}

#[test]
fn exposed_files_come_with_the_command_that_closes_them() {
    let failure = |path: &str, why| Failure::from(StateError::Exposed { path: path.into(), why });
    for (path, why, said, hint) in [
        (
            "/h/identity",
            Exposure::FileMode(0o644),
            "/h/identity is open to other users (mode 0644)",
            "chmod 600 /h/identity",
        ),
        ("/h/it's mine", Exposure::FolderMode(0o750), "(mode 0750)", r"chmod 700 '/h/it'\''s mine'"),
        ("/h/lock", Exposure::Owner(12_345, 0o600), "(uid 12345, mode 0600)", "as its owner"),
        ("/h/account", Exposure::Link, "/h/account is a symbolic link", "put back"),
    ] {
        let failure = failure(path, why);
        assert_eq!(failure.exit.number(), 77);
        assert!(failure.error.as_ref().unwrap().contains(said), "{failure:?}");
        assert!(failure.hint.as_ref().unwrap().contains(hint), "{failure:?}");
    }
}

#[test]
fn the_worst_counts() {
    let order = [0, 75, 69, 64, 65, 73, 76, 77];
    let all = [
        Exit::NotPermitted,
        Exit::Protocol,
        Exit::CannotWrite,
        Exit::BadData,
        Exit::Usage,
        Exit::Unreachable,
        Exit::TryAgain,
        Exit::Done,
    ];
    let mut sorted = all;
    sorted.sort();
    assert_eq!(sorted.map(Exit::number), order);
}
