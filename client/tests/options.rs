//! The command line, and that its help is complete and true.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use e2e_client::cli::failure::Exit;
use e2e_client::cli::options::{Command, Invocation, Options, PassphraseFiles, Source, Wait, help};

fn parse_with(line: &str, environment: &[(&str, &str)]) -> Result<Options, String> {
    let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let variable = |name: &str| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    match Invocation::parse(&arguments, variable) {
        Ok(Invocation::Run(options)) => Ok(options),
        Ok(Invocation::Print(text)) => panic!("prints {text}"),
        Err(failure) => {
            assert_eq!(failure.exit, Exit::Usage);
            Err(failure.error.unwrap())
        }
    }
}

fn parse(line: &str) -> Result<Options, String> {
    parse_with(line, &[("HOME", "/home/u")])
}

fn command(line: &str) -> Command {
    parse(line).unwrap().command
}

#[test]
fn takes_options_before_and_after_the_command() {
    let options = parse("-s relay:5001 -H /h -v send bob -v -m hi carol").unwrap();
    assert_eq!(options.server().unwrap().to_string(), "relay:5001");
    assert_eq!((options.home, options.verbose), (PathBuf::from("/h"), 2));
    let to = vec!["bob".parse().unwrap(), "carol".parse().unwrap()];
    assert_eq!(options.command, Command::Send { to, source: Source::Text("hi".into()), wait: Wait::Result });
    assert_eq!(command("send -m hi bob"), command("-m hi send bob"));
}

#[test]
fn takes_every_form_of_each_command() {
    assert_eq!(
        command("register alice"),
        Command::Register { name: "alice".parse().unwrap(), token: None, profile: None }
    );
    assert!(
        matches!(command("register alice --token T"), Command::Register { token: Some(token), .. } if token == "T")
    );
    assert!(matches!(command("send bob"), Command::Send { source: Source::Standard, .. }));
    assert!(
        matches!(command("send bob -f x"), Command::Send { source: Source::File(path), .. } if path.as_os_str() == "x")
    );
    assert!(matches!(command("send bob bob carol"), Command::Send { to, .. } if to.len() == 2));
    assert_eq!(command("recv"), Command::Recv { count: None, seconds: None, json: false });
    let all = Command::Recv { count: Some(3), seconds: Some(Duration::from_millis(1_500)), json: true };
    assert_eq!(command("recv -n 3 -t 1.5 --json"), all);
    assert!(matches!(command("recv -t 0"), Command::Recv { seconds: Some(Duration::ZERO), .. }));
    let patient = |line| match command(line) {
        Command::Send { wait, .. } => wait,
        other => panic!("{other:?}"),
    };
    assert_eq!(patient("send bob --wait-delivered"), Wait::Delivered(None));
    assert_eq!(patient("send bob --wait-delivered -t 2"), Wait::Delivered(Some(Duration::from_secs(2))));
    assert_eq!(command("contacts"), Command::Contacts);
    let verify =
        |code: Option<&str>| Command::Verify { name: "bob".parse().unwrap(), code: code.map(str::to_owned) };
    assert_eq!(command("verify bob"), verify(None));
    assert_eq!(command("verify bob 12345 67890"), verify(Some("12345 67890")));
    assert_eq!(command("status"), Command::Status);
    assert_eq!(command("passphrase"), Command::Passphrase { remove: false });
    assert_eq!(command("passphrase --remove"), Command::Passphrase { remove: true });
    assert_eq!(command("export f"), Command::Export { file: "f".into() });
    assert_eq!(command("import f"), Command::Import { file: "f".into() });
}

#[test]
fn finds_passphrase_files_in_the_environment() {
    let set = [
        ("E2E_PASSPHRASE_FILE", "/a"),
        ("E2E_NEW_PASSPHRASE_FILE", "/b"),
        ("E2E_EXPORT_PASSPHRASE_FILE", ""),
        ("HOME", "/h"),
    ];
    let files = parse_with("status", &set).unwrap().passphrases;
    let expected = PassphraseFiles { current: Some("/a".into()), new: Some("/b".into()), export: None };
    assert_eq!(files, expected);
}

#[test]
fn refuses_wrong_command_lines() {
    for (line, said) in [
        ("", "no command"),
        ("fly", "no command 'fly'"),
        ("register", "NAME"),
        ("register a b", "'b'"),
        ("register alice --profile heavy", "'heavy'"),
        ("register Alice", "'Alice' is not a name"),
        ("register ../x", "is not a name"),
        ("send", "at least one recipient"),
        ("send bob -m a -f b", "exclude"),
        ("send bob -t 1", "--wait-delivered"),
        ("verify", "NAME"),
        ("contacts bob", "'bob'"),
        ("send bob -n 1", "--count is an option of recv"),
        ("recv bob", "'bob'"),
        ("recv -n 0", "-n"),
        ("recv -n x", "-n"),
        ("recv -t -1", "-t"),
        ("recv -t inf", "-t"),
        ("recv -t NaN", "-t"),
        ("recv -m x", "--message is an option of send"),
        ("status --json", "--json is an option of recv"),
        ("status x", "'x'"),
        ("passphrase secret", "'secret'"),
        ("status --remove", "--remove is an option of passphrase"),
        ("export", "takes a FILE"),
        ("import a b", "'b'"),
        ("recv --bogus", "bogus"),
        ("-s", "s"),
        ("-s host:99999 status", "'host:99999'"),
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.contains(said), "{line}: {error}");
    }
}

#[test]
fn finds_home_and_relay_in_the_environment() {
    let home = |environment: &[(&str, &str)]| parse_with("status", environment).map(|options| options.home);
    let all = [("E2E_HOME", "/e"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
    assert_eq!(home(&all).unwrap(), PathBuf::from("/e"));
    assert_eq!(home(&all[1..]).unwrap(), PathBuf::from("/x/e2e-client"));
    assert_eq!(home(&all[2..]).unwrap(), PathBuf::from("/h/.local/share/e2e-client"));
    assert_eq!(
        home(&[("E2E_HOME", ""), ("HOME", "/h")]).unwrap(),
        PathBuf::from("/h/.local/share/e2e-client")
    );
    assert!(home(&[]).unwrap_err().contains("-H"));
    let relay = [("HOME", "/h"), ("E2E_SERVER", "relay:1")];
    let server = |line| parse_with(line, &relay).unwrap().server().unwrap().to_string();
    assert_eq!(server("status"), "relay:1");
    assert_eq!(server("-s other:2 status"), "other:2");
    assert_eq!(parse("status").unwrap().server().unwrap_err().exit, Exit::Usage);
}

#[test]
fn help_mentions_every_option_command_variable_and_exit_code() {
    let help = help();
    for word in [
        "-s, --server HOST:PORT",
        "-H, --home DIR",
        "-v, --verbose",
        "-V, --version",
        "-h, --help",
        "--token T",
        "--profile PROFILE",
        "-m, --message TEXT",
        "-f, --file FILE",
        "-n, --count COUNT",
        "-t, --timeout SECONDS",
        "--json",
        "register NAME",
        "send TO...",
        "recv",
        "--wait-delivered",
        "contacts",
        "verify NAME [NUMBER]",
        "status",
        "passphrase",
        "--remove",
        "export FILE",
        "import FILE",
        "$E2E_PASSPHRASE_FILE",
        "$E2E_NEW_PASSPHRASE_FILE",
        "$E2E_EXPORT_PASSPHRASE_FILE",
        "32 MiB",
        "$E2E_SERVER",
        "$E2E_HOME",
        "$XDG_DATA_HOME",
        "$RUST_LOG",
        "64 usage",
        "65 bad",
        "69 relay",
        "73 cannot",
        "75 try",
        "76 the relay",
        "77 not",
        "12258",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert!(help.lines().all(|line| line.len() <= 110), "it fits on a screen");
}

#[test]
fn every_option_that_help_mentions_is_taken() {
    let help = help();
    let options: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert_eq!(options.len(), 16);
    for option in options {
        let arguments = ["recv".into(), OsString::from(option), "1".into()];
        if let Err(failure) = Invocation::parse(&arguments, |_| None) {
            assert!(!failure.error.unwrap().contains("Unrecognized"), "{option}");
        }
    }
}
