//! The manual page: it says what the help says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use e2e_client::cli::{manual, options};

/// What a reader sees of roff's escapes.
fn read(page: &str) -> String {
    let mut text = page.to_owned();
    for (escape, seen) in [
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(ti", "~"),
        ("\\(ha", "^"),
        ("\\e", "\\"),
    ] {
        text = text.replace(escape, seen);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn says_every_command_option_and_exit_code_as_the_help_does() {
    let page = read(&manual::page());
    let help = options::help();
    // An entry begins where something is typed; what it does goes on in lines that are empty up to there.
    let mut entries: Vec<String> = Vec::new();
    for line in help.lines() {
        if let Some(more) = line.strip_prefix(&" ".repeat(34)) {
            entries.last_mut().unwrap().push_str(&format!(" {more}"));
        } else if line.starts_with("  ") {
            entries.push(line.to_owned());
        }
    }
    assert!(entries.len() > 35, "{}", entries.len());
    for entry in entries {
        let entry = entry.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(&entry), "{entry}");
    }
    for variable in help.split(|c: char| !(c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())) {
        if variable.starts_with("E2E_") {
            assert!(page.contains(variable), "{variable}");
        }
    }
}

#[test]
fn has_its_sections_and_nothing_left_to_put_in() {
    let page = manual::page();
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "EXIT STATUS",
        "SIGNALS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
    ] {
        assert!(page.contains(&format!("\n.SH {section}\n")), "{section}");
    }
    assert!(!page.contains('@'), "{page}");
}
