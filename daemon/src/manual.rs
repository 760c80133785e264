//! What is made of the relay's tables for people: the manual pages e2e-relayd(8) and e2e-relayd.toml(5), and the
//! configuration file that the package installs.
//!
//! Owns: the three texts. The pages' prose is in the files of these names beside this one; settings, flags, limits and exit
//! codes are put in from the tables that parser and help are made of. Must not say anything of these itself.

use crate::ctl::COMMANDS;
use crate::limits::{Described, Limits};
use crate::limits_page::unit;
use crate::options::{EXIT_CODES, FLAGS};
use crate::settings::{Effect, LIMITS_AT_START, SETTINGS, Setting, Takes};

/// e2e-relayd(8), in the macros of man(7).
#[must_use]
pub fn relay() -> String {
    let settings = SETTINGS.iter().map(|setting| {
        let again = if setting.takes == Takes::Many { "; may be repeated" } else { "" };
        option(setting.short, setting.name, setting.value, &format!("{}{again}", setting.help))
    });
    let flags = FLAGS.iter().map(|flag| option(flag.short, flag.long, flag.value, flag.help));
    let exits = EXIT_CODES.iter().map(|(code, what)| entry(&bold(&code.to_string()), what));
    let commands = COMMANDS.iter().map(|(command, arguments, what)| {
        entry(&format!("{} \\fI{}\\fR", bold(command), plain(arguments)), what)
    });
    include_str!("e2e-relayd.8")
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@SETTINGS@\n", &settings.collect::<String>())
        .replace("@COMMANDS@\n", &commands.collect::<String>())
        .replace("@FLAGS@\n", &flags.collect::<String>())
        .replace("@EXITS@\n", &exits.collect::<String>())
}

/// e2e-relayd.toml(5), in the macros of man(7).
#[must_use]
pub fn configuration() -> String {
    let settings = SETTINGS.iter().map(|setting| {
        let title = format!("{} = {}", bold(setting.name), plain(&example(setting)));
        entry(&title, &format!("{}{}", setting.help, effect(setting)))
    });
    let limits = Limits::default().described();
    let limits = limits.iter().map(|limit| {
        let (name, value, _) = limit;
        entry(&format!("{} = {value}", bold(name)), &what(limit))
    });
    include_str!("e2e-relayd.toml.5")
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@SETTINGS@\n", &settings.collect::<String>())
        .replace("@LIMITS@\n", &limits.collect::<String>())
}

/// The file that the package installs: every setting and limit with its default, as comments.
#[must_use]
pub fn default_configuration() -> String {
    let mut text = String::from(
        "# Settings of e2e-relayd, each with what it is unless set. e2e-relayd.toml(5) explains the file.\n\
         # `systemctl reload e2e-relayd` after a change; `systemctl restart e2e-relayd` where it says so.\n",
    );
    for setting in SETTINGS {
        text.push_str(&comment(&format!("{}{}", setting.help, effect(setting))));
        text.push_str(&format!("#{} = {}\n", setting.name, example(setting)));
    }
    text.push_str("\n# What may be used up, and how fast.\n[limits]\n");
    for limit in &Limits::default().described() {
        text.push_str(&comment(&what(limit)));
        text.push_str(&format!("#{} = {}\n", limit.0, limit.1));
    }
    text
}

/// The setting's default as the file writes it, or what stands for a value if there is none.
fn example(setting: &Setting) -> String {
    if setting.default.is_empty() { format!("\"{}\"", setting.value) } else { setting.default.to_owned() }
}

fn effect(setting: &Setting) -> &'static str {
    match setting.effect {
        Effect::AtReload => "",
        Effect::AtStart => "; needs a restart",
    }
}

/// What happens at a limit, and what it counts.
fn what((name, _, lines): &Described) -> String {
    let sentence: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    let at_start = if LIMITS_AT_START.contains(name) { "; needs a restart" } else { "" };
    match unit(name) {
        "" => format!("{}{at_start}", sentence.join(" ")),
        unit => format!("{} ({unit}{at_start})", sentence.join(" ")),
    }
}

/// An empty line, then a text in lines of at most 100 columns, each after a number sign.
fn comment(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut lines = String::from("\n#");
    let mut column = 1;
    for word in text.split_whitespace() {
        if column + 1 + word.len() > WIDTH {
            lines.push_str("\n#");
            column = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        column += 1 + word.len();
    }
    lines.push('\n');
    lines
}

fn option(short: &str, long: &str, value: &str, help: &str) -> String {
    let short = if short.is_empty() { String::new() } else { format!("\\fB\\-{short}\\fR, ") };
    let value = if value.is_empty() { String::new() } else { format!(" \\fI{}\\fR", plain(value)) };
    entry(&format!("{short}\\fB\\-\\-{}\\fR{value}", plain(long)), help)
}

fn entry(title: &str, what: &str) -> String {
    format!(".TP\n{title}\n{}\n", plain(what))
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", plain(text))
}

/// A text in which nothing means anything to roff. No text begins with a dot.
fn plain(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('"', "\\(dq")
        .replace('~', "\\(ti")
        .replace('^', "\\(ha")
}
