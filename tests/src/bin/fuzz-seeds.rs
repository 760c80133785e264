//! Writes what fuzzing starts from into a folder (docs/fuzzing.md): `fuzz-seeds TARGET FOLDER`; without arguments it
//! prints the targets' names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test tool

use std::fs;
use std::path::Path;

use e2e_tests::fuzz::{TARGETS, seeds, target};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => TARGETS.iter().for_each(|target| println!("{}", target.name)),
        [name, folder] => {
            fs::create_dir_all(folder).expect("a folder can be made there");
            for (at, seed) in seeds(target(name).name).iter().enumerate() {
                fs::write(Path::new(folder).join(format!("seed-{at:03}")), seed).expect("it can be written");
            }
        }
        _ => panic!("fuzz-seeds [TARGET FOLDER]"),
    }
}
