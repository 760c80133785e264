//! The manual page e2e-client(1).
//!
//! Owns: the page. Its prose is in `e2e-client.1` beside this file; commands, options and exit codes are put in from the tables that
//! parser and help are made of. Must not say anything of these itself.

use e2e_protocol::e2e::at_rest::PASSPHRASE_BYTES_MAX;
use e2e_protocol::e2e::limits::BODY_BYTES_MAX;

use super::options::{COMMANDS, EXITS, FLAGS, Flag};

/// The page, in the macros of man(7).
#[must_use]
pub fn page() -> String {
    include_str!("e2e-client.1")
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@BODY_BYTES_MAX@", &BODY_BYTES_MAX.to_string())
        .replace("@PASSPHRASE_BYTES_MAX@", &PASSPHRASE_BYTES_MAX.to_string())
        .replace("@COMMANDS@\n", &commands())
        .replace(
            "@OPTIONS@\n",
            &FLAGS.iter().filter(|flag| flag.of.is_empty()).map(option).collect::<String>(),
        )
        .replace("@EXITS@\n", &exits())
}

/// Each command, and what only it takes below it.
fn commands() -> String {
    let mut text = String::new();
    for (command, arguments, what) in COMMANDS {
        text.push_str(&entry(&format!("\\fB{}\\fR \\fI{}\\fR", plain(command), plain(arguments)), what));
        let flags: String = FLAGS.iter().filter(|flag| flag.of.contains(command)).map(option).collect();
        if !flags.is_empty() {
            text.push_str(&format!(".RS\n{flags}.RE\n"));
        }
    }
    text
}

fn option(flag: &Flag) -> String {
    let short = if flag.short.is_empty() { String::new() } else { format!("\\fB\\-{}\\fR, ", flag.short) };
    let value = if flag.value.is_empty() { String::new() } else { format!(" \\fI{}\\fR", plain(flag.value)) };
    entry(&format!("{short}\\fB\\-\\-{}\\fR{value}", plain(flag.long)), flag.help)
}

fn exits() -> String {
    EXITS.iter().map(|(exit, what)| entry(&format!("\\fB{}\\fR", exit.number()), what)).collect()
}

fn entry(title: &str, what: &str) -> String {
    format!(".TP\n{title}\n{}\n", plain(what))
}

/// A text in which nothing means anything to roff. No text begins with a dot.
fn plain(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('~', "\\(ti")
        .replace('^', "\\(ha")
}
