//! The manual pages are good ones, as far as programs can say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::PathBuf;
use std::process::Command;

use e2e_tests::process::{Directory, run};

/// The pages, in a folder of their own.
fn pages(directory: &Directory) -> Vec<PathBuf> {
    let written = run(Command::new(env!("CARGO_BIN_EXE_manuals")).arg(directory.path()));
    assert!(written.status.success());
    let pages = ["e2e-client.1", "e2e-relayd.8", "e2e-relayd.toml.5"].map(|page| directory.path().join(page));
    assert!(pages.iter().all(|page| page.is_file()));
    pages.into()
}

/// Has a program look at each page; what it says on either channel is a complaint.
fn has_no_complaint(program: &str, arguments: &[&str]) {
    if Command::new(program).arg("-h").output().is_err() {
        println!("skipped: there is no {program}");
        return;
    }
    let directory = Directory::new();
    for page in pages(&directory) {
        let looked = run(Command::new(program).args(arguments).arg(&page));
        let said =
            format!("{}{}", String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
        assert!(looked.status.success() && said.is_empty(), "{}: {said}", page.display());
    }
}

#[test]
fn groff_has_nothing_to_warn_of() {
    // -z: no page, only what is wrong with it.
    has_no_complaint("groff", &["-z", "-ww", "-man", "-Tutf8"]);
}

#[test]
fn mandoc_has_nothing_to_warn_of() {
    has_no_complaint("mandoc", &["-Tlint", "-Wwarning"]);
}
