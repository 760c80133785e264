//! What is made of the tables for people: pages that say every flag, setting and limit, and a configuration file that is one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashSet;
use std::path::Path;

use e2e_relayd::config_file::{Said, parse};
use e2e_relayd::ctl::COMMANDS;
use e2e_relayd::limits::Limits;
use e2e_relayd::manual;
use e2e_relayd::options::{Command, EXIT_CODES, FLAGS};
use e2e_relayd::settings::{SETTINGS, Settings};

/// What a reader sees of roff's escapes.
fn read(page: &str) -> String {
    let escapes = [
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(dq", "\""),
        ("\\(ti", "~"),
    ];
    let mut text = page.to_owned();
    for (escape, seen) in escapes {
        text = text.replace(escape, seen);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_relays_page_says_every_flag_and_command_as_the_help_does() {
    let page = read(&manual::relay());
    let flags = FLAGS.iter().map(|flag| (flag.short, flag.long, flag.value, flag.help));
    let settings = SETTINGS.iter().map(|setting| (setting.short, setting.name, setting.value, setting.help));
    for (short, long, value, help) in flags.chain(settings) {
        let short = if short.is_empty() { String::new() } else { format!("-{short}, ") };
        let said = format!(".TP {short}--{long} {value} {help}");
        assert!(page.contains(&said.split_whitespace().collect::<Vec<_>>().join(" ")), "{said}");
    }
    for (command, arguments, what) in COMMANDS {
        let said = format!(".TP {command} {arguments} {what}");
        assert!(page.contains(&said.split_whitespace().collect::<Vec<_>>().join(" ")), "{said}");
    }
    for (code, what) in EXIT_CODES {
        assert!(page.contains(&format!(".TP {code} {what}")), "{code}");
    }
}

#[test]
fn the_files_page_says_every_setting_and_every_limit() {
    let page = read(&manual::configuration());
    for setting in SETTINGS {
        assert!(page.contains(&format!(".TP {} = ", setting.name)), "{}", setting.name);
        assert!(page.contains(setting.help), "{}", setting.name);
    }
    for (name, value, what) in Limits::default().described() {
        let what = what.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(&format!(".TP {name} = {value} {what}")), "{name}");
    }
}

#[test]
fn the_pages_have_their_sections_and_nothing_left_to_put_in() {
    for page in [manual::relay(), manual::configuration()] {
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO"] {
            assert!(page.contains(&format!("\n.SH {section}\n")), "{section}");
        }
        assert!(!page.contains('@'), "{page}");
    }
    for section in ["OPTIONS", "SIGNALS", "EXIT STATUS", "ENVIRONMENT"] {
        assert!(manual::relay().contains(&format!("\n.SH {section}\n")), "{section}");
    }
}

#[test]
fn the_installed_file_changes_nothing() {
    assert!(parse(&manual::default_configuration()).unwrap().is_empty());
}

#[test]
fn the_installed_file_without_its_number_signs_is_the_defaults() {
    // A setting stands right behind its number sign, an explanation behind a space.
    let uncommented: String = manual::default_configuration()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let mut settings = Settings::default();
    let mut names = HashSet::new();
    for (line, said) in parse(&uncommented).unwrap() {
        match said {
            Said::Setting(setting, values) => {
                names.insert(setting.name.to_owned());
                // Where there is no default, a word stands for a value.
                if !setting.default.is_empty() {
                    settings.set(setting, &values).unwrap_or_else(|error| panic!("{line}: {error}"));
                }
            }
            Said::Limit(name, value) => {
                settings.limits.set(&name, value).unwrap();
                names.insert(name);
            }
        }
    }
    let limits = Limits::default();
    let expected = SETTINGS.iter().map(|setting| setting.name);
    let expected = expected.chain(limits.described().into_iter().map(|(name, ..)| name));
    assert_eq!(names, expected.map(str::to_owned).collect());
    assert_eq!(settings.listen().0, Settings::default().listen().0);
    settings.listen = None;
    assert_eq!(settings, Settings::default());
}

#[test]
fn the_installed_file_is_taken() {
    let arguments = ["-c".into(), "/etc/e2e-relayd.toml".into(), "-d".into(), "/state".into()];
    let read = |path: &Path| {
        assert_eq!(path, Path::new("/etc/e2e-relayd.toml"));
        Ok(manual::default_configuration())
    };
    let Ok(Command::Run(options)) = Command::parse(&arguments, |_| None, read) else { panic!("refused") };
    assert_eq!(options.settings.limits, Limits::default());
}
