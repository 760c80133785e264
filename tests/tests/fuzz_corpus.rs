//! The fuzz targets over all that is kept: what fuzzing starts from, and what it found (docs/fuzzing.md).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::PathBuf;

use e2e_tests::fuzz::{TARGETS, seeds, target};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The kept inputs of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder().join("corpus").join(target)).into_iter().flatten().flatten();
    let mut all: Vec<_> = files
        .map(|file| (file.path().display().to_string(), fs::read(file.path()).unwrap()))
        .chain(seeds(target).into_iter().enumerate().map(|(at, seed)| (format!("seed {at}"), seed)))
        .collect();
    all.sort();
    all
}

fn holds(name: &str) {
    for (file, input) in corpus(name) {
        println!("{file}");
        (target(name).run)(&input);
    }
    // What every fuzzer tries first.
    for input in [&[][..], &[0], &[0xFF; 40], &[0; 400]] {
        (target(name).run)(input);
    }
}

#[test]
fn deframing_holds() {
    holds("deframe");
}

#[test]
fn bodies_hold() {
    holds("body");
}

#[test]
fn explanations_hold() {
    holds("explain");
}

#[test]
fn envelopes_hold() {
    holds("envelope");
}

#[test]
fn state_files_hold() {
    holds("state");
}

#[test]
fn homes_hold() {
    holds("home");
}

#[test]
fn strangers_are_held() {
    holds("strangers");
}

#[test]
fn users_are_held() {
    holds("users");
}

#[test]
fn a_client_holds() {
    holds("client");
}

#[test]
fn what_an_administrator_writes_holds() {
    holds("admin");
}

#[test]
fn copies_hold() {
    holds("copy");
}

/// The fuzzers are those of the list, and so are the folders of what is kept.
#[test]
fn every_target_has_its_fuzzer() {
    let mut names = TARGETS.map(|target| target.name);
    names.sort_unstable();
    let mut fuzzers: Vec<_> = fs::read_dir(folder().join("fuzz_targets")).unwrap().flatten().collect();
    fuzzers.sort_by_key(|file| file.file_name());
    assert_eq!(fuzzers.len(), names.len());
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for (file, name) in fuzzers.iter().zip(names) {
        assert_eq!(file.file_name().to_str(), Some(format!("{name}.rs").as_str()));
        assert!(fs::read_to_string(file.path()).unwrap().contains(&format!("\"{name}\"")));
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")));
    }
    for folder in fs::read_dir(folder().join("corpus")).into_iter().flatten().flatten() {
        assert!(names.iter().any(|name| folder.file_name() == *name), "{folder:?}");
    }
}
